"""The way in from a script: Python's environment checked, signals, and every ending in one line. Imports nothing heavy."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

from search.errors import RequestError, WorkError
from search.lab.exercise import Exercise

if TYPE_CHECKING:
    import click

NEEDED = ("click", "rich", "filelock", "numpy", "matplotlib", "jinja2", "tensorflow", "keras", "keras_tuner")
PROJECT = Path(__file__).resolve().parents[2]
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
AGAIN = "everything done so far is saved: run the same command again to go on from here"


class Ended(BaseException):
    """A signal asked the process to end."""

    def __init__(self, number: int) -> None:
        self.number = number


def main(exercise: Exercise, argv: Sequence[str] | None = None) -> None:
    """Runs what a command line asks of ``exercise``.

    Args:
        argv: the words after the script's name, as in ``["search", "--quick"]``. None takes the process's own and ends
            the process: status 0 done, 1 the work failed, 2 the request was wrong, 130 and 143 interrupted.

    Raises:
        RequestError, WorkError: with ``argv``; without, the process says so in one line.
    """

    def command() -> click.Command:
        from search.lab.cli import exercise_command

        try:
            exercise.check()
        except RequestError as error:
            raise RequestError(f"{Path(sys.argv[0]).name}: {error}") from None
        script = getattr(sys.modules.get(exercise.hypermodel.__module__), "__file__", None)
        if script is None:
            raise RequestError(
                f"{exercise.hypermodel.__name__} is defined in no file; the lab's workers import its script: save it as one"
            )
        return exercise_command(exercise, Path(script).resolve())

    if argv is None:
        run(command, Path(sys.argv[0]).name)
    prepare_environment(Path(sys.argv[0]).name)
    _invoke(command(), argv)


def run(command: Callable[[], click.Command], name: str) -> NoReturn:
    """Runs the command with the process's arguments and exits; every ending that a person can cause is one line.

    Args:
        name: what a person types, without ``python``, for messages before there is a command.
    """
    _open_standard_streams()
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup leaves it
            signal.signal(number, _end)
    sys.unraisablehook = _send_again
    for package in NEEDED:  # what a package deprecates in another is for neither to end a search, whatever -W says
        warnings.filterwarnings("ignore", module=rf"{package}(\.|$)")
    try:
        try:
            prepare_environment(name)
            _invoke(command(), None)
        except RequestError as error:
            _fail(str(error), 2)
        except WorkError as error:
            _fail(str(error), 1)
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            sys.exit(1)
        except OSError as error:
            _fail(
                f"{error.filename or 'the disk'}: {error.strerror or error}; make room or give the right to write; {AGAIN}",
                1,
            )
    except Ended as ended:
        how = "interrupted" if ended.number == signal.SIGINT else f"ended by {signal.Signals(ended.number).name}"
        _fail(f"{how}; {AGAIN}", 128 + ended.number)
    _ignore_signals()
    sys.exit(0)


def prepare_environment(name: str) -> None:
    """Whether this Python has what the lab needs, and Keras the backend that it trains with; TensorFlow is told its kernels.

    Raises:
        RequestError: a package is missing (the message names a Python that has it), or the backend is another.
    """
    missing = [package for package in NEEDED if importlib.util.find_spec(package) is None]
    if missing:
        python = PROJECT / ".venv" / "bin" / "python"
        remedy = "use" if python.exists() else "run `make lab` once, which makes it, then use"
        with contextlib.suppress(ValueError):
            python = python.relative_to(Path.cwd())
        raise RequestError(f"{sys.executable} has no {missing[0]}; {remedy} `{python} {name}`")
    backend = os.environ.setdefault("KERAS_BACKEND", "tensorflow")  # whatever keras.json says
    if backend != "tensorflow":
        raise RequestError(
            f"KERAS_BACKEND is {backend!r}; the lab trains with 'tensorflow': unset it, or run `KERAS_BACKEND=tensorflow "
            f"python {name}`"
        )
    if "tensorflow" not in sys.modules:  # workers inherit it: all processes of a search round alike
        os.environ.setdefault(
            "TF_ENABLE_ONEDNN_OPTS", "1"
        )  # TensorFlow takes these kernels by itself on some CPUs only


def _invoke(command: click.Command, argv: Sequence[str] | None) -> None:
    import click

    try:
        command.main(argv, prog_name=command.name, standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
    except click.ClickException as error:
        raise RequestError(_refusal(error)) from None


def _refusal(error: click.ClickException) -> str:
    """What click says, in one line that ends with the remedy."""
    import click

    context = getattr(error, "ctx", None)
    message = " ".join(error.format_message().split()).rstrip(".?")
    if context is None:
        return message
    python = "" if context.command_path.startswith("python ") else "python "
    if isinstance(error, click.NoSuchOption):
        taken = [option.opts[0] for option in context.command.params if isinstance(option, click.Option)]
        message = f"No such option {error.option_name}: {context.command_path} takes {', '.join(taken)}"
    return f"{message}; see `{python}{context.command_path} --help`"


def _open_standard_streams() -> None:
    """Streams that the caller closed go nowhere: else the next file would get their number, and what is printed with it."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "w" if number else "r", closefd=False))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # no locale, and no file's name, ends a search


def _end(number: int, frame: FrameType | None) -> NoReturn:
    for again in SIGNALS:
        if signal.getsignal(again) is not signal.SIG_IGN:
            signal.signal(again, _end_now)
    raise Ended(number)


def _end_now(number: int, frame: FrameType | None) -> NoReturn:
    """A second signal: the person does not wait for the workers, which end by themselves."""
    with contextlib.suppress(OSError):
        if os.isatty(1):
            os.write(1, b"\x1b[?25h\n")  # the live line hid the cursor
        os.write(2, f"error: interrupted; {AGAIN}\n".encode())
    os._exit(128 + number)


def _send_again(unraisable: Any) -> None:
    """A signal that came while Python ran what may not raise, as a finaliser, is sent again a little later."""
    if not isinstance(unraisable.exc_value, Ended):
        sys.__unraisablehook__(unraisable)
        return
    signal.signal(unraisable.exc_value.number, _end)
    threading.Timer(0.05, os.kill, (os.getpid(), unraisable.exc_value.number)).start()


def _ignore_signals() -> None:
    """It is ending, and says how once; Python's own end answers a signal with its machinery."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def _fail(message: str, status: int) -> NoReturn:
    _ignore_signals()
    with contextlib.suppress(OSError, ValueError):
        print(f"error: {' '.join(message.splitlines())}", file=sys.stderr, flush=True)
    sys.exit(status)
