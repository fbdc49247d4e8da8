"""``model.fit``, with an epoch in one compiled program where that gives what Keras gives."""

from __future__ import annotations

import math
import time
from typing import Any

import keras

from search import files
from search.errors import WorkError
from search.training import checkpoint, compiled
from search.training import plan as plans
from search.training.plan import Diverged, Following, Stopped

SECONDS_BETWEEN_STATES = 10.0
SECONDS_WORTH_A_STATE = 2.0  # an epoch that takes longer may not end before its worker is stopped

keras_fit = keras.Model.fit  # taken before a plan puts ours in its place


def fit(
    model: keras.Model,
    x: Any = None,
    y: Any = None,
    batch_size: int | None = None,
    epochs: int = 1,
    verbose: Any = "auto",
    callbacks: Any = None,
    validation_split: float = 0.0,
    validation_data: Any = None,
    shuffle: Any = True,
    class_weight: Any = None,
    sample_weight: Any = None,
    initial_epoch: int = 0,
    steps_per_epoch: int | None = None,
    validation_steps: int | None = None,
    validation_batch_size: int | None = None,
    validation_freq: Any = 1,
) -> keras.callbacks.History:
    """Trains as ``model.fit`` does, with its arguments and its results; see there.

    Inside :func:`search.training.plan.planned` it follows the plan: the order of the examples, where it goes on, which
    state it leaves and when it stops. Elsewhere a seed is drawn from ``random``.
    """
    arguments = dict(locals())
    model = arguments.pop("model")
    following = plans.current()
    if following is None:
        return keras_fit(model, **arguments)
    following.fits += 1
    keeper = _Keeper(following, arguments["epochs"])
    state = _latest_state(following) if following.fits == 1 else None
    if state is not None:
        checkpoint.restore(state, model)
        following.record.history.update(state.history)
        ended = state.epochs if following.plan.state.exists() else arguments["initial_epoch"]
        arguments["initial_epoch"] = ended if state.epoch is None else state.epoch
    elif following.fits == 1 and following.plan.resume_from is not None:
        arguments["initial_epoch"] = 0  # what it was to go on from is lost
    if not _arrays(x, y, validation_data):
        following.record.notes.append("handed to model.fit: the data are not arrays")
        arguments["callbacks"] = [*(callbacks or ()), keeper]
        history = keras_fit(model, **arguments)
    else:
        history = compiled.fit(
            model,
            x,
            y,
            batch_size=batch_size or 32,
            epochs=epochs,
            initial_epoch=arguments["initial_epoch"],
            validation_data=validation_data,
            callbacks=[*(callbacks or ()), keeper],
            seed=following.plan.seed,
            milestones=following.plan.milestones,
            xla_break_even=following.plan.xla_break_even,
        )
    record = following.record
    record.parameters = sum(math.prod(weight.shape) for weight in model.trainable_weights)
    record.epochs = max(map(len, record.history.values()), default=0)
    _write(following, model)
    return history


def _arrays(*parts: Any) -> bool:
    return all(part is None or hasattr(part, "__array__") for part in keras.tree.flatten(parts))


def _write(following: Following, model: keras.Model, epoch: int | None = None, memory: Any = None) -> None:
    plan, history = following.plan, following.record.history
    try:
        checkpoint.write(plan.state, checkpoint.capture(model, history, dict(plan.identity), epoch, memory))
    except OSError as error:
        following.record.not_written = error
        raise


def _latest_state(following: Following) -> checkpoint.State | None:
    """The furthest usable state, None for the model as it is; a line in the record for each that is damaged."""
    plan = following.plan
    for path in (plan.state, plan.resume_from):
        if path is None or not path.exists():
            continue
        try:
            return checkpoint.read(path, dict(plan.identity))
        except WorkError as error:
            following.record.notes.append(str(error))
            if path == plan.state:
                files.set_aside(path)
    return None


class _Keeper(keras.callbacks.Callback):  # type: ignore[misc]
    """Adds each epoch to the record, and writes the state when asked to stop, and now and then."""

    def __init__(self, following: Following, epochs: int) -> None:
        super().__init__()
        self.following, self.epochs = following, epochs
        self.written = time.monotonic()

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.began = time.monotonic()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        record = self.following.record
        now = time.monotonic()
        record.epoch_seconds.append(now - self.began)
        if not math.isfinite(logs["loss"]):
            raise Diverged(f"diverged: the loss is {logs['loss']} after epoch {epoch + 1}")
        for metric, value in logs.items():
            record.history.setdefault(metric, []).append(float(value))
        stop = self.following.plan.stopping()
        due = now - self.written > SECONDS_BETWEEN_STATES or record.epoch_seconds[-1] > SECONDS_WORTH_A_STATE
        if epoch + 1 < self.epochs and (stop or due):
            _write(self.following, self.model, epoch + 1)
            self.written = time.monotonic()
        if stop and epoch + 1 < self.epochs:
            raise Stopped
