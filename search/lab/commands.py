"""The steps of an exercise, each of which continues, reuses or refuses what it finds in the results folder."""

from __future__ import annotations

import contextlib
import json
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from search import files, provenance, results
from search.errors import RequestError, WorkError
from search.lab import planning, printing
from search.lab.session import Session
from search.oracles import space as spaces
from search.report import console, figures, sentences, sweep_sentences
from search.report.progress import Progress

if TYPE_CHECKING:
    from search.lab.forecast import Forecast
    from search.workers.base import Workers


def search(session: Session, *, tuner: str, max_epochs: int, trials: int) -> None:
    """Plans, searches, and leaves ``trials.csv`` and ``best.json``; goes on with a search that was interrupted.

    Args:
        tuner: ``hyperband`` or ``random``.
        max_epochs: of the longest trial.
        trials: of a random search.

    Raises:
        RequestError: the folder holds a search of another space, data, seed or budget.
        WorkError: no trial completed, or the work could not be written.
    """
    settings = {
        "tuner": tuner,
        "max_epochs": max_epochs,
        "trials": trials if tuner == "random" else 0,
        "brackets": None,  # all of Hyperband's
        **session.identity(),
        "objective": session.exercise.objective,
    }
    earlier = session.run()["steps"].get("search")
    settings |= planning.planned_before(session, "search")
    if earlier is not None:
        _refuse_changes(session, earlier["settings"], settings)
    session.refuse_another("search")
    complete = earlier is not None and earlier["complete"] and _readable(session, *session.searched)
    if complete and earlier["source"] == provenance.source_sha256(session.script):
        _say_complete(session, earlier)
        return
    session.start_workers()
    model, start, space = session.start()
    settings |= {
        "space": [spaces.describe(parameter) for parameter in space.space],
        "first": [dict(values) for values in (session.exercise.start, *session.exercise.first)],
    }
    if earlier is not None:
        _refuse_changes(session, earlier["settings"], settings)
    if complete:
        _say_complete(session, earlier)
        return
    from search.lab.searching import Run

    run = Run(session, _as_json(settings), space, start, (earlier or {}).get("seconds", 0.0))
    if earlier is not None:
        _say_changes(session, earlier)
    if earlier is not None or run.known:
        session.say(f"Going on with the search that was interrupted: {len(run.known)} trials are done.")
    run.plan(model, _xla_break_even(session))
    run.search()
    _sum_up_again(session)


def finalists(session: Session, *, count: int, seeds: int) -> None:
    """Trains the best configurations and the starting model again on fresh seeds; ``best.json`` then holds the winner.

    Args:
        count: how many configurations of the search, the starting model not counted.
        seeds: trainings of each, for as many epochs as the search's longest trial.

    Raises:
        RequestError: the search has other data, another seed or another space.
        WorkError: there is no search yet, or every finalist failed.
    """
    best = session.best()
    session.refuse_another("finalists")
    searched = session.run()["steps"]["search"]
    found = results.read_search(session.folder)
    epochs = int(searched["settings"]["max_epochs"])
    request = {"finalists": count, "seeds": seeds, "epochs": epochs, "trials": len(found.trials), **session.identity()}
    request |= {"start": dict(session.exercise.start)}
    request |= planning.planned_before(session, "finalists")
    path = session.folder / "finalists" / "finalists.json"
    if _as_before(session, "finalists", request, path):
        _take_winner(session)
        return
    from search.lab import finalists as finals

    workers, start, _ = _ready(session, best)
    xla_break_even = _xla_break_even(session)
    fitting = planning.finalists(session, found.search, start, count, seeds, epochs, xla_break_even)
    if fitting is None:
        return
    candidates, seeds, plan = fitting
    request |= plan
    settings = {"seeds": seeds, "epochs": epochs, **session.identity()}
    settings |= {"finalists": [dict(candidate.hyperparameters) for candidate in candidates]}
    if _reusable(session, "finalists", settings, path):
        _take_winner(session)
        return
    _give_best_back(session, found)
    earlier = _keep_earlier(session, "finalists", settings, path.parent)
    facts = {**settings, "settings": settings, "request": request, "earlier": earlier, **planning.plan(session, **plan)}
    trained = [candidate.hyperparameters for candidate in candidates] * seeds
    forecast = planning.forecast(session, trained, epochs, xla_break_even)
    others = len(candidates) - 1
    who = (
        f"the best {figures.plural(others, 'configuration')} and the starting model"
        if others
        else "the starting model alone"
    )
    session.say(
        f"Finalists: {who}, {figures.plural(epochs, 'epoch')}, "
        f"{seeds} fresh {'seeds' if seeds > 1 else 'seed'} each; {forecast.about()}."
    )
    with _training(session, "finalists", start, facts, forecast, path) as watch:
        finals.compete(
            candidates,
            start,
            workers,
            path.parent,
            objective=session.exercise.objective,
            maximise=session.exercise.better == "max",
            epochs=epochs,
            seeds=seeds,
            seed=session.seed,
            xla_break_even=xla_break_even,
            watch=watch,
        )
    _take_winner(session)


def _take_winner(session: Session) -> None:
    """Makes the finalists' winner the best configuration, and says who it is."""
    exercise = results.read_search(session.folder)
    assert exercise.finalists is not None
    searched = exercise.steps["search"]
    sealed = {name: digest for name, digest in searched.get("files", {}).items() if name != "best.json"}
    session.record("search", {**searched, "files": sealed}, exercise.start)
    won, epochs = exercise.finalists.finalists[exercise.finalists.winner], exercise.finalists.epochs
    best = results.Best(won.trial_id, float(won.scores.mean()), epochs, epochs, won.hyperparameters, "finalists")
    _write_best(session, exercise.objective, best)
    if session.rest is None:  # else the summary, which has them, comes next
        console.print_finalists(results.read_search(session.folder), session.console)
    _sum_up_again(session)


def _give_best_back(session: Session, exercise: results.Results) -> None:
    """Makes the search's own choice the best configuration again, until other finalists have ended."""
    if exercise.best is None or exercise.best.chosen_by == "search":
        return
    best = exercise.search.own_best()
    assert best is not None
    _write_best(session, exercise.objective, best)


def _write_best(session: Session, objective: str, best: results.Best) -> None:
    chosen = {} if best.chosen_by == "search" else {"chosen_by": best.chosen_by}
    files.write_json(
        session.folder / "best.json",
        {
            "trial_id": best.trial_id,
            "objective": objective,
            "score": best.score,
            "best_epoch": best.best_epoch,
            "epochs": best.epochs,
            "hyperparameters": best.hyperparameters,
            **chosen,
        },
    )


def _sum_up_again(session: Session) -> None:
    """A summary that is there is kept to what the folder holds now."""
    if (session.folder / "summary.txt").exists():
        files.write_text(session.folder / "summary.txt", console.summary(session.folder))


def show_summary(session: Session, form: str) -> None:
    """Prints the summary as ``text`` (and leaves ``summary.txt``), ``csv`` or ``json``.

    Raises:
        WorkError: there is no search yet, or its files are damaged.
    """
    if not (session.folder / "trials.csv").exists():
        raise session.no_search()
    if form == "csv":
        print(console.as_csv(session.folder), end="")
    elif form == "json":
        print(console.as_json(session.folder))
    else:
        console.print_summary(session.folder, session.console)
        files.write_text(session.folder / "summary.txt", console.summary(session.folder))


def retrain(session: Session, *, epochs: int, seeds: int, again: bool = False) -> None:
    """Trains the best configuration and the starting model again, evaluates both on the test images.

    Args:
        again: the test images may be read though they have been for this search.

    Raises:
        RequestError: the search has other data, another seed or space, or the test images have been read for it.
        WorkError: there is no best configuration yet, or a training failed.
    """
    best = session.best()
    session.refuse_another("retrain")
    xla_break_even = _xla_break_even(session)
    fits = planning.fitting_seeds(session, "retrain", seeds, [best, session.exercise.start], epochs, xla_break_even)
    if fits is None:
        return
    seeds = fits
    settings = {
        "epochs": epochs,
        "seeds": seeds,
        **session.identity(),
        "hyperparameters": best,
        "start": dict(session.exercise.start),
    }
    folder = session.folder / "retrain"
    tables = ("metrics.json", "history.csv", "start_history.csv", "misread.npz", "predictions.npz")
    retrained = (*tables, "model.keras", "best_epoch_model.keras", "start_model.keras")
    if _reusable(session, "retrain", settings, *(folder / name for name in retrained)):
        printing.print_metrics(session, files.read_json(folder / "metrics.json"))
        return
    session.refuse_second_reading(settings, again)
    earlier = _keep_earlier(session, "retrain", settings, folder)
    workers, start, _ = _ready(session, best)
    from search.lab import retrain as retraining

    models = {"tuned": best, "start": start}
    facts = {**settings, "settings": settings, "earlier": earlier, **planning.plan(session, seeds=seeds)}
    forecast = planning.forecast(session, [best, start] * seeds, epochs, xla_break_even)
    session.say(
        f"Retraining for {epochs} epochs, {seeds} {'seeds' if seeds > 1 else 'seed'} each, {forecast.about()}: "
        f"{sentences.configuration(best)} and the starting model."
    )
    written = (folder / name for name in retrained)
    with _training(session, "retrain", start, facts, forecast, *written) as watch:
        metrics = retraining.retrain(
            session.exercise,
            models,
            session.source,
            workers,
            folder,
            epochs=epochs,
            seeds=seeds,
            seed=session.seed,
            xla_break_even=xla_break_even,
            watch=watch,
            read_test=lambda: session.read_test("retrain", settings),
        )
    for before in earlier:
        session.say(f"Before, in {session.folder / before['folder']} ({'; '.join(before['changes'])}):")
        printing.print_metrics(session, files.read_json(session.folder / before["folder"] / "metrics.json"))
    if earlier:
        session.say("Now:")
    printing.print_metrics(session, metrics)


def sweep(
    session: Session,
    name: str,
    *,
    epochs: int,
    seeds: int,
    held_from: str,
    most_values: int | None,
) -> None:
    """Tries the values of one hyper-parameter.

    Args:
        held_from: ``start`` or ``best``: where the other values come from.
        most_values: keep this many of the values, evenly chosen; None keeps all.

    Raises:
        RequestError: the space has no such hyper-parameter, or the search has other data or another seed.
        WorkError: there is no best configuration yet, or every training failed.
    """
    best = session.best() if held_from == "best" else None
    step, folder = f"sweep {name}", session.folder / "sweeps"
    table = folder / f"{files.slug(name)}.csv"
    session.refuse_another(step)
    seeds = planning.planned_before(session, step).get("seeds", seeds)
    request = {"from": held_from, "best": best, "most_values": most_values, "epochs": epochs, "seeds": seeds}
    request |= {"start": dict(session.exercise.start), **session.identity()}
    if _as_before(session, step, request, table):
        return
    workers = session.start_workers()
    _, start, space = session.start()
    from search.lab import sweep as sweeping

    values = sweeping.values_of(space, name, most_values)
    held = start if best is None else best
    retuned = session.exercise.retuned.get(name)
    candidates = [] if retuned is None else sweeping.values_of(space, retuned, most_values)
    tried = [{**held, name: value} for value in values]
    choosing = [{**one, retuned: candidate} for one in tried for candidate in candidates]
    break_even = sweeping.break_even(epochs)
    fits = planning.fitting_seeds(session, step, seeds, tried, epochs, break_even, choosing)
    if fits is None:
        return
    seeds = request["seeds"] = fits
    settings = {"from": held_from, "values": values, "held": held, "epochs": epochs, "seeds": seeds}
    settings |= {"retuned": retuned, "candidates": candidates, **session.identity()}
    if _reusable(session, step, settings, table):
        return
    earlier = _keep_earlier(session, step, settings, table)
    facts = {**settings, "settings": settings, "request": request, "earlier": earlier}
    facts |= planning.plan(session, seeds=seeds)
    losses = [session.loss_function_of(one) for one in tried]
    facts["one_loss"] = all(loss == losses[0] for loss in losses)
    trained = [*choosing, *tried * seeds]
    forecast = planning.forecast(session, trained, epochs, break_even)
    model = "starting model" if held_from == "start" else "best configuration"
    how = f", each at the best of {len(candidates)} values of {retuned}, chosen with another seed" if retuned else ""
    session.say(
        f"Sweep of {name} from the {model}: {', '.join(map(figures.value, values))}; {figures.plural(epochs, 'epoch')}, "
        f"{seeds} {'seeds' if seeds > 1 else 'seed'} a value{how}; {forecast.about()}."
    )
    with _training(session, step, start, facts, forecast, table) as watch:
        rows, chosen = sweeping.sweep(
            name,
            values,
            held,
            workers,
            folder,
            retuned=retuned,
            candidates=candidates,
            objective=session.exercise.objective,
            maximise=session.exercise.better == "max",
            epochs=epochs,
            seeds=seeds,
            seed=session.seed,
            watch=watch,
        )
        facts["chosen"] = chosen
    for before in earlier:
        session.say(f"An earlier sweep ({'; '.join(before['changes'])}) is in {session.folder / before['folder']}")
    printing.print_sweep(session, name, rows, chosen)
    swept = next(one for one in results.read_exercise(session.folder).sweeps if one.name == name)
    session.say(sweep_sentences.finding(swept))


def ablation(session: Session, *, epochs: int, seeds: int) -> None:
    """Goes from the starting model to the best configuration, one hyper-parameter a step, every step with the same seeds.

    Args:
        epochs, seeds: of each training, and how many trainings a step.

    Raises:
        RequestError: the search has other data, another seed or another space.
        WorkError: there is no best configuration yet, or every training failed.
    """
    best = session.best()
    session.refuse_another("ablation")
    seeds = planning.planned_before(session, "ablation").get("seeds", seeds)
    asked = {"epochs": epochs, "seeds": seeds, "best": best, **session.identity()}
    request = {**asked, "start": dict(session.exercise.start), "retuned": dict(session.exercise.retuned)}
    path = session.folder / "ablation" / "ablation.json"
    if _as_before(session, "ablation", request, path):
        return
    from search.lab import ablation as ablating

    workers, start, space = _ready(session, best)
    steps = ablating.steps_between(space, start, best, session.exercise.retuned, session.weights)
    if not steps:
        session.say("Ablation: the best configuration is the starting model; there is no step to take.")
        return
    configurations = ablating.along(space, start, best, steps)
    xla_break_even = _xla_break_even(session)
    fits = planning.fitting_seeds(session, "ablation", seeds, configurations, epochs, xla_break_even)
    if fits is None:
        return
    seeds = asked["seeds"] = request["seeds"] = fits
    settings = {**asked, "start": start, "steps": steps}
    if _reusable(session, "ablation", settings, path):
        return
    earlier = _keep_earlier(session, "ablation", settings, path.parent)
    facts = {**settings, "settings": settings, "request": request, "earlier": earlier}
    facts |= planning.plan(session, seeds=seeds)
    facts["loss_functions"] = [session.loss_function_of(values) for values in configurations]
    forecast = planning.forecast(session, configurations * seeds, epochs, xla_break_even)
    printing.print_steps(session, steps, epochs, seeds, forecast.about())
    with _training(session, "ablation", start, facts, forecast, path) as watch:
        ablating.ablate(
            steps,
            configurations,
            workers,
            path.parent,
            objective=session.exercise.objective,
            epochs=epochs,
            seeds=seeds,
            seed=session.seed,
            xla_break_even=xla_break_even,
            watch=watch,
        )
    console.print_ablation(results.read_exercise(session.folder), session.console)


def tensorboard(session: Session) -> None:
    """Writes every trial's curve and settings for TensorBoard.

    Raises:
        WorkError: there is no search, or its files are damaged.
    """
    import search.workers.runtime  # noqa: F401
    from search.report import tensorboard as board

    folder = board.write(session.folder)
    session.say(f"For TensorBoard: `python -m tensorboard.main --logdir {folder}`")


def report(session: Session) -> None:
    """Writes the plots and ``report.html`` from what the folder holds, unless they are of these very files already.

    Raises:
        WorkError: there is nothing to report, or a file is damaged.
    """
    folder = session.folder
    if not (folder / "run.json").exists():
        raise WorkError(f"{folder} holds no results; run `python {session.script.name}` first")
    page, made = folder / "report.html", folder / "plots" / ".made-of.json"
    if page.exists() and made.exists() and made.read_text(encoding="utf-8") == _report_made_of(session):
        session.say(f"The report is {page}, written before from the same results")
        return
    from search.report import page as reporting

    made.unlink(missing_ok=True)
    session.say(f"The report is {reporting.write_report(folder)}")
    left_out = results.read_exercise(folder).unrecorded
    if left_out:
        session.say(f"Note: no complete step is recorded that wrote {figures.listed(left_out)}; left out of it.")
    files.write_text(made, _report_made_of(session))


def _report_made_of(session: Session) -> str:
    """The digests of what a report reads and of what it leaves, and of the code between them."""
    patterns = (
        "*.json",
        "*.jsonl",
        "trials.csv",
        "finalists/*.json",
        "retrain/*.*",
        "sweeps/*.csv",
        "ablation/*.json",
        "plots/*.png",
        "report.html",
    )
    found = (path for pattern in patterns for path in session.folder.glob(pattern))
    paths = sorted(path for path in found if path.is_file() and not path.name.startswith("."))
    return json.dumps({"code": provenance.source_sha256(session.script), **files.digests(session.folder, *paths)})


def _ready(session: Session, best: Mapping[str, Any]) -> tuple[Workers, dict[str, Any], Any]:
    """The workers, the starting model's values and the space, which has to be the best configuration's too.

    Raises:
        RequestError: it is of another space.
    """
    workers = session.start_workers()
    _, start, space = session.start()
    wrong = spaces.misfit(space, best)
    if wrong:
        raise RequestError(
            f"{session.folder / 'best.json'} is of another space: its {wrong}; search again with --fresh"
        )
    return workers, start, space


def _xla_break_even(session: Session) -> float | None:
    """What the search measured; None where there is none."""
    measured = session.run()["steps"].get("search", {}).get("xla_break_even")
    with results.reading(session.folder / "run.json", "what a search measured", "set the folder aside with --fresh"):
        return None if measured is None else float(measured)


def _readable(session: Session, *written: Path) -> bool:
    """Whether a step's files can be used; one that cannot is set aside, to be written again from the states."""
    try:
        best = results.read_exercise(session.folder).best
        if best is not None:
            session.check_best(best)
    except WorkError as error:
        for path in written:
            if str(path) in str(error):
                aside = files.set_aside(path)
                damage = str(error).rpartition("; ")[0]
                session.say(f"{damage}; {'kept as ' + aside.name + ' and ' if aside else ''}written again now.")
                return False
    return True


def _say_complete(session: Session, earlier: dict[str, Any]) -> None:
    _say_changes(session, earlier)
    session.say(
        f"The search is complete ({earlier['trials_run']} trials) and is used as it is; --fresh starts another."
    )


def _as_before(session: Session, step: str, request: dict[str, Any], result: Path) -> bool:
    """Whether the step was done with this request by this very code: then nothing need be built to find out."""
    earlier = session.run()["steps"].get(step)
    if earlier is None or earlier.get("request") != _as_json(request):
        return False
    return earlier["source"] == provenance.source_sha256(session.script) and _done(session, step, earlier, result)


def _reusable(session: Session, step: str, settings: dict[str, Any], *written: Path) -> bool:
    """Whether the step has been done with these settings.

    Args:
        written: what the step leaves, the one that it writes last first.
    """
    earlier = session.run()["steps"].get(step)
    return earlier is not None and earlier["settings"] == _as_json(settings) and _done(session, step, earlier, *written)


def _done(session: Session, step: str, earlier: dict[str, Any], *written: Path) -> bool:
    if not (earlier["complete"] and written[0].exists() and _readable(session, *written)):
        return False
    _say_changes(session, earlier)
    session.say(f"{step}: done before with the same settings; used as it is.")
    return True


def _keep_earlier(session: Session, step: str, settings: dict[str, Any], result: Path) -> list[dict[str, Any]]:
    """Sets aside what the step left with other settings, says what differs, and returns all that were, oldest first."""
    recorded = session.run()["steps"].get(step, {})
    earlier: list[dict[str, Any]] = list(recorded.get("earlier", []))
    if not recorded or recorded["settings"] == _as_json(settings):
        return earlier
    aside = files.set_aside(result)
    if step.startswith("sweep"):
        for state in (result.parent / "states").glob(f"{result.stem}-*.npz"):
            state.unlink()
    if aside is not None:
        changes = provenance.changes(recorded["settings"], _as_json(settings))
        session.say(f"{step}: {'; '.join(changes)}; the earlier result is kept in {aside}")
        if recorded["complete"]:
            folder = aside.relative_to(session.folder).as_posix()
            figures_then = _figures_of(step, aside)
            earlier.append(
                {"folder": folder, "settings": recorded["settings"], "changes": changes, "figures": figures_then}
            )
    return earlier


def _figures_of(step: str, aside: Path) -> list[list[Any]]:
    """What the report shows of a result that was set aside: [what, measure, figure] each; none of a damaged one."""
    try:
        if step == "retrain":
            metrics = files.read_json(aside / "metrics.json")
            measures = ("loss", "test_accuracy")
            return [[name, measure, metrics[name][measure]] for name in ("start", "tuned") for measure in measures]
        if step.startswith("sweep"):
            _, rows = results.read_rows(aside, ("value", "val_accuracy"))
            groups: dict[str, list[float]] = {}
            for row in rows:
                groups.setdefault(row["value"], []).append(float(row["val_accuracy"]))
            return [[value, "val_accuracy", statistics.fmean(group)] for value, group in groups.items()]
    except (WorkError, *results.UNREADABLE):
        pass
    return []


def _as_json(settings: dict[str, Any]) -> Any:
    return json.loads(json.dumps(settings))


def _refuse_changes(session: Session, earlier: dict[str, Any], settings: dict[str, Any]) -> None:
    now = _as_json(settings)
    before, after = earlier.get("space"), now.pop("space", None)
    changed = provenance.changes(earlier, now)
    if after is not None and before != after:
        changed += spaces.changes(before, after) or ["the space changed"]
    if changed:
        raise RequestError(
            f"{session.folder} holds a search with other settings ({'; '.join(changed)}); repeat it with its own, or use "
            "--fresh to set it aside"
        )


def _say_changes(session: Session, earlier: dict[str, Any], what: str = "this") -> None:
    """What else is different since ``what`` began: its trials stay comparable unless the person knows better."""
    now = provenance.collect(session.script, 0)
    for name, version in earlier["versions"].items():
        if now["versions"].get(name) != version:
            session.say(
                f"Note: {name} was {version} when {what} began and is now {now['versions'].get(name)}; "
                "what is trained from now on may differ in the last bits."
            )
    if earlier["source"] != now["source"]:
        session.say(f"Note: the code changed since {what} began; --fresh starts anew if that changes what is trained.")


@contextlib.contextmanager
def _training(
    session: Session, step: str, start: Mapping[str, Any], facts: Mapping[str, Any], forecast: Forecast, *written: Path
) -> Iterator[Callable[[Any, Any], None]]:
    """Records a step before it trains and when it has, shows how far it is, and gives what hears of each training.

    Args:
        start: the starting model's values.
        facts: of the record; what is added to them until the end is in it too.
        written: what the step leaves.
    """
    searched = session.run()["steps"].get("search")
    if searched is not None:
        _say_changes(session, searched, "the search")
    collected = provenance.collect(session.script, session.start_workers().size)
    session.record(step, {**collected, **facts, "complete": False}, start)
    began = time.monotonic()
    with Progress(session.console, "trainings", forecast.trainings, forecast.left) as progress:
        yield printing.watch(progress, forecast.ended)
    there = [path for path in written if path.exists()]  # a fit of one's own may keep no network of its best epoch
    ended = {"files": files.digests(session.folder, *there), "seconds": round(time.monotonic() - began, 2)}
    session.record(step, {**collected, **facts, **ended, "complete": True}, start)
