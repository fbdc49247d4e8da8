"""The search of an exercise: its oracle, its plan, and what is printed and recorded while it runs."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, NoReturn

import keras_tuner

from search import files, provenance, study
from search.errors import RequestError, WorkError
from search.lab import cost, planning, printing, sweep
from search.lab.forecast import SearchForecast, rung_of
from search.lab.session import Session
from search.oracles import hyperband, random_search
from search.oracles.base import ENDED
from search.report import figures
from search.report.progress import Progress

MOST_VALUES = 3  # of a hyper-parameter, to see whether it changes the loss
FEWEST_EPOCHS, FEWEST_TRIALS = 3, 4  # of what a budget makes smaller: fewer are no search


def oracle_of(name: str, objective: keras_tuner.Objective, space: Any, settings: Mapping[str, Any]) -> Any:
    """What proposes the trials of an exercise's search.

    Args:
        name: the exercise's.
        space: its ``HyperParameters``.
        settings: of the search, as ``run.json`` has them.
    """
    common = {
        "objective": objective,
        "seed": settings["seed"],
        "hyperparameters": space,
        "max_consecutive_failed_trials": None,  # they are reported, and the search goes on
    }
    epochs = settings["max_epochs"]
    oracle: Any = (
        hyperband.HyperbandOracle(max_epochs=epochs, brackets=settings.get("brackets"), **common)
        if settings["tuner"] == "hyperband"
        else random_search.RandomSearchOracle(max_trials=settings["trials"], epochs=epochs, **common)
    )
    oracle.first = [*settings["first"]]
    of_each_trial = ("space", "first")  # its own values say more
    marked = {key: value for key, value in settings.items() if key not in of_each_trial and value is not None}
    oracle.mark = {"exercise": name, **marked}
    return oracle


def smaller(settings: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What a search, and smaller ones, are planned with, largest first.

    Of Hyperband fewer brackets, those that try the most configurations, then a third of the epochs, and so on; of a
    random search a third of the trials, and so on.
    """
    if settings["tuner"] != "hyperband":
        return [{"trials": trials} for trials in _thirds(settings["trials"], FEWEST_TRIALS)]
    plans: list[dict[str, Any]] = []
    for epochs in _thirds(settings["max_epochs"], FEWEST_EPOCHS):
        everything = len(_thirds(epochs, 1))
        plans += [{"max_epochs": epochs, "brackets": brackets} for brackets in range(everything, 0, -1)]
    return plans


def _thirds(number: int, fewest: int) -> list[int]:
    numbers = [number]
    while numbers[-1] // hyperband.FACTOR >= fewest:
        numbers.append(numbers[-1] // hyperband.FACTOR)
    return numbers


class Run:
    """One search under way, from its plan to its record.

    Args:
        settings: what the record keeps of it, JSON-ready.
        space: the exercise's ``HyperParameters``.
        start: the starting model's values.
        before: seconds that it took before it was interrupted.
    """

    def __init__(
        self, session: Session, settings: Mapping[str, Any], space: Any, start: dict[str, Any], before: float
    ) -> None:
        self._session, self._settings, self._space, self._start = session, settings, space, start
        self._before, self._workers = before, session.start_workers()
        self._oracle = self._oracle_of(settings)
        self.known = study.known_outcomes(session.folder, self._oracle, session.say)
        self._forecast: SearchForecast
        self._facts: dict[str, Any]
        self._progress: Progress
        self._began = time.monotonic()

    def _oracle_of(self, settings: Mapping[str, Any]) -> Any:
        exercise = self._session.exercise
        objective = keras_tuner.Objective(exercise.objective, exercise.better)
        oracle = oracle_of(exercise.name, objective, self._space, settings)
        oracle.build = self._session.declaring
        return oracle

    def plan(self, model: Any, xla_break_even: float | None) -> None:
        """Measures what trainings cost here, and says what will be done and how long it takes.

        Args:
            model: the starting model.
            xla_break_even: what was measured before; None measures it.

        Raises:
            RequestError: the smallest search does not fit into the budget.
        """
        session = self._session

        def foresee() -> list[Mapping[str, Any]]:
            first = [values for _, rung in self._oracle.foreseen() for values in rung[: cost.MOST_BUILT]]
            for values in first:
                session.asked_of(values)
            return first

        epochs = self._settings["max_epochs"]
        measured = cost.measure(session, self._workers, model, self._start, epochs, xla_break_even, foresee)

        def forecast(oracle: Any) -> SearchForecast:
            return SearchForecast(oracle, measured.model, session.asked_of, measured.xla_break_even, self._workers.size)

        planned = planning.planned_before(session, "search")
        if session.budget is None or planned or self.known:
            self._forecast = forecast(self._oracle)
        else:
            left = session.budget.left("search")
            for planned in smaller(self._settings):
                settings = {**self._settings, **planned}
                self._forecast = forecast(self._oracle_of(settings))
                if self._forecast.left() <= left:
                    break
            else:
                self._refuse(self._forecast.left(), left)
            self._settings, self._oracle = settings, self._forecast.oracle
        self._facts = self._described(self._forecast.left(), measured) | planning.plan(session, **planned)
        tuner, seconds, size = self._settings["tuner"], self._forecast.left(), self._workers.size
        printing.print_plan(session, tuner, self._oracle.rungs, seconds, size, measured.epoch)
        if session.rest is not None:
            epochs = self._settings["max_epochs"]
            best = max(self._settings["first"], key=lambda values: self._forecast.of_trainings([(values, epochs)]))
            trainings = session.rest.trainings(session.exercise, self._space, best, epochs, session.weights)
            printing.print_whole(session, seconds, self._forecast.of_trainings(trainings))

    def _refuse(self, least: float, left: float) -> NoReturn:
        budget = self._session.budget
        assert budget is not None
        raise RequestError(
            f"--budget {figures.duration(budget.seconds, ' ')} leaves the search {figures.duration(max(0.0, left), ' ')}; the smallest "
            f"takes about {figures.duration(least, ' ')} here: give {figures.duration(budget.enough('search', least), ' ')} or more"
        )

    def _described(self, seconds: float, measured: cost.Measured) -> dict[str, Any]:
        settings = self._settings
        return {
            **provenance.collect(self._session.script, self._workers.size),
            **{key: settings[key] for key in ("tuner", "max_epochs", "trials", "seed", "space")},
            "factor": hyperband.FACTOR,
            "settings": settings,
            "predicted_seconds": round(seconds, 1),
            "xla_break_even": measured.xla_break_even,
            "of_the_loss": self._of_the_loss(),
        }

    def _of_the_loss(self) -> list[str]:
        """The hyper-parameters of the starting model that change the loss which is the objective; none of any other."""
        session, names = self._session, []
        known = {parameter.name for parameter in self._space.space}
        for name in known.intersection(self._start) if "loss" in session.exercise.objective else ():
            tried = [{**self._start, name: value} for value in sweep.values_of(self._space, name, MOST_VALUES)]
            losses = [loss for values in tried if (loss := session.loss_function_of(values))]
            if any(loss != losses[0] for loss in losses):
                names.append(name)
        return sorted(names)

    def search(self) -> None:
        """Runs it, or what is left of it, and records it.

        Raises:
            WorkError: no trial completed.
        """
        session, oracle = self._session, self._oracle
        self._began = time.monotonic()
        self._record(complete=False)
        complete = False
        trials = sum(rung.trials for rung in oracle.rungs)
        try:
            with Progress(session.console, "trials", trials, self._forecast.left) as self._progress:
                study.search(
                    oracle,
                    self._workers,
                    session.folder,
                    session.seed,
                    self._watch,
                    self.known,
                    self._facts["xla_break_even"],
                    self._in_time,
                )
            complete = study.best_trial(oracle) is not None
        finally:
            self._record(complete)
        best = study.best_trial(oracle)
        if best is None:
            messages = (trial.message for trial in oracle.trials.values() if trial.message)
            raise WorkError(f"no trial completed; the first failed with: {next(messages, 'no trial could be made')}")
        if session.budget is not None and len(oracle.trials) < trials and not oracle.exhausted:
            session.say(f"The budget ended the search: {len(oracle.trials)} of {trials} trials.")
        if oracle.exhausted:
            session.say(
                f"The space is exhausted: every one of its configurations has been tried ({len(oracle.trials)} trials)."
            )
        done = self._tally()
        session.say(
            f"Searched {done['trials_run']} trials, {done['epochs_trained']} epochs, in "
            f"{figures.duration(done['seconds'], ' ')}. {printing.best_line(best)}."
        )

    def _in_time(self) -> bool:
        budget = self._session.budget
        return budget is None or self._forecast.next() <= budget.left("search")

    def _watch(self, event: study.Event) -> None:
        if event.reused:
            self._progress.skip()
            return
        self._forecast.ended(event.trial)
        best = study.best_trial(self._oracle)
        self._progress.advance(printing.event(event.trial, best), printing.best_line(best))

    def _record(self, complete: bool) -> None:
        session = self._session
        sealed = {"files": files.digests(session.folder, *session.searched)} if complete else {}
        facts = {**self._facts, **self._tally(), **sealed, "complete": complete, "cost": self._forecast.cost.factors}
        session.record("search", facts, self._start)

    def _tally(self) -> dict[str, Any]:
        rungs = self._oracle.rungs
        ended = [trial for trial in self._oracle.trials.values() if trial.status in ENDED]
        trained = (rung_of(trial, rungs) for trial in ended)
        return {
            "seconds": round(self._before + time.monotonic() - self._began, 2),
            "trials_run": len(ended),
            "epochs_trained": sum(rung.epochs - rung.initial_epoch for rung in trained),
        }
