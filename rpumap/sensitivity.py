r"""What a gene does to the map: derivatives, noise in chosen genes, and lost counts.

A ReLU network is linear around almost every cell. Its Jacobian there is a product of weight
matrices from which the neurons that are off have been struck out,

.. math:: J(x) = \frac{\partial z}{\partial x} = W^{(m)} D^{(m-1)} W^{(m-1)} \cdots D^{(1)} W^{(1)},

with :math:`D^{(k)}` diagonal: 1 where the input of a ReLU of layer :math:`k` is positive, else 0.
At a kink, an input of exactly 0, the derivative is taken as 0, as PyTorch does.
"""

from __future__ import annotations

import copy
import numbers
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch
from scipy.sparse import issparse
from sklearn.utils.validation import check_array, check_is_fitted, validate_data
from torch import nn

from rpumap.estimator import ParametricUMAP, dense
from rpumap.preprocessing import LIBRARY_SIZE

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import ArrayLike

BATCH_MEGABYTES = 64
Counts = TypeVar("Counts")


def jacobian(model: ParametricUMAP, X: ArrayLike) -> np.ndarray:
    r"""Differentiate the place of each cell with respect to each gene.

    Parameters
    ----------
    model : ParametricUMAP
        A fitted model.
    X : array-like or sparse matrix of shape (n_cells, n_genes)
        Z-scores, as for ``model.transform``.

    Returns
    -------
    ndarray of shape (n_cells, n_components, n_genes), float64
        Entry ``[i, j, g]`` is :math:`\partial z_{ij} / \partial x_{ig}`, in units of the map per
        standard deviation of the gene. At a kink the derivative of a ReLU is taken as 0.

    Raises
    ------
    TypeError
        If `model` is not a ParametricUMAP.
    sklearn.exceptions.NotFittedError
        If it is not fitted.
    ValueError
        If the number of genes differs from that in `fit`, or a value is not finite.

    Notes
    -----
    The closed form at the head of this module, in double precision. The result holds n_cells
    times n_components times n_genes numbers; :func:`gene_impact` does without it.

    Examples
    --------
    >>> import numpy as np
    >>> from rpumap import ParametricUMAP
    >>> from rpumap.sensitivity import jacobian
    >>> X = np.random.default_rng(0).normal(size=(100, 6))
    >>> jacobian(ParametricUMAP(n_steps=5, random_state=0).fit(X), X).shape
    (100, 2, 6)
    """
    return np.concatenate(list(_jacobians(model, X)))


def gene_impact(model: ParametricUMAP, X: ArrayLike) -> np.ndarray:
    r"""Sum, over the cells, how steeply the map depends on each gene.

    Parameters
    ----------
    model : ParametricUMAP
        A fitted model.
    X : array-like or sparse matrix of shape (n_cells, n_genes)
        Z-scores, as for ``model.transform``.

    Returns
    -------
    ndarray of shape (n_genes,), float64
        Impact of each gene, at least 0, in units of the map per standard deviation of the gene.
        It grows with the number of cells: divide by it for the mean of a cell.

    Raises
    ------
    TypeError, ValueError, sklearn.exceptions.NotFittedError
        As :func:`jacobian`.

    Notes
    -----
    Section 3.5 of Zhang and Xu, doi:10.1101/2023.11.14.567092:

    .. math::

        \text{impact}_g = \sum_{i} \left\lVert \frac{\partial z_i}{\partial x_{ig}} \right\rVert_2

    A derivative looks at one point. Impact 0 does not mean that a gene has no effect: the
    neurons that it would switch on may all be off in the cells given.

    Examples
    --------
    >>> import numpy as np
    >>> import rpumap
    >>> X = np.random.default_rng(0).normal(size=(100, 6))
    >>> model = rpumap.ParametricUMAP(n_steps=5, random_state=0).fit(X)
    >>> rpumap.gene_impact(model, X).shape
    (6,)
    """
    return sum(np.linalg.norm(batch, axis=1).sum(axis=0) for batch in _jacobians(model, X))


def perturb(
    X: ArrayLike,
    scale: float,
    genes: int | Sequence[int] | None = None,
    random_state: int | np.random.Generator | None = None,
) -> np.ndarray:
    """Add normal noise to chosen genes, in all cells (figure 5D of the paper).

    Parameters
    ----------
    X : array-like or sparse matrix of shape (n_cells, n_genes)
        Z-scores. They are not changed.
    scale : float
        Standard deviation of the noise, 0 or more, in the units of `X`.
    genes : int or sequence of int, optional
        Columns to perturb. All where it is None.
    random_state : int, numpy.random.Generator or None
        Source of the noise. The same integer gives the same noise.

    Returns
    -------
    ndarray of shape (n_cells, n_genes)
        A copy of `X`; the other columns keep their bits. Floating types are kept, integers become
        float64.

    Raises
    ------
    ValueError
        If `scale` is negative or not finite, a value of `X` is not finite, or `genes` are not
        different whole numbers from 0 to n_genes - 1.

    Examples
    --------
    >>> import numpy as np
    >>> from rpumap.sensitivity import perturb
    >>> X = np.zeros((1000, 3))
    >>> perturb(X, 2.0, genes=1, random_state=0).std(axis=0).round(1).tolist()
    [0.0, 2.0, 0.0]
    """
    _check_number("scale", scale, np.inf)
    X = check_array(X, accept_sparse=True, dtype=[np.float64, np.float32], input_name="X")
    noisy = X.toarray() if issparse(X) else np.array(X)
    columns = _check_genes(genes, noisy.shape[1])
    noise = np.random.default_rng(random_state).normal(scale=scale, size=(len(noisy), len(columns)))
    noisy[:, columns] += noise
    return noisy


def drop_counts(
    counts: Counts, ratio: float, random_state: int | np.random.Generator | None = None
) -> Counts:
    """Set a share of the counts that are not zero to zero (figures 4 and 5C of the paper).

    Parameters
    ----------
    counts : ndarray, scipy sparse matrix or array, or AnnData; shape (n_cells, n_genes)
        Raw counts; of an AnnData those in ``X``. They are not changed.
    ratio : float
        Share of the non-zero entries to be lost, from 0 to 1, the paper's dropout ratio.
    random_state : int, numpy.random.Generator or None
        Source of the choice. The same integer loses the same counts, dense or sparse.

    Returns
    -------
    ndarray, scipy sparse matrix or array, or AnnData
        A copy, of the same type, format and dtype, in which ``round(ratio * n)`` of the ``n``
        non-zero entries, drawn uniformly without replacement, are zero. Sparse results store no
        zeros.

    Raises
    ------
    ValueError
        If `ratio` is not between 0 and 1, counts are negative or not finite, or a library size
        is smaller than the counts lost from its cell.

    Notes
    -----
    A lost entry takes its molecules with it, so the library size of its cell shrinks. Where it is
    the row sum that happens by itself. Where it is stored, in ``obs["library_size"]``, the lost
    molecules are subtracted there, so that :class:`rpumap.Preprocessor` sees what it would have
    seen had the molecules never been counted. Only entries of ``X`` are lost: genes that are not
    in the table, but in the stored library size, lose nothing. All else in an AnnData (layers,
    ``raw``, other columns of ``obs``) is copied as it is.

    Examples
    --------
    >>> import numpy as np
    >>> from rpumap.sensitivity import drop_counts
    >>> counts = np.array([[3, 0, 1, 2], [0, 5, 0, 1]])
    >>> lost = drop_counts(counts, 0.4, random_state=0)
    >>> int((counts > 0).sum()), int((lost > 0).sum()), bool((lost <= counts).all())
    (5, 3, True)
    """
    _check_number("ratio", ratio, 1.0)
    rng = np.random.default_rng(random_state)
    if hasattr(counts, "obs_names"):
        return _drop_from_table(counts, ratio, rng)
    return _drop_entries(counts, ratio, rng)


def _jacobians(model: ParametricUMAP, X: ArrayLike) -> Iterator[np.ndarray]:
    """Yield the Jacobians of some cells at a time, as many as fit into the working memory."""
    if not isinstance(model, ParametricUMAP):
        raise TypeError(f"a fitted rpumap.ParametricUMAP is needed, not {type(model).__name__}")
    check_is_fitted(model)
    # as in transform: float32 in, double precision inside
    X = validate_data(model, X, dtype=np.float32, accept_sparse="csr", reset=False)
    encoder = copy.deepcopy(model.encoder_).double()
    widest = max(max(p.shape) for p in encoder.parameters())
    # two such arrays stand side by side in a product
    bytes_per_cell = 2 * 8 * model.embedding_.shape[1] * widest
    n_rows = max(1, int(BATCH_MEGABYTES * 1e6 / bytes_per_cell))
    for start in range(0, X.shape[0], n_rows):
        rows = dense(X[start : start + n_rows])
        yield _closed_form(encoder, torch.as_tensor(rows).double()).numpy()


@torch.no_grad()
def _closed_form(encoder: nn.Sequential, x: torch.Tensor) -> torch.Tensor:
    """Multiply weights from the output back to the input, neurons that are off struck out."""
    is_on = {}
    for depth, layer in enumerate(encoder):
        x = layer(x)
        if isinstance(layer, nn.ReLU):
            is_on[depth] = x > 0  # the output of a ReLU is positive where its input is
    J = torch.eye(x.shape[1], dtype=x.dtype).expand(len(x), -1, -1)
    for depth in reversed(range(len(encoder))):
        J = J * is_on[depth].unsqueeze(1) if depth in is_on else J @ encoder[depth].weight
    return J


def _check_number(name: str, value: float, most: float) -> None:
    in_range = isinstance(value, numbers.Real) and 0 <= value <= most and np.isfinite(value)
    if not in_range:
        limits = "a finite number of at least 0" if most == np.inf else f"from 0 to {most:g}"
        raise ValueError(f"{name} must be {limits}, got {value!r}")


def _check_genes(genes: int | Sequence[int] | None, n_genes: int) -> np.ndarray:
    if genes is None:
        return np.arange(n_genes)
    columns = np.atleast_1d(np.asarray(genes))
    if columns.size == 0:
        return np.arange(0)
    if columns.ndim != 1 or not np.issubdtype(columns.dtype, np.integer):
        raise ValueError(
            f"genes must be one column number or several, got {genes!r}: "
            "np.flatnonzero(mask) turns a mask, such as genes_ == name, into numbers"
        )
    outside = columns[(columns < 0) | (columns >= n_genes)]
    if len(outside):
        raise ValueError(f"genes must lie from 0 to {n_genes - 1}, got {outside.tolist()}")
    if len(np.unique(columns)) < len(columns):
        raise ValueError(f"genes must be different from each other, got {columns.tolist()}")
    return columns


def _drop_from_table(adata: AnnData, ratio: float, rng: np.random.Generator) -> AnnData:
    if adata.X is None:
        raise ValueError("the data hold no counts: X is None")
    dropped = adata.copy()
    dropped.X = _drop_entries(adata.X, ratio, rng)
    if LIBRARY_SIZE in adata.obs:
        size = adata.obs[LIBRARY_SIZE]
        totals = [np.ravel(table.X.sum(axis=1, dtype=np.float64)) for table in (adata, dropped)]
        lost = totals[0] - totals[1]
        if (size.to_numpy() < lost).any():
            raise ValueError(
                f"obs['{LIBRARY_SIZE}'] is smaller than the counts lost in {(size < lost).sum()} "
                "cells: it must hold the number of molecules of a cell, in all genes"
            )
        dropped.obs[LIBRARY_SIZE] = (size - lost).astype(size.dtype)
    return dropped


def _drop_entries(counts: Counts, ratio: float, rng: np.random.Generator) -> Counts:
    counts = check_array(counts, accept_sparse=True, input_name="counts")
    if issparse(counts):
        kept = counts.tocsr(copy=True)
        kept.sum_duplicates()
        kept.eliminate_zeros()
        entries = kept.data
    else:
        kept = np.array(counts, order="C")
        entries = kept.reshape(-1)  # a view
    if (entries < 0).any():
        raise ValueError("counts must not be negative: pass raw counts, not z-scores")
    found = np.flatnonzero(entries)  # cell by cell, dense or sparse
    entries[rng.choice(found, round(ratio * len(found)), replace=False)] = 0
    if issparse(kept):
        kept.eliminate_zeros()
        kept = kept.asformat(counts.format)
    return kept
