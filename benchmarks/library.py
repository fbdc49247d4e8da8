"""The package as a library, one import changed: whole searches against KerasTuner, ``search.fit`` against ``model.fit``.

    python benchmarks/library.py [dense] [mlp_or_cnn] [tabular] [fit] [--workers 2] [--runs 3] [--sides ours,stock] [--quick]

The programs are in ``benchmarks/programs``. A search is a process timed whole, both cores available, the sides in turn;
run i has the seed 7 + i on every side. ``fit`` is a process for each side and run too, timed from within: for each
model 3 epochs with the start, what compiling takes included, and 3 epochs more. "Loss apart" is the largest difference
between the sides' losses after them, as a share.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # else `import search` would find benchmarks/search.py

from benchmarks.figures import ROOT, figure, heading, made_with

PROGRAMS = ROOT / "benchmarks" / "programs"
SEARCHES = ("dense", "mlp_or_cnn", "tabular")
SIDES = ("ours", "stock")
SEED = 7
SAMPLES = 10_000
EPOCHS = 3
QUICK = {"TRIALS, EPOCHS, IMAGES": "2, 1, 500", "EPOCHS, ROWS": "3, 1000"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", metavar="WHAT", help=f"some of {', '.join(SEARCHES)}, fit; all by default")
    parser.add_argument("--sides", default=",".join(SIDES), help="ours, stock or both")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--workers", type=int, help="ours: workers= in the tuners' constructors (left out)")
    parser.add_argument("--models", default="", help="fit: some of its models, by name, with commas (all)")
    parser.add_argument("--quick", action="store_true", help="one run of the smallest searches and of one epoch")
    flags = parser.parse_args()
    sides = flags.sides.split(",")
    if unknown := set(sides) - set(SIDES):
        parser.error(f"--sides {','.join(sorted(unknown))}: expected some of {','.join(SIDES)}")
    what = flags.what or [*SEARCHES, "fit"]
    if unknown := set(what) - {*SEARCHES, "fit"}:
        parser.error(f"{', '.join(sorted(unknown))}: expected some of {', '.join(SEARCHES)}, fit")
    runs = 1 if flags.quick else flags.runs
    if runs < 1:
        parser.error(f"--runs {runs}: expected at least one")
    heading()
    for program in SEARCHES:
        if program in what:
            searches(program, sides, runs, flags.workers, flags.quick)
    if "fit" in what:
        fits(sides, runs, [name for name in flags.models.split(",") if name], flags.quick)
    made_with(runs)


def searches(program: str, sides: list[str], runs: int, workers: int | None, quick: bool) -> None:
    """One program's figures."""
    seconds: dict[str, list[float]] = {side: [] for side in sides}
    best: dict[str, list[float]] = {side: [] for side in sides}
    trials: dict[str, list[float]] = {side: [] for side in sides}
    for i in range(runs):
        for side in sides:
            text = (PROGRAMS / f"{program}.py").read_text()
            text = text.replace(f"SEED = {SEED}\n", f"SEED = {SEED + i}\n")
            if side == "stock":
                text = text.replace("import search as keras_tuner\n", "import keras_tuner\n")
            elif workers is not None:
                text = text.replace("# workers\n", f"workers={workers},\n")
            if quick:
                for names, values in QUICK.items():
                    text = re.sub(rf"^{names} = .*$", f"{names} = {values}", text, flags=re.MULTILINE)
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / f"{program}.py"
                path.write_text(text)
                taken, facts = timed([str(path)], Path(folder))
            seconds[side].append(taken)
            best[side].append(float(facts["best"]))
            trials[side].append(float(facts["trials"]))
    for side in sides:
        figure(f"{program}, {side}", seconds[side], "s")
        figure(f"{program}, {side}: trials", trials[side], "")
        figure(f"{program}, {side}: best", best[side], "loss" if program == "tabular" else "accuracy")
    if len(sides) == 2:
        figure(f"{program}: times faster than stock", ratios(seconds["stock"], seconds["ours"]), "")


def fits(sides: list[str], runs: int, models: list[str], quick: bool) -> None:
    """The figures of ``fit``, model by model."""
    found: dict[str, list[dict]] = {side: [] for side in sides}
    samples, epochs = (640, 1) if quick else (SAMPLES, EPOCHS)
    for i in range(runs):
        for side in sides:
            arguments = [str(PROGRAMS / "fits.py"), side, str(SEED + i), str(samples), str(epochs), *models]
            with tempfile.TemporaryDirectory() as folder:
                _, facts = timed(arguments, Path(folder))
            found[side].append(json.loads(facts["figures"]))
    for model in found[sides[0]][0]:
        for part, title in (("first", f"{epochs} epochs with the start"), ("more", f"{epochs} epochs more")):
            seconds = {side: [run[model][part] for run in found[side]] for side in sides}
            for side in sides:
                figure(f"fit, {model}: {title}, {side}", seconds[side], "s")
            if len(sides) == 2:
                figure(f"fit, {model}: {title}, times faster", ratios(seconds["stock"], seconds["ours"]), "")
        if len(sides) == 2:
            figure(f"fit, {model}: loss apart", [apart(*pair, model) for pair in zip(*found.values(), strict=True)], "")


def ratios(numerators: list[float], denominators: list[float]) -> list[float]:
    """Run by run."""
    return [a / b for a, b in zip(numerators, denominators, strict=True)]


def apart(one: dict, other: dict, model: str) -> float:
    """The largest relative difference of the two runs' losses."""
    pairs = zip(one[model]["losses"], other[model]["losses"], strict=True)
    return max(abs(a - b) / max(abs(b), 1e-12) for a, b in pairs)


def timed(arguments: list[str], folder: Path) -> tuple[float, dict[str, str]]:
    """The seconds of a process from its start to its end, and what it printed as ``> name: value``."""
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests" / "guides")]),
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "PYTHONWARNINGS": "ignore",
    }
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    seconds = time.perf_counter() - began
    if done.returncode:
        sys.exit(f"{' '.join(arguments)} ended with {done.returncode}:\n{(done.stdout + done.stderr)[-3000:]}")
    return seconds, dict(re.findall(r"^> ([^:\n]+): (.*)$", done.stdout, flags=re.MULTILINE))


if __name__ == "__main__":
    main()
