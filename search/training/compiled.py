"""Trains a compiled Keras model, one compiled program an epoch, over data that stays in memory. Knows nothing of searches."""

from __future__ import annotations

import functools
import itertools
import math
import random
import weakref
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from tensorflow.python.framework import ops

EVALUATION_BATCH = 1000

PROGRAMS_KEPT = 24  # with the models they belong to, a few MB each

# XLA asks for compiling, and then saves at each step what the graph executor spends on every operation, and all but one
# of the passes over the optimizer's variables: so it pays where the updates of a stretch of epochs, counted in weights by
# `xla_updates`, exceed the break-even. Both costs are one core's work, and their ratio much the same on any CPU: a search
# measures it and takes this value unless that is far from it, so that chance does not choose how a trial is rounded.
XLA_BREAK_EVEN = 60_000.0
FAR_FROM_IT = 4
NEVER = 1e12
LIKE_WEIGHTS = 4  # what a step does beside updating weights costs as much as updating four
ELEMENTS_LIKE_A_WEIGHT = 13_000  # of the optimizer's variables: the passes over them

# What XLA does 8 to 75 times slower than the graph's kernels on a CPU, or, for random numbers, differently from Keras.
NOT_FOR_XLA = ("Conv", "Pool", "Random")


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
    xla_break_even: float | None = None,
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
        seed: epoch e visits the examples in :func:`epoch_order` of ``(*seed, e)``; None draws one from ``random``.
        milestones: the epochs, ascending, at which this training was, is or will be continued by another call; None
            where one call does it all. XLA compiles from the first stretch between them that is long enough, so the
            result does not depend on where the calls begin and end.
        xla_break_even: the updates from which XLA pays on this machine, as :func:`measured_break_even` gives it; None
            for ``XLA_BREAK_EVEN``.

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
        seed = (random.randrange(2**31),)
    container = keras.callbacks.CallbackList(
        list(callbacks),
        add_history=True,
        model=model,
        verbose=0,
        epochs=epochs,
        steps=math.ceil(len(x) / batch_size),
    )
    _refuse_batch_callbacks(callbacks)
    program = _program(model, x, y, validation_data)
    updates = xla_updates(model, len(x), batch_size)
    break_even = XLA_BREAK_EVEN if xla_break_even is None else xla_break_even
    xla_from = first_xla_epoch(updates, milestones or (initial_epoch, epochs), break_even)
    model.stop_training = False
    container.on_train_begin()
    logs: dict[str, float] = {}
    for epoch in range(initial_epoch, epochs):
        container.on_epoch_begin(epoch)
        logs = program.run(epoch_order(len(x), (*seed, epoch)), batch_size, xla=epoch >= xla_from)
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


def xla_updates(model: keras.Model, n: int, batch_size: int) -> float:
    """An epoch's steps times the weights that a step updates, with all else that XLA saves counted in weights."""
    model.optimizer.build(model.trainable_variables)
    elements: int = sum(math.prod(variable.shape) for variable in model.optimizer.variables)
    return n // batch_size * (LIKE_WEIGHTS + len(model.trainable_variables) + elements / ELEMENTS_LIKE_A_WEIGHT)


def first_xla_epoch(updates: float, milestones: Sequence[int], break_even: float) -> float:
    """The first epoch that XLA should compile; infinity where it never pays.

    Args:
        updates: of an epoch, by :func:`xla_updates`.
        milestones, break_even: see :func:`fit`.
    """
    for begin, end in itertools.pairwise((0, *milestones)):
        if (end - begin) * updates > break_even:
            return begin
    return math.inf


def measured_break_even(updates: float, graph_seconds: Sequence[float], xla_seconds: Sequence[float]) -> float:
    """The updates from which XLA pays on this machine.

    Args:
        updates: of an epoch, by :func:`xla_updates`.
        graph_seconds, xla_seconds: of each epoch of a training of two or more, the first of which compiles.
    """
    graph, xla = min(graph_seconds[1:]), min(xla_seconds[1:])
    if xla >= graph:  # clearly slower, or equal, or disturbed
        return NEVER if xla > 2 * graph else XLA_BREAK_EVEN
    compiling = (xla_seconds[0] - xla) - (graph_seconds[0] - graph)
    if compiling <= 0:  # disturbed: compiling is never free
        return XLA_BREAK_EVEN
    measured = min(NEVER, compiling * updates / (graph - xla))
    return XLA_BREAK_EVEN if XLA_BREAK_EVEN / FAR_FROM_IT < measured < XLA_BREAK_EVEN * FAR_FROM_IT else measured


class Program:
    """An epoch of training and its evaluation, compiled for one model and one data set."""

    def __init__(self, model: keras.Model, x: Any, y: Any, validation_data: tuple[Any, Any] | None = None) -> None:
        self.model = model
        self.examples = (x, y, *(validation_data or ()))
        self.x, self.y = tf.convert_to_tensor(x), tf.convert_to_tensor(y)
        self._rows = tf.reshape(self.x, (self.x.shape[0], -1))  # XLA gathers rows twice as fast as images
        _create_variables(model, self.x[:1], self.y[:1])
        order = tf.TensorSpec((None,), tf.int32)
        self._graph = _concrete(self._train, order, tf.TensorSpec((), tf.int32))
        self._xla: dict[int, Any] = {}
        self._evaluate = None if validation_data is None else Evaluation(model, *validation_data)

    def run(self, order: NDArray[np.int32], batch_size: int, xla: bool) -> dict[str, float]:
        """Trains on the examples in ``order``, evaluates, and returns the epoch's metrics.

        The graph takes any batch size; XLA compiles one at a time. With ``xla``, XLA compiles the whole batches and the
        graph does the short one, since XLA would compile the step a second time for it; a model that XLA would slow down
        or train differently stays with the graph.
        """
        self.model.reset_metrics()
        rest = order
        if xla and self._suits_xla():
            whole = len(order) // batch_size * batch_size
            if batch_size not in self._xla:
                train = functools.partial(self._train_whole_batches, batch_size)
                self._xla[batch_size] = _concrete(train, tf.TensorSpec((whole,), tf.int32), jit_compile=True)
            self._xla[batch_size](tf.constant(order[:whole]))
            rest = order[whole:]
        logs = _floats(self._graph(tf.constant(rest), tf.constant(batch_size)))
        if self._evaluate is not None:
            logs.update({f"val_{name}": value for name, value in self._evaluate.run().items()})
        return logs

    def _train(self, order: tf.Tensor, batch_size: tf.Tensor) -> dict[str, tf.Tensor]:
        n = tf.shape(order)[0]

        def step(start: tf.Tensor) -> tuple[tf.Tensor]:
            end = tf.minimum(start + batch_size, n)
            self._step(order[start:end])
            return (end,)

        tf.while_loop(lambda start: start < n, step, (tf.constant(0),))
        result: dict[str, tf.Tensor] = self.model.get_metrics_result()
        return result

    def _train_whole_batches(self, batch_size: int, order: tf.Tensor) -> None:
        def step(start: tf.Tensor) -> tuple[tf.Tensor]:
            self._step(tf.slice(order, [start], [batch_size]))
            return (start + batch_size,)

        tf.while_loop(lambda start: start < order.shape[0], step, (tf.constant(0),))

    def _step(self, indices: tf.Tensor) -> None:
        x = tf.reshape(tf.gather(self._rows, indices), (-1, *self.x.shape[1:]))
        self.model.train_step((x, tf.gather(self.y, indices)))

    def _suits_xla(self) -> bool:
        if tf.config.list_logical_devices("GPU"):
            return True
        if self.model.non_trainable_variables:
            return False  # seeds of random layers; batch statistics, which XLA sums in another order
        graph = self._graph.graph.as_graph_def()
        nodes = itertools.chain(graph.node, *(function.node_def for function in graph.library.function))
        return not any(kind in operation for operation in {node.op for node in nodes} for kind in NOT_FOR_XLA)


class Evaluation:
    """The model's metrics over one data set, as ``model.evaluate`` gives them, compiled as a graph."""

    def __init__(self, model: keras.Model, x: Any, y: Any) -> None:
        self.model = model
        self.x, self.y = tf.convert_to_tensor(x), tf.convert_to_tensor(y)
        _create_variables(model, self.x[:1], self.y[:1])
        self._graph = _concrete(self._metrics)

    def run(self) -> dict[str, float]:
        """Returns each metric's value."""
        self.model.reset_metrics()
        return _floats(self._graph())

    def _metrics(self) -> dict[str, tf.Tensor]:
        n = self.x.shape[0]

        def step(start: tf.Tensor) -> tuple[tf.Tensor]:
            end = start + EVALUATION_BATCH
            self.model.test_step((self.x[start:end], self.y[start:end]))
            return (end,)

        tf.while_loop(lambda start: start < n, step, (tf.constant(0),))
        result: dict[str, tf.Tensor] = self.model.get_metrics_result()
        return result


_programs: OrderedDict[int, Program] = OrderedDict()


def _program(model: keras.Model, x: Any, y: Any, validation_data: tuple[Any, Any] | None) -> Program:
    """The program of this model and these examples, compiled before or new."""
    program = _programs.get(id(model))
    examples = (x, y, *(validation_data or ()))
    known = program is not None and len(program.examples) == len(examples)
    if program is None or not known or any(a is not b for a, b in zip(program.examples, examples, strict=True)):
        program = Program(model, x, y, validation_data)
    _programs[id(model)] = program  # which keeps the model alive, so the id stays its own
    _programs.move_to_end(id(model))
    if len(_programs) > PROGRAMS_KEPT:
        _programs.popitem(last=False)
    return program


def _create_variables(model: keras.Model, x: tf.Tensor, y: tf.Tensor) -> None:
    """Those of the optimizer and the metrics, which TensorFlow would otherwise trace every program a second time for."""
    model.optimizer.build(model.trainable_variables)
    if not all(metric.variables for metric in model.metrics):
        kept = [(variable, variable.numpy()) for variable in model.non_trainable_variables]
        model.test_step((x, y))
        for variable, value in kept:  # a layer that is random at inference, too, has drawn
            variable.assign(value)


def _concrete(function: Any, *signature: tf.TensorSpec, jit_compile: bool = False) -> Any:
    # A custom gradient that is traced stays in TensorFlow's registry for good, and its whole graph with it: some MB a
    # program, since every optimizer's step has one. No one differentiates these programs, so theirs go with them.
    registered = getattr(ops.gradient_registry, "_registry", {})
    before = set(registered)
    program = tf.function(function, autograph=False, jit_compile=jit_compile).get_concrete_function(*signature)
    weakref.finalize(program, _remove, registered, registered.keys() - before).atexit = False
    return program


def _remove(entries: dict[str, Any], names: set[str]) -> None:
    for name in names:
        entries.pop(name, None)


def _floats(metrics: dict[str, tf.Tensor]) -> dict[str, float]:
    return {name: float(value) for name, value in metrics.items()}


def _refuse_batch_callbacks(callbacks: Sequence[keras.callbacks.Callback]) -> None:
    hooks = ("on_batch_begin", "on_batch_end", "on_train_batch_begin", "on_train_batch_end")
    for callback in callbacks:
        for hook in hooks:
            if getattr(getattr(callback, hook), "__func__", None) is not getattr(keras.callbacks.Callback, hook):
                raise ValueError(
                    f"{type(callback).__name__} defines {hook}, and an epoch here is one program that calls nothing "
                    "between its batches; do its work in on_epoch_end, or train with model.fit"
                )
