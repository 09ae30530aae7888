"""The network: shape, seed, and the spread it starts with."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from rpumap.encoder import mlp, spread_output


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


def test_spread_makes_the_start_round_centred_and_wide():
    x = torch.randn(1000, 30, generator=seeded(1)) * torch.linspace(0.1, 5, 30)
    network = mlp(30, (16,), 2, seeded())
    spread_output(network, x, 3.0)
    z = network(x)
    assert torch.allclose(z.mean(0), torch.zeros(2), atol=1e-4)
    assert torch.allclose(torch.cov(z.T), 9 * torch.eye(2), atol=1e-2)


@pytest.mark.parametrize("x", [torch.zeros(20, 4), torch.zeros(1, 4), torch.ones(20, 4)])
def test_spread_of_cells_that_do_not_differ_is_finite(x):
    network = mlp(4, (8,), 2, seeded())
    spread_output(network, x, 3.0)
    assert torch.isfinite(network(x)).all()
    assert torch.isfinite(network[-1].weight).all()


def test_spread_of_a_single_output():
    network = mlp(4, (8,), 1, seeded())
    x = torch.randn(200, 4, generator=seeded(1))
    spread_output(network, x, 2.0)
    assert float(network(x).detach().std()) == pytest.approx(2.0, rel=1e-3)


@pytest.mark.parametrize("hidden", [(0,), (-3,), (2.5,)])
def test_bad_sizes(hidden):
    with pytest.raises(ValueError, match="positive integers"):
        mlp(4, hidden, 2)
