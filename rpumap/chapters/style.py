"""The look of the book's figures: transparent, so that they read on a light and a dark page."""

from __future__ import annotations

from rpumap.plotting import COLORS, INK


def use_style() -> None:
    """Set matplotlib's defaults to those of the book's figures.

    Examples
    --------
    >>> import matplotlib
    >>> from rpumap.chapters.style import use_style
    >>> use_style()
    >>> matplotlib.rcParams["axes.facecolor"]
    'none'
    """
    import matplotlib
    from matplotlib.rcsetup import cycler

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
            "axes.prop_cycle": cycler(color=COLORS),
            "figure.dpi": 110,
            "figure.constrained_layout.use": True,
            "font.size": 11,
        }
    )
