"""The drawing of the rooms in CONTRIBUTING.md matches the imports, which go one way."""

import ast
import graphlib
import re

import pytest

from tests.conftest import ROOT

PACKAGE = ROOT / "search"
FACES = ("__init__.py", "__main__.py")  # of the whole package: they know every room


def modules_imported(path):
    """The modules of the package that a file imports anywhere in it, each as a tuple of names."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}, line {node.lineno}: an import relative to the file"
            names = [f"search.{alias.name}" for alias in node.names] if node.module == "search" else [node.module]
        else:
            continue
        yield from (tuple(name.split(".")) for name in names if name.split(".")[0] == "search")


def imports():
    """Room -> the rooms that its files import. A room is a folder of the package, or a file that is in none."""
    arrows = {}
    for path in PACKAGE.rglob("*.py"):
        inside = path.relative_to(PACKAGE)
        if inside.name in FACES and len(inside.parts) == 1:
            continue
        room = inside.parts[0].removesuffix(".py")
        arrows.setdefault(room, set()).update({names[1] for names in modules_imported(path) if len(names) > 1} - {room})
    return arrows


def drawn():
    """Room -> the rooms that CONTRIBUTING.md says it imports."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    arrows = re.findall(r"^    (\w+) +-> (.+)$", text, re.M)
    return {room: set(re.findall(r"\w+", others)) - {"nothing"} for room, others in arrows}


def test_the_drawing_matches_the_imports():
    assert drawn() == imports()


def test_imports_go_one_way():
    tuple(graphlib.TopologicalSorter(imports()).static_order())  # raises where rooms import each other in a circle


def test_training_knows_nothing_of_searches_and_oracles_nothing_of_training():
    arrows = imports()
    assert arrows["training"] <= {"errors", "files"}
    assert not arrows["oracles"] & {"training", "workers", "study", "lab", "tuner"}
    del arrows["tuners"]  # the room by the name that KerasTuner gives it
    assert not any("lab" in others or "tuner" in others for others in arrows.values())


@pytest.mark.parametrize("room", sorted(path.parent.name for path in PACKAGE.glob("*/__init__.py")))
def test_a_room_says_what_belongs_in_it_and_what_does_not(room):
    said = ast.get_docstring(ast.parse((PACKAGE / room / "__init__.py").read_text(encoding="utf-8"))) or ""
    assert "Not here:" in said


@pytest.mark.parametrize("room", sorted(set(imports())))
def test_a_file_says_what_it_is(room):
    for path in (PACKAGE / room).rglob("*.py") if (PACKAGE / room).is_dir() else [PACKAGE / f"{room}.py"]:
        assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))), path
