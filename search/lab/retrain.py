"""Final training and evaluation: the tuned and the starting model, several seeds each; reads the test images, once."""

from __future__ import annotations

import datetime
import math
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from search import files
from search.errors import WorkError
from search.lab import data
from search.lab.exercise import Exercise
from search.report import estimators
from search.training import checkpoint, compiled
from search.training.trial import Job, Outcome, build
from search.workers.local import Workers, run_all

RETRAINING = 1  # sets the seeds of retraining apart from those of trials, (seed, trial)
MISREAD_SHOWN = 48


def retrain(
    exercise: Exercise,
    models: Mapping[str, Mapping[str, Any]],
    source: data.Source,
    workers: Workers,
    folder: Path,
    *,
    epochs: int,
    seeds: int,
    seed: int,
    xla_break_even: float | None,
    watch: Callable[[Job, Outcome], None],
) -> dict[str, Any]:
    """Trains every model with every seed, evaluates each on the test images, and writes ``folder``.

    Args:
        models: ``tuned`` and ``start``, with their hyper-parameters.
        folder: the ``retrain`` folder; the states in it let an interrupted retraining go on.
        epochs, seeds: of each training, and how many trainings a model.
        seed: what the seeds derive from.
        xla_break_even: see :class:`search.training.trial.Job`.
        watch: called after each training.

    Returns:
        What ``metrics.json`` holds. A model's own figures and files are those of its median seed by the validation loss
        at the end; ``seeds`` has every seed's.

    Raises:
        WorkError: a training failed.
    """
    jobs = {
        (name, k): Job(
            name=f"{name} model, seed {k}",
            hyperparameters=dict(values),
            seed=(seed, RETRAINING, k),
            epochs=epochs,
            milestones=(epochs,),
            xla_break_even=xla_break_even,
            state=folder / "states" / f"{name}-{k}.npz",
        )
        for k in range(seeds)
        for name, values in models.items()
    }
    outcomes = dict(zip(jobs, run_all(workers, list(jobs.values()), watch), strict=True))
    for key, outcome in outcomes.items():
        if not outcome.completed:
            raise WorkError(f"retraining the {jobs[key].name} failed: {outcome.message}")
    task = data.TASKS[exercise.task]
    test = data.test_examples(source, task)
    evaluated = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    hypermodel = exercise.hypermodel()
    labels = _classes(test.y)
    metrics: dict[str, Any] = {
        "format": 1,
        "epochs": epochs,
        "test_samples": len(labels),
        "majority_accuracy": float(np.bincount(labels).max() / len(labels)),
        "test_set_read": evaluated,
    }
    right: dict[str, NDArray[np.bool_]] = {}
    for name, values in models.items():
        median = _median_seed([outcomes[name, k].final("val_loss") for k in range(seeds)])
        runs = []
        for k in range(seeds):
            job, outcome = jobs[name, k], outcomes[name, k]
            _, model = build(hypermodel, values, job.seed)
            checkpoint.restore(checkpoint.read(job.state, job.identity(exercise.name, source.sha256)), model)
            probabilities = _outputs(model, test.x)
            predicted = _classes(probabilities)
            correct = int((predicted == labels).sum())
            run = {
                "seed": k,
                **{metric: series[-1] for metric, series in outcome.history.items()},
                "test_loss": compiled.Evaluation(model, test.x, test.y).run()["loss"],
                "test_accuracy": correct / len(labels),
                "test_correct": correct,
                # of a training that was interrupted, only a part is known
                "seconds": round(sum(outcome.epoch_seconds), 3) if len(outcome.epoch_seconds) == epochs else None,
            }
            runs.append(run)
            if k == median:
                right[name] = predicted == labels
                metrics[name] = {
                    "hyperparameters": dict(values),
                    "parameters": outcome.parameters,
                    **run,
                    "interval": estimators.wilson_interval(correct, len(labels)),
                    "confusion": _confusion(labels, predicted, len(task.classes)),
                }
                _write_history(folder / ("history.csv" if name == "tuned" else f"{name}_history.csv"), outcome.history)
                if name == "tuned":
                    _write_model(folder / "model.keras", model)
                    _write_misread(folder / "misread.npz", test.x, labels, probabilities)
        metrics[name]["seeds"] = runs
    tuned_alone = int((right["tuned"] & ~right["start"]).sum())
    start_alone = int((right["start"] & ~right["tuned"]).sum())
    metrics["mcnemar"] = {
        "only_tuned_right": tuned_alone,
        "only_start_right": start_alone,
        "p_value": estimators.mcnemar_p_value(tuned_alone, start_alone),
    }
    files.write_json(folder / "metrics.json", metrics)
    return metrics


def _median_seed(losses: Sequence[float]) -> int:
    """The index of the median, of two the lower: a training that ends on a spike, or by luck, stands for no other."""
    ascending = sorted(range(len(losses)), key=lambda k: (math.isnan(losses[k]), losses[k]))
    return ascending[(len(losses) - 1) // 2]


def _outputs(model: keras.Model, x: NDArray[np.uint8]) -> NDArray[Any]:
    """As ``model.predict``, whose input pipeline waits by the wall clock, and for ever when that is set back."""
    batch = compiled.EVALUATION_BATCH
    return np.concatenate([model(x[i : i + batch], training=False).numpy() for i in range(0, len(x), batch)])


def _classes(scores: NDArray[Any]) -> NDArray[np.intp]:
    """Classes (n,) from targets or outputs: (n, 1) by Keras's threshold of one half, (n, k) by the largest, (n,) as is."""
    if scores.ndim == 1:
        return scores.astype(np.intp)
    return (scores[:, 0] > 0.5).astype(np.intp) if scores.shape[1] == 1 else scores.argmax(axis=1)


def _confusion(labels: NDArray[np.intp], predicted: NDArray[np.intp], classes: int) -> list[list[int]]:
    counts = np.zeros((classes, classes), int)
    np.add.at(counts, (labels, predicted), 1)
    return counts.tolist()


def _write_history(path: Path, history: dict[str, list[float]]) -> None:
    rows = [dict(zip(history, values, strict=True)) for values in zip(*history.values(), strict=True)]
    columns = ["epoch", "loss", "accuracy", "val_loss", "val_accuracy"]
    columns += [metric for metric in history if metric not in columns]
    files.write_csv(path, columns, [{"epoch": epoch, **row} for epoch, row in enumerate(rows, 1)])


def _write_model(path: Path, model: keras.Model) -> None:
    with tempfile.TemporaryDirectory() as folder:
        model.save(Path(folder, path.name))
        files.write_bytes(path, Path(folder, path.name).read_bytes())


def _write_misread(path: Path, x: NDArray[np.uint8], labels: NDArray[np.intp], probabilities: NDArray[Any]) -> None:
    predicted = _classes(probabilities)
    if probabilities.shape[1] == 1:
        confidence = np.where(predicted == 1, probabilities[:, 0], 1 - probabilities[:, 0])
    else:
        confidence = probabilities.max(axis=1)
    wrong = np.flatnonzero(predicted != labels)
    shown = wrong[np.argsort(-confidence[wrong], kind="stable")][:MISREAD_SHOWN]
    files.write_npz(
        path,
        images=x[shown],
        index=shown,
        label=labels[shown],
        predicted=predicted[shown],
        probability=confidence[shown],
    )
