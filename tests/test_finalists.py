"""The end of a search: who competes, who wins, and what is said of it."""

import math
from dataclasses import replace

import numpy as np
import pytest

from search.lab.finalists import chosen, winner
from search.report import sentences
from search.results import Finalist, Finalists, Search, Trial, read_search
from tests.conftest import NEURON, run, write_exercise

WEIGHTS = [400, 200, 100]


def _trial(trial_id, score, status="COMPLETED", **values):
    metrics = {"val_accuracy": score, "val_loss": 1 - score}
    return Trial(trial_id, status, 0, 0, "", 0, 9, values, 9, metrics, 1.0, "")


def _search(trials, objective="val_accuracy", maximise=True):
    return Search(None, "title", objective, maximise, trials, None, [], {})


def test_the_best_distinct_configurations_compete_and_always_the_starting_model():
    trials = [
        _trial("0", 0.90, units=16),
        _trial("1", 0.97, units=64),
        _trial("2", 0.98, units=64),
        _trial("3", math.nan, units=8),
        _trial("4", 0.99, "FAILED", units=4),
        _trial("5", 0.95, units=32),
        _trial("6", 0.97, units=128),
    ]
    found = chosen(_search(trials), {"units": 16}, 2)
    assert [(one.trial_id, one.hyperparameters["units"]) for one in found] == [("2", 64), ("6", 128), ("0", 16)]
    assert [one.trial_id for one in chosen(_search(trials), {"units": 64}, 2)] == ["2", "6"]
    assert [one.trial_id for one in chosen(_search(trials), {"units": 7}, 1)] == ["2", "start"]
    assert [one.trial_id for one in chosen(_search(trials, "val_loss", False), {"units": 16}, 1)] == ["2", "0"]


def test_a_clear_best_wins_whatever_it_costs():
    scores = [[0.99, 0.991, 0.9905], [0.95, 0.951, 0.9505], [0.90, 0.901, 0.9005]]
    assert winner(scores, WEIGHTS) == (0, [0])


def test_within_one_standard_error_the_smaller_network_wins_and_of_equal_ones_the_better():
    blocks = np.array([0.0, 0.001, -0.001])
    noise = np.array([[1.0, -1, 0], [-1, 0, 1], [0, 1, -1]]) * 1e-4  # of each two the differences have an error of 1e-4
    scores = 0.99 + blocks + noise
    assert winner(scores - [[0.0], [0.9e-4], [0.8e-4]], WEIGHTS) == (2, [0, 2, 1])
    assert winner(scores - [[0.0], [0.9e-4], [1.1e-4]], WEIGHTS) == (1, [0, 1])
    assert winner(scores - [[0.5e-4], [0.0], [0.5e-4]], [9, 9, 9])[0] == 1


def test_an_unsteady_third_makes_no_tie_of_two_that_differ_with_every_seed():
    """The residual deviation of all stood for that of the two, and the smaller won though half a point behind."""
    apart = [[0.990, 0.991, 0.989], [0.985, 0.986, 0.984]]
    assert winner([*apart, [0.90, 0.97, 0.99]], WEIGHTS) == winner([*apart, [0.5, 0.5, 0.5]], WEIGHTS) == (0, [0])


def test_one_that_failed_in_some_seed_cannot_win_and_one_seed_shows_no_noise():
    assert winner([[0.9, math.nan], [0.8, 0.81]], WEIGHTS[:2])[0] == 1
    assert winner([[0.99], [0.98], [0.97]], WEIGHTS) == (0, [0])
    with pytest.raises(ValueError, match="every finalist failed"):
        winner([[math.nan, 0.9]], WEIGHTS[:1])


def test_of_one_seed_each_equal_scores_tie_and_the_smaller_network_wins():
    assert winner([[0.99], [0.99], [0.97]], WEIGHTS) == (1, [0, 1])


def test_a_finalist_that_lost_a_training_is_said_to_be_no_candidate_and_has_no_mean():
    scores = ((0.907, math.nan, 0.908), (0.87, 0.88, 0.879))
    found = _found(1, [1], 64, 32, scores=scores)
    said = sentences.finalists(found)
    assert "No candidates, since trainings with them diverged or failed: trial 0 (1 of 3)." in said
    assert "has the best mean of the candidates" in said
    assert "the only candidate" in said
    assert "nothing better" not in said
    assert sentences.score(found, found.finalists[0]) == "1 of 3 diverged or failed"


def _found(winner, level, *units, scores=((0.998, 0.9981), (0.9979, 0.998), (0.9, 0.91))):
    rows = [
        Finalist(str(i), i == len(units) - 1, {"units": n, "rate": 0.1}, 10 * n, 1.0, np.array(scores[i]))
        for i, n in enumerate(units)
    ]
    return Finalists("val_accuracy", 9, rows, winner, level)


def test_the_sentence_says_what_tied_at_what_cost_and_when_nothing_beats_the_start():
    tie = sentences.finalists(_found(1, [0, 1], 64, 32)).replace("\N{NO-BREAK SPACE}", " ")
    assert (
        "The starting model ties units = 64 within a standard error (99.795 ± 0.007 % against 99.805 ± 0.007 %, 2 seeds)"
        in tie
    )
    assert "50 % of its weights" in tie
    for units, share in (((1000, 2), "0.20 %"), ((1000, 997), "99.70 %"), ((8, 8), "100 %")):
        said = sentences.finalists(_found(1, [0, 1], *units)).replace("\N{NO-BREAK SPACE}", " ")
        assert f"with {share} of its weights" in said
    alone = sentences.finalists(_found(0, [0], 64, 32))
    assert "no other within a standard error" in alone
    assert "nothing better" not in alone
    assert "The search found nothing better than the starting model." in sentences.finalists(_found(1, [1], 64, 32))


def test_of_one_training_each_no_mean_is_spoken_of():
    said = sentences.finalists(_found(1, [1], 64, 32, scores=((0.997,), (0.998,))))
    assert said.startswith("The starting model has the best validation accuracy, 99.80")
    assert said.endswith(
        "by one training each: how much the seed changes is not known. No configuration of the search did better."
    )


def test_a_finalist_that_lacks_a_hyper_parameter_is_named_by_that():
    found = _found(1, [0, 1], 64, 32, 32)
    rows = [found.finalists[0], replace(found.finalists[1], hyperparameters={"rate": 0.1})]
    said = sentences.finalists(replace(found, finalists=rows))
    assert said.startswith("units = none ties units = 64 within a standard error")


def test_an_objective_that_the_space_changes_is_said_not_to_compare():
    """Label smoothing 0 has the smallest losses by definition; the page named its trial the best without a word."""

    def trial(number, **values):
        return Trial(str(number), "COMPLETED", None, None, "", 0, 1, values, 1, {"val_loss": 0.1 * number}, 1.0, "")

    def said(trials, objective="val_loss", **step):
        return sentences.another_loss(Search(None, "title", objective, False, trials, None, [], step))

    smoothed = [trial(1, label_smoothing=0.0, units=4), trial(2, label_smoothing=0.1, units=8)]
    (text,) = said(smoothed)
    assert text.startswith("The validation loss is not one function of all trials, since label smoothing changes what")
    assert said(smoothed, "val_accuracy") == said([trial(1, units=4), trial(2, units=8)]) == []
    (text,) = said([trial(1, decay=0.0, l2=0.0), trial(2, decay=0.1, l2=0.1)], of_the_loss=["decay", "l2"])
    assert "since decay and l2 change what the loss is" in text


@pytest.mark.long
def test_a_search_by_a_loss_finds_what_changes_it(tmp_path, small_data):
    body = NEURON.replace(
        'activation="sigmoid")',
        'activation="sigmoid", kernel_regularizer=keras.regularizers.L2(hp.Choice("decay", [0.1, 0.0])))',
    )
    script = write_exercise(tmp_path, body, extra='objective="val_loss",')
    arguments = ("--max-epochs", 1, "--tuner", "random", "--trials", 3, "--workers", 0, "--data", small_data)
    run(script, "search", *arguments)
    folder = tmp_path / "results" / "small"
    assert read_search(folder).steps["search"]["of_the_loss"] == ["decay"]
    run(script, "report")
    assert "since decay changes what the loss is" in (folder / "report.html").read_text(encoding="utf-8")
