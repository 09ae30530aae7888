"""Each variant changes one choice, and all are compared on the same split."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest

import rpumap
from rpumap.chapters import choices
from rpumap.chapters.choices import FACTOR, measure_choices, variants
from rpumap.chapters.generalization import SPLIT_SEED
from rpumap.chapters.robustness import HIGH, Pair
from rpumap.chapters.scorecard import load_rules
from rpumap.chapters.settings import PAPER, Settings
from rpumap.fine_tuning import STRENGTH

# every changed number is far from the one in use
TINY = Settings(
    "paper",
    {"n_steps": 4, "hidden_sizes": (16,), "batch_size": 256, "learning_rate": 0.01},
    {"n_steps": 2, "penalty": "area"},
    certain_edges=True,
)
SEED = 3


@pytest.fixture(scope="module")
def adata():
    return rpumap.datasets.pancreas(source="simulated")[::12].copy()


def changed(one: Settings, other: Settings) -> set[str]:
    """Name what differs between two settings."""
    found = set()
    for name in (field.name for field in fields(Settings)):
        a, b = getattr(one, name), getattr(other, name)
        if isinstance(a, dict):
            found |= {key for key in {*a, *b} if a.get(key) != b.get(key)}
        elif a != b:
            found.add(name)
    return found


def test_each_variant_changes_one_choice_of_the_paper():
    expected = {
        "lambda-small": "strength",
        "lambda-large": "strength",
        "narrow": "hidden_sizes",
        "wide": "hidden_sizes",
        "deep": "hidden_sizes",
        "small-batch": "batch_size",
        "large-batch": "batch_size",
        "short": "n_steps",
        "long": "n_steps",
        "panel-library": "panel_library",
    }
    found = variants(PAPER)
    assert {name: changed(PAPER, settings) for name, settings in found.items()} == {
        name: {change} for name, change in expected.items()
    }
    default = STRENGTH["area"]  # which the paper's settings leave as it is
    assert found["lambda-small"].robust["strength"] * FACTOR == pytest.approx(default)
    assert found["lambda-large"].robust["strength"] / FACTOR == pytest.approx(default)
    for name in ("small", "large"):
        size = found[f"{name}-batch"].model["batch_size"]
        ratio = PAPER.model["batch_size"] / size
        assert ratio == (FACTOR if name == "small" else 1 / FACTOR)


def test_numbers_stand_in_the_rules_as_they_are_used():
    texts = {r.id.removeprefix("choices/"): r.measure for r in load_rules() if "choices" in r.id}
    found = variants(PAPER)
    words = {
        "narrow-plain": str(found["narrow"].model["hidden_sizes"][0]),
        "wide-plain": str(found["wide"].model["hidden_sizes"][0]),
        "deep-plain": str(found["deep"].model["hidden_sizes"][0]),
        "small-batch-plain": str(found["small-batch"].model["batch_size"]),
        "large-batch-plain": f"{found['large-batch'].model['batch_size']:,}",
        "short-plain": f"{found['short'].model['n_steps']:,} steps",
        "long-plain": f"{found['long'].model['n_steps']:,} steps",
    }
    for name, word in words.items():
        assert word in texts[name]


def test_every_claim_about_choices_is_measured(adata, monkeypatch):
    pairs = []

    class Seen(Pair):
        def __init__(self, adata, settings, seed, network_seed=None):
            super().__init__(adata, settings, seed, network_seed)
            pairs.append((settings, seed, network_seed, self))

    few = dict.fromkeys(("narrow", "lambda-small", "panel-library"))
    few |= {name: variants(TINY)[name] for name in few}
    monkeypatch.setattr(choices, "Pair", Seen)
    monkeypatch.setattr(choices, "variants", lambda settings: few)
    found = measure_choices(adata, TINY, SEED)
    wanted = {r.id for r in load_rules() if r.experiment == "choices"}
    assert set(found) == {i for i in wanted if i.rsplit("-", 1)[0].split("/")[1] in few}
    assert np.isfinite(list(found.values())).all()
    assert min(min(both) for both in found.values()) >= 0
    # all are made of the same cells; one differs in the seed of its networks alone
    ours, by_seed, *others = pairs
    assert [entry[:3] for entry in (ours, by_seed)] == [
        (TINY, SEED, None),
        (TINY, SEED, SEED + SPLIT_SEED),
    ]
    assert [settings for settings, *_ in others] == list(few.values())
    assert {(seed, other) for _, seed, other, _ in others} == {(SEED, None)}
    base, again = (entry[3] for entry in (ours, by_seed))
    narrow = others[0][3]
    for outcome, of in {
        "plain": lambda pair: pair.accuracy(pair.models["base"], pair.X_held),
        "regularised": lambda pair: pair.correlation(pair.models["robust"], HIGH),
    }.items():
        expected = abs(of(narrow) - of(base)), abs(of(again) - of(base))
        assert found[f"choices/narrow-{outcome}"] == pytest.approx(expected)


def test_every_variant_has_its_rules():
    wanted = {r.id for r in load_rules() if r.experiment == "choices"}
    regularised = {f"choices/{name}-regularised" for name in variants(PAPER)}
    # lambda is of no account before the regularisation
    plain = {f"choices/{name}-plain" for name in variants(PAPER) if "lambda" not in name}
    assert wanted == plain | regularised
