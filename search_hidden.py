"""Exercise 2: one hidden layer tells digit 0 from the rest. How many units, and which activation?"""

from search import Exercise, HyperModel, main

BATCH_SIZES = [32, 64, 128, 256, 512, 1024]
UNITS = (8, 512)  # the lab's 64 is the middle of it on a log scale
ACTIVATIONS = ["relu", "tanh", "sigmoid", "elu", "selu", "gelu", "silu"]
OPTIMIZERS = ["sgd", "rmsprop", "adam", "adamw", "adagrad", "nadam", "lion"]
LEARNING_RATES = (1e-4, 0.3)  # log scale; plain SGD wants the upper end, Adam the lower

WEIGHT_DECAYS = [0.001, 0.01, 0.1]  # of AdamW: the share of a weight that a step at a learning rate of 1 would take

START = {"batch_size": 32, "units": 64, "activation": "relu", "optimizer": "sgd", "learning_rate": 0.01}  # the lab's
KNOWN_GOOD = {
    "batch_size": 128,
    "units": 512,
    "activation": "relu",
    "optimizer": "adam",
    "learning_rate": 0.001,
    "schedule": "cosine",
}


class HiddenLayer(HyperModel):
    """28 x 28 pixels, one hidden layer, one sigmoid."""

    def build(self, hp):
        import keras

        hp.Choice("batch_size", BATCH_SIZES, default=START["batch_size"])  # the training takes it from here,
        hp.Choice("schedule", ["constant", "cosine"])  # and whether the learning rate falls to zero
        units = hp.Int("units", *UNITS, sampling="log", default=START["units"])
        activation = hp.Choice("activation", ACTIVATIONS, default=START["activation"])
        name = hp.Choice("optimizer", OPTIMIZERS, default=START["optimizer"])
        optimizer = keras.optimizers.get(name)
        optimizer.learning_rate = hp.Float(
            "learning_rate", *LEARNING_RATES, sampling="log", default=START["learning_rate"]
        )
        with hp.conditional_scope("optimizer", ["adamw"]):
            if name == "adamw":
                optimizer.weight_decay = hp.Choice("weight_decay", WEIGHT_DECAYS)
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
    first=(KNOWN_GOOD,),
    sweeps=("units", "activation"),
    retuned={"optimizer": "learning_rate"},  # an optimizer at another one's learning rate is not compared
)

if __name__ == "__main__":
    main(EXERCISE)
