r"""Is it CROWN that helps, or does any regulariser? Several, compared at equal trustworthiness.

All methods fine-tune the same plain network, with the UMAP loss and the reconstruction loss (eq.
7), for as many steps at the same learning rate. They differ in one further term. Each runs over a
grid of strengths, since a stronger regulariser gives smoother maps that keep fewer neighbours; only
maps that keep equally many can be compared. :data:`METHODS` lists the methods and their grids.

Cells of two studies are used: the *reference* is divided into training and held-out cells, and the
*query*, from another study, is placed on the map of the training cells. All scores are those of
cells that were held out of training.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import numpy as np
import pandas as pd
import torch

import rpumap
from rpumap.chapters.comparison import transfer_labels
from rpumap.chapters.robustness import agreement, lose
from rpumap.chapters.scorecard import interval
from rpumap.datasets import malaria, pbmc
from rpumap.fine_tuning import DROPPED_CELLS, STRENGTH, fine_tune, generator_for
from rpumap.losses import reconstruction_loss
from rpumap.metrics import trustworthiness
from rpumap.plotting import COLORS, INK, MARKERS
from rpumap.preprocessing import library_size
from rpumap.training import TrainingStep
from rpumap.verification import Ball, projected_gradient
from rpumap.verification.bounds import linear_layers

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from torch import Tensor, nn

    from rpumap.chapters.settings import Settings
    from rpumap.estimator import ParametricUMAP
    from rpumap.training import LossTerm

EPS = 0.2  # radius of the balls, the paper's
DROPOUT = 0.8  # share of the counts that are lost, the paper's
REPEATS = 3  # of that loss
HELD_OUT = 0.2  # share of the reference cells
BOUNDED = 128  # held-out cells that are certified and attacked
PENALISED = 256  # cells whose Jacobian enters a step, as many as have bounds in `robustify`
RECONSTRUCTION = 10.0  # as in `robustify` and `resist_dropout`
LOSS = 0.005  # of trustworthiness, that all methods may have
# Directions in which an attack pushes a cell
ANGLES = torch.arange(8) * torch.pi / 4
WAYS = torch.stack([ANGLES.cos(), ANGLES.sin()], dim=1)

PLAIN = ("weight decay", "input noise", "Jacobian penalty", "spectral norm")
# Strengths of each method. Those of CROWN and of dropout are multiples of the package's own. The
# grids are equally long, and end where most methods lose more trustworthiness than `LOSS`.
METHODS: Mapping[str, Sequence[float]] = {
    "more training": (0.0,),
    "weight decay": (3.0, 10.0, 20.0, 40.0),
    "input noise": (0.5, 2.0, 4.0, 8.0),
    "Jacobian penalty": (10.0, 50.0, 250.0, 1000.0),
    "spectral norm": (1.0, 5.0, 25.0, 100.0),
    "CROWN": (1.0, 4.0, 15.0, 60.0),
    "dropout": (1.0, 4.0, 15.0, 60.0),
    "CROWN then dropout": (1.0, 4.0, 15.0, 60.0),
}
# Scores, and whether more is better
SCORES = {"width": False, "attack": False, "dropout": True, "studies": True}


# --- two studies --------------------------------------------------------------------------------


# Reference and query of each pair
PAIRS: Mapping[str, tuple[Callable[[Any], AnnData], tuple[str, str]]] = {
    "blood": (pbmc, ("facs", "pbmc3k")),
    "malaria": (malaria, ("10x", "smartseq2")),
}


def load_pair(name: str) -> tuple[AnnData, AnnData]:
    """Load a reference study and a query study, with labels of the same names.

    Parameters
    ----------
    name : {"blood", "malaria"}
        ``"blood"``: human blood cells sorted by antibodies (Zheng et al. 2017), and those of one
        donor, labelled by clustering. ``"malaria"``: *Plasmodium berghei* by 10x (Howick et al.
        2019) and by Smart-seq2, whose counts are of reads (Reid et al. 2018).

    Returns
    -------
    reference, query : AnnData
        Counts of the genes that both have, in the same order; ``obs["library_size"]`` is that of
        all genes, and ``obs["clusters"]`` the common labels. Cells without such a label are left
        out.

    Raises
    ------
    KeyError
        If `name` is unknown.
    RuntimeError, ValueError
        As for :func:`rpumap.datasets.malaria`.

    Notes
    -----
    The common labels are ``obs["label"]`` of the data sets. Those that only the reference
    has, CD34+ or ring, stay: a query cell can be taken for one of them.
    """
    load, studies = PAIRS[name]
    reference, query = (_labelled(load(study)) for study in studies)
    genes = reference.var_names.intersection(query.var_names, sort=False)
    return reference[:, genes].copy(), query[:, genes].copy()


def _labelled(adata: AnnData) -> AnnData:
    """Keep the cells with a common label, which takes the place of the study's own."""
    adata = adata[adata.obs["label"].notna()].copy()
    adata.obs["clusters"] = pd.Categorical(adata.obs["label"].astype(str))
    return adata


@dataclass(frozen=True)
class Cells:
    """Cells of two studies, ready for training and scoring; see :func:`split`."""

    prep: rpumap.Preprocessor
    train: AnnData  #: training cells, chosen genes
    held: AnnData  #: held-out cells of the reference, chosen genes
    X: np.ndarray  #: z-scores of the training cells
    X_held: np.ndarray
    X_query: np.ndarray
    labels: np.ndarray
    labels_held: np.ndarray
    labels_query: np.ndarray
    is_held_out: np.ndarray  #: which cells of the reference, in its order
    seed: int


def split(reference: AnnData, query: AnnData, settings: Settings, seed: int) -> Cells:
    """Hold a fifth of the reference cells out, and prepare all by what the others give.

    Parameters
    ----------
    reference, query : AnnData
        As `load_pair` returns them.
    settings : Settings
        Says how counts are prepared.
    seed : int
        Of the choice of held-out cells.

    Returns
    -------
    Cells

    Notes
    -----
    A warning of the Preprocessor that the query has another share of its library in the chosen
    genes is silenced: studies do differ so, and how much that harms is what is measured.
    """
    order = np.random.default_rng(seed).permutation(reference.n_obs)
    is_held_out = order < round(HELD_OUT * reference.n_obs)
    train, held = reference[~is_held_out].copy(), reference[is_held_out].copy()
    prep = settings.prepare(train)
    train, held = (_panel(part, prep, settings) for part in (train, held))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "the chosen genes hold", UserWarning)
        X, X_held, X_query = [settings.scores(prep, part) for part in (train, held, query)]
    of_train, of_held, of_query = [
        part.obs["clusters"].astype(str).to_numpy() for part in (train, held, query)
    ]
    labels = of_train, of_held, of_query
    return Cells(prep, train, held, X, X_held, X_query, *labels, is_held_out=is_held_out, seed=seed)


def _panel(adata: AnnData, prep: rpumap.Preprocessor, settings: Settings) -> AnnData:
    """Keep the chosen genes, and the library size that the settings ask for."""
    panel = adata[:, prep.genes_].copy()
    if settings.panel_library:
        panel.obs = panel.obs.drop(columns="library_size", errors="ignore")
    else:
        panel.obs["library_size"] = library_size(adata)
    return panel


# --- the penalties ------------------------------------------------------------------------------


def squared_jacobian(encoder: nn.Sequential, x: Tensor) -> Tensor:
    r"""Mean squared Frobenius norm of the Jacobian of a network.

    Parameters
    ----------
    encoder : torch.nn.Sequential
        As :func:`rpumap.networks.mlp` builds it.
    x : torch.Tensor of shape (n_cells, n_genes)
        Cells.

    Returns
    -------
    torch.Tensor, scalar
        Mean over the cells. It can be differentiated by the weights.

    Notes
    -----
    Where no neuron is exactly 0 the network is linear near a cell, and the Jacobian is the product
    of the weights of the active neurons (Drucker and LeCun 1992,
    https://doi.org/10.1109/72.165600). A small change of the weights does not change which are
    active, so the derivative is exact too.

    Examples
    --------
    >>> import torch
    >>> from rpumap.chapters.rivals import squared_jacobian
    >>> network = torch.nn.Sequential(torch.nn.Linear(3, 2))
    >>> network[0].weight.data = torch.tensor([[1.0, 2.0, 0.0], [0.0, 0.0, 2.0]])
    >>> squared_jacobian(network, torch.zeros(5, 3)).item()
    9.0
    """
    layers = linear_layers(encoder)
    active = []
    with torch.no_grad():
        for weight, bias in layers[:-1]:
            x = torch.relu(x @ weight.T + bias)
            active.append(x > 0)
    slope = layers[-1][0].expand(len(x), -1, -1)
    for (weight, _), mask in zip(layers[-2::-1], active[::-1], strict=True):
        slope = (slope * mask[:, None]) @ weight
    return slope.square().sum(dim=(1, 2)).mean()


def lipschitz_bound(encoder: nn.Sequential) -> Tensor:
    r"""Product of the layers' largest singular values, which bounds how fast outputs can change.

    Parameters
    ----------
    encoder : torch.nn.Sequential
        As :func:`rpumap.networks.mlp` builds it.

    Returns
    -------
    torch.Tensor, scalar
        :math:`\prod_k \sigma_\text{max}(W^{(k)})`. It can be differentiated by the weights.

    Notes
    -----
    As in Yoshida and Miyato (2017, arXiv:1705.10941), who penalise each layer by itself; the
    product is what bounds the network. With the left singular vector :math:`u` held fixed,
    :math:`\lVert u^\top W \rVert` has the value and the derivative of the singular value. It is an
    eigenvector of :math:`W W^\top`, which takes less time than a full decomposition.

    Examples
    --------
    >>> import torch
    >>> from rpumap.chapters.rivals import lipschitz_bound
    >>> network = torch.nn.Sequential(torch.nn.Linear(3, 2))
    >>> network[0].weight.data = torch.tensor([[1.0, 2.0, 2.0], [0.0, 0.0, 0.0]])
    >>> round(lipschitz_bound(network).item(), 5)
    3.0
    """
    largest = []
    for weight, _ in linear_layers(encoder):
        with torch.no_grad():
            vector = torch.linalg.eigh(weight @ weight.T).eigenvectors[:, -1]
        largest.append((vector @ weight).norm())
    return torch.stack(largest).prod()


# --- the methods --------------------------------------------------------------------------------


def regularise(
    method: str, strength: float, base: ParametricUMAP, cells: Cells, settings: Settings
) -> ParametricUMAP:
    """Train a plain map further by one of :data:`METHODS`.

    Parameters
    ----------
    method : str
        ``"more training"``: nothing but the two common losses. ``"weight decay"``: the decoupled
        weight decay is `strength` during the further training. ``"input noise"``: copies of cells
        with Gaussian noise of standard deviation `strength` are pulled to the coordinates of the
        cells. ``"Jacobian penalty"``, ``"spectral norm"``: `strength` times `squared_jacobian`
        over the variance of the map, or `lipschitz_bound` over its root. ``"CROWN"``,
        ``"dropout"``: :func:`rpumap.robustify` and :func:`rpumap.resist_dropout` with `strength`
        times their default. ``"CROWN then dropout"``: one after the other, both so.
    strength : float
        How strongly.
    base : ParametricUMAP
        A map of the training cells. It is not changed.
    cells : Cells
        From `split`.
    settings : Settings
        Says how the bound loss is taken, and for how many steps and at which rate all are trained.

    Returns
    -------
    ParametricUMAP
    """
    if method.startswith("CROWN"):
        default = STRENGTH[settings.robust.get("penalty", "width")]
        default = settings.robust.get("strength", default)
        base = settings.robustify(base, cells.X, strength=strength * default)
    if method.endswith("dropout"):
        return rpumap.resist_dropout(
            base, cells.prep, cells.train, strength=10.0 * strength, **_pace(settings)
        )
    if method == "CROWN":
        return base
    if method == "weight decay":
        base = copy.copy(base).set_params(weight_decay=strength)
    draw = generator_for(base, None)
    return fine_tune(
        base,
        cells.X,
        "own",
        _term(method, strength, base, draw),
        reconstruction=RECONSTRUCTION,
        generator=draw,
        **_pace(settings),
    )


def _pace(settings: Settings) -> dict:
    """Return the steps and the learning rate of `robustify`, which all methods get."""
    defaults = {"n_steps": 500, "learning_rate": 3e-3}
    return {name: settings.robust.get(name, value) for name, value in defaults.items()}


def _term(method: str, strength: float, base: ParametricUMAP, draw: torch.Generator) -> LossTerm:
    reference = torch.as_tensor(base.embedding_)
    variance = reference.var(dim=0).sum()

    def some(step: TrainingStep, n: int) -> Tensor:
        return torch.randint(len(step.x), (n,), generator=draw)

    def noise(step: TrainingStep) -> Tensor:
        rows = some(step, DROPPED_CELLS)
        noise = torch.randn(len(rows), step.x.shape[1], generator=draw)
        z = step.encoder(step.x[rows] + strength * noise)
        return reconstruction_loss(z, reference[rows], variance, RECONSTRUCTION)

    def jacobian(step: TrainingStep) -> Tensor:
        rows = some(step, PENALISED)
        return strength * squared_jacobian(step.encoder, step.x[rows]) / variance

    terms: dict[str, Callable[[TrainingStep], Tensor]] = {
        "more training": lambda step: step.z.new_zeros(()),
        "weight decay": lambda step: step.z.new_zeros(()),
        "input noise": noise,
        "Jacobian penalty": jacobian,
        "spectral norm": lambda step: strength * lipschitz_bound(step.encoder) / variance.sqrt(),
    }
    return terms[method]


# --- the scores ---------------------------------------------------------------------------------


def score(model: ParametricUMAP, cells: Cells, settings: Settings) -> dict[str, float]:
    """Score a map by cells that it was not trained on.

    Parameters
    ----------
    model : ParametricUMAP
        A map of the training cells.
    cells : Cells
        From `split`.
    settings : Settings
        Says how counts are prepared.

    Returns
    -------
    dict of float
        Of held-out cells ``"trust"``, the trustworthiness; ``"width"``, the mean certified width of
        a coordinate at eps 0.2, and ``"attack"``, how far an attack in that ball moves a cell, both
        in spreads of the map (root of its total variance); ``"dropout"``, the correlation of
        coordinates before and after 80 % of the counts are lost. ``"studies"`` is the share of
        query cells that get their own label from the 15 nearest training cells. ``"same study"`` is
        that share of held-out cells, each weighted so that labels are as frequent as in the query:
        what there would be if the studies did not differ but in that.
    """
    Z_held = model.transform(cells.X_held)
    by_label = [
        transfer_labels(model.embedding_, cells.labels, Z)
        for Z in (Z_held, model.transform(cells.X_query))
    ]
    return {
        "trust": trustworthiness(cells.X_held, Z_held),
        **_reach(model, cells),
        "dropout": _after_dropout(model, cells, settings, Z_held),
        "studies": float((by_label[1] == cells.labels_query).mean()),
        "same study": weighted_accuracy(by_label[0], cells.labels_held, cells.labels_query),
    }


def _reach(model: ParametricUMAP, cells: Cells) -> dict[str, float]:
    """Measure how far cells provably move at most, and how far an attack moves them."""
    spread = float(np.sqrt(model.embedding_.var(axis=0).sum()))
    chosen = np.random.default_rng(cells.seed).permutation(len(cells.X_held))[:BOUNDED]
    X = cells.X_held[chosen]
    lower, upper = rpumap.certify(model, X, EPS)
    inputs = projected_gradient(model.encoder_, Ball(X, EPS).to(torch.float32), WAYS, n_steps=5)
    with torch.no_grad():
        moved = model.encoder_(inputs).numpy() - model.transform(X)
    furthest = np.linalg.norm(moved, axis=2).max(axis=0)
    return {
        "width": float((upper - lower).mean()) / spread,
        "attack": float(furthest.mean()) / spread,
    }


def _after_dropout(
    model: ParametricUMAP, cells: Cells, settings: Settings, intact: np.ndarray
) -> float:
    """Correlate coordinates before and after counts are lost, as chapter 6 does."""
    found = []
    for repeat in range(REPEATS):
        left = lose(cells.held, DROPOUT, np.random.default_rng([cells.seed, repeat]))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # that some cells have no counts left
            Z = model.transform(settings.scores(cells.prep, left))
        found.append(agreement(Z, intact))
    return float(np.mean(found))


def weighted_accuracy(found: np.ndarray, labels: np.ndarray, like: np.ndarray) -> float:
    """Compute the accuracy that there would be with the labels as frequent as in other cells.

    Parameters
    ----------
    found, labels : ndarray of shape (n_cells,)
        Labels that were found, and the true ones.
    like : ndarray of shape (n_others,)
        True labels of the other cells.

    Returns
    -------
    float
        Share of right ones within each label, weighted by how frequent the label is in `like`.
        Labels that `labels` lack do not count.

    Examples
    --------
    >>> import numpy as np
    >>> from rpumap.chapters.rivals import weighted_accuracy
    >>> found, labels, like = np.array(["a", "a", "c"]), np.array([*"abc"]), np.array([*"aaab"])
    >>> weighted_accuracy(found, labels, like)
    0.75
    """
    names, counts = np.unique(like[np.isin(like, labels)], return_counts=True)
    shares = [(found[labels == name] == name).mean() for name in names]
    return float(np.average(shares, weights=counts))


# --- the comparison -----------------------------------------------------------------------------


def compare(
    reference: AnnData,
    query: AnnData,
    settings: Settings,
    seed: int,
    methods: Mapping[str, Sequence[float]] = METHODS,
) -> pd.DataFrame:
    """Train a plain map, regularise it in every way, and score all.

    Parameters
    ----------
    reference, query : AnnData
        As `load_pair` returns them.
    settings : Settings
        Of the training.
    seed : int
        Of the division of the cells, and of the networks.
    methods : mapping of str to sequence of float
        Methods and their strengths.

    Returns
    -------
    pandas.DataFrame
        One row a method and strength, the first of which is the plain map, ``("base", 0.0)``;
        columns as :func:`score` names them.
    """
    cells = split(reference, query, settings, seed)
    return _compare(settings.fit(cells.X, seed), cells, settings, methods)


def _compare(
    base: ParametricUMAP,
    cells: Cells,
    settings: Settings,
    methods: Mapping[str, Sequence[float]],
) -> pd.DataFrame:
    rows = {("base", 0.0): score(base, cells, settings)}
    robust: dict[float, ParametricUMAP] = {}
    for method, strengths in methods.items():
        for strength in strengths:
            # what CROWN gave at this strength is trained further, not trained anew
            begun = robust.get(strength) if method == "CROWN then dropout" else None
            if begun is None:
                model = regularise(method, strength, base, cells, settings)
            else:
                model = regularise("dropout", strength, begun, cells, settings)
            if method == "CROWN":
                robust[strength] = model
            rows[method, strength] = score(model, cells, settings)
    return pd.DataFrame(rows).T.rename_axis(["method", "strength"])


def at_equal_trust(frame: pd.DataFrame, loss: float = LOSS) -> pd.DataFrame:
    """Find the best scores of each method that do not take too much trustworthiness.

    Parameters
    ----------
    frame : pandas.DataFrame
        From `compare`.
    loss : float, default 0.005
        By how much the trustworthiness may be below that of the base.

    Returns
    -------
    pandas.DataFrame
        One row a method, one column a score.

    Notes
    -----
    With its strength a method moves along a path that begins at strength 0, which is ``"more
    training"``. Between the strengths of the grid, trustworthiness and scores are taken as linear.
    Of the part of the path where the trustworthiness is at least base - `loss` each score gets its
    best value, which may be at another strength for another score. Where there is no such part,
    it is the value of the base: one can leave a network as it is.

    Examples
    --------
    >>> import pandas as pd
    >>> from rpumap.chapters.rivals import at_equal_trust
    >>> rows = {("base", 0.0): [0.90, 9.0], ("more training", 0.0): [0.90, 8.0],
    ...         ("CROWN", 1.0): [0.89, 2.0]}
    >>> frame = pd.DataFrame(rows, index=["trust", "width"]).T
    >>> at_equal_trust(frame, loss=0.005).loc["CROWN", "width"].round(3).item()
    5.0
    """
    chosen = _choose(frame, loss)
    rows = {
        method: {name: weights @ frame[name].to_numpy() for name, weights in of_method.items()}
        for method, of_method in chosen.items()
    }
    return pd.DataFrame(rows).T.astype(float)


def _choose(frame: pd.DataFrame, loss: float) -> dict[str, dict[str, np.ndarray]]:
    """Find by method and score the best allowed point, as weights of the rows of a frame."""
    methods, rows = frame.index.get_level_values(0), np.eye(len(frame))
    trust, base = frame["trust"].to_numpy(float), rows[methods == "base"]
    chosen: dict[str, dict[str, np.ndarray]] = {}
    for method in methods.unique().drop("base"):
        path = rows[methods == method][np.argsort(frame.loc[method].index)]
        if method != "more training":
            path = np.concatenate([rows[methods == "more training"], path])
        allowed = _clip(path, path @ trust, float((base @ trust)[0]) - loss)
        chosen[method] = {}
        for name in (name for name in SCORES if name in frame):
            corners = allowed if len(allowed) else base
            values = corners @ frame[name].to_numpy(float)
            best = values.argmax() if SCORES[name] else values.argmin()
            chosen[method][name] = corners[best]
    return chosen


def _clip(path: np.ndarray, trust: np.ndarray, least: float) -> np.ndarray:
    """Keep the corners of a path with a trust of at least `least`, and where it crosses that."""
    kept = list(path[trust >= least])
    for i in range(len(path) - 1):
        if min(trust[i : i + 2]) < least < max(trust[i : i + 2]):
            share = (least - trust[i]) / (trust[i + 1] - trust[i])
            kept.append((1 - share) * path[i] + share * path[i + 1])
    return np.array(kept).reshape(-1, path.shape[1])


def by_method(frames: Sequence[pd.DataFrame], loss: float = LOSS) -> pd.DataFrame:
    """Score all methods at equal trustworthiness, at strengths chosen once for all repeats.

    Parameters
    ----------
    frames : sequence of pandas.DataFrame
        From `compare`, one a seed, of the same methods and strengths.
    loss : float, default 0.005
        As in `at_equal_trust`, for the mean over the seeds.

    Returns
    -------
    pandas.DataFrame
        One row a seed. Columns are pairs of a score and a method, ``"base"`` among them.

    Notes
    -----
    The best of several noisy numbers is too good. So strengths are chosen by the means over the
    seeds, where `at_equal_trust` chooses them anew for each frame.
    """
    chosen = _choose(sum(frames[1:], frames[0]) / len(frames), loss)
    columns = {}
    for name in (name for name in SCORES if name in frames[0]):
        columns[name, "base"] = [float(frame.loc["base", name].iloc[0]) for frame in frames]
        for method, weights in chosen.items():
            columns[name, method] = [float(weights[name] @ frame[name]) for frame in frames]
    return pd.DataFrame(columns)


def rivals(frames: Sequence[pd.DataFrame], loss: float = LOSS) -> pd.DataFrame:
    """Compare CROWN with the best plain regulariser, chosen once for all repeats.

    Parameters
    ----------
    frames, loss
        As in `by_method`.

    Returns
    -------
    pandas.DataFrame
        One row a seed. Columns are pairs of a score and ``"CROWN"`` or the name of the plain
        regulariser that has the best mean.
    """
    found = by_method(frames, loss)
    kept = []
    for name in found.columns.unique(0):
        plain = found[name][list(PLAIN)].mean()
        kept += [(name, "CROWN"), (name, plain.idxmax() if SCORES[name] else plain.idxmin())]
    return found[kept]


def measure(
    pair: str | tuple[AnnData, AnnData], settings: Settings, seed: int
) -> tuple[dict[str, tuple[float, float | None]], pd.DataFrame]:
    """Measure what the scorecard says of regularisers and of label transfer, once.

    Parameters
    ----------
    pair : str, or reference and query
        See `load_pair`.
    settings : Settings
        Of the training.
    seed : int
        Of the division of the cells, and of the networks.

    Returns
    -------
    results : dict of (float, float)
        ``"rivals/width"``, ``"rivals/attack"``, ``"rivals/dropout"``, ``"rivals/studies"``: CROWN
        and the best of :data:`PLAIN` regularisers, at equal trustworthiness. The latter is the best
        of four for this seed, which favours it where the score is noisy; `rivals` chooses one for
        all seeds.
        ``"batch"``: label accuracy of held-out reference cells and of query cells on the map that
        was regularised with CROWN at the default strength, the former with labels as frequent as
        in the query. ``"transfer/pca"``, ``"transfer/ingest"``: label accuracy of held-out
        reference cells by the 15 nearest on the plain map, and by 30 principal components or
        :func:`scanpy.tl.ingest`.
    frame : pandas.DataFrame
        From `compare`, for `figure` and `rivals`.
    """
    reference, query = load_pair(pair) if isinstance(pair, str) else pair
    cells = split(reference, query, settings, seed)
    base = settings.fit(cells.X, seed)
    transfer = label_transfer(base, cells, reference)
    frame = _compare(base, cells, settings, METHODS)
    best = at_equal_trust(frame)
    plain = best.loc[list(PLAIN)]
    results: dict[str, tuple[float, float | None]] = {}
    for name, more_is_better in SCORES.items():
        rival = plain[name].max() if more_is_better else plain[name].min()
        results[f"rivals/{name}"] = float(best.loc["CROWN", name]), float(rival)
    robust = frame.loc[("CROWN", 1.0)]
    results["batch"] = float(robust["same study"]), float(robust["studies"])
    return results | transfer, frame


TITLES = {
    "width": "certified width",
    "attack": "moved by an attack",
    "dropout": "correlation,\n80 % lost",
    "studies": "accuracy,\nother study",
}


def figure(comparisons: Mapping[str, Sequence[pd.DataFrame]]) -> Figure:
    """Draw what each method changes, at equal trustworthiness.

    Parameters
    ----------
    comparisons : mapping of str to sequence of pandas.DataFrame
        Name of each comparison, and what `compare` found for it, one frame a seed.

    Returns
    -------
    matplotlib.figure.Figure
        Four panels, one row a method, one marker a comparison. Widths and displacements are ratios
        to those of the base of the same seed, the other scores differences from it; with 95 %
        intervals of the mean over the seeds.
    """
    import matplotlib.pyplot as plt

    fig, axes = plt.subplots(2, 2, figsize=(5.0, 7.6), sharey=True, layout="constrained")
    for name, ax in zip(SCORES, axes.flat, strict=True):
        for i, (title, frames) in enumerate(comparisons.items()):
            shift = 0.6 * ((i + 0.5) / len(comparisons) - 0.5)
            _draw_changes(ax, by_method(frames)[name], name, i, shift, title)
        ax.set_title(f"{TITLES[name]}\n({'right' if SCORES[name] else 'left'} is better)")
        ax.set_xlabel("minus the base" if SCORES[name] else "share of the base")
    axes[0, 0].set_yticks(range(len(METHODS)), METHODS)
    axes[0, 0].invert_yaxis()
    handles, names = axes[0, 0].get_legend_handles_labels()
    fig.legend(handles, names, loc="outside lower center", ncols=2, frameon=False)
    return fig


def _draw_changes(
    ax: Axes, found: pd.DataFrame, name: str, i: int, shift: float, title: str
) -> None:
    """Draw means and intervals of the changes of one score in one comparison."""
    methods = found.drop(columns="base")
    base = found[["base"]].to_numpy()
    if not SCORES[name]:
        ax.set_xscale("log")
    change = methods - base if SCORES[name] else np.log(methods / base)
    ends = np.array([interval(change[method]) for method in change])
    mean, ends = change.mean().to_numpy(), ends.T
    if not SCORES[name]:
        mean, ends = np.exp(mean), np.exp(ends)
    ax.errorbar(
        mean,
        np.arange(len(mean)) + shift,
        xerr=np.abs(ends - mean),
        fmt=MARKERS[i],
        color=COLORS[(0, 5, 2, 3)[i]],
        markersize=5,
        elinewidth=1.2,
        label=title,
    )
    ax.axvline(0.0 if SCORES[name] else 1.0, color=INK, linewidth=0.8, linestyle="--")


# --- label transfer without a map ---------------------------------------------------------------


def label_transfer(
    model: ParametricUMAP, cells: Cells, reference: AnnData, n_components: int = 30
) -> dict[str, tuple[float, float | None]]:
    """Compare label transfer on a map with that by principal components and by scanpy.

    Parameters
    ----------
    model : ParametricUMAP
        A map of the training cells.
    cells : Cells
        From `split`.
    reference : AnnData
        The reference that was divided.
    n_components : int, default 30
        Number of principal components.

    Returns
    -------
    dict of (float, float)
        ``"transfer/pca"`` and ``"transfer/ingest"``: accuracy of held-out cells by the 15 nearest
        training cells on the map, and by the other method.
    """
    from sklearn.decomposition import PCA

    def accuracy(found: np.ndarray) -> float:
        return float((found == cells.labels_held).mean())

    pca = PCA(min(n_components, *cells.X.shape), random_state=cells.seed).fit(cells.X)
    tables = pca.transform(cells.X), pca.transform(cells.X_held)
    on_map = accuracy(
        transfer_labels(model.embedding_, cells.labels, model.transform(cells.X_held))
    )
    by_pca = accuracy(transfer_labels(tables[0], cells.labels, tables[1]))
    found = ingest(reference[~cells.is_held_out], reference[cells.is_held_out], cells.seed)
    return {
        "transfer/pca": (on_map, by_pca),
        "transfer/ingest": (on_map, accuracy(found)),
    }


def ingest(reference: AnnData, query: AnnData, seed: int = 0) -> np.ndarray:
    """Transfer ``obs["clusters"]`` with scanpy's own steps and defaults.

    Parameters
    ----------
    reference, query : AnnData
        Counts of the same genes.
    seed : int
        Of the principal components and the search for neighbours.

    Returns
    -------
    ndarray of shape (n_query,)
        Labels of the query cells.

    Notes
    -----
    Logarithms of counts scaled to 10,000 a cell, 2,000 variable genes, 50 principal components,
    15 neighbours, and :func:`scanpy.tl.ingest`. The neighbours that vote are those among the
    principal components, so that a UMAP would not change the labels, and is left out.
    """
    import pynndescent
    import scanpy as sc

    reference, query = (_logged(adata) for adata in (reference, query))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sc.pp.highly_variable_genes(reference, n_top_genes=min(2000, reference.n_vars))
        chosen = reference.var_names[reference.var["highly_variable"]]
        reference, query = reference[:, chosen].copy(), query[:, chosen].copy()
        sc.pp.pca(reference, n_comps=min(50, *(n - 1 for n in reference.shape)), random_state=seed)
        sc.pp.neighbors(reference, random_state=seed)
        # scanpy 1.11 reads the number of search trees, which pynndescent 0.7 leaves open
        index = partial(pynndescent.NNDescent, n_search_trees=1)
        with patch.object(pynndescent, "NNDescent", index):
            sc.tl.ingest(query, reference, obs="clusters", embedding_method="pca")
    return query.obs["clusters"].astype(str).to_numpy()


def _logged(adata: AnnData) -> AnnData:
    """Take the logarithm of counts, scaled to 10,000 in all genes, stored or not."""
    from scipy import sparse

    scale = 1e4 / np.maximum(library_size(adata), 1)
    logged = adata.copy()
    counts = sparse.csr_matrix(adata.X, dtype=np.float32)
    logged.X = sparse.csr_matrix(counts.multiply(scale[:, None]), dtype=np.float32).log1p()
    logged.obs["clusters"] = logged.obs["clusters"].astype(str).astype("category")
    return logged
