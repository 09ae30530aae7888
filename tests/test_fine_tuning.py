"""Fine-tuning: boxes shrink, lost counts move cells less, and the map stays."""

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
from examples import three_types
from rpumap.dropout import drop_counts
from rpumap.fine_tuning import extend, fine_tune, generator_for, resist_dropout, robustify
from rpumap.graph import nearest_neighbors
from rpumap.metrics import knn_accuracy, trustworthiness


@pytest.fixture(scope="module")
def base():
    draw = np.random.default_rng(0)
    X = draw.normal(size=(300, 30)).astype(np.float32)
    X[:, 0] += np.repeat([0, 6, 12], 100)
    # without weight decay: what the boxes lose, the penalty took
    options = {"hidden_sizes": (32, 32), "n_steps": 200, "weight_decay": 0.0}
    return rpumap.ParametricUMAP(**options, random_state=0).fit(X), X


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
    undecayed = rpumap.ParametricUMAP(weight_decay=0.0, random_state=0).fit(cells.X)
    model = rpumap.ParametricUMAP(random_state=0).fit(cells.X)
    robust = robustify(model, cells.X)
    some = cells.X[::20]
    assert mean_width(robust, some) < mean_width(undecayed, some) / 6
    assert mean_width(robust, some) < mean_width(model, some) / 4
    for score in (lambda Z: trustworthiness(cells.X, Z), lambda Z: knn_accuracy(Z, cells.labels)):
        assert score(robust.embedding_) > score(model.embedding_) - 0.015
    # what a correlation of 0.99 in each coordinate comes to, whichever way the map lies
    moved = np.square(robust.embedding_ - model.embedding_).mean()
    assert moved < 0.02 * model.embedding_.var(axis=0).mean()


# --- lost counts ---


@pytest.fixture(scope="module")
def dropout_base():
    adata = three_types()
    prep = rpumap.Preprocessor(n_top_genes=20)
    X = prep.fit_transform(adata)
    model = rpumap.ParametricUMAP(hidden_sizes=(32, 32), n_steps=200, random_state=0).fit(X)
    return model, prep, adata


def agreement(model, prep, dropped):
    """Mean correlation of the coordinates with those of the intact cells."""
    Z = model.transform(prep.transform(dropped))
    return np.mean([np.corrcoef(Z[:, j], model.embedding_[:, j])[0, 1] for j in (0, 1)])


def test_lost_counts_move_cells_less_and_the_map_stays(dropout_base):
    model, prep, adata = dropout_base
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


def test_without_weight_of_dropped_copies_nothing_is_gained(dropout_base):
    model, prep, adata = dropout_base
    dropped = drop_counts(adata, 0.8, 0)
    idle, steady = (
        agreement(resist_dropout(model, prep, adata, strength=s, n_steps=150), prep, dropped)
        for s in (0.0, 10.0)
    )
    assert steady - agreement(model, prep, dropped) > 2 * (idle - agreement(model, prep, dropped))


def test_resist_dropout_does_not_change_what_it_was_given(dropout_base):
    model, prep, adata = dropout_base
    weights = copy.deepcopy(model.encoder_.state_dict())
    Z, counts, size = model.embedding_.copy(), adata.X.toarray(), prep.mean_.copy()
    steady = resist_dropout(model, prep, adata, n_steps=10)
    assert steady is not model
    for name, value in model.encoder_.state_dict().items():
        assert torch.equal(weights[name], value)
    assert np.array_equal(model.embedding_, Z)
    assert np.array_equal(adata.X.toarray(), counts)
    assert np.array_equal(prep.mean_, size)
    assert not np.array_equal(steady.embedding_, Z)
    assert steady.get_params() == model.get_params()
    assert np.array_equal(steady.transform(prep.transform(adata)), steady.embedding_)


def test_the_seed_decides_on_the_dropped_copies(dropout_base):
    first, again, other = (
        resist_dropout(*dropout_base, n_steps=20, random_state=seed).embedding_
        for seed in (1, 1, 2)
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("n_components", [1, 3])
def test_resist_dropout_in_any_number_of_dimensions(dropout_base, n_components):
    _, prep, adata = dropout_base
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
def test_bad_options_of_resist_dropout_are_refused(dropout_base, arguments, message):
    with pytest.raises(ValueError, match=message):
        resist_dropout(*dropout_base, **arguments)


def test_resist_dropout_refuses_other_cells_and_objects(dropout_base):
    model, prep, adata = dropout_base
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


def test_held_out_pancreas_cells_resist_dropout(cells):
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


def test_networks_that_were_changed_are_refused(blobs_model):
    model, X = blobs_model
    for change in (lambda net: net.double(), lambda net: net.append(torch.nn.ReLU())):
        changed = copy.deepcopy(model)
        change(changed.encoder_)
        with pytest.raises((TypeError, ValueError), match=r"encoder"):
            robustify(changed, X, n_steps=1)
    other = copy.deepcopy(model)
    other.encoder_ = rpumap.networks.mlp(X.shape[1], (4,), 5)
    with pytest.raises(TypeError, match=f"maps {X.shape[1]} to 5"):
        robustify(other, X, n_steps=1)
    frozen = copy.deepcopy(model)
    frozen.encoder_.requires_grad_(False)
    tuned = robustify(frozen, X, n_steps=2)
    assert np.array_equal(tuned.embedding_, robustify(model, X, n_steps=2).embedding_)
    empty = copy.deepcopy(model)
    empty.embedding_ = np.full_like(model.embedding_, np.nan)
    with pytest.raises(ValueError, match="cells that the model was fitted on"):
        robustify(empty, X, n_steps=1)


@pytest.fixture(scope="module")
def blobs_model():
    X = np.random.default_rng(0).normal(size=(60, 8)).astype(np.float32)
    return rpumap.ParametricUMAP(n_steps=5, random_state=0, hidden_sizes=(8,)).fit(X), X


# --- further cells ---


@pytest.fixture(scope="module")
def known_and_new():
    """Three groups that a model knows, and a fourth that it does not."""
    draw = np.random.default_rng(0)
    centres = 6 * draw.normal(size=(4, 10))
    X = (centres[np.arange(480) // 120] + draw.normal(size=(480, 10))).astype(np.float32)
    known, new = X[:360], X[360:]
    options = {"hidden_sizes": (32, 32), "n_steps": 200, "random_state": 0}
    return rpumap.ParametricUMAP(**options).fit(known), known, new


def drift(model, extended):
    """Median distance by which the old cells moved, in standard deviations of their map."""
    n_old, scale = len(model.embedding_), model.embedding_.std()
    moved = np.linalg.norm(extended.embedding_[:n_old] - model.embedding_, axis=1)
    return np.median(moved) / scale


def test_new_cells_get_a_place_and_the_old_ones_stay(known_and_new):
    model, X, X_new = known_and_new
    both, kinds = np.concatenate([X, X_new]), np.arange(480) // 120
    extended = extend(model, X, X_new, n_steps=300)
    assert drift(model, extended) < 0.1
    assert drift(model, extend(model, X, X_new, n_steps=300, reconstruction=0.0)) > 0.2
    assert trustworthiness(both, extended.embedding_) > trustworthiness(both, model.transform(both))
    assert knn_accuracy(extended.embedding_, kinds) > 0.98
    assert set(extended.history_) - set(model.history_) == {"reconstruction"}


def test_an_extended_model_is_one_of_all_cells(known_and_new):
    model, X, X_new = known_and_new
    both = np.concatenate([X, X_new])
    extended = extend(model, X, X_new, n_steps=10)
    own = rpumap.ParametricUMAP(n_steps=1).fit(both).graph_
    assert (extended.graph_ != own).nnz == 0
    assert extended.embedding_.shape == (480, 2)
    assert np.array_equal(extended.transform(both), extended.embedding_)
    assert extended.get_params() == model.get_params()
    assert robustify(extended, both, n_steps=3).embedding_.shape == (480, 2)
    twice = extend(extended, both, X_new[:7] + np.float32(0.1), n_steps=3)
    assert twice.embedding_.shape == (487, 2)


def test_extend_does_not_change_what_it_was_given(known_and_new):
    model, X, X_new = known_and_new
    weights = copy.deepcopy(model.encoder_.state_dict())
    Z, graph, steps = model.embedding_.copy(), model.graph_.copy(), dict(model.history_)
    first = X.copy()
    extended = extend(model, X, X_new, n_steps=5)
    assert extended is not model
    for name, value in model.encoder_.state_dict().items():
        assert torch.equal(weights[name], value)
    assert np.array_equal(model.embedding_, Z) and (model.graph_ != graph).nnz == 0
    assert np.array_equal(X, first)
    assert all(np.array_equal(model.history_[name], steps[name]) for name in steps)


def test_the_seed_decides_on_an_extension(known_and_new):
    first, again, other = (
        extend(*known_and_new, n_steps=10, random_state=seed).embedding_ for seed in (1, 1, 2)
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_only_old_cells_are_landmarks(known_and_new):
    """The first value of the term is 0: old cells are where they were, new ones do not count."""
    for batch_size in (64, 4096):  # some cells in a step, and all
        model = copy.deepcopy(known_and_new[0]).set_params(batch_size=batch_size)
        extended = extend(model, *known_and_new[1:], n_steps=2)
        assert extended.history_["reconstruction"][0] < 1e-3
        assert extended.history_["reconstruction"][1] > 0


def test_a_few_old_cells_among_many_new_ones(known_and_new):
    _, X, X_new = known_and_new
    few = rpumap.ParametricUMAP(n_neighbors=5, batch_size=64, n_steps=20, random_state=0).fit(X[:9])
    extended = extend(few, X[:9], np.concatenate([X[9:], X_new]), n_steps=200)
    assert np.isfinite(extended.history_["loss"]).all()
    assert drift(few, extended) < 0.5


def test_one_new_cell(known_and_new):
    model, X, X_new = known_and_new
    assert extend(model, X, X_new[:1], n_steps=3).embedding_.shape == (361, 2)


def test_a_graph_for_an_extension(known_and_new):
    _, X, X_new = known_and_new
    both = np.concatenate([X, X_new])
    graph = rpumap.ParametricUMAP(n_steps=1).fit(both).graph_
    options = {"hidden_sizes": (16,), "n_steps": 20, "random_state": 0}
    plain = rpumap.ParametricUMAP(**options).fit(X)
    given = rpumap.ParametricUMAP(**options).fit(X, graph=plain.graph_)
    pair = rpumap.ParametricUMAP(neighbors=nearest_neighbors(X), **options).fit(X)
    wanted = extend(plain, X, X_new, n_steps=5)
    assert not wanted.graph_is_given_
    for model in (plain, given, pair):
        extended = extend(model, X, X_new, graph=graph, n_steps=5)
        assert np.array_equal(extended.embedding_, wanted.embedding_)
        assert extended.graph_is_given_
    for model in (given, pair):
        with pytest.raises(ValueError, match="pass graph, of the cells of X and X_new together"):
            extend(model, X, X_new)
    with pytest.raises(ValueError, match=r"graph has shape \(360, 360\): \(480, 480\)"):
        extend(plain, X, X_new, graph=plain.graph_)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"reconstruction": -1}, "reconstruction must be"),
        ({"n_steps": 0}, "n_steps must be an integer of at least 1, got 0"),
        ({"learning_rate": 0}, "learning_rate must be above 0"),
    ],
)
def test_bad_options_of_extend_are_refused(known_and_new, arguments, message):
    with pytest.raises(ValueError, match=message):
        extend(*known_and_new, **arguments)


def test_extend_refuses_other_cells_and_objects(known_and_new):
    model, X, X_new = known_and_new
    for wrong in (X[:100], X[::-1], X_new):
        with pytest.raises(ValueError, match="must be the cells that the model was fitted on"):
            extend(model, wrong, X_new)
    with pytest.raises(ValueError, match="10 features"):
        extend(model, X, X_new[:, :5])
    with pytest.raises(ValueError, match="0 sample"):
        extend(model, X, X_new[:0])
    with pytest.raises(NotFittedError):
        extend(rpumap.ParametricUMAP(), X, X_new)
    with pytest.raises(TypeError, match="fitted ParametricUMAP"):
        extend(model.encoder_, X, X_new)


def test_a_type_of_the_pancreas_that_was_left_out_gets_its_place(cells):
    """What is measured at length by tests/benchmarks/study_landmarks.py."""
    is_new = (cells.labels == "Beta").to_numpy()
    X, X_new = cells.X[~is_new], cells.X[is_new]
    both = np.concatenate([X, X_new])
    model = rpumap.ParametricUMAP(random_state=0).fit(X)
    extended = extend(model, X, X_new)
    anew = rpumap.ParametricUMAP(random_state=0).fit(both)
    assert drift(model, extended) < 0.05
    mapped, scratch, found = (
        trustworthiness(X_new, Z[-len(X_new) :])
        for Z in (model.transform(both), anew.embedding_, extended.embedding_)
    )
    assert found > scratch - 0.01 and found > mapped + 0.02


def test_a_model_of_a_given_graph_resists_dropout(dropout_base):
    _, prep, adata = dropout_base
    X = prep.transform(adata)
    graph = rpumap.ParametricUMAP(n_steps=1).fit(X[:, :10]).graph_
    model = rpumap.ParametricUMAP(hidden_sizes=(16,), n_steps=20, random_state=0)
    model.fit(X, graph=graph)
    steady = resist_dropout(robustify(model, X, n_steps=5), prep, adata, n_steps=5)
    assert (steady.graph_ != graph).nnz == 0
