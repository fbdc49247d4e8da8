"""How much of a step is done: what trainings are foreseen to take, and what of it fits into the budget of the command."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from search import results
from search.lab.exercise import Exercise
from search.lab.session import Session
from search.report import figures

if TYPE_CHECKING:
    from search.lab.finalists import Finalist
    from search.lab.forecast import Forecast

Option = TypeVar("Option")

TOLERANCE = 0.1  # of the budget, by which the least of a step may exceed it rather than be left out
FEWER_FINALISTS = ((3, 3), (2, 3), (2, 2), (1, 2), (1, 1))  # configurations and seeds, where the budget is small


@dataclass(frozen=True)
class Rest:
    """What an exercise does after its search.

    Attributes:
        finalists, finalist_seeds: see :func:`search.lab.commands.finalists`.
        sweep_epochs, most_values: see :func:`search.lab.commands.sweep`.
        epochs: of the retraining.
        seeds: of each value of a sweep and of each model.
    """

    finalists: int
    finalist_seeds: int
    sweep_epochs: int
    most_values: int | None
    epochs: int
    seeds: int

    def trainings(
        self,
        exercise: Exercise,
        space: Any,
        best: Mapping[str, Any],
        max_epochs: int,
        weights: Callable[[Mapping[str, Any]], int],
    ) -> list[tuple[Mapping[str, Any], int]]:
        """The values and epochs of each, as far as they are known: those of the best configuration are a guess."""
        from search.lab import ablation, sweep

        start = exercise.start
        finals = [best] * self.finalists * self.finalist_seeds + [start] * self.finalist_seeds
        swept: list[Mapping[str, Any]] = []
        for name in exercise.sweeps:
            retuned = exercise.retuned.get(name)
            candidates = [] if retuned is None else sweep.values_of(space, retuned, self.most_values)
            values = sweep.values_of(space, name, self.most_values)
            swept += [{**start, name: value} for value in values] * (len(candidates) + self.seeds)
        steps = ablation.steps_between(space, start, best, exercise.retuned, weights)
        path = ablation.along(space, start, best, steps) * self.seeds if steps else []
        return [
            *((values, max_epochs) for values in finals),
            *((values, self.sweep_epochs) for values in (*swept, *path)),
            *((values, self.epochs) for values in (best, start) for _ in range(self.seeds)),
        ]


def forecast(
    session: Session, trained: Sequence[Mapping[str, Any]], epochs: int, xla_break_even: float | None
) -> Forecast:
    """What trainings from the first epoch on will take, by what the search learned of this machine.

    Args:
        trained: the values of each.
        epochs: of each.
        xla_break_even: see :class:`search.workers.trial.Job`.
    """
    from search.lab.cost import CostModel
    from search.lab.forecast import Forecast
    from search.training.xla import XLA_BREAK_EVEN

    learned = session.run()["steps"].get("search", {}).get("cost")
    with results.reading(session.folder / "run.json", "what a search learned", "set the folder aside with --fresh"):
        cost = CostModel(learned)
    break_even = XLA_BREAK_EVEN if xla_break_even is None else xla_break_even
    size = session.start_workers().size
    return Forecast(cost, session.asked_of, trained, epochs=epochs, break_even=break_even, size=size)


def planned_before(session: Session, step: str) -> dict[str, Any]:
    """What a step that was planned for this budget before was planned with; nothing where there was none."""
    earlier = session.run()["steps"].get(step, {})
    if session.budget is None or earlier.get("budget") != session.budget.seconds:
        return {}
    planned: dict[str, Any] = earlier["planned"]
    return planned


def plan(session: Session, **planned: Any) -> dict[str, Any]:
    """What the record of a step keeps, for it to be planned so again."""
    return {} if session.budget is None else {"budget": session.budget.seconds, "planned": planned}


def fitting(
    session: Session, step: str, options: Sequence[Option], seconds: Callable[[Option], float]
) -> Option | None:
    """The first of a step's options, largest first, that fits into the budget; None, which is said, where none does.

    Args:
        seconds: what an option takes.
    """
    assert session.budget is not None
    left = session.budget.left(step.partition(" ")[0])
    fits = next((option for option in options if seconds(option) <= left), None)
    if fits is None and seconds(options[-1]) <= left + TOLERANCE * session.budget.seconds:
        fits = options[-1]
    if fits is None:
        least, there = (figures.duration(max(0.0, time), " ") for time in (seconds(options[-1]), left))
        command = results.read_record(session.folder).command(step)
        session.say(f"{step}: left out; it takes {least} at least and the budget leaves {there}. Later: `{command}`")
    return fits


def finalists(
    session: Session,
    search: results.Search,
    start: Mapping[str, Any],
    count: int,
    seeds: int,
    epochs: int,
    xla_break_even: float | None,
) -> tuple[list[Finalist], int, dict[str, Any]] | None:
    """The finalists, the seeds of each, and the plan that its record keeps; None, which is said, where none fit.

    Args:
        search, start, count: as in :func:`search.lab.finalists.chosen`.
        seeds, epochs: of each finalist.
        xla_break_even: see :class:`search.workers.trial.Job`.
    """
    from search.lab.finalists import chosen

    before = planned_before(session, "finalists")
    if before or session.budget is None:
        left_out = before.get("left_out", [])
        count, seeds = before.get("finalists", count), before.get("seeds", seeds)
        return chosen(search, start, count, lambda finalist: finalist.trial_id not in left_out), seeds, before
    fits = RetrainingFits(session, start, xla_break_even)

    def seconds(option: tuple[int, int]) -> float:
        trained = [finalist.hyperparameters for finalist in chosen(search, start, option[0], fits)] * option[1]
        return forecast(session, trained, epochs, xla_break_even).left()

    options = [(count, seeds), *((n, k) for n, k in FEWER_FINALISTS if n <= count and k <= seeds)]
    largest = fitting(session, "finalists", options, seconds)
    if largest is None:
        return None
    plan = {"finalists": largest[0], "seeds": largest[1], "left_out": fits.left_out}
    return chosen(search, start, largest[0], fits), largest[1], plan


class RetrainingFits:
    """Says of a configuration whether the budget has the time to retrain it, and the starting model; of which not, once.

    Attributes:
        left_out: the trials of those of which it has not.
    """

    def __init__(self, session: Session, start: Mapping[str, Any], xla_break_even: float | None) -> None:
        self._session, self._start, self._xla_break_even = session, start, xla_break_even
        self._known: dict[str, bool] = {}

    def __call__(self, finalist: Finalist) -> bool:
        budget, rest = self._session.budget, self._session.rest
        if budget is None or rest is None:
            return True
        if finalist.trial_id not in self._known:
            between = sum(map(budget.share, ("finalists", "sweep", "ablation")))
            left = budget.left("retrain") - between
            trained = [finalist.hyperparameters, self._start]
            seconds = forecast(self._session, trained, rest.epochs, self._xla_break_even).left()
            self._known[finalist.trial_id] = seconds <= left
            if seconds > left:
                self._session.say(
                    f"No finalist: trial {finalist.trial_id}; its {rest.epochs} epochs of retraining take about "
                    f"{figures.duration(seconds, ' ')}, and the budget has {figures.duration(max(0.0, left), ' ')} for them "
                    "(--budget)."
                )
        return self._known[finalist.trial_id]

    @property
    def left_out(self) -> list[str]:
        return [trial_id for trial_id, fits in self._known.items() if not fits]


def fitting_seeds(
    session: Session,
    step: str,
    seeds: int,
    trained: Sequence[Mapping[str, Any]],
    epochs: int,
    xla_break_even: float | None,
    once: Sequence[Mapping[str, Any]] = (),
) -> int | None:
    """With how many of the seeds a step fits into the budget; None, which is said, where it does not with one.

    Args:
        trained: what it trains with each seed, and ``once`` what without.
    """
    if session.budget is None:
        return seeds
    if before := planned_before(session, step):
        return int(before["seeds"])

    def seconds(seeds: int) -> float:
        return forecast(session, [*once, *list(trained) * seeds], epochs, xla_break_even).left()

    return fitting(session, step, range(seeds, 0, -1), seconds)
