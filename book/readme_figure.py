"""Draw the figure of the README and of the first page from the real pancreas cells.

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

EPS = 0.1  # in standard deviations of a gene


def main() -> None:
    """Train on four fifths of the cells, place the others, certify one of each type, and save."""
    adata = rpumap.datasets.pancreas(source="real")
    labels = adata.obs["clusters"]
    is_new = np.arange(adata.n_obs) % 5 == 0
    prep = rpumap.Preprocessor(n_top_genes=300)
    X = prep.fit_transform(adata[~is_new])
    X_new, new = prep.transform(adata[is_new]), labels[is_new]
    model = rpumap.robustify(rpumap.ParametricUMAP(random_state=0).fit(X), X, random_state=0)
    # the long axis along the page: axes of a map have no meaning
    Z, Z_new = model.transform(X)[:, ::-1], model.transform(X_new)[:, ::-1]
    middle = [nearest_to_median(Z_new, np.flatnonzero(new == name)) for name in new.cat.categories]

    use_style()
    figure, ax = plt.subplots(figsize=(5, 4))
    plotting.embedding(Z_new, new, ax=ax, size=12, alpha=0.8)
    ax.scatter(*Z.T, s=3, color=plotting.COLORS[6], alpha=0.25, linewidths=0, zorder=0)
    low, high = rpumap.certify(model, X_new[middle], eps=EPS)
    plotting.boxes(low[:, ::-1], high[:, ::-1], ax=ax, color="black")
    ax.set(xlabel="", ylabel="", title=f"{is_new.sum()} new cells on a map of {(~is_new).sum():,}")
    target = Path(__file__).parent / "_static" / "pancreas.png"
    target.parent.mkdir(exist_ok=True)
    figure.savefig(target)
    print(target)


def nearest_to_median(Z: np.ndarray, cells: np.ndarray) -> int:
    """Find, among some cells, the one that is nearest to their median."""
    return cells[np.linalg.norm(Z[cells] - np.median(Z[cells], axis=0), axis=1).argmin()]


if __name__ == "__main__":
    main()
