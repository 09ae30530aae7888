"""The scores of chapter 5, against counting by hand."""

from __future__ import annotations

import numpy as np
import pytest

from rpumap.chapters.gap_scores import (
    crowding,
    diffusion_time,
    gap_between,
    isolation,
    path_position,
    type_overlap,
)


def test_type_overlap_equals_a_loop():
    draw = np.random.default_rng(0)
    X, Z, labels = draw.normal(size=(60, 4)), draw.normal(size=(60, 2)), draw.choice([*"abc"], 60)
    X_new, Z_new = draw.normal(size=(20, 4)), draw.normal(size=(20, 2))
    expected = []
    for x, z in zip(X_new, Z_new, strict=True):
        near_x = list(labels[np.argsort(np.linalg.norm(X - x, axis=1))[:7]])
        near_z = list(labels[np.argsort(np.linalg.norm(Z - z, axis=1))[:7]])
        expected.append(sum(min(near_x.count(t), near_z.count(t)) for t in "abc") / 7)
    assert type_overlap(X, Z, labels, X_new, Z_new, k=7) == pytest.approx(expected)


def test_type_overlap_of_a_copy_is_one_and_does_not_see_scale():
    draw = np.random.default_rng(0)
    X, labels, X_new = draw.normal(size=(60, 2)), draw.choice([*"abc"], 60), np.eye(2)
    assert type_overlap(X, 7 * X, labels, X_new, 7 * X_new) == pytest.approx(1)


def test_type_overlap_says_what_was_wrong():
    X = np.zeros((4, 2))
    with pytest.raises(ValueError, match="same cells, got 4, 3 and 4"):
        type_overlap(X, X[:3], [*"abcd"], X, X)
    with pytest.raises(ValueError, match="X_new has 4 cells and Z_new 3"):
        type_overlap(X, X, [*"abcd"], X, X[:3])
    with pytest.raises(ValueError, match="k must be an integer from 1 to 4, got 5"):
        type_overlap(X, X, [*"abcd"], X, X, k=5)


@pytest.mark.parametrize("missing", [None, np.nan])
def test_type_overlap_refuses_missing_labels(missing):
    with pytest.raises(ValueError, match="labels: 1 of 4 are missing"):
        type_overlap(np.eye(4), np.eye(4), ["a", "b", missing, "a"], np.eye(4), np.eye(4), k=2)


def test_isolation_equals_a_loop_and_does_not_see_scale():
    draw = np.random.default_rng(0)
    Z, Z_new = draw.normal(size=(50, 2)), 3 * draw.normal(size=(9, 2))
    own = [np.sort(np.linalg.norm(Z - z, axis=1))[3] for z in Z]  # position 0 is the cell itself
    away = [np.sort(np.linalg.norm(Z - z, axis=1))[2] for z in Z_new]
    expected = np.array(away) / np.quantile(own, 0.9)
    assert isolation(Z, Z_new, k=3, quantile=0.9) == pytest.approx(expected)
    assert isolation(5 * Z, 5 * Z_new, k=3, quantile=0.9) == pytest.approx(expected)


def test_isolation_says_what_was_wrong():
    with pytest.raises(ValueError, match="k must be an integer from 1 to 3, got 4"):
        isolation(np.eye(4), np.eye(4), k=4)
    with pytest.raises(ValueError, match="on top of each other"):
        isolation(np.zeros((9, 2)), np.ones((1, 2)))


@pytest.mark.parametrize("k", [0, 1.5, "3", None])
def test_k_must_be_a_number_of_neighbours(k):
    X = np.random.default_rng(0).normal(size=(9, 2))
    with pytest.raises(ValueError, match="k must be an integer from 1 to 9"):
        type_overlap(X, X, [*"abcabcabc"], X, X, k=k)
    with pytest.raises(ValueError, match="k must be an integer from 1 to 8"):
        isolation(X, X, k=k)
    with pytest.raises(ValueError, match="k must be an integer from 1 to 17"):
        crowding(X, X, k=k)


def test_path_position_survives_turns_and_shifts():
    draw = np.random.default_rng(0)
    turn = np.linalg.qr(draw.normal(size=(2, 2)))[0]
    along, aside = np.array([-1.0, 0.0, 0.3, 2.0]), np.array([0.0, 2.0, 0.1, 1.0])
    line = [[0.0, 0.0], [8.0, 0.0]]
    Z_new = 8 * np.column_stack([along, [0.0, 2.0, -0.1, 1.0]])
    found = path_position(Z_new @ turn + 3, line[:1] @ turn + 3, line[1:] @ turn + 3)
    assert found[0] == pytest.approx(along)
    assert found[1] == pytest.approx(aside)


def test_path_position_says_what_was_wrong():
    with pytest.raises(ValueError, match="same median"):
        path_position(np.eye(2), np.eye(2), np.eye(2))
    with pytest.raises(ValueError, match="must have cells"):
        path_position(np.eye(2), np.eye(2), np.zeros((0, 2)))


def test_crowding_equals_a_loop():
    draw = np.random.default_rng(3)
    both = draw.normal(size=(70, 2))
    near = {True: [], False: []}
    for i in range(70):
        order = np.argsort(np.linalg.norm(both - both[i], axis=1))
        near[i < 30].append(np.mean(order[order != i][:6] < 30))
    expected = np.mean(near[True]) / np.mean(near[False])
    assert crowding(both[:30], both[30:], k=6) == pytest.approx(expected)


def test_crowding_of_a_mixture_and_of_cells_that_keep_apart():
    draw = np.random.default_rng(0)
    reference, new = draw.normal(size=(2000, 2)), draw.normal(size=(3000, 2))
    assert crowding(reference, new) == pytest.approx(1, abs=0.05)
    assert crowding(reference, new + 2) > 2
    assert crowding(reference, new + 100) == np.inf


def test_crowding_says_what_is_wrong():
    with pytest.raises(ValueError, match="k must be an integer from 1 to 4, got 5"):
        crowding(np.zeros((3, 2)), np.zeros((2, 2)), k=5)
    with pytest.raises(ValueError, match="both reference cells and new"):
        crowding(np.zeros((3, 2)), np.zeros((0, 2)))


def test_gap_between_on_a_line():
    Z = np.column_stack([np.arange(101.0), np.zeros(101)])
    left, right = Z[:, 0] <= 20, Z[:, 0] >= 80
    along, ends, inside = gap_between(Z, left, right)
    assert along == pytest.approx((np.arange(101) - 10) / 80)  # the medians are 10 and 90
    assert ends == pytest.approx(((19 - 10) / 80, (81 - 10) / 80))
    assert np.flatnonzero(inside).tolist() == list(range(20, 81))
    Z[50, 1] = 41
    assert not gap_between(Z, left, right)[2][50]
    assert gap_between(Z, left, right, aside=0.6)[2][50]


def test_no_gap_between_groups_that_overlap():
    Z = np.column_stack([np.arange(20.0), np.zeros(20)])
    _, (begin, end), inside = gap_between(Z, Z[:, 0] < 15, Z[:, 0] > 5)
    assert begin > end
    assert not inside.any()


def test_diffusion_time_finds_the_order_along_a_bent_curve():
    draw = np.random.default_rng(0)
    t = draw.permutation(np.linspace(0, 1, 300))
    X = np.column_stack([np.cos(4 * t), np.sin(4 * t), 0.02 * draw.normal(size=300)])
    for roots, direction in ((t < 0.1, 1), (t > 0.9, -1)):
        ranks = diffusion_time(X, roots).argsort().argsort()
        assert np.corrcoef(ranks, direction * t)[0, 1] > 0.99


def test_diffusion_time_needs_a_root():
    with pytest.raises(ValueError, match="no cell is marked"):
        diffusion_time(np.eye(4), np.zeros(4))


def test_tables_of_other_columns_are_refused():
    Z, one = np.eye(9, 2), np.ones((3, 1))
    for use in (
        lambda: path_position(one, Z, Z),  # a column fits any number of columns by broadcasting
        lambda: isolation(Z, one, k=2),
        lambda: crowding(Z, one, k=2),
        lambda: type_overlap(Z, Z, np.zeros(9), Z, one, k=2),
    ):
        with pytest.raises(ValueError, match="must be a table with [12] columns, got the shape"):
            use()


@pytest.mark.parametrize("marks", [["a"] * 9, np.full(9, "True"), [True] * 8, np.arange(9)])
def test_marks_are_true_or_false(marks):
    Z = np.arange(18.0).reshape(9, 2)
    with pytest.raises(ValueError, match="left must hold True or False for each of 9 cells"):
        gap_between(Z, marks, np.arange(9) > 4)
    with pytest.raises(ValueError, match="roots must hold True or False"):
        diffusion_time(Z, marks)
