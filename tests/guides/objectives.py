"""After KerasTuner's guide "Getting started", its second half: what a search optimises, and code that stays apart."""

import os

import numpy as np
from digits import mnist
from tensorflow import keras
from tensorflow.keras import layers

import search as keras_tuner

(x_train, y_train), (x_val, y_val) = mnist(400, 200)
x_train, x_val = x_train.reshape(-1, 784), x_val.reshape(-1, 784)
y_train, y_val = y_train[:, None] / 9, y_val[:, None] / 9
held_out = (x_val, y_val)


def regressor(units, optimizer="adam", metrics=None):
    model = keras.Sequential([layers.Dense(units, activation="relu"), layers.Dense(1)])
    model.compile(optimizer=optimizer, loss="mean_squared_error", metrics=metrics)
    return model


# A metric of Keras's.
def with_mean_absolute_error(hp):
    return regressor(hp.Int("units", 16, 48, 16), metrics=[keras.metrics.MeanAbsoluteError()])


tuner = keras_tuner.RandomSearch(
    hypermodel=with_mean_absolute_error,
    objective=keras_tuner.Objective("val_mean_absolute_error", direction="min"),
    max_trials=2,
    overwrite=True,
    directory="results",
    project_name="built_in",
    # workers
)
tuner.search(x=x_train, y=y_train, validation_data=held_out)
tuner.results_summary()
scores = [trial.score for trial in tuner.oracle.trials.values()]
print("> built in:", len(scores), min(scores) == tuner.oracle.get_best_trials()[0].score)


# A metric of one's own, its state in variables.
class MeanSquare(keras.metrics.Metric):
    def __init__(self, **kwargs):
        super().__init__(name="mean_square", **kwargs)
        self.total = self.add_weight(name="total", initializer="zeros")
        self.seen = self.add_weight(name="seen", initializer="zeros")

    def update_state(self, y_true, y_pred, sample_weight=None):
        squares = keras.ops.square(keras.ops.cast(y_true, "float32") - y_pred)
        self.total.assign_add(keras.ops.sum(squares))
        self.seen.assign_add(keras.ops.cast(keras.ops.shape(y_true)[0], "float32"))

    def result(self):
        return self.total / self.seen

    def reset_state(self):
        self.total.assign(0.0)
        self.seen.assign(0.0)


def with_own_metric(hp):
    return regressor(hp.Int("units", 16, 48, 16), metrics=[MeanSquare()])


tuner = keras_tuner.RandomSearch(
    hypermodel=with_own_metric,
    objective=keras_tuner.Objective("val_mean_square", direction="min"),
    max_trials=2,
    overwrite=True,
    directory="results",
    project_name="own_metric",
    # workers
)
tuner.search(x=x_train, y=y_train, validation_data=held_out)
tuner.results_summary()
best = tuner.oracle.get_best_trials()[0]
loss = best.metrics.get_best_value("val_loss")
print("> own metric is the loss:", abs(best.score - loss) < 1e-3)


# A number that the training returns, to be minimised; no objective is named.
class Evaluated(keras_tuner.HyperModel):
    def build(self, hp):
        return regressor(hp.Int("units", 16, 48, 16))

    def fit(self, hp, model, x, y, validation_data, **kwargs):
        model.fit(x, y, **kwargs)
        x_held, y_held = validation_data
        return np.mean(np.abs(model.predict(x_held, verbose=0) - y_held))


tuner = keras_tuner.RandomSearch(
    hypermodel=Evaluated(),
    max_trials=2,
    overwrite=True,
    directory="results",
    project_name="number",
    # workers
)
tuner.search(x=x_train, y=y_train, validation_data=held_out)
tuner.results_summary()
print("> objective without a name:", tuner.oracle.objective.name, tuner.oracle.objective.direction)
print("> models of a number:", len(tuner.get_best_models(2)))


# Several numbers by name, one of them the objective.
class Several(Evaluated):
    def fit(self, hp, model, x, y, validation_data, **kwargs):
        model.fit(x, y, **kwargs)
        x_held, y_held = validation_data
        error = model.predict(x_held, verbose=0) - y_held
        return {"closeness": -np.mean(np.abs(error)), "square": np.mean(np.square(error))}


tuner = keras_tuner.RandomSearch(
    hypermodel=Several(),
    objective=keras_tuner.Objective("closeness", "max"),
    max_trials=2,
    overwrite=True,
    directory="results",
    project_name="several",
    # workers
)
tuner.search(x=x_train, y=y_train, validation_data=held_out)
tuner.results_summary()
best = tuner.oracle.get_best_trials()[0]
print("> several:", sorted(best.metrics.metrics), best.score == max(t.score for t in tuner.oracle.trials.values()))


# Anything that has a value.
class Parabola(keras_tuner.RandomSearch):
    def run_trial(self, trial, *args, **kwargs):
        x = trial.hyperparameters.Float("x", min_value=-1.0, max_value=1.0)
        return x * x + 1


tuner = Parabola(
    max_trials=20,
    overwrite=True,
    directory="results",
    project_name="anything",
    seed=3,
    # workers
)
tuner.search()
x = tuner.get_best_hyperparameters()[0].get("x")
print("> parabola:", len(tuner.oracle.trials), tuner.oracle.get_best_trials()[0].score == x * x + 1, abs(x) < 0.5)


# Keras code that is left as it is, each trial's model in a file with the trial's name.
def keras_code(units, optimizer, saving_path):
    model = regressor(units, optimizer)
    model.fit(x_train, y_train, verbose=0)
    model.save(saving_path)
    return np.mean(np.abs(model.predict(x_val, verbose=0) - y_val))


class Untouched(keras_tuner.RandomSearch):
    def run_trial(self, trial, **kwargs):
        hp = trial.hyperparameters
        return keras_code(
            units=hp.Int("units", 16, 48, 16),
            optimizer=hp.Choice("optimizer", ["adam", "adadelta"]),
            saving_path=os.path.join("saved", f"{trial.trial_id}.keras"),
        )


os.makedirs("saved", exist_ok=True)
tuner = Untouched(
    max_trials=3,
    overwrite=True,
    directory="results",
    project_name="untouched",
    # workers
)
tuner.search()
print("> saved:", sorted(os.listdir("saved")) == sorted(f"{trial_id}.keras" for trial_id in tuner.oracle.trials))
keras_code(**tuner.get_best_hyperparameters()[0].values, saving_path="best.keras")
print("> retrained model:", keras.models.load_model("best.keras").predict(x_val, verbose=0).shape)
