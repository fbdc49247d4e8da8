"""What a search found, as a table a person reads or as CSV or JSON for machines."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from search import store

FIGURES = ("val_accuracy", "val_loss")


def hyperparameter_names(row: dict[str, str]) -> list[str]:
    """The exercise's hyper-parameters among the columns of ``trials.csv``."""
    columns = list(row)
    return columns[columns.index("epochs") + 1 : columns.index("best_epoch")]


def as_json(folder: Path) -> str:
    """The best configuration and every trial."""
    best = store.read_json(folder / "best.json") if (folder / "best.json").exists() else None
    return json.dumps({"best": best, "trials": store.read_csv(folder / "trials.csv")}, indent=1)


def print_summary(folder: Path, console: Console, top: int = 10) -> None:
    """Prints the best trials, the space as it was sampled, where the budget went, and failed trials with their reason.

    Raises:
        WorkError: the folder's files are missing or damaged.
    """
    run = store.read_json(folder / "run.json")
    objective, direction = run["exercise"]["objective"], run["exercise"]["direction"]
    rows = store.read_csv(folder / "trials.csv")
    completed = [row for row in rows if row["status"] == "COMPLETED"]
    failed = [row for row in rows if row["status"] == "FAILED"]
    step = run["steps"]["search"]
    console.print(f"[bold]{run['exercise']['title']}[/bold]: {len(completed)} trials completed", end="")
    console.print(f", {len(failed)} failed, {step['epochs_trained']} epochs in {step['seconds']:.0f} s", end="")
    console.print("" if step["complete"] else " so far; the search is not complete, run it again to go on")
    if completed:
        names = hyperparameter_names(completed[0])
        sign = -1 if direction == "max" else 1
        best = sorted(completed, key=lambda row: sign * float(row[objective]))[:top]
        console.print()
        console.print(_trials_table(f"The {len(best)} best by {objective} (each trial's best epoch)", best, names))
        console.print()
        console.print(_space_table(step["space"]))
        console.print()
        console.print(_budget_table(rows, objective, direction))
    for row in failed:
        console.print(f"trial {row['trial_id']} failed: {row['message']}", markup=False)


def format_value(text: Any) -> str:
    """A hyper-parameter's value as a person writes it."""
    try:
        number = float(text)
    except (TypeError, ValueError):
        return str(text)
    return f"{number:.3g}" if abs(number) < 1 and number else f"{number:g}"


def one_line(values: Mapping[str, Any]) -> str:
    """A configuration as a person writes it."""
    return ", ".join(f"{name} {format_value(value)}" for name, value in values.items())


def _trials_table(title: str, rows: list[dict[str, str]], names: list[str]) -> Table:
    table = _table(title)
    for column in ("trial", "epochs", *FIGURES):
        table.add_column(column, justify="right")
    table.add_column("configuration", overflow="fold")
    for row in rows:
        figures = [f"{float(row[figure]):.4f}" if row[figure] else "-" for figure in FIGURES]
        table.add_row(
            row["trial_id"], row["epochs"], *figures, one_line({name: row[name] for name in names if row[name]})
        )
    return table


def _space_table(space: list[dict[str, Any]]) -> Table:
    table = _table("The space")
    for column in ("hyper-parameter", "values", "only when"):
        table.add_column(column, overflow="fold")
    for hp in space:
        table.add_row(hp["name"], describe_domain(hp), hp["conditions"] or "-")
    return table


def describe_domain(hp: dict[str, Any]) -> str:
    """The values of a hyper-parameter of ``run.json``'s space, in words."""
    if hp.get("values") is not None:
        return ", ".join(format_value(value) for value in hp["values"])
    words = f"{format_value(hp['min_value'])} to {format_value(hp['max_value'])}"
    return f"{words}, log scale" if hp["sampling"] == "log" else words


def _budget_table(rows: list[dict[str, str]], objective: str, direction: str) -> Table:
    table = _table("Where the budget went")
    for column in ("bracket", "rung", "trials", "to epoch", "epochs", "seconds", f"best {objective}"):
        table.add_column(column, justify="right")
    groups: dict[tuple[str, str], list[dict[str, str]]] = {}
    for row in rows:
        groups.setdefault((row["bracket"], row["round"]), []).append(row)
    for (bracket, rung), group in sorted(
        groups.items(), key=lambda item: (-int(item[0][0] or 0), int(item[0][1] or 0))
    ):
        scores = [float(row[objective]) for row in group if row[objective]]
        best = (max if direction == "max" else min)(scores, default=None)
        table.add_row(
            bracket or "-",
            rung or "-",
            str(len(group)),
            group[0]["epochs"],
            str(sum(int(row["epochs"]) - int(row["initial_epoch"]) for row in group)),
            f"{sum(float(row['seconds'] or 0) for row in group):.1f}",
            "-" if best is None else f"{best:.4f}",
        )
    return table


def _table(title: str) -> Table:
    return Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False, header_style="dim")
