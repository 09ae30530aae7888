"""The script that computes the tables of the simulated pancreas, book/summarise_pancreas.py."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "book"))
from summarise_pancreas import LINEAGE, main, summarise  # noqa: E402


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
    # the cell cycle is the first programme of both
    first = np.corrcoef(genes.loc[often, "programme:1"], table.loc[often, "programme:1"])[0, 1]
    assert abs(first) > 0.9


def test_the_committed_tables_are_what_the_script_computes(real, tables):
    if real.n_vars != 1515:
        pytest.skip("the tables were computed from the file of 1,515 genes")
    for computed, name in zip(summarise(real), ("clusters", "genes"), strict=True):
        committed = tables(f"pancreas_{name}.csv")
        assert list(computed.index) == list(committed.index)
        assert list(computed.columns) == list(committed.columns)
        numbers = committed.select_dtypes("number")
        # four digits are kept, and the last may turn with another version of the algebra library
        np.testing.assert_allclose(computed[numbers.columns], numbers, rtol=2e-3, atol=2e-4)


def test_the_script_writes_the_two_tables(real, tables, tmp_path, capsys):
    made = real.copy()
    made.layers["spliced"] = made.X
    made.write_h5ad(tmp_path / "pancreas.h5ad")
    main([str(tmp_path / "pancreas.h5ad"), "--out", str(tmp_path)])
    assert "8 clusters and 900 genes" in capsys.readouterr().out
    text = (tmp_path / "pancreas_clusters.csv").read_text(encoding="utf-8")
    assert f"from {real.n_obs} real cells and {real.n_vars} genes" in text.splitlines()[0]
    again = tables("pancreas_clusters.csv")
    assert text.splitlines()[1] == ",".join([again.index.name, *again.columns])
