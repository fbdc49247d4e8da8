"""What the page says of one exercise beside its search: methods, finalists, ablation, sweeps, surroundings, as text for the template."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from search.report import drawings, estimators, evidence, figures, plots, sentences, sweep_sentences
from search.report.search_view import family_rows, search_view
from search.results import SWEEP, Ablation, Final, Finalists, Method, Results, Sweep

MEASURES = {
    "loss": "training loss",
    "loss_last_ten": "training loss, median of the last ten epochs",
    "val_loss": "validation loss",
    "accuracy": "training accuracy",
    "val_accuracy": "validation accuracy",
    "test_loss": "test loss",
    "test_accuracy": "test accuracy",
}

BINARY = {
    "precision": "precision",
    "recall": "recall",
    "f1": "F1",
    "roc_area": "area under the ROC curve",
    "pr_area": "area under the precision-recall curve",
}

COSTS = {
    "weights": "the trainable weights it needs",
    "seconds": "the seconds an epoch takes once compiled",
}

FINGERPRINT = 12  # characters of a sha256 that a reader compares


def exercise_view(exercise: Results, images: dict[str, str]) -> dict[str, Any]:
    """Everything the template says about one exercise, as text."""
    final = exercise.final
    steps = exercise.steps
    pending = []
    if "search" not in steps and not exercise.trials:
        pending.append((exercise.command("search"), "searches the hyper-parameters"))
    elif not steps.get("search", {}).get("complete", False):
        pending.append((exercise.command("search"), "continues the search, which stopped before its end"))
    if final is None:
        pending.append(
            (exercise.command("retrain"), "trains the starting and the tuned model to the end and tests them")
        )
    if not exercise.sweeps:
        pending.append((exercise.command("sweep NAME"), "varies one hyper-parameter at a time"))
    stale = exercise.stale()
    pending += [(command, f"makes the {name} of today's best") for name, command in stale.items() if name != "ablation"]
    if _ablation_due(exercise):
        pending.append((exercise.command("ablation"), "takes apart what made the difference"))
    return {
        "name": exercise.name,
        "title": exercise.title,
        "question": exercise.question,
        "data": exercise.data,
        "answer": sentences.answer(exercise),
        "pending": pending,
        "notes": _notes(exercise, stale),
        "lab_commands": [exercise.lab_command(verb) for verb in ("report", "archive LASTNAME_firstname")],
        "final": final,
        "methods": _methods_table(exercise),
        "seeds": max((method.repeats for method in final.methods.values()), default=1) if final else 1,
        "lab_row": _lab_row(exercise),
        "search": search_view(exercise.search) if exercise.trials else None,
        "finalists": _finalists_view(exercise.finalists),
        "families": family_rows(exercise.search),
        "sweeps": [
            {
                "name": figures.words(sweep.name),
                "image": images[drawings.sweep_plot(sweep)],
                "sentences": [
                    text
                    for text in (
                        f"{sweep_sentences.finding(sweep)} {sweep_sentences.details(sweep)}",
                        sweep_sentences.side_by_side(exercise, sweep),
                        _stale_sentence(f"{SWEEP}{sweep.name}", stale),
                    )
                    if text
                ],
                "rows": _sweep_rows(exercise, sweep),
                "about": _sweep_about(sweep, exercise.objective),
            }
            for sweep in exercise.sweeps
        ],
        "costs": figures.listed([COSTS[name] for name in plots.costs_differ(drawings.costs(exercise))]),
        "swept_seeds": max((len(sweep.measures["loss"][0]) for sweep in exercise.sweeps), default=0),
        "ablation": _ablation_view(exercise.ablation, exercise, stale),
        "discussion": sentences.discussion(exercise),
        "limits": sentences.not_tested(exercise),
        "images": images,
        "steps": _steps_table(exercise),
        "earlier": _earlier(exercise),
        "surroundings": _surroundings(exercise),
    }


def alike(exercise: Results, name: str) -> str:
    """The command of another of the lab's exercises, with the folder and the budget of this one."""
    return exercise.command().replace(f"search_{exercise.name}.py", f"search_{name}.py")


def _finalists_view(found: Finalists | None) -> dict[str, Any] | None:
    if found is None:
        return None
    rows = []
    for i, finalist in enumerate(found.finalists):
        name = sentences.configuration(finalist.hyperparameters)
        rows.append(
            {
                "chosen": i == found.winner,
                "trial": finalist.trial_id,
                "score": sentences.score(found, finalist),
                "parameters": figures.count(finalist.parameters),
                "seconds": figures.duration(finalist.seconds),
                "configuration": f"{name} (the starting model)" if finalist.start else name,
            }
        )
    return {
        "rows": rows,
        "sentence": sentences.finalists(found),
        "objective": figures.words(found.objective),
        "epochs": figures.plural(found.epochs, "epoch"),
        "seeds": len(found.finalists[0].scores),
    }


def _ablation_due(exercise: Results) -> bool:
    """Whether there is something to take apart that has not been."""
    if exercise.best is None or exercise.best.hyperparameters == exercise.start:
        return False
    return exercise.ablation is None or "ablation" in exercise.stale()


def _stale_sentence(step: str, stale: Mapping[str, str]) -> str:
    """That the step is of another configuration than today's best; empty where it is not."""
    if step not in stale:
        return ""
    return (
        f"The {step} is of a configuration that was the best then and is not now; `{stale[step]}` makes it of today's."
    )


def _training_notes(name: str, method: Method, asked: int | None) -> list[str]:
    """What sets a model's figures apart from those of its last epoch of those that were asked for."""
    notes = []
    trained, tested = method.seeds["epochs"], method.seeds["of_epoch"]
    if np.isfinite(trained).all() and asked is not None and trained.min() < asked:
        notes.append(
            f"The {name} model's trainings ended after {_spans(trained)} epochs of {asked}: its figures are of where each "
            "ended, its curves of the epochs that all seeds have."
        )
    elif np.isfinite(trained).all() and method.history["loss"].shape[1] < trained.min():
        notes.append(f"The {name} model's fit tells no figures of single epochs: its curves are of the end alone.")
    restored = tested != trained  # NaN is no epoch
    if np.isfinite(trained).all() and restored.any():
        which = "of no epoch, as an average is" if np.isnan(tested).any() else f"after epoch {_spans(tested[restored])}"
        notes.append(
            f"The {name} model's fit left {'its networks' if restored.all() else 'some of its networks'} not as after the "
            f"last epoch, but with the weights {which}: its training, validation and test figures are of these, the "
            "figures at the ends of its curves are not."
        )
    if method.loss_function.get("from_logits") and method.outputs.shape[2] == 1:
        notes.append(
            f"The {name} model gives logits: its test figures are of the probabilities that these stand for; Keras's training "
            "and validation accuracy may take the logit itself at one half."
        )
    elif method.outputs.size and not (method.outputs.min() >= 0 and method.outputs.max() <= 1):
        notes.append(
            f"The {name} model's outputs are no probabilities, {method.outputs.min():.3g} to {method.outputs.max():.3g}: "
            "what is said of confidence, calibration and cross-entropy does not hold for it."
        )
    return notes


def _spans(epochs: estimators.Floats) -> str:
    low, high = np.nanmin(epochs), np.nanmax(epochs)
    return f"{low:.0f}" if low == high else f"{low:.0f} to {high:.0f}"


def _notes(exercise: Results, stale: Mapping[str, str]) -> list[str]:
    """What a reader has to know before the figures of the two models."""
    notes = [_stale_sentence("retrain", stale)]
    if exercise.final is not None:
        notes += [
            note
            for name, method in exercise.final.methods.items()
            for note in _training_notes(sentences.NAMES[name], method, exercise.steps["retrain"].get("epochs"))
        ]
    if exercise.unrecorded:
        notes.append(
            f"Left out, since no complete step that wrote it is recorded here: {figures.listed(exercise.unrecorded)}."
        )
    return [note for note in notes if note]


def _ablation_view(found: Ablation | None, exercise: Results, stale: Mapping[str, str]) -> dict[str, Any] | None:
    if found is None:
        return None
    rows = []
    for i, (one, effect) in enumerate(zip(found.path, [None, *evidence.effects(found)], strict=True)):
        changes = list(found.changes(i).items()) if i else []
        texts = [
            (figures.words(name), " \N{RIGHTWARDS ARROW} ".join(figures.settings(before, after)))
            for name, (before, after) in changes
        ]
        rows.append(
            {
                "step": texts[0][0] if texts else "the starting model",
                "change": texts[0][1] if texts else figures.ABSENT,
                "with": [f"{name} {change}" for name, change in texts[1:]],
                "score": _ablation_score(found.objective, one.scores),
                "difference": figures.ABSENT if effect is None else figures.change(found.objective, effect.value),
                "interval": ""
                if effect is None or not math.isfinite(effect.low)
                else figures.change_interval(found.objective, effect.low, effect.high),
                "told": effect is not None and sentences.leaves_out_zero(effect),
                "parameters": figures.count(one.parameters) if one.parameters else figures.ABSENT,
            }
        )
    return {
        "rows": rows,
        "sentences": [
            text for text in (sentences.ablation(found, exercise.maximise), _stale_sentence("ablation", stale)) if text
        ],
        "objective": figures.words(found.objective),
        "unit": ", points" if figures.is_share(found.objective) else "",
        "seeds": len(found.path[0].scores),
        "epochs": figures.plural(found.epochs, "epoch"),
    }


def _ablation_score(objective: str, scores: estimators.Floats) -> str:
    """Mean and deviation over the seeds; of those that ended, and how many, where some failed."""
    mean, deviation, n = estimators.mean_and_deviation(scores)
    if n < len(scores):
        return f"{n} of {figures.plural(len(scores), 'training')} ended"
    return figures.spread(objective, mean, deviation) if n > 1 else figures.metric(objective, mean)


def _methods_table(exercise: Results) -> list[tuple[str, list[tuple[str, str]]]]:
    """Rows of (label, one (figure, note) a method), for the methods there are: the starting one, then the tuned."""
    best, final = exercise.best, exercise.final
    if final is not None:
        settings = [method.hyperparameters for method in final.methods.values()]
    else:
        settings = [exercise.start, best.hyperparameters if best else {}]
    names = list(dict.fromkeys(name for chosen in settings for name in chosen))
    rows = [
        (
            figures.words(name),
            [(figures.value(chosen[name]) if name in chosen else figures.ABSENT, "") for chosen in settings],
        )
        for name in names
    ]
    if final is None:
        return rows
    methods = list(final.methods.values())
    intervals, difference = evidence.accuracies(final)
    rows.append(("trainable parameters", [(figures.count(method.parameters), "") for method in methods]))
    for measure, label in MEASURES.items():
        if measure == "loss_last_ten" and final.epochs < 20:
            continue  # it would be of most of the training
        if measure in ("accuracy", "val_accuracy") and not any(map(evidence.has_accuracy, methods)):
            continue
        tested = measure.startswith("test") or "last" in measure
        when = "" if tested else f" after {figures.plural(final.epochs, 'epoch')}"
        rows.append(
            (f"{label}{when}", [_measured(measure, evidence.over_seeds(method, measure)) for method in methods])
        )
    if evidence.differing_losses(final):
        plain = [_measured("loss", evidence.crossentropy(final, method)) for method in methods]
        rows.append(("test cross-entropy of the labels, one function for both", plain))
    ends = [(figures.interval(interval.low, interval.high), "") for interval in intervals.values()]
    several = max(method.repeats for method in methods) > 1
    label = (
        "mean test accuracy, 95 % interval over seeds and"
        if several
        else "test accuracy, 95 % interval of one seed over"
    )
    rows.append((f"{label} images", ends))
    points = _points_interval(difference)
    rows.append(("tuned minus start, percentage points, 95 % interval", [(figures.ABSENT, ""), (points, "")]))
    majority = figures.percent(final.majority_accuracy)
    rows.append(("accuracy of always answering the most frequent class", [(majority, "")] * len(methods)))
    if len(exercise.classes) == 2:
        found = [evidence.binary(final, method) or {} for method in methods]
        for name, label in BINARY.items():
            cells = [_measured(name, each[name]) if name in each else (figures.ABSENT, "") for each in found]
            rows.append((f"{label}, of '{exercise.classes[1]}'", cells))
    calibrations = [evidence.calibration(final, method) for method in methods]
    rows.append(("expected calibration error", [_measured("accuracy", found.error) for found in calibrations]))
    sure = f"errors made with more than {figures.percent(evidence.SURE, 1)} confidence"
    rows.append((sure, [_measured("accuracy", found.sure_errors) for found in calibrations]))
    best_epochs = [_epochs(evidence.over_seeds(method, "best_epoch")) for method in methods]
    rows.append((f"epoch with the best {figures.words(exercise.objective)}", best_epochs))
    at_best = [evidence.over_seeds(method, "best_test_accuracy") for method in methods]
    if any(found.n for found in at_best):
        rows.append(("test accuracy after that epoch", [_measured("test_accuracy", found) for found in at_best]))
    times = [evidence.over_seeds(method, "seconds") for method in methods]
    rows.append(("training time, one seed", [(figures.duration(found.median), "") for found in times]))
    return rows


def _measured(measure: str, found: estimators.Summary) -> tuple[str, str]:
    """The median over seeds, and their range where there are several."""
    lost = "" if found.n == found.of else f", {found.n} of {figures.plural(found.of, 'seed')}"
    note = f"{figures.extent(measure, found.low, found.high)}{lost}" if found.of > 1 and found.n else ""
    return figures.metric(measure, found.median), note


def _points_interval(difference: estimators.Interval) -> str:
    """A difference's interval in percentage points; of models that answer alike there is nothing to resample."""
    if difference.low == difference.high:
        return "no difference"
    return figures.change_interval("accuracy", difference.low, difference.high)


def _epochs(found: estimators.Summary) -> tuple[str, str]:
    return figures.middle(found.median), f"{found.low:.0f} to {found.high:.0f}" if found.n > 1 else ""


def _lab_row(exercise: Results) -> dict[str, Any] | None:
    """The row of this exercise in the lab's tables: the two methods' figures side by side."""
    if exercise.final is None:
        return None
    final = exercise.final
    intervals, difference = evidence.accuracies(final)
    return {
        "epochs": final.epochs,
        "losses": sentences.losses_of_two_kinds(final),
        "seeds": max(method.repeats for method in final.methods.values()),
        "majority": figures.percent(final.majority_accuracy),
        "difference": figures.change("accuracy", difference.value),
        "difference_interval": _points_interval(difference),
        **{
            name: {
                **{measure: _measured(measure, evidence.over_seeds(method, measure)) for measure in MEASURES},
                "interval": figures.interval(intervals[name].low, intervals[name].high),
            }
            for name, method in final.methods.items()
        },
    }


def _sweep_rows(exercise: Results, sweep: Sweep) -> list[dict[str, Any]]:
    rows = []
    for i, value in enumerate(sweep.values):
        cells = []
        for measure in ("val_accuracy", "val_loss", "accuracy", "loss", "seconds_per_epoch"):
            cells.append(sweep_sentences.measured(sweep, measure, i))
        finite, seeds = np.isfinite(sweep.measures["loss"][i]).sum(), len(sweep.measures["loss"][i])
        rows.append(
            {
                "value": figures.value(value) + _retuned(sweep, value),
                "start": evidence.is_starting_value(exercise, sweep, value),
                "seeds": str(seeds) if finite == seeds else f"{finite} of {seeds}",
                "cells": cells,
            }
        )
    return rows


def _sweep_about(sweep: Sweep, objective: str) -> str:
    seeds = max(len(group) for group in sweep.measures["loss"])
    held = sentences.NAMES.get(sweep.origin, sweep.origin)
    span = f" for {figures.plural(sweep.epochs, 'epoch')}" if sweep.epochs else ""
    tuned = (
        f", at the {figures.words(sweep.retuned)} with the best {figures.words(objective)} of one other seed"
        if sweep.retuned
        else ""
    )
    spread = "mean ± 1 standard deviation over the seeds" if seeds > 1 else "one seed a value, no spread"
    return f"The {held} model trained{span} with each value of {figures.words(sweep.name)}{tuned}; {spread}."


def _retuned(sweep: Sweep, value: Any) -> str:
    setting = sweep.chosen.get(str(value))
    return "" if setting is None else f", {figures.words(str(sweep.retuned))} {figures.value(setting)}"


def _steps_table(exercise: Results) -> list[dict[str, str]]:
    return [
        {
            "step": figures.words(name),
            "command": str(step.get("command", figures.ABSENT)),
            "seed": str(step.get("seed", figures.ABSENT)),
            "workers": str(step.get("workers", figures.ABSENT)),
            "started": figures.moment(str(step.get("started", figures.ABSENT))),
            "seconds": figures.duration(float(step["seconds"])) if "seconds" in step else figures.ABSENT,
        }
        for name, step in exercise.steps.items()
    ]


def _surroundings(exercise: Results) -> list[tuple[str, str]]:
    """Versions, machine, source and data; once where all steps agree, else naming the steps."""
    describe: dict[str, Callable[[Any], str]] = {
        "versions": lambda entry: ", ".join(f"{name} {version}" for name, version in entry.items()),
        "machine": lambda entry: (
            f"{entry.get('processor')}, {figures.plural(int(entry.get('cores', 0)), 'core')}, "
            f"{float(entry.get('memory_gib', math.nan)):.1f} GiB, {entry.get('system')}"
        ),
        "source": lambda entry: f"sha256 {str(entry)[:FINGERPRINT]}",
    }
    rows = []
    for key, text in describe.items():
        stated: dict[str, list[str]] = {}
        for name, step in exercise.steps.items():
            if key in step:
                stated.setdefault(text(step[key]), []).append(figures.words(name))
        for sentence, names in stated.items():
            rows.append((key if len(stated) == 1 else f"{key} ({figures.listed(names)})", sentence))
    data = exercise.data
    sizes = ", ".join(f"{figures.count(data[split])} {split}" for split in ("train", "validation", "test"))
    rows.append(("data", f"{data['source']}, sha256 {str(data['sha256'])[:FINGERPRINT]}; {sizes} images"))
    if exercise.final is not None:
        rows.append(("test images", _test_readings(exercise, exercise.final)))
    return rows


def _test_readings(exercise: Results, final: Final) -> str:
    """How often the test images were read, by the log where there is one."""
    logged = exercise.test_readings
    if len(logged) < 2:
        return f"read by the final evaluation alone, {figures.moment(final.test_set_read)}"
    searches = len({reading["search"] for reading in logged})
    of = f", for {figures.plural(searches, 'search')}" if searches == 1 else f", for {searches} searches"
    when = figures.listed([figures.moment(str(reading["when"])) for reading in logged])
    return (
        f"read {len(logged)} times{of}: {when}; whoever chose what to run after the first of them knew its figures, and "
        "the figures above are then better than on images that nobody has seen"
    )


def _earlier(exercise: Results) -> list[str]:
    """What a retraining or a sweep found before it was repeated with other settings, a sentence each, oldest first."""
    sentences_ = []
    for name, step in exercise.steps.items():
        for before in step.get("earlier") or []:
            shown = [
                f"{sentences.NAMES.get(what, figures.value(what))} {figures.words(measure)} {figures.metric(measure, figure)}"
                for what, measure, figure in before.get("figures", [])
            ]
            found = f": {', '.join(shown)}" if shown else ""
            sentences_.append(
                f"An earlier {figures.words(name)} with other settings ({'; '.join(map(str, before['changes']))}), kept in "
                f"{before['folder']}{found}."
            )
    return sentences_
