"""After KerasTuner's guide "Distributed hyperparameter tuning": its own protocol, one program for chief and workers.

The environment says which of them a process is: KERASTUNER_TUNER_ID, KERASTUNER_ORACLE_IP, KERASTUNER_ORACLE_PORT.
"""

import os

import keras
from digits import mnist

import search as keras_tuner

(x_train, y_train), (x_val, y_val) = mnist(300, 100)


def build_model(hp):
    model = keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(hp.Int("units", 8, 64, step=8))])
    model.add(keras.layers.Dense(10, activation="softmax"))
    optimizer = keras.optimizers.Adam(hp.Float("rate", 1e-4, 1e-2, sampling="log"))
    model.compile(optimizer, loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


tuner = keras_tuner.RandomSearch(
    hypermodel=build_model,
    objective="val_accuracy",
    max_trials=4,
    directory="results",
    project_name="shared",
)
tuner.search(x_train, y_train, epochs=1, validation_data=(x_val, y_val), verbose=2)

who = os.environ["KERASTUNER_TUNER_ID"]
print("> who:", who, tuner.tuner_id)
if who == "chief":
    trials = tuner.oracle.trials.values()
    print("> trials:", len(trials), sorted({trial.status for trial in trials}))
    print("> best:", sorted(tuner.get_best_hyperparameters()[0].values))
