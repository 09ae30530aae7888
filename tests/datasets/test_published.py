"""Published files: read from a folder, or downloaded from a server on this machine."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy import sparse

from rpumap.datasets import _published, dentate_gyrus, pancreas, simulate_lineage

# Files of one's own


def labels(n_cells: int, name: str = "pancreas") -> np.ndarray:
    names = [c for c in _published.CLUSTERS[name] if c != "Fev+"]
    return np.resize(names, n_cells)


def small_set(n_cells: int = 40, **changes) -> AnnData:
    """Make a small file's worth of cells, laid out as scVelo publishes them."""
    counts = np.random.default_rng(0).poisson(2, size=(n_cells, 12)).astype(np.float32)
    adata = AnnData(
        sparse.csr_matrix(counts / 7),  # X is not what must be read
        obs=pd.DataFrame(
            {"clusters": pd.Categorical(labels(n_cells))},
            index=[f"cell{i}" for i in range(n_cells)],
        ),
        var=pd.DataFrame(index=[f"Gene{i}" for i in range(12)]),
        layers={"spliced": sparse.csr_matrix(counts)},
    )
    for name, value in changes.items():
        setattr(adata, name, value)
    return adata


def write_loom(path: Path, kind: str) -> np.ndarray:
    """Write a small loom file: genes by cells, names as fixed or variable-length strings."""
    counts = np.random.default_rng(0).poisson(2, size=(1030, 28)).astype(np.uint16)

    def text(values):
        return np.array(values, dtype="S" if kind == "fixed" else h5py.string_dtype())

    with h5py.File(path, "w") as file:
        file["matrix"] = counts + 1
        file["layers/spliced"] = counts
        file["row_attrs/Gene"] = text([f"Gene{i}" for i in range(1029)] + ["Gene0"])
        file["col_attrs/CellID"] = text([f"cell{i}" for i in range(28)])
        file["col_attrs/ClusterName"] = text(list(labels(28, "dentate_gyrus")))
    return counts


def test_the_file_in_the_folder_comes_first(folder, capsys, pancreas_sizes):
    made = small_set()
    made.obs["nCount_spliced"] = np.arange(40) + 100
    made.uns["source"] = "forty cells"
    made.write_h5ad(folder / "pancreas.h5ad")
    for source in ("auto", "real"):
        adata = pancreas(source)
        np.testing.assert_array_equal(adata.X.toarray(), made.layers["spliced"].toarray())
        assert isinstance(adata.X, sparse.csr_matrix)
        assert adata.X.dtype == np.float32
        assert list(adata.obs["clusters"].cat.categories) == list(pancreas_sizes)
        np.testing.assert_array_equal(adata.obs["library_size"], np.arange(40) + 100)
        assert adata.uns["source"] == "pancreas.h5ad in RPUMAP_DATA_DIR: forty cells"
        assert adata.uns["simulated"] is False
    assert capsys.readouterr().out == ""


def test_without_a_layer_or_a_size_counts_are_in_x_and_sizes_are_their_sums(folder):
    made = small_set()
    made = AnnData(made.layers["spliced"].toarray(), obs=made.obs, var=made.var)
    made.write_h5ad(folder / "pancreas.h5ad")
    adata = pancreas("real")
    np.testing.assert_array_equal(adata.X.toarray(), made.X)
    np.testing.assert_array_equal(adata.obs["library_size"], made.X.sum(axis=1))


@pytest.mark.parametrize("kind", ["fixed", "variable"])
def test_a_loom_file_is_read(folder, kind):
    counts = write_loom(folder / "dentate_gyrus.loom", kind)
    adata = dentate_gyrus("real")
    np.testing.assert_array_equal(adata.X.toarray(), counts.T)
    np.testing.assert_array_equal(adata.obs["library_size"], counts.sum(axis=0))
    assert list(adata.obs["clusters"].cat.categories) == list(_published.CLUSTERS["dentate_gyrus"])
    assert adata.var_names.is_unique
    assert list(adata.obs_names[:2]) == ["cell0", "cell1"]


def test_the_layout_of_2019_is_read(folder, pancreas_sizes):
    counts = sparse.csr_matrix(np.random.default_rng(0).binomial(1, 0.5, (8, 4)), dtype=np.float32)
    with h5py.File(folder / "pancreas.h5ad", "w") as file:
        for name in ("X", "layers/spliced"):
            group = file.create_group(name)
            group.attrs["h5sparse_format"] = "csr"
            group.attrs["h5sparse_shape"] = np.array(counts.shape)
            for part in ("data", "indices", "indptr"):
                group[part] = getattr(counts, part)
        cells = [(f"cell{i}".encode(), i) for i in range(8)]
        file["obs"] = np.array(cells, dtype=[("index", "S5"), ("clusters", "i1")])
        file["var"] = np.array([(b"a",), (b"b",), (b"c",), (b"d",)], dtype=[("index", "S1")])
        file["uns/clusters_categories"] = np.array([c.encode() for c in pancreas_sizes])
    adata = pancreas("real")
    assert adata.obs["clusters"].tolist() == list(pancreas_sizes)
    np.testing.assert_array_equal(adata.X.toarray(), counts.toarray())


def nonsense(adata: AnnData, path: Path) -> None:
    path.write_bytes(b"<!DOCTYPE html><html>not found</html>")


def cut_short(adata: AnnData, path: Path) -> None:
    adata.write_h5ad(path)
    path.write_bytes(path.read_bytes()[:5000])


def normalised(adata: AnnData, path: Path) -> None:
    adata.layers["spliced"] = adata.X
    adata.write_h5ad(path)


def negative(adata: AnnData, path: Path) -> None:
    adata.layers["spliced"] = -adata.layers["spliced"]
    adata.write_h5ad(path)


def unlabelled(adata: AnnData, path: Path) -> None:
    adata.obs = adata.obs.rename(columns={"clusters": "louvain"})
    adata.write_h5ad(path)


def half_labelled(adata: AnnData, path: Path) -> None:
    adata.obs.loc["cell3", "clusters"] = np.nan
    adata.write_h5ad(path)


def countless(adata: AnnData, path: Path) -> None:
    AnnData(obs=adata.obs, var=adata.var).write_h5ad(path)


def simulated(adata: AnnData, path: Path) -> None:
    simulate_lineage({"A": None, "B": "A"}, n_cells=20, n_genes=5).write_h5ad(path)


@pytest.mark.parametrize("source", ["auto", "real"])
@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (nonsense, "cannot be read"),
        (cut_short, "cannot be read"),
        (normalised, "raw counts"),
        (negative, "raw counts"),
        (unlabelled, "label every cell"),
        (half_labelled, "label every cell"),
        (countless, "holds no counts"),
        (simulated, "must not pass for real"),
    ],
)
def test_a_broken_file_in_the_folder_is_an_error(folder, source, spoil, message):
    spoil(small_set(), folder / "pancreas.h5ad")
    with pytest.raises(ValueError, match=message):
        pancreas(source)


# Downloads


@pytest.fixture
def no_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RPUMAP_DATA_DIR", raising=False)


class Server:
    """A server on this machine that answers each path as it is told to, and counts the requests."""

    def __init__(self) -> None:
        self.answers: dict[str, Callable[[BaseHTTPRequestHandler, int], None]] = {}
        self.n_requests = 0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:  # noqa: N802
                outer.n_requests += 1
                outer.answers[self.path](self, outer.n_requests)

            def log_message(self, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server.server_port}{path}"

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


def sends(content: bytes, *, cuts: float = 0, length: bool = True, status: int = 200) -> Callable:
    """Answer with `content`; the first `cuts` times, break off half-way through it."""

    def answer(handler: BaseHTTPRequestHandler, n_requests: int) -> None:
        handler.send_response(status)
        if length:
            handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        part = content[: len(content) // 2] if n_requests <= cuts else content
        handler.wfile.write(part)
        handler.close_connection = True

    return answer


@pytest.fixture
def server(no_folder: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """Serve in place of the published addresses, of which two are given for the pancreas."""
    server = Server()
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr("pooch.core.time.sleep", lambda seconds: None)  # between attempts
    scvelo, cellrank = _published.PUBLISHED["pancreas"]
    here = (
        replace(scvelo, url=server.url("/scvelo"), n_cells=40),
        replace(cellrank, url=server.url("/cellrank"), n_cells=21),
    )
    monkeypatch.setitem(_published.PUBLISHED, "pancreas", here)
    server.answers["/cellrank"] = sends(b"gone", status=404)
    yield server
    server.close()


@pytest.fixture(scope="module")
def h5ad(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("served") / "file.h5ad"
    small_set().write_h5ad(path)
    return path.read_bytes()


def test_a_good_file_is_downloaded_once_and_kept(server, h5ad, tmp_path, capsys):
    server.answers["/scvelo"] = sends(h5ad)
    cache = tmp_path / "new" / "cache"
    adata = pancreas("real", cache_dir=cache)
    assert adata.n_obs == 40
    assert adata.uns["source"].endswith("as published with scVelo")
    assert adata.uns["simulated"] is False
    assert "Downloaded: mouse pancreas" in capsys.readouterr().out
    assert sorted(p.name for p in cache.iterdir()) == [
        "pancreas_scvelo.h5ad",
        "pancreas_scvelo.h5ad.sha256",
    ]
    assert (cache / "pancreas_scvelo.h5ad").read_bytes() == h5ad
    for source in ("real", "auto"):
        again = pancreas(source, cache_dir=cache)
        assert (again.X != adata.X).nnz == 0
        assert again.uns["source"] == adata.uns["source"]
    assert server.n_requests == 1


def test_auto_never_downloads(server, h5ad, tmp_path, capsys):
    server.answers["/scvelo"] = sends(h5ad)
    assert pancreas("auto", cache_dir=tmp_path).uns["simulated"]
    assert server.n_requests == 0
    assert "SIMULATED" in capsys.readouterr().out


@pytest.mark.parametrize("length", [True, False])
def test_a_cut_connection_is_tried_again(server, h5ad, tmp_path, length):
    server.answers["/scvelo"] = sends(h5ad, cuts=2, length=length)
    assert pancreas("real", cache_dir=tmp_path).n_obs == 40
    assert server.n_requests == 3
    assert (tmp_path / "pancreas_scvelo.h5ad").read_bytes() == h5ad


def other_cells(path: Path) -> bytes:
    small_set(n_cells=39).write_h5ad(path)
    return path.read_bytes()


def other_labels(path: Path) -> bytes:
    made = small_set()
    made.obs["clusters"] = made.obs["clusters"].cat.rename_categories({"Beta": "B cell"})
    made.write_h5ad(path)
    return path.read_bytes()


@pytest.mark.parametrize("case", ["cut", "silently cut", "page", "error", "cells", "labels"])
def test_what_is_not_the_file_is_an_error_and_leaves_nothing(server, h5ad, tmp_path, case):
    scratch, cache = tmp_path / "scratch.h5ad", tmp_path / "cache"
    answer, reason, n_requests = {
        "cut": (sends(h5ad, cuts=np.inf), "IncompleteRead", 4),
        "silently cut": (sends(h5ad, cuts=np.inf, length=False), "cut short", 4),
        "page": (sends(b"<html>sign in</html>"), "cannot be read", 4),
        "error": (sends(b"busy", status=503), "503", 4),
        # a file that opens is not asked for again
        "cells": (sends(other_cells(scratch)), "39 cells instead of 40", 1),
        "labels": (sends(other_labels(scratch)), "clusters missing: Beta", 1),
    }[case]
    server.answers["/scvelo"] = answer
    with pytest.raises(RuntimeError, match="could not be downloaded") as caught:
        pancreas("real", cache_dir=cache)
    message = str(caught.value)
    assert reason in message
    assert server.url("/scvelo") in message
    assert "save it as pancreas.h5ad and set the environment variable RPUMAP_DATA_DIR" in message
    assert "source='simulated'" in message
    assert server.n_requests == n_requests + 4  # and the second address, which is gone
    assert list(cache.iterdir()) == []


def test_no_server_at_all_is_an_error_and_leaves_nothing(server, tmp_path):
    server.close()
    with pytest.raises(RuntimeError, match="could not be downloaded") as caught:
        pancreas("real", cache_dir=tmp_path)
    assert "refused" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_the_second_address_serves_its_own_subset_and_says_so(server, tmp_path, capsys):
    subset = small_set(n_cells=21)
    names = ["Fev+", "Epsilon", "Delta", "Alpha", "Beta", "Ngn3 high EP", "Ngn3 low EP"]
    subset.obs["clusters"] = pd.Categorical(np.resize(names, 21))
    subset.write_h5ad(tmp_path / "served.h5ad")
    server.answers["/scvelo"] = sends(b"gone", status=404)
    server.answers["/cellrank"] = sends((tmp_path / "served.h5ad").read_bytes())
    adata = pancreas("real", cache_dir=tmp_path / "cache")
    assert adata.uns["source"].endswith("the subset published with CellRank")
    assert "published with CellRank" in capsys.readouterr().out
    assert list(adata.obs["clusters"].cat.categories) == [
        *("Ngn3 low EP", "Ngn3 high EP", "Fev+", "Beta", "Alpha", "Delta", "Epsilon")
    ]


def test_a_download_that_has_changed_is_noticed(server, h5ad, tmp_path):
    server.answers["/scvelo"] = sends(h5ad)
    pancreas("real", cache_dir=tmp_path)
    path = tmp_path / "pancreas_scvelo.h5ad"
    small_set(obs_names=[f"other{i}" for i in range(40)]).write_h5ad(path)
    for source in ("auto", "real"):
        with pytest.raises(ValueError, match="it has changed since. Delete it"):
            pancreas(source, cache_dir=tmp_path)
    path.unlink()
    assert pancreas("real", cache_dir=tmp_path).obs_names[0] == "cell0"


def test_the_loom_file_is_downloaded(server, tmp_path, monkeypatch):
    (published,) = _published.PUBLISHED["dentate_gyrus"]
    here = replace(published, url=server.url("/loom"), n_cells=28)
    monkeypatch.setitem(_published.PUBLISHED, "dentate_gyrus", (here,))
    counts = write_loom(tmp_path / "served.loom", "fixed")
    server.answers["/loom"] = sends((tmp_path / "served.loom").read_bytes(), cuts=1)
    adata = dentate_gyrus("real", cache_dir=tmp_path / "cache")
    np.testing.assert_array_equal(adata.X.toarray(), counts.T)
    assert adata.uns["source"].startswith("mouse dentate gyrus at P0 and P5")


def test_the_cache_is_the_users(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert _published.cache_folder(None).name == "rpumap"
    assert _published.cache_folder("~/x") == Path.home() / "x"


def test_published_files_are_checked_by_what_the_book_relies_on():
    for name, files in _published.PUBLISHED.items():
        for published in files:
            assert published.clusters <= set(_published.CLUSTERS[name])
            assert f"{published.n_cells:,} cells" in published.source
            assert Path(published.filename).suffix in (".h5ad", ".loom")
