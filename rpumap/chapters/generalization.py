"""What chapters 3 and 4 measure: types on the map, repulsion, and training on a part of the cells.

Each function measures one unit of repeat: one network on all cells, or one split with its own
networks. It returns, under the id of a claim in ``book/claims.toml``, the value and the baseline.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.spatial.distance import cdist, pdist
from scipy.stats import spearmanr
from sklearn.metrics import recall_score, silhouette_score
from sklearn.neighbors import NearestNeighbors

from rpumap.chapters.comparison import fit_umap_learn, transfer_labels
from rpumap.chapters.gap_scores import crowding
from rpumap.metrics import knn_accuracy, trustworthiness

if TYPE_CHECKING:
    from anndata import AnnData

    from rpumap.chapters.settings import Settings

Measured = dict[str, tuple[float, float]]
Run = tuple[np.ndarray, np.ndarray, np.ndarray]

FRACTIONS = (0.05, 0.1, 0.3, 0.5)
HELD_OUT = 0.25
WEAK = 0.1  # the lowered repulsion strength
FEWEST = 40  # cells of a type whose neighbourhoods are looked at by themselves
FINE = ("Alpha", "Beta")  # the fine structure that section 3.3 names
SPLIT_SEED = 10_000  # of a second network, which differs from every first one


def measure_maps(adata: AnnData, settings: Settings, seed: int) -> Measured:
    """Measure one network that was trained on all cells (figure 1B and C).

    Parameters
    ----------
    adata : AnnData
        Counts, and types in ``obs["clusters"]``.
    settings : Settings
        How the network is trained.
    seed : int
        Of the network, and of the map by umap-learn.

    Returns
    -------
    dict of str to tuple of two float
        Under the id of a claim, value and baseline.

    Examples
    --------
    >>> import rpumap
    >>> from rpumap.chapters.generalization import measure_maps
    >>> from rpumap.chapters.settings import Settings
    >>> cells = rpumap.datasets.pancreas(source="simulated")[::10]
    >>> found = measure_maps(cells, Settings("default", {"n_steps": 20}), seed=0)
    >>> sorted(found)
    ['eta/branches', 'eta/resolution', 'types-umap']
    """
    labels = adata.obs["clusters"].to_numpy()
    X = settings.scores(settings.prepare(adata), adata)
    Z = settings.fit(X, seed).embedding_
    weak = settings.fit(X, seed, repulsion_strength=WEAK).embedding_
    by_umap, _ = fit_umap_learn(X, random_state=seed)
    return {
        "types-umap": (knn_accuracy(Z, labels), knn_accuracy(by_umap, labels)),
        "eta/branches": (silhouette(weak, labels), silhouette(Z, labels)),
        "eta/resolution": (resolution(X, weak, labels), resolution(X, Z, labels)),
    }


def silhouette(Z: np.ndarray, labels: np.ndarray) -> float:
    """Mean silhouette of the types on a map: from -1 to 1, the higher the further apart."""
    return float(silhouette_score(Z, labels))


def resolution(X: np.ndarray, Z: np.ndarray, labels: np.ndarray) -> float:
    """Trustworthiness among the cells of each type alone, mean over the types."""
    kinds, sizes = np.unique(labels, return_counts=True)
    members = [labels == kind for kind in kinds[sizes >= FEWEST]]
    return float(np.mean([trustworthiness(X[m], Z[m]) for m in members]))


class Split:
    """Cells held out, and networks trained on nested parts of the others.

    Parameters
    ----------
    adata : AnnData
        Counts, and types in ``obs["clusters"]``.
    settings : Settings
        How the networks are trained.
    seed : int
        Of the split and of the networks.

    Attributes
    ----------
    held_out : ndarray of int
        The cells that no part contains: a quarter of all.
    labels : ndarray
        Types of all cells.

    Examples
    --------
    >>> import rpumap
    >>> from rpumap.chapters.generalization import Split
    >>> from rpumap.chapters.settings import Settings
    >>> cells = rpumap.datasets.pancreas(source="simulated")[::10]
    >>> split = Split(cells, Settings("default", {"n_steps": 20}), seed=0)
    >>> Z, X, _ = split.train(0.5)
    >>> Z.shape, len(split.part(0.5)), len(split.held_out)
    ((370, 2), 185, 92)
    """

    def __init__(self, adata: AnnData, settings: Settings, seed: int) -> None:
        self.adata, self.settings, self.seed = adata, settings, seed
        self.labels = adata.obs["clusters"].to_numpy()
        self.order = np.random.default_rng(seed).permutation(adata.n_obs)
        self.held_out = self.order[adata.n_obs - int(HELD_OUT * adata.n_obs) :]

    def part(self, fraction: float) -> np.ndarray:
        """Cells of a part: this fraction of all, each part inside the larger ones."""
        return self.order[: round(fraction * self.adata.n_obs)]

    def train(self, fraction: float) -> Run:
        """Train on a part; coordinates, z-scores and the coordinates by z-scores of all cells."""
        training = self.part(fraction)
        prep = self.settings.prepare(self.adata[training])
        X = self.settings.scores(prep, self.adata)
        model = self.settings.fit(X[training], self.seed)
        by_all = (X - X.mean(axis=0)) / X.std(axis=0, ddof=1)  # z-scores of z-scores
        return model.transform(X), X, model.transform(by_all)

    def recognised(self, fraction: float, Z: np.ndarray) -> float:
        """Balanced accuracy of the held-out cells' types, by their 15 nearest training cells."""
        training = self.part(fraction)
        found = transfer_labels(Z[training], self.labels[training], Z[self.held_out])
        return balanced_accuracy(self.labels[self.held_out], found)


def balanced_accuracy(labels: np.ndarray, found: np.ndarray) -> float:
    """Share of the cells of a type that are recognised, mean over the types."""
    kinds = np.unique(labels)  # a type that is only guessed has no recall
    return float(recall_score(labels, found, labels=kinds, average="macro"))


def measure_split(adata: AnnData, settings: Settings, seed: int) -> Measured:
    """Measure one split: networks trained on 5, 10, 30, 50 and 100 % of the cells (figure 2).

    Parameters
    ----------
    adata, settings
        As for `measure_maps`.
    seed : int
        Of the split and the networks.

    Returns
    -------
    dict of str to tuple of two float
        Under the id of a claim, value and baseline. The claim about Alpha and Beta is measured
        where the cells have these types.

    Examples
    --------
    >>> import rpumap
    >>> from rpumap.chapters.generalization import measure_split
    >>> from rpumap.chapters.settings import Settings
    >>> cells = rpumap.datasets.pancreas(source="simulated")[::3]
    >>> found = measure_split(cells, Settings("default", {"n_steps": 20}), seed=0)
    >>> [round(number, 2) for number in found["same-space/5"]][1]
    1.0
    """
    split = Split(adata, settings, seed)
    runs = {fraction: split.train(fraction) for fraction in FRACTIONS}
    found: Measured = {}
    for fraction, name in ((0.5, "half/types"), (0.05, "twentieth/types")):
        Z, X, _ = runs[fraction]
        found[name] = split.recognised(fraction, Z), split.recognised(fraction, X)
    found["twentieth/separated"] = separated(split, runs[0.05][0]), separated(split, runs[0.5][0])
    for fraction in FRACTIONS[:3]:
        Z = runs[fraction][0]
        mixed = crowding(Z[split.part(fraction)], Z[split.held_out])
        found[f"same-space/{fraction:.0%}".rstrip("%")] = mixed, 1.0
        found[f"zscores/{fraction:.0%}".rstrip("%")] = displacement(split, fraction, runs[fraction])
    found |= _whole(split, runs[0.5][0])
    if np.isin(FINE, split.labels).all():
        found |= _fine_structure(split, runs)
    return found


def separated(split: Split, Z: np.ndarray) -> float:
    """Balanced accuracy of the held-out cells' types, by the 15 nearest held-out cells."""
    cells, kinds = Z[split.held_out], split.labels[split.held_out]
    # without a query scikit-learn looks for the neighbours of each cell but for itself
    nearest = NearestNeighbors(n_neighbors=15).fit(cells).kneighbors(return_distance=False)
    names, codes = np.unique(kinds, return_inverse=True)
    votes = (codes[nearest][:, :, None] == np.arange(len(names))).sum(axis=1)
    return balanced_accuracy(kinds, names[votes.argmax(axis=1)])


def alike(Z: np.ndarray, other: np.ndarray) -> float:
    """Rank correlation of the distances between every seventh cell on two maps."""
    return float(spearmanr(pdist(Z[::7]), pdist(other[::7])).statistic)


def _whole(split: Split, half: np.ndarray) -> Measured:
    """Compare the map by half of the cells with that by all, and two of these with each other."""
    settings, adata = split.settings, split.adata
    X = settings.scores(settings.prepare(adata), adata)
    # not of the seed of `half`: networks that begin with the same weights are alike for that reason
    other, first = (settings.fit(X, split.seed + k).embedding_ for k in (SPLIT_SEED, 0))
    return {"half/map": (alike(half, other), alike(first, other))}


def displacement(split: Split, fraction: float, run: Run) -> tuple[float, float]:
    """Measure how far held-out cells move if their z-scores come from all cells.

    Returns
    -------
    value, baseline : float
        Median displacement of a held-out cell, and its median distance to the nearest training
        cell, both in units of the map's spread.
    """
    Z, _, by_all = run
    spread = np.sqrt(Z.var(axis=0).sum())
    cells = split.held_out
    moved = np.linalg.norm(by_all[cells] - Z[cells], axis=1)
    nearest = cdist(Z[cells], Z[split.part(fraction)]).min(axis=1)
    return float(np.median(moved) / spread), float(np.median(nearest) / spread)


def _fine_structure(split: Split, runs: dict[float, Run]) -> Measured:
    """How well held-out Alpha and Beta cells part from each other, among themselves."""
    cells = split.held_out[np.isin(split.labels[split.held_out], FINE)]
    kinds = split.labels[cells]
    on_map, in_genes = (
        {fraction: knn_accuracy(run[space][cells], kinds) for fraction, run in runs.items()}
        for space in (0, 1)
    )
    return {
        "alpha-beta/lost": (on_map[0.5] - on_map[0.05], in_genes[0.5] - in_genes[0.05]),
        "alpha-beta/back": (on_map[0.1] - on_map[0.05], in_genes[0.1] - in_genes[0.05]),
    }
