"""The figures of a report: plain numbers in, a matplotlib Figure out; nothing here reads a results folder."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import matplotlib.ticker as ticks
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap, to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import ArrayLike, NDArray

from search.files import write_bytes
from search.report import figures

# Okabe and Ito's colours: told apart with any colour vision, and in grey by the line styles.
START, TUNED = "#D55E00", "#0072B2"
SEVERAL = [TUNED, START, "#009E73", "#CC79A7", "#8a6d00"]
INK, MUTED, RULE = "#1c2227", "#65707a", "#dde2e6"
ERRORS = LinearSegmentedColormap.from_list("errors", ["#ffffff", "#fbd5b5", "#e8853d", "#a83c00"])
# Few epochs light, many dark; monotonous in lightness, so the order survives a black-and-white print.
EPOCHS = LinearSegmentedColormap.from_list("epochs", ["#9ccfe0", "#3d93bd", "#155a96", "#0b2554"])

WIDTH = 8.6  # inches: the report's column, so that text in figures and text around them have one size
STYLE: dict[Any, Any] = {
    "figure.dpi": 150,
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "text.color": INK,
    "text.parse_math": False,  # a hyper-parameter named "$x" is text
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelcolor": INK,
    "axes.edgecolor": MUTED,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.formatter.useoffset": False,  # no '1e-5+1' above an axis
    "axes.axisbelow": True,
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.major.size": 3,
    "ytick.major.size": 0,
    "xtick.minor.size": 0,
    "ytick.minor.size": 0,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
}

DIVERGED = "diverged"
History = Mapping[str, ArrayLike]
METHODS = {"start": ("starting", START), "tuned": ("tuned", TUNED)}
SPLITS: dict[str, tuple[str, Any, float]] = {"": ("training", (0, (3, 1.6)), 1.1), "val_": ("validation", "solid", 1.9)}


def png(figure: Figure) -> bytes:
    """The figure as a PNG file's bytes."""
    content = io.BytesIO()
    # Without the software's version in it the same figure gives the same bytes.
    figure.savefig(content, format="png", metadata={"Software": None})
    return content.getvalue()


def save(figure: Figure, path: Path) -> Path:
    """Write the figure to `path` as PNG, whole or not at all, and return `path`. Raises OSError."""
    write_bytes(path, png(figure))
    return path


@matplotlib.rc_context(STYLE)
def curves(histories: Mapping[str, History], measure: str) -> Figure:
    """Training and validation curves of ``measure``, the median over seeds with their range shaded.

    `histories` maps 'start' and 'tuned' to arrays (seeds, epochs) by metric; 'accuracy' is zoomed to where it ends.
    """
    figure = _figure(4.0)
    axes = figure.add_axes((0.085, 0.125, 0.69, 0.845))
    _curves(axes, histories, measure)
    _label_ends(axes, histories, measure)
    return figure


@matplotlib.rc_context(STYLE)
def lab_losses(exercises: Mapping[str, Mapping[str, History]]) -> Figure:
    """The loss curves of all exercises, a panel each; `exercises` maps a title to the histories of `curves`."""
    columns = min(3, len(exercises))
    rows = -(-len(exercises) // columns)
    figure = _figure(0.5 + 3.05 * rows, constrained=True)
    panels = figure.subplots(rows, columns, squeeze=False)
    for axes, (title, histories) in zip(panels.flat, exercises.items(), strict=False):
        _curves(axes, histories, "loss")
        axes.set_title(_wrapped(title, 84 // columns))
    for axes in panels.flat[len(exercises) :]:
        axes.set_axis_off()
    handles = [
        Line2D([], [], color=colour, linestyle=style, linewidth=width, label=f"{method}, {split}")
        for method, colour in METHODS.values()
        for split, style, width in SPLITS.values()
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=4, handlelength=2.6)
    return figure


@matplotlib.rc_context(STYLE)
def search_progress(
    scores: Sequence[float], epochs: Sequence[int], spent: Sequence[int], objective: str, maximise: bool
) -> Figure:
    """Each trial's score against the epochs the search had trained by its end, with the best so far.

    `scores` are in order of trial, NaN for a failed one; `epochs` is what each trial had been trained for
    in all, `spent` what it added. Scores far from the best are marked at the edge and counted.
    """
    score = np.asarray(scores, float)
    budget = np.cumsum(spent)
    figure = _figure(3.7)
    axes = figure.add_axes((0.085, 0.135, 0.895, 0.765))
    finite = np.isfinite(score)
    _zoom(axes, score, maximise)
    outside = _outside(axes, score, maximise)
    levels = sorted({int(e) for e, shown in zip(epochs, finite, strict=True) if shown})
    for level in levels:
        chosen = finite & ~outside & (np.asarray(epochs) == level)
        style: dict[str, Any] = {
            "s": 26,
            "color": _epoch_colour(level, levels),
            "edgecolor": "white",
            "linewidth": 0.5,
            "zorder": 3,
        }
        axes.scatter(budget[chosen], score[chosen], label=_trained(level), **style)
    _mark_edge(axes, budget, outside, ~finite, maximise)
    if finite.any():
        best = (np.fmax if maximise else np.fmin).accumulate(np.where(finite, score, np.nan))
        axes.step(budget, best, where="post", color=INK, linewidth=1.1, label="best so far", zorder=2)
    axes.set_xlim(-0.012 * budget[-1], max(1, budget[-1]) * 1.02)
    axes.xaxis.set_major_locator(ticks.MaxNLocator(9, integer=True, min_n_ticks=1))
    label = "epochs trained by the search so far, all trials" if any(epochs) else "trials so far"
    axes.set_xlabel(label, loc="left" if outside.any() or not finite.all() else "center")
    _objective_axis(axes, objective)
    legend: dict[str, Any] = {
        "loc": "lower right",
        "bbox_to_anchor": (1, 1),
        "ncols": 7,
        "columnspacing": 1.2,
        "handletextpad": 0.3,
    }
    axes.legend(**legend, borderaxespad=0.2)
    _note_edge(axes, score, outside, ~finite, objective, maximise)
    return figure


@matplotlib.rc_context(STYLE)
def effects(
    settings: Mapping[str, Sequence[object]],
    scores: Sequence[float],
    epochs: Sequence[int],
    objective: str,
    maximise: bool,
) -> Figure:
    """Score against value, a panel a hyper-parameter; one point a configuration, darker for more epochs.

    `settings` maps each hyper-parameter to its value in every configuration, None where it is not active.
    """
    score = np.asarray(scores, float)
    columns = 2 if len(settings) in (2, 4) else min(3, len(settings))
    rows = -(-len(settings) // columns)
    figure = _figure(0.55 + 2.45 * rows, constrained=True)
    panels = figure.subplots(rows, columns, squeeze=False, sharey=True)
    levels = sorted(set(epochs))
    colours = np.array([_epoch_colour(level, levels) for level in epochs])
    _zoom(panels[0, 0], score, maximise)
    outside = _outside(panels[0, 0], score, maximise)
    medians = False
    for axes, (name, column) in zip(panels.flat, settings.items(), strict=False):
        x, groups = _value_axis(axes, column)
        shown = np.isfinite(score) & np.isfinite(x) & ~outside
        axes.scatter(x[shown], score[shown], s=20, c=list(colours[shown]), edgecolor="white", linewidth=0.4, zorder=3)
        _mark_edge(axes, x, outside & np.isfinite(x), np.zeros(len(x), bool), maximise)
        for spot, members in enumerate(groups):
            known = score[members][np.isfinite(score[members])]
            if known.size:
                medians = True
                axes.hlines(np.median(known), spot - 0.32, spot + 0.32, color=INK, linewidth=1.4, zorder=2)
        axes.set_title(figures.words(name))
    for row in panels:
        _objective_axis(row[0], objective)
    for axes in panels.flat[len(settings) :]:
        axes.set_axis_off()
    handles = [_dot(_epoch_colour(level, levels), _trained(level)) for level in levels]
    if medians:
        handles.append(Line2D([], [], color=INK, linewidth=1.4, label="median"))
    if outside.any():
        side = "below" if maximise else "above"
        label = f"{side} the axis ({outside.sum()} of {len(score)})"
        handles.append(Line2D([], [], linestyle="none", marker="v" if maximise else "^", color=MUTED, label=label))
    figure.legend(handles=handles, loc="outside upper right", ncols=7, columnspacing=1.2, handletextpad=0.4)
    return figure


@matplotlib.rc_context(STYLE)
def confusion(matrices: Mapping[str, NDArray[np.int64]], classes: Sequence[str]) -> Figure:
    """Test images by true class (row) and answer; `matrices` maps 'start' and 'tuned' to one a network (s, c, c).

    The cells are means over networks. Only the errors are coloured, by their share of the true class, so that the
    diagonal does not hide them.
    """
    few = len(classes) <= 4
    figure = _figure(3.1 if few else 4.9, constrained=True)
    panels = figure.subplots(1, len(matrices), squeeze=False)[0]
    means = {name: counts.mean(axis=0) for name, counts in matrices.items()}
    shares = {name: matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1) for name, matrix in means.items()}
    off = ~np.eye(len(classes), dtype=bool)
    worst = max(max(float(share[off].max()) for share in shares.values()), 1e-9)
    for axes, (name, matrix) in zip(panels, means.items(), strict=True):
        tint = np.where(off, shares[name], np.nan)
        axes.imshow(tint, cmap=ERRORS, vmin=0, vmax=worst, aspect="equal")
        for (row, column), number in np.ndenumerate(matrix):
            share = shares[name][row, column]
            dark = off[row, column] and share > 0.72 * worst
            shown = f"{number:,.0f}" if number == round(number) or number >= 100 else f"{number:.1f}"
            text = f"{shown}\n{figures.percent(share, 1)}" if few else shown
            colour = "white" if dark else MUTED if not off[row, column] or number == 0 else INK
            axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=10 if few else 7)
        axes.set_facecolor("#edf0f2")
        axes.grid(False)
        axes.set_xticks(range(len(classes)), classes)
        axes.set_yticks(range(len(classes)), classes)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        axes.set_xlabel("answered")
        errors = matrices[name][:, off].sum(axis=1)
        extent = f"{errors.min():,}" if errors.min() == errors.max() else f"{errors.min():,} to {errors.max():,}"
        axes.set_title(f"{METHODS[name][0].capitalize()} model: {extent} misread")
    panels[0].set_ylabel("true")
    return figure


@matplotlib.rc_context(STYLE)
def reliability(bins: Mapping[str, tuple[ArrayLike, ArrayLike, ArrayLike]]) -> Figure:
    """Share of right answers against confidence; `bins` maps 'start' and 'tuned' to confidence, share and count a bin."""
    figure = _figure(3.4, constrained=True)
    axes, counts = figure.subplots(1, 2, width_ratios=(1.25, 1))
    axes.plot([0, 1], [0, 1], color=MUTED, linewidth=0.9, label="as sure as right")
    lowest = 1.0
    for method, (confidence, share, count) in bins.items():
        x, y, n = (np.asarray(part, float) for part in (confidence, share, count))
        name, colour = METHODS[method]
        style: dict[str, Any] = {"marker": "o" if method == "tuned" else "s", "color": colour, "markersize": 4.5}
        axes.plot(x, y, linewidth=0.9, label=f"{name} model", **style)
        counts.plot(x, n, linewidth=0.9, **style)
        lowest = min(lowest, float(x.min()), float(y.min()))
    for panel in (axes, counts):
        panel.set_xlim(max(0, lowest - 0.04), 1.015)
        panel.xaxis.set_major_formatter(ticks.PercentFormatter(1, 0, f"{figures.NBSP}%"))
        panel.set_xlabel("confidence in the answer")
    axes.set_ylim(max(0, lowest - 0.04), 1.02)
    axes.yaxis.set_major_formatter(ticks.PercentFormatter(1, 0, f"{figures.NBSP}%"))
    axes.set_title("Share of right answers")
    axes.legend(loc="lower right")
    counts.set_yscale("log")
    counts.yaxis.set_major_formatter(ticks.FuncFormatter(lambda number, _: f"{number:,g}"))
    counts.yaxis.set_minor_formatter(ticks.NullFormatter())
    counts.set_title("Answers, all networks (log)")
    return figure


class Priced(NamedTuple):
    """A value of a sweep with its mean validation accuracy and its cost; NaN where that is not known."""

    sweep: str
    value: str
    accuracy: float
    weights: float
    seconds: float  # an epoch, once compiled
    start: bool = False  # of the starting model, which is in every sweep that holds its values


def costs_differ(points: Sequence[Priced]) -> list[str]:
    """The costs by which the points can be told apart: 'weights', 'seconds'."""
    known = {name: {getattr(point, name) for point in points} for name in ("weights", "seconds")}
    return [name for name, values in known.items() if sum(np.isfinite(value) for value in values) > 1]


@matplotlib.rc_context(STYLE)
def cost(points: Sequence[Priced]) -> Figure:
    """Validation accuracy against each cost that differs between the points; the starting model once, as 'start'."""
    figure = _figure(3.6, constrained=True)
    shown = costs_differ(points)
    titles = {"weights": "trainable weights", "seconds": "seconds an epoch"}
    panels = figure.subplots(1, len(shown), squeeze=False, sharey=True)[0]
    sweeps = list(dict.fromkeys(point.sweep for point in points))
    for axes, name in zip(panels, shown, strict=True):
        for k, sweep_name in enumerate(sweeps):
            own = [point for point in points if point.sweep == sweep_name and np.isfinite(getattr(point, name))]
            own = [point for point in own if not point.start]
            places = [(getattr(point, name), point.accuracy) for point in own]
            style: dict[str, Any] = {"color": SEVERAL[k % 5], "marker": "os^Dv"[k % 5], "s": 24, "zorder": 3}
            axes.scatter([x for x, _ in places], [y for _, y in places], label=sweep_name, **style)
            for point, place in zip(own, places, strict=True):
                axes.annotate(point.value, place, (4, 3), textcoords="offset points", fontsize=7, color=MUTED)
        starts = [point for point in points if point.start and np.isfinite(getattr(point, name))]
        for point in starts[:1]:
            place = (getattr(point, name), point.accuracy)
            axes.scatter(*place, color=INK, marker="*", s=60, zorder=4)
            text: dict[str, Any] = {"textcoords": "offset points", "fontsize": 7, "fontweight": "bold"}
            axes.annotate("start", place, (-4, 5), ha="right", **text)
        known = np.array([getattr(point, name) for point in points])
        known = known[np.isfinite(known)]
        if known.max() > 10 * known.min() > 0:
            _log(axes, "x", known)
        axes.margins(x=0.12)
        axes.set_xlabel(titles[name])
        _percent_axis(axes)
    panels[0].set_ylabel("validation accuracy")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper right", ncols=len(sweeps))
    return figure


@matplotlib.rc_context(STYLE)
def misread(
    images: NDArray[np.uint8],
    label: NDArray[np.int64],
    predicted: NDArray[np.int64],
    probability: ArrayLike,
    networks: NDArray[np.int64],
    classes: Sequence[str],
) -> Figure:
    """Misread images (m, height, width), each with 'true → predicted', the mean probability, and how many networks err."""
    columns = 8
    rows = -(-len(images) // columns)
    height = 1.5 * rows
    figure = _figure(height)
    panels = figure.subplots(rows, columns, squeeze=False)
    figure.subplots_adjust(left=0.005, right=0.995, bottom=0.01, top=1 - 0.4 / height, wspace=0.08, hspace=0.58)
    for axes in panels.flat:
        axes.set_axis_off()
    shown = zip(panels.flat, images, label, predicted, np.asarray(probability, float), networks, strict=False)
    most = int(np.max(networks, initial=1))
    for axes, image, true, answer, certainty, erring in shown:
        few = f", {erring} of {most}" if erring < most else ""
        axes.imshow(image, cmap="gray_r", vmin=0, vmax=255, interpolation="nearest")
        axes.set_title(
            f"{classes[true]} → {classes[answer]}\n{_certainty(certainty)}{few}",
            loc="center",
            fontsize=8.5,
            fontweight="normal",
            pad=3,
        )
    return figure


@matplotlib.rc_context(STYLE)
def sweep(name: str, values: Sequence[object], measures: Mapping[str, Sequence[ArrayLike]], start: object) -> Figure:
    """Validation accuracy, final training loss and seconds an epoch against the values of one hyper-parameter.

    `measures` maps 'val_accuracy', 'loss' and 'seconds_per_epoch' to one array a value, a figure a seed;
    `start` is the starting model's value, marked on the axis where it is one of `values`.
    """
    titles = {"val_accuracy": "Validation accuracy", "loss": "Training loss", "seconds_per_epoch": "Seconds an epoch"}
    if not np.isfinite(np.concatenate([np.ravel(measured) for measured in measures["seconds_per_epoch"]])).any():
        del titles["seconds_per_epoch"]  # one epoch, which compiles, is not timed
    figure = _figure(3.5, constrained=True)
    panels = figure.subplots(1, len(titles))
    for axes, (measure, title) in zip(panels, titles.items(), strict=True):
        seeds = [np.asarray(measured, float) for measured in measures[measure]]
        finite = [measured[np.isfinite(measured)] for measured in seeds]
        repeated = [(x, measured) for x, measured in enumerate(finite) if len(measured) > 1]
        if repeated:
            deviations = [measured.std(ddof=1) for _, measured in repeated]
            means = [measured.mean() for _, measured in repeated]
            bars: dict[str, Any] = {"fmt": "none", "ecolor": TUNED, "elinewidth": 1.2, "capsize": 3}
            axes.errorbar([x for x, _ in repeated], means, yerr=deviations, **bars)
        for x, measured in repeated:
            offsets = 0.24 + 0.05 * (np.arange(len(measured)) - (len(measured) - 1) / 2)
            axes.scatter(x + offsets, measured, s=9, color="#7fb8dc", linewidth=0, zorder=2)
        centres = [(x, float(measured.mean())) for x, measured in enumerate(finite) if len(measured)]
        if centres:
            numeric = not any(isinstance(value, str) for value in values)
            line: dict[str, Any] = {
                "marker": "o",
                "markersize": 4.2,
                "linestyle": "solid" if numeric else "none",
                "linewidth": 0.9,
            }
            axes.plot(*zip(*centres, strict=True), color=TUNED, zorder=3, **line)
        axes.set_xticks(range(len(values)), [figures.value(value) for value in values])
        axes.set_xlim(-0.5, len(values) - 0.5)
        axes.xaxis.grid(False)
        _tilt(axes, values)
        # The starting value is found by its colour and weight; the legend says so.
        for tick, value in zip(axes.get_xticklabels(), values, strict=True):
            if value == start:
                tick.set(color=START, fontweight="bold")
        axes.set_xlabel(figures.words(name))
        axes.set_title(title)
        _measure_axis(axes, measure, np.concatenate(finite))
    n = max(len(np.asarray(measured)) for measured in measures["loss"])
    handles = [_dot(TUNED, f"mean of {n} seeds" if n > 1 else "one seed")]
    if n > 1:
        bar = Line2D([], [], color=TUNED, marker="|", markersize=9, linestyle="none", label="± 1 standard deviation")
        handles += [bar, _dot("#7fb8dc", "each seed")]
    if start in values:
        handles.append(Line2D([], [], linestyle="none", label=f"{figures.value(start)}: the starting model's value"))
    legend = figure.legend(handles=handles, loc="outside upper center", ncols=4)
    if start in values:
        legend.get_texts()[-1].set(color=START, fontweight="bold")
    return figure


def _figure(height: float, *, constrained: bool = False) -> Figure:
    figure = Figure(figsize=(WIDTH, height), layout="constrained" if constrained else None, facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def _curves(axes: Axes, histories: Mapping[str, History], measure: str) -> None:
    settled: list[NDArray[np.float64]] = []
    highest = 1.0
    for method, history in histories.items():
        for prefix, (_, style, width) in SPLITS.items():
            seeds = np.asarray(history[prefix + measure], float)
            measured, epoch = np.median(seeds, axis=0), np.arange(1.0, seeds.shape[1] + 1)
            axes.plot(epoch, measured, color=METHODS[method][1], linestyle=style, linewidth=width)
            if len(seeds) > 1:
                band: dict[str, Any] = {"color": METHODS[method][1], "alpha": 0.14, "linewidth": 0}
                axes.fill_between(epoch, seeds.min(axis=0), seeds.max(axis=0), **band)
            settled.append(measured[min(len(measured) - 1, max(1, len(measured) // 20)) :])
            highest = max(highest, epoch[-1])
    axes.set_xlim(min(1, highest - 1), highest)
    axes.xaxis.set_major_locator(ticks.MaxNLocator(6, integer=True))
    axes.set_xlabel("epoch")
    shown = np.concatenate([np.asarray(line.get_ydata(), float) for line in axes.lines])
    shown = shown[np.isfinite(shown)]
    if measure == "accuracy":
        late = np.concatenate(settled)
        late = late[np.isfinite(late)]
        if late.size:
            # The first epochs may leave the axis: the curves are told apart by where they end.
            pad = 0.06 * max(late.max() - late.min(), 0.002)
            axes.set_ylim(late.min() - pad, min(1 + pad / 4, late.max() + pad))
        _percent_axis(axes)
        axes.set_ylabel("accuracy")
        return
    positive = shown[shown > 0]
    if positive.size and positive.max() > 5 * positive.min():
        _log(axes, "y", positive)
        axes.set_ylabel("loss (log scale)")
    else:
        axes.set_ylabel("loss")


def _label_ends(axes: Axes, histories: Mapping[str, History], measure: str) -> None:
    """Name each curve at its last point, in its colour, moved apart where they would overlap."""
    labels: list[tuple[float, str, str, str]] = []
    for method, history in histories.items():
        for prefix, (split, _, _) in SPLITS.items():
            measured = np.median(np.asarray(history[prefix + measure], float), axis=0)
            name = f"{METHODS[method][0]}, {split}"
            if np.isfinite(measured[-1]):
                height = axes.transAxes.inverted().transform(axes.transData.transform((0, measured[-1])))[1]
                labels.append((float(np.clip(height, 0, 1)), name, figures.metric(measure, measured[-1]), method))
            else:
                labels.append((0.5, name, DIVERGED, method))
    labels.sort()
    heights = _apart([height for height, *_ in labels], 0.105)
    for (end, name, figure, method), height in zip(labels, heights, strict=True):
        colour = METHODS[method][1]
        if figure != DIVERGED:
            line: dict[str, Any] = {"color": colour, "linewidth": 0.7, "clip_on": False}
            axes.plot([1.005, 1.03], [end, height], transform=axes.transAxes, **line)
        text: dict[str, Any] = {
            "transform": axes.transAxes,
            "color": colour,
            "va": "center",
            "linespacing": 1.15,
            "fontsize": 8.5,
        }
        weight = "bold" if "validation" in name else "normal"
        axes.text(1.038, height, f"{name}\n{figure}", fontweight=weight, **text)


def _apart(heights: Sequence[float], step: float) -> NDArray[np.float64]:
    """Ascending heights moved as little as it takes (least squares) to be `step` apart, between 0.03 and 1."""
    ranks = step * np.arange(len(heights))
    groups: list[list[float]] = []
    for height in np.asarray(heights) - ranks:
        groups.append([height])
        while len(groups) > 1 and np.mean(groups[-2]) > np.mean(groups[-1]):
            last = groups.pop()
            groups[-1] += last
    moved: NDArray[np.float64] = np.concatenate([np.full(len(group), np.mean(group)) for group in groups]) + ranks
    return np.clip(moved, 0.03 + ranks, 1 - ranks[::-1])


def leaves_out(scores: Sequence[float], maximise: bool) -> bool:
    """Whether the axis of a search's scores is cut to the better trials."""
    figure = _figure(1)
    axes, measured = figure.add_subplot(), np.asarray(scores, float)
    _zoom(axes, measured, maximise)
    return bool(_outside(axes, measured, maximise).any())


def _zoom(axes: Axes, scores: NDArray[np.float64], maximise: bool) -> None:
    """Limit the y-axis to the better trials: ten diverged ones must not squeeze the rest into a line."""
    finite = scores[np.isfinite(scores)]
    if not finite.size:
        axes.set_ylim(0, 1)
        return
    sign = 1 if maximise else -1
    ranked = sign * finite
    best, good, worst = ranked.max(), np.quantile(ranked, 0.6), ranked.min()
    low = max(worst, best - 5 * max(best - good, 1e-4))
    pad = 0.07 * max(best - low, 1e-4) if best > low else 0.01 * (abs(best) or 1)
    room = 1.8 * pad if best > low else pad  # for the marks at the edge
    axes.set_ylim(*sorted((sign * (low - room), sign * (best + pad))))


def _outside(axes: Axes, scores: NDArray[np.float64], maximise: bool) -> NDArray[np.bool_]:
    low, high = axes.get_ylim()
    with np.errstate(invalid="ignore"):
        return scores < low if maximise else scores > high


def _mark_edge(
    axes: Axes, x: NDArray[np.float64], outside: NDArray[np.bool_], failed: NDArray[np.bool_], maximise: bool
) -> None:
    """Mark what the axis leaves out at the edge it left by; both marks stand in axis heights."""
    edge = 0.025 if maximise else 0.975
    place = axes.get_xaxis_transform()
    if outside.any():
        marker = "v" if maximise else "^"
        axes.scatter(x[outside], np.full(outside.sum(), edge), s=22, marker=marker, color=MUTED, transform=place)
    if failed.any():
        axes.scatter(x[failed], np.full(failed.sum(), edge), s=24, marker="x", color=INK, linewidth=1, transform=place)


def _note_edge(
    axes: Axes,
    scores: NDArray[np.float64],
    outside: NDArray[np.bool_],
    failed: NDArray[np.bool_],
    objective: str,
    maximise: bool,
) -> None:
    notes = []
    if outside.any():
        extreme = scores[outside].min() if maximise else scores[outside].max()
        mark, side, worst = ("▼", "below", "lowest") if maximise else ("▲", "above", "highest")
        figure = figures.metric(objective, float(extreme))
        notes.append(f"{mark} {figures.plural(int(outside.sum()), 'trial')} {side} the axis, {worst} {figure}")
    if failed.any():
        notes.append(f"{figures.TIMES} {figures.plural(int(failed.sum()), 'trial')} without a score")
    if notes:  # in the line of the axis's label, where no point is
        style: dict[str, Any] = {"textcoords": "offset points", "ha": "right", "va": "top", "color": MUTED}
        axes.annotate("    ".join(notes), (1, 0), (0, -18), xycoords="axes fraction", fontsize=8.5, **style)


def _value_axis(axes: Axes, column: Sequence[object]) -> tuple[NDArray[np.float64], list[NDArray[np.intp]]]:
    """Lay out one hyper-parameter's axis; return each configuration's place on it and who shares a choice.

    The place is NaN where the hyper-parameter is not active; the groups are empty on a continuous axis.
    """
    present = [value for value in column if value is not None]
    choices = list(dict.fromkeys(present))
    numbers = np.array([value if isinstance(value, int | float) else np.nan for value in column], float)
    numeric = not any(isinstance(value, str) for value in choices)
    if numeric and (len(choices) > 8 or len(choices) > 0.6 * len(present) > 2):
        known = numbers[np.isfinite(numbers)]
        if known.min() > 0 and known.max() >= 10 * known.min():
            _log(axes, "x", known)
            pad = (known.max() / known.min()) ** 0.06
            axes.set_xlim(known.min() / pad, known.max() * pad)
        else:
            whole = all(isinstance(value, int) for value in choices)
            axes.xaxis.set_major_locator(ticks.MaxNLocator(4, integer=whole, min_n_ticks=1))
            pad = (
                0.05 * (known.max() - known.min()) or 0.5
            )  # set here: the marks at the edge widen no axis by themselves
            axes.set_xlim(known.min() - pad, known.max() + pad)
        return numbers, []
    choices.sort(key=(lambda value: float(value)) if numeric else str)
    place = {value: i for i, value in enumerate(choices)}
    axes.set_xticks(range(len(choices)), [figures.value(value) for value in choices])
    axes.set_xlim(-0.6, len(choices) - 0.4)
    axes.xaxis.grid(False)
    _tilt(axes, choices)
    spots = np.array([np.nan if value is None else place[value] for value in column], float)
    # Points of one choice stand side by side in their order; random jitter would differ from run to run.
    groups = [np.flatnonzero(spots == spot) for spot in range(len(choices))]
    for members in groups:
        spots[members] += 0.22 * (np.arange(len(members)) % 5 - 2) / 2 if len(members) > 1 else 0
    return spots, groups


def _tilt(axes: Axes, values: Sequence[object]) -> None:
    """Turn the tick labels of many or long choices, where two neighbours would run into each other."""
    lengths = [len(figures.value(value)) for value in values]
    closest = max((sum(pair) / 2 for pair in pairwise(lengths)), default=0)
    if closest + 1 > 30 / len(values):  # characters that fit into a third of the report's width
        axes.tick_params(axis="x", labelrotation=35)
        for tick in axes.get_xticklabels():
            tick.set(ha="right", rotation_mode="anchor")


def _measure_axis(axes: Axes, measure: str, measured: NDArray[np.float64]) -> None:
    if measure == "val_accuracy":
        _percent_axis(axes)
    elif measured.size and measured.min() > 0 and measured.max() > 10 * measured.min():
        _log(axes, "y", measured)
        axes.set_title(f"{axes.get_title(loc='left')} (log)")
    elif measured.size:
        axes.set_ylim(0, 1.08 * measured.max())


def _objective_axis(axes: Axes, objective: str) -> None:
    axes.set_ylabel(figures.words(objective))
    if "accuracy" in objective:
        _percent_axis(axes)


def _log(axes: Axes, which: str, measured: NDArray[np.float64]) -> None:
    """A log axis with plain numbers at 1, 2 and 5 (at the decades alone where there are many)."""
    axes.set(**{f"{which}scale": "log"})
    axis = axes.xaxis if which == "x" else axes.yaxis
    decades = np.log10(measured.max() / measured.min())
    steps = (1.0, 2.0, 5.0) if decades < (1.6 if which == "x" else 2.2) else (1.0,)
    axis.set_major_locator(ticks.LogLocator(10, subs=steps, numticks=8))
    axis.set_major_formatter(ticks.FuncFormatter(lambda figure, _: f"{figure:g}"))
    axis.set_minor_formatter(ticks.NullFormatter())


def _certainty(probability: float) -> str:
    if probability >= 0.9995:
        return f">{figures.NBSP}{figures.percent(0.999, 1)}"
    return figures.percent(probability, 1 if probability >= 0.995 else 0)


def _percent_axis(axes: Axes) -> None:
    axes.yaxis.set_major_locator(ticks.MaxNLocator(7, steps=[1, 2, 5, 10]))
    axes.yaxis.set_major_formatter(ticks.FuncFormatter(lambda share, _: f"{round(100 * share, 4):g}{figures.NBSP}%"))


def _epoch_colour(level: int, levels: Sequence[int]) -> str:
    return to_hex(EPOCHS(levels.index(level) / (len(levels) - 1) if len(levels) > 1 else 0.6))


def _trained(epochs: int) -> str:
    return figures.plural(epochs, "epoch") if epochs else "trial"  # a stock search may not say how long it trained


def _dot(colour: str, label: str) -> Line2D:
    return Line2D([], [], linestyle="none", marker="o", markersize=5, markeredgewidth=0, color=colour, label=label)


def _wrapped(text: str, width: int) -> str:
    return "\n".join(textwrap.wrap(text, width))
