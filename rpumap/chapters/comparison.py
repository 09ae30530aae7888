"""What chapters compare with, written once: label transfer, umap-learn, and the kind of cells."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from rpumap._validation import check_integer, check_labels
from rpumap.metrics import check_coordinates

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import ArrayLike


def describe_cells(adata: AnnData) -> str:
    """Say whether cells are simulated or real, in words for a title.

    Parameters
    ----------
    adata : AnnData
        As :mod:`rpumap.datasets` returns it: ``uns["simulated"]`` says so. Cells without that entry
        are real.

    Returns
    -------
    str
        ``"simulated cells"`` or ``"real cells"``.

    Examples
    --------
    >>> import rpumap
    >>> from rpumap.chapters.comparison import describe_cells
    >>> describe_cells(rpumap.datasets.pancreas(source="simulated"))
    'simulated cells'
    """
    return "simulated cells" if adata.uns.get("simulated") else "real cells"


def transfer_labels(Z: ArrayLike, labels: ArrayLike, Z_query: ArrayLike, k: int = 15) -> np.ndarray:
    """Give each query cell the most frequent label among its nearest reference cells.

    Parameters
    ----------
    Z : array-like of shape (n_cells, n_components)
        Coordinates of the reference cells, on a map or in gene space.
    labels : array-like of shape (n_cells,)
        Their labels.
    Z_query : array-like of shape (n_query, n_components)
        Coordinates of the query cells.
    k : int, default 15
        Number of neighbours that vote. Ties go to the label that sorts first.

    Returns
    -------
    ndarray of shape (n_query,)
        Labels of the query cells.

    Raises
    ------
    ValueError
        If there is not one label a reference cell, labels are missing, or `k` is not an integer
        from 1 to the number of reference cells.

    Notes
    -----
    Classification by the nearest neighbours (Cover and Hart 1967,
    https://doi.org/10.1109/TIT.1967.1053964) through scikit-learn.

    Examples
    --------
    >>> from rpumap.chapters.comparison import transfer_labels
    >>> transfer_labels([[0.0], [0.1], [9.0]], ["a", "a", "b"], [[0.4], [8.0]], k=1).tolist()
    ['a', 'b']
    """
    from sklearn.neighbors import KNeighborsClassifier

    Z = check_coordinates("Z", Z)
    Z_query = check_coordinates("Z_query", Z_query, n_columns=Z.shape[1])
    names, codes = check_labels(labels, len(Z))
    k = check_integer("k", k, least=1, most=len(Z))
    votes = KNeighborsClassifier(k).fit(Z, codes).predict(Z_query)
    return names[votes]


def transfer_accuracy(
    Z: ArrayLike, labels: ArrayLike, Z_query: ArrayLike, labels_query: ArrayLike, k: int = 15
) -> float:
    """Compute the share of query cells that get their own label by `transfer_labels`.

    Parameters
    ----------
    Z, labels, Z_query, k
        As in `transfer_labels`.
    labels_query : array-like of shape (n_query,)
        Labels of the query cells. A label that no reference cell has counts as missed.

    Returns
    -------
    float
        From 0 to 1; higher is better.

    Raises
    ------
    ValueError
        As `transfer_labels`, and if there is not one label a query cell, or some are missing.

    Examples
    --------
    >>> from rpumap.chapters.comparison import transfer_accuracy
    >>> transfer_accuracy([[0.0], [9.0]], ["a", "b"], [[1.0], [2.0]], ["a", "b"], k=1)
    0.5
    """
    found = transfer_labels(Z, labels, Z_query, k)
    names, codes = check_labels(labels_query, len(found))
    return float((found == names[codes]).mean())


def fit_umap_learn(
    X: ArrayLike, X_query: ArrayLike | None = None, *, random_state: int = 0, **settings: Any
) -> tuple[np.ndarray, np.ndarray | None]:
    """Embed cells with umap-learn, and map query cells by its ``transform``.

    Parameters
    ----------
    X : array-like of shape (n_cells, n_genes)
        Z-scores of the reference cells, or their distances with ``metric="precomputed"``.
    X_query : array-like of shape (n_query, n_genes), optional
        Query cells; with ``metric="precomputed"`` their distances from the reference cells.
    random_state : int, default 0
        Seed.
    **settings
        Further arguments of ``umap.UMAP``.

    Returns
    -------
    Z : ndarray of shape (n_cells, n_components), float32
        Coordinates of the reference cells.
    Z_query : ndarray of shape (n_query, n_components), float32, or None
        Coordinates of the query cells, None without them.

    Notes
    -----
    McInnes, Healy and Melville (2018), arXiv:1802.03426. One thread is used, as umap-learn needs
    for a result that can be repeated, and PyTorch keeps the number that it had. Its warnings are
    silenced: that it was given distances or neighbours, and that progress bars are missing.

    Examples
    --------
    >>> import numpy as np
    >>> from rpumap.chapters.comparison import fit_umap_learn
    >>> X = np.random.default_rng(0).normal(size=(50, 5))
    >>> Z, Z_query = fit_umap_learn(X[:40], X[40:], n_neighbors=5, n_epochs=5)
    >>> Z.shape, Z_query.shape
    ((40, 2), (10, 2))
    """
    import torch

    n_threads = torch.get_num_threads()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from umap import UMAP

            model = UMAP(random_state=random_state, n_jobs=1, **settings).fit(X)
            return model.embedding_, None if X_query is None else model.transform(X_query)
    finally:
        torch.set_num_threads(n_threads)  # numba and PyTorch share a runtime of threads
