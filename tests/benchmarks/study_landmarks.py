"""How should a map take in a type that it has not seen? The defaults of `rpumap.extend`.

Run ``OMP_NUM_THREADS=1 RPUMAP_DATA_DIR=... python tests/benchmarks/study_landmarks.py``; on one
thread it takes some ten minutes, so ``make bench`` leaves it out. A type is left out of the
choice of genes, of the z-scores and of the fit; then the map is made to hold it, in several ways,
for five seeds. The columns, means over seeds and, for the first three rows, standard deviations:

drift
    Median distance by which the old cells moved, in standard deviations of their map.
aligned
    The same after the best shift, rotation, reflection and scaling (Procrustes), without which two
    fits cannot be compared.
trust, old, new
    Trustworthiness of all cells, among the old and among the new ones.
accuracy
    Share of all cells whose type is the commonest among their 15 nearest neighbours on the map.
found, alien
    Share of the new cells among whose 15 neighbours most are new ones, and share of old cells among
    all cells of which that holds: a place of its own has 1 and 0.
seconds
    Of the fit, the mapping or the further training.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import pandas as pd
from scipy.linalg import orthogonal_procrustes
from sklearn.neighbors import NearestNeighbors

import rpumap
from rpumap.metrics import knn_accuracy, trustworthiness

SEEDS = range(5)
LEFT_OUT = (
    ("pancreas", "Beta"),
    ("pancreas", "Ductal"),
    ("malaria", "IDC4_early_troph(cl1)"),
)
SETTINGS = {
    "extend, default": {},
    "no landmarks": {"reconstruction": 0.0},
    "weight 1": {"reconstruction": 1.0},
    "weight 100": {"reconstruction": 100.0},
    "200 steps": {"n_steps": 200},
    "rate 0.001": {"learning_rate": 1e-3},
    "rate 0.01": {"learning_rate": 1e-2},
}


def aligned(Z: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Shift, rotate, reflect and scale a map to lie as closely on another as it can."""
    centred, target = Z - Z.mean(axis=0), wanted - wanted.mean(axis=0)
    rotation, scale = orthogonal_procrustes(centred, target)
    return centred @ rotation * scale / np.square(centred).sum() + wanted.mean(axis=0)


def moved(Z: np.ndarray, before: np.ndarray) -> float:
    """Give the median distance between two places of a cell, in standard deviations of the map."""
    distance = np.linalg.norm(Z - before, axis=1)
    return float(np.median(distance) / np.sqrt(before.var(axis=0).mean()))


def main() -> None:
    """Print a table for each type that is left out."""
    for data, left_out in LEFT_OUT:
        adata = getattr(rpumap.datasets, data)()
        labels = adata.obs["clusters"].astype(str).to_numpy()
        is_left = labels == left_out
        prep = rpumap.Preprocessor().fit(adata[~is_left])
        X, X_new = prep.transform(adata[~is_left]), prep.transform(adata[is_left])
        labels = np.concatenate([labels[~is_left], labels[is_left]])
        rows = [
            {"way": way, "seed": seed} | row
            for seed in SEEDS
            for way, row in measure(X, X_new, labels, seed).items()
        ]
        table = pd.DataFrame(rows).drop(columns="seed").groupby("way", sort=False)
        spread = table.std().iloc[:3].rename(index="sd of {}".format)
        print(f"\n{data}: {len(X_new)} cells of {left_out}, {len(X)} others, {len(SEEDS)} seeds")
        print(pd.concat([table.mean(), spread]).round(3).to_string(), flush=True)


def measure(
    X: np.ndarray, X_new: np.ndarray, labels: np.ndarray, seed: int
) -> dict[str, dict[str, float]]:
    """Score each way to take in the new cells."""
    model = rpumap.ParametricUMAP(random_state=seed).fit(X)
    every = np.concatenate([X, X_new])
    is_new = np.arange(len(every)) >= len(X)

    def score(embed: Callable[[], np.ndarray]) -> dict[str, float]:
        began = time.perf_counter()
        Z = embed()
        seconds = time.perf_counter() - began
        near = NearestNeighbors(n_neighbors=15).fit(Z).kneighbors(return_distance=False)
        called_new = is_new[near].mean(axis=1) > 0.5
        return {
            "drift": moved(Z[~is_new], model.embedding_),
            "aligned": moved(aligned(Z[~is_new], model.embedding_), model.embedding_),
            "trust": trustworthiness(every, Z),
            "old": trustworthiness(X, Z[~is_new]),
            "new": trustworthiness(X_new, Z[is_new]),
            "accuracy": knn_accuracy(Z, labels),
            "found": called_new[is_new].mean(),
            "alien": (called_new & ~is_new).sum() / max(called_new.sum(), 1),
            "seconds": seconds,
        }

    def extended(settings: dict) -> Callable[[], np.ndarray]:
        return lambda: rpumap.extend(model, X, X_new, **settings).embedding_

    anew = rpumap.ParametricUMAP(random_state=seed)
    return {
        "mapped, no refit": score(lambda: model.transform(every)),
        "fit from scratch": score(lambda: anew.fit(every).embedding_),
    } | {name: score(extended(settings)) for name, settings in SETTINGS.items()}


if __name__ == "__main__":
    main()
