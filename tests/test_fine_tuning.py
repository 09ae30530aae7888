"""Robust training: the boxes shrink, the map stays, and the model that was given is not touched."""

from __future__ import annotations

import copy
import warnings

import joblib
import numpy as np
import pandas as pd
import pytest
import sklearn
import torch
from scipy.sparse import csr_matrix
from sklearn.exceptions import NotFittedError

import rpumap
from rpumap.fine_tuning import fine_tune, generator_for, robustify
from rpumap.metrics import knn_accuracy, trustworthiness


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
    Z, steps = model.embedding_.copy(), model.history_["loss"].copy()
    robust = robustify(model, X, n_steps=10)
    assert robust is not model
    for name, value in model.encoder_.state_dict().items():
        assert torch.equal(weights[name], value)
    assert np.array_equal(model.embedding_, Z)
    assert np.array_equal(model.history_["loss"], steps)
    assert not np.array_equal(robust.embedding_, Z)
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


def test_the_same_cells_up_to_rounding_are_accepted(base):
    model, X = base
    wanted = robustify(model, X, n_steps=3)
    same = {
        "double": X.astype(float),
        "last bit": np.nextafter(X, np.float32(np.inf)),
        "sparse": csr_matrix(X),
        "frame": pd.DataFrame(X),
        "six decimals": np.array([[float(f"{value:.6f}") for value in row] for row in X]),
    }
    for cells in same.values():
        assert np.abs(robustify(model, cells, n_steps=3).embedding_ - wanted.embedding_).max() < 0.1
    elsewhere = copy.deepcopy(model)
    elsewhere.embedding_ = np.nextafter(model.embedding_, np.float32(np.inf))
    robustify(elsewhere, X, n_steps=3)
    with pytest.raises(ValueError, match="300 of 300 have other coordinates|other coordinates"):
        robustify(model, X + np.float32(0.5), n_steps=3)


def test_divergence_is_an_error(base):
    with pytest.raises(FloatingPointError, match="learning_rate"):
        robustify(*base, n_steps=30, learning_rate=1e30)


def test_balls_of_any_size_leave_a_finite_model(base):
    assert np.isfinite(robustify(*base, n_steps=30, eps=1e30).embedding_).all()


@pytest.mark.filterwarnings("ignore:.*identical to all")
@pytest.mark.parametrize("penalty", ["width", "area"])
def test_cells_that_are_all_alike_stay_finite(penalty):
    X = np.ones((60, 5))
    model = rpumap.ParametricUMAP(n_steps=5, random_state=0).fit(X)
    robust = robustify(model, X, n_steps=5, penalty=penalty)
    assert np.isfinite(robust.embedding_).all()
    assert np.isfinite(robust.history_["loss"]).all()


def test_a_model_on_a_read_only_memory_map_can_be_tuned(base, tmp_path):
    model, X = base
    joblib.dump(model, tmp_path / "model")
    loaded = joblib.load(tmp_path / "model", mmap_mode="r")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        robustify(loaded, X, n_steps=3)


def test_with_pandas_output_nothing_changes(base):
    model, X = base
    wanted = robustify(model, X, n_steps=5).embedding_
    with sklearn.config_context(transform_output="pandas"):
        robust = robustify(model, X, n_steps=5)
        assert type(robust.embedding_) is np.ndarray
        assert np.array_equal(robust.embedding_, wanted)
        robustify(robust, X, n_steps=2)


def test_a_term_of_ones_own(base):
    model, X = base
    shorter = fine_tune(
        model,
        X,
        "size",
        lambda step: step.z.square().mean(),
        reconstruction=0.0,
        n_steps=50,
        learning_rate=1e-2,
        generator=generator_for(model, 0),
    )
    assert np.square(shorter.embedding_).mean() < 0.5 * np.square(model.embedding_).mean()
    assert "size" in shorter.history_


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
