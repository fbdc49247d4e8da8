"""The README's table of what `make lab` reached, from the files of a results folder; no figure is typed.

python benchmarks/lab_results.py docs/results
python benchmarks/lab_results.py docs/results --from results    # first copies the small files of that run there
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # else `import search` would find benchmarks/search.py

from search import files, results
from search.report import figures, sentences

EXERCISES = ("single", "hidden", "multiclass")
SMALL = ("run.json", "best.json", "trials.csv", "finalists/finalists.json", "ablation/ablation.json", "sweeps/*.csv")
SMALL += ("retrain/metrics.json", "retrain/history.csv", "retrain/start_history.csv", "test-readings.jsonl")
COLUMNS = (
    "exercise",
    "model",
    "weights",
    "training loss at {epochs} epochs",
    "test accuracy",
    "95 % interval of the mean",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--from", dest="source", type=Path, help="a results folder, whose small files are copied first")
    flags = parser.parse_args()
    if flags.source is not None:
        copy(flags.source, flags.folder)
    print(table(flags.folder))


def copy(source: Path, folder: Path) -> None:
    """What the table, and a reader who doubts it, needs of each exercise."""
    for exercise in EXERCISES:
        for path in (path for pattern in SMALL for path in sorted((source / exercise).glob(pattern))):
            to = folder / path.relative_to(source)
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, to)


def table(folder: Path) -> str:
    """The table in Markdown: medians over seeds with smallest and largest, the interval of the mean by bootstrap."""
    rows, epochs, seeds = [], set(), set()
    for exercise in EXERCISES:
        if not (folder / exercise / "retrain" / "metrics.json").exists():
            continue
        metrics = files.read_json(folder / exercise / "retrain" / "metrics.json")
        title = results.read_record(folder / exercise).title
        epochs.add(metrics["epochs"])
        for i, (name, called) in enumerate((("start", "starting"), ("tuned", "tuned"))):
            seeds.add(len(metrics[name]["seeds"]))
            other = metrics["tuned" if name == "start" else "start"]
            rows.append((title if i == 0 else "", *_row(metrics[name], called, other)))
        rows.append(("", "tuned minus starting", "", "", "", _difference(metrics["difference"])))
    columns = [column.format(epochs=" or ".join(map(str, sorted(epochs)))) for column in COLUMNS]
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def _row(model: dict[str, Any], called: str, other: dict[str, Any]) -> tuple[str, ...]:
    settings = sentences.configuration(model["hyperparameters"])
    spreads = {measure: model["range"].get(measure, [model[measure]] * 2) for measure in ("loss", "test_accuracy")}
    loss, accuracy = (
        f"{figures.metric(measure, model[measure])} ({figures.extent(measure, *spread)})"
        for measure, spread in spreads.items()
    )
    its, others = model.get("loss_function", {}), other.get("loss_function", {})
    if apart := [f"{figures.words(name)} {figures.value(its[name])}" for name in its if its[name] != others.get(name)]:
        loss += f", with {figures.listed(apart)}"
    low, high = model["interval"]
    return f"{called}: {settings}", f"{model['parameters']:,}", loss, accuracy, f"{100 * low:.2f} to {100 * high:.2f} %"


def _difference(difference: dict[str, float]) -> str:
    value, low, high = (100 * difference[name] for name in ("value", "low", "high"))
    return f"{value:+.2f} points ({low:+.2f} to {high:+.2f})"


if __name__ == "__main__":
    main()
