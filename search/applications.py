"""``keras_tuner.applications``, for ``from search.applications import HyperResNet``."""

import sys

import keras_tuner.applications

sys.modules[__name__] = keras_tuner.applications
