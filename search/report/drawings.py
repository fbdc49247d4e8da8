"""Which plots an exercise and a search allow, and of which of their figures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from matplotlib.figure import Figure

from search import files
from search.report import estimators, evidence, figures, plots
from search.results import Results, Search, Sweep, Trial


def of_exercise(exercise: Results) -> dict[str, Callable[[], Figure]]:
    """What can be drawn of this exercise, by the plot's file name."""
    drawings: dict[str, Callable[[], Figure]] = {}
    final = exercise.final
    if final is not None:
        drawings["loss"] = partial(plots.curves, histories(exercise), "loss")
        drawings["accuracy"] = partial(plots.curves, histories(exercise), "accuracy")
        classes = exercise.classes
        matrices = {name: evidence.confusions(final, method, len(classes)) for name, method in final.methods.items()}
        drawings["confusion"] = partial(plots.confusion, matrices, classes)
        right = final.right()
        bins = {
            name: estimators.reliability(method.confidence().ravel(), right[name].ravel())[1:]
            for name, method in final.methods.items()
        }
        drawings["reliability"] = partial(plots.reliability, bins)
        if len(final.misread.images):
            drawings["misread"] = partial(plots.misread, **vars(final.misread), classes=classes)
    drawings |= of_search(exercise.search)
    for sweep in exercise.sweeps:
        start = next((value for value in sweep.values if evidence.is_starting_value(exercise, sweep, value)), None)
        drawings[sweep_plot(sweep)] = partial(plots.sweep, sweep.name, sweep.values, sweep.measures, start)
    points = costs(exercise)
    if plots.costs_differ(points):
        drawings["cost"] = partial(plots.cost, points)
    return drawings


def costs(exercise: Results) -> list[plots.Priced]:
    """Every value of the sweeps that never failed, with its accuracy and its cost."""
    return [
        plots.Priced(
            figures.words(sweep.name),
            figures.value(sweep.values[i]),
            estimators.mean_and_deviation(sweep.measures["val_accuracy"][i])[0],
            sweep.parameters[i],
            estimators.mean_and_deviation(sweep.measures["seconds_per_epoch"][i])[0],
            sweep.origin == "start" and evidence.is_starting_value(exercise, sweep, sweep.values[i]),
        )
        for sweep in exercise.sweeps
        for i in evidence.compared(sweep).order
    ]


def histories(exercise: Results) -> dict[str, dict[str, Any]]:
    assert exercise.final is not None
    return {name: dict(method.history) for name, method in exercise.final.methods.items()}


def of_search(search: Search) -> dict[str, Callable[[], Figure]]:
    """The two pictures of a search, as far as its trials allow them."""
    ended = search.ended()
    longest = evidence.last_of_each([trial for trial in ended if trial.status == "COMPLETED"])
    if not longest:
        return {}
    aim = (search.objective, search.maximise)
    known = any(trial.epochs for trial in ended)
    spent = [trial.spent if known else 1 for trial in ended]
    scores = search.scores()
    progress = partial(plots.search_progress, scores, [trial.epochs for trial in ended], spent, *aim)
    drawings: dict[str, Callable[[], Figure]] = {"search": progress}
    settings = {name: [trial.hyperparameters.get(name) for trial in longest] for name in _settings_that_vary(longest)}
    if settings:
        scores, epochs = [search.score(trial) for trial in longest], [trial.epochs for trial in longest]
        drawings["effects"] = partial(plots.effects, settings, scores, epochs, *aim)
    return drawings


def sweep_plot(sweep: Sweep) -> str:
    return f"sweep_{files.slug(sweep.name)}"


def _settings_that_vary(trials: Sequence[Trial]) -> list[str]:
    names = list(dict.fromkeys(name for trial in trials for name in trial.hyperparameters))
    return [name for name in names if len({trial.hyperparameters.get(name) for trial in trials}) > 1]
