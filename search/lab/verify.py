"""Whether results are what they say: an exercise's folder, a results folder or a hand-in; without training but on request."""

from __future__ import annotations

import base64
import io
import itertools
import lzma
import math
import re
import tarfile
import tempfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from search import files, provenance, results
from search.errors import RequestError, WorkError, first_line
from search.lab import data
from search.lab.options import QUICK_FOLDER
from search.lab.reproduce import NOT_REPRODUCED, REPRODUCED, reproduce

PICTURES = re.compile(r'data:image/png;base64,([^"]*)')
DRAWN_BY = re.compile(r'<meta name="matplotlib" content="([^"]*)">')  # another version draws other bytes
PLACE = re.compile(r" --results (?:&#39;.*?&#39;|[^\s&<]+)")  # of the folder, in the page's commands
NETWORKS = "networks on the test images"
NOT_RUN = "not run yet"
NEEDED = {  # the step that has to be complete for a check
    "proposals, promotions and best": "search",
    "finalists": "finalists",
    "ablation": "ablation",
    "counts and intervals": "retrain",
    NETWORKS: "retrain",
}
FAR = 0.25  # of a channel, from 0 to 1: two pixels that differ by more are not alike
FEW = 1e-3  # of the pixels of two drawings of one picture, which may differ by more
NOT_CHECKED = "not checked"  # what the check reads is not what was recorded, which the digests name
ROUNDED = 2  # test images whose answer another machine's rounding may turn
LOSS_APART, LEAST_LOSS = 0.05, 1e-3  # of the larger, and in nats: probabilities have 32 bits, and logits more range
LEAST_PROBABILITY = 1e-7  # as Keras clips
SAME_OUTPUT = 1e-4  # of a probability; another machine's compiler rounds otherwise


@dataclass(frozen=True)
class Finding:
    """One thing that was checked, the verdict, and what differs, empty where nothing does."""

    source: str
    exercise: str
    checked: str
    verdict: str = REPRODUCED
    differs: str = ""

    @property
    def wrong(self) -> str:
        """What differs where it is not reproduced, else empty."""
        return self.differs if self.verdict == NOT_REPRODUCED else ""

    @property
    def where(self) -> str:
        """The exercise with the source it is in, where the source is not the exercise's own folder."""
        return self.exercise if self.exercise.split("/")[-1] == self.source else f"{self.source} {self.exercise}"


class NotChecked(Exception):
    """Why a check cannot be made, which says nothing against the results."""


def verify(path: Path, images: str | None = None, retrain: bool = False) -> list[Finding]:
    """Checks every exercise at ``path``.

    Args:
        path: results/<exercise>, a folder of such, or a hand-in's ``.tar.bz2``.
        images: where the images are, as ``--data`` takes it; None: where ``run.json`` says. Here the test images are read
            to check figures, and nothing is chosen by them: such a reading is not logged and does not count.
        retrain: both models are trained again too, and every figure compared.

    Raises:
        RequestError: there is no exercise's folder at ``path``, or it is no archive.
    """
    checks = {**CHECKS}
    checks[NETWORKS] = partial(_networks, images=images)
    with _opened(path) as folder:
        found = [folder] if (folder / "run.json").is_file() else sorted(one.parent for one in folder.rglob("run.json"))
        found = [one for one in found if not any(files.SET_ASIDE.search(part) for part in one.parts)]
        if not found:
            raise RequestError(f"{path} holds no run.json; expected results/<exercise>, a results folder or a hand-in")
        source = path.resolve().name
        findings = [finding for one in found for finding in _findings(source, one, checks, images, retrain)]
        # What was unpacked is gone when it is read where.
        return [replace(finding, differs=finding.differs.replace(str(folder), str(path))) for finding in findings]


def _findings(
    source: str, folder: Path, checks: dict[str, Callable[[Path], str]], images: str | None, retrain: bool
) -> Iterator[Finding]:
    exercise = f"{QUICK_FOLDER}/{folder.name}" if folder.resolve().parent.name == QUICK_FOLDER else folder.name
    changed, undone = "", _not_run(folder)
    for checked, check in checks.items():
        if checked in undone:
            yield Finding(source, exercise, checked, NOT_RUN)
            continue
        try:
            differs = _answer(check, folder)
        except NotChecked as reason:
            yield Finding(source, exercise, checked, NOT_CHECKED, str(reason))
            continue
        if changed and differs == changed:
            yield Finding(source, exercise, checked, NOT_CHECKED, "see the digests")
            continue
        yield Finding(source, exercise, checked, NOT_REPRODUCED if differs else REPRODUCED, differs)
        changed = differs if check is _digests else changed
    if retrain:
        try:
            for compared in reproduce(folder, images):
                yield Finding(source, exercise, *compared)
        except (WorkError, RequestError) as error:
            yield Finding(source, exercise, "trained again", NOT_REPRODUCED, str(error))


def _not_run(folder: Path) -> list[str]:
    """The checks of steps that are not complete yet, which says nothing against the results there are."""
    try:
        steps = results.read_record(folder).steps
    except WorkError:
        return []  # which every check says
    undone = [checked for checked, step in NEEDED.items() if not steps.get(step, {}).get("complete")]
    return undone if (folder / "report.html").exists() else [*undone, "report"]


def _answer(check: Callable[[Path], str], folder: Path) -> str:
    try:
        return check(folder)
    except (WorkError, RequestError) as error:
        return str(error)
    except FileNotFoundError as error:
        return f"{error.filename} is missing; expected every file that the exercise's steps wrote; put it back"
    except results.UNREADABLE as error:
        return f"{type(error).__name__}: {first_line(error)}"


@contextmanager
def _opened(path: Path) -> Iterator[Path]:
    if path.is_dir():
        yield path
        return
    if not path.is_file():
        raise RequestError(f"{path} is neither a file nor a folder; expected a folder or a hand-in's .tar.bz2")
    with tempfile.TemporaryDirectory() as folder:
        try:
            with tarfile.open(path) as archive:
                members = [member for member in archive.getmembers() if member.isfile()]  # no link is followed
                archive.extractall(folder, members, filter="data")
        except (OSError, EOFError, ValueError, OverflowError, tarfile.TarError, lzma.LZMAError, zlib.error) as error:
            raise RequestError(f"{path} cannot be read ({error}); expected a folder or a hand-in's .tar.bz2") from None
        yield Path(folder)


@contextmanager
def _copied(folder: Path, part: str, *left_out: str) -> Iterator[Path]:
    """A copy of the folder, or of a part of it, to write in; an error names the folder itself."""
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch, folder.name)
        files.copy_tree(folder / part, copy / part, *left_out)
        try:
            yield copy
        except (WorkError, RequestError) as error:
            raise type(error)(str(error).replace(str(copy), str(folder))) from None


def _digests(folder: Path) -> str:
    exercise = results.read_exercise(folder)
    unsealed = [name for name, step in exercise.steps.items() if step.get("complete") and not step.get("files")]
    wrong = [f"no digests are recorded of {', '.join(unsealed)}"] if unsealed else []
    if exercise.unrecorded:
        wrong.append(f"no complete step is recorded that wrote {', '.join(exercise.unrecorded)}")
    return "; ".join(wrong)


class _NoWorkers:
    """In the place of workers: every trial that the oracle asks for has to be on record."""

    size, ahead = 1, 0

    def begin(self, problem: Any) -> None:
        """Nothing."""

    def submit(self, job: Any) -> Future[Any]:
        raise WorkError(f"the oracle asks for trial {job.name} ({job.hyperparameters}), which is not on record")

    def close(self) -> None:
        """Nothing."""


def _search(folder: Path) -> str:
    """Every proposal and promotion asked for again, with the recorded outcomes told; then the tables that follow."""
    import search.workers.runtime  # noqa: F401, I001
    import keras_tuner

    from search import study
    from search.lab import searching

    about = results.read_record(folder)
    step = about.steps["search"]
    settings = step["settings"]
    objective = keras_tuner.Objective(about.objective, "max" if about.maximise else "min")
    oracle = searching.oracle_of(about.name, objective, _space(folder), settings)
    damage: list[str] = []
    with _copied(folder, "search", "state*.npz") as copy:
        known = study.known_outcomes(copy, oracle, damage.append)

        def go_on() -> bool:  # a budget may have ended the search
            return "budget" not in step or len(oracle.end_order) < len(known)

        study.search(oracle, _NoWorkers(), copy, settings["seed"], known=known, go_on=go_on)
        chosen_later = results.read_search(folder).finalists is not None
        for name in ("trials.csv", *(() if chosen_later else ("best.json",))):
            if not damage and (copy / name).read_bytes() != (folder / name).read_bytes():
                damage.append(f"{name} is not what follows from the trials")
        damage = [line.replace(str(copy), str(folder)) for line in damage]
    if not damage and len(oracle.trials) != len(known):
        damage.append(f"{len(known)} trials are on record and {len(oracle.trials)} are asked for")
    return "; ".join(damage)


def _space(folder: Path) -> Any:
    """The space of the search, as KerasTuner's ``HyperParameters``."""
    import search.workers.runtime  # noqa: F401, I001
    import keras_tuner

    state = files.read_json(folder / "search" / "oracle.json")
    return keras_tuner.HyperParameters.from_config(state["hyperparameters"])


def _finalists(folder: Path) -> str:
    """The winner chosen again from the finalists' scores."""
    import search.workers.runtime  # noqa: F401
    from search.lab.finalists import winner

    exercise = results.read_search(folder)
    found = exercise.finalists
    if found is None:
        return ""
    scores = np.array([finalist.scores for finalist in found.finalists])
    weights = [finalist.parameters for finalist in found.finalists]
    now = winner(scores if exercise.maximise else -scores, weights)
    told = (found.winner, found.level)
    return "" if now == told else f"finalist {told[0] + 1} is told to win, of the scores {now[0] + 1} does"


def _ablation(folder: Path) -> str:
    """The configurations of the path made again from its ends, its steps and the space."""
    import search.workers.runtime  # noqa: F401
    from search.lab.ablation import along

    exercise = results.read_exercise(folder)
    found = exercise.ablation
    if found is None:
        return ""
    asked = exercise.steps["ablation"]["settings"]
    now = along(_space(folder), asked["start"], asked["best"], asked["steps"])
    wrong = (
        [] if len(now) == len(found.path) else [f"{len(found.path) - 1} steps are told, {len(now) - 1} were asked for"]
    )
    for i, (told, values) in enumerate(zip(found.path, now, strict=False)):
        if told.hyperparameters != values:
            wrong.append(f"after step {i} {told.hyperparameters} is told, the path has {values}")
    return "; ".join(wrong)


def _figures(folder: Path) -> str:
    """Counts and intervals from the predictions that were kept."""
    import search.workers.runtime  # noqa: F401
    from search.report import estimators

    metrics = files.read_json(folder / "retrain" / "metrics.json")
    wrong = _each_from_its_source(folder, metrics)
    with np.load(folder / "retrain" / "predictions.npz", allow_pickle=False) as kept:
        labels = kept["label"]
        right = {name: _classes(kept[name]) == labels for name in ("start", "tuned")}
    if not np.isclose(metrics["majority_accuracy"], np.bincount(labels).max() / len(labels)):
        wrong.append("the share of the most frequent class is another")
    with np.load(folder / "retrain" / "misread.npz", allow_pickle=False) as shown:
        of_shown = (~right["tuned"]).sum(axis=0)[shown["index"]]
        if not (np.array_equal(shown["networks"], of_shown) and np.array_equal(shown["label"], labels[shown["index"]])):
            wrong.append("the misread images that are shown are not those of the predictions")
    for name, answers in right.items():
        told = [run["test_correct"] for run in metrics[name]["seeds"]]
        if told != answers.sum(axis=1).tolist():
            wrong.append(f"{name}: {told} right are told, the predictions have {answers.sum(axis=1).tolist()}")
    intervals, difference = estimators.accuracy_intervals(right)
    for name, interval in intervals.items():
        if not np.allclose(metrics[name]["interval"], [interval.low, interval.high], rtol=0, atol=1e-12):
            wrong.append(f"{name}: the interval is {100 * interval.low:.4f} to {100 * interval.high:.4f} %")
    if metrics["difference"] != vars(difference):
        wrong.append("the difference of the models is another")
    return "; ".join(wrong)


def _each_from_its_source(folder: Path, metrics: Mapping[str, Any]) -> list[str]:
    """What each seed's figures, and those over seeds, differ in from the histories and the counts that they are made of."""
    from search.lab.retrain import _over_seeds

    exercise, wrong = results.read_exercise(folder), []
    assert exercise.final is not None
    settings = exercise.steps["retrain"].get("settings", {})
    asked = {"tuned": settings.get("hyperparameters"), "start": settings.get("start")}
    for name, method in exercise.final.methods.items():
        told = metrics[name]
        if not (asked[name] or {}).items() <= told["hyperparameters"].items():
            wrong.append(f"{name}: the hyper-parameters are not those that the retraining was asked for")
        again = _over_seeds(told["seeds"])
        same = all(
            np.isclose(told.get(figure, math.nan), value) for figure, value in again.items() if figure != "range"
        )
        if not same or told.get("range") != again["range"]:
            wrong.append(f"{name}: medians or ranges are not those of the seeds")
        for k, run in enumerate(told["seeds"]):
            if not np.isclose(run["test_accuracy"], run["test_correct"] / metrics["test_samples"]):
                wrong.append(
                    f"{name}, seed {k}: {run['test_correct']} right of {metrics['test_samples']} is another accuracy"
                )
            wrong += [
                f"{name}, seed {k}: {figure} is not the history's" for figure in _not_of_history(run, method.history, k)
            ]
    return wrong


def _not_of_history(run: Mapping[str, Any], history: Mapping[str, Any], k: int) -> Iterator[str]:
    """The figures of a seed that its history does not have: after the last epoch, where the network is of it, and the best."""
    for figure, series in history.items():
        known = series[k][np.isfinite(series[k])]
        if not len(known) or len(known) != run.get("epochs"):
            continue  # it diverged, or an own fit trained otherwise
        if figure in run and run.get("of_epoch") == run["epochs"] and not np.isclose(run[figure], known[-1]):
            yield figure
        best = f"best_{figure}"
        if best in run and not np.isclose(run[best], known[run["best_epoch"] - 1]):
            yield best


def _networks(folder: Path, images: str | None = None) -> str:
    """The saved networks on the test images, against the predictions that were kept."""
    import search.workers.runtime  # noqa: F401
    from search.lab.retrain import _outputs

    about = results.read_record(folder)
    recorded = files.read_json(folder / "run.json")["data"]
    source = data.load(recorded.get("given") if images is None else images, recorded["train"] + recorded["validation"])
    if (source.sha256, source.test_sha256) != (recorded["sha256"], recorded.get("test_sha256", source.test_sha256)):
        return f"the images of {source.name} are not those of {about.data['source']}; give those with --data"
    test = data.test_examples(source, data.TASKS[about.task])
    metrics = files.read_json(folder / "retrain" / "metrics.json")
    wrong = []
    with np.load(folder / "retrain" / "predictions.npz", allow_pickle=False) as kept:
        if not np.array_equal(_classes(np.asarray(test.y)) if test.y.ndim > 1 else test.y, kept["label"]):
            wrong.append("the labels are not those of the test images")
        for name, file in (("tuned", "model.keras"), ("start", "start_model.keras")):
            network = _network(folder / "retrain" / file)
            outputs = _outputs(network, test.x, metrics[name].get("loss_function", {}))
            weights = sum(int(np.prod(weight.shape)) for weight in network.trainable_weights)
            if weights != metrics[name]["parameters"]:
                wrong.append(f"{file} has {weights:,} weights, {metrics[name]['parameters']:,} are told")
            far = float(np.abs(outputs - kept[name][metrics[name]["handed_over"]]).max())
            if not far <= SAME_OUTPUT:
                wrong.append(f"{file} answers otherwise than its predictions, by up to {far:.2g}")
            held_out = data.validation_examples(source, data.TASKS[about.task])
            wrong += [f"{file}: {line}" for line in _other_losses(metrics[name], network, test, held_out)]
        told = metrics["tuned"]["seeds"][metrics["tuned"]["handed_over"]].get("best_test_accuracy")
        if told is not None:
            network = _network(folder / "retrain" / "best_epoch_model.keras")
            outputs = _outputs(network, test.x, metrics["tuned"].get("loss_function", {}))
            right = float((_classes(outputs) == kept["label"]).mean())
            if abs(right - told) * len(kept["label"]) > ROUNDED:
                wrong.append(f"best_epoch_model.keras reads {right:.4f} of the test images, {told:.4f} is told")
    return "; ".join(wrong)


def _other_losses(told: Mapping[str, Any], network: Any, test: Any, held_out: Any) -> Iterator[str]:
    """The losses of the seed whose network was saved that are not the network's, where the loss is a plain cross-entropy."""
    from search.lab.retrain import _outputs

    loss, run = told.get("loss_function", {}), told["seeds"][told["handed_over"]]
    kind = str(loss.get("loss", "")).lower()
    if "crossentropy" not in kind or "focal" in kind or "penalties" in loss or run.get("of_epoch") != run["epochs"]:
        return
    for name, images in (("test_loss", test), ("val_loss", held_out)):
        if run.get(name) is None:
            continue
        labels = np.asarray(images.y)
        labels = _classes(labels) if labels.ndim > 1 else labels.astype(int)
        outputs = _outputs(network, images.x, loss)
        if outputs.shape[1] > 1 and np.abs(outputs.sum(axis=1) - 1).max() > SAME_OUTPUT:
            return  # no probabilities
        now = _crossentropy(outputs, labels, float(loss.get("label_smoothing") or 0))
        if abs(now - run[name]) > LOSS_APART * max(now, run[name]) + LEAST_LOSS:
            yield f"its {name} is {now:.4g}, {run[name]:.4g} is told"


def _crossentropy(outputs: Any, labels: Any, smoothing: float) -> float:
    """Mean cross-entropy (nats) of labels (n,) under probabilities (n, k); k = 1 is the probability of class 1."""
    given = np.clip(np.asarray(outputs, float), LEAST_PROBABILITY, 1)
    if given.shape[1] == 1:
        rest = np.clip(1 - np.asarray(outputs, float), LEAST_PROBABILITY, 1)
        given = np.concatenate([rest, given], axis=1)
    of_label = given[np.arange(len(labels)), labels]
    return float(-((1 - smoothing) * np.log(of_label) + smoothing * np.log(given).mean(axis=1)).mean())


def _network(path: Path) -> Any:
    """A network that a retraining saved, with layers and losses of the lab's own."""
    import search.workers.runtime  # noqa: I001
    import keras

    import search.lab.layers  # noqa: F401  (which registers them)

    try:
        return keras.saving.load_model(path, compile=False)
    except TypeError as error:
        if "Could not locate" not in str(error):
            raise
        raise NotChecked(
            f"{path.name} is made of classes or functions of the exercise's own, which are not run here"
        ) from None


def _report(folder: Path) -> str:
    """The page, its pictures and the summary written again from the numbers."""
    from search.report import console
    from search.report.page import write_report

    with _copied(folder, "", "state*", "tensorboard", "*.old-*") as copy:
        now = write_report(copy).read_text(encoding="utf-8")
        drawn = {path.name: path.read_bytes() for path in (copy / "plots").glob("*.png")}
        summed = console.summary(copy) if (folder / "summary.txt").exists() else None
    told = (folder / "report.html").read_text(encoding="utf-8")
    differ = _pictures(folder, drawn, now, told) or _lines(_without_pictures(told), _without_pictures(now))
    if not differ and summed is not None:
        differ = _lines((folder / "summary.txt").read_text(encoding="utf-8"), summed)
        differ = f"summary.txt: {differ}" if differ else ""
    code = {step.get("program") for step in results.read_record(folder).steps.values()}
    if differ and code != {provenance.source_sha256()}:
        return f"the code that wrote it is not the code that is here, and may be why it differs: {differ}"
    return differ


def _lines(told: str, now: str) -> str:
    """The first line in which two texts differ, in words; empty where none does."""
    pairs = itertools.zip_longest(told.splitlines(), now.splitlines(), fillvalue="")
    return next((f"{a.strip()!r} where the numbers say {b.strip()!r}" for a, b in pairs if a != b), "")


def _without_pictures(page: str) -> str:
    """The page without what depends on where and by what it was written."""
    return PLACE.sub("", DRAWN_BY.sub("", PICTURES.sub("", page)))


def _pictures(folder: Path, drawn: dict[str, bytes], now: str, told: str) -> str:
    """Whether the page that is told has each plot in its place, and the plots are those that the numbers give.

    Args:
        drawn: the plots as they are drawn here, which another version of matplotlib would draw otherwise.
        now: the page with these.
    """
    names = {base64.b64encode(picture).decode("ascii"): name for name, picture in drawn.items()}
    places, shown = [names.get(picture, "") for picture in PICTURES.findall(now)], PICTURES.findall(told)
    if len(places) != len(shown):
        return f"the page shows {len(shown)} pictures where the numbers give {len(places)}"
    same_version = DRAWN_BY.findall(told) == DRAWN_BY.findall(now)
    for name, picture in zip(places, map(base64.b64decode, shown), strict=True):
        plot = folder / "plots" / name
        if name and plot.is_file() and plot.read_bytes() != picture:
            return f"plots/{name} is not the picture in its place on the page"
        if name and same_version and not _alike(picture, drawn[name]):
            return f"the page has another picture than the numbers give in the place of plots/{name}"
    return ""


def _alike(one: bytes, other: bytes) -> bool:
    """Whether two pictures are the same, but for how a version of matplotlib or a processor rounds."""
    import matplotlib.image

    if one == other:
        return True
    try:
        a, b = (matplotlib.image.imread(io.BytesIO(picture), format="png") for picture in (one, other))
    except (SyntaxError, *results.UNREADABLE):
        return False
    return a.shape == b.shape and float((np.abs(a - b) > FAR).any(axis=-1).mean()) <= FEW


def _classes(outputs: Any) -> Any:
    """Classes of outputs (..., 1) by Keras's threshold of one half, of (..., k) by the largest."""
    return (outputs[..., 0] > 0.5).astype(int) if outputs.shape[-1] == 1 else outputs.argmax(axis=-1)


CHECKS: dict[str, Callable[[Path], str]] = {
    "digests": _digests,
    "proposals, promotions and best": _search,
    "finalists": _finalists,
    "ablation": _ablation,
    "counts and intervals": _figures,
    NETWORKS: _networks,
    "report": _report,
}
