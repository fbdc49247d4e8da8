"""What a search tells: what changed since it was last run, each trial that ends, how it ended, and why it is refused."""

import copy
import dataclasses
import io
import linecache
import re
import sys
import traceback
from concurrent.futures import Future, wait

import keras
import keras_tuner
import pytest
from rich.console import Console

import search
from search.errors import RequestError, WorkError, ending
from search.report.progress import Progress
from search.results import read_project
from search.workers import sending
from search.workers.in_process import InProcess
from search.workers.trial import Outcome, Problem
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
    one = tuner(tmp_path, objective=objective, max_trials=2)
    for _ in range(2):
        with pytest.raises(
            RequestError, match=r"scored by val_loss \(min\), and the objective is now (loss|val_loss) "
        ):
            one.search(**FIT, epochs=2)
    assert len(searched(tmp_path, max_trials=2).results) == 2
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
    last = out.rpartition("\x1b[2K")[2].strip()
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
            seconds = 0.0 if job.name == failed else 50.0
            outcome = Outcome(False) if job.name == failed else super().submit(job).result()
            future.set_result(dataclasses.replace(outcome, seconds=seconds))
            return future

    failed = ""

    monkeypatch.setattr("search.tuner.searching.InProcess", Took)
    searched(tmp_path / "a", fit=HEARD, max_trials=3)
    searched(tmp_path / "b", fit=HEARD, max_trials=3, max_seconds=80)
    said = [line.rpartition("; about ")[2] for line in capsys.readouterr().out.splitlines() if line.startswith("[1/3]")]
    assert said[0] == "1 min 40 s left"
    assert "1 min 00 s left" < said[1] <= "1 min 20 s left"
    failed = "0"  # at once
    searched(tmp_path / "c", fit=HEARD, max_trials=3)
    said = [line.rpartition("; about ")[2] for line in capsys.readouterr().out.splitlines() if line.startswith("[")]
    assert [text.endswith("s left") for text in said] == [False, True, False]
    assert said[1] == "50 s left"


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


def narrow(hp):
    hp.Int("units", 2, 8)
    model = keras.Sequential([keras.Input((7,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    return model


def diverging(hp):
    model = build(hp)
    model.compile(keras.optimizers.SGD(1e38), "mse")
    return model


WITHOUT = {"validation_data": None}


@pytest.mark.filterwarnings("ignore:All-NaN")
@pytest.mark.parametrize(
    ("hypermodel", "fit", "objective", "said"),
    [
        (narrow, {}, "val_loss", "ValueError: Input 0 with name 'None' of layer"),
        (diverging, {}, "val_loss", "the objective val_loss is nan in every epoch; units"),
        (
            build,
            WITHOUT,
            "val_loss",
            "val_loss is not among the metrics (loss); give search() validation_data or valid",
        ),
        (
            build,
            {},
            "val_accuracy",
            "val_accuracy is not among the metrics (loss, val_loss); compile the model with it",
        ),
        (build, {}, ["val_loss", "val_mae"], "the objective val_mae is not among the metrics (loss, val_loss)"),
    ],
)
def test_a_trial_that_failed_says_why(tmp_path, capsys, hypermodel, fit, objective, said):
    if isinstance(objective, list):
        objective = [search.Objective(name, "min") for name in objective]
    searched(tmp_path, hypermodel=hypermodel, fit={**HEARD, **fit}, objective=objective, max_trials=1)
    assert said.partition("; units")[0] in read_project(tmp_path / "p").trials[0].message
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("[1/1]")]
    assert said in line


def test_a_traceback_ends_with_its_error_and_not_with_the_last_line_of_its_message():
    text = 'Traceback (most recent call last):\n  File "a.py", line 1, in b\n    c()\n    ~^^\n'
    assert ending(f"{text}a.b.SomeError: one\n\n  * two=3\n") == "SomeError: one"
    assert ending(f"{text}KeyboardInterrupt\n") == "KeyboardInterrupt"
    assert ending(f"{text}keras_tuner.src.errors.FailedTrialError: too wide\n") == "too wide"
    assert ending("it overran") == "it overran"
    assert ending("") == ""


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        ({"first": {"units": 4}}, ValueError, r"first is \{'units': 4\}; expected a list of dictionaries"),
        ({"first": [3]}, ValueError, r"first is \[3\]; expected"),
        ({"first": [{"units": 4.0}]}, ValueError, "4.0, which .*; expected 2 to 8 in steps of 2, a whole number"),
        ({"first": [{"units": 5}]}, ValueError, "units is 5, which the space does not contain"),
        ({"cluster": "nowhere", "workers": None}, RequestError, "cluster=nowhere: expected local, HOST:PORT"),
        ({"workers": 100_000, "max_trials": 90_000}, RequestError, "90000 workers need .* use at most"),
    ],
)
def test_wrong_values_are_refused_in_words(tmp_path, monkeypatch, arguments, error, said):
    monkeypatch.setattr("resource.getrlimit", lambda _: (1000, 1000))
    with pytest.raises(error, match=said):
        searched(tmp_path, **arguments)


def test_what_there_is_not_yet_or_not_at_all_is_said(tmp_path, monkeypatch):
    one = tuner(tmp_path)
    with pytest.raises(WorkError, match=r"has no trial yet; call search\(\) first"):
        one.report()
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match="pip install pandas"):
        one.results_frame()


def test_a_grid_search_goes_on_from_no_other_and_others_say_so(tmp_path, capsys):
    searched(tmp_path, max_trials=2)
    with pytest.raises(
        RequestError, match=r"are of another search \(another tuner\), from which a grid search cannot go"
    ):
        searched(tmp_path, "GridSearch", max_trials=4)
    searched(tmp_path / "grid", "GridSearch", max_trials=2)
    with pytest.raises(RequestError, match=r"another space\), from which"):
        searched(tmp_path / "grid", "GridSearch", narrow, max_trials=4)
    searched(tmp_path, "GridSearch", max_trials=2, overwrite=True)
    assert len(searched(tmp_path, fit=HEARD, max_trials=3).results) == 3
    assert told(capsys) == "tuner"


def test_the_traceback_of_a_function_that_was_sent_has_its_file_and_its_line(tmp_path):
    file = tmp_path / "script.py"
    file.write_text("def build(hp):\n    raise ValueError(hp)  # here\n")
    module = {"__name__": "__main__"}
    exec(compile(file.read_text(), file, "exec"), module)
    sent = sending.pack(Problem("p", "d", hypermodel=module["build"]))
    del linecache.cache[str(file)]
    file.unlink()  # as of a notebook's cell
    with pytest.raises(ValueError, match="3") as caught:
        sending.unpack(sent).hypermodel(3)
    said = "".join(traceback.format_exception(caught.value))
    assert f'File "{file}", line 2, in build\n    raise ValueError(hp)  # here\n' in said


def test_a_notebook_s_table_and_the_page_name_what_was_searched(tmp_path):
    objectives = [search.Objective("val_loss", "min"), search.Objective("val_mae", "max")]

    def two(hp):
        model = build(hp)
        model.compile("sgd", "mse", metrics=["mae"])
        return model

    one = searched(tmp_path, hypermodel=two, objective=objectives, max_trials=2)
    table = one._repr_html_()
    assert "<th>epochs</th><th>configuration</th>" in table
    assert table.count("<td>2</td><td>units = ") == 2
    assert all(len(value) < 9 for value in re.findall(r"rate = ([^<]*)", table))
    page = one.report().read_text(encoding="utf-8")
    assert "RandomSearch for the smallest multi objective (validation loss - validation mae)" in page
    assert f"The seed is {one.oracle.seed}." in page
    assert "2 to 8, in steps of 2" in page


@pytest.mark.parametrize("kind", ["RandomSearch", "GridSearch"])
def test_a_project_of_kerastuner_s_own_goes_on(tmp_path, capsys, kind):
    stock = getattr(keras_tuner, kind)(build, "val_loss", 2, seed=0, directory=str(tmp_path), project_name="p")
    stock.search(**FIT, epochs=2)
    scores = [trial.score for _, trial in sorted(stock.oracle.trials.items())]
    one = searched(tmp_path, kind, fit=HEARD, max_trials=3)
    assert "damaged" not in capsys.readouterr().out.partition("tuner0.json")[2]
    assert [row["score"] for row in one.results][:2] == scores
    assert len(one.results) == 3
