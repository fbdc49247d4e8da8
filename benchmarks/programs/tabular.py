"""A regression of 20 columns and 100,000 rows, Hyperband; the rows follow Friedman's function, with noise."""

import keras
import numpy as np
from keras import layers

import search as keras_tuner

SEED = 7
EPOCHS, ROWS = 9, 100_000

keras.utils.set_random_seed(SEED)
random = np.random.default_rng(SEED)
x = random.uniform(size=(ROWS, 20)).astype("float32")
y = 10 * np.sin(np.pi * x[:, 0] * x[:, 1]) + 20 * (x[:, 2] - 0.5) ** 2 + 10 * x[:, 3] + 5 * x[:, 4]
y = ((y - y.mean()) / y.std() + 0.1 * random.normal(size=ROWS)).astype("float32")
held_out = ROWS // 5


def build_model(hp):
    model = keras.Sequential([keras.Input((20,))])
    for i in range(hp.Int("num_layers", 1, 3)):
        model.add(
            layers.Dense(hp.Int(f"units_{i}", 16, 128, step=16), activation=hp.Choice("activation", ["relu", "gelu"]))
        )
    model.add(layers.Dense(1))
    optimizer = keras.optimizers.Adam(hp.Float("lr", 1e-4, 1e-2, sampling="log"))
    model.compile(optimizer=optimizer, loss="mse", metrics=["mae"])
    return model


tuner = keras_tuner.Hyperband(
    build_model,
    objective="val_loss",
    max_epochs=EPOCHS,
    directory="results",
    project_name="tabular",
    seed=SEED,
    # workers
)
tuner.search(
    x[held_out:],
    y[held_out:],
    batch_size=128,
    validation_data=(x[:held_out], y[:held_out]),
    callbacks=[keras.callbacks.EarlyStopping("val_loss", patience=3)],
    verbose=0,
)
loss = tuner.get_best_models()[0].evaluate(x[:held_out], y[:held_out], verbose=0)[0]
print("> trials:", len(tuner.oracle.trials))
print("> best:", loss)
