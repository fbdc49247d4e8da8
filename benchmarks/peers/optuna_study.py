"""Optuna: TPE and HyperbandPruner, with Keras or PyTorch.

Two processes share the study through a journal, as Optuna's guide to parallel work has it, with a thread each. Keras
trains by model.fit with Optuna's pruning callback; PyTorch by an eager loop over tensors in memory, without lion, which
it lacks.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import json
import math
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

from benchmarks.figures import script
from benchmarks.peers.task import FACTOR, PROCESSES, examples, result
from search.lab import exercise


def search(task: argparse.Namespace) -> dict[str, float]:
    from optuna import create_study

    study = create_study(study_name="search", storage=_storage(task), direction="maximize")
    with ProcessPoolExecutor(PROCESSES, get_context("spawn")) as pool:
        results = list(pool.map(functools.partial(_process, task), range(PROCESSES)))
    best = max(results, key=lambda found: found["val_accuracy"])
    return best | {
        "epochs": _epochs(study),
        "evaluation_seconds": max(found["evaluation_seconds"] for found in results),
    }


def _process(task: argparse.Namespace, k: int) -> dict[str, float]:
    from optuna import load_study, logging
    from optuna.pruners import HyperbandPruner
    from optuna.samplers import TPESampler

    logging.set_verbosity(logging.WARNING)
    study = load_study(
        study_name="search",
        storage=_storage(task),
        sampler=TPESampler(seed=task.seed * PROCESSES + k),
        pruner=HyperbandPruner(min_resource=1, max_resource=task.max_epochs, reduction_factor=FACTOR),
    )
    train, test = (_keras_model if task.side == "optuna-keras" else _torch_model)(task)
    best: dict[str, Any] = {"score": -1.0, "model": None}

    def objective(trial: Any) -> float:
        score, model = train(trial)
        if score > best["score"]:
            best.update(score=score, model=model)
        return float(score)

    def stop_at_budget(study: Any, trial: Any) -> None:
        if _epochs(study) >= task.budget:
            study.stop()

    study.optimize(objective, callbacks=[stop_at_budget])
    return result(0, best["score"], lambda: test(best["model"]) if best["model"] is not None else math.nan)


def _storage(task: argparse.Namespace) -> Any:
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    return JournalStorage(JournalFileBackend(str(task.folder / "journal.log")))


def _epochs(study: Any) -> int:
    return sum(len(trial.intermediate_values) for trial in study.get_trials(deepcopy=False))


def _suggest(trial: Any, task: argparse.Namespace, lacking: tuple[str, ...] = ()) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for hp in json.loads(task.space.read_text()):
        if not all(values.get(parent) in allowed for parent, allowed in hp["when"]):
            continue
        if "values" in hp:
            values[hp["name"]] = trial.suggest_categorical(hp["name"], [v for v in hp["values"] if v not in lacking])
        else:
            suggest = trial.suggest_int if hp["kind"] == "Int" else trial.suggest_float
            values[hp["name"]] = suggest(hp["name"], hp["low"], hp["high"], log=hp["log"])
    return values


def _keras_model(task: argparse.Namespace) -> tuple[Callable[[Any], Any], Callable[[Any], float]]:
    import keras
    import tensorflow as tf
    from optuna_integration import KerasPruningCallback

    from search.workers.trial import build

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    train, validation, test = examples(task)
    hypermodel = exercise.load(script(task.exercise)).hypermodel()

    def fit(trial: Any) -> tuple[float, Any]:
        keras.backend.clear_session()
        values = _suggest(trial, task)
        _, model = build(hypermodel, values, (task.seed, trial.number))
        history = model.fit(
            train.x,
            train.y,
            batch_size=values["batch_size"],
            epochs=task.max_epochs,
            validation_data=(validation.x, validation.y),
            callbacks=[KerasPruningCallback(trial, "val_accuracy")],
            verbose=0,
        )
        return max(history.history["val_accuracy"]), model

    return fit, lambda model: float(model.evaluate((unseen := test()).x, unseen.y, verbose=0)[1])


def _torch_model(task: argparse.Namespace) -> tuple[Callable[[Any], Any], Callable[[Any], float]]:
    import torch
    from optuna import TrialPruned
    from torch import nn

    torch.set_num_threads(1)
    optimizers = {name.lower(): getattr(torch.optim, name) for name in ("SGD", "RMSprop", "Adam", "AdamW")}
    optimizers |= {name.lower(): getattr(torch.optim, name) for name in ("Adamax", "Adagrad", "NAdam")}
    activations = {"relu": nn.ReLU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid, "elu": nn.ELU, "selu": nn.SELU}
    activations |= {"gelu": nn.GELU, "silu": nn.SiLU}
    (x, y), (val_x, val_y) = ((_tensor(part.x), torch.from_numpy(part.y)) for part in examples(task)[:2])
    binary = y.ndim == 2
    y, val_y = (y, val_y) if binary else (y.long(), val_y.long())
    loss_of = nn.BCEWithLogitsLoss() if binary else nn.CrossEntropyLoss()

    @torch.no_grad()
    def accuracy(model: Any, x: Any, y: Any) -> float:
        scores = model(x)
        return float(((scores > 0) == (y > 0.5) if binary else scores.argmax(1) == y).float().mean())

    def fit(trial: Any) -> tuple[float, Any]:
        values = _suggest(trial, task, lacking=("lion",))
        torch.manual_seed(task.seed * 1_000_003 + trial.number)
        sizes, layers = [784, *_hidden_units(values)], []
        for inputs, outputs in itertools.pairwise(sizes):
            layers += [nn.Linear(inputs, outputs), activations[values["activation"]]()]
        model = nn.Sequential(*layers, nn.Linear(sizes[-1], 1 if binary else 10))
        optimizer = optimizers[values["optimizer"]](model.parameters(), lr=values["learning_rate"])
        best = 0.0
        for epoch in range(task.max_epochs):
            for indices in torch.randperm(len(x)).split(values["batch_size"]):
                optimizer.zero_grad()
                loss_of(model(x[indices]), y[indices]).backward()
                optimizer.step()
            score = accuracy(model, val_x, val_y)
            best = max(best, score)
            trial.report(score, epoch)
            if trial.should_prune():
                raise TrialPruned
        return best, model

    def test_accuracy(model: Any) -> float:
        unseen = examples(task)[2]()
        return accuracy(model, _tensor(unseen.x), torch.from_numpy(unseen.y))

    return fit, test_accuracy


def _tensor(images: Any) -> Any:
    import torch

    return torch.from_numpy(images).reshape(len(images), -1).float() / 255


def _hidden_units(values: dict[str, Any]) -> list[int]:
    if "units" in values:
        return [values["units"]]
    return [values[f"units_{i}"] for i in range(1, values.get("layers", 0) + 1)]
