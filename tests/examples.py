"""What several test files draw or count, in the slow and obvious way."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from anndata import AnnData
from scipy.sparse import csr_matrix


def three_types(n_cells: int = 300, n_genes: int = 40, seed: int = 0) -> AnnData:
    """Draw counts of three types; one gene in four is a marker, five times as high in one type."""
    draw = np.random.default_rng(seed)
    rate = np.tile(draw.gamma(1, 2, n_genes), (n_cells, 1))
    kind = np.arange(n_cells) % 3
    for marker in range(0, n_genes, 4):
        rate[kind == marker // 4 % 3, marker] *= 5
    counts = draw.poisson(rate * draw.lognormal(0, 0.3, (n_cells, 1)) + 0.05)
    adata = AnnData(csr_matrix(counts.astype(np.float32)))
    adata.var_names = [f"gene{g}" for g in range(n_genes)]
    return adata


def labels_at(
    points: np.ndarray, Z: np.ndarray, labels: np.ndarray, k: int, own: np.ndarray | None = None
) -> np.ndarray:
    """Classify by counting, one point at a time; ties go to the label that sorts first."""
    found = []
    for i, point in enumerate(points):
        distance = ((Z - point) ** 2).sum(1)
        if own is not None:
            distance[own[i]] = np.inf
        names, votes = np.unique(
            labels[np.argsort(distance, kind="stable")[:k]], return_counts=True
        )
        found.append(names[votes.argmax()])
    return np.array(found)


def default_device_meta() -> torch.device:
    """Give a default device without values; skip the test if PyTorch does not tell of it."""
    with torch.device("meta"):
        if torch.get_default_device().type != "meta":
            pytest.skip("this PyTorch does not tell of a default device that a block has set")
    return torch.device("meta")
