"""Executed chapters, copied from the cache of the book."""

from __future__ import annotations

import sys
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "book"))
get_cache = pytest.importorskip("jupyter_cache").get_cache  # comes with the book
import executed  # noqa: E402


@pytest.fixture
def notebooks(tmp_path) -> list[Path]:
    """Two notebooks, and a cache that holds the runs of both, and a run of older code."""
    folder, cache = tmp_path / "notebooks", get_cache(tmp_path / "cache")
    folder.mkdir()
    paths = []
    for name, code in (("00_first", "1 + 0"), ("00_first", "1 + 1"), ("01_second", "2 + 1")):
        path = folder / f"{name}.ipynb"
        notebook = new_notebook(cells=[new_markdown_cell(f"# {name}"), new_code_cell(code)])
        nbformat.write(notebook, path)
        data = {"text/plain": str(eval(code))}
        notebook.cells[1].outputs = [new_output("execute_result", data, execution_count=1)]
        notebook.cells[1].execution_count = 1
        run = tmp_path / path.name
        nbformat.write(notebook, run)
        cache.cache_notebook_file(run, uri=path, check_validity=False, overwrite=True)
        paths.append(path)
    return paths[1:]


def test_executed_notebooks_have_their_names_text_and_outputs(notebooks, tmp_path):
    unchanged = [path.read_bytes() for path in notebooks]
    assert executed.write(notebooks, tmp_path / "cache", tmp_path / "a" / "b") == []
    assert [path.read_bytes() for path in notebooks] == unchanged
    written = sorted((tmp_path / "a" / "b").iterdir())
    assert [path.name for path in written] == ["00_first.ipynb", "01_second.ipynb"]
    for path, shown in zip(written, ("2", "3"), strict=True):
        text, code = nbformat.read(path, as_version=4).cells
        assert text.source == f"# {path.stem}"
        assert code.outputs[0].data["text/plain"] == shown


def test_notebooks_that_changed_since_are_named(notebooks, tmp_path):
    nbformat.write(new_notebook(cells=[new_code_cell("3 + 3")]), notebooks[1])
    assert executed.write(notebooks, tmp_path / "cache", tmp_path / "out") == ["01_second.ipynb"]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["00_first.ipynb"]


def test_the_command_tells_what_was_not_executed(notebooks, tmp_path, monkeypatch):
    monkeypatch.setattr(executed, "ROOT", tmp_path)
    monkeypatch.setattr(executed, "CACHE", tmp_path / "cache")
    documents = ["book/index", "notebooks/00_first", "notebooks/01_second"]
    monkeypatch.setattr(executed, "table_of_contents", lambda: documents)
    monkeypatch.setattr(sys, "argv", ["executed.py", str(tmp_path / "out")])
    executed.main()
    assert len(list((tmp_path / "out").iterdir())) == 2
    nbformat.write(new_notebook(cells=[new_code_cell("3 + 3")]), notebooks[0])
    with pytest.raises(SystemExit, match=r"Not executed: 00_first.ipynb\. Run `make book`"):
        executed.main()
