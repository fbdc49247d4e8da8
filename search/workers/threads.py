"""How TensorFlow computes while a trial runs, the same in every process, so that results do not depend on where it ran."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

# Of what TensorFlow does to a graph before its first run, these take as long as the rest and make no epoch here faster.
WITHOUT_GAIN = (
    *("remapping", "layout_optimizer", "arithmetic_optimization", "shape_optimization", "loop_optimization"),
    *("function_optimization", "implementation_selector"),
)


def one_for_arithmetic() -> None:
    """One thread for arithmetic, unless the user has chosen a number or TensorFlow runs already."""
    from tensorflow import config

    chosen = config.threading.get_intra_op_parallelism_threads() or config.threading.get_inter_op_parallelism_threads()
    if not chosen:
        with contextlib.suppress(RuntimeError):  # it runs
            config.threading.set_intra_op_parallelism_threads(1)
            config.threading.set_inter_op_parallelism_threads(1)


@contextlib.contextmanager
def without_vain_passes() -> Iterator[None]:
    """Inside it, TensorFlow leaves out the passes over a graph that are named above."""
    from tensorflow import config

    before = config.optimizer.get_experimental_options()
    config.optimizer.set_experimental_options(dict.fromkeys(WITHOUT_GAIN, False))
    try:
        yield
    finally:
        config.optimizer.set_experimental_options({name: before.get(name, True) for name in WITHOUT_GAIN})


def share_gpus() -> bool:
    """Lets this process take of each GPU's memory what it needs, and leave the rest to the workers.

    Returns:
        Whether it does: not where TensorFlow runs already and has taken all of it.
    """
    from tensorflow import config

    try:
        for gpu in config.list_physical_devices("GPU"):
            config.experimental.set_memory_growth(gpu, True)
    except (RuntimeError, ValueError):
        return False
    return True
