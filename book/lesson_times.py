"""Sphinx extension: tables of what is taught when, and how long it takes.

``lesson-times`` with the argument ``chapters`` lists all chapters, and with ``lecture`` those of
the lecture; with ``workshop`` or ``unit``, the sessions of that plan in ``book/lessons.toml``; with
``runs``, when each chapter ran, how long, and with how much memory. Minutes are estimates, from
:mod:`lessons` and the run times that this build found.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

import lessons
import memory
from convert_notebooks import chapters

if TYPE_CHECKING:
    from sphinx.application import Sphinx

Cell = Sequence[nodes.Node]


class LessonTable(nodes.General, nodes.Element):
    """Stands for a table until all chapters have run."""


class LessonTimes(SphinxDirective):
    """Put a table here."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Leave a mark, which :func:`fill` replaces."""
        return [LessonTable(kind=self.arguments[0])]


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the extension."""
    app.add_node(LessonTable)
    app.add_directive("lesson-times", LessonTimes)
    app.connect("doctree-resolved", fill)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def fill(app: Sphinx, doctree: nodes.document, page: str) -> None:
    """Replace the marks of a page by tables."""
    for mark in list(doctree.findall(LessonTable)):
        plan, kind = lessons.load(), mark["kind"]
        if kind == "chapters":
            heads, rows = chapter_rows(app, page, plan)
        elif kind == "lecture":
            heads, rows = lecture_rows(app, page, plan)
        elif kind == "runs":
            heads, rows = run_rows(app, page)
        else:
            heads, rows = session_rows(app, page, plan, plan[kind])
        mark.replace_self(table(heads, rows))


def seconds(app: Sphinx, chapter: str) -> float:
    """Tell how long a chapter ran, or 0 if it did not."""
    data = app.env.nb_metadata.get(f"notebooks/{chapter}", {}).get("exec_data") or {}
    return data.get("runtime") or 0.0


def chapter_rows(
    app: Sphinx, page: str, plan: dict[str, Any]
) -> tuple[list[str], list[list[Cell]]]:
    """List all chapters: minutes to read, seconds to run, exercises by how hard they are."""
    rows = []
    for path in chapters():
        lesson = lessons.lesson(path.stem)
        grades = [exercise.grade for exercise in lesson.exercises]
        minutes = sum(plan["rates"][grade] for grade in grades)
        rows.append(
            [
                [link(app, page, path.stem, lesson.title)],
                [nodes.Text(f"{lesson.reading(plan['rates']):.0f}")],
                [nodes.Text(f"{seconds(app, path.stem):.0f}")],
                [nodes.Text(f"{len(grades)} in {minutes:.0f}")],
            ]
        )
    return ["chapter", "reading, min", "run, s", "exercises, min"], rows


def lecture_rows(
    app: Sphinx, page: str, plan: dict[str, Any]
) -> tuple[list[str], list[list[Cell]]]:
    """List the chapters of the lecture with the minutes that their slides take, and the sum."""
    rows, total = [], 0.0
    for chapter in plan["lecture"]["chapters"]:
        spoken = lessons.talk(chapter, plan["rates"])
        total += spoken
        name = link(app, page, chapter, lessons.lesson(chapter).title)
        rows.append([[name], [nodes.Text(f"{spoken:.0f}")]])
    rows.append([[nodes.strong(text="together")], [nodes.strong(text=f"{total:.0f}")]])
    return ["slides on", "minutes"], rows


def run_rows(app: Sphinx, page: str) -> tuple[list[str], list[list[Cell]]]:
    """List for each chapter when it ran, for how long, and with how much memory."""
    peaks, rows = memory.peaks(), []
    for path in chapters():
        data = app.env.nb_metadata.get(f"notebooks/{path.stem}", {}).get("exec_data") or {}
        ran = datetime.fromtimestamp(data["mtime"], UTC) if "mtime" in data else None
        peak = f"{peaks[path.stem]:,.0f}" if path.stem in peaks else "–"
        rows.append(
            [
                [link(app, page, path.stem, path.stem)],
                [nodes.Text(f"{ran:%Y-%m-%d %H:%M}" if ran else "–")],
                [nodes.Text(f"{data.get('runtime') or 0:.1f}")],
                [nodes.Text(peak)],
            ]
        )
    return ["chapter", "run at (UTC)", "seconds", "peak memory, MB"], rows


def session_rows(
    app: Sphinx, page: str, plan: dict[str, Any], sessions: Iterable[dict[str, Any]]
) -> tuple[list[str], list[list[Cell]]]:
    """List the sessions of a plan: chapters, what to leave out, minutes."""
    rows = []
    for number, session in enumerate(sessions, 1):
        what: list[nodes.Node] = [nodes.strong(text=f"{number}. {session['title']}. ")]
        for chapter in session["chapters"]:
            skip = session.get("skip", {}).get(chapter, [])
            what += [link(app, page, chapter, lessons.lesson(chapter).title)]
            what += [nodes.Text(f", without {', '.join(skip)}" if skip else ""), nodes.Text("; ")]
        what[-1] = nodes.Text(".")
        before, inside = lessons.minutes(session, plan["rates"])
        inside += sum(seconds(app, chapter) for chapter in session["chapters"]) / 60
        rows.append([what, [nodes.Text(f"{before:.0f}")], [nodes.Text(f"{inside:.0f}")]])
    return ["session", "before, min", "in class, min"], rows


def link(app: Sphinx, page: str, chapter: str, text: str) -> nodes.reference:
    """Link to a chapter."""
    target = app.builder.get_relative_uri(page, f"notebooks/{chapter}")
    return nodes.reference("", text, internal=True, refuri=target)


def table(heads: Sequence[str], rows: Iterable[Sequence[Cell]]) -> nodes.table:
    """Build a table."""
    group = nodes.tgroup(cols=len(heads))
    group += [nodes.colspec(colwidth=width) for width in (3, *[1] * (len(heads) - 1))]
    group += nodes.thead("", row([[nodes.Text(head)] for head in heads]))
    group += nodes.tbody("", *(row(cells) for cells in rows))
    return nodes.table("", group, classes=["table", "colwidths-given"])


def row(cells: Iterable[Cell]) -> nodes.row:
    """Build a row of a table."""
    return nodes.row("", *(nodes.entry("", nodes.paragraph("", "", *cell)) for cell in cells))
