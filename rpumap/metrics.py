"""Scores of an embedding, from its coordinates alone or with the labels of the cells."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from rpumap._validation import check_coordinates, check_integer, check_labels

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


def trustworthiness(X: ArrayLike, Z: ArrayLike, k: int = 15) -> float:
    """Measure how far neighbours in the embedding are neighbours in gene space too.

    Parameters
    ----------
    X : array-like of shape (n_cells, n_genes)
        Z-scores of the cells.
    Z : array-like of shape (n_cells, n_components)
        Their embedding.
    k : int, default 15
        Size of a neighbourhood, the cell itself not counted; below half the number of cells.

    Returns
    -------
    float
        From 0 to 1; higher is better. Random coordinates score about 0.5.

    Raises
    ------
    ValueError
        If `X` and `Z` are not of the same cells, hold values that are not finite, or `k` is not an
        integer of at least 1 and below half the number of cells.

    Notes
    -----
    Venna and Kaski (2001), through scikit-learn. Needs all pairwise distances: n² numbers.

    Examples
    --------
    >>> import numpy as np
    >>> from rpumap.metrics import trustworthiness
    >>> X = np.random.default_rng(0).normal(size=(100, 2))
    >>> trustworthiness(X, 3 * X, k=5)
    1.0
    """
    from sklearn.manifold import trustworthiness as score

    X, Z = check_coordinates("X", X), check_coordinates("Z", Z)
    if len(X) != len(Z):
        raise ValueError(f"X has {len(X)} cells and Z {len(Z)}: both must be of the same cells")
    k = check_integer("k", k, least=1, most=(len(X) - 1) // 2)
    return float(score(X, Z, n_neighbors=k))


def knn_accuracy(Z: ArrayLike, labels: ArrayLike, k: int = 15) -> float:
    """Compute the share of cells whose label is the most frequent one among their neighbours.

    Parameters
    ----------
    Z : array-like of shape (n_cells, n_components)
        An embedding.
    labels : array-like of shape (n_cells,)
        Cell types.
    k : int, default 15
        Number of neighbours, the cell itself not counted.

    Returns
    -------
    float
        From 0 to 1; higher is better.

    Raises
    ------
    ValueError
        If there is not one label a cell, labels are missing, or `k` is not an integer of at least
        1 and below the number of cells.

    Notes
    -----
    Leave-one-out classification by the nearest neighbours (Cover and Hart 1967,
    https://doi.org/10.1109/TIT.1967.1053964), found by scikit-learn; ties go to the label that
    sorts first.

    Examples
    --------
    >>> import numpy as np
    >>> from rpumap.metrics import knn_accuracy
    >>> Z = np.array([[0.0], [0.1], [0.2], [9.0], [9.1], [9.2]])
    >>> knn_accuracy(Z, ["a", "a", "a", "b", "b", "b"], k=2)
    1.0
    """
    from sklearn.neighbors import NearestNeighbors

    Z = check_coordinates("Z", Z)
    names, codes = check_labels(labels, len(Z))
    k = check_integer("k", k, least=1, most=len(Z) - 1)
    neighbors = NearestNeighbors(n_neighbors=k).fit(Z)
    votes = codes[neighbors.kneighbors(return_distance=False)]
    counts = (votes[:, :, None] == np.arange(len(names))).sum(axis=1)
    return float((counts.argmax(axis=1) == codes).mean())
