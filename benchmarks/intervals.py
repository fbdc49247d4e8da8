"""How often the report's intervals hold the truth and its comparisons claim a difference that is not there, simulated.

    python benchmarks/intervals.py [accuracies] [sweeps] [ablations] [--quick]

No time. Two models' networks of images that differ in difficulty; sweeps and paths of configurations that do not differ.
``docs/statistics.md`` has the figures.
"""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import stats

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # else `import search` would find benchmarks/search.py

from benchmarks.figures import made_with
from search.report import estimators

WHAT = ("accuracies", "sweeps", "ablations")
IMAGES = 4000
DIFFICULTY = 1.5  # standard deviation of an image's logit
SKILLS = {"start": 3.9, "tuned": 4.2}  # mean logits
OF_SEEDS = (0.0, 0.1, 0.3, 0.6)  # standard deviation of a network's logit
UNSTEADY = 4.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", metavar="WHAT", help=f"some of {', '.join(WHAT)}; all by default")
    parser.add_argument("--quick", action="store_true", help="a hundredth of the simulations")
    flags = parser.parse_args()
    if unknown := set(flags.what) - set(WHAT):
        parser.error(f"{', '.join(sorted(unknown))}: expected some of {', '.join(WHAT)}")
    part = 100 if flags.quick else 1
    what = flags.what or WHAT
    if "accuracies" in what:
        accuracies(600 // part)
    if "sweeps" in what:
        for values, seeds in ((2, 3), (4, 3), (7, 3), (7, 5)):
            claims("sweep", values, seeds, 6000 // part)
        for seeds in (3, 5):
            claims("sweep", 7, seeds, 4000 // part, UNSTEADY)
    if "ablations" in what:
        for steps in (1, 3, 5, 8):
            claims("path", steps + 1, 3, 4000 // part)
            claims("path", steps + 1, 3, 4000 // part, UNSTEADY)
    made_with("as each line says")


def accuracies(repetitions: int) -> None:
    """How many of the 95 % intervals hold the true accuracy, and the true difference of two models."""
    print("networks a model, their logits' deviation: % held, of the accuracy and of the difference; percentiles alone")
    for seeds in (2, 3, 5):
        for deviation in OF_SEEDS:
            held = np.mean([_held(seeds, deviation, i) for i in range(repetitions)], axis=0) * 100
            print(
                f"{seeds} {deviation:4.1f}: {held[0]:5.1f} {held[1]:5.1f}; {held[2]:5.1f} {held[3]:5.1f}"
                f"   n = {repetitions}",
                flush=True,
            )


def _held(seeds: int, deviation: float, repetition: int) -> tuple[bool, ...]:
    """Whether the report's intervals of the accuracy and the difference hold the truth, and whether percentiles do."""
    random = np.random.default_rng((seeds, repetition))
    hard = DIFFICULTY * random.normal(size=(1, IMAGES))
    right = {
        name: hard + skill + deviation * random.normal(size=(seeds, 1)) + random.normal(size=(seeds, IMAGES)) > 0
        for name, skill in SKILLS.items()
    }
    scale = math.sqrt(1 + DIFFICULTY**2 + deviation**2)
    truth = {name: float(stats.norm.cdf(skill / scale)) for name, skill in SKILLS.items()}
    intervals, difference = estimators.accuracy_intervals(right)
    assert difference is not None
    draws = estimators.crossed_bootstrap(right)

    def holds(values: NDArray[np.float64], true: float) -> bool:
        low, high = np.quantile(values, [0.025, 0.975])
        return bool(low <= true <= high)

    gain = truth["tuned"] - truth["start"]
    return (
        intervals["tuned"].low <= truth["tuned"] <= intervals["tuned"].high,
        difference.low <= gain <= difference.high,
        holds(draws["tuned"], truth["tuned"]),
        holds(draws["tuned"] - draws["start"], gain),
    )


def claims(kind: str, values: int, seeds: int, repetitions: int, unsteady: float = 1.0) -> None:
    """How many sweeps, or paths of an ablation, claim a difference between configurations that have none."""
    random = np.random.default_rng((values, seeds, int(unsteady)))
    spread = np.ones((values, 1))
    spread[-1] = unsteady
    wrong = 0
    for _ in range(repetitions):
        scores = 2 * random.normal(size=(1, seeds)) + spread * random.normal(size=(values, seeds))
        if kind == "sweep":
            wrong += bool(estimators.compare_blocks(scores).worse)
        else:
            steps = [step for step in estimators.successive_differences(scores) if step is not None]
            wrong += any(step.low > 0 or step.high < 0 for step in steps)
    varied = f", one varies {unsteady:.0f} times as much" if unsteady > 1 else ""
    print(
        f"{kind} of {values} values, {seeds} seeds{varied}: {100 * wrong / repetitions:.1f} %   n = {repetitions}",
        flush=True,
    )


if __name__ == "__main__":
    main()
