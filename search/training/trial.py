"""The job and the outcome: all that crosses a process boundary, and how a worker turns one into the other."""

from __future__ import annotations

import itertools
import math
import random
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from search.errors import WorkError, first_line
from search.lab import data, exercise

SECONDS_BETWEEN_STATES = 10.0
SECONDS_WORTH_A_STATE = 2.0  # an epoch that takes longer may not end before its worker is stopped
MODELS_KEPT = 24  # more than a worker trains between a trial and its promotion up to R = 27; as many programs are kept
SEEDINGS_BETWEEN_FORGETTING = 50  # of TensorFlow's kernels; those of a new structure's trial take some 0.5 MB


@dataclass(frozen=True)
class Job:
    """One training.

    Attributes:
        name: the trial's id, or what a person calls the training.
        hyperparameters: the values to build the model with.
        seed: with the epoch, the only source of randomness.
        epochs: the epochs to have trained at the end, those of earlier jobs included.
        state: where the exact state is kept, and found when the training was interrupted.
        resume_from: the state to start from when ``state`` is not there yet; None starts from fresh weights.
        milestones: the epochs at which the training may pause; how each stretch is compiled depends on them alone, so
            that a continued training rounds as an uninterrupted one does.
        xla_break_even: what this machine's XLA asks for, see :func:`search.training.compiled.fit`; None for the usual.
    """

    name: str
    hyperparameters: Mapping[str, Any]
    seed: tuple[int, ...]
    epochs: int
    milestones: tuple[int, ...]
    state: Path
    resume_from: Path | None = None
    xla_break_even: float | None = None

    def identity(self, exercise_name: str, data_sha256: str) -> dict[str, Any]:
        """What the job's state belongs to, and so its owner's mark in :mod:`search.training.checkpoint`."""
        return {
            "exercise": exercise_name,
            "data": data_sha256,
            "hyperparameters": dict(self.hyperparameters),
            "seed": list(self.seed),
            "milestones": list(self.milestones),
            "xla_break_even": self.xla_break_even,
        }


@dataclass(frozen=True)
class Outcome:
    """What became of a job.

    Attributes:
        completed: whether all epochs were trained.
        history: metric -> value after each epoch, from the very first.
        parameters: trainable weights of the model.
        seconds: spent on this job, building and compiling included.
        epoch_seconds: what each epoch of this job took, its evaluation included.
        message: why it failed, or what was found damaged and trained again; mostly empty.
    """

    completed: bool
    history: dict[str, list[float]] = field(default_factory=dict)
    parameters: int = 0
    seconds: float = 0.0
    epoch_seconds: tuple[float, ...] = ()
    message: str = ""

    def final(self, metric: str, otherwise: float = math.nan) -> float:
        """The metric after the last epoch; ``otherwise`` where the job failed or has no such metric."""
        return self.history[metric][-1] if self.completed and metric in self.history else otherwise


class Stopped(Exception):
    """The worker was asked to stop; the state has been saved."""


class Trainer:
    """What a worker holds from one job to the next: the exercise, its examples, and the models it has compiled."""

    def __init__(self, script: Path, source: data.Source | str | None) -> None:
        import tensorflow as tf

        self.exercise = exercise.load(script)
        self.hypermodel = self.exercise.hypermodel()
        images = source if isinstance(source, data.Source) else data.load(source)
        task = data.TASKS[self.exercise.task]
        self.data_sha256 = images.sha256
        train, validation = data.training_examples(images, task), data.validation_examples(images, task)
        self.train = (tf.constant(train.x), tf.constant(train.y))
        self._models: OrderedDict[str, Any] = OrderedDict()  # by structure
        self._built: OrderedDict[frozenset[tuple[str, Any]], tuple[Any, str]] = OrderedDict()
        self.validation = (tf.constant(validation.x), tf.constant(validation.y))

    def run(self, job: Job, stopping: Callable[[], bool] = lambda: False) -> Outcome:
        """Trains until ``job.epochs``, keeping the state; never raises for what a configuration can cause.

        Raises:
            Stopped: ``stopping()`` became true; the state is that of the last epoch.
            OSError: the state cannot be written.
        """
        from search.training import checkpoint

        started = time.monotonic()
        identity = job.identity(self.exercise.name, self.data_sha256)
        state, notes = _latest_state(job, identity)
        try:
            hp, model = self._model(job, fresh=state is None)
            _seed(job.seed)  # a fit that draws from them draws the same whether or not a model was built before it
        except Exception as error:  # whatever the exercise's own code raises
            return Outcome(
                False, message=f"build: {type(error).__name__}: {first_line(error)}", seconds=time.monotonic() - started
            )
        history: dict[str, list[float]] = {}
        if state is not None:
            checkpoint.restore(state, model)
            history = state.history
        first = len(next(iter(history.values()), []))
        keeper = _keeper(job, history, identity, stopping)
        try:
            if first < job.epochs:
                self.hypermodel.fit(
                    hp,
                    model,
                    *self.train,
                    validation_data=self.validation,
                    epochs=job.epochs,
                    initial_epoch=first,
                    callbacks=[keeper],
                    seed=job.seed,
                    milestones=job.milestones,
                    xla_break_even=job.xla_break_even,
                )
        except Stopped:
            raise
        except Diverged as error:
            return Outcome(False, history, _parameters(model), time.monotonic() - started, message=str(error))
        except Exception as error:  # whatever the exercise's own code raises
            if error is keeper.not_written:
                raise
            return Outcome(
                False,
                history,
                message=f"fit: {type(error).__name__}: {first_line(error)}",
                seconds=time.monotonic() - started,
            )
        return Outcome(
            True, history, _parameters(model), time.monotonic() - started, tuple(keeper.epoch_seconds), "; ".join(notes)
        )

    def _model(self, job: Job, fresh: bool) -> tuple[Any, Any]:
        """The hyper-parameters and a model for them, with the seed's own weights if ``fresh``, else with any."""
        from search.training.structure import structure

        values = frozenset(job.hyperparameters.items())
        if fresh or values not in self._built or self._built[values][1] not in self._models:
            hp, model = build(self.hypermodel, job.hyperparameters, job.seed)
            model.optimizer.build(model.trainable_variables)
            key = structure(model)
            if key is None:
                return hp, model
            twin = self._models.setdefault(key, model)
            if twin is not model:
                for variable, value in zip(
                    [*twin.variables, *twin.optimizer.variables],
                    [*model.variables, *model.optimizer.variables],
                    strict=True,
                ):
                    variable.assign(value)
            self._built[values] = hp, key
        hp, key = self._built[values]
        self._models.move_to_end(key)
        self._built.move_to_end(values)
        for kept in (self._models, self._built):
            if len(kept) > MODELS_KEPT:
                kept.popitem(last=False)
        return hp, self._models[key]


def _latest_state(job: Job, identity: dict[str, Any]) -> tuple[Any, list[str]]:
    """The furthest usable state, None for fresh weights, and a line for each that is damaged: training repeats its epochs."""
    from search import files
    from search.training import checkpoint

    notes: list[str] = []
    for path in (job.state, job.resume_from):
        if path is None or not path.exists():
            continue
        try:
            return checkpoint.read(path, identity), notes
        except WorkError as error:
            notes.append(str(error))
            if path == job.state:
                files.set_aside(path)
    return None, notes


class Diverged(Exception):
    """The loss is no longer a number."""


def build(hypermodel: Any, values: Mapping[str, Any], seed: tuple[int, ...]) -> tuple[Any, Any]:
    """Builds the model for ``values``, its initial weights a function of ``seed`` alone.

    Returns:
        The ``HyperParameters``, every active one with its value, and the compiled model.

    Raises:
        TypeError: ``build`` returned something other than a compiled Keras model.
    """
    import keras
    import keras_tuner

    _seed(seed)
    hp = keras_tuner.HyperParameters()
    hp.values = dict(values)
    model = hypermodel.build(hp)
    name = type(hypermodel).__name__
    if not isinstance(model, keras.Model):
        raise TypeError(f"{name}.build returned {type(model).__name__}; expected a compiled keras.Model")
    if not model.compiled:
        raise TypeError(
            f"{name}.build returned a model that is not compiled; call model.compile(...) before returning it"
        )
    if not model.built:
        raise TypeError(
            f"{name}.build returned a model without an input shape; begin it with keras.Input(shape=(28, 28))"
        )
    return hp, model


_seedings = itertools.count()


def _seed(seed: tuple[int, ...]) -> None:
    """Seeds the generators that a process shares: Python's, NumPy's, Keras's and TensorFlow's."""
    import keras
    import numpy as np
    from tensorflow.python.eager import context

    # TensorFlow forgets every kernel when it is seeded, lest one that drew goes on with its old numbers, and optimises
    # each program anew: some 0.1 s a trial. Where none drew, it forgets now and then, since it keeps the dropped ones too.
    eager = context.context()
    handle = eager._context_handle
    drawn_from = getattr(eager, "_rng", None)
    drew = drawn_from is None or drawn_from.getstate() != random.Random(eager._seed).getstate()
    if not drew and next(_seedings) % SEEDINGS_BETWEEN_FORGETTING:
        eager._context_handle = None
    try:
        keras.utils.set_random_seed(int(np.random.SeedSequence(seed).generate_state(1)[0]))
    finally:
        eager._context_handle = handle


def _keeper(job: Job, history: dict[str, list[float]], identity: dict[str, Any], stopping: Callable[[], bool]) -> Any:
    import keras

    from search.training import checkpoint

    class Keeper(keras.callbacks.Callback):  # type: ignore[misc]
        """Adds each epoch to the history and writes the state: at the end, when asked to stop, and now and then."""

        def __init__(self) -> None:
            super().__init__()
            self.epoch_seconds: list[float] = []
            self.not_written: OSError | None = None
            self.written = time.monotonic()

        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            self.began = time.monotonic()

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            now = time.monotonic()
            self.epoch_seconds.append(now - self.began)
            if not math.isfinite(logs["loss"]):
                raise Diverged(f"diverged: the loss is {logs['loss']} after epoch {epoch + 1}")
            for metric, value in logs.items():
                history.setdefault(metric, []).append(float(value))
            stop = stopping()
            due = now - self.written > SECONDS_BETWEEN_STATES or self.epoch_seconds[-1] > SECONDS_WORTH_A_STATE
            if epoch + 1 == job.epochs or stop or due:
                try:
                    checkpoint.write(job.state, checkpoint.capture(self.model, history, identity))
                except OSError as error:
                    self.not_written = error
                    raise
                self.written = time.monotonic()
            if stop and epoch + 1 < job.epochs:
                raise Stopped

    return Keeper()


def _parameters(model: Any) -> int:
    return sum(math.prod(weight.shape) for weight in model.trainable_weights)
