"""A reference map: trained once, saved in one file, and used to map the cells of others."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from sklearn.exceptions import NotFittedError

from rpumap._counts import LIBRARY_SIZE, read_counts, refuse_transformed, some, warn
from rpumap._validation import check_choice, check_flag, check_integer, check_labels, check_number
from rpumap.estimator import ParametricUMAP
from rpumap.fine_tuning import resist_dropout, robustify
from rpumap.metrics import trustworthiness
from rpumap.preprocessing import Preprocessor
from rpumap.reference.file import ReferenceFileError, read_file, write_file
from rpumap.reference.genes import Match, rename_genes
from rpumap.reference.label_index import Found, LabelIndex, choose_stored, fit_index
from rpumap.verification.certify import Method, certify
from rpumap.verification.labels import labels_are_certain

if TYPE_CHECKING:
    from anndata import AnnData

HELD_OUT = 0.2  # share of the reference cells, by which everything is calibrated
LEAST_HELD_OUT, LEAST_CELLS = 20, 60
K_MAP = 15  # neighbours that vote on the map
CHUNK = 10_000  # cells that are in memory at once
# Of so many cells so many flagged ones are no longer news of single cells.
LEAST_WARNED, MANY = 10, 0.5
NOT_HERE = "not in the reference"


@dataclass(frozen=True)
class Quality:
    """Scores of the reference cells that were held out of everything.

    Parameters
    ----------
    n_cells : int
        How many.
    trust : float
        Trustworthiness of the map.
    index_accuracy, map_accuracy : float
        Share of cells that get their own label by the index, and by the map.
    coverage : float
        Share of cells whose own label is in their conformal set.
    """

    n_cells: int
    trust: float
    index_accuracy: float
    map_accuracy: float
    coverage: float


class ReferenceMap:
    """A map of labelled reference cells, on which cells of other experiments can be placed.

    Parameters
    ----------
    n_top_genes : int, default 300
        Number of highly variable genes.
    layer : str, optional
        Name of the layer with the raw counts, in the reference and in all queries; by default
        ``X``.
    robust : bool, default True
        Whether the network is trained further, by :func:`rpumap.robustify` and then by
        :func:`rpumap.resist_dropout`.
    max_cells : int, default 20000
        Of a larger reference so many cells are drawn at random, before anything else.
    random_state : int, default 0
        Of the choice of cells and of the training.

    Attributes
    ----------
    preprocessor_ : Preprocessor
        The genes, and what is needed for z-scores.
    model_ : ParametricUMAP
        The network. Its ``embedding_`` holds the stored cells only.
    index_ : LabelIndex
        What gives labels and novelty.
    quality_ : Quality
        Scores of held-out cells.
    about_ : dict
        What the reference was made from.

    Notes
    -----
    A fifth of the reference cells is held out of everything: of the choice of genes, of z-scores,
    of the network and of the index. They calibrate novelty and label sets, and give `quality_`.

    Examples
    --------
    >>> import rpumap
    >>> adata = rpumap.datasets.pancreas(source="simulated")  # doctest: +ELLIPSIS
    >>> ref = rpumap.ReferenceMap(n_top_genes=100).fit(adata[::4], labels="clusters")
    >>> query = ref.map(adata[1::40].copy())
    >>> query.obsm["X_umap"].shape, query.obs["rpumap_label"].dtype.name
    ((93, 2), 'category')
    """

    def __init__(
        self,
        n_top_genes: int = 300,
        *,
        layer: str | None = None,
        robust: bool = True,
        max_cells: int = 20_000,
        random_state: int = 0,
    ) -> None:
        self.n_top_genes = check_integer("n_top_genes", n_top_genes, least=1)
        if layer is not None and not isinstance(layer, str):
            raise ValueError(f"layer must be None or the name of a layer, got {layer!r}")
        self.layer = layer
        self.robust = check_flag("robust", robust)
        self.max_cells = check_integer("max_cells", max_cells, least=LEAST_CELLS)
        self.random_state = check_integer("random_state", random_state, least=0)

    # --- fitting --------------------------------------------------------------------------------

    def fit(self, adata: AnnData, labels: str | Sequence) -> ReferenceMap:
        """Choose genes, train the network, and calibrate what is said of new cells.

        Parameters
        ----------
        adata : AnnData of shape (n_cells, n_genes)
            Raw counts, in memory or backed by a file. It is not changed.
        labels : str or sequence of shape (n_cells,)
            Column of ``obs`` with the cell types, or the types. None may be missing.

        Returns
        -------
        ReferenceMap
            Itself.

        Raises
        ------
        KeyError
            If there is no such column.
        ValueError
            If there are fewer than 60 cells, labels are missing, or counts are bad (see
            :meth:`rpumap.Preprocessor.fit`).
        """
        _check_table(adata)
        names, codes = check_labels(_labels_of(adata, labels), adata.n_obs)
        if adata.n_obs < LEAST_CELLS:
            raise ValueError(
                f"a reference needs {LEAST_CELLS} cells or more, got {adata.n_obs}: a fifth of "
                "them calibrates what is said of new cells"
            )
        rng = np.random.default_rng(self.random_state)
        drawn = np.sort(rng.permutation(adata.n_obs)[: self.max_cells])
        cells = _table(adata, self.layer, drawn)
        codes = codes[drawn]
        n_held = max(LEAST_HELD_OUT, round(HELD_OUT * len(drawn)))
        held = np.sort(rng.permutation(len(drawn))[:n_held])
        is_held = np.isin(np.arange(len(drawn)), held)
        kept = np.unique(codes[~is_held])
        if len(kept) < len(names):
            rare = [str(name) for i, name in enumerate(names) if i not in kept]
            warn(f"labels with too few cells are left out of the reference: {some(rare)}")
            usable = np.isin(codes, kept)
            cells, is_held = cells[usable].copy(), is_held[usable]
            names, codes = np.asarray(names)[kept], np.searchsorted(kept, codes[usable])
        self._fit(cells, is_held, [str(name) for name in names], codes, rng)
        self.about_ = {
            "rpumap": version("rpumap"),
            "n_cells": int(adata.n_obs),
            "n_used": len(codes),
            "n_genes": int(adata.n_vars),
            "source": str(adata.uns.get("source", ""))[:2000],
        }
        return self

    def _fit(
        self,
        cells: AnnData,
        is_held: np.ndarray,
        names: list[str],
        codes: np.ndarray,
        rng: np.random.Generator,
    ) -> None:
        train, held = cells[~is_held].copy(), cells[is_held].copy()
        prep = Preprocessor(n_top_genes=self.n_top_genes)
        X = prep.fit_transform(train)
        model = ParametricUMAP(random_state=self.random_state).fit(X)
        if self.robust:
            model = resist_dropout(robustify(model, X), prep, train)
        stored = choose_stored(codes[~is_held], rng)
        values, held_values = (scaled_counts(prep, part) for part in (train, held))
        self.index_ = fit_index(values, codes[~is_held], names, held_values, codes[is_held], stored)
        model.embedding_ = model.embedding_[stored]
        del model.graph_, model.history_
        self.preprocessor_, self.model_ = prep, model
        self.quality_ = self._measure(held, held_values, codes[is_held])

    def _measure(self, held: AnnData, values: np.ndarray, codes: np.ndarray) -> Quality:
        X = _quietly(self.preprocessor_.transform, held)
        Z = self.model_.transform(X)
        found = self.index_.query(self.index_.coordinates(values))
        own = found.strangeness[np.arange(len(codes)), codes] <= self.index_.quantile
        return Quality(
            n_cells=len(codes),
            trust=float(trustworthiness(X, Z, min(K_MAP, (len(X) - 1) // 2))),
            index_accuracy=float((found.label == codes).mean()),
            map_accuracy=float((self._labels_on_map(Z) == codes).mean()),
            coverage=float(own.mean()),
        )

    # --- mapping --------------------------------------------------------------------------------

    def map(
        self,
        query: AnnData,
        *,
        eps: float = 0.05,
        method: Method | None = "crown",
        gene_names: Sequence[str] | Mapping[str, str] | str | None = None,
        match: Match = "exact",
        correct: bool = False,
    ) -> AnnData:
        """Place cells on the map, and say what they are and whether they belong there.

        Parameters
        ----------
        query : AnnData of shape (n_cells, any number of genes)
            Raw counts, in memory, or backed by a file, of which 10,000 cells are read at a time.
            Results are written into it.
        eps : float, default 0.05
            Radius of the balls that certificates are about, in standard deviations of a gene: the
            largest change of each gene.
        method : {"crown", "crown_ibp", "ibp"} or None
            How bounds are computed, see :func:`rpumap.certify`; None: no certificates.
        gene_names : sequence of str, mapping, or str, optional
            Names of the query's genes as the reference has them: one for each, a table from the
            query's names to the reference's, or a column of ``query.var``. By default
            ``query.var_names``.
        match : {"exact", "version", "case"}
            What may differ: nothing; the version of an Ensembl id, ``ENSG00000141510.17``; upper
            and lower case.
        correct : bool, default False
            Whether means and standard deviations of genes are those of the query. This removes
            differences between studies where both have the same types in similar shares. Where
            they have not, it adds some, and hides new types.

        Returns
        -------
        AnnData
            `query`, with ``obsm["X_umap"]``; in ``obs``: ``"rpumap_label"``; its
            ``"rpumap_confidence"``, the share of the votes; ``"rpumap_novelty"``, above 1 for
            cells unlike those of the reference; ``"rpumap_map_label"``, the label by the
            neighbours on the map; ``"rpumap_radius"``, half the diagonal of the certified box;
            ``"rpumap_verdict"``: ``"certain"``, ``"likely"``, ``"between A and B"`` or ``"not in
            the reference"``. What was done stands in ``uns["rpumap"]``.

        Raises
        ------
        TypeError, ValueError
            If counts are bad, or more than half of the genes are missing: as
            :meth:`rpumap.Preprocessor.transform`. Nothing is written then.

        Warns
        -----
        UserWarning
            As :meth:`rpumap.Preprocessor.transform`; if `correct` is set; if most cells are
            unlike those of the reference; or if ``obsm["X_umap"]`` is there already, which is
            kept as ``obsm["X_umap_before"]``.

        Notes
        -----
        A verdict is *certain* if the label of the index is also that of the map, and provably
        stays so there for all values of the genes in the ball. It is *between A and B* if the
        conformal set holds both (and perhaps more). Labels can be certain and wrong.
        """
        self._check_fitted()
        _check_table(query)
        check_number("eps", eps)
        check_flag("correct", correct)
        if method is not None:
            check_choice("method", method, ("crown", "crown_ibp", "ibp"))
        renamed = rename_genes(query, self.preprocessor_.genes_, gene_names, match)
        try:
            moments = self._own_moments(query, renamed) if correct else None
            columns, said = self._map_chunks(query, renamed, eps, method, moments)
        except ValueError as error:
            if not np.isin(self.preprocessor_.genes_, renamed).any():
                error.add_note(
                    "map(..., match='version' or 'case', gene_names=...) tells which genes of the "
                    "query are those of the reference; nothing is matched by guessing"
                )
            raise
        keeps = "X_umap" in query.obsm and "rpumap" not in query.uns
        if keeps:
            query.obsm["X_umap_before"] = np.array(query.obsm["X_umap"])
        self._write(query, columns)
        flagged = float((columns["rpumap_novelty"] > 1).mean())
        said += self._remarks(query.n_obs, flagged, correct, keeps)
        present = np.isin(self.preprocessor_.genes_, renamed)
        query.uns["rpumap"] = {
            "reference": dict(self.about_),
            "n_genes_found": int(present.sum()),
            "n_genes": len(present),
            "genes_missing": list(self.preprocessor_.genes_[~present]),
            "match": match,
            "eps": float(eps),
            "method": method or "none",
            "corrected": correct,
            "share_not_in_reference": flagged,
            "share_map_and_index_disagree": float(
                (columns["rpumap_label"] != columns["rpumap_map_label"]).mean()
            ),
            "remarks": said,
        }
        for remark in said:
            warn(remark)
        return query

    def _map_chunks(
        self,
        query: AnnData,
        renamed: np.ndarray,
        eps: float,
        method: Method | None,
        moments: _Moments | None,
    ) -> tuple[dict[str, np.ndarray], list[str]]:
        parts, said = [], []
        for start in range(0, max(query.n_obs, 1), CHUNK):
            rows = np.arange(start, min(start + CHUNK, query.n_obs))
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                table = _table(query, self.layer, rows, renamed)
                parts.append(self._map_table(table, eps, method, moments))
            said += [str(warning.message) for warning in caught]
        columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        return columns, list(dict.fromkeys(said))

    def _map_table(
        self, table: AnnData, eps: float, method: Method | None, moments: _Moments | None
    ) -> dict[str, np.ndarray]:
        X = self.preprocessor_.transform(table)
        values = scaled_counts(self.preprocessor_, table)
        coordinates = self.index_.coordinates(values)
        if moments is not None:
            X = moments.z_scores(values)
            coordinates = self.index_.project(moments.z_of_logs(values))
        Z, found = self.model_.transform(X), self.index_.query(coordinates)
        on_map, names = self._labels_on_map(Z), np.asarray(self.index_.names, dtype=object)
        certain = np.zeros(len(X), dtype=bool)
        columns = {
            "X_umap": Z,
            "rpumap_label": names[found.label],
            "rpumap_confidence": found.confidence,
            "rpumap_novelty": found.novelty,
            "rpumap_map_label": names[on_map],
        }
        if method is not None:
            lower, upper = certify(self.model_, X, eps, method=method)
            columns["rpumap_radius"] = np.linalg.norm(upper - lower, axis=1) / 2
            certain = self._certain(lower, upper) & (on_map == found.label)
        columns["rpumap_verdict"] = self._verdicts(found, certain)
        return columns

    def _labels_on_map(self, Z: np.ndarray) -> np.ndarray:
        """Return the commonest label of the 15 nearest stored cells on the map."""
        from scipy.spatial import KDTree

        k = min(K_MAP, len(self.model_.embedding_) - 1)
        _, near = KDTree(self.model_.embedding_).query(Z, k)
        one_hot = np.eye(len(self.index_.names))[self.index_.codes]
        return one_hot[near.reshape(len(Z), k)].sum(axis=1).argmax(axis=1)

    def _certain(self, lower: np.ndarray, upper: np.ndarray) -> np.ndarray:
        Z, codes = self.model_.embedding_, self.index_.codes
        return labels_are_certain(lower, upper, Z, codes, min(K_MAP, len(Z) - 1))

    def _verdicts(self, found: Found, certain: np.ndarray) -> np.ndarray:
        verdicts = np.where(certain, "certain", "likely").astype(object)
        names = self.index_.names
        several = (found.strangeness <= self.index_.quantile).sum(axis=1) > 1
        for cell in np.flatnonzero(several):
            a, b = sorted(np.argsort(found.strangeness[cell])[:2])
            verdicts[cell] = f"between {names[a]} and {names[b]}"
        verdicts[found.novelty > 1] = NOT_HERE
        return verdicts

    def _own_moments(self, query: AnnData, renamed: np.ndarray) -> _Moments:
        rows = np.sort(np.random.default_rng(0).permutation(query.n_obs)[:CHUNK])
        if len(rows) < LEAST_CELLS:
            raise ValueError(
                f"correct=True needs {LEAST_CELLS} cells or more to know their means, got "
                f"{len(rows)}"
            )
        values = scaled_counts(self.preprocessor_, _table(query, self.layer, rows, renamed))
        logs = np.log1p(values)
        parts = [
            np.nan_to_num(moment, nan=fill)
            for table in (values, logs)
            for moment, fill in ((table.mean(axis=0), 0.0), (table.std(axis=0, ddof=1), 1.0))
        ]
        parts[1::2] = [np.where(std > 1e-6, std, 1.0) for std in parts[1::2]]
        return _Moments(*parts)

    def _write(self, query: AnnData, columns: Mapping[str, np.ndarray]) -> None:
        query.obsm["X_umap"] = columns["X_umap"]
        if "rpumap_radius" in query.obs and "rpumap_radius" not in columns:
            del query.obs["rpumap_radius"]  # of an earlier call
        for name, values in columns.items():
            if name in ("rpumap_label", "rpumap_map_label"):
                query.obs[name] = pd.Categorical(values, categories=list(self.index_.names))
            elif name == "rpumap_verdict":
                query.obs[name] = pd.Categorical(values)
            elif name != "X_umap":
                query.obs[name] = values

    def _remarks(self, n_cells: int, flagged: float, correct: bool, keeps: bool) -> list[str]:
        remarks = []
        if keeps:
            remarks.append(
                "obsm['X_umap'] was there already: the old coordinates are in obsm['X_umap_before']"
            )
        if correct:
            remarks.append(
                "means and standard deviations of genes are those of the query: this assumes that "
                "it has the types of the reference in similar shares, and can hide new types"
            )
        if math.isinf(self.index_.threshold):
            remarks.append(
                "the reference has too few cells to calibrate novelty: no cell is called "
                f"{NOT_HERE!r}"
            )
        elif flagged > MANY and n_cells >= LEAST_WARNED:
            remarks.append(
                f"{flagged:.0%} of the cells are unlike those of the reference: if you expect its "
                "types, the counts may come from another technology or may not be raw, or genes "
                "may be named differently; single verdicts then mean little"
            )
        return remarks

    def _check_fitted(self) -> None:
        if not hasattr(self, "about_"):
            raise NotFittedError("this ReferenceMap holds no map yet: call fit, or load a file")

    # --- the file -------------------------------------------------------------------------------

    def save(self, path: str | os.PathLike) -> None:
        """Write the reference map into one file, of less than 1 MB for 300 genes.

        Parameters
        ----------
        path : path-like
            Where, such as ``"pancreas.rpumap"``. A file that is there is replaced in one step: at
            any instant the old one or the new one is there, whole.

        Raises
        ------
        OSError
            If it cannot be written.
        """
        self._check_fitted()
        header, arrays = to_parts(self)
        write_file(path, header, arrays)

    @classmethod
    def load(cls, path: str | os.PathLike) -> ReferenceMap:
        """Read a reference map.

        Parameters
        ----------
        path : path-like
            What `save` wrote, here or elsewhere. Nothing in it can run code.

        Returns
        -------
        ReferenceMap
            It maps cells to the same bits as the one that was saved, on the same processor.

        Raises
        ------
        FileNotFoundError, PermissionError
            If there is no file that can be read.
        ReferenceFileError
            If it is no reference map, is damaged, or of a newer version.
        """
        header, arrays = read_file(path)
        try:
            return from_parts(header, arrays)
        except (KeyError, ValueError, TypeError, AttributeError, OverflowError) as error:
            raise ReferenceFileError(
                f"{path} holds no valid reference map ({type(error).__name__}: {error})"
            ) from None

    def card(self) -> str:
        """Describe the reference: what it is, from which cells, how good, and its limits.

        Returns
        -------
        str
            In Markdown.
        """
        self._check_fitted()
        about, quality, index = self.about_, self.quality_, self.index_
        names = ", ".join(map(str, index.names))
        trained = "then trained to resist noise and lost counts" if self.robust else "not more"
        return f"""# Reference map

- **Made by** rpumap {about["rpumap"]}, from {about["n_used"]:,} of {about["n_cells"]:,} cells.
- **Source**: {about["source"] or "not stated"}
- **Genes**: {len(self.preprocessor_.genes_)} highly variable ones of {about["n_genes"]:,}.
- **Labels** ({len(index.names)}): {names}.
- **Network**: trained with the UMAP loss, {trained}.
- **Kept in the file**: the network, and {len(index.cells):,} cells as {index.cells.shape[1]}
  components and 2 coordinates each; no counts.

## How good, by {quality.n_cells:,} cells that were held out of everything

- Own label by the index: {quality.index_accuracy:.1%}; by neighbours on the map:
  {quality.map_accuracy:.1%}.
- Trustworthiness of the map: {quality.trust:.3f}.
- The label sets are calibrated to hold the own label of 90 % of such cells, and the novelty to
  exceed 1 for 5 % of them.

## Limits

- These rates are those of new cells of the same experiment. Cells of another study differ, and
  more of them will be called new.
- A type that lies among the types of the reference in these genes is not recognised as new.
- A certificate says that small changes of the values cannot change a label, not that it is right.
"""


@dataclass(frozen=True)
class _Moments:
    """Means and standard deviations of the query's own genes, scaled and as logarithms."""

    mean: np.ndarray
    std: np.ndarray
    mean_of_logs: np.ndarray
    std_of_logs: np.ndarray

    def z_scores(self, values: np.ndarray) -> np.ndarray:
        return np.nan_to_num((values - self.mean) / self.std).astype(np.float32)

    def z_of_logs(self, values: np.ndarray) -> np.ndarray:
        return np.nan_to_num((np.log1p(values) - self.mean_of_logs) / self.std_of_logs)


def scaled_counts(prep: Preprocessor, adata: AnnData) -> np.ndarray:
    """Return counts of the chosen genes, scaled to the target sum; NaN for genes that are missing.

    Parameters
    ----------
    prep : Preprocessor
        Fitted.
    adata : AnnData of shape (n_cells, any number of genes)
        Raw counts in ``X``.

    Returns
    -------
    ndarray of shape (n_cells, n_top_genes), float64
    """
    counts = read_counts(adata, prep.layer)
    panel, present = counts.of(prep.genes_)
    size = np.maximum(counts.library_size, 1e-12)[:, None]
    return np.where(present, prep.target_sum * panel / size, np.nan)


# --- to a file and back -------------------------------------------------------------------------


def to_parts(ref: ReferenceMap) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Take a reference map apart, into what JSON can hold and arrays: the schema of version 1.

    Returns
    -------
    header : dict
        ``parameters`` of the constructor; ``genes``, ``target_sum``, ``panel_share``,
        ``library_size_stored`` and ``n_features_in`` of the Preprocessor; ``hidden_sizes``;
        ``labels``; ``threshold`` of novelty and ``quantile`` of the label sets, null if infinite;
        ``quality`` and ``about``.
    arrays : dict of ndarray
        ``genes.mean``, ``.std``, ``.mean_of_logs``, ``.std_of_logs``: float64, (n_genes,).
        ``index.projection``: float32, (n_genes, n_components). ``index.usual``: float64,
        (n_labels,). ``cells.components``, ``cells.map``, ``cells.labels`` of the stored cells:
        float32, (n_stored, n_components) and (n_stored, 2), and int32, (n_stored,).
        ``network.0.weight``, ``network.0.bias``, ``network.2.weight``, ...: float32.
    """
    prep, model, index = ref.preprocessor_, ref.model_, ref.index_
    header = {
        "parameters": {
            "n_top_genes": ref.n_top_genes,
            "layer": ref.layer,
            "robust": ref.robust,
            "max_cells": ref.max_cells,
            "random_state": ref.random_state,
        },
        "genes": prep.genes_.tolist(),
        "target_sum": float(prep.target_sum),
        "panel_share": prep.panel_share_,
        "library_size_stored": bool(prep.library_size_stored_),
        "n_features_in": int(prep.n_features_in_),
        "hidden_sizes": list(map(int, model.hidden_sizes)),
        "labels": list(index.names),
        "threshold": _json_number(index.threshold),
        "quantile": _json_number(index.quantile),
        "quality": vars(ref.quality_),
        "about": ref.about_,
    }
    arrays = {
        "genes.mean": prep.mean_,
        "genes.std": prep.std_,
        "genes.mean_of_logs": index.mean,
        "genes.std_of_logs": index.std,
        "index.projection": index.projection,
        "index.usual": index.usual,
        "cells.components": index.cells,
        "cells.labels": index.codes,
        "cells.map": model.embedding_,
    }
    for name, tensor in model.encoder_.state_dict().items():
        arrays[f"network.{name}"] = tensor.numpy()
    return header, arrays


def from_parts(header: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> ReferenceMap:
    """Build a reference map from what :func:`to_parts` gives, and check that all fits together.

    Raises
    ------
    KeyError, ValueError, TypeError
        If something is missing, unknown, not finite, or of another type or shape.
    """
    import torch

    from rpumap.networks import mlp

    ref = ReferenceMap(**header["parameters"])
    names, genes = _texts(header["labels"], "labels"), _texts(header["genes"], "genes")
    sizes = [
        check_integer("hidden_sizes", size, least=1, most=4096) for size in header["hidden_sizes"]
    ]
    shapes = _shapes(len(genes), sizes, len(names), arrays)
    _check_arrays(arrays, shapes)
    prep = Preprocessor(n_top_genes=len(genes), target_sum=header["target_sum"])
    prep.restore(
        genes=np.array(genes),
        mean=arrays["genes.mean"],
        std=arrays["genes.std"],
        panel_share=float(header["panel_share"]),
        library_size_stored=bool(header["library_size_stored"]),
        n_features_in=int(header["n_features_in"]),
    )
    model = ParametricUMAP(hidden_sizes=tuple(sizes), random_state=ref.random_state)
    encoder = mlp(len(genes), sizes, 2, torch.Generator().manual_seed(0))
    weights = {name: torch.as_tensor(arrays[f"network.{name}"]) for name in encoder.state_dict()}
    encoder.load_state_dict(weights)
    model.encoder_, model.embedding_ = encoder, arrays["cells.map"]
    model.n_features_in_ = len(genes)
    codes = arrays["cells.labels"]
    if set(codes.tolist()) != set(range(len(names))):
        raise ValueError("each label must be that of a stored cell")
    ref.index_ = LabelIndex(
        mean=arrays["genes.mean_of_logs"],
        std=arrays["genes.std_of_logs"],
        projection=arrays["index.projection"],
        cells=arrays["cells.components"],
        codes=codes,
        names=names,
        usual=arrays["index.usual"],
        threshold=_number(header["threshold"]),
        quantile=_number(header["quantile"]),
    )
    ref.preprocessor_, ref.model_ = prep, model
    ref.quality_ = Quality(**header["quality"])
    ref.about_ = dict(header["about"])
    ref.card()  # which fails if something in these two is missing, or no number
    return ref


def _shapes(
    n_genes: int, sizes: list[int], n_labels: int, arrays: Mapping[str, np.ndarray]
) -> dict[str, tuple[str, tuple[int, ...]]]:
    n_stored, n_components = arrays["cells.components"].shape
    shapes: dict[str, tuple[str, tuple[int, ...]]] = {
        "genes.mean": ("float64", (n_genes,)),
        "genes.std": ("float64", (n_genes,)),
        "genes.mean_of_logs": ("float64", (n_genes,)),
        "genes.std_of_logs": ("float64", (n_genes,)),
        "index.projection": ("float32", (n_genes, n_components)),
        "index.usual": ("float64", (n_labels,)),
        "cells.components": ("float32", (n_stored, n_components)),
        "cells.labels": ("int32", (n_stored,)),
        "cells.map": ("float32", (n_stored, 2)),
    }
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


# --- tables -------------------------------------------------------------------------------------


def _check_table(adata: Any) -> None:
    from anndata import AnnData as Table

    if not isinstance(adata, Table):
        read_counts(adata)  # which says what is needed


def _labels_of(adata: AnnData, labels: str | Sequence) -> Any:
    if not isinstance(labels, str):
        return labels
    if labels not in adata.obs:
        raise KeyError(
            f"there is no column {labels!r} in obs, which has {some(list(adata.obs.columns))}"
        )
    return adata.obs[labels]


def _table(
    adata: AnnData, layer: str | None, rows: np.ndarray, names: np.ndarray | None = None
) -> AnnData:
    """Return the counts of some cells in memory, with library sizes and gene names."""
    from anndata import AnnData as Table

    whole = len(rows) == adata.n_obs
    part = adata if whole and not adata.isbacked else adata[rows]
    part = part.to_memory() if adata.isbacked else part
    counts = read_counts(part, layer)
    refuse_transformed(part, counts)
    obs = part.obs[[name for name in (LIBRARY_SIZE,) if name in part.obs]].copy()
    var = part.var.copy()
    if names is not None:
        var.index = pd.Index(names)
    return Table(counts.values, obs=obs, var=var)


def _quietly(function: Any, *args: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return function(*args)
