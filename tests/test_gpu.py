"""On a GPU: one worker a GPU, memory as it is needed, the same results for one seed, XLA where it pays.

What needs a GPU is skipped where TensorFlow sees none.
"""

import os

os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")  # the searches below are other processes on the same card

import json
import re
import signal
import subprocess
import sys
import textwrap
import time

import keras
import numpy as np
import pytest
import tensorflow as tf

from search.training import data, program, xla
from search.training.fit import fit
from tests.preloaded import ROOT
from tests.test_training_fit import CLASS, REAL, X, assert_same, dense, trained

GPUS = tf.config.list_physical_devices("GPU")
needs_a_gpu = pytest.mark.skipif(not GPUS, reason="TensorFlow sees no GPU")
L = keras.layers

SCRIPT = """
import json, os, subprocess, sys
import keras, numpy as np, tensorflow as tf
import search as keras_tuner

folder, kind, options = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])


def build(hp):
    units = hp.Int("units", 8, 64)
    middle = {
        "dense": [keras.layers.Flatten(), keras.layers.Dense(units, "relu")],
        "dropout": [keras.layers.Flatten(), keras.layers.Dense(units, "relu"), keras.layers.Dropout(0.3)],
        "convolution": [
            keras.layers.Reshape((28, 28, 1)), keras.layers.Conv2D(8, 3, strides=2, use_bias=False),
            keras.layers.BatchNormalization(), keras.layers.ReLU(), keras.layers.Flatten(),
        ],
    }[kind]
    model = keras.Sequential(
        [keras.Input((28, 28)), keras.layers.Rescaling(1 / 255), *middle, keras.layers.Dense(10, "softmax")]
    )
    rate = hp.Float("learning_rate", 1e-3, 1e-1, sampling="log")
    model.compile(keras.optimizers.Adam(rate), "sparse_categorical_crossentropy", metrics=["accuracy"])
    used = subprocess.run(
        ["nvidia-smi", "--query-gpu=memory.used,memory.total", "--format=csv,noheader,nounits"],
        capture_output=True, text=True, check=True,
    ).stdout.split("\\n")[0].split(", ")
    gpus = tf.config.get_visible_devices("GPU")
    facts = {
        "process": os.getpid(), "gpus": len(gpus), "share": float(used[0]) / float(used[1]),
        "growth": [tf.config.experimental.get_memory_growth(gpu) for gpu in gpus],
        "weights_on": model.trainable_variables[0].value.device,
    }
    with open(folder + ".notes", "a") as notes:
        notes.write(json.dumps(facts) + "\\n")
    return model


with np.load(os.environ["IMAGES"]) as mnist:
    x, y = mnist["x_train"][:4000], mnist["y_train"][:4000]
tuner_of = getattr(keras_tuner, options.pop("tuner", "RandomSearch"))
arguments = {"epochs": options.pop("epochs")} if "epochs" in options else {}
tuner = tuner_of(build, "val_loss", seed=3, directory=folder, project_name="project", **options)
tuner.search(x, y, validation_split=0.2, batch_size=64, verbose=0, **arguments)
rows = [[row["trial_id"], row["status"], row["hyperparameters"], row["history"]] for row in tuner.results]
print("> process:", os.getpid())
print("> results:", json.dumps(rows))
"""


def command(folder, kind, **options):
    path = folder.parent / "search_on_a_gpu.py"
    path.write_text(textwrap.dedent(SCRIPT))
    return [sys.executable, str(path), str(folder), kind, json.dumps(options)]


def environment():
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    own = {"PYTHONPATH": path, "IMAGES": str(ROOT / "search" / "lab" / "mnist.npz")}
    return {name: value for name, value in os.environ.items() if name != "TF_FORCE_GPU_ALLOW_GROWTH"} | own


def searched(folder, kind, **options):
    """Runs a search in a process of its own; returns its trials and what ``build`` noted, the driver's notes last."""
    done = subprocess.run(
        command(folder, kind, **options), env=environment(), capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:] + done.stdout[-2000:]
    said = dict(re.findall(r"^> (\w+): (.*)$", done.stdout, flags=re.MULTILINE))
    notes = [json.loads(line) for line in folder.with_suffix(".notes").read_text().splitlines()]
    return json.loads(said["results"]), int(said["process"]), notes


def differences(one, other):
    """The largest relative difference of two searches' histories; 0 where they are the same bits."""
    assert [row[:3] for row in one] == [row[:3] for row in other]
    apart = 0.0
    for (*_, mine), (*_, theirs) in zip(one, other, strict=True):
        for a, b in zip(mine, theirs, strict=True):
            assert a.keys() == b.keys()
            for name, values in a.items():
                apart = max(apart, *(abs(p - q) / max(abs(q), 1e-9) for p, q in zip(values, b[name], strict=True)))
    return apart


SMALL = {"max_trials": 4, "epochs": 3}


@needs_a_gpu
def test_by_default_each_gpu_has_one_worker_that_takes_memory_as_it_needs_it(tmp_path):
    results, driver, notes = searched(tmp_path / "search", "dense", **SMALL)
    assert [row[1] for row in results] == ["COMPLETED"] * 4, results
    workers = [note for note in notes if note["process"] != driver]
    assert len({note["process"] for note in workers}) == min(len(GPUS), 4)
    assert all(note["gpus"] == 1 and note["growth"] == [True] and "GPU" in note["weights_on"] for note in workers), (
        notes
    )
    assert max(note["share"] for note in notes) < 0.5, notes


@needs_a_gpu
@pytest.mark.parametrize("kind", ["dense", "dropout", "convolution"])
def test_one_seed_gives_the_same_results_with_any_number_of_workers(kind, tmp_path):
    first, *_ = searched(tmp_path / "first", kind, **SMALL)
    again, *_ = searched(tmp_path / "again", kind, **SMALL)
    here, *_ = searched(tmp_path / "here", kind, workers=0, **SMALL)
    assert differences(first, again) == 0.0
    assert differences(first, here) < 0.05  # the sums of the user's own process are added up in any order


@needs_a_gpu
def test_a_search_that_is_killed_ends_as_one_that_is_not(tmp_path):
    options = {"tuner": "Hyperband", "max_epochs": 4, "factor": 2}
    whole, *_ = searched(tmp_path / "whole", "dense", **options)
    folder = tmp_path / "killed"
    process = subprocess.Popen(command(folder, "dense", **options), env=environment(), stdout=subprocess.DEVNULL)
    while process.poll() is None and len(list(folder.glob("project/trial_*/trial.json"))) < 3:
        time.sleep(0.02)
    assert process.poll() is None, "it ended before it was killed"
    process.send_signal(signal.SIGKILL)
    process.wait()
    on, *_ = searched(folder, "dense", **options)
    assert differences(whole, on) == 0.0


@keras.saving.register_keras_serializable("tests")
class Foreign(keras.layers.Layer):
    """A layer whose operation XLA does not compile."""

    def __init__(self, kind, **kwargs):
        super().__init__(**kwargs)
        self.kind = kind

    def call(self, inputs):
        if self.kind == "unique":
            values, _ = tf.unique(tf.reshape(tf.stop_gradient(inputs), [-1]))
            return inputs + 0.0 * tf.cast(tf.shape(values)[0], inputs.dtype)
        if self.kind == "where":
            chosen = tf.where(tf.abs(inputs) > 1e9)
            return inputs + tf.cast(tf.shape(chosen)[0], inputs.dtype)
        if self.kind == "python":
            outputs = tf.stop_gradient(tf.py_function(lambda x: x * 0.5, [inputs], inputs.dtype))
            outputs.set_shape(inputs.shape)
            return outputs
        if self.kind == "string":
            return inputs + tf.cast(tf.strings.length(tf.strings.as_string(inputs[:, :1])), inputs.dtype) * 0.0
        tf.print(tf.shape(inputs)[0], output_stream="file:///dev/null")
        return inputs


@needs_a_gpu
@pytest.mark.parametrize("kind", ["unique", "where", "python", "string", "print"])
@pytest.mark.parametrize("break_even", [0.0, xla.NEVER], ids=["XLA", "graph"])
def test_what_xla_cannot_compile_trains(kind, break_even, monkeypatch):
    program._shared.clear()
    monkeypatch.setattr(xla, "XLA_BREAK_EVEN", break_even)

    def make():
        return dense(Foreign(kind), jit_compile=False)

    assert_same(trained(fit, make, X, REAL), trained(keras.Model.fit, make, X, REAL), tolerance=2e-3)


@needs_a_gpu
@pytest.mark.parametrize("jit", [True, False], ids=["XLA", "graph"])
@pytest.mark.parametrize("kind", ["dense", "dropout", "batch", "both", "convolution", "half", "lstm"])
def test_it_ends_where_model_fit_ends(kind, jit):
    """Keras compiles its steps through XLA by default, and XLA's random numbers are not the graph's."""
    program._shared.clear()

    def make():
        middle = {
            "dense": [],
            "dropout": [L.Dropout(0.3)],
            "batch": [L.BatchNormalization()],
            "both": [L.Dropout(0.3), L.BatchNormalization()],
            "convolution": [L.Reshape((2, 3, 1)), L.Conv2D(4, 2), L.BatchNormalization(), L.Flatten()],
            "half": [L.Dense(8, "relu", dtype="mixed_float16"), L.Dense(4, dtype="float32")],
            "lstm": [L.Reshape((2, 3)), L.LSTM(4)],
        }[kind]
        return dense(*middle, jit_compile="auto" if jit else False)

    x, y = X[:64], REAL[:64]  # whole batches: a short one is the graph's
    assert_same(trained(fit, make, x, y), trained(keras.Model.fit, make, x, y), tolerance=1e-3)
    assert any(kind[0] == "xla" for kind, *_ in program._shared) == (jit and kind != "lstm")


@needs_a_gpu
def test_the_examples_are_on_the_gpu():
    """Else every epoch copies them there."""
    for array in (X, X.astype("uint8"), CLASS, np.asarray(REAL, "float64")):
        found = data.examples(array, CLASS, None)
        assert "GPU" in found.tensors[0].device, (array.dtype, [tensor.device for tensor in found.tensors])


@pytest.fixture
def as_on_a_gpu(monkeypatch):
    monkeypatch.setattr(xla, "on_a_gpu", lambda: True)
    monkeypatch.setattr(xla, "compiles_for_the_gpu", lambda: True)


def suited(*middle, jit_compile):
    """Whether XLA is thought to suit a model, by its graph."""
    model = dense(*middle, jit_compile=jit_compile)
    examples = data.examples(X, REAL, None, None, 16)
    return xla.suits(model, program.programs(model, examples).training(examples).operations, examples)


@pytest.mark.usefixtures("as_on_a_gpu")
def test_random_numbers_are_those_of_the_compiler_that_keras_takes():
    assert suited(L.Dropout(0.3), jit_compile=True)
    assert not suited(L.Dropout(0.3), jit_compile=False)
    assert suited(L.BatchNormalization(), jit_compile=False)


@pytest.mark.usefixtures("as_on_a_gpu")
@pytest.mark.filterwarnings("ignore:Gradients do not exist")  # Python's function has none
@pytest.mark.parametrize("kind", ["unique", "where", "python", "string", "print"])
def test_what_xla_cannot_compile_is_not_tried(kind):
    assert not suited(Foreign(kind), jit_compile=False)


@pytest.mark.usefixtures("as_on_a_gpu")
def test_xla_compiles_from_the_epoch_where_it_pays():
    model = dense(jit_compile=False)
    steps = int(xla.XLA_BREAK_EVEN_ON_A_GPU / 8 / 4)  # of 8 weights' worth: four and a half epochs pay, three do not
    assert xla.pays(model, steps, 1, (3, 9), xla.XLA_BREAK_EVEN) == xla.Pays(step=3)
    assert xla.pays(model, steps, 1, (3, 9), xla.NEVER) == xla.Pays()
    assert xla.pays(dense(jit_compile=True), steps, 1, (3, 9), xla.XLA_BREAK_EVEN) == xla.Pays(step=0)


def test_a_gpu_for_which_xla_lacks_parts_of_cuda_has_graphs(monkeypatch):
    def failing(*args, **kwargs):
        raise tf.errors.InternalError(None, None, "libdevice not found at ./libdevice.10.bc")

    monkeypatch.setattr(xla, "on_a_gpu", lambda: True)
    monkeypatch.setattr(tf, "function", lambda *args, **kwargs: failing)
    xla.compiles_for_the_gpu.cache_clear()
    try:
        assert not xla.may_suit(dense())
    finally:
        xla.compiles_for_the_gpu.cache_clear()
