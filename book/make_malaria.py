"""Make the files that ``rpumap.datasets.malaria`` reads from published tables.

``python book/make_malaria.py COUNTS PHENO malaria_pberghei_10x.h5ad --clock CLOCK``, where the
tables are those of the Malaria Cell Atlas (Howick et al. 2019, doi 10.1126/science.aaw2619), in the
folder Expression_Matrices/10X of https://github.com/vhowick/MalariaCellAtlas, which states the
licence GPL-3.0:

- COUNTS, allpb10x/allpb10x_counts.csv.zip: raw counts, genes in rows and cells in columns;
- PHENO, allpb10x/allpb10x_pheno.csv: the cells, with the authors' clusters;
- CLOCK, pb10xIDC/pb10xIDC_pheno.csv: the asexual cells again, with their angle around the cycle.
  Without it the file has no ``obs["clock_pseudotime"]``.

``python book/make_malaria.py COUNTS META malaria_reid_PbM.h5ad --study smartseq2``, where the
tables are those of Reid et al. (2018, doi 10.7554/eLife.33105), in
https://github.com/adamjamesreid/Plasmodium-single-cell-RNA-seq, whose licence is GPL-3.0 too:

- COUNTS, PbM_counts.txt: counts of reads, genes in rows and cells in columns;
- META, PbM_meta.txt: the cells, with what the authors found them to be. Those that did not pass
  their filter, controls among them, are left out.

Set the environment variable RPUMAP_DATA_DIR to the folder of the files. The scorecard was measured
with files of the same cells that hold fewer genes; their ``obs["library_size"]`` counts all genes,
too.
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

from recipes import add_totals, check_counts, some, write

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
CONSENSUS, PASSED = "consensus", "pass_filter"
SMARTSEQ2_SOURCE = (
    "Plasmodium berghei, blood stages and gametocytes, full-length Smart-seq2, whose counts are of "
    "reads; Reid et al. 2018, doi 10.7554/eLife.33105; tables PbM of the GitHub repository "
    "adamjamesreid/Plasmodium-single-cell-RNA-seq (licence GPL-3.0)"
)
GENES_AT_ONCE = 500


def make(counts: Path, pheno: Path, clock: Path | None = None) -> AnnData:
    """Put the tables of the 10x study together.

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
            f"{pheno}: the column {CLUSTER} holds {some(unknown)}; known are {', '.join(STAGES)}"
        )
    hour = cells[BULK].astype(str).str.extract(r"(\d+)\s*hr", expand=False)
    if hour.isna().any():
        raise ValueError(
            f"{pheno}: the column {BULK} must name hours, such as Pb_10hr.dat, but holds "
            f"{some(cells.loc[hour.isna(), BULK].unique())}"
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
    uns = {"source": SOURCE, "label_note": LABEL_NOTE, "genes_in_source": len(genes)}
    adata = AnnData(X, obs=obs, var=pd.DataFrame(index=genes), uns=uns)
    add_totals(adata)
    return adata


def make_smartseq2(counts: Path, meta: Path) -> AnnData:
    """Put the tables of the Smart-seq2 study together.

    Parameters
    ----------
    counts, meta : Path
        The tables, separated by tabs. The first column holds names.

    Returns
    -------
    AnnData of shape (n_cells, n_genes)
        The cells of `meta` that passed the authors' filter, in its order, with all genes of
        `counts`: counts of reads in ``X`` (CSR, int32). ``obs`` holds the columns of `meta`, and
        library_size and n_genes_detected.

    Raises
    ------
    ValueError
        If a column, or a cell in `counts`, is lacking; the filter is not TRUE or FALSE; a cell has
        no consensus; or the counts are not whole, negative or no numbers.
    """
    cells = _read(meta, [CONSENSUS, PASSED], "\t")
    if cells[PASSED].dtype != bool:
        raise ValueError(
            f"{meta}: the column {PASSED} must hold TRUE or FALSE, not "
            f"{some(cells[PASSED].unique())}"
        )
    cells = cells[cells[PASSED]]
    if cells[CONSENSUS].isna().any():
        raise ValueError(
            f"{meta}: the column {CONSENSUS} is empty for "
            f"{some(cells.index[cells[CONSENSUS].isna()])}"
        )
    X, genes = _read_counts(counts, cells.index, "\t")
    uns = {"source": SMARTSEQ2_SOURCE, "genes_in_source": len(genes)}
    adata = AnnData(X, obs=cells, var=pd.DataFrame(index=genes), uns=uns)
    add_totals(adata)
    return adata


def _read(path: Path, columns: list[str], sep: str = ",") -> pd.DataFrame:
    with _open(path) as file:
        table = pd.read_csv(file, sep=sep, index_col=0, dtype={CLUSTER: str})
    _check_present(path, "column", columns, table.columns)
    if table.index.has_duplicates:
        repeated = table.index[table.index.duplicated()]
        raise ValueError(f"{path}: cells in its first column repeat: {some(repeated)}")
    return table


def _read_counts(
    path: Path, cells: pd.Index, sep: str = ","
) -> tuple[sparse.csr_matrix, list[str]]:
    """Read the counts of some cells, a few hundred genes at a time; transpose them."""
    blocks, genes = [], []
    with _open(path) as file:
        for block in pd.read_csv(file, sep=sep, index_col=0, chunksize=GENES_AT_ONCE):
            _check_present(path, "column of the cell", cells, block.columns)
            block = block[cells]
            is_number = all(dtype.kind in "iuf" for dtype in block.dtypes)
            values = block.to_numpy() if is_number else np.full(1, np.nan)
            check_counts(path, values)
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
            f"{some(lacking)}; its columns are {some(found, 30)}"
        )


def main(arguments: list[str] | None = None) -> None:
    """Read the tables of a study, and write its file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("counts", type=Path, help="allpb10x_counts.csv.zip or PbM_counts.txt")
    parser.add_argument("cells", type=Path, help="allpb10x_pheno.csv or PbM_meta.txt")
    parser.add_argument("out", type=Path, help="the file to write")
    parser.add_argument("--study", choices=["10x", "smartseq2"], default="10x")
    parser.add_argument("--clock", type=Path, help="pb10xIDC_pheno.csv, of the 10x study")
    options = parser.parse_args(arguments)
    if options.study == "smartseq2":
        write(make_smartseq2(options.counts, options.cells), options.out)
        return
    write(make(options.counts, options.cells, options.clock), options.out)
    if options.clock is None:
        print(f"Without --clock it has no obs[{CLOCK!r}].")


if __name__ == "__main__":
    main()
