r"""Regions: the sets in which the input of a network may lie, one for each cell.

Each region knows the few things that bounds and attacks ask of it. The bounds of CROWN end in a
linear function of the input, and how far such a function :math:`v^\top x` can rise above its value
at the centre :math:`c` is the *support function* of the region about its centre,

.. math:: h(v) = \max_{x \in R} v^\top (x - c) ,

for a ball :math:`\epsilon \|v\|_q` with the dual norm (eq. 39), for a box
:math:`|v|^\top r`. An attack needs the point where the maximum is reached (``vertex``) and the
nearest point of the region (``project``).
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from rpumap._validation import check_choice, check_integer, dense, is_annotated

DUAL_ORDER = {"linf": 1.0, "l2": 2.0, "l1": math.inf}
R = TypeVar("R", bound="Region")


class Region(Protocol):
    """What bounds and attacks ask of a region; rows of its tensors are cells."""

    @property
    def center(self) -> Tensor:
        """Point about which the region is described, (n_cells, n_inputs)."""

    @property
    def columns(self) -> tuple[str, ...] | None:
        """Names of the inputs, if they came with the data."""

    def to(self: R, dtype: torch.dtype) -> R:
        """Return the region with its tensors in another number type."""

    def rows(self: R, start: int, stop: int) -> R:
        """Return the region of the cells from `start` up to `stop`."""

    def magnitude(self) -> Tensor:
        """Return the largest magnitude of each input over the region, (n_cells, n_inputs)."""

    def support(self, rows: Tensor) -> Tensor:
        """Return the support function about the centre for each row.

        `rows` is (n_rows, n_inputs), the same for all cells, or (n_cells, n_rows, n_inputs).
        Returns (n_rows,), if that is the same for all cells, or (n_cells, n_rows).
        """

    def vertex(self, direction: Tensor) -> Tensor:
        """Return the point of each cell's region that lies furthest in a direction.

        `direction` is (..., n_cells, n_inputs), and so is the result.
        """

    def project(self, points: Tensor) -> Tensor:
        """Return the points of the region that are nearest to `points`, in Euclidean distance.

        `points` is (..., n_cells, n_inputs), and so is the result.
        """


class _OneACell:
    """What the regions have in common: tensors whose rows are cells."""

    def to(self: R, dtype: torch.dtype) -> R:
        """Return the regions with their tensors in another number type."""
        return _with(self, lambda tensor: tensor.to(dtype))

    def rows(self: R, start: int, stop: int) -> R:
        """Return the regions of the cells from `start` up to `stop`."""
        return _with(self, lambda tensor: tensor[start:stop])


@dataclass(frozen=True, eq=False)
class Ball(_OneACell):
    r"""The ball :math:`\|x' - x\|_p \le \epsilon` about each cell.

    Parameters
    ----------
    x : array-like or torch.Tensor of shape (n_cells, n_inputs)
        Centres. Tensors are float32 or float64; arrays of other numbers are converted.
    eps : float
        Radius, 0 or more, in the units of `x` (standard deviations of a gene).
    norm : {"linf", "l2", "l1"}
        What is at most `eps`: the largest change of an input, the Euclidean length of the change,
        or the sum of its magnitudes.

    Raises
    ------
    TypeError
        If `eps` is no number, or a tensor is not float32 or float64.
    ValueError
        If `eps` is negative or not finite, `norm` is unknown, a value of `x` is NaN or infinite,
        or `x` does not have two dimensions and at least one cell.

    Examples
    --------
    >>> import torch
    >>> from rpumap.verification import Ball
    >>> ball = Ball([[1.0, 2.0]], eps=0.5, norm="l1")
    >>> ball.support(torch.tensor([[3.0, -4.0]], dtype=torch.float64)).tolist()
    [2.0]
    """

    x: Any
    eps: float
    norm: str = "linf"
    columns: tuple[str, ...] | None = field(init=False, default=None, repr=False)

    def __post_init__(self) -> None:  # noqa: D105 - the class says what is checked
        _set(self, columns=_columns("x", self.x), x=_tensor("x", self.x))
        check_choice("norm", self.norm, DUAL_ORDER)
        if isinstance(self.eps, bool | np.bool_) or not isinstance(self.eps, numbers.Real):
            raise TypeError(f"eps must be a number, got {type(self.eps).__name__}")
        if not 0 <= self.eps < math.inf:
            raise ValueError(f"eps must be 0 or more and finite, got {self.eps}")
        _set(self, eps=float(self.eps))

    @property
    def center(self) -> Tensor:
        """Centres of the balls, (n_cells, n_inputs)."""
        return self.x

    def magnitude(self) -> Tensor:
        """Return the largest magnitude of each input, (n_cells, n_inputs)."""
        return self.x.abs() + self.eps

    def support(self, rows: Tensor) -> Tensor:
        r"""Return :math:`\epsilon\|v\|_q` for each row :math:`v` (eq. 39)."""
        if self.norm == "l1":  # vector_norm is the slower way to a maximum
            return self.eps * rows.abs().amax(-1)
        return self.eps * torch.linalg.vector_norm(rows, DUAL_ORDER[self.norm], dim=-1)

    def vertex(self, direction: Tensor) -> Tensor:
        """Return the point of each ball that lies furthest in a direction."""
        if self.norm == "linf":
            return self.x + self.eps * direction.sign()
        if self.norm == "l2":
            return self.x + self.eps * torch.nn.functional.normalize(direction, dim=-1)
        largest = direction.abs().argmax(-1, keepdim=True)
        sign = direction.gather(-1, largest).sign()
        return self.x + self.eps * torch.zeros_like(direction).scatter(-1, largest, sign)

    def project(self, points: Tensor) -> Tensor:
        """Return the nearest points of the balls."""
        step = points - self.x
        if self.norm == "linf":
            return self.x + step.clamp(-self.eps, self.eps)
        if self.norm == "l2":
            length = torch.linalg.vector_norm(step, dim=-1, keepdim=True)
            # no division where the point is inside, or at the centre
            return self.x + step * (self.eps / length.clamp_min(max(self.eps, _tiny(step))))
        return self.x + _project_l1(step, self.eps)


@dataclass(frozen=True, eq=False)
class Box(_OneACell):
    """The box from `lower` to `upper` of each cell.

    Parameters
    ----------
    lower, upper : array-like or torch.Tensor of shape (n_cells, n_inputs)
        Ends. Tensors are float32 or float64; arrays of other numbers are converted.

    Raises
    ------
    TypeError
        If a tensor is not float32 or float64.
    ValueError
        If the two do not agree in shape, a lower end is above the upper one, a value is NaN or
        infinite, or they do not have two dimensions and at least one cell.

    Examples
    --------
    >>> import torch
    >>> from rpumap.verification import Box
    >>> box = Box([[0.0, -1.0]], [[2.0, 1.0]])
    >>> box.center.tolist(), box.vertex(torch.tensor([[1.0, -1.0]])).tolist()
    ([[1.0, 0.0]], [[2.0, -1.0]])
    """

    lower: Any
    upper: Any
    columns: tuple[str, ...] | None = field(init=False, default=None, repr=False)

    def __post_init__(self) -> None:  # noqa: D105 - the class says what is checked
        _set(self, **_ends(lower=self.lower, upper=self.upper))
        _check_order("lower", self.lower, "upper", self.upper, "swap them?")

    @property
    def center(self) -> Tensor:
        """Middles of the boxes, (n_cells, n_inputs)."""
        return (self.lower + self.upper) / 2

    def magnitude(self) -> Tensor:
        """Return the largest magnitude of each input, (n_cells, n_inputs)."""
        return self.center.abs() + (self.upper - self.lower) / 2

    def support(self, rows: Tensor) -> Tensor:
        r"""Return :math:`|v|^\top r` for each row, with :math:`r` half the widths of the box."""
        return apply_rows(rows.abs(), (self.upper - self.lower) / 2)

    def vertex(self, direction: Tensor) -> Tensor:
        """Return the corner of each box that lies furthest in a direction."""
        return torch.where(direction > 0, self.upper, self.lower)

    def project(self, points: Tensor) -> Tensor:
        """Return the nearest points of the boxes."""
        return points.clamp(self.lower, self.upper)


@dataclass(frozen=True, eq=False)
class SparseBox(_OneACell):
    r"""The part of a box in which at most `max_changed` inputs of a cell differ from `x`.

    Parameters
    ----------
    x : array-like or torch.Tensor of shape (n_cells, n_inputs)
        The cells.
    lower, upper : array-like or torch.Tensor of shape (n_cells, n_inputs)
        Ends of a box that holds `x`.
    max_changed : int
        How many inputs may differ, no matter which; 1 or more.

    Raises
    ------
    TypeError, ValueError
        As :class:`Box`, and if `x` is outside the box or `max_changed` is not a positive integer.

    Notes
    -----
    The convex hull of this set is :math:`\{x + t \odot \delta : t \in [0, 1]^n, \sum t \le k\}`,
    with :math:`\delta` the step to either end of the box, and a linear function is largest at one
    of its vertices: it gains the sum of the :math:`k` largest single gains.

    Examples
    --------
    >>> import torch
    >>> from rpumap.verification import SparseBox
    >>> few = SparseBox([[0.0, 0.0, 0.0]], [[-1.0] * 3], [[2.0] * 3], max_changed=1)
    >>> few.support(torch.tensor([[1.0, -4.0, 1.0]], dtype=torch.float64)).tolist()
    [[4.0]]
    """

    x: Any
    lower: Any
    upper: Any
    max_changed: int
    columns: tuple[str, ...] | None = field(init=False, default=None, repr=False)

    def __post_init__(self) -> None:  # noqa: D105 - the class says what is checked
        _set(self, **_ends(x=self.x, lower=self.lower, upper=self.upper))
        _check_order("lower", self.lower, "upper", self.upper, "swap them?")
        _check_order("lower", self.lower, "x", self.x, "x is outside the box")
        _check_order("x", self.x, "upper", self.upper, "x is outside the box")
        _set(self, max_changed=check_integer("max_changed", self.max_changed, least=1))

    @property
    def center(self) -> Tensor:
        """The cells themselves, (n_cells, n_inputs)."""
        return self.x

    def magnitude(self) -> Tensor:
        """Return the largest magnitude of each input, (n_cells, n_inputs)."""
        down, up = self.x - self.lower, self.upper - self.x
        return torch.maximum((self.x - down).abs(), (self.x + up).abs())

    def support(self, rows: Tensor) -> Tensor:
        """Return the sum of the largest single gains for each row."""
        down, up = (self.x - self.lower).unsqueeze(1), (self.upper - self.x).unsqueeze(1)
        gains = torch.relu(rows) * up + torch.relu(-rows) * down
        return gains.topk(self._n_changed, sorted=False).values.sum(-1)

    def vertex(self, direction: Tensor) -> Tensor:
        """Return the point of each region that lies furthest in a direction."""
        end = torch.where(direction > 0, self.upper, self.lower)
        return self._keep_largest(end, direction * (end - self.x))

    def project(self, points: Tensor) -> Tensor:
        """Return the nearest points of the regions: the changes that bring it nearest stay."""
        inside = points.clamp(self.lower, self.upper)
        saved = (points - self.x).square() - (points - inside).square()
        return self._keep_largest(inside, saved)

    @property
    def _n_changed(self) -> int:
        return min(self.max_changed, self.x.shape[-1])

    def _keep_largest(self, moved: Tensor, gain: Tensor) -> Tensor:
        chosen = gain.topk(self._n_changed, dim=-1).indices
        kept = torch.zeros_like(gain, dtype=torch.bool).scatter(-1, chosen, True)
        return torch.where(kept, moved, self.x)


def check_finite(name: str, *tensors: Tensor) -> None:
    """Raise TypeError or ValueError unless all are float32 or float64 and finite.

    Examples
    --------
    >>> import torch
    >>> from rpumap.verification.regions import check_finite
    >>> check_finite("x", torch.ones(2))
    """
    for tensor in tensors:
        if tensor.dtype not in (torch.float32, torch.float64):
            raise TypeError(f"{name} must be float32 or float64, got {tensor.dtype}")
        # a sum is finite only if all its terms are; one that overflows needs the closer look
        if not (math.isfinite(tensor.sum().item()) or tensor.isfinite().all()):
            raise ValueError(f"{name} must be finite, found NaN or infinity")


def apply_rows(rows: Tensor, vectors: Tensor) -> Tensor:
    """Multiply rows, (n_rows, n) or (n_cells, n_rows, n), with one vector a cell, (n_cells, n).

    Examples
    --------
    >>> import torch
    >>> from rpumap.verification.regions import apply_rows
    >>> apply_rows(torch.ones(2, 3), torch.ones(4, 3)).shape
    torch.Size([4, 2])
    """
    # columns that are a view of rows: with columns as such the product takes several times as long
    return vectors @ rows.T if rows.ndim == 2 else torch.bmm(rows, vectors[:, None].mT).squeeze(2)


def _set(region: Any, **values: Any) -> None:
    """Set fields of a frozen dataclass while it is made."""
    for name, value in values.items():
        object.__setattr__(region, name, value)


def _with(region: R, change: Callable[[Tensor], Tensor]) -> R:
    """Copy a region with its tensors changed; they were checked when it was made."""
    copied = object.__new__(type(region))
    _set(copied, **{k: change(v) if isinstance(v, Tensor) else v for k, v in vars(region).items()})
    return copied


def _columns(name: str, values: Any) -> tuple[str, ...] | None:
    names = getattr(values, "columns", None)
    return None if names is None else tuple(str(label) for label in names)


def _tensor(name: str, values: Any) -> Tensor:
    """Return values as a tensor of shape (n_cells, n_inputs), float32 or float64, all finite."""
    if values is None:
        raise TypeError(f"{name} is missing: an array or a tensor is needed, got None")
    if is_annotated(values):
        raise TypeError(f"{name} must be an array of z-scores, not {type(values).__name__}")
    tensor = values if isinstance(values, Tensor) else _from_array(name, values)
    if tensor.ndim != 2 or len(tensor) == 0:
        raise ValueError(
            f"{name} must have shape (n_cells, n_inputs) with at least one cell, "
            f"got {tuple(tensor.shape)}"
        )
    check_finite(name, tensor)
    return tensor


def _from_array(name: str, values: Any) -> Tensor:
    array = dense(values)
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{name} must hold numbers, got {array.dtype}")
    # float16 is exact in float32; whole numbers of any size in float64 only
    wide = array.dtype.kind != "f" or array.dtype.itemsize > 4
    return torch.from_numpy(array.astype(np.float64 if wide else np.float32))


def _ends(**given: Any) -> dict[str, Any]:
    """Convert the tensors of a box, which must agree in shape; the wider number type is taken."""
    tensors = {name: _tensor(name, values) for name, values in given.items()}
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if len(set(shapes.values())) > 1:
        found = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise ValueError(f"{' and '.join(shapes)} must agree in shape, got {found}")
    columns = {name: _columns(name, values) for name, values in given.items()}
    named = {names for names in columns.values() if names is not None}
    if len(named) > 1:
        raise ValueError(f"{' and '.join(columns)} must have the same columns in the same order")
    dtype = max((tensor.dtype for tensor in tensors.values()), key=lambda dtype: dtype.itemsize)
    converted = {name: tensor.to(dtype) for name, tensor in tensors.items()}
    return converted | {"columns": next(iter(named), None)}


def _check_order(low_name: str, low: Tensor, high_name: str, high: Tensor, hint: str) -> None:
    wrong = (low > high).nonzero()
    if len(wrong):
        cell, column = wrong[0].tolist()
        raise ValueError(f"{low_name} is above {high_name} at cell {cell}, column {column}: {hint}")


def _tiny(values: Tensor) -> float:
    return torch.finfo(values.dtype).tiny


def _project_l1(step: Tensor, eps: float) -> Tensor:
    """Project on the l1 ball about 0: shrink all magnitudes by one threshold (Duchi et al. 2008).

    https://doi.org/10.1145/1390156.1390191
    """
    size = step.abs()
    ordered = size.sort(dim=-1, descending=True).values
    count = torch.arange(1, step.shape[-1] + 1, dtype=step.dtype, device=step.device)
    threshold = (ordered.cumsum(-1) - eps) / count
    # the last place where the magnitude is above its threshold; there is always one if eps > 0
    n_kept = (ordered > threshold).sum(-1, keepdim=True).clamp_min(1)
    shrink = threshold.gather(-1, n_kept - 1).clamp_min(0)
    inside = size.sum(-1, keepdim=True) <= eps
    return torch.where(inside, step, step.sign() * (size - shrink).clamp_min(0))
