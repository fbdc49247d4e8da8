"""Callbacks: which of them need every batch, and the memory of those whose memory can be saved."""

from __future__ import annotations

import contextlib
import dis
import inspect
import types
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from search.training import _tensorflow

K = keras.callbacks
BATCH_HOOKS = (
    "on_batch_begin",
    "on_batch_end",
    "on_train_batch_begin",
    "on_train_batch_end",
    "on_test_batch_begin",
    "on_test_batch_end",
)


def needs_batches(callback: Any) -> str:
    """Which batch hook of the callback does something that the end of an epoch cannot serve; empty where none does."""
    if _serves_epochs(callback):
        return ""
    for hook in BATCH_HOOKS:
        if hasattr(callback, hook) and not _tensorflow.is_default_hook(getattr(callback, hook)):
            return hook
    return ""


def _serves_epochs(callback: Any) -> bool:
    """Whether its batch hooks do nothing, or what can be done after the epoch."""
    kind = type(callback)
    if kind in (K.ModelCheckpoint, K.BackupAndRestore):
        return bool(callback.save_freq == "epoch")
    if kind is K.TensorBoard:
        per_step = callback.update_freq != "epoch" or getattr(callback, "write_steps_per_second", False)
        return not per_step and not _tensorflow.profiles(callback)
    if is_tuner_callback(callback):
        return not any(_is_overridden(callback.tuner, hook) for hook in ("on_batch_begin", "on_batch_end"))
    return kind in (K.TerminateOnNaN, K.ProgbarLogger)


def is_known(callback: Any) -> bool:
    """Whether no function of the user's runs in it."""
    calls = isinstance(callback, (K.LambdaCallback, K.LearningRateScheduler)) or hasattr(callback, "tuner")
    return type(callback).__module__.partition(".")[0] in ("keras", "keras_tuner", "search") and not calls


def is_tuner_callback(callback: Any) -> bool:
    """Whether it is KerasTuner's, which calls the tuner's hooks."""
    kind = type(callback)
    return kind.__name__ == "TunerCallback" and kind.__module__.startswith("keras_tuner.")


def _is_overridden(tuner: Any, hook: str) -> bool:
    function = getattr(getattr(tuner, hook, None), "__func__", None)
    return not getattr(function, "__module__", "").startswith("keras_tuner.")


def after_batches(callbacks: Sequence[Any], batch: int, logs: dict[str, Any]) -> None:
    """What an epoch's last batch tells those that watch for a loss that is no number."""
    for callback in callbacks:
        if type(callback) is K.TerminateOnNaN:
            callback.on_batch_end(batch, logs)


def memory(callbacks: Sequence[Any]) -> list[Any] | None:
    """What each callback remembers, as JSON and arrays; None where that of one cannot be told.

    A class of the user's says it by ``get_state()``, which returns JSON, and ``set_state(state)``, which takes it back after
    ``on_train_begin``; one without them may keep anything.
    """
    kept = []
    for callback in callbacks:
        keep = _kept(callback)
        if keep is None:
            return None
        try:
            kept.append({"kind": type(callback).__name__, **keep()})
        except Exception:  # of the user's get_state, or a file that is gone
            return None
    return kept


def recall(callbacks: Sequence[Any], kept: Sequence[dict[str, Any]]) -> None:
    """Gives each callback what it remembered, after ``on_train_begin``."""
    for callback, entry in zip(callbacks, kept, strict=True):
        for name, value in entry.get("attributes", {}).items():
            setattr(callback, name, value)
        if "state" in entry:
            callback.set_state(entry["state"])


def matches(callbacks: Sequence[Any], kept: Sequence[dict[str, Any]]) -> bool:
    """Whether these are the callbacks whose memory was kept."""
    return [type(callback).__name__ for callback in callbacks] == [entry["kind"] for entry in kept]


@contextlib.contextmanager
def appending(callbacks: Sequence[Any], kept: Sequence[dict[str, Any]]) -> Iterator[None]:
    """While ``on_train_begin`` runs in a training that goes on, CSVLoggers continue their files from where the state was."""
    appended = []
    for callback, entry in zip(callbacks, kept, strict=True):
        path = Path(callback.filename) if "bytes" in entry else None
        if path is not None and path.exists() and path.stat().st_size >= entry["bytes"]:
            with path.open("r+b") as file:
                file.truncate(entry["bytes"])
            appended.append((callback, callback.append))
            callback.append = True
    try:
        yield
    finally:
        for callback, append in appended:
            callback.append = append


def close_files(callbacks: Sequence[Any]) -> None:
    """Closes what a training that stops in the middle leaves open, since ``on_train_end`` is not called."""
    for callback in callbacks:
        if type(callback) is K.CSVLogger and callback.csv_file is not None:
            callback.csv_file.close()


# What each of Keras's callbacks remembers from one epoch to the next; the optimizer's rate is the optimizer's.
REMEMBERED: dict[type, tuple[str, ...]] = {
    K.EarlyStopping: ("wait", "stopped_epoch", "best", "best_epoch", "best_weights"),
    K.ReduceLROnPlateau: ("wait", "best", "cooldown_counter"),
    K.ModelCheckpoint: ("best", "_batches_seen_since_last_saving", "_last_batch_seen"),
    K.SwapEMAWeights: ("_ema_weights_in_model",),
    K.TensorBoard: ("_global_train_batch", "_global_test_batch"),
    K.TerminateOnNaN: (),
    K.ProgbarLogger: (),
    K.History: (),  # the training's own
}


def _kept(callback: Any) -> Callable[[], dict[str, Any]] | None:
    kind = type(callback)
    if _has_own_methods(callback):
        return None
    if _takes(callback, "get_state") and _takes(callback, "set_state", None):
        return lambda: {"state": callback.get_state()}
    if kind in REMEMBERED:
        return lambda: {"attributes": {name: _plain(getattr(callback, name, None)) for name in REMEMBERED[kind]}}
    if kind is K.CSVLogger:
        return lambda: {"bytes": Path(callback.filename).stat().st_size}
    if kind is K.LearningRateScheduler:
        return dict if _remembers_nothing(callback.schedule) else None
    if kind.__name__ == "SaveBestEpoch" and kind.__module__.startswith("keras_tuner."):
        return lambda: {"attributes": {"best_value": float(callback.best_value)}}
    if is_tuner_callback(callback):
        hooks = ("on_epoch_begin", "on_epoch_end", "on_batch_begin", "on_batch_end")
        return None if any(_is_overridden(callback.tuner, hook) for hook in hooks) else dict
    return None


def _takes(callback: Any, method: str, *arguments: Any) -> bool:
    """Whether the callback has such a method: one of this name that takes other arguments has another meaning."""
    try:
        inspect.signature(getattr(callback, method)).bind(*arguments)
    except (AttributeError, TypeError, ValueError):
        return False
    return True


def _has_own_methods(callback: Any) -> bool:
    return any(name.startswith("on_") for name in vars(callback))


def _plain(value: Any) -> Any:
    """The value as JSON and arrays, numbers of NumPy as Python's."""
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    return value.item() if isinstance(value, np.generic) else value


def _remembers_nothing(function: Any) -> bool:
    """Whether a schedule gives the same for the same epoch and rate, whatever it gave before."""
    if isinstance(function, keras.optimizers.schedules.LearningRateSchedule):
        return type(function).__module__.startswith("keras.src.")
    if not isinstance(function, types.FunctionType):
        return False
    known = {**{one.__name__: one for one in PURE}, **function.__globals__}
    values = [cell.cell_contents for cell in function.__closure__ or ()]
    values += [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]
    for instruction in _instructions(function.__code__):
        if instruction.opname.startswith(CHANGING) or "random" in str(instruction.argval):
            return False
        if instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
            values.append(known.get(instruction.argval, function))  # a name that is not known is no constant
    return all(map(_cannot_change, values))


# Instructions that leave something behind, or bring something in.
CHANGING = ("STORE_GLOBAL", "STORE_DEREF", "STORE_ATTR", "STORE_SUBSCR", "STORE_SLICE", "DELETE_", "IMPORT_", "YIELD")
PURE = (abs, bool, divmod, float, int, isinstance, len, max, min, pow, range, round, str, sum)


def _instructions(code: types.CodeType) -> Iterator[dis.Instruction]:
    """Those of a function, and of the functions and comprehensions in it."""
    yield from dis.get_instructions(code)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _instructions(constant)


def _cannot_change(value: Any) -> bool:
    if isinstance(value, tuple):
        return all(map(_cannot_change, value))
    if isinstance(value, types.ModuleType):
        return value.__name__ in ("math", "numpy")
    if isinstance(value, types.BuiltinFunctionType):
        return value.__module__ == "math" or value in PURE
    if isinstance(value, type):
        return value in PURE
    return value is None or isinstance(value, (bool, int, float, str, np.generic, np.ufunc))
