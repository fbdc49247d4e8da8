"""What an exercise's search takes for better, and by which metrics it may not choose."""

import csv
import json
from types import SimpleNamespace

import numpy as np
import pytest

import search_single
from search.errors import RequestError
from search.lab import cost, retrain
from search.lab.exercise import Exercise, HyperModel
from search.workers.trial import Outcome
from tests.conftest import NEURON, run, write_exercise


def exercise(**arguments):
    fixed = {"name": "small", "title": "Small", "question": "?", "task": "zero", "hypermodel": HyperModel, "start": {}}
    return Exercise(**fixed, sweeps=(), **arguments)


@pytest.mark.parametrize(
    ("objective", "better"),
    [
        ("val_loss", "min"),
        ("val_accuracy", "max"),
        ("val_auc", "max"),
        ("val_mse", "min"),
        ("val_mean_absolute_error", "min"),
        ("val_root_mean_squared_error", "min"),
    ],
)
def test_an_objective_s_direction_is_what_kerastuner_knows(objective, better):
    """It was guessed from the name: of errors the largest was the best."""
    assert exercise(objective=objective).better == better


def test_of_an_unknown_objective_the_direction_is_asked_for():
    with pytest.raises(RequestError, match=r"val_brier is better large or small is not known; add direction="):
        _ = exercise(objective="val_brier").better
    assert exercise(objective="val_brier", direction="min").better == "min"
    assert exercise(objective="val_accuracy", direction="min").better == "min"


@pytest.mark.parametrize("wrong", [{"objective": "loss"}, {"objective": "accuracy"}, {"direction": "up"}])
def test_an_objective_that_is_none_is_refused(wrong):
    with pytest.raises(RequestError, match=f"the Exercise's {next(iter(wrong))} is "):
        exercise(**wrong).check()


@pytest.mark.long
@pytest.mark.parametrize("objective", ["val_mean_absolute_error", "val_mine"])
def test_a_search_by_an_error_hands_over_the_smallest(tmp_path, small_data, objective):
    build = NEURON.replace('metrics=["accuracy"]', 'metrics=["accuracy", "mean_absolute_error", mine]')
    mine = "def mine(y, p):\n    return keras.ops.mean(keras.ops.square(y - p))\n\n"
    direction = ', direction="min"' if objective == "val_mine" else ""
    script = write_exercise(tmp_path, mine + build, extra=f'objective="{objective}"{direction}')
    run(script, "search", "--max-epochs", 3, "--workers", 0, "--data", small_data)
    results = tmp_path / "results" / "small"
    with (results / "trials.csv").open() as file:
        scores = [float(row[objective]) for row in csv.DictReader(file)]
    assert json.loads((results / "best.json").read_text())["score"] == pytest.approx(min(scores))


@pytest.mark.long
def test_an_unknown_direction_ends_the_command_before_it_trains(tmp_path, small_data):
    build = NEURON.replace('metrics=["accuracy"]', 'metrics=["accuracy", keras.metrics.MeanAbsoluteError(name="mine")]')
    script = write_exercise(tmp_path, build, extra='objective="val_mine"')
    out = run(script, "search", "--max-epochs", 3, "--workers", 0, "--data", small_data, status=2)
    assert "whether val_mine is better large or small is not known" in out
    assert not list((tmp_path / "results" / "small").glob("search/trial_*"))


@pytest.mark.parametrize("name", ["seed", "epoch", "seconds", "best_epoch", "test_loss"])
def test_a_metric_called_like_a_column_of_the_results_is_refused(name):
    """The final training was lost to one, after the test images were read."""
    session = SimpleNamespace(script=SimpleNamespace(name="search_small.py"), exercise=search_single.EXERCISE)
    history = {"loss": [1.0], "val_accuracy": [1.0], name: [1.0]}
    with pytest.raises(RequestError, match=f"a metric called {name}"):
        cost._refuse_untrainable(session, Outcome(True, history))
    del history[name]
    cost._refuse_untrainable(session, Outcome(True, history))


HISTORY = {"val_loss": [0.5, 0.4, 0.4001, 0.3999], "val_accuracy": [0.8, 0.9, 0.91, 0.92]}


@pytest.mark.parametrize(
    ("now", "epoch"),
    [
        ({"val_loss": 0.3999, "val_accuracy": 0.92}, 4),
        ({"val_loss": 0.3999 * (1 + 3e-6), "val_accuracy": 0.92}, 4),
        ({"val_loss": 0.4, "val_accuracy": 0.9}, 2),  # the last epoch's loss is as near as one part in 4,000
        ({"val_loss": 0.4001, "val_accuracy": 0.91}, 3),
        ({"val_loss": 0.4, "val_accuracy": 0.95}, None),
        ({"val_loss": 0.7, "val_accuracy": 0.8}, None),
        ({"val_loss": float("nan"), "val_accuracy": 0.8}, None),
    ],
)
def test_a_network_is_of_the_epoch_with_its_validation_metrics(now, epoch):
    """It was of the last epoch with about its loss: of another, where training is slow."""
    assert retrain._epoch_of(now, HISTORY) == epoch


def test_of_equal_epochs_a_network_is_of_the_last_one():
    assert retrain._epoch_of({"val_loss": 0.2}, {"val_loss": [0.3, 0.2, 0.2 + 1e-9]}) == 3
    assert retrain._epoch_of({"val_loss": np.nan}, {"val_loss": [0.3, np.nan]}) == 2
    assert retrain._epoch_of({"val_loss": 0.2}, {}) is None
