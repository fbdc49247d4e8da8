"""Hyperband and random search: KerasTuner's oracles, made to decide by their seed alone and saved atomically."""

from __future__ import annotations

import itertools
import json
import math
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras_tuner
from keras_tuner.engine import base_tuner

from search import files

FACTOR = 3  # the paper's eta, at its recommended value


@dataclass(frozen=True)
class Rung:
    """Trials that are trained to the same epoch and compared there: n_i configurations, r_i epochs (random search has one)."""

    bracket: int
    round: int
    trials: int
    initial_epoch: int
    epochs: int


class _SeededOracle(keras_tuner.Oracle):  # type: ignore[misc]
    """What both oracles need beside KerasTuner's own.

    - Seed 0 is a seed.
    - A search is reproduced by asking again: which trial comes next depends on the seed and on the scores of the rungs
      that are complete, never on the order in which workers finish. So continuing a search is running it again with
      the outcomes that are already known, and needs no state of its own.
    - A trial is written once, when it has ended; the rest of the project on :meth:`write_project`.
    - A discrete space ends when every configuration in it has been tried, and not when 20 draws in a row collide.
    """

    def __init__(self, *, seed: int, **kwargs: Any) -> None:
        super().__init__(seed=seed, max_consecutive_failed_trials=None, **kwargs)
        self.seed = self._seed_state = seed
        self.verbose = 0
        self.exhausted = False
        self.mark: dict[str, Any] = {}  # what the search is of; each trial's file carries it
        self.reused: set[str] = set()  # trials whose file is there already

    def save(self) -> None:
        """Nothing: rewriting the whole state for each trial would cost more the longer the search."""

    def _save_trial(self, trial: Any) -> None:
        if trial.status in ("COMPLETED", "FAILED") and trial.trial_id not in self.reused:
            path = self._folder() / f"trial_{trial.trial_id}" / "trial.json"
            files.write_text(path, json.dumps(files.seal({**trial.get_state(), "search": self.mark})))

    def _check_consecutive_failures(self) -> None:
        """Nothing: failed trials are reported, and the search goes on."""

    def write_project(self) -> None:
        """Writes what a stock KerasTuner tuner reloads beside the trials."""
        folder = self._folder()
        files.write_text(folder / "oracle.json", json.dumps(self.get_state()))
        if not (folder / "tuner0.json").exists():
            files.write_text(folder / "tuner0.json", "{}")

    def _folder(self) -> Path:
        # KerasTuner's own goes through TensorFlow, which raises no OSError and takes no name that is not UTF-8
        return Path(self._directory, self._project_name)

    def _random_values(self) -> dict[str, Any] | None:
        values: dict[str, Any] | None = super()._random_values()
        if values is None:
            untried = (values for values in self._every_configuration() if not self._duplicate(values))
            values = next(untried, None)
            self.exhausted = self.exhausted or values is None
        return values

    def _every_configuration(self) -> Iterator[dict[str, Any]]:
        """The configurations of a discrete space, in order; endless draws where a hyper-parameter is continuous."""
        domains = [_domain(hp) for hp in self.hyperparameters.space]
        if any(domain is None for domain in domains):
            while True:
                values = super()._random_values()
                if values is not None:
                    yield values
        seen = set()
        for combination in itertools.product(*(domain or () for domain in domains)):
            hps = keras_tuner.HyperParameters()
            for hp, value in zip(self.hyperparameters.space, combination, strict=True):
                hps.merge([hp])
                if hps.is_active(hp):
                    hps.values[hp.name] = value
            key = self._compute_values_hash(hps.values)
            if key not in seen:
                seen.add(key)
                yield hps.values


class HyperbandOracle(_SeededOracle, keras_tuner.oracles.HyperbandOracle):  # type: ignore[misc]
    """Hyperband, Algorithm 1 of Li et al., JMLR 18 (2018), with its symbols R, eta, s, n_i and r_i.

    Differs from KerasTuner's: rung sizes are the paper's floor(n * eta^-i); a rung is compared when all its trials have
    ended, so that a trial's id, and with it its seed, does not depend on which worker was faster; failed trials leave
    their rung and do not stall it; ties go to the older trial. Rungs are asked for in one fixed order that lets the
    next bracket's trials run while a rung is waited for.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(factor=FACTOR, hyperband_iterations=1, **kwargs)
        s_max = self._get_num_brackets() - 1
        self._brackets: list[dict[str, Any]] = [
            {"bracket_num": s, "rounds": [[] for _ in range(s + 1)]} for s in range(s_max, -1, -1)
        ]
        self._current_bracket = 0

    @property
    def rungs(self) -> list[Rung]:
        """Every rung, bracket by bracket, the one with the most trials first."""
        return [
            self._rung(bracket["bracket_num"], i) for bracket in self._brackets for i in range(len(bracket["rounds"]))
        ]

    def milestones(self, trial: Any) -> tuple[int, ...]:
        """The epochs at which the trial is, or would be, compared."""
        bracket = trial.hyperparameters.values["tuner/bracket"]
        return tuple(rung.epochs for rung in self.rungs if rung.bracket == bracket)

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        """Returns the next trial of the fixed order, IDLE while its rung is waited for, or STOPPED."""
        s_max = len(self._brackets) - 1
        for rung in sorted(self.rungs, key=lambda rung: (s_max - rung.bracket + 2 * rung.round, rung.round)):
            rounds = self._brackets[s_max - rung.bracket]["rounds"]
            asked = rounds[rung.round]
            if len(asked) == rung.trials:
                continue
            if rung.round == 0:
                values = self._random_values()
                if values is None:
                    continue
                past = None
            else:
                below = [self.trials[entry["id"]] for entry in rounds[rung.round - 1]]
                if any(trial.status == "RUNNING" for trial in below):
                    return {"status": "IDLE"}
                best = self.ranked([trial for trial in below if trial.status == "COMPLETED"])
                if len(asked) == min(rung.trials, len(best)):
                    continue
                promoted = best[len(asked)]
                past = promoted.trial_id
                values = {**promoted.hyperparameters.values, "tuner/trial_id": past}
            asked.append({"past_id": past, "id": trial_id})
            return {
                "status": "RUNNING",
                "values": {
                    **values,
                    "tuner/epochs": rung.epochs,
                    "tuner/initial_epoch": rung.initial_epoch,
                    "tuner/bracket": rung.bracket,
                    "tuner/round": rung.round,
                },
            }
        return {"status": "IDLE" if self.ongoing_trials else "STOPPED"}

    def ranked(self, trials: list[Any]) -> list[Any]:
        """The trials, best score first, the older of equals first."""
        return sorted(trials, key=lambda trial: trial.score, reverse=self.objective.direction == "max")

    def _get_size(self, bracket_num: int, round_num: int) -> int:
        s, s_max = bracket_num, self._get_num_brackets() - 1
        n = math.ceil((s_max + 1) * self.factor**s / (s + 1))
        return int(n // self.factor**round_num)

    def _rung(self, s: int, i: int) -> Rung:
        return Rung(s, i, self._get_size(s, i), self._get_epochs(s, i - 1) if i else 0, self._get_epochs(s, i))


class RandomSearchOracle(_SeededOracle, keras_tuner.oracles.RandomSearchOracle):  # type: ignore[misc]
    """Random search: independent draws, every trial trained for ``epochs``."""

    def __init__(self, *, epochs: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._epochs = epochs

    @property
    def rungs(self) -> list[Rung]:
        """One rung: nothing is promoted."""
        return [Rung(0, 0, self.max_trials, 0, self._epochs)]

    def milestones(self, trial: Any) -> tuple[int, ...]:
        """The epochs at which the trial is compared."""
        return (self._epochs,)


def search_space(hypermodel: Any) -> keras_tuner.HyperParameters:
    """The space that ``hypermodel.build`` declares, those of its conditional scopes included.

    Raises:
        Exception: whatever ``build`` raises.
    """
    oracle = keras_tuner.oracles.RandomSearchOracle(objective=keras_tuner.Objective("val_loss", "min"), seed=1)
    with tempfile.TemporaryDirectory() as folder:
        base_tuner.BaseTuner(oracle, hypermodel, directory=folder, project_name="space")
    return oracle.get_space()


def _domain(hp: Any) -> list[Any] | None:
    """The values a hyper-parameter can take, None where they cannot be listed."""
    config = hp.get_config()
    kind = type(hp).__name__
    if kind == "Int" and config["sampling"] != "linear":
        return list(range(config["min_value"], config["max_value"] + 1)) if config["step"] is None else list(hp.values)
    if kind == "Float" and config["step"] is None:
        return None
    return list(hp.values)
