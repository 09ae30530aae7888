"""The report about numbers that changed since a release: what counts, and what is refused."""

from __future__ import annotations

import doctest
import io
import sys
import tarfile
import zipfile
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

import rpumap
from rpumap.chapters.comparison import describe_cells
from rpumap.datasets._published import PUBLISHED

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "book"))
import drift  # noqa: E402


def printed(text: str, code: str = "print(result)"):
    """Make a cell that printed a text."""
    return new_code_cell(code, outputs=[new_output("stream", name="stdout", text=text)])


def said(text: str, code: str = "say(text)"):
    """Make a cell that showed Markdown."""
    data = {"text/markdown": text, "text/plain": "<IPython.core.display.Markdown object>"}
    return new_code_cell(code, outputs=[new_output("display_data", data=data)])


def frame(text: str, code: str = "table"):
    """Make a cell that ends in a data frame."""
    data = {"text/plain": text, "text/html": "<table></table>"}
    return new_code_cell(code, outputs=[new_output("execute_result", data=data)])


def compare(then, now, tolerance: float = 0.05) -> drift.Comparison:
    """Compare two notebooks of these cells."""
    as_lists = [cells if isinstance(cells, list) else [cells] for cells in (then, now)]
    return drift.compare(*(new_notebook(cells=cells) for cells in as_lists), tolerance)


def changes(then, now, tolerance: float = 0.05) -> list[tuple[str | None, str | None]]:
    """List what changed, as it is printed."""
    found = compare(then, now, tolerance).changes
    return [(c.then and c.then.text, c.now and c.now.text) for c in found]


def test_examples():
    found = doctest.testmod(drift)
    assert found.attempted and not found.failed


@pytest.mark.parametrize(
    ("then", "now"),
    [
        ("accuracy 0.80", "accuracy 0.90"),
        ("accuracy 0.80", "accuracy -0.80"),
        ("width -0.2", "width 0.2"),
        ("2 pieces", "3 pieces"),  # counts are exact
        ("46,282 edges", "64,282 edges"),
        ("share 61 %", "share 71 %"),
        ("share 61%", "share 71%"),
        ("strength 1.1e-22, 9.1e-2", "strength 1.1e-22, 2.1e-2"),
        ("lower -1.50", "lower −2.50"),
        ("from 0.00", "from 0.30"),
        ("value 0.5", "value nan"),
        ("bound 3.0", "bound inf"),
        ("gap-open holds", "gap-open does not hold"),
        ("rule undecided", "rule holds"),
        ("the 1.0.2 of 3", "the 1.0.2 of 4"),
    ],
)
def test_what_is_a_change(then, now):
    for make in (printed, said, frame):
        assert len(changes(make(then), make(now))) == 1


@pytest.mark.parametrize(
    ("then", "now"),
    [
        ("accuracy 0.800", "accuracy 0.830"),  # within 5 %
        ("share 7 %", "share 8 %"),  # may be 7.49 and 7.51
        ("share 7%", "share 8%"),
        ("loss 0.02", "loss 0.03"),
        ("difference 1e-15", "difference 6e-16"),
        ("difference 2.4e-07", "difference 9.1e-08"),
        ("value nan", "value NaN"),
        ("+0.41", "0.41"),
        ("rpumap 0.1.0, torch 2.13.0+cpu", "rpumap 0.2.0, torch 2.14.1"),
        ("CD34 in Nbl1, GSE132188", "CD34 in Nbl2, GSE132189"),
        ("a word", "another word"),
    ],
)
def test_what_is_none(then, now):
    for make in (printed, said, frame):
        assert changes(make(then), make(now)) == []


@pytest.mark.parametrize(
    "text",
    [
        "loop {} s, all at once {} s",
        "{} seconds, accuracy {}",
        "At {} cells a second, a million takes {} minutes.",
        "*Memory* in four parts: {} MB at the peak, at once {} MB",
        "In one file of {} kB with {} cells",
        "labels {} times as fast, boxes {} times",
        "{} to train, {} times as long as before",
        "{} of {}, measured on 2026-11-26",
        "at most {} GiB of {}",
    ],
)
def test_time_and_memory_are_left_out(text):
    then, now = text.format(12.5, 2.25), text.format(88.5, 9.75)
    for make in (printed, said, frame):
        found = compare(make(then), make(now))
        assert (found.changes, found.n_compared) == ([], 0)
        assert found.n_left_out >= 2


def test_only_the_sentence_about_time_is_left_out():
    text = "Training took {} s,\nno more. The accuracy is {}.\n\n- size: {} MB\n- {} cells"
    then, now = said(text.format(1.5, 0.5, 10, 7)), said(text.format(4.5, 0.9, 90, 8))
    assert changes(then, now) == [("0.5", "0.9"), ("7", "8")]
    then, now = printed("took 1.5 s\nloss 3.0"), printed("took 9.5 s\nloss 4.0")
    assert changes(then, now) == [("3.0", "4.0")]
    # the second type, a second map and a table's first column are no times
    text = "the second type at {}; in a second map {}; mass {}"
    assert len(changes(printed(text.format(1, 2, 3)), printed(text.format(4, 5, 6)))) == 3
    # a data frame is left out as a whole
    text = "     seconds\n5 %      {}\nall      2.4"
    assert changes(frame(text.format(0.8)), frame(text.format(8.8))) == []


def test_wrapped_text_compares_alike():
    then = said("The accuracy of these maps is\n*0.83* and\n1.5 more. *Other* | 3\n\nthings")
    now = said("The accuracy of these\nmaps is *0.83* and 1.5\nmore. *Other* | 3\n\nthings")
    assert changes(then, now) == []


def test_printed_lines_may_be_cut_into_streams_anywhere():
    parts = [new_output("stream", name="stdout", text=text) for text in ("loss 1.", "25\n", "x 2")]
    parts.insert(1, new_output("stream", name="stderr", text="99 warnings"))
    assert changes(new_code_cell("f()", outputs=parts), printed("loss 1.25\nx 2", "f()")) == []


def test_pictures_are_not_read():
    data = {"image/png": "iVBORw0KGgo=", "text/plain": "<Figure size 640x480 with 1 Axes>"}
    cell = new_code_cell("plot()", outputs=[new_output("display_data", data=data)])
    assert drift.pieces(cell) == []


def test_an_inserted_cell_shifts_nothing():
    cells = [printed(f"value {n}.5", f"print(value_{n})") for n in range(5)]
    more = [*cells[:2], new_markdown_cell("42"), printed("7 cells", "print(adata)"), *cells[2:]]
    found = compare(cells, more)
    assert [(c.cell, c.then, c.now and c.now.text) for c in found.changes] == [
        ("3, new", None, "7")
    ]
    assert found.n_compared == 5
    found = compare(more, cells)
    assert [(c.cell, c.then and c.then.text, c.now) for c in found.changes] == [
        ("after 2, gone", "7", None)
    ]


def test_a_changed_cell_is_matched_with_what_it_was():
    first = printed("loss 1.0", "model.fit(X)\nprint(model.losses[-1])")
    then = [first, printed("0.8 right", "guess = transfer(Z, labels)\nprint(guess.mean())")]
    changed = printed("0.6 right", "guess = transfer(Z, labels, k=5)\nprint(guess.mean())")
    other = printed("3 plots", "draw()")
    (found,) = compare(then, [first, other, changed]).changes[1:]
    assert (found.cell, found.then.text, found.now.text) == ("3, code changed", "0.8", "0.6")


def test_values_are_matched_by_the_words_around_them():
    then = frame("       inside  order\nlinear   0.89   0.91\nchance   0.55   0.04")
    now = frame(
        "        inside  order\nnetwork   0.55   0.73\nlinear   0.89   0.91\nchance   0.15   0.04"
    )
    assert changes(then, now) == [(None, "0.55"), (None, "0.73"), ("0.55", "0.15")]


def test_the_tolerance_is_relative_to_what_was():
    (found,) = compare(printed("x 100.0"), printed("x 150.0")).changes
    assert found.size == pytest.approx(0.499)  # 0.1 of it may be rounding
    assert changes(printed("x 100.0"), printed("x 150.0"), tolerance=0.5) == []


# --- which cells ---------------------------------------------------------------------------------


def test_every_source_is_known():
    simulated = rpumap.datasets.pancreas(source="simulated")
    notebook = new_notebook(cells=[printed(f"{simulated.uns['source']}\n3,696 simulated cells")])
    assert drift.data_of(notebook) == ("simulated", simulated.uns["source"])
    for files in PUBLISHED.values():
        for published in files:
            notebook = new_notebook(cells=[printed(f"loss 1.0\n{published.source}\n3 cells")])
            assert drift.data_of(notebook) == ("real", published.source)
    line = "pancreas.h5ad in RPUMAP_DATA_DIR: it does not say what it holds"
    assert drift.data_of(new_notebook(cells=[printed(line)])) == ("real", line)


def test_cells_are_known_by_the_first_words_about_them(tmp_path, monkeypatch, capsys):
    assert drift.data_of(new_notebook(cells=[printed("3 cells")])) == ("", "")
    both = [printed("3,696 real cells"), said("beside 1,000,000 simulated cells")]
    assert drift.data_of(new_notebook(cells=both)) == ("real", "")
    monkeypatch.setenv("RPUMAP_DATA_DIR", "")
    adata = rpumap.datasets.pancreas(cache_dir=tmp_path)
    shown = printed(capsys.readouterr().out)
    assert drift.data_of(new_notebook(cells=[shown])) == ("simulated", "")
    shown = printed(f"mean width, {describe_cells(adata)}")
    assert drift.data_of(new_notebook(cells=[shown])) == ("simulated", "")


def test_other_cells_are_not_compared():
    real, simulated = (printed(f"3,696 {kind} cells") for kind in ("real", "simulated"))
    values = printed("x 1.0", "x"), printed("x 9.0", "x")
    found = compare([simulated, values[0]], [real, values[1]])
    assert found.refused == "the cells were simulated and are real now"
    assert (found.changes, found.n_compared) == ([], 0)
    sources = [printed(f"mice, Smith et al. {year}; counts") for year in (2018, 2019)]
    assert "Smith et al. 2018" in compare(*sources).refused
    # a chapter that began to name its source, or does not say what its cells are
    assert not compare([real, values[0]], [sources[0], values[1]]).refused
    assert not compare([values[0]], [real, values[1]]).refused


# --- folders and archives ------------------------------------------------------------------------


def text_of(*cells) -> bytes:
    """Write a notebook."""
    return nbformat.writes(new_notebook(cells=list(cells))).encode()


def write_folder(folder: Path, **chapters: bytes) -> Path:
    """Write notebooks into a folder."""
    folder.mkdir()
    for name, text in chapters.items():
        (folder / f"{name}.ipynb").write_bytes(text)
    return folder


def write_zip(path: Path, members: dict[str, bytes]) -> Path:
    """Write a zip file."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in members.items():
            archive.writestr(name, text)
    return path


def write_tar(path: Path, members: dict[str, bytes], mode: str = "w:gz", **more) -> Path:
    """Write a tar file; `more` are attributes of its members."""
    with tarfile.open(path, mode) as archive:
        for name, text in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(text)
            for key, value in more.items():
                setattr(member, key, value)
            archive.addfile(member, io.BytesIO(text))
    return path


def test_folders_and_archives_read_alike(tmp_path):
    text = text_of(printed("a\nb 1.5"))
    members = {"./00_first.ipynb": text, "notebooks/01_second.ipynb": text, "LICENSE": b"free"}
    folder = write_folder(tmp_path / "folder", **{"00_first": text, "01_second": text})
    (folder / "notes.txt").write_text("3")
    expected = drift.read_notebooks(folder)
    assert list(expected) == ["00_first", "01_second"]
    assert drift.pieces(expected["00_first"].cells[0]) == ["a", "b 1.5"]
    for archive in (
        write_zip(tmp_path / "a.zip", members),
        write_tar(tmp_path / "a.tar.gz", members),
        write_tar(tmp_path / "a.tar", members, "w"),
    ):
        assert drift.read_notebooks(archive) == expected


WRITERS = [pytest.param(write_zip, id="zip"), pytest.param(write_tar, id="tar")]


@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize(
    "name", ["../out.ipynb", "/out.ipynb", "a/../../out.ipynb", "C:\\out.ipynb", "..\\out.ipynb"]
)
def test_paths_that_lead_out_are_refused(tmp_path, write, name):
    archive = write(tmp_path / "bad", {"00_first.ipynb": text_of(), name: text_of()})
    with pytest.raises(ValueError, match="bad leads out of the archive") as error:
        drift.read_notebooks(archive)
    assert name in str(error.value) or repr(name) in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == ["bad"]


@pytest.mark.parametrize("write", WRITERS)
def test_large_members_are_refused(tmp_path, write, monkeypatch):
    text = text_of(printed("0" * 5000))
    archive = write(tmp_path / "large", {"00_first.ipynb": text_of(), "01_second.ipynb": text})
    assert archive.stat().st_size < 4000
    monkeypatch.setattr(drift, "LARGEST_NOTEBOOK", 4000)
    with pytest.raises(ValueError, match=r"01_second\.ipynb of large holds more than 4,000 bytes"):
        drift.read_notebooks(archive)
    monkeypatch.setattr(drift, "LARGEST_NOTEBOOK", 10_000)
    monkeypatch.setattr(drift, "LARGEST_ARCHIVE", 4000)
    with pytest.raises(ValueError, match="large holds more than 4,000 bytes"):
        drift.read_notebooks(archive)


def test_large_files_of_a_folder_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(drift, "LARGEST_NOTEBOOK", 10)
    with pytest.raises(ValueError, match=r"00_first\.ipynb holds more than 10 bytes"):
        drift.read_notebooks(write_folder(tmp_path / "folder", **{"00_first": text_of()}))


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE])
def test_links_and_devices_are_refused(tmp_path, kind):
    target = tmp_path / "secret.ipynb"
    target.write_bytes(text_of())
    members = {"00_first.ipynb": b""}
    archive = write_tar(tmp_path / "bad", members, type=kind, linkname=str(target))
    with pytest.raises(ValueError, match=r"00_first\.ipynb of bad is a link or a device"):
        drift.read_notebooks(archive)


@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\xff\xfe",
        b"cos\nsystem\n(S'touch out'\ntR.",
        b"[" * 100_000,
        b"[]",
        b'{"cells": []}',
        b'{"nbformat": 3, "nbformat_minor": 0, "metadata": {}, "worksheets": []}',
        b'{"nbformat": 4, "nbformat_minor": 4, "metadata": {}, "cells": [{"cell_type": "code"}]}',
    ],
)
def test_what_is_no_notebook_is_named(tmp_path, write, text):
    archive = write(tmp_path / "bad", {"00_first.ipynb": text_of(), "01_second.ipynb": text})
    with pytest.raises(ValueError, match=r"01_second\.ipynb of bad is no notebook: "):
        drift.read_notebooks(archive)


def test_other_errors_of_archives(tmp_path):
    text = text_of()
    twice = write_zip(tmp_path / "twice", {"a/00_first.ipynb": text, "b/00_first.ipynb": text})
    with pytest.raises(ValueError, match="twice holds two notebooks of the name 00_first"):
        drift.read_notebooks(twice)
    odd = write_zip(tmp_path / "odd", {"<b>.ipynb": text})
    with pytest.raises(ValueError, match="'<b>', which is no name of a chapter"):
        drift.read_notebooks(odd)
    with pytest.raises(ValueError, match="empty holds no notebook"):
        drift.read_notebooks(write_folder(tmp_path / "empty"))
    with pytest.raises(ValueError, match="absent is neither a folder nor a file"):
        drift.read_notebooks(tmp_path / "absent")
    whole = write_tar(tmp_path / "whole", {"00_first.ipynb": text * 50}).read_bytes()
    for content in (b"no archive", whole[: len(whole) // 2], whole[:50] + bytes(20) + whole[70:]):
        (tmp_path / "broken").write_bytes(content)
        with pytest.raises(ValueError, match="broken is no archive that can be read"):
            drift.read_notebooks(tmp_path / "broken")


# --- the report ----------------------------------------------------------------------------------


@pytest.fixture
def two_runs(tmp_path) -> list[str]:
    """Two folders with one chapter of each kind."""
    same = text_of(printed("3 cells"))
    drifted = [
        text_of(printed(f"3 cells\naccuracy {value}\n| `x` holds <b>"), printed(more, "f()"))
        for value, more in ((0.91, "a 1"), (0.55, "b 2, 3"))
    ]
    cells = [text_of(printed(f"5 {kind} cells")) for kind in ("real", "simulated")]
    then = {"00_same": same, "01_drifted": drifted[0], "02_cells": cells[0], "03_gone": same}
    now = {"00_same": same, "01_drifted": drifted[1], "02_cells": cells[1], "04_new": same}
    return [
        str(write_folder(tmp_path / "then", **then)),
        str(write_folder(tmp_path / "now", **now)),
    ]


def test_report(two_runs, capsys, tmp_path):
    drift.main(two_runs)
    text = capsys.readouterr().out
    lines = text.splitlines()
    assert "Numbers that changed by more than 5 %, by chapter." in lines
    assert "| 00_same | 1 | 0 | 0 | 0 | 0 |" in lines
    assert "| 01_drifted | 3 | 1 | 2 | 1 | 0 |" in lines
    assert "| 02_cells | not compared | | | | |" in lines
    assert "| 03_gone | gone | | | | |" in lines
    assert "| 04_new | new | | | | |" in lines
    assert "**02_cells was not compared**: the cells were real and are simulated now." in lines
    assert "| 1 | `0.91` | `0.55` | 38 % | `accuracy 0.55` |" in lines
    assert "| 2 | `1` | | disappeared | |" in lines
    assert "| 2 | | `2, 3` | appeared | |" in lines
    assert "## 00_same" not in text
    drift.main([*two_runs, "--output", str(tmp_path / "report.md")])
    assert (tmp_path / "report.md").read_text(encoding="utf-8") == text


def test_a_report_quotes_what_it_shows():
    pair = [printed(f"| `x` {value} <b> `![](http://a.b)`") for value in (1, 2)]
    notebooks = [{"00_x": new_notebook(cells=[cell])} for cell in pair]
    row = drift.report(*notebooks, 0.05)[0].splitlines()[-1]
    assert row == "| 1 | `1` | `2` | 100 % | `x 2 <b> ![](http://a.b` |"


def test_a_long_report_shows_the_largest_changes(monkeypatch):
    monkeypatch.setattr(drift, "MOST_ROWS", 2)
    cells = [printed("a 1.00\nb 1.00\nc 1.00", "x"), printed("a 1.20\nb 3.00\nc 2.00", "x")]
    text, largest = drift.report(*({"00": new_notebook(cells=[cell])} for cell in cells), 0.05)
    assert [line.split("`")[5] for line in text.splitlines() if "`" in line] == ["b 3.00", "c 2.00"]
    assert text.endswith("\n\nAnd 1 more.\n")
    assert largest == pytest.approx(1.99)


def test_it_fails_only_if_asked_to(two_runs, tmp_path):
    drift.main([*two_runs, "--tolerance", "50"])
    with pytest.raises(SystemExit, match="Numbers changed by more than 50 %"):
        drift.main([*two_runs, "--fail-beyond", "50"])  # values came and went
    folder = write_folder(tmp_path / "a", **{"00_x": text_of(printed("x 1.00"))})
    other = write_folder(tmp_path / "b", **{"00_x": text_of(printed("x 1.30"))})
    drift.main([str(folder), str(other), "--fail-beyond", "30"])
    with pytest.raises(SystemExit, match="more than 20 %"):
        drift.main([str(folder), str(other), "--fail-beyond", "20"])


def test_wrong_input_is_an_error(two_runs, tmp_path, capsys):
    for arguments, message in [
        ([two_runs[0], str(tmp_path / "absent")], "absent is neither a folder nor a file"),
        ([*two_runs, "--fail-beyond", "1"], "must not be less than --tolerance"),
    ]:
        with pytest.raises(SystemExit, match="2"):
            drift.main(arguments)
        assert message in capsys.readouterr().err
