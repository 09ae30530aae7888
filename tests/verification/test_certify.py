"""A certificate is right if nothing gets out of it: sampled cells, and labels under attack."""

from __future__ import annotations

import copy
import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.sparse import csr_matrix
from sklearn.exceptions import NotFittedError

import rpumap
from examples import labels_at
from rpumap.verification import (
    Ball,
    Box,
    SparseBox,
    crown,
    labels_are_certain,
    projected_gradient,
)
from rpumap.verification.certify import certified_label_fraction, certify


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
    encoder = copy.deepcopy(model.encoder_).double()
    want_lower, want_upper = crown(encoder, Ball(X, 0.1, "l2"))
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
    lower, upper = X - np.float32(0.2), X + np.float32(0.1)
    whole = certify(model, region=Box(lower, upper))
    one = certify(model, region=SparseBox(X, lower, upper, max_changed=1))
    assert (one[1] - one[0]).mean() < 0.5 * (whole[1] - whole[0]).mean()
    step = np.random.default_rng(0).choice([-0.2, 0.1], size=X.shape)
    for gene in range(X.shape[1]):
        moved = X.copy()
        moved[:, gene] += step[:, gene]
        # the sum may round to just outside of the box
        z = model.transform(moved.clip(lower, upper))
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
    with pytest.raises(TypeError, match="rpumap.verification takes a torch.nn.Sequential"):
        certify(model[0].encoder_, np.ones((2, 8)), 0.1)


class Doubled(rpumap.ParametricUMAP):
    def transform(self, X):
        return 2 * super().transform(X)


class Named(rpumap.ParametricUMAP):
    def name(self):
        return "mine"


def test_a_model_that_computes_something_else_is_refused(model):
    X = model[1]
    with pytest.raises(TypeError, match="Doubled has a transform of its own"):
        certify(Doubled(n_steps=2).fit(X), X, 0.1)
    certify(Named(n_steps=2).fit(X), X, 0.1)
    hooked = copy.deepcopy(model[0])
    hooked.encoder_[0].register_forward_hook(lambda module, given, output: output + 1)
    with pytest.raises(TypeError, match="forward hooks"):
        certify(hooked, X, 0.1)


def test_copies_of_a_model_can_be_certified(model):
    model, X = model
    wanted = np.stack(certify(model, X, 0.1))
    for same in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert np.array_equal(np.stack(certify(same, X, 0.1)), wanted)


def test_a_region_takes_the_place_of_cells_and_radius(model):
    model, X = model
    wanted = np.stack(certify(model, X, 0.1, "l1"))
    assert np.array_equal(np.stack(certify(model, region=Ball(X, 0.1, "l1"))), wanted)
    box = Box(X - 0.1, X + 0.1)
    for more in ({"X": X}, {"eps": 0.1}, {"X": X, "eps": 0.1}, {"norm": "l2"}):
        with pytest.raises(ValueError, match="or region, not both"):
            certify(model, region=box, **more)
    with pytest.raises(ValueError, match="region has 3 columns, .* takes 8 inputs"):
        certify(model, region=Box(X[:, :3], X[:, :3]))
    with pytest.raises(TypeError, match="region must be one of"):
        certify(model, region=X)


def test_names_of_genes_are_compared():
    X = np.random.default_rng(0).normal(size=(60, 3))
    frame = pd.DataFrame(X, columns=["a", "b", "c"])
    model = rpumap.ParametricUMAP(n_steps=5, random_state=0).fit(frame)
    wanted = np.stack(certify(model, frame, 0.1))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.array_equal(np.stack(certify(model, region=Ball(frame, 0.1))), wanted)
        rpumap.certified_label_fraction(model, frame, ["x"] * 60, 0.1)
    with pytest.raises(ValueError, match="not the genes .* c, b, a, ... instead of a, b, c"):
        certify(model, region=Box(frame[["c", "b", "a"]], frame[["c", "b", "a"]]))
    with pytest.raises(ValueError, match="feature names"):
        certify(model, frame[["c", "b", "a"]], 0.1)


def test_the_number_of_threads_is_left_alone(model):
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        certify(*model, 0.1)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


# --- labels ---


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
    angles = torch.arange(8) * (2 * np.pi / 8)
    directions = torch.stack([angles.cos(), angles.sin()], dim=1)
    for n_steps in (1, 5):
        attacked = projected_gradient(model.encoder_, Ball(X, 0.2), directions, n_steps=n_steps)
        for cells in attacked.numpy():
            z = model.transform(cells.clip(X - np.float32(0.2), X + np.float32(0.2)))
            assert (labels_at(z, Z, labels, 15, own) == before)[certain].all()


@pytest.mark.parametrize("missing", [np.nan, None])
def test_missing_labels_are_refused(model, missing):
    model, X = model
    labels = np.array(["a", "b"] * 60, dtype=object)
    labels[3] = missing
    with pytest.raises(ValueError, match="labels: 1 of 120 are missing"):
        certified_label_fraction(model, X, labels, eps=0.1)
    with pytest.raises(ValueError, match="labels must hold one label for each of 120 cells"):
        certified_label_fraction(model, X, "clusters", eps=0.1)


def test_a_model_whose_network_was_made_double_keeps_its_coordinates_inside():
    X = np.random.default_rng(0).normal(size=(50, 6)).astype(np.float32)
    model = rpumap.ParametricUMAP(n_steps=5, random_state=0).fit(X)
    model.encoder_.double()
    lower, upper = rpumap.certify(model, X, 0.0)
    z = model.transform(X.astype(float) * (1 + 2.0**-25))
    assert lower.dtype == np.float32
    assert ((lower <= z) & (z <= upper)).all()
