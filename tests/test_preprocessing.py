"""Genes, library sizes and z-scores, against scanpy."""

from __future__ import annotations

import numpy as np
import pytest
import scanpy
from anndata import AnnData
from scipy.sparse import csr_matrix

from rpumap.preprocessing import Preprocessor, library_size


@pytest.fixture
def adata():
    draw = np.random.default_rng(0)
    means = draw.gamma(0.5, 4, size=60)
    counts = draw.negative_binomial(2, 2 / (2 + means), size=(150, 60)).astype(np.float32)
    table = AnnData(csr_matrix(counts))
    table.var_names = [f"gene{i}" for i in range(60)]
    return table


@pytest.mark.parametrize("log1p", [False, True])
def test_equals_the_scanpy_recipe_of_the_paper(adata, log1p):
    prep = Preprocessor(n_top_genes=20, log1p=log1p)
    X = prep.fit_transform(adata)
    expected = adata.copy()
    scanpy.pp.highly_variable_genes(expected, flavor="seurat_v3", n_top_genes=20)
    scanpy.pp.normalize_total(expected, target_sum=1e4)
    if log1p:
        scanpy.pp.log1p(expected)
    expected = expected[:, expected.var["highly_variable"]].copy()
    expected.X = expected.X.toarray()
    scanpy.pp.scale(expected)
    assert list(prep.genes_) == list(expected.var_names)
    np.testing.assert_allclose(X, expected.X, atol=2e-4)
    assert X.dtype == np.float32


def test_dense_and_sparse_agree_and_the_input_is_not_changed(adata):
    before = adata.copy()
    sparse = Preprocessor(n_top_genes=20).fit_transform(adata)
    dense = AnnData(adata.X.toarray(), var=adata.var)
    np.testing.assert_allclose(Preprocessor(n_top_genes=20).fit_transform(dense), sparse, rtol=1e-6)
    assert (before.X != adata.X).nnz == 0
    assert list(before.var.columns) == list(adata.var.columns)


def test_new_cells_are_aligned_by_gene_name(adata):
    prep = Preprocessor(n_top_genes=20).fit(adata[:100])
    straight = prep.transform(adata[100:])
    shuffled = adata[100:, np.random.default_rng(1).permutation(60)]
    np.testing.assert_array_equal(prep.transform(shuffled), straight)


def test_missing_genes_stand_at_their_mean_with_a_warning(adata):
    prep = Preprocessor(n_top_genes=20).fit(adata)
    query = adata[:, ~adata.var_names.isin(prep.genes_[:3])].copy()
    query.obs["library_size"] = library_size(adata)
    with pytest.warns(UserWarning, match="3 of 20 genes"):
        z = prep.transform(query)
    assert not z[:, :3].any()
    np.testing.assert_array_equal(z[:, 3:], prep.transform(adata)[:, 3:])


def test_too_many_missing_genes_is_an_error(adata):
    prep = Preprocessor(n_top_genes=20).fit(adata)
    human = adata.copy()
    human.var_names = adata.var_names.str.upper()
    with pytest.raises(ValueError, match="same species"):
        prep.transform(human)


def test_library_size_is_taken_from_obs_where_it_is_there(adata):
    half = adata[:, :30].copy()
    half.obs["library_size"] = library_size(adata)
    prep = Preprocessor(n_top_genes=10).fit(half)
    assert not np.allclose(prep.mean_, Preprocessor(n_top_genes=10).fit(adata[:, :30]).mean_)
    half.obs["library_size"] = -1.0
    with pytest.raises(ValueError, match="library_size"):
        prep.transform(half)


def test_constant_genes_and_empty_cells(adata):
    counts = adata.X.toarray()
    counts[:, 0] = 0
    counts[5] = 0
    table = AnnData(counts, var=adata.var)
    with pytest.warns(UserWarning, match="1 cells have no counts"):
        X = Preprocessor(n_top_genes=60).fit_transform(table)
    assert np.isfinite(X).all()
    assert not X[:, 0].any()


def test_one_cell_can_be_transformed_but_not_fitted(adata):
    prep = Preprocessor(n_top_genes=20).fit(adata)
    np.testing.assert_array_equal(prep.transform(adata[7]), prep.transform(adata)[7:8])
    with pytest.raises(ValueError, match="two cells"):
        Preprocessor(n_top_genes=20).fit(adata[7])


def bad(adata, kind):
    counts = adata.X.toarray()
    if kind == "negative":
        counts[0, 0] = -1
    elif kind == "nan":
        counts[0, 0] = np.nan
    elif kind == "zero":
        counts[:] = 0
    table = AnnData(counts, var=adata.var.copy())
    if kind == "repeat":
        table.var_names = ["gene"] * 60
    return table


@pytest.mark.parametrize(
    ("kind", "message"),
    [("negative", "not negative"), ("nan", "finite"), ("zero", "zero"), ("repeat", "repeat")],
)
@pytest.mark.filterwarnings("ignore:Variable names are not unique")
def test_bad_counts(adata, kind, message):
    with pytest.raises(ValueError, match=message):
        Preprocessor(n_top_genes=20).fit(bad(adata, kind))
    prep = Preprocessor(n_top_genes=20).fit(adata)
    with pytest.raises(ValueError, match=message):
        prep.transform(bad(adata, kind))


def test_bad_requests(adata):
    with pytest.raises(TypeError, match="AnnData"):
        Preprocessor().fit(np.ones((5, 5)))
    with pytest.raises(ValueError, match="n_top_genes=300"):
        Preprocessor().fit(adata)
    with pytest.raises(ValueError, match="no counts"):
        Preprocessor(n_top_genes=20).fit(adata[:0])
    scaled = adata.copy()
    scaled.X = scaled.X * np.float32(0.3)
    with pytest.warns(UserWarning, match="whole numbers"):
        Preprocessor(n_top_genes=20).fit(scaled)
