"""Programs are shared by models that differ in the values of variables alone, and training through one is exact."""

import random

import keras
import pytest
import tensorflow as tf

from search.lab import data, exercise, session
from search.training import compiled, seed_everything
from search.training.structure import structure
from search.workers import trial
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


def problem_of(script, source):
    return session.problem(exercise.load(script), data.load(str(source)))


def test_a_state_of_a_longer_training_is_not_taken_for_a_shorter_one(tmp_path, small_data):
    """A retraining of 50 epochs reported the figures of 100."""
    problem = problem_of(write_exercise(tmp_path, NEURON), small_data)

    def run(epochs):
        state = tmp_path / "state.npz"
        return trial.run(
            problem, trial.Job("a", {"batch_size": 512, "learning_rate": 0.1}, (0, 1), epochs, (epochs,), state)
        )

    long, short = run(3), run(2)
    assert len(short.history["loss"]) == 2
    assert "state.npz belongs to" in short.message
    assert short.history["loss"] == long.history["loss"][:2]


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
    problem = problem_of(script, small_data)
    trial.run(problem, job("first", 1, 1))
    trial.run(problem, job("first of another seed", 2, 1))
    trial.run(problem, job("promoted", 1, 3, tmp_path / "first.npz"))
    trial.run(problem, job("promoted elsewhere", 1, 3, tmp_path / "first.npz"))
    assert drawn[2] == drawn[3] != drawn[1]


def test_tensorflow_draws_the_same_numbers_for_the_same_seed_however_often_it_is_seeded():
    def drawn(*seed):
        seed_everything(seed)
        return [float(tf.random.uniform(())), float(keras.random.uniform(())), random.random()]

    one, other, again = drawn(0, 1), drawn(0, 2), drawn(0, 1)
    seed_everything((0, 2))
    assert drawn(0, 1) == again == one
    assert not set(one) & set(other)
