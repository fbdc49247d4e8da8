"""Whether two models can share a compiled program: a walk over everything that a training step can depend on.

Two models of equal keys are the same but for the values of their variables: every attribute of every object that can be
reached from the model, its optimizer, losses and metrics, by ``vars()``, and Keras's global settings. Names that Keras
numbers count as the first, second, ... of the model. Whatever the walk does not know gives no key: such a model is traced
for itself.
"""

from __future__ import annotations

import enum
import functools
import hashlib
import inspect
import re
import sys
import types
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from search.training import _tensorflow

ATOMS = (bool, int, float, complex, str, bytes, type(None), type(Ellipsis))

# Attributes that no step reads: bookkeeping of TensorFlow's and Keras's checkpoints, constructors' arguments kept for
# `get_config`, what was compiled, and what the names of variables are made of.
SKIPPED = frozenset(
    [
        "_tracker",
        "_auto_config",
        "_compile_config",
        "_build_shapes_dict",
        "_build_input_shape",
        "_tracked",
        "_path",
        "_parent_path",
        "_saved_model_inputs_spec",
        "_saved_model_arg_spec",
        "train_function",
        "test_function",
        "predict_function",
        "stop_training",
        "stop_evaluating",
        "stop_predicting",
        "history",
        "_eval_epoch_iterator",
        "_initial_epoch",
        "_compiled_trainable_state",
        "_nodes",
        "_trainable_variables_indices",
        "_exclude_from_weight_decay_cache",
        "_distribution_strategy",
        "_distribute_strategy",
        "_call_signature",
        "_loss_ids",
        "_lock",
        "_called",
        "record_history",
        "_y_pred_build_structure",
        "_y_true_build_structure",
        # every call of a layer, by other models too; the model's own are among its ``_nodes_by_depth``
        "_inbound_nodes",
        "_outbound_nodes",
    ]
)
SKIPPED_OF_VARIABLES = frozenset(("_value", "_initializer", "_path", "_name"))
WALKED = ("keras", "search")  # the packages whose objects are all that their attributes say
BY_NAME = frozenset(("Muon",))  # optimizers that look at the names of variables
WRAPPED_BY_KERAS = ("build", "quantize")  # every layer has its own wrapper of these methods
# Methods of Keras's classes that someone may have replaced, on the class.
METHODS = [
    "__call__",
    "call",
    "build",
    "train_step",
    "test_step",
    "compute_loss",
    "compute_metrics",
    "_compute_loss",
    "update_state",
    "result",
    "reset_state",
    "apply_gradients",
    "apply",
    "update_step",
    "get_metrics_result",
    "fn",
    "stateless_call",
    "compute_mask",
    "value",
    "assign",
]


_STRING = object()


class _Unknown(Exception):
    """Something that the walk cannot vouch for."""


@dataclass(frozen=True)
class Fingerprint:
    """What the walk found.

    Attributes:
        key: equal for models that can share a program; None where only this model can have it.
        variables: every Keras variable, in the order of the walk: those of models of equal keys correspond.
        tensors: constants that a program may capture; their content is part of the key.
        reason: why there is no key, empty where there is one.
    """

    key: tuple[Any, ...] | None
    variables: tuple[keras.Variable, ...] = ()
    tensors: tuple[tf.Tensor, ...] = ()
    reason: str = ""


def fingerprint(model: keras.Model) -> Fingerprint:
    """Walks ``model``, whose variables, the optimizer's and the metrics' included, have been made."""
    walk = _Walk()
    try:
        walk.add(model)
        tokens = walk.renamed()
    except _Unknown as unknown:
        return Fingerprint(None, reason=str(unknown))
    except RecursionError:
        return Fingerprint(None, reason="a chain of objects too long to follow")
    return Fingerprint((*_global_settings(), *tokens), tuple(walk.variables), tuple(walk.tensors))


def _global_settings() -> tuple[Any, ...]:
    return (
        keras.config.floatx(),
        keras.config.epsilon(),
        keras.config.image_data_format(),
        keras.config.dtype_policy().name,
        keras.config.is_flash_attention_enabled(),
        tf.config.experimental.tensor_float_32_execution_enabled(),
        tf.config.optimizer.get_jit(),
        tuple(sorted(tf.config.optimizer.get_experimental_options().items())),
        tuple(device.name for device in tf.config.list_logical_devices()),
    )


class _Walk:
    def __init__(self) -> None:
        self.tokens: list[Any] = []
        self.variables: list[keras.Variable] = []
        self.tensors: list[tf.Tensor] = []
        self._seen: dict[int, int] = {}
        self._kept: list[Any] = []  # so that no id is given to another object meanwhile
        self._names: set[str] = set()

    def renamed(self) -> list[Any]:
        """The tokens, each name that Keras numbered as the first, second, ... to appear."""
        names = self._names | {f"{name}_loss" for name in self._names}  # the mean of an output's loss
        order: dict[str, int] = {}
        tokens = list(self.tokens)
        for i, token in enumerate(tokens):
            if token is _STRING and tokens[i + 1] in names:
                tokens[i + 1] = ("name", order.setdefault(tokens[i + 1], len(order)))
        return tokens

    def add(self, node: Any) -> None:
        """Appends what ``node`` is, and all that it leads to, to the tokens."""
        kind = type(node)
        if kind is str:
            self.tokens += (_STRING, node)
        elif kind is float:
            self.tokens += (float, node.hex())
        elif kind in ATOMS:
            self.tokens += (kind, node)
        elif id(node) in self._seen:
            self.tokens += ("seen", self._seen[id(node)])
        else:
            self._seen[id(node)] = len(self._seen)
            self._kept.append(node)
            self._add_new(node)

    def _add_new(self, node: Any) -> None:
        if isinstance(node, keras.Variable):
            self._add_variable(node)
        elif isinstance(node, type):
            self._add_class(node)
        elif isinstance(node, (dict, list, tuple, set, frozenset)) or _tensorflow.is_tracking_wrapper(node):
            self._add_container(node)
        elif isinstance(node, (np.ndarray, np.generic, tf.Tensor)):
            self._add_array(node)
        elif isinstance(node, (types.FunctionType, types.MethodType, types.BuiltinFunctionType, functools.partial)):
            self._add_function(node)
        elif isinstance(node, (enum.Enum, tf.DType, tf.TensorShape, np.dtype, np.ufunc, re.Pattern, slice, range)):
            self.tokens += (type(node), repr(node))
        elif isinstance(node, (types.ModuleType, inspect.Signature)):
            self.tokens += (type(node), getattr(node, "__name__", str(node)))
        elif any(_is_of(type(node), home) for home in WALKED):
            self._add_object(node)
        else:
            raise _Unknown(f"a {type(node).__module__}.{type(node).__qualname__}")

    def _add_object(self, node: Any) -> None:
        """One of Keras's own objects: its class and its attributes."""
        if isinstance(node, keras.initializers.Initializer):
            self.tokens.append("initializer")  # what it gave is in a variable
            return
        self._add_class(type(node))
        attributes = vars(node)
        if isinstance(node, keras.optimizers.Optimizer) and type(node).__name__ in BY_NAME:
            raise _Unknown(f"{type(node).__name__}, which looks at the names of variables")
        if isinstance(node, keras.random.SeedGenerator):
            self.add(node.state)
            return
        own_generator = any(isinstance(value, keras.random.SeedGenerator) for value in attributes.values())
        self._name(node, attributes)
        for name in sorted(attributes):
            value = attributes[name]
            if name in SKIPPED or name.startswith("_self_") or (name == "seed" and own_generator):
                continue
            if name in WRAPPED_BY_KERAS and _is_keras_wrapper(value, node, name):
                continue
            self.tokens.append(name)
            if name == "_keras_history":  # but for the number of the call among all of the layer's
                self.add((value.operation, value.tensor_index))
            elif name in ("_exclude_from_weight_decay", "_exclude_from_weight_decay_pattern"):
                self.tokens.append(_tensorflow.excluded_from_weight_decay(node, value))
            else:
                self.add(value)
        self.tokens.append("end")

    def _name(self, node: Any, attributes: dict[str, Any]) -> None:
        """Remembers a name that Keras numbered, which is then the same as that of the other model."""
        for attribute in ("name", "_name"):
            name = attributes.get(attribute)
            if isinstance(name, str) and re.fullmatch(rf"{_snake_case(type(node).__name__)}(_\d+)?", name):
                self._names.add(name)

    def _add_variable(self, node: keras.Variable) -> None:
        self.variables.append(node)
        self._add_class(type(node))
        attributes = vars(node)
        for name in sorted(attributes):
            if name not in SKIPPED_OF_VARIABLES and not name.startswith("_self_"):
                self.tokens.append(name)
                self.add(attributes[name])
        self.tokens.append("end")

    def _add_container(self, node: Any) -> None:
        self.tokens += (_container_kind(node), len(node))
        if isinstance(node, (set, frozenset)):
            if not all(isinstance(value, (str, int)) for value in node):
                raise _Unknown("a set of objects, which has no order")
            self.tokens += sorted((type(value).__name__, str(value)) for value in node)
        elif hasattr(node, "items"):
            for key, value in node.items():
                self.add(key)
                self.add(value)
        else:
            for value in node:
                self.add(value)

    def _add_array(self, node: Any) -> None:
        if isinstance(node, tf.Tensor):
            if not hasattr(node, "numpy") or node.dtype in (tf.resource, tf.variant):
                raise _Unknown("a symbolic tensor")
            self.tensors.append(node)
        array = np.asarray(node)
        if array.dtype.hasobject:
            raise _Unknown("an array of objects")
        self.tokens += (type(node), array.shape, array.dtype.str, hashlib.sha256(array.tobytes()).hexdigest())

    def _add_class(self, node: type) -> None:
        if not any(_is_of(node, home) for home in (*WALKED, "builtins", "numpy", "tensorflow", "collections")):
            raise _Unknown(f"the class {node.__module__}.{node.__qualname__}")
        self.tokens.append(node)
        if node.__module__.split(".")[0] in WALKED:
            for name in METHODS:
                method = getattr(node, name, None)
                if isinstance(method, types.FunctionType) and not _is_of_module(method, *WALKED, "tensorflow"):
                    raise _Unknown(f"{node.__qualname__}.{name}, which has been replaced")

    def _add_function(self, node: Any) -> None:
        if isinstance(node, functools.partial):
            self.tokens.append(functools.partial)
            for part in (node.func, node.args, node.keywords):
                self.add(part)
        elif isinstance(node, types.MethodType):
            if getattr(type(node.__self__), node.__func__.__name__, None) is not node.__func__:
                raise _Unknown(f"the method {node.__func__.__qualname__}, set on an object")
            self.tokens += (types.MethodType, node.__func__.__qualname__)
            self.add(node.__self__)
        elif _is_public(node):
            self.tokens.append(node)
        else:
            raise _Unknown(f"the function {getattr(node, '__qualname__', node)}")


def _is_of(kind: type, package: str) -> bool:
    """Whether the class is one that the package defines, by that very name."""
    module = kind.__module__
    if module.split(".")[0] != package and not (package == "collections" and module == "_collections"):
        return False
    found: Any = sys.modules.get(module)
    for part in kind.__qualname__.split("."):
        found = getattr(found, part, None)
    return found is kind or package in ("builtins", "tensorflow", "numpy")


def _is_of_module(function: Any, *packages: str) -> bool:
    """Whether the function's code comes from one of the packages, whatever it calls itself."""
    home = function.__globals__.get("__name__", "")
    return home.split(".")[0] in packages


def _is_public(function: Any) -> bool:
    """Whether the function is what its module has under its name, in Keras or TensorFlow."""
    module = getattr(function, "__module__", None) or ""
    if module.split(".")[0] not in ("keras", "tensorflow"):
        return False
    found: Any = sys.modules.get(module)
    for part in function.__qualname__.split("."):
        found = getattr(found, part, None)
    return found is function


def _is_keras_wrapper(value: Any, node: Any, name: str) -> bool:
    """Whether the attribute is the wrapper that ``keras.Layer.__new__`` puts around the class's own method."""
    code = getattr(value, "__code__", None)
    wrapped: Any = getattr(value, "__wrapped__", None)
    return (
        code is getattr(_reference_layer(), name).__code__
        and getattr(wrapped, "__func__", None) is getattr(type(node), name)
        and wrapped.__self__ is node
    )


@functools.cache
def _reference_layer() -> Any:
    return keras.layers.Identity()


def _container_kind(node: Any) -> Any:
    """List, tuple, dictionary or set: those that Keras and TensorFlow wrap to see changes behave as what they wrap."""
    kind = type(node)
    for plain in (dict, list, set, frozenset):
        if isinstance(node, plain) or (hasattr(node, "items") and plain is dict):
            if kind is plain or kind.__module__.split(".")[0] in ("keras", "tensorflow", "collections"):
                return plain
            raise _Unknown(f"a {kind.__module__}.{kind.__qualname__}")
    if kind is tuple:
        return tuple
    if kind.__module__.split(".")[0] in ("keras", "tensorflow"):  # a named tuple, or a wrapped one
        return tuple, kind.__qualname__
    raise _Unknown(f"a {kind.__module__}.{kind.__qualname__}")


@functools.cache
def _snake_case(name: str) -> str:
    """A class's name as Keras makes names of layers from it."""
    name = re.sub(r"\W+", "", name)
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()
