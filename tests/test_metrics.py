"""The scores, against counting by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy.sparse import csr_array, csr_matrix

from rpumap.metrics import knn_accuracy, trustworthiness


def test_trustworthiness_of_a_copy_and_of_noise():
    draw = np.random.default_rng(0)
    X = draw.normal(size=(400, 5))
    assert trustworthiness(X, X) == 1
    assert trustworthiness(X, draw.normal(size=(400, 2))) == pytest.approx(0.5, abs=0.05)


def test_knn_accuracy_equals_a_loop():
    draw = np.random.default_rng(0)
    Z, labels = draw.normal(size=(80, 2)), draw.choice(["a", "b", "c"], size=80)
    hits = 0
    for i in range(80):
        order = np.argsort(np.linalg.norm(Z - Z[i], axis=1))
        votes = labels[order[order != i][:7]]
        names, counts = np.unique(votes, return_counts=True)
        hits += names[counts.argmax()] == labels[i]
    assert knn_accuracy(Z, labels, k=7) == hits / 80


def test_knn_accuracy_of_separate_groups_and_of_shuffled_labels():
    draw = np.random.default_rng(0)
    labels = np.repeat(["left", "right"], 100)
    Z = draw.normal(size=(200, 2)) + 20 * (labels == "left")[:, None]
    assert knn_accuracy(Z, labels) == 1
    assert knn_accuracy(Z, draw.permutation(labels)) < 0.7


def test_labels_of_any_kind_count_alike():
    Z = np.random.default_rng(0).normal(size=(40, 2))
    text = np.resize(["b", "a", "c"], 40)
    expected = knn_accuracy(Z, text)
    for labels in (list(text), pd.Categorical(text), pd.Series(text), [ord(t) for t in text]):
        assert knn_accuracy(Z, labels) == expected


@pytest.mark.parametrize("missing", [None, np.nan, pd.NA])
def test_missing_labels_are_an_error_that_names_them(missing):
    Z, labels = np.arange(20.0)[:, None], [missing, *"abababababababababa"]
    with pytest.raises(ValueError, match="labels: 1 of 20 are missing"):
        knn_accuracy(Z, labels)
    with pytest.raises(ValueError, match="labels: 1 of 20 are missing"):
        knn_accuracy(Z, pd.Categorical(labels))


def test_labels_of_other_cells_are_refused():
    with pytest.raises(ValueError, match="19 labels for 20 cells"):
        knn_accuracy(np.zeros((20, 2)), ["a"] * 19)


@pytest.mark.parametrize("k", [0, -1, 20, 2.5, "5", None, True])
def test_k_must_be_a_number_of_neighbours(k):
    Z = np.random.default_rng(0).normal(size=(20, 2))
    with pytest.raises(ValueError, match="k must be an integer from 1 to 19"):
        knn_accuracy(Z, ["a", "b"] * 10, k=k)
    with pytest.raises(ValueError, match="k must be an integer from 1 to 9"):
        trustworthiness(Z, Z, k=k)


def test_the_largest_k_is_accepted():
    Z = np.random.default_rng(0).normal(size=(20, 2))
    assert knn_accuracy(Z, ["a", "b"] * 10, k=19) == 0  # one more of the other kind around each
    assert trustworthiness(Z, Z, k=9) == 1


@pytest.mark.parametrize(
    "kind", [csr_matrix, csr_array, pd.DataFrame, np.matrix, np.asfortranarray]
)
def test_coordinates_may_come_in_other_containers(kind):
    Z = np.random.default_rng(0).normal(size=(40, 2))
    labels = np.arange(40) % 2
    assert knn_accuracy(kind(Z), labels) == knn_accuracy(Z, labels)
    assert trustworthiness(kind(Z), kind(Z)) == 1


@pytest.mark.parametrize(
    ("Z", "error", "message"),
    [
        (AnnData(np.ones((9, 2))), TypeError, "must be an array, not AnnData: .*adata.obsm"),
        (None, TypeError, "must hold real numbers, got NoneType"),
        ("X_pca", TypeError, "must hold real numbers, got str"),
        (np.full((9, 2), "1"), TypeError, "must hold real numbers"),
        (np.full((9, 2), 1j), TypeError, "must hold real numbers"),
        (np.full((9, 2), np.nan), ValueError, "missing or infinite"),
        (np.ma.masked_greater(np.eye(9), 0), ValueError, "missing or infinite"),
        (np.ones(9), ValueError, r"must be a table, got the shape \(9,\)"),
    ],
)
def test_other_things_than_coordinates_are_refused_by_name(Z, error, message):
    good = np.ones((9, 2))
    for name, use in (
        ("X", lambda: trustworthiness(Z, good, k=2)),
        ("Z", lambda: trustworthiness(good, Z, k=2)),
        ("Z", lambda: knn_accuracy(Z, np.zeros(9), k=2)),
    ):
        with pytest.raises(error, match=f"{name} (must|holds) .*{message.removeprefix('must ')}"):
            use()


def test_two_tables_of_other_cells_are_refused():
    with pytest.raises(ValueError, match="X has 9 cells and Z 8"):
        trustworthiness(np.ones((9, 2)), np.ones((8, 2)), k=2)
