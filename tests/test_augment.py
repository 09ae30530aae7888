"""Training against dropout: lost counts move cells less, and the map stays."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from anndata import AnnData
from scipy.sparse import csr_matrix
from sklearn.exceptions import NotFittedError

import rpumap
from rpumap.augment import CountDropper, resist_dropout
from rpumap.metrics import knn_accuracy, trustworthiness
from rpumap.sensitivity import drop_counts

CPU = torch.device("cpu")


def three_types(n_cells=300, n_genes=40, seed=0):
    """Draw counts of three types; one gene in four is a marker, five times as high in one type."""
    draw = np.random.default_rng(seed)
    rate = np.tile(draw.gamma(1, 2, n_genes), (n_cells, 1))
    kind = np.arange(n_cells) % 3
    for marker in range(0, n_genes, 4):
        rate[kind == marker // 4 % 3, marker] *= 5
    counts = draw.poisson(rate * draw.lognormal(0, 0.3, (n_cells, 1)) + 0.05)
    adata = AnnData(csr_matrix(counts.astype(np.float32)))
    adata.var_names = [f"gene{g}" for g in range(n_genes)]
    return adata


@pytest.fixture(scope="module")
def base():
    adata = three_types()
    prep = rpumap.Preprocessor(n_top_genes=20)
    X = prep.fit_transform(adata)
    model = rpumap.ParametricUMAP(hidden_sizes=(32, 32), n_steps=200, random_state=0).fit(X)
    return model, prep, adata


def agreement(model, prep, dropped):
    """Mean correlation of the coordinates with those of the intact cells."""
    Z = model.transform(prep.transform(dropped))
    return np.mean([np.corrcoef(Z[:, j], model.embedding_[:, j])[0, 1] for j in (0, 1)])


@pytest.mark.parametrize("log1p", [False, True])
@pytest.mark.parametrize("stored", [False, True])
def test_dropped_cells_are_prepared_as_new_cells_would_be(log1p, stored):
    adata = three_types()
    if stored:
        adata.obs["library_size"] = np.asarray(adata.X.sum(axis=1)).ravel() + 100
    prep = rpumap.Preprocessor(n_top_genes=20, log1p=log1p).fit(adata)
    draw = np.random.default_rng(1)
    kept = draw.random((300, 20)) >= 0.6
    # the oracle: the same loss in a table, of which the Preprocessor knows nothing but counts
    chosen = adata[:, prep.genes_].copy()
    before = np.asarray(chosen.X.sum(axis=1)).ravel()
    chosen.X = csr_matrix(chosen.X.toarray() * kept)
    total = rpumap.preprocessing.library_size(adata)
    left = np.asarray(chosen.X.sum(axis=1)).ravel()
    chosen.obs["library_size"] = left + 0.4 * (total - before)
    ratio = torch.full((300, 1), 0.6)
    z = CountDropper(prep, adata, CPU)(torch.arange(300), torch.as_tensor(kept), ratio)
    np.testing.assert_allclose(z.numpy(), prep.transform(chosen), rtol=1e-4, atol=1e-4)


def test_cells_can_repeat_and_come_in_any_order(base):
    _, prep, adata = base
    cells, none_lost = torch.tensor([5, 2, 5]), torch.ones(3, 20, dtype=torch.bool)
    z = CountDropper(prep, adata, CPU)(cells, none_lost, torch.zeros(3, 1))
    np.testing.assert_allclose(z.numpy(), prep.transform(adata)[[5, 2, 5]], rtol=1e-4, atol=1e-5)


def test_a_cell_that_lost_everything_has_a_place(base):
    _, prep, adata = base
    z = CountDropper(prep, adata, CPU)(
        torch.arange(300), torch.zeros(300, 20, dtype=torch.bool), torch.ones(300, 1)
    )
    empty = prep.standardize(np.zeros((300, 20)))
    np.testing.assert_allclose(z.numpy(), empty, rtol=1e-4, atol=1e-5)


def test_a_gene_that_is_missing_stays_at_its_mean(base):
    _, prep, adata = base
    fewer = adata[:, adata.var_names != prep.genes_[3]].copy()
    with pytest.warns(UserWarning, match="1 of 20 genes are not in the data"):
        expected = prep.transform(fewer)
    z = CountDropper(prep, fewer, CPU)(
        torch.arange(300), torch.ones(300, 20, dtype=torch.bool), torch.zeros(300, 1)
    )
    assert not z[:, 3].any()
    np.testing.assert_allclose(z.numpy(), expected, rtol=1e-4, atol=1e-5)


def test_lost_counts_move_cells_less_and_the_map_stays(base):
    model, prep, adata = base
    steady = resist_dropout(model, prep, adata, n_steps=200)
    for ratio in (0.3, 0.5, 0.7):
        dropped = [drop_counts(adata, ratio, seed) for seed in range(3)]
        gains = [agreement(steady, prep, t) - agreement(model, prep, t) for t in dropped]
        assert min(gains) > 0
    for axis in range(2):
        old, new = model.embedding_[:, axis], steady.embedding_[:, axis]
        assert np.corrcoef(old, new)[0, 1] > 0.98
    assert set(steady.history_) - set(model.history_) == {"dropout", "reconstruction"}
    assert steady.history_["dropout"][-20:].mean() < steady.history_["dropout"][:20].mean()


def test_without_strength_nothing_is_gained(base):
    model, prep, adata = base
    dropped = drop_counts(adata, 0.8, 0)
    idle, steady = (
        agreement(resist_dropout(model, prep, adata, strength=s, n_steps=150), prep, dropped)
        for s in (0.0, 10.0)
    )
    assert steady - agreement(model, prep, dropped) > 2 * (idle - agreement(model, prep, dropped))


def test_the_model_that_was_given_is_not_touched(base):
    model, prep, adata = base
    weights = copy.deepcopy(model.encoder_.state_dict())
    places, counts, size = model.embedding_.copy(), adata.X.toarray(), prep.mean_.copy()
    steady = resist_dropout(model, prep, adata, n_steps=10)
    assert steady is not model
    for name, value in model.encoder_.state_dict().items():
        assert torch.equal(weights[name], value)
    assert np.array_equal(model.embedding_, places)
    assert np.array_equal(adata.X.toarray(), counts)
    assert np.array_equal(prep.mean_, size)
    assert not np.array_equal(steady.embedding_, places)
    assert steady.get_params() == model.get_params()
    assert np.array_equal(steady.transform(prep.transform(adata)), steady.embedding_)


def test_the_seed_decides(base):
    first, again, other = (
        resist_dropout(*base, n_steps=20, random_state=seed).embedding_ for seed in (1, 1, 2)
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("n_components", [1, 3])
def test_any_number_of_dimensions(base, n_components):
    _, prep, adata = base
    model = rpumap.ParametricUMAP(n_components, hidden_sizes=(16,), n_steps=50, random_state=0).fit(
        prep.transform(adata)
    )
    assert resist_dropout(model, prep, adata, n_steps=20).embedding_.shape == (300, n_components)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"max_ratio": 1.0}, "max_ratio must be below 1, got 1.0"),
        ({"max_ratio": 0}, "max_ratio must be above 0"),
        ({"max_ratio": np.nan}, "max_ratio must be a finite number"),
        ({"strength": -1}, "strength must be a finite number of at least 0, got -1"),
        ({"reconstruction": np.inf}, "reconstruction must be"),
        ({"n_steps": 0}, "n_steps must be an integer of at least 1, got 0"),
        ({"learning_rate": 0}, "learning_rate must be above 0"),
    ],
)
def test_bad_options_are_refused(base, arguments, message):
    with pytest.raises(ValueError, match=message):
        resist_dropout(*base, **arguments)


def test_other_things_are_refused(base):
    model, prep, adata = base
    for wrong in (adata[:100], adata[::-1], three_types(seed=1)):
        with pytest.raises(ValueError, match="must be the cells that the model was fitted on"):
            resist_dropout(model, prep, wrong)
    with pytest.raises(ValueError, match="30 features"):
        resist_dropout(model, rpumap.Preprocessor(n_top_genes=30).fit(adata), adata)
    with pytest.raises(NotFittedError):
        resist_dropout(model, rpumap.Preprocessor(), adata)
    with pytest.raises(NotFittedError):
        resist_dropout(rpumap.ParametricUMAP(), prep, adata)
    with pytest.raises(TypeError, match="fitted ParametricUMAP"):
        resist_dropout(model.encoder_, prep, adata)
    with pytest.raises(TypeError, match="fitted Preprocessor, got ndarray"):
        resist_dropout(model, prep.transform(adata), adata)
    small = adata.copy()
    small.obs["library_size"] = 1.0
    with pytest.raises(ValueError, match="cell 0 has a library size below the sum of its counts"):
        CountDropper(prep, small, CPU)


def test_pancreas_cells_that_were_held_out(cells):
    # Cells that no step has seen. The rest of the library, of genes not in the table, falls too.
    new, known = cells.adata[::5], cells.adata[np.arange(cells.adata.n_obs) % 5 > 0]
    prep = rpumap.Preprocessor(n_top_genes=300)
    X = prep.fit_transform(known)
    model = rpumap.ParametricUMAP(n_steps=300, random_state=0).fit(X)
    steady = resist_dropout(model, prep, known, n_steps=150)
    chosen = new[:, prep.genes_].copy()
    size = rpumap.preprocessing.library_size(new)
    rest = size - np.asarray(chosen.X.sum(axis=1)).ravel()
    found = {"old": [], "new": []}
    for seed in range(3):
        dropped = drop_counts(chosen, 0.8, seed)
        dropped.obs["library_size"] = np.asarray(dropped.X.sum(axis=1)).ravel() + 0.2 * rest
        for name, one in (("old", model), ("new", steady)):
            Z, intact = (one.transform(prep.transform(t)) for t in (dropped, new))
            found[name].append(
                np.mean([np.corrcoef(*pair)[0, 1] for pair in zip(Z.T, intact.T, strict=True)])
            )
    assert min(found["new"]) > max(found["old"]) + 0.01
    for score in (
        lambda Z: trustworthiness(X, Z),
        lambda Z: knn_accuracy(Z, known.obs["clusters"]),
    ):
        assert score(steady.embedding_) > score(model.embedding_) - 0.015
