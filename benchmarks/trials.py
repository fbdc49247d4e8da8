"""What a trial costs beside its training, in time and in memory.

    python benchmarks/trials.py [driver] [workers] [parallel] [start] [--quick]

driver    10,000 trials that take no time, random search, real oracle and files: milliseconds and memory by thousand.
workers   1,000 real trials on 1,000 images through a pool of two: Hyperband searches of 27 epochs, one after the other.
parallel  a random search of 60 trials with two workers and with one, whole processes in turn.
start     --help, and from the start of a search to its plan, after which the first trial runs at once.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
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
    ahead = 0

    def __init__(self, outcome: Any) -> None:
        self.outcome = outcome

    def submit(self, job: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result(self.outcome)
        return future

    def close(self) -> None:
        """Nothing to stop."""


def driver(quick: bool) -> int:
    import search.workers.runtime  # noqa: F401
    from search import study
    from search.lab import exercise
    from search.oracles import random_search
    from search.oracles import space as spaces
    from search.workers.trial import Outcome

    trials, block = (400, 100) if quick else (10_000, 1000)
    from keras_tuner import Objective  # which search.runtime has imported quietly

    space = spaces.search_space(exercise.load(script("hidden")).hypermodel())
    objective = Objective("val_accuracy", "max")
    oracle = random_search.RandomSearchOracle(
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
        study.search(oracle, Instant(outcome), Path(folder), 0, watch)
    for i in range(trials // block):
        ends = told[i * block : (i + 1) * block + 1]
        milliseconds = [1000 * (end - begin) for begin, end in itertools.pairwise(ends)]
        name = f"driver, trials {i * block + 1} to {(i + 1) * block}"
        figure(f"{name}: each", milliseconds, "ms")
        figure(f"{name}: all of them, a trial", [1000 * (ends[-1] - ends[0]) / block], "ms")
        figure(f"{name}: memory after", [memory[i]], "MiB")
    return trials


class Recording:
    """Workers that keep what became of each job."""

    def __init__(self, pool: Any) -> None:
        self.pool, self.size, self.ahead = pool, pool.size, pool.ahead
        self.futures: list[tuple[Any, Future[Any]]] = []

    def submit(self, job: Any) -> Future[Any]:
        future: Future[Any] = self.pool.submit(job)
        self.futures.append((job, future))
        return future


def workers(quick: bool) -> int:
    import numpy as np

    import search.workers.runtime  # noqa: F401
    from search import study
    from search.lab import data, exercise, session
    from search.oracles import hyperband
    from search.oracles import space as spaces
    from search.workers.local import LocalPool

    least, early = (20, 10) if quick else (1000, 100)
    from keras_tuner import Objective  # which search.runtime has imported quietly

    objective = Objective("val_accuracy", "max")
    images = data.load()
    kept = slice(0, 11_000)
    for name in ("single", "hidden"):
        with tempfile.TemporaryDirectory() as folder:
            small = Path(folder, "small.npz")
            arrays = {"x_train": images.images[kept], "y_train": images.labels[kept]}
            np.savez(small, **arrays, x_test=images.images[:1000], y_test=images.labels[:1000])
            made = exercise.load(script(name))
            space = spaces.search_space(made.hypermodel())
            pool = LocalPool(2, Path(folder))
            pool.begin(session.problem(made, data.load(str(small))))
            recording = Recording(pool)
            memory: dict[int, tuple[float, list[float]]] = {}
            ended = itertools.count(1)

            def watch(_: Any, ended: Any = ended, memory: Any = memory) -> None:
                if (count := next(ended)) in (early, least):
                    memory[count] = resident(os.getpid()), [resident(pid) for pid in grandchildren()]

            seed = 0
            while len(recording.futures) < least:
                oracle = hyperband.HyperbandOracle(
                    max_epochs=3 if quick else 27, objective=objective, seed=seed, hyperparameters=space
                )
                study.search(oracle, recording, Path(folder, str(seed)), seed, watch)
                seed += 1
            pool.close()
        outcomes: dict[str, list[Any]] = {"new": [], "new, compiled before": [], "promoted": []}
        seen: set[tuple[Any, ...]] = set()
        for job, future in recording.futures:
            values = job.hyperparameters.items()
            structure = tuple(value for key, value in values if key not in ("batch_size", "learning_rate"))
            kind = "promoted" if job.resume_from else "new, compiled before" if structure in seen else "new"
            outcomes[kind].append(future.result())
            seen.add(structure)
        for kind, of_kind in outcomes.items():
            assert all(outcome.completed for outcome in of_kind), [outcome.message for outcome in of_kind]
            outside = [1000 * (outcome.seconds - sum(outcome.epoch_seconds)) for outcome in of_kind]
            figure(f"{name}, {kind}: outside its epochs", outside, "ms")
            beyond = [
                milliseconds + 1000 * (outcome.epoch_seconds[0] - statistics.median(outcome.epoch_seconds))
                for milliseconds, outcome in zip(outside, of_kind, strict=True)
            ]
            figure(f"{name}, {kind}: the same and what the first epoch took more", beyond, "ms")
        for after, (of_driver, of_workers) in memory.items():
            figure(f"{name}, driver: memory after {after} trials", [of_driver], "MiB")
            figure(f"{name}, workers: memory after {after} trials", of_workers, "MiB")
        growth = sum(memory[least][1]) / sum(memory[early][1]) - 1
        figure(f"{name}, workers: growth from {early} to {least} trials", [100 * growth], "%")
        figure(f"{name}, driver: growth", [100 * (memory[least][0] / memory[early][0] - 1)], "%")
    return least


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
