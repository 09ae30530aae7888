"""The network that maps a cell to its place on the map: a multilayer perceptron."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn


def mlp(
    n_inputs: int,
    hidden_sizes: Sequence[int],
    n_outputs: int,
    generator: torch.Generator | None = None,
) -> nn.Sequential:
    r"""Build a network of linear layers with a ReLU between each two.

    Parameters
    ----------
    n_inputs : int
        Number of genes.
    hidden_sizes : sequence of int
        Width of each hidden layer. ``(128, 128)`` gives three layers of weights.
    n_outputs : int
        Number of dimensions of the embedding.
    generator : torch.Generator, optional
        Source of the random initial weights. PyTorch's global one where it is None.

    Returns
    -------
    torch.nn.Sequential
        ``Linear, ReLU, Linear, ReLU, ..., Linear``, float32, on the CPU.

    Raises
    ------
    ValueError
        If a size is not a positive integer.

    Notes
    -----
    Weights are drawn from :math:`\mathcal{N}(0, 2/n_\text{in})` before a ReLU and from
    :math:`\mathcal{N}(0, 1/n_\text{in})` at the output, which keeps the variance of the signal
    from layer to layer (He et al. 2015). Biases start at zero.

    Examples
    --------
    >>> import torch
    >>> from rpumap.encoder import mlp
    >>> network = mlp(300, (128, 128), 2, torch.Generator().manual_seed(0))
    >>> network(torch.zeros(5, 300)).shape
    torch.Size([5, 2])
    """
    sizes = [n_inputs, *hidden_sizes, n_outputs]
    for size in sizes:
        if size != int(size) or size < 1:
            raise ValueError(
                f"layer sizes must be positive integers, got {sizes}: "
                "check hidden_sizes and n_components"
            )
    sizes = [int(size) for size in sizes]
    layers: list[nn.Module] = []
    for depth, (n_in, n_out) in enumerate(zip(sizes, sizes[1:], strict=False)):
        is_output = depth == len(sizes) - 2
        # skip_init leaves the weights unset, so that the global random state is not touched
        linear = nn.utils.skip_init(nn.Linear, n_in, n_out)
        gain = 1.0 if is_output else 2.0
        nn.init.normal_(linear.weight, std=math.sqrt(gain / n_in), generator=generator)
        nn.init.zeros_(linear.bias)
        layers += [linear] if is_output else [linear, nn.ReLU()]
    return nn.Sequential(*layers)


@torch.no_grad()
def spread_output(network: nn.Sequential, x: Tensor, scale: float) -> None:
    r"""Rescale the last layer so that the embedding of `x` starts round, centred and wide.

    An untrained network sends all cells to a small cloud, and the first few hundred steps of
    training are spent on unfolding it. Multiplying the last layer by
    :math:`s\,\Sigma^{-1/2}`, with :math:`\Sigma` the covariance of the outputs, gives every
    direction the standard deviation `scale` before training starts.

    Parameters
    ----------
    network : torch.nn.Sequential
        A network as :func:`mlp` builds it. Its last layer is changed in place.
    x : torch.Tensor
        The cells, shape (n_cells, n_genes).
    scale : float
        Standard deviation of each coordinate afterwards, in units of the embedding.

    Notes
    -----
    Directions in which the outputs do not vary at all (constant input, a single cell) are left
    at zero.

    Examples
    --------
    >>> import torch
    >>> from rpumap.encoder import mlp, spread_output
    >>> draw = torch.Generator().manual_seed(0)
    >>> x = torch.randn(500, 20, generator=draw)
    >>> network = mlp(20, (16,), 2, draw)
    >>> spread_output(network, x, 3.0)
    >>> [round(s, 3) for s in network(x).std(0).tolist()]
    [3.0, 3.0]
    """
    z = network(x).double()
    if len(z) < 2:
        return
    variance, directions = torch.linalg.eigh(torch.atleast_2d(torch.cov(z.T)))
    varies = variance > 1e-12 * variance.max().clamp_min(1e-30)
    stretch = torch.where(varies, scale / variance.clamp_min(1e-30).sqrt(), 0.0)
    transform = ((directions * stretch) @ directions.T).to(x.dtype)
    last = network[-1]
    last.weight.copy_(transform @ last.weight)
    last.bias.copy_(transform @ (last.bias - z.mean(0).to(x.dtype)))
