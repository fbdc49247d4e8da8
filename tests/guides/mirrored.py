"""After KerasTuner's guide "Distributed hyperparameter tuning": each trial trained under tf.distribute."""

import keras
import tensorflow as tf
from digits import mnist

import search as keras_tuner

(x_train, y_train), (x_val, y_val) = mnist(400, 100)


def build_model(hp):
    model = keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(hp.Int("units", 8, 32, step=8))])
    model.add(keras.layers.Dense(10, activation="softmax"))
    model.compile("adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


tuner = keras_tuner.Hyperband(
    hypermodel=build_model,
    objective="val_accuracy",
    max_epochs=2,
    factor=3,
    hyperband_iterations=1,
    distribution_strategy=tf.distribute.MirroredStrategy(),
    directory="results",
    project_name="mirrored",
    overwrite=True,
    # workers
)
tuner.search(
    x_train, y_train, validation_data=(x_val, y_val), callbacks=[keras.callbacks.EarlyStopping("val_accuracy")]
)
print("> trials:", len(tuner.oracle.trials))
print("> models:", len(tuner.get_best_models()))
