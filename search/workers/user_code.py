"""The user's code, as a digest: functions, and what the objects that a training is given were made with."""

from __future__ import annotations

import functools
import hashlib
import importlib.machinery
import inspect
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Set
from pathlib import Path
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import keras
import keras_tuner
import numpy as np

from search.workers import modules

CHANGING = (keras_tuner.engine.base_tuner.BaseTuner, keras_tuner.engine.oracle.Oracle)  # while they search
OF_KERAS = ("_tracker", "_lock")  # which number what an object holds
PLAIN = (bool, int, float, complex, str, bytes, type(None), type(...))


def digest(*objects: Any) -> str:
    """Of the own modules and ``__main__``, and of ``objects``, such as a hypermodel and callbacks.

    Of a module every function and method counts, and the plain values of the variables that they name. Of an object its
    class and its attributes count; of a function its defaults and what it closes over, too. Data counts by its values.
    """
    digest = _Digest()
    for name, module in sorted(sys.modules.items()):
        if name != "__main__" and not modules.is_own(name, module):
            continue
        named: set[str] = set()
        for function in _functions(name, module):
            digest.say(name, function.__qualname__)
            digest.add(function)
            named.update(*(code.co_names for code in (function.__code__, *_codes(function.__code__))))
        for variable in sorted(named & vars(module).keys()):
            if _is_plain(vars(module)[variable]):
                digest.say(name, variable, vars(module)[variable])
    digest.add(objects)
    return digest.hexdigest()


class _Digest:
    """Of nested objects, each of which counts once."""

    def __init__(self) -> None:
        self._sha = hashlib.sha256()
        self._seen: dict[int, tuple[int, Any]] = {}  # the object too, whose id is then nobody else's

    def hexdigest(self) -> str:
        return self._sha.hexdigest()

    def say(self, *plain: Any) -> None:
        self._sha.update(repr(plain).encode())

    def add(self, value: Any) -> None:
        if isinstance(value, PLAIN):
            self.say(type(value).__name__, value)
        elif id(value) in self._seen:
            self.say("seen", self._seen[id(value)][0])
        else:
            self._seen[id(value)] = (len(self._seen), value)
            try:
                self._add_object(value)
            except Exception:  # what cannot be looked at is never the same
                self.say(os.urandom(16))

    def _add_object(self, value: Any) -> None:
        kind = type(value)
        self.say(kind.__module__, kind.__qualname__)
        if isinstance(value, Mapping):
            self._add_all(value.items())
        elif isinstance(value, (list, tuple)):
            self._add_all(value)
        elif isinstance(value, Set):
            self.say(sorted(map(repr, value)))
        elif isinstance(value, FunctionType):
            self.say(_instructions(value.__code__))
            own = vars(value) if _is_users(value) else None
            self._add_all((value.__defaults__, value.__kwdefaults__, own, _closed_over(value)))
        elif isinstance(value, MethodType):
            self._add_all((value.__func__, value.__self__))
        elif isinstance(value, functools.partial):
            self._add_all((value.func, value.args, value.keywords))
        elif isinstance(value, type):
            self._add_class(value)
        elif isinstance(value, ModuleType):
            self.say(value.__name__)
        elif hasattr(value, "__array__") and not isinstance(value, keras.KerasTensor):
            array = np.ascontiguousarray(value)
            self.say(array.shape, str(array.dtype), array.tolist() if array.dtype.hasobject else None)
            if not array.dtype.hasobject:
                self._sha.update(array.tobytes())
        elif not isinstance(value, CHANGING):
            self._add_class(kind)
            self._add_content(value)

    def _add_all(self, values: Iterable[Any]) -> None:
        for value in values:
            self.add(value)

    def _add_class(self, kind: type) -> None:
        self.say(kind.__module__, kind.__qualname__)
        if not _is_users(kind):
            return
        members = {name: value for name, value in vars(kind).items() if not name.startswith(("__", "_abc_"))}
        plain = {name: getattr(value, "__func__", getattr(value, "fget", value)) for name, value in members.items()}
        self._add_all((kind.__bases__, vars(kind).get("__init__"), vars(kind).get("__call__"), plain))

    def _add_content(self, value: Any) -> None:
        """What an object was made with: of a layer its configuration and weights."""
        self.add(getattr(value, "__wrapped__", None))
        if isinstance(value, keras.Layer):
            plain = {name: one for name, one in vars(value).items() if _is_plain(one)}
            self._add_all((_configuration(value), plain, value.weights))
        elif hasattr(value, "__dict__") and _is_made_of_attributes(type(value)):
            self.add({name: one for name, one in vars(value).items() if name not in OF_KERAS})
        else:
            self.say(_without_address(value))


def _configuration(value: keras.Layer) -> Any:
    try:
        return value.get_config()
    except Exception:  # a class of the user's that has none
        return None


def _closed_over(function: FunctionType) -> list[Any]:
    found = []
    for cell in function.__closure__ or ():
        try:
            found.append(cell.cell_contents)
        except ValueError:  # not set yet
            found.append("empty")
    return found


def _is_users(kind: type | FunctionType) -> bool:
    name = kind.__module__ or "__main__"  # that of what `exec` makes is None
    module = sys.modules.get(name)
    return name == "__main__" or (module is not None and modules.is_own(name, module))


def _is_made_of_attributes(kind: type) -> bool:
    return _is_users(kind) or kind.__module__.partition(".")[0] in ("keras", "keras_tuner", "search")


def _without_address(value: Any) -> str:
    return re.sub(r"0x[0-9a-f]+", "", repr(value))


def _is_plain(value: Any) -> bool:
    if isinstance(value, dict):
        return all(map(_is_plain, (*value, *value.values())))
    if isinstance(value, (list, tuple)):
        return all(map(_is_plain, value))
    return isinstance(value, PLAIN)


def changed() -> str:
    """The name of an own module whose file has other functions by now than this process has; empty where there is none.

    A worker would import the file. Of a module that something else than Python itself has loaded, nothing is known.
    """
    for name, module in sorted(sys.modules.items()):
        if not modules.is_own(name, module) or type(module.__loader__) is not importlib.machinery.SourceFileLoader:
            continue
        file = str(module.__file__)
        try:
            in_file = {*map(_instructions, _codes(compile(Path(file).read_bytes(), file, "exec", dont_inherit=True)))}
        except (OSError, SyntaxError, ValueError):
            return name
        if any(_instructions(function.__code__) not in in_file for function in _functions(name, module)):
            return name
    return ""


def _functions(name: str, module: ModuleType) -> Iterator[FunctionType]:
    """The functions and methods whose code stands in the module's file."""
    for _, value in sorted(vars(module).items()):
        members = vars(value).values() if inspect.isclass(value) and value.__module__ == name else (value,)
        for member in members:
            plain = getattr(member, "__func__", getattr(member, "fget", member))
            if not isinstance(plain, FunctionType) or plain.__module__ != name:
                continue
            if plain.__code__.co_filename == getattr(module, "__file__", plain.__code__.co_filename):
                yield plain


def _codes(code: CodeType) -> Iterator[CodeType]:
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield constant
            yield from _codes(constant)


def _instructions(code: CodeType) -> tuple[Any, ...]:
    """What a function does, wherever it stands in its file."""
    constants = tuple(_instructions(one) if isinstance(one, CodeType) else _as_text(one) for one in code.co_consts)
    return code.co_code, constants, code.co_names, code.co_varnames, code.co_freevars


def _as_text(constant: Any) -> str:
    return str(sorted(map(repr, constant))) if isinstance(constant, frozenset) else repr(constant)
