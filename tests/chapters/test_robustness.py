"""A plain and a regularised network are measured alike, and scores are right by other means."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.manifold import trustworthiness

import rpumap
from examples import labels_at
from rpumap.chapters import robustness
from rpumap.chapters.generalization import SPLIT_SEED
from rpumap.chapters.robustness import (
    CURVE,
    DOSE,
    DOSES,
    HIGH,
    RATIOS,
    Pair,
    agreement,
    intersecting,
    lose,
    measure_pair,
)
from rpumap.chapters.scorecard import load_rules
from rpumap.chapters.settings import Settings
from rpumap.sensitivity import perturb

TINY = Settings(
    "default",
    {"n_steps": 30, "hidden_sizes": (16,), "batch_size": 256},
    {"n_steps": 4, "learning_rate": 0.002},
)
SEED = 3


@pytest.fixture(scope="module")
def adata():
    return rpumap.datasets.pancreas(source="simulated")[::8].copy()


@pytest.fixture(scope="module")
def pair(adata):
    return Pair(adata, TINY, SEED)


@pytest.fixture(scope="module")
def found(adata):
    return measure_pair(adata, TINY, SEED)


# --- the pair -------------------------------------------------------------------------------------


def test_held_out_cells_take_no_part(adata, pair):
    held, reference = set(pair.held_out.obs_names), set(pair.reference.obs_names)
    assert not held & reference
    assert held | reference == set(adata.obs_names)
    assert len(held) == adata.n_obs // 5
    prep = rpumap.Preprocessor(n_top_genes=300).fit(pair.reference)
    np.testing.assert_array_equal(pair.X, prep.transform(pair.reference))
    np.testing.assert_array_equal(pair.X_held, prep.transform(pair.held_out))
    base = TINY.fit(pair.X, SEED)
    np.testing.assert_array_equal(pair.models["base"].embedding_, base.embedding_)
    robust = rpumap.robustify(base, pair.X, 0.2, n_steps=4, learning_rate=0.002)
    np.testing.assert_array_equal(pair.models["robust"].embedding_, robust.embedding_)


def test_another_network_on_the_same_split(adata, pair):
    other = Pair(adata, TINY, SEED, network_seed=SEED + 1)
    np.testing.assert_array_equal(other.X_held, pair.X_held)
    expected = TINY.fit(pair.X, SEED + 1).embedding_
    np.testing.assert_array_equal(other.models["base"].embedding_, expected)


def test_all_that_is_trained_further_takes_as_many_steps(pair):
    for model in (pair.models["robust"], pair.steady, pair.free, pair.tuned):
        assert len(model.history_["loss"]) == 4
        assert model.history_["learning_rate"][0] == pytest.approx(0.002)
    assert not np.array_equal(pair.steady.embedding_, pair.tuned.embedding_)


def test_the_control_has_no_bound_loss_and_free_no_reconstruction(pair):
    assert (pair.models["robust"].history_["bound"] > 0).all()
    assert (pair.tuned.history_["bound"] == 0).all()
    plain = rpumap.robustify(
        pair.models["base"], pair.X, n_steps=4, learning_rate=0.002, reconstruction=0
    )
    np.testing.assert_array_equal(pair.free.embedding_, plain.embedding_)


# --- lost counts ----------------------------------------------------------------------------------


@pytest.mark.parametrize("ratio", [0.0, 0.3, 0.8])
def test_a_share_of_the_entries_and_of_the_other_genes_is_lost(adata, ratio):
    panel = adata[:, :200].copy()  # library sizes are those of all genes
    left = lose(panel, ratio, seed=0)
    before, after = (np.asarray(a.X.todense(), dtype=float) for a in (panel, left))
    assert ((after == before) | (after == 0)).all()
    n_entries = (before > 0).sum()
    assert (after > 0).sum() == n_entries - round(ratio * n_entries)
    others = panel.obs["library_size"].to_numpy() - before.sum(axis=1)
    assert others.min() > 0
    expected = after.sum(axis=1) + (1 - ratio) * others
    np.testing.assert_allclose(left.obs["library_size"], expected)
    np.testing.assert_array_equal(panel.X.todense(), before)


def test_losses_of_a_table_with_all_genes_are_taken_from_the_library(adata):
    whole = adata.copy()
    del whole.obs["library_size"]
    left = lose(whole, 0.5, seed=0)
    np.testing.assert_allclose(left.obs["library_size"], np.ravel(left.X.sum(axis=1)))


def test_cells_with_losses_are_the_held_out_ones(pair):
    assert set(pair.lost) == set(RATIOS)
    counts = pair.held_out[:, pair.prep.genes_].copy()
    expected = pair.prep.transform(lose(counts, 0.3, seed=1))
    np.testing.assert_array_equal(pair.lost[0.3][1], expected)
    changes = [np.mean([np.abs(x - pair.X_held).mean() for x in pair.lost[r]]) for r in RATIOS]
    assert changes == sorted(changes)


def test_agreement_is_the_correlation_axis_by_axis():
    Z = np.random.default_rng(0).normal(size=(50, 2))
    assert agreement(Z, 2 * Z + 1) == pytest.approx(1)
    assert agreement(Z, Z * [1, -1]) == pytest.approx(0)
    other = Z + np.random.default_rng(1).normal(size=Z.shape)
    expected = [np.corrcoef(Z[:, i], other[:, i])[0, 1] for i in (0, 1)]
    assert agreement(Z, other) == pytest.approx(np.mean(expected))


def test_correlation_is_the_mean_over_draws(pair):
    model = pair.models["base"]
    intact = model.transform(pair.X_held)
    expected = [agreement(model.transform(x), intact) for x in pair.lost[HIGH]]
    assert len(expected) == robustness.DRAWS
    assert len(set(expected)) == len(expected)
    assert pair.correlation(model, HIGH) == pytest.approx(np.mean(expected))


def test_a_map_trained_on_losses_is_turned_onto_the_other(pair, monkeypatch):
    turn = np.array([[0.6, -0.8], [0.8, 0.6]])
    Z = pair.models["base"].embedding_
    seeds = []

    def fit(self, X, seed, **changes):
        seeds.append((seed, np.array_equal(X, pair.X)))
        turned = 3 * Z @ turn * [1, -1] if len(seeds) == 1 else Z[::-1]
        return SimpleNamespace(embedding_=turned)

    monkeypatch.setattr(Settings, "fit", fit)
    value, baseline = robustness._trained_on_losses(pair)
    assert value == pytest.approx(1)
    assert baseline < 0.9
    assert seeds == [(SEED, False), (SEED + SPLIT_SEED, True)]


# --- scores of a map ------------------------------------------------------------------------------


def test_accuracy_is_that_of_votes_counted_one_by_one(pair):
    model = pair.models["base"]
    labels, truth = (np.asarray(part).astype(str) for part in (pair.labels, pair.labels_held))
    guesses = labels_at(model.transform(pair.X_held), model.embedding_, labels, k=15)
    assert pair.accuracy(model, pair.X_held) == pytest.approx((guesses == truth).mean(), abs=0.02)
    guesses = labels_at(pair.X_held, pair.X, labels, k=15)
    assert pair.accuracy_in_genes(pair.X_held) == pytest.approx((guesses == truth).mean(), abs=0.02)


def test_trust_compares_with_intact_cells(pair):
    model, lost = pair.models["base"], pair.lost[0.7][0]
    expected = trustworthiness(pair.X_held, model.transform(lost), n_neighbors=15)
    assert pair.trust(model, lost) == pytest.approx(expected)


def test_noise_is_added_to_one_gene_or_to_all(pair):
    whole = pair.accuracy(pair.models["base"], pair.X_held)
    assert pair.kept("base", 1e-6, None) == pytest.approx(1, abs=0.02)
    assert pair.kept("base", 1e6, None) < 0.7
    # a gene that the network does not see can do no harm
    gene = int(pair.impact["base"].argmin())
    assert pair.kept("base", 1.0, gene) == pytest.approx(1, abs=0.05)
    noisy = [
        pair.accuracy(pair.models["base"], perturb(pair.X_held, DOSE, 7, draw))
        for draw in range(robustness.DRAWS)
    ]
    assert pair.kept("base", DOSE, 7) == pytest.approx(np.mean(noisy) / whole)


@given(st.integers(2, 8), st.integers(0, 1000))
def test_intersecting_boxes_are_counted_pair_by_pair(n, seed):
    draw = np.random.default_rng(seed)
    lower = draw.integers(0, 5, (n, 2)).astype(float)
    upper = lower + draw.integers(0, 4, (n, 2))
    kinds = np.array([*"ab"] * n)[:n]
    meet = []
    for i in range(n):
        for j in range(n):
            if kinds[i] != kinds[j]:
                rows = zip(lower[i], upper[i], lower[j], upper[j], strict=True)
                meet.append(all(max(a, c) <= min(b, d) for a, b, c, d in rows))
    assert intersecting(lower, upper, kinds) == pytest.approx(np.mean(meet))


# --- what is measured -----------------------------------------------------------------------------


def test_every_claim_about_pairs_is_measured(found):
    wanted = {r.id for r in load_rules() if r.experiment == "pair"}
    assert {key for key in found if not key.startswith(CURVE)} == wanted
    assert np.isfinite(list(found.values())).all()


def test_curves_have_the_numbers_of_the_claims(found):
    for ratio in (0.1, 0.3, 0.5, 0.8):
        expected = found[f"robust-dropout/{100 * ratio:.0f}"]
        assert found[f"{CURVE}dropout/{ratio:g}"] == expected
    assert found[f"{CURVE}dropout/0.8"][1] == found["dropout"][0]
    assert found[f"{CURVE}losses/0.8"][0] == found["losses"][0]
    assert found[f"{CURVE}dose-own/10"][1] == found["top-gene/severe"][0]
    assert found[f"{CURVE}dose-same/10"][0] == found["top-gene/little"][0]
    assert found[f"{CURVE}impact/0.5"] == found["impact-peak/moved"]
    mean = np.mean([found[f"{CURVE}dose-own/{dose:g}"] for dose in DOSES], axis=0)
    assert found["top-gene/own"] == pytest.approx(tuple(mean))


def test_the_regularised_network_comes_first_and_the_plain_one_second(pair, found):
    base, robust = pair.models["base"], pair.models["robust"]
    both = (robust, base)
    expected = {
        "robust-dropout/80": [pair.correlation(m, 0.8) for m in both],
        "robust-dropout/control": [pair.correlation(m, 0.8) for m in (robust, pair.tuned)],
        "losses": [pair.correlation(m, 0.8) for m in (pair.steady, robust)],
        "quality/trust": [pair.trust(m, pair.X_held) for m in both],
        "quality/accuracy": [pair.accuracy(m, pair.X_held) for m in both],
        "impact-variance/much": [(rpumap.gene_impact(m, pair.X) / len(pair.X)).var() for m in both],
    }
    for name, numbers in expected.items():
        assert found[name] == pytest.approx(numbers), name
    plain, regular = ({r: pair.correlation(m, r) for r in (0.1, 0.8)} for m in (base, robust))
    gain = [regular[r] - plain[r] for r in (0.1, 0.8)]
    share = [g / (1 - plain[r]) for g, r in zip(gain, (0.1, 0.8), strict=True)]
    assert found["robust-low/gain"] == pytest.approx(gain)
    assert found["robust-low/share"] == pytest.approx(share)


def test_noise_goes_into_the_gene_that_a_map_depends_on_most():
    asked = []

    def kept(name, scale, gene):
        asked.append((name, scale, gene))
        return {"robust": 0.75, "base": 0.5}[name] - 0.01 * (gene == 0)

    impact = {"base": np.array([9.0, 1.0, 2.0]), "robust": np.array([1.0, 0.5, 3.0])}
    found = robustness._genes(SimpleNamespace(impact=impact, kept=kept))
    own = {(name, dose, gene) for name, gene in (("base", 0), ("robust", 2)) for dose in DOSES}
    same = {(name, dose, 0) for name in ("base", "robust") for dose in DOSES}
    assert set(asked) == own | same | {(name, DOSE, None) for name in ("base", "robust")}
    assert found["top-gene/severe"] == (0.49, 1)
    assert found["top-gene/little"] == (0.74, 1)
    assert found["top-gene/own"] == pytest.approx((0.75, 0.49))
    assert found["all-genes/base"] == (0.5, 1)
    assert found["all-genes/robust"] == (0.75, 1)
    # a quarter of the plain median, 2, is 0.5: no gene of either map is below
    assert found["impact-peak/moved"] == (1, 2)
    assert found["impact-peak/taller"] == (0, 0)
    impact["robust"][:2] = 0.4
    found = robustness._genes(SimpleNamespace(impact=impact, kept=kept))
    assert found["impact-peak/taller"] == pytest.approx((2 / 3, 0))
    assert found["impact-variance/much"] == pytest.approx(
        tuple(np.mean((g - g.mean()) ** 2) for g in (impact["robust"], impact["base"]))
    )


def test_boxes_are_certified_for_both_networks_and_hold_their_cells(pair, found, monkeypatch):
    seen = []

    def measured(lower, upper, kinds):
        seen.append((lower, upper, kinds))
        return intersecting(lower, upper, kinds)

    monkeypatch.setattr(robustness, "intersecting", measured)
    again = robustness._boxes(pair)
    assert again["boxes/reduced"] == found["boxes/reduced"]
    for (lower, upper, kinds), name in zip(seen, ("base", "robust"), strict=True):
        Z = pair.models[name].transform(pair.X_held[: len(kinds)])
        assert ((lower <= Z) & (upper >= Z)).all()
        np.testing.assert_array_equal(kinds, pair.labels_held[: len(kinds)])
    Z, kept = (pair.models[name].embedding_ for name in ("base", "robust"))
    smaller = min(np.corrcoef(kept[:, i], Z[:, i])[0, 1] for i in (0, 1))
    assert again["shape/kept"] == pytest.approx((smaller, 1))
