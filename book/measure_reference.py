"""Measure what chapter 10 says of real pairs of studies; needs the real cells.

``python book/measure_reference.py`` writes ``book/reference.json``. It takes about ten minutes.
"""

from __future__ import annotations

import datetime
import json
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np

from rpumap import datasets
from rpumap.chapters.mapping import between_studies, missing_type, with_gene_factors

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "book" / "reference.json"
SEEDS = range(5)
PAIRS = {
    "blood": (datasets.pbmc, "facs", "pbmc3k"),
    "malaria": (datasets.malaria, "10x", "smartseq2"),
}
LEFT_OUT = ("Alpha", "Beta", "Ductal", "Pre-endocrine", "Ngn3 high EP")
LOG_SDS = (0.0, 0.3, 0.6, 1.0)  # of factors of genes
NAMED = ("rpumap", "torch", "numpy", "scikit-learn", "anndata")


def rows() -> list[dict]:
    """Measure everything, one row a seed."""
    found = []
    for cells, (load, *studies) in PAIRS.items():
        reference, query = (load(study=study) for study in studies)
        for seed in SEEDS:
            scores = between_studies(reference, query, "label", seed)
            found.append({"what": "between studies", "cells": cells, "seed": seed, **scores})
    pancreas = datasets.pancreas(source="real")
    for log_sd in LOG_SDS:
        for seed in SEEDS:
            half = np.random.default_rng(seed).random(pancreas.n_obs) < 0.5
            query = with_gene_factors(pancreas[~half], log_sd, seed)
            scores = between_studies(pancreas[half].copy(), query, "clusters", seed)
            found.append({"what": "gene factors", "cells": str(log_sd), "seed": seed, **scores})
    for missing in LEFT_OUT:
        for seed in SEEDS:
            scores = missing_type(pancreas, "clusters", missing, seed)
            found.append({"what": "missing type", "cells": missing, "seed": seed, **scores})
    reference, query = (datasets.pbmc(study=study) for study in ("pbmc3k", "facs"))
    reference, query = (part[part.obs["label"].notna()].copy() for part in (reference, query))
    for seed in SEEDS:
        scores = missing_type(reference, "label", "CD34+", seed, query)
        found.append({"what": "missing type", "cells": "CD34+", "seed": seed, **scores})
    return found


def main() -> None:
    """Write the file; refuse a checkout with changes, whose results no commit would explain."""
    status = ["git", "status", "--porcelain", "--untracked-files=no"]
    if subprocess.run(status, cwd=ROOT, capture_output=True, text=True, check=True).stdout:
        sys.exit("commit first: the results are kept with the commit that gave them")
    head = ["git", "rev-parse", "HEAD"]
    commit = subprocess.run(head, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    results = {
        "date": datetime.date.today().isoformat(),
        "commit": commit.strip(),
        "versions": {name: version(name) for name in NAMED},
        "rows": rows(),
    }
    OUT.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
