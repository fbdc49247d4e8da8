"""After the ends of KerasTuner's guides "Getting started" and "Tailor the search space": its ready-made models."""

import keras
from digits import mnist
from keras_tuner.applications import HyperResNet

import search as keras_tuner

(x_train, y_train), (x_val, y_val) = mnist(32, 16)
x_train, x_val = x_train[..., None], x_val[..., None]

tuner = keras_tuner.RandomSearch(
    HyperResNet(input_shape=(28, 28, 1), classes=10),
    objective="val_accuracy",
    max_trials=1,
    overwrite=True,
    directory="results",
    project_name="resnet",
    # workers
)
tuner.search(
    x_train,
    keras.utils.to_categorical(y_train, 10),
    epochs=1,
    validation_data=(x_val, keras.utils.to_categorical(y_val, 10)),
)
print("> resnet:", len(tuner.oracle.trials), "conv3_depth" in tuner.get_best_hyperparameters()[0].values)

# The learning rate alone of the ready-made space, and another loss.
hp = keras_tuner.HyperParameters()
hp.Choice("learning_rate", values=[1e-2, 1e-3, 1e-4])
tuner = keras_tuner.RandomSearch(
    keras_tuner.applications.HyperXception(input_shape=(28, 28, 1), classes=10),
    hyperparameters=hp,
    tune_new_entries=False,
    loss="sparse_categorical_crossentropy",
    metrics=["accuracy"],
    objective="val_accuracy",
    max_trials=2,
    overwrite=True,
    directory="results",
    project_name="xception",
    # workers
)
tuner.search(x_train, y_train, epochs=1, validation_data=(x_val, y_val))
tuner.search_space_summary()
print("> xception:", len(tuner.oracle.trials), [p.name for p in tuner.oracle.get_space().space])
