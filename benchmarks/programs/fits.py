"""Seconds of ``model.fit`` or of ``search.fit`` for many kinds of model, as JSON: what benchmarks/library.py runs.

    python benchmarks/programs/fits.py {ours,stock} SEED SAMPLES EPOCHS [MODEL ...]

For each model: the seconds of so many epochs with the start, of as many more, and the loss at the end of each.
"""

import json
import sys
import time

import keras
import numpy as np
from keras import layers

MODELS = {}


def model(function):
    """Enters a function from (random generator, number of samples) to (model, x, y, arguments of fit)."""
    MODELS[function.__name__.replace("_", " ")] = function
    return function


def images(random, n, *shape):
    return random.uniform(size=(n, *(shape or (28, 28, 1)))).astype("float32")


def digits(random, n, classes=10):
    return random.integers(0, classes, size=n)


def classifier(*stack, optimizer="adam", **compiling):
    made = keras.Sequential([*stack, layers.Dense(10, activation="softmax")])
    made.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"], **compiling)
    return made


def dense_stack():
    return [keras.Input((784,)), layers.Dense(128, activation="relu"), layers.Dense(64, activation="relu")]


@model
def dense(random, n):
    return classifier(*dense_stack()), images(random, n, 784), digits(random, n), {}


@model
def two_inputs(random, n):
    left, right = keras.Input((64,), name="left"), keras.Input((32,), name="right")
    x = layers.Concatenate()([layers.Dense(64, activation="relu")(left), layers.Dense(32, activation="relu")(right)])
    made = keras.Model([left, right], layers.Dense(10, activation="softmax")(x))
    made.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return made, [images(random, n, 64), images(random, n, 32)], digits(random, n), {}


@model
def subclassed(random, n):
    class Residual(keras.Model):
        def __init__(self):
            super().__init__()
            self.first, self.second = layers.Dense(64, activation="relu"), layers.Dense(64, activation="relu")
            self.last = layers.Dense(10, activation="softmax")

        def call(self, x):
            x = self.first(x)
            return self.last(x + self.second(x))

    made = Residual()
    made.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return made, images(random, n, 784), digits(random, n), {}


@model
def recurrent(random, n):
    return classifier(keras.Input((28, 28)), layers.LSTM(32)), images(random, n, 28, 28), digits(random, n), {}


@model
def convolutional(random, n):
    stack = [keras.Input((28, 28, 1)), layers.Conv2D(8, 3, activation="relu"), layers.MaxPooling2D(), layers.Flatten()]
    return classifier(*stack), images(random, n), digits(random, n), {}


@model
def embedding(random, n):
    stack = [keras.Input((40,), dtype="int32"), layers.Embedding(5000, 16), layers.GlobalAveragePooling1D()]
    return classifier(*stack), digits(random, (n, 40), 5000), digits(random, n), {}


@model
def batch_norm(random, n):
    stack = [keras.Input((784,)), layers.Dense(128), layers.BatchNormalization(), layers.ReLU()]
    return classifier(*stack), images(random, n, 784), digits(random, n), {}


@model
def dropout(random, n):
    return classifier(*dense_stack(), layers.Dropout(0.3)), images(random, n, 784), digits(random, n), {}


@model
def attention(random, n):
    inputs = keras.Input((28, 28))
    x = layers.Dense(32)(inputs)
    x = layers.LayerNormalization()(x + layers.MultiHeadAttention(2, 16)(x, x))
    made = keras.Model(inputs, layers.Dense(10, activation="softmax")(layers.GlobalAveragePooling1D()(x)))
    made.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return made, images(random, n, 28, 28), digits(random, n), {}


@model
def two_outputs(random, n):
    inputs = keras.Input((784,))
    x = layers.Dense(64, activation="relu")(inputs)
    heads = {
        "digit": layers.Dense(10, activation="softmax", name="digit")(x),
        "size": layers.Dense(1, name="size")(x),
    }
    made = keras.Model(inputs, heads)
    made.compile(
        "adam",
        loss={"digit": "sparse_categorical_crossentropy", "size": "mse"},
        loss_weights={"digit": 1.0, "size": 0.5},
        metrics={"digit": ["accuracy"], "size": ["mae"]},
    )
    return made, images(random, n, 784), {"digit": digits(random, n), "size": images(random, n, 1)}, {}


@model
def regression(random, n):
    made = keras.Sequential([keras.Input((20,)), layers.Dense(64, activation="relu"), layers.Dense(1)])
    made.compile(keras.optimizers.RMSprop(1e-3), "mse", metrics=["mae"])
    return made, images(random, n, 20), images(random, n, 1), {}


@model
def class_weights(random, n):
    weights = {digit: 1 + digit / 10 for digit in range(10)}
    return classifier(*dense_stack()), images(random, n, 784), digits(random, n), {"class_weight": weights}


@model
def sample_weights(random, n):
    weights = random.uniform(0.5, 2, size=n).astype("float32")
    return classifier(*dense_stack()), images(random, n, 784), digits(random, n), {"sample_weight": weights}


@model
def validated(random, n):
    held_out = images(random, n // 5, 784), digits(random, n // 5)
    return classifier(*dense_stack()), images(random, n, 784), digits(random, n), {"validation_data": held_out}


@model
def learning_rate_schedule(random, n):
    rate = keras.optimizers.schedules.CosineDecay(1e-2, decay_steps=1000)
    made = classifier(*dense_stack(), optimizer=keras.optimizers.SGD(rate, momentum=0.9))
    return made, images(random, n, 784), digits(random, n), {}


def main():
    side, seed, samples, epochs = sys.argv[1], *map(int, sys.argv[2:5])
    if side == "ours":
        from search import fit
    else:

        def fit(model, *args, **kwargs):
            return model.fit(*args, **kwargs)

    figures = {}
    for name in sys.argv[5:] or MODELS:
        keras.backend.clear_session()
        keras.utils.set_random_seed(seed)
        made, x, y, arguments = MODELS[name](np.random.default_rng(seed), samples)
        arguments |= {"batch_size": 64, "verbose": 0}
        seconds, losses = [], []
        for _ in range(2):
            began = time.perf_counter()
            history = fit(made, x, y, epochs=epochs, **arguments)
            seconds.append(time.perf_counter() - began)
            losses.append(float(history.history["loss"][-1]))
        figures[name] = {"first": seconds[0], "more": seconds[1], "losses": losses}
    print("> figures:", json.dumps(figures))


if __name__ == "__main__":
    main()
