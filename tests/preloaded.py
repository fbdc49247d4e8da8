"""Commands as forks of a process that has imported what they import: the same commands, seconds sooner.

What a fork shares with its server is what it would have imported. It has its own session, folder, environment,
arguments and streams, and ends as a command does.
"""

import contextlib
import gc
import json
import multiprocessing.util
import os
import runpy
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def _environment():
    """This process's, read by a thread of its own maybe, while pytest sets and removes the name of the test under way."""
    return {name: value for name in list(os.environ) if (value := os.environ.get(name)) is not None}


class Preloaded:
    """A server that has imported ``modules``; it starts with the first command."""

    def __init__(self, *modules, path=(ROOT,)):
        self._modules, self._path = modules, path
        self._lock = threading.Lock()
        self._server = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        """Kills what has not ended."""
        if self._server is not None:
            self._server.communicate()
            shutil.rmtree(self._folder, ignore_errors=True)

    def _start(self):
        self._folder, self._count = Path(tempfile.mkdtemp()), 0
        self._server = subprocess.Popen(
            [sys.executable, "-c", f"from tests.preloaded import serve; serve({self._modules!r})"],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, self._path)), "COLUMNS": "120"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def start(self, arguments, folder, *, ignored=(), merged=False, **environment):
        """Starts ``python arguments`` in ``folder``.

        Args:
            ignored: signals that it ignores from its start, as under nohup.
            merged: one stream takes what it prints and its errors.
            environment: goes beside the environment of now.
        """
        with self._lock:
            if self._server is None:
                self._start()
            self._count += 1
            out, err, status = (self._folder / f"{self._count}.{name}" for name in ("out", "err", "status"))
            err = out if merged else err
            for path in (out, err):
                path.touch()
            request = {
                "arguments": [os.fsdecode(argument) for argument in map(_plain, arguments)],
                "folder": os.fsdecode(folder),
                "environment": {**_environment(), "COLUMNS": "120", **environment},
                "ignored": list(map(int, ignored)),
                "streams": [os.devnull, str(out), str(err)],
                "status": str(status),
            }
            self._server.stdin.write(json.dumps(request).encode() + b"\n")
            self._server.stdin.flush()
            pid = self._server.stdout.readline()
            assert pid, "the server has ended"
            return Started(int(pid), out, err, status)


def _plain(argument):
    return argument if isinstance(argument, bytes) else str(argument)


class Started:
    """A command that was started; the interface is that of ``subprocess.Popen`` with text."""

    def __init__(self, pid, output, errors, status):
        self.pid, self.output, self._errors, self._status = pid, output, errors, status
        self.returncode = None

    def poll(self):
        if self.returncode is None:
            with contextlib.suppress(FileNotFoundError):
                self.returncode = int(self._status.read_text())
        return self.returncode

    def alive(self):
        return self.poll() is None

    def wait(self, timeout=None):
        deadline = None if timeout is None else time.monotonic() + timeout
        while self.poll() is None:
            if deadline is not None and time.monotonic() > deadline:
                raise subprocess.TimeoutExpired(str(self.pid), timeout)
            time.sleep(0.005)
        return self.returncode

    def communicate(self, timeout=None):
        self.wait(timeout)
        return tuple(path.read_bytes().decode(errors="surrogateescape") for path in (self.output, self._errors))

    def send_signal(self, number):
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self):
        self.send_signal(signal.SIGKILL)

    def terminate(self):
        self.send_signal(signal.SIGTERM)


# In the server


def serve(modules):
    """Answers each request with the process's id; its exit status goes into a file."""
    for module in modules:
        __import__(module)
    gc.collect()
    gc.freeze()  # a collection in a fork would copy all of it
    running, received = {}, b""
    while True:
        for ready in select.select([0, *running], [], [])[0]:
            if ready in running:
                _reap(ready, *running.pop(ready))
                continue
            more = os.read(0, 1 << 16)
            if not more:
                for pid, _ in running.values():
                    with contextlib.suppress(ProcessLookupError):
                        os.killpg(pid, signal.SIGKILL)
                return
            *lines, received = (received + more).split(b"\n")
            for request in map(json.loads, lines):
                pid = os.fork()
                if not pid:
                    for descriptor in running:
                        os.close(descriptor)
                    _become(request)
                    return
                os.write(1, f"{pid}\n".encode())
                running[os.pidfd_open(pid)] = pid, request["status"]


def _reap(descriptor, pid, status):
    os.close(descriptor)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    Path(f"{status}.new").write_text(str(code))
    os.replace(f"{status}.new", status)


def _become(request):
    """Runs the command in this process, which has just been forked."""
    os.setsid()
    os.chdir(request["folder"])
    for number, path in enumerate(request["streams"]):
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND)
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.environ.clear()
    os.environ.update(request["environment"])
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    for number in request["ignored"]:
        signal.signal(number, signal.SIG_IGN)
    _with_one_standing_by()
    first, *others = request["arguments"]
    if first == "-m":
        sys.argv, sys.path[0] = others, request["folder"]
        runpy.run_module(others[0], run_name="__main__", alter_sys=True)
    else:
        sys.argv, sys.path[0] = [first, *others], os.path.dirname(os.path.abspath(first))
        runpy.run_path(first, run_name="__main__")


def _stand_by(line, driver_end):
    """A process that becomes the server that workers are forked from, which would import TensorFlow for itself.

    It was forked before the command began, so that it holds nothing of it, such as the lock of the results folder.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    driver_end.close()
    received, descriptors, _, _ = socket.recv_fds(line, 1 << 16, 8)
    line.close()
    if not received:  # the command has ended without
        return
    request = json.loads(received)
    for number in request["heeded"]:
        signal.signal(number, signal.SIG_DFL)
    for descriptor, number in zip(descriptors, request["descriptors"], strict=True):
        os.dup2(descriptor, number + 1000)
        os.close(descriptor)
    for number in request["descriptors"]:
        os.dup2(number + 1000, number)
        os.close(number + 1000)
    exec(request["code"], {})


def _with_one_standing_by():
    """Has a process ready that is started as the server of the workers when there is to be one."""
    mine, its = socket.socketpair()
    pid = os.fork()
    if not pid:
        try:
            _stand_by(its, mine)
        finally:
            os._exit(1)
    its.close()

    def spawn_it(path, arguments, descriptors, *, spawn=multiprocessing.util.spawnv_passfds):
        code = arguments[-1]
        if not code.startswith("from multiprocessing.forkserver import main") or mine.fileno() < 0:
            return spawn(path, arguments, descriptors)
        heeded = [n for n in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(n) is not signal.SIG_IGN]
        request = {"code": code, "descriptors": list(map(int, descriptors)), "heeded": heeded}
        socket.send_fds(mine, [json.dumps(request).encode()], list(descriptors))
        mine.close()
        return pid

    multiprocessing.util.spawnv_passfds = spawn_it
