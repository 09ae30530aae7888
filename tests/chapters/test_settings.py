"""The paper's settings are what section 2 says, and each setting does what its name says."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.neighbors import NearestNeighbors

import rpumap
from rpumap.chapters.settings import BOTH, DEFAULT, PAPER, Settings
from rpumap.training import STEPS_DRAWN, EdgeSampler
from rpumap.verification.bounds import linear_layers

FEW = {"n_steps": 5}


@pytest.fixture(scope="module")
def adata():
    return rpumap.datasets.pancreas(source="simulated")[::12].copy()


@pytest.fixture(scope="module")
def X():
    return np.random.default_rng(0).normal(size=(120, 8)).astype(np.float32)


@pytest.fixture(scope="module")
def printed(X):
    return PAPER.fit(X, seed=0, **FEW)


def test_the_paper_and_the_package_are_the_two_settings():
    assert [settings.name for settings in BOTH] == ["paper", "default"]
    assert Settings("default") == DEFAULT


def test_the_paper_s_numbers(printed):
    assert printed.learning_rate == 0.001  # section 2.1
    assert printed.negative_sample_rate == 5
    assert printed.weight_decay == 0
    assert printed.repulsion_strength == 1
    assert printed.weighting == "graph"
    layers = linear_layers(printed.encoder_)
    assert len(layers) == 3  # "three layers of fully connected neurons"
    assert layers[-1][0].shape[0] == 2
    assert PAPER.robust["eps"] == 0.2  # section 2.4
    assert PAPER.robust["bound_method"] == "crown"
    assert PAPER.robust["penalty"] == "area"  # eq. 5
    assert PAPER.robust["learning_rate"] == 0.001
    assert "strength" not in PAPER.robust  # the paper gives no lambda


def test_an_edge_of_the_paper_is_certain_and_drawn_as_often_as_any_other(X, printed):
    # a neighbour of either cell, found by scikit-learn
    near = NearestNeighbors(n_neighbors=15).fit(X).kneighbors_graph(X).toarray() > 0
    np.fill_diagonal(near, False)
    np.testing.assert_array_equal(printed.graph_.toarray(), near | near.T)
    generator = torch.Generator().manual_seed(0)
    sampler = EdgeSampler(printed.graph_, "graph", torch.device("cpu"), generator)
    drawn = np.zeros(near.shape)
    for _ in range(STEPS_DRAWN):  # which are drawn together, as evenly as can be
        (heads, tails), p = sampler.draw(printed.graph_.nnz)
        np.add.at(drawn, (heads.numpy(), tails.numpy()), 1)
        assert p is None  # each counts as 1 in the loss
    assert abs(drawn[near | near.T] - STEPS_DRAWN).max() <= 1
    # while the package follows the strengths
    strengths = DEFAULT.fit(X, seed=0, **FEW).graph_
    assert strengths.data.min() < 0.1
    assert ((strengths > 0) != (printed.graph_ > 0)).nnz == 0


def test_cells_that_repeat_still_have_certain_edges():
    X = np.repeat(np.random.default_rng(0).normal(size=(30, 4)), 2, axis=0)
    assert set(PAPER.fit(X, seed=0, **FEW).graph_.data.tolist()) == {1.0}


def test_fewer_cells_than_neighbours_are_enough():
    X = np.random.default_rng(0).normal(size=(10, 4))
    with pytest.warns(UserWarning, match="more than the 10 cells"):
        assert PAPER.fit(X, seed=0, **FEW).graph_.nnz == 90


def test_fit_and_robustify_pass_on_what_is_asked_for(X):
    settings = Settings("x", {"learning_rate": 0.004, "n_steps": 7}, {"n_steps": 3})
    model = settings.fit(X, seed=5, n_steps=9)
    assert (model.learning_rate, model.n_steps, model.random_state) == (0.004, 9, 5)
    same = rpumap.ParametricUMAP(learning_rate=0.004, n_steps=9, random_state=5, device="cpu")
    np.testing.assert_array_equal(model.embedding_, same.fit(X).embedding_)
    regular = settings.robustify(model, X, penalty="area")
    expected = rpumap.robustify(model, X, 0.2, n_steps=3, penalty="area")
    np.testing.assert_array_equal(regular.embedding_, expected.embedding_)
    assert not np.array_equal(regular.embedding_, model.embedding_)


def test_regularisation_keeps_the_paper_s_graph(X, printed):
    regular = PAPER.robustify(printed, X, n_steps=2)
    assert set(regular.graph_.data.tolist()) == {1.0}


def test_z_scores_are_those_of_the_preprocessor(adata):
    prep = DEFAULT.prepare(adata)
    expected = rpumap.Preprocessor(n_top_genes=300).fit(adata)
    np.testing.assert_array_equal(prep.genes_, expected.genes_)
    np.testing.assert_array_equal(DEFAULT.scores(prep, adata), expected.transform(adata))


def test_library_sizes_of_the_panel_are_its_row_sums(adata):
    settings = replace(PAPER, panel_library=True)
    prep = settings.prepare(adata)
    assert set(prep.genes_) == set(PAPER.prepare(adata).genes_)  # select, then normalise
    counts = np.asarray(adata[:, prep.genes_].X.todense())
    scaled = 1e4 * counts / counts.sum(axis=1, keepdims=True)
    expected = (scaled - scaled.mean(axis=0)) / scaled.std(axis=0, ddof=1)
    np.testing.assert_allclose(settings.scores(prep, adata), expected, rtol=1e-3, atol=1e-3)
    assert "library_size" in adata.obs  # what was passed is not changed
    # new cells too, whatever library size they come with
    others = adata[:20].copy()
    others.obs["library_size"] = 1e6
    np.testing.assert_array_equal(
        settings.scores(prep, others), settings.scores(prep, adata[:20].copy())
    )
