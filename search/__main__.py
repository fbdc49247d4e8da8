"""``python -m search``."""

from search.lab.cli import lab_command, run

if __name__ == "__main__":
    run(lab_command(), "python -m search")
