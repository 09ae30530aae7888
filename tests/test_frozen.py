"""Results that must not change unnoticed, as stored in ``tests/data/frozen.npz``.

What follows from stored weights was computed before the modules of the package were rearranged, and
is compared everywhere, to rounding. The embeddings were stored when training came to draw negative
pairs several times. A last bit that another processor or another PyTorch rounds otherwise grows
from step to step of a training; so embeddings are compared only where they were stored with the
same of both. ``python tests/test_frozen.py`` stores the embeddings anew, after a change that is
meant to change them.
"""

from __future__ import annotations

import copy
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

import rpumap
from rpumap.dropout import drop_counts, dropout_box
from rpumap.sensitivity import jacobian
from rpumap.training import has_fast_bfloat16
from rpumap.verification import Box, SparseBox, labels_are_certain

FILE = Path(__file__).parent / "data" / "frozen.npz"
STORED = np.load(FILE)
HERE = f"torch {torch.__version__.split('+')[0]}, {torch.backends.cpu.get_cpu_capability()}, " + (
    "bfloat16" if has_fast_bfloat16(torch.device("cpu")) else "float32"
)
same_arithmetic = pytest.mark.skipif(
    str(STORED["arithmetic"]) != HERE, reason=f"stored with {STORED['arithmetic']}, here {HERE}"
)
OPTIONS = {"hidden_sizes": (24, 16), "n_steps": 60, "random_state": 0}


def prepare() -> SimpleNamespace:
    """Fit a small model on a few simulated cells, spread evenly between the types."""
    tables = Path(rpumap.datasets.__file__).parent / "tables"
    clusters, genes = (
        pd.read_csv(tables / f"pancreas_{name}.csv", index_col=0, comment="#")
        for name in ("clusters", "genes")
    )
    clusters = clusters.drop(columns=["crowding", "crowding_parent"])  # newer than what is stored
    adata = rpumap.datasets.simulate_lineage(clusters, genes, random_state=0)[::12].copy()
    prep = rpumap.Preprocessor(n_top_genes=40)
    X = prep.fit_transform(adata)
    model = rpumap.ParametricUMAP(**OPTIONS).fit(X)
    return SimpleNamespace(adata=adata, prep=prep, X=X, model=model)


def maps(data: SimpleNamespace) -> dict[str, np.ndarray]:
    """Embed the cells in each way that trains a network."""
    options = OPTIONS | {"weighting": "probability", "batch_size": 128}
    robust = rpumap.robustify(data.model, data.X, n_steps=40)
    area = {"n_steps": 20, "penalty": "area", "bound_method": "crown"}
    models = {
        "graph": data.model,
        "probability": rpumap.ParametricUMAP(**options).fit(data.X),
        "robust": robust,
        "area": rpumap.robustify(data.model, data.X, **area),
        "dropout": rpumap.resist_dropout(robust, data.prep, data.adata, n_steps=40),
    }
    return {name: model.embedding_ for name, model in models.items()}


@pytest.fixture(scope="module")
def data() -> SimpleNamespace:
    return prepare()


@pytest.fixture(scope="module")
def stored(data) -> rpumap.ParametricUMAP:
    """Give a model with the stored weights."""
    model = copy.deepcopy(data.model)
    for k, layer in enumerate(model.encoder_[::2]):
        layer.weight.data = torch.tensor(STORED[f"weight_{k}"])
        layer.bias.data = torch.tensor(STORED[f"bias_{k}"])
    model.embedding_ = STORED["embedding"]
    return model


def test_genes_and_z_scores(data):
    assert list(data.prep.genes_) == list(STORED["genes"])
    np.testing.assert_allclose(data.X[:10], STORED["X"], rtol=1e-6, atol=1e-6)


@same_arithmetic
def test_embeddings(data):
    for name, found in maps(data).items():
        wanted = STORED[f"map_{name}"]
        assert np.abs(found - wanted).max() < 0.02 * wanted.std(), name


@pytest.mark.parametrize("method", ["crown", "crown_ibp", "ibp"])
@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_bounds_over_balls(data, stored, norm, method):
    found = np.stack(rpumap.certify(stored, data.X[:12], 0.2, norm, method))
    np.testing.assert_allclose(found, STORED[f"bounds_{norm}_{method}"], rtol=1e-5, atol=1e-5)


def test_bounds_over_boxes(data, stored):
    few = data.X[:12]
    lower, upper = few - np.float32(0.1), few + np.float32(0.3)
    regions = {"box": Box(lower, upper), "sparse": SparseBox(few, lower, upper, max_changed=5)}
    for name, region in regions.items():
        found = np.stack(rpumap.certify(stored, region=region))
        np.testing.assert_allclose(found, STORED[f"bounds_{name}"], rtol=1e-5, atol=1e-5)


def test_certain_labels(data, stored):
    lower, upper = rpumap.certify(stored, data.X, 0.05)
    types = data.adata.obs["clusters"]
    certain = labels_are_certain(lower, upper, stored.embedding_, types, leave_one_out=True)
    assert (certain == STORED["certain"]).mean() > 0.99


def test_impact_and_jacobian(data, stored):
    np.testing.assert_allclose(rpumap.gene_impact(stored, data.X), STORED["impact"], rtol=1e-4)
    found = jacobian(stored, data.X[:5])
    np.testing.assert_allclose(found, STORED["jacobian"], rtol=1e-5, atol=1e-6)


def test_lost_counts(data):
    for falls in (False, True):
        box = dropout_box(data.prep, data.adata[:10].copy(), library_size_falls=falls)
        wanted = STORED[f"dropout_box_{falls}"]
        np.testing.assert_allclose(np.stack(box), wanted, rtol=1e-5, atol=1e-5)
    dropped = data.prep.transform(drop_counts(data.adata, 0.5, 0))
    np.testing.assert_allclose(dropped[:10], STORED["dropped"], rtol=1e-5, atol=1e-5)


if __name__ == "__main__":
    anew = {f"map_{name}": Z for name, Z in maps(prepare()).items()} | {"arithmetic": HERE}
    np.savez_compressed(FILE, **(dict(STORED) | anew))
