"""Figures are drawn from arrays, readable and the same on every page."""

from __future__ import annotations

import matplotlib

matplotlib.use("agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from rpumap.plotting import COLORS, INK, embedding, loss_curve, use_style


@pytest.fixture(autouse=True)
def fresh_style():
    with matplotlib.rc_context():
        yield
    plt.close("all")


def luminance(color: str) -> float:
    """Relative luminance of WCAG 2."""
    rgb = np.array(matplotlib.colors.to_rgb(color))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def contrast(one: str, two: str) -> float:
    low, high = sorted([luminance(one), luminance(two)])
    return (high + 0.05) / (low + 0.05)


def test_ink_and_colours_show_on_light_and_dark_pages():
    for page in ("#FFFFFF", "#121212"):
        assert contrast(INK, page) > 4
        assert min(contrast(color, page) for color in COLORS) > 1.9


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
def test_figure_is_rendered(tmp_path, names):
    use_style()
    Z = np.random.default_rng(0).normal(size=(30, 2))
    ax = embedding(Z, np.repeat(["a", "b", "c"], 10), names=names, title="three types")
    ax.figure.savefig(tmp_path / "map.png")
    pixels = plt.imread(tmp_path / "map.png")
    assert pixels[0, 0, 3] == 0  # transparent
    assert (pixels[..., 3] > 0).mean() > 0.001
    shown = {text.get_text() for text in ax.texts}
    assert shown == ({"a", "b", "c"} if names == "on data" else set())


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
