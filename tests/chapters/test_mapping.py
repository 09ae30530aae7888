"""Scores between studies, and of types that the reference lacks."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from rpumap import datasets
from rpumap.chapters.mapping import between_studies, missing_type, with_gene_factors
from rpumap.preprocessing import library_size

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "book"))


@pytest.fixture(scope="module")
def pancreas():
    return datasets.pancreas(source="simulated")[::4].copy()


def test_cells_of_the_same_study_are_mapped(pancreas):
    found = between_studies(pancreas[::2], pancreas[1::2], "clusters", 0)
    assert found["index"] > 0.75
    assert found["map, robust"] > 0.7 and found["map, plain"] > 0.7
    assert 0 <= found["flagged"] < 0.15
    assert 0.85 < found["coverage"] < 0.97
    assert found["certain and right"] > found["index"]


def test_factors_of_genes_are_removed_by_a_correction(pancreas):
    reference, query = pancreas[::2].copy(), pancreas[1::2].copy()
    altered = with_gene_factors(query, 1.0, 0)
    found = between_studies(reference, altered, "clusters", 0)
    assert found["index, corrected"] > found["index"] - 0.02
    assert found["flagged, corrected"] < found["flagged"]
    ratio = np.ravel(altered.X.sum(axis=0)) / np.maximum(np.ravel(query.X.sum(axis=0)), 1)
    often = np.ravel(query.X.sum(axis=0)) > 1000
    assert 0.7 < np.log(ratio[often]).std() < 1.3
    # what lies outside the table stays
    before = library_size(query) - np.ravel(query.X.sum(axis=1))
    after = library_size(altered) - np.ravel(altered.X.sum(axis=1))
    np.testing.assert_allclose(after, before, atol=1e-3)


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
