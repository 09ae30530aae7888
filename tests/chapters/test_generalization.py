"""Scores of parts and maps are right where the answer is known, and held-out cells are held out."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from sklearn import manifold
from sklearn.metrics import balanced_accuracy_score, silhouette_samples

import rpumap
from examples import labels_at
from rpumap.chapters import generalization
from rpumap.chapters.generalization import (
    FEWEST,
    FRACTIONS,
    SPLIT_SEED,
    Split,
    alike,
    balanced_accuracy,
    displacement,
    measure_maps,
    measure_split,
    resolution,
    separated,
    silhouette,
)
from rpumap.chapters.scorecard import load_rules
from rpumap.chapters.settings import Settings

TINY = Settings("default", {"n_steps": 15, "hidden_sizes": (16,), "batch_size": 256})
SEED = 3


def ids(experiment: str, cells: str) -> set[str]:
    """List the rules that an experiment is judged by."""
    return {r.id for r in load_rules() if r.experiment == experiment and cells in r.data}


@pytest.fixture(scope="module")
def adata():
    return rpumap.datasets.pancreas(source="simulated")[::8].copy()


@pytest.fixture(scope="module")
def split(adata):
    return Split(adata, TINY, SEED)


@pytest.fixture(scope="module")
def found(adata):
    return measure_split(adata, TINY, SEED)


class Remembered(Settings):
    """Settings that write down which cells they were given."""

    def prepare(self, reference):
        self.log.append(("prepare", list(reference.obs_names)))
        return super().prepare(reference)

    def fit(self, X, seed, **changes):
        self.log.append(("fit", len(X), seed, changes))
        return super().fit(X, seed, **changes)


@pytest.fixture
def remembered():
    settings = Remembered("default", TINY.model)
    object.__setattr__(settings, "log", [])
    return settings


# --- scores ---------------------------------------------------------------------------------------


def test_balanced_accuracy_is_that_of_sklearn():
    draw = np.random.default_rng(0)
    labels = draw.choice(list("aaaabbc"), 200)
    # a type that is guessed and not there changes nothing but the cells that it takes
    guesses = np.where(draw.random(200) < 0.3, draw.choice(list("abcd"), 200), labels)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that there is no "d"
        expected = balanced_accuracy_score(labels, guesses)
    assert balanced_accuracy(labels, guesses) == pytest.approx(expected)
    assert balanced_accuracy(np.array([*"aaab"]), np.array([*"aaaa"])) == 0.5


def test_silhouette_is_the_mean_over_cells():
    Z, labels = np.random.default_rng(0).normal(size=(60, 2)), np.repeat([*"abc"], 20)
    Z[:20] += 5
    assert silhouette(Z, labels) == pytest.approx(silhouette_samples(Z, labels).mean())
    apart = np.repeat([[0.0, 0.0], [9.0, 0.0], [0.0, 9.0]], 20, axis=0)
    assert silhouette(apart, labels) == 1


def test_resolution_looks_inside_each_type_that_is_large_enough():
    draw = np.random.default_rng(0)
    X = draw.normal(size=(2 * FEWEST + 10, 6))
    labels = np.repeat([*"abc"], [FEWEST, FEWEST, 10])
    Z = draw.normal(size=(len(X), 2))
    expected = np.mean(
        [manifold.trustworthiness(X[labels == k], Z[labels == k], n_neighbors=15) for k in "ab"]
    )
    assert resolution(X, Z, labels) == pytest.approx(expected)
    # nothing between types counts
    moved = Z + 100.0 * np.unique(labels, return_inverse=True)[1][:, None]
    assert resolution(X, moved, labels) == pytest.approx(expected)
    assert resolution(X, X, labels) == 1


def test_maps_are_alike_up_to_shift_turn_and_scale():
    draw = np.random.default_rng(0)
    Z = draw.normal(size=(210, 2))
    turn = np.array([[0.6, -0.8], [0.8, 0.6]])
    assert alike(Z, 3 * Z @ turn + 7) == pytest.approx(1)
    assert abs(alike(Z, draw.normal(size=Z.shape))) < 0.2
    middle = alike(Z, Z + 0.5 * draw.normal(size=Z.shape))
    assert 0.3 < middle < 0.95


# --- the split ------------------------------------------------------------------------------------


def test_held_out_cells_are_in_no_part(split):
    parts = [set(split.part(fraction)) for fraction in FRACTIONS]
    assert [len(part) for part in parts] == [round(f * split.adata.n_obs) for f in FRACTIONS]
    for smaller, larger in zip(parts[:-1], parts[1:], strict=True):
        assert smaller < larger
    assert len(split.held_out) == split.adata.n_obs // 4
    assert not parts[-1] & set(split.held_out)
    assert sorted(split.order) == list(range(split.adata.n_obs))


def test_splits_differ_by_their_seed_alone(adata, split):
    assert np.array_equal(Split(adata, TINY, SEED).order, split.order)
    assert not np.array_equal(Split(adata, TINY, SEED + 1).order, split.order)


def test_networks_see_genes_and_cells_of_their_part_alone(adata, remembered):
    split = Split(adata, remembered, SEED)
    split.train(0.3)
    part = split.part(0.3)
    [(step, names), fitted] = remembered.log
    assert (step, names) == ("prepare", list(adata.obs_names[part]))
    assert fitted == ("fit", len(part), SEED, {})


def test_coordinates_of_a_part_come_from_its_own_z_scores(adata, split):
    Z, X, by_all = split.train(0.3)
    part = split.part(0.3)
    prep = rpumap.Preprocessor(n_top_genes=300).fit(adata[part])
    np.testing.assert_array_equal(X, prep.transform(adata))
    model = TINY.fit(X[part], SEED)
    np.testing.assert_array_equal(Z, model.transform(X))
    # z-scores by all cells, of the same genes, computed from the counts
    counts = np.asarray(adata[:, prep.genes_].X.todense(), dtype=float)
    scaled = 1e4 * counts / adata.obs["library_size"].to_numpy()[:, None]
    scores = (scaled - scaled.mean(axis=0)) / scaled.std(axis=0, ddof=1)
    np.testing.assert_allclose(by_all, model.transform(scores.astype(np.float32)), atol=1e-3)


def test_held_out_cells_are_recognised_by_training_cells(adata):
    many = adata[adata.obs["clusters"].isin(["Alpha", "Beta", "Ductal"])]  # enough for 15 votes
    split = Split(many, TINY, SEED)
    kinds = np.unique(split.labels, return_inverse=True)[1]
    apart = np.stack([10.0 * kinds, np.zeros(len(kinds))], axis=1)
    assert split.recognised(0.5, apart) == 1
    # where the training cells lie together, far off, other held-out cells are of no help
    apart[split.part(0.5)] = 1e6
    assert split.recognised(0.5, apart) == pytest.approx(1 / 3)


def test_held_out_cells_part_among_themselves(split):
    draw = np.random.default_rng(0)
    kinds = np.unique(split.labels, return_inverse=True)[1]
    Z = draw.normal(size=(len(kinds), 2)) + 1.5 * np.stack([kinds % 3, kinds // 3], axis=1)
    cells, labels = Z[split.held_out], split.labels[split.held_out].astype(str)
    guesses = labels_at(cells, cells, labels, k=15, own=np.arange(len(cells)))
    expected = balanced_accuracy_score(labels, guesses)
    assert 0.2 < expected < 0.9
    assert separated(split, Z) == pytest.approx(expected)
    # training cells are not asked
    Z[split.part(0.5)] = 0
    assert separated(split, Z) == pytest.approx(expected)


def test_displacement_is_in_spreads_of_the_map(split):
    Z = np.random.default_rng(0).normal(size=(split.adata.n_obs, 2))
    spread = np.sqrt(Z.var(axis=0).sum())
    moved = Z + [0.3, 0.4]
    value, nearest = displacement(split, 0.3, (Z, Z, moved))
    assert value == pytest.approx(0.5 / spread)
    training = Z[split.part(0.3)]
    expected = [np.linalg.norm(training - Z[cell], axis=1).min() for cell in split.held_out]
    assert nearest == pytest.approx(np.median(expected) / spread)
    again = displacement(split, 0.3, (5 * Z, Z, 5 * moved))
    assert again == pytest.approx((value, nearest))
    # cells that were trained on do not count
    moved[split.part(0.5)] += 100
    assert displacement(split, 0.3, (Z, Z, moved))[0] == pytest.approx(value)


# --- what is measured -----------------------------------------------------------------------------


def test_a_split_measures_every_claim_about_splits(adata, found):
    assert set(found) == ids("split", "pancreas")
    assert np.isfinite(list(found.values())).all()
    # without Alpha and Beta cells nothing is said of them
    others = adata[~adata.obs["clusters"].isin(["Alpha"])].copy()
    assert set(measure_split(others, TINY, SEED)) == ids("split", "malaria")


def test_a_split_is_measured_again_to_the_same_bits(adata, found):
    assert measure_split(adata, TINY, SEED) == found


def test_the_map_of_all_that_others_are_compared_with_has_a_seed_of_its_own(adata, remembered):
    measure_split(adata, remembered, SEED)
    seeds = [entry[2] for entry in remembered.log if entry[0] == "fit" and entry[1] == adata.n_obs]
    assert sorted(seeds) == [SEED, SEED + SPLIT_SEED]


def test_half_and_all_are_compared_with_the_same_map(split, monkeypatch):
    compared = []
    monkeypatch.setattr(generalization, "alike", lambda *maps: compared.append(maps) or 0.5)
    half = split.train(0.5)[0]
    generalization._whole(split, half)
    (one, reference), (other, again) = compared
    assert one is half
    assert reference is again
    X = TINY.scores(TINY.prepare(split.adata), split.adata)
    np.testing.assert_array_equal(other, TINY.fit(X, SEED).embedding_)
    np.testing.assert_array_equal(reference, TINY.fit(X, SEED + SPLIT_SEED).embedding_)


def test_alpha_and_beta_that_part_with_more_cells_are_lost_with_few(split):
    draw = np.random.default_rng(0)
    beta = (split.labels == "Beta")[:, None]
    mixed = draw.normal(size=(split.adata.n_obs, 2))
    apart = mixed + 50.0 * beta
    runs = {f: (mixed if f == 0.05 else apart, mixed, mixed) for f in FRACTIONS}
    found = generalization._fine_structure(split, runs)
    for value, baseline in found.values():
        assert value > 0.3
        assert baseline == 0  # genes that tell as much at each size
    assert found["alpha-beta/lost"] == found["alpha-beta/back"]
    # and what genes lose as well is no loss of the map
    runs = {f: (Z, Z, Z) for f, (Z, _, _) in runs.items()}
    for value, baseline in generalization._fine_structure(split, runs).values():
        assert value == baseline > 0.3


def test_maps_measure_every_claim_about_maps(adata, remembered, monkeypatch):
    monkeypatch.setattr(generalization, "fit_umap_learn", lambda X, random_state: (X[:, :2], None))
    found = measure_maps(adata, remembered, SEED)
    assert set(found) == ids("maps", "pancreas")
    # both maps have the same cells and the same seed, and differ in the repulsion
    fitted = [entry for entry in remembered.log if entry[0] == "fit"]
    assert fitted == [
        ("fit", adata.n_obs, SEED, {}),
        ("fit", adata.n_obs, SEED, {"repulsion_strength": 0.1}),
    ]
    X = TINY.scores(TINY.prepare(adata), adata)
    labels = adata.obs["clusters"].to_numpy()
    weak, full = (TINY.fit(X, SEED, repulsion_strength=s).embedding_ for s in (0.1, 1.0))
    assert found["eta/branches"] == (silhouette(weak, labels), silhouette(full, labels))
    assert found["eta/resolution"] == (resolution(X, weak, labels), resolution(X, full, labels))
    assert found["types-umap"][1] == rpumap.metrics.knn_accuracy(X[:, :2], labels)
