"""Bayesian optimisation: a Gaussian process over the trials that are known."""

from __future__ import annotations

from typing import Any

import keras_tuner
import numpy as np

from search.oracles.base import SeededOracle


class BayesianOptimizationOracle(SeededOracle, keras_tuner.oracles.BayesianOptimizationOracle):  # type: ignore[misc]
    """KerasTuner's arguments. Trial i knows the scores of trials 0 to i - 4: up to 4 workers are busy, and any number of
    them, none included, asks for the same trials."""

    look_ahead = 4
    hides = True

    def reseed(self, seed: int) -> None:
        """See :class:`search.oracles.base.SeededOracle`."""
        super().reseed(seed)
        self._random_state = np.random.RandomState(seed)
        self.gpr = self._make_gpr()

    def _propose(self, trial_id: str) -> dict[str, Any]:
        values = self._chosen()  # KerasTuner draws none after the initial points
        return super()._propose(trial_id) if values is None else {"status": "RUNNING", "values": values}
