"""The adversary stays inside the region, and finds what can be found by other means."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn

from rpumap.networks import mlp
from rpumap.verification import Ball, Box, SparseBox, crown, projected_gradient

DIRECTIONS = torch.tensor([[1.0, 0.0], [0.0, -1.0], [0.6, 0.8]]).double()


def network(n_inputs: int = 6, hidden: tuple[int, ...] = (16, 16)) -> nn.Sequential:
    return mlp(n_inputs, hidden, 2, torch.Generator().manual_seed(0)).double()


def regions() -> list:
    x = torch.randn(5, 6, generator=torch.Generator().manual_seed(1)).double()
    balls = [Ball(x, 0.5, norm) for norm in ("linf", "l2", "l1")]
    return [*balls, Box(x - 0.3, x + 0.6), SparseBox(x, x - 0.3, x + 0.6, max_changed=2)]


@pytest.mark.parametrize("region", regions(), ids=lambda r: getattr(r, "norm", type(r).__name__))
def test_points_are_in_the_region_and_move_the_output(region):
    encoder = network()
    found = projected_gradient(encoder, region, DIRECTIONS)
    assert found.shape == (3, 5, 6)
    torch.testing.assert_close(region.project(found), found)
    gain = ((encoder(found) - encoder(region.center)) * DIRECTIONS[:, None]).sum(-1)
    assert (gain >= 0).all()
    assert (gain > 0).double().mean() > 0.9  # a cell can stand on a local maximum
    # and stays within what is certified
    lower, upper = crown(encoder, region)
    z = encoder(found)
    assert ((lower - 1e-9 <= z) & (z <= upper + 1e-9)).all()


@pytest.mark.parametrize("region", regions(), ids=lambda r: getattr(r, "norm", type(r).__name__))
def test_a_linear_network_is_solved_in_one_step(region):
    encoder = network(hidden=())
    found = projected_gradient(encoder, region, DIRECTIONS, n_steps=1)
    best = region.vertex((DIRECTIONS @ encoder[0].weight)[:, None].expand(3, 5, 6))
    torch.testing.assert_close(found, best)


def test_one_step_on_a_cube_goes_by_the_signs_of_the_slope():
    encoder, ball = network(), regions()[0]
    x = ball.x.clone().requires_grad_()
    (slope,) = torch.autograd.grad(encoder(x)[:, 0].sum(), x)
    corner = ball.x + 0.5 * slope.sign()
    (found,) = projected_gradient(encoder, ball, DIRECTIONS[:1], n_steps=1)
    better = encoder(corner)[:, 0] > encoder(ball.x)[:, 0]
    torch.testing.assert_close(found, torch.where(better[:, None], corner, ball.x))


def test_it_comes_close_to_the_best_corner():
    # All 64 corners of the cube are tried; ascent may end in a corner that is only locally best.
    encoder, ball = network(), regions()[0]
    signs = torch.tensor(list(itertools.product([-1.0, 1.0], repeat=6))).double()
    z = encoder(ball.x + 0.5 * signs[:, None])
    best = (z[:, None] * DIRECTIONS[:, None]).sum(-1).amax(0)
    found = projected_gradient(encoder, ball, DIRECTIONS, n_steps=20)
    reached = (encoder(found) * DIRECTIONS[:, None]).sum(-1)
    start = (encoder(ball.x) * DIRECTIONS[:, None]).sum(-1)
    share = (reached - start) / (best - start)
    assert share.median() > 0.99
    assert (share > 0.9).double().mean() > 0.8


def test_more_steps_do_not_end_lower_than_the_start():
    encoder, ball = network(), regions()[1]
    start = ball.project(ball.x + torch.randn(5, 6).double())
    for n_steps in (0, 1, 7):
        found = projected_gradient(encoder, ball, DIRECTIONS, n_steps=n_steps, start=start)
        gain = ((encoder(found) - encoder(start)) * DIRECTIONS[:, None]).sum(-1)
        assert (gain >= -1e-12).all()


def test_no_gradient_is_left_behind():
    encoder, ball = network(), regions()[0]
    with torch.no_grad():
        found = projected_gradient(encoder, ball, DIRECTIONS)
    assert not found.requires_grad
    assert all(p.grad is None for p in encoder.parameters())


def test_an_attack_in_inference_mode_finds_the_same():
    encoder = mlp(6, (8,), 2, torch.Generator().manual_seed(0))
    x = torch.randn(3, 6, generator=torch.Generator().manual_seed(1))
    wanted = projected_gradient(encoder, Ball(x, 0.1), torch.eye(2))
    with torch.inference_mode():
        found = projected_gradient(encoder, Ball(x.clone(), 0.1), torch.eye(2))
    assert torch.equal(found, wanted)
    with pytest.raises(ValueError, match="n_steps must be an integer of at least 0, got -1"):
        projected_gradient(encoder, Ball(x, 0.1), torch.eye(2), n_steps=-1)
