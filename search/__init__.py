"""Hyper-parameter search for small Keras models on MNIST.

An exercise script defines an :class:`Exercise` and calls :func:`main`. From there data flows one way:

    cli -> steps -> driver (asks strategy's oracle) -> workers -> trial -> trainer -> results folder -> plots, report

``cli`` verbs and flags; ``session`` one command's hold on an exercise; ``steps`` what each verb does in it,
``terminal`` what it prints; ``space`` hyper-parameter spaces compared; ``cost`` what the starting model costs here;
``strategy`` Hyperband and random search;
``driver`` ask, submit, collect, tell; ``workers`` and ``cluster`` where trials run; ``trial`` the job and the
outcome; ``trainer`` one compiled program an epoch, ``structure`` which models share it; ``checkpoint`` exact training
state; ``retrain`` final training and evaluation; ``sweep`` one hyper-parameter at a time; ``data`` images and labels;
``store`` atomic files; ``evidence`` reads a results folder back, for ``summary``, ``discussion``, ``plots`` and
``report``.
"""

from search.lab.cli import main
from search.lab.exercise import Exercise, HyperModel

__all__ = ["Exercise", "HyperModel", "main"]
