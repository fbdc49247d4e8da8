"""Which models can share a compiled program: those that differ in nothing but the values of their variables."""

from __future__ import annotations

import json
import warnings
from typing import Any

import keras

# Written into variables when a model is built, and so no part of a program.
INITIAL_VALUES = ("learning_rate", "seed")
# Where a configuration names layers, which Keras numbers through a process.
NAMING = ("name", "keras_history", "input_layers", "output_layers")


def structure(model: keras.Model) -> str | None:
    """What a compiled program of ``model`` depends on: layers, shapes, loss, metrics and optimizer, without names, initial
    weights or the learning rate.

    Returns:
        None where the configuration cannot tell: a subclassed model, or layers, losses or metrics that are not Keras's.
    """
    if getattr(model.optimizer, "_exclude_from_weight_decay_pattern", None) or getattr(
        model.optimizer, "_exclude_from_weight_decay", None
    ):
        return None  # not in an optimizer's configuration
    if type(model) not in (keras.Sequential, keras.Model) and type(model).__module__ != "keras.src.models.functional":
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Keras warns of lambdas, which are refused below
            config, compiled = model.get_config(), model.get_compile_config()
        names = {layer["config"]["name"]: f"layer {i}" for i, layer in enumerate(config["layers"])}
        names[config["name"]], names[model.optimizer.name] = "model", "optimizer"
        return json.dumps([_without_values(part, names) for part in (config, compiled)], sort_keys=True)
    except (TypeError, ValueError, KeyError, NotImplementedError, OSError):
        return None


def _without_values(node: Any, names: dict[str, str]) -> Any:
    if isinstance(node, dict):
        if node.get("registered_name") or not str(node.get("module") or "keras").startswith("keras"):
            raise TypeError(f"{node.get('class_name')} is not Keras's")
        if node.get("class_name") in ("Lambda", "__lambda__", "function") or node.keys() == {"value"}:  # a lambda
            raise TypeError("a function's code is not in its configuration")
        return {
            key: _renamed(value, names) if key in NAMING else _without_values(value, names)
            for key, value in node.items()
            if not key.endswith("_initializer")
            and key != "build_config"
            and not (key in INITIAL_VALUES and not isinstance(value, dict))
        }
    if isinstance(node, (list, tuple)):
        return [_without_values(part, names) for part in node]
    if node is None or isinstance(node, (bool, int, float, str)):
        return node
    raise TypeError(f"{type(node).__name__} is no configuration")


def _renamed(node: Any, names: dict[str, str]) -> Any:
    if isinstance(node, (list, tuple)):
        return [_renamed(part, names) for part in node]
    return names.get(node, node) if isinstance(node, str) else node
