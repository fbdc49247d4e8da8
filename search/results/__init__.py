"""Every file of a results folder, read and checked: the report's only source.

``records`` what is read, in memory; ``parsing`` files as text; ``exercise`` an exercise's folder; ``project`` one of KerasTuner's.
Not here: what writes these files, and what is said of them.
"""

from search.results.exercise import (
    SETTING,
    TEST_READINGS,
    check_logged,
    read_exercise,
    read_record,
    read_search,
    read_test_readings,
)
from search.results.parsing import UNREADABLE, read_rows, reading, reading_record
from search.results.project import read_project
from search.results.records import (
    METRICS,
    SWEEP,
    SWEEP_METRICS,
    Ablated,
    Ablation,
    Best,
    Final,
    Finalist,
    Finalists,
    Floats,
    Method,
    Misread,
    Results,
    Search,
    Setting,
    Sweep,
    Trial,
    lab_command_line,
)

__all__ = [
    "METRICS",
    "SETTING",
    "SWEEP",
    "SWEEP_METRICS",
    "TEST_READINGS",
    "UNREADABLE",
    "Ablated",
    "Ablation",
    "Best",
    "Final",
    "Finalist",
    "Finalists",
    "Floats",
    "Method",
    "Misread",
    "Results",
    "Search",
    "Setting",
    "Sweep",
    "Trial",
    "check_logged",
    "lab_command_line",
    "read_exercise",
    "read_project",
    "read_record",
    "read_rows",
    "read_search",
    "read_test_readings",
    "reading",
    "reading_record",
]
