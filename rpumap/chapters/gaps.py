"""What chapter 5 measures: types are left out of training and projected afterwards (figure 3).

A case names the types to leave out and the two flanks, the types before and after them. The scores
of a position in a gap are those of :mod:`rpumap.chapters.gap_scores`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from anndata import AnnData
from scipy.stats import spearmanr
from sklearn.decomposition import PCA
from sklearn.linear_model import LinearRegression

from rpumap.chapters.gap_scores import diffusion_time, gap_between, type_overlap
from rpumap.chapters.generalization import SPLIT_SEED, Measured, alike
from rpumap.estimator import ParametricUMAP

if TYPE_CHECKING:
    from rpumap.chapters.settings import Settings

N_DOUBLETS = 500


@dataclass(frozen=True)
class Case:
    """Types to leave out, and the types before and after them.

    Parameters
    ----------
    claim : str
        Id of the claim in ``book/claims.toml`` that the case is measured for.
    hidden, left, right : sequence of str
        Types that are left out, and the flanks of the gap.
    judged : mapping of str to sequence of str
        Parts of the claim, and the hidden types that each judges.
    """

    claim: str
    hidden: Sequence[str]
    left: Sequence[str]
    right: Sequence[str]
    judged: Mapping[str, Sequence[str]]


ENDS = ("Beta", "Alpha", "Delta", "Epsilon")
STAGES = ("Ngn3 low EP", "Ngn3 high EP", "Pre-endocrine")
NBL, CA = ("Nbl1", "Nbl2"), ("CA", "CA1-Sub", "CA2-3-4")
RING, EARLY, LATE, SCHIZONT = (
    "IDC3_late_ring(cl0)",
    "IDC4_early_troph(cl1)",
    "IDC5_late_troph(cl3)",
    "IDC6_schizont(cl4)",
)
# The first case of each is the one that further claims are measured on.
CASES = {
    "pancreas": (
        Case("gap-fill", STAGES[1:2], STAGES[:1], STAGES[2:], {"place": STAGES[1:2]}),
        Case("gap-next", STAGES[2:], STAGES[1:2], ENDS, {"place": STAGES[2:]}),
        Case("gap-many", STAGES, ("Ductal",), ENDS, {kind: (kind,) for kind in STAGES}),
    ),
    "malaria": (Case("gap-fill", (EARLY, LATE), (RING,), (SCHIZONT,), {"place": (EARLY, LATE)}),),
    "dentate_gyrus": (
        Case("gap-fill", NBL, ("nIPC",), ("ImmGranule1",), {"place": NBL}),
        Case(
            "gap-next",
            ("ImmGranule2",),
            ("ImmGranule1",),
            ("Granule",),
            {"place": ("ImmGranule2",)},
        ),
        Case(
            "gap-many",
            (*NBL, "ImmGranule2", *CA),
            ("nIPC",),
            ("ImmGranule1",),
            {"Nbl": NBL, "ImmGranule2": ("ImmGranule2",), "CA": CA},
        ),
    ),
}
# Types that touch each other, in order of development.
TOUCHING = {
    "pancreas": ("Ductal", *STAGES),
    "malaria": (RING, EARLY, LATE, SCHIZONT),
    "dentate_gyrus": ("nIPC", *NBL, "ImmGranule1", "ImmGranule2", "Granule"),
}
ROOTS = {"pancreas": "Ductal", "dentate_gyrus": "RadialGlia"}


class HoldOut:
    """A network that never saw some types of cells.

    Parameters
    ----------
    adata : AnnData
        Counts, and types in ``obs["clusters"]``.
    settings : Settings
        How the network is trained.
    hidden : sequence of str
        The types that it does not see; genes and z-scores come from the others as well.
    seed : int
        Of the network.

    Attributes
    ----------
    Z : ndarray of shape (n_cells, n_components)
        Coordinates of all cells.
    X : ndarray of shape (n_cells, 300)
        Their z-scores.
    training : ndarray of bool
        Which cells it saw.

    Examples
    --------
    >>> import rpumap
    >>> from rpumap.chapters.gaps import HoldOut
    >>> from rpumap.chapters.settings import Settings
    >>> cells = rpumap.datasets.pancreas(source="simulated")[::10]
    >>> run = HoldOut(cells, Settings("default", {"n_steps": 20}), ["Ngn3 high EP"], seed=0)
    >>> run.Z.shape, int((~run.training).sum())
    ((370, 2), 62)
    """

    def __init__(
        self, adata: AnnData, settings: Settings, hidden: Sequence[str], seed: int
    ) -> None:
        self.adata = adata
        self.kinds = adata.obs["clusters"].astype(str).to_numpy()
        self.training = ~np.isin(self.kinds, hidden)
        self.prep = settings.prepare(adata[self.training])
        self.X = settings.scores(self.prep, adata)
        self.settings = settings
        self.model: ParametricUMAP = settings.fit(self.X[self.training], seed)
        self.Z = self.model.transform(self.X)

    def of(self, kinds: Sequence[str]) -> np.ndarray:
        """Tell which cells are of some types."""
        return np.isin(self.kinds, kinds)

    @cached_property
    def by_line(self) -> np.ndarray:
        """Coordinates of all cells by linear regression from 30 principal components."""
        pca = PCA(30, random_state=0).fit(self.X[self.training])
        components = pca.transform(self.X)
        return (
            LinearRegression()
            .fit(components[self.training], self.Z[self.training])
            .predict(components)
        )

    def doublets(self, left: np.ndarray, right: np.ndarray, seed: int) -> np.ndarray:
        """Coordinates of pairs of cells in one droplet, one of each side, (n, n_components)."""
        draw = np.random.default_rng(seed)
        one, two = (draw.choice(np.flatnonzero(side), N_DOUBLETS) for side in (left, right))
        pairs = AnnData(self.adata.X[one] + self.adata.X[two], var=self.adata.var)
        if "library_size" in self.adata.obs:
            size = self.adata.obs["library_size"].to_numpy()
            pairs.obs["library_size"] = size[one] + size[two]
        return self.model.transform(self.settings.scores(self.prep, pairs))


def development(adata: AnnData, settings: Settings, name: str) -> np.ndarray:
    """How far each cell has developed: known, by the authors of the data, or by diffusion."""
    for column in ("pseudotime", "clock_pseudotime"):
        if column in adata.obs:
            return adata.obs[column].to_numpy(dtype=float)
    X = settings.scores(settings.prepare(adata), adata)
    return diffusion_time(X, (adata.obs["clusters"] == ROOTS[name]).to_numpy())


def measure_gaps(adata: AnnData, settings: Settings, seed: int, name: str) -> Measured:
    """Measure networks that did not see some types: one for each case of a data set.

    Parameters
    ----------
    adata : AnnData
        Counts, and types in ``obs["clusters"]``.
    settings : Settings
        How the networks are trained.
    seed : int
        Of the networks.
    name : str
        Which cases: a key of ``CASES``.

    Returns
    -------
    dict of str to tuple of two float
        Under the id of a claim, value and baseline.
    """
    # Two networks that saw all: what is left out cannot agree better with one than these do. The
    # one that others are compared with has another seed than all of them, since networks of one
    # seed begin with the same weights and are alike for that reason.
    whole, other = (HoldOut(adata, settings, (), seed + k) for k in (SPLIT_SEED, 0))
    found: Measured = {}
    for case in CASES[name]:
        run = HoldOut(adata, settings, case.hidden, seed)
        for part, kinds in case.judged.items():
            found[f"{case.claim}/{part}"] = (
                _belong(run.Z, whole.Z, run, kinds),
                _belong(other.Z, whole.Z, run, kinds),
            )
        if case.claim == "gap-fill":
            found |= _first_case(run, whole, other, case, name, development(adata, settings, name))
            found |= _not_intermediate(run, case, seed)
    return found


def _belong(Z: np.ndarray, whole: np.ndarray, run: HoldOut, judged: Sequence[str]) -> float:
    """Compare the types of the seen cells around judged cells, on a map and on one that saw all.

    From 0 to 1, the mean over the judged cells of :func:`~rpumap.chapters.gap_scores.type_overlap`.
    """
    seen, cells = run.training, run.of(judged)
    around = type_overlap(whole[seen], Z[seen], run.kinds[seen], whole[cells], Z[cells])
    return float(around.mean())


def _first_case(
    run: HoldOut, whole: HoldOut, other: HoldOut, case: Case, name: str, time: np.ndarray
) -> Measured:
    """Measure whether there is a gap, what is in it, and whether the rest stays where it was."""
    unseen, seen = run.of(case.hidden), run.training
    left, right = run.of(case.left), run.of(case.right)
    t, (begin, end), inside = gap_between(run.Z, left, right)
    _, _, inside_whole = gap_between(whole.Z, left, right)
    touching = max(
        np.subtract(*gap_between(whole.Z, whole.of([a]), whole.of([b]))[1][::-1])
        for a, b in zip(TOUCHING[name][:-1], TOUCHING[name][1:], strict=True)
    )
    order = spearmanr(t[unseen], time[unseen]).statistic
    by_line = np.where(seen[:, None], run.Z, run.by_line)
    t_line, _, _ = gap_between(by_line, left, right)
    found: Measured = {
        "gap-open": (end - begin, float(touching)),
        "gap-rest": (alike(run.Z[seen], whole.Z[seen]), alike(other.Z[seen], whole.Z[seen])),
        "gap-fill/inside": (inside[unseen].mean(), inside_whole[unseen].mean()),
        "gap-fill/order": (order, spearmanr(t_line[unseen], time[unseen]).statistic),
        "biology": (
            _belong(run.Z, whole.Z, run, case.hidden),
            _belong(by_line, whole.Z, run, case.hidden),
        ),
    }
    if len(case.hidden) == 2:  # stages in order: the first on the side of the left flank
        first, second = (np.median(t[run.of([kind])]) for kind in case.hidden)
        found["gap-fill/sides"] = float(second), float(first)
    return found


def _not_intermediate(run: HoldOut, case: Case, seed: int) -> Measured:
    """Compare the share of unseen cells in the gap with that of doublets, which are no stage."""
    left, right = run.of(case.left), run.of(case.right)
    Z = np.vstack([run.Z, run.doublets(left, right, seed)])
    more = np.zeros(N_DOUBLETS, dtype=bool)
    _, _, inside = gap_between(Z, np.append(left, more), np.append(right, more))
    unseen = run.of(case.hidden)
    return {"doublets": (inside[: len(unseen)][unseen].mean(), inside[len(unseen) :].mean())}
