"""Images and labels: every layout gives the same arrays, the test images stay sealed, damaged bytes are refused."""

import gzip
import hashlib
import re
import zipfile

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from search.errors import RequestError
from search.lab import data
from tests.conftest import ROOT

IDX_NAMES = {
    "x_train": "train-images-idx3-ubyte",
    "y_train": "train-labels-idx1-ubyte",
    "x_test": "t10k-images-idx3-ubyte",
    "y_test": "t10k-labels-idx1-ubyte",
}
N = 6000
TEST = 6000


def idx_bytes(array):
    """The format of http://yann.lecun.com/exdb/mnist, written from its description."""
    return bytes([0, 0, 8, array.ndim]) + b"".join(size.to_bytes(4, "big") for size in array.shape) + array.tobytes()


def write_idx(folder, arrays, gz=False):
    folder.mkdir(exist_ok=True)
    for key, name in IDX_NAMES.items():
        content = idx_bytes(arrays[key])
        path = folder / (name + ".gz" * gz)
        path.write_bytes(gzip.compress(content, 1) if gz else content)
    return folder


@pytest.fixture(scope="module")
def mnist():
    with np.load(data.EMBEDDED) as file:
        return {key: file[key] for key in IDX_NAMES}


@pytest.fixture(scope="module")
def small(mnist):
    return {
        "x_train": mnist["x_train"][:N],
        "y_train": mnist["y_train"][:N],
        "x_test": mnist["x_test"][:TEST],
        "y_test": mnist["y_test"][:TEST],
    }


@pytest.fixture
def small_npz(tmp_path, small):
    np.savez(tmp_path / "small.npz", **small)
    return tmp_path / "small.npz"


def test_the_embedded_images_are_the_four_idx_files(mnist):
    license_text = (ROOT / "search" / "lab" / "MNIST-LICENSE.md").read_text()
    stated = re.findall(r"\b[0-9a-f]{32}\b", license_text)
    rebuilt = [hashlib.md5(idx_bytes(mnist[key])).hexdigest() for key in IDX_NAMES]
    assert rebuilt == stated


def test_split_is_the_first_50000_and_the_last_10000(mnist):
    source, task = data.load(), data.TASKS["digits"]
    train, validation = data.training_examples(source, task), data.validation_examples(source, task)
    assert np.array_equal(train.x, mnist["x_train"][:50_000])
    assert np.array_equal(train.y, mnist["y_train"][:50_000])
    assert np.array_equal(validation.x, mnist["x_train"][50_000:])
    assert np.array_equal(validation.y, mnist["y_train"][50_000:])
    assert (source.name, source.test_images, source.location) == ("MNIST, embedded", 10_000, data.EMBEDDED)


def test_examples_are_the_pixels_as_they_are_stored(small_npz, small):
    source, task = data.load(str(small_npz)), data.TASKS["zero"]
    for examples, n in (
        (data.training_examples(source, task), 5000),
        (data.validation_examples(source, task), 1000),
        (data.test_examples(source, task), TEST),
    ):
        assert (examples.x.shape, examples.x.dtype) == ((n, 28, 28), np.uint8)
        assert len(examples.y) == n
    assert np.array_equal(data.test_examples(source, task).x, small["x_test"])


def test_targets_of_each_task():
    labels = np.arange(10, dtype=np.uint8)
    zero, digits = data.TASKS["zero"].targets(labels), data.TASKS["digits"].targets(labels)
    assert (zero.shape, zero.dtype, zero.ravel().tolist()) == ((10, 1), np.float32, [1.0] + [0.0] * 9)
    assert (digits.shape, digits.dtype, digits.tolist()) == ((10,), np.int32, list(range(10)))
    assert data.TASKS["zero"].classes(10) == ("not 0", "0")
    assert data.TASKS["digits"].classes(10) == tuple("0123456789")


@pytest.mark.parametrize(("n", "validation"), [(60, 10), (66, 11), (59_999, 9999), (60_000, 10_000), (70_000, 10_000)])
def test_validation_is_a_sixth_and_at_most_10000(tmp_path, n, validation):
    labels = np.arange(n) % 3
    path = tmp_path / "data.npz"
    np.savez(path, x_train=np.zeros((n, 2, 2), np.uint8), y_train=labels, x_test=np.zeros((9, 2, 2)), y_test=labels[:9])
    source, task = data.load(str(path)), data.TASKS["digits"]
    assert len(data.validation_examples(source, task).x) == source.validation_images == validation
    assert len(data.training_examples(source, task).x) == n - validation
    assert np.array_equal(data.validation_examples(source, task).y, labels[n - validation :])


@pytest.mark.parametrize("dtype", [np.uint8, np.float16, np.float32, np.float64])
@pytest.mark.parametrize("shape", [(8, 8), (5, 7), (4, 4, 1), (4, 4, 3)])
def test_images_of_any_size_and_number_of_classes_come_as_they_are(tmp_path, shape, dtype):
    random = np.random.default_rng(1)
    x, y = random.uniform(0, 200, (100, *shape)).astype(dtype), np.arange(100) % 7
    np.savez(tmp_path / "other.npz", x_train=x, y_train=y, x_test=x[:20], y_test=y[:20])
    source, task = data.load(str(tmp_path / "other.npz")), data.TASKS["digits"]
    kept = np.uint8 if dtype == np.uint8 else np.float32
    for examples, n in (
        (data.training_examples(source, task), slice(84)),
        (data.test_examples(source, task), slice(20)),
    ):
        assert examples.x.dtype == kept
        assert np.array_equal(examples.x, x[n].astype(kept))
        assert np.array_equal(examples.y, y[n])
    assert task.classes(source.classes) == tuple("0123456")


class Model:
    """What is asked of a Keras model."""

    def __init__(self, input_shape, output_shape):
        self.input_shape, self.output_shape = input_shape, output_shape


@pytest.mark.parametrize(
    ("taken", "outputs", "task", "said"),
    [
        ((None, 28, 28), (None, 10), "digits", ""),
        ((None, 28, 28, 1), (None, 12), "digits", ""),
        ((None, None, 28), (None, None), "digits", ""),
        ([(None, 5), (None, 6)], {"a": (None, 1)}, "digits", ""),
        ((None, 28, 28), (None, 1), "zero", ""),
        ((None, 28, 28), (None, 2), "zero", "has 2 outputs and the task 'zero' one target"),
        ((None, 8, 8), (None, 10), "digits", "takes 8 x 8 and the images of MNIST, embedded are 28 x 28; expected"),
        ((None, 28, 28, 3), (None, 10), "digits", "takes 28 x 28 x 3"),
        ((None, 784), (None, 10), "digits", "takes 784"),
        ((None, 28, 28), (None, 7), "digits", "has 7 outputs and the labels of MNIST, embedded run to 9; expected"),
    ],
)
def test_a_model_of_another_shape_is_refused_by_name(taken, outputs, task, said):
    found = data.misfit(data.load(), task, Model(taken, outputs))
    assert said in found
    assert bool(said) == bool(found)


@pytest.mark.parametrize("gz", [False, True], ids=["plain", "gz"])
@pytest.mark.parametrize("pattern", ["dashes", "dots"])
def test_idx_folder_gives_the_arrays_of_the_npz(tmp_path, small_npz, small, gz, pattern):
    folder = write_idx(tmp_path / "idx", small, gz)
    if pattern == "dots":  # as some distributions name them: train-images.idx3-ubyte
        for path in list(folder.iterdir()):
            path.rename(path.with_name(path.name.replace("-idx", ".idx")))
    ours, theirs = data.load(str(folder)), data.load(str(small_npz))
    assert np.array_equal(ours.images, theirs.images)
    assert np.array_equal(ours.labels, theirs.labels)
    assert (ours.sha256, ours.test_images) == (theirs.sha256, theirs.test_images)
    task = data.TASKS["digits"]
    a, b = data.test_examples(ours, task), data.test_examples(theirs, task)
    assert np.array_equal(a.x, b.x)
    assert np.array_equal(a.y, b.y)


def test_labels_of_any_integer_type_are_the_same(tmp_path, small_npz, small):
    for dtype in (">i4", np.int64, np.uint16):
        np.savez(tmp_path / "other.npz", **{**small, "y_train": small["y_train"].astype(dtype)})
        assert data.load(str(tmp_path / "other.npz")).sha256 == data.load(str(small_npz)).sha256


def test_the_order_in_memory_does_not_matter(tmp_path, small_npz, small):
    np.savez(tmp_path / "fortran.npz", **{**small, "x_train": np.asfortranarray(small["x_train"])})
    assert data.load(str(tmp_path / "fortran.npz")).sha256 == data.load(str(small_npz)).sha256


def test_a_file_of_python_2_is_read_without_a_word(tmp_path, small_npz):
    """NumPy warns of its headers, whose sizes are long integers; that would be a second line on stderr."""
    old = tmp_path / "old.npz"
    with zipfile.ZipFile(small_npz) as source, zipfile.ZipFile(old, "w") as target:
        for name in source.namelist():
            target.writestr(name, re.sub(rb"\((\d+),(.*?)\), } ", rb"(\1L,\2), }", source.read(name), count=1))
    assert b"(6000L, 28, 28)" in old.read_bytes()
    assert data.load(str(old)).sha256 == data.load(str(small_npz)).sha256


def test_the_downloaded_file_of_keras(tmp_path, monkeypatch, small_npz):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".keras" / "datasets").mkdir(parents=True)
    small_npz.rename(tmp_path / ".keras" / "datasets" / "mnist.npz")
    assert data.load("keras").name == "keras"


def test_the_first_of_the_images_are_told_from_all_of_them(small_npz, small):
    n = len(small["x_train"]) - 10
    all_of_them, first = data.load(str(small_npz)), data.load(str(small_npz), n)
    assert np.array_equal(first.images, small["x_train"][:n])
    assert np.array_equal(first.labels, small["y_train"][:n])
    assert first.sha256 != all_of_them.sha256
    assert first.test_sha256 == all_of_them.test_sha256
    assert first.name != all_of_them.name
    assert data.load(str(small_npz), n + 10).sha256 == all_of_them.sha256


@pytest.mark.parametrize("key", ["x_train", "y_train", "x_test", "y_test"])
def test_fingerprints_are_of_the_training_and_of_the_test_data(tmp_path, small_npz, small, key):
    array = small[key].copy()
    array.flat[-1] ^= 1
    np.savez(tmp_path / "other.npz", **{**small, key: array})
    one, other = data.load(str(small_npz)), data.load(str(tmp_path / "other.npz"))
    assert (one.sha256 == other.sha256) == key.endswith("test")
    assert (one.test_sha256 == other.test_sha256) == key.endswith("train")


def spoil(path, start, size):
    content = bytearray(path.read_bytes())
    content[start : start + size] = b"\xaa" * size
    path.write_bytes(content)


@pytest.mark.parametrize("key", list(IDX_NAMES))
def test_a_damaged_array_is_refused_before_anything_is_trained(small_npz, small, key):
    spoil(small_npz, small_npz.read_bytes().index(small[key].tobytes()) + 5000, 50)
    with pytest.raises(RequestError, match=f"Bad CRC-32 for file '{key}.npy'"):
        data.load(str(small_npz))


EASY = {
    "x_train": np.zeros((data.FEWEST, 28, 28), np.uint8),
    "y_train": np.zeros(data.FEWEST, np.uint8),
    "x_test": np.zeros((10, 28, 28), np.uint8),
    "y_test": np.zeros(10, np.uint8),
}
FUZZ = settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@st.composite
def damage(draw):
    """(position as a share of the length, new byte) for each change, and the share of the length that is kept."""
    share = st.floats(0, 1, exclude_max=True)
    ends = st.one_of(share, share.map(lambda x: x / 500), share.map(lambda x: 1 - x / 50 - 1e-9))  # headers, directory
    changes = draw(st.lists(st.tuples(ends, st.integers(0, 255)), max_size=4))
    return changes, draw(st.one_of(st.just(1.0), share))


def apply(damage, content):
    changes, kept = damage
    content = bytearray(content)
    for share, byte in changes:
        content[int(share * len(content))] = byte
    return bytes(content[: int(kept * len(content))])


def load_all(path):
    """Reads everything; whatever is wrong with it must be a RequestError of one line."""
    try:
        data.test_examples(data.load(str(path)), data.TASKS["digits"])
    except RequestError as error:
        refusal = str(error)
    else:
        return
    assert len(refusal.splitlines()) == 1
    assert "--data" in refusal


@FUZZ
@given(damage())
def test_a_damaged_npz_is_refused_or_right(tmp_path, damage):
    path = tmp_path / "valid.npz"
    if not path.exists():
        np.savez_compressed(path, **EASY)
    (tmp_path / "damaged.npz").write_bytes(apply(damage, path.read_bytes()))
    load_all(tmp_path / "damaged.npz")


@FUZZ
@given(
    st.sampled_from(["x_train.npy", "y_train.npy", "x_test.npy", "y_test.npy"]),
    st.integers(0, 127),
    st.integers(0, 255),
)
def test_a_damaged_npy_header_is_refused_or_right(tmp_path, member, position, byte):
    """The archive's checksums are right, so that it is NumPy's header that is read."""
    valid = tmp_path / "valid.npz"
    if not valid.exists():
        np.savez_compressed(valid, **EASY)
    with zipfile.ZipFile(valid) as source, zipfile.ZipFile(tmp_path / "damaged.npz", "w") as target:
        for name in source.namelist():
            content = bytearray(source.read(name))
            if name == member:
                content[position] = byte
            target.writestr(name, bytes(content))
    load_all(tmp_path / "damaged.npz")


@FUZZ
@given(st.sampled_from(sorted(IDX_NAMES)), st.booleans(), st.integers(0, 17), st.integers(0, 255), damage())
def test_a_damaged_idx_file_is_refused_or_right(tmp_path, key, gz, position, byte, damage):
    folder = tmp_path / ("gz" if gz else "plain")
    if not folder.exists():
        write_idx(folder, EASY, gz)
    path = folder / (IDX_NAMES[key] + ".gz" * gz)
    valid = path.read_bytes()
    header = bytearray(valid)
    header[position] = byte
    try:
        for content in (bytes(header), apply(damage, valid)):
            path.write_bytes(content)
            load_all(folder)
    finally:
        path.write_bytes(valid)
