"""The hand-in: the code and the reports as DOE_John_Lab3_DLCV.tar.bz2."""

from __future__ import annotations

import io
import os
import re
import tarfile
from pathlib import Path

from search import files
from search.errors import RequestError

NAME = r"[^\W\d_]+(?:['\u2019-][^\W\d_]+)*"  # letters of any alphabet, with the apostrophes and hyphens between them
CODE = (
    "*.py",
    "*.cfg",
    "*.toml",
    "*.txt",
    "*.md",
    "Makefile",
    "LICENSE",
    "search/**/*",
    "tests/**/*",
    "benchmarks/**/*",
    "docs/*",  # docs/results are figures of the project's own, and nobody's hand-in
)
# What `python -m search verify` needs: each trial's outcome, both models and their predictions, the log of readings.
FROM_AN_EXERCISE = (
    "*.jsonl",
    "finalists/*.json",
    "ablation/*.json",
    "retrain/*.*",
    "sweeps/*.csv",
    "search/*.json",
    "search/trial_*/trial.json",
)
EPOCHS_OF_THE_LAB = 100
FROM_RESULTS = ("report.html", "*.csv", "*.json", "summary.txt", "plots/*.png")


def archive(owner: str, project: Path, results: Path, target: Path) -> Path:
    """Writes ``<target>/<owner>_Lab3_DLCV.tar.bz2``: the code of ``project`` and what ``results`` reports.

    Args:
        owner: ``LASTNAME_firstname``.

    Returns:
        The archive's path. Its members are relative paths below one folder of the archive's name.

    Raises:
        RequestError: the name has another form, or there is no report yet.
    """
    last, _, first = owner.partition("_")
    if not re.fullmatch(f"{NAME}_{NAME}", owner) or last != last.upper() or first.isupper():
        raise RequestError(f"archive {owner}: expected LASTNAME_firstname, the last name in capitals, as in DOE_John")
    if not (results / "report.html").is_file():
        raise RequestError(f"{results / 'report.html'} is not there; run `python -m search report` before the archive")
    name = f"{owner}_Lab3_DLCV"
    members = {
        path.relative_to(project).as_posix(): path
        for pattern in CODE
        for path in project.glob(pattern)
        if path.is_file() and not path.is_symlink()
    }
    for folder in (results, *_exercises(results)):
        for pattern in (*FROM_RESULTS, *FROM_AN_EXERCISE):
            for path in folder.glob(pattern):
                if path.is_file() and not path.is_symlink():
                    members[(Path("results") / path.relative_to(results)).as_posix()] = path
    memory = io.BytesIO()
    with tarfile.open(fileobj=memory, mode="w:bz2") as tar:
        for inside, path in sorted(members.items()):
            if not path.name.startswith(".") and "__pycache__" not in path.parts:
                tar.add(path, f"{name}/{inside}", recursive=False, filter=_anonymous)
    path = target / f"{name}.tar.bz2"
    files.write_bytes(path, memory.getvalue())
    return path


def lacking(results: Path) -> list[str]:
    """What a hand-in over these results does not have of the lab, and whether its report is older than a result."""
    from search import results as folders
    from search.report.page import LAB_ORDER

    found = [folders.read_record(folder) for folder in _exercises(results)]
    names = {exercise.name for exercise in found}
    lines = [f"search_{name}.py has not been run" for name in LAB_ORDER if name not in names]
    for exercise in found:
        retrained = exercise.steps.get("retrain")
        if retrained is None:
            lines.append(f"{exercise.title} has not been retrained")
        elif retrained["settings"]["epochs"] < EPOCHS_OF_THE_LAB:
            lines.append(
                f"{exercise.title} was retrained for {retrained['settings']['epochs']} epochs, not {EPOCHS_OF_THE_LAB}"
            )
    written = (results / "report.html").stat().st_mtime
    if any((exercise.folder / "run.json").stat().st_mtime > written for exercise in found):
        lines.append("the report is older than some of the results: write it again, then the archive")
    return lines


def _exercises(results: Path) -> list[Path]:
    """The folders of exercises, without those that ``--fresh`` set aside."""
    return sorted(path.parent for path in results.glob("*/run.json") if not files.SET_ASIDE.search(path.parent.name))


def _anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """The owner's account stays out of the archive."""
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    member.mode = 0o755 if member.mode & 0o100 else 0o644
    return member


def size_mib(path: Path) -> float:
    """The file's size in MiB."""
    return os.path.getsize(path) / 2**20
