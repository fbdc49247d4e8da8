"""What the page says of one search: its plan, its space, its budget and its best trials, as text for the template."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from search.report import evidence, figures, plots, sentences
from search.report.console import describe_domain
from search.results import Search, Trial


def search_view(search: Search) -> dict[str, Any]:
    trials = search.trials
    completed = [trial for trial in trials if trial.status == "COMPLETED"]
    sign = -1 if search.maximise else 1
    # Trials without a finite score come last whatever the direction.
    ranked = sorted(completed, key=lambda trial: np.nan_to_num(sign * search.score(trial), nan=math.inf))
    names = list(dict.fromkeys(name for trial in trials for name in trial.hyperparameters))
    wordy = {name for trial in trials for name, value in trial.hyperparameters.items() if isinstance(value, str)}
    return {
        "plan": _plan(search),
        "budget": _budget(search),
        "space": [
            (figures.words(str(hp["name"])), describe_domain(hp), str(hp["conditions"]) or figures.ABSENT)
            for hp in search.space
        ],
        "lengths": len({trial.epochs for trial in completed}),
        "cut": plots.leaves_out(search.scores(), search.maximise),
        "continues": any(trial.promoted_from for trial in ranked[:10]),
        "names": [(figures.words(name), name in wordy) for name in names],
        "objective": figures.words(search.objective),
        "best": [
            {
                "id": trial.trial_id,
                "chosen": search.best is not None and trial.trial_id == search.best.trial_id,
                "settings": [
                    (figures.value(trial.hyperparameters.get(name, figures.ABSENT)), name in wordy) for name in names
                ],
                "configuration": sentences.configuration(trial.hyperparameters),
                "epochs": f"{trial.epochs}" if trial.epochs else figures.ABSENT,
                "from": trial.promoted_from,
                "score": figures.metric(search.objective, search.score(trial)),
            }
            for trial in ranked[:10]
        ],
        "failed": [
            {
                "id": trial.trial_id,
                "settings": sentences.configuration(trial.hyperparameters),
                "message": trial.message or "no reason was recorded",
            }
            for trial in trials
            if trial.status == "FAILED"
        ],
        "completed": len(completed),
        "bold": _in_bold(search, ranked[:10]),
    }


def family_rows(search: Search) -> list[tuple[str, ...]]:
    """The best trial of each family: what it is, trial, score, epochs, configuration; of a space without families none."""
    return [
        (
            family,
            trial.trial_id,
            figures.metric(search.objective, search.score(trial)),
            f"{trial.epochs}",
            sentences.configuration(trial.hyperparameters),
        )
        for family, trial in evidence.best_of_families(search).items()
    ]


def _parts(step: dict[str, Any]) -> str:
    """What KerasTuner's multi-objective adds up, in parentheses; empty where there is one objective."""
    signed = [f"{'-' if way == 'max' else '+'} {figures.words(name)}" for name, way in step.get("objectives", ())]
    return f" ({' '.join(signed).removeprefix('+ ')})" if signed else ""


def _in_bold(search: Search, shown: Sequence[Trial]) -> str:
    """What the bold row of the best trials is; empty where none is bold."""
    if search.best is None or search.best.trial_id not in [trial.trial_id for trial in shown]:
        return ""
    return "the trial that was chosen" if search.step.get("complete", True) else "the best trial so far"


def _plan(search: Search) -> str:
    step = search.step
    trials = search.trials
    spent = sum(trial.spent for trial in trials)
    aim = f"{'largest' if search.maximise else 'smallest'} {figures.words(search.objective)}{_parts(step)}"
    tuner = step.get("tuner", "Search")
    if tuner in ("hyperband", "Hyperband"):
        plan = (
            f"Hyperband (R = {step.get('max_epochs')}, factor {step.get('factor')}) for the {aim}: many configurations "
            "are trained briefly, the best of each round go on with more epochs"
        )
    elif tuner == "random":
        plan = f"Random search, {step.get('max_epochs')} epochs a trial, for the {aim}"
    else:
        plan = f"{tuner} for the {aim}"
    states = [(status, sum(trial.status == status for trial in trials)) for status in ("FAILED", "RUNNING")]
    extra = "".join(f", {number} {status.lower()}" for status, number in states if number)
    configurations = len(evidence.last_of_each(trials))
    took = f" in {figures.duration(float(step['seconds']))}" if "seconds" in step else ""
    epochs = f", {figures.plural(spent, 'epoch')} in all" if spent else ""
    workers = f" with {figures.plural(int(step['workers']), 'worker')}" if "workers" in step else ""
    seeds = f" The seed is {figures.listed([str(seed) for seed in step['seeds']])}." if "seeds" in step else ""
    return (
        f"{plan}. It trained {figures.plural(len(trials), 'trial')} ({figures.plural(configurations, 'configuration')}"
        f"{extra}){epochs}{took}{workers}.{seeds}"
    )


def _budget(search: Search) -> list[dict[str, str]]:
    """How the epochs went, a row a bracket and round; empty for a search without brackets."""
    groups: dict[tuple[int, int], list[Trial]] = {}
    for trial in search.trials:
        if trial.bracket is not None and trial.round is not None:
            groups.setdefault((trial.bracket, trial.round), []).append(trial)
    rows = []
    for (bracket, round_), trials in sorted(groups.items(), key=lambda group: (-group[0][0], group[0][1])):
        scores = [search.score(trial) for trial in trials if math.isfinite(search.score(trial))]
        best = (max if search.maximise else min)(scores, default=math.nan)
        seconds = [trial.seconds for trial in trials if math.isfinite(trial.seconds)]
        rows.append(
            {
                "bracket": str(bracket),
                "round": str(round_),
                "trials": figures.count(len(trials)),
                "epochs": figures.count(max(trial.epochs for trial in trials)),
                "spent": figures.count(sum(trial.spent for trial in trials)),
                "seconds": figures.duration(sum(seconds) if seconds else math.nan),
                "best": figures.metric(search.objective, best) if scores else figures.ABSENT,
            }
        )
    return rows
