"""The search of an exercise: its oracle, its plan, and what is printed and recorded while it runs."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from typing import Any

import keras_tuner

from search import files, provenance, study
from search.errors import WorkError
from search.lab import cost, printing
from search.lab.forecast import SearchForecast, rung_of
from search.lab.session import Session
from search.oracles import hyperband, random_search
from search.oracles.base import ENDED
from search.report import figures
from search.report.progress import Progress
from search.workers.trial import build


def oracle_of(session: Session, space: Any, settings: Mapping[str, Any]) -> Any:
    """What proposes the trials.

    Args:
        space: the exercise's ``HyperParameters``.
        settings: of the search, as ``run.json`` has them.
    """
    common = {
        "objective": keras_tuner.Objective(session.exercise.objective, session.exercise.direction),
        "seed": session.seed,
        "hyperparameters": space,
        "max_consecutive_failed_trials": None,  # they are reported, and the search goes on
    }
    epochs = settings["max_epochs"]
    oracle = (
        hyperband.HyperbandOracle(max_epochs=epochs, **common)
        if settings["tuner"] == "hyperband"
        else random_search.RandomSearchOracle(max_trials=settings["trials"], epochs=epochs, **common)
    )
    oracle.first = [*settings["first"]]
    oracle.mark = {"exercise": session.exercise.name, **settings}
    del oracle.mark["space"], oracle.mark["first"]  # each trial's values say more
    return oracle


def asker(session: Session) -> Callable[[Mapping[str, Any]], cost.Asked | None]:
    """What says of a configuration what an epoch of its model asks; None of one that cannot be built."""
    images = len(session.source.images) - session.source.validation_images
    hypermodel = session.hypermodel()
    known: dict[str, cost.Asked | None] = {}

    def asked_of(values: Mapping[str, Any]) -> cost.Asked | None:
        key = json.dumps(values, sort_keys=True, default=str)
        if key not in known:
            try:
                _, model = build(hypermodel, values, (session.seed,))
                known[key] = cost.asked(model, images, values.get("batch_size", 32))
            except (Exception, SystemExit):  # whatever the exercise's own code raises: its trial will say so
                known[key] = None
        return known[key]

    return asked_of


class Run:
    """One search under way, from its plan to its record.

    Args:
        oracle: from :func:`oracle_of`.
        settings: what the record keeps of it.
        start: the starting model's values.
        before: seconds that it took before it was interrupted.
    """

    def __init__(
        self, session: Session, oracle: Any, settings: Mapping[str, Any], start: dict[str, Any], before: float
    ) -> None:
        self._session, self._oracle, self._settings, self._start = session, oracle, settings, start
        self._before, self._workers = before, session.start_workers()
        self._forecast: SearchForecast
        self._facts: dict[str, Any]
        self._progress: Progress
        self._began = time.monotonic()

    def plan(self, model: Any, xla_break_even: float | None) -> None:
        """Measures what trainings cost here, and says what will be done and how long it takes.

        Args:
            model: the starting model.
            xla_break_even: what was measured before; None measures it.
        """
        session, oracle, settings = self._session, self._oracle, self._settings
        asked_of = asker(session)

        def foresee() -> None:
            for _, configurations in oracle.foreseen():
                for values in configurations[: cost.MOST_BUILT]:
                    asked_of(values)

        measured = cost.measure(
            session, self._workers, model, self._start, settings["max_epochs"], xla_break_even, foresee
        )
        self._forecast = SearchForecast(oracle, measured.model, asked_of, measured.xla_break_even, self._workers.size)
        seconds = self._forecast.left()
        printing.print_plan(session, settings["tuner"], oracle.rungs, seconds, self._workers.size, measured.epoch)
        self._facts = {
            **provenance.collect(session.script, self._workers.size),
            **{key: settings[key] for key in ("tuner", "max_epochs", "trials", "seed", "space")},
            "factor": hyperband.FACTOR,
            "settings": settings,
            "predicted_seconds": round(seconds, 1),
            "xla_break_even": measured.xla_break_even,
        }

    def search(self, known: Mapping[str, study.Known]) -> None:
        """Runs it, or what is left of it, and records it.

        Args:
            known: from :func:`search.study.known_outcomes`.

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
                break_even = self._facts["xla_break_even"]
                study.search(oracle, self._workers, session.folder, session.seed, self._watch, known, break_even)
            complete = study.best_trial(oracle) is not None
        finally:
            self._record(complete)
        best = study.best_trial(oracle)
        if best is None:
            messages = (trial.message for trial in oracle.trials.values() if trial.message)
            raise WorkError(f"no trial completed; the first failed with: {next(messages, 'no trial could be made')}")
        if oracle.exhausted:
            session.say(
                f"The space is exhausted: every one of its configurations has been tried ({len(oracle.trials)} trials)."
            )
        done = self._tally()
        session.say(
            f"Searched {done['trials_run']} trials, {done['epochs_trained']} epochs, in "
            f"{figures.duration(done['seconds'], ' ')}. {printing.best_line(best)}."
        )

    def _watch(self, event: study.Event) -> None:
        if event.reused:
            self._progress.skip()
            return
        self._forecast.ended(event.trial)
        best = study.best_trial(self._oracle)
        self._progress.advance(printing.event(event.trial, best), printing.best_line(best))

    def _record(self, complete: bool) -> None:
        written = (self._session.folder / name for name in ("trials.csv", "best.json"))
        sealed = {"files": files.digests(self._session.folder, *written)} if complete else {}
        facts = {**self._facts, **self._tally(), **sealed, "complete": complete, "cost": self._forecast.cost.factors}
        self._session.record("search", facts, self._start)

    def _tally(self) -> dict[str, Any]:
        rungs = self._oracle.rungs
        ended = [trial for trial in self._oracle.trials.values() if trial.status in ENDED]
        trained = (rung_of(trial, rungs) for trial in ended)
        return {
            "seconds": round(self._before + time.monotonic() - self._began, 2),
            "trials_run": len(ended),
            "epochs_trained": sum(rung.epochs - rung.initial_epoch for rung in trained),
        }
