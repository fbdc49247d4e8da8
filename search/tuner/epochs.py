"""Callbacks of a tuner's own: what keeps the best epoch's weights, and what calls a subclass's hooks."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras_tuner.src.engine import tuner_utils


class BestEpoch(tuner_utils.SaveBestEpoch):  # type: ignore[misc]
    """Keeps the weights of the best epoch in memory, and writes them once, at the end of a ``fit`` or of the trial."""

    def __init__(self, objective: Any, path: str) -> None:
        super().__init__(objective, path)
        self.best_weights: list[Any] | None = None
        self._best_model: Any = None
        self._written = False

    def on_train_begin(self, logs: Any = None) -> None:
        self._best_model = self._best_model or self.model

    def _save_model(self) -> None:
        self._best_model, self._written = self.model, False
        self.best_weights = [_copied(weight) for weight in self.model.weights]

    def get_state(self) -> dict[str, Any]:
        """What belongs to the state of a training that is interrupted."""
        return {"best_value": float(self.best_value), "best_weights": self.best_weights}

    def set_state(self, state: dict[str, Any]) -> None:
        self.best_value, self.best_weights = state["best_value"], state["best_weights"]

    def on_train_end(self, logs: Any = None) -> None:
        self.write()  # what comes behind may give the model other weights

    def write(self) -> None:
        if self.best_weights is None or self._written:
            return
        model, self._written = self._best_model, True
        now = [_copied(weight) for weight in model.weights]
        for weight, value in zip(model.weights, self.best_weights, strict=True):
            weight.assign(value)
        model.save_weights(self.filepath)
        for weight, value in zip(model.weights, now, strict=True):
            weight.assign(value)


class EpochHooks(keras.callbacks.Callback):  # type: ignore[misc]
    """Calls a tuner's ``on_epoch_begin`` and ``on_epoch_end``, and wants nothing between batches."""

    def __init__(self, tuner: Any, trial: Any) -> None:
        super().__init__()
        self.tuner, self.trial = tuner, trial

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.tuner.on_epoch_begin(self.trial, self.model, epoch, logs=logs)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.tuner.on_epoch_end(self.trial, self.model, epoch, logs=logs)


def _copied(weight: Any) -> Any:
    return np.array(keras.ops.convert_to_numpy(weight.value))
