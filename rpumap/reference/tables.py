"""Tables of counts: read whole or in parts, from memory, a file, or as blocks of dask.

A table of dask is one whose counts are a dask array, as ``anndata.experimental.read_lazy`` gives
them. Its blocks are worked on by whatever scheduler is active when results are asked for.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pandas as pd

from rpumap._counts import LIBRARY_SIZE, as_csr, listen, read_counts, refuse_transformed, some

if TYPE_CHECKING:
    import dask.array
    from anndata import AnnData

Array: TypeAlias = "np.ndarray | dask.array.Array"
CHUNK = 10_000  # cells that are in memory at once
# Of a lazy table so many cells are looked at before the others: at its beginning, middle and end.
LOOKED_AT = 1000


def check_table(adata: Any) -> None:
    """Raise TypeError, which says what is needed, unless something is an AnnData."""
    from anndata import AnnData as Table

    if not isinstance(adata, Table):
        read_counts(adata)


def is_lazy(adata: AnnData, layer: str | None) -> bool:
    """Tell whether the counts of a table are a dask array."""
    X = adata.layers.get(layer) if layer is not None else None if adata.isbacked else adata.X
    return hasattr(X, "__dask_graph__")


def labels_of(adata: AnnData, labels: str | Sequence) -> Any:
    """Return a column of ``obs``, or the labels themselves; KeyError if there is no such column."""
    if not isinstance(labels, str):
        return labels
    if labels not in adata.obs:
        raise KeyError(
            f"there is no column {labels!r} in obs, which has {some(list(adata.obs.columns))}"
        )
    return pd.Series(np.asarray(adata.obs[labels]))


def counts_of(
    adata: AnnData, layer: str | None, rows: np.ndarray, names: np.ndarray | None = None
) -> AnnData:
    """Return the counts of some cells in memory, with library sizes and names of genes.

    Parameters
    ----------
    adata : AnnData
        In memory, backed by a file, or lazy.
    layer : str, optional
        Where the counts are; by default in ``X``.
    rows : ndarray of int
        Places of the cells.
    names : ndarray of str, optional
        Names of the genes; by default those of `adata`.

    Returns
    -------
    AnnData of shape (len(rows), n_genes)
        Counts in ``X``, as a csr_matrix.

    Raises
    ------
    TypeError, ValueError
        If counts are bad, or were transformed.
    """
    from anndata import AnnData as Table

    whole = len(rows) == adata.n_obs
    part = adata if whole and not adata.isbacked else adata[rows]
    in_memory = isinstance(adata.obs, pd.DataFrame) and not adata.isbacked
    part = part if in_memory else part.to_memory()
    counts = read_counts(part, layer)
    refuse_transformed(part, counts)
    obs = part.obs[[name for name in (LIBRARY_SIZE,) if name in part.obs]].copy()
    var = part.var.copy()
    if names is not None:
        var.index = pd.Index(names)
    return Table(counts.values, obs=obs, var=var)


def for_each_cell(
    adata: AnnData,
    layer: str | None,
    names: np.ndarray,
    function: Callable[[AnnData], np.ndarray],
) -> Array:
    """Apply a function to the cells of a table, of which few are in memory at once.

    Parameters
    ----------
    adata : AnnData of shape (n_cells, n_genes)
        In memory, backed by a file, or lazy.
    layer : str, optional
        Where the counts are; by default in ``X``.
    names : ndarray of str, shape (n_genes,)
        Names of the genes.
    function : callable
        Takes what `counts_of` returns for some cells, and returns a structured array with one
        record for each. Of a lazy table it must be possible to pickle it, for other processes.

    Returns
    -------
    ndarray, or dask array of a lazy table, of shape (n_cells,)
        All records, in order.

    Raises
    ------
    TypeError, ValueError
        If counts are bad; of a lazy table those of the cells that are looked at first.
    """
    if not is_lazy(adata, layer):
        return _in_parts(adata, layer, names, function)
    n, look = adata.n_obs, min(LOOKED_AT, adata.n_obs)
    starts = {0, (n - look) // 2, n - look}
    parts = [np.arange(start, start + look) for start in sorted(starts)]
    first = [function(counts_of(adata, layer, rows, names)) for rows in parts]
    return _blocks(adata, layer, names, function, first[0].dtype)


def _in_parts(
    adata: AnnData,
    layer: str | None,
    names: np.ndarray,
    function: Callable[[AnnData], np.ndarray],
) -> np.ndarray:
    starts = range(0, max(adata.n_obs, 1), CHUNK)
    rows = [np.arange(start, min(start + CHUNK, adata.n_obs)) for start in starts]
    return np.concatenate([function(counts_of(adata, layer, part, names)) for part in rows])


def _blocks(
    adata: AnnData,
    layer: str | None,
    names: np.ndarray,
    function: Callable[[AnnData], np.ndarray],
    dtype: np.dtype,
) -> dask.array.Array:
    import dask
    import dask.array

    X = adata.X if layer is None else adata.layers[layer]
    X = X.rechunk({1: -1})
    arrays = [X]
    if LIBRARY_SIZE in adata.obs:
        sizes = np.asarray(adata.obs[LIBRARY_SIZE])[:, None]
        arrays.append(dask.array.from_array(sizes, chunks=(X.chunks[0], (1,))))
    return dask.array.map_blocks(
        _block,
        *arrays,
        # one copy for all blocks, which travels once to each process
        names=dask.delayed(names, traverse=False),
        function=dask.delayed(function, traverse=False),
        drop_axis=1,
        meta=np.empty(0, dtype),
        name=f"for-each-cell-{uuid.uuid4().hex}",
    )


def _block(
    values: Any,
    sizes: np.ndarray | None = None,
    *,
    names: np.ndarray,
    function: Callable[[AnnData], np.ndarray],
    block_info: Any = None,
) -> np.ndarray:
    """Apply the function to one block. What it would warn of was said of the first cells."""
    from anndata import AnnData as Table

    start = block_info[0]["array-location"][0][0]
    cells = pd.RangeIndex(start, start + values.shape[0]).astype(str)
    obs = pd.DataFrame(index=cells)
    if sizes is not None:
        obs[LIBRARY_SIZE] = sizes[:, 0]
    with listen():
        table = Table(as_csr(values), obs=obs, var=pd.DataFrame(index=pd.Index(names)))
        return _in_parts(table, None, names, function)
