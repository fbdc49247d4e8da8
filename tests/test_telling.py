"""What a search tells: what changed since it was last run, each trial that ends, how it ended, and why it is refused."""

import copy
import dataclasses
import io
from concurrent.futures import Future, wait

import keras
import pytest
from rich.console import Console

import search
from search.errors import RequestError
from search.report.progress import Progress
from search.workers.in_process import InProcess
from search.workers.trial import Outcome
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


def test_on_a_terminal_every_trial_leaves_its_line_and_the_search_says_how_it_ended(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")  # a terminal, for rich
    monkeypatch.setenv("COLUMNS", "200")

    def failing(hp):
        if hp.values.get("units") == 4:
            raise ValueError("four is too many")
        return build(hp)

    one = tuner(tmp_path, hypermodel=failing, max_trials=3, first=[{"units": 8}, {"units": 4}, {"units": 6}])
    one.search(**HEARD, epochs=1)
    out = capsys.readouterr().out
    assert "[1/3] trial 0: val_loss" in out
    assert "[2/3] trial 1 failed: ValueError: four is too many; units = 4" in out
    best = min(row["score"] for row in one.results if row["score"])
    last = out.splitlines()[-1]
    assert last.startswith("2 trials completed, 1 failed; best trial ")
    assert f": val_loss {best:.5g} (units " in last
    assert last.endswith(f"; all in {tmp_path / 'p'}")


def test_a_finished_search_that_is_run_again_says_that_nothing_is_left(tmp_path, capsys):
    searched(tmp_path, max_trials=1)
    assert capsys.readouterr().out == ""
    searched(tmp_path, max_trials=1, fit=HEARD)
    assert "Nothing to run: 1 trial completed, 0 failed; best trial 0: val_loss" in capsys.readouterr().out


class Queued:
    """One trial at a time, and two that wait; the oldest ends when the search waits for one."""

    size, ahead = 1, 2

    def __init__(self):
        self.jobs, self.most = [], 0

    def close(self):
        pass

    def submit(self, job):
        self.jobs.append((job, Future()))
        self.most = max(self.most, len(self.jobs))
        return self.jobs[-1][1]

    def wait(self, futures, **how):
        job, future = self.jobs.pop(0)
        ended = copy.deepcopy(job.trial)
        ended.metrics.update("val_loss", 0.5, step=0)
        ended.best_step, ended.status = 0, "COMPLETED"
        future.set_result(Outcome(True, trial=ended))
        return wait(futures, **how)


@pytest.mark.parametrize(("limit", "most"), [({}, 3), ({"max_seconds": 60}, 1), ({"patience": 9}, 1)])
def test_under_a_limit_no_trial_waits_that_would_begin_after_it(tmp_path, monkeypatch, limit, most):
    queued = Queued()
    monkeypatch.setattr(search.RandomSearch, "_start_workers", lambda *_: queued)
    monkeypatch.setattr("search.study.wait", queued.wait)
    one = searched(tmp_path, max_trials=4, **limit)
    assert [row["status"] for row in one.results] == ["COMPLETED"] * 4
    assert queued.most == most


def test_the_time_left_counts_what_trials_took_and_the_limit(tmp_path, monkeypatch, capsys):
    class Took(InProcess):
        def submit(self, job):
            future = Future()
            future.set_result(dataclasses.replace(super().submit(job).result(), seconds=50.0))
            return future

    monkeypatch.setattr("search.tuner.InProcess", Took)
    searched(tmp_path / "a", fit=HEARD, max_trials=3)
    searched(tmp_path / "b", fit=HEARD, max_trials=3, max_seconds=80)
    said = [line.rpartition("; about ")[2] for line in capsys.readouterr().out.splitlines() if line.startswith("[1/3]")]
    assert said[0] == "1 min 40 s left"
    assert "1 min 00 s left" < said[1] <= "1 min 20 s left"


def test_a_narrow_terminal_has_no_bar_but_the_best():
    shown = {}
    for width in (50, 100):
        console = Console(file=io.StringIO(), force_terminal=True, width=width)
        progress = Progress(console, "trials", 30)
        progress.advance("", "Best so far: 0.12345, units 8")
        console.print(progress._line())
        shown[width] = console.file.getvalue()
    assert ["━" in shown[width] for width in (50, 100)] == [False, True]
    assert all("Best so far: 0" in line for line in shown.values())


@pytest.mark.parametrize("verbose", [0, 2])
def test_ctrl_c_says_how_to_go_on_and_hides_where_it_came(tmp_path, capsys, verbose):
    def interrupted(hp):
        raise KeyboardInterrupt

    one = tuner(tmp_path, max_trials=2)
    one.hypermodel.build = interrupted
    with pytest.raises(KeyboardInterrupt) as caught:
        one.search(**{**FIT, "verbose": verbose}, epochs=1)
    assert [entry.name for entry in caught.traceback][1:] == ["search"]
    assert caught.value.__suppress_context__
    last = "Interrupted; run the same again, it goes on from here."
    assert capsys.readouterr().out.splitlines()[-1:] == [last] * bool(verbose)
