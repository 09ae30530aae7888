"""Which choices of training matter? Scores of maps, for three seeds each.

Run ``OMP_NUM_THREADS=1 RPUMAP_DATA_DIR=... python tests/benchmarks/study_training.py``; on one
thread it takes some minutes, so ``make bench`` leaves it out. Every fit is a
`ParametricUMAP`; where a variant is no option of it, a function it calls is replaced for that fit.
The unseen cells are every fifth one: genes, means and deviations come from the others alone, and
the type of an unseen cell is guessed from its 15 nearest training cells on the map.
"""

from __future__ import annotations

import time
from unittest import mock

import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix
from scipy.stats import spearmanr
from sklearn.metrics import silhouette_score
from sklearn.neighbors import KNeighborsClassifier

import rpumap
from rpumap import estimator, training
from rpumap.graph import fuzzy_graph
from rpumap.metrics import knn_accuracy, trustworthiness

SEEDS = (0, 1, 2)
EPS = 0.1
STAGES = {
    "Ductal": "progenitors",
    "Ngn3 low EP": "progenitors",
    "Ngn3 high EP": "precursors",
    "Pre-endocrine": "precursors",
}
RATES = {f"rate {rate:g}": {"learning_rate": rate} for rate in (0.001, 0.003, 0.01, 0.02)}
LONG = RATES | {
    "no weight decay": {"weight_decay": 0.0},
    "weight decay 0.1": {"weight_decay": 0.1},
    "weight decay 1": {"weight_decay": 1.0},
    "1 draw of negative pairs": {"draws": 1},
    "2 draws": {"draws": 2},
    "1 draw, 4096 edges, 800 steps": {"draws": 1, "batch_size": 4096, "n_steps": 800},
    "256 hidden neurons, 128": {"hidden_sizes": (256, 128)},
}
SHORT = RATES | {
    "three hidden layers": {"hidden_sizes": (128, 128, 128)},
    "graph, uniform": {"uniform": True},
    "probability": {"weighting": "probability"},
    "probability, eta = mean p": {"weighting": "probability", "repulsion_strength": "mean p"},
    "eta 0.01": {"repulsion_strength": 0.01},
    "eta 0.1": {"repulsion_strength": 0.1},
    "eta 10": {"repulsion_strength": 10.0},
}


def uniform_graph(*neighbors: np.ndarray) -> csr_matrix:
    """Build the fuzzy graph with every strength set to 1."""
    graph = fuzzy_graph(*neighbors)
    graph.data[:] = 1
    return graph


def fit(
    X: np.ndarray, uniform: bool = False, draws: int = training.NEGATIVE_DRAWS, **settings: object
) -> rpumap.ParametricUMAP:
    """Fit one variant."""
    with (
        mock.patch.object(estimator, "fuzzy_graph", uniform_graph if uniform else fuzzy_graph),
        mock.patch.object(training, "NEGATIVE_DRAWS", draws),
    ):
        return rpumap.ParametricUMAP(**settings).fit(X)


def branch_scores(X: np.ndarray, Z: np.ndarray, labels: pd.Series) -> dict[str, float]:
    """Score stages, alpha against beta, and the order and width within types, as chapter 3 does."""
    stage = labels.map(lambda kind: STAGES.get(kind, "hormone cells"))
    ends = labels.isin(["Alpha", "Beta"]).to_numpy()
    sizes = labels.value_counts()
    members = [(labels == kind).to_numpy() for kind in sizes.index]
    axes = [np.sqrt(np.linalg.eigvalsh(np.cov(Z[kind].T))) for kind in members]
    order = [trustworthiness(X[kind], Z[kind]) for kind in members]
    return {
        "silhouette of stages": silhouette_score(Z, stage),
        "silhouette of alpha and beta": silhouette_score(Z[ends], labels[ends]),
        "order within types": np.average(order, weights=sizes),
        "width within types": np.average([small / large for small, large in axes], weights=sizes),
    }


def main() -> None:
    """Print, for each measure, a row a variant and a column a seed."""
    adata = rpumap.datasets.pancreas()
    labels = adata.obs["clusters"].astype(str)
    X = rpumap.Preprocessor(n_top_genes=300).fit_transform(adata)
    is_new = np.arange(adata.n_obs) % 5 == 0
    prep = rpumap.Preprocessor(n_top_genes=300).fit(adata[~is_new])
    X_old, X_new = prep.transform(adata[~is_new]), prep.transform(adata[is_new])
    edges = fit(X, n_steps=1, random_state=0).graph_.tocoo()
    print(adata.uns["source"])

    def measure(n_steps: int, settings: dict, seed: int) -> dict[str, float]:
        settings = {"n_steps": n_steps, "random_state": seed} | settings
        if settings.get("repulsion_strength") == "mean p":
            settings["repulsion_strength"] = float(edges.data.mean())
        model, part = fit(X, **settings), fit(X_old, **settings)
        Z = model.embedding_
        Z_new, old = part.transform(X_new), part.embedding_
        lower, upper = rpumap.certify(part, X_new, eps=EPS)
        vote = KNeighborsClassifier(15).fit(old, labels[~is_new])
        # belief falls with distance, so its rank correlation with p is that of minus the distance
        length = np.linalg.norm(Z[edges.row] - Z[edges.col], axis=1)
        return {
            "trustworthiness": trustworthiness(X, Z),
            "15-NN accuracy": knn_accuracy(Z, labels),
            "15-NN accuracy, unseen cells": vote.score(Z_new, labels[is_new]),
            "trustworthiness among unseen cells": trustworthiness(X_new, Z_new),
            f"width of boxes at eps {EPS}, map = 1": np.mean((upper - lower) / old.std(axis=0)),
            "rank correlation of p and q on edges": spearmanr(edges.data, -length).statistic,
            "loss, steps 31-50": model.history_["loss"][30:50].mean(),
            "loss, last 20 steps": model.history_["loss"][-20:].mean(),
        } | branch_scores(X, Z, labels)

    print(f"\ngene space: 15-NN accuracy {knn_accuracy(X, labels):.4f}", end="")
    vote = KNeighborsClassifier(15).fit(X_old, labels[~is_new])
    print(f", unseen cells {vote.score(X_new, labels[is_new]):.4f}")
    for n_steps, variants in ((500, LONG), (200, SHORT)):
        began = time.perf_counter()
        results = {
            (name, seed): measure(n_steps, settings, seed)
            for name, settings in variants.items()
            for seed in SEEDS
        }
        print(f"\n===== {n_steps} steps, {time.perf_counter() - began:.0f} s =====")
        for what in next(iter(results.values())):
            table = pd.Series({key: row[what] for key, row in results.items()}).unstack(sort=False)
            table["mean"] = table.mean(axis=1)
            print(f"\n{what}\n{table.round(4).to_string()}", flush=True)


if __name__ == "__main__":
    main()
