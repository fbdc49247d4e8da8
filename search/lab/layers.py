"""What the ten-class networks need and Keras does not have: shifts of each image by itself, sparse labels smoothed."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable("search")
class RandomShift(keras.layers.Layer):  # type: ignore[misc]
    """Shifts each image by whole pixels of its own draw while training; zeros come in at the border.

    Takes and returns images (n, height, width) or (n, height, width, channels). Both shifts are uniform over -pixels to
    pixels and independent. The state of the random numbers is one of the model's variables, so that a training that is
    continued draws what one that was never stopped draws. ``keras.layers.RandomTranslation`` interpolates, and takes
    several times as long. Simard, Steinkraus and Platt, ICDAR 2003, have the reason to shift.

    Args:
        pixels: the furthest shift in each direction, 0 or more.
        seed: of the random numbers; None draws one from ``random``, which ``keras.utils.set_random_seed`` seeds.

    Raises:
        ValueError: ``pixels`` is below 0.
    """

    def __init__(self, pixels: int, seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if pixels < 0:
            raise ValueError(f"pixels is {pixels}; expected 0 or more")
        self.pixels, self.seed = pixels, seed
        self.seed_generator = keras.random.SeedGenerator(seed)

    def call(self, images: Any, training: bool = False) -> Any:
        if not training or not self.pixels:
            return images
        n, (height, width), channels = ops.shape(images)[0], images.shape[1:3], tuple(images.shape[3:])
        border = (self.pixels, self.pixels)
        padded = ops.pad(images, [(0, 0), border, border, *[(0, 0)] * len(channels)])
        corner = keras.random.randint((n, 2), 0, 2 * self.pixels + 1, dtype="int32", seed=self.seed_generator)
        rows = _window(padded, corner[:, :1], height)
        swapped = (0, 2, 1, *range(3, 3 + len(channels)))
        return ops.transpose(_window(ops.transpose(rows, swapped), corner[:, 1:], width), swapped)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "pixels": self.pixels, "seed": self.seed}


def _window(images: Any, first: Any, length: int) -> Any:
    """The rows of each image (n, rows, ...) from its own ``first`` (n, 1) on: whole rows are copied, which is fast."""
    n, rows, *rest = ops.shape(images)
    wanted = ops.arange(n, dtype="int32")[:, None] * rows + first + ops.arange(length, dtype="int32")[None, :]
    return ops.take(ops.reshape(images, (n * rows, *rest)), wanted, axis=0)


@keras.saving.register_keras_serializable("search")
class SmoothedCrossentropy(keras.losses.Loss):  # type: ignore[misc]
    """``keras.losses.CategoricalCrossentropy`` for labels (n,) or (n, 1) in 0..k-1 and probabilities (n, k).

    Args:
        label_smoothing: the share of a label that all k classes get alike, 0 to 1 (Szegedy et al., CVPR 2016, section 7).
    """

    def __init__(self, label_smoothing: float = 0.0, name: str = "smoothed_crossentropy", **kwargs: Any) -> None:
        super().__init__(name=name, **kwargs)
        self.label_smoothing = label_smoothing

    def call(self, y_true: Any, y_pred: Any) -> Any:
        labels = ops.one_hot(ops.cast(ops.reshape(y_true, (-1,)), "int32"), y_pred.shape[-1], dtype=y_pred.dtype)
        return keras.losses.categorical_crossentropy(labels, y_pred, label_smoothing=self.label_smoothing)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "label_smoothing": self.label_smoothing}
