"""Files as text, read and checked: JSON with its seal, tables, the cells of a table; whatever is wrong becomes one line."""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

from search import files
from search.errors import WorkError
from search.results.records import Setting

UNREADABLE = (
    *(OSError, ValueError, LookupError, TypeError, AttributeError, EOFError, csv.Error, BadZipFile),
    *(OverflowError, RecursionError),  # a whole number that is infinite; lists in lists in lists
)
WHOLE = re.compile(r"[+-]?[0-9]+")


@contextmanager
def reading(path: Path, expected: str, remedy: str) -> Iterator[None]:
    """Turn whatever goes wrong while reading `path` into one line for the person who asked."""
    try:
        yield
    except FileNotFoundError as error:
        raise WorkError(f"{path}: missing; expected {expected}; {remedy}") from error
    except UNREADABLE as error:
        reason = f"no entry {error}" if isinstance(error, KeyError) else " ".join(str(error).split())
        raise WorkError(f"{path}: cannot be used ({reason}); expected {expected}; {remedy}") from error


@contextmanager
def reading_record(folder: Path, expected: str) -> Iterator[None]:
    """As :func:`reading`, for what `folder`'s run.json says."""
    remedy = f"rename it and run `python search_{folder.name}.py search` again: finished trials are used as they are"
    with reading(folder / "run.json", expected, remedy):
        yield


def json_object(path: Path) -> dict[str, Any]:
    content = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(content, dict):
        raise ValueError(f"holds a {type(content).__name__}, not an object")
    if content.get("format", 1) != 1:
        raise ValueError(f"format {content['format']!r}, this program reads format 1")
    return content


def sealed(path: Path) -> dict[str, Any]:
    content = json_object(path)
    if not files.is_sealed(content):
        raise ValueError("its checksum does not fit")
    return content


def figure(entry: Any) -> float:
    """A number that may have been written as nothing, null or NaN."""
    return math.nan if entry is None or entry == "" else float(entry)


def setting(text: str, known: list[dict[str, Any]]) -> Setting:
    """The value that a table has as ``text``.

    Args:
        known: what the space has under its name, as :func:`search.oracles.space.describe` gives it; where there is none, as
            for what ``fit`` declared, the text itself has to tell.
    """
    listed = [value for domain in known for value in domain.get("values") or ()]
    found = _reads(text)
    for value in listed:
        if str(value) == text or (_is_number(value) and found == value):
            return value  # type: ignore[no-any-return]
    return text if any(isinstance(value, str) for value in listed) else found


def always_has_one(known: list[dict[str, Any]]) -> bool:
    """Whether no trial is without a value of the hyper-parameter, so that an empty cell is the empty text."""
    return any("" in (domain.get("values") or ()) and not domain["conditions"] for domain in known)


def _reads(text: str) -> Setting:
    """A truth value, a whole number, a number or the text itself, whichever it looks like."""
    if text in ("True", "False"):
        return text == "True"
    if WHOLE.fullmatch(text):
        return int(text)
    try:
        return text if "_" in text else float(text)  # Python passes over an underscore in a number
    except ValueError:
        return text


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def read_rows(path: Path, columns: tuple[str, ...] = ()) -> tuple[list[str], list[dict[str, str]]]:
    """The header of a CSV file of ours, which has ``columns``, and a dictionary a line, texts as they were.

    In the file a text that a spreadsheet would compute, as ``=1+1``, has an apostrophe before it; here it has none.

    Raises:
        OSError, ValueError, csv.Error: it cannot be read, lacks a column or has a line of another width.
    """
    with path.open(encoding="utf-8", newline="") as lines:
        reader = csv.DictReader(lines, strict=True)
        header = [files.cell_text(name) for name in reader.fieldnames or []]
        reader.fieldnames = header
        missing = [column for column in columns if column not in header]
        if missing:
            raise ValueError(f"no column {missing[0]!r}")
        rows = list(reader)
    for number, row in enumerate(rows, start=2):
        if None in row or None in row.values():
            raise ValueError(f"line {number} does not have {len(header)} fields")
    return header, [{name: files.cell_text(cell) for name, cell in row.items()} for row in rows]
