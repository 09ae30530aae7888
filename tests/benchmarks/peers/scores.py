"""How good an embedding is: trustworthiness, and labels from the 15 nearest training cells.

At most 4,000 cells are scored, drawn with a fixed seed, each against all training cells. Of all
cells of a set, trustworthiness is scikit-learn's.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

N_NEIGHBORS = 15
MOST_SCORED = 4_000
BLOCK = 2**25  # numbers in a block of distances


def neighbors(Z: np.ndarray, queries: np.ndarray, own: np.ndarray | None, k: int) -> np.ndarray:
    """Find the k nearest rows of Z to each query; ``own`` are the queries' own rows, left out."""
    from sklearn.neighbors import NearestNeighbors

    tree = NearestNeighbors(n_neighbors=k + (own is not None)).fit(Z)
    found = tree.kneighbors(queries, return_distance=False)
    if own is None:
        return found
    is_own = found == own[:, None]
    is_own[~is_own.any(axis=1), -1] = True  # among equals the cell itself may be missing
    return found[~is_own].reshape(len(queries), k)


def trustworthiness(
    X: np.ndarray, queries: np.ndarray, own: np.ndarray | None, found: np.ndarray
) -> float:
    """Score cells by the ranks, in gene space, of their neighbours on the map.

    Parameters
    ----------
    X : ndarray of shape (n_cells, n_genes)
        The training cells.
    queries : ndarray of shape (n_queries, n_genes)
        The cells that are scored.
    own : ndarray of shape (n_queries,), or None
        Their rows in `X`, or None for held-out cells.
    found : ndarray of shape (n_queries, k)
        Their neighbours on the map, as rows of `X`.
    """
    k, n_cells = found.shape[1], len(X) + (own is None)
    length = np.einsum("ij,ij->i", X, X)
    penalty, size = 0.0, max(1, BLOCK // len(X))
    for start in range(0, len(queries), size):
        rows = slice(start, start + size)
        # squared distances, but for a constant of the row
        D = length - 2 * (queries[rows] @ X.T)
        if own is not None:
            D[np.arange(len(D)), own[rows]] = np.inf
        for limits in np.take_along_axis(D, found[rows], axis=1).T:
            ranks = 1 + np.count_nonzero(limits[:, None] > D, axis=1)
            penalty += np.maximum(0, ranks - k).sum()
    return float(1 - penalty / len(queries) * 2 / (k * (2 * n_cells - 3 * k - 1)))


def accuracy(codes: np.ndarray, true: np.ndarray, found: np.ndarray) -> float:
    """Share of cells whose label is the most frequent of their neighbours' (ties: the first)."""
    counts = (codes[found][:, :, None] == np.arange(codes.max() + 1)).sum(axis=1)
    return float((counts.argmax(axis=1) == true).mean())


def scores(data: Path, results: Path) -> dict[str, float | None]:
    """Score the embedding in a folder of results, and the held-out cells where they were placed."""
    X, Z = np.load(data / "X.npy"), np.load(results / "Z.npy").astype(np.float64)
    labels, labels_new = (np.load(data / f"{name}.npy") for name in ("labels", "labels_new"))
    names, codes = np.unique(np.concatenate([labels, labels_new]), return_inverse=True)
    codes, codes_new = codes[: len(X)], codes[len(X) :]
    if not np.isfinite(Z).all():
        return {"trustworthiness": None, "accuracy": None}
    own = np.arange(len(X))
    if len(X) > MOST_SCORED:
        own = np.sort(np.random.default_rng(0).choice(len(X), MOST_SCORED, replace=False))
    found = neighbors(Z, Z[own], own, N_NEIGHBORS)
    result = {
        "trustworthiness": trustworthiness(X, X[own], own, found),
        "accuracy": accuracy(codes, codes[own], found),
    }
    if (results / "Z_new.npy").exists():
        Z_new = np.load(results / "Z_new.npy").astype(np.float64)
        if np.isfinite(Z_new).all():
            found = neighbors(Z, Z_new, None, N_NEIGHBORS)
            result["new_trustworthiness"] = trustworthiness(
                X, np.load(data / "X_new.npy"), None, found
            )
            result["new_accuracy"] = accuracy(codes, codes_new, found)
    return result
