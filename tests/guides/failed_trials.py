"""After KerasTuner's guide "Handling failed trials": retries, trials given up at once, searches that end."""

import collections
import os

import keras
from digits import mnist
from keras import layers

import search as keras_tuner

(x_train, y_train), (x_val, y_val) = mnist(200, 100)
x_train, x_val = x_train.reshape(-1, 784), x_val.reshape(-1, 784)
data = {"x": x_train, "y": y_train, "validation_data": (x_val, y_val), "epochs": 1, "verbose": 0}


def network(hp, project, error):
    """Two layers; with more than 40 units in all, the given error, of which a file keeps count."""
    first, second = hp.Int("units_1", 10, 30, step=10), hp.Int("units_2", 10, 20, step=10)
    model = keras.Sequential([keras.Input((784,)), layers.Dense(first), layers.Dense(second), layers.Dense(1)])
    model.compile(loss="mse")
    if first + second > 40:
        with open(f"{project}.txt", "a") as file:
            file.write(f"{first} {second}\n")
        raise error(f"The model is too large: it has {model.count_params()} parameters.")
    return model


def attempts(project):
    """How often each configuration failed."""
    if not os.path.exists(f"{project}.txt"):
        return {}
    with open(f"{project}.txt") as file:
        return dict(collections.Counter(line.strip() for line in file))


# An error like any other: the trial is tried again, as often as is allowed.
def build_model(hp):
    return network(hp, "retried", ValueError)


tuner = keras_tuner.GridSearch(
    hypermodel=build_model,
    objective="val_loss",
    overwrite=True,
    max_retries_per_trial=3,
    max_consecutive_failed_trials=8,
    directory="results",
    project_name="retried",
    # workers
)
tuner.search(**data)
tuner.results_summary()
trials = tuner.oracle.trials.values()
print("> retried:", sorted(collections.Counter(trial.status for trial in trials).items()), attempts("retried"))
print("> says why:", all("too large" in trial.message for trial in trials if trial.status != "COMPLETED"))


# An error that says that trying again is of no use.
def build_model_or_give_up(hp):
    return network(hp, "given_up", keras_tuner.errors.FailedTrialError)


tuner = keras_tuner.GridSearch(
    hypermodel=build_model_or_give_up,
    objective="val_loss",
    overwrite=True,
    max_retries_per_trial=3,
    max_consecutive_failed_trials=8,
    directory="results",
    project_name="given_up",
    # workers
)
tuner.search(**data)
tuner.results_summary()
trials = tuner.oracle.trials.values()
print("> given up:", sorted(collections.Counter(trial.status for trial in trials).items()), attempts("given_up"))


# An error that ends the search.
def build_model_or_stop(hp):
    return network(hp, "stopped", keras_tuner.errors.FatalError)


tuner = keras_tuner.GridSearch(
    hypermodel=build_model_or_stop,
    objective="val_loss",
    overwrite=True,
    max_retries_per_trial=3,
    max_consecutive_failed_trials=8,
    directory="results",
    project_name="stopped",
    # workers
)
try:
    tuner.search(**data)
except keras_tuner.errors.FatalError as error:
    print("> stopped:", "too large" in str(error), sum(attempts("stopped").values()))


# Too many failures, one after the other.
class Never(keras_tuner.RandomSearch):
    def run_trial(self, trial, *args, **kwargs):
        trial.hyperparameters.Float("rate", 0, 1)
        raise keras_tuner.errors.FailedTrialError("No trial will do.")


tuner = Never(
    max_trials=20,
    max_consecutive_failed_trials=4,
    overwrite=True,
    directory="results",
    project_name="never",
    # workers
)
try:
    tuner.search()
except RuntimeError as error:
    statuses = collections.Counter(trial.status for trial in tuner.oracle.trials.values())
    print("> too many:", "consecutive failures exceeded the limit of 4" in str(error), statuses["FAILED"] >= 4)
