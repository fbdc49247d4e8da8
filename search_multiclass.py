"""Exercise 3: a network reads all ten digits. Which optimizer, and which architecture?"""

from search import Exercise, HyperModel, main

FAMILIES = ["dense", "convolutional"]
LAYERS = (1, 3)  # hidden ones of a dense network
UNITS = (64, 1024)  # of each of them
FILTERS = [16, 32]  # of the first convolution; the second has half as many again, the third twice as many
HEADS = [64, 128, 256]  # units of its dense layer at the end
BATCH_SIZES = [64, 128, 256, 512]
ACTIVATIONS = ["relu", "tanh", "sigmoid", "elu", "selu", "gelu", "silu"]
DROPOUTS = [0.0, 0.2, 0.4, 0.5]  # shares of hidden units that are left out at each step
OPTIMIZERS = ["sgd", "rmsprop", "adam", "adamw", "adamax", "adagrad", "nadam", "lion"]
LEARNING_RATES = (1e-4, 0.3)  # log scale; plain SGD wants the upper end, Adam the lower
WEIGHT_DECAYS = [0.001, 0.01, 0.1]  # of AdamW: the share of a weight that a step at a learning rate of 1 would take
SHIFTS = [0, 1, 2]  # pixels by which each image is moved while training; digits are centred: 2 keep them whole
ROTATIONS = [0, 10]  # degrees by which each image is turned at most while training

START = {  # exercise 2's network with ten outputs
    "family": "dense",
    "layers": 1,
    "units_1": 64,
    "activation": "relu",
    "batch_size": 64,
    "optimizer": "sgd",
    "learning_rate": 0.01,
}
KNOWN_GOOD = {
    "activation": "relu",
    "shift": 2,
    "rotation": 10,
    "label_smoothing": 0.05,
    "batch_size": 128,
    "optimizer": "adamw",
    "learning_rate": 0.002,
    "weight_decay": 0.01,
    "schedule": "cosine",
}
FIRST = (
    {"family": "convolutional", "filters": 32, "head": 128, "dropout": 0.4, **KNOWN_GOOD},
    {"family": "convolutional", "filters": 16, "head": 64, "dropout": 0.2, **KNOWN_GOOD},  # two fifths of the time
    {"family": "dense", "layers": 2, "units_1": 512, "units_2": 512, "normalised": True, "dropout": 0.2, **KNOWN_GOOD},
)


class TenClasses(HyperModel):
    """28 x 28 pixels, dense or convolutional hidden layers, ten outputs that sum to one."""

    def build(self, hp):
        import keras
        from keras import layers

        from search.lab.layers import RandomShift, SmoothedCrossentropy

        activation, normalised = hp.Choice("activation", ACTIVATIONS), hp.Boolean("normalised")
        dropout = hp.Choice("dropout", DROPOUTS)

        def block(layer, *arguments, **settings):
            """A layer, batch normalisation (which takes the bias's place) or none, and the activation, everywhere the same."""
            normalisation = [layers.BatchNormalization()] if normalised else []
            return [
                layer(*arguments, use_bias=not normalised, **settings),
                *normalisation,
                layers.Activation(activation),
            ]

        family = hp.Choice("family", FAMILIES, default=START["family"])
        with hp.conditional_scope("family", ["dense"]):
            if family == "dense":
                hidden = self.dense(hp, block, dropout)
        with hp.conditional_scope("family", ["convolutional"]):
            if family == "convolutional":
                hidden = self.convolutional(hp, block, dropout)
        shift, rotation = hp.Choice("shift", SHIFTS), hp.Choice("rotation", ROTATIONS)
        moved = [RandomShift(shift)] if shift else []
        moved += [layers.RandomRotation(rotation / 360, fill_mode="constant")] if rotation else []
        scaled = layers.Rescaling(1 / 255)  # pixels come as 0 to 255
        model = keras.Sequential(
            [
                keras.Input(shape=(28, 28)),
                layers.Reshape((28, 28, 1)),
                *moved,
                scaled,
                *hidden,
                layers.Dense(10, activation="softmax"),
            ]
        )

        hp.Choice("batch_size", BATCH_SIZES, default=START["batch_size"])  # the training takes it from here,
        hp.Choice("schedule", ["constant", "cosine"])  # and whether the learning rate falls to zero
        name = hp.Choice("optimizer", OPTIMIZERS, default=START["optimizer"])
        optimizer = keras.optimizers.get(name)
        optimizer.learning_rate = hp.Float(
            "learning_rate", *LEARNING_RATES, sampling="log", default=START["learning_rate"]
        )
        with hp.conditional_scope("optimizer", ["adamw"]):
            if name == "adamw":
                optimizer.weight_decay = hp.Choice("weight_decay", WEIGHT_DECAYS)
        loss = SmoothedCrossentropy(hp.Choice("label_smoothing", [0.0, 0.05, 0.1]))
        model.compile(optimizer, loss=loss, metrics=["accuracy"])
        return model

    def dense(self, hp, block, dropout):
        from keras import layers

        network = [layers.Flatten(), layers.Dropout(hp.Choice("pixel_dropout", [0.0, 0.1, 0.2]))]
        depth = hp.Int("layers", *LAYERS, default=START["layers"])
        for i in range(1, LAYERS[1] + 1):
            with hp.conditional_scope("layers", list(range(i, LAYERS[1] + 1))):  # only networks that have an i-th layer
                if i <= depth:
                    units = hp.Int(f"units_{i}", *UNITS, sampling="log", default=START["units_1"])
                    network += [*block(layers.Dense, units), layers.Dropout(dropout)]
        return network

    def convolutional(self, hp, block, dropout):  # on 28 x 28, then 14 x 14 and 7 x 7 places, of which 5 x 5 are left
        from keras import layers

        filters = hp.Choice("filters", FILTERS, default=32)
        network = []
        for n, kernel in ((filters, hp.Choice("kernel", [3, 5], default=5)), (3 * filters // 2, 3)):
            # A stride halves the sides; pooling would convolve four times the places.
            network += block(layers.Conv2D, n, kernel, strides=2, padding="same")
        network += [*block(layers.Conv2D, 2 * filters, 3), layers.Flatten(), layers.Dropout(dropout)]
        return [*network, *block(layers.Dense, hp.Choice("head", HEADS, default=128)), layers.Dropout(dropout)]


EXERCISE = Exercise(
    name="multiclass",
    title="Ten classes",
    question="How accurately can a network read the ten digits, which optimizer serves it best, and which architecture?",
    task="digits",
    hypermodel=TenClasses,
    start=START,
    first=FIRST,
    sweeps=("optimizer",),
    max_epochs=9,  # a convolutional epoch is long, and the finalists train for as many epochs
    seeds=3,  # trainings of each model that is compared
    minutes=40,  # on a slow machine with smaller networks or fewer seeds; the others take as long as they take
    retuned={"optimizer": "learning_rate"},  # an optimizer at another one's learning rate is not compared
)

if __name__ == "__main__":
    main(EXERCISE)
