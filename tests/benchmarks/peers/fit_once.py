"""Fit one method in this fresh process, and write what it took; ``run.py`` starts it.

``python fit_once.py METHOD SEED DATA RESULTS STARTED WARM_LIMIT``: the folders of the arrays and of
the results, the clock when the process was started, and how many seconds a first fit may take for
a second one to be timed. The results are written after each part, so that a part which is stopped
takes nothing from those before it.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
from methods import METHODS


def processor_seconds() -> float:
    """Processor time of this process and of those it has started and waited for."""
    return sum(os.times()[:4])


def peak_megabytes() -> float:
    """Largest resident memory so far.

    On Linux that of the program alone: ``ru_maxrss`` starts at what the parent had when it forked.
    """
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 1024)


def device() -> str:
    """Name the device that PyTorch has, where a method has loaded it; else the processor."""
    torch = sys.modules.get("torch")
    return "cuda" if torch is not None and torch.cuda.is_available() else "cpu"


def seconds(call: Callable[[], np.ndarray]) -> tuple[np.ndarray, float]:
    """Call, and return the result as an array with the time it took."""
    start = time.monotonic()
    result = np.asarray(call())
    return result, time.monotonic() - start


def main() -> None:
    """Fit, place held-out cells, and fit again."""
    name, seed, data, results = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]), Path(sys.argv[4])
    started, warm_limit = float(sys.argv[5]), float(sys.argv[6])
    with suppress(OSError):  # where memory runs out, this process is the one to be ended
        Path("/proc/self/oom_score_adj").write_text("1000")
    found: dict[str, float | str] = {}

    def keep(**values: float | str) -> None:
        found.update(values, ended=time.monotonic(), all_processor_s=processor_seconds())
        (results / "found.tmp").write_text(json.dumps(found))
        (results / "found.tmp").replace(results / "found.json")

    X = np.load(data / "X.npy")
    Z, place = METHODS[name](X, seed)
    Z = np.asarray(Z)
    cold_s = time.monotonic() - started
    processor_s, peak_mb = processor_seconds(), peak_megabytes()
    np.save(results / "Z.npy", Z)
    keep(cold_s=cold_s, processor_s=processor_s, peak_mb=peak_mb, device=device())
    if place is not None:
        X_new = np.load(data / "X_new.npy")
        Z_new, place_s = seconds(lambda: place(X_new))
        np.save(results / "Z_new.npy", Z_new)
        keep(place_s=place_s)
    if cold_s <= warm_limit:
        keep(warm_s=seconds(lambda: METHODS[name](X, seed)[0])[1])
    else:
        keep()


if __name__ == "__main__":
    main()
