"""Seconds of training until the tuned ten-class network first reaches 98, 98.5 and 99 % of the test images, over n seeds.

    python benchmarks/accuracy.py [--seeds 5] [--epochs 100] [--quick]

As airbench states it: training alone is timed, over data that is in memory; a warm-up epoch compiles and is reported by
itself; the evaluations between epochs are not timed. The test images are read after every epoch, which only a benchmark
of speed may do: nothing is chosen by them here.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # else `import search` would find benchmarks/search.py

from benchmarks.figures import figure, heading, made_with, script

CONFIGURATION = {  # what `python search_multiclass.py` finds with its defaults
    "batch_size": 256,
    "optimizer": "rmsprop",
    "learning_rate": 0.00266,
    "activation": "relu",
    "layers": 2,
    "units_1": 273,
    "units_2": 92,
}
THRESHOLDS = (0.98, 0.985, 0.99)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=100, help="the most that a seed trains")
    parser.add_argument("--quick", action="store_true", help="2 seeds, 3 epochs")
    flags = parser.parse_args()
    seeds, most_epochs = (2, 3) if flags.quick else (flags.seeds, flags.epochs)
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

    import search.workers.runtime  # noqa: F401  (one thread)
    from search.lab import data, exercise
    from search.training import checkpoint
    from search.training import data as arrays
    from search.training.fit import evaluate
    from search.training.program import programs
    from search.training.seeds import epoch_order
    from search.training.xla import Pays
    from search.workers.trial import build

    lab = exercise.load(script("multiclass"))
    images, task = data.load(), data.TASKS[lab.task]
    train, test = data.training_examples(images, task), data.test_examples(images, task)
    hypermodel, batch = lab.hypermodel(), CONFIGURATION["batch_size"]

    began = time.perf_counter()
    _, model = build(hypermodel, CONFIGURATION, (0,))
    examples = arrays.examples(train.x, train.y, None, None, batch)
    program = programs(model, examples)
    program.train(examples, epoch_order(examples.n, (0,)), 0, Pays(0, 0))
    warm_up = time.perf_counter() - began

    seconds: dict[float, list[float]] = {threshold: [] for threshold in THRESHOLDS}
    epochs: dict[float, list[float]] = {threshold: [] for threshold in THRESHOLDS}
    an_epoch, best = [], []
    for seed in range(seeds):
        fresh = build(hypermodel, CONFIGURATION, (seed,))[1]
        checkpoint.restore(checkpoint.capture(fresh, {}, {}), model)
        spent, accuracy = 0.0, 0.0
        to_reach = list(THRESHOLDS)
        best.append(0.0)
        for epoch in range(most_epochs):
            began = time.perf_counter()
            model.reset_metrics()
            program.train(examples, epoch_order(examples.n, (seed, epoch)), 0, Pays(0, 0))
            an_epoch.append(time.perf_counter() - began)
            spent += an_epoch[-1]
            accuracy = evaluate(model, test.x, test.y)["accuracy"]
            best[-1] = max(best[-1], accuracy)
            while to_reach and accuracy >= to_reach[0]:
                seconds[to_reach[0]].append(spent)
                epochs[to_reach.pop(0)].append(epoch + 1)
            if not to_reach:
                break
    heading()
    for threshold in THRESHOLDS:
        name = f"{threshold:.1%} of the test images"
        figure(f"{name}: training", seconds[threshold], "s")
        figure(f"{name}: training", epochs[threshold], "epochs")
        deviation = [statistics.stdev(seconds[threshold])] if len(seconds[threshold]) > 1 else []
        figure(f"{name}: standard deviation over the seeds", deviation, "s")
        if len(seconds[threshold]) < seeds:
            missing = seeds - len(seconds[threshold])
            print(f"{name}: not reached in {most_epochs} epochs by {missing} of {seeds} seeds")
    figure("best test accuracy of a seed", best, "")
    figure("an epoch", an_epoch, "s")
    figure("building, tracing, compiling: what the warm-up took more", [warm_up - statistics.median(an_epoch)], "s")
    print(f"configuration: {CONFIGURATION}; one thread")
    made_with(seeds)


if __name__ == "__main__":
    main()
