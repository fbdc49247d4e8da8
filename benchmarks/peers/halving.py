"""scikit-learn's HalvingRandomSearchCV over MLPClassifier, epochs as the resource, a job a core.

The space is without the activations and optimizers that MLPClassifier lacks. Halving restarts what it keeps in each
round, so its epochs count what that repeats.
"""

from __future__ import annotations

import argparse
import functools
import json
import math
import random
from pathlib import Path
from typing import Any

from benchmarks.peers.task import FACTOR, PROCESSES, examples, result

ACTIVATIONS = {"relu": "relu", "tanh": "tanh", "sigmoid": "logistic"}  # Keras's name -> scikit-learn's
SOLVERS = ["sgd", "adam"]


def search(task: argparse.Namespace) -> dict[str, float]:
    import numpy as np
    from scipy.stats import loguniform
    from sklearn.experimental import enable_halving_search_cv  # noqa: F401
    from sklearn.model_selection import HalvingRandomSearchCV, PredefinedSplit
    from sklearn.neural_network import MLPClassifier

    train, validation, test = examples(task)
    x = np.concatenate([train.x, validation.x]).reshape(-1, 784).astype(np.float32) / 255
    y = np.concatenate([train.y, validation.y]).ravel().astype(int)
    space = {hp["name"]: hp for hp in json.loads(task.space.read_text())}
    units, layers = space.get("units") or space["units_1"], space.get("layers", {"low": 1, "high": 1})
    draw = random.Random(task.seed)
    low, high = math.log(units["low"]), math.log(units["high"])
    sizes = [
        tuple(round(math.exp(draw.uniform(low, high))) for _ in range(draw.randint(layers["low"], layers["high"])))
        for _ in range(1000)
    ]
    rate, activations = space["learning_rate"], space["activation"]["values"]
    log = task.folder / "epochs.log"
    halving = HalvingRandomSearchCV(
        MLPClassifier(random_state=task.seed),
        {
            "hidden_layer_sizes": sizes,
            "activation": [theirs for name, theirs in ACTIVATIONS.items() if name in activations],
            "solver": SOLVERS,
            "batch_size": space["batch_size"]["values"],
            "learning_rate_init": loguniform(rate["low"], rate["high"]),
        },
        resource="max_iter",
        min_resources=1,
        max_resources=task.max_epochs,
        n_candidates=_candidates(task.max_epochs, task.budget),
        factor=FACTOR,
        cv=PredefinedSplit([-1] * len(train.x) + [0] * len(validation.x)),
        scoring=functools.partial(_accuracy_and_epochs, log),
        return_train_score=False,
        refit=False,  # which would train on the validation images
        random_state=task.seed,
        n_jobs=PROCESSES,
    )
    halving.fit(x, y)

    def evaluate() -> float:
        unseen = test()
        best = MLPClassifier(random_state=task.seed, **halving.best_params_).fit(x[: len(train.x)], y[: len(train.x)])
        return float(best.score(unseen.x.reshape(-1, 784).astype(np.float32) / 255, unseen.y.ravel().astype(int)))

    epochs = sum(map(int, log.read_text().split()))
    return result(epochs, float(halving.best_score_), evaluate)


def _accuracy_and_epochs(log: Path, estimator: Any, x: Any, y: Any) -> float:
    with log.open("a") as file:
        file.write(f"{estimator.n_iter_}\n")
    return float(estimator.score(x, y))


def _candidates(max_epochs: int, budget: int) -> int:
    """The most candidates that halving can begin with inside the budget."""

    def epochs(n: int) -> int:
        rounds = 1 + min(math.floor(math.log(n, FACTOR)), math.floor(math.log(max_epochs, FACTOR) + 1e-9))
        return sum(math.ceil(n / FACTOR**i) * FACTOR**i for i in range(rounds))

    return max(n for n in range(1, budget + 1) if epochs(n) <= budget)
