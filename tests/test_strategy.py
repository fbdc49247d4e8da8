"""The oracles: the paper's Hyperband, decided by the seed alone, and nothing lost to a small space or a failed trial."""

import itertools
import random

import keras_tuner
import pytest

from search.oracles import grid_search, hyperband, random_search
from search.oracles.space import own_values

ACCURACY = keras_tuner.Objective("val_accuracy", "max")


def space(*names):
    hp = keras_tuner.HyperParameters()
    for name in names or ("a", "b", "c"):
        hp.Float(name, 0.0, 1.0)
    return hp


def searched_by(folder, seed=1, max_epochs=27, hyperparameters=None):
    oracle = hyperband.HyperbandOracle(
        objective=ACCURACY,
        max_epochs=max_epochs,
        seed=seed,
        hyperparameters=hyperparameters or space(),
        max_consecutive_failed_trials=None,
    )
    oracle._set_project_dir(str(folder), "search")
    return oracle


def end(oracle, trial, score=None):
    if score is None:
        trial.status, trial.message = "FAILED", "it broke"
    else:
        oracle.update_trial(trial.trial_id, {"val_accuracy": score})
        trial.status = "COMPLETED"
    oracle.end_trial(trial)


def score_of(trial):
    """A trial's worth, a function of its configuration alone."""
    values = {name: value for name, value in trial.hyperparameters.values.items() if not name.startswith("tuner/")}
    return random.Random(str(sorted(values.items()))).random()


def run(oracle, workers=1, luck=None, fails=lambda trial: False):
    """Runs a whole search with so many workers, which finish in an order that ``luck`` decides."""
    running = []
    while True:
        for slot in range(workers):
            if f"w{slot}" not in oracle.ongoing_trials:
                trial = oracle.create_trial(f"w{slot}")
                if trial.status != "RUNNING":
                    break
                running.append(trial)
        if not running:
            return oracle
        trial = running.pop(luck.randrange(len(running)) if luck else 0)
        end(oracle, trial, None if fails(trial) else score_of(trial))


def record(oracle):
    return {name: trial.hyperparameters.values for name, trial in sorted(oracle.trials.items())}


def test_rungs_are_those_of_algorithm_1_for_81_epochs(tmp_path):
    """n_i and r_i of Li et al., JMLR 18 (2018), Algorithm 1 with R = 81 and eta = 3; s = 4, 3, ... 0."""
    rungs = searched_by(tmp_path, max_epochs=81).rungs
    table = {
        4: [(81, 1), (27, 3), (9, 9), (3, 27), (1, 81)],
        3: [(34, 3), (11, 9), (3, 27), (1, 81)],
        2: [(15, 9), (5, 27), (1, 81)],
        1: [(8, 27), (2, 81)],
        0: [(5, 81)],
    }
    assert {s: [(rung.trials, rung.epochs) for rung in rungs if rung.bracket == s] for s in range(5)} == table


def test_kerastuner_rounds_rungs_up_where_the_paper_rounds_down(tmp_path):
    stock = keras_tuner.oracles.HyperbandOracle(objective=ACCURACY, max_epochs=81, factor=3, seed=1)
    assert [stock._get_size(3, i) for i in range(4)] == [34, 12, 4, 2]
    assert [searched_by(tmp_path, max_epochs=81)._get_size(3, i) for i in range(4)] == [34, 11, 3, 1]


@pytest.mark.parametrize(
    "max_epochs", [1, 2, 3, 5, 9, 10, 27, *(pytest.param(epochs, marks=pytest.mark.long) for epochs in (81, 100))]
)
def test_every_rung_of_the_plan_is_run(tmp_path, max_epochs):
    oracle = run(searched_by(tmp_path, max_epochs=max_epochs))
    for rung in oracle.rungs:
        there = [
            trial
            for trial in oracle.trials.values()
            if trial.hyperparameters.values["tuner/bracket"] == rung.bracket
            and trial.hyperparameters.values["tuner/round"] == rung.round
        ]
        assert len(there) == rung.trials
        assert {trial.hyperparameters.values["tuner/epochs"] for trial in there} <= {rung.epochs}
    assert max(rung.epochs for rung in oracle.rungs) == max_epochs


def test_the_first_rung_draws_what_stock_kerastuner_draws(tmp_path):
    stock = keras_tuner.oracles.HyperbandOracle(
        objective=ACCURACY, max_epochs=27, factor=3, seed=1, hyperparameters=space()
    )
    stock.verbose = 0
    stock._set_project_dir(str(tmp_path / "stock"), "search")
    ours = searched_by(tmp_path / "ours")
    for i in range(27):
        drawn = [oracle.create_trial(f"w{i}").hyperparameters.values for oracle in (ours, stock)]
        assert drawn[0] == drawn[1]


@pytest.mark.long
@pytest.mark.parametrize("kind", ["hyperband", "random"])
def test_what_is_run_does_not_depend_on_workers_or_on_who_finishes_first(tmp_path, kind):
    def make(name):
        if kind == "hyperband":
            return searched_by(tmp_path / name)
        oracle = random_search.RandomSearchOracle(
            objective=ACCURACY, max_trials=20, epochs=3, seed=1, hyperparameters=space()
        )
        oracle._set_project_dir(str(tmp_path / name), "search")
        return oracle

    alone = record(run(make("alone")))
    for workers, luck in itertools.product([2, 3, 8], range(3)):
        assert record(run(make(f"{workers}-{luck}"), workers, random.Random(luck))) == alone


def test_the_best_of_a_rung_are_promoted(tmp_path):
    oracle = run(searched_by(tmp_path), workers=2, luck=random.Random(0))
    for bracket in oracle._brackets:
        for below, above in itertools.pairwise(bracket["rounds"]):
            scores = sorted((oracle.trials[entry["id"]].score for entry in below), reverse=True)
            promoted = [oracle.trials[entry["past_id"]].score for entry in above]
            assert promoted == scores[: len(above)]


def test_failed_trials_leave_their_rung_and_the_bracket_goes_on(tmp_path):
    oracle = run(searched_by(tmp_path, max_epochs=9), fails=lambda trial: int(trial.trial_id) % 2 == 0)
    ended = {trial.status for trial in oracle.trials.values()}
    assert ended == {"COMPLETED", "FAILED"}
    promoted = [
        trial.hyperparameters.values["tuner/trial_id"]
        for trial in oracle.trials.values()
        if "tuner/trial_id" in trial.hyperparameters.values
    ]
    assert promoted
    assert all(oracle.trials[past].status == "COMPLETED" for past in promoted)


def test_stock_kerastuner_promotes_nobody_from_a_rung_with_many_failures(tmp_path):
    """What the test above guards against: stock waits for more completed trials than a rung throws out."""

    def fails(trial):
        return "tuner/trial_id" not in trial.hyperparameters.values and int(trial.trial_id) < 7

    def promoted(oracle):
        oracle.max_consecutive_failed_trials = None
        run(oracle, fails=fails)
        values = [trial.hyperparameters.values for trial in oracle.trials.values()]
        return [value for value in values if value["tuner/bracket"] == 2 and value["tuner/round"] > 0]

    stock = keras_tuner.oracles.HyperbandOracle(
        objective=ACCURACY, max_epochs=9, factor=3, seed=1, hyperparameters=space()
    )
    stock.verbose = 0
    stock._set_project_dir(str(tmp_path / "stock"), "search")
    assert promoted(stock) == []
    assert len(promoted(searched_by(tmp_path / "ours", max_epochs=9))) == 3


def test_a_search_where_everything_fails_ends(tmp_path):
    oracle = run(searched_by(tmp_path, max_epochs=9), fails=lambda trial: True)
    assert len(oracle.trials) == sum(rung.trials for rung in oracle.rungs if rung.round == 0)


def test_a_small_space_ends_when_every_configuration_has_been_tried(tmp_path):
    hp = keras_tuner.HyperParameters()
    layers = hp.Int("layers", 1, 2)
    with hp.conditional_scope("layers", [2]):
        hp.Choice("second", ["x", "y"])
    hp.Boolean("flag")
    assert layers == 1
    oracle = random_search.RandomSearchOracle(objective=ACCURACY, max_trials=100, epochs=1, seed=0, hyperparameters=hp)
    oracle._set_project_dir(str(tmp_path), "search")
    run(oracle)
    tried = [tuple(sorted(trial.hyperparameters.values.items())) for trial in oracle.trials.values()]
    assert len(tried) == len(set(tried)) == 6  # layers 1, or layers 2 with x or y; each with and without the flag
    assert oracle.exhausted


def test_stock_kerastuner_ends_a_small_space_early(tmp_path):
    """What the test above guards against: 20 collisions in a row end the search with configurations untried."""
    ended = []
    for seed in range(1, 30):
        hp = keras_tuner.HyperParameters()
        hp.Int("n", 1, 24)
        oracle = keras_tuner.oracles.RandomSearchOracle(
            objective=ACCURACY, max_trials=100, seed=seed, hyperparameters=hp
        )
        oracle.verbose = 0
        oracle._set_project_dir(str(tmp_path / str(seed)), "search")
        ended.append(len(run(oracle).trials))
    assert min(ended) < 24


def test_a_small_space_is_shared_out_among_hyperband_brackets(tmp_path):
    hp = keras_tuner.HyperParameters()
    hp.Choice("one", [1, 2, 3, 4, 5])
    oracle = run(searched_by(tmp_path, max_epochs=9, hyperparameters=hp))
    assert oracle.exhausted
    first = [trial for trial in oracle.trials.values() if trial.hyperparameters.values["tuner/round"] == 0]
    assert sorted(trial.hyperparameters.values["one"] for trial in first) == [1, 2, 3, 4, 5]
    assert max(trial.hyperparameters.values["tuner/epochs"] for trial in oracle.trials.values()) == 9


def test_seed_zero_is_a_seed(tmp_path):
    assert record(run(searched_by(tmp_path / "a", seed=0))) == record(run(searched_by(tmp_path / "b", seed=0)))
    assert record(run(searched_by(tmp_path / "c", seed=0))) != record(run(searched_by(tmp_path / "d", seed=1)))


@pytest.mark.parametrize("workers", [1, 3])
def test_what_is_known_to_serve_is_tried_first_once_and_with_the_defaults_of_the_rest(tmp_path, workers):
    hp = keras_tuner.HyperParameters()
    hp.Choice("family", ["plain", "deep"])
    hp.Float("rate", 0.0, 1.0, default=0.25)
    with hp.conditional_scope("family", ["deep"]):
        hp.Int("layers", 2, 5, default=3)
    known = [{"family": "deep", "rate": 0.5}, {"family": "plain"}, {"rate": 0.5, "family": "deep", "layers": 3}]
    expected = [{"family": "deep", "rate": 0.5, "layers": 3}, {"family": "plain", "rate": 0.25}]
    for oracle in (
        searched_by(tmp_path / "hyperband", hyperparameters=hp, max_epochs=9),
        random_search.RandomSearchOracle(objective=ACCURACY, seed=1, hyperparameters=hp, max_trials=5),
    ):
        oracle._set_project_dir(str(tmp_path / type(oracle).__name__), "search")
        oracle.first = [*known]
        run(oracle, workers)
        tried = [own_values(oracle.trials[name].hyperparameters.values) for name in sorted(oracle.trials)]
        assert tried[:2] == expected
        assert tried[2] not in expected


def grid(folder):
    oracle = grid_search.GridSearchOracle(
        objective=ACCURACY, hyperparameters=keras_tuner.HyperParameters(), max_consecutive_failed_trials=None
    )
    oracle._set_project_dir(str(folder), "search")
    oracle.hyperparameters.Boolean("first")
    return oracle


def declare_in_fit(hp):
    """A space that a trial alone declares, with what hangs on another's value: 2 x (2 + 2) combinations."""
    second = hp.Boolean("second")
    with hp.conditional_scope("second", [True]):
        if second:
            hp.Choice("third", [1, 2])
    with hp.conditional_scope("second", [False]):
        if not second:
            hp.Choice("fourth", [3, 4])


def run_grid(oracle, workers, luck):
    running = []
    while True:
        for slot in range(workers):
            if f"w{slot}" not in oracle.ongoing_trials:
                trial = oracle.create_trial(f"w{slot}")
                if trial.status != "RUNNING":
                    break
                running.append(trial)
        if not running:
            return oracle
        trial = running.pop(luck.randrange(len(running)))
        declare_in_fit(trial.hyperparameters)
        end(oracle, trial, score_of(trial))


def test_a_grid_holds_what_trials_declare_each_combination_once_whatever_the_workers(tmp_path):
    expected = record(run_grid(grid(tmp_path / "one"), 1, random.Random(0)))
    combinations = [tuple(sorted(values.items())) for values in expected.values()]
    assert len(combinations) == len(set(combinations)) == 2 * (2 + 2)
    for attempt in range(20):
        oracle = run_grid(grid(tmp_path / f"{attempt}"), 1 + attempt % 4, random.Random(attempt))
        assert record(oracle) == expected
