"""Scores between studies, and of types that the reference lacks."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from rpumap import datasets
from rpumap.chapters.mapping import between_studies, missing_type

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "book"))


@pytest.fixture(scope="module")
def pancreas():
    return datasets.pancreas(source="simulated")[::4].copy()


def test_cells_of_the_same_study_are_mapped(pancreas):
    found = between_studies(pancreas[::2], pancreas[1::2], "clusters", 0)
    assert found["index"] > 0.75
    assert found["map, robust"] > 0.7 and found["map, plain"] > 0.7
    assert 0 <= found["flagged"] < 0.15
    assert found["certain and right"] > found["index"]


def test_a_missing_type_is_scored(pancreas):
    found = missing_type(pancreas, "clusters", "Beta", 0)
    assert 0.6 < found["auroc"] <= 1
    assert found["sensitivity"] > 2 * found["false alarms"]
    assert found["false alarms"] < 0.15


def test_a_query_can_be_another_study(pancreas):
    reference, query = pancreas[::2].copy(), pancreas[1::2].copy()
    reference = reference[reference.obs["clusters"] != "Beta"].copy()
    found = missing_type(reference, "clusters", "Beta", 0, query)
    assert np.isfinite(list(found.values())).all()
    assert found["sensitivity"] > found["false alarms"]
