"""Compute the tables of the simulated pancreas from the real one.

``python book/summarise_pancreas.py pancreas.h5ad`` writes ``pancreas_clusters.csv`` and
``pancreas_genes.csv`` into the current folder (``--out`` names another). They hold summary numbers
of clusters, and no cells.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from rpumap.datasets._simulate import RATE_UNIT

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
        logarithm of the library size, standard deviation of each programme's activity.
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
    return _rounded(clusters), _rounded(pd.DataFrame(genes, index=pd.Index(chosen, name="gene")))


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
    options = parser.parse_args(arguments)
    adata = read_counts(options.file)
    header = (
        f"# Computed by book/summarise_pancreas.py from {adata.n_obs} real cells and "
        f"{adata.n_vars} genes: summary numbers, no cells.\n"
    )
    clusters, genes = summarise(adata)
    for kind, table in {"clusters": clusters, "genes": genes}.items():
        text = header + table.to_csv(lineterminator="\n")
        (options.out / f"pancreas_{kind}.csv").write_text(text, encoding="utf-8")
    print(f"{len(clusters)} clusters and {len(genes)} genes summarised")


if __name__ == "__main__":
    main()
