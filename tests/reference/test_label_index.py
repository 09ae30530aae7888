"""The index: labels, novelty and label sets."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier, NearestNeighbors

from rpumap.reference.label_index import choose_stored, fit_index, quantile

NAMES = ["a", "b", "c"]


def cells(n, seed, kinds=3, n_genes=30):
    """Draw counts of types that differ in a third of the genes each."""
    draw = np.random.default_rng(seed)
    codes = draw.integers(kinds, size=n)
    rates = np.where(codes[:, None] == np.arange(n_genes) % 4, 12.0, 3.0)
    return draw.poisson(rates).astype(float), codes


@pytest.fixture(scope="module")
def index():
    values, codes = cells(900, 0)
    held, held_codes = cells(400, 1)
    stored = choose_stored(codes, np.random.default_rng(0), 500)
    return fit_index(values, codes, NAMES, held, held_codes, stored)


def test_votes_and_distances_are_those_of_sklearn(index):
    x = index.coordinates(cells(200, 2)[0])
    found = index.query(x)
    first, second = index.spaces
    assert first.cells.shape == (500, 10) and second.cells.shape == (500, 20)
    voter = KNeighborsClassifier(index.k).fit(first.cells, index.codes)
    np.testing.assert_array_equal(found.label, voter.predict(x[:, :10]))
    np.testing.assert_allclose(found.confidence, voter.predict_proba(x[:, :10]).max(axis=1))
    logs = []
    for space, part in ((first, x[:, :10]), (second, x[:, 10:])):
        near = NearestNeighbors(n_neighbors=index.k).fit(space.cells).kneighbors(part)[0]
        logs.append(np.log(near.mean(axis=1) / space.usual[found.label]))
    expected = np.exp(np.mean(logs, axis=0)) / index.threshold
    np.testing.assert_allclose(found.novelty, expected, rtol=1e-6)


def test_types_are_round_in_units_of_their_scatter():
    values, codes = cells(4000, 3)
    index = fit_index(values, codes, NAMES, *cells(100, 4), np.arange(4000))
    for space in index.spaces:
        means = np.stack([space.cells[codes == c].mean(0) for c in range(3)])
        check_round(space.cells - means[codes])


def check_round(inside):
    covariance = np.cov(inside.T)
    # but for the shrinkage: not all are 1, and none is far from it
    np.testing.assert_allclose(covariance, np.diag(np.diag(covariance)), atol=0.01)
    assert np.diag(covariance).min() > 0.8 and np.diag(covariance).max() < 1.2


def test_false_alarms_and_coverage_are_as_promised(index):
    alarms, covered = [], []
    for seed in range(10, 20):
        values, codes = cells(400, seed)
        found = index.query(index.coordinates(values))
        alarms.append((found.novelty > 1).mean())
        own = found.strangeness[np.arange(len(codes)), codes]
        covered.append((own <= index.quantile).mean())
    # of 400 calibration cells the 5 % have a standard error of 1.1 %, the 90 % one of 1.5 %
    assert 0.02 < np.mean(alarms) < 0.085
    assert 0.855 < np.mean(covered) < 0.945


def test_a_type_that_is_not_stored_is_novel(index):
    values, codes = cells(600, 5, kinds=4)
    novelty = index.query(index.coordinates(values)).novelty
    assert (novelty[codes == 3] > 1).mean() > 0.95


def test_a_gene_that_was_not_measured_counts_as_average(index):
    values = cells(5, 6)[0]
    values[:, 2] = np.nan
    z = (np.log1p(values) - index.mean) / index.std
    z[:, 2] = 0
    expected = [(z @ space.projection).astype(np.float32) for space in index.spaces]
    np.testing.assert_allclose(index.coordinates(values), np.concatenate(expected, axis=1))


def test_results_do_not_depend_on_the_other_cells(index):
    x = index.coordinates(cells(3000, 7)[0])
    together, alone = index.query(x), index.query(x[2500:2501])
    for a, b in zip(together, alone, strict=True):
        np.testing.assert_array_equal(a[2500:2501], b)
    assert len(index.query(x[:0]).label) == 0


@pytest.mark.parametrize(("n", "level"), [(19, 0.05), (39, 0.05), (9, 0.1), (100, 0.1)])
def test_a_new_score_exceeds_the_quantile_as_rarely_as_promised(n, level):
    ranks = np.arange(1.0, n + 1)
    # a new score is as likely to fall into each of the n + 1 gaps
    above = (np.arange(n + 1) + 0.5 > quantile(ranks, level)).mean()
    assert above <= level + 1e-12
    assert above > level - 1 / (n + 1)


def test_too_few_scores_promise_nothing():
    assert quantile(np.arange(18.0), 0.05) == math.inf


def test_each_label_keeps_cells():
    codes = np.repeat([0, 1, 2], [5000, 3, 40])
    chosen = choose_stored(codes, np.random.default_rng(0))
    assert len(chosen) == 2000 and len(set(chosen)) == 2000
    assert np.bincount(codes[chosen])[1:].tolist()[0] == 3
    assert (codes[chosen] == 2).sum() >= 15
    assert len(choose_stored(codes[:100], np.random.default_rng(0))) == 100


def test_one_label_is_enough():
    values, _ = cells(200, 8)
    zeros = np.zeros(200, dtype=int)
    index = fit_index(values, zeros, ["a"], values[:100], zeros[:100], np.arange(200))
    found = index.query(index.coordinates(values[:5]))
    assert (found.label == 0).all() and (found.strangeness == 0).all()
