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
from search.results import METRICS
from search.training import _tensorflow, checkpoint
from search.training.best import restore_best
from search.training.fit import evaluate
from search.workers.base import Workers, run_all
from search.workers.trial import Job, Outcome, build

RETRAINING = 1  # sets the seeds of retraining apart from those of trials, (seed, trial)
MISREAD_SHOWN = 48
AT_A_TIME = 1000  # images through a network
SAME = 1e-5  # of a validation metric: two that differ less are one, to rounding
NEAR = 1e-3  # of the same: a network further from every epoch is of none


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
    read_test: Callable[[], data.Examples],
) -> dict[str, Any]:
    """Trains every model with every seed, evaluates each on the test images, and writes ``folder``.

    Args:
        models: ``tuned`` and ``start``, with their hyper-parameters.
        folder: the ``retrain`` folder; the states in it let an interrupted retraining go on.
        epochs, seeds: of each training, and how many trainings a model.
        seed: what the seeds derive from.
        xla_break_even: see :class:`search.workers.trial.Job`.
        watch: called after each training.
        read_test: reads the test images, which is logged; called once, after every training.

    Returns:
        What ``metrics.json`` holds: each model's figures are medians over its seeds, with their range beside them;
        ``interval`` is of the mean test accuracy and ``difference`` of tuned minus start. ``handed_over`` is the seed
        whose network is saved, the middle one by validation loss: a file, no figure.

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
            keep_best=(exercise.objective, exercise.better),
            state=folder / "states" / f"{name}-{k}.npz",
        )
        for k in range(seeds)
        for name, values in models.items()
    }
    outcomes = dict(zip(jobs, run_all(workers, list(jobs.values()), watch), strict=True))
    for key, outcome in outcomes.items():
        if not outcome.completed:
            raise WorkError(
                f"retraining the {jobs[key].name} failed: {outcome.message}; another --seed, fewer --epochs or a search anew may "
                "serve, and what has been trained is kept"
            )
    for job in jobs.values():  # before the test images are spent
        checkpoint.read(_kept(job), job.identity(exercise.name, source.sha256))
    tests = _Tests(exercise, source, read_test(), folder)
    metrics: dict[str, Any] = {
        "format": 1,
        "epochs": epochs,
        "test_samples": len(tests.labels),
        "majority_accuracy": float(np.bincount(tests.labels).max() / len(tests.labels)),
        "test_set_read": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
    }
    outputs: dict[str, NDArray[np.float32]] = {}
    for name in models:
        trained = [(jobs[name, k], outcomes[name, k]) for k in range(seeds)]
        metrics[name], outputs[name] = tests.of_model(name, trained)
        histories = [
            # Without model.fit there are no epochs' figures but what is known at the end.
            outcome.history if job.state.exists() else {metric: [run[metric]] for metric in METRICS if metric in run}
            for (job, outcome), run in zip(trained, metrics[name]["seeds"], strict=True)
        ]
        _write_histories(folder / ("history.csv" if name == "tuned" else f"{name}_history.csv"), histories)
    right = {name: _classes(outputs[name]) == tests.labels for name in ("start", "tuned")}
    intervals, difference = estimators.accuracy_intervals(right)
    for name, interval in intervals.items():
        metrics[name]["interval"] = [interval.low, interval.high]
    metrics["difference"] = vars(difference)
    _write_misread(folder / "misread.npz", tests.examples.x, tests.labels, outputs["tuned"])
    files.write_npz(folder / "predictions.npz", label=tests.labels, **outputs)
    files.write_json(folder / "metrics.json", metrics)
    return metrics


class _Tests:
    """The test images, and what networks answer to them."""

    def __init__(self, exercise: Exercise, source: data.Source, examples: data.Examples, folder: Path) -> None:
        self._exercise, self._source, self._folder = exercise, source, folder
        self.examples, self.labels = examples, _classes(examples.y)
        self._validation = data.validation_examples(source, data.TASKS[exercise.task])
        self._loss_function: dict[str, Any] = {}  # of the network evaluated last

    def of_model(self, name: str, trained: Sequence[tuple[Job, Outcome]]) -> tuple[dict[str, Any], NDArray[np.float32]]:
        """What ``metrics.json`` holds of a model, and the outputs (seeds, n, k) of its networks; the middle one is saved."""
        middle = _median_seed([outcome.final("val_loss") for _, outcome in trained])
        runs, outputs = [], []
        for k, (job, outcome) in enumerate(trained):
            saved = () if k != middle else ("model", "best_epoch_model") if name == "tuned" else (f"{name}_model",)
            run, answers = self._of_network(job, outcome, saved)
            runs.append({"seed": k, **run})
            outputs.append(answers)
        described = {
            "hyperparameters": dict(trained[0][0].hyperparameters),
            "loss_function": self._loss_function,
            "parameters": trained[0][1].parameters,
            **_over_seeds(runs),
            "handed_over": middle,
            "seeds": runs,
        }
        return described, np.stack(outputs).astype(np.float32)

    def _of_network(
        self, job: Job, outcome: Outcome, saved: Sequence[str]
    ) -> tuple[dict[str, Any], NDArray[np.floating[Any]]]:
        """The figures of one network and its outputs (n, k).

        Args:
            saved: the names of the files for the network after the last epoch and after the best one; none for no file.
        """
        exercise = self._exercise
        _, model = build(exercise.hypermodel(), job.hyperparameters, job.seed)
        checkpoint.restore(checkpoint.read(_kept(job), job.identity(exercise.name, self._source.sha256)), model)
        self._loss_function = loss_function(model)
        outputs, loss, correct = self._answers(model)
        trained = max(map(len, outcome.history.values())) if job.state.exists() else job.epochs
        ended, of_epoch = self._ended(model, outcome.history)
        run = {
            **ended,
            "epochs": trained,
            "of_epoch": trained if of_epoch == len(outcome.history.get("val_loss", ())) else of_epoch,
            "loss_last_ten": float(np.median(outcome.history.get("loss", [ended["loss"]])[-10:])),
            **_best_epoch(outcome.history, exercise.objective, exercise.better),
            "test_loss": loss,
            "test_accuracy": correct / len(self.labels),
            "test_correct": correct,
            "seconds": None if outcome.trained_seconds is None else round(outcome.trained_seconds, 3),
        }
        for file in saved[:1]:
            _write_model(self._folder / f"{file}.keras", model)
        if restore_best(job.best, model):
            _, loss, correct = self._answers(model)
            run |= {"best_test_loss": loss, "best_test_accuracy": correct / len(self.labels)}
            for file in saved[1:]:
                _write_model(self._folder / f"{file}.keras", model)
        return run, outputs

    def _ended(self, model: keras.Model, history: Mapping[str, Sequence[float]]) -> tuple[dict[str, float], int | None]:
        """The training and validation figures of the network, and the epoch, from 1, that it is of; None for none.

        A ``fit`` of the exercise's own may restore an epoch before the last, or set other weights: then they are of the
        network itself, which is the one that is tested.
        """
        last = {metric: series[-1] for metric, series in history.items()}
        now = {f"val_{name}": value for name, value in evaluate(model, self._validation.x, self._validation.y).items()}
        of_epoch = _epoch_of(now, history)
        if of_epoch == len(history.get("val_loss", ())) and "loss" in last:
            return last, of_epoch
        examples = data.training_examples(self._source, data.TASKS[self._exercise.task])
        return {**last, **evaluate(model, examples.x, examples.y), **now}, of_epoch

    def _answers(self, model: keras.Model) -> tuple[NDArray[np.floating[Any]], float, int]:
        """The outputs, the loss and the number of right answers."""
        outputs = _outputs(model, self.examples.x, self._loss_function)
        loss: float = evaluate(model, self.examples.x, self.examples.y)["loss"]
        return outputs, loss, int((_classes(outputs) == self.labels).sum())


def _kept(job: Job) -> Path:
    """The file of the network as the training left it."""
    return job.left if job.left.exists() else job.state


def _epoch_of(now: Mapping[str, float], history: Mapping[str, Sequence[float]]) -> int | None:
    """The epoch, from 1, after which a network's validation metrics were ``now``: the nearest, of equals the last; or None."""
    names = [name for name in now if name in history]
    if not names:
        return None
    with np.errstate(invalid="ignore", divide="ignore"):
        far = [np.abs(np.asarray(history[name]) - now[name]) / max(abs(now[name]), SAME) for name in names]
    both_nan = [np.isnan(np.asarray(history[name])) & np.isnan(now[name]) for name in names]
    distance = np.max([np.where(nan, 0.0, one) for one, nan in zip(far, both_nan, strict=True)], axis=0)
    distance = np.where(np.isnan(distance), np.inf, distance)
    nearest = distance.min()
    return int(np.flatnonzero(distance <= max(nearest, SAME))[-1]) + 1 if nearest <= NEAR else None


def _best_epoch(history: Mapping[str, Sequence[float]], objective: str, direction: str) -> dict[str, float]:
    """The epoch, from 1, with the best objective, by which the search scores a trial, and its validation figures."""
    best = int((np.nanargmax if direction == "max" else np.nanargmin)(history[objective]))
    figures = {f"best_{metric}": history[metric][best] for metric in ("val_loss", "val_accuracy") if metric in history}
    return {"best_epoch": best + 1, **figures}


def loss_function(model: keras.Model) -> dict[str, Any]:
    """What the model's loss is called, its settings and the penalties added to it: losses of which these differ do not compare."""
    loss = model.loss
    described: dict[str, Any] = {"loss": getattr(loss, "__name__", str(loss))}
    if isinstance(loss, keras.losses.Loss):
        plain = {name: value for name, value in loss.get_config().items() if isinstance(value, (bool, int, float, str))}
        plain.pop("name", None)
        described = {"loss": type(loss).__name__, **plain}
    penalties = [getattr(weight, "regularizer", None) for weight in model.weights]
    penalties += [getattr(layer, "activity_regularizer", None) for layer in _tensorflow.layers(model)]
    told = sorted({_penalty(one) for one in penalties if one is not None})
    return {**described, **({"penalties": ", ".join(told)} if told else {})}


def _penalty(regularizer: Any) -> str:
    settings = regularizer.get_config().values() if hasattr(regularizer, "get_config") else ()
    return " ".join([type(regularizer).__name__, *(f"{value:g}" for value in settings if isinstance(value, float))])


def _over_seeds(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The median of each figure over seeds, and under ``range`` its smallest and largest."""
    figures = {
        name: estimators.summary([math.nan if run[name] is None else run[name] for run in runs])
        for name in runs[0]
        if name not in ("seed", "test_correct")
    }
    known = {name: figure for name, figure in figures.items() if figure.n}
    return {
        **{name: figure.median for name, figure in known.items()},
        "range": {name: [figure.low, figure.high] for name, figure in known.items()},
    }


def _median_seed(losses: Sequence[float]) -> int:
    """The index of the median, of two the lower: a training that ends on a spike, or by luck, stands for no other."""
    ascending = sorted(range(len(losses)), key=lambda k: (math.isnan(losses[k]), losses[k]))
    return ascending[(len(losses) - 1) // 2]


def _outputs(model: keras.Model, x: NDArray[Any], loss_function: Mapping[str, Any]) -> NDArray[Any]:
    """As ``model.predict``, whose input pipeline waits by the wall clock, and for ever when that is set back.

    Where the loss takes logits, by what :func:`loss_function` says of it, they are made probabilities.
    """
    batch = AT_A_TIME
    found: NDArray[Any] = np.concatenate(
        [model(x[i : i + batch], training=False).numpy() for i in range(0, len(x), batch)]
    )
    if not loss_function.get("from_logits", False):
        return found
    if found.shape[-1] == 1:
        found = 0.5 * (1 + np.tanh(found / 2))
    else:
        found = np.exp(found - found.max(axis=-1, keepdims=True))
        found /= found.sum(axis=-1, keepdims=True)
    return found


def _classes(scores: NDArray[Any]) -> NDArray[np.intp]:
    """Classes from outputs (..., k), for k = 1 by Keras's threshold of one half, else the largest; or as they are (n,)."""
    if scores.ndim == 1:
        return scores.astype(np.intp)
    return (scores[..., 0] > 0.5).astype(np.intp) if scores.shape[-1] == 1 else scores.argmax(axis=-1)


def _write_histories(path: Path, histories: Sequence[Mapping[str, Sequence[float]]]) -> None:
    columns = ["seed", "epoch", "loss", "accuracy", "val_loss", "val_accuracy"]
    columns += [metric for metric in histories[0] if metric not in columns]
    rows = [
        {"seed": seed, "epoch": epoch, **dict(zip(history, values, strict=True))}
        for seed, history in enumerate(histories)
        for epoch, values in enumerate(zip(*history.values(), strict=True), 1)
    ]
    files.write_csv(path, columns, rows)


def _write_model(path: Path, model: keras.Model) -> None:
    with tempfile.TemporaryDirectory() as folder:
        model.save(Path(folder, path.name))
        files.write_bytes(path, Path(folder, path.name).read_bytes())


def _pictures(images: NDArray[Any]) -> NDArray[np.uint8]:
    """Images as they are shown, 0 to 255: floats from their smallest value to their largest, one channel as none."""
    if images.dtype != np.uint8 and images.size:
        low, high = float(images.min()), float(images.max())
        images = np.rint((images - low) * (255 / max(high - low, 1e-12))).astype(np.uint8)
    return images.astype(np.uint8)[..., 0] if images.ndim == 4 and images.shape[3] not in (3, 4) else images


def _write_misread(path: Path, x: NDArray[Any], labels: NDArray[np.intp], outputs: NDArray[np.float32]) -> None:
    """The images that most networks misread, at most MISREAD_SHOWN; see :class:`search.results.Misread`."""
    predicted = _classes(outputs)  # (s, n)
    confidence = np.maximum(outputs, 1 - outputs)[..., 0] if outputs.shape[-1] == 1 else outputs.max(axis=-1)
    wrong = predicted != labels
    networks = wrong.sum(axis=0)
    mean = (confidence * wrong).sum(axis=0) / np.maximum(networks, 1)
    found = np.flatnonzero(networks > len(outputs) / 2)
    shown = found[np.lexsort((-mean[found], -networks[found]))][:MISREAD_SHOWN]
    answers = [np.bincount(predicted[wrong[:, i], i]).argmax() for i in shown]
    files.write_npz(
        path,
        images=_pictures(x[shown]),
        index=shown,
        label=labels[shown],
        predicted=np.array(answers, dtype=np.intp),
        probability=mean[shown],
        networks=networks[shown],
    )
