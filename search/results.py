"""What a results folder holds, read and checked: the report's only source."""

from __future__ import annotations

import csv
import hashlib
import json
import math
import re
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from search import files
from search.errors import WorkError, ending
from search.oracles.space import own_values

Floats = NDArray[np.float64]
Setting = int | float | str

UNREADABLE = (
    *(OSError, ValueError, LookupError, TypeError, AttributeError, EOFError, csv.Error, BadZipFile),
    *(OverflowError, RecursionError),  # a whole number that is infinite; lists in lists in lists
)
TEST_READINGS = "test-readings.jsonl"
WHOLE = re.compile(r"[+-]?[0-9]+")
SWEEP = "sweep "  # begins the name of a sweep's step
WRITTEN = {  # by these files the results of a step are known
    "finalists": "finalists/finalists.json",
    "retrain": "retrain/metrics.json",
    "ablation": "ablation/ablation.json",
}
SETTING = "hp."  # begins the column of a hyper-parameter in trials.csv, whatever its name
METRICS = ("loss", "accuracy", "val_loss", "val_accuracy")
# Of each retrained seed. `loss_last_ten` is the median of the training loss over the last ten epochs: no spike is it.
# `best_...` are those of the epoch with the best objective, by the validation images. `epochs` were trained; `of_epoch` is
# the one whose validation loss the network has that is tested, NaN where it is none's.
SEED_METRICS = (
    *(*METRICS, "loss_last_ten", "best_epoch", "best_val_loss", "best_val_accuracy", "best_test_accuracy"),
    *("test_loss", "test_accuracy", "seconds", "epochs", "of_epoch"),
)
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
    """best.json: the winning trial and its hyper-parameters.

    Attributes:
        chosen_by: ``search``, by one training each, or ``finalists``, by the mean of several: ``score``.
    """

    trial_id: str
    score: float
    epochs: int
    best_epoch: int
    hyperparameters: dict[str, Setting]
    chosen_by: str = "search"


@dataclass(frozen=True)
class Finalist:
    """A configuration that was trained again after the search; NaN where a figure is not known.

    Attributes:
        trial_id: the trial with its best score; ``start`` where there is none.
        start: whether it is the starting model.
        parameters: trainable weights.
        seconds: the median of its trainings.
        scores: the objective after the last epoch, one a seed (s,), the same seeds for all.
    """

    trial_id: str
    start: bool
    hyperparameters: dict[str, Setting]
    parameters: int
    seconds: float
    scores: Floats


@dataclass(frozen=True)
class Finalists:
    """finalists.json: the best configurations of a search and the starting model, the best of the search first.

    Attributes:
        epochs: of each training.
        winner: which one (an index).
        level: those that are not told apart from the best mean, the best first (indices); the winner is the cheapest.
    """

    objective: str
    epochs: int
    finalists: list[Finalist]
    winner: int
    level: list[int]


@dataclass(frozen=True)
class Ablated:
    """One configuration on the way from the starting to the tuned model; NaN for a training that failed.

    Attributes:
        step: the hyper-parameters that were moved to come here, the one that the step is called by first; empty at the start.
        parameters: trainable weights, 0 where no training knew them.
        scores: the objective after the last epoch, one a seed (s,), the same seeds for all.
        message: why the first training that failed did.
        loss_function: what the loss is called, and its settings; empty where it is not recorded.
    """

    step: list[str]
    hyperparameters: dict[str, Setting]
    parameters: int
    scores: Floats
    message: str
    loss_function: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Ablation:
    """ablation.json: the path from the starting to the tuned model, one hyper-parameter a step.

    Attributes:
        epochs: of each training.
        path: the starting model, and the configuration after each step.
        images: how many the objective is of, 0 where it is not known.
    """

    objective: str
    epochs: int
    path: list[Ablated]
    images: int = 0

    def changes(self, i: int) -> dict[str, tuple[Setting | None, Setting | None]]:
        """What step ``i``, from 1, changes: by name the value before and after, None where it has none. Its own name is first."""
        before, after = self.path[i - 1].hyperparameters, self.path[i].hyperparameters
        names = dict.fromkeys((*self.path[i].step, *after, *before))
        return {name: (before.get(name), after.get(name)) for name in names if before.get(name) != after.get(name)}


@dataclass(frozen=True)
class Search:
    """One search of any kind.

    Attributes:
        space: the hyper-parameters, as ``run.json`` has them: name, values or min_value, max_value, step and sampling, conditions.
        step: what is recorded of the run: tuner, max_epochs, factor, seconds, workers, complete, objectives where there are several; whatever is known.
        damaged: files that could not be read, a line each.
    """

    folder: Path
    title: str
    objective: str
    maximise: bool
    trials: list[Trial]
    best: Best | None
    space: list[dict[str, Any]]
    step: dict[str, Any]
    damaged: list[str] = field(default_factory=list)

    def score(self, trial: Trial) -> float:
        """The objective of a completed trial, NaN for any other."""
        return trial.metrics.get(self.objective, math.nan) if trial.status == "COMPLETED" else math.nan


@dataclass(frozen=True)
class Method:
    """The starting or the tuned model after its final training, every seed of it; NaN where a figure is not known.

    Attributes:
        seeds: by measure of SEED_METRICS, a figure a seed (s,).
        history: by metric, a row a seed (s, epochs), of the epochs that all seeds have.
        outputs: the networks' outputs for the test images (s, n, k): k = 1 is the probability of the second class.
        handed_over: the seed whose network is saved.
        loss_function: what the loss is called, and its settings; empty where it was not recorded.
    """

    hyperparameters: dict[str, Setting]
    parameters: int
    seeds: dict[str, Floats]
    history: dict[str, Floats]
    outputs: NDArray[np.float32]
    handed_over: int
    loss_function: dict[str, Setting] = field(default_factory=dict)

    @property
    def repeats(self) -> int:
        """The number of seeds."""
        return len(self.seeds["loss"])

    def predicted(self) -> NDArray[np.intp]:
        """The class that each network answers for each test image (s, n)."""
        if self.outputs.shape[2] == 1:
            return (self.outputs[:, :, 0] > 0.5).astype(np.intp)
        answers: NDArray[np.intp] = self.outputs.argmax(axis=2)
        return answers

    def confidence(self) -> Floats:
        """The probability that each network gives its answer (s, n)."""
        given = self.outputs.astype(float)
        sure: Floats = np.maximum(given, 1 - given)[:, :, 0] if given.shape[2] == 1 else given.max(axis=2)
        return sure


@dataclass(frozen=True)
class Misread:
    """Test images that most of the tuned model's networks misread, the most often and most confidently misread first.

    Attributes:
        images: (m, height, width) or (m, height, width, channels) uint8.
        label, predicted: (m,), the most frequent wrong answer.
        probability: (m,), the mean that the networks which erred gave their answer.
        networks: (m,), how many erred.
    """

    images: NDArray[np.uint8]
    label: NDArray[np.int64]
    predicted: NDArray[np.int64]
    probability: Floats
    networks: NDArray[np.int64]


@dataclass(frozen=True)
class Final:
    """metrics.json and the files beside it: both methods, trained to the end and tested.

    Attributes:
        epochs: of the longest training; a ``fit`` of the exercise's own may end one before.
        labels: the test images' classes (n,).
    """

    epochs: int
    majority_accuracy: float
    test_set_read: str
    methods: dict[str, Method]
    labels: NDArray[np.intp]
    misread: Misread

    def right(self) -> dict[str, NDArray[np.bool_]]:
        """By method, whether each network reads each test image (s, n)."""
        return {name: method.predicted() == self.labels for name, method in self.methods.items()}


@dataclass(frozen=True)
class Sweep:
    """One sweep: `measures[name][i]` holds a figure a seed for `values[i]`.

    Attributes:
        held: the values that all of its models had, empty where they were not recorded.
        candidates: what was tried for `retuned`.
        images: how many an accuracy is of, 0 where it is not known.
        one_loss: whether the loss is one function at all values.
    """

    name: str
    values: list[Setting]
    measures: dict[str, list[Floats]]
    epochs: int | None
    origin: str
    retuned: str | None = None  # the hyper-parameter that was tuned for each value, if any
    chosen: dict[str, Setting] = field(default_factory=dict)  # what it was set to, by the value as text
    parameters: list[float] = field(default_factory=list)  # trainable weights of each value's model, NaN where unknown
    held: dict[str, Setting] = field(default_factory=dict)  # the values of the others; empty if not recorded
    candidates: list[Setting] = field(default_factory=list)
    images: int = 0
    one_loss: bool = True


@dataclass(frozen=True)
class Results:
    """Everything one results folder says; parts whose step has not run are None or empty.

    Attributes:
        unrecorded: files of results that no complete step is recorded to have written, which are left out.
    """

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
    finalists: Finalists | None = None
    final: Final | None = None
    sweeps: list[Sweep] = field(default_factory=list)
    ablation: Ablation | None = None
    test_readings: list[dict[str, Any]] = field(default_factory=list)
    unrecorded: list[str] = field(default_factory=list)

    @property
    def search(self) -> Search:
        """The exercise's search, as any other."""
        step = self.steps.get("search", {})
        space = list(step.get("space", []))
        return Search(self.folder, self.title, self.objective, self.maximise, self.trials, self.best, space, step)

    def stale(self) -> dict[str, str]:
        """The parts that are of another configuration than the best of today, each with the command of today's."""
        if self.best is None:
            return {}
        best, found = self.best.hyperparameters, {}
        if self.final is not None and self.final.methods["tuned"].hyperparameters != best:
            found["retrain"] = self.command("retrain --read-test-again")  # the test images were read for the other
        for sweep in self.sweeps:
            if sweep.origin == "best" and sweep.held and sweep.held != best:
                found[f"{SWEEP}{sweep.name}"] = self.command(f"{SWEEP}{shlex.quote(sweep.name)} --from best")
        if self.ablation is not None and self.ablation.path[-1].hyperparameters != best:
            found["ablation"] = self.command("ablation")
        return found

    def command(self, step: str = "") -> str:
        """The shell command that runs `step` of this exercise into this folder."""
        words = ["python", f"search_{self.name}.py"]
        options: list[str] = []
        for recorded in sorted(self.steps.values(), key=lambda step: step is not self.steps.get("search")):
            parts = shlex.split(str(recorded.get("command", "")))
            script = next((i for i, part in enumerate(parts) if part.endswith(".py")), None)
            if script is None:
                continue
            words = parts[: script + 1]
            # Without these the step would land in another folder, or be refused as a change of data or budget.
            kept = (
                "--results",
                "--quick",
                *(() if step in ("report", "summary") else ("--data",)),
            )  # these read no images
            given = parts[script + 1 :]
            valued = ("--results", "--data")
            options = [
                p
                for i, p in enumerate(given)
                if p.startswith(kept) or (i and given[i - 1] in kept and given[i - 1] in valued)
            ]
            break
        return f"{shlex.join(words)} {step} {shlex.join(options)}".replace("  ", " ").strip()

    def lab_command(self, verb: str) -> str:
        """The shell command of a verb over all exercises of the folder that this one was run into, wherever it is now."""
        words = shlex.split(self.command())
        given = [word for i, word in enumerate(words) if word.startswith("--results") or words[i - 1] == "--results"]
        quick = ["--results", "results/quick"] if "--quick" in words else []
        return shlex.join(["python", "-m", "search", *shlex.split(verb), *(given or quick)])


def lab_command_line(results: Path, verb: str) -> str:
    """What a person types for a verb over all exercises of a results folder."""
    where = "" if results.resolve() == Path("results").resolve() else f" --results {shlex.quote(str(results))}"
    return f"python -m search {verb}{where}"


def read_record(folder: Path) -> Results:
    """What `folder` (results/<exercise>) says of itself in run.json, checked; trials and figures are not read.

    Raises WorkError, in one line with the file and the remedy, for a file that is missing though its
    step is recorded as run, or that does not hold what the step writes.
    """
    with reading_record(folder, "the record of an exercise's steps"):
        run = _json(folder / "run.json")
        if not files.is_sealed(run):
            raise ValueError("it was changed since its step wrote it")
        about = run["exercise"]
        for step in run["steps"].values():
            shlex.split(str(step.get("command", "")))  # which `Results.command` takes apart
        return Results(
            folder=folder,
            name=str(about["name"]),
            title=str(about["title"]),
            question=str(about["question"]),
            task=str(about["task"]),
            classes=[str(label) for label in about["classes"]],
            objective=str(about["objective"]),
            maximise={"max": True, "min": False}[about["direction"]],
            start=dict(about["start"]),
            data={
                "test_sha256": run["data"].get("test_sha256", ""),
                **{key: run["data"][key] for key in ("source", "sha256", "train", "validation", "test")},
            },
            steps={str(name): dict(step) for name, step in run["steps"].items()},
        )


def read_test_readings(folder: Path) -> list[dict[str, Any]]:
    """Every reading of the test images, oldest first: when, why, of which search, with which settings, data and code.

    Raises:
        WorkError: the file is damaged.
    """
    path = folder / TEST_READINGS
    if not path.exists():
        return []
    with reading(path, "a line of JSON for each reading of the test images", "put it back: it is written only once"):
        return [
            {"code": None} | {key: entry[key] for key in ("when", "why", "search", "settings", "data")} | entry
            for entry in map(json.loads, path.read_text(encoding="utf-8").splitlines())
        ]


def check_unchanged(exercise: Results) -> None:
    """Whether the files that complete steps recorded are what they wrote.

    Raises:
        WorkError: one was changed since.
    """
    for name, step in exercise.steps.items():
        for file, digest in (step.get("files") or {}).items():
            path = exercise.folder / file
            if path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() != digest:
                raise WorkError(
                    f"{path}: was changed since its step wrote it; put it back, or run '{exercise.command(name)}', which "
                    "writes it again"
                )


def read_search(folder: Path) -> Results:
    """The record, the trials and the best of them, checked; see :func:`read_record`."""
    exercise = read_record(folder)
    check_unchanged(exercise)
    trials, best = _search(exercise)
    finalists = _finalists(exercise)
    if best is not None and best.chosen_by == "finalists":
        with reading(
            folder / "best.json",
            "the finalists' winner",
            f"run '{exercise.command('search')}', which writes it again, and then the finalists",
        ):
            won = None if finalists is None else finalists.finalists[finalists.winner]
            if won is None or best.hyperparameters != won.hyperparameters or best.score != won.scores.mean():
                raise ValueError(f"it holds {best.hyperparameters} with {best.score}, which is not the winner")
    return replace(exercise, trials=trials, best=best, finalists=finalists, unrecorded=_unrecorded(exercise))


def read_exercise(folder: Path) -> Results:
    """Everything in `folder`, checked; see :func:`read_record`."""
    exercise = read_search(folder)
    return replace(
        exercise,
        final=_final(exercise),
        sweeps=_sweeps(exercise),
        ablation=_ablation(exercise),
        test_readings=read_test_readings(folder),
    )


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


def _sealed(path: Path) -> dict[str, Any]:
    content = _json(path)
    if not files.is_sealed(content):
        raise ValueError("its checksum does not fit")
    return content


def _figure(entry: Any) -> float:
    """A number that may have been written as nothing, null or NaN."""
    return math.nan if entry is None or entry == "" else float(entry)


def _setting(text: str, known: list[dict[str, Any]]) -> Setting:
    """The value that a table has as ``text``.

    Args:
        known: what the space has under its name, as :func:`search.oracles.space.describe` gives it; where there is none, as
            for what ``fit`` declared, the text itself has to tell.
    """
    listed = [value for domain in known for value in domain.get("values") or ()]
    found = _reads(text)
    for value in listed:
        if str(value) == text or (_is_number(value) and found == value):
            return value  # type: ignore[no-any-return]
    return text if any(isinstance(value, str) for value in listed) else found


def _always_has_one(known: list[dict[str, Any]]) -> bool:
    """Whether no trial is without a value of the hyper-parameter, so that an empty cell is the empty text."""
    return any("" in (domain.get("values") or ()) and not domain["conditions"] for domain in known)


def _reads(text: str) -> Setting:
    """A truth value, a whole number, a number or the text itself, whichever it looks like."""
    if text in ("True", "False"):
        return text == "True"
    if WHOLE.fullmatch(text):
        return int(text)
    try:
        return text if "_" in text else float(text)  # Python passes over an underscore in a number
    except ValueError:
        return text


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def read_rows(path: Path, columns: tuple[str, ...] = ()) -> tuple[list[str], list[dict[str, str]]]:
    """The header of a CSV file of ours, which has ``columns``, and a dictionary a line, texts as they were.

    In the file a text that a spreadsheet would compute, as ``=1+1``, has an apostrophe before it; here it has none.

    Raises:
        OSError, ValueError, csv.Error: it cannot be read, lacks a column or has a line of another width.
    """
    with path.open(encoding="utf-8", newline="") as lines:
        reader = csv.DictReader(lines, strict=True)
        header = [files.cell_text(name) for name in reader.fieldnames or []]
        reader.fieldnames = header
        missing = [column for column in columns if column not in header]
        if missing:
            raise ValueError(f"no column {missing[0]!r}")
        rows = list(reader)
    for number, row in enumerate(rows, start=2):
        if None in row or None in row.values():
            raise ValueError(f"line {number} does not have {len(header)} fields")
    return header, [{name: files.cell_text(cell) for name, cell in row.items()} for row in rows]


def _complete(exercise: Results, step: str) -> bool:
    """Whether the step is recorded as complete: only then what it wrote is read, and missed where it is not there."""
    return bool(exercise.steps.get(step, {}).get("complete", False))


def _unrecorded(exercise: Results) -> list[str]:
    """The results that no complete step of the record wrote, as what was copied here from elsewhere; they are left out."""
    folder, complete = exercise.folder, [step for step in exercise.steps if _complete(exercise, step)]
    recorded = {f"sweeps/{files.slug(step.removeprefix(SWEEP))}.csv" for step in complete if step.startswith(SWEEP)}
    recorded |= {file for step, file in WRITTEN.items() if step in complete}
    if "search" in exercise.steps:  # an incomplete one is shown as far as it has come
        recorded |= {"trials.csv", "best.json"}
    found = ["trials.csv", "best.json", *WRITTEN.values()]
    found += [path.relative_to(folder).as_posix() for path in sorted(folder.glob("sweeps/*.csv"))]
    return [file for file in found if file not in recorded and (folder / file).exists()]


def _search(exercise: Results) -> tuple[list[Trial], Best | None]:
    path = exercise.folder / "trials.csv"
    if "search" not in exercise.steps:
        return [], None
    remedy = f"run '{exercise.command('search')}' again"
    with reading(path, "one row a trial of the search", remedy):
        header, rows = read_rows(path, ("trial_id", "status", "epochs", "best_epoch", *METRICS, "seconds", "message"))
        settings = [column.removeprefix(SETTING) for column in header if column.startswith(SETTING)]
        space = exercise.search.space
        known = {name: [hp for hp in space if hp["name"] == name] for name in settings}
        trials = [_trial(row, known, exercise.objective) for row in rows]
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
            chosen_by=str(best.get("chosen_by", "search")),
        )


def _finalists(exercise: Results) -> Finalists | None:
    path = exercise.folder / WRITTEN["finalists"]
    if not _complete(exercise, "finalists"):
        return None
    with reading(path, "the figures of the finalists", f"run '{exercise.command('finalists')}' again"):
        content = _sealed(path)
        rows = [
            Finalist(
                trial_id=str(row["trial_id"]),
                start=bool(row["start"]),
                hyperparameters=dict(row["hyperparameters"]),
                parameters=int(row["parameters"]),
                seconds=_figure(row["seconds"]),
                scores=np.array([_figure(score) for score in row["scores"]]),
            )
            for row in content["finalists"]
        ]
        won, level = int(content["winner"]), [int(i) for i in content["level"]]
        if won not in level or not all(0 <= i < len(rows) for i in level):
            raise ValueError(f"the winner is {won} of {level}, of {len(rows)} finalists")
        return Finalists(str(content["objective"]), int(content["epochs"]), rows, won, level)


def _ablation(exercise: Results) -> Ablation | None:
    path = exercise.folder / WRITTEN["ablation"]
    if not _complete(exercise, "ablation"):
        return None
    with reading(path, "the figures of each step", f"run '{exercise.command('ablation')}' again"):
        content = _sealed(path)
        losses = exercise.steps["ablation"].get("loss_functions") or [{}] * len(content["path"])
        rows = [
            Ablated(
                step=[str(name) for name in row["step"]],
                hyperparameters=dict(row["hyperparameters"]),
                parameters=int(row["parameters"]),
                scores=np.array([_figure(score) for score in row["scores"]]),
                message=str(row["message"]),
                loss_function=dict(loss),
            )
            for row, loss in zip(content["path"], losses, strict=True)
        ]
        if len(rows) < 2 or {len(row.scores) for row in rows} != {int(content["seeds"])} or not content["seeds"]:
            raise ValueError(f"{[len(row.scores) for row in rows]} scores on the path, of {content['seeds']} seeds")
        images = int(exercise.data["validation"])
        found = Ablation(str(content["objective"]), int(content["epochs"]), rows, images)
        if not all(found.changes(i) for i in range(1, len(rows))):
            raise ValueError("a step changes nothing")
        return found


def _trial(row: dict[str, str], known: dict[str, list[dict[str, Any]]], objective: str) -> Trial:
    return Trial(
        trial_id=row["trial_id"],
        status=row["status"],
        bracket=int(row["bracket"]) if row.get("bracket") else None,
        round=int(row["round"]) if row.get("round") else None,
        promoted_from=row.get("promoted_from", ""),
        initial_epoch=int(row.get("initial_epoch") or 0),
        epochs=int(row["epochs"] or 0),
        hyperparameters={
            name: _setting(row[SETTING + name], domains)
            for name, domains in known.items()
            if row[SETTING + name] != "" or _always_has_one(domains)
        },
        best_epoch=_figure(row["best_epoch"]),
        metrics={name: _figure(row[name]) for name in {*METRICS, objective}},
        seconds=_figure(row["seconds"]),
        message=row["message"],
    )


def _history(path: Path, remedy: str) -> dict[str, Floats]:
    """By metric, a row a seed (s, epochs), of the epochs that all seeds have: a ``fit`` may end them at different ones."""
    with reading(path, "one row an epoch of each seed", remedy):
        _, rows = read_rows(path, ("seed", "epoch", *METRICS))
        seeds = sorted({int(row["seed"]) for row in rows})
        if not rows:
            raise ValueError("no epoch")
        by_seed = [[row for row in rows if int(row["seed"]) == seed] for seed in seeds]
        epochs = [[int(row["epoch"]) for row in group] for group in by_seed]
        if any(numbers != list(range(1, len(numbers) + 1)) for numbers in epochs):
            raise ValueError("a seed does not have every epoch from the first on, each once")
        shared = min(map(len, epochs))
        return {
            name: np.array([[_figure(row[name]) for row in group[:shared]] for group in by_seed]) for name in METRICS
        }


def _final(exercise: Results) -> Final | None:
    folder = exercise.folder / "retrain"
    path = folder / "metrics.json"
    if not _complete(exercise, "retrain"):
        return None
    remedy = f"run '{exercise.command('retrain')}' again"
    history = {
        "start": _history(folder / "start_history.csv", remedy),
        "tuned": _history(folder / "history.csv", remedy),
    }
    misread = _misread(folder / "misread.npz", remedy)
    labels, outputs = _predictions(folder / "predictions.npz", remedy, len(exercise.classes))
    with reading(path, "the figures of the final training", remedy):
        metrics = _json(path)
        methods = {name: _method(metrics[name], history[name], outputs[name]) for name in history}
        trained = np.concatenate([method.seeds["epochs"] for method in methods.values()])
        return Final(
            epochs=int(metrics["epochs"] if np.isnan(trained).any() else trained.max()),
            majority_accuracy=float(metrics["majority_accuracy"]),
            test_set_read=str(metrics["test_set_read"]),
            methods=methods,
            labels=labels,
            misread=misread,
        )


def _method(entry: dict[str, Any], history: dict[str, Floats], outputs: NDArray[np.float32]) -> Method:
    seeds = len(entry["seeds"])
    if not len(outputs) == len(history["loss"]) == seeds > 0:
        raise ValueError(
            f"{seeds} seeds, but {len(history['loss'])} histories and {len(outputs)} networks' predictions"
        )
    return Method(
        hyperparameters=dict(entry["hyperparameters"]),
        parameters=int(entry["parameters"]),
        seeds={name: np.array([_figure(seed.get(name)) for seed in entry["seeds"]]) for name in SEED_METRICS},
        history=history,
        outputs=outputs,
        handed_over=int(entry["handed_over"]),
        loss_function=dict(entry.get("loss_function", {})),
    )


def _predictions(path: Path, remedy: str, classes: int) -> tuple[NDArray[np.intp], dict[str, NDArray[np.float32]]]:
    with (
        reading(path, "every network's outputs for the test images", remedy),
        np.load(path, allow_pickle=False) as file,
    ):
        labels, outputs = file["label"], {name: file[name] for name in ("start", "tuned")}
        for name, array in outputs.items():
            if array.ndim != 3 or array.shape[1] != len(labels) or array.shape[2] != (1 if classes == 2 else classes):
                raise ValueError(f"{name} has the shape {array.shape} for {len(labels)} images of {classes} classes")
        if not len(labels):
            raise ValueError("no image")
        return labels.astype(np.intp), outputs


def _misread(path: Path, remedy: str) -> Misread:
    with reading(path, "the misread test images", remedy), np.load(path, allow_pickle=False) as arrays:
        return Misread(
            images=arrays["images"],
            label=arrays["label"],
            predicted=arrays["predicted"],
            probability=arrays["probability"],
            networks=arrays["networks"],
        )


def _sweeps(exercise: Results) -> list[Sweep]:
    recorded = [step for step in exercise.steps if step.startswith(SWEEP) and _complete(exercise, step)]
    return [_sweep(exercise, step.removeprefix(SWEEP)) for step in recorded]


def _sweep(exercise: Results, name: str) -> Sweep:
    path = exercise.folder / "sweeps" / f"{files.slug(name)}.csv"
    with reading(path, "one row a training of the sweep", f"run '{exercise.command(f'sweep {name}')}' again"):
        _, rows = read_rows(path, ("value", "seed", *SWEEP_METRICS))
        if not rows:
            raise ValueError("no training")
        step = exercise.steps[f"sweep {name}"]
        known = [{"values": step["values"]}] if "values" in step else []
        read = [_setting(row["value"], known) for row in rows]
        values = list(dict.fromkeys(read))
        if not any(isinstance(value, str) for value in values):
            values.sort(key=float)
        grouped = [[row for row, its in zip(rows, read, strict=True) if its == value] for value in values]
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
            parameters=[_figure(group[0].get("parameters")) for group in grouped],
            held=dict(step.get("held", {})),
            candidates=list(step.get("candidates", [])),
            images=int(exercise.data["validation"]),
            one_loss=bool(step.get("one_loss", True)),
        )


def read_project(folder: Path, objective: str | None = None, direction: str | None = None) -> Search:
    """The search in a KerasTuner project folder, its own or this project's, finished or killed.

    A trial whose file cannot be read is left out and named.

    Args:
        folder: that of ``oracle.json``.
        objective, direction: what was optimised, ``"max"`` or ``"min"``. None: the metric that every completed trial's
            score is of; where there is none, as for several objectives, the score itself, which KerasTuner minimises.

    Raises:
        WorkError: there is no search here, or none of its trials can be read.
    """
    paths = sorted(folder.glob("trial_*/trial.json"))
    if not paths and not (folder / "oracle.json").exists():
        raise WorkError(
            f"{folder}: no oracle.json and no trial_*/trial.json; expected a KerasTuner project folder, "
            "<directory>/<project_name>; give that folder"
        )
    states, damaged = [], []
    for path in paths:
        try:
            state = json.loads(path.read_text(encoding="utf-8"))
            _project_trial(state, "score")
            states.append(state)
        except UNREADABLE as error:
            damaged.append(f"{path.parent.name}/{path.name}: {type(error).__name__}, {' '.join(str(error).split())}")
    if damaged and not states:
        raise WorkError(f"{folder}: no trial can be read; the first: {damaged[0]}; restore the folder from a copy")
    found, minimised = _objective(states)
    objective = objective or found
    maximise = {"max": True, "min": False, None: not minimised}[direction]
    trials = [_project_trial(state, objective) for state in states]
    completed = [trial for trial in trials if math.isfinite(trial.metrics.get(objective, math.nan))]
    completed = [trial for trial in completed if trial.status == "COMPLETED"]
    best = None
    if completed:
        top = (max if maximise else min)(completed, key=lambda trial: trial.metrics[objective])
        best = Best(top.trial_id, top.metrics[objective], top.epochs, int(top.best_epoch), top.hyperparameters)
    space = {hp["name"]: hp for state in states for hp in map(_described, state["hyperparameters"].get("space", []))}
    step: dict[str, Any] = {"complete": False} if any(trial.status == "RUNNING" for trial in trials) else {}
    marks = [state.get("search") or {} for state in states]
    if several := next((mark["objective"] for mark in marks if len(mark.get("objective") or ()) > 1), None):
        step["objectives"] = several
    return Search(folder, folder.resolve().name, objective, maximise, trials, best, list(space.values()), step, damaged)


def _project_trial(state: dict[str, Any], objective: str) -> Trial:
    values = dict(state["hyperparameters"]["values"])
    series = {name: _observed(metric) for name, metric in state["metrics"]["metrics"].items()}
    best = state.get("best_step")
    score = _figure(state.get("score"))
    metrics = {name: by_step.get(-1 if best is None else int(best), math.nan) for name, by_step in series.items()} | {
        "score": score
    }
    if objective not in metrics:
        metrics[objective] = score
    steps = max((len(by_step) for by_step in series.values() if len(by_step) > 1), default=0)
    kept = max((len(curve) for execution in state.get("history") or () for curve in execution.values()), default=0)
    initial, epochs = int(values.get("tuner/initial_epoch") or 0), int(values.get("tuner/epochs") or max(steps, kept))
    return Trial(
        trial_id=str(state["trial_id"]),
        status={"INVALID": "FAILED"}.get(state["status"], str(state["status"])),
        bracket=values.get("tuner/bracket"),
        round=values.get("tuner/round"),
        promoted_from=str(values.get("tuner/trial_id", "") or ""),
        initial_epoch=initial,
        epochs=epochs,
        hyperparameters=own_values(values),
        # KerasTuner counts a promoted trial's steps from where it went on; an exercise keeps every epoch since the first.
        best_epoch=0.0 if best is None else float(best) + 1 + (0 if steps == epochs else initial),
        metrics=metrics,
        seconds=_figure(state.get("seconds")),
        message=ending(str(state.get("message") or "")),
    )


def _observed(metric: dict[str, Any]) -> dict[int, float]:
    """A metric's value by step, the mean of its executions."""
    return {
        int(entry["step"]): float(np.mean([_figure(value) for value in entry["value"]]))
        for entry in metric["observations"]
        if entry["value"]
    }


def _objective(states: list[dict[str, Any]]) -> tuple[str, bool]:
    """The metric that every completed trial's score is of, and whether it is minimised."""
    scored = [state for state in states if state["status"] == "COMPLETED" and state.get("score") is not None]
    names = dict.fromkeys(name for state in scored for name in state["metrics"]["metrics"])
    for name in sorted(names, key=lambda name: not name.startswith("val_")):
        pairs = [
            (_figure(state["score"]), _observed(state["metrics"]["metrics"].get(name, {"observations": []})), state)
            for state in scored
        ]
        if all(math.isclose(score, by_step.get(state["best_step"], math.nan)) for score, by_step, state in pairs):
            return name, scored[0]["metrics"]["metrics"][name].get("direction", "min") == "min"
    return "score", True


def _described(hp: dict[str, Any]) -> dict[str, Any]:
    """A hyper-parameter of KerasTuner's JSON as ``run.json`` has it."""
    config = hp["config"]
    values = config.get("values")
    if hp["class_name"] == "Boolean":
        values = [False, True]
    elif hp["class_name"] == "Fixed":
        values = [config["value"]]
    conditions = [
        f"{entry['config']['name']} is {' or '.join(map(str, entry['config']['values']))}"
        for entry in config.get("conditions", [])
    ]
    limits = {key: config.get(key) for key in ("min_value", "max_value", "step", "sampling")}
    return {"name": str(config["name"]), "values": values, **limits, "conditions": ", ".join(conditions)}
