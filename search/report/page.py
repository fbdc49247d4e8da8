"""The report of an exercise and of the lab: the results folder's numbers, laid out as one self-contained page."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jinja2
import matplotlib

from search import files
from search.errors import WorkError
from search.report import drawings, figures, plots, sentences
from search.report.exercise_view import alike, exercise_view
from search.report.search_view import search_view
from search.results import Results, read_exercise, read_project, reading_record

LAB_ORDER = ("single", "hidden", "multiclass")


def write_plots(folder: Path) -> list[Path]:
    """Draw every plot that the files of `folder` (results/<exercise>) allow, into folder/plots.

    Returns the paths written. Raises WorkError for a missing or damaged input file, OSError where
    nothing can be written.
    """
    return _write_plots(read_exercise(folder))


def write_report(folder: Path) -> Path:
    """Write the plots and folder/report.html, the report of one exercise (results/<exercise>); return its path.

    A step that has not been run is named in the report with its command. Raises as `write_plots`.
    """
    exercise = read_exercise(folder)
    images = _images(_write_plots(exercise))
    views = [_checked_view(exercise, images)]
    title = f"{exercise.title}: hyper-parameter search on {exercise.data['source']}"
    return _write_page(folder / "report.html", title=title, exercises=views, lab=None, search=None)


def write_search_report(folder: Path, *, objective: str | None = None, direction: str | None = None) -> Path:
    """Write folder/report.html on a search of any kind, KerasTuner's own included; return its path.

    Args:
        folder: a project folder, the one with ``oracle.json``; the search may have finished, or have been killed.
        objective, direction: what the search optimised, ``"max"`` or ``"min"``; None finds them in the trials.

    Raises:
        WorkError: the folder holds no search, or no readable trial.
        OSError: nothing can be written.
    """
    search = read_project(folder, objective, direction)
    drawn = {name: _data_uri(plots.png(draw())) for name, draw in drawings.of_search(search).items()}
    view = {
        "images": drawn,
        "search": search_view(search),
        "answer": [*sentences.chosen(search), *sentences.another_loss(search)],
        "damaged": search.damaged,
        "folder": str(search.folder),
    }
    return _write_page(folder / "report.html", title=f"Search: {search.title}", exercises=[], lab=None, search=view)


def write_lab_report(results: Path) -> Path:
    """Write results/report.html over every exercise in `results`, and the plots of each; return its path.

    Exercises come in the lab's order, others after them by name. Raises as `write_plots`, and WorkError
    when no exercise has been run.
    """
    found = {path.parent.name: path.parent for path in results.glob("*/run.json")}
    # What --fresh has set aside is no part of the report.
    names = [name for name in found if not files.SET_ASIDE.search(name)]
    names.sort(key=lambda name: (LAB_ORDER.index(name) if name in LAB_ORDER else len(LAB_ORDER), name))
    if not names:
        raise WorkError(f"{results}: no */run.json; expected a folder an exercise has run in; run 'make lab' first")
    exercises = [read_exercise(found[name]) for name in names]
    views = [_checked_view(exercise, _images(_write_plots(exercise))) for exercise in exercises]
    histories = {exercise.title: drawings.histories(exercise) for exercise in exercises if exercise.final is not None}
    lab: dict[str, Any] = {
        "missing": [alike(exercises[0], name) for name in LAB_ORDER if name not in names],
        "archive": exercises[0].lab_command("archive LASTNAME_firstname"),
        "seeds": max((view["seeds"] for view in views), default=1),
        "losses": _data_uri(plots.png(plots.lab_losses(histories))) if histories else "",
        "discussion": sentences.lab_discussion(exercises),
        "dates": sorted({figures.moment(str(step["started"]))[:10] for e in exercises for step in e.steps.values()}),
        "sources": sorted({str(exercise.data["source"]) for exercise in exercises}),
        "epochs": sorted({exercise.final.epochs for exercise in exercises if exercise.final is not None}),
    }
    title = f"Hyper-parameter search on {', '.join(lab['sources'])}"
    return _write_page(results / "report.html", title=title, exercises=views, lab=lab, search=None)


def _write_page(path: Path, **content: Any) -> Path:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(words=figures.words, percent=figures.percent, count=figures.count)
    files.write_text(
        path, environment.get_template("report.html.j2").render(content, matplotlib=matplotlib.__version__)
    )
    return path


def _write_plots(exercise: Results) -> list[Path]:
    return [
        plots.save(draw(), exercise.folder / "plots" / f"{name}.png")
        for name, draw in drawings.of_exercise(exercise).items()
    ]


def _images(paths: Iterable[Path]) -> dict[str, str]:
    return {path.stem: _data_uri(path.read_bytes()) for path in paths}


def _data_uri(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode('ascii')}"


def _checked_view(exercise: Results, images: dict[str, str]) -> dict[str, Any]:
    """What the page shows of an exercise; raises WorkError for an entry of run.json that cannot be shown."""
    with reading_record(exercise.folder, "what each step records"):
        return exercise_view(exercise, images)
