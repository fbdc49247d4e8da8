"""What every oracle of ours promises beside KerasTuner's contract: seeds that hold, any number of workers, files written whole."""

from __future__ import annotations

import contextlib
import copy
import inspect
import itertools
import json
import math
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras_tuner

from search import files
from search.errors import RequestError
from search.oracles.space import DIRECTIVES, every_value, own_values

ENDED = ("COMPLETED", "FAILED")


@dataclass(frozen=True)
class Rung:
    """Trials that are trained to the same epoch and compared there: n_i configurations, r_i epochs (random search has one)."""

    bracket: int
    round: int
    trials: int
    initial_epoch: int
    epochs: int


class SeededOracle(keras_tuner.Oracle):  # type: ignore[misc]
    """Goes before one of KerasTuner's oracles among the bases of a class.

    - Seed 0 is a seed; None draws one, which the project's files record.
    - Which trial comes next depends on the seed and on the trials before it by their order, never on the order in which
      workers finish: trial i knows what trials 0 to ``i - look_ahead`` left, hyper-parameters that they declared
      included, and of later ones what they were asked for. So continuing a search is asking again and telling what is
      already known, and needs no state of its own.
    - What ``build`` declares for a trial's values, as in a plain ``if``, the next trial knows, since ``build`` is asked at
      once: such a space is searched as KerasTuner alone would search it, trial after trial.
    - In a project that a search holds, a trial is written once, when it has ended, and the rest by
      :meth:`write_project`; elsewhere at every step, as KerasTuner does.
    - A discrete space ends when every configuration in it has been tried, and not when 20 draws in a row collide.

    Attributes:
        look_ahead: how many trials are asked for before the first of them has to have ended, at least 1.
        hides: whether proposals depend on scores, so that those of the last ``look_ahead`` trials are not to be seen.
        first_alone: whether the first trial has to end before another begins: its ``fit`` may declare hyper-parameters.
        build: calls the user's ``build`` with ``HyperParameters``, which then hold what it declared; None where there is none.
            A function, and no method: an oracle is copied to foresee its draws.
        held: whether a search holds the project.
        exhausted: whether every configuration of a discrete space has been tried.
        mark: what the search is of; each trial's file carries it.
        details: by trial, what its file holds beside KerasTuner's entries.
        reused: trials whose file is there already.
        declared: by trial's number, what ``build`` is known to have declared there: it is not asked again.
        first: configurations to draw before any other.
    """

    look_ahead = 64
    hides = False
    trials: dict[str, Any]
    ongoing_trials: dict[str, Any]
    end_order: list[str]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        seed = inspect.signature(super().__init__).bind(*args, **kwargs).arguments.get("seed")
        self.seed_drawn = seed is None
        if seed is not None:
            self.reseed(seed)
        self.first_alone = self.held = self.exhausted = False
        self.build: Callable[[Any], None] | None = None
        self._built: set[str] = set()  # configurations
        self.declared: dict[int, list[Any]] = {}
        self.mark: dict[str, Any] = {}
        self.first: list[dict[str, Any]] = []
        self.details: dict[str, dict[str, Any]] = {}
        self.reused: set[str] = set()
        self._written: set[str] = set()
        self._started: dict[str, Any] = {}  # every trial as it was asked for
        self._found: dict[str, list[Any]] = {}  # what a trial declared that no later one has seen yet
        self._absorbed = 0  # trials, in their order, whose end the next one knows of
        self._ending: str | None = None
        self._proposing = False

    def reseed(self, seed: int) -> None:
        """Draws from here on follow ``seed``."""
        self.seed = self._seed_state = seed

    # Asking

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        """The next trial, IDLE while one is waited for, or STOPPED.

        Raises:
            RequestError: a hyper-parameter has the name of one by which KerasTuner directs Hyperband.
        """
        index = len(self.start_order)
        visible = max(0, index - self.look_ahead + 1)
        waited_for = self.start_order[:visible] or (self.start_order[:1] if self.first_alone else [])
        if not all(self.trials[earlier].status in ENDED for earlier in waited_for):
            return {"status": "IDLE"}
        self._absorb(max(visible, len(waited_for)))
        response = self._proposed(trial_id)
        while response["status"] != "RUNNING" and self._absorbed < index:
            if not self._next_is_known():
                return {"status": "IDLE"}
            self._absorb(self._absorbed + 1)
            response = self._proposed(trial_id)
        return response

    def _next_is_known(self) -> bool:
        """Whether, where nothing is left to try, one more trial can be learned from: all have ended."""
        return not (self.ongoing_trials or self._retry_queue)

    def _propose(self, trial_id: str) -> dict[str, Any]:
        response: dict[str, Any] = super().populate_space(trial_id)
        return response

    def _proposed(self, trial_id: str) -> dict[str, Any]:
        trials, ongoing = self.trials, self.ongoing_trials
        hidden = self.start_order[self._absorbed :] if self.hides else []
        unseen = {name: self._started[name] for name in hidden if name in self._started}
        self.trials, self.ongoing_trials = {**trials, **unseen}, {**ongoing, **unseen}
        self._proposing = True
        try:
            self._refuse_directives()
            return self._propose(trial_id)
        finally:
            self.trials, self.ongoing_trials, self._proposing = trials, ongoing, False

    def _refuse_directives(self) -> None:
        for hp in self.hyperparameters.space:
            if hp.name in DIRECTIVES:
                raise RequestError(
                    f"the hyper-parameter {hp.name} has the name of one of Hyperband's own; give it another"
                )

    def _absorb(self, count: int) -> None:
        """What the first ``count`` trials left is known from here on."""
        while self._absorbed < count:
            trial_id = self.start_order[self._absorbed]
            self._absorbed += 1
            declared = self._found.pop(trial_id, [])
            self.hyperparameters.merge(declared, overwrite=False)
            super()._record_values(self.trials[trial_id])
            self._on_absorbed(trial_id, declared)

    def _on_absorbed(self, trial_id: str, declared: list[Any]) -> None:
        """For oracles that do something when they learn of a trial's end, and of what it declared behind ``build``."""

    def get_space(self) -> Any:
        """The space with everything that any trial has declared."""
        space = super().get_space()
        if not self._proposing:
            for found in self._found.values():
                space.merge(found, overwrite=False)
        return space

    # Telling

    @keras_tuner.synchronized  # type: ignore[untyped-decorator]
    def end_trial(self, trial: Any) -> None:
        """See KerasTuner's; what the trial declared waits for its place in the order."""
        self._ending = trial.trial_id
        try:
            super().end_trial(trial)
        finally:
            self._ending = None

    def score_trial(self, trial: Any) -> None:
        """See KerasTuner's, which gives no reason where it takes the score for a failure."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it asks for the best of epochs that may all be NaN
            super().score_trial(trial)
        if math.isnan(trial.score):
            trial.message = f"the objective {self.objective.name} is nan in every epoch"

    def update_space(self, hyperparameters: Any) -> None:
        """See KerasTuner's."""
        known = self.hyperparameters
        new = [hp for hp in hyperparameters.space if not known._exists(hp.name, hp.conditions)]
        if self._ending is None or (new and not self.allow_new_entries):
            super().update_space(hyperparameters)
        elif self.tune_new_entries:
            self._found[self._ending] = new

    def _record_values(self, trial: Any) -> None:
        if self._ending is not None:
            trial.hyperparameters.ensure_active_values()
            return
        super()._record_values(trial)
        asked = keras_tuner.engine.trial.Trial(trial.hyperparameters.copy(), trial.trial_id, "RUNNING")
        self._started[trial.trial_id] = asked
        if self.build is not None and self.tune_new_entries and self.allow_new_entries:
            new = self._declared_by_build(trial.trial_id, asked.hyperparameters)
            self.hyperparameters.merge(new, overwrite=False)

    def _declared_by_build(self, trial_id: str, hyperparameters: Any) -> list[Any]:
        """What ``build`` declares for these values and the space does not have."""
        assert self.build is not None
        values = repr(sorted(own_values(hyperparameters.values).items()))
        if values in self._built:
            return []
        self._built.add(values)
        new = self.declared.get(int(trial_id))
        if new is None:
            found = hyperparameters.copy()
            found.values = own_values(found.values)
            with contextlib.suppress(Exception, SystemExit):  # the trial will say so
                self.build(found)
            new = [hp for hp in found.space if not self.hyperparameters._exists(hp.name, hp.conditions)]
        self.details.setdefault(trial_id, {})["declared"] = [hp.name for hp in new]
        return new

    def _check_consecutive_failures(self) -> None:
        told = self.end_order
        self.end_order = list(itertools.takewhile(lambda name: self.trials[name].status in ENDED, self.start_order))
        try:
            super()._check_consecutive_failures()
        finally:
            self.end_order = told

    # Files

    def save(self) -> None:
        """Writes the project, unless a search holds it: rewriting all for each trial costs more the longer the search."""
        if not self.held:
            self.write_project()

    def _save_trial(self, trial: Any) -> None:
        ended = trial.status in ENDED
        if (self.held and not ended) or trial.trial_id in self.reused:
            return
        state = {**trial.get_state(), **self.details.get(trial.trial_id, {}), "search": self.mark}
        text = json.dumps(files.seal(state) if ended else state)
        files.write_text(self.folder / f"trial_{trial.trial_id}" / "trial.json", text)
        self._written.add(trial.trial_id)

    def write_project(self) -> None:
        """Writes what a stock KerasTuner tuner reloads beside the trials."""
        state = self.get_state()
        there = self._written | self.reused
        state["ongoing_trials"] = {slot: name for slot, name in state["ongoing_trials"].items() if name in there}
        state["start_order"] = [name for name in state["start_order"] if name in there]
        state["retry_queue"] = [name for name in state["retry_queue"] if name in there]
        files.write_text(self.folder / "oracle.json", json.dumps(state))
        if not (self.folder / "tuner0.json").exists():
            files.write_text(self.folder / "tuner0.json", "{}")

    def set_state(self, state: dict[str, Any]) -> None:
        """See KerasTuner's; of trials that are reloaded everything is known."""
        super().set_state(state)
        self._absorbed = len(self.start_order)
        self._written = set(self.trials)

    @property
    def folder(self) -> Path:
        """The project's."""
        # KerasTuner's own goes through TensorFlow, which raises no OSError and takes no name that is not UTF-8
        return Path(self._directory, self._project_name)

    # Drawing

    @property
    def rungs(self) -> list[Rung]:
        """What is compared with what, bracket by bracket; none where trials are trained as long as ``fit`` says."""
        return []

    def foreseen(self) -> list[tuple[Rung, list[dict[str, Any]]]]:
        """The configurations that the first rung of each bracket will draw: they depend on the seed alone."""
        drawing = copy.deepcopy(self)
        drawn = [
            (rung, [drawing._random_values() for _ in range(rung.trials)]) for rung in self.rungs if not rung.round
        ]
        return [(rung, [values for values in configurations if values is not None]) for rung, configurations in drawn]

    def _chosen(self) -> dict[str, Any] | None:
        """The next configuration of ``first`` that was not tried; None where there is none."""
        while self.first:
            chosen = self._filled(self.first.pop(0))
            if not self._duplicate(chosen):
                return chosen
        return None

    def _random_values(self) -> dict[str, Any] | None:
        values: dict[str, Any] | None = self._chosen() or super()._random_values()
        if values is None:
            untried = (values for values in self._every_configuration() if not self._duplicate(values))
            values = next(untried, None)
            self.exhausted = self.exhausted or values is None
        return values

    def _filled(self, chosen: dict[str, Any]) -> dict[str, Any]:
        """A configuration that the user chose, the rest of it by default."""
        hps = keras_tuner.HyperParameters()
        for hp in self.hyperparameters.space:
            hps.merge([hp])
            if hps.is_active(hp):
                hps.values[hp.name] = chosen.get(hp.name, hp.default)
        values: dict[str, Any] = hps.values
        return values

    def _every_configuration(self) -> Iterator[dict[str, Any]]:
        """The configurations of a discrete space, in order; endless draws where a hyper-parameter is continuous."""
        domains = [every_value(hp) for hp in self.hyperparameters.space]
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


@contextlib.contextmanager
def holding(oracle: Any) -> Iterator[None]:
    """While a search runs, what is written and printed is the search's."""
    verbose, oracle.verbose, oracle.held = oracle.verbose, 0, True
    try:
        yield
    finally:
        oracle.verbose, oracle.held = verbose, False
