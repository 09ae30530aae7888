"""What the scripts share that make files of real cells from published tables."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData


def check_counts(path: Path, values: np.ndarray) -> None:
    """Refuse what cannot be raw counts; `path` is where they come from."""
    if not np.isfinite(values).all() or (values < 0).any() or (values % 1).any():
        raise ValueError(f"{path} must hold raw counts: whole numbers of at least 0")


def add_totals(adata: AnnData) -> None:
    """Add the library size of each cell and its number of detected genes to ``obs``."""
    adata.obs["library_size"] = np.ravel(adata.X.sum(axis=1)).astype(int)
    adata.obs["n_genes_detected"] = np.diff(adata.X.indptr)


def write(adata: AnnData, path: Path) -> None:
    """Write a file that is either complete or not there; an older one stays until then."""
    part = path.with_name(f"{path.name}.part")
    try:
        adata.write_h5ad(part, compression="gzip")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    print(f"{path}: {adata.n_obs:,} cells and {adata.n_vars:,} genes")


def some(names: Sequence[str] | np.ndarray, most: int = 5) -> str:
    """Join the first of several names for a message."""
    return ", ".join(map(str, names[:most])) + (", ..." if len(names) > most else "")
