"""How much longer a fit takes while other programs keep the processor busy.

``python tests/benchmarks/bench_busy.py`` fits the pancreas cells and the 18,213 cells of the
dentate gyrus stand-in with the default settings: alone, beside one program that keeps a core busy,
and beside as many as there are cores. Each fit runs in a process of its own, whose environment does
not set any number of threads. The loads take turns, so that what else the machine does falls on all
alike. The time is that of ``fit``, imports and data apart.

``--rounds`` sets the number of turns, ``--cells`` takes one data set only. ``--pytorch`` adds fits
in which PyTorch chooses the number of threads itself: the measurement behind
:mod:`rpumap._threads`.
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
import contextlib, sys, time
import numpy as np
import rpumap
if sys.argv[2] == "PyTorch's":
    import rpumap._threads
    rpumap._threads.single_thread = contextlib.nullcontext
X = np.load(sys.argv[1])
rpumap.ParametricUMAP(random_state=0, n_steps=1).fit(X[:50])  # what is loaded at first use
start = time.perf_counter()
rpumap.ParametricUMAP(random_state=0).fit(X)
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


def seconds_of_a_fit(path: Path, threads: str) -> float:
    """Time a fit in a fresh process, in an environment without settings of threads."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(THREADS)}
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FIT, str(path), threads],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return float(run.stdout.splitlines()[-1])


def measure(X: np.ndarray, loads: list[int], threads: list[str], n_rounds: int) -> pd.DataFrame:
    """Time fits under each load in turn; one row for each load and choice of threads."""
    times: dict[tuple[str, int], list[float]] = {(t, load): [] for t in threads for load in loads}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "X.npy"
        np.save(path, X)
        for _ in range(n_rounds):
            for choice, load in times:
                with busy(load):
                    times[choice, load].append(seconds_of_a_fit(path, choice))
    medians = {key: statistics.median(found) for key, found in times.items()}
    rows = [
        {
            "threads": choice,
            "busy programs": load,
            "seconds, median": round(medians[choice, load], 2),
            "lowest": round(min(times[choice, load]), 2),
            "highest": round(max(times[choice, load]), 2),
            "quiet time = 1": round(medians[choice, load] / medians[choice, 0], 2),
        }
        for choice, load in times
    ]
    return pd.DataFrame(rows)


def main() -> None:
    """Print one table for each data set."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cells", choices=["pancreas", "dentate_gyrus"])
    parser.add_argument("--pytorch", action="store_true")
    given = parser.parse_args()
    loads = sorted({0, 1, granted_cores()})
    for name in [given.cells] if given.cells else ["pancreas", "dentate_gyrus"]:
        adata = getattr(rpumap.datasets, name)()
        X = rpumap.Preprocessor(n_top_genes=300).fit_transform(adata)
        print(f"{name}: {X.shape[0]:,} cells, {granted_cores()} cores, {given.rounds} rounds")
        threads = ["one", "PyTorch's"] if given.pytorch else ["one"]
        print(measure(X, loads, threads, given.rounds).to_string(index=False), flush=True)


if __name__ == "__main__":
    main()
