"""What a step prints at its end."""

import io
import math
from dataclasses import replace
from types import SimpleNamespace

from rich.console import Console

from search.lab.printing import print_metrics, print_sweep
from search.report import console as report_console
from search.report import sentences
from search.report.progress import Progress, draws_again
from search.results import read_project
from tests.test_report import fabricate_project


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


def test_a_share_is_written_as_in_the_report():
    console = Console(file=io.StringIO(), width=200)
    model = {"seeds": [{"seed": 0}], "loss": 0.1, "test_accuracy": 0.991, "interval": (0.989, 0.993)}
    metrics = {"epochs": 3, "tuned": model, "start": model, "majority_accuracy": 0.9}
    metrics["difference"] = {"value": 0.0, "low": -0.01, "high": 0.01}
    print_metrics(SimpleNamespace(console=console, say=console.print), metrics)
    printed = console.file.getvalue().replace("\u00a0", " ")
    assert "99.10 %" in printed
    assert "98.90 to 99.30 %" in printed
    assert "90.00 %" in printed


def a_project(tmp_path):
    return read_project(fabricate_project(tmp_path / "shop"))


def test_a_project_is_summed_up_with_heads_the_report_s_numbers_and_why_trials_failed(tmp_path):
    console = Console(file=io.StringIO(), width=200)
    project = a_project(tmp_path)
    report_console.print_project(project, console)
    first, heads, best, *_, failed = console.file.getvalue().splitlines()
    assert first == "shop: 8 trials, 6 completed, 1 failed; best first by validation loss"
    assert heads.split() == ["trial", "epochs", "validation", "loss", "configuration"]
    assert best.split()[0] == project.best.trial_id
    assert best.rstrip().endswith(sentences.configuration(project.best.hyperparameters))
    assert failed == "trial 06 failed: ValueError: no <b>"


def test_a_terminal_s_sentences_end_between_words_and_a_file_s_are_whole(tmp_path):
    project = a_project(tmp_path)
    long = " ".join(["retraining"] * 12)
    project = replace(project, trials=[replace(trial, message=long) for trial in project.trials])
    for terminal, lines in ((True, 3), (False, 1)):
        console = Console(file=io.StringIO(), width=60, force_terminal=terminal, color_system=None)
        report_console.print_project(project, console)
        printed = console.file.getvalue()
        told = printed[printed.index("trial 06 failed") :].splitlines()
        assert len(told) == lines
        assert {word for line in told for word in line.split()} == {"trial", "06", "failed:", "retraining"}


def test_a_narrow_terminal_shows_whole_column_heads(tmp_path):
    console = Console(file=io.StringIO(), width=24, force_terminal=True, color_system=None)
    report_console.print_project(a_project(tmp_path), console)
    assert "\u2026" not in console.file.getvalue()


def test_in_a_notebook_whose_output_says_it_is_a_terminal_no_line_is_drawn_again():
    stream = type("OutStream", (io.StringIO,), {"__module__": "ipykernel.iostream", "isatty": lambda self: True})()
    console = Console(file=stream, width=80, force_jupyter=False)
    assert console.is_terminal
    assert not draws_again(console)
    with Progress(console, "trials", 2) as progress:
        progress.advance("trial 0 ended")
    assert stream.getvalue().startswith("[1/2] trial 0 ended; about ")
    assert "\x1b" not in stream.getvalue()
    assert draws_again(Console(file=io.StringIO(), force_terminal=True, force_jupyter=False))


def test_a_table_in_a_file_has_no_blanks_at_the_end_of_its_lines(tmp_path):
    console = Console(file=io.StringIO(), width=120)
    report_console.print_project(a_project(tmp_path), console)
    lines = console.file.getvalue().splitlines()
    assert any("configuration" in line for line in lines)
    assert [line for line in lines if line != line.rstrip()] == []
