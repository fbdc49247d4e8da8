"""The end of a search: its best configurations and the starting model, trained again on the same fresh seeds, and a winner."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from search import files
from search.errors import WorkError
from search.lab import repeats
from search.report import estimators
from search.results import Search
from search.workers.base import Workers
from search.workers.trial import Job, Outcome

FINALISTS = 4  # sets their seeds apart from those of trials, retraining and sweeps


@dataclass(frozen=True)
class Finalist:
    """A configuration, and the trial with its best score; ``start`` where the search has not tried the starting model."""

    trial_id: str
    hyperparameters: Mapping[str, Any]


def chosen(
    search: Search, start: Mapping[str, Any], count: int, fits: Callable[[Finalist], bool] = lambda finalist: True
) -> list[Finalist]:
    """The ``count`` best distinct configurations of a search, best first, and the starting model if it is none of them.

    Args:
        fits: whether a configuration may be among them.
    """
    completed = [trial for trial in search.trials if math.isfinite(search.score(trial))]
    completed.sort(key=search.score, reverse=search.maximise)  # the older of equals first
    distinct: list[Finalist] = []
    for trial in completed:
        if all(trial.hyperparameters != known.hyperparameters for known in distinct):
            distinct.append(Finalist(trial.trial_id, trial.hyperparameters))
    starting = next((known for known in distinct if known.hyperparameters == start), Finalist("start", start))
    best = list(itertools.islice(filter(fits, distinct), count))
    return best if starting in best else [*best, starting]


def winner(scores: ArrayLike, weights: Sequence[int]) -> tuple[int, list[int]]:
    """Who wins: of those within one standard error of the best mean, the one with the fewest weights.

    The rule of one standard error, that of the mean difference of two over the same seeds: of those two alone, since a
    third that trains unsteadily says nothing of them. Source: Breiman et al., Classification and Regression Trees, 1984,
    section 3.4.3.

    Args:
        scores: (finalists, seeds), larger is better; NaN for a training that failed, whose finalist then cannot win.
        weights: how many each has.

    Returns:
        The winner, and all within one standard error, the best mean first. Of equally many weights the best mean wins.
        One seed tells nothing of the noise: the best then wins, and ties only with its equals.

    Raises:
        ValueError: every finalist failed in some seed.
    """
    table = np.asarray(scores, float)
    compared = estimators.compare_blocks(table)
    if not compared.order:
        raise ValueError("every finalist failed")
    best, seeds = compared.order[0], table.shape[1]

    def is_level(i: int) -> bool:
        lead = table[best] - table[i]
        error = np.std(lead, ddof=1) / math.sqrt(seeds) if seeds > 1 else 0.0
        return bool(lead.mean() <= error)

    level = [best, *filter(is_level, compared.order[1:])]
    return min(level, key=lambda i: weights[i]), level


def compete(
    finalists: Sequence[Finalist],
    start: Mapping[str, Any],
    workers: Workers,
    folder: Path,
    *,
    objective: str,
    maximise: bool,
    epochs: int,
    seeds: int,
    seed: int,
    xla_break_even: float | None,
    watch: Callable[[Job, Outcome], None],
) -> dict[str, Any]:
    """Trains every finalist with every seed and writes ``<folder>/finalists.json``.

    A training's score is the objective after its last epoch: the best of many epochs would be a choice on noise.

    Args:
        finalists, start: from :func:`chosen`.
        folder: the ``finalists`` folder; the states in it let an interrupted step go on.
        epochs, seeds: of each training, and how many trainings a finalist; the seeds are the same for all.
        seed, xla_break_even, watch: as in :func:`search.lab.retrain.retrain`.

    Returns:
        What the file holds; ``search.results`` reads it.

    Raises:
        WorkError: every finalist failed in some seed.
    """
    outcomes = repeats.train(
        [(f"finalist {i}", finalist.hyperparameters) for i, finalist in enumerate(finalists, 1)],
        workers,
        folder,
        kind=FINALISTS,
        epochs=epochs,
        seeds=seeds,
        seed=seed,
        xla_break_even=xla_break_even,
        watch=watch,
    )
    rows = [_row(one, start, each, objective) for one, each in zip(finalists, outcomes, strict=True)]
    scores = np.array([row["scores"] for row in rows], float)  # None becomes NaN
    try:
        won, level = winner(scores if maximise else -scores, [row["parameters"] for row in rows])
    except ValueError as error:
        first = next(outcome.message for each in outcomes for outcome in each if not outcome.completed)
        raise WorkError(f"{error}; the first: {first}") from None
    content = {
        "format": 1,
        "objective": objective,
        "epochs": epochs,
        "seeds": seeds,
        "finalists": rows,
        "winner": won,
        "level": level,
    }
    files.write_json(folder / "finalists.json", files.seal(content))
    return content


def _row(finalist: Finalist, start: Mapping[str, Any], outcomes: Sequence[Outcome], objective: str) -> dict[str, Any]:
    timed = [outcome.trained_seconds for outcome in outcomes if outcome.trained_seconds is not None]
    return {
        "trial_id": finalist.trial_id,
        "start": finalist.hyperparameters == start,
        "hyperparameters": dict(finalist.hyperparameters),
        "seconds": round(float(np.median(timed)), 3) if timed else None,
        **repeats.scored(outcomes, objective),
    }
