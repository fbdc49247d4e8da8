"""What goes wrong, in one line a person can act on; the message says received, expected, remedy."""


class RequestError(Exception):
    """The request is wrong: a flag, a value, a data file, an exercise. Exit status 2."""


class WorkError(Exception):
    """The request is right and the work failed: a full disk, a damaged result, no trial that completed. Exit status 1."""
