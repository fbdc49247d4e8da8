"""A trial's exact training state, out of a model and into one: weights, optimizer, random numbers, epoch, history."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from search import files
from search.errors import WorkError, first_line

if TYPE_CHECKING:
    import keras

FORMAT = 1


@dataclass(frozen=True)
class State:
    """Everything that training needs to go on as if it had never stopped.

    Attributes:
        variables: the model's variables (weights, batch statistics, seeds of random layers) and then the optimizer's.
        history: metric -> its value after each epoch from the first; its length is the epochs trained.
        identity: what the state belongs to; a state is not restored into something else.
    """

    variables: list[NDArray[np.generic]]
    history: dict[str, list[float]]
    identity: dict[str, Any]

    @property
    def epochs(self) -> int:
        """The epochs trained so far."""
        return len(next(iter(self.history.values()), []))


def capture(model: keras.Model, history: dict[str, list[float]], identity: dict[str, Any]) -> State:
    """Copies the state out of ``model``."""
    return State([np.array(variable.numpy()) for variable in _variables(model)], history, identity)


def restore(state: State, model: keras.Model) -> None:
    """Puts the state into ``model``, bit for bit.

    Raises:
        WorkError: the model's variables are not the state's.
    """
    variables = _variables(model)
    expected = [(tuple(variable.shape), str(variable.dtype)) for variable in variables]
    received = [(value.shape, value.dtype.name) for value in state.variables]
    if expected != received:
        raise WorkError(f"the state holds variables {received}; the model has {expected}; start afresh with --fresh")
    for variable, value in zip(variables, state.variables, strict=True):
        variable.assign(value)


def write(path: Path, state: State) -> None:
    """Writes the state as an ``.npz`` without pickles; every array carries the archive's CRC-32."""
    header = json.dumps(
        {"format": FORMAT, "variables": len(state.variables), "history": state.history, "identity": state.identity}
    )
    arrays = {f"variable_{i:04d}": value for i, value in enumerate(state.variables)}
    files.write_npz(path, header=np.frombuffer(header.encode(), np.uint8), **arrays)


def read(path: Path, identity: dict[str, Any]) -> State:
    """Reads the state at ``path`` that belongs to ``identity``.

    Raises:
        WorkError: it is missing, damaged, of another format or belongs to something else.
    """
    remedy = "the trial has to run again from its start"
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as archive:
            header = json.loads(bytes(archive["header"]).decode())
            version, owner = header["format"], header["identity"]
            history = {str(metric): [float(value) for value in values] for metric, values in header["history"].items()}
            if len({len(values) for values in history.values()}) > 1:
                raise ValueError("its metrics have different numbers of epochs")
            variables = [archive[f"variable_{i:04d}"] for i in range(header["variables"])]
    except FileNotFoundError:
        raise WorkError(f"{path} is missing; {remedy}") from None
    except Exception as error:  # a flipped bit makes NumPy and zipfile raise nearly anything
        raise WorkError(f"{path} is damaged ({first_line(error)}); {remedy}") from None
    if version != FORMAT:
        raise WorkError(f"{path} has format {version!r}; this version reads {FORMAT}; {remedy}")
    if owner != identity:
        raise WorkError(f"{path} belongs to {owner!r}; expected {identity}; {remedy}")
    return State(variables, history, identity)


def _variables(model: keras.Model) -> list[Any]:
    model.optimizer.build(model.trainable_variables)
    return [*model.variables, *model.optimizer.variables]
