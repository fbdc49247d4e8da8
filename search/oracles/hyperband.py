"""Hyperband: KerasTuner's oracle, made to decide by its seed and by complete rungs alone."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import keras_tuner

from search.oracles.base import Rung, SeededOracle

FACTOR = 3  # the paper's eta, at its recommended value
SETTINGS = ("max_epochs", "min_epochs", "factor")  # on which the brackets depend


class HyperbandOracle(SeededOracle, keras_tuner.oracles.HyperbandOracle):  # type: ignore[misc]
    """Hyperband, Algorithm 1 of Li et al., JMLR 18 (2018), with its symbols R, eta, s, n_i and r_i; KerasTuner's arguments.

    Differs from KerasTuner's: rung sizes are the paper's floor(n * eta^-i); a rung is compared when all its trials have
    ended, so that a trial's id, and with it its seed, does not depend on which worker was faster; failed trials leave
    their rung and do not stall it; ties go to the older trial. Rungs are asked for in one fixed order that lets the
    next bracket's trials run while a rung is waited for; another iteration of the whole begins when one is asked for.

    Args:
        brackets: only so many are run, those with the largest s, which try the most configurations; None for all.
    """

    def __init__(self, *args: Any, brackets: int | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        s_max = self._get_num_brackets() - 1
        self._s = range(s_max, s_max - (brackets or s_max + 1), -1)
        self._brackets: list[dict[str, Any]] = []
        self._current_bracket = 0
        self._begin_iteration()

    def _begin_iteration(self) -> None:
        self._brackets += [{"bracket_num": s, "rounds": [[] for _ in range(s + 1)]} for s in self._s]

    def set_state(self, state: dict[str, Any]) -> None:
        """See KerasTuner's; this oracle's own settings hold: with others than the state's, the brackets begin anew."""
        own = {name: getattr(self, name) for name in ("hyperband_iterations", *SETTINGS)}
        super().set_state(state)
        as_before = all(getattr(self, name) == own[name] for name in SETTINGS)
        for name, value in own.items():
            setattr(self, name, value)
        if not as_before:
            self._brackets, self._current_iteration = [], 0
            self._begin_iteration()
        elif [one["bracket_num"] for one in self._brackets] != [*self._s] * (self._current_iteration + 1):
            self._take_over()

    def _take_over(self) -> None:
        """Goes on from brackets of KerasTuner's, which makes one when it is needed and drops it when it is complete."""
        count = len(self._s)
        last = position = self._current_iteration * count + self._s[0] - self._current_bracket
        found: dict[int, Any] = {}
        for bracket in reversed(self._brackets):
            while position > 0 and self._s[position % count] != bracket["bracket_num"]:
                position -= 1
            found[position] = bracket["rounds"]
            position -= 1
        self._brackets = []
        for i in range((self._current_iteration + 1) * count):
            s = self._s[i % count]
            sizes = [self._get_size(s, round) if i <= last else 0 for round in range(s + 1)]
            complete = [[{"past_id": None, "id": None}] * size for size in sizes]
            self._brackets.append({"bracket_num": s, "rounds": found.get(i, complete)})
        self._current_iteration = min(found, default=last) // count

    @property
    def rungs(self) -> list[Rung]:
        """Every rung of one iteration, bracket by bracket, the one with the most trials first."""
        return [self._rung(s, i) for s in self._s for i in range(s + 1)]

    @property
    def planned(self) -> float:
        """How many trials there will be, those that there are counted; infinity where iterations never end."""
        begun = self._brackets[self._current_iteration * len(self._s) :]
        sizes = (
            (self._get_size(one["bracket_num"], i), asked) for one in begun for i, asked in enumerate(one["rounds"])
        )
        missing = sum(max(0, size - len(asked)) for size, asked in sizes)
        iterations = self.hyperband_iterations - len(self._brackets) // len(self._s)
        return float(len(self.trials) + missing + max(0, iterations) * sum(rung.trials for rung in self.rungs))

    def milestones(self, trial: Any) -> tuple[int, ...]:
        """The epochs at which the trial is, or would be, compared."""
        bracket = trial.hyperparameters.values["tuner/bracket"]
        return tuple(rung.epochs for rung in self.rungs if rung.bracket == bracket)

    def _propose(self, trial_id: str) -> dict[str, Any]:
        while True:
            response = self._in_iteration(trial_id)
            if response is not None:
                return response
            if self._current_iteration + 1 >= self.hyperband_iterations or self.exhausted:
                return {"status": "IDLE" if self.ongoing_trials else "STOPPED"}
            self._current_iteration += 1
            if len(self._brackets) == self._current_iteration * len(self._s):
                self._begin_iteration()

    def _in_iteration(self, trial_id: str) -> dict[str, Any] | None:
        """The next trial of the iteration under way, IDLE while its rung is waited for, None when there is no other."""
        for rung, rounds in self._in_order():
            asked = rounds[rung.round]
            if len(asked) >= rung.trials:
                continue
            if rung.round == 0:
                values = self._random_values()
                if values is None:
                    continue
                past = None
            else:
                below = [self.trials[entry["id"]] for entry in rounds[rung.round - 1]]
                if any(trial.status not in ("COMPLETED", "FAILED") for trial in below):
                    return {"status": "IDLE"}
                best = self.ranked([trial for trial in below if trial.status == "COMPLETED"])
                if len(asked) >= min(rung.trials, len(best)):
                    continue
                taken = {entry["past_id"] for entry in asked}
                promoted = next(trial for trial in best if trial.trial_id not in taken)
                past = promoted.trial_id
                values = {**promoted.hyperparameters.values, "tuner/trial_id": past}
            asked.append({"past_id": past, "id": trial_id})
            values |= {"tuner/epochs": rung.epochs, "tuner/initial_epoch": rung.initial_epoch}
            return {"status": "RUNNING", "values": {**values, "tuner/bracket": rung.bracket, "tuner/round": rung.round}}
        return None

    def _in_order(self) -> Iterator[tuple[Rung, list[list[dict[str, Any]]]]]:
        """The rungs of the iteration under way in their fixed order, each with the rounds of its bracket."""
        s_max = self._s[0]
        brackets = self._brackets[self._current_iteration * len(self._s) :]
        for rung in sorted(self.rungs, key=lambda rung: (s_max - rung.bracket + 2 * rung.round, rung.round)):
            yield rung, brackets[s_max - rung.bracket]["rounds"]

    def ranked(self, trials: list[Any]) -> list[Any]:
        """The trials, best score first, the older of equals first."""
        return sorted(trials, key=lambda trial: trial.score, reverse=self.objective.direction == "max")

    def _get_size(self, bracket_num: int, round_num: int) -> int:
        s, s_max = bracket_num, self._get_num_brackets() - 1
        n = math.ceil((s_max + 1) * self.factor**s / (s + 1))
        return int(n // self.factor**round_num)

    def _rung(self, s: int, i: int) -> Rung:
        return Rung(s, i, self._get_size(s, i), self._get_epochs(s, i - 1) if i else 0, self._get_epochs(s, i))
