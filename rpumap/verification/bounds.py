r"""Certified bounds: how far the output can move when the input moves a little.

The input ranges over a *region* (:mod:`rpumap.verification.regions`): a ball
:math:`\|x - x_0\|_p \le \epsilon`, a box, or the part of a box where few inputs differ from
:math:`x_0`. Three methods bound each output over it, from fast and loose to slow and tight.

- :func:`~rpumap.verification.ibp` (interval bound propagation) sends an interval for each neuron
  forward through the layers.
- :func:`~rpumap.verification.crown` bounds each output by two *linear* functions of the input.
  Going backward from the output, each ReLU is replaced by its lower or upper linear relaxation (eq.
  13), whichever the sign of its coefficient asks for (eq. 20). The relaxations need bounds on the
  neuron's input; those come from the same procedure, layer by layer. (Neurons that intervals show
  to be inactive are left out: nothing depends on their bounds.)
- :func:`~rpumap.verification.crown_ibp` takes the bounds of the hidden neurons from `ibp` and does
  the outputs as `crown`.

**The derivation in five lines** (supplement of the paper, eq. 13 to 39). Number the layers
:math:`1 \dots m`, let :math:`y^{(k)} = W^{(k)} \phi_{k-1} + b^{(k)}` be the input of the ReLUs of
layer :math:`k` and :math:`\phi_k` their output. Start from :math:`\tilde W^{(m)} = W^{(m)}`. For
the upper bound, going down through the hidden layers :math:`k = m-1, \dots, 1`,

.. math::

    \lambda^{(k)}_{ji}, \Delta^{(k)}_{ij} &=
    \begin{cases} \alpha_{U,i}^{(k)}, \beta_{U,i}^{(k)} & \tilde W^{(k+1)}_{ji} \ge 0 \\
                  \alpha_{L,i}^{(k)}, \beta_{L,i}^{(k)} & \text{else,} \end{cases} \\
    \Lambda^{(k)}_{ji} &= \tilde W^{(k+1)}_{ji} \lambda^{(k)}_{ji}, \\
    \tilde W^{(k)} &= \Lambda^{(k)} W^{(k)}, \\
    f_j^U(x) &= \tilde W^{(1)}_{j,:} x + b^{(m)}_j \\
    &\quad + \sum_{k=1}^{m-1} \Lambda^{(k)}_{j,:} \bigl(b^{(k)} + \Delta^{(k)}_{:,j}\bigr), \\
    \max_x f_j^U(x) &= f_j^U(x_0) + \epsilon \,\bigl\|\tilde W^{(1)}_{j,:}\bigr\|_q ,

over the ball :math:`\|x - x_0\|_p \le \epsilon`, with :math:`\tfrac1p + \tfrac1q = 1`. The first
two lines are eq. 20, 21, 25 and 26; the third is eq. 31, 32 and 37; then come eq. 38 and 39. Where
this differs from the printed equations, the book's page on notation says why. A lower bound is
minus an upper bound of minus the function, so there is one backward pass and not two.

**Rounding.** All this is exact in real numbers; a computer rounds. `rounding` says what is to be
done about it. With None, nothing: fast, differentiable, right to about six digits, for training.
Otherwise the arithmetic is float64 and each bound is moved outward by a limit on all that rounding
may have done, found in the same pass: a sum of :math:`n` products, in whatever order, errs by at
most :math:`\gamma_n` times the sum of their magnitudes, :math:`\gamma_n \approx n u` with :math:`u`
the unit roundoff, and by at most :math:`n \tau` where products underflow, :math:`\tau` being the
smallest normal number. The magnitudes at layer :math:`k` add up to at most
:math:`M^{(k)} = |W^{(k)}| \max|\phi_{k-1}| + |b^{(k)}|`, and an error of that size there reaches
the output times :math:`|\Lambda^{(k)}|`. So
:math:`\sum_k |\Lambda^{(k)}| (\gamma M^{(k)} + n \tau)` is added. Where :math:`M^{(k)}` exceeds the
largest number of the network's own type, a sum may overflow, and the bounds of that cell are
infinite.
"""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from types import BuiltinFunctionType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.backends import mkldnn
from torch.nn import functional
from torch.nn.grad import conv2d_weight
from torch.nn.modules import module as torch_module

from rpumap._validation import check_choice, check_number
from rpumap.verification.regions import Ball, Box, Region, SparseBox, apply_rows, check_finite

# What a module looks at when it is called, beside its weights: empty for every layer that we bound.
HOOKS = ("_forward_hooks", "_forward_pre_hooks")
REGIONS = (Ball, Box, SparseBox)
Layers = list[tuple[Tensor, Tensor]]
# Numbers in the largest array of a step: 6 MB in float32 stay in the processor's cache.
BLOCK = 3 * 2**19
GLOBAL_HOOKS = ("_global_forward_hooks", "_global_forward_pre_hooks")


class Relaxation(NamedTuple):
    r"""Linear relaxation of each ReLU: :math:`s_L y \le \max(y, 0) \le s_U y + t`."""

    lower_slope: Tensor
    upper_slope: Tensor
    intercept: Tensor


@dataclass
class HiddenLayer:
    """One hidden layer in the backward pass: its weights, and what is known of its neurons."""

    weight: Tensor  #: (n_hidden, n_inputs of the layer)
    bias: Tensor  #: (n_hidden,)
    relaxation: Relaxation  #: each part (n_cells, n_hidden)
    margin: Tensor | None  #: what rounding may do to each neuron's input, (n_cells, n_hidden)

    def of(self, cells: Tensor) -> HiddenLayer:
        """Return the layer of some cells, each as often as it is listed."""
        relaxation = Relaxation(*(part[cells] for part in self.relaxation))
        margin = None if self.margin is None else self.margin[cells]
        return HiddenLayer(self.weight, self.bias, relaxation, margin)


class Rounding(NamedTuple):
    """What rounding may do in a network of one number type; see the head of this module."""

    gamma: float  #: relative error of a sum, beside the sum of magnitudes
    tiny: float  #: smallest normal number: what underflow may cost a product
    largest: float  #: largest number: what is above it may overflow


def relax(lower: Tensor, upper: Tensor, lower_slope: str = "adaptive") -> Relaxation:
    r"""Enclose a ReLU between two linear functions, for inputs from `lower` to `upper` (eq. 13).

    Parameters
    ----------
    lower, upper : torch.Tensor
        Bounds on the input of each ReLU, any shape.
    lower_slope : {"adaptive", "zero"}
        Slope of the lower function for an unstable neuron, whose input can have either sign: for
        ``"adaptive"`` 1 if ``upper > -lower`` and 0 otherwise, which leaves the smaller area
        between the two; for ``"zero"`` always 0.

    Returns
    -------
    Relaxation
        Slopes and intercept, each shaped like `lower`.

    Notes
    -----
    The upper function is the chord from :math:`(l, 0)` to :math:`(u, u)`:
    :math:`\alpha_U = u / (u - l)`, :math:`\beta_U = -l`. The lower one runs through the origin:
    :math:`\beta_L = 0`, and any :math:`\alpha_L` from 0 to 1 is right. For a stable neuron both
    are the ReLU itself. With :math:`l` and :math:`u` clipped at 0 from the right and from the left,
    one formula covers the three cases.

    Examples
    --------
    >>> import torch
    >>> from rpumap.verification import relax
    >>> found = relax(torch.tensor([-1.0, -3.0, 1.0, -2.0]), torch.tensor([3.0, 1.0, 2.0, -1.0]))
    >>> found.lower_slope.tolist()
    [1.0, 0.0, 1.0, 0.0]
    >>> found.upper_slope.tolist()
    [0.75, 0.25, 1.0, 0.0]
    >>> found.intercept.tolist()
    [0.75, 0.75, 0.0, 0.0]
    """
    below, above = torch.relu(-lower), torch.relu(upper)
    slope = above / (above + below + torch.finfo(lower.dtype).tiny)  # 0 where both are
    rises = slope > 0.5 if lower_slope == "adaptive" else lower >= 0
    return Relaxation(rises.to(slope.dtype), slope, slope * below)


def upper_bound(
    rows: Tensor, offset: Tensor, hidden: list[HiddenLayer], first: Tensor, region: Region
) -> Tensor:
    r"""Bound ``rows @ phi + offset`` from above, with `phi` the outputs of the last hidden layer.

    This is the backward pass of CROWN (eq. 20 to 39) in a network whose hidden layers are already
    relaxed.

    Parameters
    ----------
    rows : torch.Tensor of shape (n_rows, n_hidden) or (n_cells, n_rows, n_hidden)
        Coefficients, :math:`\tilde W^{(m)}`, the same for all cells or not.
    offset : torch.Tensor of shape (n_rows,) or (n_cells, n_rows)
        Constants, :math:`b^{(m)}`.
    hidden : list of HiddenLayer
        All hidden layers, from the input on.
    first : torch.Tensor of shape (n_cells, n_first)
        Inputs of the first layer's neurons at the centre of each region.
    region : Ball, Box or SparseBox
        Where the input of the network may be.

    Returns
    -------
    torch.Tensor of shape (n_cells, n_rows)

    Examples
    --------
    The largest value of relu(x) for x from -1 to 3, by one neuron with weight 1:

    >>> import torch
    >>> from rpumap.verification import Box, relax, upper_bound
    >>> from rpumap.verification.bounds import HiddenLayer
    >>> box, one = Box([[-1.0]], [[3.0]]).to(torch.float32), torch.ones(1, 1)
    >>> layer = HiddenLayer(one, torch.zeros(1), relax(box.lower, box.upper), margin=None)
    >>> upper_bound(one, torch.zeros(1), [layer], box.center, box).item()
    3.0
    """
    # over an l_inf ball only the sum of magnitudes is wanted of each last row
    eps = region.eps if isinstance(region, Ball) and region.norm == "linf" else None
    bound = offset
    for depth in range(len(hidden) - 1, -1, -1):
        layer, (lower_slope, upper_slope, intercept) = hidden[depth], hidden[depth].relaxation
        # y = W phi + b on the way to the input, where the centre is known: y = W1 x0 + b1 there
        known = layer.bias if depth > 0 else first
        less, more = _widen(known, known, layer.margin)
        lines = lower_slope, upper_slope, lower_slope * less, upper_slope * more + intercept
        is_sum = depth == 0 and eps is not None
        rows, constant = _Step.apply(rows, *lines, layer.weight, is_sum)
        bound = bound + constant
    return bound + (region.support(rows) if eps is None else eps * rows)


class _Step(torch.autograd.Function):
    r"""Down one layer: the next rows (eq. 37) and their constants (eq. 38).

    A coefficient is multiplied with `upper` and `above` where it is positive, with `lower` and
    `below` where it is not. Nearly all of the time goes here, most of it into the product of many
    rows with the first weight. Of these the sums of magnitudes are enough, so that they live for a
    block of cells at a time. The backward pass forms them again, but for their signs: those are
    kept, at one byte each.
    """

    @staticmethod
    def forward(ctx: Any, rows: Tensor, *given: Any) -> tuple[Tensor, Tensor]:
        lower, upper, below, above, weight, is_sum = given
        positive = rows.relu()
        # in two sums, so that minus these rows have sums of the same terms
        constant = apply_rows(positive, above) + apply_rows(rows - positive, below)
        is_positive = positive.sign_()
        shape, total, signs = (*constant.shape, weight.shape[1]), torch.empty_like(constant), None
        ctx.step = max(1, BLOCK // (shape[1] * shape[2])) if is_sum and rows.ndim == 2 else shape[0]
        if is_sum and any(ctx.needs_input_grad):
            signs = torch.empty(shape, dtype=torch.int8, device=rows.device)
        ctx.save_for_backward(rows, lower, upper, below, above, weight, signs)
        for start in range(0, shape[0], ctx.step):
            cells = slice(start, start + ctx.step)
            product = _multiply(_slopes(lower, upper, is_positive, cells).mul_(rows), weight)
            if not is_sum:
                return product, constant
            if signs is not None:
                signs[cells] = product.sign()
            torch.sum(product.abs_(), -1, out=total[cells])
        return total, constant

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, to_next: Tensor, to_constant: Tensor) -> tuple[Tensor | None, ...]:
        rows, lower, upper, below, above, weight, signs = ctx.saved_tensors
        positive = rows.relu()
        is_positive, axes = positive.sign(), "rn" if rows.ndim == 2 else "crn"
        to_above = torch.einsum(f"cr,{axes}->cn", to_constant, positive)
        to_below = torch.einsum(f"cr,{axes}->cn", to_constant, rows - positive)
        ends = [torch.einsum(f"cr,cn->{axes}", to_constant, part) for part in (below, above)]
        to_rows = torch.lerp(ends[0], ends[1], is_positive)
        to_upper, to_weight = torch.empty_like(upper), torch.zeros_like(weight)
        for start in range(0, len(lower), ctx.step):
            cells = slice(start, start + ctx.step)
            slopes, gradient = _slopes(lower, upper, is_positive, cells), to_next[cells]
            if signs is not None:
                gradient = signs[cells].to(gradient.dtype).mul_(gradient.unsqueeze(-1))
            to_weight += _multiply_back(slopes * rows, gradient)
            to_scaled = _multiply(gradient, weight.T)
            to_rows += slopes.mul_(to_scaled).sum_to_size(rows.shape)
            torch.sum(to_scaled.mul_(positive), 1, out=to_upper[cells])
        return to_rows, None, to_upper, to_below, to_above, to_weight, None


def _slopes(lower: Tensor, upper: Tensor, is_positive: Tensor, cells: slice) -> Tensor:
    """Select the slope of each coefficient (eq. 20), as `torch.where` does in ten times the time.

    At 0 and at 1 `lerp` gives exactly the one and the other.
    """
    return torch.lerp(lower[cells].unsqueeze(1), upper[cells].unsqueeze(1), is_positive)


def _multiply(rows: Tensor, weight: Tensor) -> Tensor:
    """Return ``rows @ weight``, where it pays as a convolution by a single pixel: the same sums.

    PyTorch computes that with oneDNN, and a product of matrices with a library that on processors
    other than Intel's leaves half of their speed unused.
    """
    if not _as_convolution(rows):
        return rows @ weight
    image = functional.conv2d(_image(rows), weight.T[:, :, None, None])
    return image.permute(0, 2, 3, 1).reshape(*rows.shape[:-1], -1)


def _multiply_back(rows: Tensor, gradient: Tensor) -> Tensor:
    """Return the gradient of the weight in ``rows @ weight``."""
    if not _as_convolution(rows):
        return rows.flatten(0, 1).T @ gradient.flatten(0, 1)
    size = (gradient.shape[-1], rows.shape[-1], 1, 1)
    return conv2d_weight(_image(rows), size, _image(gradient))[:, :, 0, 0].T


def _as_convolution(rows: Tensor) -> bool:
    # for fewer rows, bringing the weight into the form that oneDNN needs costs more than is saved
    is_large = rows.shape[:-1].numel() >= 512
    return is_large and rows.dtype == torch.float32 and rows.is_cpu and mkldnn.is_available()


def _image(rows: Tensor) -> Tensor:
    """View rows as the pixels of at least 16 images: below that PyTorch leaves out oneDNN."""
    n_rows = rows.shape[:-1].numel()
    n_images = next((n for n in range(16, 65) if n_rows % n == 0), 1)
    return rows.reshape(n_images, n_rows // n_images, 1, -1).permute(0, 3, 1, 2)


def _bounds(
    layers: Layers, region: Region, method: str, lower_slope: str, rounding: Rounding | None
) -> tuple[Tensor, Tensor]:
    """Bound the inputs of each layer's neurons in turn; those of the last are the outputs."""
    weight, bias = layers[0]
    first = region.center @ weight.T + bias
    # A linear layer needs no relaxation: over a ball its support is the same for every cell.
    rise = region.support(weight)
    fall = region.support(-weight) if isinstance(region, SparseBox) else rise
    reach = region.magnitude()
    margin, may_overflow = _margin(reach, weight, bias, rounding)
    lower, upper = _widen(first - fall, first + rise, margin)

    hidden: list[HiddenLayer] = []
    inside = hidden, first, region
    for depth in range(1, len(layers)):
        relaxed, high = relax(lower, upper, lower_slope), torch.relu(upper)
        if rounding:
            # Rounded, the chord may pass below (u, u): lift it.
            lift = torch.maximum(relaxed.intercept, high * (1 - relaxed.upper_slope))
            relaxed = relaxed._replace(intercept=(1 + rounding.gamma) * lift)
        hidden.append(HiddenLayer(weight, bias, relaxed, margin))
        weight, bias = layers[depth]
        margin, overflows = _margin(high, weight, bias, rounding)
        may_overflow = may_overflow | overflows
        is_last = depth == len(layers) - 1
        if method == "ibp" or (method == "crown_ibp" and not is_last):
            lower, upper = _intervals(torch.relu(lower), high, weight, bias)
        elif is_last:
            lower, upper = _linear_bounds(weight, bias, *inside)
        else:
            # what the relaxed ReLUs let through, which linear bounds can only make tighter
            intervals = _intervals(relaxed.lower_slope * lower, high, weight, bias)
            is_active = ~(_widen(*intervals, margin)[1] <= 0)  # NaN counts as active
            lower, upper = _crown_bounds(intervals, is_active, weight, bias, *inside)
        lower, upper = _widen(lower, upper, margin)
    if rounding:
        lower = lower.masked_fill(may_overflow, -math.inf)
        upper = upper.masked_fill(may_overflow, math.inf)
    return lower, upper


def _intervals(low: Tensor, high: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    middle = (low + high) / 2 @ weight.T + bias
    deviation = (high - low) / 2 @ weight.abs().T
    return middle - deviation, middle + deviation


def _crown_bounds(
    intervals: tuple[Tensor, Tensor], is_active: Tensor, weight: Tensor, bias: Tensor, *inside: Any
) -> tuple[Tensor, Tensor]:
    """Find linear bounds of the neurons that may be active: no result depends on the others'.

    Where most neurons may be, all are bounded: rows that are the same for all cells take less time.
    """
    (lower, upper), (hidden, first, region), pairs = intervals, inside, is_active.nonzero()
    if 2 * len(pairs) > is_active.numel() or not isinstance(region, Ball):
        return _linear_bounds(weight, bias, *inside)
    for start in range(0, len(pairs), len(first)):
        cells, neurons = pairs[start : start + len(first)].T
        rows, offset = weight[neurons].unsqueeze(1), bias[neurons].unsqueeze(1)
        seen = [layer.of(cells) for layer in hidden]
        ends = _linear_bounds(rows, offset, seen, first[cells], region)
        lower[cells, neurons], upper[cells, neurons] = (end.squeeze(1) for end in ends)
    return lower, upper


def _linear_bounds(
    rows: Tensor, offset: Tensor, hidden: list[HiddenLayer], first: Tensor, region: Region
) -> tuple[Tensor, Tensor]:
    """Bound ``rows @ phi + offset`` from below, as minus the opposite, and from above."""
    rows, offset = torch.cat([rows, -rows], dim=-2), torch.cat([offset, -offset], dim=-1)
    upper, negated = upper_bound(rows, offset, hidden, first, region).chunk(2, dim=1)
    return -negated, upper


def _margin(
    reach: Tensor, weight: Tensor, bias: Tensor, rounding: Rounding | None
) -> tuple[Tensor | None, Tensor]:
    r"""Limit what rounding does to ``weight @ phi + bias``, and tell where a sum may overflow.

    Returns :math:`\gamma M + n\tau`, (n_cells, n_rows), or None if unwanted; and a mask of the
    cells, (n_cells, 1).
    """
    if rounding is None:
        return None, torch.zeros(len(reach), 1, dtype=torch.bool, device=reach.device)
    magnitude = reach @ weight.abs().T + bias.abs()
    # a product may be flushed to zero, and so may the number that is multiplied
    underflow = rounding.tiny * (weight.abs().sum(1) + weight.shape[1] + 1)
    most = (1 + rounding.gamma) * torch.cat([magnitude, reach], dim=1).amax(1, keepdim=True)
    # written so that NaN counts as overflow
    return rounding.gamma * magnitude + underflow, ~(most < rounding.largest)


def _widen(lower: Tensor, upper: Tensor, margin: Tensor | None) -> tuple[Tensor, Tensor]:
    return (lower, upper) if margin is None else (lower - margin, upper + margin)


def ibp(
    encoder: nn.Sequential,
    region: Region,
    *,
    rounding: str | None = None,
    memory_limit: float = 64.0,
) -> tuple[Tensor, Tensor]:
    r"""Bound each output by interval arithmetic: the fastest bounds and the loosest.

    Parameters, returns and errors are those of :func:`~rpumap.verification.crown`.

    Notes
    -----
    With the middle :math:`\mu` and half-width :math:`r` of the intervals that the ReLUs pass on,
    :math:`W \mu + b \pm |W| r`. The first layer is exact for every region, by eq. 39; from then
    on any ball has become a box.

    Examples
    --------
    >>> import torch
    >>> from rpumap.verification import Ball, ibp
    >>> network = torch.nn.Sequential(torch.nn.Linear(1, 1), torch.nn.ReLU(), torch.nn.Linear(1, 1))
    >>> for p in network.parameters():
    ...     _ = p.data.fill_(1.0)
    >>> lower, upper = ibp(network, Ball([[1.0]], eps=3.0))
    >>> lower.item(), upper.item()
    (1.0, 6.0)
    """
    return _certify("ibp", encoder, region, "zero", rounding, memory_limit)


def crown_ibp(
    encoder: nn.Sequential,
    region: Region,
    *,
    lower_slope: str = "adaptive",
    rounding: str | None = None,
    memory_limit: float = 64.0,
) -> tuple[Tensor, Tensor]:
    r"""Bound each output by two linear functions, with intervals for the hidden neurons.

    Parameters, returns and errors are those of :func:`~rpumap.verification.crown`, which is tighter
    and, for two hidden layers of 128, some fifteen times slower. With one hidden layer they are the
    same.

    Examples
    --------
    >>> import torch
    >>> from rpumap.networks import mlp
    >>> from rpumap.verification import Ball, crown, crown_ibp
    >>> draw = torch.Generator().manual_seed(0)
    >>> network, ball = mlp(20, (16, 16), 2, draw), Ball(torch.randn(3, 20, generator=draw), 0.1)
    >>> widths = [u - l for l, u in (f(network, ball) for f in (crown_ibp, crown))]
    >>> bool((widths[1] < widths[0]).all())
    True
    """
    return _certify("crown_ibp", encoder, region, lower_slope, rounding, memory_limit)


def crown(
    encoder: nn.Sequential,
    region: Region,
    *,
    lower_slope: str = "adaptive",
    rounding: str | None = None,
    memory_limit: float = 64.0,
) -> tuple[Tensor, Tensor]:
    r"""Bound each output by two linear functions of the input (CROWN, eq. 13 to 39).

    Parameters
    ----------
    encoder : torch.nn.Sequential
        ``Linear, ReLU, ..., Linear``, any depth and widths, float32 or float64. Exactly these
        classes, without hooks: see :func:`linear_layers`.
    region : Ball, Box or SparseBox
        Where the input of each cell may be; see :mod:`rpumap.verification.regions`.
    lower_slope : {"adaptive", "zero"}
        Slope of the lower linear relaxation of an unstable neuron, see :func:`relax`.
        ``"adaptive"`` is usually tighter and is what auto_LiRPA does; ``"zero"`` makes the three
        methods nest (Notes).
    rounding : {None, "exact", "computed"}
        What must lie inside in spite of floating-point rounding. None: nothing is done about it.
        ``"exact"``: the output of the network in real arithmetic. ``"computed"``: that, and every
        output that the network itself computes in its own number type. The last two work in
        float64 and give no gradients.
    memory_limit : float
        Working memory in megabytes. Cells are taken as many at a time as it allows, but at least
        one. Where gradients are wanted, what autograd keeps for them comes on top.

    Returns
    -------
    lower, upper : torch.Tensor
        Shape (n_cells, n_outputs), in the wider of the types of `region` and `encoder` and on their
        device. Differentiable in the weights and the region unless `rounding` is set.

    Raises
    ------
    TypeError
        If `encoder` is anything but plain Linear and ReLU layers, or `region` is no region.
    ValueError
        If `region` has another number of inputs than the network, a weight is NaN or infinite, or
        an option is unknown.

    Notes
    -----
    *Order.* Interval bounds grow with the region. With ``lower_slope="zero"`` so do all three,
    and `crown` lies inside `crown_ibp`, which lies inside `ibp`: the relaxation of a ReLU then
    keeps its output from 0 to its upper bound, where `ibp` has it too, and a smaller region only
    moves the two functions together. With ``"adaptive"`` the lower function may run below 0. It is
    mostly the tighter choice, but none of this is certain: for :math:`\max(x, 0)` and
    :math:`-1 \le x \le 2`, `ibp` finds 0 to 2 and `crown` -1 to 2. Two sound bounds may be
    intersected at will.

    *Rounding.* ``"exact"`` widens by some :math:`10^{-12}`. ``"computed"`` allows for the worst
    that float32 can do in any order of summation, which is far more than what it does; it is
    right for sums in the network's own type, not for bfloat16 or TF32 inside. Where a sum may
    overflow in that type, the bounds of the cell are infinite. Underflow, denormal numbers that
    are flushed to zero included, is allowed for.

    Examples
    --------
    >>> import torch
    >>> from rpumap.networks import mlp
    >>> from rpumap.verification import Ball, crown
    >>> draw = torch.Generator().manual_seed(0)
    >>> network, x = mlp(20, (16, 16), 2, draw), torch.randn(3, 20, generator=draw)
    >>> lower, upper = crown(network, Ball(x, eps=0.1), rounding="computed")
    >>> z = network(x + 0.1 * (2 * torch.rand(1000, 1, 20, generator=draw) - 1))
    >>> bool((lower <= z).all() and (z <= upper).all())
    True
    """
    return _certify("crown", encoder, region, lower_slope, rounding, memory_limit)


def _certify(
    method: str,
    encoder: nn.Sequential,
    region: Region,
    lower_slope: str,
    rounding: str | None,
    memory_limit: float,
) -> tuple[Tensor, Tensor]:
    """Check what was given, and bound as many cells at a time as memory allows."""
    check_choice("lower_slope", lower_slope, ("adaptive", "zero"))
    if rounding is not None:
        check_choice("rounding", rounding, ("exact", "computed"))
    check_number("memory_limit", memory_limit, above=True)
    layers = linear_layers(encoder)
    check_region(region, n_inputs=layers[0][0].shape[1])
    own_type = layers[0][0].dtype
    out_type = torch.promote_types(own_type, region.center.dtype)
    limits, work_type = None, out_type
    if rounding is not None:
        # an input in a narrower type than the network's was rounded to it
        narrow = min(own_type, region.center.dtype, key=lambda dtype: dtype.itemsize)
        limits, work_type = _limits(layers, rounding, narrow), torch.float64

    full_precision = torch.autocast("cuda" if region.center.is_cuda else "cpu", enabled=False)
    with torch.set_grad_enabled(torch.is_grad_enabled() and rounding is None), full_precision:
        layers = [(weight.to(work_type), bias.to(work_type)) for weight, bias in layers]
        region = region.to(work_type)
        step = _cells_at_once(layers, method, memory_limit, region)
        parts = [
            _bounds(layers, region.rows(start, start + step), method, lower_slope, limits)
            for start in range(0, len(region.center), step)
        ]
        lower, upper = (torch.cat(part) for part in zip(*parts, strict=True))
        return (lower, upper) if rounding is None else _outward(lower, upper, out_type)


def _limits(layers: Layers, rounding: str, own_type: torch.dtype) -> Rounding:
    r"""Return what rounding may do, in the work of this module and of the network itself.

    Along one path a number meets two sums at a layer (forming the product, applying it), each of
    at most as many terms as the widest layer, and a few single operations. `eps` is :math:`2u`;
    the spare factor 2 pays for second-order terms and for the rounding of the margin itself. The
    network's own rounding meets one sum a layer, its bias, and that of a shifted input.
    """
    width = max(max(weight.shape) for weight, _ in layers)
    double, own = torch.finfo(torch.float64), torch.finfo(own_type)
    gamma = (2 * width + 4 * len(layers) + 16) * double.eps
    if rounding == "exact":
        return Rounding(gamma, double.tiny, math.inf)
    return Rounding(gamma + (width + 8) / 2 * 1.01 * own.eps, own.tiny, own.max)


def _outward(lower: Tensor, upper: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Convert to `dtype` without moving a bound inward. What overflowed says nothing."""
    infinity = torch.tensor(math.inf, dtype=dtype, device=lower.device)
    lower = torch.nextafter(lower.nan_to_num(-math.inf, math.inf, -math.inf).to(dtype), -infinity)
    upper = torch.nextafter(upper.nan_to_num(math.inf, math.inf, -math.inf).to(dtype), infinity)
    return lower, upper


def _cells_at_once(layers: Layers, method: str, megabytes: float, region: Region) -> int:
    """Count the cells that fit: four arrays of rows by neurons or inputs, twice the rows."""
    heights = [len(weight) for weight, _ in layers[1:]] or [1]
    rows = {"ibp": 1, "crown_ibp": heights[-1], "crown": max(heights)}[method]
    if isinstance(region, SparseBox):  # the first layer's gains differ from cell to cell
        rows = max(rows, len(layers[0][0]))
    numbers = megabytes * 1e6 / layers[0][0].element_size()
    floats = 8 * max(max(weight.shape) for weight, _ in layers)
    step = numbers / (floats * rows)
    if method == "crown" and isinstance(region, Ball) and region.norm == "linf":
        # blocks of cells pass the first layer in turn, so that only rows above it remain
        step = max(step, (numbers - 4 * BLOCK) / (floats * max(heights[1:], default=1)))
    return max(1, int(step))


def check_region(region: Region, n_inputs: int) -> None:
    """Raise TypeError or ValueError unless `region` is a region of that many inputs.

    Examples
    --------
    >>> from rpumap.verification import Ball
    >>> from rpumap.verification.bounds import check_region
    >>> check_region(Ball([[1.0, 2.0]], 0.1), n_inputs=2)
    """
    if type(region) not in REGIONS:  # a subclass may mean another set
        names = ", ".join(kind.__name__ for kind in REGIONS)
        raise TypeError(
            f"region must be one of rpumap.verification's {names}, got {type(region).__name__}"
        )
    if region.center.shape[1] != n_inputs:
        raise ValueError(
            f"the region has {region.center.shape[1]} columns, but the encoder takes "
            f"{n_inputs} inputs"
        )


def linear_layers(encoder: nn.Sequential) -> list[tuple[Tensor, Tensor]]:
    """Return weights and biases of a network of Linear layers with a ReLU between each two.

    The bounds hold for the function that these weights describe. So everything is refused that may
    compute another one: subclasses, hooks (global ones included), parametrized weights, a
    ``forward`` that was replaced (in the class, too), compiled modules.

    Parameters
    ----------
    encoder : torch.nn.Sequential
        ``Linear, ReLU, ..., Linear``, all float32 or all float64.

    Returns
    -------
    list of (torch.Tensor, torch.Tensor)
        Weight (n_outputs, n_inputs) and bias (n_outputs,) of each layer.

    Raises
    ------
    TypeError, ValueError
        If `encoder` is anything else, or a weight is NaN or infinite.

    Examples
    --------
    >>> from rpumap.networks import mlp
    >>> from rpumap.verification.bounds import linear_layers
    >>> [tuple(weight.shape) for weight, bias in linear_layers(mlp(20, (16,), 2))]
    [(16, 20), (2, 16)]
    """
    _check_library()
    _check_plain(encoder, "encoder", nn.Sequential)
    if any(getattr(torch_module, name) for name in GLOBAL_HOOKS):
        raise TypeError(
            "a global forward hook is registered with torch.nn.modules.module: it may change what "
            "any network computes, so nothing can be certified. Remove it first"
        )
    if len(encoder) % 2 == 0:
        raise ValueError(
            f"encoder must run Linear, ReLU, ..., Linear; its {len(encoder)} modules cannot"
        )
    layers: Layers = []
    for position, module in enumerate(encoder):
        name = f"encoder[{position}]"
        _check_plain(module, name, nn.ReLU if position % 2 else nn.Linear)
        if isinstance(module, nn.Linear):
            layers.append(_weights(module, name))
            _check_fit(layers, name)
    return layers


def _check_library() -> None:
    """Raise TypeError where a function of PyTorch was replaced, as some profilers do."""
    functions = {
        f"torch.nn.{kind.__name__}.{name}": (getattr(kind, name), home)
        for kind in (nn.Sequential, nn.Linear, nn.ReLU)
        for name, home in (
            ("forward", kind.__module__),
            ("__call__", torch_module.__name__),
            ("_call_impl", torch_module.__name__),
        )
    }
    functions["torch.nn.functional.relu"] = (functional.relu, functional.__name__)
    replaced = [
        name
        for name, (function, home) in functions.items()
        # the module in which a function was written is not changed by functools.wraps
        if getattr(function, "__globals__", None) is not vars(sys.modules[home])
    ]
    if not isinstance(functional.linear, BuiltinFunctionType):
        replaced.append("torch.nn.functional.linear")
    if replaced:
        raise TypeError(
            f"{replaced[0]} was replaced in this process, so that networks may compute anything: "
            "restore it first (leave the profiler or tracer that did so)"
        )


def _check_plain(module: nn.Module, name: str, wanted: type[nn.Module]) -> None:
    """Raise TypeError unless a module is of that very class and computes what the class does."""
    if type(module) is not wanted:
        also = f" (a subclass of {wanted.__name__})" if isinstance(module, wanted) else ""
        raise TypeError(
            f"{name} must be {wanted.__module__.split('.')[0]}.nn.{wanted.__name__} itself, got "
            f"{type(module).__name__}{also}, whose output may differ; "
            "rpumap.verification.auto_lirpa bounds other networks"
        )
    if any(getattr(module, hooks) for hooks in HOOKS):
        raise TypeError(
            f"{name} has forward hooks, which may change what it computes: remove them (weight or "
            "spectral normalisation and pruning leave one behind until they are made permanent)"
        )
    own = any(callable(getattr(wanted, attribute, None)) for attribute in vars(module))
    if own or vars(module).get("_compiled_call_impl") is not None:
        raise TypeError(
            f"{name} has a forward method of its own (or another one) or is compiled: pass the "
            "original"
        )
    parts = (module._parameters.keys() - {"weight", "bias"}) | module._buffers.keys()
    if parts or (wanted is nn.Linear and module._modules):
        raise TypeError(
            f"{name} holds {', '.join(sorted(parts)) or 'other modules'} beside weight and bias "
            "(parametrized, pruned or quantized?): make its weights permanent first"
        )


def _weights(linear: nn.Linear, name: str) -> tuple[Tensor, Tensor]:
    weight, bias = linear.weight, linear.bias
    bias = weight.new_zeros(len(weight)) if bias is None else bias
    for values in (weight, bias):
        if type(values) not in (Tensor, nn.Parameter):  # whose products may be anything
            raise TypeError(f"{name} has weights of the class {type(values).__name__}")
        if values.layout != torch.strided or values.is_meta:
            raise TypeError(f"{name} has weights without values, or that are not dense")
    if weight.ndim != 2 or bias.shape != weight.shape[:1] or bias.dtype != weight.dtype:
        raise ValueError(
            f"{name} must have a weight (n_outputs, n_inputs) and a bias (n_outputs,) of one type, "
            f"got {tuple(weight.shape)} {weight.dtype} and {tuple(bias.shape)} {bias.dtype}"
        )
    check_finite(f"the weights of {name}", weight, bias)
    return weight, bias


def _check_fit(layers: Layers, name: str) -> None:
    weight = layers[-1][0]
    n_passed = len(layers[-2][0]) if len(layers) > 1 else weight.shape[1]
    if weight.shape[1] != n_passed:
        raise ValueError(f"{name} takes {weight.shape[1]} inputs, but {n_passed} arrive there")
    if weight.dtype != layers[0][0].dtype:
        raise TypeError(f"{name} is {weight.dtype}, but the first layer {layers[0][0].dtype}")
