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
from search.report import figures
from search.training.trial import Job, Outcome
from search.workers.local import Workers, run_all

SWEEPING = 2  # sets the seeds of sweeps apart from those of trials and of retraining
VALUES_OF_A_RANGE = 7
COLUMNS = ["value", "seed", "loss", "accuracy", "val_loss", "val_accuracy", "seconds_per_epoch"]


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
    epochs: int,
    seeds: int,
    seed: int,
    xla_break_even: float | None,
    watch: Callable[[Job, Outcome], None],
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Trains every value with every seed and writes ``<folder>/<name>.csv``, a row a training.

    Args:
        name, values: the hyper-parameter and what to try.
        held: the values of the others.
        retuned, candidates: a hyper-parameter that takes, for each value, the candidate with the best validation
            accuracy after the first seed's training; None where none is.
        folder: the ``sweeps`` folder; the states in it let an interrupted sweep go on.
        epochs, seeds, seed, xla_break_even, watch: as in :func:`search.lab.retrain.retrain`.

    Returns:
        The rows, a training that failed has NaN for its figures; and the chosen candidate of each value.

    Raises:
        WorkError: every training failed.
    """

    def job(value: Any, k: int, setting: Mapping[str, Any]) -> Job:
        mark = "-".join(str(part) for part in (values.index(value), k, *map(candidates.index, setting.values())))
        return Job(
            name=", ".join(
                f"{key} {figures.value(value)}" for key, value in {name: value, **setting, "seed": k}.items()
            ),
            hyperparameters={**held, name: value, **setting},
            seed=(seed, SWEEPING, k),
            epochs=epochs,
            milestones=(epochs,),
            xla_break_even=xla_break_even,
            state=folder / "states" / f"{name}-{mark}.npz",
        )

    settings = [{retuned: candidate} for candidate in candidates] if retuned else [{}]
    first = [(value, job(value, 0, setting), setting) for value in values for setting in settings]
    known = dict(
        zip([one.state for _, one, _ in first], run_all(workers, [one for _, one, _ in first], watch), strict=True)
    )
    if not any(outcome.completed for outcome in known.values()):
        raise WorkError(f"sweep {name}: every training failed; the first: {next(iter(known.values())).message}")
    chosen = {
        value: max(
            (setting for other, _, setting in first if other == value),
            key=lambda setting, value=value: known[job(value, 0, setting).state].final("val_accuracy", -math.inf),  # type: ignore[misc]
        )
        for value in values
    }
    jobs = [job(value, k, chosen[value]) for value in values for k in range(seeds)]
    more = [one for one in jobs if one.state not in known]
    known |= dict(zip([one.state for one in more], run_all(workers, more, watch), strict=True))
    rows = []
    for one in jobs:
        outcome = known[one.state]
        ended: dict[str, Any] = dict.fromkeys(COLUMNS[2:], math.nan)
        if outcome.completed:
            ended |= {metric: outcome.final(metric) for metric in COLUMNS[2:-1]}
            # the first epoch of a training also compiles
            ended["seconds_per_epoch"] = statistics.median(
                outcome.epoch_seconds[1:] or outcome.epoch_seconds or (math.nan,)
            )
        rows.append({"value": one.hyperparameters[name], "seed": one.seed[-1], **ended})
    files.write_csv(folder / f"{name}.csv", COLUMNS, rows)
    return rows, {str(value): setting[retuned] for value, setting in chosen.items() if retuned}
