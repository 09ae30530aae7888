r"""What a gene does to the map: derivatives, and noise in chosen genes.

A ReLU network is linear around almost every cell. Its Jacobian there is a product of weight
matrices from which inactive neurons have been struck out,

.. math:: J(x) = \frac{\partial z}{\partial x}
          = W^{(m)} D^{(m-1)} \cdots D^{(1)} W^{(1)},

with :math:`D^{(k)}` diagonal: 1 where the input of a ReLU of layer :math:`k` is positive, else 0.
At a kink, an input of exactly 0, the derivative is taken as 0, as PyTorch does.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy.sparse import issparse
from sklearn.utils.validation import check_array
from torch import nn

from rpumap._threads import single_thread
from rpumap._validation import check_cells, check_number, is_annotated
from rpumap.estimator import ParametricUMAP, check_model
from rpumap.verification.bounds import linear_layers

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

BATCH_MEGABYTES = 64


def jacobian(model: ParametricUMAP, X: ArrayLike) -> np.ndarray:
    r"""Differentiate the coordinates of each cell with respect to each gene.

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
    neurons that it would activate may all be inactive in the cells given.

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
    check_number("scale", scale)
    if is_annotated(X):
        raise TypeError(
            f"perturb takes an array of z-scores, not {type(X).__name__}: pass it to "
            "Preprocessor.fit_transform (or .transform) first"
        )
    if np.ma.is_masked(X):
        raise ValueError(f"X holds {np.ma.count_masked(X)} missing (masked) values")
    cells = check_array(X, accept_sparse=True, dtype=[np.float64, np.float32], input_name="X")
    noisy = cells.toarray() if issparse(cells) else np.array(cells)
    columns = _check_genes(genes, noisy.shape[1])
    noise = np.random.default_rng(random_state).normal(scale=scale, size=(len(noisy), len(columns)))
    noisy[:, columns] += noise
    return noisy


def network_jacobian(encoder: nn.Sequential, x: torch.Tensor) -> torch.Tensor:
    r"""Differentiate the outputs of a ReLU network with respect to its inputs, in closed form.

    Parameters
    ----------
    encoder : nn.Sequential
        Layers ``nn.Linear`` and ``nn.ReLU``, such as :func:`rpumap.networks.mlp` makes.
    x : torch.Tensor of shape (n_cells, n_inputs)
        Of the precision of the weights, in which all is computed.

    Returns
    -------
    torch.Tensor of shape (n_cells, n_outputs, n_inputs)
        The Jacobians at the head of this module.

    Raises
    ------
    TypeError, ValueError
        If the network may compute something else than plain Linear and ReLU layers do, see
        :func:`rpumap.verification.bounds.linear_layers`.

    Examples
    --------
    >>> import torch
    >>> from rpumap.networks import mlp
    >>> from rpumap.sensitivity import network_jacobian
    >>> encoder, x = mlp(6, (16, 16), 2), torch.randn(1, 6)
    >>> expected = torch.autograd.functional.jacobian(encoder, x)[0, :, 0]
    >>> torch.allclose(network_jacobian(encoder, x)[0], expected, atol=1e-6)
    True
    """
    layers = linear_layers(encoder)
    with torch.no_grad(), single_thread():
        is_on = []
        for weight, bias in layers[:-1]:
            x = torch.relu(nn.functional.linear(x, weight, bias))
            is_on.append(x > 0)  # the output of a ReLU is positive where its input is
        # from the output back to the input, inactive neurons struck out
        J = layers[-1][0].detach().expand(len(x), -1, -1)
        for active, (weight, _) in zip(reversed(is_on), reversed(layers[:-1]), strict=True):
            J = J * active.unsqueeze(1) @ weight
    return J


def _jacobians(model: ParametricUMAP, X: ArrayLike) -> Iterator[np.ndarray]:
    """Yield the Jacobians of some cells at a time, as many as fit into the working memory."""
    check_model(model)
    X = check_cells(model, X)  # as in transform: float32 in, double precision inside
    encoder = copy.deepcopy(model.encoder_).double()
    widest = max(max(p.shape) for p in encoder.parameters())
    # two such arrays stand side by side in a product
    bytes_per_cell = 2 * 8 * model.embedding_.shape[1] * widest
    n_rows = max(1, int(BATCH_MEGABYTES * 1e6 / bytes_per_cell))
    for start in range(0, len(X), n_rows):
        rows = torch.from_numpy(X[start : start + n_rows]).double()
        yield network_jacobian(encoder, rows).numpy()


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
