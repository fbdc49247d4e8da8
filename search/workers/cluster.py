"""Trials on a Ray cluster: Ray schedules, retries and carries; the oracle and the results folder stay with the driver."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import os
import re
import signal
import tempfile
import threading
from concurrent.futures import Future, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from search import files, provenance
from search.errors import RequestError, WorkError, first_line
from search.training import Stopped
from search.workers import sending, trial
from search.workers.base import MAX_RETRIES, WorkerLost
from search.workers.trial import Job, Outcome, Problem

SECONDS_TO_ANSWER = 5.0  # for a cluster to greet back
SECONDS_TO_SAVE = 10.0  # for trials under way to end their epoch when the driver closes


Files = dict[str, bytes]  # by name, of one folder


@dataclass(frozen=True)
class Parcel:
    """What every node gets once: the problem, pickled, and the versions that decide a result."""

    problem: bytes
    versions: dict[str, str]


class RayWorkers:
    """Ray tasks of one CPU each; see :class:`search.workers.base.Workers`.

    A job's files travel as bytes, so nodes need no common file system: its states, and the weights of its best epoch. A
    task whose worker or node dies runs again elsewhere, ``MAX_RETRIES`` times, from the state it was sent: training is a
    function of that state, so nothing but time is lost.
    """

    def __init__(self, address: str, size: int | None, asked: str = "--cluster ") -> None:
        """Connects.

        Args:
            address: ``local`` for an instance of this process's own, ``HOST:PORT`` from a machine of the cluster,
                ``ray://HOST:PORT`` from outside.
            size: jobs at a time; None for as many as the cluster has CPUs.
            asked: how the user asks for a cluster, before the address in what is said of it.

        Raises:
            RequestError: ray is not installed, or there is no such cluster.
        """
        self._called = f"{asked}{address or repr(address)}"
        self._ray = ray = _connect(address, size, self._called)
        cpus = int(ray.cluster_resources().get("CPU", 0))
        if not cpus:
            ray.shutdown()
            raise RequestError(f"{self._called} has no CPU; add a node with: ray start --address=HOST:PORT")
        self.size = size or cpus
        self.ahead = 0  # Ray chooses the worker
        self._train = ray.remote(num_cpus=1, max_retries=MAX_RETRIES)(_train)
        self._running: dict[Future[Outcome], Any] = {}
        for _ in range(self.size):  # the workers import TensorFlow while the driver does
            ray.remote(num_cpus=1, num_returns=0)(_import_tensorflow).remote()

    def begin(self, problem: Problem) -> None:
        """See :class:`search.workers.base.Workers`; sends the problem out."""
        self._parcel = self._ray.put(Parcel(sending.pack(problem), _versions()))

    def submit(self, job: Job) -> Future[Outcome]:
        """See :class:`search.workers.base.Workers`; what the job leaves is written before the future completes.

        Raises:
            WorkError: the cluster is lost; a future raises it, too.
        """
        past = [] if job.resume_from is None else dataclasses.replace(job, state=job.resume_from).files()
        sent = [{path.name: path.read_bytes() for path in there} for there in (job.files(), past)]
        future: Future[Outcome] = Future()
        try:
            self._running[future] = reference = self._train.remote(self._parcel, job, *sent)
        except ConnectionError as error:
            raise self._lost(error) from None
        reference.future().add_done_callback(lambda reply: self._receive(reply, job, future))
        return future

    def close(self) -> None:
        """See :class:`search.workers.base.Workers`; a cluster that others started goes on."""
        for reference in list(self._running.values()):
            self._ray.cancel(reference)
        wait(list(self._running), timeout=SECONDS_TO_SAVE)
        self._ray.shutdown()

    def _receive(self, reply: Future[tuple[Outcome | None, Files]], job: Job, future: Future[Outcome]) -> None:
        failures = self._ray.exceptions
        try:
            outcome, left = reply.result()
            if outcome is not None and outcome.completed and outcome.message:
                files.set_aside(job.state)  # it was damaged
            # The state last: it says what was trained.
            for name in sorted(left, key=lambda name: name == job.state.name):
                files.write_bytes(job.state.parent / name, left[name])
            result: Outcome | BaseException = outcome or WorkerLost("it overran its time limit")
        except failures.RayTaskError as error:
            cause = error.cause
            told = isinstance(cause, (RequestError, WorkError, OSError))
            reason = f"the worker did not start: {type(cause).__name__}: {first_line(cause)}"
            result = cause if told else Outcome(False, message=reason)
        except (failures.WorkerCrashedError, failures.NodeDiedError, failures.OutOfMemoryError) as error:
            result = Outcome(False, message=f"the worker died ({type(error).__name__}), {MAX_RETRIES + 1} times")
        except (failures.RayError, ConnectionError) as error:
            result = self._lost(error)
        except BaseException as error:
            result = error
        del self._running[future]
        if isinstance(result, Outcome):
            future.set_result(result)
        else:
            future.set_exception(result)

    def _lost(self, error: Exception) -> WorkError:
        return WorkError(
            f"{self._called} was lost ({first_line(error)}); run the same command again: it goes on from here"
        )


def _connect(address: str, size: int | None, called: str) -> Any:
    """The ``ray`` module, connected; what Ray would change in this process is put back."""
    local = address == "local"
    if not local and not re.fullmatch(r"(ray://)?[^\s/:]+:\d{1,5}", address):
        raise RequestError(f"{called}: expected local, HOST:PORT or ray://HOST:PORT")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is reported to anyone
    os.environ.setdefault("RAY_task_oom_retries", str(MAX_RETRIES))  # Ray's default is for ever
    if local:
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # Ray's switch for listening on the loopback alone
    try:
        import ray
    except ImportError:
        raise RequestError(
            f'{called.removesuffix(address).rstrip(" =")} needs ray; install it with: pip install "keras-lab-search[cluster]"'
        ) from None
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        if local:
            signal.signal(signal.SIGHUP, signal.SIG_IGN)  # inherited by Ray's processes: the driver ends them
            ray.init("local", num_cpus=size, include_dashboard=False, log_to_driver=False, logging_level="error")
        else:
            _greet(address.removeprefix("ray://"))
            ray.init(address, log_to_driver=False, logging_level="error")
    except Exception as error:  # Ray raises nearly anything
        raise RequestError(
            f"{called} cannot be used ({first_line(error)}); start it with `ray start`, see docs/cluster.md"
        ) from None
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    return ray


def _greet(address: str) -> None:
    """Ray itself would wait for minutes, and say so on standard error.

    Raises:
        ConnectionError: nothing at ``address`` speaks gRPC.
    """
    import grpc

    if os.environ.get("RAY_USE_TLS", "0") != "0":
        return  # such a cluster answers no plain greeting
    with grpc.insecure_channel(address) as channel:
        try:
            grpc.channel_ready_future(channel).result(timeout=SECONDS_TO_ANSWER)
        except grpc.FutureTimeoutError:
            raise ConnectionError(f"no Ray answered within {SECONDS_TO_ANSWER:.0f} s") from None


def _versions() -> dict[str, str]:
    versions = {name: importlib.metadata.version(name) for name in provenance.PACKAGES}
    return {**versions, "search": provenance.source_sha256()[:12]}


def _import_tensorflow() -> None:
    import search.workers.runtime  # noqa: F401


_received: tuple[bytes, Problem] | None = None


def _problem(parcel: Parcel) -> Problem:
    """In a Ray worker, which serves one driver: the problem, unpickled once."""
    global _received
    _import_tensorflow()
    if _received is None or _received[0] != parcel.problem:
        versions = _versions()
        if versions != parcel.versions:
            raise WorkError(
                f"node {os.uname().nodename} has {versions}; the driver has {parcel.versions}; install the same on every node"
            )
        _received = parcel.problem, sending.unpack(parcel.problem)
    return _received[1]


def _train(parcel: Parcel, job: Job, sent: Files, past: Files) -> tuple[Outcome | None, Files]:
    """In a Ray worker: the job's outcome, None when the driver closed or time ran out first, and the files it left.

    Args:
        sent, past: the job's own files, and those of the one that it goes on from.
    """
    problem = _problem(parcel)
    stopping = threading.Event()
    signal.signal(signal.SIGINT, lambda *_: stopping.set())  # Ray cancels a task the way Ctrl-C would
    clocks = []
    if problem.seconds is not None:
        # a trial over its limit ends with its epoch; one that hangs inside an epoch ends its process
        clocks.append(threading.Timer(problem.seconds, stopping.set))
        clocks.append(threading.Timer(2 * problem.seconds, os._exit, (1,)))
    with tempfile.TemporaryDirectory() as folder:
        moved, home = _moved(job, Path(folder))
        for path, content in ((moved.state, sent), (moved.resume_from or moved.state, past)):
            for name in content:
                path.with_name(name).write_bytes(content[name])
        if problem.tuner is not None:  # its checkpoints are beside the state
            problem.tuner.directory, problem.tuner.project_name = str(home), moved.state.parent.parent.name
        outcome: Outcome | None = None
        for clock in clocks:
            clock.start()
        try:
            outcome = trial.run(problem, moved, stopping.is_set)
            message = outcome.message
            for here, there in ((moved.state, job.state), (moved.resume_from, job.resume_from)):
                message = message.replace(str(here), str(there))
            outcome = dataclasses.replace(outcome, message=message)
        except Stopped:
            pass
        finally:
            for clock in clocks:
                clock.cancel()
        return outcome, {path.name: path.read_bytes() for path in moved.state.parent.iterdir() if path.is_file()}


def _moved(job: Job, folder: Path) -> tuple[Job, Path]:
    """The job with its files below ``folder``, and the place of a tuner's project there."""
    home = folder / "left"
    state = home / job.state.parent.parent.name / job.state.parent.name / job.state.name
    resume_from = None if job.resume_from is None else folder / "past" / job.resume_from.name
    for path in (state, *([] if resume_from is None else [resume_from])):
        path.parent.mkdir(parents=True)
    return dataclasses.replace(job, state=state, resume_from=resume_from), home
