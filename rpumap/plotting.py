"""The book's figures as functions of arrays.

Backgrounds are transparent and lines mid-grey, so that a figure reads on a light and on a dark
page. Colours are those of Okabe and Ito (2008), which people with colour-blindness can tell
apart; black and yellow, invisible on one of the two pages, are replaced by greys and an ochre.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import ArrayLike

COLORS = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#CC79A7",
    "#56B4E9",
    "#D55E00",
    "#8F8F8F",
    "#A08A00",
)
MARKERS = ("o", "^", "s", "D")
INK = "#7A7A7A"


def use_style() -> None:
    """Set matplotlib's defaults to those of the book's figures.

    Examples
    --------
    >>> import matplotlib
    >>> from rpumap.plotting import use_style
    >>> use_style()
    >>> matplotlib.rcParams["axes.facecolor"]
    'none'
    """
    import matplotlib

    matplotlib.rcParams.update(
        {
            "figure.facecolor": "none",
            "axes.facecolor": "none",
            "savefig.facecolor": "none",
            "text.color": INK,
            "axes.labelcolor": INK,
            "axes.edgecolor": INK,
            "axes.titlecolor": INK,
            "xtick.color": INK,
            "ytick.color": INK,
            "legend.frameon": False,
            "legend.labelcolor": INK,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.prop_cycle": matplotlib.cycler(color=COLORS),
            "figure.dpi": 110,
            "figure.constrained_layout.use": True,
            "font.size": 11,
        }
    )


def _categories(labels: ArrayLike) -> list:
    """List the categories in their own order where they have one, else sorted."""
    categories = getattr(getattr(labels, "cat", labels), "categories", None)
    return list(np.unique(np.asarray(labels)) if categories is None else categories)


def embedding(
    Z: ArrayLike,
    labels: ArrayLike | None = None,
    *,
    ax: Axes | None = None,
    title: str | None = None,
    names: str = "legend",
    marker: str | None = None,
    size: float = 5.0,
    alpha: float = 0.7,
    categories: Sequence | None = None,
) -> Axes:
    """Draw an embedding, coloured by cell type.

    Parameters
    ----------
    Z : array-like of shape (n_cells, 2)
        Places of the cells.
    labels : array-like of shape (n_cells,), optional
        Cell types; a categorical keeps its order.
    ax : matplotlib Axes, optional
        Where to draw; a new figure where it is None.
    title : str, optional
        Title of the panel.
    names : {"legend", "on data", "none"}
        Where the names of the types stand.
    marker : str, optional
        One marker for all cells. By default the first eight types are dots and the next eight
        triangles, as there are eight colours.
    size, alpha : float
        Area of a marker in square points, and its opacity.
    categories : sequence, optional
        All types, in order, where `labels` holds only some of them: keeps colours the same
        between panels.

    Returns
    -------
    matplotlib Axes

    Raises
    ------
    ValueError
        If `Z` does not have two columns, or `labels` has another length.

    Examples
    --------
    >>> import numpy as np
    >>> from rpumap.plotting import embedding
    >>> ax = embedding(np.zeros((3, 2)), ["a", "b", "a"], title="three cells")
    >>> ax.get_title()
    'three cells'
    """
    import matplotlib.pyplot as plt

    Z = np.asarray(Z)
    if Z.ndim != 2 or Z.shape[1] != 2:
        raise ValueError(f"an embedding of shape (n_cells, 2) is needed, got {Z.shape}")
    if labels is not None and len(labels) != len(Z):
        raise ValueError(f"{len(labels)} labels for {len(Z)} cells")
    if names not in ("legend", "on data", "none"):
        raise ValueError(f"names must be 'legend', 'on data' or 'none', got {names!r}")
    ax = plt.subplots(figsize=(5, 4.4))[1] if ax is None else ax
    # Draw in random order, so that the last type does not cover the others. Agg draws a scatter
    # in the order of its points, and one scatter holds one marker only: hence the loop.
    order = np.random.default_rng(0).permutation(len(Z))
    if labels is None:
        ax.scatter(*Z[order].T, s=size, alpha=alpha, color=COLORS[0], linewidths=0)
    else:
        known = list(categories) if categories is not None else _categories(labels)
        _scatter_types(ax, Z[order], np.asarray(labels)[order], known, marker, size, alpha)
        _name_types(ax, Z, np.asarray(labels), known, marker, names)
    ax.set(xlabel="dimension 1", ylabel="dimension 2", title=title or "")
    ax.set_aspect("equal", adjustable="datalim")
    ax.set_xticks([])
    ax.set_yticks([])
    return ax


def _look(place: int, marker: str | None) -> tuple[str, str]:
    color = COLORS[place % len(COLORS)]
    return color, marker or MARKERS[place // len(COLORS) % len(MARKERS)]


def _scatter_types(
    ax: Axes,
    Z: np.ndarray,
    labels: np.ndarray,
    known: list,
    marker: str | None,
    size: float,
    alpha: float,
) -> None:
    looks = [_look(place, marker) for place in range(len(known))]
    for shape in dict.fromkeys(shape for _, shape in looks):
        color_of = {name: c for name, (c, s) in zip(known, looks, strict=True) if s == shape}
        here = np.isin(labels, list(color_of))
        ax.scatter(
            *Z[here].T,
            c=[color_of[name] for name in labels[here]],
            s=size,
            alpha=alpha,
            marker=shape,
            linewidths=0.6 if shape == "x" else 0,
        )


def _name_types(
    ax: Axes, Z: np.ndarray, labels: np.ndarray, known: list, marker: str | None, names: str
) -> None:
    import matplotlib.patheffects as effects

    for place, name in enumerate(known):
        color, shape = _look(place, marker)
        if names == "legend":
            ax.scatter([], [], s=36, color=color, marker=shape, label=str(name))
        elif names == "on data" and (labels == name).any():
            halo = effects.withStroke(linewidth=2.5, foreground="#FFFFFFD0")
            ax.annotate(
                str(name),
                np.median(Z[labels == name], axis=0),
                ha="center",
                va="center",
                color="#303030",
                fontsize=9,
                path_effects=[halo],
            )
    if names == "legend":
        ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), handletextpad=0.2)


def loss_curve(history: dict[str, np.ndarray], *, ax: Axes | None = None) -> Axes:
    """Draw the loss and its two terms over the steps of training.

    Parameters
    ----------
    history : dict of ndarray
        ``history_`` of a fitted model.
    ax : matplotlib Axes, optional
        Where to draw.

    Returns
    -------
    matplotlib Axes

    Examples
    --------
    >>> import numpy as np
    >>> from rpumap.plotting import loss_curve
    >>> ones = np.ones(3)
    >>> loss_curve({"loss": ones, "attraction": ones, "repulsion": ones}).get_xlabel()
    'step'
    """
    import matplotlib.pyplot as plt

    ax = plt.subplots(figsize=(5, 3))[1] if ax is None else ax
    for name, style in (("loss", "-"), ("attraction", "--"), ("repulsion", ":")):
        ax.plot(history[name], style, label=name, linewidth=1.4)
    ax.set(xlabel="step", ylabel="loss per edge")
    ax.legend()
    return ax
