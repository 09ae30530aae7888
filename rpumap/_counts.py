"""Counts as tables hold them: read whatever they are stored as, checked, with library sizes.

All that needs raw counts (the Preprocessor, and what drops counts) reads them here.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix, issparse

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import ArrayLike

LIBRARY_SIZE = "library_size"
# No logarithm of a count comes near it, and its exponential is still a number.
LARGEST_LOGARITHM = 80.0
# No logarithm of a count, natural or of base 2, of a million molecules a cell.
LARGEST_LOG_COUNT = 25.0
MOST_FRACTIONS = 0.5  # share of the values that are whole, up to which they may be transformed
# What fewer cells have in common says more of these cells than of the table.
LEAST_CELLS = 10
# Of so many counts that are not zero some are 2 or more, unless cells are extremely shallow.
LEAST_ONES = 1000
# Far beyond all counts and fractions of counts. The squares of such numbers can still be summed;
# where they cannot, the Fortran code of the gene selection would end the process.
SMALLEST_VALUE, LARGEST_VALUE = 1e-30, 1e30


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
    >>> from rpumap._counts import read_counts
    >>> counts = read_counts(AnnData(np.array([[0, 200], [100, 0]], dtype="uint8")))
    >>> counts.values.dtype, counts.library_size.tolist()
    (dtype('float32'), [200.0, 100.0])
    """
    adata = _checked_table(adata)
    where = "X" if layer is None else f"layers[{layer!r}]"
    if layer is not None and (not isinstance(layer, str) or layer not in adata.layers):
        raise ValueError(
            f"the data hold no counts in {where}: layer must be None, for X, or one of the layers, "
            f"{some(list(adata.layers)) or 'of which there are none'}{_elsewhere(adata, where)}"
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
    return Counts(values, _names(adata), size, stored, where)


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
    >>> from rpumap._counts import as_csr
    >>> twice = coo_array((np.array([200, 100], dtype="uint8"), ([0, 0], [1, 1])), shape=(1, 2))
    >>> as_csr(twice).toarray().tolist()
    [[0.0, 300.0]]
    """
    X = in_memory(X, where)
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


def in_memory(X: Any, where: str = "X") -> Any:
    """Return counts as an array, or a sparse matrix or array, in memory and without a mask.

    Parameters
    ----------
    X : ndarray, sparse matrix or array, or what AnnData holds in their place
    where : str
        What to call it in messages.

    Raises
    ------
    TypeError
        If `X` cannot be read, or holds objects that are no numbers.
    ValueError
        If values are masked.
    """
    if issparse(X):
        return X
    if hasattr(X, "to_memory"):  # sparse, backed by a file
        return X.to_memory()
    if hasattr(X, "compute"):  # dask
        return in_memory(X.compute(), where)
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
            return np.where(pd.isna(X), np.nan, X).astype(np.float64)
        except (TypeError, ValueError) as error:
            raise TypeError(f"{where} must hold numbers, the raw counts: {error}") from None
    return np.asarray(X)


def check_quality(adata: AnnData, counts: Counts) -> None:
    """Raise ValueError if there are no counts at all; warn if they may not be raw counts.

    Parameters
    ----------
    adata : AnnData
        The table, in which the message may point to another place.
    counts : Counts
        What was read from it.
    """
    if not counts.values.nnz:
        raise ValueError(f"all counts are zero in {counts.where}{_elsewhere(adata, counts.where)}")
    doubt = _doubt(counts.values, counts.where)
    if doubt:
        warn(
            f"counts {doubt}: raw counts are expected, not normalised or binary ones"
            f"{_elsewhere(adata, counts.where)}"
        )
    size, totals = counts.library_size, counts.totals
    if counts.stored and len(size) >= LEAST_CELLS and not np.ptp(size) and np.ptp(totals):
        warn(
            f"obs['{LIBRARY_SIZE}'] is {size[0]:.10g} in every cell: it must hold the number of "
            "molecules of each cell, not what cells were or will be scaled to"
        )
    n_empty = int((counts.library_size == 0).sum())
    if n_empty:
        warn(f"{n_empty} cells have no counts at all")


def refuse_transformed(adata: AnnData, counts: Counts) -> None:
    """Raise ValueError if counts were clearly normalised, or are logarithms.

    Fractions alone are no reason: corrections for ambient RNA leave them.

    Parameters
    ----------
    adata : AnnData
        The table, in which the message may point to another place.
    counts : Counts
        What was read from it.
    """
    data = counts.values.data
    if not len(data) or (data == np.floor(data)).mean() > MOST_FRACTIONS:
        return
    look = _normalised(counts.values)
    if look or data.max() < LARGEST_LOG_COUNT:
        look = look or f" (none is above {data.max():.3g}, so they look log-transformed)"
        raise ValueError(
            f"counts are not whole numbers in {counts.where}{look}: pass raw counts, since they "
            f"are scaled here as those of the reference were{_elsewhere(adata, counts.where)}"
        )


def some(names: Sequence[str] | np.ndarray | pd.Index) -> str:
    """Name up to five names, for messages.

    Examples
    --------
    >>> from rpumap._counts import some
    >>> some(["Ins1", "Gcg "])
    "'Ins1', 'Gcg '"
    """
    return ", ".join(repr(str(name)) for name in names[:5]) + (", ..." if len(names) > 5 else "")


_heard: ContextVar[list[str] | None] = ContextVar("heard", default=None)


@contextmanager
def listen() -> Iterator[list[str]]:
    """Collect what `warn` is told inside, in this thread, each message once; nothing is shown.

    ``warnings.catch_warnings`` changes what all threads of the process do.

    Examples
    --------
    >>> from rpumap._counts import listen, warn
    >>> with listen() as said:
    ...     warn("one"), warn("one"), warn("two")
    (None, None, None)
    >>> said
    ['one', 'two']
    """
    said: list[str] = []
    token = _heard.set(said)
    try:
        yield said
    finally:
        _heard.reset(token)


def warn(message: str) -> None:
    """Warn at the line that called this package, whatever scikit-learn has put in between."""
    said = _heard.get()
    if said is not None:
        said += [message] if message not in said else []
        return
    frame, level = inspect.currentframe(), 1
    while frame and frame.f_globals.get("__name__", "").partition(".")[0] in ("rpumap", "sklearn"):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, stacklevel=level)


# --- reading ------------------------------------------------------------------------------------


INSTEAD = {
    "Raw": "pass adata.raw.to_adata()",
    "MuData": "pass one of its tables, such as mdata['rna']",
    "str": "read the file with anndata.read_h5ad first",
    "PosixPath": "read the file with anndata.read_h5ad first",
}


def _checked_table(adata: Any) -> AnnData:
    from anndata import AnnData as Table

    if not isinstance(adata, Table):
        name = type(adata).__name__
        wrap = "wrap an array as anndata.AnnData(counts), with gene names in var_names"
        raise TypeError(
            "an AnnData with raw counts in X or a layer is needed, as Preprocessor takes it, not "
            f"{name}: {INSTEAD.get(name, wrap)}"
        )
    if 0 in adata.shape:
        raise ValueError(
            f"the data hold no counts: they have {adata.n_obs} cells and {adata.n_vars} genes"
        )
    names = _names(adata)
    if not names.is_unique:
        repeated = names[names.duplicated()].unique()
        raise ValueError(
            f"gene names repeat ({len(repeated)} of them: {some(repeated)}): call "
            "adata.var_names_make_unique() first, or add up the counts of genes of one name"
        )
    # columns of a table that was opened lazily are read as columns of any other
    return adata if isinstance(adata.obs, pd.DataFrame) else adata.to_memory()


def _names(adata: AnnData) -> pd.Index:
    """Return the names of genes as text, whatever the index holds."""
    return pd.Index([str(name) for name in adata.var_names], dtype=object)


def _part(adata: AnnData, layer: str | None) -> Any:
    try:
        X = adata.X if layer is None else adata.layers[layer]
        if X is None or X.shape == adata.shape:
            return X
        problem = f"it comes in the shape {X.shape}"
    except (TypeError, ValueError) as error:
        problem = str(error)
    if adata.isbacked:
        raise ValueError(
            f"this part of the file {adata.filename} cannot be read ({problem}): load the file "
            "with adata.to_memory() before you take a part of the table"
        )
    # Rows by number and columns by a slice that runs backwards: scipy fails, or, before 1.17, gives
    # a matrix of another shape.
    view = adata[:, np.arange(adata.n_vars)]
    return view.X if layer is None else view.layers[layer]


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
    if getattr(column.dtype, "kind", "O") not in "iuf":
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
        (
            (values.data < SMALLEST_VALUE) | (values.data > LARGEST_VALUE),
            f"values below {SMALLEST_VALUE:g} or above {LARGEST_VALUE:g}",
            "these are no counts",
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


def _doubt(values: csr_matrix, where: str) -> str:
    """Say why counts may not be raw ones, "" if nothing tells against it."""
    if not _is_whole(values):
        return f"are not whole numbers in {where}{_normalised(values)}"
    if values.nnz >= LEAST_ONES and (values.data == 1).all():
        return f"are 0 or 1 only in {where}"
    sums = _row_sums(values)
    sums = sums[sums > 0]
    # the same sum in all cells can be the work of scanpy.pp.downsample_counts
    if len(sums) >= LEAST_CELLS and 0 < np.ptp(sums) < 1e-2 * sums.max():
        return f"look rounded in {where} (every cell sums to about {np.median(sums):.4g})"
    return ""


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
        f"layers[{name!r}]": (_part(adata, name), f"pass layer={name!r}")
        for name in sorted(adata.layers, key=lambda name: name != "counts")
    }
    parts["X"] = (_part(adata, None), "pass layer=None")
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
