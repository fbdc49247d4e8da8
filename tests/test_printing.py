"""What a step prints at its end."""

import io
import math
from types import SimpleNamespace

from rich.console import Console

from search.lab.printing import print_sweep


def rows(value, *accuracies):
    return [
        {"value": value, "val_accuracy": accuracy, "loss": 0.1, "seconds_per_epoch": math.nan}
        for accuracy in accuracies
    ]


def test_a_value_of_a_sweep_that_lost_a_training_has_no_mean_and_the_others_have():
    console = Console(file=io.StringIO(), width=200)
    session = SimpleNamespace(exercise=SimpleNamespace(retuned={}), console=console)
    print_sweep(session, "units", [*rows(8, 0.9, 0.92), *rows(16, 0.95, math.nan)], {})
    printed = [line.split() for line in console.file.getvalue().splitlines()]
    assert ["8", "0.9100", "0.0141", "0.1", "-"] in printed
    assert ["16", "-", "-", "-", "-"] in printed
