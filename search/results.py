"""What a results folder holds, read and checked: the report's only source."""

from __future__ import annotations

import csv
import json
import math
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from search.errors import WorkError

Floats = NDArray[np.float64]
Setting = int | float | str

UNREADABLE = (
    *(OSError, ValueError, LookupError, TypeError, AttributeError, EOFError, csv.Error, BadZipFile),
    *(OverflowError, RecursionError),  # a whole number that is infinite; lists in lists in lists
)
METRICS = ("loss", "accuracy", "val_loss", "val_accuracy")
SEED_METRICS = (*METRICS, "test_loss", "test_accuracy", "seconds")
SWEEP_METRICS = (*METRICS, "seconds_per_epoch")


@dataclass(frozen=True)
class Trial:
    """One row of trials.csv; figures that the row leaves empty are NaN."""

    trial_id: str
    status: str
    bracket: int | None
    round: int | None
    promoted_from: str
    initial_epoch: int
    epochs: int
    hyperparameters: dict[str, Setting]
    best_epoch: float
    metrics: dict[str, float]
    seconds: float
    message: str


@dataclass(frozen=True)
class Best:
    """best.json: the winning trial and its hyper-parameters."""

    trial_id: str
    score: float
    epochs: int
    best_epoch: int
    hyperparameters: dict[str, Setting]


@dataclass(frozen=True)
class Method:
    """The starting or the tuned model after its final training; the figures are those of its median seed by validation loss."""

    hyperparameters: dict[str, Setting]
    parameters: int
    figures: dict[str, float]
    interval: tuple[float, float]
    confusion: NDArray[np.int64]
    seeds: dict[str, Floats]
    history: dict[str, Floats]

    @property
    def repeats(self) -> int:
        return len(self.seeds["loss"])


@dataclass(frozen=True)
class Misread:
    """Misread test images of the tuned model, most confident first."""

    images: NDArray[np.uint8]
    label: NDArray[np.int64]
    predicted: NDArray[np.int64]
    probability: Floats


@dataclass(frozen=True)
class Final:
    """metrics.json and the files beside it: both methods, trained to the end and tested."""

    epochs: int
    test_samples: int
    majority_accuracy: float
    test_set_read: str
    methods: dict[str, Method]
    only_tuned_right: int
    only_start_right: int
    p_value: float
    misread: Misread


@dataclass(frozen=True)
class Sweep:
    """One sweep: `measures[name][i]` holds a figure a seed for `values[i]`."""

    name: str
    values: list[Setting]
    measures: dict[str, list[Floats]]
    epochs: int | None
    origin: str
    retuned: str | None = None  # the hyper-parameter that was tuned for each value, if any
    chosen: dict[str, Setting] = field(default_factory=dict)  # what it was set to, by the value as text


@dataclass(frozen=True)
class Exercise:
    """Everything one results folder says; parts whose step has not run are None or empty."""

    folder: Path
    name: str
    title: str
    question: str
    task: str
    classes: list[str]
    objective: str
    maximise: bool
    start: dict[str, Setting]
    data: dict[str, Any]
    steps: dict[str, dict[str, Any]]
    trials: list[Trial] = field(default_factory=list)
    best: Best | None = None
    final: Final | None = None
    sweeps: list[Sweep] = field(default_factory=list)

    def command(self, step: str = "") -> str:
        """The shell command that runs `step` of this exercise into this folder."""
        words = ["python", f"search_{self.name}.py"]
        options: list[str] = []
        for recorded in self.steps.values():
            parts = shlex.split(str(recorded.get("command", "")))
            script = next((i for i, part in enumerate(parts) if part.endswith(".py")), None)
            if script is None:
                continue
            words = parts[: script + 1]
            # Without these the step would land in another folder, or be refused as a change of data or budget.
            kept = ("--results", "--data", "--quick")
            given = parts[script + 1 :]
            options = [p for i, p in enumerate(given) if p.startswith(kept) or (i and given[i - 1] in kept[:2])]
            break
        return f"{shlex.join(words)} {step} {shlex.join(options)}".replace("  ", " ").strip()

    def better(self, a: float, b: float) -> bool:
        """Whether score `a` beats score `b` by the objective."""
        return a > b if self.maximise else a < b


def read_record(folder: Path) -> Exercise:
    """What `folder` (results/<exercise>) says of itself in run.json, checked; trials and figures are not read.

    Raises WorkError, in one line with the file and the remedy, for a file that is missing though its
    step is recorded as run, or that does not hold what the step writes.
    """
    with reading_record(folder, "the record of an exercise's steps"):
        run = _json(folder / "run.json")
        about = run["exercise"]
        for step in run["steps"].values():
            shlex.split(str(step.get("command", "")))  # which `Exercise.command` takes apart
        return Exercise(
            folder=folder,
            name=str(about["name"]),
            title=str(about["title"]),
            question=str(about["question"]),
            task=str(about["task"]),
            classes=[str(label) for label in about["classes"]],
            objective=str(about["objective"]),
            maximise={"max": True, "min": False}[about["direction"]],
            start=dict(about["start"]),
            data={key: run["data"][key] for key in ("source", "sha256", "train", "validation", "test")},
            steps={str(name): dict(step) for name, step in run["steps"].items()},
        )


def read_search(folder: Path) -> Exercise:
    """The record, the trials and the best of them, checked; see :func:`read_record`."""
    exercise = read_record(folder)
    trials, best = _search(exercise)
    return replace(exercise, trials=trials, best=best)


def read_exercise(folder: Path) -> Exercise:
    """Everything in `folder`, checked; see :func:`read_record`."""
    exercise = read_search(folder)
    return replace(exercise, final=_final(exercise), sweeps=_sweeps(exercise))


@contextmanager
def reading(path: Path, expected: str, remedy: str) -> Iterator[None]:
    """Turn whatever goes wrong while reading `path` into one line for the person who asked."""
    try:
        yield
    except FileNotFoundError as error:
        raise WorkError(f"{path}: missing; expected {expected}; {remedy}") from error
    except UNREADABLE as error:
        reason = f"no entry {error}" if isinstance(error, KeyError) else " ".join(str(error).split())
        raise WorkError(f"{path}: cannot be used ({reason}); expected {expected}; {remedy}") from error


@contextmanager
def reading_record(folder: Path, expected: str) -> Iterator[None]:
    """As :func:`reading`, for what `folder`'s run.json says."""
    remedy = f"rename it and run `python search_{folder.name}.py search` again: finished trials are used as they are"
    with reading(folder / "run.json", expected, remedy):
        yield


def _json(path: Path) -> dict[str, Any]:
    content = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(content, dict):
        raise ValueError(f"holds a {type(content).__name__}, not an object")
    if content.get("format", 1) != 1:
        raise ValueError(f"format {content['format']!r}, this program reads format 1")
    return content


def _figure(entry: Any) -> float:
    """A number that may have been written as nothing, null or NaN."""
    return math.nan if entry is None or entry == "" else float(entry)


def _setting(text: str) -> Setting:
    if text in ("True", "False"):
        return text == "True"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def read_rows(path: Path, columns: tuple[str, ...] = ()) -> tuple[list[str], list[dict[str, str]]]:
    """The header of a CSV file of ours, which has ``columns``, and a dictionary a line.

    Raises:
        OSError, ValueError, csv.Error: it cannot be read, lacks a column or has a line of another width.
    """
    with path.open(encoding="utf-8", newline="") as lines:
        reader = csv.DictReader(lines, strict=True)
        header = list(reader.fieldnames or [])
        missing = [column for column in columns if column not in header]
        if missing:
            raise ValueError(f"no column {missing[0]!r}")
        rows = list(reader)
    for number, row in enumerate(rows, start=2):
        if None in row or None in row.values():
            raise ValueError(f"line {number} does not have {len(header)} fields")
    return header, rows


def _wanted(exercise: Exercise, step: str, path: Path) -> bool:
    """A file is read when it is there, and missed when its step is recorded as run."""
    return step in exercise.steps or path.exists()


def _search(exercise: Exercise) -> tuple[list[Trial], Best | None]:
    path = exercise.folder / "trials.csv"
    if not _wanted(exercise, "search", path):
        return [], None
    remedy = f"run '{exercise.command('search')}' again"
    with reading(path, "one row a trial of the search", remedy):
        header, rows = read_rows(path, ("trial_id", "status", "epochs", "best_epoch", *METRICS, "seconds", "message"))
        settings = header[header.index("epochs") + 1 : header.index("best_epoch")]
        trials = [_trial(row, settings, exercise.objective) for row in rows]
    path = exercise.folder / "best.json"
    if not any(trial.status == "COMPLETED" for trial in trials) and not path.exists():
        return trials, None
    if not exercise.steps.get("search", {}).get("complete", False) and not path.exists():
        return trials, None
    with reading(path, "the winning trial", remedy):
        best = _json(path)
        return trials, Best(
            trial_id=str(best["trial_id"]),
            score=_figure(best["score"]),
            epochs=int(best["epochs"]),
            best_epoch=int(best["best_epoch"]),
            hyperparameters=dict(best["hyperparameters"]),
        )


def _trial(row: dict[str, str], settings: list[str], objective: str) -> Trial:
    return Trial(
        trial_id=row["trial_id"],
        status=row["status"],
        bracket=int(row["bracket"]) if row.get("bracket") else None,
        round=int(row["round"]) if row.get("round") else None,
        promoted_from=row.get("promoted_from", ""),
        initial_epoch=int(row.get("initial_epoch") or 0),
        epochs=int(row["epochs"] or 0),
        hyperparameters={name: _setting(row[name]) for name in settings if row[name] != ""},
        best_epoch=_figure(row["best_epoch"]),
        metrics={name: _figure(row[name]) for name in {*METRICS, objective}},
        seconds=_figure(row["seconds"]),
        message=row["message"],
    )


def _history(path: Path, remedy: str) -> dict[str, Floats]:
    with reading(path, "one row an epoch", remedy):
        _, rows = read_rows(path, ("epoch", *METRICS))
        if not rows:
            raise ValueError("no epoch")
        return {name: np.array([_figure(row[name]) for row in rows]) for name in ("epoch", *METRICS)}


def _final(exercise: Exercise) -> Final | None:
    folder = exercise.folder / "retrain"
    path = folder / "metrics.json"
    if not _wanted(exercise, "retrain", path):
        return None
    remedy = f"run '{exercise.command('retrain')}' again"
    history = {
        "start": _history(folder / "start_history.csv", remedy),
        "tuned": _history(folder / "history.csv", remedy),
    }
    misread = _misread(folder / "misread.npz", remedy)
    with reading(path, "the figures of the final training", remedy):
        metrics = _json(path)
        paired = metrics["mcnemar"]
        return Final(
            epochs=int(metrics["epochs"]),
            test_samples=int(metrics["test_samples"]),
            majority_accuracy=float(metrics["majority_accuracy"]),
            test_set_read=str(metrics["test_set_read"]),
            methods={name: _method(metrics[name], history[name], len(exercise.classes)) for name in history},
            only_tuned_right=int(paired["only_tuned_right"]),
            only_start_right=int(paired["only_start_right"]),
            p_value=_figure(paired["p_value"]),
            misread=misread,
        )


def _method(entry: dict[str, Any], history: dict[str, Floats], classes: int) -> Method:
    confusion = np.array(entry["confusion"], dtype=np.int64)
    if confusion.shape != (classes, classes):
        raise ValueError(f"confusion matrix of shape {confusion.shape} for {classes} classes")
    low, high = entry["interval"]
    return Method(
        hyperparameters=dict(entry["hyperparameters"]),
        parameters=int(entry["parameters"]),
        figures={name: _figure(entry.get(name)) for name in SEED_METRICS},
        interval=(_figure(low), _figure(high)),
        confusion=confusion,
        seeds={name: np.array([_figure(seed.get(name)) for seed in entry["seeds"]]) for name in SEED_METRICS},
        history=history,
    )


def _misread(path: Path, remedy: str) -> Misread:
    with reading(path, "the misread test images", remedy), np.load(path, allow_pickle=False) as arrays:
        return Misread(
            images=arrays["images"],
            label=arrays["label"],
            predicted=arrays["predicted"],
            probability=arrays["probability"],
        )


def _sweeps(exercise: Exercise) -> list[Sweep]:
    folder = exercise.folder / "sweeps"
    recorded = [step.removeprefix("sweep ") for step in exercise.steps if step.startswith("sweep ")]
    found = sorted(path.stem for path in folder.glob("*.csv"))
    return [_sweep(exercise, name) for name in [*recorded, *(name for name in found if name not in recorded)]]


def _sweep(exercise: Exercise, name: str) -> Sweep:
    path = exercise.folder / "sweeps" / f"{name}.csv"
    with reading(path, "one row a training of the sweep", f"run '{exercise.command(f'sweep {name}')}' again"):
        _, rows = read_rows(path, ("value", "seed", *SWEEP_METRICS))
        if not rows:
            raise ValueError("no training")
        values = list(dict.fromkeys(_setting(row["value"]) for row in rows))
        if not any(isinstance(value, str) for value in values):
            values.sort(key=float)
        grouped = [[row for row in rows if _setting(row["value"]) == value] for value in values]
        step = exercise.steps.get(f"sweep {name}", {})
        return Sweep(
            name=name,
            values=values,
            measures={
                measure: [np.array([_figure(row[measure]) for row in group]) for group in grouped]
                for measure in SWEEP_METRICS
            },
            epochs=int(step["epochs"]) if "epochs" in step else None,
            origin=str(step.get("from", "start")),
            retuned=step.get("retuned"),
            chosen=step.get("chosen", {}),
        )
