"""The reference map: fit, map, verdicts, and its file."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scanpy
from anndata import AnnData, read_h5ad
from scipy import sparse
from sklearn.exceptions import NotFittedError

import rpumap
from rpumap.reference.cell_mapper import labels_on_map
from rpumap.reference.file import VERSION, ReferenceFileError, read_file, write_file
from rpumap.reference.reference_map import ReferenceMap
from rpumap.verification import labels_are_certain

TYPES = ["a", "b", "c"]
DATA = Path(__file__).resolve().parents[1] / "data"


def cells(n, seed, kinds=3, depth=1.0, n_genes=120):
    """Draw counts of types that differ in a third of the genes each."""
    draw = np.random.default_rng(seed)
    codes = draw.integers(kinds, size=n)
    genes = np.random.default_rng(0).gamma(2.0, 1.0, n_genes)
    rates = depth * genes * np.where(codes[:, None] == np.arange(n_genes) % 4, 4.0, 1.0)
    noise = draw.gamma(5.0, 0.2, rates.shape)
    adata = AnnData(sparse.csr_matrix(draw.poisson(rates * noise).astype(np.float32)))
    adata.var_names = [f"gene{i}" for i in range(n_genes)]
    adata.obs_names = [f"cell{seed}_{i}" for i in range(n)]
    adata.obs["kind"] = pd.Categorical([[*TYPES, "new"][code] for code in codes])
    return adata


@pytest.fixture(scope="module")
def ref():
    return ReferenceMap(n_top_genes=60).fit(cells(500, 0), labels="kind")


@pytest.fixture
def query():
    return cells(200, 1)


def quiet(ref, query, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return ref.map(query, **options)


def test_cells_get_coordinates_labels_and_verdicts(ref, query):
    mapped = ref.map(query)
    assert mapped is query
    assert query.obsm["X_umap"].shape == (200, 2)
    assert (query.obs["rpumap_label"].astype(str) == query.obs["kind"].astype(str)).mean() > 0.95
    assert query.obs["rpumap_label"].cat.categories.tolist() == TYPES
    assert (query.obs["rpumap_confidence"].between(1 / 3, 1)).all()
    assert 0 < (query.obs["rpumap_novelty"] > 1).mean() < 0.15
    assert (query.obs["rpumap_radius"] > 0).all()
    known = {"certain", "likely", "not in the reference"}
    others = set(query.obs["rpumap_verdict"].cat.categories) - known
    assert all(verdict.startswith("between ") for verdict in others)
    said = query.uns["rpumap"]
    assert said["n_genes_found"] == said["n_genes"] == 60
    assert said["eps"] == 0.05 and said["method"] == "crown" and said["remarks"] == []


def test_each_step_is_that_of_the_package(ref, query):
    ref.map(query, eps=0.05)
    X = ref.preprocessor_.transform(query)
    np.testing.assert_array_equal(query.obsm["X_umap"], ref.model_.transform(X))
    lower, upper = rpumap.certify(ref.model_, X, 0.05)
    radius = np.linalg.norm(upper - lower, axis=1) / 2
    np.testing.assert_allclose(query.obs["rpumap_radius"], radius)
    codes = ref.index_.codes
    certain = labels_are_certain(lower, upper, ref.model_.embedding_, codes, 15)
    agree = (query.obs["rpumap_label"] == query.obs["rpumap_map_label"]).to_numpy()
    found = ref.index_.query(ref.index_.coordinates(ref.preprocessor_.scale(query)))
    alone = (found.strangeness <= ref.index_.quantile).sum(axis=1) < 2
    expected = certain & agree & alone & (found.novelty <= 1)
    np.testing.assert_array_equal(query.obs["rpumap_verdict"] == "certain", expected)
    assert expected.any()


def test_a_certain_label_does_not_change_in_the_ball(ref, query):
    ref.map(query, eps=0.1)
    X = ref.preprocessor_.transform(query)
    draw = np.random.default_rng(0)
    certain = (query.obs["rpumap_verdict"] == "certain").to_numpy()
    for _ in range(20):
        Z = ref.model_.transform(X + 0.1 * draw.choice([-1, 1], X.shape).astype(np.float32))
        names = np.asarray(ref.index_.names)[labels_on_map(ref.model_, ref.index_, Z)]
        assert (names == query.obs["rpumap_label"].astype(str))[certain].all()


def test_a_type_that_the_reference_lacks_is_said_to_be_new(ref):
    query = cells(300, 2, kinds=4)
    ref.map(query, method=None)
    is_new = (query.obs["kind"] == "new").to_numpy()
    flagged = (query.obs["rpumap_verdict"] == "not in the reference").to_numpy()
    assert flagged[is_new].mean() > 0.75 and flagged[~is_new].mean() < 0.15
    assert "rpumap_radius" not in query.obs
    assert not (query.obs["rpumap_verdict"] == "certain").any()


def test_the_order_of_genes_and_cells_does_not_matter(ref, query):
    ref.map(query)
    draw = np.random.default_rng(3)
    rows, columns = draw.permutation(query.n_obs), draw.permutation(query.n_vars)
    other = AnnData(query.X[rows][:, columns], obs=query.obs[["kind"]].iloc[rows])
    other.var_names = query.var_names[columns]
    ref.map(other)
    np.testing.assert_array_equal(other.obsm["X_umap"], query.obsm["X_umap"][rows])
    for name in ("rpumap_label", "rpumap_novelty", "rpumap_radius", "rpumap_verdict"):
        assert other.obs[name].tolist() == query.obs[name].iloc[rows].tolist()


def test_missing_genes_are_reported_and_too_many_refused(ref, query):
    chosen = ref.preprocessor_.genes_
    query.obs["library_size"] = np.asarray(query.X.sum(axis=1)).ravel()
    most = query[:, ~query.var_names.isin(chosen[:10])].copy()
    with pytest.warns(UserWarning, match="10 of 60 genes are not in the data"):
        ref.map(most)
    assert most.uns["rpumap"]["n_genes_found"] == 50
    assert most.uns["rpumap"]["genes_missing"] == chosen[:10].tolist()
    few = query[:, ~query.var_names.isin(chosen[:40])].copy()
    with pytest.raises(ValueError, match="40 of 60 genes are not in the data"):
        ref.map(few)
    assert "rpumap" not in few.uns and "X_umap" not in few.obsm


def test_other_names_are_shown_from_both_sides_and_can_be_given(ref, query):
    expected = ref.map(query.copy()).obsm["X_umap"]
    query.var["symbol"] = query.var_names
    query.var_names = [f"{name.upper()}" for name in query.var_names]
    with pytest.raises(ValueError, match="'gene.*'GENE0'.*upper and lower case") as caught:
        ref.map(query)
    assert "match='version' or 'case'" in caught.value.__notes__[0]
    for options in ({"match": "case"}, {"gene_names": "symbol"}):
        ref.map(query, **options)
        np.testing.assert_array_equal(query.obsm["X_umap"], expected)


def test_cut_genes_without_library_sizes_are_noticed(ref, query):
    panel = query[:, ref.preprocessor_.genes_].copy()
    with pytest.warns(UserWarning, match="store the total counts"):
        ref.map(panel)
    assert "store the total counts" in panel.uns["rpumap"]["remarks"][0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda X: X * 0, "all counts are zero"),
        (lambda X: X - 3, "negative"),
        (lambda X: np.log1p(X), "log-transformed"),
        (lambda X: np.log1p(1e4 * X / X.sum(axis=1, keepdims=True)), "log-transformed"),
        (lambda X: 1e4 * X / X.sum(axis=1, keepdims=True), "look normalised"),
        (lambda X: X * np.nan, "NaN"),
    ],
)
def test_what_is_no_counts_is_refused(ref, query, change, message):
    other = AnnData(np.asarray(change(query.X.toarray()), dtype=np.float32), var=query.var)
    with pytest.raises(ValueError, match=message):
        ref.map(other)
    assert not other.obsm and not other.uns


def test_a_refusal_points_to_the_counts(ref, query):
    query.layers["counts"] = query.X.copy()
    query.X = np.log1p(query.X)
    with pytest.raises(ValueError, match=r"layers\['counts'\] holds whole numbers"):
        ref.map(query)


def test_fractions_of_counts_are_no_logarithms(ref, query):
    expected = ref.map(query.copy()).obsm["X_umap"]
    query.X = query.X * np.float32(1.25)
    query.X.data[0] = 60.3
    quiet(ref, query)
    assert np.abs(query.obsm["X_umap"] - expected)[1:].max() < 1e-3


def test_counts_in_a_layer(query):
    adata = cells(300, 0)
    adata.layers["counts"], adata.X = adata.X, None
    ref = ReferenceMap(n_top_genes=40, layer="counts", robust=False).fit(adata, "kind")
    query.layers["counts"] = query.X.copy()
    query.X = np.log1p(query.X)
    ref.map(query)
    with pytest.raises(ValueError, match="no counts in layers"):
        ref.map(cells(20, 3))


def test_files_are_read_in_parts(ref, query, tmp_path, monkeypatch):
    ref.map(query)
    plain = cells(200, 1)
    plain.write_h5ad(tmp_path / "query.h5ad")
    monkeypatch.setattr("rpumap.reference.tables.CHUNK", 70)
    backed = read_h5ad(tmp_path / "query.h5ad", backed="r")
    ref.map(backed)
    np.testing.assert_array_equal(backed.obsm["X_umap"], query.obsm["X_umap"])
    pd.testing.assert_series_equal(backed.obs["rpumap_novelty"], query.obs["rpumap_novelty"])
    assert backed.obs["rpumap_verdict"].tolist() == query.obs["rpumap_verdict"].tolist()


def test_a_reference_can_be_backed(tmp_path):
    adata = cells(300, 0)
    adata.write_h5ad(tmp_path / "ref.h5ad")
    options = {"n_top_genes": 40, "robust": False, "max_cells": 200}
    a = ReferenceMap(**options).fit(adata, "kind")
    b = ReferenceMap(**options).fit(read_h5ad(tmp_path / "ref.h5ad", backed="r"), "kind")
    assert a.about_["n_used"] == 200
    np.testing.assert_array_equal(a.model_.embedding_, b.model_.embedding_)


def test_a_correction_removes_factors_of_genes_and_warns(ref):
    query = cells(400, 4)
    factor = np.exp(np.random.default_rng(5).normal(0, 1.0, query.n_vars))
    query.X = sparse.csr_matrix(np.random.default_rng(6).poisson(query.X.toarray() * factor))
    accuracy = {}
    for correct in (False, True):
        quiet(ref, query, correct=correct, method=None)
        right = query.obs["rpumap_label"].astype(str) == query.obs["kind"].astype(str)
        accuracy[correct] = right.mean()
    assert accuracy[True] > 0.95 and accuracy[True] >= accuracy[False]
    with pytest.warns(UserWarning, match="similar shares"):
        ref.map(query, correct=True, method=None)
    with pytest.raises(ValueError, match="60 cells or more"):
        ref.map(cells(20, 7), correct=True)


def test_a_correction_takes_moments_of_scaled_counts_and_of_their_logarithms(ref, query):
    genes = ref.preprocessor_.genes_
    query.obs["library_size"] = 1e4  # so that a constant count stays one when it is scaled
    counts = query.X.toarray()
    counts[:, query.var_names == genes[0]] = 5.0
    query.X = sparse.csr_matrix(counts)
    part = query[:, query.var_names != genes[1]].copy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of the gene, and of the sizes
        prep, index = ref._corrected(part, part.var_names.to_numpy())
        values = ref.preprocessor_.scale(part)
    z_of_logs = (np.log1p(values) - index.mean) / index.std
    for z in (prep.standardize(values).astype(np.float64), z_of_logs):
        np.testing.assert_allclose(z[:, 2:].mean(axis=0), 0, atol=1e-6)
        np.testing.assert_allclose(z[:, 2:].std(axis=0, ddof=1), 1, rtol=1e-6)
        np.testing.assert_allclose(z[:, 0], 0, atol=1e-6)
    assert (prep.standardize(values)[:, 1] == 0).all()
    assert np.isnan(z_of_logs[:, 1]).all()
    assert ref.preprocessor_ is not prep and np.isfinite(ref.preprocessor_.mean_).all()


def test_a_query_that_is_all_strange_says_so(ref, query):
    query.X = query.X[:, np.random.default_rng(0).permutation(query.n_vars)]
    with pytest.warns(UserWarning, match="% of the cells are unlike"):
        ref.map(query)


def test_what_is_no_table_and_what_is_not_fitted_is_said(ref, query):
    with pytest.raises(TypeError, match="an AnnData with raw counts"):
        ref.map(query.X)
    with pytest.raises(TypeError, match="an AnnData with raw counts"):
        ReferenceMap().fit(query.X, "kind")
    for use in (lambda new: new.map(query), lambda new: new.save("x"), lambda new: new.card()):
        with pytest.raises(NotFittedError, match="call fit, or load a file"):
            use(ReferenceMap())


def test_a_single_strange_cell_is_no_strange_query(ref, query):
    query.X = query.X[:, np.random.default_rng(0).permutation(query.n_vars)]
    one = query[:1].copy()
    ref.map(one)
    assert one.uns["rpumap"]["remarks"] == []


def test_coordinates_that_were_there_are_kept(ref, query):
    query.obsm["X_umap"] = np.ones((200, 2))
    with pytest.warns(UserWarning, match="X_umap_before"):
        ref.map(query)
    assert (query.obsm["X_umap_before"] == 1).all()


def test_results_can_be_written(ref, query, tmp_path):
    quiet(ref, query).write_h5ad(tmp_path / "mapped.h5ad")
    again = read_h5ad(tmp_path / "mapped.h5ad")
    assert again.obs["rpumap_label"].tolist() == query.obs["rpumap_label"].tolist()
    assert again.uns["rpumap"]["eps"] == 0.05


# --- fit ----------------------------------------------------------------------------------------


def test_bad_references_are_refused():
    with pytest.raises(KeyError, match="no column 'celltype' in obs, which has 'kind'"):
        ReferenceMap().fit(cells(100, 0), "celltype")
    with pytest.raises(ValueError, match="60 cells or more, got 30"):
        ReferenceMap().fit(cells(30, 0), "kind")
    adata = cells(100, 0)
    adata.obs["kind"] = adata.obs["kind"].where(np.arange(100) > 3)
    with pytest.raises(ValueError, match="4 of 100 are missing"):
        ReferenceMap().fit(adata, "kind")


def test_a_label_without_training_cells_is_left_out():
    adata = cells(150, 0)
    kinds = adata.obs["kind"].astype(str).to_numpy()
    # held out is what the generator of the reference draws
    held = np.random.default_rng(0)
    held.permutation(150)
    kinds[held.permutation(150)[0]] = "rare"
    adata.obs["kind"] = kinds
    with pytest.warns(UserWarning, match="left out of the reference: 'rare'"):
        ref = ReferenceMap(n_top_genes=40, robust=False).fit(adata, "kind")
    assert list(ref.index_.names) == TYPES


@pytest.mark.parametrize("kind", ["memory", "backed", "lazy"])
def test_a_graph_of_scanpy_is_what_the_map_keeps(kind, tmp_path):
    adata = cells(200, 0)
    others = np.random.default_rng(1).permutation(200)  # neighbours that no counts show
    adata.obsm["other"] = adata.X.toarray()[others]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scanpy.pp.neighbors(adata, use_rep="other", random_state=0)
    adata.write_h5ad(tmp_path / "ref.h5ad")
    if kind == "backed":
        adata = read_h5ad(tmp_path / "ref.h5ad", backed="r")
    elif kind == "lazy":
        experimental = pytest.importorskip("anndata.experimental")
        pytest.importorskip("xarray")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            adata = experimental.read_lazy(tmp_path / "ref.h5ad")
    seen = {}
    fit = rpumap.ParametricUMAP.fit

    def watched(self, X, y=None, *, graph=None):
        seen["graph"] = graph
        return fit(self, X, y, graph=graph)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rpumap.ParametricUMAP, "fit", watched)
        ref = ReferenceMap(n_top_genes=40, robust=False)
        ref.fit(adata, "kind", graph="connectivities")
    whole = read_h5ad(tmp_path / "ref.h5ad").obsp["connectivities"]
    rng = np.random.default_rng(0)
    rng.permutation(200)
    held = rng.permutation(200)[:40]
    kept = np.setdiff1d(np.arange(200), held)
    assert abs(seen["graph"] - whole[kept][:, kept]).max() == 0
    with pytest.raises(KeyError, match="no graph 'other' in obsp, which has 'conn|'dist"):
        ref.fit(adata, "kind", graph="other")


def test_held_out_cells_are_scored(ref):
    quality = ref.quality_
    assert quality.n_cells == 100
    assert quality.index_accuracy > 0.95 and quality.map_accuracy > 0.9
    assert quality.trust > 0.6 and 0.8 < quality.coverage <= 1


def test_the_reference_is_not_changed():
    adata = cells(100, 0)
    before = adata.copy()
    ReferenceMap(n_top_genes=30, robust=False).fit(adata, "kind")
    assert (adata.X != before.X).nnz == 0 and adata.obs.equals(before.obs)


# --- file ---------------------------------------------------------------------------------------


def test_a_file_gives_the_same_bits(ref, query, tmp_path):
    ref.save(tmp_path / "a.rpumap")
    again = ReferenceMap.load(tmp_path / "a.rpumap")
    a, b = ref.map(query.copy()), again.map(query.copy())
    np.testing.assert_array_equal(a.obsm["X_umap"], b.obsm["X_umap"])
    columns = [name for name in a.obs if name.startswith("rpumap")]
    pd.testing.assert_frame_equal(a.obs[columns], b.obs[columns])
    assert ref.card() == again.card()
    again.save(tmp_path / "b.rpumap")
    assert (tmp_path / "a.rpumap").read_bytes() == (tmp_path / "b.rpumap").read_bytes()


@pytest.fixture(scope="module")
def parts(ref, tmp_path_factory):
    path = tmp_path_factory.mktemp("reference") / "a.rpumap"
    ref.save(path)
    return read_file(path)


def changed(parts, where, value):
    header, arrays = json.loads(json.dumps(parts[0])), dict(parts[1])
    (header if where in header else arrays)[where] = value
    return header, arrays


@pytest.mark.parametrize(
    ("where", "value"),
    [
        ("labels", []),
        ("labels", ["a", "a", "b"]),
        ("labels", ["a", "b", "c", "d"]),
        ("genes", ["x"]),
        ("genes", None),
        ("hidden_sizes", [10**9]),
        ("hidden_sizes", "12"),
        ("parameters", {"n_top_genes": 60, "path": "/etc"}),
        ("target_sum", -1),
        ("threshold", "0"),
        ("quality", {}),
        ("about", 3),
        ("about", {"rpumap": "1"}),
        ("quality", dict.fromkeys(("n_cells", "trust", "index_accuracy"), "many")),
        ("genes.std", np.zeros(60)),
        ("genes.mean", np.full(60, np.nan)),
        ("cells.labels", np.full(400, 7, dtype="int32")),
        ("cells.labels", np.full(400, -1, dtype="int32")),
        ("cells.labels", np.r_[0, 1, 2, 9, np.zeros(396)].astype("int32")),
        ("parameters", {"layer": 3}),
        ("cells.map", np.zeros((3, 2), dtype="float32")),
        ("index.0.cells", np.zeros(3, dtype="float32")),
        ("index.1.cells", np.zeros((3, 20), dtype="float32")),
        ("index.0.usual", np.zeros(3)),
        ("index.2.cells", np.zeros((400, 20), dtype="float32")),
        ("more", np.zeros(3)),
    ],
)
def test_a_file_that_makes_no_sense_is_refused(parts, tmp_path, where, value):
    write_file(tmp_path / "bad.rpumap", *changed(parts, where, value))
    with pytest.raises(ReferenceFileError, match="no valid reference map"):
        ReferenceMap.load(tmp_path / "bad.rpumap")


@pytest.mark.parametrize("part", [0, 1])
def test_nothing_may_be_missing(parts, tmp_path, part):
    for name in parts[part]:
        changed = [dict(whole) for whole in parts]
        del changed[part][name]
        write_file(tmp_path / "bad.rpumap", *changed)
        with pytest.raises(ReferenceFileError, match="no valid reference map"):
            ReferenceMap.load(tmp_path / "bad.rpumap")


def test_the_card_says_what_and_how_good(ref):
    card = ref.card()
    assert "500 of 500 cells" in card
    assert f"{ref.quality_.index_accuracy:.1%}" in card
    assert "a, b, c" in card


def test_a_file_is_small(ref, tmp_path):
    ref.save(tmp_path / "a.rpumap")
    assert (tmp_path / "a.rpumap").stat().st_size < 300_000
    assert read_file(tmp_path / "a.rpumap")[0]["labels"] == TYPES


@pytest.mark.parametrize("version", range(1, VERSION + 1))
def test_files_of_each_version_can_be_read(version):
    path = DATA / f"reference_v{version}.rpumap"
    assert f"version {version}".encode() in path.read_bytes()
    ref = ReferenceMap.load(path)
    assert len(ref.index_.spaces) == min(version, 2)
    known = np.load(path.with_suffix(".npz"))
    query = AnnData(known["counts"], obs={"library_size": known["library_size"]})
    query.var_names = known["genes"]
    quiet(ref, query)
    # processors round differently in the last bits
    np.testing.assert_allclose(query.obsm["X_umap"], known["coordinates"], atol=1e-4)
    np.testing.assert_allclose(query.obs["rpumap_novelty"], known["novelty"], rtol=1e-3)
    assert query.obs["rpumap_label"].tolist() == known["labels"].tolist()
