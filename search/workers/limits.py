"""What the system allows a process: open files and the length of a socket's name, both of which workers need."""

from __future__ import annotations

import resource
import tempfile

from search.errors import RequestError

FILES_OF_A_WORKER = 6  # its pipe, its sentinel and what starting it holds open
FILES_BESIDE = 40  # standard streams, TensorFlow, the results folder
LONGEST_TEMPORARY = 60  # of the 107 bytes that a socket's name may have, multiprocessing's own part left out


def check(workers: int) -> None:
    """Raises the limit of open files as far as it has to, and keeps sockets in a folder with a short name.

    Raises:
        RequestError: the system does not allow as many open files as ``workers`` processes need.
    """
    needed = FILES_BESIDE + FILES_OF_A_WORKER * workers
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = resource.RLIM_INFINITY
    if soft != unlimited and soft < needed:
        if hard != unlimited and hard < needed:
            fit = max(0, (hard - FILES_BESIDE) // FILES_OF_A_WORKER)
            raise RequestError(
                f"{workers} workers need {needed} open files and this shell allows {hard}; use at most {fit}, or raise "
                f"that with `ulimit -n {needed}`"
            )
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
    if len(tempfile.gettempdir().encode()) > LONGEST_TEMPORARY:
        tempfile.tempdir = "/tmp"
