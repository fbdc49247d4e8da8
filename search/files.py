"""The results folder: files written whole or not at all, one driver at a time, nothing deleted."""

from __future__ import annotations

import contextlib
import csv
import errno
import hashlib
import io
import json
import os
import re
import shlex
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import filelock
import numpy as np
from numpy.typing import NDArray

from search.errors import RequestError, WorkError

SET_ASIDE = re.compile(r"\.old-\d+$")  # ends the name of what :func:`set_aside` has renamed


def write_bytes(path: Path, data: bytes) -> None:
    """Replaces ``path`` by ``data`` so that a reader, or a crash at any moment, finds the old file or the new one.

    Raises:
        OSError: the folder cannot be written or the disk is full; ``path`` is then untouched.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def write_text(path: Path, text: str) -> None:
    """Writes ``text`` as UTF-8, bytes of a file name that are none as escapes; see :func:`write_bytes`."""
    write_bytes(path, text.encode("utf-8", "backslashreplace"))


def write_json(path: Path, value: Any) -> None:
    """Writes ``value`` as indented JSON; see :func:`write_bytes`."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def write_csv(path: Path, columns: Iterable[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Writes one line a row, for spreadsheets; a missing or ``None`` cell is empty. See :func:`write_bytes`.

    Raises:
        ValueError: a row has a cell of no column.
    """
    columns, lines = list(columns), []
    for row in rows:
        if unknown := row.keys() - set(columns):
            raise ValueError(f"cells {sorted(unknown)} of no column; expected {columns}")
        lines.append(spreadsheet_row(row.get(column) for column in columns))
    write_text(path, "".join(f"{line}\n" for line in (spreadsheet_row(columns), *lines)))


def spreadsheet_row(cells: Iterable[Any]) -> str:
    """A line of CSV in which no spreadsheet takes a text for a formula: one that begins so has an apostrophe before it.

    :func:`cell_text` takes it away again. Numbers, written as text too, stay as they are; None is empty.
    """
    text = io.StringIO()
    end = "\r\n"  # so that a cell with either of them is quoted
    csv.writer(text, lineterminator=end).writerow([_inert(cell) for cell in cells])
    return text.getvalue().removesuffix(end)


def cell_text(cell: str) -> str:
    """The text that :func:`spreadsheet_row` wrote as ``cell``."""
    return cell[1:] if cell.startswith("'") and _as_formula(cell.lstrip("'")) else cell


def _inert(cell: Any) -> Any:
    return f"'{cell}" if isinstance(cell, str) and _as_formula(cell.lstrip("'")) else cell


def _as_formula(text: str) -> bool:
    """Whether a spreadsheet computes ``text``. A number with a sign is one, and no formula."""
    if not text.startswith(("=", "+", "-", "@", "\t", "\r")):
        return False
    try:
        float(text)
    except ValueError:
        return True
    return text[0] in "\t\r"


def write_npz(path: Path, **arrays: NDArray[Any]) -> None:
    """Writes arrays as an uncompressed ``.npz``, each with its CRC-32. See :func:`write_bytes`."""
    archive = io.BytesIO()
    np.savez(archive, **arrays)  # type: ignore[arg-type]
    write_bytes(path, archive.getvalue())


def slug(name: str) -> str:
    """A file's name for what a person calls ``name``: itself if it is short and plain, and else what is left, with a digest."""
    if re.fullmatch(r"[A-Za-z0-9_-]{1,60}", name):
        return name
    plain = re.sub(r"[^A-Za-z0-9_-]+", "_", name)[:40]
    return f"{plain}-{hashlib.sha256(name.encode('utf-8', 'surrogatepass')).hexdigest()[:12]}"


def seal(value: Mapping[str, Any]) -> dict[str, Any]:
    """``value`` with a digest of itself, so that a flipped bit in a number does not pass for another number."""
    plain = {key: entry for key, entry in json.loads(json.dumps(value)).items() if key != "sha256"}
    return {**plain, "sha256": hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()}


def is_sealed(value: Mapping[str, Any]) -> bool:
    """Whether ``value`` is as :func:`seal` left it; a number in it may be NaN, which equals nothing."""
    return bool(seal(value)["sha256"] == value.get("sha256"))


def digests(folder: Path, *paths: Path) -> dict[str, str]:
    """The SHA-256 of each file by its path below ``folder``, for whoever records that it is a result."""
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def read_json(path: Path) -> Any:
    """Reads a JSON file of ours.

    Raises:
        WorkError: the file is missing, unreadable or not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise WorkError(
            f"{path} is missing; run the step that writes it, or set the folder aside with --fresh"
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise WorkError(f"{path} cannot be read ({error}); expected JSON; set the folder aside with --fresh") from None


def copy_tree(source: Path, target: Path, *left_out: str) -> None:
    """Copies a folder without what is named by a pattern of ``left_out``, and without links: what they name is elsewhere."""
    named = shutil.ignore_patterns(*left_out)

    def ignored(folder: str, names: list[str]) -> set[str]:
        return {*named(folder, names), *(name for name in names if os.path.islink(os.path.join(folder, name)))}

    shutil.copytree(source, target, ignore=ignored)


def set_aside(path: Path, names: Iterable[str] | None = None) -> Path | None:
    """Renames ``path`` to the first free ``<name>.old-<k>`` beside it and returns that; None where there is nothing.

    Args:
        names: only these entries of the folder ``path`` are moved.
    """
    moved = [path] if names is None else [path / name for name in names]
    moved = [one for one in moved if one.exists()]
    if not moved:
        return None
    k = 1
    while (aside := path.with_name(f"{path.name}.old-{k}")).exists():
        k += 1
    if names is None:
        return path.rename(aside)
    aside.mkdir()
    for one in moved:
        one.rename(aside / one.name)
    return aside


@contextlib.contextmanager
def locked(folder: Path, named_by: str) -> Iterator[None]:
    """Holds ``folder`` for this process. The operating system frees the lock with the process, however it ends.

    Args:
        named_by: the flag or argument that names another folder.

    Raises:
        RequestError: the folder cannot be written, or another process holds it (the message names that process).
        WorkError: the disk is full.
    """
    lock = filelock.FileLock(folder / ".lock")
    holder = folder / ".lock-holder.json"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
        facts = {"pid": os.getpid(), "host": socket.gethostname(), "command": shlex.join(sys.argv)}
        write_json(holder, {**facts, "since": time.strftime("%Y-%m-%d %H:%M:%S")})
    except filelock.Timeout:
        try:
            by = read_json(holder)
            who = f"process {by['pid']} on {by['host']} ({by['command']}), since {by['since']}"
        except (WorkError, KeyError, TypeError):
            who = "another process"
        raise RequestError(f"{folder} is in use by {who}; wait for it, stop it, or give another {named_by}") from None
    except OSError as error:
        lock.release()
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise WorkError(f"{folder}: {error.strerror}; make room, then run the same command again") from None
        raise RequestError(
            f"the results folder {folder} cannot be written ({error.strerror or error}); "
            f"give a folder you may write with {named_by}"
        ) from None
    try:
        for path in folder.rglob(".*.tmp"):  # what a killed process was writing
            with contextlib.suppress(OSError):
                path.unlink()
        yield
    finally:
        lock.release()
