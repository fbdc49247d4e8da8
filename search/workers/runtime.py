"""Imports TensorFlow and KerasTuner: once, without their start-up chatter, with one thread for arithmetic.

One thread, because the cores are used by whole trials: small matrix products gain little from a second one, and a
result then does not depend on how many cores a machine has. Worker processes are forked from a server that has
imported this module, so it starts no thread and opens no device.
"""

import gc
import os
import sys
import tempfile
import warnings

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

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

tensorflow.config.threading.set_intra_op_parallelism_threads(1)
tensorflow.config.threading.set_inter_op_parallelism_threads(1)
tensorflow.get_logger().setLevel("ERROR")

# Of what TensorFlow does to a graph before its first run, these take as long as the rest and make no epoch here faster.
WITHOUT_GAIN = (
    *("remapping", "layout_optimizer", "arithmetic_optimization", "shape_optimization", "loop_optimization"),
    *("function_optimization", "implementation_selector", "scoped_allocator_optimization"),
)
tensorflow.config.optimizer.set_experimental_options(dict.fromkeys(WITHOUT_GAIN, False))

gc.collect()
gc.freeze()  # nothing of what was imported is ever garbage: a collection would look through all of it
