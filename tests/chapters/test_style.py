"""Figures in the style of the book are transparent."""

from __future__ import annotations

import matplotlib

matplotlib.use("agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest

from rpumap.chapters.style import use_style
from rpumap.plotting import COLORS, embedding


@pytest.fixture(autouse=True)
def fresh_style():
    with matplotlib.rc_context():
        yield
    plt.close("all")


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


def test_lines_take_the_colours_of_the_package_in_order():
    use_style()
    lines = plt.subplots()[1].plot(np.zeros((2, 3)))
    assert [line.get_color() for line in lines] == list(COLORS[:3])
