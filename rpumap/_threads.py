"""How many threads a computation uses: one in PyTorch, what the machine grants in other libraries.

PyTorch's threads wait for each other by spinning, in every one of the thousand small operations of
a training. On a machine whose cores are busy with other programs, a fit with two threads was
measured to take up to 36 times its quiet time, with one thread twice; on an idle machine two
threads save a sixth (``python tests/benchmarks/bench_busy.py``). Sums of floating-point numbers
also depend on how many threads share them. So networks are trained, evaluated and bounded on one
thread, and the result has the same bits whatever number of threads the user has set.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch


class _Setting(threading.local):
    """What one thread of the process has to know: whether it is inside already."""

    is_inside = False


_here = _Setting()
_lock = threading.Lock()
_inside: list[int] = []  # what the threads inside will give back, the earliest first


@contextmanager
def single_thread() -> Iterator[None]:
    """Let PyTorch work on one thread, and give the user's setting back afterwards.

    PyTorch keeps the number for each thread of the process, and what a new thread starts with in
    one place for all. With two fits at once the second thread may therefore start with the one
    thread that the first has asked for; it is given back what the user had set.

    Examples
    --------
    >>> import torch
    >>> from rpumap._threads import single_thread
    >>> before = torch.get_num_threads()
    >>> with single_thread():
    ...     torch.get_num_threads()
    1
    >>> torch.get_num_threads() == before
    True
    """
    if _here.is_inside:  # the outermost block gives back
        yield
        return
    with _lock:
        own = torch.get_num_threads()
        if own == 1 and _inside:
            own = _inside[0]
        _inside.append(own)
        torch.set_num_threads(1)
    _here.is_inside = True
    try:
        yield
    finally:
        _here.is_inside = False
        with _lock:
            _inside.remove(own)
            torch.set_num_threads(own)


def granted_cores() -> int:
    """Count the cores that this process may use: its affinity, and a container's quota.

    Examples
    --------
    >>> from rpumap._threads import granted_cores
    >>> granted_cores() >= 1
    True
    """
    import joblib

    return joblib.cpu_count()


@contextmanager
def granted_threads() -> Iterator[None]:
    """Hold the threads of BLAS and OpenMP at a container's quota, where that is below the cores.

    Those libraries count cores and know no quotas; threads beyond a quota only wait for each other.

    Examples
    --------
    >>> from rpumap._threads import granted_threads
    >>> with granted_threads():
    ...     pass
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    granted = granted_cores()
    if granted >= (cores or 1):
        yield
        return
    from threadpoolctl import ThreadpoolController

    pools = ThreadpoolController()
    most = {pool.prefix: min(pool.num_threads, granted) for pool in pools.lib_controllers}
    with pools.limit(limits=most):
        yield
