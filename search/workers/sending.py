"""A problem on its way to worker processes: functions and classes of a script by value, large arrays mapped, not copied."""

from __future__ import annotations

import io
import shutil
import sys
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np

from search import files
from search.errors import first_line
from search.workers.base import Unpicklable
from search.workers.trial import Problem

BYTES_WORTH_A_FILE = 1 << 20  # an array from here on is written once and mapped by every worker


def send(problem: Problem, folder: Path) -> Path:
    """Writes ``problem`` and its arrays into ``folder``, emptied first, and returns the file that :func:`receive` reads.

    Raises:
        Unpicklable: a part of it cannot be sent.
        OSError: the folder cannot be written.
    """
    shutil.rmtree(folder, ignore_errors=True)  # of a process that was killed
    folder.mkdir(parents=True)
    content = io.BytesIO()
    try:
        _Pickler(content, folder).dump(problem)
    except OSError:
        raise
    except Exception as error:  # pickle raises nearly anything
        shutil.rmtree(folder, ignore_errors=True)
        raise Unpicklable(_blamed(problem, error)) from None
    path = folder / "problem.pickle"
    files.write_bytes(path, content.getvalue())
    return path


def receive(path: Path) -> Problem:
    """Reads what :func:`send` wrote; its large arrays are mapped copy-on-write."""
    problem = cloudpickle.loads(path.read_bytes())
    assert isinstance(problem, Problem)
    return problem


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    def __init__(self, file: io.BytesIO, folder: Path) -> None:
        super().__init__(file)
        self._folder, self._count = folder, 0

    def reducer_override(self, obj: Any) -> Any:
        if type(obj) is np.ndarray and obj.nbytes >= BYTES_WORTH_A_FILE and not obj.dtype.hasobject:
            return _mapped, (self._written(obj),)
        tensorflow = sys.modules.get("tensorflow")
        if tensorflow is not None and isinstance(obj, tensorflow.Tensor) and hasattr(obj, "numpy"):
            values = obj.numpy()
            if isinstance(values, np.ndarray) and not values.dtype.hasobject:
                large = values.nbytes >= BYTES_WORTH_A_FILE
                return (_mapped_tensor, (self._written(values),)) if large else (_tensor, (values,))
        return super().reducer_override(obj)

    def _written(self, array: Any) -> str:
        path = self._folder / f"{self._count}.npy"
        self._count += 1
        np.save(path, array, allow_pickle=False)
        return str(path.resolve())


def _mapped(path: str) -> Any:
    mapped = np.load(path, mmap_mode="c")
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
            cloudpickle.dumps(part)
        except Exception as reason:
            return f"{name}, of type {type(part).__name__}, cannot be pickled ({first_line(reason)})"
    return f"the problem cannot be pickled ({first_line(error)})"
