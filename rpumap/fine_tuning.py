r"""Train a fitted model further, to be robust, or to take in further cells, and keep its map.

All start from a fitted model and add two terms to the UMAP loss: one of their own, and the
reconstruction loss (eq. 7), which keeps the cells at their coordinates :math:`z_i` on the map of
the model that was given. As averages over cells, so that they do not grow with their number,

.. math:: \mathcal{L} = \mathcal{L}_\text{UMAP} + \mathcal{L}_\text{own}
          + \mu \, \frac1n \sum_i \frac{\lVert f(x_i) - z_i \rVert^2}{s^2},

with :math:`f` the network in training and :math:`s^2` the total variance of the given map.
:func:`robustify` adds the loss of wide certified bounds (eq. 8),

.. math:: \lambda \, \frac1n \sum_i \ell(u_i - l_i) ,

with :math:`l_i, u_i` the bounds of cell :math:`i` over its ball. :func:`resist_dropout` adds the
displacement of cells that lost counts,

.. math:: \kappa \, \mathbb{E} \frac{\lVert f(\tilde x_i) - z_i \rVert^2}{s^2} ,

with :math:`\tilde x_i` a copy of cell :math:`i` some of whose counts were dropped, drawn anew in
each step. :func:`extend` has no term of its own, but more cells: the UMAP loss is that of old and
new ones together, and the reconstruction loss is the average over the old ones, which are landmarks
that the new ones arrange themselves around.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from rpumap._threads import plain_torch
from rpumap._validation import (
    check_cells,
    check_choice,
    check_integer,
    check_number,
    check_seed,
    choose_device,
    dense,
)
from rpumap.dropout import CountDropper
from rpumap.estimator import ParametricUMAP, check_model, embed, embed_cells, graph_of, loss_options
from rpumap.graph import check_graph
from rpumap.losses import PENALTIES, bound_loss, reconstruction_loss
from rpumap.preprocessing import Preprocessor
from rpumap.training import LossTerm, TrainingStep, train
from rpumap.verification.bounds import crown, crown_ibp, linear_layers
from rpumap.verification.regions import DUAL_ORDER, Ball

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import ArrayLike
    from scipy.sparse import csr_matrix

BOUNDS = {"crown_ibp": crown_ibp, "crown": crown}
# Weight of the bound loss, chosen on the pancreas cells: the largest that leaves the scores alone.
STRENGTH = {"width": 0.3, "area": 0.05}
# Cells whose bounds enter a step. `crown` takes fifteen to thirty times as long for a cell.
BOUNDED_CELLS = {"crown_ibp": 256, "crown": 24}
WARM_UP = 0.25  # share of the steps
DROPPED_CELLS = 512  # copies in a step
# Coordinates of the same cells agree up to rounding of the cells, of the network, and of a file.
# In standard deviations of the map.
SAME_CELLS = 1e-3


@plain_torch()
def fine_tune(
    model: ParametricUMAP,
    X: ArrayLike,
    name: str,
    term: LossTerm,
    *,
    reconstruction: float,
    n_steps: int,
    learning_rate: float,
    generator: torch.Generator,
) -> ParametricUMAP:
    """Return a new model, trained further with the UMAP loss, a term, and the reconstruction loss.

    Parameters
    ----------
    model : ParametricUMAP
        A fitted model. It is not changed.
    X : array-like or sparse matrix of shape (n_cells, n_genes)
        The cells it was fitted on.
    name : str
        Name of the term in ``history_``.
    term : callable
        Called in every step with a :class:`rpumap.training.TrainingStep`; returns a scalar tensor.
    reconstruction : float
        Weight of the reconstruction loss.
    n_steps, learning_rate
        Of the further training.
    generator : torch.Generator
        Source of randomness on the device of `model`.

    Returns
    -------
    ParametricUMAP
        Fitted, with the parameters and the graph of `model`.

    Raises
    ------
    TypeError
        If `model` is not a ParametricUMAP.
    sklearn.exceptions.NotFittedError
        If it is not fitted.
    ValueError
        If `X` are not the cells it was fitted on, or a number is out of range.
    FloatingPointError
        If the training diverges.

    Examples
    --------
    Keep the map near the origin:

    >>> import numpy as np
    >>> from rpumap import ParametricUMAP
    >>> from rpumap.fine_tuning import fine_tune, generator_for
    >>> X = np.random.default_rng(0).normal(size=(200, 10))
    >>> model = ParametricUMAP(n_steps=20, random_state=0).fit(X)
    >>> tuned = fine_tune(
    ...     model, X, "length", lambda step: step.z.square().mean(), reconstruction=0.0,
    ...     n_steps=20, learning_rate=1e-2, generator=generator_for(model, None),
    ... )
    >>> bool(np.abs(tuned.embedding_).mean() < np.abs(model.embedding_).mean())
    True
    """
    encoder, X = _start(model, X, reconstruction, n_steps, learning_rate)
    terms = {name: term, "reconstruction": _keep(model, reconstruction, generator.device)}
    return _train_further(model, encoder, X, model.graph_, terms, n_steps, learning_rate, generator)


def _start(
    model: ParametricUMAP, X: ArrayLike, reconstruction: float, n_steps: int, learning_rate: float
) -> tuple[nn.Sequential, np.ndarray]:
    """Check what all further training is told, and return a copy of the network, and the cells."""
    check_model(model)
    check_number("reconstruction", reconstruction)
    check_number("learning_rate", learning_rate, above=True)
    check_integer("n_steps", n_steps, least=1)
    return _trainable(model), _check_same_cells(model, X)


def _keep(model: ParametricUMAP, weight: float, device: torch.device) -> LossTerm:
    """Return the reconstruction loss of the cells of a model, which come first in the training."""
    reference = _reference(model, device)
    variance, n_kept = reference.var(dim=0).sum(), len(reference)

    def keep(step: TrainingStep) -> Tensor:
        z, rows = step.z, step.rows
        if len(step.x) > n_kept:  # the further ones are free
            rows = torch.arange(len(z), device=z.device) if rows is None else rows
            z, rows = z[rows < n_kept], rows[rows < n_kept]
            if not len(z):
                return z.sum()  # there is no mean of no cells
        wanted = reference if rows is None else reference[rows]
        return reconstruction_loss(z, wanted, variance, weight)

    return keep


def _train_further(
    model: ParametricUMAP,
    encoder: nn.Sequential,
    X: np.ndarray,
    graph: csr_matrix,
    terms: dict[str, LossTerm],
    n_steps: int,
    learning_rate: float,
    generator: torch.Generator,
) -> ParametricUMAP:
    """Train a copy of the network of a model on cells and their graph; return the new model."""
    device = choose_device(model.device)
    history = train(
        encoder.to(device),
        torch.as_tensor(X, device=device),
        graph,
        **loss_options(model),
        n_steps=n_steps,
        learning_rate=learning_rate,
        generator=generator,
        terms=terms,
    )
    tuned = copy.copy(model)
    tuned.callbacks = model.callbacks
    tuned.graph_, tuned.history_, tuned.encoder_ = graph, history, encoder.cpu()
    tuned.embedding_ = embed_cells(tuned.encoder_, X)
    return tuned


def _trainable(model: ParametricUMAP) -> nn.Sequential:
    """Copy the network of a model, which must be of the kind that ``fit`` makes."""
    check_is_fitted(model, ["encoder_", "embedding_", "graph_"])
    layers = linear_layers(model.encoder_)
    n_genes, n_components = layers[0][0].shape[1], len(layers[-1][0])
    shape = model.n_features_in_, np.shape(model.embedding_)[1]
    if (n_genes, n_components) != shape or layers[0][0].dtype != torch.float32:
        raise TypeError(
            f"model.encoder_ was changed: it must map {shape[0]} genes to {shape[1]} coordinates "
            f"in torch.float32, but maps {n_genes} to {n_components} in {layers[0][0].dtype}"
        )
    return copy.deepcopy(model.encoder_).requires_grad_()


def generator_for(
    model: ParametricUMAP, random_state: int | np.random.RandomState | None
) -> torch.Generator:
    """Return a seeded source of randomness on the device of a model; its own seed by default.

    Examples
    --------
    >>> from rpumap import ParametricUMAP
    >>> from rpumap.fine_tuning import generator_for
    >>> generator_for(ParametricUMAP(random_state=0), 3).device
    device(type='cpu')
    """
    seed = check_seed(model.random_state if random_state is None else random_state)
    return torch.Generator(choose_device(model.device)).manual_seed(int(seed.randint(2**31 - 1)))


@plain_torch()
def robustify(
    model: ParametricUMAP,
    X: ArrayLike,
    eps: float = 0.2,
    norm: str = "linf",
    *,
    bound_method: Literal["crown_ibp", "crown"] = "crown_ibp",
    penalty: Literal["width", "area"] = "width",
    strength: float | None = None,
    reconstruction: float = 10.0,
    n_steps: int = 500,
    learning_rate: float = 3e-3,
    random_state: int | np.random.RandomState | None = None,
) -> ParametricUMAP:
    r"""Train a fitted model further, so that noise provably moves its cells less (eq. 5 to 8).

    Parameters
    ----------
    model : ParametricUMAP
        A fitted model. It is not changed.
    X : array-like of shape (n_cells, n_genes)
        The cells it was fitted on.
    eps : float, default 0.2
        Radius of the balls, above 0, in standard deviations of a gene. It is raised from 0 over the
        first quarter of the steps, because the bounds of an ordinary model are too wide to start
        from.
    norm : {"linf", "l2", "l1"}
        Shape of the balls, see :func:`rpumap.certify`.
    bound_method : {"crown_ibp", "crown"}
        How bounds are found during training. ``"crown"`` is tighter, but so much slower that each
        step can afford the bounds of 24 cells and not of 256.
    penalty : {"width", "area"}
        See :func:`rpumap.losses.bound_loss`; the paper has ``"area"``.
    strength : float, optional
        :math:`\lambda`, the weight of the bound loss, which is relative to the size of the map. By
        default 0.3 for ``"width"`` and 0.05 for ``"area"``.
    reconstruction : float, default 10.0
        :math:`\mu`, the weight of the reconstruction loss (eq. 7), relative to the variance of the
        map.
    n_steps : int, default 500
        Gradient steps.
    learning_rate : float, default 3e-3
        Peak learning rate of Adam.
    random_state : int, RandomState or None
        By default that of `model`.

    Returns
    -------
    ParametricUMAP
        A new fitted model, with the parameters and the graph of `model`. Its ``history_`` has two
        further terms, ``"bound"`` and ``"reconstruction"``.

    Raises
    ------
    TypeError
        If `model` is not a ParametricUMAP.
    sklearn.exceptions.NotFittedError
        If it is not fitted.
    ValueError
        If `X` are not the cells it was fitted on, or an option is out of range.
    FloatingPointError
        If the training diverges.

    Notes
    -----
    The bounds during training are not widened for rounding; those of :func:`rpumap.certify` are.

    Examples
    --------
    >>> import numpy as np
    >>> import rpumap
    >>> X = np.random.default_rng(0).normal(size=(200, 10))
    >>> model = rpumap.ParametricUMAP(n_steps=50, random_state=0).fit(X)
    >>> robust = rpumap.robustify(model, X, eps=0.2, n_steps=50)
    >>> widths = [np.ptp(rpumap.certify(m, X, eps=0.2), axis=0).mean() for m in (model, robust)]
    >>> bool(widths[1] < widths[0])
    True
    """
    check_model(model)
    check_choice("norm", norm, DUAL_ORDER)
    check_choice("bound_method", bound_method, BOUNDS)
    check_choice("penalty", penalty, PENALTIES)
    weight = check_number("strength", STRENGTH[penalty] if strength is None else strength)
    eps = check_number("eps", eps, above=True)
    bound, n_bounded = BOUNDS[bound_method], BOUNDED_CELLS[bound_method]
    draw = generator_for(model, random_state)
    scale = _reference(model, draw.device).std(dim=0)

    def wide_bounds(step: TrainingStep) -> Tensor:
        radius = eps * min(1.0, (step.number + 1) / (WARM_UP * n_steps))
        cells = torch.randint(len(step.x), (n_bounded,), generator=draw, device=draw.device)
        lower, upper = bound(step.encoder, Ball(step.x[cells], radius, norm))
        return weight * bound_loss(lower, upper, scale, penalty)

    return fine_tune(
        model,
        X,
        "bound",
        wide_bounds,
        reconstruction=reconstruction,
        n_steps=n_steps,
        learning_rate=learning_rate,
        generator=draw,
    )


@plain_torch()
def resist_dropout(
    model: ParametricUMAP,
    prep: Preprocessor,
    adata: AnnData,
    max_ratio: float = 0.9,
    *,
    strength: float = 10.0,
    reconstruction: float = 10.0,
    n_steps: int = 500,
    learning_rate: float = 3e-3,
    random_state: int | np.random.RandomState | None = None,
) -> ParametricUMAP:
    r"""Train a fitted model further, so that lost counts move its cells less.

    In each step some cells lose counts, each at a ratio drawn between 0 and `max_ratio`. They are
    prepared as query cells would be, and pulled towards the coordinates of the intact cells.

    Parameters
    ----------
    model : ParametricUMAP
        A fitted model, for example one from :func:`robustify`. It is not changed.
    prep : Preprocessor
        That which prepared its cells.
    adata : AnnData of shape (n_cells, any number of genes)
        The cells that the model was fitted on, as ``prep.transform`` takes them.
    max_ratio : float, default 0.9
        Largest share of the non-zero entries to be lost, above 0 and below 1.
    strength : float, default 10.0
        :math:`\kappa`, the weight of the dropped copies, relative to the variance of the map. A
        larger weight resists more and lowers trustworthiness a little.
    reconstruction : float, default 10.0
        :math:`\mu`, the weight of the reconstruction loss of intact cells (eq. 7), relative to the
        same.
    n_steps : int, default 500
        Gradient steps.
    learning_rate : float, default 3e-3
        Peak learning rate of Adam.
    random_state : int, RandomState or None
        By default that of `model`.

    Returns
    -------
    ParametricUMAP
        A new fitted model, with the parameters and the graph of `model`. Its ``history_`` has two
        further terms, ``"dropout"`` and ``"reconstruction"``.

    Raises
    ------
    TypeError
        If `model` is not a ParametricUMAP, or `prep` not a Preprocessor.
    sklearn.exceptions.NotFittedError
        If one of them is not fitted.
    ValueError
        If these are not the cells that the model was fitted on, or an option is out of range.
    FloatingPointError
        If the training diverges.

    Notes
    -----
    Dropout is that of figure 4 of the paper: whole entries are lost, each with the same chance,
    and the library size falls with them; see :class:`rpumap.dropout.CountDropper`. Training on
    noisy copies is not in the paper. Its best answer for a dropped cell is the mean of the
    coordinates of all cells that could have looked so; where few counts are left, that is close to
    the middle of the map.

    Examples
    --------
    >>> import rpumap
    >>> adata = rpumap.datasets.pancreas(source="simulated")[::10]
    >>> prep = rpumap.Preprocessor(n_top_genes=50)
    >>> model = rpumap.ParametricUMAP(n_steps=50, random_state=0).fit(prep.fit_transform(adata))
    >>> steady = rpumap.resist_dropout(model, prep, adata, n_steps=50)
    >>> bool(steady.history_["dropout"][-1] < steady.history_["dropout"][0])
    True
    """
    if not isinstance(prep, Preprocessor):
        raise TypeError(f"prep must be a fitted Preprocessor, got {type(prep).__name__}")
    check_model(model)
    check_is_fitted(prep)
    weight = check_number("strength", strength)
    max_ratio = check_number("max_ratio", max_ratio, above=True)
    if max_ratio >= 1:
        raise ValueError(f"max_ratio must be below 1, got {max_ratio!r}: something must be left")
    X = np.asarray(prep.transform(adata))
    draw = generator_for(model, random_state)
    drop = CountDropper(prep, adata, draw.device)
    reference = _reference(model, draw.device)
    variance = reference.var(dim=0).sum()

    def dropped_copies(step: TrainingStep) -> Tensor:
        cells = torch.randint(len(step.x), (DROPPED_CELLS,), generator=draw, device=draw.device)
        ratio = max_ratio * torch.rand(
            DROPPED_CELLS, 1, generator=draw, device=draw.device, dtype=torch.float32
        )
        chance = torch.rand(
            DROPPED_CELLS, step.x.shape[1], generator=draw, device=draw.device, dtype=torch.float32
        )
        z = step.encoder(drop(cells, chance >= ratio, ratio))
        return reconstruction_loss(z, reference[cells], variance, weight)

    return fine_tune(
        model,
        X,
        "dropout",
        dropped_copies,
        reconstruction=reconstruction,
        n_steps=n_steps,
        learning_rate=learning_rate,
        generator=draw,
    )


@plain_torch()
def extend(
    model: ParametricUMAP,
    X: ArrayLike,
    X_new: ArrayLike,
    *,
    graph: Any = None,
    reconstruction: float = 10.0,
    n_steps: int = 500,
    learning_rate: float = 3e-3,
    random_state: int | np.random.RandomState | None = None,
) -> ParametricUMAP:
    r"""Train a fitted model further on more cells, while those it was fitted to stay.

    Where ``model.transform`` puts cells of a new type among those that it knows, this gives them a
    place of their own, as a fit to all cells would, but on the same map: the training cells are
    landmarks.

    Parameters
    ----------
    model : ParametricUMAP
        A fitted model. It is not changed.
    X : array-like or sparse matrix of shape (n_cells, n_genes)
        The cells it was fitted on.
    X_new : array-like or sparse matrix of shape (n_new, n_genes)
        Further cells, prepared as those of `X` were.
    graph : sparse matrix or array of shape (n_cells + n_new, n_cells + n_new), optional
        Fuzzy graph of all cells, the old ones first, see :func:`rpumap.graph.check_graph`. By
        default it is computed as the parameters of `model` say; it must be given if the model was
        fitted to a given graph or to precomputed neighbours.
    reconstruction : float, default 10.0
        :math:`\mu`, the weight of the reconstruction loss (eq. 7) of the training cells, relative
        to the variance of their map.
    n_steps : int, default 500
        Gradient steps.
    learning_rate : float, default 3e-3
        Peak learning rate of Adam.
    random_state : int, RandomState or None
        By default that of `model`.

    Returns
    -------
    ParametricUMAP
        A new fitted model with the parameters of `model`. Its ``embedding_`` and ``graph_`` are
        those of all cells, the old ones first; its ``history_`` has one further term,
        ``"reconstruction"``.

    Raises
    ------
    TypeError
        If `model` is not a ParametricUMAP.
    sklearn.exceptions.NotFittedError
        If it is not fitted.
    ValueError
        If `X` are not the cells it was fitted on, the genes of `X_new` are others, a graph must be
        given or is none, or a number is out of range.
    FloatingPointError
        If the training diverges.

    Warns
    -----
    UserWarning
        If cells have no edge in `graph`.

    Notes
    -----
    The loss is

    .. math:: &\mathcal{L}_\text{UMAP}(\text{all cells}) \\
              &+ \mu \, \frac1n \sum_{i \text{ fitted}} \frac{\lVert f(x_i) - z_i \rVert^2}{s^2}.

    With the defaults, and a type of the pancreas or of the malaria cells left out of the fit, the
    training cells move by 0.02 to 0.03 standard deviations of the map (median), and its
    trustworthiness is that of a fit to all cells (tests/benchmarks/study_landmarks.py). A weight of
    1 doubles the movement; one of 100 leaves new cells less room.

    Such landmarks are known from the ParametricUMAP of umap-learn. Genes, means and standard
    deviations stay those of the training cells: what only other genes tell apart is not told apart.
    Robustness that :func:`robustify` or :func:`resist_dropout` gave is in part lost; call them
    again, with all cells.

    Examples
    --------
    >>> import numpy as np
    >>> import rpumap
    >>> X = np.random.default_rng(0).normal(size=(250, 10))
    >>> X[200:, 0] += 8
    >>> model = rpumap.ParametricUMAP(n_steps=50, random_state=0).fit(X[:200])
    >>> extended = rpumap.extend(model, X[:200], X[200:], n_steps=50)
    >>> extended.embedding_.shape
    (250, 2)
    """
    encoder, X = _start(model, X, reconstruction, n_steps, learning_rate)
    X = np.concatenate([X, check_cells(model, X_new)])
    draw = generator_for(model, random_state)
    if graph is not None:
        known = check_graph(graph, len(X))
    elif getattr(model, "graph_is_given_", False) or not isinstance(model.neighbors, str):
        raise ValueError(
            "the model was fitted to a given graph or to precomputed neighbours, which say nothing "
            "of X_new: pass graph, of the cells of X and X_new together, such as "
            "obsp['connectivities'] of both"
        )
    else:
        own = model.random_state if random_state is None else random_state
        known = graph_of(model, X, check_seed(own))
    terms = {"reconstruction": _keep(model, reconstruction, draw.device)}
    extended = _train_further(model, encoder, X, known, terms, n_steps, learning_rate, draw)
    extended.graph_is_given_ = graph is not None
    return extended


def _reference(model: ParametricUMAP, device: torch.device) -> Tensor:
    """Return the coordinates of a model's cells as a tensor; a memory map is copied."""
    return torch.as_tensor(dense(np.asarray(model.embedding_)), device=device)


def _check_same_cells(model: ParametricUMAP, X: ArrayLike) -> np.ndarray:
    """Return the cells as a dense array, if the model was fitted on them."""
    X = check_cells(model, X)
    n_wanted = len(model.embedding_)
    if len(X) != n_wanted:
        raise ValueError(
            f"X must be the cells that the model was fitted on, in the same order: got {len(X)} "
            f"cells instead of {n_wanted}"
        )
    known = np.asarray(model.embedding_)
    moved = np.abs(embed(model.encoder_, X) - known).max(axis=1)
    scale = float(known.std())
    others = np.flatnonzero(~(moved <= SAME_CELLS * (scale if scale > 0 else 1.0)))
    if len(others):
        raise ValueError(
            "X must be the cells that the model was fitted on, in the same order: "
            f"{len(others)} of {n_wanted} have other coordinates on its map, the first of which is "
            f"cell {others[0]}"
        )
    return X
