r"""Lost counts: drop them, show a network what is left, and bound what a loss can do.

Sequencing misses molecules. A lost count takes its molecules with it, and the library size of its
cell falls by as many, as if they had never been counted (:func:`remaining_library`). Three tools
follow that one rule: :func:`drop_counts` drops entries of a table (figures 4 and 5C of the paper),
:class:`CountDropper` does so on tensors while a network trains, and :func:`dropout_box` makes the
box of z-scores that holds every such loss.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import pandas as pd
import torch
from scipy.sparse import csr_array, csr_matrix, issparse, sparray
from sklearn.utils.validation import check_array
from torch import Tensor

from rpumap._counts import LIBRARY_SIZE, as_csr, in_memory, read_counts
from rpumap._validation import check_flag, check_number
from rpumap.preprocessing import Preprocessor, check_preprocessor

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import ArrayLike

Counts = TypeVar("Counts")


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
    >>> from rpumap.dropout import remaining_library
    >>> before, after = np.array([4.0, 3.0]), np.array([1.0, 0.0])
    >>> remaining_library(np.array([10.0, 3.0]), before, after).tolist()
    [7.0, 0.0]
    """
    return np.maximum(size - (before - after), after)


def drop_counts(
    counts: Counts,
    ratio: float,
    random_state: int | np.random.Generator | None = None,
    *,
    layer: str | None = None,
) -> Counts:
    """Set a share of the counts that are not zero to zero (figures 4 and 5C of the paper).

    Parameters
    ----------
    counts : ndarray, DataFrame, scipy sparse matrix or array, or AnnData; (n_cells, n_genes)
        Raw counts; of an AnnData those in ``X`` or the layer. They are not changed.
    ratio : float
        Share of the non-zero entries to be lost, from 0 to 1, the paper's dropout ratio.
    random_state : int, numpy.random.Generator or None
        Source of the choice. The same integer loses the same counts, dense or sparse.
    layer : str, optional
        Name of the layer of an AnnData that holds the counts; by default ``X``.

    Returns
    -------
    ndarray, DataFrame, scipy sparse matrix or array, or AnnData
        A copy, of the same type, format and dtype, in which ``round(ratio * n)`` of the ``n``
        non-zero entries, drawn uniformly without replacement, are zero. Sparse results store no
        zeros. A table that was backed by a file is in memory.

    Raises
    ------
    TypeError
        If `counts` hold no numbers, or are ``adata.raw``.
    ValueError
        If `ratio` is not between 0 and 1, counts are negative or not finite, or a stored library
        size is smaller than the counts of its cell.

    Notes
    -----
    A lost entry takes its molecules with it, so the library size of its cell shrinks. Where it is
    the row sum that happens by itself. Where it is stored, in ``obs["library_size"]``, the lost
    molecules are subtracted there, so that :class:`rpumap.Preprocessor` sees what it would have
    seen had the molecules never been counted. Only entries of the table are lost: genes that are
    not in it, but in the stored library size, lose nothing. All else in an AnnData (other layers,
    ``raw``, other columns of ``obs``) is copied as it is.

    Examples
    --------
    >>> import numpy as np
    >>> from rpumap.dropout import drop_counts
    >>> counts = np.array([[3, 0, 1, 2], [0, 5, 0, 1]])
    >>> lost = drop_counts(counts, 0.4, random_state=0)
    >>> int((counts > 0).sum()), int((lost > 0).sum()), bool((lost <= counts).all())
    (5, 3, True)
    """
    check_number("ratio", ratio, most=1.0)
    rng = np.random.default_rng(random_state)
    if hasattr(counts, "var_names"):  # not .X, which may have to be read from a file
        return _drop_from_table(counts, ratio, rng, layer)
    if layer is not None:
        raise TypeError(f"layer={layer!r} needs an AnnData, got {type(counts).__name__}")
    return _drop_entries(counts, ratio, rng)


class CountDropper:
    """Drop counts of cells and prepare what is left, all on tensors.

    Parameters
    ----------
    prep : Preprocessor
        Fitted.
    adata : AnnData of shape (n_cells, any number of genes)
        Raw counts in ``X`` or the layer of `prep`, as ``prep.transform`` takes them.
    device : torch.device
        Where the counts are kept.

    Raises
    ------
    TypeError
        If `prep` is no Preprocessor, or `adata` no AnnData.
    sklearn.exceptions.NotFittedError
        If `prep` is not fitted.
    ValueError
        If the counts are bad, as in ``prep.transform``.

    Notes
    -----
    Of the genes in ``prep.genes_`` each entry is kept or lost, and the library size falls by what
    was lost. All other molecules of a cell are one number here, their sum: of ratio r they lose the
    share r that can be expected, without noise. A gene that the data lack stays at 0, its mean.

    Examples
    --------
    >>> import rpumap, torch
    >>> from rpumap.dropout import CountDropper
    >>> adata = rpumap.datasets.pancreas(source="simulated")[:200]
    >>> prep = rpumap.Preprocessor(n_top_genes=50).fit(adata)
    >>> dropper = CountDropper(prep, adata, torch.device("cpu"))
    >>> everything = torch.ones(200, 50, dtype=torch.bool)
    >>> z = dropper(torch.arange(200), everything, torch.zeros(200, 1))
    >>> bool((z - torch.as_tensor(prep.transform(adata))).abs().max() < 1e-4)
    True
    """

    def __init__(self, prep: Preprocessor, adata: AnnData, device: torch.device) -> None:
        check_preprocessor(prep)
        table = read_counts(adata, prep.layer)
        counts, present = table.of(prep.genes_)
        rest = remaining_library(table.library_size, counts.sum(axis=1))
        self.log1p, self.target_sum = prep.log1p, prep.target_sum
        self.counts, self.rest, self.mean, self.std, self.present = (
            torch.as_tensor(array, device=device).float()
            for array in (counts, rest[:, None], prep.mean_, prep.std_, present)
        )

    def __call__(self, cells: Tensor, kept: Tensor, ratio: Tensor) -> Tensor:
        """Return the z-scores of cells of which some counts are lost.

        Parameters
        ----------
        cells : torch.Tensor of shape (n,), int64
            Which cells; they may repeat.
        kept : torch.Tensor of shape (n, n_genes), bool
            Which of their entries are left.
        ratio : torch.Tensor of shape (n, 1)
            Share of the other molecules that is lost.

        Returns
        -------
        torch.Tensor of shape (n, n_genes), float32
        """
        left = self.counts[cells] * kept
        size = left.sum(dim=1, keepdim=True) + (1 - ratio) * self.rest[cells]
        scaled = self.target_sum * left / size.clamp(min=1e-12)  # a cell without counts stays at 0
        values = torch.log1p(scaled) if self.log1p else scaled
        return (values - self.mean) / self.std * self.present


def dropout_box(
    prep: Preprocessor,
    adata: AnnData,
    genes: Sequence[str] | None = None,
    *,
    library_size_falls: bool = False,
    library_loss: ArrayLike | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    r"""Return the box from "these counts were lost" to "as observed".

    Parameters
    ----------
    prep : Preprocessor
        Fitted.
    adata : AnnData of shape (n_cells, any number of genes)
        Raw counts in ``X`` or the layer of `prep`, as ``prep.transform`` takes them.
    genes : sequence of str, optional
        Genes whose counts may be lost, in part or altogether; by default all of ``prep.genes_``.
    library_size_falls : bool
        Whether what is lost is missing from the library size too. Each normalised value then
        rises as counts of other genes are lost, and the box holds that as well. Counts of genes
        outside ``prep.genes_`` are taken as kept.
    library_loss : float or array-like of shape (n_cells,), optional
        The largest share of its library that a cell, or each cell, may have lost, from 0 to below
        1: molecules of `genes` and, unlike above, of genes outside ``prep.genes_``, whether the
        table holds these or not. The library size then falls, whatever `library_size_falls` says.

    Returns
    -------
    lower, upper : ndarray of shape (n_cells, n_top_genes), float32
        Z-scores. Where nothing can change the two are the same, but for a float32 step outwards
        if the library size falls. If it does not, `upper` is what ``prep.transform`` returns.

    Raises
    ------
    TypeError
        If `prep` is no Preprocessor, or `adata` no AnnData.
    sklearn.exceptions.NotFittedError
        If `prep` is not fitted.
    ValueError
        If a gene is none of ``prep.genes_``, `library_loss` is not as above, or as
        ``prep.transform``.

    Notes
    -----
    With :math:`c_g` counts of gene :math:`g`, library size :math:`L`, and :math:`c_S` counts of all
    the genes that may be lost, the share of one of these in the library runs from 0 to
    :math:`c_g / (L - c_S + c_g)`, that of another gene from :math:`c_g / L` to
    :math:`c_g / (L - c_S)`. What follows (the target sum, ``log1p``, the z-score) is monotone.

    With a `library_loss` of :math:`s`, at most :math:`s L` molecules are lost, and none of the
    :math:`K` counts of those genes in ``prep.genes_`` that may not be. The share of a gene that may
    lose counts is smallest if only its own are lost, largest if only others are:

    .. math::

        \frac{c_g - t}{L - t} &\le \frac{c_g'}{L'} \le
        \frac{c_g}{\max(K + c_g, (1 - s) L)}, \\
        t &= \min(c_g, s L);

    of another gene, :math:`t = 0` and the maximum is that of :math:`K` and :math:`(1 - s) L`. For
    each end there is a loss that reaches it (in fractions of a molecule), but none reaches all.

    Examples
    --------
    >>> import rpumap
    >>> from rpumap.dropout import dropout_box
    >>> adata = rpumap.datasets.pancreas(source="simulated")[:200]
    >>> prep = rpumap.Preprocessor(n_top_genes=50).fit(adata)
    >>> lower, upper = dropout_box(prep, adata, prep.genes_[:3])
    >>> (lower < upper).any(axis=0).tolist()[:5]
    [True, True, True, False, False]

    Every count of the table may be among the lost ones, but no cell lost more than some share of
    its molecules. That share can be given, here as it was in each cell:

    >>> lost = rpumap.dropout.drop_counts(adata, 0.3, random_state=0)
    >>> left = lost.obs["library_size"] / adata.obs["library_size"]
    >>> lower, upper = dropout_box(prep, adata, library_loss=1 - left)
    >>> z = prep.transform(lost)
    >>> bool(((lower <= z) & (z <= upper)).all())
    True
    """
    check_preprocessor(prep)
    check_flag("library_size_falls", library_size_falls)
    wanted = prep.genes_ if genes is None else np.atleast_1d(np.asarray(genes)).astype(str)
    unknown = np.setdiff1d(wanted, prep.genes_)
    if len(unknown):
        raise ValueError(
            f"genes must be among those of prep ({', '.join(prep.genes_[:3])}, ...), got "
            f"{', '.join(unknown[:5])}"
        )
    upper = np.array(prep.transform(adata))  # an array, whatever set_output asks for
    table = read_counts(adata, prep.layer)
    counts, present = table.of(prep.genes_)
    lost = np.isin(prep.genes_, wanted) & present
    lower = upper.copy()
    lower[:, lost] = prep.standardize(np.zeros(upper.shape))[:, lost]
    if library_loss is None and not library_size_falls:
        return lower, upper
    before, kept = counts.sum(axis=1), counts[:, ~lost].sum(axis=1)
    if library_loss is None:
        rest = remaining_library(table.library_size, before, kept)
        highest = _largest_shares(counts, rest, lost)
    else:
        size = np.maximum(table.library_size, before)[:, None]
        most = _checked_loss(library_loss, len(size)) * size
        highest = _largest_shares(counts, kept, lost, least=size - most)
        taken = np.minimum(counts, most)
        lowest = _shares(counts - taken, size - taken)
        lowest = prep.standardize(prep.target_sum * lowest)
        lower[:, lost] = np.nextafter(lowest, np.float32(-np.inf))[:, lost]
    # one step out, here and above, because this was not rounded as prep.transform rounds
    highest = prep.standardize(prep.target_sum * highest)
    upper[:, present] = np.nextafter(highest, np.float32(np.inf))[:, present]
    return lower, upper


def _largest_shares(
    counts: np.ndarray, rest: np.ndarray, lost: np.ndarray, least: np.ndarray | float = 0.0
) -> np.ndarray:
    """Share of each count in the library if all that may be lost were, but for the count itself.

    At `least` so much of the library is left, however much may be lost.
    """
    return _shares(counts, np.maximum(rest[:, None] + counts * lost, least))


def _shares(counts: np.ndarray, size: np.ndarray) -> np.ndarray:
    return np.divide(counts, size, out=np.zeros_like(counts), where=counts > 0)


def _checked_loss(library_loss: Any, n_cells: int) -> np.ndarray:
    """Return the share that each cell may have lost as a column, a few roundings larger."""
    shares = np.asarray(library_loss)
    is_number = shares.dtype.kind in "iuf" and shares.shape in ((), (n_cells,))
    if not (is_number and ((shares >= 0) & (shares < 1)).all()):
        raise ValueError(
            "library_loss must be None, a number of at least 0 and below 1, or one such number for "
            f"each of {n_cells} cells, got {library_loss!r}"
        )
    # a share that was computed as lost / library may have been rounded down
    return shares.astype(float).reshape(-1, 1) + 8 * np.finfo(float).eps


def _drop_from_table(
    adata: AnnData, ratio: float, rng: np.random.Generator, layer: str | None
) -> AnnData:
    before = read_counts(adata, layer)
    X = adata.X if layer is None else adata.layers[layer]
    must_be_loaded = adata.isbacked or not (issparse(X) or isinstance(X, np.ndarray))
    dropped = adata.to_memory() if must_be_loaded else adata.copy()
    if layer is None:
        dropped.X = _drop_entries(dropped.X, ratio, rng)
    else:
        dropped.layers[layer] = _drop_entries(dropped.layers[layer], ratio, rng)
    if before.stored:
        after = read_counts(dropped, layer)
        size = remaining_library(before.library_size, before.totals, after.totals)
        dtype = dropped.obs[LIBRARY_SIZE].infer_objects().dtype
        if dtype.kind in "iu" and (size != np.floor(size)).any():
            dtype = np.dtype(np.float64)
        dropped.obs[LIBRARY_SIZE] = pd.Series(size, dropped.obs_names).astype(dtype)
    return dropped


def _drop_entries(counts: Any, ratio: float, rng: np.random.Generator) -> Any:
    if isinstance(counts, pd.DataFrame):
        left = _drop_entries(counts.to_numpy(), ratio, rng)
        return pd.DataFrame(left, index=counts.index, columns=counts.columns)
    if hasattr(counts, "compute") or np.ma.isMaskedArray(counts):  # of dask, or with a mask
        counts = in_memory(counts, "counts")
    counts = check_array(counts, accept_sparse=True, input_name="counts")
    kept = as_csr(counts, "counts").copy() if issparse(counts) else np.array(counts, order="C")
    entries = np.asarray(kept.data if issparse(kept) else kept.reshape(-1))  # a view
    if np.any(entries < 0):
        raise ValueError("counts must not be negative: pass raw counts, not z-scores")
    found = np.flatnonzero(entries)  # cell by cell, dense or sparse
    entries[rng.choice(found, round(ratio * len(found)), replace=False)] = 0
    return _as_given(kept, counts) if issparse(kept) else kept


def _as_given(kept: csr_matrix, counts: Any) -> Any:
    """Return a matrix in the type, format and dtype of another one."""
    kept.eliminate_zeros()
    given = kept.astype(counts.dtype.newbyteorder("="))
    # duplicates that were added up may not fit into a small type
    kept = given if np.array_equal(given.data, kept.data) else kept
    return (csr_array(kept) if isinstance(counts, sparray) else kept).asformat(counts.format)
