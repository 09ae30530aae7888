"""The comparison with other programs, without them: rows, predictions, scores, targets, page."""

from __future__ import annotations

import doctest
import json
import re
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from sklearn import manifold

from rpumap.metrics import knn_accuracy

ROOT = Path(__file__).resolve().parents[1]
PEERS = ROOT / "tests" / "benchmarks" / "peers"
sys.path += [str(ROOT / "book"), str(PEERS)]
import cells as prepared  # noqa: E402
import methods  # noqa: E402
import results as rows_and_files  # noqa: E402
import run  # noqa: E402
import scores  # noqa: E402
from results import extrapolate, merge, not_run, power_law, renew, straight_line  # noqa: E402

import performance_page as page  # noqa: E402

SIZES = prepared.SIMULATED


def row(data: str, method: str, repeat: int = 0, **values: float) -> dict:
    """Make a row of a fit."""
    cells = SIZES.get(data, 2957)
    return {"data": data, "method": method, "repeat": repeat, "cells": cells, "run": "1"} | values


@pytest.mark.parametrize("module", [page, rows_and_files])
def test_examples(module):
    found = doctest.testmod(module)
    assert found.attempted >= 2
    assert not found.failed


def test_power_law_and_straight_line_find_what_follows_them():
    sizes = (100, 1000, 5000)
    assert power_law([(n, 3 * n**1.3) for n in sizes], 20_000) == pytest.approx(3 * 20_000**1.3)
    assert straight_line([(n, 500 + 0.1 * n) for n in sizes], 20_000) == pytest.approx(2500)
    # of a value that falls with the size, nothing is concluded but that it does not grow
    for law in (power_law, straight_line):
        assert law([(100, 9.0), (200, 8.0)], 400) == 8.0
        assert law([(100, 9.0)], 400) is None


def timed(data: str, method: str, cold_s: float, repeat: int = 0, **more: float) -> dict:
    """Make a row of a fit that was measured."""
    return row(data, method, repeat, cold_s=cold_s, processor_s=cold_s, peak_mb=100.0, **more)


def test_extrapolation_takes_medians_of_the_two_largest_smaller_simulated_sizes():
    fits = [timed("simulated_4k", "UMAP", seconds, i) for i, seconds in enumerate((10, 11, 90))]
    fits += [timed("simulated_18k", "UMAP", 44.0)]
    # none of these says anything about UMAP at 100,000 cells
    fits += [
        timed("simulated_1k", "UMAP", 7.0),
        timed("pancreas", "UMAP", 1e6),
        timed("simulated_18k", "openTSNE", 1e6),
        timed("simulated_1m", "UMAP", 1e6),
        row("simulated_18k", "UMAP", 1, error="exit status 1: no message"),
    ]
    expected = power_law([(3696, 11), (18213, 44)], 100_000)
    found = extrapolate(fits, "UMAP", 100_000)
    assert found["cold_s"] == expected
    assert found["peak_mb"] == 100.0
    assert found["extrapolated"] and found["from_cells"] == [3696, 18213]
    assert extrapolate(fits, "openTSNE", 100_000) == {}
    # what was predicted is no base for a further prediction
    fits.append(not_run(fits, row("simulated_100k", "UMAP", limit_s=1200)))
    assert fits[-1]["cold_s"] == expected
    assert extrapolate(fits, "UMAP", 1_000_000)["from_cells"] == [3696, 18213]


def test_no_prediction_for_real_cells_or_far_away_and_new_ones_after_new_measurements():
    fits = [timed("simulated_1k", "UMAP", 5.0), timed("simulated_4k", "UMAP", 20.0)]
    assert "cold_s" not in not_run(fits, row("malaria", "UMAP", limit_s=9))
    assert "cold_s" not in not_run(fits, row("simulated_100k", "UMAP", limit_s=9))
    near = not_run(fits, row("simulated_18k", "UMAP", limit_s=9))
    assert near["cold_s"] > 20 and near["limit_s"] == 9
    fits.append(near)
    merge(fits, timed("simulated_4k", "UMAP", 40.0))
    renew(fits)
    assert fits[-1]["cold_s"] > near["cold_s"] > 20


def test_a_fit_that_was_stopped_took_the_limit_at_least():
    fits = [timed("simulated_1k", "UMAP", 5.0), timed("simulated_4k", "UMAP", 6.0)]
    predicted = not_run(fits, row("simulated_18k", "UMAP", limit_s=90))
    stopped = not_run(fits, row("simulated_18k", "UMAP", limit_s=90) | {"stopped": True})
    assert predicted["cold_s"] < 10 and stopped["cold_s"] == 90
    fits.append(stopped)
    renew(fits)
    assert fits[-1] == stopped
    assert len(fits) == 3


def test_rows_are_replaced_in_place():
    fits = [timed("pancreas", "UMAP", 1.0), timed("pancreas", "UMAP", 2.0, 1)]
    merge(fits, timed("pancreas", "UMAP", 3.0))
    merge(fits, timed("pancreas", "rpumap", 4.0))
    assert [(r["method"], r["repeat"], r["cold_s"]) for r in fits] == [
        ("UMAP", 0, 3.0),
        ("UMAP", 1, 2.0),
        ("rpumap", 0, 4.0),
    ]


def test_files_of_results(tmp_path):
    path = tmp_path / "folder" / "performance.json"
    results = rows_and_files.load(path)
    here, said = {"processor": "A"}, {"commit": "1"}
    assert rows_and_files.start_run(results, here, said) == "1"
    assert rows_and_files.start_run(results, here, said | {"commit": "2"}) == "2"
    assert rows_and_files.start_run(results, here, said) == "1"
    merge(results["fits"], timed("pancreas", "UMAP", 1.0) | {"run": "2"})
    rows_and_files.save(results, path)
    assert [p.name for p in path.parent.iterdir()] == ["performance.json"]
    # of the first run no row is left
    again = rows_and_files.load(path)
    assert again["runs"] == {"2": {"commit": "2"}}
    assert again["fits"] == results["fits"]
    assert rows_and_files.start_run(again, here, said) == "3"
    with pytest.raises(SystemExit, match="another machine"):
        rows_and_files.start_run(again, {"processor": "B"}, said)


def test_what_is_measured_again():
    key = {"data": "pancreas", "method": "UMAP"}
    fast, slow = timed("pancreas", "UMAP", 5.0), timed("pancreas", "UMAP", run.ONCE + 1.0)
    assert run.is_due([], key | {"repeat": 0}, again=False)
    assert not run.is_due([fast], key | {"repeat": 0}, again=False)
    assert run.is_due([fast], key | {"repeat": 0}, again=True)
    assert run.is_due([fast], key | {"repeat": 1}, again=False)
    assert not run.is_due([slow], key | {"repeat": 1}, again=True)
    assert not run.is_due([row("pancreas", "UMAP", limit_s=9)], key | {"repeat": 1}, again=True)
    assert not run.is_due([row("pancreas", "UMAP", error="")], key | {"repeat": 1}, again=True)
    assert run.is_due([row("pancreas", "UMAP", error="")], key | {"repeat": 0}, again=True)


PROCESS = """
import json, sys, time
import numpy as np
folder = sys.argv[4]
np.save(folder + "/Z.npy", np.load(sys.argv[3] + "/X.npy")[:, :2])
{before}
found = {{"cold_s": time.monotonic() - float(sys.argv[5]), "ended": time.monotonic()}}
with open(folder + "/found.json", "w") as file:
    json.dump(found | {{"all_processor_s": 0.1}}, file)
{after}
"""


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ("", "time.sleep(0.2)", {"cold_s"}),
        ("raise ValueError('no such thing')", "", {"error"}),
        ("", "raise ValueError('no such thing')", {"cold_s", "error"}),
        ("time.sleep(9)", "", {"limit_s"}),
    ],
    ids=["whole", "fit fails", "fails later", "too slow"],
)
def test_how_a_process_can_end(tmp_path, monkeypatch, before, after, expected):
    draw = np.random.default_rng(0)
    for name, n in (("", 60), ("_new", 4)):
        np.save(tmp_path / f"X{name}.npy", draw.normal(size=(n, 3)).astype("float32"))
        np.save(tmp_path / f"labels{name}.npy", np.arange(n).astype(str))
    script = tmp_path / "fit.py"
    script.write_text(PROCESS.format(before=before, after=after))
    monkeypatch.setattr(run, "FIT", script)
    started = time.monotonic()
    found = run.fit("rpumap", 0, tmp_path, 0.1 if before.startswith("time") else 60, sys.executable)
    wall = time.monotonic() - started
    assert {"cold_s", "error", "limit_s"} & set(found) == expected
    if "error" in expected:
        assert found["error"] == "exit status 1: ValueError: no such thing"
    if expected == {"cold_s"}:  # up to the end of the process
        assert 0.2 < found["cold_s"] <= wall
        assert 0 < found["trustworthiness"] < 1
        assert not {"ended", "all_processor_s"} & set(found)


@pytest.mark.parametrize("block", [1, 2**25])
def test_scores_are_those_of_scikit_learn(monkeypatch, block):
    monkeypatch.setattr(scores, "BLOCK", block)
    draw = np.random.default_rng(0)
    X = draw.normal(size=(90, 5)).astype(np.float32)
    Z, labels = X[:, :2] + draw.normal(size=(90, 2)), draw.integers(3, size=90)
    own = np.arange(90)
    found = scores.neighbors(Z, Z, own, 15)
    theirs = manifold.trustworthiness(X, Z, n_neighbors=15)
    assert scores.trustworthiness(X, X, own, found) == pytest.approx(theirs)
    assert scores.accuracy(labels, labels, found) == knn_accuracy(Z, labels)


def test_held_out_cells_are_scored_against_the_training_cells():
    draw = np.random.default_rng(1)
    X, Z, new, Z_new = (draw.normal(size=shape) for shape in ((40, 4), (40, 2), (6, 4), (6, 2)))
    k = 5
    penalty = 0
    for x, z in zip(new, Z_new, strict=True):
        ranks = np.argsort(np.argsort(np.linalg.norm(X - x, axis=1))) + 1
        for j in np.argsort(np.linalg.norm(Z - z, axis=1))[:k]:
            penalty += max(0, ranks[j] - k)
    expected = 1 - penalty / 6 * 2 / (k * (2 * 41 - 3 * k - 1))
    found = scores.neighbors(Z, Z_new, None, k)
    assert scores.trustworthiness(X, new, None, found) == pytest.approx(expected)


def test_a_cell_is_not_its_own_neighbour_even_among_equals():
    Z = np.zeros((30, 2))
    found = scores.neighbors(Z, Z, np.arange(30), 15)
    assert found.shape == (30, 15)
    assert not (found == np.arange(30)[:, None]).any()


def test_every_method_and_set_has_its_place_on_the_page():
    assert list(page.LOOKS) == list(methods.METHODS)
    assert list(page.SETS) == list(prepared.NAMES)
    for data, n in SIZES.items():
        assert page.SETS[data] == f"{n:,} simulated cells"


def test_peers_are_pinned():
    def names(path: Path, pattern: str) -> set[str]:
        found = re.findall(pattern, path.read_text(encoding="utf-8"), re.MULTILINE)
        return {name.lower().replace("_", "-") for name in found}

    pinned = names(ROOT / "requirements.lock", r"^([\w.-]+)==")
    assert names(PEERS / "requirements.txt", r"^([\w.-]+)$") <= pinned


def results_of(fits: list[dict], single: list[dict] = ()) -> dict:
    """Make a file of results."""
    said = {"date": "2026-11-26", "commit": "abc", "command": "python x", "versions": {"a": "2"}}
    return {
        "machine": {"processor": "A", "cores": 2, "system": "Linux"},
        "runs": {"1": said},
        "fits": list(fits),
        "single": list(single),
    }


def verdicts(results: dict) -> dict[str, tuple[str, str]]:
    """Map each target to what was found, with plain spaces, and the verdict."""
    rows = [target.row(results) for target in page.TARGETS]
    assert len({what for what, *_ in rows}) == len(rows)
    return {what: (found.replace(page.FIXED, " "), verdict) for what, verdict, found, _ in rows}


def test_targets_without_rows_are_not_measured():
    assert set(verdicts(page.EMPTY).values()) == {("not measured", "not measured")}
    only_own = results_of([timed("pancreas", "rpumap", 1.0)])
    assert set(verdicts(only_own).values()) == {("not measured", "not measured")}


def test_targets_are_computed_from_the_rows():
    fits = []
    for repeat, (own, umap) in enumerate([(2.0, 10.0), (1.0, 7.0), (1.0, 8.0)]):
        fits += [timed("pancreas", "rpumap", own, repeat, trustworthiness=0.9, new_accuracy=0.5)]
        fits += [timed("pancreas", "UMAP", umap, repeat, trustworthiness=0.92)]
    fits += [timed("pancreas", "ParametricUMAP", 19.9, 2, new_accuracy=0.5)]
    single = [
        {"name": "crown 300-128-128-2", "seconds": [1.0, 2.0], "baseline_s": [4.0, 8.0]},
        {"name": "crown_ibp 300-128-128-2", "seconds": [1.0], "baseline_s": [1.9]},
        {"name": "certified_label_fraction", "setting": "9 cells", "seconds": [7.0, 9.0, 7.5]},
        {"name": "imports of a first fit", "seconds": [5.0], "baseline_s": [2.0]},
    ]
    found = verdicts(results_of(fits, single))
    # repeats are compared with each other: 10 / 2, 7 / 1, 8 / 1
    assert found["cold fit, UMAP over rpumap: pancreas cells"] == ("7 (5 to 8)", "held")
    least = "pancreas cells, the least of 1 sets"
    expected = {
        "cold fit, ParametricUMAP over rpumap: pancreas cells": ("19.9", "**missed**"),
        f"peak memory, UMAP over rpumap: {least}": ("1", "held"),
        f"trustworthiness, rpumap less UMAP: {least}": ("-0.02", "**missed**"),
        f"accuracy of new cells, rpumap less ParametricUMAP: {least}": ("0", "held"),
        "`crown`, auto_LiRPA over rpumap: 300-128-128-2": ("4", "held"),
        "`crown_ibp`, auto_LiRPA over rpumap: 300-128-128-2": ("1.9", "**missed**"),
        "`certified_label_fraction`, seconds: 9 cells": ("7.5 (7 to 9)", "held"),
        "imports of a first fit over `import torch`: fresh processes": ("2.5", "**missed**"),
        "cold fit, UMAP over rpumap: 18,213 simulated cells": ("not measured", "not measured"),
    }
    assert expected.items() <= found.items()


def test_a_prediction_is_compared_with_the_median_and_says_so():
    fits = [timed("simulated_1m", "rpumap", own, i) for i, own in enumerate((10.0, 20.0, 60.0))]
    fits += [timed("simulated_1m", "UMAP", 500.0, extrapolated=True, limit_s=9)]
    found = verdicts(results_of(fits))["cold fit, UMAP over rpumap: 1,000,000 simulated cells"]
    assert found == ("25, extrapolated", "held")


def test_what_was_not_run_says_why():
    fits = [timed("pancreas", "rpumap", 1.0), row("pancreas", "UMAP", limit_s=1200)]
    fits += [row("pancreas", "TorchDR", error="exit status 1: out of memory")]
    written = page.ratios(results_of(fits)).splitlines()[2]
    assert written == (
        "| pancreas cells | over 1,200 s | not measured | not measured | not measured | failed |"
    )
    shown = page.everything(results_of(fits))
    assert "| UMAP | 0 | over 1,200 s |" in shown
    assert "Pancreas cells, real, of which 2,957 train" in shown


@pytest.fixture
def written(tmp_path, monkeypatch):
    """Return a function that writes the page's parts from results, and gives their texts."""

    def write(results: dict) -> dict[str, str]:
        monkeypatch.setattr(page, "PARTS", tmp_path)
        monkeypatch.setattr(page, "PUBLISHED", tmp_path / "performance.json")
        monkeypatch.setattr(page, "PAGE", tmp_path / "page.md")
        (tmp_path / "page.md").touch()
        if results is not page.EMPTY:
            page.PUBLISHED.write_text(json.dumps(results))
        page.write()
        return {path.stem: path.read_text(encoding="utf-8") for path in tmp_path.glob("*.md")}

    return write


def test_the_page_without_results(written, tmp_path):
    parts = written(page.EMPTY)
    included = re.findall(
        r"_build/performance/(\w+)\.md", (ROOT / "book/performance.md").read_text(encoding="utf-8")
    )
    assert sorted(included) == sorted(set(parts) - {"page"})
    for name in included:
        assert "not measured" in parts[name].lower(), name
    assert {path.name for path in tmp_path.glob("*.svg")} == {
        "time.svg",
        "memory.svg",
        "quality.svg",
    }


def test_the_page_with_results(written):
    fits = []
    for data in ("pancreas", "simulated_4k", "simulated_18k"):
        for method, cold_s in (("rpumap", 2.0), ("UMAP", 30.0)):
            extra = {"trustworthiness": 0.9, "new_accuracy": 0.8, "device": "cpu", "others": 0.02}
            fits.append(timed(data, method, cold_s, **extra))
    fits.append(not_run(fits, row("simulated_100k", "UMAP", limit_s=1)))
    parts = written(results_of(fits))
    alt = parts["time"].splitlines()[2]
    assert "rpumap 2 for 18,213 cells; UMAP 30 for 100,000 cells, extrapolated." in alt
    assert "Trustworthiness, pancreas cells: rpumap 0.900, UMAP 0.900." in parts["quality"]
    assert "No GPU was measured" in parts["machine"]
    assert "2 % at most" in parts["machine"]
    on_device = [timed("pancreas", "rpumap", 1.0, device="cuda")]
    assert "No GPU was measured" not in page.machine(results_of(on_device))


def test_the_published_results_stand_alone():
    results = page.read(page.PUBLISHED)
    for measured in results["fits"] + results["single"]:
        assert measured["run"] in results["runs"]
    assert not re.search(r"/(home|root|work|tmp|Users)/\w", json.dumps(results))
