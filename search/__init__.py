"""Hyper-parameter search for Keras models: KerasTuner's public names, the tuners ours, and the lab's exercises.

Each name is imported when it is first used, so that a command answers at once. The rooms, and which way imports go:

    lab, tuner -> study -> workers -> training          study -> oracles, results          report -> results

``lab`` exercises, command line, data; ``tuner`` KerasTuner's tuners with our engine; ``study`` the search; ``oracles`` what to
try next; ``workers`` where trials run; ``training`` how they train; ``results`` the files; ``report`` pages and tables.
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from search.lab.entry import main
    from search.lab.exercise import Exercise, HyperModel
    from search.training.fit import fit
    from search.tuner import BayesianOptimization, GridSearch, Hyperband, RandomSearch, Tuner

_OURS = {
    "main": "search.lab.entry",
    "Exercise": "search.lab.exercise",
    "HyperModel": "search.lab.exercise",
    "fit": "search.training.fit",
    **dict.fromkeys(("Tuner", "Hyperband", "RandomSearch", "GridSearch", "BayesianOptimization"), "search.tuner"),
}
_MODULES = ("applications", "engine", "errors", "oracles", "tuners")
_KERAS_TUNERS = ("HyperParameters", "Objective", "Oracle", "SklearnTuner", "synchronized")

__all__ = [
    "BayesianOptimization",
    "Exercise",
    "GridSearch",
    "HyperModel",
    "HyperParameters",
    "Hyperband",
    "Objective",
    "Oracle",
    "RandomSearch",
    "SklearnTuner",
    "Tuner",
    "applications",
    "engine",
    "errors",
    "fit",
    "main",
    "oracles",
    "synchronized",
    "tuners",
]


def __getattr__(name: str) -> Any:
    if name in _OURS:
        try:
            return getattr(importlib.import_module(_OURS[name]), name)
        except KeyboardInterrupt:
            if hasattr(sys, "ps1") or not _OURS[name].startswith("search.lab"):
                raise
            print("error: interrupted; nothing was begun", file=sys.stderr)
            os._exit(130)  # an exercise's script, which has not come to `main` yet
    if name in _MODULES:
        return importlib.import_module(f"search.{name}")
    if name in _KERAS_TUNERS or name == "__version__":
        return getattr(importlib.import_module("keras_tuner"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
