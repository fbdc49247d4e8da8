"""An epoch of training in other libraries, data in memory: PyTorch's eager loop, JAX's scan, and NumPy's products alone."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Train = Callable[[], Any]  # one epoch


@dataclass(frozen=True)
class Cell:
    """What is trained: one cell of the table of figures."""

    exercise: str
    hidden: tuple[int, ...]
    batch: int
    optimizer: str
    learning_rate: float


def pytorch(cell: Cell, train: Any) -> dict[str, Train]:
    import torch
    from torch import nn

    torch.set_num_threads(1)
    x, y = torch.from_numpy(train.x).reshape(len(train.x), -1).float() / 255, torch.from_numpy(train.y)
    binary = y.ndim == 2
    y, loss_of = (y, nn.BCEWithLogitsLoss()) if binary else (y.long(), nn.CrossEntropyLoss())
    sizes, layers = [784, *cell.hidden], []
    for inputs, outputs in itertools.pairwise(sizes):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    model = nn.Sequential(*layers, nn.Linear(sizes[-1], 1 if binary else 10))
    update = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}[cell.optimizer]
    update = update(model.parameters(), lr=cell.learning_rate)

    def epoch() -> None:
        for indices in torch.randperm(len(x)).split(cell.batch):
            update.zero_grad()
            loss_of(model(x[indices]), y[indices]).backward()
            update.step()

    return {"PyTorch eager": epoch}


def jax_scan(cell: Cell, train: Any) -> dict[str, Train]:
    import jax
    import jax.numpy as jnp
    import numpy as np

    x, y = jnp.asarray(train.x.reshape(-1, 784).astype(np.float32) / 255), jnp.asarray(train.y)
    binary, rate, n = y.ndim == 2, cell.learning_rate, len(train.x)
    generator = np.random.default_rng(0)
    sizes = [784, *cell.hidden, 1 if binary else 10]
    weights = [
        (jnp.asarray(generator.normal(0, 0.05, shape), jnp.float32), jnp.zeros(shape[1]))
        for shape in itertools.pairwise(sizes)
    ]
    zeros = jax.tree.map(jnp.zeros_like, weights)

    def loss_of(weights: Any, x: Any, y: Any) -> Any:
        for w, b in weights[:-1]:
            x = jax.nn.relu(x @ w + b)
        scores = x @ weights[-1][0] + weights[-1][1]
        if binary:
            losses = jnp.logaddexp(0, scores) - scores * y
            return losses.mean(), ((scores > 0) == (y > 0.5)).sum()
        losses = -jnp.take_along_axis(jax.nn.log_softmax(scores), y[:, None], 1)
        return losses.mean(), (scores.argmax(1) == y).sum()

    def step(state: Any, indices: Any, x: Any, y: Any) -> Any:
        weights, first, second, t = state
        metrics, slopes = jax.value_and_grad(loss_of, has_aux=True)(weights, x[indices], y[indices])
        t += 1
        if cell.optimizer == "sgd":
            return (jax.tree.map(lambda w, g: w - rate * g, weights, slopes), first, second, t), metrics
        first = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, first, slopes)
        second = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, second, slopes)
        scaled = rate * jnp.sqrt(1 - 0.999**t) / (1 - 0.9**t)
        weights = jax.tree.map(lambda w, m, v: w - scaled * m / (jnp.sqrt(v) + 1e-7), weights, first, second)
        return (weights, first, second, t), metrics

    whole = n // cell.batch * cell.batch
    scan = jax.jit(
        lambda state, order, x, y: jax.lax.scan(lambda s, i: step(s, i, x, y), state, order), donate_argnums=0
    )
    short = jax.jit(step, donate_argnums=0)
    state = (weights, zeros, jax.tree.map(jnp.copy, zeros), jnp.float32(0))

    def epoch() -> None:
        nonlocal state
        order = generator.permutation(n).astype(np.int32)
        state, metrics = scan(state, order[:whole].reshape(-1, cell.batch), x, y)
        if whole < n:
            state, _ = short(state, order[whole:], x, y)
        jax.block_until_ready((state, metrics))

    return {"JAX scan": epoch}


def numpy_limit(cell: Cell, train: Any) -> dict[str, Train]:
    import numpy as np

    generator = np.random.default_rng(0)
    sizes = [784, *cell.hidden, 1 if train.y.ndim == 2 else 10]
    weights = [generator.normal(0, 0.05, shape).astype(np.float32) for shape in itertools.pairwise(sizes)]

    def epoch(x: Any) -> None:
        order = generator.permutation(len(x))
        for start in range(0, len(x), cell.batch):
            outputs = [x[order[start : start + cell.batch]].astype(np.float32, copy=False)]
            for weight in weights:
                outputs.append(outputs[-1] @ weight)
            slope = outputs.pop()
            for i in reversed(range(len(weights))):
                outputs[i].T @ slope  # the weights' gradient
                if i:
                    slope = slope @ weights[i].T

    pixels = train.x.reshape(-1, 784)
    scaled = pixels.astype(np.float32) / 255
    return {
        "NumPy limit, float32": lambda: epoch(scaled),
        "NumPy limit, uint8": lambda: epoch(pixels),
    }
