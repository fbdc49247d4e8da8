"""Graph or XLA: what compiling through XLA costs and saves for a model and its epochs."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf

from search.training.data import Examples

# XLA asks for compiling, and then saves at each step what the graph executor spends on every operation, and all but one
# of the passes over the optimizer's variables: so it pays where the updates of a stretch of epochs, counted in weights by
# `xla_updates`, exceed the break-even. Both costs are one core's work, and their ratio much the same on any CPU: a search
# measures it and takes this value unless that is far from it, so that chance does not choose how a trial is rounded.
XLA_BREAK_EVEN = 60_000.0
FAR_FROM_IT = 4
XLA_BREAK_EVEN_ON_A_GPU = 10_000.0  # 3,000 to 32,000 were measured; most of a graph's step there is starting operations
NEVER = 1e12
LIKE_WEIGHTS = 4  # what a step does beside updating weights costs as much as updating four
ELEMENTS_LIKE_A_WEIGHT = 13_000  # of the optimizer's variables: the passes over them

# What XLA does 8 to 75 times slower than the graph's kernels on a CPU, or, for random numbers, differently from Keras;
# and what it cannot compile, or was not tried on.
NOT_FOR_XLA = (
    "Conv",
    "Pool",
    "Random",
    "TensorList",
    "ResourceGather",
    "ResourceScatter",
    "Lookup",
    "String",
    "PyFunc",
    "Unique",
    "Where",
)

# What ends a step on a CPU where a value is out of its range; through XLA it goes on with another value, and says nothing.
SILENT_IN_XLA = (
    *("Assert", "CheckNumerics", "GatherNd", "ScatterNd", "TensorScatter", "Segment", "Bincount"),
    *("Cholesky", "MatrixInverse", "MatrixSolve", "MatrixTriangularSolve"),
)
LABELS = "SparseSoftmaxCrossEntropyWithLogits"  # the same of labels, which can be looked at beforehand

# What XLA cannot compile for a GPU. At all else it is faster there.
NOT_FOR_XLA_ON_A_GPU = ("Cudnn", "Lookup", "String", "PyFunc", "Print", "Unique", "Where")


@dataclass(frozen=True)
class Pays:
    """The epochs, from 0, from which XLA's compiling pays; infinity where it never does.

    Attributes:
        step: compiling the whole step.
        update: compiling the optimizer's update, in a step that is not for XLA.
    """

    step: float = math.inf
    update: float = math.inf


def pays(model: keras.Model, n: int, batch_size: int, milestones: Sequence[int], break_even: float) -> Pays:
    """See :func:`first_xla_epoch` for the last two."""
    if on_a_gpu():
        if model.jit_compile:
            return Pays(step=0)  # Keras compiles each of its steps through XLA there, whose random numbers are others
        if break_even == XLA_BREAK_EVEN:
            break_even = XLA_BREAK_EVEN_ON_A_GPU
    step, update = xla_updates(model, n, batch_size), xla_passes(model, n, batch_size)
    return Pays(first_xla_epoch(step, milestones, break_even), first_xla_epoch(update, milestones, break_even))


def xla_updates(model: keras.Model, n: int, batch_size: int) -> float:
    """An epoch's steps times the weights that a step updates, with all else that XLA saves counted in weights."""
    passes = xla_passes(model, n, batch_size)
    return n // batch_size * (LIKE_WEIGHTS + len(model.trainable_variables)) + passes


def xla_passes(model: keras.Model, n: int, batch_size: int) -> float:
    """The part of :func:`xla_updates` that the passes over the optimizer's variables are; on a GPU they cost nothing."""
    if on_a_gpu():
        return 0.0
    if not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)
    elements: int = sum(math.prod(variable.shape) for variable in model.optimizer.variables)
    return n // batch_size * elements / ELEMENTS_LIKE_A_WEIGHT


def first_xla_epoch(updates: float, milestones: Sequence[int], break_even: float) -> float:
    """The first epoch that XLA should compile; infinity where it never pays.

    Args:
        updates: of an epoch, by :func:`xla_updates`.
        milestones: the epochs at which the training may pause; the stretches between them are compiled as one.
        break_even: the updates from which XLA pays.
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
    compiling = compiling_seconds(graph_seconds, xla_seconds)
    if compiling <= 0:  # disturbed: compiling is never free
        return XLA_BREAK_EVEN
    measured = min(NEVER, compiling * updates / (graph - xla))
    return XLA_BREAK_EVEN if XLA_BREAK_EVEN / FAR_FROM_IT < measured < XLA_BREAK_EVEN * FAR_FROM_IT else measured


def compiling_seconds(graph_seconds: Sequence[float], xla_seconds: Sequence[float]) -> float:
    """What XLA's compiling took, of the same trainings; not above 0 where something else took longer."""
    return (xla_seconds[0] - min(xla_seconds[1:])) - (graph_seconds[0] - min(graph_seconds[1:]))


def may_suit(model: keras.Model) -> bool:
    """Whether :func:`suits` has to see the model's graph to tell."""
    if on_a_gpu():
        return compiles_for_the_gpu()
    # seeds of random layers; batch statistics, which XLA sums in another order
    return not model.non_trainable_variables


@dataclass(frozen=True)
class Operations:
    """What decides, in a graph, whether XLA trains as it does.

    Attributes:
        kinds: names of TensorFlow's operations.
        gathers: how often rows are taken from something.
        classes: of the smallest softmax that takes labels; infinity where none does.
    """

    kinds: frozenset[str]
    gathers: int
    classes: float


def operations(graph: Any) -> Operations:
    """Of the ``ConcreteFunction`` of an epoch."""
    definition = graph.graph.as_graph_def(add_shapes=True)
    nodes = [*definition.node, *(node for function in definition.library.function for node in function.node_def)]
    of_shapes = tf.int32.as_datatype_enum  # gradients take rows from shapes, which are int32
    gathers = sum(node.op == "GatherV2" and node.attr["Tparams"].type != of_shapes for node in nodes)
    by_name = {node.name: node for node in nodes}
    classes = math.inf
    for node in nodes:
        if node.op == LABELS:
            shape = by_name[node.input[0].split(":")[0]].attr["_output_shapes"].list.shape[0]
            classes = min(classes, shape.dim[-1].size)
    return Operations(frozenset(node.op for node in nodes), gathers, classes)


def suits(model: keras.Model, of_epoch: Operations, data: Examples) -> bool:
    """Whether XLA would train as the graph of an epoch does, and faster.

    Args:
        of_epoch: by :func:`operations`.
        data: what it trains on.
    """
    if not may_suit(model):
        return False
    unfit: tuple[str, ...] = NOT_FOR_XLA
    if on_a_gpu():  # random numbers are Keras's through XLA where Keras compiles its step by it, else as a graph
        unfit = NOT_FOR_XLA_ON_A_GPU if model.jit_compile else (*NOT_FOR_XLA_ON_A_GPU, "Random")
    if any(kind in operation for operation in of_epoch.kinds for kind in (*unfit, *SILENT_IN_XLA)):
        return False
    if of_epoch.gathers > sum(tensor.dtype != tf.int32 for tensor in data.tensors):
        return False  # one of the model's or the loss's own, whose index XLA clamps
    if LABELS not in of_epoch.kinds:
        return True
    lowest, highest = data.labels
    return lowest >= 0 and highest < of_epoch.classes


def on_a_gpu() -> bool:
    """Whether TensorFlow computes on a GPU here."""
    return bool(tf.config.list_logical_devices("GPU"))


@functools.cache
def compiles_for_the_gpu() -> bool:
    """Whether XLA can compile in this process: for a GPU it needs parts of CUDA that TensorFlow does not bring along."""
    try:
        tf.function(tf.exp, autograph=False, jit_compile=True)(tf.zeros((2,)))
    except tf.errors.OpError:
        return False
    return True
