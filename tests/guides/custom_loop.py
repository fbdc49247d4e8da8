"""After KerasTuner's guide "Tune hyperparameters in your custom training loop", in HyperModel.fit."""

import keras
import tensorflow as tf
from digits import mnist

import search as keras_tuner

(x_train, y_train), (x_val, y_val) = mnist(600, 200)
x_train, x_val = x_train[..., None], x_val[..., None]


class OwnLoop(keras_tuner.HyperModel):
    def build(self, hp):
        inputs = keras.Input(shape=(28, 28, 1))
        x = keras.layers.Flatten()(inputs)
        x = keras.layers.Dense(
            hp.Choice("units", [16, 32]), activation="relu", kernel_regularizer=keras.regularizers.L2(1e-5)
        )(x)
        return keras.Model(inputs, keras.layers.Dense(10)(x))

    def fit(self, hp, model, x, y, validation_data, callbacks=None, **kwargs):
        batch_size = hp.Int("batch_size", 32, 128, step=32, default=64)
        batches = tf.data.Dataset.from_tensor_slices((x, y)).batch(batch_size)
        held_out = tf.data.Dataset.from_tensor_slices(validation_data).batch(batch_size)
        optimizer = keras.optimizers.Adam(hp.Float("learning_rate", 1e-4, 1e-2, sampling="log", default=1e-3))
        loss_of = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        mean = keras.metrics.Mean()

        @tf.function
        def train(images, labels):
            with tf.GradientTape() as tape:
                loss = loss_of(labels, model(images, training=True)) + tf.math.add_n(model.losses)
            gradients = tape.gradient(loss, model.trainable_variables)
            optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))

        @tf.function
        def validate(images, labels):
            mean.update_state(loss_of(labels, model(images)))

        for callback in callbacks:
            callback.set_model(model)
        best = float("inf")
        for epoch in range(2):
            for images, labels in batches:
                train(images, labels)
            for images, labels in held_out:
                validate(images, labels)
            loss = float(mean.result())
            mean.reset_state()
            for callback in callbacks:
                callback.on_epoch_end(epoch, logs={"my_metric": loss})
            best = min(best, loss)
        return best


tuner = keras_tuner.RandomSearch(
    objective=keras_tuner.Objective("my_metric", "min"),
    max_trials=3,
    hypermodel=OwnLoop(),
    directory="results",
    project_name="custom_training",
    overwrite=True,
    seed=4,
    # workers
)
tuner.search(x=x_train, y=y_train, validation_data=(x_val, y_val))

best_hps = tuner.get_best_hyperparameters()[0]
print("> space:", sorted(best_hps.values))
print("> trials:", len(tuner.oracle.trials))
best_model = tuner.get_best_models()[0]
best_model.summary()
loss = float(keras.losses.SparseCategoricalCrossentropy(from_logits=True)(y_val, best_model(x_val)))
score = tuner.oracle.get_best_trials()[0].score
print("> the model kept is the one scored:", abs(loss - score) < 0.05 * score)
