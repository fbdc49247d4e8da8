"""Where trials run: this process, or a pool of processes on this machine. One small interface: submit, close."""

from __future__ import annotations

import contextlib
import math
import multiprocessing
import multiprocessing.connection
import multiprocessing.context
import multiprocessing.forkserver
import multiprocessing.resource_tracker
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

from search.errors import WorkError, first_line
from search.training.trial import MODELS_KEPT, Job, Outcome, Stopped, Trainer

MAX_RETRIES = 2  # of a job whose worker died or overran its limit
MAX_STARTS = 5  # of a worker that dies before it is given the job, which is then not the job's doing
SECONDS_TO_SAVE = 3.0  # for a worker to end its epoch and write its state when it is stopped
SECONDS_TO_NOTICE = 0.1  # that a trial has overrun its limit, or that the search is to stop


Structure = frozenset[tuple[str, Any]]


class Workers(Protocol):
    """Runs jobs: ``size`` at a time, the best of ``ahead`` more first when a worker is free."""

    size: int
    ahead: int

    def submit(self, job: Job) -> Future[Outcome]:
        """Starts ``job`` as soon as a worker is free. The future raises what ended a worker, never a bad configuration."""

    def close(self) -> None:
        """Stops every worker; jobs under way save their state first."""


class InProcess:
    """Runs each job at once in this process: for debugging and for tests."""

    size = 1
    ahead = 0

    def __init__(self, script: Path, source: str | None) -> None:
        self._script, self._source = script, source
        self._trainer: Trainer | None = None

    def submit(self, job: Job) -> Future[Outcome]:
        """See :class:`Workers`."""
        import search.workers.runtime  # noqa: F401

        future: Future[Outcome] = Future()
        received: list[int] = []
        handlers: dict[int, Callable[[int, FrameType | None], Any]] = {}
        for caught in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if callable(handler := signal.getsignal(caught)):
                handlers[caught] = handler

        def stop_after_the_epoch(number: int, frame: FrameType | None) -> None:
            received.append(number)
            if len(received) > 1:  # the epoch does not end
                handlers[number](number, frame)

        try:
            for number in handlers:
                signal.signal(number, stop_after_the_epoch)
            self._trainer = self._trainer or Trainer(self._script, self._source)
            future.set_result(self._trainer.run(job, lambda: bool(received)))
        except Exception as error:
            future.set_exception(error)
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
        if received:
            signal.raise_signal(received[0])
        return future

    def close(self) -> None:
        """See :class:`Workers`."""


class LocalPool:
    """Processes on this machine, each with one thread for arithmetic, so that results do not depend on their number.

    TensorFlow is imported once, by the server that the workers are forked from; they start while the caller goes on.
    Each worker has a pipe and a thread of its own: workers share no lock that one could die with. A worker that is free
    takes the oldest job whose program it has, else the oldest whose program no other worker has.
    """

    def __init__(
        self,
        size: int,
        script: Path,
        source: str | None,
        job_seconds: float | None = None,
        data_sha256: str | None = None,
    ) -> None:
        """Starts the workers.

        Args:
            size: how many.
            script, source: the exercise and the name of its data.
            job_seconds: a job that takes longer loses its worker.
            data_sha256: what the data has to be when a worker reads it; None for whatever it is.
        """
        self.size = self.ahead = size
        self._job_seconds = job_seconds
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["search.workers.runtime"])
        # A terminal that closes, or `timeout`, signals the whole group; the driver decides what becomes of the others.
        handlers = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGHUP, signal.SIGTERM)}
        multiprocessing.resource_tracker.ensure_running()
        multiprocessing.forkserver.ensure_running()
        for number, handler in handlers.items():
            signal.signal(number, handler)
        self._arguments = (script, source, data_sha256)
        self._jobs: list[tuple[Job, Future[Outcome]]] = []
        self._handed_in = threading.Condition()
        self._closing = threading.Event()
        self._trained = [deque[Structure](maxlen=MODELS_KEPT) for _ in range(size)]
        self._keepers = [
            threading.Thread(target=self._keep_a_worker, args=(trained,), daemon=True) for trained in self._trained
        ]
        for keeper in self._keepers:
            keeper.start()

    def submit(self, job: Job) -> Future[Outcome]:
        """See :class:`Workers`."""
        future: Future[Outcome] = Future()
        with self._handed_in:
            self._jobs.append((job, future))
            self._handed_in.notify()
        return future

    def close(self) -> None:
        """See :class:`Workers`."""
        self._closing.set()
        with self._handed_in:
            self._handed_in.notify_all()
        for keeper in self._keepers:
            keeper.join()

    def _next(self, trained: deque[Structure]) -> tuple[Job, Future[Outcome]] | None:
        """The job for the worker that has trained these; None when there is to be no other."""

        def preference(task: tuple[Job, Future[Outcome]]) -> int:
            structure = _structure(task[0])
            return 0 if structure in trained else 1 + any(structure in others for others in self._trained)

        with self._handed_in:
            self._handed_in.wait_for(lambda: self._jobs or self._closing.is_set())
            if self._closing.is_set():
                return None
            task = min(self._jobs, key=preference)
            self._jobs.remove(task)
            if (structure := _structure(task[0])) in trained:
                trained.remove(structure)
            trained.append(structure)
            return task

    def _keep_a_worker(self, trained: deque[Structure]) -> None:
        worker = None
        try:
            with contextlib.suppress(WorkerLost):  # the job that finds none tries again
                worker = _Worker(self._context, self._arguments)
            while (task := self._next(trained)) is not None:
                job, future = task
                try:
                    if worker is None or not worker.alive():
                        worker = _Worker(self._context, self._arguments)
                    future.set_result(worker.run(job, self._job_seconds, self._closing))
                except WorkerLost as error:
                    if worker is not None:
                        worker.stop()
                    with self._handed_in:
                        trained.clear()
                    future.set_exception(error)
                except Exception as error:
                    future.set_exception(error)
        finally:
            if worker is not None:
                worker.stop()


def _structure(job: Job) -> Structure:
    """What two jobs whose models share a program have in common, as far as their values say."""
    values = job.hyperparameters.items()
    return frozenset((name, value) for name, value in values if name != "batch_size" and not isinstance(value, float))


class WorkerLost(Exception):
    """A worker died, or was stopped, with a job that may be tried again; the message says how.

    Attributes:
        starting: it died before it was given a job.
    """

    def __init__(self, reason: str, starting: bool = False) -> None:
        super().__init__(reason)
        self.starting = starting


class _Worker:
    """One process, seen from the driver's side of its pipe."""

    def __init__(
        self, context: multiprocessing.context.ForkServerContext, arguments: tuple[Path, str | None, str | None]
    ) -> None:
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_work, args=(theirs, *arguments), daemon=True)
        try:
            self._process.start()
        except (OSError, EOFError) as error:  # no memory for another process; the server was killed
            raise WorkerLost(f"a worker could not be started ({first_line(error)})", starting=True) from None
        theirs.close()
        self._ready = False

    def alive(self) -> bool:
        return self._process.is_alive()

    def run(self, job: Job, seconds: float | None, closing: threading.Event) -> Outcome:
        """Raises what the job raised; :class:`WorkerLost` when the process ended or took longer than ``seconds``."""
        if not self._ready:
            self._receive(None, closing)
            self._ready = True
        try:
            self._pipe.send(job)
        except OSError:
            raise self._lost() from None
        reply = self._receive(seconds, closing)
        if isinstance(reply, Exception):
            raise reply
        assert isinstance(reply, Outcome)
        return reply

    def stop(self) -> None:
        """Ends the process; a job under way saves its state first, if its epoch ends in time."""
        self._pipe.close()
        self._process.terminate()
        self._process.join(SECONDS_TO_SAVE)
        self._process.kill()
        self._process.join()

    def _receive(self, seconds: float | None, closing: threading.Event) -> object:
        # by the monotonic clock: a clock that is set, or a lid that is closed, ends no trial
        deadline = math.inf if seconds is None else time.monotonic() + seconds
        while not (ready := multiprocessing.connection.wait([self._pipe, self._process.sentinel], SECONDS_TO_NOTICE)):
            if closing.is_set():
                raise WorkerLost("the search was stopped")
            if time.monotonic() > deadline:
                raise WorkerLost(f"it overran its time limit of {seconds:g} s")
        if self._pipe in ready:
            with contextlib.suppress(EOFError, OSError):  # it died in the middle of a word
                return self._pipe.recv()
        raise self._lost()

    def _lost(self) -> WorkerLost:
        self._process.join(SECONDS_TO_SAVE)
        code = self._process.exitcode
        how = f"exit code {code}" if code is None or code >= 0 else signal.Signals(-code).name
        if code == -signal.SIGKILL:
            how += ", as when memory runs out"
        when = "" if self._ready else " while it started"
        return WorkerLost(f"the worker died{when} ({how})", starting=not self._ready)


def run_all(workers: Workers, jobs: Sequence[Job], watch: Callable[[Job, Outcome], None]) -> list[Outcome]:
    """Runs the jobs and returns their outcomes in the jobs' order; ``watch`` hears of each as it ends.

    Raises:
        OSError: a state could not be written.
    """
    outcomes: dict[int, Outcome] = {}
    losses = [Losses() for _ in jobs]
    running = {workers.submit(job): i for i, job in enumerate(jobs)}
    while running:
        done, _ = wait(running, return_when=FIRST_COMPLETED)
        for future in done:
            i = running.pop(future)
            outcome = result(future, losses[i])
            if outcome is None:
                running[workers.submit(jobs[i])] = i
            else:
                outcomes[i] = outcome
                watch(jobs[i], outcome)
    return [outcomes[i] for i in range(len(jobs))]


@dataclass
class Losses:
    """The workers that one job has lost: while they trained it, and before they were given it."""

    training: int = 0
    starting: int = 0


def result(future: Future[Outcome], losses: Losses) -> Outcome | None:
    """A finished job's outcome; None, counted in ``losses``, where its worker was lost and the job may be tried again.

    Raises:
        WorkError: no worker starts.
        OSError: a state could not be written.
    """
    try:
        return future.result()
    except WorkerLost as error:
        if error.starting:
            losses.starting += 1
            if losses.starting > MAX_STARTS:
                raise WorkError(
                    f"no worker can be started: {error}; try --workers 1, or 0 to see its own message"
                ) from None
            return None
        losses.training += 1
        return None if losses.training <= MAX_RETRIES else Outcome(False, message=f"{error}, {losses.training} times")


def _work(
    pipe: multiprocessing.connection.Connection[Any, Any], script: Path, source: str | None, data_sha256: str | None
) -> None:
    """What a worker does: says that it is ready, then answers each job with its outcome or with what it raised."""
    training, stopping = threading.Event(), threading.Event()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the driver decides
    signal.signal(signal.SIGTERM, lambda *_: stopping.set() if training.is_set() else sys.exit(0))
    threading.Thread(target=_end_with_the_driver, daemon=True).start()
    with contextlib.suppress(OSError):  # when memory runs out, the kernel takes a worker, which is replaced
        Path("/proc/self/oom_score_adj").write_text("500")
    import search.workers.runtime  # noqa: F401

    try:
        trainer: Trainer | WorkError
        trainer = made = Trainer(script, source)
        if data_sha256 not in (None, made.data_sha256):
            trainer = WorkError(
                f"--data {source} changed since this command began; put the images back and run it again"
            )
    except Exception as error:  # whatever the exercise's own code raises; the driver has built it, so this is rare
        trainer = WorkError(f"a worker did not start: {type(error).__name__}: {first_line(error)}")
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):  # the driver has ended
        pipe.send("ready")
        while True:
            job = pipe.recv()
            training.set()
            reply: object = trainer
            if isinstance(trainer, Trainer):
                try:
                    reply = trainer.run(job, stopping.is_set)
                except Stopped:
                    return
                except (OSError, WorkError) as error:
                    reply = error
                except Exception as error:
                    reply = WorkError(f"trial {job.name}: {type(error).__name__}: {first_line(error)}")
            pipe.send(reply)
            training.clear()
            if stopping.is_set():
                return


def _end_with_the_driver() -> None:
    driver = multiprocessing.parent_process()  # not the server it was forked from, which lives as long as any worker
    assert driver is not None
    driver.join()
    os._exit(1)
