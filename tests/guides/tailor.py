"""After KerasTuner's guide "Tailor the search space": some hyper-parameters fixed, and compiling overridden."""

import keras
from digits import mnist
from keras import layers

import search as keras_tuner

(x_train, y_train), (x_val, y_val) = mnist(400, 200)
y_train, y_val = y_train[:, None], y_val[:, None]


def build_model(hp):
    model = keras.Sequential([layers.Flatten()])
    model.add(layers.Dense(units=hp.Int("units", min_value=16, max_value=64, step=16, default=32)))
    if hp.Boolean("dropout"):
        model.add(layers.Dropout(0.25))
    model.add(layers.Dense(10, activation="softmax"))
    model.compile(
        optimizer=keras.optimizers.Adam(hp.Choice("learning_rate", values=[1e-2, 1e-3, 1e-4])),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    return model


# The learning rate alone, and over another range than the model names.
hp = keras_tuner.HyperParameters()
hp.Float("learning_rate", min_value=1e-4, max_value=1e-2, sampling="log")
tuner = keras_tuner.RandomSearch(
    hypermodel=build_model,
    hyperparameters=hp,
    tune_new_entries=False,
    objective="val_accuracy",
    max_trials=3,
    overwrite=True,
    directory="results",
    project_name="search_a_few",
    # workers
)
tuner.search(x_train, y_train, epochs=1, validation_data=(x_val, y_val))
tuner.search_space_summary()
rates = {trial.hyperparameters.get("learning_rate") for trial in tuner.oracle.trials.values()}
print("> a few:", [p.name for p in tuner.oracle.get_space().space], len(rates), rates <= {1e-2, 1e-3, 1e-4})
print("> units held:", {trial.hyperparameters.get("units") for trial in tuner.oracle.trials.values()})

# All but the learning rate.
hp = keras_tuner.HyperParameters()
hp.Fixed("learning_rate", value=1e-4)
tuner = keras_tuner.RandomSearch(
    build_model,
    hyperparameters=hp,
    tune_new_entries=True,
    objective="val_accuracy",
    max_trials=3,
    overwrite=True,
    directory="results",
    project_name="fix_a_few",
    # workers
)
tuner.search(x_train, y_train, epochs=1, validation_data=(x_val, y_val))
tuner.search_space_summary()
kinds = {p.name: type(p).__name__ for p in tuner.oracle.get_space().space}
print("> rest:", dict(sorted(kinds.items())))
print("> rate held:", {trial.hyperparameters.get("learning_rate") for trial in tuner.oracle.trials.values()})

# Another optimizer, loss and metrics than the model was compiled with.
tuner = keras_tuner.RandomSearch(
    build_model,
    optimizer=keras.optimizers.Adam(1e-3),
    loss="mse",
    metrics=["sparse_categorical_crossentropy"],
    objective="val_loss",
    max_trials=3,
    overwrite=True,
    directory="results",
    project_name="override_compile",
    # workers
)
tuner.search(x_train, y_train, epochs=1, validation_data=(x_val, y_val))
model = tuner.get_best_models()[0]
print("> compiled with:", model.loss, type(model.optimizer).__name__, round(float(model.optimizer.learning_rate), 6))
print("> recorded:", sorted(tuner.oracle.get_best_trials()[0].metrics.metrics))
