"""What goes wrong, in one line a person can act on; the message says received, expected, remedy."""

import itertools
import re
from typing import Any


class RequestError(Exception):
    """The request is wrong: a flag, a value, a data file, an exercise. Exit status 2."""


class WorkError(Exception):
    """The request is right and the work failed: a full disk, a damaged result, no trial that completed. Exit status 1."""


def first_line(error: BaseException) -> str:
    """What ``error`` says, on one line; of Keras's two-part messages the part that holds the reason."""
    return _reason(str(error)) or type(error).__name__


def ending(text: str) -> str:
    """What a traceback, or a message of one line, ends with: the error's type and what :func:`first_line` says of it."""
    lines = text.strip().splitlines()
    places = [number for number, line in enumerate(lines) if line.startswith('  File "')]
    if not places:
        return lines[-1] if lines else ""
    rest = itertools.dropwhile(lambda line: line.startswith("    "), lines[places[-1] + 1 :])
    said = "\n".join(rest).strip()
    named = re.match(r"([\w.]*\.)?(\w+)(: |$)", said)
    if named is None:
        return _reason(said) or lines[-1]
    reason = _reason(said[named.end() :])
    return reason if reason and named[2] == "FailedTrialError" else f"{named[2]}{reason and ': '}{reason}"


def _reason(text: str) -> str:
    lines = [line.strip() for line in re.sub(r"\x1b\[[0-9;]*m", "", text).splitlines() if line.strip()]
    if len(lines) > 1 and lines[0].startswith("Exception encountered when calling"):
        return lines[1]
    sizes = itertools.takewhile(lambda line: line.startswith("'"), lines[1:])  # of Keras's ambiguous data, a line each
    return " ".join([*lines[:1], *sizes])


def __getattr__(name: str) -> Any:
    """KerasTuner's exceptions, which a user reaches as ``keras_tuner.errors``."""
    if not name.endswith("Error"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import keras_tuner

    return getattr(keras_tuner.errors, name)
