"""After KerasTuner's guide "Writing your own Tuner": run_trial, its hooks, and both ways to report."""

import keras
import numpy as np
import tensorflow as tf
from digits import mnist

import search as kt

(x_train, y_train), _ = mnist(400, 100)
x_train = x_train[..., None]


def build_model(hp):
    inputs = keras.Input(shape=(28, 28, 1))
    x = inputs
    for i in range(hp.Int("conv_layers", 1, 2, default=2)):
        x = keras.layers.Conv2D(
            filters=hp.Int(f"filters_{i}", 4, 8, step=4, default=8),
            kernel_size=hp.Int(f"kernel_size_{i}", 3, 5),
            activation="relu",
            padding="same",
        )(x)
        pool = keras.layers.MaxPooling2D if hp.Choice(f"pooling_{i}", ["max", "avg"]) == "max" else None
        x = (pool or keras.layers.AveragePooling2D)(pool_size=2)(x)
        x = keras.layers.BatchNormalization()(x)
    x = keras.layers.GlobalMaxPooling2D()(x)
    return keras.Model(inputs, keras.layers.Dense(10, activation="softmax")(x))


class OwnLoop(kt.Tuner):
    """A loop in run_trial that calls the tuner's hooks, keeps the model itself and returns its value."""

    def run_trial(self, trial, train_ds, epochs=2):
        hp = trial.hyperparameters
        batches = train_ds.batch(hp.Int("batch_size", 32, 128, step=32, default=64))
        model = self.hypermodel.build(hp)
        optimizer = keras.optimizers.Adam(hp.Float("learning_rate", 1e-4, 1e-2, sampling="log", default=1e-3))
        loss_of = keras.losses.SparseCategoricalCrossentropy()
        mean = keras.metrics.Mean()

        @tf.function
        def train(images, labels):
            with tf.GradientTape() as tape:
                loss = loss_of(labels, model(images, training=True))
            gradients = tape.gradient(loss, model.trainable_variables)
            optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
            mean.update_state(loss)
            return loss

        losses = []
        for epoch in range(epochs):
            self.on_epoch_begin(trial, model, epoch, logs={})
            for batch, (images, labels) in enumerate(batches):
                self.on_batch_begin(trial, model, batch, logs={})
                self.on_batch_end(trial, model, batch, logs={"loss": float(train(images, labels))})
            losses.append(float(mean.result()))
            mean.reset_state()
            self.on_epoch_end(trial, model, epoch, logs={"loss": losses[-1]})
        self.save_model(trial.trial_id, model)
        return self.report(trial, losses)

    def report(self, trial, losses):
        return {"loss": min(losses), "epochs": len(losses)}

    def on_epoch_end(self, trial, model, epoch, logs=None):
        with open("epochs.txt", "a") as file:
            file.write(f"{trial.trial_id} {epoch} {logs['loss']}\n")

    def save_model(self, trial_id, model, step=0):
        model.save(f"{self.get_trial_dir(trial_id)}/model.keras")

    def load_model(self, trial):
        return keras.models.load_model(f"{self.get_trial_dir(trial.trial_id)}/model.keras")


images = tf.data.Dataset.from_tensor_slices((x_train, y_train.astype(np.int64)))
tuner = OwnLoop(
    oracle=kt.oracles.BayesianOptimizationOracle(objective=kt.Objective("loss", "min"), max_trials=2, seed=5),
    hypermodel=build_model,
    directory="results",
    project_name="returned",
    overwrite=True,
    # workers
)
tuner.search(train_ds=images)
best_hps = tuner.get_best_hyperparameters()[0]
print("> space of returned:", {"batch_size", "learning_rate", "conv_layers"} <= set(best_hps.values))
print("> metrics of returned:", sorted(tuner.oracle.get_best_trials()[0].metrics.metrics))
print("> statuses of returned:", [trial.status for trial in tuner.oracle.trials.values()])
print("> predicts:", tuner.get_best_models()[0].predict(x_train[:5], verbose=0).shape)
with open("epochs.txt") as file:
    print("> hooks:", len(file.readlines()))


class Reports(OwnLoop):
    """The same loop, its value given to the oracle by hand."""

    def report(self, trial, losses):
        for step, loss in enumerate(losses):
            self.oracle.update_trial(trial.trial_id, {"loss": loss}, step=step)


tuner = Reports(
    oracle=kt.oracles.RandomSearchOracle(objective=kt.Objective("loss", "min"), max_trials=2, seed=6),
    hypermodel=build_model,
    directory="results",
    project_name="reported",
    overwrite=True,
    # workers
)
tuner.search(images, epochs=3)
best = tuner.oracle.get_best_trials()[0]
history = best.metrics.get_history("loss")
print("> steps of reported:", [observation.step for observation in history])
print("> score of reported:", best.score == min(observation.value[0] for observation in history))
