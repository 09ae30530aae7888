"""Tests for rpumap.chapters.display."""

from __future__ import annotations

import pandas as pd
import pytest

from rpumap.chapters import display
from rpumap.chapters.display import curve, say, show_rules, show_verdicts, side_by_side, summary
from rpumap.chapters.scorecard import load_rules

ROW = {
    "id": "works/well",
    "chapter": "notebooks/06_dropout",
    "cells": "pancreas",
    "settings": "paper",
    "verdict": "holds",
    "effect_value": 0.0412,
    "low": 0.031,
    "high": 0.0514,
    "n": 10,
    "unit": "network",
}
RESULTS = {
    "rows": [
        ROW,
        ROW | {"settings": "default", "verdict": "undecided"},
        ROW | {"chapter": "notebooks/09_gene_impact", "id": "other"},
    ],
    "curves": [
        {"curve": "dose", "cells": cells, "settings": "paper", "network": "plain", "at": at}
        | {"mean": at / 10, "low": 0.0, "high": 1.0}
        for cells in ("pancreas", "malaria")
        for at in (3.0, 1.0)
    ],
}


@pytest.fixture
def shown(monkeypatch):
    """Texts that were shown in a notebook."""
    texts = []
    monkeypatch.setattr("IPython.display.display", lambda output: texts.append(output.data))
    return texts


def test_text_is_shown_without_its_indentation(shown):
    say("""
    One line,
    and another.
    """)
    assert shown == ["One line,\nand another."]


def test_rules_of_a_chapter_name_every_part(shown):
    show_rules("06_dropout")
    for rule in load_rules():
        assert (f"`{rule.id}`" in shown[0]) == (rule.chapter == "06_dropout")
    # parts that differ in their names alone share a line
    (line,) = (line for line in shown[0].splitlines() if "`robust-dropout/10`" in line)
    assert "`robust-dropout/80`" in line
    assert "`robust-dropout/control`" not in line


def test_many_parts_are_not_told_one_by_one(shown):
    show_rules("08_robust_training")
    (line,) = (line for line in shown[0].splitlines() if "`choices/" in line)
    assert "16 more like these" in line
    assert len(line) < 600


def test_verdicts_show_the_chapter_and_both_settings(shown):
    show_verdicts("06_dropout", RESULTS)
    assert "10 networks" in shown[0]
    (line,) = shown[1].splitlines()[2:]
    assert line == (
        "| works/well, pancreas | ● holds: 0.0412 (0.031 to 0.0514) "
        "| ? undecided: 0.0412 (0.031 to 0.0514) |"
    )


def test_a_setting_without_result_is_marked():
    assert side_by_side([ROW])[0][2] == "–"


def test_parts_are_summed_up_by_cells_and_settings():
    rows = [
        ROW,
        ROW | {"id": "works/badly", "verdict": "does not hold"},
        ROW | {"cells": "malaria", "verdict": "does not hold"},
    ]
    expected = {("pancreas", "paper"): "holds in part", ("malaria", "paper"): "does not hold"}
    assert summary(rows) == {"works": expected}


def test_every_verdict_has_a_mark():
    from rpumap.chapters.scorecard import IN_PART, VERDICTS

    assert set(display.MARKS) == {*VERDICTS, IN_PART}
    assert len(set(display.MARKS.values())) == len(display.MARKS)


def test_a_curve_is_that_of_the_cells_and_in_order():
    frame = curve("dose", "malaria", "paper", RESULTS)
    assert isinstance(frame, pd.DataFrame)
    assert frame["at"].tolist() == [1.0, 3.0]
    assert frame["mean"].tolist() == [0.1, 0.3]
