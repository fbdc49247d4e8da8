"""Every private name of TensorFlow and Keras that training uses. ``tests/test_private_names.py`` says what to mend."""

from __future__ import annotations

import contextlib
import itertools
import random
import re
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import tensorflow as tf
from keras.src.backend.common import global_state
from keras.src.trainers.data_adapters import array_data_adapter, array_slicing
from tensorflow.python.eager import context
from tensorflow.python.framework import ops
from tensorflow.python.trackable import data_structures

SEEDINGS_BETWEEN_FORGETTING = 50  # of TensorFlow's kernels; those of a new structure's trial take some 0.5 MB

_seedings = itertools.count()


@contextlib.contextmanager
def kernels_kept() -> Iterator[None]:
    """Inside it, seeding TensorFlow does not make it forget its kernels, except now and then.

    It forgets every kernel when it is seeded, lest one that drew goes on with its old numbers, and optimises each
    program anew: some 0.1 s a trial. Where none drew nothing goes on; it forgets now and then all the same, since it
    keeps the kernels of dropped programs too.
    """
    eager = context.context()
    handle = eager._context_handle
    drawn_from = getattr(eager, "_rng", None)
    drew = drawn_from is None or drawn_from.getstate() != random.Random(eager._seed).getstate()
    if not drew and next(_seedings) % SEEDINGS_BETWEEN_FORGETTING:
        eager._context_handle = None
    try:
        yield
    finally:
        eager._context_handle = handle


def forget_generator() -> None:
    """The generator that layers without a seed share is made anew, as Keras 3.15 does when it is seeded and 3.12 does not."""
    global_state.set_global_attribute("global_seed_generator", None)


def traced(function: Callable[..., Any], *signature: tf.TensorSpec, jit_compile: bool = False) -> Any:
    """The ``ConcreteFunction`` of ``function``; what TensorFlow would keep of it for good goes when it goes.

    A custom gradient that is traced stays in TensorFlow's registry, and its whole graph with it: some MB a program, since
    every optimizer's step has one. No one differentiates these programs, so theirs go with them.
    """
    registered = getattr(ops.gradient_registry, "_registry", {})
    before = set(registered)
    program = tf.function(function, autograph=False, jit_compile=jit_compile).get_concrete_function(*signature)
    weakref.finalize(program, _remove, registered, registered.keys() - before).atexit = False
    return program


def _remove(entries: dict[str, Any], names: set[str]) -> None:
    for name in names:
        entries.pop(name, None)


def call(program: Any, arguments: Sequence[tf.Tensor], captures: Sequence[tf.Tensor]) -> Any:
    """Runs a ``ConcreteFunction`` with ``captures`` in place of the variables and tensors that it was traced with."""
    return program._call_flat(list(arguments), list(captures))


def handle(variable: keras.Variable) -> tf.Tensor:
    """The resource of a Keras variable, as a traced function captures it: the same object at every call."""
    return variable._value.handle


def is_variable(resource: tf.Tensor) -> bool:
    """Whether a captured resource is a variable, rather than a table, an iterator or a queue."""
    data = getattr(resource, "_handle_data", None)
    return data is not None and bool(data.is_set)


def value(resource: tf.Tensor) -> Any:
    """The value (an array) of the variable that a captured resource is."""
    (known,) = resource._handle_data.shape_and_type
    return tf.raw_ops.ReadVariableOp(resource=resource, dtype=tf.as_dtype(known.dtype)).numpy()


def assign(resource: tf.Tensor, array: Any) -> None:
    """Sets the variable that a captured resource is."""
    tf.raw_ops.AssignVariableOp(resource=resource, value=tf.constant(array))


def is_own_train_function(model: keras.Model) -> bool:
    """Whether ``model.train_function`` is the one that Keras makes, or none yet; another is the user's."""
    function = model.train_function
    return function is None or getattr(function, "__qualname__", "").startswith("TensorFlowTrainer._make_function.")


def is_distributed(model: keras.Model) -> bool:
    """Whether the model was made, or would be trained, under a distribution strategy of TensorFlow or Keras."""
    strategy = getattr(model, "_distribute_strategy", None)
    return strategy is not None or tf.distribute.has_strategy() or keras.distribution.distribution() is not None


def starting_epoch(model: keras.Model, initial_epoch: int) -> int:
    """What ``BackupAndRestore`` asked for in ``on_train_begin``, otherwise ``initial_epoch``."""
    return model._initial_epoch or initial_epoch


def should_evaluate(model: keras.Model, epoch: int, validation_freq: Any) -> bool:
    """Whether Keras evaluates after this epoch (from 0)."""
    return bool(model._should_eval(epoch, validation_freq))


def metrics_or_logs(model: keras.Model, logs: Any) -> Any:
    """An epoch's logs: the metrics, or what the last step returned where a step of the user's own returns other names."""
    return model._get_metrics_result_or_logs(logs)


def is_default_hook(hook: Any) -> bool:
    """Whether a callback's hook is the one of ``keras.callbacks.Callback``, which does nothing."""
    return bool(getattr(hook, "_is_default", False))


def accepts_arrays(*parts: Any) -> bool:
    """Whether Keras takes these for arrays, rather than data sets, generators or something unknown."""
    return bool(array_data_adapter.can_convert_arrays(parts))


def array_batches(
    x: Any, y: Any, sample_weight: Any, class_weight: Any, batch_size: int | None, steps: int | None
) -> tuple[Any, int, int]:
    """What Keras makes of arrays: the structure that a step takes, lists as tuples; how many examples; the batch size.

    Raises:
        ValueError: what Keras raises where the arrays do not belong together.
    """
    adapter = array_data_adapter.ArrayDataAdapter(
        x, y, sample_weight=sample_weight, class_weight=class_weight, batch_size=batch_size, steps=steps
    )
    return keras.tree.lists_to_tuples(adapter._inputs), adapter._num_samples, adapter.batch_size


def as_keras_feeds_it(array: Any) -> Any:
    """The array or tensor that Keras's TensorFlow trainer slices batches from: floats as ``floatx``, pandas as NumPy."""
    return array_slicing.convert_to_sliceable(array, target_backend="tensorflow")


def validation_split(x: Any, y: Any, sample_weight: Any, share: float) -> tuple[Any, Any]:
    """Keras's split of ``(x, y, sample_weight)``: the last ``share`` of the examples is for validation."""
    parts: tuple[Any, Any] = array_slicing.train_validation_split((x, y, sample_weight), validation_split=share)
    return parts


def layers(model: keras.Model) -> list[keras.Layer]:
    """Every layer of the model, those of models in it too."""
    return list(model._flatten_layers(include_self=False))


def producers(layer: keras.Layer) -> list[Any]:
    """What makes the layer's inputs in functional models, operation by operation; none for a layer that is in none."""
    return [tensor._keras_history.operation for node in layer._inbound_nodes for tensor in node.input_tensors]


def losses(model: keras.Model) -> list[keras.losses.Loss]:
    """The losses that the model was compiled with, one an output, once it has been trained or evaluated; else none."""
    return [part.loss for part in getattr(model._compile_loss, "_flat_losses", None) or ()]


def metrics(model: keras.Model) -> list[keras.metrics.Metric]:
    """Every metric of the model, out of the containers that ``compile`` puts them in."""
    found: list[keras.metrics.Metric] = []
    waiting = list(model.metrics)
    while waiting:
        metric = waiting.pop()
        found.append(metric)
        waiting += getattr(metric, "metrics", ())
    return found


def given_metrics(model: keras.Model) -> list[keras.metrics.Metric]:
    """The metric objects that ``compile`` was given, weighted ones too, whether or not the model has been trained."""
    compiled = getattr(model, "_compile_metrics", None)
    parts = (getattr(compiled, name, None) for name in ("_user_metrics", "_user_weighted_metrics"))
    return [one for one in keras.tree.flatten(list(parts)) if isinstance(one, keras.metrics.Metric)]


def has_op_callbacks() -> bool:
    """Whether something, as ``tf.debugging.enable_check_numerics``, looks at every operation of this process."""
    return bool(context.context().op_callbacks)


def function_of(part: Any) -> tuple[Any, dict[str, Any]]:
    """The function that a loss or a metric wraps, None where it wraps none, and the arguments that it gives it."""
    function = getattr(part, "fn", None) or getattr(part, "_fn", None)
    return function, dict(getattr(part, "_fn_kwargs", None) or {})


def is_called_in_training(layer: keras.Layer) -> bool:
    """Whether a functional model calls the layer with ``training=True``, at inference too."""
    return any(
        argument is True
        for node in layer._inbound_nodes
        for argument in (*node.arguments.args, *node.arguments.kwargs.values())
    )


def learning_rate(optimizer: keras.optimizers.Optimizer) -> Any:
    """The optimizer's variable or schedule, which ``optimizer.learning_rate`` gives the value of."""
    return optimizer._learning_rate


def excluded_from_weight_decay(optimizer: keras.optimizers.Optimizer, excluded: Any) -> tuple[bool, ...]:
    """Which of the optimizer's variables are spared: by a pattern of their names, or as a set of variables (or None)."""
    variables = optimizer._trainable_variables
    if isinstance(excluded, (str, re.Pattern)):
        return tuple(bool(re.search(excluded, variable.name)) for variable in variables)
    return tuple(optimizer._var_key(variable) in (excluded or ()) for variable in variables)


def is_tracking_wrapper(node: Any) -> bool:
    """Whether TensorFlow put it around a list, a dictionary or a tuple that was set on an object of its."""
    return type(node).__module__ == data_structures.__name__ and hasattr(node, "__len__")


def profiles(callback: keras.callbacks.TensorBoard) -> bool:
    """Whether it traces batches for the profiler."""
    return bool(callback._should_trace)
