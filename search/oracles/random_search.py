"""Random search: independent draws."""

from __future__ import annotations

from typing import Any

import keras_tuner

from search.oracles.base import Rung, SeededOracle


class RandomSearchOracle(SeededOracle, keras_tuner.oracles.RandomSearchOracle):  # type: ignore[misc]
    """KerasTuner's arguments; every trial is trained for ``epochs``, where the search and not ``fit`` says how long."""

    def __init__(self, *args: Any, epochs: int = 1, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._epochs = epochs

    @property
    def rungs(self) -> list[Rung]:
        """One rung: nothing is promoted."""
        return [Rung(0, 0, self.max_trials, 0, self._epochs)]

    def milestones(self, trial: Any) -> tuple[int, ...]:
        """The epochs at which the trial is compared."""
        return (self._epochs,)
