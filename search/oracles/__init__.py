"""What to try next. The contract: the next trial depends on the seed and on what is known of earlier ones by their order alone.

``base`` the contract, ``hyperband``, ``random_search``, ``grid_search``, ``bayesian``; ``space`` hyper-parameter spaces. The
names of ``keras_tuner.oracles`` are here too, each a subclass of KerasTuner's.
Not here: models, training and workers. An oracle knows values and scores.
"""

from __future__ import annotations

import importlib
from typing import Any

_OURS = {
    "HyperbandOracle": "hyperband",
    "RandomSearchOracle": "random_search",
    "GridSearchOracle": "grid_search",
    "BayesianOptimizationOracle": "bayesian",
}
__all__ = list(_OURS)


def __getattr__(name: str) -> Any:
    if name in _OURS:
        return getattr(importlib.import_module(f"search.oracles.{_OURS[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_OURS])
