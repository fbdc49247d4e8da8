"""The report's sentences: made from :mod:`search.report.evidence`, claiming no more than it supports."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np

from search.report import estimators, evidence, figures, sweep_sentences
from search.report.estimators import Interval, Summary
from search.results import Ablation, Best, Final, Finalist, Finalists, Method, Results, Search, Setting, Trial

LAB_EPOCHS = 100
NAMES = {"start": "starting", "tuned": "tuned"}


def configuration(hyperparameters: Mapping[str, Setting]) -> str:
    """'batch size = 64, optimizer = adam'."""
    return ", ".join(f"{figures.words(name)} = {figures.value(value)}" for name, value in hyperparameters.items())


def ranged(measure: str, found: Summary) -> str:
    """A median with its range over seeds: '99.21 % (99.10 to 99.30)'."""
    middle = figures.metric(measure, found.median)
    return (
        middle
        if found.n < 2 or found.low == found.high
        else f"{middle} ({figures.extent(measure, found.low, found.high)})"
    )


def answer(exercise: Results) -> list[str]:
    """The short answer to an exercise's question: what was found, with the figures."""
    sentences = []
    final = exercise.final
    if final is not None:
        start, tuned = (
            {m: ranged(m, evidence.over_seeds(method, m)) for m in ("loss", "test_accuracy")}
            for method in (final.methods["start"], final.methods["tuned"])
        )
        over = f", medians of {figures.plural(_seeds(final), 'seed')} with their range" if _seeds(final) > 1 else ""
        sentences.append(
            f"After {figures.plural(final.epochs, 'epoch')} the training loss is {start['loss']} for the starting "
            f"model and {tuned['loss']} for the tuned model; the test accuracy is {start['test_accuracy']} and "
            f"{tuned['test_accuracy']}{over}. {_verdict(final)}"
        )
        sentences += losses_of_two_kinds(final)
    sentences += [*chosen(exercise.search), *another_loss(exercise.search)]
    if exercise.finalists is not None:
        sentences.append(finalists(exercise.finalists))
    sentences += [*given(exercise), *left_out(exercise)]
    return sentences + [
        text
        for sweep in exercise.sweeps
        for text in (sweep_sentences.finding(sweep), sweep_sentences.side_by_side(exercise, sweep))
        if text
    ]


def losses_of_two_kinds(final: Final) -> list[str]:
    """That the two models' losses do not compare, and what does; empty where they are one function."""
    differing = evidence.differing_losses(final)
    if not differing:
        return []
    plain = [ranged("loss", evidence.crossentropy(final, final.methods[name])) for name in ("start", "tuned")]
    return [
        f"The two losses are not one function ({figures.listed(differing)}) and do not compare. On the test images the "
        f"cross-entropy of the labels, the same for both, is {plain[0]} for the starting and {plain[1]} for the tuned model."
    ]


def given(exercise: Results) -> list[str]:
    """Whether the best configuration was drawn, or handed to the search by the exercise."""
    if exercise.best is None:
        return []
    _, *handed = exercise.steps.get("search", {}).get("settings", {}).get("first") or [{}]
    values = exercise.best.hyperparameters
    if not any(all(values.get(name) == value for name, value in one.items()) for one in handed):
        return []
    one = f"one of the {figures.plural(len(handed), 'configuration')}" if len(handed) > 1 else "the one"
    return [
        f"The search did not draw the best configuration: it is {one} that the exercise names as known to serve, which "
        f"{'are' if len(handed) > 1 else 'is'} tried first."
    ]


def chosen(search: Search) -> list[str]:
    """What a search chose, or what its best trial is while it has not ended; empty where finalists chose."""
    best = search.best
    scored = [trial for trial in search.trials if math.isfinite(search.score(trial))]
    if not search.step.get("complete", True):
        return [_so_far(search, scored)]
    if best is None or best.chosen_by != "search":
        return []
    ended = sum(trial.status in ("COMPLETED", "FAILED") for trial in search.trials)
    lead = (
        f"Of {figures.count(ended)} trials one alone has a score:" if len(scored) == 1 < ended else "The search chose"
    )
    return [f"{lead} {_of_trial(search, best)}."]


def another_loss(search: Search) -> list[str]:
    """That the objective is not one function over the space; empty where it is, or nothing is known against it."""
    names = evidence.of_the_loss(search)
    if not names:
        return []
    changing = f"{figures.listed([figures.words(name) for name in names])} {'changes' if len(names) == 1 else 'change'}"
    return [
        f"The {figures.words(search.objective)} is not one function of all trials, since {changing} what the loss is: "
        "trials that differ in that do not compare, and what was chosen is not shown to be the better network."
    ]


def _so_far(search: Search, scored: Sequence[Trial]) -> str:
    if not scored:
        return "The search has not ended, and no trial has a score yet."
    top = (max if search.maximise else min)(scored, key=search.score)
    return f"The search has not ended. Its best trial so far, of {figures.count(len(scored))}, is {_of_trial(search, top)}."


def _of_trial(search: Search, trial: Trial | Best) -> str:
    """'units = 16 (trial 0001, validation accuracy 98.20 % at epoch 3 of 9)'."""
    value = trial.score if isinstance(trial, Best) else search.score(trial)
    at = f" at epoch {trial.best_epoch:.0f} of {trial.epochs}" if trial.epochs and trial.best_epoch else ""
    figure = f"{figures.words(search.objective)} {figures.metric(search.objective, value)}"
    return f"{configuration(trial.hyperparameters)} (trial {trial.trial_id}, {figure}{at})"


def finalists(found: Finalists) -> str:
    """Which finalist was chosen, and why."""
    won, best = found.finalists[found.winner], found.finalists[found.level[0]]
    name = "The starting model" if won.start else configuration(won.hyperparameters)
    lost = [
        f"{'the starting model' if one.start else f'trial {one.trial_id}'} ({n} of {len(one.scores)})"
        for one in found.finalists
        if (n := sum(not math.isfinite(score) for score in one.scores))
    ]
    out = f" No candidates, since trainings with them diverged or failed: {figures.listed(lost)}." if lost else ""
    if found.winner == found.level[0]:
        return f"{_best_of(found, name, len(lost))}{out}"
    ours, theirs = _differing(won.hyperparameters, best.hyperparameters)
    ours, theirs = ("The starting model" if won.start else ours), ("the starting model" if best.start else theirs)
    within = "within a standard error" if len(won.scores) > 1 else "exactly"
    return (
        f"{ours} ties {theirs} {within} ({score(found, won)} against {score(found, best)}, "
        f"{figures.plural(len(won.scores), 'seed')}) with {_part(won.parameters / best.parameters)} of its weights: {name} "
        f"was chosen.{out}"
    )


def _best_of(found: Finalists, name: str, lost: int) -> str:
    """Why the one with the best mean was chosen."""
    won, others = found.finalists[found.winner], len(found.level) - 1
    seeds, candidates = len(won.scores), " of the candidates" if lost else ""
    nothing = won.start and not lost and len(found.finalists) > 1
    if seeds == 1:
        tail = " No configuration of the search did better." if nothing else ""
        return (
            f"{name} has the best {figures.words(found.objective)}{candidates}, {score(found, won)}, by one training each: how "
            f"much the seed changes is not known.{tail}"
        )
    verdict = f"{others} of the others within a standard error, with no fewer weights"
    if not others:
        verdict = "no other within a standard error" if len(found.finalists) - lost > 1 else "the only candidate"
    tail = " The search found nothing better than the starting model." if nothing else ""
    return f"{name} has the best mean{candidates}, {score(found, won)} over {figures.plural(seeds, 'seed')}: {verdict}.{tail}"


def _part(share: float) -> str:
    """A share of weights in per cent, with two digits where none would read as nothing or as all."""
    return figures.percent(share, 0 if 0.01 <= share < 0.995 or share == 1 else 2)


def score(found: Finalists, finalist: Finalist) -> str:
    """The mean over seeds and its standard deviation; of a finalist that lost a training, how many it lost."""
    mean, deviation, n = estimators.mean_and_deviation(finalist.scores)
    if n < len(finalist.scores):  # the trainings that survived do not speak for it
        return f"{len(finalist.scores) - n} of {len(finalist.scores)} diverged or failed"
    return figures.spread(found.objective, mean, deviation) if n > 1 else figures.metric(found.objective, mean)


def _differing(ours: dict[str, Setting], theirs: dict[str, Setting]) -> tuple[str, str]:
    """Two configurations by the values in which they differ."""
    names = [name for name in dict.fromkeys((*ours, *theirs)) if ours.get(name) != theirs.get(name)]
    pairs = [(figures.words(name), figures.settings(ours.get(name), theirs.get(name))) for name in names]
    first, second = (", ".join(f"{name} = {texts[i]}" for name, texts in pairs) for i in (0, 1))
    return first, second


def discussion(exercise: Results) -> list[str]:
    """What the figures support and what they do not, a paragraph a point; empty before the search has run."""
    paragraphs = []
    if exercise.final is not None:
        final = exercise.final
        paragraphs.append(comparison(final))
        paragraphs.append(rule(exercise, final))
        paragraphs.append(against_majority(exercise, final))
        paragraphs.append(hardest(exercise, final))
        paragraphs.append(believed(final))
        paragraphs += [fitting(NAMES[name], method) for name, method in final.methods.items()]
    paragraphs.append(selection(exercise))
    return [paragraph for paragraph in paragraphs if paragraph]


def _seeds(final: Final) -> int:
    return max(method.repeats for method in final.methods.values())


def _apart(difference: Interval) -> str:
    """Which model is the more accurate: 'tuned', 'start', or '' where the interval holds no difference."""
    return "tuned" if difference.low > 0 else "start" if difference.high < 0 else ""


def _verdict(final: Final) -> str:
    difference = evidence.accuracies(final)[1]
    if same := _no_difference(final, difference):
        return same
    winner = _apart(difference)
    stated = f"(tuned minus start: {_change(difference)})"
    if not winner:
        return f"The two are not told apart {stated}."
    alone = "" if _seeds(final) > 1 else ", with one seed each: how much the seed changes is not known"
    return f"The {NAMES[winner]} model is the more accurate of the two {stated}{alone}."


def _no_difference(final: Final, difference: Interval) -> str:
    """Why there is no difference of two accuracies to estimate; empty where there is."""
    start, tuned = final.methods["start"], final.methods["tuned"]
    if np.array_equal(start.outputs, tuned.outputs):
        return "The two models are the same: they give every test image the same output."
    if any(vars(difference).values()):
        return ""
    wrong = not all(right.all() for right in final.right().values())
    return "The two models misread the same test images." if wrong else "Neither model misreads a test image."


def _change(difference: Interval) -> str:
    ends = figures.change_interval("accuracy", difference.low, difference.high)
    return f"{figures.change('accuracy', difference.value)} percentage points, 95 % interval {ends}"


def comparison(final: Final) -> str:
    """Whether the tuned model is more accurate: the difference's interval over seeds and images."""
    intervals, difference = evidence.accuracies(final)
    winner, seeds = _apart(difference), min(method.repeats for method in final.methods.values())
    reading = {
        "tuned": "which leaves out zero: the tuned model is the more accurate",
        "start": "which leaves out zero, in the starting model's favour: tuning did not help on the test images",
        "": "which holds zero: the two models are not told apart",
    }[winner]
    means = " and ".join(
        f"{figures.percent(intervals[name].value)} for the {NAMES[name]} model" for name in ("start", "tuned")
    )
    mean = "mean " if seeds > 1 else ""
    if same := _no_difference(final, difference):
        return f"The {mean}test accuracy is {means}. {same}"
    source = (
        "The interval resamples seeds and images together, the same images for both models"
        if seeds > 1
        else "With one seed a model, the interval resamples images alone: how much the seed changes is not known"
    )
    about = "networks so configured" if seeds > 1 else "these two networks"
    return (
        f"The {mean}test accuracy is {means}, a difference of {_change(difference)}, {reading}. {source}; it is about {about}, "
        "on images like these."
    )


def rule(exercise: Results, final: Final) -> str:
    """What is scored, chosen and handed over, and what the best epoch would have been."""
    objective = figures.words(exercise.objective)
    epochs = evidence.over_seeds(final.methods["tuned"], "best_epoch")
    ends = ""
    if exercise.objective in ("val_accuracy", "val_loss"):
        best, last = (
            ranged(exercise.objective, evidence.over_seeds(final.methods["tuned"], name))
            for name in (f"best_{exercise.objective}", exercise.objective)
        )
        when = (
            figures.middle(epochs.median)
            if epochs.n < 2
            else f"{figures.middle(epochs.median)} ({epochs.low:.0f} to {epochs.high:.0f})"
        )
        ends = f" Of the tuned model that epoch is {when}, with a {objective} of {best}, against {last} at the end."
    tested, at_the_end = (
        evidence.over_seeds(final.methods["tuned"], name) for name in ("best_test_accuracy", "test_accuracy")
    )
    if tested.n:
        ends += (
            f" Its test accuracy after that epoch is {ranged('test_accuracy', tested)}, against "
            f"{ranged('test_accuracy', at_the_end)} at the end: both were read at once"
            f"{', and nothing was chosen by them' if len(exercise.test_readings) < 2 else ''}."
        )
    return (
        "One rule holds for the final training: figures on validation and test images are of the network after its last "
        "epoch, as the lab asks; training loss and accuracy are Keras's, means over that epoch's batches while the network "
        f"changes, with dropout and augmentation where it has them. The search scores a trial by its best epoch instead.{ends} "
        f"The network handed over, model.keras, is {_handed_over(final.methods['tuned'])}"
    )


def _handed_over(tuned: Method) -> str:
    if tuned.repeats == 1:
        return "the one that the tuned model's figures are of."
    return f"that of seed {tuned.handed_over}, the middle one by validation loss; no figure here is its alone."


def against_majority(exercise: Results, final: Final) -> str:
    """What an accuracy is worth: against the answer that never looks at the image."""
    tuned = evidence.over_seeds(final.methods["tuned"], "test_accuracy").median
    majority, share = final.majority_accuracy, figures.percent(final.majority_accuracy)
    common = exercise.classes[int(np.bincount(final.labels).argmax())]
    if not math.isfinite(tuned):
        return f"The tuned model has no test accuracy; always answering '{common}' would reach {share}."
    error = f"{figures.percent(1 - tuned)} against {figures.percent(1 - majority)}"
    if tuned <= majority:
        worth = f"and the tuned model's {figures.percent(tuned)} is worth no more than that answer"
    elif majority >= 0.5:
        worth = f"so an accuracy near it is worth nothing, and the figure to compare is the error: {error}"
    else:
        worth = f"against {figures.percent(tuned)} for the tuned model"
    return f"{share} of the test images are '{common}'; always answering that reaches {share} accuracy, {worth}."


def hardest(exercise: Results, final: Final) -> str:
    """Where the tuned model errs: misses and false alarms of two classes, the worst class and pair of many."""
    matrices = evidence.confusions(final, final.methods["tuned"], len(exercise.classes))
    over = f"median and range of {figures.plural(len(matrices), 'network')}" if len(matrices) > 1 else ""
    if len(exercise.classes) == 2:
        return _misses(exercise.classes, matrices, f" ({over})" if over else "")
    totals, mean = matrices[0].sum(axis=1), matrices.mean(axis=0)
    errors = mean - np.diag(np.diag(mean))
    if not errors.any():
        return "The tuned model misreads no test image."
    recall = np.where(totals > 0, np.diag(mean) / np.maximum(totals, 1), np.inf)  # a class without an image is not read
    worst = int(recall.argmin())
    true, answered = (int(i) for i in np.unravel_index(errors.argmax(), errors.shape))
    often = _counted(matrices[:, true, answered])
    return (
        f"The tuned model reads '{exercise.classes[worst]}' worst ({_counted(matrices[:, worst, worst])} of "
        f"{figures.plural(totals[worst], 'image')} right); its most frequent error is a '{exercise.classes[true]}' read "
        f"as '{exercise.classes[answered]}' ({often} {'image' if often == '1' else 'images'}{over and '; '}{over})."
    )


def _misses(classes: Sequence[str], matrices: np.ndarray[tuple[int, ...], np.dtype[np.int64]], over: str) -> str:
    """Misses and false alarms of two classes, of those that have test images."""
    of = [f"{figures.plural(n, 'image')} of '{name}'" for n, name in zip(matrices[0].sum(axis=1), classes, strict=True)]
    misses, alarms = (_counted(matrices[:, i, 1 - i]) for i in (1, 0))
    if not matrices[0][1].any():
        return f"No test image is of '{classes[1]}'; the tuned model takes {alarms} of {of[0]} for it{over}."
    if not matrices[0][0].any():
        return f"The tuned model misses {misses} of {of[1]}{over}; no test image is of '{classes[0]}'."
    return f"The tuned model misses {misses} of {of[1]} and takes {alarms} of {of[0]} for it{over}."


def _counted(counts: Sequence[int] | np.ndarray[tuple[int, ...], np.dtype[np.int64]]) -> str:
    found = estimators.summary(counts)
    if found.low == found.high:
        return figures.count(found.median)
    return f"{figures.middle(found.median)} ({figures.count(found.low)} to {figures.count(found.high)})"


def believed(final: Final) -> str:
    """How far the tuned model's probabilities may be believed."""
    found = evidence.calibration(final, final.methods["tuned"])
    text = (
        "Its probabilities differ from the share of right answers by "
        f"{ranged('accuracy', found.error)} on average (expected calibration error)"
    )
    if not found.sure_errors.n:
        return f"{text}; it made no error."
    return (
        f"{text}; {ranged('accuracy', found.sure_errors)} of its errors are made with a confidence above "
        f"{figures.percent(evidence.SURE, 1)}, which {ranged('accuracy', found.sure)} of all its answers have."
    )


def fitting(name: str, method: Method) -> str:
    """Overfitting, a plateau or a loss still falling: over all seeds, from medians of windows."""
    found = evidence.fits(method)
    lost = [fit for fit in found if fit.verdict == "diverged"]
    if lost:
        since = f"The {name} model's loss is not a number from epoch {min(fit.lowest for fit in lost)}"
        if len(found) == 1:
            return f"{since} on: the training diverged."
        which = "that training" if len(lost) == 1 else "those trainings"
        return f"{since} in {len(lost)} of {figures.plural(len(found), 'seed')}: {which} diverged."
    verdicts = {fit.verdict for fit in found}
    epochs = method.history["loss"].shape[1]
    w = evidence.window(epochs)
    if w < 2:
        ends = [ranged(m, estimators.summary(method.history[m][:, -1])) for m in ("val_loss", "val_accuracy")]
        also = f", its validation accuracy at {ends[1]}" if evidence.has_accuracy(method) else ""
        return (
            f"The {name} model was trained for {figures.plural(epochs, 'epoch')}, too few to tell a trend from a spike; "
            f"its validation loss ends at {ends[0]}{also}."
        )
    lowest = estimators.summary([fit.lowest for fit in found])
    where = (
        f"epoch {lowest.low:.0f}"
        if lowest.low == lowest.high
        else f"epochs {lowest.low:.0f} to {lowest.high:.0f}, by seed"
    )
    minimum, end, before = (
        ranged("loss", estimators.summary([getattr(fit, part) for fit in found]))
        for part in ("minimum", "end", "before")
    )
    training, accuracy = (
        [ranged(measure, estimators.summary([getattr(fit, part)[i] for fit in found])) for i in (0, 1)]
        for part, measure in (("training", "loss"), ("accuracy", "accuracy"))
    )
    means = f"Medians of {figures.plural(w, 'epoch')}" + (
        f", over {figures.plural(len(found), 'seed')}" if len(found) > 1 else ""
    )
    lead = _course(f"The {name} model", found, where, epochs)
    at_the_end, way = (
        f" validation accuracy {accuracy[1]},",
        f", the validation accuracy from {accuracy[0]} to {accuracy[1]}",
    )
    if not evidence.has_accuracy(method):
        at_the_end = way = ""
    if verdicts == {"improves"}:
        return f"{lead}. {means}: validation loss {before} before and {end} at the end,{at_the_end} training loss {training[1]}."
    return (
        f"{lead}. {means}: the lowest validation loss is {minimum}, at {where}, and the last {end}; the training loss "
        f"goes from {training[0]} there to {training[1]}{way}."
    )


def _course(model: str, found: Sequence[evidence.Fit], where: str, epochs: int) -> str:
    """What the validation loss of a model's trainings does, where they agree; else how many do what."""
    words = {
        "overfits": "overfits",
        "rises": "gets worse without overfitting",
        "improves": "still improves",
        "level": "has levelled off",
        "unclear": "takes no clear course",
    }
    counts = {verdict: sum(fit.verdict == verdict for fit in found) for verdict in words}
    seen = [verdict for verdict, count in counts.items() if count]
    if len(seen) > 1:
        said = [f"{words[verdict]} in {counts[verdict]}" for verdict in seen]
        return f"The seeds of {model[0].lower()}{model[1:]} disagree: it {figures.listed(said)} of {len(found)}"
    return {
        "overfits": f"{model} overfits after {where}",
        "rises": f"{model}'s validation loss rises after {where}, and its training loss does not fall: that is no overfitting",
        "improves": f"{model} still improves at epoch {epochs}; longer training may lower its loss",
        "level": f"{model}'s validation loss has levelled off",
        "unclear": f"{model}'s validation loss takes no clear course: whether it has levelled off cannot be told",
    }[seen[0]]


def selection(exercise: Results) -> str:
    """Why the winning trial's own score flatters it, beside the same configuration trained again."""
    completed = [trial for trial in exercise.trials if trial.status == "COMPLETED"]
    if exercise.best is None or len(completed) < 2:
        return ""
    objective = exercise.objective
    extreme = "largest" if exercise.maximise else "smallest"
    configurations = len(evidence.last_of_each(completed))
    several = f", from {configurations} configurations," if configurations != len(completed) else ""
    text = (
        _chosen_by_finalists(exercise)
        if exercise.best.chosen_by == "finalists"
        else f"The winning trial's {figures.words(objective)}, {figures.metric(objective, exercise.best.score)}, is the "
        f"{extreme} of {figures.plural(len(completed), 'trial')}{several} on the same "
        f"{figures.count(exercise.data['validation'])} validation images, each at its best epoch. Being chosen for that, "
        "it is an optimistic estimate"
    )
    if exercise.final is None:
        return f"{text}; the test images have not been read."
    tuned = exercise.final.methods["tuned"]
    tested = ranged("accuracy", evidence.over_seeds(tuned, "test_accuracy"))
    if objective not in ("val_accuracy", "val_loss") or tuned.hyperparameters != exercise.best.hyperparameters:
        return f"{text}. The test accuracy, {tested}, is of {_test_images(exercise)}."
    last, best = (ranged(objective, evidence.over_seeds(tuned, name)) for name in (objective, f"best_{objective}"))
    return (
        f"{text}. The same configuration, trained again for {figures.plural(exercise.final.epochs, 'epoch')} with "
        f"{figures.plural(tuned.repeats, 'fresh seed')}, has {last} at its last epoch on those images and {best} at its "
        f"best one, which is chosen by them too. The test accuracy, {tested}, is of {_test_images(exercise)}."
    )


def _test_images(exercise: Results) -> str:
    """What was chosen by the test images, as far as the log of their readings tells."""
    times = len(exercise.test_readings)
    if times < 2:
        return "images that nothing was chosen by"
    return (
        f"images that were read {times} times: whoever chose what to run after the first of them knew its figures, and the "
        "last are then better than on images that nobody has seen"
    )


def _chosen_by_finalists(exercise: Results) -> str:
    """How far the winner's figure can be believed."""
    assert exercise.best is not None
    assert exercise.finalists is not None
    several = len(exercise.finalists.finalists[exercise.finalists.winner].scores) > 1
    return (
        f"The winner's {'mean ' if several else ''}{figures.words(exercise.objective)}, "
        f"{figures.metric(exercise.objective, exercise.best.score)}, is {'over fresh seeds' if several else 'of a fresh seed'}, "
        "but on the validation images by which the search and the choice of "
        f"{figures.plural(len(exercise.finalists.finalists), 'finalist')} went, too. Being chosen for that, it is an "
        f"optimistic estimate{', though less so than the best of many single trials' if several else ''}"
    )


def ablation(found: Ablation, maximise: bool) -> str:
    """Which steps of an ablation are told apart from no change, and what could not be compared."""
    seeds, steps = len(found.path[0].scores), len(found.path) - 1
    effects = evidence.effects(found)
    lead = (
        f"From the starting to the tuned model in {figures.plural(steps, 'step')}, {figures.plural(found.epochs, 'epoch')} "
        f"of training each{_way(found)}."
    )
    told: dict[bool, list[str]] = {True: [], False: []}
    for i, effect in enumerate(effects, 1):
        if effect is not None and leaves_out_zero(effect):
            told[(effect.value > 0) == maximise].append(f"{step_of(found, i)} ({_effect(found, effect)})")
    compared, apart = sum(effect is not None for effect in effects), len(told[True] + told[False])
    lost = [i for i, one in enumerate(found.path) if not np.isfinite(one.scores).all()]
    of = f"Of {figures.plural(compared, 'step')}{' that can be compared' if compared < steps else ''}"
    if not compared:
        verdict = "No step can be compared."
    elif seeds == 1:
        verdict = "With one seed no step can be told apart from the chance of a seed."
    elif not apart:
        verdict = f"{of}, none is told apart from no change by {seeds} seeds."
    else:
        unit = ", percentage points" if figures.is_share(found.objective) else ""
        groups = [
            f"{word} with {figures.listed(told[kind])}"
            for kind, word in ((True, "better"), (False, "worse"))
            if told[kind]
        ]
        verdict = (
            f"{of}, {apart} {'is' if apart == 1 else 'are'} told apart from no change by {seeds} seeds (in brackets the "
            f"difference and its 95 % interval{unit}): {'; '.join(groups)}."
        )
    others = [
        f"The step {step_of(found, i)} changes what the loss is: it is not compared."
        for i in evidence.other_losses(found)
    ]
    return " ".join([lead, verdict, *(_lost(found, i) for i in lost), *others])


def _way(found: Ablation) -> str:
    """Where the objective goes from and to, as far as the two ends have it and it is one function at both."""
    means = [float(one.scores.mean()) for one in (found.path[0], found.path[-1])]
    start, end = (figures.metric(found.objective, mean) if math.isfinite(mean) else "" for mean in means)
    if not (start or end) or evidence.other_losses(found):
        return ""
    ends = f"goes from {start} to {end}" if start and end else f"begins at {start}" if start else f"ends at {end}"
    mean = "mean " if len(found.path[0].scores) > 1 else ""
    return f": the {mean}{figures.words(found.objective)} {ends}"


def leaves_out_zero(effect: Interval) -> bool:
    """Whether an interval is on one side of zero; one without ends is not."""
    return effect.low > 0 or effect.high < 0


def _effect(found: Ablation, effect: Interval) -> str:
    interval = figures.change_interval(found.objective, effect.low, effect.high)
    return f"{figures.change(found.objective, effect.value)}, {interval}"


def _lost(found: Ablation, i: int) -> str:
    one = found.path[i]
    n = int((~np.isfinite(one.scores)).sum())
    where = f"after the step {step_of(found, i)}" if i else "of the starting model"
    reason = f" ({one.message})" if one.message else ""
    sides = ["that step", "the one after it"] if i else ["the step from it"]
    sides = sides if i + 1 < len(found.path) else sides[:1]
    return (
        f"Of {figures.plural(len(one.scores), 'training')} {where}, {n} diverged or failed{reason}: "
        f"{figures.listed(sides)} {'is' if len(sides) == 1 else 'are'} not compared."
    )


def step_of(found: Ablation, i: int) -> str:
    """Step ``i`` of an ablation, from 1, in words: 'optimizer sgd to adam with learning rate 0.01 to 0.002'."""
    changes = found.changes(i)
    named = [name for name, ends in changes.items() if None not in ends] or list(changes)[:1]
    moved = [f"{figures.words(name)} {' to '.join(figures.settings(*changes[name]))}" for name in named]
    others = len(changes) - len(named)
    carried = [*moved[1:], *([f"{others} that {'depends' if others == 1 else 'depend'} on it"] if others else [])]
    return moved[0] + (f" with {figures.listed(carried)}" if carried else "")


def left_out(exercise: Results) -> list[str]:
    """What a budget made smaller or left out, a sentence each; empty where there was none."""
    said = []
    search, finals = (exercise.steps.get(name, {}) for name in ("search", "finalists"))
    brackets = int(search.get("planned", {}).get("brackets") or 0)
    everything = 1 + max((trial.bracket or 0 for trial in exercise.trials), default=0)  # the largest s is always run
    if 0 < brackets < everything:
        said.append(
            f"For a budget of {figures.duration(float(search['budget']))} the search ran {brackets} of Hyperband's "
            f"{everything} brackets."
        )
    trials = {trial.trial_id: trial for trial in exercise.trials}
    for trial_id in finals.get("planned", {}).get("left_out", ()):
        known = trials.get(trial_id)
        scored = f", {figures.metric(exercise.objective, exercise.search.score(known))} in the search," if known else ""
        said.append(
            f"Trial {trial_id}{scored} was no finalist: its retraining would not have fitted into the budget of "
            f"{figures.duration(float(finals['budget']))}."
        )
    return said


def not_tested(exercise: Results) -> list[str]:
    """The limits of what was run, a sentence each."""
    limits = []
    final, tried = exercise.final, [trial for trial in exercise.trials if trial.status != "RUNNING"]
    if final is not None and final.epochs != LAB_EPOCHS:
        limits.append(
            f"The lab asks for the loss at {LAB_EPOCHS} epochs; this run trained {final.epochs}, "
            "so its losses are not those."
        )
    if tried:
        last = evidence.last_of_each(tried)
        failed = sum(trial.status == "FAILED" for trial in last)
        limits.append(
            f"The search tried {figures.plural(len(last), 'configuration')} of its space, one seed "
            f"each{f', of which {figures.count(failed)} failed' if failed else ''}; better ones may lie between or outside the values tried."
        )
    for origin in sorted({sweep.origin for sweep in exercise.sweeps}):
        swept = [figures.words(sweep.name) for sweep in exercise.sweeps if sweep.origin == origin]
        vary, hold = ("sweep over {} varies", "holds") if len(swept) == 1 else ("sweeps over {} vary", "hold")
        limits.append(
            f"The {vary.format(figures.listed(swept))} one hyper-parameter and {hold} the others at the "
            f"{NAMES.get(origin, origin)} model's values{_but_the_retuned(exercise, origin)}; how hyper-parameters act together was not tested. "
            "Comparisons within a sweep are corrected for the number of its values, not for the number of sweeps."
        )
    limits.append(
        f"One split into {figures.count(exercise.data['train'])} training and "
        f"{figures.count(exercise.data['validation'])} validation images was used; "
        "how the choice depends on it was not tested."
    )
    return limits


def lab_discussion(exercises: Sequence[Results]) -> list[str]:
    """What the exercises say together: where tuning helped, and which accuracies may be compared."""
    finished = [(exercise, exercise.final) for exercise in exercises if exercise.final is not None]
    if not finished:
        return []
    paragraphs = []
    groups: dict[str, list[str]] = {"tuned": [], "start": [], "": []}
    for exercise, final in finished:
        groups[_apart(evidence.accuracies(final)[1])].append(f"'{exercise.title}'")
    verdicts = {
        "tuned": "The tuned model is more accurate than the starting model on the test images in {}.",
        "start": "The starting model is more accurate than the tuned model in {}.",
        "": "The two models are not told apart in {}.",
    }
    texts = [text.format(figures.listed(groups[group])) for group, text in verdicts.items() if groups[group]]
    alone = [f"'{exercise.title}'" for exercise, final in finished if _seeds(final) == 1]
    over = "seeds and images" + (f"; over images alone, of one seed, in {figures.listed(alone)}" if alone else "")
    if len(alone) == len(finished):
        over = "images alone, of one seed a model: how much the seed changes is not known"
    paragraphs.append(f"{' '.join(texts)} Each by the 95 % interval of the difference over {over}.")
    for (a, final_a), (b, final_b) in pairwise(finished):
        images = [(one.data["sha256"], one.data["test_sha256"]) for one in (a, b)]
        same_images = images[0] == images[1] and np.array_equal(final_a.labels, final_b.labels)
        if a.task != b.task or a.classes != b.classes or not same_images:
            continue
        right = {"a": final_a.right()["tuned"], "b": final_b.right()["tuned"]}
        intervals, difference = estimators.accuracy_intervals(right)
        assert difference is not None
        average = ", of one seed each" if _seeds(final_a) == _seeds(final_b) == 1 else " on average"
        paragraphs.append(
            f"'{a.title}' and '{b.title}' answer the same question on the same test images: tuned, they reach "
            f"{figures.percent(intervals['a'].value)} and {figures.percent(intervals['b'].value)}{average}. The "
            f"difference, {_change(difference)}, {'leaves out' if _apart(difference) else 'holds'} zero."
        )
    if len({exercise.task for exercise, _ in finished}) > 1:
        shares = [f"{figures.percent(final.majority_accuracy)} in '{exercise.title}'" for exercise, final in finished]
        paragraphs.append(
            "Accuracies and losses of different tasks do not compare: always answering the most frequent class gives "
            f"{figures.listed(shares)}."
        )
    return paragraphs


def _but_the_retuned(exercise: Results, origin: str) -> str:
    retuned = sorted(
        {figures.words(sweep.retuned) for sweep in exercise.sweeps if sweep.origin == origin and sweep.retuned}
    )
    return f", but for the {figures.listed(retuned)}, which is tuned for each value" if retuned else ""
