"""Bounds are right if nothing ever gets out, and tight if they equal those of others."""

from __future__ import annotations

import copy
import functools
import math
import pickle
import subprocess
import sys
from fractions import Fraction
from itertools import combinations, product
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.utils.prune
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from rpumap.verification import (
    Ball,
    Box,
    SparseBox,
    bounds,
    crown,
    crown_ibp,
    ibp,
    projected_gradient,
    relax,
)
from rpumap.verification.regions import Region

METHODS = {"ibp": ibp, "crown_ibp": crown_ibp, "crown": crown}
REFERENCES = sorted((Path(__file__).parents[1] / "data").glob("mlp_*.npz"))
settings.register_profile("bounds", deadline=None, derandomize=True, max_examples=100)
drawn = settings.get_profile("bounds")


def network(*layers: tuple, dtype: torch.dtype = torch.float64) -> nn.Sequential:
    """Build an encoder from (weight, bias) pairs."""
    modules: list[nn.Module] = []
    for weight, bias in layers:
        weight, bias = torch.as_tensor(weight, dtype=dtype), torch.as_tensor(bias, dtype=dtype)
        linear = nn.Linear(weight.shape[1], weight.shape[0], dtype=dtype)
        linear.weight.data, linear.bias.data = weight, bias
        modules += [linear, nn.ReLU()]
    return nn.Sequential(*modules[:-1])


def random_network(
    sizes: list[int], seed: int, scale: float = 1.0, whole: bool = False, dtype=torch.float64
) -> nn.Sequential:
    draw = torch.Generator().manual_seed(seed)
    layers = []
    for n_in, n_out in zip(sizes, sizes[1:], strict=False):
        weight = torch.randn(n_out, n_in, generator=draw) * scale
        bias = torch.randn(n_out, generator=draw) * scale
        # whole numbers bring ties, dead neurons and repeated weights
        layers.append((weight.round(), bias.round()) if whole else (weight, bias))
    return network(*layers, dtype=dtype)


def reference_network(file: np.lib.npyio.NpzFile, dtype=torch.float32) -> nn.Sequential:
    n_layers = len(file["sizes"]) - 1
    return network(
        *((file[f"weight_{k}"], file[f"bias_{k}"]) for k in range(n_layers)), dtype=dtype
    )


def region_about(x: Tensor, eps: float, kind: str, seed: int = 0) -> Ball | Box:
    """Make a ball of this norm about each cell, or a lopsided box of that size."""
    if kind != "box":
        return Ball(x, eps, kind)
    draw = torch.Generator().manual_seed(seed)
    down, up = (eps * torch.rand(x.shape, generator=draw).to(x) for _ in range(2))
    return Box(x - down, x + up)


@st.composite
def cases(draw, kinds=("linf", "l2", "l1", "box"), max_hidden: int = 3):
    """A small network, a few cells and a region about each."""
    sizes = draw(st.lists(st.integers(1, 5), min_size=2, max_size=2 + max_hidden))
    seed = draw(st.integers(0, 2**20))
    scale = draw(st.sampled_from([0.3, 1.0, 10.0]))
    encoder = random_network(sizes, seed, scale, draw(st.booleans()), torch.float32)
    x = torch.randn(3, sizes[0], generator=torch.Generator().manual_seed(seed + 1))
    x = (x * draw(st.sampled_from([0.0, 1.0, 100.0]))).round(decimals=draw(st.integers(0, 7)))
    eps = draw(st.sampled_from([0.0, 1e-7, 1e-3, 0.1, 1.0, 30.0]))
    return encoder, x, eps, draw(st.sampled_from(kinds))


def attack(encoder: nn.Sequential, region: Region, seed: int = 0) -> Tensor:
    """Look for extreme outputs: random points, vertices, and gradient ascent for each output.

    Returns the points, (n_points, n_cells, n_inputs), in float64.
    """
    encoder = network(*((m.weight.data, m.bias.data) for m in encoder[::2]))
    region = region.to(torch.float64)
    center = region.center
    draw = torch.Generator().manual_seed(seed)
    random = region.vertex(torch.randn(8, *center.shape, generator=draw).double())
    inside = center + (random - center) * torch.rand(8, 1, 1, generator=draw)
    found = [center[None], random, inside]

    n_outputs = encoder[-1].out_features
    wanted = torch.cat([torch.eye(n_outputs), -torch.eye(n_outputs)]).double()
    for n_steps in (1, 2, 8):
        found.append(projected_gradient(encoder, region, wanted, n_steps=n_steps))
        found.append(projected_gradient(encoder, region, wanted, n_steps=n_steps, start=inside[0]))
    return torch.cat(found)


def exact_point(direction: Tensor, region: Region, cell: int) -> list[Fraction]:
    """Return a vertex of one cell's region, free of rounding (on an l2 ball, one on an axis)."""
    ahead = direction.tolist()
    if isinstance(region, Box):
        low, high = region.lower[cell].tolist(), region.upper[cell].tolist()
        return [Fraction(h if d > 0 else b) for d, b, h in zip(ahead, low, high, strict=True)]
    eps, largest = Fraction(region.eps), int(direction.abs().argmax())
    return [
        Fraction(v) + (eps if d > 0 else -eps) * (region.norm == "linf" or i == largest)
        for i, (v, d) in enumerate(zip(region.x[cell].tolist(), ahead, strict=True))
    ]


def exact_outputs(encoder: nn.Sequential, values: list[Fraction]) -> list[Fraction]:
    """Run the network on one point in rational arithmetic, without rounding."""
    for module in encoder:
        if isinstance(module, nn.ReLU):
            values = [max(v, Fraction(0)) for v in values]
        else:
            rows = zip(module.weight.tolist(), module.bias.tolist(), strict=True)
            values = [
                Fraction(b) + sum(Fraction(w) * v for w, v in zip(row, values, strict=True))
                for row, b in rows
            ]
    return values


# --- equal to others ------------------------------------------------------------------------


@pytest.mark.parametrize("rounding", [None, "exact"])
@pytest.mark.parametrize("path", REFERENCES, ids=lambda path: path.stem)
def test_equal_to_auto_lirpa_on_stored_networks(path, rounding):
    file = np.load(path)
    encoder, x, eps = reference_network(file), torch.tensor(file["x"]), float(file["eps"])
    names = [name for name in file.files if name.endswith("_lower")]
    assert len(names) == 7
    for name in names:
        method, norm, _ = name.rsplit("_", 2)
        lower, upper = METHODS[method](encoder, Ball(x, eps, norm), rounding=rounding)
        for ours, theirs in ((lower, file[name]), (upper, file[f"{method}_{norm}_upper"])):
            # The stored numbers are float32 sums of terms as large as the largest output: what
            # comes out near 0 is right to 1e-7 of those, not of itself.
            np.testing.assert_allclose(
                ours.detach(), theirs, rtol=1e-5, atol=5e-7 * np.abs(theirs).max()
            )


@pytest.mark.parametrize("kind", ["linf", "l2", "l1", "box"])
@pytest.mark.parametrize("method", METHODS)
def test_one_linear_layer_is_exact(method, kind):
    encoder, x = random_network([6, 3], 0), torch.randn(4, 6, dtype=torch.float64)
    region = region_about(x, 0.7, kind)
    lower, upper = METHODS[method](encoder, region)
    for output, row in enumerate(encoder[0].weight.data):
        high = encoder(region.vertex(row.expand_as(x)))[:, output]
        low = encoder(region.vertex(-row.expand_as(x)))[:, output]
        torch.testing.assert_close(upper[:, output], high)
        torch.testing.assert_close(lower[:, output], low)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_exact_where_no_sign_is_open(method, norm):
    # A bias of 100 keeps every ReLU on: the network is linear, and so are crown's bounds.
    hidden = torch.randn(5, 4, dtype=torch.float64)
    out = torch.randn(2, 5, dtype=torch.float64)
    encoder = network((hidden, torch.full((5,), 100.0)), (out, torch.zeros(2)))
    x = torch.randn(3, 4, dtype=torch.float64)
    together = network((out @ hidden, encoder(torch.zeros(1, 4).double())[0].detach()))
    lower, upper = METHODS[method](encoder, Ball(x, 0.5, norm))
    want_lower, want_upper = METHODS[method](together, Ball(x, 0.5, norm))
    if method == "ibp":
        assert (upper - lower > want_upper - want_lower).all()
    else:
        torch.testing.assert_close(lower, want_lower)
        torch.testing.assert_close(upper, want_upper)


def upper_by_hand(rows: Tensor, offset: Tensor, hidden: list, x: Tensor, eps: float) -> Tensor:
    """Bound rows over an l_inf ball about one cell from above by eq. 20 to 39."""
    for weight, bias, low, high in reversed(hidden):
        below, above = (-low).relu(), high.relu()
        chord = above / (above + below).clamp_min(1e-300)
        slope = torch.where(rows >= 0, chord, (high > -low).double())
        offset = offset + (rows * slope * (bias + torch.where(rows >= 0, below, 0.0))).sum(1)
        rows = (rows * slope) @ weight
    return rows @ x + offset + eps * rows.abs().sum(1)


def crown_by_hand(encoder: nn.Sequential, x: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Bound all neurons of one cell, layer by layer, and return the bounds of the last."""
    hidden: list = []
    for linear in encoder[::2]:
        weight, bias = linear.weight, linear.bias
        low = -upper_by_hand(-weight, -bias, hidden, x, eps)
        high = upper_by_hand(weight, bias, hidden, x, eps)
        hidden.append((weight, bias, low, high))
    return low, high


@pytest.mark.parametrize("shift", [0, -2, -100])
@pytest.mark.parametrize("hidden", [[12], [12, 10], [12, 10, 8]])
def test_equal_to_all_neurons_by_hand(hidden, shift, monkeypatch):
    # low biases make neurons inactive, and those are left out
    encoder = random_network([6, *hidden, 2], 0, 0.5)
    for linear in encoder[2:-1:2]:
        linear.bias.data += shift
    x = torch.randn(9, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    chosen, of = [], bounds.HiddenLayer.of
    monkeypatch.setattr(
        bounds.HiddenLayer, "of", lambda layer, cells: chosen.append(len(cells)) or of(layer, cells)
    )
    found = crown(encoder, Ball(x, 0.1))
    assert bool(chosen) == (shift == -2 and len(hidden) > 1)  # some left out, not all or none
    by_hand = (crown_by_hand(encoder, v, 0.1) for v in x)
    wanted = [torch.stack(ends) for ends in zip(*by_hand, strict=True)]
    gradients = [
        torch.autograd.grad(sum(end.square().sum() for end in ends), tuple(encoder.parameters()))
        for ends in (found, wanted)
    ]
    torch.testing.assert_close(list(found), wanted, rtol=1e-11, atol=1e-11)
    torch.testing.assert_close(*gradients, rtol=1e-9, atol=1e-9)


def test_hand_computed_two_by_two():
    # y1 = x1 + x2, y2 = x1 - x2, z = relu(y1) + relu(y2), x = (1, 0), eps = 1.
    # Both y run from -1 to 3: chord 3/4 (y + 1), lower line y. Upper: 3/2 x1 + 3/2 at x1 = 2.
    # Lower: y1 + y2 = 2 x1 at x1 = 0.
    encoder = network(([[1, 1], [1, -1]], [0, 0]), ([[1, 1]], [0]))
    lower, upper = crown(encoder, Ball(torch.tensor([[1.0, 0.0]]), 1.0))
    assert (lower.item(), upper.item()) == (0.0, 4.5)
    lower, upper = ibp(encoder, Ball(torch.tensor([[1.0, 0.0]]), 1.0))
    assert (lower.item(), upper.item()) == (0.0, 6.0)


def milp_range(encoder: nn.Sequential, lower: np.ndarray, upper: np.ndarray, output: int):
    """Return the ends of an output's range over a box, and their places, by integer programming."""
    from scipy.optimize import Bounds, LinearConstraint, milp

    layers = [(m.weight.detach().numpy(), m.bias.detach().numpy()) for m in encoder[::2]]
    hidden = sum(len(bias) for _, bias in layers[:-1])
    n = len(lower) + 2 * hidden  # inputs, then for each neuron its output h and its switch s
    low, high = np.full(n, 0.0), np.full(n, 1.0)
    low[: len(lower)], high[: len(lower)] = lower, upper
    integer, rows, ends = np.zeros(n), [], []
    below, inputs = (lower, upper), np.arange(len(lower))
    start = len(lower)
    for weight, bias in layers[:-1]:
        center, half = (below[0] + below[1]) / 2, (below[1] - below[0]) / 2
        y_low = weight @ center + bias - np.abs(weight) @ half - 1e-3
        y_high = weight @ center + bias + np.abs(weight) @ half + 1e-3
        outputs = start + np.arange(len(bias))
        switches = outputs + len(bias)
        start += 2 * len(bias)
        high[outputs], integer[switches] = np.maximum(y_high, 0), 1
        for j, (h, s) in enumerate(zip(outputs, switches, strict=True)):
            y = np.zeros(n)
            y[inputs] = weight[j]
            above, off, on = -y, np.zeros(n), -y
            above[h] += 1  # h >= y
            off[h], off[s] = 1, -max(y_high[j], 0.0)  # h <= s y_high
            on[h] += 1
            on[s] -= min(y_low[j], 0.0)  # h <= y - y_low (1 - s)
            rows += [above, off, on]
            ends += [(bias[j], np.inf), (-np.inf, 0.0), (-np.inf, bias[j] - min(y_low[j], 0.0))]
        below, inputs = (np.maximum(y_low, 0), np.maximum(y_high, 0)), outputs
    cost = np.zeros(n)
    cost[inputs] = layers[-1][0][output]
    constraints = LinearConstraint(np.array(rows), *np.array(ends).T)
    values = []
    for sign in (1, -1):
        result = milp(
            sign * cost, integrality=integer, bounds=Bounds(low, high), constraints=constraints
        )
        assert result.success, result.message
        values.append((sign * result.fun + layers[-1][1][output], result.x[: len(lower)]))
    return values


def test_the_true_range_by_integer_programming_is_inside():
    gaps = dict.fromkeys(METHODS, 0.0)
    for seed in range(6):
        encoder = random_network([3, 5, 4, 2], seed)
        x = torch.randn(1, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        region = region_about(x, 0.5, "box", seed)
        ends = [region.lower[0].numpy(), region.upper[0].numpy()]
        tested = encoder(attack(encoder, region))
        for output in range(2):
            (least, lowest), (most, highest) = milp_range(encoder, *ends, output)
            # the programme is right: its values are those of the network, and no attack beats them
            found = encoder(torch.tensor(np.stack([lowest, highest])))[:, output].tolist()
            assert found == pytest.approx([least, most], abs=1e-5)
            assert least - 1e-6 <= tested[..., output].min()
            assert most + 1e-6 >= tested[..., output].max()
            for name, method in METHODS.items():
                lower, upper = (end[0, output].item() for end in method(encoder, region))
                assert lower <= least + 1e-6
                assert upper >= most - 1e-6
                gaps[name] += (upper - lower) - (most - least)
    # what relaxing costs beyond the true range, beside intervals
    assert gaps["crown"] < 0.75 * gaps["crown_ibp"]
    assert gaps["crown_ibp"] < 0.5 * gaps["ibp"]


# --- nothing gets out -----------------------------------------------------------------------


@pytest.mark.parametrize("lower_slope", ["adaptive", "zero"])
@pytest.mark.parametrize("method", METHODS)
@drawn
@given(cases())
def test_no_attack_leaves_the_bounds(method, lower_slope, case):
    encoder, x, eps, kind = case
    region = region_about(x, eps, kind)
    option = {} if method == "ibp" else {"lower_slope": lower_slope}
    points = attack(encoder, region)
    for rounding in ("exact", "computed"):
        lower, upper = METHODS[method](encoder, region, **option, rounding=rounding)
        assert lower.dtype == upper.dtype == torch.float32
        if rounding == "exact":
            # float64 stands in for real numbers here; rational arithmetic is used further down
            z = network(*((m.weight.data, m.bias.data) for m in encoder[::2]))(points)
        else:
            z = encoder(points.float())
        assert (lower <= z).all()
        assert (z <= upper).all()


@pytest.mark.parametrize("method", METHODS)
@drawn
@given(cases())
def test_without_rounding_mode_bounds_hold_up_to_rounding(method, case):
    encoder, x, eps, kind = case
    encoder = encoder.double()
    region = region_about(x.double(), eps, kind)
    lower, upper = METHODS[method](encoder, region)
    z = encoder(attack(encoder, region))
    tiny = 1e-12 * (1 + z.abs().amax() + torch.maximum(lower.abs(), upper.abs()).amax())
    assert (lower <= z + tiny).all()
    assert (z <= upper + tiny).all()


@drawn
@given(
    st.floats(-1e3, 1e3, width=32),
    st.floats(0, 1e3, width=32),
    st.sampled_from(["adaptive", "zero"]),
)
@example(0.0, 0.0, "adaptive")
@example(-1.0, 2.0, "zero")
@example(-(2.0**-149), 2.0**-149, "adaptive")
def test_relaxation_encloses_the_relu(low, width, lower_slope):
    ends = torch.tensor([low, low + width], dtype=torch.float64)
    relaxed = relax(ends[:1], ends[1:], lower_slope)
    y = torch.linspace(0, 1, 101, dtype=torch.float64) * (ends[1] - ends[0]) + ends[0]
    tiny = 1e-12 * (ends.abs().amax() + 1e-300)
    assert (relaxed.lower_slope * y <= y.relu() + tiny).all()
    assert (relaxed.upper_slope * y + relaxed.intercept >= y.relu() - tiny).all()
    assert ((relaxed.upper_slope >= 0) & (relaxed.upper_slope <= 1)).all()


# --- order ----------------------------------------------------------------------------------


def assert_inside(inner: tuple[Tensor, Tensor], outer: tuple[Tensor, Tensor]) -> None:
    tiny = 1e-12 * (1 + torch.maximum(outer[0].abs(), outer[1].abs()))
    assert (inner[0] >= outer[0] - tiny).all()
    assert (inner[1] <= outer[1] + tiny).all()


def test_slope_of_the_lower_relaxation():
    lower, upper = (
        torch.tensor([-2.0, -1.0, -1.0, 0.0, -1.0]),
        torch.tensor([1.0, 1.0, 2.0, 1.0, 0.0]),
    )
    # where both slopes leave the same area, auto_LiRPA takes 0
    assert relax(lower, upper).lower_slope.tolist() == [0, 0, 1, 1, 0]
    assert relax(lower, upper, "zero").lower_slope.tolist() == [0, 0, 0, 1, 0]


@drawn
@given(cases())
def test_with_slope_zero_the_methods_nest(case):
    encoder, x, eps, kind = case
    region = region_about(x.double(), eps, kind)
    encoder = encoder.double()
    tight = crown(encoder, region, lower_slope="zero")
    middle = crown_ibp(encoder, region, lower_slope="zero")
    assert_inside(tight, middle)
    assert_inside(middle, ibp(encoder, region))


@drawn
@given(cases(), st.floats(0, 1), st.floats(0, 1))
def test_with_slope_zero_bounds_grow_with_the_region(case, ratio, shift):
    encoder, x, eps, kind = case
    encoder, x = encoder.double(), x.double()
    large = region_about(x, eps, kind)
    if kind == "box":
        # any box inside, not only one about the same middle
        width = large.upper - large.lower
        low = large.lower + (1 - ratio) * shift * width
        small = Box(low, torch.minimum(low + ratio * width, large.upper))
    else:
        small = Ball(x, ratio * eps, kind)
    assert_inside(ibp(encoder, small), ibp(encoder, large))
    for method in (crown_ibp, crown):
        assert_inside(
            method(encoder, small, lower_slope="zero"),
            method(encoder, large, lower_slope="zero"),
        )


@drawn
@given(cases(kinds=("linf", "l2", "l1"), max_hidden=1), st.floats(0, 1))
def test_adaptive_bounds_of_one_hidden_layer_grow_with_eps(case, ratio):
    # There the lower slope follows the sign of the input at the centre, whatever eps is.
    encoder, x, eps, norm = case
    encoder, x = encoder.double(), x.double()
    # a ball so small that rounding decides on which side of 0 its centre lies is no ball
    ratio = 0.0 if eps * ratio < 1e-6 else ratio
    assert_inside(crown(encoder, Ball(x, ratio * eps, norm)), crown(encoder, Ball(x, eps, norm)))


def test_adaptive_bounds_of_real_width_nest_and_grow():
    # What the theory does not promise, trained and random networks of useful width still do.
    file = np.load(Path(__file__).parents[1] / "data" / "mlp_30-64-64-2.npz")
    encoder, x = reference_network(file, torch.float64), torch.tensor(file["x"]).double()
    before = None
    for eps in (0.0, 0.01, 0.05, 0.1, 0.2, 0.5):
        tight, middle, loose = (f(encoder, Ball(x, eps)) for f in (crown, crown_ibp, ibp))
        assert_inside(tight, middle)
        assert_inside(middle, loose)
        if before is not None:
            assert_inside(before, tight)
        before = tight


def test_adaptive_bounds_need_not_nest():
    # relu(x) for x from -1 to 2. The lower relaxation is x itself.
    encoder = network(([[1.0]], [0.0]), ([[1.0]], [0.0]))
    x = torch.tensor([[0.5]])
    assert [end.item() for end in crown(encoder, Ball(x, 1.5))] == [-1, 2]
    assert [end.item() for end in ibp(encoder, Ball(x, 1.5))] == [0, 2]
    assert [end.item() for end in crown(encoder, Ball(x, 1.5), lower_slope="zero")] == [0, 2]
    # Nor do auto_LiRPA's own.
    file = np.load(Path(__file__).parents[1] / "data" / "mlp_5-8-8-2.npz")
    assert (file["crown_linf_lower"] < file["crown_ibp_linf_lower"] - 0.01).any()


def test_adaptive_bounds_need_not_grow():
    # Between the two radii a hidden neuron's lower slope turns from 1 to 0.
    encoder = network(([[-2, 3], [-2, 1]], [1, 3]), ([[3, -1]], [2]), ([[-2]], [3]), ([[2]], [-3]))
    x = torch.zeros(1, 2)
    small, large = (crown(encoder, Ball(x, eps)) for eps in (2.25, 2.5))
    assert small[0] < large[0]
    assert large[1] < small[1]


# --- few inputs changed ---------------------------------------------------------------------


def sparse_case(seed: int, n_changed: int) -> SparseBox:
    draw = torch.Generator().manual_seed(seed)
    x, down, up = (torch.randn(3, 6, generator=draw).double() for _ in range(3))
    return SparseBox(x, x - down.abs(), x + up.abs(), n_changed)


@pytest.mark.parametrize("n_changed", [1, 2, 5])
@pytest.mark.parametrize("method", METHODS)
def test_few_changes_in_one_linear_layer_are_exact(method, n_changed):
    # every choice of inputs, each at either end of its interval
    encoder, region = random_network([6, 2], 0), sparse_case(0, n_changed)
    found = []
    for chosen in combinations(range(6), n_changed):
        for ends in product((region.lower, region.upper), repeat=n_changed):
            point = region.x.clone()
            for column, end in zip(chosen, ends, strict=True):
                point[:, column] = end[:, column]
            found.append(encoder(point))
    lower, upper = METHODS[method](encoder, region)
    torch.testing.assert_close(upper, torch.stack(found).amax(0))
    torch.testing.assert_close(lower, torch.stack(found).amin(0))


@pytest.mark.parametrize("method", METHODS)
@drawn
@given(st.integers(0, 2**20), st.integers(1, 6), st.integers(1, 3))
def test_no_choice_of_few_changes_leaves_the_bounds(method, seed, n_changed, depth):
    encoder, region = random_network([6, *[5] * depth, 2], seed), sparse_case(seed, n_changed)
    lower, upper = METHODS[method](encoder, region, rounding="exact")
    draw = torch.Generator().manual_seed(seed)
    for _ in range(30):
        kept = torch.rand(3, 6, generator=draw).argsort(1) >= n_changed
        share = torch.rand(3, 6, generator=draw).double().mul(3).sub(1).clamp(0, 1)
        moved = torch.lerp(region.lower, region.upper, share)
        z = encoder(torch.where(kept, region.x, moved))
        assert (lower <= z).all()
        assert (z <= upper).all()


@pytest.mark.parametrize("method", METHODS)
def test_all_inputs_changed_is_the_box(method):
    encoder, region = random_network([6, 5, 4, 2], 3), sparse_case(3, 6)
    box = Box(region.lower, region.upper)
    for found, wanted in zip(
        METHODS[method](encoder, region), METHODS[method](encoder, box), strict=True
    ):
        torch.testing.assert_close(found, wanted)


def test_fewer_changes_are_tighter():
    encoder = random_network([6, 5, 4, 2], 4)
    widths = []
    for n_changed in range(1, 7):
        lower, upper = crown(encoder, sparse_case(4, n_changed), lower_slope="zero")
        widths.append((upper - lower).mean().item())
    assert widths == sorted(widths)
    assert widths[0] < 0.7 * widths[-1]


# --- rounding -------------------------------------------------------------------------------


def contains(bound: tuple[Tensor, Tensor], cell: int, values: list[Fraction]) -> bool:
    ends = zip(bound[0][cell].tolist(), bound[1][cell].tolist(), strict=True)
    return all(
        low <= v <= high
        if math.isinf(low) or math.isinf(high)
        else Fraction(low) <= v <= Fraction(high)
        for v, (low, high) in zip(values, ends, strict=True)
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("method", METHODS)
@drawn
@given(cases())
def test_exact_bounds_hold_in_rational_arithmetic(method, dtype, case):
    encoder, x, eps, kind = case
    if dtype == torch.float64:  # with all of its digits in use
        encoder, x = encoder.double(), x.double() / 3
        for p in encoder.parameters():
            p.data /= 3
    region = region_about(x, eps, kind)
    bound = METHODS[method](encoder, region, rounding="exact")
    leaf = x.clone().requires_grad_()
    (slope,) = torch.autograd.grad(encoder(leaf).sum(), leaf)
    for cell in range(len(x)):
        for direction in (slope[cell], -slope[cell], torch.randn(x.shape[1])):
            point = exact_point(direction, region, cell)
            assert contains(bound, cell, exact_outputs(encoder, point))


CANCELLING = network(
    ([[1e8, 1.0], [1e8, -1.0], [3.3e7, 0.1]], [0.1, 0.2, 0.3]),
    ([[1.0, -1.0, 1e-7], [0.1, 0.7, -2.4]], [1e-6, -1e8]),
    ([[1.0, 1e-9], [-1.0, 1.0]], [0.0, 0.3]),
    dtype=torch.float32,
)


@pytest.mark.parametrize("eps", [0.0, 1e-12, 1e-7])
@pytest.mark.parametrize("method", METHODS)
def test_terms_that_cancel(method, eps):
    x = torch.tensor([[1.0, 0.3], [0.7, 1e-3], [12345.678, -1.0]])
    region = Ball(x, eps)
    exact = METHODS[method](CANCELLING, region, rounding="exact")
    plain = METHODS[method](CANCELLING, region)
    plain_holds = True
    for cell in range(len(x)):
        for direction in ([1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]):
            point = exact_point(torch.tensor(direction), region, cell)
            values = exact_outputs(CANCELLING, point)
            assert contains(exact, cell, values)
            plain_holds &= contains(plain, cell, values)
    if eps == 0:
        assert not plain_holds  # the margin is needed
        assert ((exact[1] - exact[0]) < 1e-4 * (1 + exact[0].abs())).all()  # and small


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e8])
@pytest.mark.parametrize("eps", [0.0, 1e-30, 1e-9])
def test_computed_bounds_hold_what_float32_gives(eps, scale):
    encoder = random_network([40, 30, 20, 2], 5, 0.3, dtype=torch.float32)
    encoder[0].weight.data *= scale
    x = torch.randn(200, 40, generator=torch.Generator().manual_seed(1)) / scale**0.5
    lower, upper = crown(encoder, Ball(x, eps), rounding="computed")
    one_by_one = torch.cat([encoder(row[None]) for row in x])
    backwards = network(*((m.weight.data, m.bias.data) for m in encoder[::2]), dtype=torch.float32)
    backwards[0].weight.data = encoder[0].weight.data.flip(1).contiguous()
    for z in (encoder(x), one_by_one, backwards(x.flip(1)), encoder.double()(x.double())):
        assert (lower <= z).all()
        assert (z <= upper).all()


def test_rounding_costs_little():
    file = np.load(Path(__file__).parents[1] / "data" / "mlp_300-100-100-100-2.npz")
    encoder, x = reference_network(file), torch.tensor(file["x"])
    plain, exact, computed = (
        (lambda ends: ends[1] - ends[0])(
            crown(encoder.double(), Ball(x.double(), 0.2), rounding=mode)
        )
        for mode in (None, "exact", "computed")
    )
    assert (exact >= plain).all()
    assert (exact / plain - 1).max() < 1e-10
    # the network is float64 now, and so is what it computes
    assert (computed / plain - 1).max() < 1e-10
    single = crown(encoder.float(), Ball(x, 0.2), rounding="computed")
    assert 1e-5 < ((single[1] - single[0]) / plain - 1).mean() < 2e-3


def test_overflow_is_an_infinite_bound():
    big = [[1e38, 1e38], [1e38, -1e38]]
    encoder = network(*[(big, [1.0, -1.0])] * 10, dtype=torch.float32)
    for method in METHODS.values():
        lower, upper = method(encoder, Ball(torch.ones(1, 2), 1.0), rounding="exact")
        assert not (lower.isnan() | upper.isnan()).any()
        assert (lower == -math.inf).any()
        assert (upper == math.inf).any()


@pytest.mark.parametrize("method", METHODS)
def test_where_the_network_overflows_the_bounds_are_infinite(method):
    # In float64 the hidden sum is 1e39 and the output 20; in float32 both are infinite.
    encoder = network(([[1e20]], [0.0]), ([[2e-38]], [0.0]), dtype=torch.float32)
    x = torch.tensor([[1e19], [1.0], [1e18]])
    assert encoder(x).isinf().flatten().tolist() == [True, False, False]
    lower, upper = METHODS[method](encoder, Ball(x, 0.0), rounding="computed")
    assert lower.flatten().isinf().tolist() == upper.flatten().isinf().tolist()
    assert upper.flatten().isinf().tolist() == [True, False, False]
    # sums that cancel in real arithmetic and overflow on the way
    encoder = network(([[3e38, 3e38, -3e38]], [0.0]), ([[1.0]], [0.0]), dtype=torch.float32)
    lower, upper = METHODS[method](encoder, Ball(torch.ones(1, 3), 0.0), rounding="computed")
    assert lower.item() == -math.inf
    assert upper.item() == math.inf


@pytest.mark.parametrize("flush", [False, True])
@pytest.mark.parametrize("method", METHODS)
def test_underflow_stays_inside(method, flush):
    # Products of about 1e-44 are denormal in float32, or zero; the last layer makes them large.
    draw = torch.Generator().manual_seed(0)
    small = 1e-22 * torch.randn(8, 6, generator=draw)
    large = 1e37 * torch.randn(2, 8, generator=draw)
    encoder = network((small, torch.zeros(8)), (large, torch.zeros(2)), dtype=torch.float32)
    x = 1e-22 * torch.randn(50, 6, generator=draw)
    exact = network(*((m.weight.data, m.bias.data) for m in encoder[::2]))(x.double())
    lower, upper = METHODS[method](encoder, Ball(x, 0.0), rounding="computed")
    if flush and not torch.set_flush_denormal(True):
        pytest.skip("this processor cannot flush denormal numbers to zero")
    try:
        z = encoder(x)
    finally:
        torch.set_flush_denormal(False)
    assert ((z - exact).abs() > 1e-3 * exact.abs()).any()  # relative errors alone would not do
    for values in (z, exact):
        assert (lower <= values).all()
        assert (values <= upper).all()


# --- gradients ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["linf", "l2", "l1", "box"])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("hidden", [[], [5], [5, 4], [4, 4, 3]])
def test_gradients(method, kind, hidden):
    encoder = random_network([3, *hidden, 2], 3)
    x = torch.randn(2, 3, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    region = region_about(x, 0.4, kind)
    names = ("lower", "upper") if kind == "box" else ("x",)
    inputs = [getattr(region, name).clone().requires_grad_() for name in names]
    parameters = [p.detach().clone().requires_grad_() for p in encoder.parameters()]
    for linear in encoder[::2]:
        del linear.weight, linear.bias

    def ends(*tensors: Tensor) -> Tensor:
        values = iter(tensors)
        for linear in encoder[::2]:
            linear.weight, linear.bias = next(values), next(values)
        about = Box(*values) if kind == "box" else Ball(next(values), 0.4, kind)
        return torch.cat(METHODS[method](encoder, about))

    assert torch.autograd.gradcheck(ends, (*parameters, *inputs), atol=1e-5)


def test_a_few_steps_of_descent_shrink_the_bounds():
    encoder = random_network([20, 16, 16, 2], 0, 0.3, dtype=torch.float32)
    x = torch.randn(30, 20, generator=torch.Generator().manual_seed(0))
    optimizer = torch.optim.Adam(encoder.parameters(), 1e-2)
    widths = []
    for _ in range(20):
        lower, upper = crown(encoder, Ball(x, 0.1))
        width = (upper - lower).mean()
        optimizer.zero_grad()
        width.backward()
        optimizer.step()
        widths.append(width.item())
    assert widths[-1] < 0.5 * widths[0]


def test_rounding_modes_and_no_grad_give_no_gradient():
    encoder, x = random_network([3, 4, 2], 0, dtype=torch.float32), torch.randn(2, 3)
    assert crown(encoder, Ball(x, 0.1))[0].requires_grad
    assert not crown(encoder, Ball(x, 0.1), rounding="exact")[0].requires_grad
    with torch.no_grad():
        assert not crown(encoder, Ball(x, 0.1))[0].requires_grad


# --- batches, types, memory -----------------------------------------------------------------


@pytest.mark.parametrize("kind", ["linf", "box"])
@pytest.mark.parametrize("method", METHODS)
def test_cell_by_cell_is_the_same(method, kind):
    encoder = random_network([7, 6, 5, 2], 1)
    x = torch.randn(11, 7, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    region = region_about(x, 0.3, kind)
    whole = torch.cat(METHODS[method](encoder, region))
    whole.square().sum().backward()
    gradients = [p.grad.clone() for p in encoder.parameters()]
    encoder.zero_grad()
    parts = torch.cat(METHODS[method](encoder, region, memory_limit=1e-9))
    parts.square().sum().backward()
    torch.testing.assert_close(parts, whole, rtol=1e-12, atol=1e-12)
    for p, gradient in zip(encoder.parameters(), gradients, strict=True):
        torch.testing.assert_close(p.grad, gradient, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("n_numbers", [1, 5000, 10**9])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_blocks_of_any_size_give_the_same(dtype, n_numbers, monkeypatch):
    encoder = random_network([7, 6, 5, 2], 1, dtype=dtype)
    x = torch.randn(70, 7, generator=torch.Generator().manual_seed(2)).to(dtype)

    def ends_and_gradients() -> list[Tensor]:
        ends = torch.cat(crown(encoder, Ball(x, 0.3)))
        return [ends, *torch.autograd.grad(ends.square().sum(), tuple(encoder.parameters()))]

    wanted = ends_and_gradients()
    monkeypatch.setattr(bounds, "BLOCK", n_numbers)
    rounding = 100 * torch.finfo(dtype).eps
    torch.testing.assert_close(ends_and_gradients(), wanted, rtol=rounding, atol=100 * rounding)


@pytest.mark.parametrize("n_cells", [1, 16, 33, 131])
@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("method", METHODS)
def test_float32_is_float64_but_for_rounding(method, norm, n_cells):
    # in float32, convolutions multiply large matrices; in which form depends on the number of rows
    encoder = random_network([30, 17, 12, 9, 3], 0, 0.3, dtype=torch.float32)
    x = torch.randn(n_cells, 30, generator=torch.Generator().manual_seed(0))
    found = []
    for network_, cells in ((encoder, x), (copy.deepcopy(encoder).double(), x.double())):
        ends = torch.cat(METHODS[method](network_, Ball(cells, 0.1, norm)))
        found.append([ends, *torch.autograd.grad(ends.square().sum(), [*network_.parameters()])])
    for single, double in zip(*found, strict=True):
        assert (single - double).abs().max() < 1e-5 * double.abs().max()


def test_autocast_around_the_call_changes_nothing():
    encoder = random_network([20, 16, 16, 2], 0, dtype=torch.float32)
    x = torch.randn(8, 20, generator=torch.Generator().manual_seed(0))
    for method in METHODS.values():
        wanted = torch.cat(method(encoder, Ball(x, 0.1)))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = torch.cat(method(encoder, Ball(x, 0.1)))
        assert torch.equal(found, wanted)
        found.sum().backward()


def test_memory_stays_under_the_limit():
    # Unlimited, one array of this calculation alone would take 460 MB.
    code = """
import resource, torch
from rpumap.networks import mlp
from rpumap.verification import Ball, crown
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
encoder, x = mlp(300, (128, 128), 2, torch.Generator().manual_seed(0)), torch.ones(1500, 300)
with torch.no_grad():
    crown(encoder, Ball(x[:2], 0.1))
    before = peak()
    crown(encoder, Ball(x, 0.1), memory_limit=40)
print(peak() - before)
"""
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert float(result.stdout) < 40 + 15  # the results and PyTorch's own buffers


def test_gradients_keep_one_byte_of_each_sum():
    # 512 cells x 256 rows x 300 inputs: 39 MB in bytes, 157 MB in float32
    code = """
import resource, torch
from rpumap.networks import mlp
from rpumap.verification import Ball, crown
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
encoder, x = mlp(300, (128, 128), 2, torch.Generator().manual_seed(0)), torch.ones(512, 300)
sum(end.sum() for end in crown(encoder, Ball(x[:80], 0.1))).backward()
before = peak()
sum(end.sum() for end in crown(encoder, Ball(x, 0.1))).backward()
print(peak() - before)
"""
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert float(result.stdout) < 39 + 40


@pytest.mark.parametrize("rounding", [None, "exact", "computed"])
@pytest.mark.parametrize(
    ("weights", "data", "out"),
    [
        (torch.float32, torch.float32, torch.float32),
        (torch.float64, torch.float32, torch.float64),
        (torch.float32, torch.float64, torch.float64),
    ],
)
def test_types_are_kept(weights, data, out, rounding):
    encoder = random_network([3, 4, 2], 0, dtype=weights)
    for method in METHODS.values():
        region = Ball(torch.ones(5, 3, dtype=data), 0.1)
        lower, upper = method(encoder, region, rounding=rounding)
        assert lower.shape == upper.shape == (5, 2)
        assert lower.dtype == upper.dtype == out
        assert (lower <= upper).all()


def test_layers_without_bias():
    plain = nn.Sequential(nn.Linear(3, 4, bias=False), nn.ReLU(), nn.Linear(4, 2, bias=False))
    zero = network(*((m.weight.data, torch.zeros(m.out_features)) for m in plain[::2]))
    for ours, theirs in zip(
        crown(plain.double(), Ball(torch.ones(1, 3), 0.1)),
        crown(zero, Ball(torch.ones(1, 3), 0.1)),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs)


# --- bad input ------------------------------------------------------------------------------

GOOD = network(([[1.0, 2.0]], [0.0]), ([[1.0], [2.0]], [0.0, 1.0]), dtype=torch.float32)
X = torch.ones(3, 2)
BALL = Ball(X, 0.1)


@pytest.mark.parametrize(
    ("region", "options", "error", "message"),
    [
        (Ball(torch.ones(3, 5), 0.1), {}, ValueError, "region has 5 columns, .* takes 2 inputs"),
        (X, {}, TypeError, "region must be one of .* Ball, Box, SparseBox, got Tensor"),
        (BALL, {"rounding": "up"}, ValueError, "rounding must be one of exact, computed"),
        (BALL, {"memory_limit": 0}, ValueError, "memory_limit must be above 0"),
    ],
)
def test_bad_input_is_refused(region, options, error, message):
    for method in METHODS.values():
        with pytest.raises(error, match=message):
            method(GOOD, region, **options)


def test_unknown_slope_is_refused():
    for method in (crown_ibp, crown):
        with pytest.raises(
            ValueError, match="lower_slope must be one of adaptive, zero, got 'one'"
        ):
            method(GOOD, BALL, lower_slope="one")


def broken() -> nn.Sequential:
    encoder = network(([[1.0, 2.0]], [0.0]), dtype=torch.float32)
    encoder[0].weight.data[0, 0] = math.inf
    return encoder


@pytest.mark.parametrize(
    ("encoder", "error", "message"),
    [
        (nn.Linear(2, 2), TypeError, "must be torch.nn.Sequential itself, got Linear"),
        (nn.Sequential(), ValueError, "Linear, ReLU, ..., Linear"),
        (nn.Sequential(nn.Linear(2, 2), nn.ReLU()), ValueError, "its 2 modules cannot"),
        (
            nn.Sequential(nn.Linear(2, 2), nn.Tanh(), nn.Linear(2, 2)),
            TypeError,
            r"encoder\[1\] must be torch.nn.ReLU itself, got Tanh, .*auto_lirpa bounds other",
        ),
        (
            nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Dropout()),
            TypeError,
            r"encoder\[2\] must be torch.nn.Linear itself, got Dropout",
        ),
        (broken(), ValueError, r"the weights of encoder\[0\] must be finite"),
        (nn.Sequential(nn.Linear(2, 2).half()), TypeError, "must be float32 or float64"),
    ],
)
def test_other_networks_are_refused(encoder, error, message):
    for method in METHODS.values():
        with pytest.raises(error, match=message):
            method(encoder, BALL)


class Skip(nn.Sequential):
    def forward(self, x):
        return super().forward(x) + 3 * x


class Scaled(nn.Linear):
    def forward(self, x):
        return nn.functional.linear(x, 5 * self.weight, self.bias)


class Shifted(nn.ReLU):
    def forward(self, x):
        return torch.relu(x) + 1


def chain(container=nn.Sequential, linear=nn.Linear, activation=nn.ReLU) -> nn.Sequential:
    return container(linear(2, 4), activation(), linear(4, 2))


def hooked(position: int | None, when: str) -> nn.Sequential:
    encoder = chain()
    module = encoder if position is None else encoder[position]
    if when == "after":
        module.register_forward_hook(lambda module, given, output: output + 1)
    else:
        module.register_forward_pre_hook(lambda module, given: (given[0] + 1,))
    return encoder


def changed(change) -> nn.Sequential:
    encoder = chain()
    change(encoder)
    return encoder


def with_forward(encoder: nn.Sequential) -> None:
    encoder[0].forward = lambda x: nn.functional.linear(x, -encoder[0].weight)


class Odd(Tensor):
    pass


@pytest.mark.parametrize(
    ("encoder", "message"),
    [
        (chain(container=Skip), "got Skip .a subclass of Sequential., whose output may differ"),
        (chain(linear=Scaled), r"encoder\[0\] must be torch.nn.Linear itself, got Scaled"),
        (chain(activation=Shifted), r"encoder\[1\] must be torch.nn.ReLU itself, got Shifted"),
        *((hooked(at, w), "forward hooks") for at in (None, 0, 1) for w in ("after", "before")),
        (changed(lambda net: nn.utils.parametrizations.weight_norm(net[0])), "ParametrizedLinear"),
        (changed(lambda net: nn.utils.prune.l1_unstructured(net[0], "weight", 2)), "hooks"),
        (changed(with_forward), "forward method of its own"),
        (changed(lambda net: net.compile()), "compiled"),
        (changed(lambda net: setattr(net[0], "bias", None)), "nothing"),
        (changed(lambda net: net[0].register_buffer("scale", torch.ones(1))), "holds scale beside"),
        (changed(lambda net: net[0].add_module("more", nn.ReLU())), "other modules"),
        (nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(4, 2)), "takes 4 inputs, but 3"),
        (nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2).double()), "first layer"),
    ],
)
def test_networks_that_may_compute_something_else_are_refused(encoder, message):
    for method in METHODS.values():
        if message == "nothing":  # a layer without bias is plain
            method(encoder, BALL)
            continue
        with pytest.raises((TypeError, ValueError), match=message):
            method(encoder, BALL)


def test_weights_of_another_class_are_refused():
    encoder = chain()
    encoder[0].weight = nn.Parameter(torch.ones(4, 2).as_subclass(Odd))
    with pytest.raises(TypeError, match="weights of the class"):
        crown(encoder, BALL)


@pytest.mark.parametrize("name", ["forward_hook", "forward_pre_hook"])
def test_global_hooks_are_refused(name):
    register = getattr(nn.modules.module, f"register_module_{name}")
    handle = register(lambda *given: None)
    try:
        with pytest.raises(TypeError, match="global forward hook"):
            crown(GOOD, BALL)
    finally:
        handle.remove()
    crown(GOOD, BALL)


def test_copies_of_a_plain_network_are_plain(tmp_path):
    encoder = chain()
    torch.save(encoder.state_dict(), tmp_path / "weights")
    loaded = chain()
    loaded.load_state_dict(torch.load(tmp_path / "weights", weights_only=True))
    wanted = torch.cat(crown(encoder, BALL))
    for same in (copy.deepcopy(encoder), pickle.loads(pickle.dumps(encoder)), loaded):
        assert torch.equal(torch.cat(crown(same, BALL)), wanted)


def test_nothing_given_is_changed():
    encoder, x = random_network([3, 4, 2], 0), torch.ones(2, 3, dtype=torch.float64)
    state = {k: v.clone() for k, v in encoder.state_dict().items()}
    torch.manual_seed(0)
    before = torch.get_rng_state()
    for rounding in (None, "exact"):
        crown(encoder, Ball(x, 0.1), rounding=rounding)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(state[k], v) for k, v in encoder.state_dict().items())
    assert torch.equal(x, torch.ones(2, 3, dtype=torch.float64))


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (nn.Linear, "forward"),
        (nn.ReLU, "forward"),
        (nn.Sequential, "forward"),
        (nn.Module, "__call__"),
        (nn.Module, "_call_impl"),
        (nn.functional, "linear"),
        (nn.functional, "relu"),
    ],
)
def test_functions_of_pytorch_that_were_replaced_are_noticed(monkeypatch, owner, name):
    old = getattr(owner, name)

    @functools.wraps(old)
    def scaled(*given, **named):
        return 5 * old(*given, **named)

    monkeypatch.setattr(owner, name, scaled)
    for method in METHODS.values():
        with pytest.raises(TypeError, match=f"{name} was replaced in this process"):
            method(GOOD, BALL)
    monkeypatch.undo()
    crown(GOOD, BALL)


def test_a_module_with_a_call_of_its_own_is_refused():
    encoder = chain()
    encoder[0]._call_impl = lambda x: nn.functional.linear(x, 5 * encoder[0].weight)
    with pytest.raises(TypeError, match=r"encoder\[0\] has a forward method of its own"):
        crown(encoder, BALL)


@pytest.mark.parametrize(
    ("name", "values", "error", "message"),
    [
        ("bias", torch.ones(1), ValueError, r"a bias \(n_outputs,\) .* got \(4, 2\) .* \(1,\)"),
        ("bias", torch.ones(3, 4), ValueError, r"a bias \(n_outputs,\)"),
        ("bias", torch.ones(4).double(), ValueError, "of one type, .* torch.float64"),
        ("weight", torch.ones(2), ValueError, r"a weight \(n_outputs, n_inputs\)"),
        ("weight", torch.ones(2, 4, 2), ValueError, r"a weight \(n_outputs, n_inputs\)"),
        ("weight", torch.ones(4, 2).to_sparse(), TypeError, "not dense"),
        ("weight", torch.ones(4, 2, device="meta"), TypeError, "without values"),
    ],
)
def test_weights_of_another_form_are_refused(name, values, error, message):
    encoder = chain()
    setattr(encoder[0], name, nn.Parameter(values))
    for method in METHODS.values():
        with pytest.raises(error, match=message):
            method(encoder, BALL)


def test_a_wide_network_takes_inputs_that_were_rounded():
    # float32 has no number between 1 and 1 + 2**-23: the input of a float64 network may have moved
    encoder = network(([[1e6]], [-1e6]))
    x = torch.ones(1, 1)
    lower, upper = crown(encoder, Ball(x, 0.0), rounding="computed")
    for z in (encoder(x.double()), encoder(x.double() + 2.0**-24)):
        assert (lower <= z).all()
        assert (z <= upper).all()


def test_weights_made_in_inference_mode():
    with torch.inference_mode():
        encoder = chain()
        wanted = crown(encoder, BALL, rounding="computed")
    found = crown(encoder, BALL, rounding="computed")
    assert torch.equal(torch.cat(found), torch.cat(wanted))
