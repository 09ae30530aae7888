"""Compare the numbers that the chapters print with those of an earlier release.

``python book/drift.py THEN NOW``, two folders or archives (zip, tar, tar.gz) of executed notebooks,
writes a report in Markdown: which numbers changed beyond a tolerance, appeared or disappeared.

What counts:

- Numbers and verdicts ("holds", "does not hold", ...) in printed lines, values and Markdown.
- A number changed if it did so by more than the tolerance, relative to what it was, whatever the
  digits that are not shown. Numbers without decimals are counts and exact, unless "%" follows.
  A difference below 1e-6 is one of rounding.
- Not what a computer takes: a printed line, a sentence, a line of a Markdown table or a whole data
  frame that names seconds, minutes, hours, bytes, a rate a second or a date is left out.
- Not versions such as 2.13.0, nor numbers in names such as Nbl1.

Code cells are matched by their code, so that an inserted cell moves no other. A chapter whose cells
are real in one run and simulated in the other, or of another source, is not compared.

Archives may come from outside. Their members are read as notebooks in memory: none is written to
disk, and none is run.
"""

from __future__ import annotations

import argparse
import difflib
import gzip
import io
import json
import math
import re
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path, PurePosixPath
from typing import Any

import nbformat

MEGABYTE = 2**20
LARGEST_NOTEBOOK = 50 * MEGABYTE
LARGEST_ARCHIVE = 400 * MEGABYTE  # unpacked
MOST_ROWS = 40  # of a chapter that the report lists
MOST_VALUES = 8  # of a cell, among those that appeared or disappeared
BROKEN = (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, OSError)
BROKEN += (NotImplementedError, RuntimeError)  # ways of compression that zipfile does not know
ROUNDING = 1e-6
ALIKE = 0.6  # the share of its code that a changed cell has kept

TIMING = re.compile(
    r"\b(?:seconds|minutes?|hours?|bytes|[kMGT]i?B)\b"
    r"|\d\s?m?s\b"
    r"|\d \w+ (?:a|per) second\b|\bs per\b"
    r"|\btimes as (?:long|fast)\b"
    r"|\b\d{4}-\d{2}-\d{2}\b"
)
# a version; a word, which may hold digits; a verdict; a number. The first that matches counts.
TOKEN = re.compile(
    r"(?P<version>\d+(?:\.\d+){2,}\S*)"
    r"|(?P<verdict>does not hold|holds in part|holds|undecided)\b"
    r"|(?P<number>(?<!\w)[-+−]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:[eE][-+]?\d+)?%?"
    r"|\b(?i:nan|inf)\b)"
    r"|(?P<word>[^\W\d]\w*(?:\.\d+)*)"
)
SENTENCE = re.compile(r"(?<=[.!?:;])\s+(?=\W*[A-Z])")
ITEM = re.compile(r"\n(?=\s*(?:[-*] |\|))|\n\s*\n")
SOURCE = re.compile(
    r"^simulated: .+|^\S+ in RPUMAP_DATA_DIR: .+|^.*\bet al\. \d{4}\b.*$", re.MULTILINE
)
CELLS = re.compile(r"\b(real|simulated) cells\b|\b(SIMULATED)\b")


# --- reading -------------------------------------------------------------------------------------


def read_notebooks(source: Path) -> dict[str, Any]:
    """Read the notebooks of a folder or an archive.

    Parameters
    ----------
    source : Path
        A folder, or a zip, tar or tar.gz file. What is no notebook in it is passed over.

    Returns
    -------
    dict
        Notebooks by their names without suffix, in order.

    Raises
    ------
    ValueError
        If something is no notebook, has a path that leads out of the archive, is a link, exists
        twice, or is too large. The message names it.
    """
    found = {}
    for path, text in sorted(_members(source)):
        name = PurePosixPath(path.replace("\\", "/")).stem
        if not re.fullmatch(r"[\w.-]+", name):
            raise ValueError(f"{source.name} holds {name!r}, which is no name of a chapter")
        if name in found:
            raise ValueError(f"{source.name} holds two notebooks of the name {name}")
        found[name] = _parse(text, f"{path} of {source.name}")
    if not found:
        raise ValueError(f"{source} holds no notebook")
    return found


def _members(source: Path) -> Iterator[tuple[str, bytes]]:
    """Yield path and content of each notebook."""
    if source.is_dir():
        for file in source.glob("*.ipynb"):
            _check_size(file.stat().st_size, LARGEST_NOTEBOOK, file.name)
            yield file.name, file.read_bytes()
        return
    if not source.is_file():
        raise ValueError(f"{source} is neither a folder nor a file")
    _check_size(source.stat().st_size, LARGEST_ARCHIVE, source.name)
    try:
        yield from _zip_members(source) if zipfile.is_zipfile(source) else _tar_members(source)
    except BROKEN as error:
        raise ValueError(f"{source.name} is no archive that can be read: {error}") from error


def _zip_members(source: Path) -> Iterator[tuple[str, bytes]]:
    total = 0
    with zipfile.ZipFile(source) as archive:
        for member in archive.infolist():
            if member.is_dir() or not _is_notebook(member.filename, source):
                continue
            with archive.open(member) as file:
                # what the archive says of the size need not be true
                text = file.read(LARGEST_NOTEBOOK + 1)
            _check_size(len(text), LARGEST_NOTEBOOK, f"{member.filename} of {source.name}")
            total += len(text)
            _check_size(total, LARGEST_ARCHIVE, source.name)
            yield member.filename, text


def _tar_members(source: Path) -> Iterator[tuple[str, bytes]]:
    content = source.read_bytes()
    if content.startswith(b"\x1f\x8b"):  # gzip
        content = gzip.GzipFile(fileobj=io.BytesIO(content)).read(LARGEST_ARCHIVE + 1)
        _check_size(len(content), LARGEST_ARCHIVE, source.name)
    with tarfile.open(fileobj=io.BytesIO(content), mode="r:") as archive:
        for member in archive:
            if member.isdir() or not _is_notebook(member.name, source):
                continue
            name = f"{member.name} of {source.name}"
            file = archive.extractfile(member) if member.isfile() else None
            if file is None:
                raise ValueError(f"{name} is a link or a device")
            _check_size(member.size, LARGEST_NOTEBOOK, name)
            yield member.name, file.read()


def _is_notebook(path: str, source: Path) -> bool:
    """Tell whether a member is a notebook; refuse paths that lead out of the archive."""
    parts = PurePosixPath(path.replace("\\", "/"))
    if parts.is_absolute() or ".." in parts.parts or ":" in path:
        raise ValueError(f"{path!r} of {source.name} leads out of the archive")
    return parts.suffix == ".ipynb"


def _check_size(size: int, limit: int, name: str) -> None:
    if size > limit:
        raise ValueError(f"{name} holds more than {limit:,} bytes")


def _parse(text: bytes, name: str) -> Any:
    try:
        content = json.loads(text)
        if not isinstance(content, dict) or content.get("nbformat") != 4:
            raise ValueError("its format is not version 4")
        nbformat.validate(content)
        notebook = nbformat.v4.reads(text.decode())  # which joins texts that are lists of lines
    except (ValueError, RecursionError, nbformat.ValidationError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"{name} is no notebook: {reason}") from error
    return notebook


# --- what a notebook shows -----------------------------------------------------------------------


@dataclass(frozen=True)
class Token:
    """A word, version, number or verdict, and where it stands in a text."""

    kind: str
    text: str
    piece: str
    start: int
    before: str  # the word before it

    @property
    def counts(self) -> bool:
        """Whether its value is compared."""
        return self.kind in ("number", "verdict")

    @property
    def key(self) -> str:
        """What has to agree for two tokens to be compared: values, the word before them."""
        return f"{self.before} ({self.kind})" if self.counts else self.text

    @property
    def value(self) -> float:
        """The number; its percent sign is no matter."""
        return float(self.text.rstrip("%").replace(",", "").replace("−", "-"))

    @property
    def rounding(self) -> float:
        """Half a unit of the last digit that is shown."""
        digits, _, exponent = self.text.rstrip("%").lower().partition("e")
        follows = self.piece[self.start + len(self.text) :].lstrip(" ")
        if not ("." in digits or exponent or self.text.endswith("%") or follows.startswith("%")):
            return 0.0
        return 0.5 * 10.0 ** (int(exponent or 0) - len(digits.partition(".")[2]))


def pieces(cell: Any) -> list[str]:
    """Split the outputs of a cell into what is judged as one: see the top of this file.

    Parameters
    ----------
    cell : NotebookNode
        A code cell with outputs.

    Returns
    -------
    list of str
        Printed lines, data frames, and sentences, list items and lines of tables of Markdown.
    """
    found, printed = [], ""
    for output in cell.get("outputs", []):
        if output.output_type == "stream" and output.name == "stdout":
            printed += output.text  # which may be cut into streams anywhere
        data = output.get("data", {})
        if "text/markdown" in data:
            for item in ITEM.split(data["text/markdown"]):
                found += SENTENCE.split(" ".join(item.split()))
        elif output.output_type == "execute_result":
            text = data.get("text/plain", "")
            found += [text] if "text/html" in data else text.splitlines()
    return [piece for piece in [*printed.splitlines(), *found] if piece.strip()]


def tokens(pieces: list[str]) -> tuple[list[Token], int]:
    """Take texts apart, without those about time and memory.

    Parameters
    ----------
    pieces : list of str
        As :func:`pieces` returns them.

    Returns
    -------
    tokens : list of Token
        In order.
    n_left_out : int
        Number of values in the pieces that were left out.

    Examples
    --------
    >>> found, n_left_out = tokens(["loss 1.22", "loop 0.16 s, all at once 0.00 s"])
    >>> [token.text for token in found], n_left_out
    (['loss', '1.22'], 2)
    """
    kept, n_left_out = [], 0
    for piece in pieces:
        found, before = [], ""
        for match in TOKEN.finditer(piece):
            kind = match.lastgroup or ""
            found.append(Token(kind, match[0], piece, match.start(), before))
            before = match[0] if kind == "word" else kind
        if TIMING.search(piece):
            n_left_out += sum(token.counts for token in found)
        else:
            kept += found
    return kept, n_left_out


def code_cells(notebook: Any) -> list[Any]:
    """List the code cells of a notebook."""
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def data_of(notebook: Any) -> tuple[str, str]:
    """Say of which cells a chapter was made.

    Parameters
    ----------
    notebook : NotebookNode
        With outputs.

    Returns
    -------
    kind : str
        ``"real"``, ``"simulated"``, or ``""`` if it does not say.
    source : str
        The printed line that names the source, or ``""``.
    """
    shown = [piece for cell in code_cells(notebook) for piece in pieces(cell)]
    text = "\n".join(shown)
    cells, source = CELLS.search(text), SOURCE.search(text)
    if source:
        line = source[0].strip()
        return "simulated" if line.startswith("simulated:") else "real", line
    return ("real" if cells[1] == "real" else "simulated") if cells else "", ""


# --- comparing -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Change:
    """A value of a cell, then and now; None where it was not or is not there."""

    cell: str
    then: Token | None
    now: Token | None

    @property
    def size(self) -> float:
        """By how much the value changed, relative to what it was."""
        if self.then is None or self.now is None:
            return math.inf
        if self.then.kind == "verdict":
            return 0.0 if self.then.text == self.now.text else math.inf
        return relative_change(self.then, self.now)


@dataclass
class Comparison:
    """What became of one chapter."""

    refused: str = ""
    n_compared: int = 0
    n_left_out: int = 0
    changes: list[Change] = field(default_factory=list)


def relative_change(then: Token, now: Token) -> float:
    """Compute by how much a number changed at least, relative to what it was."""
    old, new = then.value, now.value
    if old == new or (math.isnan(old) and math.isnan(new)):
        return 0.0
    least = abs(new - old) - then.rounding - now.rounding
    if least <= ROUNDING:
        return 0.0
    return least / abs(old) if math.isfinite(least) and old else math.inf


def align(then: list[Any], now: list[Any]) -> list[tuple[Any | None, Any | None]]:
    """Match the code cells of two notebooks, by their code.

    Parameters
    ----------
    then, now : list of NotebookNode
        The cells, in order.

    Returns
    -------
    list of tuple
        Pairs in order; None stands for a cell that is not there.
    """
    old, new = [cell.source for cell in then], [cell.source for cell in now]
    pairs: list[tuple[Any | None, Any | None]] = []
    matcher = difflib.SequenceMatcher(None, old, new, autojunk=False)
    for _, i, i_end, j, j_end in matcher.get_opcodes():
        while i < i_end and j < j_end:
            close = difflib.get_close_matches(old[i], new[j:j_end], n=1, cutoff=ALIKE)
            k = new.index(close[0], j) if close else -1
            if k >= 0:
                pairs += [(None, cell) for cell in now[j:k]]
                pairs.append((then[i], now[k]))
                j = k + 1
            else:
                pairs.append((then[i], None))
            i += 1
        pairs += [(cell, None) for cell in then[i:i_end]]
        pairs += [(None, cell) for cell in now[j:j_end]]
    return pairs


def compare(then: Any, now: Any, tolerance: float) -> Comparison:
    """Compare the numbers that two runs of a chapter show.

    Parameters
    ----------
    then, now : NotebookNode
        With outputs.
    tolerance : float
        Relative change up to which a number counts as the same.

    Returns
    -------
    Comparison
    """
    (kind, source), (new_kind, new_source) = data_of(then), data_of(now)
    if kind and new_kind and kind != new_kind:
        return Comparison(f"the cells were {kind} and are {new_kind} now")
    if source and new_source and source != new_source:
        return Comparison(f"the source was {_code(source)} and is {_code(new_source)} now")
    result, position = Comparison(), 0
    for old, new in align(code_cells(then), code_cells(now)):
        position += new is not None
        old_tokens, n_old = tokens(pieces(old or {}))
        new_tokens, n_new = tokens(pieces(new or {}))
        result.n_left_out += n_old if new is None else n_new
        for pair in _pairs(old_tokens, new_tokens):
            change = Change(_label(position, old, new), *pair)
            result.n_compared += None not in pair
            if change.size > tolerance:
                result.changes.append(change)
    return result


def _label(position: int, then: Any | None, now: Any | None) -> str:
    """Name a code cell by its number in the present notebook, and say whether its code changed."""
    if now is None:
        return f"after {position}, gone"
    if then is None:
        return f"{position}, new"
    return f"{position}" if then.source == now.source else f"{position}, code changed"


def _pairs(then: list[Token], now: list[Token]) -> Iterator[tuple[Token | None, Token | None]]:
    """Match the values of a cell by the words around them."""
    old, new = [token.key for token in then], [token.key for token in now]
    matcher = difflib.SequenceMatcher(None, old, new, autojunk=False)
    for tag, i, i_end, j, j_end in matcher.get_opcodes():
        if tag == "equal":
            yield from (
                (a, b) for a, b in zip(then[i:i_end], now[j:j_end], strict=True) if a.counts
            )
        else:
            yield from ((token, None) for token in then[i:i_end] if token.counts)
            yield from ((None, token) for token in now[j:j_end] if token.counts)


# --- the report ----------------------------------------------------------------------------------


def report(then: dict[str, Any], now: dict[str, Any], tolerance: float) -> tuple[str, float]:
    """Compare all chapters and write the report.

    Parameters
    ----------
    then, now : dict
        Notebooks by the names of chapters.
    tolerance : float
        As for :func:`compare`.

    Returns
    -------
    text : str
        Markdown.
    largest : float
        The largest relative change; infinite if a value appeared or disappeared, or a verdict
        changed.
    """
    found = {name: compare(then[name], now[name], tolerance) for name in now if name in then}
    lines = ["# Drift of the numbers", ""]
    lines += [f"Numbers that changed by more than {100 * tolerance:g} %, by chapter.", ""]
    lines += ["| chapter | compared | changed | appeared | disappeared | time, memory: left out |"]
    lines += ["| --- | ---: | ---: | ---: | ---: | ---: |"]
    for name, result in found.items():
        if result.refused:
            lines.append(f"| {name} | not compared | | | | |")
            continue
        appeared = sum(change.then is None for change in result.changes)
        disappeared = sum(change.now is None for change in result.changes)
        changed = len(result.changes) - appeared - disappeared
        counts = (result.n_compared, changed, appeared, disappeared, result.n_left_out)
        lines.append(f"| {name} | {' | '.join(f'{count:,}' for count in counts)} |")
    lines += [f"| {name} | new | | | | |" for name in now if name not in then]
    lines += [f"| {name} | gone | | | | |" for name in then if name not in now]
    for name, result in found.items():
        if result.refused:
            lines += ["", f"**{name} was not compared**: {result.refused}."]
        elif result.changes:
            lines += ["", f"## {name}", "", *_rows(result.changes)]
    changes = [change for result in found.values() for change in result.changes]
    return "\n".join(lines) + "\n", max((change.size for change in changes), default=0.0)


def _rows(changes: list[Change]) -> Iterator[str]:
    """Write the changes of a chapter as a table, the largest ones if they are many."""
    rows = []
    for cell, group in groupby(changes, key=lambda change: change.cell):
        inside = list(group)
        for change in inside:
            if change.then and change.now:
                percent = f"{100 * change.size:.0f} %" if math.isfinite(change.size) else ""
                values = f"{_code(change.then.text)} | {_code(change.now.text)} | {percent}"
                rows.append((change.size, f"| {cell} | {values} | {_surroundings(change.now)} |"))
        appeared = [change.now for change in inside if change.now and not change.then]
        disappeared = [change.then for change in inside if change.then and not change.now]
        if appeared:
            rows.append((math.inf, f"| {cell} | | {_values(appeared)} | appeared | |"))
        if disappeared:
            rows.append((math.inf, f"| {cell} | {_values(disappeared)} | | disappeared | |"))
    yield "| code cell | then | now | change | where |"
    yield "| --- | --- | --- | ---: | --- |"
    by_size = sorted(range(len(rows)), key=lambda row: -rows[row][0])
    yield from (rows[row][1] for row in sorted(by_size[:MOST_ROWS]))
    if len(rows) > MOST_ROWS:
        yield f"\nAnd {len(rows) - MOST_ROWS:,} more."


def _values(tokens: list[Token]) -> str:
    """List some values."""
    more = f" and {len(tokens) - MOST_VALUES:,} more" if len(tokens) > MOST_VALUES else ""
    return _code(", ".join(token.text for token in tokens[:MOST_VALUES])) + more


def _surroundings(token: Token) -> str:
    """Quote what stands around a value in its line."""
    end = token.start + len(token.text)
    before = token.piece[: token.start].rpartition("\n")[2][-60:]
    return _code(before + token.text + token.piece[end:].partition("\n")[0][:20])


def _code(text: str) -> str:
    """Quote a text as code, so that nothing in it means anything in Markdown."""
    return f"`{' '.join(re.sub('[`|]', '', text).split())}`"


def main(arguments: list[str] | None = None) -> None:
    """Read the command line and write the report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("then", type=Path, help="folder or archive of the last release's notebooks")
    parser.add_argument("now", type=Path, help="folder or archive of the present notebooks")
    parser.add_argument("--tolerance", type=float, default=5, metavar="PERCENT", help="default: 5")
    parser.add_argument("--output", type=Path, help="file for the report; default: printed")
    parser.add_argument(
        "--fail-beyond",
        type=float,
        metavar="PERCENT",
        help="exit with 1 if a number changed by more, came or went, or a verdict changed",
    )
    chosen = parser.parse_args(arguments)
    if chosen.fail_beyond is not None and chosen.fail_beyond < chosen.tolerance:
        parser.error("--fail-beyond must not be less than --tolerance")
    try:
        then, now = read_notebooks(chosen.then), read_notebooks(chosen.now)
    except ValueError as error:
        parser.error(str(error))
    text, largest = report(then, now, chosen.tolerance / 100)
    if chosen.output:
        chosen.output.write_text(text, encoding="utf-8")
    else:
        print(text, end="")
    if chosen.fail_beyond is not None and largest > chosen.fail_beyond / 100:
        sys.exit(f"Numbers changed by more than {chosen.fail_beyond:g} %.")


if __name__ == "__main__":
    main()
