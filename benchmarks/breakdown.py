"""Where a search's time goes: one worker, inside this process, every program it compiles watched.

    python benchmarks/breakdown.py hidden [--max-epochs 27] [--seed 0] [--quick]

Two workers spend the same, each its half. The floor is what the matrix products of the same epochs take NumPy on one core.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import functools
import io
import itertools
import os
import runpy
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # else `import search` would find benchmarks/search.py

from benchmarks.figures import made_with, script

spent: dict[str, list[float]] = defaultdict(list)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("exercise", choices=["single", "hidden", "multiclass"])
    parser.add_argument("--max-epochs", type=int, default=27)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="3 epochs")
    flags = parser.parse_args()
    max_epochs = 3 if flags.quick else flags.max_epochs
    os.environ |= {"TF_CPP_MIN_LOG_LEVEL": "3", "OPENBLAS_NUM_THREADS": "1"}
    began = time.perf_counter()
    import search.workers.runtime  # noqa: F401
    from search.training import _tensorflow, checkpoint
    from search.workers import trial

    importing = time.perf_counter() - began
    programs: list[Watched] = []
    trace, run = timed(_tensorflow.traced, "tracing"), _tensorflow.call

    def watched(function: Any, *signature: Any, **options: Any) -> Watched:
        concrete = trace(function, *signature, **options)
        name = getattr(getattr(function, "func", function), "func", getattr(function, "func", function)).__name__
        programs.append(Watched(concrete, name, run))
        return concrete

    def call(concrete: Any, arguments: Any, captures: Any) -> Any:
        return next(one for one in programs if one.concrete is concrete)(arguments, captures)

    _tensorflow.traced, _tensorflow.call = watched, call
    for module, name, part in (
        (trial, "build", "building models"),
        (checkpoint, "write", "writing and reading states"),
        (checkpoint, "read", "writing and reading states"),
        (trial, "run", "trials"),
    ):
        setattr(module, name, timed(getattr(module, name), part))
    with tempfile.TemporaryDirectory() as folder:
        command, sys.argv[1:] = sys.argv[:], ["search", f"--max-epochs={max_epochs}", f"--seed={flags.seed}"]
        sys.argv[1:] += ["--workers=0", f"--results={folder}"]
        with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
            runpy.run_path(str(script(flags.exercise)), run_name="__main__")
        sys.argv = command
        total = time.perf_counter() - began
        with Path(folder, flags.exercise, "trials.csv").open(newline="") as file:
            trials = list(csv.DictReader(file))
    for program in programs:
        program.account()
    speed = numpy_speed()
    print(f"{flags.exercise}, R = {max_epochs}, seed {flags.seed}: {len(trials)} trials, {len(programs)} programs")
    in_trials = sum(spent.pop("trials"))
    parts = {part: sum(values) for part, values in spent.items()}
    parts["the rest of the trials"] = in_trials - sum(parts.values())
    parts["importing TensorFlow and KerasTuner"] = importing
    parts["driver and all else"] = total - in_trials - importing
    for part, seconds in sorted(parts.items(), key=lambda item: -item[1]):
        print(f"{part:<60} {seconds:>8.1f} s {seconds / total:>6.1%}")
    print(f"{'all of it':<60} {total:>8.1f} s")
    flops = sum(product_flops(flags.exercise, row) for row in trials)
    print(
        f"floor: {flops / 1e9:.0f} GFLOP of matrix products at NumPy's {speed / 1e9:.0f} GFLOPS: {flops / speed:.1f} s"
    )
    made_with(1)


class Watched:
    """A compiled program that tells its calls' time, what the first one takes to prepare apart."""

    def __init__(self, concrete: Any, name: str, run: Callable[..., Any]) -> None:
        self.concrete, self.name, self.run = concrete, name, run
        self.calls: list[float] = []

    def __call__(self, arguments: Any, captures: Any) -> Any:
        if self.name == "_train" and not self.calls:  # over no examples: nothing but the preparation
            prepare = timed(self.run, "first calls: TensorFlow's passes over a graph")
            prepare(self.concrete, (arguments[0][:0], *arguments[1:]), captures)
        begin = time.perf_counter()
        result = self.run(self.concrete, arguments, captures)
        self.calls.append(time.perf_counter() - begin)
        return result

    def account(self) -> None:
        """Adds this program's calls to what was spent."""
        calls = self.calls
        if self.name == "_train_whole_batches" and len(calls) > 1:
            again = statistics.median(calls[1:])
            spent["first calls: XLA compiles"].append(calls[0] - again)
            calls = [again, *calls[1:]]
        parts = {"_train": "training, graph", "_train_whole_batches": "training, XLA", "_evaluate": "evaluating"}
        spent[parts[self.name]] += calls


def timed(function: Callable[..., Any], part: str) -> Callable[..., Any]:
    @functools.wraps(function)
    def call(*arguments: Any, **options: Any) -> Any:
        begin = time.perf_counter()
        try:
            return function(*arguments, **options)
        finally:
            spent[part].append(time.perf_counter() - begin)

    return call


def numpy_speed() -> float:
    """Floating-point operations a second of a product of large matrices, on one core."""
    import numpy as np

    n, seconds = 2048, []
    a = np.ones((n, n), np.float32)
    for _ in range(9):
        began = time.perf_counter()
        a @ a
        seconds.append(time.perf_counter() - began)
    return 2 * n**3 / statistics.median(seconds)


def product_flops(exercise: str, trial: dict[str, str]) -> float:
    """Of the matrix products of a trial's epochs: forward and both gradients over 50,000 images, forward over 10,000."""
    units = [int(trial[name]) for name in trial if name.startswith("units") and trial[name]]
    if exercise == "multiclass":
        units = units[: int(trial["layers"])]
    products = [a * b for a, b in itertools.pairwise([784, *units, 10 if exercise == "multiclass" else 1])]
    an_epoch = 2 * 50_000 * (2 * sum(products) + sum(products[1:])) + 2 * 10_000 * sum(products)
    return an_epoch * (int(trial["epochs"]) - int(trial["initial_epoch"]))


if __name__ == "__main__":
    main()
