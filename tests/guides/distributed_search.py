"""After KerasTuner's guide "Distributed hyperparameter tuning": the machine's cores at once, or a cluster's.

No chief, no addresses: workers= or cluster= in the constructor is all there is.
"""

import keras
from digits import mnist
from keras import layers

import search as keras_tuner

(x_train, y_train), (x_val, y_val) = mnist(400, 64)
x_train, x_val = x_train[..., None], x_val[..., None]


def build_model(hp):
    inputs = keras.Input(shape=(28, 28, 1))
    x = inputs
    for i in range(hp.Int("conv_layers", 1, 2, default=2)):
        x = layers.Conv2D(
            filters=hp.Int(f"filters_{i}", 4, 8, step=4, default=8),
            kernel_size=hp.Int(f"kernel_size_{i}", 3, 5),
            activation="relu",
            padding="same",
        )(x)
        x = (
            layers.MaxPooling2D()(x)
            if hp.Choice(f"pooling{i}", ["max", "avg"]) == "max"
            else layers.AveragePooling2D(pool_size=2)(x)
        )
        x = layers.BatchNormalization()(x)
        x = layers.ReLU()(x)
    last = layers.GlobalMaxPooling2D if hp.Choice("global_pooling", ["max", "avg"]) == "max" else None
    x = (last or layers.GlobalAveragePooling2D)()(x)
    model = keras.Model(inputs, layers.Dense(10, activation="softmax")(x))
    model.compile(hp.Choice("optimizer", ["adam", "sgd"]), loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


tuner = keras_tuner.Hyperband(
    hypermodel=build_model,
    objective="val_accuracy",
    max_epochs=3,
    factor=3,
    hyperband_iterations=1,
    directory="results",
    project_name="distributed",
    overwrite=True,
    seed=7,
    # workers
)
tuner.search(
    x_train,
    y_train,
    steps_per_epoch=5,
    validation_data=(x_val, y_val),
    validation_steps=2,
    callbacks=[keras.callbacks.EarlyStopping("val_accuracy")],
    verbose=2,
)
trials = tuner.oracle.trials.values()
print("> trials:", len(trials))
print("> statuses:", sorted({trial.status for trial in trials}))
print("> promoted:", sum("tuner/trial_id" in trial.hyperparameters.values for trial in trials))
print("> epochs:", sorted({trial.hyperparameters.get("tuner/epochs") for trial in trials}))
score = tuner.oracle.get_best_trials()[0].score
accuracy = tuner.get_best_models()[0].evaluate(x_val, y_val, verbose=0)[1]
print("> the best model scores as its trial:", abs(score - accuracy) < 0.011)
