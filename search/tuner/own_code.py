"""Which code of the user's runs in a trial, beside ``build``; it may keep something in Python from one trial to the next."""

from __future__ import annotations

from typing import Any

import keras

from search.training import _tensorflow
from search.training import callbacks as hooks
from search.workers import settings
from search.workers.trial import Problem

HOOKS = ("on_epoch_begin", "on_epoch_end", "on_batch_begin", "on_batch_end")
OWN = (  # methods whose override is the user's code, which may keep something in Python from one trial to the next
    *HOOKS,
    *("run_trial", "_build_and_fit_model", "on_trial_begin", "on_trial_end", "on_search_begin", "on_search_end"),
    *("save_model", "load_model", "pre_create_trial"),
)
STEPS = (
    *("fit", "evaluate", "train_step", "test_step", "make_train_function", "make_test_function"),
    *("reset_metrics", "get_metrics_result"),  # each epoch
)
NOT_THE_USERS = ("builtins", "numpy", "tensorflow", "keras", "pandas", "scipy")  # where the classes of plain data are


def own_code(tuner: Any, problem: Problem) -> str:
    """What of the user's runs in a trial beside ``build``; empty where nothing does."""
    for name in OWN:
        if not is_known(getattr(type(tuner), name)):
            return f"{type(tuner).__name__}.{name}"
    if fits_itself(tuner):
        return f"{type(tuner.hypermodel).__name__}.fit"
    for callback in problem.kwargs.get("callbacks") or ():
        if not hooks.is_known(callback):
            return f"the callback {type(callback).__name__}"
    data = {name: value for name, value in problem.kwargs.items() if name != "callbacks"}
    for part in keras.tree.flatten((problem.args, data)):
        if type(part).__module__.split(".")[0] not in NOT_THE_USERS:
            return f"the data's {type(part).__name__}"
    return tuner._own_steps or settings.replaced()


def fits_itself(tuner: Any) -> bool:
    """Whether the hypermodel has a ``fit`` of its own."""
    return tuner.hypermodel is not None and not is_known(type(tuner.hypermodel).fit)


def may_declare_late(tuner: Any) -> bool:
    """Whether a trial may declare hyper-parameters that ``build`` does not: the first then ends before another begins."""
    return fits_itself(tuner) or not all(
        is_known(getattr(type(tuner), name)) for name in ("run_trial", "_build_and_fit_model")
    )


def own_steps(model: keras.Model) -> str:
    """What of the user's runs in the model's training, step by step; empty where all of it is Keras's."""
    if not isinstance(model, keras.Model):
        return ""
    if model.run_eagerly:
        return "a model compiled with run_eagerly"
    for name in STEPS:
        if not getattr(getattr(model, name), "__module__", "").startswith(("keras.", "search.")):
            return f"{type(model).__name__}.{name}"
    for metric in _tensorflow.given_metrics(model):
        if not getattr(metric.reset_state, "__module__", "").startswith(("keras.", "search.")):
            return f"{type(metric).__name__}.reset_state"
    return ""


def is_known(function: Any) -> bool:
    """Whether a method is KerasTuner's or ours."""
    return getattr(function, "__module__", "").split(".")[0] in ("keras_tuner", "search")


def file_for_all(problem: Problem) -> str:
    """Which of the callbacks writes one file, or folder, for all trials; empty where none does."""
    kinds = (keras.callbacks.ModelCheckpoint, keras.callbacks.CSVLogger, keras.callbacks.BackupAndRestore)
    for callback in problem.kwargs.get("callbacks") or ():
        if isinstance(callback, kinds):
            return f"the callback {type(callback).__name__} writes one file"
    return ""
