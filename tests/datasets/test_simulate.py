"""Simulated lineages of one's own, against what their tables say."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest

from rpumap.datasets import simulate_lineage


def test_a_tree_of_ones_own():
    tree = {"Stem": None, "Early": "Stem", "Late": "Early", "Other": "Stem"}
    adata = simulate_lineage(tree, n_cells=403, n_genes=40)
    assert adata.shape == (403, 40)
    assert adata.obs["clusters"].value_counts().max() <= 101
    reach = adata.obs.groupby("clusters", observed=True)["pseudotime"].max()
    assert reach["Late"] == pytest.approx(1, abs=0.02)
    assert reach["Other"] == pytest.approx(1, abs=0.02)
    assert set(adata.obs["branch"]) == {"Stem -> Early", "Early -> Late", "Stem -> Other"}


def test_rates_of_ones_own_are_kept_on_the_average(rates):
    clusters = pd.DataFrame({"parent": [None, "A", "A"], "n_cells": [1, 1, 2]}, index=list("ABC"))
    genes = pd.DataFrame({"A": [5, 40.0], "B": [50, 0.0], "C": [0.5, 4.0]}, index=["up", "down"])
    adata = simulate_lineage(clusters, genes, n_cells=8000)
    assert adata.obs["clusters"].value_counts().to_dict() == {"A": 2000, "B": 2000, "C": 4000}
    mean = pd.DataFrame(rates(adata)).groupby(adata.obs["clusters"].to_numpy()).mean()
    np.testing.assert_allclose(mean.to_numpy(), genes.T, rtol=0.1, atol=0.05)
    genes["programme:p"] = 0.1
    extra = simulate_lineage(clusters, genes, n_cells=30, n_genes=10)
    assert extra.shape == (30, 10)
    assert list(extra.var_names[:3]) == ["up", "down", "gene_1"]


def test_crowding_keeps_rates_dispersions_and_times(rates):
    clusters = pd.DataFrame({"parent": [None, "A"], "n_cells": 20000}, index=["A", "B"])
    genes = pd.DataFrame({"A": [50.0] * 2, "B": [100.0, 50.0]}, index=["up", "same"])
    for own, parents in ((6.0, 0.2), (0.2, 6.0), (10.0, 10.0)):
        crowded = clusters.assign(crowding=own, crowding_parent=parents)
        adata = simulate_lineage(crowded, genes)
        times = np.sort(adata.obs["pseudotime"])
        np.testing.assert_allclose(times, np.linspace(0, 1, len(times)), atol=0.02)
        for cluster in ("A", "B"):
            inside = (adata.obs["clusters"] == cluster).to_numpy()
            R = rates(adata)[inside]
            np.testing.assert_allclose(R.mean(axis=0), genes[cluster], rtol=0.02)
            counting = genes[cluster] * (1e4 / adata.obs["library_size"][inside]).mean()
            variance = counting + 0.3 * genes[cluster] ** 2
            np.testing.assert_allclose(R.var(axis=0), variance, rtol=0.1)


def test_crowded_cells_are_near_the_boundary(rates):
    genes = pd.DataFrame({"A": [10.0], "B": [1000.0], "dispersion:A": 2.0, "dispersion:B": 2.0})
    clusters = pd.DataFrame({"parent": [None, "A"], "n_cells": 4000}, index=["A", "B"])
    late = []
    for own in (1, 4):
        adata = simulate_lineage(clusters.assign(crowding=own), genes)
        at_the_tip = (adata.obs["pseudotime"] > 0.95).to_numpy()
        inside = (adata.obs["clusters"] == "B").to_numpy()
        late.append(rates(adata)[at_the_tip].mean() / rates(adata)[inside].mean())
    # the mean over the cluster is the same, but the time near the tip is one of faster change
    assert late[1] > late[0] + 0.2


def test_programmes_move_genes_together_and_leave_means_and_dispersions(rates):
    clusters = pd.DataFrame({"parent": [None], "n_cells": [20000]}, index=["A"])
    genes = pd.DataFrame({"A": [200.0] * 3, "programme:p": [0.4, 0.4, 0]}, index=list("xyz"))
    adata = simulate_lineage(clusters, genes)
    R = rates(adata)
    np.testing.assert_allclose(R.mean(axis=0), 200, rtol=0.02)
    counting = 200 * (1e4 / adata.obs["library_size"]).mean()
    np.testing.assert_allclose(R.var(axis=0), counting + 0.3 * 200**2, rtol=0.1)
    # two log-normal factors of log-scale 0.4 have the covariance (exp(0.16) - 1) mean^2
    covariance = np.cov(R.T)
    assert covariance[0, 1] == pytest.approx((np.exp(0.16) - 1) * 200**2, rel=0.1)
    assert abs(covariance[0, 2]) < 0.05 * covariance[0, 1]


def test_a_lone_cluster_has_no_edges():
    adata = simulate_lineage({"Only": None}, n_genes=5)
    assert adata.shape == (200, 5)
    assert set(adata.obs["branch"]) == {"Only"}


def test_the_root_may_be_marked_by_anything_missing():
    expected = simulate_lineage({"A": None, "B": "A"}, n_genes=5)
    for missing in (None, np.nan, pd.NA, ""):
        for dtype in (object, "string"):
            parent = pd.Series([missing, "A"], index=["A", "B"], dtype=dtype)
            adata = simulate_lineage(pd.DataFrame({"parent": parent}), n_genes=5)
            assert (adata.X != expected.X).nnz == 0
            assert list(adata.obs["branch"].cat.categories) == ["A -> B"]


def test_columns_that_turn_none_into_nan_are_no_matter():
    if pd.__version__ < "2.3":
        pytest.skip("this pandas has no text columns without pyarrow")
    expected = simulate_lineage({"A": None, "B": "A"}, n_genes=5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # from pandas 3 on they are the only kind
        with pd.option_context("future.infer_string", True):
            adata = simulate_lineage({"A": None, "B": "A"}, n_genes=5)
    assert (adata.X != expected.X).nnz == 0
    assert list(adata.obs["branch"].cat.categories) == ["A -> B"]


@pytest.mark.parametrize(
    ("clusters", "message"),
    [
        ({}, "at least one cluster"),
        ({"A": None, "B": "C"}, "not clusters themselves: C"),
        ({"A": None, "B": None}, "one root .* found 2"),
        ({"A": "B", "B": "A"}, "one root .* found 0"),
        ({"A": None, "B": "C", "C": "B"}, "not below the root: B, C"),
        (pd.DataFrame({"n_cells": [3]}, index=["A"]), "column 'parent'"),
        (pd.DataFrame({"parent": [None], "n_cells": [0]}, index=["A"]), "sizes of at least 1"),
        (pd.DataFrame({"parent": [None], "log_library_sd": [np.nan]}, index=["A"]), "finite"),
        (pd.DataFrame({"parent": [None], "log_library_sd": [-1]}, index=["A"]), "deviations of at"),
        (pd.DataFrame({"parent": [None], "programme:x": [-1]}, index=["A"]), "deviations of at"),
        (pd.DataFrame({"parent": [None], "crowding": [0]}, index=["A"]), "crowding above 0"),
        (pd.DataFrame({"parent": [None], "crowding_parent": [-1]}, index=["A"]), "crowding above"),
    ],
)
def test_what_is_not_a_tree_is_refused(clusters, message):
    with pytest.raises(ValueError, match=message):
        simulate_lineage(clusters)


def test_impossible_numbers_are_refused():
    tree = {"A": None, "B": "A"}
    good = pd.DataFrame({"A": [1.0, 2.0], "B": [1.0, 2.0]}, index=["x", "y"])
    with pytest.raises(ValueError, match="no rates for: B"):
        simulate_lineage(tree, good[["A"]])
    for bad in (-1.0, np.nan, np.inf):
        with pytest.raises(ValueError, match="finite and not negative"):
            simulate_lineage(tree, good.replace(2.0, bad))
    with pytest.raises(ValueError, match="less than the 2 genes"):
        simulate_lineage(tree, good, n_genes=1)
    with pytest.raises(ValueError, match="at least 1"):
        simulate_lineage(tree, n_genes=0)
    with pytest.raises(ValueError, match="less than the 2 clusters"):
        simulate_lineage(tree, n_cells=1)
    for bad in (0, -3, 2.5, "5", True):
        with pytest.raises(ValueError, match="n_genes must be an integer of at least 1"):
            simulate_lineage(tree, n_genes=bad)
        with pytest.raises(ValueError, match="n_cells must be an integer of at least 1"):
            simulate_lineage(tree, n_cells=bad)


@pytest.mark.parametrize("clusters", [None, "A", ["A", "B"], 3])
def test_other_things_than_a_lineage_are_refused(clusters):
    with pytest.raises(TypeError, match="clusters must be a mapping from each cluster to its par"):
        simulate_lineage(clusters)
    with pytest.raises(TypeError, match="genes must be a DataFrame, got "):
        simulate_lineage({"A": None}, clusters or 5)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("dispersion:A", -1.0),
        ("dispersion:A", np.inf),
        ("programme:x", np.nan),
        ("programme:x", np.inf),
    ],
)
def test_impossible_shapes_of_genes_are_refused(column, value):
    genes = pd.DataFrame({"A": [1.0], column: [value]}, index=["x"])
    with pytest.raises(ValueError, match="dispersions must be finite .* and programmes finite"):
        simulate_lineage({"A": None}, genes)
    with pytest.raises(ValueError, match="table of genes is empty"):
        simulate_lineage({"A": None}, genes[:0])


def test_names_may_be_numbers_and_generated_genes_have_names_of_their_own():
    adata = simulate_lineage({1: None, 2: 1}, n_cells=20, n_genes=5)
    assert list(adata.obs["clusters"].cat.categories) == ["1", "2"]
    genes = pd.DataFrame({"A": [1.0, 2.0]}, index=["gene_1", "x"])
    assert simulate_lineage({"A": None}, genes, n_genes=6).var_names.is_unique
