"""KerasTuner's tuners with our engine under them: their arguments and methods, and what a search needs beside.

What a tuner does is KerasTuner's; ours are where trials run (``workers``, ``cluster``), how they train (``search.training``
inside every trial), which trial comes next (``search.oracles``) and what a search that is run again finds (``trial.json`` of every
trial that has ended, told again in order).

Not here: what a trial's training does, where its process comes from, which trial is next.
"""

from __future__ import annotations

from typing import Any

import keras
import keras_tuner

from search import training
from search.oracles.bayesian import BayesianOptimizationOracle
from search.oracles.grid_search import GridSearchOracle
from search.oracles.hyperband import HyperbandOracle
from search.oracles.random_search import RandomSearchOracle
from search.tuner.searching import Searching
from search.workers import threads

if keras.backend.backend() == "tensorflow":
    threads.one_for_arithmetic()
    threads.share_gpus()


class Tuner(Searching):
    __doc__ = f"{keras_tuner.Tuner.__doc__}\n{Searching.__doc__}"


class RandomSearch(Searching, keras_tuner.RandomSearch):  # type: ignore[misc]
    __doc__ = f"{keras_tuner.RandomSearch.__doc__}\n{Searching.__doc__}"
    _stock, _own_oracle = keras_tuner.RandomSearch, RandomSearchOracle


class GridSearch(Searching, keras_tuner.GridSearch):  # type: ignore[misc]
    __doc__ = f"{keras_tuner.GridSearch.__doc__}\n{Searching.__doc__}"
    _stock, _own_oracle = keras_tuner.GridSearch, GridSearchOracle


class BayesianOptimization(Searching, keras_tuner.BayesianOptimization):  # type: ignore[misc]
    __doc__ = f"{keras_tuner.BayesianOptimization.__doc__}\n{Searching.__doc__}"
    _stock, _own_oracle = keras_tuner.BayesianOptimization, BayesianOptimizationOracle


class Hyperband(Searching, keras_tuner.Hyperband):  # type: ignore[misc]
    __doc__ = f"{keras_tuner.Hyperband.__doc__}\n{Searching.__doc__}"
    _stock, _own_oracle = keras_tuner.Hyperband, HyperbandOracle

    def run_trial(self, trial: Any, *args: Any, **kwargs: Any) -> Any:
        """See ``keras_tuner.Hyperband.run_trial``: ``fit`` is told the epochs of the trial's rung."""
        values = trial.hyperparameters.values
        if "tuner/epochs" in values:
            kwargs |= {"epochs": values["tuner/epochs"], "initial_epoch": values["tuner/initial_epoch"]}
        return super().run_trial(trial, *args, **kwargs)

    def _build_hypermodel(self, hp: Any) -> Any:
        """A promoted trial's model has the weights, and later all else, that the trial before it ended with."""
        if self._running is None or "tuner/trial_id" not in hp.values:
            return keras_tuner.Tuner._build_hypermodel(self, hp)
        problem, job, stopping = self._running
        plan = job.plan(problem, stopping)
        if plan.resume_from is None or not plan.resume_from.exists():
            return keras_tuner.Hyperband._build_hypermodel(self, hp)
        model = keras_tuner.Tuner._build_hypermodel(self, hp)
        if model.built:
            training.restore_weights(plan, model)
        return model


def __getattr__(name: str) -> Any:
    """KerasTuner's other tuners, which a user reaches as ``keras_tuner.tuners``."""
    if name.startswith("__"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(keras_tuner.tuners, name)
