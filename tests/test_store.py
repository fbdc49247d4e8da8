"""Files whole or not at all, one driver at a time, nothing deleted."""

import csv
import errno
import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from search import files, results
from search.errors import RequestError, WorkError
from search.training import checkpoint
from tests.conftest import ROOT


@pytest.mark.parametrize("fails", ["fsync", "replace"])
def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, fails):
    path = tmp_path / "file.json"
    files.write_json(path, {"old": 1})

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, fails, full)
    with pytest.raises(OSError, match="No space left"):
        files.write_json(path, {"new": 2})
    monkeypatch.undo()
    assert files.read_json(path) == {"old": 1}
    assert os.listdir(tmp_path) == ["file.json"]


def test_a_process_killed_while_writing_leaves_the_old_file(tmp_path):
    path = tmp_path / "file.json"
    files.write_json(path, {"old": 1})
    code = "import os, signal, sys; from search import files; from pathlib import Path\n"
    code += "os.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
    code += "files.write_json(Path(sys.argv[1]), {'new': 2})"
    assert subprocess.run([sys.executable, "-c", code, str(path)], cwd=ROOT, check=False).returncode == -9
    assert files.read_json(path) == {"old": 1}


def test_a_folder_in_use_is_refused_and_its_holder_named(tmp_path):
    code = "import sys; from search import files; from pathlib import Path\n"
    code += "with files.locked(Path(sys.argv[1]), '--results'): print('held', flush=True); sys.stdin.read()"
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdout.readline() == b"held\n"
    with pytest.raises(RequestError, match=f"in use by process {holder.pid} on "), files.locked(tmp_path, "--results"):
        pass
    holder.kill()
    holder.communicate()
    with files.locked(tmp_path, "--results"):  # the lock of a dead process is no obstacle
        pass


def test_setting_aside_keeps_every_earlier_one(tmp_path):
    for k in range(3):
        (tmp_path / "retrain").mkdir()
        (tmp_path / "retrain" / "metrics.json").write_text(str(k))
        files.set_aside(tmp_path / "retrain")
    kept = {path.parent.name: path.read_text() for path in tmp_path.glob("*/metrics.json")}
    assert kept == {"retrain.old-1": "0", "retrain.old-2": "1", "retrain.old-3": "2"}


STATE = checkpoint.State(
    [np.arange(6, dtype=np.float32).reshape(2, 3), np.uint32(7)], {"loss": [0.5, 0.25]}, {"of": "test"}
)


def test_a_state_comes_back_bit_for_bit(tmp_path):
    checkpoint.write(tmp_path / "state.npz", STATE)
    state = checkpoint.read(tmp_path / "state.npz", {"of": "test"})
    assert state.epochs == 2
    assert state.history == STATE.history
    for read, written in zip(state.variables, STATE.variables, strict=True):
        np.testing.assert_array_equal(read, written)
        assert read.dtype == written.dtype


def test_a_damaged_state_is_named_and_never_used(tmp_path):
    """Every truncation and every flipped bit of the data is noticed, or harmless."""
    path = tmp_path / "state.npz"
    checkpoint.write(path, STATE)
    whole = path.read_bytes()
    damages = [whole[:n] for n in range(0, len(whole), 7)]
    damages += [whole[:i] + bytes([whole[i] ^ 1]) + whole[i + 1 :] for i in range(len(whole))]
    messages = []
    for damage in damages:
        path.write_bytes(damage)
        try:
            state = checkpoint.read(path, {"of": "test"})
        except WorkError as error:
            messages.append(str(error))
        else:  # a flipped bit in a field that the archive does not need, as a date
            assert state.history == STATE.history
            for read, written in zip(state.variables, STATE.variables, strict=True):
                np.testing.assert_array_equal(read, written)
    assert len(messages) > len(damages) * 0.7
    assert all(str(path) in message and "\n" not in message for message in messages)


def test_a_state_of_something_else_or_of_another_version_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "state.npz"
    checkpoint.write(path, STATE)
    with pytest.raises(WorkError, match="belongs to"):
        checkpoint.read(path, {"of": "another"})
    monkeypatch.setattr(checkpoint, "FORMAT", 99)
    with pytest.raises(WorkError, match="has format 3; this version reads 99"):
        checkpoint.read(path, {"of": "test"})


@given(st.text("'=+-@\t1.e ax", max_size=6))
@example("=1+1")
@example("'=1+1")
@example("@SUM(A1)")
@example("-x")
@example("\t=1")
def test_no_text_is_a_formula_in_a_spreadsheet_and_each_comes_back(tmp_path_factory, text):
    path = tmp_path_factory.getbasetemp() / "cells.csv"
    files.write_csv(path, [text or "empty", "last"], [{text or "empty": text, "last": -0.5}])
    header, (row,) = results.read_rows(path)
    assert header == [text or "empty", "last"]
    assert row == {text or "empty": text, "last": "-0.5"}
    for cell in next(csv.reader([path.read_text().splitlines()[-1]])):
        try:
            float(cell)
        except ValueError:
            assert cell[:1] not in {*"=+-@\t"}


def test_a_cell_of_no_column_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no column"):
        files.write_csv(tmp_path / "cells.csv", ["a"], [{"b": 1}])


@pytest.mark.parametrize("text", ["a\nb", "a\rb", "a\r\nb"])
def test_a_cell_of_several_lines_comes_back(tmp_path, text):
    files.write_csv(tmp_path / "cells.csv", ["a", "b"], [{"a": text, "b": 1}])
    assert results.read_rows(tmp_path / "cells.csv")[1] == [{"a": text, "b": "1"}]
