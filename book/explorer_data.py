"""Train what the explorer pages show, and write it as scripts: a plain map and its robust versions.

Networks and cells come from the pancreas data set, real where it is there and else simulated. They
lie in ``_build/explorer`` and are trained anew only if the package or the data changed.
"""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from anndata import AnnData

    import rpumap

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "_build" / "explorer"
KEY = FOLDER / "key"
# The default of rpumap.robustify, and weaker and stronger ones; 0 is the plain map.
STRENGTHS = (0.0, 0.03, 0.1, 0.3, 1.0)
CHOSEN = 3
N_CELLS = 800  # that can be chosen


def write() -> Path:
    """Train and write, unless it was done before from the same package and data.

    Returns
    -------
    Path
        The folder, with ``certificate_data.js`` and ``reference.js``.
    """
    import rpumap
    from rpumap.explorer.web_page import reference_script

    adata = rpumap.datasets.pancreas()
    key = _key(adata)
    if KEY.exists() and KEY.read_text() == key:
        return FOLDER
    FOLDER.mkdir(parents=True, exist_ok=True)
    KEY.unlink(missing_ok=True)
    content = base64.b64encode(certificate_data(adata)).decode()
    script = f'globalThis.rpumapCertificate = "{content}";\n'
    (FOLDER / "certificate_data.js").write_text(script)
    ref = rpumap.ReferenceMap().fit(adata, labels="clusters")
    (FOLDER / "reference.js").write_text(reference_script(ref, "The developing mouse pancreas"))
    KEY.write_text(key)
    return FOLDER


def certificate_data(adata: AnnData) -> bytes:
    """Train the models, and write them and some cells in the format of safetensors.

    Parameters
    ----------
    adata : AnnData
        Raw counts, with types in ``obs["clusters"]``.

    Returns
    -------
    bytes
        Z-scores of the cells as float16, with which their coordinates are computed as well.
    """
    from safetensors.numpy import save

    import rpumap

    X = rpumap.Preprocessor(n_top_genes=300).fit_transform(adata)
    plain = rpumap.ParametricUMAP(random_state=0).fit(X)
    models = [rpumap.robustify(plain, X, strength=s) if s else plain for s in STRENGTHS]
    chosen = np.sort(np.random.default_rng(0).permutation(len(X))[:N_CELLS])
    z = X[chosen].astype(np.float16)
    labels = adata.obs["clusters"].cat
    maps = [model.transform(z.astype(np.float32)) for model in models]
    about = {
        "labels": list(labels.categories),
        "strengths": list(STRENGTHS),
        "chosen": CHOSEN,
        "start": _typical(plain, z, maps[0], labels.codes.to_numpy()[chosen]),
        "source": adata.uns["source"],
    }
    arrays = {"cells.z": z, "cells.labels": labels.codes.to_numpy()[chosen].astype(np.int32)}
    for i, model in enumerate(models):
        arrays[f"model.{i}.map"] = maps[i]
        for name, tensor in model.encoder_.state_dict().items():
            arrays[f"model.{i}.{name}"] = tensor.numpy()
    arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    return save(arrays, {"rpumap": json.dumps(about)})


def _typical(model: rpumap.ParametricUMAP, z: np.ndarray, Z: np.ndarray, codes: np.ndarray) -> int:
    """Choose a cell in the middle of the map, with a box of middling size, among its own type."""
    from sklearn.neighbors import KNeighborsClassifier

    import rpumap

    lower, upper = rpumap.certify(model, z.astype(np.float32), 0.2)
    order = np.argsort(np.linalg.norm(upper - lower, axis=1))
    middling = order[2 * len(order) // 5 : 3 * len(order) // 5]
    is_typical = KNeighborsClassifier(15).fit(Z, codes).predict(Z[middling]) == codes[middling]
    candidates = middling[is_typical]
    middle = (Z.min(axis=0) + Z.max(axis=0)) / 2
    return int(candidates[np.linalg.norm(Z[candidates] - middle, axis=1).argmin()])


def _key(adata: Any) -> str:
    """Summarise what the result depends on: this file, the package's code, and the counts."""
    digest = hashlib.sha256()
    explorer = ROOT / "rpumap" / "explorer"
    sources = [path for path in (ROOT / "rpumap").rglob("*.py") if explorer not in path.parents]
    for path in [Path(__file__), explorer / "web_page.py", *sorted(sources)]:
        digest.update(path.read_bytes())
    digest.update(adata.uns["source"].encode())
    digest.update(np.ascontiguousarray(adata.X.data).tobytes())
    return digest.hexdigest()


if __name__ == "__main__":
    print(write())
