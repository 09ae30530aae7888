"""Gaps and what fills them are measured right on maps that are made by hand."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.decomposition import PCA

import rpumap
from rpumap.chapters import gaps
from rpumap.chapters.gaps import (
    CASES,
    N_DOUBLETS,
    ROOTS,
    TOUCHING,
    Case,
    HoldOut,
    development,
    measure_gaps,
)
from rpumap.chapters.generalization import SPLIT_SEED
from rpumap.chapters.scorecard import load_rules
from rpumap.chapters.settings import Settings

TINY = Settings("default", {"n_steps": 15, "hidden_sizes": (16,), "batch_size": 256})
SEED = 3
STAGES = ("Ngn3 low EP", "Ngn3 high EP", "Pre-endocrine")
CASE = CASES["pancreas"][0]
LOADERS = {"pancreas": rpumap.datasets.pancreas, "dentate_gyrus": rpumap.datasets.dentate_gyrus}


@pytest.fixture(scope="module")
def adata():
    return rpumap.datasets.pancreas(source="simulated")[::8].copy()


@pytest.fixture(scope="module")
def run(adata):
    return HoldOut(adata, TINY, CASE.hidden, SEED)


@pytest.fixture(scope="module")
def found(adata):
    return measure_gaps(adata, TINY, SEED, "pancreas")


def by_hand(places: dict[str, float], hidden: tuple[str, ...], n: int = 60) -> SimpleNamespace:
    """Make a map on which types lie in a row, as wide as half of the distance of two stages."""
    kinds = np.repeat(list(places), n)
    x = np.repeat(list(places.values()), n) + np.tile(np.linspace(-0.25, 0.25, n), len(places))
    y = np.tile(np.linspace(-0.1, 0.1, n), len(places))
    made = SimpleNamespace(kinds=kinds, training=~np.isin(kinds, hidden), Z=np.stack([x, y], 1))
    made.of = lambda wanted: np.isin(kinds, wanted)
    made.by_line = np.stack([-x, y], 1)
    return made


# --- the cases ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["pancreas", "dentate_gyrus"])
def test_cases_name_types_that_there_are(name):
    types = set(LOADERS[name](source="simulated").obs["clusters"])
    assert set(TOUCHING[name]) <= types
    assert ROOTS[name] in types
    for case in CASES[name]:
        assert {*case.hidden, *case.left, *case.right} <= types


@pytest.mark.parametrize("name", CASES)
def test_cases_judge_each_type_that_they_hide_once(name):
    assert CASES[name][0].claim == "gap-fill"  # which further claims are measured on
    for case in CASES[name]:
        judged = [kind for kinds in case.judged.values() for kind in kinds]
        assert sorted(judged) == sorted(case.hidden)
        assert not set(case.hidden) & {*case.left, *case.right}
    # the flanks of the first case and what lies between follow each other in development
    first = CASES[name][0]
    order = TOUCHING[name]
    start = order.index(first.left[0])
    row = (*first.left, *first.hidden, *first.right)
    assert order[start : start + len(row)] == row


def test_every_claim_about_gaps_is_measured(found):
    wanted = {r.id for r in load_rules() if r.experiment == "gaps" and "pancreas" in r.data}
    assert set(found) == wanted
    assert np.isfinite(list(found.values())).all()


# --- a network that did not see some types --------------------------------------------------------


def test_what_is_left_out_takes_no_part(adata, run):
    unseen = (adata.obs["clusters"] == "Ngn3 high EP").to_numpy()
    np.testing.assert_array_equal(run.training, ~unseen)
    prep = rpumap.Preprocessor(n_top_genes=300).fit(adata[~unseen])
    np.testing.assert_array_equal(run.prep.genes_, prep.genes_)
    np.testing.assert_array_equal(run.X, prep.transform(adata))
    assert run.model.embedding_.shape == ((~unseen).sum(), 2)
    np.testing.assert_array_equal(run.Z, TINY.fit(run.X[~unseen], SEED).transform(run.X))


def test_a_line_is_fitted_to_the_cells_that_were_seen(run):
    pca = PCA(30, random_state=0).fit(run.X[run.training])
    with_one = np.column_stack([pca.transform(run.X), np.ones(len(run.X))])
    slopes, *_ = np.linalg.lstsq(with_one[run.training], run.Z[run.training])
    np.testing.assert_allclose(run.by_line, with_one @ slopes, atol=1e-3)


def test_doublets_are_sums_of_two_cells(adata, run):
    left, right = run.of(CASE.left), run.of(CASE.right)
    coordinates = run.doublets(left, right, seed=1)
    assert coordinates.shape == (N_DOUBLETS, 2)
    draw = np.random.default_rng(1)
    one = draw.choice(np.flatnonzero(left), N_DOUBLETS)
    two = draw.choice(np.flatnonzero(right), N_DOUBLETS)
    counts = np.asarray(adata[:, run.prep.genes_].X.todense(), dtype=float)
    size = adata.obs["library_size"].to_numpy()
    scaled = 1e4 * (counts[one] + counts[two]) / (size[one] + size[two])[:, None]
    scores = ((scaled - run.prep.mean_) / run.prep.std_).astype(np.float32)
    np.testing.assert_allclose(coordinates, run.model.transform(scores), atol=1e-3)


def test_development_is_what_the_data_say_else_diffusion(adata):
    known = adata.obs["pseudotime"].to_numpy()
    np.testing.assert_array_equal(development(adata, TINY, "pancreas"), known)
    told = adata.copy()
    told.obs = told.obs.rename(columns={"pseudotime": "clock_pseudotime"})
    np.testing.assert_array_equal(development(told, TINY, "pancreas"), known)
    told.obs = told.obs.drop(columns="clock_pseudotime")
    guessed = development(told, TINY, "pancreas")
    assert not np.array_equal(guessed, known)
    assert spearmanr(guessed, known).statistic > 0.8


# --- scores ---------------------------------------------------------------------------------------

PLACES = {"Ductal": -1.0, "Ngn3 low EP": 0.0, "Ngn3 high EP": 1.0, "Pre-endocrine": 2.0}


def first_case(run, whole, other, time=None):
    time = run.Z[:, 0] if time is None else time
    return gaps._first_case(run, whole, other, CASE, "pancreas", time)


def test_a_map_that_fills_its_gap_as_the_whole_does():
    run = by_hand(PLACES, CASE.hidden)
    found = first_case(run, run, run)
    # from 0.05 to 0.95 of each type along, in units of the distance of the medians
    width, beside = (2.0 - 0.45) / 2, 1.0 - 0.45
    assert found["gap-open"] == pytest.approx((width, beside), abs=0.01)
    assert found["gap-rest"] == pytest.approx((1, 1))
    assert found["gap-fill/inside"] == (1, 1)
    assert found["gap-fill/order"] == pytest.approx((1, -1))
    assert found["biology"][0] == 1
    assert found["biology"][1] < 1
    assert "gap-fill/sides" not in found  # one type alone has no sides


def test_a_map_that_puts_what_it_did_not_see_elsewhere():
    whole = by_hand(PLACES, ())
    run = by_hand(PLACES | {"Ngn3 high EP": -3.0}, CASE.hidden)
    found = first_case(run, whole, whole)
    assert found["gap-fill/inside"] == (0, 1)
    assert found["gap-rest"] == pytest.approx((1, 1))  # the others are where they were
    assert gaps._belong(run.Z, whole.Z, run, CASE.hidden) == pytest.approx(0, abs=0.01)
    assert found["gap-open"][0] > found["gap-open"][1]


def test_a_map_whose_flanks_close_up_has_no_gap():
    whole = by_hand(PLACES, ())
    run = by_hand(PLACES | {"Pre-endocrine": 0.4}, CASE.hidden)
    value, baseline = first_case(run, whole, whole)["gap-open"]
    assert value < 0 < baseline
    assert first_case(run, whole, whole)["gap-fill/inside"][0] == 0


def test_two_types_lie_on_the_sides_of_their_flanks():
    hidden = ("Ngn3 low EP", "Ngn3 high EP")
    case = Case("gap-fill", hidden, ("Ductal",), ("Pre-endocrine",), {"place": hidden})
    run = by_hand(PLACES, hidden)
    time = run.Z[:, 0]
    found = gaps._first_case(run, run, run, case, "pancreas", time)
    assert found["gap-fill/sides"] == pytest.approx((2 / 3, 1 / 3))
    swapped = by_hand(PLACES | {"Ngn3 low EP": 1.0, "Ngn3 high EP": 0.0}, hidden)
    second, first = gaps._first_case(swapped, run, run, case, "pancreas", time)["gap-fill/sides"]
    assert second < first


def test_doublets_are_counted_in_the_same_gap():
    run = by_hand(PLACES, CASE.hidden)
    run.doublets = lambda left, right, seed: np.array([[1.0, 0.0]] * 150 + [[5.0, 0.0]] * 350)
    assert gaps._not_intermediate(run, CASE, seed=0)["doublets"] == pytest.approx((1, 0.3))


def test_networks_are_compared_with_one_that_has_another_seed(adata, monkeypatch):
    trained = []

    class Seen(HoldOut):
        def __init__(self, adata, settings, hidden, seed):
            super().__init__(adata, settings, hidden, seed)
            trained.append((tuple(hidden), seed, self))

    compared = []
    belong = gaps._belong
    monkeypatch.setattr(gaps, "HoldOut", Seen)
    monkeypatch.setattr(gaps, "_belong", lambda *of: compared.append((of[0], of[1])) or belong(*of))
    measure_gaps(adata, TINY, SEED, "pancreas")
    (none, reference_seed, reference), (also_none, seed, _), *cases = trained
    assert (none, also_none) == ((), ())
    assert (reference_seed, seed) == (SEED + SPLIT_SEED, SEED)
    assert [hidden for hidden, _, _ in cases] == [case.hidden for case in CASES["pancreas"]]
    assert {seed for _, seed, _ in cases} == {SEED}
    assert all(whole is reference.Z for _, whole in compared)
    assert not any(Z is reference.Z for Z, _ in compared)
