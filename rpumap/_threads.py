"""How many threads a computation uses: one in PyTorch, what the machine grants in other libraries.

PyTorch's threads wait for each other by spinning, in every one of the many small operations of a
training. Measured on two cores, in multiples of the quiet time of the same fit: with two threads
3.8 beside a program that keeps one core busy and 11 beside two such programs; with one thread 1.0
and 1.7. On an idle machine two threads save a fifth of the time (``python
tests/benchmarks/bench_busy.py --cells pancreas --pytorch``). Sums of floating-point numbers also
depend on how many threads share them. So networks are trained, evaluated and bounded on one thread,
and the result has the same bits whatever number of threads the user has set.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch

_lock = threading.Lock()
_forks: list[int] = []  # in a process that was forked: its number


@contextmanager
def single_thread() -> Iterator[None]:
    """Let PyTorch work on one thread, and give the user's setting back afterwards.

    PyTorch keeps the number for each thread of the process, and what a new thread starts with in
    one place for all. A helper thread puts that back at once, so that only this thread is held at
    one.

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
    with _lock:
        # asked before anything is set: from then on this thread has a number of its own
        own = torch.get_num_threads()
        if own > 1:
            torch.set_num_threads(1)
            helper = threading.Thread(target=torch.set_num_threads, args=(own,))
            helper.start()
            helper.join()
    try:
        yield
    finally:
        if own > 1:
            torch.set_num_threads(own)


@contextmanager
def plain_torch() -> Iterator[None]:
    """Compute on one thread, with gradients, in full precision, and on the CPU by default.

    What the user has switched on around the call (``no_grad``, ``inference_mode``, ``autocast``, a
    default device) is for the user's own networks.

    Examples
    --------
    >>> import torch
    >>> from rpumap._threads import plain_torch
    >>> with torch.inference_mode(), plain_torch():
    ...     torch.ones(2, requires_grad=True).sum().requires_grad
    True
    """
    with ExitStack() as stack:
        stack.enter_context(single_thread())
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        for kind in ("cpu", "cuda"):
            if torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        if torch.get_default_device().type != "cpu":
            stack.enter_context(torch.device("cpu"))
        yield


def _after_fork() -> None:
    _forks[:] = [os.getpid()]
    _lock.release()


if hasattr(os, "register_at_fork"):
    # a lock that another thread held during the fork would never be released in the child
    os.register_at_fork(
        before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_after_fork
    )


def granted_cores() -> int:
    """Count the cores that this process may use: its affinity, and a container's quota.

    In a forked process it is one: OpenMP waits there for threads that were not copied.

    Examples
    --------
    >>> from rpumap._threads import granted_cores
    >>> granted_cores() >= 1
    True
    """
    import joblib

    return 1 if _forks else joblib.cpu_count()


@contextmanager
def granted_threads() -> Iterator[None]:
    """Hold the threads of BLAS and OpenMP at :func:`granted_cores`, where that is below the cores.

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
