"""The command line: one click command a verb, each with its own flags. TensorFlow is imported by the steps, after all is checked."""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from search import files
from search.errors import RequestError, WorkError
from search.lab.budget import SHARES, Budget
from search.lab.exercise import Exercise

if TYPE_CHECKING:
    from search.lab.session import Session

SWEEP_EPOCHS = 10
PIPED_WIDTH = 1000  # a table in a file has its rows on one line each
QUICK_FOLDER = "quick"  # below the results: its figures are no results of the lab
QUICK_IMAGES = 6_000  # a convolutional epoch over all takes up to a minute

NO_BUDGET = 0.0  # seconds

Command = Callable[..., Any]


class Duration(click.ParamType):  # type: ignore[type-arg]
    """A time as people write it, '90s', '20m' or '1h30m', in seconds above 0; NO_BUDGET for the word 'none'."""

    name = "time"

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> float:
        if value == "none":
            return NO_BUDGET
        found = re.fullmatch(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?", str(value).strip())
        hours, minutes, seconds = (int(part or 0) for part in found.groups()) if found else (0, 0, 0)
        total = 3600 * hours + 60 * minutes + seconds
        if not total:
            self.fail(f"{value!r} is no time; expected one as in 90s, 20m or 1h30m, or none", parameter, context)
        return float(total)


def exercise_command(exercise: Exercise, script: Path) -> click.Group:
    """The command line of the exercise that ``script`` defines; without a verb it goes through all of it."""
    max_epochs = click.option(
        "--max-epochs", type=click.IntRange(1, 10_000), help=f"Epochs of the longest trial ({exercise.max_epochs})."
    )

    def session(results: Path | None, quick: bool, steps: Sequence[str] = (), **flags: Any) -> Session:
        from rich.console import Console

        from search.lab.session import Session

        folder = results or (Path("results", QUICK_FOLDER) if quick else Path("results"))
        data, workers, seed, cluster = (flags.get(key) for key in ("data", "workers", "seed", "cluster"))
        if workers is None and cluster is None:
            workers = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        console = Console(highlight=False, width=None if sys.stdout.isatty() else PIPED_WIDTH)
        images = QUICK_IMAGES if quick else None
        whole_exercise = steps == tuple(SHARES)
        default = 60 * exercise.minutes if exercise.minutes and whole_exercise and not quick else NO_BUDGET
        seconds = default if flags.get("budget") is None else flags["budget"]
        budget = None if seconds == NO_BUDGET else Budget(seconds, steps)
        return Session(exercise, script, folder, data, workers, seed, console, cluster, images, budget)

    def search_options(tuner: str, max_epochs: int | None, trials: int | None, quick: bool) -> dict[str, Any]:
        if trials is not None and tuner == "hyperband":
            raise RequestError("--trials is for --tuner random; Hyperband's number of trials follows from --max-epochs")
        return {
            "tuner": tuner,
            "max_epochs": max_epochs or (3 if quick else exercise.max_epochs),
            "trials": trials or (4 if quick else 30),
        }

    def finalist_options(finalists: int | None, finalist_seeds: int | None, quick: bool) -> dict[str, int]:
        return {"count": finalists or (1 if quick else 4), "seeds": finalist_seeds or (1 if quick else 3)}

    @click.group(
        script.name,
        invoke_without_command=True,
        subcommand_metavar="[VERB]",
        help=f"{exercise.title}: {exercise.question}\n\nWithout a verb: all of it, the flags below with it. A verb has its own.",
    )
    @_tuner
    @max_epochs
    @_trials
    @_finalists
    @_finalist_seeds
    @_epochs("Epochs of retraining (100).")
    @_seeds
    @_training
    @_fresh
    @_read_test_again
    @_tensorboard
    @_budget
    @click.pass_context
    def whole(context: click.Context, /, **flags: Any) -> None:
        if context.invoked_subcommand is not None:
            _refuse_flags_before_the_verb(context)
            return
        from search.lab import commands
        from search.lab.planning import Rest

        quick, seeds = flags["quick"], flags["seeds"] or (1 if flags["quick"] else 3)
        options = search_options(flags["tuner"], flags["max_epochs"], flags["trials"], quick)
        final = finalist_options(flags["finalists"], flags["finalist_seeds"], quick)
        epochs = flags["epochs"] or (3 if quick else 100)
        _say_what(exercise, "search, finalists, sweeps, ablation, retraining, report", flags)
        held = session(steps=tuple(SHARES), **flags)
        most_values = 3 if quick else None
        rest = Rest(final["count"], final["seeds"], 1 if quick else SWEEP_EPOCHS, most_values, epochs, seeds)
        held.rest = rest
        with held.held(flags["fresh"]):
            commands.search(held, **options)
            commands.finalists(held, **final)
            commands.show_summary(held, "text")
            for swept in exercise.sweeps:  # before the test images are read
                commands.sweep(
                    held, swept, epochs=rest.sweep_epochs, seeds=seeds, held_from="start", most_values=most_values
                )
            commands.ablation(held, epochs=rest.sweep_epochs, seeds=seeds)
            commands.retrain(held, epochs=epochs, seeds=seeds, again=flags["read_test_again"])
            if flags["tensorboard"]:
                commands.tensorboard(held)
            commands.report(held)
            held.say(f"Next, when all exercises are done: `{_lab_command('report', held.results)}`")

    @whole.command()
    @_tuner
    @max_epochs
    @_trials
    @_training
    @_fresh
    @_tensorboard
    @_budget
    def search(
        tuner: str, max_epochs: int | None, trials: int | None, fresh: bool, tensorboard: bool, **flags: Any
    ) -> None:
        """Explore the space; run it again to go on."""
        from search.lab import commands

        options = search_options(tuner, max_epochs, trials, flags["quick"])
        _say_what(exercise, "search", flags)
        held = session(steps=("search",), **flags)
        with held.held(fresh):
            commands.search(held, **options)
            if tensorboard:
                commands.tensorboard(held)
            held.say_next("finalists")

    @whole.command()
    @_finalists
    @_finalist_seeds
    @_training
    def finalists(finalists: int | None, finalist_seeds: int | None, **flags: Any) -> None:
        """Train the best configurations and the starting model again; the best mean wins."""
        from search.lab import commands

        _say_what(exercise, "finalists", flags)
        held = session(**flags)
        with held.held():
            commands.finalists(held, **finalist_options(finalists, finalist_seeds, flags["quick"]))
            held.say_next("retrain")

    @whole.command()
    @_epochs("Epochs of the training (100).")
    @_seeds
    @_training
    @_read_test_again
    @_tensorboard
    def retrain(epochs: int | None, seeds: int | None, read_test_again: bool, tensorboard: bool, **flags: Any) -> None:
        """Train the best and the starting model again, evaluate on the test images."""
        from search.lab import commands

        quick = flags["quick"]
        _say_what(exercise, "retraining", flags)
        held = session(**flags)
        with held.held():
            commands.retrain(
                held, epochs=epochs or (3 if quick else 100), seeds=seeds or (1 if quick else 3), again=read_test_again
            )
            if tensorboard:
                commands.tensorboard(held)
            held.say_next("report")

    @whole.command()
    @click.argument("name", callback=_hyperparameter)
    @_epochs(f"Epochs of each training ({SWEEP_EPOCHS}).")
    @_seeds
    @click.option(
        "--from",
        "held_from",
        type=click.Choice(["start", "best"]),
        default="start",
        help="What the others are held at.",
    )
    @_training
    def sweep(name: str, epochs: int | None, seeds: int | None, held_from: str, **flags: Any) -> None:
        """Try the values of one hyper-parameter, everything else held."""
        from search.lab import commands

        quick = flags["quick"]
        _say_what(exercise, f"sweep of {name}", flags)
        held = session(**flags)
        with held.held():
            commands.sweep(
                held,
                name,
                epochs=epochs or (1 if quick else SWEEP_EPOCHS),
                seeds=seeds or (1 if quick else 3),
                held_from=held_from,
                most_values=3 if quick else None,
            )
            held.say_next("report")

    @whole.command()
    @_epochs(f"Epochs of each training ({SWEEP_EPOCHS}).")
    @_seeds
    @_training
    def ablation(epochs: int | None, seeds: int | None, **flags: Any) -> None:
        """Go from the starting to the best model, one hyper-parameter a step."""
        from search.lab import commands

        quick = flags["quick"]
        _say_what(exercise, "ablation", flags)
        held = session(**flags)
        with held.held():
            commands.ablation(held, epochs=epochs or (1 if quick else SWEEP_EPOCHS), seeds=seeds or (1 if quick else 3))
            held.say_next("report")

    @whole.command()
    @_where
    @click.option("--csv", is_flag=True, help="The trials as CSV.")
    @click.option("--json", is_flag=True, help="The best and the trials as JSON.")
    def summary(csv: bool, json: bool, **flags: Any) -> None:
        """What the search found."""
        from search.lab import commands

        if csv and json:
            raise RequestError("--csv and --json were both given; expected one of them")
        commands.show_summary(session(**flags), "csv" if csv else "json" if json else "text")

    @whole.command()
    @_where
    def report(**flags: Any) -> None:
        """Write report.html."""
        from search.lab import commands

        commands.report(session(**flags))

    return whole


def lab_command() -> click.Group:
    """``python -m search``: what concerns all exercises."""

    @click.group("python -m search", help="The lab report over all exercises, and the hand-in.", no_args_is_help=True)
    def group() -> None: ...

    where = click.option("--results", default="results", callback=_folder, help="The results folder.")

    @group.command()
    @click.argument("path", required=False, type=click.Path(exists=True, file_okay=False, path_type=Path))
    @where
    def report(path: Path | None, results: Path) -> None:
        """Write results/report.html over every exercise; with PATH, the report of a KerasTuner project folder."""
        from search.report.page import write_lab_report, write_search_report

        if path is None:
            click.echo(f"The lab report is {write_lab_report(results)}")
            click.echo(f"Next: `{_lab_command('archive LASTNAME_firstname', results)}`")
        else:
            click.echo(f"The report is {write_search_report(path)}")

    @group.command()
    @click.argument("path", type=click.Path(exists=True, file_okay=False, path_type=Path))
    def summary(path: Path) -> None:
        """The trials of a KerasTuner project folder, best first."""
        from search import results
        from search.report import console

        search = results.read_project(path)
        ended = [trial for trial in search.trials if trial.status == "COMPLETED"]
        click.echo(
            f"{search.title}: {len(search.trials)} trials, {len(ended)} completed; best first by {search.objective}"
        )
        for trial in sorted(ended, key=search.score, reverse=search.maximise):
            click.echo(f"{trial.trial_id}  {search.score(trial):.6g}  {console.one_line(trial.hyperparameters)}")
        for line in search.damaged:
            click.echo(line, err=True)

    @group.command()
    @click.argument("owner", metavar="LASTNAME_firstname")
    @where
    def archive(owner: str, results: Path) -> None:
        """Write LASTNAME_firstname_Lab3_DLCV.tar.bz2: the code and the reports."""
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
        from search.lab.verify import verify

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
                click.echo(f"{found.source} {found.exercise}, {found.checked}: {found.verdict}{differs}")
        wrong = sum(bool(found.wrong) for found in findings)
        if wrong:
            raise WorkError(f"{wrong} of {len(findings)} checks are not reproduced; see the lines above")

    return group


def _lab_command(verb: str, results: Path) -> str:
    """What a person types for a verb over all exercises of a results folder."""
    return f"python -m search {verb}" + (
        "" if results == Path("results") else f" --results {shlex.quote(str(results))}"
    )


def _say_what(exercise: Exercise, what: str, flags: dict[str, Any]) -> None:
    """The first line, before anything slow is imported; what the flags contradict is refused before it."""
    if flags["workers"] == 0 and flags["cluster"] is not None:
        raise RequestError("--workers 0 trains in this process and --cluster elsewhere; leave one of them out")
    where = flags["results"] or Path("results", *([QUICK_FOLDER] if flags["quick"] else []))
    click.echo(f"{exercise.title}: {what}, in {where / exercise.name}")


def _refuse_flags_before_the_verb(context: click.Context) -> None:
    for parameter in context.command.params:
        if context.get_parameter_source(parameter.name or "") == click.core.ParameterSource.COMMANDLINE:
            raise RequestError(
                f"{parameter.opts[0]} stands before {context.invoked_subcommand}; a verb's flags follow it: "
                f"`python {context.command_path} {context.invoked_subcommand} --help`"
            )


def _hyperparameter(context: click.Context, parameter: click.Parameter, value: str) -> str:
    if not value:
        raise click.BadParameter("'' names no hyper-parameter; expected a name, as in `sweep batch_size`")
    return value


def _folder(context: click.Context, parameter: click.Parameter, value: str | None) -> Path | None:
    if value == "":  # Path("") would be the current folder
        raise click.BadParameter("'' names no folder; expected one, or leave --results out")
    return None if value is None else Path(value)


_tuner = click.option(
    "--tuner", type=click.Choice(["hyperband", "random"]), default="hyperband", help="How to search (hyperband)."
)
_trials = click.option("--trials", type=click.IntRange(1, 1_000_000), help="Trials of a random search (30).")
_finalists = click.option(
    "--finalists",
    type=click.IntRange(1, 100),
    help="Best configurations that are trained again (4), the starting model too.",
)
_finalist_seeds = click.option("--finalist-seeds", type=click.IntRange(1, 100), help="Trainings a finalist (3).")
_seeds = click.option(
    "--seeds", type=click.IntRange(1, 1000), help="Trainings a model, a value of a sweep or a step (3)."
)
_fresh = click.option("--fresh", is_flag=True, help="Set earlier results aside and start anew.")
_read_test_again = click.option(
    "--read-test-again", is_flag=True, help="Read the test images once more; the report says how often they were read."
)
_budget = click.option(
    "--budget",
    type=Duration(),
    help="A time to keep, as in 20m or 1h30m: what fits is done, and nothing begins that could not end; none for no limit.",
)
_tensorboard = click.option("--tensorboard", is_flag=True, help="Write the curves and settings for TensorBoard, too.")


def _epochs(help: str) -> Callable[[Command], Command]:
    return click.option("--epochs", type=click.IntRange(1, 100_000), help=help)


def _where(command: Command) -> Command:
    """Where an exercise's results are."""
    for option in (
        click.option(
            "--quick",
            is_flag=True,
            help=f"The smallest budget, {QUICK_IMAGES:,} training images, in results/{QUICK_FOLDER}.",
        ),
        click.option("--results", callback=_folder, help="The results folder (results)."),
    ):
        command = option(command)
    return command


def _training(command: Command) -> Command:
    """What every command that trains takes."""
    for option in (
        click.option(
            "--cluster", metavar="ADDRESS", help="Train on a Ray cluster: HOST:PORT, ray://HOST:PORT or local."
        ),
        click.option(
            "--workers",
            type=click.IntRange(0, 1024),
            help="Trials at once (one a core, with --cluster one a CPU of it); 0: in this process.",
        ),
        click.option("--seed", type=click.IntRange(0, 2**31 - 1), help="Where all randomness comes from (0)."),
        click.option("--data", help="An .npz, a folder of IDX files, or keras (the embedded MNIST)."),
    ):
        command = option(command)
    return _where(command)
