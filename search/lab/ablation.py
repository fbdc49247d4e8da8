"""What made the difference: from the starting to the best configuration, one hyper-parameter a step, the same seeds for all."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from search import files
from search.errors import WorkError
from search.lab import repeats
from search.oracles import space as spaces
from search.workers.base import Workers
from search.workers.trial import Job, Outcome

ABLATING = 5  # sets their seeds apart from those of trials, retraining, sweeps and finalists

Step = tuple[str, ...]  # the hyper-parameters that one step moves, the one that it is called by first


def steps_between(
    space: Any,
    start: Mapping[str, Any],
    best: Mapping[str, Any],
    retuned: Mapping[str, str],
    weights: Callable[[Mapping[str, Any]], int],
) -> list[Step]:
    """The steps that lead from ``start`` to ``best``, in the order in which they are taken.

    A step is a hyper-parameter that both have, with other values, and the one that is retuned for it, if that differs too:
    an optimizer at another one's learning rate is not compared. What only one of the two has is active because of another
    hyper-parameter, and comes or goes with that one's step. The order is the space's, but the steps that change the
    starting model's number of weights come last: most of the path is then trained on the starting model's small network.
    In another order the shares of the steps would differ.

    Differs from its source, where the next step is the one that gains most: Fawcett and Hoos, Analysing differences
    between algorithm configurations through ablation, Journal of Heuristics 22 (2016). That takes a number of trainings
    that grows with the square of the steps, and chooses on noise.

    Args:
        space: KerasTuner's ``HyperParameters`` with every hyper-parameter, its conditions known.
        start, best: values by name; what is left out takes its default, what is not active is left out.
        retuned: see :class:`search.lab.exercise.Exercise`.
        weights: how many weights a configuration's model has.

    Returns:
        None where the two are equal. :func:`along` gives the configurations.
    """
    first, last = _configuration(space, start, {}, ()), _configuration(space, best, {}, ())
    moves = _moves(space, first, last, retuned)
    before = weights(first) if moves else 0
    moves.sort(key=lambda step: weights(along(space, first, last, [step])[1]) != before)  # stable
    taken: list[Step] = []
    waiting: Step = ()  # what is not active when its turn comes goes with a later step
    for step in moves:
        *_, now, after = along(space, first, last, [*taken, (*step, *waiting)])
        if now == after:
            waiting += step
        else:
            taken.append((*step, *waiting))
            waiting = ()
    return taken


def _moves(space: Any, first: Mapping[str, Any], last: Mapping[str, Any], retuned: Mapping[str, str]) -> list[Step]:
    names = dict.fromkeys(hp.name for hp in space.space)
    groups = {name: [name] for name in names if name in first and name in last and first[name] != last[name]}
    for name, partner in retuned.items():
        if name in groups and partner in groups and groups[name] is not groups[partner]:
            groups[name].extend(groups[partner])
            groups |= dict.fromkeys(groups[partner], groups[name])
    return list(dict.fromkeys(map(tuple, groups.values())))


def along(
    space: Any, start: Mapping[str, Any], best: Mapping[str, Any], steps: Sequence[Collection[str]]
) -> list[dict[str, Any]]:
    """The configurations on the way: the start's, and the one after each step. Each is one of the space: what is active
    has a value, and nothing else.

    Args:
        space, start, best: see :func:`steps_between`, which gives the steps.
        steps: the hyper-parameters that each moves to the best configuration's value.
    """
    moved: set[str] = set()
    found = [_configuration(space, start, best, moved)]
    for names in steps:
        moved.update(names)
        found.append(_configuration(space, start, best, moved))
    return found


def _configuration(
    space: Any, start: Mapping[str, Any], best: Mapping[str, Any], moved: Collection[str]
) -> dict[str, Any]:
    """Each active hyper-parameter at the best configuration's value if it is moved, else at the start's; what the one of
    them lacks, or an entry of the space does not admit, comes from the other, and at last from the default."""
    values: dict[str, Any] = {}
    for hp in space.space:  # parents before what depends on them
        if hp.name in values or not all(condition.is_active(values) for condition in hp.conditions):
            continue
        entry = SimpleNamespace(space=[hp])  # of several by this name, the one that is active
        known = [source[hp.name] for source in (best, start) if hp.name in source]
        known = known if hp.name in moved else known[::-1]
        admitted = (value for value in known if not spaces.misfit(entry, {hp.name: value}))
        values[hp.name] = next(admitted, hp.default)
    return values


def ablate(
    steps: Sequence[Step],
    path: Sequence[Mapping[str, Any]],
    workers: Workers,
    folder: Path,
    *,
    objective: str,
    epochs: int,
    seeds: int,
    seed: int,
    xla_break_even: float | None,
    watch: Callable[[Job, Outcome], None],
) -> dict[str, Any]:
    """Trains every configuration of a path with every seed and writes ``<folder>/ablation.json``.

    A training's score is the objective after its last epoch. The test images are not read.

    Args:
        steps, path: from :func:`steps_between` and :func:`along`: one configuration more than steps.
        folder: the ``ablation`` folder; the states in it let an interrupted step go on.
        epochs, seeds: of each training, and how many trainings a configuration; the seeds are the same for all.
        seed, xla_break_even, watch: as in :func:`search.lab.retrain.retrain`.

    Returns:
        What the file holds; ``search.results`` reads it. A training that failed has no score, and its reason stands beside.

    Raises:
        WorkError: every training failed.
    """
    names = (
        f"step {i} of {len(steps)} ({', '.join(steps[i - 1]) if i else 'the starting model'})" for i in range(len(path))
    )
    outcomes = repeats.train(
        list(zip(names, path, strict=True)),
        workers,
        folder,
        kind=ABLATING,
        epochs=epochs,
        seeds=seeds,
        seed=seed,
        xla_break_even=xla_break_even,
        watch=watch,
    )
    if not any(outcome.completed for each in outcomes for outcome in each):
        raise WorkError(f"ablation: every training failed; the first: {outcomes[0][0].message}")
    rows = [
        {
            "step": list(step),
            "hyperparameters": dict(values),
            **repeats.scored(each, objective),
            "message": next((outcome.message for outcome in each if not outcome.completed), ""),
        }
        for step, values, each in zip(((), *steps), path, outcomes, strict=True)
    ]
    content = {"format": 1, "objective": objective, "epochs": epochs, "seeds": seeds, "path": rows}
    files.write_json(folder / "ablation.json", files.seal(content))
    return content
