"""Measure the claims of book/claims.toml, and keep the verdicts; ``make scorecard`` calls this.

Every unit of repeat is measured by itself and stored in ``_build/scorecard/COMMIT``, so that an
interrupted run goes on where it stopped. The run takes about two hours on two cores. It refuses a
checkout with changes, so that the commit it names holds the rules and the code that it ran.
"""

from __future__ import annotations

import argparse
import datetime
import hashlib
import json
import multiprocessing
import os
import platform
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rpumap.chapters.scorecard import Rule, interval, judge, load_rules

if TYPE_CHECKING:
    from anndata import AnnData

ROOT = Path(__file__).resolve().parents[1]
RULES = ROOT / "book" / "claims.toml"
PUBLISHED = ROOT / "book" / "scorecard.json"
STORE = ROOT / "_build" / "scorecard"
NAMED = ("rpumap", "torch", "numpy", "scipy", "scikit-learn", "umap-learn", "scanpy", "anndata")
# No seed from here on was used while the rules were written.
FIRST_SEED = 100
UNITS = 10
UNITS_OF_LONG = 5  # where a unit takes over a minute and is about one thing alone
EVERY = 4  # of the cells of the dentate gyrus, which are simulated
FILES = {
    "pancreas": ("pancreas.h5ad",),
    "malaria": ("malaria_pberghei_10x.h5ad", "malaria_reid_PbM.h5ad"),
    "blood": ("pbmc_facs_zheng2017.h5ad", "pbmc3k_10x_raw.h5ad"),
}


@dataclass(frozen=True)
class Experiment:
    """What is measured together: how often, on which cells, and with which settings."""

    units: int
    data: tuple[str, ...]
    settings: tuple[str, ...] = ("paper", "default")


EXPERIMENTS = {
    "maps": Experiment(UNITS, ("pancreas", "malaria", "dentate_gyrus")),
    "split": Experiment(UNITS, ("pancreas", "malaria", "dentate_gyrus")),
    "gaps": Experiment(UNITS, ("pancreas", "malaria", "dentate_gyrus")),
    "pair": Experiment(UNITS, ("pancreas", "malaria")),
    "rivals": Experiment(UNITS_OF_LONG, ("malaria", "blood")),
    "choices": Experiment(UNITS_OF_LONG, ("pancreas",), ("paper",)),
    "costs": Experiment(UNITS_OF_LONG, ("dentate_gyrus",)),
}


@dataclass(frozen=True)
class Job:
    """One unit of repeat of an experiment."""

    experiment: str
    data: str
    settings: str
    seed: int

    @property
    def filename(self) -> str:
        """Where its results are stored, below the folder of the commit."""
        return f"{self.experiment}.{self.data}.{self.settings}.{self.seed}.json"


def jobs(experiments: dict[str, Experiment] = EXPERIMENTS) -> Iterator[Job]:
    """List all units, seed by seed, so that what is there after a while is of all kinds."""
    for k in range(max(experiment.units for experiment in experiments.values())):
        for name, experiment in experiments.items():
            if k < experiment.units:
                for data in experiment.data:
                    for settings in experiment.settings:
                        yield Job(name, data, settings, FIRST_SEED + k)


@lru_cache(maxsize=2)
def cells(data: str) -> AnnData:
    """Read the cells of a data set; those of the dentate gyrus are simulated."""
    import rpumap

    if data == "dentate_gyrus":
        return rpumap.datasets.dentate_gyrus(source="simulated")
    return {"pancreas": rpumap.datasets.pancreas, "malaria": rpumap.datasets.malaria}[data]()


def measure(job: Job) -> dict[str, Any]:
    """Measure one unit of repeat."""
    from rpumap.chapters import choices, costs, gaps, generalization, rivals, robustness, settings

    chosen = {s.name: s for s in settings.BOTH}[job.settings]
    if job.experiment == "rivals":
        measured, frame = rivals.measure(job.data, chosen, job.seed)
        return {"measured": measured, "frame": frame.reset_index().to_dict("list")}
    if job.experiment == "costs":
        return {"measured": costs.measure(cells(job.data), chosen, job.seed)}
    adata = cells(job.data)
    if job.data == "dentate_gyrus":
        adata = adata[::EVERY].copy()
    if job.experiment == "gaps":
        return {"measured": gaps.measure_gaps(adata, chosen, job.seed, job.data)}
    function = {
        "maps": generalization.measure_maps,
        "split": generalization.measure_split,
        "pair": robustness.measure_pair,
        "choices": choices.measure_choices,
    }[job.experiment]
    return {"measured": function(adata, chosen, job.seed)}


def run(job: Job, folder: Path) -> float:
    """Measure one unit and store it; return the seconds that it took."""
    warnings.simplefilter("ignore")  # of scanpy and umap-learn, about their own dependencies
    start = time.perf_counter()
    result = measure(job)
    result["seconds"] = time.perf_counter() - start
    path = folder / job.filename
    part = path.with_suffix(".part")
    part.write_text(json.dumps(result, default=float), encoding="utf-8")
    part.rename(path)
    return result["seconds"]


def run_all(folder: Path, workers: int) -> None:
    """Measure what is not stored yet, some units at a time."""
    folder.mkdir(parents=True, exist_ok=True)
    todo = [job for job in jobs() if not (folder / job.filename).exists()]
    # times are compared in `costs`, so nothing else may run beside it
    beside, alone = ([j for j in todo if (j.experiment == "costs") == flag] for flag in (0, 1))
    done, failed = 0, []
    for some, n_workers in ((beside, workers), (alone, 1)):
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(n_workers, mp_context=context) as pool:
            waiting = {pool.submit(run, job, folder): job for job in some}
            for future in as_completed(waiting):
                done += 1
                name = waiting[future].filename.removesuffix(".json")
                try:
                    outcome = f"{future.result():.0f} s"
                except Exception as error:  # the other units are worth having all the same
                    failed.append(name)
                    outcome = f"FAILED: {error!r}"
                print(f"{done}/{len(todo)} {name} {outcome}", flush=True)
    if failed:
        sys.exit(f"These units failed, nothing is published: {', '.join(failed)}")


def git(*arguments: str) -> str:
    """Ask git about the checkout."""
    command = ["git", "-C", str(ROOT), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def problems() -> list[str]:
    """Say why the claims cannot be measured here."""
    folder = os.environ.get("RPUMAP_DATA_DIR", "").strip()
    absent = [
        name for names in FILES.values() for name in names if not (Path(folder) / name).is_file()
    ]
    found = []
    if not folder:
        found.append("RPUMAP_DATA_DIR is not set: it must name the folder of the real cells")
    elif absent:
        found.append(f"the folder that RPUMAP_DATA_DIR names lacks {', '.join(absent)}")
    try:
        changed = git("status", "--porcelain")
    except (OSError, subprocess.CalledProcessError):
        return [*found, "this is no checkout of git, so that the commit cannot be named"]
    if changed:
        found.append(f"the checkout has changes, commit them first:\n{changed}")
    return found


def sha256(path: Path) -> str:
    """Checksum of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


@lru_cache
def source(data: str) -> str:
    """Say what the cells are, for a row."""
    if data != "blood":
        return str(cells(data).uns["source"])
    from rpumap.chapters.rivals import load_pair

    return " -> ".join(str(adata.uns["source"]) for adata in load_pair("blood"))


@lru_cache
def read(path: Path) -> dict[str, Any]:
    """Read the results of one unit."""
    return json.loads(path.read_text(encoding="utf-8"))


def stored(
    folder: Path, experiments: dict[str, Experiment] = EXPERIMENTS
) -> list[tuple[Job, dict[str, Any]]]:
    """List the units that are measured, with their results."""
    known = [(job, folder / job.filename) for job in jobs(experiments)]
    return [(job, read(path)) for job, path in known if path.exists()]


def rows(rules: list[Rule], folder: Path) -> Iterator[dict[str, Any]]:
    """Judge each claim on each data set in each of the settings."""
    for rule in rules:
        experiment = EXPERIMENTS[rule.experiment]
        for data in rule.data:
            for settings in experiment.settings:
                units = [
                    result
                    for job, result in stored(folder, {rule.experiment: experiment})
                    if (job.data, job.settings) == (data, settings)
                ]
                if len(units) < 2:  # of an interim state
                    continue
                measured = pairs_of_rivals(units, rule.id) or [
                    unit["measured"][rule.id] for unit in units
                ]
                yield {
                    "id": rule.id,
                    "chapter": f"notebooks/{rule.chapter}",
                    "claim": rule.claim,
                    "source": rule.source,
                    "figure": rule.figure,
                    "measure": rule.measure,
                    "baseline": rule.baseline,
                    "unit": rule.unit,
                    "rule": rule.text,
                    "threshold": rule.threshold,
                    "why": rule.why,
                    "cells": data,
                    "data": source(data),
                    "real": data != "dentate_gyrus",
                    "settings": settings,
                    **judge(rule, measured),
                    "units": measured,
                }


def pairs_of_rivals(units: list[dict[str, Any]], name: str) -> list[tuple[float, float]]:
    """Value of CROWN and of the best rival in each unit; the rival is chosen by the means.

    The best of four in each unit would be too good: some noise is always in favour of one.
    """
    claim, _, score = name.partition("/")
    if claim != "rivals":
        return []
    import pandas as pd

    from rpumap.chapters.rivals import rivals

    frames = [pd.DataFrame(unit["frame"]).set_index(["method", "strength"]) for unit in units]
    return [tuple(pair) for pair in rivals(frames)[score].to_numpy().tolist()]


def curves(folder: Path) -> Iterator[dict[str, Any]]:
    """Sum up what is drawn and not judged: mean and interval over the units."""
    for name, experiment in EXPERIMENTS.items():
        found: dict[tuple, list] = {}
        for job, result in stored(folder, {name: experiment}):
            for key, pair in result["measured"].items():
                if key.startswith("curve/"):
                    found.setdefault((job.data, job.settings, key), []).append(pair)
        for (data, settings, key), pairs in found.items():
            if len(pairs) < 2:
                continue
            for which, values in zip(
                ("regularised", "plain"), zip(*pairs, strict=True), strict=True
            ):
                low, high = interval(values)
                yield {
                    "curve": key.split("/")[1],
                    "at": float(key.split("/")[2]),
                    "network": which,
                    "cells": data,
                    "settings": settings,
                    "mean": sum(values) / len(values),
                    "low": low,
                    "high": high,
                }


def frames(folder: Path) -> Iterator[dict[str, Any]]:
    """List what the comparison with other regularisers measured, one entry a unit."""
    for job, result in stored(folder, {"rivals": EXPERIMENTS["rivals"]}):
        yield {
            "cells": job.data,
            "settings": job.settings,
            "seed": job.seed,
            "frame": result["frame"],
        }


def machine() -> str:
    """Describe the processor and its cores."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line for line in cpuinfo.read_text().splitlines() if "model name" in line]
        model = names[0].split(":")[1].strip() if names else model
    return f"{model}, {len(os.sched_getaffinity(0))} cores"


def publish(folder: Path, commit: str, rules: list[Rule]) -> None:
    """Judge what was measured, and keep it with the project."""
    data = Path(os.environ["RPUMAP_DATA_DIR"])
    measured = stored(folder)
    results = {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "commit": commit,
        "rules_commit": git("log", "-1", "--format=%H", commit, "--", str(RULES)),
        "rules_date": git("log", "-1", "--format=%cI", commit, "--", str(RULES)),
        "rules_sha256": sha256(RULES),
        "data_sha256": {name: sha256(data / name) for names in FILES.values() for name in names},
        "seeds": {
            name: [FIRST_SEED + k for k in range(experiment.units)]
            for name, experiment in EXPERIMENTS.items()
        },
        "versions": {"Python": sys.version.split()[0], **{name: version(name) for name in NAMED}},
        "machine": machine(),
        "run_seconds": round(sum(result["seconds"] for _, result in measured)),
        "units_measured": len(measured),
        "units_planned": len(list(jobs())),
        "rows": list(rows(rules, folder)),
        "curves": list(curves(folder)),
        "rivals": list(frames(folder)),
    }
    part = PUBLISHED.with_suffix(".part")
    part.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    part.rename(PUBLISHED)


def main() -> None:
    """Refuse or run, then publish."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", type=int, default=2, help="units measured at a time")
    parser.add_argument(
        "--interim",
        metavar="COMMIT",
        help="measure nothing: publish what is stored of the run at this commit, by the same rules",
    )
    arguments = parser.parse_args()
    rules = load_rules(RULES)  # now: bad ones are not found after two hours, nor changed ones used
    if arguments.interim:
        commit = git("rev-parse", arguments.interim)
        if git("show", f"{commit}:book/claims.toml") != RULES.read_text(encoding="utf-8").strip():
            sys.exit(f"book/claims.toml is not that of {commit}")
        if not stored(STORE / commit):
            sys.exit(f"nothing is stored in {STORE / commit}")
    else:
        found = problems()
        if found:
            sys.exit("\n".join(["The claims cannot be measured:", *found]))
        commit = git("rev-parse", "HEAD")
        run_all(STORE / commit, arguments.workers)
    publish(STORE / commit, commit, rules)
    print(f"The results are in {PUBLISHED.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
