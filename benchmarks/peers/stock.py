"""KerasTuner's Hyperband with its defaults, over the same HyperModel, trained by plain model.fit."""

from __future__ import annotations

import argparse
from typing import Any

from benchmarks.figures import script
from benchmarks.peers.task import FACTOR, examples, result
from search.lab import exercise


def search(task: argparse.Namespace) -> dict[str, float]:
    import keras_tuner

    class Stock(exercise.load(script(task.exercise)).hypermodel):  # type: ignore[misc]
        def fit(self, hp: Any, model: Any, *args: Any, **kwargs: Any) -> Any:
            return model.fit(*args, batch_size=hp.get("batch_size"), **kwargs)

    train, validation, test = examples(task)
    tuner = keras_tuner.Hyperband(
        Stock(),
        objective="val_accuracy",
        max_epochs=task.max_epochs,
        factor=FACTOR,
        seed=task.seed,
        directory=task.folder,
        project_name="stock",
    )
    tuner.search(train.x, train.y, validation_data=(validation.x, validation.y), verbose=0)
    values = [trial.hyperparameters.values for trial in tuner.oracle.trials.values()]
    epochs = sum(value["tuner/epochs"] - value["tuner/initial_epoch"] for value in values)

    def evaluate() -> float:
        unseen = test()
        return float(tuner.get_best_models(1)[0].evaluate(unseen.x, unseen.y, verbose=0)[1])

    return result(epochs, tuner.oracle.get_best_trials(1)[0].score, evaluate)
