"""Exercise 2: one hidden layer tells digit 0 from the rest. How many units, and which activation?"""

from search import Exercise, HyperModel, main

BATCH_SIZES = [32, 64, 128, 256, 512, 1024]
UNITS = (8, 512)  # the lab's 64 is the middle of it on a log scale
ACTIVATIONS = ["relu", "tanh", "sigmoid", "elu", "selu", "gelu", "silu"]
OPTIMIZERS = ["sgd", "rmsprop", "adam", "adamw", "adagrad", "nadam", "lion"]
LEARNING_RATES = (1e-4, 0.3)  # log scale; plain SGD wants the upper end, Adam the lower

START = {"batch_size": 32, "units": 64, "activation": "relu", "optimizer": "sgd", "learning_rate": 0.01}  # the lab's


class HiddenLayer(HyperModel):
    """28 x 28 pixels, one hidden layer, one sigmoid."""

    def build(self, hp):
        import keras

        hp.Choice("batch_size", BATCH_SIZES, default=START["batch_size"])
        units = hp.Int("units", *UNITS, sampling="log", default=START["units"])
        activation = hp.Choice("activation", ACTIVATIONS, default=START["activation"])
        optimizer = keras.optimizers.get(hp.Choice("optimizer", OPTIMIZERS, default=START["optimizer"]))
        optimizer.learning_rate = hp.Float(
            "learning_rate", *LEARNING_RATES, sampling="log", default=START["learning_rate"]
        )
        model = keras.Sequential(
            [
                keras.Input(shape=(28, 28)),
                keras.layers.Rescaling(1 / 255),  # pixels come as 0 to 255
                keras.layers.Flatten(),
                keras.layers.Dense(units, activation=activation),
                keras.layers.Dense(1, activation="sigmoid"),
            ]
        )
        model.compile(optimizer, loss="binary_crossentropy", metrics=["accuracy"])
        return model


EXERCISE = Exercise(
    name="hidden",
    title="One hidden layer",
    question="How well does a network with one hidden layer tell the digit 0 from the rest, and how do the number of its "
    "units and their activation matter?",
    task="zero",
    hypermodel=HiddenLayer,
    start=START,
    sweeps=("units", "activation"),
    retuned={"optimizer": "learning_rate"},  # an optimizer at another one's learning rate is not compared
)

if __name__ == "__main__":
    main(EXERCISE)
