"""Tables of all kinds, and what Python reads from them: for the tests of the explorer's readers.

``python golden_tables.py FOLDER`` writes the files and ``tables.json`` into ``FOLDER/tables``.
"""

from __future__ import annotations

import gzip
import json
import shutil
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata
import h5py
import numpy as np
import pandas as pd
import scanpy
from anndata import AnnData
from scipy.io import mmwrite
from scipy.sparse import csc_matrix, csr_matrix

import rpumap
from rpumap._counts import listen, read_counts, refuse_transformed
from rpumap.reference.genes import rename_genes

N_PANEL = 40
MISSING_GENES = 3


def write_golden(folder: Path) -> None:
    """Write all tables, and what is expected of them.

    Parameters
    ----------
    folder : Path
        Gets a folder ``tables``; one that is there is replaced.
    """
    folder = Path(folder) / "tables"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        Golden(folder).write()


class Golden:
    """Tables of simulated cells, in one folder, and what Python reads from them.

    Parameters
    ----------
    folder : Path
        It must be there.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        cells = rpumap.datasets.pancreas(source="simulated")
        cells.var.index.name = None
        self.prep = rpumap.Preprocessor(n_top_genes=N_PANEL).fit(cells[::10].copy())
        panel = np.isin(cells.var_names, self.prep.genes_)
        others = np.flatnonzero(~panel)[:80]
        genes = np.sort(np.concatenate([np.flatnonzero(panel), others]))
        few = cells[5::90, genes].copy()
        self.cells = AnnData(few.X.copy(), few.obs[["library_size"]].copy(), few.var[[]].copy())
        self.cases: dict[str, dict[str, Any]] = {}

    def write(self) -> None:
        """Write everything."""
        self.write_h5ad_of_all_types()
        self.write_parts()
        self.write_gene_names()
        self.write_library_sizes()
        self.write_bad_counts()
        self.write_other_h5()
        self.write_broken_h5()
        self.write_tenx()
        self.write_matrices()
        self.write_text()
        prep = self.prep
        reference = {
            "genes": list(prep.genes_),
            "mean": prep.mean_.tolist(),
            "targetSum": prep.target_sum,
            "panelShare": prep.panel_share_,
            "librarySizeStored": prep.library_size_stored_,
            "nFeaturesIn": prep.n_features_in_,
        }
        text = json.dumps({"reference": reference, "cases": self.cases})
        (self.folder / "tables.json").write_text(text)

    # --- what Python reads ----------------------------------------------------------------------

    def expect(
        self,
        name: str,
        table: AnnData,
        files: list[str] | str,
        *,
        part: str | None = None,
        layer: str | None = None,
        column: str | None = None,
        names: str | None = None,
        match: str = "exact",
    ) -> None:
        """Keep what Python makes of a table that was written into files.

        Parameters
        ----------
        name : str
            Of the case.
        table : AnnData
            What the files hold, with the part that is read in ``X`` or the layer.
        files : list of str or str
        part, column : str, optional
            What the explorer calls the part and the column of gene names.
        layer, names : str, optional
            What Python calls them.
        match : str
        """
        files = [files] if isinstance(files, str) else files
        case: dict[str, Any] = {"files": files, "part": part, "column": column, "match": match}
        self.cases[name] = case
        with listen() as said:
            try:
                case |= self._read(table, layer, names, match)
            except (ValueError, TypeError, KeyError) as error:
                case["error"] = str(error)
        case["remarks"] = said

    def _read(
        self, table: AnnData, layer: str | None, names: str | None, match: str
    ) -> dict[str, Any]:
        named = table.copy()
        named.var_names = rename_genes(table, self.prep.genes_, names, match)
        counts = read_counts(named, layer)
        refuse_transformed(named, counts)
        self.prep.layer = layer
        scaled = self.prep.scale(named)
        panel, present = counts.of(self.prep.genes_)
        return {
            "cells": list(map(str, named.obs_names)),
            "counts": np.where(present, panel, -1).tolist(),  # JSON knows no NaN
            "scaled": np.where(present, scaled, -1).tolist(),
            "librarySize": counts.library_size.tolist(),
            "nMissing": int((~present).sum()),
        }

    def refuse(self, name: str, files: list[str] | str, message: str) -> None:
        """Keep that files are refused, with a message that matches a regular expression."""
        files = [files] if isinstance(files, str) else files
        self.cases[name] = {"files": files, "refused": message}

    def h5ad(self, name: str, table: AnnData, **how: Any) -> str:
        """Write a table, and return the name of the file."""
        table.write_h5ad(self.folder / f"{name}.h5ad", **how)
        return f"{name}.h5ad"

    def edit(self, file: str, change: Callable[[h5py.File], None]) -> None:
        """Change a file in a way that anndata does not write."""
        with h5py.File(self.folder / file, "r+") as opened:
            change(opened)

    # --- h5ad -----------------------------------------------------------------------------------

    def write_h5ad_of_all_types(self) -> None:
        """Write counts of all types, sparse and dense, packed and not."""
        dense = self.cells.X.toarray()
        forms = {
            "csr_float32": csr_matrix(dense),
            "csr_float64": csr_matrix(dense.astype("float64")),
            "csr_int32": csr_matrix(dense.astype("int32")),
            "csr_int64": csr_matrix(dense.astype("int64")),
            "csr_uint64": csr_matrix(dense.astype("uint64")),
            "csr_uint16": csr_matrix(dense.astype("uint16")),
            "csc_float32": csc_matrix(dense),
            "csc_int64": csc_matrix(dense.astype("int64")),
            "dense_float32": dense,
            "dense_int64": dense.astype("int64"),
            "dense_uint16": dense.astype("uint16"),
            "dense_bool": dense > 0,
        }
        for name, X in forms.items():
            table = self.cells.copy()
            table.X = X
            self.expect(name, table, self.h5ad(name, table))
            packed = self.h5ad(f"{name}_gzip", table, compression="gzip")
            self.expect(f"{name}_gzip", table, packed)
        self._write_long_places()
        self._write_chunks()

    def _write_long_places(self) -> None:
        file = self.h5ad("places_int64", self.cells)
        for part in ("X/indices", "X/indptr"):
            self.edit(file, lambda opened, part=part: replace(opened, part, "int64"))
        self.expect("places_int64", self.cells, file)
        file = self.h5ad("big_endian", self.cells)
        self.edit(file, lambda opened: replace(opened, "X/data", ">f4"))
        self.expect("big_endian", self.cells, file)
        file = self.h5ad("fixed_strings", self.cells)
        for part in ("obs/_index", "var/_index"):
            self.edit(file, lambda opened, part=part: replace(opened, part, "S24"))
        self.expect("fixed_strings", self.cells, file)

    def _write_chunks(self) -> None:
        dense = self.cells.copy()
        dense.X = dense.X.toarray()
        for name, chunks in {"tiles": (7, 11), "by_column": (len(dense), 1)}.items():
            file = self.h5ad(f"dense_{name}", dense)
            self.edit(
                file,
                lambda opened, chunks=chunks: replace(
                    opened, "X", "float32", chunks=chunks, compression="gzip", shuffle=True
                ),
            )
            self.expect(f"dense_{name}", dense, file)

    def write_parts(self) -> None:
        """Write counts in a layer and in raw, beside logarithms in X."""
        table = self.cells.copy()
        table.layers["counts"] = table.X.copy()
        scanpy.pp.normalize_total(table, target_sum=1e4)
        scanpy.pp.log1p(table)
        table.layers["a_copy"] = table.X.copy()
        file = self.h5ad("layers", table)
        self.expect("layers_X", table, file)
        self.expect("layers_counts", table, file, part="layers/counts", layer="counts")
        with_raw = self.cells.copy()
        with_raw.raw = self.cells.copy()
        with_raw = with_raw[:, ::2].copy()
        scanpy.pp.normalize_total(with_raw, target_sum=1e4)
        file = self.h5ad("raw", with_raw)
        self.expect("raw_X", with_raw, file, part="X")
        self.expect("raw_raw", with_raw.raw.to_adata(), file, part="raw/X")
        without = self.cells.copy()
        without.layers["counts"] = without.X.copy()
        without.X = None
        file = self.h5ad("without_X", without)
        self.expect("without_X", without, file, part="layers/counts", layer="counts")
        del without.layers["counts"]
        self.refuse("without_counts", self.h5ad("without_counts", without), "no X, no layers")

    def write_gene_names(self) -> None:
        """Write names of genes elsewhere, of other spellings, repeated and missing."""
        names = self.cells.var_names.to_numpy(dtype=object)
        ids = np.array([f"ENSMUSG{i:011d}.{i % 9}" for i in range(len(names))], dtype=object)
        is_panel = np.isin(names, self.prep.genes_)
        symbols = names.copy()
        others = np.flatnonzero(~is_panel)
        symbols[others[:6]] = symbols[others[0]]
        table = self.cells.copy()
        table.var_names = ids
        table.var["symbol"] = symbols
        table.var["category"] = pd.Categorical(names)
        table.var["length"] = np.arange(len(names))
        table.var["nullable"] = pd.array(names, dtype="string")
        table.var.loc[ids[others[0]], ["category", "nullable"]] = None
        with anndata.settings.override(allow_write_nullable_strings=True):
            file = self.h5ad("columns", table, convert_strings_to_categoricals=False)
        self.expect("columns_ids", table, file)
        for column in ("symbol", "category", "nullable"):
            self.expect(f"columns_{column}", table, file, column=column, names=column)
        self._write_spellings(names, symbols)
        few = self.cells[:, ~np.isin(names, self.prep.genes_[:MISSING_GENES])].copy()
        self.expect("few_missing", few, self.h5ad("few_missing", few))
        most = self.cells[:, ~np.isin(names, self.prep.genes_[MISSING_GENES:])].copy()
        self.expect("most_missing", most, self.h5ad("most_missing", most))

    def _write_spellings(self, names: np.ndarray, symbols: np.ndarray) -> None:
        table = self.cells.copy()
        for name, spell in {"case": str.upper, "version": lambda name: f"{name}.12"}.items():
            table.var_names = [spell(gene) for gene in names]
            file = self.h5ad(f"spelt_{name}", table)
            self.expect(f"spelt_{name}_exact", table, file)
            self.expect(f"spelt_{name}_{name}", table, file, match=name)
        table.var_names = [f"mm10_{gene}" for gene in names]
        self.expect("spelt_prefix", table, self.h5ad("spelt_prefix", table))
        panel = self.prep.genes_
        twice = names.copy()
        twice[names == panel[0]] = panel[1].upper()
        table.var_names = twice
        self.expect("spelt_twice", table, self.h5ad("spelt_twice", table), match="case")
        turned = self.cells.T.copy()
        turned.obs["library_size"] = np.ravel(turned.X.sum(axis=1)) + 1
        self.expect("transposed", turned, self.h5ad("transposed", turned))
        # Python wants other names to be made unique first, which changes no counts
        table.var_names = symbols
        file = self.h5ad("repeated_names", table)
        table.var_names_make_unique()
        self.expect("repeated_names", table, file)

    def write_library_sizes(self) -> None:
        """Write library sizes of all kinds, good ones and bad ones."""
        size = self.cells.obs["library_size"].to_numpy()
        totals = np.ravel(self.cells.X.sum(axis=1))
        with_gap = np.where(np.arange(len(size)) == 3, np.nan, size)
        nullable = pd.array(size.astype(int), dtype="Int64")
        nullable_gap = nullable.copy()
        nullable_gap[3] = pd.NA
        kinds = {
            "int32": size.astype("int32"),
            "uint64": size.astype("uint64"),
            "nullable": nullable,
            "rounded": (totals * (1 - 5e-6)).astype("float32"),
            "constant": np.full(len(size), 1e5),
            "missing": with_gap,
            "nullable_missing": nullable_gap,
            "negative": np.where(np.arange(len(size)) == 2, -1, size),
            "infinite": np.where(np.arange(len(size)) == 2, np.inf, size),
            "logarithm": np.log(size),
            "text": size.astype(str),
            "category": pd.Categorical(size),
            "flag": size > 0,
        }
        for kind, values in kinds.items():
            table = self.cells.copy()
            table.obs["library_size"] = values
            self.expect(f"size_{kind}", table, self.h5ad(f"size_{kind}", table))
        del table.obs["library_size"]
        self.expect("size_none", table, self.h5ad("size_none", table))
        few = self.cells[:5].copy()
        for factor in (1, 4):
            few.obs["library_size"] *= factor
            name = f"size_few_cells_{factor}"
            self.expect(name, few, self.h5ad(name, few))
        fractions = self.cells.copy()
        fractions.X = fractions.X * 0.97
        fractions.obs["library_size"] = np.floor(np.ravel(fractions.X.sum(axis=1)))
        self.expect("size_floor", fractions, self.h5ad("size_floor", fractions))

    def write_bad_counts(self) -> None:
        """Write what are no raw counts."""
        dense = self.cells.X.toarray().astype("float64")
        size = dense.sum(axis=1, keepdims=True)
        scaled = dense / size * 1e4
        empty_cells = dense.copy()
        empty_cells[[2, 7]] = 0
        low = np.minimum(dense, 20)
        kinds = {
            "nan": changed(dense, [(4, 7), (4, 9), (6, 7)], np.nan),
            "infinite": changed(dense, [(4, 7)], -np.inf),
            "negative": changed(dense, [(5, 7), (5, 3)], -2),
            "tiny": changed(dense, [(5, 7)], 1e-35),
            "huge": changed(dense, [(5, 7)], 1e35),
            "large": changed(dense, [(5, 7)], 2.0**24 + 2),
            "zero": np.zeros_like(dense),
            "binary": (dense > 0).astype("float64"),
            "normalised": scaled,
            "logarithms": np.log1p(scaled),
            "logarithms_of_parts": np.log1p(dense / (size / size.mean()) ** 0.5),
            "z_scores": (dense - dense.mean(axis=0)) / (dense.std(axis=0) + 1),
            "some_fractions": np.where(dense > 20, dense * 0.9, dense),
            "fractions": dense * 0.3 + 20 * dense / (dense + 1),
            "fewer_fractions": np.where(np.arange(120) % 5 > 2, low * 0.9, low),
            "more_fractions": np.where(np.arange(120) % 5 > 1, low * 0.9, low),
            "same_sums": same_sums(dense, 3),
            "equal_sums": same_sums(dense, 1),
            "empty_cells": empty_cells,
        }
        for kind, X in kinds.items():
            for form, shape in {"csr": csr_matrix, "csc": csc_matrix, "dense": np.asarray}.items():
                table = AnnData(shape(X), var=self.cells.var.copy(), obs=self.cells.obs[[]].copy())
                name = f"bad_{kind}_{form}"
                self.expect(name, table, self.h5ad(name, table))
        for value in (2**33, -3):
            table.X = csr_matrix(changed(dense, [(5, 7)], value).astype("int64"))
            name = f"int64_{value}"
            self.expect(name, table, self.h5ad(name, table))
        messy = csr_matrix(dense)
        messy.data[::5] = 0  # stored zeros
        table = AnnData(messy, var=self.cells.var.copy())
        self.expect("stored_zeros", table, self.h5ad("stored_zeros", table))

    def write_other_h5(self) -> None:
        """Write formats of older versions of anndata."""
        file = self.h5ad("anndata_0_7", self._with_category())
        self.edit(file, as_of_version_0_7)
        self.expect("anndata_0_7", self._with_category(), file, column="kind", names="kind")
        self.expect("anndata_0_7_names", self._with_category(), file)
        write_as_of_version_0_6(self.folder / "anndata_0_6.h5ad", self._with_category())
        file = "anndata_0_6.h5ad"
        self.expect("anndata_0_6", self._with_category(), file, column="kind", names="kind")
        self.expect("anndata_0_6_names", self._with_category(), file)

    def _with_category(self) -> AnnData:
        table = self.cells.copy()
        table.var["kind"] = pd.Categorical(table.var_names)
        table.var["score"] = np.arange(table.n_vars) / 7
        return table

    def write_broken_h5(self) -> None:
        """Write files that are cut short, damaged, of other programs, or packed otherwise."""
        cells = self.cells
        self.refuse("lzf", self.h5ad("lzf", cells, compression="lzf"), "compressed with lzf")
        file = self.h5ad("half_floats", cells)
        self.edit(file, lambda opened: replace(opened, "X/data", "float16"))
        self.refuse("half_floats", file, "numbers of 16 bits")
        file = self.h5ad("text_in_X", cells)
        self.edit(file, lambda opened: replace(opened, "X/data", "S8"))
        self.refuse("text_in_X", file, "X/data holds no numbers")
        self.refuse("no_cells", self.h5ad("no_cells", cells[:0].copy()), "0 cells and 120 genes")
        whole = (self.folder / self.h5ad("whole", cells)).read_bytes()
        for name, content, message in (
            ("cut", whole[: len(whole) // 2], "cut short"),
            ("text", b"gene,a\nb,1\n", "no HDF5 file, although its name says so: download"),
            ("packed", gzip.compress(whole), "packed with gzip. Unpack it first"),
            ("empty", b"", "empty.h5ad is empty"),
        ):
            (self.folder / f"{name}.h5ad").write_bytes(content)
            self.refuse(name, f"{name}.h5ad", message)
        for name, change, message in (
            ("pointers", lambda opened: change_value(opened["X/indptr"], 3, 1), "ascending places"),
            ("places", lambda opened: change_value(opened["X/indices"], 5, 999), "the place 999"),
            ("too_few", lambda opened: opened["X/data"].resize((9,)), "but has 9"),
            ("no_sparse", lambda opened: opened.__delitem__("X/indptr"), "no sparse matrix"),
            ("no_index", lambda opened: opened.__delitem__("var/_index"), "var has no names"),
        ):
            file = self.h5ad(f"damaged_{name}", cells)
            self.edit(file, change)
            self.refuse(f"damaged_{name}", file, message)
        self._write_damaged_bytes()
        for name, groups, message in (
            ("a.loom", ["matrix", "row_attrs", "col_attrs"], "a.loom cannot be used: .*loom"),
            ("b.h5", ["mod", "obsm"], "a MuData"),
            ("c.h5", ["assays"], "Seurat"),
            ("d.h5", ["images"], "holds 'images', not obs and var"),
        ):
            with h5py.File(self.folder / name, "w") as opened:
                for group in groups:
                    opened.create_group(group)
            self.refuse(name, name, message)

    def _write_damaged_bytes(self) -> None:
        file = self.folder / self.h5ad("damaged_bytes", self.cells, compression="gzip")
        with h5py.File(file) as opened:
            place = opened["X/data"].id.get_chunk_info(0)
        content = bytearray(file.read_bytes())
        start, stop = place.byte_offset + 8, place.byte_offset + place.size - 8
        content[start:stop] = b"\xff" * (stop - start)
        file.write_bytes(content)
        self.refuse("damaged_bytes", file.name, "X/data cannot be read: the file may be damaged")

    # --- Cell Ranger ----------------------------------------------------------------------------

    def _features(self) -> tuple[list[str], list[str], list[str], csc_matrix]:
        """Return ids, symbols and types, and counts of features in rows, two of antibodies."""
        symbols = list(self.cells.var_names)
        others = [name for name in symbols if name not in set(self.prep.genes_)]
        symbols[symbols.index(others[1])] = others[0]  # a symbol that two genes share
        ids = [f"ENSMUSG{i:011d}" for i in range(len(symbols))]
        symbols.insert(50, "CD3_antibody")
        ids.insert(50, "CD3_antibody")
        symbols.append("CD4_antibody")
        ids.append("CD4_antibody")
        types = ["Antibody Capture" if "antibody" in name else "Gene Expression" for name in ids]
        dense = self.cells.X.toarray().T.astype("int32")
        dense = np.insert(dense, 50, 1000, axis=0)
        dense = np.vstack([dense, np.full(dense.shape[1], 2000, dtype="int32")])
        return ids, symbols, types, csc_matrix(dense)

    def write_tenx(self) -> None:
        """Write files .h5 of Cell Ranger, of two versions."""
        ids, symbols, types, counts = self._features()
        barcodes = list(self.cells.obs_names)
        with h5py.File(self.folder / "filtered.h5", "w") as opened:
            group = opened.create_group("matrix")
            write_tenx_matrix(group, counts, barcodes)
            features = group.create_group("features")
            features["id"], features["name"] = np.array(ids, "S"), np.array(symbols, "S")
            features["feature_type"] = np.array(types, "S")
            features["genome"] = np.array(["mm10"] * len(ids), "S")
        table = scanpy.read_10x_h5(self.folder / "filtered.h5")
        table.var_names_make_unique()
        self.expect("tenx_h5", table, "filtered.h5")
        with h5py.File(self.folder / "old.h5", "w") as opened:
            group = opened.create_group("mm10")
            write_tenx_matrix(group, counts, barcodes)
            group["genes"], group["gene_names"] = np.array(ids, "S"), np.array(symbols, "S")
        table = scanpy.read_10x_h5(self.folder / "old.h5")
        table.var_names_make_unique()
        self.expect("tenx_old_h5", table, "old.h5")
        with h5py.File(self.folder / "two.h5", "w") as opened:
            for genome in ("hg19", "mm10"):
                group = opened.create_group(genome)
                write_tenx_matrix(group, counts, barcodes)
                group["genes"], group["gene_names"] = np.array(ids, "S"), np.array(symbols, "S")
        self.refuse("tenx_two", "two.h5", "several genomes .'hg19', 'mm10'.")

    def write_matrices(self) -> None:
        """Write tables of three files, good ones and bad ones."""
        ids, symbols, types, counts = self._features()
        barcodes = list(self.cells.obs_names)
        lines = ["\t".join(fields) for fields in zip(ids, symbols, types, strict=True)]
        names = ["matrix.mtx.gz", "features.tsv.gz", "barcodes.tsv.gz"]
        new = self.triple("mtx_new", names, counts, lines, barcodes)
        table = scanpy.read_10x_mtx(self.folder / "mtx_new")
        self.expect("mtx_new", table, new[::-1])
        by_id = scanpy.read_10x_mtx(self.folder / "mtx_new", var_names="gene_ids")
        self.expect("mtx_ids", by_id, new, column="id")
        is_gene = np.array(types) == "Gene Expression"
        genes = [line for line, keep in zip(lines, is_gene, strict=True) if keep]
        genes = [line.rpartition("\t")[0] for line in genes]
        counts = csc_matrix(counts.toarray()[is_gene])
        names = ["matrix.mtx", "genes.tsv", "barcodes.tsv"]
        old = self.triple("mtx_old", names, counts, genes, barcodes)
        table = scanpy.read_10x_mtx(self.folder / "mtx_old")
        self.expect("mtx_old", table, old)
        turned = self.triple("mtx_turned", names, csc_matrix(counts.T), genes, barcodes)
        self.expect("mtx_turned", table, turned)
        real = counts.astype("float64")
        real.data[::7] += 0.25
        files = self.triple("mtx_real", names, real, genes, barcodes)
        fractions = scanpy.read_10x_mtx(self.folder / "mtx_real")
        self.expect("mtx_real", fractions, files)
        single = [line.split("\t")[1] for line in genes]
        renamed = ["S_matrix (1).mtx", "S_genes.tsv (2).gz", "S_barcodes.tsv"]
        files = self.triple("mtx_symbols", renamed, counts, single, barcodes)
        self.expect("mtx_symbols", table, files, column="name")
        self._refuse_matrices(names, counts, genes, barcodes)

    def _refuse_matrices(
        self, names: list[str], counts: csc_matrix, genes: list[str], barcodes: list[str]
    ) -> None:
        def changed_matrix(name: str, old: str, new: str, message: str) -> None:
            files = self.triple(name, names, counts, genes, barcodes)
            path = self.folder / files[0]
            text = path.read_text()
            assert old in text
            path.write_text(text.replace(old, new, 1))
            self.refuse(name, files, message)

        whole = self.triple("mtx_parts", names, counts, genes, barcodes)
        self.refuse("mtx_no_genes", [whole[0], whole[2]], r"features\.tsv.* is missing")
        self.refuse("mtx_alone", whole[:1], r"barcodes\.tsv.* and .*genes\.tsv.* are missing")
        self.refuse("mtx_genes_alone", whole[1:2], r"the matrix \(matrix\.mtx.* missing")
        self.refuse("mtx_two", [*whole[:2], whole[0]], r"are both the matrix")
        self.refuse("mtx_and_h5ad", [*whole[:2], "whole.h5ad"], "none of the three files")
        files = self.triple("mtx_other", names, counts, genes, barcodes[:-1])
        self.refuse("mtx_other", files, r"has 120 rows and 42 columns, but .* has 41\.")
        n = counts.nnz
        changed_matrix("mtx_more", f" {n}\n", f" {n + 3}\n", "cut short or damaged")
        changed_matrix("mtx_text", "%%Matrix", "%Matrix", "should begin with '%%MatrixMarket'")
        changed_matrix("mtx_pattern", "integer", "pattern", "'coordinate pattern general'")
        changed_matrix("mtx_outside", f" {n}\n", f" {n}\n999 1 1\n", "the line '999 1 1'")
        changed_matrix("mtx_no_value", f" {n}\n", f" {n}\n1 1 x\n", "the line '1 1 x'")
        files = self.triple("mtx_cut", [f"{name}.gz" for name in names], counts, genes, barcodes)
        path = self.folder / files[0]
        path.write_bytes(path.read_bytes()[:-200])
        self.refuse("mtx_cut", files, "cannot be unpacked")
        types = [f"{line}\tAntibody Capture" for line in genes]
        files = self.triple("mtx_antibodies", names, counts, types, barcodes)
        self.refuse("mtx_antibodies", files, "no feature of the type 'Gene Expression'")

    def triple(
        self,
        name: str,
        names: list[str],
        counts: csc_matrix,
        features: list[str],
        barcodes: list[str],
    ) -> list[str]:
        """Write three files into a folder, and return their names."""
        folder = self.folder / name
        folder.mkdir()
        mmwrite(folder / "matrix", counts, comment=" made for tests")
        contents = [
            (folder / "matrix.mtx").read_bytes(),
            *("\n".join(lines).encode() + b"\n" for lines in (features, barcodes)),
        ]
        (folder / "matrix.mtx").unlink()
        for file, content in zip(names, contents, strict=True):
            packed = gzip.compress(content) if file.endswith(".gz") else content
            (folder / file).write_bytes(packed)
        return [f"{name}/{file}" for file in names]

    # --- text -----------------------------------------------------------------------------------

    def write_text(self) -> None:
        """Write text files of all kinds."""
        table = AnnData(self.cells.X.toarray(), self.cells.obs[[]].copy(), self.cells.var.copy())
        frame = table.to_df().astype(int)
        comma, tab = frame.to_csv(), frame.to_csv(sep="\t")
        quoted = frame.to_csv(quoting=2)  # all that are no numbers
        bare = "\n".join([",".join(frame.columns), *comma.splitlines()[1:]])
        texts: dict[str, str | bytes] = {
            "comma.csv": comma,
            "tab.tsv": tab,
            "tab.txt": tab,
            "semicolon.csv": frame.to_csv(sep=";"),
            "space.txt": frame.to_csv(sep=" "),
            "packed.csv.gz": gzip.compress(comma.encode()),
            "packed.tsv.gz": gzip.compress(tab.encode()),
            "quoted.csv": quoted,
            "all_quoted.csv": frame.to_csv(quoting=1),
            "no_corner.csv": bare,
            "genes_in_rows.csv": frame.T.to_csv(),
            "genes_in_rows.tsv.gz": gzip.compress(frame.T.to_csv(sep="\t").encode()),
            "windows.csv": comma.replace("\n", "\r\n"),
            "mark.csv": b"\xef\xbb\xbf" + comma.encode(),
            "no_last_line_end.csv": comma.rstrip("\n"),
            "blank_lines.csv": comma.replace("\n", "\n\n"),
            "floats.csv": frame.astype(float).to_csv(),
            "exponents.csv": frame.astype(float).to_csv(float_format="%.3e"),
        }
        for file, text in texts.items():
            self.text(file, text)
            expected = AnnData(frame.astype(float), var=table.var.copy())
            if file == "exponents.csv":
                expected.X = np.array([[float(f"{x:.3e}") for x in row] for row in frame.values])
            self.expect(file, expected, file)
        self._write_fractions(frame)
        self._write_odd_names(frame)
        self._refuse_text(frame, comma)

    def _write_fractions(self, frame: pd.DataFrame) -> None:
        fractions = frame * 1.0
        fractions.iloc[::3] *= 0.9
        self.text("fractions.csv", fractions.to_csv())
        self.expect("fractions.csv", AnnData(fractions), "fractions.csv")
        gaps = frame.astype(float)
        gaps.iloc[3, 5] = gaps.iloc[4, 5] = np.nan
        for file, how in (("gaps.csv", {}), ("na.csv", {"na_rep": "NA"})):
            self.text(file, gaps.to_csv(**how))
            self.expect(file, AnnData(gaps), file)

    def _write_odd_names(self, frame: pd.DataFrame) -> None:
        first = self.prep.genes_[0]
        unnamed = frame[[first, *frame.columns.drop(first)]].astype(float)
        self.text("unnamed.csv", unnamed.astype(int).to_csv(index=False))
        unnamed.index = [str(i + 1) for i in range(len(frame))]
        self.expect("unnamed.csv", AnnData(unnamed), "unnamed.csv")
        odd = frame.astype(float)
        odd.index = [f'cell "{i}", of é' for i in range(len(odd))]
        panel = set(self.prep.genes_)
        odd.columns = [name if name in panel else f'{name},"x"' for name in odd.columns]
        self.text("odd_names.csv", odd.to_csv())
        self.expect("odd_names.csv", AnnData(odd), "odd_names.csv")

    def _refuse_text(self, frame: pd.DataFrame, comma: str) -> None:
        lines = comma.splitlines()
        fields = lines[3].split(",")
        gene = frame.columns[6]
        comments = [*lines[:3], ",".join([*fields[:7], "many", *fields[8:]]), *lines[4:]]
        decimals = frame.astype(float).to_csv(sep=";", decimal=",")
        refused: dict[str, tuple[str | bytes, str]] = {
            "word.csv": ("\n".join(comments), f"line 4 of .* column '{gene}' holds 'many'"),
            "decimals.csv": (decimals, "write decimals with points"),
            "short.csv": (comma[: comma.rindex(",") - 20], "line 43 of .* must have 121"),
            "long.csv": (comma.rstrip("\n") + ",5", "line 43 of .* it has 122 fields"),
            "header.csv": (lines[0], "a header but no other line"),
            "one_field.csv": ("a\nb\nc\n", "one field each"),
            "open_quote.csv": (f'{lines[0]}\n"c1,{lines[1]}\n', "the quote of its first field"),
            "utf16.csv": (comma.encode("utf-16"), "UTF-16"),
            "cut.csv.gz": (gzip.compress(comma.encode())[:-50], "cannot be unpacked"),
            "archive.zip": (b"PK\x03\x04" + bytes(40), "archive: unpack it first"),
            "table.xlsx": (b"PK\x03\x04" + bytes(40), "a spreadsheet: save the table as CSV"),
            "object.rds": (gzip.compress(b"RDX2"), "zellkonverter"),
            "hidden_zip.csv": (b"PK\x03\x04" + bytes(40), "a zip archive"),
            "files.tar.gz": (gzip.compress(bytes(99)), "an archive: unpack"),
            "files.dat": (bytes(257) + b"ustar" + bytes(250), "an archive: unpack"),
            "model.rpumap": (b"abc", "choose it as the reference"),
            "array.npy": (b"\x93NUMPY" + bytes(20), "NumPy"),
            "unknown.bin": (bytes(range(99)), "of an unknown kind"),
            "empty.csv": (b"", "empty.csv is empty"),
        }
        for file, (text, message) in refused.items():
            self.text(file, text)
            self.refuse(file, file, message)

    def text(self, file: str, text: str | bytes) -> None:
        """Write a text file."""
        (self.folder / file).write_bytes(text if isinstance(text, bytes) else text.encode())


# --- counts ---------------------------------------------------------------------------------------


def changed(dense: np.ndarray, places: list[tuple[int, int]], value: float) -> np.ndarray:
    """Return a copy in which some entries have another value."""
    dense = dense.copy()
    for place in places:
        dense[place] = value
    return dense


def same_sums(dense: np.ndarray, n_sums: int) -> np.ndarray:
    """Return whole numbers of the same sum in each cell, or of some sums that are nearly so."""
    scaled = np.floor(dense / dense.sum(axis=1, keepdims=True) * 1e5)
    scaled[:, 0] += 100_000 - scaled.sum(axis=1) + np.arange(len(dense)) % n_sums
    return scaled


# --- files that anndata does not write ------------------------------------------------------------


def replace(opened: h5py.File, path: str, dtype: str, **how: Any) -> None:
    """Write a data set anew, with another type and the same attributes."""
    values, attributes = opened[path][...], dict(opened[path].attrs)
    if h5py.check_string_dtype(opened[path].dtype):
        values = np.char.encode(opened[path].asstr()[...].astype(str))
    del opened[path]
    opened.create_dataset(path, data=values.astype(dtype), **how)
    opened[path].attrs.update(attributes)


def change_value(dataset: h5py.Dataset, place: int, value: int) -> None:
    """Change one value of a data set."""
    dataset[place] = value


def as_of_version_0_7(opened: h5py.File) -> None:
    """Keep categories of ``var`` as anndata 0.7 did: beside the columns, with a reference."""
    var = opened["var"]
    codes, categories = var["kind/codes"][...], var["kind/categories"][...]
    del var["kind"]
    var["__categories/kind"] = categories
    var["kind"] = codes
    var["kind"].attrs["categories"] = var["__categories/kind"].ref


def write_as_of_version_0_6(path: Path, table: AnnData) -> None:
    """Write a table as anndata 0.6 did: ``obs`` and ``var`` as data sets of compound types."""
    text = h5py.string_dtype()
    with h5py.File(path, "w") as opened:
        group = opened.create_group("X")
        group.attrs["h5sparse_format"], group.attrs["h5sparse_shape"] = "csr", table.shape
        for name in ("data", "indices", "indptr"):
            group[name] = getattr(table.X, name)
        size = table.obs["library_size"].to_numpy()
        obs = np.zeros(table.n_obs, [("index", text), ("library_size", "f8")])
        obs["index"], obs["library_size"] = table.obs_names, size
        var = np.zeros(table.n_vars, [("index", "S24"), ("kind", "i2"), ("score", "f4")])
        var["index"] = np.char.encode(table.var_names.to_numpy(dtype=str))
        var["kind"], var["score"] = table.var["kind"].cat.codes, table.var["score"]
        opened["obs"], opened["var"] = obs, var
        categories = table.var["kind"].cat.categories.to_numpy(dtype=object)
        opened.create_dataset("uns/kind_categories", data=categories, dtype=text)


def write_tenx_matrix(group: h5py.Group, counts: csc_matrix, barcodes: list[str]) -> None:
    """Write counts as Cell Ranger does, with features in rows, column by column."""
    group["barcodes"] = np.array(barcodes, "S")
    group["data"], group["shape"] = counts.data, np.array(counts.shape, dtype="int32")
    for name in ("indices", "indptr"):
        group[name] = getattr(counts, name).astype("int64")


if __name__ == "__main__":
    write_golden(Path(sys.argv[1]))
