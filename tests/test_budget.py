"""A command that is to keep a time: what it plans, what it leaves out, and that it plans so again. No clock is read."""

import csv
import json

import pytest

from search.lab import budget, verify
from search.lab.searching import smaller
from tests.conftest import NEURON, run, write_exercise

# In the exercise's file: the machine is as slow as a test needs it.
SLOW = """
import search.workers.runtime
from search.lab import forecast
forecast.SearchForecast.left = lambda self: 1.0 if self.oracle.max_epochs <= {fits} else 1e9
forecast.SearchForecast.next = lambda self: 1e9 if len(self.oracle.trials) >= {most} else 0.0
forecast.Forecast.left = lambda self: float({trainings})
"""


def exercise(folder, *, fits=9, most=1000, trainings="0"):
    script = write_exercise(folder, NEURON)
    text = script.read_text().replace(
        "EXERCISE =", SLOW.format(fits=fits, most=most, trainings=trainings) + "\nEXERCISE ="
    )
    script.write_text(text)
    return script


def recorded(script, step="search"):
    path = script.parent / "results" / "small" / "run.json"
    return json.loads(path.read_text(encoding="utf-8"))["steps"].get(step) if path.exists() else None


def test_a_step_has_its_share_and_what_those_before_it_left(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(budget.time, "monotonic", lambda: now[0])
    kept = budget.Budget(1000.0)
    assert kept.left("search") == pytest.approx(1000 * budget.SHARES["search"])
    now[0] += 100
    both = budget.SHARES["search"] + budget.SHARES["finalists"]
    assert kept.left("finalists") == pytest.approx(1000 * both - 100)
    assert kept.left("retrain") == pytest.approx(900)
    assert budget.Budget(60.0, ("search",)).left("search") == pytest.approx(60)
    assert sum(budget.SHARES.values()) == pytest.approx(1)


def test_a_search_is_made_smaller_by_brackets_and_then_by_hyperband_s_factor():
    plans = smaller({"tuner": "hyperband", "max_epochs": 9, "trials": 0})
    assert [(plan["max_epochs"], plan["brackets"]) for plan in plans] == [(9, 3), (9, 2), (9, 1), (3, 2), (3, 1)]
    assert [plan["trials"] for plan in smaller({"tuner": "random", "max_epochs": 9, "trials": 30})] == [30, 10]


@pytest.mark.parametrize(("written", "seconds"), [("90s", 90), ("20m", 1200), ("1h30m", 5400), ("1h2m3s", 3723)])
def test_a_time_is_read_as_people_write_it(written, seconds):
    from search.lab.options import Duration

    assert Duration().convert(written, None, None) == seconds


@pytest.mark.parametrize("written", ["", "20", "0s", "-5m", "m", "20 minutes", "1.5h", "5m1h"])
def test_what_is_no_time_is_refused_in_one_line(neuron, written):
    out = run(neuron, "search", "--budget", written, status=2)
    assert "is no time; expected one as in 90s, 20m or 1h30m, or none" in out


def test_the_largest_search_that_fits_is_planned_and_planned_so_again(tmp_path, small_data):
    script = exercise(tmp_path, fits=3)
    run(script, "search", "--budget", "10m", "--data", small_data)
    assert recorded(script)["planned"] == {"max_epochs": 3, "brackets": 2}
    assert recorded(script)["trials_run"] == 6
    script.write_text(script.read_text().replace("<= 3", "<= 9"))  # a faster machine
    assert "is complete" in run(script, "search", "--budget", "10m", "--data", small_data)
    out = run(script, "search", "--budget", "11m", "--data", small_data, status=2)
    assert "max_epochs was 3 and is now 9" in out


@pytest.mark.long
def test_fewer_brackets_are_those_that_try_the_most_configurations(tmp_path, small_data):
    script = exercise(tmp_path)
    text = script.read_text().replace(
        "self.oracle.max_epochs <= 9", "sum(one.trials for one in self.oracle.rungs) <= 13"
    )
    script.write_text(text)
    out = run(script, "search", "--budget", "10m", "--data", small_data)
    assert "Small: Hyperband, 13 trials, 21 epochs" in out
    rows = list(csv.DictReader((tmp_path / "results" / "small" / "trials.csv").read_text().splitlines()))
    assert [(row["bracket"], row["round"]) for row in rows] == [("2", "0")] * 9 + [("2", "1")] * 3 + [("2", "2")]
    verdicts = {found.checked: found.verdict for found in verify.verify(tmp_path / "results" / "small")}
    assert verdicts["proposals, promotions and best"] == "reproduced"


def test_a_larger_budget_that_is_named_is_enough():
    kept = budget.Budget(10.0)
    for step in budget.SHARES:
        named = budget.Budget(kept.enough(step, 30.0))
        assert 30.0 <= named.left(step) + 0.5 < 32.0


def test_a_budget_for_which_every_search_is_too_large_is_refused(tmp_path, small_data):
    script = exercise(tmp_path, fits=1)
    out = run(script, "search", "--budget", "10m", "--data", small_data, status=2)
    assert "--budget 10 min 00 s leaves the search " in out
    assert " here: give " in out
    assert recorded(script) is None


def test_a_search_that_its_budget_ends_is_complete_and_is_verified(tmp_path, small_data):
    script = exercise(tmp_path, most=8)
    out = run(script, "search", "--budget", "10m", "--data", small_data)
    assert "The budget ended the search: 8 of 22 trials" in out
    folder = tmp_path / "results" / "small"
    assert recorded(script)["complete"]
    assert len(list(csv.DictReader((folder / "trials.csv").read_text().splitlines()))) == 8
    verdicts = {found.checked: found.verdict for found in verify.verify(folder)}
    assert verdicts["proposals, promotions and best"] == "reproduced"


@pytest.mark.long
def test_a_configuration_that_could_not_be_retrained_in_time_is_no_finalist(tmp_path, small_data):
    """4,000 images are trained in at most 32 steps by a batch size from 128 on."""
    script = exercise(
        tmp_path, trainings="1e9 if self._epochs == 7 and any(one.steps > 32 for one in self._waiting[:1]) else 1.0"
    )
    out = run(script, "--max-epochs", 3, "--epochs", 7, "--seeds", 1, "--budget", "10m", "--data", small_data)
    found = json.loads((tmp_path / "results" / "small" / "finalists" / "finalists.json").read_text(encoding="utf-8"))
    assert all(finalist["hyperparameters"]["batch_size"] > 64 for finalist in found["finalists"])
    rows = csv.DictReader((tmp_path / "results" / "small" / "trials.csv").read_text().splitlines())
    small = {row["trial_id"] for row in rows if row["hp.batch_size"] == "64"}
    assert small
    for trial in small:
        assert out.count(f"No finalist: trial {trial}; its 7 epochs of retraining take about") <= 1
    assert "No finalist: trial" in out


@pytest.mark.long
def test_an_exercise_has_a_budget_of_its_own_which_a_command_lifts(tmp_path, small_data):
    script = exercise(tmp_path, fits=3)
    script.write_text(script.read_text().replace("max_epochs=9,", "max_epochs=9, minutes=10,"))
    run(script, "--epochs", 1, "--seeds", 1, "--data", small_data)
    assert recorded(script)["budget"] == 600
    assert recorded(script)["planned"]["max_epochs"] == 3
    out = run(script, "--epochs", 1, "--seeds", 1, "--budget", "none", "--data", small_data, status=2)
    assert "max_epochs was 3 and is now 9" in out


@pytest.mark.long
def test_the_least_of_a_step_may_exceed_the_budget_by_a_tenth_and_no_more(tmp_path, small_data):
    """1,000 minutes: a retraining that takes 1,050 is done, with one seed; one that takes 1,120 is not."""
    for seconds, done in ((63_000, True), (67_200, False)):
        script = exercise(tmp_path / str(seconds), trainings=f"{seconds} if self._epochs == 7 else 1.0")
        arguments = ("--max-epochs", 3, "--epochs", 7, "--seeds", 2, "--budget", "1000m", "--data", small_data)
        text = script.read_text().replace(
            "EXERCISE =",
            "from search.lab import planning\nplanning.RetrainingFits.__call__ = lambda *_: True\nEXERCISE =",
        )
        script.write_text(text)
        run(script, *arguments)
        retrained = recorded(script, "retrain")
        assert (retrained is not None) == done
        assert not done or retrained["planned"] == {"seeds": 1}


@pytest.mark.long
def test_steps_take_fewer_seeds_or_are_left_out_and_the_command_for_later_is_said(tmp_path, small_data):
    script = exercise(tmp_path, trainings="1.0 if len(self._waiting) <= 4 else 1e9")
    out = run(script, "--max-epochs", 3, "--epochs", 2, "--budget", "10m", "--data", small_data)
    assert "Finalists: the best 1 configuration and the starting model, 3 epochs, 2 fresh seeds each" in out
    assert "Sweep of batch_size" in out  # 4 values, one seed each
    assert recorded(script, "retrain")["planned"] == {"seeds": 2}
    script = exercise(tmp_path / "slower", trainings="1e9")
    out = run(script, "--max-epochs", 3, "--epochs", 2, "--budget", "10m", "--data", small_data)
    for step in ("finalists", "sweep batch_size", "retrain"):
        assert f"{step}: left out; it takes" in out
        assert f"Later: `python search_small.py {step}" in out
    assert recorded(script, "retrain") is None
    assert (tmp_path / "slower" / "results" / "small" / "report.html").exists()
