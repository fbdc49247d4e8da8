"""What made a result: a change of any code that decides it changes the digest, and a change of no other does."""

import pytest

from search import provenance

FILES = {
    "search_mine.py": "import numpy, helper\nfrom layers.dense import block\ndef build():\n    import late.part\n",
    "helper.py": "import second\n",
    "second.py": "import helper\n",
    "layers/__init__.py": "",
    "layers/dense.py": "from . import deep\nfrom third import *\n",
    "layers/deep/part.py": "",
    "third.py": "",
    "late/part.py": "",
    "unused.py": "",
    "other/thing.py": "",
    "layers/notes.txt": "",
}
OF_NO_RESULT = ("unused.py", "other/thing.py", "layers/notes.txt")


@pytest.mark.parametrize("changed", FILES)
def test_the_source_is_the_script_and_all_that_it_imports_beside_it(tmp_path, changed):
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    script = tmp_path / "search_mine.py"
    before = provenance.source_sha256(script)
    (tmp_path / changed).write_text(FILES[changed] + "# changed\n")
    assert (provenance.source_sha256(script) == before) == (changed in OF_NO_RESULT)


def test_a_module_that_python_cannot_read_is_part_of_the_source_all_the_same(tmp_path):
    (tmp_path / "search_mine.py").write_text("import helper\n")
    (tmp_path / "helper.py").write_text("not python (\n")
    assert provenance.own_code(tmp_path / "search_mine.py") == [tmp_path / "search_mine.py", tmp_path / "helper.py"]
