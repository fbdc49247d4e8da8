"""Canaries: a private name of TensorFlow, Keras or KerasTuner that a new version moves turns one of these red.

What to mend: for Keras and TensorFlow the function of ``search/training/_tensorflow.py`` that the test names; for KerasTuner the
class of ``search/oracles`` or ``search/tuner`` that uses the name.
"""

import ast
import inspect
import itertools
import random
from pathlib import Path

import keras
import keras_tuner
import numpy as np
import pytest
import tensorflow as tf
from keras_tuner.src.engine import oracle, tuner_utils
from tensorflow.python import module, trackable

from search.training import _tensorflow, callbacks, fingerprint
from tests.conftest import ROOT

X, Y = np.arange(24, dtype=np.float32).reshape(12, 2), np.arange(12, dtype=np.float32)


def model():
    keras.utils.set_random_seed(1)
    made = keras.Sequential(
        [keras.Input((2,)), keras.layers.Dense(3, name="first"), keras.layers.Dense(1, name="last")]
    )
    made.compile(keras.optimizers.Adam(0.01), "mse", metrics=["mae"])
    return made


def trained():
    made = model()
    made.fit(X, Y, batch_size=4, verbose=0)
    return made


# TensorFlow and Keras, a test for each function of search/training/_tensorflow.py


def test_kernels_kept():
    """Seeding forgets no kernel inside it, and the context is whole afterwards."""
    context = _tensorflow.context.context()
    tf.constant(1)  # the context begins with the first operation
    before = context._context_handle
    assert before is not None
    with _tensorflow.kernels_kept():
        tf.random.set_seed(3)
    assert context._context_handle is before
    assert isinstance(context._rng, random.Random)
    assert context._seed == 3


def test_forget_generator():
    """What is drawn without a seed goes on after Keras was seeded, unless the generator is forgotten."""
    keras.random.uniform(())
    _tensorflow.forget_generator()
    drawn = []
    for _ in range(2):
        keras.utils.set_random_seed(3)
        _tensorflow.forget_generator()
        drawn.append(float(keras.random.uniform(())))
    assert drawn[0] == drawn[1]


def test_traced():
    """A custom gradient that is traced leaves the registry with its program."""

    @tf.custom_gradient
    def doubled(x):
        return 2 * x, lambda upstream: 2 * upstream

    registered = _tensorflow.ops.gradient_registry._registry
    before = set(registered)
    program = _tensorflow.traced(lambda x: doubled(x), tf.TensorSpec((), tf.float32))
    assert set(registered) > before
    del program
    assert set(registered) == before


def test_call():
    """A program runs on another variable than the one it was traced with, which stays as it is."""
    one, other = tf.Variable(1.0), tf.Variable(10.0)
    program = _tensorflow.traced(lambda x: one.assign_add(x), tf.TensorSpec((), tf.float32))
    assert program.captured_inputs[0] is one.handle
    _tensorflow.call(program, [tf.constant(2.0)], [other.handle])
    assert (one.numpy(), other.numpy()) == (1, 12)


def test_handle():
    """The same object at every call, and the one that a program captures."""
    variable = keras.Variable([1.0, 2.0])
    program = _tensorflow.traced(lambda: variable.value * 2)
    assert _tensorflow.handle(variable) is _tensorflow.handle(variable) is program.captured_inputs[0]


def test_is_variable_value_assign():
    variable = keras.Variable([1.0, 2.0])
    handle = _tensorflow.handle(variable)
    table = tf.lookup.experimental.MutableHashTable(tf.string, tf.int64, -1)
    assert _tensorflow.is_variable(handle)
    assert not _tensorflow.is_variable(table.resource_handle)
    np.testing.assert_array_equal(_tensorflow.value(handle), [1, 2])
    _tensorflow.assign(handle, np.float32([3, 4]))
    np.testing.assert_array_equal(variable.numpy(), [3, 4])


def test_is_own_train_function():
    made = model()
    assert _tensorflow.is_own_train_function(made)
    made.make_train_function()
    assert made.train_function is not None
    assert _tensorflow.is_own_train_function(made)
    made.train_function = lambda iterator: {}
    assert not _tensorflow.is_own_train_function(made)


def test_is_distributed():
    assert not _tensorflow.is_distributed(model())
    with tf.distribute.OneDeviceStrategy("/cpu:0").scope():
        made = model()
        assert _tensorflow.is_distributed(made)
    assert _tensorflow.is_distributed(made)


def test_starting_epoch(tmp_path):
    """What ``BackupAndRestore`` found is where training begins."""
    made = trained()
    assert _tensorflow.starting_epoch(made, 2) == 2
    made._initial_epoch = 5
    assert _tensorflow.starting_epoch(made, 2) == 5
    assert "_initial_epoch" in inspect.getsource(keras.callbacks.BackupAndRestore)


def test_should_evaluate():
    made = model()
    assert [_tensorflow.should_evaluate(made, epoch, 2) for epoch in range(4)] == [False, True, False, True]
    assert [_tensorflow.should_evaluate(made, epoch, [1, 4]) for epoch in range(4)] == [True, False, False, True]


def test_metrics_or_logs():
    made = trained()
    assert set(_tensorflow.metrics_or_logs(made, {"loss": 1.0, "mae": 2.0})) == {"loss", "mae"}
    assert _tensorflow.metrics_or_logs(made, {"other": 1.0}) == {"other": 1.0}


def test_is_default_hook():
    class Own(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            pass

    assert _tensorflow.is_default_hook(Own().on_train_batch_begin)
    assert not _tensorflow.is_default_hook(Own().on_train_batch_end)


def test_accepts_arrays():
    assert _tensorflow.accepts_arrays(X, Y, None)
    assert not _tensorflow.accepts_arrays(tf.data.Dataset.from_tensors(X))


def test_array_batches():
    inputs, n, size = _tensorflow.array_batches([X, X], Y, None, None, None, None)
    assert (n, size) == (12, 32)
    assert isinstance(inputs[0], tuple)
    (_, weight), _, size = (_tensorflow.array_batches(X, Y, None, {0: 1.0, 1: 2.0}, 5, None)[0][1:], 0, 5)
    assert len(weight) == 12
    assert size == 5


def test_as_keras_feeds_it():
    assert _tensorflow.as_keras_feeds_it(X.astype(np.float64)).dtype == np.float32


def test_validation_split():
    (x, y, weight), (x_held, y_held, _) = _tensorflow.validation_split(X, Y, None, 0.25)
    assert (len(x), len(x_held), weight) == (9, 3, None)
    np.testing.assert_array_equal(y_held, Y[9:])
    assert len(y) == 9


def test_layers():
    inner = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2, name="inside")])
    outer = keras.Sequential([keras.Input((2,)), inner, keras.layers.Dense(1, name="outside")])
    assert {"inside", "outside"} <= {layer.name for layer in _tensorflow.layers(outer)}


def test_losses():
    made = model()
    assert _tensorflow.losses(made) == []
    made.fit(X, Y, verbose=0)
    (loss,) = _tensorflow.losses(made)
    assert loss.reduction == "sum_over_batch_size"


def test_metrics():
    kinds = [type(metric).__name__ for metric in _tensorflow.metrics(trained())]
    assert "MeanMetricWrapper" in kinds or "MeanAbsoluteError" in kinds


def test_function_of():
    loss, metric = keras.losses.Huber(0.5), keras.metrics.BinaryAccuracy(threshold=0.3)
    assert _tensorflow.function_of(loss) == (keras.losses.huber, {"delta": 0.5})
    assert _tensorflow.function_of(metric) == (keras.metrics.binary_accuracy, {"threshold": 0.3})
    assert _tensorflow.function_of(keras.metrics.AUC()) == (None, {})


def test_is_called_in_training():
    inputs = keras.Input((2,))
    always, usual = keras.layers.Dropout(0.5), keras.layers.Dropout(0.5)
    keras.Model(inputs, usual(always(inputs, training=True)))
    assert _tensorflow.is_called_in_training(always)
    assert not _tensorflow.is_called_in_training(usual)


def test_excluded_from_weight_decay():
    made = model()
    made.compile(keras.optimizers.AdamW(0.01), "mse")
    optimizer = made.optimizer
    optimizer.exclude_from_weight_decay(var_list=[made.trainable_variables[1]])
    optimizer.build(made.trainable_variables)
    spared = _tensorflow.excluded_from_weight_decay(optimizer, optimizer._exclude_from_weight_decay)
    assert spared == (False, True, False, False)
    assert _tensorflow.excluded_from_weight_decay(optimizer, "bias") == (False, True, False, True)
    assert _tensorflow.excluded_from_weight_decay(optimizer, None) == (False,) * 4


def test_learning_rate():
    schedule = keras.optimizers.schedules.ExponentialDecay(0.1, 10, 0.5)
    assert _tensorflow.learning_rate(keras.optimizers.SGD(schedule)) is schedule
    rate = _tensorflow.learning_rate(keras.optimizers.SGD(0.5))
    assert isinstance(rate, keras.Variable)
    assert float(rate) == 0.5


def test_producers():
    """The operations before a layer in a functional model; none where it is in none."""
    x = keras.Input((4,))
    first, second, alone = keras.layers.Dense(3), keras.layers.Dense(2), keras.layers.Dense(1)
    keras.Model(x, second(first(x)))
    assert _tensorflow.producers(second) == [first]
    alone(np.zeros((1, 4), "float32"))
    assert _tensorflow.producers(alone) == []


def test_given_metrics():
    mean, weighted = keras.metrics.Mean(name="mine"), keras.metrics.MeanSquaredError(name="weighted")
    for made in (model(), trained()):
        assert _tensorflow.given_metrics(made) == []
        made.compile("sgd", "mse", metrics=["mae", mean], weighted_metrics=[[weighted]])
        assert _tensorflow.given_metrics(made) == [mean, weighted]
    assert _tensorflow.given_metrics(keras.Sequential()) == []


def test_has_op_callbacks():
    assert not _tensorflow.has_op_callbacks()
    tf.debugging.enable_check_numerics()
    try:
        assert _tensorflow.has_op_callbacks()
    finally:
        tf.debugging.disable_check_numerics()
    assert not _tensorflow.has_op_callbacks()


def test_is_tracking_wrapper():
    module = tf.Module()
    module.values, module.table, module.pair = [1], {"a": 1}, (1, 2)
    assert _tensorflow.is_tracking_wrapper(module.values)
    assert _tensorflow.is_tracking_wrapper(module.table)
    assert not _tensorflow.is_tracking_wrapper([1])


def test_profiles(tmp_path):
    assert not _tensorflow.profiles(keras.callbacks.TensorBoard(tmp_path, profile_batch=0))
    board = keras.callbacks.TensorBoard(tmp_path, profile_batch=1)
    assert isinstance(board._should_trace, bool)


def test_every_function_has_its_canary():
    public = [
        name for name, value in vars(_tensorflow).items() if getattr(value, "__module__", "") == _tensorflow.__name__
    ]
    tests = " ".join(name for name in globals() if name.startswith("test_"))
    assert [name for name in public if not name.startswith("_") and name not in tests] == []


def sources(*packages):
    folders = [Path(package.__file__).parent for package in packages]
    return "\n".join(path.read_text(encoding="utf-8") for folder in folders for path in folder.rglob("*.py"))


def test_attributes_that_the_walk_skips_are_still_keras_s():
    """``SKIPPED`` of search/training/fingerprint.py: one that is gone has another name now, which the walk does not know."""
    text = sources(keras.src, trackable, module)
    names = fingerprint.SKIPPED | fingerprint.SKIPPED_OF_VARIABLES
    if keras.version().startswith("3.12."):
        names = names - {"_compiled_trainable_state"}  # Keras 3.12 has none yet
    assert sorted(name for name in names if name not in text) == []


@pytest.mark.long
@pytest.mark.parametrize("kind", [kind for kind in callbacks.REMEMBERED if kind is not keras.callbacks.History])
def test_what_a_callback_of_keras_s_changes_while_it_trains_is_remembered(kind, tmp_path):
    """``REMEMBERED`` of search/training/callbacks.py: an attribute that epochs change and that is not on it would be lost."""
    made = model()
    made.compile(keras.optimizers.SGD(1e-9, use_ema=True), "mse", metrics=["mae"])
    arguments = {
        keras.callbacks.EarlyStopping: {"monitor": "loss", "restore_best_weights": True},
        keras.callbacks.ReduceLROnPlateau: {"monitor": "loss", "patience": 1, "cooldown": 1, "min_delta": 1},
        keras.callbacks.ModelCheckpoint: {"filepath": tmp_path / "m.keras", "monitor": "loss", "save_best_only": True},
        keras.callbacks.SwapEMAWeights: {"swap_on_epoch": True},
        keras.callbacks.TensorBoard: {"log_dir": tmp_path, "write_graph": False},
    }.get(kind, {})
    watched = kind(**arguments)
    seen = []

    class Watch(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            seen.append({name: repr(value) for name, value in vars(watched).items()})

    made.fit(X, Y, batch_size=4, epochs=4, callbacks=[watched, Watch()], verbose=0)
    changed = {name for before, after in itertools.pairwise(seen) for name in after if before.get(name) != after[name]}
    harmless = {  # what each epoch sets anew before it reads it
        "_current_epoch", "_epoch_start_time", "seen", "target", "progbar", "epoch",
        "_train_accumulated_time", "_batch_start_time", "_epoch", "model", "_model",
    }  # fmt: skip
    assert changed <= {*callbacks.REMEMBERED[kind], *harmless}
    assert set(callbacks.REMEMBERED[kind]) <= {*seen[-1], "best_epoch"}


# KerasTuner: the private names that our subclasses call or override, by the class that has them

ORACLE, HYPERBAND = oracle.Oracle, keras_tuner.oracles.HyperbandOracle
KERASTUNER = [
    (ORACLE, "_random_values", "(self)"),
    (ORACLE, "_record_values", "(self, trial)"),
    (ORACLE, "_check_consecutive_failures", "(self)"),
    (ORACLE, "_save_trial", "(self, trial)"),
    (ORACLE, "_duplicate", "(self, values)"),
    (ORACLE, "_compute_values_hash", "(self, values)"),
    (ORACLE, "_set_project_dir", "(self, directory, project_name)"),
    (HYPERBAND, "_get_size", "(self, bracket_num, round_num)"),
    (HYPERBAND, "_get_epochs", "(self, bracket_num, round_num)"),
    (HYPERBAND, "_get_num_brackets", "(self)"),
    (keras_tuner.oracles.GridSearchOracle, "_get_next_combination", "(self, values)"),
    (keras_tuner.oracles.GridSearchOracle, "_compare", "(self, a, b)"),
    (keras_tuner.oracles.BayesianOptimizationOracle, "_make_gpr", "(self)"),
    (keras_tuner.HyperParameters, "_exists", "(self, name, conditions=None)"),
    (keras_tuner.Tuner, "_populate_initial_space", "(self)"),
    (keras_tuner.Tuner, "_build_hypermodel", "(self, hp)"),
    (keras_tuner.Tuner, "_try_build", "(self, hp)"),
    (keras_tuner.Tuner, "_run_and_update_trial", "(self, trial, *fit_args, **fit_kwargs)"),
    (keras_tuner.Tuner, "_build_and_fit_model", "(self, trial, *args, **kwargs)"),
    (keras_tuner.Tuner, "_get_checkpoint_fname", "(self, trial_id)"),
    (keras_tuner.Tuner, "_deepcopy_callbacks", "(self, callbacks)"),
    (keras_tuner.Tuner, "_configure_tensorboard_dir", "(self, callbacks, trial, execution=0)"),
    (keras_tuner.Tuner, "_get_tuner_fname", "(self)"),
    (keras_tuner.Tuner, "_is_worker", "(self)"),
    (tuner_utils.SaveBestEpoch, "_save_model", "(self)"),
]  # fmt: skip
OF_OBJECTS = {
    ORACLE: ("_retry_queue", "_run_times", "_directory", "_project_name", "_seed_state"),
    HYPERBAND: ("_brackets", "_current_bracket", "_current_iteration"),
    keras_tuner.oracles.GridSearchOracle: ("_populate_next",),
    keras_tuner.oracles.BayesianOptimizationOracle: ("_random_state",),
}


@pytest.mark.parametrize(
    ("owner", "name", "signature"), KERASTUNER, ids=lambda value: getattr(value, "__name__", str(value))
)
def test_a_method_of_kerastuner_s_takes_what_it_took(owner, name, signature):
    assert str(inspect.signature(getattr(owner, name))) == signature


def test_attributes_of_kerastuner_s_are_there(tmp_path):
    for owner, names in OF_OBJECTS.items():
        needed = {"max_epochs": 3} if owner is HYPERBAND else {}
        made = owner(objective="val_loss", **needed)
        made._set_project_dir(str(tmp_path), owner.__name__)
        assert [name for name in names if name not in vars(made)] == []


def test_no_other_private_name_is_used():
    """A name that is neither ours nor on a list here has no canary."""
    listed = {name for _, name, _ in KERASTUNER} | {name for names in OF_OBJECTS.values() for name in names}
    trees = {path: ast.parse(path.read_text(encoding="utf-8")) for path in (ROOT / "search").rglob("*.py")}
    ours = set().union(*(names_defined(tree) for tree in trees.values()))
    found = []
    for path, tree in trees.items():
        if path.name == "_tensorflow.py":
            continue
        for node in ast.walk(tree):
            name = getattr(node, "attr", "") if isinstance(node, ast.Attribute) else ""
            if name.startswith("_") and not name.startswith("__") and name not in ours | listed | {"_exit"}:
                found.append(f"{path.relative_to(ROOT)}, line {node.lineno}: {name}")
    assert found == []


def names_defined(tree):
    """Names of functions, classes and attributes that a file itself makes."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            yield node.name
        targets = (
            node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        )
        for target in targets:
            for part in ast.walk(target):
                yield getattr(part, "attr", getattr(part, "id", ""))
