"""Figures are drawn from arrays, readable and the same on every page."""

from __future__ import annotations

import matplotlib

matplotlib.use("agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from anndata import AnnData
from scipy.sparse import csr_matrix

from rpumap.plotting import COLORS, INK, boxes, embedding, loss_curve


@pytest.fixture(autouse=True)
def closed_figures():
    yield
    plt.close("all")


def test_every_cell_is_drawn_in_the_colour_of_its_type():
    labels = pd.Categorical(["late", "early", "early"], categories=["early", "late"])
    ax = embedding(np.array([[0.0, 0], [1, 0], [2, 0]]), labels)
    dots = ax.collections[0]
    drawn = dict(zip(dots.get_offsets()[:, 0], map(tuple, dots.get_facecolors()), strict=True))
    expected = {0.0: COLORS[1], 1.0: COLORS[0], 2.0: COLORS[0]}
    for x, color in expected.items():
        assert drawn[x] == pytest.approx(matplotlib.colors.to_rgba(color, 0.7))
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["early", "late"]


def test_colours_stay_when_only_some_types_are_drawn():
    ax = embedding(np.zeros((2, 2)), ["b", "b"], categories=["a", "b"])
    face = ax.collections[0].get_facecolors()[0]
    assert face == pytest.approx(matplotlib.colors.to_rgba(COLORS[1], 0.7))


def test_more_types_than_colours_get_another_marker():
    labels = np.array([f"type {i:02d}" for i in range(14)])
    ax = embedding(np.random.default_rng(0).normal(size=(14, 2)), labels)
    assert [len(group.get_offsets()) for group in ax.collections[:2]] == [8, 6]


@pytest.mark.parametrize("names", ["legend", "on data", "none"])
def test_names_are_written_where_they_should_be(names):
    Z = np.random.default_rng(0).normal(size=(30, 2))
    ax = embedding(Z, np.repeat(["a", "b", "c"], 10), names=names, title="three types")
    shown = {text.get_text() for text in ax.texts}
    assert shown == ({"a", "b", "c"} if names == "on data" else set())
    assert (ax.get_legend() is not None) == (names == "legend")


def test_loss_curve_has_its_three_lines():
    history = {name: np.arange(4.0) for name in ("loss", "attraction", "repulsion")}
    assert [line.get_label() for line in loss_curve(history).lines] == list(history)


def test_bad_input():
    with pytest.raises(ValueError, match="shape"):
        embedding(np.zeros((3, 5)))
    with pytest.raises(ValueError, match="2 labels for 3 cells"):
        embedding(np.zeros((3, 2)), ["a", "b"])
    with pytest.raises(ValueError, match="names must be"):
        embedding(np.zeros((3, 2)), ["a"] * 3, names="margin")


@pytest.mark.parametrize("missing", [None, np.nan, pd.NA])
def test_missing_labels_are_an_error_that_names_them(missing):
    with pytest.raises(ValueError, match="labels: 1 of 3 are missing"):
        embedding(np.zeros((3, 2)), ["a", missing, "a"])


@pytest.mark.parametrize(
    ("Z", "error", "message"),
    [
        (AnnData(np.zeros((3, 2))), TypeError, "Z must be an array, not AnnData: .*adata.obsm"),
        (None, TypeError, "Z must hold real numbers, got NoneType"),
        ("X_umap", TypeError, "Z must hold real numbers, got str"),
        ([[0.0, np.nan]] * 3, ValueError, "Z holds values that are missing or infinite"),
        (np.zeros(3), ValueError, r"Z must be a table with 2 columns, got the shape \(3,\)"),
    ],
)
def test_other_things_than_an_embedding_are_refused(Z, error, message):
    with pytest.raises(error, match=message):
        embedding(Z, ["a", "b", "a"])


@pytest.mark.parametrize("kind", [csr_matrix, pd.DataFrame, torch.tensor, np.ndarray.tolist])
def test_an_embedding_may_come_in_other_containers(kind):
    Z = np.arange(6.0).reshape(3, 2)
    drawn = [embedding(table).collections[0].get_offsets() for table in (Z, kind(Z))]
    np.testing.assert_array_equal(*drawn)


@pytest.mark.parametrize("history", [None, "loss", [1.0], {"loss": np.ones(3)}])
def test_other_things_than_a_history_are_refused(history):
    with pytest.raises(TypeError, match="history_ of a fitted model is needed, with loss, attr"):
        loss_curve(history)


def test_no_cell_is_left_out_of_the_figure_silently():
    with pytest.raises(ValueError, match=r"not among the categories: \['b'\]"):
        embedding(np.zeros((3, 2)), ["a", "b", "a"], categories=["a"])


def test_categories_may_be_text_and_numbers():
    labels = pd.Categorical([1, "x", 1], categories=["x", 1])
    for ax in (
        embedding(np.eye(3, 2), labels),
        embedding(np.eye(3, 2), labels, categories=["x", 1]),
    ):
        assert [text.get_text() for text in ax.get_legend().get_texts()] == ["x", "1"]


def test_boxes_are_rectangles_of_their_size_in_their_colours():
    lower, upper = np.array([[0.0, 1.0], [-3.0, 2.0]]), np.array([[2.0, 5.0], [-1.0, 2.0]])
    ax = boxes(lower, upper, color=[COLORS[1], COLORS[2]], linewidth=2, linestyle="--")
    (outlines,) = ax.collections
    for path, low, high in zip(outlines.get_paths(), lower, upper, strict=True):
        box = path.get_extents()
        assert box.min == pytest.approx(low)
        assert box.max == pytest.approx(high)
    wanted = [matplotlib.colors.to_rgba(color) for color in COLORS[1:3]]
    assert outlines.get_edgecolor() == pytest.approx(np.array(wanted))
    assert len(outlines.get_facecolor()) == 0
    assert outlines.get_linewidth() == [2]


def test_boxes_look_like_rectangles_drawn_one_by_one():
    lower = np.random.default_rng(0).normal(size=(5, 2))
    pixels = []
    for by_hand in (False, True):
        figure, ax = plt.subplots(figsize=(3, 3), dpi=100)
        ax.set(xlim=(-3, 5), ylim=(-3, 5))
        if by_hand:
            for corner in lower:
                style = {"fill": False, "edgecolor": INK, "linewidth": 1.6}
                ax.add_patch(matplotlib.patches.Rectangle(corner, 1.5, 2.5, **style))
        else:
            boxes(lower, lower + [1.5, 2.5], ax=ax)
        figure.canvas.draw()
        pixels.append(np.asarray(figure.canvas.buffer_rgba(), dtype=float)[..., :3])
    assert np.abs(pixels[0] - pixels[1]).mean() < 0.05 * np.abs(255 - pixels[1]).mean()


def test_boxes_come_into_view_and_leave_limits_that_were_set():
    ax = boxes(torch.tensor([[-7.0, 1.0]]), torch.tensor([[9.0, 4.0]]))
    assert ax.get_xlim()[0] <= -7
    assert ax.get_xlim()[1] >= 9
    ax.set_xlim(0, 1)
    boxes([[-20.0, 1.0]], [[9.0, 4.0]], ax=ax)
    assert ax.get_xlim() == (0, 1)


def test_boxes_have_one_entry_in_the_legend():
    ax = boxes(np.zeros((4, 2)), np.ones((4, 2)), label="certified")
    ax.figure.canvas.draw()
    assert [text.get_text() for text in ax.legend().get_texts()] == ["certified"]


def test_boxes_that_are_none():
    with pytest.raises(
        ValueError, match=r"lower must be a table with 2 columns, got the shape \(3, 3\)"
    ):
        boxes(np.zeros((3, 3)), np.ones((3, 3)))
    with pytest.raises(ValueError, match="lower holds 3 boxes and upper 2"):
        boxes(np.zeros((3, 2)), np.ones((2, 2)))
    with pytest.raises(ValueError, match="upper holds values that are missing or infinite"):
        boxes(np.zeros((3, 2)), np.full((3, 2), np.inf))
    with pytest.raises(ValueError, match="lower lies above upper in box 1"):
        boxes([[0.0, 0.0], [0.0, 2.0]], [[1.0, 1.0], [1.0, 1.0]])
