"""The learning rate of each epoch: constant, or down to zero within each stretch between two milestones."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from search.training import plan as plans


def cosine(rate: float, milestones: Sequence[int]) -> Callable[[int, float], float]:
    """The rate of an epoch, from ``rate`` to zero by a cosine in each stretch that ends at a milestone.

    These are the warm restarts of Loshchilov and Hutter, ICLR 2017, equation 5 with a minimum of zero, at the middle of
    the epoch: Hyperband compares networks whose rate has just fallen, and restarts the rate of those that go on, with
    T_mult its factor. A training without rungs is one stretch. The rate depends on epoch and milestones alone, so a
    training that is continued has that of one which was never stopped.

    Args:
        rate: at the beginning of each stretch.
        milestones: the epochs, ascending, at which stretches end; behind the last one each epoch is a stretch.

    Returns:
        ``schedule(epoch, current)`` for ``keras.callbacks.LearningRateScheduler``; epochs count from 0.
    """
    ends = tuple(milestones)

    # It calls nothing but `math`, so that a state may be resumed without its memory: it has none.
    def schedule(epoch: int, current: float) -> float:
        begin = max((end for end in ends if end <= epoch), default=0)
        end = min((end for end in ends if end > epoch), default=epoch + 1)
        return rate * (1 + math.cos(math.pi * (epoch + 0.5 - begin) / (end - begin))) / 2

    return schedule


def callback(model: Any, epochs: int) -> Any:
    """What sets the rate of a model that was just built, and has the rate to begin with, before each epoch.

    Args:
        model: compiled, a ``keras.Model``.
        epochs: where the training ends, if no plan says where it may pause.
    """
    import keras

    following = plans.current()
    milestones = (following.plan.milestones if following else None) or (epochs,)
    rate = float(model.optimizer.learning_rate)
    return keras.callbacks.LearningRateScheduler(cosine(rate, milestones))
