"""Exercise 3: a network reads all ten digits. Which optimizer, and which architecture?"""

from search import Exercise, HyperModel, main

BATCH_SIZES = [64, 128, 256, 512, 1024]
LAYERS = (1, 3)  # hidden ones
UNITS = (64, 512)  # of each hidden layer
ACTIVATIONS = ["relu", "tanh", "sigmoid", "elu", "selu", "gelu", "silu"]
OPTIMIZERS = ["sgd", "rmsprop", "adam", "adamw", "adamax", "adagrad", "nadam", "lion"]
LEARNING_RATES = (1e-4, 0.3)  # log scale; plain SGD wants the upper end, Adam the lower

START = {  # exercise 2's network with ten outputs
    "batch_size": 64,
    "layers": 1,
    "units_1": 64,
    "activation": "relu",
    "optimizer": "sgd",
    "learning_rate": 0.01,
}


class TenClasses(HyperModel):
    """28 x 28 pixels, one to three hidden layers, ten outputs that sum to one."""

    def build(self, hp):
        import keras

        hp.Choice("batch_size", BATCH_SIZES, default=START["batch_size"])
        optimizer = keras.optimizers.get(hp.Choice("optimizer", OPTIMIZERS, default=START["optimizer"]))
        optimizer.learning_rate = hp.Float(
            "learning_rate", *LEARNING_RATES, sampling="log", default=START["learning_rate"]
        )
        activation = hp.Choice("activation", ACTIVATIONS, default=START["activation"])
        layers = hp.Int("layers", *LAYERS, default=START["layers"])

        pixels = [
            keras.Input(shape=(28, 28)),
            keras.layers.Rescaling(1 / 255),
            keras.layers.Flatten(),
        ]  # 0 to 255 come in
        model = keras.Sequential(pixels)
        for i in range(1, LAYERS[1] + 1):
            with hp.conditional_scope("layers", list(range(i, LAYERS[1] + 1))):  # only networks that have an i-th layer
                units = hp.Int(f"units_{i}", *UNITS, sampling="log", default=START["units_1"])
                if i <= layers:
                    model.add(keras.layers.Dense(units, activation=activation))
        model.add(keras.layers.Dense(10, activation="softmax"))
        model.compile(optimizer, loss="sparse_categorical_crossentropy", metrics=["accuracy"])
        return model


EXERCISE = Exercise(
    name="multiclass",
    title="Ten classes",
    question="How accurately can a dense network read the ten digits, which optimizer serves it best, and which architecture?",
    task="digits",
    hypermodel=TenClasses,
    start=START,
    sweeps=("optimizer",),
    retuned={"optimizer": "learning_rate"},  # an optimizer at another one's learning rate is not compared
)

if __name__ == "__main__":
    main(EXERCISE)
