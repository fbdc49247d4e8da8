"""How long what is planned will take: the trials of a search, known and not yet known, and trainings that are all known."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from search.lab.cost import MOST_BUILT, Asked, CostModel, work
from search.oracles.base import ENDED, Rung
from search.oracles.space import own_values
from search.report import figures
from search.workers.trial import Job, Outcome

Work = NDArray[np.float64]


class SearchForecast:
    """Seconds that a search takes, told before its first trial and kept right by each that ends.

    The configurations of the first rungs are known before: they depend on the seed alone. Which of them are promoted is
    not, and larger networks are promoted more often than not: until a rung has ended, the dearer half of its trials
    stands for those that go on.

    Args:
        oracle: fresh, of :mod:`search.oracles`.
        cost: what it learned before is kept; it learns from this search's trials.
        asked_of: values -> what an epoch of their model asks; None where it cannot be built.
        break_even: see :class:`search.workers.trial.Job`.
        size: how many trials run at a time.
    """

    def __init__(
        self,
        oracle: Any,
        cost: CostModel,
        asked_of: Callable[[Mapping[str, Any]], Asked | None],
        break_even: float,
        size: int,
    ) -> None:
        self.oracle, self.cost, self._asked_of = oracle, cost, asked_of
        self._break_even, self._size = break_even, size
        self._first: dict[int, list[Asked | None]] = {}
        for rung, configurations in oracle.foreseen():
            self._first[rung.bracket] = [asked_of(values) for values in configurations[:MOST_BUILT]]

    def ended(self, trial: Any) -> None:
        """Learns from a trial that was trained just now."""
        model = self._model_of(trial)
        if model is not None and trial.status == "COMPLETED":
            work = self._work(model, rung_of(trial, self.oracle.rungs))
            self.cost.learn(work, trial.metrics.get_last_value("seconds"))

    def left(self) -> float:
        """Seconds from now on, the trials under way counted whole."""
        return sum(self._left_in(rung) for rung in self.oracle.rungs) / self._size

    def of_trainings(self, trainings: Sequence[tuple[Mapping[str, Any], int]]) -> float:
        """Seconds of trainings beside the search: the values and epochs of each."""
        asked = [(self._asked_of(values), epochs) for values, epochs in trainings]
        works = (work(model, 0, epochs, (epochs,), self._break_even) for model, epochs in asked if model is not None)
        return sum(map(self.cost.seconds, works)) / self._size

    def next(self) -> float:
        """Seconds of a trial that has not begun, on average; 0 where all have."""
        rungs = [(rung, len(self._trials(rung.bracket, rung.round))) for rung in self.oracle.rungs]
        waiting = sum(rung.trials - asked for rung, asked in rungs)
        return float(sum(self._waiting(rung, asked) for rung, asked in rungs) / max(1, waiting))

    def _left_in(self, rung: Rung) -> float:
        trials = self._trials(rung.bracket, rung.round)
        running = [self._model_of(trial) for trial in trials if trial.status not in ENDED]
        begun = self._seconds(running, len(running), rung)
        return begun + self._waiting(rung, len(trials))

    def _waiting(self, rung: Rung, asked: int) -> float:
        return self._seconds(self._to_come(rung, asked), rung.trials - asked, rung)

    def _to_come(self, rung: Rung, asked: int) -> list[Asked | None]:
        """Models that stand for those of the rung's trials but the first ``asked``."""
        first = self._first[rung.bracket]
        if not rung.round:
            return first[asked:] or first
        below = self._trials(rung.bracket, rung.round - 1)
        if below and all(trial.status in ENDED for trial in below):
            completed = [trial for trial in below if trial.status == "COMPLETED"]
            best = self.oracle.ranked(completed)[asked : rung.trials]
            return [self._model_of(trial) for trial in best]
        dearest_last = sorted(first, key=lambda model: self._seconds([model], 1, rung))
        return dearest_last[len(first) // 2 :]

    def _seconds(self, models: Sequence[Asked | None], trials: int, rung: Rung) -> float:
        """What so many trials of the rung take, of which the models are typical."""
        each = [self.cost.seconds(self._work(model, rung)) for model in models if model is not None]
        return float(trials * np.mean(each)) if each else 0.0

    def _model_of(self, trial: Any) -> Asked | None:
        return self._asked_of(own_values(trial.hyperparameters.values))

    def _trials(self, bracket: int, round: int) -> list[Any]:
        rungs = self.oracle.rungs
        in_rungs = ((trial, rung_of(trial, rungs)) for trial in self.oracle.trials.values())
        return [trial for trial, rung in in_rungs if (rung.bracket, rung.round) == (bracket, round)]

    def _work(self, asked: Asked, rung: Rung) -> Work:
        milestones = tuple(one.epochs for one in self.oracle.rungs if one.bracket == rung.bracket)
        return work(asked, rung.initial_epoch, rung.epochs, milestones, self._break_even)


class Forecast:
    """Seconds that trainings take which are all known: finalists, a sweep, the retraining.

    Args:
        cost: it learns from each that ends.
        asked_of: values -> what an epoch of their model asks; None where it cannot be built.
        configurations: the values of each training.
        epochs: of each.
        break_even: see :class:`search.workers.trial.Job`.
        size: how many run at a time.

    Attributes:
        trainings: how many there are in all.
    """

    def __init__(
        self,
        cost: CostModel,
        asked_of: Callable[[Mapping[str, Any]], Asked | None],
        configurations: Sequence[Mapping[str, Any]],
        *,
        epochs: int,
        break_even: float,
        size: int,
    ) -> None:
        self._cost, self._asked_of, self._epochs = cost, asked_of, epochs
        self._break_even, self._size = break_even, size
        self.trainings = len(configurations)
        self._waiting = [model for values in configurations if (model := asked_of(values)) is not None]

    def ended(self, job: Job, outcome: Outcome) -> None:
        """Learns from a training that has ended."""
        model = self._asked_of(job.hyperparameters)
        if model is None:
            return
        if model in self._waiting:
            self._waiting.remove(model)
        if outcome.completed and len(outcome.epoch_seconds) == self._epochs:  # else a part was trained before
            self._cost.learn(self._work(model), outcome.seconds)

    def about(self) -> str:
        """What it takes, in words."""
        return f"about {figures.duration(self.left(), ' ')}"

    def left(self) -> float:
        """Seconds from now on, the trainings under way counted whole."""
        seconds = [self._cost.seconds(self._work(model)) for model in self._waiting]
        return max([sum(seconds) / self._size, *seconds])

    def _work(self, model: Asked) -> Work:
        return work(model, 0, self._epochs, (self._epochs,), self._break_even)


def rung_of(trial: Any, rungs: Sequence[Rung]) -> Rung:
    """The rung in which a trial was asked for."""
    values = trial.hyperparameters.values
    place = (values.get("tuner/bracket", 0), values.get("tuner/round", 0))
    return next(rung for rung in rungs if (rung.bracket, rung.round) == place)
