"""Keras alone: ``fit``, the compiled program, graph or XLA, which models share one, exact state. Knows nothing of searches.

``plan`` what a trial's training follows, ``fit`` what ``model.fit`` becomes under it, ``seeds`` random numbers.
Not here: trials, oracles, workers and results folders. A plan says where the state goes, and no more.
"""

from search.training.plan import Diverged, Record, Stopped, TrainingPlan, planned, restore_weights, returned
from search.training.seeds import seed_everything

__all__ = ["Diverged", "Record", "Stopped", "TrainingPlan", "planned", "restore_weights", "returned", "seed_everything"]
