"""The network of a training's best epoch, kept beside the one that it ends with."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import keras
import numpy as np

from search import files


class KeepBest(keras.callbacks.Callback):  # type: ignore[misc]
    """Keeps the weights after the epoch with the best objective, the first of equals, and writes them when training ends.

    Its memory is part of the training's state, so an interrupted training keeps the same epoch's.

    Args:
        objective: the metric, as in the logs of an epoch; without it there nothing is kept.
        direction: ``max`` or ``min``.
        path: the ``.npz`` to write, ``weight_0000`` and on in the order of ``model.weights``.
    """

    def __init__(self, objective: str, direction: str, path: Path) -> None:
        super().__init__()
        self.objective, self.path = objective, path
        self._sign = 1.0 if direction == "max" else -1.0
        self._best, self._weights = -math.inf, []  # type: float, list[Any]

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Compares, and copies where it is better; what is no number is not."""
        score = self._sign * float((logs or {}).get(self.objective, math.nan))
        if score > self._best:
            self._best = score
            self._weights = [np.array(keras.ops.convert_to_numpy(weight.value)) for weight in self.model.weights]

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Writes what was kept, if anything was."""
        if self._weights:
            files.write_npz(self.path, **{f"weight_{i:04d}": weight for i, weight in enumerate(self._weights)})

    def get_state(self) -> dict[str, Any]:
        """What belongs to the state of a training that is interrupted."""
        return {"best": self._best if self._weights else None, "weights": self._weights}

    def set_state(self, state: dict[str, Any]) -> None:
        """Takes back what :meth:`get_state` gave."""
        self._best = -math.inf if state["best"] is None else state["best"]
        self._weights = state["weights"]


def restore_best(path: Path, model: keras.Model) -> bool:
    """Puts the kept weights into ``model``; false where nothing was kept, or of another model."""
    if not path.exists():
        return False
    with np.load(path, allow_pickle=False) as kept:
        weights = [kept[name] for name in sorted(kept.files)]
    if [weight.shape for weight in weights] != [tuple(weight.shape) for weight in model.weights]:
        return False
    for weight, value in zip(model.weights, weights, strict=True):
        weight.assign(value)
    return True
