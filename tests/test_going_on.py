"""A search that was stopped in some way and is gone on with: on the same tuner, after an edit, before anything had ended."""

import contextlib
import functools
import os
import subprocess
import sys
import textwrap

import keras
import keras_tuner
import numpy as np
import pytest

import search
from search.training import Stopped, TrainingPlan, planned
from search.workers import sending, settings, user_code
from search.workers.base import Unpicklable
from search.workers.trial import Problem
from tests.conftest import ROOT
from tests.test_tuner import FIT, TUNERS, X, Y, build, found, searched, tuner


@pytest.mark.parametrize("kind", TUNERS)
def test_ctrl_c_before_the_first_trial_has_ended_changes_no_trial(tmp_path, kind):
    """Hyperband had its rungs filled twice then, and random search drew other values."""

    def interrupted(hp):
        if breaks:
            raise KeyboardInterrupt
        return build(hp)

    breaks = []
    for _ in range(2):
        one = tuner(tmp_path / "again", kind, interrupted)
        breaks.append(True)
        with pytest.raises(KeyboardInterrupt):
            one.search(**FIT, **({} if kind == "Hyperband" else {"epochs": 2}))
        breaks.clear()
    assert found(searched(tmp_path / "again", kind, interrupted)) == found(searched(tmp_path / "alone", kind))


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.long)])
def test_a_search_that_failed_goes_on_when_it_is_called_again_on_the_same_tuner(tmp_path, workers):
    flag = tmp_path / "broken"

    def failing(hp):
        if flag.exists() and hp.get("units") > 2:
            raise search.errors.FatalError("mend me")
        return build(hp)

    one = tuner(tmp_path / "again", hypermodel=failing, workers=workers)
    flag.touch()
    with pytest.raises(search.errors.FatalError):
        one.search(**FIT, epochs=2)
    flag.unlink()
    one.search(**FIT, epochs=2)
    assert [row["status"] for row in one.results] == ["COMPLETED"] * 5
    assert [row["hyperparameters"] for row in one.results] == [
        row["hyperparameters"] for row in searched(tmp_path / "alone").results
    ]


def test_a_hyperparameter_that_build_declares_from_now_on_is_searched(tmp_path):
    def more(hp):
        hp.Float("drop", 0.0, 0.9)
        return build(hp)

    searched(tmp_path, max_trials=2)
    longer = searched(tmp_path, hypermodel=more, max_trials=6)
    assert len({row["hyperparameters"]["drop"] for row in longer.results[2:]}) > 2


def fit(folder, code, stop_after=None):
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    epochs = iter(range(1, 99))
    plan = TrainingPlan((1,), folder / "state.npz", {}, stopping=lambda: next(epochs) == stop_after, code=code)
    with planned(plan) as record:
        model.fit(X, Y, epochs=4, verbose=0)
    return record


def test_what_other_code_began_is_not_gone_on_with(tmp_path):
    for code in ("same", "other"):
        with pytest.raises(Stopped):
            fit(tmp_path / code, "same", stop_after=2)
        record = fit(tmp_path / code, code)
        assert len(record.history["loss"]) == 4
        assert len(record.epoch_seconds) == {"same": 2, "other": 4}[code]
        assert any("of other code" in note for note in record.notes) == (code == "other")


MINE = "RATE = 0.1\nOTHER = 1\n\n\ndef build(hp):\n    return RATE\n"


@pytest.fixture
def mine(tmp_path, monkeypatch):
    (tmp_path / "module_of_mine.py").write_text(MINE)
    monkeypatch.syspath_prepend(tmp_path)
    import module_of_mine

    yield module_of_mine
    del sys.modules["module_of_mine"]


def test_an_edit_is_seen_in_functions_and_in_what_they_name(mine, monkeypatch):
    before = user_code.digest()
    monkeypatch.setattr(mine, "OTHER", 2)
    assert user_code.digest() == before
    monkeypatch.setattr(mine, "RATE", 0.2)
    assert user_code.digest() != before


class WithRate(keras_tuner.HyperModel):
    scale = 1

    def __init__(self, rate):
        super().__init__()
        self.rate = rate

    def build(self, hp):
        return self.rate


def closing_over(rate):
    return lambda hp: rate


def decorated(function):
    @functools.wraps(function)
    def counted(hp):
        return function(hp)

    return counted


class Halved(keras.callbacks.Callback):
    by = 2


EDITED = {
    "a default argument": lambda: (lambda hp, rate=1: rate, lambda hp, rate=2: rate),
    "a keyword's default": lambda: (lambda hp, *, rate=1: rate, lambda hp, *, rate=2: rate),
    "what a function closes over": lambda: (closing_over(1), closing_over(2)),
    "what an object was made with": lambda: (WithRate(0.1), WithRate(0.2)),
    "a bound method's object": lambda: (WithRate(0.1).build, WithRate(0.2).build),
    "a class": lambda: (type("H", (), {"build": closing_over(1)}), type("H", (), {"build": closing_over(2)})),
    "a decorated function": lambda: (decorated(lambda hp: 1), decorated(lambda hp: 2)),
    "a partial": lambda: (functools.partial(max, 1), functools.partial(max, 2)),
    "an optimizer": lambda: (keras.optimizers.SGD(0.1), keras.optimizers.SGD(0.2)),
    "a loss": lambda: (keras.losses.Huber(0.1), keras.losses.Huber(0.2)),
    "a layer": lambda: (keras.layers.Dense(1), keras.layers.Dense(2)),
    "a metric": lambda: (keras.metrics.BinaryAccuracy(threshold=0.1), keras.metrics.BinaryAccuracy(threshold=0.2)),
    "a callback": lambda: (
        keras.callbacks.ReduceLROnPlateau(factor=0.1),
        keras.callbacks.ReduceLROnPlateau(factor=0.9),
    ),
    "a nested value": lambda: ({"a": [1, {2}]}, {"a": [1, {3}]}),
    "an array": lambda: (np.arange(3), np.arange(3)[::-1]),
    "an object of a library": lambda: (np.random.default_rng(1), np.random.default_rng),
    "what nobody can look at": lambda: (type("Shy", (), {"__array__": property(lambda self: 1 / 0)})(), None),
}


@pytest.mark.parametrize("edit", EDITED)
def test_an_edit_of_what_a_training_is_given_is_seen(edit):
    """A trial under way went on with the old loss, rate or callback, or with some of each."""
    before, after = EDITED[edit]()
    assert user_code.digest(before) != user_code.digest(after)
    assert (user_code.digest(before) == user_code.digest(before)) == (edit != "what nobody can look at")


def test_an_attribute_of_a_class_is_seen(monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "__file__", str(ROOT / "tests" / "test_going_on.py"))
    before = user_code.digest(Halved())
    monkeypatch.setattr(Halved, "by", 3)
    assert user_code.digest(Halved()) != before


def test_unchanged_code_is_the_same_in_another_process(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent("""
        import keras
        import search as keras_tuner
        from search.workers import user_code

        class Mine(keras_tuner.HyperModel):
            def __init__(self, names):
                self.names, self.loss = names, keras.losses.Huber(0.3)
                self.metric, self.optimizer = keras.metrics.AUC(), keras.optimizers.Adam(0.1)
                self.layer = keras.layers.LSTM(3)

            def build(self, hp):
                return [name for name in self.names if name in {"a", "b", "c"}]

        tuner = keras_tuner.RandomSearch(Mine({"x", "y", "z"}), "val_loss", directory="d", loss="mse")
        callbacks = [keras.callbacks.EarlyStopping(patience=2), keras.callbacks.LambdaCallback(on_epoch_end=lambda *a: 1)]
        print(tuner._problem((), {"callbacks": callbacks}).code)
        """)
    )
    found = set()
    for seed in ("1", "2"):
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": seed}
        found.add(
            subprocess.run(
                [sys.executable, script], env=environment, cwd=tmp_path, capture_output=True, check=True
            ).stdout
        )
    assert len(found) == 1


def test_a_module_whose_file_was_edited_since_is_not_imported_by_a_worker(mine, tmp_path):
    file = tmp_path / "module_of_mine.py"
    problem = Problem("p", "d", hypermodel=mine.build, tuner=object())
    file.write_text("# a comment\n" + MINE)
    assert user_code.changed() == ""
    file.write_text(MINE.replace("return RATE", "return 2 * RATE"))
    with pytest.raises(Unpicklable, match="the file of the module module_of_mine has changed since it was imported"):
        sending.pack(problem)


def test_what_was_set_in_the_environment_since_reaches_the_workers(tmp_path, monkeypatch):
    def scaled(hp):
        model = build(hp)
        model.compile("sgd", keras.losses.MeanSquaredError(), loss_weights=float(os.environ["SCALE"]))
        return model

    scores = []
    for scale in ("1", "0"):
        monkeypatch.setenv("SCALE", scale)
        scores.append(searched(tmp_path / scale, hypermodel=scaled, max_trials=1, workers=1).results[0]["score"])
    assert scores[0] > 0 == scores[1]


def test_a_registered_class_is_saved_under_its_whole_name_by_a_worker():
    """It is registered anew there."""

    @keras.saving.register_keras_serializable("mine", "Own")
    class Other(keras.layers.Layer):
        pass

    sent = settings.current()
    from keras.src.saving import object_registration

    del object_registration.GLOBAL_CUSTOM_NAMES[Other]
    settings.use(sent)
    assert keras.saving.get_registered_name(Other) == "mine>Own"
    del keras.saving.get_custom_objects()["mine>Own"], object_registration.GLOBAL_CUSTOM_NAMES[Other]


@pytest.mark.parametrize("name", ["keras.activations.relu", "keras.ops.tanh", "tensorflow.nn.silu"])
def test_a_function_of_keras_or_tensorflow_that_was_replaced_is_named(name, monkeypatch):
    assert settings.replaced() == ""
    monkeypatch.setattr(name, lambda x: x)
    assert settings.replaced() == name


@pytest.mark.parametrize(
    "callback", [keras.callbacks.ModelCheckpoint, keras.callbacks.CSVLogger, keras.callbacks.BackupAndRestore]
)
def test_a_callback_with_one_file_for_all_trials_keeps_them_in_this_process(callback, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("search.tuner.searching.cores", lambda: 2)
    one = tuner(tmp_path, workers=None, max_trials=1)
    one.search(**{**FIT, "verbose": 1}, epochs=1, callbacks=[callback(str(tmp_path / "one.keras"))])
    line = f"in this process, since the callback {callback.__name__} writes one file for all trials; workers=N runs"
    assert line in capsys.readouterr().out
    assert one.results[0]["status"] == "COMPLETED"


@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.long)])
def test_a_search_leaves_numpy_s_random_numbers_where_they_are(tmp_path, workers):
    np.random.seed(42)  # noqa: NPY002
    drawn = np.random.random()  # noqa: NPY002
    np.random.seed(42)  # noqa: NPY002
    searched(tmp_path, max_trials=2, workers=workers)
    assert np.random.random() == drawn  # noqa: NPY002


def test_a_layer_that_no_training_changes_is_sent_after_a_model_has_used_it(tmp_path, capsys):
    normalization = keras.layers.Normalization()
    normalization.adapt(X)

    def normalised(hp):
        layers = [keras.Input((8,)), normalization, keras.layers.Dense(hp.Int("units", 2, 8)), keras.layers.Dense(1)]
        model = keras.Sequential(layers)
        model.compile("sgd", "mse")
        return model

    one = searched(tmp_path, hypermodel=normalised, fit={**FIT, "verbose": 1}, max_trials=2, workers=1)
    assert "in this process" not in capsys.readouterr().out
    here = searched(tmp_path / "here", hypermodel=normalised, max_trials=2)
    assert found(one) == found(here)


def test_first_takes_what_build_declares_for_these_values_only(tmp_path):
    def looped(hp):
        model = keras.Sequential([keras.Input((8,))])
        for i in range(hp.Int("layers", 1, 3)):
            model.add(keras.layers.Dense(hp.Int(f"units_{i}", 4, 64)))
        model.add(keras.layers.Dense(1))
        model.compile("sgd", "mse")
        return model

    chosen = {"layers": 2, "units_0": 16, "units_1": 8}
    one = searched(tmp_path, hypermodel=looped, first=[chosen], max_trials=2)
    assert one.results[0]["hyperparameters"] == chosen
    with pytest.raises(ValueError, match=r"first\[0\]: layers is 9, which the space does not contain; expected 1 to 3"):
        searched(tmp_path / "wrong", hypermodel=looped, first=[{"layers": 9}])


def test_workers_draw_no_bars_and_a_search_says_why_it_stopped(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(
            """
            import numpy as np
            import search
            from tests.test_tuner import X, Y, build

            tuner = search.RandomSearch(build, "val_loss", max_trials=90, seed=0, workers=1, max_seconds=0.5)
            tuner.search(X, Y, validation_split=0.2)
            """
        )
    )
    said = subprocess.run(
        [sys.executable, script],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        cwd=tmp_path,
        text=True,
        capture_output=True,
    )
    assert said.returncode == 0, said.stderr
    assert "Epoch" not in said.stdout
    assert "trial 00: val_loss" in said.stdout
    assert "Stopped after 0.5 s (max_seconds): " in said.stdout.splitlines()[-1]


def test_packages_that_were_installed_elsewhere_are_not_the_user_s(tmp_path):
    """TensorFlow in such a folder was taken for a module of the user's, and no worker started."""
    (tmp_path / "packages" / "foreign-1.0.dist-info").mkdir(parents=True)
    (tmp_path / "packages" / "foreign.py").write_text("def of_another():\n    pass\n")
    (tmp_path / "own.py").write_text("def of_mine():\n    pass\n")
    asked = "import foreign, own; from search.workers import modules; print(*(modules.is_own(one.__name__, one) for one in (foreign, own)))"
    path = os.pathsep.join(map(str, (tmp_path / "packages", tmp_path, ROOT)))
    environment = {**os.environ, "PYTHONPATH": path}
    said = subprocess.run([sys.executable, "-c", asked], env=environment, text=True, capture_output=True, check=True)
    assert said.stdout.split() == ["False", "True"]


class StopsAfter(keras_tuner.HyperModel):
    """Models as ``build`` makes them, so many of them; then Ctrl-C."""

    def __init__(self, models):
        super().__init__()
        self.left = models

    def build(self, hp):
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt
        return build(hp)


# KerasTuner loads weights into a model whose optimizer has no variables yet
@pytest.mark.filterwarnings("ignore:Skipping variable loading", "ignore:A total of 1 objects could not be loaded")
@pytest.mark.parametrize(
    "trials", [0, 1, 8, 17, *(pytest.param(trials, marks=pytest.mark.slow) for trials in (5, 11, 14, 30))]
)
def test_a_hyperband_of_kerastuner_s_is_gone_on_with_from_any_trial(tmp_path, trials):
    """It makes brackets when it needs them and drops those that are complete: ours were looked for, and a traceback came."""
    arguments = {"objective": "val_loss", "max_epochs": 4, "factor": 2, "hyperband_iterations": 2, "seed": 0}
    place = {"directory": str(tmp_path), "project_name": "p"}
    stock = keras_tuner.Hyperband(StopsAfter(trials + 1), **arguments, **place)  # one is built for the space
    with contextlib.suppress(KeyboardInterrupt):
        stock.search(**FIT)
    one = search.Hyperband(build, **arguments, workers=0, **place)
    planned = one.oracle.planned
    one.search(**FIT)
    ended = one.oracle.trials.values()
    assert [trial.message for trial in ended if trial.status != "COMPLETED"] == []
    assert len(one.oracle.trials) == planned
    own = search.Hyperband(build, **arguments, workers=0, directory=str(tmp_path / "own"), project_name="p")
    assert len(ended) >= own.oracle.planned  # KerasTuner rounds its rungs up
    for trial in ended:
        values = trial.hyperparameters.values
        if "tuner/trial_id" in values:
            below = one.oracle.trials[values["tuner/trial_id"]].hyperparameters.values
            assert below["tuner/epochs"] == values["tuner/initial_epoch"]
    again = search.Hyperband(build, **arguments, workers=0, **place)
    again.search(**FIT)
    assert set(again.oracle.trials) == set(one.oracle.trials)


@pytest.mark.parametrize("changed", [{"max_epochs": 6}, {"factor": 3}])
def test_a_hyperband_with_other_epochs_begins_its_brackets_anew_and_says_so(tmp_path, capsys, changed):
    before = searched(tmp_path, "Hyperband")
    after = searched(tmp_path, "Hyperband", fit={**FIT, "verbose": 1}, **changed)
    assert f"Changed since this project's trials: {next(iter(changed))}" in capsys.readouterr().out
    assert {row["trial_id"]: row["score"] for row in before.results}.items() <= {
        row["trial_id"]: row["score"] for row in after.results
    }.items()
    fresh = searched(tmp_path / "fresh", "Hyperband", **changed)
    assert len(after.results) == len(before.results) + len(fresh.results)
    epochs = [len(row["history"][0]["loss"]) for row in after.results[len(before.results) :]]
    assert max(epochs) == after.oracle.max_epochs
