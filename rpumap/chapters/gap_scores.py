"""The scores of chapter 5: where a map puts cells of a kind that it was not trained on.

Reference cells are those that the map was trained on; new cells are the others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from rpumap._validation import check_coordinates, check_integer, check_labels, check_number

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


def type_overlap(
    X: ArrayLike, Z: ArrayLike, labels: ArrayLike, X_new: ArrayLike, Z_new: ArrayLike, k: int = 15
) -> np.ndarray:
    r"""Compare the types around each new cell on the map with the types around it in gene space.

    Parameters
    ----------
    X : array-like of shape (n_cells, n_genes)
        Z-scores of the reference cells.
    Z : array-like of shape (n_cells, n_components)
        Their coordinates on the map.
    labels : array-like of shape (n_cells,)
        Their types.
    X_new : array-like of shape (n_new, n_genes)
        Z-scores of the new cells.
    Z_new : array-like of shape (n_new, n_components)
        Their coordinates. Only reference cells count as neighbours.
    k : int, default 15
        Size of a neighbourhood.

    Returns
    -------
    ndarray of shape (n_new,), float64
        From 0, no type in common, to 1, the same mix of types. Higher is better.

    Raises
    ------
    ValueError
        If the numbers of rows disagree, labels are missing, or `k` is not an integer from 1 to
        the number of reference cells.

    Notes
    -----
    With :math:`p_t` the share of type :math:`t` among the `k` nearest reference cells in gene space
    and :math:`q_t` the share on the map, the overlap is :math:`\sum_t \min(p_t, q_t)`, one minus
    the total variation distance; histogram intersection is another name (Swain and Ballard 1991,
    https://doi.org/10.1007/BF00130487). New cells may be of a type that no reference cell has.

    Examples
    --------
    >>> import numpy as np
    >>> from rpumap.chapters.gap_scores import type_overlap
    >>> X, labels = np.array([[0.0], [1.0], [8.0], [9.0]]), ["a", "a", "b", "b"]
    >>> type_overlap(X, 2 * X, labels, [[3.0], [3.0]], [[6.0], [16.0]], k=2)
    array([1., 0.])
    """
    from sklearn.neighbors import NearestNeighbors

    X, Z = check_coordinates("X", X), check_coordinates("Z", Z)
    X_new = check_coordinates("X_new", X_new, n_columns=X.shape[1])
    Z_new = check_coordinates("Z_new", Z_new, n_columns=Z.shape[1])
    names, codes = check_labels(labels, len(X))
    if len(X) != len(Z):
        raise ValueError(
            f"X, Z and labels must describe the same cells, got {len(X)}, {len(Z)} and {len(codes)}"
        )
    if len(X_new) != len(Z_new):
        raise ValueError(f"X_new has {len(X_new)} cells and Z_new {len(Z_new)}")
    k = check_integer("k", k, least=1, most=len(X))
    shares = []
    for reference, new in ((X, X_new), (Z, Z_new)):
        search = NearestNeighbors(n_neighbors=k).fit(reference)
        found = codes[search.kneighbors(new, return_distance=False)]
        shares.append((found[:, :, None] == np.arange(len(names))).mean(axis=1))
    return np.minimum(*shares).sum(axis=1)


def isolation(Z: ArrayLike, Z_new: ArrayLike, k: int = 5, quantile: float = 0.95) -> np.ndarray:
    """Measure how far new cells lie from reference cells, in spacings of reference cells.

    Parameters
    ----------
    Z : array-like of shape (n_cells, n_components)
        Coordinates of the reference cells.
    Z_new : array-like of shape (n_new, n_components)
        Coordinates of the new cells.
    k : int, default 5
        The distance is that to the k-th nearest reference cell.
    quantile : float, default 0.95
        The spacing is this quantile of the same distance among reference cells, from 0 to 1.

    Returns
    -------
    ndarray of shape (n_new,), float64
        At least 0. By default, a cell above 1 is more isolated than 95 % of the reference cells:
        it lies in a gap, or outside the map. Neither direction is better in itself.

    Raises
    ------
    ValueError
        If `k` is not an integer of at least 1 and below the number of reference cells, or the
        reference cells lie in one spot.

    Notes
    -----
    The distance to the k-th nearest neighbour as a mark of outliers is that of Ramaswamy, Rastogi
    and Shim (2000), https://doi.org/10.1145/342009.335437; the unit is this book's (chapter 5).

    Examples
    --------
    >>> import numpy as np
    >>> from rpumap.chapters.gap_scores import isolation
    >>> Z = np.arange(10.0)[:, None]
    >>> isolation(Z, [[4.0], [14.0]], k=1, quantile=0.5)
    array([0., 5.])
    """
    from sklearn.neighbors import NearestNeighbors

    Z = check_coordinates("Z", Z)
    Z_new = check_coordinates("Z_new", Z_new, n_columns=Z.shape[1])
    k = check_integer("k", k, least=1, most=len(Z) - 1)
    quantile = check_number("quantile", quantile, most=1)
    search = NearestNeighbors(n_neighbors=k).fit(Z)
    spacing = np.quantile(search.kneighbors()[0][:, -1], quantile)  # does not count a cell itself
    if spacing == 0:
        raise ValueError("the reference cells lie on top of each other: there is no spacing")
    return search.kneighbors(Z_new)[0][:, -1] / spacing


def path_position(
    Z_new: ArrayLike, left: ArrayLike, right: ArrayLike
) -> tuple[np.ndarray, np.ndarray]:
    """Locate cells with respect to the line from one group of cells to another.

    Parameters
    ----------
    Z_new : array-like of shape (n_new, n_components)
        Coordinates of the cells in question.
    left, right : array-like of shape (any number of cells, n_components)
        Coordinates of the two groups. Their medians, coordinate by coordinate, are the ends of
        the line.

    Returns
    -------
    along : ndarray of shape (n_new,), float64
        0 beside the median of `left`, 1 beside that of `right`; below 0 or above 1 beyond them.
    aside : ndarray of shape (n_new,), float64
        Distance from the line, at least 0, in the same unit: the distance of the two medians.

    Raises
    ------
    ValueError
        If a group is empty or the two medians coincide.

    Notes
    -----
    The orthogonal projection on a line; this book's (chapter 5). Neither direction of `along` is
    better in itself. A cell on the way from one group to the other has `aside` near 0.

    Examples
    --------
    >>> from rpumap.chapters.gap_scores import path_position
    >>> along, aside = path_position([[1.0, 2.0]], left=[[0.0, 0.0]], right=[[4.0, 0.0]])
    >>> float(along[0]), float(aside[0])
    (0.25, 0.5)
    """
    Z_new = check_coordinates("Z_new", Z_new).astype(float)
    left, right = (
        check_coordinates(name, group, n_columns=Z_new.shape[1]).astype(float)
        for name, group in (("left", left), ("right", right))
    )
    if not len(left) or not len(right):
        raise ValueError("both groups must have cells")
    start = np.median(left, axis=0)
    line = np.median(right, axis=0) - start
    length = np.linalg.norm(line)
    if length == 0:
        raise ValueError("the two groups have the same median: there is no line between them")
    along = (Z_new - start) @ line / length**2
    aside = np.linalg.norm(Z_new - start - along[:, None] * line, axis=1) / length
    return along, aside


def crowding(Z: ArrayLike, Z_new: ArrayLike, k: int = 15) -> float:
    """Compare how many reference cells lie around a reference cell and around a new one.

    Parameters
    ----------
    Z : array-like of shape (n_cells, n_components)
        Coordinates of the reference cells.
    Z_new : array-like of shape (n_new, n_components)
        Coordinates of cells that took no part in training.
    k : int, default 15
        Number of neighbours, taken among all cells, the cell itself not counted.

    Returns
    -------
    float
        Reference cells among the `k` nearest neighbours of a reference cell, on average, divided
        by those among the neighbours of a new cell. About 1 where both have the same density on
        the map, more where reference cells lie among themselves; infinite where no reference cell
        is near a new one.

    Raises
    ------
    ValueError
        If there are no cells of one kind, or `k` is not an integer of at least 1 and below the
        number of all cells.

    Notes
    -----
    A cell is not its own neighbour, so that the expectation for cells mixed at random is
    ``(n_cells - 1) / n_cells``. The idea is that of the nearest-neighbour test for two samples
    (Schilling 1986, J. Am. Stat. Assoc. 81:799-806, https://www.jstor.org/stable/2289012).

    Examples
    --------
    >>> import numpy as np
    >>> from rpumap.chapters.gap_scores import crowding
    >>> Z, Z_new = np.arange(10.0)[:, None], np.arange(10.0)[:, None] + 0.5
    >>> round(crowding(Z, Z_new, k=2), 3)  # neighbours of each are mostly of the other kind
    0.053
    """
    from sklearn.neighbors import NearestNeighbors

    Z = check_coordinates("Z", Z)
    Z_new = check_coordinates("Z_new", Z_new, n_columns=Z.shape[1])
    n, both = len(Z), np.concatenate([Z, Z_new])
    if n == 0 or len(Z_new) == 0:
        raise ValueError("both reference cells and new cells are needed")
    k = check_integer("k", k, least=1, most=len(both) - 1)
    near = NearestNeighbors(n_neighbors=k).fit(both).kneighbors(return_distance=False) < n
    around_new = near[n:].mean()
    return float(near[:n].mean() / around_new) if around_new else float("inf")


def gap_between(
    Z: ArrayLike, left: ArrayLike, right: ArrayLike, aside: float = 0.5
) -> tuple[np.ndarray, tuple[float, float], np.ndarray]:
    """Find the gap between two groups of cells on a map, and the cells that lie in it.

    Parameters
    ----------
    Z : array-like of shape (n_cells, n_components)
        Coordinates of all cells.
    left, right : array-like of shape (n_cells,), bool
        Which cells belong to the two groups.
    aside : float, default 0.5
        How far from the line between the groups a cell of the gap may lie, in units of the distance
        of their medians.

    Returns
    -------
    along : ndarray of shape (n_cells,), float64
        Position of each cell along the line, as `path_position` gives it.
    ends : tuple of two float
        Where the gap begins and ends: the 95 % quantile of `along` in `left` and the 5 % quantile
        in `right`. Where the groups overlap, the second is below the first, and there is no gap.
    inside : ndarray of shape (n_cells,), bool
        Which cells lie between the ends and at most `aside` from the line.

    Raises
    ------
    ValueError
        As `path_position`.

    Notes
    -----
    This book's (chapter 5): the share of cells inside is from 0 to 1, and more of them fill the gap
    better, though a gap may also be filled at random.

    Examples
    --------
    >>> import numpy as np
    >>> from rpumap.chapters.gap_scores import gap_between
    >>> Z = np.array([[0.0, 0.0], [2.0, 0.0], [4.0, 0.0], [2.0, 3.0]])
    >>> along, ends, inside = gap_between(Z, [1, 0, 0, 0], [0, 0, 1, 0])
    >>> inside
    array([False,  True, False, False])
    """
    Z = check_coordinates("Z", Z)
    left, right = _marks("left", left, len(Z)), _marks("right", right, len(Z))
    along, away = path_position(Z, Z[left], Z[right])
    ends = float(np.quantile(along[left], 0.95)), float(np.quantile(along[right], 0.05))
    return along, ends, (along > ends[0]) & (along < ends[1]) & (away <= aside)


def diffusion_time(X: ArrayLike, roots: ArrayLike, n_neighbors: int = 15) -> np.ndarray:
    """Order cells by how far a random walk among them is from a first cell.

    Parameters
    ----------
    X : array-like of shape (n_cells, n_genes)
        Z-scores of the cells.
    roots : array-like of shape (n_cells,), bool
        The type in which development begins. The first cell is the one of them that lies furthest
        out on the first diffusion component, on their side.
    n_neighbors : int, default 15
        Size of a neighbourhood.

    Returns
    -------
    ndarray of shape (n_cells,), float32
        0 for the first cell, 1 for the cell furthest from it. It is a model of development, not a
        measurement.

    Raises
    ------
    ValueError
        If no cell is a root.

    Notes
    -----
    Diffusion pseudotime (Haghverdi et al. 2016, doi:10.1038/nmeth.3971) through scanpy, with
    Gaussian weights between neighbours.

    Examples
    --------
    >>> import numpy as np
    >>> from rpumap.chapters.gap_scores import diffusion_time
    >>> X = np.linspace(0, 1, 60)[:, None]
    >>> time = diffusion_time(X, X[:, 0] < 0.1, n_neighbors=5)
    >>> bool(time[:20].max() < time[40:].min())
    True
    """
    import scanpy as sc
    from anndata import AnnData

    X = check_coordinates("X", X).astype(np.float32)
    roots = np.flatnonzero(_marks("roots", roots, len(X)))
    if not len(roots):
        raise ValueError("no cell is marked as a root")
    walk = AnnData(X)
    sc.pp.neighbors(walk, n_neighbors=n_neighbors, use_rep="X", method="gauss")
    sc.tl.diffmap(walk)
    first = walk.obsm["X_diffmap"][:, 1]
    side = np.sign(first[roots].mean() - first.mean())
    walk.uns["iroot"] = int(roots[np.argmax(side * first[roots])])
    sc.tl.dpt(walk)
    return walk.obs["dpt_pseudotime"].to_numpy()


def _marks(name: str, marks: ArrayLike, n_cells: int) -> np.ndarray:
    """Return which cells are marked; text or labels would all be true."""
    marks = np.asarray(marks)
    if marks.shape != (n_cells,) or not np.isin(marks, (0, 1)).all():
        raise ValueError(f"{name} must hold True or False for each of {n_cells} cells")
    return marks.astype(bool)
