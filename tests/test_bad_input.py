"""Wrong requests through the real command line: one line that helps, the right status, nothing half-written.

A table for each kind of request; all their rows are cases of one test. The cases are run a few at a time ahead of it,
as forks of a process that has imported the libraries. Those that need no TensorFlow run with modules in its place that
end the process when they are imported.
"""

import gzip
import json
import os
import pickle
import shlex
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from search import files
from search.lab import data
from tests.conftest import COMMANDS, LONG, NEURON, ROOT, write_exercise
from tests.preloaded import Preloaded

SINGLE = str(ROOT / "search_single.py")
LOCK = frozenset({".lock", ".lock-holder.json"})


def tree(folder):
    """Every path below ``folder`` with its content; folders, which may be empty, are left out."""
    return {
        path.relative_to(folder): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
        if "__pycache__" not in path.parts and (path.is_symlink() or not path.is_dir())
    }


@dataclass(frozen=True)
class Case:
    """A request and what must come of it.

    Attributes:
        arrange: makes the files in the folder the request is made from; what it returns joins the arguments.
        says: what the line holds.
        leaves: file names that may appear.
    """

    id: str
    arguments: Sequence[str | bytes]
    says: str | Sequence[str]
    status: int = 2
    arrange: Callable[[Path], str | Path | None] = lambda folder: None
    tensorflow: bool = False
    leaves: frozenset[str] = frozenset()
    environment: Mapping[str, str] = field(default_factory=dict)

    def ask(self, folder, light):
        """Makes the request, and returns how it ended and which files differ from before."""
        more = self.arrange(folder)
        before = tree(folder)
        server = COMMANDS if self.tensorflow else light
        path = [ROOT] if self.tensorflow else [light.folder, ROOT]
        environment = {"PYTHONPATH": os.pathsep.join(map(str, path)), **self.environment}
        process = server.start([*self.arguments, *([] if more is None else [more])], folder, **environment)
        process.communicate(LONG)
        after = tree(folder)
        differ = {path for path in before.keys() | after.keys() if before.get(path, 0) != after.get(path, 0)}
        return process, {str(path) for path in differ}

    def check(self, process, differ):
        out, err = process.communicate()
        seen = f"status {process.returncode}\n{out}\n{err}"
        assert "Traceback" not in out + err, seen
        assert process.returncode == self.status, seen
        assert len(err.splitlines()) == 1, seen
        assert err.startswith("error: "), seen
        assert err.endswith("\n"), seen
        assert len(out.splitlines()) <= 1, seen  # what is happening, said before the slow checks
        for fragment in [self.says] if isinstance(self.says, str) else self.says:
            assert fragment in err, f"{fragment!r} is not in {err!r}"
        assert not {path for path in differ if Path(path).name not in self.leaves}, f"left behind or changed: {differ}"


COMMAND_LINES = [
    ("nonsense", "No such command 'nonsense'"),
    ("SEARCH", "No such command 'SEARCH'"),
    ("''", "No such command ''"),
    ("'sea\nrch'", "No such command"),
    ("--nonsense", "No such option"),
    ("--tun random", ["No such option", "--tuner"]),
    ("-x", "No such option"),
    ("--fresh=yes", ["--fresh", "does not take a value"]),
    ("--quick=1", ["--quick", "does not take a value"]),
    ("--max-epochs", ["--max-epochs", "requires an argument"]),
    ("--results", ["--results", "requires an argument"]),
    ("--max-epochs 0", ["--max-epochs", "0 is not in the range 1<=x<=10000"]),
    ("--max-epochs -1", ["--max-epochs", "-1 is not in the range"]),
    ("--max-epochs 10001", ["--max-epochs", "10001 is not in the range"]),
    ("--max-epochs ten", ["--max-epochs", "'ten' is not a valid integer"]),
    ("--max-epochs 2.5", ["--max-epochs", "'2.5' is not a valid integer"]),
    ("--max-epochs ''", ["--max-epochs", "'' is not a valid integer"]),
    ("--tuner bayesian", ["--tuner", "'bayesian' is not one of 'hyperband', 'random'"]),
    ("--tuner ''", ["--tuner", "'' is not one of"]),
    ("--trials 5", "--trials is for --tuner random"),
    ("search --tuner hyperband --trials 5", "--trials is for --tuner random"),
    ("--tuner random --trials 0", ["--trials", "0 is not in the range 1<=x"]),
    ("--tuner random --trials many", ["--trials", "'many' is not a valid integer"]),
    ("--tuner random --trials 1000001", ["--trials", "1000001 is not in the range"]),
    ("--epochs 0", ["--epochs", "0 is not in the range"]),
    ("--epochs 1e3", ["--epochs", "'1e3' is not a valid integer"]),
    ("--epochs nan", ["--epochs", "'nan' is not a valid integer"]),
    ("--epochs 100001", ["--epochs", "100001 is not in the range"]),
    ("--seeds 0", ["--seeds", "0 is not in the range"]),
    ("--seeds -2", ["--seeds", "-2 is not in the range"]),
    ("--seeds 1001", ["--seeds", "1001 is not in the range"]),
    ("--workers -1", ["--workers", "-1 is not in the range 0<=x"]),
    ("--workers two", ["--workers", "'two' is not a valid integer"]),
    ("--workers 1025", ["--workers", "1025 is not in the range"]),
    ("--workers 0x2", ["--workers", "'0x2' is not a valid integer"]),
    ("--seed -1", ["--seed", "-1 is not in the range 0<=x<=2147483647"]),
    ("--seed 2147483648", ["--seed", "2147483648 is not in the range"]),
    ("--seed abc", ["--seed", "'abc' is not a valid integer"]),
    ("--seed 1.0", ["--seed", "'1.0' is not a valid integer"]),
    ("search --epochs 3", ["No such option --epochs", "search_single.py search takes --tuner"]),
    ("search --seeds 2", ["No such option --seeds", "search_single.py search takes --"]),
    ("search --csv", ["No such option --csv", "search_single.py search takes --"]),
    ("search --from best", ["No such option --from", "search_single.py search takes --"]),
    (
        "summary --tuner random",
        ["No such option --tuner", "search_single.py summary takes --results, --quick, --csv, --json"],
    ),
    ("summary --fresh", ["No such option --fresh", "search_single.py summary takes --"]),
    ("summary --data x.npz", ["No such option --data", "search_single.py summary takes --"]),
    ("--quick search", ["--quick stands before search", "search --help"]),
    ("--seed 3 retrain", "--seed stands before retrain"),
    ("summary --workers 2", ["No such option --workers", "search_single.py summary takes --"]),
    ("summary --csv --json", "--csv and --json were both given; expected one"),
    ("retrain --tuner random", ["No such option --tuner", "search_single.py retrain takes --"]),
    ("retrain --max-epochs 9", ["No such option --max-epochs", "search_single.py retrain takes --"]),
    ("retrain --fresh", ["No such option --fresh", "search_single.py retrain takes --"]),
    ("retrain --json", ["No such option --json", "search_single.py retrain takes --"]),
    ("report --seed 1", ["No such option --seed", "search_single.py report takes --results"]),
    ("report --csv", ["No such option --csv", "search_single.py report takes --"]),
    ("sweep batch_size --tuner random", ["No such option --tuner", "search_single.py sweep takes --"]),
    ("sweep batch_size --fresh", ["No such option --fresh", "search_single.py sweep takes --"]),
    ("sweep batch_size --from middle", ["--from", "'middle' is not one of 'start', 'best'"]),
    ("--from best", "No such option --from"),
    ("--csv", "No such option --csv"),
    ("sweep", ["Missing argument 'NAME'", "see `python search_single.py sweep --help`"]),
    ("sweep ''", "'' names no hyper-parameter; expected a name, as in `sweep batch_size`"),
    ("sweep batch_size optimizer", "unexpected extra argument (optimizer)"),
    ("summary single", "unexpected extra argument (single)"),
    ("search batch_size", "unexpected extra argument (batch_size)"),
    ("retrain single", "unexpected extra argument (single)"),
    ("report all", "unexpected extra argument (all)"),
    ("ablation units", "unexpected extra argument (units)"),
    ("ablation --from best", ["No such option --from", "search_single.py ablation takes --"]),
    ("batch_size sweep", "No such command 'batch_size'"),
    ("search --results ''", "--results"),
    ("summary", "holds no search; run `python search_single.py search` first", 1),
    ("summary --csv", "holds no search", 1),
    ("summary --json --results nowhere", "nowhere/single holds no search", 1),
    ("report", "holds no results; run `python search_single.py` first", 1),
]


CASES = [Case(f"single {row[0]}", [SINGLE, *shlex.split(row[0])], *row[1:]) for row in COMMAND_LINES]
CASES.append(Case("single, not text", [SINGLE, b"sea\xffrch"], "No such command"))
CASES += [
    Case(f"unsearched: {verb}", [SINGLE, *verb.split()], "run `python search_single.py search` first", 1, leaves=LOCK)
    for verb in ("retrain", "ablation", "sweep batch_size --from best")
]

NAMES = [
    "doe_john",
    "DOE",
    "DOE-John",
    "DOE_JOHN",
    "DOE John",
    "DOE_",
    "_John",
    "Doe_John",
    "DOE_John_2",
    "../DOE_John",
]
NAMES += ["/tmp/DOE_John", "DOE_John/..", "DOE_John.tar.bz2", "D0E_John", "DOE_John\n", ""]
LAB_LINES = [
    ("nonsense", "No such command 'nonsense'"),
    ("--nonsense", "No such option"),
    ("--results x report", "No such option"),
    ("report extra", "does not exist"),
    ("report --csv", "No such option"),
    ("report --results", "requires an argument"),
    ("report", "results: no */run.json; expected a folder an exercise has run in; run 'make lab' first", 1),
    ("report --results nowhere", "nowhere: no */run.json", 1),
    ("archive", "Missing argument 'LASTNAME_firstname'"),
    ("archive DOE_John extra", "unexpected extra argument (extra)"),
    ("archive DOE_John", "results/report.html is not there; run `python -m search report` before the archive"),
    ("archive DOE_John --results nowhere", "nowhere/report.html is not there"),
    *(
        (f"archive {shlex.quote(name)}", "expected LASTNAME_firstname, the last name in capitals, as in DOE_John")
        for name in NAMES
    ),
]
CASES += [Case(f"lab {row[0]}", ["-m", "search", *shlex.split(row[0])], *row[1:]) for row in LAB_LINES]


def a_file(folder):
    (folder / "results").write_text("not a folder")
    return "results"


def a_file_for_the_exercise(folder):
    (folder / "results").mkdir()
    (folder / "results" / "single").write_text("not a folder")
    return "results"


def below_a_file(folder):
    return f"{a_file(folder)}/deeper"


def a_dangling_link(folder):
    (folder / "results").symlink_to(folder / "away" / "gone")
    (folder / "away").write_text("not a folder")
    return "results"


def a_loop(folder):
    (folder / "results").symlink_to("results")
    return "results"


def a_folder_for_the_lock(folder):
    (folder / "results" / "single" / ".lock").mkdir(parents=True)
    return "results"


UNWRITABLE = [
    ("a file", a_file),
    ("a file for the exercise", a_file_for_the_exercise),
    ("below a file", below_a_file),
    ("a dangling link", a_dangling_link),
    ("a loop of links", a_loop),
    ("a folder for the lock", a_folder_for_the_lock),
    ("below /proc", lambda folder: "/proc/results"),
    ("a device", lambda folder: "/dev/null"),
    ("a long name", lambda folder: "x" * 300),
]
CASES += [
    Case(
        f"results: {how}", [SINGLE, "search", "--results"], ["the results folder", "/single", "--results"], arrange=make
    )
    for how, make in UNWRITABLE
]
CASES += [
    Case(
        f"results: a file: {line}",
        [SINGLE, *line.split()],
        says,
        status,
        arrange=lambda folder: a_file(folder) and None,
    )
    for line, says, status in (
        ("retrain", "the results folder results/single cannot be written", 2),
        ("sweep batch_size", "the results folder results/single cannot be written", 2),
        ("--quick", "the results folder results/quick/single cannot be written", 2),
        ("search --fresh", "the results folder results/single cannot be written", 2),
        ("summary", "results/single", 1),
        ("report", "results/single", 1),
    )
]


@pytest.fixture
def holder(tmp_path):
    """A live process that holds the exercise's results folder."""
    code = "import sys, pathlib; from search import files\nwith files.locked(pathlib.Path(sys.argv[1]), '--results'): print(flush=True); sys.stdin.read()"
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "results" / "single")],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    process.stdout.readline()
    yield process
    process.communicate()


@pytest.mark.parametrize("line", ["search", "search --fresh", "retrain", "sweep batch_size", "--epochs 3"])
def test_results_folder_in_use(tmp_path, light, holder, line):
    says = [f"results/single is in use by process {holder.pid}", "wait for it, stop it, or give another --results"]
    case = Case(line, [SINGLE, *line.split()], says)
    case.check(*case.ask(tmp_path, light))


@pytest.mark.parametrize("damage", ["", "{", "[]", "null", '{"pid": 1}'])
def test_results_folder_in_use_by_who_knows(tmp_path, light, holder, damage):
    (tmp_path / "results" / "single" / ".lock-holder.json").write_text(damage)
    case = Case(damage, [SINGLE, "search"], "results/single is in use by another process")
    case.check(*case.ask(tmp_path, light))


SPACE = [
    {"name": "batch_size", "type": "Choice", "values": [16, 32], "min_value": None, "max_value": None},
    {"name": "learning_rate", "type": "Float", "values": None, "min_value": 1e-4, "max_value": 1.0},
]
for hp in SPACE:
    hp |= {"step": None, "sampling": "log" if hp["type"] == "Float" else None, "conditions": ""}
RUN = {
    "format": 1,
    "exercise": {
        "name": "single",
        "title": "A single sigmoid neuron",
        "question": "How well?",
        "task": "zero",
        "classes": ["not 0", "0"],
        "objective": "val_accuracy",
        "direction": "max",
        "start": {"batch_size": 32, "learning_rate": 0.01},
        "sweeps": ["batch_size"],
    },
    "data": {"source": "MNIST, embedded", "sha256": "ed" * 32, "train": 50000, "validation": 10000, "test": 10000},
    "steps": {
        "search": {
            "command": "python search_single.py search",
            "started": "2026-01-01T10:00:00+00:00",
            "workers": 2,
            "versions": {"python": "3.11.7", "tensorflow": "2.21.0"},
            "machine": {"system": "Linux", "processor": "AMD", "cores": 2, "memory_gib": 8.0},
            "source": "5f" * 32,
            "tuner": "hyperband",
            "max_epochs": 3,
            "trials": 0,
            "seed": 0,
            "space": SPACE,
            "factor": 3,
            "settings": {"tuner": "hyperband", "max_epochs": 3},
            "predicted_seconds": 5.0,
            "complete": True,
            "seconds": 12.0,
            "trials_run": 2,
            "epochs_trained": 4,
        }
    },
}
MNIST = data.load()
OF_MNIST = {**RUN, "steps": {"search": {**RUN["steps"]["search"], "settings": {"seed": 0, "data": MNIST.sha256}}}}
OF_MNIST["steps"]["search"]["settings"]["test_data"] = MNIST.test_sha256
TRIALS = """\
trial_id,status,bracket,round,promoted_from,initial_epoch,epochs,hp.batch_size,hp.learning_rate,best_epoch,val_accuracy,val_loss,accuracy,loss,seconds,message
0000,COMPLETED,1,0,,0,1,16,0.1,1,0.98,0.07,0.97,0.08,0.5,
0001,COMPLETED,1,1,0000,1,3,16,0.1,3,0.99,0.05,0.98,0.06,0.7,
0002,FAILED,1,0,,0,1,32,1.0,,,,,,0.2,diverged
"""
BEST = {"trial_id": "0001", "objective": "val_accuracy", "score": 0.99, "best_epoch": 3, "epochs": 3}
BEST["hyperparameters"] = {"batch_size": 16, "learning_rate": 0.1}


def searched(folder):
    """A results folder as a finished search leaves it."""
    folder = folder / "results" / "single"
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps(files.seal(RUN)))
    (folder / "trials.csv").write_text(TRIALS)
    (folder / "best.json").write_text(json.dumps(BEST))
    return folder


def without(value, *path):
    """A copy of ``value`` as JSON, the entry at ``path`` left out."""
    value = json.loads(json.dumps(value))
    inner = value
    for key in path[:-1]:
        inner = inner[key]
    del inner[path[-1]]
    return json.dumps(files.seal(value))


def with_(value, *path):
    """A copy of ``value`` as JSON, the entry at ``path[:-1]`` replaced by ``path[-1]``."""
    value = json.loads(json.dumps(value))
    inner = value
    for key in path[:-2]:
        inner = inner[key]
    inner[path[-2]] = path[-1]
    return json.dumps(files.seal(value))


SEARCH, SUMMARY, RETRAIN, REPORT = "search", "summary", "retrain", "report"
DAMAGE = [
    ("run.json", "empty", "", [SEARCH, SUMMARY, RETRAIN, REPORT, "lab"]),
    ("run.json", "truncated", json.dumps(RUN)[:700], [SEARCH, SUMMARY, RETRAIN, REPORT, "lab"]),
    ("run.json", "not JSON", "trial,score\n1,2\n", [SUMMARY, REPORT]),
    ("run.json", "not text", b"\xff\xfe\x00\x80", [SUMMARY, REPORT]),
    ("run.json", "a list", "[]", [SEARCH, SUMMARY, RETRAIN, REPORT]),
    ("run.json", "null", "null", [SEARCH, SUMMARY, RETRAIN, REPORT]),
    ("run.json", "nothing in it", "{}", [SEARCH, SUMMARY, RETRAIN, REPORT]),
    ("run.json", "an older format", with_(RUN, "format", 0), [SEARCH, SUMMARY, RETRAIN, REPORT]),
    ("run.json", "a newer format", with_(RUN, "format", 2), [SEARCH, SUMMARY, RETRAIN, REPORT]),
    ("run.json", "steps a list", with_(RUN, "steps", []), [SEARCH, SUMMARY, RETRAIN, REPORT]),
    ("run.json", "a step without settings", without(RUN, "steps", "search", "settings"), [SEARCH]),
    ("run.json", "without objective", without(RUN, "exercise", "objective"), [SUMMARY, REPORT]),
    ("run.json", "direction unknown", with_(RUN, "exercise", "direction", "up"), [SUMMARY, REPORT]),
    ("run.json", "seconds a word", with_(RUN, "steps", "search", "seconds", "long"), [SUMMARY]),
    ("run.json", "break-even a word", with_(OF_MNIST, "steps", "search", "xla_break_even", "far"), [RETRAIN]),
    ("run.json", "without its seal", json.dumps(RUN), [SEARCH, SUMMARY, RETRAIN, REPORT]),
    ("run.json", "a folder", None, [SEARCH, SUMMARY, REPORT]),
    ("trials.csv", "empty", "", [SUMMARY, REPORT]),
    ("trials.csv", "a row cut short", TRIALS[:-30], [SUMMARY, REPORT]),
    ("trials.csv", "another header", TRIALS.replace("best_epoch", "top"), [SUMMARY, REPORT]),
    ("trials.csv", "a word for a figure", TRIALS.replace("0.99", "high"), [SUMMARY, REPORT]),
    ("trials.csv", "a NUL", TRIALS.replace("0.99", "\0"), [SUMMARY, REPORT]),
    ("trials.csv", "not text", b"\xff\xfe" + TRIALS.encode(), [SUMMARY, REPORT, "summary --csv", "summary --json"]),
    ("trials.csv", "a folder", None, [SUMMARY, REPORT, "summary --csv", "summary --json"]),
    ("best.json", "empty", "", [RETRAIN, REPORT, "sweep batch_size --from best", "summary --json"]),
    ("best.json", "truncated", json.dumps(BEST)[:60], [RETRAIN, REPORT]),
    ("best.json", "a list", "[1, 2]", [RETRAIN, REPORT, "sweep batch_size --from best"]),
    ("best.json", "no hyperparameters", without(BEST, "hyperparameters"), [RETRAIN, REPORT]),
    ("best.json", "hyperparameters a list", with_(BEST, "hyperparameters", [16, 0.1]), [RETRAIN, REPORT]),
    ("best.json", "hyperparameters null", with_(BEST, "hyperparameters", None), [RETRAIN, REPORT]),
    ("best.json", "score a word", with_(BEST, "score", "high"), [REPORT]),
]


def damaged(name, content):
    def arrange(folder):
        path = searched(folder) / name
        path.unlink()
        if content is None:
            path.mkdir()
        else:
            path.write_bytes(content.encode() if isinstance(content, str) else content)

    return arrange


CASES += [
    Case(
        f"{name}: {how}: {verb}",
        ["-m", "search", "report"] if verb == "lab" else [SINGLE, *verb.split()],
        f"results/single/{name}",
        1,
        damaged(name, content),
        leaves=LOCK,
    )
    for name, how, content, verbs in DAMAGE
    for verb in verbs
]


def retrained_without(name):
    def arrange(folder):
        folder = searched(folder)
        run = json.loads(json.dumps(RUN))
        run["steps"]["retrain"] = {"command": "python search_single.py retrain", "complete": True, "settings": {}}
        (folder / "run.json").write_text(json.dumps(files.seal(run)))
        (folder / "retrain").mkdir()
        (folder / "retrain" / "metrics.json").write_text("{}")
        for file in ("history.csv", "start_history.csv"):
            columns = "seed,epoch,loss,accuracy,val_loss,val_accuracy\n0,1,0.1,0.9,0.1,0.9\n"
            (folder / "retrain" / file).write_text(columns)
        misread = dict.fromkeys(["images", "label", "predicted", "probability", "networks"], 0)
        np.savez(folder / "retrain" / "misread.npz", **misread)
        outputs = np.zeros((1, 4, 1))
        np.savez(folder / "retrain" / "predictions.npz", label=np.zeros(4), start=outputs, tuned=outputs)
        (folder / "retrain" / name).unlink()

    return arrange


CASES += [
    Case(f"{name}: gone", [SINGLE, "report"], [f"retrain/{name}: missing", "retrain"], 1, retrained_without(name))
    for name in ("metrics.json", "history.csv", "start_history.csv", "misread.npz", "predictions.npz")
]


def test_the_undamaged_results_are_accepted(tmp_path, light):
    searched(tmp_path)
    path = f"{light.folder}{os.pathsep}{ROOT}"
    for arguments in (
        [SINGLE, "summary"],
        [SINGLE, "summary", "--json"],
        [SINGLE, "report"],
        ["-m", "search", "report"],
    ):
        process = subprocess.run(
            [sys.executable, *arguments],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": path},
            capture_output=True,
            check=False,
        )
        assert (process.returncode, process.stderr) == (0, b"")


N = 600
VALID = {
    "x_train": np.zeros((N, 28, 28), np.uint8),
    "y_train": (np.arange(N) % 10).astype(np.uint8),
    "x_test": np.zeros((20, 28, 28), np.uint8),
    "y_test": np.arange(20, dtype=np.uint8) % 10,
}


def npz(folder, **changes):
    """A valid file but for ``changes``; None leaves an array out."""
    arrays = {name: array for name, array in {**VALID, **changes}.items() if array is not None}
    np.savez_compressed(folder / "data.npz", **arrays)
    return folder / "data.npz"


def damaged_npz(damage):
    def make(folder):
        path = npz(folder)
        path.write_bytes(damage(path.read_bytes()))
        return path

    return make


def file(content, name="data.npz"):
    def make(folder):
        (folder / name).write_bytes(content)
        return folder / name

    return make


class _Payload:
    """What a pickle could do to who loads it."""

    def __reduce__(self):
        return os.mkfifo, ("executed",)


def npy(folder):
    np.save(folder / "data.npy", VALID["x_train"])
    return folder / "data.npy"


def fifo(folder):
    os.mkfifo(folder / "data.npz")
    return folder / "data.npz"


NPZ = [
    ("missing", lambda folder: "nowhere.npz", "there is no such file; expected an .npz"),
    ("no name", lambda folder: "", "expected an .npz"),
    ("a name of two lines", lambda folder: "no\nwhere.npz", "there is no such file"),
    ("a name too long", lambda folder: "x" * 300, "File name too long"),
    ("below a file", lambda folder: f"{file(b'')(folder)}/x.npz", "there is no such file"),
    ("a device", lambda folder: "/dev/zero", "neither a file nor a folder"),
    ("a pipe", fifo, "neither a file nor a folder"),
    ("empty", file(b""), "it is not an .npz archive"),
    ("text", file(b"5,0,0,0\n"), "it is not an .npz archive"),
    ("a pickle", file(pickle.dumps(_Payload()), "data.pkl"), "it is not an .npz archive"),
    ("an .npy", npy, "it is not an .npz archive"),
    ("a gzipped .npz", file(gzip.compress(b"PK\3\4"), "data.npz.gz"), "it is not an .npz archive"),
    ("truncated", damaged_npz(lambda data: data[: len(data) // 2]), "it is not an .npz archive"),
    ("a bit flipped", damaged_npz(lambda data: data[:200] + bytes([data[200] ^ 16]) + data[201:]), "cannot be read"),
    ("no x_train", lambda folder: npz(folder, x_train=None), "it has no array named x_train"),
    ("no y_train", lambda folder: npz(folder, y_train=None), "it has no array named y_train"),
    ("no x_test", lambda folder: npz(folder, x_test=None), "it has no array named x_test"),
    ("no y_test", lambda folder: npz(folder, y_test=None), "it has no array named y_test"),
    ("flat", lambda folder: npz(folder, x_train=VALID["x_train"].reshape(N, 784)), "images are uint8 (600, 784); expected uint8 or float, (n, height, width)"),
    ("channels", lambda folder: npz(folder, x_train=VALID["x_train"][..., None, None]), "(600, 28, 28, 1, 1); expected uint8 or float"),
    ("32 x 32", lambda folder: npz(folder, x_train=np.zeros((N, 32, 32), np.uint8)), "training images are 32 x 32 and test images 28 x 28; expected the same"),
    ("images with NaN", lambda folder: npz(folder, x_train=VALID["x_train"] + np.nan), "train: images hold NaN or infinity"),
    ("images with infinity", lambda folder: npz(folder, x_test=VALID["x_test"] + 1e300), "test: images hold NaN or infinity"),
    ("int64 images", lambda folder: npz(folder, x_train=VALID["x_train"].astype(np.int64)), "images are int64"),
    ("bool images", lambda folder: npz(folder, x_train=VALID["x_train"].astype(bool)), "images are bool"),
    ("object images", lambda folder: npz(folder, x_train=np.array([_Payload()], object)), "Object arrays cannot be loaded"),
    ("a scalar", lambda folder: npz(folder, x_train=np.uint8(3)), "images are uint8 ()"),
    ("no images", lambda folder: npz(folder, x_train=VALID["x_train"][:0], y_train=VALID["y_train"][:0]), "there are no images"),
    ("too few", lambda folder: npz(folder, x_train=VALID["x_train"][:59], y_train=VALID["y_train"][:59]), "has 59 training images; expected at least 60"),
    ("a label short", lambda folder: npz(folder, y_train=VALID["y_train"][1:]), "labels are uint8 (599,); expected integers (600,)"),
    ("one-hot labels", lambda folder: npz(folder, y_train=np.eye(10, dtype=np.uint8)[VALID["y_train"]]), "labels are uint8 (600, 10)"),
    ("float labels", lambda folder: npz(folder, y_train=VALID["y_train"] / 2), "labels are float64"),
    ("text labels", lambda folder: npz(folder, y_train=VALID["y_train"].astype("U1")), "labels are <U1"),
    ("label 10", lambda folder: npz(folder, y_train=VALID["y_train"] + 1), "its labels run from 1 to 10; expected 0 and others"),
    ("label 1000", lambda folder: npz(folder, y_train=VALID["y_train"].astype(int) + 991), "labels run from 991 to 1000; expected 0 to k - 1"),
    ("one label", lambda folder: npz(folder, y_train=VALID["y_train"] * 0), "its labels run from 0 to 0; expected 0 and others"),
    ("label -1", lambda folder: npz(folder, y_train=VALID["y_train"].astype(np.int8) - 1), "labels run from -1 to 8"),
    ("test images flat", lambda folder: npz(folder, x_test=VALID["x_test"].reshape(20, 784)), "test: images are uint8 (20, 784)"),
    ("no test images", lambda folder: npz(folder, x_test=VALID["x_test"][:0]), "test: there are no images"),
    ("test labels short", lambda folder: npz(folder, y_test=VALID["y_test"][1:]), "test: labels are uint8 (19,); expected integers (20,)"),
    ("float test labels", lambda folder: npz(folder, y_test=VALID["y_test"] / 2), "test: labels are float64"),
    ("keras, not downloaded", lambda folder: "keras", [".keras/datasets/mnist.npz, which is not there", "load_data"]),
]  # fmt: skip


def keras_download_damaged(folder):
    (folder / ".keras" / "datasets").mkdir(parents=True)
    (folder / ".keras" / "datasets" / "mnist.npz").write_bytes(b"PK")
    return "keras"


NPZ.append(("keras, damaged", keras_download_damaged, ".keras/datasets/mnist.npz"))
CASES += [
    Case(
        f"npz: {how}",
        [SINGLE, "search", "--data"],
        says,
        arrange=make,
        environment={"HOME": "."} if "keras" in how else {},
    )
    for how, make, says in NPZ
]

IDX_NAMES = {
    "x_train": "train-images-idx3-ubyte",
    "y_train": "train-labels-idx1-ubyte",
    "x_test": "t10k-images-idx3-ubyte",
    "y_test": "t10k-labels-idx1-ubyte",
}


def idx_bytes(array):
    return bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes() + array.tobytes()


def idx(folder, part, damage, gz=False):
    """Four valid IDX files but for ``part``, whose bytes ``damage`` changes or, with None, leaves out."""
    (folder / "idx").mkdir()
    for name, array in VALID.items():
        content = idx_bytes(array)
        content = gzip.compress(content, 1, mtime=0) if gz else content
        content = damage(content) if name == part else content
        if content is not None:
            (folder / "idx" / (IDX_NAMES[name] + ".gz" * gz)).write_bytes(content)
    return "idx"


def promising(*shape):
    """Puts another shape into the header."""
    return lambda content: (
        content[:3] + bytes([len(shape)]) + np.array(shape, ">u4").tobytes() + content[4 + 4 * content[3] :]
    )


HALF, GONE = (lambda content: content[: len(content) // 2]), (lambda content: None)
IDX = [
    *((f"no {name}", part, GONE, False, f"has no {name}") for part, name in IDX_NAMES.items()),
    ("no test labels, gz", "y_test", GONE, True, "has no t10k-labels-idx1-ubyte"),
    ("empty", "x_train", lambda content: b"", False, "train-images-idx3-ubyte is not an IDX file"),
    ("cut in the header", "x_train", lambda content: content[:9], False, "train-images-idx3-ubyte is truncated"),
    ("truncated", "x_train", HALF, False, "its header promises (600, 28, 28)"),
    ("labels truncated", "y_train", HALF, False, "its header promises (600,)"),
    ("test images truncated", "x_test", HALF, False, "its header promises (20, 28, 28)"),
    ("test labels truncated", "y_test", HALF, False, "its header promises (20,)"),
    ("a byte too many", "x_train", lambda content: content + b"\0", False, "its header promises (600, 28, 28)"),
    ("wrong magic", "x_train", lambda content: b"\1" + content[1:], False, "is not an IDX file of unsigned bytes"),
    ("floats", "x_train", lambda content: b"\0\0\x0d" + content[3:], False, "is not an IDX file of unsigned bytes"),
    ("text", "y_train", lambda content: b"5\n0\n4\n1\n", False, "is not an IDX file of unsigned bytes"),
    ("more promised", "x_train", promising(60_000, 28, 28), False, "its header promises (60000, 28, 28)"),
    ("the most promised", "x_train", promising(*[2**32 - 1] * 3), False, "its header promises (4294967295"),
    ("promise that wraps to the truth", "x_train", promising(*[2**16] * 4, 28, 28), False, "its header promises"),
    ("32 x 32", "x_train", lambda content: idx_bytes(np.zeros((N, 32, 32), np.uint8)), False, "training images are 32 x 32 and test images 28 x 28"),
    ("flat", "x_train", promising(N, 784), False, "images are uint8 (600, 784)"),
    ("images for labels", "y_train", lambda content: idx_bytes(VALID["x_test"]), False, "labels are uint8 (20, 28, 28)"),
    ("one label", "y_train", lambda content: content[:8] + bytes(N), False, "its labels run from 0 to 0"),
    ("test labels short", "y_test", lambda content: idx_bytes(VALID["y_test"][1:]), False, "test: labels are uint8 (19,)"),
    ("gz truncated", "x_train", HALF, True, "cannot be read (Compressed file ended"),
    ("gz damaged", "x_train", lambda content: content[:500] + b"\xff" * 99 + content[599:], True, "cannot be read"),
    ("gz with a wrong checksum", "x_train", lambda content: content[:-8] + b"\1" + content[-7:], True, "CRC check failed"),
    ("gz that is plain", "y_train", gzip.decompress, True, "Not a gzipped file"),
    ("gz of the test empty", "x_test", lambda content: b"", True, "cannot be read"),
]  # fmt: skip


def empty_folder(folder):
    (folder / "idx").mkdir()
    return "idx"


def folder_for_a_file(folder):
    idx(folder, "x_train", GONE)
    (folder / "idx" / IDX_NAMES["x_train"]).mkdir()
    return "idx"


CASES += [
    Case(f"idx: {how}", [SINGLE, "search", "--data"], says, arrange=partial(idx, part=part, damage=damage, gz=gz))
    for how, part, damage, gz, says in IDX
]
CASES += [
    Case(f"idx: {how}", [SINGLE, "search", "--data"], says, arrange=make)
    for how, make, says in (
        ("nothing", empty_folder, "has no train-images-idx3-ubyte, plain or .gz; expected the four IDX files"),
        ("a folder", folder_for_a_file, ["cannot be read", "Is a directory"]),
    )
]

EXERCISES = [
    ("task unknown", [("task='zero'", "task='one'")], ["task", "'one'", "zero", "digits"]),
    (
        "an instance",
        [("hypermodel=Small", "hypermodel=Small()"), ("from search", "import search.workers.runtime\nfrom search")],
        ["hypermodel", "not an instance", "Small"],
    ),
    ("a model function", [("hypermodel=Small", "hypermodel=len")], ["hypermodel", "class"]),
    ("a class of another kind", [("hypermodel=Small", "hypermodel=dict")], ["hypermodel", "HyperModel"]),
    ("no hypermodel", [("hypermodel=Small", "hypermodel=None")], ["hypermodel", "None"]),
    ("start a list", [("start={'batch_size': 128}", "start=[128]")], ["start", "[128]", "dictionary"]),
    ("sweeps a string", [("sweeps=('batch_size',)", "sweeps='batch_size'")], ["sweeps", "'batch_size'"]),
    ("no epochs", [("max_epochs=9", "max_epochs=0")], ["max_epochs", "0"]),
    ("epochs a word", [("max_epochs=9", "max_epochs='9'")], ["max_epochs", "'9'"]),
    ("a name with a slash", [("name='small'", "name='../small'")], ["name", "'../small'"]),
    ("no name", [("name='small'", "name=''")], ["name", "''"]),
    ("the name of --quick's folder", [("name='small'", "name='quick'")], ["name", "'quick'", "--quick"]),
    ("the name of what is set aside", [("name='small'", "name='small.old-1'")], ["name", "'small.old-1'", "set aside"]),
    ("no objective", [("max_epochs=9", "max_epochs=9, objective=None")], ["objective", "None"]),
]


def exercise(folder, build=NEURON, replace=()):
    script = write_exercise(folder, build)
    text = script.read_text().replace('"', "'")
    for old, new in replace:
        assert old in text
        text = text.replace(old, new)
    script.write_text(text)
    return script


CASES += [
    Case(
        f"exercise: {how}",
        ["search_small.py", "search"],
        ["search_small.py", *says],
        arrange=lambda folder, replace=replace: exercise(folder, replace=replace) and None,
        tensorflow="Small()" in str(replace),  # making an instance imports Keras, before main is called
    )
    for how, replace, says in EXERCISES
]

CHOICE = "hp.Choice('batch_size', [128])\n"
COMPILE = "model.compile('sgd', loss='binary_crossentropy', metrics=['accuracy'])\nreturn model\n"


def network(*layers):
    return f"model = keras.Sequential([{', '.join(f'keras.{layer}' for layer in layers)}])\n"


PLAIN = network("Input((28, 28))", "layers.Flatten()", "layers.Dense(1, activation='sigmoid')")
MODELS = [
    ("raises", "raise RuntimeError('out of ideas\\nand of lines')", (), "RuntimeError: out of ideas"),
    ("None", CHOICE + PLAIN, (), "Small.build returned NoneType; expected a compiled keras.Model"),
    ("not a model", CHOICE + "return 3", (), "Small.build returned int; expected a compiled keras.Model"),
    ("uncompiled", CHOICE + PLAIN + "return model", (), "not compiled; call model.compile(...)"),
    ("no input shape", CHOICE + network("layers.Flatten()", "layers.Dense(1)") + COMPILE, (), "begin it with keras.Input(shape=(28, 28))"),
    ("no hyper-parameters", PLAIN + COMPILE, [("start={'batch_size': 128}", "start={}")], "at least one hyper-parameter"),
    ("no build", NEURON, [("def build", "def construct")], "Small has no build(self, hp)"),
    ("start outside a choice", NEURON, [("start={'batch_size': 128}", "start={'batch_size': 100}")], "batch_size is 100, which the space does not contain"),
    ("sweep unknown", NEURON, [("sweeps=('batch_size',)", "sweeps=('units',)")], "units"),
    ("making it raises", NEURON, [("def build", "def __init__(self): 1 / 0\n    def build")], "ZeroDivisionError"),
    ("values that print alike", CHOICE + "hp.Choice('more', ['1', 'x'])\nwith hp.conditional_scope('batch_size', [128]):\n    hp.Choice('more', [1, 2])\n" + PLAIN + COMPILE, (), "more can be '1' and 1, which print alike"),
    ("an empty text at times", CHOICE + "with hp.conditional_scope('batch_size', [128]):\n    hp.Choice('more', ['', 'x'])\n" + PLAIN + COMPILE, (), "more can be '' and is not always there"),
    ("start unknown", NEURON, [("start={'batch_size': 128}", "start={'batchsize': 128}")], "batchsize, which is not in the space"),
]  # fmt: skip
TRAININGS = [
    ("no accuracy", CHOICE + PLAIN + COMPILE.replace(", metrics=['accuracy']", ""), (), ["val_accuracy", "metrics"]),
    ("objective unknown", NEURON, [("max_epochs=9", "max_epochs=9, objective='val_auc'")], ["val_auc", "val_accuracy"]),
    (
        "wrong output",
        CHOICE + PLAIN.replace("(1,", "(10,") + COMPILE,
        (),
        "the starting model has 10 outputs and the task 'zero' one target",
    ),
    (
        "wrong input",
        CHOICE + PLAIN.replace("28, 28", "14, 14") + COMPILE,
        (),
        ["the starting model takes 14 x 14 and the images of ", "are 28 x 28; expected keras.Input(shape=(28, 28))"],
    ),
]


CASES += [
    Case(
        f"model: {how}",
        ["search_small.py", "search", "--max-epochs", "1", "--workers", "0", "--data"],
        ["search_small.py", *([says] if isinstance(says, str) else says)],
        arrange=lambda folder, build=build, replace=replace: exercise(folder, build, replace) and npz(folder),
        tensorflow=True,
        leaves=LOCK,
    )
    for how, build, replace, says in [*MODELS, *TRAININGS]
]
CASES.append(
    Case(
        "sweep of what is not in the space",
        [SINGLE, "sweep", "units", "--workers", "0", "--data"],
        "sweep units: the space has no such hyper-parameter; expected one of batch_size, schedule, optimizer, learning_rate",
        arrange=npz,
        tensorflow=True,
        leaves=LOCK,
    )
)


LIBRARIES = ("matplotlib.figure", "matplotlib.backends.backend_agg", "rich.live", "rich.table")
LIBRARIES += (
    "search.lab.archive",
    "search.lab.cli",
    "search.report.page",
    "search.lab.commands",
)  # none needs TensorFlow


@pytest.fixture(scope="session")
def light(without_tensorflow):
    """Forks of a process that has imported the libraries, and in which TensorFlow cannot be imported."""
    with Preloaded(*LIBRARIES, path=(without_tensorflow, ROOT)) as server:
        server.folder = without_tensorflow
        yield server


@pytest.fixture(scope="session")
def answers(request, tmp_path_factory, light):
    """The chosen cases' answers, which processes on every core are finding."""
    chosen = [item.callspec.params["case"] for item in request.session.items if "answers" in item.fixturenames]
    pool = ThreadPoolExecutor(os.cpu_count())
    yield {case.id: pool.submit(case.ask, tmp_path_factory.mktemp("case"), light) for case in chosen}
    pool.shutdown(cancel_futures=True)


@pytest.mark.parametrize(
    "case",
    [pytest.param(case, marks=pytest.mark.long) if i % 3 else case for i, case in enumerate(CASES)],
    ids=lambda case: case.id,
)
def test_wrong_request(case, answers):
    case.check(*answers[case.id].result())


def test_cases_are_different():
    assert len({case.id for case in CASES}) == len(CASES)
