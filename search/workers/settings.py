"""What a script has set for its whole process: taken to the processes where its trials run."""

from __future__ import annotations

import inspect
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from types import FunctionType
from typing import Any


@dataclass(frozen=True)
class Settings:
    """Keras's and TensorFlow's global settings, by the name of the function that sets them; the filters of warnings."""

    of_keras: dict[str, Any]
    of_tensorflow: dict[str, Any]
    custom_objects: dict[str, Any]
    warnings: list[Any]


def current() -> Settings:
    """The settings of this process."""
    import keras

    config = keras.config
    of_keras = {
        "set_floatx": config.floatx(),
        "set_epsilon": config.epsilon(),
        "set_image_data_format": config.image_data_format(),
        "set_dtype_policy": config.dtype_policy().name,
        "set_max_epochs": config.max_epochs(),
        "set_max_steps_per_epoch": config.max_steps_per_epoch(),
    }
    of_tensorflow = {}
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        of_tensorflow = {
            "run_functions_eagerly": tf.config.functions_run_eagerly(),
            "optimizer.set_jit": tf.config.optimizer.get_jit(),
            "experimental.enable_tensor_float_32_execution": tf.config.experimental.tensor_float_32_execution_enabled(),
        }
    return Settings(of_keras, of_tensorflow, dict(keras.saving.get_custom_objects()), list(warnings.filters))


def use(settings: Settings) -> None:
    """Sets this process as the one that the settings come from."""
    import keras

    now = current()
    for name, value in settings.of_keras.items():
        if now.of_keras[name] != value:
            getattr(keras.config, name)(value)
    if settings.of_tensorflow:
        import tensorflow as tf

        for name, value in settings.of_tensorflow.items():
            if now.of_tensorflow[name] != value:
                module, _, function = name.rpartition(".")
                part = getattr(tf.config, module) if module else tf.config
                getattr(part, function)(value)
    keras.saving.get_custom_objects().update(settings.custom_objects)
    warnings.resetwarnings()
    for action, message, category, module, line in reversed(settings.warnings):
        warnings.filterwarnings(action, _pattern(message), category, _pattern(module), line)


def _pattern(matched: Any) -> str:
    """What ``filterwarnings`` takes for the expression, or the exact text, that a filter holds."""
    if isinstance(matched, str):
        return rf"{re.escape(matched)}\Z"
    return "" if matched is None else str(matched.pattern)


def replaced() -> str:
    """A method of Keras's that the script has replaced on Keras's own class, as ``Dense.call``; empty where there is none.

    Such a method is in this process alone.
    """
    import keras

    for owner in _classes(keras.layers, keras.losses, keras.metrics, keras.optimizers, keras.callbacks, keras.models):
        for name, method in vars(owner).items():
            if isinstance(method, FunctionType) and not method.__module__.startswith(("keras.", "search.")):
                return f"{owner.__name__}.{name}"
    return ""


def _classes(*modules: Any) -> Iterator[type]:
    for module in modules:
        yield from (one for one in vars(module).values() if inspect.isclass(one))
