"""The network: shape, seed, and the spread it starts with."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from rpumap.networks import mlp


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("hidden", [(), (5,), (7, 6, 5)])
def test_layers(hidden):
    network = mlp(4, hidden, 3, seeded())
    kinds = [type(layer) for layer in network]
    assert kinds == [nn.Linear, nn.ReLU] * len(hidden) + [nn.Linear]
    assert network(torch.zeros(2, 4)).shape == (2, 3)


def test_same_seed_same_weights_and_the_global_state_is_left_alone():
    before = torch.random.get_rng_state()
    first, second = mlp(9, (8,), 2, seeded()), mlp(9, (8,), 2, seeded())
    assert torch.equal(first[0].weight, second[0].weight)
    assert torch.equal(before, torch.random.get_rng_state())


def test_without_a_generator_the_global_state_decides():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)  # another test may have left the very seed of `seeded`
        first, second = mlp(9, (8,), 2), mlp(9, (8,), 2)
        torch.manual_seed(1)
        again = mlp(9, (8,), 2)
    assert torch.equal(first[0].weight, again[0].weight)
    assert not torch.equal(first[0].weight, second[0].weight)


def test_signal_keeps_its_variance():
    x = torch.randn(2000, 200, generator=seeded(1))
    z = mlp(200, (256, 256), 50, seeded())(x).detach()
    assert 0.7 < float(z.var()) < 1.4


@pytest.mark.parametrize("hidden", [(0,), (-3,), (2.5,), ("64",), (True,), "64", 64, None])
def test_bad_sizes(hidden):
    with pytest.raises(ValueError, match="hidden_sizes"):
        mlp(4, hidden, 2)


@pytest.mark.parametrize("sizes", [np.array(3), torch.tensor(3)])
def test_a_single_width_is_no_sequence(sizes):
    with pytest.raises(ValueError, match="hidden_sizes must be a sequence"):
        mlp(3, sizes, 2)
