"""Genes, library sizes and z-scores, against scanpy; and tables as people have them."""

from __future__ import annotations

import pickle
import re
import subprocess
import sys
import textwrap
import warnings

import anndata
import numpy as np
import pandas as pd
import pytest
import scanpy
from anndata import AnnData
from scipy import sparse
from scipy.sparse import csr_matrix
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline

import rpumap
from rpumap.dropout import drop_counts
from rpumap.preprocessing import Preprocessor, library_size, moments


def drawn_table(seed=0, n_cells=150, n_genes=60, depth=4.0):
    draw = np.random.default_rng(seed)
    means = draw.gamma(0.5, depth, size=n_genes)
    counts = draw.negative_binomial(2, 2 / (2 + means), size=(n_cells, n_genes)).astype(np.float32)
    table = AnnData(csr_matrix(counts))
    table.var_names = [f"gene{i}" for i in range(n_genes)]
    table.obs_names = [f"cell{i}" for i in range(n_cells)]
    return table


@pytest.fixture
def adata():
    return drawn_table()


def fitted(adata, **options):
    return Preprocessor(**({"n_top_genes": 20} | options)).fit(adata)


def totals(adata):
    return adata.X.toarray().sum(axis=1, dtype=np.float64)


def silent(function, *arguments):
    """Call a function that must not warn; what libraries say to developers is no matter."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", DeprecationWarning)
        return function(*arguments)


# --- the recipe ---------------------------------------------------------------------------------


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
    sparse_ = Preprocessor(n_top_genes=20).fit_transform(adata)
    dense = AnnData(adata.X.toarray(), var=adata.var)
    np.testing.assert_array_equal(Preprocessor(n_top_genes=20).fit_transform(dense), sparse_)
    assert (before.X != adata.X).nnz == 0
    assert list(before.var.columns) == list(adata.var.columns)


def test_new_cells_are_aligned_by_gene_name(adata):
    prep = fitted(adata[:100])
    straight = prep.transform(adata[100:])
    shuffled = adata[100:, np.random.default_rng(1).permutation(60)]
    np.testing.assert_array_equal(prep.transform(shuffled), straight)


def test_missing_genes_stand_at_their_mean_with_a_warning(adata):
    prep = fitted(adata)
    query = adata[:, ~adata.var_names.isin(prep.genes_[:3])].copy()
    query.obs["library_size"] = library_size(adata)
    with pytest.warns(UserWarning, match="3 of 20 genes"):
        z = prep.transform(query)
    assert not z[:, :3].any()
    np.testing.assert_array_equal(z[:, 3:], prep.transform(adata)[:, 3:])


def test_library_size_is_taken_from_obs_where_it_is_there(adata):
    half = adata[:, :30].copy()
    half.obs["library_size"] = totals(adata)
    stored, summed = fitted(half, n_top_genes=10), fitted(adata[:, :30], n_top_genes=10)
    scaled = half[:, stored.genes_].X.toarray() / totals(adata)[:, None] * 1e4
    np.testing.assert_allclose(stored.mean_, scaled.mean(axis=0))
    assert not np.allclose(stored.mean_, summed.mean_)
    assert (stored.library_size_stored_, summed.library_size_stored_) == (True, False)


def test_constant_genes_and_empty_cells(adata):
    counts = adata.X.toarray()
    counts[:, 0] = 0
    counts[5] = 0
    table = AnnData(counts, var=adata.var)
    with pytest.warns(UserWarning, match="1 cells have no counts"):
        X = Preprocessor(n_top_genes=60).fit_transform(table)
    assert np.isfinite(X).all()
    assert not X[:, 0].any()


def test_a_constant_share_has_no_spread_but_rounding():
    counts = np.random.default_rng(0).poisson(3, size=(50, 6)) + 1.0
    counts[:, 2] = 0.3137
    table = AnnData(counts, obs={"library_size": np.full(50, 977.0)})
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        prep = Preprocessor(n_top_genes=6).fit(table)
    assert "whole numbers" in str(said[0].message)
    assert "obs['library_size'] is 977 in every cell" in str(said[1].message)
    assert prep.std_[2] == 1
    assert (np.delete(prep.std_, 2) > 5).all()


def test_one_cell_can_be_transformed_but_not_fitted(adata):
    prep = fitted(adata)
    np.testing.assert_array_equal(prep.transform(adata[7]), prep.transform(adata)[7:8])
    with pytest.raises(ValueError, match="two cells"):
        Preprocessor(n_top_genes=20).fit(adata[7])


# --- library sizes ------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [np.log10, lambda size: size / 2, lambda size: size / 1000])
def test_a_stored_size_below_the_counts_is_refused_everywhere(adata, scale):
    prep = fitted(adata)
    total = totals(adata)
    adata.obs["library_size"] = scale(total)
    for use in (Preprocessor(n_top_genes=20).fit, prep.transform, library_size):
        with pytest.raises(ValueError, match=r"obs\['library_size'\] is below the counts") as said:
            use(adata)
        for part in (
            f"{np.sum(scale(total) < total)} of 150 cells",
            "'cell0'",
            f"{total[0]:.0f} c",
        ):
            assert part in str(said.value)
        assert "del adata.obs['library_size']" in str(said.value)


def test_one_molecule_too_few_in_one_cell_is_seen(adata):
    adata.obs["library_size"] = totals(adata)
    silent(fitted, adata)
    adata.obs.loc["cell7", "library_size"] -= 1
    with pytest.raises(ValueError, match="in 1 of 150 cells; cell 'cell7'"):
        fitted(adata)


@pytest.mark.parametrize("dtype", ["float32", "int32", "uint16", "Int64", "Float64", ">f8", object])
def test_a_stored_size_may_be_of_any_numeric_type(adata, dtype):
    expected = fitted(adata).transform(adata)
    adata.obs["library_size"] = pd.Series(totals(adata), adata.obs_names).astype(dtype)
    np.testing.assert_array_equal(silent(fitted(adata).transform, adata), expected)


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (pd.array([None, *range(1000, 1149)], dtype="Int64"), "is missing in 1 of 150 cells"),
        (np.append(np.full(3, np.nan), np.full(147, 1e4)), "is missing in 3 of 150 cells"),
        (np.append(np.inf, np.full(149, 1e4)), "negative or infinite in 1 of 150"),
        (np.full(150, -1.0), "negative or infinite in 150 of 150"),
        (pd.Categorical(np.full(150, 10000)), "of type category, not numbers"),
        (np.full(150, "10000"), "of type (object|str), not numbers"),
        (np.full(150, True), "of type bool, not numbers"),
        (np.full(150, 1e4 + 0j), "of type complex128, not numbers"),
    ],
)
def test_a_column_that_holds_no_sizes_is_refused_by_name(adata, column, message):
    adata.obs["library_size"] = column
    with pytest.raises(ValueError, match=rf"obs\['library_size'\] .*{message}"):
        fitted(adata)


def test_sizes_that_rounding_made_small_are_raised_to_the_counts():
    counts = np.random.default_rng(0).gamma(2, 3, size=(40, 30)).astype(np.float32)
    rounded = np.floor(counts.sum(axis=1, dtype=np.float64))
    table = AnnData(counts, obs={"library_size": rounded})
    np.testing.assert_array_equal(
        library_size(table), csr_matrix(counts).astype(float) @ np.ones(30)
    )
    assert (library_size(table) > rounded).all()


def test_sums_are_in_double_precision():
    counts = np.full((2, 5000), 0.1, dtype=np.float32)
    exact = 5000 * float(np.float32(0.1))
    np.testing.assert_allclose(library_size(AnnData(counts)), exact, rtol=1e-12)
    big = AnnData(csr_matrix(np.array([[2**24, 1, 1]], dtype=np.float32)))
    assert library_size(big).item() == 2**24 + 2


def test_the_share_of_the_chosen_genes_is_the_median_cell(adata):
    prep = fitted(adata)
    share = adata[:, prep.genes_].X.toarray().sum(axis=1) / totals(adata)
    assert prep.panel_share_ == pytest.approx(np.median(share))
    assert prep.n_features_in_ == 60


@pytest.mark.parametrize("log1p", [False, True])
@pytest.mark.parametrize("also_missing", [0, 5])
@pytest.mark.filterwarnings("ignore:5 of 20 genes")
def test_a_query_that_was_cut_is_told_and_what_mends_it_is_silent(adata, log1p, also_missing):
    prep = fitted(adata, log1p=log1p)
    cut = adata[:, prep.genes_[also_missing:]].copy()
    with pytest.warns(UserWarning, match="times as much") as said:
        z = prep.transform(cut)
    text = str(said.list[-1].message)
    assert f"row sums of {20 - also_missing} genes here" in text
    assert "obs['library_size']" in text
    # the factor that is told is that by which z-scores are off, in the median cell
    factor = np.median(totals(adata) / totals(cut))
    told = float(text.split("(medians), ")[1].split(" times")[0])
    assert told == pytest.approx(factor, rel=0.3 if also_missing else 0.05)
    cut.obs["library_size"] = totals(adata)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message="5 of 20 genes")
        mended = prep.transform(cut)
    np.testing.assert_array_equal(mended[:, also_missing:], prep.transform(adata)[:, also_missing:])
    assert not np.allclose(z[:, also_missing:], mended[:, also_missing:])


def test_the_other_ways_to_get_library_sizes_wrong_are_told(adata):
    whole = fitted(adata)
    part = adata[:, :30].copy()
    # trained on a part, then asked about everything
    with pytest.warns(UserWarning, match="row sums of 30 genes in the training data"):
        fitted(part, n_top_genes=10).transform(adata)
    # trained on a part with stored sizes, then asked about the part without
    part.obs["library_size"] = totals(adata)
    with pytest.warns(UserWarning, match=r"row sums of 30 genes here, obs\['library_size'\] in"):
        fitted(part, n_top_genes=10).transform(adata[:, :30])
    # three times what was counted
    adata.obs["library_size"] = 3 * totals(adata)
    with pytest.warns(UserWarning, match="0.333 times as much"):
        whole.transform(adata)


@pytest.mark.parametrize("n_cells", [1, 5])
def test_a_query_of_few_cells_that_was_cut_is_told(adata, n_cells):
    prep = fitted(adata)
    with pytest.warns(UserWarning, match="row sums of 20 genes here"):
        prep.transform(adata[:n_cells, prep.genes_])
    silent(prep.transform, adata[:n_cells])
    # cells of another type, in a table with one more gene: nothing tells of a cut query
    other = AnnData(np.full((n_cells, 61), 1.0), var=pd.DataFrame(index=[*adata.var_names, "x"]))
    other.X[:, other.var_names.isin(prep.genes_)] = 30
    silent(prep.transform, other)


def test_a_target_sum_is_no_library_size(adata):
    adata.obs["library_size"] = 1e4
    with pytest.warns(UserWarning, match=r"obs\['library_size'\] is 10000 in every cell"):
        fitted(adata)
    silent(Preprocessor(n_top_genes=60).fit, adata[:9])  # a few cells may be equal by chance
    # downsampled to 100 molecules a cell, all of them in the table
    draw = np.random.default_rng(0)
    equal = AnnData(draw.multinomial(100, np.full(60, 1 / 60), size=150).astype(np.float32))
    equal.obs["library_size"] = 100
    silent(fitted, equal)


def test_counts_that_were_normalised_and_rounded_are_told(adata):
    counts = adata.X.toarray()
    rounded = AnnData(np.rint(1e6 * counts / totals(adata)[:, None]))
    with pytest.warns(UserWarning, match=r"look rounded in X .every cell sums to about 1e\+06"):
        fitted(rounded)


def test_a_table_without_a_single_2_is_told(adata):
    with pytest.warns(UserWarning, match="0 or 1 only in X"):
        fitted(adata).transform(AnnData((adata.X > 0).astype(np.float32), var=adata.var))


def test_ordinary_queries_are_silent(adata):
    prep = fitted(adata[:100])
    silent(prep.transform, adata[100:])
    silent(prep.transform, adata[100:, ::-1])
    more = anndata.concat([adata, drawn_table(1, depth=0.02)], axis=1, label=None)
    more.var_names = [*adata.var_names, *(f"other{i}" for i in range(60))]
    silent(prep.transform, more)


# --- storage types and containers ---------------------------------------------------------------


TYPES = [
    ("bool", 1, 0.3),
    ("uint8", 255, 60),
    ("int8", 127, 20),
    ("uint16", 60000, 9000),
    ("int32", 2**24, 3e5),
    ("uint32", 2**24, 3e5),
    ("int64", 2**24, 3e5),
    ("float64", 2**24, 3e5),
]
# scipy.sparse has none of these
DENSE_TYPES = [("float16", 2000, 60), (">i4", 2**24, 3e5), (">f4", 2**24, 3e5), (object, 255, 60)]


@pytest.mark.parametrize(
    ("kind", "dtype", "top", "depth"),
    [(csr_matrix, *one) for one in TYPES] + [(np.asarray, *one) for one in TYPES + DENSE_TYPES],
)
def test_any_numeric_type_gives_what_float32_gives(kind, dtype, top, depth):
    counts = np.minimum(drawn_table(depth=depth).X.toarray(), top)
    assert counts.max() > top / 3
    reference = fitted(AnnData(csr_matrix(counts)))
    table = AnnData(kind(counts.astype(dtype)))
    assert table.X.dtype == np.dtype(dtype)
    if dtype == "bool":
        with pytest.warns(
            UserWarning, match="counts are 0 or 1 only in X: raw counts are expected"
        ):
            prep = fitted(table)
    else:
        prep = silent(fitted, table)
    np.testing.assert_array_equal(prep.genes_, reference.genes_)
    np.testing.assert_array_equal(prep.transform(table), reference.transform(table))


CONTAINERS = {
    "csc": sparse.csc_matrix,
    "csr_array": sparse.csr_array,
    "csc_array": sparse.csc_array,
    "Fortran": lambda x: np.asfortranarray(x.toarray()),
    "strides": lambda x: x.toarray()[::-1][::-1],
    "matrix": lambda x: np.matrix(x.toarray()),
    "unmasked": lambda x: np.ma.array(x.toarray()),
    "read-only": lambda x: np.frombuffer(x.toarray().tobytes(), x.dtype).reshape(x.shape),
}


@pytest.mark.parametrize("kind", CONTAINERS)
@pytest.mark.filterwarnings("ignore:the matrix subclass")
def test_containers_give_the_same_genes_and_scores(adata, kind):
    reference = fitted(adata)
    table = AnnData(CONTAINERS[kind](adata.X), var=adata.var)
    prep = fitted(table)
    np.testing.assert_array_equal(prep.genes_, reference.genes_)
    np.testing.assert_array_equal(prep.transform(table), reference.transform(adata))


def test_views_of_views_and_read_only_matrices(adata):
    prep = fitted(adata)
    expected = prep.transform(adata)
    twice = anndata.concat([adata, adata])
    twice.obs_names_make_unique()
    view = twice[np.arange(200)][:150][:, ::-1]
    assert view.is_view
    np.testing.assert_array_equal(prep.transform(view), expected)
    for array in (adata.X.data, adata.X.indices, adata.X.indptr):
        array.setflags(write=False)
    np.testing.assert_array_equal(silent(fitted, adata).transform(adata), expected)


@pytest.mark.parametrize("dense", [False, True])
def test_tables_on_disk(adata, tmp_path, dense):
    prep = fitted(adata)
    if dense:
        adata.X = adata.X.toarray()
    adata.layers["counts"] = adata.X.copy()
    adata.write_h5ad(tmp_path / "cells.h5ad")
    disk = anndata.read_h5ad(tmp_path / "cells.h5ad", backed="r")
    expected = prep.transform(adata)
    try:
        np.testing.assert_array_equal(prep.transform(disk), expected)
        np.testing.assert_array_equal(prep.transform(disk[20:50]), expected[20:50])
        np.testing.assert_array_equal(fitted(disk).genes_, prep.genes_)
        np.testing.assert_array_equal(fitted(disk, layer="counts").transform(disk), expected)
        backwards = disk[::-1]
        try:  # h5py cannot read this, newer versions of anndata can
            np.testing.assert_array_equal(prep.transform(backwards), expected[::-1])
        except ValueError as error:
            assert re.search(r"cannot be read .*with adata.to_memory\(\) before", str(error))
            with pytest.raises(ValueError, match=r"adata.to_memory\(\) before"):
                drop_counts(backwards, 0.5)
    finally:
        disk.file.close()


def test_tables_that_are_opened_lazily(adata, tmp_path):
    pytest.importorskip("xarray")
    pytest.importorskip("dask")
    from anndata.experimental import read_lazy

    adata.obs["library_size"] = totals(adata)
    adata.write_zarr(tmp_path / "cells.zarr")
    prep, lazy = fitted(adata), read_lazy(tmp_path / "cells.zarr")
    np.testing.assert_array_equal(prep.transform(lazy), prep.transform(adata))
    np.testing.assert_array_equal(
        drop_counts(lazy, 0.5, 0).X.toarray(), drop_counts(adata, 0.5, 0).X.toarray()
    )


# --- choice of genes ----------------------------------------------------------------------------


def in_a_process_of_its_own(code):
    """Run code, since a crash of compiled code would end the tests."""
    head = """
        import numpy as np
        from anndata import AnnData
        from rpumap import Preprocessor
        draw = np.random.default_rng(0)
        def fit(x, n):
            prep = Preprocessor(n_top_genes=n).fit(AnnData(np.asarray(x, dtype=np.float32)))
            return [int(name) for name in prep.genes_]
    """
    code = textwrap.dedent(head) + textwrap.dedent(code)
    command = [sys.executable, "-W", "ignore", "-c", code]
    return subprocess.run(command, capture_output=True, text=True)


def test_few_or_equal_genes_never_crash():
    run = in_a_process_of_its_own("""
        for n_genes in range(2, 24):
            for n in {1, n_genes // 2, n_genes - 1}:
                x = draw.poisson(draw.gamma(2, 2, n_genes), size=(30, n_genes))
                x[0] += 1  # every gene varies
                try:
                    assert len(fit(x, n)) == n and n_genes >= 17
                except ValueError as error:
                    few = "only %d of %d genes vary" % (n_genes, n_genes)
                    assert (few if n_genes < 17 else "too similar means") in str(error), error
                    assert "Keep all genes with n_top_genes=%d" % n_genes in str(error), error
        same = np.tile(np.arange(1, 41), (50, 1))
        once = np.eye(200)[:, :60]
        presence = draw.random((300, 60)) < 0.5
        assert len(fit(presence, 5)) == 5
        for x, words in ((same, "only 0 of 40"), (once, "too similar means (1 different")):
            try:
                fit(x, 5)
            except ValueError as error:
                assert words in str(error) and "b'" not in str(error), error
            else:
                raise AssertionError(words)
        print("end")
    """)
    assert (run.returncode, run.stdout) == (0, "end\n"), run.stderr


@pytest.mark.parametrize("unit", [1e-320, 1e-150, 1e150, 1e300])
def test_numbers_whose_squares_are_none_never_crash(unit):
    run = in_a_process_of_its_own(f"""
        x = draw.poisson(3, size=(50, 60)) * {unit}
        try:
            Preprocessor(n_top_genes=5).fit(AnnData(x))
        except ValueError as error:
            print("below 1e-30 or above 1e+30" in str(error))
    """)
    assert (run.returncode, run.stdout) == (0, "True\n"), run.stderr


def test_all_genes_are_kept_in_order_without_a_choice():
    run = in_a_process_of_its_own("""
        for n in (1, 2, 3, 5, 12, 48):
            assert fit(draw.poisson(2, size=(40, n)) + 1, n) == list(range(n))
            assert fit(np.tile(np.arange(1, n + 1), (9, 1)), n) == list(range(n))
        print("end")
    """)
    assert (run.returncode, run.stdout) == (0, "end\n"), run.stderr


def test_as_many_genes_as_vary_are_those_that_vary(adata):
    counts = np.column_stack([np.full((150, 40), 2), adata.X.toarray()[:, :3], np.zeros((150, 9))])
    assert list(fitted(AnnData(counts), n_top_genes=3).genes_) == ["40", "41", "42"]
    with pytest.raises(ValueError, match="n_top_genes=4, but only 3 of 52 genes vary"):
        fitted(AnnData(counts), n_top_genes=4)


@pytest.mark.filterwarnings("ignore:counts are not whole")
def test_constant_fractions_are_not_preferred_and_do_not_bend_the_trend(adata):
    counts = adata.X.toarray().astype(np.float64)
    constant = np.full((150, 30), 0.3137) * np.arange(1, 31)
    assert constant.var(axis=0).any()  # by rounding
    with_constant = AnnData(np.column_stack([constant, counts]))
    chosen = fitted(with_constant).genes_.astype(int) - 30
    np.testing.assert_array_equal(adata.var_names[chosen], fitted(adata).genes_)


def test_the_genes_are_those_of_scanpy_whatever_their_number(adata):
    for n in (1, 7, 57):
        table = scanpy.pp.highly_variable_genes(
            adata, flavor="seurat_v3", n_top_genes=n, inplace=False
        )
        expected = adata.var_names[table["highly_variable"]]
        assert list(fitted(adata, n_top_genes=n).genes_) == list(expected)


# --- scikit-learn -------------------------------------------------------------------------------


def test_a_pipeline_is_its_steps(adata):
    options = {"n_steps": 5, "random_state": 0, "n_neighbors": 5}
    pipeline = make_pipeline(Preprocessor(n_top_genes=20), rpumap.ParametricUMAP(**options))
    by_hand = rpumap.ParametricUMAP(**options).fit(
        Preprocessor(n_top_genes=20).fit_transform(adata)
    )
    np.testing.assert_array_equal(clone(pipeline).fit_transform(adata), by_hand.embedding_)
    pipeline.set_output(transform="pandas").fit(adata)
    names = pipeline[-1].feature_names_in_
    assert list(names) == list(pipeline[0].get_feature_names_out()) == list(pipeline[0].genes_)
    np.testing.assert_allclose(pipeline.transform(adata[:9]), by_hand.embedding_[:9], atol=1e-5)


@pytest.mark.parametrize("copied", [lambda p: p, clone, lambda p: pickle.loads(pickle.dumps(p))])
def test_frames_carry_the_names_of_cells_and_genes(adata, copied):
    expected = fitted(adata).transform(adata)
    prep = copied(Preprocessor(n_top_genes=20).set_output(transform="pandas")).fit(adata)
    for frame in (prep.transform(adata), prep.fit_transform(adata)):
        assert isinstance(frame, pd.DataFrame)
        assert list(frame.index) == list(adata.obs_names)
        assert list(frame.columns) == list(prep.genes_)
        np.testing.assert_array_equal(frame.to_numpy(), expected)
    assert isinstance(prep.set_output(transform="default").transform(adata), np.ndarray)


def test_feature_names_are_there_after_fit_only(adata):
    with pytest.raises(NotFittedError):
        Preprocessor().get_feature_names_out()
    prep = fitted(adata)
    assert prep.get_feature_names_out().tolist() == prep.genes_.tolist()
    assert prep.fit(adata, None) is prep
    assert clone(prep).get_params() == prep.get_params()


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"n_top_genes": "30"}, "n_top_genes must be an integer of at least 1, got '30'"),
        ({"n_top_genes": 30.0}, "n_top_genes must be an integer"),
        ({"n_top_genes": None}, "n_top_genes must be an integer"),
        ({"n_top_genes": 0}, "n_top_genes must be an integer of at least 1, got 0"),
        ({"n_top_genes": 61}, "n_top_genes=61 is more than the 60 genes in the data"),
        ({"target_sum": None}, "target_sum must be a number"),
        ({"target_sum": "1e4"}, "target_sum must be a number"),
        ({"target_sum": 0}, r"target_sum must be a number from 1e-30 to 1e\+30, got 0"),
        ({"target_sum": -1}, "target_sum must be a number"),
        ({"target_sum": np.nan}, "target_sum must be a number"),
        ({"target_sum": 1e300}, "target_sum must be a number"),
        ({"log1p": "no"}, "log1p must be True or False, got 'no'"),
        ({"log1p": None}, "log1p must be True or False"),
        ({"layer": 3}, r"no counts in layers\[3\]: layer must be None, for X, or one of"),
    ],
)
def test_parameters_are_checked_at_fit(adata, parameters, message):
    with pytest.raises(ValueError, match=message):
        fitted(adata, **parameters)


@pytest.mark.parametrize("changed", [{"log1p": True}, {"target_sum": 1e6}])
def test_scaling_cannot_change_after_fit(adata, changed):
    prep = fitted(adata).set_params(n_top_genes=10)  # which has been used up
    assert prep.transform(adata).shape == (150, 20)
    prep.set_params(**changed)
    for use in (prep.transform, prep.standardize):
        with pytest.raises(ValueError, match=f"{next(iter(changed))}.*call fit again"):
            use(adata if use == prep.transform else np.ones((1, 20)))
    assert prep.fit(adata).transform(adata).shape == (150, 10)


def test_a_failed_fit_leaves_the_last_one_as_it_was(adata):
    prep = fitted(adata)
    before = prep.transform(adata)
    for bad in (AnnData(-adata.X, var=adata.var), adata[:1], adata[:, :5]):
        with pytest.raises(ValueError, match=r"negative|two cells|5 genes"):
            prep.fit(bad)
    np.testing.assert_array_equal(prep.transform(adata), before)


def test_standardize_takes_tables_of_the_chosen_genes(adata):
    prep = fitted(adata)
    values = np.arange(60.0).reshape(3, 20)
    for table in (csr_matrix(values), pd.DataFrame(values), values.tolist()):
        z = prep.standardize(table)
        assert type(z) is np.ndarray
        np.testing.assert_array_equal(z, prep.standardize(values))
    for wrong in (values[:, :5], values[0]):
        with pytest.raises(ValueError, match="a column for each of 20 genes, got the shape"):
            prep.standardize(wrong)


def test_values_that_were_not_measured_stand_at_the_mean(adata):
    prep = fitted(adata)
    values = np.arange(60.0).reshape(3, 20)
    values[1, 4] = np.nan
    z = prep.standardize(values)
    assert z[1, 4] == 0 and np.isfinite(z).all()
    np.testing.assert_array_equal(np.delete(z, 4, 1), np.delete(prep.standardize(values), 4, 1))


@pytest.mark.parametrize("log1p", [False, True])
def test_scaled_counts_are_what_z_scores_come_from(adata, log1p):
    prep = fitted(adata, log1p=log1p)
    part = adata[:, adata.var_names != prep.genes_[3]].copy()
    part.obs["library_size"] = np.ravel(adata.X.sum(axis=1))
    with pytest.warns(UserWarning, match="1 of 20 genes are not in the data"):
        values = prep.scale(part)
    others = np.arange(20) != 3
    assert np.isnan(values[:, 3]).all()
    counts = adata[:, prep.genes_].X.toarray()[:, others].astype(float)
    expected = 1e4 * counts / np.ravel(adata.X.sum(axis=1))[:, None]
    np.testing.assert_allclose(values[:, others], expected)
    with pytest.warns(UserWarning, match="1 of 20 genes"):
        np.testing.assert_array_equal(prep.standardize(values), prep.transform(part))


def test_moments_are_those_of_numpy_but_for_constants():
    values = np.random.default_rng(0).normal(size=(50, 4))
    values[:, 2], values[:, 3] = 0.1, 0.0
    mean, std = moments(values)
    np.testing.assert_array_equal(mean, values.mean(axis=0))
    np.testing.assert_array_equal(std[:2], values[:, :2].std(axis=0, ddof=1))
    assert std[2:].tolist() == [1.0, 1.0]


def test_numbers_of_numpy_are_numbers(adata):
    prep = fitted(adata, n_top_genes=np.int64(20), target_sum=np.float32(1e4), log1p=np.bool_(True))
    assert len(prep.genes_) == 20


# --- layers -------------------------------------------------------------------------------------


def normalised(adata, log=True):
    """Return a table as many are: normalised X, counts in a layer and in raw."""
    other = adata.copy()
    other.layers["counts"] = adata.X.copy()
    scanpy.pp.normalize_total(other, target_sum=1e4)
    if log:
        scanpy.pp.log1p(other)
    return other


def test_a_layer_is_used_for_all_that_counts_are_used_for(adata):
    other = normalised(adata)
    prep = fitted(other, layer="counts")
    expected = fitted(adata)
    np.testing.assert_array_equal(prep.genes_, expected.genes_)
    np.testing.assert_array_equal(silent(prep.transform, other), expected.transform(adata))
    np.testing.assert_array_equal(library_size(other, "counts"), totals(adata))
    other.X = None
    np.testing.assert_array_equal(prep.transform(other[:9]), expected.transform(adata[:9]))
    with pytest.raises(ValueError, match=r"no counts in layers\['counts'\].*X holds whole numbers"):
        prep.transform(adata)


@pytest.mark.parametrize(("log", "name"), [(False, "normalised"), (True, "log-transformed")])
def test_a_warning_says_where_the_counts_are(adata, log, name):
    prep, other = fitted(adata), normalised(adata, log)
    pattern = rf"not whole numbers in X .*{name}: every cell sums to 1e\+04.*pass layer='counts'"
    for use in (prep.transform, Preprocessor(n_top_genes=20).fit):
        with pytest.warns(UserWarning, match=pattern):
            use(other)
    del other.layers["counts"]
    other.raw = adata
    with pytest.warns(UserWarning, match=r"adata.raw holds whole numbers: pass adata.raw.to_adata"):
        prep.transform(other)


def test_errors_say_where_the_counts_are(adata):
    scaled = normalised(adata)
    scaled.layers["fractions"] = scaled.X.copy()
    scanpy.pp.scale(scaled)
    with pytest.raises(ValueError, match="negative values.*pass layer='counts'") as said:
        fitted(scaled)
    assert "fractions" not in str(said.value)
    scaled.X = None
    with pytest.raises(ValueError, match=r"X is None. layers\['counts'\] holds whole numbers"):
        fitted(scaled)


def test_fractions_are_told_once_and_everything_works(adata):
    def told(call):
        with pytest.warns(UserWarning, match="whole numbers") as said:
            call()
        return [warning.filename for warning in said if warning.category is UserWarning]

    adata.X = adata.X * np.float32(0.9137)
    prep = Preprocessor(n_top_genes=20)
    assert told(lambda: prep.fit_transform(adata)) == [__file__]  # where the user called
    assert told(lambda: fitted(adata).transform(adata)) == [__file__] * 2
    assert np.isfinite(prep.fit_transform(adata)).all()


# --- what is wrong, and with what ----------------------------------------------------------------


def changed(adata, value):
    counts = adata.X.toarray()
    counts[3, 5] = counts[3, 6] = counts[8, 5] = value
    return AnnData(counts, obs=adata.obs, var=adata.var)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.nan, r"3 missing values \(NaN\), in 2 of 150 cells and 2 of 60 genes.*join='outer'"),
        (-1, "3 negative values, in 2 of 150 cells.*cell 'cell3', gene 'gene5'.*not z-scores"),
        (np.inf, "3 infinite values, in 2 of 150 cells"),
    ],
)
@pytest.mark.parametrize("kind", [np.asarray, csr_matrix])
def test_bad_values_are_counted_and_located(adata, value, message, kind):
    bad = changed(adata, value)
    bad.X = kind(bad.X)
    for use in (Preprocessor(n_top_genes=20).fit, fitted(adata).transform, library_size):
        with pytest.raises(ValueError, match=message):
            use(bad)


def test_an_outer_join_speaks_of_missing_values(adata):
    dense = AnnData(adata.X.toarray(), var=adata.var)
    other = dense[:, 10:].copy()
    joined = anndata.concat({"a": dense, "b": other}, join="outer", index_unique="-")
    message = r"1500 missing values \(NaN\), in 150 of 300 cells and 10 of 60 genes"
    with pytest.raises(ValueError, match=message):
        fitted(joined)


def test_masked_text_and_empty_tables(adata):
    counts = adata.X.toarray()
    with pytest.raises(ValueError, match="missing .masked. values"):
        fitted(AnnData(np.ma.array(counts, mask=counts > 9)))
    with pytest.raises(TypeError, match="X holds <U9, not numbers"):
        fitted(AnnData(counts.astype("U9")))
    with pytest.raises(TypeError, match="X must hold numbers.*'many'"):
        fitted(AnnData(np.where(counts > 9, "many", counts.astype(object))))
    with pytest.raises(ValueError, match="all counts are zero in X"):
        fitted(AnnData(counts * 0))
    with pytest.raises(ValueError, match="no counts: they have 0 cells and 60 genes"):
        fitted(adata[:0])
    with pytest.raises(ValueError, match="no counts: they have 150 cells and 0 genes"):
        fitted(adata).transform(adata[:, :0])


def test_missing_values_of_any_kind_are_called_so(adata):
    frame = adata.to_df().astype(int).astype("Int64")
    frame.iloc[3, 2] = pd.NA
    other = AnnData(adata.X.toarray().astype(object), var=adata.var)
    other.X[3, 2] = None
    for table in (AnnData(frame), other):
        with pytest.raises(ValueError, match=r"1 missing values \(NaN\), in 1 of 150 cells"):
            fitted(table)


@pytest.mark.filterwarnings("ignore:Variable names are not unique")
def test_gene_names_that_repeat_are_shown(adata):
    names = adata.var_names.to_list()
    adata.var_names = ["Actb", "Actb", *names[2:]]
    with pytest.raises(
        ValueError, match=r"repeat \(1 of them: 'Actb'\): call adata.var_names_make"
    ):
        fitted(adata)


def test_other_things_than_tables_are_refused(adata):
    prep = fitted(adata)
    adata.raw = adata
    for thing, to_do in (
        (adata.X, "not csr_matrix: wrap an array as anndata.AnnData"),
        (adata.to_df(), "not DataFrame: wrap"),
        (prep.transform(adata), "not ndarray: wrap"),
        (adata.raw, r"not Raw: pass adata.raw.to_adata\(\)"),
        ("pancreas.h5ad", "not str: read the file with anndata.read_h5ad"),
    ):
        for use in (Preprocessor(n_top_genes=20).fit, prep.transform, library_size):
            with pytest.raises(TypeError, match=f"an AnnData .* is needed.*{to_do}"):
                use(thing)


@pytest.mark.parametrize(
    ("rename", "cause"),
    [
        (lambda name: f'"{name}"', "20 would match but for white space or quotes"),
        (lambda name: "hg19-" + name, "20 would match but for a prefix such as 'GRCh38_'"),
        (lambda name: "mm10___" + name.upper(), "20 would match but for several of these: upper"),
        (str.upper, "20 would match but for upper and lower case"),
        (lambda name: name + " ", "20 would match but for white space"),
        (lambda name: name + ".12", "20 would match but for a version suffix"),
        (lambda name: "GRCh38_" + name, "20 would match but for a prefix such as 'GRCh38_'"),
        (lambda name: name.upper() + ".3", "20 would match but for several of these: upper"),
        (lambda name: "ENSG" + name[4:].zfill(11), r"adata.var\['symbol'\] holds 20 of them"),
    ],
)
def test_genes_of_other_names_are_refused_and_the_difference_is_named(adata, rename, cause):
    prep, other = fitted(adata), adata.copy()
    other.var["symbol"] = "" if "would" in cause else other.var_names
    other.var_names = [rename(name) for name in adata.var_names]
    with pytest.raises(ValueError, match=f"20 of 20 genes are not in the data.*{cause}") as said:
        prep.transform(other)
    for name in (prep.genes_[0], other.var_names[0]):  # a name of each side
        assert repr(str(name)) in str(said.value)


def test_a_part_of_other_names_is_told_but_not_matched(adata):
    prep, other = fitted(adata), adata.copy()
    other.var_names = [n.upper() if n in prep.genes_[:8] else n for n in adata.var_names]
    with pytest.warns(UserWarning, match="8 of 20 genes .*8 would match but for upper and lower"):
        z = prep.transform(other)
    assert not z[:, :8].any()
    with pytest.raises(ValueError, match=r"pass adata\.T$"):
        prep.transform(adata.T)
    strangers = adata.copy()
    strangers.var_names = [f"x{i}" for i in range(60)]
    with pytest.raises(ValueError, match="same species and kind as those of the training data$"):
        prep.transform(strangers)


def test_names_in_other_parts_of_a_table_are_found(adata):
    prep, other = fitted(adata), adata.copy()
    other.var_names = [f"ENSG{i:011d}" for i in range(60)]
    other.var["some"] = ["gene0", "gene1", "gene2", *other.var_names[3:]]
    other.var["feature"] = [name.upper() for name in adata.var_names]
    other.var["length"] = np.arange(60)
    with pytest.raises(
        ValueError, match=r"20 would match adata.var\['feature'\] but for upper and"
    ):
        prep.transform(other)
    other.raw = adata
    with pytest.raises(ValueError, match=r"adata.raw holds 20 of them: pass adata.raw.to_adata"):
        prep.transform(other)


def test_variable_genes_of_a_table_whose_raw_holds_all(adata):
    prep, cut = fitted(adata), adata.copy()
    cut.raw = adata
    cut = cut[:, [*prep.genes_[:15], *adata.var_names.difference(prep.genes_)]].copy()
    with pytest.warns(UserWarning, match="5 of 20 genes are not.*adata.raw holds 5 of them"):
        prep.transform(cut)
    np.testing.assert_array_equal(prep.transform(cut.raw.to_adata()), prep.transform(adata))


@pytest.mark.parametrize("index", [range(60), pd.CategoricalIndex([f"g{i}" for i in range(60)])])
def test_names_may_be_of_any_type(adata, index):
    expected = fitted(adata).transform(adata)
    adata.var.index = pd.Index(index)
    prep = fitted(adata)
    assert prep.genes_.dtype.kind == "U"
    np.testing.assert_array_equal(silent(prep.transform, adata), expected)


def test_what_was_learnt_can_be_restored(adata):
    prep = Preprocessor(n_top_genes=20, log1p=True).fit(adata)
    names = ("genes", "mean", "std", "panel_share", "library_size_stored", "n_features_in")
    learnt = {name: getattr(prep, f"{name}_") for name in names}
    again = Preprocessor(n_top_genes=20, log1p=True).restore(**learnt)
    np.testing.assert_array_equal(again.transform(adata), prep.transform(adata))
