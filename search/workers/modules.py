"""The user's own modules: in a worker as they are in the process where the search begins.

A worker imports them by name, and then has their variables as the files set them. What the user's code has set since, on a module
or on a class of it, is sent along; and what both the problem and a module hold is one object there, too.
"""

from __future__ import annotations

import importlib
import inspect
import io
import os
import site
import sys
import sysconfig
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import cloudpickle
import numpy as np

_FOLDERS = {
    *(sysconfig.get_path(kind) for kind in ("stdlib", "platstdlib", "purelib", "platlib")),
    *site.getsitepackages(),
    *(folder for folder in sys.path if any(Path(folder).glob("*.dist-info"))),  # of `pip install --target`
}
INSTALLED = tuple(f"{folder}{os.sep}" for folder in (*_FOLDERS, site.getusersitepackages()))
ATOMS = (bool, int, float, complex, str, bytes, type(None), type, FunctionType, ModuleType)

Place = tuple[str, str, str]  # a module, a class in it or "", and the name of a variable


def variables(can_be_sent: Callable[[Place, Any], bool]) -> dict[Place, Any]:
    """What the user's modules and their classes hold beside functions, classes and modules of their own."""
    found: dict[Place, Any] = {}
    for name, module in list(sys.modules.items()):
        if not is_own(name, module):
            continue
        for variable, value in list(vars(module).items()):
            if inspect.isclass(value) and value.__module__ == name:
                found |= {
                    (name, variable, field): one
                    for field, one in vars(value).items()
                    if _is_data(f"{name}.{value.__qualname__}", field, one)
                }
            elif _is_data(name, variable, value):
                found[name, "", variable] = value
    return {place: value for place, value in found.items() if can_be_sent(place, value)}


def places(held: Mapping[Place, Any]) -> dict[int, Place]:
    """Where the objects among the variables are, by their ids; numbers, texts, classes and functions are no objects here."""
    return {id(value): place for place, value in held.items() if not isinstance(value, ATOMS)}


def set_variables(held: Mapping[Place, Any]) -> None:
    """Imports the modules and sets what differs there; what is equal stays, which a default argument may hold.

    Arrays are set without a look: comparing would copy them, and the one that is sent is mapped, one for all workers.
    """
    for (name, owner, variable), value in held.items():
        importlib.import_module(name)
        there = _owner(name, owner)
        known = hasattr(there, variable) and not isinstance(value, np.ndarray)
        if not known or _content(getattr(there, variable)) != _content(value):
            setattr(there, variable, value)


def at(place: Place) -> Any:
    """The object at a place in this process."""
    name, owner, variable = place
    return getattr(_owner(name, owner), variable)


def _owner(name: str, owner: str) -> Any:
    module = sys.modules[name]
    return getattr(module, owner) if owner else module


def _content(value: Any) -> bytes | None:
    stream = io.BytesIO()
    try:
        cloudpickle.Pickler(stream).dump(value)
    except Exception:  # pickle raises nearly anything
        return None
    return stream.getvalue()


def is_own(name: str, module: Any) -> bool:
    """Whether a module is of the user's own: neither installed, nor Python's, nor ours; ``__main__`` goes by value anyway."""
    file = getattr(module, "__file__", None)
    if not file or name != module.__name__ or name.partition(".")[0] in ("__main__", "search"):
        return False
    return not file.startswith(INSTALLED) and _is_found(name)


def _is_found(name: str) -> bool:
    """Whether a worker can import it by its name; what TensorFlow generates and runs from a file is none of those."""
    parent = name.rpartition(".")[0]
    path = getattr(sys.modules.get(parent), "__path__", None) if parent else None
    return any(finder.find_spec(name, path) is not None for finder in sys.meta_path if hasattr(finder, "find_spec"))


def _is_data(home: str, name: str, value: Any) -> bool:
    """Whether a variable of ``home``, a module or a class, is none of what its file defines; functions put there since are."""
    if name.startswith(("__", "_abc_")) or inspect.ismodule(value) or inspect.isclass(value):
        return False
    if isinstance(value, FunctionType):
        return f"{value.__module__}.{value.__qualname__}" != f"{home}.{name}"
    return not inspect.isroutine(value) and not hasattr(type(value), "__get__")
