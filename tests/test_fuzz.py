"""Mutated files: whatever a file holds, the answer is one of our two errors in one line, or a result that it does not harm.

``FUZZ_EXAMPLES=10000 python -m pytest tests/test_fuzz.py`` tries more than the 100 of every day, which are the same each time.
"""

import copy
import json
import os
import shutil
from concurrent.futures import Future
from types import SimpleNamespace

import keras_tuner
import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from rich.console import Console

from search import files, results, study
from search.errors import RequestError, WorkError
from search.lab.session import Session
from search.oracles import hyperband
from search.report import console, page
from search.training import checkpoint
from search.workers.trial import Outcome
from tests.test_bad_input import BEST, RUN, TRIALS

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "100"))
fuzz = settings(
    derandomize="FUZZ_EXAMPLES" not in os.environ,  # the same every day
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
JUNK = [
    None,
    True,
    0,
    -1,
    10**400,
    0.5,
    float("nan"),
    float("inf"),
    -1e308,
    "",
    "x",
    "1",
    "\0",
    "é\n",
    [],
    [1],
    {},
    {"a": 1},
]
DEEP = "[" * 100_000


def places(value, path=()):
    """The path of every entry of a JSON value."""
    yield path
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, entry in entries:
        yield from places(entry, (*path, key))


@st.composite
def another_json(draw, value):
    """The value with one to three of its entries replaced, removed or put elsewhere."""
    value = copy.deepcopy(value)
    for _ in range(draw(st.integers(1, 3))):
        path = draw(st.sampled_from(list(places(value))))
        if not path:
            continue
        owner = value
        for key in path[:-1]:
            owner = owner[key]
        how = draw(st.sampled_from(["replace", "replace", "remove", "rename"]))
        if how == "replace":
            owner[path[-1]] = copy.deepcopy(draw(st.sampled_from(JUNK)))
        elif isinstance(owner, dict) and how == "rename":
            owner[draw(st.sampled_from(["", "format", "loss", "x"]))] = owner.pop(path[-1])
        else:
            del owner[path[-1]]
    return value


@st.composite
def other_bytes(draw, content):
    """The bytes with one to four cuts, flips, repetitions or insertions."""
    content = bytearray(content)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(content)))
        length = draw(st.integers(0, 64))
        how = draw(st.sampled_from(["flip", "cut", "end", "repeat", "insert"]))
        if how == "flip" and at < len(content):
            content[at] ^= 1 << draw(st.integers(0, 7))
        elif how == "cut":
            del content[at : at + length]
        elif how == "end":
            del content[at:]
        elif how == "repeat":
            content[at:at] = content[at : at + length]
        elif how == "insert":
            content[at:at] = draw(st.binary(max_size=length))
    return bytes(content)


def one_line(error, path=""):
    assert len(str(error).splitlines()) == 1, str(error)
    assert str(path) in str(error)


# A trial's state

IDENTITY = {"exercise": "single", "data": "ed" * 32, "hyperparameters": {"batch_size": 32}, "seed": [0, 1]}
STATE = checkpoint.State(
    [np.arange(6, dtype=np.float32).reshape(2, 3), np.array(7, np.uint32)], {"loss": [0.5, 0.25]}, IDENTITY
)
HEADER = {
    "format": 3,
    "variables": 2,
    "weights": 0,
    "outside": 0,
    "whole": True,
    "epoch": None,
    "memory": None,
    "dtypes": {},
    "history": STATE.history,
    "identity": IDENTITY,
}


@pytest.fixture(scope="module")
def state(tmp_path_factory):
    path = tmp_path_factory.mktemp("state") / "state.npz"
    checkpoint.write(path, STATE)
    return path, path.read_bytes()


def read_state(path):
    """Reads it as a worker does."""
    try:
        found = checkpoint.read(path, IDENTITY)
        return found, found.epochs
    except WorkError as error:
        one_line(error, path)
        return None


@fuzz
@given(st.data())
def test_a_state_of_other_bytes_is_refused_or_the_same(state, data):
    path, whole = state
    path.write_bytes(data.draw(other_bytes(whole)))
    found = read_state(path)
    if found is not None:
        assert found[0].history == STATE.history
        for one, other in zip(found[0].variables, STATE.variables, strict=True):
            np.testing.assert_array_equal(one, other)


@fuzz
@given(header=another_json(HEADER))
def test_a_state_with_another_header_is_refused_or_can_be_used(state, header):
    path, _ = state
    arrays = {f"variable_{i:04d}": value for i, value in enumerate(STATE.variables)}
    files.write_npz(path, header=np.frombuffer(json.dumps(header).encode(), np.uint8), **arrays)
    found = read_state(path)
    if found is not None:
        for values in found[0].history.values():
            assert all(isinstance(value, float) for value in values)
            assert len(values) <= found[1]


# What a search leaves


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("results") / "single"
    folder.mkdir()
    return folder


def read_results(folder, name, content):
    """Reads and prints the search as `summary`, `report` and a command that goes on do, with one file exchanged."""
    content = DEEP if content == "deep" else content
    texts = {"run.json": json.dumps(files.seal(RUN)), "trials.csv": TRIALS, "best.json": json.dumps(BEST)}
    for other, text in texts.items():
        (folder / other).write_text(text)
    (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)

    def print_summary():
        with open(os.devnull, "w") as nowhere:
            console.print_summary(folder, Console(file=nowhere))

    for read in (
        print_summary,
        lambda: page._checked_view(results.read_exercise(folder), {}),
        lambda: Session.run(SimpleNamespace(folder=folder)),
    ):
        try:
            read()
        except WorkError as error:
            one_line(error, folder)


@fuzz
@given(run=another_json(RUN).map(lambda run: json.dumps(files.seal(run) if isinstance(run, dict) else run)))
@example("deep")
def test_another_run_json_is_refused_or_can_be_used(folder, run):
    read_results(folder, "run.json", run)


@fuzz
@given(best=another_json(BEST).map(json.dumps))
@example("deep")
def test_another_best_json_is_refused_or_can_be_used(folder, best):
    read_results(folder, "best.json", best)


@fuzz
@given(trials=other_bytes(TRIALS.encode()))
def test_another_trials_csv_is_refused_or_can_be_used(folder, trials):
    read_results(folder, "trials.csv", trials)


@fuzz
@given(st.data())
def test_other_bytes_of_json_are_refused_or_can_be_used(folder, data):
    name, value = data.draw(st.sampled_from([("run.json", RUN), ("best.json", BEST)]))
    read_results(folder, name, data.draw(other_bytes(json.dumps(value).encode())))


# The outcomes that a search goes on from


class Instant:
    """Trains nothing."""

    size = 2
    ahead = 0

    def submit(self, job):
        future = Future()
        score = [0.5 + 0.001 * int(job.name)] * job.epochs
        future.set_result(Outcome(True, {"val_accuracy": score, "loss": score}, 10, 1.0, (0.1,) * job.epochs))
        return future

    def close(self):
        pass


def search(folder):
    hp = keras_tuner.HyperParameters()
    hp.Float("learning_rate", 0.0, 1.0)
    hp.Choice("batch_size", [16, 32])
    oracle = hyperband.HyperbandOracle(
        max_epochs=3, seed=1, hyperparameters=hp, objective=keras_tuner.Objective("val_accuracy", "max")
    )
    oracle.mark = {"exercise": "single", "seed": 1}
    said = []
    study.search(oracle, Instant(), folder, 1, known=study.known_outcomes(folder, oracle, said.append))
    return oracle, said


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    folder = tmp_path_factory.mktemp("searched")
    search(folder)
    return folder


def go_on(searched, content):
    """Goes on with a search one of whose outcomes holds something else; returns whether it was used."""
    folder = searched.with_name("going-on")
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(searched, folder)
    path = folder / "search" / "trial_0001" / "trial.json"
    path.write_bytes(content)
    try:
        oracle, said = search(folder)
    except (RequestError, WorkError) as error:
        one_line(error)
        return
    for line in said:
        one_line(line)
    assert len(oracle.trials) == 6
    if said:  # it was damaged, is kept, and its trial ran again
        assert path.with_name("trial.json.old-1").read_bytes() == content
        assert (folder / "trials.csv").read_bytes() == (searched / "trials.csv").read_bytes()


@fuzz
@given(st.data())
def test_an_outcome_of_other_bytes_is_refused_or_made_again(searched, data):
    whole = (searched / "search" / "trial_0001" / "trial.json").read_bytes()
    go_on(searched, data.draw(other_bytes(whole)))


def test_an_outcome_that_does_not_say_what_it_is_of_is_not_used(searched):
    """Its file was set aside and its values were used all the same."""
    whole = json.loads((searched / "search" / "trial_0001" / "trial.json").read_bytes())
    del whole["search"]
    whole["metrics"]["metrics"]["loss"]["observations"] = [{"value": [1.0], "step": 0}]
    go_on(searched, json.dumps(files.seal(whole)).encode())


@fuzz
@given(st.data())
@example(None)
def test_an_outcome_that_another_program_sealed_is_refused_or_can_be_used(searched, data):
    if data is None:
        return go_on(searched, DEEP.encode())
    whole = json.loads((searched / "search" / "trial_0001" / "trial.json").read_bytes())
    return go_on(searched, json.dumps(files.seal(data.draw(another_json(whole)))).encode())
