"""100 epochs of the starting models: search.fit, compiling included, against model.fit; both with validation.

    python benchmarks/retrain.py [single] [hidden] [multiclass] [--epochs 100] [--runs 3] [--quick]

Each training is timed in a fresh process, the sides in turn. Ours runs with one thread, model.fit with its defaults, which
take both cores. The retrain command has several seeds to train and trains two at a time: that is timed as well, and half
of the time of two set against a training by model.fit.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # else `import search` would find benchmarks/search.py

from benchmarks.figures import figure, heading, made_with, script

AT_A_TIME = {"ours": 1, "ours, two at a time": 2, "model.fit": 1}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("exercises", nargs="*", metavar="EXERCISE", help="single, hidden, multiclass; all by default")
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="one run of 5 epochs")
    flags = parser.parse_args()
    runs, epochs = (1, 5) if flags.quick else (flags.runs, flags.epochs)
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    heading()
    for exercise in flags.exercises or ["single", "hidden", "multiclass"]:
        seconds: dict[str, list[float]] = {side: [] for side in AT_A_TIME}
        accuracy: dict[str, list[float]] = {side: [] for side in AT_A_TIME}
        for seed in range(runs):
            for side, count in AT_A_TIME.items():
                with ProcessPoolExecutor(count, get_context("spawn")) as processes:
                    trainings = [processes.submit(train, exercise, side, epochs, seed + i) for i in range(count)]
                    spent, reached = zip(*(training.result() for training in trainings), strict=True)
                seconds[side].append(max(spent) / count)
                accuracy[side].append(reached[0])
        for side in AT_A_TIME:
            figure(f"{exercise}, {epochs} epochs, {side}: a training", seconds[side], "s")
            figure(f"{exercise}, {epochs} epochs, {side}: validation accuracy", accuracy[side], "")
        for side in ("ours", "ours, two at a time"):
            ratios = [theirs / mine for theirs, mine in zip(seconds["model.fit"], seconds[side], strict=True)]
            figure(f"{exercise}, {epochs} epochs: {side}, faster than model.fit", ratios, "times")
    made_with(runs)


def train(exercise_name: str, side: str, epochs: int, seed: int) -> tuple[float, float]:
    """Seconds of one training, and the validation accuracy it ends with."""
    if side != "model.fit":
        import search.workers.runtime  # noqa: F401  (one thread)
    from search.lab import data, exercise
    from search.training.fit import fit
    from search.workers.trial import build

    lab = exercise.load(script(exercise_name))
    images, task = data.load(), data.TASKS[lab.task]
    train, validation = data.training_examples(images, task), data.validation_examples(images, task)
    hp, model = build(lab.hypermodel(), lab.start, (seed,))
    options = {"batch_size": hp.get("batch_size"), "epochs": epochs, "validation_data": (validation.x, validation.y)}
    began = time.perf_counter()
    if side == "model.fit":
        history = model.fit(train.x, train.y, **options, verbose=0)
    else:
        random.seed(seed)
        history = fit(model, train.x, train.y, **options, verbose=0)
    return time.perf_counter() - began, history.history["val_accuracy"][-1]


if __name__ == "__main__":
    main()
