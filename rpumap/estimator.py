"""ParametricUMAP: graph, network and training behind scikit-learn's fit and transform."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted
from torch import nn

from rpumap._threads import plain_torch
from rpumap._validation import (
    check_cells,
    check_choice,
    check_flag,
    check_integer,
    check_number,
    check_seed,
    choose_device,
)
from rpumap.graph import check_graph, check_neighbors, fuzzy_graph, nearest_neighbors
from rpumap.losses import fit_ab
from rpumap.networks import mlp
from rpumap.training import WEIGHTINGS, Callback, Weighting, train

if TYPE_CHECKING:
    from numpy.typing import ArrayLike
    from scipy.sparse import csr_matrix

TRANSFORM_BATCH = 1024


class ParametricUMAP(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    r"""UMAP whose embedding is a neural network, so that new cells can be embedded too.

    Parameters
    ----------
    n_components : int, default 2
        Dimensions of the embedding.
    n_neighbors : int, default 15
        Neighbours of each cell in the fuzzy graph, the cell itself counted. Lowered to the number
        of cells, with a warning, where there are fewer.
    min_dist, spread : float, default 0.1 and 1.0
        How tightly points may be packed, and the scale of the embedding; both in its units.
    metric : str, default "euclidean"
        Distance between cells.
    hidden_sizes : sequence of int, default (128, 128)
        Widths of the hidden layers. Two of them make three layers of weights.
    weighting : {"graph", "probability"}, default "graph"
        How edges enter the loss: eq. 4, or eq. 3 with their strengths.
    negative_sample_rate : int, default 5
        Negative pairs for each edge.
    repulsion_strength : float, default 1.0
        Weight of the negative pairs, the paper's eta.
    batch_size : int, default 2048
        Edges drawn in each step.
    n_steps : int or None, default None
        Gradient steps of Adam. None: 500 up to 6,000 cells, and beyond that
        ``500 * sqrt(n_cells / 6000)``, which is 2,041 for 100,000.
    learning_rate : float, default 1e-2
        Peak learning rate; constant for the first half, then linear to zero. The paper gives 1e-3,
        which takes more steps to embed held-out cells as well (chapter 3).
    weight_decay : float, default 0.3
        Share of itself, times the learning rate, that a weight loses in every step (Loshchilov and
        Hutter 2019). The paper has none, which is 0. With it held-out cells are embedded better,
        and certified boxes are smaller (chapter 3).
    neighbors : {"auto", "exact", "ivf", "nndescent"} or pair of arrays, default "auto"
        How nearest neighbours are found, or the neighbours themselves as ``(indices, distances)``
        with each cell in its own row, see :func:`rpumap.graph.check_neighbors`.
    device : str or torch.device, default "auto"
        Where to train. ``"auto"`` is the first CUDA device, else the CPU. The fitted model is
        always kept on the CPU.
    random_state : int, RandomState or None, default None
        The same integer gives the same bits on the same CPU, whatever the number of threads. No
        global seed is touched.
    verbose : bool, default False
        Show a progress bar.
    callbacks : iterable of callables, default ()
        Called after each step with ``(step, loss, encoder)``; return True to stop. They are not
        kept in a pickled model.

    Attributes
    ----------
    embedding_ : ndarray of shape (n_cells, n_components), float32
        The training cells on the map.
    graph_ : scipy.sparse.csr_matrix of shape (n_cells, n_cells)
        Fuzzy graph of the training cells.
    graph_is_given_ : bool
        Whether it was passed to `fit`.
    encoder_ : torch.nn.Sequential
        The trained network, on the CPU.
    history_ : dict of ndarray
        Loss, its two terms and the learning rate at each step.
    n_features_in_ : int
        Number of genes.

    Notes
    -----
    Minimises eq. 3 or 4 of Zhang and Xu, *Robust parametric UMAP for the analysis of single-cell
    data*, doi:10.1101/2023.11.14.567092; the idea is Sainburg, McInnes and Gentner (2021).

    Examples
    --------
    >>> import numpy as np
    >>> from rpumap import ParametricUMAP
    >>> X = np.random.default_rng(0).normal(size=(200, 10))
    >>> model = ParametricUMAP(n_steps=20, random_state=0).fit(X[:150])
    >>> model.transform(X[150:]).shape
    (50, 2)
    """

    def __init__(
        self,
        n_components: int = 2,
        n_neighbors: int = 15,
        min_dist: float = 0.1,
        spread: float = 1.0,
        metric: str = "euclidean",
        hidden_sizes: Sequence[int] = (128, 128),
        weighting: Weighting = "graph",
        negative_sample_rate: int = 5,
        repulsion_strength: float = 1.0,
        batch_size: int = 2048,
        n_steps: int | None = None,
        learning_rate: float = 1e-2,
        weight_decay: float = 0.3,
        neighbors: str | tuple[np.ndarray, np.ndarray] = "auto",
        device: str | torch.device = "auto",
        random_state: int | np.random.RandomState | None = None,
        verbose: bool = False,
        callbacks: Iterable[Callback] = (),
    ) -> None:
        self.n_components = n_components
        self.n_neighbors = n_neighbors
        self.min_dist = min_dist
        self.spread = spread
        self.metric = metric
        self.hidden_sizes = hidden_sizes
        self.weighting = weighting
        self.negative_sample_rate = negative_sample_rate
        self.repulsion_strength = repulsion_strength
        self.batch_size = batch_size
        self.n_steps = n_steps
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.neighbors = neighbors
        self.device = device
        self.random_state = random_state
        self.verbose = verbose
        self.callbacks = callbacks

    def fit(self, X: ArrayLike, y: Any = None, *, graph: Any = None) -> ParametricUMAP:
        """Build the graph of the cells and train the network on it.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_cells, n_genes)
            Z-scores, as :class:`rpumap.Preprocessor` computes them. Converted to float32.
        y : None
            Ignored; present for compatibility with scikit-learn.
        graph : sparse matrix or array of shape (n_cells, n_cells), optional
            A fuzzy graph of the cells, such as ``adata.obsp["connectivities"]`` of
            ``scanpy.pp.neighbors``, see :func:`rpumap.graph.check_graph`. Its neighbourhoods, in
            whatever space they were found, are those that the map is to keep. ``n_neighbors`` and
            ``metric`` are then not used. By default it is computed from `X`.

        Returns
        -------
        ParametricUMAP
            The fitted estimator.

        Raises
        ------
        TypeError
            If `X` is an AnnData.
        ValueError
            If a parameter is out of range, or `X` is empty, not finite or has a single row; if
            `graph` is no fuzzy graph of these cells, or ``neighbors`` are given as well.
        FloatingPointError
            If the training diverges. The estimator keeps what an earlier fit had found.

        Warns
        -----
        UserWarning
            If there are fewer cells than ``n_neighbors``, or cells without an edge.
        """
        X = check_cells(self, X, reset=True, least=2)
        self._check_parameters()
        device = choose_device(self.device)
        random_state = check_seed(self.random_state)
        seed = int(random_state.randint(2**31 - 1))

        is_given = graph is not None
        if is_given and not isinstance(self.neighbors, str):
            raise ValueError("pass either a graph to fit or precomputed neighbors, not both")
        graph = check_graph(graph, len(X)) if is_given else graph_of(self, X, random_state)
        with plain_torch():
            encoder = mlp(
                X.shape[1],
                self.hidden_sizes,
                self.n_components,
                torch.Generator().manual_seed(seed),
            ).to(device)
            history = train(
                encoder,
                torch.as_tensor(X, device=device),
                graph,
                **loss_options(self),
                n_steps=self.n_steps,
                learning_rate=self.learning_rate,
                generator=torch.Generator(device).manual_seed(seed),
                callbacks=self.callbacks,
            )
        embedding = embed_cells(encoder.cpu(), X)
        self.graph_, self.graph_is_given_, self.history_ = graph, is_given, history
        self.encoder_, self.embedding_ = encoder, embedding
        return self

    def fit_transform(self, X: ArrayLike, y: Any = None, *, graph: Any = None) -> np.ndarray:
        """Fit, and return the coordinates of the training cells.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_cells, n_genes)
        y : None
        graph : sparse matrix or array of shape (n_cells, n_cells), optional
            All as in `fit`.

        Returns
        -------
        ndarray of shape (n_cells, n_components), float32
        """
        return self.fit(X, y, graph=graph).embedding_

    def transform(self, X: ArrayLike) -> np.ndarray:
        """Embed cells with the trained network.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_cells, n_genes)
            Cells prepared as those the model was fitted on.

        Returns
        -------
        ndarray of shape (n_cells, n_components), float32
            Coordinates. The network is evaluated in double precision, so that those of a cell do
            not depend on which other cells are embedded with it.

        Raises
        ------
        TypeError
            If `X` is an AnnData.
        ValueError
            If the number of genes differs from that in `fit`, or a value is not finite.
        """
        check_is_fitted(self)
        return embed(self.encoder_, check_cells(self, X))

    def _check_parameters(self) -> None:
        check_integer("n_neighbors", self.n_neighbors, least=2)
        check_integer("negative_sample_rate", self.negative_sample_rate, least=0)
        for name in ("n_components", "batch_size"):
            check_integer(name, getattr(self, name), least=1)
        if self.n_steps is not None:
            check_integer("n_steps", self.n_steps, least=1)
        if self.batch_size <= self.negative_sample_rate:
            raise ValueError(
                f"batch_size={self.batch_size} must exceed negative_sample_rate="
                f"{self.negative_sample_rate}: negatives are permuted edges of the same batch"
            )
        for name in ("learning_rate", "weight_decay", "repulsion_strength", "min_dist"):
            check_number(name, getattr(self, name))
        check_number("spread", self.spread, above=True)
        check_choice("weighting", self.weighting, WEIGHTINGS)
        self._check_callbacks()
        check_flag("verbose", self.verbose)
        fit_ab(float(self.spread), float(self.min_dist))

    def _check_callbacks(self) -> None:
        listed = isinstance(self.callbacks, list | tuple)
        if not isinstance(self.callbacks, Iterable) or (
            listed and not all(map(callable, self.callbacks))
        ):
            raise ValueError(
                f"callbacks must be a sequence of functions, such as [show], got {self.callbacks!r}"
            )

    def __getstate__(self) -> dict[str, Any]:  # noqa: D105 - said under `callbacks`
        # A callback may be a lambda or hold an open file; a model that is saved needs none.
        return super().__getstate__() | {"callbacks": ()}

    def __sklearn_clone__(self) -> ParametricUMAP:  # noqa: D105 - called by scikit-learn's clone
        # as clone does, but with the same callbacks, which may not be copyable
        unfitted = {name: value for name, value in vars(self).items() if not name.endswith("_")}
        callbacks = unfitted.pop("callbacks")
        cloned = type(self).__new__(type(self))
        cloned.__dict__.update(copy.deepcopy(unfitted) | {"callbacks": callbacks})
        return cloned

    @property
    def _n_features_out(self) -> int:
        return self.embedding_.shape[1]

    def __sklearn_tags__(self):  # noqa: ANN204, D105 - the type is scikit-learn's private Tags
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags


def graph_of(
    model: ParametricUMAP, X: np.ndarray, random_state: np.random.RandomState
) -> csr_matrix:
    """Compute the fuzzy graph of cells as the parameters of a model say.

    Parameters
    ----------
    model : ParametricUMAP
        Fitted or not; ``n_neighbors``, ``metric`` and ``neighbors`` are used.
    X : ndarray of shape (n_cells, n_genes), float32
        The cells.
    random_state : RandomState
        Source of randomness of approximate searches.

    Returns
    -------
    csr_matrix of shape (n_cells, n_cells), float32

    Raises
    ------
    ValueError
        If a parameter is out of range.

    Warns
    -----
    UserWarning
        If there are fewer cells than ``n_neighbors``.

    Examples
    --------
    >>> import numpy as np
    >>> from rpumap.estimator import ParametricUMAP, graph_of
    >>> X = np.eye(3, dtype="float32")
    >>> graph_of(ParametricUMAP(n_neighbors=3), X, np.random.RandomState(0)).shape
    (3, 3)
    """
    n_neighbors = min(model.n_neighbors, len(X))
    if n_neighbors < model.n_neighbors:
        warnings.warn(
            f"n_neighbors={model.n_neighbors} is more than the {len(X)} cells there are: "
            f"{n_neighbors} are used",
            stacklevel=3,
        )
    if isinstance(model.neighbors, str):
        found = nearest_neighbors(X, n_neighbors, model.metric, model.neighbors, random_state)
    else:
        found = check_neighbors(model.neighbors, len(X), n_neighbors)
    return fuzzy_graph(*found)


def embed(encoder: nn.Sequential, X: np.ndarray) -> np.ndarray:
    """Return the coordinates of cells, computed in double precision on one thread.

    Parameters
    ----------
    encoder : torch.nn.Sequential
        Network, on the CPU. It is not changed.
    X : ndarray of shape (n_cells, n_genes), float32
        The cells.

    Returns
    -------
    ndarray of shape (n_cells, n_components), float32

    Examples
    --------
    >>> import numpy as np
    >>> from rpumap.estimator import embed
    >>> from rpumap.networks import mlp
    >>> embed(mlp(4, (8,), 2), np.ones((5, 4), dtype="float32")).shape
    (5, 2)
    """
    with plain_torch(), torch.no_grad():
        encoder = copy.deepcopy(encoder).double()
        parts = [
            encoder(torch.as_tensor(X[start : start + TRANSFORM_BATCH]).double()).float()
            for start in range(0, len(X), TRANSFORM_BATCH)
        ]
    return torch.cat(parts).numpy()


def embed_cells(encoder: nn.Sequential, X: np.ndarray) -> np.ndarray:
    """Return the coordinates of the training cells; FloatingPointError if they overflow.

    Examples
    --------
    >>> import numpy as np
    >>> from rpumap.estimator import embed_cells
    >>> from rpumap.networks import mlp
    >>> embed_cells(mlp(4, (8,), 2), np.ones((5, 4), dtype="float32")).shape
    (5, 2)
    """
    embedding = embed(encoder, X)
    if not np.isfinite(embedding).all():
        raise FloatingPointError(
            "the coordinates are not finite: the training diverged. Lower learning_rate or scale "
            "the data"
        )
    return embedding


def check_model(model: ParametricUMAP) -> None:
    """Raise TypeError or NotFittedError unless a model is fitted and its network is its embedding.

    A subclass may add what it likes, but not change `transform`: certificates and derivatives are
    those of ``encoder_``.

    Examples
    --------
    >>> import numpy as np
    >>> from rpumap.estimator import ParametricUMAP, check_model
    >>> check_model(ParametricUMAP(n_steps=1).fit(np.eye(20)))
    """
    if not isinstance(model, ParametricUMAP):
        raise TypeError(
            f"model must be a fitted ParametricUMAP, got {type(model).__name__}; "
            "rpumap.verification takes a torch.nn.Sequential"
        )
    check_is_fitted(model)
    if type(model).transform is not ParametricUMAP.transform or "transform" in vars(model):
        raise TypeError(
            f"{type(model).__name__} has a transform of its own, so that nothing can be said from "
            "its network: pass a ParametricUMAP"
        )


def loss_options(model: ParametricUMAP) -> dict[str, Any]:
    """Return what :func:`rpumap.training.train` is told of a model's loss, batches and progress.

    Examples
    --------
    >>> from rpumap.estimator import ParametricUMAP, loss_options
    >>> loss_options(ParametricUMAP(batch_size=512))["batch_size"]
    512
    """
    a, b = fit_ab(float(model.spread), float(model.min_dist))
    names = ["weighting", "negative_sample_rate", "repulsion_strength", "batch_size"]
    names += ["weight_decay", "verbose"]
    return {"a": a, "b": b, **{name: getattr(model, name) for name in names}}
