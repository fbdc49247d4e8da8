"""The search itself: asks the oracle, which it owns alone, submits, collects, tells."""

from __future__ import annotations

import json
import math
import time
import warnings
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras_tuner
import numpy as np

from search import files, provenance
from search.errors import RequestError, WorkError, first_line
from search.oracles.base import SeededOracle, holding
from search.oracles.space import own_values
from search.results import SETTING
from search.workers.base import DeadWorkers, Workers, result
from search.workers.trial import Job, Outcome

SECONDS_BETWEEN_PROJECTS = 2.0  # or more, so that it stays within 1 % of the time however long the search


@dataclass(frozen=True)
class Event:
    """A trial that has just ended, for those who watch."""

    trial: Any
    reused: bool


@dataclass(frozen=True)
class Known:
    """A trial that ended before: the values it was given and what became of it."""

    values: dict[str, Any]
    outcome: Outcome


def search(
    oracle: Any,
    workers: Workers,
    folder: Path,
    seed: int,
    watch: Callable[[Event], None] = lambda event: None,
    known: Mapping[str, Known] | None = None,
    xla_break_even: float | None = None,
    go_on: Callable[[], bool] = lambda: True,
) -> None:
    """Runs the search to its end, or goes on with one that was interrupted.

    Args:
        oracle: one of :mod:`search.oracles.hyperband`'s, fresh: the known outcomes are told to it again.
        workers: where the trials run.
        folder: the exercise's results folder; the KerasTuner project is ``search`` in it.
        seed: the trials' seeds derive from it.
        watch: called after each trial.
        known: the outcomes of trials that have ended before, from :func:`known_outcomes`.
        xla_break_even: see :class:`search.workers.trial.Job`.
        go_on: see :func:`run`.

    Raises:
        RequestError: the known outcomes are of another search; nothing is written.
        WorkError: the disk is full, the folder cannot be written, or no worker starts.
    """
    with holding(oracle):
        _search(oracle, workers, folder, seed, watch, known, xla_break_even, go_on)


def _search(
    oracle: Any,
    workers: Workers,
    folder: Path,
    seed: int,
    watch: Callable[[Event], None],
    known: Mapping[str, Known] | None,
    xla_break_even: float | None,
    go_on: Callable[[], bool],
) -> None:
    project = folder / "search"
    oracle._set_project_dir(str(folder), "search")
    left = dict(known or {})
    refused = False

    def tell_again(trial: Any) -> bool:
        if trial.trial_id not in left:
            return False
        _tell_again(oracle, trial, left.pop(trial.trial_id))
        watch(Event(oracle.trials[trial.trial_id], reused=True))
        return True

    def told(trial: Any, outcome: Outcome) -> None:
        _tell(oracle, trial, outcome)
        watch(Event(oracle.trials[trial.trial_id], reused=False))

    try:
        run(
            oracle,
            workers,
            job=lambda trial: _job(oracle, trial, project, seed, xla_break_even),
            tell=told,
            tell_again=tell_again,
            write=lambda: write_project(oracle, folder),
            go_on=go_on,
        )
    except RequestError:
        refused = True
        raise
    except OSError as error:
        raise not_written(error, folder) from None
    finally:
        if not refused:
            write_project(oracle, folder)


def run(
    oracle: Any,
    workers: Workers,
    *,
    job: Callable[[Any], Job],
    tell: Callable[[Any, Outcome], None],
    tell_again: Callable[[Any], bool],
    write: Callable[[], None],
    ask: Callable[[str], Any] | None = None,
    go_on: Callable[[], bool] = lambda: True,
    ahead: bool = True,
) -> None:
    """The loop of every search: asks, submits, collects, tells, until the oracle has no other trial.

    Args:
        oracle: KerasTuner's or one of ours; it is asked under as many names as there are jobs at a time.
        job: what a trial asks of a worker.
        tell: takes a trial's outcome to the oracle and ends it there; told again where the oracle retries the trial.
        tell_again: the same with what is known of the trial from before; false where nothing is.
        write: called now and then, to write what follows from the trials.
        ask: the trial for a name; by default the oracle's ``create_trial``.
        go_on: false once no other trial is to begin; those under way end.
        ahead: whether trials may wait for a worker; such a one begins whatever ``go_on`` says by then.

    Raises:
        WorkError: no worker starts.
        OSError: a state cannot be written.
    """
    ask = ask or oracle.create_trial
    dead: dict[str, DeadWorkers] = {}
    running: dict[Future[Outcome], Any] = {}
    at_a_time = workers.size + (workers.ahead if ahead else 0)
    slots = [*dict.fromkeys([*oracle.ongoing_trials, *(f"worker{i}" for i in range(at_a_time))])]
    next_write = 0.0
    trial: Any = None
    while True:
        under_way = {one.trial_id for one in running.values()}
        for slot in slots:
            asked = oracle.ongoing_trials.get(slot)  # or one that an interrupted search left: it is handed out again
            if (asked is not None and asked.trial_id in under_way) or not go_on():
                continue
            trial = ask(slot)
            while trial is not None and trial.status == "RUNNING" and tell_again(trial):
                trial = ask(slot) if go_on() else None
            if trial is None or trial.status != "RUNNING":
                break
            future = workers.submit(job(trial))
            running[future] = trial
            if future.done():
                break  # in this process, one at a time: what it leaves is known before the next is asked for
        if not running:
            if trial is not None and trial.status == "IDLE" and go_on() and not isinstance(oracle, SeededOracle):
                continue  # one of the user's, which says that it calculates
            return
        done, _ = wait(running, return_when=FIRST_COMPLETED)
        for future in done:
            trial = running.pop(future)
            outcome = result(future, dead.setdefault(trial.trial_id, DeadWorkers()))
            if outcome is None:
                running[workers.submit(job(trial))] = trial
                continue
            tell(trial, outcome)
        if time.monotonic() > next_write:
            began = time.monotonic()
            write()
            next_write = began + max(SECONDS_BETWEEN_PROJECTS, 100 * (time.monotonic() - began))


def not_written(error: OSError, folder: Path) -> WorkError:
    """What a person can do about a file that cannot be written."""
    return WorkError(
        f"{error.filename or folder}: {error.strerror or error}; make room or give the right to write, then run the "
        "same command again: it goes on from here"
    )


def write_project(oracle: Any, folder: Path) -> None:
    """Writes what follows from the trials: KerasTuner's oracle file, ``trials.csv`` and ``best.json``."""
    oracle.write_project()
    columns, rows = trial_rows(oracle)
    files.write_csv(folder / "trials.csv", columns, rows)
    trial = best_trial(oracle)
    if trial is not None:
        values = trial.hyperparameters.values
        files.write_json(
            folder / "best.json",
            {
                "trial_id": trial.trial_id,
                "objective": oracle.objective.name,
                "score": trial.score,
                "best_epoch": trial.best_step + 1,
                "epochs": len(trial.metrics.get_history(oracle.objective.name)),
                "hyperparameters": own_values(values),
            },
        )


def best_trial(oracle: Any) -> Any | None:
    """The completed trial with the best score, the oldest of equals; None before the first."""
    completed = [trial for trial in oracle.trials.values() if trial.status == "COMPLETED"]
    direction = max if oracle.objective.direction == "max" else min
    return direction(completed, key=lambda trial: trial.score) if completed else None


def trial_rows(oracle: Any) -> tuple[list[str], list[dict[str, Any]]]:
    """The columns and rows of ``trials.csv``; a hyper-parameter's column is ``hp.`` and its name."""
    names = [SETTING + hp.name for hp in oracle.hyperparameters.space]
    metrics = [*dict.fromkeys(["val_accuracy", "val_loss", "accuracy", "loss", oracle.objective.name])]
    columns = ["trial_id", "status", "bracket", "round", "promoted_from", "initial_epoch", "epochs"]
    columns += [*dict.fromkeys(names), "best_epoch", *metrics, "seconds", "message"]
    rows = []
    for trial in sorted(oracle.trials.values(), key=lambda trial: trial.trial_id):
        values = trial.hyperparameters.values
        row = {
            "trial_id": trial.trial_id,
            "status": trial.status,
            "bracket": values.get("tuner/bracket"),
            "round": values.get("tuner/round"),
            "promoted_from": values.get("tuner/trial_id"),
            "initial_epoch": values.get("tuner/initial_epoch", 0),
            "epochs": values.get("tuner/epochs", oracle.rungs[0].epochs),
            **{SETTING + name: value for name, value in own_values(values).items()},
            "message": (trial.message or "").replace("\n", " "),
        }
        if trial.metrics.exists("seconds"):
            row["seconds"] = f"{trial.metrics.get_last_value('seconds'):.3f}"
        if trial.status == "COMPLETED":
            row["best_epoch"] = trial.best_step + 1
            for metric in metrics:
                if trial.metrics.exists(metric):
                    at = {observation.step: observation.value[0] for observation in trial.metrics.get_history(metric)}
                    row[metric] = at[trial.best_step]
        rows.append(row)
    return columns, rows


def _job(oracle: Any, trial: Any, project: Path, seed: int, xla_break_even: float | None) -> Job:
    values = trial.hyperparameters.values
    past = values.get("tuner/trial_id")
    origin = trial
    while "tuner/trial_id" in origin.hyperparameters.values:
        origin = oracle.trials[origin.hyperparameters.values["tuner/trial_id"]]
    milestones = oracle.milestones(trial)
    return Job(
        name=trial.trial_id,
        hyperparameters=own_values(values),
        seed=(seed, int(origin.trial_id)),
        epochs=values.get("tuner/epochs", milestones[-1]),
        milestones=milestones,
        initial_epoch=values.get("tuner/initial_epoch", 0),
        state=_state_path(project, trial.trial_id),
        resume_from=None if past is None else _state_path(project, past),
        xla_break_even=xla_break_even,
    )


def _state_path(project: Path, trial_id: str) -> Path:
    return project / f"trial_{trial_id}" / "state.npz"


def _tell(oracle: Any, trial: Any, outcome: Outcome) -> None:
    objective = oracle.objective.name
    if outcome.completed and objective not in outcome.history:
        message = f"the objective {objective} is not among the model's metrics ({', '.join(outcome.history)})"
        outcome = Outcome(False, message=message, seconds=outcome.seconds)
    if outcome.completed:
        metrics = list(outcome.history)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # KerasTuner asks for the best of epochs that may all be NaN
            for epoch, values in enumerate(zip(*outcome.history.values(), strict=True)):
                oracle.update_trial(trial.trial_id, dict(zip(metrics, values, strict=True)), step=epoch)
        score = outcome.history[objective]
        if not np.isfinite(score).any():
            outcome = Outcome(False, message=f"diverged: {objective} is never a number", seconds=outcome.seconds)
    oracle.trials[trial.trial_id].metrics.update("seconds", outcome.seconds)
    if outcome.space is not None:
        declare(trial.hyperparameters, outcome.space)
    trial.status = "COMPLETED" if outcome.completed else "FAILED"
    trial.message = outcome.message or None
    oracle.end_trial(trial)


def declare(hyperparameters: Any, found: Any) -> None:
    """Adds what ``build`` and ``fit`` have declared in ``found`` to a trial's ``HyperParameters``, with its values."""
    new = [hp for hp in found.space if not hyperparameters._exists(hp.name, hp.conditions)]
    hyperparameters.merge(new)
    hyperparameters.values |= {hp.name: found.values[hp.name] for hp in new if hp.name in found.values}


def _tell_again(oracle: Any, trial: Any, known: Known) -> None:
    asked = trial.hyperparameters.values
    if {name: known.values.get(name) for name in asked} != asked:
        raise RequestError(
            f"trial {trial.trial_id} was {own_values(known.values)} and would now be "
            f"{own_values(trial.hyperparameters.values)}: the space, the seed or the library changed; use --fresh"
        )
    oracle.reused.add(trial.trial_id)
    _tell(oracle, trial, known.outcome)


def known_outcomes(folder: Path, oracle: Any, say: Callable[[str], None]) -> dict[str, Known]:
    """The trials in ``folder`` that have ended, by id.

    A damaged file is set aside, ``say`` hears of it, and its trial is asked for again: its state still has its epochs.

    Raises:
        RequestError: a trial is of another search.
    """
    known = {}
    for path in sorted(folder.glob("search/trial_*/trial.json")):
        try:
            state = json.loads(path.read_text(encoding="utf-8"))
            if "sha256" not in state:
                raise ValueError("it has no checksum: an older version wrote it")
            if not files.is_sealed(state):
                raise ValueError("its checksum does not fit")
            if path.parent.name != f"trial_{state['trial_id']}":
                raise ValueError(f"it is of trial {state['trial_id']}")
            ended = _known(state, oracle.objective.name)
            mark = state["search"]
        except Exception as error:  # whatever JSON, and KerasTuner with it, can hold
            aside = files.set_aside(path)
            say(
                f"{path} cannot be used ({type(error).__name__}: {first_line(error)}); it is now {aside.name if aside else 'gone'}, "
                "and the trial runs again from its last state"
            )
            continue
        if mark != oracle.mark:
            named = provenance.changes(mark, {**dict.fromkeys(mark), **oracle.mark}) if isinstance(mark, dict) else []
            changed = "; ".join(named) or "what it is of"
            raise RequestError(f"{path} is of another search ({changed}); use --fresh to set it aside")
        known[state["trial_id"]] = ended
    return known


def _known(state: Any, objective: str) -> Known:
    """What a trial's file says, checked as far as the rest of the program relies on it."""
    trial = keras_tuner.engine.trial.Trial.from_state(state)
    history = {
        metric: [float(observation.value[0]) for observation in trial.metrics.get_history(metric)]
        for metric in trial.metrics.metrics
    }
    (seconds,) = history.pop("seconds")
    if not math.isfinite(seconds):
        raise ValueError(f"it took {seconds} seconds")
    completed = {"COMPLETED": True, "FAILED": False}[trial.status]
    if completed and (not history.get(objective) or len({len(values) for values in history.values()}) != 1):
        raise ValueError(f"{objective} is not there for every epoch")
    if not all(isinstance(hp.name, str) for hp in trial.hyperparameters.space):
        raise TypeError("a hyper-parameter's name is no text")
    if not isinstance(trial.message, str | None):
        raise TypeError(f"its message is {trial.message!r}")
    return Known(
        dict(trial.hyperparameters.values),
        Outcome(completed, history, seconds=seconds, message=trial.message or "", space=trial.hyperparameters),
    )
