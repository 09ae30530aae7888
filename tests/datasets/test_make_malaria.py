"""The script that makes the files of the parasites, book/make_malaria.py, on small tables."""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

from rpumap.datasets import malaria
from rpumap.datasets._studies import STUDIES

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "book"))
import make_malaria  # noqa: E402
from make_malaria import STAGES, main, make, make_smartseq2  # noqa: E402

CELLS = [f"CELL{i}" for i in range(12)]
CLUSTERS = [*"0123456701", "M", "F"]


@pytest.fixture
def tables(tmp_path) -> dict[str, pd.DataFrame]:
    """Draw tables laid out as the published ones; the script reads them when they are saved."""
    draw = np.random.default_rng(0)
    counts = pd.DataFrame(
        draw.poisson(1, (23, 15)), [f"GENE{i}" for i in range(23)], [*CELLS[::-1], "x", "y", "z"]
    )
    pheno = pd.DataFrame({"sample_id": CELLS, "absclust3": CLUSTERS}, CELLS)
    pheno["Prediction.Pearsons."] = [f"Pb_{2 * i}hr.dat" for i in range(12)]
    pheno["r.Pearsons."] = draw.random(12)
    pheno[["PC1_3d", "PC2_3d", "PC3_3d"]] = draw.normal(size=(12, 3))
    clock = pd.DataFrame({"clock_pseudotime": draw.random(10)}, CELLS[:10])
    return {"counts": counts, "pheno": pheno, "clock": clock}


def save(tables: dict[str, pd.DataFrame], folder: Path) -> list[Path]:
    for name, table in tables.items():
        table.to_csv(folder / f"{name}.csv")
    # as macOS packs files
    with zipfile.ZipFile(folder / "counts.csv.zip", "w") as archive:
        archive.write(folder / "counts.csv", "counts.csv")
        archive.writestr("__MACOSX/._counts.csv", b"\x00\x05")
    return [folder / name for name in ("counts.csv.zip", "pheno.csv", "clock.csv")]


def test_the_file_holds_what_the_tables_hold(tables, folder, monkeypatch, capsys):
    monkeypatch.setattr(make_malaria, "GENES_AT_ONCE", 10)
    counts, pheno, clock = map(str, save(tables, folder))
    out = folder / "malaria_pberghei_10x.h5ad"
    main([counts, pheno, str(out), "--clock", clock])
    assert "12 cells and 23 genes" in capsys.readouterr().out
    made, wanted = anndata.read_h5ad(out), tables["counts"][CELLS].T
    pd.testing.assert_frame_equal(made.to_df(), wanted, check_dtype=False)
    obs = made.obs
    assert obs["cluster"].tolist() == CLUSTERS
    assert obs["stage"].tolist() == [STAGES[cluster] for cluster in CLUSTERS]
    assert obs["bulk_hour"].tolist() == list(range(0, 24, 2))
    assert obs["library_size"].tolist() == wanted.sum(axis=1).tolist()
    assert obs["n_genes_detected"].tolist() == (wanted > 0).sum(axis=1).tolist()
    np.testing.assert_allclose(obs["clock_pseudotime"][:10], tables["clock"]["clock_pseudotime"])
    assert obs["clock_pseudotime"][10:].isna().all()
    for column, own in {"bulk_r": "r.Pearsons.", "PC3_3d": "PC3_3d"}.items():
        np.testing.assert_allclose(obs[column], tables["pheno"][own])
    # and the package reads it
    adata = malaria()
    assert list(adata.obs) == [*obs, "clusters", "label"]
    assert list(adata.obs["clusters"].cat.categories) == list(STAGES.values())
    assert "Howick et al. 2019" in adata.uns["source"]


def test_the_stages_of_the_script_are_those_of_the_package():
    assert list(STAGES.values()) == list(STUDIES["malaria"]["10x"].names)


def test_without_the_third_table_there_is_no_angle(tables, folder, capsys):
    counts, pheno, _ = map(str, save(tables, folder))
    main([counts, pheno, str(folder / "out.h5ad")])
    assert "no obs['clock_pseudotime']" in capsys.readouterr().out
    assert "clock_pseudotime" not in anndata.read_h5ad(folder / "out.h5ad").obs


def lacks(table: str, column: str):
    def spoil(tables):
        tables[table] = tables[table].drop(columns=column)

    return spoil


def replaces(table: str, column: str, value: object):
    def spoil(tables):
        values = tables[table][column].astype(object)
        values.iloc[3] = value
        tables[table][column] = values

    return spoil


def repeats(tables):
    tables["pheno"] = tables["pheno"].rename(index={"CELL1": "CELL0"})


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lacks("pheno", "absclust3"), r"pheno.csv lacks 1 of 6 .* absclust3; its columns are samp"),
        (lacks("pheno", "r.Pearsons."), r"pheno.csv lacks 1 of 6 .* r.Pearsons.; its columns are"),
        (lacks("clock", "clock_pseudotime"), "clock.csv lacks 1 of 1 .* no column clock_pseudo"),
        (lacks("counts", "CELL7"), "counts.csv.zip lacks 1 of 12 .* no column of the cell CELL7"),
        (replaces("pheno", "absclust3", "8"), "absclust3 holds 8; known are 6, 2, 0, 1"),
        (replaces("pheno", "absclust3", None), "absclust3 holds nothing; known"),
        (replaces("pheno", "Prediction.Pearsons.", "late"), "must name hours, .* holds late"),
        (replaces("counts", "CELL7", 0.5), "must hold raw counts"),
        (replaces("counts", "CELL7", -1), "must hold raw counts"),
        (replaces("counts", "CELL7", None), "must hold raw counts"),
        (replaces("counts", "CELL7", "many"), "must hold raw counts"),
        (repeats, "cells in its first column repeat: CELL0"),
    ],
)
def test_what_is_wrong_with_a_table_is_said(tables, tmp_path, spoil, message):
    spoil(tables)
    with pytest.raises(ValueError, match=message):
        make(*save(tables, tmp_path))


def test_an_archive_of_several_tables_is_refused(tables, tmp_path):
    counts, pheno, _ = save(tables, tmp_path)
    with zipfile.ZipFile(counts, "a") as archive:
        archive.writestr("more.csv", "")
    with pytest.raises(ValueError, match="must hold one .csv file, not 2"):
        make(counts, pheno)


def test_a_file_that_cannot_be_written_leaves_the_one_before(tables, tmp_path, monkeypatch):
    counts, pheno, _ = map(str, save(tables, tmp_path))
    (tmp_path / "out.h5ad").write_text("what was there")

    def half(adata, path, **options):
        path.write_text("half a file")
        raise OSError("no space left")

    monkeypatch.setattr(AnnData, "write_h5ad", half)
    with pytest.raises(OSError, match="no space left"):
        main([counts, pheno, str(tmp_path / "out.h5ad")])
    assert (tmp_path / "out.h5ad").read_text() == "what was there"
    assert [path.name for path in tmp_path.glob("out*")] == ["out.h5ad"]


# The Smart-seq2 study


@pytest.fixture
def smartseq2() -> AnnData:
    """Make up cells, of which the third and the last did not pass the filter."""
    n_cells, passed = 9, np.ones(9, bool)
    passed[[2, 8]] = False
    counts = np.random.default_rng(0).poisson(100, (n_cells, 14))
    obs = pd.DataFrame(index=pd.Index([f"PbMB.{i}" for i in range(n_cells)], name="sample_id"))
    obs["ENA sample id"] = [f"ERS{i}" for i in range(n_cells)]
    obs["is_control"] = [False] * 8 + [True]
    obs["sc3_k4"] = np.where(passed, 1.0, np.nan)
    kinds = ["male", "female", None, "schizont", "outlier", "male", "trophozoite", "male", None]
    obs["consensus"] = kinds
    obs["pass_filter"] = passed
    return AnnData(counts, obs=obs, var=pd.DataFrame(index=[f"GENE{i}" for i in range(14)]))


def save_smartseq2(cells: AnnData, folder: Path, end: str = "\n") -> list[Path]:
    """Write tables laid out as the published ones."""
    paths = [folder / "PbM_counts.txt", folder / "PbM_meta.txt"]
    options = {"sep": "\t", "na_rep": "NA", "lineterminator": end}
    cells.to_df().T[::-1].to_csv(paths[0], index_label="id", **options)
    meta = cells.obs.copy()
    for column in meta.select_dtypes(bool):
        meta[column] = meta[column].map({True: "TRUE", False: "FALSE"})
    meta.to_csv(paths[1], **options)
    return paths


@pytest.mark.parametrize("end", ["\n", "\r", "\r\n"])
def test_the_other_file_holds_what_its_tables_hold(smartseq2, folder, monkeypatch, end):
    monkeypatch.setattr(make_malaria, "GENES_AT_ONCE", 5)
    out = folder / "malaria_reid_PbM.h5ad"
    main([*map(str, save_smartseq2(smartseq2, folder, end)), str(out), "--study", "smartseq2"])
    made = anndata.read_h5ad(out)
    wanted = smartseq2[smartseq2.obs["pass_filter"].to_numpy(), ::-1]
    pd.testing.assert_frame_equal(made.to_df(), wanted.to_df(), check_dtype=False)
    for column in wanted.obs:
        assert made.obs[column].tolist() == wanted.obs[column].tolist()
    assert made.obs["library_size"].tolist() == wanted.X.sum(axis=1).tolist()
    # and the package reads it
    adata = malaria("smartseq2")
    assert list(adata.obs) == [*made.obs, "clusters", "label"]
    assert adata.obs["label"].tolist()[:3] == ["male", "female", "schizont"]
    assert adata.obs["label"].isna().sum() == 1
    assert "Reid et al. 2018" in adata.uns["source"]


def test_what_is_wrong_with_the_other_tables_is_said(smartseq2, tmp_path):
    cells = smartseq2.copy()
    cells.obs["pass_filter"] = "maybe"
    with pytest.raises(ValueError, match="pass_filter must hold TRUE or FALSE, not maybe"):
        make_smartseq2(*save_smartseq2(cells, tmp_path))
    cells = smartseq2.copy()
    cells.obs.loc["PbMB.3", "consensus"] = np.nan
    with pytest.raises(ValueError, match="consensus is empty for PbMB.3"):
        make_smartseq2(*save_smartseq2(cells, tmp_path))
    counts, meta = save_smartseq2(smartseq2, tmp_path)
    meta.write_text(meta.read_text().replace("PbMB.1\t", "PbMB.11\t"))
    with pytest.raises(ValueError, match="lacks 1 of 7 .* no column of the cell PbMB.11"):
        make_smartseq2(counts, meta)
    smartseq2.X = smartseq2.X / 7
    with pytest.raises(ValueError, match="must hold raw counts"):
        make_smartseq2(*save_smartseq2(smartseq2, tmp_path))
