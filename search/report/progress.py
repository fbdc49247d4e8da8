"""What is seen while work goes on: a live line on a terminal, and a line for each event, on a terminal where it is asked for."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType

from rich.console import Console, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from search.report import figures

BAR_WIDTH = 20
ROOM_BESIDE = 24  # columns for the best, without which there is no bar


def draws_again(console: Console) -> bool:
    """Whether a line can be drawn again in its place: a notebook's output says that it is a terminal, and is none."""
    notebook = console.is_jupyter or type(console.file).__module__.partition(".")[0] == "ipykernel"
    return console.is_terminal and not notebook


class Progress:
    """Counts what is done of what is planned.

    Args:
        console: where to print.
        unit: what is counted, in the plural.
        total: how many are planned.
        forecast: seconds that what is left will take, as known when one has just been done, None where it is not; by
            default those to come take as long as those done here.
        before: how many of them were done before.
        each: an event's line stays above the live line.
    """

    def __init__(
        self,
        console: Console,
        unit: str,
        total: int,
        forecast: Callable[[], float | None] | None = None,
        before: int = 0,
        each: bool = False,
    ) -> None:
        self._console, self._unit, self._total = console, unit, total
        self._live_line = draws_again(console)
        self._each = each or not self._live_line
        self._forecast = forecast or self._in_proportion
        self._done, self._skipped, self._best = before, before, ""
        self._started = self._told = time.monotonic()
        self._left: float | None = None
        self._live = Live(get_renderable=self._line, console=console, refresh_per_second=4, transient=True)

    def __enter__(self) -> Progress:
        if self._live_line:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def skip(self) -> None:
        """Counts one that was done before: it tells nothing of the time left."""
        self._done += 1
        self._skipped += 1

    def advance(self, event: str, best: str = "") -> None:
        """Counts one that has just been done; ``best`` stays on the live line, ``event`` is the plain one."""
        self._done += 1
        self._left, self._told = self._forecast(), time.monotonic()
        self._best = best or self._best
        if self._each:
            left = "" if self._live_line else self.left()
            self._console.print(
                f"[{self._done}/{self._total}] {event}" + (f"; {left} left" if left else ""),
                markup=False,
                highlight=False,
                soft_wrap=not self._live_line,
            )

    def left(self) -> str:
        """The time left, in words; empty before anything is known of it."""
        if self._left is None or self._done == self._total:
            return ""
        return "about " + figures.duration(max(0.0, self._left - (time.monotonic() - self._told)), " ")

    def _in_proportion(self) -> float:
        elapsed = time.monotonic() - self._started
        return elapsed / (self._done - self._skipped) * (self._total - self._done)

    def _line(self) -> Table:
        counted = f"{self._done}/{self._total} {self._unit}"
        left = f"{self.left()} left" if self.left() else ""
        columns: list[tuple[int, RenderableType]] = [(len(counted), counted), (len(left), left)]
        if self._console.width > len(counted) + BAR_WIDTH + len(left) + ROOM_BESIDE:
            bar = ProgressBar(total=self._total, completed=self._done, width=BAR_WIDTH)
            columns.insert(1, (BAR_WIDTH, bar))
        line = Table.grid(padding=(0, 1), expand=True)
        for width, _ in columns:
            line.add_column(width=width, no_wrap=True)
        line.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
        line.add_row(*(shown for _, shown in columns), Text(self._best, style="dim"))
        return line
