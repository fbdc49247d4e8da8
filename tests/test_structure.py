"""Programs are shared by models that differ in the values of variables alone, and training through one is exact."""

import random

import keras
import numpy as np
import pytest
import tensorflow as tf

from search.training import compiled, trial
from search.training.structure import structure
from tests.conftest import NEURON, write_exercise

L = keras.layers


def network(*middle, optimizer=None, loss="sparse_categorical_crossentropy", metrics=("accuracy",), outputs=10):
    model = keras.Sequential([keras.Input((28, 28)), L.Rescaling(1 / 255), L.Flatten(), *middle, L.Dense(outputs)])
    model.compile(optimizer or keras.optimizers.Adam(0.001), loss=loss, metrics=list(metrics))
    return model


def functional(swap=False):
    inputs = keras.Input((8,))
    a, b = L.Dense(4)(inputs), L.Dense(4, use_bias=False)(inputs)
    model = keras.Model(inputs, L.Subtract()([b, a] if swap else [a, b]))
    model.compile("sgd", loss="mse")
    return model


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (lambda: network(L.Dense(8)), lambda: network(L.Dense(8, name="renamed"))),
        (lambda: network(L.Dense(8)), lambda: network(L.Dense(8), optimizer=keras.optimizers.Adam(0.5))),
        (lambda: network(L.Dense(8)), lambda: network(L.Dense(8, kernel_initializer="zeros"))),
        (lambda: network(L.Dropout(0.5)), lambda: network(L.Dropout(0.5, seed=3))),
        (functional, functional),
    ],
    ids=["names", "learning rate", "initial weights", "seed", "functional"],
)
def test_shared(one, other):
    assert structure(one()) is not None
    assert structure(one()) == structure(other())


class OwnLayer(L.Dense):
    """Not Keras's: what its call does is not in its configuration."""


class OwnModel(keras.Sequential):
    """May have a train_step of its own."""


def own_model():
    model = OwnModel([keras.Input((8,)), L.Dense(1)])
    model.compile("sgd", loss="mse")
    return model


@pytest.mark.parametrize(
    "other",
    [
        lambda: network(L.Dense(9, activation="relu")),
        lambda: network(L.Dense(8, activation="tanh")),
        lambda: network(L.Dense(8, activation="relu"), optimizer=keras.optimizers.Adam(0.001, beta_1=0.8)),
        lambda: network(L.Dense(8, activation="relu"), optimizer=keras.optimizers.SGD(0.001)),
        lambda: network(L.Dense(8, activation="relu"), optimizer=keras.optimizers.Adam(0.001, clipnorm=1.0)),
        lambda: network(
            L.Dense(8, activation="relu"), loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        ),
        lambda: network(L.Dense(8, activation="relu"), metrics=()),
        lambda: network(L.Dense(8, activation="relu"), L.Dropout(0.1)),
        lambda: network(L.Dense(8, activation="relu", kernel_regularizer="l2")),
        lambda: network(L.Dense(8, activation="relu", name="tanh"), L.Dense(8, activation="tanh")),
    ],
)
def test_not_shared(other):
    assert structure(other()) != structure(network(L.Dense(8, activation="relu")))


def test_a_layer_named_as_an_activation_confuses_nothing():
    one = network(L.Dense(8, name="relu"), L.Dense(8, activation="relu"))
    assert structure(one) != structure(network(L.Dense(8, name="tanh"), L.Dense(8, activation="tanh")))


def test_the_order_of_inputs_counts():
    assert structure(functional()) != structure(functional(swap=True))


@pytest.mark.parametrize(
    "make",
    [
        own_model,
        lambda: network(OwnLayer(8)),
        lambda: network(L.Lambda(lambda x: x * 2)),
        lambda: network(loss=lambda y, p: keras.ops.mean(p)),
        lambda: network(L.Dense(8, activation=lambda x: x * 2)),
    ],
    ids=["model", "layer", "lambda", "loss", "activation"],
)
def test_what_a_configuration_cannot_tell_is_not_shared(make):
    assert structure(make()) is None


def test_what_an_optimizer_s_configuration_does_not_hold_is_not_shared():
    models = []
    for spared in ([], ["bias"]):
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
        optimizer = keras.optimizers.AdamW()
        optimizer.exclude_from_weight_decay(var_names=spared)
        model.compile(optimizer, loss="mse")
        models.append(structure(model))
    assert models[0] is not None
    assert models[1] is None


def test_a_state_of_a_longer_training_is_not_taken_for_a_shorter_one(tmp_path, small_data):
    """A retraining of 50 epochs reported the figures of 100."""
    one = trial.Trainer(write_exercise(tmp_path, NEURON), str(small_data))

    def run(epochs):
        state = tmp_path / "state.npz"
        return one.run(trial.Job("a", {"batch_size": 512, "learning_rate": 0.1}, (0, 1), epochs, (epochs,), state))

    long, short = run(3), run(2)
    assert len(short.history["loss"]) == 2
    assert "state.npz belongs to" in short.message
    assert short.history["loss"] == long.history["loss"][:2]


DROPOUT = """
hp.Choice("batch_size", [64, 256])
rate = hp.Float("learning_rate", 1e-3, 1.0, sampling="log")
layers = [keras.layers.Rescaling(1 / 255), keras.layers.Flatten(), keras.layers.Dense(8, "relu"), keras.layers.Dropout(0.2)]
model = keras.Sequential([keras.Input((28, 28)), *layers, keras.layers.Dense(1, activation="sigmoid")])
model.compile(keras.optimizers.Adam(rate), loss="binary_crossentropy", metrics=["accuracy"])
return model
"""


@pytest.mark.parametrize("build", [NEURON, DROPOUT], ids=["plain", "dropout"])
def test_a_promoted_trial_on_a_shared_program_ends_bit_for_bit_where_it_does_on_its_own(
    tmp_path, small_data, build, monkeypatch
):
    monkeypatch.setattr(compiled, "XLA_BREAK_EVEN", 300)  # some of the trials through XLA
    script = write_exercise(tmp_path, build)
    values = [(64, 0.1), (256, 0.01), (64, 0.02), (256, 0.3)]

    def jobs(folder, epochs, resume_from=None):
        return [
            trial.Job(
                f"{i}",
                {"batch_size": batch, "learning_rate": rate},
                (0, i),
                epochs,
                (1, 3),
                tmp_path / folder / f"{i}.npz",
                None if resume_from is None else tmp_path / resume_from / f"{i}.npz",
            )
            for i, (batch, rate) in enumerate(values)
        ]

    one = trial.Trainer(script, str(small_data))
    for job in jobs("first", 1):
        one.run(job)
    assert len(one._models) == 1
    monkeypatch.setattr(trial, "build", None)  # a promotion finds its model
    shared = [one.run(job) for job in jobs("shared", 3, resume_from="first")]
    monkeypatch.undo()
    monkeypatch.setattr(compiled, "XLA_BREAK_EVEN", 300)
    for job, outcome in zip(jobs("own", 3), shared, strict=True):
        assert trial.Trainer(script, str(small_data)).run(job).history == outcome.history
        with np.load(tmp_path / "own" / job.state.name) as own, np.load(tmp_path / "shared" / job.state.name) as mine:
            assert all((own[name] == mine[name]).all() for name in own.files if name != "header")


def test_a_fit_that_draws_draws_the_same_whether_or_not_a_model_was_built_before_it(tmp_path, small_data, monkeypatch):
    script = write_exercise(tmp_path, NEURON)
    drawn = []

    def drawing_fit(*args, fit=compiled.fit, **kwargs):
        drawn.append(random.random())
        return fit(*args, **kwargs)

    def job(name, seed, epochs, resume_from=None):
        return trial.Job(
            name,
            {"batch_size": 128, "learning_rate": 0.1},
            (0, seed),
            epochs,
            (1, 3),
            tmp_path / f"{name}.npz",
            resume_from,
        )

    monkeypatch.setattr(compiled, "fit", drawing_fit)
    one, another = trial.Trainer(script, str(small_data)), trial.Trainer(script, str(small_data))
    one.run(job("first", 1, 1))
    one.run(job("first of another seed", 2, 1))
    one.run(job("promoted", 1, 3, tmp_path / "first.npz"))
    another.run(job("promoted elsewhere", 1, 3, tmp_path / "first.npz"))
    assert drawn[2] == drawn[3] != drawn[1]


def test_tensorflow_draws_the_same_numbers_for_the_same_seed_however_often_it_is_seeded():
    def drawn(*seed):
        trial._seed(seed)
        return [float(tf.random.uniform(())), float(keras.random.uniform(())), random.random()]

    one, other, again = drawn(0, 1), drawn(0, 2), drawn(0, 1)
    trial._seed((0, 2))
    assert drawn(0, 1) == again == one
    assert not set(one) & set(other)
