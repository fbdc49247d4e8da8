"""The report's sentences: each is made from numbers of a results folder and claims no more than they support."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from search.report import figures
from search.results import Exercise, Final, Floats, Setting, Sweep, Trial

# 97.5 % quantiles of Student's t for 1, 2, … degrees of freedom: with three seeds a value, "two standard errors"
# would call chance a difference about twice as often as the 5 % it promises.
T_QUANTILES = (12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26, 2.23, 2.20, 2.18, 2.16, 2.14, 2.13, 2.12, 2.11)
LAB_EPOCHS = 100
NAMES = {"start": "starting", "tuned": "tuned"}


def mean_and_deviation(figures: Floats) -> tuple[float, float, int]:
    """Mean, sample standard deviation (NaN for fewer than two) and number of the finite figures."""
    finite = figures[np.isfinite(figures)]
    mean = float(finite.mean()) if finite.size else math.nan
    return mean, float(finite.std(ddof=1)) if finite.size > 1 else math.nan, int(finite.size)


def pooled_deviation(groups: Sequence[Floats]) -> tuple[float, int]:
    """Standard deviation within groups, pooled over them, and its degrees of freedom (NaN and 0 without repeats)."""
    finite = [group[np.isfinite(group)] for group in groups]
    freedom = sum(group.size - 1 for group in finite if group.size > 1)
    if not freedom:
        return math.nan, 0
    squares = sum(float(((group - group.mean()) ** 2).sum()) for group in finite if group.size > 1)
    return math.sqrt(squares / freedom), freedom


def told_apart(a: Floats, b: Floats, deviation: float, freedom: int) -> bool:
    """Whether the means of two groups of seeds differ at the 5 % level, by a t-test on the pooled deviation."""
    a, b = a[np.isfinite(a)], b[np.isfinite(b)]
    if not freedom or not a.size or not b.size:
        return False
    threshold = T_QUANTILES[freedom - 1] if freedom <= len(T_QUANTILES) else 2.1
    return bool(abs(a.mean() - b.mean()) > threshold * deviation * math.sqrt(1 / a.size + 1 / b.size))


def configuration(hyperparameters: dict[str, Setting]) -> str:
    """'batch size = 64, optimizer = adam'."""
    return ", ".join(f"{figures.words(name)} = {figures.value(value)}" for name, value in hyperparameters.items())


def answer(exercise: Exercise) -> list[str]:
    """The short answer to an exercise's question: what was found, with the figures."""
    sentences = []
    final, best = exercise.final, exercise.best
    if final is not None:
        start, tuned = final.methods["start"], final.methods["tuned"]
        sentences.append(
            f"After {figures.plural(final.epochs, 'epoch')} the training loss is "
            f"{figures.loss(start.figures['loss'])} for the starting model and "
            f"{figures.loss(tuned.figures['loss'])} for the tuned model; the test accuracy is "
            f"{figures.percent(start.figures['test_accuracy'])} and {figures.percent(tuned.figures['test_accuracy'])}. "
            f"{_verdict(final)}"
        )
    if best is not None:
        sentences.append(
            f"The search chose {configuration(best.hyperparameters)} (trial {best.trial_id}, "
            f"{figures.words(exercise.objective)} {figures.metric(exercise.objective, best.score)} "
            f"at epoch {best.best_epoch} of {best.epochs})."
        )
    return sentences + [sweep_finding(sweep) for sweep in exercise.sweeps]


def discussion(exercise: Exercise) -> list[str]:
    """What the figures support and what they do not, a paragraph a point; empty before the search has run."""
    paragraphs = []
    if exercise.final is not None:
        final = exercise.final
        paragraphs.append(comparison(final))
        paragraphs.append(seeds_sentence(final))
        paragraphs.append(against_majority(exercise, final))
        paragraphs.append(hardest(exercise, final))
        paragraphs += [fitting(NAMES[name], method.history) for name, method in final.methods.items()]
    paragraphs.append(selection(exercise))
    return [paragraph for paragraph in paragraphs if paragraph]


def _verdict(final: Final) -> str:
    p, net = final.p_value, final.only_tuned_right - final.only_start_right
    if not math.isfinite(p):
        return "Whether the two differ beyond chance was not computed."
    stated = f"(exact McNemar test on the same {figures.count(final.test_samples)} test images, {figures.p_value(p)})"
    if p >= 0.05:
        return f"The two are not distinguishable {stated}."
    return f"The {'tuned' if net > 0 else 'starting'} model is the more accurate of the two {stated}."


def comparison(final: Final) -> str:
    """Whether the tuned model's advantage is distinguishable: intervals and the paired test."""
    start, tuned = final.methods["start"], final.methods["tuned"]
    overlap = start.interval[0] <= tuned.interval[1] and tuned.interval[0] <= start.interval[1]
    paired = (
        f"Of {figures.count(final.test_samples)} test images the tuned model alone is right on "
        f"{final.only_tuned_right}, the starting model alone on {final.only_start_right}"
    )
    if not math.isfinite(final.p_value):
        return f"{paired}; no p-value was recorded, so nothing is said about chance."
    intervals = f"The 95 % intervals of the two accuracies {'overlap' if overlap else 'do not overlap'}."
    net = final.only_tuned_right - final.only_start_right
    if final.p_value >= 0.05:
        reading = "a difference that chance can explain: these images do not tell the two models apart"
    elif net > 0:
        reading = "more than chance can explain: the tuned model's advantage is distinguishable"
    else:
        reading = (
            "more than chance can explain, and in the starting model's favour: tuning did not help on the test images"
        )
    caution = "The test compares two trained networks, the median seed of each, not every network so configured."
    if overlap and final.p_value < 0.05:
        caution = (
            "The test pairs the models image by image, so it sees a difference that separate intervals do not. "
            + caution
        )
    return f"{paired} (exact McNemar test, {figures.p_value(final.p_value)}), {reading}. {intervals} {caution}"


def seeds_sentence(final: Final) -> str:
    """How far the seeds of each method spread, against the difference between the methods."""
    start, tuned = (final.methods[name].seeds["test_accuracy"] for name in ("start", "tuned"))
    lost = [
        f"{np.isnan(method.seeds['loss']).sum()} of {figures.plural(method.repeats, 'seed')} of the {NAMES[name]} model"
        for name, method in final.methods.items()
        if np.isnan(method.seeds["loss"]).any()
    ]
    diverged = f"{figures.listed(lost).capitalize()} diverged (the loss is not a number). " if lost else ""
    if min(start.size, tuned.size) < 2:
        return diverged + (
            "Each method was trained with one seed, so how much its figures depend on the seed is not known."
            if max(start.size, tuned.size) < 2
            else ""
        )
    (mean_a, sd_a, n_a), (mean_b, sd_b, n_b) = mean_and_deviation(start), mean_and_deviation(tuned)
    if not (math.isfinite(sd_a) and math.isfinite(sd_b)):
        return diverged + "Too few seeds ended with finite figures to compare the spread of the seeds."
    deviation, freedom = pooled_deviation([start, tuned])
    apart = told_apart(start, tuned, deviation, freedom)
    difference = abs(mean_b - mean_a)
    return diverged + (
        f"Over seeds the test accuracy is {figures.spread('accuracy', mean_a, sd_a)} for the starting model "
        f"(n = {n_a}) and {figures.spread('accuracy', mean_b, sd_b)} for the tuned model (n = {n_b}): a difference of "
        f"{_points(difference)} between the means, against a spread of {_points(deviation)} between seeds. "
        + (
            "The two configurations differ beyond the seeds."
            if apart
            else f"The two configurations are not told apart by {figures.plural(min(n_a, n_b), 'seed')}."
        )
    )


def against_majority(exercise: Exercise, final: Final) -> str:
    """What an accuracy is worth: against the answer that never looks at the image."""
    tuned = final.methods["tuned"].figures["test_accuracy"]
    majority, share = final.majority_accuracy, figures.percent(final.majority_accuracy)
    totals = final.methods["tuned"].confusion.sum(axis=1)
    common = exercise.classes[int(totals.argmax())]
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


def hardest(exercise: Exercise, final: Final) -> str:
    """Where the tuned model errs: misses and false alarms of two classes, the worst class and pair of many."""
    matrix = final.methods["tuned"].confusion
    totals = np.maximum(matrix.sum(axis=1), 1)
    if len(exercise.classes) == 2:
        negative, positive = exercise.classes
        (_, alarms), (misses, _) = matrix
        return (
            f"The tuned model misses {misses} of {figures.count(totals[1])} images of '{positive}' "
            f"({figures.percent(misses / totals[1])}) and takes {alarms} of {figures.count(totals[0])} images of "
            f"'{negative}' for it ({figures.percent(alarms / totals[0])})."
        )
    errors = matrix - np.diag(np.diag(matrix))
    if not errors.any():
        return "The tuned model misreads no test image."
    recall = np.diag(matrix) / totals
    worst = int(recall.argmin())
    true, answer_ = (int(i) for i in np.unravel_index(errors.argmax(), errors.shape))
    return (
        f"The tuned model reads '{exercise.classes[worst]}' worst ({figures.percent(recall[worst])} of "
        f"{figures.count(totals[worst])} images right); its most frequent error is a "
        f"'{exercise.classes[true]}' read as '{exercise.classes[answer_]}' ({errors[true, answer_]} images)."
    )


def fitting(name: str, history: dict[str, Floats]) -> str:
    """Overfitting, a plateau or a loss still falling: from the two loss curves of one training."""
    epoch, training, validation = (history[column] for column in ("epoch", "loss", "val_loss"))
    if not (np.isfinite(training).all() and np.isfinite(validation).all()):
        bad = epoch[~(np.isfinite(training) & np.isfinite(validation))][0]
        return f"The {name} model's loss is not a number from epoch {bad:.0f}: its training diverged."
    last, lowest, tenth = len(epoch) - 1, int(validation.argmin()), max(1, len(epoch) // 10)
    ends = f"{figures.loss(training[lowest])} to {figures.loss(training[last])}"
    # A curve that wavers about a plateau has a lowest point too: the rise has to stand out from the wavering.
    late = float(validation[-tenth:].mean())
    wavering = float(np.diff(validation[lowest:]).std() / math.sqrt(2)) if last - lowest > 1 else 0.0
    rise = late - float(validation[lowest])
    stands_out = rise > max(0.02 * validation[lowest], 3 * wavering) and last - lowest >= max(2, tenth // 2)
    if stands_out and training[last] < training[lowest]:
        return (
            f"The {name} model overfits after epoch {epoch[lowest]:.0f}: from there its training loss goes on falling, "
            f"{ends}, while the validation loss rises from {figures.loss(validation[lowest])} to "
            f"{figures.loss(validation[last])} at epoch {epoch[last]:.0f}. Stopping at epoch {epoch[lowest]:.0f} "
            "would have kept the lower validation loss."
        )
    before = float(validation[-2 * tenth : -tenth].mean()) if len(epoch) >= 2 * tenth else late
    if late < 0.99 * before:
        return (
            f"The {name} model still improves at epoch {epoch[last]:.0f}: the mean validation loss is "
            f"{figures.loss(before)} over epochs {epoch[-2 * tenth]:.0f} to {epoch[-tenth - 1]:.0f} and "
            f"{figures.loss(late)} over epochs {epoch[-tenth]:.0f} to {epoch[last]:.0f}. Longer training may lower it "
            "further."
            if tenth > 1
            else f"The {name} model still improves at epoch {epoch[last]:.0f}: its validation loss falls from "
            f"{figures.loss(before)} to {figures.loss(late)} with the last epoch. Longer training may lower it further."
        )
    return (
        f"The {name} model's validation loss has levelled off: its lowest is {figures.loss(validation[lowest])} at "
        f"epoch {epoch[lowest]:.0f}, the mean of the last {figures.plural(tenth, 'epoch')} {figures.loss(late)}, "
        f"no more than its wavering between epochs. The training loss ends at {figures.loss(training[last])}."
    )


def selection(exercise: Exercise) -> str:
    """Why the winning trial's own score flatters it."""
    completed = [trial for trial in exercise.trials if trial.status == "COMPLETED"]
    if exercise.best is None or len(completed) < 2:
        return ""
    measured = figures.metric(exercise.objective, exercise.best.score)
    extreme = "largest" if exercise.maximise else "smallest"
    images = figures.count(exercise.data["validation"])
    configurations = len(last_of_each(completed))
    several = f", from {configurations} configurations," if configurations != len(completed) else ""
    text = (
        f"The winning trial's {figures.words(exercise.objective)}, {measured}, is the {extreme} of "
        f"{figures.plural(len(completed), 'trial')}{several} on the same {images} validation images. Being chosen for "
        "that, it is an optimistic estimate"
    )
    if exercise.final is None:
        return f"{text}; the test images have not been read."
    tuned = exercise.final.methods["tuned"].figures["test_accuracy"]
    return f"{text}; the test accuracy, {figures.percent(tuned)}, is not, since nothing was chosen by it."


def last_of_each(trials: Sequence[Trial]) -> list[Trial]:
    """Each configuration once, at its longest training: without the trials that another one continued."""
    continued = {trial.promoted_from for trial in trials}
    return [trial for trial in trials if trial.trial_id not in continued]


def sweep_finding(sweep: Sweep) -> str:
    """What a sweep says in short: its best value, and which others its seeds tell apart from that."""
    name, values, accuracy = figures.words(sweep.name), _values(sweep), sweep.measures["val_accuracy"]
    means = _means(sweep, "val_accuracy")
    if not np.isfinite(means).any():
        return f"Sweep over {name}: no training ended with a finite validation accuracy."
    best = int(np.nanargmax(means))
    rest = [i for i in range(len(values)) if i != best and np.isfinite(means[i])]
    span = f" after {figures.plural(sweep.epochs, 'epoch')}" if sweep.epochs else ""
    mean = "mean " if max(len(group) for group in accuracy) > 1 else ""
    top = (
        f"Sweep over {name}: the {mean}validation accuracy{span} is largest at {values[best]}, "
        f"{figures.percent(means[best])}."
    )
    deviation, freedom = pooled_deviation(accuracy)
    if not rest:
        return f"{top} No other value has one."
    if not freedom:
        return f"{top} With one seed a value this cannot be told apart from the chance of a seed."
    seeds = figures.plural(max(len(group) for group in accuracy), "seed")
    apart = [i for i in rest if told_apart(accuracy[best], accuracy[i], deviation, freedom)]
    close = [i for i in rest if i not in apart]
    if not close:
        return f"{top} It is told apart from every other value by {seeds}."
    if not apart:
        return f"{top} It is not told apart from any other value by {seeds}."
    return (
        f"{top} Not told apart from it by {seeds}: {figures.listed([values[i] for i in close])}. "
        f"Worse: {figures.listed([values[i] for i in apart])}."
    )


def sweep_details(sweep: Sweep) -> str:
    """The figures behind a sweep's finding: the lead over the runner-up, the loss, the cost, what diverged."""
    values, accuracy = _values(sweep), sweep.measures["val_accuracy"]
    means, losses, seconds = (_means(sweep, measure) for measure in ("val_accuracy", "loss", "seconds_per_epoch"))
    sentences = []
    if np.isfinite(means).sum() > 1:
        best, second = (int(i) for i in np.argsort(-np.nan_to_num(means, nan=-math.inf), kind="stable")[:2])
        lead = means[best] - means[second]
        deviation, freedom = pooled_deviation(accuracy)
        noise = ""
        if freedom and deviation > 0:
            error = deviation * math.sqrt(sum(1 / np.isfinite(accuracy[i]).sum() for i in (best, second)))
            noise = f", {lead / error:.1f} standard errors (standard deviation between seeds: {_points(deviation)})"
        sentences.append(f"The lead over the second, {values[second]}, is {_points(lead)}{noise}.")
    if np.isfinite(losses).sum() > 1:
        low = int(np.nanargmin(losses))
        sentences.append(f"The final training loss is lowest at {values[low]} ({figures.loss(losses[low])}).")
    if np.isfinite(seconds).sum() > 1:
        fast, slow = int(np.nanargmin(seconds)), int(np.nanargmax(seconds))
        sentences.append(
            f"An epoch takes {figures.duration(seconds[fast])} at {values[fast]} and "
            f"{figures.duration(seconds[slow])} at {values[slow]}."
        )
    lost = [values[i] for i, group in enumerate(accuracy) if not np.isfinite(group).all()]
    if lost:
        sentences.append(f"Trainings that diverged are left out of the means ({figures.listed(lost)}).")
    return " ".join(sentences)


def _values(sweep: Sweep) -> list[str]:
    return [figures.value(value) for value in sweep.values]


def _means(sweep: Sweep, measure: str) -> Floats:
    return np.array([mean_and_deviation(group)[0] for group in sweep.measures[measure]])


def not_tested(exercise: Exercise) -> list[str]:
    """The limits of what was run, a sentence each."""
    limits = []
    final, tried = exercise.final, [trial for trial in exercise.trials if trial.status != "RUNNING"]
    if final is not None and final.epochs != LAB_EPOCHS:
        limits.append(
            f"The lab asks for the loss at {LAB_EPOCHS} epochs; this run trained {final.epochs}, "
            "so its losses are not those."
        )
    if tried:
        limits.append(
            f"The search tried {figures.plural(len(last_of_each(tried)), 'configuration')} of its space, one seed "
            "each; better ones may lie between or outside the values tried."
        )
    for origin in sorted({sweep.origin for sweep in exercise.sweeps}):
        swept = [figures.words(sweep.name) for sweep in exercise.sweeps if sweep.origin == origin]
        vary, hold = ("sweep over {} varies", "holds") if len(swept) == 1 else ("sweeps over {} vary", "hold")
        limits.append(
            f"The {vary.format(figures.listed(swept))} one hyper-parameter and {hold} the others at the "
            f"{NAMES.get(origin, origin)} model's values; how hyper-parameters act together was not tested, and "
            "comparisons within a sweep are not corrected for their number."
        )
    limits.append(
        f"One split into {figures.count(exercise.data['train'])} training and "
        f"{figures.count(exercise.data['validation'])} validation images was used; "
        "how the choice depends on it was not tested."
    )
    return limits


def _points(difference: float) -> str:
    """A difference of accuracies: percentage points, since per cent of per cent would be misread."""
    return f"{100 * difference:.2f} percentage points" if difference >= 0.00005 else "under 0.01 percentage points"


def lab_discussion(exercises: Sequence[Exercise]) -> list[str]:
    """What the exercises say together: where tuning helped, and which accuracies may be compared."""
    finished = [(exercise, exercise.final) for exercise in exercises if exercise.final is not None]
    if not finished:
        return []
    paragraphs = []
    groups: dict[str, list[str]] = {"tuned": [], "start": [], "neither": []}
    for exercise, final in finished:
        clear = math.isfinite(final.p_value) and final.p_value < 0.05
        winner = "tuned" if final.only_tuned_right > final.only_start_right else "start"
        groups[winner if clear else "neither"].append(f"'{exercise.title}'")
    verdicts = {
        "tuned": "The tuned model is distinguishably more accurate than the starting model on the test images in {}.",
        "start": "The starting model is distinguishably more accurate than the tuned model in {}.",
        "neither": "The test images do not tell the two models apart in {}.",
    }
    texts = [text.format(figures.listed(groups[group])) for group, text in verdicts.items() if groups[group]]
    paragraphs.append(" ".join(texts) + " The test is the exact McNemar test at the 5 % level, exercise by exercise.")
    for (a, final_a), (b, final_b) in pairwise(finished):
        if a.task != b.task or a.classes != b.classes:
            continue
        one, other = final_a.methods["tuned"], final_b.methods["tuned"]
        apart = one.interval[1] < other.interval[0] or other.interval[1] < one.interval[0]
        paragraphs.append(
            f"'{a.title}' and '{b.title}' answer the same question on the same test images: tuned, they reach "
            f"{figures.percent(one.figures['test_accuracy'])} ({figures.interval(*one.interval)}) and "
            f"{figures.percent(other.figures['test_accuracy'])} ({figures.interval(*other.interval)}). "
            f"The 95 % intervals {'do not overlap' if apart else 'overlap'}; a test that pairs their answers was not "
            "run."
        )
    tasks = {exercise.task: (exercise, final.majority_accuracy) for exercise, final in finished}
    if len(tasks) > 1:
        shares = [f"{figures.percent(majority)} in '{exercise.title}'" for exercise, majority in tasks.values()]
        paragraphs.append(
            "Accuracies and losses of different tasks do not compare: always answering the most frequent class gives "
            f"{figures.listed(shares)}."
        )
    return paragraphs
