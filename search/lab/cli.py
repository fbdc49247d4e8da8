"""The command line: verbs and flags, refusals in one line. TensorFlow is imported by the steps, after all is checked."""

from __future__ import annotations

import io
import os
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

import click

from search.errors import RequestError, WorkError
from search.lab.exercise import Exercise

if TYPE_CHECKING:
    from search.lab.session import Session

VERBS = {
    "search": "explore the space",
    "summary": "what the search found",
    "retrain": "train the best configuration and the starting model again, evaluate on the test images",
    "sweep": "NAME: try the values of one hyper-parameter, everything else held",
    "report": "write report.html",
}
TRAINING = {"workers", "cluster", "seed", "data", "results", "quick"}
FLAGS_OF_VERB = {
    None: TRAINING | {"tuner", "max_epochs", "trials", "epochs", "seeds", "fresh"},
    "search": TRAINING | {"tuner", "max_epochs", "trials", "fresh"},
    "summary": {"csv", "json", "results"},
    "retrain": TRAINING | {"epochs", "seeds"},
    "sweep": TRAINING | {"epochs", "seeds", "held_from"},
    "report": {"results"},
}
SWEEP_EPOCHS = 10


class _Ended(BaseException):
    """A signal asked the process to end."""

    def __init__(self, number: int) -> None:
        self.number = number


def main(exercise: Exercise) -> NoReturn:
    """Runs what the command line asks of ``exercise``, and exits: 0 done, 1 failed, 2 refused, 130 or 143 interrupted."""
    try:
        exercise.check()
    except RequestError as error:
        _fail(f"{Path(sys.argv[0]).name}: {error}", 2)
    script = Path(sys.modules["__main__"].__file__ or sys.argv[0]).resolve()
    run(exercise_command(exercise, script), script.name)


def exercise_command(exercise: Exercise, script: Path) -> click.Command:
    """The command line of the exercise that ``script`` defines."""
    from search.lab import commands

    @click.pass_context
    def command(context: click.Context, /, verb: str | None, name: str | None, **flags: Any) -> None:
        _refuse_misplaced(context, verb, name, flags)
        quick = flags["quick"]
        session = _session(exercise, script, flags)
        if verb == "summary":
            commands.show_summary(session, "csv" if flags["csv"] else "json" if flags["json"] else "text")
            return
        if verb == "report":
            commands.report(session)
            return
        if flags["max_epochs"] is None:
            flags["max_epochs"] = 3 if quick else exercise.max_epochs
        if flags["trials"] is None:
            flags["trials"] = 4 if quick else 30
        search_flags = {key: flags[key] for key in ("tuner", "max_epochs", "trials")}
        seeds = flags["seeds"] or (1 if quick else 3)
        epochs = flags["epochs"] or (3 if quick else 100)
        sweep_flags = {"seeds": seeds, "held_from": flags["held_from"], "most_values": 3 if quick else None}
        with session.held(flags["fresh"]):
            if verb in (None, "search"):
                commands.search(session, **search_flags)
            if verb is None:
                commands.show_summary(session, "text")
            if verb in (None, "retrain"):
                commands.retrain(session, epochs=epochs, seeds=seeds)
            if verb is None:
                for swept in exercise.sweeps:
                    commands.sweep(session, swept, epochs=1 if quick else SWEEP_EPOCHS, **sweep_flags)
                commands.report(session)
            if verb == "sweep":
                assert name is not None
                commands.sweep(session, name, epochs=flags["epochs"] or (1 if quick else SWEEP_EPOCHS), **sweep_flags)

    verbs = "\n".join(f"  {verb:8} {what}" for verb, what in VERBS.items())
    text = f"\b\n{exercise.title}: {exercise.question}\n\n\b\n{verbs}\n\nWithout a verb: all of it."
    parameters: list[click.Parameter] = [
        click.Argument(["verb"], required=False, type=click.Choice(list(VERBS))),
        click.Argument(["name"], required=False),
        _option("--tuner", type=click.Choice(["hyperband", "random"]), default="hyperband", help="How to search."),
        _option(
            "--max-epochs", type=click.IntRange(1, 10_000), help=f"Epochs of the longest trial ({exercise.max_epochs})."
        ),
        _option("--trials", type=click.IntRange(1, 1_000_000), help="Trials of a random search (30)."),
        _option(
            "--epochs",
            type=click.IntRange(1, 100_000),
            help=f"Epochs of retraining (100) or of a sweep ({SWEEP_EPOCHS}).",
        ),
        _option("--seeds", type=click.IntRange(1, 1000), help="Trainings a model, or a value of a sweep (3)."),
        _option(
            "--workers",
            type=click.IntRange(0, 1024),
            help="Trials at once (one a core, with --cluster one a CPU of it); 0: in this process.",
        ),
        _option("--cluster", metavar="ADDRESS", help="Train on a Ray cluster: HOST:PORT, ray://HOST:PORT or local."),
        _option("--seed", type=click.IntRange(0, 2**31 - 1), default=0, help="Where all randomness comes from (0)."),
        _option("--data", help="An .npz, a folder of IDX files, or keras (the embedded MNIST)."),
        _option("--results", default="results", callback=_folder, help="The results folder."),
        _option("--fresh", is_flag=True, help="Set earlier results aside and start anew."),
        _option("--quick", is_flag=True, help="The smallest budget that goes through every step."),
        _option(
            "--from", "held_from", type=click.Choice(["start", "best"]), default="start", help="What a sweep holds."
        ),
        _option("--csv", is_flag=True, help="The summary's trials as CSV."),
        _option("--json", is_flag=True, help="The summary's trials as JSON."),
    ]
    return click.Command(script.name, params=parameters, callback=command, help=text)


def lab_command() -> click.Group:
    """``python -m search``: what concerns all exercises."""

    @click.group("python -m search", help="The lab report over all exercises, and the hand-in.", no_args_is_help=True)
    def group() -> None: ...

    where = click.option("--results", default="results", callback=_folder, help="The results folder.")

    @group.command()
    @where
    def report(results: Path) -> None:
        """Write results/report.html over every exercise that has results."""
        from search.report.page import write_lab_report

        click.echo(f"The lab report is {write_lab_report(results)}")

    @group.command()
    @click.argument("owner", metavar="LASTNAME_firstname")
    @where
    def archive(owner: str, results: Path) -> None:
        """Write LASTNAME_firstname_Lab3_DLCV.tar.bz2: the code and the reports."""
        from search.lab.archive import archive, size_mib

        path = archive(owner, Path(__file__).resolve().parents[2], results, Path.cwd())
        click.echo(f"The hand-in is {path.name}, {size_mib(path):.1f} MiB")

    return group


def run(command: click.Command, name: str) -> NoReturn:
    """Runs ``command`` with the process's arguments; every ending that a person can cause is one line and a status."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup leaves it
            signal.signal(number, _end)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # no locale, and no file's name, ends a search
    again = "run the same command again to go on from here"
    try:
        command.main(standalone_mode=False)
        sys.exit(0)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        sys.exit(0)
    except click.ClickException as error:
        message = " ".join(error.format_message().split())
        _fail(
            f"{message.rstrip('.')}; see `python {name} --help`"
            if name.endswith(".py")
            else f"{message.rstrip('.')}; see `{name} --help`",
            2,
        )
    except RequestError as error:
        _fail(str(error), 2)
    except WorkError as error:
        _fail(str(error), 1)
    except (KeyboardInterrupt, click.Abort):
        _fail(f"interrupted; everything done so far is saved: {again}", 130)
    except _Ended as error:
        _fail(
            f"ended by {signal.Signals(error.number).name}; everything done so far is saved: {again}",
            128 + error.number,
        )
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        _fail(
            f"{error.filename or 'the disk'}: {error.strerror or error}; make room or give the right to write; {again}",
            1,
        )


def _session(exercise: Exercise, script: Path, flags: dict[str, Any]) -> Session:
    from rich.console import Console

    from search.lab.session import Session

    cluster, workers = flags["cluster"], flags["workers"]
    if workers is None and cluster is None:
        workers = os.cpu_count() or 1
    return Session(
        exercise, script, flags["results"], flags["data"], workers, flags["seed"], Console(highlight=False), cluster
    )


def _refuse_misplaced(context: click.Context, verb: str | None, name: str | None, flags: dict[str, Any]) -> None:
    """Flags and names that the verb would ignore are refused."""
    given = {flag for flag in flags if context.get_parameter_source(flag) == click.core.ParameterSource.COMMANDLINE}
    option = {flag: f"--{flag.replace('_', '-')}" for flag in flags} | {"held_from": "--from"}
    for flag in sorted(given - FLAGS_OF_VERB[verb]):
        allowed = ", ".join(option[other] for other in flags if other in FLAGS_OF_VERB[verb])
        raise RequestError(f"{option[flag]} means nothing to {verb or 'the whole exercise'}; it takes {allowed}")
    if verb == "sweep" and not name:
        raise RequestError("sweep: no hyper-parameter named; expected a name, as in `sweep batch_size`")
    if verb != "sweep" and name is not None:
        raise RequestError(f"{verb} {name}: only sweep takes a name; leave {name} out")
    if "trials" in given and flags["tuner"] == "hyperband":
        raise RequestError("--trials is for --tuner random; Hyperband's number of trials follows from --max-epochs")
    if flags["workers"] == 0 and flags["cluster"] is not None:
        raise RequestError("--workers 0 trains in this process and --cluster elsewhere; leave one of them out")
    if flags["csv"] and flags["json"]:
        raise RequestError("--csv and --json were both given; expected one of them")


def _option(*names: str, **attributes: Any) -> click.Option:
    return click.Option(list(names), **attributes)


def _folder(context: click.Context, parameter: click.Parameter, value: str) -> Path:
    if not value:  # Path("") would be the current folder
        raise click.BadParameter("'' names no folder; expected one, or leave --results out")
    return Path(value)


def _end(number: int, frame: FrameType | None) -> NoReturn:
    raise _Ended(number)


def _fail(message: str, status: int) -> NoReturn:
    click.echo(f"error: {' '.join(message.splitlines())}", err=True)
    sys.exit(status)
