"""Time and quality of one fit on the pancreas cells, beside umap-learn, in fresh processes.

Run ``RPUMAP_DATA_DIR=... python tests/benchmarks/bench_fit.py``, with ``OMP_NUM_THREADS`` and
``NUMBA_NUM_THREADS`` to choose the number of threads. Each line is one process: import, graph and
training; preprocessing is done before and not counted. The two take turns, so that whatever else
the machine does meets both; processor time tells more than wall time on a busy machine. Scores
and times are averaged over the seeds.
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
print(time.perf_counter() - start, time.process_time())
np.save("{folder}/Z.npy", Z)
"""
UMAP = """
import time; start = time.perf_counter()
import numpy as np
from umap import UMAP
X = np.load("{folder}/X.npy")
Z = UMAP(random_state={seed}).fit_transform(X)
print(time.perf_counter() - start, time.process_time())
np.save("{folder}/Z.npy", Z)
"""


def run(code: str, folder: str, seed: int) -> tuple[float, float]:
    """Run one fit in a fresh process and return its seconds: on the wall, and of the processor."""
    script = code.format(folder=folder, seed=seed)
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    wall, processor = map(float, done.stdout.split())
    return wall, processor


def show(name: str, seed: int | str, row: np.ndarray) -> None:
    """Print the times and scores of one fit, or their means."""
    print(f"{name:10s}  {seed!s:>4}  {row[0]:7.1f}  {row[1]:12.1f}", end="")
    print(f"  {row[2]:15.4f}  {row[3]:14.4f}", flush=True)


def main() -> None:
    """Print a line a fit, the averages, and the ratios of the times."""
    import rpumap
    from rpumap.metrics import knn_accuracy, trustworthiness

    adata = rpumap.datasets.pancreas()
    X = rpumap.Preprocessor(n_top_genes=300).fit_transform(adata)
    labels = adata.obs["clusters"]
    print(adata.uns["source"])
    print("            seed  wall, s  processor, s  trustworthiness  15-NN accuracy")
    rows: dict[str, list[np.ndarray]] = {"rpumap": [], "umap-learn": []}
    with tempfile.TemporaryDirectory() as folder:
        np.save(Path(folder, "X.npy"), X)
        for seed in range(3):
            for name, code in (("rpumap", OWN), ("umap-learn", UMAP)):
                times = run(code, folder, seed)
                Z = np.load(Path(folder, "Z.npy"))
                row = np.array([*times, trustworthiness(X, Z), knn_accuracy(Z, labels)])
                rows[name].append(row)
                show(name, seed, row)
    own, umap = (np.mean(every, axis=0) for every in rows.values())
    show("rpumap", "mean", own)
    show("umap-learn", "mean", umap)
    print(f"time, umap-learn = 1: wall {own[0] / umap[0]:.2f}, processor {own[1] / umap[1]:.2f}")


if __name__ == "__main__":
    main()
