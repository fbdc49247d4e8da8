"""Wrong use of the library ends as in KerasTuner, with its exception types, and says what was received."""

import warnings

import keras
import keras_tuner
import numpy as np
import pytest

import search
from search import errors

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(40, 3)).astype("float32")
Y = X[:, :1]


def build(hp):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(hp.Int("units", 1, 4)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    return model


def uncompiled(hp):
    hp.Int("units", 1, 4)
    return keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])


class Own(keras_tuner.HyperModel):
    """A hypermodel whose ``fit`` returns what it is told to."""

    def __init__(self, returned):
        super().__init__()
        self.returned = returned

    def build(self, hp):
        return build(hp)

    def fit(self, hp, model, *args, **kwargs):
        return self.returned


def random_search(module, folder, hypermodel=build, **arguments):
    ours = {"workers": 0} if module is search else {}
    arguments = {"objective": "val_loss", "max_trials": 2, "directory": str(folder), "seed": 1, **ours, **arguments}
    return module.RandomSearch(hypermodel, **arguments)


def searched(module, folder, hypermodel=build, fit=None, **arguments):
    one = random_search(module, folder, hypermodel, **arguments)
    one.search(**{"x": X, "y": Y, "validation_split": 0.25, "verbose": 0, **(fit or {})})
    return one


def declaring(declare):
    """A build that declares something wrong."""

    def wrong(hp):
        declare(hp)
        return build(hp)

    return wrong


class Raising(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        raise RuntimeError("the callback's own")


# Both must end alike: the type, and what the message holds.
ALIKE = {
    # tuners' arguments
    "no hypermodel": (lambda kt, at: random_search(kt, at, None), "hypermodel=None"),
    "a number for a hypermodel": (lambda kt, at: random_search(kt, at, 3), "hypermodel"),
    "an objective without direction": (lambda kt, at: random_search(kt, at, objective="val_x"), "infer optimization"),
    "a number for an objective": (lambda kt, at: random_search(kt, at, objective=3), "not understood"),
    "an unknown argument": (lambda kt, at: random_search(kt, at, trials=3), "Unrecognized arguments"),
    "entries that are neither new nor listed": (
        lambda kt, at: random_search(kt, at, allow_new_entries=False),
        "allow_new",
    ),
    "entries that nobody tunes": (lambda kt, at: random_search(kt, at, tune_new_entries=False), "tune_new_entries"),
    "no epochs for Hyperband": (lambda kt, at: kt.Hyperband(build, "val_loss", max_epochs=0, directory=str(at)), ""),
    "a Hyperband that discards nothing": (
        lambda kt, at: kt.Hyperband(build, "val_loss", factor=1, directory=str(at)),
        "",
    ),
    "an argument too few": (lambda kt, at: kt.RandomSearch(), "hypermodel"),
    # spaces
    "a choice of nothing": (lambda kt, at: searched(kt, at, declaring(lambda hp: hp.Choice("a", []))), "values"),
    "a choice of two types": (lambda kt, at: searched(kt, at, declaring(lambda hp: hp.Choice("a", [1, "b"]))), ""),
    "a range upside down": (lambda kt, at: searched(kt, at, declaring(lambda hp: hp.Int("a", 9, 1))), ""),
    "a logarithm of zero": (
        lambda kt, at: searched(kt, at, declaring(lambda hp: hp.Float("a", 0, 1, sampling="log"))),
        "",
    ),
    "a sampling unheard of": (
        lambda kt, at: searched(kt, at, declaring(lambda hp: hp.Float("a", 1, 2, sampling="square"))),
        "sampling",
    ),
    "a step of nothing": (lambda kt, at: searched(kt, at, declaring(lambda hp: hp.Int("a", 1, 3, step=0))), ""),
    "a default that is no choice": (
        lambda kt, at: searched(kt, at, declaring(lambda hp: hp.Choice("a", [1, 2], default=3))),
        "default",
    ),
    "a fixed list": (lambda kt, at: searched(kt, at, declaring(lambda hp: hp.Fixed("a", [1]))), ""),
    "a condition on nobody": (
        lambda kt, at: searched(kt, at, declaring(lambda hp: hp.conditional_scope("b", [1]).__enter__())),
        "",
    ),
    # hypermodels
    "no model": (lambda kt, at: searched(kt, at, lambda hp: None), "valid Keras Model"),
    "a layer for a model": (lambda kt, at: searched(kt, at, lambda hp: keras.layers.Dense(1)), "valid Keras Model"),
    "a build of no arguments": (lambda kt, at: searched(kt, at, lambda: None), "argument"),
    "a model that is not compiled": (lambda kt, at: searched(kt, at, uncompiled), "compile"),
    "a build that raises": (lambda kt, at: searched(kt, at, lambda hp: {}["gone"]), "gone"),
    "nothing returned by fit": (lambda kt, at: searched(kt, at, Own(None)), "return"),
    "a text returned by fit": (lambda kt, at: searched(kt, at, Own("good")), ""),
    "a dictionary without the objective": (lambda kt, at: searched(kt, at, Own({"other": 1.0})), "val_loss"),
    "several numbers returned by fit": (lambda kt, at: searched(kt, at, Own([1.0, None])), ""),
    # data and fit's arguments
    "arrays of two lengths": (lambda kt, at: searched(kt, at, fit={"y": Y[:-1]}), "cardinality"),
    "another number of columns": (lambda kt, at: searched(kt, at, fit={"x": X[:, :2]}), ""),
    "no examples": (lambda kt, at: searched(kt, at, fit={"x": X[:0], "y": Y[:0]}), ""),
    "no x": (lambda kt, at: searched(kt, at, fit={"x": None, "y": None}), ""),
    "no validation, and an objective on it": (
        lambda kt, at: searched(kt, at, fit={"validation_split": 0.0}),
        "val_loss",
    ),
    "all of it for validation": (lambda kt, at: searched(kt, at, fit={"validation_split": 1.0}), ""),
    "an argument that fit does not have": (lambda kt, at: searched(kt, at, fit={"epoch": 3}), "epoch"),
    "a batch of nothing": (lambda kt, at: searched(kt, at, fit={"batch_size": 0}), ""),
    "no epochs": (lambda kt, at: searched(kt, at, fit={"epochs": 0}), ""),
    "a text for epochs": (lambda kt, at: searched(kt, at, fit={"epochs": "three"}), ""),
    "a text for data": (lambda kt, at: searched(kt, at, fit={"x": "digits.csv"}), ""),
    "a callback that is none": (lambda kt, at: searched(kt, at, fit={"callbacks": ["stop early"]}), ""),
    "a callback that raises": (lambda kt, at: searched(kt, at, fit={"callbacks": [Raising()]}), "the callback's own"),
    # what was found
    "the best of no trial": (lambda kt, at: random_search(kt, at).get_best_models()[0], ""),
    "the best values of no trial": (lambda kt, at: random_search(kt, at).get_best_hyperparameters()[0], ""),
    "a file for a folder": (lambda kt, at: random_search(kt, occupied(at), project_name="p"), ""),
}


def occupied(folder):
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "taken"
    path.write_text("")
    return path


def ending(wrong, module, folder):
    """The type and the text of what it raises."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            wrong(module, folder)
        except Exception as error:  # what a user would see
            return type(error), str(error)
    return None, ""


@pytest.mark.parametrize(
    "case", [pytest.param(case, marks=pytest.mark.long) if i % 2 else case for i, case in enumerate(ALIKE)]
)
def test_it_ends_as_in_kerastuner(case, tmp_path, capsys):
    wrong, says = ALIKE[case]
    theirs, text = ending(wrong, keras_tuner, tmp_path / "theirs")
    ours, our_text = ending(wrong, search, tmp_path / "ours")
    printed = "".join(capsys.readouterr())
    assert ours is theirs or (theirs and ours and issubclass(ours, theirs)), f"{ours}: {our_text}\n{theirs}: {text}"
    assert says in our_text + printed


def test_of_arrays_of_other_lengths_all_lengths_are_told():
    with pytest.raises(ValueError, match="ambiguous") as raised:
        build(keras_tuner.HyperParameters()).fit(np.zeros((6, 8), np.float32), np.zeros((5, 1), np.float32))
    said = errors.first_line(raised.value)
    assert "'x' sizes: 6" in said
    assert "'y' sizes: 5" in said
    assert errors.first_line(ValueError("one\ntwo")) == "one"
