"""Configurations trained again, each with the same fresh seeds: what the finalists and the ablation have in common."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from search.workers.base import Workers, run_all
from search.workers.trial import Job, Outcome


def train(
    named: Sequence[tuple[str, Mapping[str, Any]]],
    workers: Workers,
    folder: Path,
    *,
    kind: int,
    epochs: int,
    seeds: int,
    seed: int,
    xla_break_even: float | None,
    watch: Callable[[Job, Outcome], None],
) -> list[list[Outcome]]:
    """Trains every configuration with every seed; the outcomes of each, in its seeds' order.

    Args:
        named: what a person calls each configuration, and its values.
        folder: the states in it let an interrupted step go on.
        kind: sets the seeds apart from those of other steps.
        epochs, seeds: of each training, and how many trainings a configuration.
        seed, xla_break_even, watch: as in :func:`search.lab.retrain.retrain`.
    """
    jobs = [
        Job(
            name=f"{name}, seed {k}",
            hyperparameters=dict(values),
            seed=(seed, kind, k),
            epochs=epochs,
            milestones=(epochs,),
            xla_break_even=xla_break_even,
            state=folder / "states" / f"{i}-{k}.npz",
        )
        for i, (name, values) in enumerate(named)
        for k in range(seeds)
    ]
    outcomes = run_all(workers, jobs, watch)
    return [outcomes[i * seeds : (i + 1) * seeds] for i in range(len(named))]


def scored(outcomes: Sequence[Outcome], objective: str) -> dict[str, Any]:
    """What a file keeps of a configuration's trainings: its weights, and the objective after the last epoch of each."""
    scores = [outcome.final(objective) for outcome in outcomes]
    return {
        "parameters": max(outcome.parameters for outcome in outcomes),
        "scores": [score if math.isfinite(score) else None for score in scores],
    }
