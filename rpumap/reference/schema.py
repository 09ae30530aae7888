"""What a reference map consists of, as JSON and arrays: the schema of its file.

Header: ``genes``, ``target_sum``, ``panel_share``, ``library_size_stored`` and ``n_features_in`` of
the Preprocessor; ``hidden_sizes``; ``labels``; ``threshold`` of novelty and ``quantile`` of the
label sets, null if infinite. :class:`rpumap.ReferenceMap` adds ``parameters`` of its constructor,
``quality`` and ``about``.

Arrays, with n_stored cells:

``genes.mean``, ``.std``, ``.mean_of_logs``, ``.std_of_logs``
    float64, (n_genes,).
``cells.map``, ``cells.labels``
    Coordinates, float32, (n_stored, 2); places in ``labels``, int32, (n_stored,).
``index.0.projection``, ``index.0.cells``, ``index.0.usual``; ``index.1.projection``, ...
    The spaces of the index: float32, (n_genes, n_components) and (n_stored, n_components);
    float64, (n_labels,).
``network.0.weight``, ``network.0.bias``, ``network.2.weight``, ...
    float32.

Version 1 had one space: ``index.projection``, ``cells.components`` and ``index.usual``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from rpumap._counts import some
from rpumap._validation import check_integer, check_number
from rpumap.estimator import ParametricUMAP
from rpumap.preprocessing import Preprocessor
from rpumap.reference.label_index import LabelIndex, Space

IN_VERSION_1 = {
    "index.projection": "index.0.projection",
    "cells.components": "index.0.cells",
    "index.usual": "index.0.usual",
}


def to_parts(
    prep: Preprocessor, model: ParametricUMAP, index: LabelIndex
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Take a reference apart, into what JSON can hold and arrays.

    Parameters
    ----------
    prep : Preprocessor
    model : ParametricUMAP
        Its ``embedding_`` holds the stored cells.
    index : LabelIndex

    Returns
    -------
    header : dict
    arrays : dict of ndarray
    """
    header = {
        "genes": prep.genes_.tolist(),
        "target_sum": float(prep.target_sum),
        "panel_share": prep.panel_share_,
        "library_size_stored": bool(prep.library_size_stored_),
        "n_features_in": int(prep.n_features_in_),
        "hidden_sizes": list(map(int, model.hidden_sizes)),
        "labels": list(index.names),
        "threshold": _json_number(index.threshold),
        "quantile": _json_number(index.quantile),
    }
    arrays = {
        "genes.mean": prep.mean_,
        "genes.std": prep.std_,
        "genes.mean_of_logs": index.mean,
        "genes.std_of_logs": index.std,
        "cells.labels": index.codes,
        "cells.map": model.embedding_,
    }
    for i, space in enumerate(index.spaces):
        arrays |= {f"index.{i}.{name}": array for name, array in vars(space).items()}
    for name, tensor in model.encoder_.state_dict().items():
        arrays[f"network.{name}"] = tensor.numpy()
    return header, arrays


def from_parts(
    header: Mapping[str, Any], arrays: Mapping[str, np.ndarray]
) -> tuple[Preprocessor, ParametricUMAP, LabelIndex]:
    """Build a reference from what :func:`to_parts` gives, and check that all fits together.

    Parameters
    ----------
    header : mapping
    arrays : mapping of str to ndarray
        Of this version, or of an older one.

    Returns
    -------
    prep : Preprocessor
    model : ParametricUMAP
    index : LabelIndex

    Raises
    ------
    KeyError, ValueError, TypeError
        If something is missing, unknown, not finite, or of another type or shape.
    """
    arrays = {IN_VERSION_1.get(name, name): array for name, array in arrays.items()}
    names, genes = _texts(header["labels"], "labels"), _texts(header["genes"], "genes")
    sizes = [
        check_integer("hidden_sizes", size, least=1, most=4096) for size in header["hidden_sizes"]
    ]
    n_spaces = max(1, sum(name.endswith(".cells") for name in arrays))
    _check_arrays(arrays, _shapes(len(genes), sizes, len(names), n_spaces, arrays))
    codes = arrays["cells.labels"]
    if set(codes.tolist()) != set(range(len(names))):
        raise ValueError("each label must be that of a stored cell")
    prep = Preprocessor(n_top_genes=len(genes), target_sum=header["target_sum"])
    prep.restore(
        genes=np.array(genes),
        mean=arrays["genes.mean"],
        std=arrays["genes.std"],
        panel_share=float(header["panel_share"]),
        library_size_stored=bool(header["library_size_stored"]),
        n_features_in=int(header["n_features_in"]),
    )
    parts = ("projection", "cells", "usual")
    spaces = [Space(*(arrays[f"index.{i}.{part}"] for part in parts)) for i in range(n_spaces)]
    index = LabelIndex(
        mean=arrays["genes.mean_of_logs"],
        std=arrays["genes.std_of_logs"],
        spaces=spaces,
        codes=codes,
        names=names,
        threshold=_number(header["threshold"]),
        quantile=_number(header["quantile"]),
    )
    return prep, _model(len(genes), sizes, arrays), index


def _model(n_genes: int, sizes: list[int], arrays: Mapping[str, np.ndarray]) -> ParametricUMAP:
    import torch

    from rpumap.networks import mlp

    encoder = mlp(n_genes, sizes, 2, torch.Generator().manual_seed(0))
    weights = {name: torch.as_tensor(arrays[f"network.{name}"]) for name in encoder.state_dict()}
    encoder.load_state_dict(weights)
    model = ParametricUMAP(hidden_sizes=tuple(sizes))
    model.encoder_, model.embedding_ = encoder, arrays["cells.map"]
    model.n_features_in_ = n_genes
    return model


def _shapes(
    n_genes: int,
    sizes: list[int],
    n_labels: int,
    n_spaces: int,
    arrays: Mapping[str, np.ndarray],
) -> dict[str, tuple[str, tuple[int, ...]]]:
    n_stored = len(arrays["cells.labels"])
    shapes: dict[str, tuple[str, tuple[int, ...]]] = {
        "genes.mean": ("float64", (n_genes,)),
        "genes.std": ("float64", (n_genes,)),
        "genes.mean_of_logs": ("float64", (n_genes,)),
        "genes.std_of_logs": ("float64", (n_genes,)),
        "cells.labels": ("int32", (n_stored,)),
        "cells.map": ("float32", (n_stored, 2)),
    }
    for i in range(n_spaces):
        _, n_components = arrays[f"index.{i}.cells"].shape
        shapes[f"index.{i}.projection"] = ("float32", (n_genes, n_components))
        shapes[f"index.{i}.cells"] = ("float32", (n_stored, n_components))
        shapes[f"index.{i}.usual"] = ("float64", (n_labels,))
    widths = [n_genes, *sizes, 2]
    for i, (n_in, n_out) in enumerate(zip(widths, widths[1:], strict=False)):
        shapes[f"network.{2 * i}.weight"] = ("float32", (n_out, n_in))
        shapes[f"network.{2 * i}.bias"] = ("float32", (n_out,))
    return shapes


def _check_arrays(
    arrays: Mapping[str, np.ndarray], shapes: Mapping[str, tuple[str, tuple[int, ...]]]
) -> None:
    if set(arrays) != set(shapes):
        wrong = sorted(set(arrays) ^ set(shapes))
        raise ValueError(f"arrays are missing or unknown: {some(wrong)}")
    for name, (dtype, shape) in shapes.items():
        array = arrays[name]
        if array.dtype != dtype or array.shape != shape:
            raise ValueError(
                f"{name} must be {dtype} of shape {shape}, not {array.dtype} of {array.shape}"
            )
        if not np.isfinite(array).all():
            raise ValueError(f"{name} must be finite")
        positive = name.endswith((".std", ".std_of_logs", ".usual"))
        if positive and not (array > 0).all():
            raise ValueError(f"{name} must be above 0")


def _texts(texts: Any, name: str) -> list[str]:
    good = isinstance(texts, list) and all(isinstance(text, str) for text in texts)
    if not good or not texts or len(set(texts)) < len(texts):
        raise ValueError(f"{name} must be a list of different texts")
    return texts


def _json_number(number: float) -> float | None:
    return None if math.isinf(number) else float(number)


def _number(number: Any) -> float:
    return math.inf if number is None else check_number("a threshold", number, least=-math.inf)
