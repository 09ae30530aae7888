"""A certificate is right if nothing gets out of it: sampled cells, lost counts, or labels."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from anndata import AnnData
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_matrix
from sklearn.exceptions import NotFittedError

import rpumap
from rpumap import bounds
from rpumap.certificates import certified_label_fraction, certify, dropout_box, labels_are_certain

drawn = settings(deadline=None, derandomize=True, max_examples=60)


@pytest.fixture(scope="module")
def model():
    X = np.random.default_rng(0).normal(size=(120, 8)).astype(np.float32)
    X[60:] += 4
    return rpumap.ParametricUMAP(hidden_sizes=(16, 16), n_steps=60, random_state=0).fit(X), X


# --- certify --------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["crown", "crown_ibp", "ibp"])
@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_no_moved_cell_leaves_its_box(model, method, norm):
    model, X = model
    lower, upper = certify(model, X, 0.3, norm, method)
    assert lower.shape == upper.shape == (120, 2)
    assert lower.dtype == upper.dtype == np.float32
    draw = np.random.default_rng(1)
    for _ in range(50):
        step = draw.normal(size=X.shape)
        length = {
            "linf": np.abs(step).max(1, keepdims=True),
            "l2": np.linalg.norm(step, axis=1, keepdims=True),
            "l1": np.abs(step).sum(1, keepdims=True),
        }[norm]
        moved = model.transform(X + 0.3 * step / length)
        assert (lower <= moved).all()
        assert (moved <= upper).all()


def test_equal_to_the_bounds_of_the_network(model):
    model, X = model
    lower, upper = certify(model, X, 0.1, "l2")
    want_lower, want_upper = bounds.crown(model.encoder_.double(), torch.tensor(X), 0.1, "l2")
    model.encoder_.float()
    np.testing.assert_allclose(lower, want_lower.detach(), atol=1e-3)
    np.testing.assert_allclose(upper, want_upper.detach(), atol=1e-3)
    assert (lower <= want_lower.detach().numpy()).all()
    assert (upper >= want_upper.detach().numpy()).all()


def test_radius_zero_holds_what_transform_returns(model):
    model, X = model
    lower, upper = certify(model, csr_matrix(X), eps=0)
    assert (lower <= model.embedding_).all()
    assert (model.embedding_ <= upper).all()
    assert (upper - lower).max() < 1e-3


def test_boxes_and_few_changes_nest(model):
    model, X = model
    box = {"lower_input": X - 0.2, "upper_input": X + 0.1}
    whole, one = certify(model, **box), certify(model, X, max_changed=1, **box)
    assert (one[1] - one[0]).mean() < 0.5 * (whole[1] - whole[0]).mean()
    step = np.random.default_rng(0).choice([-0.2, 0.1], size=X.shape)
    for gene in range(X.shape[1]):
        moved = X.copy()
        moved[:, gene] += step[:, gene]
        # the sum may round to just outside of the box
        z = model.transform(moved.clip(box["lower_input"], box["upper_input"]))
        assert (one[0] <= z).all()
        assert (z <= one[1]).all()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"eps": 0.1, "X": np.ones((2, 3))}, ValueError, "3 features"),
        ({"eps": 0.1, "X": np.full((2, 8), np.nan)}, ValueError, "NaN"),
        ({"eps": -1, "X": np.ones((2, 8))}, ValueError, "eps must be 0 or more"),
        ({"X": np.ones((2, 8))}, ValueError, "give either"),
        ({"eps": 0.1, "X": np.ones((2, 8)), "norm": "max"}, ValueError, "norm must be one of"),
        ({"eps": 0.1, "X": np.ones((2, 8)), "method": "lp"}, ValueError, "method must be one of"),
    ],
)
def test_bad_input_to_certify(model, arguments, error, message):
    with pytest.raises(error, match=message):
        certify(model[0], **arguments)


def test_a_model_is_needed(model):
    with pytest.raises(NotFittedError):
        certify(rpumap.ParametricUMAP(), np.ones((2, 8)), 0.1)
    with pytest.raises(TypeError, match="rpumap.bounds takes a torch.nn.Sequential"):
        certify(model[0].encoder_, np.ones((2, 8)), 0.1)


# --- lost counts ----------------------------------------------------------------------------


def counts_of(seed: int, with_size: bool) -> AnnData:
    draw = np.random.default_rng(seed)
    adata = AnnData(csr_matrix(draw.poisson(1.5, size=(30, 12)).astype(np.float32)))
    adata.var_names = [f"g{i}" for i in range(12)]
    if with_size:
        adata.obs["library_size"] = np.asarray(adata.X.sum(1)).ravel() + draw.integers(1, 9, 30)
    return adata


def prepared(adata: AnnData, log1p: bool) -> rpumap.Preprocessor:
    """Fit to seven genes; choosing them is not what is tested."""
    prep = rpumap.Preprocessor(n_top_genes=7, log1p=log1p)
    prep._variable_genes = lambda adata: np.arange(12) % 2 + (np.arange(12) == 4) > 0
    return prep.fit(adata)


@drawn
@given(st.integers(0, 1000), st.booleans(), st.booleans(), st.booleans())
def test_no_loss_leaves_the_box(seed, with_size, log1p, falls):
    adata = counts_of(seed, with_size)
    prep = prepared(adata, log1p)
    draw = np.random.default_rng(seed)
    genes = draw.choice(prep.genes_, size=draw.integers(1, 8), replace=False)
    lower, upper = dropout_box(prep, adata, genes, library_size_falls=falls)
    size = rpumap.preprocessing.library_size(adata)
    for _ in range(10):
        less = adata.copy()
        counts = less.X.toarray()
        may_fall = np.isin(adata.var_names, genes) & (draw.random(counts.shape) < 0.7)
        fewer = np.where(may_fall, draw.integers(0, counts + 1), counts)
        less.X = csr_matrix(fewer.astype(np.float32))
        less.obs["library_size"] = size - (counts - fewer).sum(1) if falls else size
        z = prep.transform(less)
        assert (lower <= z).all()
        assert (z <= upper).all()
    assert (lower <= prep.transform(adata)).all()


def test_ends_of_the_dropout_box():
    adata = counts_of(0, with_size=False)
    prep = prepared(adata, log1p=False)
    lower, upper = dropout_box(prep, adata)
    assert np.array_equal(upper, prep.transform(adata))
    np.testing.assert_allclose(lower, np.tile(-prep.mean_ / prep.std_, (30, 1)), rtol=1e-6)
    # one gene lost, by hand: the others' share rises from c / L to c / (L - lost)
    one = prep.genes_[2]
    lower, upper = dropout_box(prep, adata, one, library_size_falls=True)
    counts = adata.X.toarray()
    total, lost = counts.sum(1), counts[:, list(adata.var_names).index(one)]
    other = counts[:, list(adata.var_names).index(prep.genes_[0])]
    want = (1e4 * other / (total - lost) - prep.mean_[0]) / prep.std_[0]
    np.testing.assert_allclose(upper[:, 0], want, rtol=1e-5)
    own = (1e4 * lost / total - prep.mean_[2]) / prep.std_[2]
    np.testing.assert_allclose(upper[:, 2], own, rtol=1e-5)


def test_genes_that_the_data_lack_stay_at_the_mean():
    adata = counts_of(0, with_size=True)
    prep = prepared(adata, log1p=True)
    fewer = adata[:, adata.var_names != prep.genes_[1]].copy()
    with pytest.warns(UserWarning, match="1 of 7 genes are not in the data"):
        lower, upper = dropout_box(prep, fewer, library_size_falls=True)
    assert not lower[:, 1].any()
    assert not upper[:, 1].any()


def test_bad_input_to_the_dropout_box():
    adata = counts_of(0, with_size=True)
    prep = prepared(adata, log1p=False)
    with pytest.raises(ValueError, match="genes must be among those of prep, got Actb"):
        dropout_box(prep, adata, ["g1", "Actb"])
    adata.obs["library_size"] = 1.0
    with pytest.raises(ValueError, match="cell 0 has a library size below the sum of its counts"):
        dropout_box(prep, adata, library_size_falls=True)


# --- labels ---------------------------------------------------------------------------------


def labels_at(points, Z, labels, k, own=None):
    """Classify by counting, one point at a time; ties go to the label that sorts first."""
    found = []
    for i, point in enumerate(points):
        distance = ((Z - point) ** 2).sum(1)
        if own is not None:
            distance[own[i]] = np.inf
        names, votes = np.unique(
            labels[np.argsort(distance, kind="stable")[:k]], return_counts=True
        )
        found.append(names[votes.argmax()])
    return np.array(found)


@drawn
@given(st.integers(0, 10_000), st.integers(1, 3), st.sampled_from([1, 3, 4, 15]), st.booleans())
def test_no_point_of_a_certain_box_has_another_label(seed, n_dims, k, leave_one_out):
    draw = np.random.default_rng(seed)
    Z = draw.normal(size=(60, n_dims)).round(draw.integers(0, 4))  # rounded: ties and twins
    labels = np.where(Z[:, 0] + 0.3 * draw.normal(size=60) > 0, "a", draw.choice(["b", "c"], 60))
    half = draw.choice([0.01, 0.1, 0.5]) * draw.random(Z.shape)
    lower, upper = Z - half, Z + half
    certain = labels_are_certain(
        lower, upper, Z, labels, k, leave_one_out=leave_one_out, max_splits=4
    )
    own = np.arange(60) if leave_one_out else None
    at_middle = labels_at(Z, Z, labels, k, own)
    for _ in range(30):
        share = draw.random(Z.shape).round(draw.integers(0, 3))
        there = labels_at(lower + share * (upper - lower), Z, labels, k, own)
        changed = there != at_middle
        # distances that are equal but for rounding make no certain label
        assert not (changed & certain).any()


def test_certain_where_it_should_be():
    Z = np.concatenate([np.zeros((20, 2)), np.full((20, 2), 10.0)])
    Z += np.random.default_rng(0).normal(size=Z.shape) * 0.1
    labels = np.repeat(["a", "b"], 20)
    boxes = np.array([[-3.0, 3.0], [-3.0, 4.5], [-3.0, 5.5], [6.0, 99.0], [-np.inf, np.inf]])
    lower, upper = (np.repeat(boxes[:, [side]], 2, axis=1) for side in (0, 1))
    certain = labels_are_certain(lower, upper, Z, labels)
    assert certain.tolist() == [True, True, False, True, False]


def test_more_cuts_find_more_and_never_take_back():
    draw = np.random.default_rng(0)
    Z = draw.normal(size=(400, 2))
    labels = np.where(Z[:, 0] > 0, "a", "b")
    half = 0.3 * draw.random((400, 2))
    found = [
        labels_are_certain(Z - half, Z + half, Z, labels, max_splits=splits)
        for splits in (0, 2, 4, 8)
    ]
    for fewer, more in zip(found, found[1:], strict=False):
        assert (more | ~fewer).all()
    assert found[-1].sum() > found[0].sum()


def test_few_neighbours_or_all_cells_looked_at_makes_no_difference(monkeypatch):
    draw = np.random.default_rng(0)
    Z = draw.normal(size=(300, 2))
    labels = draw.choice(["a", "b", "c"], 300)
    labels[Z[:, 0] > 0] = "a"
    half = draw.random((300, 1)) * [[0.4, 0.1]]
    few = labels_are_certain(Z - half, Z + half, Z, labels, k=5, leave_one_out=True)
    monkeypatch.setattr(rpumap.certificates, "NEAR", 1000)
    every = labels_are_certain(Z - half, Z + half, Z, labels, k=5, leave_one_out=True)
    assert few.any()
    assert np.array_equal(few, every)


def test_certified_labels_withstand_attack(model):
    model, X = model
    labels = np.repeat(["a", "b"], 60)
    fraction = certified_label_fraction(model, X, labels, eps=0.2)
    assert 0 < fraction <= 1
    lower, upper = certify(model, X, 0.2)
    certain = labels_are_certain(lower, upper, model.embedding_, labels, leave_one_out=True)
    assert certain.mean() == fraction
    Z, own = model.embedding_.astype(float), np.arange(120)
    before = labels_at(Z, Z, labels, 15, own)
    x = torch.tensor(X, requires_grad=True)
    for direction in ([1, 0], [0, 1], [-1, 0], [0, -1], [1, 1], [-1, -1]):
        (slope,) = torch.autograd.grad((model.encoder_(x) * torch.tensor(direction)).sum(), x)
        attacked = model.transform(X + np.float32(0.2) * slope.sign().numpy())
        assert (labels_at(attacked, Z, labels, 15, own) == before)[certain].all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lower": np.zeros((3, 1))}, "must have shape"),
        ({"labels": ["a"] * 4}, "4 labels for 5 cells"),
        ({"leave_one_out": True}, "leave_one_out needs one box a cell, got 3 for 5 cells"),
        ({"lower": np.full((3, 2), np.nan)}, "no NaN"),
        ({"lower": np.full((3, 2), 9.0)}, "lower is above upper in box 0"),
        ({"k": 5}, "k must be at least 1 and below the 5 cells, got 5"),
    ],
)
def test_bad_input_to_labels_are_certain(change, message):
    good = {
        "lower": np.zeros((3, 2)),
        "upper": np.ones((3, 2)),
        "Z": np.arange(10.0).reshape(5, 2),
        "labels": ["a"] * 5,
        "k": 2,
    }
    with pytest.raises(ValueError, match=message):
        labels_are_certain(**(good | change))
