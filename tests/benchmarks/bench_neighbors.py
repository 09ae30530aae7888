"""Where does exact search stop being faster than NNDescent, compilation included?

Run ``python tests/benchmarks/bench_neighbors.py 20000 60000``. Each search runs in a fresh process,
as a user's first call does. The table behind ``rpumap.graph.EXACT_LIMIT``.
"""

from __future__ import annotations

import subprocess
import sys

SEARCH = """
import time
import numpy as np
from rpumap.graph import nearest_neighbors

n_cells, method = {n_cells}, "{method}"
draw = np.random.default_rng(0)
# twenty programmes of genes and noise: about as hard as z-scores of cells
X = draw.normal(size=(n_cells, 20)) @ draw.normal(size=(20, 300)) + draw.normal(size=(n_cells, 300))
X = X.astype(np.float32)
start = time.perf_counter()
nearest_neighbors(X, 15, method=method, random_state=0)
print(time.perf_counter() - start)
"""


def seconds(n_cells: int, method: str) -> float:
    """Time one search in a fresh process."""
    code = SEARCH.format(n_cells=n_cells, method=method)
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return float(run.stdout)


if __name__ == "__main__":
    print(f"{'cells':>8}  {'exact':>8}  {'nndescent':>9}   seconds")
    for n_cells in map(int, sys.argv[1:] or ["3696", "20000"]):
        exact, approximate = (seconds(n_cells, method) for method in ("exact", "nndescent"))
        print(f"{n_cells:8d}  {exact:8.1f}  {approximate:9.1f}")
