"""What a training will take on this machine: counted from its model, measured before a search, learned from what ends."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import scipy.optimize
from numpy.typing import NDArray

from search.errors import RequestError
from search.lab.session import Session
from search.training import _tensorflow, fused, xla
from search.workers.base import Workers, run_all
from search.workers.trial import Job, Outcome

OF_ONE_PASS = 1 / 3  # of an update's time is left where XLA makes one pass of it
BOTH_GRADIENTS = 3  # a product forward, and the two of its gradients, cost alike
FEWEST_CHANNELS = 8  # a convolution of fewer costs as if it had so many
# Seconds of a unit of each kind of work: least squares over the 138 trials of the first two exercises and a few epochs of
# convolutions, on two cores without AVX-512. A search corrects them, so what matters is how they stand to each other.
RATES = {
    "trainings": 0.15,
    "compilings": 0.9,
    "graph steps": 1.9e-4,
    "XLA steps": 1e-5,
    "products": 7e-11,
    "convolutions": 7e-11,
    "activations": 6e-10,
    "updates": 2.2e-9,
}
# What one training tells against what is usual: that the kinds are alike fast on a machine, and that it is as the one
# that RATES are of.
ALIKE, USUAL = 0.1, 0.01
SHORTEST = 0.05  # seconds; of a shorter training the error says little
OF_EPOCHS = np.array([kind not in ("trainings", "compilings") for kind in RATES], float)
RESERVED = {  # columns of the trials and of the final training: a metric of such a name would be taken for one
    *("trial_id", "status", "bracket", "round", "promoted_from", "initial_epoch", "epochs", "message", "seconds"),
    *("seed", "epoch", "of_epoch", "best_epoch", "best_val_loss", "best_val_accuracy", "loss_last_ten"),
    *("test_loss", "test_accuracy", "test_correct", "best_test_loss", "best_test_accuracy"),
}
PROBES = 9
STEPS = 20  # of a training that measures
MOST_BUILT = 60  # models that are built to foresee a rung: building one takes some hundredths of a second


@dataclass(frozen=True)
class Asked:
    """What one epoch of a model asks of a machine.

    Attributes:
        steps: batches.
        products, convolutions: multiply-adds of dense and of convolutional layers, the gradients' included.
        activations: elements of all layers' outputs.
        updates: the weights and what the optimizer keeps of them, as often as they are updated.
        xla_updates: see :func:`search.training.xla.xla_updates`; 0 where XLA would not train it.
        xla_passes: see :func:`search.training.xla.xla_passes`; 0 where XLA would not compile the update by itself.
    """

    steps: int
    products: float
    convolutions: float
    activations: float
    updates: float
    xla_updates: float
    xla_passes: float


def asked(model: Any, n: int, batch_size: int) -> Asked:
    """What an epoch over ``n`` examples asks; of a layer whose output's shape is not known, its weights count alone."""
    products = convolutions = activations = 0.0
    for layer in _tensorflow.layers(model):
        shape = _output_shape(layer)
        places: int = math.prod(shape[:-1])
        kernel: tuple[Any, ...] = tuple(getattr(getattr(layer, "kernel", None), "shape", ()))
        activations += 0 if isinstance(layer, keras.layers.InputLayer) else math.prod(shape)
        if len(kernel) == 2:
            products += places * math.prod(kernel)
        elif len(kernel) > 2:
            *window, channels, filters = kernel
            convolutions += places * math.prod(window) * max(channels, FEWEST_CHANNELS) * filters
    steps = -(-n // batch_size)
    through_xla = not (convolutions or model.non_trainable_variables)
    xla_updates = xla.xla_updates(model, n, batch_size)  # builds the optimizer
    xla_passes = xla.xla_passes(model, n, batch_size) if fused.may_update(model) else 0.0
    updated = sum(math.prod(variable.shape) for variable in (*model.variables, *model.optimizer.variables))
    return Asked(
        steps,
        BOTH_GRADIENTS * n * products,
        BOTH_GRADIENTS * n * convolutions,
        n * activations,
        float(steps * updated),
        xla_updates if through_xla else 0.0,
        0.0 if through_xla else xla_passes,
    )


def _output_shape(layer: Any) -> tuple[int, ...]:
    """Of one example; empty where it is not known."""
    try:
        shape = layer.output.shape[1:]
    except (AttributeError, ValueError, RuntimeError):  # never called, or on several inputs
        return ()
    return tuple(size or 1 for size in shape)


def work(model: Asked, begin: int, end: int, milestones: Sequence[int], break_even: float) -> NDArray[np.float64]:
    """What a training from epoch ``begin`` to epoch ``end`` asks, (8,) in the units of RATES.

    Args:
        milestones, break_even: see :func:`search.training.xla.first_xla_epoch`.
    """

    def through_xla_of(updates: float) -> float:
        first = xla.first_xla_epoch(updates, milestones, break_even) if updates else math.inf
        return max(0.0, end - max(begin, min(first, end)))

    through_xla, updated = through_xla_of(model.xla_updates), through_xla_of(model.xla_passes)
    epochs = end - begin
    return np.array(
        [
            1.0,
            float(through_xla > 0),  # an update by itself compiles in the time of a few steps
            (epochs - through_xla) * model.steps,
            through_xla * model.steps,
            epochs * model.products,
            epochs * model.convolutions,
            epochs * model.activations,
            (epochs - (1 - OF_ONE_PASS) * updated) * model.updates,
        ]
    )


class CostModel:
    """Seconds of trainings on this machine: RATES, each times a factor that is learned.

    The factors are those with the least squares of the relative errors, by ridge regression towards one factor that all
    kinds have in common, and none below zero (Lawson and Hanson, Solving Least Squares Problems, 1974, chapter 23).
    """

    def __init__(self, factors: Mapping[str, float] | None = None) -> None:
        """Starts from RATES, or from the ``factors`` that another one learned."""
        learned = factors or {}
        self._rates = np.array([rate * learned.get(kind, 1.0) for kind, rate in RATES.items()])
        self._seen: list[NDArray[np.float64]] = []
        self._took: list[float] = []
        self._factors = np.ones(len(RATES))

    def learn(self, asked: NDArray[np.float64], seconds: float) -> None:
        """What asked so much, (8,) from :func:`work`, took ``seconds``."""
        self._seen.append(asked * self._rates / max(seconds, SHORTEST))
        self._took.append(min(seconds / SHORTEST, 1.0))
        kinds, seen = len(RATES), np.array(self._seen)
        like_all = ALIKE * np.hstack([np.eye(kinds), -np.ones((kinds, 1))])
        as_usual = USUAL * np.eye(kinds + 1)[-1:]
        equations = np.vstack([np.pad(seen, ((0, 0), (0, 1))), like_all, as_usual])
        wanted = np.concatenate([self._took, np.zeros(kinds), [USUAL]])
        self._factors = scipy.optimize.nnls(equations, wanted)[0][:kinds]

    @property
    def factors(self) -> dict[str, float]:
        """By kind of work, how many times as long it takes here as RATES say."""
        return {kind: float(f"{factor:.4g}") for kind, factor in zip(RATES, self._factors, strict=True)}

    def seconds(self, asked: NDArray[np.float64]) -> float:
        """What will ask so much will take."""
        return float(asked @ (self._rates * self._factors))


@dataclass(frozen=True)
class Measured:
    """What was measured before a search.

    Attributes:
        model: what trainings cost here.
        epoch: seconds of the starting model's, trained as a graph.
        xla_break_even: see :func:`search.training.xla.measured_break_even`.
    """

    model: CostModel
    epoch: float
    xla_break_even: float


def measure(
    session: Session,
    workers: Workers,
    model: Any,
    start: dict[str, Any],
    max_epochs: int,
    break_even: float | None,
    foresee: Callable[[], Sequence[Mapping[str, Any]]],
) -> Measured:
    """Trains the starting model as a graph and, where it can matter, beside that through XLA; then a few steps of others.

    Args:
        model, start: the starting model and its values.
        max_epochs: of the longest trial to come.
        break_even: what was measured before; None measures it.
        foresee: called once the workers have begun; the values of the first trials.

    Raises:
        RequestError: the starting model cannot be trained, or has no such metric as the objective.
    """
    images = len(session.source.images) - session.source.validation_images
    batch_size = start.get("batch_size", 32)
    updates = xla.xla_updates(model, images, batch_size)
    jobs = [_job(session, start, "graph", 2, xla.NEVER)]
    if break_even is None and max_epochs * updates > xla.XLA_BREAK_EVEN / xla.FAR_FROM_IT:
        jobs.append(_job(session, start, "xla", 3, 0.0))
    foreseen: list[Mapping[str, Any]] = []
    graph, *others = _trained(workers, jobs, lambda: foreseen.extend(foresee()))
    _refuse_untrainable(session, graph)
    cost, asks = CostModel(), asked(model, images, batch_size)
    probe(cost)
    for job, outcome in zip(jobs, (graph, *others), strict=True):
        if _is_whole(outcome, job):
            # An epoch alone: the first training of a worker takes more beside its epochs than others.
            cost.learn(work(asks, 1, 2, (2,), job.xla_break_even or 0.0) * OF_EPOCHS, min(outcome.epoch_seconds[1:]))
    both = others and _is_whole(graph, jobs[0]) and _is_whole(others[0], jobs[1])
    if both:
        compiling = xla.compiling_seconds(graph.epoch_seconds, others[0].epoch_seconds)
        if compiling > 0:
            cost.learn(_alone("compilings"), compiling)
    learn_from_steps(cost, session, workers, start, foreseen)
    if break_even is None:
        break_even = xla.XLA_BREAK_EVEN
        if both:
            break_even = xla.measured_break_even(updates, graph.epoch_seconds, others[0].epoch_seconds)
    return Measured(cost, (graph.epoch_seconds or (graph.seconds / 2,))[-1], break_even)


def learn_from_steps(
    cost: CostModel,
    session: Session,
    workers: Workers,
    start: Mapping[str, Any],
    foreseen: Sequence[Mapping[str, Any]],
) -> None:
    """Trains a few steps of those foreseen that are trained as graphs, the middle one and the dearest, or of the starting model.

    Convolutions, batch normalisation and dropout stand to the rest otherwise on every machine, and so does what a training
    takes beside its epochs, of which the shorter of two is typical: it is not the first of its worker.
    """
    all_asked = [(values, session.asked_of(values)) for values in foreseen]
    counted = [
        (values, asks) for values, asks in all_asked if asks and not asks.xla_updates and asks.steps >= 2 * STEPS
    ]
    counted.sort(key=lambda one: cost.seconds(work(one[1], 1, 2, (2,), xla.NEVER)))
    of_start = session.asked_of(start)
    if len(counted) > 1:
        chosen = [counted[len(counted) // 2], counted[-1]]
    elif of_start and of_start.steps >= 2 * STEPS:
        chosen = [*counted, (start, of_start), (start, of_start)][:2]
    else:
        chosen = counted
    of_steps = {"steps_per_epoch": STEPS, "validation_steps": max(1, STEPS // 5)}
    jobs = [_job(session, values, f"steps-{i}", 2, xla.NEVER, of_steps) for i, (values, _) in enumerate(chosen)]
    beside = []
    for job, outcome, (_, asks) in zip(jobs, _trained(workers, jobs), chosen, strict=True):
        if _is_whole(outcome, job):
            share, epoch = STEPS / asks.steps, outcome.epoch_seconds[1]
            cost.learn(work(asks, 1, 2, (2,), xla.NEVER) * OF_EPOCHS * share, epoch)
            beside.append(outcome.seconds - 2 * epoch)
    if beside and min(beside) > 0:
        cost.learn(_alone("trainings"), min(beside))


def _alone(kind: str) -> NDArray[np.float64]:
    """One unit of one kind of work."""
    return np.array([float(kind == asked) for asked in RATES])


def _trained(workers: Workers, jobs: Sequence[Job], meanwhile: Callable[[], None] = lambda: None) -> list[Outcome]:
    """The outcomes of jobs whose states nobody wants."""
    outcomes = run_all(workers, jobs, lambda job, outcome: None, meanwhile)
    for job in jobs:
        with contextlib.suppress(OSError):
            job.state.unlink()
    return outcomes


def _refuse_untrainable(session: Session, graph: Outcome) -> None:
    script, objective = session.script.name, session.exercise.objective
    if not graph.completed:
        raise RequestError(f"{script}: the starting model cannot be trained: {graph.message}")
    if objective not in graph.history:
        raise RequestError(
            f"{script}: the objective {objective} is not among the model's metrics ({', '.join(graph.history)}); "
            "name it in compile(metrics=[...])"
        )
    taken = sorted(RESERVED.intersection(graph.history))
    if taken:
        raise RequestError(
            f"{script}: the model has a metric called {taken[0]}, as a column of the results is; give it another name"
        )


def probe(cost: CostModel) -> None:
    """Measures products and convolutions by themselves: between machines they differ more than the rest."""
    import tensorflow as tf

    images, kernels = tf.ones((128, 14, 14, 32)), tf.ones((3, 3, 32, 64))
    rows, columns = tf.ones((512, 784)), tf.ones((784, 512))

    def product() -> Any:
        return tf.matmul(rows, columns)

    def convolution() -> Any:
        return tf.nn.conv2d(images, kernels, 1, "SAME")

    for kind, multiply_adds, once in (
        ("products", 512 * 784 * 512, product),
        ("convolutions", 128 * 14 * 14 * 9 * 32 * 64, convolution),
    ):
        once()
        seconds = []
        for _ in range(PROBES):
            began = time.perf_counter()
            once().numpy()
            seconds.append(time.perf_counter() - began)
        cost.learn(multiply_adds * _alone(kind), float(np.median(seconds)))


def _job(
    session: Session,
    values: Mapping[str, Any],
    name: str,
    epochs: int,
    xla_break_even: float,
    kwargs: Mapping[str, Any] | None = None,
) -> Job:
    state = session.folder / f".measured-{name}.npz"
    state.unlink(missing_ok=True)  # of a process that was killed: it would be gone on with, and nothing measured
    seed = (session.seed,)
    name = f"measurement, {name}"
    return Job(name, values, seed, epochs, (epochs,), state, xla_break_even=xla_break_even, kwargs=kwargs or {})


def _is_whole(outcome: Outcome, job: Job) -> bool:
    """Whether one worker trained all of it, and its own ``fit`` did not come between."""
    return outcome.completed and len(outcome.epoch_seconds) == job.epochs
