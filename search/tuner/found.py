"""What a tuner has found: its trials as a table, a data frame, a page, and in a notebook."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from search.errors import WorkError
from search.oracles import space as spaces
from search.report import figures


class Found:
    """A tuner's trials, for whoever asks for them.

    Attributes:
        oracle: the tuner's.
        project_dir: its folder.
    """

    oracle: Any
    project_dir: str

    @property
    def results(self) -> list[dict[str, Any]]:
        """Every trial in order: ``trial_id``, ``status``, ``score``, ``best_step``, ``hyperparameters`` (a dictionary),
        ``metrics`` at the best step, ``history`` (of each execution, metric -> a value an epoch), ``seconds``, ``message``.
        """
        rows = []
        for trial_id, trial in sorted(self.oracle.trials.items()):
            details = getattr(self.oracle, "details", {}).get(trial_id, {})
            metrics = {name: trial.metrics.get_best_value(name) for name in trial.metrics.metrics}
            row = {"trial_id": trial_id, "status": trial.status, "score": trial.score, "best_step": trial.best_step}
            row |= {"hyperparameters": spaces.own_values(trial.hyperparameters.values), "metrics": metrics}
            row |= {"history": details.get("history", []), "seconds": details.get("seconds"), "message": trial.message}
            rows.append(row)
        return rows

    def results_frame(self) -> Any:
        """``results`` as a ``pandas.DataFrame``, a row a trial, a column for each hyper-parameter (``hp.NAME``) and metric.

        Raises:
            ImportError: pandas is not installed.
        """
        try:
            import pandas  # type: ignore[import-untyped]
        except ImportError:
            raise ImportError("results_frame() needs pandas; install it with: pip install pandas") from None

        rows = []
        for row in self.results:
            flat = {name: value for name, value in row.items() if name not in ("hyperparameters", "metrics", "history")}
            flat |= {f"hp.{name}": value for name, value in row["hyperparameters"].items()}
            rows.append(flat | {f"metric.{name}": value for name, value in row["metrics"].items()})
        return pandas.DataFrame(rows)

    def report(self) -> Path:
        """Writes the project's HTML page and returns its path.

        Raises:
            search.errors.WorkError: there is no trial yet.
        """
        from search.report.page import write_search_report

        if not self.oracle.trials:
            raise WorkError(f"{self.project_dir} has no trial yet; call search() first")
        objective = self.oracle.objective
        return write_search_report(Path(self.project_dir), objective=objective.name, direction=objective.direction)

    def _repr_html_(self) -> str:
        """What Jupyter shows: the trials, best first."""
        import html

        rows = {row["trial_id"]: row for row in self.results}
        cells = []
        for trial in self.oracle.get_best_trials(len(rows)):
            epochs = max((len(curve) for one in rows[trial.trial_id]["history"] for curve in one.values()), default="")
            values = rows[trial.trial_id]["hyperparameters"].items()
            said = ", ".join(f"{name} = {figures.value(value)}" for name, value in values)
            cells.append([trial.trial_id, trial.status, f"{trial.score:.5g}", epochs, said])
        head = "".join(
            f"<th>{html.escape(name)}</th>"
            for name in ("trial", "status", self.oracle.objective.name, "epochs", "configuration")
        )
        body = ("".join(f"<td>{html.escape(str(cell))}</td>" for cell in row) for row in cells)
        return f"<table><tr>{head}</tr>{''.join(f'<tr>{row}</tr>' for row in body)}</table>"
