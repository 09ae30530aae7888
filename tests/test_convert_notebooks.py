"""The chapters as notebooks for Colab, students and instructors."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import jupytext
import nbformat
import pytest
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_markdown_cell

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "book"))
import address  # noqa: E402
import convert_notebooks  # noqa: E402

SCRIPTS = [pytest.param(path, id=path.stem) for path in convert_notebooks.chapters()]
# What no reader should see of the book's syntax: roles, directives, targets, raw cross-references.
RAW = re.compile(r"\{\w[\w:-]*\}`|^\s*:{3,}|^`{3,}\{|^\([\w-]+\)=$|\$\$ \(eq-", re.MULTILINE)


@pytest.fixture(autouse=True)
def nowhere(monkeypatch):
    monkeypatch.delenv("RPUMAP_REPOSITORY", raising=False)


def code_of(notebook):
    return [re.sub("^#@title.*\n", "", c.source) for c in notebook.cells if c.cell_type == "code"]


def prose_of(notebook):
    return "\n\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")


@pytest.mark.parametrize("kind", convert_notebooks.KINDS)
@pytest.mark.parametrize("path", SCRIPTS)
def test_a_chapter_is_converted_whole(path, kind):
    notebook, source = convert_notebooks.convert(path, kind), jupytext.read(path)
    nbformat.validate(notebook)
    text = prose_of(notebook)
    assert not RAW.findall(text)
    assert text.count("<details>") == text.count("</details>")
    assert not re.findall(r"\]\((?!https?://|#|\d\d_\w+\.ipynb)[^)]*\)", text)
    # every heading, figure and formula of the chapter
    written = "\n\n".join(c.source for c in source.cells if c.cell_type == "markdown")
    headings = re.findall(r"^#+ .*$", written, re.MULTILINE)
    assert len(re.findall(r"^#+ ", text, re.MULTILINE)) == len(headings)
    n_formulas = len(re.findall(r"\$\$ \(eq-", written))
    in_solutions = "".join(re.findall(r"solution-start.*?solution-end", written, re.DOTALL))
    if kind != "student":
        assert text.count("\\tag{") == n_formulas
        assert code_of(notebook) == [c.source for c in source.cells if c.cell_type == "code"]
    else:
        assert text.count("\\tag{") == n_formulas - in_solutions.count("$$ (eq-")


@pytest.mark.parametrize("path", SCRIPTS)
def test_students_get_exercises_without_solutions(path):
    full, for_students = (convert_notebooks.convert(path, k) for k in ("instructor", "student"))
    n_exercises = len(re.findall(r"^\*\*Exercise ", prose_of(full), re.MULTILINE))
    assert n_exercises == prose_of(for_students).count("**Exercise ")
    assert "Solution" not in prose_of(for_students)
    code = code_of(for_students)
    assert code.count("# your solution\n") == n_exercises
    solved = [source for source in code_of(full) if source not in code]
    assert len(solved) >= n_exercises > 0


def write_script(folder, *cells):
    path = folder / "07_x.py"
    nb = nbformat.v4.new_notebook(cells=list(cells))
    nb.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3"}
    jupytext.write(nb, path, fmt="py:percent")
    return path


def test_syntax_of_the_book_becomes_plain(tmp_path):
    path = write_script(
        tmp_path,
        new_markdown_cell(
            "(target)=\n# Title\n\nSee {cite:t}`zhang2018crown` and {eq}`eq-crown-goal`, a "
            "{term}`box <Box>`,\n{func}`~rpumap.verification.crown`, [chapter\n3](03_training), "
            "[notation](../book/notation#x).\n\n```python\n{not}`a role`\n```\n\n"
            ":::{admonition} Note\nHold.\n:::"
        ),
        new_markdown_cell(":::{dropdown} Yes, `x`\nRight. $x$ it is.\n:::"),
    )
    first, second = (c.source for c in convert_notebooks.convert(path, "colab").cells)
    number = convert_notebooks.numbers()["eq-crown-goal"]
    assert first == (
        "# Title\n\nSee [Zhang et al. (2018)](https://doi.org/10.48550/arXiv.1811.00866) and "
        f"({number}), a box,\n`crown`, [chapter\n3](03_training.ipynb), notation.\n\n"
        "```python\n{not}`a role`\n```\n\n> **Note**\n>\n> Hold."
    ).replace(
        "https://doi.org/10.48550/arXiv.1811.00866",
        convert_notebooks.bibliography()["zhang2018crown"][2],
    )
    assert second == ("<details>\n<summary>Yes, `x`</summary>\n\nRight. $x$ it is.\n\n</details>")


@pytest.mark.parametrize("source", ["A {strange}`role`.", ":::{tabs}\nx\n:::", ":::{note} x\n"])
def test_what_is_not_known_is_an_error(tmp_path, source):
    path = write_script(tmp_path, new_markdown_cell(source))
    with pytest.raises((ValueError, KeyError), match="strange|tabs|note"):
        convert_notebooks.convert(path, "colab")


def test_exercises_are_referred_to_by_number():
    label = next(name for name in convert_notebooks.numbers() if name.startswith("ex-"))
    number = convert_notebooks.numbers()[label]
    assert convert_notebooks.convert_inline(f"{{ref}}`{label}`") == f"Exercise {number}"
    text = convert_notebooks.convert_inline(f"the {{ref}}`first exercise <{label}>`")
    assert text == f"the first exercise {number}"


def test_solutions_are_folded_for_colab_and_open_for_instructors(tmp_path):
    label = next(name for name in convert_notebooks.numbers() if name.startswith("ex-"))
    number = convert_notebooks.numbers()[label]
    start = f":::{{solution-start}} {label}\n:label: sol-x\n:class: dropdown\n:::"
    path = write_script(
        tmp_path,
        new_markdown_cell(f":::{{exercise}} T: code, easy\n:label: {label}\n\nDo.\n:::\n\n{start}"),
        new_code_cell("1 + 1"),
        new_markdown_cell(":::{solution-end}\n:::\n\n## Next"),
    )
    exercise, solution, after = convert_notebooks.convert(path, "colab").cells
    assert exercise.source == f"**Exercise {number} (T: code, easy)**\n\nDo."
    assert solution.source == f"#@title Solution {number}\n1 + 1"
    assert solution.metadata["cellView"] == "form"
    assert solution.metadata["jupyter"]["source_hidden"]
    assert after.source == "## Next"
    sources = [c.source for c in convert_notebooks.convert(path, "instructor").cells]
    assert sources[1:] == [f"**Solution {number}**", "1 + 1", "## Next"]
    sources = [c.source for c in convert_notebooks.convert(path, "student").cells]
    assert sources[1:] == ["# your solution\n", "## Next"]


def test_an_address_leads_to_the_repository_and_its_pages(monkeypatch):
    quickstart = convert_notebooks.chapters()[0]
    assert "git+" not in "".join(code_of(convert_notebooks.convert(quickstart, "colab")))
    monkeypatch.setenv("RPUMAP_REPOSITORY", "https://github.com/some-one/fork/")
    notebook = convert_notebooks.convert(quickstart, "colab")
    assert '"rpumap[lazy] @ git+https://github.com/some-one/fork"' in notebook.cells[1].source
    assert "(https://some-one.github.io/fork/notebooks/03_training.html)" in prose_of(notebook)
    assert "git+" not in "".join(code_of(convert_notebooks.convert(quickstart, "student")))
    config = address.book_config()
    assert config["repository"]["url"] == "https://github.com/some-one/fork"
    monkeypatch.setenv("RPUMAP_REPOSITORY", "git@github.com:some-one/fork")
    with pytest.raises(ValueError, match="give an address like https"):
        address.repository()


def test_the_quickstart_runs_as_converted(monkeypatch):
    monkeypatch.setenv("RPUMAP_DATA_DIR", "")
    monkeypatch.delenv("MPLBACKEND", raising=False)
    notebook = convert_notebooks.convert(convert_notebooks.chapters()[0], "colab")
    NotebookClient(notebook, timeout=300, kernel_name="python3").execute()
    outputs = [o for c in notebook.cells if c.cell_type == "code" for o in c.outputs]
    assert any("image/png" in output.get("data", {}) for output in outputs)
    assert not any(output.get("name") == "stderr" for output in outputs)
