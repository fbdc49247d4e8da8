"""After KerasTuner's guide "Visualize the hyperparameter tuning process": what TensorBoard shows of a search."""

import keras
from digits import mnist
from keras import layers

import search as keras_tuner

(x_train, y_train), _ = mnist(500, 0)
x_train = x_train[..., None]


def build_model(hp):
    inputs = keras.Input(shape=(28, 28, 1))
    x = inputs
    if hp.Choice("model_type", ["mlp", "cnn"]) == "mlp":
        x = layers.Flatten()(x)
        for i in range(hp.Int("mlp_layers", 1, 3)):
            x = layers.Dense(hp.Int(f"units_{i}", 16, 48, step=16), activation="relu")(x)
    else:
        for i in range(hp.Int("cnn_layers", 1, 3)):
            x = layers.Conv2D(hp.Int(f"filters_{i}", 4, 12, step=4), kernel_size=(3, 3), activation="relu")(x)
            x = layers.MaxPooling2D(pool_size=(2, 2))(x)
        x = layers.Flatten()(x)
    if hp.Boolean("dropout"):
        x = layers.Dropout(0.5)(x)
    model = keras.Model(inputs, layers.Dense(10, activation="softmax")(x))
    model.compile(loss="sparse_categorical_crossentropy", metrics=["accuracy"], optimizer="adam")
    return model


hp = keras_tuner.HyperParameters()
for kind in ("cnn", "mlp"):
    hp.values["model_type"] = kind
    model = build_model(hp)
    print(f"> {kind}:", model(x_train[:10]).shape)
    model.summary()

tuner = keras_tuner.RandomSearch(
    build_model,
    max_trials=3,
    overwrite=True,
    objective="val_accuracy",
    directory="results",
    project_name="visualised",
    seed=8,
    # workers
)
tuner.search(
    x_train,
    y_train,
    validation_split=0.2,
    epochs=2,
    callbacks=[keras.callbacks.TensorBoard("logs")],
)
print("> trials:", sorted(tuner.oracle.trials))
print("> chosen:", {trial_id: trial.hyperparameters.values for trial_id, trial in sorted(tuner.oracle.trials.items())})
print("> score:", {trial_id: float(trial.score) for trial_id, trial in sorted(tuner.oracle.trials.items())})
