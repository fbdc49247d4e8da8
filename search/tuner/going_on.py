"""How a search goes on from what its folder holds: the trials that have ended are asked for, and told, again."""

from __future__ import annotations

import contextlib
import copy
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras_tuner

from search import files
from search.errors import RequestError
from search.oracles import space as spaces
from search.oracles.base import ENDED, SeededOracle, holding
from search.oracles.grid_search import GridSearchOracle
from search.oracles.hyperband import SETTINGS
from search.tuner.own_code import may_declare_late
from search.tuner.trials import RunsTrials, objectives_of
from search.workers.trial import declaring

ASKED_BY = ("tuner", "seed", "first", *SETTINGS)  # of a mark: with another, other trials are asked for


class GoesOn(RunsTrials):
    """A search that goes on where it was stopped."""

    def save(self) -> None:
        """See KerasTuner's; while a search runs, its project is written now and then, and whole."""
        if not isinstance(self.oracle, SeededOracle):
            super().save()
        elif not self._is_worker():
            self.oracle.save()
            if not self.oracle.held:
                files.write_json(Path(self._get_tuner_fname()), self.get_state())

    def reload(self) -> None:
        """See KerasTuner's; the search itself goes on from the trials' files, in the same order."""
        self._fresh = copy.deepcopy(self.oracle)
        super().reload()

    def _rewound(self) -> dict[int, dict[str, Any]]:
        """Puts the oracle back to its beginning, and returns the trials that have ended, by number, to be told again.

        Where they are of a search with another space or seed, or of KerasTuner's own, the oracle stays as it was reloaded
        and goes on from there, as KerasTuner's does.
        """
        oracle = self.oracle
        if not isinstance(oracle, SeededOracle):
            return {}
        oracle.build = None if self.hypermodel is None else declaring(self.hypermodel)
        oracle.first_alone = may_declare_late(self)
        fresh, self._fresh = self._fresh, None
        if fresh is None:
            if not oracle.trials:
                oracle.first = self._checked_first()
                oracle.mark = self._mark()
            return {}
        try:
            return self._going_on(oracle, fresh)
        except BaseException:
            self.oracle, self._fresh = oracle, fresh  # as before the call, which may be made again
            raise

    def _going_on(self, oracle: Any, fresh: Any) -> dict[int, dict[str, Any]]:
        """What :meth:`_rewound` returns, where trials were reloaded into ``oracle``; ``fresh`` is as before that."""
        fresh.build, fresh.first_alone, fresh.verbose = oracle.build, oracle.first_alone, oracle.verbose
        states = dict(sorted((int(state["trial_id"]), state) for state in self._ended()))
        fresh.declared = {number: _declared(state) for number, state in states.items() if "declared" in state}
        marks = [state.get("search") or {} for state in states.values()]
        seeds = {mark.get("seed") for mark in marks}
        if fresh.seed_drawn and len(seeds) == 1 and isinstance(seed := next(iter(seeds)), int):
            fresh.reseed(seed)
        self.oracle = fresh
        self._populate_initial_space()
        fresh.first = self._checked_first()
        fresh.mark = self._mark()
        self._refuse_another_objective(marks)
        again = all(
            mark.get(name, now) == now for mark in marks for name, now in fresh.mark.items() if name in ASKED_BY
        )
        again = again and self._fits(states)
        self._say_what_changed(marks, again)
        if again:
            return states
        self.oracle = oracle
        oracle.first, oracle.mark = fresh.first, fresh.mark
        if oracle.allow_new_entries:
            oracle.update_space(fresh.get_space())
        return {}

    def _mark(self) -> dict[str, Any]:
        """What the search is of, which each trial's file keeps."""
        space = json.dumps(self.oracle.get_space().get_config()["space"], default=str)
        mark = {
            "tuner": type(self.oracle).__name__.removesuffix("Oracle"),
            "seed": self.oracle.seed,
            "first": self._first,
            "space": hashlib.sha256(space.encode()).hexdigest(),
        }
        mark |= {name: getattr(self.oracle, name) for name in SETTINGS if hasattr(self.oracle, name)}
        mark |= {"objective": objectives_of(self.oracle.objective), "fit": self._fit_arguments}
        as_read: dict[str, Any] = json.loads(json.dumps(mark))
        return as_read

    def _say_what_changed(self, marks: list[dict[str, Any]], again: bool) -> None:
        """Compares with the trial that ended last: a change is told once.

        Args:
            again: whether asking again gives the same trials.

        Raises:
            RequestError: a grid search has to go on from the trials of another.
        """
        now, before = self.oracle.mark, marks[-1] if marks else {}
        compared = [name for name in (*ASKED_BY, "space") if name in now]
        changed = [name for name in compared if before.get(name, now[name]) != now[name]]
        fitted = before.get("fit", now["fit"])
        changed += [name for name in {**now["fit"], **fitted} if fitted.get(name) != now["fit"].get(name)]
        if not again and "space" not in changed and all({**mark, "fit": 0} == {**now, "fit": 0} for mark in marks):
            changed.insert(0, "space")
        if marks and not again and isinstance(self.oracle, GridSearchOracle):
            kind = f" (another {', '.join(changed)})" if changed else ""
            raise RequestError(
                f"the trials in {self.project_dir} are of another search{kind}, from which a grid search cannot go on; give "
                "overwrite=True or another project_name"
            )
        if changed:
            self._say(
                f"Changed since this project's trials: {', '.join(changed)}. They are kept, and the search goes on; "
                "overwrite=True starts anew."
            )

    def _refuse_another_objective(self, marks: list[dict[str, Any]]) -> None:
        """Raises ``RequestError`` where scores of another objective would be ranked with the new ones."""
        now = self.oracle.mark["objective"]
        for mark in marks:
            if mark.get("objective", now) != now:
                raise RequestError(
                    f"the trials in {self.project_dir} are scored by {_named(mark['objective'])}, and the objective is now "
                    f"{_named(now)}; give the former, overwrite=True or another project_name"
                )

    def _ended(self) -> list[dict[str, Any]]:
        """The files of the trials that have ended and are whole; one that is not is set aside and its trial runs again."""
        found = []
        for path in sorted(Path(self.project_dir).glob("trial_*/trial.json")):
            try:
                state = json.loads(path.read_text(encoding="utf-8"))
                ended = state.get("status") in ENDED
                whole = "sha256" not in state or files.is_sealed(state)  # KerasTuner seals none
            except (ValueError, TypeError, AttributeError):
                ended, whole = True, False
            if ended and whole:
                found.append(state)
            elif ended:
                self._say(f"{path} is damaged; kept as {files.set_aside(path)}, and its trial runs again.")
        return found

    def _fits(self, states: Mapping[int, dict[str, Any]]) -> bool:
        """Whether asking again gives the trials that have ended: tried on a copy of the oracle."""
        oracle = copy.deepcopy(self.oracle)
        left = dict(states)
        with holding(oracle):
            oracle.reused = {state["trial_id"] for state in states.values()}
            while left:
                trial = oracle.create_trial("again")
                if trial.status != "RUNNING":
                    break
                state = left.pop(int(trial.trial_id), None)
                if state is None:
                    oracle.ongoing_trials.pop("again")
                    continue
                before = as_trial(state)
                asked = trial.hyperparameters.values
                if {name: before.hyperparameters.values.get(name) for name in asked} != asked:
                    return False
                trial.hyperparameters, trial.metrics = before.hyperparameters, before.metrics
                trial.status, trial.message = before.status, before.message
                oracle.reused.add(trial.trial_id)
                oracle.end_trial(trial)
        return True

    def _checked_first(self) -> list[dict[str, Any]]:
        """The configurations to try first, once the space has what ``build`` declares for them."""
        oracle = self.oracle
        for number, values in enumerate(self._first):
            if oracle.build is not None and oracle.tune_new_entries and oracle.allow_new_entries:
                found = oracle.get_space()
                found.values |= values
                with contextlib.suppress(Exception, SystemExit):  # the trial will say so
                    oracle.build(found)
                oracle.hyperparameters.merge(found.space, overwrite=False)
            wrong = spaces.misfit(oracle.get_space(), values)
            if wrong:
                raise ValueError(f"first[{number}]: {wrong}")
        return [dict(values) for values in self._first]


def _named(objectives: list[list[str]]) -> str:
    return " and ".join(f"{name} ({direction})" for name, direction in objectives)


def as_trial(state: dict[str, Any]) -> Any:
    return keras_tuner.engine.trial.Trial.from_state(copy.deepcopy(state))  # which puts its conditions into the state


def _declared(state: dict[str, Any]) -> list[Any]:
    """What ``build`` declared for a trial that has ended, from the trial's file."""
    space = as_trial(state).hyperparameters.space
    return [hp for hp in space if hp.name in state["declared"]]
