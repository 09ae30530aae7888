r"""Certified bounds: how far the output can move when the input moves a little.

The input ranges over a *region*: a ball :math:`\|x - x_0\|_p \le \epsilon` or a box. Three methods
bound each output over it, from fast and loose to slow and tight.

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
import numbers
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

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
            return _apply(product.abs(), self.radius)
        if weight is None:
            return self.radius * _norm(rows, self.order)
        return self.radius * _ProductNorm.apply(rows, weight, self.order)


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
    rows: Tensor, offset: Tensor, hidden: list[Hidden], first: Tensor, region: Region, gamma: float
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
        bound = bound + (_apply(positive, above) + _apply(negative, lines.lower_slope * known))
        rows = torch.addcmul(
            negative * lines.lower_slope.unsqueeze(1), positive, lines.upper_slope.unsqueeze(1)
        )
        if layer.margin is not None:
            bound = bound + _apply(rows.abs(), layer.margin)
        if depth > 0:
            rows = rows @ layer.weight
    return bound + region.deviation(rows, hidden[0].weight)


def _bounds(
    layers: list[tuple[Tensor, Tensor]],
    region: Region,
    method: str,
    lower_slope: str,
    gamma: float,
) -> tuple[Tensor, Tensor]:
    """Bound the inputs of each layer's neurons in turn; those of the last are the outputs."""
    weight, bias = layers[0]
    first = region.center @ weight.T + bias
    # A linear layer needs no relaxation: over a ball the deviation is the same for every cell.
    deviation = region.deviation(weight)
    margin = _margin(region.reach(), weight, bias, gamma)
    lower, upper = _widen(first - deviation, first + deviation, margin)

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


def _apply(rows: Tensor, vectors: Tensor) -> Tensor:
    """Multiply rows, (n_rows, n) or (n_cells, n_rows, n), with one vector a cell, (n_cells, n)."""
    return vectors @ rows.T if rows.ndim == 2 else torch.bmm(rows, vectors.unsqueeze(2)).squeeze(2)


def _margin(reach: Tensor, weight: Tensor, bias: Tensor, gamma: float) -> Tensor | None:
    r"""Limit what rounding does to ``weight @ phi + bias``: :math:`\gamma M`; None if unwanted."""
    return gamma * (reach @ weight.abs().T + bias.abs()) if gamma else None


def _widen(lower: Tensor, upper: Tensor, margin: Tensor | None) -> tuple[Tensor, Tensor]:
    return (lower, upper) if margin is None else (lower - margin, upper + margin)


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


def ibp(
    encoder: nn.Sequential,
    x: Tensor | None = None,
    eps: float | None = None,
    norm: str = "linf",
    *,
    lower_input: Tensor | None = None,
    upper_input: Tensor | None = None,
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
    where = (x, eps, norm, lower_input, upper_input)
    return _certify("ibp", encoder, where, "zero", rounding, memory_limit)


def crown_ibp(
    encoder: nn.Sequential,
    x: Tensor | None = None,
    eps: float | None = None,
    norm: str = "linf",
    *,
    lower_input: Tensor | None = None,
    upper_input: Tensor | None = None,
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
    where = (x, eps, norm, lower_input, upper_input)
    return _certify("crown_ibp", encoder, where, lower_slope, rounding, memory_limit)


def crown(
    encoder: nn.Sequential,
    x: Tensor | None = None,
    eps: float | None = None,
    norm: str = "linf",
    *,
    lower_input: Tensor | None = None,
    upper_input: Tensor | None = None,
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
        number is NaN or infinite, `eps` is negative, a lower end is above the upper one, or an
        option is unknown.

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
    where = (x, eps, norm, lower_input, upper_input)
    return _certify("crown", encoder, where, lower_slope, rounding, memory_limit)


def _certify(
    method: str,
    encoder: nn.Sequential,
    where: tuple[Tensor | None, float | None, str, Tensor | None, Tensor | None],
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
    given = check_region(*where, n_inputs=layers[0][0].shape[1])
    own_type = layers[0][0].dtype
    out_type = torch.promote_types(own_type, given[0].dtype)
    gamma, work_type = 0.0, out_type
    if rounding is not None:
        gamma, work_type = _gamma(layers, rounding, own_type), torch.float64

    layers = [(weight.to(work_type), bias.to(work_type)) for weight, bias in layers]
    region = _region([tensor.to(work_type) for tensor in given], where[1], where[2])
    step = _cells_at_once(layers, method, memory_limit)
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


def _cells_at_once(layers: list[tuple[Tensor, Tensor]], method: str, megabytes: float) -> int:
    """Count the cells that fit: four arrays of rows by neurons or inputs, twice the rows."""
    widths = [max(weight.shape) for weight, _ in layers]
    heights = [len(weight) for weight, _ in layers[1:]]
    rows = {"ibp": [1], "crown_ibp": heights[-1:], "crown": heights}[method]
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
            _check_numbers(f"the weights of encoder[{position}]", weight, bias)
            layers.append((weight, bias))
    return layers


def check_region(
    x: Tensor | None,
    eps: float | None,
    norm: str,
    lower_input: Tensor | None,
    upper_input: Tensor | None,
    n_inputs: int | None = None,
) -> list[Tensor]:
    """Return ``[x]`` or ``[lower_input, upper_input]`` if they say where the input may be.

    Parameters
    ----------
    x, eps, norm, lower_input, upper_input
        As :func:`crown` takes them.
    n_inputs : int, optional
        Width that the network asks for.

    Returns
    -------
    list of torch.Tensor
        One tensor for balls, two for boxes.

    Raises
    ------
    TypeError, ValueError
        As :func:`crown` says.
    """
    ball, box = {"x": x, "eps": eps}, {"lower_input": lower_input, "upper_input": upper_input}
    is_ball = x is not None and eps is not None and lower_input is None and upper_input is None
    is_box = x is None and eps is None and lower_input is not None and upper_input is not None
    if not (is_ball or is_box):
        found = [name for name, value in {**ball, **box}.items() if value is not None]
        raise ValueError(
            "give either x and eps (a ball) or lower_input and upper_input (a box), "
            f"got {', '.join(found) or 'none of them'}"
        )
    if norm not in DUAL_ORDER:
        raise ValueError(f"norm must be one of {', '.join(DUAL_ORDER)}, got {norm!r}")
    if is_box and norm != "linf":
        raise ValueError(f"norm belongs to a ball, a box has none: leave it out, got {norm!r}")
    if is_ball and (isinstance(eps, bool) or not isinstance(eps, numbers.Real)):
        raise TypeError(f"eps must be a number, got {type(eps).__name__}")
    if is_ball and not (0 <= eps < math.inf):
        raise ValueError(f"eps must be 0 or more and finite, got {eps}")

    named = {"x": x} if is_ball else box
    for name, tensor in named.items():
        if not isinstance(tensor, Tensor):
            raise TypeError(f"{name} must be a torch.Tensor, got {type(tensor).__name__}")
        _check_numbers(name, tensor)
        if tensor.ndim != 2 or len(tensor) == 0:
            raise ValueError(
                f"{name} must have shape (n_cells, n_inputs) with at least one cell, "
                f"got {tuple(tensor.shape)}"
            )
        if n_inputs is not None and tensor.shape[1] != n_inputs:
            raise ValueError(
                f"{name} has {tensor.shape[1]} columns, but the encoder takes {n_inputs} inputs"
            )
    if is_box:
        if lower_input.shape != upper_input.shape or lower_input.dtype != upper_input.dtype:
            raise ValueError(
                "lower_input and upper_input must agree in shape and type, got "
                f"{tuple(lower_input.shape)} {lower_input.dtype} and "
                f"{tuple(upper_input.shape)} {upper_input.dtype}"
            )
        if (lower_input > upper_input).any():
            cell, column = (lower_input > upper_input).nonzero()[0].tolist()
            raise ValueError(
                f"lower_input is above upper_input at cell {cell}, column {column}: swap them?"
            )
    return list(named.values())


def _region(given: list[Tensor], eps: float | None, norm: str) -> Region:
    if len(given) == 1:
        return Region(given[0], float(eps), DUAL_ORDER[norm])
    lower, upper = given
    return Region((lower + upper) / 2, (upper - lower) / 2, None)


def _check_numbers(name: str, *tensors: Tensor) -> None:
    for tensor in tensors:
        if tensor.dtype not in (torch.float32, torch.float64):
            raise TypeError(f"{name} must be float32 or float64, got {tensor.dtype}")
        if not tensor.isfinite().all():
            raise ValueError(f"{name} must be finite, found NaN or infinity")
