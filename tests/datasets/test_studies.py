"""Two studies of a tissue each: their files, their own labels, and the labels in common."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy import sparse

from rpumap.datasets import malaria, pbmc
from rpumap.datasets._studies import STUDIES

LOADERS = {"malaria": malaria, "pbmc": pbmc}
BOTH = [(tissue, study) for tissue, studies in STUDIES.items() for study in studies]


def small_study(tissue: str, study: str, folder: Path) -> tuple[AnnData, Path]:
    """Make a small file's worth of cells, and say where it belongs."""
    known = STUDIES[tissue][study]
    labels = [*reversed(known.names)] * 2 + ["odd"]
    n_cells = len(labels)
    counts = np.random.default_rng(0).poisson(2, size=(n_cells, 6)).astype(np.int32)
    cells = [f"cell{i}" for i in range(n_cells)]
    obs = pd.DataFrame({known.column: pd.Categorical(labels)}, index=cells)
    obs["library_size"] = counts.sum(axis=1) + np.arange(n_cells)
    obs["angle"] = np.where(np.arange(n_cells) % 2, np.nan, 0.5)
    made = AnnData(sparse.csr_matrix(counts), obs=obs, uns={"source": "cells of somebody"})
    return made, folder / known.filename


@pytest.mark.parametrize(("tissue", "study"), BOTH)
def test_cells_keep_their_columns_and_get_labels_in_common(folder, capsys, tissue, study):
    known = STUDIES[tissue][study]
    made, path = small_study(tissue, study, folder)
    made.obs["clusters"] = "of a clustering of one's own"  # not what the labels are
    made.write_h5ad(path)
    adata = LOADERS[tissue](study)
    np.testing.assert_array_equal(adata.X.toarray(), made.X.toarray())
    assert isinstance(adata.X, sparse.csr_matrix)
    assert adata.X.dtype == np.float32
    assert list(adata.obs["clusters"].cat.categories) == [*known.names, "odd"]
    own = made.obs[known.column].astype(str)
    assert adata.obs["clusters"].astype(str).tolist() == own.tolist()
    assert adata.obs["label"][:-1].tolist() == [known.names[name] for name in own[:-1]]
    assert adata.obs["label"].isna().tolist() == [False] * (len(own) - 1) + [True]
    assert list(adata.obs) == [*made.obs, "label"]
    for column in (known.column, "library_size", "angle"):
        pd.testing.assert_series_equal(adata.obs[column], made.obs[column], check_dtype=False)
    assert adata.uns["source"] == f"{path.name} in RPUMAP_DATA_DIR: cells of somebody"
    assert adata.uns["simulated"] is False
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("tissue", "first", "names"),
    [
        ("malaria", "10x", ["ring", "trophozoite", "schizont", "male", "female"]),
        ("pbmc", "facs", ["CD34+", "B", "T", "NK", "monocyte"]),
    ],
)
def test_both_studies_have_the_same_names_and_the_first_is_the_default(
    folder, tissue, first, names
):
    for study in STUDIES[tissue]:
        made, path = small_study(tissue, study, folder)
        made.uns["source"] = study
        made.write_h5ad(path)
        adata = LOADERS[tissue](study)
        assert list(adata.obs["label"].cat.categories) == names
    assert LOADERS[tissue]().uns["source"].endswith(first)


def test_cells_that_are_not_there_are_an_error_that_says_what_to_do(folder, monkeypatch):
    for tissue, study in BOTH:
        known = f"{STUDIES[tissue][study].filename} in the folder .* RPUMAP_DATA_DIR"
        recipe = f"from the published tables by book/make_{tissue}.py"
        monkeypatch.setenv("RPUMAP_DATA_DIR", str(folder))
        with pytest.raises(RuntimeError, match=f"{known} .* has no .* .{folder}.* {recipe}"):
            LOADERS[tissue](study)
        monkeypatch.setenv("RPUMAP_DATA_DIR", str(folder / "nowhere"))
        with pytest.raises(RuntimeError, match=f"{known} .* does not exist .*nowhere.* {recipe}"):
            LOADERS[tissue](study)
        monkeypatch.delenv("RPUMAP_DATA_DIR")
        with pytest.raises(RuntimeError, match=f"{known} .* but it is not set.* {recipe}"):
            LOADERS[tissue](study)


def test_an_unknown_study_is_refused(folder):
    with pytest.raises(ValueError, match="study must be '10x' or 'smartseq2', not 'reid'"):
        malaria("reid")
    with pytest.raises(ValueError, match="study must be 'facs' or 'pbmc3k', not None"):
        pbmc(None)


@pytest.mark.parametrize("problem", ["no stage", "half", "fractions", "broken", "simulated"])
def test_a_bad_file_is_an_error(folder, problem):
    made, path = small_study("malaria", "10x", folder)
    message = {
        "no stage": "label every cell in the column stage$",
        "half": "label every cell in the column stage$",
        "fractions": "does not hold raw counts",
        "broken": "cannot be read",
        "simulated": "must not pass for real",
    }[problem]
    if problem == "no stage":
        made.obs = made.obs.rename(columns={"stage": "clusters"})
    elif problem == "half":
        made.obs.loc["cell3", "stage"] = np.nan
    elif problem == "fractions":
        made.X = made.X / 3
    elif problem == "simulated":
        made.uns["simulated"] = True
    made.write_h5ad(path)
    if problem == "broken":
        path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(ValueError, match=message):
        malaria()


# The published cells, where they are


def published(tissue: str, study: str) -> AnnData:
    """Read the cells of a study, or skip the test."""
    filename = STUDIES[tissue][study].filename
    if not (Path(os.environ.get("RPUMAP_DATA_DIR", "")) / filename).is_file():
        pytest.skip(f"RPUMAP_DATA_DIR does not name a folder with {filename}")
    return LOADERS[tissue](study)


def test_the_parasites_are_those_of_the_atlas():
    adata = published("malaria", "10x")
    assert adata.n_obs == 4884
    assert "Howick et al" in adata.uns["source"]
    obs = adata.obs
    assert list(obs["clusters"].cat.categories) == list(STUDIES["malaria"]["10x"].names)
    assert (obs["clusters"].astype(str) == obs["stage"].astype(str)).all()
    assert obs["label"].notna().all()
    assert (obs["library_size"] >= adata.X.sum(axis=1).A1).all()
    # one circle: the mean angles of IDC1 to IDC8 go around it once, and gametocytes have none
    sexual = obs["clusters"].str.startswith("gametocyte")
    np.testing.assert_array_equal(obs["clock_pseudotime"].isna(), sexual)
    turn = np.exp(1j * obs["clock_pseudotime"][~sexual].astype(float))
    mean = turn.groupby(obs["clusters"].astype(str)).mean()
    steps = np.angle(np.roll(mean, -1) / mean)
    assert (steps > 0).all() or (steps < 0).all()
    np.testing.assert_allclose(abs(steps.sum()), 2 * np.pi)


def test_the_other_parasites_are_those_of_reid_and_colleagues():
    adata = published("malaria", "smartseq2")
    assert adata.n_obs == 144
    assert "Reid et al" in adata.uns["source"]
    counts = {"female": 44, "male": 39, "schizont": 32, "trophozoite": 22, "ring": 0}
    assert adata.obs["label"].value_counts().to_dict() == counts
    assert (adata.obs["consensus"][adata.obs["label"].isna()] == "outlier").all()


def test_the_sorted_blood_cells_are_those_of_zheng_and_colleagues():
    adata = published("pbmc", "facs")
    assert "Zheng et al" in adata.uns["source"]
    assert adata.obs["label"].notna().all()
    assert adata.obs.groupby("label", observed=True)["cell_type"].nunique().to_dict() == {
        "CD34+": 1,
        "B": 1,
        "T": 6,
        "NK": 1,
        "monocyte": 1,
    }


def test_the_other_blood_cells_are_2700_of_one_donor():
    adata = published("pbmc", "pbmc3k")
    assert adata.n_obs == 2700
    assert "10x Genomics" in adata.uns["source"]
    assert adata.obs["label"].isna().sum() == 108
