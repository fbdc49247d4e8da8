"""A table of trainings of an exercise's space, on which searches are simulated in milliseconds.

    python benchmarks/table.py single [--configurations 300] [--seeds 3] [--images 50000] [--processes 2]

Configurations are the starting model, those that the exercise tries first, and random ones. Each is trained for R = 9 epochs
from every seed; one with a schedule once for every way that Hyperband may pause it, since its rate follows the rungs.
``benchmarks/tables/<exercise>.json.gz`` keeps the validation figures after every epoch and the accuracy on the test images
after the last. Run again, the command goes on where it was stopped; more configurations or seeds are added.
"""

from __future__ import annotations

import argparse
import gzip
import itertools
import json
import multiprocessing
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # else `import search` would find benchmarks/search.py

from benchmarks.figures import ROOT, made_with, script

R = 9
PAUSES = ((1, 3, 9), (3, 9), (9,))  # the milestones of Hyperband's brackets, s = 2, 1, 0
KEPT = ("val_accuracy", "val_loss", "loss")
BETWEEN_WRITES = 20  # trainings


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("exercise", choices=("single", "hidden", "multiclass"))
    parser.add_argument("--configurations", type=int, default=300)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--images", type=int, default=50_000, help="training images; the first so many")
    parser.add_argument("--processes", type=int, default=2)
    flags = parser.parse_args()
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    path = ROOT / "benchmarks" / "tables" / f"{flags.exercise}.json.gz"
    table = read(path) if path.exists() else {"images": flags.images, "configurations": [], "trainings": []}
    if table["images"] != flags.images:
        parser.error(f"{path} is of {table['images']} images; give --images {table['images']} or remove it")
    table["configurations"] = configurations(flags.exercise, flags.configurations)
    done = {(row["configuration"], row["seed"], tuple(row["milestones"])) for row in table["trainings"]}
    asked = [one for one in trainings(table["configurations"], flags.seeds) if one not in done]
    with multiprocessing.get_context("spawn").Pool(flags.processes, prepare, (flags.exercise, flags.images)) as pool:
        work = ((table["configurations"][index], index, seed, milestones) for index, seed, milestones in asked)
        for count, row in enumerate(pool.imap_unordered(train, work), 1):
            table["trainings"].append(row)
            if count % BETWEEN_WRITES == 0 or count == len(asked):
                write(path, table)
                print(f"{count} of {len(asked)}", flush=True)
    made_with(len(table["trainings"]))


def read(path: Path) -> dict[str, Any]:
    """The table, as :func:`write` wrote it."""
    table: dict[str, Any] = json.loads(gzip.decompress(path.read_bytes()))
    return table


def write(path: Path, table: dict[str, Any]) -> None:
    """Writes the table whole; the same table gives the same bytes."""
    from search import files

    table["trainings"].sort(key=lambda row: (row["configuration"], row["seed"], row["milestones"]))
    path.parent.mkdir(exist_ok=True)
    files.write_bytes(path, gzip.compress(json.dumps(table, separators=(",", ":")).encode(), mtime=0))


def configurations(name: str, count: int) -> list[dict[str, Any]]:
    """The exercise's first ``count``; more of them begin with the same ones."""
    import search.workers.runtime  # noqa: F401
    from search.lab import exercise
    from search.oracles.random_search import RandomSearchOracle
    from search.oracles.space import search_space

    lab = exercise.load(script(name))
    space = search_space(lab.hypermodel())
    oracle = RandomSearchOracle(max_trials=count, epochs=R, objective="val_accuracy", seed=0, hyperparameters=space)
    oracle.first = [dict(values) for values in (lab.start, *lab.first)]
    ((_, drawn),) = oracle.foreseen()
    return drawn


def trainings(configurations: list[dict[str, Any]], seeds: int) -> Iterator[tuple[int, int, tuple[int, ...]]]:
    """Configuration, seed and milestones of every training, one seed after the other."""
    for seed, (index, values) in itertools.product(range(seeds), enumerate(configurations)):
        for milestones in PAUSES if values["schedule"] != "constant" else PAUSES[-1:]:
            yield index, seed, milestones


problem: Any = None  # of this process
test: Any = None


def prepare(name: str, images: int) -> None:
    """Loads what every training of a process needs."""
    global problem, test
    import dataclasses

    import search.workers.runtime  # noqa: F401
    from search.lab import data, exercise, session

    lab, source = exercise.load(script(name)), data.load()
    problem = session.problem(lab, source)
    problem = dataclasses.replace(problem, args=tuple(part[:images] for part in problem.args))
    test = data.test_examples(source, data.TASKS[lab.task])


def train(asked: tuple[dict[str, Any], int, int, tuple[int, ...]]) -> dict[str, Any]:
    """One training; figures that are no numbers, and those of epochs that it did not reach, are None."""
    import math

    from search.training import checkpoint
    from search.training.fit import evaluate
    from search.workers import trial

    values, index, seed, milestones = asked
    with tempfile.TemporaryDirectory() as folder:
        job = trial.Job(f"{index}", values, (seed, index), R, milestones, Path(folder, "state.npz"))
        outcome = trial.run(problem, job)
        accuracy = None
        if outcome.completed:
            _, model = trial.build(problem.hypermodel, values, job.seed)
            checkpoint.restore(checkpoint.read(job.state, job.identity(problem.name, problem.data)), model)
            accuracy = evaluate(model, test.x, test.y)["accuracy"]

    def kept(values: list[float]) -> list[float | None]:
        return [float(f"{value:.6g}") if math.isfinite(value) else None for value in values]

    return {
        "configuration": index,
        "seed": seed,
        "milestones": milestones,
        **{metric: kept(outcome.history.get(metric, [])) for metric in KEPT},
        "seconds": kept(list(outcome.epoch_seconds)),
        "parameters": outcome.parameters,
        "test_accuracy": accuracy,
    }


if __name__ == "__main__":
    main()
