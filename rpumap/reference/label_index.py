r"""The index of a reference: labels, confidence and novelty of cells by their nearest neighbours.

A label is better read in the space of genes than on the map. The index takes logarithms of the
scaled counts, z-scores, and then a few principal components, in units of the scatter within types:
with :math:`C` the pooled covariance of the components within types, :math:`C = V \Lambda V^\top`,
coordinates are multiplied by :math:`V \Lambda^{-1/2}`. Few components, since across studies the
further ones are mostly depth and noise: 10 of them vote for the label. Novelty is judged in the
same 10 and, apart from them, in 20, where some types that lie among others are easier to tell.

*Novelty* is the mean distance :math:`d^{(m)}` of a cell to its :math:`k` neighbours in :math:`m`
components, relative to what is usual for cells of the type :math:`t` that the neighbours vote for,
as the geometric mean of both spaces, and relative to a threshold,

.. math:: \nu = \frac1\tau
          \sqrt{\frac{d^{(10)}}{d^{(10)}_t} \, \frac{d^{(20)}}{d^{(20)}_t}} ,

with :math:`d^{(m)}_t` the median over stored cells of the type, and :math:`\tau` such that a new
cell of the reference exceeds 1 with a probability of at most 5 %: the
:math:`\lceil 0.95 (n + 1) \rceil`-th smallest root among the :math:`n` calibration cells, which
were held out of everything else.

*Conformal sets* of labels hold the true one with a probability of at least 90 % (Vovk et al. 2005,
https://doi.org/10.1007/b106715), for new cells of the same population. A label is in the set of a
cell if the logarithm of its distance to the 5 nearest stored cells of the label, minus the least
of these logarithms for other labels, is at most that quantile of the calibration cells.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from rpumap.preprocessing import moments

DIMENSIONS = 10, 20  # of the spaces; the first gives the label
N_STORED = 2000
MOST_NEIGHBORS, LEAST_NEIGHBORS = 30, 5
NEAREST_OF_TYPE = 5
FALSE_ALARMS = 0.05
MISSES = 0.1  # of the conformal sets
SHRINKAGE = 0.1  # of the covariance within types, towards a sphere
PRIOR = 5.0  # cells, with which the usual distance of a type is drawn towards that of all
AT_ONCE = 2000  # cells whose distances are held in memory


class Found(NamedTuple):
    """What the index tells of cells, a row each."""

    label: np.ndarray  #: number of the label, (n_cells,)
    confidence: np.ndarray  #: share of the votes for it
    novelty: np.ndarray  #: above 1: not in the reference
    strangeness: np.ndarray  #: of each label, (n_cells, n_labels); low: it fits


@dataclass(frozen=True)
class Space:
    r"""Stored cells of a reference in a few components, and what is usual among them.

    Parameters
    ----------
    projection : ndarray of shape (n_genes, n_components), float32
        From z-scores to coordinates.
    cells : ndarray of shape (n_stored, n_components), float32
        Coordinates of the stored cells.
    usual : ndarray of shape (n_labels,), float64
        Usual distance of a cell of each label to its neighbours, :math:`d_t`.
    """

    projection: np.ndarray
    cells: np.ndarray
    usual: np.ndarray


@dataclass(frozen=True)
class LabelIndex:
    r"""Stored cells of a reference, their labels, and the scale of what is said of new cells.

    Parameters
    ----------
    mean, std : ndarray of shape (n_genes,), float64
        Of the logarithms of scaled counts, over the training cells.
    spaces : sequence of Space
        The first gives the label, all together the novelty.
    codes : ndarray of shape (n_stored,), int32
        Labels of the stored cells, as places in `names`.
    names : sequence of str
        The labels.
    threshold : float
        :math:`\tau`; infinite if there were too few calibration cells.
    quantile : float
        Largest strangeness of a label in a conformal set; infinite if there were too few.
    """

    mean: np.ndarray
    std: np.ndarray
    spaces: Sequence[Space]
    codes: np.ndarray
    names: Sequence[str]
    threshold: float
    quantile: float

    @property
    def k(self) -> int:
        """Number of neighbours that vote: an eighth of the stored cells, from 5 to 30."""
        n_stored = len(self.codes)
        return min(MOST_NEIGHBORS, max(LEAST_NEIGHBORS, n_stored // 8), n_stored)

    def coordinates(self, values: np.ndarray) -> np.ndarray:
        """Place cells among those that are stored.

        Parameters
        ----------
        values : ndarray of shape (n_cells, n_genes)
            Counts of the chosen genes, scaled to the target sum. NaN for a gene that was not
            measured, which then counts as average.

        Returns
        -------
        ndarray of shape (n_cells, n_components of all spaces), float32
        """
        z = np.nan_to_num((np.log1p(values) - self.mean) / self.std, nan=0.0)
        parts = [(z @ space.projection).astype(np.float32) for space in self.spaces]
        return np.concatenate(parts, axis=1)

    def query(self, coordinates: np.ndarray) -> Found:
        """Find label, confidence, novelty and how strange each label would be.

        Parameters
        ----------
        coordinates : ndarray of shape (n_cells, n_components of all spaces)
            From `coordinates`.

        Returns
        -------
        Found
        """
        parts = [
            self._query(coordinates[start : start + AT_ONCE])
            for start in range(0, max(len(coordinates), 1), AT_ONCE)
        ]
        return Found(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))

    def _query(self, coordinates: np.ndarray) -> Found:
        ends = np.cumsum([space.cells.shape[1] for space in self.spaces])
        parts = np.split(coordinates, ends[:-1], axis=1)
        distances = [
            _distances(part, space.cells) for part, space in zip(parts, self.spaces, strict=True)
        ]
        votes = self._votes(distances[0])
        label = votes.argmax(axis=1)
        ratios = [
            _nearest(distance, self.k).mean(axis=1) / space.usual[label]
            for distance, space in zip(distances, self.spaces, strict=True)
        ]
        novelty = np.prod(ratios, axis=0) ** (1 / len(ratios)) / self.threshold
        confidence = votes[np.arange(len(label)), label]
        return Found(label, confidence, novelty, self._strangeness(distances[0]))

    def _votes(self, distance: np.ndarray) -> np.ndarray:
        """Return the share of each label among the k nearest stored cells."""
        near = np.argpartition(distance, self.k - 1, axis=1)[:, : self.k]
        return np.eye(len(self.names))[self.codes[near]].mean(axis=1)

    def _strangeness(self, distance: np.ndarray) -> np.ndarray:
        near = np.empty((len(distance), len(self.names)))
        for code in range(len(self.names)):
            own = distance[:, self.codes == code]
            nearest = _nearest(own, min(NEAREST_OF_TYPE, own.shape[1]))
            near[:, code] = np.log(nearest.mean(axis=1) + 1e-9)
        if len(self.names) == 1:
            return np.zeros_like(near)
        least, second = np.sort(near, axis=1)[:, :2].T[:, :, None]
        return near - np.where(near == least, second, least)


def fit_index(
    values: np.ndarray,
    codes: np.ndarray,
    names: Sequence[str],
    held_values: np.ndarray,
    held_codes: np.ndarray,
    stored: np.ndarray,
) -> LabelIndex:
    """Learn an index from training cells, and calibrate it by cells that were held out.

    Parameters
    ----------
    values : ndarray of shape (n_cells, n_genes)
        Training cells: counts of the chosen genes, scaled to the target sum.
    codes : ndarray of int, shape (n_cells,)
        Their labels, as places in `names`.
    names : sequence of str
        The labels. Each has a stored cell.
    held_values, held_codes
        The same of the calibration cells.
    stored : ndarray of int
        Which training cells are stored, see `choose_stored`.

    Returns
    -------
    LabelIndex

    Examples
    --------
    >>> import numpy as np
    >>> from rpumap.reference.label_index import fit_index
    >>> draw = np.random.default_rng(0)
    >>> codes = np.arange(300) % 2
    >>> values = draw.poisson(np.where(codes[:, None] == np.arange(20) % 2, 20, 2))
    >>> parts = values[:200], codes[:200], ["a", "b"], values[200:], codes[200:], np.arange(200)
    >>> index = fit_index(*parts)
    >>> found = index.query(index.coordinates(values[200:]))
    >>> bool((found.label == codes[200:]).all())
    True
    """
    logs = np.log1p(values)
    mean, std = moments(logs)
    z, own = (logs - mean) / std, codes[stored].astype(np.int32)
    projections = [_projection(z, codes, len(names), n) for n in DIMENSIONS]
    ones = np.ones(len(names))
    spaces = [Space(p, (z @ p).astype(np.float32)[stored], ones) for p in projections]
    index = LabelIndex(mean, std, spaces, own, list(names), threshold=1.0, quantile=0.0)
    index = replace(index, spaces=[replace(space, usual=_usual(space, index)) for space in spaces])
    found = index.query(index.coordinates(held_values))
    strangeness = found.strangeness[np.arange(len(held_codes)), held_codes]
    return replace(
        index,
        threshold=quantile(found.novelty, FALSE_ALARMS),
        quantile=quantile(strangeness, MISSES),
    )


def quantile(scores: np.ndarray, level: float) -> float:
    r"""Return what a new score exceeds with a probability of at most `level`.

    Parameters
    ----------
    scores : ndarray of shape (n,)
        Scores that are exchangeable with the new one.
    level : float
        Between 0 and 1.

    Returns
    -------
    float
        The :math:`\lceil (1 - level) (n + 1) \rceil`-th smallest score; infinite if `n` is too
        small for that.

    Examples
    --------
    >>> import numpy as np
    >>> from rpumap.reference.label_index import quantile
    >>> quantile(np.arange(1.0, 20.0), 0.05), quantile(np.arange(10.0), 0.05)
    (19.0, inf)
    """
    rank = math.ceil((1 - level) * (len(scores) + 1) - 1e-9)
    return float(np.sort(scores)[rank - 1]) if rank <= len(scores) else math.inf


def choose_stored(
    codes: np.ndarray, rng: np.random.Generator, n_stored: int = N_STORED
) -> np.ndarray:
    """Choose the cells that a reference keeps: at random, but some of each label.

    Parameters
    ----------
    codes : ndarray of int, shape (n_cells,)
        Labels of the training cells.
    rng : numpy.random.Generator
    n_stored : int, default 2000
        How many, unless there are fewer, or so many labels that 15 of each are more.

    Returns
    -------
    ndarray of int
        Places, in order.

    Examples
    --------
    >>> import numpy as np
    >>> from rpumap.reference.label_index import choose_stored
    >>> codes = np.repeat([0, 1], [9000, 20])
    >>> chosen = choose_stored(codes, np.random.default_rng(0))
    >>> len(chosen), int((codes[chosen] == 1).sum() >= 15)
    (2000, 1)
    """
    order = rng.permutation(len(codes))
    first = np.zeros(len(codes), dtype=bool)
    for code in np.unique(codes):
        first[order[codes[order] == code][: MOST_NEIGHBORS // 2]] = True
    others = order[~first[order]]
    chosen = np.concatenate([np.flatnonzero(first), others])
    return np.sort(chosen[: max(n_stored, int(first.sum()))])


def _projection(z: np.ndarray, codes: np.ndarray, n_labels: int, n_components: int) -> np.ndarray:
    from sklearn.decomposition import PCA

    n_components = min(n_components, z.shape[1], len(z) - 1)
    components = PCA(n_components, svd_solver="covariance_eigh").fit(z).components_.T
    coordinates = z @ components
    sums = np.zeros((n_labels, n_components))
    np.add.at(sums, codes, coordinates)
    means = sums / np.maximum(np.bincount(codes, minlength=n_labels), 1)[:, None]
    inside = coordinates - means[codes]
    covariance = inside.T @ inside / len(z)
    sphere = np.trace(covariance) / n_components * np.eye(n_components)
    values, vectors = np.linalg.eigh((1 - SHRINKAGE) * covariance + SHRINKAGE * sphere)
    scale = 1 / np.sqrt(np.maximum(values, 1e-12))
    return (components @ (vectors * scale)).astype(np.float32)


def _usual(space: Space, index: LabelIndex) -> np.ndarray:
    """Return the median distance of stored cells of each label to their neighbours."""
    means = np.empty(len(space.cells))
    for start in range(0, len(means), AT_ONCE):
        rows = np.arange(start, min(start + AT_ONCE, len(means)))
        distance = _distances(space.cells[rows], space.cells)
        distance[np.arange(len(rows)), rows] = np.inf  # not itself
        means[rows] = _nearest(distance, min(index.k, len(means) - 1)).mean(axis=1)
    logs = np.log(means + 1e-9)
    of_all, usual = np.median(logs), np.empty(len(index.names))
    for code in range(len(usual)):
        own = logs[index.codes == code]
        total = len(own) * np.median(own) + PRIOR * of_all
        usual[code] = math.exp(total / (len(own) + PRIOR))
    return usual


def _nearest(distance: np.ndarray, k: int) -> np.ndarray:
    """Return the k smallest distances of each row, in any order."""
    return np.partition(distance, k - 1, axis=1)[:, :k]


def _distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Compute Euclidean distances in double precision, so that they do not depend on the batch."""
    from scipy.spatial.distance import cdist

    return cdist(a, b)
