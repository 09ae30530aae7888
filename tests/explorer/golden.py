"""What Python computes, for the tests of the JavaScript: ``python golden.py FOLDER`` writes it.

Arrays go into safetensors files, under names such as ``0.crown.linf.0.1.lower``; what else a test
must know goes into ``golden.json``.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from anndata import AnnData
from safetensors.numpy import save_file
from scipy.spatial import KDTree

import rpumap
from rpumap._counts import listen
from rpumap.networks import mlp
from rpumap.reference.cell_mapper import CellMapper
from rpumap.verification import Ball, crown, crown_ibp, ibp, labels_are_certain, projected_gradient
from rpumap.verification.bounds import linear_layers

METHODS = {"ibp": ibp, "crown_ibp": crown_ibp, "crown": crown}
NORMS = ("linf", "l2", "l1")
RADII = (0.0, 0.01, 0.1, 1.0)
WIDTHS = ([300, 128, 128, 2], [20, 16, 16, 2], [5, 8, 2], [12, 10, 9, 8, 2], [7, 3])
N_CELLS = 3
EPS = (0.02, 0.05, 0.3)
TYPES = {torch.float64: "", torch.float32: "single."}


def write_golden(folder: str | Path) -> None:
    """Write all files into a folder that is there."""
    folder = Path(folder)
    networks, of_networks = make_networks()
    boxes, of_boxes = make_boxes()
    cells, of_cells = make_reference(folder)
    # as they lie in memory is how save_file writes them
    for name, arrays in {"networks": networks, "boxes": boxes, "cells": cells}.items():
        arrays = {key: np.ascontiguousarray(array) for key, array in arrays.items()}
        save_file(arrays, folder / f"{name}.safetensors")
    text = json.dumps({"networks": of_networks, "boxes": of_boxes, "cells": of_cells})
    (folder / "golden.json").write_text(text, encoding="utf-8")


# --- networks: coordinates, bounds and attacks --------------------------------------------------


def make_networks() -> tuple[dict[str, np.ndarray], list[dict[str, Any]]]:
    """Compute what random networks say of random cells."""
    arrays, about = {}, []
    for number, widths in enumerate(WIDTHS):
        draw = torch.Generator().manual_seed(number)
        network = mlp(widths[0], widths[1:-1], widths[-1], draw)
        for layer in network[::2]:
            torch.nn.init.normal_(layer.bias, std=0.3, generator=draw)
        x = torch.randn(N_CELLS, widths[0], generator=draw)
        directions = torch.randn(5, widths[-1], generator=draw)
        found = {"x": x, "directions": directions, "forward": network.double()(x.double())}
        for depth, (weight, bias) in enumerate(linear_layers(network.float())):
            found |= {f"{depth}.weight": weight, f"{depth}.bias": bias}
        for norm in NORMS:
            for eps in RADII:
                found |= _bounds_and_attacks(network, x, directions, norm, eps)
        arrays |= {f"{number}.{name}": value.detach().numpy() for name, value in found.items()}
        about.append({"widths": widths, "n_cells": N_CELLS, "radii": RADII, "norms": NORMS})
    return arrays, about


def _bounds_and_attacks(
    network: torch.nn.Sequential, x: torch.Tensor, directions: torch.Tensor, norm: str, eps: float
) -> dict[str, torch.Tensor]:
    found = {}
    for dtype, prefix in TYPES.items():
        own, ball = network.to(dtype), Ball(x.to(dtype), eps, norm)
        along = _along(own, directions.to(dtype))
        for name, method in METHODS.items():
            place = f"{prefix}{name}.{norm}.{eps}"
            found[f"{place}.lower"], found[f"{place}.upper"] = method(own, ball)
            lower, upper = method(along, ball)
            found[f"{place}.along.lower"], found[f"{place}.along.upper"] = lower, upper
    ball = Ball(x.double(), eps, norm)
    found[f"attack.{norm}.{eps}"] = projected_gradient(network.double(), ball, directions.double())
    network.float()
    return found


def _along(network: torch.nn.Sequential, directions: torch.Tensor) -> torch.nn.Sequential:
    """Return the network whose outputs are those along directions."""
    last = torch.nn.Linear(network[-1].in_features, len(directions), dtype=directions.dtype)
    with torch.no_grad():
        last.weight.copy_(directions @ network[-1].weight)
        last.bias.copy_(directions @ network[-1].bias)
    return torch.nn.Sequential(*network[:-1], last)


# --- boxes: labels that are certain -------------------------------------------------------------


def make_boxes() -> tuple[dict[str, np.ndarray], list[dict[str, Any]]]:
    """Compute which labels are certain in random boxes of random maps."""
    arrays, about = {}, []
    for number, (n_cells, n_labels, k) in enumerate([(400, 4, 15), (60, 3, 3), (300, 9, 15)]):
        draw = np.random.default_rng(20 + number)
        centres = 3 * draw.normal(size=(n_labels, 2))
        codes = np.r_[np.arange(n_labels), draw.integers(n_labels, size=n_cells - n_labels)]
        Z = (centres[codes] + draw.normal(size=(n_cells, 2))).astype(np.float32)
        # some far away, some as large as the map, some as small as a point
        middle = 3 * draw.normal(size=(400, 2)) * draw.choice([1, 1, 1, 10], size=(400, 1))
        half = 10 ** draw.uniform(-2, 1.3, size=(400, 1)) * draw.uniform(size=(400, 2))
        half[:10] = 0
        lower, upper = middle - half, middle + half
        _, near = KDTree(Z).query(middle, k)
        found = {
            "Z": Z,
            "codes": codes.astype(np.int32),
            "lower": lower,
            "upper": upper,
            "label": np.eye(n_labels)[codes][near].sum(axis=1).argmax(axis=1).astype(np.int32),
            "certain": labels_are_certain(lower, upper, Z, codes, k).astype(np.uint8),
        }
        arrays |= {f"{number}.{name}": array for name, array in found.items()}
        about.append({"n_labels": n_labels, "k": k})
    return arrays, about


# --- a reference: all that is said of cells -----------------------------------------------------


def make_reference(folder: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Fit a reference, save it as ``small.rpumap``, and map cells to it."""
    adata = rpumap.datasets.pancreas(source="simulated")
    ref = rpumap.ReferenceMap(n_top_genes=100).fit(adata[::4], labels="clusters")
    # so that some label sets hold two labels: those of simulated cells are told apart too well
    ref.index_ = replace(ref.index_, quantile=0.1)
    ref.save(folder / "small.rpumap")
    prep, index, queries = ref.preprocessor_, ref.index_, _queries(adata, ref)
    arrays = {}
    for name, query in queries.items():
        with listen():
            values = prep.scale(query)
            found = index.query(index.coordinates(values))
            genes = prep.genes_
            present = np.isin(genes, query.var_names)
            panel = np.full((query.n_obs, len(genes)), np.nan, dtype=np.float32)
            panel[:, present] = query[:, genes[present]].X.toarray()
            said = {
                "panel": panel,
                "library_size": rpumap.preprocessing.library_size(query),
                "scaled": values,
                "z": prep.standardize(values),
                "index_coordinates": index.coordinates(values),
                "strangeness": found.strangeness,
            }
            for eps in EPS:
                said |= _said_at(ref, query, said["z"], eps)
        arrays |= {f"{name}.{key}": value for key, value in said.items()}
    about = {"labels": list(index.names), "queries": list(queries), "eps": EPS}
    numbers = {"threshold": index.threshold, "quantile": index.quantile}
    numbers["panel_share"] = prep.panel_share_
    return arrays, about | numbers | {"genes": prep.genes_.tolist(), "card": ref.card()}


def _queries(adata: AnnData, ref: rpumap.ReferenceMap) -> dict[str, AnnData]:
    """Take other cells than the reference has, and spoil some of them."""
    whole = adata[1::9].copy()
    del whole.obs["library_size"]  # row sums take their place
    other = adata[1::9].copy()
    draw = np.random.default_rng(0)
    other.X = other.X.tocsr()[:, draw.permutation(other.n_vars)]  # genes of other cells: new types
    few = adata[2::9].copy()
    few.obs["library_size"] = rpumap.preprocessing.library_size(few) + 50.0
    has_counts = np.arange(few.n_obs) >= 3  # the first cells have none
    few.X = few.X.multiply(has_counts[:, None]).tocsr()
    few.obs.loc[few.obs_names[:2], "library_size"] = 0.0
    missing = ref.preprocessor_.genes_[::11]
    few = few[:, ~np.isin(few.var_names, missing)].copy()
    return {"whole": whole, "other": other, "few": few}


def _said_at(
    ref: rpumap.ReferenceMap, query: AnnData, z: np.ndarray, eps: float
) -> dict[str, np.ndarray]:
    """Return what is said at one radius, and boxes as they were without regard to rounding."""
    mapper = CellMapper(ref.preprocessor_, ref.model_, ref.index_, eps, "crown_ibp")
    records = mapper(query)
    said = {name: records[name] for name in records.dtype.names}
    said["lower"], said["upper"] = ref.certify(query, eps, method="crown_ibp")
    network, ball = ref.model_.encoder_.double(), Ball(z, eps).to(torch.float64)
    with torch.no_grad():
        said["real_lower"], said["real_upper"] = (b.numpy() for b in crown_ibp(network, ball))
    network.float()
    return {f"{eps}.{name}": value for name, value in said.items()}


if __name__ == "__main__":
    write_golden(sys.argv[1])
