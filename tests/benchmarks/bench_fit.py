"""Time and quality of one fit on the pancreas cells, beside umap-learn, in fresh processes.

Run ``RPUMAP_DATA_DIR=... python tests/benchmarks/bench_fit.py``. Each line is one process: import,
graph and training; preprocessing is done before and not counted. The scores of both are averaged
over the seeds.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

OWN = """
import time; start = time.perf_counter()
import numpy as np
from rpumap import ParametricUMAP
X = np.load("{folder}/X.npy")
Z = ParametricUMAP(random_state={seed}).fit_transform(X)
print(time.perf_counter() - start)
np.save("{folder}/Z.npy", Z)
"""
UMAP = """
import time; start = time.perf_counter()
import numpy as np
from umap import UMAP
X = np.load("{folder}/X.npy")
Z = UMAP(random_state={seed}).fit_transform(X)
print(time.perf_counter() - start)
np.save("{folder}/Z.npy", Z)
"""


def run(code: str, folder: str, seed: int) -> float:
    """Run one fit in a fresh process and return its seconds."""
    script = code.format(folder=folder, seed=seed)
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    return float(done.stdout)


def main() -> None:
    """Print a line a fit, and the averages."""
    import rpumap
    from rpumap.metrics import knn_accuracy, trustworthiness

    adata = rpumap.datasets.pancreas()
    X = rpumap.Preprocessor(n_top_genes=300).fit_transform(adata)
    labels = adata.obs["clusters"]
    print(adata.uns["source"])
    with tempfile.TemporaryDirectory() as folder:
        np.save(Path(folder, "X.npy"), X)
        for name, code in (("rpumap", OWN), ("umap-learn", UMAP)):
            rows = []
            for seed in range(3):
                elapsed = run(code, folder, seed)
                Z = np.load(Path(folder, "Z.npy"))
                rows.append((elapsed, trustworthiness(X, Z), knn_accuracy(Z, labels)))
                print(f"{name:12s} seed {seed}  {rows[-1][0]:6.1f} s", end="")
                print(f"  trustworthiness {rows[-1][1]:.4f}  15-NN accuracy {rows[-1][2]:.4f}")
            means = np.mean(rows, axis=0)
            print(f"{name:12s} mean    {means[0]:6.1f} s", end="")
            print(f"  trustworthiness {means[1]:.4f}  15-NN accuracy {means[2]:.4f}")


if __name__ == "__main__":
    main()
