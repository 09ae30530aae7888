"""Regions: vertices and projections against definitions, optimisers and sampling."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.sparse import csr_matrix
from torch import Tensor

from rpumap.verification import Ball, Box, SparseBox
from rpumap.verification.regions import Region

KINDS = ["linf", "l2", "l1", "box", "sparse"]
drawn = settings(deadline=None, derandomize=True, max_examples=60)


def example(kind: str, seed: int, n_inputs: int = 5) -> Region:
    draw = torch.Generator().manual_seed(seed)
    x, down, up = (torch.randn(4, n_inputs, generator=draw).double() for _ in range(3))
    if kind == "box":
        return Box(x - down.abs(), x + up.abs())
    if kind == "sparse":
        return SparseBox(x, x - down.abs(), x + up.abs(), max_changed=2)
    return Ball(x, 0.7, kind)


def is_inside(region: Region, points: Tensor, tolerance: float = 1e-9) -> Tensor:
    """Tell which points lie in the region of their cell, by its definition."""
    if isinstance(region, Ball):
        order = {"linf": math.inf, "l2": 2.0, "l1": 1.0}[region.norm]
        length = torch.linalg.vector_norm(points - region.x, order, dim=-1)
        return length <= region.eps + tolerance
    inside = ((region.lower - tolerance <= points) & (points <= region.upper + tolerance)).all(-1)
    if isinstance(region, SparseBox):
        inside &= (points != region.x).sum(-1) <= region.max_changed
    return inside


@pytest.mark.parametrize("kind", KINDS)
@drawn
@given(st.integers(0, 10_000))
def test_the_vertex_is_in_the_region_and_reaches_the_support(kind, seed):
    region = example(kind, seed)
    draw = torch.Generator().manual_seed(seed + 1)
    direction = torch.randn(4, 5, generator=draw).double()
    vertex = region.vertex(direction)
    assert is_inside(region, vertex).all()
    reached = (direction * (vertex - region.center)).sum(-1)
    each = region.support(direction)
    support = each.expand(4, 4).diagonal() if each.ndim == 2 else each
    torch.testing.assert_close(reached, support)
    # nothing else in the region lies further
    others = region.project(region.center + torch.randn(200, 4, 5, generator=draw).double())
    assert (((others - region.center) * direction).sum(-1) <= reached + 1e-9).all()


@pytest.mark.parametrize("kind", KINDS)
def test_support_of_rows_of_each_cell(kind):
    region = example(kind, 0)
    rows = torch.randn(4, 3, 5, generator=torch.Generator().manual_seed(1)).double()
    found = region.support(rows)
    assert found.shape == (4, 3)
    for cell in range(4):
        wanted = region.rows(cell, cell + 1).support(rows[cell])
        torch.testing.assert_close(found[cell], wanted.expand(1, 3)[0])


@pytest.mark.parametrize("kind", KINDS)
@drawn
@given(st.integers(0, 10_000), st.sampled_from([0.1, 1.0, 5.0]))
def test_projections_are_inside_and_leave_what_is_inside(kind, seed, size):
    region = example(kind, seed)
    draw = torch.Generator().manual_seed(seed + 1)
    points = region.center + size * torch.randn(20, 4, 5, generator=draw).double()
    nearest = region.project(points)
    assert is_inside(region, nearest).all()
    torch.testing.assert_close(region.project(nearest), nearest)
    inside = is_inside(region, points, tolerance=0.0)
    torch.testing.assert_close(nearest[inside], points[inside])
    # no other point of the region is nearer
    others = region.project(nearest + 0.3 * torch.randn(20, 4, 5, generator=draw).double())
    assert ((nearest - points).norm(dim=-1) <= (others - points).norm(dim=-1) + 1e-9).all()


@pytest.mark.parametrize("norm", ["l2", "l1"])
def test_projection_on_a_ball_equals_an_optimiser(norm):
    ball, point = Ball(np.zeros((1, 3)), 1.0, norm), np.array([1.0, -0.8, 0.1])
    length = {"l2": lambda v: 1 - v @ v, "l1": lambda v: 1 - np.abs(v).sum()}[norm]
    found = minimize(
        lambda v: ((v - point) ** 2).sum(),
        0.2 * point,
        constraints={"type": "ineq", "fun": length},
        method="SLSQP",
        options={"ftol": 1e-14},
    )
    ours = ball.project(torch.tensor(point[None]))[0].numpy()
    np.testing.assert_allclose(ours, found.x, atol=1e-5)


def test_a_ball_of_radius_zero_is_its_centre():
    x = torch.randn(3, 4).double()
    for norm in ("linf", "l2", "l1"):
        ball = Ball(x, 0.0, norm)
        assert torch.equal(ball.project(x + 1), x)
        assert torch.equal(ball.vertex(torch.ones(3, 4).double()), x)
        assert not ball.support(torch.ones(2, 4).double()).any()


@pytest.mark.parametrize("kind", KINDS)
def test_magnitude_is_the_largest_value(kind):
    region = example(kind, 3)
    ends = torch.stack([region.vertex(s * e.expand(4, 5)) for e in torch.eye(5) for s in (-1, 1)])
    torch.testing.assert_close(region.magnitude(), ends.abs().amax(0))


@pytest.mark.parametrize("kind", KINDS)
def test_rows_and_types(kind):
    region = example(kind, 0)
    part = region.rows(1, 3).to(torch.float32)
    assert type(part) is type(region)
    assert part.center.dtype == torch.float32
    torch.testing.assert_close(part.center, region.center[1:3].float())


@pytest.mark.parametrize(
    "convert",
    [
        lambda x: x,
        lambda x: torch.tensor(x),
        lambda x: x.tolist(),
        lambda x: pd.DataFrame(x),
        lambda x: csr_matrix(x),
        lambda x: x.astype(">f8"),
        lambda x: np.asfortranarray(x),
        lambda x: x.astype(np.int64),
        lambda x: x.astype(np.float16),
    ],
)
def test_arrays_tables_and_tensors_give_the_same(convert):
    x = np.arange(6.0).reshape(2, 3)
    for region in (Ball(convert(x), 0.1), Box(convert(x), convert(x))):
        assert torch.equal(region.center.double(), torch.tensor(x))
        assert region.center.dtype in (torch.float32, torch.float64)


def test_a_read_only_array_is_not_shared():
    x = np.ones((2, 3))
    x.setflags(write=False)
    assert Ball(x, 0.1).x.sum() == 6


def test_ends_of_different_types_meet_in_the_wider_one():
    box = Box(np.zeros((1, 2), np.float32), np.ones((1, 2)))
    assert box.lower.dtype == box.upper.dtype == torch.float64


def test_names_of_columns_are_kept():
    frame = pd.DataFrame({"a": [1.0], "b": [2.0]})
    assert Ball(frame, 0.1).columns == ("a", "b")
    assert Box(frame, frame).rows(0, 1).to(torch.float32).columns == ("a", "b")
    assert Ball(frame.to_numpy(), 0.1).columns is None
    with pytest.raises(ValueError, match="lower and upper must have the same columns"):
        Box(frame, frame[["b", "a"]])


X = torch.ones(3, 2)
NAN = torch.tensor([[1.0, math.nan]])


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Ball(X, -0.1), ValueError, "eps must be 0 or more and finite, got -0.1"),
        (lambda: Ball(X, math.nan), ValueError, "eps must be"),
        (lambda: Ball(X, math.inf), ValueError, "eps must be"),
        (lambda: Ball(X, "0.1"), TypeError, "eps must be a number, got str"),
        (lambda: Ball(X, True), TypeError, "eps must be a number, got bool"),
        (lambda: Ball(X, torch.ones(3)), TypeError, "eps must be a number, got Tensor"),
        (lambda: Ball(X, 0.1, "l3"), ValueError, "norm must be one of linf, l2, l1"),
        (lambda: Ball(X, 0.1, math.inf), ValueError, "norm must be one of linf, l2, l1"),
        (lambda: Ball(torch.ones(0, 2), 0.1), ValueError, "at least one cell"),
        (lambda: Ball(torch.ones(2), 0.1), ValueError, r"must have shape .n_cells, n_inputs."),
        (lambda: Ball(NAN, 0.1), ValueError, "x must be finite"),
        (lambda: Ball(X.long(), 0.1), TypeError, "x must be float32 or float64, got torch.int64"),
        (lambda: Ball([["a"]], 0.1), TypeError, "x must hold numbers"),
        (lambda: Box(NAN, NAN), ValueError, "lower must be finite"),
        (lambda: Box(X, None), TypeError, "upper is missing"),
        (lambda: Box(X, X[:2]), ValueError, "lower and upper must agree in shape"),
        (
            lambda: Box(X, X - torch.eye(3)[:, 1:]),
            ValueError,
            "lower is above upper at cell 1, column 0: swap them",
        ),
        (lambda: SparseBox(X, X, X, 0), ValueError, "max_changed must be an integer of at least 1"),
        (lambda: SparseBox(X, X, X, 1.0), ValueError, "max_changed must be an integer"),
        (lambda: SparseBox(X, X, X[:1], 1), ValueError, "must agree in shape"),
        (lambda: SparseBox(X + 1, X, X, 1), ValueError, "x is outside the box"),
        (lambda: SparseBox(X - 1, X, X, 1), ValueError, "x is outside the box"),
    ],
)
def test_bad_regions_are_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()
