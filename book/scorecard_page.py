"""The tables of book/scorecard.md, made from what the chapters report."""

from __future__ import annotations

import datetime
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from rpumap.chapters.scorecard import Claim, collect, table

if TYPE_CHECKING:
    from nbformat import NotebookNode

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "book" / "scorecard.md"
# What the page includes: results of this build, and those that were published with the project.
THIS_BUILD = ROOT / "_build" / "scorecard.md"
PUBLISHED_TABLE = ROOT / "_build" / "scorecard_published.md"
PUBLISHED = ROOT / "book" / "scorecard.json"
NAMED = ("rpumap", "torch", "numpy", "scipy", "scikit-learn", "umap-learn", "scanpy")


def results(notebooks: Mapping[str, NotebookNode]) -> list[dict]:
    """List what executed chapters, by name, claim to have found."""
    return [
        {"chapter": chapter} | asdict(claim)
        for chapter, notebook in notebooks.items()
        for claim in collect(notebook)
    ]


def as_markdown(rows: list[dict]) -> str:
    """Write rows as a table for a page of the book; each claim links to its chapter."""
    if not rows:
        return "No chapter has reported results yet.\n"
    chapters = [row["chapter"] for row in rows]
    claims = [Claim(**{k: v for k, v in row.items() if k != "chapter"}) for row in rows]
    shown = table(claims)
    lines = ["| " + " | ".join([*shown.columns, "chapter"]) + " |"]
    lines.append("| " + " | ".join("---" for _ in range(shown.shape[1] + 1)) + " |")
    for chapter, cells in zip(chapters, shown.itertuples(index=False), strict=True):
        texts = [str(cell).replace("|", "\\|").replace("<", "&lt;") for cell in cells]
        link = f"[{Path(chapter).stem[:2]}](../{chapter})"
        lines.append("| " + " | ".join([*texts, link]) + " |")
    return "\n".join(lines) + "\n"


def write(rows: list[dict]) -> None:
    """Write the tables that book/scorecard.md includes, and have that page read again."""
    THIS_BUILD.write_text(as_markdown(rows), encoding="utf-8")
    text = "No run has been published with the project yet.\n"
    if PUBLISHED.exists():
        run = json.loads(PUBLISHED.read_text(encoding="utf-8"))
        versions = ", ".join(f"{name} {number}" for name, number in run["versions"].items())
        settings = "full settings" if run["full"] else "the short settings"
        text = f"Run on {run['date']} with {settings}, on {versions}.\n\n{as_markdown(run['rows'])}"
    PUBLISHED_TABLE.write_text(text, encoding="utf-8")
    os.utime(PAGE)


def publish(rows: list[dict]) -> list[str]:
    """Keep the results of this build with the project; return why that may not be done."""
    if not rows or not all(row["real"] or "dentate" in row["data"].lower() for row in rows):
        return ["only results from the real pancreas cells are published"]
    run = {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "full": os.environ.get("RPUMAP_FULL") == "1",
        "versions": {"Python": sys.version.split()[0], **{name: version(name) for name in NAMED}},
        "rows": rows,
    }
    PUBLISHED.write_text(json.dumps(run, indent=1) + "\n", encoding="utf-8")
    return []
