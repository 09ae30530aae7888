"""Compare rpumap with other programs: time, memory and quality, each fit in a fresh process.

``make bench`` creates the environment that the fits run in and calls this script:

    python tests/benchmarks/peers/run.py --data pancreas simulated_18k --methods rpumap UMAP

All methods get the same arrays (``cells.py``) and their documented defaults (``methods.py``), take
turns within each repeat, and choose their number of threads themselves. A row is written as soon as
it is measured, and rows that are there are not measured again (``--again`` does so). What would
take longer than ``--limit`` seconds is predicted from smaller sizes, and marked as extrapolated.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from cells import NAMES, SIMULATED, Cells, prepare
from methods import METHODS
from results import (
    BENCH,
    PYTHON,
    RESULTS,
    Row,
    extrapolate,
    load,
    machine,
    merge,
    not_run,
    plain_environment,
    renew,
    save,
    start_run,
    this_run,
)
from scores import scores

FIT = Path(__file__).with_name("fit_once.py")
WARM_LIMITS = (120, 30)  # seconds of a fit for a warm one to follow: in the first repeat, later
ONCE = 120  # seconds beyond which a fit is not repeated
LIMIT = 600
# Their first fits on a machine compile with numba and keep the code on disk; that is not measured.
COMPILED = ("rpumap", "UMAP")
COMPILED_ON = "simulated_18k"


def default_repeats(n_cells: int) -> int:
    """Return how often a size is measured; the smallest is there for predictions alone."""
    if n_cells > 20_000:
        return 2 if n_cells <= 200_000 else 1
    return 3 if n_cells > 2_000 else 1


def busy_seconds() -> float | None:
    """Processor time that all programs of the machine have used, where the system tells."""
    path = Path("/proc/stat")
    if not path.exists():
        return None
    user, nice, system, _, _, *rest = map(int, path.read_text().split("\n", 1)[0].split()[1:9])
    return (user + nice + system + sum(rest)) / os.sysconf("SC_CLK_TCK")


def wait(process: subprocess.Popen, found: Path, limit: float) -> None:
    """Wait for a fit up to the limit, and as long again for what follows it; then end it."""
    for _ in range(2):
        try:
            process.wait(timeout=limit)
            return
        except subprocess.TimeoutExpired:
            if not found.exists():
                break
    process.kill()
    process.wait()


def failure(process: subprocess.Popen, log: Path) -> Row:
    """Say how a process ended, with the last line it wrote."""
    lines = log.read_text(errors="replace").strip().splitlines() or ["no message"]
    return {"error": f"exit status {process.returncode}: {lines[-1][:200]}"}


def fit(method: str, seed: int, data: Path, limit: float, python: Path = PYTHON) -> Row:
    """Run one method in a fresh process and return what it took and how good it is."""
    with tempfile.TemporaryDirectory() as folder:
        found, log = Path(folder, "found.json"), Path(folder, "log.txt")
        busy, started = busy_seconds(), time.monotonic()
        given = [method, seed, data, folder, started, WARM_LIMITS[seed > 0]]
        command = [str(part) for part in (python, "-W", "ignore", FIT, *given)]
        with log.open("w") as written:
            process = subprocess.Popen(
                command, env=plain_environment(), stdout=written, stderr=written
            )
            wait(process, found, limit)
        ended = time.monotonic()
        if not found.exists():
            stopped = ended - started >= limit
            return {"limit_s": limit, "stopped": True} if stopped else failure(process, log)
        row: Row = json.loads(found.read_text())
        last_s, all_s = ended - row.pop("ended"), row.pop("all_processor_s")
        if process.returncode == 0:
            row["cold_s"] += last_s  # the end of a process is part of it
        if busy is not None:
            cores = os.cpu_count() or 1
            others = max(0.0, busy_seconds() - busy - all_s)
            row["others"] = others / (ended - started) / cores
        row |= scores(data, Path(folder))
        if process.returncode:
            row |= failure(process, log)
        return {k: round(v, 4) if isinstance(v, float) else v for k, v in row.items()}


def first_use(methods: list[str], python: Path) -> None:
    """Fit once, unmeasured, the methods that keep compiled code on disk; once an environment."""
    for method in COMPILED:
        stamp = python.parent.parent / f"used_{method}"
        if method in methods and not stamp.exists():
            print(f"{method}: a first fit, which is not measured", flush=True)
            data = BENCH / "data" / COMPILED_ON
            prepare(COMPILED_ON, data)
            fit(method, 1, data, LIMIT, python)
            stamp.touch()


def measure(results: Row, row: Row, cells: Cells, limit: float, python: Path) -> Row:
    """Complete a row: measure, or predict where that would take longer than the limit."""
    fits, method = results["fits"], row["method"]
    simulated = row["data"] in SIMULATED
    expected = extrapolate(fits, method, cells.n_training) if simulated else {}
    if expected.get("cold_s", 0) > limit:
        return not_run(fits, row | {"limit_s": limit})
    found = fit(method, row["repeat"], BENCH / "data" / row["data"], limit, python)
    return not_run(fits, row | found) if "limit_s" in found else row | found


def is_due(fits: list[Row], key: Row, again: bool) -> bool:
    """Tell whether a fit is to be measured: no repeats of one that is slow, too slow or fails."""
    if key["repeat"]:
        first = [row for row in fits if (key | {"repeat": 0}).items() <= row.items()]
        if any("limit_s" in row or row.get("cold_s", ONCE) >= ONCE for row in first):
            return False
    return again or not any(key.items() <= row.items() for row in fits)


def show(row: Row) -> None:
    """Print what was found, in a line."""
    text = f"{row['data']:15}{row['method']:16}{row['repeat']}"
    for name, value in row.items():
        if name not in ("data", "method", "repeat", "run"):
            text += f"  {name} {value:.4g}" if isinstance(value, float) else f"  {name} {value}"
    print(text, flush=True)


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", nargs="+", choices=NAMES, default=NAMES, metavar="NAME")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--repeats", type=int, help="of each fit (3, fewer of large sets)")
    parser.add_argument("--limit", type=float, default=LIMIT, help="seconds a fit may take (600)")
    parser.add_argument("--again", action="store_true", help="measure also what is there")
    parser.add_argument("--out", type=Path, default=RESULTS, help="_build/bench/performance.json")
    parser.add_argument("--python", type=Path, default=PYTHON, help="of the peers' environment")
    return parser.parse_args()


def main() -> None:
    """Measure what was asked for."""
    given = arguments()
    results = load(given.out)
    run = start_run(results, machine(), this_run(given.python))
    first_use(given.methods, given.python)
    for data in given.data:
        cells = prepare(data, BENCH / "data" / data)
        if cells is None:
            print(f"{data}: its real cells are not in RPUMAP_DATA_DIR, left out")
            continue
        for repeat in range(given.repeats or default_repeats(cells.n_training)):
            for method in given.methods:
                key = {"data": data, "method": method, "repeat": repeat}
                if not is_due(results["fits"], key, given.again):
                    continue
                row = key | {"cells": cells.n_training, "run": run}
                row = measure(results, row, cells, given.limit, given.python)
                merge(results["fits"], row)
                renew(results["fits"])
                save(results, given.out)
                show(row)


if __name__ == "__main__":
    sys.exit(main())
