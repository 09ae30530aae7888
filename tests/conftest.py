"""Settings that every test shares."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

# Empty counts as unset; and notebooks run in their own folder, so the path must not be relative.
if os.environ.get("RPUMAP_DATA_DIR", "").strip():
    os.environ["RPUMAP_DATA_DIR"] = str(Path(os.environ["RPUMAP_DATA_DIR"]).resolve())
else:
    os.environ.pop("RPUMAP_DATA_DIR", None)

# Figures are drawn in memory, on machines with and without a screen.
os.environ.setdefault("MPLBACKEND", "agg")


@pytest.fixture(scope="session")
def root() -> Path:
    """Give the folder of the project."""
    return Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def cells() -> SimpleNamespace:
    """Prepare the book's pancreas cells: the real ones where they are there, else simulated."""
    import rpumap

    adata = rpumap.datasets.pancreas()
    X = rpumap.Preprocessor(n_top_genes=300).fit_transform(adata)
    return SimpleNamespace(adata=adata, X=X, labels=adata.obs["clusters"])
