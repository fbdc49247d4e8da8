"""Seconds an epoch: 50,000 images, training alone, for each exercise's starting architecture and three batch sizes.

    python benchmarks/epoch.py [single] [hidden] [multiclass] [--optimizer sgd|adam] [--quick]

Each library runs in a process of its own; within a run the sides take turns, starting with another one each time. Ours,
JAX, PyTorch and NumPy are held to one core and one thread; model.fit has both cores and its own defaults. A side's first
call, which compiles, is not in its median: what it took beyond an epoch is the figure `first call`. Every side visits all
50,000 images in a new order, the short last batch included. PyTorch and JAX have their pixels scaled beforehand, PyTorch
computes no accuracy, and the NumPy limit is a gather and the matrix products, without activations, loss or optimizer.
"""

from __future__ import annotations

import argparse
import itertools
import os
import statistics
import sys
import time
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # else `import search` would find benchmarks/search.py

from benchmarks.figures import figure, heading, made_with, script
from benchmarks.peers.epochs import Cell, Train, jax_scan, numpy_limit, pytorch

HIDDEN = {"single": (), "hidden": (64,), "multiclass": (256, 128)}
LEARNING_RATE = {"sgd": 0.01, "adam": 0.001}  # Keras's defaults
BATCH_SIZES = (32, 128, 512)
Prepare = Callable[[Cell, Any], dict[str, Train]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("exercises", nargs="*", metavar="EXERCISE", help="single, hidden, multiclass; all by default")
    parser.add_argument("--optimizer", choices=list(LEARNING_RATE), default="sgd", help="the starting models' is sgd")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--quick", action="store_true", help="batch size 128, 2 repeats")
    flags = parser.parse_args()
    repeats, batch_sizes = (2, (128,)) if flags.quick else (flags.repeats, BATCH_SIZES)
    context = get_context("spawn")
    processes = []
    for prepare, one_core in ((keras_fit, False), (ours, True), (pytorch, True), (jax_scan, True), (numpy_limit, True)):
        here, there = context.Pipe()
        process = context.Process(target=serve, args=(there, prepare, one_core), daemon=True)
        process.start()
        processes.append((here, process))
    heading()
    medians: list[dict[str, float]] = []
    for exercise, batch in itertools.product(flags.exercises or HIDDEN, batch_sizes):
        cell = Cell(exercise, HIDDEN[exercise], batch, flags.optimizer, LEARNING_RATE[flags.optimizer])
        sides = {}
        for connection, _ in processes:
            connection.send(cell)
            sides |= dict.fromkeys(connection.recv(), connection)
        first = {side: call(connection, side) for side, connection in sides.items()}
        seconds: dict[str, list[float]] = {side: [] for side in sides}
        order = list(sides)
        for _ in range(repeats):
            order = [*order[1:], order[0]]
            for side in order:
                seconds[side].append(call(sides[side], side))
        medians.append({side: statistics.median(values) for side, values in seconds.items()})
        for side, values in seconds.items():
            figure(f"{exercise}, batch {batch}, {side}", values, "s")
            figure(f"{exercise}, batch {batch}, {side}: first call", [first[side] - medians[-1][side]], "s more")
    for median in medians:
        median["ours"] = min(median["ours, graph"], median["ours, XLA"])
        median["NumPy limit"] = min(median["NumPy limit, float32"], median["NumPy limit, uint8"])
    for other in ("NumPy limit", "JAX scan", "PyTorch eager", "model.fit", "model.fit, XLA, 64 steps a call"):
        figure(f"seconds of {other} / ours, by cell", [median[other] / median["ours"] for median in medians], "times")
    for connection, process in processes:
        connection.send(None)
        process.join()
    made_with(repeats, "torch", "jax")


def call(connection: Any, side: str) -> float:
    connection.send(side)
    seconds: float = connection.recv()
    return seconds


def serve(connection: Any, prepare: Prepare, one_core: bool) -> None:
    """A library's process: prepares a cell, then trains an epoch of it whenever asked and tells the seconds."""
    if one_core:
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
        os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    from search.lab import data, exercise

    images, trains = data.load(), {}
    while (message := connection.recv()) is not None:
        if isinstance(message, Cell):
            task = data.TASKS[exercise.load(script(message.exercise)).task]
            trains = prepare(message, data.training_examples(images, task))
            connection.send(list(trains))
        else:
            began = time.perf_counter()
            trains[message]()
            connection.send(time.perf_counter() - began)


def keras_model(cell: Cell) -> Any:
    from search.lab import exercise
    from search.workers.trial import build

    values = {"batch_size": cell.batch, "optimizer": cell.optimizer, "learning_rate": cell.learning_rate}
    values |= {"units": cell.hidden[0]} if cell.exercise == "hidden" else {"layers": len(cell.hidden)}
    values |= {f"units_{i}": units for i, units in enumerate(cell.hidden, 1)}
    return build(exercise.load(script(cell.exercise)).hypermodel(), values, (0,))[1]


def keras_fit(cell: Cell, train: Any) -> dict[str, Train]:
    def fit(**compile_options: Any) -> Train:
        model = keras_model(cell)
        model.compile(model.optimizer, model.loss, metrics=["accuracy"], **compile_options)
        return lambda: model.fit(train.x, train.y, batch_size=cell.batch, verbose=0)

    return {"model.fit": fit(), "model.fit, XLA, 64 steps a call": fit(steps_per_execution=64, jit_compile=True)}


def ours(cell: Cell, train: Any) -> dict[str, Train]:
    import search.workers.runtime  # noqa: F401  (one thread)
    from search.training import data
    from search.training.program import programs
    from search.training.seeds import epoch_order
    from search.training.xla import Pays

    examples = data.examples(train.x, train.y, None, None, cell.batch)

    def program(xla: bool) -> Train:
        model, epoch = keras_model(cell), itertools.count()

        def an_epoch() -> dict[str, Any]:
            model.reset_metrics()
            return programs(model, examples).train(
                examples, epoch_order(examples.n, (0, next(epoch))), 0, Pays(0, 0) if xla else Pays()
            )

        return an_epoch

    return {"ours, graph": program(False), "ours, XLA": program(True)}


if __name__ == "__main__":
    main()
