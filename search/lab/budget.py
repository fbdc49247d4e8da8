"""A time that a command is to keep: each step does what fits into its share, and nothing begins that could not end."""

from __future__ import annotations

import time
from collections.abc import Sequence

# What a step may use of the whole. What an earlier one leaves goes to those behind it.
SHARES = {"search": 0.22, "finalists": 0.14, "sweep": 0.14, "ablation": 0.08, "retrain": 0.42}


class Budget:
    """The time of one command, from now on.

    Args:
        seconds: for all of it, above 0.
        steps: those that the command goes through, names of SHARES, in their order.
    """

    def __init__(self, seconds: float, steps: Sequence[str] = tuple(SHARES)) -> None:
        self.seconds = seconds
        self._steps = tuple(steps)
        self._began = time.monotonic()

    def share(self, step: str) -> float:
        """Seconds that a step may take if every one before it takes its own share whole."""
        return self.seconds * SHARES[step] / sum(SHARES[name] for name in self._steps)

    def enough(self, step: str, seconds: float) -> float:
        """The whole that would have left a step so many seconds by now."""
        return (time.monotonic() - self._began + seconds) * self.seconds / self._until(step)

    def left(self, step: str) -> float:
        """Seconds until a step is to have ended."""
        return self._until(step) - (time.monotonic() - self._began)

    def _until(self, step: str) -> float:
        """Seconds, from the beginning, until a step is to have ended."""
        return sum(map(self.share, self._steps[: self._steps.index(step) + 1]))
