"""Certified bounds: where a network's output may go while its input ranges over a region.

Regions say where the input may be, bounds say how far the outputs can move, attacks show how far
they do move, and labels turn bounds on coordinates into statements about cell types. All but
:mod:`rpumap.verification.certify` know tensors and networks only.
"""

from __future__ import annotations

from rpumap.verification.attacks import projected_gradient
from rpumap.verification.bounds import crown, crown_ibp, ibp, relax, upper_bound
from rpumap.verification.labels import labels_are_certain
from rpumap.verification.regions import Ball, Box, SparseBox

__all__ = [
    "Ball",
    "Box",
    "SparseBox",
    "crown",
    "crown_ibp",
    "ibp",
    "labels_are_certain",
    "projected_gradient",
    "relax",
    "upper_bound",
]
