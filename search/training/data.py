"""The arrays of one call of ``fit``, in memory as tensors, and how an epoch cuts them into batches."""

from __future__ import annotations

import functools
import math
import mmap
import operator
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from search.training import _tensorflow
from search.training.seeds import entropy, epoch_order

ALIGNMENT = 64  # bytes; what TensorFlow takes without a copy


class NotCompiled(Exception):
    """What the compiled path does not take, and why: ``model.fit`` takes it."""


@dataclass(frozen=True)
class Examples:
    """Arrays as a step takes them.

    Attributes:
        tensors: every array, (n, ...) each; those of more than two dimensions as rows, (n, k), which XLA gathers twice
            as fast as images.
        shapes: of one example in each.
        structure: nested as in ``(x, y, sample_weight)``, with the number of the tensor at each leaf.
        n: examples.
        batch_size: examples a step.
        steps: at most so many steps an epoch, None for all.
    """

    tensors: tuple[tf.Tensor, ...]
    shapes: tuple[tuple[int, ...], ...]
    structure: Any
    n: int
    batch_size: int
    steps: int | None = None

    @property
    def batches(self) -> int:
        """Batches that a pass over the examples has."""
        return math.ceil(self.n / self.batch_size)

    @property
    def specs(self) -> tuple[tf.TensorSpec, ...]:
        """Of the tensors, for a program that takes any number of examples."""
        return tuple(tf.TensorSpec((None, *tensor.shape[1:]), tensor.dtype) for tensor in self.tensors)

    @property
    def exact_specs(self) -> tuple[tf.TensorSpec, ...]:
        """Of the tensors, for a program that takes this many examples."""
        return tuple(tf.TensorSpec(tensor.shape, tensor.dtype) for tensor in self.tensors)

    @property
    def key(self) -> Any:
        """Equal where a program for any number of the one's examples takes the other's."""
        specs = tuple((tuple(tensor.shape[1:]), tensor.dtype.name) for tensor in self.tensors)
        return specs, self.shapes, _hashable(self.structure)

    @functools.cached_property
    def labels(self) -> tuple[float, float]:
        """The lowest and the highest of the targets that may be labels; all numbers where none may."""
        targets = [leaf for leaf in tf.nest.flatten(self.structure[1:2]) if leaf is not None]
        values = [self.tensors[leaf].numpy() for leaf in targets if math.prod(self.shapes[leaf]) == 1]
        whole = [one for one in values if (one == np.floor(one)).all()]
        if not whole:
            return -math.inf, math.inf
        return min(float(one.min()) for one in whole), max(float(one.max()) for one in whole)

    def batch(self, *parts: tf.Tensor) -> Any:
        """Rows taken from each tensor, in the structure that ``train_step`` expects."""
        shaped = [
            part if len(shape) < 2 else tf.reshape(part, (-1, *shape))
            for part, shape in zip(parts, self.shapes, strict=True)
        ]
        return _filled(self.structure, shaped)


def examples(
    x: Any,
    y: Any,
    sample_weight: Any,
    class_weight: Any = None,
    batch_size: int | None = None,
    steps: int | None = None,
) -> Examples:
    """The arrays as Keras takes them, copied at every call unless they are mapped from a file.

    Raises:
        NotCompiled: they are no arrays, sparse or ragged, or Keras refuses them.
    """
    try:
        structure, n, batch_size = _tensorflow.array_batches(x, y, sample_weight, class_weight, batch_size, steps)
    except Exception as error:
        raise NotCompiled(str(error)) from error  # Keras raises it again, to its caller
    batch_size, steps = (
        _whole_number("batch_size", batch_size),
        None if steps is None else _whole_number("steps", steps),
    )
    leaves: list[Any] = []
    numbered = _numbered(structure, leaves)
    if n == 0 or batch_size < 1:
        raise NotCompiled(f"{n} examples in batches of {batch_size}")
    tensors = [_tensor(leaf) for leaf in leaves]
    shapes = tuple(tuple(tensor.shape[1:]) for tensor in tensors)
    rows = [tensor if tensor.shape.rank <= 2 else tf.reshape(tensor, (n, -1)) for tensor in tensors]
    return Examples(tuple(rows), shapes, numbered, n, batch_size, steps)


@dataclass(frozen=True)
class Stretch:
    """The batches of one epoch: those from ``begin`` to ``end`` of the pass that began in epoch ``began``.

    Attributes:
        short: whether the data ran out before the steps that were asked for.
    """

    began: int
    begin: int
    end: int
    short: bool = False


def stretches(data: Examples, first_epoch: int) -> Iterator[Stretch]:
    """What each epoch from ``first_epoch`` visits: a whole pass, or with ``steps`` the next part of one, as in Keras."""
    batches, position, began, epoch = data.batches, 0, first_epoch, first_epoch
    while True:
        if position == 0:
            began = epoch
        end = batches if data.steps is None else min(batches, position + data.steps)
        yield Stretch(began, position, end, data.steps is not None and end - position < data.steps)
        position = 0 if end == batches else end
        epoch += 1


def visiting_order(data: Examples, shuffle: Any, seed: tuple[int, ...], stretch: Stretch) -> NDArray[np.int32]:
    """The examples that an epoch visits, in order: (m,) int32, a function of the seed and of where the pass began.

    Args:
        shuffle: True for any order, ``"batch"`` for any order within each batch, False for the order they have.
    """
    batch_size = data.batch_size
    begin, end = stretch.begin * batch_size, min(data.n, stretch.end * batch_size)
    if shuffle == "batch":
        order = np.arange(data.n, dtype=np.int32)
        random = np.random.default_rng(entropy("within batches", (*seed, stretch.began)))
        for start in range(0, data.n, batch_size):
            random.shuffle(order[start : start + batch_size])
    elif shuffle:
        order = epoch_order(data.n, (*seed, stretch.began))
    else:
        order = np.arange(data.n, dtype=np.int32)
    return order[begin:end]


def _whole_number(name: str, value: Any) -> int:
    """The value as Python's own integer: NumPy's of 64 bits are no 32-bit tensors."""
    try:
        return int(operator.index(value))
    except TypeError as error:
        raise NotCompiled(f"{name} is {value!r}, not a whole number") from error


def _tensor(array: Any) -> tf.Tensor:
    value = _tensorflow.as_keras_feeds_it(array)
    if isinstance(value, np.ndarray):
        if _is_mapped(value) and not tf.config.list_logical_devices("GPU"):
            return tf.experimental.dlpack.from_dlpack(np.asarray(value).__dlpack__())
        try:
            value = tf.convert_to_tensor(value)
        except (TypeError, ValueError) as error:
            raise NotCompiled(f"an array of dtype {value.dtype}") from error
    if not isinstance(value, tf.Tensor) or value.shape.rank in (None, 0) or not hasattr(value, "numpy"):
        raise NotCompiled(f"{type(array).__name__} is not a dense array")
    return value


def share(array: NDArray[Any]) -> None:
    """Says that a file that is mapped is a search's own: TensorFlow reads it where it is, and all workers have one copy.

    Another file is copied, as Keras copies arrays: its owner may change it while a model is trained.
    """
    _shared.add(_owner(array))


_shared: weakref.WeakSet[Any] = weakref.WeakSet()


def _owner(array: Any) -> Any:
    while isinstance(array, np.ndarray):
        array = array.base
    return array


def _is_mapped(array: NDArray[Any]) -> bool:
    """Whether the memory is a file's, which processes share, and TensorFlow can read it where it is."""
    owner = _owner(array)
    return (
        isinstance(owner, mmap.mmap)
        and owner in _shared
        and array.flags.c_contiguous
        and array.flags.writeable  # else NumPy does not hand it out; mapped copy-on-write it is
        and array.ctypes.data % ALIGNMENT == 0
        and array.dtype.kind in "fiu"
    )


def _numbered(node: Any, leaves: list[Any]) -> Any:
    if node is None:
        return None
    if isinstance(node, dict):
        return {key: _numbered(value, leaves) for key, value in node.items()}
    if isinstance(node, tuple):
        if type(node) is not tuple:
            raise NotCompiled(f"data in a {type(node).__name__}")
        return tuple(_numbered(value, leaves) for value in node)
    leaves.append(node)
    return len(leaves) - 1


def _filled(node: Any, parts: list[tf.Tensor]) -> Any:
    if isinstance(node, dict):
        return {key: _filled(value, parts) for key, value in node.items()}
    if isinstance(node, tuple):
        return tuple(_filled(value, parts) for value in node)
    return None if node is None else parts[node]


def _hashable(node: Any) -> Any:
    if isinstance(node, dict):
        return "dict", tuple((type(key), key, _hashable(value)) for key, value in node.items())
    return ("tuple", *map(_hashable, node)) if isinstance(node, tuple) else node
