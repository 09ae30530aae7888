"""Robust parametric UMAP: embed cells, place new ones, and certify how far noise can move them.

Nothing heavy is imported here: each public name is loaded when it is first used, so that
``import rpumap`` costs next to nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rpumap import augment as augment
    from rpumap import bounds as bounds
    from rpumap import certificates as certificates
    from rpumap import datasets as datasets
    from rpumap import encoder as encoder
    from rpumap import estimator as estimator
    from rpumap import fine_tuning as fine_tuning
    from rpumap import graph as graph
    from rpumap import lirpa as lirpa
    from rpumap import loss as loss
    from rpumap import metrics as metrics
    from rpumap import plotting as plotting
    from rpumap import preprocessing as preprocessing
    from rpumap import regions as regions
    from rpumap import robust as robust
    from rpumap import scorecard as scorecard
    from rpumap import sensitivity as sensitivity
    from rpumap import training as training
    from rpumap.augment import resist_dropout as resist_dropout
    from rpumap.certificates import certified_label_fraction as certified_label_fraction
    from rpumap.certificates import certify as certify
    from rpumap.estimator import ParametricUMAP as ParametricUMAP
    from rpumap.preprocessing import Preprocessor as Preprocessor
    from rpumap.robust import robustify as robustify
    from rpumap.sensitivity import gene_impact as gene_impact

__version__ = "0.1.0"

__all__ = [
    "ParametricUMAP",
    "Preprocessor",
    "augment",
    "bounds",
    "certificates",
    "certified_label_fraction",
    "certify",
    "datasets",
    "encoder",
    "estimator",
    "fine_tuning",
    "gene_impact",
    "graph",
    "lirpa",
    "loss",
    "metrics",
    "plotting",
    "preprocessing",
    "regions",
    "resist_dropout",
    "robust",
    "robustify",
    "scorecard",
    "sensitivity",
    "training",
]

_HOME = {
    "ParametricUMAP": "estimator",
    "Preprocessor": "preprocessing",
    "certified_label_fraction": "certificates",
    "certify": "certificates",
    "gene_impact": "sensitivity",
    "resist_dropout": "augment",
    "robustify": "robust",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'rpumap' has no attribute {name!r}")
    module = importlib.import_module(f"rpumap.{_HOME.get(name, name)}")
    return getattr(module, name) if name in _HOME else module


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
