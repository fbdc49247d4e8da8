"""Which search finds the better network, simulated on the tables of ``benchmarks/table.py``; nothing is trained.

    python benchmarks/regret.py [single] [hidden] [multiclass] [--seeds 100] [--sides "random search;..."] [--plot FILE] [--rules]

Every side is its own library's code. A proposal is answered by the nearest configuration of the table, with one of its
seeds. Regret is the best mean test accuracy of the table's configurations less that of the configuration with the best
validation accuracy so far, trained alone to the end: what a user is handed. ``--rules`` compares what ours may rank by.
"""

from __future__ import annotations

import argparse
import itertools
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # else `import search` would find benchmarks/search.py

from benchmarks import table as tables
from benchmarks.figures import ROOT, made_with

BUDGET = 276  # epochs: four Hyperbands of R = 9
TENTHS = np.arange(1, 11) / 10
FINALISTS = 4
TRAININGS = 2  # of each, with the seed that the search has not used and with the one that it has
CHANCE = 0.1  # the accuracy of a network that diverged
EXERCISES = ("single", "hidden", "multiclass")
ONE_WAY = (tables.R,)  # the milestones of a training that nothing pauses


class Table:
    """An exercise's table.

    Attributes:
        space: its hyper-parameters, as ``benchmarks/search.py`` describes them.
        tested: (n,) mean test accuracy of each configuration, trained to the end without a pause.
    """

    def __init__(self, exercise: str) -> None:
        from benchmarks.search import describe_space

        content = tables.read(ROOT / "benchmarks" / "tables" / f"{exercise}.json.gz")
        self.space = describe_space(exercise)
        rows: dict[tuple[int, tuple[int, ...]], list[dict[str, Any]]] = {}
        for row in content["trainings"]:
            rows.setdefault((row["configuration"], tuple(row["milestones"])), []).append(row)
        complete = [i for i, _ in enumerate(content["configurations"]) if (i, ONE_WAY) in rows]
        self.configurations = [content["configurations"][i] for i in complete]
        self._rows = [{way: rows.get((i, way), rows[i, ONE_WAY]) for way in tables.PAUSES} for i in complete]
        self._points = np.array([self._point(values) for values in self.configurations])
        self.tested = np.array(
            [np.mean([row["test_accuracy"] or CHANCE for row in ways[ONE_WAY]]) for ways in self._rows]
        )
        self.parameters = [ways[ONE_WAY][0]["parameters"] for ways in self._rows]

    def _point(self, values: dict[str, Any]) -> list[float]:
        """A number for each hyper-parameter: in 0..1 of a range, the position of a choice, NaN where it is not active."""
        point = []
        for hp in self.space:
            value = values.get(hp["name"])
            if value is None:
                point.append(np.nan)
            elif "values" in hp:
                point.append(2.0 * hp["values"].index(value))  # two choices are at least as far apart as a range's ends
            else:
                scale = np.log if hp["log"] else float
                low, high = scale(hp["low"]), scale(hp["high"])
                point.append(float((scale(value) - low) / (high - low)))
        return point

    def nearest(self, values: dict[str, Any]) -> int:
        """The configuration with the smallest sum of differences, each at most 1."""
        apart = np.minimum(1, np.abs(self._points - np.array(self._point(values))))
        inactive = np.isnan(self._points), np.isnan(self._point(values))
        apart[np.isnan(apart)] = 1
        apart[inactive[0] & inactive[1]] = 0
        return int(apart.sum(axis=1).argmin())

    def row(self, index: int, milestones: Sequence[int], draw: int) -> dict[str, Any]:
        """One of the configuration's trainings."""
        rows = self._rows[index][tuple(milestones)]
        return rows[draw % len(rows)]


@dataclass
class Log:
    """What a simulated search has trained, in its order."""

    table: Table
    rule: Callable[[dict[str, Any]], np.ndarray]
    steps: list[tuple[int, int, float, float, int]] = field(default_factory=list)

    def train(self, values: dict[str, Any], milestones: Sequence[int], begin: int, end: int, draw: int) -> list[float]:
        """The scores after each epoch from the very first to ``end``; counts those from ``begin``."""
        index = self.table.nearest(values)
        row = self.table.row(index, milestones, draw)
        scores = self.rule(row)[:end]
        second = float(np.median([s for s in row["seconds"] if s is not None] or [0.0]))
        best = float(np.nanmax(scores)) if np.isfinite(scores).any() else -np.inf
        self.steps.append((index, end - begin, second * (end - begin), best, draw))
        return [float(score) for score in scores]

    @property
    def epochs(self) -> int:
        return sum(step[1] for step in self.steps)


def filled(values: Sequence[float | None]) -> np.ndarray:
    """(R,) with NaN for what a training that diverged does not have."""
    known = [np.nan if value is None else value for value in values]
    return np.array(known + [np.nan] * (tables.R - len(known)))


def accuracy(row: dict[str, Any]) -> np.ndarray:
    return filled(row["val_accuracy"])


def loss(row: dict[str, Any]) -> np.ndarray:
    return -filled(row["val_loss"])


def accuracy_then_loss(row: dict[str, Any]) -> np.ndarray:
    return accuracy(row) - 1e-6 * np.minimum(filled(row["val_loss"]), 10)


def mean_of_three(row: dict[str, Any]) -> np.ndarray:
    values = accuracy(row)
    return np.array([values[max(0, i - 2) : i + 1].mean() for i in range(len(values))])


RULES = {
    "accuracy": accuracy,
    "loss": loss,
    "accuracy, loss between equals": accuracy_then_loss,
    "mean accuracy of three epochs": mean_of_three,
}

# The sides. Each trains until its budget is spent.


class Lookup:
    """Workers that answer from the table."""

    size, ahead = 1, 0

    def __init__(self, log: Log) -> None:
        self._log = log

    def submit(self, job: Any) -> Future[Any]:
        from search.workers.trial import Outcome

        scores = self._log.train(job.hyperparameters, job.milestones, job.initial_epoch, job.epochs, sum(job.seed))
        future: Future[Any] = Future()
        future.set_result(Outcome(True, {"val_accuracy": scores}, seconds=0.0))
        return future

    def close(self) -> None:
        """Nothing to stop."""


def ours(log: Log, exercise: str, seed: int, given: bool = False, learning: bool = False) -> None:
    """Our Hyperband; ``given`` with the configurations that the exercise names, ``learning`` with TPE's proposals."""
    from keras_tuner import Objective

    from search import study
    from search.lab import exercise as exercises
    from search.oracles.hyperband import HyperbandOracle

    kind: Any = with_tpe(HyperbandOracle, log.table.space) if learning else HyperbandOracle
    oracle = kind(
        objective=Objective("val_accuracy", "max"),
        max_epochs=tables.R,
        seed=seed,
        hyperparameters=space(exercise),
        hyperband_iterations=BUDGET,
        max_consecutive_failed_trials=BUDGET,
    )
    if given:
        lab = exercises.load(ROOT / f"search_{exercise}.py")
        oracle.first = [dict(values) for values in (lab.start, *lab.first)]
    with tempfile.TemporaryDirectory() as folder:
        study.search(oracle, Lookup(log), Path(folder), seed, go_on=lambda: log.epochs < BUDGET)


def with_tpe(oracle: Any, space: list[dict[str, Any]]) -> Any:
    """Hyperband whose first rungs are proposed by Optuna's TPE.

    TPE knows the trials that ended at the longest epochs that enough of them reached, as BOHB has it (Falkner et al., ICML
    2018); a third of the proposals stay random, and all of them until then.
    """
    from optuna import create_study, distributions, logging, samplers, trial

    logging.set_verbosity(logging.ERROR)
    kinds = {"Int": distributions.IntDistribution, "Float": distributions.FloatDistribution}
    domains = {
        hp["name"]: distributions.CategoricalDistribution(hp["values"])
        if "values" in hp
        else kinds[hp["kind"]](hp["low"], hp["high"], log=hp["log"])
        for hp in space
    }

    class Learning(oracle):  # type: ignore[misc]
        def _random_values(self) -> dict[str, Any] | None:
            ended = [one for one in self.trials.values() if one.status == "COMPLETED"]
            by_epochs = {epochs: [one for one in ended if one.hyperparameters.values["tuner/epochs"] == epochs]
                         for epochs in sorted({one.hyperparameters.values["tuner/epochs"] for one in ended})}  # fmt: skip
            enough = [known for known in by_epochs.values() if len(known) >= 2 * len(space)]
            if self.first or not enough or len(self.start_order) % 3 == 0:
                return super()._random_values()  # type: ignore[no-any-return]
            sampler = samplers.TPESampler(seed=hash((self.seed, len(self.start_order))) % 2**31, n_startup_trials=0)
            study = create_study(direction="maximize", sampler=sampler)
            for one in enough[-1]:
                values = one.hyperparameters.values
                names = [hp["name"] for hp in space if hp["name"] in values]
                study.add_trial(
                    trial.create_trial(
                        params={name: values[name] for name in names},
                        distributions={name: domains[name] for name in names},
                        value=one.score,
                    )
                )
            asked, proposed = study.ask(), {}
            for hp in space:
                if all(proposed.get(parent) in allowed for parent, allowed in hp["when"]):
                    proposed[hp["name"]] = suggest(asked, hp)
            values = self._filled(proposed)
            return super()._random_values() if self._duplicate(values) else values

    return Learning


def stock(log: Log, exercise: str, seed: int, kind: str = "HyperbandOracle") -> None:
    """KerasTuner's oracles."""
    import keras_tuner

    more = (
        {"max_epochs": tables.R, "hyperband_iterations": BUDGET} if kind.startswith("Hyper") else {"max_trials": BUDGET}
    )
    oracle = getattr(keras_tuner.oracles, kind)(
        objective=keras_tuner.Objective("val_accuracy", "max"),
        seed=seed + 1,  # 0 draws one there
        hyperparameters=space(exercise),
        max_consecutive_failed_trials=BUDGET,
        **more,
    )
    oracle.verbose = 0
    draws: dict[str, int] = {}
    with tempfile.TemporaryDirectory() as folder:
        oracle._set_project_dir(folder, "search")
        while log.epochs < BUDGET:
            trial = oracle.create_trial("one")
            if trial.status != "RUNNING":
                break
            values = trial.hyperparameters.values
            draw = draws[trial.trial_id] = draws.get(values.get("tuner/trial_id", ""), seed + len(draws))
            ends = values.get("tuner/epochs", tables.R)
            pauses = tables.PAUSES[2 - values["tuner/bracket"]] if "tuner/bracket" in values else ONE_WAY
            begin = values.get("tuner/initial_epoch", 0)
            for epoch, score in enumerate(log.train(values, pauses, begin, ends, draw)):
                oracle.update_trial(trial.trial_id, {"val_accuracy": score}, step=epoch)
            trial.status = "COMPLETED"
            oracle.end_trial(trial)


def optuna(log: Log, exercise: str, seed: int) -> None:
    """Optuna's TPE with its Hyperband pruner."""
    from optuna import create_study, exceptions, logging
    from optuna.pruners import HyperbandPruner
    from optuna.samplers import TPESampler
    from optuna.trial import TrialState

    logging.set_verbosity(logging.ERROR)
    pruner = HyperbandPruner(min_resource=1, max_resource=tables.R, reduction_factor=3)
    study = create_study(study_name=str(seed), direction="maximize", sampler=TPESampler(seed=seed), pruner=pruner)
    while log.epochs < BUDGET:
        trial = study.ask()
        values: dict[str, Any] = {}
        for hp in log.table.space:
            if all(values.get(parent) in allowed for parent, allowed in hp["when"]):
                values[hp["name"]] = suggest(trial, hp)
        epoch, best = 0, -np.inf
        while epoch < tables.R:
            score = log.train(values, ONE_WAY, epoch, epoch + 1, seed + trial.number)[-1]
            best, epoch = max(best, score), epoch + 1
            trial.report(score, epoch)
            if trial.should_prune():
                break
        try:
            study.tell(trial, best, TrialState.PRUNED if epoch < tables.R else TrialState.COMPLETE)
        except (ValueError, exceptions.OptunaError):  # never a number
            study.tell(trial, state=TrialState.FAIL)


def suggest(trial: Any, hp: dict[str, Any]) -> Any:
    if "values" in hp:
        return trial.suggest_categorical(hp["name"], hp["values"])
    return (trial.suggest_int if hp["kind"] == "Int" else trial.suggest_float)(
        hp["name"], hp["low"], hp["high"], log=hp["log"]
    )


SIDES: dict[str, Callable[[Log, str, int], None]] = {
    "random search": lambda log, exercise, seed: stock(log, exercise, seed, "RandomSearchOracle"),
    "KerasTuner's Hyperband": stock,
    "KerasTuner's Bayesian": lambda log, exercise, seed: stock(log, exercise, seed, "BayesianOptimizationOracle"),
    "Optuna's TPE, Hyperband pruner": optuna,
    "ours, Hyperband": ours,
    "ours, Hyperband with TPE": lambda log, exercise, seed: ours(log, exercise, seed, learning=True),
    "ours, as the lab has it": lambda log, exercise, seed: ours(log, exercise, seed, given=True),
}
SLOW = {"KerasTuner's Bayesian"}  # fits its own Gaussian processes: a fifth of the seeds


def space(exercise: str) -> Any:
    from search.lab import exercise as exercises
    from search.oracles.space import search_space

    if exercise not in _spaces:
        _spaces[exercise] = search_space(exercises.load(ROOT / f"search_{exercise}.py").hypermodel())
    return _spaces[exercise].copy()


_spaces: dict[str, Any] = {}
_tables: dict[str, Table] = {}


def simulate(asked: tuple[str, str, str, int]) -> dict[str, list[float]]:
    """One search: the regret at each tenth of the budget, in epochs and in seconds, and after finalists."""
    import search.workers.runtime  # noqa: F401

    exercise, side, rule, seed = asked
    if exercise not in _tables:
        _tables[exercise] = Table(exercise)
    table = _tables[exercise]
    log = Log(table, RULES[rule])
    SIDES[side](log, exercise, seed)
    best = table.tested.max()
    regrets: dict[str, list[float]] = {}
    for unit, column, whole in (("epochs", 1, BUDGET), ("seconds", 2, seconds_of_budget(table))):
        spent = np.cumsum([step[column] for step in log.steps])
        regrets[unit] = [
            100 * (best - table.tested[handed_over(log, int(np.sum(spent <= tenth * whole)))]) for tenth in TENTHS
        ]
    if side.startswith("ours"):
        spent = np.cumsum([step[1] for step in log.steps])
        left = TENTHS * BUDGET - FINALISTS * TRAININGS * tables.R
        regrets["epochs, with finalists"] = [
            100 * (best - table.tested[with_finalists(log, int(np.sum(spent <= epochs)))]) if epochs > 0 else np.nan
            for epochs in left
        ]
    return regrets


def handed_over(log: Log, steps: int) -> int:
    """The configuration with the best score of the first so many steps; before the first the first that is tried."""
    return max(log.steps[: max(1, steps)], key=lambda step: step[3])[0]


def with_finalists(log: Log, steps: int) -> int:
    """The best of the best few configurations by the lab's rule, after a training with each seed of the table."""
    from search.lab.finalists import winner

    ranked = sorted(log.steps[: max(1, steps)], key=lambda step: -step[3])
    finalists = list(dict.fromkeys(step[0] for step in ranked))[:FINALISTS]
    used = {step[0]: step[4] for step in ranked}
    scores = [
        [log.rule(log.table.row(index, ONE_WAY, used[index] + 1 + k))[-1] for k in range(TRAININGS)]
        for index in finalists
    ]
    try:
        return finalists[winner(scores, [log.table.parameters[index] for index in finalists])[0]]
    except ValueError:
        return finalists[0]


def seconds_of_budget(table: Table) -> float:
    """What so many epochs of the table's configurations take on average."""
    seconds = [s for ways in table._rows for row in ways[ONE_WAY] for s in row["seconds"][1:] if s is not None]
    return BUDGET * float(np.mean(seconds))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("exercises", nargs="*", metavar="EXERCISE", help=f"some of {', '.join(EXERCISES)} (all)")
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--sides", help="some sides, with semicolons (all)")
    parser.add_argument("--rules", action="store_true", help="ours, with each rule to rank by")
    parser.add_argument("--plot", type=Path, help="where to draw regret against epochs and seconds")
    flags = parser.parse_args()
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    chosen = flags.sides.split(";") if flags.sides else list(SIDES)
    if unknown := set(chosen) - set(SIDES):
        parser.error(f"--sides {';'.join(sorted(unknown))}: expected some of {';'.join(SIDES)}")
    found: dict[str, dict[str, dict[str, np.ndarray]]] = {}
    pairs = [("ours, Hyperband", rule) for rule in RULES] if flags.rules else [(side, "accuracy") for side in chosen]
    with ProcessPoolExecutor(os.cpu_count(), get_context("spawn")) as pool:
        for exercise, (side, rule) in itertools.product(flags.exercises or EXERCISES, pairs):
            seeds = flags.seeds // 5 if side in SLOW else flags.seeds
            results = list(pool.map(simulate, [(exercise, side, rule, seed) for seed in range(seeds)], chunksize=5))
            of_side = {unit: np.array([result[unit] for result in results]) for unit in results[0]}
            found.setdefault(exercise, {})[rule if flags.rules else side] = of_side
            for line in rows(exercise, rule if flags.rules else side, of_side):
                print(line, flush=True)
    if flags.plot:
        draw(found, flags.plot)
    made_with(flags.seeds)


def rows(exercise: str, side: str, of_side: dict[str, np.ndarray]) -> Iterator[str]:
    """A line for each unit: mean regret and half of its 95 % interval at a tenth, a half and the whole of the budget."""
    for unit, values in of_side.items():
        error = half_of_interval(values)
        cells = [f"{values[:, i].mean():.3f} +- {error[i]:.3f}" for i in (0, 1, 4, 9)]
        yield f"| {exercise} | {side} | {unit} | {' | '.join(cells)} | {len(values)} |"


def half_of_interval(values: np.ndarray) -> np.ndarray:
    """Half of the 95 % interval of the means over searches (s, n), by Student's quantile: five searches are few."""
    from scipy import stats

    return np.asarray(stats.t.ppf(0.975, len(values) - 1) * values.std(axis=0, ddof=1) / np.sqrt(len(values)))


def draw(found: dict[str, dict[str, dict[str, np.ndarray]]], path: Path) -> None:
    """Regret against the tenths of the budget, an exercise a column; epochs above, seconds below."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, len(found), figsize=(4.2 * len(found), 7), squeeze=False, sharex=True)
    for column, (exercise, sides) in zip(axes.T, found.items(), strict=True):
        for axis, unit in zip(column, ("epochs", "seconds"), strict=True):
            for side, values in sides.items():
                mean = values[unit].mean(axis=0)
                error = half_of_interval(values[unit])
                (line,) = axis.plot(100 * TENTHS, mean, label=side, linewidth=2.5 if side.startswith("ours") else 1.2)
                axis.fill_between(100 * TENTHS, mean - error, mean + error, color=line.get_color(), alpha=0.12)
            axis.set_yscale("log")
            axis.set_title(f"{exercise}, by {unit}")
            axis.set_ylabel("regret, points of test accuracy")
        column[-1].set_xlabel("% of the budget")
    axes[0, 0].legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
