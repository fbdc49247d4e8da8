"""Hyper-parameter search for small Keras models on MNIST.

An exercise script defines an :class:`Exercise` and calls :func:`main`. From there data flows one way:

    cli -> steps -> driver (asks strategy's oracle) -> workers -> trial -> trainer -> results folder -> plots, report

``cli`` verbs and flags; ``steps`` what each verb does with an exercise's results folder; ``strategy`` Hyperband and
random search; ``driver`` ask, submit, collect, tell; ``workers`` where trials run; ``trial`` the job and the outcome;
``trainer`` one compiled program an epoch; ``checkpoint`` exact training state; ``retrain`` final training and
evaluation; ``sweep`` one hyper-parameter at a time; ``data`` images and labels; ``store`` atomic files;
``statistics``, ``summary``, ``plots``, ``report`` what the figures say.
"""

from search.cli import main
from search.exercise import Exercise, HyperModel

__all__ = ["Exercise", "HyperModel", "main"]
