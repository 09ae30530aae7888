"""Compute the tables of the simulated pancreas from the real one.

``python book/summarise_pancreas.py pancreas.h5ad`` writes ``pancreas_clusters.csv`` and
``pancreas_genes.csv`` into the current folder (``--out`` names another). They hold summary numbers
of clusters, and no cells. It takes a few minutes, nearly all for the crowding (`find_crowding`).
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

import rpumap
from rpumap.datasets._simulate import RATE_UNIT, simulate_lineage

if TYPE_CHECKING:
    from anndata import AnnData

LINEAGE = {
    "Ductal": None,
    "Ngn3 low EP": "Ductal",
    "Ngn3 high EP": "Ngn3 low EP",
    "Pre-endocrine": "Ngn3 high EP",
    "Beta": "Pre-endocrine",
    "Alpha": "Pre-endocrine",
    "Delta": "Pre-endocrine",
    "Epsilon": "Pre-endocrine",
}
# fmt: off
MARKERS = [
    "Anxa2", "Arx", "Btbd17", "Cck", "Cdkn1a", "Chga", "Chgb", "Cpe", "Dbi", "Fev", "Gcg", "Ghrl",
    "Gng12", "Hes1", "Hhex", "Iapp", "Ins1", "Ins2", "Isl1", "Krt18", "Mafb", "Neurod1", "Neurod2",
    "Neurog3", "Nkx2-2", "Nkx6-1", "Pax4", "Pax6", "Pdx1", "Ppp1r1a", "Ppy", "Pyy", "Rbp4", "Sox4",
    "Sox9", "Sparc", "Spp1", "Sst", "Top2a", "Vim",
]
# fmt: on
N_VARIABLE = 300
N_GENES = 900
MIN_CELLS = 20  # a gene seen in fewer says little about eight clusters
N_PROGRAMMES = 4
LARGEST_LOADING = 1.0
DIGITS = 4
N_NEIGHBORS = 15
# The least of the clusters' own cells, chosen among 1, 2, 4 and 8: where they are spread evenly,
# too few neighbours of an intermediate cluster's cells are of that cluster
CROWDING = 4.0
CROWDING_RANGE = (0.1, 10.0)
N_ROUNDS = 24
N_STANDINS = 4  # in each round
FIRST_SEED = 1000  # so that the stand-ins that users draw are others


def summarise(adata: AnnData) -> tuple[pd.DataFrame, pd.DataFrame]:
    r"""Summarise clusters and genes.

    Parameters
    ----------
    adata : AnnData
        As `rpumap.datasets.pancreas` returns it: counts in ``X``, ``obs["clusters"]`` and
        ``obs["library_size"]``.

    Returns
    -------
    clusters : DataFrame
        One row a cluster: parent, number of cells, mean and standard deviation of the natural
        logarithm of the library size, standard deviation of each programme's activity, conductance
        to the parent (`knn_conductance`).
    genes : DataFrame
        One row a gene: mean rate and dispersion in each cluster, loading on each programme. The
        genes are the markers, the 300 most variable, and ordinary ones of all levels up to 900, so
        that choosing variable genes remains a choice.

    Notes
    -----
    With rates :math:`r = 10^4 x / L`, the dispersion :math:`\phi` solves
    :math:`\mathrm{var}(r) = \bar r \, \overline{10^4 / L} + \phi \bar r^2`; negative solutions are
    set to 0. Programmes are the leading principal axes of what is left of ``log(1 + r)`` once each
    cluster's mean, and its directions towards its neighbours in the lineage, are taken out. The
    first is largely the cell cycle. If a normal activity of variance :math:`s^2` acts on the log
    rate with the loading :math:`\ell`, its covariance with the rate is :math:`\ell s^2 \bar r`,
    which gives :math:`\ell`.
    """
    variable, chosen = _choose_genes(adata)
    size = adata.obs["library_size"].to_numpy(dtype=float)
    rates = adata[:, chosen].X.toarray().astype(float) / size[:, None] * RATE_UNIT
    members = {c: (adata.obs["clusters"] == c).to_numpy() for c in LINEAGE}
    activity = _programmes(np.log1p(rates), np.isin(chosen, variable), members)

    clusters, genes = pd.DataFrame(index=pd.Index(LINEAGE, name="cluster")), {}
    # of dtype object, since a text column turns the None of the root into NaN
    clusters["parent"] = pd.Series(list(LINEAGE.values()), index=clusters.index, dtype=object)
    clusters["n_cells"] = [m.sum() for m in members.values()]
    clusters["log_library_mean"] = [np.log(size[m]).mean() for m in members.values()]
    clusters["log_library_sd"] = [np.log(size[m]).std(ddof=1) for m in members.values()]
    for c, m in members.items():
        genes[c] = rates[m].mean(axis=0)
    for c, m in members.items():
        extra = rates[m].var(axis=0, ddof=1) - genes[c] * (RATE_UNIT / size[m]).mean()
        square = genes[c] ** 2
        genes[f"dispersion:{c}"] = np.divide(
            extra, square, out=np.zeros_like(extra), where=square > 0
        ).clip(min=0)
    for p in range(N_PROGRAMMES):
        z = activity[:, p]
        spread = [z[m].std() for m in members.values()]
        clusters[f"programme:{p + 1}"] = spread
        covariance = sum(rates[m].T @ (z[m] - z[m].mean()) for m in members.values())
        variance = sum(
            m.sum() * s**2 * genes[c] for (c, m), s in zip(members.items(), spread, strict=True)
        )
        loading = np.clip(covariance / variance, -LARGEST_LOADING, LARGEST_LOADING)
        genes[f"programme:{p + 1}"] = loading
    clusters["conductance"] = knn_conductance(adata)
    return _rounded(clusters), _rounded(pd.DataFrame(genes, index=pd.Index(chosen, name="gene")))


def knn_conductance(adata: AnnData) -> pd.Series:
    r"""Say how connected each cluster is with its parent.

    Parameters
    ----------
    adata : AnnData
        The real cells or a stand-in.

    Returns
    -------
    Series
        Of each cluster of the lineage, NaN for the root.

    Notes
    -----
    In the graph that leads from each cell to its 15 nearest others, after
    ``Preprocessor(n_top_genes=300)``, the conductance of :math:`a` and :math:`b` is

    .. math::
        \frac{e(a, b) + e(b, a)}{15 \min(|a|, |b|)},

    with the number :math:`e(a, b)` of edges from :math:`a` to :math:`b`.
    """
    from sklearn.neighbors import NearestNeighbors

    X = rpumap.Preprocessor(n_top_genes=N_VARIABLE).fit_transform(adata)
    search = NearestNeighbors(n_neighbors=N_NEIGHBORS, algorithm="brute").fit(X)
    near = search.kneighbors(return_distance=False)  # of the cells it was fitted to: not itself
    labels = np.asarray(adata.obs["clusters"].astype(str))
    found = {}
    for b, a in LINEAGE.items():
        edges = [(labels[near[labels == x]] == y).sum() for x, y in ((a, b), (b, a))]
        smaller = min((labels == a).sum(), (labels == b).sum())
        found[b] = sum(edges) / (N_NEIGHBORS * smaller) if smaller else np.nan
    return pd.Series(found)


def find_crowding(
    clusters: pd.DataFrame, genes: pd.DataFrame, n_rounds: int = N_ROUNDS
) -> pd.DataFrame:
    """Find how crowded boundaries must be for stand-ins to be as connected as the real cells.

    Parameters
    ----------
    clusters, genes : DataFrame
        As `summarise` returns them.
    n_rounds : int, default 24
        Number of rounds, each with four stand-ins.

    Returns
    -------
    DataFrame
        `clusters` with two more columns, of one number for each edge of the lineage:
        ``crowding_parent`` is it, and ``crowding`` the same but at least 4.

    Notes
    -----
    If the stand-ins of a round are on the average less connected along an edge than the real cells,
    cells are crowded more at that boundary, else less (stochastic approximation in the logarithm,
    with half steps in the second half of the rounds; the mean over that half is returned). The
    seeds are fixed, so the same tables give the same numbers.
    """
    log, trail = pd.Series(np.log(CROWDING), index=clusters.index), []
    for k in range(n_rounds):
        table = _crowded(clusters, log)
        seeds = range(FIRST_SEED + k * N_STANDINS, FIRST_SEED + (k + 1) * N_STANDINS)
        drawn = [knn_conductance(simulate_lineage(table, genes, random_state=s)) for s in seeds]
        excess = sum(drawn) / len(drawn) / clusters["conductance"] - 1
        step = 2.0 if k < n_rounds // 2 else 1.0
        log = (log - step * excess.fillna(0)).clip(*np.log(CROWDING_RANGE))
        trail.append(log)
    late = trail[n_rounds // 2 :]
    return _rounded(_crowded(clusters, sum(late) / len(late)))


def _crowded(clusters: pd.DataFrame, log: pd.Series) -> pd.DataFrame:
    return clusters.assign(crowding=np.maximum(np.exp(log), CROWDING), crowding_parent=np.exp(log))


def _choose_genes(adata: AnnData) -> tuple[list[str], list[str]]:
    """Names of the most variable genes, and of all genes of the table."""
    import scanpy

    seen = np.asarray((adata.X > 0).sum(axis=0)).ravel() >= MIN_CELLS
    table = scanpy.pp.highly_variable_genes(
        adata, flavor="seurat_v3", n_top_genes=adata.n_vars, inplace=False
    )
    table.index = adata.var_names
    ranked = table[seen].sort_values("highly_variable_rank")
    variable = list(ranked.index[:N_VARIABLE])
    chosen = set(variable) | set(MARKERS).intersection(adata.var_names)
    rest = ranked.drop(list(chosen), errors="ignore").sort_values("means").index
    n_more = min(N_GENES - len(chosen), len(rest))
    chosen |= set(rest[np.linspace(0, len(rest) - 1, n_more).round().astype(int)])
    return variable, sorted(chosen)


def _programmes(
    values: np.ndarray, variable: np.ndarray, members: dict[str, np.ndarray]
) -> np.ndarray:
    """Activities, shape (n_cells, N_PROGRAMMES), of unit variance over all cells."""
    z = ((values - values.mean(axis=0)) / values.std(axis=0))[:, variable].clip(-10, 10)
    centre = {c: z[m].mean(axis=0) for c, m in members.items()}
    for c, m in members.items():
        z[m] -= centre[c]
        neighbours = [d for d in LINEAGE if LINEAGE[d] == c or LINEAGE[c] == d]
        towards, _ = np.linalg.qr(np.column_stack([centre[d] - centre[c] for d in neighbours]))
        z[m] -= z[m] @ towards @ towards.T
    left, _, axes = np.linalg.svd(z, full_matrices=False)
    left, axes = left[:, :N_PROGRAMMES], axes[:N_PROGRAMMES]
    # the sign of an axis is arbitrary: its longest component shall be positive
    longest = np.take_along_axis(axes, np.abs(axes).argmax(axis=1)[:, None], axis=1)
    return left * np.sign(longest.T) * np.sqrt(len(z))


def _rounded(table: pd.DataFrame) -> pd.DataFrame:
    numbers = table.select_dtypes("float")
    return table.assign(**numbers.map(lambda x: float(f"{x:.{DIGITS}g}")))


def main(arguments: list[str] | None = None) -> None:
    """Read a file, and write the two tables."""
    from rpumap.datasets._published import read_counts

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path, help="the real pancreas data, .h5ad")
    parser.add_argument("--out", type=Path, default=Path(), help="folder for the tables")
    parser.add_argument("--rounds", type=int, default=N_ROUNDS, help="to find the crowding")
    options = parser.parse_args(arguments)
    adata = read_counts(options.file)
    header = (
        f"# Computed by book/summarise_pancreas.py from {adata.n_obs} real cells and "
        f"{adata.n_vars} genes: summary numbers, no cells.\n"
    )
    clusters, genes = summarise(adata)
    clusters = find_crowding(clusters, genes, options.rounds)
    for kind, table in {"clusters": clusters, "genes": genes}.items():
        text = header + table.to_csv(lineterminator="\n")
        (options.out / f"pancreas_{kind}.csv").write_text(text, encoding="utf-8")
    print(f"{len(clusters)} clusters and {len(genes)} genes summarised")


if __name__ == "__main__":
    main()
