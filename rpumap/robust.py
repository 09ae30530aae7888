r"""Robust training: shrink the certified boxes of a fitted map, and leave the map as it is.

The loss of eq. 8, as averages over cells so that it does not grow with their number:

.. math:: \mathcal{L} = \mathcal{L}_\text{UMAP}
          + \lambda \, \frac1n \sum_i \ell(u_i - l_i)
          + \mu \, \frac1n \sum_i \frac{\lVert z_i - \hat z_i \rVert^2}{s^2},

with :math:`l_i, u_i` the bounds of cell :math:`i` over its ball, :math:`\hat z_i` its place under
the network in training, :math:`z_i` that under the model that was given, and :math:`s^2` the total
variance of the latter.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import Tensor, nn

from rpumap import bounds
from rpumap.estimator import ParametricUMAP
from rpumap.fine_tuning import check_numbers, fine_tune, generator_for
from rpumap.regions import DUAL_ORDER

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

BOUNDS = {"crown_ibp": bounds.crown_ibp, "crown": bounds.crown}
# Weight of the bound loss, chosen on the pancreas cells: the largest that leaves the scores alone.
STRENGTH = {"width": 0.3, "area": 0.05}
# Cells whose bounds enter a step. `crown` costs some thirty times as much a cell.
BOUNDED_CELLS = {"crown_ibp": 256, "crown": 24}
WARM_UP = 0.25


def bound_loss(lower: Tensor, upper: Tensor, scale: Tensor, penalty: str = "width") -> Tensor:
    r"""Price of wide bounds.

    Parameters
    ----------
    lower, upper : torch.Tensor of shape (n_cells, n_components)
        Bounds on the places of the cells.
    scale : torch.Tensor of shape (n_components,)
        Standard deviation of each coordinate of the map: the paper's "size of the UMAP space".
    penalty : {"width", "area"}
        ``"width"``: the mean width :math:`\frac1N \sum_j (u_j - l_j) / s`, with :math:`s` the root
        mean square of `scale`. ``"area"``: :math:`\prod_j (u_j - l_j) / s_j` (eq. 5 and 6).

    Returns
    -------
    torch.Tensor, scalar
        Mean over the cells, without unit.

    Notes
    -----
    The gradient of the area in one width is the product of the others. Once a box is flat along
    one axis the others cost nothing, however long: the area can be met by flattening one axis. In
    more dimensions it also grows and vanishes with a power of the size. A sum of widths has neither
    flaw.

    Examples
    --------
    >>> import torch
    >>> from rpumap.robust import bound_loss
    >>> flat, one = torch.tensor([[0.0, 100.0]]), torch.ones(2)
    >>> zero = torch.zeros(1, 2)
    >>> [bound_loss(zero, flat, one, penalty).item() for penalty in ("area", "width")]
    [0.0, 50.0]
    """
    widths = upper - lower
    if penalty == "area":
        return (widths / scale).prod(dim=1).mean()
    return widths.mean() / scale.square().mean().sqrt()


def robustify(
    model: ParametricUMAP,
    X: ArrayLike,
    eps: float = 0.2,
    norm: str = "linf",
    *,
    bound_method: Literal["crown_ibp", "crown"] = "crown_ibp",
    penalty: Literal["width", "area"] = "width",
    strength: float | None = None,
    reconstruction: float = 10.0,
    n_steps: int = 500,
    learning_rate: float = 3e-3,
    random_state: int | np.random.RandomState | None = None,
) -> ParametricUMAP:
    r"""Train a fitted model further, so that noise provably moves its cells less (eq. 5 to 8).

    Parameters
    ----------
    model : ParametricUMAP
        A fitted model. It is not touched.
    X : array-like of shape (n_cells, n_genes)
        The cells it was fitted on.
    eps : float, default 0.2
        Radius of the balls, above 0, in standard deviations of a gene. It is raised from 0 over the
        first quarter of the steps, because the bounds of an ordinary model are too wide to start
        from.
    norm : {"linf", "l2", "l1"}
        Shape of the balls, see :func:`rpumap.certify`.
    bound_method : {"crown_ibp", "crown"}
        How bounds are found during training. ``"crown"`` is tighter, but so much dearer that each
        step can afford the bounds of 24 cells and not of 256.
    penalty : {"width", "area"}
        See :func:`bound_loss`; the paper has ``"area"``.
    strength : float, optional
        :math:`\lambda`, the weight of the bound loss, which is relative to the size of the map. By
        default 0.3 for ``"width"`` and 0.05 for ``"area"``.
    reconstruction : float, default 10.0
        :math:`\mu`, the weight of staying in place (eq. 7), relative to the variance of the map.
    n_steps : int, default 500
        Gradient steps.
    learning_rate : float, default 3e-3
        Peak learning rate of Adam.
    random_state : int, RandomState or None
        By default that of `model`.

    Returns
    -------
    ParametricUMAP
        A new fitted model, with the parameters and the graph of `model`. Its ``history_`` has two
        further terms, ``"bound"`` and ``"reconstruction"``.

    Raises
    ------
    TypeError
        If `model` is not a ParametricUMAP.
    sklearn.exceptions.NotFittedError
        If it is not fitted.
    ValueError
        If `X` are not the cells it was fitted on, or an option is out of range.

    Notes
    -----
    The bounds during training are not widened for rounding; those of :func:`rpumap.certify` are.

    Examples
    --------
    >>> import numpy as np
    >>> import rpumap
    >>> X = np.random.default_rng(0).normal(size=(200, 10))
    >>> model = rpumap.ParametricUMAP(n_steps=50, random_state=0).fit(X)
    >>> robust = rpumap.robustify(model, X, eps=0.2, n_steps=50)
    >>> widths = [np.ptp(rpumap.certify(m, X, eps=0.2), axis=0).mean() for m in (model, robust)]
    >>> bool(widths[1] < widths[0])
    True
    """
    _check_choices(norm=norm, bound_method=bound_method, penalty=penalty)
    strength = STRENGTH[penalty] if strength is None else strength
    check_numbers(strength=strength)
    check_numbers(above_zero=True, eps=eps)
    bound, n_bounded = BOUNDS[bound_method], BOUNDED_CELLS[bound_method]
    draw = generator_for(model, random_state)
    scale = torch.as_tensor(model.embedding_, device=draw.device).std(dim=0)

    def price(step: int, encoder: nn.Sequential, x: Tensor, places: Tensor) -> Tensor:
        radius = eps * min(1.0, (step + 1) / (WARM_UP * n_steps))
        cells = torch.randint(len(x), (n_bounded,), generator=draw, device=x.device)
        lower, upper = bound(encoder, x[cells], radius, norm)
        return strength * bound_loss(lower, upper, scale, penalty)

    return fine_tune(
        model,
        X,
        "bound",
        price,
        reconstruction=reconstruction,
        n_steps=n_steps,
        learning_rate=learning_rate,
        generator=draw,
    )


def _check_choices(**chosen: str) -> None:
    known = {"norm": DUAL_ORDER, "bound_method": BOUNDS, "penalty": STRENGTH}
    for name, value in chosen.items():
        if value not in known[name]:
            raise ValueError(f"{name} must be one of {', '.join(known[name])}, got {value!r}")
