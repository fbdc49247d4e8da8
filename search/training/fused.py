"""What Keras composes of many operations as one, while a program is traced: batch normalisation, the optimizer's update.

Batch normalisation of images takes as long on a CPU as the convolutions beside it, and TensorFlow has one operation for it,
which rounds differently. So it is taken only behind a convolution without a bias: a bias there has no effect on what the
network computes, its gradient is nothing but rounding, and an adaptive optimizer makes steps of that.

An optimizer passes over its variables ten times or more. XLA makes one pass of them, in a step that is a graph otherwise.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import keras
import tensorflow as tf

from search.training import _tensorflow

OPTIMIZERS = frozenset(("SGD", "RMSprop", "Adam", "AdamW", "Adamax", "Adagrad", "Nadam", "Lion"))
CONVOLUTIONS = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D, keras.layers.SeparableConv2D)


@contextlib.contextmanager
def batch_normalization(model: keras.Model) -> Iterator[None]:
    """Inside it, calls of the model's layers that the operation fits use it; the weights end as Keras's, to rounding."""
    changed = [layer for layer in _tensorflow.layers(model) if _fits(layer)]
    for layer in changed:
        vars(layer)["call"] = _call(layer, layer.call)
    try:
        yield
    finally:
        for layer in changed:
            vars(layer).pop("call", None)


def _fits(layer: keras.Layer) -> bool:
    return (
        type(layer) is keras.layers.BatchNormalization
        and "call" not in vars(layer)
        and layer.axis in (-1, 3)
        and layer.trainable
        and not (getattr(layer, "renorm", False) or layer.synchronized)  # Keras 3.12 has no renorm
        and layer.dtype_policy.name == "float32"
        and _is_behind_convolutions_without_bias(layer)
    )


def _is_behind_convolutions_without_bias(layer: keras.Layer) -> bool:
    producers = _tensorflow.producers(layer)
    return bool(producers) and all(type(one) in CONVOLUTIONS and not one.use_bias for one in producers)


def _call(layer: keras.layers.BatchNormalization, composed: Callable[..., Any]) -> Callable[..., Any]:
    def call(inputs: Any, training: Any = None, mask: Any = None) -> Any:
        if training is not True or mask is not None or len(inputs.shape) != 4 or inputs.dtype != tf.float32:
            return composed(inputs, training=training, mask=mask)
        channels = inputs.shape[-1:]
        outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=inputs,
            scale=tf.convert_to_tensor(layer.gamma) if layer.scale else tf.ones(channels),
            offset=tf.convert_to_tensor(layer.beta) if layer.center else tf.zeros(channels),
            mean=tf.zeros([0]),
            variance=tf.zeros([0]),
            epsilon=layer.epsilon,
            is_training=True,
        )
        n = tf.cast(tf.size(inputs) // channels[0], tf.float32)
        variance *= (n - 1) / n  # the operation's is of a sample, Keras's of a population
        for average, of_batch in ((layer.moving_mean, mean), (layer.moving_variance, variance)):
            average.assign(average * layer.momentum + of_batch * (1.0 - layer.momentum))
        return outputs

    return call


@contextlib.contextmanager
def update(model: keras.Model) -> Iterator[None]:
    """Inside it, the optimizer's update is one that XLA compiles, where :func:`may_update` and all gradients are dense."""
    optimizer = model.optimizer
    vars(optimizer)["apply"] = _apply(optimizer.apply)
    try:
        yield
    finally:
        del vars(optimizer)["apply"]


def may_update(model: keras.Model) -> bool:
    """Whether XLA is known to update the model's weights as the graph does: by one of Keras's common optimizers."""
    optimizer = model.optimizer
    rate = _tensorflow.learning_rate(optimizer)
    return (
        type(optimizer).__name__ in OPTIMIZERS
        and all(type(one).__module__.startswith("keras.") for one in (optimizer, rate))
        and "apply" not in vars(optimizer)
        and not (optimizer.use_ema or optimizer.gradient_accumulation_steps)
        and not tf.config.list_logical_devices("GPU")
    )


def _apply(composed: Callable[..., Any]) -> Callable[..., Any]:
    def apply(grads: Any, trainable_variables: Any = None) -> None:
        gradients = list(grads)
        if not all(isinstance(one, tf.Tensor) and one.dtype == tf.float32 for one in gradients):
            composed(gradients, trainable_variables)
            return

        def compiled(*gradients: tf.Tensor) -> None:
            composed(list(gradients), trainable_variables)

        tf.function(compiled, autograph=False, jit_compile=True)(*gradients)

    return apply
