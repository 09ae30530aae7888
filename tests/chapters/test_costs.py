"""Costs are those of what is measured, and parts of the cells are in memory one at a time."""

from __future__ import annotations

import dataclasses
import os
import platform
import time
import weakref

import numpy as np
import pandas as pd
import pytest
import torch

from examples import three_types
from rpumap.chapters import costs
from rpumap.chapters.settings import Settings

TINY = Settings(
    "tiny", model={"n_steps": 30, "hidden_sizes": (16,), "batch_size": 256, "n_neighbors": 10}
)
CERTAIN = dataclasses.replace(TINY, certain_edges=True)
CELLS = three_types(240, 310)
CELLS.obs["clusters"] = pd.Categorical(np.array([*"abc"])[np.arange(240) % 3])


@pytest.fixture
def table():
    return np.random.default_rng(0).normal(size=(101, 12)).astype(np.float32)


def weights(encoder):
    return np.concatenate([p.detach().numpy().ravel() for p in encoder.parameters()])


# --- parts --------------------------------------------------------------------------------------


def test_parts_hold_each_cell_once(table, tmp_path):
    paths = costs.write_parts(table, 4, tmp_path)
    parts = [np.load(path) for path in paths]
    assert [len(part) for part in parts] == [26, 25, 25, 25]
    together = np.concatenate(parts)
    np.testing.assert_array_equal(np.unique(together, axis=0), np.unique(table, axis=0))


@pytest.mark.parametrize("settings", [TINY, CERTAIN])
def test_one_part_at_a_time_is_in_memory(table, tmp_path, settings):
    paths = costs.write_parts(table, 4, tmp_path)
    read, alive = [], []

    def load(path):
        alive.append(sum(part() is not None for _, part in read))
        X = np.load(path)
        read.append((path, weakref.ref(X)))
        return X

    costs.train_on_parts(costs.Plan(paths, 101, 3, settings, 0), load)
    assert [path for path, _ in read] == 3 * list(paths)
    assert alive == 12 * [0]


def test_steps_are_divided_and_the_rate_falls(table, tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(
        costs, "train", lambda encoder, x, graph, **options: calls.append((len(x), options))
    )
    paths = costs.write_parts(table, 2, tmp_path)
    settings = dataclasses.replace(TINY, model={**TINY.model, "n_steps": 404, "weight_decay": 0.1})
    costs.train_on_parts(costs.Plan(paths, 101, 2, settings, 0))
    assert [n for n, _ in calls] == [51, 50, 51, 50]
    assert [options["n_steps"] for _, options in calls] == [102, 100, 102, 100]
    assert [options["learning_rate"] for _, options in calls] == [0.01, 0.01, 0.005, 0.005]
    assert all(options["weight_decay"] == 0.1 for _, options in calls)


@pytest.mark.parametrize("settings", [TINY, CERTAIN])
def test_all_cells_as_one_part_are_trained_as_the_settings_do(
    table, tmp_path, settings, monkeypatch
):
    graphs = []
    true = costs.train
    monkeypatch.setattr(
        costs, "train", lambda *args, **options: graphs.append(args[2]) or true(*args, **options)
    )
    paths = costs.write_parts(table, 1, tmp_path)
    encoder = costs.train_on_parts(costs.Plan(paths, 101, 1, settings, 0))
    model = settings.fit(table, seed=0)
    assert (graphs[0] != model.graph_).nnz == 0
    assert set(graphs[0].data) == {1.0} or not settings.certain_edges
    assert weights(encoder).shape == weights(model.encoder_).shape
    again = costs.train_on_parts(costs.Plan(paths, 101, 1, settings, 0))
    np.testing.assert_array_equal(weights(encoder), weights(again))  # by the graph in the file
    assert (graphs[1] != graphs[0]).nnz == 0


# --- memory -------------------------------------------------------------------------------------


def hold(n_bytes):
    """Take memory for a moment, after having taken and freed three times as much."""
    earlier = np.ones(3 * n_bytes // 8)
    del earlier
    before = costs.reset_peak()
    held = np.ones(n_bytes // 8)
    del held
    return costs.read_peak() - before


@pytest.mark.skipif(not os.path.exists("/proc/self/clear_refs"), reason="Linux forgets peaks")
def test_the_peak_is_that_of_the_process_since_the_start():
    size = 200 * 2**20
    ballast = np.ones(2 * size // 8)  # of the parent, which is none of the child's
    found = costs.in_fresh_process(hold, size)
    assert len(ballast) and found == pytest.approx(size, rel=0.05)


def fill():
    """Free blocks between which small ones stay, of growing size; return what is still taken."""
    costs.return_freed_memory()
    before, small = costs.reset_peak(), []
    for step in range(200):
        large = torch.ones(50_000 + 5_000 * step)
        small.append(torch.ones(2))
        del large
    return costs.reset_peak() - before


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="an option of glibc")
def test_freed_memory_does_not_stay_with_the_process():
    assert costs.in_fresh_process(fill) < 2 * 2**20


def test_memory_of_training_is_that_above_what_was_there(table, tmp_path, monkeypatch):
    peaks = iter([50 * 2**20, 80 * 2**20])
    trained = []
    monkeypatch.setattr(costs, "read_peak", lambda: next(peaks))
    monkeypatch.setattr(costs, "train_on_parts", lambda plan: trained.append(plan) or "network")
    plan = costs.Plan(costs.write_parts(table, 2, tmp_path), 101, 2, TINY, 0)
    assert costs.peak_memory(plan) == ("network", 30)
    assert trained[1] is plan and trained[0].settings.model["n_steps"] == 10


# --- the measures -------------------------------------------------------------------------------


def test_quality_of_both_trainings_is_measured(monkeypatch):
    monkeypatch.setattr(costs, "in_fresh_process", lambda function, plan: function(plan))
    plans = []
    true = costs.train_on_parts
    monkeypatch.setattr(costs, "train_on_parts", lambda plan: plans.append(plan) or true(plan))
    found = costs.partition(CELLS, CERTAIN, seed=0)
    assert set(found) == {"partition/memory", "partition/trust", "partition/accuracy"}
    for name in ("trust", "accuracy"):
        assert all(0.5 < value <= 1 for value in found[f"partition/{name}"]), name
    parts, every = plans[1], plans[3]
    assert (len(parts.parts), parts.n_rounds, len(every.parts), every.n_rounds) == (4, 3, 1, 1)
    assert parts.n_cells == every.n_cells == 192


def test_the_network_comes_back_from_another_process(table, tmp_path):
    plan = costs.Plan(costs.write_parts(table, 2, tmp_path), 101, 2, TINY, 0)
    encoder, peak = costs.in_fresh_process(costs.peak_memory, plan)
    np.testing.assert_array_equal(weights(encoder), weights(costs.train_on_parts(plan)))
    assert 0 <= peak < 500


def test_time_is_that_of_training_on_few_cells_and_on_all(monkeypatch):
    trained, embedded = [], []

    class Slow:
        def transform(self, X):
            embedded.append(len(X))
            busy(0.05)

    def busy(seconds):
        end = time.process_time() + seconds
        while time.process_time() < end:
            pass

    def fit(self, X, seed, **changes):
        trained.append(len(X))
        busy(0.002 * len(X))
        return Slow()

    monkeypatch.setattr(Settings, "fit", fit)
    monkeypatch.setattr(Settings, "prepare", lambda self, adata: None)
    monkeypatch.setattr(Settings, "scores", lambda self, prep, adata: np.zeros(adata.shape))
    few, every = costs.training_time(CELLS, TINY, 0, share=0.05)
    assert trained == [240, 12, 240] and embedded == [240]  # the first is the warm-up
    assert few == pytest.approx(0.024 + 0.05, abs=0.05)
    assert every == pytest.approx(0.48, abs=0.1)


def test_everything_is_measured(monkeypatch):
    monkeypatch.setattr(costs, "training_time", lambda *_: (1.0, 2.0))
    monkeypatch.setattr(costs, "in_fresh_process", lambda function, plan: function(plan))
    found = costs.measure(CELLS, TINY, seed=1)
    assert found["time/saved"] == (1.0, 2.0)
    assert found["partition/memory"][0] >= 0
    assert len(found) == 4
    assert torch.is_grad_enabled()
