"""Exercise 1: one sigmoid neuron tells digit 0 from the rest. Which batch size serves it best?"""

from search import Exercise, HyperModel, main

BATCH_SIZES = [16, 32, 64, 128, 256, 512, 1024]  # powers of two: a factor of 64 between noisy and smooth gradients
OPTIMIZERS = ["sgd", "rmsprop", "adam", "adamw", "adagrad", "nadam", "lion"]
LEARNING_RATES = (1e-4, 0.3)  # log scale; plain SGD wants the upper end, Adam the lower

START = {"batch_size": 32, "optimizer": "sgd", "learning_rate": 0.01}  # Keras's own defaults
KNOWN_GOOD = {"batch_size": 64, "optimizer": "adam", "learning_rate": 0.005, "schedule": "cosine"}


class SingleNeuron(HyperModel):
    """28 x 28 pixels, one weight each, one sigmoid."""

    def build(self, hp):
        import keras

        hp.Choice("batch_size", BATCH_SIZES, default=START["batch_size"])  # the training takes it from here,
        hp.Choice("schedule", ["constant", "cosine"])  # and whether the learning rate falls to zero
        optimizer = keras.optimizers.get(hp.Choice("optimizer", OPTIMIZERS, default=START["optimizer"]))
        optimizer.learning_rate = hp.Float(
            "learning_rate", *LEARNING_RATES, sampling="log", default=START["learning_rate"]
        )
        model = keras.Sequential(
            [
                keras.Input(shape=(28, 28)),
                keras.layers.Rescaling(1 / 255),  # pixels come as 0 to 255
                keras.layers.Flatten(),
                keras.layers.Dense(1, activation="sigmoid"),
            ]
        )
        model.compile(optimizer, loss="binary_crossentropy", metrics=["accuracy"])
        return model


EXERCISE = Exercise(
    name="single",
    title="A single sigmoid neuron",
    question="How well does one sigmoid unit tell the digit 0 from the rest, and which batch size serves it best?",
    task="zero",
    hypermodel=SingleNeuron,
    start=START,
    first=(KNOWN_GOOD,),
    sweeps=("batch_size",),
    retuned={"optimizer": "learning_rate"},  # an optimizer at another one's learning rate is not compared
)

if __name__ == "__main__":
    main(EXERCISE)
