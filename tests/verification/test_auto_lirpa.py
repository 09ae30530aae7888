"""The same bounds by two roads: ours and auto_LiRPA's."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from rpumap.networks import mlp
from rpumap.verification import Ball, Box, SparseBox, auto_lirpa, crown, crown_ibp, ibp

METHODS = {"ibp": ibp, "crown_ibp": crown_ibp, "crown": crown}
KINDS = ["linf", "l2", "l1", "box"]
installed = pytest.mark.skipif(
    importlib.util.find_spec("auto_LiRPA") is None,
    reason=f"auto_LiRPA is not there: {auto_lirpa.INSTALL}",
)


def example(
    sizes: list[int], kind: str, eps: float, seed: int, dtype: torch.dtype, n_cells: int = 4
) -> tuple[nn.Sequential, Ball | Box]:
    """Build a network with biases, and a ball or a lopsided box about each of some cells."""
    draw = torch.Generator().manual_seed(seed)
    encoder = mlp(sizes[0], sizes[1:-1], sizes[-1], draw).to(dtype)
    for linear in encoder[::2]:
        linear.bias.data = 0.3 * torch.randn(linear.bias.shape, generator=draw, dtype=dtype)
    x = torch.randn(n_cells, sizes[0], generator=draw, dtype=dtype)
    if kind != "box":
        return encoder, Ball(x, eps, kind)
    down, up = eps * torch.rand(2, *x.shape, generator=draw, dtype=dtype)
    return encoder, Box(x - down, x + up)


def gradients(encoder: nn.Sequential, ends: tuple[Tensor, Tensor]) -> list[Tensor]:
    loss = (ends[1] - ends[0]).square().sum() + ends[0].sum()
    return list(torch.autograd.grad(loss, tuple(encoder.parameters()), materialize_grads=True))


@installed
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", METHODS)
@settings(deadline=None, derandomize=True, max_examples=15)
@given(st.lists(st.integers(1, 8), min_size=2, max_size=5), st.integers(0, 2**20), st.floats(0, 2))
def test_equal_on_drawn_networks(method, kind, sizes, seed, eps):
    encoder, region = example(sizes, kind, eps, seed, torch.float64)
    theirs = auto_lirpa.bounds(encoder, region, method=method)
    ours = METHODS[method](encoder, region)
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


@installed
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", METHODS)
def test_equal_gradients(method, kind):
    encoder, region = example([10, 9, 8, 7, 2], kind, 0.3, 0, torch.float64)
    theirs = gradients(encoder, auto_lirpa.bounds(encoder, region, method=method))
    ours = gradients(encoder, METHODS[method](encoder, region))
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


@installed
@pytest.mark.parametrize("method", METHODS)
def test_equal_at_full_width_in_float32(method):
    encoder, region = example([300, 128, 128, 2], "linf", 0.2, 0, torch.float32, n_cells=16)
    theirs = auto_lirpa.bounds(encoder, region, method=method)
    ours = METHODS[method](encoder, region)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-4)
    # beside widths of tens, 1e-4 is 1e-5 or less
    assert (ours[1] - ours[0]).min() > 10


@installed
@pytest.mark.parametrize("kind", KINDS)
def test_other_networks(kind):
    encoder, region = example([5, 6, 2], kind, 0.3, 0, torch.float32)
    encoder[1] = nn.Tanh()
    with pytest.raises(TypeError, match="auto_lirpa bounds other networks"):
        crown(encoder, region)
    lower, upper = auto_lirpa.bounds(encoder, region)
    draw = torch.Generator().manual_seed(1)
    center = region.center
    vertices = region.vertex(torch.randn(500, *center.shape, generator=draw))
    points = center + (vertices - center) * torch.rand(500, 1, 1, generator=draw).sqrt()
    z = encoder(points)
    assert (lower <= z + 1e-5).all()
    assert (z <= upper + 1e-5).all()


@installed
def test_bounds_of_a_cell_do_not_depend_on_the_others():
    encoder, region = example([3, 5, 6, 5, 2], "linf", 0.3, 3, torch.float64, n_cells=6)
    together = torch.cat(auto_lirpa.bounds(encoder, region))
    alone = [auto_lirpa.bounds(encoder, Ball(row[None], 0.3)) for row in region.x]
    alone = torch.cat([torch.cat(part) for part in zip(*alone, strict=True)])
    torch.testing.assert_close(together, alone)


@installed
def test_what_is_put_back_does_not_stay():
    # in a new process, where auto_LiRPA has not been imported yet
    code = """
import sys, warnings
import torch
import torch.onnx.symbolic_helper as helper
from rpumap.networks import mlp
from rpumap.verification import Ball, auto_lirpa

def state():
    return (
        hasattr(helper, "_set_opset_version"),
        hasattr(torch._C.Node, "__getitem__"),
        "numpy.lib.arraysetops" in sys.modules,
        sys.modules[helper._parse_arg.__module__].GLOBALS.export_onnx_opset_version,
        ("once", None, Warning, None, 0) in warnings.filters,  # what auto_LiRPA leaves behind
        sys.getrecursionlimit(),
    )

warnings.simplefilter("error")
before = state()
auto_lirpa.bounds(mlp(3, (4,), 2), Ball(torch.ones(1, 3), 0.1, "l1"))
assert "auto_LiRPA" in sys.modules
assert state() == before, (state(), before)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


@installed
def test_names_that_are_there_are_left_alone(monkeypatch):
    import torch.onnx.symbolic_helper as helper

    marker = object()
    monkeypatch.setattr(helper, "_set_opset_version", marker, raising=False)
    with auto_lirpa.missing_names():
        assert helper._set_opset_version is marker
    assert helper._set_opset_version is marker


def test_without_auto_lirpa_the_error_says_what_to_do(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "auto_LiRPA" else find(name)
    )
    encoder, region = example([3, 4, 2], "linf", 0.1, 0, torch.float32)
    with pytest.raises(ImportError, match="pip install --no-deps auto_LiRPA==0.3 appdirs"):
        auto_lirpa.bounds(encoder, region)


def test_bad_input_is_refused():
    encoder, region = example([3, 4, 2], "linf", 0.1, 0, torch.float32)
    with pytest.raises(ValueError, match="method must be one of ibp, crown_ibp, crown, got 'lp'"):
        auto_lirpa.bounds(encoder, region, method="lp")
    few = SparseBox(region.x, region.x, region.x, max_changed=1)
    with pytest.raises(TypeError, match="a Ball or a Box, got SparseBox"):
        auto_lirpa.bounds(encoder, few)
