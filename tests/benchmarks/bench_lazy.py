"""Map a million simulated cells from disk: memory, and rate beside cells in memory.

``python tests/benchmarks/bench_lazy.py`` writes the cells into a temporary folder (3.4 GB;
a quarter of an hour on two cores). Each measurement has a process of its own. Rates are those of
one run, beside the rate of 20,000 of the same cells in memory, measured before and after it. The
last line is about a cluster of two worker processes, one of which is killed half way.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import anndata
import dask
import h5py
import numpy as np
import pandas as pd
from anndata.experimental import read_lazy
from scipy.sparse import csr_matrix

import rpumap

RESULTS = Path(__file__).resolve().parents[2] / "book" / "lazy.json"
PIECE = 20_000
RESIDENT = 20_000


def write_cells(path: Path, n_cells: int) -> None:
    """Draw cells of the simulated pancreas again, with the noise of counting, piece by piece."""
    base = rpumap.datasets.pancreas(source="simulated")
    draw = np.random.default_rng(0)
    chosen = draw.integers(base.n_obs, size=n_cells)
    counts = csr_matrix(base.X, dtype=np.float32)
    with h5py.File(path, "w") as file:
        for start in range(0, n_cells, PIECE):
            piece = counts[chosen[start : start + PIECE]]
            piece.data = draw.poisson(piece.data).astype(np.float32)
            piece.eliminate_zeros()
            if start:
                anndata.io.sparse_dataset(file["X"]).append(piece)
            else:
                anndata.io.write_elem(file, "X", piece)
        obs = base.obs[["clusters"]].iloc[chosen].set_axis(np.arange(n_cells).astype(str))
        anndata.io.write_elem(file, "obs", pd.DataFrame(obs))
        anndata.io.write_elem(file, "var", base.var)
        for part in ("layers", "obsm", "varm", "obsp", "varp", "uns"):
            anndata.io.write_elem(file, part, {})
        file.attrs.update({"encoding-type": "anndata", "encoding-version": "0.1.0"})


def work(folder: Path, what: str, scheduler: str) -> dict[str, float]:
    """Map the cells, or bound them, and time it; the first cells once before, to warm up."""
    ref = rpumap.ReferenceMap.load(folder / "pancreas.rpumap")
    lazy = read_lazy(folder / "cells.h5ad")
    resident = lazy[:RESIDENT].to_memory()

    def run(adata: anndata.AnnData) -> list:
        if what == "boxes":
            return list(dask.compute(*ref.certify(adata, 0.05, method="crown_ibp")))
        mapped = ref.map(adata.copy(), method=None)
        results = mapped.obsm["X_umap"], mapped.obs["rpumap_label"], mapped.obs["rpumap_novelty"]
        return list(dask.compute(*(getattr(result, "data", result) for result in results)))

    def rate(adata: anndata.AnnData) -> float:
        start = time.perf_counter()
        run(adata)
        return adata.n_obs / (time.perf_counter() - start)

    with dask.config.set(scheduler=scheduler):
        run(resident[:1000].copy())
        before = rate(resident)
        found = rate(lazy)
        after = rate(resident)
    in_memory = (before + after) / 2
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # GiB; kB on Linux
    return {"cells/s": found, "in memory": in_memory, "ratio": found / in_memory, "GiB": peak}


def cluster(folder: Path) -> dict[str, float | bool]:
    """Map the cells on two workers, kill one half way, and compare with one process."""
    from distributed import Client, LocalCluster, as_completed

    ref = rpumap.ReferenceMap.load(folder / "pancreas.rpumap")
    known = ref.map(read_lazy(folder / "cells.h5ad"), method=None, compute=True)
    lazy = ref.map(read_lazy(folder / "cells.h5ad"), method=None)
    names = ("rpumap_novelty", "rpumap_label")
    results = [lazy.obsm["X_umap"], *(lazy.obs[name].data for name in names)]
    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
    options["silence_logs"] = logging.CRITICAL  # of what the killed worker takes with it
    with LocalCluster(**options) as workers, Client(workers) as client:
        start = time.perf_counter()
        tables = client.persist(results)
        blocks = client.futures_of(tables)
        for done, future in enumerate(as_completed(blocks)):
            if done == len(blocks) // 2:
                address = client.who_has([future])[future.key][0]
                os.kill(client.run(os.getpid)[address], signal.SIGKILL)
        found = client.gather(client.compute(tables))
        rate = len(lazy) / (time.perf_counter() - start)
    wanted = [known.obsm["X_umap"], *(np.asarray(known.obs[name]) for name in names)]
    same = all(np.array_equal(a, b) for a, b in zip(found, wanted, strict=True))
    return {"cells/s": rate, "the same numbers": same}


def main() -> None:
    """Write the cells, and run each measurement in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path, help="keep the cells there")
    parser.add_argument("--publish", action="store_true", help="keep results in book/lazy.json")
    parser.add_argument("--one", nargs=2, metavar=("WHAT", "SCHEDULER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        warnings.simplefilter("ignore")
        what, scheduler = options.one
        one = what == "cluster"
        print(json.dumps(cluster(options.folder) if one else work(options.folder, what, scheduler)))
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        folder.mkdir(exist_ok=True, parents=True)
        if not (folder / "cells.h5ad").exists():
            write_cells(folder / "new.h5ad", options.cells)
            (folder / "new.h5ad").rename(folder / "cells.h5ad")
        atlas = rpumap.datasets.pancreas(source="simulated")
        rpumap.ReferenceMap().fit(atlas, labels="clusters").save(folder / "pancreas.rpumap")
        rows = []
        kinds = [(what, how) for what in ("map", "boxes") for how in ("synchronous", "threads")]
        for what, how in [*kinds, ("cluster", "distributed")]:
            command = [sys.executable, __file__, "--folder", str(folder), "--one", what, how]
            out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            row = json.loads(out.splitlines()[-1])
            print(what, how, {name: round(value, 2) for name, value in row.items()})
            rows.append({"what": what, "scheduler": how} | row)
    if options.publish:
        text = json.dumps({"cells": options.cells, "rows": rows}, indent=1)
        RESULTS.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
