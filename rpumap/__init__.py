"""Robust parametric UMAP: embed cells, place new ones, and certify how far noise can move them.

Nothing heavy is imported here: each public object and each submodule is loaded when it is first
used, so that ``import rpumap`` takes next to no time.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rpumap import datasets as datasets
    from rpumap import dropout as dropout
    from rpumap import estimator as estimator
    from rpumap import explorer as explorer
    from rpumap import fine_tuning as fine_tuning
    from rpumap import graph as graph
    from rpumap import losses as losses
    from rpumap import metrics as metrics
    from rpumap import networks as networks
    from rpumap import plotting as plotting
    from rpumap import preprocessing as preprocessing
    from rpumap import sensitivity as sensitivity
    from rpumap import training as training
    from rpumap import verification as verification
    from rpumap.estimator import ParametricUMAP as ParametricUMAP
    from rpumap.fine_tuning import extend as extend
    from rpumap.fine_tuning import resist_dropout as resist_dropout
    from rpumap.fine_tuning import robustify as robustify
    from rpumap.preprocessing import Preprocessor as Preprocessor
    from rpumap.reference.reference_map import ReferenceMap as ReferenceMap
    from rpumap.sensitivity import gene_impact as gene_impact
    from rpumap.verification.certify import certified_label_fraction as certified_label_fraction
    from rpumap.verification.certify import certify as certify

__version__ = "0.1.0"

__all__ = [
    "ParametricUMAP",
    "Preprocessor",
    "ReferenceMap",
    "certified_label_fraction",
    "certify",
    "extend",
    "gene_impact",
    "resist_dropout",
    "robustify",
]

_HOME = {
    "ParametricUMAP": "estimator",
    "Preprocessor": "preprocessing",
    "ReferenceMap": "reference.reference_map",
    "certified_label_fraction": "verification.certify",
    "certify": "verification.certify",
    "extend": "fine_tuning",
    "gene_impact": "sensitivity",
    "resist_dropout": "fine_tuning",
    "robustify": "fine_tuning",
}
# `chapters` is not among them: it belongs to the book.
_SUBMODULES = (
    "datasets",
    "dropout",
    "estimator",
    "explorer",
    "fine_tuning",
    "graph",
    "losses",
    "metrics",
    "networks",
    "plotting",
    "preprocessing",
    "reference",
    "sensitivity",
    "training",
    "verification",
)


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f"rpumap.{_HOME[name]}"), name)
    if name in _SUBMODULES:
        return importlib.import_module(f"rpumap.{name}")
    raise AttributeError(f"module 'rpumap' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, *_SUBMODULES, "__version__"])
