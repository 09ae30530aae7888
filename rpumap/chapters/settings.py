"""The settings of the paper and those of the package, in one place.

The scorecard measures each claim with both. What the paper states stands in ``PAPER`` beside what
it leaves open and we chose: the number of steps, the batch size, the widths of the layers, and the
strength of the bound loss. :mod:`rpumap.chapters.choices` changes these. What ``PAPER`` does not
name, such as the strength of the reconstruction loss, is as in the package.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

import rpumap
from rpumap.graph import nearest_neighbors

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import ArrayLike

    from rpumap.estimator import ParametricUMAP


@dataclass(frozen=True)
class Settings:
    """How a plain and a regularised map are trained.

    Parameters
    ----------
    name : str
        ``"paper"`` or ``"default"``, as in the rows of the scorecard.
    model : mapping
        Arguments of :class:`rpumap.ParametricUMAP`.
    robust : mapping
        Arguments of :func:`rpumap.robustify`.
    certain_edges : bool
        Whether each edge of the graph counts as certain, p = 1, and is drawn as often as any other,
        which is eq. 4 as printed. The package draws an edge as often as its strength says.
    panel_library : bool
        Whether the library size of a cell is the sum of its counts in the chosen genes alone: the
        other reading of "selected, then normalized" (section 2.3).

    Examples
    --------
    >>> import numpy as np
    >>> from rpumap.chapters.settings import PAPER
    >>> X = np.random.default_rng(0).normal(size=(100, 6))
    >>> model = PAPER.fit(X, seed=0, n_steps=5)
    >>> model.learning_rate, set(model.graph_.data.tolist())
    (0.001, {1.0})
    """

    name: str
    model: Mapping[str, Any] = field(default_factory=dict)
    robust: Mapping[str, Any] = field(default_factory=dict)
    certain_edges: bool = False
    panel_library: bool = False

    def prepare(self, reference: AnnData) -> rpumap.Preprocessor:
        """Choose 300 genes and fit their z-scores on reference cells (section 2.3)."""
        prep = rpumap.Preprocessor(n_top_genes=300).fit(reference)
        if not self.panel_library:
            return prep
        return rpumap.Preprocessor(n_top_genes=300).fit(_panel(reference, prep.genes_))

    def scores(self, prep: rpumap.Preprocessor, adata: AnnData) -> np.ndarray:
        """Compute the z-scores of cells, (n_cells, 300), with what `prepare` returned."""
        return prep.transform(_panel(adata, prep.genes_) if self.panel_library else adata)

    def fit(self, X: np.ndarray, seed: int, **changes: Any) -> ParametricUMAP:
        """Train a plain map on cells, (n_cells, n_genes), with changes of the arguments."""
        options = {"device": "cpu", **self.model, "random_state": seed, **changes}
        model = rpumap.ParametricUMAP(**options)
        if self.certain_edges and isinstance(model.neighbors, str):
            n_neighbors = min(model.n_neighbors, len(X))
            indices, distances = nearest_neighbors(
                np.asarray(X, dtype=np.float32), n_neighbors, model.metric, random_state=seed
            )
            # neighbours that are all equally far all have the membership strength 1
            model.set_params(neighbors=(indices, (distances > 0).astype(distances.dtype)))
        return model.fit(X)

    def robustify(self, model: ParametricUMAP, X: np.ndarray, **changes: Any) -> ParametricUMAP:
        """Train a plain map further with the bound loss, with changes of the arguments."""
        return rpumap.robustify(model, X, **{"eps": 0.2, **self.robust, **changes})


def _panel(adata: AnnData, genes: ArrayLike) -> AnnData:
    """Keep some genes, and forget how many counts the others had."""
    panel = adata[:, genes].copy()
    panel.obs = panel.obs.drop(columns="library_size", errors="ignore")
    return panel


PAPER = Settings(
    "paper",
    model={
        # stated in section 2.1
        "learning_rate": 1e-3,
        "negative_sample_rate": 5,
        "weight_decay": 0.0,
        # our choices: the paper says three layers, and no more
        "hidden_sizes": (128, 128),
        "batch_size": 2048,
        "n_steps": 2000,
    },
    # eq. 5 with CROWN and eps 0.2 (section 2.4), at the rate of section 2.1
    robust={
        "eps": 0.2,
        "bound_method": "crown",
        "penalty": "area",
        "learning_rate": 1e-3,
        "n_steps": 500,
    },
    certain_edges=True,
)
DEFAULT = Settings("default")
BOTH = (PAPER, DEFAULT)
