"""The compiled trainer against Keras's own ``fit``: the same batches end in the same weights and metrics."""

import gc
import weakref

import keras
import numpy as np
import pytest

import search_hidden
import search_multiclass
import search_single
from search.lab import data
from search.training import checkpoint, compiled

OPTIMIZERS = sorted({*search_single.OPTIMIZERS, *search_hidden.OPTIMIZERS, *search_multiclass.OPTIMIZERS})
ACTIVATIONS = sorted({*search_hidden.ACTIVATIONS, *search_multiclass.ACTIVATIONS})
N, BATCH = 1100, 128  # 8 whole batches and one of 76
SEED = (3, 1)


@pytest.fixture(scope="module")
def digits():
    source, task = data.load(), data.TASKS["digits"]
    train, validation = data.training_examples(source, task), data.validation_examples(source, task)
    return train.x[:N], train.y[:N], (validation.x[:700], validation.y[:700])


def network(optimizer="adam", activation="relu", middle=(), rate=0.003):
    keras.utils.set_random_seed(5)
    hidden = [layer for make in middle for layer in (make(),)]
    model = keras.Sequential(
        [
            keras.Input((28, 28)),
            keras.layers.Rescaling(1 / 255),
            keras.layers.Flatten(),
            keras.layers.Dense(24, activation=activation),
            *hidden,
            keras.layers.Dense(10, activation="softmax"),
        ]
    )
    optimizer = keras.optimizers.get(optimizer)
    optimizer.learning_rate = rate
    model.compile(optimizer, loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def keras_fit(model, x, y, validation, epochs):
    history = {}
    for epoch in range(epochs):
        order = compiled.epoch_order(len(x), (*SEED, epoch))
        logs = model.fit(
            x[order],
            y[order],
            batch_size=BATCH,
            shuffle=False,
            verbose=0,
            validation_data=validation,
            initial_epoch=epoch,
            epochs=epoch + 1,
        ).history
        for name, values in logs.items():
            history.setdefault(name, []).extend(values)
    return history


def assert_same_training(ours, theirs, history, expected, tolerance=2e-5):
    assert history.keys() == expected.keys()
    for name in expected:
        np.testing.assert_allclose(history[name], expected[name], rtol=2e-3, atol=2e-5, err_msg=name)
    for mine, reference in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_allclose(mine, reference, rtol=1e-3, atol=tolerance)
    for mine, reference in zip(ours.optimizer.variables, theirs.optimizer.variables, strict=True):
        np.testing.assert_allclose(mine.numpy(), reference.numpy(), rtol=1e-2, atol=tolerance)


@pytest.mark.parametrize("xla", [False, True], ids=["graph", "xla"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_optimizer_learns_what_keras_fit_learns(digits, optimizer, xla, monkeypatch):
    x, y, validation = digits
    monkeypatch.setattr(compiled, "XLA_BREAK_EVEN", -1 if xla else compiled.NEVER)
    ours, theirs = network(optimizer, rate=1e-3), network(optimizer, rate=1e-3)
    history = compiled.fit(ours, x, y, batch_size=BATCH, epochs=2, validation_data=validation, seed=SEED).history
    # Lion steps by the sign of a sum: where it is nearly zero, rounding decides, and one flip moves a weight by two steps
    tolerance = 4.1e-3 if optimizer == "lion" else 2e-5
    assert_same_training(ours, theirs, history, keras_fit(theirs, x, y, validation, 2), tolerance)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_activation_learns_what_keras_fit_learns(digits, activation):
    x, y, validation = digits
    ours, theirs = network(activation=activation), network(activation=activation)
    history = compiled.fit(ours, x, y, batch_size=BATCH, epochs=2, validation_data=validation, seed=SEED).history
    assert_same_training(ours, theirs, history, keras_fit(theirs, x, y, validation, 2))


def test_dropout_and_batch_normalisation_draw_and_keep_what_keras_fit_does(digits):
    x, y, validation = digits
    middle = (keras.layers.BatchNormalization, lambda: keras.layers.Dropout(0.3))
    ours, theirs = network(middle=middle), network(middle=middle)
    history = compiled.fit(ours, x, y, batch_size=BATCH, epochs=2, validation_data=validation, seed=SEED).history
    assert_same_training(ours, theirs, history, keras_fit(theirs, x, y, validation, 2), tolerance=1e-4)


@pytest.mark.parametrize("batch_size", [1, 7, N - 1, N, N + 1])
def test_every_example_is_seen_once_an_epoch(digits, batch_size):
    """A model whose only weight counts: its gradient is the sum of what it has seen."""
    x = np.arange(N, dtype=np.float32)[:, None]
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros")])
    model.compile(keras.optimizers.SGD(1.0), loss=lambda y, p: -keras.ops.sum(p) / keras.ops.cast(1, "float32"))
    compiled.fit(model, x, x, batch_size=batch_size, epochs=1, seed=SEED)
    np.testing.assert_allclose(model.get_weights()[0], x.sum(), rtol=1e-5)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("middle", ["plain", "random"])
def test_continuing_ends_bit_for_bit_where_going_through_does(digits, optimizer, middle, tmp_path, monkeypatch):
    x, y, validation = digits
    monkeypatch.setattr(compiled, "XLA_BREAK_EVEN", 150)  # the second stretch is long enough for XLA
    layers = () if middle == "plain" else (keras.layers.BatchNormalization, lambda: keras.layers.Dropout(0.3))
    common = {"batch_size": BATCH, "validation_data": validation, "seed": SEED, "milestones": (1, 4)}
    through = network(optimizer, middle=layers)
    whole = compiled.fit(through, x, y, epochs=4, **common).history

    first = network(optimizer, middle=layers)
    part = compiled.fit(first, x, y, epochs=1, **common).history
    checkpoint.write(tmp_path / "state.npz", checkpoint.capture(first, part, {"of": "test"}))
    second = network(optimizer, middle=layers)
    state = checkpoint.read(tmp_path / "state.npz", {"of": "test"})
    checkpoint.restore(state, second)
    rest = compiled.fit(second, x, y, epochs=4, initial_epoch=state.epochs, **common).history

    assert {name: part[name] + rest[name] for name in part} == whole
    for mine, reference in zip(second.variables, through.variables, strict=True):
        np.testing.assert_array_equal(mine.numpy(), reference.numpy(), err_msg=mine.path)
    for mine, reference in zip(second.optimizer.variables, through.optimizer.variables, strict=True):
        np.testing.assert_array_equal(mine.numpy(), reference.numpy(), err_msg=mine.path)


def test_a_layer_that_is_random_at_inference_goes_on_bit_for_bit(digits, tmp_path):
    """A model that was made to go on drew once before it did."""
    x, y, validation = digits

    def make():
        keras.utils.set_random_seed(5)
        pixels = keras.Input((28, 28))
        flat = keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(pixels))
        outputs = keras.layers.Dense(10, "softmax")(keras.layers.Dropout(0.3)(flat, training=True))
        model = keras.Model(pixels, outputs)
        model.compile("sgd", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
        return model

    common = {"batch_size": BATCH, "validation_data": validation, "seed": SEED}
    through, first, second = make(), make(), make()
    whole = compiled.fit(through, x, y, epochs=2, **common).history
    part = compiled.fit(first, x, y, epochs=1, **common).history
    checkpoint.restore(checkpoint.capture(first, part, {}), second)
    rest = compiled.fit(second, x, y, epochs=2, initial_epoch=1, **common).history
    assert {name: part[name] + rest[name] for name in part} == whole


def test_callbacks_hear_of_every_epoch_and_can_stop(digits):
    x, y, validation = digits

    def stop_after_two(epoch, logs):
        model.stop_training = logs["val_accuracy"] > 0 and epoch == 1

    stop = keras.callbacks.LambdaCallback(on_epoch_end=stop_after_two)
    halve = keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate / 2)
    model = network()
    history = compiled.fit(model, x, y, epochs=9, validation_data=validation, callbacks=[stop, halve], seed=SEED)
    assert history.epoch == [0, 1]
    assert float(model.optimizer.learning_rate) == pytest.approx(0.00075)


class EveryBatch(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        """Never called."""


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"callbacks": [EveryBatch()]}, "EveryBatch defines on_train_batch_end"),
        ({"callbacks": [keras.callbacks.LambdaCallback(on_train_batch_begin=print)]}, "defines on_train_batch_begin"),
        ({"batch_size": 0}, "batch_size is 0; expected at least 1"),
    ],
)
def test_what_an_epoch_in_one_program_cannot_do_is_refused(digits, change, message):
    x, y, _ = digits
    with pytest.raises(ValueError, match=message):
        compiled.fit(network(), x, y, **change)


def test_a_model_that_is_not_compiled_is_refused(digits):
    x, y, _ = digits
    with pytest.raises(ValueError, match="is not compiled"):
        compiled.fit(keras.Sequential([keras.Input((28, 28)), keras.layers.Flatten()]), x, y)


def test_order_is_a_permutation_decided_by_seed_trial_and_epoch():
    order = compiled.epoch_order(1000, (1, 2, 3))
    assert sorted(order) == list(range(1000))
    assert (order == compiled.epoch_order(1000, (1, 2, 3))).all()
    others = [(0, 2, 3), (1, 3, 3), (1, 2, 4), (1, 2)]
    assert all((order != compiled.epoch_order(1000, other)).mean() > 0.9 for other in others)


@pytest.mark.parametrize(
    ("updates", "milestones", "epoch"),
    [(2000, (1, 3, 9, 27), 9), (2000, (100,), 0), (10, (100,), float("inf")), (21_000, (1, 3), 0)],
)
def test_xla_begins_with_the_first_stretch_that_is_long_enough(updates, milestones, epoch):
    assert compiled.first_xla_epoch(updates, milestones, 20_000) == epoch


def test_updates_count_each_weight_and_the_optimizer_s_elements():
    weights = 784 * 24 + 24 + 24 * 10 + 10  # in 4 variables
    sgd, adam = network("sgd"), network("adam")
    for model in (sgd, adam):
        model.optimizer.build(model.trainable_variables)
    steps = N // BATCH
    assert compiled.xla_updates(sgd, N, BATCH) == pytest.approx(steps * 8, rel=1e-3)
    expected = steps * (8 + 2 * weights / compiled.ELEMENTS_LIKE_A_WEIGHT)  # two moments
    assert compiled.xla_updates(adam, N, BATCH) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize(
    ("graph", "xla", "expected"),
    [
        ([0.5, 0.25], [1.5, 0.15, 0.05], 1000 * (1.45 - 0.25) / 0.2),  # far from the usual: what was measured
        ([0.5, 0.45], [4.3, 0.2, 0.4], compiled.XLA_BREAK_EVEN),  # near it: the usual, whatever the noise
        ([0.5, 0.25], [1.5, 0.3, 0.3], compiled.XLA_BREAK_EVEN),  # hardly slower: that may be chance
        ([0.5, 0.25], [1.5, 0.6, 0.6], compiled.NEVER),
        ([0.9, 0.25], [0.6, 0.15, 0.15], compiled.XLA_BREAK_EVEN),  # compiling for less than nothing: disturbed
    ],
)
def test_break_even_is_the_usual_unless_the_machine_is_far_from_it(graph, xla, expected):
    assert compiled.measured_break_even(1000, graph, xla) == pytest.approx(expected)


@pytest.mark.parametrize("xla", [False, True])
def test_a_program_that_is_dropped_leaves_no_graph_behind(digits, xla):
    """TensorFlow's registry of gradients kept each one: 3 MB a trial."""
    x, y, validation = digits
    program = compiled.Program(network(activation="silu"), x, y, validation)  # its activation has a custom gradient
    program.run(compiled.epoch_order(N, SEED), BATCH, xla)
    traced = [program._graph, program._evaluate._graph, *program._xla.values()]
    graphs = [weakref.ref(concrete.graph) for concrete in traced]
    assert all(graph() for graph in graphs)
    del program, traced
    gc.collect()
    assert not any(graph() for graph in graphs)
