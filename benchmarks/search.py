"""A whole search, ours against other libraries': seconds of the process, epochs trained, accuracy of what it found.

    python benchmarks/search.py [single] [hidden] [multiclass] [--sides ours,stock,...] [--runs 3] [--quick]

Every side runs in a process of its own, both cores available, the sides in turn. Run i has the seed 7 + i on every side.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # else `import search` would find this file

from benchmarks.figures import ROOT, figure, heading, made_with, script

PEERS = {
    "stock": ["keras-tuner"],
    "optuna-keras": ["optuna", "optuna-integration"],
    "optuna-torch": ["optuna", "torch"],
    "sklearn": ["scikit-learn"],
}
SIDES = ("ours", *PEERS)
SEED = 7
FACTOR = 3
QUIET = {"TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONWARNINGS": "ignore"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("exercises", nargs="*", metavar="EXERCISE", help="single, hidden, multiclass; all by default")
    parser.add_argument("--sides", default=",".join(SIDES), help=f"some of {','.join(SIDES)}")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--max-epochs", type=int, nargs="+", default=[27, 9], help="Hyperband's R (27 and 9)")
    parser.add_argument("--quick", action="store_true", help="one run with R = 3")
    flags = parser.parse_args()
    sides = flags.sides.split(",")
    if unknown := set(sides) - set(SIDES):
        parser.error(f"--sides {','.join(sorted(unknown))}: expected some of {','.join(SIDES)}")
    exercises = flags.exercises or ["single", "hidden", "multiclass"]
    if unknown := {exercise for exercise in exercises if not script(exercise).exists()}:
        parser.error(f"{', '.join(sorted(unknown))}: expected single, hidden, multiclass")
    runs, budgets = (1, [3]) if flags.quick else (flags.runs, flags.max_epochs)
    heading()
    for exercise in exercises:
        taking_part = [side for side in sides if not (side == "sklearn" and exercise == "single")]  # it has no such net
        for max_epochs in budgets:
            results: dict[str, list[dict[str, float]]] = {side: [] for side in taking_part}
            for i in range(runs):
                for side in taking_part:
                    with tempfile.TemporaryDirectory() as folder:
                        run = ours if side == "ours" else peer
                        results[side].append(run(side, exercise, max_epochs, SEED + i, Path(folder)))
            report(f"{exercise}, R={max_epochs}", results)
    made_with(runs, *sorted({package for side in sides for package in PEERS.get(side, [])}))


def ours(side: str, exercise: str, max_epochs: int, seed: int, folder: Path) -> dict[str, float]:
    """The search as a user starts it. The test images are seen by a retraining that the clock does not."""
    common = [f"--results={folder}", f"--seed={seed}", "--workers=2"]
    seconds, _ = timed([str(script(exercise)), "search", f"--max-epochs={max_epochs}", *common])
    best = read(folder / exercise / "best.json")
    timed([str(script(exercise)), "retrain", f"--epochs={best['best_epoch']}", "--seeds=1", *common])
    return {
        "seconds": seconds,
        "epochs": read(folder / exercise / "run.json")["steps"]["search"]["epochs_trained"],
        "val_accuracy": best["score"],
        "test_accuracy": read(folder / exercise / "retrain" / "metrics.json")["tuned"]["test_accuracy"],
    }


def peer(side: str, exercise: str, max_epochs: int, seed: int, folder: Path) -> dict[str, float]:
    """Another library's search; what it spent on the test images is taken off its time."""
    space = folder / "space.json"
    space.write_text(json.dumps([] if side == "stock" else describe_space(exercise)))
    task = {"max_epochs": max_epochs, "budget": hyperband_epochs(max_epochs), "seed": seed, "folder": folder}
    arguments = [f"--{name.replace('_', '-')}={value}" for name, value in task.items()]
    seconds, output = timed(["-m", "benchmarks.peers", side, exercise, *arguments, f"--space={space}"])
    result: dict[str, float] = json.loads(output.splitlines()[-1])
    return {"seconds": seconds - result.pop("evaluation_seconds"), **result}


def timed(arguments: list[str]) -> tuple[float, str]:
    """Runs Python on ``arguments``; the seconds of the whole process, and what it printed."""
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, env=os.environ | QUIET, capture_output=True, text=True, check=False
    )
    seconds = time.perf_counter() - began
    if done.returncode:
        sys.exit(f"{' '.join(arguments)} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    return seconds, done.stdout


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def hyperband_epochs(r: int) -> int:
    """Epochs of one Hyperband, Algorithm 1 of Li et al. (2018), a promoted trial going on from where it stopped."""
    s_max = next(s for s in range(r) if FACTOR ** (s + 1) > r)
    total = 0
    for s in range(s_max, -1, -1):
        n, trained = math.ceil((s_max + 1) * FACTOR**s / (s + 1)), 0
        for i in range(s + 1):
            epochs = math.ceil(r / FACTOR ** (s - i))
            total += n // FACTOR**i * (epochs - trained)
            trained = epochs
    return total


def describe_space(exercise_name: str) -> list[dict[str, Any]]:
    """The exercise's space for a process that does not import TensorFlow."""
    import search.workers.runtime  # noqa: F401
    from search.lab import exercise
    from search.oracles import space

    described = []
    for hp in space.search_space(exercise.load(script(exercise_name)).hypermodel()).space:
        config = hp.get_config()
        limits = {"low": hp.min_value, "high": hp.max_value} if "min_value" in config else {"values": list(hp.values)}
        when = [[condition.name, list(condition.values)] for condition in hp.conditions]
        log = config.get("sampling") == "log"
        described.append({"name": hp.name, "kind": type(hp).__name__, "log": log, "when": when, **limits})
    return described


def report(name: str, results: dict[str, list[dict[str, float]]]) -> None:
    for side, rows in results.items():
        for key, unit in (("seconds", "s"), ("epochs", "epochs"), ("val_accuracy", ""), ("test_accuracy", "")):
            figure(f"{name}, {side}: {key}", [row[key] for row in rows], unit)
    for side, rows in results.items():
        if side != "ours" and "ours" in results:
            ratios = [row["seconds"] / mine["seconds"] for row, mine in zip(rows, results["ours"], strict=True)]
            figure(f"{name}: ours is faster than {side}", ratios, "times")


if __name__ == "__main__":
    main()
