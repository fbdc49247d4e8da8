"""Real faults, one row of docs/reliability.md each: processes that are killed, damaged files, full disks, strange places."""

import contextlib
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import Future
from pathlib import Path

import numpy as np
import pytest

from search import files
from search.workers import local as local_workers
from search.workers.base import DeadWorkers, WorkerLost, result
from search.workers.local import LocalPool
from search.workers.trial import Job, Outcome
from tests.conftest import LONG, NEURON, command, run, write_exercise
from tests.faults import (
    EARLY,
    LATE,
    MIDDLE,
    START,
    Gates,
    Storm,
    comes_true,
    ended,
    family,
    header,
    logged_exercise,
    none_left,
    planned,
    start,
    trained,
    trials,
)

BUDGET = ("--max-epochs", 3)


@pytest.fixture(scope="module")
def search_quickly(small_data):
    """``search`` in one process: the exit status and what was printed."""

    def search(script, *arguments, budget=BUDGET, data=small_data):
        process = start(script, "search", *budget, "--workers", 0, "--data", data, *arguments)
        return process.wait(LONG), process.output.read_text()

    return search


@pytest.fixture(scope="module")
def left_alone(tmp_path_factory, search_quickly):
    """A search that nobody disturbed: its script, its results."""
    script = logged_exercise(tmp_path_factory.mktemp("alone"))
    status, out = search_quickly(script)
    assert status == 0, out
    return script, script.parent / "results"


@pytest.fixture
def copied(left_alone, tmp_path):
    """A copy of that search, complete."""
    shutil.copytree(left_alone[0].parent, tmp_path, dirs_exist_ok=True)
    (tmp_path / "epochs.log").unlink()
    return tmp_path / left_alone[0].name, tmp_path / "results"


def errors(out):
    """How many lines of an error a command prints after its first line, which says what it begins to do."""
    first, *others = out.splitlines()
    assert not first.startswith("error: ")
    assert others[0].startswith("error: ")
    return len(others)


def interrupt(results):
    """Makes a complete search one that goes on."""
    path = results / "small" / "run.json"
    record = json.loads(path.read_text())
    record["steps"]["search"]["complete"] = False
    path.write_text(json.dumps(files.seal(record)))


# Files that are damaged, of another version, of another exercise


def flip(path):
    """Turns one digit of a figure into another: nothing that a parser would notice."""
    text = path.read_text()
    at = text.index('"observations"')
    at += re.search(r"0\.\d", text[at:]).end() - 1
    path.write_text(text[:at] + str((int(text[at]) + 1) % 10) + text[at + 1 :])


def without_checksum(path):
    state = json.loads(path.read_text())
    del state["sha256"]
    path.write_text(json.dumps(state))


def of_another_trial(path):
    other = next(other for other in path.parent.parent.glob("trial_*/trial.json") if other != path)
    path.write_bytes(other.read_bytes())


@pytest.mark.long
@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda path: path.write_text(""), "JSONDecodeError"),
        (lambda path: path.write_bytes(path.read_bytes()[:200]), "JSONDecodeError"),
        (lambda path: path.write_bytes(b"\xff" + path.read_bytes()), "UnicodeDecodeError"),
        (flip, "its checksum does not fit"),
        (without_checksum, "an older version wrote it"),
        (of_another_trial, "it is of trial"),
    ],
    ids=["empty", "truncated", "bytes", "flipped", "older", "another"],
)
def test_a_damaged_outcome_is_named_and_set_aside_and_its_trial_told_again_from_its_state(
    copied, left_alone, search_quickly, damage, says
):
    script, results = copied
    interrupt(results)
    path = results / "small" / "search" / "trial_0002" / "trial.json"
    damage(path)
    damaged = path.read_bytes()
    others = {path: path.stat().st_mtime_ns for path in ended(results) if path.parent.name != "trial_0002"}
    status, out = search_quickly(script)
    assert status == 0, out
    (line,) = [line for line in out.splitlines() if "trial_0002/trial.json" in line]
    assert says in line
    assert "it is now trial.json.old-1, and the trial runs again from its last state" in line
    assert path.with_name("trial.json.old-1").read_bytes() == damaged
    assert trials(results) == trials(left_alone[1])
    assert trained(script) == []
    assert {path: path.stat().st_mtime_ns for path in others} == others


@pytest.mark.long
@pytest.mark.parametrize("damage", ["empty", "truncated", "flipped", "older", "another"])
def test_a_damaged_state_is_named_and_set_aside_and_only_its_trial_trained_again(
    copied, left_alone, search_quickly, damage
):
    script, results = copied
    interrupt(results)
    folder = results / "small" / "search" / "trial_0002"
    (folder / "trial.json").unlink()
    path = folder / "state.npz"
    content = bytearray(path.read_bytes())
    rate, epochs = header(path)["identity"]["hyperparameters"]["learning_rate"], len(header(path)["history"]["loss"])
    if damage == "empty":
        content.clear()
    elif damage == "truncated":
        del content[len(content) // 2 :]
    elif damage == "flipped":
        content[len(content) // 2] ^= 1
    elif damage == "older":
        rewrite_header(path, format=0)
        content = path.read_bytes()
    else:
        rewrite_header(path, identity={**header(path)["identity"], "exercise": "another"})
        content = path.read_bytes()
    path.write_bytes(content)
    status, out = search_quickly(script)
    assert status == 0, out
    (line,) = [line for line in out.splitlines() if "trial_0002/state.npz" in line]
    assert "the trial has to run again from its start" in line
    assert path.with_name("state.npz.old-1").read_bytes() == bytes(content)
    assert [{**row, "message": ""} for row in trials(results)] == trials(left_alone[1])
    assert trained(script) == [(rate, epoch + 1) for epoch in range(epochs)]


def rewrite_header(path, **changes):
    with np.load(path) as archive:
        arrays = dict(archive)
    text = json.dumps({**json.loads(bytes(arrays["header"])), **changes})
    files.write_npz(path, **{**arrays, "header": np.frombuffer(text.encode(), np.uint8)})


def test_what_a_killed_process_leaves_behind_is_no_obstacle(copied, left_alone, search_quickly):
    """The state of a measurement that has ended, which would leave nothing to measure, and half a file."""
    script, results = copied
    interrupt(results)
    measured = results / "small" / ".measured-graph.npz"
    shutil.copy(results / "small" / "search" / "trial_0000" / "state.npz", measured)
    was = header(measured)
    history = {metric: values[:1] * 2 for metric, values in was["history"].items()}
    rewrite_header(measured, identity={**was["identity"], "hyperparameters": START, "seed": [0]}, history=history)
    half = results / "small" / "search" / "trial_0000" / ".state.npz.x1y2.tmp"
    half.write_bytes(b"PK")
    status, out = search_quickly(script)
    assert status == 0, out
    assert not half.exists()
    assert trials(results) == trials(left_alone[1])


def test_a_search_whose_record_is_lost_goes_on_from_its_trials(copied, left_alone, search_quickly):
    script, results = copied
    record = results / "small" / "run.json"
    record.write_text(record.read_text()[:300])
    out = run(script, "summary", status=1)
    assert "rename it and run `python search_small.py search` again: finished trials are used as they are" in out
    record.rename(record.with_name("run.json.damaged"))
    status, out = search_quickly(script)
    assert (status, trained(script)) == (0, []), out
    assert "6 trials are done" in out
    assert trials(results) == trials(left_alone[1])


def test_a_search_whose_record_is_lost_takes_no_other_search_for_its_own(copied, search_quickly):
    script, results = copied
    (results / "small" / "run.json").unlink()
    before = {path: path.read_bytes() for path in results.rglob("*") if path.is_file() and "lock" not in path.name}
    status, out = search_quickly(script, budget=("--max-epochs", 3, "--seed", 5))
    assert status == 2
    assert "trial_0000/trial.json is of another search (seed was 0 and is now 5); use --fresh" in out
    assert {path: path.read_bytes() for path in before} == before


@pytest.mark.long
@pytest.mark.parametrize("name", ["trials.csv", "best.json"])
@pytest.mark.parametrize("damage", ["empty", "gone"])
def test_what_follows_from_the_trials_is_written_again(copied, left_alone, search_quickly, name, damage):
    script, results = copied
    path = results / "small" / name
    whole = path.read_bytes()
    path.unlink() if damage == "gone" else path.write_text("")
    status, out = search_quickly(script)
    assert (status, trained(script)) == (0, []), out
    assert f"{name}: " in out
    assert path.read_bytes() == whole
    assert path.with_name(f"{name}.old-1").exists() == (damage == "empty")


class Harmful:
    def __reduce__(self):
        return os.mkdir, ("executed",)


def test_a_best_configuration_that_its_trial_did_not_have_is_named_and_written_again(
    copied, left_alone, search_quickly
):
    """A flipped digit was retrained as it stood."""
    script, results = copied
    path = results / "small" / "best.json"
    right = path.read_bytes()
    best = json.loads(right)
    best["hyperparameters"]["learning_rate"] *= 1.1
    path.write_text(json.dumps(best))
    out = run(script, "retrain", status=1)
    assert errors(out) == 1
    assert "best.json: was changed since its step wrote it" in out
    assert "which writes it again" in out
    status, _ = search_quickly(script)
    assert status == 0
    assert path.read_bytes() == right


def test_a_pickle_in_a_state_or_in_the_data_is_refused_and_not_executed(copied, search_quickly, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    script, results = copied
    interrupt(results)
    state = results / "small" / "search" / "trial_0002" / "state.npz"
    with np.load(state) as archive:
        arrays = dict(archive)
    np.savez(state, **{**arrays, "variable_0000": np.array([Harmful()], object)}, allow_pickle=True)
    (state.parent / "trial.json").unlink()
    status, out = search_quickly(script)
    assert status == 0, out
    assert "state.npz is damaged (Object arrays cannot be loaded when allow_pickle=False)" in out
    np.savez("harmful.npz", **dict.fromkeys(["x_train", "y_train", "x_test", "y_test"], np.array([Harmful()], object)))
    out = run(script, "search", "--data", tmp_path / "harmful.npz", status=2)
    assert "--data" in out
    assert not list(tmp_path.rglob("executed"))


# A disk that is full, a folder that cannot be written


@pytest.fixture
def small_disk(tmp_path):
    """Mounts a file system of its own on a folder; unmounts it at the end."""
    mounted = []

    def mount(folder, size):
        folder.mkdir(parents=True)
        made = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], capture_output=True, text=True, check=False
        )
        if made.returncode:
            pytest.skip(f"a full disk needs a file system of its own, and mount says: {made.stderr.strip()}")
        mounted.append(folder)
        return folder

    yield mount
    for folder in mounted:
        subprocess.run(["umount", "--lazy", folder], check=False)


def whole(folder):
    """Every file can be read and none is half."""
    assert not list(folder.rglob("*.tmp"))
    for path in folder.rglob("*.json"):
        json.loads(path.read_text())
    for path in folder.rglob("*.npz"):
        with np.load(path) as archive:
            assert [archive[name] for name in archive.files]
    return True


def fill(ballast, process=None):
    """Takes every byte of room; with a process, again and again until it ends, since a file that cannot be written is removed."""
    while True:
        with contextlib.suppress(OSError), ballast.open("ab", buffering=0) as file:
            while True:
                file.write(b"\0" * 512)
        if process is None or process.poll() is not None:
            return
        time.sleep(0.005)


@pytest.mark.long
def test_a_full_disk_stops_the_search_in_one_line_and_room_lets_it_go_on(left_alone, small_disk, small_data, tmp_path):
    script = logged_exercise(tmp_path)
    results = small_disk(tmp_path / "results", "16m")
    arguments = ("search", *BUDGET, "--workers", 2, "--data", small_data)
    ballast = results / "ballast"
    with Gates(tmp_path) as gates:
        process = command(script, *arguments)
        assert gates.until(lambda arrival: arrival.point == "after trial.json", process), process.communicate()
        fill(ballast)
    fill(ballast, process)
    out, err = process.communicate()
    assert process.returncode == 1, out + err
    (line,) = err.splitlines()
    assert line.startswith("error: ")
    assert "No space left on device" in line
    assert "make room" in line
    assert "run the same command again" in line
    assert whole(results)
    done = len(ended(results))
    assert 0 < done < 6
    out = run(script, *arguments, status=1)  # still full
    assert "No space left on device" in out
    assert errors(out) == 1
    ballast.unlink()
    assert f"{done} trials are done" in run(script, *arguments)
    assert trials(results) == trials(left_alone[1])


def test_a_folder_that_becomes_read_only_stops_the_search_in_one_line(left_alone, small_disk, small_data, tmp_path):
    script = logged_exercise(tmp_path)
    project = small_disk(tmp_path / "results" / "small" / "search", "4m")
    arguments = ("search", *BUDGET, "--workers", 0, "--data", small_data)
    with Gates(tmp_path) as gates:
        process = start(script, *arguments)
        assert gates.until(lambda arrival: arrival.point == "after trial.json", process), process.output.read_text()
        subprocess.run(["mount", "-o", "remount,ro", project], check=True)  # no file is open for writing
    status, out = process.wait(LONG), process.output.read_text()
    assert status == 1, out
    (line,) = [line for line in out.splitlines() if line.startswith("error: ")]
    assert out.endswith(line + "\n")
    assert "Read-only file system" in line
    assert "give the right to write" in line
    assert whole(project)
    subprocess.run(["mount", "-o", "remount,rw", project], check=True)
    process = start(script, *arguments)
    assert process.wait(LONG) == 0, process.output.read_text()
    assert trials(tmp_path / "results") == trials(left_alone[1])


# What changed since the search began

SPACES = {
    "batch_size's values": ('hp.Choice("batch_size", [64, 128, 256, 512])', 'hp.Choice("batch_size", [64, 128, 256])'),
    "a long list": ("[64, 128, 256, 512]", "[128, 256, 512, 1024, 2048]"),
    "learning_rate's range": ("1e-3, 1.0", "1e-3, 0.5"),
    "learning_rate's sampling": (', sampling="log")', ")"),
    "more": ("layers = [", 'hp.Boolean("more")\nlayers = ['),
    "the batch size is gone": ('hp.Choice("batch_size", [64, 128, 256, 512])', "pass"),
}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("batch_size's values", "batch_size: values was [64, 128, 256, 512] and is now [64, 128, 256]"),
        ("learning_rate's range", "learning_rate: max_value was 1.0 and is now 0.5"),
        ("learning_rate's sampling", "learning_rate: sampling was log and is now linear"),
        ("more", "more is new in the space"),
        ("a long list", "batch_size: values now has 1024, 2048 and no longer has 64"),
        ("the batch size is gone", "batch_size is no longer in the space"),
    ],
)
def test_a_changed_space_is_refused_item_by_item(copied, small_data, change, says):
    script, results = copied
    interrupt(results)
    before, after = SPACES[change]
    text = script.read_text()
    before, after = (textwrap.indent(part, " " * 8).lstrip() for part in (before, after))
    assert before in text
    text = text.replace(before, after)
    if change == "the batch size is gone":
        text = text.replace("start={'batch_size': 128, ", "start={").replace('sweeps=("batch_size",)', "sweeps=()")
    script.write_text(text)
    process = start(script, "search", *BUDGET, "--workers", 0, "--data", small_data)
    status, out = process.wait(LONG), process.output.read_text()
    assert status == 2, out
    assert says in out
    assert "--fresh" in out


def test_changed_data_objective_and_budget_are_refused_in_one_line(copied, small_data, tmp_path):
    script, _ = copied
    script.write_text(script.read_text().replace("max_epochs=9,", 'max_epochs=9, objective="val_loss",'))
    with np.load(small_data) as archive:
        arrays = dict(archive)
    arrays["y_train"] = arrays["y_train"][::-1].copy()
    np.savez(tmp_path / "other.npz", **arrays)
    out = run(script, "search", "--max-epochs", 4, "--data", tmp_path / "other.npz", status=2)
    assert "max_epochs was 3 and is now 4" in out
    assert re.search(r"data was \w{12}… and is now \w{12}…", out)
    assert "objective was val_accuracy and is now val_loss" in out
    assert errors(out) == 1


@pytest.mark.parametrize("complete", [True, False])
def test_changed_source_and_libraries_are_noted(copied, left_alone, search_quickly, complete):
    script, results = copied
    if not complete:
        interrupt(results)
    path = results / "small" / "run.json"
    record = json.loads(path.read_text())
    record["steps"]["search"]["versions"]["keras"] = "3.14.0"
    path.write_text(json.dumps(files.seal(record)))
    script.write_text(script.read_text() + "\n# a remark\n")
    status, out = search_quickly(script)
    assert status == 0, out
    assert "Note: keras was 3.14.0 when this began and is now 3.15" in out
    assert "Note: the code changed since this began" in out
    assert trials(results) == trials(left_alone[1])


# Strange places

JUMPS = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <sys/time.h>
#include <time.h>
/* the wall clock is set a day on and a day back again, ten times a second; the monotonic one is left alone */
static time_t set_on(void) {
    struct timespec now;
    int (*real)(clockid_t, struct timespec *) = dlsym(RTLD_NEXT, "clock_gettime");
    real(CLOCK_MONOTONIC, &now);
    return now.tv_nsec / 50000000 % 2 * 86400;
}
int clock_gettime(clockid_t clock, struct timespec *now) {
    int (*real)(clockid_t, struct timespec *) = dlsym(RTLD_NEXT, "clock_gettime");
    int status = real(clock, now);
    if (clock == CLOCK_REALTIME) now->tv_sec += set_on();
    return status;
}
int gettimeofday(struct timeval *now, void *zone) {
    struct timespec precise;
    clock_gettime(CLOCK_REALTIME, &precise);
    now->tv_sec = precise.tv_sec;
    now->tv_usec = precise.tv_nsec / 1000;
    return 0;
}
time_t time(time_t *now) {
    struct timespec precise;
    clock_gettime(CLOCK_REALTIME, &precise);
    if (now) *now = precise.tv_sec;
    return precise.tv_sec;
}
"""


@pytest.mark.slow
def test_clock_locale_path_and_file_system_change_nothing(left_alone, small_data, tmp_path, monkeypatch):
    """A wall clock that is set on and back, no locale, a path with spaces and accents, results in memory: all at once."""
    memory = Path("/dev/shm")
    other = memory if memory.is_dir() and os.access(memory, os.W_OK) else tmp_path
    folder = tmp_path / "Übung eins und fünf"
    script = logged_exercise(folder)
    results = other / f"ergebnisse für alle {os.getpid()}"
    if shutil.which("cc"):
        (tmp_path / "jumps.c").write_text(JUMPS)
        library = tmp_path / "jumps.so"
        subprocess.run(["cc", "-shared", "-fPIC", "-o", library, tmp_path / "jumps.c", "-ldl"], check=True)
        monkeypatch.setenv("LD_PRELOAD", str(library))
        code = "import time\nbegan = time.time()\nwhile abs(time.time() - began) < 43200: pass"
        subprocess.run([sys.executable, "-c", code], check=True, timeout=LONG)
    for name, value in {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}.items():
        monkeypatch.setenv(name, value)
    try:
        options = ("--workers", 2, "--data", small_data, "--results", results)
        run(script, *BUDGET, "--epochs", 1, "--seeds", 1, *options, fresh=True)
        assert trials(results) == trials(left_alone[1])
        assert (results / "small" / "report.html").stat().st_size > 0
        assert "used as it is" in run(script, "search", *BUDGET, *options, fresh=True)
    finally:
        shutil.rmtree(results)


def test_a_name_that_is_no_text_ends_no_search(left_alone, small_data, tmp_path):
    results = Path(os.fsdecode(os.fsencode(tmp_path) + b"/r\xe9sultats"))
    script = logged_exercise(tmp_path)
    process = start(script, "search", *BUDGET, "--workers", 0, "--data", small_data, "--results", results)
    assert process.wait(LONG) == 0, process.output.read_text()
    assert trials(results) == trials(left_alone[1])


# Exact continuation in another process

CONTINUED = """
hidden = keras.layers.Dense(16, activation="relu")
optimizer = keras.optimizers.get(hp.Choice("optimizer", {optimizers}))
hp.Choice("batch_size", [512])
layers = [keras.layers.Rescaling(1 / 255), keras.layers.Flatten(), hidden]
if hp.Choice("kind", ["random", "plain"]) == "random":  # which XLA does not train
    layers += [keras.layers.BatchNormalization(), keras.layers.Dropout(0.3)]
layers.append(keras.layers.Dense(10, activation="softmax"))
model = keras.Sequential([keras.Input((28, 28)), *layers])
model.compile(optimizer, loss="sparse_categorical_crossentropy", metrics=["accuracy"])
return model
"""
TRAIN = """
import sys
from pathlib import Path
import search.workers.runtime
from search.lab import data as labs, exercise, session
from search.workers.trial import Job, run
from search.training import program as trainers
script, data, folder, epochs, *kinds = sys.argv[1:]
problem = session.problem(exercise.load(Path(script)), labs.load(data))
for kind in kinds:
    values = {"optimizer": kind.split()[0], "kind": kind.split()[1], "batch_size": 512}
    state, last = (Path(folder, kind, f"{reached}.npz") for reached in (epochs, 1))
    job = Job("t", values, (0, 7), int(epochs), (1, 3), state, last, int(epochs) // 3, xla_break_even=90.0)
    outcome = run(problem, job)
    through_xla = any(kind[0] == "xla" for kind, *_ in trainers._shared)
    assert through_xla == (epochs == "3"), "XLA trains the second stretch of the plain one, which is the first"
    assert outcome.completed and not outcome.message, outcome
"""


def ending(state):
    """Every array of a state, to the bit, and its whole history; not which call of ``fit`` came there."""
    with np.load(state) as archive:
        arrays = {name: archive[name].tobytes() for name in archive.files if name != "header"}
    return arrays, header(state)["history"], header(state)["identity"]


@pytest.mark.slow
def test_every_optimizer_goes_on_in_another_process_bit_for_bit(small_data, tmp_path):
    import search_hidden
    import search_multiclass
    import search_single

    optimizers = sorted({name for lab in (search_single, search_hidden, search_multiclass) for name in lab.OPTIMIZERS})
    script = write_exercise(tmp_path, CONTINUED.replace("{optimizers}", repr(optimizers)), start="{'batch_size': 512}")
    script.write_text(script.read_text().replace('task="zero"', 'task="digits"'))

    kinds = ["adam plain", *(f"{optimizer} random" for optimizer in optimizers)]

    train_them = tmp_path / "train_them.py"
    train_them.write_text(TRAIN)

    def train(folder, epochs):
        return command(train_them, script, small_data, tmp_path / folder, epochs, *kinds)

    def end(process):
        out, err = process.communicate(LONG)
        assert process.returncode == 0, out + err

    through = train("through", 3)
    end(train("continued", 1))
    end(train("continued", 3))
    end(through)
    for kind in kinds:
        one, other = (ending(tmp_path / folder / kind / "3.npz") for folder in ("continued", "through"))
        assert one == other, kind
        state = header(tmp_path / "through" / kind / "3.npz")
        assert len(state["history"]["loss"]) == 3


# Kills


@pytest.mark.long
def test_killed_twenty_times_over_it_ends_as_the_one_left_alone(search_quickly, small_data, tmp_path):
    budget = ("--max-epochs", 9)
    alone = logged_exercise(tmp_path / "alone")
    assert search_quickly(alone, budget=budget)[0] == 0
    storm = Storm()
    script = logged_exercise(tmp_path / "killed")
    arguments = (*budget, "--workers", 0, "--data", small_data)
    storm.run(script, arguments, script.parent / "results", planned(random.Random(0), 20))
    assert trials(script.parent / "results") == trials(alone.parent / "results")
    assert storm.kills == 20
    assert set(storm.points) >= {*EARLY, *MIDDLE, *LATE}
    assert (storm.lost, storm.repeated) == (0, 0)


@pytest.mark.long
def test_killed_with_two_workers_it_ends_as_the_one_left_alone(left_alone, small_data, tmp_path):
    storm = Storm()
    script = logged_exercise(tmp_path)
    arguments = (*BUDGET, "--workers", 2, "--data", small_data)
    storm.run(script, arguments, tmp_path / "results", planned(random.Random(1), 2, 2))
    assert trials(tmp_path / "results") == trials(left_alone[1])
    assert storm.kills >= 2
    assert storm.worker_kills == 2
    assert (storm.lost, storm.repeated) == (0, 0)


@pytest.mark.slow
def test_killed_two_hundred_times_over_it_ends_as_the_one_left_alone(search_quickly, small_data, tmp_path):
    budget = ("--max-epochs", 9)
    alone = logged_exercise(tmp_path / "alone")
    assert search_quickly(alone, budget=budget)[0] == 0
    for workers_asked, rounds, drivers, of_workers in ((0, 5, 20, 0), (1, 5, 5, 5), (2, 5, 5, 5)):
        storm = Storm()
        for round in range(rounds):
            script = logged_exercise(tmp_path / f"{workers_asked} killed {round}")
            arguments = (*budget, "--workers", workers_asked, "--data", small_data)
            plan = planned(random.Random(100 * workers_asked + round), drivers, of_workers)
            storm.run(script, arguments, script.parent / "results", plan)
            assert trials(script.parent / "results") == trials(alone.parent / "results")
        print(
            f"\n--workers {workers_asked}: {rounds} searches, {storm.kills} kills of the driver, {storm.worker_kills} of a worker, "
            f"{storm.trials} trials, {storm.lost} lost, {storm.epochs} epochs trained, {storm.repeated} of them again"
        )
        assert storm.kills >= rounds * drivers
        assert storm.worker_kills == rounds * of_workers
        assert (storm.lost, storm.repeated) == (0, 0)


def test_a_worker_killed_while_it_starts_is_replaced(small_data, tmp_path):
    """pebble's pool broke for good when a worker died without a task."""
    script = logged_exercise(tmp_path)
    with Gates(tmp_path) as gates:
        process = command(script, "search", *BUDGET, "--workers", 2, "--data", small_data)
        for _ in range(2):
            starting = gates.until(lambda arrival: arrival.point == "worker begins", process)
            assert starting is not None, process.communicate()
            os.kill(starting.pid, signal.SIGKILL)
    out, err = process.communicate()
    assert process.returncode == 0, out + err
    assert {row["status"] for row in trials(tmp_path / "results")} == {"COMPLETED"}


@pytest.mark.long
def test_a_search_whose_workers_never_start_ends_and_says_so(small_data, tmp_path):
    script = write_exercise(tmp_path, NEURON)
    custom = tmp_path / "custom" / "sitecustomize.py"  # of the server that forks the workers
    custom.parent.mkdir()
    custom.write_text(
        "import os, sys\nif 'forkserver' in str(sys.orig_argv):\n    os.register_at_fork(after_in_child=os.abort)"
    )
    path = f"import os\nos.environ['PYTHONPATH'] = {str(custom.parent)!r} + ':' + os.environ['PYTHONPATH']\n"
    script.write_text(path + script.read_text())
    out = run(script, "search", *BUDGET, "--workers", 1, "--data", small_data, status=1, fresh=True)
    assert "no worker can be started: the worker died while it started (SIGABRT)" in out.splitlines()[-1]


def test_deaths_while_starting_use_up_no_retry():
    def lost(starting):
        future = Future()
        future.set_exception(WorkerLost("the worker died", starting))
        return future

    losses = DeadWorkers()
    assert [result(lost(starting), losses) for starting in (True, True, True, False, False)] == [None] * 5
    assert result(lost(False), losses).message == "the worker died, 3 times"


BUSY = """
    def fit(self, hp, model, *args, callbacks=(), **kwargs):
        import pathlib, signal, time
        import keras

        here, heard = pathlib.Path(__file__).parent, []
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if callable(handler := signal.getsignal(number)):
                signal.signal(number, lambda *received, handler=handler: [handler(*received), heard.append(1)])

        class Busy(keras.callbacks.Callback):
            def get_state(self):
                return None  # it remembers nothing

            def set_state(self, state):
                pass

            def on_epoch_end(self, epoch, logs=None):
                if kwargs["epochs"] == 3 and here.joinpath("hold").exists():
                    here.joinpath(f"busy {os.getpid()}").touch()
                    while not heard:
                        time.sleep(0.02)

        # before the callback that writes the state
        return super().fit(hp, model, *args, callbacks=[Busy(), *callbacks], **kwargs)

EXERCISE = """


@pytest.fixture
def busy(tmp_path):
    """An exercise whose trials train for 3 epochs; while a file ``hold`` is there, the first does not end before a signal came."""
    script = write_exercise(tmp_path, NEURON)
    script.write_text("import os\n" + script.read_text().replace("EXERCISE = ", BUSY.lstrip("\n"), 1))
    (tmp_path / "hold").touch()
    return script


def are_busy(script, process, count):
    """The processes that are, when so many are."""
    assert comes_true(lambda: process.poll() is not None or len(list(script.parent.glob("busy *"))) == count)
    assert process.poll() is None, process.communicate()
    return [int(path.name.removeprefix("busy ")) for path in script.parent.glob("busy *")]


def test_workers_that_train_end_with_a_driver_that_is_killed(busy, small_data):
    """They watched the server they were forked from, which lives as long as they do."""
    arguments = ("search", "--tuner", "random", "--trials", 2, "--max-epochs", 3, "--workers", 2, "--data", small_data)
    process = command(busy, *arguments)
    found = are_busy(busy, process, 2)
    process.kill()
    process.wait(LONG)
    assert comes_true(lambda: not any(Path("/proc", str(pid)).exists() for pid in found))


@pytest.mark.long
@pytest.mark.parametrize(
    ("workers", "number"), [(2, signal.SIGINT), (2, signal.SIGTERM), (2, signal.SIGHUP), (0, signal.SIGINT)]
)
def test_interrupted_with_its_whole_group_it_saves_the_epoch_under_way_and_goes_on(busy, small_data, workers, number):
    """The server of the workers died of SIGTERM, and they with it; without workers nothing was saved."""
    arguments = ("search", "--tuner", "random", "--trials", 1, "--max-epochs", 3, "--data", small_data)
    process = command(busy, *arguments, "--workers", workers)
    are_busy(busy, process, 1)
    os.killpg(process.pid, number)
    out, err = process.communicate(timeout=LONG)
    assert process.returncode == 128 + number, out + err
    assert len(err.strip().splitlines()) == 1
    assert "run the same command again to go on from here" in err
    assert none_left(process.pid)
    (state,) = busy.parent.glob("results/small/search/trial_*/state.npz")
    assert len(header(state)["history"]["loss"]) == 1  # of 3 epochs
    assert not state.with_name("trial.json").exists()
    (busy.parent / "hold").unlink()
    assert "Going on with the search that was interrupted" in run(busy, *arguments, "--workers", 0)


def test_nohup_keeps_its_promise(small_data, tmp_path):
    script = logged_exercise(tmp_path)
    with Gates(tmp_path) as gates:
        ignored = [signal.SIGHUP]
        process = command(script, "search", *BUDGET, "--workers", 0, "--data", small_data, ignored=ignored)
        assert gates.until(lambda arrival: arrival.point == "epoch ends", process), process.communicate()
        process.send_signal(signal.SIGHUP)
    out, err = process.communicate(timeout=LONG)
    assert process.returncode == 0, out + err


def test_a_free_worker_takes_the_oldest_job_whose_program_it_has(monkeypatch, neuron, tmp_path):
    """Half of the promoted trials were compiled again, by the worker that had not trained them before."""
    ran: dict[object, list[str]] = {}
    may_end = {name: threading.Event() for name in ("tanh", "relu", "relu again", "gelu", "tanh again")}

    class Worker:
        def __init__(self, *_):
            ran[self] = []

        def alive(self):
            return True

        def run(self, sent, job, *_):
            ran[self].append(job.name)
            may_end[job.name].wait(LONG)
            return Outcome(True)

        def stop(self):
            pass

    def submit(name):
        values = {"activation": name.split()[0], "learning_rate": 0.1 * len(futures), "batch_size": len(futures)}
        futures[name] = pool.submit(Job(name, values, (0,), 1, (1,), tmp_path / "state.npz"))

    def end(name):
        may_end[name].set()
        futures[name].result(timeout=LONG)

    monkeypatch.setattr(local_workers, "_Worker", Worker)
    pool, futures = LocalPool(2, tmp_path), {}
    for name in may_end:
        submit(name)
        while name in ("tanh", "relu") and [name] not in ran.values():
            time.sleep(0.01)
    for name in ("tanh", "tanh again", "relu", "relu again", "gelu"):
        end(name)
    pool.close()
    assert sorted(ran.values()) == [["relu", "relu again"], ["tanh", "tanh again", "gelu"]]


# Security


def listening(processes):
    """The TCP ports on which one of the processes listens."""
    inodes = set()
    for pid in processes:
        for link in Path(f"/proc/{pid}/fd").glob("*"):
            with contextlib.suppress(OSError):
                inodes.update(re.findall(r"socket:\[(\d+)\]", os.readlink(link)))
    ports = set()
    for table in ("tcp", "tcp6"):
        with contextlib.suppress(FileNotFoundError):
            rows = [line.split() for line in Path("/proc/net", table).read_text().splitlines()[1:]]
            ports |= {int(row[1].rpartition(":")[2], 16) for row in rows if row[3] == "0A" and row[9] in inodes}
    return ports


def watch_ports(process, ports, sizes):
    """Collects the ports on which a process of the search listens, and how many processes it has."""
    while process.poll() is None:
        processes = family(process.pid)
        ports |= listening(processes)
        sizes.append(len(processes))
        time.sleep(0.2)


# A worker that dies, hangs or runs out of memory; a configuration that diverges or cannot be built

KINDS = """
kind = hp.Choice("kind", {kinds})
if kind == "too large":
    hidden = [keras.layers.Dense(10**11)]
elif kind == "diverges":
    hidden = [keras.layers.Rescaling(1e30), keras.layers.Dense(4)]
else:
    hidden = []

class Full(keras.optimizers.SGD):
    def build(self, variables):
        raise MemoryError("no room for the moments")

optimizer = (Full if kind == "no room" else keras.optimizers.SGD)(0.001, momentum=0.9)
metrics = [] if kind == "no metric" else ["accuracy"]
layers = [keras.layers.Rescaling(1 / 255), keras.layers.Flatten(), *hidden, keras.layers.Dense(1)]
model = keras.Sequential([keras.Input((28, 28)), *layers])
model.compile(optimizer, loss="mse", metrics=metrics)
return model
"""
HARM = r"""
import ctypes, os, resource, signal, sys, time
import multiprocessing
from pathlib import Path

HERE = Path(__file__).parent


def out_of_memory():
    if os.environ.get("TIGHT"):  # the kernel kills it
        Path(os.environ["TIGHT"], "cgroup.procs").write_text(str(os.getpid()))
    else:
        resource.setrlimit(resource.RLIMIT_AS, (2**28, resource.getrlimit(resource.RLIMIT_AS)[1]))
    hoard = []
    for _ in range(40):
        hoard.append(b"x" * 2**24)


HARMS = {
    "killed": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "segfault": lambda: ctypes.string_at(0),
    "hangs": lambda: time.sleep(1000),
    "out of memory": out_of_memory,
    "exits": lambda: os._exit(0),
    "missing file": lambda: open("nowhere"),
    "ended": lambda: os.kill(os.getpid(), signal.SIGTERM),
}


class Small(HyperModel):
    def fit(self, hp, model, *args, callbacks=(), **kwargs):
        import keras
        import search.training.fit

        search.training.fit.SECONDS_BETWEEN_STATES = 0  # a state an epoch, in the worker
        kind = hp.values["kind"]
        harm = HARMS.get(kind.removesuffix(" once"), lambda: None)
        mark = HERE / f"{kind}.done"

        class Remembering(keras.callbacks.Callback):
            def get_state(self):
                return None  # nothing, so that the training goes on from its last state

            def set_state(self, state):
                pass

        class Log(Remembering):
            def on_epoch_end(self, epoch, logs=None):
                with open(HERE / "epochs.log", "a") as file:
                    file.write(f"{kind}: {epoch + 1}\n")

        class Harm(Remembering):
            def on_epoch_begin(self, epoch, logs=None):
                if epoch == 2 and not mark.exists():  # the state of the second epoch has been written
                    if kind.endswith(" once"):
                        mark.touch()
                    harm()

        return super().fit(hp, model, *args, callbacks=[Log(), *callbacks, Harm()], **kwargs)

"""
ONCE = ["killed once", "segfault once", "exits once", "ended once", "hangs once"]
ALWAYS = ["killed", "segfault", "hangs", "out of memory", "exits", "diverges", "too large"]
ALWAYS += ["no room", "no metric", "missing file"]
SECONDS = 30  # TensorFlow looks for memory for ten before it gives up; every other trial takes one or two where nothing else runs


@pytest.fixture(scope="module")
def tight():
    """A memory cgroup of 64 MiB, where the machine lets us make one."""
    folder = Path("/sys/fs/cgroup/memory", f"test-faults-{os.getpid()}")
    try:
        folder.mkdir()
        (folder / "memory.limit_in_bytes").write_text(str(2**26))
    except OSError:
        yield None
        return
    yield folder
    for _ in range(50):
        with contextlib.suppress(OSError):
            folder.rmdir()
            return
        time.sleep(0.1)


@pytest.fixture(scope="module", autouse=True)
def harming(request, tmp_path_factory, small_data, tight):
    """A search in which nearly everything goes wrong. It sleeps a lot, so it begins before the other tests, which run meanwhile."""
    if not any("harmed" in item.fixturenames for item in request.session.items):
        yield None
        return
    kinds = ["fine", *ONCE, *ALWAYS]
    script = write_exercise(
        tmp_path_factory.mktemp("harmed"),
        KINDS.replace("{kinds}", repr(kinds)),
        start="{'kind': 'fine'}",
        extra=f"trial_seconds={SECONDS}",
    )
    text = script.read_text().replace("class Small(HyperModel):\n", HARM.lstrip(), 1)
    script.write_text(text.replace('sweeps=("batch_size",)', 'sweeps=("kind",)'))
    arguments = ("search", "--tuner", "random", "--trials", 50, "--max-epochs", 4, "--workers", 2, "--data", small_data)
    with pytest.MonkeyPatch.context() as patch:
        if tight:
            patch.setenv("TIGHT", str(tight))
        process = command(script, *arguments, fresh=True)
    ports, sizes = set(), [0]
    watching = threading.Thread(target=watch_ports, args=(process, ports, sizes))
    watching.start()
    yield script, process, watching, ports, sizes
    process.terminate()
    process.communicate()
    watching.join()


@pytest.fixture(scope="module")
def harmed(harming):
    """What it left: its rows by kind, the epochs trained by kind, what was printed, its folder."""
    script, process, _, _, _ = harming
    out, err = process.communicate(timeout=2 * LONG)
    assert process.returncode == 0, out + err
    rows = {row["hp.kind"]: row for row in trials(script.parent / "results")}
    epochs = {}
    for line in (script.parent / "epochs.log").read_text().splitlines():
        kind, _, epoch = line.partition(": ")
        epochs.setdefault(kind, []).append(int(epoch))
    return rows, epochs, out, script.parent / "results" / "small"


@pytest.mark.long
def test_a_small_space_is_tried_to_its_end_and_the_search_says_so(harmed):
    rows, _, out, _ = harmed
    assert set(rows) == {"fine", *ONCE, *ALWAYS}
    count = len(rows)
    assert f"The space is exhausted: every one of its configurations has been tried ({count} trials)" in out


@pytest.mark.long
@pytest.mark.parametrize("kind", ONCE)
def test_a_trial_whose_worker_is_lost_goes_on_from_its_last_state(harmed, kind):
    rows, epochs, _, _ = harmed
    assert rows[kind]["status"] == "COMPLETED"
    assert epochs[kind] == [1, 2, 3, 4]  # none of them twice
    scores = ("best_epoch", "val_accuracy", "val_loss", "accuracy", "loss", "message")
    assert rows[kind]["message"] == ""
    assert float(rows[kind]["loss"]) < 10
    assert all(rows[kind][score] != "" for score in scores[:-1])


@pytest.mark.long
@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("killed", "the worker died (SIGKILL, as when memory runs out), 3 times"),
        ("segfault", "the worker died (SIGSEGV), 3 times"),
        ("exits", "the worker died (exit code 0), 3 times"),
        ("hangs", f"it overran its time limit of {SECONDS} s, 3 times"),
        ("diverges", "diverged: the loss is "),
        ("too large", "build: ResourceExhaustedError: "),
        ("no room", "fit: MemoryError: no room for the moments"),
        ("no metric", "the objective val_accuracy is not among the model's metrics (loss, val_loss)"),
        ("missing file", "fit: FileNotFoundError: "),
    ],
)
def test_a_trial_that_cannot_end_is_marked_failed_with_its_reason(harmed, kind, says):
    rows, epochs, _, _ = harmed
    assert rows[kind]["status"] == "FAILED"
    assert rows[kind]["message"].startswith(says)
    if kind in ("killed", "segfault", "exits", "hangs"):
        assert epochs[kind] == [1, 2]  # the state has the second epoch: each retry ends where it would be trained on


@pytest.mark.long
def test_a_trial_that_takes_more_memory_than_there_is_fails_alone(harmed, tight):
    rows, _, _, _ = harmed
    says = "the worker died (SIGKILL, as when memory runs out), 3 times" if tight else "fit: MemoryError"
    assert (rows["out of memory"]["status"], rows["out of memory"]["message"]) == ("FAILED", says)


@pytest.mark.long
def test_a_failed_trial_is_never_the_best(harmed):
    rows, _, _, folder = harmed
    best = json.loads((folder / "best.json").read_text())
    assert rows[best["hyperparameters"]["kind"]]["status"] == "COMPLETED"


@pytest.mark.long
def test_no_process_of_a_search_listens_on_a_port(harmed, harming):
    _, _, watching, ports, sizes = harming
    with socket.create_server(("127.0.0.1", 0)) as one:
        assert listening([os.getpid()]) >= {one.getsockname()[1]}
    watching.join()
    assert max(sizes) >= 4  # the driver, the server, two workers
    assert ports == set()
