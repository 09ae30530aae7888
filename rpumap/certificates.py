r"""What can be promised about a fitted map: where a cell may move, and if its label may change.

:func:`certify` bounds the places of cells over balls or boxes, :func:`dropout_box` makes the box in
which counts were lost, and :func:`labels_are_certain` turns bounds on places into something to act
on: the cells whose nearest neighbours on the map give one label wherever they are in their box.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted, validate_data

from rpumap import bounds
from rpumap.estimator import ParametricUMAP, dense
from rpumap.preprocessing import Preprocessor, panel_counts, uncounted

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import ArrayLike

Method = Literal["crown", "crown_ibp", "ibp"]
METHODS = {"ibp": bounds.ibp, "crown_ibp": bounds.crown_ibp, "crown": bounds.crown}
# Rounding of a distance, many times over.
SLACK = 1e-9
NUMBERS_AT_ONCE = 4_000_000
# Cells looked at first, in multiples of the number of neighbours.
NEAR = 4


def certify(
    model: ParametricUMAP,
    X: ArrayLike | None = None,
    eps: float | None = None,
    norm: str = "linf",
    method: Method = "crown",
    *,
    lower_input: ArrayLike | None = None,
    upper_input: ArrayLike | None = None,
    max_changed: int | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Bound where cells can be placed when their values change a little.

    Parameters
    ----------
    model : ParametricUMAP
        A fitted model.
    X : array-like or sparse matrix of shape (n_cells, n_genes)
        Z-scores; centres of the balls.
    eps : float
        Radius of the balls, in standard deviations of a gene.
    norm : {"linf", "l2", "l1"}
        What is at most `eps`: the largest change of a gene, the Euclidean length of the change, or
        the sum of its magnitudes.
    method : {"crown", "crown_ibp", "ibp"}
        From tight and slow to loose and fast; see :mod:`rpumap.bounds`.
    lower_input, upper_input : array-like of shape (n_cells, n_genes)
        Ends of a box for each cell, in place of `X` and `eps`.
    max_changed : int, optional
        With `X` and a box about it: at most so many genes of a cell differ from `X`.

    Returns
    -------
    lower, upper : ndarray of shape (n_cells, n_components), float32
        No cell of the ball or box is placed below `lower` or above `upper`, floating-point
        rounding included (``rounding="computed"`` of :func:`rpumap.bounds.crown`).

    Raises
    ------
    TypeError
        If `model` is not a ParametricUMAP.
    sklearn.exceptions.NotFittedError
        If it is not fitted.
    ValueError
        If the number of genes differs from that in `fit`, a value is not finite, `method` is
        unknown, or as :func:`rpumap.bounds.crown` says.

    Examples
    --------
    >>> import numpy as np
    >>> import rpumap
    >>> X = np.random.default_rng(0).normal(size=(200, 10))
    >>> model = rpumap.ParametricUMAP(n_steps=20, random_state=0).fit(X)
    >>> lower, upper = rpumap.certify(model, X, eps=0.1)
    >>> moved = model.transform(X + 0.1 * np.sign(X))
    >>> bool(((lower <= moved) & (moved <= upper)).all())
    True
    """
    check_model(model)
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}, got {method!r}")
    given = {"x": X, "lower_input": lower_input, "upper_input": upper_input}
    tensors = {name: _tensor(model, value) for name, value in given.items() if value is not None}
    with torch.no_grad():
        lower, upper = METHODS[method](
            model.encoder_,
            eps=eps,
            norm=norm,
            max_changed=max_changed,
            rounding="computed",
            **tensors,
        )
    return lower.numpy(), upper.numpy()


def dropout_box(
    prep: Preprocessor,
    adata: AnnData,
    genes: Sequence[str] | None = None,
    *,
    library_size_falls: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    r"""Return the box from "these counts were lost" to "as observed".

    Parameters
    ----------
    prep : Preprocessor
        Fitted.
    adata : AnnData of shape (n_cells, any number of genes)
        Raw counts in ``X``, as ``prep.transform`` takes them.
    genes : sequence of str, optional
        Genes whose counts may be lost, in part or altogether; by default all of ``prep.genes_``.
    library_size_falls : bool
        Whether what is lost is missing from the library size too. Each normalised value then
        rises as counts of other genes are lost, and the box holds that as well.

    Returns
    -------
    lower, upper : ndarray of shape (n_cells, n_top_genes), float32
        Z-scores. Where nothing can change the two are the same. Without `library_size_falls`,
        `upper` is what ``prep.transform`` returns.

    Raises
    ------
    sklearn.exceptions.NotFittedError
        If `prep` is not fitted.
    ValueError
        If a gene is none of ``prep.genes_``, or as ``prep.transform``.

    Notes
    -----
    With :math:`c_g` counts of gene :math:`g`, library size :math:`L`, and :math:`c_S` counts of all
    the genes that may be lost, the share of one of these in the library runs from 0 to
    :math:`c_g / (L - c_S + c_g)`, that of another gene from :math:`c_g / L` to
    :math:`c_g / (L - c_S)`. What follows (the target sum, ``log1p``, the z-score) is monotone.
    Counts of genes outside ``prep.genes_`` are taken as kept.

    Examples
    --------
    >>> import rpumap
    >>> from rpumap.certificates import dropout_box
    >>> adata = rpumap.datasets.pancreas(source="simulated")[:200]
    >>> prep = rpumap.Preprocessor(n_top_genes=50).fit(adata)
    >>> lower, upper = dropout_box(prep, adata, prep.genes_[:3])
    >>> (lower < upper).any(axis=0).tolist()[:5]
    [True, True, True, False, False]
    """
    upper = prep.transform(adata)
    wanted = prep.genes_ if genes is None else np.atleast_1d(np.asarray(genes, dtype=str))
    unknown = np.setdiff1d(wanted, prep.genes_)
    if len(unknown):
        raise ValueError(f"genes must be among those of prep, got {', '.join(unknown[:5])}")
    present = np.isin(prep.genes_, adata.var_names)
    lost = np.isin(prep.genes_, wanted) & present
    lower = upper.copy()
    lower[:, lost] = prep.standardize(np.zeros(upper.shape))[:, lost]
    if library_size_falls:
        highest = prep.standardize(_highest_values(prep, adata, lost))
        # one step up, because this was not rounded as prep.transform rounds
        upper[:, present] = np.nextafter(highest, np.float32(np.inf))[:, present]
    return lower, upper


def _highest_values(prep: Preprocessor, adata: AnnData, lost: np.ndarray) -> np.ndarray:
    """Scale each count as if all that may be lost were, but for the count itself."""
    counts = panel_counts(prep, adata)
    kept = uncounted(adata, counts[:, lost])
    left = kept[:, None] + counts * lost
    return prep.target_sum * np.divide(counts, left, out=np.zeros_like(counts), where=counts > 0)


def labels_are_certain(
    lower: ArrayLike,
    upper: ArrayLike,
    Z: ArrayLike,
    labels: ArrayLike,
    k: int = 15,
    *,
    leave_one_out: bool = False,
    max_splits: int = 10,
) -> np.ndarray:
    r"""Tell for each box whether k-NN gives the same label to every place in it.

    Parameters
    ----------
    lower, upper : array-like of shape (n_boxes, n_components)
        Boxes, such as :func:`certify` returns.
    Z : array-like of shape (n_cells, n_components)
        Places of labelled cells. They stay where they are.
    labels : array-like of shape (n_cells,)
        Their labels. The commonest among the k nearest counts; of equally common ones, that which
        sorts first.
    k : int
        Number of neighbours.
    leave_one_out : bool
        Whether box i belongs to cell i of `Z`, which then is no neighbour of itself.
    max_splits : int
        How often a box that is neither shown certain nor shown mixed is cut in two. More cuts find
        more of the certain ones; each may double the time.

    Returns
    -------
    ndarray of bool, shape (n_boxes,)
        True only if the label is provably the same everywhere in the box. False if two places with
        different labels were found, or neither could be shown.

    Raises
    ------
    ValueError
        If shapes do not agree, a value is NaN, a lower end is above the upper one, or there are
        too few cells for `k` neighbours.

    Notes
    -----
    From any place in a box, cell j is between :math:`d_j` and :math:`D_j` away, its distances to
    the nearest and the furthest point of the box. It is among the k nearest for certain if fewer
    than k others have :math:`d \le D_j`, and can be only if fewer than k others have
    :math:`D < d_j`. A label wins for certain if it has more votes than any other one when all votes
    that are open go against it. Where this fails the box is halved across its longest side.

    Examples
    --------
    >>> import numpy as np
    >>> from rpumap.certificates import labels_are_certain
    >>> Z = np.array([[0.0], [1.0], [2.0], [8.0], [9.0], [10.0]])
    >>> boxes = np.array([[0.5, 2.5], [3.0, 6.0]])  # the middle, 5, lies in the second
    >>> labels_are_certain(boxes[:, :1], boxes[:, 1:], Z, list("aaabbb"), k=3).tolist()
    [True, False]
    """
    lower, upper, Z = (np.asarray(array, dtype=np.float64) for array in (lower, upper, Z))
    names, codes = np.unique(np.asarray(labels), return_inverse=True)
    _check_boxes(lower, upper, Z, codes, k, leave_one_out)
    votes = _Votes(Z, codes, len(names), k)
    own = np.arange(len(lower)) if leave_one_out else np.full(len(lower), -1)
    certain = np.isfinite(lower).all(axis=1) & np.isfinite(upper).all(axis=1)
    # pieces of boxes that are still open: which box, and its part
    box = np.flatnonzero(certain)
    low, high = lower[box], upper[box]
    label = np.zeros(len(lower), dtype=int)
    label[box] = votes.at((low + high) / 2, own[box])
    for depth in range(max_splits + 1):
        mixed = votes.at((low + high) / 2, own[box]) != label[box]
        for corner in (low, high):
            mixed |= votes.at(corner, own[box]) != label[box]
        certain[box[mixed]] = False
        box, low, high = (array[certain[box]] for array in (box, low, high))
        open_ = ~votes.wins(low, high, own[box], label[box])
        box, low, high = box[open_], low[open_], high[open_]
        if depth == max_splits or not len(box):
            break
        box, low, high = _halve(box, low, high)
    certain[box] = False
    return certain


def _halve(
    box: np.ndarray, low: np.ndarray, high: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rows, longest = np.arange(len(box)), (high - low).argmax(axis=1)
    middle = (low + high)[rows, longest] / 2
    left, right = high.copy(), low.copy()
    left[rows, longest] = right[rows, longest] = middle
    return np.tile(box, 2), np.concatenate([low, right]), np.concatenate([left, high])


class _Votes:
    """Votes of the k nearest labelled cells, at a point or anywhere in a box."""

    def __init__(self, Z: np.ndarray, codes: np.ndarray, n_labels: int, k: int) -> None:
        from scipy.spatial import KDTree

        self.Z, self.k = Z, k
        self.one_hot = np.eye(n_labels)[codes]
        self.tree = KDTree(Z)

    def at(self, points: np.ndarray, own: np.ndarray) -> np.ndarray:
        """Return the label at each point; `own` is the cell that does not count there, or -1."""
        if not len(points):
            return np.empty(0, dtype=int)
        _, near = self.tree.query(points, self.k + 1)
        others = near != own[:, None]
        others[others.all(axis=1), -1] = False  # drop the own cell, or else the last one
        near = near[others].reshape(len(points), self.k)
        return self.one_hot[near].sum(axis=1).argmax(axis=1)

    def wins(
        self, low: np.ndarray, high: np.ndarray, own: np.ndarray, label: np.ndarray
    ) -> np.ndarray:
        """Tell whether a label has most votes wherever in its box one stands."""
        won = np.zeros(len(low), dtype=bool)
        todo = np.arange(len(low))
        # The cells that can have a vote are mostly among the nearest few of the middle.
        for n_cells in sorted({min(NEAR * self.k, len(self.Z)), len(self.Z)}):
            step = max(1, NUMBERS_AT_ONCE // (n_cells * self.one_hot.shape[1]))
            missed = []
            for start in range(0, len(todo), step):
                at = todo[start : start + step]
                won[at], enough = self._wins(low[at], high[at], own[at], label[at], n_cells)
                missed.append(at[~enough])
            todo = np.concatenate(missed) if missed else todo
        return won

    def _wins(
        self, low: np.ndarray, high: np.ndarray, own: np.ndarray, label: np.ndarray, n_cells: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Do so with the cells nearest to the middle, and tell if they are all that matter."""
        distance, cells = self.tree.query((low + high) / 2, n_cells)
        nearest, furthest = self._distances(low, high, cells)
        nearest[cells == own[:, None]] = furthest[cells == own[:, None]] = np.inf
        kth_furthest = np.partition(furthest, self.k - 1, axis=1)[:, self.k - 1 : self.k]
        next_nearest = np.partition(nearest, self.k, axis=1)[:, self.k : self.k + 1]
        # A cell that was left out is at least so far from every point of the box.
        beyond = np.maximum(0, distance[:, -1] - np.linalg.norm(high - low, axis=1) / 2)
        enough = (beyond**2 > kth_furthest[:, 0]) | (n_cells == len(self.Z))

        surely, maybe = furthest < next_nearest, nearest <= kth_furthest
        votes = self.one_hot[cells]
        sure = np.einsum("ij,ijl->il", surely, votes)
        unsure = np.einsum("ij,ijl->il", maybe & ~surely, votes)
        return _leads(sure, unsure, label, self.k) & enough, enough

    def _distances(
        self, low: np.ndarray, high: np.ndarray, cells: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return least and largest squared distance from each box to each of its cells."""
        nearest, furthest = np.zeros((2, *cells.shape))
        for axis in range(self.Z.shape[1]):
            place = self.Z[cells, axis]
            below, above = low[:, axis, None] - place, place - high[:, axis, None]
            nearest += np.maximum(0, np.maximum(below, above)) ** 2
            furthest += np.minimum(below, above) ** 2
        return nearest * (1 - SLACK), furthest * (1 + SLACK)


def _leads(sure: np.ndarray, unsure: np.ndarray, label: np.ndarray, k: int) -> np.ndarray:
    """Tell whether a label beats each other one even if all votes that are open go against it.

    `sure` and `unsure` count the votes, (n_boxes, n_labels), that are certain and that may be.
    """
    rows = np.arange(len(sure))
    free = k - sure.sum(axis=1, keepdims=True)
    # A rival takes what free votes it can; the rest goes to third parties first.
    to_rival = np.minimum(free, unsure)
    third = unsure.sum(axis=1, keepdims=True) - unsure - unsure[rows, label][:, None]
    left = np.maximum(0, free - to_rival - third)
    ahead = sure[rows, label][:, None] + left > sure + to_rival
    ahead[rows, label] = True
    return ahead.all(axis=1)


def certified_label_fraction(
    model: ParametricUMAP,
    X: ArrayLike,
    labels: ArrayLike,
    eps: float,
    norm: str = "linf",
    method: Method = "crown",
    *,
    k: int = 15,
) -> float:
    """Share of cells whose k-NN label on the map provably cannot change within a ball.

    Parameters
    ----------
    model : ParametricUMAP
        A fitted model.
    X : array-like of shape (n_cells, n_genes)
        Labelled cells. Each in turn moves within its ball, the others stay where they are.
    labels : array-like of shape (n_cells,)
        Their labels.
    eps, norm, method
        As in :func:`certify`.
    k : int
        Number of neighbours, the cell itself not counted.

    Returns
    -------
    float
        From 0 to 1; higher is better. A certain label need not be the right one.

    Raises
    ------
    TypeError, ValueError
        As :func:`certify` and :func:`labels_are_certain`.

    Examples
    --------
    >>> import numpy as np
    >>> import rpumap
    >>> X = np.random.default_rng(0).normal(size=(200, 10)) + 9 * np.repeat([[0], [1]], 100, axis=0)
    >>> model = rpumap.ParametricUMAP(n_steps=50, random_state=0).fit(X)
    >>> labels = np.repeat(["a", "b"], 100)
    >>> rpumap.certified_label_fraction(model, X, labels, eps=0.0)
    1.0
    """
    lower, upper = certify(model, X, eps, norm, method)
    Z = model.transform(X)
    certain = labels_are_certain(lower, upper, Z, labels, k, leave_one_out=True)
    return float(certain.mean())


def _tensor(model: ParametricUMAP, X: ArrayLike) -> torch.Tensor:
    X = validate_data(model, X, dtype=np.float32, accept_sparse="csr", reset=False)
    return torch.as_tensor(dense(X))


def check_model(model: ParametricUMAP) -> None:
    """Raise TypeError or NotFittedError unless `model` is a fitted ParametricUMAP."""
    if not isinstance(model, ParametricUMAP):
        raise TypeError(
            f"model must be a fitted ParametricUMAP, got {type(model).__name__}; "
            "rpumap.bounds takes a torch.nn.Sequential"
        )
    check_is_fitted(model)


def _check_boxes(
    lower: np.ndarray,
    upper: np.ndarray,
    Z: np.ndarray,
    codes: np.ndarray,
    k: int,
    leave_one_out: bool,
) -> None:
    if lower.ndim != 2 or lower.shape != upper.shape or Z.shape[1:] != lower.shape[1:]:
        raise ValueError(
            "lower and upper must have shape (n_boxes, n_components) and Z (n_cells, "
            f"n_components), got {lower.shape}, {upper.shape} and {Z.shape}"
        )
    if len(codes) != len(Z):
        raise ValueError(f"{len(codes)} labels for {len(Z)} cells")
    if leave_one_out and len(lower) != len(Z):
        raise ValueError(f"leave_one_out needs one box a cell, got {len(lower)} for {len(Z)} cells")
    if np.isnan(lower).any() or np.isnan(upper).any() or not np.isfinite(Z).all():
        raise ValueError("lower, upper and Z must hold no NaN, and Z must be finite")
    if (lower > upper).any():
        raise ValueError(f"lower is above upper in box {int((lower > upper).any(1).argmax())}")
    if not 1 <= k < len(Z):
        raise ValueError(f"k must be at least 1 and below the {len(Z)} cells, got {k}")
