"""The loss: against autograd, umap-learn's published formulas and naive arithmetic."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rpumap.losses import (
    EPSILON,
    attraction,
    bound_loss,
    cross_entropy,
    fit_ab,
    log_odds,
    reconstruction_loss,
    repulsion,
    similarity,
    umap_loss,
)

A, B = fit_ab(1.0, 0.1)


@pytest.mark.parametrize(("spread", "min_dist"), [(1.0, 0.1), (1.0, 0.5), (2.0, 0.0), (1.5, 1.0)])
def test_a_and_b_equal_umap_learn(spread, min_dist):
    from umap.umap_ import find_ab_params

    assert fit_ab(spread, min_dist) == pytest.approx(find_ab_params(spread, min_dist), rel=1e-5)


@given(st.floats(1e-3, 1e3), st.floats(0, 1))
def test_a_and_b_are_positive_and_scale_with_the_spread(spread, relative_min_dist):
    a, b = fit_ab(spread, relative_min_dist * spread)
    a_one, b_one = fit_ab(1.0, relative_min_dist)
    assert a > 0
    assert b > 0
    assert b == pytest.approx(b_one, rel=1e-3)
    assert a * spread ** (2 * b) == pytest.approx(a_one, rel=1e-3)


@given(st.floats(0, 1e6))
def test_similarity_is_eq_11_of_the_softened_distance(d2):
    q = float(similarity(torch.tensor(d2, dtype=torch.float64), A, B))
    assert q == pytest.approx(1 / (1 + A * (d2 + EPSILON) ** B), rel=1e-9)


@given(st.floats(1e-3, 1e3), st.floats(0, 1))
def test_cross_entropy_equals_the_naive_formula(d2, p):
    t = log_odds(torch.tensor(d2, dtype=torch.float64), A, B)
    q = 1 / (1 + A * (d2 + EPSILON) ** B)
    naive = -(p * np.log(q) + (1 - p) * np.log(1 - q))
    value = cross_entropy(torch.tensor(p, dtype=torch.float64), t)
    assert float(value) == pytest.approx(naive, rel=1e-7, abs=1e-12)


def forces(vector: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Gradients of both terms with respect to the first point of a pair."""
    result = []
    for term in (attraction, repulsion):
        z = vector.clone().requires_grad_()
        term(log_odds(z.square().sum(), A, B)).backward()
        result.append(z.grad)
    return result[0], result[1]


@given(st.floats(-30, 30), st.floats(-30, 30))
def test_gradients_equal_those_derived_by_hand(x, y):
    vector = torch.tensor([x, y], dtype=torch.float64)
    d2 = float(vector.square().sum())
    q = float(similarity(torch.tensor(d2, dtype=torch.float64), A, B))
    pull, push = forces(vector)
    np.testing.assert_allclose(pull, 2 * B * (1 - q) * vector / (d2 + EPSILON), atol=1e-9)
    np.testing.assert_allclose(push, -2 * B * q * vector / (d2 + EPSILON), atol=1e-9)


def test_gradients_equal_umap_learn_where_its_constants_do_not_matter():
    vector = torch.tensor([1.5, -2.0], dtype=torch.float64)
    d2 = 6.25
    pull, push = forces(vector)
    attractive = 2 * A * B * d2 ** (B - 1) / (1 + A * d2**B) * vector
    repulsive = -2 * B / ((0.001 + d2) * (1 + A * d2**B)) * vector
    np.testing.assert_allclose(pull, attractive, rtol=1e-3)
    np.testing.assert_allclose(push, repulsive, rtol=1e-3)


def test_gradcheck_with_coincident_duplicate_and_far_points():
    points = torch.tensor(
        [[0.0, 0, 0, 1e-9, 1, 1e3, -2], [0.0, 0, 0, 0, 1, 1e3, 0.5]], dtype=torch.float64
    )
    heads = points.clone().requires_grad_()
    tails = points.roll(2, dims=1).clone().requires_grad_()
    p = torch.linspace(0, 1, 7, dtype=torch.float64)

    def total(heads, tails, p):
        return sum(umap_loss(heads, tails, A, B, p=p, n_negatives=3))

    assert torch.autograd.gradcheck(lambda h, t: total(h, t, p), (heads, tails))
    assert torch.autograd.gradcheck(lambda h, t: total(h, t, None), (heads, tails))


@pytest.mark.parametrize("distance", [0.0, 1e-30, 1e-6, 1.0, 1e6, 1e18])
def test_values_and_gradients_are_finite_at_any_distance(distance):
    heads = torch.zeros(2, 9, requires_grad=True)
    tails = torch.full((2, 9), distance, requires_grad=True)
    loss = sum(umap_loss(heads, tails, A, B, p=torch.full((9,), 0.5)))
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(heads.grad).all()
    assert torch.isfinite(tails.grad).all()


def test_loss_of_a_list_equals_the_sum_written_out():
    draw = torch.Generator().manual_seed(0)
    heads, tails = torch.randn(2, 3, 11, generator=draw, dtype=torch.float64)
    p = torch.rand(11, generator=draw, dtype=torch.float64)
    positive, negative = umap_loss(heads, tails, A, B, p=p, n_negatives=2, repulsion_strength=0.7)
    expected_positive = expected_negative = 0.0
    for e in range(11):
        q = 1 / (1 + A * (float((heads[:, e] - tails[:, e]).square().sum()) + EPSILON) ** B)
        expected_positive -= float(p[e] * np.log(q) + (1 - p[e]) * np.log(1 - q)) / 11
        for shift in (1, 2):
            d2 = float((heads[:, e] - tails[:, e - shift]).square().sum()) + EPSILON
            expected_negative -= 0.7 * np.log(1 - 1 / (1 + A * d2**B)) / 11
    assert float(positive) == pytest.approx(expected_positive, rel=1e-9)
    assert float(negative) == pytest.approx(expected_negative, rel=1e-9)
    graph_based, _ = umap_loss(heads, tails, A, B)
    certain, _ = umap_loss(heads, tails, A, B, p=torch.ones(11, dtype=torch.float64))
    assert float(graph_based) == pytest.approx(float(certain), rel=1e-12)


def test_more_draws_are_more_shifts_of_less_weight():
    heads, tails = torch.randn(2, 2, 40, generator=torch.Generator().manual_seed(0)).double()
    once = [umap_loss(heads, tails, A, B, n_negatives=n)[1] for n in range(1, 40)]
    for n_negatives, n_draws in ((5, 4), (1, 39), (5, 20)):  # the last would be too many
        n_shifts = min(n_negatives * n_draws, 39)
        _, found = umap_loss(heads, tails, A, B, n_negatives=n_negatives, n_draws=n_draws)
        torch.testing.assert_close(found, once[n_shifts - 1] * n_negatives / n_shifts)


@pytest.mark.parametrize("n_components", [1, 2, 5])
@pytest.mark.parametrize("n_edges", [4, 9])
@pytest.mark.parametrize("is_weighted", [False, True])
def test_gradient_in_closed_form_equals_autograd(n_components, n_edges, is_weighted):
    draw = torch.Generator().manual_seed(n_edges)
    ends = torch.randn(2, n_components, n_edges, generator=draw, dtype=torch.float64)
    p = torch.rand(n_edges, generator=draw, dtype=torch.float64) if is_weighted else None
    ends.requires_grad_()
    heads, tails = ends
    positive, negative = umap_loss(heads, tails, A, B, p=p, n_negatives=3, repulsion_strength=0.7)
    found = torch.autograd.grad(2 * positive + 3 * negative, ends)[0]

    def odds(other):
        return log_odds((heads - other).square().sum(0), A, B)

    edges = attraction(odds(tails)) if p is None else cross_entropy(p, odds(tails))
    pairs = [repulsion(odds(tails.roll(shift, dims=1))).sum() for shift in (1, 2, 3)]
    total = (2 * edges.sum() + 3 * 0.7 * sum(pairs)) / n_edges
    torch.testing.assert_close(found, torch.autograd.grad(total, ends)[0])


@pytest.mark.parametrize(
    ("spread", "min_dist"), [(0, 0.1), (-1, 0), (np.nan, 0), (1, -0.1), (1, 1.1)]
)
def test_bad_constants(spread, min_dist):
    with pytest.raises(ValueError, match="must"):
        fit_ab(spread, min_dist)


def test_too_few_edges_for_the_negatives():
    with pytest.raises(ValueError, match="5 edges are too few"):
        umap_loss(torch.zeros(2, 5), torch.zeros(2, 5), A, B, n_negatives=5)


def test_a_larger_map_does_not_change_the_weights_of_the_loss():
    lower, upper = torch.rand(5, 2), 1 + torch.rand(5, 2)
    scale = torch.tensor([2.0, 3.0])
    for penalty in ("width", "area"):
        small = bound_loss(lower, upper, scale, penalty)
        torch.testing.assert_close(bound_loss(7 * lower, 7 * upper, 7 * scale, penalty), small)


def test_bound_loss_by_hand():
    # widths (1, 2) and (3, 4); scale (2, 1)
    lower, upper = torch.zeros(2, 2), torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    scale = torch.tensor([2.0, 1.0])
    assert bound_loss(lower, upper, scale, "area").item() == pytest.approx((1 * 2 + 3 * 4) / 2 / 2)
    assert bound_loss(lower, upper, scale, "width").item() == pytest.approx(2.5 / np.sqrt(2.5))


def test_a_flat_box_has_no_area_left_to_lower():
    upper = torch.tensor([[0.0, 5.0]], requires_grad=True)
    scale = torch.ones(2)
    (slope,) = torch.autograd.grad(bound_loss(torch.zeros(1, 2), upper, scale, "area"), upper)
    assert slope[0, 1] == 0
    (slope,) = torch.autograd.grad(bound_loss(torch.zeros(1, 2), upper, scale, "width"), upper)
    assert slope[0, 1] > 0


def test_reconstruction_loss_by_hand():
    z, wanted = torch.tensor([[1.0, 2.0], [0.0, 0.0]]), torch.zeros(2, 2)
    # squared distances 5 and 0, mean 2.5, in units of a variance of 10
    assert reconstruction_loss(z, wanted, torch.tensor(10.0)).item() == pytest.approx(0.25)
    assert reconstruction_loss(z, wanted, torch.tensor(10.0), 4.0).item() == pytest.approx(1.0)
    assert reconstruction_loss(z, wanted, torch.tensor(0.0)).item() == pytest.approx(2.5)


def test_a_map_on_one_spot_has_a_finite_bound_loss():
    lower, upper = torch.zeros(3, 2), torch.ones(3, 2)
    for penalty in ("width", "area"):
        assert bound_loss(lower, upper, torch.zeros(2), penalty).item() == 1.0


def test_area_in_many_dimensions_is_a_square_of_the_size():
    for n in (3, 50):
        lower, scale = torch.zeros(1, n), torch.ones(n)
        upper = torch.full((1, n), 30.0, requires_grad=True)
        area = bound_loss(lower, upper, scale, "area")
        assert area.item() == pytest.approx(900, rel=1e-4)
        area.backward()
        assert torch.isfinite(upper.grad).all()
    mixed = torch.tensor([[1.0, 2.0, 4.0]])
    assert bound_loss(torch.zeros(1, 3), mixed, torch.ones(3), "area").item() == pytest.approx(4.0)


@pytest.mark.parametrize("spread", [1e-300, 1e300])
def test_a_spread_beyond_floating_point_numbers_is_named(spread):
    with pytest.raises(ValueError, match="spread=.* is too small or too large"):
        fit_ab(spread, 0.0)
