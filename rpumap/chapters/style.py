"""The look of the book's figures: dark ink on white, with letters that a phone can show.

A figure is at most `WIDTH` inches wide and its smallest letters have `SMALLEST` points, so that on
a column of 342 pixels, as on a phone, they are 10 pixels high. On dark pages the style sheet of the
book inverts lightness and keeps hue.
"""

from __future__ import annotations

from rpumap.plotting import COLORS, INK

WIDTH = 5.0  # inches
SMALLEST = 10.5  # points


def use_style() -> None:
    """Set matplotlib's defaults to those of the book's figures.

    Examples
    --------
    >>> import matplotlib
    >>> from rpumap.chapters.style import use_style
    >>> use_style()
    >>> matplotlib.rcParams["figure.figsize"]
    [5.0, 3.8]
    """
    import matplotlib
    from matplotlib.rcsetup import cycler

    matplotlib.rcParams.update(
        {
            "figure.facecolor": "white",
            "axes.facecolor": "white",
            "savefig.facecolor": "white",
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
            "axes.prop_cycle": cycler(color=COLORS),
            "figure.figsize": (WIDTH, 3.8),
            "figure.dpi": 144,
            "figure.constrained_layout.use": True,
            "font.size": 11,
            "axes.titlesize": 11.5,
            "figure.titlesize": 11.5,
            "figure.labelsize": 11,
            "xtick.labelsize": SMALLEST,
            "ytick.labelsize": SMALLEST,
            "legend.fontsize": SMALLEST,
        }
    )
