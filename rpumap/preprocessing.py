"""From counts to the numbers that the network sees, the same way for every data set."""

from __future__ import annotations

import inspect
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix, issparse
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from rpumap._validation import check_flag, check_integer, check_number

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import ArrayLike

LIBRARY_SIZE = "library_size"
MOST_MISSING = 0.5
# A parabola has 3 coefficients; the LOESS of seurat_v3 gives each of them the nearest 0.3 n genes,
# the furthest of these with weight 0. Of fewer genes it runs through every point, or crashes.
LEAST_VARYING = 17
# Share of the library in the chosen genes, relative to that in the training cells.
USUAL_SHARES = (0.5, 2.0)
CUT_SHARE = 1.25
LARGEST_LOGARITHM = 80.0
# Spread of a constant, relative to it, that rounding may leave (in single precision).
ROUNDING = 1e-6


class _Transformer(TransformerMixin, BaseEstimator):
    """What scikit-learn wraps, so that z-scores come in the container that set_output names."""

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Return the names of the chosen genes, ``genes_``.

        Parameters
        ----------
        input_features : None
            Ignored; scikit-learn passes it.

        Returns
        -------
        ndarray of object, shape (n_top_genes,)
        """
        check_is_fitted(self)
        return self.genes_.astype(object)

    def transform(self, adata: AnnData) -> np.ndarray:
        return self._z_scores(adata)


class Preprocessor(_Transformer):
    """Choose genes, normalise library sizes and compute z-scores; then do the same to new cells.

    A transformer of scikit-learn, except that it takes an AnnData: it can be cloned, be a step of a
    ``Pipeline``, and return data frames (``set_output(transform="pandas")``).

    Parameters
    ----------
    n_top_genes : int, default 300
        Number of highly variable genes to keep. The number of genes in the data keeps them all.
    target_sum : float, default 1e4
        Library size to which every cell is scaled, in counts.
    log1p : bool, default False
        Take ``log(1 + x)`` after scaling. The paper does not; most analyses today do.
    layer : str, optional
        Name of the layer that holds the raw counts. By default they are in ``X``.

    Attributes
    ----------
    genes_ : ndarray of str, shape (n_top_genes,)
        Names of the chosen genes, in the order of the training data.
    mean_, std_ : ndarray of shape (n_top_genes,), float64
        Of each gene over the training cells after scaling (and log1p). ``std_`` is 1 for a gene
        that never varies.
    panel_share_ : float
        Share of a cell's library that lies in the chosen genes, median of the training cells.
    library_size_stored_ : bool
        Whether the training data had ``obs["library_size"]``.
    n_features_in_ : int
        Number of genes of the training data.

    Notes
    -----
    Section 2.3 of the paper: 300 genes by scanpy's ``highly_variable_genes`` with the flavour
    ``seurat_v3``, on counts; library size 10,000; z-scores with the standard deviation of
    ``scanpy.pp.scale`` (n - 1 in the denominator).

    The library size of a cell is ``obs["library_size"]`` where the data have it (a file that holds
    a part of the genes needs it), else the sum of the counts of all its genes. A stored one below
    the counts of its cell is an error. Whether row sums are library sizes cannot be seen from one
    table; so `transform` compares the share of the library in the chosen genes with
    ``panel_share_``, and warns if they differ by a factor of 2, or by 1.25 where one of the two
    tables has row sums of fewer genes than the other.

    Examples
    --------
    >>> import rpumap
    >>> adata = rpumap.datasets.pancreas(source="simulated")  # doctest: +ELLIPSIS
    >>> prep = rpumap.Preprocessor(n_top_genes=100)
    >>> X = prep.fit_transform(adata)
    >>> X.shape, str(X.dtype)
    ((3696, 100), 'float32')
    """

    def __init__(
        self,
        n_top_genes: int = 300,
        target_sum: float = 1e4,
        log1p: bool = False,
        layer: str | None = None,
    ) -> None:
        self.n_top_genes = n_top_genes
        self.target_sum = target_sum
        self.log1p = log1p
        self.layer = layer

    def fit(self, adata: AnnData, y: None = None) -> Preprocessor:
        """Choose the genes, and learn their means and standard deviations.

        Parameters
        ----------
        adata : AnnData of shape (n_cells, n_genes)
            Raw counts in ``X`` or the layer, dense or sparse, of any numeric type. It is not
            changed.
        y : None
            Ignored; scikit-learn passes it.

        Returns
        -------
        Preprocessor
            Itself.

        Raises
        ------
        TypeError
            If `adata` is not an AnnData.
        ValueError
            If a parameter is out of range; there are fewer than two cells; too few genes vary to
            choose from; names repeat; counts are negative, missing or all zero; or a stored library
            size is below the counts of its cell.

        Warns
        -----
        UserWarning
            If the counts are not whole numbers, or a cell has none.
        """
        self._check_parameters()
        counts = read_counts(adata, self.layer)
        _check_quality(adata, counts)
        n_cells, n_genes = counts.values.shape
        if n_cells < 2:
            raise ValueError(f"at least two cells are needed, got {n_cells}")
        if self.n_top_genes > n_genes:
            raise ValueError(
                f"n_top_genes={self.n_top_genes} is more than the {n_genes} genes in the data: "
                f"n_top_genes={n_genes} keeps them all"
            )
        chosen = _variable_genes(counts.values, int(self.n_top_genes))
        self.genes_ = np.asarray(counts.genes[chosen], dtype=str)
        panel, _ = counts.of(self.genes_)
        values = self._logged(self._scaled(panel, counts.library_size))
        self.mean_ = values.mean(axis=0)
        std = values.std(axis=0, ddof=1)
        self.std_ = np.where(std > ROUNDING * np.abs(self.mean_), std, 1.0)
        self.panel_share_ = _median_share(panel, counts.library_size)
        self.library_size_stored_ = counts.stored
        self.n_features_in_ = n_genes
        return self

    def transform(self, adata: AnnData) -> np.ndarray:
        """Prepare cells with the genes, means and standard deviations learnt in `fit`.

        Parameters
        ----------
        adata : AnnData of shape (n_cells, any number of genes)
            Raw counts in ``X`` or the layer; genes are found by name, in any order.

        Returns
        -------
        ndarray of shape (n_cells, n_top_genes), float32
            Z-scores. A gene that the data lack stands at its training mean, 0. After
            ``set_output`` a data frame, with the names of cells and genes.

        Raises
        ------
        ValueError
            If more than half of the genes are missing, or the counts are bad as in `fit`.

        Warns
        -----
        UserWarning
            If some genes are missing, or the share of the library in the chosen genes is far from
            ``panel_share_``, which tells of library sizes that are not those of all genes.
        """
        z = super().transform(adata)
        if isinstance(z, pd.DataFrame):
            z.index = adata.obs_names
        return z

    def fit_transform(self, adata: AnnData, y: None = None) -> np.ndarray:
        """Fit to the cells, and prepare them.

        Parameters
        ----------
        adata : AnnData of shape (n_cells, n_genes)
            As in `fit`.
        y : None
            Ignored; scikit-learn passes it.

        Returns
        -------
        ndarray of shape (n_cells, n_top_genes), float32
            As `transform` returns them.
        """
        self.fit(adata)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # fit has said it of the same cells
            return self.transform(adata)

    def standardize(self, values: np.ndarray) -> np.ndarray:
        """Turn counts, scaled to the target sum, into z-scores (through log1p where that is set).

        Parameters
        ----------
        values : ndarray of shape (n_cells, n_top_genes)
            One column for each of ``genes_``.

        Returns
        -------
        ndarray of shape (n_cells, n_top_genes), float32
        """
        check_is_fitted(self)
        return ((self._logged(values) - self.mean_) / self.std_).astype(np.float32)

    def _check_parameters(self) -> None:
        check_integer("n_top_genes", self.n_top_genes, least=1)
        check_number("target_sum", self.target_sum, above=True)
        check_flag("log1p", self.log1p)

    def _z_scores(self, adata: AnnData) -> np.ndarray:
        check_is_fitted(self)
        self._check_parameters()
        counts = read_counts(adata, self.layer)
        _check_quality(adata, counts)
        panel, present = counts.of(self.genes_)
        self._report_missing(adata, present)
        self._compare_shares(counts, panel, present)
        z = self.standardize(self._scaled(panel, counts.library_size))
        z[:, ~present] = 0
        return z

    def _logged(self, values: np.ndarray) -> np.ndarray:
        return np.log1p(values) if self.log1p else values

    def _scaled(self, panel: np.ndarray, size: np.ndarray) -> np.ndarray:
        # a cell without counts stays at zero
        scale = np.divide(self.target_sum, size, out=np.zeros_like(size), where=size > 0)
        return panel * scale[:, None]

    def _report_missing(self, adata: AnnData, present: np.ndarray) -> None:
        missing = self.genes_[~present]
        if not len(missing):
            return
        found = f"{len(missing)} of {len(self.genes_)} genes are not in the data ({_some(missing)})"
        cause = _name_mismatch(missing, adata)
        too_many = len(missing) > MOST_MISSING * len(self.genes_)
        if cause or too_many:
            found += f", which name their genes {_some(adata.var_names)}"
        if too_many:
            raise ValueError(
                f"{found}: gene names must be of the same species and kind as those of the "
                f"training data{cause}"
            )
        _warn(f"{found}: they are held at their training mean{cause}")

    def _compare_shares(self, counts: Counts, panel: np.ndarray, present: np.ndarray) -> None:
        """Warn where the chosen genes hold another share of the library than in training."""
        share = _median_share(panel, counts.library_size)
        typical = np.expm1(self.mean_) if self.log1p else self.mean_
        expected = self.panel_share_ * typical[present].sum() / typical.sum()
        if not expected > 0:
            return
        ratio = share / expected
        n_genes = len(counts.genes)
        # row sums are smaller than library sizes if genes were left out, here or in training
        cut_here = not counts.stored and (
            n_genes < self.n_features_in_ or self.library_size_stored_
        )
        cut_there = not self.library_size_stored_ and (
            n_genes > self.n_features_in_ or counts.stored
        )
        lowest = 1 / CUT_SHARE if cut_there else USUAL_SHARES[0]
        highest = CUT_SHARE if cut_here else USUAL_SHARES[1]
        if lowest <= ratio <= highest:
            return
        here, there = (
            f"obs['{LIBRARY_SIZE}']" if stored else f"row sums of {n} genes"
            for stored, n in (
                (counts.stored, n_genes),
                (self.library_size_stored_, self.n_features_in_),
            )
        )
        _warn(
            f"the chosen genes hold {share:.3g} of a cell's library here and {expected:.3g} in the "
            f"training data (medians), {ratio:.3g} times as much: scaled counts differ by that "
            f"factor. Library sizes are {here} here, {there} in the training data. If genes were "
            f"left out of either, store the total counts of its cells in all genes as "
            f"obs['{LIBRARY_SIZE}']. Cells of other types can differ as well"
        )


@dataclass(frozen=True)
class Counts:
    """Counts that were checked, with the library size of each cell.

    Attributes
    ----------
    values : csr_matrix of shape (n_cells, n_genes), float32 or float64
        Finite and not negative; sorted, without duplicates or stored zeros. It may share memory
        with the table that it was read from.
    genes : pandas.Index of shape (n_genes,)
        Names, all different.
    library_size : ndarray of shape (n_cells,), float64
        At least the sum of the cell's counts.
    stored : bool
        Whether library sizes come from ``obs["library_size"]``, not from row sums.
    where : str
        Which part of the table they are, for messages: ``"X"`` or ``"layers['counts']"``.
    """

    values: csr_matrix
    genes: pd.Index
    library_size: np.ndarray
    stored: bool
    where: str

    @property
    def totals(self) -> np.ndarray:
        """Sums of the counts of each cell, float64."""
        return _row_sums(self.values)

    def of(self, genes: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
        """Return the counts of some genes, 0 for those missing, and which of them are there.

        Parameters
        ----------
        genes : array-like of str, shape (n_chosen,)
            Their names.

        Returns
        -------
        counts : ndarray of shape (n_cells, n_chosen), float64
        present : ndarray of bool, shape (n_chosen,)
        """
        columns = self.genes.get_indexer(np.asarray(genes, dtype=object))
        present = columns >= 0
        counts = np.zeros((self.values.shape[0], len(columns)))
        counts[:, present] = self.values[:, columns[present]].toarray()
        return counts, present


def library_size(adata: AnnData, layer: str | None = None) -> np.ndarray:
    """Total counts of each cell.

    Parameters
    ----------
    adata : AnnData of shape (n_cells, n_genes)
        Raw counts in ``X`` or the layer.
    layer : str, optional
        Name of the layer that holds the counts; by default ``X``.

    Returns
    -------
    ndarray of shape (n_cells,), float64
        ``obs["library_size"]`` where it is there, else the row sums of the counts.

    Raises
    ------
    TypeError
        If `adata` is not an AnnData.
    ValueError
        If a stored library size is not a finite number or is below the counts of its cell, beyond
        rounding; or counts are negative or missing.

    Examples
    --------
    >>> import numpy as np
    >>> from anndata import AnnData
    >>> from rpumap.preprocessing import library_size
    >>> library_size(AnnData(np.array([[1.0, 2.0], [0.0, 5.0]], dtype="float32"))).tolist()
    [3.0, 5.0]
    """
    return read_counts(adata, layer).library_size


def read_counts(adata: AnnData, layer: str | None = None) -> Counts:
    """Read raw counts from a table, whatever they are stored as, and check them.

    Parameters
    ----------
    adata : AnnData of shape (n_cells, n_genes)
        Raw counts in ``X`` or the layer; in memory or backed by a file. It is not changed.
    layer : str, optional
        Name of the layer that holds the counts; by default ``X``.

    Returns
    -------
    Counts
        As float32 where that holds every value exactly, else as float64.

    Raises
    ------
    TypeError
        If `adata` is not an AnnData, or holds no numbers.
    ValueError
        If the table is empty, gene names repeat, counts are negative or missing, or a stored
        library size is below the counts of its cell.

    Examples
    --------
    >>> import numpy as np
    >>> from anndata import AnnData
    >>> from rpumap.preprocessing import read_counts
    >>> counts = read_counts(AnnData(np.array([[0, 200], [100, 0]], dtype="uint8")))
    >>> counts.values.dtype, counts.library_size.tolist()
    (dtype('float32'), [200.0, 100.0])
    """
    _check_table(adata)
    where = "X" if layer is None else f"layers[{layer!r}]"
    if layer is not None and (not isinstance(layer, str) or layer not in adata.layers):
        raise ValueError(
            f"the data hold no counts in {where}: layer must be None, for X, or one of the layers, "
            f"{_some(list(adata.layers)) or 'of which there are none'}{_elsewhere(adata, where)}"
        )
    X = _part(adata, layer)
    if X is None:
        raise ValueError(f"the data hold no counts: {where} is None{_elsewhere(adata, where)}")
    values = as_csr(X, where)
    _check_values(adata, values, where)
    size = _row_sums(values)
    stored = LIBRARY_SIZE in adata.obs
    if stored:
        size = _stored_sizes(adata, size, where, fractional=not _is_whole(values))
    return Counts(values, adata.var_names, size, stored, where)


def as_csr(X: Any, where: str = "X") -> csr_matrix:
    """Return counts as a matrix in canonical format, of float32 where that loses nothing.

    Parameters
    ----------
    X : ndarray, sparse matrix or array, or what AnnData holds in their place
        Of any numeric type; in memory, backed by a file, or of dask.
    where : str
        What to call it in messages.

    Returns
    -------
    csr_matrix of float32 or float64
        Sorted, without duplicates or stored zeros. It may share memory with `X`.

    Raises
    ------
    TypeError
        If `X` holds no numbers, or cannot be read.
    ValueError
        If values are masked.

    Examples
    --------
    >>> import numpy as np
    >>> from scipy.sparse import coo_array
    >>> from rpumap.preprocessing import as_csr
    >>> twice = coo_array((np.array([200, 100], dtype="uint8"), ([0, 0], [1, 1])), shape=(1, 2))
    >>> as_csr(twice).toarray().tolist()
    [[0.0, 300.0]]
    """
    X = _in_memory(X, where)
    if X.dtype.kind not in "biuf":
        raise TypeError(f"{where} holds {X.dtype}, not numbers: raw counts are needed")
    narrow = X.dtype.itemsize <= 2 or X.dtype == np.float32
    X = X.astype(np.float32 if narrow else np.float64, copy=False)
    rows = X.tocsr() if issparse(X) else csr_matrix(X)
    # built anew, since flags of sorted indices are kept by hand and may be wrong
    values = csr_matrix((rows.data, rows.indices, rows.indptr), shape=rows.shape)
    if not values.has_canonical_format:
        values = values.astype(np.float64, copy=True)
        values.sum_duplicates()
    if not values.data.all():
        values = values.copy()
        values.eliminate_zeros()
    if values.dtype == np.float64:
        with np.errstate(over="ignore", invalid="ignore"):
            single = values.data.astype(np.float32)
        if np.array_equal(single, values.data):
            values = csr_matrix((single, values.indices, values.indptr), shape=values.shape)
    return values


def remaining_library(
    size: np.ndarray, before: np.ndarray, after: np.ndarray | float = 0.0
) -> np.ndarray:
    """Library size of cells that lost counts: it falls by what was lost.

    Parameters
    ----------
    size : ndarray of shape (n_cells,)
        Library sizes before the loss.
    before, after : ndarray of shape (n_cells,)
        Sums of those counts of a cell that can be lost, before and after.

    Returns
    -------
    ndarray of shape (n_cells,)
        Never below `after`, whatever the rounding.

    Examples
    --------
    >>> import numpy as np
    >>> from rpumap.preprocessing import remaining_library
    >>> before, after = np.array([4.0, 3.0]), np.array([1.0, 0.0])
    >>> remaining_library(np.array([10.0, 3.0]), before, after).tolist()
    [7.0, 0.0]
    """
    return np.maximum(size - (before - after), after)


def _warn(message: str) -> None:
    """Warn at the line that called this package, whatever scikit-learn has put in between."""
    frame, level = inspect.currentframe(), 1
    while frame and frame.f_globals.get("__name__", "").partition(".")[0] in ("rpumap", "sklearn"):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, stacklevel=level)


# --- reading ------------------------------------------------------------------------------------


def _check_table(adata: Any) -> None:
    from anndata import AnnData as Table

    if not isinstance(adata, Table):
        to_do = (
            "pass adata.raw.to_adata()"
            if type(adata).__name__ == "Raw"
            else "wrap an array as anndata.AnnData(counts), with gene names in var_names"
        )
        raise TypeError(
            "a Preprocessor needs an AnnData with raw counts in X or a layer, not "
            f"{type(adata).__name__}: {to_do}"
        )
    if 0 in adata.shape:
        raise ValueError(
            f"the data hold no counts: they have {adata.n_obs} cells and {adata.n_vars} genes"
        )
    if not adata.var_names.is_unique:
        repeated = adata.var_names[adata.var_names.duplicated()].unique()
        raise ValueError(
            f"gene names repeat ({len(repeated)} of them: {_some(repeated)}): call "
            "adata.var_names_make_unique() first, or add up the counts of genes of one name"
        )


def _part(adata: AnnData, layer: str | None) -> Any:
    try:
        return adata.X if layer is None else adata.layers[layer]
    except ValueError:
        # scipy fails to take rows by number and columns by a slice that runs backwards
        view = adata[:, np.arange(adata.n_vars)]
        return view.X if layer is None else view.layers[layer]


def _in_memory(X: Any, where: str) -> Any:
    """Return an array, or a sparse matrix or array, that is in memory and holds what it shows."""
    if issparse(X):
        return X
    if hasattr(X, "to_memory"):  # sparse, backed by a file
        return X.to_memory()
    if hasattr(X, "compute"):  # dask
        return _in_memory(X.compute(), where)
    if not isinstance(X, np.ndarray):
        try:
            X = np.asarray(X[...])  # dense, backed by a file
        except Exception as error:
            raise TypeError(
                f"{where} is a {type(X).__name__}, which cannot be read here ({error}): call "
                "adata.to_memory() first, or convert it to an array or a scipy.sparse matrix"
            ) from None
    if np.ma.is_masked(X):
        raise ValueError(f"{where} holds {np.ma.count_masked(X)} missing (masked) values")
    if X.dtype == object:
        try:
            return np.asarray(X, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise TypeError(f"{where} must hold numbers, the raw counts: {error}") from None
    return np.asarray(X)


def _row_sums(values: csr_matrix) -> np.ndarray:
    """Add up in double precision; `sum` of a float32 matrix would not."""
    return values @ np.ones(values.shape[1])


def _is_whole(values: csr_matrix) -> bool:
    return np.array_equal(values.data, np.floor(values.data))


def _stored_sizes(adata: AnnData, total: np.ndarray, where: str, *, fractional: bool) -> np.ndarray:
    column = adata.obs[LIBRARY_SIZE].infer_objects()
    name = f"obs['{LIBRARY_SIZE}']"
    rule = (
        "it must hold the number of molecules of each cell in all genes, not on a log scale; "
        f"del adata.{name} takes the row sums of {where} instead"
    )
    numeric = pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)
    if not numeric:
        raise ValueError(f"{name} is of type {column.dtype}, not numbers: {rule}")
    size = column.to_numpy(dtype=np.float64, na_value=np.nan)
    # sums in single precision are a little off, and those of fractions may have been rounded
    slack = 1e-5 * total + (np.minimum(1.0, 0.01 * total) if fractional else 0.0)
    for bad, problem in (
        (np.isnan(size), "is missing"),
        (~np.isfinite(size) | (size < 0), "is negative or infinite"),
        (size < total - slack, "is below the counts of the cell"),
    ):
        if bad.any():
            cell = int(bad.argmax())
            raise ValueError(
                f"{name} {problem} in {bad.sum()} of {len(size)} cells; cell "
                f"{adata.obs_names[cell]!r} has {size[cell]:.10g} there and {total[cell]:.10g} "
                f"counts in {where}: {rule}"
            )
    return np.maximum(size, total)


# --- checks of the counts -----------------------------------------------------------------------


def _check_values(adata: AnnData, values: csr_matrix, where: str) -> None:
    for bad, name, to_do in (
        (
            np.isnan(values.data),
            "missing values (NaN)",
            "a join of tables with join='outer' leaves them for genes that one table lacks. Use "
            "join='inner', or leave those genes or cells out",
        ),
        (np.isinf(values.data), "infinite values", "raw counts must be finite"),
        (
            values.data < 0,
            "negative values",
            "counts are not negative. Pass raw counts, not z-scores or other scaled values",
        ),
    ):
        if bad.any():
            entries = values.tocoo()
            cells, genes = entries.row[bad], entries.col[bad]
            raise ValueError(
                f"{where} holds {bad.sum()} {name}, in {len(np.unique(cells))} of "
                f"{adata.n_obs} cells and {len(np.unique(genes))} of {adata.n_vars} genes (the "
                f"first in cell {adata.obs_names[cells[0]]!r}, gene "
                f"{adata.var_names[genes[0]]!r}): {to_do}{_elsewhere(adata, where)}"
            )


def _check_quality(adata: AnnData, counts: Counts) -> None:
    """Raise an error if there are no counts at all; warn if they may not be raw counts."""
    if not counts.values.nnz:
        raise ValueError(f"all counts are zero in {counts.where}{_elsewhere(adata, counts.where)}")
    if not _is_whole(counts.values):
        _warn(
            f"counts are not whole numbers in {counts.where}{_normalised(counts.values)}: raw "
            f"counts are expected, not normalised ones{_elsewhere(adata, counts.where)}"
        )
    n_empty = int((counts.library_size == 0).sum())
    if n_empty:
        _warn(f"{n_empty} cells have no counts at all")


def _normalised(values: csr_matrix) -> str:
    """Say how counts seem to have been normalised: all cells then have the same sum."""
    scales: list[tuple[str, Callable[[np.ndarray], np.ndarray]]] = [("normalised", np.asarray)]
    if values.data.max() < LARGEST_LOGARITHM:
        scales.append(("normalised and log-transformed", np.expm1))
    for name, undo in scales:
        data = undo(values.data.astype(np.float64))
        sums = _row_sums(csr_matrix((data, values.indices, values.indptr), shape=values.shape))
        sums = sums[sums > 0]
        if len(sums) > 1 and np.ptp(sums) < 1e-3 * sums.max():
            return f" (they look {name}: every cell sums to {np.median(sums):.4g})"
    return ""


def _elsewhere(adata: AnnData, where: str) -> str:
    """Say which other parts of a table hold whole numbers, as counts are; "" if none does."""
    parts = {
        f"layers[{name!r}]": (adata.layers[name], f"pass layer={name!r}")
        for name in sorted(adata.layers, key=lambda name: name != "counts")
    }
    parts["X"] = (adata.X, "pass layer=None")
    if adata.raw is not None:
        parts["adata.raw"] = (adata.raw.X, "pass adata.raw.to_adata()")
    found = [
        f"{part} holds whole numbers: {to_do}"
        for part, (X, to_do) in parts.items()
        if part != where and X is not None and _may_be_counts(X)
    ]
    return f". {'; '.join(found)}" if found else ""


def _may_be_counts(X: Any) -> bool:
    try:
        values = as_csr(X, "")
    except (TypeError, ValueError):
        return False
    data = values.data
    return (
        bool(len(data)) and bool(np.isfinite(data).all() and (data > 0).all()) and _is_whole(values)
    )


# --- names of genes -----------------------------------------------------------------------------

SPELLINGS: dict[str, Callable[[str], str]] = {
    "upper and lower case": str.casefold,
    "white space as a prefix or suffix": str.strip,
    "a version suffix such as '.7'": lambda name: re.sub(r"\.\d+$", "", name),
    "dashes and underscores": lambda name: name.replace("_", "-"),
    "a prefix such as 'GRCh38_'": lambda name: re.sub(r"^(GRC[hm]|hg|mm)\d+_+", "", name),
}


def _name_mismatch(missing: np.ndarray, adata: AnnData) -> str:
    """Say what would make missing genes match names of the data; they are never matched so."""
    ways = [(spelling, [spell]) for spelling, spell in SPELLINGS.items()]
    ways += [("several of these: " + ", ".join(SPELLINGS), list(SPELLINGS.values()))]
    for spelling, steps in ways:
        n_same = len(_spelled(missing, steps) & _spelled(adata.var_names, steps))
        if n_same:
            return f". {n_same} would match but for {spelling}: rename the genes of one side"
    other_names = {f"adata.var[{key!r}]": adata.var[key] for key in adata.var}
    for place, names in other_names.items():
        n_same = int(np.isin(missing, names.astype(str)).sum())
        if n_same:
            return f". {place} holds {n_same} of them: assign it to adata.var_names"
    if np.isin(missing, adata.obs_names).any():
        return ". They are names of cells here: pass adata.T"
    return ""


def _spelled(names: ArrayLike, steps: list[Callable[[str], str]]) -> set[str]:
    spelled = {str(name) for name in names}
    for step in steps:
        spelled = {step(name) for name in spelled}
    return spelled


def _some(names: ArrayLike) -> str:
    return ", ".join(repr(str(name)) for name in names[:5]) + (", ..." if len(names) > 5 else "")


# --- choice of genes ----------------------------------------------------------------------------


def _median_share(panel: np.ndarray, size: np.ndarray) -> float:
    filled = size > 0
    return float(np.median(panel[filled].sum(axis=1) / size[filled])) if filled.any() else 0.0


def _variable_genes(values: csr_matrix, n_top_genes: int) -> np.ndarray:
    """Return which genes are highly variable (scanpy's seurat_v3), as a mask."""
    n_genes = values.shape[1]
    if n_top_genes == n_genes:
        return np.ones(n_genes, dtype=bool)
    varies, values = _varying(values)
    n_varying = int(varies.sum())
    if n_top_genes > n_varying:
        raise ValueError(
            f"n_top_genes={n_top_genes}, but only {n_varying} of {n_genes} genes vary between "
            f"cells: lower n_top_genes, or keep all genes with n_top_genes={n_genes}"
        )
    if n_top_genes == n_varying:
        return varies
    advice = (
        f"Keep all genes with n_top_genes={n_genes}, or choose them yourself: store the total "
        f"counts of cells in obs['{LIBRARY_SIZE}'], pass adata[:, genes], and set n_top_genes to "
        "their number"
    )
    if n_varying < LEAST_VARYING:
        raise ValueError(
            f"only {n_varying} of {n_genes} genes vary between cells; at least {LEAST_VARYING} are "
            f"needed to tell which of them vary more than their mean explains. {advice}"
        )
    table = _seurat_v3(values, n_top_genes)
    if table is None:
        n_means = len(np.unique(np.ravel(values.sum(axis=0))[varies]))
        raise ValueError(
            f"highly variable genes cannot be told: the {n_varying} genes that vary have too "
            f"similar means ({n_means} different ones) to fit a trend of variance against mean. "
            f"{advice}"
        )
    return table["highly_variable"].to_numpy()


def _varying(values: csr_matrix) -> tuple[np.ndarray, csr_matrix]:
    """Return which genes vary, and the counts with those of constant genes set to 0.

    Rounding makes the variance of a constant fraction differ from 0, and its logarithm an outlier.
    """
    n_cells, n_genes = values.shape
    n_found = np.bincount(values.indices, minlength=n_genes)
    everywhere = np.flatnonzero(n_found == n_cells)
    found = values[:, everywhere].toarray()
    low, high = found.min(axis=0, initial=np.inf), found.max(axis=0, initial=0)
    constant = np.zeros(n_genes, dtype=bool)
    constant[everywhere] = high - low <= ROUNDING * high
    if constant.any():
        values = values.copy()
        values.data[constant[values.indices]] = 0
    return ~constant & (n_found > 0), values


def _seurat_v3(values: csr_matrix, n_top_genes: int) -> pd.DataFrame | None:
    """Return scanpy's table of highly variable genes; None if its local regression fails."""
    import scanpy
    from anndata import AnnData as Table

    names = pd.DataFrame(index=pd.RangeIndex(values.shape[1]).astype(str))
    with warnings.catch_warnings():
        # whole numbers have been checked, with a message of our own
        warnings.filterwarnings("ignore", message=".*expects raw count data.*")
        try:
            table = scanpy.pp.highly_variable_genes(
                Table(values, var=names),
                flavor="seurat_v3",
                n_top_genes=n_top_genes,
                inplace=False,
            )
        except ValueError:  # "svddc failed in l2fit" and other words of the Fortran code
            return None
    return table if np.isfinite(table["variances_norm"]).all() else None
