"""What the tests of the data sets share: the stand-in, the real cells, an empty folder."""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib import resources
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

from rpumap.datasets import pancreas


@pytest.fixture(scope="session")
def pancreas_sizes() -> dict[str, int]:
    """Give the clusters of the pancreas in lineage order, and their numbers of cells."""
    return {
        "Ductal": 916,
        "Ngn3 low EP": 262,
        "Ngn3 high EP": 642,
        "Pre-endocrine": 592,
        "Beta": 591,
        "Alpha": 481,
        "Delta": 70,
        "Epsilon": 142,
    }


@pytest.fixture(scope="session")
def tables() -> Callable[[str], pd.DataFrame]:
    """Give a function that reads a table of the package."""
    folder = resources.files("rpumap.datasets").joinpath("tables")

    def read(filename: str) -> pd.DataFrame:
        with folder.joinpath(filename).open() as file:
            return pd.read_csv(file, index_col=0, comment="#")

    return read


@pytest.fixture(scope="session")
def rates() -> Callable[[AnnData], np.ndarray]:
    """Give a function that computes counts per 10,000 counts of library."""
    return lambda adata: adata.X.toarray() / adata.obs["library_size"].to_numpy()[:, None] * 1e4


@pytest.fixture(scope="session")
def standin() -> AnnData:
    """Draw the simulated pancreas."""
    return pancreas(source="simulated")


@pytest.fixture(scope="module")
def real() -> AnnData:
    """Read the real pancreas, or skip the test."""
    folder = os.environ.get("RPUMAP_DATA_DIR", "")
    if not folder or not (Path(folder) / "pancreas.h5ad").is_file():
        pytest.skip("RPUMAP_DATA_DIR does not name a folder with the real pancreas.h5ad")
    return pancreas(source="real")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make an empty folder that RPUMAP_DATA_DIR names."""
    path = tmp_path / "data"
    path.mkdir()
    monkeypatch.setenv("RPUMAP_DATA_DIR", str(path))
    return path
