"""``search.training.fit`` against ``model.fit`` on generated models, trained one after another in one process.

Every day 10, the same each time; continuous integration 210, ``make slow`` 2,000. ``FIT_SEED=1 make slow`` tries others.
"""

import os
import shutil
import tempfile
import warnings
from pathlib import Path

import keras
import numpy as np
import pytest
from hypothesis import HealthCheck, given, note, seed, settings
from hypothesis import strategies as st

from search.training import Stopped, TrainingPlan, planned, xla
from search.training.fit import fit

L, K = keras.layers, keras.callbacks
MOST_SEEDS = 1000
every_day = pytest.mark.parametrize(
    ("chosen", "examples"),
    [
        (0, 5),
        *(pytest.param(chosen, 10, marks=pytest.mark.long) for chosen in range(1, 11)),
        *(pytest.param(chosen, 10, marks=pytest.mark.slow) for chosen in range(11, 111)),
    ],
)


def tried(check, chosen, examples):
    """Runs ``check`` on so many recipes, which the seed ``chosen`` draws."""

    def checked(recipe):  # hypothesis takes a function once
        check(recipe)

    few = settings(max_examples=examples, deadline=None, database=None, suppress_health_check=[*HealthCheck])
    seed(chosen + MOST_SEEDS * int(os.environ.get("FIT_SEED", 0)))(given(recipes())(few(checked)))()


N = 22
RANDOM = np.random.default_rng(4)
INPUTS = {
    "numbers": RANDOM.normal(size=(N, 5)).astype("float32"),
    "images": RANDOM.random((N, 6, 6, 1)).astype("float32"),
    "tokens": RANDOM.integers(1, 9, (N, 4)),
}
REAL = (INPUTS["numbers"][:, :1] * INPUTS["numbers"][:, 1:2]).astype("float32")
CLASS = (REAL[:, 0] > 0).astype("int32") + (REAL[:, 0] > 1)
TARGETS = {
    "real": REAL,
    "classes": CLASS,
    "one hot": np.eye(3, dtype="float32")[CLASS],
    "yes or no": CLASS[:, None] > 0,
}
UNITS = {"real": 1, "classes": 3, "one hot": 3, "yes or no": 1}
ACTIVATIONS = ["tanh", "relu", "silu", None]


def of(kind, **arguments):
    """Draws a layer, a loss, an optimizer or a callback as its class's name and its arguments."""
    return st.tuples(
        st.just(kind), st.fixed_dictionaries({name: st.sampled_from(values) for name, values in arguments.items()})
    )


LAYERS = {
    "numbers": [
        of("Dense", units=[2, 4], activation=ACTIVATIONS, use_bias=[True, False], kernel_regularizer=[None, "l2"]),
        of("Dense", units=[3], kernel_constraint=["max_norm", "non_neg"], activity_regularizer=[None, "l1"]),
        of("BatchNormalization", momentum=[0.9, 0.5], scale=[True, False], axis=[-1]),
        of("LayerNormalization", epsilon=[1e-3, 1e-2]),
        of("Dropout", rate=[0.2, 0.5]),
        of("GaussianNoise", stddev=[0.1, 0.3]),
        of("Rescaling", scale=[0.5, 2.0], offset=[0.0, 1.0]),
        of("PReLU"),
    ],
    "images": [
        of("Conv2D", filters=[2, 3], kernel_size=[2, 3], strides=[1], padding=["same"], activation=ACTIVATIONS),
        of("DepthwiseConv2D", kernel_size=[2], padding=["same"], depth_multiplier=[1, 2]),
        of("BatchNormalization", momentum=[0.9, 0.5]),
        of("SpatialDropout2D", rate=[0.3]),
        of("MaxPooling2D", pool_size=[2], padding=["same"]),
        of("AveragePooling2D", pool_size=[2], padding=["same"]),
        of("GroupNormalization", groups=[1]),
    ],
    "tokens": [
        of("Conv1D", filters=[2], kernel_size=[2], padding=["causal", "same"], activation=ACTIVATIONS),
        of("SimpleRNN", units=[3], return_sequences=[True]),
        of("GRU", units=[2], return_sequences=[True], go_backwards=[False, True]),
        of("LSTM", units=[2], return_sequences=[True], dropout=[0.0, 0.3]),
        of("SpatialDropout1D", rate=[0.3]),
    ],
}
LOSSES = {
    "real": [
        of("MeanSquaredError"),
        of("Huber", delta=[0.1, 1.0]),
        of("LogCosh"),
        of("MeanSquaredError", reduction=["sum"]),
    ],
    "classes": [of("SparseCategoricalCrossentropy", from_logits=[True])],
    "one hot": [of("CategoricalCrossentropy", from_logits=[True], label_smoothing=[0.0, 0.1])],
    "yes or no": [of("BinaryCrossentropy", from_logits=[True], label_smoothing=[0.0, 0.2]), of("Hinge")],
}
METRICS = {
    "real": ["mae", "mse"],
    "classes": ["sparse_categorical_crossentropy"],
    "one hot": ["mse"],
    "yes or no": ["mae"],
}
RATES = [0.003, 0.03]
SHARED = {"use_ema": [False, False, True], "clipnorm": [None, 0.5], "weight_decay": [None, 0.01]}
# A gradient that is rounding alone is divided by this and stays rounding.
STEADY = {"learning_rate": RATES, "epsilon": [1e-3], **SHARED}
OPTIMIZERS = [
    of("SGD", learning_rate=RATES, momentum=[0.0, 0.9], nesterov=[False, True], **SHARED),
    of("Adam", amsgrad=[False, True], beta_1=[0.9, 0.5], **STEADY),
    of("AdamW", **{**STEADY, "weight_decay": [0.02]}),
    of("RMSprop", momentum=[0.0, 0.5], centered=[False], **STEADY),
    of("Adagrad", **STEADY),
    of("Nadam", **STEADY),
]
CALLBACKS = [
    of("EarlyStopping", monitor=["loss"], patience=[0, 1], min_delta=[0.0, 1.0], restore_best_weights=[False, True]),
    of("ReduceLROnPlateau", monitor=["loss"], patience=[0, 1], factor=[0.5], min_delta=[0.0, 1.0]),
    of("LearningRateScheduler", schedule=["halved"]),
    of("TerminateOnNaN"),
    of("SwapEMAWeights", swap_on_epoch=[True]),
]


@st.composite
def recipes(draw):
    """Everything that a model, its compilation and its training are made of, as plain values."""
    inputs, task = draw(st.sampled_from(sorted(INPUTS))), draw(st.sampled_from(sorted(TARGETS)))
    compiled = st.fixed_dictionaries(
        {
            "optimizer": st.one_of(OPTIMIZERS),
            "loss": st.one_of(LOSSES[task]),
            "metrics": st.lists(st.sampled_from(METRICS[task]), unique=True),
            "steps_per_execution": st.sampled_from([1, 1, 1, 3]),
        }
    )
    epochs = draw(st.integers(1, 4))
    optimizers = draw(st.lists(compiled, min_size=1, max_size=2))  # the second: compiled and trained again
    averages = all(one["optimizer"][1]["use_ema"] for one in optimizers)
    callbacks = draw(
        st.lists(st.one_of(CALLBACKS if averages else CALLBACKS[:-1]), max_size=2, unique_by=lambda one: one[0])
    )
    return {
        "inputs": inputs,
        "task": task,
        "layers": draw(st.lists(st.one_of(LAYERS[inputs]), min_size=0, max_size=3)),
        "frozen": draw(st.sampled_from([False, False, True])),
        "compiled": optimizers,
        "callbacks": callbacks,
        "batch_size": draw(st.sampled_from([4, 8, 22, 50])),
        "epochs": epochs,
        "initial_epoch": draw(st.integers(0, epochs - 1)),
        "validation": draw(st.sampled_from(["none", "data", "split"])),
        "validation_freq": draw(st.sampled_from([1, 2])),
        "weights": draw(st.sampled_from(["none", "none", "sample", "class"])),
        "steps_per_epoch": draw(st.sampled_from([None, None, 2])),
        "xla_break_even": draw(st.sampled_from([xla.XLA_BREAK_EVEN, 0.0])),
        "interrupted": draw(st.lists(st.integers(1, 3), max_size=2)),
    }


def halved(epoch, rate):
    return rate / 2


def made(module, recipe):
    kind, arguments = recipe
    arguments = {name: halved if value == "halved" else value for name, value in arguments.items()}
    return getattr(module, kind)(**arguments)


def network(recipe):
    x, units = INPUTS[recipe["inputs"]], UNITS[recipe["task"]]
    before = {"numbers": [], "images": [], "tokens": [L.Embedding(9, 3)]}[recipe["inputs"]]
    after = [] if recipe["inputs"] == "numbers" else [L.Flatten()]
    middle = [made(L, layer) for layer in recipe["layers"]]
    if recipe["frozen"] and middle:
        middle[0].trainable = False
    return keras.Sequential([keras.Input(x.shape[1:], dtype=x.dtype.name), *before, *middle, *after, L.Dense(units)])


def compile_as(model, compiled):
    model.compile(
        made(keras.optimizers, compiled["optimizer"]),
        loss=made(keras.losses, compiled["loss"]),
        metrics=compiled["metrics"],
        steps_per_execution=compiled["steps_per_execution"],
    )


def arguments(recipe):
    x, y = INPUTS[recipe["inputs"]], TARGETS[recipe["task"]]
    weights = {
        "none": {},
        "sample": {"sample_weight": np.linspace(0.5, 2, N)},
        "class": {"class_weight": {0: 1.0, 1: 3.0, 2: 0.5}} if recipe["task"] == "classes" else {},
    }[recipe["weights"]]
    validation = {
        "none": {},
        "data": {"validation_data": (x[:9], y[:9])},
        "split": {"validation_split": 0.3},
    }[recipe["validation"]]
    return {
        "x": x,
        "y": y,
        **weights,
        **validation,
        **{
            name: recipe[name]
            for name in ("batch_size", "epochs", "initial_epoch", "validation_freq", "steps_per_epoch")
        },
        "callbacks": [made(K, callback) for callback in recipe["callbacks"]],
        "verbose": 0,
    }


def trained(recipe, train, shuffle=False):
    """Trains as the recipe has it; returns the model and the histories of its trainings."""
    keras.utils.set_random_seed(5)
    model = network(recipe)
    histories = []
    with warnings.catch_warnings(), pytest.MonkeyPatch.context() as patch:
        warnings.simplefilter("ignore")  # data that runs out, a plateau's rate
        patch.setattr(xla, "XLA_BREAK_EVEN", recipe["xla_break_even"])
        for compiled in recipe["compiled"]:
            compile_as(model, compiled)
            histories.append(train(model, **arguments(recipe), shuffle=shuffle))
    return model, histories


def variables(model):
    return [*model.variables, *model.optimizer.variables]


@every_day
def test_a_generated_model_ends_where_model_fit_ends(chosen, examples):
    tried(ends_where_keras_ends, chosen, examples)


@every_day
def test_a_generated_training_that_is_interrupted_ends_as_one_left_alone(chosen, examples):
    tried(ends_as_one_left_alone, chosen, examples)


def ends_where_keras_ends(recipe):
    (ours, our_histories), (theirs, their_histories) = (trained(recipe, train) for train in (fit, keras.Model.fit))
    for mine, reference in zip(our_histories, their_histories, strict=True):
        assert mine.epoch == reference.epoch
        assert mine.history.keys() == reference.history.keys()
        for name, values in reference.history.items():
            np.testing.assert_allclose(mine.history[name], values, rtol=2e-3, atol=1e-4, err_msg=name)
    for mine, reference in zip(variables(ours), variables(theirs), strict=True):
        np.testing.assert_allclose(mine.numpy(), reference.numpy(), rtol=1e-2, atol=2e-4, err_msg=mine.path)


def ends_as_one_left_alone(recipe):
    folder = Path(tempfile.mkdtemp())
    try:
        whole, whole_histories = followed(recipe, folder / "whole.npz", [])
        again, histories = followed(recipe, folder / "again.npz", list(recipe["interrupted"]))
    finally:
        shutil.rmtree(folder)
    for mine, reference in zip(histories, whole_histories, strict=True):
        assert mine.epoch == reference.epoch
        assert mine.history == reference.history or np.isnan([*reference.history.values()]).any()
    for mine, reference in zip(variables(again), variables(whole), strict=True):
        np.testing.assert_array_equal(mine.numpy(), reference.numpy(), err_msg=mine.path)


def followed(recipe, state, stops):
    """Trains under a plan, stopped after so many epochs, each time anew, and at last to the end."""
    while True:
        left = [stops.pop(0) if stops else 0]

        def stopping(left=left):
            left[0] -= 1
            return left[0] == 0

        plan = TrainingPlan((7, 1), state, {"of": "generated"}, diverges=False, stopping=stopping)
        with planned(plan):
            try:
                return trained(recipe, lambda model, **given: model.fit(**given), shuffle=True)
            except Stopped:
                note("stopped")
