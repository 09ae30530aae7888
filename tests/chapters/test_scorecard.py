"""Rules are read as they are written, and verdicts follow from intervals that scipy gives too."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import ttest_1samp

from rpumap.chapters.scorecard import (
    EFFECTS,
    VERDICTS,
    Rule,
    interval,
    judge,
    load_results,
    load_rules,
    number,
    verdict,
    verdict_of_parts,
)

ROOT = Path(__file__).resolve().parents[2]
RULE = Rule(
    id="gap/inside",
    claim="The gap is filled",
    source="paper",
    chapter="05_gap_filling",
    figure="3C",
    experiment="gaps",
    data=["pancreas"],
    unit="network",
    measure="share in the gap",
    baseline="by chance",
    effect="value - baseline",
    threshold=0.1,
    why="a tenth more",
)
SHARED = """
[[claim]]
id = "gap"
claim = "The gap is filled"
source = "paper"
chapter = "05_gap_filling"
figure = "3C"
experiment = "gaps"
data = ["pancreas"]
unit = "network"
baseline = "by chance"
effect = "value - baseline"
threshold = 0.1
why = "a tenth more"
"""
PARTS = """
[[claim.part]]
name = "inside"
measure = "share in the gap"

[[claim.part]]
name = "wide"
measure = "its width"
threshold = 0.5
"""
# each effect by hand, of the value 3 and the baseline 4
OF_3_AND_4 = {
    "value": 3.0,
    "-value": -3.0,
    "value - baseline": -1.0,
    "value - baseline / 2": 1.0,
    "baseline - value": 1.0,
    "-|value - baseline|": -1.0,
    "baseline / value": 4 / 3,
    "value / baseline": 0.75,
}
# neither so small that squares vanish nor so large that their sum overflows
EFFECT = st.floats(-1e6, 1e6).map(lambda x: round(x, 6))


@pytest.fixture
def rules_in(tmp_path):
    def write(text: str) -> list[Rule]:
        path = tmp_path / "claims.toml"
        path.write_text(text, encoding="utf-8")
        return load_rules(path)

    return write


# --- rules ----------------------------------------------------------------------------------------


def test_a_part_takes_what_it_does_not_say_from_its_claim(rules_in):
    inside, wide = rules_in(SHARED + PARTS)
    assert inside == RULE
    assert (wide.id, wide.threshold, wide.measure) == ("gap/wide", 0.5, "its width")
    assert inside.claim_id == wide.claim_id == "gap"


def test_a_part_without_a_name_is_the_claim_itself(rules_in):
    [rule] = rules_in(SHARED + '[[claim.part]]\nmeasure = "share in the gap"\n')
    assert rule.id == rule.claim_id == "gap"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('why = "a tenth more"', 'why = "a tenth more"\nwhen = "ever"', "'gap/inside' .* when$"),
        ('why = "a tenth more"\n', "", "'gap/inside' has, or lacks: why$"),
        ('name = "wide"', 'name = "inside"', "two rules of the id gap/inside$"),
        ('"value - baseline"', '"value + baseline"', "effect of .* must be one of .*"),
        ('unit = "network"', 'unit = "draw"', "unit of .* network, split, refit, got 'draw'"),
        ('source = "paper"', 'source = "rumour"', "source of .* paper, ours, got 'rumour'"),
        ('figure = "3C"', 'figure = ""', "'gap/inside' must have a figure"),
        ('data = ["pancreas"]', "data = []", "'gap/inside' must have a data"),
        ("threshold = 0.1", "threshold = nan", "threshold of .* must be a finite number"),
    ],
)
def test_bad_rules_are_refused(rules_in, old, new, message):
    assert old in SHARED + PARTS
    with pytest.raises(ValueError, match=message):
        rules_in((SHARED + PARTS).replace(old, new))


def test_a_rule_in_words_names_effect_threshold_and_unit():
    assert RULE.text == "value - baseline above 0.1, 95 % interval over every network"


@pytest.mark.parametrize("effect", EFFECTS)
def test_effects_are_what_their_names_say(effect):
    assert EFFECTS[effect](3.0, 4.0) == pytest.approx(OF_3_AND_4[effect])


def test_the_rules_of_the_book_stand_in_existing_chapters():
    rules = load_rules()
    assert len(rules) > 50
    assert len({rule.id for rule in rules}) == len(rules)
    for rule in rules:
        assert (ROOT / "notebooks" / f"{rule.chapter}.py").is_file(), rule.id
        assert isinstance(rule.data, list), rule.id


def test_a_claim_is_made_by_one_side_in_one_chapter_and_one_experiment():
    shared: dict[str, tuple] = {}
    for rule in load_rules():
        found = (rule.claim, rule.source, rule.chapter, rule.experiment, rule.unit)
        assert shared.setdefault(rule.claim_id, found) == found


# --- intervals and verdicts -----------------------------------------------------------------------


@given(st.lists(EFFECT, min_size=2, max_size=12))
def test_the_interval_is_that_of_scipy(effects):
    low, high = interval(effects)
    if np.ptp(effects) == 0:  # where scipy finds no number
        assert low == pytest.approx(effects[0])
        assert high == pytest.approx(effects[0])
        return
    expected = ttest_1samp(effects, 0).confidence_interval(0.95)
    assert [low, high] == pytest.approx([expected.low, expected.high], rel=1e-9, abs=1e-7)


@given(st.lists(EFFECT, min_size=2, max_size=12), EFFECT)
def test_the_interval_moves_with_the_effects(effects, shift):
    low, high = interval(effects)
    moved = interval([effect + shift for effect in effects])
    assert moved == pytest.approx((low + shift, high + shift), rel=1e-9, abs=1e-5)
    mirrored = interval([-effect for effect in effects])
    assert mirrored == pytest.approx((-high, -low), rel=1e-12, abs=1e-9)


def test_the_interval_covers_the_truth_as_often_as_it_says():
    draws = np.random.default_rng(0).normal(2.0, 3.0, (4000, 5))
    covered = np.mean([low < 2.0 < high for low, high in map(interval, draws)])
    assert covered == pytest.approx(0.95, abs=0.012)  # 3.5 standard errors


@pytest.mark.parametrize("effects", [[], [1.0], [1.0, np.nan], [1.0, np.inf, 2.0]])
def test_what_gives_no_interval_is_refused(effects):
    with pytest.raises(ValueError, match="two finite numbers or more"):
        interval(effects)


@given(EFFECT, EFFECT, EFFECT)
def test_a_verdict_follows_from_the_side_of_the_threshold(one, other, threshold):
    low, high = sorted((one, other))
    found = verdict(low, high, threshold)
    assert found in VERDICTS
    assert (found == "holds") == (low > threshold)
    assert (found == "does not hold") == (high < threshold)
    opposite = {"holds": "does not hold", "does not hold": "holds", "undecided": "undecided"}
    assert verdict(-high, -low, -threshold) == opposite[found]


@given(st.lists(st.sampled_from(VERDICTS), min_size=1, max_size=6))
def test_verdicts_of_parts_are_summed_up_with_care(verdicts):
    found = verdict_of_parts(verdicts)
    assert verdict_of_parts(verdicts[::-1]) == found
    assert (found == "holds") == all(v == "holds" for v in verdicts)
    assert (found == "does not hold") == all(v == "does not hold" for v in verdicts)
    assert (found == "holds in part") == ("holds" in verdicts and len(set(verdicts)) > 1)


def test_a_claim_without_parts_has_no_verdict():
    with pytest.raises(ValueError, match="a part at least"):
        verdict_of_parts([])


# --- judging --------------------------------------------------------------------------------------


def test_judge_compares_inside_a_unit():
    # values and baselines differ more between units than from each other
    measured = [(0.31, 0.10), (0.62, 0.40), (0.93, 0.70)]
    found = judge(RULE, measured)
    effects = [0.21, 0.22, 0.23]
    ends = ttest_1samp(effects, 0).confidence_interval(0.95)
    expected = {
        "value": 0.62,
        "spread": 0.31,
        "baseline_value": 0.4,
        "n": 3,
        "effect_value": 0.22,
        "low": ends.low,
        "high": ends.high,
    }
    assert {key: found[key] for key in expected} == pytest.approx(expected)
    assert found["verdict"] == "holds"
    # the same numbers, paired otherwise, decide nothing
    shuffled = [(0.31, 0.70), (0.62, 0.10), (0.93, 0.40)]
    assert judge(RULE, shuffled)["verdict"] == "undecided"


def test_judge_takes_the_effect_of_each_unit_before_the_mean():
    ratio = replace(RULE, effect="value / baseline", threshold=1.0)
    assert judge(ratio, [(1.0, 2.0), (8.0, 2.0)])["effect_value"] == pytest.approx(2.25)
    size = replace(RULE, effect="-|value - baseline|", threshold=-0.5)
    found = judge(size, [(1.0, 2.0), (2.0, 1.0)])  # differences that would cancel out
    assert (found["effect_value"], found["verdict"]) == (-1.0, "does not hold")


def test_judge_gives_what_json_can_hold():
    measured = np.array([(0.5, 0.1), (0.6, 0.2)], dtype=np.float32)
    found = judge(RULE, measured)
    assert json.loads(json.dumps(found)) == found


def test_judge_refuses_what_was_not_measured():
    with pytest.raises(ValueError, match="finite"):
        judge(RULE, [(0.5, 0.1), (np.nan, 0.1)])
    with pytest.raises(ValueError, match="two"):
        judge(RULE, [(0.5, 0.1)])


# --- results --------------------------------------------------------------------------------------


def test_results_are_read_or_missed(tmp_path):
    path = tmp_path / "scorecard.json"
    with pytest.raises(FileNotFoundError, match="come with a clone of the project"):
        load_results(path)
    path.write_text('{"rows": []}', encoding="utf-8")
    assert load_results(path) == {"rows": []}


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (0.93712, "0.937"), (-0.0004321, "-0.000432"), (999.4, "999"), (12345.6, "12346")],
)
def test_numbers_are_short(value, text):
    assert number(value) == text
