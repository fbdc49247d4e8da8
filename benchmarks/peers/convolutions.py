"""Convolutional networks of one description in Keras and in PyTorch, and what an epoch of them takes."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Train = Callable[[], Any]  # one epoch
BATCH = 128
SHIFT = 2  # pixels, an image by itself
SMOOTHING = 0.05


@dataclass(frozen=True)
class Network:
    """A network for 28 x 28 images and ten classes; AdamW at 0.001, label smoothing, shifts.

    Attributes:
        layers: ``(filters, kernel, stride, "same" or "valid")`` of a convolution, or ``"pool"`` of 2 x 2.
        normalised: batch normalisation behind every convolution, which then has no bias.
        head: units of a dense layer at the end; 0 for none.
        dropout: before and behind the head.
    """

    name: str
    layers: tuple[Any, ...]
    normalised: bool = False
    head: int = 0
    dropout: float = 0.0


def _lab(filters: int, kernel: int, normalised: bool, head: int) -> Network:
    """One of the ten-class exercise's space."""
    layers = ((filters, kernel, 2, "same"), (3 * filters // 2, 3, 2, "same"), (2 * filters, 3, 1, "valid"))
    name = f"lab {filters}, {kernel}x{kernel}{', normalised' if normalised else ''}, head {head}"
    return Network(name, layers, normalised, head, 0.2)


def _plain(*filters: Any) -> tuple[Any, ...]:
    return tuple(one if one == "pool" else (one, 3, 1, "valid") for one in filters)


NETWORKS = (
    Network("16-16-pool-32-32-pool-64, normalised", _plain(16, 16, "pool", 32, 32, "pool", 64), True),
    Network("16-16-pool-32-32-pool-64", _plain(16, 16, "pool", 32, 32, "pool", 64)),
    Network("16-pool-32-pool, normalised", _plain(16, "pool", 32, "pool"), True),
    Network("16-pool-32-pool", _plain(16, "pool", 32, "pool")),
    Network("24-48-64-64, normalised", ((24, 5, 2, "valid"), *_plain(48), (64, 3, 2, "valid"), *_plain(64)), True),
    Network("32-64-96-dense 128", ((32, 5, 2, "same"), (64, 3, 2, "same"), *_plain(96)), False, 128, 0.4),
    _lab(16, 3, False, 64),
    _lab(16, 5, True, 128),
    _lab(32, 3, True, 128),
    _lab(32, 5, False, 128),
    _lab(32, 5, True, 256),
)


def keras_model(network: Network) -> Any:
    import keras
    from keras import layers as kinds

    from search.lab.layers import RandomShift, SmoothedCrossentropy

    model = keras.Sequential(
        [keras.Input((28, 28)), RandomShift(SHIFT), kinds.Rescaling(1 / 255), kinds.Reshape((28, 28, 1))]
    )
    for layer in network.layers:
        if layer == "pool":
            model.add(kinds.MaxPooling2D(2))
            continue
        filters, kernel, stride, padding = layer
        model.add(kinds.Conv2D(filters, kernel, strides=stride, padding=padding, use_bias=not network.normalised))
        if network.normalised:
            model.add(kinds.BatchNormalization())
        model.add(kinds.Activation("relu"))
    model.add(kinds.Flatten())
    if network.head:
        model.add(kinds.Dropout(network.dropout))
        model.add(kinds.Dense(network.head, "relu"))
        model.add(kinds.Dropout(network.dropout))
    model.add(kinds.Dense(10, activation="softmax"))
    model.compile(keras.optimizers.AdamW(0.001), SmoothedCrossentropy(SMOOTHING), metrics=["accuracy"])
    return model


def ours(network: Network, x: Any, y: Any) -> Train:
    import search.workers.runtime  # noqa: F401  (one thread)
    from search.training import data
    from search.training.program import programs
    from search.training.seeds import epoch_order
    from search.training.xla import Pays

    examples = data.examples(x, y, None, None, BATCH)
    model, epoch = keras_model(network), itertools.count()

    def an_epoch() -> None:
        model.reset_metrics()
        programs(model, examples).train(examples, epoch_order(examples.n, (0, next(epoch))), 0, Pays(0, 0))

    return an_epoch


def model_fit(network: Network, x: Any, y: Any) -> Train:
    model = keras_model(network)
    return lambda: model.fit(x, y, batch_size=BATCH, verbose=0)


def pytorch(network: Network, x: Any, y: Any) -> Train:
    import torch
    from torch import nn

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    images, labels = torch.from_numpy(x).float() / 255, torch.from_numpy(y).long()
    parts: list[Any] = []
    side, channels = 28, 1
    for layer in network.layers:
        if layer == "pool":
            parts.append(nn.MaxPool2d(2))
            side //= 2
            continue
        filters, kernel, stride, padding = layer
        if padding == "same":  # as TensorFlow pads: one more at the end where the sides differ
            total = max((-(-side // stride) - 1) * stride + kernel - side, 0)
            parts.append(nn.ZeroPad2d((total // 2, total - total // 2, total // 2, total - total // 2)))
            side += total
        parts.append(nn.Conv2d(channels, filters, kernel, stride, bias=not network.normalised))
        parts += [nn.BatchNorm2d(filters)] if network.normalised else []
        parts.append(nn.ReLU())
        side, channels = (side - kernel) // stride + 1, filters
    parts.append(nn.Flatten())
    wide = side * side * channels
    if network.head:
        parts += [nn.Dropout(network.dropout), nn.Linear(wide, network.head), nn.ReLU(), nn.Dropout(network.dropout)]
        wide = network.head
    model = nn.Sequential(*parts, nn.Linear(wide, 10)).to(memory_format=torch.channels_last)
    update = torch.optim.AdamW(model.parameters(), lr=0.001)
    loss_of = nn.CrossEntropyLoss(label_smoothing=SMOOTHING)
    padded = nn.functional.pad(images, (SHIFT,) * 4).reshape(len(images), -1)
    places = torch.arange(28)[:, None] * (28 + 2 * SHIFT) + torch.arange(28)[None, :]

    def an_epoch() -> None:
        for indices in torch.randperm(len(images)).split(BATCH):
            corners = torch.randint(0, 2 * SHIFT + 1, (len(indices), 2))
            offsets = corners[:, 0] * (28 + 2 * SHIFT) + corners[:, 1]
            shifted = padded[indices].gather(1, places.reshape(1, -1) + offsets[:, None]).reshape(-1, 1, 28, 28)
            update.zero_grad()
            loss_of(model(shifted.to(memory_format=torch.channels_last)), labels[indices]).backward()
            update.step()

    return an_epoch
