"""Random numbers as a function of a seed, a tuple of integers, and of what they are for."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def entropy(kind: str, seed: Sequence[int]) -> int:
    """256 bits from what the numbers are for and the seed.

    NumPy's ``SeedSequence`` pads with zeros and splits large integers into words of 32 bits, so that ``(0, 1)`` and
    ``(0, 1, 0)``, or ``(2**32,)`` and ``(0, 1)``, are one seed to it. A digest keeps all apart.
    """
    text = f"{kind}:{','.join(str(int(part)) for part in seed)}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest(), "little")


def epoch_order(n: int, seed: Sequence[int]) -> NDArray[np.int32]:
    """The order in which an epoch visits its n examples: a permutation (n,) int32, a function of ``seed`` alone."""
    return np.random.default_rng(entropy("order", seed)).permutation(n).astype(np.int32)


def seed_everything(seed: Sequence[int]) -> None:
    """Seeds the generators that a process shares, Python's, NumPy's, Keras's and TensorFlow's, as a function of ``seed``."""
    import keras

    number = int(np.random.SeedSequence(entropy("process", seed)).generate_state(1)[0])
    if keras.backend.backend() != "tensorflow":
        keras.utils.set_random_seed(number)
        return
    import tensorflow as tf

    from search.training import _tensorflow

    with _tensorflow.kernels_kept():
        keras.utils.set_random_seed(number)
    _tensorflow.forget_generator()
    tf.random.set_global_generator(tf.random.Generator.from_seed(number))  # which set_random_seed leaves alone
