"""The programs that are compared: each with the settings its documentation gives as defaults.

Every function fits one method to the training cells and returns their coordinates and, where the
method has one, the function that places further cells. Libraries are imported inside, as their
import is part of what is measured. A seed is passed where that changes nothing else: umap-learn's
UMAP would give up its threads for it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import numpy as np

Placing = Callable[[np.ndarray], np.ndarray]
Fitted = tuple[np.ndarray, Placing | None]
TRAINING_SAMPLE = 100_000


def rpumap(X: np.ndarray, seed: int) -> Fitted:
    """Train on all cells, or on a random 100,000 of more than that, and project the others."""
    from rpumap import ParametricUMAP

    model = ParametricUMAP(random_state=seed)
    if len(X) <= TRAINING_SAMPLE:
        return model.fit_transform(X), model.transform
    sample = np.random.default_rng(seed).choice(len(X), TRAINING_SAMPLE, replace=False)
    return model.fit(X[sample]).transform(X), model.transform


def umap_learn(X: np.ndarray, seed: int) -> Fitted:
    """Fit umap-learn's UMAP, on all cores as it does without a seed.

    It imports TensorFlow where that is installed, four seconds and 700 MB that it does not need:
    here, as for most who have umap-learn, it does not find it.
    """
    sys.modules["tensorflow"] = None  # type: ignore[assignment]
    from umap import UMAP

    model = UMAP()
    return model.fit_transform(X), model.transform


def umap_learn_parametric(X: np.ndarray, seed: int) -> Fitted:
    """Fit umap-learn's ParametricUMAP, on Keras and TensorFlow."""
    from umap.parametric_umap import ParametricUMAP

    model = ParametricUMAP()
    return model.fit_transform(X), model.transform


def parametric_umap(X: np.ndarray, seed: int) -> Fitted:
    """Fit the package parametric-umap, with the network of its quick start.

    That of its defaults, of width 1024, takes some minutes for 500 cells.
    """
    from parametric_umap import ParametricUMAP

    model = ParametricUMAP(n_components=2, hidden_dim=128, n_layers=3, n_epochs=10)
    return model.fit_transform(X, random_state=seed, verbose=False), model.transform


def opentsne(X: np.ndarray, seed: int) -> Fitted:
    """Fit openTSNE, on all cores; its default is one."""
    from openTSNE import TSNE

    embedding = TSNE(n_jobs=-1, random_state=seed).fit(X)
    return embedding, embedding.transform


def torchdr(X: np.ndarray, seed: int) -> Fitted:
    """Fit TorchDR's UMAP, whose neighbours come from Faiss."""
    from torchdr import UMAP

    model = UMAP(random_state=seed)
    return model.fit_transform(X), lambda X_new: model.transform(X_new, X_train=X)


# how the tables and figures name them
METHODS = {
    "rpumap": rpumap,
    "UMAP": umap_learn,
    "ParametricUMAP": umap_learn_parametric,
    "parametric-umap": parametric_umap,
    "openTSNE": opentsne,
    "TorchDR": torchdr,
}
