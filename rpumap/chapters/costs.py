"""What a map costs: time with few cells, and memory with cells that are divided into parts.

Two sentences of the paper's discussion: training on a small part of the cells reduces the cost, and
training in batches "allows one to partition the data for efficient memory allocation".
"""

from __future__ import annotations

import gc
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy import sparse

import rpumap
from rpumap.chapters.comparison import transfer_accuracy
from rpumap.estimator import embed, loss_options
from rpumap.graph import fuzzy_graph, nearest_neighbors
from rpumap.metrics import trustworthiness
from rpumap.networks import mlp
from rpumap.training import default_steps, train

if TYPE_CHECKING:
    from anndata import AnnData
    from torch import nn

    from rpumap.chapters.settings import Settings

SHARE = 0.05  # of the cells, the least that the paper trains on
HELD_OUT = 0.2  # of the cells, for the quality of maps
PARTS, ROUNDS = 4, 3
WARM_UP = 400  # cells
MEGABYTE = 2**20
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # numbers of the options in glibc's malloc.h


def measure(adata: AnnData, settings: Settings, seed: int) -> dict[str, tuple[float, float | None]]:
    """Measure time and memory, once.

    Parameters
    ----------
    adata : AnnData
        Counts, with labels in ``obs["clusters"]``.
    settings : Settings
        Of the training.
    seed : int
        Of the choice of cells, of their division into parts, and of the networks.

    Returns
    -------
    dict of (float, float)
        ``"time/saved"``: see `training_time`. ``"partition/memory"``, ``"partition/trust"``,
        ``"partition/accuracy"``: peak memory in MB, trustworthiness and label accuracy of held-out
        cells, with parts and with all cells at once; see `partition`.
    """
    return {
        "time/saved": training_time(adata, settings, seed),
        **partition(adata, settings, seed),
    }


# --- time ---------------------------------------------------------------------------------------


def training_time(
    adata: AnnData, settings: Settings, seed: int, share: float = SHARE
) -> tuple[float, float]:
    """Measure how long it takes to map all cells, with training on a share of them and on all.

    Parameters
    ----------
    adata : AnnData
        Counts.
    settings : Settings
        Of the training.
    seed : int
        Of the choice of cells, and of the networks.
    share : float, default 0.05
        Share of the cells to train on.

    Returns
    -------
    few, every : float
        Seconds of processor time, from counts to the coordinates of all cells: choice of genes,
        z-scores, neighbours, training and projection.

    Notes
    -----
    Processor time, since other programs on the same machine lengthen the time on the clock. Both
    are measured one after the other, after a small fit that loads what is loaded only once. Where
    the number of steps does not grow with the cells, most of the training takes as long with few.
    """
    order = np.random.default_rng(seed).permutation(adata.n_obs)
    n_few = max(2, round(share * adata.n_obs))

    def seconds(rows: np.ndarray, **changes: Any) -> float:
        chosen = adata[np.sort(rows)]
        start = time.process_time()
        prep = settings.prepare(chosen)
        model = settings.fit(settings.scores(prep, chosen), seed, **changes)
        if len(rows) < adata.n_obs:
            model.transform(settings.scores(prep, adata))
        return time.process_time() - start

    seconds(order[:WARM_UP], n_steps=10)
    return seconds(order[:n_few]), seconds(order)


# --- training on parts --------------------------------------------------------------------------


@dataclass(frozen=True)
class Plan:
    """How a network is trained on parts of the cells, in files, that are read in turn.

    Parameters
    ----------
    parts : tuple of Path
        Files of z-scores, ``.npy``. One alone is training on all cells.
    n_cells : int
        Number of cells in all parts.
    n_rounds : int
        How often each part is read. The steps are divided among the rounds, and among the parts by
        their number of cells.
    settings : Settings
        Of the training.
    seed : int
        Of the network, and of the edges that are drawn.
    """

    parts: tuple[Path, ...]
    n_cells: int
    n_rounds: int
    settings: Settings
    seed: int


def train_on_parts(plan: Plan, load: Callable[[Path], np.ndarray] = np.load) -> nn.Sequential:
    """Train one network on parts of the cells, of which one at a time is in memory.

    Parameters
    ----------
    plan : Plan
        Files and settings.
    load : callable
        Reads the z-scores of a part, (n_cells, n_genes), float32.

    Returns
    -------
    torch.nn.Sequential
        The network.

    Notes
    -----
    Each part has a graph of its own, made when the part is read first and kept beside its file.
    Training goes on from part to part; in the r-th of R rounds it starts at 1 - (r - 1) / R of the
    learning rate, and within a part the rate falls as in any training. Cells of different parts
    are never compared: what holds the parts together is the network.
    """
    model = rpumap.ParametricUMAP(**{"device": "cpu", **plan.settings.model})
    draw = torch.Generator().manual_seed(plan.seed)
    n_steps = default_steps(plan.n_cells) if model.n_steps is None else model.n_steps
    encoder = None
    for number in range(plan.n_rounds):
        for path in plan.parts:
            X = load(path)
            if encoder is None:
                encoder = mlp(X.shape[1], model.hidden_sizes, model.n_components, draw)
            train(
                encoder,
                torch.as_tensor(X),
                _graph_of(path, X, model, plan),
                **loss_options(model),
                n_steps=max(1, round(n_steps * len(X) / plan.n_cells / plan.n_rounds)),
                learning_rate=model.learning_rate * (1 - number / plan.n_rounds),
                generator=draw,
            )
            del X  # before the next is read
            gc.collect()
    assert encoder is not None
    return encoder


def _graph_of(
    path: Path, X: np.ndarray, model: rpumap.ParametricUMAP, plan: Plan
) -> sparse.csr_matrix:
    """Read the graph of a part, or make it and keep it."""
    file = path.with_suffix(".graph.npz")
    if file.is_file():
        return sparse.csr_matrix(sparse.load_npz(file))
    n_neighbors = min(model.n_neighbors, len(X))
    indices, distances = nearest_neighbors(X, n_neighbors, model.metric, random_state=plan.seed)
    if plan.settings.certain_edges:
        # neighbours that are all equally far all have the membership strength 1
        distances = (distances > 0).astype(distances.dtype)
    graph = fuzzy_graph(indices, distances)
    sparse.save_npz(file, graph)
    return graph


def partition(
    adata: AnnData, settings: Settings, seed: int, n_parts: int = PARTS, n_rounds: int = ROUNDS
) -> dict[str, tuple[float, float | None]]:
    """Compare training on parts of the cells with training on all, in memory and quality.

    Parameters
    ----------
    adata : AnnData
        Counts, with labels in ``obs["clusters"]``.
    settings : Settings
        Of the training.
    seed : int
        Of the choice of held-out cells, of the division into parts, and of the network.
    n_parts : int, default 4
        Number of parts, of random cells.
    n_rounds : int, default 3
        How often each part is read.

    Returns
    -------
    dict of (float, float)
        With parts and with all cells: ``"partition/memory"``, see `peak_memory`;
        ``"partition/trust"`` and ``"partition/accuracy"``, trustworthiness of the held-out cells
        and the share of them that get their own label from the 15 nearest training cells.

    Notes
    -----
    Both are trained by `train_on_parts` for as many steps, each in a process of its own. Z-scores
    are computed before, from all training cells, and are not part of the memory.
    """
    draw = np.random.default_rng(seed)
    order = draw.permutation(adata.n_obs)
    n_held = round(HELD_OUT * adata.n_obs)
    held, training = adata[order[:n_held]], adata[order[n_held:]]
    prep = settings.prepare(training)
    X, X_held = settings.scores(prep, training), settings.scores(prep, held)
    labels, labels_held = (part.obs["clusters"].astype(str) for part in (training, held))
    results: dict[str, list[float]] = {"memory": [], "trust": [], "accuracy": []}
    for n, rounds in ((n_parts, n_rounds), (1, 1)):
        with tempfile.TemporaryDirectory() as folder:
            paths = write_parts(X, n, Path(folder))
            plan = Plan(paths, len(X), rounds, settings, seed)
            encoder, peak = in_fresh_process(peak_memory, plan)
        Z, Z_held = embed(encoder, X), embed(encoder, X_held)
        results["memory"].append(peak)
        results["trust"].append(trustworthiness(X_held, Z_held))
        results["accuracy"].append(transfer_accuracy(Z, labels, Z_held, labels_held))
    return {f"partition/{name}": (few, every) for name, (few, every) in results.items()}


def write_parts(X: np.ndarray, n_parts: int, folder: Path) -> tuple[Path, ...]:
    """Write every n-th row of a table to a file of its own, and return the files.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> from pathlib import Path
    >>> from rpumap.chapters.costs import write_parts
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     [np.load(path).shape for path in write_parts(np.ones((5, 3)), 2, Path(folder))]
    [(3, 3), (2, 3)]
    """
    paths = tuple(folder / f"part{number}.npy" for number in range(n_parts))
    for number, path in enumerate(paths):
        np.save(path, X[number::n_parts])
    return paths


# --- memory -------------------------------------------------------------------------------------


def peak_memory(plan: Plan) -> tuple[nn.Sequential, float]:
    """Train on parts, and measure how much memory that took at most.

    Parameters
    ----------
    plan : Plan
        Files and settings.

    Returns
    -------
    encoder : torch.nn.Sequential
        The network.
    megabytes : float
        Largest resident memory of the process, above that before the first part was read.

    Notes
    -----
    To be called in a fresh process. A small training comes first, so that libraries which load on
    first use do not count. Freed memory goes back to the system at once (`return_freed_memory`), so
    that only what is in use counts.
    """
    return_freed_memory()
    with tempfile.TemporaryDirectory() as folder:
        X = np.random.default_rng(0).normal(size=(WARM_UP, 20)).astype(np.float32)
        brief = replace(plan.settings, model={**plan.settings.model, "n_steps": 10})
        train_on_parts(Plan(write_parts(X, 1, Path(folder)), WARM_UP, 1, brief, 0))
    before = reset_peak()
    encoder = train_on_parts(plan)
    return encoder, (read_peak() - before) / MEGABYTE


def return_freed_memory() -> bool:
    """Let this process give large blocks back as soon as they are freed, where the system can.

    Returns
    -------
    bool
        Whether it could: with the C library of Linux, glibc.

    Notes
    -----
    By default glibc keeps freed blocks of up to 32 MB, between which the small numbers that a
    training collects then lie: the memory of the process grows by some 20 kB a step, whatever the
    number of cells, and a single long training would seem to need more than several short ones.
    """
    import ctypes

    if sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "mallopt"):
        return False
    set_option = ctypes.CDLL(None).mallopt
    # setting the default threshold, 128 kB, keeps glibc from raising it by itself
    return all(set_option(option, 128 * 1024) for option in (MMAP_THRESHOLD, TRIM_THRESHOLD))


def reset_peak() -> int:
    """Forget the largest memory of this process so far, where the system can; return it, in bytes.

    On Linux it then is the memory of now.
    """
    gc.collect()
    forget = Path("/proc/self/clear_refs")
    if forget.exists():
        forget.write_text("5")
    return read_peak()


def read_peak() -> int:
    """Return the largest resident memory of this process so far, in bytes.

    Notes
    -----
    On Linux it is read from ``/proc``. The number that ``getrusage`` gives there is at least the
    memory of the process that started this one, even if the new process uses none of it.
    """
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    import resource

    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return largest if sys.platform == "darwin" else largest * 1024


def in_fresh_process(function: Callable, *arguments: Any) -> Any:
    """Call a function of a module in a new Python process, and return what it returns.

    Examples
    --------
    >>> import os
    >>> from rpumap.chapters.costs import in_fresh_process
    >>> in_fresh_process(os.getpid) == os.getpid()
    False
    """
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn) as pool:
        return pool.submit(function, *arguments).result()
