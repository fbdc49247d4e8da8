"""One search of a tuner: its arguments, where its trials run, one trial after another, and what is said of them."""

from __future__ import annotations

import contextlib
import copy
import hashlib
import inspect
import json
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import keras_tuner
import numpy as np
from rich.console import Console

from search import files, study
from search.errors import RequestError, ending
from search.oracles import space as spaces
from search.oracles.base import ENDED, SeededOracle, holding
from search.oracles.hyperband import HyperbandOracle
from search.report import figures, sentences
from search.report.progress import Progress
from search.tuner.found import Found
from search.tuner.going_on import GoesOn, as_trial
from search.tuner.own_code import file_for_all, is_known, own_code
from search.tuner.trials import objectives_of
from search.workers import settings, threads, user_code
from search.workers.base import Unpicklable, Workers, cores
from search.workers.in_process import InProcess
from search.workers.trial import Job, Outcome, Problem

OF_NO_TRAINING = (  # attributes of a tuner that no trial's training depends on
    *("oracle", "logger", "directory", "project_name", "tuner_id", "_asked_workers", "_cluster", "_max_seconds"),
    *("_patience", "_first", "_fresh", "_running", "_records", "_own_steps", "_fit_arguments"),
)


class Searching(GoesOn, Found):
    """What every tuner here takes and has beside KerasTuner's.

    Args:
        workers: processes that run trials, 0 for this one. None: one a core, or a GPU, where no code of the user's runs
            but ``build``, and else this process, since what such code leaves behind in Python would stay in a worker.
        cluster: ``local``, ``HOST:PORT`` or ``ray://HOST:PORT`` of a Ray cluster, where trials then run.
        max_seconds: no trial begins once the search has taken this long; those under way end.
        first: values to try before any other, a dictionary each; what one leaves out has its default.
        patience: no trial begins once this many trials, in the order in which they ended, brought no better score; those
            under way end.
    """

    oracle: Any
    _stock: type | None = None  # KerasTuner's tuner whose arguments the constructor takes
    _own_oracle: type | None = None  # ours, in place of the one that it makes

    def __init__(
        self,
        *args: Any,
        workers: int | None = None,
        cluster: str | None = None,
        max_seconds: float | None = None,
        first: Sequence[Mapping[str, Any]] | None = None,
        patience: int | None = None,
        **kwargs: Any,
    ) -> None:
        if workers is not None and (isinstance(workers, bool) or not isinstance(workers, int) or workers < 0):
            raise ValueError(
                f"workers is {workers!r}; expected a whole number from 0, or None for as many as there are cores"
            )
        if cluster is not None and workers == 0:
            raise ValueError("workers=0 trains in this process and cluster elsewhere; leave one of them out")
        if max_seconds is not None and not (isinstance(max_seconds, (int, float)) and max_seconds > 0):
            raise ValueError(
                f"max_seconds is {max_seconds!r}; expected a number of seconds above 0, or None for no limit"
            )
        if patience is not None and (isinstance(patience, bool) or not isinstance(patience, int) or patience < 1):
            raise ValueError(
                f"patience is {patience!r}; expected a whole number of trials from 1, or None for no limit"
            )
        self._asked_workers, self._cluster, self._max_seconds = workers, cluster, max_seconds
        self._patience = patience
        if isinstance(first, Mapping) or not all(isinstance(values, Mapping) for values in first or ()):
            raise ValueError(f"first is {first!r}; expected a list of dictionaries, one a configuration")
        self._first = [dict(values) for values in first or ()]
        if self._first and issubclass(type(self), keras_tuner.GridSearch):
            raise ValueError(
                "first is not for GridSearch, which tries every combination in its own order; leave it out"
            )
        self._fresh: Any = None  # the oracle before anything was reloaded
        self._running = None
        self._records = []
        self._fit_arguments: dict[str, str] = {}  # of `search`, a digest each
        self._own_steps = ""  # of the models that build made for the space
        if self._stock is None or self._own_oracle is None:
            super().__init__(*args, **kwargs)
            self._need_hypermodel()
            return
        given = dict(inspect.signature(self._stock.__init__).bind(self, *args, **kwargs).arguments)  # type: ignore[misc]
        given.pop("self")
        hypermodel, others = given.pop("hypermodel", None), given.pop("kwargs", {})
        if self._stock is not keras_tuner.Hyperband:
            self.seed = given.get("seed")
        keras_tuner.Tuner.__init__(self, self._own_oracle(**given), hypermodel, **others)
        self._need_hypermodel()

    def _need_hypermodel(self) -> None:
        if self.hypermodel is None and is_known(type(self).run_trial):
            raise ValueError(
                "Received `hypermodel=None`. It may be left out only by a subclass that overrides `run_trial` and uses none."
            )

    def __getstate__(self) -> dict[str, Any]:
        """What a worker needs to run trials: not the trials of the search, nor its files."""
        oracle = copy.copy(self.oracle)
        oracle.trials, oracle.ongoing_trials = {}, {}
        if isinstance(oracle, SeededOracle):
            oracle.details, oracle._started, oracle.build = {}, {}, None
        return {**self.__dict__, "oracle": oracle, "_fresh": None, "_running": None, "_records": []}

    # Searching

    def search(self, *fit_args: Any, **fit_kwargs: Any) -> None:
        """Searches, or goes on with a search that was interrupted; see ``keras_tuner.Tuner.search``.

        Raises:
            keras_tuner.errors.FatalError: the user's code asks for the search to end.
            RuntimeError: as many trials failed one after another as ``max_consecutive_failed_trials`` allows.
            search.errors.RequestError: another process searches in the same folder.
            search.errors.WorkError: the work could not be written, or no worker starts.
        """
        if "KERASTUNER_ORACLE_IP" in os.environ:  # KerasTuner's own way to run on several machines
            super().search(*fit_args, **fit_kwargs)
            return
        if "verbose" in fit_kwargs:
            self.oracle.verbose = fit_kwargs["verbose"]
        project = Path(self.project_dir)
        with files.locked(project, "directory="):
            problem = self._problem(fit_args, fit_kwargs)
            known = self._rewound()
            workers = self._start_workers(problem, project)
            try:
                self.on_search_begin()
                self._run(problem, workers, known)
                self.on_search_end()
            except OSError as error:
                raise study.not_written(error, project) from None
            except KeyboardInterrupt:
                self._say("Interrupted; run the same again, it goes on from here.")
                raise KeyboardInterrupt from None  # without the place in a library where it came
            finally:
                workers.close()
                self.save()

    def _problem(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Problem:
        name, own = type(self.hypermodel).__name__, {k: v for k, v in vars(self).items() if k not in OF_NO_TRAINING}
        no_data = [part for part in keras.tree.flatten((args, dict(kwargs))) if not hasattr(part, "__array__")]
        code = user_code.digest(type(self), own, objectives_of(self.oracle.objective), no_data)
        self._fit_arguments = _arguments(args, kwargs)
        data = hashlib.sha256(json.dumps(self._fit_arguments, sort_keys=True).encode()).hexdigest()
        return Problem(name, data, args=args, kwargs=dict(kwargs), tuner=self, code=code)

    def _run(self, problem: Problem, workers: Workers, known: dict[int, dict[str, Any]]) -> None:
        began, begun = time.monotonic(), set()
        seed, oracle, verbose = int(self.oracle.seed), self.oracle, self.oracle.verbose
        ended: list[bool] = []  # of every trial that ended here, whether it completed
        took: list[float] = []  # of those that did

        def ask(slot: str) -> Any:
            self.pre_create_trial()
            return oracle.create_trial(self.tuner_id if isinstance(workers, InProcess) else slot)

        def job(trial: Any) -> Job:
            if (trial.trial_id, oracle._run_times[trial.trial_id]) not in begun:
                begun.add((trial.trial_id, oracle._run_times[trial.trial_id]))
                self.on_trial_begin(trial)
            return self._job(trial, seed)

        def tell(trial: Any, outcome: Outcome) -> None:
            self._tell(trial, outcome)
            self._clean_up(trial)
            ended.append(outcome.completed)
            took.extend([outcome.seconds] * outcome.completed)
            if progress is not None:
                progress.advance(self._said(trial), self._best_line())
            elif verbose:
                print(self._said(trial), flush=True)

        def tell_again(trial: Any) -> bool:
            state = known.pop(int(trial.trial_id), None)
            if state is not None:
                self._tell_again(trial, state)
                if progress is not None:
                    progress.skip()
            return state is not None

        def go_on() -> bool:
            in_time = known or self._max_seconds is None or time.monotonic() - began < self._max_seconds
            return bool(in_time) and not self._stagnates()

        def left() -> float | None:
            limit = math.inf if self._max_seconds is None else began + self._max_seconds - time.monotonic()
            if not took or not total or limit < 0:
                return None
            return min(limit, max(1.0, (total - len(oracle.end_order)) / workers.size) * sum(took) / len(took))

        write = oracle.write_project if isinstance(oracle, SeededOracle) else oracle.save
        self.save()  # what is killed from here on is found
        total = self._planned() if verbose else None
        ahead = self._max_seconds is None and self._patience is None
        how: dict[str, Any] = {"job": job, "tell": tell, "tell_again": tell_again, "ask": ask, "go_on": go_on}
        with holding(oracle), self._progress(total, left) as progress:
            study.run(oracle, workers, write=write, ahead=ahead, **how)
        self._say_how_it_ended(len(ended), total, time.monotonic() - began)

    def _progress(
        self, total: int | None, left: Callable[[], float | None]
    ) -> contextlib.AbstractContextManager[Progress | None]:
        """What counts the trials on the screen; None where nobody knows how many there will be, or nobody looks."""
        if total is None:
            return contextlib.nullcontext()
        console = Console(soft_wrap=True, highlight=False, force_jupyter=False)
        return Progress(console, "trials", total, left, before=len(self.oracle.end_order), each=True)

    def _say_how_it_ended(self, ran: int, total: int | None, seconds: float) -> None:
        oracle = self.oracle
        done = len(oracle.end_order)
        why = "" if total is not None and done >= total else self._why_it_stopped(done, total, seconds)
        failed = sum(oracle.trials[name].status != "COMPLETED" for name in oracle.end_order)
        counted = f"{figures.plural(done - failed, 'trial')} completed, {failed} failed"
        best = ""
        if done > failed:
            trial = oracle.get_best_trials()[0]
            best = f"; best trial {trial.trial_id}: {oracle.objective.name} {trial.score:.5g} ({_configuration(trial)})"
        nothing = "" if ran or why else "Nothing to run: "
        self._say(f"{nothing}{counted}{best}; all in {self.project_dir}")
        if why:
            self._say(why)

    def _why_it_stopped(self, done: int, total: int | None, seconds: float) -> str:
        """What ended the search before its end; empty where nothing did."""
        ended = f"{done} of {total or 'any number of'} trials"
        if self._stagnates():
            return f"Stopped, since the last {self._patience} trials brought no better score (patience): {ended}."
        if self._max_seconds is not None and seconds >= self._max_seconds:
            return f"Stopped after {self._max_seconds:g} s (max_seconds): {ended}; run again, it goes on."
        return ""

    def _planned(self) -> int | None:
        """How many trials the search will have, where that is known before it ends."""
        oracle = self.oracle
        if isinstance(oracle, HyperbandOracle):
            return None if math.isinf(oracle.planned) else int(oracle.planned)
        return oracle.max_trials if isinstance(oracle.max_trials, int) else None

    def _stagnates(self) -> bool:
        """Whether the last ``patience`` trials that ended brought no better score than those before them."""
        if self._patience is None:
            return False
        ended = [self.oracle.trials[name] for name in self.oracle.end_order]
        sign = 1.0 if self.oracle.objective.direction == "max" else -1.0
        scores = [sign * trial.score if trial.status == "COMPLETED" else -math.inf for trial in ended]
        return len(scores) > self._patience and max(scores[-self._patience :]) <= max(scores[: -self._patience])

    def _job(self, trial: Any, seed: int) -> Job:
        values = trial.hyperparameters.values
        origin, past = trial, values.get("tuner/trial_id")
        while "tuner/trial_id" in origin.hyperparameters.values:
            origin = self.oracle.trials[origin.hyperparameters.values["tuner/trial_id"]]
        attempt = self.oracle._run_times[trial.trial_id]
        hyperband = isinstance(self.oracle, HyperbandOracle)
        return Job(
            name=trial.trial_id,
            hyperparameters=spaces.own_values(values),
            seed=(seed, int(origin.trial_id), *([attempt] if attempt else [])),
            epochs=values.get("tuner/epochs", 0),
            milestones=self.oracle.milestones(trial) if hyperband else None,
            state=self._state(trial.trial_id),
            resume_from=None if past is None else self._state(past),
            initial_epoch=values.get("tuner/initial_epoch", 0),
            trial=trial,
        )

    def _state(self, trial_id: str) -> Path:
        return Path(os.path.abspath(self.project_dir), f"trial_{trial_id}", "state.npz")

    def _tell(self, trial: Any, outcome: Outcome) -> None:
        if outcome.trial is None:  # its worker was lost
            trial.status, trial.message = "FAILED", outcome.message
        elif outcome.trial is not trial:  # it ran in another process
            for part in ("hyperparameters", "metrics", "status", "message"):
                setattr(trial, part, getattr(outcome.trial, part))
        if isinstance(self.oracle, SeededOracle):
            details = {"history": list(outcome.executions), "seconds": round(outcome.seconds, 3)}
            self.oracle.details.setdefault(trial.trial_id, {}).update(details)
        self.on_trial_end(trial)

    def _tell_again(self, trial: Any, state: dict[str, Any]) -> None:
        before = as_trial(state)
        trial.hyperparameters, trial.metrics = before.hyperparameters, before.metrics
        trial.status, trial.message = before.status, before.message
        if before.trial_id != trial.trial_id:  # ids have as many digits as max_trials, which grew
            Path(self.project_dir, f"trial_{before.trial_id}").rename(Path(self.project_dir, f"trial_{trial.trial_id}"))
        else:
            self.oracle.reused.add(trial.trial_id)
        details = {name: state[name] for name in ("history", "seconds", "declared") if name in state}
        self.oracle.details[trial.trial_id] = details
        self.oracle.end_trial(trial)

    def _clean_up(self, trial: Any) -> None:
        """Nothing goes on from a trial that has ended, but for a promotion; a retry begins anew."""
        if trial.status not in ENDED or not isinstance(self.oracle, HyperbandOracle):
            for state in self._state(trial.trial_id).parent.glob("state*.npz"):
                state.unlink()

    def _said(self, trial: Any) -> str:
        """The line of a trial that has ended."""
        values = _configuration(trial)
        if trial.status != "COMPLETED":
            again = "; it is tried again" if trial.status == "INVALID" else ""
            return f"trial {trial.trial_id} failed: {ending(trial.message or '')}{again}; {values}"
        best = self.oracle.get_best_trials()[0]
        name = self.oracle.objective.name
        return f"trial {trial.trial_id}: {name} {trial.score:.5g}; best {best.score:.5g}; {values}"

    def _best_line(self) -> str:
        """The best trial so far, for the live line of a terminal; empty before there is one."""
        completed = [trial for trial in self.oracle.trials.values() if trial.status == "COMPLETED"]
        if not completed:
            return ""
        best = self.oracle.get_best_trials()[0]
        return f"Best so far: {best.score:.5g}, {_configuration(best)}"

    # Where trials run

    def _start_workers(self, problem: Problem, project: Path) -> Workers:
        asked = self._asked_workers
        if self._cluster is not None:
            from search.workers.cluster import RayWorkers

            cluster = RayWorkers(self._cluster, asked, "cluster=")
            try:
                cluster.begin(problem)
            except Unpicklable as error:
                cluster.close()
                raise RequestError(f"{error}; leave cluster out to run the trials in this process") from None
            return cluster
        own, file = own_code(self, problem), file_for_all(problem)
        reason = f"{own} is code of yours" if own else file and f"{file} for all trials"
        if asked is None and reason and cores() > 1:
            self._say(f"Trials run in this process, since {reason}; workers=N runs them in N processes.")
        count = (0 if reason else _default_workers()) if asked is None else asked
        if count and file:
            self._say(f"{file}, in which {count} processes write at once.")
        if count and (replaced := settings.replaced()):
            self._say(f"{replaced} is replaced in this process, and not in the {count} where trials run.")
        if count:
            from search.workers import limits
            from search.workers.local import LocalPool

            count = min(count, self._planned() or count)  # no other would ever have a trial
            limits.check(count)
            pool = LocalPool(count, project)
            try:
                pool.begin(problem)
                return pool
            except Unpicklable as error:
                pool.close()
                self._say(f"Trials run in this process: {error}.")
        here = InProcess(patient=False)
        here.begin(problem)
        return here

    def _say(self, line: str) -> None:
        if self.oracle.verbose:
            print(line, flush=True)


def _default_workers() -> int:
    """One a GPU, or a core; none beside this process where there is one core."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        if gpus := tf.config.list_physical_devices("GPU"):
            return len(gpus) if threads.share_gpus() else 0
    return cores() if cores() > 1 else 0


def _fingerprint(data: Any) -> str:
    """A digest of the arrays in ``data``; of what is none, its type."""
    digest = hashlib.blake2b(digest_size=16)
    for part in keras.tree.flatten(data):
        digest.update(type(part).__name__.encode())
        if isinstance(part, (int, float, str, bool)):
            digest.update(str(part).encode())
        elif hasattr(part, "__array__") and not callable(part):
            array = np.ascontiguousarray(part)
            digest.update(f"{array.shape}{array.dtype}".encode())
            digest.update(repr(array.tolist()).encode() if array.dtype.hasobject else array.view(np.uint8).data)
    return digest.hexdigest()


def _arguments(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, str]:
    """A digest of each argument of ``search`` that may decide a training; none of those that have ``fit``'s defaults."""
    defaults = {name: one.default for name, one in inspect.signature(keras.Model.fit).parameters.items()}
    names = [*list(defaults)[1:], *(f"argument {number}" for number in range(len(defaults), len(args) + 1))]
    given = {**dict(zip(names, args, strict=False)), **kwargs}
    digests = {name: _fingerprint(value) for name, value in given.items() if name != "verbose"}
    return {
        name: digest
        for name, digest in digests.items()
        if name not in defaults or digest != _fingerprint(defaults[name])
    }


def _configuration(trial: Any) -> str:
    return sentences.configuration(spaces.own_values(trial.hyperparameters.values))
