"""One thread inside, the user's setting outside, however many work at once."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest
import torch

from examples import default_device_meta
from rpumap._threads import granted_cores, plain_torch, single_thread


@pytest.fixture
def two() -> Iterator[None]:
    """Set two threads for a while."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def in_new_thread(function) -> int:
    found = []
    thread = threading.Thread(target=lambda: found.append(function()))
    thread.start()
    thread.join()
    return found[0]


def test_one_inside_and_the_setting_afterwards(two):
    with single_thread():
        assert torch.get_num_threads() == 1
        with single_thread():
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 1  # the inner block does not give back
    assert torch.get_num_threads() == 2


def test_an_error_gives_the_setting_back(two):
    with pytest.raises(RuntimeError, match="stop"), single_thread():
        raise RuntimeError("stop")
    assert torch.get_num_threads() == 2


@pytest.mark.parametrize("first_out", ["first", "second"])
def test_two_at_once_in_every_order_of_leaving(two, first_out):
    inside, leave = (threading.Event(), threading.Event()), (threading.Event(), threading.Event())
    found = {}

    def work(i: int) -> None:
        with single_thread():
            inside[i].set()
            leave[i].wait(10)
            found["inside", i] = torch.get_num_threads()
        found["after", i] = torch.get_num_threads()

    threads = [threading.Thread(target=work, args=(i,)) for i in (0, 1)]
    for i in (0, 1):  # the second starts while the first is inside
        threads[i].start()
        inside[i].wait(10)
    for i in (0, 1) if first_out == "first" else (1, 0):
        leave[i].set()
        threads[i].join()
    assert found == {("inside", 0): 1, ("inside", 1): 1, ("after", 0): 2, ("after", 1): 2}
    assert torch.get_num_threads() == 2
    assert in_new_thread(torch.get_num_threads) == 2


def test_a_setting_of_one_stays_one():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with single_thread():
        pass
    assert torch.get_num_threads() == 1
    torch.set_num_threads(before)


def test_cores_are_those_that_the_process_may_use():
    code = (
        "import os; os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[0]})\n"
        "from rpumap._threads import granted_cores; print(granted_cores())"
    )
    if sys.platform == "linux":
        run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert run.stdout.strip() == "1", run.stderr
    assert granted_cores() >= 1


@pytest.mark.skipif(sys.platform != "linux", reason="counts threads in /proc")
def test_a_quota_is_kept():
    # joblib takes this variable as it takes the quota of a container
    code = """
import os, time
import numpy as np
import threadpoolctl
import rpumap
from rpumap._threads import granted_threads
X = np.random.default_rng(0).normal(size=(3000, 50)).astype("float32")
rpumap.ParametricUMAP(n_steps=1).fit(X[:50])  # what is loaded at first use
time.sleep(1)  # a thread that has ended leaves the list a little later
before, pools = len(os.listdir("/proc/self/task")), threadpoolctl.threadpool_info()
model = rpumap.ParametricUMAP(n_steps=20, random_state=0).fit(X)
rpumap.certify(model, X[:50], 0.1)
time.sleep(1)
assert len(os.listdir("/proc/self/task")) <= before
assert threadpoolctl.threadpool_info() == pools
with granted_threads():
    assert {pool["num_threads"] for pool in threadpoolctl.threadpool_info()} == {1}
"""
    environment = {k: v for k, v in os.environ.items() if not k.endswith("_NUM_THREADS")}
    environment["LOKY_MAX_CPU_COUNT"] = "1"
    run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True)
    assert run.returncode == 0, run.stderr.decode()


def test_a_new_thread_starts_with_the_setting_of_the_user(two):
    with single_thread():
        assert in_new_thread(torch.get_num_threads) == 2
        assert torch.get_num_threads() == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_processes_forked_while_another_thread_works(two):
    # in a process of its own, which the test can end if it hangs
    code = """
import os, threading
import numpy as np
import torch
torch.set_num_threads(2)
import rpumap
from rpumap._threads import granted_cores, plain_torch, single_thread
X = np.random.default_rng(0).normal(size=(2000, 60)).astype("float32")
make = lambda: rpumap.ParametricUMAP(n_steps=3, random_state=0).fit(X)
wanted, busy = make().embedding_, True
def work():
    while busy:
        with single_thread():
            pass
threads = [threading.Thread(target=work) for _ in range(3)]
for thread in threads:
    thread.start()
for _ in range(5):
    child = os.fork()
    if child == 0:
        with single_thread():
            os._exit(granted_cores())
    assert os.waitpid(child, 0)[1] == 1 << 8  # exit status 1: one core
busy = False
for thread in threads:
    thread.join()
child = os.fork()
if child == 0:
    os._exit(int(not np.array_equal(make().embedding_, wanted)))
assert os.waitpid(child, 0)[1] == 0
"""
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, timeout=100
    )
    assert run.returncode == 0, run.stderr.decode()


@pytest.mark.parametrize(
    "around",
    [
        torch.no_grad,
        torch.inference_mode,
        lambda: torch.autocast("cpu", torch.bfloat16),
        default_device_meta,
    ],
)
def test_what_is_switched_on_around_does_not_matter(around):
    with around(), plain_torch():
        x = torch.ones(2, 2, requires_grad=True)
        product = x @ x
        assert (product.dtype, product.device.type) == (torch.float32, "cpu")
        assert product.requires_grad
        assert not x.is_inference()
