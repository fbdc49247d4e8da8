"""The two statistics of a final evaluation: an accuracy's interval, and whether two models differ on the same images."""

from __future__ import annotations

import math

Z_95 = 1.959963984540054  # the standard normal's 97.5 % quantile


def wilson_interval(correct: int, n: int) -> tuple[float, float]:
    """The 95 % score interval of a proportion: Wilson, JASA 22 (1927); Brown, Cai and DasGupta (2001), equation 4.

    Args:
        correct: successes, 0 to n.
        n: trials, at least 1.
    """
    p, z2 = correct / n, Z_95**2
    centre = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = Z_95 / (1 + z2 / n) * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)


def mcnemar_p_value(only_first_right: int, only_second_right: int) -> float:
    """The exact two-sided McNemar test: how likely so uneven a split of the images that one model alone reads is by chance.

    McNemar, Psychometrika 12 (1947); exact form: a two-sided binomial test of the smaller count at p = 1/2.
    """
    n = only_first_right + only_second_right
    tail = sum(math.comb(n, k) for k in range(min(only_first_right, only_second_right) + 1))
    return min(1.0, float(2 * tail / 2**n))
