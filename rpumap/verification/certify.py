"""Certificates for a fitted model: where cells may move, and whether labels may change."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
import torch

from rpumap._threads import plain_torch
from rpumap._validation import check_cells, check_choice
from rpumap.estimator import ParametricUMAP, check_model, embed
from rpumap.verification.bounds import check_region, crown, crown_ibp, ibp
from rpumap.verification.labels import labels_are_certain
from rpumap.verification.regions import Ball, Region

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

Method = Literal["crown", "crown_ibp", "ibp"]
METHODS = {"ibp": ibp, "crown_ibp": crown_ibp, "crown": crown}


def certify(
    model: ParametricUMAP,
    X: ArrayLike | None = None,
    eps: float | None = None,
    norm: str = "linf",
    method: Method = "crown",
    *,
    region: Region | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Bound the coordinates that cells can take when their values change a little.

    Parameters
    ----------
    model : ParametricUMAP
        A fitted model.
    X : array-like or sparse matrix of shape (n_cells, n_genes)
        Z-scores; centres of the balls.
    eps : float
        Radius of the balls, in standard deviations of a gene.
    norm : {"linf", "l2", "l1"}
        What is at most `eps`: the largest change of a gene, the Euclidean length of the change, or
        the sum of its magnitudes.
    method : {"crown", "crown_ibp", "ibp"}
        From tight and slow to loose and fast; see :mod:`rpumap.verification.bounds`.
    region : Ball, Box or SparseBox, optional
        In place of `X`, `eps` and `norm`: where the z-scores of each cell may lie.

    Returns
    -------
    lower, upper : ndarray of shape (n_cells, n_components), float32
        No cell of the region gets coordinates below `lower` or above `upper`.

    Raises
    ------
    TypeError
        If `model` is not a ParametricUMAP, or its network is not one that can be bounded (see
        :func:`rpumap.verification.bounds.linear_layers`).
    sklearn.exceptions.NotFittedError
        If it is not fitted.
    ValueError
        If the number or the names of the genes differ from those in `fit`, a value is not finite,
        `method` is unknown, or not exactly one of `X` with `eps` and `region` is given.

    Notes
    -----
    Floating-point rounding is included (``rounding="computed"`` of
    :func:`rpumap.verification.crown`): the bounds hold for the coordinates that ``model.transform``
    returns, for what the network gives in float32, and for real arithmetic. So is underflow, a
    product below about 1e-38 that is rounded to a denormal number or to zero. Where a sum may
    overflow in float32, which takes values of 1e19 and more, the bounds of the cell are infinite.

    Examples
    --------
    >>> import numpy as np
    >>> import rpumap
    >>> X = np.random.default_rng(0).normal(size=(200, 10))
    >>> model = rpumap.ParametricUMAP(n_steps=20, random_state=0).fit(X)
    >>> lower, upper = rpumap.certify(model, X, eps=0.1)
    >>> moved = model.transform(X + 0.1 * np.sign(X))
    >>> bool(((lower <= moved) & (moved <= upper)).all())
    True

    The same in a box, of cells that can only gain expression:

    >>> from rpumap.verification import Box
    >>> lower, upper = rpumap.certify(model, region=Box(X, X + 0.1))
    """
    check_model(model)
    check_choice("method", method, METHODS)
    if region is None:
        if X is None or eps is None:
            raise ValueError("give either X and eps (balls about cells) or region, got neither")
        region = Ball(check_cells(model, X), eps, norm)
    elif X is not None or eps is not None or norm != "linf":
        raise ValueError("give either X, eps and norm (balls about cells) or region, not both")
    else:
        _check_genes(model, region)
    # transform rounds its input to float32, and rounding keeps the order of numbers
    with plain_torch(), torch.no_grad():
        lower, upper = METHODS[method](
            model.encoder_, region.to(torch.float32), rounding="computed"
        )
    return lower.float().numpy(), upper.float().numpy()


def certified_label_fraction(
    model: ParametricUMAP,
    X: ArrayLike,
    labels: ArrayLike,
    eps: float,
    norm: str = "linf",
    method: Method = "crown",
    *,
    k: int = 15,
) -> float:
    """Share of cells whose k-NN label on the map provably cannot change within a ball.

    Parameters
    ----------
    model : ParametricUMAP
        A fitted model.
    X : array-like of shape (n_cells, n_genes)
        Labelled cells. Each in turn moves within its ball, the others stay where they are.
    labels : array-like of shape (n_cells,)
        Their labels, none missing.
    eps, norm, method
        As in :func:`certify`.
    k : int
        Number of neighbours, the cell itself not counted.

    Returns
    -------
    float
        From 0 to 1; higher is better. A certain label need not be the right one.

    Raises
    ------
    TypeError, ValueError
        As :func:`certify` and :func:`rpumap.verification.labels_are_certain`.

    Examples
    --------
    >>> import numpy as np
    >>> import rpumap
    >>> X = np.random.default_rng(0).normal(size=(200, 10)) + 9 * np.repeat([[0], [1]], 100, axis=0)
    >>> model = rpumap.ParametricUMAP(n_steps=50, random_state=0).fit(X)
    >>> labels = np.repeat(["a", "b"], 100)
    >>> rpumap.certified_label_fraction(model, X, labels, eps=0.0)
    1.0
    """
    check_model(model)
    X = check_cells(model, X)
    lower, upper = certify(model, region=Ball(X, eps, norm), method=method)
    Z = embed(model.encoder_, X)
    certain = labels_are_certain(lower, upper, Z, labels, k, leave_one_out=True)
    return float(certain.mean())


def _check_genes(model: ParametricUMAP, region: Region) -> None:
    check_region(region, model.n_features_in_)
    known = getattr(model, "feature_names_in_", None)
    if known is None or region.columns is None or list(region.columns) == list(known):
        return
    raise ValueError(
        "the columns of the region are not the genes that the model was fitted on, in the same "
        f"order: {', '.join(region.columns[:3])}, ... instead of {', '.join(known[:3])}, ..."
    )
