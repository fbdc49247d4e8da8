"""What a script has set for its process holds where its trials run, and its modules are there as they are here."""

import functools
import importlib.util
import os
import subprocess
import sys
import textwrap
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf

from search.workers import modules, settings
from search.workers.base import cores
from tests.conftest import ROOT

SCRIPT = """
import sys, warnings
import keras, numpy as np, tensorflow as tf
import search as keras_tuner
import shape
{before}

def build(hp):
    rate = hp.Float("rate", 0.01, 0.1)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(shape.units()), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(rate), "mse")
    seen = [keras.config.floatx(), keras.config.epsilon(), keras.config.image_data_format(), model.dtype,
            tf.config.optimizer.get_jit(), shape.SETTINGS["units"], warnings.filters[0][0],
            "mine>Own" in keras.saving.get_custom_objects()]
    sys.stdout.write("SEEN " + str(seen) + chr(10))  # in one piece: two workers print at once
    sys.stdout.flush()
    return model

x = np.arange(80.0).reshape(20, 4).astype("float32") / 80
tuner = keras_tuner.RandomSearch(build, "val_loss", max_trials=2, seed=1, directory=sys.argv[1], {workers})
tuner.search(x, x[:, :1], epochs=3, validation_data=(x, x[:, :1]), verbose={verbose})
print("FOUND", [(row["score"], len(row["history"][0]["loss"])) for row in tuner.results])
"""
SET = """
keras.config.set_floatx("float64")
keras.config.set_epsilon(0.3)
keras.config.set_image_data_format("channels_first")
keras.config.set_max_epochs(2)
tf.config.optimizer.set_jit(True)
warnings.filterwarnings("once")
shape.SETTINGS["units"] = 3
@keras.saving.register_keras_serializable("mine")
class Own(keras.layers.Layer):
    pass
"""
SHAPE = """
SETTINGS = {"units": 7}
def units():
    return SETTINGS["units"]
"""
# Everything by which a module may have changed by the time that trials run, and what build itself changes on it.
CONFIG = """
import threading
LOCK, MISSING = threading.Lock(), object()
rate = 0.5
class Options:
    units = 7
    def scale(self):
        return 1
options = Options()
def told(value=MISSING):
    return value is MISSING
def network():
    import keras
    with LOCK:
        assert told()
    layers = [keras.layers.Dense(Options.units), keras.layers.Dense(options.width), keras.layers.Dense(1)]
    model = keras.Sequential([keras.Input((4,)), *layers])
    model.compile(keras.optimizers.SGD(rate * options.scale() * factor()), "mse")
    return model
def factor():
    return 1
"""
CHANGING = """
import sys
import numpy as np
import config
from config import options
import search as keras_tuner

config.rate = 0.01
config.Options.units = 3
config.Options.scale = lambda self: 0.5
config.factor = lambda: 0.25
options.width = 2

def build(hp):
    options.width = hp.Int("width", 4, 5)
    import config as again
    model = again.network()
    seen = model.count_params() - options.width, round(float(model.optimizer.learning_rate), 6)
    sys.stdout.write("SEEN " + " ".join(map(str, seen)) + chr(10))
    sys.stdout.flush()
    return model

x = np.arange(80.0).reshape(20, 4).astype("float32") / 80
tuner = keras_tuner.GridSearch(build, "val_loss", max_trials=4, seed=1, directory=sys.argv[1], workers={workers})
tuner.search(x, x[:, :1], epochs=1, validation_data=(x, x[:, :1]), verbose=0)
print("FOUND", [row["status"] for row in tuner.results])
"""


def said(tmp_path, name, before, workers, verbose=0):
    script = SCRIPT.format(before=textwrap.dedent(before), workers=workers, verbose=verbose)
    return printed_by(tmp_path / name, script, shape=SHAPE)


def printed_by(folder, script, **modules):
    """What a program printed: its lines of what was seen, of what was found, and all of it."""
    folder.mkdir()
    for module, text in modules.items():
        (folder / f"{module}.py").write_text(text)
    (folder / "program.py").write_text(script)
    command = [sys.executable, "program.py", str(folder / "project")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
    ran = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
    assert ran.returncode == 0, ran.stderr
    lines = ran.stdout.splitlines()
    found = [line for line in lines if line.startswith("FOUND")]
    return {line for line in lines if line.startswith("SEEN")}, found, ran.stdout


@pytest.mark.long
def test_settings_of_the_process_and_its_modules_variables_reach_the_workers(tmp_path):
    here, found, _ = said(tmp_path, "here", SET, "workers=0")
    there, found_there, _ = said(tmp_path, "there", SET, "workers=2")
    assert here == there == {"SEEN ['float64', 0.3, 'channels_first', 'float64', 'autoclustering', 3, 'once', True]"}
    assert found == found_there
    assert ", 2)" in found[0]  # epochs: as many as Keras was told at most


@pytest.mark.long
def test_modules_are_in_workers_what_the_script_and_build_have_made_of_them(tmp_path):
    """Variables, attributes of classes and functions that were replaced, and objects that a module and the script share."""
    here, found, _ = printed_by(tmp_path / "here", CHANGING.format(workers=0), config=CONFIG)
    there, found_there, _ = printed_by(tmp_path / "there", CHANGING.format(workers=2), config=CONFIG)
    assert there == here
    assert {line.split()[-1] for line in here} == {"0.00125"}
    assert found == found_there == ["FOUND ['COMPLETED', 'COMPLETED']"]


@pytest.mark.parametrize(
    ("before", "name"),
    [
        (
            "Dense = keras.layers.Dense\nDense.call = (lambda call: lambda self, x: 2 * call(self, x))(Dense.call)",
            "Dense.call",
        ),
        (
            "class Model(keras.Sequential):\n    def train_step(self, data):\n        return super().train_step(data)\n"
            "keras.Sequential = Model",
            "Model.train_step",
        ),
    ],
    ids=["a replaced method", "a step of the model's own"],
)
def test_where_the_user_s_code_runs_in_a_step_trials_run_here_and_a_line_says_why(tmp_path, before, name):
    _, _, printed = said(tmp_path, "there", before, "overwrite=False", verbose=2)
    if cores() > 1:
        assert f"Trials run in this process, since {name} is code of yours" in printed


def test_using_one_s_own_settings_changes_none():
    before = settings.current()
    with warnings.catch_warnings():
        settings.use(before)
        after = settings.current()
    assert (after.of_keras, after.of_tensorflow) == (before.of_keras, before.of_tensorflow)
    assert [(one[0], one[2]) for one in after.warnings] == [(one[0], one[2]) for one in before.warnings]
    assert settings.replaced() == ""


def test_a_method_replaced_on_a_class_of_keras_s_is_named(monkeypatch):
    monkeypatch.setattr(keras.layers.Dropout, "call", lambda self, x, training=False: x)
    assert settings.replaced() == "Dropout.call"


def test_a_module_that_a_worker_could_not_import_is_not_sent(tmp_path, monkeypatch):
    """TensorFlow runs what it generates from a file in the temporary folder: workers ended in ModuleNotFoundError."""
    path = tmp_path / "generated_by_nobody.py"
    path.write_text("VALUE = 3\n")
    spec = importlib.util.spec_from_file_location("generated_by_nobody", path)
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    monkeypatch.setitem(sys.modules, "generated_by_nobody", made)
    assert not [place for place in modules.variables(lambda place, value: True) if place[0] == "generated_by_nobody"]
    monkeypatch.syspath_prepend(tmp_path)
    assert modules.variables(lambda place, value: True)["generated_by_nobody", "", "VALUE"] == 3


def swapped(monkeypatch, owner, name, value):
    assert settings.replaced() == ""
    monkeypatch.setattr(owner, name, value)
    return settings.replaced()


@pytest.mark.parametrize(
    "owner",
    [
        keras.initializers.GlorotUniform,
        keras.regularizers.L2,
        keras.constraints.NonNeg,
        keras.optimizers.schedules.ExponentialDecay,
    ],
)
def test_a_replaced_method_of_what_layers_are_made_of_is_seen(monkeypatch, owner):
    """Workers had Keras's: other scores than in one process, and no line."""
    assert swapped(monkeypatch, owner, "__call__", lambda self, *args, **kwargs: 0.0) == f"{owner.__name__}.__call__"


def test_a_partial_in_the_place_of_a_class_is_seen(monkeypatch):
    zeros = functools.partial(keras.layers.Dense, kernel_initializer="zeros")
    assert swapped(monkeypatch, keras.layers, "Dense", zeros).endswith("layers.Dense")


def test_what_looks_at_each_operation_is_seen():
    tf.debugging.enable_check_numerics()
    try:
        assert "enable_check_numerics" in settings.replaced()
    finally:
        tf.debugging.disable_check_numerics()
    assert settings.replaced() == ""


def test_numpy_s_way_with_errors_and_a_policy_of_one_s_own_are_settings():
    class Own(keras.DTypePolicy):
        pass

    before = settings.current()
    try:
        with np.errstate(all="raise"):
            keras.config.set_dtype_policy(Own("float16"))
            there = settings.current()
        settings.use(before)
        assert (np.geterr(), type(keras.config.dtype_policy())) == (before.numpy_errors, keras.DTypePolicy)
        settings.use(there)
        assert set(np.geterr().values()) == {"raise"}
        assert isinstance(keras.config.dtype_policy(), Own)
    finally:
        settings.use(before)
