"""What training costs on this machine, measured with the starting model before a search: time, and where XLA pays."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Any

from search.errors import RequestError
from search.lab.session import Session
from search.training import xla
from search.workers.base import Workers, run_all
from search.workers.trial import Job, Outcome


@dataclass(frozen=True)
class Cost:
    """What the starting model costs.

    Attributes:
        beside: seconds a trial takes beside its epochs.
        epoch: seconds an epoch.
        xla_break_even: see :func:`search.training.xla.measured_break_even`.
    """

    beside: float
    epoch: float
    xla_break_even: float


def measure(
    session: Session, workers: Workers, model: Any, start: dict[str, Any], max_epochs: int, break_even: float | None
) -> Cost:
    """Trains the starting model as a graph and, where it can matter, beside that through XLA.

    Args:
        model, start: the starting model and its values.
        max_epochs: of the longest trial to come.
        break_even: what was measured before; None measures it.

    Raises:
        RequestError: the starting model cannot be trained, or has no such metric as the objective.
    """
    images = len(session.source.images) - session.source.validation_images
    updates = xla.xla_updates(model, images, start.get("batch_size", 32))
    jobs = [_job(session, start, "graph", 2, xla.NEVER)]
    if break_even is None and max_epochs * updates > xla.XLA_BREAK_EVEN / xla.FAR_FROM_IT:
        jobs.append(_job(session, start, "xla", 3, 0.0))
    graph, *others = run_all(workers, jobs, lambda job, outcome: None)
    for job in jobs:
        with contextlib.suppress(OSError):
            job.state.unlink()
    script, objective = session.script.name, session.exercise.objective
    if not graph.completed:
        raise RequestError(f"{script}: the starting model cannot be trained: {graph.message}")
    if objective not in graph.history:
        raise RequestError(
            f"{script}: the objective {objective} is not among the model's metrics ({', '.join(graph.history)}); "
            "name it in compile(metrics=[...])"
        )
    epoch = (graph.epoch_seconds or (graph.seconds / 2,))[-1]
    if break_even is None:
        break_even = xla.XLA_BREAK_EVEN
        if others and _is_whole(graph, jobs[0]) and _is_whole(others[0], jobs[1]):
            break_even = xla.measured_break_even(updates, graph.epoch_seconds, others[0].epoch_seconds)
    return Cost(max(0.0, graph.seconds - 2 * epoch), epoch, break_even)


def _job(session: Session, start: dict[str, Any], name: str, epochs: int, xla_break_even: float) -> Job:
    state = session.folder / f".measured-{name}.npz"
    state.unlink(missing_ok=True)  # of a process that was killed: it would be gone on with, and nothing measured
    seed = (session.seed,)
    return Job(f"measurement, {name}", start, seed, epochs, (epochs,), state, xla_break_even=xla_break_even)


def _is_whole(outcome: Outcome, job: Job) -> bool:
    """Whether one worker trained all of it, and its own ``fit`` did not come between."""
    return outcome.completed and len(outcome.epoch_seconds) == job.epochs
