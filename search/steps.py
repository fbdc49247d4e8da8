"""The steps of an exercise, each of which continues, reuses or refuses what it finds in the results folder."""

from __future__ import annotations

import contextlib
import io
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from search import data, evidence, provenance, store, summary
from search.errors import RequestError, WorkError, first_line
from search.exercise import Exercise
from search.progress import Progress, duration

if TYPE_CHECKING:
    from search.workers import Workers


@dataclass
class Session:
    """One command's hold on one exercise: its results folder, data and workers, which start with the first step that trains."""

    exercise: Exercise
    script: Path
    results: Path
    source_name: str | None
    worker_count: int | None
    seed: int
    console: Console
    cluster: str | None = None

    def __post_init__(self) -> None:
        self.folder = self.results / self.exercise.name
        self.source: data.Source
        self._workers: Workers | None = None

    @contextlib.contextmanager
    def held(self, fresh: bool) -> Iterator[None]:
        """Locks the results folder, checks the data, and at the end stops the workers.

        Raises:
            RequestError: the folder is in use or cannot be written, or the data cannot be read.
        """
        self.source = data.load(self.source_name)
        with store.locked(self.folder):
            if fresh:
                self._set_aside()
            try:
                yield
            finally:
                if self._workers is not None:
                    self._workers.close()

    def start_workers(self) -> Workers:
        """The workers; they import TensorFlow while this process does."""
        if self._workers is None:
            from search import workers

            if self.cluster is not None:
                from search.cluster import RayWorkers

                self._workers = RayWorkers(self.cluster, self.worker_count, self.script, self.source)
            elif self.worker_count:
                self._workers = workers.LocalPool(
                    self.worker_count, self.script, self.source_name, self.exercise.trial_seconds
                )
            else:
                self._workers = workers.InProcess(self.script, self.source_name)
        return self._workers

    def hypermodel(self) -> tuple[Any, Any, dict[str, Any]]:
        """The exercise's HyperModel, its space, and the starting model's values, checked.

        Raises:
            RequestError: it raises, returns no compiled model, or does not fit the starting model.
        """
        import search.runtime  # noqa: F401
        from search import strategy
        from search.trial import build

        where = self.script.name
        try:
            hypermodel = self.exercise.hypermodel()
            space = strategy.search_space(hypermodel)
            hp, _ = build(hypermodel, self.exercise.start, (self.seed,))
        except Exception as error:  # whatever the exercise's own code raises
            raise RequestError(
                f"{where}: building the model raised {type(error).__name__}: {first_line(error)}; "
                "expected build(self, hp) to return a compiled Keras model"
            ) from None
        if not space.space:
            raise RequestError(
                f"{where}: build asks hp for nothing; expected at least one hyper-parameter, as in hp.Choice(...)"
            )
        wrong = _misfit(space, self.exercise.start)
        if wrong:
            raise RequestError(f"{where}: the starting model's {wrong}")
        for name in (*self.exercise.sweeps, *self.exercise.retuned, *self.exercise.retuned.values()):
            if all(parameter.name != name for parameter in space.space):
                raise RequestError(f"{where}: the Exercise asks for a sweep of {name}, which is not in the space")
        return hypermodel, space, dict(hp.values)

    def run(self) -> dict[str, Any]:
        """``run.json`` as it stands, checked; a new one where there is none.

        Raises:
            WorkError: it is damaged.
        """
        path = self.folder / "run.json"
        if not path.exists():
            return {"format": 1, "steps": {}}
        steps = evidence.read_record(self.folder).steps.items()
        lost = [name for name, step in steps if not {"settings", "complete"} <= step.keys()]
        if lost:
            raise WorkError(f"{path} holds no settings of its {lost[0]}; set the folder aside with --fresh")
        run: dict[str, Any] = store.read_json(path)
        return run

    def best(self) -> dict[str, Any]:
        """The best configuration of the search.

        Raises:
            WorkError: there is none yet, or its file is damaged.
        """
        if not (self.folder / "best.json").exists():
            raise WorkError(f"{self.folder} holds no search; run `python {self.script.name} search` first")
        best = evidence.read_search(self.folder).best
        assert best is not None
        return dict(best.hyperparameters)

    def record(self, step: str, facts: Mapping[str, Any], start: Mapping[str, Any]) -> None:
        """Writes ``facts`` of a step into ``run.json``."""
        run = self.run()
        run["exercise"] = {
            "name": self.exercise.name,
            "title": self.exercise.title,
            "question": self.exercise.question,
            "task": self.exercise.task,
            "classes": list(data.TASKS[self.exercise.task].classes),
            "objective": self.exercise.objective,
            "direction": self.exercise.direction,
            "start": dict(start),
            "sweeps": list(self.exercise.sweeps),
        }
        validation = data.VALIDATION_IMAGES
        run["data"] = {
            "source": self.source.name,
            "sha256": self.source.sha256,
            "train": len(self.source.images) - validation,
            "validation": validation,
            "test": self.source.test_images,
        }
        run["steps"][step] = dict(facts)
        store.write_json(self.folder / "run.json", run)

    def say(self, text: str) -> None:
        """Prints a line for the person at the terminal."""
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def _set_aside(self) -> None:
        mine = (
            "search",
            "retrain",
            "sweeps",
            "plots",
            "trials.csv",
            "summary.txt",
            "best.json",
            "run.json",
            "report.html",
        )
        found = [self.folder / name for name in mine if (self.folder / name).exists()]
        if found:
            k = 1
            while (aside := self.results / f"{self.exercise.name}.old-{k}").exists():
                k += 1
            aside.mkdir()
            for path in found:
                path.rename(aside / path.name)
            self.say(f"--fresh: the earlier results are now in {aside}")


def search(session: Session, *, tuner: str, max_epochs: int, trials: int) -> None:
    """Plans, searches, and leaves ``trials.csv`` and ``best.json``; goes on with a search that was interrupted.

    Raises:
        RequestError: the folder holds a search of another space, data, seed or budget.
        WorkError: no trial completed, or the work could not be written.
    """
    settings = {
        "tuner": tuner,
        "max_epochs": max_epochs,
        "trials": trials if tuner == "random" else 0,
        "seed": session.seed,
        "data": session.source.sha256,
        "objective": session.exercise.objective,
    }
    earlier = session.run()["steps"].get("search")
    if earlier is not None:
        _refuse_changes(session, earlier["settings"], settings)
    files = (session.folder / "trials.csv", session.folder / "best.json")
    complete = earlier is not None and earlier["complete"] and _readable(session, *files)
    if complete and earlier["source"] == provenance.source_sha256(session.script):
        _say_complete(session, earlier)
        return
    workers = session.start_workers()
    _, space, start = session.hypermodel()
    import keras_tuner

    from search import driver, strategy

    settings |= {"space": [_describe(parameter) for parameter in space.space]}
    if earlier is not None:
        _refuse_changes(session, earlier["settings"], settings)
    if complete:
        _say_complete(session, earlier)
        return
    common = {
        "objective": keras_tuner.Objective(session.exercise.objective, session.exercise.direction),
        "seed": session.seed,
        "hyperparameters": space,
    }
    oracle = (
        strategy.HyperbandOracle(max_epochs=max_epochs, **common)
        if tuner == "hyperband"
        else strategy.RandomSearchOracle(max_trials=trials, epochs=max_epochs, **common)
    )
    oracle.mark = _as_json({"exercise": session.exercise.name, **settings})
    del oracle.mark["space"]  # each trial's values say more
    known = driver.known_outcomes(session.folder, oracle, session.say)
    if earlier is not None:
        _say_changes(session, earlier)
    if earlier is not None or known:
        session.say(f"Going on with the search that was interrupted: {len(known)} trials are done.")
    rungs = oracle.rungs
    planned = sum(rung.trials for rung in rungs)
    overhead, epoch_seconds = _measure(session, workers, start)
    costs = {rung: overhead + epoch_seconds * (rung.epochs - rung.initial_epoch) for rung in rungs}
    work = sum(cost * rung.trials for rung, cost in costs.items())
    _print_plan(session, tuner, rungs, work / workers.size, workers.size, epoch_seconds)

    facts = {
        **provenance.collect(session.script, workers.size),
        **{key: settings[key] for key in ("tuner", "max_epochs", "trials", "seed", "space")},
        "factor": strategy.FACTOR,
        "settings": settings,
        "predicted_seconds": round(work / workers.size, 1),
        "complete": False,
    }
    began, before = time.monotonic(), (earlier or {}).get("seconds", 0.0)

    def tally() -> dict[str, Any]:
        ended = [trial for trial in oracle.trials.values() if trial.status in ("COMPLETED", "FAILED")]
        return {
            "seconds": round(before + time.monotonic() - began, 2),
            "trials_run": len(ended),
            "epochs_trained": sum(_epochs_of(trial, rungs) for trial in ended),
        }

    session.record("search", {**facts, **tally()}, start)
    complete = False
    try:
        with Progress(session.console, "trials", planned, work) as progress:

            def watch(told: driver.Told) -> None:
                cost = costs[_rung_of(told.trial, rungs)]
                if told.reused:
                    progress.skip(cost)
                    return
                best = driver.best_trial(oracle)
                progress.advance(cost, _event(told.trial, best), _best_line(best))

            driver.search(oracle, workers, session.folder, session.seed, watch, known)
        complete = driver.best_trial(oracle) is not None
    finally:
        session.record("search", {**facts, **tally(), "complete": complete}, start)
    best = driver.best_trial(oracle)
    if best is None:
        reason = next((trial.message for trial in oracle.trials.values() if trial.message), "no trial could be made")
        raise WorkError(f"no trial completed; the first failed with: {reason}")
    if oracle.exhausted:
        session.say(
            f"The space is exhausted: every one of its configurations has been tried ({len(oracle.trials)} trials)."
        )
    done = tally()
    session.say(
        f"Searched {done['trials_run']} trials, {done['epochs_trained']} epochs, in {duration(done['seconds'])}. {_best_line(best)}."
    )


def show_summary(session: Session, form: str) -> None:
    """Prints the summary as ``text`` (and leaves ``summary.txt``), ``csv`` or ``json``.

    Raises:
        WorkError: there is no search yet, or its files are damaged.
    """
    if not (session.folder / "trials.csv").exists():
        raise WorkError(f"{session.folder} holds no search; run `python {session.script.name} search` first")
    if form == "csv":
        print(summary.as_csv(session.folder), end="")
    elif form == "json":
        print(summary.as_json(session.folder))
    else:
        summary.print_summary(session.folder, session.console)
        text = io.StringIO()
        summary.print_summary(session.folder, Console(file=text, width=120))
        store.write_text(session.folder / "summary.txt", text.getvalue())


def retrain(session: Session, *, epochs: int, seeds: int) -> None:
    """Trains the best configuration and the starting model again, evaluates both on the test images.

    Raises:
        WorkError: there is no best configuration yet, or a training failed.
    """
    best = session.best()
    settings = {
        "epochs": epochs,
        "seeds": seeds,
        "seed": session.seed,
        "data": session.source.sha256,
        "hyperparameters": best,
    }
    folder = session.folder / "retrain"
    retrained = ("metrics.json", "history.csv", "start_history.csv", "misread.npz")
    if _reusable(session, "retrain", settings, *(folder / name for name in retrained)):
        _print_metrics(session, store.read_json(folder / "metrics.json"))
        return
    workers = session.start_workers()
    _, space, start = session.hypermodel()
    wrong = _misfit(space, best)
    if wrong:
        raise RequestError(
            f"{session.folder / 'best.json'} is of another space: its {wrong}; search again with --fresh"
        )
    from search import retrain as retraining

    models = {"tuned": best, "start": start}
    facts = {**provenance.collect(session.script, workers.size), **settings, "settings": settings}
    session.say(
        f"Retraining for {epochs} epochs, {seeds} {'seeds' if seeds > 1 else 'seed'} each: {summary.one_line(best)} and the starting model."
    )
    session.record("retrain", {**facts, "complete": False}, start)
    began = time.monotonic()
    with Progress(session.console, "trainings", 2 * seeds, 2.0 * seeds) as progress:
        metrics = retraining.retrain(
            session.exercise,
            models,
            session.source,
            workers,
            folder,
            epochs=epochs,
            seeds=seeds,
            seed=session.seed,
            watch=_watch(progress),
        )
    session.record("retrain", {**facts, "seconds": round(time.monotonic() - began, 2), "complete": True}, start)
    _print_metrics(session, metrics)


def sweep(session: Session, name: str, *, epochs: int, seeds: int, held_from: str, most_values: int | None) -> None:
    """Tries the values of one hyper-parameter.

    Args:
        held_from: ``start`` or ``best``: where the other values come from.
        most_values: keep this many of the values, evenly chosen; None keeps all.

    Raises:
        RequestError: the space has no such hyper-parameter.
        WorkError: there is no best configuration yet, or every training failed.
    """
    best = session.best() if held_from == "best" else None
    workers = session.start_workers()
    _, space, start = session.hypermodel()
    from search import sweep as sweeping

    values = sweeping.values_of(space, name, most_values)
    held = start if best is None else best
    retuned = session.exercise.retuned.get(name)
    candidates = [] if retuned is None else sweeping.values_of(space, retuned, most_values)
    settings = {"from": held_from, "values": values, "held": held, "epochs": epochs, "seeds": seeds}
    settings |= {"retuned": retuned, "candidates": candidates}
    settings |= {"seed": session.seed, "data": session.source.sha256}
    step, folder = f"sweep {name}", session.folder / "sweeps"
    if _reusable(session, step, settings, folder / f"{name}.csv"):
        return
    facts = {**provenance.collect(session.script, workers.size), **settings, "settings": settings}
    model = "starting model" if held_from == "start" else "best configuration"
    session.say(
        f"Sweep of {name} from the {model}: {', '.join(map(summary.format_value, values))}; {epochs} epochs, "
        f"{seeds} {'seeds' if seeds > 1 else 'seed'} a value"
        + (f", each at the best of {len(candidates)} values of {retuned}." if retuned else ".")
    )
    trainings = len(values) * (max(1, len(candidates)) + seeds - 1)
    session.record(step, {**facts, "complete": False}, start)
    began = time.monotonic()
    with Progress(session.console, "trainings", trainings, float(trainings)) as progress:
        rows, chosen = sweeping.sweep(
            name,
            values,
            held,
            workers,
            folder,
            retuned=retuned,
            candidates=candidates,
            epochs=epochs,
            seeds=seeds,
            seed=session.seed,
            watch=_watch(progress),
        )
    facts |= {"chosen": chosen}
    session.record(step, {**facts, "seconds": round(time.monotonic() - began, 2), "complete": True}, start)
    _print_sweep(session, name, rows, chosen)


def report(session: Session) -> None:
    """Writes the plots and ``report.html`` from what the folder holds.

    Raises:
        WorkError: there is nothing to report, or a file is damaged.
    """
    from search import report as reporting

    if not (session.folder / "run.json").exists():
        raise WorkError(f"{session.folder} holds no results; run `python {session.script.name}` first")
    session.say(f"The report is {reporting.write_report(session.folder)}")


def _measure(session: Session, workers: Workers, start: dict[str, Any]) -> tuple[float, float]:
    """Seconds a trial takes beside its epochs, and seconds an epoch, of the starting model on this machine."""
    from search.trial import Job
    from search.workers import run_all

    state = session.folder / ".measured.npz"
    state.unlink(missing_ok=True)  # of a process that was killed: it would be gone on with, and nothing measured
    job = Job("measurement", start, (session.seed,), 2, (2,), state)
    (outcome,) = run_all(workers, [job], lambda job, outcome: None)
    with contextlib.suppress(OSError):
        state.unlink()
    if not outcome.completed:
        raise RequestError(f"{session.script.name}: the starting model cannot be trained: {outcome.message}")
    objective = session.exercise.objective
    if objective not in outcome.history:
        raise RequestError(
            f"{session.script.name}: the objective {objective} is not among the model's metrics ({', '.join(outcome.history)}); "
            "name it in compile(metrics=[...])"
        )
    epoch = (outcome.epoch_seconds or (outcome.seconds / 2,))[-1]
    return max(0.0, outcome.seconds - 2 * epoch), epoch


def _readable(session: Session, *files: Path) -> bool:
    """Whether a step's files can be used; one that cannot is set aside, to be written again from the states."""
    try:
        evidence.read_exercise(session.folder)
    except WorkError as error:
        for path in files:
            if str(path) in str(error):
                aside = store.set_aside(path)
                damage = str(error).rpartition("; ")[0]
                session.say(f"{damage}; {'kept as ' + aside.name + ' and ' if aside else ''}written again now.")
                return False
    return True


def _say_complete(session: Session, earlier: dict[str, Any]) -> None:
    _say_changes(session, earlier)
    session.say(
        f"The search is complete ({earlier['trials_run']} trials) and is used as it is; --fresh starts another."
    )


def _print_plan(
    session: Session, tuner: str, rungs: list[Any], seconds: float, workers: int, epoch_seconds: float
) -> None:
    trials = sum(rung.trials for rung in rungs)
    epochs = sum(rung.trials * (rung.epochs - rung.initial_epoch) for rung in rungs)
    name = "Hyperband" if tuner == "hyperband" else "Random search"
    session.console.print(
        f"[bold]{session.exercise.title}[/bold]: {name}, {trials} trials, {epochs} epochs", highlight=False
    )
    if tuner == "hyperband":
        table = Table(box=None, pad_edge=False, header_style="dim")
        table.add_column("bracket", justify="right")
        table.add_column("trials to epoch, rung by rung")
        for bracket in sorted({rung.bracket for rung in rungs}, reverse=True):
            steps = [f"{rung.trials} to {rung.epochs}" for rung in rungs if rung.bracket == bracket]
            table.add_row(str(bracket), ", ".join(steps))
        session.console.print(table)
    session.say(
        f"Predicted: about {duration(seconds)} with {workers} "
        f"{'worker' if workers < 2 else 'workers'} (the starting model takes {epoch_seconds:.2f} s an epoch here)."
    )


def _reusable(session: Session, step: str, settings: dict[str, Any], *files: Path) -> bool:
    """Whether the step has been done with these settings; one done with others is set aside, one under way goes on.

    Args:
        files: what the step leaves, the one that it writes last first.
    """
    result = files[0]
    earlier = session.run()["steps"].get(step)
    if earlier is None or earlier["settings"] == _as_json(settings):
        if earlier is not None and earlier["complete"] and result.exists() and _readable(session, *files):
            session.say(f"{step}: done before with the same settings; used as it is.")
            return True
        return False
    aside = store.set_aside(result if step.startswith("sweep") else result.parent)
    if step.startswith("sweep"):
        for state in (result.parent / "states").glob(f"{result.stem}-*.npz"):
            state.unlink()
    if aside is not None:
        session.say(f"{step}: the settings changed; the earlier result is now {aside}")
    return False


def _as_json(settings: dict[str, Any]) -> Any:
    import json

    return json.loads(json.dumps(settings))


def _refuse_changes(session: Session, earlier: dict[str, Any], settings: dict[str, Any]) -> None:
    now = _as_json(settings)
    spaces = earlier.get("space"), now.pop("space", None)
    changed = provenance.changes(earlier, now)
    if spaces[1] is not None and spaces[0] != spaces[1]:
        changed += _space_changes(*spaces) or ["the space changed"]
    if changed:
        raise RequestError(
            f"{session.folder} holds a search with other settings ({'; '.join(changed)}); repeat it with its own, or use "
            "--fresh to set it aside"
        )


def _space_changes(earlier: Any, now: list[dict[str, Any]]) -> list[str]:
    with contextlib.suppress(TypeError, KeyError, AttributeError):  # whatever run.json holds
        before, after = ({f"{hp['name']} {hp['conditions']}": hp for hp in space} for space in (earlier, now))
        gone = [f"{hp['name']} is no longer in the space" for key, hp in before.items() if key not in after]
        new = [f"{hp['name']} is new in the space" for key, hp in after.items() if key not in before]
        changed = [
            f"{hp['name']}: {change}"
            for key, hp in after.items()
            if key in before
            for change in provenance.changes(before[key], hp)
        ]
        return gone + new + changed or ["the space has another order"]
    return []


def _say_changes(session: Session, earlier: dict[str, Any]) -> None:
    """What else is different since the search began: its trials stay comparable unless the person knows better."""
    now = provenance.collect(session.script, 0)
    with evidence.reading(
        session.folder / "run.json", "the versions a search began with", "set the folder aside with --fresh"
    ):
        was, source = dict(earlier["versions"]), earlier["source"]
    for name, version in was.items():
        if now["versions"].get(name) != version:
            session.say(
                f"Note: {name} was {version} when the search began and is now {now['versions'].get(name)}; "
                "what is trained from now on may differ in the last bits."
            )
    if source != now["source"]:
        session.say(
            "Note: the code changed since the search began; --fresh starts another if that changes what a trial does."
        )


def _misfit(space: Any, values: Mapping[str, Any]) -> str:
    """Which of the values the space does not hold, in words; empty when it holds all."""
    for name, value in values.items():
        found = [parameter for parameter in space.space if parameter.name == name]
        if not found:
            return f"{name}, which is not in the space"
        if not any(_admits(parameter, value) for parameter in found):
            return f"{name} is {value!r}, which the space does not contain"
    return ""


def _admits(parameter: Any, value: Any) -> bool:
    config = parameter.get_config()
    if "min_value" in config:
        return isinstance(value, (int, float)) and config["min_value"] <= value <= config["max_value"]
    return value in list(parameter.values)


def _describe(parameter: Any) -> dict[str, Any]:
    config = parameter.get_config()
    listed = None if "min_value" in config else list(parameter.values)
    return {
        "name": parameter.name,
        "type": type(parameter).__name__,
        "values": listed,
        **{key: config.get(key) for key in ("min_value", "max_value", "step", "sampling")},
        "conditions": " and ".join(
            f"{condition.name} is {' or '.join(map(str, condition.values))}" for condition in parameter.conditions
        ),
    }


def _rung_of(trial: Any, rungs: list[Any]) -> Any:
    values = trial.hyperparameters.values
    place = (values.get("tuner/bracket", 0), values.get("tuner/round", 0))
    return next(rung for rung in rungs if (rung.bracket, rung.round) == place)


def _epochs_of(trial: Any, rungs: list[Any]) -> int:
    rung = _rung_of(trial, rungs)
    return int(rung.epochs - rung.initial_epoch)


def _event(trial: Any, best: Any) -> str:
    from search import driver

    values = summary.one_line(driver.own_values(trial.hyperparameters.values))
    if trial.status == "FAILED":
        return f"trial {trial.trial_id} failed: {trial.message}; {values}"
    epochs = trial.hyperparameters.values.get("tuner/epochs") or len(trial.metrics.get_history("loss"))
    note = f"; {trial.message}" if trial.message else ""
    return f"trial {trial.trial_id}: {trial.score:.4f} after {epochs} {'epoch' if epochs == 1 else 'epochs'}; best {best.score:.4f}; {values}{note}"


def _best_line(best: Any) -> str:
    from search import driver

    if best is None:
        return ""
    return f"Best so far: {best.score:.4f}, {summary.one_line(driver.own_values(best.hyperparameters.values))}"


def _watch(progress: Progress) -> Callable[[Any, Any], None]:
    def watch(job: Any, outcome: Any) -> None:
        if not outcome.completed:
            progress.advance(1.0, f"{job.name} failed: {outcome.message}")
            return
        accuracy = outcome.history.get("val_accuracy", [math.nan])[-1]
        progress.advance(1.0, f"{job.name}: loss {outcome.history['loss'][-1]:.4f}, validation accuracy {accuracy:.4f}")

    return watch


def _print_metrics(session: Session, metrics: dict[str, Any]) -> None:
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("")
    for column in (f"loss at {metrics['epochs']} epochs", "test accuracy", "95 % interval"):
        table.add_column(column, justify="right")
    for name, title in (("tuned", "tuned"), ("start", "starting model")):
        model = metrics[name]
        low, high = model["interval"]
        table.add_row(title, f"{model['loss']:.4g}", f"{model['test_accuracy']:.2%}", f"{low:.2%} to {high:.2%}")
    session.console.print(table)
    session.say(f"Always answering the most frequent class would score {metrics['majority_accuracy']:.2%}.")


def _print_sweep(session: Session, name: str, rows: list[dict[str, Any]], chosen: dict[str, Any]) -> None:
    import statistics

    table = Table(box=None, pad_edge=False, header_style="dim")
    retuned = session.exercise.retuned.get(name)
    for column in (f"{name}, {retuned}" if retuned else name, "validation accuracy", "±", "loss", "seconds an epoch"):
        table.add_column(column, justify="right")
    for value in dict.fromkeys(row["value"] for row in rows):
        group = [row for row in rows if row["value"] == value]
        accuracies = [row["val_accuracy"] for row in group]
        table.add_row(
            ", ".join(map(summary.format_value, (value, *([chosen[str(value)]] if chosen else [])))),
            f"{statistics.fmean(accuracies):.4f}",
            f"{statistics.stdev(accuracies):.4f}" if len(accuracies) > 1 else "-",
            f"{statistics.fmean(row['loss'] for row in group):.4g}",
            f"{statistics.fmean(row['seconds_per_epoch'] for row in group):.3f}",
        )
    session.console.print(table)
