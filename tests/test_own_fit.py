"""A ``fit`` of the exercise's own: one network stands behind a row, and its figures are of it."""

import csv
import json
import os
import textwrap
from pathlib import Path

import keras
import numpy as np
import pytest

from search import files
from search.lab import retrain
from search.report import page
from search.results import read_exercise
from search.workers.trial import Job, Problem
from search.workers.trial import run as train
from tests.conftest import run, write_exercise
from tests.test_report import edit_json, fabricate, text_of

NEURON = """
hp.Choice("batch_size", [64, 256])
layers = [keras.layers.Rescaling(1 / 255), keras.layers.Flatten(), keras.layers.Dense(1, activation="sigmoid")]
model = keras.Sequential([keras.Input((28, 28)), *layers])
model.compile("adam", loss="binary_crossentropy", metrics=["accuracy"])
return model
"""
RETRAIN = ("retrain", "--workers", 0)


class Small:
    """As a ``HyperModel`` of 16 numbers an image."""

    def __init__(self, fit):
        self._fit = fit

    def build(self, hp):
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1, activation="sigmoid")])
        model.compile("adam", loss="binary_crossentropy", metrics=["accuracy"])
        return model

    def fit(self, hp, model, x, y, **kwargs):
        return self._fit(self, model, x, y, kwargs)


def trained(fit, folder, keep_best=("val_accuracy", "max")):
    """The job and the outcome of a training of two epochs by ``fit``."""
    x = np.linspace(0, 1, 400, dtype=np.float32).reshape(100, 4)
    y = (np.arange(100) % 2).astype(np.float32)
    problem = Problem("small", "data", Small(fit), (x, y), {"validation_data": (x, y), "verbose": 0})
    job = Job("1", {}, (1,), 2, (2,), folder / "state.npz", keep_best=keep_best)
    return job, train(problem, job)


def plain(own, model, x, y, kwargs):
    return model.fit(x, y, **kwargs)


def another_afterwards(own, model, x, y, kwargs):
    history = model.fit(x, y, **kwargs)
    own.build(None).fit(x, 1 - y, epochs=1, verbose=0, validation_data=(x, 1 - y))
    return history


def another_s_history(own, model, x, y, kwargs):
    model.fit(x, y, **kwargs)
    return own.build(None).fit(x, 1 - y, epochs=1, verbose=0)


def a_dictionary_of_another(own, model, x, y, kwargs):
    another_s_history(own, model, x, y, kwargs)
    return {"val_accuracy": 1.0}


def zeroed(own, model, x, y, kwargs):
    history = model.fit(x, y, **kwargs)
    model.set_weights([0 * weight for weight in model.get_weights()])
    os.chdir("/")
    return history


def by_hand(own, model, x, y, kwargs):
    loss, accuracy = model.train_on_batch(x, y)
    return {"loss": loss, "accuracy": accuracy, "val_loss": loss, "val_accuracy": accuracy}


def test_a_model_that_fit_trains_afterwards_stands_behind_no_row(tmp_path):
    _, alone = trained(plain, tmp_path / "alone")
    _, beside = trained(another_afterwards, tmp_path / "beside")
    assert beside.history == alone.history
    for fit in (another_s_history, a_dictionary_of_another):
        _, refused = trained(fit, tmp_path / fit.__name__)
        assert not refused.completed
        assert "another model" in refused.message


def test_the_network_is_kept_as_fit_left_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tmp_path = Path(".")
    job, _ = trained(plain, tmp_path / "plain")
    assert not job.left.exists()
    for fit in (zeroed, by_hand):
        job, outcome = trained(fit, tmp_path / fit.__name__)
        assert job.left.exists()
        assert outcome.parameters == 5
    job, _ = trained(zeroed, tmp_path / "search", keep_best=None)
    assert not job.left.exists()


def test_logits_are_made_probabilities_where_the_loss_takes_them():
    x = np.linspace(-9, 9, 8, dtype=np.float32).reshape(4, 2)
    for units, loss in ((1, keras.losses.BinaryCrossentropy), (3, keras.losses.SparseCategoricalCrossentropy)):
        model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(units)])
        model.compile("sgd", loss(from_logits=True))
        logits, found = model(x).numpy(), retrain._outputs(model, x, retrain.loss_function(model))
        expected = keras.ops.sigmoid(logits) if units == 1 else keras.ops.softmax(logits)
        np.testing.assert_allclose(found, expected, atol=1e-6)
        model.compile("sgd", loss())
        np.testing.assert_array_equal(retrain._outputs(model, x, retrain.loss_function(model)), logits)


def test_a_penalty_is_part_of_the_loss_function():
    """A penalised loss was compared with one that is not."""

    def of(**arguments):
        model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, **arguments)])
        model.compile("sgd", "binary_crossentropy")
        return retrain.loss_function(model)

    assert "penalties" not in of()
    assert of(kernel_regularizer=keras.regularizers.L2(0.1))["penalties"] == "L2 0.1"
    assert of(activity_regularizer="l1")["penalties"] == "L1 0.01"
    assert of(kernel_regularizer=lambda weights: 0.0)["penalties"] == "function"
    assert of(kernel_regularizer="l2") != of(kernel_regularizer=keras.regularizers.L2(0.1))


def own_fit(folder, body, **edits):
    """An exercise whose fit has ``body``."""
    script = write_exercise(folder, edits.get("build", NEURON), start="{'batch_size': 64}")
    fit = "    def fit(self, hp, model, x, y, **kwargs):\n" + textwrap.indent(textwrap.dedent(body), " " * 8)
    script.write_text(script.read_text().replace("\nEXERCISE", f"{fit}\n\nEXERCISE"))
    return script


def searched_and_retrained(script, small_data, *flags):
    data = ("--data", small_data)
    run(script, "search", "--max-epochs", 1, "--tuner", "random", "--trials", 2, "--workers", 0, *data)
    return run(script, *RETRAIN, *data, *flags)


@pytest.mark.long
def test_a_training_that_restores_its_best_epoch_is_told_as_it_is(tmp_path, small_data):
    script = own_fit(
        tmp_path,
        """
        import keras
        rate = keras.callbacks.LearningRateScheduler(lambda epoch, rate: 0.01 if epoch < 2 else 3.0)
        stop = keras.callbacks.EarlyStopping("val_loss", patience=2, restore_best_weights=True)
        return super().fit(hp, model, x, y, **{**kwargs, "callbacks": [*kwargs["callbacks"], rate, stop]})
        """,
    )
    out = searched_and_retrained(script, small_data, "--epochs", 6, "--seeds", 1)
    assert "loss at 4 epochs" in out
    assert "not those of their last epoch" in out
    folder = tmp_path / "results" / "small"
    seed = json.loads((folder / "retrain" / "metrics.json").read_text())["tuned"]["seeds"][0]
    with (folder / "retrain" / "history.csv").open() as lines:
        losses = [float(row["val_loss"]) for row in csv.DictReader(lines)]
    assert (seed["epochs"], seed["of_epoch"]) == (4, 2)
    assert seed["val_loss"] == pytest.approx(losses[1], rel=1e-3)
    text = text_of(page.write_report(folder)).replace("\N{NO-BREAK SPACE}", " ")
    assert "After 4 epochs" in text
    assert "trainings ended after 4 epochs of 6" in text
    assert "with the weights after epoch 2" in text


@pytest.mark.long
def test_seeds_that_stop_at_different_epochs_are_reported(tmp_path, small_data):
    script = own_fit(
        tmp_path,
        """
        import keras
        epochs = 2 + int(abs(float(model.get_weights()[0].sum())) * 1000) % 3
        return super().fit(hp, model, x, y, **{**kwargs, "epochs": min(epochs, kwargs["epochs"])})
        """,
    )
    searched_and_retrained(script, small_data, "--epochs", 5, "--seeds", 4)
    folder = tmp_path / "results" / "small"
    final = read_exercise(folder).final
    trained = np.concatenate([method.seeds["epochs"] for method in final.methods.values()])
    assert len(set(trained)) > 1
    for method in final.methods.values():
        assert method.history["loss"].shape == (4, method.seeds["epochs"].min())
    run(script, "report")
    assert "its curves of the epochs that all seeds have" in text_of(folder / "report.html").replace("\xa0", " ")


@pytest.mark.long
def test_a_fit_that_trains_by_hand_is_retrained_too(tmp_path, small_data):
    script = own_fit(
        tmp_path,
        """
        for epoch in range(kwargs["epochs"]):
            for i in range(0, len(x), 256):
                model.train_on_batch(x[i : i + 256], y[i : i + 256])
        found = model.evaluate(*kwargs["validation_data"], verbose=0, return_dict=True)
        return {f"val_{name}": value for name, value in found.items()}
        """,
    )
    out = searched_and_retrained(script, small_data, "--epochs", 2, "--seeds", 1)
    assert "loss at 2 epochs" in out
    folder = tmp_path / "results" / "small"
    run(script, "report")
    assert "tells no figures of single epochs" in text_of(folder / "report.html").replace("\xa0", " ")
    metrics = json.loads((folder / "retrain" / "metrics.json").read_text())
    assert metrics["tuned"]["parameters"] == 785
    assert 0 < metrics["tuned"]["loss"] < 1


def test_outputs_that_are_no_probabilities_are_said_to_be_none(tmp_path):
    folder = fabricate(tmp_path, "single")
    assert "no probabilities" not in text_of(page.write_report(folder))
    path = folder / "retrain" / "predictions.npz"
    with np.load(path) as kept:
        arrays = dict(kept)
    files.write_npz(path, **{**arrays, "tuned": 9 * arrays["tuned"] - 4})
    text = text_of(page.write_report(folder)).replace("\N{NO-BREAK SPACE}", " ")
    assert "The tuned model's outputs are no probabilities" in text
    metrics = json.loads((folder / "retrain" / "metrics.json").read_text())
    logits = {**metrics["start"], "loss_function": {"loss": "BinaryCrossentropy", "from_logits": True}}
    edit_json(folder / "retrain" / "metrics.json", start=logits)
    assert "The starting model gives logits" in text_of(page.write_report(folder)).replace("\N{NO-BREAK SPACE}", " ")
