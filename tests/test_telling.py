"""What a search tells: what changed since it was last run, each trial that ends, how it ended, and why it is refused."""

import keras
import pytest

import search
from search.errors import RequestError
from tests.test_tuner import FIT, X, build, searched, tuner

HEARD = {**FIT, "verbose": 2}
CHANGED = "Changed since this project's trials: "


def told(capsys):
    """What a search said that something has changed; empty where it said nothing of it."""
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith(CHANGED)]
    assert len(lines) <= 1
    return lines[0].removeprefix(CHANGED).partition(".")[0] if lines else ""


@pytest.mark.parametrize(
    ("fit", "epochs", "said"),
    [
        ({"batch_size": None, "validation_freq": 1, "shuffle": True}, 2, ""),  # as left out
        ({"batch_size": 8}, 2, "batch_size"),
        ({}, 3, "epochs"),
        ({"x": X[1:201], "batch_size": 8}, 2, "x, batch_size"),
        ({"callbacks": [keras.callbacks.EarlyStopping()]}, 2, "callbacks"),
    ],
)
def test_the_argument_that_changed_is_named_and_one_that_cannot_matter_is_not(tmp_path, capsys, fit, epochs, said):
    searched(tmp_path, max_trials=2)
    for trials in (3, 3):  # said once: the last trial is of the new argument then
        one = tuner(tmp_path, max_trials=trials)
        one.search(**{**HEARD, **fit, "epochs": epochs})
        assert told(capsys) == said
        said = ""


def test_positional_arguments_are_those_of_the_same_name(tmp_path, capsys):
    searched(tmp_path, max_trials=2)
    others = {name: value for name, value in HEARD.items() if name not in ("x", "y")}
    tuner(tmp_path, max_trials=2).search(FIT["x"], FIT["y"], **others, epochs=2)
    assert told(capsys) == ""


def test_a_search_whose_fit_declares_a_hyperparameter_is_unchanged_when_it_is_run_again(tmp_path, capsys):
    class Batches(search.HyperModel):
        def build(self, hp):
            return build(hp)

        def fit(self, hp, model, *args, **kwargs):
            return model.fit(*args, batch_size=hp.Choice("batch_size", [20, 40]), **kwargs)

    for trials in (2, 3, 3):
        one = searched(tmp_path, hypermodel=Batches(), fit=HEARD, max_trials=trials)
        assert told(capsys) == ""
    whole = searched(tmp_path / "whole", hypermodel=Batches(), max_trials=3)
    assert [row["hyperparameters"] for row in one.results] == [row["hyperparameters"] for row in whole.results]


@pytest.mark.filterwarnings("ignore:The optimal value found")  # of the Gaussian process, for three trials
@pytest.mark.parametrize("kind", ["RandomSearch", "BayesianOptimization"])
def test_another_first_is_told_and_tried_and_the_count_goes_on(tmp_path, capsys, kind):
    searched(tmp_path, kind, first=[{"units": 8}], max_trials=3)
    for _ in range(2):
        again = searched(
            tmp_path, kind, first=[{"units": 8}, {"units": 4, "rate": 0.05}], fit={**HEARD, "x": X[1:201]}, max_trials=5
        )
        out = capsys.readouterr().out
    assert {"units": 4, "rate": 0.05} in [row["hyperparameters"] for row in again.results]
    assert CHANGED not in out


def test_what_changed_is_told_in_one_line_and_earlier_trials_count(tmp_path, capsys):
    searched(tmp_path, first=[{"units": 8}], max_trials=3)
    searched(tmp_path, first=[{"units": 4}], fit={**HEARD, "x": X[1:201]}, seed=1, max_trials=5)
    out = capsys.readouterr().out
    assert f"{CHANGED}seed, first, x. They are kept, and the search goes on; overwrite=True starts anew." in out
    assert "[4/5] trial 3" in out
    assert "[5/5] trial 4" in out


@pytest.mark.parametrize("objective", ["loss", search.Objective("val_loss", "max")])
def test_another_objective_is_refused(tmp_path, objective):
    searched(tmp_path, max_trials=1)
    with pytest.raises(RequestError, match=r"scored by val_loss \(min\), and the objective is now (loss|val_loss) "):
        searched(tmp_path, objective=objective, max_trials=2)
    searched(tmp_path, objective=objective, max_trials=2, overwrite=True)
