"""The script that makes the file of the parasites, book/make_malaria.py, on small tables."""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest

from rpumap.datasets import malaria
from rpumap.datasets._studies import STUDIES

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "book"))
import make_malaria  # noqa: E402
from make_malaria import STAGES, main, make  # noqa: E402

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
