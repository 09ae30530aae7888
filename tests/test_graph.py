"""The fuzzy graph, against umap-learn and its own properties."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.sparse import bsr_array, coo_array, csc_matrix, csr_array, csr_matrix, lil_matrix
from sklearn.neighbors import NearestNeighbors

from rpumap import graph
from rpumap.graph import (
    check_graph,
    check_neighbors,
    fuzzy_graph,
    membership_strengths,
    nearest_neighbors,
    smooth_knn_dist,
    symmetrize,
)


def umap_graph(X, indices, distances):
    from umap.umap_ import fuzzy_simplicial_set

    return fuzzy_simplicial_set(
        X,
        n_neighbors=indices.shape[1],
        random_state=np.random.RandomState(0),
        metric="euclidean",
        knn_indices=indices,
        knn_dists=distances,
    )


@pytest.fixture(scope="module")
def cloud():
    return np.random.default_rng(0).normal(size=(300, 8)).astype(np.float32)


@pytest.mark.parametrize("n_neighbors", [2, 5, 15, 40])
def test_graph_equals_umap_learn(cloud, n_neighbors):
    indices, distances = nearest_neighbors(cloud, n_neighbors)
    expected, sigma, rho = umap_graph(cloud, indices, distances)
    own_rho, own_sigma = smooth_knn_dist(distances)
    np.testing.assert_allclose(own_rho, rho, rtol=1e-5)
    np.testing.assert_allclose(own_sigma, sigma, rtol=1e-5)
    difference = fuzzy_graph(indices, distances) - expected
    assert abs(difference).max() < 1e-5


def test_graph_equals_umap_learn_on_the_book_cells(cells):
    indices, distances = nearest_neighbors(cells.X, 15)
    expected, sigma, rho = umap_graph(cells.X, indices, distances)
    own_rho, own_sigma = smooth_knn_dist(distances)
    np.testing.assert_allclose(own_rho, rho, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(own_sigma, sigma, rtol=1e-5, atol=1e-5)
    difference = fuzzy_graph(indices, distances) - expected
    assert abs(difference).max() < 1e-5


def test_graph_with_duplicates_equals_umap_learn(cloud):
    X = np.vstack([cloud[:40], cloud[:3], cloud[:3]])
    indices, distances = nearest_neighbors(X, 6)
    expected, sigma, rho = umap_graph(X, indices, distances)
    own_rho, own_sigma = smooth_knn_dist(distances)
    np.testing.assert_allclose(own_rho, rho, rtol=1e-5)
    np.testing.assert_allclose(own_sigma, sigma, rtol=1e-5)
    assert abs(fuzzy_graph(indices, distances) - expected).max() < 1e-5


def test_loop_over_cells_agrees_with_the_vectorised_bisection(cloud):
    """The slow reference: one cell at a time, root found by scipy."""
    from scipy.optimize import brentq

    _, distances = nearest_neighbors(cloud, 15)
    rho, sigma = smooth_knn_dist(distances)
    for row in range(0, len(cloud), 17):
        gap = np.maximum(distances[row, 1:] - rho[row], 0).astype(float)
        root = brentq(lambda s, gap=gap: np.exp(-gap / s).sum() - np.log2(15), 1e-6, 1e6)
        assert sigma[row] == pytest.approx(root, rel=1e-4)


def test_neighbours_by_both_methods():
    X = np.random.default_rng(1).normal(size=(400, 6)).astype(np.float32)
    exact, distances = nearest_neighbors(X, 10, method="exact")
    approximate, _ = nearest_neighbors(X, 10, method="nndescent", random_state=0)
    hits = [len(np.intersect1d(a, b)) for a, b in zip(exact, approximate, strict=True)]
    assert np.mean(hits) > 9.8
    assert np.array_equal(exact[:, 0], np.arange(400))
    every = np.linalg.norm(X[:, None].astype(float) - X[None], axis=2)
    np.testing.assert_allclose(distances, np.sort(every, axis=1)[:, :10], atol=1e-3)


def all_distances(X):
    X = np.asarray(X, dtype=np.float64)
    return np.linalg.norm(X[:, None] - X[None], axis=2)


def spread(seed=0, shape=(400, 10)):
    return np.random.default_rng(seed).normal(size=shape)


TABLES = {
    "double": spread(),
    "half": spread().astype(np.float16),
    "counts": np.random.default_rng(0).integers(0, 1000, (400, 10)),
    "bytes": np.random.default_rng(0).integers(-9, 9, (400, 10)).astype(np.int8),
    "columns first": np.asfortranarray(spread()),
    "every second": spread()[::2, ::2],
    "one gene": spread()[:, :1],
    "far from the origin": (spread() + 1e4).astype(np.float32),
    "a large gene": np.column_stack([spread(), 1e4 * spread(1, (400, 1))]).astype(np.float32),
    "an outlier": np.vstack([spread(), np.full((1, 10), 1e6)]).astype(np.float32),
    "two far groups": (spread() + 1e4 * np.sign(spread(1, (400, 1)))).astype(np.float32),
    "small": (1e-15 * spread()).astype(np.float32),
    "large": (1e15 * spread()).astype(np.float32),
    "half of them copies": np.vstack([spread(), np.tile(spread(1, (1, 10)), (400, 1))]),
    "all the same": np.ones((300, 3)),
}


@pytest.mark.parametrize("name", TABLES)
def test_exact_search_against_all_distances(name):
    X = TABLES[name]
    every = all_distances(X)
    indices, distances = nearest_neighbors(X, 15, method="exact")
    wanted = np.sort(every, axis=1)[:, :15]
    np.testing.assert_allclose(distances, wanted, rtol=2e-7, atol=1e-7 * wanted.max())
    np.testing.assert_allclose(distances, np.take_along_axis(every, indices, axis=1), rtol=2e-7)
    assert all(len(set(row)) == 15 for row in indices)


@pytest.mark.parametrize("name", TABLES)
def test_distances_of_the_inverted_file_are_those_of_the_pairs(name):
    X = TABLES[name]
    indices, distances = nearest_neighbors(X, 15, method="ivf")
    pairs = np.take_along_axis(all_distances(X), indices, axis=1)
    np.testing.assert_allclose(distances, pairs, rtol=2e-7)
    assert np.array_equal(indices[:, 0], np.arange(len(X)))
    assert (np.diff(distances, axis=1) >= 0).all()
    assert all(len(set(row)) == 15 for row in indices)


def recall(found, true):
    return np.mean([np.isin(a, b).mean() for a, b in zip(true, found, strict=True)])


def programmes(n_cells, n_genes=100):
    """Six types of cells, programmes of genes, and as much noise."""
    draw = np.random.default_rng(0)
    types = 2 * draw.normal(size=(6, n_genes))[draw.integers(6, size=n_cells)]
    common = draw.normal(size=(n_cells, 8)) @ draw.normal(size=(8, n_genes)) / 2
    return (types + common + draw.normal(size=(n_cells, n_genes))).astype(np.float32)


def sparse_and_dense(n_cells):
    """A group whose cells lie a hundred times as close as those around it."""
    draw = np.random.default_rng(0)
    width = np.where(draw.random((n_cells, 1)) < 0.7, 0.01, 1)
    return (width * draw.normal(size=(n_cells, 12))).astype(np.float32)


@pytest.mark.parametrize(
    "X",
    [programmes(7000), spread(shape=(5000, 40)), spread(shape=(5000, 2)), sparse_and_dense(6000)],
    ids=["programmes", "noise", "plane", "sparse and dense"],
)
def test_recall_of_the_inverted_file(X, monkeypatch):
    true, _ = nearest_neighbors(X, 15, method="exact")
    found, _ = nearest_neighbors(X, 15, method="ivf")
    assert recall(found, true) > 0.96
    monkeypatch.setattr(graph, "RECALL", 0.8)
    fewer, _ = nearest_neighbors(X, 15, method="ivf")
    assert 0.75 < recall(fewer, true) <= recall(found, true)


def test_recall_on_the_book_cells(cells):
    true, _ = nearest_neighbors(cells.X, 15, method="exact")
    found, _ = nearest_neighbors(cells.X, 15, method="ivf")
    assert recall(found, true) > 0.96


@pytest.mark.parametrize("n_cells", [2, 3, 15, 99, 100, 101, 257])
@pytest.mark.parametrize("method", ["exact", "ivf"])
def test_few_cells(n_cells, method):
    X = np.random.default_rng(n_cells).normal(size=(n_cells, 4))
    wanted = np.sort(all_distances(X), axis=1)
    for k in (2, n_cells):
        _, distances = nearest_neighbors(X, k, method=method)
        close = np.isclose(distances, wanted[:, :k], atol=1e-6)
        assert close.mean() > (0.95 if method == "ivf" else 1 - 1e-9)


def test_the_number_of_threads_does_not_change_the_neighbours():
    code = (
        "import hashlib, numpy as np; from rpumap.graph import nearest_neighbors\n"
        "draw = np.random.default_rng(0)\n"
        "X = (draw.normal(size=(3000, 9)) @ draw.normal(size=(9, 60))).astype(np.float32)\n"
        "X[::7] = X[3]\n"
        "for method in ('exact', 'ivf'):\n"
        "    for array in nearest_neighbors(X, 15, method=method):\n"
        "        print(hashlib.sha256(array.tobytes()).hexdigest())"
    )
    found = [
        subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | {"OMP_NUM_THREADS": n_threads, "OPENBLAS_NUM_THREADS": n_threads},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for n_threads in ("1", "2", "2")
    ]
    assert found[0] == found[1] == found[2]
    assert len(set(found[0].split())) == 4


def test_the_method_is_chosen_by_size_and_distance(monkeypatch):
    X = programmes(1500)
    chosen = []
    stub = nearest_neighbors(X, 5)
    monkeypatch.setattr(graph, "_by_products", lambda X, k, method: chosen.append(method) or stub)
    monkeypatch.setattr(graph, "_by_sklearn", lambda *_: chosen.append("sklearn") or stub)
    monkeypatch.setattr(graph, "_nndescent", lambda *_: chosen.append("nndescent") or stub)
    for limit in (graph.EXACT_LIMIT, 0):
        monkeypatch.setattr(graph, "EXACT_LIMIT", limit)
        monkeypatch.setattr(graph, "OTHER_EXACT_LIMIT", limit)
        for metric in ("euclidean", "manhattan"):
            nearest_neighbors(X, 5, metric)
    assert chosen == ["exact", "sklearn", "ivf", "nndescent"]


def test_a_cell_is_first_in_its_own_row_even_among_copies():
    X = np.repeat(np.random.default_rng(0).normal(size=(5, 3)), 7, axis=0)
    indices, distances = nearest_neighbors(X, 4)
    assert np.array_equal(indices[:, 0], np.arange(35))
    assert not distances.any()
    assert all(len(set(row)) == 4 for row in indices)
    with pytest.warns(UserWarning, match="identical to all"):
        graph = fuzzy_graph(indices, distances)
    assert np.isfinite(graph.data).all()


distance_tables = arrays(
    np.float32,
    st.tuples(st.integers(2, 8), st.integers(2, 8)),
    elements=st.floats(0, 1e4, width=32),
).map(lambda table: np.column_stack([np.zeros(len(table)), np.sort(table, axis=1)]))


@settings(max_examples=200, deadline=None)
@given(distance_tables)
def test_sigma_solves_its_equation_or_stands_at_the_floor(distances):
    rho, sigma = smooth_knn_dist(distances)
    gap = np.maximum(distances[:, 1:] - rho[:, None], 0)
    assert (sigma > 0).all()
    total = np.exp(-gap / sigma[:, None]).sum(axis=1)
    mean = np.where(rho > 0, distances.mean(axis=1), distances.mean())
    solved = np.abs(total - np.log2(distances.shape[1])) < 1e-3
    at_floor = np.isclose(sigma, 1e-3 * mean, rtol=1e-3)
    # with too many neighbours at rho the sum exceeds the target for every sigma
    crowded = (gap == 0).sum(axis=1) >= np.log2(distances.shape[1])
    assert (solved | at_floor | crowded).all()


@settings(max_examples=100, deadline=None)
@given(arrays(np.float32, (6, 6), elements=st.floats(0, 1, width=32)))
def test_symmetrised_strengths_stay_between_the_larger_and_one(directed):
    graph = symmetrize(csr_matrix(directed)).toarray()
    assert np.array_equal(graph, graph.T)
    assert (graph >= np.maximum(directed, directed.T) - 1e-6).all()
    assert (graph <= 1 + 1e-6).all()


def test_nearest_neighbour_has_strength_one(cloud):
    indices, distances = nearest_neighbors(cloud, 15)
    strengths = membership_strengths(indices, distances, *smooth_knn_dist(distances))
    np.testing.assert_allclose(strengths.max(axis=1).toarray(), 1)


@pytest.mark.parametrize(
    ("neighbors", "message"),
    [
        (np.zeros(3), "pair of arrays"),
        ((np.zeros((3, 1), int), np.zeros((3, 1))), "shape"),
        ((np.array([[0.0, 1], [1, 0], [2, 0]]), np.zeros((3, 2))), "integers"),
        ((np.array([[0, 9], [1, 0], [2, 0]]), np.zeros((3, 2))), "between 0 and 2"),
        ((np.array([[1, 2], [1, 0], [2, 0]]), np.array([[1.0, 1]] * 3)), "cell itself"),
        ((np.array([[0, 1], [1, 0], [2, 0]]), np.array([[0, np.nan]] * 3)), "finite"),
        (
            (np.array([[0, 1], [1, 0], [2, 0]]), np.array([[0.0, 2]] * 3)[:, ::-1]),
            "itself must be 0",
        ),
        ((np.array([[0, 1], [1, 0], [2, 0]]), np.array([[-1.0, 1]] * 3)), "at least 0"),
        ((np.array([[0, -1], [1, 0], [2, 0]]), np.zeros((3, 2))), "-1 for missing .* in 1 rows"),
        ((np.array([[0, 1, 2]] * 3), np.array([[0.0, 2, 1]] * 3)), "cell itself"),
        ((np.zeros((3, 2)), np.zeros((3, 2), int)), "integers"),
        ((np.array([[0, 0], [1, 0], [2, 0]]), np.array([[0.0, 1]] * 3)), "named twice"),
    ],
)
def test_bad_precomputed_neighbours(neighbors, message):
    with pytest.raises(ValueError, match=message):
        check_neighbors(neighbors, n_cells=3, n_neighbors=2)


def test_bad_requests(cloud):
    with pytest.raises(ValueError, match="at most the number of cells"):
        nearest_neighbors(cloud[:4], 5)
    with pytest.raises(ValueError, match="unknown"):
        nearest_neighbors(cloud, 5, method="annoy")
    with pytest.raises(ValueError, match="'ivf' is for metric='euclidean', not 'cosine'"):
        nearest_neighbors(cloud, 5, "cosine", "ivf")
    for method in ("exact", "ivf"):
        with pytest.raises(ValueError, match="too large"):
            nearest_neighbors(cloud * np.float32(1e30), 5, method=method)
        with pytest.raises(ValueError, match="or NaN"):
            nearest_neighbors(np.where(cloud > 2, np.nan, cloud), 5, method=method)


def test_neighbours_of_scikit_learn_give_the_same_graph(cloud):
    # copies come before the cell itself, and distances to itself are not quite 0
    X = cloud.copy()
    X[7] = X[11] = X[5]
    distances, indices = NearestNeighbors(n_neighbors=15, algorithm="brute").fit(X).kneighbors(X)
    assert (indices[:, 0] != np.arange(300)).any()
    # with all three copies in a row or none, there is no choice between equal distances
    assert set(np.isin(indices, [5, 7, 11]).sum(axis=1)) == {0, 3}
    given = fuzzy_graph(*check_neighbors((indices, distances), 300, 15))
    own = fuzzy_graph(*nearest_neighbors(X, 15))
    assert abs(given - own).max() < 1e-3


@pytest.mark.parametrize(
    "convert",
    [
        lambda i, d: (i.astype(np.int32), d),
        lambda i, d: (i.astype(np.uint32), d.astype(np.float64)),
        lambda i, d: (i.tolist(), d.tolist()),
        lambda i, d: (pd.DataFrame(i), pd.DataFrame(d)),
        lambda i, d: (i, np.where(d == 0, np.float32(1e-4), d)),  # as approximate searches give it
    ],
)
def test_neighbours_of_other_tools_are_taken(cloud, convert):
    indices, distances = nearest_neighbors(cloud, 15)
    found = check_neighbors(convert(indices, distances), 300, 10)
    assert np.array_equal(found[0], indices[:, :10])
    np.testing.assert_allclose(found[1], distances[:, :10], rtol=1e-6)


def test_a_cell_crowded_out_by_its_copies_is_put_back():
    indices = np.array([[1, 2], [0, 2], [0, 1]])
    found, distances = check_neighbors((indices, np.zeros((3, 2))), 3, 2)
    assert found[:, 0].tolist() == [0, 1, 2]
    assert not distances.any()


def test_cells_left_out_of_their_own_rows_are_noticed(cloud):
    distances, indices = NearestNeighbors(n_neighbors=14).fit(cloud).kneighbors()
    with pytest.raises(ValueError, match="300 cells are not among .* count the cell itself"):
        check_neighbors((indices, distances), 300, 14)
    far = np.where(indices == indices, distances + 1, 0)
    far = np.column_stack([np.full(300, 0.5), far])
    with pytest.raises(ValueError, match="to itself must be 0, found 0.5"):
        check_neighbors((np.column_stack([np.arange(300), indices]), far), 300, 15)


def test_a_distance_that_is_not_defined_names_the_cells(cloud):
    flat = np.abs(cloud)
    flat[4] = 1
    with (
        pytest.raises(ValueError, match="'correlation' is not defined for .* cells"),
        np.errstate(invalid="ignore"),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        nearest_neighbors(flat, 15, metric="correlation")
    with pytest.raises(ValueError, match="metric='hellinger' is unknown to scikit-learn"):
        nearest_neighbors(cloud, 15, metric="hellinger")
    with pytest.raises(ValueError, match="pass precomputed neighbours as"):
        nearest_neighbors(cloud, 15, metric="precomputed")


@pytest.mark.parametrize("method", ["exact", "nndescent"])
def test_a_metric_that_does_not_suit_the_cells_is_named(method):
    X = np.random.default_rng(0).normal(size=(30, 4)).astype(np.float32)
    with pytest.raises(ValueError, match="metric='haversine' is unknown to .*, or does not suit"):
        nearest_neighbors(X, 5, "haversine", method)


def test_what_is_no_pair_is_named():
    for wrong in (csr_matrix((5, 5)), None, {"indices": 1}):
        with pytest.raises(ValueError, match=f"pair of arrays .* got {type(wrong).__name__}"):
            check_neighbors(wrong, 5, 2)


def test_exact_neighbours_equal_scikit_learn_to_the_last_bit():
    """So a map is the same whichever of the two found its neighbours."""
    from sklearn.neighbors import NearestNeighbors

    X = np.random.default_rng(0).normal(size=(300, 20)).astype(np.float32)
    distances, indices = NearestNeighbors(n_neighbors=15, algorithm="brute").fit(X).kneighbors(X)
    found = nearest_neighbors(X, 15, method="exact")
    np.testing.assert_array_equal(found[0], indices)
    np.testing.assert_array_equal(found[1][:, 1:], distances[:, 1:].astype(np.float32))


# --- a graph that another program made ----------------------------------------------------------

TRIANGLE = np.array([[0, 0.5, 0.25], [0.5, 0, 1], [0.25, 1, 0]], dtype=np.float32)


@pytest.mark.parametrize(
    "kind", [np.asarray, pd.DataFrame, csr_matrix, csc_matrix, csr_array, bsr_array, lil_matrix]
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_given_graph_of_any_container(kind, dtype):
    given = kind(TRIANGLE.astype(dtype))
    found = check_graph(given, 3)
    assert isinstance(found, csr_matrix) and found.dtype == np.float32
    np.testing.assert_array_equal(found.toarray(), TRIANGLE)
    assert found.nnz == 6 and found.has_canonical_format
    found.data[:] = 0.125  # the one that was given is another one
    np.testing.assert_array_equal(given.toarray() if hasattr(given, "toarray") else given, TRIANGLE)


def test_an_own_graph_comes_back_to_the_last_bit(cloud):
    own = fuzzy_graph(*nearest_neighbors(cloud, 15))
    given = check_graph(own, len(cloud))
    for name in ("data", "indices", "indptr"):
        np.testing.assert_array_equal(getattr(given, name), getattr(own, name))


@pytest.mark.parametrize("dtype", [bool, int, np.uint8])
def test_a_graph_without_weights(dtype):
    assert check_graph((TRIANGLE > 0).astype(dtype), 3).data.tolist() == [1.0] * 6


def test_cells_are_no_neighbours_of_their_own():
    assert check_graph(TRIANGLE + 5 * np.eye(3), 3).diagonal().tolist() == [0, 0, 0]
    assert check_graph(TRIANGLE + 5 * np.eye(3), 3).nnz == 6


def test_parts_of_an_edge_are_added():
    halves = coo_array((np.full(4, 0.5), ([0, 0, 1, 1], [1, 1, 0, 0])), shape=(2, 2))
    assert check_graph(halves, 2).toarray().tolist() == [[0, 1], [1, 0]]


def test_rounding_is_put_right():
    rounded = TRIANGLE.astype(float)
    rounded[0, 1] += 4e-6
    rounded[1, 2] = rounded[2, 1] = 1 + 4e-6
    found = check_graph(rounded, 3)
    assert (found != found.T).nnz == 0
    assert found.max() == 1


def changed(i, j, value, both=False):
    graph = TRIANGLE.copy()
    graph[i, j] = value
    if both:
        graph[j, i] = value
    return graph


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (TRIANGLE[:2], r"shape \(2, 3\): \(3, 3\) is needed"),
        (np.zeros((4, 4)), r"shape \(4, 4\): \(3, 3\)"),
        (TRIANGLE[0], r"shape \(3,\)"),
        (changed(0, 1, np.nan), "1 strengths that are missing or infinite"),
        (changed(0, 1, np.inf), "missing or infinite"),
        (changed(0, 1, -0.5, both=True), "found -0.5"),
        (changed(0, 1, 57.5, both=True), r"found 57.5.*pass obsp\['connectivities'\]"),
        (
            changed(2, 0, 0.75),
            "0.25 from cell 0 to cell 2 and 0.75 back|0.75 from cell 2 to cell 0",
        ),
        (changed(2, 0, 0), r"symmetric.*obsp\['connectivities'\].*symmetrize"),
        (np.zeros((3, 3)), "no edges"),
        (np.eye(3), "no edges"),
        (csr_matrix((3, 3)), "no edges"),
    ],
)
def test_what_is_no_fuzzy_graph(given, said):
    for kind in (np.asarray, csr_matrix) if np.ndim(given) == 2 else (np.asarray,):
        if not (kind is np.asarray and not isinstance(given, np.ndarray)):
            with pytest.raises(ValueError, match=said):
                check_graph(kind(given), 3)


@pytest.mark.parametrize("given", ["connectivities", object(), None, TRIANGLE.astype(complex)])
def test_what_holds_no_numbers(given):
    with pytest.raises(TypeError, match=r"matrix of numbers.*obsp\['connectivities'\]"):
        check_graph(given, 3)


def test_cells_without_edges_are_told():
    alone = np.zeros((5, 5))
    alone[:3, :3] = TRIANGLE
    with pytest.warns(UserWarning, match="2 cells have no edge"):
        assert check_graph(alone, 5).shape == (5, 5)


def test_the_graph_of_scanpy_is_our_own(cells):
    scanpy = pytest.importorskip("scanpy")
    from anndata import AnnData

    adata = AnnData(cells.X[::3].copy())
    scanpy.pp.neighbors(adata, n_neighbors=15, use_rep="X")
    own = fuzzy_graph(*nearest_neighbors(adata.X, 15))
    given = check_graph(adata.obsp["connectivities"], adata.n_obs)
    assert abs(given - own).max() < 1e-5
    with pytest.raises(ValueError, match=r"pass obsp\['connectivities'\]"):
        check_graph(adata.obsp["distances"], adata.n_obs)
