"""Compiled programs: an epoch of training, an evaluation; which model has which, and those that models share."""

from __future__ import annotations

import contextlib
import functools
import itertools
import math
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from search.errors import first_line
from search.training import _tensorflow, fused, xla
from search.training.data import Examples, NotCompiled, examples
from search.training.fingerprint import Fingerprint, fingerprint
from search.training.xla import Pays

PROGRAMS_KEPT = 72  # of some MB each; a model has three: training as a graph, through XLA, evaluation
LARGE_BATCH = 1000  # of an evaluation whose result does not depend on it


@dataclass(frozen=True)
class Program:
    """A traced function, and for each of its captures the number of the variable that it is; None for a constant.

    Attributes:
        names: of the values that it returns, as the model that it was traced with calls them.
        any_batch: whether its values do not depend on the batch size, rounding aside.
    """

    concrete: Any
    slots: tuple[int | None, ...]
    names: tuple[str, ...]
    any_batch: bool = False

    def run(self, arguments: Sequence[tf.Tensor], variables: Sequence[keras.Variable]) -> list[tf.Tensor]:
        """Runs it on these variables."""
        result: list[tf.Tensor] = _tensorflow.call(self.concrete, arguments, self.captures(variables))
        return result

    @functools.cached_property
    def operations(self) -> xla.Operations:
        """What XLA would have to compile."""
        return xla.operations(self.concrete)

    def captures(self, variables: Sequence[keras.Variable]) -> list[tf.Tensor]:
        """What it reads and changes beside its arguments, where it runs on these variables."""
        return [
            captured if slot is None else _tensorflow.handle(variables[slot])
            for captured, slot in zip(self.concrete.captured_inputs, self.slots, strict=True)
        ]


@dataclass(frozen=True)
class Touched:
    """What a model's programs read and change outside the model and its optimizer, as a second optimizer.

    Attributes:
        variables: as captured resources, in the order in which the programs touch them.
        whole: whether nothing but variables is changed: no table, no queue, nothing in Python.
        exact: whether, beside that, no random numbers come from a kernel, whose state nobody can read.
    """

    variables: tuple[tf.Tensor, ...] = ()
    whole: bool = True
    exact: bool = True

    def values(self) -> list[NDArray[Any]]:
        """Copies of the variables' values."""
        return [np.array(_tensorflow.value(one)) for one in self.variables]

    def restore(self, values: Sequence[NDArray[Any]]) -> bool:
        """Sets the variables; returns whether the values are theirs by number, shape and dtype, else sets none."""
        mine = [(value.shape, value.dtype) for value in self.values()]
        if mine != [(value.shape, value.dtype) for value in values]:
            return False
        for one, value in zip(self.variables, values, strict=True):
            _tensorflow.assign(one, value)
        return True


# Operations that change what is no variable.
CHANGING = (
    "LookupTableInsert",
    "LookupTableImport",
    "LookupTableRemove",
    "Iterator",
    "Queue",
    "Stack",
    "Barrier",
    "Reader",
)
PYTHON = ("PyFunc", "PyFuncStateless", "EagerPyFunc")  # what may keep anything


def _nodes(concrete: Any) -> Iterator[Any]:
    definition = concrete.graph.as_graph_def()
    return itertools.chain(definition.node, *(function.node_def for function in definition.library.function))


_shared: OrderedDict[Any, Program] = OrderedDict()  # by all that a program depends on


@dataclass
class Programs:
    """The programs of one compiled model.

    Attributes:
        reference: to the model, with all of its variables made.
        compiled: to ``model.train_function``, which holds the model and which a model compiled again has anew; None for
            programs of one evaluation.
        found: what can be shared, and its variables.
        own: the programs by kind and data, those that nobody else can have among them.
        logs: what ``train_step`` or ``test_step`` returns where that is not the model's metrics; see :func:`_own_logs`.
    """

    reference: weakref.ref[keras.Model]
    found: Fingerprint
    compiled: weakref.ref[Any] | None = None
    own: dict[Any, Program] = field(default_factory=dict)
    logs: dict[str, Any] = field(default_factory=dict)
    metric_names: tuple[str, ...] = ()
    unfit_for_xla: bool = False

    @property
    def model(self) -> keras.Model:
        """The model, which whoever calls keeps."""
        model = self.reference()
        assert model is not None
        return model

    def are_of(self, train_function: Any) -> bool:
        """Whether they are of the model as it is compiled now."""
        return self.compiled is not None and self.compiled() is train_function

    def train(self, data: Examples, order: NDArray[np.int32], epoch: int, pays: Pays) -> dict[str, Any]:
        """Trains on the examples in ``order`` and returns the logs of this epoch, from 0.

        The graph takes any batch size; XLA compiles one at a time. Through XLA, XLA compiles the whole batches and the
        graph does the short one, since XLA would compile the step a second time for it. Of a model that XLA would slow down
        or train differently, XLA compiles the optimizer's update alone, and the graph does the rest of the step.
        """
        new = not any((kind, data.key) in self.own for kind in TRAINING)
        if new and self.found.key is None:
            self._trace_for_xla(data, order, pays)
        rest = order
        whole = epoch >= pays.step and self._suits_xla(data)
        if whole:
            rest = self._through_xla(data, order)
        whole = whole and not self.unfit_for_xla
        graph = self.training(data, epoch >= pays.update and not whole and self._compiles_update(data, new))
        values = graph.run((tf.constant(rest), tf.constant(data.batch_size), *data.tensors), self.found.variables)
        return self._logs("train", graph, values)

    def _compiles_update(self, data: Examples, new: bool) -> bool:
        """Whether XLA may compile the optimizer's update, in a program that is made or that sees what the others see."""
        if not (_is_keras_step(self.model, "train_step") and fused.may_update(self.model)):
            return False
        return new or (TRAINING[True], data.key) in self.own or self._is_as_found()

    def _suits_xla(self, data: Examples) -> bool:
        """Whether XLA may compile the whole step."""
        if "train" in self.logs or self.unfit_for_xla:
            return False
        return xla.may_suit(self.model) and xla.suits(self.model, self.training(data).operations, data)

    def training(self, data: Examples, xla_update: bool = False) -> Program:
        """The graph of an epoch of training; with ``xla_update`` XLA compiles the optimizer's update."""
        train = functools.partial(_train, self.model, data, self.logs.get("train"), xla_update)
        return self._program(TRAINING[xla_update], data, train, (*GRAPH, *data.specs))

    def evaluation(self, data: Examples) -> Program:
        """The graph of an evaluation."""
        test = functools.partial(_evaluate, self.model, data, self.logs.get("test"))
        return self._program("test", data, test, (*GRAPH_OF_TEST, *data.specs))

    def touched(self) -> Touched:
        """What the programs made so far read and change outside the model and its optimizer."""
        kinds = (*TRAINING, "test")
        made = [program for kind in kinds for (one, _), program in self.own.items() if one == kind]
        handles = {id(_tensorflow.handle(variable)) for variable in _known_variables(self.model)}
        found: dict[int, tf.Tensor] = {}
        for program in made:
            for one in program.captures(self.found.variables):
                if one.dtype == tf.resource and id(one) not in handles:
                    found[id(one)] = one
        variables = [one for one in found.values() if _tensorflow.is_variable(one)]
        nodes = [node for program in made for node in _nodes(program.concrete)]
        changed = len(variables) < len(found) and any(node.op.startswith(CHANGING) for node in nodes)
        changed = changed or any(node.op in PYTHON for node in nodes)
        draws = any("seed2" in node.attr for node in nodes)
        return Touched(tuple(variables), not changed, not changed and not draws)

    def _through_xla(self, data: Examples, order: NDArray[np.int32]) -> NDArray[np.int32]:
        """Trains on the whole batches; returns what is left of the order."""
        whole = len(order) // data.batch_size * data.batch_size
        if not whole:
            return order
        try:
            if (_xla_kind(data, whole), data.key) not in self.own and not self._is_as_found():
                return order  # Keras's program does not see what has changed since it was traced
            program = self.xla(data, whole)
            program.run((tf.constant(order[:whole]), *data.tensors), self.found.variables)
        except (
            NotCompiled,
            tf.errors.InvalidArgumentError,
            tf.errors.UnimplementedError,
        ):  # before it changes anything
            self.unfit_for_xla = True
            return order
        return order[whole:]

    def xla(self, data: Examples, whole: int) -> Program:
        """The program through XLA of an epoch of ``whole`` examples."""
        signature = (tf.TensorSpec((whole,), tf.int32), *data.exact_specs)
        train = functools.partial(_train_whole_batches, self.model, data)
        return self._program(_xla_kind(data, whole), data, train, signature, jit_compile=True)

    def _trace_for_xla(self, data: Examples, order: NDArray[np.int32], pays: Pays) -> None:
        """Traces at once what, later, might find the model's attributes changed."""
        whole = len(order) // data.batch_size * data.batch_size
        if pays.step < math.inf and self._suits_xla(data):
            try:
                if whole:
                    self.xla(data, whole)
            except NotCompiled:
                self.unfit_for_xla = True
        if pays.update < math.inf and not self._suits_xla(data) and self._compiles_update(data, new=True):
            self.training(data, xla_update=True)
        if pays.update > 0:
            self.training(data)

    def _is_as_found(self) -> bool:
        """Whether the model is known to be the one that was walked, but for the values of its variables."""
        return self.found.key is not None and fingerprint(self.model).key == self.found.key

    def evaluate(self, data: Examples) -> dict[str, Any]:
        """The logs of an evaluation on the first ``data.steps`` batches, or all."""
        size = data.batch_size
        rows = data.n if data.steps is None else min(data.n, data.steps * size)
        program = self.evaluation(data)
        if program.any_batch:
            size = max(size, LARGE_BATCH)
        values = program.run((tf.constant(rows), tf.constant(size), *data.tensors), self.found.variables)
        return self._logs("test", program, values)

    def _logs(self, kind: str, program: Program, values: Sequence[tf.Tensor]) -> dict[str, Any]:
        if self.found.key is not None:
            return dict(zip(self._names(), values, strict=True))
        if kind in self.logs:
            return dict(zip(program.names, values, strict=True))
        return flat(self.model.get_metrics_result())  # the user's code may read what has changed since it was traced

    def _names(self) -> tuple[str, ...]:
        if not self.metric_names:  # the program may be another model's, whose metrics Keras numbered otherwise
            self.metric_names = tuple(flat(self.model.get_metrics_result()))
        return self.metric_names

    def _program(
        self, kind: Any, data: Examples, function: Any, signature: tuple[tf.TensorSpec, ...], jit_compile: bool = False
    ) -> Program:
        """The program of this kind for such data: this model's, one that it can share, or a new one."""
        own, shared = (kind, data.key), (kind, data.key, self.found.key)
        if own in self.own:
            return self.own[own]
        shares = self._is_as_found()  # a callback or the user, between two calls, may have changed an attribute
        program = _shared.get(shared) if shares else None
        if program is None:
            names: list[str] = []
            with _tracing():
                concrete = _tensorflow.traced(functools.partial(function, names), *signature, jit_compile=jit_compile)
            slots, all_known = self._slots(concrete)
            # asked once it is traced, which is when Keras makes the losses
            any_batch = shares and _batches_do_not_matter(self.model)
            program = Program(concrete, slots, tuple(names), any_batch)
            if shares and all_known:
                _shared[shared] = program
        if shared in _shared:
            _shared.move_to_end(shared)
            if len(_shared) > PROGRAMS_KEPT:
                _shared.popitem(last=False)
        self.own[own] = program
        return program

    def _slots(self, concrete: Any) -> tuple[tuple[int | None, ...], bool]:
        """Which variable each capture is, and whether the walk knew all of them."""
        numbers = {id(_tensorflow.handle(variable)): i for i, variable in enumerate(self.found.variables)}
        constants = {id(tensor) for tensor in self.found.tensors}
        captured = concrete.captured_inputs
        known = all(id(one) in numbers or id(one) in constants for one in captured)
        return tuple(numbers.get(id(one)) for one in captured), known


def _xla_kind(data: Examples, whole: int) -> Any:
    return "xla", data.n, data.batch_size, whole


TRAINING = ("train", "train, XLA update")
GRAPH = (tf.TensorSpec((None,), tf.int32), tf.TensorSpec((), tf.int32))
GRAPH_OF_TEST = (tf.TensorSpec((), tf.int32), tf.TensorSpec((), tf.int32))

_of_models: weakref.WeakKeyDictionary[keras.Model, Programs] = weakref.WeakKeyDictionary()


def programs(model: keras.Model, data: Examples) -> Programs:
    """The programs of ``model`` as it is compiled now.

    As in Keras, what a step reads from Python is read once, and again when the model has been compiled again: until then
    ``model.train_function`` is the same object.
    """
    if model.train_function is None:
        model.make_train_function()
    known = _of_models.get(model)
    if known is not None and known.are_of(model.train_function):
        return known
    with _tracing():
        logs = _create_variables(model, data)
    made = Programs(weakref.ref(model), fingerprint(model), weakref.ref(model.train_function), logs=logs)
    _of_models[model] = made
    return made


def programs_of_evaluation(model: keras.Model, data: Examples) -> Programs:
    """The programs of ``model`` as it is now, for an evaluation outside training: a training to come reads it anew."""
    with _tracing():
        logs = _create_variables(model, data, ("test",))
    return Programs(weakref.ref(model), fingerprint(model), logs=logs)


def touched(model: keras.Model, data: Examples, validation: Examples | None) -> Touched:
    """What training and evaluation would touch outside the model and its optimizer; traces them, and keeps no trace.

    Raises:
        NotCompiled: they cannot be traced.
    """
    with _tracing():
        made = Programs(weakref.ref(model), fingerprint(model), logs=_create_variables(model, data))
    made.training(data)
    if validation is not None:
        made.evaluation(validation)
    return made.touched()


def changes_itself_alone(model: keras.Model, *arguments: Any) -> bool:
    """Whether steps that Keras has run are known to change the model's and its optimizer's variables alone.

    Args:
        arguments: ``x``, ``y`` and ``sample_weight`` of ``model.fit``.
    """
    if not _tensorflow.is_own_train_function(model):
        return False
    if fingerprint(model).key is not None:
        return True
    own = type(model).make_train_function is not keras.Model.make_train_function
    if own or "make_train_function" in vars(model) or model.run_eagerly or tf.config.functions_run_eagerly():
        return False  # code of the user's runs at every step, and may keep anything in Python
    try:
        specs, batch = _of_a_batch(*arguments)
        with _tracing():
            step = _tensorflow.traced(lambda *parts: model.train_step(batch(*parts)), *specs)
    except NotCompiled:
        return False
    handles = {id(_tensorflow.handle(variable)) for variable in _known_variables(model)}
    outside = any(one.dtype == tf.resource and id(one) not in handles for one in step.captured_inputs)
    return not outside and not any(node.op in PYTHON for node in _nodes(step))


def _of_a_batch(x: Any, y: Any = None, sample_weight: Any = None) -> tuple[list[Any], Callable[..., Any]]:
    """The specifications of a batch's tensors, and what makes of the tensors what a step takes."""
    if isinstance(x, tf.data.Dataset):
        structure = x.element_spec
        specs = tf.nest.flatten(structure)
        return specs, lambda *parts: tf.nest.pack_sequence_as(structure, parts)
    if not _tensorflow.accepts_arrays(x, y, sample_weight):
        raise NotCompiled(f"x is a {type(x).__name__}")
    found = examples(x, y, sample_weight)
    return list(found.specs), found.batch


def _known_variables(model: keras.Model) -> list[keras.Variable]:
    """The model's, the optimizer's, and those of metrics that begin each epoch anew."""
    known = [*model.variables, *model.optimizer.variables]
    if type(model).reset_metrics is not keras.Model.reset_metrics or "reset_metrics" in vars(model):
        return known
    kept = [metric.variables for metric in _tensorflow.metrics(model) if not _is_reset(metric)]
    never_reset = {id(variable) for variables in kept for variable in variables}
    return known + [variable for variable in model.metrics_variables if id(variable) not in never_reset]


def _is_reset(metric: keras.Metric) -> bool:
    """Whether ``reset_state`` is Keras's. Another is the user's: what it does is known to them, and it is not called to see."""
    function = getattr(metric.reset_state, "__func__", None)
    return getattr(function, "__module__", "").startswith("keras.src.")


def create_variables(model: keras.Model, data: Examples) -> None:
    """Builds the model, its optimizer and its metrics, if they are not built."""
    _create_variables(model, data)


def flat(logs: dict[str, Any]) -> dict[str, Any]:
    """The logs as Keras shows them: what a metric returns as a dictionary stands among the others, under its own names."""
    result: dict[str, Any] = {}
    for name, value in logs.items():
        result.update(flat(value) if isinstance(value, dict) else {name: value})
    return result


def by_steps(model: keras.Model, kind: str, data: Examples, order: NDArray[np.int32]) -> dict[str, Any]:
    """An epoch's logs by Keras's own function of one step, for ``"train"`` or ``"test"``."""
    getattr(model, f"make_{kind}_function")()
    step = getattr(model, f"{kind}_function")
    logs: dict[str, Any] = {}
    for start in range(0, len(order), data.batch_size):
        rows = order[start : start + data.batch_size]
        logs = step(iter([data.batch(*(tf.gather(tensor, rows) for tensor in data.tensors))]))
    return flat(_tensorflow.metrics_or_logs(model, logs))


@contextlib.contextmanager
def _tracing() -> Iterator[None]:
    """What a user's code raises while it is traced is raised again, if it is wrong, by Keras."""
    try:
        yield
    except NotCompiled:
        raise
    except Exception as error:
        raise NotCompiled(f"tracing raised {type(error).__name__}: {first_line(error)}") from error


def _is_keras_step(model: keras.Model, name: str) -> bool:
    return getattr(getattr(model, name), "__func__", None) is getattr(keras.Model, name)


def _build(model: keras.Model, data: Examples, training: bool = False) -> None:
    """Builds the model for any number of examples, as the trace of ``model.fit`` does; its build configuration says so."""
    x, _, _ = keras.utils.unpack_x_y_sample_weight(data.batch(*data.tensors))
    shapes = keras.tree.map_structure(lambda tensor: tf.TensorSpec([None, *tensor.shape[1:]], tensor.dtype), x)
    tf.function(lambda inputs: model(inputs, training=training)).get_concrete_function(shapes)


def _create_variables(model: keras.Model, data: Examples, kinds: Sequence[str] = ("train", "test")) -> dict[str, Any]:
    """Makes those of the optimizer and the metrics, which TensorFlow would otherwise trace every program a second time for.

    Returns:
        For ``"train"`` and ``"test"`` the specifications of what a step of the user's own returns, where that is not the
        model's metrics; nothing for Keras's steps.
    """
    if all(_is_keras_step(model, name) for name in (*(f"{kind}_step" for kind in kinds), "compute_metrics")):
        if not (model.built and _tensorflow.losses(model) and all(metric.variables for metric in model.metrics)):
            if not model.built:
                _build(model, data)
            _make_metrics(model, data)
        if "train" in kinds and not all(layer.built for layer in _tensorflow.layers(model)):
            _build(model, data, training=True)  # some layer is called in training alone
        if (
            "train" in kinds and not model.optimizer.built
        ):  # a second time, a LossScaleOptimizer makes itself other variables
            model.optimizer.build(model.trainable_variables)
        return {}
    logs = {}
    for kind in kinds:
        step = getattr(model, f"{kind}_step")
        if kind == "test" and not _is_keras_step(model, "train_step") and _is_keras_step(model, "test_step"):
            continue  # never called where there is no validation
        own = _own_logs(model, step, data)
        if own is not None:
            logs[kind] = own
    return logs


def _make_metrics(model: keras.Model, data: Examples) -> None:
    """Makes what Keras makes of the losses and metrics with the first batch."""
    if fingerprint(model).key is None:  # traced and not run: its own code may change what is not the model's, or draw
        _tensorflow.traced(lambda *parts: model.test_step(data.batch(*parts)), *data.specs)
        return
    kept = [(variable, variable.numpy()) for variable in model.non_trainable_variables]
    model.test_step(data.batch(*(tensor[:1] for tensor in data.tensors)))  # a quarter of what tracing takes
    for variable, value in kept:  # a layer that is random at inference, too, has drawn
        variable.assign(value)
    model.reset_metrics()


def _own_logs(model: keras.Model, step: Callable[[Any], Any], data: Examples) -> Any:
    """Traces a step of the user's own, which makes its variables, and says what it returns: None for the metrics."""
    returned = _tensorflow.traced(lambda *parts: step(data.batch(*parts)), *data.specs).structured_outputs
    if not isinstance(returned, dict):
        raise NotCompiled(f"{type(model).__name__}'s step returns a {type(returned).__name__}")
    if returned.keys() == model.get_metrics_result().keys():
        return None
    for name, value in returned.items():
        if not hasattr(value, "dtype") or not value.shape.is_fully_defined():
            raise NotCompiled(f"{type(model).__name__}'s step returns {name!r} of no fixed shape")
    return {name: tf.TensorSpec(value.shape, value.dtype) for name, value in returned.items()}


def _train(
    model: keras.Model,
    data: Examples,
    own: Any,
    xla_update: bool,
    names: list[str],
    order: tf.Tensor,
    size: tf.Tensor,
    *tensors: tf.Tensor,
) -> list[tf.Tensor]:
    n = tf.shape(order)[0]

    def step(start: tf.Tensor, *logs: tf.Tensor) -> tuple[tf.Tensor, ...]:
        end = tf.minimum(start + size, n)
        with fused.update(model) if xla_update else contextlib.nullcontext():
            returned = _step(model, data, order[start:end], tensors)
        return (end, *(_cast(returned[name], spec) for name, spec in (own or {}).items()))

    loop = (tf.constant(0), *(tf.zeros(spec.shape, spec.dtype) for spec in (own or {}).values()))
    _, *logs = tf.while_loop(lambda start, *logs: start < n, step, loop)
    return _results(model, own, names, logs)


def _train_whole_batches(
    model: keras.Model, data: Examples, names: list[str], order: tf.Tensor, *tensors: tf.Tensor
) -> list[tf.Tensor]:
    size = data.batch_size

    def step(start: tf.Tensor) -> tuple[tf.Tensor]:
        _step(model, data, tf.slice(order, [start], [size]), tensors)
        return (start + size,)

    tf.while_loop(lambda start: start < order.shape[0], step, (tf.constant(0),))
    return []


def _step(model: keras.Model, data: Examples, indices: tf.Tensor, tensors: Sequence[tf.Tensor]) -> Any:
    batch = data.batch(*(tf.gather(tensor, indices) for tensor in tensors))
    with fused.batch_normalization(model):
        return model.train_step(batch)


def _evaluate(
    model: keras.Model,
    data: Examples,
    own: Any,
    names: list[str],
    rows: tf.Tensor,
    size: tf.Tensor,
    *tensors: tf.Tensor,
) -> list[tf.Tensor]:
    def step(start: tf.Tensor, *logs: tf.Tensor) -> tuple[tf.Tensor, ...]:
        end = tf.minimum(start + size, rows)
        returned = model.test_step(data.batch(*(tensor[start:end] for tensor in tensors)))
        return (end, *(_cast(returned[name], spec) for name, spec in (own or {}).items()))

    loop = (tf.constant(0), *(tf.zeros(spec.shape, spec.dtype) for spec in (own or {}).values()))
    _, *logs = tf.while_loop(lambda start, *logs: start < rows, step, loop)
    return _results(model, own, names, logs)


def _cast(value: Any, spec: Any) -> tf.Tensor:
    return tf.ensure_shape(tf.cast(value, spec.dtype), spec.shape)


def _results(model: keras.Model, own: Any, names: list[str], logs: Sequence[tf.Tensor]) -> list[tf.Tensor]:
    """The metrics' values, or what the last step returned; their names go into ``names``."""
    results = flat(model.get_metrics_result()) if own is None else dict(zip(own, logs, strict=True))
    names[:] = results
    return [tf.convert_to_tensor(value) for value in results.values()]


# Layers that treat each example alone when they do not train.
SEPARATE = frozenset(
    [
        "Activation",
        "Add",
        "AlphaDropout",
        "Average",
        "AveragePooling1D",
        "AveragePooling2D",
        "BatchNormalization",
        "Concatenate",
        "Conv1D",
        "Conv2D",
        "Dense",
        "DepthwiseConv2D",
        "Dropout",
        "ELU",
        "Flatten",
        "Functional",
        "GaussianDropout",
        "GaussianNoise",
        "GlobalAveragePooling1D",
        "GlobalAveragePooling2D",
        "GlobalMaxPooling1D",
        "GlobalMaxPooling2D",
        "InputLayer",
        "LayerNormalization",
        "LeakyReLU",
        "MaxPooling1D",
        "MaxPooling2D",
        "Multiply",
        "Normalization",
        "PReLU",
        "RandomShift",
        "ReLU",
        "Rescaling",
        "Reshape",
        "SeparableConv2D",
        "Sequential",
        "Softmax",
        "SpatialDropout2D",
        "Subtract",
        "ZeroPadding2D",
    ]
)
NOT_ADDING_UP = frozenset(("PearsonCorrelation", "ConcordanceCorrelation"))
# Functions of losses and metrics that give a value an example; others, as Dice, give one a batch.
AN_EXAMPLE_EACH = (
    "binary_accuracy",
    "binary_crossentropy",
    "binary_focal_crossentropy",
    "categorical_accuracy",
    "categorical_crossentropy",
    "categorical_focal_crossentropy",
    "categorical_hinge",
    "cosine_similarity",
    "hinge",
    "huber",
    "kl_divergence",
    "log_cosh",
    "mean_absolute_error",
    "mean_absolute_percentage_error",
    "mean_squared_error",
    "mean_squared_logarithmic_error",
    "poisson",
    "sparse_categorical_accuracy",
    "sparse_categorical_crossentropy",
    "sparse_top_k_categorical_accuracy",
    "squared_hinge",
    "top_k_categorical_accuracy",
)
# What of their arguments changes the value of each example alone; others, as ``ignore_class``, what the values are divided by.
ARGUMENTS_OF_AN_EXAMPLE = frozenset(
    (
        "alpha",
        "apply_class_balancing",
        "axis",
        "delta",
        "dtype",
        "from_logits",
        "gamma",
        "k",
        "label_smoothing",
        "threshold",
    )
)


def _batches_do_not_matter(model: keras.Model) -> bool:
    """Whether an evaluation of a model of Keras's own parts gives the same, rounding aside, however its examples are cut."""
    losses, layers = _tensorflow.losses(model), _tensorflow.layers(model)
    return (
        len(losses) == 1  # of several, Keras shows each as a mean over batches
        and all(loss.reduction == "sum_over_batch_size" and _is_an_example_each(loss) for loss in losses)
        and all(map(_is_separate, layers))
        and all(isinstance(part, keras.Layer) for one in (model, *layers) for part in getattr(one, "operations", ()))
        and all(
            _is_an_example_each(metric)
            if isinstance(metric, keras.metrics.MeanMetricWrapper)
            else type(metric).__name__ not in NOT_ADDING_UP
            for metric in _tensorflow.metrics(model)
        )
    )


def _is_separate(layer: keras.Layer) -> bool:
    """Whether the layer treats each example alone when it does not train."""
    activation = getattr(layer, "activation", None)
    return (
        type(layer).__name__ in SEPARATE
        and all(axis in (None, -1) or axis > 0 for axis in keras.tree.flatten(getattr(layer, "axis", -1)))
        and (activation is None or getattr(keras.activations, getattr(activation, "__name__", ""), None) is activation)
        and not _tensorflow.is_called_in_training(layer)
    )


def _is_an_example_each(part: Any) -> bool:
    """Whether a loss, or a metric that is a mean, takes its values from the examples, one each."""
    function, arguments = _tensorflow.function_of(part)
    known = [getattr(keras.losses, name, None) or getattr(keras.metrics, name, None) for name in AN_EXAMPLE_EACH]
    given = {name for name, value in arguments.items() if value is not None}
    own = given <= ARGUMENTS_OF_AN_EXAMPLE and arguments.get("axis", -1) == -1
    return own and any(function is one for one in known)
