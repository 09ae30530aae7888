"""A reference map: trained once, saved in one file, and used to map the cells of others."""

from __future__ import annotations

import copy
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix
from sklearn.exceptions import NotFittedError

from rpumap._counts import in_memory, listen, some, warn
from rpumap._validation import check_choice, check_flag, check_integer, check_labels, check_number
from rpumap.estimator import ParametricUMAP
from rpumap.fine_tuning import resist_dropout, robustify
from rpumap.metrics import trustworthiness
from rpumap.preprocessing import Preprocessor, moments
from rpumap.reference.cell_mapper import (
    K_MAP,
    NOT_HERE,
    CellBoxes,
    CellMapper,
    labels_on_map,
    verdict_names,
)
from rpumap.reference.file import ReferenceFileError, read_file, write_file
from rpumap.reference.genes import Match, rename_genes
from rpumap.reference.label_index import LabelIndex, choose_stored, fit_index
from rpumap.reference.schema import from_parts, to_parts
from rpumap.reference.tables import CHUNK, Array, check_table, counts_of, for_each_cell, labels_of
from rpumap.verification.certify import METHODS, Method

if TYPE_CHECKING:
    from anndata import AnnData

HELD_OUT = 0.2  # share of the reference cells, by which everything is calibrated
LEAST_HELD_OUT, LEAST_CELLS = 20, 60
# Nobody has seen the plain map, so that the robust one may differ more from it than by default; and
# cells of another study may be much shallower. Chosen by how well such cells are mapped.
KEEP, MOST_LOST = 3.0, 0.95
# Of so many cells so many flagged ones are no longer news of single cells.
LEAST_WARNED, MANY = 10, 0.5
PARAMETERS = ("n_top_genes", "layer", "robust", "max_cells", "random_state")


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
        Share of cells whose own label is in their conformal set: 90 % or a little more, since it is
        by these cells that the sets are calibrated.
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

    def fit(
        self, adata: AnnData, labels: str | Sequence, *, graph: str | None = None
    ) -> ReferenceMap:
        """Choose genes, train the network, and calibrate what is said of new cells.

        Parameters
        ----------
        adata : AnnData of shape (n_cells, n_genes)
            Raw counts, in memory, backed by a file, or lazy. It is not changed.
        labels : str or sequence of shape (n_cells,)
            Column of ``obs`` with the cell types, or the types. None may be missing.
        graph : str, optional
            Name of a fuzzy graph in ``obsp``, such as ``"connectivities"`` of
            ``scanpy.pp.neighbors``: its neighbourhoods, perhaps of corrected batches, are those
            that the map is to keep. By default they are computed from the z-scores.

        Returns
        -------
        ReferenceMap
            Itself.

        Raises
        ------
        KeyError
            If there is no such column, or no such graph.
        ValueError
            If there are fewer than 60 cells, labels are missing, or counts are bad (see
            :meth:`rpumap.Preprocessor.fit`).
        """
        check_table(adata)
        names, codes = check_labels(labels_of(adata, labels), adata.n_obs)
        if adata.n_obs < LEAST_CELLS:
            raise ValueError(
                f"a reference needs {LEAST_CELLS} cells or more, got {adata.n_obs}: a fifth of "
                "them calibrates what is said of new cells"
            )
        if graph is not None and graph not in adata.obsp:
            raise KeyError(
                f"there is no graph {graph!r} in obsp, which has {some(list(adata.obsp)) or 'none'}"
            )
        rng = np.random.default_rng(self.random_state)
        drawn = np.sort(rng.permutation(adata.n_obs)[: self.max_cells])
        cells = counts_of(adata, self.layer, drawn)
        codes = codes[drawn]
        n_held = max(LEAST_HELD_OUT, round(HELD_OUT * len(drawn)))
        held = np.sort(rng.permutation(len(drawn))[:n_held])
        is_held = np.isin(np.arange(len(drawn)), held)
        kept = np.unique(codes[~is_held])
        if len(kept) < len(names):
            rare = [str(name) for i, name in enumerate(names) if i not in kept]
            warn(f"labels with too few cells are left out of the reference: {some(rare)}")
            usable = np.isin(codes, kept)
            cells, is_held, drawn = cells[usable].copy(), is_held[usable], drawn[usable]
            names, codes = np.asarray(names)[kept], np.searchsorted(kept, codes[usable])
        known = None if graph is None else _among(adata.obsp[graph], drawn[~is_held])
        self._fit(cells, is_held, [str(name) for name in names], codes, rng, known)
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
        graph: csr_matrix | None,
    ) -> None:
        train, held = cells[~is_held].copy(), cells[is_held].copy()
        prep = Preprocessor(n_top_genes=self.n_top_genes)
        X = prep.fit_transform(train)
        model = ParametricUMAP(random_state=self.random_state).fit(X, graph=graph)
        if self.robust:
            model = robustify(model, X, reconstruction=KEEP)
            model = resist_dropout(model, prep, train, MOST_LOST, reconstruction=KEEP)
        stored = choose_stored(codes[~is_held], rng)
        with listen():  # the fit has said it
            values, held_values = prep.scale(train), prep.scale(held)
        self.index_ = fit_index(values, codes[~is_held], names, held_values, codes[is_held], stored)
        model.embedding_ = model.embedding_[stored]
        del model.graph_, model.history_
        self.preprocessor_, self.model_ = prep, model
        self.quality_ = self._measure(held_values, codes[is_held])

    def _measure(self, values: np.ndarray, codes: np.ndarray) -> Quality:
        X = self.preprocessor_.standardize(values)
        Z = self.model_.transform(X)
        found = self.index_.query(self.index_.coordinates(values))
        own = found.strangeness[np.arange(len(codes)), codes] <= self.index_.quantile
        return Quality(
            n_cells=len(codes),
            trust=float(trustworthiness(X, Z, min(K_MAP, (len(X) - 1) // 2))),
            index_accuracy=float((found.label == codes).mean()),
            map_accuracy=float((labels_on_map(self.model_, self.index_, Z) == codes).mean()),
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
        compute: bool = False,
    ) -> AnnData:
        """Place cells on the map, and say what they are and whether they belong there.

        Parameters
        ----------
        query : AnnData of shape (n_cells, any number of genes)
            Raw counts, in memory, backed by a file, of which 10,000 cells are read at a time, or
            lazy, with counts that are a dask array. Results are written into it.
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
        compute : bool, default False
            Whether results of a lazy query are computed at once, in one pass over its counts.

        Returns
        -------
        AnnData
            `query`, with ``obsm["X_umap"]``; in ``obs``: ``"rpumap_label"``; its
            ``"rpumap_confidence"``, the share of the votes; ``"rpumap_novelty"``, above 1 for
            cells unlike those of the reference; ``"rpumap_map_label"``, the label by the
            neighbours on the map; ``"rpumap_radius"``, half the diagonal of the certified box;
            ``"rpumap_verdict"``: ``"certain"``, ``"likely"``, ``"between A and B"`` or ``"not in
            the reference"``. What was done stands in ``uns["rpumap"]``. In a table that was opened
            by ``anndata.experimental.read_lazy`` these are dask arrays, computed when asked for,
            unless `compute` is set.

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

        Of a lazy query 1,000 cells at the beginning, in the middle and at the end are mapped at
        once, so that warnings and most errors come before the work. Bad counts of other cells
        raise an error when results are asked for. ``dask.compute`` of several results reads the
        counts once; ``to_memory`` of a table reads them once for each result.
        """
        check_flag("correct", correct)
        check_flag("compute", compute)
        names = self._check_query(query, eps, method, gene_names, match)
        with listen() as said:
            prep, index = self.preprocessor_, self.index_
            if correct:
                prep, index = self._corrected(query, names)
            mapper = CellMapper(prep, self.model_, index, float(eps), method)
            records = self._for_each_cell(query, names, mapper)
        # obs in memory cannot hold what is yet to be computed
        if not isinstance(records, np.ndarray) and (compute or isinstance(query.obs, pd.DataFrame)):
            records = records.compute()
        is_lazy = not isinstance(records, np.ndarray)
        keeps = "X_umap" in query.obsm and "rpumap" not in query.uns
        if keeps:
            query.obsm["X_umap_before"] = copy.copy(query.obsm["X_umap"])
        self._write(query, records, certified=method is not None)
        about = self._about(query, names) | {
            "match": match,
            "eps": float(eps),
            "method": method or "none",
            "corrected": correct,
        }
        flagged = math.nan if is_lazy else float((records["novelty"] > 1).mean())
        if not is_lazy:
            about["share_not_in_reference"] = flagged
            about["share_map_and_index_disagree"] = float(
                (records["label"] != records["map_label"]).mean()
            )
        said += self._remarks(query.n_obs, flagged, correct, keeps)
        query.uns["rpumap"] = about | {"remarks": said}
        for remark in said:
            warn(remark)
        return query

    def certify(
        self,
        query: AnnData,
        eps: float,
        norm: str = "linf",
        method: Method = "crown",
        *,
        gene_names: Sequence[str] | Mapping[str, str] | str | None = None,
        match: Match = "exact",
    ) -> tuple[Array, Array]:
        """Bound the coordinates that cells can take when the values of their genes change a little.

        Parameters
        ----------
        query : AnnData of shape (n_cells, any number of genes)
            As in `map`. It is not changed.
        eps, norm, method
            As in :func:`rpumap.certify`.
        gene_names, match
            As in `map`.

        Returns
        -------
        lower, upper : ndarray, or dask array of a lazy query, of shape (n_cells, 2), float32
            No cell of the ball gets coordinates below `lower` or above `upper`.

        Raises
        ------
        TypeError, ValueError
            As `map`, and as :func:`rpumap.certify`.

        Warns
        -----
        UserWarning
            As :meth:`rpumap.Preprocessor.transform`.
        """
        check_choice("method", method, METHODS)  # None is none here
        names = self._check_query(query, eps, method, gene_names, match)
        boxes = CellBoxes(self.preprocessor_, self.model_, float(eps), norm, method)
        with listen() as said:
            records = self._for_each_cell(query, names, boxes)
        for remark in said:
            warn(remark)
        return records["lower"], records["upper"]

    def _check_query(
        self,
        query: AnnData,
        eps: float,
        method: Method | None,
        gene_names: Sequence[str] | Mapping[str, str] | str | None,
        match: Match,
    ) -> np.ndarray:
        """Check what is asked for, and return the names of the query's genes."""
        self._check_fitted()
        check_table(query)
        check_number("eps", eps)
        if method is not None:
            check_choice("method", method, METHODS)
        return rename_genes(query, self.preprocessor_.genes_, gene_names, match)

    def _for_each_cell(
        self, query: AnnData, names: np.ndarray, function: CellMapper | CellBoxes
    ) -> Array:
        try:
            return for_each_cell(query, self.layer, names, function)
        except ValueError as error:
            if not np.isin(self.preprocessor_.genes_, names).any():
                error.add_note(
                    "match='version' or 'case' and gene_names=... tell which genes of the query "
                    "are those of the reference; nothing is matched by guessing"
                )
            raise

    def _corrected(self, query: AnnData, names: np.ndarray) -> tuple[Preprocessor, LabelIndex]:
        """Return preprocessor and index with the moments of the query's own genes."""
        rows = np.sort(np.random.default_rng(0).permutation(query.n_obs)[:CHUNK])
        if len(rows) < LEAST_CELLS:
            raise ValueError(
                f"correct=True needs {LEAST_CELLS} cells or more to know their means, got "
                f"{len(rows)}"
            )
        cells = counts_of(query, self.layer, rows, names)
        values, prep = self.preprocessor_.scale(cells), copy.copy(self.preprocessor_)
        prep.mean_, prep.std_ = moments(values)
        mean, std = moments(np.log1p(values))
        return prep, replace(self.index_, mean=mean, std=std)

    def _write(self, query: AnnData, records: Array, *, certified: bool) -> None:
        labels = list(self.index_.names)
        query.obsm["X_umap"] = records["coordinates"]
        query.obs["rpumap_label"] = _in_words(records["label"], labels)
        query.obs["rpumap_confidence"] = records["confidence"]
        query.obs["rpumap_novelty"] = records["novelty"]
        query.obs["rpumap_map_label"] = _in_words(records["map_label"], labels)
        if certified:
            query.obs["rpumap_radius"] = records["radius"]
        elif "rpumap_radius" in query.obs:
            # of an earlier call; what is lazy knows no del
            kept = [name for name in query.obs.columns if name != "rpumap_radius"]
            query.obs = query.obs[kept]
        query.obs["rpumap_verdict"] = _verdicts_in_words(records["verdict"], labels)

    def _about(self, query: AnnData, names: np.ndarray) -> dict[str, Any]:
        present = np.isin(self.preprocessor_.genes_, names)
        return {
            "reference": dict(self.about_),
            "n_genes_found": int(present.sum()),
            "n_genes": len(present),
            "genes_missing": list(self.preprocessor_.genes_[~present]),
        }

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
        header, arrays = to_parts(self.preprocessor_, self.model_, self.index_)
        header |= {
            "parameters": {name: getattr(self, name) for name in PARAMETERS},
            "quality": vars(self.quality_),
            "about": self.about_,
        }
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
            ref = cls(**header["parameters"])
            ref.preprocessor_, ref.model_, ref.index_ = from_parts(header, arrays)
            ref.model_.random_state = ref.random_state
            ref.quality_, ref.about_ = Quality(**header["quality"]), dict(header["about"])
            ref.card()  # which fails if something in these two is missing, or no number
            return ref
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
        n_numbers = " and ".join(str(space.cells.shape[1]) for space in index.spaces)
        trained = "then trained to resist noise and lost counts" if self.robust else "not more"
        return f"""# Reference map

- **Made by** rpumap {about["rpumap"]}, from {about["n_used"]:,} of {about["n_cells"]:,} cells.
- **Source**: {about["source"] or "not stated"}
- **Genes**: {len(self.preprocessor_.genes_)} highly variable ones of {about["n_genes"]:,}.
- **Labels** ({len(index.names)}): {names}.
- **Network**: trained with the UMAP loss, {trained}.
- **Kept in the file**: the network, and {len(index.codes):,} cells as {n_numbers}
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


def _among(graph: Any, rows: np.ndarray) -> csr_matrix:
    """Return the part of a graph that lies between some cells."""
    return csr_matrix(in_memory(graph, "the graph"))[rows][:, rows]


def _in_words(codes: Any, labels: Sequence[str]) -> Any:
    """Turn places into labels: a categorical, or a dask array of text."""
    if isinstance(codes, np.ndarray):
        return pd.Categorical.from_codes(codes, categories=labels)
    names = np.array(labels, dtype=str)
    return codes.map_blocks(names.__getitem__, dtype=names.dtype)


def _verdicts_in_words(verdicts: Any, labels: Sequence[str]) -> Any:
    if isinstance(verdicts, np.ndarray):
        return pd.Categorical(verdict_names(verdicts, labels))
    longest = max(len(NOT_HERE), len("between  and ") + 2 * max(map(len, labels)))
    return verdicts.map_blocks(_fixed_width, labels, longest, dtype=f"<U{longest}")


def _fixed_width(verdicts: np.ndarray, labels: Sequence[str], longest: int) -> np.ndarray:
    return verdict_names(verdicts, labels).astype(f"<U{longest}")
