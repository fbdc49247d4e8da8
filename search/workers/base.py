"""What every kind of workers promises, and what is tried again when one is lost."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from search.errors import WorkError
from search.workers.trial import Job, Outcome, Problem

MAX_RETRIES = 2  # of a job whose worker died or overran its limit
MAX_STARTS = 5  # of a worker that dies before it is given the job, which is then not the job's doing


class Workers(Protocol):
    """Runs jobs: ``size`` at a time, the best of ``ahead`` more first when a worker is free."""

    size: int
    ahead: int

    def begin(self, problem: Problem) -> None:
        """Says what the jobs from now on are of.

        Raises:
            Unpicklable: the problem cannot be sent to where the jobs run.
        """

    def submit(self, job: Job) -> Future[Outcome]:
        """Starts ``job`` as soon as a worker is free. The future raises what ended a worker, never a bad configuration."""

    def close(self) -> None:
        """Stops every worker; jobs under way save their state first."""


class Unpicklable(Exception):
    """A problem that cannot be sent to another process; the message says which part of it and why."""


class WorkerLost(Exception):
    """A worker died, or was stopped, with a job that may be tried again; the message says how.

    Attributes:
        starting: it died before it was given a job.
    """

    def __init__(self, reason: str, starting: bool = False) -> None:
        super().__init__(reason)
        self.starting = starting


@dataclass
class DeadWorkers:
    """The workers that one job has lost: while they trained it, and before they were given it."""

    training: int = 0
    starting: int = 0


def run_all(
    workers: Workers,
    jobs: Sequence[Job],
    watch: Callable[[Job, Outcome], None],
    meanwhile: Callable[[], None] = lambda: None,
) -> list[Outcome]:
    """Runs the jobs and returns their outcomes in the jobs' order.

    Args:
        watch: hears of each as it ends.
        meanwhile: called once, when all are handed in.

    Raises:
        OSError: a state could not be written.
    """
    outcomes: dict[int, Outcome] = {}
    dead = [DeadWorkers() for _ in jobs]
    running = {workers.submit(job): i for i, job in enumerate(jobs)}
    meanwhile()
    while running:
        done, _ = wait(running, return_when=FIRST_COMPLETED)
        for future in done:
            i = running.pop(future)
            outcome = result(future, dead[i])
            if outcome is None:
                running[workers.submit(jobs[i])] = i
            else:
                outcomes[i] = outcome
                watch(jobs[i], outcome)
    return [outcomes[i] for i in range(len(jobs))]


def result(future: Future[Outcome], dead: DeadWorkers) -> Outcome | None:
    """A finished job's outcome; None, counted in ``dead``, where its worker was lost and the job may be tried again.

    Raises:
        WorkError: no worker starts.
        OSError: a state could not be written.
    """
    try:
        return future.result()
    except WorkerLost as error:
        if error.starting:
            dead.starting += 1
            if dead.starting > MAX_STARTS:
                raise WorkError(
                    f"no worker can be started: {error}; try 1 worker, or 0 to see its own message"
                ) from None
            return None
        dead.training += 1
        return None if dead.training <= MAX_RETRIES else Outcome(False, message=f"{error}, {dead.training} times")


def cores() -> int:
    """The cores that this process may use: of its affinity, and of the share that its container is given, at least 1."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    for quota, period in _shares():
        if quota > 0 < period:
            count = min(count, -(-quota // period))
    return max(1, count)


def _shares(root: Path = Path("/sys/fs/cgroup")) -> list[tuple[int, int]]:
    """Microseconds of processor time in each period, by cgroup version 2 and version 1, where one is set."""
    found = []
    for files in ((root / "cpu.max",), (root / "cpu/cpu.cfs_quota_us", root / "cpu/cpu.cfs_period_us")):
        try:
            quota, period = " ".join(file.read_text() for file in files).split()
            found.append((int(quota), int(period)))
        except (OSError, ValueError):  # no such file; "max"
            continue
    return found
