"""Wrote ``reference_v1.rpumap``, the file of format version 1 that every later version must read.

It is not run again: a file written anew would not show that old ones still load. All cells are
simulated.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

import rpumap

HERE = Path(__file__).resolve().parent


def main() -> None:
    """Fit to every eighth cell, and keep what twenty others get."""
    adata = rpumap.datasets.pancreas(source="simulated")
    ref = rpumap.ReferenceMap(n_top_genes=40).fit(adata[::8].copy(), labels="clusters")
    ref.save(HERE / "reference_v1.rpumap")
    query = ref.map(adata[1:400:20].copy())
    np.savez_compressed(
        HERE / "reference_v1.npz",
        counts=query[:, ref.preprocessor_.genes_].X.toarray(),
        library_size=rpumap.preprocessing.library_size(query),
        genes=ref.preprocessor_.genes_,
        coordinates=query.obsm["X_umap"],
        labels=query.obs["rpumap_label"].astype(str).to_numpy(dtype=str),
        novelty=query.obs["rpumap_novelty"].to_numpy(),
    )


if __name__ == "__main__":
    main()
