"""Wilson's interval and McNemar's test against definitions and published figures."""

import math

import pytest

from search.report.estimators import Z_95, mcnemar_p_value, wilson_interval


@pytest.mark.parametrize(("correct", "n"), [(0, 10), (1, 10), (9921, 10_000), (10_000, 10_000), (5, 7)])
def test_wilson_ends_are_where_the_score_statistic_is_the_quantile(correct, n):
    """The interval is defined by |p - p0| = z sqrt(p0 (1 - p0) / n), solved for p0."""
    for end in wilson_interval(correct, n):
        distance = abs(correct / n - end)
        assert distance == pytest.approx(Z_95 * math.sqrt(end * (1 - end) / n), abs=1e-12)


def test_wilson_reproduces_a_published_interval():
    """Newcombe, Statistics in Medicine 17 (1998), table I, method 3: 81 of 263."""
    assert wilson_interval(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)


@pytest.mark.parametrize(
    ("first", "second", "p"),
    [(0, 0, 1.0), (5, 5, 1.0), (1, 0, 1.0), (10, 0, 2 / 2**10), (1, 9, 2 * 11 / 2**10), (9, 1, 2 * 11 / 2**10)],
)
def test_mcnemar_is_a_two_sided_sign_test(first, second, p):
    assert mcnemar_p_value(first, second) == pytest.approx(p)


def test_mcnemar_takes_large_counts():
    assert 0 < mcnemar_p_value(900, 700) < 1e-5
