r"""Certified labels: the cells whose nearest neighbours give one label anywhere in their box.

Bounds on coordinates say where a cell can go; a user wants to know whether that matters. Here the
boxes are held against labelled cells: the label of a cell is certain if k-NN gives the same one at
every point of its box.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import reduce
from itertools import product
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from rpumap._validation import check_flag, check_integer, check_labels

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

# Rounding of a distance, many times over.
SLACK = 1e-9
NUMBERS_AT_ONCE = 500_000
# Cells looked at first: so many times the number of neighbours, and a few more.
NEAR, MORE = 3, 20
# Tiles of the map: how many a cell, how many at most, and in up to how many dimensions.
TILES_A_CELL, MOST_TILES, MOST_TILED_AXES = 16, 2**20, 3


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
    Let c be the middle of a box and h half its diagonal. The score of cell j at a point p of the
    box, :math:`|p - z_j|^2 - |p - c|^2 + |h|^2`, puts the cells into the same order as their
    distances from p. It changes linearly with p, so its least and its largest value in the box,
    :math:`d_j` and :math:`D_j`, are exactly :math:`\sum_a (|c_a - z_{ja}| \mp h_a)^2`. Let
    :math:`t_1 \le \dots \le t_k` be the k smallest :math:`D`. The k-th lowest score at p is at most
    :math:`t_k`. If :math:`t_i` is the first that it does not exceed, the i - 1 cells before it have
    lower scores and vote, and only cells with :math:`d \le t_i` can vote. A label wins for certain
    if, for every i, it has more votes than any other one when all votes that are undecided go
    against it. Where this fails the box is halved across its longest side.

    Boxes of different cells overlap. In up to three dimensions the map is therefore also cut into
    tiles, once, unless `max_splits` is 0. The label that wins in a tile counts for all boxes; with
    `leave_one_out` it must lead by two of the k + 1 nearest cells there, and so wins whichever cell
    is left out.

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
    index = np.arange(len(lower))
    own = index if leave_one_out else np.full(len(index), -1)
    certain = np.all(np.isfinite(lower) & np.isfinite(upper), axis=1)
    boxes = _Boxes(lower, upper, own, own, index).only(certain)
    boxes = boxes._replace(label=votes.at(boxes.middle, boxes.own))
    tiles = None
    for depth in range(max_splits + 1):
        boxes = boxes.halves() if depth else boxes
        points = boxes.middle, boxes.low, boxes.high
        mixed = np.any([votes.at(point, boxes.own) != boxes.label for point in points], axis=0)
        certain[boxes.whole[mixed]] = False
        boxes = boxes.only(certain[boxes.whole])
        if max_splits and Z.shape[1] <= MOST_TILED_AXES:
            tiles = tiles or _Tiles(votes, boxes, spare=int(leave_one_out))
            mixed, won = tiles.look_up(boxes)
            certain[boxes.whole[mixed]] = False
            boxes = boxes.only(certain[boxes.whole] & ~won)
        boxes = boxes.only(~votes.win(boxes))
    certain[boxes.whole] = False
    return certain


class _Boxes(NamedTuple):
    """Boxes or pieces of them, a row each."""

    low: np.ndarray
    high: np.ndarray
    own: np.ndarray  # the cell that is left out, or -1
    label: np.ndarray  # the label that may be certain
    whole: np.ndarray  # the number of the box that it is or comes from

    @property
    def middle(self) -> np.ndarray:
        return (self.low + self.high) / 2

    def only(self, which: np.ndarray) -> _Boxes:
        return _Boxes(*(array[which] for array in self))

    def halves(self) -> _Boxes:
        """Cut each across its longest side."""
        rows, longest = np.arange(len(self.low)), (self.high - self.low).argmax(axis=1)
        left, right = self.high.copy(), self.low.copy()
        left[rows, longest] = right[rows, longest] = self.middle[rows, longest]
        ends = np.concatenate([self.low, right]), np.concatenate([left, self.high])
        return _Boxes(*ends, *(np.tile(array, 2) for array in self[2:]))


class _Votes:
    """Votes of the k nearest labelled cells, at a point or anywhere in a box."""

    def __init__(self, Z: np.ndarray, codes: np.ndarray, n_labels: int, k: int) -> None:
        from scipy.spatial import KDTree

        self.Z, self.k = Z, k
        self.one_hot = np.eye(n_labels)[codes]
        self.tree = KDTree(Z)

    def at(self, points: np.ndarray, own: np.ndarray) -> np.ndarray:
        """Return the label at each point; `own` is the cell that does not count there, or -1."""
        _, near = self.tree.query(points, self.k + 1)
        others = near != own[:, None]
        others[others.all(axis=1), -1] = False  # drop the own cell, or else the last one
        near = near[others].reshape(len(points), self.k)
        return self.one_hot[near].sum(axis=1).argmax(axis=1)

    def win(self, boxes: _Boxes, spare: int = 0, n_cells: int = 0) -> np.ndarray:
        """Tell which labels have more than `spare` votes more than others wherever one stands.

        It is k + `spare` cells that vote.
        """
        n_cells = min(n_cells or NEAR * self.k + MORE, len(self.Z))
        numbers = len(boxes.low) * n_cells * max(self.k, self.one_hot.shape[1])
        parts = np.array_split(np.arange(len(boxes.low)), 1 + numbers // NUMBERS_AT_ONCE)
        found = [self._win(boxes.only(part), spare, n_cells) for part in parts]
        won, unsure = np.concatenate(found, axis=1)
        if unsure.any():
            won[unsure] = self.win(boxes.only(unsure), spare, 4 * n_cells)
        return won

    def _win(self, boxes: _Boxes, spare: int, n_cells: int) -> tuple[np.ndarray, np.ndarray]:
        """Do so with the cells nearest to the middle, and tell where they do not suffice for it."""
        distance, cells = self.tree.query(boxes.middle, n_cells)
        least, largest = self._scores(boxes, cells)
        order = largest.argsort(axis=1)[:, : self.k + spare]
        reach = np.take_along_axis(largest, order, axis=1)
        # A cell that was left out is at least so far from every point of the box.
        half = np.maximum(boxes.high - boxes.middle, boxes.middle - boxes.low)
        half = np.linalg.norm(half, axis=1) * (1 + SLACK)
        beyond = np.maximum(0, distance[:, -1] * (1 - SLACK) - half)
        enough = (beyond**2 > reach[:, -1]) | (n_cells == len(self.Z))

        votes = self.one_hot[cells]
        may = (least[:, None] <= reach[:, :, None]).astype(float) @ votes
        sure = np.take_along_axis(votes, order[:, :, None], axis=1)
        sure = sure.cumsum(axis=1) - sure  # of those before the i-th
        leads = _leads(sure, may, boxes.label, self.k + spare, spare)
        # More cells only add votes that may be: a label that does not lead here never will.
        return leads & enough, leads & ~enough

    def _scores(self, boxes: _Boxes, cells: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the least and the largest score in each box of its cells."""
        least, largest = np.zeros((2, *cells.shape))
        for low, high, z in zip(boxes.low.T, boxes.high.T, self.Z.T, strict=True):
            below, above = low[:, None] - z[cells], z[cells] - high[:, None]
            least += np.maximum(below, above) ** 2
            largest += np.minimum(below, above) ** 2
        least[cells == boxes.own[:, None]] = largest[cells == boxes.own[:, None]] = np.inf
        return least * (1 - SLACK), largest * (1 + SLACK)


class _Tiles:
    """The map cut into tiles, and where it is certain for all boxes the label of a tile."""

    def __init__(self, votes: _Votes, boxes: _Boxes, spare: int) -> None:
        Z, n_axes = votes.Z, votes.Z.shape[1]
        n = int(min(TILES_A_CELL * len(Z), MOST_TILES) ** (1 / n_axes))
        start, stop = np.quantile(Z, (0.01, 0.99), axis=0)
        around = (stop - start) / 4
        self.edges = np.linspace(start - around, stop + around, n + 1)
        # Only tiles that meet a box: marks at the corners of boxes, summed, are zero elsewhere.
        marks = np.zeros([n + 3] * n_axes, dtype=int)
        for sign, at in _corners(self._ends(boxes)):
            np.add.at(marks, at, sign)
        tile = np.argwhere(reduce(np.cumsum, range(n_axes), marks)[(slice(1, n + 1),) * n_axes])
        low, high = (np.take_along_axis(self.edges, side, axis=0) for side in (tile, tile + 1))
        nobody = np.full(len(tile), -1)
        label = votes.at((low + high) / 2, nobody)
        won = votes.win(_Boxes(low, high, nobody, label, nobody), spare)
        # Of the tiles before: how many have a label, and the sum of the labels.
        sums = np.zeros((*marks.shape, 2), dtype=int)
        sums[tuple((tile + 2).T)] = np.stack([won, won * label], axis=1)
        self.sums = reduce(np.cumsum, range(n_axes), sums)

    def look_up(self, boxes: _Boxes) -> tuple[np.ndarray, np.ndarray]:
        """Tell of boxes if a tile in them has another label, and if all tiles have a label.

        Then it is their own label in all of them, since neighbouring tiles share points. Other
        labels than their own can cancel in the sum; then the first answer is missed.
        """
        ends = self._ends(boxes)
        parts = [sign * self.sums[at] for sign, at in _corners(ends)]
        labelled, total = np.sum(parts, axis=0).T
        return total != boxes.label * labelled, labelled == (ends[1] - ends[0]).prod(axis=0)

    def _ends(self, boxes: _Boxes) -> np.ndarray:
        """Return the first tile of each box and the one after its last, (2, n_axes, n_boxes).

        What lies before the first edge, or beyond the last one, is a tile as well, without label.
        """
        found = [
            [np.searchsorted(e, x, "right") for e, x in zip(self.edges.T, end.T, strict=True)]
            for end in (boxes.low, boxes.high)
        ]
        return np.array(found) + [[[0]], [[1]]]


def _corners(ends: np.ndarray) -> Iterator[tuple[int, tuple[np.ndarray, ...]]]:
    """Yield the corners of boxes, with their signs in a difference of running sums."""
    axes = range(ends.shape[1])
    for side in product((0, 1), repeat=len(axes)):
        yield (-1) ** side.count(0), tuple(ends[side, axes])


def _leads(sure: np.ndarray, may: np.ndarray, label: np.ndarray, k: int, spare: int) -> np.ndarray:
    """Tell whether a label is more than `spare` of k votes ahead, all undecided ones against it.

    `sure` and `may` count the votes that are certain and those that may be, for each of several
    thresholds: (n_boxes, n_thresholds, n_labels).
    """
    own = np.eye(sure.shape[2], dtype=bool)[label][:, None]
    # A rival takes what votes it can; of the rest, third parties take what they can.
    rival = np.minimum(may, k - sure.sum(axis=2, keepdims=True) + sure)
    third = (may * ~own).sum(axis=2, keepdims=True) - may
    least = np.maximum((sure * own).sum(axis=2, keepdims=True), k - rival - third)
    return (own | (least > rival + spare)).all(axis=(1, 2))


def _check_boxes(lower: np.ndarray, upper: np.ndarray, Z: np.ndarray, leave_one_out: bool) -> None:
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
