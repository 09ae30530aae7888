"""How long do bounds and their gradients take, here and in auto_LiRPA?

Run ``python tests/benchmarks/bench_bounds.py [repeats]``, with ``OMP_NUM_THREADS`` to choose the
number of threads. 256 cells of 300 genes, eps 0.2. The two take turns in one process, so that
whatever else the machine does meets both, and each repeat gives a ratio of their times. auto_LiRPA
has its own default options and traces the network once, outside the clock. Processor time tells
more than wall time on a busy machine.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor

from rpumap.networks import mlp
from rpumap.verification import Ball, auto_lirpa, crown, crown_ibp

N_CELLS, N_GENES, EPS = 256, 300, 0.2


def seconds(bound: Callable[[], tuple[Tensor, Tensor]]) -> tuple[float, float]:
    """Time one forward and backward pass: on the wall, and of the processor."""
    wall, processor = time.perf_counter(), time.process_time()
    lower, upper = bound()
    (upper - lower).mean().backward()
    return time.perf_counter() - wall, time.process_time() - processor


def pairs(hidden: tuple[int, ...]) -> dict[str, tuple[Callable, Callable]]:
    """Return for each method our function and auto_LiRPA's, ready to be called."""
    draw = torch.Generator().manual_seed(0)
    encoder = mlp(N_GENES, hidden, 2, draw)
    x = torch.randn(N_CELLS, N_GENES, generator=draw)
    region = Ball(x, EPS)
    with auto_lirpa.missing_names():
        library = auto_lirpa.import_library()
        traced = library.BoundedModule(encoder, torch.zeros_like(x))
        ball = library.BoundedTensor(x, library.PerturbationLpNorm(eps=EPS, norm=float("inf")))
    return {
        name: (
            lambda ours=ours: ours(encoder, region),
            lambda theirs=theirs: traced.compute_bounds(x=(ball,), method=theirs),
        )
        for name, ours, theirs in (
            ("crown_ibp", crown_ibp, "IBP+backward"),
            ("crown", crown, "backward"),
        )
    }


def summary(runs: list[tuple[float, float]]) -> str:
    """Write our and auto_LiRPA's median time in ms, and how the ratio of the two spreads."""
    ours, theirs = (1e3 * statistics.median(times) for times in zip(*runs, strict=True))
    ratios = sorted(theirs / ours for ours, theirs in runs)
    spread = ratios[0], statistics.median(ratios), ratios[-1]
    return f"{ours:8.1f}  {theirs:10.1f}   {'  '.join(f'{ratio:5.2f}' for ratio in spread)}"


if __name__ == "__main__":
    repeats = int(sys.argv[1]) if len(sys.argv) > 1 else 11
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {repeats} repeats")
    print("                              median, ms           ratio of a repeat")
    print("hidden   method     time      ours  auto_LiRPA     min  median  max")
    for hidden in ((128, 128), (256, 256)):
        for name, both in pairs(hidden).items():
            for bound in both:
                seconds(bound)
            runs = [[seconds(bound) for bound in both] for _ in range(repeats)]
            for clock, word in enumerate(("wall", "processor")):
                line = summary([(ours[clock], theirs[clock]) for ours, theirs in runs])
                print(f"{hidden[0]}-{hidden[1]}  {name:9}  {word:9}{line}", flush=True)
