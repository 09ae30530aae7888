"""How long a chapter takes to read, to run and to work through: estimates from its source.

The rates stand in ``book/lessons.toml``; words, lines of code, formulas, figures and exercises are
counted in the chapters, and how long a chapter runs is told by the build.
"""

from __future__ import annotations

import json
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jupytext

from convert_notebooks import FOLDED, pieces

ROOT = Path(__file__).resolve().parents[1]
FILE = ROOT / "book" / "lessons.toml"
PUBLISHED = ROOT / "book" / "scorecard.json"
DATA_FILES = ROOT / "_build" / "data_files.md"
FIGURE = re.compile(r"\bplt\.(?:subplots|figure)\(|\bplotting\.\w+\(")


def load() -> dict[str, Any]:
    """Read the plans and the rates."""
    return tomllib.loads(FILE.read_text(encoding="utf-8"))


@dataclass(frozen=True)
class Exercise:
    """An exercise: its title, what it is done with, how hard it is, and its label."""

    title: str
    subject: str
    grade: str
    label: str


@dataclass(frozen=True)
class Lesson:
    """What there is to read and to do in a chapter, or in some of its sections."""

    title: str
    words: int
    code_lines: int
    formulas: int
    figures: int
    questions: int
    exercises: tuple[Exercise, ...]

    def reading(self, rates: dict[str, float]) -> float:
        """Estimate the minutes to read it, without exercises and questions."""
        words, lines = self.words / rates["words"], self.code_lines / rates["code"]
        return words + lines + self.formulas * rates["formula"]

    def in_class(
        self, rates: dict[str, float], grades: tuple[str, ...] = ("easy", "medium")
    ) -> float:
        """Estimate the minutes to discuss it: figures, questions, exercises of some grades."""
        talk = self.figures * rates["figure"] + self.questions * rates["question"]
        return talk + sum(rates[e.grade] for e in self.exercises if e.grade in grades)


def lesson(chapter: str, skip: tuple[str, ...] = ()) -> Lesson:
    """Count what a chapter holds.

    Parameters
    ----------
    chapter : str
        Such as ``"06_dropout"``.
    skip : tuple of str
        Titles of sections that are left out.

    Raises
    ------
    ValueError
        If a section that is to be left out is not there.
    """
    notebook = jupytext.read(ROOT / "notebooks" / f"{chapter}.py")
    section, sections, prose, code, exercises = "", [], [], [], []
    for cell, solution in pieces(notebook.cells):
        if solution:
            continue
        if cell.cell_type == "code":
            if section not in skip:
                code.append(cell)
            continue
        for text in re.split(r"^(?=## )", cell.source, flags=re.MULTILINE):
            if text.startswith("## "):
                section = text.splitlines()[0][3:].strip()
                sections.append(section)
            if section not in skip:
                prose.append(text)
    missing = set(skip) - set(sections)
    if missing:
        raise ValueError(f"{chapter} has no section {', '.join(map(repr, sorted(missing)))}")
    text = "\n\n".join(prose)
    found = re.findall(r":::\{exercise\} (.+): (\w+), (\w+)\n:label: (\S+)", text)
    exercises = tuple(Exercise(*parts) for parts in found)
    n_questions = len(re.findall(r"^\*\*\d\. .+?\*\*$", text, re.MULTILINE | re.DOTALL))
    plain = re.sub(r":::\{dropdown\}.*?\n:::", "", text, flags=re.DOTALL)
    plain = re.sub(r"\$\$.*?\$\$( \([\w-]+\))?", "", plain, flags=re.DOTALL)
    shown = [c for c in code if not FOLDED & set(c.metadata.get("tags", []))]
    return Lesson(
        title=notebook.cells[0].source.splitlines()[0].removeprefix("# "),
        words=len(plain.split()),
        code_lines=sum(bool(line.strip()) for cell in shown for line in cell.source.splitlines()),
        formulas=len(re.findall(r"\$\$ \(eq-", text)),
        figures=sum(bool(FIGURE.search(cell.source)) for cell in code),
        questions=n_questions,
        exercises=exercises,
    )


def section(text: str, title: str) -> str:
    """Return the text of a section of a chapter."""
    found = re.search(rf"^## {title}$(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    if not found:
        raise ValueError(f"there is no section {title!r}")
    return found[1].strip()


def question(text: str) -> tuple[str, list[str], str]:
    """Split the first question of a self-check: question, answers, and the right one explained."""
    asked = re.search(r"^\*\*\d\. (.+?)\*\*$", text, re.MULTILINE | re.DOTALL)
    answers = re.findall(r"^:::\{dropdown\} ([^\n]+)\n(.*?)\n:::$", text, re.MULTILINE | re.DOTALL)
    first = re.split(r"^\*\*2\. ", text, flags=re.MULTILINE)[0].count(":::{dropdown}")
    right = next(why for _, why in answers[:first] if why.startswith("Right."))
    shown = [answer for answer, _ in answers[:first]]
    return " ".join(asked[1].split()), shown, right.removeprefix("Right. ")


def talk(chapter: str, rates: dict[str, float]) -> float:
    """Estimate the minutes that the slides of a chapter take in a lecture."""
    cells = jupytext.read(ROOT / "notebooks" / f"{chapter}.py").cells
    text = "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    asked, answers, why = question(section(text, "Self-check"))
    said = [cells[0].source, asked, *answers, why, section(text, "Take-aways")]
    n_words = sum(len(part.split()) for part in said)
    slides = 5 * rates["slide"] + rates["figure"] + rates["question"]
    return slides + n_words / rates["spoken"]


def minutes(session: dict[str, Any], rates: dict[str, float]) -> tuple[float, float]:
    """Estimate the minutes of a session: before it, and in class without the time to run.

    Parameters
    ----------
    session : dict
        An entry of a plan: ``chapters``; ``skip``, sections by chapter; ``read``, whether chapters
        are read ``"before"`` or ``"in class"``; ``grades`` of the exercises that are done in class.
    rates : dict
        As in the file of the plans.
    """
    parts = [
        lesson(chapter, tuple(session.get("skip", {}).get(chapter, ())))
        for chapter in session["chapters"]
    ]
    reading = sum(part.reading(rates) for part in parts)
    inside = sum(part.in_class(rates, tuple(session["grades"])) for part in parts)
    return (reading, inside) if session["read"] == "before" else (0.0, reading + inside)


def write_data_files() -> None:
    """Write the table of files of cells that book/teaching.md includes: name, size and checksum."""
    sums = json.loads(PUBLISHED.read_text(encoding="utf-8"))["data_sha256"]
    lines = ["| file | MB | SHA-256 |", "| --- | --- | --- |"]
    lines += [f"| `{name}` | {size} | `{sums[name]}` |" for name, size in load()["data"].items()]
    DATA_FILES.parent.mkdir(exist_ok=True)
    DATA_FILES.write_text("\n".join(lines) + "\n", encoding="utf-8")
