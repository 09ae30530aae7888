"""The stand-ins, against their tables and the real cells; and which cells are taken."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from anndata import read_h5ad
from scipy import sparse
from sklearn.decomposition import PCA
from sklearn.model_selection import cross_val_score
from sklearn.neighbors import KNeighborsClassifier

import rpumap
from rpumap.datasets import _published, dentate_gyrus, pancreas

EDGES = [
    "Ductal -> Ngn3 low EP",
    "Ngn3 low EP -> Ngn3 high EP",
    "Ngn3 high EP -> Pre-endocrine",
    *(f"Pre-endocrine -> {hormone}" for hormone in ("Beta", "Alpha", "Delta", "Epsilon")),
]

# Stand-ins


def test_the_pancreas_stand_in_has_names_sizes_and_layout_of_the_real_set(standin, pancreas_sizes):
    assert list(standin.obs["clusters"].cat.categories) == list(pancreas_sizes)
    assert standin.obs["clusters"].value_counts().to_dict() == pancreas_sizes
    assert isinstance(standin.X, sparse.csr_matrix)
    assert standin.X.dtype == np.float32
    assert (standin.X.data > 0).all()
    assert not (standin.X.data % 1).any()
    assert (standin.obs["library_size"] >= standin.X.sum(axis=1).A1).all()
    assert {"Sox9", "Neurog3", "Fev", "Ins1", "Ins2", "Gcg", "Sst", "Ghrl"} <= set(
        standin.var_names
    )


def test_a_stand_in_says_that_it_is_simulated(standin, tmp_path):
    for adata in (standin, dentate_gyrus(source="simulated")):
        assert adata.uns["source"].startswith("simulated")
        assert adata.uns["simulated"] is True
    standin.write_h5ad(tmp_path / "standin.h5ad")
    assert read_h5ad(tmp_path / "standin.h5ad").uns["simulated"]


def test_branch_and_pseudotime_are_those_of_the_lineage(standin):
    obs = standin.obs
    edges = set(EDGES)
    assert set(obs["branch"]) == edges
    assert all(c in b.split(" -> ") for c, b in zip(obs["clusters"], obs["branch"], strict=True))
    # five nodes in a row: the root at 0, its child at 1/4, and so on, and cells half-way around
    reach = obs.groupby("clusters", observed=True)["pseudotime"].agg(["min", "max"])
    expected = {"Ductal": (0, 0.125), "Pre-endocrine": (0.625, 0.875), "Delta": (0.875, 1)}
    for cluster, ends in expected.items():
        np.testing.assert_allclose(reach.loc[cluster], ends, atol=0.01)
        assert ends[0] <= reach.loc[cluster, "min"] <= reach.loc[cluster, "max"] <= ends[1]


def test_hormones_are_made_where_they_should_be(standin, rates):
    table = pd.DataFrame(rates(standin), columns=standin.var_names)
    mean = table.groupby(standin.obs["clusters"].to_numpy()).mean()
    for gene, cluster in {
        "Ins2": "Beta",
        "Gcg": "Alpha",
        "Sst": "Delta",
        "Ghrl": "Epsilon",
    }.items():
        assert mean[gene].idxmax() == cluster
    assert mean.loc["Ngn3 high EP", "Neurog3"] > 10 * mean.loc["Ductal", "Neurog3"]


def test_a_seed_repeats_itself_and_another_gives_other_cells_of_the_same_tissue(standin):
    again, other = pancreas("simulated"), pancreas("simulated", random_state=1)
    assert (again.X != standin.X).nnz == 0
    pd.testing.assert_frame_equal(again.obs, standin.obs)
    assert list(other.var_names) == list(standin.var_names)
    assert (other.X != standin.X).nnz > 0


def test_moments_of_the_stand_in_are_those_of_the_table(standin, pancreas_sizes, tables, rates):
    table, R = tables("pancreas_genes.csv"), rates(standin)
    for cluster, size in pancreas_sizes.items():
        inside = (standin.obs["clusters"] == cluster).to_numpy()
        often = (table[cluster] * size > 200).to_numpy()
        mean, wanted = R[inside][:, often].mean(axis=0), table.loc[often, cluster]
        # in standard errors: as far off as chance has it, and no common bias
        off = (mean - wanted) / (R[inside][:, often].std(axis=0) / np.sqrt(size))
        assert 0.85 < off.std() < 1.15
        assert off.abs().quantile(0.99) < 3.7
        assert abs(np.median(np.log(mean / wanted))) < 0.02
        counting = (1e4 / standin.obs["library_size"][inside]).mean()
        variance = counting * wanted + table.loc[often, f"dispersion:{cluster}"] * wanted**2
        ratio = R[inside][:, often].var(axis=0, ddof=1) / variance
        assert 0.9 < np.median(ratio) < 1.1


def test_the_dentate_gyrus_stand_in():
    adata = dentate_gyrus(source="simulated")
    assert adata.shape == (18213, 500)
    assert list(adata.obs["clusters"].cat.categories) == list(_published.CLUSTERS["dentate_gyrus"])
    assert set(adata.obs["branch"]) >= {"Nbl2 -> ImmGranule1", "Nbl2 -> CA", "GlialProg -> OPC"}
    table = adata[:, ["C1ql2", "Pdgfra", "Eomes", "Aqp4"]].to_df()
    mean = table.groupby(adata.obs["clusters"].to_numpy()).mean()
    assert mean.idxmax().tolist() == ["Granule", "OPC", "nIPC", "ImmAstro"]


# Stand-in against the real cells


def test_the_stand_in_is_like_the_real_cells_cluster_by_cluster(
    real, standin, pancreas_sizes, rates
):
    genes = standin.var_names
    R, S = rates(real[:, genes]), rates(standin)
    for cluster in pancreas_sizes:
        a = R[(real.obs["clusters"] == cluster).to_numpy()]
        b = S[(standin.obs["clusters"] == cluster).to_numpy()]
        often = a.mean(axis=0) > 0.5
        assert np.corrcoef(np.log(a.mean(0) + 0.01), np.log(b.mean(0) + 0.01))[0, 1] > 0.97
        assert abs(np.median(np.log(b.var(0)[often] / a.var(0)[often]))) < 0.1
        zeros = (b == 0).mean(axis=0) - (a == 0).mean(axis=0)
        assert abs(np.median(zeros)) < 0.02
        assert np.quantile(np.abs(zeros), 0.9) < 0.1


def test_labels_are_as_hard_to_tell_in_the_stand_in_as_in_the_real_cells(real, standin):
    accuracy, variances = [], []
    for adata in (real, standin):
        X = rpumap.Preprocessor(n_top_genes=300).fit_transform(adata)
        pca = PCA(20, random_state=0).fit(X)
        variances.append(pca.explained_variance_[:6])
        knn = KNeighborsClassifier(15)
        Z = pca.transform(X)[:, :5]
        accuracy.append([cross_val_score(knn, V, adata.obs["clusters"]).mean() for V in (X, Z)])
    np.testing.assert_allclose(accuracy[1], accuracy[0], atol=0.035)
    np.testing.assert_allclose(variances[1], variances[0], rtol=0.2)


# Which cells are taken


def test_a_folder_without_the_file_is_said_and_passed_over(folder, tmp_path, monkeypatch, capsys):
    assert pancreas(cache_dir=tmp_path).uns["simulated"]
    lines = capsys.readouterr().out.splitlines()
    assert "RPUMAP_DATA_DIR names has no pancreas.h5ad or pancreas.loom" in lines[0]
    assert "3,696 are SIMULATED" in lines[1]
    monkeypatch.setenv("RPUMAP_DATA_DIR", str(tmp_path / "nowhere"))
    pancreas(cache_dir=tmp_path)
    assert "does not exist" in capsys.readouterr().out


def test_an_unknown_source_is_refused():
    with pytest.raises(ValueError, match="'auto', 'real' or 'simulated', not 'fake'"):
        pancreas("fake")
