"""Processes on this machine, forked from a server that has imported TensorFlow; the user's script is not run again."""

from __future__ import annotations

import contextlib
import math
import multiprocessing
import multiprocessing.connection
import multiprocessing.context
import multiprocessing.forkserver
import multiprocessing.resource_tracker
import multiprocessing.spawn
import os
import pickle
import shutil
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import cloudpickle

from search.errors import WorkError, first_line
from search.training import Stopped
from search.workers import sending
from search.workers.base import WorkerLost
from search.workers.trial import Job, Outcome, Problem, run

SECONDS_TO_SAVE = 3.0  # for a worker to end its epoch and write its state when it is stopped
SECONDS_TO_END = 2 * SECONDS_TO_SAVE  # for all workers, when the search does
SECONDS_TO_NOTICE = 0.1  # that a trial has overrun its limit, or that the search is to stop
PROGRAMS_KEPT = 24  # about as many as a worker has compiled and still holds


Structure = frozenset[tuple[str, Any]]


class LocalPool:
    """Processes on this machine, each with one thread for arithmetic, so that results do not depend on their number.

    TensorFlow is imported once, by the server that the workers are forked from; they start while the caller goes on.
    Each worker has a pipe and a thread of its own: workers share no lock that one could die with. A worker that is free
    takes the oldest job whose program it has, else the oldest whose program no other worker has.
    """

    def __init__(self, size: int, folder: Path) -> None:
        """Starts the workers.

        Args:
            size: how many; with GPUs, worker i has the i-th of them to itself.
            folder: of this search alone; what all workers read is in ``.sent`` in it, until they are closed or the next
                search begins there.
        """
        self.size = self.ahead = size
        self._folder = folder / ".sent"
        self._sent: Path | None = None
        self._seconds: float | None = None
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["search.workers.runtime"])
        # Ctrl-C, a terminal that closes and `timeout` signal the whole group; the driver decides what becomes of the others.
        handlers = {}
        if threading.current_thread() is threading.main_thread():
            numbers = (signal.SIGINT, signal.SIGHUP, signal.SIGTERM)
            handlers = {number: signal.signal(number, signal.SIG_IGN) for number in numbers}
        try:
            multiprocessing.resource_tracker.ensure_running()
            multiprocessing.forkserver.ensure_running()
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
        self._jobs: list[tuple[Job, Future[Outcome]]] = []
        self._handed_in = threading.Condition()
        self._closing = threading.Event()
        self._trained = [deque[Structure](maxlen=PROGRAMS_KEPT) for _ in range(size)]
        self._keepers = [
            threading.Thread(target=self._keep_a_worker, args=(i, trained), daemon=True)
            for i, trained in enumerate(self._trained)
        ]
        for keeper in self._keepers:
            keeper.start()

    def begin(self, problem: Problem) -> None:
        """See :class:`search.workers.base.Workers`."""
        self._sent, self._seconds = sending.send(problem, self._folder), problem.seconds

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
        deadline = time.monotonic() + SECONDS_TO_END
        for (
            keeper
        ) in self._keepers:  # one whose worker has not started yet waits for TensorFlow's import, and nobody for it
            keeper.join(max(0.0, deadline - time.monotonic()))
        shutil.rmtree(self._folder, ignore_errors=True)

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

    def _keep_a_worker(self, number: int, trained: deque[Structure]) -> None:
        worker = None
        try:
            with contextlib.suppress(WorkerLost):  # the job that finds none tries again
                worker = _Worker(self._context, number)
            while (task := self._next(trained)) is not None:
                job, future = task
                try:
                    if worker is None or not worker.alive():
                        worker = _Worker(self._context, number)
                    future.set_result(worker.run(self._sent, job, self._seconds, self._closing))
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


class _Worker:
    """One process, seen from the driver's side of its pipe."""

    def __init__(self, context: multiprocessing.context.ForkServerContext, number: int) -> None:
        try:
            self._pipe, theirs = context.Pipe()
            self._process = context.Process(target=_work, args=(theirs, number), daemon=True)
            with _script_left_alone():
                self._process.start()
        except (OSError, EOFError) as error:  # no memory or file for another; the server was killed
            raise WorkerLost(f"a worker could not be started ({first_line(error)})", starting=True) from None
        theirs.close()
        self._ready = False

    def alive(self) -> bool:
        return self._process.is_alive()

    def run(self, sent: Path | None, job: Job, seconds: float | None, closing: threading.Event) -> Outcome:
        """Raises what the job raised; :class:`WorkerLost` when the process ended or took longer than ``seconds``."""
        if not self._ready:
            self._receive(None, closing)
            self._ready = True
        try:
            self._pipe.send_bytes(cloudpickle.dumps((sent, job)))
        except OSError:
            raise self._lost() from None
        reply = self._receive(seconds, closing)
        if isinstance(reply, BaseException):
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
                return pickle.loads(self._pipe.recv_bytes())
        raise self._lost()

    def _lost(self) -> WorkerLost:
        self._process.join(SECONDS_TO_SAVE)
        code = self._process.exitcode
        how = f"exit code {code}" if code is None or code >= 0 else signal.Signals(-code).name
        if code == -signal.SIGKILL:
            how += ", as when memory runs out"
        when = "" if self._ready else " while it started"
        return WorkerLost(f"the worker died{when} ({how})", starting=not self._ready)


_starting = threading.Lock()


@contextlib.contextmanager
def _script_left_alone() -> Iterator[None]:
    """A process that starts inside it does not import the user's script, which may have no main guard."""
    spawn: Any = multiprocessing.spawn
    with _starting:
        original = spawn.get_preparation_data

        def without_main(name: str) -> dict[str, Any]:
            data: dict[str, Any] = original(name)
            return {key: value for key, value in data.items() if not key.startswith("init_main")}

        spawn.get_preparation_data = without_main
        try:
            yield
        finally:
            spawn.get_preparation_data = original


def _work(pipe: multiprocessing.connection.Connection[Any, Any], number: int) -> None:
    """What a worker does: says that it is ready, then answers each job with its outcome or with what it raised."""
    training, stopping = threading.Event(), threading.Event()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the driver decides
    signal.signal(signal.SIGTERM, lambda *_: stopping.set() if training.is_set() else sys.exit(0))
    threading.Thread(target=_end_with_the_driver, daemon=True).start()
    with contextlib.suppress(OSError):  # when memory runs out, the kernel takes a worker, which is replaced
        Path("/proc/self/oom_score_adj").write_text("500")
    import keras

    from search.workers import runtime

    keras.config.disable_interactive_logging()  # a bar of each of several workers is none
    runtime.take_gpu(number)
    problem, received = None, None
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):  # the driver has ended
        pipe.send_bytes(pickle.dumps("ready"))
        while True:
            sent, job = pickle.loads(pipe.recv_bytes())
            training.set()
            reply: object
            try:
                if problem is None or sent != received:
                    problem, received = _received(sent), sent
                reply = run(problem, job, stopping.is_set)
            except Stopped:
                return
            except (OSError, WorkError) as error:
                reply = error
            except Exception as error:
                reply = _fatal(job, error)
            pipe.send_bytes(cloudpickle.dumps(reply))
            training.clear()
            if stopping.is_set():
                return


def _received(sent: Path) -> Problem:
    try:
        return sending.receive(sent)
    except Exception as error:  # whatever the user's own code raises, which the driver has imported, so this is rare
        raise WorkError(f"a worker did not start: {type(error).__name__}: {first_line(error)}") from None


def _fatal(job: Job, error: Exception) -> Exception:
    """What ends the search: KerasTuner's fatal errors as they are, where they can be sent; all else in words."""
    from keras_tuner import errors

    with contextlib.suppress(Exception):
        if isinstance(error, errors.FatalError) and pickle.loads(cloudpickle.dumps(error)):
            return error  # type: ignore[no-any-return]
    if isinstance(error, errors.FatalError):
        return errors.FatalError(first_line(error))  # type: ignore[no-any-return]
    return WorkError(f"trial {job.name}: {type(error).__name__}: {first_line(error)}")


def _end_with_the_driver() -> None:
    driver = multiprocessing.parent_process()  # not the server it was forked from, which lives as long as any worker
    assert driver is not None
    driver.join()
    os._exit(1)
