"""The script that computes the tables of the simulated pancreas, book/summarise_pancreas.py."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.neighbors import kneighbors_graph

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "book"))
import rpumap  # noqa: E402
from rpumap.datasets import pancreas, simulate_lineage  # noqa: E402
from summarise_pancreas import (  # noqa: E402
    CROWDING,
    LINEAGE,
    find_crowding,
    knn_conductance,
    main,
    summarise,
)

FOUND = ["crowding", "crowding_parent"]  # after many rounds
N_SEEDS = 10


def test_summary_of_the_stand_in_gives_back_the_table_it_was_drawn_from(
    standin, tables, pancreas_sizes
):
    table = tables("pancreas_genes.csv")
    clusters, genes = summarise(standin)
    assert clusters["parent"].tolist() == list(LINEAGE.values())
    assert clusters["n_cells"].tolist() == list(pancreas_sizes.values())
    often = [g for g in genes.index if table.loc[g, "Ductal"] > 0.5]
    error = np.log(genes.loc[often, "Ductal"] / table.loc[often, "Ductal"])
    assert np.abs(error).max() < 0.3
    # the cell cycle is found, in some seeds mixed with the second, whose variance is much the same
    found = genes.loc[often, ["programme:1", "programme:2"]]
    cycle = table.loc[often, "programme:1"]
    fitted = found @ np.linalg.lstsq(found, cycle)[0]
    assert np.corrcoef(fitted, cycle)[0, 1] > 0.9


def test_the_committed_tables_are_what_the_script_computes(real, tables):
    if real.n_vars != 1515:
        pytest.skip("the tables were computed from the file of 1,515 genes")
    for computed, name in zip(summarise(real), ("clusters", "genes"), strict=True):
        committed = tables(f"pancreas_{name}.csv").drop(columns=FOUND, errors="ignore")
        assert list(computed.index) == list(committed.index)
        assert list(computed.columns) == list(committed.columns)
        numbers = committed.select_dtypes("number")
        # four digits are kept, and the last may turn with another version of the algebra library
        np.testing.assert_allclose(computed[numbers.columns], numbers, rtol=2e-3, atol=2e-4)


def test_the_script_writes_the_two_tables(real, tables, tmp_path, capsys):
    made = real.copy()
    made.layers["spliced"] = made.X
    made.write_h5ad(tmp_path / "pancreas.h5ad")
    main([str(tmp_path / "pancreas.h5ad"), "--out", str(tmp_path), "--rounds", "1"])
    assert "8 clusters and 900 genes" in capsys.readouterr().out
    text = (tmp_path / "pancreas_clusters.csv").read_text(encoding="utf-8")
    assert f"from {real.n_obs} real cells and {real.n_vars} genes" in text.splitlines()[0]
    again = tables("pancreas_clusters.csv")
    assert text.splitlines()[1] == ",".join([again.index.name, *again.columns])


def too_far(drawn, tables) -> list[str]:
    """Give the clusters whose mean conductance to the parent is not that of the real cells."""
    ratio = pd.DataFrame([knn_conductance(cells) for cells in drawn])
    ratio = (ratio / tables("pancreas_clusters.csv")["conductance"])[list(LINEAGE)[1:]]
    # a tenth, and what chance makes of a mean: single stand-ins differ by 7 to 30 %
    error = ratio.std() / np.sqrt(len(ratio))
    return list(ratio.columns[(ratio.mean() - 1).abs() > 0.1 + 2 * error])


def test_neighbours_in_the_lineage_are_as_connected_as_the_real_ones(tables):
    assert not too_far([pancreas("simulated", random_state=s) for s in range(N_SEEDS)], tables)
    # cells spread evenly, as without the columns, are not
    clusters = tables("pancreas_clusters.csv").drop(columns=FOUND)
    genes = tables("pancreas_genes.csv")
    even = [simulate_lineage(clusters, genes, random_state=s) for s in range(N_SEEDS)]
    assert {"Ngn3 low EP", "Ngn3 high EP"} <= set(too_far(even, tables))


def test_conductance_counts_the_edges_both_ways():
    adata = simulate_lineage({"Ductal": None, "Ngn3 low EP": "Ductal"}, n_cells=400, n_genes=300)
    adata.obs["clusters"] = ["Ngn3 low EP"] * 100 + ["Ductal"] * 300
    found = knn_conductance(adata)
    A = kneighbors_graph(rpumap.Preprocessor(300).fit_transform(adata), 15)
    assert found["Ngn3 low EP"] == (A[:100, 100:].sum() + A[100:, :100].sum()) / (15 * 100)
    assert found.drop("Ngn3 low EP").isna().all()


def test_crowding_follows_the_conductance_that_is_asked_for(tables):
    clusters = tables("pancreas_clusters.csv").drop(columns=FOUND)
    clusters["n_cells"] = 60
    genes = tables("pancreas_genes.csv")
    clusters["conductance"] = [np.nan, 5.0] + [1e-3] * 6
    found = find_crowding(clusters, genes, n_rounds=1)["crowding_parent"]
    assert found["Ductal"] == CROWDING
    assert found["Ngn3 low EP"] > CROWDING
    assert (found[2:] < CROWDING).all()
