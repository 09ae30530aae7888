"""Make the files that ``rpumap.datasets.pbmc`` reads from published matrices.

``python book/make_pbmc.py facs FOLDER pbmc_facs_zheng2017.h5ad --cells CELLS``

FOLDER holds the filtered matrices of the ten populations that Zheng et al. (2017, doi
10.1038/ncomms14049; reads in SRP073767) sorted by antibodies, as 10x Genomics publishes them: for
each NAME of `POPULATIONS` the archive
https://cf.10xgenomics.com/samples/cell-exp/1.1.0/NAME/NAME_filtered_gene_bc_matrices.tar.gz, to be
found by hand under https://support.10xgenomics.com/single-cell-gene-expression/datasets. They hold
some 95,000 cells. CELLS is a text file that names those to keep, one a line, such as
AAACATACAACCAC-1-b_cells. The scorecard was measured with the 3,874 cells of the R package
fastTopics, whose names R writes by

    with(fastTopics::pbmc_facs, writeLines(c(rownames(counts), rownames(counts_test)), "cells.txt"))

``python book/make_pbmc.py pbmc3k ARCHIVE LABELS pbmc3k_10x_raw.h5ad``

ARCHIVE is the filtered matrix of 2,700 cells of one donor (10x Genomics, CC BY 4.0),
https://cf.10xgenomics.com/samples/cell-exp/1.1.0/pbmc3k/pbmc3k_filtered_gene_bc_matrices.tar.gz of
the page https://support.10xgenomics.com/single-cell-gene-expression/datasets/1.1.0/pbmc3k. LABELS
are those of a clustering of 2,638 of these cells, in one of two forms. The scorecard was measured
with those of Seurat's tutorial (https://satijalab.org/seurat/articles/pbmc3k_tutorial.html), which
R writes by

    write.csv(clustifyr::pbmc_meta, "pbmc_meta.csv")

Those of scanpy's tutorial are in pbmc3k_processed.h5ad, which
``scanpy.datasets.pbmc3k_processed()`` downloads.

Set the environment variable RPUMAP_DATA_DIR to the folder of the files. Those that the scorecard
was measured with hold the same cells, and only genes that at least three of them have; the library
sizes of pbmc3k count these genes alone.
"""

from __future__ import annotations

import argparse
import tarfile
import tempfile
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import scanpy as sc
from anndata import AnnData
from scipy import sparse

from recipes import add_totals, check_counts, some, write

# What 10x Genomics calls each population in the names of its files; the population and its type as
# fastTopics names them
POPULATIONS = {
    "cd34": ("CD34+", "CD34+"),
    "b_cells": ("CD19+ B", "B cell"),
    "cd4_t_helper": ("CD4+ T Helper2", "T cell"),
    "regulatory_t": ("CD4+/CD25 T Reg", "T cell"),
    "naive_t": ("CD4+/CD45RA+/CD25- Naive T", "T cell"),
    "memory_t": ("CD4+/CD45RO+ Memory", "T cell"),
    "cytotoxic_t": ("CD8+ Cytotoxic T", "T cell"),
    "naive_cytotoxic": ("CD8+/CD45RA+ Naive Cytotoxic", "T cell"),
    "cd56_nk": ("CD56+ NK", "NK cell"),
    "cd14_monocytes": ("CD14+ Monocyte", "CD14+"),
}
ARCHIVE = "{}_filtered_gene_bc_matrices.tar.gz"
LABELS = ("classified", "louvain")  # of Seurat's tutorial, of scanpy's
FACS_SOURCE = (
    "human blood cells sorted by antibodies, Zheng et al. 2017, doi 10.1038/ncomms14049, reads in "
    "SRP073767; filtered matrices of ten populations as published by 10x Genomics"
)
PBMC3K_SOURCE = (
    "human blood cells of one healthy donor, data set pbmc3k of 10x Genomics (CC BY 4.0), filtered "
    "matrix; labels of a clustering, from {}"
)


def read_archive(path: Path) -> AnnData:
    """Read the counts of an archive of 10x Genomics.

    Parameters
    ----------
    path : Path
        A .tar.gz file that holds matrix.mtx, genes.tsv and barcodes.tsv in one folder.

    Returns
    -------
    AnnData of shape (n_cells, n_genes)
        Raw counts in ``X`` (CSR, int32); symbols of the genes, made unique, in ``var_names``.

    Raises
    ------
    ValueError
        If there is not one matrix.mtx in the archive, or it does not hold raw counts.
    OSError, tarfile.TarError
        If the archive cannot be read.
    """
    with tempfile.TemporaryDirectory() as folder, tarfile.open(path) as archive:
        archive.extractall(folder, filter="data")
        found = list(Path(folder).rglob("matrix.mtx"))
        if len(found) != 1:
            raise ValueError(f"{path} must hold one matrix.mtx, not {len(found)}")
        adata = sc.read_10x_mtx(found[0].parent)
    counts = sparse.csr_matrix(adata.X)
    check_counts(path, counts.data)
    adata.X = counts.astype(np.int32)
    return adata


def make_facs(folder: Path, cells: Path | None = None) -> AnnData:
    """Put the sorted populations together.

    Parameters
    ----------
    folder : Path
        Has the ten archives under their published names.
    cells : Path, optional
        Text file with the names of the cells to keep, in this order. Default: all.

    Returns
    -------
    AnnData of shape (n_cells, n_genes)
        Raw counts in ``X`` (CSR, int32) of all genes. A cell is called by its barcode and its
        population. ``obs`` holds cell_type (the population), subpop (its type), library_size and
        n_genes_detected.

    Raises
    ------
    ValueError
        If an archive is lacking or is not what it should be, or does not have one of `cells`.
    """
    archives = {name: folder / ARCHIVE.format(name) for name in POPULATIONS}
    if lacking := [path.name for path in archives.values() if not path.is_file()]:
        raise ValueError(f"{folder} lacks {some(lacking, 10)}")
    parts = {name: read_archive(path) for name, path in archives.items()}
    adata = anndata.concat(parts, join="outer", label="population", index_unique="-")
    if cells is not None:
        # fastTopics says cd34_filtered
        names = pd.Index(cells.read_text(encoding="utf-8").split()).str.removesuffix("_filtered")
        if len(unknown := names.difference(adata.obs_names, sort=False)):
            raise ValueError(
                f"{cells} names {len(unknown)} cells that {folder} has not: {some(unknown)}"
            )
        adata = adata[names.unique()].copy()
    population = adata.obs.pop("population").astype(str)
    for i, column in enumerate(("cell_type", "subpop")):
        names_of = {name: both[i] for name, both in POPULATIONS.items()}
        adata.obs[column] = pd.Categorical(population.map(names_of))
    add_totals(adata)
    adata.uns["source"] = FACS_SOURCE
    return adata


def make_pbmc3k(archive: Path, labels: Path) -> AnnData:
    """Put the counts of the 2,700 cells and their labels together.

    Parameters
    ----------
    archive : Path
        The archive of 10x Genomics.
    labels : Path
        A .csv file whose first column holds barcodes, with the labels in a column ``classified``,
        or an .h5ad file with ``obs["louvain"]``.

    Returns
    -------
    AnnData of shape (n_cells, n_genes)
        Raw counts in ``X`` (CSR, int32) of all genes. ``obs`` holds cell_type ("unlabelled" where
        `labels` has none), library_size and n_genes_detected.

    Raises
    ------
    ValueError
        If the archive is not what it should be, or `labels` has no such column or names cells that
        are not in the archive.
    """
    adata = read_archive(archive)
    adata.obs_names = adata.obs_names.str.removesuffix("-1")
    is_h5ad = labels.suffix == ".h5ad"
    table = anndata.read_h5ad(labels).obs if is_h5ad else pd.read_csv(labels, index_col=0)
    column = next((name for name in LABELS if name in table), None)
    if column is None:
        raise ValueError(f"{labels} has no column {' or '.join(LABELS)}, but {some(table.columns)}")
    found = table[column].astype(object).set_axis(table.index.astype(str).str.removesuffix("-1"))
    if len(unknown := found.index.difference(adata.obs_names, sort=False)):
        raise ValueError(
            f"{labels} names {len(unknown)} cells that {archive} has not: {some(unknown)}"
        )
    adata.obs["cell_type"] = pd.Categorical(found.reindex(adata.obs_names).fillna("unlabelled"))
    add_totals(adata)
    adata.uns["source"] = PBMC3K_SOURCE.format(labels.name)
    return adata


def main(arguments: list[str] | None = None) -> None:
    """Read the archives of a study, and write its file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    studies = parser.add_subparsers(dest="study", required=True)
    facs = studies.add_parser("facs", help="populations sorted by antibodies")
    facs.add_argument("folder", type=Path, help="the folder of the ten archives")
    facs.add_argument("out", type=Path, help="the file to write, pbmc_facs_zheng2017.h5ad")
    facs.add_argument("--cells", type=Path, help="names of the cells to keep; default: all")
    pbmc3k = studies.add_parser("pbmc3k", help="cells of one donor, labelled by clustering")
    pbmc3k.add_argument("archive", type=Path, help="pbmc3k_filtered_gene_bc_matrices.tar.gz")
    pbmc3k.add_argument("labels", type=Path, help="pbmc_meta.csv or pbmc3k_processed.h5ad")
    pbmc3k.add_argument("out", type=Path, help="the file to write, pbmc3k_10x_raw.h5ad")
    options = parser.parse_args(arguments)
    if options.study == "facs":
        write(make_facs(options.folder, options.cells), options.out)
    else:
        write(make_pbmc3k(options.archive, options.labels), options.out)


if __name__ == "__main__":
    main()
