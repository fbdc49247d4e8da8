"""``keras_tuner.engine``, for ``from search.engine.hyperparameters import HyperParameters``."""

import sys

import keras_tuner.engine

sys.modules[__name__] = keras_tuner.engine
