"""Compare parts of rpumap, each with what it is measured against, within one process.

``python tests/benchmarks/peers/single.py [bounds] [labels] [projection] [imports]``; ``make bench``
calls it after ``run.py``. Both sides take turns. Times are those of the processor, on one thread,
which other programs of the machine change little. The rows go to the same file of results.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from results import (
    RESULTS,
    Row,
    load,
    machine,
    merge,
    plain_environment,
    save,
    start_run,
    this_run,
)

sys.path.append(str(Path(__file__).resolve().parents[1]))

IMPORT_TORCH = """
import time
import torch
print(time.process_time())
"""
# What the second fit takes is taken off the first, so that imports and first uses are left.
FIRST_FIT = """
import time
import numpy as np
X = np.random.default_rng(0).normal(size=(50, 10)).astype("float32")
def fit():
    import rpumap
    rpumap.ParametricUMAP(n_steps=1, random_state=0).fit(X)
fit()
first = time.process_time()
fit()
print(first - (time.process_time() - first))
"""


def in_turns(repeats: int, **sides: Callable[[], float]) -> dict[str, list[float]]:
    """Let the sides take turns, after one round that is not counted; return their seconds."""
    rounds = [{name: side() for name, side in sides.items()} for _ in range(repeats + 1)]
    return {name: [round(r[name], 5) for r in rounds[1:]] for name in sides}


def timed(call: Callable[[], object]) -> Callable[[], float]:
    """Return a function that calls and gives the seconds of the processor."""

    def run() -> float:
        start = time.process_time()
        call()
        return time.process_time() - start

    return run


def bounds() -> Iterator[Row]:
    """Bound 256 cells and go backward through the bounds, in turns with auto_LiRPA."""
    import torch
    from bench_bounds import EPS, N_CELLS, N_GENES, pairs, seconds

    torch.set_num_threads(1)
    for hidden in ((128, 128), (256, 256)):
        for method, (ours, theirs) in pairs(hidden).items():
            layers = "-".join(map(str, (N_GENES, *hidden, 2)))
            yield {
                "name": f"{method} {layers}",
                "setting": f"{N_CELLS} cells, eps {EPS}, forward and backward",
                "baseline": "auto_LiRPA",
            } | in_turns(
                11, seconds=lambda b=ours: seconds(b)[1], baseline_s=lambda b=theirs: seconds(b)[1]
            )


def labels() -> Iterator[Row]:
    """Certify the labels of all pancreas cells, with a robust network."""
    import rpumap

    adata = rpumap.datasets.pancreas()
    X = rpumap.Preprocessor(n_top_genes=300).fit_transform(adata)
    robust = rpumap.robustify(rpumap.ParametricUMAP(random_state=0).fit(X), X, eps=0.2)
    call = timed(lambda: rpumap.certified_label_fraction(robust, X, adata.obs["clusters"], eps=0.1))
    cells = "simulated" if adata.uns["simulated"] else "pancreas"
    yield {
        "name": "certified_label_fraction",
        "setting": f"{len(X):,} {cells} cells, eps 0.1, after robustify at 0.2",
    } | in_turns(3, seconds=call)


def projection() -> Iterator[Row]:
    """Project 100,000 cells, in turns with the bare matrix products of the network's layers."""
    import torch

    import rpumap
    from rpumap.estimator import TRANSFORM_BATCH

    torch.set_num_threads(1)
    X = np.random.default_rng(0).normal(size=(100_000, 300)).astype(np.float32)
    model = rpumap.ParametricUMAP(n_steps=1, random_state=0).fit(X[:500])
    weights = [layer.weight.detach().double().T.contiguous() for layer in model.encoder_[::2]]
    cells = torch.as_tensor(X).double()  # the type in which `transform` computes

    def products() -> None:
        for block in cells.split(TRANSFORM_BATCH):
            for weight in weights:
                block = block @ weight

    yield {
        "name": "transform",
        "setting": "100,000 cells, 300-128-128-2",
        "baseline": "matrix products alone, in double precision",
    } | in_turns(7, seconds=timed(lambda: model.transform(X)), baseline_s=timed(products))


def imports() -> Iterator[Row]:
    """Import what a first fit needs, in turns with PyTorch alone, in fresh processes."""

    def run(code: str) -> float:
        command = [sys.executable, "-c", code]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return float(done.stdout)

    yield {
        "name": "imports of a first fit",
        "setting": "fresh processes, all files in the cache of the disk",
        "baseline": "import torch",
    } | in_turns(9, seconds=lambda: run(FIRST_FIT), baseline_s=lambda: run(IMPORT_TORCH))


PARTS = {part.__name__: part for part in (bounds, labels, projection, imports)}


def main() -> None:
    """Measure the parts that the command line names; all by default."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--out", type=Path, default=RESULTS, help="_build/bench/performance.json")
    given = parser.parse_args()
    if unknown := set(given.parts) - set(PARTS):
        parser.error(f"no part is called {min(unknown)}; there are {', '.join(PARTS)}")
    if plain_environment() != dict(os.environ):  # libraries read it when they are loaded
        os.execve(sys.executable, [sys.executable, *sys.argv], plain_environment())
    results = load(given.out)
    run = start_run(results, machine(), this_run(Path(sys.executable)))
    for part in given.parts or PARTS:
        for row in PARTS[part]():
            merge(results["single"], row | {"run": run}, key=["name"])
            save(results, given.out)
            print(row, flush=True)


if __name__ == "__main__":
    main()
