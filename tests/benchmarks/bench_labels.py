"""How long does it take to certify labels, and how does the time grow with the number of cells?

Run ``python tests/benchmarks/bench_labels.py``, with ``OMP_NUM_THREADS=1`` and, for real cells,
``RPUMAP_DATA_DIR`` where they are. First the pancreas cells at several eps, with and without robust
training: seconds for the boxes of :func:`rpumap.certify` and for the labels in them; both together
are :func:`rpumap.certified_label_fraction`. Then a growing number of the dentate gyrus cells
(simulated if the real ones cannot be had), each with a model of their own. 300 genes, the defaults
of all functions. ``--repeats`` takes the median of several runs, ``--cells`` other numbers of
cells. Seconds are those of the processor, which tell more than wall time on a busy machine.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from anndata import AnnData

import rpumap
from rpumap.verification import labels_are_certain

N_GENES, ROBUST_EPS = 300, 0.2


def timed(function: Callable[[], Any], repeats: int) -> tuple[float, Any]:
    """Return the median of the seconds that the processor works, and what the function returns."""
    seconds = []
    for _ in range(repeats):
        start = time.process_time()
        found = function()
        seconds.append(time.process_time() - start)
    return statistics.median(seconds), found


def measure(name: str, model: rpumap.ParametricUMAP, X, labels, eps: float, repeats: int) -> None:
    """Print a row: both times, their sum, and the share of certain labels."""
    for_boxes, (lower, upper) = timed(lambda: rpumap.certify(model, X, eps), repeats)
    Z = model.transform(X)
    for_labels, certain = timed(
        lambda: labels_are_certain(lower, upper, Z, labels, leave_one_out=True), repeats
    )
    print(f"{name:14}{len(X):7,}{eps:6.2f}{np.median(upper - lower):7.2f}", end="")
    print(f"{for_boxes:8.2f}{for_labels:8.2f}{for_boxes + for_labels:8.2f}{certain.mean():9.3f}")


def prepare(adata: AnnData) -> tuple[np.ndarray, np.ndarray, rpumap.ParametricUMAP]:
    """Return z-scores, labels, and a model of them."""
    X = rpumap.Preprocessor(n_top_genes=N_GENES).fit_transform(adata)
    return X, adata.obs["clusters"].to_numpy(), rpumap.ParametricUMAP(random_state=0).fit(X)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--cells", type=int, nargs="*", default=[2_000, 4_500, 9_000, 18_213])
    options = parser.parse_args()
    heading = "model           cells   eps  width   boxes  labels     sum  certain"

    adata = rpumap.datasets.pancreas()
    print(adata.uns["source"], heading, sep="\n")
    X, labels, model = prepare(adata)
    robust = rpumap.robustify(model, X, ROBUST_EPS)
    for eps in (0.02, 0.05, 0.1, 0.2):
        measure("plain", model, X, labels, eps, options.repeats)
        measure("robust", robust, X, labels, eps, options.repeats)

    adata = rpumap.datasets.dentate_gyrus()
    print(adata.uns["source"], heading, sep="\n")
    order = np.random.default_rng(0).permutation(adata.n_obs)
    for n_cells in options.cells:
        X, labels, model = prepare(adata[order[:n_cells]].copy())
        for eps in (0.02, 0.05):
            measure("plain", model, X, labels, eps, options.repeats)
