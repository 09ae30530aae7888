"""What is taught when, how long it takes, slides, and the memory that chapters take."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import jupytext
import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_output

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "book"))
import lessons  # noqa: E402
import memory  # noqa: E402
import slides  # noqa: E402

PLAN = lessons.load()


def write_chapter(folder, *cells):
    path = folder / "notebooks" / "01_x.py"
    path.parent.mkdir(exist_ok=True)
    jupytext.write(nbformat.v4.new_notebook(cells=list(cells)), path, fmt="py:percent")


def test_a_chapter_is_counted(tmp_path, monkeypatch):
    exercise = ":::{exercise} T: code, hard\n:label: ex-x-t\n\nDo it now.\n:::\n\n"
    start = ":::{solution-start} ex-x-t\n:label: sol-x-t\n:class: dropdown\n:::"
    write_chapter(
        tmp_path,
        new_markdown_cell("# Title\n\none two three"),
        new_code_cell("a = 1\n\nb = 2"),
        new_code_cell("plt.subplots()", metadata={"tags": ["hide-input"]}),
        new_markdown_cell("## First\n\nfour $$ y = x $$ (eq-x)\n\n## Second\n\nfive six"),
        new_code_cell("c = 3"),
        new_markdown_cell(
            "## Self-check\n\n**1. Why?**\n\n:::{dropdown} So\nRight. Not counted at all.\n:::\n\n"
            f"## Exercises\n\n{exercise}{start}"
        ),
        new_code_cell("d = 4"),
        new_markdown_cell(":::{solution-end}\n:::"),
    )
    monkeypatch.setattr(lessons, "ROOT", tmp_path)
    found = lessons.lesson("01_x")
    assert (found.title, found.code_lines, found.formulas) == ("Title", 3, 1)
    assert (found.figures, found.questions) == (1, 1)
    assert found.exercises == (lessons.Exercise("T", "code", "hard", "ex-x-t"),)
    shorter = lessons.lesson("01_x", ("Second",))
    assert (shorter.code_lines, found.words - shorter.words) == (2, 4)
    with pytest.raises(ValueError, match="01_x has no section 'Third'"):
        lessons.lesson("01_x", ("Third",))
    rates = {"words": 1, "code": 1, "formula": 1, "figure": 1, "question": 1, "easy": 1, "hard": 5}
    assert found.reading(rates) == found.words + 3 + 1
    assert found.in_class(rates, ("easy",)) == 2
    assert found.in_class(rates, ("hard",)) == 7


@pytest.mark.parametrize("name", ["workshop", "unit"])
def test_plans_fit_their_time(name):
    for session in PLAN[name]:
        before, inside = lessons.minutes(session, PLAN["rates"])
        assert 30 <= inside <= 90, session["title"]
        assert before <= 90, session["title"]


def test_the_lecture_fits_its_time():
    spoken = sum(lessons.talk(chapter, PLAN["rates"]) for chapter in PLAN["lecture"]["chapters"])
    assert 60 <= spoken <= 90


def test_the_unit_covers_all_chapters():
    taught = {chapter for session in PLAN["unit"] for chapter in session["chapters"]}
    assert taught == {path.stem for path in (ROOT / "notebooks").glob("[0-9]*.py")}


def a_chapter_that_ran(image: bytes):
    data = {"image/png": base64.b64encode(image).decode()}
    figure = new_code_cell(
        "plt.subplots()",
        metadata={"mystnb": {"image": {"alt": "An alt text."}, "figure": {"caption": "C."}}},
        outputs=[new_output("display_data", data)],
    )
    text = (
        "## Take-aways\n\n- one {term}`box`\n\n## Self-check\n\n**1. Why so?**\n\n"
        ":::{dropdown} No\nNot quite. It is not.\n:::\n:::{dropdown} Yes\nRight. It is.\n:::\n\n"
        "**2. Again?**\n\n:::{dropdown} Yes\nRight. Other.\n:::\n\n## Exercises\n\nNone."
    )
    cells = [new_markdown_cell("# Title\n\nWhat is asked?"), figure, new_markdown_cell(text)]
    return nbformat.v4.new_notebook(cells=cells)


def test_slides_of_a_chapter(tmp_path):
    text = slides.slides_of("01_x", a_chapter_that_ran(b"image"), tmp_path)
    assert (tmp_path / "01_x.png").read_bytes() == b"image"
    assert text == (
        "## Title\n\nWhat is asked?\n\n### The answer\n\n![An alt text.](01_x.png)\n\n"
        "### Why so?\n\n- No\n- Yes\n\n### Answer\n\nIt is.\n\n### Take-aways\n\n- one box\n\n"
    )


def test_every_chapter_of_the_lecture_is_there():
    names = {path.stem for path in (ROOT / "notebooks").glob("[0-9]*.py")}
    assert set(PLAN["lecture"]["chapters"]) <= names


def test_kernels_note_their_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "NOTES", tmp_path / "notes")
    memory.prepare(tmp_path / "profile_default" / "startup")
    write_chapter(tmp_path, new_code_cell("x = bytearray(10**8)"), new_code_cell("x[:] = x"))
    code = "x = bytearray(10**8)\nx[:] = x\n"
    environment = {"IPYTHONDIR": str(tmp_path), "PATH": "/usr/bin:/bin"}
    subprocess.run(
        [sys.executable, "-m", "IPython", "--simple-prompt"],
        input=code,
        text=True,
        env=environment,
        check=True,
        capture_output=True,
    )
    (note,) = (tmp_path / "notes").glob("*.json")
    found = json.loads(note.read_text())
    assert [source.strip() for source in found["ran"]][:2] == code.splitlines()
    assert found["peak"] > 100
    ran = {"ran": code.splitlines(), "peak": 120.0}
    (tmp_path / "notes" / "later.json").write_text(json.dumps(ran))
    assert memory.peaks(tmp_path / "notes", tmp_path / "notebooks") == {"01_x": 120.0}
    write_chapter(tmp_path, new_code_cell("changed = 1"))
    assert memory.peaks(tmp_path / "notes", tmp_path / "notebooks") == {}


def test_files_of_cells_have_size_and_checksum(tmp_path, monkeypatch):
    monkeypatch.setattr(lessons, "DATA_FILES", tmp_path / "files.md")
    lessons.write_data_files()
    rows = (tmp_path / "files.md").read_text().splitlines()[2:]
    assert len(rows) == 5
    folder = os.environ.get("RPUMAP_DATA_DIR")
    for row in rows:
        name, size, digest = re.match(r"\| `(.+)` \| (.+) \| `([0-9a-f]{64})` \|", row).groups()
        file = Path(folder or "nowhere") / name
        if file.exists():
            assert float(size) == round(file.stat().st_size / 1e6, 1)
            assert digest == hashlib.sha256(file.read_bytes()).hexdigest()
