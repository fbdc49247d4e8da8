"""The folder of an exercise, read and checked: ``run.json`` and what each of its steps wrote."""

from __future__ import annotations

import hashlib
import json
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from search import files
from search.errors import WorkError
from search.results.parsing import (
    always_has_one,
    figure,
    json_object,
    read_rows,
    reading,
    reading_record,
    sealed,
    setting,
)
from search.results.records import (
    METRICS,
    SEED_METRICS,
    SWEEP,
    SWEEP_METRICS,
    Ablated,
    Ablation,
    Best,
    Final,
    Finalist,
    Finalists,
    Floats,
    Method,
    Misread,
    Results,
    Sweep,
    Trial,
)

TEST_READINGS = "test-readings.jsonl"
WRITTEN = {  # by these files the results of a step are known
    "finalists": "finalists/finalists.json",
    "retrain": "retrain/metrics.json",
    "ablation": "ablation/ablation.json",
}
SETTING = "hp."  # begins the column of a hyper-parameter in trials.csv, whatever its name


def read_record(folder: Path) -> Results:
    """What `folder` (results/<exercise>) says of itself in run.json, checked; trials and figures are not read.

    Raises WorkError, in one line with the file and the remedy, for a file that is missing though its
    step is recorded as run, or that does not hold what the step writes.
    """
    with reading_record(folder, "the record of an exercise's steps"):
        run = json_object(folder / "run.json")
        if not files.is_sealed(run):
            raise ValueError("it was changed since its step wrote it")
        about = run["exercise"]
        for step in run["steps"].values():
            shlex.split(str(step.get("command", "")))  # which `Results.command` takes apart
        return Results(
            folder=folder,
            name=str(about["name"]),
            title=str(about["title"]),
            question=str(about["question"]),
            task=str(about["task"]),
            classes=[str(label) for label in about["classes"]],
            objective=str(about["objective"]),
            maximise={"max": True, "min": False}[about["direction"]],
            start=dict(about["start"]),
            data={
                "test_sha256": run["data"].get("test_sha256", ""),
                **{key: run["data"][key] for key in ("source", "sha256", "train", "validation", "test")},
            },
            steps={str(name): dict(step) for name, step in run["steps"].items()},
        )


def read_test_readings(folder: Path) -> list[dict[str, Any]]:
    """Every reading of the test images, oldest first: when, why, of which search, with which settings, data and code.

    Raises:
        WorkError: the file is damaged.
    """
    path = folder / TEST_READINGS
    if not path.exists():
        return []
    with reading(path, "a line of JSON for each reading of the test images", "put it back: it is written only once"):
        return [
            {"code": None} | {key: entry[key] for key in ("when", "why", "search", "settings", "data")} | entry
            for entry in map(json.loads, path.read_text(encoding="utf-8").splitlines())
        ]


def check_logged(exercise: Results, readings: list[dict[str, Any]]) -> None:
    """Whether every final training on record, the earlier ones too, has its line in the log of the test images' readings.

    Raises:
        WorkError: lines are missing.
    """
    step = exercise.steps.get("retrain", {})
    trained = len(step.get("earlier") or []) + bool(step.get("complete"))
    if len(readings) < trained:
        raise WorkError(
            f"{exercise.folder / TEST_READINGS}: holds {len(readings)} readings of the test images, and run.json {trained} final "
            "trainings that read them; put the whole file back, or begin anew with --fresh"
        )


def check_unchanged(exercise: Results) -> None:
    """Whether the files that complete steps recorded are what they wrote.

    Raises:
        WorkError: one was changed since.
    """
    for name, step in exercise.steps.items():
        for file, digest in (step.get("files") or {}).items():
            path = exercise.folder / file
            if path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() != digest:
                raise WorkError(
                    f"{path}: was changed since its step wrote it; put it back, or run '{exercise.command(name)}', which "
                    "writes it again"
                )


def read_search(folder: Path) -> Results:
    """The record, the trials and the best of them, checked; see :func:`read_record`."""
    exercise = read_record(folder)
    check_unchanged(exercise)
    trials, best = _search(exercise)
    finalists = _finalists(exercise)
    if best is not None and best.chosen_by == "finalists":
        with reading(
            folder / "best.json",
            "the finalists' winner",
            f"run '{exercise.command('search')}', which writes it again, and then the finalists",
        ):
            won = None if finalists is None else finalists.finalists[finalists.winner]
            if won is None or best.hyperparameters != won.hyperparameters or best.score != won.scores.mean():
                raise ValueError(f"it holds {best.hyperparameters} with {best.score}, which is not the winner")
    return replace(exercise, trials=trials, best=best, finalists=finalists, unrecorded=_unrecorded(exercise))


def read_exercise(folder: Path) -> Results:
    """Everything in `folder`, checked; see :func:`read_record`."""
    exercise = read_search(folder)
    whole = replace(
        exercise,
        final=_final(exercise),
        sweeps=_sweeps(exercise),
        ablation=_ablation(exercise),
        test_readings=read_test_readings(folder),
    )
    check_logged(whole, whole.test_readings)  # after the files that the record names: one that is gone is named first
    return whole


def _complete(exercise: Results, step: str) -> bool:
    """Whether the step is recorded as complete: only then what it wrote is read, and missed where it is not there."""
    return bool(exercise.steps.get(step, {}).get("complete", False))


def _unrecorded(exercise: Results) -> list[str]:
    """The results that no complete step of the record wrote, as what was copied here from elsewhere; they are left out."""
    folder, complete = exercise.folder, [step for step in exercise.steps if _complete(exercise, step)]
    recorded = {f"sweeps/{files.slug(step.removeprefix(SWEEP))}.csv" for step in complete if step.startswith(SWEEP)}
    recorded |= {file for step, file in WRITTEN.items() if step in complete}
    if "search" in exercise.steps:  # an incomplete one is shown as far as it has come
        recorded |= {"trials.csv", "best.json"}
    found = ["trials.csv", "best.json", *WRITTEN.values()]
    found += [path.relative_to(folder).as_posix() for path in sorted(folder.glob("sweeps/*.csv"))]
    return [file for file in found if file not in recorded and (folder / file).exists()]


def _search(exercise: Results) -> tuple[list[Trial], Best | None]:
    path = exercise.folder / "trials.csv"
    if "search" not in exercise.steps:
        return [], None
    remedy = f"run '{exercise.command('search')}' again"
    with reading(path, "one row a trial of the search", remedy):
        header, rows = read_rows(path, ("trial_id", "status", "epochs", "best_epoch", *METRICS, "seconds", "message"))
        settings = [column.removeprefix(SETTING) for column in header if column.startswith(SETTING)]
        space = exercise.search.space
        known = {name: [hp for hp in space if hp["name"] == name] for name in settings}
        trials = [_trial(row, known, exercise.objective) for row in rows]
    path = exercise.folder / "best.json"
    if not any(trial.status == "COMPLETED" for trial in trials) and not path.exists():
        return trials, None
    if not exercise.steps.get("search", {}).get("complete", False) and not path.exists():
        return trials, None
    with reading(path, "the winning trial", remedy):
        best = json_object(path)
        return trials, Best(
            trial_id=str(best["trial_id"]),
            score=figure(best["score"]),
            epochs=int(best["epochs"]),
            best_epoch=int(best["best_epoch"]),
            hyperparameters=dict(best["hyperparameters"]),
            chosen_by=str(best.get("chosen_by", "search")),
        )


def _finalists(exercise: Results) -> Finalists | None:
    path = exercise.folder / WRITTEN["finalists"]
    if not _complete(exercise, "finalists"):
        return None
    with reading(path, "the figures of the finalists", f"run '{exercise.command('finalists')}' again"):
        content = sealed(path)
        rows = [
            Finalist(
                trial_id=str(row["trial_id"]),
                start=bool(row["start"]),
                hyperparameters=dict(row["hyperparameters"]),
                parameters=int(row["parameters"]),
                seconds=figure(row["seconds"]),
                scores=np.array([figure(score) for score in row["scores"]]),
            )
            for row in content["finalists"]
        ]
        won, level = int(content["winner"]), [int(i) for i in content["level"]]
        if won not in level or not all(0 <= i < len(rows) for i in level):
            raise ValueError(f"the winner is {won} of {level}, of {len(rows)} finalists")
        return Finalists(str(content["objective"]), int(content["epochs"]), rows, won, level)


def _ablation(exercise: Results) -> Ablation | None:
    path = exercise.folder / WRITTEN["ablation"]
    if not _complete(exercise, "ablation"):
        return None
    with reading(path, "the figures of each step", f"run '{exercise.command('ablation')}' again"):
        content = sealed(path)
        losses = exercise.steps["ablation"].get("loss_functions") or [{}] * len(content["path"])
        rows = [
            Ablated(
                step=[str(name) for name in row["step"]],
                hyperparameters=dict(row["hyperparameters"]),
                parameters=int(row["parameters"]),
                scores=np.array([figure(score) for score in row["scores"]]),
                message=str(row["message"]),
                loss_function=dict(loss),
            )
            for row, loss in zip(content["path"], losses, strict=True)
        ]
        if len(rows) < 2 or {len(row.scores) for row in rows} != {int(content["seeds"])} or not content["seeds"]:
            raise ValueError(f"{[len(row.scores) for row in rows]} scores on the path, of {content['seeds']} seeds")
        images = int(exercise.data["validation"])
        found = Ablation(str(content["objective"]), int(content["epochs"]), rows, images)
        if not all(found.changes(i) for i in range(1, len(rows))):
            raise ValueError("a step changes nothing")
        return found


def _trial(row: dict[str, str], known: dict[str, list[dict[str, Any]]], objective: str) -> Trial:
    return Trial(
        trial_id=row["trial_id"],
        status=row["status"],
        bracket=int(row["bracket"]) if row.get("bracket") else None,
        round=int(row["round"]) if row.get("round") else None,
        promoted_from=row.get("promoted_from", ""),
        initial_epoch=int(row.get("initial_epoch") or 0),
        epochs=int(row["epochs"] or 0),
        hyperparameters={
            name: setting(row[SETTING + name], domains)
            for name, domains in known.items()
            if row[SETTING + name] != "" or always_has_one(domains)
        },
        best_epoch=figure(row["best_epoch"]),
        metrics={name: figure(row[name]) for name in {*METRICS, objective}},
        seconds=figure(row["seconds"]),
        message=row["message"],
    )


def _history(path: Path, remedy: str) -> dict[str, Floats]:
    """By metric, a row a seed (s, epochs), of the epochs that all seeds have: a ``fit`` may end them at different ones."""
    with reading(path, "one row an epoch of each seed", remedy):
        _, rows = read_rows(path, ("seed", "epoch", *METRICS))
        seeds = sorted({int(row["seed"]) for row in rows})
        if not rows:
            raise ValueError("no epoch")
        by_seed = [[row for row in rows if int(row["seed"]) == seed] for seed in seeds]
        epochs = [[int(row["epoch"]) for row in group] for group in by_seed]
        if any(numbers != list(range(1, len(numbers) + 1)) for numbers in epochs):
            raise ValueError("a seed does not have every epoch from the first on, each once")
        shared = min(map(len, epochs))
        return {
            name: np.array([[figure(row[name]) for row in group[:shared]] for group in by_seed]) for name in METRICS
        }


def _final(exercise: Results) -> Final | None:
    folder = exercise.folder / "retrain"
    path = folder / "metrics.json"
    if not _complete(exercise, "retrain"):
        return None
    remedy = f"run '{exercise.command('retrain')}' again"
    history = {
        "start": _history(folder / "start_history.csv", remedy),
        "tuned": _history(folder / "history.csv", remedy),
    }
    misread = _misread(folder / "misread.npz", remedy)
    labels, outputs = _predictions(folder / "predictions.npz", remedy, len(exercise.classes))
    with reading(path, "the figures of the final training", remedy):
        metrics = json_object(path)
        methods = {name: _method(metrics[name], history[name], outputs[name]) for name in history}
        trained = np.concatenate([method.seeds["epochs"] for method in methods.values()])
        return Final(
            epochs=int(metrics["epochs"] if np.isnan(trained).any() else trained.max()),
            majority_accuracy=float(metrics["majority_accuracy"]),
            test_set_read=str(metrics["test_set_read"]),
            methods=methods,
            labels=labels,
            misread=misread,
        )


def _method(entry: dict[str, Any], history: dict[str, Floats], outputs: NDArray[np.float32]) -> Method:
    seeds = len(entry["seeds"])
    if not len(outputs) == len(history["loss"]) == seeds > 0:
        raise ValueError(
            f"{seeds} seeds, but {len(history['loss'])} histories and {len(outputs)} networks' predictions"
        )
    return Method(
        hyperparameters=dict(entry["hyperparameters"]),
        parameters=int(entry["parameters"]),
        seeds={name: np.array([figure(seed.get(name)) for seed in entry["seeds"]]) for name in SEED_METRICS},
        history=history,
        outputs=outputs,
        handed_over=int(entry["handed_over"]),
        loss_function=dict(entry.get("loss_function", {})),
    )


def _predictions(path: Path, remedy: str, classes: int) -> tuple[NDArray[np.intp], dict[str, NDArray[np.float32]]]:
    with (
        reading(path, "every network's outputs for the test images", remedy),
        np.load(path, allow_pickle=False) as file,
    ):
        labels, outputs = file["label"], {name: file[name] for name in ("start", "tuned")}
        for name, array in outputs.items():
            if array.ndim != 3 or array.shape[1] != len(labels) or array.shape[2] != (1 if classes == 2 else classes):
                raise ValueError(f"{name} has the shape {array.shape} for {len(labels)} images of {classes} classes")
        if not len(labels):
            raise ValueError("no image")
        return labels.astype(np.intp), outputs


def _misread(path: Path, remedy: str) -> Misread:
    with reading(path, "the misread test images", remedy), np.load(path, allow_pickle=False) as arrays:
        return Misread(
            images=arrays["images"],
            label=arrays["label"],
            predicted=arrays["predicted"],
            probability=arrays["probability"],
            networks=arrays["networks"],
        )


def _sweeps(exercise: Results) -> list[Sweep]:
    recorded = [step for step in exercise.steps if step.startswith(SWEEP) and _complete(exercise, step)]
    return [_sweep(exercise, step.removeprefix(SWEEP)) for step in recorded]


def _sweep(exercise: Results, name: str) -> Sweep:
    path = exercise.folder / "sweeps" / f"{files.slug(name)}.csv"
    with reading(path, "one row a training of the sweep", f"run '{exercise.command(f'sweep {name}')}' again"):
        _, rows = read_rows(path, ("value", "seed", *SWEEP_METRICS))
        if not rows:
            raise ValueError("no training")
        step = exercise.steps[f"sweep {name}"]
        known = [{"values": step["values"]}] if "values" in step else []
        read = [setting(row["value"], known) for row in rows]
        values = list(dict.fromkeys(read))
        if not any(isinstance(value, str) for value in values):
            values.sort(key=float)
        grouped = [[row for row, its in zip(rows, read, strict=True) if its == value] for value in values]
        return Sweep(
            name=name,
            values=values,
            measures={
                measure: [np.array([figure(row[measure]) for row in group]) for group in grouped]
                for measure in SWEEP_METRICS
            },
            epochs=int(step["epochs"]) if "epochs" in step else None,
            origin=str(step.get("from", "start")),
            retuned=step.get("retuned"),
            chosen=step.get("chosen", {}),
            parameters=[figure(group[0].get("parameters")) for group in grouped],
            held=dict(step.get("held", {})),
            candidates=list(step.get("candidates", [])),
            images=int(exercise.data["validation"]),
            one_loss=bool(step.get("one_loss", True)),
        )
