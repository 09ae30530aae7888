"""The package as a whole: what importing it costs, and which way the imports point."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import rpumap

HEAVY = ("torch", "sklearn", "scanpy", "umap", "pynndescent", "matplotlib", "anndata", "scipy")
# Each module may import those that stand before it.
ORDER = (
    "datasets",
    "preprocessing",
    "graph",
    "loss",
    "encoder",
    "regions",
    "bounds",
    "lirpa",
    "training",
    "estimator",
    "certificates",
    "fine_tuning",
    "robust",
    "augment",
    "sensitivity",
    "metrics",
    "scorecard",
    "reference",
    "plotting",
)


def test_import_is_light():
    code = f"import rpumap, sys; print([m for m in {HEAVY!r} if m in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_every_public_name_can_be_reached():
    for name in rpumap.__all__:
        assert getattr(rpumap, name) is not None
        assert name in dir(rpumap)
    with pytest.raises(AttributeError, match="no attribute 'TSNE'"):
        rpumap.TSNE  # noqa: B018


def test_imports_point_one_way():
    for path in Path(rpumap.__file__).parent.glob("*.py"):
        if path.stem.startswith("_"):
            continue
        place = ORDER.index(path.stem)
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("rpumap."):
                imported = node.module.split(".")[1]
                if not imported.startswith("_"):
                    assert ORDER.index(imported) < place, f"{path.stem} imports {imported}"
