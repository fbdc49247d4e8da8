"""docs/first-search.ipynb runs as it stands, and is read as a page too."""

import shutil

import nbformat
import pytest
from nbclient import NotebookClient
from nbconvert import HTMLExporter

from tests.conftest import ROOT


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    """The notebook after every cell has run, in a copy of docs/ beside the package."""
    folder = tmp_path_factory.mktemp("notebook")
    (folder / "search").symlink_to(ROOT / "search")
    (folder / "docs").mkdir()
    shutil.copy(ROOT / "docs" / "first-search.ipynb", folder / "docs")
    notebook = nbformat.read(folder / "docs" / "first-search.ipynb", as_version=4)
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(folder / "docs")}}).execute()
    return notebook


def outputs(notebook, kind):
    return [out.data[kind] for cell in notebook.cells for out in cell.get("outputs", []) if kind in out.get("data", {})]


@pytest.mark.long
def test_it_finds_a_network_that_reads_digits(executed):
    assert float(outputs(executed, "text/plain")[-1]) > 0.9


@pytest.mark.long
def test_a_tuner_shows_itself(executed):
    (page,) = outputs(executed, "text/html")
    assert "learning_rate" in page
    assert "<script" not in page


@pytest.mark.long
def test_it_is_read_as_a_page(executed):
    page, _ = HTMLExporter().from_notebook_node(executed)
    assert "A first search" in page


def test_it_holds_no_output_of_a_run():
    notebook = nbformat.read(ROOT / "docs" / "first-search.ipynb", as_version=4)
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in notebook.cells)
