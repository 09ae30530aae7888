r"""Certified bounds: how far the output can move when the input moves a little.

The input ranges over a *region*: a ball :math:`\|x - x_0\|_p \le \epsilon`, a box, or the part of
a box where few inputs differ from :math:`x_0`. Three methods bound each output over it, from fast
and loose to slow and tight.

- :func:`ibp` sends an interval for each neuron forward through the layers.
- :func:`crown` writes each output between two *linear* functions of the input. Going backward
  from the output, each ReLU is replaced by a line above or below it (eq. 13), whichever the sign
  of its coefficient asks for (eq. 20). The lines need bounds on the neuron's input; those come
  from the same procedure, layer by layer.
- :func:`crown_ibp` takes the hidden neurons' bounds from `ibp` and does the outputs as `crown`.

**The derivation in five lines** (supplement of the paper, eq. 13 to 39). Number the layers
:math:`1 \dots m`, let :math:`y^{(k)} = W^{(k)} \phi_{k-1} + b^{(k)}` be the input of the ReLUs of
layer :math:`k` and :math:`\phi_k` their output. Start from :math:`\tilde W^{(m)} = W^{(m)}`. For
the upper bound, going down through the hidden layers :math:`k = m-1, \dots, 1`,

.. math::

    \Lambda^{(k)}_{ji} &= \tilde W^{(k+1)}_{ji} \lambda^{(k)}_{ji}, \quad
    \lambda^{(k)}_{ji}, \Delta^{(k)}_{ij} =
    \begin{cases} \alpha_{U,i}^{(k)}, \beta_{U,i}^{(k)} & \tilde W^{(k+1)}_{ji} \ge 0 \\
                  \alpha_{L,i}^{(k)}, \beta_{L,i}^{(k)} & \tilde W^{(k+1)}_{ji} < 0 \end{cases}
    && \text{(20, 21, 25, 26)} \\
    \tilde W^{(k)} &= \Lambda^{(k)} W^{(k)} && \text{(31, 32, 37)} \\
    f_j^U(x) &= \tilde W^{(1)}_{j,:} x + b^{(m)}_j + \sum_{k=1}^{m-1} \Lambda^{(k)}_{j,:}
    \bigl(b^{(k)} + \Delta^{(k)}_{:,j}\bigr) && \text{(38)} \\
    \max_{\|x - x_0\|_p \le \epsilon} f_j^U(x) &= f_j^U(x_0)
    + \epsilon \,\bigl\|\tilde W^{(1)}_{j,:}\bigr\|_q, \qquad \tfrac1p + \tfrac1q = 1
    && \text{(39)}

Here the paper's slips are mended: eq. 18 and 19 pair a negative weight with the *lower* line,
:math:`\Delta` sits inside the bracket that :math:`\lambda` multiplies (eq. 27), and the norm of
eq. 39 is the *dual* one: the sum of magnitudes for an :math:`l_\infty` ball, the Euclidean norm
for :math:`l_2`, and the largest magnitude for :math:`l_1` only. A lower bound is minus an upper
bound of minus the function, so there is one backward pass and not two.

**Rounding.** All this is exact in real numbers; a computer rounds. `rounding` says what is to be
done about it. With None, nothing: fast, differentiable, right to about six digits, for training.
Otherwise the arithmetic is float64 and each bound is moved outward by a limit on all that rounding
may have done, found in the same pass: a sum of :math:`n` products, in whatever order, errs by at
most :math:`\gamma_n` times the sum of their magnitudes, :math:`\gamma_n \approx n u` with :math:`u`
the unit roundoff. The magnitudes at layer :math:`k` add up to at most
:math:`M^{(k)} = |W^{(k)}| \max|\phi_{k-1}| + |b^{(k)}|`, and an error of that size there reaches
the output times :math:`|\Lambda^{(k)}|`. So :math:`\sum_k |\Lambda^{(k)}| \gamma M^{(k)}` is added.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from rpumap.regions import Region, SparseBox, Where, apply_rows, check_numbers


class Lines(NamedTuple):
    r"""Lines below and above each ReLU: :math:`s_L y \le \max(y, 0) \le s_U y + t`."""

    lower_slope: Tensor
    upper_slope: Tensor
    intercept: Tensor


@dataclass
class Hidden:
    """One hidden layer on the way back: its weights, and what is known about its neurons."""

    weight: Tensor
    bias: Tensor
    lines: Lines
    margin: Tensor | None  #: what rounding may do to each neuron's input


def relax(lower: Tensor, upper: Tensor, lower_slope: str = "adaptive") -> Lines:
    r"""Put a ReLU between two lines that hold for inputs from `lower` to `upper` (eq. 13).

    Parameters
    ----------
    lower, upper : torch.Tensor
        Bounds on the input of each ReLU, any shape.
    lower_slope : {"adaptive", "zero"}
        Slope of the lower line where the sign of the input is open: for ``"adaptive"`` 1 if
        ``upper > -lower`` and 0 otherwise, which leaves the smaller area between the lines;
        for ``"zero"`` always 0.

    Returns
    -------
    Lines
        Slopes and intercept, each shaped like `lower`.

    Notes
    -----
    The upper line is the chord from :math:`(l, 0)` to :math:`(u, u)`:
    :math:`\alpha_U = u / (u - l)`, :math:`\beta_U = -l`. The lower line runs through the origin:
    :math:`\beta_L = 0`, and any :math:`\alpha_L` from 0 to 1 is right. Where the sign is known
    both lines are the ReLU itself. With :math:`l` and :math:`u` clipped at 0 from the right and
    from the left, one formula covers the three cases.

    Examples
    --------
    >>> import torch
    >>> from rpumap.bounds import relax
    >>> lines = relax(torch.tensor([-1.0, -3.0, 1.0, -2.0]), torch.tensor([3.0, 1.0, 2.0, -1.0]))
    >>> lines.lower_slope.tolist()
    [1.0, 0.0, 1.0, 0.0]
    >>> lines.upper_slope.tolist()
    [0.75, 0.25, 1.0, 0.0]
    >>> lines.intercept.tolist()
    [0.75, 0.75, 0.0, 0.0]
    """
    below, above = torch.relu(-lower), torch.relu(upper)
    slope = above / (above + below).clamp_min(torch.finfo(lower.dtype).tiny)
    rises = slope > 0.5 if lower_slope == "adaptive" else lower >= 0
    return Lines(rises.to(slope.dtype), slope, slope * below)


def _upper_bound(
    rows: Tensor,
    offset: Tensor,
    hidden: list[Hidden],
    first: Tensor,
    region: Region | SparseBox,
    gamma: float,
) -> Tensor:
    r"""Bound ``rows @ phi + offset`` from above, `phi` the outputs of the last hidden layer.

    `rows` (n_rows, n_hidden) plays :math:`\tilde W^{(k+1)}` and, multiplied by slopes,
    :math:`\Lambda^{(k)}`. `first` holds the first layer's inputs at the centre of the region,
    (n_cells, n_hidden). Returns (n_cells, n_rows).
    """
    bound = offset
    for depth in range(len(hidden) - 1, -1, -1):
        layer, lines = hidden[depth], hidden[depth].lines
        # y = W phi + b on the way to the input, where the centre is known: y = W1 x0 + b1 there
        known = layer.bias if depth > 0 else first
        positive, negative = torch.relu(rows), -torch.relu(-rows)
        above = lines.upper_slope * known + (1 + gamma) * lines.intercept
        # in brackets, so that the order of summation is that of minus these rows
        bound = bound + (
            apply_rows(positive, above) + apply_rows(negative, lines.lower_slope * known)
        )
        rows = torch.addcmul(
            negative * lines.lower_slope.unsqueeze(1), positive, lines.upper_slope.unsqueeze(1)
        )
        if layer.margin is not None:
            bound = bound + apply_rows(rows.abs(), layer.margin)
        if depth > 0:
            rows = rows @ layer.weight
    return bound + region.deviation(rows, hidden[0].weight)


def _bounds(
    layers: list[tuple[Tensor, Tensor]],
    region: Region | SparseBox,
    method: str,
    lower_slope: str,
    gamma: float,
) -> tuple[Tensor, Tensor]:
    """Bound the inputs of each layer's neurons in turn; those of the last are the outputs."""
    weight, bias = layers[0]
    first = region.center @ weight.T + bias
    # A linear layer needs no relaxation: over a ball the deviation is the same for every cell.
    rise = region.deviation(weight)
    fall = region.deviation(-weight) if isinstance(region, SparseBox) else rise
    margin = _margin(region.reach(), weight, bias, gamma)
    lower, upper = _widen(first - fall, first + rise, margin)

    hidden: list[Hidden] = []
    for depth in range(1, len(layers)):
        lines, low, high = relax(lower, upper, lower_slope), torch.relu(lower), torch.relu(upper)
        if gamma:
            # Rounded, the chord may pass below (u, u): lift it.
            lift = torch.maximum(lines.intercept, high * (1 - lines.upper_slope))
            lines = lines._replace(intercept=lift)
        hidden.append(Hidden(weight, bias, lines, margin))
        weight, bias = layers[depth]
        margin = _margin(high, weight, bias, gamma)
        if method == "crown" or (method == "crown_ibp" and depth == len(layers) - 1):
            rows, offset = torch.cat([weight, -weight]), torch.cat([bias, -bias])
            bound = _upper_bound(rows, offset, hidden, first, region, gamma)
            upper, negated = bound.split(len(weight), dim=1)
            lower = -negated
        else:
            middle = (low + high) / 2 @ weight.T + bias
            deviation = (high - low) / 2 @ weight.abs().T
            lower, upper = middle - deviation, middle + deviation
        lower, upper = _widen(lower, upper, margin)
    return lower, upper


def _margin(reach: Tensor, weight: Tensor, bias: Tensor, gamma: float) -> Tensor | None:
    r"""Limit what rounding does to ``weight @ phi + bias``: :math:`\gamma M`; None if unwanted."""
    return gamma * (reach @ weight.abs().T + bias.abs()) if gamma else None


def _widen(lower: Tensor, upper: Tensor, margin: Tensor | None) -> tuple[Tensor, Tensor]:
    return (lower, upper) if margin is None else (lower - margin, upper + margin)


def ibp(
    encoder: nn.Sequential,
    x: Tensor | None = None,
    eps: float | None = None,
    norm: str = "linf",
    *,
    lower_input: Tensor | None = None,
    upper_input: Tensor | None = None,
    max_changed: int | None = None,
    rounding: str | None = None,
    memory_limit: float = 64.0,
) -> tuple[Tensor, Tensor]:
    r"""Bound each output by interval arithmetic: the fastest bounds and the loosest.

    Parameters, returns and errors are those of :func:`crown`.

    Notes
    -----
    With the middle :math:`\mu` and half-width :math:`r` of the intervals that the ReLUs pass on,
    :math:`W \mu + b \pm |W| r`. The first layer is exact for every region, by eq. 39; from then
    on any ball has become a box.

    Examples
    --------
    >>> import torch
    >>> from rpumap.bounds import ibp
    >>> network = torch.nn.Sequential(torch.nn.Linear(1, 1), torch.nn.ReLU(), torch.nn.Linear(1, 1))
    >>> for p in network.parameters():
    ...     _ = p.data.fill_(1.0)
    >>> lower, upper = ibp(network, torch.tensor([[1.0]]), eps=3.0)
    >>> lower.item(), upper.item()
    (1.0, 6.0)
    """
    where = Where(x, eps, norm, lower_input, upper_input, max_changed)
    return _certify("ibp", encoder, where, "zero", rounding, memory_limit)


def crown_ibp(
    encoder: nn.Sequential,
    x: Tensor | None = None,
    eps: float | None = None,
    norm: str = "linf",
    *,
    lower_input: Tensor | None = None,
    upper_input: Tensor | None = None,
    max_changed: int | None = None,
    lower_slope: str = "adaptive",
    rounding: str | None = None,
    memory_limit: float = 64.0,
) -> tuple[Tensor, Tensor]:
    r"""Bound each output by two linear functions, with intervals for the hidden neurons.

    Parameters, returns and errors are those of :func:`crown`, which is tighter and, for two
    hidden layers of 128, some twenty-five times slower. With one hidden layer they are the same.

    Examples
    --------
    >>> import torch
    >>> from rpumap.bounds import crown, crown_ibp
    >>> from rpumap.encoder import mlp
    >>> draw = torch.Generator().manual_seed(0)
    >>> network, x = mlp(20, (16, 16), 2, draw), torch.randn(3, 20, generator=draw)
    >>> widths = [u - l for l, u in (f(network, x, 0.1) for f in (crown_ibp, crown))]
    >>> bool((widths[1] < widths[0]).all())
    True
    """
    where = Where(x, eps, norm, lower_input, upper_input, max_changed)
    return _certify("crown_ibp", encoder, where, lower_slope, rounding, memory_limit)


def crown(
    encoder: nn.Sequential,
    x: Tensor | None = None,
    eps: float | None = None,
    norm: str = "linf",
    *,
    lower_input: Tensor | None = None,
    upper_input: Tensor | None = None,
    max_changed: int | None = None,
    lower_slope: str = "adaptive",
    rounding: str | None = None,
    memory_limit: float = 64.0,
) -> tuple[Tensor, Tensor]:
    r"""Bound each output by two linear functions of the input (CROWN, eq. 13 to 39).

    Parameters
    ----------
    encoder : torch.nn.Sequential
        ``Linear, ReLU, ..., Linear``, any depth and widths, float32 or float64.
    x : torch.Tensor
        Centres of the balls, shape (n_cells, n_inputs), float32 or float64.
    eps : float
        Radius of the balls, 0 or more, in the units of `x` (standard deviations of a gene).
    norm : {"linf", "l2", "l1"}
        What is at most `eps`: the largest change of an input, the Euclidean length of the
        change, or the sum of its magnitudes.
    lower_input, upper_input : torch.Tensor
        Ends of a box for each cell, shape (n_cells, n_inputs), in place of `x` and `eps`.
    max_changed : int
        With `x` and a box about it: at most so many inputs of a cell differ from `x`, no matter
        which, 1 or more.
    lower_slope : {"adaptive", "zero"}
        The line below a ReLU whose sign is open, see :func:`relax`. ``"adaptive"`` is usually
        tighter and is what auto_LiRPA does; ``"zero"`` makes the three methods nest (Notes).
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
        Shape (n_cells, n_outputs), in the wider of the types of `x` and `encoder` and on their
        device. Differentiable in the weights and the region unless `rounding` is set.

    Raises
    ------
    TypeError
        If `encoder` holds anything but Linear and ReLU, or a tensor is not of a floating type.
    ValueError
        If both or neither of ball and box are given, a shape is wrong, there are no cells, a
        number is NaN or infinite, `eps` is negative, a lower end is above the upper one, `x` is
        outside the box, `max_changed` is not a positive integer, or an option is unknown.

    Notes
    -----
    *Order.* Interval bounds grow with the region. With ``lower_slope="zero"`` so do all three,
    and `crown` lies inside `crown_ibp`, which lies inside `ibp`: a ReLU's two lines then keep
    its output from 0 to its upper bound, where `ibp` has it too, and a smaller region only moves
    lines together. With ``"adaptive"`` the lower line may run below 0. It is mostly the tighter
    choice, but none of this is certain: for :math:`\max(x, 0)` and :math:`-1 \le x \le 2`,
    `ibp` finds 0 to 2 and `crown` -1 to 2. Two sound bounds may be intersected at will.

    *Rounding.* ``"exact"`` widens by some :math:`10^{-12}`. ``"computed"`` allows for the worst
    that float32 can do in any order of summation, which is far more than what it does; it is
    right for sums in the network's own type, not for bfloat16 or TF32 inside. Overflow gives an
    infinite bound. Underflow is not allowed for.

    Examples
    --------
    >>> import torch
    >>> from rpumap.bounds import crown
    >>> from rpumap.encoder import mlp
    >>> draw = torch.Generator().manual_seed(0)
    >>> network, x = mlp(20, (16, 16), 2, draw), torch.randn(3, 20, generator=draw)
    >>> lower, upper = crown(network, x, eps=0.1, rounding="computed")
    >>> z = network(x + 0.1 * (2 * torch.rand(1000, 1, 20, generator=draw) - 1))
    >>> bool((lower <= z).all() and (z <= upper).all())
    True
    """
    where = Where(x, eps, norm, lower_input, upper_input, max_changed)
    return _certify("crown", encoder, where, lower_slope, rounding, memory_limit)


def _certify(
    method: str,
    encoder: nn.Sequential,
    where: Where,
    lower_slope: str,
    rounding: str | None,
    memory_limit: float,
) -> tuple[Tensor, Tensor]:
    """Check what was given, then bound as many cells at a time as memory allows."""
    if lower_slope not in ("adaptive", "zero"):
        raise ValueError(f"lower_slope must be 'adaptive' or 'zero', got {lower_slope!r}")
    if rounding not in (None, "exact", "computed"):
        raise ValueError(f"rounding must be None, 'exact' or 'computed', got {rounding!r}")
    if not memory_limit > 0:
        raise ValueError(f"memory_limit must be above 0 (megabytes), got {memory_limit}")
    layers = linear_layers(encoder)
    given = where.tensors(n_inputs=layers[0][0].shape[1])
    own_type = layers[0][0].dtype
    out_type = torch.promote_types(own_type, next(iter(given.values())).dtype)
    gamma, work_type = 0.0, out_type
    if rounding is not None:
        gamma, work_type = _gamma(layers, rounding, own_type), torch.float64

    layers = [(weight.to(work_type), bias.to(work_type)) for weight, bias in layers]
    region = where.region(work_type)
    step = _cells_at_once(layers, method, memory_limit, isinstance(region, SparseBox))
    with torch.set_grad_enabled(torch.is_grad_enabled() and rounding is None):
        parts = [
            _bounds(layers, region.rows(start, start + step), method, lower_slope, gamma)
            for start in range(0, len(region.center), step)
        ]
        lower, upper = (torch.cat(part) for part in zip(*parts, strict=True))
        return (lower, upper) if rounding is None else _outward(lower, upper, out_type)


def _gamma(layers: list[tuple[Tensor, Tensor]], rounding: str, own_type: torch.dtype) -> float:
    r"""Return the factor of the module's last equation.

    Along one path a number meets two sums at a layer (forming the product, applying it), each of
    at most as many terms as the widest layer, and a few single operations. `eps` is :math:`2u`;
    the spare factor 2 pays for second-order terms and for the rounding of the margin itself. The
    network's own rounding meets one sum a layer, its bias, and that of a shifted input.
    """
    width = max(max(weight.shape) for weight, _ in layers)
    gamma = (2 * width + 4 * len(layers) + 16) * torch.finfo(torch.float64).eps
    if rounding == "computed":
        gamma += (width + 8) / 2 * 1.01 * torch.finfo(own_type).eps
    return gamma


def _outward(lower: Tensor, upper: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Convert to `dtype` without moving a bound inward. What overflowed says nothing."""
    infinity = torch.tensor(math.inf, dtype=dtype, device=lower.device)
    lower = torch.nextafter(lower.nan_to_num(-math.inf, math.inf, -math.inf).to(dtype), -infinity)
    upper = torch.nextafter(upper.nan_to_num(math.inf, math.inf, -math.inf).to(dtype), infinity)
    return lower, upper


def _cells_at_once(
    layers: list[tuple[Tensor, Tensor]], method: str, megabytes: float, is_sparse: bool
) -> int:
    """Count the cells that fit: four arrays of rows by neurons or inputs, twice the rows."""
    widths = [max(weight.shape) for weight, _ in layers]
    heights = [len(weight) for weight, _ in layers[1:]]
    rows = {"ibp": [1], "crown_ibp": heights[-1:], "crown": heights}[method]
    if is_sparse:  # the gains of the first layer's neurons differ from cell to cell
        rows = [*rows, len(layers[0][0])]
    floats = 8 * max(rows, default=1) * max(widths)
    return max(1, int(megabytes * 1e6 / (floats * layers[0][0].element_size())))


def linear_layers(encoder: nn.Sequential) -> list[tuple[Tensor, Tensor]]:
    """Return weights and biases of a network of Linear layers with a ReLU between each two.

    Parameters
    ----------
    encoder : torch.nn.Sequential
        ``Linear, ReLU, ..., Linear``, float32 or float64.

    Returns
    -------
    list of (torch.Tensor, torch.Tensor)
        Weight (n_outputs, n_inputs) and bias (n_outputs,) of each layer.

    Raises
    ------
    TypeError, ValueError
        If `encoder` is anything else, or a weight is NaN or infinite.
    """
    if not isinstance(encoder, nn.Sequential):
        raise TypeError(f"encoder must be a torch.nn.Sequential, got {type(encoder).__name__}")
    if len(encoder) % 2 == 0:
        raise ValueError(
            f"encoder must run Linear, ReLU, ..., Linear; its {len(encoder)} modules cannot"
        )
    layers = []
    for position, module in enumerate(encoder):
        wanted = nn.ReLU if position % 2 else nn.Linear
        if not isinstance(module, wanted):
            raise TypeError(
                f"encoder[{position}] must be {wanted.__name__}, got {type(module).__name__}; "
                "rpumap.lirpa bounds other networks"
            )
        if wanted is nn.Linear:
            weight, bias = module.weight, module.bias
            bias = weight.new_zeros(len(weight)) if bias is None else bias
            check_numbers(f"the weights of encoder[{position}]", weight, bias)
            layers.append((weight, bias))
    return layers
