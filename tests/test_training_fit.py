"""``search.training.fit`` against ``model.fit``: the same batches end in the same weights, metrics and callbacks' effects."""

import csv
import random
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf

from search.training import TrainingPlan, planned
from search.training.fit import fit
from search.training.seeds import seed_everything

L = keras.layers
N, BATCH = 70, 16  # four whole batches and one of six
RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(N, 8)).astype("float32")
IMAGES = RANDOM.random((N, 8, 8, 1)).astype("float32")
TOKENS = RANDOM.integers(0, 11, (N, 6))
REAL = X[:, :2].sum(1, keepdims=True) ** 2
CLASS = (REAL[:, 0] > 1).astype("int32") + (REAL[:, 0] > 3)
ONE_HOT = np.eye(3, dtype="float32")[CLASS]


def dense(*middle, optimizer="adam", loss="mse", metrics=("mae",), inputs=8, outputs=1, activation=None, **compiling):
    model = keras.Sequential([keras.Input((inputs,)), L.Dense(6, "tanh"), *middle, L.Dense(outputs, activation)])
    model.compile(optimizer, loss=loss, metrics=list(metrics), **compiling)
    return model


def two_inputs():
    a, b = keras.Input((8,), name="a"), keras.Input((6,), name="b")
    joined = L.Concatenate()([L.Dense(5, "relu")(a), L.Flatten()(L.Embedding(11, 2)(b))])
    model = keras.Model({"a": a, "b": b}, L.Dense(1)(joined))
    model.compile("adam", loss="mse", metrics=["mae"])
    return model


def two_outputs(weights=(0.3, 2.0)):
    x = keras.Input((8,))
    hidden = L.Dense(6, "relu")(x)
    model = keras.Model(x, [L.Dense(1, name="real")(hidden), L.Dense(3, "softmax", name="kind")(hidden)])
    model.compile(
        "adam",
        loss={"real": "mse", "kind": "sparse_categorical_crossentropy"},
        loss_weights=dict(zip(("real", "kind"), weights, strict=True)),
        metrics={"kind": ["accuracy"]},
    )
    return model


class Own(keras.Model):
    """A subclassed model, built by its first batch."""

    def __init__(self):
        super().__init__()
        self.hidden, self.out = L.Dense(5, "relu"), L.Dense(1)

    def call(self, x):
        return self.out(self.hidden(x))


class OwnStep(Own):
    """A step of its own, whose logs are not the metrics."""

    def train_step(self, data):
        x, y = data
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.square(self(x, training=True) - y))
        self.optimizer.apply_gradients(
            zip(tape.gradient(loss, self.trainable_variables), self.trainable_variables, strict=True)
        )
        return {"last": loss}


def subclassed(kind=Own, metrics=("mae",)):
    model = kind()
    model.compile("adam", loss="mse", metrics=metrics and list(metrics))
    return model


def layers(*made, shape, activation="softmax", dtype=None):
    model = keras.Sequential([keras.Input(shape, dtype=dtype), *made, L.Dense(3, activation)])
    model.compile("adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def unbuilt():
    model = keras.Sequential([L.Dense(4, "relu"), L.Dense(1)])
    model.compile("sgd", loss="mse")
    return model


def attention():
    x = keras.Input((6,))
    embedded = L.Embedding(11, 8)(x)
    attended = L.LayerNormalization()(embedded + L.MultiHeadAttention(2, 4, dropout=0.1)(embedded, embedded))
    model = keras.Model(x, L.Dense(3, "softmax")(L.GlobalAveragePooling1D()(attended)))
    model.compile("adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def mixed():
    model = keras.Sequential(
        [keras.Input((8,)), L.Dense(6, "relu", dtype="mixed_float16"), L.Dense(1, dtype="float32")]
    )
    model.compile(keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam()), loss="mse")
    return model


schedule = keras.optimizers.schedules.CosineDecay(0.05, 20)
LONG = {  # to trace
    *("attention", "gru", "lstm", "two inputs", "class weights", "sample weights", "two outputs", "mixed precision"),
    *("split of many", "schedule", "too many steps", "some steps", "convolution", "auc", "subclassed", "regulariser"),
    *("averaged weights", "split", "summed loss", "steps alone", "now and then", "clipped", "chosen epochs", "unbuilt"),
}
CASES = {
    "regression": (dense, X, REAL, {}),
    "two inputs": (two_inputs, {"a": X, "b": TOKENS}, REAL, {}),
    "two outputs": (two_outputs, X, {"real": REAL, "kind": CLASS}, {}),
    "subclassed": (subclassed, X, REAL, {}),
    "a step of its own": (lambda: subclassed(OwnStep, None), X, REAL, {}),
    "unbuilt": (unbuilt, X, REAL, {}),
    "lstm": (lambda: layers(L.Embedding(11, 3), L.LSTM(4), shape=(6,)), TOKENS, CLASS, {}),
    "gru": (lambda: layers(L.Embedding(11, 3, mask_zero=True), L.GRU(4), shape=(6,)), TOKENS, CLASS, {}),
    "convolution": (
        lambda: layers(
            L.Conv2D(4, 3, activation="relu"), L.BatchNormalization(), L.MaxPooling2D(), L.Flatten(), shape=(8, 8, 1)
        ),
        IMAGES,
        CLASS,
        {},
    ),
    "attention": (attention, TOKENS, CLASS, {}),
    "dropout": (lambda: dense(L.Dropout(0.3), L.BatchNormalization()), X, REAL, {}),
    "regulariser": (lambda: dense(L.Dense(4, kernel_regularizer="l2", activity_regularizer="l1")), X, REAL, {}),
    "constraint": (lambda: dense(L.Dense(4, kernel_constraint="max_norm"), optimizer="sgd"), X, REAL, {}),
    "schedule": (lambda: dense(optimizer=keras.optimizers.AdamW(schedule)), X, REAL, {}),
    "averaged weights": (lambda: dense(optimizer=keras.optimizers.Adam(0.01, use_ema=True)), X, REAL, {}),
    "clipped": (lambda: dense(optimizer=keras.optimizers.SGD(0.1, momentum=0.9, clipnorm=0.1)), X, REAL, {}),
    "auc": (
        lambda: dense(loss="binary_crossentropy", metrics=[keras.metrics.AUC(name="auc")], activation="sigmoid"),
        X,
        (REAL > 1).astype("float64"),
        {},
    ),
    "summed loss": (lambda: dense(loss=keras.losses.Huber(0.4, reduction="sum")), X, REAL, {}),
    "mixed precision": (mixed, X, REAL, {}),
    "class weights": (
        lambda: layers(L.Dense(4), shape=(8,)),
        X,
        CLASS,
        {"class_weight": {0: 1.0, 1: 3.0, 2: 0.5}},
    ),
    "sample weights": (
        lambda: dense(weighted_metrics=["mse"]),
        X.astype("float64"),
        REAL,
        {"sample_weight": RANDOM.random(N)},
    ),
    "split": (dense, X, REAL, {"validation_split": 0.3, "validation_data": None}),
    "split of many": (
        two_inputs,
        {"a": tf.constant(X), "b": TOKENS},
        REAL,
        {"validation_split": 0.3, "validation_data": None},
    ),
    "no validation": (dense, X, REAL, {"validation_data": None, "batch_size": None}),
    "some steps": (dense, X, REAL, {"steps_per_epoch": 3, "epochs": 5}),
    "steps alone": (dense, X, REAL, {"steps_per_epoch": 4, "batch_size": None, "validation_steps": 2}),
    "too many steps": (dense, X, REAL, {"steps_per_epoch": 8, "validation_steps": 9}),
    "now and then": (dense, X, REAL, {"validation_freq": 2, "epochs": 5, "initial_epoch": 1}),
    "chosen epochs": (dense, X, REAL, {"validation_freq": [1, 3], "validation_batch_size": 7}),
    "one example": (dense, X[:1], REAL[:1], {}),
    "no epochs": (dense, X, REAL, {"epochs": 2, "initial_epoch": 2}),
}


def trained(train, make, x, y, **arguments):
    """Trains a model of one kind; returns it, its history and its callbacks."""
    arguments = {"batch_size": BATCH, "epochs": 3, "shuffle": False, "verbose": 0, **arguments}
    seed_everything((5,))
    model = make()
    callbacks = [made() for made in arguments.get("callbacks", ())]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # data that runs out
        history = train(model, x, y, **{**arguments, "callbacks": callbacks})
    return model, history, callbacks


def by_both(make, x, y, **arguments):
    """Trains two models of one kind one after the other in one process, ours first."""
    return [trained(train, make, x, y, **arguments) for train in (fit, keras.Model.fit)]


def assert_same(ours, theirs, tolerance=3e-5):
    assert ours[1].epoch == theirs[1].epoch
    assert ours[1].history.keys() == theirs[1].history.keys()
    for name, values in theirs[1].history.items():
        np.testing.assert_allclose(ours[1].history[name], values, rtol=2e-3, atol=3e-5, err_msg=name)
    for mine, reference in zip(ours[0].variables, theirs[0].variables, strict=True):
        np.testing.assert_allclose(mine.numpy(), reference.numpy(), rtol=1e-3, atol=tolerance, err_msg=mine.path)
    if ours[0].optimizer.built or theirs[0].optimizer.built:
        for mine, reference in zip(ours[0].optimizer.variables, theirs[0].optimizer.variables, strict=True):
            np.testing.assert_allclose(mine.numpy(), reference.numpy(), rtol=1e-2, atol=tolerance, err_msg=mine.path)


@pytest.mark.parametrize(
    "case", [pytest.param(case, marks=pytest.mark.long) if case in LONG else case for case in CASES]
)
def test_it_ends_where_model_fit_ends(case, capsys):
    make, x, y, arguments = CASES[case]
    arguments = {"validation_data": (x, y), **arguments}
    ours, theirs = by_both(make, x, y, **arguments)
    assert "model.fit trains this" not in capsys.readouterr().err
    assert_same(ours, theirs)


class Unfreezing(keras.callbacks.Callback):
    """Changes the model in the middle, as people do who fine-tune."""

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 1:
            self.model.layers[0].trainable = False
            self.model.compile("sgd", loss="mae")
            self.model.make_train_function()  # without which Keras's fit ends with an error
            self.model.make_test_function()


class Setting(keras.callbacks.Callback):
    """Sets weights and the rate at the end of an epoch."""

    def on_epoch_end(self, epoch, logs=None):
        self.model.optimizer.learning_rate = 0.5 / (epoch + 1)
        self.model.set_weights([weight * 0.5 for weight in self.model.get_weights()])


K = keras.callbacks
CALLBACKS = {
    "early stopping": (lambda: K.EarlyStopping("loss", patience=0, min_delta=10.0, restore_best_weights=True),),
    "plateau": (lambda: K.ReduceLROnPlateau("loss", patience=1, min_delta=10.0),),
    "scheduler": (lambda: K.LearningRateScheduler(lambda epoch, rate: rate / 2),),
    "own": (Setting,),
    "recompiled": (Unfreezing,),
    "nan": (K.TerminateOnNaN,),
}


@pytest.mark.long
@pytest.mark.parametrize("case", CALLBACKS)
def test_callbacks_have_the_effect_they_have_in_model_fit(case):
    ours, theirs = by_both(
        lambda: dense(L.Dense(3)), X, REAL, validation_data=(X, REAL), epochs=4, callbacks=CALLBACKS[case]
    )
    assert_same(ours, theirs)


def test_callbacks_that_swap_averaged_weights_see_every_evaluation():
    ours, theirs = by_both(
        lambda: dense(optimizer=keras.optimizers.Adam(0.1, use_ema=True, ema_momentum=0.9)),
        X,
        REAL,
        validation_data=(X, REAL),
        callbacks=[lambda: K.SwapEMAWeights(swap_on_epoch=True)],
    )
    assert_same(ours, theirs)


class Log(keras.callbacks.Callback):
    """Every hook but those of batches, in order."""

    def __init__(self):
        super().__init__()
        self.calls = []
        for name in ("train_begin", "train_end", "test_begin", "test_end", "epoch_begin", "epoch_end"):
            setattr(self, f"on_{name}", self.noting(name))

    def noting(self, name):
        def hook(*args, logs=None):
            given = logs if logs is not None else (args[-1] if args and isinstance(args[-1], dict) else {})
            self.calls.append((name, args[0] if args and isinstance(args[0], int) else None, sorted(given)))

        return hook


def test_hooks_are_called_as_keras_calls_them():
    (_, _, (ours,)), (_, _, (theirs,)) = by_both(dense, X, REAL, validation_data=(X, REAL), callbacks=[Log])
    assert ours.calls == theirs.calls
    assert ours.params == theirs.params


def test_a_csv_is_what_keras_writes(tmp_path):
    paths = iter([tmp_path / "ours.csv", tmp_path / "theirs.csv"])
    by_both(dense, X, REAL, validation_data=(X, REAL), callbacks=[lambda: K.CSVLogger(next(paths))])
    ours, theirs = (
        list(csv.DictReader((tmp_path / f"{name}.csv").read_text().splitlines())) for name in ("ours", "theirs")
    )
    assert [row.keys() for row in ours] == [row.keys() for row in theirs]
    assert len(ours) == 3


class EveryBatch(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.batches = 0

    def on_train_batch_end(self, batch, logs=None):
        self.batches += 1


def batches(n=5):
    return ((X[:8], REAL[:8]) for _ in range(n))


@pytest.mark.parametrize(
    ("arguments", "compiling", "reason"),
    [
        ({"x": tf.data.Dataset.from_tensor_slices((X, REAL)).batch(16)}, {}, "not arrays"),
        ({"x": batches, "steps_per_epoch": 5, "epochs": 1}, {}, "generator"),
        ({"x": X, "y": REAL, "callbacks": [EveryBatch()]}, {}, "EveryBatch defines on_train_batch_end"),
        ({"x": X, "y": REAL}, {"run_eagerly": True}, "run_eagerly"),
        (
            {"x": X, "y": REAL, "validation_data": tf.data.Dataset.from_tensor_slices((X, REAL)).batch(16)},
            {},
            "validation_data",
        ),
    ],
)
def test_what_it_cannot_do_model_fit_does_and_one_line_says_why(arguments, compiling, reason, capsys, monkeypatch):
    monkeypatch.setattr("search.training.fit._said", set())
    arguments = {name: value() if callable(value) else value for name, value in arguments.items()}
    model = dense(**compiling)
    history = fit(model, **{"epochs": 2, "verbose": 0, "shuffle": False, **arguments})
    assert np.isfinite(history.history["loss"]).all()
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "model.fit trains this" in line]
    assert reason in line
    for callback in arguments.get("callbacks", ()):
        assert callback.batches == 6  # 70 examples in batches of 32, twice


class Loud(Own):
    def fit(self, *args, **kwargs):
        self.was_called = True
        return super().fit(*args, **kwargs)


def test_a_fit_of_the_model_s_own_is_called():
    model = Loud()
    model.compile("sgd", loss="mse")
    fit(model, X, REAL, verbose=0)
    assert model.was_called


class Untraceable(Own):
    """Its step needs the value of a tensor: with run_eagerly alone, and so it is in Keras."""

    def train_step(self, data):
        float(data[0][0, 0].numpy())
        return super().train_step(data)


def test_an_error_of_the_user_s_is_the_one_that_keras_raises(capsys):
    def raised(train, make, *data):
        with pytest.raises(Exception) as caught:  # noqa: PT011
            train(make(), *data, verbose=0)
        return type(caught.value)

    for make, *data in (
        (lambda: subclassed(Untraceable), X, REAL),
        (dense, X, REAL[:5]),
        (dense, IMAGES, REAL),
        (lambda: keras.Sequential([keras.Input((8,)), L.Dense(1)]), X, REAL),
    ):
        assert raised(fit, make, *data) is raised(keras.Model.fit, make, *data)


def test_it_prints_what_model_fit_prints(capsys):
    for verbose in (0, 1, 2, "auto"):
        fit(dense(), X, REAL, verbose=verbose, epochs=2)
        printed = capsys.readouterr().out
        assert ("Epoch 2/2" in printed) == (verbose != 0)
        assert ("loss" in printed) == (verbose != 0)


def test_every_example_is_seen_once_an_epoch_in_an_order_that_random_decides():
    """A model whose weights are the last example's: it learns by heart."""

    def order(seed, **arguments):
        random.seed(seed)
        model = keras.Sequential([keras.Input((1,)), L.Dense(1, use_bias=False, kernel_initializer="zeros")])
        model.compile(keras.optimizers.SGD(1.0), loss=lambda y, p: -keras.ops.sum(p))
        seen = np.arange(N, dtype="float32")[:, None]
        fit(model, seen, seen, verbose=0, **arguments)
        return model.get_weights()[0].item()

    assert order(0) == pytest.approx(np.arange(N).sum(), rel=1e-5)
    some = [order(seed, steps_per_epoch=1, batch_size=5) for seed in (0, 0, 1)]
    assert some[0] == some[1] != some[2]
    within = order(0, steps_per_epoch=1, batch_size=5, shuffle="batch")
    assert within == order(0, steps_per_epoch=1, batch_size=5, shuffle=False) == 10


def test_arrays_that_change_between_calls_are_seen(tmp_path):
    x, model = X.copy(), dense(optimizer=keras.optimizers.SGD(0.0))
    np.save(tmp_path / "x.npy", X)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="c")
    for array in (x, mapped):
        first = fit(model, array, REAL, verbose=0).history["loss"]
        array += 1
        second = fit(model, array, REAL, verbose=0).history["loss"]
        assert first[0] != second[0]


def test_a_mapped_file_of_a_search_s_own_is_not_copied(tmp_path):
    """A user's is, as by Keras: a callback that changed it changed what was trained on."""
    from search.training import data

    np.save(tmp_path / "x.npy", X)
    searchs, users = (np.load(tmp_path / "x.npy", mmap_mode="c") for _ in range(2))
    data.share(searchs)
    for array, is_read_where_it_is in ((searchs, True), (users, False), (X.copy(), False)):
        tensor = data.examples(array, None, None).tensors[0]
        array[3, 4] = 77
        assert (float(tensor[3, 4]) == 77) == is_read_where_it_is


def test_a_model_without_an_input_shape_is_built_as_keras_builds_it():
    configurations = []
    for training in (keras.Model.fit, fit):
        model = keras.Sequential([keras.layers.Dense(2)])
        model.compile("sgd", "mse")
        training(model, np.zeros((40, 3), "float32"), np.zeros((40, 2), "float32"), verbose=0)
        configurations.append(model.get_build_config())
    assert configurations[0] == configurations[1] == {"input_shape": (None, 3)}


class Touching(L.Layer):
    """Counts its calls in a variable that Keras does not know, and draws from Keras's own generator."""

    def __init__(self):
        super().__init__()
        self.calls = tf.Variable(0.0)

    def call(self, x):
        self.calls.assign_add(1.0)
        return x * (1 + self.calls) + keras.random.normal(keras.ops.shape(x))


def test_nothing_is_run_before_the_first_batch():
    """A step on one example, to make variables: the layer had counted once more, and drawn."""
    ours, theirs = by_both(lambda: dense(Touching()), X, REAL, validation_data=(X, REAL))
    assert_same(ours, theirs)
    assert float(ours[0].layers[1].calls) == float(theirs[0].layers[1].calls) == 30


def centred():
    x = keras.Input((8,))
    hidden = L.Dense(6, "relu")(x)
    model = keras.Model(x, L.Dense(3)(hidden - keras.ops.mean(hidden, axis=0)))
    model.compile("adam", loss="mse")
    return model


OF_A_BATCH = {
    "loss": (lambda: dense(outputs=3, loss=keras.losses.Circle(), metrics=()), CLASS),
    "ignored class": (
        lambda: dense(outputs=3, loss=keras.losses.SparseCategoricalCrossentropy(True, ignore_class=1), metrics=()),
        CLASS,
    ),
    "metric": (lambda: dense(outputs=3, metrics=[keras.losses.dice]), ONE_HOT),
    "a loss as a metric": (lambda: dense(outputs=3, metrics=[keras.losses.MeanSquaredError()]), ONE_HOT),
    "layer": (lambda: dense(L.Softmax(axis=0)), REAL),
    "operation": (centred, ONE_HOT),
}


@pytest.mark.long
@pytest.mark.parametrize("name", OF_A_BATCH)
def test_what_depends_on_the_whole_batch_is_evaluated_in_the_batches_that_keras_takes(name):
    """A val_loss of 1257 for 753."""
    make, y = OF_A_BATCH[name]
    ours, theirs = by_both(make, X, y, validation_data=(X, y))
    assert_same(ours, theirs)


def test_numbers_may_be_numpy_s():
    """A batch size of ``np.int64`` ended in an error of TensorFlow's."""
    counts = {"batch_size": np.int64(16), "validation_steps": np.int64(3), "epochs": np.int64(2)}
    ours, theirs = by_both(dense, X, REAL, validation_data=(X, REAL), **counts)
    assert_same(ours, theirs)


def test_a_training_in_order_draws_nothing():
    """The next model's initial weights were others than after ``model.fit``."""

    def drawn(train):
        random.seed(1)
        train(dense(), X, REAL, shuffle=False, verbose=0)
        return random.random()

    assert drawn(fit) == drawn(keras.Model.fit)


class Paired(keras.metrics.Metric):
    """Two figures at once."""

    def __init__(self):
        super().__init__(name="pair")
        self.total = self.add_weight(name="total", initializer="zeros")

    def update_state(self, y_true, y_pred, sample_weight=None):
        self.total.assign_add(keras.ops.sum(y_pred))

    def result(self):
        return {"p": self.total, "q": 2 * self.total}


class OwnMetrics(keras.Model):
    """Keras's steps, and figures of its own."""

    def __init__(self):
        super().__init__()
        self.dense = L.Dense(1)

    def call(self, x):
        return self.dense(x)

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        logs = super().compute_metrics(x, y, y_pred, sample_weight)
        return {**logs, "rmse": keras.ops.sqrt(logs["loss"])}


def _with_metrics(*metrics):
    model = keras.Sequential([keras.Input(X.shape[1:]), L.Dense(3, "softmax")])
    model.compile("sgd", "categorical_crossentropy", metrics=list(metrics))
    return model


def _own_metrics():
    model = OwnMetrics()
    model.compile("sgd", "mse")
    return model


KINDS = np.eye(3, dtype="float32")[np.arange(len(X)) % 3]
SHAPES = {
    "a metric of two figures": (lambda: _with_metrics(Paired()), KINDS),
    "a figure a class": (lambda: _with_metrics(keras.metrics.F1Score()), KINDS),
    "compute_metrics": (_own_metrics, REAL),
}


@pytest.mark.parametrize(
    "case", ["compute_metrics", *(pytest.param(case, marks=pytest.mark.long) for case in list(SHAPES)[:2])]
)
def test_metrics_of_any_name_and_shape_are_as_in_model_fit(case, tmp_path):
    make, y = SHAPES[case]
    ours, theirs = by_both(make, X, y, validation_data=(X, y), epochs=2)
    assert_same(ours, theirs)
    plan = TrainingPlan((1,), tmp_path / "state.npz", {})
    with planned(plan) as record:
        make().fit(X, y, validation_data=(X, y), epochs=2, verbose=0)
    assert record.history.keys() == theirs[1].history.keys()
    assert all(isinstance(value, float) for values in record.history.values() for value in values)


class StopsEvaluating(keras.callbacks.Callback):
    def on_test_begin(self, logs=None):
        self.model.stop_evaluating = True


def test_an_evaluation_that_is_stopped_before_it_begins_has_one_batch():
    ours, theirs = by_both(dense, X, REAL, validation_data=(X, REAL), callbacks=(StopsEvaluating,), batch_size=4)
    assert_same(ours, theirs)


class Told(keras.Model):
    """Its metrics are what a callback leaves on it."""

    told = 0.0

    def __init__(self):
        super().__init__()
        self.inner = L.Dense(1)

    def call(self, inputs):
        return self.inner(inputs)

    def get_metrics_result(self):
        return {**super().get_metrics_result(), "told": self.told}


class Scaled(keras.metrics.MeanAbsoluteError):
    scale = 1.0

    def result(self):
        return self.scale * super().result()


class Tells(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        self.model.told = float(epoch)
        for metric in self.model.metrics[1].metrics:
            metric.scale = 10.0**epoch


def _told():
    model = Told()
    model.compile("sgd", "mse", metrics=[Scaled(name="scaled")])
    return model


def test_what_a_metric_of_the_user_s_reads_from_python_is_read_after_every_epoch():
    """It was read once, while the epoch was traced."""
    ours, theirs = by_both(_told, X, REAL, validation_data=(X, REAL), epochs=3, callbacks=(Tells,))
    assert_same(ours, theirs)
    assert theirs[1].history["told"] == theirs[1].history["val_told"] == [0, 1, 2]
    assert theirs[1].history["scaled"][2] > 20 * theirs[1].history["scaled"][0]


def test_validation_data_that_a_callback_fills_is_read_when_it_is_used_first():
    def trained(train):
        filled = np.zeros_like(X)

        def fill(logs):
            filled[:] = X

        keras.utils.set_random_seed(1)
        callbacks = [K.LambdaCallback(on_train_begin=fill)]
        return train(dense(), X, REAL, shuffle=False, validation_data=(filled, REAL), callbacks=callbacks, verbose=0)

    ours, theirs = (trained(one).history["val_loss"] for one in (fit, keras.Model.fit))
    assert ours == pytest.approx(theirs, rel=1e-5)


class TrainedWithABranch(keras.Model):
    """A branch that exists in training alone."""

    def __init__(self):
        super().__init__()
        self.first, self.last = keras.layers.Dense(4, "relu"), keras.layers.Dense(1)
        self.aside = keras.layers.Dense(4)

    def call(self, x, training=False):
        hidden = self.first(x)
        return self.last(hidden + self.aside(hidden) if training else hidden)


@pytest.mark.filterwarnings("ignore:`build\\(\\)` was called on layer")  # else the model is not built when it is to be
def test_a_layer_that_is_called_in_training_alone_is_trained():
    """The optimizer was built before the layer had weights, and neither path could train it."""
    x = np.random.default_rng(0).normal(size=(40, 3)).astype("float32")
    found = []
    for train in (keras.Model.fit, fit):
        keras.utils.set_random_seed(0)
        model = TrainedWithABranch()
        model.compile("adam", "mse")
        train(model, x, x[:, :1], epochs=3, shuffle=False, verbose=0)
        found.append(model.get_weights())
    assert len(found[0]) == 6
    for stock, ours in zip(*found, strict=True):
        np.testing.assert_allclose(ours, stock, rtol=1e-5, atol=1e-6)


class _Namesake(keras.callbacks.Callback):
    def get_state(self, name):
        return getattr(self, name)

    def set_state(self, name, value):
        setattr(self, name, value)


class _Failing(keras.callbacks.Callback):
    def get_state(self):
        raise RuntimeError("no state")

    def set_state(self, state):
        """Nothing."""


@pytest.mark.parametrize("callback", [_Namesake, _Failing])
def test_a_callback_s_methods_of_another_meaning_end_no_training(tmp_path, callback):
    plan = TrainingPlan((1,), tmp_path / "state.npz", {})
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    with planned(plan):
        history = fit(model, np.ones((8, 3)), np.ones(8), epochs=2, verbose=0, callbacks=[callback()])
    assert len(history.epoch) == 2
