"""``python -m search``."""

from typing import TYPE_CHECKING

from search.lab.entry import run

if TYPE_CHECKING:
    import click


def _command() -> "click.Command":
    from search.lab.cli import lab_command

    return lab_command()


if __name__ == "__main__":
    run(_command, "-m search")
