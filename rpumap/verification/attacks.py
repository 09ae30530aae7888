r"""An adversary: look for the input in a region that moves the output furthest.

A bound says how far the output can move at most; an attack shows how far it does move. The true
range lies between the two.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rpumap._validation import check_integer
from rpumap.verification.regions import Region


def projected_gradient(
    encoder: nn.Module,
    region: Region,
    directions: Tensor,
    *,
    n_steps: int = 5,
    start: Tensor | None = None,
) -> Tensor:
    r"""Search each cell's region for the input whose output lies furthest in given directions.

    Projected gradient ascent (Madry et al. 2018, https://openreview.net/forum?id=rJzIBfZAb). With
    :math:`g` the gradient of the output along a direction, each step goes towards the point of the
    region that is furthest in the direction of :math:`g`, by :math:`2 / n_\text{steps}` of its
    distance from the centre, and then back to the nearest point of the region. On an
    :math:`l_\infty` ball that is a step of :math:`2 \epsilon / n_\text{steps}` by the signs of
    :math:`g`; a single step is the one-step attack.

    Parameters
    ----------
    encoder : torch.nn.Module
        From (..., n_inputs) to (..., n_outputs), differentiable in its input.
    region : Ball, Box or SparseBox
        Where the input of each cell may be.
    directions : torch.Tensor of shape (n_directions, n_outputs)
        Directions of the output space. Their length does not matter.
    n_steps : int
        Steps of the search.
    start : torch.Tensor of shape (n_cells, n_inputs), optional
        Where the search begins; by default the centre of each region.

    Returns
    -------
    torch.Tensor of shape (n_directions, n_cells, n_inputs)
        For each direction and cell the best input that was met, the start included; inside the
        region up to rounding, in the type of the region.

    Examples
    --------
    >>> import torch
    >>> from rpumap.networks import mlp
    >>> from rpumap.verification import Ball, projected_gradient
    >>> network, ball = mlp(20, (16,), 2, torch.Generator().manual_seed(0)), Ball([[1.0] * 20], 0.1)
    >>> ball = ball.to(torch.float32)
    >>> moved = projected_gradient(network, ball, torch.eye(2))
    >>> moved.shape, bool((network(moved)[0] > network(ball.center))[0, 0])
    (torch.Size([2, 1, 20]), True)
    """
    check_integer("n_steps", n_steps, least=0)
    center = region.center.detach()
    directions = directions.to(center)
    points = center if start is None else start
    points = region.project(points.expand(len(directions), *center.shape))
    best, most = points, points.new_full(points.shape[:2], -torch.inf)
    for step in range(n_steps + 1):
        gain, slope = _ascent(encoder, points, directions)
        best = torch.where((gain > most).unsqueeze(-1), points, best)
        most = torch.maximum(most, gain)
        if step < n_steps:
            towards = (region.vertex(slope) - center) * (2 / n_steps)
            points = region.project(points + towards)
    return best


def _ascent(encoder: nn.Module, points: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
    """Return the output along each direction, and its gradient with respect to the input."""
    with torch.inference_mode(False), torch.enable_grad():
        # tensors of inference mode have no gradients, but their copies have
        points, directions = points.detach().clone().requires_grad_(), directions.clone()
        gain = (encoder(points) * directions[:, None]).sum(-1)
        (slope,) = torch.autograd.grad(gain.sum(), points)
    return gain.detach(), slope
