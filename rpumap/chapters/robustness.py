"""What chapters 6, 8 and 9 measure: lost counts, certified boxes, and what a gene does.

One unit of repeat is a plain network and a regularised one that starts from it, on a split of their
own (figures 4 and 5). Draws of lost counts and of noise are averaged inside it: they are no repeats
of a claim about networks.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from scipy.spatial import procrustes

import rpumap
from rpumap.chapters.comparison import transfer_accuracy
from rpumap.chapters.generalization import SPLIT_SEED, Measured
from rpumap.dropout import drop_counts
from rpumap.metrics import trustworthiness
from rpumap.preprocessing import library_size
from rpumap.sensitivity import perturb

if TYPE_CHECKING:
    from anndata import AnnData

    from rpumap.chapters.settings import Settings
    from rpumap.estimator import ParametricUMAP

HELD_OUT = 0.2
RATIOS = (0.1, 0.3, 0.4, 0.5, 0.7, 0.8)
LOW, SHOWN, HIGH = (
    0.1,
    0.7,
    0.8,
)  # figure 5C's "low", the last panel of figure 4C, figure 4B's claim
DRAWS = 5  # of lost counts, and of noise
EPS = 0.2
CERTIFIED = 120  # held-out cells that are certified
DOSES = (1.0, 3.0, 5.0, 10.0, 20.0, 30.0)  # standard deviations of the noise of figure 5D
DOSE = 10.0
NEAR_ZERO = 0.25  # of the plain model's median impact
QUANTILES = (0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95)
# What is measured for a figure and not judged by a rule: the regularised and the plain network.
CURVE = "curve/"


def lose(adata: AnnData, ratio: float, seed: int | np.random.Generator) -> AnnData:
    """Set a share of the non-zero entries to zero; genes outside the table lose as much.

    Parameters
    ----------
    adata : AnnData
        Counts, and library sizes that may exceed their sum.
    ratio : float
        Share of the entries, from 0 to 1.
    seed : int or numpy.random.Generator
        Of the choice.

    Returns
    -------
    AnnData
        Its library size is the sum of what is left and of the share ``1 - ratio`` of the counts
        that are not in the table: a run that misses counts misses these as well.

    Examples
    --------
    >>> import rpumap
    >>> from rpumap.chapters.robustness import lose
    >>> cells = rpumap.datasets.pancreas(source="simulated")[:100]
    >>> left = lose(cells, 0.8, seed=0)
    >>> share = left.obs["library_size"].sum() / cells.obs["library_size"].sum()
    >>> bool(0.15 < share < 0.25)
    True
    """
    left = drop_counts(adata, ratio, seed)
    others = library_size(adata) - np.ravel(adata.X.sum(axis=1))
    left.obs["library_size"] = np.ravel(left.X.sum(axis=1)) + (1 - ratio) * others
    return left


def agreement(Z: np.ndarray, intact: np.ndarray) -> float:
    """Correlation of two sets of coordinates, mean over the axes (figure 4B)."""
    axes = zip(Z.T, intact.T, strict=True)
    return float(np.mean([np.corrcoef(*axis)[0, 1] for axis in axes]))


class Pair:
    """A plain and a regularised network on one split.

    Parameters
    ----------
    adata : AnnData
        Counts, and types in ``obs["clusters"]``.
    settings : Settings
        How the networks are trained.
    seed : int
        Of the split and of the networks.
    network_seed : int, optional
        Of the networks, where they shall differ from others on the same split.

    Attributes
    ----------
    reference, held_out : AnnData
        Four fifths of the cells, which train the networks, and the others.
    X, X_held : ndarray of shape (n_cells, 300)
        Their z-scores.
    models : dict
        ``"base"`` and ``"robust"``; the properties `steady` and `free` are made when asked for.

    Examples
    --------
    >>> import rpumap
    >>> from rpumap.chapters.robustness import Pair
    >>> from rpumap.chapters.settings import Settings
    >>> cells = rpumap.datasets.pancreas(source="simulated")[::10]
    >>> pair = Pair(cells, Settings("default", {"n_steps": 20}, {"n_steps": 5}), seed=0)
    >>> sorted(pair.models), pair.X_held.shape
    (['base', 'robust'], (74, 300))
    """

    def __init__(
        self, adata: AnnData, settings: Settings, seed: int, network_seed: int | None = None
    ) -> None:
        self.settings, self.seed = settings, seed
        order = np.random.default_rng(seed).permutation(adata.n_obs)
        n_held = int(HELD_OUT * adata.n_obs)
        self.held_out, self.reference = (
            adata[part].copy() for part in (order[:n_held], order[n_held:])
        )
        self.labels, self.labels_held = (
            part.obs["clusters"].to_numpy() for part in (self.reference, self.held_out)
        )
        self.prep = settings.prepare(self.reference)
        self.X, self.X_held = (
            settings.scores(self.prep, part) for part in (self.reference, self.held_out)
        )
        base = settings.fit(self.X, seed if network_seed is None else network_seed)
        self.models = {"base": base, "robust": settings.robustify(base, self.X)}

    @cached_property
    def steady(self) -> ParametricUMAP:
        """The plain network, trained further on copies of the cells that lost counts."""
        same = {k: v for k, v in self.settings.robust.items() if k in ("n_steps", "learning_rate")}
        return rpumap.resist_dropout(self.models["base"], self.prep, self.reference, **same)

    @cached_property
    def free(self) -> ParametricUMAP:
        """The plain network, regularised without the reconstruction loss of eq. 7."""
        return self.settings.robustify(self.models["base"], self.X, reconstruction=0.0)

    @cached_property
    def tuned(self) -> ParametricUMAP:
        """The plain network, trained for as many further steps without the bound loss."""
        return self.settings.robustify(
            self.models["base"], self.X, strength=0.0, bound_method="crown_ibp"
        )

    @cached_property
    def lost(self) -> dict[float, list[np.ndarray]]:
        """Z-scores of the held-out cells after losses of counts, `DRAWS` for each ratio."""
        counts = self.held_out[:, self.prep.genes_].copy()
        counts.obs["library_size"] = library_size(self.held_out)
        return {
            ratio: [
                self.settings.scores(self.prep, lose(counts, ratio, draw)) for draw in range(DRAWS)
            ]
            for ratio in RATIOS
        }

    @cached_property
    def impact(self) -> dict[str, np.ndarray]:
        """Impact of each gene on each map, mean over the reference cells."""
        return {
            name: rpumap.gene_impact(m, self.X) / len(self.X) for name, m in self.models.items()
        }

    def correlation(self, model: ParametricUMAP, ratio: float) -> float:
        """Correlation of the held-out cells' coordinates with and without a loss of counts."""
        intact = model.transform(self.X_held)
        return float(np.mean([agreement(model.transform(x), intact) for x in self.lost[ratio]]))

    def accuracy(self, model: ParametricUMAP, X: np.ndarray) -> float:
        """Share of held-out cells whose 15 nearest reference cells on the map have their type."""
        return transfer_accuracy(
            model.embedding_, self.labels, model.transform(X), self.labels_held
        )

    def accuracy_in_genes(self, X: np.ndarray) -> float:
        """Share that gets its type by the same vote in gene space."""
        return transfer_accuracy(self.X, self.labels, X, self.labels_held)

    def trust(self, model: ParametricUMAP, X: np.ndarray) -> float:
        """Trustworthiness of the held-out cells on the map, with intact cells in gene space."""
        return trustworthiness(self.X_held, model.transform(X))

    def kept(self, name: str, scale: float, gene: int | None) -> float:
        """Share of a map's accuracy that is left under noise in one gene, or in all."""
        model = self.models[name]
        noisy = [perturb(self.X_held, scale, gene, draw) for draw in range(DRAWS)]
        left = np.mean([self.accuracy(model, cells) for cells in noisy])
        return float(left / self.accuracy(model, self.X_held))


def measure_pair(adata: AnnData, settings: Settings, seed: int) -> Measured:
    """Measure a plain and a regularised network on one split (figures 4 and 5).

    Parameters
    ----------
    adata : AnnData
        Counts, and types in ``obs["clusters"]``.
    settings : Settings
        How the networks are trained.
    seed : int
        Of the split and the networks.

    Returns
    -------
    dict of str to tuple of two float
        Under the id of a claim, value and baseline.
    """
    pair = Pair(adata, settings, seed)
    return _lost_counts(pair) | _boxes(pair) | _genes(pair)


def _lost_counts(pair: Pair) -> Measured:
    """Figures 4 and 5C."""
    base, robust = pair.models["base"], pair.models["robust"]
    plain, regular = (
        {ratio: pair.correlation(model, ratio) for ratio in RATIOS} for model in (base, robust)
    )
    gain = {ratio: regular[ratio] - plain[ratio] for ratio in RATIOS}
    share = {ratio: gain[ratio] / (1 - plain[ratio]) for ratio in RATIOS}
    shown = pair.lost[SHOWN]
    found: Measured = {
        "dropout": (plain[HIGH], 1.0),
        "dropout-trained": _trained_on_losses(pair),
        "resolution/types": (
            float(np.mean([pair.accuracy(base, x) for x in shown])),
            float(np.mean([pair.accuracy_in_genes(x) for x in shown])),
        ),
        "resolution/lost": (
            float(np.mean([pair.trust(base, x) for x in shown])),
            pair.trust(base, pair.X_held),
        ),
        "robust-low/gain": (gain[LOW], gain[HIGH]),
        "robust-low/share": (share[LOW], share[HIGH]),
        "losses": (pair.correlation(pair.steady, HIGH), regular[HIGH]),
    }
    for ratio in (0.1, 0.3, 0.5, 0.8):
        found[f"robust-dropout/{100 * ratio:.0f}"] = regular[ratio], plain[ratio]
    found["robust-dropout/control"] = regular[HIGH], pair.correlation(pair.tuned, HIGH)
    for ratio in RATIOS:
        found[f"{CURVE}dropout/{ratio:g}"] = regular[ratio], plain[ratio]
        found[f"{CURVE}losses/{ratio:g}"] = pair.correlation(pair.steady, ratio), plain[ratio]
    return found


def _trained_on_losses(pair: Pair) -> tuple[float, float]:
    """Correlation with base of a map trained on incomplete counts, and of one by another seed."""
    incomplete = lose(pair.reference, HIGH, pair.seed)
    Z = pair.models["base"].embedding_
    X = pair.settings.scores(pair.settings.prepare(incomplete), incomplete)
    others = pair.settings.fit(X, pair.seed), pair.settings.fit(pair.X, pair.seed + SPLIT_SEED)
    # two maps may differ by a rotation or a reflection, which mean nothing
    value, baseline = (agreement(*procrustes(Z, m.embedding_)[:2]) for m in others)
    return value, baseline


def _boxes(pair: Pair) -> Measured:
    """Figure 5A and section 2.4."""
    base, robust = pair.models["base"], pair.models["robust"]
    kinds = pair.labels_held[:CERTIFIED]
    boxes = {
        name: rpumap.certify(model, pair.X_held[:CERTIFIED], EPS)
        for name, model in pair.models.items()
    }
    plain, regular = (intersecting(*boxes[name], kinds) for name in ("base", "robust"))
    stayed, drifted = (
        float(np.corrcoef(m.embedding_.T, base.embedding_.T)[[0, 1], [2, 3]].min())
        for m in (robust, pair.free)
    )
    return {
        "boxes/base": (plain, 0.0),
        "boxes/reduced": (regular, plain),
        "shape/kept": (stayed, 1.0),
        "shape/needed": (stayed, drifted),
        "quality/trust": (pair.trust(robust, pair.X_held), pair.trust(base, pair.X_held)),
        "quality/accuracy": (
            pair.accuracy(robust, pair.X_held),
            pair.accuracy(base, pair.X_held),
        ),
    }


def intersecting(lower: np.ndarray, upper: np.ndarray, kinds: np.ndarray) -> float:
    """Share of the pairs of cells of different types whose boxes meet.

    Parameters
    ----------
    lower, upper : ndarray of shape (n_cells, n_components)
        The boxes.
    kinds : ndarray of shape (n_cells,)
        Types of the cells.

    Examples
    --------
    >>> import numpy as np
    >>> from rpumap.chapters.robustness import intersecting
    >>> low = np.array([[0.0], [1.0], [5.0]])
    >>> intersecting(low, low + 2, np.array(["a", "b", "b"]))
    0.5
    """
    kinds = np.asarray(kinds)
    meet = np.all((lower[:, None] <= upper) & (lower <= upper[:, None]), axis=2)
    unlike: np.ndarray = np.not_equal.outer(kinds, kinds)
    return float(meet[unlike].mean())


def _both(of: Callable[[str], float]) -> tuple[float, float]:
    """Value of the regularised network, and that of the plain one as the baseline."""
    return float(of("robust")), float(of("base"))


def _genes(pair: Pair) -> Measured:
    """Figure 5B and D."""
    impact, top = pair.impact, {name: int(g.argmax()) for name, g in pair.impact.items()}
    near = NEAR_ZERO * np.median(impact["base"])
    own, same = _doses(pair, top), _doses(pair, dict.fromkeys(top, top["base"]))
    spreads = _both(lambda m: impact[m].var())
    of_robust, of_base = (float(np.mean(kept)) for kept in zip(*own.values(), strict=True))
    found: Measured = {
        "impact-peak/moved": _both(lambda m: np.median(impact[m])),
        "impact-peak/taller": _both(lambda m: (impact[m] < near).mean()),
        "impact-variance/larger": spreads,
        "impact-variance/much": spreads,
        "top-gene/severe": (own[DOSE][1], 1.0),
        "top-gene/little": (same[DOSE][0], 1.0),
        "top-gene/own": (of_robust, of_base),
        "all-genes/base": (pair.kept("base", DOSE, None), 1.0),
        "all-genes/robust": (pair.kept("robust", DOSE, None), 1.0),
    }
    found |= {f"{CURVE}dose-own/{dose:g}": kept for dose, kept in own.items()}
    found |= {f"{CURVE}dose-same/{dose:g}": kept for dose, kept in same.items()}
    for q in QUANTILES:
        regular, plain = (float(np.quantile(impact[m], q)) for m in ("robust", "base"))
        found[f"{CURVE}impact/{q:g}"] = regular, plain
    return found


def _doses(pair: Pair, gene: dict[str, int]) -> dict[float, tuple[float, float]]:
    """Share of the accuracy that both maps keep under noise of each size in a gene."""
    return {
        dose: (pair.kept("robust", dose, gene["robust"]), pair.kept("base", dose, gene["base"]))
        for dose in DOSES
    }
