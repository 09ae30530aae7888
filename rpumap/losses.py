r"""Loss functions: the UMAP loss, the loss of certified bounds, and the reconstruction loss.

The UMAP loss pulls neighbours together and pushes non-neighbours apart.

The UMAP loss follows from one identity. With

.. math:: t = \log a + b \log(d^2 + \epsilon)

the low-dimensional similarity of eq. 11 is a logistic function of the log distance,

.. math:: q &= \frac{1}{1 + a\,d^{2b}} = \operatorname{sigmoid}(-t), \\
          -\log q &= \operatorname{softplus}(t), \\
          -\log(1 - q) &= \operatorname{softplus}(-t) .

Softplus neither overflows nor loses its gradient, so coincident and far points are safe. The
small constant is the 0.001 that umap-learn adds to the denominator of its repulsive gradient.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import pad, softplus

EPSILON = 1e-3
PENALTIES = ("width", "area")


@functools.cache
def fit_ab(spread: float = 1.0, min_dist: float = 0.1) -> tuple[float, float]:
    r"""Choose a and b so that points closer than `min_dist` count as touching.

    Parameters
    ----------
    spread : float
        Scale of the embedding, above 0.
    min_dist : float
        Distance below which similarity should be 1; from 0 to `spread`.

    Returns
    -------
    a, b : float
        Constants of eq. 11.

    Raises
    ------
    ValueError
        If `spread` or `min_dist` is out of range.

    Notes
    -----
    Least-squares fit of :math:`(1 + a d^{2b})^{-1}` to 1 up to `min_dist` and
    :math:`\exp(-(d - d_\text{min})/\text{spread})` beyond, on 300 distances up to three spreads,
    as umap-learn does it. Distances are measured in spreads during the fit, because in other
    units the search can end at negative constants.

    Examples
    --------
    >>> from rpumap.losses import fit_ab
    >>> [round(value, 3) for value in fit_ab(1.0, 0.1)]
    [1.577, 0.895]
    """
    from scipy.optimize import curve_fit

    if not spread > 0 or not math.isfinite(spread):
        raise ValueError(f"spread must be above 0, got {spread}")
    if not 0 <= min_dist <= spread:
        raise ValueError(f"min_dist must lie between 0 and spread={spread}, got {min_dist}")
    touching = min_dist / spread
    d = np.linspace(0, 3, 300)
    wanted = np.where(d < touching, 1.0, np.exp(touching - d))
    (a, b), _ = curve_fit(lambda d, a, b: 1 / (1 + a * d ** (2 * b)), d, wanted)
    with np.errstate(over="ignore", divide="ignore"):
        scaled = float(np.float64(a) / np.float64(spread) ** (2 * b))
    if not 0 < scaled < math.inf:
        raise ValueError(f"spread={spread} is too small or too large for floating-point numbers")
    return scaled, float(b)


def log_odds(squared_distance: Tensor, a: float, b: float) -> Tensor:
    r"""Log odds :math:`t` that two points of the embedding are *not* neighbours.

    Parameters
    ----------
    squared_distance : torch.Tensor
        Squared distances in the embedding, any shape.
    a, b : float
        From :func:`fit_ab`.

    Returns
    -------
    torch.Tensor
        :math:`t = \log a + b \log(d^2 + 0.001)`, same shape.

    Examples
    --------
    >>> import torch
    >>> from rpumap.losses import log_odds
    >>> log_odds(torch.tensor([1.0]), a=1.0, b=1.0).round(decimals=3).tolist()
    [0.0010000000474974513]
    """
    return torch.log(squared_distance + EPSILON).mul_(b).add_(math.log(a))


def similarity(squared_distance: Tensor, a: float, b: float) -> Tensor:
    r"""Similarity of two points of the embedding, :math:`q = (1 + a d^{2b})^{-1}` (eq. 11).

    Parameters
    ----------
    squared_distance : torch.Tensor
        Squared distances in the embedding, any shape.
    a, b : float
        From :func:`fit_ab`.

    Returns
    -------
    torch.Tensor
        Values between 0 (far) and 1 (close), same shape.

    Examples
    --------
    >>> import torch
    >>> from rpumap.losses import similarity
    >>> [round(q, 3) for q in similarity(torch.tensor([0.0, 1.0, 100.0]), 1.577, 0.895).tolist()]
    [0.997, 0.388, 0.01]
    """
    return torch.sigmoid(-log_odds(squared_distance, a, b))


def attraction(t: Tensor) -> Tensor:
    r"""Loss :math:`-\log q` of two neighbours, from their log odds (first term of eq. 2).

    Examples
    --------
    >>> import torch
    >>> from rpumap.losses import attraction
    >>> attraction(torch.tensor([-50.0, 0.0, 50.0])).tolist()
    [1.9287498933537385e-22, 0.6931471824645996, 50.0]
    """
    return softplus(t)


def repulsion(t: Tensor) -> Tensor:
    r"""Loss :math:`-\log(1 - q)` of two non-neighbours, from their log odds (second term of eq. 2).

    Examples
    --------
    >>> import torch
    >>> from rpumap.losses import repulsion
    >>> repulsion(torch.tensor([-50.0, 0.0, 50.0])).tolist()
    [50.0, 0.6931471824645996, 1.9287498933537385e-22]
    """
    return softplus(-t)


def cross_entropy(p: Tensor, t: Tensor) -> Tensor:
    r"""Cross-entropy :math:`-p \log q - (1 - p) \log(1 - q)` of an edge (eq. 2).

    Parameters
    ----------
    p : torch.Tensor
        Strength of the edge in the fuzzy graph, between 0 and 1.
    t : torch.Tensor
        Log odds from :func:`log_odds`, same shape.

    Returns
    -------
    torch.Tensor
        One value an edge.

    Examples
    --------
    >>> import torch
    >>> from rpumap.losses import cross_entropy
    >>> cross_entropy(torch.tensor([1.0, 0.5]), torch.tensor([0.0, 0.0])).tolist()
    [0.6931471824645996, 0.6931471824645996]
    """
    return p * attraction(t) + (1 - p) * repulsion(t)


def umap_loss(
    heads: Tensor,
    tails: Tensor,
    a: float,
    b: float,
    *,
    p: Tensor | None = None,
    n_negatives: int = 5,
    n_draws: int = 1,
    repulsion_strength: float = 1.0,
) -> tuple[Tensor, Tensor]:
    r"""Loss of a sampled list of edges, with negatives made by permuting the list.

    Parameters
    ----------
    heads, tails : torch.Tensor of shape (n_components, n_edges)
        Embedded first and second cell of each edge, one column an edge.
    a, b : float
        From :func:`fit_ab`.
    p : torch.Tensor of shape (n_edges,), optional
        Edge strengths. With them the edges are weighted as in eq. 3 (probability-based); without,
        each counts as certain, eq. 4 (graph-based).
    n_negatives : int
        Negative pairs for each edge.
    n_draws : int
        How often they are drawn. The mean over the draws counts, so that more of them change the
        noise of the second term and not its size. Lowered where the list is too short.
    repulsion_strength : float
        The paper's eta.

    Returns
    -------
    positive, negative : torch.Tensor, scalars
        The two terms, each divided by the number of edges; the loss is their sum.

    Raises
    ------
    ValueError
        If there are not more edges than negatives for each: a shift would then lead back.

    Notes
    -----
    The edges of the list were drawn independently, so any fixed rearrangement of the tails is as
    random as a fresh permutation. Shifting them round by 1, 2, ... places needs no indices, and
    its gradient is another shift. A negative pair counts as unconnected (p = 0), because a random
    pair almost never is an edge.

    The gradient is not left to automatic differentiation, since it is short: that of
    :func:`cross_entropy` with respect to the first point of a pair is

    .. math:: 2 b \, (p - q) \, \frac{z_1 - z_2}{d^2 + \epsilon} ,

    and the opposite for the second. It cannot be differentiated once more.

    Examples
    --------
    >>> import torch
    >>> from rpumap.losses import umap_loss
    >>> draw = torch.Generator().manual_seed(0)
    >>> heads, tails = torch.randn(2, 2, 64, generator=draw)
    >>> positive, negative = umap_loss(heads, tails, a=1.577, b=0.895)
    >>> bool(negative > positive)
    True
    """
    n_edges = heads.shape[1]
    if n_negatives >= n_edges:
        raise ValueError(f"{n_edges} edges are too few for {n_negatives} negatives each")
    n_shifts = min(n_negatives * n_draws, n_edges - 1)
    positive, negative = _SampledLoss.apply(heads, tails, p, a, b, n_shifts)
    rate = n_negatives / n_shifts if n_shifts else 0.0
    return positive / n_edges, repulsion_strength * rate * negative / n_edges


class _SampledLoss(torch.autograd.Function):
    """Sums of the loss over edges and over negative pairs, with their gradients in closed form."""

    @staticmethod
    def forward(  # noqa: D102
        ctx: Any, heads: Tensor, tails: Tensor, p: Tensor | None, a: float, b: float, n_shifts: int
    ) -> tuple[Tensor, Tensor]:
        positive, pull = _pair_loss(heads - tails, p, a, b)
        # The tails shifted by n_shifts, ..., 2, 1 places: views of one list that starts early.
        n_edges = heads.shape[1]
        wrapped = torch.cat([tails[:, n_edges - n_shifts :], tails], dim=1)
        shifted = wrapped.unfold(1, n_edges, 1)[:, :n_shifts]
        negative, push = _pair_loss(heads.unsqueeze(1) - shifted, 0, a, b)
        ctx.save_for_backward(pull, push.sum(1), _shift_back(push))
        return positive, negative

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_positive: Tensor, of_negative: Tensor) -> tuple[Tensor | None, ...]:  # noqa: D102
        pull, push_heads, push_tails = ctx.saved_tensors
        pull = of_positive * pull
        heads = torch.addcmul(pull, of_negative, push_heads)
        tails = -torch.addcmul(pull, of_negative, push_tails)
        return heads, tails, None, None, None, None


def _pair_loss(
    difference: Tensor, p: Tensor | int | None, a: float, b: float
) -> tuple[Tensor, Tensor]:
    """Sum the loss of pairs, and differentiate it by their difference, (n_components, ...).

    `p` is None for certain edges, 0 for negative pairs. `difference` is overwritten: new memory
    would cost as much as the arithmetic.
    """
    squared = torch.zeros_like(difference[0])
    for along_axis in difference:
        squared.addcmul_(along_axis, along_axis)
    t = log_odds(squared, a, b)
    if p is None:
        loss, excess = attraction(t), torch.sigmoid(t)
    elif isinstance(p, Tensor):
        loss, excess = cross_entropy(p, t), p - torch.sigmoid(-t)
    else:
        loss, excess = repulsion(t), torch.sigmoid(-t).neg_()
    gradient = difference.mul_(excess.mul_(2 * b).div_(squared.add_(EPSILON)))
    return loss.sum(), gradient


def _shift_back(push: Tensor) -> Tensor:
    """Sum what each tail gets: row k of `push`, (.., k, edge), was shifted by n_shifts - k."""
    n_components, n_shifts, n_edges = push.shape
    if not n_shifts:
        return push.new_zeros(n_components, n_edges)
    # With zeros after each row, a row's start can be read one place further on than the last one's:
    # element (k, j) of the view is push[k, j - k], or a zero.
    width = n_edges + n_shifts
    padded = pad(push, (0, n_shifts)).contiguous()
    view = (n_components, n_shifts, width - 1), (n_shifts * width, width - 1, 1)
    due = padded.as_strided(*view).sum(1)
    total = pad(due[:, n_shifts:], (0, 1))
    total[:, n_edges - n_shifts :] += due[:, :n_shifts]
    return total


def bound_loss(lower: Tensor, upper: Tensor, scale: Tensor, penalty: str = "width") -> Tensor:
    r"""Loss of wide bounds (eq. 5 and 6).

    Parameters
    ----------
    lower, upper : torch.Tensor of shape (n_cells, n_components)
        Bounds on the coordinates of the cells.
    scale : torch.Tensor of shape (n_components,)
        Standard deviation of each coordinate of the map: the paper's "size of the UMAP space".
    penalty : {"width", "area"}
        ``"width"``: the mean width :math:`\frac1N \sum_j (u_j - l_j) / s`, with :math:`s` the root
        mean square of `scale`. ``"area"``: :math:`\prod_j (u_j - l_j) / s_j` (eq. 5 and 6); in more
        than two dimensions that product to the power of :math:`2 / N`.

    Returns
    -------
    torch.Tensor, scalar
        Mean over the cells, without unit. With a `scale` of 0 (all cells on one spot) the unit is
        that of the map.

    Notes
    -----
    The gradient of the area with respect to one width is the product of the others. Once a box is
    flat along one axis, the others no longer matter, however long: the area can be minimised by
    flattening one axis. A sum of widths has no such flaw. In more than two dimensions the plain
    product would grow with the N-th power of the size, and overflow; the exponent makes that a
    square, as it is in the plane.

    Examples
    --------
    >>> import torch
    >>> from rpumap.losses import bound_loss
    >>> flat, one = torch.tensor([[0.0, 100.0]]), torch.ones(2)
    >>> zero = torch.zeros(1, 2)
    >>> [bound_loss(zero, flat, one, penalty).item() for penalty in ("area", "width")]
    [0.0, 50.0]
    """
    widths = upper - lower
    if penalty == "area":
        widths = widths / _or_one(scale)
        if widths.shape[1] <= 2:
            return widths.prod(dim=1).mean()
        return (
            widths.clamp_min(torch.finfo(widths.dtype).tiny).log().mean(dim=1).mul(2).exp().mean()
        )
    return widths.mean() / _or_one(scale.square().mean().sqrt())


def reconstruction_loss(
    z: Tensor, z_reference: Tensor, variance: Tensor, weight: float = 1.0
) -> Tensor:
    r"""Loss of cells that leave their coordinates on a reference map (eq. 7).

    Parameters
    ----------
    z : torch.Tensor of shape (n_cells, n_components)
        Coordinates under the network in training.
    z_reference : torch.Tensor of shape (n_cells, n_components)
        Coordinates of the same cells on the reference map.
    variance : torch.Tensor, scalar
        Total variance of the reference map. If it is 0, the unit is that of the map.
    weight : float
        :math:`\mu`.

    Returns
    -------
    torch.Tensor, scalar
        :math:`\mu \, \frac1n \sum_i \lVert z_i - \hat z_i \rVert^2 / s^2`, without unit.

    Examples
    --------
    >>> import torch
    >>> from rpumap.losses import reconstruction_loss
    >>> z = torch.tensor([[1.0, 0.0], [0.0, 0.0]])
    >>> reconstruction_loss(z, torch.zeros(2, 2), torch.tensor(2.0)).item()
    0.25
    """
    return weight * (z - z_reference).square().sum(dim=1).mean() / _or_one(variance)


def _or_one(scale: Tensor) -> Tensor:
    """Replace a scale of 0, that of a map whose cells are all on one spot, by 1."""
    return torch.where(scale > 0, scale, 1.0)
