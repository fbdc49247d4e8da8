"""After KerasTuner's guide "Getting started", its first half: tune the model, its training and its preprocessing."""

import keras
import numpy as np
from digits import mnist
from keras import layers

import search as keras_tuner

(x_train, y_train), (x_val, y_val) = mnist(600, 200)
x_train, x_val = x_train[..., None], x_val[..., None]
y_train, y_val = keras.utils.to_categorical(y_train, 10), keras.utils.to_categorical(y_val, 10)


def simple_model(hp):
    model = keras.Sequential([layers.Flatten()])
    model.add(layers.Dense(hp.Int("units", min_value=16, max_value=48, step=16), activation="relu"))
    model.add(layers.Dense(10, activation="softmax"))
    model.compile(optimizer="adam", loss="categorical_crossentropy", metrics=["accuracy"])
    return model


# A model that builds with the defaults, and hyper-parameters that are plain values.
simple_model(keras_tuner.HyperParameters())
hp = keras_tuner.HyperParameters()
print("> default units:", hp.Int("units", min_value=16, max_value=48, step=16))


# Keras code that knows nothing of the search, and a space with a number of layers that decides which others there are.
def classifier(widths, activation, dropout, rate):
    model = keras.Sequential([layers.Flatten()])
    for width in widths:
        model.add(layers.Dense(width, activation=activation))
    if dropout:
        model.add(layers.Dropout(0.25))
    model.add(layers.Dense(10, activation="softmax"))
    optimizer = keras.optimizers.Adam(learning_rate=rate)
    model.compile(optimizer=optimizer, loss="categorical_crossentropy", metrics=["accuracy"])
    return model


def build_model(hp):
    widths = [hp.Int(f"units_{i}", min_value=16, max_value=48, step=16) for i in range(hp.Int("num_layers", 1, 3))]
    activation = hp.Choice("activation", ["relu", "tanh"])
    rate = hp.Float("lr", min_value=1e-4, max_value=1e-2, sampling="log")
    return classifier(widths, activation, hp.Boolean("dropout"), rate)


tuner = keras_tuner.RandomSearch(
    hypermodel=build_model,
    objective="val_accuracy",
    max_trials=3,
    executions_per_trial=2,
    overwrite=True,
    directory="results",
    project_name="model",
    seed=1,
    # workers
)
tuner.search_space_summary()
print("> space at first:", sorted(p.name for p in tuner.oracle.get_space().space))
tuner.search(x_train, y_train, epochs=2, validation_data=(x_val, y_val))
tuner.results_summary()

print("> trials:", len(tuner.oracle.trials))
print("> statuses:", sorted({trial.status for trial in tuner.oracle.trials.values()}))
best_trial = tuner.oracle.get_best_trials()[0]
print("> metrics:", sorted(best_trial.metrics.metrics))
print("> best step is an epoch:", best_trial.best_step in (0, 1))
print("> score is the best:", best_trial.score == max(trial.score for trial in tuner.oracle.trials.values()))
print("> remaining:", tuner.remaining_trials)

models = tuner.get_best_models(num_models=2)
models[0].build(input_shape=(None, 28, 28, 1))
models[0].summary()
print("> models:", len(models))
print("> predicts:", models[0].predict(x_val, verbose=0).shape)

best_hps = tuner.get_best_hyperparameters(5)
print("> best hyperparameters:", len(best_hps))
model = build_model(best_hps[0])
everything = np.concatenate([x_train, x_val]), np.concatenate([y_train, y_val])
history = model.fit(x=everything[0], y=everything[1], epochs=1, verbose=2)
print("> retrained epochs:", len(history.history["loss"]))


# The space is shared by the model and its training: which images it takes, whether to shuffle, whether to normalise.
class Cropped(keras_tuner.HyperModel):
    def build(self, hp):
        size = hp.Int("image_size", 10, 28)
        inputs = keras.Input(shape=(size, size))
        x = layers.Flatten()(inputs)
        x = layers.Dense(hp.Int("units", 16, 48, step=16), activation="relu")(x)
        model = keras.Model(inputs, layers.Dense(10, activation="softmax")(x))
        model.compile(optimizer="adam", loss="categorical_crossentropy", metrics=["accuracy"])
        return model

    def fit(self, hp, model, x, y, validation_data=None, **kwargs):
        if hp.Boolean("normalize"):
            x = layers.Normalization()(x)
        size = hp.get("image_size")
        if validation_data:
            x_held, y_held = validation_data
            validation_data = (x_held[:, :size, :size, 0], y_held)
        return model.fit(
            x[:, :size, :size, 0], y, shuffle=hp.Boolean("shuffle"), validation_data=validation_data, **kwargs
        )


hp = keras_tuner.HyperParameters()
hypermodel = Cropped()
history = hypermodel.fit(hp, hypermodel.build(hp), x_train[:100], y_train[:100], verbose=2)
print("> epochs outside a search:", len(history.history["loss"]))

tuner = keras_tuner.RandomSearch(
    Cropped(),
    objective="val_accuracy",
    max_trials=3,
    overwrite=True,
    directory="results",
    project_name="training",
    seed=2,
    # workers
)
tuner.search(x_train, y_train, epochs=2, validation_data=(x_val, y_val), verbose=2)
best_hp = tuner.get_best_hyperparameters()[0]
print("> space of training:", sorted(best_hp.values))
hypermodel = Cropped()
history = hypermodel.fit(best_hp, hypermodel.build(best_hp), *everything, epochs=1, verbose=2)
print("> training retrained epochs:", len(history.history["loss"]))

# The same project again: nothing is left to try, and what was found is there.
again = keras_tuner.RandomSearch(
    Cropped(),
    objective="val_accuracy",
    max_trials=3,
    directory="results",
    project_name="training",
    seed=2,
    # workers
)
print("> reloaded trials:", len(again.oracle.trials))
again.search(x_train, y_train, epochs=2, validation_data=(x_val, y_val), verbose=0)
print("> trials after the second search:", len(again.oracle.trials))
print("> the same best:", again.get_best_hyperparameters()[0].values == best_hp.values)
