"""KerasTuner's tuners under one changed import: the same trials wherever they run, whatever interrupts them."""

import copy
import importlib
import json
import os
import pkgutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import keras
import keras_tuner
import numpy as np
import pytest

import search
from search.errors import RequestError
from search.results import read_project
from search.tuner.own_code import own_code
from tests.conftest import ROOT

rng = np.random.default_rng(0)
X = rng.normal(size=(300, 8)).astype("float32")
Y = (X[:, :3].sum(1) > 0).astype("float32")
FIT = {"x": X[:200], "y": Y[:200], "validation_data": (X[200:], Y[200:]), "verbose": 0}
TUNERS = ("RandomSearch", "GridSearch", "BayesianOptimization", "Hyperband")


def build(hp):
    units = hp.Int("units", 2, 8, step=2)
    model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(units, "relu"), keras.layers.Dense(1, "sigmoid")])
    model.compile(keras.optimizers.Adam(hp.Float("rate", 1e-3, 1e-1, sampling="log")), "binary_crossentropy")
    return model


class Late(search.HyperModel):
    """State on ``self`` from ``build`` to ``fit``, ``compile`` and a hyper-parameter in ``fit``, an argument in ``__init__``."""

    def __init__(self, units):
        super().__init__()
        self.units = units

    def build(self, hp):
        os.chdir("/")
        self.rate = hp.Float("rate", 1e-3, 1e-1, sampling="log")
        return keras.Sequential([keras.Input((8,)), keras.layers.Dense(self.units, "relu"), keras.layers.Dense(1)])

    def fit(self, hp, model, *args, **kwargs):
        model.compile(keras.optimizers.SGD(self.rate), "mse", metrics=["mse"])
        return model.fit(*args, batch_size=hp.Choice("batch", [20, 40, 80]), **kwargs)


def tuner(folder, kind="RandomSearch", hypermodel=build, **arguments):
    arguments = {"objective": "val_loss", "seed": 0, "workers": 0, "project_name": "p", **arguments}
    budget = {"max_epochs": 4, "factor": 2} if kind == "Hyperband" else {"max_trials": 5}
    if kind == "BayesianOptimization":
        budget["num_initial_points"] = 2
    return getattr(search, kind)(hypermodel, directory=str(folder), **{**budget, **arguments})


def searched(folder, kind="RandomSearch", hypermodel=build, fit=FIT, **arguments):
    one = tuner(folder, kind, hypermodel, **arguments)
    one.search(**fit, **({} if kind == "Hyperband" else {"epochs": 2}))
    return one


def found(one):
    return [
        (row["trial_id"], row["status"], row["score"], row["hyperparameters"], row["history"]) for row in one.results
    ]


MODULES = [
    one.name.removeprefix("keras_tuner.")
    for one in pkgutil.walk_packages(keras_tuner.__path__, "keras_tuner.")
    if ".src" not in one.name
]


def test_every_public_module_of_kerastuner_is_imported_by_the_changed_name():
    """In a process of its own: what an attribute has imported before is no proof."""
    code = "import sys, importlib\nfor name in sys.argv[1:]: print(importlib.import_module('search.' + name).__name__)"
    there = subprocess.run([sys.executable, "-c", code, *MODULES], cwd=ROOT, capture_output=True, text=True, check=True)
    assert len(there.stdout.split()) == len(MODULES) > 5


@pytest.mark.parametrize("name", MODULES)
def test_a_module_has_kerastuner_s_names_by_the_changed_name(name):
    theirs, ours = (importlib.import_module(f"{root}.{name}") for root in ("keras_tuner", "search"))
    for public in (one for one in vars(theirs) if not one.startswith("_")):
        mine, stock = getattr(ours, public), getattr(theirs, public)
        assert mine is stock or issubclass(mine, stock)


def test_every_public_name_of_kerastuner_is_here():
    names = [name for name in dir(keras_tuner) if not name.startswith("_") and name != "src"]
    assert [name for name in names if not hasattr(search, name)] == []
    assert set(names) <= set(dir(search))
    for name in (*TUNERS, "Tuner"):
        assert issubclass(getattr(search, name), getattr(keras_tuner, name))
        assert getattr(search.tuners, name) is getattr(search, name)
    assert search.errors.FatalValueError is keras_tuner.errors.FatalValueError
    assert search.engine.hyperparameters is keras_tuner.engine.hyperparameters
    for name in ("HyperbandOracle", "RandomSearchOracle", "GridSearchOracle", "BayesianOptimizationOracle"):
        assert issubclass(getattr(search.oracles, name), getattr(keras_tuner.oracles, name))


def branching(hp):
    """Hyper-parameters in a plain ``if`` and a loop, as KerasTuner's guides have them: only some trials declare them."""
    model = keras.Sequential([keras.Input((8,))])
    if hp.Choice("kind", ["wide", "deep"]) == "wide":
        model.add(keras.layers.Dense(hp.Int("width", 4, 64, step=4)))
    else:
        for i in range(hp.Int("layers", 1, 3)):
            model.add(keras.layers.Dense(hp.Int(f"units_{i}", 4, 64, step=4)))
    model.add(keras.layers.Dense(1, "sigmoid"))
    model.compile("adam", "binary_crossentropy")
    return model


def above_a_threshold(hp):
    """A hyper-parameter for the upper half of a range of a thousand values."""
    if hp.Int("width", 16, 1024) > 500:
        hp.Float("drop", 0.0, 0.9)
    return build(hp)


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.long)])
@pytest.mark.parametrize(("hypermodel", "late"), [(branching, "layers"), (above_a_threshold, "drop")])
def test_what_build_declares_in_some_trials_only_is_searched_from_the_next_one_on(tmp_path, workers, hypermodel, late):
    """They had their defaults in the first 64 trials; stock KerasTuner, trial after trial, draws the very same."""
    ours = searched(tmp_path / "ours", hypermodel=hypermodel, max_trials=10, seed=7, workers=workers)
    theirs = keras_tuner.RandomSearch(hypermodel, "val_loss", max_trials=10, seed=7, directory=str(tmp_path / "theirs"))
    theirs.search(**FIT, epochs=1)
    drawn = [[trial.hyperparameters.values for _, trial in sorted(one.oracle.trials.items())] for one in (ours, theirs)]
    assert drawn[0] == drawn[1]
    assert len({values[late] for values in drawn[0] if late in values}) > 1


def test_what_build_declares_in_some_trials_is_searched_alike_after_an_interruption(tmp_path, capsys):
    whole = searched(tmp_path / "whole", hypermodel=branching, max_trials=12, seed=7)
    part = searched(tmp_path / "part", hypermodel=branching, max_trials=8, seed=7)
    assert [row[1:] for row in found(part)] == [row[1:] for row in found(whole)[:8]]
    more = searched(tmp_path / "part", hypermodel=branching, max_trials=12, seed=7)
    assert [row[1:] for row in found(more)] == [row[1:] for row in found(whole)]
    assert "changed" not in capsys.readouterr().out


@pytest.mark.long
@pytest.mark.parametrize("kind", TUNERS)
def test_no_worker_and_two_find_the_same(tmp_path, kind):
    here = found(searched(tmp_path / "here", kind))
    assert len(here) >= 5
    assert here == found(searched(tmp_path / "two", kind, workers=2))
    assert not list(tmp_path.rglob(".sent"))


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.long)])
def test_what_fit_alone_declares_is_searched_and_build_comes_before_every_fit(tmp_path, workers):
    before = os.getcwd()
    one = searched(tmp_path, hypermodel=Late(4), objective="val_mse", workers=workers)
    assert os.getcwd() == before
    assert one.oracle.objective.direction == "min"
    assert [row["status"] for row in one.results] == ["COMPLETED"] * 5
    values = [row["hyperparameters"] for row in one.results]
    assert len({value["batch"] for value in values}) > 1
    best = min(one.results, key=lambda row: row["score"])
    assert one.get_best_hyperparameters()[0].values == best["hyperparameters"]


def test_the_best_model_has_the_weights_of_the_best_epoch(tmp_path):
    one = searched(tmp_path)
    best = one.oracle.get_best_trials()[0]
    with pytest.warns(UserWarning, match="optimizer"):  # KerasTuner saves its variables too
        model = one.get_best_models()[0]
    loss = model.evaluate(X[200:], Y[200:], verbose=0)
    assert loss == pytest.approx(best.score, rel=1e-5)


@pytest.mark.long
@pytest.mark.parametrize("kind", ["RandomSearch", "Hyperband"])
def test_a_search_that_is_run_again_repeats_nothing_and_a_longer_one_goes_on(tmp_path, kind):
    longer = {"hyperband_iterations": 2} if kind == "Hyperband" else {"max_trials": 12}
    alone = found(searched(tmp_path / "alone", kind, **longer))
    short = found(searched(tmp_path / "p", kind))
    built = []

    def counted(hp):
        built.append(1)
        return build(hp)

    assert found(searched(tmp_path / "p", kind, counted)) == short
    assert len(built) == 1  # for the space
    extended = found(searched(tmp_path / "p", kind, **longer))
    assert [row[1:] for row in extended] == [row[1:] for row in alone]


@pytest.mark.long
def test_seed_zero_is_a_seed_and_none_is_recorded(tmp_path):
    assert tuner(tmp_path / "a").oracle.seed == 0
    one = searched(tmp_path / "b", seed=None, max_trials=2)
    again = searched(tmp_path / "b", seed=None, max_trials=4)
    assert found(again)[:2] == found(one)
    assert found(again) == found(searched(tmp_path / "c", seed=one.oracle.seed, max_trials=4))


def test_an_exit_in_build_is_a_failed_trial(tmp_path):
    def leaving(hp):
        if hp.Boolean("leave") and leaves:
            sys.exit(0)
        return build(hp)

    leaves = []
    one = tuner(tmp_path, hypermodel=leaving, max_trials=6, max_consecutive_failed_trials=9)
    leaves.append(True)
    one.search(**FIT, epochs=1)
    assert {row["hyperparameters"]["leave"]: row["status"] for row in one.results} == {
        False: "COMPLETED",
        True: "FAILED",
    }


def test_what_cannot_be_sent_trains_here_and_a_line_says_so(tmp_path, capsys):
    handle = threading.Lock()

    def holding(hp):
        assert handle
        return build(hp)

    one = searched(tmp_path, hypermodel=holding, workers=2, fit={**FIT, "verbose": 1}, max_trials=1)
    assert one.results[0]["status"] == "COMPLETED"
    assert (
        "Trials run in this process: the hypermodel, of type DefaultHyperModel, cannot be pickled"
        in capsys.readouterr().out
    )


def test_errors_of_kerastuner_mean_what_they_mean_there(tmp_path):
    def failing(error):
        def build_or_fail(hp):
            if hp.Float("x", 0, 1) != 0.0:
                raise error("it broke")
            return build(hp)

        return build_or_fail

    with pytest.raises(keras_tuner.errors.FatalValueError, match="it broke"):
        searched(tmp_path / "a", hypermodel=failing(keras_tuner.errors.FatalValueError), workers=1)
    with pytest.raises(RuntimeError, match="consecutive failures"):
        searched(tmp_path / "b", hypermodel=failing(keras_tuner.errors.FailedTrialError))
    one = tuner(tmp_path / "c", hypermodel=failing(ValueError), max_retries_per_trial=1, max_trials=2)
    one.search(**FIT)
    assert [row["status"] for row in one.results] == ["FAILED"] * 2


def test_first_values_come_first_and_time_ends_the_search(tmp_path):
    one = searched(tmp_path / "a", first=[{"units": 8}], max_trials=2)
    assert one.results[0]["hyperparameters"] == {"units": 8, "rate": 1e-3}
    assert len(searched(tmp_path / "b", max_seconds=1e-9).results) == 0
    assert found(searched(tmp_path / "a", first=[{"units": 8}], max_trials=3, max_seconds=1e-9)) == found(one)


class Batches(keras.utils.PyDataset):
    """Data that a class of the user's makes, which may keep something from one epoch to the next."""

    def __len__(self):
        return 2

    def __getitem__(self, i):
        return X[:20], Y[:20]


@pytest.mark.parametrize(
    ("fit", "said"),
    [
        ({"callbacks": [keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: None)]}, "LambdaCallback"),
        ({"callbacks": [keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate)]}, "LearningRateScheduler"),
        ({"x": Batches(), "y": None}, "Batches"),
        ({}, ""),
        ({"callbacks": [keras.callbacks.EarlyStopping()]}, ""),
    ],
)
def test_code_of_the_user_s_that_keras_calls_is_known_as_such(tmp_path, fit, said):
    """In a worker, what a function of a callback or a class of data leaves behind in Python would be lost."""
    one = tuner(tmp_path)
    found = own_code(one, one._problem((), {**FIT, **fit}))
    assert said in found
    assert bool(found) == bool(said)


class Scored(search.HyperModel):
    """Trials whose scores are told in advance, in the order in which they are asked for."""

    def __init__(self, *scores):
        super().__init__()
        self.scores = list(scores)

    def build(self, hp):
        return build(hp)

    def fit(self, hp, model, *args, **kwargs):
        return {"val_loss": self.scores.pop(0)}


def test_a_search_in_which_nothing_improves_ends_after_so_many_trials_and_stays_ended(tmp_path):
    scores = [0.5, 0.4, 0.6, 0.3, 0.3, 0.7, 0.2]
    one = searched(tmp_path, hypermodel=Scored(*scores), max_trials=7, patience=2)
    assert [row["score"] for row in one.results] == scores[:6]
    again = searched(tmp_path, hypermodel=Scored(), max_trials=7, patience=2)
    assert [row["score"] for row in again.results] == scores[:6]


def test_piped_a_search_has_a_line_a_trial_and_none_where_it_is_asked_to_be_quiet(tmp_path, capsys):
    searched(tmp_path / "a", fit={**FIT, "verbose": 2}, max_trials=2)
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("[")]
    assert [line[:20] for line in lines] == ["[1/2] trial 0: val_l", "[2/2] trial 1: val_l"]
    searched(tmp_path / "b", max_trials=2)
    assert "trial" not in capsys.readouterr().out


SCRIPT = """
import json, sys
import keras, numpy as np
import search as keras_tuner

rng = np.random.default_rng(0)
x = rng.normal(size=(300, 8)).astype("float32")
y = (x[:, :3].sum(1) > 0).astype("float32")

def build(hp):
    model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(hp.Int("units", 2, 8), "relu"), keras.layers.Dense(1)])
    model.compile(keras.optimizers.Adam(hp.Float("rate", 1e-3, 1e-1, sampling="log")), "mse")
    return model

tuner = keras_tuner.Hyperband(build, "val_loss", max_epochs=9, seed=3, directory=sys.argv[1], workers=int(sys.argv[2]))
tuner.search(x[:200], y[:200], validation_data=(x[200:], y[200:]), verbose=0)
print(json.dumps([[row[key] for key in ("trial_id", "status", "score", "hyperparameters", "history")] for row in tuner.results]))
"""


def start(folder, workers):
    script = folder.parent / "script.py"
    script.write_text(SCRIPT)
    return subprocess.Popen(
        [sys.executable, script, folder, str(workers)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


@pytest.mark.slow
def test_a_script_without_a_guard_that_is_killed_ends_as_one_left_alone(tmp_path):
    alone = start(tmp_path / "alone", 2)
    printed = json.loads(alone.communicate(timeout=600)[0].splitlines()[-1])
    assert len(printed) > 15
    for kills in (2, 9):
        process = start(tmp_path / "killed", 2)
        while len(list((tmp_path / "killed").rglob("trial.json"))) < kills:
            assert process.poll() is None
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
    assert json.loads(start(tmp_path / "killed", 1).communicate(timeout=600)[0].splitlines()[-1]) == printed


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ({"workers": -1}, ValueError, "workers is -1; expected a whole number from 0"),
        ({"workers": True}, ValueError, "workers is True"),
        ({"workers": 1.5}, ValueError, "workers is 1.5"),
        ({"workers": 0, "cluster": "local"}, ValueError, "leave one of them out"),
        ({"max_seconds": 0}, ValueError, "max_seconds is 0"),
        ({"patience": 0}, ValueError, "patience is 0; expected a whole number of trials from 1"),
        ({"patience": 1.5}, ValueError, "patience is 1.5"),
        ({"max_seconds": "a minute"}, ValueError, "max_seconds is 'a minute'"),
        ({"objective": "val_unheard_of"}, ValueError, "Could not infer optimization direction"),
        ({"objective": 3}, TypeError, "`objective` not understood"),
        ({"hypermodel": 3}, keras_tuner.errors.FatalValueError, "hypermodel"),
        ({"hypermodel": None}, ValueError, "hypermodel=None"),
        ({"unheard_of": 3}, ValueError, "Unrecognized arguments"),
        ({"tune_new_entries": False}, ValueError, "tune_new_entries=False"),
        ({"allow_new_entries": False}, ValueError, "allow_new_entries=False"),
    ],
)
def test_wrong_arguments_are_refused_when_the_tuner_is_made(tmp_path, arguments, error, says):
    with pytest.raises(error, match=says.replace("(", r"\(")):
        tuner(tmp_path, **arguments)


@pytest.mark.parametrize(
    ("first", "says"),
    [({"unit": 3}, r"first\[0\]: unit, which is not in the space \(units, rate\)"), ({"units": 999}, "units is 999")],
)
def test_first_values_outside_the_space_are_refused(tmp_path, first, says):
    with pytest.raises(ValueError, match=says):
        searched(tmp_path, first=[first])


@pytest.mark.parametrize("kind", TUNERS)
def test_a_name_of_hyperband_s_own_is_refused(tmp_path, kind):
    def taking(hp):
        hp.Int("tuner/epochs", 1, 3)
        return build(hp)

    with pytest.raises(RequestError, match="tuner/epochs has the name of one of Hyperband's own"):
        searched(tmp_path, kind, taking)


def test_a_scope_called_tuner_keeps_its_values(tmp_path):
    def scoped(hp):
        with hp.name_scope("tuner"):
            return build(hp)

    one = searched(tmp_path, hypermodel=scoped)
    values = [row["hyperparameters"] for row in one.results]
    assert len({value["tuner/rate"] for value in values}) == 5
    read = read_project(tmp_path / "p")
    assert [trial.hyperparameters for trial in read.trials] == values


class Stopping:
    """Asked after every epoch of a job; true after so many."""

    def __init__(self, after):
        self.left = after

    def __call__(self):
        self.left -= 1
        return self.left == 0


def trained(folder, stops, hypermodel=build, executions=1):
    """The first trial of a search, run until it is not stopped: its outcome and the weights it keeps."""
    early = keras.callbacks.EarlyStopping("val_loss", patience=3)
    one = tuner(folder, hypermodel=hypermodel, executions_per_trial=executions)
    problem = one._problem((), {**FIT, "epochs": 5, "callbacks": [early]})
    asked = one.oracle.create_trial("tuner0")
    for after in (*stops, 0):
        job = one._job(copy.deepcopy(asked), 0)
        try:
            outcome = one.run_job(problem, job, Stopping(after))
        except search.training.Stopped:
            assert list(folder.rglob("state*.npz"))
            continue
        break
    kept = one._try_build(asked.hyperparameters)
    kept.load_weights(one._get_checkpoint_fname(asked.trial_id))
    return outcome, [weight.numpy() for weight in kept.weights]


@pytest.mark.filterwarnings("ignore:Skipping variable loading for optimizer")
def test_a_trial_interrupted_after_any_epoch_ends_as_one_left_alone_its_best_weights_included(tmp_path):
    def falling(hp):  # the best epoch is not the last
        model = build(hp)
        rate = keras.optimizers.schedules.PiecewiseConstantDecay([14, 21], [0.02, -0.5, 0.001])
        model.compile(keras.optimizers.SGD(rate), "mse")
        return model

    alone, weights = trained(tmp_path / "alone", (), falling)
    losses = alone.history["val_loss"]
    assert len(losses) == 5 > np.argmin(losses) + 1
    for stops in [(1,), (2,), (3,), (4,), (1, 1, 1, 1)]:
        outcome, kept = trained(tmp_path / "-".join(map(str, stops)), stops, falling)
        assert outcome.history == alone.history
        assert outcome.trial.metrics.get_config() == alone.trial.metrics.get_config()
        assert len(outcome.epoch_seconds) == 5 - sum(stops)  # what was trained is not trained again
        for one, other in zip(kept, weights, strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.filterwarnings("ignore:Skipping variable loading for optimizer")
def test_executions_interrupted_end_as_those_left_alone(tmp_path):
    alone, weights = trained(tmp_path / "alone", (), executions=2)
    first, second = alone.executions
    assert first != second
    outcome, kept = trained(tmp_path / "stopped", (7,), executions=2)
    assert outcome.executions == alone.executions
    for one, other in zip(kept, weights, strict=True):
        np.testing.assert_array_equal(one, other)


class Ending(search.HyperModel):
    """Its rate is beyond all bounds after so many epochs."""

    def build(self, hp):
        hp.Int("unused", 0, 99)
        model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(1)])
        rate = keras.optimizers.schedules.PiecewiseConstantDecay([hp.Choice("good", [0, 2]) * 7], [1e-3, 1e30])
        model.compile(keras.optimizers.SGD(rate), "mse")
        return model


@pytest.mark.filterwarnings("ignore:All-NaN")
def test_a_trial_is_scored_on_the_epochs_before_it_diverged_and_one_without_them_is_not(tmp_path):
    first = [{"good": 2}, {"good": 0}]
    for seed in (0, 0):  # the second time from the files
        one = tuner(tmp_path, hypermodel=Ending(), max_trials=2, first=first, max_retries_per_trial=1, seed=seed)
        one.search(**FIT, epochs=4)
        good, bad = one.results
        assert good["status"] == "COMPLETED"
        assert good["best_step"] <= 1
        (history,) = good["history"]
        assert len(history["loss"]) == 4
        assert not np.isfinite(history["loss"][-1])
        assert good["score"] == min(history["val_loss"][:2])
        assert bad["status"] == "FAILED"


class Own(search.RandomSearch):
    """A tuner with everything overridden that KerasTuner's guides override."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.hooks = []

    def on_trial_begin(self, trial):
        super().on_trial_begin(trial)
        self.hooks.append(f"begin {trial.trial_id}")

    def on_trial_end(self, trial):
        super().on_trial_end(trial)
        self.hooks.append(f"end {trial.trial_id}")

    def on_epoch_end(self, trial, model, epoch, logs=None):
        assert model.built
        Path(self.project_dir, f"epoch-{trial.trial_id}-{epoch}").write_text(str(logs["val_loss"]))

    def run_trial(self, trial, *args, **kwargs):
        kwargs["batch_size"] = trial.hyperparameters.Choice("batch", [20, 40, 80])
        return super().run_trial(trial, *args, **kwargs)


@pytest.mark.long
@pytest.mark.filterwarnings("ignore:Skipping variable loading for optimizer")
def test_two_workers_do_what_none_does_with_everything_at_once(tmp_path, capsys):
    def dynamic(hp):
        layers = [keras.layers.Dense(hp.Int(f"units_{k}", 2, 8), "relu") for k in range(hp.Int("layers", 1, 3))]
        model = keras.Sequential([keras.Input((8,)), *layers, keras.layers.Dense(1, "sigmoid")])
        model.compile(keras.optimizers.Adam(hp.Float("rate", 1e-3, 1e-1, sampling="log")), "binary_crossentropy")
        return model

    ends = []
    for workers in (0, 2):
        one = Own(
            dynamic,
            objective="val_loss",
            max_trials=4,
            executions_per_trial=2,
            seed=0,
            workers=workers,
            directory=str(tmp_path / str(workers)),
            project_name="p",
        )
        one.search(**FIT, epochs=2)
        assert sorted(one.hooks) == sorted(f"{what} {k}" for what in ("begin", "end") for k in range(4))
        assert len(list(Path(one.project_dir).glob("epoch-*"))) == 8
        ends.append(found(one))
    assert ends[0] == ends[1]
    rows = one.results
    assert all(len(row["history"]) == 2 and row["status"] == "COMPLETED" for row in rows)
    assert len({row["hyperparameters"]["batch"] for row in rows}) > 1
    for row in rows:  # the mean over executions of their best epochs
        assert row["score"] == pytest.approx(np.mean([min(history["val_loss"]) for history in row["history"]]))
    assert "<td>" in one._repr_html_()
    assert "units 0 = " in one.report().read_text(encoding="utf-8")
    frame = pytest.importorskip("pandas") and one.results_frame()
    assert list(frame["trial_id"]) == ["0", "1", "2", "3"]
    assert list(frame["hp.rate"]) == [row["hyperparameters"]["rate"] for row in rows]


class Extended(search.HyperModel):
    """Trains, gives the model further weights, and trains again."""

    def build(self, hp):
        return build(hp)

    def fit(self, hp, model, *args, **kwargs):
        history = model.fit(*args, **kwargs)
        model.layers[0].enable_lora(2)
        model.compile(keras.optimizers.SGD(10.0), "mse")
        model.fit(*args, **kwargs)
        return history


def test_weights_that_a_model_is_given_after_its_best_epoch_lose_neither_the_trial_nor_that_epoch(tmp_path):
    one = searched(tmp_path, hypermodel=Extended(), max_trials=2)
    assert {row["status"] for row in one.results} == {"COMPLETED"}
    best = one.get_best_models(1)[0]
    assert best.evaluate(FIT["x"], FIT["y"], verbose=0) > 0


def growing(hp):
    kind = hp.Choice("kind", ["a", "b"])
    with hp.conditional_scope("kind", ["a"]):
        if kind == "a":
            hp.Int("x", 1, 2)
    if kind == "b":
        hp.Int("y", 5, 6)
    model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    return model


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.long)])
def test_a_grid_that_grows_has_kerastuner_s_combinations(tmp_path, workers):
    """Those before the trial that declares a hyper-parameter were tried again with each of its values."""
    values = []
    for kind, given in ((search.GridSearch, {"workers": workers}), (keras_tuner.GridSearch, {})):
        one = kind(growing, "loss", directory=tmp_path / kind.__module__, **given)
        one.search(X, Y, verbose=0)
        values.append([one.oracle.trials[name].hyperparameters.values for name in sorted(one.oracle.trials)])
    assert values[0] == values[1]
    assert len(values[0]) == 4


class NamesAsTheLab(search.HyperModel):
    """Hyper-parameters that the exercises' trainer knows by name."""

    def build(self, hp):
        hp.Fixed("batch_size", 16)
        hp.Fixed("schedule", "cosine")
        return build(hp)

    def fit(self, hp, model, *args, **kwargs):
        history = super().fit(hp, model, *args, **kwargs)
        return {"val_loss": history.history["val_loss"][-1], "steps": int(model.optimizer.iterations.numpy())}


def test_a_hypermodel_of_the_library_trains_as_kerastuner_s_whatever_its_hyperparameters_are_called(tmp_path):
    one = searched(tmp_path, hypermodel=NamesAsTheLab(), max_trials=1)
    assert one.results[0]["metrics"]["steps"] == 2 * -(-len(FIT["x"]) // 32)


def test_a_search_with_conditional_scopes_goes_on_when_it_is_run_again(tmp_path):
    """What a scope depends on could be read from a trial's file once, and is read several times."""
    fit = {"x": X, "y": Y, "verbose": 0}
    searched(tmp_path / "part", "RandomSearch", growing, fit, objective="loss", max_trials=2)
    more = searched(tmp_path / "part", "RandomSearch", growing, fit, objective="loss", max_trials=4)
    whole = searched(tmp_path / "whole", "RandomSearch", growing, fit, objective="loss", max_trials=4)
    assert [row["hyperparameters"] for row in more.results] == [row["hyperparameters"] for row in whole.results]
    assert [row["score"] for row in more.results] == [row["score"] for row in whole.results]


class Counted(keras.metrics.Mean):
    def reset_state(self):
        super().reset_state()


class Counting(keras.Sequential):
    def reset_metrics(self):
        super().reset_metrics()


@pytest.mark.parametrize(("own", "said"), [("metric", "Counted.reset_state"), ("model", "Counting.reset_metrics")])
def test_what_runs_at_each_epoch_is_the_user_s_code_too(tmp_path, own, said):
    """It ran in workers: what it counts was each one's own, and the scores depended on their number."""

    def build(hp):
        layers = [keras.Input((8,)), keras.layers.Dense(hp.Int("units", 1, 3)), keras.layers.Dense(1)]
        model = Counting(layers) if own == "model" else keras.Sequential(layers)
        model.compile("sgd", "mse", weighted_metrics=[Counted(name="c")] if own == "metric" else None)
        return model

    one = tuner(tmp_path, hypermodel=build, workers=None)
    assert own_code(one, one._problem((), FIT)) == said


def test_a_metric_s_reset_is_not_called_to_see_what_it_does(tmp_path):
    """It was, with values that nobody had measured."""
    seen = []

    class Logs(keras.metrics.Mean):
        def reset_state(self):
            seen.append(float(self.result()))
            super().reset_state()

    def build(hp):
        model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(hp.Int("units", 1, 3)), keras.layers.Dense(1)])
        model.compile("sgd", "mse", metrics=[Logs(name="logs")])
        return model

    searched(tmp_path, hypermodel=build, max_trials=1)
    ours, seen[:] = list(seen), []
    keras_tuner.RandomSearch(build, "val_loss", max_trials=1, directory=str(tmp_path / "stock")).search(**FIT, epochs=2)
    assert len(ours) == len(seen)
    assert 1.0 not in ours
