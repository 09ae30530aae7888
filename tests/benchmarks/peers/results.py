"""The file of results: what a row is, how rows are merged, and what larger sizes would take.

The file holds ``machine``; ``runs``, which says of each call of a script its date, commit, command
and versions; ``fits``, a row for each data set, method and repeat; and ``single``, a row for each
measurement within one process. It is written anew after every row, so that a run that is cut short
goes on where it was.
"""

from __future__ import annotations

import json
import math
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[3]
BENCH = ROOT / "_build" / "bench"
PYTHON = BENCH / "venv" / ("Scripts" if os.name == "nt" else "bin") / "python"
RESULTS = BENCH / "performance.json"
FURTHEST = 12  # times the largest measured size
PACKAGES = (
    *("rpumap", "torch", "numpy", "scipy", "scikit-learn", "joblib", "numba", "pynndescent"),
    *("umap-learn", "tensorflow-cpu", "tensorflow", "keras", "parametric-umap", "faiss-cpu"),
    *("openTSNE", "torchdr", "auto_LiRPA"),
)
VERSIONS = f"""
import json, platform
from importlib.metadata import PackageNotFoundError, version
found = {{"Python": platform.python_version()}}
for name in {PACKAGES!r}:
    try:
        found[name] = version(name)
    except PackageNotFoundError:
        pass
print(json.dumps(found))
"""
# Settings of the user's that change how many threads a library takes, or which of its kernels.
THREADS = ("OMP_", "MKL_", "OPENBLAS_", "NUMBA_", "KMP_", "GOMP_", "TF_NUM", "KERAS_")
Row = dict[str, Any]


def plain_environment() -> dict[str, str]:
    """Return the environment without settings of threads, so that libraries have their defaults."""
    return {name: value for name, value in os.environ.items() if not name.startswith(THREADS)}


def machine() -> dict[str, str | int | float]:
    """Describe this machine."""
    model = platform.processor()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((line.split(":")[1].strip() for line in lines if "model name" in line), model)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    described: dict[str, str | int | float] = {"processor": model, "cores": cores or 1}
    if hasattr(os, "sysconf"):
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        described["memory_gb"] = round(memory / 2**30, 1)
    return described | {"system": f"{platform.system()} {platform.machine()}"}


def this_run(python: Path) -> Row:
    """Say what is run: date, commit, command, and the versions in an environment."""

    def git(*command: str) -> str:
        done = subprocess.run(["git", *command], cwd=ROOT, capture_output=True, text=True)
        return done.stdout.strip() if done.returncode == 0 else ""

    commit = git("rev-parse", "--short=10", "HEAD") or "unknown"
    changed = " changed" if git("status", "--porcelain", "--", "rpumap") else ""
    versions = subprocess.run([python, "-c", VERSIONS], capture_output=True, text=True, check=True)
    script = Path(sys.argv[0]).resolve()
    named = script.relative_to(ROOT) if script.is_relative_to(ROOT) else script.name
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "commit": commit + changed,
        "command": " ".join(["python", str(named), *sys.argv[1:]]),
        "versions": json.loads(versions.stdout),
    }


def load(path: Path) -> Row:
    """Read a file of results; one without rows where there is none."""
    if path.exists():
        return json.loads(path.read_text(encoding="utf-8"))
    return {"machine": {}, "runs": {}, "fits": [], "single": []}


def save(results: Row, path: Path) -> None:
    """Write the file in one step, without runs of which no row is left."""
    used = {row["run"] for row in results["fits"] + results["single"]}
    results["runs"] = {key: run for key, run in results["runs"].items() if key in used}
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".tmp")
    unfinished.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    unfinished.replace(path)


def start_run(results: Row, here: Row, run: Row) -> str:
    """Add a run to the results and return its key; exit where they are another machine's."""
    if results["machine"] not in ({}, here):
        sys.exit(
            f"These results were measured on another machine, {results['machine']}, than this "
            f"one, {here}: times of the two cannot be compared. Name another file with --out."
        )
    results["machine"] = here
    for key, known in results["runs"].items():
        if known == run:
            return key
    key = str(1 + max(map(int, results["runs"]), default=0))
    results["runs"][key] = run
    return key


def merge(rows: list[Row], row: Row, key: Iterable[str] = ("data", "method", "repeat")) -> None:
    """Put a row in the place of the one that was measured of the same, or at the end."""
    named = tuple(key)
    for i, old in enumerate(rows):
        if all(old[name] == row[name] for name in named):
            rows[i] = row
            return
    rows.append(row)


def power_law(points: Iterable[tuple[float, float]], n: float) -> float | None:
    """Continue the power law through the last two of some points (size, value) to size n.

    None where there are fewer than two. A value that falls with the size is taken as constant.

    Examples
    --------
    >>> power_law([(10, 1.0), (100, 2.0), (200, 8.0)], 400)
    32.0
    """
    last = sorted(points)[-2:]
    if len(last) < 2:
        return None
    (n1, y1), (n2, y2) = last
    exponent = max(0.0, math.log(y2 / y1) / math.log(n2 / n1))
    return round(y2 * (n / n2) ** exponent, 3)


def straight_line(points: Iterable[tuple[float, float]], n: float) -> float | None:
    """Continue the straight line through the last two of some points, as `power_law` does.

    Examples
    --------
    >>> straight_line([(100, 30.0), (200, 40.0)], 400)
    60.0
    """
    last = sorted(points)[-2:]
    if len(last) < 2:
        return None
    (n1, y1), (n2, y2) = last
    return round(y2 + max(0.0, (y2 - y1) / (n2 - n1)) * (n - n2), 3)


# Libraries and code are a part of the memory that stays as it is when the cells become more.
EXTRAPOLATED = {"cold_s": power_law, "processor_s": power_law, "peak_mb": straight_line}


def extrapolate(rows: list[Row], method: str, n: int) -> Row:
    """Predict what a method takes for n simulated cells, from the medians of its smaller sizes.

    Empty where fewer than two were measured.
    """
    measured = [
        row
        for row in rows
        if row["method"] == method
        and row["data"].startswith("simulated")
        and row["cells"] < n
        and "cold_s" in row
        and not row.get("extrapolated")
    ]
    sizes = sorted({row["cells"] for row in measured})[-2:]
    if len(sizes) < 2:
        return {}
    found: Row = {"extrapolated": True, "from_cells": sizes}
    for field, law in EXTRAPOLATED.items():
        medians = [
            statistics.median(row[field] for row in measured if row["cells"] == size)
            for size in sizes
        ]
        found[field] = law(zip(sizes, medians, strict=True), n)
    return found


def not_run(rows: list[Row], row: Row) -> Row:
    """Complete the row of a fit that was not run to its end: with a prediction, where one is near.

    One that was stopped at the limit took that long at least.
    """
    simulated = row["data"].startswith("simulated")
    found = extrapolate(rows, row["method"], row["cells"]) if simulated else {}
    if found and row["cells"] > FURTHEST * found["from_cells"][-1]:
        found = {}
    if found and row.get("stopped"):
        found["cold_s"] = max(found["cold_s"], row["limit_s"])
    kept = ("data", "method", "repeat", "cells", "limit_s", "stopped", "run")
    return {key: row[key] for key in kept if key in row} | found


def renew(rows: list[Row]) -> None:
    """Predict anew what was not run, after smaller sizes were measured again."""
    for i, row in enumerate(rows):
        if "limit_s" in row:
            rows[i] = not_run(rows, row)
