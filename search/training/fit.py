"""``model.fit``, with an epoch in one compiled program where that gives what Keras gives."""

from __future__ import annotations

import contextlib
import functools
import inspect
import math
import random
import sys
import time
import warnings
from collections.abc import Callable, Iterable
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from search import files
from search.errors import WorkError, first_line
from search.training import _tensorflow, checkpoint, data, xla
from search.training import callbacks as hooks
from search.training import plan as plans
from search.training.data import Examples, NotCompiled
from search.training.plan import Diverged, Following, Stopped
from search.training.program import (
    Programs,
    Touched,
    by_steps,
    changes_itself_alone,
    create_variables,
    programs,
    programs_of_evaluation,
    touched,
)
from search.training.seeds import seed_everything

SECONDS_BETWEEN_STATES = 10.0
SECONDS_WORTH_A_STATE = 2.0  # an epoch that takes longer may not end before its worker is stopped

RAN_OUT = (
    "Your input ran out of data; interrupting training. Make sure that your dataset or generator can generate at least "
    "`steps_per_epoch * epochs` batches. You may need to use the `.repeat()` function when building your dataset."
)

DATA = ("x", "y", "sample_weight")

keras_fit = keras.Model.fit  # taken before a plan puts ours in its place

_said: set[str] = set()  # the reasons for model.fit that this process has given


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
    """Trains as ``model.fit`` does: its arguments, its ``History``, and its weights, metrics and effects of callbacks
    given the same batches.

    An epoch is one compiled program over arrays or tensors in memory. What that cannot do is trained by ``model.fit``
    itself, and one line on stderr says which argument, layer or callback was the reason: data sets and generators,
    callbacks that act between batches, ``run_eagerly``, distribution strategies, other backends than TensorFlow.

    The order of the examples comes from a seed that ``random`` gives. Inside :func:`search.training.planned` it comes
    from the plan, and training goes on from the plan's state and leaves one.

    Raises:
        ValueError: what ``model.fit`` raises.
    """
    arguments = dict(locals())
    del arguments["model"]
    if "fit" in vars(model) or type(model).fit is not keras.Model.fit:
        if plans.current() is None:
            _say(_line(f"{type(model).__name__} has a fit of its own"))
        history: keras.callbacks.History = model.fit(**arguments)
        return history
    return train(model, **arguments)


def evaluate(
    model: keras.Model, x: Any, y: Any = None, sample_weight: Any = None, batch_size: int | None = None
) -> dict[str, Any]:
    """The loss and the metrics over arrays, as ``model.evaluate(..., return_dict=True)`` gives them, in one program.

    Args:
        x, y, sample_weight, batch_size: as ``model.evaluate`` takes them. Where the result does not depend on the size of
            a batch, rounding aside, batches are as large as they are fast.

    Raises:
        ValueError: what ``model.evaluate`` raises.
    """
    try:
        _check(model, {"steps_per_epoch": None, "callbacks": None})
        if x is None or not _tensorflow.accepts_arrays(x, y, sample_weight):
            raise NotCompiled(f"x is a {type(x).__name__}, not arrays")
        examples = data.examples(x, y, sample_weight, None, batch_size)
        found = programs_of_evaluation(model, examples)
        model.reset_metrics()
        return {name: _number(value) for name, value in found.evaluate(examples).items()}
    except NotCompiled:
        logs: dict[str, Any] = model.evaluate(x, y, batch_size, 0, sample_weight, return_dict=True)
        return logs


def train(model: keras.Model, *args: Any, **kwargs: Any) -> keras.callbacks.History:
    """:func:`fit` without regard to a ``fit`` of the model's own class, which may be the one that calls this."""
    bound = inspect.signature(fit).bind(model, *args, **kwargs)
    bound.apply_defaults()
    arguments = dict(bound.arguments)
    del arguments["model"]
    following = plans.current()
    if following is not None:
        following.fits += 1
        if arguments["verbose"] == "auto" and not keras.config.is_interactive_logging_enabled():
            arguments["verbose"] = 0  # in a worker, whose bar would be one of several at once
    try:
        training = _Training(model, arguments, following)
    except NotCompiled as reason:
        return _by_keras(model, arguments, following, str(reason))
    return training.run()


class _Training:
    """One call of ``fit`` on the compiled path.

    Raises (on construction):
        NotCompiled: the call is one for ``model.fit``.
    """

    def __init__(self, model: keras.Model, arguments: dict[str, Any], following: Following | None) -> None:
        _check(model, arguments)
        self.model, self.following = model, following
        self.epochs: int = arguments["epochs"]
        self.initial_epoch: int = arguments["initial_epoch"]
        self.shuffle, self.validation_freq = arguments["shuffle"], arguments["validation_freq"]
        (x, y, weight), validation = _split(arguments)
        size, steps = arguments["batch_size"], arguments["steps_per_epoch"]
        self.examples = data.examples(x, y, weight, arguments["class_weight"], size, steps)
        self._validating = None if validation is None else functools.partial(_validation, validation, arguments)
        self.validation = None if self._validating is None else self._validating()
        self.data = tuple(arguments[name] for name in DATA)
        self.programs: Programs | None = None
        self.by_steps = False
        self.touched = Touched()
        self.seed = (*following.plan.seed, following.fits) if following is not None else (0,)
        if following is None and self.shuffle:  # else what is drawn from `random` after this call is as after Keras's
            self.seed = (random.randrange(2**31),)
        self.pays = xla.Pays()
        self.written = time.monotonic()
        given = arguments["callbacks"]
        self.callbacks = given if isinstance(given, keras.callbacks.CallbackList) else self._list(given, arguments)

    def _list(self, given: Any, arguments: dict[str, Any]) -> keras.callbacks.CallbackList:
        return keras.callbacks.CallbackList(
            given,
            add_history=True,
            add_progbar=arguments["verbose"] != 0,
            verbose=arguments["verbose"],
            epochs=self.epochs,
            steps=self.examples.steps or self.examples.batches,
            model=self.model,
        )

    def run(self) -> keras.callbacks.History:
        """Trains to the end, as ``model.fit`` goes about it."""
        model = self.model
        state = self._restored()
        model.stop_training = False
        if model.train_function is None:
            model.make_train_function()
        first, logs = self._begin(state)
        parts = data.stretches(self.examples, self.initial_epoch)
        for epoch, stretch in zip(range(self.initial_epoch, self.epochs), parts, strict=False):
            if epoch < first:
                continue
            logs = self._epoch(epoch, stretch)
            if model.stop_training:
                break
        if isinstance(model.optimizer, keras.optimizers.Optimizer) and self.epochs > 0:
            model.optimizer.finalize_variable_values(model.trainable_weights)
        self.callbacks.on_train_end(logs)
        if self.following is not None:
            _note(self.following, model)
            self._write(None)
        history: keras.callbacks.History = model.history
        return history

    def _begin(self, state: checkpoint.State | None) -> tuple[int, Any]:
        """Calls ``on_train_begin``; returns the epoch to begin with, and the last logs of a training that goes on."""
        history = self.model.history
        self._before = {name: len(values) for name, values in history.history.items()}
        self._earlier = {name: list(values) for name, values in self._record_history().items()}
        if state is None or state.memory is None:
            self.callbacks.on_train_begin()
            self.initial_epoch = _tensorflow.starting_epoch(self.model, self.initial_epoch)
            return self.initial_epoch, None
        kept = state.memory
        with hooks.appending(self.callbacks.callbacks, kept["callbacks"]):
            self.callbacks.on_train_begin()
        hooks.recall(self.callbacks.callbacks, kept["callbacks"])
        history.history.update({name: list(values) for name, values in kept["history"].items()})
        history.epoch = list(kept["epochs"])
        for name, values in kept["history"].items():
            own = self._earlier[name]
            self._earlier[name] = own[: len(own) - len(values)]
        return (self.epochs if state.epoch is None else state.epoch), kept["logs"]

    def _epoch(self, epoch: int, stretch: data.Stretch) -> dict[str, Any]:
        """Trains, evaluates, tells the callbacks and, under a plan, the record."""
        began = time.monotonic()
        model, examples = self.model, self.examples
        model.reset_metrics()
        self.callbacks.on_epoch_begin(epoch)
        if not self.by_steps and (self.programs is None or not self.programs.are_of(model.train_function)):
            self._prepare()
        order = data.visiting_order(examples, self.shuffle, self.seed, stretch)
        if model.stop_training:  # asked for before the first call of a step, Keras stops after it
            order = order[: examples.batch_size * model.steps_per_execution]
        elif stretch.short:
            warnings.warn(RAN_OUT, stacklevel=2)
        logs = self._train(order, epoch)
        hooks.after_batches(self.callbacks.callbacks, stretch.end - stretch.begin - 1, logs)
        if self.validation is not None and _tensorflow.should_evaluate(model, epoch, self.validation_freq):
            logs.update({f"val_{name}": value for name, value in self._evaluate().items()})
        logs = {name: _number(value) for name, value in logs.items()}
        self.callbacks.on_epoch_end(epoch, logs)
        if self.following is not None:
            self._follow(epoch, logs, time.monotonic() - began)
        return logs

    def _prepare(self) -> None:
        """Finds or makes the programs of the model as it is compiled now."""
        try:
            self.programs = programs(self.model, self.examples)
        except NotCompiled as reason:
            self._go_by_steps(str(reason))
            return
        plan = None if self.following is None else self.following.plan
        follows = plan is not None and self.following is not None and self.following.fits == 1
        milestones = (plan.milestones if plan is not None and follows else None) or (self.initial_epoch, self.epochs)
        break_even = xla.XLA_BREAK_EVEN if plan is None or plan.xla_break_even is None else plan.xla_break_even
        examples = self.examples
        self.pays = xla.pays(self.model, examples.n, examples.batch_size, milestones, break_even)

    def _train(self, order: NDArray[np.int32], epoch: int) -> dict[str, Any]:
        if self.programs is not None:
            try:
                return self.programs.train(self.examples, order, epoch, self.pays)
            except NotCompiled as reason:
                self._go_by_steps(str(reason))
        return by_steps(self.model, "train", self.examples, order)

    def _go_by_steps(self, reason: str) -> None:
        """What cannot be traced as a whole epoch goes on step by step, as Keras has it."""
        self.programs, self.by_steps = None, True
        line = _line(reason)
        _say(line)
        if self.following is not None:
            self.following.record.notes.append(line)

    def _evaluate(self) -> dict[str, Any]:
        self.model.stop_evaluating = False
        if self._validating is not None and not all(map(hooks.is_known, self.callbacks.callbacks)):
            self.validation = self._validating()  # Keras reads it now, after what a callback did to it
        self._validating = None
        examples = self.validation
        assert examples is not None
        self.callbacks.on_test_begin()
        self.model.reset_metrics()
        if examples.steps is not None and examples.steps > examples.batches:
            warnings.warn(RAN_OUT, stacklevel=2)
        logs = {name: _number(value) for name, value in self._test(examples).items()}
        self.callbacks.on_test_end(logs)
        return logs

    def _test(self, examples: Examples) -> dict[str, Any]:
        if self.programs is not None and not self.model.stop_evaluating:
            try:
                return self.programs.evaluate(examples)
            except NotCompiled as reason:
                self._go_by_steps(str(reason))
        rows = examples.n if examples.steps is None else min(examples.n, examples.steps * examples.batch_size)
        if self.model.stop_evaluating:  # asked for before the first call of a step, Keras stops after it
            rows = min(rows, examples.batch_size)
        return by_steps(self.model, "test", examples, np.arange(rows, dtype=np.int32))

    def _follow(self, epoch: int, logs: dict[str, Any], seconds: float) -> None:
        """Records the epoch, writes the state if it is time, and stops if asked to."""
        following = self.following
        assert following is not None
        ends_on_nan = any(type(callback) is keras.callbacks.TerminateOnNaN for callback in self.callbacks.callbacks)
        if following.plan.diverges and not ends_on_nan:
            _require_finite(logs, epoch)
        record = following.record
        record.epoch_seconds.append(seconds)
        record.history.clear()
        record.history.update({name: list(values) for name, values in self._earlier.items()})
        for name, values in self.model.history.history.items():
            if means := _means(values[self._before.get(name, 0) :]):
                record.history.setdefault(name, []).extend(means)
        _note(following, self.model)
        last = epoch + 1 >= self.epochs or self.model.stop_training
        stop = not last and following.plan.stopping()
        due = time.monotonic() - self.written > SECONDS_BETWEEN_STATES or seconds > SECONDS_WORTH_A_STATE
        if not last and (stop or due):
            self._write(epoch + 1, logs)
        if stop:
            hooks.close_files(self.callbacks.callbacks)
            raise Stopped

    def _write(self, epoch: int | None, logs: Any = None) -> None:
        """Writes the state: to go on with ``epoch``, or, None, of a training that has ended."""
        following = self.following
        assert following is not None
        kept = hooks.memory(self.callbacks.callbacks) if following.fits == 1 else None
        if self.programs is not None:
            self.touched = self.programs.touched()
        if epoch is not None and (kept is None or self.by_steps or not self.touched.exact):
            return  # what cannot be gone on with exactly begins at its milestone again
        history = self.model.history
        memory = (
            None
            if kept is None
            else {
                "arguments": [self.initial_epoch, self.epochs],
                "code": following.plan.code,
                "callbacks": kept,
                "history": {name: values[self._before.get(name, 0) :] for name, values in history.history.items()},
                "epochs": list(history.epoch),
                "logs": logs,
            }
        )
        whole = self.touched.whole and (not self.by_steps or changes_itself_alone(self.model, *self.data))
        try:
            _write(following, self.model, epoch, memory, self.touched.values(), whole)
        except TypeError:  # a callback's state, or what it left in the logs, is no JSON
            if epoch is None:
                _write(following, self.model, None, None, self.touched.values(), whole)
        self.written = time.monotonic()

    def _restored(self) -> checkpoint.State | None:
        """Restores the plan's state, if there is one and none has been; returns it where this very call goes on from it."""
        following = self.following
        if following is None:
            return None
        _turn_to(following, self.model)
        state, followed = None, following.of(self.model)
        if followed.begun:
            return None
        if any(path is not None and path.exists() for path in (followed.state, followed.resume_from)):
            try:
                create_variables(self.model, self.examples)
            except Exception as error:  # it goes by steps, and no state that such a training leaves can be gone on with
                _lose(following, self.model, f"tracing raised {type(error).__name__}")
        if not followed.begun:
            arguments = [self.initial_epoch, self.epochs]
            state = _restore(following, self.model, arguments, self.callbacks.callbacks, self._touched)
        if followed.lost:
            self.initial_epoch = 0  # what it was to go on from is lost: all of it is trained again
        return state

    def _touched(self) -> Touched:
        self.touched = touched(self.model, self.examples, self.validation)
        return self.touched

    def _record_history(self) -> dict[str, list[float]]:
        return {} if self.following is None else self.following.record.history


def _check(model: keras.Model, arguments: dict[str, Any]) -> None:
    """Refuses what the compiled path cannot take as Keras would.

    Raises:
        NotCompiled: with the reason.
    """
    if keras.backend.backend() != "tensorflow":
        raise NotCompiled(f"Keras runs on {keras.backend.backend()}")
    if not getattr(model, "compiled", False) or not isinstance(model.optimizer, keras.optimizers.Optimizer):
        raise NotCompiled("the model is not compiled with an optimizer")
    if model.run_eagerly or tf.config.functions_run_eagerly():
        raise NotCompiled("run_eagerly is set")
    if _tensorflow.is_distributed(model):
        raise NotCompiled("a distribution strategy is set")
    for name in ("evaluate", "make_train_function", "make_test_function"):
        if name in vars(model) or getattr(type(model), name) is not getattr(keras.Model, name):
            raise NotCompiled(f"{type(model).__name__} has a {name} of its own")
    if not _tensorflow.is_own_train_function(model):
        raise NotCompiled("model.train_function is not Keras's")
    if keras.config.max_epochs() or keras.config.max_steps_per_epoch():
        raise NotCompiled("keras.config limits the epochs or the steps")
    if model.steps_per_execution > 1 and arguments["steps_per_epoch"]:
        raise NotCompiled("steps_per_execution and steps_per_epoch are both set")
    given = arguments["callbacks"]
    flat = given.callbacks if isinstance(given, keras.callbacks.CallbackList) else keras.tree.flatten(given or [])
    for callback in flat:
        hook = hooks.needs_batches(callback)
        if hook:
            raise NotCompiled(f"the callback {type(callback).__name__} defines {hook}")


def _split(arguments: dict[str, Any]) -> tuple[tuple[Any, Any, Any], Any]:
    """What ``fit`` trains on, ``(x, y, sample_weight)``, and what it validates on, None where on nothing."""
    x, y, weight, validation = (arguments[name] for name in (*DATA, "validation_data"))
    if x is None or not _tensorflow.accepts_arrays(x, y, weight):
        raise NotCompiled(f"x is a {type(x).__name__}, not arrays")
    if arguments["validation_split"] and validation is None:
        try:
            (x, y, weight), validation = _tensorflow.validation_split(x, y, weight, arguments["validation_split"])
        except Exception as error:
            raise NotCompiled(first_line(error)) from error
    return (x, y, weight), validation


def _validation(given: Any, arguments: dict[str, Any]) -> Examples:
    if not isinstance(given, (tuple, list)) or not _tensorflow.accepts_arrays(*given):
        raise NotCompiled(f"validation_data is a {type(given).__name__}, not arrays")
    try:
        x, y, weight = keras.utils.unpack_x_y_sample_weight(given)
    except ValueError as error:
        raise NotCompiled(first_line(error)) from error
    size = arguments["validation_batch_size"] or arguments["batch_size"]
    return data.examples(x, y, weight, None, size, arguments["validation_steps"])


def _number(value: Any) -> Any:
    """A scalar tensor as a float, as Keras's callbacks see it."""
    if isinstance(value, (tf.Tensor, np.ndarray, np.generic)):
        return float(value) if np.ndim(value) == 0 else value
    return value


def _means(values: Iterable[Any]) -> list[float]:
    """What a record keeps of a metric's values, as KerasTuner averages them: of a vector, one a class say, the mean.

    What is no number, as a callback may leave in the logs, is left out.
    """
    means = []
    for value in values:
        with contextlib.suppress(TypeError, ValueError):
            means.append(float(np.mean(value)))
    return means


def _require_finite(logs: dict[str, Any], epoch: int) -> None:
    loss = logs.get("loss", 0.0)
    if isinstance(loss, float) and not math.isfinite(loss):
        raise Diverged(f"diverged: the loss is {loss} after epoch {epoch + 1}")


def _note(following: Following, model: keras.Model) -> None:
    record = following.record
    record.parameters = sum(math.prod(weight.shape) for weight in model.trainable_weights)
    record.epochs = max(map(len, record.history.values()), default=0)


def _turn_to(following: Following, model: keras.Model) -> None:
    """The record is that of one model: another one's history begins anew."""
    if following.model is not None and following.model is not model:
        following.record.history.clear()
    following.model = model


def _write(
    following: Following, model: keras.Model, epoch: int | None, memory: Any, outside: list[Any], whole: bool
) -> None:
    record, identity = following.record, dict(following.plan.identity)
    try:
        state = checkpoint.capture(model, record.history, identity, epoch, memory, outside, whole)
        checkpoint.write(following.of(model).state, state)
    except OSError as error:
        record.not_written = error
        raise


def _restore(
    following: Following,
    model: keras.Model,
    arguments: list[int],
    callbacks: Iterable[Any] | None,
    touched: Callable[[], Touched],
) -> checkpoint.State | None:
    """Restores the furthest usable state; returns it where it is one of this very call, to go on with.

    Args:
        touched: traces what is touched outside the model, where a state has something of the kind.
    """
    followed = following.of(model)
    followed.begun = True
    own = _read(following, followed.state)
    if own is not None and own.memory is not None and callbacks is not None:
        known = hooks.matches(list(callbacks), own.memory["callbacks"])
        known = known and own.memory["arguments"] == arguments and checkpoint.fits(own, model)
        known = known and own.memory.get("code") == following.plan.code
        if known and _restored_outside(own, touched):
            checkpoint.restore(own, model)
            following.record.history.update(own.history)
            return own
        following.record.notes.append(
            f"{followed.state} is of another call of fit, or of other code; the training begins at its milestone"
        )
    if not (followed.is_of_build or arguments[0] > 0):
        return None  # it begins anew
    earlier = _read(following, followed.resume_from)
    followed.lost = followed.resume_from is not None and earlier is None
    if earlier is not None:
        whole = earlier.whole and checkpoint.fits(earlier, model)
        if not (whole and _restored_outside(earlier, touched)):
            _lose(following, model, f"{followed.resume_from} does not hold all that a step of this model changes")
            return None
        checkpoint.restore(earlier, model)
        following.record.history.update(earlier.history)
    return None


def _restored_outside(state: checkpoint.State, touched: Callable[[], Touched]) -> bool:
    """Whether what the state has from outside the model is the model's step's, too, and has been put there."""
    try:
        return not state.outside or touched().restore(state.outside)
    except NotCompiled:
        return False


def _lose(following: Following, model: keras.Model, reason: str) -> None:
    """Gives up what there was to go on from."""
    followed = following.of(model)
    followed.begun = True
    followed.lost = followed.resume_from is not None
    following.record.notes.append(f"{reason}; all of it is trained from the beginning")


def _read(following: Following, path: Any) -> checkpoint.State | None:
    if path is None or not path.exists():
        return None
    try:
        return checkpoint.read(path, dict(following.plan.identity))
    except WorkError as error:
        following.record.notes.append(str(error))
        if path == following.of(following.model).state:
            files.set_aside(path)
        return None


def _by_keras(
    model: keras.Model, arguments: dict[str, Any], following: Following | None, reason: str
) -> keras.callbacks.History:
    """``model.fit`` itself: under a plan seeded by it, recorded, and its state written at the end."""
    line = _line(reason)
    if following is None:
        history: keras.callbacks.History = keras_fit(model, **arguments)
        _say(line)
        return history
    following.record.notes.append(line)
    _turn_to(following, model)
    seed_everything((*following.plan.seed, following.fits, arguments["initial_epoch"]))
    followed = following.of(model)
    if not followed.begun:
        _build(model, arguments["x"])
        if model.built:
            _restore(following, model, [arguments["initial_epoch"], arguments["epochs"]], None, Touched)
        elif followed.resume_from is not None:
            _lose(following, model, "the model is not built before model.fit builds it")
        if followed.lost:
            arguments["initial_epoch"] = 0
    given = arguments["callbacks"]
    follower = _Follower(following)
    if isinstance(given, keras.callbacks.CallbackList):
        given.append(follower)
    else:
        arguments["callbacks"] = [*keras.tree.flatten(given or []), follower]
    history = keras_fit(model, **arguments)
    _say(line)
    _note(following, model)
    _write(following, model, None, None, [], changes_itself_alone(model, *(arguments[name] for name in DATA)))
    return history


def _build(model: keras.Model, x: Any) -> None:
    """Builds a model for arrays, if it is not built; one that this cannot build stays as it is."""
    shape = getattr(x, "shape", None)
    if not model.built and shape is not None:
        with contextlib.suppress(Exception), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a layer that is called in training alone, and is built then
            model.build((None, *shape[1:]))


def _line(reason: str) -> str:
    return f"model.fit trains this, not one program an epoch: {first_line(Exception(reason))}"


def _say(line: str) -> None:
    if line not in _said:
        _said.add(line)
        print(line, file=sys.stderr)


class _Follower(keras.callbacks.Callback):  # type: ignore[misc]
    """Records the epochs of a training by Keras, and stops it."""

    def __init__(self, following: Following) -> None:
        super().__init__()
        self.following = following

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.began = time.monotonic()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        logs = logs or {}
        if self.following.plan.diverges and not self.model.stop_training:
            _require_finite(logs, epoch)
        record = self.following.record
        record.epoch_seconds.append(time.monotonic() - self.began)
        for metric, value in logs.items():
            if means := _means([value]):
                record.history.setdefault(metric, []).extend(means)
        _note(self.following, self.model)
        if epoch + 1 < self.params["epochs"] and not self.model.stop_training and self.following.plan.stopping():
            raise Stopped
