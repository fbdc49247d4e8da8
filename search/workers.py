"""Where trials run: this process, or a pool of processes on this machine. One small interface: submit, close."""

from __future__ import annotations

import multiprocessing
import multiprocessing.forkserver
import multiprocessing.resource_tracker
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from pathlib import Path
from typing import Protocol

import pebble

from search.trial import Job, Outcome, Stopped, Trainer

MAX_RETRIES = 2  # of a job whose worker died or overran its limit


class Workers(Protocol):
    """Runs jobs. ``size`` is how many at a time."""

    size: int

    def submit(self, job: Job) -> Future[Outcome]:
        """Starts ``job`` as soon as a worker is free. The future raises what ended a worker, never a bad configuration."""

    def close(self) -> None:
        """Stops every worker; jobs under way save their state first."""


class InProcess:
    """Runs each job at once in this process: for debugging and for tests."""

    size = 1

    def __init__(self, script: Path, source: str | None) -> None:
        import search.runtime  # noqa: F401

        self._trainer = Trainer(script, source)

    def submit(self, job: Job) -> Future[Outcome]:
        """See :class:`Workers`."""
        future: Future[Outcome] = Future()
        try:
            future.set_result(self._trainer.run(job))
        except Exception as error:
            future.set_exception(error)
        return future

    def close(self) -> None:
        """See :class:`Workers`."""


class LocalPool:
    """Processes on this machine, each with one thread for arithmetic, so that results do not depend on their number.

    TensorFlow is imported once, by the server that the workers are forked from; they start while the caller goes on.
    """

    def __init__(self, size: int, script: Path, source: str | None, time_limit: float | None = None) -> None:
        self.size = size
        self._time_limit = time_limit
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["search.runtime"])
        # A terminal that closes hangs up on the whole group; the driver decides what becomes of the others.
        hang_up = signal.signal(signal.SIGHUP, signal.SIG_IGN)
        multiprocessing.resource_tracker.ensure_running()
        multiprocessing.forkserver.ensure_running()
        signal.signal(signal.SIGHUP, hang_up)
        self._pool = pebble.ProcessPool(
            max_workers=size, context=context, initializer=_start_worker, initargs=(script, source)
        )
        for _ in range(size):
            self._pool.schedule(os.getpid)  # pebble starts its processes with the first task

    def submit(self, job: Job) -> Future[Outcome]:
        """See :class:`Workers`."""
        future: Future[Outcome] = self._pool.schedule(_run, args=(job,), timeout=self._time_limit)
        return future

    def close(self) -> None:
        """See :class:`Workers`."""
        self._pool.stop()  # type: ignore[no-untyped-call]
        self._pool.join()


def run_all(workers: Workers, jobs: Sequence[Job], watch: Callable[[Job, Outcome], None]) -> list[Outcome]:
    """Runs the jobs and returns their outcomes in the jobs' order; ``watch`` hears of each as it ends.

    Raises:
        OSError: a state could not be written.
    """
    outcomes: dict[int, Outcome] = {}
    running = {workers.submit(job): (i, 0) for i, job in enumerate(jobs)}
    while running:
        done, _ = wait(running, return_when=FIRST_COMPLETED)
        for future in done:
            i, retries = running.pop(future)
            outcome = result(future, retries)
            if outcome is None:
                running[workers.submit(jobs[i])] = (i, retries + 1)
            else:
                outcomes[i] = outcome
                watch(jobs[i], outcome)
    return [outcomes[i] for i in range(len(jobs))]


def result(future: Future[Outcome], retries: int) -> Outcome | None:
    """A finished job's outcome; None where its worker was lost and the job may be tried again, ``MAX_RETRIES`` times."""
    try:
        return future.result()
    except pebble.ProcessExpired as error:
        reason = f"the worker died (exit code {error.exitcode})"
    except TimeoutError:
        reason = "it overran its time limit"
    return None if retries < MAX_RETRIES else Outcome(False, message=f"{reason}, {retries + 1} times")


_trainer: Trainer | None = None
_stopping = threading.Event()


def _start_worker(script: Path, source: str | None) -> None:
    global _trainer
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the driver decides
    signal.signal(signal.SIGTERM, lambda *_: _stopping.set() if _trainer else sys.exit(0))
    threading.Thread(target=_end_with_parent, args=(os.getppid(),), daemon=True).start()
    import search.runtime  # noqa: F401

    _trainer = Trainer(script, source)


def _end_with_parent(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


def _run(job: Job) -> Outcome:
    assert _trainer is not None
    try:
        return _trainer.run(job, _stopping.is_set)
    except Stopped:
        sys.exit(0)
