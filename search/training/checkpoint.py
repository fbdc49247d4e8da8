"""A trial's exact training state, out of a model and into one: weights, optimizer, random numbers, epoch, history."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from search import files
from search.errors import WorkError, first_line

if TYPE_CHECKING:
    import keras

FORMAT = 3


@dataclass(frozen=True)
class State:
    """Everything that training needs to go on as if it had never stopped.

    Attributes:
        variables: the model's variables (weights, batch statistics, seeds of random layers) and then the optimizer's.
        history: metric -> its value after each epoch from the first.
        identity: what the state belongs to; a state is not restored into something else.
        weights: how many of ``variables`` are the model's.
        epoch: the epoch to go on with, as ``model.fit`` counts; None where the training had ended.
        memory: of the callbacks of a training that goes on, as :func:`search.training.callbacks.memory` gives it.
        outside: values of what a step changes and is neither the model's nor the optimizer's, in the order in which it does.
        whole: whether that is known to be all that a step changes; if not, no training can go on from here.
    """

    variables: list[NDArray[np.generic]]
    history: dict[str, list[float]]
    identity: dict[str, Any]
    weights: int = 0
    epoch: int | None = None
    memory: Any = None
    outside: list[NDArray[np.generic]] = field(default_factory=list)
    whole: bool = True

    @property
    def epochs(self) -> int:
        """The epochs trained; a metric that is not there after every one, as with ``validation_freq``, has fewer values."""
        return max(map(len, self.history.values()), default=0)


def capture(
    model: keras.Model,
    history: dict[str, list[float]],
    identity: dict[str, Any],
    epoch: int | None = None,
    memory: Any = None,
    outside: Sequence[NDArray[np.generic]] = (),
    whole: bool = True,
) -> State:
    """Copies the state out of ``model``; see :class:`State`."""
    values = [np.array(variable.numpy()) for variable in _variables(model)]
    return State(values, history, dict(identity), len(model.variables), epoch, memory, list(outside), whole)


def fits(state: State, model: keras.Model) -> bool:
    """Whether the model's variables are the state's by number, shape and dtype."""
    return [(tuple(variable.shape), str(variable.dtype)) for variable in _variables(model)] == _shapes(state)


def restore(state: State, model: keras.Model) -> None:
    """Puts the state into ``model``, bit for bit.

    Raises:
        WorkError: the model's variables are not the state's.
    """
    variables = _variables(model)
    expected = [(tuple(variable.shape), str(variable.dtype)) for variable in variables]
    if expected != _shapes(state):
        raise WorkError(
            f"the state holds variables {_shapes(state)}; the model has {expected}; start afresh with --fresh"
        )
    for variable, value in zip(variables, state.variables, strict=True):
        variable.assign(value)


def restore_weights(state: State, model: keras.Model) -> None:
    """Puts the state's weights into ``model`` and leaves its optimizer alone.

    Raises:
        WorkError: the model's variables are not the state's.
    """
    variables, values = model.variables, state.variables[: state.weights]
    expected = [tuple(variable.shape) for variable in variables]
    received = [value.shape for value in values]
    if expected != received:
        raise WorkError(f"the state holds weights {received}; the model has {expected}; start afresh with --fresh")
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


def write(path: Path, state: State) -> None:
    """Writes the state as an ``.npz`` without pickles; every array carries the archive's CRC-32."""
    arrays = {f"variable_{i:04d}": value for i, value in enumerate(state.variables)}
    arrays |= {f"outside_{i:04d}": value for i, value in enumerate(state.outside)}
    memory = _without_arrays(state.memory, arrays)
    header: dict[str, Any] = {
        "format": FORMAT,
        "variables": len(state.variables),
        "weights": state.weights,
        "outside": len(state.outside),
        "whole": state.whole,
        "epoch": state.epoch,
        "history": state.history,
        "identity": state.identity,
        "memory": memory,
        "dtypes": {name: array.dtype.name for name, array in arrays.items() if array.dtype.kind == "V"},
    }
    for name in header["dtypes"]:  # as bfloat16, which NumPy cannot name in a file
        arrays[name] = arrays[name].view(f"u{arrays[name].dtype.itemsize}")
    files.write_npz(path, header=np.frombuffer(json.dumps(header).encode(), np.uint8), **arrays)


def read(path: Path, identity: dict[str, Any]) -> State:
    """Reads the state at ``path`` that belongs to ``identity``.

    Raises:
        WorkError: it is missing, damaged, of another format or belongs to something else.
    """
    remedy = "the trial has to run again from its start"
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as archive:
            header = json.loads(bytes(archive["header"]).decode())
            version = header["format"]
            if version != FORMAT:
                raise WorkError(f"{path} has format {version!r}; this version reads {FORMAT}; {remedy}")
            arrays = {name: archive[name] for name in archive.files if name != "header"}
            for name, dtype in header["dtypes"].items():
                arrays[name] = arrays[name].view(np.dtype(dtype))
            state = State(
                [arrays[f"variable_{i:04d}"] for i in range(header["variables"])],
                {str(metric): [float(value) for value in values] for metric, values in header["history"].items()},
                header["identity"],
                int(header["weights"]),
                None if header["epoch"] is None else int(header["epoch"]),
                _with_arrays(header["memory"], arrays),
                [arrays[f"outside_{i:04d}"] for i in range(header["outside"])],
                bool(header["whole"]),
            )
    except FileNotFoundError:
        raise WorkError(f"{path} is missing; {remedy}") from None
    except WorkError:
        raise
    except Exception as error:  # a flipped bit makes NumPy and zipfile raise nearly anything
        raise WorkError(f"{path} is damaged ({first_line(error)}); {remedy}") from None
    if state.identity != json.loads(json.dumps(identity)):
        raise WorkError(f"{path} belongs to {state.identity!r}; expected {identity}; {remedy}")
    return state


def _variables(model: keras.Model) -> list[Any]:
    if model.optimizer is None:
        return list(model.variables)
    if not model.optimizer.built:  # a second time, a LossScaleOptimizer makes itself other variables
        model.optimizer.build(model.trainable_variables)
    return [*model.variables, *model.optimizer.variables]


def _shapes(state: State) -> list[tuple[tuple[int, ...], str]]:
    return [(value.shape, value.dtype.name) for value in state.variables]


def _without_arrays(node: Any, arrays: dict[str, NDArray[Any]]) -> Any:
    """The node as JSON; each array, number of NumPy and tensor in it goes into ``arrays`` and leaves its name."""
    is_tensor = hasattr(node, "numpy")
    if is_tensor or isinstance(node, (np.ndarray, np.generic)):
        name = f"memory_{len(arrays):04d}"
        arrays[name] = node.numpy() if is_tensor else np.asarray(node)
        return {"tensor" if is_tensor else "array" if isinstance(node, np.ndarray) else "number": name}
    if isinstance(node, dict):
        return {key: _without_arrays(value, arrays) for key, value in node.items()}
    if isinstance(node, (list, tuple)):
        return [_without_arrays(value, arrays) for value in node]
    return node


def _with_arrays(node: Any, arrays: dict[str, NDArray[Any]]) -> Any:
    if isinstance(node, dict):
        if node.keys() == {"array"}:
            return arrays[node["array"]]
        if node.keys() == {"number"}:
            return arrays[node["number"]][()]
        if node.keys() == {"tensor"}:
            import keras

            return keras.ops.convert_to_tensor(arrays[node["tensor"]])
        return {key: _with_arrays(value, arrays) for key, value in node.items()}
    return [_with_arrays(value, arrays) for value in node] if isinstance(node, list) else node
