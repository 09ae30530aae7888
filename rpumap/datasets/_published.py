"""Real cells from published files: finding, downloading, checking and reading them.

No checksum of these files is published. So a download must open as what it claims to be, and hold
the right number of cells, the right labels and raw counts, before it gets its name in the cache.
Its SHA-256 is kept beside it, by which later damage is noticed.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy import sparse

if TYPE_CHECKING:
    from anndata import AnnData

DATA_DIR_VARIABLE = "RPUMAP_DATA_DIR"
LABELS = ("clusters", "ClusterName")  # scVelo's and CellRank's column, velocyto's
LIBRARY_SIZES = ("library_size", "nCount_spliced")
# in lineage order; CellRank calls the pre-endocrine cells Fev+
# fmt: off
CLUSTERS = {
    "pancreas": (
        "Ductal", "Ngn3 low EP", "Ngn3 high EP", "Fev+", "Pre-endocrine",
        "Beta", "Alpha", "Delta", "Epsilon",
    ),
    "dentate_gyrus": (
        "RadialGlia", "RadialGlia2", "ImmAstro", "GlialProg", "OPC", "nIPC", "Nbl1", "Nbl2",
        "ImmGranule1", "ImmGranule2", "Granule", "CA", "CA1-Sub", "CA2-3-4",
    ),
}
# fmt: on


@dataclass(frozen=True)
class PublishedFile:
    """Where a file lies, and by what it is known to be the right one.

    It has `n_cells` cells, and all of `clusters` are among its labels.
    """

    url: str
    filename: str
    n_cells: int
    clusters: frozenset[str]
    source: str


PUBLISHED = {  # the first that can be had is taken
    "pancreas": (
        PublishedFile(
            "https://github.com/theislab/scvelo_notebooks/raw/master/data/Pancreas/"
            "endocrinogenesis_day15.h5ad",
            "pancreas_scvelo.h5ad",
            3696,
            frozenset(CLUSTERS["pancreas"]) - {"Fev+"},
            "mouse pancreas at E15.5, Bastidas-Ponce et al. 2019, GEO GSE132188; "
            "spliced counts of 3,696 cells, as published with scVelo",
        ),
        PublishedFile(
            "https://figshare.com/ndownloader/files/25060877",
            "pancreas_cellrank.h5ad",
            2531,
            frozenset(CLUSTERS["pancreas"]) - {"Ductal", "Fev+", "Pre-endocrine"},
            "mouse pancreas at E15.5, Bastidas-Ponce et al. 2019, GEO GSE132188; "
            "spliced counts of 2,531 cells, the subset published with CellRank",
        ),
    ),
    "dentate_gyrus": (
        PublishedFile(
            "http://pklab.med.harvard.edu/velocyto/DentateGyrus/DentateGyrus.loom",
            "dentate_gyrus_velocyto.loom",
            18213,
            frozenset(CLUSTERS["dentate_gyrus"]),
            "mouse dentate gyrus at P0 and P5, Hochgerner et al. 2018; "
            "spliced counts of 18,213 cells, as published with velocyto (La Manno et al. 2018)",
        ),
    ),
}


def from_folder(name: str) -> AnnData | None:
    """Read the file that the user put into the folder ``RPUMAP_DATA_DIR``, if there is one."""
    path, lacking = find([f"{name}.h5ad", f"{name}.loom"])
    if path is not None:
        return read_found(path, CLUSTERS[name], LABELS)
    if lacking:
        print(f"The folder that {DATA_DIR_VARIABLE} names {lacking}: looking elsewhere.")
    return None


def find(filenames: Sequence[str]) -> tuple[Path | None, str]:
    """Return the first of the files in ``RPUMAP_DATA_DIR``, else what the folder lacks.

    Where the variable is not set, that is nothing.
    """
    named = os.environ.get(DATA_DIR_VARIABLE, "").strip()
    if not named:
        return None, ""
    folder = Path(named).expanduser()
    for filename in filenames:
        if (folder / filename).is_file():
            return folder / filename, ""
    return None, f"has no {' or '.join(filenames)}" if folder.is_dir() else "does not exist"


def read_found(path: Path, order: Iterable[str], labels: Sequence[str]) -> AnnData:
    """Read a file of that folder as `read_counts` does, and say in its source where it lies."""
    adata = read_counts(path, order, labels)
    described = adata.uns.get("source", "it does not say what it holds")
    adata.uns["source"] = f"{path.name} in {DATA_DIR_VARIABLE}: {described}"
    return adata


def cache_folder(cache_dir: str | Path | None) -> Path:
    """Folder of the downloads: the user's cache where none is given."""
    import pooch

    return Path(pooch.os_cache("rpumap") if cache_dir is None else cache_dir).expanduser()


def from_cache(name: str, folder: Path) -> AnnData | None:
    """Read an earlier download, if there is one."""
    for published in PUBLISHED[name]:
        if (folder / published.filename).is_file():
            return _from_download(name, published, folder)
    return None


def _from_download(name: str, published: PublishedFile, folder: Path) -> AnnData:
    """Read what was downloaded, and make sure that it has not changed since."""
    import pooch

    path = folder / published.filename
    record = _hash_record(path)
    if record.is_file() and record.read_text().strip() != pooch.file_hash(str(path)):
        raise ValueError(
            f"{path} is not the file that was downloaded: it has changed since. "
            "Delete it, and ask for source='real' to download it again."
        )
    return _checked(path, name, published)


def _hash_record(path: Path) -> Path:
    return path.with_name(path.name + ".sha256")


def download(name: str, folder: Path) -> AnnData:
    """Download and read the first of the published files that can be had."""
    failures = []
    for published in PUBLISHED[name]:
        try:
            _fetch(name, published, folder)
        except (OSError, ValueError, RuntimeError) as error:  # OSError includes network errors
            failures.append(f"  {published.url}\n    {type(error).__name__}: {error}")
            continue
        adata = _from_download(name, published, folder)
        print(f"Downloaded: {adata.uns['source']}.")
        return adata
    tried = "\n".join(failures)
    raise RuntimeError(
        f"The real {name.replace('_', ' ')} cells could not be downloaded:\n{tried}\n"
        "Check the connection and try again; or download the file by other means, save it as "
        f"{name}{Path(PUBLISHED[name][0].filename).suffix} and set the environment variable "
        f"{DATA_DIR_VARIABLE} to its folder; or use source='simulated'."
    )


def _fetch(name: str, published: PublishedFile, folder: Path) -> None:
    """Download one file. Pooch writes to a temporary name, and renames what passed the check."""
    import pooch

    def get(url: str, output_file: str, fetcher: pooch.Pooch) -> None:
        pooch.HTTPDownloader(progressbar=True, timeout=30)(url, output_file, fetcher)
        _checked(Path(output_file), name, published)
        record = _hash_record(folder / published.filename)
        record.write_text(pooch.file_hash(output_file) + "\n")

    fetcher = pooch.create(
        path=folder,
        base_url="",
        registry={published.filename: None},
        urls={published.filename: published.url},
        retry_if_failed=3,
    )
    fetcher.fetch(published.filename, downloader=get)


def _checked(path: Path, name: str, published: PublishedFile) -> AnnData:
    """Read a published file, and make sure that it is the right one."""
    # ValueError if it does not open: cut short, perhaps, and pooch tries again
    adata = read_counts(path, CLUSTERS[name])
    absent = published.clusters - set(adata.obs["clusters"])
    if adata.n_obs != published.n_cells or absent:
        # RuntimeError: what opens but is another file will not change by trying again
        raise RuntimeError(
            f"not the expected file: {adata.n_obs:,} cells instead of {published.n_cells:,}, "
            f"clusters missing: {', '.join(sorted(absent)) or 'none'}"
        )
    adata.uns["source"] = published.source
    return adata


def read_counts(
    path: str | Path,
    order: Iterable[str] = CLUSTERS["pancreas"],
    label_columns: Sequence[str] = LABELS,
) -> AnnData:
    """Read raw counts and cluster labels from an h5ad or loom file.

    Parameters
    ----------
    path : str or Path
        Counts are taken from the layer ``spliced`` if there is one, library sizes from
        ``library_size`` or ``nCount_spliced`` if there.
    order : iterable of str
        Order of the clusters; others follow in alphabetical order.
    label_columns : sequence of str
        Names of columns of ``obs``; the first that is there holds the labels.

    Returns
    -------
    AnnData
        As for `pancreas`.

    Raises
    ------
    ValueError
        If the file cannot be read, has no labels, or does not hold real counts.
    """
    import h5py
    from anndata import read_h5ad

    with warnings.catch_warnings():
        # on old layouts, which are read all the same, and on repeated names, which are made unique
        warnings.simplefilter("ignore")
        try:
            with h5py.File(path) as file:
                is_loom = "col_attrs" in file
            adata = _read_loom(path) if is_loom else read_h5ad(path)
        except Exception as error:  # what a broken file raises depends on where it is broken
            raise ValueError(
                f"{path} cannot be read as an .h5ad or .loom file "
                f"({type(error).__name__}: {error}). "
                "It may be cut short, or something else under that name."
            ) from error
        return _standardised(adata, path, order, label_columns)


def _read_loom(path: str | Path) -> AnnData:
    """Read the spliced counts of a loom file.

    By h5py rather than loompy, which is one more dependency to build, and reads every layer.
    """
    import h5py
    from anndata import AnnData

    with h5py.File(path) as file:
        counts = file["layers/spliced"] if "layers/spliced" in file else file["matrix"]
        # genes by cells, and dense: a few hundred genes at a time
        blocks = [
            sparse.csr_matrix(counts[i : i + 512], dtype=np.float32)
            for i in range(0, counts.shape[0], 512)
        ]
        obs = {
            key: file["col_attrs"][key].asstr()[()] for key in LABELS if key in file["col_attrs"]
        }
        cells, genes = file["col_attrs/CellID"].asstr()[()], file["row_attrs/Gene"].asstr()[()]
    return AnnData(
        sparse.vstack(blocks).T.tocsr(),
        obs=pd.DataFrame(obs, index=cells),
        var=pd.DataFrame(index=genes),
    )


def _standardised(
    adata: AnnData, path: str | Path, order: Iterable[str], label_columns: Sequence[str]
) -> AnnData:
    """Put counts, labels and library sizes where the package expects them; drop the rest."""
    from anndata import AnnData

    if adata.uns.get("simulated", False):
        raise ValueError(f"{path} holds simulated cells, which must not pass for real ones")
    counts = adata.layers.get("spliced", adata.X)
    if counts is None:
        raise ValueError(f"{path} holds no counts")
    counts = sparse.csr_matrix(counts, dtype=np.float32)
    if not np.isfinite(counts.data).all() or (counts.data < 0).any() or (counts.data % 1).any():
        raise ValueError(f"{path} does not hold raw counts: they must be whole and not negative")
    label = next((key for key in label_columns if key in adata.obs), None)
    if label is None or adata.obs[label].isna().any():
        raise ValueError(f"{path} must label every cell in the column {' or '.join(label_columns)}")
    labels = adata.obs[label].astype(str)
    known = [cluster for cluster in order if cluster in set(labels)]
    obs = adata.obs.copy()
    obs["clusters"] = pd.Categorical(labels, [*known, *sorted(set(labels) - set(known))])
    size = next((key for key in LIBRARY_SIZES if key in obs), None)
    obs["library_size"] = (
        np.ravel(counts.sum(axis=1, dtype=np.float64)) if size is None else obs[size].astype(float)
    )
    clean = AnnData(counts, obs=obs, var=pd.DataFrame(index=adata.var_names.astype(str)))
    clean.var_names_make_unique()
    clean.obs_names_make_unique()
    if "source" in adata.uns:
        clean.uns["source"] = str(adata.uns["source"])
    clean.uns["simulated"] = False
    return clean
