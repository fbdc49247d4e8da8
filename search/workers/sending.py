"""A problem on its way to worker processes: the user's code as it is now, not as its files have it, and the settings.

Large arrays are mapped, not copied. What trials share and change, a layer that was made outside ``build``, is not sent: a worker
would have one of its own, and what trials leave in it would depend on where they ran.
"""

from __future__ import annotations

import copyreg
import io
import linecache
import pickle
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from types import CodeType
from typing import Any

import cloudpickle
import numpy as np

from search import files
from search.errors import first_line
from search.workers import modules, settings
from search.workers.base import Unpicklable
from search.workers.trial import Problem

BYTES_WORTH_A_FILE = 1 << 20  # an array from here on is written once and mapped by every worker


class Shared(Exception):
    """An object that trials share, whose state one leaves to the next."""


def send(problem: Problem, folder: Path) -> Path:
    """Writes ``problem`` and its arrays into ``folder``, emptied first, and returns the file that :func:`receive` reads.

    Raises:
        Unpicklable: a part of it cannot be sent.
        OSError: the folder cannot be written.
    """
    shutil.rmtree(folder, ignore_errors=True)  # of a process that was killed
    folder.mkdir(parents=True)
    path = folder / "problem.pickle"
    try:
        files.write_bytes(path, pack(problem, folder))
    except Unpicklable:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return path


def receive(path: Path) -> Problem:
    """Reads what :func:`send` wrote, and takes over its settings; its large arrays are mapped copy-on-write."""
    return unpack(path.read_bytes())


def pack(problem: Problem, folder: Path | None = None) -> bytes:
    """The problem and this process's settings, for :func:`unpack`.

    Args:
        folder: where large arrays are written; None leaves them among the bytes.

    Raises:
        Unpicklable: a part of it cannot be sent.
        OSError: the folder cannot be written.
    """
    content = io.BytesIO()
    if problem.tuner is not None and (edited := _changed_file()):
        raise Unpicklable(f"the file of the module {edited} has changed since it was imported")
    try:
        held = modules.variables(_can_be_sent)
    except Shared as shared:
        raise Unpicklable(str(shared)) from None
    if problem.tuner is None:  # a worker imports an exercise's script, and with it all that the script sets
        held = {}
    try:
        cloudpickle.dump(settings.current(), content)
        _Pickler(content, folder).dump(held)
        _Pickler(content, folder, modules.places(held)).dump(problem)
    except OSError:
        raise
    except Exception as error:  # pickle raises nearly anything
        raise Unpicklable(_blamed(problem, error)) from None
    return content.getvalue()


def unpack(content: bytes) -> Problem:
    """What :func:`pack` packed; the settings first, which what is unpickled may depend on."""
    stream = io.BytesIO(content)
    settings.use(cloudpickle.load(stream))
    modules.set_variables(cloudpickle.load(stream))
    problem = _Unpickler(stream).load()
    assert isinstance(problem, Problem)
    return problem


def _can_be_sent(place: modules.Place, value: Any) -> bool:
    if isinstance(value, np.ndarray):
        return not value.dtype.hasobject
    try:
        _Pickler(io.BytesIO(), None).dump(value)
    except Shared as shared:
        raise Shared(f"the module {place[0]} holds {shared}") from None
    except Exception:  # pickle raises nearly anything
        return False
    return True


class _Unpickler(pickle.Unpickler):
    def persistent_load(self, place: Any) -> Any:
        return modules.at(place)


def _changed_file() -> str:
    from search.workers import user_code  # which imports Keras, before which a worker's settings have to be made

    return user_code.changed()


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    def __init__(
        self, file: io.BytesIO, folder: Path | None, places: Mapping[int, modules.Place] | None = None
    ) -> None:
        super().__init__(file)
        self._folder, self._places = folder, places or {}

    def persistent_id(self, obj: Any) -> modules.Place | None:
        """Objects that a module of the user's holds are taken from there, where it is unpickled."""
        return self._places.get(id(obj))

    def reducer_override(self, obj: Any) -> Any:
        if type(obj) is np.ndarray and self._is_worth_a_file(obj):
            return _mapped, (self._written(obj),)
        tensorflow = sys.modules.get("tensorflow")
        if tensorflow is not None and isinstance(obj, tensorflow.Tensor) and hasattr(obj, "numpy"):
            values = obj.numpy()
            if isinstance(values, np.ndarray) and not values.dtype.hasobject:
                large = self._is_worth_a_file(values)
                return (_mapped_tensor, (self._written(values),)) if large else (_tensor, (values,))
        if isinstance(obj, CodeType):
            _, parts = self.dispatch_table[CodeType](obj)
            return _code, (parts, obj.co_filename, linecache.getlines(obj.co_filename))
        if "keras" in sys.modules:
            if _is_shared(obj):
                name = getattr(obj, "name", "")
                raise Shared(f"{name and f'{name}, '}a {type(obj).__name__} made outside build, which trials share")
            if _goes_by_configuration(obj):
                return copyreg.__newobj__, (type(obj),), vars(obj)  # type: ignore[attr-defined]
        return super().reducer_override(obj)

    def _is_worth_a_file(self, array: Any) -> bool:
        return self._folder is not None and array.nbytes >= BYTES_WORTH_A_FILE and not array.dtype.hasobject

    def _written(self, array: Any) -> str:
        assert self._folder is not None
        path = self._folder / f"{len(list(self._folder.iterdir()))}.npy"
        np.save(path, array, allow_pickle=False)
        return str(path.resolve())


def _code(parts: tuple[Any, ...], file: str, lines: list[str]) -> CodeType:
    """The code of a function that goes by value, of its own file again, so that a traceback has the file and the line."""
    if lines:  # which the worker may have no file for: a notebook's cell, another machine
        linecache.cache.setdefault(file, (0, None, lines, file))
    return CodeType(*parts).replace(co_filename=file)


def _is_shared(obj: Any) -> bool:
    """Whether it is of Keras or TensorFlow and has a state of its own that trials may change."""
    import keras

    kinds: tuple[type, ...] = (keras.Layer, keras.Metric, keras.Optimizer)
    kinds += (keras.Variable, keras.KerasTensor, keras.random.SeedGenerator)
    if not isinstance(obj, kinds) and not _is_tensorflow_variable(obj):
        return False
    return not (isinstance(obj, (keras.Metric, *_unchanged_by_training())) and _is_what_a_copy_is(obj))


def _is_tensorflow_variable(obj: Any) -> bool:
    tensorflow = sys.modules.get("tensorflow")
    return tensorflow is not None and isinstance(obj, tensorflow.Variable)


def _unchanged_by_training() -> tuple[type, ...]:
    from keras import layers

    kinds = (layers.Normalization, layers.Rescaling, layers.Resizing, layers.CenterCrop, layers.CategoryEncoding)
    return (*kinds, layers.Discretization)


def _is_what_a_copy_is(obj: Any) -> bool:
    """Whether Keras's way to pickle it, by its configuration, loses nothing of it."""
    import keras

    if keras.backend.backend() != "tensorflow":
        return False
    from search.training.fingerprint import fingerprint

    try:
        copy = pickle.loads(pickle.dumps(obj))
    except Exception:  # pickle raises nearly anything
        return False
    here, there = fingerprint(obj), fingerprint(copy)
    return (
        here.key is not None
        and here.key == there.key
        and all(np.array_equal(one, other) for one, other in zip(here.variables, there.variables, strict=True))
    )


def _goes_by_configuration(obj: Any) -> bool:
    """Whether Keras would pickle it by its configuration alone, though its attributes are all that it is, as of a loss."""
    import keras

    return isinstance(obj, keras.Loss) and type(obj).__reduce__ is keras.Loss.__reduce__


def _mapped(path: str) -> Any:
    from search.training import data

    mapped = np.load(path, mmap_mode="c")
    data.share(mapped)
    return np.asarray(mapped)


def _mapped_tensor(path: str) -> Any:
    return _tensor(_mapped(path))


def _tensor(values: Any) -> Any:
    import tensorflow as tf

    return tf.convert_to_tensor(values)


def _blamed(problem: Problem, error: Exception) -> str:
    """Which part of the problem cannot be pickled, and why."""
    parts = {"the hypermodel": problem.hypermodel or getattr(problem.tuner, "hypermodel", None)}
    parts |= {f"argument {i + 1} of search()": part for i, part in enumerate(problem.args)}
    parts |= {f"{name} of search()": part for name, part in problem.kwargs.items()}
    parts["the tuner"] = problem.tuner
    for name, part in parts.items():
        try:
            _Pickler(io.BytesIO(), None).dump(part)
        except Shared as shared:
            return f"{name} holds {shared}"
        except Exception as reason:
            return f"{name}, of type {type(part).__name__}, cannot be pickled ({first_line(reason)})"
    return f"the problem cannot be pickled ({first_line(error)})"
