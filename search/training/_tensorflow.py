"""Every private name of TensorFlow and Keras that training uses. ``tests/test_training_private.py`` says what to mend."""

from __future__ import annotations

import contextlib
import itertools
import random
from collections.abc import Iterator

from tensorflow.python.eager import context

SEEDINGS_BETWEEN_FORGETTING = 50  # of TensorFlow's kernels; those of a new structure's trial take some 0.5 MB

_seedings = itertools.count()


@contextlib.contextmanager
def kernels_kept() -> Iterator[None]:
    """Inside it, seeding TensorFlow does not make it forget its kernels, except now and then.

    It forgets every kernel when it is seeded, lest one that drew goes on with its old numbers, and optimises each
    program anew: some 0.1 s a trial. Where none drew nothing goes on; it forgets now and then all the same, since it
    keeps the kernels of dropped programs too.
    """
    eager = context.context()
    handle = eager._context_handle
    drawn_from = getattr(eager, "_rng", None)
    drew = drawn_from is None or drawn_from.getstate() != random.Random(eager._seed).getstate()
    if not drew and next(_seedings) % SEEDINGS_BETWEEN_FORGETTING:
        eager._context_handle = None
    try:
        yield
    finally:
        eager._context_handle = handle
