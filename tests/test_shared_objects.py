"""Keras objects that are made outside ``build``: trials share them, and a worker's copy has to be the same or is not made."""

import keras
import numpy as np
import pytest

import search
from search.workers import sending
from search.workers.base import Unpicklable
from search.workers.trial import Problem
from tests.conftest import NEURON, run, write_exercise
from tests.test_tuner import FIT, found, tuner

L = keras.layers


class Focal(keras.losses.Loss):
    """A class of the user's, not registered, with an attribute that its configuration does not have."""

    gamma = 1.0

    def call(self, y_true, y_pred):
        return keras.ops.mean(self.gamma * keras.ops.square(y_true - y_pred), axis=-1)


def built_with(part=None, loss="mse"):
    def build(hp):
        layers = [] if part is None else [part]
        model = keras.Sequential([keras.Input((8,)), *layers, L.Dense(hp.Int("units", 2, 8, step=2)), L.Dense(1)])
        model.compile(keras.optimizers.Adam(0.01), loss)
        return model

    return build


def searched(folder, build, **arguments):
    one = tuner(folder, hypermodel=build, max_trials=3, **arguments)
    one.search(**{**FIT, "verbose": 1}, epochs=1)
    return one


def received(hypermodel):
    return sending.unpack(sending.pack(Problem("p", "d", hypermodel=hypermodel))).hypermodel


@pytest.mark.parametrize("loss", [Focal(), keras.losses.Huber(delta=3.0)])
def test_a_loss_has_all_of_its_attributes_in_a_worker(tmp_path, loss):
    """Keras pickles it by its configuration: an attribute that was set since was the class's again."""
    loss.gamma, loss.reduction = 1000.0, "sum"
    there = received(built_with(loss=loss)).__closure__[0].cell_contents
    assert (there.gamma, there.reduction, there.name) == (1000.0, "sum", loss.name)
    here = found(searched(tmp_path / "here", built_with(loss=loss), workers=0))
    assert found(searched(tmp_path / "there", built_with(loss=loss), workers=1)) == here


@pytest.mark.parametrize("workers", [None, 2])
def test_a_trainable_layer_that_trials_share_keeps_them_in_this_process(tmp_path, capsys, monkeypatch, workers):
    """Each worker fine-tuned a copy of its own: the scores depended on which trial ran where."""
    monkeypatch.setattr("search.tuner.searching.cores", lambda: 2)
    base = L.Dense(8, "tanh", name="base")
    base.build((None, 8))
    before = [value.copy() for value in base.get_weights()]
    here = found(searched(tmp_path / "here", built_with(base), workers=0))
    base.set_weights(before)
    assert found(searched(tmp_path / "more", built_with(base), workers=workers)) == here
    line = "Trials run in this process: the hypermodel holds base, a Dense made outside build, which trials share."
    assert line in capsys.readouterr().out


SHARED = {
    "variable": lambda: keras.Variable([1.0]),
    "frozen": lambda: keras.Sequential([keras.Input((8,)), L.Dense(2)], trainable=False),
    "optimizer": lambda: keras.optimizers.Adam(),
    "random": lambda: L.RandomFlip(),
    "batch norm": lambda: L.BatchNormalization(center=False, scale=False),
    "seed": lambda: keras.random.SeedGenerator(1),
    "tensor": lambda: keras.Input((8,)),
    "own attribute": lambda: with_attribute(L.Rescaling(0.5)),
}


def with_attribute(layer):
    layer.of_mine = object()
    return layer


@pytest.mark.parametrize("kind", SHARED)
def test_what_keeps_a_state_between_trials_is_not_sent(kind):
    part = SHARED[kind]()
    with pytest.raises(Unpicklable, match="made outside build, which trials share"):
        received(lambda hp: part)


def test_what_no_training_changes_is_sent_and_is_the_same():
    normalization = L.Normalization()
    normalization.adapt(FIT["x"])
    there = received(lambda hp: normalization)(None)
    np.testing.assert_array_equal(there.mean, normalization.mean)
    area = keras.metrics.AUC(num_thresholds=17)
    assert received(lambda hp: area)(None).num_thresholds == 17


def test_a_module_s_layer_is_not_made_anew_by_every_worker(tmp_path, monkeypatch):
    (tmp_path / "shared_base.py").write_text(
        "import keras\nbase = keras.layers.Dense(8, name='base')\nbase.build((None, 8))\n"
        "def build(hp):\n    model = keras.Sequential([keras.Input((8,)), base])\n    model.compile('sgd', 'mse')\n"
        "    return model\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    import shared_base

    with pytest.raises(Unpicklable, match="the module shared_base holds base, a Dense made outside build"):
        received(shared_base.build)
    with pytest.raises(search.errors.RequestError, match="leave cluster out"):
        searched(tmp_path, shared_base.build, cluster="local", workers=1)


def test_an_exercise_s_layer_made_outside_build_is_refused_in_one_line(tmp_path, small_data):
    """Every worker imports the script, and had a layer of its own with other weights."""
    shared = NEURON.replace("keras.layers.Dense(1, activation=", "base, keras.layers.Dense(1, activation=")
    script = write_exercise(tmp_path, shared)
    script.write_text("import keras\nbase = keras.layers.Dense(4, name='base')\n" + script.read_text())
    said = run(script, "search", "--max-epochs", 1, "--workers", 1, "--data", small_data, status=2)
    assert "holds base, a Dense made outside build, which trials share; make it in build, or give --workers 0" in said
    assert "Traceback" not in said
