"""CROWN is compared with other regularisers by what it should be, and on equal terms."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pynndescent
import pytest
import scanpy as sc
import torch
from anndata import AnnData
from scipy import sparse

from examples import three_types
from rpumap.chapters import rivals
from rpumap.chapters.comparison import transfer_accuracy, transfer_labels
from rpumap.chapters.settings import Settings
from rpumap.networks import mlp

TINY = Settings(
    "tiny",
    model={"n_steps": 30, "hidden_sizes": (16,), "batch_size": 256, "n_neighbors": 10},
    robust={"n_steps": 12},
)
GRID = {"more training": (0.0,), "CROWN": (1.0,), "CROWN then dropout": (1.0,)}


EVERY = three_types(200, 310)
EVERY.obs["clusters"] = pd.Categorical(np.array([*"abc"])[np.arange(200) % 3])
REFERENCE, QUERY = EVERY[:160].copy(), EVERY[160:].copy()


@pytest.fixture(scope="module")
def cells():
    return rivals.split(REFERENCE, QUERY, TINY, seed=0)


@pytest.fixture(scope="module")
def base(cells):
    return TINY.fit(cells.X, 0)


# --- penalties ----------------------------------------------------------------------------------


@pytest.mark.parametrize("hidden", [(), (9,), (9, 7, 5)])
def test_the_jacobian_and_its_derivative_are_those_of_autograd(hidden):
    draw = torch.Generator().manual_seed(0)
    network = mlp(6, hidden, 2, draw).double()
    x = torch.randn(11, 6, generator=draw, dtype=torch.float64)
    norms = []
    for cell in x:
        slopes = torch.autograd.functional.jacobian(network, cell, create_graph=True)
        norms.append(slopes.square().sum())
    expected, found = torch.stack(norms).mean(), rivals.squared_jacobian(network, x)
    torch.testing.assert_close(found, expected)
    weights = [module.weight for module in network if hasattr(module, "weight")]
    for one, other in zip(
        torch.autograd.grad(found, weights), torch.autograd.grad(expected, weights), strict=True
    ):
        torch.testing.assert_close(one, other)


def test_singular_values_are_those_of_numpy():
    network = mlp(9, (7, 8), 2, torch.Generator().manual_seed(0)).double()
    weights = [network[i].weight for i in (0, 2, 4)]
    found = rivals.lipschitz_bound(network)
    values = [np.linalg.svd(weight.detach().numpy())[1][0] for weight in weights]
    assert found.item() == pytest.approx(np.prod(values))
    expected = torch.stack([torch.linalg.matrix_norm(weight, 2) for weight in weights]).prod()
    for one, other in zip(
        torch.autograd.grad(found, weights), torch.autograd.grad(expected, weights), strict=True
    ):
        torch.testing.assert_close(one, other)


# --- methods and scores -------------------------------------------------------------------------


def test_held_out_cells_are_not_trained_on(cells):
    assert cells.is_held_out.sum() == len(cells.X_held) == 32
    assert not set(cells.train.obs_names) & set(cells.held.obs_names)
    assert cells.labels_held.tolist() == REFERENCE.obs["clusters"][cells.is_held_out].tolist()
    again = rivals.split(REFERENCE, QUERY, TINY, seed=1)
    assert (again.is_held_out != cells.is_held_out).any()
    np.testing.assert_array_equal(cells.prep.transform(cells.train), cells.X)
    assert np.abs(cells.X.mean(axis=0)).max() < 1e-4  # and not those of all cells


def test_each_method_holds_small_what_it_penalises(cells, base):
    before = [parameter.clone() for parameter in base.encoder_.parameters()]

    def train(method, strength):
        return rivals.regularise(method, strength, base, cells, TINY)

    plain = train("more training", 0.0)
    x = torch.as_tensor(cells.X)

    def size(model):
        return sum(float(p.detach().square().sum()) for p in model.encoder_.parameters())

    def slope(model):
        return rivals.squared_jacobian(model.encoder_, x).item()

    def bound(model):
        return rivals.lipschitz_bound(model.encoder_).item()

    def width(model):
        return rivals.score(model, cells, TINY)["width"]

    for method, strength, held in (
        ("weight decay", 30.0, size),
        ("Jacobian penalty", 1000.0, slope),
        ("spectral norm", 100.0, bound),
        ("CROWN", 10.0, width),
    ):
        assert held(train(method, strength)) < held(plain), method
    noisy = cells.X + np.random.default_rng(0).normal(size=cells.X.shape).astype(np.float32)
    moved = [
        np.linalg.norm(model.transform(noisy) - base.embedding_, axis=1).mean()
        for model in (train("input noise", 1.0), plain)
    ]
    assert moved[0] < moved[1]
    for one, other in zip(before, base.encoder_.parameters(), strict=True):
        assert torch.equal(one, other)


def test_all_methods_are_trained_for_as_many_steps(cells, base):
    for method in rivals.METHODS:
        model = rivals.regularise(method, 1.0, base, cells, TINY)
        assert len(model.history_["loss"]) == 12, method
        assert model.history_["learning_rate"][0] == 3e-3, method


def test_strengths_are_multiples_of_the_default(cells, base):
    model = rivals.regularise("CROWN", 1.0, base, cells, TINY)
    np.testing.assert_array_equal(model.embedding_, TINY.robustify(base, cells.X).embedding_)
    both = rivals.regularise("CROWN then dropout", 1.0, base, cells, TINY)
    frame = rivals.compare(REFERENCE, QUERY, TINY, 0, GRID)
    row = frame.loc[("CROWN then dropout", 1.0)]
    assert row.to_dict() == pytest.approx(rivals.score(both, cells, TINY))
    assert set(rivals.METHODS["CROWN"]) == set(rivals.METHODS["CROWN then dropout"])


def test_reach_of_a_linear_network_is_that_of_its_weights(cells, base):
    linear = Settings("linear", model={**TINY.model, "hidden_sizes": (), "n_steps": 5})
    model = linear.fit(cells.X, 0)
    weight = model.encoder_[0].weight.detach().numpy()
    spread = np.sqrt(model.embedding_.var(axis=0).sum())
    found = rivals.score(model, cells, linear)
    assert found["width"] == pytest.approx(
        2 * 0.2 * np.abs(weight).sum(axis=1).mean() / spread, rel=1e-3
    )
    corners = np.sign(rivals.WAYS.numpy() @ weight) @ weight.T * 0.2
    expected = np.linalg.norm(corners, axis=1).max() / spread
    assert found["attack"] == pytest.approx(expected, rel=1e-3)


def test_scores_are_of_held_out_cells_and_of_the_query(cells, base):
    found = rivals.score(base, cells, TINY)
    assert found["studies"] == transfer_accuracy(
        base.embedding_, cells.labels, base.transform(cells.X_query), cells.labels_query
    )
    assert 0 < found["dropout"] < 1
    # no loss of counts, no change of coordinates
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rivals, "DROPOUT", 0.0)
        assert rivals.score(base, cells, TINY)["dropout"] == pytest.approx(1)


def test_accuracy_is_weighted_by_the_labels_of_other_cells():
    found, labels = np.array([*"aabb"]), np.array([*"aaab"])
    assert rivals.weighted_accuracy(found, labels, labels) == 0.75
    assert rivals.weighted_accuracy(found, labels, np.array(["b"])) == 1
    # "z", which no such cell has, does not count
    assert rivals.weighted_accuracy(found, labels, np.array([*"abzz"])) == pytest.approx(5 / 6)


# --- equal trustworthiness ----------------------------------------------------------------------


def frame(**methods: list[list[float]]) -> pd.DataFrame:
    """Make a frame of trust, width and studies; "more_training" has strength 0."""
    rows = {("base", 0.0): [0.9, 10.0, 0.5], ("more training", 0.0): [0.9, 8.0, 0.6]}
    for method, values in methods.items():
        rows |= {(method, i + 1.0): row for i, row in enumerate(values)}
    table = pd.DataFrame(rows, index=["trust", "width", "studies"]).T
    return table.rename_axis(["method", "strength"])


def test_scores_are_taken_where_trust_is_as_high_as_allowed():
    found = rivals.at_equal_trust(
        frame(
            crossing=[[0.88, 4.0, 0.4]],
            inside=[[0.895, 3.0, 0.9], [0.6, 0.0, 1.0]],
            returning=[[0.88, 9.0, 0.6], [0.90, 5.0, 0.2]],
        ),
        loss=0.01,
    )
    assert found.loc["more training"].tolist() == [8, 0.6]
    # half way from 0.9 to 0.88; the best accuracy is that of the start
    assert found.loc["crossing"].tolist() == pytest.approx([6, 0.6])
    share = (0.895 - 0.89) / (0.895 - 0.6)
    assert found.loc["inside"].tolist() == pytest.approx([3 * (1 - share), 0.9 + 0.1 * share])
    assert found.loc["returning"].tolist() == pytest.approx([5, 0.6])


def test_rows_need_not_be_sorted_by_strength():
    table = frame(m=[[0.895, 3.0, 0.9], [0.88, 1.0, 0.8]])
    pd.testing.assert_frame_equal(
        rivals.at_equal_trust(table), rivals.at_equal_trust(table.iloc[[0, 1, 3, 2]])
    )


def test_a_method_that_always_loses_too_much_is_left_at_the_base():
    table = frame(m=[[0.5, 1.0, 0.99]])
    table.loc[("more training", 0.0), "trust"] = 0.8
    assert rivals.at_equal_trust(table).loc["m"].tolist() == [10, 0.5]


def test_one_rival_is_chosen_for_all_seeds():
    flat = {name: [[0.9, 9.0, 0.6]] for name in rivals.PLAIN}
    one = frame(**flat | {"input noise": [[0.9, 3.0, 0.9]]}, CROWN=[[0.9, 2.0, 0.8]])
    two = frame(**flat | {"weight decay": [[0.9, 5.0, 0.8]]}, CROWN=[[0.9, 1.0, 0.7]])
    found = rivals.rivals([one, two])
    assert found["width", "CROWN"].tolist() == [2, 1]
    # the mean of input noise, 6, is below that of weight decay, 7; its second value counts
    assert found["width", "input noise"].tolist() == [3, 9]
    assert found["studies"].columns.tolist() == ["CROWN", "input noise"]


# --- files --------------------------------------------------------------------------------------


def write(folder, filename, column, labels, genes):
    table = np.arange(1, 1 + len(labels) * len(genes)).reshape(len(labels), -1)
    adata = AnnData(sparse.csr_matrix(table.astype(np.int32)))
    adata.var_names = list(genes)
    adata.obs[column] = pd.Categorical(labels)
    adata.obs["library_size"] = 1000
    adata.write_h5ad(folder / filename)


def test_two_studies_get_the_same_genes_and_labels(tmp_path, monkeypatch):
    monkeypatch.setenv("RPUMAP_DATA_DIR", str(tmp_path))
    stages = ["IDC1_ring/merozoite(cl6)", "IDC4_early_troph(cl1)", "IDC7_schizont(cl7)"]
    stages += ["gametocyte_male", "gametocyte_female", "IDC99"]
    write(tmp_path, "malaria_pberghei_10x.h5ad", "stage", stages, "xyz")
    kinds = ["male", "outlier", "trophozoite"]
    write(tmp_path, "malaria_reid_PbM.h5ad", "consensus", kinds, "wzy")
    reference, query = rivals.load_pair("malaria")
    assert reference.obs["clusters"].tolist() == [
        *("ring", "trophozoite", "schizont", "male", "female")
    ]
    assert query.obs["clusters"].tolist() == ["male", "trophozoite"]
    assert [*reference.var_names] == [*query.var_names] == ["y", "z"]
    assert query.X.toarray().tolist() == [[3, 2], [9, 8]]
    assert query.obs["library_size"].tolist() == [1000, 1000]


def test_blood_cells_are_named_alike(tmp_path, monkeypatch):
    monkeypatch.setenv("RPUMAP_DATA_DIR", str(tmp_path))
    sorted_by = ["B cell", "T cell", "NK cell", "CD14+", "CD34+"]
    write(tmp_path, "pbmc_facs_zheng2017.h5ad", "subpop", sorted_by, "xy")
    clustered = ["B", "Naive CD4 T", "Memory CD4 T", "CD8 T", "NK", "CD14+ Mono", "FCGR3A+ Mono"]
    clustered += ["DC", "Platelet", "unlabelled"]
    write(tmp_path, "pbmc3k_10x_raw.h5ad", "cell_type", clustered, "xy")
    reference, query = rivals.load_pair("blood")
    assert reference.obs["clusters"].tolist() == ["B", "T", "NK", "monocyte", "CD34+"]
    assert query.obs["clusters"].tolist() == ["B", *"TTT", "NK", "monocyte", "monocyte"]


@pytest.mark.parametrize("folder", ["", "nowhere"])
def test_a_missing_file_is_named(tmp_path, monkeypatch, folder):
    monkeypatch.setenv("RPUMAP_DATA_DIR", str(tmp_path / folder) if folder else "")
    with pytest.raises(RuntimeError, match="malaria_pberghei_10x.h5ad .* by book/make_malaria.py"):
        rivals.load_pair("malaria")


# --- label transfer, and everything at once -----------------------------------------------------


def test_scanpy_is_given_what_its_own_steps_expect(monkeypatch):
    seen = {}

    def vote(query, reference, obs, embedding_method):
        """Transfer labels as scanpy does, without the compilation of its search, half a minute."""
        center = reference.X.toarray().mean(axis=0)
        Z = [(adata.X.toarray() - center) @ reference.varm["PCs"] for adata in (reference, query)]
        np.testing.assert_allclose(Z[0], reference.obsm["X_pca"], atol=1e-3)
        query.obs[obs] = transfer_labels(Z[0], reference.obs[obs], Z[1])
        seen.update(X=reference.X, names=reference.var_names)
        assert pynndescent.NNDescent().n_search_trees == 1

    monkeypatch.setattr(pynndescent, "NNDescent", SimpleNamespace)
    monkeypatch.setattr(sc.tl, "ingest", vote)
    monkeypatch.setattr(sc.pp, "neighbors", lambda adata, **options: seen.update(options))
    reference, query = REFERENCE.copy(), QUERY.copy()
    reference.obs["library_size"] = 2 * np.ravel(reference.X.sum(axis=1))
    found = rivals.ingest(reference, query, seed=5)
    assert (found == query.obs["clusters"].to_numpy()).mean() > 0.9
    assert seen["random_state"] == 5
    expected = reference[:, seen["names"]].X / np.array(reference.obs["library_size"])[:, None]
    np.testing.assert_allclose(seen["X"].toarray(), np.log1p(1e4 * expected.toarray()), rtol=1e-5)
    assert reference.X.max() > 5 and reference.n_vars == 310  # it was not changed


def test_everything_is_measured(monkeypatch):
    monkeypatch.setattr(rivals, "METHODS", GRID | dict.fromkeys(rivals.PLAIN, (1.0,)))
    monkeypatch.setattr(rivals, "ingest", lambda reference, query, seed: ["a"] * query.n_obs)
    pair = REFERENCE, QUERY
    found, table = rivals.measure(pair, TINY, seed=3)
    assert set(found) == {f"rivals/{name}" for name in rivals.SCORES} | {
        *("batch", "transfer/pca", "transfer/ingest")
    }
    assert all(np.isfinite(values).all() for values in found.values())
    best = rivals.at_equal_trust(table)
    assert found["rivals/width"] == (
        best.loc["CROWN", "width"],
        best.loc[list(rivals.PLAIN), "width"].min(),
    )
    assert found["rivals/studies"][1] == best.loc[list(rivals.PLAIN), "studies"].max()
    cells = rivals.split(*pair, TINY, 3)
    assert found["transfer/ingest"][1] == pytest.approx((cells.labels_held == "a").mean())
    assert found["transfer/pca"][1] > 0.9
    pd.testing.assert_frame_equal(table, rivals.compare(*pair, TINY, 3, rivals.METHODS))


def test_the_figure_shows_changes_at_equal_trust():
    names = [name for name in rivals.METHODS if name != "more training"]
    scores = {name: [[0.9, 4.0, 0.6 + i / 50]] for i, name in enumerate(names)}
    frames = [frame(**scores).assign(attack=2.0 + i, dropout=0.5 + i / 9) for i in range(2)]
    drawn = rivals.figure({"one": frames, "two": frames})
    assert len(drawn.axes) == 4
    found = rivals.by_method(frames)
    for name, ax in zip(rivals.SCORES, drawn.axes, strict=True):
        scores, base = found[name].drop(columns="base"), found[name][["base"]].to_numpy()
        change = scores - base if rivals.SCORES[name] else np.log(scores / base)
        wanted = change.mean() if rivals.SCORES[name] else np.exp(change.mean())
        for container in ax.containers:
            assert container.lines[0].get_xdata() == pytest.approx(wanted.to_numpy())
    assert [text.get_text() for text in drawn.axes[0].get_yticklabels()] == list(rivals.METHODS)
    assert drawn.axes[0].yaxis_inverted()
