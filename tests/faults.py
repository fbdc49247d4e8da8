"""What the tests of faults share: an exercise that writes down every epoch it trains, gates at which its processes wait, kills."""

import contextlib
import csv
import itertools
import json
import os
import signal
import socket
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tests import gates as gate
from tests.conftest import COMMANDS, LONG, NEURON, write_exercise

LOGS = """
import os

LOG = os.path.join(os.path.dirname(os.path.abspath(__file__)), "epochs.log")

class Logged(HyperModel):
    def fit(self, hp, model, *args, callbacks=(), **kwargs):
        import keras

        gates.watch(LOG, __name__)  # in a worker, which does not run the script
        at = "measured epoch" if hp.values["learning_rate"] == START["learning_rate"] else "epoch"

        class Log(keras.callbacks.Callback):
            def get_state(self):
                return None  # it remembers nothing

            def set_state(self, state):
                pass

            def on_epoch_begin(self, epoch, logs=None):
                gates.reach(f"{at} begins")

            def on_epoch_end(self, epoch, logs=None):
                with open(LOG, "a") as file:
                    file.write(f"{hp.values['learning_rate']!r} {epoch + 1}\\n")
                gates.reach(f"{at} ends")

        return super().fit(hp, model, *args, callbacks=[Log(), *callbacks], **kwargs)

class Small(Logged):
"""
START = {"batch_size": 128, "learning_rate": 0.01}


def logged_exercise(folder, extra=""):
    """An exercise that appends ``<learning rate> <epoch>`` to ``epochs.log`` for every epoch it trains, before the state is written.

    Its processes wait at :class:`Gates`, if there are any.
    """
    script = write_exercise(folder, NEURON, start=repr(START), extra=extra)
    text = script.read_text().replace("class Small(HyperModel):", LOGS.strip("\n"))
    script.write_text(f"from tests import gates\n\ngates.watch(__file__, __name__)\nSTART = {START!r}\n" + text)
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


def none_left(group):
    """Whether every process of the group ends; one that has ended and that nobody has waited for counts as ended."""
    return comes_true(lambda: not family(group))


def comes_true(condition):
    """Whether it does, before the test would wait too long."""
    deadline = time.monotonic() + LONG
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def cpu_time(pid):
    """What the process has used, in hundredths of a second; more than any number when it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return float("inf")
    return float("inf") if fields[0] == "Z" else int(fields[11]) + int(fields[12])


@dataclass(frozen=True)
class Arrival:
    """A process that has come to a point and waits there.

    Attributes:
        driver: the process of the search that it belongs to, or is.
    """

    driver: int
    pid: int
    point: str
    line: socket.socket

    def go(self):
        """Lets it go on."""
        with contextlib.suppress(OSError):  # it has ended
            self.line.sendall(b".")
        self.line.close()

    def ended(self):
        """Whether the process, which was never let go on, ends."""
        self.line.settimeout(LONG)
        try:
            return self.line.recv(1) == b""
        except ConnectionResetError:
            return True
        except TimeoutError:
            return False


class Gates:
    """The points at which the processes of a search wait: before and after each epoch and each file, see :mod:`tests.gates`."""

    _numbers = itertools.count()

    def __init__(self, folder):
        self._file = folder / gate.ADDRESS
        self._held, self._returned = [], []

    def __enter__(self):
        address = f"gates-{os.getpid()}-{next(self._numbers)}"
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind("\0" + address)
        self._socket.listen(64)
        self._file.write_text(address)
        return self

    def __exit__(self, *_):
        """Lets every process go on, now and from now on."""
        self._file.unlink()
        self._socket.close()
        for arrival in self._held:
            arrival.line.close()

    def next(self, seconds):
        """The next process that has come to a point; None when there is none in time."""
        if self._returned:
            return self._returned.pop()
        self._socket.settimeout(seconds)
        try:
            line, _ = self._socket.accept()
        except TimeoutError:
            return None
        line.settimeout(None)
        said = line.makefile().readline()
        if not said:  # it was killed before it could say so
            line.close()
            return None
        driver, pid, point = said.rstrip("\n").split(" ", 2)
        arrival = Arrival(int(driver), int(pid), point, line)
        self._held.append(arrival)
        return arrival

    def back(self, arrival):
        """Makes it the next."""
        self._returned.append(arrival)

    def until(self, chosen, driver):
        """Lets processes go on until one arrives that is ``chosen``, which waits; None when ``driver`` has ended before."""
        deadline = time.monotonic() + LONG
        while True:
            arrival = self.next(0.2)
            if arrival is None:
                if driver.poll() is not None:
                    return None
                assert time.monotonic() < deadline, "nothing arrives"
            elif chosen(arrival):
                return arrival
            else:
                arrival.go()


def start(script, *arguments):
    """Starts a command whose errors go where it prints."""
    return COMMANDS.start([script, *arguments], script.parent, merged=True)


EARLY = ("driver begins", "measured epoch begins", "measured epoch ends", "before run.json", "after run.json")
MIDDLE = ("epoch begins", "epoch ends", "before state.npz", "after state.npz", "before trial.json", "after trial.json")
LATE = ("before oracle.json", "before trials.csv", "before best.json")  # after the first trial that a driver sees end
OF_A_WORKER = ("worker begins", "measured epoch begins", *MIDDLE[:4])


@dataclass(frozen=True)
class Kill:
    """One that is planned: of the driver or of a worker, when it comes to ``point`` for so many times.

    Attributes:
        beyond: it waits there when it is killed, or with this it goes on, and is killed when it has used so many more
            hundredths of a second or waits at the next point.
    """

    of_worker: bool
    point: str
    times: int
    beyond: int


def planned(luck, drivers, workers=0):
    """So many kills of each kind, every point once before any comes again; no two workers are killed under one driver."""

    def deck(points):
        while True:
            yield from luck.sample(points, len(points))

    plan = []
    of_driver, of_worker = deck(EARLY + MIDDLE + LATE), deck(OF_A_WORKER)
    for i in range(max(drivers, workers)):
        for victim, count, points in ((True, workers, of_worker), (False, drivers, of_driver)):
            if i < count:
                point = next(points)
                times = luck.randint(1, 3) if point in MIDDLE else 1
                plan.append(Kill(victim, point, times, luck.choice((0, luck.randint(1, 40)))))
    return plan


@dataclass
class Storm:
    """What became of a search whose processes were killed at planned moments until it came to its end."""

    kills: int = 0
    worker_kills: int = 0
    points: Counter = field(default_factory=Counter)
    lost: int = 0
    repeated: int = 0
    trials: int = 0
    epochs: int = 0
    first_seen: dict = field(default_factory=dict)

    def run(self, script, arguments, results, plan):
        """Runs the search to its end under fire, and counts. It ends when all of the plan is done, and not before."""
        known, offset, plan = {}, 0, list(plan)
        with Gates(script.parent) as gates:
            orphans, earlier = [], set()
            while True:
                process = start(script, "search", *arguments, "--results", results)
                if not self._strike(gates, process, plan, orphans, earlier):
                    break
                assert process.wait() == -signal.SIGKILL, process.output.read_text()
                earlier.add(process.pid)
                self._look(results)
                states = [header(path) for path in results.glob("small/search/trial_*/state.npz")]
                fresh = trained(script)[offset:]
                self.repeated += sum(epoch <= known.get(rate, 0) for rate, epoch in fresh)
                for state in states:
                    rate, epochs = state["identity"]["hyperparameters"]["learning_rate"], len(state["history"]["loss"])
                    known[rate] = max(known.get(rate, 0), epochs)
                offset = len(trained(script))
            assert all(orphan.ended() for orphan in orphans), "a worker outlives its driver"
        status = process.wait()
        assert status == 0, process.output.read_text()
        assert not plan
        self._look(results)
        self.repeated += sum(epoch <= known.get(rate, 0) for rate, epoch in trained(script)[offset:])
        self.lost += sum(not path.exists() for path in self.first_seen)
        self.trials += len(ended(results))
        self.epochs += len(trained(script))

    def _strike(self, gates, process, plan, orphans, earlier):
        """Does what is planned until the driver is killed; False when it ended of itself."""
        seen = Counter()

        def due(arrival):
            if arrival.driver != process.pid:
                assert arrival.driver in earlier, arrival
                orphans.append(arrival)
                return True
            seen[arrival.point] += 1
            if not plan:
                return False
            if arrival.point == "before the end":
                return True
            if plan[0].of_worker and arrival.pid == process.pid:
                return False
            return arrival.point == plan[0].point and seen[arrival.point] >= plan[0].times

        while (arrival := gates.until(due, process)) is not None:
            if arrival.driver != process.pid:  # a worker of the driver before: it waits until it ends
                continue
            kill = plan.pop(0)
            if arrival.point == "before the end" and kill.of_worker:  # too late for it: the next driver's first one
                plan.insert(0, Kill(True, "worker begins", 1, 0))
                kill = Kill(False, arrival.point, 1, 0)
            victim = arrival.pid if kill.of_worker else process.pid
            if kill.beyond and arrival.point != "before the end":
                arrival.go()
                arrival = self._beyond(gates, victim, process.pid, kill.beyond, orphans)
            os.kill(victim, signal.SIGKILL)
            at_the_end = arrival is not None and arrival.point == "before the end"
            self.points["before the end" if at_the_end else kill.point] += 1
            if not kill.of_worker:
                self.kills += 1
                if arrival is not None:
                    orphans.append(arrival)
                return True
            self.worker_kills += 1
            seen.clear()
            if at_the_end:
                gates.back(arrival)
        return False

    def _beyond(self, gates, victim, driver, hundredths, orphans):
        """Lets all go on until the victim has used so much time, or waits at its next point, or the search is at its end."""
        used = cpu_time(victim) + hundredths
        while cpu_time(victim) < used:
            arrival = gates.next(0.002)
            if arrival is None:
                continue
            if arrival.driver != driver:
                orphans.append(arrival)
            elif arrival.pid == victim or arrival.point == "before the end":
                return arrival
            else:
                arrival.go()
        return None

    def _look(self, results):
        """A trial that has ended stays as it is."""
        for path in ended(results):
            content = path.read_bytes()
            self.lost += self.first_seen.setdefault(path, content) != content
