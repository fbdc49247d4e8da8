"""One command's hold on one exercise: its results folder, locked, its data, its workers."""

from __future__ import annotations

import contextlib
import datetime
import functools
import json
import math
import os
import shlex
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from search import files, provenance
from search import results as folders
from search.errors import RequestError, WorkError, first_line
from search.lab import data
from search.lab.budget import Budget
from search.lab.exercise import Exercise
from search.oracles import space as spaces

if TYPE_CHECKING:
    from search.lab.cost import Asked
    from search.lab.planning import Rest
    from search.workers.base import Workers
    from search.workers.trial import Problem


OF_A_SEARCH = (  # all that a folder holds but the record of how often the test images were read
    *("search", "finalists", "retrain", "sweeps", "ablation", "plots", "tensorboard"),
    *("trials.csv", "summary.txt", "best.json", "run.json", "report.html"),
)
RECORDED = {"settings": dict, "complete": bool, "source": str, "versions": dict}  # of each step in run.json


@dataclass
class Session:
    """One command's hold on one exercise: its results folder, data and workers, which start with the first step that trains."""

    exercise: Exercise
    script: Path
    results: Path
    source_name: str | None
    worker_count: int | None
    given_seed: int | None
    console: Console
    cluster: str | None = None
    most_images: int | None = None
    budget: Budget | None = None
    rest: Rest | None = None

    def __post_init__(self) -> None:
        self.folder = self.results / self.exercise.name
        self.seed: int = self.given_seed or 0
        self.source: data.Source
        self._classes: tuple[str, ...] = ()  # known once the model is built; before that the record has them
        self._workers: Workers | None = None
        self._declared: dict[str, list[Any]] = {}  # by configuration, what the exercise's build declares
        self._asked: dict[str, Asked | None] = {}  # by the values: building a model takes some hundredths of a second

    @property
    def searched(self) -> tuple[Path, Path]:
        """What a search leaves beside its trials."""
        return self.folder / "trials.csv", self.folder / "best.json"

    @contextlib.contextmanager
    def held(self, fresh: bool = False) -> Iterator[None]:
        """Locks the results folder, checks the data, and at the end stops the workers.

        Data and seed that were not given, and how many of the images are used, are those of what the folder holds.

        Args:
            fresh: set what the folder holds aside, unless the same command has begun so and was interrupted.

        Raises:
            RequestError: the folder is in use or cannot be written, or the data cannot be read.
            WorkError: ``run.json`` is damaged.
        """
        begun = self.folder / ".fresh.json"
        going_on = not fresh or (begun.exists() and files.read_json(begun) == _command())
        if going_on:
            self._take_from_record()
        self.source = data.load(self.source_name, self.most_images)
        data.check_task(self.source, self.exercise.task)
        with files.locked(self.folder, "--results"):
            if not going_on:
                self._set_aside()
                files.write_json(begun, _command())
            elif fresh:
                self.say("--fresh: going on with the work that it began")
            try:
                yield
            finally:
                if self._workers is not None:
                    self._workers.close()
            begun.unlink(missing_ok=True)

    def identity(self) -> dict[str, Any]:
        """What every step of a search shares with it: the seed, the training and the test data."""
        return {"seed": self.seed, "data": self.source.sha256, "test_data": self.source.test_sha256}

    def refuse_another(self, step: str) -> None:
        """Whether the folder's other steps are of this exercise's objective and task, this seed and these images.

        Args:
            step: the one that is to run; that it was run with others before is its own affair.

        Raises:
            RequestError: they are not; figures of several would stand on one page.
        """
        run, exercise = self.run(), self.exercise
        about = {"objective": exercise.objective, "task": exercise.task}
        changed = {"exercise": provenance.changes(run["exercise"], about)} if run["steps"] else {}
        changed |= {
            name: provenance.changes(recorded["settings"], self.identity())
            for name, recorded in run["steps"].items()
            if name != step
        }
        for name, changes in changed.items():
            if changes:
                raise RequestError(
                    f"{self.folder} holds results with other settings ({name}: {'; '.join(changes)}); go on with those, or "
                    f"`python {self.script.name} search --fresh` sets all of it aside"
                )

    def start_workers(self) -> Workers:
        """The workers; they import TensorFlow while this process does."""
        if self._workers is None:
            if self.cluster is not None:
                from search.workers.cluster import RayWorkers

                self._workers = RayWorkers(self.cluster, self.worker_count)
            elif self.worker_count:
                from search.workers import limits
                from search.workers.local import LocalPool

                limits.check(self.worker_count)
                self._workers = LocalPool(self.worker_count, self.folder)
            else:
                from search.workers.in_process import InProcess

                self._workers = InProcess()
            from search.workers.base import Unpicklable

            try:
                self._workers.begin(problem(self.exercise, self.source, self.hypermodel(), self.script))
            except Unpicklable as error:
                raise RequestError(f"{self.script.name}: {error}; make it in build, or give --workers 0") from None
        return self._workers

    def start(self) -> tuple[Any, dict[str, Any], Any]:
        """The exercise's starting model, its values, and the space, checked.

        Raises:
            RequestError: it raises, returns no compiled model, or does not fit the starting model.
        """
        import search.workers.runtime  # noqa: F401
        from search.workers.trial import build

        where = self.script.name
        try:
            hypermodel = self.hypermodel()
            space = spaces.search_space(hypermodel)
            hp, model = build(hypermodel, self.exercise.start, (self.seed,))
        except RequestError:
            raise
        except (Exception, SystemExit) as error:  # whatever the exercise's own code raises
            raise RequestError(
                f"{_place(error, self.script)}: building the model raised {type(error).__name__}: {first_line(error)}; "
                "expected build(self, hp) to return a compiled Keras model"
            ) from None
        if not space.space:
            raise RequestError(
                f"{where}: build asks hp for nothing; expected at least one hyper-parameter, as in hp.Choice(...)"
            )
        wrong = spaces.indistinct(space)
        if wrong:
            raise RequestError(f"{where}: {wrong}")
        wrong = spaces.misfit(space, self.exercise.start)
        if wrong:
            raise RequestError(f"{where}: the starting model's {wrong}")
        wrong = data.misfit(self.source, self.exercise.task, model)
        if wrong:
            raise RequestError(f"{where}: the starting model {wrong}")
        for i, values in enumerate(self.exercise.first):
            wrong = spaces.misfit(space, values)
            if wrong:
                raise RequestError(f"{where}: configuration {i + 1} of the Exercise's first: its {wrong}")
        for name in (*self.exercise.sweeps, *self.exercise.retuned, *self.exercise.retuned.values()):
            if all(parameter.name != name for parameter in space.space):
                raise RequestError(f"{where}: the Exercise asks for a sweep of {name}, which is not in the space")
        self._classes = data.class_names(self.source, self.exercise.task, model)
        return model, dict(hp.values), space

    def weights(self, values: Mapping[str, Any]) -> int:
        """How many trainable weights the exercise's model has with these values, -1 where it cannot be built."""
        model = self._built(values)
        return -1 if model is None else sum(math.prod(weight.shape) for weight in model.trainable_weights)

    def asked_of(self, values: Mapping[str, Any]) -> Asked | None:
        """What an epoch of the exercise's model asks with these values; None where it cannot be built."""
        from search.lab.cost import asked

        key = json.dumps(values, sort_keys=True, default=str)
        if key not in self._asked:
            model, images = self._built(values), len(self.source.images) - self.source.validation_images
            self._asked[key] = None
            if model is not None:
                with contextlib.suppress(Exception):  # whatever a model of the exercise's own is like
                    self._asked[key] = asked(model, images, values.get("batch_size", 32))
        return self._asked[key]

    def loss_function_of(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """See :func:`search.lab.retrain.loss_function`; empty where the model cannot be built."""
        from search.lab.retrain import loss_function

        model = self._built(values)
        return {} if model is None else loss_function(model)

    def _built(self, values: Mapping[str, Any]) -> Any:
        """The exercise's model with these values; None where it cannot be built: its training will say so."""
        hypermodel = self._foreseeing
        from search.workers.trial import build, configuration

        try:
            hp, model = build(hypermodel, values, (self.seed,))
            self._declared[configuration(values)] = list(hp.space)
            return model
        except (Exception, SystemExit):  # whatever the exercise's own code raises
            return None

    @functools.cached_property
    def declaring(self) -> Callable[[Any], None]:
        """Calls the exercise's ``build`` for what it declares; one for all oracles, since it remembers."""
        hypermodel = self._foreseeing
        from search.workers.trial import declaring

        return declaring(hypermodel, self._declared)

    @functools.cached_property
    def _foreseeing(self) -> Any:
        """The exercise's hypermodel for models that are counted and not trained."""
        return self.hypermodel()

    def hypermodel(self) -> Any:
        """One of the exercise's own.

        Raises:
            RequestError: making it raises.
        """
        import search.workers.runtime  # noqa: F401  (before KerasTuner, which imports TensorFlow)

        try:
            return self.exercise.made()
        except (Exception, SystemExit) as error:  # whatever the exercise's own code raises
            name = self.exercise.hypermodel.__name__
            raise RequestError(
                f"{self.script.name}: making {name} raised {type(error).__name__}: {first_line(error)}; "
                f"expected {name}() to return one"
            ) from None

    def run(self) -> dict[str, Any]:
        """``run.json`` as it stands, checked; a new one where there is none.

        Raises:
            WorkError: it is damaged.
        """
        path = self.folder / "run.json"
        if not os.path.exists(path):  # false too for a name that is too long
            return {"format": 1, "steps": {}}
        for name, step in folders.read_record(self.folder).steps.items():
            for entry, kind in RECORDED.items():
                if not isinstance(step.get(entry), kind):
                    raise WorkError(
                        f"{path} has {step.get(entry)!r} as {entry} of its {name}; set the folder aside with --fresh"
                    )
        run: dict[str, Any] = files.read_json(path)
        return run

    def best(self) -> dict[str, Any]:
        """The best configuration of the search.

        Raises:
            WorkError: there is none yet, or its file is damaged.
        """
        if not (self.folder / "best.json").exists():
            raise self.no_search()
        best = folders.read_search(self.folder).best
        if best is None:
            raise self.no_search()
        self.check_best(best)
        return dict(best.hyperparameters)

    def check_best(self, best: folders.Best) -> None:
        """Whether ``best.json``, read as ``best``, is what its trial's own file, which carries a checksum, says.

        Raises:
            WorkError: it is not.
        """
        path = self.folder / "best.json"
        trial = self.folder / "search" / f"trial_{best.trial_id}" / "trial.json"
        try:
            state = json.loads(trial.read_text(encoding="utf-8"))
            sealed = files.is_sealed(state)
            values = spaces.own_values(state["hyperparameters"]["values"])
        except (OSError, ValueError, LookupError, TypeError, AttributeError):
            return  # damaged: the search will say so
        if sealed and values != best.hyperparameters:
            raise WorkError(
                f"{path} has {best.hyperparameters} and its trial {values}; run `python {self.script.name} search`, "
                "which writes it again"
            )

    def record(self, step: str, facts: Mapping[str, Any], start: Mapping[str, Any]) -> None:
        """Writes ``facts`` of a step into ``run.json``."""
        run = self.run()
        run["exercise"] = {
            "name": self.exercise.name,
            "title": self.exercise.title,
            "question": self.exercise.question,
            "task": self.exercise.task,
            "classes": list(self._classes) or run["exercise"]["classes"],
            "objective": self.exercise.objective,
            "direction": self.exercise.better,
            "start": dict(start),
            "sweeps": list(self.exercise.sweeps),
        }
        validation = self.source.validation_images
        run["data"] = {
            "source": self.source.name,
            "given": None if self.source_name is None else str(self.source.location.resolve()),
            "sha256": self.source.sha256,
            "test_sha256": self.source.test_sha256,
            "train": len(self.source.images) - validation,
            "validation": validation,
            "test": self.source.test_images,
        }
        run["steps"][step] = dict(facts)
        files.write_json(self.folder / "run.json", files.seal(run))

    def refuse_second_reading(self, settings: Mapping[str, Any], again: bool) -> None:
        """Whether the test images may be read: once a search, or again where the same evaluation was interrupted.

        Raises:
            RequestError: they have been read with other settings, or by other code, and ``again`` is false.
            WorkError: the log of the readings lacks some that the record has.
        """
        now, readings = self._reading(settings), folders.read_test_readings(self.folder)
        folders.check_logged(folders.read_record(self.folder), readings)
        for earlier in readings:
            other = "settings" if earlier["settings"] != now["settings"] else ""
            if not other and earlier["code"] not in (None, now["code"]):
                other = "code"
            if not again and earlier["search"] == now["search"] and other:
                raise RequestError(
                    f"the test images were read for this search on {earlier['when']} with other {other}; a figure chosen "
                    "among several is no test: keep that one, or read them again with --read-test-again, which the report says"
                )

    def read_test(self, why: str, settings: Mapping[str, Any]) -> data.Examples:
        """The test images and their targets; that they are read is logged first, where ``--fresh`` leaves it.

        Raises:
            RequestError: they cannot be read.
            OSError: the log cannot be written.
        """
        with (self.folder / folders.TEST_READINGS).open("a", encoding="utf-8") as log:
            log.write(json.dumps({"why": why, **self._reading(settings)}) + "\n")
        return data.test_examples(self.source, data.TASKS[self.exercise.task])

    def _reading(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        search = self.run()["steps"].get("search", {}).get("settings")
        return {
            "when": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            "search": files.seal({"settings": search})["sha256"],
            "settings": json.loads(json.dumps(settings)),
            "data": self.source.test_sha256,
            "code": provenance.source_sha256(self.script),
        }

    def no_search(self) -> WorkError:
        """What to raise where there is nothing to go on from yet."""
        where = "" if self.results == Path("results") else f" --results {shlex.quote(str(self.results))}"
        quick = " --quick" if "--quick" in _command() else ""
        return WorkError(f"{self.folder} holds no search; run `python {self.script.name} search{quick}{where}` first")

    def say(self, text: str) -> None:
        """Prints a sentence: a terminal's lines end between words, a file's where the sentence does."""
        self.console.print(text, markup=False, highlight=False, soft_wrap=not self.console.is_terminal)

    def say_next(self, step: str) -> None:
        """Prints the command that the person will want next: first of all what makes up for a part of another configuration."""
        exercise = folders.read_record(self.folder)
        stale: dict[str, str] = {}
        with contextlib.suppress(WorkError):  # which the step that reads it says
            stale = {} if step == "finalists" else folders.read_exercise(self.folder).stale()
        for name in stale:
            self.say(f"Note: the {name} is of a configuration that was the best then and is not now.")
        self.say(f"Next: `{next(iter(stale.values()), exercise.command(step))}`")

    def _take_from_record(self) -> None:
        run = self.run()
        if not run["steps"]:
            return
        step = run["steps"].get("search") or next(iter(run["steps"].values()))
        with folders.reading_record(self.folder, "the seed and the data of its steps"):
            if self.given_seed is None:
                self.seed = int(step["settings"].get("seed", 0))
            if self.source_name is None:
                self.source_name = run["data"].get("given")
            self.most_images = int(run["data"]["train"]) + int(run["data"]["validation"])

    def _set_aside(self) -> None:
        earlier = [path.name for path in self.folder.glob("retrain.old-*")]
        aside = files.set_aside(self.folder, (*OF_A_SEARCH, *earlier))
        if aside is not None:
            self.say(f"--fresh: the earlier results are now in {aside}")


def _place(error: BaseException, script: Path) -> str:
    """The script, and its line where the error came from."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(script)]
    return f"{script.name}, line {lines[-1]}" if lines else script.name


def _command() -> list[str]:
    return sys.argv[1:]


def problem(exercise: Exercise, source: data.Source, hypermodel: Any = None, script: Path | None = None) -> Problem:
    """What every training of the exercise has in common.

    Args:
        hypermodel: an instance of the exercise's; None makes one.
        script: the exercise's.
    """
    import search.workers.runtime  # noqa: F401
    from search.workers.trial import Problem

    task = data.TASKS[exercise.task]
    train, validation = data.training_examples(source, task), data.validation_examples(source, task)
    return Problem(
        name=exercise.name,
        data=source.sha256,
        hypermodel=exercise.made() if hypermodel is None else hypermodel,
        args=(train.x, train.y),
        kwargs={"validation_data": (validation.x, validation.y), "verbose": 0},
        seconds=exercise.trial_seconds,
        code=provenance.source_sha256(script),
    )
