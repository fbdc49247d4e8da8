"""A search for TensorBoard: each trial's curves by epoch, its settings and its best figures on the HParams page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from search import results


def write(folder: Path) -> Path:
    """Writes ``folder/tensorboard`` (``folder`` is results/<exercise>), a run a completed trial, and returns its path.

    Raises:
        WorkError: the search's files are missing or damaged.
    """
    import tensorflow as tf
    from tensorboard.plugins.hparams import api  # type: ignore[import-untyped]

    searched = results.read_search(folder)
    board = folder / "tensorboard"
    for trial in searched.trials:
        run = board / f"trial_{trial.trial_id}"
        if trial.status != "COMPLETED" or run.exists():
            continue
        history = _history(folder / "search" / f"trial_{trial.trial_id}" / "trial.json")
        with tf.summary.create_file_writer(str(run)).as_default():
            api.hparams(dict(trial.hyperparameters), trial_id=trial.trial_id)
            for metric, values in history.items():
                for epoch, value in enumerate(values, 1):
                    tf.summary.scalar(metric, value, step=epoch)
            for metric, value in trial.metrics.items():
                tf.summary.scalar(f"best_epoch/{metric}", value, step=int(trial.best_epoch))
    with tf.summary.create_file_writer(str(board)).as_default():
        names = dict.fromkeys(name for trial in searched.trials for name in trial.hyperparameters)
        metrics = [api.Metric(f"best_epoch/{searched.objective}", display_name=searched.objective)]
        api.hparams_config(hparams=[api.HParam(name) for name in names], metrics=metrics)
    return board


def _history(path: Path) -> dict[str, list[float]]:
    with results.reading(path, "a trial of the search", "run the search again"):
        metrics: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))["metrics"]["metrics"]
        return {
            name: [float(entry["value"][0]) for entry in metric["observations"]]
            for name, metric in metrics.items()
            if name != "seconds"
        }
