"""The hand-in: what is in it, and that it runs where it is unpacked."""

import json
import os
import shutil
import subprocess
import sys
import tarfile

import pytest

from search import files
from search.errors import RequestError
from search.lab.archive import archive, lacking
from tests.conftest import ROOT


@pytest.fixture
def handed_in(tmp_path):
    results = tmp_path / "results"
    (results / "single" / "plots").mkdir(parents=True)
    (results / "single" / "search").mkdir()
    for name in (
        "report.html",
        "single/run.json",
        "single/report.html",
        "single/plots/loss.png",
        "single/search/state.npz",
    ):
        (results / name).write_text(name)
    return archive("O'NEIL_Mary-Jane", ROOT, results, tmp_path)


def test_it_holds_the_code_and_the_reports_and_nothing_of_the_environment(handed_in):
    assert handed_in.name == "O'NEIL_Mary-Jane_Lab3_DLCV.tar.bz2"
    with tarfile.open(handed_in, "r:bz2") as tar:
        members = tar.getmembers()
    names = {member.name.removeprefix("O'NEIL_Mary-Jane_Lab3_DLCV/") for member in members}
    assert {
        "search_single.py",
        "search/training/program.py",
        "search/lab/mnist.npz",
        "setup.cfg",
        "tests/conftest.py",
        "Makefile",
    } <= names
    assert {"results/report.html", "results/single/report.html", "results/single/plots/loss.png"} <= names
    assert not [
        name for name in names if ".venv" in name or "__pycache__" in name or name.endswith((".pyc", "state.npz"))
    ]
    for member in members:
        assert member.isfile()
        assert not member.name.startswith("/")
        assert ".." not in member.name
        assert (member.uname, member.uid) == ("", 0)


@pytest.mark.long
def test_it_runs_where_it_is_unpacked(handed_in, tmp_path):
    with tarfile.open(handed_in, "r:bz2") as tar:
        tar.extractall(tmp_path / "unpacked", filter="data")
    (folder,) = (tmp_path / "unpacked").iterdir()
    script = folder / "search_single.py"
    out = subprocess.run(
        [sys.executable, script, "--help"], cwd=folder, capture_output=True, text=True, check=True
    ).stdout
    assert "A single sigmoid neuron" in out


@pytest.mark.parametrize("owner", ["DOE_John", "DOE_john", "O\u2019NÉILL_Marie", "李_明"])
def test_a_name_of_any_alphabet_is_taken(tmp_path, owner):
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "report.html").write_text("a report")
    (tmp_path / "project").mkdir()
    path = archive(owner, tmp_path / "project", tmp_path / "results", tmp_path)
    assert path.name == f"{owner}_Lab3_DLCV.tar.bz2"


def test_a_last_name_that_is_not_in_capitals_is_refused(tmp_path):
    for owner in ("Doe_John", "O\u2019Néill_Marie", "John_DOE", "DOE_JOHN", "DOE", "DOE John"):
        with pytest.raises(RequestError, match="the last name in capitals, as in DOE_John"):
            archive(owner, tmp_path, tmp_path, tmp_path)


def test_what_a_hand_in_lacks_is_said(tmp_path):
    shutil.copytree(ROOT / "docs" / "results", tmp_path / "results")
    report = tmp_path / "results" / "report.html"
    report.write_text("later than the results")
    assert lacking(report.parent) == []
    os.utime(report, (1, 1))
    shutil.rmtree(report.parent / "hidden")
    run = json.loads((report.parent / "single" / "run.json").read_text())
    run["steps"]["retrain"]["settings"]["epochs"] = 3
    (report.parent / "single" / "run.json").write_text(json.dumps(files.seal(run)))
    assert lacking(report.parent) == [
        "search_hidden.py has not been run",
        "A single sigmoid neuron was retrained for 3 epochs, not 100",
        "the report is older than some of the results: write it again, then the archive",
    ]
