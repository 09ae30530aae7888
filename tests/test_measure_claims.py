"""The run behind the scorecard: what it refuses, what it repeats, and what it keeps."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy.stats import ttest_1samp

from rpumap.chapters import choices, costs, gaps, generalization, rivals, robustness
from rpumap.chapters.scorecard import load_results, load_rules
from rpumap.chapters.settings import DEFAULT, PAPER

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "book"))
import measure_claims as runner  # noqa: E402
from measure_claims import EXPERIMENTS, FIRST_SEED, Experiment, Job, jobs  # noqa: E402

KEYS = {
    *("id", "chapter", "claim", "source", "figure", "measure", "baseline", "unit", "rule", "why"),
    *("threshold", "cells", "data", "real", "settings", "value", "spread", "baseline_value", "n"),
    *("effect_value", "low", "high", "verdict", "units"),
}
RULES = """
[[claim]]
id = "gap"
claim = "The gap is filled"
source = "paper"
chapter = "05_gap_filling"
figure = "3C"
experiment = "pair"
data = ["pancreas", "dentate_gyrus"]
unit = "network"
measure = "share in the gap"
baseline = "by chance"
effect = "value - baseline"
threshold = 0.1
why = "a tenth more"

[[claim.part]]
name = "inside"
"""
# A run without networks. Processes that are started anew read this file first, as they do the
# script that it stands for.
DRIVER = """
import os, sys
from pathlib import Path
from types import SimpleNamespace

sys.path.insert(0, str(Path(__file__).parent / "book"))
import measure_claims as runner

HERE = Path(os.environ["LOG"])


def measure(job):
    with (HERE / "log").open("a") as log:
        log.write(job.filename + "\\n")
    if job.seed == 101 and job.data == "pancreas" and not (HERE / "repaired").exists():
        raise RuntimeError("a cell is broken")
    value = job.seed / 1000 + (job.settings == "paper")
    return {"measured": {"gap/inside": [value, 0.05], "curve/dropout/0.5": [value, 0.0]},
            "frame": {"method": ["CROWN"], "width": [value]}}


runner.measure = measure
runner.cells = lambda data: SimpleNamespace(uns={"source": f"cells of {data}"})
runner.EXPERIMENTS.clear()
runner.EXPERIMENTS["pair"] = runner.Experiment(3, ("pancreas", "dentate_gyrus"))
runner.EXPERIMENTS["rivals"] = runner.Experiment(2, ("malaria",), ("paper",))
runner.EXPERIMENTS["costs"] = runner.Experiment(2, ("dentate_gyrus",), ("default",))
if __name__ == "__main__":
    runner.main()
"""


def git(folder: Path, *arguments: str) -> str:
    """Run git in a folder, whatever the user has configured."""
    command = ["git", "-c", "user.name=t", "-c", "user.email=t@t", "-C", str(folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def project(tmp_path) -> Path:
    """Commit the script and a rule to a repository of their own."""
    folder = tmp_path / "project"
    (folder / "book").mkdir(parents=True)
    shutil.copy(ROOT / "book" / "measure_claims.py", folder / "book")
    (folder / "book" / "claims.toml").write_text(RULES, encoding="utf-8")
    (folder / "run.py").write_text(DRIVER, encoding="utf-8")
    (folder / ".gitignore").write_text("_build/\n__pycache__/\n", encoding="utf-8")
    git(folder, "init", "-q")
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", "Rules")
    return folder


@pytest.fixture
def data(tmp_path) -> Path:
    """Put a file of each name into a folder."""
    folder = tmp_path / "data"
    folder.mkdir()
    for names in runner.FILES.values():
        for name in names:
            (folder / name).write_text(name, encoding="utf-8")
    return folder


@pytest.fixture
def start(project, tmp_path) -> Callable[..., subprocess.CompletedProcess]:
    """Start a script of the project, with or without a folder of data."""

    def run(script: str, data: Path | None, *arguments: str) -> subprocess.CompletedProcess:
        env = {k: v for k, v in os.environ.items() if not k.startswith(("RPUMAP", "GIT_"))}
        env |= {"LOG": str(tmp_path), "PYTHONPATH": str(ROOT)}
        env |= {"RPUMAP_DATA_DIR": str(data)} if data else {}
        command = [sys.executable, str(project / script), *arguments]
        return subprocess.run(command, capture_output=True, text=True, env=env, cwd=tmp_path)

    return run


# --- the plan -------------------------------------------------------------------------------------


def test_every_rule_is_measured_on_its_cells():
    for rule in load_rules():
        assert rule.experiment in EXPERIMENTS, rule.id
        assert set(rule.data) <= set(EXPERIMENTS[rule.experiment].data), rule.id
        assert len(set(rule.data)) == len(rule.data), rule.id


def test_every_experiment_and_all_its_cells_serve_a_rule():
    used = {(rule.experiment, data) for rule in load_rules() for data in rule.data}
    planned = {(name, data) for name, plan in EXPERIMENTS.items() for data in plan.data}
    assert used == planned


def test_units_have_files_and_fresh_seeds_of_their_own():
    planned = list(jobs())
    assert len({job.filename for job in planned}) == len(planned)
    assert min(job.seed for job in planned) == FIRST_SEED
    for name, plan in EXPERIMENTS.items():
        assert plan.units >= 5
        for data in plan.data:
            for settings in plan.settings:
                seeds = [
                    job.seed
                    for job in planned
                    if (job.experiment, job.data, job.settings) == (name, data, settings)
                ]
                assert seeds == list(range(FIRST_SEED, FIRST_SEED + plan.units))
    # one seed after the other
    assert [job.seed for job in planned] == sorted(job.seed for job in planned)


def test_real_cells_that_are_measured_are_asked_for():
    measured = {data for plan in EXPERIMENTS.values() for data in plan.data}
    assert set(runner.FILES) == measured - {"dentate_gyrus"}


@pytest.mark.parametrize("experiment", EXPERIMENTS)
@pytest.mark.parametrize("settings", [PAPER, DEFAULT])
def test_each_experiment_calls_its_function_with_cells_settings_and_seed(
    experiment, settings, monkeypatch
):
    called = []

    def record(name, result):
        return lambda *given: called.append((name, *given)) or result

    measured = {"id": (1.0, 2.0)}
    for name, module, function in (
        ("maps", generalization, "measure_maps"),
        ("split", generalization, "measure_split"),
        ("gaps", gaps, "measure_gaps"),
        ("pair", robustness, "measure_pair"),
        ("choices", choices, "measure_choices"),
        ("costs", costs, "measure"),
    ):
        monkeypatch.setattr(module, function, record(name, measured))
    table = pd.DataFrame({"width": [0.5]}, index=pd.Index(["CROWN"], name="method"))
    monkeypatch.setattr(rivals, "measure", record("rivals", (measured, table)))
    everything = AnnData(np.arange(12.0)[:, None])
    monkeypatch.setattr(runner, "cells", lambda data: everything)

    data = EXPERIMENTS[experiment].data[-1]
    result = runner.measure(Job(experiment, data, settings.name, 7))
    assert result["measured"] is measured
    [(name, given, chosen, seed, *more)] = called
    assert (name, chosen, seed) == (experiment, settings, 7)
    if experiment == "rivals":
        assert given == data
        assert result["frame"] == {"method": ["CROWN"], "width": [0.5]}
    elif data == "dentate_gyrus" and experiment != "costs":  # costs need all cells
        assert given.X[:, 0].tolist() == [0, 4, 8]
    else:
        assert given.n_obs == 12
    assert more == ([data] if experiment == "gaps" else [])


# --- what is refused ------------------------------------------------------------------------------


def test_without_data_it_refuses_at_once(start, project, data, tmp_path):
    found = start("run.py", None)
    assert found.returncode == 1
    assert "RPUMAP_DATA_DIR is not set" in found.stderr
    missing = runner.FILES["malaria"][1]
    (data / missing).unlink()
    found = start("run.py", data)
    assert found.returncode == 1
    assert f"lacks {missing}\n" in found.stderr + "\n"
    assert not (tmp_path / "log").exists()
    assert not (project / "_build").exists()


def test_the_script_itself_refuses_before_anything_heavy_is_loaded(start, tmp_path, monkeypatch):
    # a torch that cannot be imported
    (tmp_path / "torch.py").write_text("raise ImportError('loaded')", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    found = start("book/measure_claims.py", None)
    assert found.returncode == 1
    assert "RPUMAP_DATA_DIR is not set" in found.stderr


@pytest.mark.parametrize("change", ["edit", "new file", "staged"])
def test_a_checkout_with_changes_is_refused(start, project, data, tmp_path, change):
    rules = project / "book" / "claims.toml"
    if change == "edit":
        rules.write_text(RULES.replace("0.1", "0.2"), encoding="utf-8")
    elif change == "new file":
        (project / "book" / "more.py").touch()
    else:
        git(project, "rm", "-q", "--cached", "book/claims.toml")
    found = start("run.py", data)
    assert found.returncode == 1
    assert "has changes, commit them first" in found.stderr
    assert ("more.py" if change == "new file" else "claims.toml") in found.stderr
    assert not (tmp_path / "log").exists()


def test_what_is_no_checkout_is_refused(start, project, data, tmp_path):
    shutil.rmtree(project / ".git")
    found = start("run.py", data)
    assert found.returncode == 1
    assert "this is no checkout of git" in found.stderr
    assert not (tmp_path / "log").exists()


def test_bad_rules_are_refused_before_the_run(start, project, data, tmp_path):
    bad = RULES.replace('unit = "network"', 'unit = "draw"')
    (project / "book" / "claims.toml").write_text(bad, encoding="utf-8")
    git(project, "commit", "-q", "-am", "Bad rules")
    found = start("run.py", data)
    assert found.returncode != 0
    assert "unit of the rule 'gap/inside' must be one of" in found.stderr
    assert not (tmp_path / "log").exists()


def test_an_interim_state_needs_units_and_their_rules(start, project, data):
    published = project / "book" / "scorecard.json"
    published.write_text("what was there", encoding="utf-8")
    found = start("run.py", data, "--interim", "HEAD")
    assert found.returncode == 1
    assert "nothing is stored in" in found.stderr
    rules = project / "book" / "claims.toml"
    rules.write_text(RULES.replace("threshold = 0.1", "threshold = 0.2"), encoding="utf-8")
    found = start("run.py", data, "--interim", "HEAD")
    assert found.returncode == 1
    assert "claims.toml is not that of" in found.stderr
    assert published.read_text(encoding="utf-8") == "what was there"


# --- a run ----------------------------------------------------------------------------------------


def test_a_run_goes_on_where_it_failed_and_publishes_all(start, project, data, tmp_path):
    log, published = tmp_path / "log", project / "book" / "scorecard.json"
    failed = start("run.py", data)
    assert failed.returncode == 1
    assert "FAILED: RuntimeError('a cell is broken')" in failed.stdout
    words = set(failed.stderr.replace(",", " ").split())
    assert "published:" in words
    assert {"pair.pancreas.paper.101", "pair.pancreas.default.101"} <= words
    assert not published.exists()
    first = log.read_text().split()
    assert len(first) == len(set(first)) == 3 * 2 * 2 + 2 + 2
    # nothing runs beside what is timed
    assert [name.startswith("costs") for name in first] == [False] * 14 + [True] * 2

    # what is there so far can be looked at, by the rules of that commit alone
    (project / "more").touch()
    early = start("run.py", data, "--interim", "HEAD")
    assert early.returncode == 0, early.stderr
    results = load_results(published)
    assert (results["units_measured"], results["units_planned"]) == (14, 16)
    assert [(row["cells"], row["n"]) for row in results["rows"]] == [
        ("pancreas", 2),
        ("pancreas", 2),
        ("dentate_gyrus", 3),
        ("dentate_gyrus", 3),
    ]
    for name in ("more", "book/scorecard.json"):
        (project / name).unlink()

    log.unlink()
    (tmp_path / "repaired").touch()
    again = start("run.py", data)
    assert again.returncode == 0, again.stderr
    assert sorted(log.read_text().split()) == [
        "pair.pancreas.default.101.json",
        "pair.pancreas.paper.101.json",
    ]
    assert not list(project.rglob("*.part"))

    results = load_results(published)
    assert results["units_measured"] == results["units_planned"] == 16
    commit = git(project, "rev-parse", "HEAD")
    assert results["commit"] == results["rules_commit"] == commit
    assert results["rules_sha256"] == runner.sha256(project / "book" / "claims.toml")
    assert set(results["data_sha256"]) == {n for names in runner.FILES.values() for n in names}
    assert results["seeds"] == {
        "pair": [100, 101, 102],
        "rivals": [100, 101],
        "costs": [100, 101],
    }
    assert set(results["versions"]) == {"Python", *runner.NAMED}
    assert [(row["cells"], row["settings"]) for row in results["rows"]] == [
        ("pancreas", "paper"),
        ("pancreas", "default"),
        ("dentate_gyrus", "paper"),
        ("dentate_gyrus", "default"),
    ]
    for row in results["rows"]:
        assert set(row) == KEYS
        assert (row["id"], row["chapter"]) == ("gap/inside", "notebooks/05_gap_filling")
        assert row["data"] == f"cells of {row['cells']}"
        assert row["real"] == (row["cells"] == "pancreas")
        assert row["n"] == 3
        plus = row["settings"] == "paper"
        assert np.transpose(row["units"])[0] == pytest.approx(
            [s / 1000 + plus for s in range(100, 103)]
        )
        effects = [value - baseline for value, baseline in row["units"]]
        ends = ttest_1samp(effects, 0).confidence_interval(0.95)
        assert (row["low"], row["high"]) == pytest.approx((ends.low, ends.high))
        assert row["verdict"] == ("holds" if plus else "does not hold")
    by = {(row["cells"], row["settings"]): row for row in results["rows"]}
    curve = [c for c in results["curves"] if c["network"] == "regularised"]
    assert len(results["curves"]) == 2 * len(curve)
    pancreas = next(c for c in curve if (c["cells"], c["settings"]) == ("pancreas", "paper"))
    assert (pancreas["curve"], pancreas["at"]) == ("dropout", 0.5)
    assert pancreas["mean"] == pytest.approx(by["pancreas", "paper"]["value"])
    assert results["rivals"][0] == {
        "cells": "malaria",
        "settings": "paper",
        "seed": 100,
        "frame": {"method": ["CROWN"], "width": [1.1]},
    }

    # with the results beside it the checkout has changes; committed, they are another commit
    assert start("run.py", data).returncode == 1


class Threads(ThreadPoolExecutor):
    """Processes that see what a test has replaced."""

    def __init__(self, max_workers, mp_context=None):
        super().__init__(max_workers)


@pytest.fixture
def small(monkeypatch, tmp_path):
    """Plan two units and measure nothing."""
    few = {"maps": Experiment(2, ("pancreas",), ("paper",))}
    monkeypatch.setattr(runner, "ProcessPoolExecutor", Threads)
    monkeypatch.setattr(runner, "jobs", lambda experiments=few: jobs(experiments))
    made = SimpleNamespace(folder=tmp_path / "store", jobs=list(jobs(few)), measured=[])

    def measure(job):
        made.measured.append(job)
        # what numpy computes is stored as numbers
        return {"measured": {"types-umap": (np.float32(0.5), np.int64(1))}}

    monkeypatch.setattr(runner, "measure", measure)
    return made


def test_what_is_stored_is_not_measured_again(small):
    runner.run_all(small.folder, workers=1)
    assert small.measured == small.jobs
    stored = json.loads((small.folder / small.jobs[0].filename).read_text())
    assert stored["measured"] == {"types-umap": [0.5, 1.0]}
    assert stored["seconds"] >= 0
    (small.folder / small.jobs[1].filename).unlink()
    runner.run_all(small.folder, workers=1)
    assert small.measured == [*small.jobs, small.jobs[1]]


def test_half_a_file_does_not_count(small, monkeypatch):
    write = Path.write_text

    def break_off(self, text, **options):
        write(self, text[: len(text) // 2], **options)
        raise OSError("no space left")

    small.folder.mkdir()
    with monkeypatch.context() as full:
        full.setattr(Path, "write_text", break_off)
        with pytest.raises(OSError, match="no space"):
            runner.run(small.jobs[0], small.folder)
    assert not list(small.folder.glob("*.json"))
    runner.run_all(small.folder, workers=1)
    assert [path.suffix for path in small.folder.iterdir()] == [".json"] * 2
    for job in small.jobs:
        json.loads((small.folder / job.filename).read_text())


def test_what_cannot_be_stored_is_reported(small, monkeypatch, capsys):
    monkeypatch.setattr(runner, "measure", lambda job: {"measured": {"a": ("text", object())}})
    with pytest.raises(SystemExit, match=r"failed.*maps\.pancreas\.paper\.100"):
        runner.run_all(small.folder, workers=1)
    assert capsys.readouterr().out.count("FAILED: TypeError") == 2
    assert not list(small.folder.iterdir())


def test_a_claim_that_was_not_measured_leaves_the_published_results(
    small, monkeypatch, data, tmp_path
):
    runner.run_all(small.folder, workers=1)
    published = tmp_path / "scorecard.json"
    published.write_text("what was there", encoding="utf-8")
    monkeypatch.setattr(runner, "PUBLISHED", published)
    monkeypatch.setattr(runner, "source", str)
    monkeypatch.setenv("RPUMAP_DATA_DIR", str(data))
    monkeypatch.setattr(runner, "git", lambda *arguments: "0")
    monkeypatch.setitem(EXPERIMENTS, "maps", Experiment(2, ("pancreas",), ("paper",)))
    rules = [replace(r, data=["pancreas"]) for r in load_rules() if r.experiment == "maps"]
    with pytest.raises(KeyError, match="eta/"):
        runner.publish(small.folder, "0", rules)
    assert published.read_text(encoding="utf-8") == "what was there"


def test_cells_are_named_by_their_source(monkeypatch):
    named = {"pancreas": AnnData(uns={"source": "mice"})}
    monkeypatch.setattr(runner, "cells", named.get)
    pair = tuple(AnnData(uns={"source": text}) for text in ("sorted", "unsorted"))
    monkeypatch.setattr(rivals, "load_pair", {"blood": pair}.get)
    runner.source.cache_clear()
    try:
        assert runner.source("pancreas") == "mice"
        assert runner.source("blood") == "sorted -> unsorted"
    finally:
        runner.source.cache_clear()
