"""Trains a compiled Keras model, one compiled program an epoch, over data that stays in memory. Knows nothing of searches."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

EVALUATION_BATCH = 1000

# XLA removes the graph executor's overhead, a cost a step, and asks for compiling, a cost a program: it pays once
# the epochs that are left hold more steps than XLA_BREAK_EVEN_STEPS. Measured in benchmarks/.
XLA_BREAK_EVEN_STEPS = 12_000

# On a CPU XLA draws random numbers and convolves 8 to 75 times slower than the graph's kernels do.
SLOW_IN_XLA_ON_CPU = ("Conv", "DepthwiseConv", "Random", "Pool")


def fit(
    model: keras.Model,
    x: Any,
    y: Any,
    *,
    batch_size: int = 32,
    epochs: int = 1,
    initial_epoch: int = 0,
    validation_data: tuple[Any, Any] | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    seed: Sequence[int] | None = None,
    milestones: Sequence[int] | None = None,
) -> keras.callbacks.History:
    """Trains as ``model.fit`` does, and ends with its weights and metrics given the same batches.

    Args:
        model: a compiled Keras model; its own ``train_step`` and ``test_step`` are what is compiled.
        x, y: the examples, (n, ...) each, NumPy arrays or tensors.
        batch_size: examples a step, at least 1; the last step of an epoch takes what is left.
        epochs: the epoch to stop after, counted from 0 as ``model.fit`` does.
        initial_epoch: the epoch to start from.
        validation_data: examples that are evaluated after every epoch, as ``val_`` metrics.
        callbacks: Keras callbacks; those that want every batch are refused.
        seed: epoch e visits the examples in :func:`epoch_order` of ``(*seed, e)``; None draws a seed from NumPy.
        milestones: the epochs, ascending, at which this training was, is or will be continued by another call; None
            where one call does it all. XLA compiles from the first stretch between them that is long enough, so the
            result does not depend on where the calls begin and end.

    Returns:
        The history, one value an epoch for each metric; ``history.epoch`` counts from ``initial_epoch``.

    Raises:
        ValueError: the model is not compiled, ``batch_size`` is below 1, or a callback wants every batch.
    """
    if not getattr(model, "compiled", False):
        raise ValueError(f"{model.name} is not compiled; call model.compile(...) before it is trained")
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}; expected at least 1")
    if seed is None:
        seed = (int(np.random.randint(2**31)),)
    xla_from = first_xla_epoch(len(x) // batch_size, milestones or (initial_epoch, epochs))
    container = keras.callbacks.CallbackList(
        list(callbacks),
        add_history=True,
        model=model,
        verbose=0,
        epochs=epochs,
        steps=math.ceil(len(x) / batch_size),
    )
    _refuse_batch_callbacks(callbacks)
    program = Program(model, x, y, batch_size, validation_data)
    model.stop_training = False
    container.on_train_begin()
    logs: dict[str, float] = {}
    for epoch in range(initial_epoch, epochs):
        container.on_epoch_begin(epoch)
        logs = program.run(epoch_order(len(x), (*seed, epoch)), xla=epoch >= xla_from)
        container.on_epoch_end(epoch, logs)
        if model.stop_training:
            break
    if epochs > initial_epoch:
        model.optimizer.finalize_variable_values(model.trainable_weights)
    container.on_train_end(logs)
    history: keras.callbacks.History = model.history
    return history


def epoch_order(n: int, seed: Sequence[int]) -> NDArray[np.int32]:
    """The order in which an epoch visits its n examples: a permutation (n,) int32, a function of ``seed`` alone."""
    return np.random.default_rng(list(seed)).permutation(n).astype(np.int32)


def first_xla_epoch(steps: int, milestones: Sequence[int]) -> float:
    """The first epoch that XLA should compile, epochs having ``steps`` steps each; infinity where it never pays."""
    for begin, end in itertools.pairwise((0, *milestones)):
        if (end - begin) * steps > XLA_BREAK_EVEN_STEPS:
            return begin
    return math.inf


class Program:
    """An epoch of training and its evaluation, compiled for one model, one batch size and one data set."""

    def __init__(
        self, model: keras.Model, x: Any, y: Any, batch_size: int, validation_data: tuple[Any, Any] | None = None
    ) -> None:
        self.model = model
        self.batch_size = batch_size
        self.x, self.y = tf.convert_to_tensor(x), tf.convert_to_tensor(y)
        model.optimizer.build(model.trainable_variables)
        self._compiled: dict[bool, Any] = {}
        self._evaluate = None if validation_data is None else Evaluation(model, *validation_data)

    def run(self, order: NDArray[np.int32], xla: bool) -> dict[str, float]:
        """Trains on every example once, in ``order``, evaluates, and returns the epoch's metrics."""
        self.model.reset_metrics()
        train = self._compile(xla and not self._slow_in_xla())
        logs = {name: float(value) for name, value in train(tf.constant(order)).items()}
        if self._evaluate is not None:
            logs.update({f"val_{name}": value for name, value in self._evaluate.run().items()})
        return logs

    def _epoch(self, order: tf.Tensor) -> dict[str, tf.Tensor]:
        steps, rest = divmod(self.x.shape[0], self.batch_size)

        def step(i: tf.Tensor) -> tuple[tf.Tensor]:
            self._step(tf.slice(order, [i * self.batch_size], [self.batch_size]))
            return (i + 1,)

        tf.while_loop(lambda i: i < steps, step, (tf.constant(0),))
        if rest:
            self._step(order[steps * self.batch_size :])
        result: dict[str, tf.Tensor] = self.model.get_metrics_result()
        return result

    def _step(self, indices: tf.Tensor) -> None:
        self.model.train_step((tf.gather(self.x, indices), tf.gather(self.y, indices)))

    def _compile(self, xla: bool) -> Any:
        if xla not in self._compiled:
            function = tf.function(self._epoch, autograph=False, jit_compile=xla)
            self._compiled[xla] = function.get_concrete_function(tf.TensorSpec((self.x.shape[0],), tf.int32))
        return self._compiled[xla]

    def _slow_in_xla(self) -> bool:
        if tf.config.list_logical_devices("GPU"):
            return False
        graph = self._compile(False).graph.as_graph_def()
        nodes = itertools.chain(graph.node, *(function.node_def for function in graph.library.function))
        return any(slow in operation for operation in {node.op for node in nodes} for slow in SLOW_IN_XLA_ON_CPU)


class Evaluation:
    """The model's metrics over one data set, as ``model.evaluate`` gives them, compiled as a graph."""

    def __init__(self, model: keras.Model, x: Any, y: Any) -> None:
        self.model = model
        self.x, self.y = tf.convert_to_tensor(x), tf.convert_to_tensor(y)
        self._function = tf.function(self._metrics, autograph=False).get_concrete_function()

    def run(self) -> dict[str, float]:
        """Returns each metric's value."""
        self.model.reset_metrics()
        return {name: float(value) for name, value in self._function().items()}

    def _metrics(self) -> dict[str, tf.Tensor]:
        n = self.x.shape[0]

        def step(start: tf.Tensor) -> tuple[tf.Tensor]:
            end = start + EVALUATION_BATCH
            self.model.test_step((self.x[start:end], self.y[start:end]))
            return (end,)

        tf.while_loop(lambda start: start < n, step, (tf.constant(0),))
        result: dict[str, tf.Tensor] = self.model.get_metrics_result()
        return result


def _refuse_batch_callbacks(callbacks: Sequence[keras.callbacks.Callback]) -> None:
    hooks = ("on_batch_begin", "on_batch_end", "on_train_batch_begin", "on_train_batch_end")
    for callback in callbacks:
        for hook in hooks:
            if getattr(type(callback), hook, None) is not getattr(keras.callbacks.Callback, hook):
                raise ValueError(
                    f"{type(callback).__name__} defines {hook}, and an epoch here is one program that calls nothing "
                    "between its batches; do its work in on_epoch_end, or train with model.fit"
                )
