"""Gene names: as told, never guessed."""

from __future__ import annotations

import numpy as np
import pytest
from anndata import AnnData

from rpumap.reference.genes import rename_genes

GENES = ["ENSG1", "ENSG2", "Ins1"]


def query(*names, **columns):
    adata = AnnData(np.zeros((1, len(names)), dtype="float32"))
    adata.var_names = list(names)
    for name, values in columns.items():
        adata.var[name] = values
    return adata


def test_nothing_is_guessed():
    names = ["ENSG1.3", "ensg2", "INS1", "Ins1"]
    assert rename_genes(query(*names), GENES).tolist() == names


def test_versions_of_both_sides_may_differ():
    found = rename_genes(query("ENSG1.3", "ENSG2"), ["ENSG1.7", "ENSG2.1"], match="version")
    assert found.tolist() == ["ENSG1.7", "ENSG2.1"]


def test_case_may_differ():
    assert rename_genes(query("INS1", "x"), GENES, match="case").tolist() == ["Ins1", "x"]


def test_names_can_be_given():
    table = query("a", "b", symbol=["Ins1", "other"])
    for names in (["Ins1", "other"], {"a": "Ins1", "b": "other"}, "symbol"):
        assert rename_genes(table, GENES, names).tolist() == ["Ins1", "other"]
    assert rename_genes(table, GENES, {"a": "Ins1"}).tolist() == ["Ins1", "b"]


def test_genes_that_become_one_are_refused():
    with pytest.raises(ValueError, match="several genes of the query.*'ENSG1'"):
        rename_genes(query("ENSG1.1", "ENSG1.2"), GENES, match="version")
    with pytest.raises(ValueError, match="apart"):
        rename_genes(query("Ins1"), ["Ins1", "INS1"], match="case")


def test_other_names_may_repeat():
    found = rename_genes(query("a", "b", symbol=["x", "x"]), GENES, "symbol")
    assert len(set(found)) == 2


def test_wrong_names_are_refused():
    with pytest.raises(KeyError, match="no column 'gene_ids'"):
        rename_genes(query("a"), GENES, "gene_ids")
    with pytest.raises(ValueError, match="each of 1 genes, got 2"):
        rename_genes(query("a"), GENES, ["a", "b"])
    with pytest.raises(ValueError, match="match"):
        rename_genes(query("a"), GENES, match="fuzzy")
