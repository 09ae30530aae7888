r"""Certified labels: the cells whose nearest neighbours give one label anywhere in their box.

Bounds on coordinates say where a cell can go; a user wants to know whether that matters. Here the
boxes are held against labelled cells: the label of a cell is certain if k-NN gives the same one at
every point of its box.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from rpumap._validation import check_flag, check_integer, check_labels

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

# Rounding of a distance, many times over.
SLACK = 1e-9
NUMBERS_AT_ONCE = 4_000_000
# Cells looked at first, in multiples of the number of neighbours.
NEAR = 4


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
    r"""Tell for each box whether k-NN gives the same label to every point in it.

    Parameters
    ----------
    lower, upper : array-like of shape (n_boxes, n_components)
        Boxes, such as :func:`certify` returns.
    Z : array-like of shape (n_cells, n_components)
        Coordinates of labelled cells. They stay where they are.
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
        True only if the label is provably the same everywhere in the box. False if two points with
        different labels were found, or neither could be shown.

    Raises
    ------
    ValueError
        If shapes do not agree, a value is NaN, labels are missing, a lower end is above the upper
        one, or there are too few cells for `k` neighbours.

    Notes
    -----
    From any point in a box, cell j is between :math:`d_j` and :math:`D_j` away, its distances to
    the nearest and the furthest point of the box. It is among the k nearest for certain if fewer
    than k others have :math:`d \le D_j`, and can be only if fewer than k others have
    :math:`D < d_j`. A label wins for certain if it has more votes than any other one when all votes
    that are undecided go against it. Where this fails the box is halved across its longest side.

    Examples
    --------
    >>> import numpy as np
    >>> from rpumap.verification import labels_are_certain
    >>> Z = np.array([[0.0], [1.0], [2.0], [8.0], [9.0], [10.0]])
    >>> boxes = np.array([[0.5, 2.5], [3.0, 6.0]])  # the middle, 5, lies in the second
    >>> labels_are_certain(boxes[:, :1], boxes[:, 1:], Z, list("aaabbb"), k=3).tolist()
    [True, False]
    """
    lower, upper, Z = (np.asarray(array, dtype=np.float64) for array in (lower, upper, Z))
    _check_boxes(lower, upper, Z, leave_one_out)
    names, codes = check_labels(labels, len(Z))
    k = check_integer("k", k, least=1, most=len(Z) - 1)
    check_flag("leave_one_out", leave_one_out)
    max_splits = check_integer("max_splits", max_splits, least=0)
    votes = _Votes(Z, codes, len(names), k)
    own = np.arange(len(lower)) if leave_one_out else np.full(len(lower), -1)
    certain = np.all(np.isfinite(lower) & np.isfinite(upper), axis=1)
    # pieces of boxes that are still undecided: which box, and its part
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
        undecided = ~votes.wins(low, high, own[box], label[box])
        box, low, high = box[undecided], low[undecided], high[undecided]
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
            at = self.Z[cells, axis]
            below, above = low[:, axis, None] - at, at - high[:, axis, None]
            nearest += np.maximum(0, np.maximum(below, above)) ** 2
            furthest += np.minimum(below, above) ** 2
        return nearest * (1 - SLACK), furthest * (1 + SLACK)


def _leads(sure: np.ndarray, unsure: np.ndarray, label: np.ndarray, k: int) -> np.ndarray:
    """Tell whether a label beats each other one even if all undecided votes go against it.

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


def _check_boxes(
    lower: np.ndarray,
    upper: np.ndarray,
    Z: np.ndarray,
    leave_one_out: bool,
) -> None:
    if lower.ndim != 2 or lower.shape != upper.shape or Z.shape[1:] != lower.shape[1:]:
        raise ValueError(
            "lower and upper must have shape (n_boxes, n_components) and Z (n_cells, "
            f"n_components), got {lower.shape}, {upper.shape} and {Z.shape}"
        )
    if leave_one_out and len(lower) != len(Z):
        raise ValueError(f"leave_one_out needs one box a cell, got {len(lower)} for {len(Z)} cells")
    if np.isnan(lower).any() or np.isnan(upper).any() or not np.isfinite(Z).all():
        raise ValueError("lower, upper and Z must hold no NaN, and Z must be finite")
    if (lower > upper).any():
        raise ValueError(f"lower is above upper in box {int((lower > upper).any(1).argmax())}")
