"""Training: draw edges, embed their cells once, step down the loss."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from scipy.sparse import csr_matrix
from torch import Tensor, nn
from torch.optim.adamw import adamw

from rpumap._threads import plain_torch
from rpumap._validation import check_choice, check_integer
from rpumap.losses import umap_loss

Weighting = Literal["graph", "probability"]
WEIGHTINGS = ("graph", "probability")
Callback = Callable[[int, float, nn.Sequential], object]


class TrainingStep(NamedTuple):
    """What a further term of the loss can see of a step of training."""

    number: int  #: of the step, from 0
    encoder: nn.Sequential  #: the network in training
    x: Tensor  #: all training cells, (n_cells, n_genes)
    z: Tensor  #: coordinates of the cells of this step, (n_rows, n_components)
    rows: Tensor | None  #: their row numbers in `x`, (n_rows,); None if these are all cells


LossTerm = Callable[[TrainingStep], Tensor]

# Rows of a step are filled up to a multiple of this. Matrix libraries compile a kernel for each
# new shape, which costs more than the product itself if every step has another number of cells.
ROW_BLOCK = 256
REPORT_EVERY = 25
# Negative pairs are cheap beside the network, and their noise is what slows the training: 500 steps
# of 2,048 edges with six draws reach what 800 of 4,096 with one do
# (tests/benchmarks/study_training.py).
NEGATIVE_DRAWS = 6
# Steps whose edges are drawn together. In one long sorted list of points each edge is found close
# to the last one, which is several times faster than a search for each by itself.
STEPS_DRAWN = 64
# More cells take more steps, until the neighbours on their map are as good as on that of umap-learn
# up to 0.01 of trustworthiness (tests/benchmarks/peers/run.py measures both).
STEPS, CELLS_OF_STEPS = 500, 6_000


class EdgeSampler:
    """Draw lists of edges from the fuzzy graph, each edge as evenly over the lists as can be.

    Parameters
    ----------
    graph : scipy.sparse.csr_matrix of shape (n_cells, n_cells)
        Symmetric strengths p. Each edge is stored from both of its ends, so that both are heads
        equally often.
    weighting : {"graph", "probability"}
        ``"graph"`` draws an edge as often as its strength says and then counts it as certain: the
        average is the first term of eq. 2, as in UMAP itself. ``"probability"`` draws all edges
        equally often and returns their strengths, to be used as in eq. 3.
    device : torch.device
        Where the edges are kept and drawn.
    generator : torch.Generator
        Source of randomness on that device.

    Examples
    --------
    >>> import torch
    >>> from scipy.sparse import csr_matrix
    >>> from rpumap.training import EdgeSampler
    >>> graph = csr_matrix([[0, 0.5, 0], [0.5, 0, 1], [0, 1, 0]])
    >>> draw = torch.Generator().manual_seed(0)
    >>> ends, p = EdgeSampler(graph, "probability", torch.device("cpu"), draw).draw(4)
    >>> ends.shape, p.shape
    (torch.Size([2, 4]), torch.Size([4]))
    """

    def __init__(
        self,
        graph: csr_matrix,
        weighting: Weighting,
        device: torch.device,
        generator: torch.Generator,
    ) -> None:
        edges = graph.tocoo()
        self.ends = torch.as_tensor(np.stack([edges.row, edges.col]), device=device).long()
        self.weighting = check_choice("weighting", weighting, WEIGHTINGS)
        self.generator = generator
        self.drawn = torch.empty(0, dtype=torch.long, device=device)
        if weighting == "graph":
            # sums of many small strengths need double precision
            cumulative = np.cumsum(edges.data, dtype=np.float64)
            self.cumulative = torch.as_tensor(cumulative / cumulative[-1], device=device)
        else:
            self.p = torch.tensor(edges.data, dtype=torch.float32, device=device)

    def draw(self, n_edges: int) -> tuple[Tensor, Tensor | None]:
        """Draw edges, in random order.

        Returns
        -------
        ends : torch.Tensor of shape (2, n_edges), int64
            First and second cell of each edge.
        p : torch.Tensor of shape (n_edges,) or None
            Strengths for ``"probability"``, None for ``"graph"``.
        """
        if len(self.drawn) < n_edges:
            self.drawn = self._draw_ahead(n_edges * STEPS_DRAWN)
        edge, self.drawn = self.drawn[:n_edges], self.drawn[n_edges:]
        p = None if self.weighting == "graph" else self.p.index_select(0, edge)
        return self.ends.index_select(1, edge), p

    def _draw_ahead(self, n_edges: int) -> Tensor:
        """Draw one point from each of `n_edges` equal intervals, find their edges, and shuffle."""
        draw, device, n_known = self.generator, self.ends.device, self.ends.shape[1]
        points = torch.rand(n_edges, dtype=torch.float64, device=device, generator=draw)
        points = (points + torch.arange(n_edges, device=device)) / n_edges
        if self.weighting == "graph":
            edge = torch.searchsorted(self.cumulative, points)
        else:
            edge = (points * n_known).long()
        return edge.clamp_(max=n_known - 1)[torch.randperm(n_edges, device=device, generator=draw)]


def distinct_rows(ends: Tensor, n_cells: int) -> tuple[Tensor, Tensor]:
    """List each cell of a batch of edges once, and index that list by the edges.

    Parameters
    ----------
    ends : torch.Tensor of shape (2, n_edges)
        Cells of each edge.
    n_cells : int
        Number of cells in all.

    Returns
    -------
    rows : torch.Tensor
        Distinct cells, filled up with cell 0 to a multiple of ``ROW_BLOCK``.
    index : torch.Tensor of shape (2, n_edges)
        For each end of an edge, where in `rows` its cell stands.

    Examples
    --------
    >>> import torch
    >>> from rpumap.training import distinct_rows
    >>> rows, index = distinct_rows(torch.tensor([[7, 7, 2], [2, 9, 9]]), n_cells=10)
    >>> rows[:3].tolist(), index.tolist(), len(rows)
    ([2, 7, 9], [[1, 1, 0], [0, 2, 2]], 256)
    """
    seen = torch.zeros(n_cells, dtype=torch.bool, device=ends.device)
    seen[ends.flatten()] = True
    rows = seen.nonzero().squeeze(1)
    place = torch.empty(n_cells, dtype=torch.long, device=ends.device)
    place[rows] = torch.arange(len(rows), device=ends.device)
    return nn.functional.pad(rows, (0, -len(rows) % ROW_BLOCK)), place[ends]


class Adam:
    """The optimizer Adam (Kingma and Ba 2015), without the import of PyTorch's compiler.

    torch.optim.AdamW brings that along, which takes longer than training on some thousand cells.

    Parameters
    ----------
    parameters : iterable of torch.nn.Parameter
        What is trained, in place.
    weight_decay : float
        Share of itself, times the learning rate, that a parameter loses in every step (AdamW,
        Loshchilov and Hutter 2019).

    Examples
    --------
    >>> import torch
    >>> from rpumap.training import Adam
    >>> weight = torch.nn.Parameter(torch.tensor([1.0, -1.0]))
    >>> (weight * torch.tensor([5.0, 0.1])).sum().backward()
    >>> Adam([weight]).step(learning_rate=0.5)
    >>> [round(value, 3) for value in weight.tolist()]
    [0.5, -1.5]
    """

    def __init__(self, parameters: Iterable[nn.Parameter], weight_decay: float = 0.0) -> None:
        self.weight_decay = weight_decay
        self.parameters: list[Tensor] = [p for p in parameters if p.requires_grad]
        self.means = [torch.zeros_like(p) for p in self.parameters]
        self.squares = [torch.zeros_like(p) for p in self.parameters]
        self.steps = [torch.zeros((), device=p.device) for p in self.parameters]

    @torch.no_grad()
    def step(self, learning_rate: float) -> None:
        """Move the parameters against their gradients, and forget those."""
        adamw(
            self.parameters,
            [torch.zeros_like(p) if p.grad is None else p.grad for p in self.parameters],
            self.means,
            self.squares,
            max_exp_avg_sqs=[],
            state_steps=self.steps,
            fused=True,
            lr=learning_rate,
            beta1=0.9,
            beta2=0.999,
            eps=1e-8,
            weight_decay=self.weight_decay,
            amsgrad=False,
            maximize=False,
        )
        for parameter in self.parameters:
            parameter.grad = None


def default_steps(n_cells: int) -> int:
    """Return the steps for a number of cells: 500, beyond 6,000 cells growing with the root.

    Examples
    --------
    >>> from rpumap.training import default_steps
    >>> [default_steps(n_cells) for n_cells in (3_000, 18_000, 100_000)]
    [500, 866, 2041]
    """
    return round(STEPS * max(1.0, n_cells / CELLS_OF_STEPS) ** 0.5)


def learning_rate_at(step: int, n_steps: int, peak: float) -> float:
    """Learning rate of a step: constant for the first half, then falling linearly to zero.

    Examples
    --------
    >>> from rpumap.training import learning_rate_at
    >>> [learning_rate_at(step, 100, 1e-3) for step in (0, 50, 75)]
    [0.001, 0.001, 0.0005]
    """
    return peak * min(1.0, 2 * (1 - step / n_steps))


def has_fast_bfloat16(device: torch.device) -> bool:
    """Tell whether products of 16-bit numbers are faster than of 32-bit ones on a device.

    Examples
    --------
    >>> import torch
    >>> from rpumap.training import has_fast_bfloat16
    >>> isinstance(has_fast_bfloat16(torch.device("cpu")), bool)
    True
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu" and hasattr(torch.cpu, "get_capabilities"):
        found = torch.cpu.get_capabilities()
        return bool(found.get("amx_bf16") or found.get("avx512_bf16"))
    return False


class _Embedder:
    """The encoder during training: wide products in 16 bits, coordinates in 32.

    Sixteen bits carry about three digits, enough for the direction of a step but not for
    coordinates, so the last layer always runs in single precision.
    """

    def __init__(self, encoder: nn.Sequential, x: Tensor) -> None:
        self.body, self.head = encoder[:-1], encoder[-1]
        self.low_precision = len(encoder) > 1 and has_fast_bfloat16(x.device)
        self.x = x.bfloat16() if self.low_precision else x

    def __call__(self, rows: Tensor | None) -> Tensor:
        x = self.x if rows is None else self.x.index_select(0, rows)
        with torch.autocast(
            x.device.type, torch.bfloat16, enabled=self.low_precision, cache_enabled=False
        ):
            hidden = self.body(x)
        return self.head(hidden.float())


def train(
    encoder: nn.Sequential,
    x: Tensor,
    graph: csr_matrix,
    *,
    a: float,
    b: float,
    weighting: Weighting = "graph",
    negative_sample_rate: int = 5,
    repulsion_strength: float = 1.0,
    batch_size: int = 2048,
    n_steps: int | None = None,
    learning_rate: float = 1e-2,
    weight_decay: float = 0.3,
    generator: torch.Generator | None = None,
    verbose: bool = False,
    callbacks: Iterable[Callback] = (),
    terms: Mapping[str, LossTerm] | None = None,
) -> dict[str, np.ndarray]:
    """Train an encoder in place with the UMAP loss.

    Parameters
    ----------
    encoder : torch.nn.Sequential
        Network as :func:`rpumap.networks.mlp` builds it, on the device of `x`.
    x : torch.Tensor of shape (n_cells, n_genes), float32
        The cells. They stay on their device.
    graph : scipy.sparse.csr_matrix of shape (n_cells, n_cells)
        Fuzzy graph.
    a, b : float
        Constants of eq. 11.
    weighting, negative_sample_rate, repulsion_strength
        See :class:`EdgeSampler` and :func:`rpumap.losses.umap_loss`. Negative pairs are drawn
        ``NEGATIVE_DRAWS`` times.
    batch_size : int
        Edges drawn a step.
    n_steps : int, optional
        Gradient steps; :func:`default_steps` where it is None. There are no epochs: every step
        draws its edges anew.
    learning_rate : float
        Peak rate of Adam; see :func:`learning_rate_at`, and :class:`rpumap.ParametricUMAP` on the
        default of 1e-2.
    weight_decay : float
        See :class:`Adam`.
    generator : torch.Generator, optional
        Source of randomness on the device of `x`.
    verbose : bool
        Show a progress bar with the loss and the time left.
    callbacks : iterable of callables
        Each is called after every step as ``callback(step, loss, encoder)``; training stops early
        when one returns something true.
    terms : mapping of str to callable, optional
        Further terms of the loss by name: each is called in every step with a
        :class:`TrainingStep` and returns a scalar tensor, which is added to the loss.

    Returns
    -------
    dict of ndarray, each of shape (n_steps_done,)
        ``"loss"``, its two terms ``"attraction"`` and ``"repulsion"``, those of `terms`, and
        ``"learning_rate"``.

    Raises
    ------
    FloatingPointError
        If the loss or a weight stops being finite.

    Warns
    -----
    UserWarning
        If Ctrl-C ended the training: the encoder then holds the weights so far.

    Notes
    -----
    On the CPU, training runs on one thread whatever PyTorch is set to, so that the same seed gives
    the same bits, and the time does not explode on a busy machine.

    Examples
    --------
    >>> import numpy as np, torch
    >>> from rpumap.networks import mlp
    >>> from rpumap.graph import fuzzy_graph, nearest_neighbors
    >>> from rpumap.training import train
    >>> X = np.random.default_rng(0).normal(size=(60, 4)).astype("float32")
    >>> draw = torch.Generator().manual_seed(0)
    >>> encoder = mlp(4, (8,), 2, draw)
    >>> graph = fuzzy_graph(*nearest_neighbors(X, 5))
    >>> history = train(
    ...     encoder, torch.as_tensor(X), graph, a=1.577, b=0.895, n_steps=50, generator=draw
    ... )
    >>> bool(history["loss"][-1] < history["loss"][0])
    True
    """
    from tqdm import tqdm

    n_steps = default_steps(len(x)) if n_steps is None else check_integer("n_steps", n_steps, 0)
    check_integer("batch_size", batch_size, least=1)
    check_integer("negative_sample_rate", negative_sample_rate, least=0)
    if generator is None:
        generator = torch.Generator(x.device)
        generator.seed()
    sampler = EdgeSampler(graph, weighting, x.device, generator)
    embed = _Embedder(encoder, x)
    encoder.zero_grad()
    optimizer = Adam(encoder.parameters(), weight_decay)
    every_cell = len(x) <= batch_size  # most cells are in the batch: skip the bookkeeping
    callbacks, terms = tuple(callbacks), dict(terms or {})
    losses: list[Tensor] = []
    progress = tqdm(total=n_steps, desc="training", unit="step", disable=not verbose)
    try:
        with plain_torch():
            for step in range(n_steps):
                ends, p = sampler.draw(batch_size)
                rows, index = (None, ends) if every_cell else distinct_rows(ends, len(x))
                z = embed(rows)
                at_ends = z.T.contiguous().index_select(1, index.flatten())
                heads, tails = at_ends.unflatten(1, (2, batch_size)).unbind(1)
                positive, negative = umap_loss(
                    heads,
                    tails,
                    a,
                    b,
                    p=p,
                    n_negatives=negative_sample_rate,
                    n_draws=NEGATIVE_DRAWS,
                    repulsion_strength=repulsion_strength,
                )
                seen = TrainingStep(step, encoder, x, z, rows)
                loss = torch.stack([positive, negative, *_further(terms, seen)])
                loss.sum().backward()
                optimizer.step(learning_rate_at(step, n_steps, learning_rate))
                losses.append(loss.detach())
                if callbacks and _should_stop(callbacks, step, losses[-1], encoder):
                    break
                if (step + 1) % REPORT_EVERY == 0 or step + 1 == n_steps:
                    _report(progress, step, losses[-1])
    except KeyboardInterrupt:
        warnings.warn(
            f"training was interrupted after {len(losses)} of {n_steps} steps: "
            "the model so far is kept",
            stacklevel=2,
        )
    finally:
        progress.close()
    _check_weights(encoder)
    return _history(losses, ["attraction", "repulsion", *terms], n_steps, learning_rate)


def _should_stop(
    callbacks: tuple[Callback, ...], step: int, losses: Tensor, encoder: nn.Sequential
) -> bool:
    loss = float(losses.sum())
    return any([callback(step, loss, encoder) for callback in callbacks])  # every one is called


def _further(terms: Mapping[str, LossTerm], seen: TrainingStep) -> list[Tensor]:
    try:
        return [term(seen) for term in terms.values()]
    except ValueError:
        _check_weights(seen.encoder)  # what cannot be bounded, say, may be a network that diverged
        raise


def _report(progress: Any, step: int, losses: Tensor) -> None:
    loss = float(losses.sum())
    if not np.isfinite(loss):
        raise FloatingPointError(
            f"the loss became {loss} at step {step + 1}: lower learning_rate or scale the data"
        )
    progress.update(step + 1 - progress.n)
    progress.set_postfix(loss=f"{loss:.3f}")


def _check_weights(encoder: nn.Sequential) -> None:
    if not all(bool(values.isfinite().all()) for values in encoder.parameters()):
        raise FloatingPointError(
            "the weights are no longer finite: the training diverged. Lower learning_rate or scale "
            "the data"
        )


def _history(
    losses: list[Tensor], names: list[str], n_steps: int, learning_rate: float
) -> dict[str, np.ndarray]:
    values = torch.stack(losses).T.cpu().numpy() if losses else np.empty((len(names), 0), "f4")
    return {
        "loss": values.sum(axis=0),
        **dict(zip(names, values, strict=True)),
        "learning_rate": np.array(
            [learning_rate_at(step, n_steps, learning_rate) for step in range(len(losses))]
        ),
    }
