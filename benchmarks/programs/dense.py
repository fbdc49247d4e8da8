"""A dense network for MNIST, RandomSearch, 10 trials of 5 epochs: after KerasTuner's guide "Getting started"."""

import keras
from digits import mnist
from keras import layers

import search as keras_tuner

SEED = 7
TRIALS, EPOCHS, IMAGES = 10, 5, 50_000

keras.utils.set_random_seed(SEED)
(x_train, y_train), (x_val, y_val) = mnist(IMAGES, IMAGES // 5)


def build_model(hp):
    model = keras.Sequential([layers.Flatten()])
    for i in range(hp.Int("num_layers", 1, 3)):
        units = hp.Int(f"units_{i}", min_value=32, max_value=512, step=32)
        model.add(layers.Dense(units, activation=hp.Choice("activation", ["relu", "tanh"])))
    if hp.Boolean("dropout"):
        model.add(layers.Dropout(0.25))
    model.add(layers.Dense(10, activation="softmax"))
    model.compile(
        optimizer=keras.optimizers.Adam(hp.Float("lr", min_value=1e-4, max_value=1e-2, sampling="log")),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    return model


tuner = keras_tuner.RandomSearch(
    hypermodel=build_model,
    objective="val_accuracy",
    max_trials=TRIALS,
    directory="results",
    project_name="dense",
    seed=SEED,
    # workers
)
tuner.search(x_train, y_train, epochs=EPOCHS, validation_data=(x_val, y_val), verbose=0)
accuracy = tuner.get_best_models()[0].evaluate(x_val, y_val, verbose=0)[1]
print("> trials:", len(tuner.oracle.trials))
print("> best:", accuracy)
