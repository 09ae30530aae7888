"""The training loop and the parts it is made of."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from scipy.sparse import csr_matrix

from rpumap.graph import fuzzy_graph, nearest_neighbors
from rpumap.losses import fit_ab, umap_loss
from rpumap.networks import mlp
from rpumap.training import (
    ROW_BLOCK,
    STEPS_DRAWN,
    Adam,
    EdgeSampler,
    distinct_rows,
    learning_rate_at,
    train,
)

A, B = fit_ab()
CPU = torch.device("cpu")


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def problem():
    draw = np.random.default_rng(0)
    centres = 4 * draw.normal(size=(3, 5))
    X = (centres[draw.integers(3, size=240)] + draw.normal(size=(240, 5))).astype(np.float32)
    return torch.as_tensor(X), fuzzy_graph(*nearest_neighbors(X, 10))


def run(problem, seed=0, **options):
    x, graph = problem
    encoder = mlp(5, (16,), 2, seeded(seed))
    options = {"a": A, "b": B, "n_steps": 60, "batch_size": 512} | options
    return encoder, train(encoder, x, graph, generator=seeded(seed), **options)


def test_edges_are_drawn_as_often_as_their_strength():
    graph = csr_matrix([[0, 0.1, 0.6], [0.1, 0, 0], [0.6, 0, 0]])
    ends, p = EdgeSampler(graph, "graph", CPU, seeded()).draw(40_000)
    assert p is None
    counts = torch.zeros(3, 3).index_put_(tuple(ends), torch.ones(40_000), accumulate=True)
    np.testing.assert_allclose(counts / 40_000, graph.toarray() / 1.4, atol=0.01)


def test_probability_draws_all_edges_alike_and_returns_their_strength():
    graph = csr_matrix([[0, 0.1, 0.6], [0.1, 0, 0], [0.6, 0, 0]])
    ends, p = EdgeSampler(graph, "probability", CPU, seeded()).draw(40_000)
    np.testing.assert_allclose(p, graph.toarray()[tuple(ends)])
    assert np.bincount(ends[0] * 3 + ends[1], minlength=9)[[1, 2, 3, 6]] == pytest.approx(
        10_000, abs=400
    )


def test_distinct_rows_point_back_to_every_end():
    ends = torch.randint(1000, (2, 700), generator=seeded())
    rows, index = distinct_rows(ends, 1000)
    assert torch.equal(rows[index], ends)
    assert len(rows) % ROW_BLOCK == 0
    assert len(rows) - len(torch.unique(ends)) < ROW_BLOCK


def test_each_step_embeds_a_distinct_cell_once(problem):
    """The rows that pass through the network are counted, in both ways of running a step."""
    x, _ = problem
    seen = []
    encoder = mlp(5, (16,), 2, seeded())
    encoder[0].register_forward_hook(lambda module, inputs, output: seen.append(len(output)))
    train(encoder, x, problem[1], a=A, b=B, n_steps=2, batch_size=512, generator=seeded())
    train(encoder, x, problem[1], a=A, b=B, n_steps=2, batch_size=64, generator=seeded())
    assert seen == [240, 240, ROW_BLOCK, ROW_BLOCK]


def test_embedding_distinct_cells_gives_the_same_gradient_as_embedding_each_end(problem):
    x, graph = problem
    encoder = mlp(5, (16,), 2, seeded())
    ends, _ = EdgeSampler(graph, "graph", CPU, seeded()).draw(100)
    rows, index = distinct_rows(ends, 1000)
    gradients = []
    for z in (encoder(x[ends.flatten()]), encoder(x[rows])[index.flatten()]):
        encoder.zero_grad()
        (z[:100] - z[100:]).square().sum().backward()
        gradients.append(encoder[0].weight.grad.clone())
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("weighting", ["graph", "probability"])
@pytest.mark.parametrize("batch_size", [64, 512])
def test_loss_falls(problem, weighting, batch_size):
    _, history = run(problem, weighting=weighting, batch_size=batch_size, n_steps=150)
    assert history["loss"][-20:].mean() < 0.8 * history["loss"][:5].mean()
    np.testing.assert_allclose(history["loss"], history["attraction"] + history["repulsion"])


def test_same_seed_gives_the_same_bits_and_another_seed_does_not(problem):
    for batch_size in (64, 512):
        (first, _), (again, _) = (run(problem, batch_size=batch_size) for _ in range(2))
        other, _ = run(problem, seed=1, batch_size=batch_size)
        for one, two, three in zip(
            first.parameters(), again.parameters(), other.parameters(), strict=True
        ):
            assert torch.equal(one, two)
            assert not torch.equal(one, three)


def test_training_leaves_the_global_random_state_alone(problem):
    before = torch.random.get_rng_state(), np.random.get_state()[1].copy()
    run(problem, n_steps=3)
    assert torch.equal(before[0], torch.random.get_rng_state())
    assert np.array_equal(before[1], np.random.get_state()[1])


def test_learning_rate_is_flat_then_falls_to_zero():
    rates = [learning_rate_at(step, 10, 2.0) for step in range(10)]
    np.testing.assert_allclose(rates, [2] * 6 + [1.6, 1.2, 0.8, 0.4])
    assert learning_rate_at(0, 1, 2.0) == 2.0


def test_eta_scales_the_repulsion_term(problem):
    _, plain = run(problem, n_steps=1)
    _, strong = run(problem, n_steps=1, repulsion_strength=3.0)
    assert strong["repulsion"][0] == pytest.approx(3 * plain["repulsion"][0], rel=1e-5)
    assert strong["attraction"][0] == plain["attraction"][0]
    _, none = run(problem, n_steps=1, negative_sample_rate=0)
    assert none["repulsion"][0] == 0


def test_callbacks_see_every_step_and_can_stop(problem):
    seen = []

    def watch(step, loss, encoder):
        seen.append((step, loss))
        return step == 4

    _, history = run(problem, callbacks=(watch,))
    assert [step for step, _ in seen] == [0, 1, 2, 3, 4]
    np.testing.assert_allclose([loss for _, loss in seen], history["loss"], rtol=1e-6)
    assert set(map(len, history.values())) == {5}


def test_interrupt_keeps_the_model_so_far(problem):
    def interrupt(step, loss, encoder):
        if step == 7:
            raise KeyboardInterrupt

    with pytest.warns(UserWarning, match="after 8 of 60 steps"):
        encoder, history = run(problem, callbacks=(interrupt,))
    stopped, _ = run(problem, callbacks=(lambda step, loss, encoder: step == 7,))
    assert len(history["loss"]) == 8
    assert torch.equal(encoder[0].weight, stopped[0].weight)


def test_progress_bar_shows_the_loss(problem, capsys):
    run(problem, n_steps=60, verbose=True)
    bar = capsys.readouterr().err
    assert "60/60" in bar
    assert "loss=" in bar
    run(problem, n_steps=5)
    assert capsys.readouterr().err == ""


def test_divergence_is_an_error(problem):
    x, graph = problem
    encoder = mlp(5, (16,), 2, seeded())
    with torch.no_grad():
        encoder[0].weight[0, 0] = float("nan")
    with pytest.raises(FloatingPointError, match="lower learning_rate"):
        train(encoder, x, graph, a=A, b=B, n_steps=30, generator=seeded())


def test_weights_that_diverge_in_the_last_step_are_an_error(problem):
    with pytest.raises(FloatingPointError, match=r"loss became|weights are no longer finite"):
        run(problem, n_steps=1, learning_rate=1e39)


def test_further_terms_are_added_to_the_loss(problem):
    x, graph = problem
    seen = []

    def size(step):
        seen.append((step.number, step.rows))
        assert step.z.shape == (len(x) if step.rows is None else len(step.rows), 2)
        return step.z.square().mean()

    for batch_size in (64, 512):
        seen.clear()
        _, history = run(problem, n_steps=30, batch_size=batch_size, terms={"size": size})
        assert list(history)[:4] == ["loss", "attraction", "repulsion", "size"]
        total = history["attraction"] + history["repulsion"] + history["size"]
        np.testing.assert_allclose(history["loss"], total, rtol=1e-6)
        assert [number for number, _ in seen] == list(range(30))
        assert all((rows is None) == (batch_size == 512) for _, rows in seen)
    _, plain = run(problem, n_steps=30)
    assert history["size"][-1] < history["size"][0]
    assert "size" not in plain


@pytest.mark.parametrize("n_threads", [1, 2, 5])
def test_bits_do_not_depend_on_the_number_of_threads_which_is_left_alone(problem, n_threads):
    before = torch.get_num_threads()
    torch.set_num_threads(n_threads)
    inside = []
    try:
        note = (lambda step, loss, encoder: inside.append(torch.get_num_threads()) and False,)
        encoder, _ = run(problem, batch_size=64, callbacks=note)
        assert torch.get_num_threads() == n_threads
    finally:
        torch.set_num_threads(before)
    assert set(inside) == {1}
    wanted, _ = run(problem, batch_size=64)
    assert torch.equal(encoder[0].weight, wanted[0].weight)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"weighting": "probabilities"}, "weighting must be one of graph, probability"),
        ({"n_steps": -1}, "n_steps must be an integer"),
        ({"batch_size": 2.5}, "batch_size must be an integer"),
        ({"negative_sample_rate": -1}, "negative_sample_rate must be an integer"),
    ],
)
def test_options_of_train_are_checked(option, message):
    X = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
    graph = fuzzy_graph(*nearest_neighbors(X, 5))
    with pytest.raises(ValueError, match=message):
        train(mlp(3, (4,), 2), torch.as_tensor(X), graph, a=1.5, b=0.9, **option)


@pytest.mark.parametrize("weight_decay", [0.0, 0.5])
def test_adam_equals_pytorch(weight_decay):
    start, draw = torch.randn(7, 3, generator=seeded()), seeded(1)
    ours, theirs = (torch.nn.Parameter(start.clone()) for _ in range(2))
    frozen = torch.nn.Parameter(torch.ones(2), requires_grad=False)
    own = Adam([ours, frozen], weight_decay)
    library = torch.optim.AdamW([theirs], weight_decay=weight_decay)
    for step in range(20):
        rate = 0.1 / (1 + step)
        library.param_groups[0]["lr"] = rate
        theirs.grad = torch.randn(7, 3, generator=draw) * 10.0 ** (step % 5 - 2)
        ours.grad = theirs.grad.clone()
        own.step(rate)
        library.step()
        assert ours.grad is None
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-7)
    assert torch.equal(frozen, torch.ones(2))


def test_a_gradient_from_before_is_not_used(problem):
    x, graph = problem
    stale, clean = mlp(5, (16,), 2, seeded()), mlp(5, (16,), 2, seeded())
    stale[0].weight.grad = torch.ones_like(stale[0].weight)
    for encoder in (stale, clean):
        train(encoder, x, graph, a=A, b=B, n_steps=1, generator=seeded())
    assert torch.equal(stale[0].weight, clean[0].weight)


def test_each_edge_is_drawn_as_often_as_its_strength_says_to_one(problem):
    """Over the steps that are drawn together, in an order that says nothing of the edge."""
    graph = problem[1]
    for weighting in ("graph", "probability"):
        sampler = EdgeSampler(graph, weighting, CPU, seeded())
        ends = torch.cat([sampler.draw(100)[0] for _ in range(STEPS_DRAWN)], dim=1)
        times = np.zeros(graph.shape)
        np.add.at(times, tuple(ends.numpy()), 1)
        strength = graph.toarray() if weighting == "graph" else (graph.toarray() > 0)
        expected = 100 * STEPS_DRAWN * strength / strength.sum()
        assert np.abs(times - expected).max() < 2
        order = np.corrcoef(ends[0, :-1], ends[0, 1:])[0, 1]
        assert abs(order) < 0.06  # five standard deviations


def test_training_creates_no_tensor_on_the_default_device(problem):
    """A tensor whose device is not said lands on this fake one, and meets those on the CPU."""
    x, graph = problem
    encoder, rate = mlp(5, (16,), 2, seeded()), 1e-3
    with torch.device("meta"):
        for weighting in ("graph", "probability"):
            ends, p = EdgeSampler(graph, weighting, CPU, seeded()).draw(64)
            rows, index = distinct_rows(ends, len(x))
            heads, tails = encoder(x[rows]).T[:, index.flatten()].unflatten(1, (2, 64)).unbind(1)
            sum(umap_loss(heads, tails, A, B, p=p, n_draws=3)).backward()
            Adam(encoder.parameters()).step(rate)
    assert all(weight.device == CPU and weight.isfinite().all() for weight in encoder.parameters())


def test_training_leaves_the_compiler_of_pytorch_alone():
    code = """
import sys
import numpy as np
import rpumap
rpumap.ParametricUMAP(n_steps=3).fit(np.random.default_rng(0).normal(size=(60, 5)))
assert "torch._dynamo" not in sys.modules
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
