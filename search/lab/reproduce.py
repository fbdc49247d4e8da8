"""Whether training again gives the figures that a retraining tells: to the last bit, within the seeds' spread, or not."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

import search
from search import files, provenance, results
from search.errors import WorkError

REPRODUCED, WITHIN_NOISE, NOT_REPRODUCED = "reproduced", "within noise", "not reproduced"
FIGURES = ("loss", "accuracy", "val_loss", "val_accuracy", "loss_last_ten", "test_loss", "test_accuracy")


def reproduce(folder: Path, images: str | None = None) -> Iterator[tuple[str, str, str]]:
    """Trains both models of results/<exercise> again, in a folder of its own, and compares every figure.

    The exercise's script is run with this code, whatever code a hand-in brings beside it.

    Args:
        images: as ``--data`` takes it; None: where ``run.json`` says.

    Yields:
        What was compared, one of the three verdicts, and what differs.

    Raises:
        WorkError: there is no retraining, its script is not found, or it cannot be run again.
    """
    step = results.read_record(folder).steps.get("retrain", {})
    if not step.get("complete"):
        raise WorkError(f"{folder} holds no complete retraining; expected one to train again")
    script = _script(folder, step)
    here = provenance.collect(script, 1)
    alike = all(step.get(name) == here[name] for name in ("versions", "machine", "program"))
    told = files.read_json(folder / "retrain" / "metrics.json")
    now = _trained_again(folder, script, step, images)
    for model in ("start", "tuned"):
        for figure in FIGURES:
            before, after = (
                np.array([run[figure] for run in one[model]["seeds"] if figure in run], float) for one in (told, now)
            )
            if len(before):
                yield (f"{model} model trained again, {figure}", *verdict(before, after, alike))


def verdict(told: np.ndarray[Any, Any], now: np.ndarray[Any, Any], alike: bool) -> tuple[str, str]:
    """The verdict on one figure and what differs.

    Args:
        told, now: (seeds,) the figure of each.
        alike: whether machine, versions and code are the same, so that nothing may differ.

    Returns:
        Where they may differ: within noise if the medians are no further apart than either's seeds are.
    """
    if told.shape == now.shape and np.array_equal(told, now, equal_nan=True):
        return REPRODUCED, ""
    differs = f"{_range(told)} is told, {_range(now)} was trained"
    if alike or told.shape != now.shape or len(told) < 2:
        return NOT_REPRODUCED, differs
    spread = max(np.ptp(told), np.ptp(now))
    near = abs(float(np.median(told) - np.median(now))) <= spread
    return (WITHIN_NOISE if near else NOT_REPRODUCED), differs


def _range(values: np.ndarray[Any, Any]) -> str:
    return f"{values.min():.6g}" if len(values) == 1 else f"{values.min():.6g} to {values.max():.6g}"


def _trained_again(folder: Path, script: Path, step: Mapping[str, Any], images: str | None) -> dict[str, Any]:
    """The ``metrics.json`` of the same retraining, run by the exercise's own command on a copy."""
    with tempfile.TemporaryDirectory() as scratch:
        here = Path(scratch)
        for module in script.parent.glob("*.py"):  # what a script imports from beside it
            shutil.copy(module, here / module.name)
        left_out = ("retrain", "sweeps", "plots", "state*", "*.old-*", ".lock*")
        files.copy_tree(folder, here / "results" / folder.name, *left_out)
        flags = [
            "--epochs",
            step["epochs"],
            "--seeds",
            step["seeds"],
            "--read-test-again",
            "--results",
            here / "results",
        ]
        flags += [] if images is None else ["--data", images]
        process = subprocess.run(
            [sys.executable, here / script.name, "retrain", *map(str, flags)],
            env={**os.environ, "PYTHONPATH": str(Path(search.__file__).parents[1])},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
        if process.returncode:
            reason = (process.stderr.strip().splitlines() or ["it gave no reason"])[-1]
            raise WorkError(f"{script.name} retrain ended with status {process.returncode}: {reason}")
        metrics: dict[str, Any] = files.read_json(here / "results" / folder.name / "retrain" / "metrics.json")
        return metrics


def _script(folder: Path, step: Mapping[str, Any]) -> Path:
    name = next((word for word in shlex.split(str(step.get("command", ""))) if word.endswith(".py")), "")
    places = [parent / Path(name).name for parent in (Path.cwd(), *folder.resolve().parents)]
    found = next((place for place in places if name and place.is_file()), None)
    if found is None:
        raise WorkError(f"{name or 'the script'} of {folder} is not found; run this where it is, or beside it")
    return found
