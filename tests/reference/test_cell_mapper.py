"""What is said of cells: records, boxes, and verdicts in words."""

from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy.sparse import csr_matrix
from sklearn.neighbors import KNeighborsClassifier

import rpumap
from rpumap.reference.cell_mapper import (
    CellBoxes,
    CellMapper,
    labels_on_map,
    verdict_names,
)
from rpumap.verification import labels_are_certain

NAMES = ["a", "b", "c", "d"]


def cells(n, seed):
    draw = np.random.default_rng(seed)
    codes = draw.integers(4, size=n)
    rates = np.where(codes[:, None] == np.arange(60) % 4, 4.0, 2.0)
    adata = AnnData(csr_matrix(draw.poisson(rates).astype(np.float32)))
    adata.obs["kind"] = pd.Categorical(np.array(NAMES)[codes])
    return adata


@pytest.fixture(scope="module")
def ref():
    return rpumap.ReferenceMap(n_top_genes=30, robust=False).fit(cells(400, 0), labels="kind")


@pytest.fixture(scope="module")
def parts(ref):
    return ref.preprocessor_, ref.model_, ref.index_


def test_records_are_what_the_parts_say(parts):
    prep, model, index = parts
    table = cells(150, 1)
    found = CellMapper(*parts)(table)
    X, own = prep.transform(table), index.query(index.coordinates(prep.scale(table)))
    np.testing.assert_array_equal(found["coordinates"], model.transform(X))
    for name in ("label", "confidence", "novelty"):
        np.testing.assert_array_equal(found[name], getattr(own, name))
    assert np.isnan(found["radius"]).all()
    assert set(verdict_names(found["verdict"], NAMES)) > {"likely"}


def test_a_verdict_is_certain_only_where_map_index_and_certificate_agree(parts):
    prep, model, index = parts
    table = cells(300, 2)
    found = CellMapper(*parts, 0.02, "crown")(table)
    lower, upper = rpumap.certify(model, prep.transform(table), 0.02)
    certain = labels_are_certain(lower, upper, model.embedding_, index.codes, 15)
    own = index.query(index.coordinates(prep.scale(table)))
    alone = (own.strangeness <= index.quantile).sum(axis=1) < 2
    expected = certain & (found["label"] == found["map_label"]) & (own.novelty <= 1) & alone
    np.testing.assert_array_equal(verdict_names(found["verdict"], NAMES) == "certain", expected)
    assert expected.any() and not expected.all()


def test_between_names_the_two_labels_that_fit_best(parts):
    prep, _, index = parts
    table = cells(300, 3)
    words = verdict_names(CellMapper(*parts)(table)["verdict"], NAMES)
    strangeness = index.query(index.coordinates(prep.scale(table))).strangeness
    between = [i for i, word in enumerate(words) if word.startswith("between")]
    assert between
    for cell in between:
        first, second = sorted(np.argsort(strangeness[cell])[:2])
        assert words[cell] == f"between {NAMES[first]} and {NAMES[second]}"


def test_each_pair_of_labels_has_a_verdict_of_its_own():
    pairs = [3 + 4 * a + b for a in range(4) for b in range(a + 1, 4)]
    words = verdict_names(np.array([*pairs, 0, 1, 2]), NAMES)
    assert len(set(words)) == 9
    assert words[0] == "between a and b" and words[5] == "between c and d"
    assert verdict_names(np.array([], dtype=int), NAMES).tolist() == []


def test_labels_on_the_map_are_those_of_sklearn(parts):
    _, model, index = parts
    Z = model.embedding_.mean(axis=0) + np.random.default_rng(0).normal(0, 5, (200, 2))
    voter = KNeighborsClassifier(15).fit(model.embedding_, index.codes)
    np.testing.assert_array_equal(labels_on_map(model, index, Z), voter.predict(Z))


def test_a_mapper_can_be_sent_to_other_processes(parts):
    table = cells(50, 4)
    for function in (CellMapper(*parts, 0.1, "crown_ibp"), CellBoxes(*parts[:2], 0.1, "l2", "ibp")):
        again = pickle.loads(pickle.dumps(function))
        np.testing.assert_array_equal(again(table), function(table))


def test_boxes_are_those_of_certify(parts):
    table = cells(40, 5)
    boxes = CellBoxes(*parts[:2], 0.1, "l2", "crown")(table)
    lower, upper = rpumap.certify(parts[1], parts[0].transform(table), 0.1, "l2")
    np.testing.assert_array_equal(boxes["lower"], lower)
    np.testing.assert_array_equal(boxes["upper"], upper)
