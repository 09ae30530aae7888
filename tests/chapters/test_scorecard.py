"""What a chapter reports must come back out of its notebook, and be shown as it is."""

from __future__ import annotations

import json

import nbformat
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from nbclient import NotebookClient

from rpumap.chapters.scorecard import KEY, Claim, collect, judge, report, table, verdict

GOOD = {
    "claim": "Gaps are filled",
    "figure": "3",
    "measure": "share in the gap",
    "value": np.float32(0.5),
    "data": "pancreas",
    "real": np.True_,
    "verdict": "holds in part",
    "spread": 0.0123,
    "repeats": 5,
    "baseline": "random",
    "baseline_value": 0.25,
}


def test_claims_survive_a_notebook():
    source = (
        "from rpumap.chapters.scorecard import Claim, report\n"
        "report([Claim('One', '1', 'm', 1.0, 'd', False, 'holds')])\n"
        "report([Claim('Two', '2', 'm', 2.0, 'd', True, 'does not hold', 0.1, 3, 'b', 4.0)])"
    )
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)])
    NotebookClient(notebook, timeout=60, kernel_name="python3").execute()
    notebook = nbformat.reads(nbformat.writes(notebook), as_version=4)
    first, second = collect(notebook)
    assert first == Claim("One", "1", "m", 1.0, "d", False, "holds")
    assert (second.claim, second.spread, second.baseline_value) == ("Two", 0.1, 4.0)
    output = notebook["cells"][0]["outputs"][1]["data"]
    assert "2 ± 0.1 (3)" in output["text/html"]
    assert "<script" not in output["text/html"]


def test_text_is_escaped_on_the_page(monkeypatch):
    shown = []
    monkeypatch.setattr(
        "IPython.display.display", lambda bundle, metadata, raw: shown.append((bundle, metadata))
    )
    report([Claim(**(GOOD | {"claim": "<script>alert(1)</script>"}))])
    assert "<script" not in shown[0][0]["text/html"]
    assert shown[0][1][KEY][0]["claim"].startswith("<script")


def test_numbers_become_plain_ones():
    claim = Claim(**GOOD)
    assert type(claim.value) is float
    assert type(claim.real) is bool
    assert json.dumps(claim.value) == "0.5"


def test_judge_sums_up_repeats():
    cells = AnnData(np.zeros((1, 1)), uns={"source": "simulated mice", "simulated": True})
    found = judge(cells, "c", "1", "m", pd.Series([1.0, 2.0, 6.0]), "chance", 0.5, True, False)
    expected = {"value": 3.0, "spread": np.sqrt(7), "repeats": 3, "verdict": "holds in part"}
    expected |= {"data": "simulated mice", "real": False, "baseline": "chance"}
    assert found == Claim("c", "1", "m", baseline_value=0.5, **expected)


def test_judge_of_one_measurement_has_no_spread():
    cells = AnnData(np.zeros((1, 1)), uns={"source": "mice"})
    found = judge(cells, "c", "1", "m", 0.7, "chance", 0.5, True)
    assert found.real
    assert (found.value, found.spread, found.repeats) == (0.7, None, 1)


def test_table():
    row = table([Claim(**GOOD)]).iloc[0]
    assert row["value"] == "0.5 ± 0.01 (5)"
    assert row["baseline"] == "random: 0.25"
    assert row["cells"] == "real"
    bare = table([Claim("c", "1", "m", 0.12345, "d", False, "holds")]).iloc[0]
    assert (bare["value"], bare["baseline"], bare["cells"]) == ("0.123", "", "simulated")


def test_verdict():
    assert verdict(True, True) == "holds"
    assert verdict(True, False) == "holds in part"
    assert verdict(False, False) == "does not hold"
    with pytest.raises(ValueError, match="needs a condition"):
        verdict()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"verdict": "true"}, "verdict must be one of"),
        ({"value": np.nan}, "value must be a finite number"),
        ({"spread": np.inf}, "spread must be a finite number"),
        ({"claim": ""}, "claim must not be empty"),
    ],
)
def test_bad_claims_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        Claim(**(GOOD | change))


def test_nothing_to_report_and_strange_rows():
    with pytest.raises(ValueError, match="no claims"):
        report([])
    strange = {"cells": [{"outputs": [{"metadata": {KEY: [{"claim": "x"}]}}]}, {}]}
    with pytest.raises(ValueError, match="has the fields claim"):
        collect(strange)
