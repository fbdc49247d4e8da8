"""The lab's "try various ...": one hyper-parameter over its values, everything else held, several seeds a value."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from search import files
from search.errors import RequestError, WorkError
from search.report import sentences
from search.workers.base import Workers, run_all
from search.workers.trial import Job, Outcome

# These set the seeds of sweeps apart from those of trials and of retraining: the seed that chooses a retuned value
# is none of those that then compare.
SWEEPING, CHOOSING = 2, 3
# One way of compiling for all values, or the time an epoch takes would tell the compilers apart: with XLA where a
# training is long enough to time an epoch that no longer compiles, without it where it is not.
TIMED_FROM, WITH_XLA, WITHOUT_XLA = 3, 0.0, 1e12
VALUES_OF_A_RANGE = 7
COLUMNS = ["value", "seed", "loss", "accuracy", "val_loss", "val_accuracy", "seconds_per_epoch", "parameters"]


def values_of(space: Any, name: str, most: int | None = None) -> list[Any]:
    """The values to try: a choice's own, or seven over a range, evenly by its sampling; of these at most ``most``.

    Raises:
        RequestError: the space has no such hyper-parameter.
    """
    found = [hp for hp in space.space if hp.name == name]
    if not found:
        names = ", ".join(dict.fromkeys(hp.name for hp in space.space))
        raise RequestError(f"sweep {name}: the space has no such hyper-parameter; expected one of {names}")
    hp = found[0]
    config = hp.get_config()
    if type(hp).__name__ not in ("Int", "Float"):
        return _thinned(list(hp.values), most)
    low, high = config["min_value"], config["max_value"]
    spread = np.geomspace if config["sampling"] == "log" else np.linspace
    points = [float(f"{value:.4g}") for value in spread(low, high, VALUES_OF_A_RANGE)]
    if type(hp).__name__ == "Float":
        return _thinned(list(dict.fromkeys(points)), most)
    return _thinned(sorted({round(point) for point in points}), most)


def break_even(epochs: int) -> float:
    """What a sweep's trainings of so many epochs ask of XLA, see :class:`search.workers.trial.Job`."""
    return WITH_XLA if epochs >= TIMED_FROM else WITHOUT_XLA


def _thinned(values: list[Any], most: int | None) -> list[Any]:
    if most is None or len(values) <= most:
        return values
    return [values[round(i * (len(values) - 1) / (most - 1))] for i in range(most)]


def sweep(
    name: str,
    values: list[Any],
    held: Mapping[str, Any],
    workers: Workers,
    folder: Path,
    *,
    retuned: str | None,
    candidates: list[Any],
    objective: str,
    maximise: bool,
    epochs: int,
    seeds: int,
    seed: int,
    watch: Callable[[Job, Outcome], None],
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Trains every value with every seed and writes ``<folder>/<name>.csv``, the name as :func:`search.files.slug` has it.

    Args:
        name, values: the hyper-parameter and what to try.
        held: the values of the others.
        retuned, candidates: a hyper-parameter that takes, for each value, the candidate with the best objective with a
            seed of its own, which is none of those that compare; None where none is.
        objective, maximise: the exercise's.
        folder: the ``sweeps`` folder; the states in it let an interrupted sweep go on.
        epochs, seeds, seed, watch: as in :func:`search.lab.retrain.retrain`. The seeds are the same for every value.

    Returns:
        The rows, a training that failed has NaN for its figures, and one of fewer than 3 epochs for its time; and the
        chosen candidate of each value.

    Raises:
        WorkError: every training failed.
    """

    def job(value: Any, kind: int, k: int, setting: Mapping[str, Any]) -> Job:
        mark = "-".join(str(part) for part in (values.index(value), kind, k, *map(candidates.index, setting.values())))
        return Job(
            name=f"{sentences.configuration({name: value, **setting})}, seed {k}",
            hyperparameters={**held, name: value, **setting},
            seed=(seed, kind, k),
            epochs=epochs,
            milestones=(epochs,),
            xla_break_even=break_even(epochs),
            state=folder / "states" / f"{files.slug(name)}-{mark}.npz",
        )

    def trained(jobs: list[Job]) -> list[Outcome]:
        outcomes = run_all(workers, jobs, watch)
        if not any(outcome.completed for outcome in outcomes):
            raise WorkError(f"sweep {name}: every training failed; the first: {outcomes[0].message}")
        return outcomes

    chosen: list[dict[str, Any]] = [{} for _ in values]
    if retuned is not None:
        tried = [(i, {retuned: candidate}) for i in range(len(values)) for candidate in candidates]
        outcomes = trained([job(values[i], CHOOSING, 0, setting) for i, setting in tried])
        finals = [outcome.final(objective) * (1 if maximise else -1) for outcome in outcomes]
        scores = [-math.inf if math.isnan(score) else score for score in finals]
        for i in range(len(values)):
            best = max((j for j, (value, _) in enumerate(tried) if value == i), key=lambda j: scores[j])
            chosen[i] = tried[best][1]
    jobs = [job(value, SWEEPING, k, chosen[i]) for i, value in enumerate(values) for k in range(seeds)]
    rows = [_row(one.hyperparameters[name], one.seed[-1], end) for one, end in zip(jobs, trained(jobs), strict=True)]
    files.write_csv(folder / f"{files.slug(name)}.csv", COLUMNS, rows)
    settings = {str(value): setting[retuned] for value, setting in zip(values, chosen, strict=True) if retuned}
    return rows, settings


def _row(value: Any, seed: int, outcome: Outcome) -> dict[str, Any]:
    row: dict[str, Any] = {"value": value, "seed": seed, **dict.fromkeys(COLUMNS[2:], math.nan)}
    if outcome.completed:
        row |= {metric: outcome.final(metric) for metric in ("loss", "accuracy", "val_loss", "val_accuracy")}
        row["parameters"] = outcome.parameters
        # the first epoch of a training also compiles
        timed = len(outcome.epoch_seconds) >= TIMED_FROM
        row["seconds_per_epoch"] = statistics.median(outcome.epoch_seconds[1:]) if timed else math.nan
    return row
