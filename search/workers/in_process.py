"""Jobs in this process, each as soon as it is handed in."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from concurrent.futures import Future
from types import FrameType
from typing import Any

from search.workers import trial
from search.workers.trial import Job, Outcome, Problem


class InProcess:
    """Runs each job at once in this process, see :class:`search.workers.base.Workers`.

    Args:
        patient: a signal to end lets the epoch end first and saves the state; a second one does not wait.
    """

    size = 1
    ahead = 0

    def __init__(self, patient: bool = True) -> None:
        self._patient = patient and threading.current_thread() is threading.main_thread()

    def begin(self, problem: Problem) -> None:
        """See :class:`search.workers.base.Workers`; any problem will do."""
        self._problem = problem

    def submit(self, job: Job) -> Future[Outcome]:
        """See :class:`search.workers.base.Workers`."""
        future: Future[Outcome] = Future()
        received: list[int] = []
        handlers: dict[int, Callable[[int, FrameType | None], Any]] = {}
        for caught in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP) if self._patient else ():
            if callable(handler := signal.getsignal(caught)):
                handlers[caught] = handler

        def stop_after_the_epoch(number: int, frame: FrameType | None) -> None:
            received.append(number)
            if len(received) > 1:  # the epoch does not end
                handlers[number](number, frame)

        try:
            for number in handlers:
                signal.signal(number, stop_after_the_epoch)
            future.set_result(trial.run(self._problem, job, lambda: bool(received)))
        except Exception as error:
            future.set_exception(error)
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
        if received:
            signal.raise_signal(received[0])
        return future

    def close(self) -> None:
        """See :class:`search.workers.base.Workers`."""
