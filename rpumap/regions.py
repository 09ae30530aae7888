"""Regions: where the input of a network may be, and how far a linear function rises over one."""

from __future__ import annotations

import math
import numbers
from typing import NamedTuple

import torch
from torch import Tensor

DUAL_ORDER = {"linf": 1.0, "l2": 2.0, "l1": math.inf}


class Region(NamedTuple):
    """Where the input may be: one ball or box for each cell."""

    center: Tensor  #: (n_cells, n_inputs)
    radius: float | Tensor  #: of the ball; of a box half its widths, (n_cells, n_inputs)
    order: float | None  #: q of the dual norm; None for a box

    def rows(self, start: int, stop: int) -> Region:
        """Return the region of some of the cells."""
        radius = self.radius[start:stop] if self.order is None else self.radius
        return Region(self.center[start:stop], radius, self.order)

    def reach(self) -> Tensor:
        """Return the largest magnitude of each input, (n_cells, n_inputs)."""
        return self.center.abs() + self.radius

    def deviation(self, rows: Tensor, weight: Tensor | None = None) -> Tensor:
        r"""Return how far ``rows @ weight`` times the input can rise above its value at the centre.

        This is eq. 39: :math:`\epsilon\|\cdot\|_q` over a ball, :math:`|\cdot|\,r` over a box.
        `rows` is (n_rows, n_inputs), for all cells the same, or (n_cells, n_rows, n_hidden).
        """
        if self.order is None:
            product = rows if weight is None else rows @ weight
            return apply_rows(product.abs(), self.radius)
        if weight is None:
            return self.radius * _norm(rows, self.order)
        return self.radius * _ProductNorm.apply(rows, weight, self.order)


class SparseBox(NamedTuple):
    r"""Where the input may be if only some of it can change: `center` but for `max_changed` places.

    The convex hull of this set is :math:`\{x_0 + t \odot \delta : t \in [0, 1]^n, \sum t \le k\}`,
    with :math:`\delta` the step to either end of the box, and a linear function is largest at one
    of its vertices: it gains the sum of the :math:`k` largest single gains.
    """

    center: Tensor  #: (n_cells, n_inputs)
    down: Tensor  #: how far each input can fall
    up: Tensor  #: how far it can rise
    max_changed: int

    def rows(self, start: int, stop: int) -> SparseBox:
        """Return the region of some of the cells."""
        ends = (tensor[start:stop] for tensor in self[:3])
        return SparseBox(*ends, self.max_changed)

    def reach(self) -> Tensor:
        """Return the largest magnitude of each input, (n_cells, n_inputs)."""
        return torch.maximum((self.center - self.down).abs(), (self.center + self.up).abs())

    def deviation(self, rows: Tensor, weight: Tensor | None = None) -> Tensor:
        """Return how far ``rows @ weight`` times the input can rise above its value at `center`."""
        product = rows if weight is None else rows @ weight
        up, down = self.up.unsqueeze(1), self.down.unsqueeze(1)
        gains = torch.relu(product) * up + torch.relu(-product) * down
        return gains.topk(min(self.max_changed, gains.shape[-1]), sorted=False).values.sum(-1)


class Where(NamedTuple):
    """Ball or box as a caller gives it: the arguments of :func:`rpumap.bounds.crown`.

    Examples
    --------
    >>> import torch
    >>> from rpumap.regions import Where
    >>> region = Where(x=torch.tensor([[1.0, 2.0]]), eps=0.5, norm="l1").region(torch.float64)
    >>> region.deviation(torch.tensor([[3.0, -4.0]])).tolist()
    [2.0]
    """

    x: Tensor | None = None
    eps: float | None = None
    norm: str = "linf"
    lower_input: Tensor | None = None
    upper_input: Tensor | None = None
    max_changed: int | None = None

    def tensors(self, n_inputs: int | None = None) -> dict[str, Tensor]:
        """Check the arguments, and return the tensors among them.

        Parameters
        ----------
        n_inputs : int, optional
            Width that the network asks for.

        Returns
        -------
        dict of torch.Tensor
            ``x`` for a ball, ``lower_input`` and ``upper_input`` for a box, all three for a box in
            which few inputs change.

        Raises
        ------
        TypeError, ValueError
            As :func:`rpumap.bounds.crown` says.
        """
        self._check_combination()
        names = ("x", "lower_input", "upper_input")
        found = {name: value for name in names if (value := getattr(self, name)) is not None}
        for name, tensor in found.items():
            _check_tensor(name, tensor, n_inputs)
        if self.eps is None:
            self._check_box()
        return found

    def region(self, dtype: torch.dtype) -> Region | SparseBox:
        """Return the region in the given number type; the arguments are taken as checked."""
        if self.eps is not None:
            return Region(self.x.to(dtype), float(self.eps), DUAL_ORDER[self.norm])
        lower, upper = self.lower_input.to(dtype), self.upper_input.to(dtype)
        if self.max_changed is None:
            return Region((lower + upper) / 2, (upper - lower) / 2, None)
        x = self.x.to(dtype)
        return SparseBox(x, x - lower, upper - x, int(self.max_changed))

    def _check_combination(self) -> None:
        wanted = (
            {"x", "eps"},
            {"lower_input", "upper_input"},
            {"x", "lower_input", "upper_input", "max_changed"},
        )
        given = [name for name in self._fields if getattr(self, name) is not None]
        given.remove("norm")
        if set(given) not in wanted:
            raise ValueError(
                "give either x and eps (a ball), or lower_input and upper_input (a box), or these "
                f"two with x and max_changed, got {', '.join(given) or 'none of them'}"
            )
        if self.norm not in DUAL_ORDER:
            raise ValueError(f"norm must be one of {', '.join(DUAL_ORDER)}, got {self.norm!r}")
        if self.eps is None and self.norm != "linf":
            raise ValueError(
                f"norm belongs to a ball, a box has none: leave it out, got {self.norm!r}"
            )
        if self.eps is not None:
            if isinstance(self.eps, bool) or not isinstance(self.eps, numbers.Real):
                raise TypeError(f"eps must be a number, got {type(self.eps).__name__}")
            if not 0 <= self.eps < math.inf:
                raise ValueError(f"eps must be 0 or more and finite, got {self.eps}")
        changed = self.max_changed
        if changed is not None and (not isinstance(changed, numbers.Integral) or changed < 1):
            raise ValueError(f"max_changed must be an integer of at least 1, got {changed!r}")

    def _check_box(self) -> None:
        x, lower, upper = self.x, self.lower_input, self.upper_input
        for tensor in (upper,) if x is None else (upper, x):
            if lower.shape != tensor.shape or lower.dtype != tensor.dtype:
                raise ValueError(
                    "lower_input, upper_input and, where given, x must agree in shape and type, "
                    f"got {tuple(lower.shape)} {lower.dtype} and "
                    f"{tuple(tensor.shape)} {tensor.dtype}"
                )
        if (lower > upper).any():
            cell, column = (lower > upper).nonzero()[0].tolist()
            raise ValueError(
                f"lower_input is above upper_input at cell {cell}, column {column}: swap them?"
            )
        if x is not None and ((x < lower) | (x > upper)).any():
            cell, column = ((x < lower) | (x > upper)).nonzero()[0].tolist()
            raise ValueError(f"x is outside the box at cell {cell}, column {column}")


def _check_tensor(name: str, tensor: Tensor, n_inputs: int | None) -> None:
    if not isinstance(tensor, Tensor):
        raise TypeError(f"{name} must be a torch.Tensor, got {type(tensor).__name__}")
    check_numbers(name, tensor)
    if tensor.ndim != 2 or len(tensor) == 0:
        raise ValueError(
            f"{name} must have shape (n_cells, n_inputs) with at least one cell, "
            f"got {tuple(tensor.shape)}"
        )
    if n_inputs is not None and tensor.shape[1] != n_inputs:
        raise ValueError(
            f"{name} has {tensor.shape[1]} columns, but the encoder takes {n_inputs} inputs"
        )


def check_numbers(name: str, *tensors: Tensor) -> None:
    """Raise TypeError or ValueError unless all are float32 or float64 and finite."""
    for tensor in tensors:
        if tensor.dtype not in (torch.float32, torch.float64):
            raise TypeError(f"{name} must be float32 or float64, got {tensor.dtype}")
        if not tensor.isfinite().all():
            raise ValueError(f"{name} must be finite, found NaN or infinity")


def apply_rows(rows: Tensor, vectors: Tensor) -> Tensor:
    """Multiply rows, (n_rows, n) or (n_cells, n_rows, n), with one vector a cell, (n_cells, n)."""
    return vectors @ rows.T if rows.ndim == 2 else torch.bmm(rows, vectors.unsqueeze(2)).squeeze(2)


def _norm(rows: Tensor, order: float) -> Tensor:
    # vector_norm is the slower way to a sum
    return rows.abs().sum(-1) if order == 1 else torch.linalg.vector_norm(rows, order, dim=-1)


class _ProductNorm(torch.autograd.Function):
    r"""Norms of the rows of ``rows @ weight``, the costliest step of CROWN.

    The product is the largest array in sight. Its place is given to the gradient of the norm,
    so that one such array is kept for the way back, and the incoming gradient multiplies the
    smaller factors, not the product.
    """

    @staticmethod
    def forward(ctx, rows: Tensor, weight: Tensor, order: float) -> Tensor:
        product = rows @ weight
        norm = _norm(product, order)
        if any(ctx.needs_input_grad):
            if order == 1:
                product.sign_()
            elif order == 2:
                product /= norm.unsqueeze(-1).clamp_min(torch.finfo(norm.dtype).tiny)
            else:
                largest = product.abs().argmax(-1, keepdim=True)
                sign = product.gather(-1, largest).sign()
                product.zero_().scatter_(-1, largest, sign)
            ctx.save_for_backward(rows, weight, product)
        return norm

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        rows, weight, direction = ctx.saved_tensors
        gradient = gradient.unsqueeze(-1)
        to_weight = (rows * gradient).flatten(0, 1).T @ direction.flatten(0, 1)
        return (direction @ weight.T) * gradient, to_weight, None
