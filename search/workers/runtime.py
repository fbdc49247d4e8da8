"""TensorFlow and KerasTuner as a worker has them: quiet, with one thread for arithmetic. For processes of ours only.

One thread, because the cores are used by whole trials: small matrix products gain little from a second one, and a
result then does not depend on how many cores a machine has. Worker processes are forked from a server that has
imported this module, so it starts no thread and opens no device. Where TensorFlow runs already, it is left as it is.
"""

import gc
import os
import sys
import tempfile
import warnings

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

_fresh = "tensorflow" not in sys.modules

if _fresh:
    # TensorFlow's C++ code writes to file descriptor 2 while it is imported, before any log level is read.
    with tempfile.TemporaryFile() as chatter:
        kept = os.dup(2)
        sys.stderr.flush()
        os.dup2(chatter.fileno(), 2)
        try:
            import tensorflow

            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # deprecations inside KerasTuner and tensorboard, not ours to mend
                import keras_tuner  # noqa: F401
        finally:
            os.dup2(kept, 2)
            os.close(kept)
    tensorflow.get_logger().setLevel("ERROR")

from search.workers import threads  # noqa: E402

threads.one_for_arithmetic()

if _fresh:
    gc.collect()
    gc.freeze()  # nothing of what was imported is ever garbage: a collection would look through all of it


def take_gpu(number: int) -> None:
    """Gives this worker the GPU of its number alone, which it then fills as it needs and not at once.

    On a GPU sums are added up in any order unless TensorFlow is told otherwise: one seed then gives other bits each time.
    """
    import tensorflow

    gpus = tensorflow.config.list_physical_devices("GPU")
    if gpus:
        mine = gpus[number % len(gpus)]
        tensorflow.config.set_visible_devices(mine, "GPU")
        tensorflow.config.experimental.set_memory_growth(mine, True)
        tensorflow.config.experimental.enable_op_determinism()
