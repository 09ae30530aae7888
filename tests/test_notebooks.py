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
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = sorted((ROOT / "notebooks").glob("*.py"))
CHAPTERS = [pytest.param(path, id=path.stem) for path in SCRIPTS]
# Chapters that judge claims show rules and verdicts.
WITH_CLAIMS = ("04_generalization", "05_gap_filling", "06_dropout", "08_robust_training")
WITH_CLAIMS += ("09_gene_impact",)
OPENING = "What you will learn"
CLOSING = ["Take-aways", "Self-check", "Exercises", "In practice", "Further reading"]
SUBJECTS = ("paper", "code", "experiment")  # what an exercise is done with
GRADES = ("easy", "medium", "hard")
COLUMNS = 80  # of a line of code, as many as a page shows
WIDTH, SMALLEST = 5.0, 10.5  # of a figure in inches, of its letters in points
WORDS = (1500, 3000)
# Numbers with the form of a result that are none: of examples by hand, and settings.
BY_HAND = {
    "06_dropout": {"1.75", "0.25", "0.75"},
    "08_robust_training": {"6.25", "30.25", "0.02", "0.05", "0.001", "0.003", "0.01", "0.005"},
    "09_gene_impact": {"4.41"},
}
QUICKSTART = "00_quickstart"  # five minutes, so it may be shorter
MOST_LINES = 15  # of a code cell whose code is on the page

sys.path.insert(0, str(ROOT / "book"))
from convert_notebooks import pieces  # noqa: E402
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


def outside_solutions(path: Path) -> str:
    """Join the Markdown cells of a chapter, without its solutions."""
    return re.sub(
        r":::\{solution-start\}.*?\{solution-end\}\n:::", "", prose(path), flags=re.DOTALL
    )


def section(path: Path, title: str) -> str:
    """Return the text of a section, without its solutions."""
    return re.split(rf"^## {title}$", outside_solutions(path), flags=re.MULTILINE)[1].split(
        "\n## "
    )[0]


def words(path: Path) -> int:
    """Count the words to read: no solutions, no answers to questions, no displayed formulas."""
    text = re.sub(r":::\{dropdown\}.*?\n:::", "", outside_solutions(path), flags=re.DOTALL)
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
    assert headings[0] == OPENING
    assert headings[-len(CLOSING) :] == CLOSING
    if path.stem != QUICKSTART:
        assert headings[-len(CLOSING) - 1] == "What can go wrong"


@pytest.mark.parametrize("path", CHAPTERS)
def test_chapters_open_with_their_figure(path):
    before = []
    for cell in jupytext.read(path).cells:
        if cell.cell_type == "markdown" and re.search(r"^## ", cell.source, re.MULTILINE):
            break
        before.append(cell)
    kinds = ["figure" if draws(c.source) else c.cell_type for c in before if not is_hidden(c)]
    assert kinds[:2] == ["markdown", "code"]  # the question, what it needs
    assert "figure" in kinds[2:4]  # the answer


@pytest.mark.parametrize("path", CHAPTERS)
def test_objectives_and_take_aways(path):
    learn, take_away = section(path, OPENING), section(path, "Take-aways")
    assert "After this chapter you can" in learn
    assert 3 <= len(re.findall(r"^- ", learn, re.MULTILINE)) <= 5
    assert "**You need**" in learn
    assert 3 <= len(re.findall(r"^- ", take_away, re.MULTILINE)) <= 7


@pytest.mark.parametrize("path", CHAPTERS)
def test_questions_have_one_right_answer(path):
    questions = re.split(r"^\*\*\d\. .+", section(path, "Self-check"), flags=re.MULTILINE)[1:]
    assert len(questions) == 3
    places = []
    for question in questions:
        answers = re.findall(r":::\{dropdown\} .+\n(Right\.|Not quite\.)", question)
        assert len(answers) == question.count(":::{dropdown}") >= 3
        assert answers.count("Right.") == 1
        places.append(answers.index("Right."))
    assert len(set(places)) > 1, "the right answer should not always stand in the same place"


@pytest.mark.parametrize("name", WITH_CLAIMS)
def test_chapters_with_claims_show_rules_and_verdicts(name):
    code = [cell.source for cell in cells(ROOT / "notebooks" / f"{name}.py", "code")]
    for shown in (f'show_rules("{name}"', f'show_verdicts("{name}"'):
        assert any(shown in source for source in code)


@pytest.mark.parametrize("path", CHAPTERS)
def test_exercises_go_from_easy_to_hard(path):
    exercises = re.findall(
        r":::\{exercise\} (.+): (\w+), (\w+)\n:label:", section(path, "Exercises")
    )
    assert len(exercises) == section(path, "Exercises").count("{exercise}") >= 3
    subjects = [subject for _, subject, _ in exercises]
    grades = [GRADES.index(grade) for *_, grade in exercises]
    assert set(subjects) == set(SUBJECTS)
    assert grades == sorted(grades) and grades[0] == 0 and grades[-1] > 0


@pytest.mark.parametrize("path", CHAPTERS)
def test_every_exercise_has_a_solution_that_runs(path):
    exercises = re.findall(r"\{exercise\} .+\n:label: ex-([\w-]+)", prose(path))
    solved: dict[str, list[str]] = {}
    for cell, label in pieces(jupytext.read(path).cells):
        if label and cell.cell_type == "code":
            assert not cell.metadata.get("tags"), "a solution is folded as a whole"
            solved.setdefault(label.removeprefix("ex-"), []).append(cell.source)
    assert list(solved) == exercises
    for label, sources in solved.items():
        assert any(re.search(r"\bsay\(|\bassert\b", source) for source in sources), label


def typed_results(text: str) -> set[str]:
    """List numbers of two decimals or more in prose, outside of formulas and code."""
    text = re.sub(r"\$\$.*?\$\$", "", text, flags=re.DOTALL)
    text = re.sub(r"\$[^$]+\$|`[^`]*`", "", text)
    return set(re.findall(r"(?<![\w.])\d+\.\d{2,}", text))


@pytest.mark.parametrize("path", CHAPTERS)
def test_no_result_is_typed_by_hand(path):
    found = typed_results(prose(path))
    assert found <= BY_HAND.get(path.stem, set()), "print it by rpumap.chapters.display.say"


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
def test_lines_of_code_fit_the_page(path):
    long = [
        line
        for cell in cells(path, "code")
        for line in cell.source.splitlines()
        if len(line) > COLUMNS
    ]
    assert not long


@pytest.mark.parametrize("path", CHAPTERS)
def test_shown_cells_assert_at_most_once(path):
    shown = [c.source for c in cells(path, "code") if shows_its_code(c)]
    for cell, label in pieces(jupytext.read(path).cells):
        if label and cell.cell_type == "code":
            shown.remove(cell.source)
    assert not [s for s in shown if len(re.findall(r"^assert\b", s, re.MULTILINE)) > 1]


@pytest.mark.parametrize("path", CHAPTERS)
def test_code_of_figures_is_folded(path):
    solutions = [c.source for c, label in pieces(jupytext.read(path).cells) if label]
    drawn = [c for c in cells(path, "code") if draws(c.source) and c.source not in solutions]
    long = [c for c in drawn if shows_its_code(c) and len(code_lines(c.source)) > 3]
    assert not [c.source for c in long]


@pytest.mark.parametrize("path", CHAPTERS)
def test_figures_can_be_read_on_a_phone(path):
    code = "\n".join(cell.source for cell in cells(path, "code"))
    assert all(float(width) <= WIDTH for width in re.findall(r"figsize=\(([\d.]+),", code))
    sizes = re.findall(r"(?:fontsize|labelsize|titlesize)=([\d.]+)", code)
    assert all(float(size) >= SMALLEST for size in sizes)


@pytest.mark.parametrize("path", CHAPTERS)
def test_no_chapter_installs_anything(path):
    # that is added where a notebook is opened without the project (book/convert_notebooks.py)
    assert "pip" not in cells(path, "code")[0].source
