"""What a trial's training follows and what comes of it. Only our fit reads it: a user's own code never sees a plan."""

from __future__ import annotations

import contextlib
import contextvars
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


class Stopped(Exception):
    """The training was asked to stop; what of its state can be gone on with has been saved."""


class Diverged(Exception):
    """The loss is no longer a number."""


def _never() -> bool:
    return False


@dataclass(frozen=True)
class TrainingPlan:
    """What a training follows beside the arguments of ``model.fit``.

    Attributes:
        seed: with the epoch, the only source of randomness.
        state: where the exact state is written: at the end of the training whatever ended it, when asked to stop, and
            now and then; and found again when the training was interrupted.
        identity: what the state belongs to (JSON); a state is not restored into something else.
        resume_from: the state of the training that this one continues; None starts from the model as it is.
        milestones: the epochs, ascending, at which this training was, is or will be paused; None for one stretch. How
            a stretch is compiled depends on them alone, so the result does not depend on where it was interrupted.
        xla_break_even: what XLA asks for on this machine, see :func:`search.training.xla.measured_break_even`; None
            for the usual.
        diverges: whether a loss that is no number ends the training with :class:`Diverged`; Keras trains on.
        stopping: asked after every epoch; true saves the state and raises :class:`Stopped`.
        code: a digest of the code that trains; what other code began is not gone on with, but begins at its milestone.
    """

    seed: tuple[int, ...]
    state: Path
    identity: Mapping[str, Any]
    resume_from: Path | None = None
    milestones: tuple[int, ...] | None = None
    xla_break_even: float | None = None
    diverges: bool = True
    stopping: Callable[[], bool] = _never
    code: str = ""


@dataclass
class Record:
    """What became of the trainings under one plan.

    Attributes:
        history: metric -> its value after each epoch from the very first, those before ``resume_from`` included.
        epochs: the epochs trained, as many as ``history`` has.
        epoch_seconds: what each epoch of this process took, its evaluation included.
        parameters: trainable weights of the model.
        notes: damaged states, and what was handed to Keras and why.
        not_written: the error where a state could not be written, which ends the training wherever it is caught.
    """

    history: dict[str, list[float]] = field(default_factory=dict)
    epochs: int = 0
    epoch_seconds: list[float] = field(default_factory=list)
    parameters: int = 0
    notes: list[str] = field(default_factory=list)
    not_written: OSError | None = None


@dataclass
class Followed:
    """A model that is trained under a plan.

    Attributes:
        state, resume_from: where its states are, as the plan has them for the first model.
        is_of_build: whether ``build`` returned it: it goes on from ``resume_from`` whatever epoch its ``fit`` begins with,
            as KerasTuner gives a promoted trial's model its weights; another one does if its ``fit`` says so.
        begun: whether its states have been looked for.
        lost: whether the state to go on from was damaged or missing, so that all of it is trained again.
    """

    state: Path
    resume_from: Path | None
    is_of_build: bool
    begun: bool = False
    lost: bool = False


@dataclass
class Following:
    """A plan while it is followed.

    Attributes:
        fits: the calls of ``model.fit`` so far.
        model: that of the last call, whose history the record has.
    """

    plan: TrainingPlan
    record: Record
    fits: int = 0
    model: Any = None
    _followed: weakref.WeakKeyDictionary[Any, Followed] = field(default_factory=weakref.WeakKeyDictionary)
    _models: int = 0

    def of(self, model: Any, is_of_build: bool = False) -> Followed:
        """How the plan stands with a model; models count in the order in which they first come."""
        if model not in self._followed:
            past = self.plan.resume_from
            state = _of_model(self.plan.state, self._models)
            self._followed[model] = Followed(state, past and _of_model(past, self._models), is_of_build)
            self._models += 1
        return self._followed[model]


def _of_model(path: Path, number: int) -> Path:
    return path if number == 0 else path.with_name(f"{path.stem}.{number}{path.suffix}")


_current: contextvars.ContextVar[Following | None] = contextvars.ContextVar("plan", default=None)


def current() -> Following | None:
    """The plan that this thread follows, None outside :func:`planned`."""
    return _current.get()


@contextlib.contextmanager
def planned(plan: TrainingPlan) -> Iterator[Record]:
    """Every ``model.fit`` of this thread follows ``plan``, through our fit; yields what becomes of it.

    Raises (from the ``model.fit`` inside):
        Stopped: ``plan.stopping()`` became true.
        Diverged: the loss is not finite after an epoch, and ``plan.diverges``.
        OSError: the state cannot be written.
    """
    following = Following(plan, Record())
    with _patched():
        token = _current.set(following)
        try:
            yield following.record
        finally:
            _current.reset(token)


def returned(model: Any) -> None:
    """Says that ``build`` returned the model that this thread's plan is of: of several, its states are the plan's."""
    following = current()
    if following is not None:
        following.of(model, is_of_build=True)


def restore_weights(plan: TrainingPlan, model: Any) -> bool:
    """Puts the weights of ``plan.resume_from`` into a model that was just built, as KerasTuner does for a promoted trial.

    Returns:
        Whether there was a state to take them from: false where the plan continues nothing, or the state is damaged
        or not whole, which the training then finds and records.

    Raises:
        WorkError: the model's variables are not the state's.
    """
    from search.errors import WorkError
    from search.training import checkpoint

    if plan.resume_from is None:
        return False
    try:
        state = checkpoint.read(plan.resume_from, dict(plan.identity))
    except WorkError:
        return False
    if not state.whole:
        return False
    checkpoint.restore_weights(state, model)
    return True


_patching = threading.Lock()
_patches = 0


@contextlib.contextmanager
def _patched() -> Iterator[None]:
    """Makes ``keras.Model.fit`` ours where a plan is followed; in every other thread it stays Keras's."""
    global _patches
    import keras

    from search.training.fit import train  # which takes Keras's own fit, so before ours is in its place

    def fit(self: Any, *args: Any, **kwargs: Any) -> Any:
        return train(self, *args, **kwargs) if _current.get() is not None else inherited(self, *args, **kwargs)

    inherited = keras.Model.fit
    with _patching:
        _patches += 1
        if _patches == 1:
            keras.Model.fit = fit
    try:
        yield
    finally:
        with _patching:
            _patches -= 1
            if _patches == 0:
                del keras.Model.fit  # what it inherits comes to light again
