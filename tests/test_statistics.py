"""The report's statistics against SciPy, scikit-learn and simulations."""

import math

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics

from benchmarks import regret
from search.report import estimators, evidence
from search.results import Sweep


def test_the_bootstrap_of_one_network_is_the_binomial_of_its_images():
    right = np.arange(2000) % 20 != 0  # 95 %
    draws = estimators.crossed_bootstrap({"one": right[None]}, draws=20_000)["one"]
    assert draws.mean() == pytest.approx(0.95, abs=3e-4)
    assert draws.std() == pytest.approx(stats.binom(2000, 0.95).std() / 2000, rel=0.03)
    interval = estimators.bootstrap_interval(0.95, draws)
    reference = stats.bootstrap((right.astype(float),), np.mean, method="percentile", n_resamples=5000, rng=1)
    assert interval.low == pytest.approx(reference.confidence_interval.low, abs=1e-3)
    assert interval.high == pytest.approx(reference.confidence_interval.high, abs=1e-3)


def test_networks_that_differ_widen_the_interval_by_the_variance_of_their_mean():
    """Seeds alone vary here: the bootstrap's variance is their sample variance over s, without bias."""
    shares = np.array([0.90, 0.92, 0.97])
    n = 100_000
    rows = np.array([np.arange(n) < share * n for share in shares])
    draws = estimators.crossed_bootstrap({"tuned": rows}, draws=20_000)["tuned"]
    images = rows.mean() * (1 - rows.mean()) / n
    assert draws.var() == pytest.approx(shares.var(ddof=1) / 3 + images, rel=0.05)


def test_a_difference_is_paired_by_image():
    """Two models that err on the same images differ by nothing, however many those are."""
    right = np.random.default_rng(0).random((1, 5000)) < 0.9
    intervals, difference = estimators.accuracy_intervals({"start": right, "tuned": right.copy()})
    assert (difference.value, difference.low, difference.high) == (0, 0, 0)
    assert intervals["start"].high - intervals["start"].low > 0.01


@pytest.mark.parametrize(("of_seeds", "least"), [(0.1, 0.93), (0.6, 0.93)], ids=["images vary more", "seeds vary more"])
def test_the_interval_of_a_difference_covers_it(of_seeds, least):
    """200 pairs of models whose images differ in difficulty, three networks each."""
    random = np.random.default_rng(3)
    images, networks, held = 400, 3, 0
    for _ in range(200):
        hard = 1.5 * random.normal(size=(1, images))
        rows = {}
        for name, skill in (("start", 1.6), ("tuned", 1.9)):
            seeds = of_seeds * random.normal(size=(networks, 1))
            rows[name] = hard + skill + seeds + random.normal(size=(networks, images)) > 0
        draws = estimators.crossed_bootstrap(rows, draws=400)
        accuracies = {name: one.mean(axis=1) for name, one in rows.items()}
        value = accuracies["tuned"].mean() - accuracies["start"].mean()
        difference = estimators.bootstrap_interval(value, draws["tuned"] - draws["start"], list(accuracies.values()))
        scale = math.sqrt(1 + 1.5**2 + of_seeds**2)
        true = stats.norm.cdf(1.9 / scale) - stats.norm.cdf(1.6 / scale)
        held += difference.low <= true <= difference.high
    assert held >= least * 200


def test_of_three_seeds_that_alone_vary_the_interval_is_student_s():
    """Two degrees of freedom: 4.30 in place of 1.96."""
    right = np.repeat([[0.90], [0.92], [0.97]], 10_000, axis=1) > np.linspace(0, 1, 10_000)[None]
    accuracies = right.mean(axis=1)
    normal = np.random.default_rng(0).normal(accuracies.mean(), accuracies.std(ddof=1) / math.sqrt(3), 200_000)
    interval = estimators.bootstrap_interval(accuracies.mean(), normal, [accuracies])
    reference = stats.t.interval(0.95, 2, accuracies.mean(), accuracies.std(ddof=1) / math.sqrt(3))
    assert (interval.low, interval.high) == pytest.approx(reference, rel=0.02)


def test_without_an_error_the_interval_is_wilsons():
    intervals, _ = estimators.accuracy_intervals({"tuned": np.ones((3, 50), bool)})
    assert intervals["tuned"].low == pytest.approx(1 / (1 + 1.959964**2 / 50), abs=1e-6)
    assert intervals["tuned"].high == 1


def test_a_worse_model_has_no_better_interval():
    """From one misread image of a thousand the lower end was above that of none."""
    ends = []
    for wrong in range(15):
        right = np.arange(1000)[None] >= wrong
        interval = estimators.accuracy_intervals({"tuned": right})[0]["tuned"]
        ends.append((interval.low, interval.high))
        wilson = stats.binomtest(1000 - wrong, 1000).proportion_ci(0.95, method="wilson")
        assert wrong >= 10 or (interval.low <= wilson.low and interval.high >= wilson.high)
    lows, highs = np.array(ends).T
    assert (np.diff(lows) <= 1e-3).all()
    assert (np.diff(lows)[:9] < 0).all()
    assert (np.diff(highs) <= 1e-12).all()


@pytest.mark.parametrize("errors", [0.5, 1.5, 3.1, 6.0])
def test_an_interval_of_few_errors_holds_the_truth(errors):
    """It held it in 86 of 100 cases with three errors expected."""
    n, held = 1000, 0.0
    for wrong in range(40):
        interval = estimators.accuracy_intervals({"tuned": np.arange(n)[None] >= wrong})[0]["tuned"]
        if interval.low <= 1 - errors / n <= interval.high:
            held += stats.binom.pmf(wrong, n, errors / n)
    assert held > 0.93


@pytest.mark.parametrize("seeds", [2, 7, 8, 11])
def test_networks_that_misread_the_same_images_differ_by_nothing(seeds):
    """From seven seeds on the sums' rounding was taken for a difference."""
    right = np.random.default_rng(0).random((1, 500)) < 0.97
    rows = np.repeat(right, seeds, axis=0)
    _, difference = estimators.accuracy_intervals({"start": rows, "tuned": rows[:1]})
    assert (difference.value, difference.low, difference.high) == (0.0, 0.0, 0.0)
    _, difference = estimators.accuracy_intervals({"start": np.zeros((2, 50), bool), "tuned": np.ones((2, 50), bool)})
    assert difference.low == difference.high == 1.0


@pytest.mark.parametrize("size", [0.01, 0.03])
@pytest.mark.parametrize("epochs", [20, 30, 50, 100, 300])
def test_noise_is_no_overfitting_and_no_progress(epochs, size):
    """Of a level loss a third was said to overfit after 20 epochs: the lowest window lies low by chance."""
    random, verdicts = np.random.default_rng(0), []
    training = np.exp(-np.linspace(0, 5, epochs))
    for _ in range(400):
        validation = 0.3 * (1 + size * random.normal(size=epochs))
        verdicts.append(evidence._fit(training, validation, np.full(epochs, 0.9)).verdict)
    assert verdicts.count("overfits") <= 400 * 0.03
    assert verdicts.count("improves") <= 400 * 0.045


@pytest.mark.parametrize("epochs", [20, 30, 50, 100])
def test_a_loss_that_rises_in_noise_overfits(epochs):
    random, at = np.random.default_rng(0), np.linspace(0, 1, epochs)
    verdicts = [
        evidence._fit(
            np.exp(-5 * at), 0.3 * (1 + (at - 0.3) ** 2) * (1 + 0.02 * random.normal(size=epochs)), np.full(epochs, 0.9)
        ).verdict
        for _ in range(100)
    ]
    assert verdicts.count("overfits") > 95


@pytest.mark.parametrize("deviation", [0.1, 2.0])
def test_noise_about_a_smooth_series_is_found(deviation):
    random = np.random.default_rng(0)
    series = np.linspace(0, 50, 20_000) + deviation * random.normal(size=20_000)
    assert estimators.noise(series) == pytest.approx(deviation, rel=0.03)
    assert estimators.noise(np.array([1.0, 2.0])) == 0.0


def test_models_with_other_images_are_refused():
    with pytest.raises(ValueError, match=r"received images \[5, 6\]"):
        estimators.crossed_bootstrap({"a": np.ones((1, 5), bool), "b": np.ones((1, 6), bool)})


@pytest.mark.parametrize(("values", "seeds"), [(2, 3), (4, 3), (7, 3), (7, 5)])
def test_a_sweep_without_differences_calls_some_value_worse_in_at_most_one_of_twenty(values, seeds):
    random = np.random.default_rng(values)
    sweeps = 2000
    wrong = 0
    for _ in range(sweeps):
        scores = 2 * random.normal(size=(1, seeds)) + random.normal(size=(values, seeds))  # good seeds are good for all
        wrong += bool(estimators.compare_blocks(scores).worse)
    assert wrong / sweeps < 0.05 + 3 * math.sqrt(0.05 * 0.95 / sweeps)


def test_one_unsteady_value_makes_few_false_claims():
    random = np.random.default_rng(0)
    spread = np.array([1, 1, 1, 1, 1, 1, 4])[:, None]
    wrong = sum(bool(estimators.compare_blocks(spread * random.normal(size=(7, 3))).worse) for _ in range(2000))
    assert wrong / 2000 < 0.09


def test_values_that_differ_are_told_apart_and_seeds_that_are_good_for_all_cancel():
    random = np.random.default_rng(1)
    seeds = 10 * random.normal(size=(1, 3))
    scores = seeds + np.array([[3.0], [0], [0], [0]]) + 0.1 * random.normal(size=(4, 3))
    compared = estimators.compare_blocks(scores)
    assert compared.order[0] == 0
    assert sorted(compared.worse) == [1, 2, 3]
    rounds = scores.T
    f, _ = stats.f_oneway(*(rounds - rounds.mean(axis=1, keepdims=True)).T)
    assert compared.deviation == pytest.approx(
        math.sqrt(3 * scores.mean(axis=1).var(ddof=1) / f * 8 / compared.freedom), rel=1e-9
    )


def test_a_value_that_diverged_is_no_winner_however_good_its_survivors():
    compared = estimators.compare_blocks([[0.99, math.nan, 0.99], [0.9, 0.91, 0.9], [0.89, 0.9, 0.89]])
    assert compared.lost == {0: 1}
    assert compared.order == [1, 2]
    assert estimators.compare_blocks([[math.nan] * 3] * 2).order == []


def test_scores_that_count_images_are_not_told_apart_by_one_image():
    """Two seeds that agree to the image have no variance, and would tell anything apart."""
    image = np.float32(1e-3)
    agreed = [[0.989, 0.989], [0.988, 0.988]]
    assert estimators.compare_blocks(agreed).worse == [1]
    assert estimators.compare_blocks(np.float32(agreed), image).worse == []
    assert estimators.compare_blocks([[0.989] * 5, [0.988] * 5, [0.9] * 5], image).worse == [2]
    (step,) = estimators.successive_differences(np.float32([[0.988] * 5, [0.989] * 5]), image)
    assert step.low < 0 < step.value < step.high
    assert estimators.successive_differences([[0.98] * 5, [0.989] * 5], image)[0].low > 0


def test_one_seed_or_one_value_claims_nothing():
    assert estimators.compare_blocks([[0.99], [0.5]]).worse == []
    assert estimators.compare_blocks([[0.99, 0.98, 0.99]]).worse == []


@pytest.mark.parametrize("seed", range(5))
def test_measures_of_two_classes_are_scikit_learns(seed):
    random = np.random.default_rng(seed)
    truth = random.random(500) < 0.1
    score = np.round(np.clip(0.4 * truth + random.random(500) * 0.6, 0, 1), seed)  # ties, the more the fewer decimals
    measured = estimators.binary_measures(truth, score)
    answer = score > 0.5
    assert measured == pytest.approx(
        {
            "precision": metrics.precision_score(truth, answer, zero_division=0.0),
            "recall": metrics.recall_score(truth, answer),
            "f1": metrics.f1_score(truth, answer),
            "roc_area": metrics.roc_auc_score(truth, score),
            "pr_area": metrics.average_precision_score(truth, score),
        }
    )


def test_calibration_of_networks_that_know_and_do_not_know():
    random = np.random.default_rng(0)
    confidence = random.uniform(0.5, 1, 200_000)
    right = random.random(200_000) < confidence
    assert estimators.expected_calibration_error(confidence, right) < 0.005
    assert estimators.expected_calibration_error(np.ones(1000), np.arange(1000) < 900) == pytest.approx(0.1)
    ends, mean, share, counts = estimators.reliability([0.95, 0.95, 0.2], [1, 0, 1], bins=10)
    assert ends.tolist() == [0.2, 1.0]
    assert mean == pytest.approx([0.2, 0.95])
    assert share == pytest.approx([1.0, 0.5])
    assert counts.tolist() == [1, 2]


def test_a_summary_counts_what_is_not_finite():
    found = estimators.summary([3.0, math.nan, 1.0, 2.0])
    assert (found.median, found.low, found.high, found.n, found.of) == (2, 1, 3, 3, 4)
    assert math.isnan(estimators.summary([math.nan]).median)


def test_one_spike_does_not_move_a_rolling_median():
    values = np.full(30, 0.1)
    values[12] = 9.0
    assert estimators.rolling_median(values, 5) == pytest.approx(np.full(26, 0.1))


def test_few_searches_have_student_s_interval():
    values = np.random.default_rng(0).normal(size=(5, 10))
    low, high = stats.t.interval(0.95, 4, values.mean(axis=0), stats.sem(values, axis=0))
    assert regret.half_of_interval(values) == pytest.approx((high - low) / 2)


def test_a_trend_is_seen_in_noise_and_none_in_noise_alone():
    random = np.random.default_rng(0)
    noise = random.normal(size=(400, 50))
    assert np.mean([estimators.has_trend(one) for one in noise]) < 0.09
    assert all(estimators.has_trend(one - 0.1 * np.arange(50)) for one in noise)
    assert not estimators.has_trend(np.ones(50))


@pytest.mark.parametrize("course", ["falls", "rises", "level"])
def test_a_loss_below_zero_has_the_verdict_of_the_same_course_above_it(course):
    """Cosine similarity is a loss from -1 on: a share of it is a share of its size."""
    steps = np.linspace(0, 1, 60)
    validation = {"falls": 0.9 - 0.25 * steps, "rises": 0.5 + 0.4 * (steps - 0.3) ** 2, "level": np.full(60, 0.5)}[
        course
    ]
    training, accuracy = 0.9 - 0.5 * steps, np.full(60, 0.9)
    above, below = (evidence._fit(training - shift, validation - shift, accuracy) for shift in (0, 1.4))
    assert above.verdict == below.verdict == {"falls": "improves", "rises": "overfits", "level": "level"}[course]
    slight = np.where(steps < 0.5, -0.5, -0.4999)  # 0.02 % of it
    assert evidence._fit(training, slight, accuracy).verdict == "level"


@pytest.mark.parametrize(("values", "seeds"), [(2, 2), (7, 2), (3, 3), (7, 3), (7, 5)])
def test_times_that_only_waver_are_not_told_apart(values, seeds):
    """With two seeds and seven values four of five sweeps named a quickest one."""
    random = np.random.default_rng(values)
    slower = cheaper = 0
    for _ in range(300):
        measures = {
            "val_accuracy": list(0.9 + 0.005 * random.normal(size=(values, seeds))),
            "seconds_per_epoch": list(np.exp(0.1 * random.normal(size=(values, seeds)))),
        }
        sweep = Sweep("units", list(range(values)), measures, 10, "start", parameters=[10.0] * values, images=10_000)
        slower += evidence.quickest_and_slowest(sweep) is not None
        cheaper += bool(evidence.cheaper_ties(sweep, evidence.compared(sweep)))
    assert slower <= 0.05 * 300 + 3 * math.sqrt(300 * 0.05 * 0.95)
    assert cheaper <= 0.05 * 300
    measures["seconds_per_epoch"] = [np.full(seeds, 1.0) + 0.01 * random.normal(size=seeds) for _ in range(values)]
    measures["seconds_per_epoch"][0] *= 3
    assert evidence.quickest_and_slowest(sweep)[1] == 0


def test_times_of_one_seed_are_not_told_apart():
    measures = {"val_accuracy": [np.array([0.9])] * 2, "seconds_per_epoch": [np.array([1.0]), np.array([2.0])]}
    assert evidence.quickest_and_slowest(Sweep("units", [1, 2], measures, 10, "start", images=100)) is None
