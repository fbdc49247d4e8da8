"""The lab's "try various ...": one hyper-parameter over its values, everything else held, several seeds a value."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from search import store
from search.errors import RequestError, WorkError
from search.trial import Job, Outcome
from search.workers import Workers, run_all

SWEEPING = 2  # sets the seeds of sweeps apart from those of trials and of retraining
VALUES_OF_A_RANGE = 7
COLUMNS = ["value", "seed", "loss", "accuracy", "val_loss", "val_accuracy", "seconds_per_epoch"]


def values_of(space: Any, name: str) -> list[Any]:
    """The values to try: a choice's own, or seven over a range, evenly by its sampling.

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
        return list(hp.values)
    low, high = config["min_value"], config["max_value"]
    spread = np.geomspace if config["sampling"] == "log" else np.linspace
    points = [float(f"{value:.4g}") for value in spread(low, high, VALUES_OF_A_RANGE)]
    if type(hp).__name__ == "Float":
        return points
    return sorted({round(point) for point in points})


def sweep(
    name: str,
    values: list[Any],
    held: Mapping[str, Any],
    workers: Workers,
    folder: Path,
    *,
    epochs: int,
    seeds: int,
    seed: int,
    watch: Callable[[Job, Outcome], None],
) -> list[dict[str, Any]]:
    """Trains every value with every seed and writes ``<folder>/<name>.csv``, a row a training.

    Args:
        name, values: the hyper-parameter and what to try.
        held: the values of the others.
        folder: the ``sweeps`` folder; the states in it let an interrupted sweep go on.
        epochs, seeds, seed, watch: as in :func:`search.retrain.retrain`.

    Returns:
        The rows; a training that failed has NaN for its figures.

    Raises:
        WorkError: every training failed.
    """
    jobs = [
        Job(
            name=f"{name} {value}, seed {k}",
            hyperparameters={**held, name: value},
            seed=(seed, SWEEPING, k),
            epochs=epochs,
            milestones=(epochs,),
            state=folder / "states" / f"{name}-{i}-{k}.npz",
        )
        for i, value in enumerate(values)
        for k in range(seeds)
    ]
    outcomes = run_all(workers, jobs, watch)
    if not any(outcome.completed for outcome in outcomes):
        raise WorkError(f"sweep {name}: every training failed; the first: {outcomes[0].message}")
    rows = []
    for job, outcome in zip(jobs, outcomes, strict=True):
        figures: dict[str, Any] = dict.fromkeys(COLUMNS[2:], math.nan)
        if outcome.completed:
            figures |= {metric: series[-1] for metric, series in outcome.history.items() if metric in figures}
            # the first epoch of a training also compiles
            figures["seconds_per_epoch"] = statistics.median(
                outcome.epoch_seconds[1:] or outcome.epoch_seconds or (math.nan,)
            )
        rows.append({"value": job.hyperparameters[name], "seed": job.seed[-1], **figures})
    store.write_csv(folder / f"{name}.csv", COLUMNS, rows)
    return rows
