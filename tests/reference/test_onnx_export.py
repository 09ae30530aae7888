"""The ONNX file: the numbers of Python in another runtime, explained by the file itself."""

from __future__ import annotations

import builtins
import json
import subprocess
import sys
import warnings

import numpy as np
import pytest
from anndata import AnnData
from scipy.sparse import csr_matrix
from sklearn.exceptions import NotFittedError

import rpumap
from rpumap.reference import ReferenceMap, export_onnx

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

CLOSE = 1e-4  # relative to the size of the map


@pytest.fixture(scope="module")
def adata():
    return rpumap.datasets.pancreas()


@pytest.fixture(scope="module")
def ref(adata):
    return ReferenceMap(n_top_genes=100, robust=False).fit(adata[::6], labels="clusters")


@pytest.fixture(scope="module")
def path(ref, tmp_path_factory):
    path = tmp_path_factory.mktemp("onnx") / "pancreas.onnx"
    export_onnx(ref, path)
    return path


@pytest.fixture(scope="module")
def session(path):
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


def inputs(ref, query):
    """Give what the graph takes; NaN for a gene that the query lacks."""
    names = [*query.var_names]
    counts = np.full((query.n_obs, len(ref.preprocessor_.genes_)), np.nan, dtype=np.float32)
    for column, gene in enumerate(ref.preprocessor_.genes_):
        if gene in names:
            counts[:, column] = query[:, gene].X.toarray().ravel()
    return {"counts": counts, "library_size": rpumap.preprocessing.library_size(query).astype("f4")}


def both(ref, session, query):
    """Place cells by Python and by the graph."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        wanted = ref.map(query.copy(), method=None).obsm["X_umap"]
    (found,) = session.run(None, inputs(ref, query))
    return found, wanted


def assert_same(ref, session, query):
    found, wanted = both(ref, session, query)
    assert found.dtype == np.float32 and found.shape == wanted.shape == (query.n_obs, 2)
    assert np.abs(found - wanted).max() < CLOSE * ref.model_.embedding_.std()


def thinned(adata, share):
    """Keep each molecule with the same chance, so that cells are less deep."""
    counts = adata.X.tocsr().copy()
    counts.data = np.random.default_rng(0).binomial(counts.data.astype(int), share).astype("f4")
    lighter = AnnData(counts, obs=adata.obs[[]], var=adata.var[[]])
    if "library_size" in adata.obs:
        lighter.obs["library_size"] = np.maximum(
            np.round(share * adata.obs["library_size"].to_numpy()), counts.sum(axis=1).A1
        )
    return lighter


@pytest.mark.parametrize("share", [1.0, 0.1, 0.01])
def test_cells_of_any_depth_lie_where_python_puts_them(ref, session, adata, share):
    assert_same(ref, session, thinned(adata[1::6], share))


def test_deeper_cells_than_any(ref, session, adata):
    deep = adata[1::50].copy()
    deep.X = deep.X * 1000
    deep.obs["library_size"] = rpumap.preprocessing.library_size(adata[1::50]) * 1000
    assert_same(ref, session, deep)


def test_one_cell(ref, session, adata):
    assert_same(ref, session, adata[:1].copy())


def test_five_thousand_cells(ref, session, adata):
    rows = np.arange(5000) % adata.n_obs
    many = AnnData(adata.X[rows], var=adata.var[[]])
    many.obs["library_size"] = rpumap.preprocessing.library_size(adata)[rows]
    assert_same(ref, session, many)


def test_no_cells(ref, session):
    n_genes = len(ref.preprocessor_.genes_)
    (found,) = session.run(
        None, {"counts": np.empty((0, n_genes), "f4"), "library_size": np.empty(0, "f4")}
    )
    assert found.shape == (0, 2)


def test_a_cell_without_counts(ref, session, adata):
    few = adata[:3].copy()
    few.X = csr_matrix(np.vstack([few.X[:2].toarray(), np.zeros((1, few.n_vars), "f4")]))
    if "library_size" in few.obs:
        few.obs["library_size"] = few.obs["library_size"].to_numpy() * np.array([1, 1, 0])
    assert inputs(ref, few)["library_size"][2] == 0
    assert_same(ref, session, few)


def test_missing_genes_stand_at_their_mean(ref, session, adata):
    query = adata[1::50].copy()
    query.obs["library_size"] = rpumap.preprocessing.library_size(query)
    lacking = query[:, ~query.var_names.isin(ref.preprocessor_.genes_[::5])].copy()
    assert np.isnan(inputs(ref, lacking)["counts"]).any()
    assert_same(ref, session, lacking)


def test_genes_that_hardly_vary_for_their_mean(tmp_path):
    """In single precision their z-scores would have one digit."""
    draw = np.random.default_rng(0)
    counts = draw.poisson(20, (200, 30)).astype("f4")
    counts[:, 0] = 2_000_000 + draw.integers(-20, 21, 200)
    adata = AnnData(counts, obs={"kind": ["a", "b"] * 100, "library_size": np.full(200, 4e6)})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        ref = ReferenceMap(n_top_genes=30, robust=False).fit(adata, labels="kind")
    assert ref.preprocessor_.mean_[0] > 1e5 * ref.preprocessor_.std_[0]
    export_onnx(ref, tmp_path / "a.onnx")
    adata.X = csr_matrix(adata.X)
    assert_same(ref, onnxruntime.InferenceSession(tmp_path / "a.onnx"), adata)


def test_a_map_that_was_loaded(ref, session, adata, tmp_path):
    ref.save(tmp_path / "a.rpumap")
    export_onnx(ReferenceMap.load(tmp_path / "a.rpumap"), tmp_path / "a.onnx")
    again = onnxruntime.InferenceSession(tmp_path / "a.onnx")
    given = inputs(ref, adata[:20])
    np.testing.assert_array_equal(again.run(None, given)[0], session.run(None, given)[0])


def test_the_file_explains_itself(ref, path, session):
    found = session.get_modelmeta().custom_metadata_map
    assert json.loads(found["rpumap.genes"]) == ref.preprocessor_.genes_.tolist()
    assert float(found["rpumap.target_sum"]) == 1e4
    assert found["rpumap.version"] == rpumap.__version__
    assert json.loads(found["rpumap.about"]) == ref.about_
    assert "library_size" in session.get_modelmeta().description
    shapes = {one.name: (one.shape, one.type) for one in session.get_inputs()}
    assert shapes == {
        "counts": (["n_cells", 100], "tensor(float)"),
        "library_size": (["n_cells"], "tensor(float)"),
    }
    assert [one.name for one in session.get_outputs()] == ["coordinates"]
    assert b"/home" not in path.read_bytes() and b".py" not in path.read_bytes()


def test_the_model_is_valid_and_the_same_each_time(ref, path, tmp_path):
    onnx.checker.check_model(path, full_check=True)
    export_onnx(ref, str(tmp_path / "again.onnx"))
    assert (tmp_path / "again.onnx").read_bytes() == path.read_bytes()
    assert path.stat().st_size < 2**20
    assert [file.name for file in path.parent.iterdir()] == ["pancreas.onnx"]


def test_a_file_that_is_there_is_replaced_whole(ref, path, tmp_path, monkeypatch):
    target = tmp_path / "a.onnx"
    target.write_bytes(b"old")
    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError("disk full")))
        with pytest.raises(OSError, match="disk full"):
            export_onnx(ref, target)
    assert target.read_bytes() == b"old"
    assert [file.name for file in tmp_path.iterdir()] == ["a.onnx"]
    export_onnx(ref, target)
    assert target.read_bytes() == path.read_bytes()
    with pytest.raises(FileNotFoundError):
        export_onnx(ref, tmp_path / "nowhere" / "a.onnx")


def test_what_is_no_fitted_reference(ref, tmp_path):
    with pytest.raises(NotFittedError, match="holds no map yet"):
        export_onnx(ReferenceMap(), tmp_path / "a.onnx")
    with pytest.raises(TypeError, match="ReferenceMap, got ParametricUMAP"):
        export_onnx(ref.model_, tmp_path / "a.onnx")
    assert not list(tmp_path.iterdir())


def test_a_missing_package_is_named(ref, tmp_path, monkeypatch):
    load = builtins.__import__

    def without(name, *args, **options):
        if name.split(".")[0] == "onnx":
            raise ImportError(name)
        return load(name, *args, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=r"pip install 'rpumap\[onnx\]'"):
        export_onnx(ref, tmp_path / "a.onnx")


def test_the_package_is_loaded_when_it_is_used():
    code = (
        "import rpumap, sys; rpumap.reference.export_onnx; "
        "assert not any(name.split('.')[0] == 'onnx' for name in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
