"""The pairs of script and notebook, and the shape of a chapter. nbmake runs the chapters."""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path

import jupytext
import pytest
import yaml
from nbformat import NotebookNode

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = sorted((ROOT / "notebooks").glob("*.py"))
CHAPTERS = [pytest.param(path, id=path.stem) for path in SCRIPTS]
OPENING = ["What you will do", "What you will learn", "What you need"]
CLOSING = ["Take-aways", "On your own", "In practice", "Further reading"]
WORDS = (1500, 3000)
CODE_LINES = (150, 250)
QUICKSTART = "00_quickstart"  # five minutes, so it may be shorter

sys.path.insert(0, str(ROOT / "book"))
from notebook_pairs import disagreements  # noqa: E402


def cells(path: Path, kind: str) -> list:
    """List the cells of one kind."""
    return [cell for cell in jupytext.read(path).cells if cell.cell_type == kind]


def is_hidden(cell: NotebookNode) -> bool:
    """Tell whether a cell is left out of the page."""
    return "remove-cell" in cell.metadata.get("tags", [])


def prose(path: Path) -> str:
    """Join the Markdown cells of a chapter."""
    return "\n\n".join(cell.source for cell in cells(path, "markdown"))


def words(path: Path) -> int:
    """Count the words on the page: no folded solutions, no displayed formulas."""
    text = re.sub(r"```\{admonition\} Solution.*?\n```", "", prose(path), flags=re.DOTALL)
    text = re.sub(r"\$\$.*?\$\$( \([\w-]+\))?", "", text, flags=re.DOTALL)
    return len(re.sub(r"\$[^$]+\$", "x", text).split())


def code_lines(path: Path) -> int:
    """Count the lines of code on the page, without blank lines and comments."""
    shown = [cell for cell in cells(path, "code") if not is_hidden(cell)]
    lines = "\n".join(cell.source for cell in shown).splitlines()
    return sum(bool(line.strip()) and not line.strip().startswith("#") for line in lines)


def draws(source: str) -> bool:
    """Tell whether a code cell leaves a figure behind; what stands in a function does not yet."""
    outside = "\n".join(line for line in source.splitlines() if line[:1].strip())
    return bool(re.search(r"\bplt\.(subplots|figure)\(|\bplotting\.(?!use_style)\w+\(", outside))


def test_there_are_chapters():
    assert QUICKSTART in [path.stem for path in SCRIPTS]


def test_scripts_and_notebooks_agree():
    assert disagreements() == []


def test_a_changed_script_is_noticed(tmp_path):
    script = tmp_path / "00_x.py"
    script.write_text("# %% [markdown]\n# # Title\n\n# %%\n1 + 1\n")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    assert disagreements(tmp_path, tmp_path) == ["00_x.py has no notebook"]
    jupytext.write(jupytext.read(script), tmp_path / "00_x.ipynb")
    (tmp_path / "00_x.ipynb").write_text((tmp_path / "00_x.ipynb").read_text())
    script.write_text(script.read_text().replace("1 + 1", "1 + 2"))
    assert disagreements(tmp_path, tmp_path) == ["00_x.ipynb is not what 00_x.py makes"]


def test_outputs_are_noticed(tmp_path):
    script = tmp_path / "00_x.py"
    script.write_text("# %%\n1 + 1\n")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    notebook = jupytext.read(script)
    notebook.cells[0]["execution_count"] = 1
    (tmp_path / "00_x.ipynb").write_text(json.dumps(notebook))
    assert "00_x.ipynb holds outputs or execution counts" in disagreements(tmp_path, tmp_path)


@pytest.mark.parametrize("path", CHAPTERS)
def test_headings(path):
    text = prose(path)
    assert len(re.findall(r"^# ", text, flags=re.MULTILINE)) == 1, "one title a chapter"
    headings = re.findall(r"^## (.+)$", text, flags=re.MULTILINE)
    assert headings[: len(OPENING)] == OPENING
    assert headings[-len(CLOSING) :] == CLOSING


@pytest.mark.parametrize("path", CHAPTERS)
def test_length(path):
    smallest = (0, 0) if path.stem == QUICKSTART else (WORDS[0], CODE_LINES[0])
    assert smallest[0] <= words(path) <= WORDS[1]
    assert smallest[1] <= code_lines(path) <= CODE_LINES[1]


@pytest.mark.parametrize("path", CHAPTERS)
def test_figures_have_alt_texts_and_captions(path):
    names = []
    for cell in cells(path, "code"):
        if draws(cell.source) and not is_hidden(cell):
            settings = cell.metadata.get("mystnb", {})
            assert settings.get("image", {}).get("alt"), cell.source
            assert settings.get("figure", {}).get("caption"), cell.source
            names.append(settings["figure"].get("name"))
    assert all(name and name.startswith("fig-") for name in names)
    assert len(names) == len(set(names))


def test_names_of_figures_and_equations_are_unique_in_the_book():
    labels = []
    for path in SCRIPTS:
        labels += re.findall(r"\$\$ \(([\w-]+)\)", prose(path))
        labels += re.findall(r'"name": "(fig-[\w-]+)"', path.read_text(encoding="utf-8"))
    assert sorted(labels) == sorted(set(labels))


@pytest.mark.parametrize("path", CHAPTERS)
def test_first_code_cell_installs_on_colab_only(path):
    first = cells(path, "code")[0]
    assert first.metadata.get("tags") == ["remove-cell"]
    address = yaml.safe_load((ROOT / "_config.yml").read_text())["repository"]["url"]
    assert f'"git+{address}"' in first.source
    assert 'if importlib.util.find_spec("rpumap") is None:' in first.source
    # a version asked for here would replace Colab's own, and the session would have to restart
    assert "==" not in first.source and "--upgrade" not in first.source
