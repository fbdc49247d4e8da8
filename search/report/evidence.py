"""What a results folder's numbers support, as numbers: the report's sentences and plots are made from this alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from search.report import estimators, figures
from search.report.estimators import BlockComparison, Floats, Interval, Summary
from search.results import Ablation, Final, Method, Results, Search, Setting, Sweep, Trial

NEAR = 0.01  # of a loss: closer to its minimum than this it is at its minimum
RISEN = 0.02  # of a loss: a smaller rise is no overfitting
NOISY = 20  # epochs: of fewer a loss's noise is hardly known
BY_CHANCE = 6.0  # deviations of an epoch over the root of a window: so far the lowest window lies below the last
APART = 3.5  # the same: so far two windows lie apart
SURE = 0.999
CLOSE = 0.005  # of an accuracy: a value further below the best is not as good as it
SHORTER = 0.1  # of a time: a smaller difference is none
OF_THE_LOSS = ("loss", "label_smoothing")  # hyper-parameters of these names change what the loss is
SAME = 1e-7  # of an accuracy: no difference but that of 32 bits

Verdict = Literal["diverged", "overfits", "rises", "improves", "level", "unclear"]


def accuracies(final: Final) -> tuple[dict[str, Interval], Interval]:
    """95 % intervals of each method's mean test accuracy, and of tuned minus start, over seeds and images."""
    intervals, difference = estimators.accuracy_intervals(final.right())
    assert difference is not None
    return intervals, difference


def best_of_families(search: Search) -> dict[str, Trial]:
    """The completed trial with the best score of each ``family``, with and without augmented images apart where there are.

    A space without a hyper-parameter of that name has no families. ``shift`` and ``rotation`` augment, where they are not 0.
    """
    best: dict[str, Trial] = {}
    for trial in search.trials:
        if "family" not in trial.hyperparameters or not np.isfinite(search.score(trial)):
            continue
        family = str(trial.hyperparameters["family"])
        moved = [trial.hyperparameters[name] for name in ("shift", "rotation") if name in trial.hyperparameters]
        if moved:
            family += ", augmented images" if any(moved) else ", images as they are"
        sign = 1 if search.maximise else -1
        if family not in best or sign * search.score(trial) > sign * search.score(best[family]):
            best[family] = trial
    return best


def over_seeds(method: Method, measure: str) -> Summary:
    """A measure's median and range over the seeds of a method."""
    return estimators.summary(method.seeds[measure])


def confusions(final: Final, method: Method, classes: int) -> NDArray[np.int64]:
    """Counts of test images by true (row) and answered class, a matrix a network (s, classes, classes)."""
    predicted = method.predicted()
    counts = np.zeros((len(predicted), classes, classes), np.int64)
    for matrix, answers in zip(counts, predicted, strict=True):
        np.add.at(matrix, (final.labels, answers), 1)
    return counts


@dataclass(frozen=True)
class Calibration:
    """How far a method's networks may be believed: medians and ranges over seeds.

    Attributes:
        error: expected calibration error.
        sure_errors: of each network's errors, the share made with a confidence above SURE.
        sure: of all answers, the share given with a confidence above SURE.
    """

    error: Summary
    sure_errors: Summary
    sure: Summary


def calibration(final: Final, method: Method) -> Calibration:
    """The calibration of a method's networks on the test images."""
    confidence, right = method.confidence(), method.predicted() == final.labels
    errors = [estimators.expected_calibration_error(c, r) for c, r in zip(confidence, right, strict=True)]
    sure = confidence > SURE
    shares = [float(s[~r].mean()) if not r.all() else np.nan for s, r in zip(sure, right, strict=True)]
    return Calibration(estimators.summary(errors), estimators.summary(shares), estimators.summary(sure.mean(axis=1)))


def binary(final: Final, method: Method) -> dict[str, Summary] | None:
    """Precision, recall, F1 and the areas of each network over two classes; None where the images have one class."""
    positive = final.labels == 1
    if positive.all() or not positive.any():
        return None
    measured = [estimators.binary_measures(positive, outputs[:, 0]) for outputs in method.outputs]
    return {name: estimators.summary([each[name] for each in measured]) for name in measured[0]}


@dataclass(frozen=True)
class Fit:
    """What one training's curves say, in medians of windows, so that a spike is no trend.

    Attributes:
        lowest: the lowest epoch of the window with the lowest median validation loss; of a diverged one, where it did.
        minimum, end, before: median validation losses of that window, of the last and of the one before it.
        training: median training loss of the window at the minimum and of the last.
        accuracy: median validation accuracy of the window at the minimum and of the last.
    """

    verdict: Verdict
    lowest: int
    minimum: float
    end: float
    before: float
    training: tuple[float, float]
    accuracy: tuple[float, float]


def window(epochs: int) -> int:
    """The epochs of a window: a tenth of the training, at most ten."""
    return max(1, min(10, epochs // 10))


def has_accuracy(method: Method) -> bool:
    """Whether the accuracy is among the model's metrics: without it no epoch of a training that has losses has one."""
    known = np.isfinite(method.history["val_loss"])
    return not known.any() or bool(np.isfinite(method.history["val_accuracy"][known]).any())


def fits(method: Method) -> list[Fit]:
    """One :class:`Fit` a seed."""
    columns = [method.history[name] for name in ("loss", "val_loss", "val_accuracy")]
    return [_fit(*curves) for curves in zip(*columns, strict=True)]


def _fit(training: Floats, validation: Floats, accuracy: Floats) -> Fit:
    epochs, w = len(validation), window(len(validation))
    finite = np.isfinite(training) & np.isfinite(validation)
    if not finite.all():
        bad = int(np.flatnonzero(~finite)[0]) + 1
        return Fit("diverged", bad, np.nan, np.nan, np.nan, (np.nan, np.nan), (np.nan, np.nan))
    trained, losses, right = (estimators.rolling_median(curve, w) for curve in (training, validation, accuracy))
    lowest = int(losses.argmin())
    end, before, minimum = float(losses[-1]), float(losses[max(0, len(losses) - 1 - w)]), float(losses[lowest])
    # How an epoch wavers: about its neighbours, or, where it swings, about the median of its window, which holds it too.
    middles = validation[(w - 1) // 2 : (w - 1) // 2 + len(losses)]
    about_median = float(np.median(np.abs(middles - losses)[-5 * w :])) / estimators.MEDIAN_OF_NORMAL
    wavering = max(estimators.noise(validation[-max(5 * w, NOISY) :]), about_median)
    verdict: Verdict = "unclear"
    if end - minimum > max(RISEN * abs(minimum), BY_CHANCE * wavering / math.sqrt(w)):
        verdict = "overfits" if trained[-1] < trained[lowest] else "rises"
    elif (
        end < before - NEAR * abs(before)
        and end <= minimum + NEAR * abs(minimum)
        and before - end > APART * wavering / math.sqrt(w)
        and epochs >= 2 * w > 1
    ):
        verdict = "improves"
    elif _is_level(validation, losses, w, wavering):
        verdict = "level"
    return Fit(
        verdict,
        lowest + int(validation[lowest : lowest + w].argmin()) + 1,
        minimum,
        end,
        before,
        (float(trained[lowest]), float(trained[-1])),
        (float(right[lowest]), float(right[-1])),
    )


def _is_level(validation: Floats, losses: Floats, w: int, wavering: float) -> bool:
    """Whether a loss no longer moves: its last three windows lie close together, or its last five only waver."""
    three, five = np.ptp(losses[-2 * w - 1 :]), np.ptp(losses[-4 * w - 1 :])
    still = float(three) <= RISEN * abs(float(losses[-1]))
    return still or (float(five) <= 2 * wavering and not estimators.has_trend(validation[-5 * w :]))


def last_of_each(trials: Sequence[Trial]) -> list[Trial]:
    """Each configuration once, at its longest training: without the trials that another one continued."""
    continued = {trial.promoted_from for trial in trials}
    return [trial for trial in trials if trial.trial_id not in continued]


def compared(sweep: Sweep) -> BlockComparison:
    """The values of a sweep by validation accuracy, over the seeds that all of them share."""
    most = max(len(group) for group in sweep.measures["val_accuracy"])
    table = np.full((len(sweep.values), most), np.nan)
    for row, group in zip(table, sweep.measures["val_accuracy"], strict=True):
        row[: len(group)] = group
    return estimators.compare_blocks(table, resolution(sweep.images))


def resolution(images: int) -> float:
    """The smallest difference of two accuracies on so many images; 0 where it is not known."""
    return 1 / images if images else 0.0


def best_alike(sweep: Sweep, order: Sequence[int]) -> list[int]:
    """The values with exactly the largest mean validation accuracy, of ``order`` from :func:`compared`."""
    means = [float(np.mean(sweep.measures["val_accuracy"][i])) for i in order]
    return [i for i, mean in zip(order, means, strict=True) if means[0] - mean < SAME]


def differing_losses(final: Final) -> list[str]:
    """The settings in which the two models' losses differ, 'label_smoothing 0 and 0.05'; none where they are one function."""
    methods = (final.methods["start"], final.methods["tuned"])
    start, tuned = (
        {name: one.hyperparameters[name] for name in OF_THE_LOSS if name in one.hyperparameters} | one.loss_function
        for one in methods
    )
    names = [name for name in dict.fromkeys((*start, *tuned)) if start.get(name) != tuned.get(name)]
    return [
        f"{figures.words(name)} {figures.setting(start.get(name))} and {figures.setting(tuned.get(name))}"
        for name in names
    ]


def of_the_loss(search: Search) -> list[str]:
    """The hyper-parameters of which the trials have several values and that change the loss which is the objective; none of any other."""
    if "loss" not in search.objective:
        return []
    names = dict.fromkeys((*OF_THE_LOSS, *search.step.get("of_the_loss", ())))
    return [name for name in names if len({trial.hyperparameters.get(name) for trial in search.trials}) > 1]


def crossentropy(final: Final, method: Method) -> Summary:
    """Of the labels under the networks' probabilities for the test images, over seeds: the same function for any loss."""
    given = np.clip(method.outputs.astype(float), 1e-7, 1 - 1e-7)  # as Keras clips
    of_label = (
        np.where(final.labels == 1, given[..., 0], 1 - given[..., 0])
        if given.shape[2] == 1
        else given[:, np.arange(len(final.labels)), final.labels]
    )
    return estimators.summary(-np.log(of_label).mean(axis=1))


def effects(found: Ablation) -> list[Interval | None]:
    """What each step changes of the mean objective, see :func:`search.report.estimators.successive_differences`.

    None also for a step after which a loss is another function.
    """
    smallest = resolution(found.images) if figures.is_share(found.objective) else 0.0
    differences = estimators.successive_differences([one.scores for one in found.path], smallest)
    other = other_losses(found)
    return [None if i in other else difference for i, difference in enumerate(differences, 1)]


def other_losses(found: Ablation) -> list[int]:
    """The steps, from 1, that change the function of which the objective is a value; none where it is no loss."""
    steps = range(1, len(found.path)) if "loss" in found.objective else []
    by_name = {i for i in steps if not found.changes(i).keys().isdisjoint(OF_THE_LOSS)}
    return sorted(by_name.union(i for i in steps if found.path[i].loss_function != found.path[i - 1].loss_function))


def cheaper_ties(sweep: Sweep, comparison: BlockComparison) -> dict[int, list[str]]:
    """The values about as good as the best that cost less, each with what it has less of: 'weights', 'seconds'.

    About as good: not told apart from the best, by none of the two tests, since another value that wavers widens the error
    of all; and with a mean below its by no more than a standard error of the difference and no more than CLOSE, since seeds
    that waver much tell nothing apart. Cheaper: fewer weights and no longer epoch, or as many weights and a shorter epoch
    (by 10 %).
    """
    if len(comparison.order) < 2 or not comparison.freedom:
        return {}
    best = comparison.order[0]
    accuracy, seconds = (
        [estimators.mean_and_deviation(group)[0] for group in sweep.measures[name]]
        for name in ("val_accuracy", "seconds_per_epoch")
    )
    error = comparison.deviation * (2 / len(sweep.measures["val_accuracy"][best])) ** 0.5
    weights = sweep.parameters or [np.nan] * len(seconds)
    found = {}
    scores = sweep.measures["val_accuracy"]
    for i in comparison.order[1:]:
        alone = estimators.half_of_interval(scores[best] - scores[i], resolution(sweep.images))
        if accuracy[best] - accuracy[i] > min(error, alone, CLOSE) + SAME:
            continue
        less = {
            "weights": weights[i] < weights[best],
            "seconds": _quicker(sweep, i, best),
        }
        dearer = weights[i] > weights[best] or _apart(sweep.measures["seconds_per_epoch"], best, i)
        if any(less.values()) and not dearer:
            found[i] = [name for name, is_less in less.items() if is_less]
    return found


def _apart(measured: Sequence[Floats], low: int, high: int) -> bool:
    """Whether every seed's time of the one is below every seed's of the other: else the machine's load may make it so."""
    if not (np.isfinite(measured[low]).any() and np.isfinite(measured[high]).any()):
        return False
    return bool(np.nanmax(measured[low]) < np.nanmin(measured[high]))


def _quicker(sweep: Sweep, low: int, high: int) -> bool:
    """Whether an epoch at the one value is told to be shorter: by a tenth, in every seed, and by the test for accuracies.

    The test is of logarithms, since a machine's load lengthens a time by a share of it; one seed tells nothing.
    """
    measured = sweep.measures["seconds_per_epoch"]
    with np.errstate(divide="ignore", invalid="ignore"):
        speeds = -np.log(np.array(measured))
    means = [estimators.mean_and_deviation(measured[i])[0] for i in (low, high)]
    shorter = means[0] < (1 - SHORTER) * means[1] and _apart(measured, low, high)
    return shorter and estimators.is_above(speeds, low, high, estimators.compare_blocks(speeds))


def quickest_and_slowest(sweep: Sweep) -> tuple[int, int] | None:
    """The values whose epochs took least and most, by the mean; None where the seeds do not tell the two apart."""
    means = np.array([estimators.mean_and_deviation(group)[0] for group in sweep.measures["seconds_per_epoch"]])
    if np.isfinite(means).sum() < 2:
        return None
    low, high = int(np.nanargmin(means)), int(np.nanargmax(means))
    return (low, high) if _quicker(sweep, low, high) else None


def is_starting_value(exercise: Results, sweep: Sweep, value: Setting) -> bool:
    """Whether the sweep's model of this value is the starting model, what was tuned for the value included."""
    tuned = sweep.chosen.get(str(value))
    return exercise.start.get(sweep.name) == value and tuned in (None, exercise.start.get(str(sweep.retuned)))
