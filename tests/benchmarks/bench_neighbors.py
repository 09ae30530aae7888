"""Time, memory and recall of the searches for neighbours, each in a fresh process.

Run ``python tests/benchmarks/bench_neighbors.py 3696 20000 60000 100000`` to see up to which size
an exact search is worth its time: the table behind ``rpumap.graph.EXACT_LIMIT``. A fresh process is
what a user's first call meets: NNDescent compiles itself there. Processor time tells more than wall
time on a busy machine. ``--methods`` takes some of the methods only; ``--set GROUP_SIZE=50`` shows
what the constants of :mod:`rpumap.graph` do.

The cells are simulated along a lineage of eight types, 300 z-scored genes each: data in which noise
makes all distances alike, the hard case. ``--data X.npy`` takes a table of your own.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

TREE = {"a": None, "b": "a", "c": "b", "d": "b", "e": "c", "f": "c", "g": "d", "h": "g"}
SEARCH = """
import re, sys, time
from pathlib import Path
import numpy as np
from rpumap import graph

path, method, *settings = sys.argv[1:]
for setting in settings:
    name, value = setting.split("=")
    setattr(graph, name, type(getattr(graph, name))(float(value)))
X = np.load(path)
start, used = time.perf_counter(), time.process_time()
indices, distances = graph.nearest_neighbors(X, 15, method=method, random_state=0)
found, used_found = time.perf_counter(), time.process_time()
graph.fuzzy_graph(indices, distances)
print(found - start, used_found - used, time.perf_counter() - found)
status = Path("/proc/self/status")  # of Linux
kilobytes = re.search(r"VmHWM:\\s*(\\d+)", status.read_text()) if status.exists() else None
print(int(kilobytes[1]) / 2**10 if kilobytes else "nan")
np.save(path + ".found.npy", indices)
"""


def simulated(n_cells: int) -> np.ndarray:
    """Draw cells along a lineage and prepare them as for a map."""
    import rpumap

    adata = rpumap.datasets.simulate_lineage(TREE, n_genes=500, n_cells=n_cells)
    return rpumap.Preprocessor(n_top_genes=300).fit_transform(adata)


def true_neighbors(X: np.ndarray, cells: np.ndarray) -> np.ndarray:
    """Find the 15 nearest neighbours of some cells in double precision."""
    X = X.astype(np.float64)
    squared = (X**2).sum(axis=1) - 2 * X[cells] @ X.T
    return np.argpartition(squared, 14, axis=1)[:, :15]


def measure(X: np.ndarray, method: str, settings: list[str]) -> tuple[float, ...]:
    """Run one search in a fresh process: seconds, peak MB of the process, recall."""
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "X.npy")
        np.save(path, X)
        command = [sys.executable, "-W", "ignore", "-c", SEARCH, path, method, *settings]
        run = subprocess.run(command, capture_output=True, text=True, check=True)
        found = np.load(path + ".found.npy")
    wall, processor, graph, memory = map(float, run.stdout.split())
    cells = np.random.default_rng(0).choice(len(X), min(len(X), 500), replace=False)
    pairs = zip(true_neighbors(X, cells), found[cells], strict=True)
    return wall, processor, graph, memory, float(np.mean([np.isin(*pair).mean() for pair in pairs]))


def main() -> None:
    """Print a line for each size and method."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sizes", type=int, nargs="*", default=[3696, 20_000])
    parser.add_argument("--methods", nargs="+", default=["exact", "ivf", "nndescent"])
    parser.add_argument("--set", nargs="+", default=[], dest="settings", metavar="NAME=VALUE")
    parser.add_argument("--data", type=Path)
    given = parser.parse_args()
    print("   cells  method      wall, s  processor, s  graph, s    peak, MB  recall")
    for n_cells in given.sizes:
        X = np.load(given.data)[:n_cells] if given.data else simulated(n_cells)
        for method in given.methods:
            wall, processor, graph, memory, recall = measure(X, method, given.settings)
            print(f"{len(X):8d}  {method:10s}  {wall:7.2f}  {processor:12.2f}", end="")
            print(f"  {graph:8.2f}  {memory:10.0f}  {recall:6.3f}", flush=True)


if __name__ == "__main__":
    main()
