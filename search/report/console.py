"""What a search found, as a table a person reads or as CSV or JSON for machines."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from search import results
from search.report import estimators, evidence, figures, sentences

FIGURES = ("val_accuracy", "val_loss")


def as_csv(folder: Path) -> str:
    """``trials.csv``, checked."""
    results.read_search(folder)
    return (folder / "trials.csv").read_text(encoding="utf-8")


def as_json(folder: Path) -> str:
    """The best configuration and every trial, checked; numbers as numbers, null where a trial has none."""
    searched = results.read_search(folder)
    best = None if searched.best is None else _plain(vars(searched.best))
    return json.dumps({"best": best, "trials": [_plain(vars(trial)) for trial in searched.trials]}, indent=1)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def print_summary(folder: Path, console: Console, top: int = 10) -> None:
    """Prints the best trials, the space as it was sampled, where the budget went, and failed trials with their reason.

    Raises:
        WorkError: the folder's files are missing or damaged.
    """
    searched = results.read_search(folder)
    with results.reading(folder / "run.json", "the record of a search", f"run '{searched.command('search')}' again"):
        step = searched.steps["search"]
        spent = f"{step['epochs_trained']} epochs in {step['seconds']:.0f} s"
        space, complete = _space_table(step["space"]), bool(step["complete"])
    completed = [trial for trial in searched.trials if trial.status == "COMPLETED"]
    failed = [trial for trial in searched.trials if trial.status == "FAILED"]
    console.print(
        f"[bold]{searched.title}[/bold]: {figures.plural(len(completed), 'trial')} completed, {len(failed)} failed, {spent}"
        + ("" if complete else " so far; the search is not complete, run it again to go on")
    )
    if completed:
        sign = -1 if searched.maximise else 1
        best = sorted(completed, key=lambda trial: sign * trial.metrics[searched.objective])[:top]
        objective = figures.words(searched.objective)
        shown = f"The {len(best)} best" if len(best) > 1 else "The best trial"
        tables = _trials_table(f"{shown} by {objective} (each trial's best epoch)", best)
        for table in (tables, space, _budget_table(searched)):
            console.print()
            _print_table(table, console)
        if searched.finalists is not None:
            console.print()
            print_finalists(searched, console)
    _print_failed(failed, console)


def summary(folder: Path) -> str:
    """What :func:`print_summary` prints, as ``summary.txt`` has it."""
    text = io.StringIO()
    print_summary(folder, Console(file=text, width=120))
    return text.getvalue()


def print_project(search: results.Search, console: Console) -> None:
    """Prints the completed trials of a project, best first, and the failed ones with their reason."""
    ended = [trial for trial in search.trials if trial.status == "COMPLETED"]
    failed = [trial for trial in search.trials if trial.status == "FAILED"]
    _say(
        f"{search.title}: {figures.plural(len(search.trials), 'trial')}, {len(ended)} completed, {len(failed)} failed; "
        f"best first by {figures.words(search.objective)}",
        console,
    )
    if ended:
        table = Table(box=None, pad_edge=False, header_style="dim")
        for column in ("trial", "epochs", figures.words(search.objective)):
            table.add_column(column, justify="right", overflow="fold")
        table.add_column("configuration", overflow="fold")
        for trial in sorted(ended, key=search.score, reverse=search.maximise):
            cells = (trial.trial_id, str(trial.epochs or "-"), figures.metric(search.objective, search.score(trial)))
            table.add_row(*cells, sentences.configuration(trial.hyperparameters))
        _print_table(table, console)
    _print_failed(failed, console)


def _print_failed(failed: list[results.Trial], console: Console) -> None:
    for trial in failed:
        _say(f"trial {trial.trial_id} failed: {trial.message or 'no reason was recorded'}", console)


def _print_table(table: Table, console: Console) -> None:
    """Prints a table; in a file its lines end where their text does."""
    if console.is_terminal:
        console.print(table)
        return
    with console.capture() as captured:
        console.print(table)
    for line in captured.get().splitlines():
        console.print(line.rstrip(), markup=False, highlight=False, soft_wrap=True)


def _say(text: str, console: Console) -> None:
    """Prints a sentence: a terminal's lines end between words, a file's where the sentence does."""
    console.print(text, markup=False, highlight=False, soft_wrap=not console.is_terminal)


def print_finalists(exercise: results.Results, console: Console) -> None:
    """Prints what the finalists reached and which one was chosen."""
    found = exercise.finalists
    assert found is not None
    table = _table(f"The finalists, {figures.plural(found.epochs, 'epoch')} each")
    for column in ("trial", f"mean {figures.words(found.objective)}", "± 1 SD", "weights", "seconds"):
        table.add_column(column, justify="right", overflow="fold")
    table.add_column("configuration", overflow="fold")
    for i, finalist in enumerate(found.finalists):
        mean, deviation, n = estimators.mean_and_deviation(finalist.scores)
        if n < len(finalist.scores):  # the trainings that survived do not speak for it
            mean = deviation = math.nan
        cells = [_figure(mean), _figure(deviation), figures.count(finalist.parameters), f"{finalist.seconds:.1f}"]
        name = sentences.configuration(finalist.hyperparameters) + (" (the starting model)" if finalist.start else "")
        table.add_row(finalist.trial_id, *cells, name, style="bold" if i == found.winner else None)
    _print_table(table, console)
    for text in (sentences.finalists(found), *sentences.another_loss(exercise.search)):
        _say(text, console)


def print_ablation(exercise: results.Results, console: Console) -> None:
    """Prints what each step of the ablation changed, and which are told apart from no change."""
    found = exercise.ablation
    assert found is not None
    table = _table(f"From the starting to the tuned model, {figures.plural(found.epochs, 'epoch')} a training")
    table.add_column("step", overflow="fold")
    for column in (f"mean {figures.words(found.objective)}", "± 1 SD", "difference", "95 % interval", "weights"):
        table.add_column(column, justify="right", overflow="fold")
    for i, (one, effect) in enumerate(zip(found.path, [None, *evidence.effects(found)], strict=True)):
        mean, deviation, n = estimators.mean_and_deviation(one.scores)
        if n < len(one.scores):  # the trainings that survived do not speak for it
            mean = deviation = math.nan
        difference, interval = "-", "-"
        if effect is not None:
            difference = figures.change(found.objective, effect.value)
            if math.isfinite(effect.low):
                interval = figures.change_interval(found.objective, effect.low, effect.high)
        name = sentences.step_of(found, i) if i else "the starting model"
        failed = "" if math.isfinite(mean) else " (a training failed)"
        weights = figures.count(one.parameters) if one.parameters else "-"
        table.add_row(f"{name}{failed}", _figure(mean), _figure(deviation), difference, interval, weights)
    _print_table(table, console)
    if figures.is_share(found.objective):
        console.print("Differences in percentage points, each to the line above.", style="dim")
    _say(sentences.ablation(found, exercise.maximise), console)


def describe_domain(hp: Mapping[str, Any]) -> str:
    """The values of a hyper-parameter of ``run.json``'s space, in words."""
    if hp.get("values") is not None:
        return ", ".join(figures.value(value) for value in hp["values"])
    words = f"{figures.value(hp['min_value'])} to {figures.value(hp['max_value'])}"
    log = hp["sampling"] == "log"
    if hp.get("step") not in (None, 1):
        words += f", {'each times' if log else 'in steps of'} {figures.value(hp['step'])}"
    return f"{words}, log scale" if log else words


def _trials_table(title: str, trials: list[results.Trial]) -> Table:
    table = _table(title)
    for column in ("trial", "epochs", *map(figures.words, FIGURES)):
        table.add_column(column, justify="right", overflow="fold")
    table.add_column("configuration", overflow="fold")
    for trial in trials:
        cells = [_figure(trial.metrics[figure]) for figure in FIGURES]
        table.add_row(trial.trial_id, str(trial.epochs), *cells, sentences.configuration(trial.hyperparameters))
    return table


def _space_table(space: list[dict[str, Any]]) -> Table:
    table = _table("The space")
    for column in ("hyper-parameter", "values", "only when"):
        table.add_column(column, overflow="fold")
    for hp in space:
        table.add_row(str(hp["name"]), describe_domain(hp), str(hp["conditions"] or "-"))
    return table


def _budget_table(searched: results.Results) -> Table:
    table = _table("Where the budget went")
    best = f"best {figures.words(searched.objective)}"
    for column in ("bracket", "rung", "trials", "to epoch", "epochs", "seconds", best):
        table.add_column(column, justify="right", overflow="fold")
    rungs: dict[tuple[int, int], list[results.Trial]] = {}
    for trial in searched.trials:
        rungs.setdefault((-(trial.bracket or 0), trial.round or 0), []).append(trial)
    for (bracket, rung), trials in sorted(rungs.items()):
        scores = [trial.metrics[searched.objective] for trial in trials]
        scores = [score for score in scores if not math.isnan(score)]
        table.add_row(
            str(-bracket),
            str(rung),
            str(len(trials)),
            str(trials[0].epochs),
            str(sum(trial.epochs - trial.initial_epoch for trial in trials)),
            f"{sum(trial.seconds for trial in trials if not math.isnan(trial.seconds)):.1f}",
            _figure((max if searched.maximise else min)(scores, default=math.nan)),
        )
    return table


def _figure(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.4f}"


def _table(title: str) -> Table:
    return Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False, header_style="dim")
