"""The pairs of script and notebook, and the shape of a chapter. nbmake runs the chapters."""

from __future__ import annotations

import ast
import json
import re
import shutil
import sys
from pathlib import Path

import jupytext
import pytest
import yaml
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = sorted((ROOT / "notebooks").glob("*.py"))
CHAPTERS = [pytest.param(path, id=path.stem) for path in SCRIPTS]
OPENING = ["What you will do", "What you will learn", "What you need"]
# Chapters that judge claims show rules and verdicts. They, and one more, open with the figure that
# answers their question, and their solutions are cells that run.
WITH_CLAIMS = ("04_generalization", "05_gap_filling", "06_dropout", "08_robust_training")
WITH_CLAIMS += ("09_gene_impact",)
FIGURE_FIRST = (*WITH_CLAIMS, "10_reference_mapping")
CLOSING = ["Take-aways", "On your own", "In practice", "Further reading"]
WORDS = (1500, 3000)
# Numbers with the form of a result that are none: of examples by hand, and settings.
BY_HAND = {
    "06_dropout": {"1.75", "0.25", "0.75"},
    "08_robust_training": {"6.25", "30.25", "0.02", "0.05", "0.001", "0.003", "0.01", "0.005"},
    "09_gene_impact": {"4.41"},
    "10_reference_mapping": {"0.05"},
}
QUICKSTART = "00_quickstart"  # five minutes, so it may be shorter
MOST_LINES = 15  # of a code cell whose code is on the page

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


def shows_its_code(cell: NotebookNode) -> bool:
    """Tell whether a reader sees the code of a cell without unfolding it."""
    folded = {"remove-cell", "remove-input", "hide-cell", "hide-input"}
    return not folded & set(cell.metadata.get("tags", []))


def code_lines(source: str) -> list[str]:
    """List the lines of code of a cell, without blank lines and comments."""
    lines = (line.strip() for line in source.splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def long_cells(code: list[NotebookNode]) -> list[str]:
    """List the cells that show too many lines, by their first line of code."""
    shown = [code_lines(cell.source) for cell in code if shows_its_code(cell)]
    return [f"{lines[0]} ({len(lines)} lines)" for lines in shown if len(lines) > MOST_LINES]


def names(source: str, context: type[ast.expr_context]) -> set[str]:
    """List the names that code reads (`ast.Load`) or assigns (`ast.Store`)."""
    found = {n for n in ast.walk(ast.parse(source)) if isinstance(n, ast.Name)}
    return {name.id for name in found if isinstance(name.ctx, context)}


def uses_of_removed(code: list[NotebookNode]) -> set[str]:
    """List the names that cells on the page use though only a removed cell assigned them."""
    removed: set[str] = set()
    used: set[str] = set()
    for cell in code:
        assigned = names(cell.source, ast.Store)
        if is_hidden(cell):
            removed |= assigned
        else:
            used |= (names(cell.source, ast.Load) - assigned) & removed
            removed -= assigned
    return used


def draws(source: str) -> bool:
    """Tell whether a code cell leaves a figure behind; what stands in a function does not yet."""
    outside = "\n".join(line for line in source.splitlines() if line[:1].strip())
    return bool(re.search(r"\bplt\.(subplots|figure)\(|\bplotting\.\w+\(", outside))


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
    if path.stem not in FIGURE_FIRST:
        assert headings[: len(OPENING)] == OPENING
    assert headings[-len(CLOSING) :] == CLOSING


@pytest.mark.parametrize("name", FIGURE_FIRST)
def test_chapters_open_with_their_figure(name):
    before = []
    for cell in jupytext.read(ROOT / "notebooks" / f"{name}.py").cells:
        if cell.cell_type == "markdown" and re.search(r"^## ", cell.source, re.MULTILINE):
            break
        before.append(cell)
    kinds = ["figure" if draws(c.source) else c.cell_type for c in before if not is_hidden(c)]
    assert kinds[:3] == ["markdown", "code", "figure"]  # the question, what it needs, the answer


@pytest.mark.parametrize("name", WITH_CLAIMS)
def test_chapters_with_claims_show_rules_and_verdicts(name):
    code = [cell.source for cell in cells(ROOT / "notebooks" / f"{name}.py", "code")]
    for shown in (f'show_rules("{name}"', f'show_verdicts("{name}"'):
        assert any(shown in source for source in code)


@pytest.mark.parametrize("name", FIGURE_FIRST)
def test_every_exercise_has_a_solution_that_runs(name):
    path = ROOT / "notebooks" / f"{name}.py"
    exercises = re.findall(r"^\*\*(\d)\. ", prose(path).split("## On your own")[1], re.MULTILINE)
    solutions = [c for c in cells(path, "code") if "hide-cell" in c.metadata.get("tags", [])]
    titles = [c.metadata["mystnb"]["code_prompt_show"] for c in solutions]
    assert titles == [f"Solution {number}" for number in exercises]
    assert len(titles) >= 3
    for cell in solutions:
        assert "say(" in cell.source
        assert cell.metadata["jupyter"] == {"source_hidden": True, "outputs_hidden": True}


def typed_results(text: str) -> set[str]:
    """List numbers of two decimals or more in prose, outside of formulas and code."""
    text = re.sub(r"\$\$.*?\$\$", "", text, flags=re.DOTALL)
    text = re.sub(r"\$[^$]+\$|`[^`]*`", "", text)
    return set(re.findall(r"(?<![\w.])\d+\.\d{2,}", text))


@pytest.mark.parametrize("name", FIGURE_FIRST)
def test_no_result_is_typed_by_hand(name):
    found = typed_results(prose(ROOT / "notebooks" / f"{name}.py"))
    assert found <= BY_HAND.get(name, set()), "print it by rpumap.chapters.display.say"


def test_a_typed_result_is_noticed():
    assert typed_results("It was 0.93 at $0.12$ and `0.55`, sec. 3.4, $$ 1.25 $$") == {"0.93"}


@pytest.mark.parametrize("path", CHAPTERS)
def test_length(path):
    smallest = 0 if path.stem == QUICKSTART else WORDS[0]
    assert smallest <= words(path) <= WORDS[1]


@pytest.mark.parametrize("path", CHAPTERS)
def test_cells_are_short(path):
    found = long_cells(cells(path, "code"))
    assert not found, "split these cells, or fold their code with hide-input"


@pytest.mark.parametrize("path", CHAPTERS)
def test_what_the_page_uses_stands_on_the_page(path):
    assert not uses_of_removed(cells(path, "code"))


def test_use_of_a_removed_name_is_noticed():
    removed = new_code_cell("x = 1", metadata={"tags": ["remove-cell"]})
    assert uses_of_removed([removed, new_code_cell("x + 1")]) == {"x"}
    assert not uses_of_removed([removed, new_code_cell("x = 2"), new_code_cell("x + 1")])
    assert not uses_of_removed([new_code_cell("x = 1"), new_code_cell("x + 1")])


def test_lines_of_a_cell():
    assert code_lines("# comment\n\nx = 1  # one\n    # another\ny = 2\n") == [
        "x = 1  # one",
        "y = 2",
    ]


@pytest.mark.parametrize(
    ("tag", "n_lines", "is_long"),
    [
        (None, 15, False),
        (None, 16, True),
        ("hide-output", 16, True),
        ("hide-input", 16, False),
        ("remove-input", 16, False),
        ("hide-cell", 16, False),
        ("remove-cell", 16, False),
    ],
)
def test_long_cells_are_those_on_the_page(tag, n_lines, is_long):
    metadata = {"tags": [tag]} if tag else {}
    cell = new_code_cell("# why\n\n" + "x = 1\n" * n_lines, metadata=metadata)
    assert long_cells([cell]) == (["x = 1 (16 lines)"] if is_long else [])


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
