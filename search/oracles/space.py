"""A hyper-parameter space described, compared with another, and held against a configuration."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Mapping
from typing import Any

from search import provenance

# By these KerasTuner directs Hyperband, and no other name that begins with tuner/ is its own.
DIRECTIVES = ("tuner/epochs", "tuner/initial_epoch", "tuner/bracket", "tuner/round", "tuner/trial_id")


def own_values(values: dict[str, Any]) -> dict[str, Any]:
    """The user's hyper-parameters, without those by which KerasTuner directs Hyperband."""
    return {name: value for name, value in values.items() if name not in DIRECTIVES}


def search_space(hypermodel: Any) -> Any:
    """The ``HyperParameters`` that ``hypermodel.build`` declares, those of its conditional scopes included.

    Raises:
        Exception: whatever ``build`` raises.
    """
    import keras_tuner
    from keras_tuner.engine import base_tuner

    oracle = keras_tuner.oracles.RandomSearchOracle(objective=keras_tuner.Objective("val_loss", "min"), seed=1)
    with tempfile.TemporaryDirectory() as folder:
        base_tuner.BaseTuner(oracle, hypermodel, directory=folder, project_name="space")
    return oracle.get_space()


def every_value(hp: Any) -> list[Any] | None:
    """The values a hyper-parameter can take, None where they cannot be listed."""
    config = hp.get_config()
    kind = type(hp).__name__
    if kind == "Int" and config["sampling"] != "linear":
        return list(range(config["min_value"], config["max_value"] + 1)) if config["step"] is None else list(hp.values)
    if kind == "Float" and config["step"] is None:
        return None
    return list(hp.values)


def misfit(space: Any, values: Mapping[str, Any]) -> str:
    """Which of the values the space does not hold, in words; empty when it holds all."""
    for name, value in values.items():
        found = [parameter for parameter in space.space if parameter.name == name]
        if not found:
            names = dict.fromkeys(parameter.name for parameter in space.space)
            return f"{name}, which is not in the space ({', '.join(names)})"
        if not any(_admits(parameter, value) for parameter in found):
            return f"{name} is {value!r}, which the space does not contain; expected {_domain(found[0])}"
    return ""


def indistinct(space: Any) -> str:
    """Which values a table, which holds them as texts, could not tell apart, in words; empty where it can all."""
    printed: dict[tuple[str, str], Any] = {}
    for parameter in space.space:
        values = () if "min_value" in parameter.get_config() else parameter.values
        for value in values:
            other = printed.setdefault((parameter.name, str(value)), value)
            if type(other) is not type(value):
                return (
                    f"{parameter.name} can be {other!r} and {value!r}, which print alike; expected values of one kind"
                )
        if "" in values and parameter.conditions:
            return f"{parameter.name} can be '' and is not always there, which print alike; expected another text, as 'none'"
    return ""


def _domain(parameter: Any) -> str:
    config = parameter.get_config()
    if "min_value" not in config:
        return " or ".join(map(str, parameter.values))
    step = f" in steps of {config['step']}" if _steps_evenly(config) else ""
    whole = ", a whole number" if type(parameter).__name__ == "Int" else ""
    return f"{config['min_value']} to {config['max_value']}{step}{whole}"


def _admits(parameter: Any, value: Any) -> bool:
    config = parameter.get_config()
    if "min_value" not in config:
        return value in list(parameter.values)
    if not isinstance(value, (int, float)) or not config["min_value"] <= value <= config["max_value"]:
        return False
    if type(parameter).__name__ != "Int":
        return True
    whole = isinstance(value, int) and not isinstance(value, bool)
    return whole and not (_steps_evenly(config) and (value - config["min_value"]) % config["step"])


def _steps_evenly(config: Mapping[str, Any]) -> bool:
    return config["sampling"] == "linear" and config["step"] not in (None, 1)


def describe(parameter: Any) -> dict[str, Any]:
    """A hyper-parameter as ``run.json`` keeps it, JSON-ready; its conditions in words."""
    config = parameter.get_config()
    listed = None if "min_value" in config else list(parameter.values)
    return {
        "name": parameter.name,
        "type": type(parameter).__name__,
        "values": listed,
        **{key: config.get(key) for key in ("min_value", "max_value", "step", "sampling")},
        "conditions": " and ".join(
            f"{condition.name} is {' or '.join(map(str, condition.values))}" for condition in parameter.conditions
        ),
    }


def changes(earlier: Any, now: list[dict[str, Any]]) -> list[str]:
    """What differs between two spaces, each a list from :func:`describe`, a line each; nothing where ``earlier`` is no space."""
    with contextlib.suppress(TypeError, KeyError, AttributeError):  # whatever run.json holds
        before, after = ({f"{hp['name']} {hp['conditions']}": hp for hp in space} for space in (earlier, now))
        gone = [f"{hp['name']} is no longer in the space" for key, hp in before.items() if key not in after]
        new = [f"{hp['name']} is new in the space" for key, hp in after.items() if key not in before]
        changed = [
            f"{hp['name']}: {change}"
            for key, hp in after.items()
            if key in before
            for change in provenance.changes(before[key], hp)
        ]
        return gone + new + changed or ["the space has another order"]
    return []
