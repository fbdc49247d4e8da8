"""What a trial costs beside its training, in time and in memory.

    python benchmarks/trials.py [driver] [workers] [parallel] [start] [--quick]

driver    10,000 trials that take no time, random search, real oracle and files: milliseconds and memory by thousand.
workers   1,000 real trials on 1,000 images through a pool of two: half new configurations, half promotions of those.
parallel  a random search of 60 trials with two workers and with one, whole processes in turn.
start     --help, and from the start of a search to its plan, after which the first trial runs at once.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import Future
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # else `import search` would find benchmarks/search.py

from benchmarks.figures import ROOT, figure, heading, made_with, script

EPOCHS = (3, 6)  # of a new trial and of its promotion


def main() -> None:
    parts = {"driver": driver, "workers": workers, "parallel": parallel, "start": start}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help="some of the four; all by default")
    parser.add_argument("--quick", action="store_true", help="the smallest numbers that go through everything")
    flags = parser.parse_args()
    if unknown := set(flags.parts) - set(parts):
        parser.error(f"{', '.join(sorted(unknown))}: expected some of {', '.join(parts)}")
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    os.chdir(ROOT)
    heading()
    n = [f"{name} {parts[name](flags.quick)}" for name in flags.parts or parts]
    made_with(", ".join(n))


class Instant:
    """Workers that have trained before they are asked."""

    size = 2

    def __init__(self, outcome: Any) -> None:
        self.outcome = outcome

    def submit(self, job: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result(self.outcome)
        return future

    def close(self) -> None:
        """Nothing to stop."""


def driver(quick: bool) -> int:
    import search.runtime  # noqa: F401
    from search import driver, exercise, strategy
    from search.trial import Outcome

    trials, block = (400, 100) if quick else (10_000, 1000)
    from keras_tuner import Objective  # which search.runtime has imported quietly

    space = strategy.search_space(exercise.load(script("hidden")).hypermodel())
    objective = Objective("val_accuracy", "max")
    oracle = strategy.RandomSearchOracle(
        max_trials=trials, epochs=9, objective=objective, seed=0, hyperparameters=space
    )
    metrics = ("accuracy", "loss", "val_accuracy", "val_loss")
    outcome = Outcome(True, {metric: [0.5] * 9 for metric in metrics}, 1000, 1.0, (0.1,) * 9)
    told = [time.perf_counter()]
    memory = []

    def watch(_: Any) -> None:
        told.append(time.perf_counter())
        if len(told) % block == 1:
            memory.append(resident(os.getpid()))

    with tempfile.TemporaryDirectory() as folder:
        driver.search(oracle, Instant(outcome), Path(folder), 0, watch)
    for i in range(trials // block):
        ends = told[i * block : (i + 1) * block + 1]
        milliseconds = [1000 * (end - begin) for begin, end in itertools.pairwise(ends)]
        name = f"driver, trials {i * block + 1} to {(i + 1) * block}"
        figure(f"{name}: each", milliseconds, "ms")
        figure(f"{name}: all of them, a trial", [1000 * (ends[-1] - ends[0]) / block], "ms")
        figure(f"{name}: memory after", [memory[i]], "MiB")
    return trials


def workers(quick: bool) -> int:
    import numpy as np

    import search.runtime  # noqa: F401
    from search import data, exercise, strategy
    from search.trial import Job
    from search.workers import LocalPool, run_all

    trials, chunk = (24, 6) if quick else (1000, 50)
    images = data.load()
    kept = slice(0, data.VALIDATION_IMAGES + 1000)
    for name in ("single", "hidden"):
        with tempfile.TemporaryDirectory() as folder:
            small = Path(folder, "small.npz")
            arrays = {"x_train": images.images[kept], "y_train": images.labels[kept]}
            np.savez(small, **arrays, x_test=images.images[:1000], y_test=images.labels[:1000])
            space = strategy.search_space(exercise.load(script(name)).hypermodel()).space
            draw = random.Random(0)
            pool = LocalPool(2, script(name), str(small))
            outcomes: dict[str, list[Any]] = {"new": [], "new, compiled before": [], "promoted": []}
            memory: dict[int, tuple[float, list[float]]] = {}
            seen: set[tuple[Any, ...]] = set()
            for done in range(0, trials, 2 * chunk):
                jobs, kinds = [], []
                for i in range(done, done + chunk):
                    values = {hp.name: hp.random_sample(draw.randrange(2**31)) for hp in space}
                    structure = tuple(
                        value for key, value in values.items() if key not in ("batch_size", "learning_rate")
                    )
                    kinds.append("new, compiled before" if structure in seen else "new")
                    seen.add(structure)
                    state = Path(folder, f"{i}.npz")
                    jobs.append(Job(f"{i}", values, (0, i), EPOCHS[0], EPOCHS, state))
                promotions = [
                    Job(
                        f"{job.name}+",
                        job.hyperparameters,
                        job.seed,
                        EPOCHS[1],
                        EPOCHS,
                        job.state.with_suffix(".2.npz"),
                        job.state,
                    )
                    for job in jobs
                ]
                for kind, outcome in zip(kinds, run_all(pool, jobs, lambda *_: None), strict=True):
                    outcomes[kind].append(outcome)
                outcomes["promoted"] += run_all(pool, promotions, lambda *_: None)
                for job in (*jobs, *promotions):
                    job.state.unlink()
                memory[done + 2 * chunk] = resident(os.getpid()), [resident(pid) for pid in grandchildren()]
            pool.close()
        for kind, of_kind in outcomes.items():
            assert all(outcome.completed for outcome in of_kind), [outcome.message for outcome in of_kind]
            outside = [1000 * (outcome.seconds - sum(outcome.epoch_seconds)) for outcome in of_kind]
            figure(f"{name}, {kind}: outside its epochs", outside, "ms")
            beyond = [
                1000 * (outcome.seconds - len(outcome.epoch_seconds) * statistics.median(outcome.epoch_seconds))
                for outcome in of_kind
            ]
            figure(f"{name}, {kind}: the same and what the first epoch took more", beyond, "ms")
        early, late = min(memory), max(memory)
        for after in (early, late):
            figure(f"{name}, driver: memory after {after} trials", [memory[after][0]], "MiB")
            figure(f"{name}, workers: memory after {after} trials", memory[after][1], "MiB")
        growth = [sum(memory[late][1]) / sum(memory[early][1]) - 1]
        figure(f"{name}, workers: growth from {early} to {late} trials", [100 * growth[0]], "%")
        figure(f"{name}, driver: growth", [100 * (memory[late][0] / memory[early][0] - 1)], "%")
    return trials


def parallel(quick: bool) -> int:
    trials, epochs, runs = (4, 1, 1) if quick else (60, 9, 3)
    for name in ("single", "hidden"):
        seconds: dict[int, list[float]] = {1: [], 2: []}
        for seed in range(runs):
            for count in seconds:
                with tempfile.TemporaryDirectory() as folder:
                    flags = ["--tuner=random", f"--trials={trials}", f"--max-epochs={epochs}", f"--seed={seed}"]
                    flags += [f"--workers={count}", f"--results={folder}"]
                    began = time.perf_counter()
                    command = [sys.executable, str(script(name)), "search", *flags]
                    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
                    seconds[count].append(time.perf_counter() - began)
        what = f"{name}, random search, {trials} trials of {epochs} epochs"
        for count, values in seconds.items():
            figure(f"{what}, {count} worker{'s' * (count > 1)}", values, "s")
        ratios = [one / two for one, two in zip(seconds[1], seconds[2], strict=True)]
        figure(f"{what}: two are faster than one", ratios, "times")
    return runs


def start(quick: bool) -> int:
    runs = 2 if quick else 7
    help_seconds, plan, ended = [], [], []
    for _ in range(runs):
        began = time.perf_counter()
        subprocess.run([sys.executable, str(script("single")), "--help"], stdout=subprocess.DEVNULL, check=True)
        help_seconds.append(time.perf_counter() - began)
    for _ in range(runs):
        with tempfile.TemporaryDirectory() as folder:
            began = time.perf_counter()
            command = [sys.executable, "-u", str(script("single")), "search", f"--results={folder}"]
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
            assert process.stdout is not None
            for line in process.stdout:
                if line.startswith("Predicted"):
                    plan.append(time.perf_counter() - began)
                if line.startswith("[1/"):
                    ended.append(time.perf_counter() - began)
                    break
            process.terminate()
            process.communicate()
    figure("start, single: --help", help_seconds, "s")
    figure("start, single: search until its plan, the first trial then runs", plan, "s")
    figure("start, single: search until the first trial has ended", ended, "s")
    return runs


def resident(pid: int) -> float:
    """MiB of memory that a process holds."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


def grandchildren() -> list[int]:
    """The pool's processes: this process starts the server that they are forked from."""
    parent = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has just ended
            parent[int(path.parent.name)] = int(path.read_text().rpartition(")")[2].split()[1])
    return [pid for pid, of in parent.items() if parent.get(of) == os.getpid()]


if __name__ == "__main__":
    main()
