"""What is said of a sweep, and of a sweep beside the search; see :mod:`search.report.sentences`."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from search.report import estimators, evidence, figures
from search.results import Results, Sweep


def finding(sweep: Sweep) -> str:
    """What a sweep says in short: its best value, which others its seeds tell apart from that, which cost less."""
    values, compared = _values(sweep), evidence.compared(sweep)
    lost = [f"{values[i]} ({n} of {len(sweep.measures['loss'][i])})" for i, n in sorted(compared.lost.items())]
    out = f" Not compared, since trainings with them diverged or failed: {figures.listed(lost)}." if lost else ""
    if not compared.order:
        name = figures.words(sweep.name)
        if not np.isfinite(np.concatenate(sweep.measures["val_accuracy"])).any() and _has_losses(sweep):
            return f"Sweep over {name}: its models have no accuracy among their metrics, by which values are compared."
        return f"Sweep over {name}: no value ended with a finite validation accuracy in every seed.{out}"
    alike = evidence.best_alike(sweep, compared.order)
    top = _largest(sweep, compared, alike)
    if len(compared.order) == 1:
        return f"{top}{out}"
    if not compared.freedom:
        return f"{top} With one seed a value this cannot be told apart from the chance of a seed.{out}"
    cheap = [_cheaper(sweep, compared.order[0], i, less) for i, less in evidence.cheaper_ties(sweep, compared).items()]
    ties = f" As good as these seeds can tell, and cheaper: {figures.listed(cheap)}." if cheap else ""
    edge = _edge(sweep, compared.order[0]) if len(alike) == 1 else ""
    return f"{top}{edge}{_told_apart(sweep, compared, alike)}{ties}{out}"


def _has_losses(sweep: Sweep) -> bool:
    return bool(np.isfinite(np.concatenate(sweep.measures["loss"])).all())


def _largest(sweep: Sweep, compared: estimators.BlockComparison, alike: Sequence[int]) -> str:
    """At which value the validation accuracy is largest; at which, where several have exactly the same."""
    best, values = compared.order[0], _values(sweep)
    span = f" after {figures.plural(sweep.epochs, 'epoch')}" if sweep.epochs else ""
    mean = "mean " if len(sweep.measures["val_accuracy"][best]) > 1 else ""
    where = f"largest at {figures.listed([values[i] for i in sorted(alike)])}{' alike' if len(alike) > 1 else ''}"
    if 1 < len(alike) == len(compared.order):
        where = f"the same at every value{' that is compared' if compared.lost else ''}"
    return (
        f"Sweep over {figures.words(sweep.name)}: the {mean}validation accuracy{span} is {where}, "
        f"{figures.percent(_means(sweep, 'val_accuracy')[best])}."
    )


def _told_apart(sweep: Sweep, compared: estimators.BlockComparison, alike: Sequence[int]) -> str:
    """Which values the seeds tell apart from the best, or from those that are the best alike."""
    values, rest = _values(sweep), [i for i in compared.order if i not in alike]
    close, told = [values[i] for i in rest if i not in compared.worse], [values[i] for i in compared.worse]
    by = f"by {figures.plural(len(sweep.measures['val_accuracy'][alike[0]]), 'seed')} on these images"
    it, is_ = ("it", "It is") if len(alike) == 1 else ("them", "They are")
    other = f"other value{' that is compared' if compared.lost else ''}"
    if not rest:
        return ""
    if not close:
        return f" {is_} told apart from every {other} {by}."
    if not told:
        return f" {is_} not told apart from any {other} {by}."
    return f" Not told apart from {it} {by}: {figures.listed(close)}. Worse: {figures.listed(told)}."


def _edge(sweep: Sweep, best: int) -> str:
    """Whether the best value is the first or the last of those tried; values that are no numbers have no order."""
    numbers = [value for value in sweep.values if isinstance(value, (int, float)) and not isinstance(value, bool)]
    if len(numbers) < 3 or len(numbers) < len(sweep.values) or sweep.values[best] not in (min(numbers), max(numbers)):
        return ""
    end = "smallest" if sweep.values[best] == min(numbers) else "largest"
    return f" It is the {end} value tried: a better one may lie beyond."


def _cheaper(sweep: Sweep, best: int, i: int, less: Sequence[str]) -> str:
    """'32 (785 weights, 0.10 ± 0.01 s an epoch; 0.05 percentage points below)': what is less, and what it costs."""
    costs = {
        "weights": lambda: figures.plural(int(sweep.parameters[i]), "weight"),
        "seconds": lambda: f"{measured(sweep, 'seconds_per_epoch', i)} an epoch",
    }
    means = _means(sweep, "val_accuracy")
    below = "equal" if means[best] - means[i] < evidence.SAME else f"{figures.points(means[best] - means[i])} below"
    return f"{figures.value(sweep.values[i])} ({', '.join(costs[name]() for name in less)}; {below})"


def measured(sweep: Sweep, measure: str, i: int) -> str:
    """A measure of the ``i``-th value: its mean over seeds with the standard deviation, the figure itself of one seed."""
    mean, deviation, n = estimators.mean_and_deviation(sweep.measures[measure][i])
    if n > 1:
        return figures.spread(measure, mean, deviation)
    return figures.duration(mean) if "seconds" in measure else figures.metric(measure, mean)


def side_by_side(exercise: Results, sweep: Sweep) -> str:
    """One answer to 'which value is best' from the sweep and the search; empty where the search chose none."""
    answer = _which(exercise, sweep)
    if not answer or exercise.objective == "val_accuracy":
        return answer
    return (
        f"{answer} The sweep ranks by the validation accuracy, the search by the {figures.words(exercise.objective)}."
    )


def _which(exercise: Results, sweep: Sweep) -> str:
    if exercise.best is None or sweep.name not in exercise.best.hyperparameters:
        return ""
    compared = evidence.compared(sweep)
    if not compared.order:
        return ""
    found, best = exercise.best.hyperparameters[sweep.name], sweep.values[compared.order[0]]
    ours, theirs = figures.value(best), figures.value(found)
    lead = f"Which {figures.words(sweep.name)}?"
    if 1 < len(compared.order) == len(evidence.best_alike(sweep, compared.order)):
        return f"{lead} The sweep has the same accuracy at every value; the search's best configuration has {theirs}."
    level = [sweep.values[i] for i in compared.order if i not in compared.worse]
    others = [figures.value(value) for value in level[1:]]
    alone = "" if compared.freedom else ", with one seed a value,"
    ties = f"; the sweep{alone} does not tell {figures.listed(others)} apart from it" if others else ""
    if found == best:
        return f"{lead} {ours}: the sweep's best value, and that of the search's best configuration{ties}."
    if found in level:
        return (
            f"{lead} {theirs} of the search's best configuration or {ours} of the sweep: the sweep does not tell the two "
            "apart."
        )
    rest = _rest_of_the_best(exercise, sweep)
    lost = [sweep.values[i] for i in compared.lost]
    if found in sweep.values and found not in lost:
        return (
            f"{lead} {ours} in the sweep, which is told apart from {theirs} there; {theirs} in the search's best "
            f"configuration{rest}."
        )
    why = "which the sweep did not try"
    if found in lost:
        why = "which the sweep does not compare, since trainings with it diverged or failed"
    return f"{lead} {ours} of the values swept{ties}; the search's best configuration has {theirs}, {why}{rest}."


def _rest_of_the_best(exercise: Results, sweep: Sweep) -> str:
    """How the best configuration's other values compare with those of the sweep's models; empty where these are not known."""
    assert exercise.best is not None
    if not sweep.held:
        return ""
    found = exercise.best.hyperparameters
    tuned = sweep.chosen.get(str(found[sweep.name]))
    held = sweep.held if tuned is None else {**sweep.held, str(sweep.retuned): tuned}
    names = {name for name in (*held, *found) if held.get(name) != found.get(name)} - {sweep.name}
    if not names:
        return "; its other values are those of the sweep's models"
    return f"; that configuration differs from the sweep's models in {figures.plural(len(names), 'other value')}"


def details(sweep: Sweep) -> str:
    """The figures behind a sweep's finding: the lead over the runner-up, what was tuned for it, the loss, the cost."""
    values, compared = _values(sweep), evidence.compared(sweep)
    sentences = [*_lead(sweep, compared), *_retuned_to_an_end(sweep), *_lowest_loss(sweep, compared)]
    if apart := evidence.quickest_and_slowest(sweep):
        fast, slow = apart
        takes = [measured(sweep, "seconds_per_epoch", i) for i in apart]
        sentences.append(
            f"An epoch, once compiled, takes {takes[0]} at {values[fast]} and {takes[1]} at {values[slow]}."
        )
    return " ".join(sentences)


def _lead(sweep: Sweep, compared: estimators.BlockComparison) -> list[str]:
    alike = evidence.best_alike(sweep, compared.order) if compared.order else []
    if len(compared.order) < 2 or len(alike) > 1:
        return []
    noise = ""
    if compared.freedom and compared.deviation > 0:
        noise = f" (standard deviation of a training, the seeds' common part taken out: {figures.points(compared.deviation)})"
    best, second = compared.order[:2]
    means = _means(sweep, "val_accuracy")
    images = round((means[best] - means[second]) * sweep.images, 2)
    of = f" of {figures.count(sweep.images)}"
    one = "" if not sweep.images or images > 1 else f", {'one' if images == 1 else 'less than one'} image{of}"
    return [
        f"The lead over the second, {_values(sweep)[second]}, is {figures.points(means[best] - means[second])}{one}{noise}."
    ]


def _retuned_to_an_end(sweep: Sweep) -> list[str]:
    """Of which values what was tuned for them is the first or the last of what was tried."""
    numbers = [one for one in sweep.candidates if isinstance(one, (int, float)) and not isinstance(one, bool)]
    if len(numbers) < 3 or len(numbers) < len(sweep.candidates):
        return []
    found = []
    for end, word in ((min(numbers), "smallest"), (max(numbers), "largest")):
        at = [figures.value(value) for value in sweep.values if sweep.chosen.get(str(value)) == end]
        if at:
            found.append(
                f"The {figures.words(str(sweep.retuned))} that was tuned for {figures.listed(at)}, {figures.value(end)}, is "
                f"the {word} tried: a better one may lie beyond."
            )
    return found


def _lowest_loss(sweep: Sweep, compared: estimators.BlockComparison) -> list[str]:
    losses = _means(sweep, "loss")
    kept = [i for i in compared.order if math.isfinite(losses[i])]
    if len(kept) < 2:
        return []
    if sweep.name in evidence.OF_THE_LOSS or not sweep.one_loss:
        return ["The loss is another function at each value: the losses do not compare."]
    low = min(kept, key=lambda i: losses[i])
    return [f"The final training loss is lowest at {_values(sweep)[low]} ({figures.loss(losses[low])})."]


def _values(sweep: Sweep) -> list[str]:
    return [figures.value(value) for value in sweep.values]


def _means(sweep: Sweep, measure: str) -> estimators.Floats:
    return np.array([estimators.mean_and_deviation(group)[0] for group in sweep.measures[measure]])
