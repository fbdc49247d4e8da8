"""What every benchmark shares: where the project is, how a figure is printed, and what it was measured with."""

from __future__ import annotations

import importlib.metadata
import shlex
import statistics
import sys
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def script(exercise: str) -> Path:
    """The exercise's script."""
    return ROOT / f"search_{exercise}.py"


def heading() -> None:
    """Names the columns of :func:`figure`."""
    print(f"{'figure':<60} {'median':>9} {'min':>9} {'max':>9} {'n':>6} unit", flush=True)


def figure(name: str, values: Iterable[float], unit: str) -> None:
    """Prints one figure; a dash where there is no value."""
    values = list(values)
    cells = [f"{f(values):>9.4g}" if values else f"{'-':>9}" for f in (statistics.median, min, max)]
    print(f"{name:<60} {' '.join(cells)} {len(values):>6} {unit}", flush=True)


def made_with(n: int | str, *peers: str) -> None:
    """Prints n, the machine and the versions: the last lines of every benchmark."""
    from search import provenance

    facts = provenance.collect(Path(sys.argv[0]), 0)
    machine = facts["machine"]
    versions = facts["versions"] | {name: importlib.metadata.version(name) for name in peers}
    print(f"\nn = {n}; {shlex.join(['python', *sys.argv])}; {facts['started']}")
    print(f"{machine['cores']} cores, {machine['processor']}, {machine['memory_gib']} GiB, {machine['system']}")
    print(", ".join(f"{name} {version}" for name, version in versions.items()), flush=True)
