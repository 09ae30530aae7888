"""The scores, against counting by hand."""

from __future__ import annotations

import numpy as np
import pytest

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
