"""One trial of a tuner, wherever it runs: KerasTuner's ``run_trial``, each execution under a plan of ours."""

from __future__ import annotations

import contextlib
import time
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import keras
import keras_tuner
import numpy as np
from keras_tuner.errors import FailedTrialError, FatalError, FatalRuntimeError, FatalTypeError
from keras_tuner.src.engine import tuner_utils

from search import training
from search.tuner.epochs import BestEpoch, EpochHooks
from search.tuner.own_code import HOOKS, is_known, own_steps
from search.workers.trial import Job, Outcome, Problem, isolated, renumber


class RunsTrials(keras_tuner.Tuner):  # type: ignore[misc]
    """How a tuner builds and trains.

    Attributes:
        _running: the problem and the job of the trial that runs, and what asks it to stop; None between trials.
        _records: of its executions.
        _own_steps: what of the user's runs in the models that ``build`` made for the space; empty where nothing does.
    """

    oracle: Any
    _running: tuple[Problem, Job, Callable[[], bool]] | None
    _own_steps: str
    _records: list[training.Record]

    def run_job(self, problem: Problem, job: Job, stopping: Callable[[], bool]) -> Outcome:
        """Runs a trial by ``run_trial`` and returns what became of it; see :func:`search.workers.trial.run`."""
        began, trial = time.monotonic(), job.trial
        self.oracle.trials[trial.trial_id] = trial
        self._running, self._records = (problem, job, stopping), []
        plan = job.plan(problem, stopping)
        record = training.Record()
        try:
            training.seed_everything(plan.seed)
            with training.planned(plan) as record:  # for a run_trial of the user's own
                self._run_and_update_trial(trial, *problem.args, **problem.kwargs)
            trial.status = "COMPLETED"
        except (FatalError, training.Stopped, KeyboardInterrupt):
            raise
        except BaseException as error:  # whatever the user's own code raises, sys.exit included
            if isinstance(error, OSError) and any(one.not_written is error for one in (record, *self._records)):
                raise
            trial.status = "FAILED" if isinstance(error, FailedTrialError) else "INVALID"
            trial.message = traceback.format_exc()
        finally:
            self._running = None
        records = self._records or [record]
        return Outcome(
            completed=trial.status == "COMPLETED",
            history=records[0].history,
            parameters=records[-1].parameters,
            seconds=time.monotonic() - began,
            epoch_seconds=tuple(second for one in records for second in one.epoch_seconds),
            message="; ".join(note for one in records for note in one.notes),
            trial=trial,
            executions=tuple(one.history for one in records),
        )

    def run_trial(self, trial: Any, *args: Any, **kwargs: Any) -> Any:
        """See ``keras_tuner.Tuner.run_trial``; every execution follows a plan of its own."""
        if self._running is None:
            return super().run_trial(trial, *args, **kwargs)
        problem, job, stopping = self._running
        best = BestEpoch(self.oracle.objective, self._get_checkpoint_fname(trial.trial_id))
        given = kwargs.pop("callbacks", None) or []
        results = []
        for execution in range(self.executions_per_trial):
            callbacks = self._deepcopy_callbacks(given)
            self._configure_tensorboard_dir(callbacks, trial, execution)
            callbacks += [*self._hooks(trial), best]
            plan = job.plan(problem, stopping, execution)
            training.seed_everything(plan.seed)
            with training.planned(plan) as record, isolated():
                self._records.append(record)
                results.append(self._build_and_fit_model(trial, *args, callbacks=callbacks, **kwargs))
        best.write()
        self._need_objective(results)
        return results

    def _need_objective(self, results: list[Any]) -> None:
        """Raises ``FailedTrialError``, where KerasTuner raises ``KeyError``, of trainings without the objective's metrics."""
        wanted = [name for name, _ in objectives_of(self.oracle.objective)]
        for one in results:
            metrics = list(one.history) if isinstance(one, keras.callbacks.History) else wanted
            missing = [name for name in wanted if name not in metrics]
            if missing:
                validated = any(name.startswith("val_") for name in metrics)
                data = missing[0].startswith("val_") and not validated
                remedy = "give search() validation_data or validation_split" if data else "compile the model with it"
                raise FailedTrialError(
                    f"the objective {missing[0]} is not among the metrics ({', '.join(metrics)}); {remedy}, or take another "
                    "objective"
                )

    def _hooks(self, trial: Any) -> list[keras.callbacks.Callback]:
        """What calls this tuner's ``on_epoch_...`` and ``on_batch_...``, where they are not KerasTuner's, which do nothing."""
        overridden = [name for name in HOOKS if not is_known(getattr(type(self), name))]
        if not overridden:
            return []
        if any("batch" in name for name in overridden):
            return [tuner_utils.TunerCallback(self, trial)]
        return [EpochHooks(self, trial)]

    def _try_build(self, hp: Any) -> Any:
        renumber()
        model = self._build_hypermodel(hp)
        if not isinstance(model, keras.models.Model):
            raise FatalTypeError(
                "Expected the model-building function, or HyperModel.build() to return a valid Keras Model instance. "
                f"Received: {model} of type {type(model)}."
            )
        size = sum(int(np.prod(weight.shape)) for weight in model.trainable_weights) if model.built else 0
        if self.max_model_size and size > self.max_model_size:
            raise FailedTrialError(f"Oversized model: {size} parameters. Skip model.")
        training.returned(model)
        return model

    def _populate_initial_space(self) -> None:
        """See KerasTuner's; nothing that ``build`` does to the process stays, and it does not end it."""
        with isolated(), self._noting_own_steps():
            try:
                super()._populate_initial_space()
            except SystemExit as error:
                raise FatalRuntimeError(
                    f"{type(self.hypermodel).__name__}.build called sys.exit({error.code!r}) when it was asked for the "
                    "space; expected a model"
                ) from None

    @contextlib.contextmanager
    def _noting_own_steps(self) -> Iterator[None]:
        """Inside it, every model that ``build`` makes is looked at; see :func:`search.tuner.own_code.own_steps`."""
        if self.hypermodel is None:
            yield
            return
        kept, build = dict(vars(self.hypermodel)), self.hypermodel.build

        def noting(hp: Any) -> Any:
            model = build(hp)
            self._own_steps = self._own_steps or own_steps(model)
            return model

        self.hypermodel.build = noting
        try:
            yield
        finally:
            if "build" in kept:
                self.hypermodel.build = kept["build"]
            else:
                del self.hypermodel.build


def objectives_of(objective: Any) -> list[tuple[str, str]]:
    return [(one.name, one.direction) for one in getattr(objective, "objectives", [objective])]
