"""The cells that all methods are fitted to, as arrays on disk: prepared once, outside the clock.

Four fifths of the cells train, the others are held out; of these at most 4,000 are placed on the
map. A simulated set has the number of training cells that its name says, the held-out ones beside
them. Genes, means and deviations come from the training cells alone.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from anndata import AnnData

N_GENES = 300
MOST_NEW = 4_000
CHUNK = 100_000  # cells simulated at a time: the draws need much more memory than the counts
SEED = 0
SIMULATED = {
    "simulated_1k": 1_000,
    "simulated_4k": 3_696,
    "simulated_18k": 18_213,
    "simulated_100k": 100_000,
    "simulated_1m": 1_000_000,
}
NAMES = ("pancreas", "malaria", *SIMULATED)


@dataclass(frozen=True)
class Cells:
    """What is known of a prepared set beside its arrays."""

    n_training: int
    n_new: int
    n_genes: int
    simulated: bool


def prepare(name: str, folder: Path) -> Cells | None:
    """Write the arrays of a set, unless they are there; None where its real cells are not."""
    described = folder / "cells.json"
    if described.exists():
        return Cells(**json.loads(described.read_text()))
    if name not in SIMULATED:
        adata = real_cells(name)
        if adata is None:
            return None
        adata = adata[np.random.default_rng(SEED).permutation(adata.n_obs)].copy()
        chunks, n_new = iter([adata]), adata.n_obs // 5
        n_training = adata.n_obs - n_new
    else:
        n_training = SIMULATED[name]
        n_new = min(n_training // 4, MOST_NEW)
        chunks = simulated_cells(n_training + n_new)
    folder.mkdir(parents=True, exist_ok=True)
    cells = Cells(n_training, min(n_new, MOST_NEW), N_GENES, name in SIMULATED)
    write_arrays(chunks, n_new, cells, folder)
    described.write_text(json.dumps(asdict(cells)))
    return cells


def real_cells(name: str) -> AnnData | None:
    """Read real cells with their types in ``obs["label"]``, where they can be had."""
    import rpumap

    if name == "pancreas":
        adata = rpumap.datasets.pancreas()
        adata.obs["label"] = adata.obs["clusters"]
        return None if adata.uns["simulated"] else adata
    path = Path(os.environ.get("RPUMAP_DATA_DIR") or ".", "malaria_pberghei_10x.h5ad")
    if not path.exists():
        return None
    from anndata import read_h5ad

    adata = read_h5ad(path)
    adata.obs["label"] = adata.obs["stage"]
    return adata


def simulated_cells(n_cells: int) -> Iterator[AnnData]:
    """Draw cells like those of the pancreas stand-in, in random order, some at a time."""
    import pandas as pd

    import rpumap

    tables = resources.files("rpumap.datasets") / "tables"
    clusters, genes = (
        pd.read_csv(tables / f"pancreas_{what}.csv", index_col=0, comment="#")
        for what in ("clusters", "genes")
    )
    for seed, start in enumerate(range(0, n_cells, CHUNK)):
        adata = rpumap.datasets.simulate_lineage(
            clusters, genes, n_cells=min(CHUNK, n_cells - start), random_state=seed
        )
        adata.obs["label"] = adata.obs["clusters"]
        yield adata


def write_arrays(chunks: Iterator[AnnData], n_new: int, cells: Cells, folder: Path) -> None:
    """Write z-scores and labels; the first cells of the first chunk are held out."""
    import rpumap

    shape = (cells.n_training, cells.n_genes)
    X = np.lib.format.open_memmap(folder / "X.npy", mode="w+", dtype=np.float32, shape=shape)
    prep, labels, done = None, [], 0
    for adata in chunks:
        if prep is None:
            new, adata = adata[:n_new], adata[n_new:]
            prep = rpumap.Preprocessor(n_top_genes=cells.n_genes).fit(adata)
            np.save(folder / "X_new.npy", prep.transform(new[: cells.n_new]))
            np.save(folder / "labels_new.npy", as_text(new[: cells.n_new]))
        X[done : done + adata.n_obs] = prep.transform(adata)
        done += adata.n_obs
        labels.append(as_text(adata))
    X.flush()
    np.save(folder / "labels.npy", np.concatenate(labels))


def as_text(adata: AnnData) -> np.ndarray:
    """Return the labels as an array of text, which is saved without pickling."""
    return adata.obs["label"].astype(str).to_numpy().astype(str)
