"""Slides for a lecture, from the executed chapters: ``python book/slides.py``, after ``make book``.

For each chapter that ``book/lessons.toml`` names: its question, the figure that answers it, a
question of its self-check, and what to take away. reveal.js, by sphinx-revealjs; nothing is loaded
from outside.
"""

from __future__ import annotations

import base64
import re
import shutil
import sys
from pathlib import Path

import nbformat

import lessons
from build import CACHE
from convert_notebooks import chapters, convert_inline

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "_build" / "slides"
TARGET = ROOT / "_build" / "html" / "slides"
CONF = """\
extensions = ["myst_parser", "sphinx_revealjs", "sphinx.ext.mathjax"]
myst_enable_extensions = ["dollarmath", "amsmath"]
mathjax_path = "../../_static/mathjax/tex-chtml.js"  # of the book
project = {title!r}
html_static_path = []
revealjs_static_path = ["static"]
revealjs_css_files = ["slides.css"]
revealjs_style_theme = "white"
revealjs_script_conf = {{"hash": True, "slideNumber": "c/t"}}
language = "en"
"""
CSS = """\
.reveal { font-size: 30px; }
.reveal h1, .reveal h2, .reveal h3 { text-transform: none; font-size: 1.4em; }
.reveal ul, .reveal p { text-align: left; }
.reveal section img { max-height: 520px; margin: 0 auto; display: block; }
.reveal p.caption { font-size: 0.6em; }
"""


def executed(chapter: str) -> nbformat.NotebookNode:
    """Read a chapter with its outputs from the cache of the build."""
    from jupyter_cache import get_cache

    cache = get_cache(CACHE)
    return cache.merge_match_into_file(str(ROOT / "notebooks" / f"{chapter}.ipynb"))[1]


def slides_of(chapter: str, notebook: nbformat.NotebookNode, images: Path) -> str:
    """Write the slides of one chapter as Markdown.

    Parameters
    ----------
    chapter : str
        Such as ``"06_dropout"``.
    notebook : NotebookNode
        The chapter with its outputs.
    images : Path
        The folder that the figure is written to.
    """
    text = "\n\n".join(c.source for c in notebook.cells if c.cell_type == "markdown")
    title, _, opening = notebook.cells[0].source.removeprefix("# ").partition("\n")
    figure = next(
        cell
        for cell in notebook.cells
        if cell.metadata.get("mystnb", {}).get("figure")
        and any("image/png" in output.get("data", {}) for output in cell.outputs)
    )
    settings = figure.metadata["mystnb"]
    data = next(o["data"]["image/png"] for o in figure.outputs if "image/png" in o.get("data", {}))
    (images / f"{chapter}.png").write_bytes(base64.b64decode(data))
    asked, answers, why = lessons.question(lessons.section(text, "Self-check"))
    listed = "\n".join(f"- {answer}" for answer in answers)
    slides = convert_inline(
        f"## {title}\n\n{opening.strip()}\n\n"
        f"### The answer\n\n![{settings['image']['alt']}]({chapter}.png)\n\n"
        f"### {asked}\n\n{listed}\n\n### Answer\n\n{why}\n\n"
        f"### Take-aways\n\n{lessons.section(text, 'Take-aways')}\n\n"
    )
    # chapters are not beside the slides
    return re.sub(r"(?<!!)\[([^\]]+)\]\((?!https?:)[^)]+\)", r"\1", slides)


def write(folder: Path = SOURCE) -> None:
    """Write the source of the slides: Markdown, figures, settings."""
    plan = lessons.load()["lecture"]
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "static").mkdir(parents=True)
    (folder / "static" / "slides.css").write_text(CSS)
    (folder / "conf.py").write_text(CONF.format(title=plan["title"]))
    names = {path.stem for path in chapters()}
    parts = [f"# {plan['title']}\n\nA map that new cells can be placed on, with certificates.\n\n"]
    for chapter in plan["chapters"]:
        if chapter not in names:
            raise ValueError(f"{lessons.FILE.name} names {chapter}, which is no chapter")
        parts.append(slides_of(chapter, executed(chapter), folder))
    (folder / "index.md").write_text("".join(parts), encoding="utf-8")


def build() -> int:
    """Build the slides beside the pages, and return the exit status of Sphinx."""
    from sphinx.cmd.build import main as sphinx_build

    write()
    shutil.rmtree(TARGET, ignore_errors=True)
    options = ["-q", "-W", "-b", "revealjs", "-d", str(SOURCE / ".doctrees")]
    status = sphinx_build([*options, str(SOURCE), str(TARGET)])
    for file in TARGET.rglob("*.map"):  # for those who develop reveal.js
        file.unlink()
    return status


if __name__ == "__main__":
    sys.exit(build())
