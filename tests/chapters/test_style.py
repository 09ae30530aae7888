"""Figures in the style of the book can be read on light and dark pages, and on phones."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import matplotlib

matplotlib.use("agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest

from rpumap.chapters.style import SMALLEST, WIDTH, use_style
from rpumap.plotting import COLORS, INK, embedding

ROOT = Path(__file__).resolve().parents[2]
# hue-rotate(180deg), as the specification of filter effects gives it
HUE = np.array([[-0.574, 1.43, 0.144], [0.426, 0.43, 0.144], [0.426, 1.43, -0.856]])
# what people without one kind of cones see (Machado et al. 2009, severity 1)
SEEN = {
    "all cones": np.eye(3),
    "no M cones": np.array(
        [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.01182, 0.04294, 0.968881],
        ]
    ),
    "no L cones": np.array(
        [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ]
    ),
}


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
    assert (pixels[0, 0] == 1).all()  # white, and not transparent
    assert (pixels[..., :3] < 1).any(axis=2).mean() > 0.001
    shown = {text.get_text() for text in ax.texts}
    assert shown == ({"a", "b", "c"} if names == "on data" else set())


def test_lines_take_the_colours_of_the_package_in_order():
    use_style()
    lines = plt.subplots()[1].plot(np.zeros((2, 3)))
    assert [line.get_color() for line in lines] == list(COLORS[:3])


def as_shown(color: str, theme: str) -> np.ndarray:
    """Return a colour as a page shows it: on a dark one the style sheet inverts figures."""
    rgb = np.array(matplotlib.colors.to_rgb(color))
    if theme == "dark":
        css = (ROOT / "book/_static/custom.css").read_text()
        strength = float(re.search(r"invert\(([\d.]+)\) hue-rotate\(180deg\)", css)[1])
        rgb = np.clip(HUE @ (rgb * (1 - 2 * strength) + strength), 0, 1)
    return rgb


def linear(rgb: np.ndarray) -> np.ndarray:
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def contrast(one: str, other: str, theme: str) -> float:
    """Return the ratio of contrast as WCAG 2 defines it."""
    lights = [linear(as_shown(color, theme)) @ [0.2126, 0.7152, 0.0722] for color in (one, other)]
    return (max(lights) + 0.05) / (min(lights) + 0.05)


def in_lab(rgb: np.ndarray) -> np.ndarray:
    """Convert linear values of red, green and blue to CIELAB."""
    to_xyz = np.array(
        [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    )
    ratio = to_xyz @ rgb / [0.9505, 1, 1.089]
    f = np.where(ratio > 0.008856, np.cbrt(ratio), 7.787 * ratio + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_letters_and_colours_stand_out(theme):
    assert contrast(INK, "white", theme) >= 4.5
    assert min(contrast(color, "white", theme) for color in COLORS) >= 3


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("eyes", SEEN)
def test_colours_can_be_told_apart(eyes, theme):
    seen = [np.clip(SEEN[eyes] @ linear(as_shown(c, theme)), 0, 1) for c in COLORS]
    pairs = itertools.combinations(map(in_lab, seen), 2)
    # 2.3 is a just noticeable difference
    assert min(np.linalg.norm(one - other) for one, other in pairs) > 2 * 2.3


def test_letters_are_ten_pixels_high_on_a_phone():
    use_style()
    settings = matplotlib.rcParams
    assert settings["figure.figsize"][0] <= WIDTH
    sizes = [settings[name] for name in ("font.size", "legend.fontsize", "xtick.labelsize")]
    assert min(sizes) >= SMALLEST
    assert SMALLEST / 72 / WIDTH * 342 >= 9.95
