"""Derivatives against autograd and by hand; noise, entry by entry."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from anndata import AnnData
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from sklearn.exceptions import NotFittedError

import rpumap
from rpumap import ParametricUMAP, sensitivity
from rpumap.networks import mlp
from rpumap.sensitivity import gene_impact, jacobian, network_jacobian, perturb

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
    with pytest.raises(TypeError, match="model must be a fitted ParametricUMAP, got Sequential"):
        gene_impact(model.encoder_, X)
    with pytest.raises(NotFittedError):
        gene_impact(ParametricUMAP(), X)
    with pytest.raises(ValueError, match="expecting 7 features"):
        gene_impact(model, X[:, :5])
    with pytest.raises(ValueError, match="NaN"):
        jacobian(model, np.full((2, 7), np.nan))


def test_tables_in_place_of_scores_are_refused():
    model, X = fitted()
    for use in (jacobian, gene_impact):
        with pytest.raises(TypeError, match="not AnnData: .*Preprocessor"):
            use(model, AnnData(X))
    with pytest.raises(TypeError, match="not AnnData: .*Preprocessor"):
        perturb(AnnData(X), 0.1)


def test_scores_in_any_container_and_read_only():
    model, X = fitted()
    expected = jacobian(model, X)
    kept = X.copy()
    kept.setflags(write=False)
    others = [kept, np.asfortranarray(X), X.astype(">f4"), torch.as_tensor(X), sparse.coo_array(X)]
    for other in others:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            np.testing.assert_array_equal(jacobian(model, other), expected)
    noisy = perturb(kept, 0.5, random_state=0)
    np.testing.assert_array_equal(noisy, perturb(X, 0.5, random_state=0))
    assert noisy.flags.writeable


def test_the_jacobian_of_a_network_in_its_own_precision():
    for dtype in (torch.float32, torch.float64):
        network = mlp(4, (6, 5), 3).to(dtype)
        x = torch.randn(8, 4, dtype=dtype)
        expected = torch.func.vmap(torch.func.jacrev(network))(x)
        J = network_jacobian(network, x)
        assert (J.dtype, J.requires_grad) == (dtype, False)
        torch.testing.assert_close(J, expected.detach())


def test_layers_that_compute_something_else_are_refused():
    class Shifted(torch.nn.ReLU):
        def forward(self, x):
            return super().forward(x - 1)

    for layer in (
        Shifted(),
        torch.nn.Tanh(),
        torch.nn.utils.parametrizations.weight_norm(torch.nn.Linear(4, 4)),
    ):
        network = torch.nn.Sequential(torch.nn.Linear(4, 4), layer, torch.nn.Linear(4, 2))
        with pytest.raises(TypeError, match=r"encoder\[1\] must be torch.nn.ReLU itself, got"):
            network_jacobian(network, torch.zeros(1, 4))


def test_the_number_of_threads_is_given_back():
    model, X = fitted()
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        jacobian(model, X)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


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
        assert kstest(noise[:, gene] / 0.7, "norm").pvalue > 1e-3
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
        ({"scale": True}, "scale must be a finite"),
        ({"genes": 3}, r"genes must lie from 0 to 2, got \[3\]"),
        ({"genes": [0, -1]}, r"genes must lie from 0 to 2, got \[-1\]"),
        ({"genes": [1, 1]}, "different from each other"),
        ({"genes": "Ins1"}, "one column number or several, got 'Ins1'"),
        ({"genes": [True, False, True]}, "flatnonzero"),
        ({"genes": 1.0}, "one column number"),
        ({"X": [[np.nan, 0.0, 1.0]]}, "NaN"),
        ({"X": np.ma.masked_less(np.eye(3), 1)}, "X holds 6 missing .masked. values"),
    ],
)
def test_perturb_refuses(change, message):
    with pytest.raises(ValueError, match=message):
        perturb(**({"X": np.zeros((4, 3)), "scale": 1.0} | change))
