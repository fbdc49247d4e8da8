"""A dense or a convolutional network for MNIST, RandomSearch: after KerasTuner's guide on TensorBoard."""

import keras
from digits import mnist
from keras import layers

import search as keras_tuner

SEED = 7
TRIALS, EPOCHS, IMAGES = 10, 2, 50_000

keras.utils.set_random_seed(SEED)
(x_train, y_train), (x_val, y_val) = mnist(IMAGES, IMAGES // 5)
x_train, x_val = x_train[..., None], x_val[..., None]


def build_model(hp):
    inputs = keras.Input(shape=(28, 28, 1))
    x = inputs
    if hp.Choice("model_type", ["mlp", "cnn"]) == "mlp":
        x = layers.Flatten()(x)
        for i in range(hp.Int("mlp_layers", 1, 3)):
            x = layers.Dense(hp.Int(f"units_{i}", 32, 128, step=32), activation="relu")(x)
    else:
        for i in range(hp.Int("cnn_layers", 1, 3)):
            x = layers.Conv2D(hp.Int(f"filters_{i}", 8, 32, step=8), kernel_size=(3, 3), activation="relu")(x)
            x = layers.MaxPooling2D(pool_size=(2, 2))(x)
        x = layers.Flatten()(x)
    if hp.Boolean("dropout"):
        x = layers.Dropout(0.5)(x)
    model = keras.Model(inputs, layers.Dense(10, activation="softmax")(x))
    model.compile(loss="sparse_categorical_crossentropy", metrics=["accuracy"], optimizer="adam")
    return model


tuner = keras_tuner.RandomSearch(
    build_model,
    objective="val_accuracy",
    max_trials=TRIALS,
    directory="results",
    project_name="mlp_or_cnn",
    seed=SEED,
    # workers
)
tuner.search(x_train, y_train, epochs=EPOCHS, validation_data=(x_val, y_val), verbose=0)
accuracy = tuner.get_best_models()[0].evaluate(x_val, y_val, verbose=0)[1]
print("> trials:", len(tuner.oracle.trials))
print("> best:", accuracy)
