"""KerasTuner's name of :mod:`search.tuner`, for ``from search.tuners import Hyperband``."""

import sys

import search.tuner

sys.modules[__name__] = search.tuner
