"""Lost counts: entry by entry, on tensors against tables, and the box that holds all losses."""

from __future__ import annotations

import anndata
import numpy as np
import pandas as pd
import pytest
import torch
from anndata import AnnData
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import sparse
from scipy.sparse import csr_matrix
from sklearn.exceptions import NotFittedError

import rpumap
from examples import three_types
from rpumap.dropout import CountDropper, drop_counts, dropout_box
from rpumap.preprocessing import Preprocessor, library_size

drawn = settings(deadline=None, derandomize=True, max_examples=60)
CPU = torch.device("cpu")
# z-scores of cells that lost much, in tables that keep their library size, are meant to be odd
pytestmark = pytest.mark.filterwarnings("ignore:the chosen genes hold")


# --- drop_counts: entries -----------------------------------------------------------------------

counted = arrays(
    np.int32, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.integers(0, 9)
)


@drawn
@given(
    counts=counted,
    ratio=st.floats(0, 1),
    seed=st.integers(0, 99),
    dtype=st.sampled_from(["int32", "uint8", "bool", "float16", "float32", ">i4", "float64"]),
)
def test_exactly_so_many_counts_are_lost_and_none_rises(counts, ratio, seed, dtype):
    counts = counts.astype(dtype)
    before = counts.copy()
    lost = drop_counts(counts, ratio, seed)
    np.testing.assert_array_equal(counts, before)
    assert lost.dtype == counts.dtype
    changed = lost != counts
    assert (lost[changed] == 0).all()
    assert changed.sum() == round(ratio * np.count_nonzero(counts))


@drawn
@given(counts=counted, ratio=st.floats(0, 1), seed=st.integers(0, 99))
def test_dense_and_sparse_lose_the_same(counts, ratio, seed):
    expected = drop_counts(counts, ratio, seed)
    for kind in (
        sparse.csr_matrix,
        sparse.csc_array,
        sparse.coo_matrix,
        sparse.coo_array,
        sparse.csr_array,
        sparse.csc_matrix,
    ):
        given_counts = kind(counts)
        lost = drop_counts(given_counts, ratio, seed)
        assert type(lost) is kind
        assert lost.dtype == counts.dtype
        assert lost.nnz == np.count_nonzero(expected)  # no zeros are stored
        np.testing.assert_array_equal(lost.toarray(), expected)
        np.testing.assert_array_equal(given_counts.toarray(), counts)
    np.testing.assert_array_equal(drop_counts(np.asfortranarray(counts), ratio, seed), expected)


def test_stored_zeros_are_not_counts_and_duplicates_are_one():
    stored = sparse.csr_matrix(([1, 0, 0, 2, 0], [0, 1, 2, 1, 2], [0, 3, 5]), dtype=np.int64)
    lost = drop_counts(stored, 0.5, 0)
    assert stored.nnz == 5
    assert lost.nnz == 1
    assert drop_counts(stored, 0.0).nnz == 2
    parts = np.array([200, 100, 7], dtype=np.uint8)
    twice = sparse.coo_array((parts, ([0, 0, 0], [1, 1, 2])), shape=(1, 3))
    np.testing.assert_array_equal(drop_counts(twice, 0.0).toarray(), [[0, 300, 7]])
    assert drop_counts(twice, 0.5, 0).nnz == 1


def test_read_only_counts_are_copied():
    counts = np.arange(12.0).reshape(3, 4)
    counts.setflags(write=False)
    assert np.count_nonzero(drop_counts(counts, 1.0)) == 0
    matrix = csr_matrix(counts)
    for array in (matrix.data, matrix.indices, matrix.indptr):
        array.setflags(write=False)
    assert drop_counts(matrix, 1.0).nnz == 0
    assert matrix.nnz == 11


def test_every_count_is_equally_likely_to_be_lost():
    counts = np.array([[100, 1, 0], [1, 1, 1]])  # large counts are not spared
    rng = np.random.default_rng(0)
    times = sum(drop_counts(counts, 0.4, rng) < counts for _ in range(5000))
    assert times[0, 2] == 0
    share = times[counts > 0] / 5000
    assert np.abs(share - 0.4).max() < 5 * (0.4 * 0.6 / 5000) ** 0.5


# --- drop_counts: tables ------------------------------------------------------------------------


@pytest.fixture
def table() -> AnnData:
    draw = np.random.default_rng(3)
    counts = draw.negative_binomial(2, 2 / (2 + draw.gamma(0.5, 4, size=60)), size=(150, 60))
    adata = AnnData(sparse.csr_matrix(counts.astype(np.float32)))
    adata.var_names = [f"gene{i}" for i in range(60)]
    adata.obs["clusters"] = ["a", "b", "c"] * 50
    adata.uns["source"] = "drawn"
    adata.layers["raw"] = adata.X.copy()
    return adata


def test_a_table_keeps_all_but_its_counts(table):
    before = table.copy()
    lost = drop_counts(table, 0.3, 0)
    assert isinstance(lost.X, sparse.csr_matrix)
    assert lost.X.dtype == np.float32
    assert (drop_counts(table.X, 0.3, 0) != lost.X).nnz == 0
    assert lost.X.nnz == table.X.nnz - round(0.3 * table.X.nnz)
    for one, other in ((table, before), (lost, before)):
        assert one.obs.equals(other.obs) and one.var_names.equals(other.var_names)
        assert (one.layers["raw"] != other.layers["raw"]).nnz == 0
    assert (table.X != before.X).nnz == 0
    assert lost.uns["source"] == "drawn"
    lost.obs["clusters"] = "z"
    assert set(table.obs["clusters"]) == {"a", "b", "c"}


@pytest.mark.parametrize("dtype", ["float64", "float32", "int64", "uint16", "Int64"])
def test_a_stored_library_size_loses_the_molecules_too(table, dtype):
    # Stored or summed, the library size is the same, so the z-scores must be the same.
    stored = table.copy()
    stored.obs["library_size"] = pd.Series(library_size(table), table.obs_names).astype(dtype)
    prep = Preprocessor(n_top_genes=20).fit(table)
    summed, kept = drop_counts(table, 0.4, 0), drop_counts(stored, 0.4, 0)
    assert kept.obs["library_size"].dtype == dtype
    np.testing.assert_array_equal(library_size(kept), library_size(summed))
    np.testing.assert_array_equal(prep.transform(kept), prep.transform(summed))
    assert (library_size(kept) < library_size(table)).mean() > 0.9
    np.testing.assert_array_equal(stored.obs["library_size"], library_size(table))


def test_genes_that_are_not_in_the_table_lose_nothing(table):
    table.obs["library_size"] = library_size(table) + 1000
    lost = drop_counts(table, 1.0, 0)
    np.testing.assert_array_equal(lost.obs["library_size"], 1000)


def test_small_types_and_fractions_lose_exact_sums():
    draw = np.random.default_rng(0)
    counts = draw.integers(0, 256, size=(20, 300)).astype(np.uint8)
    size = counts.sum(axis=1, dtype=np.int64) + 7
    whole = AnnData(counts, obs=pd.DataFrame({"library_size": size}, index=map(str, range(20))))
    assert (drop_counts(whole, 1.0).obs["library_size"] == 7).all()
    part = drop_counts(whole, 0.5, 0)
    left = size - counts.sum(axis=1, dtype=np.int64) + part.X.sum(axis=1, dtype=np.int64)
    np.testing.assert_array_equal(part.obs["library_size"], left)
    # whole sizes of counts that are not whole
    fractions = whole.copy()
    fractions.X = (counts * 0.9).astype(np.float32)
    fractions.obs["library_size"] = np.ceil(fractions.X.sum(axis=1, dtype=float)).astype(int)
    lost = drop_counts(fractions, 0.5, 0)
    want = fractions.obs["library_size"] - (fractions.X - lost.X).sum(axis=1, dtype=float)
    np.testing.assert_allclose(lost.obs["library_size"], want, rtol=1e-9)


def test_views_and_dense_tables(table):
    view = table[10:90, ::2]
    lost = drop_counts(view, 0.5, 0)
    assert lost.shape == (80, 30)
    assert view.is_view
    dense = AnnData(view.X.toarray(), obs=view.obs)
    np.testing.assert_array_equal(drop_counts(dense, 0.5, 0).X, lost.X.toarray())


def test_a_layer_loses_its_counts_alone(table):
    table.obs["library_size"] = library_size(table) + 10
    expected = drop_counts(table, 0.4, 0)
    table.X = table.X * np.float32(0.3)
    lost = drop_counts(table, 0.4, 0, layer="raw")
    assert (lost.layers["raw"] != expected.X).nnz == 0
    assert (lost.X != table.X).nnz == 0
    np.testing.assert_array_equal(lost.obs["library_size"], expected.obs["library_size"])
    with pytest.raises(ValueError, match=r"no counts in layers\['counts'\].*'raw'"):
        drop_counts(table, 0.4, layer="counts")
    with pytest.raises(TypeError, match="layer='raw' needs an AnnData, got csr_matrix"):
        drop_counts(table.X, 0.4, layer="raw")


@pytest.mark.parametrize("kind", [sparse.csr_matrix, sparse.csc_matrix, sparse.csr_matrix.toarray])
def test_tables_on_disk_come_back_in_memory(table, tmp_path, kind):
    table.X = kind(table.X)
    table.write_h5ad(tmp_path / "cells.h5ad")
    disk = anndata.read_h5ad(tmp_path / "cells.h5ad", backed="r")
    try:
        for one, other in ((disk, table), (disk[:50], table[:50])):
            lost, expected = drop_counts(one, 0.4, 0), drop_counts(other, 0.4, 0)
            assert not lost.isbacked
            np.testing.assert_array_equal(
                *(t.X.toarray() if sparse.issparse(t.X) else t.X for t in (lost, expected))
            )
    finally:
        disk.file.close()


@pytest.mark.parametrize("ratio", [-0.1, 1.1, np.nan, "half", None, True])
def test_a_ratio_lies_from_0_to_1(ratio):
    with pytest.raises(ValueError, match="ratio must be a number from 0 to 1, got"):
        drop_counts(np.ones((2, 2)), ratio)


def test_frames_keep_their_names_and_what_is_lazy_is_computed(table):
    frame = table.to_df()
    expected = drop_counts(frame.to_numpy(), 0.5, 0)
    lost = drop_counts(frame, 0.5, 0)
    pd.testing.assert_frame_equal(lost, pd.DataFrame(expected, frame.index, frame.columns))

    class Lazy:
        def compute(self):
            return csr_matrix(frame.to_numpy())

    np.testing.assert_array_equal(drop_counts(Lazy(), 0.5, 0).toarray(), expected)


def test_bad_counts_are_refused(table):
    with pytest.raises(ValueError, match="must not be negative: pass raw counts"):
        drop_counts(np.array([[1, -1]]), 0.5)
    with pytest.raises(ValueError, match="must not be negative"):
        drop_counts(sparse.csc_matrix([[1.0, -1.0]]), 0.5)
    with pytest.raises(ValueError, match="counts contains NaN"):
        drop_counts(np.array([[1, np.nan]]), 0.5)
    with pytest.raises(ValueError, match="Expected 2D array"):
        drop_counts(np.array([1, 2]), 0.5)
    with pytest.raises(ValueError, match="1 missing .masked. values"):
        drop_counts(np.ma.array([[1, 2]], mask=[[True, False]]), 0.5)
    with pytest.raises(ValueError, match="X is None"):
        drop_counts(AnnData(shape=(3, 2)), 0.5)
    table.raw = table
    with pytest.raises(TypeError, match=r"adata.raw.to_adata\(\)"):
        drop_counts(table.raw, 0.5)
    table.obs["library_size"] = 0.5
    with pytest.raises(ValueError, match=r"obs\['library_size'\] is below the counts of the cell"):
        drop_counts(table, 0.5, 0)


# --- CountDropper -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def base():
    adata = three_types()
    return Preprocessor(n_top_genes=20).fit(adata), adata


def intact(prep, adata):
    """Drop nothing."""
    n = adata.n_obs
    everything = torch.ones(n, len(prep.genes_), dtype=torch.bool)
    return CountDropper(prep, adata, CPU)(torch.arange(n), everything, torch.zeros(n, 1)).numpy()


@pytest.mark.parametrize("log1p", [False, True])
@pytest.mark.parametrize("stored", [False, True])
def test_dropped_cells_are_prepared_as_new_cells_would_be(log1p, stored):
    adata = three_types()
    if stored:
        adata.obs["library_size"] = np.asarray(adata.X.sum(axis=1)).ravel() + 100
    prep = Preprocessor(n_top_genes=20, log1p=log1p).fit(adata)
    draw = np.random.default_rng(1)
    kept = draw.random((300, 20)) >= 0.6
    # the oracle: the same loss in a table, of which the Preprocessor knows nothing but counts
    chosen = adata[:, prep.genes_].copy()
    before = np.asarray(chosen.X.sum(axis=1)).ravel()
    chosen.X = csr_matrix(chosen.X.toarray() * kept)
    total = library_size(adata)
    left = np.asarray(chosen.X.sum(axis=1)).ravel()
    chosen.obs["library_size"] = left + 0.4 * (total - before)
    ratio = torch.full((300, 1), 0.6)
    z = CountDropper(prep, adata, CPU)(torch.arange(300), torch.as_tensor(kept), ratio)
    np.testing.assert_allclose(z.numpy(), prep.transform(chosen), rtol=1e-4, atol=1e-4)


def test_cells_can_repeat_and_come_in_any_order(base):
    prep, adata = base
    cells, none_lost = torch.tensor([5, 2, 5]), torch.ones(3, 20, dtype=torch.bool)
    z = CountDropper(prep, adata, CPU)(cells, none_lost, torch.zeros(3, 1))
    np.testing.assert_allclose(z.numpy(), prep.transform(adata)[[5, 2, 5]], rtol=1e-4, atol=1e-5)


def test_a_cell_that_lost_everything_is_prepared_too(base):
    prep, adata = base
    z = CountDropper(prep, adata, CPU)(
        torch.arange(300), torch.zeros(300, 20, dtype=torch.bool), torch.ones(300, 1)
    )
    empty = prep.standardize(np.zeros((300, 20)))
    np.testing.assert_allclose(z.numpy(), empty, rtol=1e-4, atol=1e-5)


def test_a_gene_that_is_missing_stays_at_its_mean(base):
    prep, adata = base
    fewer = adata[:, adata.var_names != prep.genes_[3]].copy()
    with pytest.warns(UserWarning, match="1 of 20 genes are not in the data"):
        expected = prep.transform(fewer)
    z = intact(prep, fewer)
    assert not z[:, 3].any()
    np.testing.assert_allclose(z, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("change", ["uint8", "layer", "csc", "fractions"])
@pytest.mark.filterwarnings("ignore:counts are not whole")
def test_other_tables_are_read_as_transform_reads_them(base, change):
    prep, adata = base
    adata = adata.copy()
    if change == "uint8":
        adata.X = np.minimum(adata.X.toarray(), 255).astype("uint8")
    elif change == "csc":
        adata.X = sparse.csc_array(adata.X)
    elif change == "fractions":
        adata.X = adata.X * np.float32(0.9137)
    else:
        adata.layers["counts"], adata.X = adata.X, None
        prep = Preprocessor(n_top_genes=20, layer="counts").fit(adata)
    z = intact(prep, adata)
    np.testing.assert_allclose(z, prep.transform(adata), rtol=1e-4, atol=1e-4)


def test_what_the_dropper_refuses(base):
    prep, adata = base
    small = adata.copy()
    small.obs["library_size"] = 1.0
    with pytest.raises(ValueError, match=r"obs\['library_size'\] is below the counts of the cell"):
        CountDropper(prep, small, CPU)
    with pytest.raises(NotFittedError):
        CountDropper(Preprocessor(), adata, CPU)
    changed = Preprocessor(n_top_genes=20).fit(adata).set_params(target_sum=5.0)
    for use in (lambda: CountDropper(changed, adata, CPU), lambda: dropout_box(changed, adata)):
        with pytest.raises(ValueError, match="call fit again"):
            use()
    with pytest.raises(TypeError, match="prep must be a fitted Preprocessor, got AnnData"):
        CountDropper(adata, prep, CPU)
    with pytest.raises(TypeError, match="an AnnData .* is needed.* not ndarray"):
        CountDropper(prep, prep.transform(adata), CPU)


# --- dropout_box --------------------------------------------------------------------------------


def counts_of(seed: int, with_size: bool) -> AnnData:
    draw = np.random.default_rng(seed)
    adata = AnnData(csr_matrix(draw.poisson(1.5, size=(30, 12)).astype(np.float32)))
    adata.var_names = [f"g{i}" for i in range(12)]
    if with_size:
        adata.obs["library_size"] = np.asarray(adata.X.sum(1)).ravel() + draw.integers(1, 9, 30)
    return adata


def prepared(adata: AnnData, log1p: bool, genes=(1, 3, 4, 5, 7, 9, 11)) -> Preprocessor:
    """Fit to some genes; choosing them is not what is tested."""
    panel = adata[:, list(genes)].copy()
    panel.obs["library_size"] = library_size(adata)
    return Preprocessor(n_top_genes=len(genes), log1p=log1p).fit(panel)


@drawn
@given(st.integers(0, 1000), st.booleans(), st.booleans(), st.booleans())
def test_no_loss_leaves_the_box(seed, with_size, log1p, falls):
    adata = counts_of(seed, with_size)
    prep = prepared(adata, log1p)
    draw = np.random.default_rng(seed)
    genes = draw.choice(prep.genes_, size=draw.integers(1, 8), replace=False)
    lower, upper = dropout_box(prep, adata, genes, library_size_falls=falls)
    size = library_size(adata)
    for _ in range(10):
        less = adata.copy()
        counts = less.X.toarray()
        may_fall = np.isin(adata.var_names, genes) & (draw.random(counts.shape) < 0.7)
        fewer = np.where(may_fall, draw.integers(0, counts + 1), counts)
        less.X = csr_matrix(fewer.astype(np.float32))
        less.obs["library_size"] = size - (counts - fewer).sum(1) if falls else size
        z = prep.transform(less)
        assert (lower <= z).all()
        assert (z <= upper).all()
    assert (lower <= prep.transform(adata)).all()


@drawn
@given(seed=st.integers(0, 1000), all_genes=st.booleans(), stored=st.booleans())
@pytest.mark.filterwarnings("ignore:counts are not whole", "ignore:.*cells have no counts")
def test_drop_counts_of_fractions_stays_in_the_box(seed, all_genes, stored):
    # All molecules of a cell lie in genes that may be lost: nothing but rounding is left over.
    draw = np.random.default_rng(seed)
    counts = draw.gamma(1, 2, size=(30, 12)) * (draw.random((30, 12)) < 0.7)
    counts[:, 0] += 0.1
    adata = AnnData(csr_matrix(counts.astype(np.float32)))
    if stored:
        adata.obs["library_size"] = adata.X.toarray().sum(axis=1).astype(np.float32)
    prep = prepared(adata, False, range(12) if all_genes else (0, 3, 4, 8))
    lower, upper = dropout_box(prep, adata, library_size_falls=True)
    assert (prep.transform(adata) <= upper).all()
    panel = adata[:, prep.genes_]
    for ratio in (0.2, 0.6, 0.95):
        lost = adata.copy()
        less = drop_counts(panel.X.toarray(), ratio, seed)
        lost.X = adata.X.toarray()
        lost.X[:, np.isin(adata.var_names, prep.genes_)] = less
        if stored:
            fallen = panel.X.toarray().sum(1, dtype=float) - less.sum(1, dtype=float)
            lost.obs["library_size"] = np.maximum(library_size(adata) - fallen, 0)
        if not lost.X.any():
            continue
        z = prep.transform(lost)
        slack = 1e-6 * np.abs(upper)  # stored sizes are rounded to single precision here
        assert (lower <= z).all()
        assert (z <= upper + slack).all()


@drawn
@given(
    seed=st.integers(0, 1000),
    with_size=st.booleans(),
    log1p=st.booleans(),
    all_genes=st.booleans(),
    per_cell=st.booleans(),
)
def test_no_loss_of_at_most_that_share_leaves_the_box(seed, with_size, log1p, all_genes, per_cell):
    adata = counts_of(seed, with_size)
    prep = prepared(adata, log1p)
    draw = np.random.default_rng(seed)
    genes = prep.genes_ if all_genes else draw.choice(prep.genes_, draw.integers(1, 7), False)
    counts, size = adata.X.toarray().astype(int), library_size(adata)
    fixed = np.isin(adata.var_names, np.setdiff1d(prep.genes_, genes))
    # what may be lost, molecule by molecule: of genes of the panel, of others, of no gene here
    pools = np.column_stack([counts * ~fixed, size - counts.sum(axis=1)]).astype(int)
    share = draw.random()
    for turn in range(8):
        lost = np.zeros_like(pools)
        for cell, pool in enumerate(pools):
            n_lost = min(int(share * size[cell]), pool.sum())
            if turn % 2:  # all of one gene, then all of the next
                for k in draw.permutation(len(pool)):
                    lost[cell, k] = min(pool[k], n_lost - lost[cell].sum())
            else:
                lost[cell] = draw.multivariate_hypergeometric(pool, draw.integers(0, n_lost + 1))
        less = adata.copy()
        less.X = csr_matrix((counts - lost[:, :-1]).astype(np.float32))
        less.obs["library_size"] = size - lost.sum(axis=1)
        bound = lost.sum(axis=1) / size if per_cell else share
        lower, upper = dropout_box(prep, adata, genes, library_loss=bound)
        for z in (prep.transform(less), prep.transform(adata)):
            assert (lower <= z).all()
            assert (z <= upper).all()


@pytest.mark.parametrize("log1p", [False, True])
@pytest.mark.parametrize("share", [0.0, 0.05, 0.4, 0.95])
@pytest.mark.parametrize("genes", [None, ["g3", "g4", "g9"]])
@pytest.mark.filterwarnings("ignore:counts are not whole")
def test_each_end_of_the_box_is_reached_by_a_loss_of_that_share(log1p, share, genes):
    adata = counts_of(0, with_size=True)
    prep = prepared(adata, log1p)
    lower, upper = dropout_box(prep, adata, genes, library_loss=share)
    counts, size = adata.X.toarray().astype(float), library_size(adata)
    may = ~np.isin(adata.var_names, np.setdiff1d(prep.genes_, genes or prep.genes_))
    n_may = (counts * may).sum(axis=1) + size - counts.sum(axis=1)

    def after(lost: np.ndarray, in_all: np.ndarray) -> np.ndarray:
        less = adata.copy()
        less.X = counts - lost
        less.obs["library_size"] = size - in_all
        return prep.transform(less)

    for j, gene in enumerate(prep.genes_):
        own = np.zeros_like(counts)
        column = list(adata.var_names).index(gene)
        own[:, column] = counts[:, column] * may[column]
        # fractions of molecules, so that the share is reached: those of the gene alone
        alone = np.minimum(own, share * size[:, None])
        np.testing.assert_allclose(lower[:, j], after(alone, alone.sum(1))[:, j], 1e-5, 1e-6)
        # or the same part of all others
        others = n_may - own.sum(axis=1)
        part = np.minimum(share * size / others, 1)
        z = after((counts * may - own) * part[:, None], part * others)
        np.testing.assert_allclose(upper[:, j], z[:, j], 1e-5, 1e-6)


def test_cells_that_lost_counts_of_all_genes_leave_the_box_unless_it_knows_how_many():
    adata = rpumap.datasets.pancreas(source="simulated")
    prep = Preprocessor(n_top_genes=300).fit(adata)
    lost = drop_counts(adata, 0.8, 0)
    z = prep.transform(lost)
    bound = 1 - library_size(lost) / library_size(adata)

    def leaves(**how) -> np.ndarray:
        lower, upper = dropout_box(prep, adata, **how)
        return ((z < lower) | (z > upper)).any(axis=1)

    # the box that takes all but the 300 genes as kept
    assert leaves(library_size_falls=True).mean() > 0.99
    assert not leaves(library_loss=bound).any()
    assert not leaves(library_loss=bound.max()).any()
    assert leaves(library_loss=bound * 0.9).mean() > 0.5


def test_a_cell_without_counts_and_a_gene_that_makes_up_a_cell():
    adata = AnnData(csr_matrix(np.array([[0, 0], [5, 0], [5, 3], [1, 9]], dtype=np.float32)))
    prep = Preprocessor(n_top_genes=2, target_sum=1.0).fit(adata[1:])
    with pytest.warns(UserWarning, match="1 cells have no counts"):
        lower, upper = dropout_box(prep, adata, library_loss=pd.Series([0.5, 0.5, 0.5, 0]))
    shares = [end * prep.std_ + prep.mean_ for end in (lower, upper)]
    np.testing.assert_allclose(shares[0], [[0, 0], [1, 0], [0.25, 0], [0.1, 0.9]], atol=1e-6)
    np.testing.assert_allclose(shares[1], [[0, 0], [1, 0], [1, 0.75], [0.1, 0.9]], atol=1e-6)


def test_a_share_that_was_rounded_down_leaves_no_cell_outside():
    # at a mean that is the very value after the loss, roundings are all that is left of a z-score
    draw = np.random.default_rng(0)
    adata = AnnData(csr_matrix(draw.integers(5, 50, size=(40, 2)).astype(np.float32)))
    adata.obs["library_size"] = adata.X.toarray().sum(axis=1) + draw.integers(100, 999, 40)
    prep = Preprocessor(n_top_genes=2).fit(adata)
    lost = draw.integers(1, 5, 40)
    less = adata.copy()
    less.X = csr_matrix(adata.X.toarray() - lost[:, None] * [1, 0])  # of gene 0 alone
    less.obs["library_size"] -= lost
    share = lost / library_size(adata)
    values = 1e4 * less.X.toarray() / library_size(less)[:, None]
    for i in range(40):
        prep.mean_ = values[i]
        lower, upper = dropout_box(prep, adata[[i]], library_loss=share[[i]])
        z = prep.transform(less[[i]])
        assert lower[0, 0] <= z[0, 0] <= lower[0, 0] + 1e-6
        assert upper[0, 1] - 1e-6 <= z[0, 1] <= upper[0, 1]


def test_ends_of_the_dropout_box():
    adata = counts_of(0, with_size=False)
    prep = prepared(adata, log1p=False)
    lower, upper = dropout_box(prep, adata)
    assert np.array_equal(upper, prep.transform(adata))
    np.testing.assert_allclose(lower, np.tile(-prep.mean_ / prep.std_, (30, 1)), rtol=1e-6)
    # one gene lost, by hand: the others' share rises from c / L to c / (L - lost)
    one = prep.genes_[2]
    lower, upper = dropout_box(prep, adata, one, library_size_falls=True)
    counts = adata.X.toarray()
    total, lost = counts.sum(1), counts[:, list(adata.var_names).index(one)]
    other = counts[:, list(adata.var_names).index(prep.genes_[0])]
    want = (1e4 * other / (total - lost) - prep.mean_[0]) / prep.std_[0]
    np.testing.assert_allclose(upper[:, 0], want, rtol=1e-5)
    own = (1e4 * lost / total - prep.mean_[2]) / prep.std_[2]
    np.testing.assert_allclose(upper[:, 2], own, rtol=1e-5)


def test_genes_that_the_data_lack_stay_at_the_mean():
    adata = counts_of(0, with_size=True)
    prep = prepared(adata, log1p=True)
    fewer = adata[:, adata.var_names != prep.genes_[1]].copy()
    with pytest.warns(UserWarning, match="1 of 7 genes are not in the data"):
        lower, upper = dropout_box(prep, fewer, library_size_falls=True)
    assert not lower[:, 1].any()
    assert not upper[:, 1].any()


def test_the_box_is_two_arrays_whatever_the_output_and_the_layer():
    adata = counts_of(0, with_size=True)
    expected = dropout_box(prepared(adata, log1p=False), adata, library_size_falls=True)
    prep = prepared(adata, log1p=False).set_output(transform="pandas").set_params(layer="counts")
    adata.layers["counts"], adata.X = adata.X, None
    for end, want in zip(dropout_box(prep, adata, library_size_falls=True), expected, strict=True):
        assert type(end) is np.ndarray
        np.testing.assert_array_equal(end, want)


def test_bad_input_to_the_dropout_box():
    adata = counts_of(0, with_size=True)
    prep = prepared(adata, log1p=False)
    with pytest.raises(ValueError, match=r"among those of prep \(g1, g3, g4, ...\), got Actb"):
        dropout_box(prep, adata, ["g1", "Actb"])
    with pytest.raises(ValueError, match="library_size_falls must be True or False, got 'g1'"):
        dropout_box(prep, adata, library_size_falls="g1")
    for bad in (1.0, -0.1, np.nan, "0.5", True, [0.5] * 29, [[0.5]] * 30, [0.5] * 29 + [1.0]):
        with pytest.raises(ValueError, match="library_loss must be None, a number of at least 0"):
            dropout_box(prep, adata, library_loss=bad)
    with pytest.raises(TypeError, match="prep must be a fitted Preprocessor, got AnnData"):
        dropout_box(adata, prep)
    with pytest.raises(NotFittedError):
        dropout_box(Preprocessor(), adata)
    adata.obs["library_size"] = 1.0
    with pytest.raises(ValueError, match=r"obs\['library_size'\] is below the counts of the cell"):
        dropout_box(prep, adata, library_size_falls=True)


def test_the_three_agree_on_the_library_size(cells):
    # All counts of one gene are lost: in a table, on tensors, and at the upper end of the box.
    adata = cells.adata[:200]
    prep = rpumap.Preprocessor(n_top_genes=50).fit(adata)
    gene = int(np.argmax(prep.mean_))
    kept = torch.ones(200, 50, dtype=torch.bool)
    kept[:, gene] = False
    tensors = CountDropper(prep, adata, CPU)(torch.arange(200), kept, torch.zeros(200, 1)).numpy()
    only = adata[:, prep.genes_[gene]].copy()
    only.obs["library_size"] = library_size(adata)
    less = adata[:, prep.genes_].copy()
    less.obs["library_size"] = drop_counts(only, 1.0).obs["library_size"].to_numpy()
    less.X = csr_matrix(less.X.toarray() * kept.numpy())
    in_table = prep.transform(less)
    np.testing.assert_allclose(tensors, in_table, rtol=1e-4, atol=1e-4)
    _, upper = dropout_box(prep, adata, prep.genes_[gene], library_size_falls=True)
    others = np.arange(50) != gene
    np.testing.assert_allclose(upper[:, others], in_table[:, others], rtol=1e-5, atol=1e-6)
