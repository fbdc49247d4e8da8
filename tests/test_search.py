"""The whole search through its command line: what it leaves, how it goes on after kill -9, what stock KerasTuner reads."""

import csv
import json
import math
import re
import shutil
from concurrent.futures import Future

import keras_tuner
import numpy as np
import pytest

from search import files, study
from search.lab import exercise as exercises
from search.lab import retrain, sweep
from search.oracles import hyperband
from search.results import read_rows, read_search
from search.workers.trial import Outcome
from tests.conftest import LONG, NEURON, command, run, write_exercise
from tests.faults import Gates, logged_exercise, none_left, trials

BUDGET = ("--max-epochs", 3, "--workers", 2)


@pytest.fixture
def left_alone(searched_alone):
    """A search that nobody disturbed."""
    return searched_alone


def test_it_prints_the_plan_each_trial_and_the_result(left_alone):
    _, _, out = left_alone
    assert "Hyperband, 6 trials, 11 epochs" in out
    assert "3 to 1, 1 to 3" in out
    assert "Predicted: about" in out
    assert "[6/6] trial" in out
    assert "Searched 6 trials, 11 epochs" in out


def test_stock_kerastuner_reloads_the_project_and_prints_its_summary(left_alone, capsys):
    script, results, _ = left_alone
    hypermodel = exercises.load(script).hypermodel()
    tuner = keras_tuner.Hyperband(
        hypermodel,
        objective=keras_tuner.Objective("val_accuracy", "max"),
        max_epochs=3,
        directory=str(results / "small"),
        project_name="search",
    )
    assert len(tuner.oracle.trials) == 6
    tuner.results_summary()
    printed = capsys.readouterr().out
    best = json.loads((results / "small" / "best.json").read_text())
    assert f"Score: {best['score']}" in printed
    assert printed.count("Trial 0") == 6
    assert tuner.get_best_hyperparameters()[0].values["learning_rate"] == best["hyperparameters"]["learning_rate"]


def test_one_worker_and_two_and_none_find_the_same_to_the_last_bit(left_alone, tmp_path, small_data):
    script, results, _ = left_alone
    for workers in (0, 1):
        run(
            script,
            "search",
            *BUDGET[:2],
            "--workers",
            workers,
            "--data",
            small_data,
            "--results",
            tmp_path / str(workers),
        )
        assert trials(tmp_path / str(workers)) == trials(results)


def test_a_second_run_uses_what_is_there_and_says_so(left_alone, small_data):
    script, results, _ = left_alone
    before = {path: path.stat().st_mtime_ns for path in results.rglob("*.json") if "lock" not in path.name}
    assert "The search is complete (6 trials)" in run(script, "search", *BUDGET, "--data", small_data)
    assert {path: path.stat().st_mtime_ns for path in before} == before


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("--seed", 1), "seed was 0 and is now 1"),
        (("--max-epochs", 4), "max_epochs was 3 and is now 4"),
        (("--tuner", "random"), "tuner was hyperband and is now random"),
    ],
)
def test_another_request_for_the_same_folder_is_refused(left_alone, small_data, change, said):
    script, _, _ = left_alone
    out = run(script, "search", *BUDGET, "--data", small_data, *change, status=2)
    assert said in out
    assert "--fresh" in out


@pytest.mark.long
def test_fresh_sets_the_old_search_aside(left_alone, tmp_path, small_data):
    script, results, _ = left_alone
    mine = tmp_path / "results"
    run(script, "search", *BUDGET, "--data", small_data, "--results", mine)
    out = run(script, "search", *BUDGET, "--data", small_data, "--results", mine, "--seed", 3, "--fresh")
    assert "small.old-1" in out
    old = [
        trial.relative_to(mine / "small.old-1") for trial in (mine / "small.old-1").glob("search/trial_*/trial.json")
    ]
    assert len(old) == 6
    assert trials(mine) != trials(results)


@pytest.mark.long
def test_workers_end_with_a_driver_that_is_killed(tmp_path, small_data):
    script = logged_exercise(tmp_path)
    with Gates(tmp_path) as gates:
        process = command(script, "search", *BUDGET, "--data", small_data, fresh=True)
        assert gates.until(lambda arrival: arrival.point == "after trial.json", process) is not None
        process.kill()
    process.communicate(timeout=LONG)
    assert none_left(process.pid)


def test_a_configuration_that_fails_is_marked_and_the_search_goes_on(tmp_path, small_data):
    script = write_exercise(
        tmp_path,
        """
        kind = hp.Choice("kind", ["fine", "raises", "diverges"])
        hp.Float("unused", 0, 1)
        if kind == "raises":
            raise ValueError("too large to build")
        rate = 1e38 if kind == "diverges" else 1e-4
        layers = [keras.layers.Flatten(), keras.layers.Dense(4), keras.layers.Dense(1)]
        model = keras.Sequential([keras.Input((28, 28)), *layers])
        model.compile(keras.optimizers.SGD(rate), loss="mse", metrics=["accuracy"])
        return model
        """,
        start="{'kind': 'fine'}",
    )
    text = script.read_text().replace('sweeps=("batch_size",)', "sweeps=()")
    script.write_text(text.replace("keras.layers.Flatten()", "keras.layers.Rescaling(1 / 255), keras.layers.Flatten()"))
    run(script, "search", "--tuner", "random", "--trials", 12, "--max-epochs", 1, "--data", small_data)
    rows = trials(tmp_path / "results")
    messages = {row["hp.kind"]: row["message"] for row in rows}
    assert {row["hp.kind"]: row["status"] for row in rows} == {
        "fine": "COMPLETED",
        "raises": "FAILED",
        "diverges": "FAILED",
    }
    assert messages["raises"] == "build: ValueError: too large to build"
    assert messages["diverges"].startswith("diverged: the loss is")
    best = json.loads((tmp_path / "results" / "small" / "best.json").read_text())
    assert best["hyperparameters"]["kind"] == "fine"
    printed = run(script, "summary")
    assert "too large to build" in printed


def test_a_worker_that_dies_is_replaced_and_the_trial_marked_after_its_retries(tmp_path, small_data):
    script = write_exercise(
        tmp_path,
        """
        import multiprocessing, os, signal
        kind = hp.Choice("kind", ["fine", "killed"])
        hp.Float("unused", 0, 1)
        if kind == "killed" and multiprocessing.parent_process():
            os.kill(os.getpid(), signal.SIGKILL)
        layers = [keras.layers.Rescaling(1 / 255), keras.layers.Flatten(), keras.layers.Dense(1, activation="sigmoid")]
        model = keras.Sequential([keras.Input((28, 28)), *layers])
        model.compile("sgd", loss="binary_crossentropy", metrics=["accuracy"])
        return model
        """,
        start="{'kind': 'fine'}",
    )
    # only in a worker: the driver builds every kind once, to learn the space
    script.write_text(script.read_text().replace('sweeps=("batch_size",)', "sweeps=()"))
    run(script, "search", "--tuner", "random", "--trials", 6, "--max-epochs", 1, "--data", small_data)
    rows = trials(tmp_path / "results")
    assert {row["hp.kind"]: row["status"] for row in rows} == {"fine": "COMPLETED", "killed": "FAILED"}
    assert all(
        row["message"] == "the worker died (SIGKILL, as when memory runs out), 3 times"
        for row in rows
        if row["hp.kind"] == "killed"
    )


@pytest.mark.long
def test_damaged_files_of_a_search_are_made_again(left_alone, tmp_path, small_data):
    script, results, _ = left_alone
    mine = tmp_path / "results"
    arguments = ("search", *BUDGET, "--data", small_data, "--results", mine)
    run(script, *arguments)
    path = mine / "small" / "run.json"
    state = json.loads(path.read_text())
    state["steps"]["search"]["complete"] = False
    path.write_text(json.dumps(files.seal(state)))
    for victim, damage in [("trial_0001/trial.json", "{"), ("trial_0002/state.npz", "no archive")]:
        (mine / "small" / "search" / victim).write_text(damage)
    (mine / "small" / "search" / "trial_0002" / "trial.json").unlink()
    run(script, *arguments)
    plain = [{**row, "message": ""} for row in trials(mine)]
    assert plain == trials(results)


@pytest.mark.long
def test_the_whole_exercise_leaves_every_file(tmp_path, small_data):
    script = write_exercise(tmp_path, NEURON)
    run(script, "--quick", "--data", small_data, fresh=True)
    folder = tmp_path / "results" / "quick" / "small"
    for name in (
        "search/oracle.json",
        "trials.csv",
        "summary.txt",
        "best.json",
        "finalists/finalists.json",
        "retrain/history.csv",
        "retrain/metrics.json",
        "retrain/model.keras",
        "retrain/start_model.keras",
        "retrain/predictions.npz",
        "sweeps/batch_size.csv",
        "ablation/ablation.json",
        "run.json",
        "report.html",
    ):
        assert (folder / name).stat().st_size > 0, name
    assert len(list((folder / "plots").glob("*.png"))) >= 6
    assert len((folder / "retrain" / "history.csv").read_text().splitlines()) == 1 + 3
    again = run(script, "--quick", "--data", small_data)
    assert "used as it is" in again
    assert "finalists: done before with the same settings" in again
    assert "retrain: done before with the same settings" in again


@pytest.mark.long
def test_steps_after_a_quick_search_take_the_images_that_it_took(tmp_path):
    script = write_exercise(tmp_path, NEURON)
    run(script, "search", "--quick", "--results", "mine", "--workers", 0)
    run(script, "finalists", "--results", "mine", "--finalists", 1, "--finalist-seeds", 1, "--workers", 0)
    recorded = json.loads((tmp_path / "mine" / "small" / "run.json").read_text())
    assert (recorded["data"]["train"], recorded["data"]["validation"]) == (5000, 1000)
    assert recorded["steps"]["finalists"]["complete"]


@pytest.mark.long
def test_the_model_that_is_kept_scores_what_was_reported(tmp_path, small_data):
    import keras

    script = write_exercise(tmp_path, NEURON)
    run(script, "search", *BUDGET, "--data", small_data)
    run(script, "retrain", "--epochs", 2, "--seeds", 3, "--data", small_data)
    folder = tmp_path / "results" / "small" / "retrain"
    metrics = json.loads((folder / "metrics.json").read_text())
    with np.load(small_data) as arrays:
        images, truth = arrays["x_test"], arrays["y_test"] == 0
    with np.load(folder / "predictions.npz") as arrays:
        outputs = dict(arrays)
    assert (outputs.pop("label") == truth).all()
    for name, history, file in (
        ("tuned", "history.csv", "model.keras"),
        ("start", "start_history.csv", "start_model.keras"),
    ):
        seeds = metrics[name]["seeds"]
        handed_over, *others = sorted(seeds, key=lambda run: run["seed"] != metrics[name]["handed_over"])
        low, high = sorted(run["val_loss"] for run in others)
        assert low <= handed_over["val_loss"] <= high
        for measure in ("loss", "val_loss", "val_accuracy", "test_accuracy", "best_val_accuracy"):
            values = [run[measure] for run in seeds]
            assert metrics[name][measure] == pytest.approx(np.median(values))
            assert metrics[name]["range"][measure] == [min(values), max(values)]
        with (folder / history).open(newline="") as file_:
            rows = list(csv.DictReader(file_))
        assert [(row["seed"], row["epoch"]) for row in rows] == [(str(k), str(e)) for k in range(3) for e in (1, 2)]
        for run_ in seeds:
            own = [row for row in rows if int(row["seed"]) == run_["seed"]]
            assert float(own[-1]["val_loss"]) == pytest.approx(run_["val_loss"], rel=1e-6)
            best = max(own, key=lambda row: float(row["val_accuracy"]))
            assert run_["best_epoch"] == int(best["epoch"])
            answers = outputs[name][run_["seed"], :, 0] > 0.5
            assert run_["test_correct"] == (answers == truth).sum()
        model = keras.models.load_model(folder / file)
        np.testing.assert_allclose(
            model.predict(images, verbose=0), outputs[name][metrics[name]["handed_over"]], rtol=1e-4, atol=1e-5
        )
        low, high = metrics[name]["interval"]
        assert low <= np.mean([run_["test_accuracy"] for run_ in seeds]) <= high
    wrong = (outputs["tuned"][:, :, 0] > 0.5) != truth
    assert metrics["majority_accuracy"] == pytest.approx(1 - truth.mean())
    with np.load(folder / "misread.npz") as misread:
        assert len(misread["index"]) == min(retrain.MISREAD_SHOWN, (wrong.sum(axis=0) > 1).sum())
        assert (wrong.sum(axis=0)[misread["index"]] == misread["networks"]).all()


@pytest.mark.parametrize(
    ("losses", "median"),
    [([0.3], 0), ([0.3, 0.1, 0.2], 2), ([0.2, 0.1], 1), ([math.nan, 0.3, 0.1], 1), ([math.nan, math.nan, 0.1], 0)],
)
def test_the_network_that_is_handed_over_is_of_the_median_seed(losses, median):
    assert retrain._median_seed(losses) == median


def test_a_sweep_holds_everything_else(tmp_path, small_data):
    script = write_exercise(tmp_path, NEURON)
    out = run(script, "sweep", "batch_size", "--epochs", 1, "--seeds", 2, "--data", small_data)
    assert "Sweep of batch_size from the starting model: 64, 128, 256, 512" in out
    with (tmp_path / "results" / "small" / "sweeps" / "batch_size.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["value"], row["seed"]) for row in rows] == [
        (str(b), str(k)) for b in (64, 128, 256, 512) for k in (0, 1)
    ]


class Told:
    """Workers that end each training at once, with figures made of its hyper-parameters."""

    size = 1
    ahead = 0

    def __init__(self, figure):
        self.figure, self.jobs = figure, []

    def submit(self, job):
        self.jobs.append(job)
        future = Future()
        history = {name: [self.figure(job)] * job.epochs for name in ("loss", "val_accuracy")}
        future.set_result(Outcome(True, history, 1, 1.0, (5.0, *[0.1] * (job.epochs - 1))))
        return future


def swept(name, values, folder, workers, **given):
    options = {"retuned": None, "candidates": [], "epochs": 1, "seeds": 1, "seed": 0, "watch": lambda *_: None}
    options |= {"objective": "val_accuracy", "maximise": True}
    return sweep.sweep(name, values, {}, workers, folder, **{**options, **given})


def test_a_sweep_keeps_values_that_print_alike_apart(tmp_path):
    """They shared one training's figures."""
    hp = keras_tuner.HyperParameters()
    hp.Float("momentum", 0.999, 0.9999)
    values = sweep.values_of(hp, "momentum")
    rows, _ = swept("momentum", values, tmp_path, Told(lambda job: job.hyperparameters["momentum"]))
    assert len(values) == 7
    assert [row["loss"] for row in rows] == values


def test_the_seed_that_chooses_a_retuned_value_is_none_that_compares(tmp_path):
    workers = Told(lambda job: job.hyperparameters["rate"])
    rows, chosen = swept(
        "optimizer", ["sgd", "adam"], tmp_path, workers, retuned="rate", candidates=[0.1, 0.3], seeds=3
    )
    choosing = {job.seed for job in workers.jobs[:4]}
    comparing = {job.seed for job in workers.jobs[4:]}
    assert len(choosing) == 1
    assert len(comparing) == 3
    assert not choosing & comparing
    assert chosen == {"sgd": 0.3, "adam": 0.3}
    assert len(rows) == 6


@pytest.mark.parametrize(("maximise", "best"), [(True, 0.3), (False, 0.1)])
def test_a_retuned_value_is_the_best_by_the_objective(tmp_path, maximise, best):
    """Without an accuracy among the metrics it was the first."""
    workers = Told(lambda job: job.hyperparameters["rate"])
    aim = {"objective": "loss", "maximise": maximise}
    _, chosen = swept("optimizer", ["sgd"], tmp_path, workers, retuned="rate", candidates=[0.2, 0.3, 0.1], **aim)
    assert chosen == {"sgd": best}


@pytest.mark.parametrize(("epochs", "seconds"), [(1, None), (2, None), (3, 0.1), (10, 0.1)])
def test_a_sweep_compiles_all_values_one_way_and_times_an_epoch_that_no_longer_compiles(tmp_path, epochs, seconds):
    workers = Told(lambda job: 0.5)
    rows, _ = swept("batch_size", [16, 1024], tmp_path, workers, epochs=epochs)
    assert len({job.xla_break_even for job in workers.jobs}) == 1
    for row in rows:
        assert math.isnan(row["seconds_per_epoch"]) if seconds is None else row["seconds_per_epoch"] == seconds


@pytest.mark.long
def test_another_objective_goes_through_every_step(tmp_path, small_data):
    """trials.csv had no column for it, and nothing after the search could read it."""
    build = NEURON.replace('metrics=["accuracy"]', 'metrics=["accuracy", keras.metrics.AUC(name="auc")]')
    script = write_exercise(tmp_path, build, extra='objective="val_auc"')
    run(script, "--quick", "--workers", 0, "--data", small_data)
    assert all(0 < float(row["val_auc"]) < 1 for row in trials(tmp_path / "results" / "quick"))
    assert "validation auc" in run(script, "summary", "--quick")


def test_a_retraining_of_another_starting_model_is_done_again(left_alone, tmp_path, small_data):
    """The starting model's old figures were used as they were."""
    script = write_exercise(tmp_path, NEURON)
    shutil.copytree(left_alone[1], tmp_path / "results")
    arguments = ("retrain", "--epochs", 1, "--seeds", 1, "--workers", 0, "--data", small_data)
    run(script, *arguments)
    assert "used as it is" in run(script, *arguments)
    script.write_text(script.read_text().replace("start={'batch_size': 128}", "start={'batch_size': 256}"))
    out = run(script, *arguments, "--read-test-again")
    assert "retrain: start batch_size was 128 and is now 256; the earlier result is kept in" in out
    metrics = json.loads((tmp_path / "results" / "small" / "retrain" / "metrics.json").read_text())
    assert metrics["start"]["hyperparameters"]["batch_size"] == 256


ONE = ("--epochs", 1, "--seeds", 1, "--workers", 0)


@pytest.fixture
def mine(left_alone, tmp_path):
    """A copy of the search, and a script of one's own for it."""
    script = write_exercise(tmp_path, NEURON)
    shutil.copytree(left_alone[1], tmp_path / "results")
    return script


@pytest.mark.long
def test_a_sweep_before_the_search_gives_it_its_data_and_seed_and_is_refused_to_another(tmp_path, small_data):
    """The page had the one's figures beside the other's and named the data of the last."""
    script = write_exercise(tmp_path, NEURON)
    run(script, "sweep", "batch_size", *ONE, "--data", small_data, "--seed", 5)
    search = ("search", "--max-epochs", 1, "--tuner", "random", "--trials", 2, "--workers", 0)
    said = run(script, *search, "--seed", 6, "--data", small_data, status=2)
    assert "results with other settings (sweep batch_size: seed was 5 and is now 6)" in said
    with np.load(small_data) as arrays:
        np.savez(tmp_path / "other.npz", **{**arrays, "y_train": arrays["y_train"][::-1]})
    said = run(script, *search, "--data", tmp_path / "other.npz", status=2)
    assert re.search(r"sweep batch_size: data was \w+… and is now", said)
    run(script, *search)
    recorded = json.loads((tmp_path / "results" / "small" / "run.json").read_text())
    assert recorded["steps"]["search"]["settings"]["seed"] == 5
    assert recorded["data"]["train"] + recorded["data"]["validation"] == 4800


@pytest.mark.long
@pytest.mark.parametrize("step", ["finalists", "sweep batch_size", "ablation", "retrain"])
def test_no_step_goes_on_with_another_objective(mine, step):
    """It was trained by the one and named by the other."""
    mine.write_text(mine.read_text().replace("max_epochs=9,", 'max_epochs=9, objective="val_loss",'))
    assert "objective was val_accuracy and is now val_loss" in run(mine, *step.split(), "--workers", 0, status=2)


@pytest.mark.long
def test_a_build_that_changed_is_said_when_it_trains_and_its_reading_of_the_test_images_is_another(mine):
    run(mine, "retrain", *ONE)
    mine.write_text(mine.read_text() + "\n# a remark\n")
    said = run(mine, "sweep", "batch_size", *ONE)
    assert "Note: the code changed since the search began" in said
    (mine.parent / "results" / "small" / "retrain" / "metrics.json").unlink()
    assert "were read for this search on" in run(mine, "retrain", *ONE, status=2)
    assert "Note: the code changed since the search began" in run(mine, "retrain", *ONE, "--read-test-again")


@pytest.mark.long
def test_after_other_finalists_the_retraining_is_the_next_step(mine):
    run(mine, "retrain", *ONE)
    path = mine.parent / "results" / "small" / "retrain" / "metrics.json"
    record = mine.parent / "results" / "small" / "run.json"
    metrics, run_json = json.loads(path.read_text()), json.loads(record.read_text())
    metrics["tuned"]["hyperparameters"]["batch_size"] = 4096  # as of the best before the finalists
    path.write_text(json.dumps(metrics))
    run_json["steps"]["retrain"]["files"] |= files.digests(path.parents[1], path)
    record.write_text(json.dumps(files.seal(run_json)))
    said = run(mine, "finalists", "--finalists", 1, "--finalist-seeds", 1, "--workers", 0)
    assert "the retrain is of a configuration that was the best then and is not now" in said
    assert "retrain --read-test-again" in said[said.index("Next:") :]


@pytest.mark.long
def test_other_finalists_take_the_place_of_the_first(mine):
    """The first ones' winner was held against the new ones, and every step then refused the folder."""
    folder = mine.parent / "results" / "small"
    chosen_by_the_search = (folder / "best.json").read_bytes()
    run(mine, "finalists", "--finalists", 1, "--finalist-seeds", 1, "--workers", 0)
    first = read_search(folder).best
    said = run(mine, "finalists", "--finalists", 2, "--finalist-seeds", 2, "--workers", 0)
    assert "the earlier result is kept in" in said
    found = read_search(folder)
    assert (first.chosen_by, found.best.chosen_by) == ("finalists", "finalists")
    assert len(found.finalists.finalists[0].scores) == 2
    assert found.best.score == found.finalists.finalists[found.finalists.winner].scores.mean()
    run(mine, "report")
    broken = "    def fit(self, *args, **kwargs):\n        raise ValueError('broken')\n\n    def build(self, hp):"
    mine.write_text(mine.read_text().replace("    def build(self, hp):", broken, 1))
    run(mine, "finalists", "--finalists", 2, "--finalist-seeds", 1, "--workers", 0, status=1)
    assert read_search(folder).finalists is None
    assert (folder / "best.json").read_bytes() == chosen_by_the_search


@pytest.mark.long
def test_what_a_copy_of_the_results_is_to_do_next_is_done_there(mine):
    """The command was the one of the folder that was copied."""
    copy = mine.parent / "copy of results"
    shutil.copytree(mine.parent / "results", copy)
    said = run(mine, "finalists", "--finalists", 1, "--finalist-seeds", 1, "--workers", 0, "--results", copy)
    assert f"--results '{copy}'" in said[said.index("Next:") :]
    said = run(mine, "finalists", "--finalists", 1, "--finalist-seeds", 1, "--workers", 0)
    assert "--results" not in said[said.index("Next:") :]


def test_milestones_of_a_trial_are_its_bracket_s_rungs(tmp_path):
    hp = keras_tuner.HyperParameters()
    hp.Float("a", 0, 1)
    oracle = hyperband.HyperbandOracle(
        objective=keras_tuner.Objective("val_accuracy", "max"), max_epochs=27, seed=1, hyperparameters=hp
    )
    oracle._set_project_dir(str(tmp_path), "search")
    assert oracle.milestones(oracle.create_trial("w")) == (1, 3, 9, 27)


NAMES = (
    "status",
    "epochs",
    "loss",
    "trial_id",
    "message",
    "best_epoch",
    "a/b",
    "../../evil",
    "tuner/rate",
    "n" * 300,
    "=1",
)


def test_a_hyper_parameter_may_have_any_name(tmp_path):
    hp = keras_tuner.HyperParameters()
    for name in NAMES:
        hp.Float(name, 0, 1)
    oracle = hyperband.HyperbandOracle(
        objective=keras_tuner.Objective("val_accuracy", "max"), max_epochs=3, seed=1, hyperparameters=hp
    )
    study.search(oracle, Told(lambda job: 0.5), tmp_path, seed=1)
    _, rows = read_rows(tmp_path / "trials.csv")
    for row in rows:
        values = oracle.trials[row["trial_id"]].hyperparameters.values
        assert row["status"] == "COMPLETED"
        assert row["message"] == ""
        assert int(row["epochs"]) == values["tuner/epochs"]
        assert [float(row[f"hp.{name}"]) for name in NAMES] == [values[name] for name in NAMES]
    assert rows


@pytest.mark.parametrize("name", NAMES)
def test_a_sweep_s_files_stay_in_its_folder(tmp_path, name):
    workers = Told(lambda job: 0.5)
    rows, _ = swept(name, [0.1, 0.2], tmp_path, workers)
    assert [path.name for path in tmp_path.glob("*.csv")] == [f"{files.slug(name)}.csv"]
    assert {job.state.parent for job in workers.jobs} == {tmp_path / "states"}
    assert all(len(job.state.name) < 100 for job in workers.jobs)
    assert {row["value"] for row in rows} == {0.1, 0.2}


@pytest.mark.parametrize("other", ["a_b", "a-b", "a.b", "a/c", "a/B", ""])
def test_other_names_have_other_files(other):
    assert files.slug("a/b") != files.slug(other)
    assert files.slug(files.slug(other)) == files.slug(other)
