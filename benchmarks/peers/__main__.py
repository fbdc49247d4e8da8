"""One search with another library, as its documentation recommends. `benchmarks/search.py` runs this and times it.

    python -m benchmarks.peers SIDE EXERCISE --max-epochs R --budget EPOCHS --seed S --folder FOLDER --space FILE

The last line printed is the result: epochs, val_accuracy, test_accuracy, evaluation_seconds.
"""

from __future__ import annotations

import argparse
import importlib
import json
from pathlib import Path

MODULES = {"stock": "stock", "optuna-keras": "optuna_study", "optuna-torch": "optuna_study", "sklearn": "halving"}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("side", choices=list(MODULES))
    parser.add_argument("exercise")
    for flag, kind in (("max-epochs", int), ("budget", int), ("seed", int), ("folder", Path), ("space", Path)):
        parser.add_argument(f"--{flag}", type=kind, required=True)
    task = parser.parse_args()
    print(json.dumps(importlib.import_module(f"benchmarks.peers.{MODULES[task.side]}").search(task)))
