"""The same bounds through auto_LiRPA, for any network that it can trace.

auto_LiRPA is the library that the paper used. It reads the network's graph from PyTorch's tracer
and so bounds many more kinds of layers than Linear and ReLU. It is not needed for anything else in
this package, and stands here as an independent check and for other networks. No rounding is
allowed for in its bounds.

What is on the package registry (0.3) was written for NumPy 1 and PyTorch 1.12. Three names that it
looks up have since gone. :func:`missing_names` puts each back for as long as auto_LiRPA is
imported or at work, and only where it is missing, so that later versions are left alone.
"""

from __future__ import annotations

import importlib
import importlib.util
import math
import sys
import types
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rpumap._validation import check_choice
from rpumap.verification.regions import Ball, Box

METHODS = {"ibp": "IBP", "crown_ibp": "CROWN-IBP", "crown": "backward"}
ORDERS = {"linf": math.inf, "l2": 2.0, "l1": 1.0}
# Left on, hidden neurons whose sign intervals settle in every cell of the batch keep the intervals:
# a cell's bounds would depend on which others stand beside it.
OPTIONS = {"sparse_intermediate_bounds": False}
INSTALL = "pip install --no-deps auto_LiRPA==0.3 appdirs pyyaml ninja packaging"


def bounds(encoder: nn.Module, region: Ball | Box, method: str = "crown") -> tuple[Tensor, Tensor]:
    """Bound each output of a network over a ball or a box with auto_LiRPA.

    Parameters
    ----------
    encoder : torch.nn.Module
        Any network that auto_LiRPA can trace, from (n_cells, n_inputs) to (n_cells, n_outputs).
    region : Ball or Box
        In the number type of the weights.
    method : {"crown", "crown_ibp", "ibp"}
        What auto_LiRPA calls ``"backward"``, ``"CROWN-IBP"`` and ``"IBP"``.

    Returns
    -------
    lower, upper : torch.Tensor
        Shape (n_cells, n_outputs), differentiable in the weights.

    Raises
    ------
    ImportError
        If auto_LiRPA is not installed; says how to install it.
    TypeError
        If `region` is neither a Ball nor a Box.
    ValueError
        If `method` is unknown.

    Notes
    -----
    The whole batch is bounded at once: memory grows with cells times neurons times inputs.

    Examples
    --------
    >>> import importlib.util, torch
    >>> from rpumap.networks import mlp
    >>> from rpumap.verification import Ball, auto_lirpa, crown
    >>> draw = torch.Generator().manual_seed(0)
    >>> network, ball = mlp(20, (16, 16), 2, draw), Ball(torch.randn(3, 20, generator=draw), 0.1)
    >>> there = importlib.util.find_spec("auto_LiRPA") is not None
    >>> not there or torch.allclose(auto_lirpa.bounds(network, ball)[0], crown(network, ball)[0])
    True
    """
    check_choice("method", method, METHODS)
    if not isinstance(region, Ball | Box):
        raise TypeError(f"region must be a Ball or a Box, got {type(region).__name__}")
    # For the l1 ball it works out the dual order 1 / (1 - 1/p) as 1/0: infinity, as it should be.
    with missing_names(), np.errstate(divide="ignore"):
        library = import_library()
        if isinstance(region, Ball):
            change = library.PerturbationLpNorm(eps=region.eps, norm=ORDERS[region.norm])
        else:
            ends = {"x_L": region.lower, "x_U": region.upper}
            change = library.PerturbationLpNorm(eps=0.0, norm=math.inf, **ends)
        network = library.BoundedModule(
            encoder,
            torch.zeros_like(region.center),
            bound_opts=OPTIONS,
            device=region.center.device,
        )
        ball = library.BoundedTensor(region.center, change)
        return network.compute_bounds(x=(ball,), method=METHODS[method])


def import_library() -> Any:
    """Return the three classes of auto_LiRPA that are used here; inside :func:`missing_names`.

    Raises
    ------
    ImportError
        If auto_LiRPA is not installed; says how to install it.
    """
    if importlib.util.find_spec("auto_LiRPA") is None:
        raise ImportError(
            "auto_LiRPA is not installed. It declares an old PyTorch, which must not replace "
            f"yours, so install it without its dependencies:\n    {INSTALL}"
        )
    # On import it uses torch.jit.script, of which PyTorch warns, resets the warning filters and
    # lifts the recursion limit. Recording the warnings keeps them quiet and restores the filters.
    limit = sys.getrecursionlimit()
    with warnings.catch_warnings(record=True):
        library = importlib.import_module("auto_LiRPA")
        change = importlib.import_module("auto_LiRPA.perturbations").PerturbationLpNorm
    sys.setrecursionlimit(limit)
    return types.SimpleNamespace(
        BoundedModule=library.BoundedModule,
        BoundedTensor=library.BoundedTensor,
        PerturbationLpNorm=change,
    )


@contextmanager
def missing_names() -> Iterator[None]:
    """Put back, for a while, the names that auto_LiRPA 0.3 looks up and that have gone."""
    with ExitStack() as stack:
        # 1. `from numpy.lib.arraysetops import isin`: the module became private in NumPy 2.
        if importlib.util.find_spec("numpy.lib.arraysetops") is None:
            module = types.ModuleType("numpy.lib.arraysetops")
            vars(module)["isin"] = np.isin
            sys.modules[module.__name__] = module
            stack.callback(sys.modules.pop, module.__name__, None)
        # 2. `_set_opset_version(12)` chose the version of ONNX before a graph is simplified. The
        #    function went with PyTorch 2; the setting is still there, and is put back afterwards.
        helper = importlib.import_module("torch.onnx.symbolic_helper")
        if not hasattr(helper, "_set_opset_version"):
            settings = sys.modules[helper._parse_arg.__module__].GLOBALS
            before = settings.export_onnx_opset_version
            stack.callback(setattr, settings, "export_onnx_opset_version", before)
            vars(helper)["_set_opset_version"] = lambda version: setattr(
                settings, "export_onnx_opset_version", version
            )
            stack.callback(delattr, helper, "_set_opset_version")
        # 3. `node["name"]` read an attribute of a node of the graph. PyTorch 2 left one method for
        #    each kind of value, and `kindOf` to say which it is.
        node = torch._C.Node
        if not hasattr(node, "__getitem__"):
            read = lambda self, name: getattr(self, self.kindOf(name))(name)  # noqa: E731
            setattr(node, "__getitem__", read)  # noqa: B010 - the type checker knows a method
            stack.callback(delattr, node, "__getitem__")
        yield
