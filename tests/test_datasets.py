"""Stand-ins against their tables and the real cells, downloads against a local server."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData, read_h5ad
from scipy import sparse
from sklearn.decomposition import PCA
from sklearn.model_selection import cross_val_score
from sklearn.neighbors import KNeighborsClassifier

import rpumap
from rpumap import _published
from rpumap._simulate import simulate_lineage
from rpumap.datasets import dentate_gyrus, pancreas
from rpumap.tables.summarise_pancreas import LINEAGE, summarise

PANCREAS_SIZES = {
    "Ductal": 916,
    "Ngn3 low EP": 262,
    "Ngn3 high EP": 642,
    "Pre-endocrine": 592,
    "Beta": 591,
    "Alpha": 481,
    "Delta": 70,
    "Epsilon": 142,
}
TABLES = Path(rpumap.__file__).parent / "tables"


@pytest.fixture(scope="module")
def standin() -> AnnData:
    return pancreas(source="simulated")


@pytest.fixture(scope="module")
def real() -> AnnData:
    folder = os.environ.get("RPUMAP_DATA_DIR", "")
    if not folder or not (Path(folder) / "pancreas.h5ad").is_file():
        pytest.skip("RPUMAP_DATA_DIR does not name a folder with the real pancreas.h5ad")
    return pancreas(source="real")


@pytest.fixture
def no_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RPUMAP_DATA_DIR", raising=False)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "data"
    path.mkdir()
    monkeypatch.setenv("RPUMAP_DATA_DIR", str(path))
    return path


def rates(adata: AnnData) -> np.ndarray:
    return adata.X.toarray() / adata.obs["library_size"].to_numpy()[:, None] * 1e4


def gene_table() -> pd.DataFrame:
    return pd.read_csv(TABLES / "pancreas_genes.csv", index_col=0, comment="#")


# Stand-ins


def test_the_pancreas_stand_in_has_names_sizes_and_layout_of_the_real_set(standin):
    assert list(standin.obs["clusters"].cat.categories) == list(PANCREAS_SIZES)
    assert standin.obs["clusters"].value_counts().to_dict() == PANCREAS_SIZES
    assert isinstance(standin.X, sparse.csr_matrix)
    assert standin.X.dtype == np.float32
    assert (standin.X.data > 0).all()
    assert not (standin.X.data % 1).any()
    assert (standin.obs["library_size"] >= standin.X.sum(axis=1).A1).all()
    assert {"Sox9", "Neurog3", "Fev", "Ins1", "Ins2", "Gcg", "Sst", "Ghrl"} <= set(
        standin.var_names
    )


def test_a_stand_in_says_that_it_is_simulated(standin, tmp_path):
    for adata in (standin, dentate_gyrus(source="simulated")):
        assert adata.uns["source"].startswith("simulated")
        assert adata.uns["simulated"] is True
    standin.write_h5ad(tmp_path / "standin.h5ad")
    assert read_h5ad(tmp_path / "standin.h5ad").uns["simulated"]


def test_branch_and_pseudotime_are_those_of_the_lineage(standin):
    obs = standin.obs
    edges = {f"{parent} -> {child}" for child, parent in LINEAGE.items() if parent}
    assert set(obs["branch"]) == edges
    assert all(c in b.split(" -> ") for c, b in zip(obs["clusters"], obs["branch"], strict=True))
    # five nodes in a row: the root at 0, its child at 1/4, and so on, and cells half-way around
    reach = obs.groupby("clusters", observed=True)["pseudotime"].agg(["min", "max"])
    expected = {"Ductal": (0, 0.125), "Pre-endocrine": (0.625, 0.875), "Delta": (0.875, 1)}
    for cluster, ends in expected.items():
        np.testing.assert_allclose(reach.loc[cluster], ends, atol=0.01)
        assert ends[0] <= reach.loc[cluster, "min"] <= reach.loc[cluster, "max"] <= ends[1]


def test_hormones_are_made_where_they_should_be(standin):
    table = pd.DataFrame(rates(standin), columns=standin.var_names)
    mean = table.groupby(standin.obs["clusters"].to_numpy()).mean()
    for gene, cluster in {
        "Ins2": "Beta",
        "Gcg": "Alpha",
        "Sst": "Delta",
        "Ghrl": "Epsilon",
    }.items():
        assert mean[gene].idxmax() == cluster
    assert mean.loc["Ngn3 high EP", "Neurog3"] > 10 * mean.loc["Ductal", "Neurog3"]


def test_a_seed_repeats_itself_and_another_gives_other_cells_of_the_same_tissue(standin):
    again, other = pancreas("simulated"), pancreas("simulated", random_state=1)
    assert (again.X != standin.X).nnz == 0
    pd.testing.assert_frame_equal(again.obs, standin.obs)
    assert list(other.var_names) == list(standin.var_names)
    assert (other.X != standin.X).nnz > 0


def test_moments_of_the_stand_in_are_those_of_the_table(standin):
    table, R = gene_table(), rates(standin)
    for cluster, size in PANCREAS_SIZES.items():
        inside = (standin.obs["clusters"] == cluster).to_numpy()
        often = (table[cluster] * size > 200).to_numpy()
        mean, wanted = R[inside][:, often].mean(axis=0), table.loc[often, cluster]
        # in standard errors: as far off as chance has it, and no common bias
        off = (mean - wanted) / (R[inside][:, often].std(axis=0) / np.sqrt(size))
        assert 0.85 < off.std() < 1.15
        assert off.abs().quantile(0.99) < 3.7
        assert abs(np.median(np.log(mean / wanted))) < 0.02
        counting = (1e4 / standin.obs["library_size"][inside]).mean()
        variance = counting * wanted + table.loc[often, f"dispersion:{cluster}"] * wanted**2
        ratio = R[inside][:, often].var(axis=0, ddof=1) / variance
        assert 0.9 < np.median(ratio) < 1.1


def test_summary_of_the_stand_in_gives_back_the_table_it_was_drawn_from(standin):
    table = gene_table()
    clusters, genes = summarise(standin)
    assert clusters["parent"].tolist() == list(LINEAGE.values())
    assert clusters["n_cells"].tolist() == list(PANCREAS_SIZES.values())
    often = [g for g in genes.index if table.loc[g, "Ductal"] > 0.5]
    error = np.log(genes.loc[often, "Ductal"] / table.loc[often, "Ductal"])
    assert np.abs(error).max() < 0.3
    # the cell cycle is the first programme of both
    first = np.corrcoef(genes.loc[often, "programme:1"], table.loc[often, "programme:1"])[0, 1]
    assert abs(first) > 0.9


def test_the_dentate_gyrus_stand_in():
    adata = dentate_gyrus(source="simulated")
    assert adata.shape == (18213, 500)
    assert list(adata.obs["clusters"].cat.categories) == list(_published.CLUSTERS["dentate_gyrus"])
    assert set(adata.obs["branch"]) >= {"Nbl2 -> ImmGranule1", "Nbl2 -> CA", "GlialProg -> OPC"}
    table = adata[:, ["C1ql2", "Pdgfra", "Eomes", "Aqp4"]].to_df()
    mean = table.groupby(adata.obs["clusters"].to_numpy()).mean()
    assert mean.idxmax().tolist() == ["Granule", "OPC", "nIPC", "ImmAstro"]


# Stand-in against the real cells


def test_the_committed_tables_are_what_the_script_computes(real):
    if real.n_vars != 1515:
        pytest.skip("the tables were computed from the file of 1,515 genes")
    for computed, name in zip(summarise(real), ("clusters", "genes"), strict=True):
        committed = pd.read_csv(TABLES / f"pancreas_{name}.csv", index_col=0, comment="#")
        assert list(computed.index) == list(committed.index)
        assert list(computed.columns) == list(committed.columns)
        numbers = committed.select_dtypes("number")
        # four digits are kept, and the last may turn with another version of the algebra library
        np.testing.assert_allclose(computed[numbers.columns], numbers, rtol=2e-3, atol=2e-4)


def test_the_stand_in_is_like_the_real_cells_cluster_by_cluster(real, standin):
    genes = standin.var_names
    R, S = rates(real[:, genes]), rates(standin)
    for cluster in PANCREAS_SIZES:
        a = R[(real.obs["clusters"] == cluster).to_numpy()]
        b = S[(standin.obs["clusters"] == cluster).to_numpy()]
        often = a.mean(axis=0) > 0.5
        assert np.corrcoef(np.log(a.mean(0) + 0.01), np.log(b.mean(0) + 0.01))[0, 1] > 0.97
        assert abs(np.median(np.log(b.var(0)[often] / a.var(0)[often]))) < 0.1
        zeros = (b == 0).mean(axis=0) - (a == 0).mean(axis=0)
        assert abs(np.median(zeros)) < 0.02
        assert np.quantile(np.abs(zeros), 0.9) < 0.1


def test_labels_are_as_hard_to_tell_in_the_stand_in_as_in_the_real_cells(real, standin):
    accuracy, variances = [], []
    for adata in (real, standin):
        X = rpumap.Preprocessor(n_top_genes=300).fit_transform(adata)
        pca = PCA(20, random_state=0).fit(X)
        variances.append(pca.explained_variance_[:6])
        knn = KNeighborsClassifier(15)
        Z = pca.transform(X)[:, :5]
        accuracy.append([cross_val_score(knn, V, adata.obs["clusters"]).mean() for V in (X, Z)])
    np.testing.assert_allclose(accuracy[1], accuracy[0], atol=0.035)
    np.testing.assert_allclose(variances[1], variances[0], rtol=0.2)


# A lineage of one's own


def test_a_tree_of_ones_own():
    tree = {"Stem": None, "Early": "Stem", "Late": "Early", "Other": "Stem"}
    adata = simulate_lineage(tree, n_cells=403, n_genes=40)
    assert adata.shape == (403, 40)
    assert adata.obs["clusters"].value_counts().max() <= 101
    reach = adata.obs.groupby("clusters", observed=True)["pseudotime"].max()
    assert reach["Late"] == pytest.approx(1, abs=0.02)
    assert reach["Other"] == pytest.approx(1, abs=0.02)
    assert set(adata.obs["branch"]) == {"Stem -> Early", "Early -> Late", "Stem -> Other"}


def test_rates_of_ones_own_are_kept_on_the_average():
    clusters = pd.DataFrame({"parent": [None, "A", "A"], "n_cells": [1, 1, 2]}, index=list("ABC"))
    genes = pd.DataFrame({"A": [5, 40.0], "B": [50, 0.0], "C": [0.5, 4.0]}, index=["up", "down"])
    adata = simulate_lineage(clusters, genes, n_cells=8000)
    assert adata.obs["clusters"].value_counts().to_dict() == {"A": 2000, "B": 2000, "C": 4000}
    mean = pd.DataFrame(rates(adata)).groupby(adata.obs["clusters"].to_numpy()).mean()
    np.testing.assert_allclose(mean.to_numpy(), genes.T, rtol=0.1, atol=0.05)
    genes["programme:p"] = 0.1
    extra = simulate_lineage(clusters, genes, n_cells=30, n_genes=10)
    assert extra.shape == (30, 10)
    assert list(extra.var_names[:3]) == ["up", "down", "gene_1"]


def test_programmes_move_genes_together_and_leave_means_and_dispersions():
    clusters = pd.DataFrame({"parent": [None], "n_cells": [20000]}, index=["A"])
    genes = pd.DataFrame({"A": [200.0] * 3, "programme:p": [0.4, 0.4, 0]}, index=list("xyz"))
    adata = simulate_lineage(clusters, genes)
    R = rates(adata)
    np.testing.assert_allclose(R.mean(axis=0), 200, rtol=0.02)
    counting = 200 * (1e4 / adata.obs["library_size"]).mean()
    np.testing.assert_allclose(R.var(axis=0), counting + 0.3 * 200**2, rtol=0.1)
    # two log-normal factors of log-scale 0.4 have the covariance (exp(0.16) - 1) mean^2
    covariance = np.cov(R.T)
    assert covariance[0, 1] == pytest.approx((np.exp(0.16) - 1) * 200**2, rel=0.1)
    assert abs(covariance[0, 2]) < 0.05 * covariance[0, 1]


def test_a_lone_cluster_has_no_edges():
    adata = simulate_lineage({"Only": None}, n_genes=5)
    assert adata.shape == (200, 5)
    assert set(adata.obs["branch"]) == {"Only"}


@pytest.mark.parametrize(
    ("clusters", "message"),
    [
        ({}, "at least one cluster"),
        ({"A": None, "B": "C"}, "not clusters themselves: C"),
        ({"A": None, "B": None}, "one root .* found 2"),
        ({"A": "B", "B": "A"}, "one root .* found 0"),
        ({"A": None, "B": "C", "C": "B"}, "not below the root: B, C"),
        (pd.DataFrame({"n_cells": [3]}, index=["A"]), "column 'parent'"),
        (pd.DataFrame({"parent": [None], "n_cells": [0]}, index=["A"]), "sizes of at least 1"),
        (pd.DataFrame({"parent": [None], "log_library_sd": [np.nan]}, index=["A"]), "finite"),
    ],
)
def test_what_is_not_a_tree_is_refused(clusters, message):
    with pytest.raises(ValueError, match=message):
        simulate_lineage(clusters)


def test_impossible_numbers_are_refused():
    tree = {"A": None, "B": "A"}
    good = pd.DataFrame({"A": [1.0, 2.0], "B": [1.0, 2.0]}, index=["x", "y"])
    with pytest.raises(ValueError, match="no rates for: B"):
        simulate_lineage(tree, good[["A"]])
    for bad in (-1.0, np.nan, np.inf):
        with pytest.raises(ValueError, match="finite and not negative"):
            simulate_lineage(tree, good.replace(2.0, bad))
    with pytest.raises(ValueError, match="less than the 2 genes"):
        simulate_lineage(tree, good, n_genes=1)
    with pytest.raises(ValueError, match="at least 1"):
        simulate_lineage(tree, n_genes=0)
    with pytest.raises(ValueError, match="less than the 2 clusters"):
        simulate_lineage(tree, n_cells=1)


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
    for place, value in changes.items():
        setattr(adata, place, value)
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


def test_the_file_in_the_folder_comes_first(folder, capsys):
    made = small_set()
    made.obs["nCount_spliced"] = np.arange(40) + 100
    made.uns["source"] = "forty cells"
    made.write_h5ad(folder / "pancreas.h5ad")
    for source in ("auto", "real"):
        adata = pancreas(source)
        np.testing.assert_array_equal(adata.X.toarray(), made.layers["spliced"].toarray())
        assert isinstance(adata.X, sparse.csr_matrix)
        assert adata.X.dtype == np.float32
        assert list(adata.obs["clusters"].cat.categories) == list(PANCREAS_SIZES)
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


def test_the_layout_of_2019_is_read(folder):
    counts = sparse.random(8, 4, 0.5, format="csr", dtype=np.float32, rng=0).ceil()
    with h5py.File(folder / "pancreas.h5ad", "w") as file:
        for place in ("X", "layers/spliced"):
            group = file.create_group(place)
            group.attrs["h5sparse_format"] = "csr"
            group.attrs["h5sparse_shape"] = np.array(counts.shape)
            for part in ("data", "indices", "indptr"):
                group[part] = getattr(counts, part)
        cells = [(f"cell{i}".encode(), i) for i in range(8)]
        file["obs"] = np.array(cells, dtype=[("index", "S5"), ("clusters", "i1")])
        file["var"] = np.array([(b"a",), (b"b",), (b"c",), (b"d",)], dtype=[("index", "S1")])
        file["uns/clusters_categories"] = np.array([c.encode() for c in PANCREAS_SIZES])
    adata = pancreas("real")
    assert adata.obs["clusters"].tolist() == list(PANCREAS_SIZES)
    np.testing.assert_array_equal(adata.X.toarray(), counts.toarray())


def test_a_folder_without_the_file_is_said_and_passed_over(folder, tmp_path, monkeypatch, capsys):
    assert pancreas(cache_dir=tmp_path).uns["simulated"]
    lines = capsys.readouterr().out.splitlines()
    assert "RPUMAP_DATA_DIR names has no pancreas.h5ad or pancreas.loom" in lines[0]
    assert "3,696 are SIMULATED" in lines[1]
    monkeypatch.setenv("RPUMAP_DATA_DIR", str(tmp_path / "nowhere"))
    pancreas(cache_dir=tmp_path)
    assert "does not exist" in capsys.readouterr().out


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


def test_an_unknown_source_is_refused():
    with pytest.raises(ValueError, match="'auto', 'real' or 'simulated', not 'fake'"):
        pancreas("fake")


# Downloads


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
