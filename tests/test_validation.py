"""Checks of arguments: what passes comes back unchanged, what does not is named in the message."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from anndata import AnnData
from scipy import sparse
from sklearn import config_context
from sklearn.base import BaseEstimator

from rpumap._validation import (
    check_cells,
    check_choice,
    check_coordinates,
    check_flag,
    check_integer,
    check_labels,
    check_number,
    check_seed,
    choose_device,
    dense,
    is_annotated,
)


@pytest.mark.parametrize("value", [0, 1, 0.5, np.float32(0.5), np.int8(1), np.float64(1e300)])
def test_numbers_pass(value):
    found = check_number("eps", value)
    assert type(found) is float
    assert found == value


@pytest.mark.parametrize(
    "value", [-1e-9, np.nan, np.inf, "0.5", None, True, np.True_, [0.5], np.array(0.5), 1j]
)
def test_what_is_no_number_is_named(value):
    with pytest.raises(ValueError, match="eps must be a finite number of at least 0, got"):
        check_number("eps", value)


def test_the_limits_of_numbers():
    assert check_number("eps", 1, most=1) == 1
    with pytest.raises(ValueError, match="eps must be a number from 0 to 1, got 1.5"):
        check_number("eps", 1.5, most=1)
    with pytest.raises(ValueError, match="rate must be above 0, got 0"):
        check_number("rate", 0, above=True)
    assert check_number("rate", 1e-300, above=True) == 1e-300
    with pytest.raises(ValueError, match="at least -2, got -3"):
        check_number("x", -3, least=-2)


def test_integers():
    for value in (1, np.int64(7), np.uint8(200)):
        assert type(check_integer("k", value, least=1)) is int
    for value in (0, 1.0, "5", None, True, np.array(3), np.nan):
        with pytest.raises(ValueError, match="k must be an integer of at least 1, got"):
            check_integer("k", value, least=1)
    assert check_integer("k", 9, 1, 9) == 9
    with pytest.raises(ValueError, match="k must be an integer from 1 to 9, got 10"):
        check_integer("k", 10, 1, 9)


def test_choices_and_flags():
    assert check_choice("norm", "l2", ("linf", "l2")) == "l2"
    for value in ("L2", 2, None, ["l2"], np.inf):
        with pytest.raises(ValueError, match="norm must be one of linf, l2, got"):
            check_choice("norm", value, ("linf", "l2"))
    assert check_flag("log1p", np.True_) is True
    for value in (1, 0, "no", None, np.array(True)):
        with pytest.raises(ValueError, match="log1p must be True or False, got"):
            check_flag("log1p", value)


@pytest.mark.parametrize(
    "labels",
    [
        ["b", "a", "b"],
        np.array(["b", "a", "b"]),
        pd.Series(["b", "a", "b"], index=[7, 7, 1]),
        pd.Categorical(["b", "a", "b"], categories=["b", "c", "a"]),
        pd.array(["b", "a", "b"], dtype="string"),
    ],
)
def test_labels_are_counted_in_the_order_of_their_names(labels):
    names, codes = check_labels(labels, 3)
    assert list(names) == ["a", "b"]
    assert codes.tolist() == [1, 0, 1]


def test_labels_of_other_types():
    names, codes = check_labels(pd.array([3, 1, 3], dtype="Int64"), 3)
    assert (list(names), codes.tolist()) == ([1, 3], [1, 0, 1])
    names, codes = check_labels(np.array([1, "1", "x"], dtype=object), 3)
    assert (list(names), codes.tolist()) == (["1", "x"], [0, 0, 1])


@pytest.mark.parametrize("missing", [None, np.nan, pd.NA])
def test_missing_labels_are_counted(missing):
    for kind in (list, pd.Series, pd.Categorical):
        with pytest.raises(ValueError, match="labels: 2 of 4 are missing .*'unknown'"):
            check_labels(kind(["a", missing, "b", missing]), 4)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (
            "clusters",
            r"one label for each of 3 cells, got 'clusters': pass .*adata.obs\['clusters'",
        ),
        ([["a"], ["b"], ["c"]], r"one label for each of 3 cells, got \(3, 1\)"),
        (None, "one label for each of 3 cells"),
        (["a", "b"], "2 labels for 3 cells"),
    ],
)
def test_labels_that_are_not_one_a_cell(labels, message):
    with pytest.raises(ValueError, match=message):
        check_labels(labels, 3)


# --- cells --------------------------------------------------------------------------------------

X = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)


def model():
    model = BaseEstimator()
    check_cells(model, X, reset=True)
    return model


CONTAINERS = {
    "list": lambda x: x.tolist(),
    "float64": lambda x: x.astype(float),
    "big-endian": lambda x: x.astype(">f4"),
    "Fortran": np.asfortranarray,
    "strides": lambda x: x[::-1].copy()[::-1],
    "frame": pd.DataFrame,
    "csr": sparse.csr_matrix,
    "coo": sparse.coo_array,
    "csc": sparse.csc_array,
    "lil": sparse.lil_matrix,
    "unmasked": np.ma.array,
    "tensor": torch.as_tensor,
    "double": lambda x: torch.as_tensor(x).double(),
    "sparse tensor": lambda x: torch.as_tensor(x).to_sparse(),
    "row tensor": lambda x: torch.as_tensor(x).to_sparse_csr(),
}


@pytest.mark.parametrize("kind", CONTAINERS)
@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta")
def test_cells_come_back_as_rows_that_can_be_written_to(kind):
    cells = CONTAINERS[kind](X)
    found = check_cells(model(), cells)
    np.testing.assert_array_equal(found, X)
    assert found.dtype == np.float32
    assert type(found) is np.ndarray
    assert found.flags.c_contiguous and found.flags.writeable


def test_read_only_cells_are_copied_and_nothing_is_written_to():
    kept = X.copy()
    kept.setflags(write=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = check_cells(model(), kept)
        torch.as_tensor(found)
    assert found.flags.writeable
    assert not np.shares_memory(found, kept)


def test_brain_floats_are_widened():
    half = torch.as_tensor(X).bfloat16()
    np.testing.assert_array_equal(check_cells(model(), half), half.float().numpy())


@pytest.mark.parametrize(
    ("cells", "error", "message"),
    [
        (AnnData(X), TypeError, r"not AnnData: pass .*Preprocessor.*X_pca"),
        (torch.as_tensor(X).requires_grad_(), TypeError, r"pass X.detach\(\)"),
        (np.ma.array(X, mask=X > 1), ValueError, r"missing \(masked\) values"),
        (np.where(X > 1, np.nan, X), ValueError, "NaN"),
        (X[:, :3], ValueError, "3 features, but BaseEstimator is expecting 4 features"),
        (X[:0], ValueError, "0 sample"),
        (X[0], ValueError, "Expected 2D array"),
        (X.astype(str), ValueError, "convert|dtype"),
        (np.full((2, 4), 1e300), ValueError, "infinity or a value too large"),
    ],
)
@pytest.mark.filterwarnings("ignore:overflow")
def test_other_things_are_refused(cells, error, message):
    if isinstance(cells, np.ndarray) and cells.dtype.kind == "U":
        cells = np.char.add(cells, "x")
    with pytest.raises(error, match=message):
        check_cells(model(), cells)


def test_a_model_knows_the_names_and_the_number_of_its_genes():
    named = BaseEstimator()
    frame = pd.DataFrame(X, columns=list("abcd"))
    check_cells(named, frame, reset=True)
    assert (named.n_features_in_, list(named.feature_names_in_)) == (4, list("abcd"))
    with pytest.raises(ValueError, match="feature names"):
        check_cells(named, frame[list("dcba")])
    with pytest.raises(ValueError, match="minimum of 7"):
        check_cells(named, frame, least=7)


def test_tables_are_known_by_their_names():
    table = AnnData(X)
    table.raw = table
    assert is_annotated(table) and is_annotated(table[:2]) and is_annotated(table.raw)
    assert not any(map(is_annotated, (X, pd.DataFrame(X), sparse.csr_matrix(X), None)))


def test_dense_shares_memory_where_it_can():
    assert dense(X) is X
    np.testing.assert_array_equal(dense(sparse.csc_matrix(X)), X)
    assert dense(X[:, ::2]).flags.c_contiguous


def test_devices():
    assert choose_device("cpu") == torch.device("cpu")
    assert choose_device(torch.device("cpu")) == torch.device("cpu")
    assert choose_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    for wrong in ("gpu", "cpu:x", None, 1.5, "cuda:99"):
        with pytest.raises(ValueError, match="device=.* cannot be used here"):
            choose_device(wrong)


def test_numbers_beyond_a_float_and_seeds():
    with pytest.raises(ValueError, match="eps must be a finite number"):
        check_number("eps", 10**400)
    assert check_number("eps", 10**30) == 1e30
    assert check_seed(3).randint(9) == np.random.RandomState(3).randint(9)
    for value in ("0", 1.5, -1, [3], np.random.default_rng(0)):
        with pytest.raises(ValueError, match="random_state must be a seed"):
            check_seed(value)


def test_nan_is_found_even_if_scikit_learn_is_told_to_assume_that_there_is_none():
    with config_context(assume_finite=True), pytest.raises(ValueError, match="NaN"):
        check_cells(model(), np.where(X > 1, np.nan, X))


def test_tensors_are_taken_off_the_graph_and_types_are_kept():
    Z = torch.ones(3, 2, requires_grad=True)
    checked = check_coordinates("Z", Z)
    assert type(checked) is np.ndarray
    assert checked.dtype == np.float32
