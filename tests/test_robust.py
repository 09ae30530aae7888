"""Robust training: the boxes shrink, the map stays, and the model that was given is not touched."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from sklearn.exceptions import NotFittedError

import rpumap
from rpumap.metrics import knn_accuracy, trustworthiness
from rpumap.robust import bound_loss, robustify


@pytest.fixture(scope="module")
def base():
    draw = np.random.default_rng(0)
    X = draw.normal(size=(300, 30)).astype(np.float32)
    X[:, 0] += np.repeat([0, 6, 12], 100)
    return rpumap.ParametricUMAP(hidden_sizes=(32, 32), n_steps=200, random_state=0).fit(X), X


def mean_width(model, X, eps=0.2, norm="linf"):
    lower, upper = rpumap.certify(model, X, eps, norm)
    return (upper - lower).mean()


@pytest.mark.parametrize("penalty", ["width", "area"])
def test_boxes_shrink_and_the_map_stays(base, penalty):
    model, X = base
    robust = robustify(model, X, penalty=penalty, strength=0.5, n_steps=300)
    assert mean_width(robust, X) < mean_width(model, X) / 2
    for axis in range(2):
        old, new = model.embedding_[:, axis], robust.embedding_[:, axis]
        assert np.corrcoef(old, new)[0, 1] > 0.98
    assert set(robust.history_) - set(model.history_) == {"bound", "reconstruction"}
    total = sum(
        robust.history_[name] for name in ("attraction", "repulsion", "bound", "reconstruction")
    )
    np.testing.assert_allclose(robust.history_["loss"], total, rtol=1e-5)


@pytest.mark.parametrize("method", ["crown_ibp", "crown"])
@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_every_norm_and_method(base, norm, method):
    model, X = base
    eps = {"linf": 0.2, "l2": 1.0, "l1": 3.0}[norm]
    robust = robustify(model, X, eps, norm, bound_method=method, n_steps=100)
    assert mean_width(robust, X, eps, norm) < 0.9 * mean_width(model, X, eps, norm)


@pytest.mark.parametrize("n_components", [1, 3])
@pytest.mark.parametrize("penalty", ["width", "area"])
def test_any_number_of_dimensions(base, n_components, penalty):
    X = base[1]
    model = rpumap.ParametricUMAP(
        n_components, hidden_sizes=(16,), n_steps=100, random_state=0
    ).fit(X)
    robust = robustify(model, X, penalty=penalty, n_steps=100)
    assert robust.embedding_.shape == (300, n_components)
    assert mean_width(robust, X) < mean_width(model, X)


def test_the_model_that_was_given_is_not_touched(base):
    model, X = base
    weights = copy.deepcopy(model.encoder_.state_dict())
    places, steps = model.embedding_.copy(), model.history_["loss"].copy()
    robust = robustify(model, X, n_steps=10)
    assert robust is not model
    for name, value in model.encoder_.state_dict().items():
        assert torch.equal(weights[name], value)
    assert np.array_equal(model.embedding_, places)
    assert np.array_equal(model.history_["loss"], steps)
    assert not np.array_equal(robust.embedding_, places)
    assert robust.get_params() == model.get_params()
    assert np.array_equal(robust.transform(X), robust.embedding_)


def test_the_seed_decides(base):
    model, X = base
    first, again, other = (
        robustify(model, X, n_steps=20, random_state=seed).embedding_ for seed in (1, 1, 2)
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_without_bound_loss_nothing_shrinks(base):
    model, X = base
    robust = robustify(model, X, strength=0.0, n_steps=100)
    assert mean_width(robust, X) > 0.7 * mean_width(model, X)


def test_a_larger_map_does_not_change_the_weights_of_the_loss():
    lower, upper = torch.rand(5, 2), 1 + torch.rand(5, 2)
    scale = torch.tensor([2.0, 3.0])
    for penalty in ("width", "area"):
        small = bound_loss(lower, upper, scale, penalty)
        torch.testing.assert_close(bound_loss(7 * lower, 7 * upper, 7 * scale, penalty), small)


def test_bound_loss_by_hand():
    # widths (1, 2) and (3, 4); scale (2, 1)
    lower, upper = torch.zeros(2, 2), torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    scale = torch.tensor([2.0, 1.0])
    assert bound_loss(lower, upper, scale, "area").item() == pytest.approx((1 * 2 + 3 * 4) / 2 / 2)
    assert bound_loss(lower, upper, scale, "width").item() == pytest.approx(2.5 / np.sqrt(2.5))


def test_a_flat_box_has_no_area_left_to_lower():
    upper = torch.tensor([[0.0, 5.0]], requires_grad=True)
    scale = torch.ones(2)
    (slope,) = torch.autograd.grad(bound_loss(torch.zeros(1, 2), upper, scale, "area"), upper)
    assert slope[0, 1] == 0
    (slope,) = torch.autograd.grad(bound_loss(torch.zeros(1, 2), upper, scale, "width"), upper)
    assert slope[0, 1] > 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"eps": -0.1}, "eps must be a finite number of at least 0, got -0.1"),
        ({"eps": 0}, "eps must be above 0"),
        ({"eps": np.nan}, "eps must be"),
        ({"norm": "l3"}, "norm must be one of linf, l2, l1"),
        ({"bound_method": "ibp"}, "bound_method must be one of crown_ibp, crown"),
        ({"penalty": "volume"}, "penalty must be one of width, area"),
        ({"strength": -1}, "strength must be"),
        ({"reconstruction": np.inf}, "reconstruction must be"),
        ({"n_steps": 0}, "n_steps must be an integer of at least 1, got 0"),
        ({"learning_rate": 0}, "learning_rate must be"),
    ],
)
def test_bad_options_are_refused(base, arguments, message):
    with pytest.raises(ValueError, match=message):
        robustify(*base, **arguments)


def test_other_cells_are_refused(base):
    model, X = base
    for wrong in (X[:100], X[::-1]):
        with pytest.raises(ValueError, match="must be the cells that the model was fitted on"):
            robustify(model, wrong)
    with pytest.raises(ValueError, match="30 features"):
        robustify(model, X[:, :5])
    with pytest.raises(NotFittedError):
        robustify(rpumap.ParametricUMAP(), X)
    with pytest.raises(TypeError, match="fitted ParametricUMAP"):
        robustify(model.encoder_, X)


def test_pancreas_cells(cells):
    model = rpumap.ParametricUMAP(random_state=0).fit(cells.X)
    robust = robustify(model, cells.X, n_steps=300)
    some = cells.X[::20]
    assert mean_width(robust, some) < mean_width(model, some) / 5
    for score in (lambda Z: trustworthiness(cells.X, Z), lambda Z: knn_accuracy(Z, cells.labels)):
        assert score(robust.embedding_) > score(model.embedding_) - 0.015
    for axis in range(2):
        old, new = model.embedding_[:, axis], robust.embedding_[:, axis]
        assert np.corrcoef(old, new)[0, 1] > 0.99
