"""KerasTuner's tuners with our engine under them: their arguments and methods, and what a search needs beside.

What a tuner does is KerasTuner's; ours are where trials run (``workers``, ``cluster``), how they train (``search.training``
inside every trial), which trial comes next (``search.oracles``) and what a search that is run again finds (``trial.json`` of every
trial that has ended, told again in order).
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import inspect
import json
import math
import os
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import keras_tuner
import numpy as np
from keras_tuner.errors import FailedTrialError, FatalError, FatalRuntimeError, FatalTypeError
from rich.console import Console

from search import files, study, training
from search.errors import RequestError, WorkError, ending
from search.oracles import space as spaces
from search.oracles.base import ENDED, SeededOracle, holding
from search.oracles.bayesian import BayesianOptimizationOracle
from search.oracles.grid_search import GridSearchOracle
from search.oracles.hyperband import HyperbandOracle
from search.oracles.random_search import RandomSearchOracle
from search.report import figures, sentences
from search.report.progress import Progress
from search.training import callbacks as hooks
from search.workers import settings, threads, user_code
from search.workers.base import Unpicklable, Workers, cores
from search.workers.in_process import InProcess
from search.workers.trial import Job, Outcome, Problem, declaring, isolated, renumber

if keras.backend.backend() == "tensorflow":
    threads.one_for_arithmetic()
    threads.share_gpus()

HOOKS = ("on_epoch_begin", "on_epoch_end", "on_batch_begin", "on_batch_end")
ASKED_BY = ("tuner", "seed", "first")  # of a mark: with another, other trials are asked for
STEPS = ("fit", "evaluate", "train_step", "test_step", "make_train_function", "make_test_function")
NOT_THE_USERS = ("builtins", "numpy", "tensorflow", "keras", "pandas", "scipy")  # where the classes of plain data are
OF_NO_TRAINING = (  # attributes of a tuner that no trial's training depends on
    *("oracle", "logger", "directory", "project_name", "tuner_id", "_asked_workers", "_cluster", "_max_seconds"),
    *("_patience", "_first", "_fresh", "_running", "_records", "_own_steps", "_fit_arguments"),
)
OWN = (  # methods whose override is the user's code, which may keep something in Python from one trial to the next
    *HOOKS,
    *("run_trial", "_build_and_fit_model", "on_trial_begin", "on_trial_end", "on_search_begin", "on_search_end"),
    *("save_model", "load_model", "pre_create_trial"),
)


class _Searching(keras_tuner.Tuner):  # type: ignore[misc]
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
        self._running: tuple[Problem, Job, Callable[[], bool]] | None = None
        self._records: list[training.Record] = []
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
        if self.hypermodel is None and _is_known(type(self).run_trial):
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
        code = user_code.digest(type(self), own, _objectives(self.oracle.objective), no_data)
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
            return (
                None
                if math.isinf(oracle.iterations)
                else int(sum(rung.trials for rung in oracle.rungs) * oracle.iterations)
            )
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
        before = _as_trial(state)
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
        own, file = self._own_code(problem), _file_for_all(problem)
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

    def _own_code(self, problem: Problem) -> str:
        """What of the user's runs in a trial beside ``build``; empty where nothing does."""
        for name in OWN:
            if not _is_known(getattr(type(self), name)):
                return f"{type(self).__name__}.{name}"
        if self._fits_itself():
            return f"{type(self.hypermodel).__name__}.fit"
        for callback in problem.kwargs.get("callbacks") or ():
            if not hooks.is_known(callback):
                return f"the callback {type(callback).__name__}"
        data = {name: value for name, value in problem.kwargs.items() if name != "callbacks"}
        for part in keras.tree.flatten((problem.args, data)):
            if type(part).__module__.split(".")[0] not in NOT_THE_USERS:
                return f"the data's {type(part).__name__}"
        return self._own_steps or settings.replaced()

    def _fits_itself(self) -> bool:
        return self.hypermodel is not None and not _is_known(type(self.hypermodel).fit)

    def _may_declare_late(self) -> bool:
        """Whether a trial may declare hyper-parameters that ``build`` does not: the first then ends before another begins."""
        return self._fits_itself() or not all(
            _is_known(getattr(type(self), name)) for name in ("run_trial", "_build_and_fit_model")
        )

    def _say(self, line: str) -> None:
        if self.oracle.verbose:
            print(line, flush=True)

    # One trial, wherever it runs

    def run_job(self, problem: Problem, job: Job, stopping: Callable[[], bool]) -> Outcome:
        """Runs a trial by ``run_trial`` and returns what became of it; see :func:`search.workers.trial.run`."""
        began, trial = time.monotonic(), job.trial
        self.oracle.trials[trial.trial_id] = trial
        self._running, self._records = (problem, job, stopping), []
        plan = job.plan(problem, stopping)
        record = training.Record()
        try:
            training.seed_everything(plan.seed)
            with training.planned(plan) as record:  # for a run_trial of the user's own
                self._run_and_update_trial(trial, *problem.args, **problem.kwargs)
            trial.status = "COMPLETED"
        except (FatalError, training.Stopped, KeyboardInterrupt):
            raise
        except BaseException as error:  # whatever the user's own code raises, sys.exit included
            if isinstance(error, OSError) and any(one.not_written is error for one in (record, *self._records)):
                raise
            trial.status = "FAILED" if isinstance(error, FailedTrialError) else "INVALID"
            trial.message = traceback.format_exc()
        finally:
            self._running = None
        records = self._records or [record]
        return Outcome(
            completed=trial.status == "COMPLETED",
            history=records[0].history,
            parameters=records[-1].parameters,
            seconds=time.monotonic() - began,
            epoch_seconds=tuple(second for one in records for second in one.epoch_seconds),
            message="; ".join(note for one in records for note in one.notes),
            trial=trial,
            executions=tuple(one.history for one in records),
        )

    def run_trial(self, trial: Any, *args: Any, **kwargs: Any) -> Any:
        """See ``keras_tuner.Tuner.run_trial``; every execution follows a plan of its own."""
        if self._running is None:
            return super().run_trial(trial, *args, **kwargs)
        problem, job, stopping = self._running
        best = _BestEpoch(self.oracle.objective, self._get_checkpoint_fname(trial.trial_id))
        given = kwargs.pop("callbacks", None) or []
        results = []
        for execution in range(self.executions_per_trial):
            callbacks = self._deepcopy_callbacks(given)
            self._configure_tensorboard_dir(callbacks, trial, execution)
            callbacks += [*self._hooks(trial), best]
            plan = job.plan(problem, stopping, execution)
            training.seed_everything(plan.seed)
            with training.planned(plan) as record, isolated():
                self._records.append(record)
                results.append(self._build_and_fit_model(trial, *args, callbacks=callbacks, **kwargs))
        best.write()
        self._need_objective(results)
        return results

    def _need_objective(self, results: list[Any]) -> None:
        """Raises ``FailedTrialError``, where KerasTuner raises ``KeyError``, of trainings without the objective's metrics."""
        wanted = [name for name, _ in _objectives(self.oracle.objective)]
        for one in results:
            metrics = list(one.history) if isinstance(one, keras.callbacks.History) else wanted
            missing = [name for name in wanted if name not in metrics]
            if missing:
                validated = any(name.startswith("val_") for name in metrics)
                data = missing[0].startswith("val_") and not validated
                remedy = "give search() validation_data or validation_split" if data else "compile the model with it"
                raise FailedTrialError(
                    f"the objective {missing[0]} is not among the metrics ({', '.join(metrics)}); {remedy}, or take another "
                    "objective"
                )

    def _hooks(self, trial: Any) -> list[keras.callbacks.Callback]:
        """What calls this tuner's ``on_epoch_...`` and ``on_batch_...``, where they are not KerasTuner's, which do nothing."""
        overridden = [name for name in HOOKS if not _is_known(getattr(type(self), name))]
        if not overridden:
            return []
        from keras_tuner.src.engine import tuner_utils

        if any("batch" in name for name in overridden):
            return [tuner_utils.TunerCallback(self, trial)]
        return [_EpochHooks(self, trial)]

    def _try_build(self, hp: Any) -> Any:
        renumber()
        model = self._build_hypermodel(hp)
        if not isinstance(model, keras.models.Model):
            raise FatalTypeError(
                "Expected the model-building function, or HyperModel.build() to return a valid Keras Model instance. "
                f"Received: {model} of type {type(model)}."
            )
        size = sum(int(np.prod(weight.shape)) for weight in model.trainable_weights) if model.built else 0
        if self.max_model_size and size > self.max_model_size:
            raise FailedTrialError(f"Oversized model: {size} parameters. Skip model.")
        training.returned(model)
        return model

    def _populate_initial_space(self) -> None:
        """See KerasTuner's; nothing that ``build`` does to the process stays, and it does not end it."""
        with isolated(), self._noting_own_steps():
            try:
                super()._populate_initial_space()
            except SystemExit as error:
                raise FatalRuntimeError(
                    f"{type(self.hypermodel).__name__}.build called sys.exit({error.code!r}) when it was asked for the "
                    "space; expected a model"
                ) from None

    @contextlib.contextmanager
    def _noting_own_steps(self) -> Iterator[None]:
        """Inside it, every model that ``build`` makes is looked at; see :func:`_own_steps`."""
        if self.hypermodel is None:
            yield
            return
        kept, build = dict(vars(self.hypermodel)), self.hypermodel.build

        def noting(hp: Any) -> Any:
            model = build(hp)
            self._own_steps = self._own_steps or _own_steps(model)
            return model

        self.hypermodel.build = noting
        try:
            yield
        finally:
            if "build" in kept:
                self.hypermodel.build = kept["build"]
            else:
                del self.hypermodel.build

    # What was there before

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
        oracle.first_alone = self._may_declare_late()
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
        mark |= {"objective": _objectives(self.oracle.objective), "fit": self._fit_arguments}
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
        changed = [name for name in ("tuner", "seed", "first", "space") if before.get(name, now[name]) != now[name]]
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
                before = _as_trial(state)
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

    # What was found

    @property
    def results(self) -> list[dict[str, Any]]:
        """Every trial in order: ``trial_id``, ``status``, ``score``, ``best_step``, ``hyperparameters`` (a dictionary),
        ``metrics`` at the best step, ``history`` (of each execution, metric -> a value an epoch), ``seconds``, ``message``.
        """
        rows = []
        for trial_id, trial in sorted(self.oracle.trials.items()):
            details = getattr(self.oracle, "details", {}).get(trial_id, {})
            metrics = {name: trial.metrics.get_best_value(name) for name in trial.metrics.metrics}
            row = {"trial_id": trial_id, "status": trial.status, "score": trial.score, "best_step": trial.best_step}
            row |= {"hyperparameters": spaces.own_values(trial.hyperparameters.values), "metrics": metrics}
            row |= {"history": details.get("history", []), "seconds": details.get("seconds"), "message": trial.message}
            rows.append(row)
        return rows

    def results_frame(self) -> Any:
        """``results`` as a ``pandas.DataFrame``, a row a trial, a column for each hyper-parameter (``hp.NAME``) and metric.

        Raises:
            ImportError: pandas is not installed.
        """
        try:
            import pandas  # type: ignore[import-untyped]
        except ImportError:
            raise ImportError("results_frame() needs pandas; install it with: pip install pandas") from None

        rows = []
        for row in self.results:
            flat = {name: value for name, value in row.items() if name not in ("hyperparameters", "metrics", "history")}
            flat |= {f"hp.{name}": value for name, value in row["hyperparameters"].items()}
            rows.append(flat | {f"metric.{name}": value for name, value in row["metrics"].items()})
        return pandas.DataFrame(rows)

    def report(self) -> Path:
        """Writes the project's HTML page and returns its path.

        Raises:
            search.errors.WorkError: there is no trial yet.
        """
        from search.report.page import write_search_report

        if not self.oracle.trials:
            raise WorkError(f"{self.project_dir} has no trial yet; call search() first")
        objective = self.oracle.objective
        return write_search_report(Path(self.project_dir), objective=objective.name, direction=objective.direction)

    def _repr_html_(self) -> str:
        """What Jupyter shows: the trials, best first."""
        import html

        rows = {row["trial_id"]: row for row in self.results}
        cells = []
        for trial in self.oracle.get_best_trials(len(rows)):
            epochs = max((len(curve) for one in rows[trial.trial_id]["history"] for curve in one.values()), default="")
            values = rows[trial.trial_id]["hyperparameters"].items()
            said = ", ".join(f"{name} = {figures.value(value)}" for name, value in values)
            cells.append([trial.trial_id, trial.status, f"{trial.score:.5g}", epochs, said])
        head = "".join(
            f"<th>{html.escape(name)}</th>"
            for name in ("trial", "status", self.oracle.objective.name, "epochs", "configuration")
        )
        body = ("".join(f"<td>{html.escape(str(cell))}</td>" for cell in row) for row in cells)
        return f"<table><tr>{head}</tr>{''.join(f'<tr>{row}</tr>' for row in body)}</table>"


class Tuner(_Searching):
    __doc__ = f"{keras_tuner.Tuner.__doc__}\n{_Searching.__doc__}"


class RandomSearch(_Searching, keras_tuner.RandomSearch):  # type: ignore[misc]
    __doc__ = f"{keras_tuner.RandomSearch.__doc__}\n{_Searching.__doc__}"
    _stock, _own_oracle = keras_tuner.RandomSearch, RandomSearchOracle


class GridSearch(_Searching, keras_tuner.GridSearch):  # type: ignore[misc]
    __doc__ = f"{keras_tuner.GridSearch.__doc__}\n{_Searching.__doc__}"
    _stock, _own_oracle = keras_tuner.GridSearch, GridSearchOracle


class BayesianOptimization(_Searching, keras_tuner.BayesianOptimization):  # type: ignore[misc]
    __doc__ = f"{keras_tuner.BayesianOptimization.__doc__}\n{_Searching.__doc__}"
    _stock, _own_oracle = keras_tuner.BayesianOptimization, BayesianOptimizationOracle


class Hyperband(_Searching, keras_tuner.Hyperband):  # type: ignore[misc]
    __doc__ = f"{keras_tuner.Hyperband.__doc__}\n{_Searching.__doc__}"
    _stock, _own_oracle = keras_tuner.Hyperband, HyperbandOracle

    def run_trial(self, trial: Any, *args: Any, **kwargs: Any) -> Any:
        """See ``keras_tuner.Hyperband.run_trial``: ``fit`` is told the epochs of the trial's rung."""
        values = trial.hyperparameters.values
        if "tuner/epochs" in values:
            kwargs |= {"epochs": values["tuner/epochs"], "initial_epoch": values["tuner/initial_epoch"]}
        return super().run_trial(trial, *args, **kwargs)

    def _build_hypermodel(self, hp: Any) -> Any:
        """A promoted trial's model has the weights, and later all else, that the trial before it ended with."""
        if self._running is None or "tuner/trial_id" not in hp.values:
            return keras_tuner.Tuner._build_hypermodel(self, hp)
        problem, job, stopping = self._running
        plan = job.plan(problem, stopping)
        if plan.resume_from is None or not plan.resume_from.exists():
            return keras_tuner.Hyperband._build_hypermodel(self, hp)
        model = keras_tuner.Tuner._build_hypermodel(self, hp)
        if model.built:
            training.restore_weights(plan, model)
        return model


def _copied(weight: Any) -> Any:
    return np.array(keras.ops.convert_to_numpy(weight.value))


def _best_epoch() -> type:
    from keras_tuner.src.engine import tuner_utils

    class BestEpoch(tuner_utils.SaveBestEpoch):  # type: ignore[misc]
        """Keeps the weights of the best epoch in memory, and writes them once, at the end of a ``fit`` or of the trial."""

        def __init__(self, objective: Any, path: str) -> None:
            super().__init__(objective, path)
            self.best_weights: list[Any] | None = None
            self._best_model: Any = None
            self._written = False

        def on_train_begin(self, logs: Any = None) -> None:
            self._best_model = self._best_model or self.model

        def _save_model(self) -> None:
            self._best_model, self._written = self.model, False
            self.best_weights = [_copied(weight) for weight in self.model.weights]

        def get_state(self) -> dict[str, Any]:
            """What belongs to the state of a training that is interrupted."""
            return {"best_value": float(self.best_value), "best_weights": self.best_weights}

        def set_state(self, state: dict[str, Any]) -> None:
            self.best_value, self.best_weights = state["best_value"], state["best_weights"]

        def on_train_end(self, logs: Any = None) -> None:
            self.write()  # what comes behind may give the model other weights

        def write(self) -> None:
            if self.best_weights is None or self._written:
                return
            model, self._written = self._best_model, True
            now = [_copied(weight) for weight in model.weights]
            for weight, value in zip(model.weights, self.best_weights, strict=True):
                weight.assign(value)
            model.save_weights(self.filepath)
            for weight, value in zip(model.weights, now, strict=True):
                weight.assign(value)

    return BestEpoch


_BestEpoch: Any = _best_epoch()


class _EpochHooks(keras.callbacks.Callback):  # type: ignore[misc]
    """Calls a tuner's ``on_epoch_begin`` and ``on_epoch_end``, and wants nothing between batches."""

    def __init__(self, tuner: Any, trial: Any) -> None:
        super().__init__()
        self.tuner, self.trial = tuner, trial

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.tuner.on_epoch_begin(self.trial, self.model, epoch, logs=logs)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.tuner.on_epoch_end(self.trial, self.model, epoch, logs=logs)


def __getattr__(name: str) -> Any:
    """KerasTuner's other tuners, which a user reaches as ``keras_tuner.tuners``."""
    if name.startswith("__"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(keras_tuner.tuners, name)


def _own_steps(model: keras.Model) -> str:
    """What of the user's runs in the model's training, step by step; empty where all of it is Keras's."""
    if not isinstance(model, keras.Model):
        return ""
    if model.run_eagerly:
        return "a model compiled with run_eagerly"
    for name in STEPS:
        if not getattr(getattr(model, name), "__module__", "").startswith(("keras.", "search.")):
            return f"{type(model).__name__}.{name}"
    return ""


def _is_known(function: Any) -> bool:
    """Whether a method is KerasTuner's or ours."""
    return getattr(function, "__module__", "").split(".")[0] in ("keras_tuner", "search")


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


def _named(objectives: list[list[str]]) -> str:
    return " and ".join(f"{name} ({direction})" for name, direction in objectives)


def _configuration(trial: Any) -> str:
    return sentences.configuration(spaces.own_values(trial.hyperparameters.values))


def _objectives(objective: Any) -> list[tuple[str, str]]:
    return [(one.name, one.direction) for one in getattr(objective, "objectives", [objective])]


def _as_trial(state: dict[str, Any]) -> Any:
    return keras_tuner.engine.trial.Trial.from_state(copy.deepcopy(state))  # which puts its conditions into the state


def _declared(state: dict[str, Any]) -> list[Any]:
    """What ``build`` declared for a trial that has ended, from the trial's file."""
    space = _as_trial(state).hyperparameters.space
    return [hp for hp in space if hp.name in state["declared"]]


def _file_for_all(problem: Problem) -> str:
    """Which of the callbacks writes one file, or folder, for all trials; empty where none does."""
    kinds = (keras.callbacks.ModelCheckpoint, keras.callbacks.CSVLogger, keras.callbacks.BackupAndRestore)
    for callback in problem.kwargs.get("callbacks") or ():
        if isinstance(callback, kinds):
            return f"the callback {type(callback).__name__} writes one file"
    return ""
