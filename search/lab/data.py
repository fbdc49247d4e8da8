"""Images and labels: where they come from, what each task makes of the labels, and the split into training and validation."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import math
import warnings
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from search.errors import RequestError, first_line

EMBEDDED = Path(__file__).with_name("mnist.npz")
MOST_VALIDATION, VALIDATION_SHARE = 10_000, 6  # the lab's 10,000 of 60,000 images, a sixth of fewer
FEWEST = 60  # training images, the validation set included: of 10 a percentage says little, of fewer nothing
MOST_CLASSES = 1000  # more are no labels


@dataclass(frozen=True)
class Task:
    """What a network is to tell apart.

    Attributes:
        classes: number k of classes of the labels -> the name of each class of the task, in the order of the confusion
            matrix.
        targets: labels (n,) in 0..k-1 -> what the loss is computed against: (n, 1) float32 in {0, 1} for two classes,
            (n,) int32 for more.
    """

    classes: Callable[[int], tuple[str, ...]]
    targets: Callable[[NDArray[np.integer[Any]]], NDArray[np.generic]]


TASKS = {
    "zero": Task(lambda k: ("not 0", "0"), lambda labels: (labels == 0).astype(np.float32)[:, None]),
    "digits": Task(lambda k: tuple(map(str, range(k))), lambda labels: labels.astype(np.int32)),
}


@dataclass(frozen=True)
class Examples:
    """Images as :class:`Source` has them, which a model rescales itself, and their targets, as :class:`Task` gives them."""

    x: NDArray[Any]
    y: NDArray[np.generic]


@dataclass(frozen=True)
class Source:
    """Where the images come from.

    Attributes:
        name: what a person calls it.
        images: (n, height, width) or (n, height, width, channels), uint8 or float32 as they are in the file: MNIST's are
            (60000, 28, 28) in 0..255. The training images, the validation set included.
        labels: (n,) in 0..classes-1.
        classes: the largest label of the training and of the test images, and one.
        test_images: how many test images there are.
        sha256, test_sha256: of the training and of the test images and labels, so that a changed file is noticed.
        location: the file or folder.
    """

    name: str
    images: NDArray[Any]
    labels: NDArray[np.integer[Any]]
    classes: int
    test_images: int
    sha256: str
    test_sha256: str
    location: Path

    @property
    def validation_images(self) -> int:
        """How many of the training images are the validation set, the last ones."""
        return min(MOST_VALIDATION, len(self.images) // VALIDATION_SHARE)


def load(source: str | None = None, most: int | None = None) -> Source:
    """Reads the training images; of the test images only their number and digest leave here, until :func:`test_examples`.

    Args:
        source: None for the embedded MNIST, the path of an ``.npz`` in Keras's layout (``x_train``, ``y_train``,
            ``x_test``, ``y_test``), a folder of the four IDX files, plain or ``.gz``, or ``keras`` for the file that
            ``keras.datasets.mnist`` has downloaded.
        most: the first of the training images, so many, are taken and no others; None takes all.

    Raises:
        RequestError: the source is missing, damaged, has fewer than FEWEST training images, or is no images with labels
            as :class:`Source` has them.
    """
    location = _locate(source)
    images, labels = _read(location, "train")
    if len(images) < FEWEST:
        raise RequestError(
            f"--data {location} has {len(images)} training images; expected at least {FEWEST}, since the last sixth of them "
            "are the validation set; give more"
        )
    test, test_labels = _read(location, "test")
    if test.shape[1:] != images.shape[1:]:
        raise RequestError(
            f"--data {location}: training images are {_size(images)} and test images {_size(test)}; expected the same; "
            "give both in one size"
        )
    classes = 1 + int(max(labels.max(), test_labels.max()))
    name = "MNIST, embedded" if source is None else str(source)
    if most is not None and most < len(images):
        images, labels, name = images[:most], labels[:most], f"{name}, the first {most:,} images"
    digests = _digest(images, labels), _digest(test, test_labels)
    return Source(name, images, labels, classes, len(test), *digests, location)


def check_task(source: Source, task: str) -> None:
    """Whether the labels are such that the task, a name of TASKS, can be learned from them.

    Raises:
        RequestError: they are not.
    """
    if task == "zero" and (0 not in source.labels or not source.labels.any()):
        raise RequestError(
            f"--data {source.name}: its labels run from {source.labels.min()} to {source.labels.max()}; expected 0 and "
            "others, since label 0 is told from the rest; give other images"
        )
    if task == "digits" and source.classes < 3:
        raise RequestError(
            f"--data {source.name}: its labels are of {source.classes} classes; expected three or more; two are told "
            "apart by the task 'zero'"
        )


def class_names(source: Source, task: str, model: Any) -> tuple[str, ...]:
    """The names of a model's classes: it may have more outputs than there are labels."""
    outputs = _shape_of(model, "output_shape") or (None,)
    return TASKS[task].classes(max(source.classes, outputs[-1] or 0))


def misfit(source: Source, task: str, model: Any) -> str:
    """Why a Keras model cannot be trained on these images for this task; empty where it can.

    Args:
        task: a name of TASKS.
        model: a built ``keras.Model``. Where it has not one input and one output, nothing is known, and nothing said.
    """
    taken, outputs = (_shape_of(model, name) for name in ("input_shape", "output_shape"))
    given = source.images.shape[1:]
    if taken is not None and not _fits(given, taken):
        return (
            f"takes {_product(taken)} and the images of {source.name} are {_product(given)}; expected "
            f"keras.Input(shape={given}) for them, or other images with --data"
        )
    if task == "zero" and outputs and outputs[-1] not in (None, 1):
        return (
            f"has {outputs[-1]} outputs and the task 'zero' one target, label 0 or not; expected one output; end it with "
            "Dense(1, activation='sigmoid')"
        )
    if task == "digits" and outputs and outputs[-1] is not None and outputs[-1] < source.classes:
        return (
            f"has {outputs[-1]} outputs and the labels of {source.name} run to {source.classes - 1}; expected at least "
            f"{source.classes} outputs; end it with Dense({source.classes}, activation='softmax')"
        )
    return ""


def _shape_of(model: Any, name: str) -> tuple[int | None, ...] | None:
    """The shape of a model's only input or output, without the batch; None where that is not known."""
    shape = getattr(model, name, None)
    known = isinstance(shape, tuple) and all(size is None or isinstance(size, int) for size in shape)
    return shape[1:] if known else None  # type: ignore[index]


def _fits(given: tuple[int, ...], taken: tuple[int | None, ...]) -> bool:
    """Whether Keras takes such images: one channel it adds or leaves out itself."""
    if len(given) != len(taken):
        longer, shorter = sorted((given, taken), key=len, reverse=True)
        return (
            longer[-1] == 1 and len(longer) == len(shorter) + 1 and _fits(given[: len(shorter)], taken[: len(shorter)])
        )
    return all(b is None or a == b for a, b in zip(given, taken, strict=True))


def _product(shape: tuple[int | None, ...]) -> str:
    return " x ".join("any" if size is None else str(size) for size in shape)


def _size(images: NDArray[Any]) -> str:
    return _product(images.shape[1:])


def _digest(images: NDArray[Any], labels: NDArray[Any]) -> str:
    return hashlib.sha256(images.tobytes() + labels.tobytes()).hexdigest()


def training_examples(source: Source, task: Task) -> Examples:
    """The training images without the validation set."""
    n = len(source.images) - source.validation_images
    return _examples(source.images[:n], source.labels[:n], task)


def validation_examples(source: Source, task: Task) -> Examples:
    """The last training images: 10,000 of MNIST's, a sixth of fewer than 60,000."""
    n = len(source.images) - source.validation_images
    return _examples(source.images[n:], source.labels[n:], task)


def test_examples(source: Source, task: Task) -> Examples:
    """Reads the test images from the file. Only the final evaluation may call this.

    Raises:
        RequestError: see :func:`load`.
    """
    return _examples(*_read(source.location, "test"), task)


def _examples(images: NDArray[Any], labels: NDArray[np.integer[Any]], task: Task) -> Examples:
    return Examples(images, task.targets(labels))


def _locate(source: str | None) -> Path:
    if source is None:
        return EMBEDDED
    if source == "keras":
        path = Path.home() / ".keras" / "datasets" / "mnist.npz"
        if not path.exists():
            raise RequestError(
                f"--data keras expects {path}, which is not there; run keras.datasets.mnist.load_data() once, "
                "or leave --data out for the embedded MNIST"
            )
        return path
    expected = "expected an .npz, a folder of IDX files, or the word keras"
    path = Path(source)
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        raise RequestError(f"--data {source}: there is no such file; {expected}") from None
    except OSError as error:
        raise RequestError(f"--data {source}: {error.strerror}; {expected}") from None
    if not source or not (path.is_file() or path.is_dir()):
        raise RequestError(f"--data {source or repr(source)} is neither a file nor a folder; {expected}")
    return path


def _read(location: Path, part: str) -> tuple[NDArray[Any], NDArray[np.integer[Any]]]:
    with _readable(location):
        if location.is_dir():
            images = _read_idx(_idx_path(location, part, "images"))
            labels = _read_idx(_idx_path(location, part, "labels"))
        else:
            images, labels = _read_npz(location, part)
    where = f"--data {location}, {part}"
    _check_images(where, images.shape, images.dtype)
    _check_labels(where, labels.shape, labels.dtype, len(images))
    if not 0 <= labels.min() <= labels.max() < MOST_CLASSES:
        raise RequestError(
            f"{where}: labels run from {labels.min()} to {labels.max()}; expected 0 to k - 1 for k classes, at most "
            f"{MOST_CLASSES}; number them so"
        )
    if images.dtype != np.uint8:
        with np.errstate(over="ignore"):
            images = images.astype(np.float32)
        if not np.isfinite(images).all():
            raise RequestError(f"{where}: images hold NaN or infinity; expected numbers; write the file again without")
    return images, labels.astype(np.uint8 if labels.max() < 256 else np.int32)


@contextlib.contextmanager
def _readable(location: Path) -> Iterator[None]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # NumPy's advice on old headers, which would be a second line
            yield
    except RequestError:
        raise
    except Exception as error:  # what zipfile, gzip, lzma and NumPy raise for damaged bytes is documented nowhere
        raise RequestError(
            f"--data {location} cannot be read ({first_line(error)}); expected an .npz in Keras's layout or a folder of IDX files"
        ) from None


def _check_images(where: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    if not (dtype == np.uint8 or dtype.kind == "f") or len(shape) not in (3, 4) or 0 in shape[1:]:
        raise RequestError(
            f"{where}: images are {dtype} {shape}; expected uint8 or float, (n, height, width) or (n, height, width, "
            "channels); write them so"
        )
    if not shape[0]:
        raise RequestError(f"{where}: there are no images; expected some")


def _check_labels(where: str, shape: tuple[int, ...], dtype: np.dtype[Any], images: int) -> None:
    if not np.issubdtype(dtype, np.integer) or shape != (images,):
        raise RequestError(f"{where}: labels are {dtype} {shape}; expected integers ({images},)")


def _read_npz(path: Path, part: str) -> tuple[NDArray[Any], NDArray[Any]]:
    if not zipfile.is_zipfile(path):
        raise ValueError("it is not an .npz archive")
    with path.open("rb") as file, zipfile.ZipFile(file) as archive:
        missing = [key for key in ("x_train", "y_train", "x_test", "y_test") if f"{key}.npy" not in archive.namelist()]
        if missing:
            raise ValueError(f"it has no array named {missing[0]}")
        return _read_npy(archive, f"x_{part}.npy"), _read_npy(archive, f"y_{part}.npy")


def _read_npy(archive: zipfile.ZipFile, name: str) -> NDArray[Any]:
    _npy_header(archive, name)
    with archive.open(name) as member:
        return np.asarray(np.lib.format.read_array(member, allow_pickle=False))


def _npy_header(archive: zipfile.ZipFile, name: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Shape and dtype of a member of an ``.npz``, which must be as long as they promise."""
    with archive.open(name) as member:
        version = np.lib.format.read_magic(member)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(member)
        size = archive.getinfo(name).file_size - member.tell()
    if size != math.prod(shape) * dtype.itemsize and not dtype.hasobject:
        raise ValueError(f"{name} has {size} bytes of data; its header promises {dtype} {shape}")
    return shape, dtype


def _idx_path(folder: Path, part: str, kind: str) -> Path:
    stem = f"{'t10k' if part == 'test' else 'train'}-{kind}"
    dimensions = 3 if kind == "images" else 1
    for name in (f"{stem}-idx{dimensions}-ubyte", f"{stem}.idx{dimensions}-ubyte"):
        for path in (folder / name, folder / f"{name}.gz"):
            if path.exists():
                return path
    raise RequestError(
        f"--data {folder} has no {stem}-idx{dimensions}-ubyte, plain or .gz; expected the four IDX files"
    )


def _read_idx(path: Path) -> NDArray[np.uint8]:
    """The format is described at http://yann.lecun.com/exdb/mnist: magic 0 0 8 <dimensions>, sizes, bytes."""
    data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    shape = _idx_shape(data, path)
    _check_idx_size(path, len(data), shape)
    return np.frombuffer(data, np.uint8, offset=4 + 4 * len(shape)).reshape(shape)


def _idx_header(path: Path) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Shape and dtype; the file must be as long as the header promises (a ``.gz`` would have to be read for that)."""
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
        shape = _idx_shape(file.read(16), path)
    if path.suffix != ".gz":
        _check_idx_size(path, path.stat().st_size, shape)
    return shape, np.dtype(np.uint8)


def _check_idx_size(path: Path, size: int, shape: tuple[int, ...]) -> None:
    data = size - 4 - 4 * len(shape)
    if data != math.prod(shape):
        raise ValueError(f"{path.name} has {data} bytes of data; its header promises {shape}")


def _idx_shape(data: bytes, path: Path) -> tuple[int, ...]:
    if len(data) < 4 or data[:3] != b"\0\0\x08":
        raise ValueError(f"{path.name} is not an IDX file of unsigned bytes")
    if len(data) < 4 + 4 * data[3]:
        raise ValueError(f"{path.name} is truncated")
    return tuple(int(size) for size in np.frombuffer(data, ">u4", data[3], 4))
