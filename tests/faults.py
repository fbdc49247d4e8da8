"""What the tests of faults share: an exercise that writes down every epoch it trains, and a driver that starts fast."""

import contextlib
import csv
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tests.conftest import NEURON, ROOT, write_exercise

LOGS = """
import os

LOG = os.path.join(os.path.dirname(os.path.abspath(__file__)), "epochs.log")

class Logged(HyperModel):
    def fit(self, hp, model, *args, callbacks=(), **kwargs):
        import keras

        class Log(keras.callbacks.Callback):
            def on_epoch_end(self, epoch, logs=None):
                with open(LOG, "a") as file:
                    file.write(f"{hp.values['learning_rate']!r} {epoch + 1}\\n")

        return super().fit(hp, model, *args, callbacks=[Log(), *callbacks], **kwargs)

class Small(Logged):
"""
START = {"batch_size": 128, "learning_rate": 0.01}


def logged_exercise(folder, extra=""):
    """An exercise that appends ``<learning rate> <epoch>`` to ``epochs.log`` for every epoch it trains, before the state is written."""
    script = write_exercise(folder, NEURON, start=repr(START), extra=extra)
    script.write_text(script.read_text().replace("class Small(HyperModel):", LOGS.strip("\n")))
    return script


def trained(script):
    """Every epoch that has been trained, in order, those that measure the starting model left out."""
    log = script.parent / "epochs.log"
    lines = log.read_text().splitlines() if log.exists() else []
    epochs = [(float(rate), int(epoch)) for rate, epoch in map(str.split, lines)]
    return [(rate, epoch) for rate, epoch in epochs if rate != START["learning_rate"]]


def trials(results):
    """``trials.csv`` without the times."""
    with (results / "small" / "trials.csv").open(newline="") as file:
        return [{name: value for name, value in row.items() if name != "seconds"} for row in csv.DictReader(file)]


def ended(results):
    """The files of the trials that have ended."""
    return sorted(results.glob("small/search/trial_*/trial.json"))


def header(state):
    """What a state says of itself."""
    with np.load(state) as archive:
        return json.loads(bytes(archive["header"]))


def family(group):
    """The processes of a process group that live, and the parent of each."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, parent, its_group = stat.read_text().rpartition(")")[2].split()[:3]
            if int(its_group) == group and state != "Z":
                parents[int(stat.parent.name)] = int(parent)
    return parents


def none_left(group, seconds=10):
    """Whether every process of the group ends in time; one that has ended and that nobody has waited for counts as ended."""
    deadline = time.monotonic() + seconds
    while family(group):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


SERVER = """
import json, os, runpy, sys
import search.workers.runtime
for line in sys.stdin:
    folder, output, argv = json.loads(line)
    pid = os.fork()
    if not pid:
        os.setsid()
        os.chdir(folder)
        for number in (1, 2):
            os.dup2(os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
        sys.argv = argv
        runpy.run_path(argv[0], run_name="__main__")
        os._exit(70)  # the command always exits by itself
    print(pid, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""


class Preloaded:
    """Starts commands as forks of one process that has imported TensorFlow: the same command, four seconds sooner."""

    def __enter__(self):
        self._server = subprocess.Popen(
            [sys.executable, "-c", SERVER],
            env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "120"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(self, *_):
        self._server.communicate()

    def start(self, script, *arguments):
        """One at a time."""
        output = script.parent / "output.txt"
        output.write_text("")
        request = [str(script.parent), str(output), [str(script), *map(str, arguments)]]
        self._server.stdin.write(json.dumps(request) + "\n")
        self._server.stdin.flush()
        return Started(int(self._server.stdout.readline()), self._server.stdout, output)


class Started:
    """A command that runs; what it prints is in ``output``."""

    def __init__(self, pid, answers, output):
        self.pid, self.output, self._answers = pid, output, answers

    def alive(self):
        try:
            return Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
        except OSError:
            return False

    def wait(self):
        """Its exit status, that of a signal negative."""
        return int(self._answers.readline())


@dataclass
class Storm:
    """What became of a search whose processes were killed at random moments until it came to its end."""

    kills: int = 0
    worker_kills: int = 0
    lost: int = 0
    repeated: int = 0
    trials: int = 0
    epochs: int = 0
    first_seen: dict = field(default_factory=dict)

    def run(self, server, script, arguments, luck, results):
        """Runs the search to its end under fire, and counts."""
        known, offset, ended_before = {}, 0, -1
        while True:
            process = server.start(script, "search", *arguments, "--results", results)
            begun = time.monotonic()
            further = luck.random() < 0.6  # the others fall anywhere from the first import on
            moment = begun + luck.random() * 1.5
            while process.alive() and (len(ended(results)) <= ended_before if further else time.monotonic() < moment):
                time.sleep(0.005)
            time.sleep(luck.random() * 0.2)
            family_before = family(process.pid)
            workers = [pid for pid, parent in family_before.items() if process.pid not in (pid, parent)]
            if workers and luck.random() < 0.3:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(luck.choice(workers), signal.SIGKILL)
                    self.worker_kills += 1
                time.sleep(luck.random() * 2)
            if not process.alive():
                break
            os.kill(process.pid, signal.SIGKILL)
            self.kills += 1
            process.wait()
            self._look(results)
            states = [header(path) for path in results.glob("small/search/trial_*/state.npz")]
            fresh = trained(script)[offset:]
            self.repeated += sum(epoch <= known.get(rate, 0) for rate, epoch in fresh)
            for state in states:
                rate, epochs = state["identity"]["hyperparameters"]["learning_rate"], len(state["history"]["loss"])
                known[rate] = max(known.get(rate, 0), epochs)
            offset = len(trained(script))
            ended_before = len(ended(results))
        status = process.wait()
        assert status == 0, process.output.read_text()
        self._look(results)
        self.repeated += sum(epoch <= known.get(rate, 0) for rate, epoch in trained(script)[offset:])
        self.lost += sum(not path.exists() for path in self.first_seen)
        self.trials += len(ended(results))
        self.epochs += len(trained(script))

    def _look(self, results):
        """A trial that has ended stays as it is."""
        for path in ended(results):
            content = path.read_bytes()
            self.lost += self.first_seen.setdefault(path, content) != content
