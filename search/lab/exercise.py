"""What a student writes: an exercise and its HyperModel. Light: Keras is imported when a model is built, not before."""

from __future__ import annotations

import functools
import importlib.abc
import importlib.machinery
import importlib.util
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from search.errors import RequestError

if TYPE_CHECKING:
    import keras
    import keras_tuner


class _Base:
    """In the place of ``keras_tuner.HyperModel`` until KerasTuner, which takes seconds, is imported."""


class HyperModel(_Base):
    """A ``keras_tuner.HyperModel``; an exercise's trains with the batch size and the schedule in its space.

    Subclasses define ``build(self, hp)`` and return a compiled Keras model. Wherever KerasTuner is imported, this class
    has its ``HyperModel`` as a base; that it is not imported here lets an exercise script answer ``--help`` at once.

    Attributes:
        is_an_exercises: whether :meth:`Exercise.made` made it. What a user gives to a tuner trains as KerasTuner's.
    """

    is_an_exercises = False

    def __new__(cls, *args: Any, **kwargs: Any) -> HyperModel:
        import keras_tuner  # noqa: F401

        instance: HyperModel = object.__new__(cls)
        return instance

    def build(self, hp: keras_tuner.HyperParameters) -> keras.Model:
        """Returns a compiled model for the values in ``hp``."""
        raise NotImplementedError(f"{type(self).__name__} has no build(self, hp)")

    def fit(
        self, hp: keras_tuner.HyperParameters, model: keras.Model, *args: Any, **kwargs: Any
    ) -> keras.callbacks.History:
        """Trains as ``model.fit`` does; in an exercise with the batch size in ``hp`` (Keras's 32 where the space has none).

        Where ``hp`` there has ``schedule`` as ``"cosine"``, the learning rate falls to zero, see
        :func:`search.lab.schedule.cosine`.
        """
        if not self.is_an_exercises:
            return model.fit(*args, **kwargs)
        from search.lab import schedule
        from search.training.fit import fit

        size = {"batch_size": hp.values["batch_size"]} if "batch_size" in hp.values else {}
        if hp.values.get("schedule") == "cosine":
            annealing = schedule.callback(model, kwargs.get("epochs", 1))
            kwargs["callbacks"] = [annealing, *(kwargs.get("callbacks") or ())]
        return fit(model, *args, **{"verbose": 0, **size, **kwargs})  # what Keras trains itself draws no bars


class _JoinKerasTuner(importlib.abc.MetaPathFinder):
    """Makes ``keras_tuner.HyperModel`` the base of :class:`HyperModel` as soon as KerasTuner has been imported."""

    def find_spec(self, name: str, path: Any, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        if name != "keras_tuner":
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def execute_and_join(module: ModuleType) -> None:
                execute(module)
                sys.meta_path.remove(self)
                HyperModel.__bases__ = (module.HyperModel,)

            spec.loader.exec_module = execute_and_join  # type: ignore[method-assign]
        return spec


if "keras_tuner" in sys.modules:
    HyperModel.__bases__ = (sys.modules["keras_tuner"].HyperModel,)
else:
    sys.meta_path.insert(0, _JoinKerasTuner())


@dataclass(frozen=True)
class Exercise:
    """One exercise of the lab.

    Attributes:
        name: the folder under ``results/``.
        title, question: what the report prints above its figures.
        task: ``"zero"`` (digit 0 or not) or ``"digits"`` (as many classes as the labels have, ten of MNIST).
        hypermodel: the :class:`HyperModel` subclass, not an instance.
        start: the starting model's hyper-parameters, the lab's literal ones; those left out take their default.
        first: configurations that a search tries first, after the starting model: those known to serve.
        sweeps: the hyper-parameters that the lab asks to try one by one.
        retuned: for a sweep of the first, the hyper-parameter that is tuned anew for each value: an optimizer compared
            at another one's learning rate is not compared.
        max_epochs: Hyperband's R, the epochs of the longest trial.
        trial_seconds: a trial that takes longer is stopped, tried again from its last state, and then marked failed.
        minutes: what the whole exercise may take, unless the command says otherwise by ``--budget``; None for as long as it
            takes.
        seeds: trainings of each model that is retrained, of each value of a sweep and of each step of an ablation, unless
            the command says otherwise by ``--seeds``.
        objective: the validation metric by which the search chooses, as in ``val_accuracy`` or ``val_loss``.
        direction: ``"max"`` or ``"min"`` of the objective; None for what KerasTuner knows of Keras's metrics.
    """

    name: str
    title: str
    question: str
    task: str
    hypermodel: type[HyperModel]
    start: Mapping[str, Any]
    sweeps: tuple[str, ...]
    first: tuple[Mapping[str, Any], ...] = ()
    retuned: Mapping[str, str] = field(default_factory=dict)
    max_epochs: int = 27
    minutes: float | None = None
    seeds: int = 5
    objective: str = "val_accuracy"
    direction: str | None = None
    trial_seconds: float = 3600.0

    def check(self) -> None:
        """Refuses what a person can get wrong in the fields above and what needs no model to be seen.

        Raises:
            RequestError: a field holds something else than it should.
        """
        from search.files import SET_ASIDE
        from search.lab.data import TASKS
        from search.lab.options import QUICK_FOLDER

        hypermodel, sweeps, epochs, limit = self.hypermodel, self.sweeps, self.max_epochs, self.trial_seconds
        kind = hypermodel.__name__ if isinstance(hypermodel, type) else type(hypermodel).__name__
        for name, good, expected in (
            ("name", isinstance(self.name, str) and re.fullmatch(r"\w[\w.-]*", self.name), "the name of a folder"),
            ("name", self.name != QUICK_FOLDER, f"another: results/{QUICK_FOLDER} is the folder of --quick"),
            ("name", not SET_ASIDE.search(str(self.name)), "another: so are folders called that were set aside"),
            ("task", self.task in tuple(TASKS), f"one of {', '.join(map(repr, TASKS))}"),
            (
                "hypermodel",
                isinstance(hypermodel, type) and issubclass(hypermodel, HyperModel),
                f"a subclass of search.HyperModel, the class itself and not an instance (this is of {kind})",
            ),
            ("start", isinstance(self.start, Mapping), "a dictionary, as in {'batch_size': 32}"),
            (
                "sweeps",
                isinstance(sweeps, (tuple, list)) and all(isinstance(sweep, str) for sweep in sweeps),
                "a tuple of names, as in ('batch_size',)",
            ),
            (
                "first",
                isinstance(self.first, (tuple, list)) and all(isinstance(values, Mapping) for values in self.first),
                "a tuple of dictionaries, as in ({'batch_size': 64},)",
            ),
            ("max_epochs", isinstance(epochs, int) and epochs >= 1, "a whole number from 1"),
            ("trial_seconds", _is_above_0(limit), "a number of seconds above 0"),
            ("minutes", self.minutes is None or _is_above_0(self.minutes), "a number of minutes above 0, or None"),
            ("seeds", isinstance(self.seeds, int) and self.seeds >= 1, "a whole number from 1"),
            (
                "objective",
                isinstance(self.objective, str) and self.objective.startswith("val_"),
                "the name of a metric on the validation images, as in 'val_accuracy'",
            ),
            ("direction", self.direction in ("max", "min", None), "'max', 'min' or None"),
        ):
            if not good:
                raise RequestError(f"the Exercise's {name} is {getattr(self, name)!r}; expected {expected}")

    def made(self) -> HyperModel:
        """A new hypermodel of the exercise."""
        hypermodel = self.hypermodel()
        hypermodel.is_an_exercises = True
        return hypermodel

    @functools.cached_property
    def better(self) -> str:
        """``"max"`` or ``"min"``: which objective is better.

        Raises:
            RequestError: the exercise does not say, and KerasTuner does not know.
        """
        direction = self.direction or {"val_loss": "min", "val_accuracy": "max"}.get(self.objective)
        if direction is None:  # what a finished exercise says does not wait for KerasTuner's import
            from keras_tuner.engine.metrics_tracking import infer_metric_direction

            direction = infer_metric_direction(self.objective)
        if direction is None:
            raise RequestError(
                f'whether {self.objective} is better large or small is not known; add direction="max" or "min" to the Exercise'
            )
        return direction


def _is_above_0(number: Any) -> bool:
    return isinstance(number, (int, float)) and number > 0


def load(script: Path) -> Exercise:
    """Imports the exercise that ``script`` defines as ``EXERCISE``.

    Raises:
        RequestError: the script defines none.
    """
    name = script.stem
    module = sys.modules.get(name)
    if module is None or getattr(module, "__file__", None) != str(script):
        spec = importlib.util.spec_from_file_location(name, script)
        if spec is None or spec.loader is None:
            raise RequestError(f"{script} is not a Python script; expected an exercise")
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
    exercise = getattr(module, "EXERCISE", None)
    if not isinstance(exercise, Exercise):
        raise RequestError(f"{script} defines no EXERCISE; expected EXERCISE = Exercise(...)")
    return exercise
