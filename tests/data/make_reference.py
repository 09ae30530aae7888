"""Write ``reference_vN.rpumap``, the file of format version N that every later version must read.

It is run once for each version, when that is new: a file written anew would not show that old ones
still load. All cells are simulated.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

import rpumap
from rpumap.reference.file import VERSION

HERE = Path(__file__).resolve().parent


def main() -> None:
    """Fit to every eighth cell, and keep what twenty others get."""
    path = HERE / f"reference_v{VERSION}.rpumap"
    if path.exists():
        sys.exit(f"{path} is kept as it is")
    adata = rpumap.datasets.pancreas(source="simulated")
    ref = rpumap.ReferenceMap(n_top_genes=40).fit(adata[::8].copy(), labels="clusters")
    ref.save(path)
    query = ref.map(adata[1:400:20].copy())
    np.savez_compressed(
        path.with_suffix(".npz"),
        counts=query[:, ref.preprocessor_.genes_].X.toarray(),
        library_size=rpumap.preprocessing.library_size(query),
        genes=ref.preprocessor_.genes_,
        coordinates=query.obsm["X_umap"],
        labels=query.obs["rpumap_label"].astype(str).to_numpy(dtype=str),
        novelty=query.obs["rpumap_novelty"].to_numpy(),
    )


if __name__ == "__main__":
    main()
