"""A KerasTuner project folder, read and checked, whoever wrote it."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from search.errors import WorkError, ending
from search.oracles.space import own_values
from search.results.parsing import UNREADABLE, figure
from search.results.records import Search, Trial


def read_project(folder: Path, objective: str | None = None, direction: str | None = None) -> Search:
    """The search in a KerasTuner project folder, its own or this project's, finished or killed.

    A trial whose file cannot be read is left out and named.

    Args:
        folder: that of ``oracle.json``.
        objective, direction: what was optimised, ``"max"`` or ``"min"``. None: the metric that every completed trial's
            score is of; where there is none, as for several objectives, the score itself, which KerasTuner minimises.

    Raises:
        WorkError: there is no search here, or none of its trials can be read.
    """
    paths = sorted(folder.glob("trial_*/trial.json"))
    if not paths and not (folder / "oracle.json").exists():
        raise WorkError(
            f"{folder}: no oracle.json and no trial_*/trial.json; expected a KerasTuner project folder, "
            "<directory>/<project_name>; give that folder"
        )
    states, damaged = [], []
    for path in paths:
        try:
            state = json.loads(path.read_text(encoding="utf-8"))
            _project_trial(state, "score")
            states.append(state)
        except UNREADABLE as error:
            damaged.append(f"{path.parent.name}/{path.name}: {type(error).__name__}, {' '.join(str(error).split())}")
    if damaged and not states:
        raise WorkError(f"{folder}: no trial can be read; the first: {damaged[0]}; restore the folder from a copy")
    found, minimised = _objective(states)
    objective = objective or found
    maximise = {"max": True, "min": False, None: not minimised}[direction]
    trials = [_project_trial(state, objective) for state in states]
    space = {hp["name"]: hp for state in states for hp in map(_described, state["hyperparameters"].get("space", []))}
    step: dict[str, Any] = {"complete": False} if any(trial.status == "RUNNING" for trial in trials) else {}
    marks = [state.get("search") or {} for state in states]
    if several := next((mark["objective"] for mark in marks if len(mark.get("objective") or ()) > 1), None):
        step["objectives"] = several
    if marks and all("tuner" in mark for mark in marks):  # KerasTuner's own folders do not say
        step |= {name: marks[-1][name] for name in ("tuner", "max_epochs", "factor") if name in marks[-1]}
        step["seeds"] = list(dict.fromkeys(mark["seed"] for mark in marks))
    title, domains = folder.resolve().name, list(space.values())
    search = Search(folder, title, objective, maximise, trials, None, domains, step, damaged)
    return replace(search, best=search.own_best())


def _project_trial(state: dict[str, Any], objective: str) -> Trial:
    values = dict(state["hyperparameters"]["values"])
    series = {name: _observed(metric) for name, metric in state["metrics"]["metrics"].items()}
    best = state.get("best_step")
    score = figure(state.get("score"))
    metrics = {name: by_step.get(-1 if best is None else int(best), math.nan) for name, by_step in series.items()} | {
        "score": score
    }
    if objective not in metrics:
        metrics[objective] = score
    steps = max((len(by_step) for by_step in series.values() if len(by_step) > 1), default=0)
    kept = max((len(curve) for execution in state.get("history") or () for curve in execution.values()), default=0)
    initial, epochs = int(values.get("tuner/initial_epoch") or 0), int(values.get("tuner/epochs") or max(steps, kept))
    return Trial(
        trial_id=str(state["trial_id"]),
        status={"INVALID": "FAILED"}.get(state["status"], str(state["status"])),
        bracket=values.get("tuner/bracket"),
        round=values.get("tuner/round"),
        promoted_from=str(values.get("tuner/trial_id", "") or ""),
        initial_epoch=initial,
        epochs=epochs,
        hyperparameters=own_values(values),
        # KerasTuner counts a promoted trial's steps from where it went on; an exercise keeps every epoch since the first.
        best_epoch=0.0 if best is None else float(best) + 1 + (0 if steps == epochs else initial),
        metrics=metrics,
        seconds=figure(state.get("seconds")),
        message=ending(str(state.get("message") or "")),
    )


def _observed(metric: dict[str, Any]) -> dict[int, float]:
    """A metric's value by step, the mean of its executions."""
    return {
        int(entry["step"]): float(np.mean([figure(value) for value in entry["value"]]))
        for entry in metric["observations"]
        if entry["value"]
    }


def _objective(states: list[dict[str, Any]]) -> tuple[str, bool]:
    """The metric that every completed trial's score is of, and whether it is minimised."""
    scored = [state for state in states if state["status"] == "COMPLETED" and state.get("score") is not None]
    names = dict.fromkeys(name for state in scored for name in state["metrics"]["metrics"])
    for name in sorted(names, key=lambda name: not name.startswith("val_")):
        pairs = [
            (figure(state["score"]), _observed(state["metrics"]["metrics"].get(name, {"observations": []})), state)
            for state in scored
        ]
        if all(math.isclose(score, by_step.get(state["best_step"], math.nan)) for score, by_step, state in pairs):
            return name, scored[0]["metrics"]["metrics"][name].get("direction", "min") == "min"
    return "score", True


def _described(hp: dict[str, Any]) -> dict[str, Any]:
    """A hyper-parameter of KerasTuner's JSON as ``run.json`` has it."""
    config = hp["config"]
    values = config.get("values")
    if hp["class_name"] == "Boolean":
        values = [False, True]
    elif hp["class_name"] == "Fixed":
        values = [config["value"]]
    conditions = [
        f"{entry['config']['name']} is {' or '.join(map(str, entry['config']['values']))}"
        for entry in config.get("conditions", [])
    ]
    limits = {key: config.get(key) for key in ("min_value", "max_value", "step", "sampling")}
    return {"name": str(config["name"]), "values": values, **limits, "conditions": ", ".join(conditions)}
