"""The script that makes the files of the blood cells, book/make_pbmc.py, on small archives."""

from __future__ import annotations

import sys
import tarfile
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy import io, sparse

from rpumap.datasets import pbmc
from rpumap.datasets._studies import STUDIES

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "book"))
from make_pbmc import ARCHIVE, POPULATIONS, main, make_facs, make_pbmc3k, read_archive  # noqa: E402

GENES = ["CD3E", "MS4A1", "TWICE", "TWICE", "NKG7"]


def some_cells(n_cells: int, seed: int) -> AnnData:
    """Draw counts of cells that are called as 10x Genomics calls them."""
    counts = np.random.default_rng(seed).poisson(1, (n_cells, len(GENES)))
    barcodes = [f"{'ACGT'[seed % 4]}{'ACGT'[i]}TTT-1" for i in range(n_cells)]
    adata = AnnData(sparse.csr_matrix(counts), obs=pd.DataFrame(index=barcodes))
    adata.var["symbol"] = GENES
    return adata


def export(adata: AnnData, path: Path, inside: str = "filtered_matrices_mex/hg19") -> Path:
    """Write an archive as Cell Ranger 1 does."""
    folder = path.with_suffix(".folder") / inside
    folder.mkdir(parents=True)
    io.mmwrite(folder / "matrix.mtx", adata.X.T)
    genes = pd.DataFrame({"id": [f"ENSG{i}" for i in range(adata.n_vars)]})
    genes["symbol"] = adata.var["symbol"].tolist()
    genes.to_csv(folder / "genes.tsv", sep="\t", header=False, index=False)
    (folder / "barcodes.tsv").write_text("\n".join(adata.obs_names) + "\n")
    with tarfile.open(path, "w:gz") as archive:
        archive.add(path.with_suffix(".folder"), ".")
    return path


@pytest.fixture
def populations(tmp_path) -> dict[str, AnnData]:
    """Write ten archives into a folder."""
    made = {name: some_cells(3, seed) for seed, name in enumerate(POPULATIONS)}
    for name, adata in made.items():
        export(adata, tmp_path / ARCHIVE.format(name))
    return made


@pytest.fixture
def pbmc3k(tmp_path) -> AnnData:
    """Write an archive of four cells."""
    adata = some_cells(4, 0)
    export(adata, tmp_path / "pbmc3k.tar.gz", "filtered_gene_bc_matrices/hg19")
    return adata


def test_an_archive_gives_back_the_cells_that_were_exported(tmp_path):
    wanted = some_cells(4, 1)
    adata = read_archive(export(wanted, tmp_path / "some.tar.gz"))
    np.testing.assert_array_equal(adata.X.toarray(), wanted.X.toarray())
    assert adata.obs_names.tolist() == wanted.obs_names.tolist()
    assert adata.var_names.tolist() == ["CD3E", "MS4A1", "TWICE", "TWICE-1", "NKG7"]


def test_the_populations_are_put_together(populations, tmp_path, folder, capsys):
    out = folder / "pbmc_facs_zheng2017.h5ad"
    main(["facs", str(tmp_path), str(out)])
    assert "30 cells and 5 genes" in capsys.readouterr().out
    made = anndata.read_h5ad(out)
    wanted = np.vstack([adata.X.toarray() for adata in populations.values()])
    np.testing.assert_array_equal(made.X.toarray(), wanted)
    assert made.X.dtype == np.int32
    assert made.obs["library_size"].tolist() == wanted.sum(axis=1).tolist()
    assert made.obs["n_genes_detected"].tolist() == (wanted > 0).sum(axis=1).tolist()
    assert made.obs_names[3] == "CATTT-1-b_cells"
    assert made.obs.loc["CATTT-1-b_cells", ["cell_type", "subpop"]].tolist() == [
        *("CD19+ B", "B cell")
    ]
    assert made.obs["cell_type"].nunique() == 10
    # and the package reads it
    adata = pbmc("facs")
    assert list(adata.obs["clusters"].cat.categories) == list(STUDIES["pbmc"]["facs"].names)
    assert adata.obs["label"].value_counts().to_dict() == {
        **{"CD34+": 3, "B": 3, "T": 18, "NK": 3, "monocyte": 3}
    }
    assert "Zheng et al. 2017" in adata.uns["source"]


def test_cells_can_be_chosen_by_name(populations, tmp_path):
    cells = tmp_path / "cells.txt"
    cells.write_text("CCTTT-1-b_cells\nAATTT-1-cd34_filtered\n")
    adata = make_facs(tmp_path, cells)
    assert adata.obs_names.tolist() == ["CCTTT-1-b_cells", "AATTT-1-cd34"]
    assert adata.X[0].toarray().tolist() == populations["b_cells"].X[1].toarray().tolist()
    cells.write_text("CCTTT-1-b_cells\nCCTTT-1-t_cells\n")
    with pytest.raises(ValueError, match="cells.txt names 1 cells .*: CCTTT-1-t_cells"):
        make_facs(tmp_path, cells)


def test_lacking_archives_are_named(populations, tmp_path):
    for name in ("naive_t", "cd34"):
        (tmp_path / ARCHIVE.format(name)).unlink()
    with pytest.raises(ValueError, match="lacks cd34_filtered_gene.*, naive_t_filtered_gene"):
        make_facs(tmp_path)


@pytest.mark.parametrize("form", ["Seurat", "scanpy"])
def test_the_cells_of_one_donor_get_their_labels(pbmc3k, tmp_path, folder, form):
    barcodes = pbmc3k.obs_names[[3, 0, 1]]
    if form == "Seurat":
        names, labels = ["Naive CD4 T", "DC", "CD14+ Mono"], tmp_path / "pbmc_meta.csv"
        table = pd.DataFrame({"umap": 1.0, "classified": names}, barcodes.str.removesuffix("-1"))
        table.to_csv(labels)
    else:
        names = ["CD4 T cells", "Dendritic cells", "CD14+ Monocytes"]
        labels = tmp_path / "pbmc3k_processed.h5ad"
        obs = pd.DataFrame({"louvain": pd.Categorical(names)}, barcodes)
        AnnData(np.zeros((3, 1)), obs=obs).write_h5ad(labels)
    out = folder / "pbmc3k_10x_raw.h5ad"
    main(["pbmc3k", str(tmp_path / "pbmc3k.tar.gz"), str(labels), str(out)])
    made = anndata.read_h5ad(out)
    np.testing.assert_array_equal(made.X.toarray(), pbmc3k.X.toarray())
    assert made.obs_names[0] == "AATTT"
    assert made.obs["cell_type"].tolist() == [names[1], names[2], "unlabelled", names[0]]
    assert made.obs["library_size"].tolist() == pbmc3k.X.sum(axis=1).A1.tolist()
    # and the package reads it
    adata = pbmc("pbmc3k")
    assert adata.obs["label"].astype(object).fillna("none").tolist() == [
        *("none", "monocyte", "none", "T")
    ]
    assert labels.name in adata.uns["source"]


def test_labels_that_do_not_fit_are_refused(pbmc3k, tmp_path):
    archive, labels = tmp_path / "pbmc3k.tar.gz", tmp_path / "labels.csv"
    pd.DataFrame({"kind": ["T"]}, ["AATTT"]).to_csv(labels)
    with pytest.raises(
        ValueError, match="labels.csv has no column classified or louvain, but kind"
    ):
        make_pbmc3k(archive, labels)
    pd.DataFrame({"classified": ["T", "B"]}, ["AATTT", "GGGGG"]).to_csv(labels)
    with pytest.raises(ValueError, match="labels.csv names 1 cells that .* has not: GGGGG"):
        make_pbmc3k(archive, labels)


def test_archives_of_something_else_are_refused(tmp_path):
    adata = some_cells(3, 0)
    adata.X = adata.X / 3
    with pytest.raises(ValueError, match="fractions.tar.gz must hold raw counts"):
        read_archive(export(adata, tmp_path / "fractions.tar.gz"))
    with tarfile.open(tmp_path / "empty.tar.gz", "w:gz"):
        pass
    with pytest.raises(ValueError, match="empty.tar.gz must hold one matrix.mtx, not 0"):
        read_archive(tmp_path / "empty.tar.gz")
