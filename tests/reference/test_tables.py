"""Tables in memory, in files and of dask: the same results for all."""

from __future__ import annotations

import copy
import os
import signal
import warnings

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData, read_h5ad
from scipy import sparse

import rpumap
from rpumap.reference.tables import LOOKED_AT, check_table, counts_of, is_lazy, labels_of

dask = pytest.importorskip("dask", reason="needs pip install 'rpumap[lazy]'")
experimental = pytest.importorskip("anndata.experimental")
pytest.importorskip("xarray", reason="needs pip install 'rpumap[lazy]'")
if not hasattr(experimental, "read_lazy"):
    pytest.skip("needs anndata 0.12", allow_module_level=True)

N_CELLS = 2500  # more than two blocks
RESULTS = ("rpumap_label", "rpumap_confidence", "rpumap_novelty", "rpumap_radius", "rpumap_verdict")


def cells(n, seed):
    draw = np.random.default_rng(seed)
    codes = draw.integers(3, size=n)
    genes = np.random.default_rng(0).gamma(2.0, 1.0, 80)
    counts = draw.poisson(genes * np.where(codes[:, None] == np.arange(80) % 4, 4.0, 1.0))
    adata = AnnData(sparse.csr_matrix(counts.astype(np.float32)))
    adata.var_names = [f"gene{i}" for i in range(80)]
    adata.obs_names = [f"cell{i}" for i in range(n)]
    adata.obs["kind"] = pd.Categorical(np.array(["a", "b", "c"])[codes])
    adata.var["symbol"] = [f"s{i}" for i in range(80)]
    return adata


@pytest.fixture(scope="module")
def ref():
    return rpumap.ReferenceMap(n_top_genes=40).fit(cells(400, 0), labels="kind")


@pytest.fixture(scope="module")
def mapped(ref):
    return ref.map(cells(N_CELLS, 1), method="crown_ibp")


@pytest.fixture(scope="module", params=["h5ad", "zarr"])
def path(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("tables") / f"query.{request.param}"
    query = cells(N_CELLS, 1)
    query.layers["counts"] = query.X.copy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the version of zarr
        getattr(query, f"write_{request.param}")(path)
    return path


def read_lazy(path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some parts of the file are still read by h5py
        return experimental.read_lazy(path)


def check_same(lazy, mapped):
    np.testing.assert_array_equal(np.asarray(lazy.obsm["X_umap"]), mapped.obsm["X_umap"])
    obs = lazy.obs if isinstance(lazy.obs, pd.DataFrame) else lazy.obs.to_memory()
    for name in RESULTS:
        assert obs[name].tolist() == mapped.obs[name].tolist(), name


def test_a_lazy_table_gets_lazy_results(ref, mapped, path):
    lazy = read_lazy(path)
    assert ref.map(lazy, method="crown_ibp") is lazy
    assert all(dask.is_dask_collection(lazy.obs[name].data) for name in RESULTS)
    assert dask.is_dask_collection(lazy.obsm["X_umap"])
    assert lazy.uns["rpumap"]["n_genes_found"] == 40
    assert "share_not_in_reference" not in lazy.uns["rpumap"]
    check_same(lazy, mapped)
    in_memory = lazy.to_memory()
    check_same(in_memory, mapped)
    assert in_memory.uns["rpumap"]["method"] == "crown_ibp"


def test_few_cells_are_computed_before_they_are_asked_for(ref, path, monkeypatch):
    seen = []
    scale = rpumap.Preprocessor.scale
    monkeypatch.setattr(
        rpumap.Preprocessor,
        "scale",
        lambda self, adata: seen.append(len(adata)) or scale(self, adata),
    )
    lazy = ref.map(read_lazy(path), method=None)
    assert seen == [LOOKED_AT] * 3
    dask.compute(
        lazy.obsm["X_umap"], *(lazy.obs[name].data for name in RESULTS if name in lazy.obs)
    )
    assert sum(seen[3:]) == N_CELLS  # in one pass


def test_results_can_be_computed_at_once(ref, mapped, path):
    lazy = ref.map(read_lazy(path), method="crown_ibp", compute=True)
    assert isinstance(lazy.obsm["X_umap"], np.ndarray)
    check_same(lazy, mapped)
    share = mapped.uns["rpumap"]["share_not_in_reference"]
    assert lazy.uns["rpumap"]["share_not_in_reference"] == share


def test_parts_layers_and_names_of_a_lazy_table(ref, mapped, path):
    part = read_lazy(path)[100:1900]
    ref.map(part, method="crown_ibp")
    check_same(part, mapped[100:1900])
    assert "rpumap_radius" not in ref.map(part, method=None).obs
    layered = copy.copy(ref)
    layered.layer = "counts"
    lazy = read_lazy(path)
    layered.map(lazy, method="crown_ibp")
    check_same(lazy, mapped)
    renamed = read_lazy(path)
    symbols = dict(zip(mapped.var["symbol"], mapped.var_names, strict=True))
    renamed.var_names = list(mapped.var["symbol"])
    ref.map(renamed, method="crown_ibp", gene_names=symbols)
    check_same(renamed, mapped)


def test_dask_arrays_with_a_table_in_memory_are_computed_at_once(ref, mapped, path):
    query = AnnData(read_lazy(path).X, obs=cells(N_CELLS, 1).obs, var=cells(3, 1).var)
    ref.map(query, method="crown_ibp")
    check_same(query, mapped)
    expected = mapped.uns["rpumap"]["share_not_in_reference"]
    assert query.uns["rpumap"]["share_not_in_reference"] == expected
    assert query.obs["rpumap_label"].dtype == "category"


@pytest.mark.parametrize("kind", ["dense", "csc", "integers", "columns"])
def test_blocks_of_any_kind(ref, mapped, kind):
    import dask.array

    counts = cells(N_CELLS, 1).X
    array = dask.array.from_array(counts.toarray(), chunks=(700, 33 if kind == "columns" else 80))
    change = {
        "csc": sparse.csc_matrix,
        "integers": lambda block: block.astype("uint16"),
    }.get(kind)
    array = array.map_blocks(change) if change else array
    query = AnnData(array, obs=cells(N_CELLS, 1).obs, var=cells(3, 1).var)
    ref.map(query, method="crown_ibp")
    check_same(query, mapped)


def test_library_sizes_of_a_lazy_table_are_used(ref, path):
    whole, lazy = cells(N_CELLS, 1), read_lazy(path)
    size = 2.0 * np.asarray(whole.X.sum(axis=1)).ravel()
    whole.obs["library_size"], lazy.obs["library_size"] = size, size
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # twice as large as in the reference
        ref.map(whole, method=None), ref.map(lazy, method=None)
    np.testing.assert_array_equal(np.asarray(lazy.obsm["X_umap"]), whole.obsm["X_umap"])


def test_boxes_of_a_lazy_table(ref, path):
    whole, lazy = cells(N_CELLS, 1), read_lazy(path)
    boxes = ref.certify(whole, 0.1, "l2", "crown_ibp")
    X = ref.preprocessor_.transform(whole)
    for box, known in zip(
        boxes, rpumap.certify(ref.model_, X, 0.1, "l2", "crown_ibp"), strict=True
    ):
        np.testing.assert_array_equal(box, known)
    for box, known in zip(ref.certify(lazy, 0.1, "l2", "crown_ibp"), boxes, strict=True):
        assert dask.is_dask_collection(box)
        np.testing.assert_array_equal(box, known)
    with pytest.raises(ValueError, match="method must be"):
        ref.certify(whole, 0.1, method=None)


def test_bad_counts_are_told_before_or_when_asked_for(ref):
    import dask.array

    def query(place, value):
        counts = cells(8000, 2).X.toarray()
        counts[place] = value
        return AnnData(
            dask.array.from_array(counts, chunks=(500, 80)),
            obs=cells(8000, 2).obs,
            var=cells(3, 1).var,
        )

    for place in ((0, 3), (4000, 3), (7999, 3), (2000, 3)):
        table = query(place, -1)
        with pytest.raises(ValueError, match=f"negative values.*in cell '(cell)?{place[0]}'"):
            ref.map(table)
        assert "rpumap" not in table.uns and "X_umap" not in table.obsm


def test_other_genes_are_told_at_once(ref, path):
    lazy = read_lazy(path)
    lazy.var_names = [f"x{i}" for i in range(80)]
    with pytest.raises(ValueError, match="40 of 40 genes are not in the data"):
        ref.map(lazy)


def test_warnings_come_from_the_first_cells(ref, path):
    lazy = read_lazy(path)[:, :70]
    with pytest.warns(UserWarning, match="genes are not in the data"):
        ref.map(lazy, method=None)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        lazy.obs.to_memory()  # and are not told again


def test_a_reference_can_be_fitted_to_a_lazy_table(path):
    options = {"n_top_genes": 40, "robust": False, "max_cells": 300}
    a = rpumap.ReferenceMap(**options).fit(cells(N_CELLS, 1), "kind")
    b = rpumap.ReferenceMap(**options).fit(read_lazy(path), "kind")
    np.testing.assert_array_equal(a.model_.embedding_, b.model_.embedding_)
    with pytest.raises(KeyError, match="no column 'type' in obs"):
        rpumap.ReferenceMap().fit(read_lazy(path), "type")


def test_a_correction_of_a_lazy_table(ref, path):
    whole, lazy = cells(N_CELLS, 1), read_lazy(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # what a correction assumes
        ref.map(whole, method=None, correct=True), ref.map(lazy, method=None, correct=True)
    np.testing.assert_array_equal(np.asarray(lazy.obsm["X_umap"]), whole.obsm["X_umap"])


def test_a_cluster_gives_the_same_numbers_and_a_killed_worker_loses_nothing(ref, mapped, tmp_path):
    distributed = pytest.importorskip("distributed")
    cells(N_CELLS, 1).write_h5ad(tmp_path / "query.h5ad")
    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
    with distributed.LocalCluster(**options) as cluster, distributed.Client(cluster) as client:
        lazy = read_lazy(tmp_path / "query.h5ad")
        ref.map(lazy, method="crown_ibp")
        check_same(lazy, mapped)
        ref.map(lazy, method="crown_ibp")  # new blocks, of which no results are kept
        blocks = client.compute(list(lazy.obsm["X_umap"].to_delayed().ravel()))
        first = next(distributed.as_completed(blocks))
        address = client.who_has([first])[first.key][0]
        os.kill(client.run(os.getpid)[address], signal.SIGKILL)
        found = np.concatenate(client.gather(blocks))
        assert len(client.scheduler_info()["workers"]) <= 2
    np.testing.assert_array_equal(found, mapped.obsm["X_umap"])


# --- the parts ----------------------------------------------------------------------------------


def test_counts_come_with_library_sizes_and_names(tmp_path):
    adata = cells(50, 3)
    adata.obs["library_size"] = 500.0
    adata.write_h5ad(tmp_path / "cells.h5ad")
    rows, names = np.array([3, 7]), np.array([f"n{i}" for i in range(80)])
    for table in (adata, read_h5ad(tmp_path / "cells.h5ad", backed="r")):
        assert not is_lazy(table, None) and not is_lazy(table, "counts")
        part = counts_of(table, None, rows, names)
        assert part.obs_names.tolist() == ["cell3", "cell7"]
        assert part.obs["library_size"].tolist() == [500.0, 500.0]
        assert part.var_names.tolist() == names.tolist()
        np.testing.assert_array_equal(part.X.toarray(), adata.X[rows].toarray())


def test_labels_are_a_column_or_themselves():
    adata = cells(5, 4)
    assert labels_of(adata, "kind").tolist() == adata.obs["kind"].tolist()
    assert labels_of(adata, [1, 2, 3, 4, 5]) == [1, 2, 3, 4, 5]


def test_what_is_no_table_is_told():
    check_table(cells(3, 0))
    with pytest.raises(TypeError, match="an AnnData with raw counts"):
        check_table(np.ones((3, 3)))
