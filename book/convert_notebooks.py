"""Write the chapters as notebooks that read well where nobody knows the syntax of the book.

``python book/convert_notebooks.py KIND FOLDER``, where KIND is

- ``colab``: solutions folded, and a first cell that installs the package where it is missing. These
  the book's Colab and download buttons lead to.
- ``student``: no solutions, and an empty cell after each exercise.
- ``instructor``: solutions open.

Citations become names and years with links, cross-references numbers, and directives plain Markdown
with <details>. What the converter does not know is an error: no raw syntax reaches a reader.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import jupytext
import nbformat
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell

from address import repository, web_page

ROOT = Path(__file__).resolve().parents[1]
KINDS = ("colab", "student", "instructor")
FOLDED = {"hide-input", "remove-input", "hide-cell", "remove-cell"}

INSTALL = """\
# Installs rpumap where it is missing, as on Colab.
import importlib.util
import subprocess
import sys

if importlib.util.find_spec("rpumap") is None:
    needed = ["umap-learn", "rpumap[lazy] @ git+{address}"]
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", *needed], check=True)
    needed = ["appdirs", "ninja", "packaging", "pyyaml"]
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", *needed], check=True)
    needed = ["--no-deps", "{lirpa}"]
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", *needed], check=True)
"""

# The marks of a directive: three or more colons or backquotes, and its name in braces.
OPENS = re.compile(r"^(?P<fence>:{3,}|`{3,})\{(?P<name>[\w-]+)\} ?(?P<title>.*)$")
OPTION = re.compile(r"^:(?P<name>[\w-]+): ?(?P<value>.*)$")
ROLE = re.compile(r"\{(?P<name>[\w:]+)\}`(?P<text>[^`]+)`")
LINK = re.compile(r"(?<!!)\[(?P<text>[^\]]+)\]\((?P<target>(?!https?:|#|mailto:)[^)\s]+)\)")
LABEL = re.compile(r"\$\$ \((?P<label>eq-[\w-]+)\)")
TARGET = re.compile(r"^\([\w-]+\)=$")
UNKNOWN = re.compile(r"\{[\w:-]+\}`|^\s*:{3,}|^`{3,}\{|^\([\w-]+\)=$", re.MULTILINE)


# --- numbers, as the book gives them ------------------------------------------------------------


WORDS = {"fig": "Figure", "ex-": "Exercise"}


@cache
def numbers() -> dict[str, str]:
    """Give the numbers of all figures, formulas and exercises, by their labels."""
    found = {}
    for path in chapters():
        chapter = int(path.stem[:2])
        text = path.read_text(encoding="utf-8")
        for pattern in (r"\$\$ \((eq-[\w-]+)\)", r'"name": "(fig-[\w-]+)"', r":label: (ex-[\w-]+)"):
            for n, label in enumerate(re.findall(pattern, text), 1):
                found[label] = f"{chapter}.{n}" if chapter else str(n)
    return found


def chapters() -> list[Path]:
    """List the scripts of the chapters."""
    return sorted((ROOT / "notebooks").glob("[0-9]*.py"))


@cache
def bibliography() -> dict[str, tuple[str, str, str]]:
    """Read names, year and address of each entry of the bibliography."""
    from pybtex.database import parse_file

    entries = {}
    for key, entry in parse_file(ROOT / "book" / "references.bib").entries.items():
        last = [" ".join(p.prelast_names + p.last_names) for p in entry.persons["author"]]
        last = [re.sub(r"[{}]", "", name) for name in last]
        names = " and ".join(last) if len(last) < 3 else f"{last[0]} et al."
        fields = entry.fields
        url = f"https://doi.org/{fields['doi']}" if "doi" in fields else fields["url"]
        entries[key] = names, fields["year"], url
    return entries


# --- roles and links ------------------------------------------------------------------------------


def cite(keys: str, in_text: bool) -> str:
    """Write a citation as names, year and link."""
    shown = []
    for key in (key.strip() for key in keys.split(",")):
        names, year, url = bibliography()[key]
        shown.append(f"[{names} ({year})]({url})" if in_text else f"[{names} {year}]({url})")
    return " and ".join(shown) if in_text else f"({'; '.join(shown)})"


def reference(target: str) -> str:
    """Write a reference to an exercise, which may come with a text of its own."""
    text, _, label = target.rstrip(">").rpartition(" <")
    return f"{text or 'Exercise'} {numbers()[label]}"


def code(name: str) -> str:
    """Write the name of a function, without what a tilde says to leave out."""
    return f"`{name[1:].rsplit('.', 1)[-1] if name.startswith('~') else name}`"


ROLES: dict[str, Callable[[str], str]] = {
    "cite:p": lambda keys: cite(keys, in_text=False),
    "cite:t": lambda keys: cite(keys, in_text=True),
    "eq": lambda label: f"({numbers()[label]})",
    "numref": lambda label: f"{WORDS[label[:3]]} {numbers()[label]}",
    "ref": reference,
    "term": lambda term: re.sub(r" <.*>$", "", term),
    "abbr": lambda text: text,
    "doc": lambda target: link(target.rsplit("/", 1)[-1], target),
    **{kind: code for kind in ("func", "class", "mod", "meth", "attr", "data")},
}


def link(text: str, target: str) -> str:
    """Write a link to a page: an address if there is one, else the name of a notebook."""
    page, _, anchor = target.partition("#")
    name = Path(page).stem
    is_chapter = any(path.stem == name for path in chapters())
    if is_chapter and not repository():
        return f"[{text}]({name}.ipynb)"
    address = web_page(f"notebooks/{name}" if is_chapter else f"book/{name}")
    return f"[{text}]({address}{'#' * bool(anchor)}{anchor})" if address else text


def convert_inline(text: str) -> str:
    """Replace roles, links, and labels of formulas."""
    text = ROLE.sub(lambda m: ROLES[m["name"]](" ".join(m["text"].split())), text)
    text = LINK.sub(lambda m: link(m["text"], m["target"]), text)
    return LABEL.sub(lambda m: f"\\tag{{{numbers()[m['label']]}}} $$", text)


# --- directives ----------------------------------------------------------------------------------


@dataclass
class Block:
    """A directive, and the lines that it holds."""

    name: str
    title: str
    options: dict[str, str] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)


def read_block(opening: re.Match, lines: Iterator[str]) -> Block:
    """Read a directive to its closing fence."""
    block, in_options = Block(opening["name"], opening["title"]), True
    for line in lines:
        if line.strip() == opening["fence"]:
            return block
        option = OPTION.match(line) if in_options else None
        if option:
            block.options[option["name"]] = option["value"]
        elif line.strip() or not in_options:
            in_options = False
            block.lines.append(line)
    raise ValueError(f"the directive {opening[0]!r} is not closed")


def details(title: str, text: str) -> list[str]:
    """Fold a text beneath its title."""
    return ["<details>", f"<summary>{title}</summary>", "", text, "", "</details>"]


def write_block(block: Block) -> list[str]:
    """Write a directive as plain Markdown."""
    inner = convert_text("\n".join(block.lines))
    if block.name == "exercise":
        return [f"**Exercise {numbers()[block.options['label']]} ({block.title})**", "", inner]
    if block.name == "dropdown":
        return details(convert_inline(block.title), inner)
    if block.name == "index":
        return []
    if block.name == "explorer":  # runs in the book only
        return [inner]
    if block.name == "code-block":
        return [f"```{block.title}", "\n".join(block.lines), "```"]
    if block.name in ("admonition", "note", "tip", "warning"):
        title = convert_inline(block.title) or block.name.capitalize()
        return [f"> **{title}**", ">", *(f"> {line}".rstrip() for line in inner.splitlines())]
    raise ValueError(f"no plain form is known of the directive {{{block.name}}}")


def convert_text(text: str) -> str:
    """Convert the text of a Markdown cell; solutions are treated by :func:`convert_cells`."""
    lines, plain, written = iter(text.splitlines()), [], []

    def flush() -> None:
        written.append(convert_inline("\n".join(plain)))
        plain.clear()

    for line in lines:
        opening = OPENS.match(line)
        if opening:
            flush()
            written += write_block(read_block(opening, lines))
        elif line.startswith("```"):
            flush()
            written += [line, *iter(lambda: next(lines), "```"), "```"]
        elif not TARGET.match(line):
            plain.append(line)
    flush()
    return "\n".join(written).strip("\n")


# --- cells ---------------------------------------------------------------------------------------

SOLUTION = re.compile(
    r"^:::\{solution-start\} (?P<label>[\w-]+)\n(?:^:[\w-]+:.*\n)*^:::$|^:::\{solution-end\}\n:::$",
    re.MULTILINE,
)


def pieces(cells: list[NotebookNode]) -> Iterator[tuple[NotebookNode, str]]:
    """Split Markdown cells where solutions begin and end, and say which solution a piece is of."""
    inside = ""
    for cell in cells:
        if cell.cell_type == "code":
            yield cell, inside
            continue
        start = 0
        for mark in [*SOLUTION.finditer(cell.source), None]:
            text = cell.source[start : mark.start() if mark else None].strip("\n")
            if text:
                yield new_markdown_cell(text), inside
            if mark:
                inside, start = mark["label"] or "", mark.end()


def convert_cells(cells: list[NotebookNode], kind: str) -> Iterator[NotebookNode]:
    """Convert all cells of a chapter."""
    told = ""
    for cell, solution in pieces(cells):
        if solution and solution != told and kind == "student":
            yield new_code_cell("# your solution\n")
        is_first, told = solution != told, solution
        if solution and kind == "student":
            continue
        if cell.cell_type == "code":
            yield from convert_code(cell, solution, is_first, kind)
            continue
        text = convert_text(cell.source)
        if solution:
            title = f"Solution {numbers()[solution]}"
            is_open = kind == "instructor"
            text = f"**{title}**\n\n{text}" if is_open else "\n".join(details(title, text))
        yield new_markdown_cell(text)


def convert_code(
    cell: NotebookNode, solution: str, is_first: bool, kind: str
) -> Iterator[NotebookNode]:
    """Copy a code cell, folded where the book folds it, and write its caption below it."""
    source, metadata = cell.source, {}
    settings = cell.metadata.get("mystnb", {})
    is_solution = bool(solution) and kind == "colab"
    if is_solution:
        # Colab shows the title of a form in place of its code
        source = f"#@title Solution {numbers()[solution]}\n{source}"
    if is_solution or FOLDED & set(cell.metadata.get("tags", [])):
        metadata = {"cellView": "form", "jupyter": {"source_hidden": True}}
    if solution and is_first and kind == "instructor":
        yield new_markdown_cell(f"**Solution {numbers()[solution]}**")
    yield new_code_cell(source, metadata=metadata)
    figure = settings.get("figure", {})
    if figure:
        caption = convert_inline(figure["caption"])
        yield new_markdown_cell(f"**Figure {numbers()[figure['name']]}.** {caption}")


def convert(path: Path, kind: str) -> NotebookNode:
    """Convert one chapter.

    Parameters
    ----------
    path : Path
        The script of the chapter.
    kind : {"colab", "student", "instructor"}
        What it is for; see the top of this file.

    Returns
    -------
    NotebookNode
        Without outputs.

    Raises
    ------
    ValueError
        If the chapter holds syntax of the book that has no plain form here.
    """
    source = jupytext.read(path)
    cells = list(convert_cells(source.cells, kind))
    if repository() and kind == "colab":
        lirpa = re.search(r"auto_LiRPA==[\d.]+", (ROOT / "Makefile").read_text())[0]
        install = INSTALL.format(address=repository(), lirpa=lirpa)
        cells.insert(1, new_code_cell(install, metadata={"cellView": "form"}))
    for number, cell in enumerate(cells):
        cell["id"] = f"{path.stem}-{number}"
        prose = re.sub(r"^```\w*$.*?^```$", "", cell.source, flags=re.DOTALL | re.MULTILINE)
        if cell.cell_type == "markdown" and UNKNOWN.search(prose):
            raise ValueError(f"{path.name} would show {UNKNOWN.search(prose)[0]!r}: {cell.source}")
    notebook = nbformat.v4.new_notebook(cells=cells)
    notebook.metadata["kernelspec"] = source.metadata["kernelspec"]
    nbformat.validate(notebook)
    return notebook


def write(kind: str, folder: Path) -> None:
    """Write all chapters, of one kind, into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in chapters():
        nbformat.write(convert(path, kind), folder / f"{path.stem}.ipynb")


def main() -> None:
    """Read the command line and write the notebooks."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    write(arguments.kind, arguments.folder)


if __name__ == "__main__":
    main()
