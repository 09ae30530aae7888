"""Nearest neighbours and the fuzzy graph of UMAP."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
from scipy.sparse import coo_matrix, csr_matrix, issparse

from rpumap._threads import granted_cores, granted_threads
from rpumap._validation import check_integer

# The largest tables that are searched exactly, in multiply-adds (cells * cells * genes): Euclidean
# distances, up to about a second on two cores; others, up to where NNDescent is faster, whose
# compilation alone takes close to a minute in every new process.
# Measured by tests/benchmarks/bench_neighbors.py.
EXACT_LIMIT = 20_000**2 * 300
OTHER_EXACT_LIMIT = 60_000**2 * 300

# The inverted file, measured likewise
RECALL = 0.975  # wanted share of the true neighbours, the cell itself counted
TRIAL = 512  # cells whose true neighbours tell how many comparisons that takes
GROUP_SIZE = 100  # cells in a group, on average
NOISE = 0.6  # of the squared distance of a cell to its own centre

# Cells, and centres, in a product of matrices: so few that the product stays in a processor's cache
ROWS, GROUPS = 256, 32
CROWD = 8  # candidates per neighbour; where there are more, single precision cannot tell them apart

# umap-learn's own constants, so that both give the same graph
BISECTION_STEPS = 64
BISECTION_TOLERANCE = 1e-5
SMALLEST_RELATIVE_SIGMA = 1e-3

# Other tools' distance from a cell to itself is 0 up to their rounding; in multiples of the median
# distance to a neighbour.
LARGEST_SELF_DISTANCE = 1e-3
# By how much the strengths of a given graph may leave the range or differ between the two ends of
# an edge: single precision, and the few digits of a text file.
STRENGTH_ROUNDING = 1e-5
METHODS = ("auto", "exact", "ivf", "nndescent")


def nearest_neighbors(
    X: np.ndarray,
    n_neighbors: int = 15,
    metric: str = "euclidean",
    method: str = "auto",
    random_state: int | np.random.RandomState | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Find the nearest neighbours of every cell; the first is the cell itself.

    Parameters
    ----------
    X : ndarray of shape (n_cells, n_genes)
        The cells.
    n_neighbors : int
        Number of neighbours, the cell itself counted, as in umap-learn.
    metric : str
        A distance known to scikit-learn (exact search) or pynndescent (NNDescent); the inverted
        file is for ``"euclidean"``.
    method : {"auto", "exact", "ivf", "nndescent"}
        ``"exact"`` compares all pairs. ``"ivf"``, an inverted file [1]_, forms groups by k-means
        and compares each with the cells nearest to its centre: with as many as it takes to find
        97.5 % of the neighbours of 512 cells, for which all pairs are compared. ``"nndescent"``
        [2]_ compares cells with the neighbours of their neighbours, and is compiled anew in every
        process. The latter two miss some neighbours. ``"auto"`` is exact up to 20,000 cells of 300
        genes and then an inverted file; for other metrics, exact up to 60,000 and then NNDescent.
    random_state : int or RandomState, optional
        Seed of NNDescent; the other two have no randomness.

    Returns
    -------
    indices : ndarray of shape (n_cells, n_neighbors), int64
        Neighbours of each cell from near to far, the cell itself first.
    distances : ndarray of shape (n_cells, n_neighbors), float32
        Their distances; the first column is 0.

    Raises
    ------
    ValueError
        If `method` or `metric` is unknown, there are fewer cells than neighbours, or a distance
        overflows or is not defined (the correlation of a cell without variation, say).

    References
    ----------
    .. [1] Jegou, Douze and Schmid (2011), Product quantization for nearest neighbor search.
    .. [2] Dong, Moses and Li (2011), Efficient k-nearest neighbor graph construction for generic
       similarity measures.

    Examples
    --------
    >>> import numpy as np
    >>> from rpumap.graph import nearest_neighbors
    >>> indices, distances = nearest_neighbors(np.array([[0.0], [1.0], [5.0]]), n_neighbors=2)
    >>> indices.tolist(), distances.tolist()
    ([[0, 1], [1, 0], [2, 1]], [[0.0, 1.0], [0.0, 1.0], [0.0, 4.0]])
    """
    n_cells = len(X)
    if not 2 <= check_integer("n_neighbors", n_neighbors, least=2) <= n_cells:
        raise ValueError(
            f"n_neighbors={n_neighbors} counts the cell itself: it must be at least 2 and at most "
            f"the number of cells, {n_cells}"
        )
    _check_metric(metric)
    if not isinstance(method, str) or method not in METHODS:
        raise ValueError(
            f"neighbors={method!r} is unknown: use 'auto', 'exact', 'ivf', 'nndescent' or a pair "
            "of arrays (indices, distances)"
        )
    euclidean = metric == "euclidean"
    if method == "ivf" and not euclidean:
        raise ValueError(f"neighbors='ivf' is for metric='euclidean', not {metric!r}")
    if method == "auto":
        limit, fast = (EXACT_LIMIT, "ivf") if euclidean else (OTHER_EXACT_LIMIT, "nndescent")
        method = "exact" if n_cells * n_cells * X.shape[1] <= limit else fast
    with granted_threads():
        if method == "nndescent":
            indices, distances = _nndescent(X, n_neighbors, metric, random_state)
        elif euclidean:
            indices, distances = _by_products(np.asarray(X), n_neighbors, method)
        else:
            indices, distances = _by_sklearn(X, n_neighbors, metric)
    distances = distances.astype(np.float32)
    _check_distances(distances, metric)
    return _self_first(indices.astype(np.int64), distances)


def _check_metric(metric: str) -> None:
    if metric == "precomputed":
        raise ValueError(
            "metric='precomputed' is not known: pass precomputed neighbours as "
            "neighbors=(indices, distances), not a matrix of distances"
        )
    if not isinstance(metric, str):
        raise ValueError(f"metric must be the name of a distance, got {metric!r}")


def _check_distances(distances: np.ndarray, metric: str) -> None:
    undefined = np.flatnonzero(np.isnan(distances).any(axis=1))
    if len(undefined):
        raise ValueError(
            f"metric={metric!r} is not defined for {len(undefined)} cells, the first of which is "
            f"cell {undefined[0]}: are their values constant or all zero? Leave such cells out, or "
            "use another metric"
        )
    if np.isinf(distances).any():
        raise ValueError("some distances are too large for a float: scale the data first")


def _by_sklearn(X: np.ndarray, n_neighbors: int, metric: str) -> tuple[np.ndarray, np.ndarray]:
    from sklearn.neighbors import NearestNeighbors

    try:
        search = NearestNeighbors(n_neighbors=n_neighbors, metric=metric, algorithm="brute").fit(X)
        distances, indices = search.kneighbors(X)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"metric={metric!r} is unknown to scikit-learn, which does the exact search, or does "
            f"not suit these cells: {error}"
        ) from None
    return indices, distances


def _by_products(X: np.ndarray, n_neighbors: int, method: str) -> tuple[np.ndarray, np.ndarray]:
    """Search by Euclidean distance: compare blocks of rows with all cells, or with chosen ones."""
    X = np.asarray(X, dtype=np.result_type(X, np.float32))
    if not _squares(X).max() < np.finfo(X.dtype).max / 4:
        raise ValueError("some distances are too large for a float, or NaN: scale the data first")
    every = np.arange(len(X))
    indices, distances = np.empty((2, len(X), n_neighbors))

    def search(blocks: Iterable) -> None:
        for rows, cells, values in blocks:
            found, distances[rows] = _nearest(X[rows], values, n_neighbors)
            indices[rows] = cells[found]

    pairs = ([(part, every, X)] for part in _parts(every, ROWS))
    _in_threads(search, pairs if method == "exact" else _inverted_file(X, n_neighbors))
    return indices, distances


def _squares(X: np.ndarray) -> np.ndarray:
    return np.einsum("ij,ij->i", X, X)


def _parts(cells: np.ndarray, size: int) -> list[np.ndarray]:
    return [cells[start : start + size] for start in range(0, len(cells), size)]


def _in_threads(work: Callable, tasks: Iterable) -> list:
    """Give each task to one thread, so that the number of threads does not change the result."""
    from threadpoolctl import ThreadpoolController

    blas = ThreadpoolController().select(user_api="blas")
    n_threads = min([granted_cores(), *(pool.num_threads for pool in blas.lib_controllers)])
    with blas.limit(limits=1), ThreadPoolExecutor(n_threads) as threads:
        return list(threads.map(work, tasks))


def _inverted_file(X: np.ndarray, n_neighbors: int) -> Iterator:
    """Name the cells to compare each group of k-means with: those nearest to its centre.

    A cell's deviation from its own centre is in part noise, which tells other groups nothing: its
    share is taken off. How many cells it takes is found by a trial. Yields blocks: rows, cells,
    values of the cells.
    """
    every = np.arange(len(X))
    centres, group, own = _k_means(X)
    offset = (_squares(X) - NOISE * own).astype(X.dtype)

    def distances_to(groups: np.ndarray) -> np.ndarray:
        return (-2 * centres[groups]) @ X.T + offset

    def ranks(rows: np.ndarray) -> np.ndarray:
        true, _ = _nearest(X[rows], X, n_neighbors)
        far = zip(distances_to(group[rows]), true, strict=True)
        before = [(values < values[cells, None]).sum(axis=1) for values, cells in far]
        return np.where(group[true] == group[rows, None], 0, before)

    trial = _in_threads(ranks, _parts(every[:: -(-len(X) // TRIAL)], GROUPS))
    n_compared = max(n_neighbors, int(np.quantile(np.concatenate(trial), RECALL)) + 1)

    def compare(groups: np.ndarray) -> Iterator:
        for one, far in zip(groups, distances_to(groups), strict=True):
            rows = np.flatnonzero(group == one)
            far[rows] = -np.inf
            last = min(n_compared + len(rows), len(X)) - 1
            cells = np.sort(np.argpartition(far, last)[: last + 1])
            values = X.take(cells, axis=0)
            yield from ((part, cells, values) for part in _parts(rows, ROWS))

    return map(compare, _parts(np.arange(len(centres)), GROUPS))


def _k_means(X: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return centres, the group of each cell, and its squared distance to the centre."""
    centres = X[::GROUP_SIZE]
    for cells in (X[::6], X[::6], X):  # the sample first
        found = _in_threads(partial(_nearest, others=centres, k=1), _parts(cells, ROWS))
        group, distance = (np.concatenate(parts)[:, 0] for parts in zip(*found, strict=True))
        share = (1 / np.bincount(group)[group]).astype(X.dtype)
        members = csr_matrix((share, (group, np.arange(len(group)))), (len(centres), len(group)))
        centres = members @ cells  # an empty group moves to the origin
    return centres, group, distance**2


def _nearest(X: np.ndarray, others: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Find the k nearest of the other cells, and their distances.

    A product of matrices gives all distances up to rounding. Those that rounding could have moved
    among the k smallest are computed anew, from differences and in double precision.
    """
    squared = (-2 * X) @ others.T
    squared += _squares(others)
    n, m = squared.shape
    # the k-th smallest minimum of any k or more columns is no less than the k-th smallest of all
    width = m // max(1, m // (32 * k))
    least = squared[:, : m // width * width].reshape(n, -1, width).min(axis=1)
    bound = np.partition(least, k - 1, axis=1)[:, k - 1]
    own = _squares(X)
    bound += 4 * X.shape[1] * np.finfo(X.dtype).eps * (2 * own + np.abs(bound + own))
    row, column = np.divmod(np.flatnonzero(squared <= bound[:, None]), m)
    if len(row) > CROWD * n * k:
        double = others.astype(np.float64)
        squared = _squares(double) - 2 * X.astype(np.float64) @ double.T
        column = np.argpartition(squared, k - 1, axis=1)[:, :k].ravel()
        row = np.repeat(np.arange(n), k)
    difference = np.subtract(X.take(row, axis=0), others.take(column, axis=0), dtype=np.float64)
    square = _squares(difference)
    first = np.searchsorted(row, np.arange(n))
    order = np.lexsort((column, square, row))[first[:, None] + np.arange(k)]
    # rounded as scikit-learn does: its neighbours give the same map, to the last bit
    return column[order], np.sqrt(square[order].astype(X.dtype))


def _nndescent(
    X: np.ndarray,
    n_neighbors: int,
    metric: str,
    random_state: int | np.random.RandomState | None,
) -> tuple[np.ndarray, np.ndarray]:
    import numba
    from pynndescent import NNDescent

    # n_trees and n_iters as pynndescent recommends and umap-learn sets them
    n_cells = len(X)
    try:
        index = NNDescent(
            X,
            n_neighbors=n_neighbors,
            metric=metric,
            random_state=random_state,
            n_trees=min(64, 5 + round(n_cells**0.5 / 20)),
            n_iters=max(5, round(np.log2(n_cells))),
            max_candidates=60,
            n_jobs=min(granted_cores(), numba.get_num_threads()),
        )
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"metric={metric!r} is unknown to pynndescent, which does the approximate search, or "
            f"does not suit these cells: {error}"
        ) from None
    indices, distances = index.neighbor_graph
    n_missing = int((indices < 0).any(axis=1).sum())
    if n_missing:
        raise ValueError(
            f"NNDescent found fewer than {n_neighbors} neighbours for {n_missing} cells: "
            "use neighbors='exact' or a smaller n_neighbors"
        )
    return indices, distances


def _self_first(indices: np.ndarray, distances: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Put each cell at the head of its own row, at distance zero.

    A duplicate can stand before the cell, and rounding can leave a tiny distance to itself.
    """
    n_cells = len(indices)
    is_self = indices == np.arange(n_cells)[:, None]
    # a cell whose duplicates fill its row replaces the farthest of them
    column = np.where(is_self.any(axis=1), is_self.argmax(axis=1), indices.shape[1] - 1)
    keep = np.arange(indices.shape[1])[None, :] != column[:, None]
    others = indices[keep].reshape(n_cells, -1)
    far = distances[keep].reshape(n_cells, -1)
    return (
        np.column_stack([np.arange(n_cells), others]),
        np.column_stack([np.zeros(n_cells, np.float32), far]),
    )


def check_neighbors(
    neighbors: tuple[np.ndarray, np.ndarray], n_cells: int, n_neighbors: int
) -> tuple[np.ndarray, np.ndarray]:
    """Check a precomputed pair (indices, distances) and cut it to `n_neighbors` columns.

    Parameters
    ----------
    neighbors : pair of array-like, each of shape (n_cells, at least n_neighbors)
        Row i lists the neighbours of cell i from near to far, cell i itself among them: first, or
        after identical cells. Its distance to itself may differ from 0 by rounding.
    n_cells, n_neighbors : int
        The shape that is needed.

    Returns
    -------
    indices : ndarray of shape (n_cells, n_neighbors), int64
        The cell itself first.
    distances : ndarray of shape (n_cells, n_neighbors), float32
        The first column is 0.

    Raises
    ------
    ValueError
        If a shape, an index or a distance is out of range, rows are not sorted, neighbours are
        missing, or a neighbour is named twice.

    Examples
    --------
    >>> from rpumap.graph import check_neighbors
    >>> indices, distances = check_neighbors(([[0, 1], [1, 0]], [[0, 2.5], [0, 2.5]]), 2, 2)
    >>> distances.dtype
    dtype('float32')
    """
    indices, distances = _pair(neighbors)
    for name, array in (("indices", indices), ("distances", distances)):
        if array.ndim != 2 or len(array) != n_cells or array.shape[1] < n_neighbors:
            raise ValueError(
                f"precomputed {name} have shape {array.shape}: ({n_cells}, at least {n_neighbors}) "
                "is needed"
            )
    indices, distances = indices[:, :n_neighbors], distances[:, :n_neighbors]
    indices = _check_indices(indices, n_cells)
    if not np.isfinite(distances).all() or (distances < 0).any():
        raise ValueError("precomputed distances must be finite and at least 0")
    indices, distances = _self_first(indices, _without_self_distance(indices, distances))
    if (np.diff(distances, axis=1) < 0).any():
        raise ValueError("precomputed distances must grow from left to right")
    return indices, distances


def _pair(neighbors: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    try:
        indices, distances = neighbors
        indices, distances = np.asarray(indices), np.asarray(distances, dtype=np.float32)
    except (TypeError, ValueError, RuntimeError) as error:  # PyTorch raises the last
        raise ValueError(
            "precomputed neighbors must be a pair of arrays (indices, distances), each with one "
            f"row a cell, got {type(neighbors).__name__} ({error})"
        ) from None
    if not np.issubdtype(indices.dtype, np.integer):
        raise ValueError(
            f"precomputed indices must be integers, not {indices.dtype}: the pair is "
            "(indices, distances), in this order"
        )
    return indices, distances


def _check_indices(indices: np.ndarray, n_cells: int) -> np.ndarray:
    indices = indices.astype(np.int64)
    n_short = int((indices < 0).any(axis=1).sum())
    if n_short:
        raise ValueError(
            f"precomputed indices are negative (-1 for missing neighbours?) in {n_short} rows: "
            "search again for as many neighbours as n_neighbors asks for, or lower n_neighbors"
        )
    if indices.max() >= n_cells:
        raise ValueError(f"precomputed indices must lie between 0 and {n_cells - 1}")
    if (np.diff(np.sort(indices, axis=1), axis=1) == 0).any():
        raise ValueError("a precomputed neighbour is named twice by the same cell")
    return indices


def _without_self_distance(indices: np.ndarray, distances: np.ndarray) -> np.ndarray:
    """Set the distance of each cell to itself to 0, where it is 0 up to rounding."""
    is_self = indices == np.arange(len(indices))[:, None]
    own = distances[is_self]
    typical = float(np.median(distances[~is_self]))
    # in a row that identical cells fill, the cell itself may be absent
    absent = ~is_self.any(axis=1) & (distances[:, -1] > LARGEST_SELF_DISTANCE * typical)
    if absent.any():
        raise ValueError(
            f"{int(absent.sum())} cells are not among their own precomputed neighbours, which "
            "must count the cell itself: put each cell first in its own row, at distance 0, as in "
            "np.column_stack([np.arange(n_cells), indices])"
        )
    if (own > LARGEST_SELF_DISTANCE * typical).any():
        raise ValueError(
            "the precomputed distance of each cell to itself must be 0, found "
            f"{own.max():.3g} beside a median distance of {typical:.3g}"
        )
    return np.where(is_self, np.float32(0), distances)


def smooth_knn_dist(distances: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    r"""Find each cell's distance to its nearest neighbour and its own length scale.

    Parameters
    ----------
    distances : ndarray of shape (n_cells, n_neighbors), float32
        Sorted distances to the neighbours; the first column, the cell itself, is 0.

    Returns
    -------
    rho : ndarray of shape (n_cells,), float32
        Distance to the nearest neighbour that is not identical to the cell; 0 if there is none.
    sigma : ndarray of shape (n_cells,), float32
        Length scale, above 0.

    Notes
    -----
    sigma solves, for k neighbours of which the cell itself is one,

    .. math:: \sum_{j=2}^{k} \exp\!\left(-\frac{\max(0, d_{ij} - \rho_i)}{\sigma_i}\right)
              = \log_2 k ,

    by bisection: the left side grows with sigma. Where the equation has no solution, sigma is
    held at a thousandth of the mean distance. Same rules as umap-learn's ``smooth_knn_dist``.

    Examples
    --------
    >>> import numpy as np
    >>> from rpumap.graph import smooth_knn_dist
    >>> rho, sigma = smooth_knn_dist(np.array([[0.0, 1.0, 2.0, 4.0]], dtype=np.float32))
    >>> float(rho[0]), round(float(np.exp(-np.array([0, 1, 3]) / sigma).sum()), 4)
    (1.0, 2.0)
    """
    distances = np.asarray(distances, dtype=np.float32)
    n_cells, k = distances.shape
    target = np.log2(k)
    nonzero = np.where(distances > 0, distances, np.inf).min(axis=1)
    rho = np.where(np.isfinite(nonzero), nonzero, 0).astype(np.float32)
    gap = np.maximum(distances[:, 1:] - rho[:, None], 0).astype(np.float64)

    low, high, sigma = np.zeros(n_cells), np.full(n_cells, np.inf), np.ones(n_cells)
    open_rows = np.arange(n_cells)
    for _ in range(BISECTION_STEPS):
        total = np.exp(-gap[open_rows] / sigma[open_rows, None]).sum(axis=1)
        unsolved = np.abs(total - target) >= BISECTION_TOLERANCE
        open_rows, total = open_rows[unsolved], total[unsolved]
        if not len(open_rows):
            break
        mid, too_wide = sigma[open_rows], total > target
        high[open_rows[too_wide]] = mid[too_wide]
        low[open_rows[~too_wide]] = mid[~too_wide]
        unbounded = np.isinf(high[open_rows])
        sigma[open_rows] = np.where(unbounded, 2 * mid, (low[open_rows] + high[open_rows]) / 2)

    mean = np.where(rho > 0, distances.mean(axis=1), distances.mean())
    return rho, np.maximum(sigma, SMALLEST_RELATIVE_SIGMA * mean).astype(np.float32)


def membership_strengths(
    indices: np.ndarray, distances: np.ndarray, rho: np.ndarray, sigma: np.ndarray
) -> csr_matrix:
    r"""Give every directed edge its strength, from the point of view of its first cell.

    Parameters
    ----------
    indices, distances : ndarray of shape (n_cells, n_neighbors)
        Neighbours as :func:`nearest_neighbors` returns them.
    rho, sigma : ndarray of shape (n_cells,)
        From :func:`smooth_knn_dist`.

    Returns
    -------
    scipy.sparse.csr_matrix of shape (n_cells, n_cells), float32
        Row i holds :math:`p_{j|i}` for the neighbours j of cell i.

    Notes
    -----
    .. math:: p_{j|i} = \exp\!\left(-\frac{\max(0, d_{ij} - \rho_i)}{\sigma_i}\right)

    Eq. 9 of the paper, with the sign that the book's page on notation explains.

    Examples
    --------
    >>> import numpy as np
    >>> from rpumap.graph import membership_strengths
    >>> strengths = membership_strengths(
    ...     np.array([[0, 1], [1, 0]]), np.array([[0, 2.0], [0, 2.0]]), np.full(2, 2.0), np.ones(2)
    ... )
    >>> strengths.toarray().tolist()
    [[0.0, 1.0], [1.0, 0.0]]
    """
    n_cells, k = indices.shape
    strength = np.exp(-np.maximum(distances - rho[:, None], 0) / sigma[:, None])
    strength[indices == np.arange(n_cells)[:, None]] = 0.0
    rows = np.repeat(np.arange(n_cells), k)
    directed = coo_matrix(
        (strength.ravel().astype(np.float32), (rows, indices.ravel())), shape=(n_cells, n_cells)
    ).tocsr()
    directed.eliminate_zeros()
    return directed


def symmetrize(directed: csr_matrix) -> csr_matrix:
    r"""Join the two views of each edge: it exists if either of its cells says so.

    Parameters
    ----------
    directed : csr_matrix of shape (n_cells, n_cells)
        Strengths :math:`p_{j|i}`.

    Returns
    -------
    csr_matrix of shape (n_cells, n_cells), float32
        Symmetric strengths :math:`p_{ij}` between 0 and 1.

    Notes
    -----
    .. math:: p_{ij} = p_{j|i} + p_{i|j} - p_{j|i}\,p_{i|j}

    the probability of "one or the other" for independent events (paper eq. 10).

    Examples
    --------
    >>> from scipy.sparse import csr_matrix
    >>> from rpumap.graph import symmetrize
    >>> symmetrize(csr_matrix([[0, 0.5], [0.5, 0]])).toarray().tolist()
    [[0.0, 0.75], [0.75, 0.0]]
    """
    transposed = directed.T.tocsr()
    both = directed.multiply(transposed)
    graph = (directed + transposed - both).tocsr()
    graph.eliminate_zeros()
    return graph


def fuzzy_graph(indices: np.ndarray, distances: np.ndarray) -> csr_matrix:
    """Turn nearest neighbours into UMAP's weighted graph.

    Parameters
    ----------
    indices, distances : ndarray of shape (n_cells, n_neighbors)
        Neighbours as :func:`nearest_neighbors` returns them.

    Returns
    -------
    csr_matrix of shape (n_cells, n_cells), float32
        Symmetric edge strengths :math:`p_{ij}`, equal to those of umap-learn's
        ``fuzzy_simplicial_set`` for the same neighbours.

    Warns
    -----
    UserWarning
        If some cell has no neighbour at a distance above zero: more copies than neighbours.

    Examples
    --------
    >>> import numpy as np
    >>> from rpumap.graph import fuzzy_graph, nearest_neighbors
    >>> X = np.random.default_rng(0).normal(size=(50, 5))
    >>> graph = fuzzy_graph(*nearest_neighbors(X, n_neighbors=5))
    >>> graph.shape, bool((graph != graph.T).nnz == 0), float(graph.max())
    ((50, 50), True, 1.0)
    """
    rho, sigma = smooth_knn_dist(distances)
    n_buried = int((rho == 0).sum())
    if n_buried:
        warnings.warn(
            f"{n_buried} cells are identical to all of their nearest neighbours, so that nothing "
            "ties them to the others. Remove duplicates or raise n_neighbors.",
            stacklevel=2,
        )
    return symmetrize(membership_strengths(indices, distances, rho, sigma))


def check_graph(graph: Any, n_cells: int) -> csr_matrix:
    """Check a fuzzy graph that another program made, and return it as this package stores them.

    Parameters
    ----------
    graph : sparse matrix, sparse array or array-like of shape (n_cells, n_cells)
        Strengths of edges from 0 to 1, the same from both ends, such as
        ``adata.obsp["connectivities"]``. Without weights, as 0 and 1 or booleans, all edges are
        equally strong. The diagonal, of cells with themselves, is left out. It is not changed.
    n_cells : int
        The number of cells that is needed.

    Returns
    -------
    csr_matrix of shape (n_cells, n_cells), float32
        Symmetric, with no zeros stored.

    Raises
    ------
    TypeError
        If `graph` holds no real numbers.
    ValueError
        If its shape is another one, a strength is not finite or out of range, the two ends of an
        edge differ by more than rounding, or there is no edge.

    Warns
    -----
    UserWarning
        If cells have no edge.

    Examples
    --------
    >>> from rpumap.graph import check_graph
    >>> check_graph([[1, 0.5, 0], [0.5, 1, 1], [0, 1, 1]], 3).toarray().tolist()
    [[0.0, 0.5, 0.0], [0.5, 0.0, 1.0], [0.0, 1.0, 0.0]]
    """
    given = graph if issparse(graph) else np.asarray(graph)
    if given.dtype.kind not in "biuf":
        raise TypeError(
            f"graph must be a matrix of numbers, got {type(graph).__name__} of {given.dtype}: pass "
            "adata.obsp['connectivities']"
        )
    if given.shape != (n_cells, n_cells):
        raise ValueError(
            f"graph has shape {given.shape}: ({n_cells}, {n_cells}) is needed, a row and a column "
            "for each cell of X, in the same order"
        )
    edges = coo_matrix(given)
    other = edges.row != edges.col  # a cell is no neighbour of its own
    values, ends = edges.data[other].astype(np.float64), (edges.row[other], edges.col[other])
    strengths = csr_matrix((values, ends), shape=given.shape)
    _check_strengths(strengths)
    strengths = ((strengths + strengths.T) / 2).astype(np.float32).tocsr()
    np.clip(strengths.data, 0, 1, out=strengths.data)
    strengths.eliminate_zeros()
    n_alone = int((np.diff(strengths.indptr) == 0).sum())
    if n_alone == n_cells:
        raise ValueError("graph has no edges: no strength between different cells is above 0")
    if n_alone:
        warnings.warn(
            f"{n_alone} cells have no edge in graph: they do not take part in the training, and "
            "are placed by the network as new cells are",
            stacklevel=3,
        )
    return strengths


def _check_strengths(strengths: csr_matrix) -> None:
    values, advice = strengths.data, "If it is obsp['distances'], pass obsp['connectivities']"
    n_bad = int((~np.isfinite(values)).sum())
    if n_bad:
        raise ValueError(f"graph holds {n_bad} strengths that are missing or infinite")
    low, high = values.min(initial=0), values.max(initial=0)
    if low < 0 or high > 1 + STRENGTH_ROUNDING:
        raise ValueError(
            f"graph must hold strengths from 0 to 1, found {low if low < 0 else high:.4g}. "
            f"{advice}; other weights must be scaled first"
        )
    uneven = abs(strengths - strengths.T).tocoo()
    if uneven.nnz and uneven.data.max() > STRENGTH_ROUNDING:
        worst = uneven.data.argmax()
        i, j = int(uneven.row[worst]), int(uneven.col[worst])
        raise ValueError(
            f"graph must be symmetric, but has {strengths[i, j]:.4g} from cell {i} to cell {j} and "
            f"{strengths[j, i]:.4g} back. {advice}; rpumap.graph.symmetrize joins directed "
            "strengths"
        )
