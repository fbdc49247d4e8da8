"""Keras's batch normalisation of images as TensorFlow's one operation for it, while a program is traced.

Keras composes it of some ten operations, which on a CPU take as long as the convolutions beside them. The one operation
rounds differently. So it is taken only behind a convolution without a bias: a bias there has no effect on what the network
computes, its gradient is nothing but rounding, and an adaptive optimizer makes steps of that.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import keras
import tensorflow as tf

from search.training import _tensorflow

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
        n = tf.cast(tf.size(inputs[..., 0]), tf.float32)
        variance *= (n - 1) / n  # the operation's is of a sample, Keras's of a population
        for average, of_batch in ((layer.moving_mean, mean), (layer.moving_variance, variance)):
            average.assign(average * layer.momentum + of_batch * (1.0 - layer.momentum))
        return outputs

    return call
