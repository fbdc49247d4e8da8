"""What a results folder says, in memory: an exercise's parts, and a search of any kind."""

from __future__ import annotations

import math
import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Setting = int | float | str

SWEEP = "sweep "  # begins the name of a sweep's step
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

    @property
    def spent(self) -> int:
        """The epochs that it trained itself: a promoted trial goes on from another's."""
        return max(0, self.epochs - self.initial_epoch)


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

    def own_best(self) -> Best | None:
        """The completed trial with the best score, the oldest of equals; None before the first."""
        scored = [trial for trial in self.trials if math.isfinite(self.score(trial))]
        if not scored:
            return None
        top = (max if self.maximise else min)(scored, key=self.score)
        return Best(top.trial_id, self.score(top), top.epochs, int(top.best_epoch), top.hyperparameters)

    def ended(self) -> list[Trial]:
        """The trials that completed or failed, in their order."""
        return [trial for trial in self.trials if trial.status in ("COMPLETED", "FAILED")]

    def scores(self) -> list[float]:
        """The objective of each trial that ended, NaN for one that failed."""
        return [self.score(trial) for trial in self.ended()]


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
            options = self._kept(parts[script + 1 :], ("--data",) if step not in ("report", "summary") else ())
            break
        return f"{shlex.join(words)} {step} {shlex.join(options)}".replace("  ", " ").strip()

    def _kept(self, given: list[str], valued: tuple[str, ...]) -> list[str]:
        """Of the options given, ``--quick`` and those that are asked for, with this folder's place.

        The place is the recorded one, unless that holds another copy of the exercise by now.
        """
        named = _with_values(given, ("--results",))
        default = Path("results", "quick") if "--quick" in given else Path("results")
        recorded = (Path(named[-1].removeprefix("--results=")) if named else default) / self.name
        if not (recorded / "run.json").is_file() or recorded.resolve() == self.folder.resolve():
            return _with_values(given, ("--results", *valued), "--quick")
        return ["--results", str(self.folder.parent), *_with_values(given, valued, "--quick")]

    def lab_command(self, verb: str) -> str:
        """The shell command of a verb over all exercises of the folder that this one was run into, wherever it is now."""
        words = shlex.split(self.command())
        given = [word for i, word in enumerate(words) if word.startswith("--results") or words[i - 1] == "--results"]
        quick = ["--results", "results/quick"] if "--quick" in words else []
        return shlex.join(["python", "-m", "search", *shlex.split(verb), *(given or quick)])


def _with_values(given: list[str], valued: tuple[str, ...], *flags: str) -> list[str]:
    """Of the words of a command these options, as they stand there."""
    return [
        word
        for i, word in enumerate(given)
        if word in flags or word.split("=")[0] in valued or (i and given[i - 1] in valued)
    ]


def lab_command_line(results: Path, verb: str) -> str:
    """What a person types for a verb over all exercises of a results folder."""
    where = "" if results.resolve() == Path("results").resolve() else f" --results {shlex.quote(str(results))}"
    return f"python -m search {verb}{where}"
