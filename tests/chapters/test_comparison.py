"""What chapters compare with gives what scikit-learn and umap-learn give."""

from __future__ import annotations

import subprocess
import sys
import warnings

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from sklearn.neighbors import KNeighborsClassifier

from rpumap.chapters.comparison import (
    describe_cells,
    fit_umap_learn,
    transfer_accuracy,
    transfer_labels,
)

draw = np.random.default_rng(0)
X, X_query = draw.normal(size=(120, 5)), draw.normal(size=(30, 5))
LABELS, LABELS_QUERY = draw.choice([*"dbac"], 120), draw.choice([*"dbac"], 30)


@pytest.mark.parametrize(
    ("uns", "words"),
    [({"simulated": True}, "simulated"), ({"simulated": False}, "real"), ({}, "real")],
)
def test_cells_are_described(uns, words):
    assert describe_cells(AnnData(np.zeros((1, 1)), uns=uns)) == f"{words} cells"


@pytest.mark.parametrize("as_given", [np.array, list, pd.Categorical, pd.Series])
@pytest.mark.parametrize("k", [1, 4, 15])  # many ties with 4
def test_transferred_labels_are_those_of_scikit_learn(as_given, k):
    expected = KNeighborsClassifier(k).fit(X, LABELS).predict(X_query)
    found = transfer_labels(X, as_given(LABELS), X_query, k)
    assert found.tolist() == expected.tolist()
    accuracy = transfer_accuracy(X, as_given(LABELS), X_query, as_given(LABELS_QUERY), k)
    assert accuracy == KNeighborsClassifier(k).fit(X, LABELS).score(X_query, LABELS_QUERY)


def test_ties_go_to_the_label_that_sorts_first():
    Z = np.zeros((4, 1))
    assert transfer_labels(Z, ["z", "b", "b", "z"], [[1.0]], k=4).tolist() == ["b"]


def test_a_label_that_no_reference_cell_has_is_missed():
    assert transfer_accuracy(X, ["a"] * 120, X_query, ["a"] * 15 + ["new"] * 15) == 0.5


def test_labels_and_k_are_checked():
    with pytest.raises(ValueError, match="labels: 1 of 120 are missing"):
        transfer_labels(X, [None, *LABELS[1:]], X_query)
    with pytest.raises(ValueError, match="119 labels for 120 cells"):
        transfer_labels(X, LABELS[1:], X_query)
    with pytest.raises(ValueError, match="labels: 1 of 30 are missing"):
        transfer_accuracy(X, LABELS, X_query, [np.nan, *LABELS_QUERY[1:]])
    for k in (0, 121, 1.5, "5"):
        with pytest.raises(ValueError, match="k must be an integer from 1 to 120"):
            transfer_labels(X, LABELS, X_query, k)


def test_umap_learn_gives_what_it_gives_without_us():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from umap import UMAP

        model = UMAP(random_state=3, n_jobs=1, n_epochs=10).fit(X)
        expected = model.embedding_, model.transform(X_query)
    found = fit_umap_learn(X, X_query, random_state=3, n_epochs=10)
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    alone, nothing = fit_umap_learn(X, random_state=3, n_epochs=10)
    np.testing.assert_array_equal(alone, expected[0])
    assert nothing is None


def test_umap_learn_writes_no_warnings():
    # in a process of its own, as umap-learn warns when it is imported, too
    code = (
        "import numpy as np; from scipy.spatial.distance import cdist\n"
        "from rpumap.chapters.comparison import fit_umap_learn\n"
        "X = np.random.default_rng(0).normal(size=(60, 5))\n"
        "near, far = cdist(X[:50], X[:50]), cdist(X[50:], X[:50])\n"
        "settings = {'metric': 'precomputed', 'n_epochs': 5}\n"
        "print([Z.shape for Z in fit_umap_learn(near, far, random_state=0, **settings)])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stderr == ""
    assert run.stdout.strip() == "[(50, 2), (10, 2)]"


def test_query_cells_have_the_columns_of_the_reference():
    with pytest.raises(ValueError, match="Z_query must be a table with 2 columns"):
        transfer_labels(np.eye(4, 2), [*"abab"], np.ones((3, 1)), k=1)
    with pytest.raises(TypeError, match="Z must be an array, not AnnData"):
        transfer_labels(AnnData(np.eye(4, 2)), [*"abab"], np.eye(4, 2), k=1)
