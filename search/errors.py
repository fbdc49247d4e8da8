"""What goes wrong, in one line a person can act on; the message says received, expected, remedy."""

import re
from typing import Any


class RequestError(Exception):
    """The request is wrong: a flag, a value, a data file, an exercise. Exit status 2."""


class WorkError(Exception):
    """The request is right and the work failed: a full disk, a damaged result, no trial that completed. Exit status 1."""


def first_line(error: BaseException) -> str:
    """What ``error`` says, on one line; of Keras's two-part messages the part that holds the reason."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(error))
    lines = [line.strip() for line in text.splitlines() if line.strip()] or [type(error).__name__]
    return lines[1] if lines[0].startswith("Exception encountered when calling") and len(lines) > 1 else lines[0]


def __getattr__(name: str) -> Any:
    """KerasTuner's exceptions, which a user reaches as ``keras_tuner.errors``."""
    if not name.endswith("Error"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import keras_tuner

    return getattr(keras_tuner.errors, name)
