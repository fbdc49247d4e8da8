"""The problem, the job and the outcome: all that crosses a process boundary, and how a worker turns one into the other."""

from __future__ import annotations

import contextlib
import math
import os
import random
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from search import training
from search.errors import WorkError, first_line
from search.training import Stopped
from search.training import plan as plans


@dataclass(frozen=True)
class Problem:
    """What every job of a search has in common; pickled once for all workers.

    Attributes:
        name: what the trained model is called, a part of each state's identity.
        data: the fingerprint of the data, the other part.
        hypermodel: a ``keras_tuner.HyperModel``; an instance, with whatever its ``__init__`` was given.
        args, kwargs: of ``hypermodel.fit`` after ``hp`` and ``model``, or of ``tuner.run_trial`` after ``trial``.
        tuner: a ``keras_tuner.Tuner`` of ours whose ``run_trial`` runs the jobs; None where ``build`` and ``fit`` do.
        seconds: a job that takes longer loses its worker; None for no limit.
        code: a digest of what beside the data decides a training. What other code began, begins anew.
    """

    name: str
    data: str
    hypermodel: Any = None
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    tuner: Any = None
    seconds: float | None = None
    code: str = ""


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
        initial_epoch: what a promoted trial has trained before.
        xla_break_even: what this machine's XLA asks for, see :class:`search.training.TrainingPlan`; None for the usual.
        keep_best: the objective and its direction, to keep the weights of the best epoch in ``best``; None keeps none.
        trial: KerasTuner's, where a tuner runs it; its executions keep ``state`` with their number in the name.
        kwargs: of ``fit``, beside those of the problem.
    """

    name: str
    hyperparameters: Mapping[str, Any]
    seed: tuple[int, ...]
    epochs: int
    milestones: tuple[int, ...] | None
    state: Path
    resume_from: Path | None = None
    initial_epoch: int = 0
    xla_break_even: float | None = None
    keep_best: tuple[str, str] | None = None
    trial: Any = None
    kwargs: Mapping[str, Any] = field(default_factory=dict)

    @property
    def left(self) -> Path:
        """Where the network is kept as ``fit`` left it, where that is not as its last ``model.fit`` ended; see :func:`run`."""
        return self.state.with_name(f"{self.state.stem}.left{self.state.suffix}")

    @property
    def best(self) -> Path:
        """Where the weights of the best epoch are kept, see :class:`search.training.best.KeepBest`."""
        return self.state.with_name(f"{self.state.stem}.best{self.state.suffix}")

    def files(self) -> list[Path]:
        """The files that are there of this job's trainings: its states, one a model and execution, and the best epoch's weights."""
        folder, name, suffix = self.state.parent, self.state.stem, self.state.suffix
        further = [
            *folder.glob(f"{name}.[0-9]*{suffix}"),
            *(folder.glob(f"{name}-[0-9]*{suffix}") if self.trial else ()),
        ]
        return [path for path in (self.state, self.best, *sorted(further)) if path.exists()]

    def callbacks(self) -> list[Any]:
        """What a training has beside the callbacks of ``fit`` itself."""
        if self.keep_best is None:
            return []
        from search.training.best import KeepBest

        return [KeepBest(*self.keep_best, self.best)]

    def identity(self, name: str, data: str) -> dict[str, Any]:
        """What the job's state belongs to, and so its owner's mark in :mod:`search.training.checkpoint`."""
        return {
            "problem": name,
            "data": data,
            "hyperparameters": dict(self.hyperparameters),
            "seed": list(self.seed),
            "milestones": None if self.milestones is None else list(self.milestones),
            "xla_break_even": self.xla_break_even,
        }

    def plan(self, problem: Problem, stopping: Callable[[], bool], execution: int = 0) -> training.TrainingPlan:
        """What the trainings of this job follow."""
        return training.TrainingPlan(
            seed=(*self.seed, execution) if execution else self.seed,
            state=_of_execution(self.state, execution),
            identity=self.identity(problem.name, problem.data),
            code=problem.code,
            resume_from=None if self.resume_from is None else _of_execution(self.resume_from, execution),
            milestones=self.milestones,
            xla_break_even=self.xla_break_even,
            diverges=problem.tuner is None,  # KerasTuner's tuners score the epochs before
            stopping=stopping,
        )


def _of_execution(state: Path, execution: int) -> Path:
    return state if execution == 0 else state.with_name(f"{state.stem}-{execution}{state.suffix}")


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
        space: the ``HyperParameters`` as ``build`` and ``fit`` left them, those they declared included; None where
            ``build`` failed.
        trial: KerasTuner's, with its status, metrics and message; None where no tuner ran it.
        executions: the history of each execution, where a tuner ran it.
    """

    completed: bool
    history: dict[str, list[float]] = field(default_factory=dict)
    parameters: int = 0
    seconds: float = 0.0
    epoch_seconds: tuple[float, ...] = ()
    message: str = ""
    space: Any = None
    trial: Any = None
    executions: tuple[dict[str, list[float]], ...] = ()

    @property
    def trained_seconds(self) -> float | None:
        """What all of its epochs took; None where a part of them was trained before."""
        epochs = max(map(len, self.history.values()), default=0)
        return sum(self.epoch_seconds) if epochs and len(self.epoch_seconds) == epochs else None

    def final(self, metric: str, otherwise: float = math.nan) -> float:
        """The metric after the last epoch; ``otherwise`` where the job failed or has no such metric."""
        return self.history[metric][-1] if self.completed and metric in self.history else otherwise


def run(problem: Problem, job: Job, stopping: Callable[[], bool] = lambda: False) -> Outcome:
    """Trains until ``job.epochs``, keeping the state; never raises for what a configuration can cause.

    Raises:
        Stopped: ``stopping()`` became true; the state is that of the last epoch.
        OSError: the state cannot be written.
        keras_tuner.errors.FatalError: the user's code asks for the search to end.
    """
    if problem.tuner is not None:
        with isolated():
            outcome: Outcome = problem.tuner.run_job(problem, job, stopping)
            return outcome
    started = time.monotonic()
    plan = job.plan(problem, stopping)
    at, hp = "build", None
    with isolated(), training.planned(plan) as record:
        try:
            hp, model = build(problem.hypermodel, job.hyperparameters, job.seed)
            training.returned(model)
            with contextlib.suppress(WorkError):  # of another model: the training finds it, and says so
                training.restore_weights(plan, model)
            training.seed_everything(job.seed)  # a fit draws the same whatever build has drawn
            at = "fit"
            results = problem.hypermodel.fit(
                hp,
                model,
                *problem.args,
                **{
                    **problem.kwargs,
                    **job.kwargs,
                    "epochs": job.epochs,
                    "initial_epoch": job.initial_epoch,
                    "callbacks": job.callbacks(),
                },
            )
            history = _history(plan, model, record, results)
            if job.keep_best is not None:
                _keep_as_left(plan, model, history, job.left)
        except (Stopped, KeyboardInterrupt):
            raise
        except BaseException as error:  # whatever the user's own code raises, sys.exit included
            if error is record.not_written:
                raise
            return Outcome(False, record.history, record.parameters, time.monotonic() - started, (), said(error, at))
    seconds, notes = time.monotonic() - started, "; ".join(record.notes)
    parameters = sum(math.prod(weight.shape) for weight in model.trainable_weights)
    return Outcome(True, history, parameters, seconds, tuple(record.epoch_seconds), notes, hp)


def said(error: BaseException, at: str) -> str:
    """A failed trial's message, one line."""
    if isinstance(error, training.Diverged):
        return str(error)
    if isinstance(error, SystemExit):
        return f"{at}: the code called sys.exit({'' if error.code is None else error.code})"
    return f"{at}: {type(error).__name__}: {first_line(error)}"


def _history(plan: training.TrainingPlan, model: Any, record: training.Record, results: Any) -> dict[str, list[float]]:
    """The history of the model that ``build`` returned, whatever else ``fit`` has trained.

    Raises:
        TypeError: what ``fit`` returned is of another model, or is no dictionary where nothing was trained by ``model.fit``.
    """
    if not record.history:
        return _as_history(results)
    if getattr(results, "model", model) is not model:
        raise TypeError("it returned the History of another model; expected that of the model which build returned")
    following = plans.current()
    if following is not None and following.model is model:
        return record.history
    if not hasattr(results, "history") or not plan.state.exists():
        raise TypeError("it trained another model last; expected the History of the model which build returned")
    from search.training import checkpoint

    return checkpoint.read(plan.state, dict(plan.identity)).history


def _keep_as_left(plan: training.TrainingPlan, model: Any, history: Mapping[str, list[float]], path: Path) -> None:
    """Writes the network where ``fit`` changed it after ``model.fit``, as by an average of weights, or did without that."""
    from search.training import checkpoint

    path.unlink(missing_ok=True)
    now = checkpoint.capture(model, dict(history), dict(plan.identity), whole=False)
    if plan.state.exists():
        ended = checkpoint.read(plan.state, dict(plan.identity))
        pairs = zip(ended.variables[: ended.weights], now.variables[: now.weights], strict=False)
        if ended.weights == now.weights and all(np.array_equal(one, other) for one, other in pairs):
            return
    checkpoint.write(path, now)


def _as_history(results: Any) -> dict[str, list[float]]:
    """What a ``fit`` that trains without ``model.fit`` returned, as one epoch: a dictionary of metrics.

    Raises:
        TypeError: it is no dictionary.
    """
    if hasattr(results, "history"):
        results = {metric: values[-1] for metric, values in results.history.items()}
    if not isinstance(results, dict):
        raise TypeError(f"it returned {type(results).__name__}; expected a History or a dictionary of metrics")
    return {str(metric): [float(value)] for metric, value in results.items()}


@contextlib.contextmanager
def isolated() -> Iterator[None]:
    """What a trial's code changes for the whole process is put back.

    The working directory, Keras's global settings, and where Python's and NumPy's random numbers are.
    """
    import keras

    config = keras.config
    folder = os.getcwd()
    drawn, drawn_by_numpy = random.getstate(), np.random.get_state()  # noqa: NPY002  (the user's)
    policy, floatx = config.dtype_policy(), config.floatx()
    epsilon, image_format = config.epsilon(), config.image_data_format()
    computing: contextlib.AbstractContextManager[None] = contextlib.nullcontext()
    if keras.backend.backend() == "tensorflow":
        from search.workers import threads

        computing = threads.without_vain_passes()
    try:
        with computing:
            yield
    finally:
        os.chdir(folder)
        random.setstate(drawn)
        np.random.set_state(drawn_by_numpy)  # noqa: NPY002
        config.set_floatx(floatx)
        config.set_epsilon(epsilon)
        config.set_image_data_format(image_format)
        config.set_dtype_policy(policy)


def renumber() -> None:
    """Keras numbers layers anew, as at the start of a process; its settings stay, and so do TensorFlow's kernels."""
    import keras

    policy, bars = keras.config.dtype_policy(), keras.config.is_interactive_logging_enabled()
    keep: contextlib.AbstractContextManager[None] = contextlib.nullcontext()
    if keras.backend.backend() == "tensorflow":
        from search.training import _tensorflow

        keep = _tensorflow.kernels_kept()
    with keep:
        keras.backend.clear_session(free_memory=False)
    keras.config.set_dtype_policy(policy)
    if not bars:  # in a worker
        keras.config.disable_interactive_logging()


def configuration(values: Mapping[str, Any]) -> str:
    """The values of hyper-parameters as the key of a dictionary."""
    return repr(sorted(values.items()))


def declaring(hypermodel: Any, known: dict[str, list[Any]] | None = None) -> Callable[[Any], None]:
    """Calls ``build`` for the hyper-parameters that it declares, once for the same values; nothing that it does stays.

    Args:
        known: what ``build`` has declared, by :func:`configuration`; filled.
    """
    known = {} if known is None else known

    def build(hyperparameters: Any) -> None:
        values = configuration(hyperparameters.values)
        if values in known:
            hyperparameters.merge(known[values], overwrite=False)
            return
        try:
            with isolated():
                renumber()
                hypermodel.build(hyperparameters)
        finally:
            known[values] = list(hyperparameters.space)

    return build


def build(hypermodel: Any, values: Mapping[str, Any], seed: tuple[int, ...]) -> tuple[Any, Any]:
    """Builds the model for ``values``, its initial weights a function of ``seed`` alone.

    Returns:
        The ``HyperParameters``, every active one with its value, and the compiled model.

    Raises:
        TypeError: ``build`` returned something other than a compiled Keras model.
    """
    import keras
    import keras_tuner

    renumber()
    training.seed_everything(seed)
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
