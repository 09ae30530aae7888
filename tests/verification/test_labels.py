"""A certified label is right if no point of the box has another one."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from examples import labels_at
from rpumap.verification import labels as labels_module
from rpumap.verification import labels_are_certain

drawn = settings(deadline=None, derandomize=True, max_examples=60)


@drawn
@given(st.integers(0, 10_000), st.integers(1, 3), st.sampled_from([1, 3, 4, 15]), st.booleans())
def test_no_point_of_a_certain_box_has_another_label(seed, n_dims, k, leave_one_out):
    draw = np.random.default_rng(seed)
    Z = draw.normal(size=(60, n_dims)).round(draw.integers(0, 4))  # rounded: ties and twins
    labels = np.where(Z[:, 0] + 0.3 * draw.normal(size=60) > 0, "a", draw.choice(["b", "c"], 60))
    half = draw.choice([0.01, 0.1, 0.5]) * draw.random(Z.shape)
    lower, upper = Z - half, Z + half
    certain = labels_are_certain(
        lower, upper, Z, labels, k, leave_one_out=leave_one_out, max_splits=4
    )
    own = np.arange(60) if leave_one_out else None
    at_middle = labels_at(Z, Z, labels, k, own)
    for _ in range(30):
        share = draw.random(Z.shape).round(draw.integers(0, 3))
        there = labels_at(lower + share * (upper - lower), Z, labels, k, own)
        changed = there != at_middle
        # distances that are equal but for rounding make no certain label
        assert not (changed & certain).any()


def test_certain_where_it_should_be():
    Z = np.concatenate([np.zeros((20, 2)), np.full((20, 2), 10.0)])
    Z += np.random.default_rng(0).normal(size=Z.shape) * 0.1
    labels = np.repeat(["a", "b"], 20)
    boxes = np.array([[-3.0, 3.0], [-3.0, 4.5], [-3.0, 5.5], [6.0, 99.0], [-np.inf, np.inf]])
    lower, upper = (np.repeat(boxes[:, [side]], 2, axis=1) for side in (0, 1))
    certain = labels_are_certain(lower, upper, Z, labels)
    assert certain.tolist() == [True, True, False, True, False]


def test_more_cuts_find_more_and_never_take_back():
    draw = np.random.default_rng(0)
    Z = draw.normal(size=(400, 2))
    labels = np.where(Z[:, 0] > 0, "a", "b")
    half = 0.3 * draw.random((400, 2))
    found = [
        labels_are_certain(Z - half, Z + half, Z, labels, max_splits=splits)
        for splits in (0, 2, 4, 8)
    ]
    for fewer, more in zip(found, found[1:], strict=False):
        assert (more | ~fewer).all()
    assert found[-1].sum() > found[0].sum()


def test_few_neighbours_or_all_cells_looked_at_makes_no_difference(monkeypatch):
    draw = np.random.default_rng(0)
    Z = draw.normal(size=(300, 2))
    labels = draw.choice(["a", "b", "c"], 300)
    labels[Z[:, 0] > 0] = "a"
    half = draw.random((300, 1)) * [[0.4, 0.1]]
    few = labels_are_certain(Z - half, Z + half, Z, labels, k=5, leave_one_out=True)
    monkeypatch.setattr(labels_module, "NEAR", 1000)
    every = labels_are_certain(Z - half, Z + half, Z, labels, k=5, leave_one_out=True)
    assert few.any()
    assert np.array_equal(few, every)


def certain_slowly(low, high, Z, codes, k, splits):
    """Decide about one box by the definition: all cells, every outcome of the vote, halves."""
    middle = (low + high) / 2
    votes = np.bincount(codes[np.argsort(((Z - middle) ** 2).sum(1), kind="stable")[:k]])
    return wins_slowly(low, high, Z, codes, k, votes.argmax(), splits)


def wins_slowly(low, high, Z, codes, k, label, splits):
    middle, half = (low + high) / 2, (high - low) / 2
    least = ((abs(Z - middle) - half) ** 2).sum(1) * (1 - labels_module.SLACK)
    largest = ((abs(Z - middle) + half) ** 2).sum(1) * (1 + labels_module.SLACK)
    order = np.argsort(largest)
    outcomes = (
        votes
        for i in range(k)
        for votes in product(
            *(
                range(
                    (codes[order[:i]] == c).sum(),
                    (codes[least <= largest[order[i]]] == c).sum() + 1,
                )
                for c in range(codes.max() + 1)
            )
        )
        if sum(votes) == k
    )
    if all(votes[label] > max(np.delete(votes, label)) for votes in outcomes):
        return True
    if not splits:
        return False
    axis = half.argmax()
    left, right = high.copy(), low.copy()
    left[axis] = right[axis] = middle[axis]
    return all(
        wins_slowly(*ends, Z, codes, k, label, splits - 1) for ends in ((low, left), (right, high))
    )


@settings(drawn, max_examples=100)
@given(st.integers(0, 10_000), st.integers(1, 4), st.integers(1, 5), st.booleans())
def test_as_slow_and_obvious_search(seed, n_dims, k, leave_one_out):
    draw = np.random.default_rng(seed)
    Z = draw.normal(size=(40, n_dims))
    codes = draw.integers(0, 3, 40)
    codes[Z[:, 0] > 0.5] = 0
    half = draw.choice([0.03, 0.2, 0.6]) * draw.random(Z.shape)
    lower, upper = Z - half, Z + half
    slow = [
        certain_slowly(*ends, np.delete(Z, out, 0), np.delete(codes, out), k, splits=3)
        for *ends, out in zip(
            lower, upper, np.arange(40) if leave_one_out else [[]] * 40, strict=True
        )
    ]
    with pytest.MonkeyPatch.context() as patch:
        # few cells are looked at first
        patch.setattr(labels_module, "NEAR", 1)
        patch.setattr(labels_module, "MORE", int(draw.integers(1, 10)))
        tiled = labels_are_certain(
            lower, upper, Z, codes, k, leave_one_out=leave_one_out, max_splits=3
        )
        patch.setattr(labels_module, "MOST_TILED_AXES", 0)
        found = labels_are_certain(
            lower, upper, Z, codes, k, leave_one_out=leave_one_out, max_splits=3
        )
    assert found.tolist() == slow
    assert (tiled | ~found).all()


@drawn
@given(st.integers(0, 10_000), st.integers(1, 5), st.booleans())
def test_exact_on_a_line(seed, k, leave_one_out):
    """On a line labels change only half-way between two cells: one point in each gap tells all."""
    draw = np.random.default_rng(seed)
    Z = draw.normal(size=(30, 1))
    labels = draw.choice(["a", "b"], 30)
    half = draw.choice([0.01, 0.1]) * draw.random(Z.shape)
    lower, upper = Z - half, Z + half
    changes = np.sort(((Z + Z.T) / 2).ravel())
    truth = []
    for i in range(30):
        inside = changes[(changes > lower[i]) & (changes < upper[i])]
        ends = np.concatenate([lower[i], inside, upper[i]])
        points = (ends[1:, None] + ends[:-1, None]) / 2
        own = np.full(len(points), i) if leave_one_out else None
        truth.append(len(set(labels_at(points, Z, labels, k, own))) == 1)
    found = labels_are_certain(
        lower, upper, Z, labels, k, leave_one_out=leave_one_out, max_splits=16 if k % 2 else 4
    )
    assert not (found & ~np.array(truth)).any()
    if k % 2:  # no label that wins by the order of the labels alone
        assert found.tolist() == truth


@drawn
@given(st.integers(0, 10_000), st.integers(1, 3), st.integers(1, 4), st.booleans())
def test_tiles_make_no_box_wrong_and_lose_none(seed, n_dims, k, leave_one_out):
    """Cells far out or on a line, boxes of no width and boxes beyond the tiles."""
    draw = np.random.default_rng(seed)
    Z = draw.normal(size=(60, n_dims)) * draw.choice([0.0, 1.0, 50.0], size=n_dims)
    Z[0] += draw.choice([0.0, 1e6])
    labels = np.where(Z[:, -1] + 0.3 * draw.normal(size=60) > 0, "a", draw.choice(["b", "c"], 60))
    lower = Z - draw.choice([0.0, 0.1, 3.0], size=Z.shape)
    upper = Z + draw.choice([0.0, 0.1, 3.0, 1e7], size=Z.shape, p=[0.3, 0.35, 0.3, 0.05])
    options = {"k": k, "leave_one_out": leave_one_out, "max_splits": 4}
    tiled = labels_are_certain(lower, upper, Z, labels, **options)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(labels_module, "MOST_TILED_AXES", 0)
        plain = labels_are_certain(lower, upper, Z, labels, **options)
    assert (tiled | ~plain).all()
    own = np.arange(60) if leave_one_out else None
    middle = labels_at((lower + upper) / 2, Z, labels, k, own)
    for _ in range(20):
        share = draw.random(Z.shape).round(draw.integers(0, 3))
        there = labels_at(lower + share * (upper - lower), Z, labels, k, own)
        assert not ((there != middle) & tiled).any()


def test_a_tie_that_comes_of_leaving_the_own_cell_out(monkeypatch):
    """Near (0.2, 0), the own cell, the two others that are nearest are an a and a b: a wins."""
    monkeypatch.setattr(labels_module, "TILES_A_CELL", 1000)
    Z = np.array([[0.2, 0.0], [0.2, -0.1], [-0.4, 0.0], [0.8, 0.0], [0.2, 0.35]])
    lower, upper = Z.copy(), Z.copy()
    lower[0], upper[0] = [-0.45, 0.0], [0.45, 0.001]  # its middle and its ends are b
    labels = list("bbbba")
    found = labels_are_certain(lower, upper, Z, labels, k=2, leave_one_out=True)
    assert not found[0]
    upper[0, 0] = -0.05
    found = labels_are_certain(lower, upper, Z, labels, k=2, leave_one_out=True)
    assert found[0]


def test_a_box_is_decided_alone_as_among_others():
    draw = np.random.default_rng(0)
    Z = draw.normal(size=(500, 2))
    labels = np.where(Z[:, 0] + 0.2 * draw.normal(size=500) > 0, "a", "b")
    half = 0.4 * draw.random((500, 2))
    together = labels_are_certain(Z - half, Z + half, Z, labels, max_splits=1)
    alone = [
        labels_are_certain(z - h, z + h, Z, labels, max_splits=1)[0]
        for z, h in zip(Z[:40, None], half[:40, None], strict=True)
    ]
    assert together[:40].tolist() == alone
    assert 0 < sum(alone) < 40


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lower": np.zeros((3, 1))}, "must have shape"),
        ({"labels": ["a"] * 4}, "4 labels for 5 cells"),
        ({"leave_one_out": True}, "leave_one_out needs one box a cell, got 3 for 5 cells"),
        ({"lower": np.full((3, 2), np.nan)}, "no NaN"),
        ({"lower": np.full((3, 2), 9.0)}, "lower is above upper in box 0"),
        ({"k": 5}, "k must be an integer from 1 to 4, got 5"),
        ({"labels": ["a", "b", None, "a", "b"]}, "labels: 1 of 5 are missing"),
        ({"max_splits": -1}, "max_splits must be"),
    ],
)
def test_bad_input_to_labels_are_certain(change, message):
    good = {
        "lower": np.zeros((3, 2)),
        "upper": np.ones((3, 2)),
        "Z": np.arange(10.0).reshape(5, 2),
        "labels": ["a"] * 5,
        "k": 2,
    }
    with pytest.raises(ValueError, match=message):
        labels_are_certain(**(good | change))


def test_leave_one_out_is_a_flag():
    with pytest.raises(ValueError, match="leave_one_out must be True or False, got 'no'"):
        labels_are_certain(
            [[0.0], [1.0]], [[0.0], [1.0]], [[0.0], [1.0]], ["a", "b"], 1, leave_one_out="no"
        )
