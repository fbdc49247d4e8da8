"""The flags of the command line: what each is called, takes and says of itself."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

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


def named(context: click.Context, parameter: click.Parameter, value: str) -> str:
    if not value:
        raise click.BadParameter("'' names no hyper-parameter; expected a name, as in `sweep batch_size`")
    return value


def folder(context: click.Context, parameter: click.Parameter, value: str | None) -> Path | None:
    if value == "":  # Path("") would be the current folder
        raise click.BadParameter("'' names no folder; expected one, or leave --results out")
    return None if value is None else Path(value)


tuner = click.option(
    "--tuner", type=click.Choice(["hyperband", "random"]), default="hyperband", help="How to search (hyperband)."
)
trials = click.option("--trials", type=click.IntRange(1, 1_000_000), help="Trials of a random search (30).")
max_epochs = click.option(
    "--max-epochs", type=click.IntRange(1, 10_000), help="Epochs of the longest trial (the exercise's own)."
)
finalists = click.option(
    "--finalists",
    type=click.IntRange(1, 100),
    help="Best configurations that are trained again (4), the starting model too.",
)
finalist_seeds = click.option("--finalist-seeds", type=click.IntRange(1, 100), help="Trainings a finalist (3).")
seeds = click.option(
    "--seeds",
    type=click.IntRange(1, 1000),
    help="Trainings a model, a value of a sweep or a step (the exercise's own).",
)
fresh = click.option("--fresh", is_flag=True, help="Set earlier results aside and start anew.")
read_test_again = click.option(
    "--read-test-again", is_flag=True, help="Read the test images once more; the report says how often they were read."
)
budget = click.option(
    "--budget",
    type=Duration(),
    help="A time to keep, as in 20m or 1h30m: what fits is done, and nothing begins that could not end; none for no limit.",
)
tensorboard = click.option("--tensorboard", is_flag=True, help="Write the curves and settings for TensorBoard, too.")


def epochs(help: str) -> Callable[[Command], Command]:
    return click.option("--epochs", type=click.IntRange(1, 100_000), help=help)


def where(command: Command) -> Command:
    """Where an exercise's results are."""
    for option in (
        click.option(
            "--quick",
            is_flag=True,
            help=f"The smallest budget, {QUICK_IMAGES:,} training images, in results/{QUICK_FOLDER}.",
        ),
        click.option("--results", callback=folder, help="The results folder (results)."),
    ):
        command = option(command)
    return command


def training(command: Command) -> Command:
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
    return where(command)
