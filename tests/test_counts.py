"""Counts as tables hold them, whatever they are stored as, against dense arrays."""

from __future__ import annotations

import threading
import warnings

import numpy as np
import pytest
from anndata import AnnData
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from scipy.sparse import csr_matrix

from rpumap._counts import as_csr, listen, read_counts, some, warn

drawn = settings(deadline=None, derandomize=True, max_examples=40)


def test_counts_above_the_whole_numbers_of_float32_stay_exact():
    counts = np.array([[2**24 + 1, 3], [5, 7]])
    values = read_counts(AnnData(counts)).values
    assert values.dtype == np.float64
    np.testing.assert_array_equal(values.toarray(), counts)
    assert read_counts(AnnData(counts * 0.5 - 0.5)).values.dtype == np.float32  # 2**23 is exact


def shuffled_rows(matrix, draw):
    """Store the entries of each row in another order, some of them in two parts, and some zeros."""
    entries = matrix.tocoo()
    halves = draw.integers(0, entries.data.astype(int) + 1)
    rows = np.concatenate([entries.row, entries.row, draw.integers(0, matrix.shape[0], 9)])
    columns = np.concatenate([entries.col, entries.col, draw.integers(0, matrix.shape[1], 9)])
    data = np.concatenate([halves, entries.data - halves, np.zeros(9)])
    order = draw.permutation(len(data))
    order = order[np.argsort(rows[order], kind="stable")]
    start = np.searchsorted(rows[order], np.arange(matrix.shape[0] + 1))
    return data[order], columns[order], start


@drawn
@given(
    seed=st.integers(0, 999),
    dtype=st.sampled_from(["uint8", "int64", "float32", "float64"]),
    index=st.sampled_from([np.int32, np.int64]),
    kind=st.sampled_from([sparse.csr_matrix, sparse.csr_array]),
    by_column=st.booleans(),
)
def test_a_matrix_may_be_unsorted_with_duplicates_and_zeros(seed, dtype, index, kind, by_column):
    draw = np.random.default_rng(seed)
    counts = draw.poisson(1.5, size=(draw.integers(1, 9), draw.integers(1, 9))) * 3
    counts[0, 0] = 255
    data, columns, start = shuffled_rows(csr_matrix(counts), draw)
    messy = kind(counts.shape, dtype=dtype)
    messy.data, messy.indices, messy.indptr = (
        data.astype(dtype),
        columns.astype(index),
        start.astype(index),
    )
    messy = messy.T if by_column else messy
    stored = [array.copy() for array in (messy.data, messy.indices)]
    values = as_csr(messy)
    np.testing.assert_array_equal(values.toarray(), counts.T if by_column else counts)
    assert values.has_canonical_format
    assert values.nnz == np.count_nonzero(counts)
    for before, after in zip(stored, (messy.data, messy.indices), strict=True):
        np.testing.assert_array_equal(before, after)


def test_what_has_to_be_computed_first_is_computed():
    counts = csr_matrix(np.arange(6.0).reshape(2, 3))

    class Lazy:
        def compute(self):
            return counts

    np.testing.assert_array_equal(as_csr(Lazy()).toarray(), counts.toarray())
    with pytest.raises(TypeError, match=r"X is a object, .*call adata.to_memory\(\) first"):
        as_csr(object())


def test_counts_of_genes_by_name():
    table = AnnData(csr_matrix([[1, 2, 3], [0, 5, 6]]))
    table.var_names = ["a", "b", "c"]
    counts, present = read_counts(table).of(np.array(["c", "x", "a"]))
    np.testing.assert_array_equal(counts, [[3, 0, 1], [6, 0, 0]])
    assert present.tolist() == [True, False, True]
    assert read_counts(table).totals.tolist() == [6, 11]


def test_a_table_may_share_memory_but_is_not_changed():
    X = csr_matrix(np.array([[3, 0, 1], [0, 2, 0]], dtype=np.float32))
    assert np.shares_memory(read_counts(AnnData(X)).values.data, X.data)
    X.data[0] = 0  # a stored zero
    assert read_counts(AnnData(X)).values.nnz == 2
    assert X.nnz == 3


def test_types_of_no_numbers():
    for X in (np.array([["a"]]), np.array([[b"a"]]), np.array([[1j]])):
        with pytest.raises(TypeError, match="X holds .*, not numbers"):
            as_csr(X)
    with pytest.raises(TypeError, match="layers.'spliced'. must hold numbers"):
        as_csr(np.array([["a", 1]], dtype=object), "layers['spliced']")


def test_warnings_point_at_the_caller():
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        warn("something")
    assert said[0].filename == __file__
    assert some(np.array(["a", "b ", "c", "d", "e", "f"])) == "'a', 'b ', 'c', 'd', 'e', ..."


def test_what_is_listened_to_is_not_shown_and_only_in_its_thread():
    heard, warned = [], []

    def other():
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            warn("elsewhere")
        warned.extend(str(warning.message) for warning in caught)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with listen() as said:
            warn("outer")
            with listen() as inner:
                warn("inner")
            thread = threading.Thread(target=other)
            thread.start()
            thread.join()
        heard += said
    assert heard == ["outer"] and inner == ["inner"] and warned == ["elsewhere"]
    with pytest.warns(UserWarning, match="after"):
        warn("after")
