"""ParametricUMAP as scikit-learn and a user see it."""

from __future__ import annotations

import copy
import inspect
import pickle
import re
import subprocess
import sys
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
import sklearn
import torch
from anndata import AnnData
from scipy.sparse import coo_matrix, csr_array, csr_matrix, lil_matrix
from sklearn.base import clone
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.estimator_checks import parametrize_with_checks

from examples import default_device_meta
from rpumap import ParametricUMAP, Preprocessor, certify, robustify
from rpumap.graph import nearest_neighbors
from rpumap.metrics import knn_accuracy, trustworthiness
from rpumap.training import train


@parametrize_with_checks([ParametricUMAP(n_steps=5, batch_size=64)])
@pytest.mark.filterwarnings("ignore:n_neighbors=15 is more than")
@pytest.mark.filterwarnings("ignore:.*identical to all")
def test_scikit_learn_conventions(estimator, check):
    check(estimator)


@pytest.fixture(scope="module")
def X():
    draw = np.random.default_rng(0)
    centres = 5 * draw.normal(size=(4, 12))
    return (centres[np.arange(400) % 4] + draw.normal(size=(400, 12))).astype(np.float32)


@pytest.fixture(scope="module")
def model(X):
    return ParametricUMAP(n_steps=150, random_state=0).fit(X)


def quick(**options) -> ParametricUMAP:
    return ParametricUMAP(**({"n_steps": 5, "random_state": 0} | options))


def test_fitted_attributes(X, model):
    assert model.embedding_.shape == (400, 2)
    assert model.embedding_.dtype == np.float32
    assert model.graph_.shape == (400, 400)
    assert len(model.history_["loss"]) == 150
    assert isinstance(model.encoder_, torch.nn.Sequential)
    assert list(model.get_feature_names_out()) == ["parametricumap0", "parametricumap1"]


def test_defaults_are_those_of_the_training_function():
    own = inspect.signature(ParametricUMAP).parameters
    shared = [p for p in inspect.signature(train).parameters.values() if p.name in own]
    assert {"learning_rate", "weight_decay", "n_steps", "batch_size"} <= {p.name for p in shared}
    assert all(p.default == own[p.name].default for p in shared)


def test_more_cells_take_more_steps():
    draw = np.random.default_rng(0)
    for n_cells, n_steps in ((300, 500), (12_000, 707)):
        X = draw.normal(size=(n_cells, 2))
        model = ParametricUMAP(hidden_sizes=(2,), batch_size=32, n_neighbors=3, random_state=0)
        assert len(model.fit(X).history_["loss"]) == n_steps


def test_groups_stay_apart(X, model):
    assert knn_accuracy(model.embedding_, np.arange(400) % 4) == 1


def test_transform_repeats_the_embedding_and_does_not_depend_on_company(X, model):
    np.testing.assert_array_equal(model.transform(X), model.embedding_)
    np.testing.assert_array_equal(model.transform(X[17:18]), model.embedding_[17:18])
    np.testing.assert_array_equal(model.transform(X[::-1]), model.embedding_[::-1])


def test_unseen_cells_land_with_their_group(X):
    model = quick(n_steps=150).fit(X[:300])
    Z = np.vstack([model.embedding_, model.transform(X[300:])])
    assert knn_accuracy(Z, np.arange(400) % 4) == 1


def test_same_seed_same_bits(X):
    first, second = quick(n_steps=20).fit(X), quick(n_steps=20).fit(X)
    np.testing.assert_array_equal(first.embedding_, second.embedding_)
    np.testing.assert_array_equal(first.history_["loss"], second.history_["loss"])
    other = quick(n_steps=20, random_state=1).fit(X)
    assert not np.allclose(first.embedding_, other.embedding_)


def test_same_seed_same_bits_in_another_process():
    code = (
        "import numpy as np, hashlib, rpumap; X = np.random.default_rng(0).normal(size=(99, 9));"
        "m = rpumap.ParametricUMAP(n_steps=30, batch_size=64, random_state=3).fit(X);"
        "print(hashlib.sha256(m.embedding_.tobytes()).hexdigest())"
    )
    runs = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        for _ in range(2)
    ]
    assert runs[0].stdout == runs[1].stdout
    assert len(runs[0].stdout.strip()) == 64


def test_sparse_and_double_precision_input_give_the_same_map(X, model):
    sparse = ParametricUMAP(n_steps=150, random_state=0).fit(csr_matrix(X))
    np.testing.assert_array_equal(sparse.embedding_, model.embedding_)
    np.testing.assert_array_equal(sparse.transform(csr_matrix(X)), model.embedding_)
    double = ParametricUMAP(n_steps=150, random_state=0).fit(X.astype(np.float64))
    np.testing.assert_array_equal(double.embedding_, model.embedding_)


def test_precomputed_neighbours_give_the_same_map(X, model):
    neighbors = nearest_neighbors(X, 20)
    given = ParametricUMAP(n_steps=150, random_state=0, neighbors=neighbors).fit(X)
    np.testing.assert_array_equal(given.embedding_, model.embedding_)


@pytest.mark.parametrize("n_components", [1, 3])
def test_other_dimensions(X, n_components):
    assert quick(n_components=n_components).fit_transform(X).shape == (400, n_components)


def test_pickle_copy_and_clone(X, model):
    for twin in (pickle.loads(pickle.dumps(model)), copy.deepcopy(model)):
        np.testing.assert_array_equal(twin.transform(X), model.embedding_)
    assert not hasattr(clone(model), "encoder_")
    assert clone(model).get_params() == model.get_params()


def test_callback_stops_the_fit(X):
    model = quick(n_steps=50, callbacks=[lambda step, loss, encoder: step == 9]).fit(X)
    assert len(model.history_["loss"]) == 10


def test_interrupt_returns_a_usable_model(X):
    def interrupt(step, loss, encoder):
        if step == 3:
            raise KeyboardInterrupt

    with pytest.warns(UserWarning, match="the model so far is kept"):
        model = quick(n_steps=50, callbacks=[interrupt]).fit(X)
    assert np.isfinite(model.transform(X)).all()


def test_constant_and_duplicated_cells(X):
    flat = X.copy()
    flat[:, 3:] = 1.0
    assert np.isfinite(quick().fit_transform(flat)).all()
    with pytest.warns(UserWarning, match="identical to all"):
        Z = quick(n_steps=30).fit_transform(np.repeat(X[:20], 20, axis=0))
    assert np.isfinite(Z).all()
    np.testing.assert_array_equal(Z[0], Z[1])
    with pytest.warns(UserWarning, match="identical to all"):
        assert np.isfinite(quick().fit_transform(np.ones((50, 4)))).all()


def test_few_cells_lower_the_number_of_neighbours(X):
    with pytest.warns(UserWarning, match="6 are used"):
        assert quick().fit_transform(X[:6]).shape == (6, 2)
    with pytest.warns(UserWarning, match="2 are used"):
        assert np.isfinite(quick().fit_transform(X[:2])).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda X: X[:1], "minimum of 2"),
        (lambda X: X[:0], "0 sample"),
        (lambda X: X[:, :0], "0 feature"),
        (lambda X: X[:, 0], "1D array|2D array"),
        (lambda X: np.where(X > 3, np.nan, X), "NaN"),
        (lambda X: np.where(X > 3, np.inf, X), "infinity"),
        (lambda X: X.astype(np.float64) * 1e300, "too large"),
    ],
)
def test_bad_cells_at_fit(X, change, message):
    with pytest.raises(ValueError, match=message), np.errstate(over="ignore", invalid="ignore"):
        quick().fit(change(X))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda X: X[:, :5], "5 features"),
        (lambda X: X[:0], "0 sample"),
        (lambda X: np.where(X > 3, np.nan, X), "NaN"),
    ],
)
def test_bad_cells_at_transform(X, model, change, message):
    with pytest.raises(ValueError, match=message):
        model.transform(change(X))


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"n_components": 0}, "n_components"),
        ({"n_neighbors": 1}, "n_neighbors"),
        ({"n_steps": 2.5}, "n_steps"),
        ({"batch_size": 4}, "batch_size=4 must exceed"),
        ({"learning_rate": -1}, "learning_rate"),
        ({"weight_decay": -1}, "weight_decay"),
        ({"repulsion_strength": np.nan}, "repulsion_strength"),
        ({"weighting": "p"}, "weighting"),
        ({"min_dist": 9.0}, "min_dist"),
        ({"hidden_sizes": (0,)}, "hidden_sizes"),
        ({"hidden_sizes": 64}, "hidden_sizes"),
        ({"hidden_sizes": "64"}, "hidden_sizes"),
        ({"hidden_sizes": None}, "hidden_sizes"),
        ({"n_neighbors": "5"}, "n_neighbors must be an integer"),
        ({"n_neighbors": True}, "n_neighbors must be an integer"),
        ({"n_components": 2.0}, "n_components must be an integer"),
        ({"n_components": "2"}, "n_components must be an integer"),
        ({"batch_size": 1e3}, "batch_size must be an integer"),
        ({"negative_sample_rate": 2.5}, "negative_sample_rate must be an integer"),
        ({"min_dist": None}, "min_dist must be a finite number"),
        ({"min_dist": "0.01"}, "min_dist must be a finite number"),
        ({"spread": np.nan}, "spread must be a finite number"),
        ({"spread": 0}, "spread must be above 0"),
        ({"learning_rate": "0.01"}, "learning_rate must be a finite number"),
        ({"repulsion_strength": None}, "repulsion_strength must be a finite number"),
        ({"verbose": None}, "verbose must be True or False"),
        ({"callbacks": None}, "callbacks must be a sequence of functions"),
        ({"callbacks": print}, "callbacks must be a sequence of functions"),
        ({"metric": "euclidian"}, "metric='euclidian' is unknown"),
        ({"metric": "precomputed"}, "neighbors=.indices, distances."),
        ({"metric": None}, "metric must be the name of a distance"),
        ({"neighbors": None}, "pair of arrays"),
        ({"random_state": "0"}, "seed"),
        ({"neighbors": "faiss"}, "neighbors='faiss'"),
        ({"device": "abacus"}, "device='abacus'"),
    ],
)
def test_bad_parameters(X, option, message):
    with pytest.raises(ValueError, match=message):
        quick(**option).fit(X)


@pytest.mark.parametrize("option", [{"n_steps": np.int64(5)}, {"min_dist": np.float32(0.1)}])
def test_numbers_of_numpy_are_numbers(X, option):
    assert quick(**option).fit(X).embedding_.shape == (400, 2)


def test_a_fit_that_fails_leaves_the_earlier_one(X):
    model = quick().fit(X)
    Z, graph = model.embedding_, model.graph_
    model.set_params(learning_rate=1e39)
    with pytest.raises(FloatingPointError):
        model.fit(2 * X)
    assert model.embedding_ is Z
    assert model.graph_ is graph
    np.testing.assert_array_equal(model.transform(X), Z)


def test_an_anndata_is_refused_at_once(X, model):
    table = AnnData(X)
    for call in (quick().fit, quick().fit_transform, model.transform):
        with pytest.raises(TypeError, match="not AnnData: .* Preprocessor"):
            call(table)


@pytest.mark.parametrize(
    "convert",
    [
        torch.tensor,
        lambda X: torch.tensor(X).double(),
        lambda X: torch.tensor(X).T.contiguous().T,
        lambda X: torch.tensor(X).to_sparse_csr(),
        lambda X: X.astype(">f4"),
        np.asfortranarray,
        coo_matrix,
        lil_matrix,
        csr_array,
        lambda X: X.tolist(),
        lambda X: pd.DataFrame(X),
    ],
)
def test_tensors_and_tables_of_many_kinds_are_embedded_alike(X, model, convert):
    np.testing.assert_array_equal(model.transform(convert(X)), model.embedding_)


def test_a_tensor_that_cannot_be_read_says_what_to_do(X, model):
    with pytest.raises(TypeError, match="detach"):
        model.transform(torch.tensor(X).requires_grad_())
    half = torch.tensor(X).bfloat16()
    np.testing.assert_array_equal(model.transform(half), model.transform(half.float()))


def test_a_read_only_array_is_taken_without_a_warning(X):
    fixed = X.copy()
    fixed.setflags(write=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        quick().fit(fixed).transform(fixed)


class Log:
    """A callback that cannot be copied."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.n_calls = 0

    def __call__(self, step, loss, encoder) -> None:
        self.n_calls += 1


@pytest.mark.parametrize("callbacks", [[Log()], [lambda step, loss, encoder: None]])
def test_a_model_is_saved_and_copied_without_its_callbacks(X, callbacks):
    model = quick(callbacks=callbacks).fit(X)
    for twin in (pickle.loads(pickle.dumps(model)), copy.deepcopy(model)):
        assert twin.callbacks == ()
        np.testing.assert_array_equal(twin.transform(X), model.embedding_)
    fresh = clone(model)
    assert fresh.callbacks is callbacks
    assert not hasattr(fresh, "encoder_")


@pytest.mark.parametrize("how", ["config", "set_output"])
def test_pandas_output(X, model, how):
    with sklearn.config_context(**({"transform_output": "pandas"} if how == "config" else {})):
        twin = ParametricUMAP(n_steps=150, random_state=0)
        if how == "set_output":
            twin.set_output(transform="pandas")
        frame = twin.fit_transform(
            pd.DataFrame(X, index=[f"c{i}" for i in range(400)]).add_prefix("g")
        )
    assert list(frame.columns) == ["parametricumap0", "parametricumap1"]
    assert frame.index[0] == "c0"
    assert type(twin.embedding_) is np.ndarray
    np.testing.assert_array_equal(twin.embedding_, model.embedding_)


def test_workers_forked_after_a_fit_answer(X):
    code = """
import multiprocessing, sys
import numpy as np, torch
torch.set_num_threads(2)
import rpumap
X = np.random.default_rng(0).normal(size=(2000, 60)).astype("float32")
(torch.ones(2000, 2000) @ torch.ones(2000, 2000)).sum()  # the user's own work, on two threads
model = rpumap.ParametricUMAP(n_steps=20, random_state=0).fit(X)
pool = multiprocessing.get_context("fork").Pool(2)
found = np.vstack(pool.map_async(model.transform, [X[:1000], X[1000:]]).get(timeout=60))
pool.terminate()
assert np.array_equal(found, model.embedding_)
assert torch.get_num_threads() == 2
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr


def test_two_fits_at_once_give_the_bits_of_one_and_leave_the_threads_alone(X):
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    counts = []

    def fit(seed: int) -> np.ndarray:
        Z = quick(n_steps=100, random_state=seed).fit(X).embedding_
        counts.append(torch.get_num_threads())
        return Z

    try:
        with ThreadPoolExecutor(2) as pool:
            both = list(pool.map(fit, [0, 1, 0, 1]))
        counts.append(torch.get_num_threads())
        with ThreadPoolExecutor(1) as pool:
            counts.append(pool.submit(torch.get_num_threads).result())
    finally:
        torch.set_num_threads(before)
    assert counts == [2] * 6
    for Z, seed in zip(both, [0, 1, 0, 1], strict=True):
        np.testing.assert_array_equal(Z, quick(n_steps=100, random_state=seed).fit(X).embedding_)


@pytest.mark.parametrize("metric", ["cosine", "correlation", "braycurtis", "jaccard"])
def test_cells_without_direction_are_embedded_or_named(X, metric):
    flat = np.abs(X)
    flat[:3], flat[5] = 0, 1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            assert np.isfinite(quick(metric=metric).fit_transform(flat)).all()
        except ValueError as error:
            assert re.search(
                "is not defined for .* cells, the first of which is cell 0", str(error)
            )


def test_quality_on_the_book_cells(cells):
    """Near umap-learn's own scores for the same cells; the exact comparison is in chapter 3."""
    model = ParametricUMAP(n_steps=400, random_state=0).fit(cells.X)
    assert trustworthiness(cells.X, model.embedding_) > trust_floor(cells)
    assert knn_accuracy(model.embedding_, cells.labels) > 0.8


def test_default_training_generalises_to_cells_held_out(cells):
    """With the paper's rate of 0.001 the score is 0.76 here, of real and of simulated cells."""
    is_new = np.arange(cells.adata.n_obs) % 5 == 0
    prep = Preprocessor(n_top_genes=300).fit(cells.adata[~is_new])
    model = ParametricUMAP(random_state=0).fit(prep.transform(cells.adata[~is_new]))
    guess = KNeighborsClassifier(15).fit(model.embedding_, cells.labels[~is_new])
    Z_new = model.transform(prep.transform(cells.adata[is_new]))
    assert guess.score(Z_new, cells.labels[is_new]) > 0.79


def trust_floor(cells) -> float:
    """Score of the best linear map, which the network must beat clearly."""
    from sklearn.decomposition import PCA

    return trustworthiness(cells.X, PCA(2, random_state=0).fit_transform(cells.X)) + 0.03


@pytest.mark.parametrize(
    "around",
    [
        torch.no_grad,
        torch.inference_mode,
        lambda: torch.autocast("cpu", torch.bfloat16),
        default_device_meta,
    ],
)
def test_modes_of_pytorch_around_the_calls_change_no_bit(around):
    X = np.random.default_rng(0).normal(size=(60, 8)).astype(np.float32)

    def everything() -> list[np.ndarray]:
        model = ParametricUMAP(n_steps=5, random_state=0, hidden_sizes=(8,)).fit(X)
        robust = robustify(model, X, n_steps=3)
        bounds = certify(model, X, 0.1)
        return [model.embedding_, model.transform(X), robust.embedding_, *bounds]

    wanted = everything()
    with around():
        found = everything()
    assert all(np.array_equal(a, b) for a, b in zip(wanted, found, strict=True))


def test_the_default_number_type_of_pytorch_does_not_matter():
    X = np.random.default_rng(0).normal(size=(60, 8)).astype(np.float32)
    wanted = ParametricUMAP(n_steps=5, random_state=0).fit(X).embedding_
    torch.set_default_dtype(torch.float64)
    try:
        found = ParametricUMAP(n_steps=5, random_state=0).fit(X).embedding_
    finally:
        torch.set_default_dtype(torch.float32)
    assert np.array_equal(found, wanted)


def test_coordinates_that_overflow_are_no_map_and_the_earlier_one_is_kept():
    X = np.random.default_rng(0).normal(size=(60, 8)).astype(np.float32)
    model = ParametricUMAP(n_steps=1, random_state=0).fit(X)
    before, encoder = model.embedding_, model.encoder_
    with pytest.raises(FloatingPointError, match="coordinates are not finite|weights|loss"):
        model.set_params(learning_rate=1e37).fit(X)
    assert model.embedding_ is before
    assert model.encoder_ is encoder


def test_callbacks_that_are_no_functions_are_refused():
    with pytest.raises(ValueError, match="callbacks must be a sequence of functions"):
        ParametricUMAP(callbacks=[3]).fit(np.eye(20))


# --- a graph that was given ---------------------------------------------------------------------


def test_the_own_graph_gives_the_same_bits(X, model):
    graph = model.graph_.copy()
    given = ParametricUMAP(n_steps=150, random_state=0).fit(X, graph=graph)
    assert np.array_equal(given.embedding_, model.embedding_)
    assert (given.graph_ != graph).nnz == 0
    assert given.graph_is_given_ and not model.graph_is_given_
    Z = ParametricUMAP(n_steps=150, random_state=0).fit_transform(X, graph=graph)
    assert np.array_equal(Z, model.embedding_)


def test_no_neighbours_are_searched_for_a_given_graph(X, model, monkeypatch):
    def search(*_):
        raise AssertionError("searched")

    monkeypatch.setattr("rpumap.estimator.nearest_neighbors", search)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # nor does it matter that n_neighbors is large
        quick(n_neighbors=1000, metric="unheard of").fit(X, graph=model.graph_)
    with pytest.raises(AssertionError, match="searched"):
        quick().fit(X)


def test_the_neighbourhoods_of_a_given_graph_are_kept(X):
    draw = np.random.default_rng(1)
    other = 5 * draw.normal(size=(4, 6))[np.arange(400) // 100]
    both = np.hstack([X, other + draw.normal(size=(400, 6))]).astype(np.float32)
    kinds = {"left": np.arange(400) % 4, "right": np.arange(400) // 100}
    parts = {"left": both[:, :12], "right": both[:, 12:]}
    for side, other_side in (("left", "right"), ("right", "left")):
        graph = ParametricUMAP(n_steps=1).fit(parts[side]).graph_
        Z = ParametricUMAP(n_steps=200, random_state=0).fit(both, graph=graph).embedding_
        assert knn_accuracy(Z, kinds[side]) > 0.95
        assert knn_accuracy(Z, kinds[other_side]) < 0.7


def test_a_graph_of_other_cells_is_refused(X, model):
    with pytest.raises(ValueError, match=r"graph has shape \(400, 400\): \(399, 399\) is needed"):
        quick().fit(X[1:], graph=model.graph_)
    with pytest.raises(ValueError, match=r"pass obsp\['connectivities'\]"):
        quick().fit(X, graph=50 * model.graph_)
    with pytest.raises(ValueError, match="not both"):
        quick(neighbors=nearest_neighbors(X)).fit(X, graph=model.graph_)


def test_a_cell_without_edges_is_placed_by_the_network(X, model):
    graph = model.graph_.tolil()
    graph[7], graph[:, 7] = 0, 0
    with pytest.warns(UserWarning, match="1 cells have no edge") as caught:
        alone = ParametricUMAP(n_steps=150, random_state=0).fit(X, graph=graph)
    assert caught[0].filename == __file__
    middle = alone.embedding_[np.arange(400) % 4 == 3].mean(axis=0)
    assert np.linalg.norm(alone.embedding_[7] - middle) < alone.embedding_.std()


def test_a_model_of_a_given_graph_is_trained_further_and_cloned(X):
    graph = ParametricUMAP(n_steps=1).fit(X).graph_
    given = quick(n_steps=50).fit(X, graph=graph)
    robust = robustify(given, X, n_steps=5)
    assert (robust.graph_ != given.graph_).nnz == 0 and robust.graph_is_given_
    assert not hasattr(clone(given), "graph_is_given_")


def test_a_pipeline_passes_a_graph_on(X, model):
    pipeline = make_pipeline(FunctionTransformer(), quick())
    Z = pipeline.fit_transform(X, parametricumap__graph=model.graph_)
    assert np.array_equal(Z, quick().fit(X).embedding_)
