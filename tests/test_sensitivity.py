"""Derivatives against autograd and by hand; noise and lost counts, entry by entry."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from anndata import AnnData
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import sparse
from sklearn.exceptions import NotFittedError

import rpumap
from rpumap import ParametricUMAP, Preprocessor, sensitivity
from rpumap.preprocessing import library_size
from rpumap.sensitivity import drop_counts, gene_impact, jacobian, perturb

settings.register_profile("sensitivity", deadline=None, derandomize=True, max_examples=80)
drawn = settings.get_profile("sensitivity")


def fitted(n_genes: int = 7, n_cells: int = 60, **options) -> tuple[ParametricUMAP, np.ndarray]:
    """Train a model for a moment; its biases are drawn, since those of a new network are 0."""
    X = np.random.default_rng(0).normal(size=(n_cells, n_genes)).astype(np.float32)
    options = {"n_steps": 3, "batch_size": 64, "n_neighbors": 5, "random_state": 0} | options
    model = ParametricUMAP(**options).fit(X)
    generator = torch.Generator().manual_seed(1)
    for layer in model.encoder_[::2]:
        torch.nn.init.normal_(layer.bias, std=0.3, generator=generator)
    return model, X


def with_weights(*layers: tuple) -> ParametricUMAP:
    """Give a fitted model the weights and biases of an example."""
    n_genes = np.shape(layers[0][0])[1]
    hidden = [len(bias) for _, bias in layers[:-1]]
    model, _ = fitted(n_genes, hidden_sizes=hidden, n_components=len(layers[-1][1]))
    with torch.no_grad():
        for layer, (weight, bias) in zip(model.encoder_[::2], layers, strict=True):
            layer.weight.copy_(torch.tensor(weight))
            layer.bias.copy_(torch.tensor(bias))
    return model


@pytest.mark.parametrize("hidden_sizes", [(), (16,), (16, 9), (5, 8, 6, 7)])
@pytest.mark.parametrize("n_components", [1, 2, 3])
def test_jacobian_equals_autograd(hidden_sizes, n_components):
    model, X = fitted(hidden_sizes=hidden_sizes, n_components=n_components)
    encoder = model.encoder_.double()
    expected = torch.func.vmap(torch.func.jacrev(encoder))(torch.as_tensor(X).double())
    J = jacobian(model, X)
    assert J.shape == (60, n_components, 7)
    assert J.dtype == np.float64
    scale = expected.abs().max().item()
    np.testing.assert_allclose(J, expected.detach(), rtol=1e-10, atol=1e-13 * scale)
    assert hidden_sizes == () or np.ptp(J, axis=0).max() > 1e-3  # not one linear map throughout
    impact = expected.square().sum(1).sqrt().sum(0).detach()
    np.testing.assert_allclose(gene_impact(model, X), impact, rtol=1e-10)


def test_jacobian_predicts_small_steps():
    model, X = fitted()
    encoder = model.encoder_.double()
    x, step = torch.as_tensor(X).double(), 1e-7
    for gene in range(7):
        moved = x.clone()
        moved[:, gene] += step
        slope = (encoder(moved) - encoder(x)).detach().numpy() / step
        np.testing.assert_allclose(jacobian(model, X)[:, :, gene], slope, atol=1e-6)


def test_a_case_by_hand():
    # z = (relu(x1 - x2) + 3 relu(x2), -relu(x1 - x2)): one region each side of x1 = x2 and x2 = 0
    model = with_weights(
        ([[1.0, -1.0], [0.0, 1.0]], [0.0, 0.0]), ([[1.0, 3.0], [-1.0, 0.0]], [5.0, 5.0])
    )
    cells = [[2.0, 1.0], [2.0, -1.0], [1.0, 2.0], [-2.0, -1.0]]
    expected = [[[1, 2], [-1, 1]], [[1, -1], [-1, 1]], [[0, 3], [0, 0]], [[0, 0], [0, 0]]]
    np.testing.assert_array_equal(jacobian(model, cells), expected)
    np.testing.assert_allclose(gene_impact(model, cells), [2 * 2**0.5, 5**0.5 + 2**0.5 + 3])


def test_the_derivative_at_a_kink_is_zero_as_in_pytorch():
    model = with_weights(([[1.0], [-1.0]], [0.0, 0.0]), ([[1.0, 1.0]], [0.0]))
    x = torch.zeros(1, 1, requires_grad=True)
    model.encoder_(x).sum().backward()
    assert x.grad.item() == 0
    np.testing.assert_array_equal(jacobian(model, [[0.0]]), [[[0.0]]])


def test_batches_and_sparse_cells_make_no_difference(monkeypatch):
    model, X = fitted()
    X = X * (np.abs(X) > 0.8)
    J, impact = jacobian(model, X), gene_impact(model, X)
    np.testing.assert_allclose(impact, np.linalg.norm(J, axis=1).sum(axis=0), rtol=1e-12)
    np.testing.assert_array_equal(jacobian(model, sparse.csr_matrix(X)), J)
    monkeypatch.setattr(sensitivity, "BATCH_MEGABYTES", 1e-9)  # one cell at a time
    np.testing.assert_allclose(jacobian(model, X), J, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(gene_impact(model, X), impact, rtol=1e-12)


def test_a_working_memory_is_kept():
    model, X = fitted(n_genes=300, n_cells=40)
    # 64 MB hold two arrays of n x 2 x 300 float64; more cells than that come in several batches
    many = np.tile(X, (250, 1))
    sizes = [batch.nbytes for batch in sensitivity._jacobians(model, many)]
    assert len(sizes) > 1
    assert max(sizes) <= 32e6


def test_the_model_is_left_alone():
    model, X = fitted()
    before = [p.clone() for p in model.encoder_.parameters()]
    jacobian(model, X)
    after = list(model.encoder_.parameters())
    assert all(
        p.dtype == torch.float32 and torch.equal(p, q) for p, q in zip(after, before, strict=True)
    )


def test_bad_models_and_cells_are_refused():
    model, X = fitted()
    with pytest.raises(
        TypeError, match=r"a fitted rpumap.ParametricUMAP is needed, not Sequential"
    ):
        gene_impact(model.encoder_, X)
    with pytest.raises(NotFittedError):
        gene_impact(ParametricUMAP(), X)
    with pytest.raises(ValueError, match="expecting 7 features"):
        gene_impact(model, X[:, :5])
    with pytest.raises(ValueError, match="NaN"):
        jacobian(model, np.full((2, 7), np.nan))


def test_the_name_at_the_top():
    assert rpumap.gene_impact is gene_impact


# Noise


@drawn
@given(
    n_genes=st.integers(1, 6),
    data=st.data(),
    scale=st.floats(0, 10),
    seed=st.integers(0, 99),
    dtype=st.sampled_from([np.float32, np.float64]),
)
def test_perturb_changes_the_chosen_genes_only(n_genes, data, scale, seed, dtype):
    chosen = data.draw(st.lists(st.integers(0, n_genes - 1), unique=True))
    X = np.random.default_rng(seed).normal(size=(20, n_genes)).astype(dtype)
    before = X.copy()
    noisy = perturb(X, scale, chosen, random_state=seed)
    assert noisy.dtype == dtype
    assert X.tobytes() == before.tobytes()
    others = np.setdiff1d(np.arange(n_genes), chosen)
    assert noisy[:, others].tobytes() == X[:, others].tobytes()
    if scale > 1e-3:
        assert (noisy[:, chosen] != X[:, chosen]).any(axis=0).all()
    if scale == 0:
        np.testing.assert_array_equal(noisy, X)


def test_noise_is_normal_with_the_scale_asked_for():
    from scipy.stats import kstest

    X = np.random.default_rng(0).normal(size=(5000, 3))
    noise = perturb(X, 0.7, random_state=1) - X
    for gene in range(3):
        assert kstest(noise[:, gene], "norm", (0, 0.7)).pvalue > 1e-3
    assert np.abs(np.corrcoef(noise.T) - np.eye(3)).max() < 0.06
    np.testing.assert_array_equal(perturb(X, 0.7, None, 1), perturb(X, 0.7, [0, 1, 2], 1))
    rng = np.random.default_rng(1)
    np.testing.assert_array_equal(perturb(X, 0.7, random_state=rng), X + noise)
    assert (perturb(X, 0.7, random_state=rng) != X + noise).all()  # a generator moves on


def test_perturb_takes_one_index_integers_and_sparse_cells():
    X = np.arange(12).reshape(4, 3)
    one = perturb(X, 1.0, genes=1, random_state=0)
    np.testing.assert_array_equal(one, perturb(X, 1.0, genes=[1], random_state=0))
    np.testing.assert_array_equal(one, perturb(sparse.csr_matrix(X), 1.0, np.int64(1), 0))
    assert one.dtype == np.float64


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scale": -0.1}, "scale must be a finite number of at least 0, got -0.1"),
        ({"scale": np.nan}, "scale must be a finite"),
        ({"scale": np.inf}, "scale must be a finite"),
        ({"scale": "1"}, "scale must be a finite"),
        ({"genes": 3}, r"genes must lie from 0 to 2, got \[3\]"),
        ({"genes": [0, -1]}, r"genes must lie from 0 to 2, got \[-1\]"),
        ({"genes": [1, 1]}, "different from each other"),
        ({"genes": "Ins1"}, "one column number or several, got 'Ins1'"),
        ({"genes": [True, False, True]}, "flatnonzero"),
        ({"genes": 1.0}, "one column number"),
        ({"X": [[np.nan, 0.0, 1.0]]}, "NaN"),
    ],
)
def test_perturb_refuses(change, message):
    with pytest.raises(ValueError, match=message):
        perturb(**({"X": np.zeros((4, 3)), "scale": 1.0} | change))


# Lost counts

counted = arrays(
    np.int32, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.integers(0, 9)
)


@drawn
@given(counts=counted, ratio=st.floats(0, 1), seed=st.integers(0, 99))
def test_exactly_so_many_counts_are_lost_and_none_rises(counts, ratio, seed):
    before = counts.copy()
    lost = drop_counts(counts, ratio, seed)
    np.testing.assert_array_equal(counts, before)
    assert lost.dtype == counts.dtype
    changed = lost != counts
    assert (lost[changed] == 0).all()
    assert changed.sum() == round(ratio * np.count_nonzero(counts))


@drawn
@given(counts=counted, ratio=st.floats(0, 1), seed=st.integers(0, 99))
def test_dense_and_sparse_lose_the_same(counts, ratio, seed):
    expected = drop_counts(counts, ratio, seed)
    for kind in (sparse.csr_matrix, sparse.csc_array, sparse.coo_matrix, sparse.csr_array):
        given_counts = kind(counts)
        lost = drop_counts(given_counts, ratio, seed)
        assert type(lost) is kind
        assert lost.dtype == counts.dtype
        assert lost.nnz == np.count_nonzero(expected)  # no zeros are stored
        np.testing.assert_array_equal(lost.toarray(), expected)
        np.testing.assert_array_equal(given_counts.toarray(), counts)


def test_stored_zeros_are_not_counts():
    stored = sparse.csr_matrix(([1, 0, 0, 2, 0], [0, 1, 2, 1, 2], [0, 3, 5]), dtype=np.int64)
    lost = drop_counts(stored, 0.5, 0)
    assert stored.nnz == 5
    assert lost.nnz == 1
    assert drop_counts(stored, 0.0).nnz == 2


def test_every_count_is_equally_likely_to_be_lost():
    counts = np.array([[100, 1, 0], [1, 1, 1]])  # large counts are not spared
    rng = np.random.default_rng(0)
    times = sum(drop_counts(counts, 0.4, rng) < counts for _ in range(5000))
    assert times[0, 2] == 0
    share = times[counts > 0] / 5000
    assert np.abs(share - 0.4).max() < 5 * (0.4 * 0.6 / 5000) ** 0.5


@pytest.fixture
def table() -> AnnData:
    draw = np.random.default_rng(3)
    counts = draw.negative_binomial(2, 2 / (2 + draw.gamma(0.5, 4, size=60)), size=(150, 60))
    adata = AnnData(sparse.csr_matrix(counts.astype(np.float32)))
    adata.var_names = [f"gene{i}" for i in range(60)]
    adata.obs["clusters"] = ["a", "b", "c"] * 50
    adata.uns["source"] = "drawn"
    adata.layers["raw"] = adata.X.copy()
    return adata


def test_a_table_keeps_all_but_its_counts(table):
    before = table.copy()
    lost = drop_counts(table, 0.3, 0)
    assert isinstance(lost.X, sparse.csr_matrix)
    assert lost.X.dtype == np.float32
    assert (drop_counts(table.X, 0.3, 0) != lost.X).nnz == 0
    assert lost.X.nnz == table.X.nnz - round(0.3 * table.X.nnz)
    for one, other in ((table, before), (lost, before)):
        assert one.obs.equals(other.obs) and one.var_names.equals(other.var_names)
        assert (one.layers["raw"] != other.layers["raw"]).nnz == 0
    assert (table.X != before.X).nnz == 0
    assert lost.uns["source"] == "drawn"
    lost.obs["clusters"] = "z"
    assert set(table.obs["clusters"]) == {"a", "b", "c"}


@pytest.mark.parametrize("dtype", [np.float64, np.int64])
def test_a_stored_library_size_loses_the_molecules_too(table, dtype):
    # Stored or summed, the library size is the same, so the z-scores must be the same.
    stored = table.copy()
    stored.obs["library_size"] = library_size(table).astype(dtype)
    prep = Preprocessor(n_top_genes=20).fit(table)
    summed, kept = drop_counts(table, 0.4, 0), drop_counts(stored, 0.4, 0)
    assert kept.obs["library_size"].dtype == dtype
    np.testing.assert_array_equal(library_size(kept), library_size(summed))
    np.testing.assert_array_equal(prep.transform(kept), prep.transform(summed))
    assert (library_size(kept) < library_size(table)).mean() > 0.9
    np.testing.assert_array_equal(stored.obs["library_size"], library_size(table))


def test_genes_that_are_not_in_the_table_lose_nothing(table):
    table.obs["library_size"] = library_size(table) + 1000
    lost = drop_counts(table, 1.0, 0)
    np.testing.assert_array_equal(lost.obs["library_size"], 1000)


def test_views_and_dense_tables(table):
    view = table[10:90, ::2]
    lost = drop_counts(view, 0.5, 0)
    assert lost.shape == (80, 30)
    assert view.is_view
    dense = AnnData(view.X.toarray(), obs=view.obs)
    np.testing.assert_array_equal(drop_counts(dense, 0.5, 0).X, lost.X.toarray())


@pytest.mark.parametrize("ratio", [-0.1, 1.1, np.nan, "half"])
def test_a_ratio_lies_from_0_to_1(ratio):
    with pytest.raises(ValueError, match="ratio must be from 0 to 1, got"):
        drop_counts(np.ones((2, 2)), ratio)


def test_bad_counts_are_refused(table):
    with pytest.raises(ValueError, match="must not be negative: pass raw counts"):
        drop_counts(np.array([[1, -1]]), 0.5)
    with pytest.raises(ValueError, match="must not be negative"):
        drop_counts(sparse.csc_matrix([[1.0, -1.0]]), 0.5)
    with pytest.raises(ValueError, match="counts contains NaN"):
        drop_counts(np.array([[1, np.nan]]), 0.5)
    with pytest.raises(ValueError, match="Expected 2D array"):
        drop_counts(np.array([1, 2]), 0.5)
    with pytest.raises(ValueError, match="X is None"):
        drop_counts(AnnData(shape=(3, 2)), 0.5)
    table.obs["library_size"] = 0.5
    with pytest.raises(ValueError, match=r"obs\['library_size'\] is smaller than the counts lost"):
        drop_counts(table, 0.5, 0)
