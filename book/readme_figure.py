"""Draw the README's figure from the real pancreas cells.

Run ``RPUMAP_DATA_DIR=... python book/readme_figure.py``; it writes ``book/_static/pancreas.png``.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("agg")

import matplotlib.pyplot as plt
import numpy as np

import rpumap
from rpumap import plotting
from rpumap.chapters.style import use_style


def main() -> None:
    """Train on four fifths of the cells, map the others, and save the figure."""
    adata = rpumap.datasets.pancreas(source="real")
    labels = adata.obs["clusters"]
    is_new = np.arange(adata.n_obs) % 5 == 0
    prep = rpumap.Preprocessor(n_top_genes=300)
    model = rpumap.ParametricUMAP(random_state=0).fit(prep.fit_transform(adata[~is_new]))
    Z_new = model.transform(prep.transform(adata[is_new]))

    use_style()
    figure, (left, right) = plt.subplots(1, 2, figsize=(10.5, 4.4))
    title = f"{(~is_new).sum():,} cells train the network"
    plotting.embedding(model.embedding_, labels[~is_new], ax=left, names="none", title=title)
    right.scatter(*model.embedding_.T, s=3, color=plotting.COLORS[6], alpha=0.25, linewidths=0)
    title = f"{is_new.sum():,} new cells go through it"
    plotting.embedding(Z_new, labels[is_new], ax=right, size=9, title=title)
    left.set(xlim=right.get_xlim(), ylim=right.get_ylim())
    target = Path(__file__).parent / "_static" / "pancreas.png"
    target.parent.mkdir(exist_ok=True)
    figure.savefig(target, dpi=110)
    print(target)


if __name__ == "__main__":
    main()
