"""A certified label is right if no point of the box has another one."""

from __future__ import annotations

import numpy as np
import pytest
from examples import labels_at
from hypothesis import given, settings
from hypothesis import strategies as st

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
