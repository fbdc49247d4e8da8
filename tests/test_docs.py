"""Every Python block of the pages runs as it stands, on data of the pages' own."""

import os
import re
import subprocess
import sys

import pytest

from tests.conftest import ROOT

DATA = """
import numpy as np
x = np.random.default_rng(0).normal(size=(200, 8)).astype("float32")
y = x.sum(axis=1)
"""


def blocks(page):
    return re.findall(r"^```python\n(.*?)^```$", (ROOT / page).read_text(encoding="utf-8"), re.M | re.S)


def run(code, folder, *arguments):
    """Runs the code as a script that has no main guard, the way a user's has none."""
    script = folder / "page.py"
    script.write_text(code, encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(script), *arguments]
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_the_library_s_page_runs(tmp_path):
    code = "\n".join(blocks("docs/library.md"))
    run(code + "\nassert page.exists()\n", tmp_path)
    assert (tmp_path / "searches" / "more" / "report.html").exists()


@pytest.mark.long
def test_the_readme_s_first_block_runs_on_arrays_of_the_reader_s(tmp_path):
    first, _ = blocks("README.md")
    out = run(DATA + first, tmp_path)
    assert "] trial 0000: val_loss" in out
    assert len(first.strip().splitlines()) <= 16


@pytest.mark.slow
def test_the_readme_s_exercise_is_one(tmp_path, small_data):
    _, exercise = blocks("README.md")
    out = run(exercise, tmp_path, "search", "--quick", "--data", str(small_data), "--workers", "1")
    assert "Searched" in out
