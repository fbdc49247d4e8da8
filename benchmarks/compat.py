"""The short suite on the oldest and the newest TensorFlow, Keras and Python that setup.cfg allows, each in a fresh environment.

    python benchmarks/compat.py [oldest] [newest] [--folder FOLDER]

A combination needs its Python, ``python3.13`` as a command say; one that is missing fails. The exit code is 0 if the suite passed
on all that were asked for.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
COMBINATIONS = {
    "oldest": ("python3.10", ["tensorflow==2.18.*", "keras==3.12.*"]),
    "newest": ("python3.13", ["tensorflow==2.21.*", "keras==3.15.*"]),
}
TESTS = ("pytest>=9,<10", "scikit-learn>=1.6,<2")  # KerasTuner's Bayesian optimisation wants the latter
SUITE = (
    "tests/test_private_names.py",
    "tests/test_training_fit.py",
    "tests/test_training_plan.py",
    "tests/test_tuner.py",
    "tests/test_search.py",
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("which", nargs="*", help="oldest, newest (both)")
    parser.add_argument("--folder", type=Path, help="where the environments are made and kept (a temporary folder)")
    flags = parser.parse_args()
    for name in flags.which:
        if name not in COMBINATIONS:
            parser.error(f"{name}: expected {' or '.join(COMBINATIONS)}")
    with tempfile.TemporaryDirectory() as temporary:
        folder = flags.folder or Path(temporary)
        passed = {name: passes(folder / name, *COMBINATIONS[name]) for name in flags.which or COMBINATIONS}
    for name, good in passed.items():
        print(f"{name}: {' '.join((COMBINATIONS[name][0], *COMBINATIONS[name][1]))}: {'passed' if good else 'failed'}")
    return 0 if all(passed.values()) else 1


def passes(folder: Path, python: str, packages: list[str]) -> bool:
    """Whether the package installs in a fresh environment in ``folder`` and the suite passes there."""
    if shutil.which(python) is None:
        print(f"{python} is not there", file=sys.stderr)
        return False
    own = str(folder / "bin" / "python")
    steps = (
        [python, "-m", "venv", "--clear", str(folder)],
        [own, "-m", "pip", "install", "--quiet", str(ROOT), *packages, *TESTS],
        [own, "-m", "pytest", "-q", *SUITE],
    )
    return all(subprocess.run(step, cwd=ROOT, check=False).returncode == 0 for step in steps)


if __name__ == "__main__":
    sys.exit(main())
