"""What a script has set for its whole process: taken to the processes where its trials run."""

from __future__ import annotations

import inspect
import os
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from types import FunctionType, ModuleType
from typing import Any

import numpy as np

_BEGAN = dict(os.environ)
_changed: set[str] = set()  # names, ever since: a process that was started between has a value of its own


@dataclass(frozen=True)
class Settings:
    """Keras's and TensorFlow's global settings, by the name of the function that sets them; the filters of warnings.

    Attributes:
        numpy_errors: what ``np.geterr`` gives.
        environment: what has been set or, None, removed of the process's variables since it began.
    """

    of_keras: dict[str, Any]
    of_tensorflow: dict[str, Any]
    custom_objects: dict[str, Any]
    warnings: list[Any]
    environment: dict[str, str | None]
    numpy_errors: dict[str, Any]


def current() -> Settings:
    """The settings of this process."""
    import keras

    config = keras.config
    of_keras = {
        "set_floatx": config.floatx(),
        "set_epsilon": config.epsilon(),
        "set_image_data_format": config.image_data_format(),
        "set_dtype_policy": _policy(config.dtype_policy()),
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
    custom_objects = dict(keras.saving.get_custom_objects())
    errors: dict[str, Any] = dict(np.geterr())
    return Settings(of_keras, of_tensorflow, custom_objects, list(warnings.filters), _environment(), errors)


def use(settings: Settings) -> None:
    """Sets this process as the one that the settings come from."""
    import keras

    for name, variable in settings.environment.items():
        if variable is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = variable
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
    np.seterr(**settings.numpy_errors)
    for name, custom in settings.custom_objects.items():
        _register(name, custom)
    warnings.resetwarnings()
    for action, message, category, module, line in reversed(settings.warnings):
        warnings.filterwarnings(action, _pattern(message), category, _pattern(module), line)


def _policy(policy: Any) -> Any:
    """Its name, by which Keras makes it anew, or the policy itself where its class is another than Keras's."""
    return policy.name if type(policy).__module__.startswith("keras.") else policy


def _environment() -> dict[str, str | None]:
    """What has been set or, None, removed of the environment since this process began."""
    _changed.update(name for name in {**_BEGAN, **os.environ} if os.environ.get(name) != _BEGAN.get(name))
    return {name: os.environ.get(name) for name in _changed}


def _register(name: str, custom: Any) -> None:
    """As ``keras.saving.register_keras_serializable`` has it, so that the class is saved under this name, too."""
    import keras

    package, _, own = name.rpartition(">")
    try:
        if package:
            keras.saving.register_keras_serializable(package, own)(custom)
    except ValueError:  # a class without get_config
        pass
    keras.saving.get_custom_objects()[name] = custom


def _pattern(matched: Any) -> str:
    """What ``filterwarnings`` takes for the expression, or the exact text, that a filter holds."""
    if isinstance(matched, str):
        return rf"{re.escape(matched)}\Z"
    return "" if matched is None else str(matched.pattern)


def replaced() -> str:
    """What the script has replaced of Keras's or TensorFlow's, as ``Dense.call`` or ``keras.ops.relu``; empty where nothing.

    It is in this process alone.
    """
    import keras

    if keras.backend.backend() == "tensorflow":
        from search.training import _tensorflow

        if _tensorflow.has_op_callbacks():
            return "what looks at each operation, as tf.debugging.enable_check_numerics"
    homes = (
        *(keras.layers, keras.losses, keras.metrics, keras.optimizers, keras.callbacks, keras.models),
        *(keras.initializers, keras.regularizers, keras.constraints, keras.optimizers.schedules),
    )
    for module in homes:
        for name, part in vars(module).items():
            if callable(part) and not isinstance(part, (type, FunctionType)):
                return f"{module.__name__.replace('._api.v2', '')}.{name}"
    for owner in _classes(*homes):
        for name, method in vars(owner).items():
            if isinstance(method, FunctionType) and not method.__module__.startswith(("keras.", "search.")):
                return f"{owner.__name__}.{name}"
    for module in _function_modules():
        for name, function in vars(module).items():
            home = getattr(function, "__module__", None)
            if isinstance(function, FunctionType) and home and not home.startswith(("keras", "tensorflow")):
                return f"{module.__name__.replace('._api.v2', '')}.{name}"
    return "the methods of tf.Tensor" if _has_numpy_behaviour() else ""


def _function_modules() -> Iterator[ModuleType]:
    import keras

    yield from (
        keras.activations,
        keras.ops,
        keras.losses,
        keras.metrics,
        keras.initializers,
        keras.random,
        keras.utils,
    )
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        yield from (tf, tf.nn, tf.math, tf.random, tf.image, tf.signal)


def _has_numpy_behaviour() -> bool:
    """Whether ``tf.experimental.numpy.experimental_enable_numpy_behavior`` was called, which nothing takes back."""
    import keras

    if keras.backend.backend() != "tensorflow":
        return False
    import tensorflow as tf

    return hasattr(tf.Tensor, "reshape")


def _classes(*modules: Any) -> Iterator[type]:
    for module in modules:
        yield from (one for one in vars(module).values() if inspect.isclass(one))
