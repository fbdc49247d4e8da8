"""Statistics of the report: NumPy arrays in, numbers out. ``docs/statistics.md`` says which figure uses which, and why."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

Floats = NDArray[np.float64]
LEVEL = 0.05
FEW = 10  # images
MEDIAN_OF_NORMAL = float(stats.norm.ppf(0.75))  # of the size of a standard normal value
DRAWS = 4000  # of a bootstrap: the ends of a 95 % interval then move by less than 0.1 of its width from seed to seed


@dataclass(frozen=True)
class Summary:
    """What several trainings say of one measure: median, smallest and largest of the finite ones; NaN where none is."""

    median: float
    low: float
    high: float
    n: int  # finite
    of: int  # all


@dataclass(frozen=True)
class Interval:
    """An estimate and the ends of its 95 % interval."""

    value: float
    low: float
    high: float


def summary(values: ArrayLike) -> Summary:
    """Median and range of ``values`` (n,), those that are not finite counted apart."""
    given = np.asarray(values, float)
    finite = given[np.isfinite(given)]
    if not finite.size:
        return Summary(math.nan, math.nan, math.nan, 0, given.size)
    return Summary(float(np.median(finite)), float(finite.min()), float(finite.max()), finite.size, given.size)


def mean_and_deviation(values: ArrayLike) -> tuple[float, float, int]:
    """Mean, sample standard deviation (NaN for fewer than two) and number of the finite values."""
    finite = np.asarray(values, float)
    finite = finite[np.isfinite(finite)]
    mean = float(finite.mean()) if finite.size else math.nan
    return mean, float(finite.std(ddof=1)) if finite.size > 1 else math.nan, int(finite.size)


def crossed_bootstrap(
    right: Mapping[str, NDArray[np.bool_]], *, draws: int = DRAWS, seed: int = 0
) -> dict[str, Floats]:
    """Accuracies under resampling of both trainings and images.

    Trainings and images are crossed: every network answers every image. Each draw resamples the images once, the same
    for every model, so that a difference of two models is paired by image; and the trainings of each model by
    themselves, s - 1 of s, which makes the variance between few trainings unbiased. A model with one training keeps it:
    its interval is of the images alone.

    Sources: Owen, The pigeonhole bootstrap, Annals of Applied Statistics 1 (2007); Rao and Wu, JASA 83 (1988), for s - 1.

    Args:
        right: by model, whether each training (row) answers each image (column) correctly: (s, n) bool.
        draws: resamplings.
        seed: of the resampling.

    Returns:
        By model, ``draws`` mean accuracies (draws,).

    Raises:
        ValueError: the models do not have the same images.
    """
    if len({rows.shape[1] for rows in right.values()}) != 1:
        raise ValueError(f"received images {[rows.shape[1] for rows in right.values()]}; expected the same for all")
    random = np.random.default_rng(seed)
    # Images with the same answers of all networks are interchangeable: their counts are all that is drawn.
    patterns, counts = np.unique(np.concatenate(list(right.values())), axis=1, return_counts=True)
    n = counts.sum()
    images = random.multinomial(n, counts / n, size=draws) / n  # (draws, patterns)
    accuracies, first = {}, 0
    for name, rows in right.items():
        s = len(rows)
        answers = patterns[first : first + s].astype(float)
        first += s
        taken = max(1, s - 1)
        trainings = random.multinomial(taken, np.full(s, 1 / s), size=draws) / taken  # (draws, s)
        accuracies[name] = np.einsum("ds,sp,dp->d", trainings, answers, images, optimize=True)
    return accuracies


def noise(series: Floats) -> float:
    """The standard deviation of independent noise about a smooth series (n,), robustly; 0 of fewer than three.

    From each value less the mean of its neighbours, whose variance is 1.5 times the noise's (Gasser, Sroka and
    Jennen-Steinmetz, Biometrika 73, 1986), by the median of their sizes.
    """
    if len(series) < 3:
        return 0.0
    residuals = series[1:-1] - (series[:-2] + series[2:]) / 2
    return float(np.median(np.abs(residuals)) / (MEDIAN_OF_NORMAL * np.sqrt(1.5)))


def bootstrap_interval(value: float, draws: Floats, of_seeds: Sequence[Floats] = ()) -> Interval:
    """The 2.5 and 97.5 % quantiles of a bootstrap's draws, widened for how little few seeds tell of their own variance.

    A percentile of the means of three trainings cannot leave their range, and where seeds vary by more than images it
    holds the truth in 80 % of cases. Both ends are moved away from the estimate by the ratio of Student's to the normal
    quantile, with Satterthwaite's degrees of freedom for the sum of the seeds' and the images' variances (Biometrics
    Bulletin 2, 1946): the ratio is 1 where images make the variance, and 2.2 where three seeds do.

    Args:
        value: the estimate.
        draws: see :func:`crossed_bootstrap`.
        of_seeds: of each model in the estimate, its trainings' accuracies (s,).
    """
    low, high = np.quantile(draws, [LEVEL / 2, 1 - LEVEL / 2])
    known = sum(
        (float(one.var(ddof=1)) / len(one)) ** 2 / (len(one) - 1) for one in of_seeds if len(one) > 1 and one.var() > 0
    )
    ratio = 1.0
    if known:
        freedom = float(draws.var()) ** 2 / known
        ratio = max(1.0, float(stats.t.ppf(1 - LEVEL / 2, freedom) / stats.norm.ppf(1 - LEVEL / 2)))
    return Interval(float(value), value + ratio * (float(low) - value), value + ratio * (float(high) - value))


def accuracy_intervals(right: Mapping[str, NDArray[np.bool_]]) -> tuple[dict[str, Interval], Interval | None]:
    """95 % intervals of each model's mean accuracy and, of two models, of the second minus the first.

    Of few images that are misread (or read) there is little to resample: below FEW the interval holds Wilson's of the
    images too (JASA 22, 1927), which is the whole of it where there are none.

    Args:
        right: see :func:`crossed_bootstrap`.
    """
    draws = crossed_bootstrap(right)
    of_seeds = {name: rows.mean(axis=1) for name, rows in right.items()}
    intervals = {}
    for name, rows in right.items():
        found = bootstrap_interval(float(rows.mean()), draws[name], [of_seeds[name]])
        low, high = max(0.0, found.low), min(1.0, found.high)
        n, right_of_each = rows.shape[1], rows.sum() / len(rows)
        if min(right_of_each, n - right_of_each) < FEW:
            few = (math.floor(right_of_each), math.ceil(right_of_each))
            ends = [stats.binomtest(k, n).proportion_ci(1 - LEVEL, method="wilson") for k in few]
            none = right_of_each in (0, n)
            low = ends[0].low if none else min(low, ends[0].low)
            high = ends[1].high if none else max(high, ends[1].high)
        intervals[name] = Interval(found.value, float(low), float(high))
    if len(right) != 2:
        return intervals, None
    first, second = right
    difference = float(right[second].mean() - right[first].mean())
    if all(np.array_equal(rows, np.broadcast_to(right[first][:1], rows.shape)) for rows in right.values()):
        return intervals, Interval(0.0, 0.0, 0.0)  # every network misreads the same images
    return intervals, bootstrap_interval(difference, draws[second] - draws[first], list(of_seeds.values()))


@dataclass(frozen=True)
class BlockComparison:
    """Values compared over the same seeds.

    Attributes:
        order: the values that never failed, best first (indices).
        worse: of these, the ones told apart from the best.
        deviation: residual standard deviation, the seeds' common part taken out; NaN where it is not estimable.
        freedom: its degrees of freedom.
        lost: by value that failed in some seed, in how many.
        needed: the least difference of two means that the studentized range tells apart.
    """

    order: list[int]
    worse: list[int]
    deviation: float
    freedom: int
    lost: dict[int, int]
    needed: float = math.nan


def compare_blocks(scores: ArrayLike, resolution: float = 0.0) -> BlockComparison:
    """Which values are worse than the best, when all are tried with the same seeds.

    A randomised block design: value and seed add up, what is left is the error. A value is worse if its mean is below
    the best one's by more than the studentized range allows (Tukey: the best is itself chosen by these figures, so all
    pairs count), and if its own paired differences say the same (a t-test at the same level: one unsteady value must
    not borrow the others' small error). Under no difference any value at all is called worse in at most 5 % of sweeps.
    A value with a failed training is no candidate: the trainings that survived do not speak for it.

    Scores that count images are rounded: no error is taken to be less than that of rounding, the resolution over the root of
    12, and no lead of the resolution or less is one.

    Source: Kutner et al., Applied Linear Statistical Models, 5th ed., chapter 21; the simulations are in the tests.

    Args:
        scores: (values, seeds), larger is better, NaN for a failed training.
        resolution: the smallest difference that two scores can have, of an accuracy one image.
    """
    table = np.asarray(scores, float)
    lost = {i: int((~np.isfinite(row)).sum()) for i, row in enumerate(table) if not np.isfinite(row).all()}
    whole = [i for i in range(len(table)) if i not in lost]
    kept = table[whole]
    k, b = kept.shape
    order = [whole[i] for i in np.argsort(-kept.mean(axis=1), kind="stable")] if k else []
    freedom = max(0, (k - 1) * (b - 1))
    if not freedom:
        return BlockComparison(order, [], math.nan, 0, lost)
    residuals = kept - kept.mean(axis=1, keepdims=True) - kept.mean(axis=0, keepdims=True) + kept.mean()
    deviation = math.sqrt(float((residuals**2).sum()) / freedom)
    needed = _critical_range(k, freedom) * max(deviation, resolution / math.sqrt(12)) / math.sqrt(b)
    found = BlockComparison(order, [], deviation, freedom, lost, needed)
    return replace(found, worse=[i for i in order[1:] if is_above(table, order[0], i, found, resolution)])


def is_above(scores: ArrayLike, i: int, j: int, compared: BlockComparison, resolution: float = 0.0) -> bool:
    """Whether the rule of :func:`compare_blocks` tells value ``i`` apart from ``j``, and above it; any pair may be asked for.

    Args:
        compared: what :func:`compare_blocks` found of the same scores.
    """
    if not compared.freedom or not {i, j} <= set(compared.order):
        return False
    lead = np.asarray(scores, float)[i] - np.asarray(scores, float)[j]
    return bool(lead.mean() > max(compared.needed, half_of_interval(lead, resolution)))


def half_of_interval(differences: ArrayLike, resolution: float = 0.0) -> float:
    """Half of the 95 % t-interval of the mean of paired differences (s,); NaN for one. See :func:`compare_blocks`."""
    given = np.asarray(differences, float)
    if len(given) < 2:
        return math.nan
    deviation = max(float(given.std(ddof=1)), resolution / math.sqrt(6))  # of a difference: two roundings
    half = float(stats.t.ppf(1 - LEVEL / 2, len(given) - 1)) * deviation / math.sqrt(len(given))
    return max(half, 1.001 * resolution)  # accuracies have 32 bits


def successive_differences(scores: ArrayLike, resolution: float = 0.0) -> list[Interval | None]:
    """Each configuration's mean minus that of the one before it, with 95 % intervals that hold all at once.

    Seeds are blocks as in :func:`compare_blocks`, whose residual deviation and freedom these are. Bonferroni's inequality
    over the steps makes the intervals simultaneous: they are fixed beforehand, and neighbours share a mean, so that little
    is lost. An interval is no narrower than a t-interval of the step's own paired differences: one unsteady configuration
    must not borrow the others' small error. Under no difference some interval leaves out zero in at most 5 % of paths.

    Source: Dunn, Multiple comparisons among means, JASA 56 (1961); Kutner et al., Applied Linear Statistical Models, 5th
    ed., chapter 21; the simulations are in the tests.

    Args:
        scores: (steps + 1, seeds), in the order of the path, NaN for a failed training.
        resolution: as in :func:`compare_blocks`.

    Returns:
        One a step, (steps,); None where a training of it or of the one before failed, since the trainings that survived
        do not speak for either. With one seed the ends are NaN.
    """
    table = np.asarray(scores, float)
    compared = compare_blocks(table)
    steps, b = len(table) - 1, table.shape[1]
    least = 0.0
    if compared.freedom:
        quantile = float(stats.t.ppf(1 - LEVEL / (2 * steps), compared.freedom))
        least = quantile * max(compared.deviation, resolution / math.sqrt(12)) * math.sqrt(2 / b)
    found: list[Interval | None] = []
    for i, difference in enumerate(np.diff(table, axis=0)):
        value, half = float(difference.mean()), half_of_interval(difference, resolution)
        half = max(half, least)  # NaN stays NaN
        failed = i in compared.lost or i + 1 in compared.lost
        found.append(None if failed else Interval(value, value - half, value + half))
    return found


@functools.cache
def _critical_range(k: int, freedom: int) -> float:
    """The 95 % quantile of the studentized range of k means; SciPy integrates it numerically, for some 0.1 s."""
    return float(stats.studentized_range.ppf(1 - LEVEL, k, freedom))


def expected_calibration_error(confidence: ArrayLike, right: ArrayLike, bins: int = 15) -> float:
    """The mean distance between confidence and accuracy over bins of equal width, weighted by their sizes.

    Source: Guo et al., On calibration of modern neural networks, ICML 2017, equation 3 (15 bins as there).

    Args:
        confidence: (n,) the probability that the network gives its answer, 0 to 1.
        right: (n,) whether the answer is correct.
    """
    _, mean, share, counts = reliability(confidence, right, bins)
    return float((counts * np.abs(mean - share)).sum() / counts.sum())


def reliability(confidence: ArrayLike, right: ArrayLike, bins: int = 15) -> tuple[Floats, Floats, Floats, Floats]:
    """Bins (low, high] of equal width: the upper ends, and of those with an image mean confidence, accuracy and count."""
    given, correct = np.asarray(confidence, float), np.asarray(right, float)
    place = np.clip(np.ceil(given * bins).astype(int) - 1, 0, bins - 1)
    counts = np.bincount(place, minlength=bins).astype(float)
    held = counts > 0
    mean = np.bincount(place, given, minlength=bins)[held] / counts[held]
    share = np.bincount(place, correct, minlength=bins)[held] / counts[held]
    return (np.arange(bins)[held] + 1) / bins, mean, share, counts[held]


def binary_measures(positive: ArrayLike, probability: ArrayLike) -> dict[str, float]:
    """Precision, recall and F1 at a threshold of one half; the areas under the ROC and the precision-recall curve.

    The ROC area is Mann and Whitney's U over all pairs; the precision-recall area is the average precision, the sum of
    precision times gain in recall over falling thresholds, without interpolation (Davis and Goadrich, ICML 2006).

    Args:
        positive: (n,) whether the image is of the positive class; both classes occur.
        probability: (n,) that it is, by the network.
    """
    truth, score = np.asarray(positive, bool), np.asarray(probability, float)
    hits, answers, positives = int((truth & (score > 0.5)).sum()), int((score > 0.5).sum()), int(truth.sum())
    u = float(stats.mannwhitneyu(score[truth], score[~truth]).statistic)
    order = np.argsort(-score, kind="stable")
    last = np.r_[np.flatnonzero(np.diff(score[order])), len(score) - 1]  # one threshold for equal scores
    found = np.cumsum(truth[order])[last]
    return {
        "precision": hits / answers if answers else 0.0,
        "recall": hits / positives,
        "f1": 2 * hits / (answers + positives),
        "roc_area": u / (positives * (len(truth) - positives)),
        "pr_area": float((np.diff(np.r_[0, found]) / positives * found / (last + 1)).sum()),
    }


def has_trend(values: ArrayLike) -> bool:
    """Whether successive values rise or fall: Kendall's rank correlation with their order, at the level of 5 %.

    Source: Mann, Nonparametric tests against trend, Econometrica 13 (1945).
    """
    given = np.asarray(values, float)
    return bool(stats.kendalltau(np.arange(len(given)), given).pvalue < LEVEL)  # of equal values NaN


def rolling_median(values: ArrayLike, window: int) -> Floats:
    """The median of each ``window`` successive values, (n - window + 1,)."""
    given = np.asarray(values, float)
    return np.asarray(np.median(np.lib.stride_tricks.sliding_window_view(given, min(window, len(given))), axis=1))
