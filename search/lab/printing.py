"""What the steps print: the plan, a line for what ends, the tables of figures."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from typing import Any

from rich.table import Table

from search.lab.session import Session
from search.oracles.space import own_values
from search.report import estimators, figures, sentences
from search.report.progress import Progress


def print_plan(
    session: Session, tuner: str, rungs: list[Any], seconds: float, workers: int, epoch_seconds: float
) -> None:
    """Prints what a search will do: its rungs, trials and epochs, and the seconds it will take."""
    trials = sum(rung.trials for rung in rungs)
    epochs = sum(rung.trials * (rung.epochs - rung.initial_epoch) for rung in rungs)
    name = "Hyperband" if tuner == "hyperband" else "Random search"
    session.console.print(
        f"[bold]{session.exercise.title}[/bold]: {name}, {trials} trials, {epochs} epochs", highlight=False
    )
    if tuner == "hyperband":
        table = Table(box=None, pad_edge=False, header_style="dim")
        table.add_column("bracket", justify="right")
        table.add_column("trials to epoch, rung by rung")
        for bracket in sorted({rung.bracket for rung in rungs}, reverse=True):
            steps = [f"{rung.trials} to {rung.epochs}" for rung in rungs if rung.bracket == bracket]
            table.add_row(str(bracket), ", ".join(steps))
        session.console.print(table)
    session.say(
        f"Predicted: about {figures.duration(seconds, ' ')} with {workers} "
        f"{'worker' if workers < 2 else 'workers'} (the starting model takes {epoch_seconds:.2f} s an epoch here)."
    )


def print_whole(session: Session, search: float, rest: float) -> None:
    """Prints the seconds that the exercise will take with all that follows its search."""
    whole, budget = search + rest, session.budget
    if budget is not None and whole > budget.seconds:
        session.say(
            f"All of it would take about {figures.duration(whole, ' ')}; the budget is "
            f"{figures.duration(budget.seconds, ' ')}: fewer finalists and seeds, and networks that train in time (--budget)."
        )
        return
    session.say(
        f"All of it: about {figures.duration(whole, ' ')}, with finalists, sweeps and retraining, if the best "
        "configuration is as large as those tried first."
    )


def print_metrics(session: Session, metrics: dict[str, Any]) -> None:
    """Prints what ``metrics.json`` says of the tuned and of the starting model, medians over their seeds."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("")
    several = len(metrics["tuned"]["seeds"]) > 1
    over = (", median" if several else ""), (" of the mean" if several else "")
    runs = [run for name in ("tuned", "start") for run in metrics[name]["seeds"]]
    trained = sorted({int(run.get("epochs", metrics["epochs"])) for run in runs})
    columns = (
        f"loss at {f'{trained[0]} to ' if len(trained) > 1 else ''}{figures.plural(trained[-1], 'epoch')}{over[0]}",
        f"test accuracy{over[0]}",
        f"95 % interval{over[1]}",
    )
    for column in columns:
        table.add_column(column, justify="right", overflow="fold")
    for name, title in (("tuned", "tuned"), ("start", "starting model")):
        model = metrics[name]
        low, high = model["interval"]
        table.add_row(
            title, f"{model['loss']:.4g}", figures.percent(model["test_accuracy"]), figures.interval(low, high)
        )
    session.console.print(table)
    gain, over_what = metrics["difference"], "seeds and images" if several else "images"
    interval = f"95 % interval {100 * gain['low']:+.2f} to {100 * gain['high']:+.2f} over {over_what}"
    if not any(gain[end] for end in ("value", "low", "high")):
        interval = "of which there is no interval: the two answer alike"
    session.say(f"Tuned minus starting model, mean test accuracy: {100 * gain['value']:+.2f} points, {interval}.")
    if any(run.get("of_epoch", run.get("epochs")) != run.get("epochs") for run in runs):
        session.say("Note: fit left networks that are not those of their last epoch; all figures are of what it left.")
    session.say(
        f"Always answering the most frequent class would score {figures.percent(metrics['majority_accuracy'])}."
    )


def print_sweep(session: Session, name: str, rows: list[dict[str, Any]], chosen: dict[str, Any]) -> None:
    """Prints the mean of each value's seeds; ``rows`` and ``chosen`` are from :func:`search.lab.sweep.sweep`."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    retuned = session.exercise.retuned.get(name)
    for column in (
        f"{name}, {retuned}" if retuned else name,
        "validation accuracy",
        "± 1 SD",
        "loss",
        "seconds an epoch",
    ):
        table.add_column(column, justify="right", overflow="fold")
    for value in dict.fromkeys(row["value"] for row in rows):
        group = [row for row in rows if row["value"] == value]
        accuracy, deviation, n = estimators.mean_and_deviation([row["val_accuracy"] for row in group])
        loss, _, _ = estimators.mean_and_deviation([row["loss"] for row in group])
        if n < len(group):  # the trainings that survived do not speak for it
            accuracy = deviation = loss = math.nan
        cells = ((accuracy, ".4f"), (deviation, ".4f"), (loss, ".4g"))
        table.add_row(
            ", ".join(map(figures.value, (value, *([chosen[str(value)]] if chosen else [])))),
            *(f"{figure:{form}}" if math.isfinite(figure) else "-" for figure, form in cells),
            _seconds([row["seconds_per_epoch"] for row in group]),
        )
    session.console.print(table)


def print_steps(session: Session, steps: Sequence[Sequence[str]], epochs: int, seeds: int, about: str) -> None:
    """Prints what an ablation will do; ``steps`` are from :func:`search.lab.ablation.steps_between`, ``about`` is its time."""
    named = "; ".join(f"{step[0]} with {', '.join(step[1:])}" if step[1:] else step[0] for step in steps)
    session.say(
        f"Ablation from the starting model to the best configuration, {figures.plural(len(steps), 'step')}: {named}. "
        f"{figures.plural(epochs, 'epoch')}, {seeds} fresh {'seeds' if seeds > 1 else 'seed'} each; {about}."
    )


def _seconds(measured: list[float]) -> str:
    known = [seconds for seconds in measured if not math.isnan(seconds)]
    return f"{statistics.fmean(known):.3f}" if known else "-"


def event(trial: Any, best: Any) -> str:
    """The plain line of a trial that has ended."""
    values = sentences.configuration(own_values(trial.hyperparameters.values))
    if trial.status == "FAILED":
        return f"trial {trial.trial_id} failed: {trial.message}; {values}"
    told = [len(metric.get_history()) for metric in trial.metrics.metrics.values()]
    epochs = trial.hyperparameters.values.get("tuner/epochs") or max(told)
    note = f"; {trial.message}" if trial.message else ""
    return f"trial {trial.trial_id}: {trial.score:.4f} after {epochs} {'epoch' if epochs == 1 else 'epochs'}; best {best.score:.4f}; {values}{note}"


def best_line(best: Any) -> str:
    """The best trial and its configuration; empty before there is one."""
    if best is None:
        return ""
    return f"Best so far: {best.score:.4f}, {sentences.configuration(own_values(best.hyperparameters.values))}"


def watch(progress: Progress, ended: Callable[[Any, Any], None]) -> Callable[[Any, Any], None]:
    """Tells ``ended`` and ``progress`` of each job that ends, as :func:`search.workers.base.run_all` asks."""

    def watch(job: Any, outcome: Any) -> None:
        ended(job, outcome)
        if not outcome.completed:
            progress.advance(f"{job.name} failed: {outcome.message}")
            return
        loss, accuracy = outcome.final("loss"), outcome.final("val_accuracy")
        progress.advance(f"{job.name}: loss {loss:.4f}, validation accuracy {accuracy:.4f}")

    return watch
