"""The network that maps the genes of a cell to its coordinates: a multilayer perceptron."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import torch
from torch import nn

from rpumap._validation import check_integer


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
        If a size is not a positive integer, or `hidden_sizes` is not a sequence.

    Notes
    -----
    Weights are drawn from :math:`\mathcal{N}(0, 2/n_\text{in})` before a ReLU and from
    :math:`\mathcal{N}(0, 1/n_\text{in})` at the output, which keeps the variance of the signal
    from layer to layer (He et al. 2015). Biases start at zero.

    Examples
    --------
    >>> import torch
    >>> from rpumap.networks import mlp
    >>> network = mlp(300, (128, 128), 2, torch.Generator().manual_seed(0))
    >>> network(torch.zeros(5, 300)).shape
    torch.Size([5, 2])
    """
    is_scalar = getattr(hidden_sizes, "ndim", 1) == 0  # of an array or tensor
    if isinstance(hidden_sizes, str) or not isinstance(hidden_sizes, Iterable) or is_scalar:
        raise ValueError(
            f"hidden_sizes must be a sequence of integers, such as (128, 128), got {hidden_sizes!r}"
        )
    hidden = [check_integer("each of hidden_sizes", size, least=1) for size in hidden_sizes]
    n_inputs = check_integer("n_inputs", n_inputs, least=1)
    sizes = [n_inputs, *hidden, check_integer("n_outputs", n_outputs, least=1)]
    layers: list[nn.Module] = []
    for depth, (n_in, n_out) in enumerate(zip(sizes, sizes[1:], strict=False)):
        is_output = depth == len(sizes) - 2
        # PyTorch's own initial weights are not used, and must not cost draws of its global state.
        # nn.utils.skip_init avoids them too, but imports SymPy: a third of a second.
        with torch.random.fork_rng(devices=[]):
            linear = nn.Linear(n_in, n_out, device="cpu", dtype=torch.float32)
        gain = 1.0 if is_output else 2.0
        nn.init.normal_(linear.weight, std=math.sqrt(gain / n_in), generator=generator)
        nn.init.zeros_(linear.bias)
        layers += [linear] if is_output else [linear, nn.ReLU()]
    return nn.Sequential(*layers)
