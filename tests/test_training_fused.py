"""Batch normalisation by one operation: where it is taken, and that weights end as Keras's."""

import keras
import numpy as np
import pytest

from search.training import fused, program
from search.training.fit import fit

L = keras.layers
RANDOM = np.random.default_rng(3)
X = RANDOM.random((40, 8, 8, 2)).astype("float32")
Y = RANDOM.integers(0, 3, 40)


def network(bias=False, before=(), **of_normalisation):
    convolution = L.Conv2D(4, 3, use_bias=bias)
    middle = [convolution, *before, L.BatchNormalization(**of_normalisation), L.Activation("relu")]
    return keras.Sequential([keras.Input(X.shape[1:]), *middle, L.Flatten(), L.Dense(3)])


def trained(train, optimizer="adam", **arguments):
    keras.utils.set_random_seed(1)
    model = network(**arguments)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.get(optimizer), loss, metrics=["accuracy"])
    history = train(model, x=X, y=Y, batch_size=16, epochs=4, shuffle=False, validation_data=(X, Y), verbose=0)
    return model, history.history


def takes_it(model):
    programs = program._of_models[model].own.values()
    return any(node.op == "FusedBatchNormV3" for one in programs for node in program._nodes(one.concrete))


@pytest.mark.parametrize(
    ("settings", "optimizer"),
    [
        ({}, "adam"),
        pytest.param({}, "sgd", marks=pytest.mark.long),
        *(
            pytest.param(settings, optimizer, marks=pytest.mark.long)
            for settings in ({"scale": False, "momentum": 0.5}, {"center": False, "epsilon": 0.1})
            for optimizer in ("sgd", "adam")
        ),
    ],
)
def test_weights_and_moving_statistics_end_as_keras_s(settings, optimizer):
    (ours, our_history), (theirs, history) = (trained(by, optimizer, **settings) for by in (fit, keras.Model.fit))
    assert takes_it(ours)
    for mine, reference in zip(
        [*ours.variables, *ours.optimizer.variables], [*theirs.variables, *theirs.optimizer.variables], strict=True
    ):
        np.testing.assert_allclose(mine.numpy(), reference.numpy(), rtol=2e-4, atol=2e-6, err_msg=mine.path)
    for name, values in history.items():
        np.testing.assert_allclose(our_history[name], values, rtol=1e-4, err_msg=name)


@pytest.mark.parametrize(
    "arguments",
    [{"bias": True}, {"before": [L.Activation("relu")]}, {"renorm": True}, {"axis": 1}, {"trainable": False}],
    ids=str,
)
def test_where_it_would_not_be_exact_keras_s_own_operations_stay(arguments):
    model, _ = trained(fit, **arguments)
    assert not takes_it(model)


def test_the_layer_is_as_it_was_after_the_trace():
    model, _ = trained(fit)
    assert not any("call" in vars(layer) for layer in model.layers)
    with fused.batch_normalization(model):
        assert "call" in vars(model.layers[1])
    np.testing.assert_allclose(model.evaluate(X, Y, verbose=0)[0], model.history.history["val_loss"][-1], rtol=1e-5)
