"""The command line: one click command a verb, each with its own flags. TensorFlow is imported by the steps, after all is checked."""

from __future__ import annotations

import copy
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from search import files
from search.errors import RequestError, WorkError
from search.lab import options
from search.lab.budget import SHARES, Budget
from search.lab.exercise import Exercise
from search.lab.options import NO_BUDGET, QUICK_FOLDER, QUICK_IMAGES

if TYPE_CHECKING:
    from rich.console import Console

    from search.lab.session import Session

SWEEP_EPOCHS = 10
PIPED_WIDTH = 1000  # a table in a file has its rows on one line each


@dataclass(frozen=True)
class Script:
    """What every verb of an exercise works on."""

    exercise: Exercise
    path: Path

    def session(self, results: Path | None, quick: bool, steps: Sequence[str] = (), **flags: Any) -> Session:
        from search.lab.session import Session

        exercise = self.exercise
        folder = results or (Path("results", QUICK_FOLDER) if quick else Path("results"))
        data, workers, seed, cluster = (flags.get(key) for key in ("data", "workers", "seed", "cluster"))
        if workers is None and cluster is None:
            workers = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        console = _console()
        images = QUICK_IMAGES if quick else None
        whole_exercise = steps == tuple(SHARES)
        default = 60 * exercise.minutes if exercise.minutes and whole_exercise and not quick else NO_BUDGET
        seconds = default if flags.get("budget") is None else flags["budget"]
        budget = None if seconds == NO_BUDGET else Budget(seconds, steps)
        return Session(exercise, self.path, folder, data, workers, seed, console, cluster, images, budget)

    def search_options(self, tuner: str, max_epochs: int | None, trials: int | None, quick: bool) -> dict[str, Any]:
        if trials is not None and tuner == "hyperband":
            raise RequestError("--trials is for --tuner random; Hyperband's number of trials follows from --max-epochs")
        return {
            "tuner": tuner,
            "max_epochs": max_epochs or (3 if quick else self.exercise.max_epochs),
            "trials": trials or (4 if quick else 30),
        }

    def seeds(self, given: int | None, quick: bool) -> int:
        return given or (1 if quick else self.exercise.seeds)

    def say_what(self, what: str, flags: dict[str, Any]) -> None:
        """The first line, before anything slow is imported; what the flags contradict is refused before it."""
        if flags["workers"] == 0 and flags["cluster"] is not None:
            raise RequestError("--workers 0 trains in this process and --cluster elsewhere; leave one of them out")
        where = flags["results"] or Path("results", *([QUICK_FOLDER] if flags["quick"] else []))
        click.echo(f"{self.exercise.title}: {what}, in {where / self.exercise.name}")


def _console() -> Console:
    from rich.console import Console

    return Console(highlight=False, width=None if sys.stdout.isatty() else PIPED_WIDTH)


def _finalist_options(finalists: int | None, finalist_seeds: int | None, quick: bool) -> dict[str, int]:
    return {"count": finalists or (1 if quick else 4), "seeds": finalist_seeds or (1 if quick else 3)}


@click.group(invoke_without_command=True, subcommand_metavar="[VERB]")
@options.tuner
@options.max_epochs
@options.trials
@options.finalists
@options.finalist_seeds
@options.epochs("Epochs of retraining (100).")
@options.seeds
@options.training
@options.fresh
@options.read_test_again
@options.tensorboard
@options.budget
@click.pass_context
def _whole(context: click.Context, /, **flags: Any) -> None:
    if context.invoked_subcommand is not None:
        _refuse_flags_before_the_verb(context)
        return
    script: Script = context.obj
    from search.lab import commands
    from search.lab.planning import Rest
    from search.results import lab_command_line

    quick, seeds = flags["quick"], script.seeds(flags["seeds"], flags["quick"])
    how = script.search_options(flags["tuner"], flags["max_epochs"], flags["trials"], quick)
    final = _finalist_options(flags["finalists"], flags["finalist_seeds"], quick)
    epochs = flags["epochs"] or (3 if quick else 100)
    script.say_what("search, finalists, sweeps, ablation, retraining, report", flags)
    held = script.session(steps=tuple(SHARES), **flags)
    most_values = 3 if quick else None
    rest = Rest(final["count"], final["seeds"], 1 if quick else SWEEP_EPOCHS, most_values, epochs, seeds)
    held.rest = rest
    with held.held(flags["fresh"]):
        commands.search(held, **how)
        commands.finalists(held, **final)
        commands.show_summary(held, "text")
        for swept in script.exercise.sweeps:  # before the test images are read
            commands.sweep(
                held, swept, epochs=rest.sweep_epochs, seeds=seeds, held_from="start", most_values=most_values
            )
        commands.ablation(held, epochs=rest.sweep_epochs, seeds=seeds)
        commands.retrain(held, epochs=epochs, seeds=seeds, again=flags["read_test_again"])
        if flags["tensorboard"]:
            commands.tensorboard(held)
        commands.report(held)
        held.say(f"Next, when all exercises are done: `{lab_command_line(held.results, 'report')}`")


@_whole.command()
@options.tuner
@options.max_epochs
@options.trials
@options.training
@options.fresh
@options.tensorboard
@options.budget
@click.pass_obj
def search(
    script: Script,
    /,
    tuner: str,
    max_epochs: int | None,
    trials: int | None,
    fresh: bool,
    tensorboard: bool,
    **flags: Any,
) -> None:
    """Explore the space; run it again to go on."""
    from search.lab import commands

    how = script.search_options(tuner, max_epochs, trials, flags["quick"])
    script.say_what("search", flags)
    held = script.session(steps=("search",), **flags)
    with held.held(fresh):
        commands.search(held, **how)
        if tensorboard:
            commands.tensorboard(held)
        held.say_next("finalists")


@_whole.command()
@options.finalists
@options.finalist_seeds
@options.training
@click.pass_obj
def finalists(script: Script, /, finalists: int | None, finalist_seeds: int | None, **flags: Any) -> None:
    """Train the best configurations and the starting model again; the best mean wins."""
    from search.lab import commands

    script.say_what("finalists", flags)
    held = script.session(**flags)
    with held.held():
        commands.finalists(held, **_finalist_options(finalists, finalist_seeds, flags["quick"]))
        held.say_next("retrain")


@_whole.command()
@options.epochs("Epochs of the training (100).")
@options.seeds
@options.training
@options.read_test_again
@options.tensorboard
@click.pass_obj
def retrain(
    script: Script, /, epochs: int | None, seeds: int | None, read_test_again: bool, tensorboard: bool, **flags: Any
) -> None:
    """Train the best and the starting model again, evaluate on the test images."""
    from search.lab import commands

    quick = flags["quick"]
    script.say_what("retraining", flags)
    held = script.session(**flags)
    with held.held():
        commands.retrain(
            held, epochs=epochs or (3 if quick else 100), seeds=script.seeds(seeds, quick), again=read_test_again
        )
        if tensorboard:
            commands.tensorboard(held)
        held.say_next("report")


@_whole.command()
@click.argument("name", callback=options.named)
@options.epochs(f"Epochs of each training ({SWEEP_EPOCHS}).")
@options.seeds
@click.option(
    "--from",
    "held_from",
    type=click.Choice(["start", "best"]),
    default="start",
    help="What the others are held at.",
)
@options.training
@click.pass_obj
def sweep(script: Script, /, name: str, epochs: int | None, seeds: int | None, held_from: str, **flags: Any) -> None:
    """Try the values of one hyper-parameter, everything else held."""
    from search.lab import commands

    quick = flags["quick"]
    script.say_what(f"sweep of {name}", flags)
    held = script.session(**flags)
    with held.held():
        commands.sweep(
            held,
            name,
            epochs=epochs or (1 if quick else SWEEP_EPOCHS),
            seeds=script.seeds(seeds, quick),
            held_from=held_from,
            most_values=3 if quick else None,
        )
        held.say_next("report")


@_whole.command()
@options.epochs(f"Epochs of each training ({SWEEP_EPOCHS}).")
@options.seeds
@options.training
@click.pass_obj
def ablation(script: Script, /, epochs: int | None, seeds: int | None, **flags: Any) -> None:
    """Go from the starting to the best model, one hyper-parameter a step."""
    from search.lab import commands

    quick = flags["quick"]
    script.say_what("ablation", flags)
    held = script.session(**flags)
    with held.held():
        commands.ablation(held, epochs=epochs or (1 if quick else SWEEP_EPOCHS), seeds=script.seeds(seeds, quick))
        held.say_next("report")


@_whole.command()
@options.where
@click.option("--csv", is_flag=True, help="The trials as CSV.")
@click.option("--json", is_flag=True, help="The best and the trials as JSON.")
@click.pass_obj
def summary(script: Script, /, csv: bool, json: bool, **flags: Any) -> None:
    """What the search found."""
    from search.lab import commands

    if csv and json:
        raise RequestError("--csv and --json were both given; expected one of them")
    commands.show_summary(script.session(**flags), "csv" if csv else "json" if json else "text")


@_whole.command()
@options.where
@click.pass_obj
def report(script: Script, /, **flags: Any) -> None:
    """Write report.html."""
    from search.lab import commands

    commands.report(script.session(**flags))


def exercise_command(exercise: Exercise, script: Path) -> click.Group:
    """The command line of the exercise that ``script`` defines; without a verb it goes through all of it."""
    command = copy.copy(_whole)
    command.name = script.name
    command.help = f"{exercise.title}: {exercise.question}\n\nWithout a verb: all of it, the flags below with it. A verb has its own."
    command.context_settings = {"obj": Script(exercise, script)}
    return command


def lab_command() -> click.Group:
    """``python -m search``: what concerns all exercises."""

    @click.group(
        "python -m search",
        help="Over all exercises: report, hand-in, verification, and the summary of any project.",
        no_args_is_help=True,
    )
    def group() -> None: ...

    where = click.option("--results", default="results", callback=options.folder, help="The results folder.")

    @group.command()
    @click.argument("path", required=False, type=click.Path(exists=True, file_okay=False, path_type=Path))
    @where
    def report(path: Path | None, results: Path) -> None:
        """Write results/report.html over every exercise; with PATH, the report of a KerasTuner project folder."""
        from search.report.page import write_lab_report, write_search_report
        from search.results import lab_command_line

        if path is None:
            click.echo(f"The lab report is {write_lab_report(results)}")
            click.echo(f"Next: `{lab_command_line(results, 'archive LASTNAME_firstname')}`")
        else:
            click.echo(f"The report is {write_search_report(path)}")

    @group.command()
    @click.argument("path", type=click.Path(exists=True, file_okay=False, path_type=Path))
    def summary(path: Path) -> None:
        """The trials of a KerasTuner project folder, best first."""
        from search import results
        from search.report import console

        search = results.read_project(path)
        console.print_project(search, _console())
        for line in search.damaged:
            click.echo(line, err=True)

    @group.command()
    @click.argument("owner", metavar="LASTNAME_firstname")
    @where
    def archive(owner: str, results: Path) -> None:
        """Write LASTNAME_firstname_Lab3_DLCV.tar.bz2: the code and the reports. The last name is in capitals."""
        from search.lab.archive import archive, lacking, size_mib

        path = archive(owner, Path(__file__).resolve().parents[2], results, Path.cwd())
        click.echo(f"The hand-in is {path.name}, {size_mib(path):.1f} MiB")
        for line in lacking(results):
            click.echo(f"Note: {line}")

    @group.command()
    @click.argument("paths", metavar="PATH...", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
    @click.option("--csv", is_flag=True, help="A line of CSV for each thing that was checked.")
    @click.option("--data", help="The images, where those that a result names are not here.")
    @click.option("--retrain", is_flag=True, help="Train both models again, and compare every figure.")
    def verify(paths: tuple[Path, ...], csv: bool, data: str | None, retrain: bool) -> None:
        """Check results, or hand-ins, against what they record; without --retrain it trains nothing.

        It reads the test images and chooses nothing by them: that reading is not logged."""
        from search.lab.reproduce import NOT_REPRODUCED
        from search.lab.verify import NOT_CHECKED, verify

        if not csv:
            click.echo(f"Verifying {', '.join(map(str, paths))}")
        findings = [finding for path in paths for finding in verify(path, data, retrain)]
        if csv:
            write = files.spreadsheet_row
            click.echo(write(("source", "exercise", "checked", "verdict", "differs")))
        for found in findings:
            if csv:
                click.echo(write((found.source, found.exercise, found.checked, found.verdict, found.differs)))
            else:
                differs = f": {found.differs}" if found.differs else ""
                click.echo(f"{found.where}, {found.checked}: {found.verdict}{differs}")
        wrong, unknown = (sum(found.verdict == kind for found in findings) for kind in (NOT_REPRODUCED, NOT_CHECKED))
        if wrong:
            rest = f", {unknown} not checked" if unknown else ""
            raise WorkError(f"{wrong} of {len(findings)} checks are not reproduced{rest}; see the lines above")

    return group


def _refuse_flags_before_the_verb(context: click.Context) -> None:
    for parameter in context.command.params:
        if context.get_parameter_source(parameter.name or "") == click.core.ParameterSource.COMMANDLINE:
            raise RequestError(
                f"{parameter.opts[0]} stands before {context.invoked_subcommand}; a verb's flags follow it: "
                f"`python {context.command_path} {context.invoked_subcommand} --help`"
            )
