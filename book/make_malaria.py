"""Make malaria_pberghei_10x.h5ad, which ``rpumap.datasets.malaria`` reads, from published tables.

``python book/make_malaria.py COUNTS PHENO OUT.h5ad --clock CLOCK``, where the tables are those of
the Malaria Cell Atlas (Howick et al. 2019, doi 10.1126/science.aaw2619), in the folder
Expression_Matrices/10X of https://github.com/vhowick/MalariaCellAtlas, which states the licence
GPL-3.0:

- COUNTS, allpb10x/allpb10x_counts.csv.zip: raw counts, genes in rows and cells in columns;
- PHENO, allpb10x/allpb10x_pheno.csv: the cells, with the authors' clusters;
- CLOCK, pb10xIDC/pb10xIDC_pheno.csv: the asexual cells again, with their angle around the cycle.
  Without it the file has no ``obs["clock_pseudotime"]``.

Name the result malaria_pberghei_10x.h5ad, and set the environment variable RPUMAP_DATA_DIR to its
folder.
"""

from __future__ import annotations

import argparse
import zipfile
from pathlib import Path
from typing import IO

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

# The authors' clusters 0 to 7, which follow the asexual cycle in this order, by their median bulk
# hour and angle; the names are chosen after these. M and F are the gametocytes.
STAGES = {
    "6": "IDC1_ring/merozoite(cl6)",
    "2": "IDC2_ring(cl2)",
    "0": "IDC3_late_ring(cl0)",
    "1": "IDC4_early_troph(cl1)",
    "3": "IDC5_late_troph(cl3)",
    "4": "IDC6_schizont(cl4)",
    "7": "IDC7_schizont(cl7)",
    "5": "IDC8_late_schizont(cl5)",
    "M": "gametocyte_male",
    "F": "gametocyte_female",
}
CLUSTER, BULK, BULK_R = "absclust3", "Prediction.Pearsons.", "r.Pearsons."
AXES = ["PC1_3d", "PC2_3d", "PC3_3d"]
CLOCK = "clock_pseudotime"
SOURCE = (
    "Plasmodium berghei, blood cycle and gametocytes, one 10x run with three time points; Malaria "
    "Cell Atlas, Howick et al. 2019, doi 10.1126/science.aaw2619; tables allpb10x of the GitHub "
    "repository vhowick/MalariaCellAtlas (licence GPL-3.0)"
)
LABEL_NOTE = (
    "cluster: the authors'. stage: the same in the order of the cycle, which is closed; the names "
    "are not the authors'. bulk_hour: the hour of the bulk time course that the cell correlates "
    "with best, by bulk_r; not the time when it was sampled. clock_pseudotime: the authors' angle "
    "around the cycle."
)
GENES_AT_ONCE = 500


def make(counts: Path, pheno: Path, clock: Path | None = None) -> AnnData:
    """Put the tables together.

    Parameters
    ----------
    counts, pheno, clock : Path
        The tables, as .csv or .csv.zip. The first column holds names, whatever it is called.

    Returns
    -------
    AnnData of shape (n_cells, n_genes)
        The cells of `pheno` in its order, with all genes of `counts`: raw counts in ``X`` (CSR,
        int32). ``obs`` holds cluster, stage, bulk_hour, bulk_r, clock_pseudotime (NaN for cells
        that `clock` has not), coordinates, library_size and n_genes_detected.

    Raises
    ------
    ValueError
        If a column, or a cell of `pheno` in `counts`, is lacking; a cluster or hour cannot be
        read; or the counts are not whole, negative or no numbers. The message says which.
    """
    cells = _read(pheno, [CLUSTER, BULK, BULK_R, *AXES])
    cluster = cells[CLUSTER].fillna("nothing")
    if unknown := sorted(set(cluster) - set(STAGES)):
        raise ValueError(
            f"{pheno}: the column {CLUSTER} holds {_some(unknown)}; known are {', '.join(STAGES)}"
        )
    hour = cells[BULK].astype(str).str.extract(r"(\d+)\s*hr", expand=False)
    if hour.isna().any():
        raise ValueError(
            f"{pheno}: the column {BULK} must name hours, such as Pb_10hr.dat, but holds "
            f"{_some(cells.loc[hour.isna(), BULK].unique())}"
        )
    obs = pd.DataFrame(index=cells.index.astype(str))
    obs["cluster"] = pd.Categorical(cluster)
    obs["stage"] = pd.Categorical(cluster.map(STAGES), list(STAGES.values()))
    obs["bulk_hour"] = hour.astype(int)
    obs["bulk_r"] = cells[BULK_R]
    if clock is not None:
        obs[CLOCK] = _read(clock, [CLOCK])[CLOCK].reindex(obs.index)
    obs[AXES] = cells[AXES]
    X, genes = _read_counts(counts, obs.index)
    obs["library_size"] = np.ravel(X.sum(axis=1)).astype(int)
    obs["n_genes_detected"] = np.diff(X.indptr)
    uns = {"source": SOURCE, "label_note": LABEL_NOTE, "genes_in_source": len(genes)}
    return AnnData(X, obs=obs, var=pd.DataFrame(index=genes), uns=uns)


def _read(path: Path, columns: list[str]) -> pd.DataFrame:
    with _open(path) as file:
        table = pd.read_csv(file, index_col=0, dtype={CLUSTER: str})
    _check_present(path, "column", columns, table.columns)
    if table.index.has_duplicates:
        repeated = table.index[table.index.duplicated()]
        raise ValueError(f"{path}: cells in its first column repeat: {_some(repeated)}")
    return table


def _read_counts(path: Path, cells: pd.Index) -> tuple[sparse.csr_matrix, list[str]]:
    """Read the counts of some cells, a few hundred genes at a time; transpose them."""
    blocks, genes = [], []
    with _open(path) as file:
        for block in pd.read_csv(file, index_col=0, chunksize=GENES_AT_ONCE):
            _check_present(path, "column of the cell", cells, block.columns)
            block = block[cells]
            is_number = all(dtype.kind in "iuf" for dtype in block.dtypes)
            values = block.to_numpy() if is_number else np.full(1, np.nan)
            if not np.isfinite(values).all() or (values < 0).any() or (values % 1).any():
                raise ValueError(f"{path} must hold raw counts: whole numbers of at least 0")
            blocks.append(sparse.csr_matrix(values.astype(np.int32)))
            genes += block.index.astype(str).tolist()
    return sparse.vstack(blocks).T.tocsr(), genes


def _open(path: Path) -> IO[bytes]:
    if not zipfile.is_zipfile(path):
        return path.open("rb")
    archive = zipfile.ZipFile(path)
    # macOS puts files of its own beside the table
    tables = [
        name
        for name in archive.namelist()
        if name.endswith(".csv") and not name.startswith("__MACOSX")
    ]
    if len(tables) != 1:
        raise ValueError(f"{path} must hold one .csv file, not {len(tables)}")
    return archive.open(tables[0])


def _check_present(path: Path, what: str, wanted: list[str] | pd.Index, found: pd.Index) -> None:
    if len(lacking := pd.Index(wanted).difference(found, sort=False)):
        raise ValueError(
            f"{path} lacks {len(lacking)} of {len(wanted)} columns that are needed: no {what} "
            f"{_some(lacking)}; its columns are {_some(found, 30)}"
        )


def _some(names: list[str] | pd.Index | np.ndarray, most: int = 5) -> str:
    return ", ".join(map(str, names[:most])) + (", ..." if len(names) > most else "")


def main(arguments: list[str] | None = None) -> None:
    """Read the tables, and write the file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("counts", type=Path, help="allpb10x_counts.csv.zip")
    parser.add_argument("pheno", type=Path, help="allpb10x_pheno.csv")
    parser.add_argument("out", type=Path, help="the file to write, malaria_pberghei_10x.h5ad")
    parser.add_argument("--clock", type=Path, help="pb10xIDC_pheno.csv")
    options = parser.parse_args(arguments)
    adata = make(options.counts, options.pheno, options.clock)
    adata.write_h5ad(options.out, compression="gzip")
    print(f"{options.out}: {adata.n_obs:,} cells and {adata.n_vars:,} genes")
    if options.clock is None:
        print(f"Without --clock it has no obs[{CLOCK!r}].")


if __name__ == "__main__":
    main()
