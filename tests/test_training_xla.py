"""Graph and XLA: every optimizer and activation ends where ``model.fit`` does and goes on bit for bit; which of the two trains."""

import gc
import weakref

import keras
import numpy as np
import pytest
import tensorflow as tf

import search_hidden
import search_multiclass
import search_single
from search.training import TrainingPlan, planned, program, xla
from search.training.fit import evaluate, fit
from tests.test_training_fit import CLASS, IMAGES, REAL, X, assert_same, by_both, dense, layers, trained, two_outputs

L = keras.layers
OPTIMIZERS = sorted({*search_single.OPTIMIZERS, *search_hidden.OPTIMIZERS, *search_multiclass.OPTIMIZERS})
ACTIVATIONS = sorted({*search_hidden.ACTIVATIONS, *search_multiclass.ACTIVATIONS})


def network(optimizer="adam", *middle, activation="relu"):
    keras.utils.set_random_seed(5)
    model = keras.Sequential([keras.Input((8,)), L.Dense(6, activation), *middle, L.Dense(3, "softmax")])
    optimizer = keras.optimizers.get(optimizer)
    optimizer.learning_rate = 3e-3
    model.compile(optimizer, loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def through_xla():
    """Whether a program that XLA compiled has been made since the shared ones were forgotten."""
    return any(kind[0] == "xla" for kind, *_ in program._shared)


def updates_through_xla(model):
    """Whether a program of the model has its optimizer's update compiled by XLA."""
    made = [one.concrete.graph.as_graph_def() for one in program._of_models[model].own.values()]
    return any(function.attr["_XlaMustCompile"].b for graph in made for function in graph.library.function)


@pytest.fixture(autouse=True)
def forgotten():
    program._shared.clear()


@pytest.mark.long
@pytest.mark.parametrize(
    "optimizer",
    [name if name in ("adam", "sgd") else pytest.param(name, marks=pytest.mark.slow) for name in OPTIMIZERS],
)
def test_every_optimizer_ends_where_model_fit_does_as_a_graph_and_through_xla(optimizer, monkeypatch):
    theirs = trained(keras.Model.fit, lambda: network(optimizer), X, CLASS)
    for break_even in (xla.NEVER, 0.0):
        monkeypatch.setattr(xla, "XLA_BREAK_EVEN", break_even)
        ours = trained(fit, lambda: network(optimizer), X, CLASS)
        # Lion steps by the sign of a sum: where it is nearly zero, rounding decides, and a flip moves a weight by two steps
        assert_same(ours, theirs, tolerance=1.3e-2 if optimizer == "lion" else 3e-5)
        assert through_xla() == (break_even == 0.0)


RANDOM_LAYERS = (L.BatchNormalization, lambda: L.Dropout(0.3))


@pytest.mark.parametrize("optimizer", ["adam", *(pytest.param(name, marks=pytest.mark.long) for name in OPTIMIZERS)])
def test_every_optimizer_whose_update_alone_goes_through_xla_ends_where_model_fit_does(optimizer, monkeypatch):
    def make():
        return network(optimizer, *(make() for make in RANDOM_LAYERS))

    theirs = trained(keras.Model.fit, make, X, CLASS)
    monkeypatch.setattr(xla, "XLA_BREAK_EVEN", 0.0)
    ours = trained(fit, make, X, CLASS)
    assert updates_through_xla(ours[0])
    assert_same(ours, theirs, tolerance=1.3e-2 if optimizer == "lion" else 3e-5)


class OwnAdam(keras.optimizers.Adam):
    pass


class OwnDecay(keras.optimizers.schedules.LearningRateSchedule):
    def __call__(self, step):
        return 0.003


@pytest.mark.parametrize(
    ("make", "goes"),
    [
        (lambda: keras.optimizers.Adam(keras.optimizers.schedules.ExponentialDecay(0.01, 3, 0.5)), True),
        (lambda: keras.optimizers.AdamW(0.003, weight_decay=0.1, clipnorm=0.1), True),
        (lambda: keras.optimizers.SGD(0.003, momentum=0.9, global_clipnorm=0.1), True),
        (lambda: OwnAdam(0.003), False),
        (lambda: keras.optimizers.Adam(OwnDecay()), False),
        (lambda: keras.optimizers.Adam(0.003, use_ema=True), False),
        (lambda: keras.optimizers.Adam(0.003, gradient_accumulation_steps=2), False),
        (lambda: keras.optimizers.Ftrl(0.003), False),
    ],
)
def test_an_update_goes_through_xla_where_it_is_keras_s_own(make, goes, monkeypatch):
    def made():
        keras.utils.set_random_seed(5)
        model = keras.Sequential([keras.Input((8,)), L.Dense(6, "relu"), L.Dropout(0.3), L.Dense(3, "softmax")])
        model.compile(make(), "sparse_categorical_crossentropy", metrics=["accuracy"])
        return model

    monkeypatch.setattr(xla, "XLA_BREAK_EVEN", 0.0)
    ours, theirs = by_both(made, X, CLASS)
    assert updates_through_xla(ours[0]) == goes
    assert_same(ours, theirs)


def test_a_sparse_gradient_is_the_graph_s(monkeypatch):
    def made():
        keras.utils.set_random_seed(5)
        model = keras.Sequential([keras.Input((4,), dtype="int32"), L.Embedding(9, 3), L.Flatten(), L.Dense(3)])
        model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
        return model

    monkeypatch.setattr(xla, "XLA_BREAK_EVEN", 0.0)
    tokens = np.random.default_rng(1).integers(0, 9, (len(X), 4)).astype("int32")
    ours, theirs = by_both(made, tokens, CLASS)
    assert not updates_through_xla(ours[0])
    assert_same(ours, theirs)


def test_a_rate_that_a_callback_changes_is_read_once_though_xla_comes_in_later(tmp_path):
    """As Keras's own step, which was traced before."""

    class LessDropout(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.layers[1].rate = 0.0

    def made():
        keras.utils.set_random_seed(5)
        model = keras.Sequential([keras.Input((8,)), L.Dense(6, "relu"), L.Dropout(0.5), L.Dense(3, "softmax")])
        model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
        return model

    theirs, ours = made(), made()
    break_even = 2 * xla.xla_passes(ours, len(X), 16)
    plan = TrainingPlan((3,), tmp_path / "state.npz", {}, milestones=(1, 4), xla_break_even=break_even)
    theirs.fit(X, CLASS, 16, 4, shuffle=False, callbacks=[LessDropout()], verbose=0)
    with planned(plan):
        ours.fit(X, CLASS, 16, 4, shuffle=False, callbacks=[LessDropout()], verbose=0)
    np.testing.assert_allclose(ours.history.history["loss"], theirs.history.history["loss"], rtol=1e-5)


@pytest.mark.long
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_activation_ends_where_model_fit_does(activation):
    assert_same(*by_both(lambda: network(activation=activation), X, CLASS, epochs=2))


@pytest.mark.long
@pytest.mark.parametrize(
    "optimizer", [name if name == "adam" else pytest.param(name, marks=pytest.mark.slow) for name in OPTIMIZERS]
)
def test_continuing_through_xla_ends_bit_for_bit_where_going_through_does(optimizer, tmp_path):
    """The second stretch is long enough for XLA; of a network with random layers it compiles the update alone."""
    for name, middle in (("plain", ()), ("random", RANDOM_LAYERS)):

        def rung(folder, epochs, begin=0, middle=middle, name=name):
            path = tmp_path / f"{name} {folder} {epochs}"
            earlier = tmp_path / f"{name} {folder} {begin}"
            model = network(optimizer, *(make() for make in middle))
            break_even = 2 * xla.xla_passes(model, len(X), 16) if middle else 50.0
            plan = TrainingPlan((3, 1), path, {}, earlier if begin else None, (1, 4), xla_break_even=break_even)
            with planned(plan) as record:
                model.fit(X, CLASS, 16, epochs, verbose=0, initial_epoch=begin, validation_data=(X, CLASS))
            assert updates_through_xla(model) == (name == "random" and epochs == 4)
            return record.history, [variable.numpy() for variable in [*model.variables, *model.optimizer.variables]]

        history, variables = rung("through", 4)
        rung("continued", 1)
        assert through_xla() == (name == "plain")
        same, continued = rung("continued", 4, 1)
        assert same == history
        for mine, reference in zip(continued, variables, strict=True):
            np.testing.assert_array_equal(mine, reference)
        program._shared.clear()


def test_a_layer_that_is_random_at_inference_goes_on_bit_for_bit(tmp_path):
    """A model that was made to go on drew once before it did."""

    def rung(name, epochs, begin=0):
        keras.utils.set_random_seed(5)
        inputs = keras.Input((8,))
        model = keras.Model(inputs, L.Dense(1)(L.Dropout(0.3)(inputs, training=True)))
        model.compile("sgd", loss="mse")
        earlier = tmp_path / f"{name} {begin}" if begin else None
        with planned(TrainingPlan((3,), tmp_path / f"{name} {epochs}", {}, earlier)) as record:
            model.fit(X, REAL, 16, epochs, verbose=0, initial_epoch=begin, validation_data=(X, REAL))
        return record.history

    rung("continued", 1)
    assert rung("through", 2) == rung("continued", 2, 1)


@pytest.mark.parametrize("batch_size", [1, 7, len(X) - 1, len(X), len(X) + 1])
def test_every_example_is_seen_once_an_epoch(batch_size, monkeypatch):
    """A model whose only weight counts: its gradient is the sum of what it has seen."""
    seen = np.arange(len(X), dtype="float32")[:, None]
    for break_even in (xla.NEVER, 0.0):
        monkeypatch.setattr(xla, "XLA_BREAK_EVEN", break_even)
        model = keras.Sequential([keras.Input((1,)), L.Dense(1, use_bias=False, kernel_initializer="zeros")])
        model.compile(keras.optimizers.SGD(1.0), loss=lambda y, p: -keras.ops.sum(p))
        fit(model, seen, seen, batch_size, verbose=0)
        np.testing.assert_allclose(model.get_weights()[0], seen.sum(), rtol=1e-5)


def convolution():
    return layers(L.Conv2D(4, 3), L.BatchNormalization(), L.Dropout(0.5), L.Flatten(), shape=(8, 8, 1))


@pytest.mark.long
@pytest.mark.parametrize(
    ("make", "x", "y"),
    [
        (dense, X, REAL),
        (two_outputs, X, {"real": REAL, "kind": CLASS}),
        (convolution, IMAGES, CLASS),
        (lambda: dense(loss=lambda y, p: keras.ops.mean(keras.ops.abs(y - p))), X, REAL),
        (lambda: dense(run_eagerly=True), X, REAL),
    ],
    ids=["dense", "two outputs", "convolution", "own loss", "eager"],
)
def test_evaluate_gives_what_model_evaluate_gives(make, x, y):
    model, weights = make(), np.random.default_rng(4).random(len(X))
    for given in ({}, {"sample_weight": weights, "batch_size": 9}) if isinstance(y, np.ndarray) else ({},):
        expected = model.evaluate(x, y, verbose=0, return_dict=True, **given)
        received = evaluate(model, x, y, **given)
        assert received.keys() == expected.keys()
        for name, value in expected.items():
            np.testing.assert_allclose(received[name], value, rtol=1e-4, atol=1e-6, err_msg=name)


def test_an_evaluation_between_does_not_settle_what_a_training_reads():
    """A layer frozen after an evaluation is frozen in the training."""

    def make():
        model = dense()
        evaluate(model, X, REAL)
        model.layers[0].trainable = False
        return model

    assert_same(*by_both(make, X, REAL))


@pytest.mark.parametrize(
    ("updates", "milestones", "epoch"),
    [(2000, (1, 3, 9, 27), 9), (2000, (100,), 0), (10, (100,), float("inf")), (21_000, (1, 3), 0)],
)
def test_xla_begins_with_the_first_stretch_that_is_long_enough(updates, milestones, epoch):
    assert xla.first_xla_epoch(updates, milestones, 20_000) == epoch


def test_updates_count_each_weight_and_the_optimizer_s_elements():
    weights = 8 * 6 + 6 + 6 * 3 + 3  # in 4 variables
    sgd, adam = network("sgd"), network("adam")
    assert xla.xla_updates(sgd, 70, 16) == pytest.approx(4 * 8, rel=1e-3)
    expected = 4 * (8 + 2 * weights / xla.ELEMENTS_LIKE_A_WEIGHT)  # two moments
    assert xla.xla_updates(adam, 70, 16) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize(
    ("graph", "compiled", "expected"),
    [
        ([0.5, 0.25], [1.5, 0.15, 0.05], 1000 * (1.45 - 0.25) / 0.2),  # far from the usual: what was measured
        ([0.5, 0.45], [4.3, 0.2, 0.4], xla.XLA_BREAK_EVEN),  # near it: the usual, whatever the noise
        ([0.5, 0.25], [1.5, 0.3, 0.3], xla.XLA_BREAK_EVEN),  # hardly slower: that may be chance
        ([0.5, 0.25], [1.5, 0.6, 0.6], xla.NEVER),
        ([0.9, 0.25], [0.6, 0.15, 0.15], xla.XLA_BREAK_EVEN),  # compiling for less than nothing: disturbed
    ],
)
def test_break_even_is_the_usual_unless_the_machine_is_far_from_it(graph, compiled, expected):
    assert xla.measured_break_even(1000, graph, compiled) == pytest.approx(expected)


@pytest.mark.long
def test_a_program_that_is_dropped_leaves_no_graph_behind(monkeypatch):
    """TensorFlow's registry of gradients kept each one: 3 MB a trial."""
    monkeypatch.setattr(xla, "XLA_BREAK_EVEN", 0.0)
    fit(network(activation="silu"), X, CLASS, 16, 2, verbose=0, validation_data=(X, CLASS))  # with a custom gradient
    graphs = [weakref.ref(one.concrete.graph) for one in program._shared.values()]
    assert len(graphs) == 3
    program._shared.clear()
    gc.collect()
    gc.collect()  # the programs went with the model, and their graphs go after them
    assert not any(graph() for graph in graphs)


def _asserting(y, p):
    tf.debugging.assert_less(tf.reduce_max(y), 0.5)
    return tf.reduce_mean((y - p) ** 2, -1)


def _checking(y, p):
    return tf.reduce_mean(tf.debugging.check_numerics(tf.math.log(0.5 - y) + p, "here"), -1)


def _taking(y, p):
    return tf.gather(tf.ones(4), tf.cast(8 * y[:, 0], tf.int32)) * tf.reduce_mean((y - p) ** 2, -1)


@pytest.mark.parametrize("loss", [_asserting, _checking, _taking, "sparse_categorical_crossentropy"])
def test_what_ends_a_training_in_keras_ends_it_where_xla_would_go_on(monkeypatch, loss):
    """XLA drops assertions and clamps an index: a trial that failed in KerasTuner was the best one here."""
    monkeypatch.setattr(xla, "XLA_BREAK_EVEN", 0.0)
    random = np.random.default_rng(0)
    x, y = random.normal(size=(60, 6)).astype("float32"), random.uniform(size=(60, 1)).astype("float32")
    if isinstance(loss, str):
        y = np.arange(60) % 4 + 1  # labels 1 to 4 of four classes
    for train in (keras.Model.fit, fit):
        model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(4 if isinstance(loss, str) else 1)])
        model.compile("sgd", loss)
        with pytest.raises(tf.errors.InvalidArgumentError):
            train(model, x, y, epochs=2, batch_size=10, verbose=0)


@pytest.mark.parametrize("subclassed", [False, True])
def test_labels_that_are_classes_keep_xla(monkeypatch, subclassed):
    monkeypatch.setattr(xla, "XLA_BREAK_EVEN", 0.0)
    answers, suits = [], xla.suits
    monkeypatch.setattr(xla, "suits", lambda *given: answers.append(suits(*given)) or answers[-1])

    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.last = keras.layers.Dense(4)

        def call(self, x):
            return self.last(x)

    for first, expected in ((0, True), (1, False)):
        model = Own() if subclassed else keras.Sequential([keras.Input((3,)), keras.layers.Dense(4)])
        model.compile(
            "sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=4 if first else None)
        )
        fit(model, np.ones((8, 3), "float32"), np.arange(8) % 4 + first, epochs=2, batch_size=4, verbose=0)
        assert answers.pop() is expected
        answers.clear()
