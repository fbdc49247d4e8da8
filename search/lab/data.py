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
VALIDATION_IMAGES = 10_000  # the last ones of the training images, as the lab has it


@dataclass(frozen=True)
class Task:
    """What a network is to tell apart.

    Attributes:
        classes: the name of each class, in the order of the confusion matrix.
        targets: labels (n,) uint8 in 0..9 -> what the loss is computed against: (n, 1) float32 in {0, 1} for two
            classes, (n,) int32 for more.
    """

    classes: tuple[str, ...]
    targets: Callable[[NDArray[np.uint8]], NDArray[np.generic]]


TASKS = {
    "zero": Task(("not 0", "0"), lambda labels: (labels == 0).astype(np.float32)[:, None]),
    "digits": Task(tuple("0123456789"), lambda labels: labels.astype(np.int32)),
}


@dataclass(frozen=True)
class Examples:
    """Images (n, 28, 28) uint8 in 0..255, which a model rescales itself, and their targets, as :class:`Task` gives them."""

    x: NDArray[np.uint8]
    y: NDArray[np.generic]


@dataclass(frozen=True)
class Source:
    """Where the images come from.

    Attributes:
        name: what a person calls it.
        images, labels: of the training images, the validation set included: (n, 28, 28) uint8 and (n,) uint8.
        test_images: how many test images there are.
        sha256, test_sha256: of the training and of the test images and labels, so that a changed file is noticed.
        location: the file or folder.
    """

    name: str
    images: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    test_images: int
    sha256: str
    test_sha256: str
    location: Path


def load(source: str | None = None) -> Source:
    """Reads the training images; of the test images only their number and digest leave here, until :func:`test_examples`.

    Args:
        source: None for the embedded MNIST, the path of an ``.npz`` in Keras's layout (``x_train``, ``y_train``,
            ``x_test``, ``y_test``), a folder of the four IDX files, plain or ``.gz``, or ``keras`` for the file that
            ``keras.datasets.mnist`` has downloaded.

    Raises:
        RequestError: the source is missing, damaged, or not images (n, 28, 28) uint8 with labels (n,) in 0..9.
    """
    location = _locate(source)
    images, labels = _read(location, "train")
    if len(images) < VALIDATION_IMAGES + 1000:
        raise RequestError(
            f"--data {location} has {len(images)} training images; expected at least {VALIDATION_IMAGES + 1000}, since the last "
            f"{VALIDATION_IMAGES} are the validation set"
        )
    test = _read(location, "test")
    name = "MNIST, embedded" if source is None else str(source)
    return Source(name, images, labels, len(test[0]), _digest(images, labels), _digest(*test), location)


def _digest(images: NDArray[Any], labels: NDArray[Any]) -> str:
    return hashlib.sha256(images.tobytes() + labels.tobytes()).hexdigest()


def training_examples(source: Source, task: Task) -> Examples:
    """The training images without the validation set."""
    return _examples(source.images[:-VALIDATION_IMAGES], source.labels[:-VALIDATION_IMAGES], task)


def validation_examples(source: Source, task: Task) -> Examples:
    """The last 10,000 training images."""
    return _examples(source.images[-VALIDATION_IMAGES:], source.labels[-VALIDATION_IMAGES:], task)


def test_examples(source: Source, task: Task) -> Examples:
    """Reads the test images from the file. Only the final evaluation may call this.

    Raises:
        RequestError: see :func:`load`.
    """
    return _examples(*_read(source.location, "test"), task)


def _examples(images: NDArray[np.uint8], labels: NDArray[np.uint8], task: Task) -> Examples:
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


def _read(location: Path, part: str) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    with _readable(location):
        if location.is_dir():
            images = _read_idx(_idx_path(location, part, "images"))
            labels = _read_idx(_idx_path(location, part, "labels"))
        else:
            images, labels = _read_npz(location, part)
    where = f"--data {location}, {part}"
    _check_images(where, images.shape, images.dtype)
    _check_labels(where, labels.shape, labels.dtype, len(images))
    if not 0 <= labels.min() <= labels.max() <= 9:
        raise RequestError(f"{where}: labels run from {labels.min()} to {labels.max()}; expected digits 0 to 9")
    return images, labels.astype(np.uint8)


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
    if dtype != np.uint8 or len(shape) != 3 or shape[1:] != (28, 28):
        raise RequestError(f"{where}: images are {dtype} {shape}; expected uint8 (n, 28, 28)")
    if not shape[0]:
        raise RequestError(f"{where}: there are no images; expected some")


def _check_labels(where: str, shape: tuple[int, ...], dtype: np.dtype[Any], images: int) -> None:
    if not np.issubdtype(dtype, np.integer) or shape != (images,):
        raise RequestError(f"{where}: labels are {dtype} {shape}; expected integers ({images},)")


def _read_npz(path: Path, part: str) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
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
