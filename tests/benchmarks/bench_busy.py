"""How much longer a fit takes while other programs keep the processor busy.

``python tests/benchmarks/bench_busy.py`` fits the pancreas cells and the 18,213 cells of the
dentate gyrus stand-in with the default settings: alone, beside one program that keeps a core busy,
and beside as many as there are cores. Each fit runs in a process of its own, whose environment does
not set any number of threads. The loads take turns, so that what else the machine does falls on all
alike. The time is that of ``fit``, imports and data apart. ``--rounds`` sets the number of turns,
``--cells`` takes one data set only.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd

import rpumap
from rpumap._threads import granted_cores

FIT = """
import sys, time
import numpy as np
from rpumap import ParametricUMAP
X = np.load(sys.argv[1])
ParametricUMAP(random_state=0, n_steps=1).fit(X[:50])  # what is loaded at first use
start = time.perf_counter()
ParametricUMAP(random_state=0).fit(X)
print(time.perf_counter() - start)
"""
BUSY = "while True: pass"
THREADS = ("OMP_", "MKL_", "OPENBLAS_NUM", "NUMBA_NUM", "KMP_", "GOMP_")


@contextmanager
def busy(n_programs: int) -> Iterator[None]:
    """Keep so many cores busy for a while."""
    programs = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(n_programs)]
    try:
        yield
    finally:
        for program in programs:
            program.kill()
            program.wait()


def seconds_of_a_fit(path: Path) -> float:
    """Time a fit in a fresh process, in an environment without settings of threads."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(THREADS)}
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FIT, str(path)],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return float(run.stdout.splitlines()[-1])


def measure(X: np.ndarray, loads: list[int], n_rounds: int) -> pd.DataFrame:
    """Time fits under each load in turn; one row a load."""
    times: dict[int, list[float]] = {load: [] for load in loads}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "X.npy"
        np.save(path, X)
        for _ in range(n_rounds):
            for load in loads:
                with busy(load):
                    times[load].append(seconds_of_a_fit(path))
    medians = {load: statistics.median(found) for load, found in times.items()}
    rows = [
        {
            "busy programs": load,
            "seconds, median": round(medians[load], 2),
            "lowest": round(min(times[load]), 2),
            "highest": round(max(times[load]), 2),
            "quiet time = 1": round(medians[load] / medians[0], 2),
        }
        for load in loads
    ]
    return pd.DataFrame(rows)


def main() -> None:
    """Print one table for each data set."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cells", choices=["pancreas", "dentate_gyrus"])
    given = parser.parse_args()
    loads = sorted({0, 1, granted_cores()})
    for name in [given.cells] if given.cells else ["pancreas", "dentate_gyrus"]:
        adata = getattr(rpumap.datasets, name)()
        X = rpumap.Preprocessor(n_top_genes=300).fit_transform(adata)
        print(f"{name}: {X.shape[0]:,} cells, {granted_cores()} cores, {given.rounds} rounds")
        print(measure(X, loads, given.rounds).to_string(index=False), flush=True)


if __name__ == "__main__":
    main()
