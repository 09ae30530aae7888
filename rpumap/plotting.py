"""Figures of embeddings, of certified boxes and of the loss, as functions of arrays.

Colours are those of Okabe and Ito (2008), which people with colour blindness can tell apart, made
darker until each has a contrast of 3 to 1 with white; yellow became olive, and black a grey.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from rpumap._validation import check_choice, check_coordinates, check_labels

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.typing import ColorType
    from numpy.typing import ArrayLike

COLORS = (
    "#00508C",
    "#C98500",
    "#00805A",
    "#CC79A7",
    "#3A9AD6",
    "#B8400A",
    "#8C8C8C",
    "#5A4A00",
)
MARKERS = ("o", "^", "s", "D")
INK = "#2E2E2E"


def _categories(labels: ArrayLike) -> list | None:
    """List the categories in their own order, of labels that have one."""
    categories = getattr(getattr(labels, "cat", labels), "categories", None)
    return None if categories is None else list(categories)


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
        Coordinates of the cells.
    labels : array-like of shape (n_cells,), optional
        Cell types; a categorical keeps its order.
    ax : matplotlib Axes, optional
        Where to draw; a new figure where it is None.
    title : str, optional
        Title of the panel.
    names : {"legend", "on data", "none"}
        Where the names of the types are written.
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
        If `Z` does not have two columns, there is not one label a cell, labels are missing, or a
        label is not among `categories`.

    Examples
    --------
    >>> import numpy as np
    >>> from rpumap.plotting import embedding
    >>> ax = embedding(np.zeros((3, 2)), ["a", "b", "a"], title="three cells")
    >>> ax.get_title()
    'three cells'
    """
    import matplotlib.pyplot as plt

    Z = check_coordinates("Z", Z, n_columns=2)
    check_choice("names", names, ("legend", "on data", "none"))
    if labels is not None:
        found, codes = check_labels(labels, len(Z))
        own = list(categories) if categories is not None else _categories(labels)
        known = list(found) if own is None else own
        if found.dtype.kind == "U":  # of text and numbers side by side check_labels makes text
            known = [str(name) for name in known]
        unknown = [str(name) for name in found if name not in known]
        if unknown:
            raise ValueError(f"labels that are not among the categories: {unknown}")
    ax = plt.subplots(figsize=(5, 4.6))[1] if ax is None else ax
    # Draw in random order, so that the last type does not cover the others. Agg draws a scatter
    # in the order of its points, and one scatter holds one marker only: hence the loop.
    order = np.random.default_rng(0).permutation(len(Z))
    if labels is None:
        ax.scatter(Z[order, 0], Z[order, 1], s=size, alpha=alpha, color=COLORS[0], linewidths=0)
    else:
        types = found[codes]
        _scatter_types(ax, Z[order], types[order], known, marker, size, alpha)
        _name_types(ax, Z, types, known, marker, names)
    ax.set(xlabel="dimension 1", ylabel="dimension 2", title=title or "")
    ax.set_aspect("equal", adjustable="datalim")
    ax.set_xticks([])
    ax.set_yticks([])
    return ax


def _look(number: int, marker: str | None) -> tuple[str, str]:
    """Colour and marker of the type of that number."""
    color = COLORS[number % len(COLORS)]
    return color, marker or MARKERS[number // len(COLORS) % len(MARKERS)]


def _scatter_types(
    ax: Axes,
    Z: np.ndarray,
    labels: np.ndarray,
    known: list,
    marker: str | None,
    size: float,
    alpha: float,
) -> None:
    looks = [_look(number, marker) for number in range(len(known))]
    for shape in dict.fromkeys(shape for _, shape in looks):
        color_of = {name: c for name, (c, s) in zip(known, looks, strict=True) if s == shape}
        here = np.isin(labels, list(color_of))
        ax.scatter(
            Z[here, 0],
            Z[here, 1],
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

    for number, name in enumerate(known):
        color, shape = _look(number, marker)
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
                fontsize=10.5,
                path_effects=[halo],
            )
    if names == "legend":
        ax.legend(
            loc="upper center",
            bbox_to_anchor=(0.5, -0.08),
            ncols=3,
            handletextpad=0.1,
            columnspacing=1.0,
        )


def boxes(
    lower: ArrayLike,
    upper: ArrayLike,
    *,
    ax: Axes | None = None,
    color: ColorType | Sequence[ColorType] = INK,
    linewidth: float = 1.6,
    linestyle: str = "-",
    label: str | None = None,
) -> Axes:
    """Draw certified boxes on an embedding, as the outlines of rectangles.

    Parameters
    ----------
    lower, upper : array-like of shape (n_boxes, 2)
        Opposite corners of each box, in map units, as :func:`rpumap.certify` returns them.
    ax : matplotlib Axes, optional
        Where to draw; a new figure where it is None. Its limits are widened to hold the boxes,
        unless they were set.
    color : color or sequence of n_boxes colors
        Of the outlines: one for all, or one for each.
    linewidth : float, default 1.6
        Width of the outlines in points.
    linestyle : str, default "-"
        Style of the outlines.
    label : str, optional
        Name of the boxes in the legend; they have one entry in all.

    Returns
    -------
    matplotlib Axes

    Raises
    ------
    ValueError
        If `lower` and `upper` are not both of shape (n_boxes, 2), or not finite, or a lower end
        lies above the upper one.

    Examples
    --------
    >>> from rpumap.plotting import boxes
    >>> ax = boxes([[0.0, 0.0], [1.0, 2.0]], [[1.0, 1.0], [3.0, 3.0]], label="certified")
    >>> len(ax.collections[0].get_paths())
    2
    """
    import matplotlib.pyplot as plt
    from matplotlib.collections import PolyCollection

    lower = check_coordinates("lower", lower, n_columns=2).astype(float)
    upper = check_coordinates("upper", upper, n_columns=2).astype(float)
    if len(lower) != len(upper):
        raise ValueError(f"lower holds {len(lower)} boxes and upper {len(upper)}")
    if (lower > upper).any():
        first = int((lower > upper).any(axis=1).argmax())
        raise ValueError(f"lower lies above upper in box {first}: {lower[first]}, {upper[first]}")
    ax = plt.subplots(figsize=(5, 4.6))[1] if ax is None else ax
    (left, bottom), (right, top) = lower.T, upper.T
    corners = [[left, bottom], [right, bottom], [right, top], [left, top]]
    outlines = PolyCollection(
        list(np.moveaxis(np.array(corners), 2, 0)),
        facecolors="none",
        edgecolors=color,
        linewidths=linewidth,
        linestyles=linestyle,
        label=label,
    )
    ax.add_collection(outlines)
    ax.autoscale_view()
    return ax


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

    Raises
    ------
    TypeError
        If `history` is not the ``history_`` of a model.

    Examples
    --------
    >>> import numpy as np
    >>> from rpumap.plotting import loss_curve
    >>> ones = np.ones(3)
    >>> loss_curve({"loss": ones, "attraction": ones, "repulsion": ones}).get_xlabel()
    'step'
    """
    import matplotlib.pyplot as plt

    styles = {"loss": "-", "attraction": "--", "repulsion": ":"}
    if not hasattr(history, "keys") or not styles.keys() <= set(history.keys()):
        raise TypeError(
            f"the history_ of a fitted model is needed, with {', '.join(styles)}, not "
            f"{type(history).__name__}"
        )
    ax = plt.subplots(figsize=(5, 3))[1] if ax is None else ax
    for name, style in styles.items():
        ax.plot(history[name], style, label=name, linewidth=1.4)
    ax.set(xlabel="step", ylabel="loss per edge")
    ax.legend()
    return ax
