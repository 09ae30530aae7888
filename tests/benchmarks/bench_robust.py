"""How much narrower are the certified boxes after robust training, and what does it cost?

Run ``python tests/benchmarks/bench_robust.py [seeds]``. 300 genes of the pancreas cells, linf balls
of radius 0.2, the defaults of :func:`rpumap.robustify`. Widths are those of CROWN, over all cells.
"""

from __future__ import annotations

import sys
import time

import numpy as np

import rpumap
from rpumap.metrics import knn_accuracy, trustworthiness

EPS = 0.2


def report(name: str, model: rpumap.ParametricUMAP, base: rpumap.ParametricUMAP, width: float):
    """Print a row; return the mean width of the boxes."""
    lower, upper = rpumap.certify(model, X, EPS)
    mean = float((upper - lower).mean())
    axes = zip(model.embedding_.T, base.embedding_.T, strict=True)
    correlation = min(np.corrcoef(new, old)[0, 1] for new, old in axes)
    scores = trustworthiness(X, model.embedding_), knn_accuracy(model.embedding_, labels)
    print(f"{name:16}{mean:8.2f}{(width or mean) / mean:8.1f}", end="")
    print(f"{scores[0]:10.4f}{scores[1]:10.4f}{correlation:13.4f}", end="")
    return mean


if __name__ == "__main__":
    adata = rpumap.datasets.pancreas()
    X = rpumap.Preprocessor(n_top_genes=300).fit_transform(adata)
    labels = adata.obs["clusters"]
    print(adata.uns["source"])
    print("                   width narrower  trustw.  accuracy  correlation  seconds")
    for seed in range(int(sys.argv[1]) if len(sys.argv) > 1 else 3):
        base = rpumap.ParametricUMAP(random_state=seed).fit(X)
        width = report(f"seed {seed}, base", base, base, 0.0)
        print()
        for penalty in ("width", "area"):
            start = time.perf_counter()
            robust = rpumap.robustify(base, X, EPS, penalty=penalty)
            seconds = time.perf_counter() - start
            report(f"seed {seed}, {penalty}", robust, base, width)
            print(f"{seconds:9.1f}", flush=True)
