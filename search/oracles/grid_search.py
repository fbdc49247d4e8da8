"""Grid search: every combination, one after another in KerasTuner's order."""

from __future__ import annotations

from typing import Any

import keras_tuner

from search.oracles.base import ENDED, SeededOracle


class GridSearchOracle(SeededOracle, keras_tuner.oracles.GridSearchOracle):  # type: ignore[misc]
    """KerasTuner's arguments. The next combination follows from what was asked for last, so workers need not wait for it."""

    hides = True

    def _propose(self, trial_id: str) -> dict[str, Any]:
        if self.start_order:
            self._populate_next.append(self.start_order[-1])
        return super()._propose(trial_id)

    def _on_absorbed(self, trial_id: str, declared: list[Any]) -> None:
        if declared:  # else its next combination has been asked for
            self._populate_next.append(trial_id)

    def _next_is_known(self) -> bool:
        """See :class:`SeededOracle`; the end of the oldest trial is enough, whatever the younger ones do."""
        return self.trials[self.start_order[self._absorbed]].status in ENDED

    # A trial that was asked for before another declared a hyper-parameter has no value of it: it will run with the default.

    def _get_next_combination(self, values: dict[str, Any]) -> dict[str, Any] | None:
        combination: dict[str, Any] | None = super()._get_next_combination(self._filled(values))
        return combination

    def _compare(self, a: dict[str, Any], b: dict[str, Any]) -> int:
        order: int = super()._compare(self._filled(a), self._filled(b))
        return order

    @keras_tuner.synchronized  # type: ignore[untyped-decorator]
    def end_trial(self, trial: Any) -> None:
        """See KerasTuner's."""
        super().end_trial(trial)
        self._populate_next.remove(trial.trial_id)  # at its place in the order instead
