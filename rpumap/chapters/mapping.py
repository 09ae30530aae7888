"""How well cells of another study are mapped, and cells of a missing type recognised as new."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse import csr_matrix
from sklearn.metrics import roc_auc_score

from rpumap.preprocessing import Preprocessor, library_size
from rpumap.reference.label_index import choose_stored, fit_index
from rpumap.reference.reference_map import HELD_OUT, NOT_HERE, ReferenceMap

if TYPE_CHECKING:
    from anndata import AnnData

UNSEEN = 0.25  # share of the known cells that are mapped beside those of the missing type


def between_studies(reference: AnnData, query: AnnData, column: str, seed: int) -> dict[str, float]:
    """Map the cells of another study, on a plain and on a robust map.

    Parameters
    ----------
    reference, query : AnnData
        Raw counts; the types have the same names in both.
    column : str
        Of ``obs``, with the types. Cells without one are left out.
    seed : int
        Of the reference map.

    Returns
    -------
    dict of float
        ``"index"``, ``"map, plain"``, ``"map, robust"``: shares of query cells that get their own
        type; ``"index, corrected"`` and so on: the same with ``correct=True``. ``"flagged"`` and
        ``"flagged, corrected"``: share that is called new. ``"certain"`` and ``"certain and
        right"``: share whose label is certain on the robust map, and how many of these are right.
        ``"coverage"``: share whose own type is in the conformal set of the index.
    """
    reference, query = (part[part.obs[column].notna()].copy() for part in (reference, query))
    truth = query.obs[column].astype(str).to_numpy()
    found: dict[str, float] = {}
    for name, robust in (("plain", False), ("robust", True)):
        ref = ReferenceMap(robust=robust, random_state=seed).fit(reference, column)
        for how, correct in ((", corrected", True), ("", False)):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # studies differ; that is measured
                obs = ref.map(query, correct=correct, method=None if correct else "crown").obs
            right = obs["rpumap_label"].astype(str).to_numpy() == truth
            on_map = obs["rpumap_map_label"].astype(str).to_numpy() == truth
            found[f"map, {name}{how}"] = float(on_map.mean())
            found[f"index{how}"] = float(right.mean())
            found[f"flagged{how}"] = float((obs["rpumap_verdict"] == NOT_HERE).mean())
    certain = (obs["rpumap_verdict"] == "certain").to_numpy()
    found |= {
        "coverage": _coverage(ref, query, truth),
        "certain": float(certain.mean()),
        "certain and right": float(right[certain].mean()) if certain.any() else 1.0,
    }
    return found


def _coverage(ref: ReferenceMap, query: AnnData, truth: np.ndarray) -> float:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # as above
        values = ref.preprocessor_.scale(query)
    found, names = ref.index_.query(ref.index_.coordinates(values)), np.asarray(ref.index_.names)
    in_set = found.strangeness <= ref.index_.quantile
    return float((in_set & (names == truth[:, None])).any(axis=1).mean())


def with_gene_factors(adata: AnnData, log_sd: float, seed: int) -> AnnData:
    """Return cells as another chemistry may count them: a factor for each gene.

    Parameters
    ----------
    adata : AnnData
        Raw counts.
    log_sd : float
        Standard deviation of the logarithms of the factors.
    seed : int
        Of the factors, and of rounding up or down at random.

    Returns
    -------
    AnnData
        With ``obs["library_size"]``, in which the counts of genes outside the table stay.

    Examples
    --------
    >>> import rpumap
    >>> from rpumap.chapters.mapping import with_gene_factors
    >>> adata = rpumap.datasets.pancreas(source="simulated")[:50]
    >>> bool(abs(with_gene_factors(adata, 0.0, 0).X - adata.X).max() < 1)
    True
    """
    draw, altered = np.random.default_rng(seed), adata.copy()
    altered.X = csr_matrix(altered.X, dtype=np.float64)
    outside = np.maximum(library_size(adata) - np.ravel(altered.X.sum(axis=1)), 0)
    factors = np.exp(draw.normal(0, log_sd, adata.n_vars))
    values = altered.X.data * factors[altered.X.indices]
    altered.X.data = np.floor(values + draw.random(len(values))).astype(np.float32)
    altered.X.eliminate_zeros()
    altered.obs["library_size"] = outside + np.ravel(altered.X.sum(axis=1))
    return altered


def missing_type(
    reference: AnnData, column: str, missing: str, seed: int, query: AnnData | None = None
) -> dict[str, float]:
    """Leave a type out of the reference, and see whether its cells are called new.

    Parameters
    ----------
    reference : AnnData
        Raw counts.
    column : str
        Of ``obs``, with the types.
    missing : str
        The type.
    seed : int
        Of the cells that are held out.
    query : AnnData, optional
        Cells of another study. By default a quarter of the known cells of the reference, and all
        cells of the type.

    Returns
    -------
    dict of float
        ``"auroc"`` of novelty; ``"sensitivity"``, the share of the cells of the type that are
        called new, and ``"false alarms"``, that of other cells.
    """
    types = reference.obs[column].astype(str).to_numpy()
    known, rng = types != missing, np.random.default_rng(seed)
    asked = ~known
    if query is None:
        asked |= rng.random(len(types)) < UNSEEN
        query = reference[asked].copy()
    fitted = np.flatnonzero(known & ~asked)
    held = rng.permutation(fitted)[: round(HELD_OUT * len(fitted))]
    train = np.setdiff1d(fitted, held)
    prep = Preprocessor().fit(reference[train].copy())
    names, codes = np.unique(types[fitted], return_inverse=True)
    code_of = np.full(len(types), -1)
    code_of[fitted] = codes
    values, held_values = (prep.scale(reference[part]) for part in (train, held))
    stored = choose_stored(code_of[train], rng)
    index = fit_index(values, code_of[train], list(names), held_values, code_of[held], stored)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of another study
        novelty = index.query(index.coordinates(prep.scale(query))).novelty
    is_new = (query.obs[column].astype(str) == missing).to_numpy()
    return {
        "auroc": float(roc_auc_score(is_new, novelty)),
        "sensitivity": float((novelty[is_new] > 1).mean()),
        "false alarms": float((novelty[~is_new] > 1).mean()),
    }
