"""From the starting to the best model, one hyper-parameter a step: the path, the trainings, the figures, and what is said."""

import io
import json
import math
import shutil
from concurrent.futures import Future
from dataclasses import replace
from itertools import pairwise

import keras
import keras_tuner
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from scipy import stats

import search_hidden
import search_multiclass
import search_single
from search import HyperModel, files, results
from search.errors import WorkError
from search.lab import ablation, finalists, planning, retrain, sweep, verify
from search.lab.archive import FROM_AN_EXERCISE
from search.oracles import space as spaces
from search.report import console, estimators, evidence, page, plots, sentences
from search.results import Ablated, Ablation
from search.workers.in_process import InProcess
from search.workers.trial import Outcome, Problem
from tests.conftest import NEURON, run, write_exercise
from tests.test_report import fabricate, text_of

EXERCISES = (search_single.EXERCISE, search_hidden.EXERCISE, search_multiclass.EXERCISE)
SIZES = ("units", "family", "layers", "normalised", "filters", "kernel", "head", "units_1", "units_2", "units_3")


@pytest.fixture(scope="module")
def known():
    """By exercise its space."""
    return {exercise.name: spaces.search_space(exercise.hypermodel()) for exercise in EXERCISES}


def drawn(space, seed):
    """A configuration of the space at random, every active hyper-parameter with a value and no other."""
    values = {}
    for i, hp in enumerate(space.space):
        if hp.name not in values and all(condition.is_active(values) for condition in hp.conditions):
            values[hp.name] = hp.random_sample(seed * 100 + i)
    return values


def weights(values):
    """As many as nothing else has: the network's own hyper-parameters decide."""
    return hash(tuple(sorted((name, values[name]) for name in SIZES if name in values)))


def valid(space, values):
    hp = space.copy()
    hp.values = dict(values)
    active = {one.name for one in space.space if hp.is_active(one)}
    return set(values) == active and not spaces.misfit(space, values)


def test_the_time_that_is_told_for_the_whole_has_the_ablation_in_it(known):
    exercise, space = search_hidden.EXERCISE, known["hidden"]
    best = drawn(space, 1)
    rest = planning.Rest(finalists=0, finalist_seeds=0, sweep_epochs=7, most_values=3, epochs=100, seeds=2)
    told = rest.trainings(exercise, space, best, 9, weights)
    steps = ablation.steps_between(space, exercise.start, best, exercise.retuned, weights)
    path = ablation.along(space, exercise.start, best, steps)
    assert len(path) > 2
    assert all(told.count((values, 7)) >= 2 for values in path)


@pytest.mark.parametrize("exercise", EXERCISES, ids=lambda exercise: exercise.name)
@settings(max_examples=60, deadline=None)
@given(seeds=st.tuples(st.integers(0, 10_000), st.integers(0, 10_000)))
def test_every_configuration_on_the_way_is_one_of_the_space(known, exercise, seeds):
    space = known[exercise.name]
    start, best = (drawn(space, seed) for seed in seeds)
    steps = ablation.steps_between(space, start, best, exercise.retuned, weights)
    path = ablation.along(space, start, best, steps)
    assert (path[0], path[-1]) == (start, best)
    assert all(valid(space, values) for values in path)
    differ = {name for name in start.keys() & best.keys() if start[name] != best[name]}
    assert {name for step in steps for name in step} == differ
    for step, before, after in zip(steps, path, path[1:], strict=False):
        moved = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
        assert set(step) <= moved
        assert moved - set(step) <= before.keys() ^ after.keys()  # what came or went with it
        assert set(step) - {step[0]} <= {exercise.retuned.get(step[0])}
    changed = [weights(before) != weights(after) for before, after in pairwise(path)]
    assert changed == sorted(changed), "a step that leaves the number of weights comes after one that changes it"
    for changes in (True, False):
        names = [step[0] for step, one in zip(steps, changed, strict=True) if one == changes]
        order = list(dict.fromkeys(hp.name for hp in space.space))
        assert names == sorted(names, key=order.index)


def test_an_optimizer_is_not_compared_at_another_one_s_learning_rate(known):
    start = dict(search_single.START, schedule="constant")
    best = {"batch_size": 32, "schedule": "cosine", "optimizer": "adam", "learning_rate": 0.002}
    steps = ablation.steps_between(known["single"], start, best, {"optimizer": "learning_rate"}, weights)
    assert steps == [("schedule",), ("optimizer", "learning_rate")]
    same = {**best, "optimizer": "sgd"}
    steps = ablation.steps_between(known["single"], start, same, {"optimizer": "learning_rate"}, weights)
    assert steps == [("schedule",), ("learning_rate",)]


def test_what_depends_on_a_hyper_parameter_goes_with_it(known):
    space = known["multiclass"]
    start, best = (
        ablation.along(space, values, {}, ())[0] for values in (search_multiclass.START, search_multiclass.FIRST[0])
    )
    steps = ablation.steps_between(space, start, best, search_multiclass.EXERCISE.retuned, weights)
    assert steps[-1] == ("family",)
    assert len(steps) == 8
    before, after = ablation.along(space, start, best, steps)[-2:]
    assert before.keys() - after.keys() == {"pixel_dropout", "layers", "units_1"}
    assert after.keys() - before.keys() == {"filters", "kernel", "head"}


def test_equal_configurations_have_no_step_between_them(known):
    start = search_hidden.START
    completed = ablation.along(known["hidden"], start, {}, ())[0]
    assert completed == {**start, "schedule": "constant"}
    assert ablation.steps_between(known["hidden"], start, completed, {}, weights) == []


def crossing(*rates):
    """A space with ``rate`` where a is x and b is p, and with other values where a is y and b is q."""
    hp = keras_tuner.HyperParameters()
    hp.Choice("a", ["x", "y"])
    for a, b, values in zip("xy", "pq", rates, strict=True):
        with hp.conditional_scope("a", [a]):
            hp.Choice("b", ["p", "q"])
            with hp.conditional_scope("b", [b]):
                hp.Choice("rate", values)
            with hp.conditional_scope("b", ["q" if b == "p" else "p"]):
                hp.Choice("between", [7, 8], default=8)
    return hp


def test_conditions_that_cross_and_entries_of_one_name_leave_every_configuration_valid():
    hp = crossing([0.5, 1.0], [0.01, 0.02])
    start, best = {"a": "x", "b": "p", "rate": 0.5}, {"a": "y", "b": "q", "rate": 0.02}
    steps = ablation.steps_between(hp, start, best, {}, weights)
    assert steps == [("a",), ("b",)]
    assert ablation.along(hp, start, best, steps) == [start, {"a": "y", "b": "p", "between": 8}, best]


def test_what_is_not_active_when_its_turn_comes_moves_with_a_later_step():
    hp = crossing([0.5, 1.0], [0.5, 0.02])
    start, best = {"a": "x", "b": "p", "rate": 0.5}, {"a": "y", "b": "q", "rate": 0.02}
    assert ablation.steps_between(hp, start, best, {}, weights) == [("a",), ("b",), ("rate",)]
    steps = ablation.steps_between(hp, start, best, {}, lambda values: ord(values["b"]))
    assert steps == [("a",), ("b", "rate")]
    assert ablation.along(hp, start, best, steps) == [start, {"a": "y", "b": "p", "between": 8}, best]


def test_seeds_of_every_kind_of_training_are_apart():
    """A trial's seed is (seed, trial), of two numbers; all others are (seed, kind, k)."""
    kinds = [retrain.RETRAINING, sweep.SWEEPING, sweep.CHOOSING, finalists.FINALISTS, ablation.ABLATING]
    assert len(set(kinds)) == len(kinds)


class Told:
    """Workers that end each training at once, with the outcome that is told of its hyper-parameters and seed."""

    size, ahead = 1, 0

    def __init__(self, outcome):
        self.outcome, self.jobs = outcome, []

    def submit(self, job):
        self.jobs.append(job)
        future = Future()
        future.set_result(self.outcome(job))
        return future


PATH = [{"units": 8, "rate": 0.1}, {"units": 8, "rate": 0.2}, {"units": 16, "rate": 0.2}]
STEPS = [("rate",), ("units",)]


def ablated(workers, folder, seeds=2, watch=lambda *_: None, path=PATH, steps=STEPS):
    about = {"objective": "val_accuracy", "epochs": 3, "seed": 9, "xla_break_even": None}
    return ablation.ablate(steps, path, workers, folder, seeds=seeds, watch=watch, **about)


def scored(job):
    score = job.hyperparameters["units"] + job.hyperparameters["rate"] + job.seed[-1] / 100
    return Outcome(True, {"val_accuracy": [0.0, 0.0, score]}, 10 * job.hyperparameters["units"], 1.0, (0.1,) * 3)


def test_every_configuration_is_trained_with_the_same_seeds_and_scored_at_its_last_epoch(tmp_path):
    workers = Told(scored)
    content = ablated(workers, tmp_path)
    assert [job.seed for job in workers.jobs] == [(9, ablation.ABLATING, k) for k in (0, 1)] * 3
    assert [row["scores"] for row in content["path"]] == [[8.1, 8.11], [8.2, 8.209999999999999], [16.2, 16.21]]
    assert [row["parameters"] for row in content["path"]] == [80, 80, 160]
    assert len({job.state for job in workers.jobs}) == 6
    assert files.is_sealed(json.loads((tmp_path / "ablation.json").read_text()))


def failing(job):
    if job.hyperparameters == PATH[1] and job.seed[-1] == 1:
        return Outcome(False, message="loss is NaN after epoch 1")
    return scored(job)


def test_a_training_that_failed_has_no_score_and_its_reason(tmp_path):
    row = ablated(Told(failing), tmp_path)["path"][1]
    assert row["scores"] == [8.2, None]
    assert row["message"] == "loss is NaN after epoch 1"
    with pytest.raises(WorkError, match="every training failed; the first: no"):
        ablated(Told(lambda job: Outcome(False, message="no")), tmp_path)


class Small(HyperModel):
    """Weights and batches of a few numbers."""

    def build(self, hp):
        hp.Choice("batch_size", [16])
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(hp.Int("units", 1, 32), "relu")])
        model.add(keras.layers.Dense(1))
        model.compile(keras.optimizers.SGD(hp.Float("rate", 0.001, 1.0)), "mse", metrics=["accuracy"])
        return model


def small_workers():
    x = np.random.default_rng(0).normal(size=(64, 4)).astype("float32")
    y = (x.sum(axis=1, keepdims=True) > 0).astype("float32")
    workers = InProcess(patient=False)
    workers.begin(Problem("small", "data", Small(), (x, y), {"validation_data": (x, y), "verbose": 0}))
    return workers


@pytest.mark.long
def test_interrupted_it_goes_on_and_leaves_the_same_file(tmp_path):
    path = [{"batch_size": 16, **values, "rate": values["rate"] / 10} for values in PATH]
    ablated(small_workers(), tmp_path / "alone", path=path)

    class Interrupted(InProcess):
        left = 3

        def submit(self, job):
            self.left -= 1
            if not self.left:
                raise KeyboardInterrupt
            return super().submit(job)

    workers = small_workers()
    workers.__class__ = Interrupted
    with pytest.raises(KeyboardInterrupt):
        ablated(workers, tmp_path / "again", path=path)
    assert not (tmp_path / "again" / "ablation.json").exists()
    trained = {}

    def watch(job, outcome):
        trained[job.state.name] = len(outcome.epoch_seconds)

    ablated(small_workers(), tmp_path / "again", path=path, watch=watch)
    assert trained == {"0-0.npz": 0, "0-1.npz": 0, "1-0.npz": 3, "1-1.npz": 3, "2-0.npz": 3, "2-1.npz": 3}
    assert (tmp_path / "again" / "ablation.json").read_bytes() == (tmp_path / "alone" / "ablation.json").read_bytes()


def test_intervals_of_one_step_are_the_paired_t_interval():
    scores = np.array([[0.91, 0.93, 0.90], [0.95, 0.96, 0.955]])
    (found,) = estimators.successive_differences(scores)
    reference = stats.ttest_rel(scores[1], scores[0]).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((reference.low, reference.high))
    assert found.value == pytest.approx((0.04 + 0.03 + 0.055) / 3)


def test_intervals_of_several_steps_are_bonferroni_s_over_the_pooled_error_and_no_narrower_than_a_step_s_own():
    scores = np.array([[1.0, 2.0, 3.0], [1.1, 2.0, 3.2], [2.0, 3.1, 3.9], [2.1, 3.0, 5.1]])
    residuals = scores - scores.mean(1, keepdims=True) - scores.mean(0) + scores.mean()
    pooled = math.sqrt((residuals**2).sum() / 6)
    least = stats.t.ppf(1 - 0.05 / 6, 6) * pooled * math.sqrt(2 / 3)
    own = [stats.t.ppf(0.975, 2) * stats.sem(scores[i] - scores[i - 1]) for i in (1, 2, 3)]
    assert own[0] < least < own[2]
    found = estimators.successive_differences(scores)
    assert [one.high - one.value for one in found] == pytest.approx([max(least, half) for half in own])
    assert [one.value - one.low for one in found] == pytest.approx([max(least, half) for half in own])


@pytest.mark.parametrize("spread", [[1, 1, 1, 1, 1, 1], [1, 1, 1, 4, 1, 1]])
def test_without_a_difference_few_paths_have_an_interval_that_leaves_out_zero(spread):
    random = np.random.default_rng(2)
    wrong, paths = 0, 1500
    for _ in range(paths):
        scores = 2 * random.normal(size=(1, 3)) + np.array(spread)[:, None] * random.normal(size=(6, 3))
        wrong += any(one.low > 0 or one.high < 0 for one in estimators.successive_differences(scores))
    assert wrong / paths < 0.05 + 3 * math.sqrt(0.05 * 0.95 / paths)


def test_a_failed_training_takes_both_its_differences_and_one_seed_has_no_interval():
    scores = [[0.9, 0.91], [0.99, math.nan], [0.9, 0.91], [0.95, 0.955]]
    first, second, third = estimators.successive_differences(scores)
    assert first is second is None
    assert third.value == pytest.approx(0.0475)
    assert third.low < third.value < third.high
    (only,) = estimators.successive_differences([[0.9], [0.99]])
    assert only.value == pytest.approx(0.09)
    assert math.isnan(only.low)


def found(*scores, objective="val_accuracy", message=""):
    """An ablation of these scores, its steps ``rate``, ``units`` and so on."""
    values = {"rate": 0.1, "units": 8, "family": "dense", "depth": 2}
    path = [Ablated([], dict(values), 80, np.array(scores[0]), "")]
    for score, (name, after) in zip(scores[1:], (("rate", 0.2), ("units", 16), ("family", "other")), strict=False):
        values[name] = after
        if name == "family":
            del values["depth"]
        path.append(Ablated([name], dict(values), 80, np.array(score), message))
    return Ablation(objective, 10, path)


NOISE = np.array([0.0, 0.001, -0.001])
JITTER = np.array([[0, 1, -1], [1, -1, 0], [-1, 0, 1], [0, 1, -1]]) * 1e-4


def test_the_sentence_names_the_steps_that_are_told_apart_and_no_other():
    means = (0.95, 0.97, 0.97, 0.96)
    said = sentences.ablation(found(*(mean + NOISE + jitter for mean, jitter in zip(means, JITTER, strict=True))), True)
    said = said.replace("\N{NO-BREAK SPACE}", " ")
    assert "the mean validation accuracy goes from 95.00 % to 96.00 %" in said
    assert "Of 3 steps, 2 are told apart from no change by 3 seeds" in said
    assert "better with rate 0.1 to 0.2 (+2.00, +1.96 to +2.04)" in said
    assert "worse with family dense to other with 1 that depends on it (-1.00, -1.04 to -0.96)." in said
    assert "units" not in said


def test_a_smaller_loss_is_the_better_one():
    loss = found(0.5 + NOISE, 0.3 + NOISE + JITTER[1], objective="val_loss")
    assert "better with rate 0.1 to 0.2 (-0.2000, " in sentences.ablation(loss, False)


def test_a_step_that_changes_what_the_loss_is_is_not_compared_by_its_loss():
    values = (
        {"label_smoothing": 0, "rate": 0.1},
        {"label_smoothing": 0.05, "rate": 0.1},
        {"label_smoothing": 0.05, "rate": 0.2},
    )
    scores = (0.1 + NOISE, 0.4 + NOISE + JITTER[1], 0.3 + NOISE + JITTER[0])
    steps = ([], ["label_smoothing"], ["rate"])
    path = [Ablated(step, one, 80, score, "") for step, one, score in zip(steps, values, scores, strict=True)]
    said = sentences.ablation(Ablation("val_loss", 10, path), False)
    assert "Of 1 step that can be compared, 1 is told apart" in said
    assert "worse" not in said
    assert "The step label smoothing 0 to 0.05 changes what the loss is: it is not compared." in said
    said = sentences.ablation(Ablation("val_accuracy", 10, path), True)
    assert "Of 2 steps, 2 are told apart" in said


def test_a_step_that_adds_a_penalty_changes_the_loss_too():
    losses = ({}, {"penalties": "L2 0.1"}, {"penalties": "L2 0.1"})
    values = ({"l2": 0.0, "rate": 0.1}, {"l2": 0.1, "rate": 0.1}, {"l2": 0.1, "rate": 0.2})
    steps, scores = ([], ["l2"], ["rate"]), np.array([0.5, 0.51])
    path = [Ablated(step, one, 10, scores, "", loss) for step, one, loss in zip(steps, values, losses, strict=True)]
    assert evidence.other_losses(Ablation("val_loss", 10, path)) == [1]
    assert evidence.other_losses(Ablation("val_accuracy", 10, path)) == []


def test_noise_and_a_single_seed_are_no_difference():
    said = sentences.ablation(found([0.95, 0.96, 0.97], [0.972, 0.96, 0.951], [0.96, 0.966, 0.955]), True)
    assert "Of 2 steps, none is told apart from no change by 3 seeds." in said
    said = sentences.ablation(found([0.5], [0.99]), True)
    assert "With one seed no step can be told apart from the chance of a seed." in said


def test_a_step_whose_training_failed_says_so_and_wins_nothing():
    lost = found(0.5 + NOISE, [0.99, math.nan, 0.99], 0.5 + NOISE, 0.9 + NOISE + JITTER[1], message="diverged")
    said = sentences.ablation(lost, True)
    assert "Of 1 step that can be compared, 1 is told apart" in said
    assert "better with family" in said
    assert (
        "Of 3 trainings after the step rate 0.1 to 0.2, 1 diverged or failed (diverged): that step and the one after it "
        "are not compared." in said
    )
    every = found([math.nan] * 3, 0.5 + NOISE)
    assert "No step can be compared." in sentences.ablation(every, True)
    assert "of training each: the mean validation accuracy ends at 50.00" in sentences.ablation(every, True)
    assert "begins at 50.00" in sentences.ablation(found(0.5 + NOISE, [math.nan] * 3), True)
    assert "not a number" not in sentences.ablation(found([math.nan] * 3, [math.nan] * 3), True)
    assert "of the starting model, 3 diverged or failed: the step from it is not compared." in sentences.ablation(
        every, True
    )


def test_the_table_of_a_terminal_says_which_training_failed(tmp_path):
    exercise = results.read_exercise(fabricate(tmp_path, "single", steps=""))
    lost = found(0.5 + NOISE, 0.6 + NOISE + JITTER[1], [0.99, math.nan, 0.99])
    text = io.StringIO()
    console.print_ablation(replace(exercise, ablation=lost), Console(file=text, width=200))
    start, rate, units = text.getvalue().splitlines()[2:5]
    assert start.split() == ["the", "starting", "model", "0.5000", "0.0010", "-", "-", "80"]
    assert "rate 0.1 to 0.2 " in rate
    assert "+10.00" in rate
    assert units.split() == ["units", "8", "to", "16", "(a", "training", "failed)", "-", "-", "-", "-", "80"]


def test_the_report_shows_each_step_and_says_when_it_leads_to_an_earlier_best(tmp_path, monkeypatch):
    monkeypatch.setattr(plots, "png", lambda figure: b"no picture")
    folder = fabricate(tmp_path, "single")
    text = text_of(page.write_report(folder)).replace("\N{NO-BREAK SPACE}", " ")
    assert "What made the difference" in text
    section = text[text.index("What made the difference") : text.index("Errors on the test images")]
    assert "Of 2 steps, 1 is told apart from no change by 3 seeds" in section
    assert "batch size 32 \N{RIGHTWARDS ARROW} " in section
    assert "in another order the shares would differ" in section
    assert "was the best then" not in section
    assert "`" not in text
    best = json.loads((folder / "best.json").read_text())
    best["hyperparameters"]["batch_size"] = 4096
    (folder / "best.json").write_text(json.dumps(best))
    text = text_of(page.write_report(folder))
    assert "The ablation is of a configuration that was the best then and is not now" in text
    assert "Not run yet: python search_single.py ablation " in text


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content["path"].pop(),
        lambda content: content["path"][1]["scores"].pop(),
        lambda content: content.update(seeds=0),
        lambda content: content["path"][1].update(hyperparameters=content["path"][0]["hyperparameters"]),
    ],
)
def test_a_file_that_holds_no_path_is_refused_by_name(tmp_path, damage):
    content = ablated(Told(scored), tmp_path / "single" / "ablation")
    content["path"] = content["path"][:2]
    damage(content)
    path = fabricate(tmp_path, "single", steps="search ablation") / "ablation" / "ablation.json"
    path.write_text(json.dumps(files.seal(content)))
    with pytest.raises(
        WorkError, match=r"ablation\.json: cannot be used .* run 'python search_single.py ablation' again"
    ):
        results.read_exercise(tmp_path / "single")


@pytest.fixture(scope="module")
def searched(searched_alone, tmp_path_factory, small_data):
    """A search and its ablation of one epoch: the script, and what was printed."""
    folder = tmp_path_factory.mktemp("ablated")
    script = write_exercise(folder, NEURON)
    shutil.copytree(searched_alone[1], folder / "results")
    return script, run(script, *ONE, "--data", small_data)


ONE = ("ablation", "--epochs", 1, "--seeds", 2, "--workers", 0)


@pytest.mark.long
def test_the_step_is_done_once_reused_and_set_aside_and_reads_no_test_image(searched, tmp_path):
    script = shutil.copytree(searched[0].parent, tmp_path / "copy") / searched[0].name
    folder = script.parent / "results" / "small"
    assert "Ablation from the starting model to the best configuration, " in searched[1]
    assert "Differences in percentage points" in searched[1]
    assert not (folder / "test-readings.jsonl").exists()
    record = json.loads((folder / "run.json").read_text())["steps"]["ablation"]
    assert record["complete"]
    assert list(record["files"]) == ["ablation/ablation.json"]
    content = json.loads((folder / "ablation" / "ablation.json").read_text())
    assert content["path"][-1]["hyperparameters"] == json.loads((folder / "best.json").read_text())["hyperparameters"]
    assert {row["parameters"] for row in content["path"]} == {785}
    assert "ablation: done before with the same settings" in run(script, *ONE)
    run(script, "report")
    assert "What made the difference" in text_of(folder / "report.html")
    out = run(script, "ablation", "--epochs", 1, "--seeds", 1, "--workers", 0)
    assert "ablation: seeds was 2 and is now 1; the earlier result is kept in" in out
    assert (folder / "ablation.old-1" / "ablation.json").exists()
    assert "seed was 0 and is now 6" in run(script, *ONE, "--seed", 6, status=2)


def test_an_edited_path_is_named(searched, tmp_path):
    shutil.copytree(searched[0].parent / "results" / "small", tmp_path / "small")
    path = tmp_path / "small" / "ablation" / "ablation.json"
    assert verify._ablation(tmp_path / "small") == ""
    assert "ablation/*.json" in FROM_AN_EXERCISE
    content = json.loads(path.read_text())
    content["path"][1]["hyperparameters"]["learning_rate"] = 0.5
    path.write_text(json.dumps(files.seal(content)))
    with pytest.raises(WorkError, match="was changed since its step wrote it"):
        verify._ablation(tmp_path / "small")
    record = json.loads((tmp_path / "small" / "run.json").read_text())
    record["steps"]["ablation"]["files"] = files.digests(tmp_path / "small", path)
    (tmp_path / "small" / "run.json").write_text(json.dumps(files.seal(record)))
    assert "is told, the path has" in verify._ablation(tmp_path / "small")


def test_a_starting_model_that_is_the_best_leaves_nothing_to_take_apart(searched, tmp_path):
    shutil.copytree(searched[0].parent / "results", tmp_path / "results")
    folder = tmp_path / "results" / "small"
    best = json.loads((folder / "best.json").read_text())["hyperparameters"]
    script = write_exercise(tmp_path, NEURON, start=repr(best))
    before = (folder / "ablation" / "ablation.json").read_bytes()
    out = run(script, *ONE, "--workers", 0)
    assert "Ablation: the best configuration is the starting model; there is no step to take." in out
    assert (folder / "ablation" / "ablation.json").read_bytes() == before
