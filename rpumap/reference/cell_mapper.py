"""What a reference says of cells: coordinates, labels, novelty, certificates and verdicts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from rpumap.estimator import ParametricUMAP
from rpumap.preprocessing import Preprocessor
from rpumap.reference.label_index import Found, LabelIndex
from rpumap.verification.certify import Method, certify
from rpumap.verification.labels import labels_are_certain

if TYPE_CHECKING:
    from anndata import AnnData

K_MAP = 15  # neighbours that vote on the map
NOT_HERE = "not in the reference"
# Numbers of verdicts; further ones are pairs of labels.
CERTAIN, LIKELY, NEW, BETWEEN = range(4)
RECORD = np.dtype(
    [
        ("coordinates", np.float32, (2,)),
        ("label", np.int32),
        ("confidence", np.float64),
        ("novelty", np.float64),
        ("map_label", np.int32),
        ("radius", np.float64),
        ("verdict", np.int32),
    ]
)
BOX = np.dtype([("lower", np.float32, (2,)), ("upper", np.float32, (2,))])


@dataclass(frozen=True)
class CellMapper:
    """Map cells: a function from a table of counts to records, which other processes can call.

    Parameters
    ----------
    preprocessor : Preprocessor
    model : ParametricUMAP
        Its ``embedding_`` holds the stored cells.
    index : LabelIndex
        Of the same stored cells.
    eps : float
        Radius of the balls, in standard deviations of a gene.
    method : {"crown", "crown_ibp", "ibp"} or None
        See :func:`rpumap.certify`; None: no certificates, and a radius of NaN.
    """

    preprocessor: Preprocessor
    model: ParametricUMAP
    index: LabelIndex
    eps: float = 0.0
    method: Method | None = None

    def __call__(self, table: AnnData) -> np.ndarray:
        """Return what is said of each cell.

        Parameters
        ----------
        table : AnnData of shape (n_cells, any number of genes)
            Raw counts in ``X``.

        Returns
        -------
        ndarray of shape (n_cells,)
            Records of the type `RECORD`. Labels are places in ``index.names``.
        """
        values = self.preprocessor.scale(table)
        X = self.preprocessor.standardize(values)
        Z, found = self.model.transform(X), self.index.query(self.index.coordinates(values))
        records = np.zeros(len(X), RECORD)
        records["coordinates"], records["label"] = Z, found.label
        records["confidence"], records["novelty"] = found.confidence, found.novelty
        records["map_label"], records["radius"] = labels_on_map(self.model, self.index, Z), np.nan
        certain = np.zeros(len(X), dtype=bool)
        if self.method is not None:
            lower, upper = certify(self.model, X, self.eps, method=self.method)
            records["radius"] = np.linalg.norm(upper - lower, axis=1) / 2
            certain = self._certain(lower, upper) & (records["map_label"] == found.label)
        records["verdict"] = self._verdicts(found, certain)
        return records

    def _certain(self, lower: np.ndarray, upper: np.ndarray) -> np.ndarray:
        Z, codes = self.model.embedding_, self.index.codes
        return labels_are_certain(lower, upper, Z, codes, min(K_MAP, len(Z) - 1))

    def _verdicts(self, found: Found, certain: np.ndarray) -> np.ndarray:
        verdicts = np.where(certain, CERTAIN, LIKELY)
        several = (found.strangeness <= self.index.quantile).sum(axis=1) > 1
        if several.any():
            pair = np.sort(np.argsort(found.strangeness[several], axis=1)[:, :2], axis=1)
            verdicts[several] = BETWEEN + pair @ [len(self.index.names), 1]
        verdicts[found.novelty > 1] = NEW
        return verdicts


@dataclass(frozen=True)
class CellBoxes:
    """Bound the coordinates of cells: a function from a table of counts to boxes.

    Parameters
    ----------
    preprocessor : Preprocessor
    model : ParametricUMAP
    eps, norm, method
        As in :func:`rpumap.certify`.
    """

    preprocessor: Preprocessor
    model: ParametricUMAP
    eps: float
    norm: str
    method: Method

    def __call__(self, table: AnnData) -> np.ndarray:
        """Return the box of each cell, as records of the type `BOX`."""
        X = self.preprocessor.transform(table)
        boxes = np.zeros(len(X), BOX)
        boxes["lower"], boxes["upper"] = certify(
            self.model, X, self.eps, self.norm, method=self.method
        )
        return boxes


def labels_on_map(model: ParametricUMAP, index: LabelIndex, Z: np.ndarray) -> np.ndarray:
    """Return the commonest label of the 15 nearest stored cells on the map.

    Parameters
    ----------
    model, index
        Of the same stored cells.
    Z : ndarray of shape (n_cells, 2)
        Coordinates.

    Returns
    -------
    ndarray of int, shape (n_cells,)
        Places in ``index.names``.
    """
    from scipy.spatial import KDTree

    k = min(K_MAP, len(model.embedding_) - 1)
    _, near = KDTree(model.embedding_).query(Z, k)
    one_hot = np.eye(len(index.names))[index.codes]
    return one_hot[near.reshape(len(Z), k)].sum(axis=1).argmax(axis=1)


def verdict_names(verdicts: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """Put verdicts into words.

    Parameters
    ----------
    verdicts : ndarray of int, shape (n_cells,)
        As in the records of :class:`CellMapper`.
    names : sequence of str
        The labels.

    Returns
    -------
    ndarray of str, shape (n_cells,)

    Examples
    --------
    >>> import numpy as np
    >>> from rpumap.reference.cell_mapper import verdict_names
    >>> verdict_names(np.array([0, 1, 2, 3 + 2]), ["a", "b", "c"]).tolist()
    ['certain', 'likely', 'not in the reference', 'between a and c']
    """
    known, places = np.unique(verdicts, return_inverse=True)
    words = []
    for verdict in known:
        a, b = divmod(int(verdict) - BETWEEN, len(names))
        single = {CERTAIN: "certain", LIKELY: "likely", NEW: NOT_HERE}
        words.append(single.get(int(verdict)) or f"between {names[a]} and {names[b]}")
    return np.array(words, dtype=str)[places]
