"""What made a result: the command, the versions, the machine, the source."""

from __future__ import annotations

import ast
import datetime
import hashlib
import importlib.metadata
import os
import platform
import shlex
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

SHORT = 24  # what is longer, as a digest is, is cut when a change is told
PACKAGE = Path(__file__).resolve().parent
PACKAGES = ("tensorflow", "keras", "keras-tuner", "numpy")


def collect(script: Path, workers: int) -> dict[str, Any]:
    """The facts that ``run.json`` keeps of a step, JSON-ready; ``started`` is now, in UTC."""
    return {
        "command": shlex.join(["python", Path(sys.argv[0]).name, *sys.argv[1:]]),
        "started": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "workers": workers,
        "versions": {
            "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in PACKAGES},
        },
        "machine": {
            "system": platform.platform(),
            "processor": _processor(),
            "cores": os.cpu_count(),
            "onednn": os.environ.get("TF_ENABLE_ONEDNN_OPTS"),
            "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        },
        "source": source_sha256(script),
        "program": source_sha256(),
    }


def changes(earlier: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What differs between the settings of two runs, item by item."""
    return [_change(key, earlier.get(key), now[key]) for key in now if earlier.get(key) != now[key]]


def source_sha256(script: Path | None = None) -> str:
    """A digest of the code that decides a result: the exercise, if any, what it imports beside it, and this package."""
    digest = hashlib.sha256()
    for name, path in [
        *([] if script is None else [(path.relative_to(script.parent).as_posix(), path) for path in own_code(script)]),
        *((str(path.relative_to(PACKAGE)), path) for path in sorted(PACKAGE.rglob("*.py"))),
    ]:
        digest.update(name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def own_code(script: Path) -> list[Path]:
    """``script``, then the modules below its folder that it, or one of them, imports: a package whole, ours left out.

    They are found in the text and not among the imported modules: what ``build`` imports is the same before it ran.
    A module that is imported under a name made at run time is not found.
    """
    found: dict[Path, None] = {}
    unread = [script]
    while unread:
        path = unread.pop(0)
        if path in found:
            continue
        found[path] = None
        for name in _imported(path):
            top = script.parent / name.partition(".")[0]
            package = top / "__init__.py"
            below = sorted(top.rglob("*.py")) if package.is_file() or not top.with_suffix(".py").is_file() else []
            if top.resolve() != PACKAGE:
                unread += [one for one in (*below, top.with_suffix(".py")) if one.is_file()]
    return [script, *sorted(path for path in found if path != script)]


def _imported(path: Path) -> Iterator[str]:
    """The names that a module imports, anywhere in it; of a relative import none: its package is taken whole."""
    try:
        nodes = list(ast.walk(ast.parse(path.read_bytes())))
    except (SyntaxError, ValueError):  # it is not what was imported, or Python would have said so
        return
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module


def _change(key: str, before: Any, after: Any) -> str:
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        names = [name for name in dict.fromkeys((*before, *after)) if before.get(name) != after.get(name)]
        return ", ".join(_change(f"{key} {name}", before.get(name), after.get(name)) for name in names)
    if isinstance(before, list) and isinstance(after, list) and max(len(str(before)), len(str(after))) > SHORT:
        added = [str(entry) for entry in after if entry not in before]
        gone = [str(entry) for entry in before if entry not in after]
        said = [f"now has {', '.join(added)}"] * bool(added) + [f"no longer has {', '.join(gone)}"] * bool(gone)
        return f"{key} {' and '.join(said) or 'has another order'}"
    return f"{key} was {_short(before)} and is now {_short(after)}"


def _short(value: Any) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= SHORT else f"{text[:12]}…"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
