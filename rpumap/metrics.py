"""The scores that the book reports."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


def trustworthiness(X: ArrayLike, Z: ArrayLike, k: int = 15) -> float:
    """Share of neighbourhood in the embedding that was neighbourhood in gene space too.

    Parameters
    ----------
    X : array-like of shape (n_cells, n_genes)
        The cells.
    Z : array-like of shape (n_cells, n_components)
        Their embedding.
    k : int
        Size of a neighbourhood, the cell itself not counted; below half the number of cells.

    Returns
    -------
    float
        From 0 to 1; higher is better. A random placement scores about 0.5.

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

    return float(score(X, Z, n_neighbors=k))


def knn_accuracy(Z: ArrayLike, labels: ArrayLike, k: int = 15) -> float:
    """Share of cells whose label is the commonest one among their neighbours on the map.

    Parameters
    ----------
    Z : array-like of shape (n_cells, n_components)
        An embedding.
    labels : array-like of shape (n_cells,)
        Cell types.
    k : int
        Number of neighbours, the cell itself not counted.

    Returns
    -------
    float
        From 0 to 1; higher is better.

    Notes
    -----
    Leave-one-out k-NN classification with scikit-learn; ties go to the label that sorts first.

    Examples
    --------
    >>> import numpy as np
    >>> from rpumap.metrics import knn_accuracy
    >>> Z = np.array([[0.0], [0.1], [0.2], [9.0], [9.1], [9.2]])
    >>> knn_accuracy(Z, ["a", "a", "a", "b", "b", "b"], k=2)
    1.0
    """
    from sklearn.neighbors import NearestNeighbors

    names, codes = np.unique(np.asarray(labels), return_inverse=True)
    neighbors = NearestNeighbors(n_neighbors=k).fit(np.asarray(Z))
    votes = codes[neighbors.kneighbors(return_distance=False)]
    counts = (votes[:, :, None] == np.arange(len(names))).sum(axis=1)
    return float((counts.argmax(axis=1) == codes).mean())
