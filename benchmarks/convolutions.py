"""Seconds an epoch of convolutional networks: ours, PyTorch's eager loop and ``model.fit``; and the products alone.

    python benchmarks/convolutions.py [ours] [pytorch] [fit] [--images 6400] [--repeats 3] [--only TEXT] [--quick]

Ours and PyTorch are held to one core and one thread each, and take turns; tensors are in memory, PyTorch's channels last, with the
same shifts. ``fit`` sets two trainings of ours at a time, a core each, against two by ``model.fit``, one after the other with both
cores. The limit is what the networks' multiply-adds, forward and both gradients, would take at the rate of NumPy's product of two
1,024 x 1,024 matrices on one core, by its native kernel, whose name is printed.
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
import subprocess
import sys
import time
from multiprocessing import get_context
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # else `import search` would find benchmarks/search.py

from benchmarks.figures import figure, heading, made_with
from benchmarks.peers import convolutions as peers

CORES = sorted(os.sched_getaffinity(0))
SIDES = {"ours": peers.ours, "ours again": peers.ours, "pytorch": peers.pytorch, "fit": peers.model_fit}


class Side:
    """A library's process on its own cores."""

    def __init__(self, name: str, cores: list[int], images: int) -> None:
        context = get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, name, cores, images), daemon=True)
        self._process.start()

    def prepare(self, network: peers.Network) -> None:
        """Makes the network and trains an epoch of it, which compiles."""
        self._pipe.send(network)
        self._pipe.recv()

    def begin(self) -> None:
        self._pipe.send(None)

    def seconds(self) -> float:
        """Of the epoch that :meth:`begin` began."""
        seconds: float = self._pipe.recv()
        return seconds


def _serve(pipe: Any, name: str, cores: list[int], images: int) -> None:
    os.sched_setaffinity(0, set(cores))
    os.environ |= {"OMP_NUM_THREADS": str(len(cores)), "TF_CPP_MIN_LOG_LEVEL": "3", "TF_ENABLE_ONEDNN_OPTS": "1"}
    from search.lab import data

    train = data.training_examples(data.load(), data.TASKS["digits"])
    x, y = train.x[:images], train.y[:images]
    epoch = None
    while True:
        try:
            network = pipe.recv()
        except EOFError:  # the benchmark has ended
            return
        if network is not None:
            epoch = SIDES[name](network, x, y)
        began = time.perf_counter()
        assert epoch is not None
        epoch()
        pipe.send(time.perf_counter() - began)


PRODUCT = """
import os, sys, time
os.sched_setaffinity(0, {int(sys.argv[1])})
import numpy as np, threadpoolctl
a = np.random.default_rng(0).random((1024, 1024), np.float32)
a @ a
times = []
for _ in range(20):
    began = time.perf_counter()
    a @ a
    times.append(time.perf_counter() - began)
print(2 * 1024**3 / sorted(times)[10] / 1e9, threadpoolctl.threadpool_info()[0]["architecture"])
"""


def native_gflops() -> tuple[float, str]:
    """NumPy's rate on one core, in a process of its own that leaves OpenBLAS its choice, and the kernel that it chose."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("OPENBLAS_")}
    environment["OPENBLAS_NUM_THREADS"] = "1"
    rate, kernel = subprocess.run(
        [sys.executable, "-c", PRODUCT, str(CORES[-1])], env=environment, check=True, capture_output=True, text=True
    ).stdout.split()
    return float(rate), kernel


def limit(network: peers.Network, images: int, rate: float) -> float:
    """Seconds of the products alone: multiply-adds of every layer, the first without its input's gradient."""
    adds = []
    for layer in peers.keras_model(network).layers:
        if layer.__class__.__name__ in ("Conv2D", "Dense"):
            places = math.prod(layer.output.shape[1:-1])
            adds.append(places * math.prod(layer.kernel.shape))
    return 2 * images * (3 * sum(adds) - adds[0]) / (rate * 1e9)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", metavar="WHAT", help="some of ours, pytorch, fit; all by default")
    parser.add_argument("--images", type=int, default=6400)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", default="", help="networks whose name holds it")
    parser.add_argument("--quick", action="store_true", help="256 images, one repeat, two networks")
    flags = parser.parse_args()
    images, repeats = (256, 1) if flags.quick else (flags.images, flags.repeats)
    networks = [network for network in peers.NETWORKS if flags.only in network.name][: 2 if flags.quick else None]
    what = flags.what or ["ours", "pytorch", "fit"]
    rate, kernel = native_gflops()  # before the sides start, which takes the cores
    print(f"NumPy, {kernel}, one core: {rate:.0f} GFLOPS")
    one = [CORES[-1]]
    sides = {name: Side(name, CORES if name == "fit" else one, images) for name in what}
    if "fit" in what and "ours" in what:
        sides["ours again"] = Side("ours again", CORES[:1], images)
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    heading()
    ratios: dict[str, list[float]] = {}
    for network in networks:
        seconds = measured(sides, network, repeats)
        for name, values in seconds.items():
            figure(f"{network.name}: {name}", values, "s")
        medians = {name: statistics.median(values) for name, values in seconds.items()}
        for name, against in (("pytorch", "ours"), ("fit, two", "ours, two at a time")):
            if name in medians and against in medians:
                ratios.setdefault(f"{name} / {against}", []).append(medians[name] / medians[against])
        if "ours" in medians:
            ratios.setdefault("the products' limit / ours", []).append(limit(network, images, rate) / medians["ours"])
    for name, values in ratios.items():
        figure(name, values, "times")
        print("    " + ", ".join(f"{value:.2f}" for value in values))
    made_with(repeats, *(["torch"] if "pytorch" in what else []))


def measured(sides: dict[str, Side], network: peers.Network, repeats: int) -> dict[str, list[float]]:
    """Seconds of an epoch, a list a side; and of two trainings."""
    for side in sides.values():
        side.prepare(network)
    seconds: dict[str, list[float]] = {}
    for _ in range(repeats):
        for name in (name for name in ("ours", "pytorch", "fit") if name in sides):
            sides[name].begin()
            seconds.setdefault(name, []).append(sides[name].seconds())
        if "ours again" in sides:
            pair = (sides["ours"], sides["ours again"])
            for side in pair:
                side.begin()
            seconds.setdefault("ours, two at a time", []).append(max([side.seconds() for side in pair]))
            sides["fit"].begin()
            first = sides["fit"].seconds()
            seconds.setdefault("fit, two", []).append(first + seconds["fit"][-1])
    return seconds


if __name__ == "__main__":
    main()
