"""The layers of the ten-class networks, beside NumPy and Keras's own loss; and their exact continuation."""

import keras
import numpy as np
import pytest

from search.lab.layers import RandomShift, SmoothedCrossentropy
from search.training.fingerprint import fingerprint


def _image_of_its_own(n, *shape):
    return np.arange(1, n * np.prod(shape) + 1, dtype="float32").reshape(n, *shape)


def _shifted(image, rows, columns):
    """NumPy's: zeros come in."""
    wide = np.pad(image, [(9, 9), (9, 9), *[(0, 0)] * (image.ndim - 2)])
    return wide[9 + rows : 9 + rows + image.shape[0], 9 + columns : 9 + columns + image.shape[1]]


@pytest.mark.parametrize("shape", [(7, 5), (6, 6, 1), (5, 7, 3)])
def test_every_image_is_shifted_whole_and_by_a_draw_of_its_own(shape):
    images = _image_of_its_own(400, *shape)
    shifted = keras.ops.convert_to_numpy(RandomShift(2, seed=1)(images, training=True))
    counts = {}
    for image, result in zip(images, shifted, strict=True):
        found = [
            (rows, columns)
            for rows in range(-2, 3)
            for columns in range(-2, 3)
            if np.array_equal(result, _shifted(image, rows, columns))
        ]
        assert len(found) == 1
        counts[found[0]] = counts.get(found[0], 0) + 1
    assert len(counts) == 25, "every pair of shifts occurs"
    assert max(counts.values()) < 50, "and none much more often than the others: 16 are expected"


def test_images_are_left_alone_in_inference_and_without_pixels_to_shift_by():
    images = _image_of_its_own(3, 4, 4)
    np.testing.assert_array_equal(RandomShift(2, seed=1)(images), images)
    np.testing.assert_array_equal(RandomShift(0, seed=1)(images, training=True), images)
    with pytest.raises(ValueError, match="pixels is -1; expected 0 or more"):
        RandomShift(-1)


def test_the_draws_are_a_function_of_the_state_that_is_a_variable():
    images = _image_of_its_own(50, 6, 6)
    layer = RandomShift(2, seed=3)
    layer(images, training=True)
    state = [variable.numpy() for variable in layer.variables]
    second = layer(images, training=True)
    other = RandomShift(2, seed=99)
    for variable, value in zip(other.variables, state, strict=True):
        variable.assign(value)
    np.testing.assert_array_equal(other(images, training=True), second)
    assert not np.array_equal(layer(images, training=True), second)


@pytest.mark.parametrize("smoothing", [0.0, 0.05, 0.3])
@pytest.mark.parametrize("shape", [(32,), (32, 1)])
def test_smoothed_crossentropy_is_that_of_keras_on_one_hot_labels(smoothing, shape):
    random = np.random.default_rng(0)
    labels = random.integers(0, 10, 32)
    probabilities = random.dirichlet(np.ones(10), 32).astype("float32")
    theirs = keras.losses.CategoricalCrossentropy(label_smoothing=smoothing)(np.eye(10)[labels], probabilities)
    ours = SmoothedCrossentropy(smoothing)(labels.reshape(shape).astype("int32"), probabilities)
    np.testing.assert_array_equal(ours, theirs)
    if smoothing == 0:
        sparse = keras.losses.SparseCategoricalCrossentropy()(labels, probabilities)
        np.testing.assert_allclose(ours, sparse, rtol=1e-6)


@pytest.mark.long
def test_a_saved_model_of_them_reloads(tmp_path):
    random = np.random.default_rng(0)
    x, y = random.integers(0, 256, (64, 8, 8)).astype("uint8"), random.integers(0, 3, 64).astype("int32")
    model = keras.Sequential(
        [keras.Input((8, 8)), RandomShift(2), keras.layers.Flatten(), keras.layers.Dense(3, "softmax")]
    )
    model.compile("adam", SmoothedCrossentropy(0.1), metrics=["accuracy"])
    model.fit(x, y, verbose=0)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert again.layers[0].pixels == 2
    assert again.loss.label_smoothing == 0.1
    np.testing.assert_array_equal(again(x[:5]), model(x[:5]))
    again.fit(x, y, verbose=0)  # that of the random numbers is not in the file, as with Keras's own layers


def _key(pixels, smoothing):
    model = keras.Sequential([keras.Input((8, 8)), RandomShift(pixels), keras.layers.Flatten(), keras.layers.Dense(3)])
    model.compile("adam", SmoothedCrossentropy(smoothing))
    model.optimizer.build(model.trainable_variables)
    return fingerprint(model).key


def test_models_of_them_share_a_program_where_their_arguments_agree():
    assert _key(2, 0.1) is not None
    assert _key(2, 0.1) == _key(2, 0.1)
    assert _key(1, 0.1) != _key(2, 0.1) != _key(2, 0.0)
