"""What every peer is given and gives back: the same examples, the same result."""

from __future__ import annotations

import argparse
import functools
import time
from collections.abc import Callable

from benchmarks.figures import script
from search.lab import data, exercise

FACTOR = 3  # Hyperband's eta, and halving's
PROCESSES = 2


def examples(task: argparse.Namespace) -> tuple[data.Examples, data.Examples, Callable[[], data.Examples]]:
    """Training and validation examples, and a function that reads the test examples."""
    source, labels = data.load(), data.TASKS[exercise.load(script(task.exercise)).task]
    test = functools.partial(data.test_examples, source, labels)
    return data.training_examples(source, labels), data.validation_examples(source, labels), test


def result(epochs: int, val_accuracy: float, test: Callable[[], float]) -> dict[str, float]:
    began = time.perf_counter()
    accuracy = test()
    spent = time.perf_counter() - began
    return {
        "epochs": epochs,
        "val_accuracy": val_accuracy,
        "test_accuracy": accuracy,
        "evaluation_seconds": spent,
    }
