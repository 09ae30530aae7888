"""The data sets of the book, real or simulated, and simulated lineages of your own.

Real cells are looked for in the folder that the environment variable ``RPUMAP_DATA_DIR`` names,
then among earlier downloads. Only ``source="real"`` goes to the network. Malaria parasites and
blood cells, of two studies each, come from the folder alone.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pandas as pd

from rpumap.datasets._published import cache_folder, download, from_cache, from_folder
from rpumap.datasets._simulate import simulate_lineage
from rpumap.datasets._studies import load_study

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["dentate_gyrus", "malaria", "pancreas", "pbmc", "simulate_lineage"]

Source = Literal["auto", "real", "simulated"]


def pancreas(
    source: Source = "auto", *, cache_dir: str | Path | None = None, random_state: int = 0
) -> AnnData:
    """Mouse pancreas at embryonic day 15.5: ductal cells become four kinds of endocrine cells.

    Parameters
    ----------
    source : {"auto", "real", "simulated"}
        ``"real"`` takes ``pancreas.h5ad`` from the folder that the environment variable
        ``RPUMAP_DATA_DIR`` names, else an earlier download, else downloads about 50 MB: scVelo's
        file of 3,696 cells or, if that cannot be had, CellRank's subset of 2,531. ``"simulated"``
        draws a stand-in. ``"auto"`` does as ``"real"`` but never downloads: it prints a line and
        returns the stand-in instead.
    cache_dir : path, optional
        Folder of the downloads. Default: the user's cache folder.
    random_state : int, default 0
        Seed of the stand-in.

    Returns
    -------
    AnnData
        Raw counts in ``X`` (CSR, float32), ``obs["clusters"]`` in lineage order, and
        ``obs["library_size"]``, the counts of each cell in all genes, of which the file may hold a
        part. ``uns["source"]`` says what the cells are, ``uns["simulated"]`` whether they are
        simulated; if so, ``obs["branch"]`` and ``obs["pseudotime"]`` hold the truth.

    Raises
    ------
    ValueError
        If `source` is unknown, or a file is broken or not what it should be.
    RuntimeError
        If real cells are asked for and cannot be had; the message says what to do.

    Notes
    -----
    The stand-in has the cluster names, cluster sizes and lineage of the real set, and negative
    binomial counts of 900 of its genes. Its tables hold rates, dispersions and four programmes of
    covariation, computed from the real cells by ``book/summarise_pancreas.py``. How crowded the
    cells lie where two clusters meet is chosen such that neighbours in the lineage share as many
    edges of the graph of 15 nearest neighbours as in the real set.

    Examples
    --------
    >>> import rpumap
    >>> adata = rpumap.datasets.pancreas(source="simulated")
    >>> adata.n_obs, adata.uns["simulated"]
    (3696, True)
    """
    return _load("pancreas", source, cache_dir, lambda: _simulated_pancreas(random_state))


def dentate_gyrus(
    source: Source = "auto", *, cache_dir: str | Path | None = None, random_state: int = 0
) -> AnnData:
    """Mouse dentate gyrus after birth: radial glia become neurons, astrocytes and OPCs.

    Parameters
    ----------
    source : {"auto", "real", "simulated"}
        As for `pancreas`. The file in ``RPUMAP_DATA_DIR`` is ``dentate_gyrus.h5ad`` or
        ``dentate_gyrus.loom``; the download is velocyto's file of 18,213 cells.
    cache_dir, random_state : optional
        As for `pancreas`.

    Returns
    -------
    AnnData
        As for `pancreas`.

    Raises
    ------
    ValueError, RuntimeError
        As for `pancreas`.

    Notes
    -----
    The stand-in uses no measured counts. It has the published cluster names and number of
    cells; the sizes of the clusters are illustrative. 56 marker genes have rates set by hand
    after what is known of the cell types, and the other genes (``gene_1`` ...) are generated.

    Examples
    --------
    >>> import rpumap
    >>> adata = rpumap.datasets.dentate_gyrus(source="simulated")
    >>> adata.n_obs, adata.uns["simulated"]
    (18213, True)
    """
    return _load("dentate_gyrus", source, cache_dir, lambda: _simulated_dentate_gyrus(random_state))


def malaria(study: Literal["10x", "smartseq2"] = "10x") -> AnnData:
    """Malaria parasites in the blood (*Plasmodium berghei*): one closed cycle, and gametocytes.

    Parameters
    ----------
    study : {"10x", "smartseq2"}
        ``"10x"``: 4,884 cells of one 10x run with three time points, from the Malaria Cell Atlas
        (Howick et al. 2019, doi 10.1126/science.aaw2619); the file is
        ``malaria_pberghei_10x.h5ad``. ``"smartseq2"``: 144 cells of another laboratory method,
        which counts reads, not molecules (Reid et al. 2018, doi 10.7554/eLife.33105); the file is
        ``malaria_reid_PbM.h5ad``.

    Returns
    -------
    AnnData of shape (n_cells, n_genes)
        Raw counts in ``X`` (CSR, float32) and all columns of ``obs`` that the file has, among them
        ``"library_size"``, the counts of each cell in all genes, of which the file may hold a part.
        To them it adds ``obs["clusters"]``, the study's own labels in the order of the cycle, then
        gametocytes; and ``obs["label"]``, which names them alike in both studies: ring (in the
        10x study alone), trophozoite, schizont, male, female. It is missing where a cell has no
        such name. ``uns["source"]`` says what the cells are; ``uns["simulated"]`` is False.

    Raises
    ------
    RuntimeError
        If the file is not in the folder that the environment variable ``RPUMAP_DATA_DIR`` names.
    ValueError
        If `study` is unknown; or the file is broken, does not label every cell or holds no raw
        counts.

    Notes
    -----
    Files made by the recipe have, in the 10x study, ``obs["stage"]``; ``"bulk_hour"``, the hour
    of a bulk time course that the cell resembles most; and ``"clock_pseudotime"``, the authors'
    angle around the cycle in radians, NaN for gametocytes. The asexual stages IDC1 to IDC8 are a
    circle: IDC8, the ripe schizont, bursts into the merozoites and young rings of IDC1.
    Gametocytes leave it. In the Smart-seq2 study ``obs["consensus"]`` is what the authors decided
    from several methods; seven cells are outliers, which have no ``obs["label"]``.

    The files are neither downloaded nor simulated. ``python book/make_malaria.py`` makes them from
    the published tables, and says where these are. Their repositories state the licence GPL-3.0;
    this package and its book contain none of the cells.

    Examples
    --------
    >>> import rpumap
    >>> adata = rpumap.datasets.malaria()  # doctest: +SKIP
    >>> adata.n_obs, len(adata.obs["clusters"].cat.categories)  # doctest: +SKIP
    (4884, 10)
    >>> query = rpumap.datasets.malaria("smartseq2")  # doctest: +SKIP
    >>> query.n_obs, int(query.obs["label"].isna().sum())  # doctest: +SKIP
    (144, 7)
    """
    return load_study("malaria", study)


def pbmc(study: Literal["facs", "pbmc3k"] = "facs") -> AnnData:
    """Human blood cells (PBMC): types told apart by antibodies, or by clustering.

    Parameters
    ----------
    study : {"facs", "pbmc3k"}
        ``"facs"``: ten populations that were sorted by antibodies before sequencing (Zheng et al.
        2017, doi 10.1038/ncomms14049), so that the labels do not depend on the counts; the file is
        ``pbmc_facs_zheng2017.h5ad``. ``"pbmc3k"``: 2,700 cells of one healthy donor, published by
        10x Genomics, with the labels of a clustering; the file is ``pbmc3k_10x_raw.h5ad``.

    Returns
    -------
    AnnData of shape (n_cells, n_genes)
        Raw counts in ``X`` (CSR, float32) and all columns of ``obs`` that the file has, among them
        ``"library_size"``, the counts of each cell in all genes, of which the file may hold a part.
        To them it adds ``obs["clusters"]``, the study's own labels: ``obs["subpop"]`` of the sorted
        cells, ``obs["cell_type"]`` of the others; and ``obs["label"]``, which names them alike in
        both studies: CD34+ (among the sorted cells alone), B, T, NK, monocyte. It is missing where
        a cell has no such name. ``uns["source"]`` says what the cells are; ``uns["simulated"]`` is
        False.

    Raises
    ------
    RuntimeError, ValueError
        As for `malaria`.

    Notes
    -----
    The sorted populations are not pure, the CD34+ cells least. ``obs["cell_type"]`` of the sorted
    cells names all ten of them, six of T cells. In the other study dendritic cells, platelets and
    cells that the clustering left out have no ``obs["label"]``.

    The files are neither downloaded nor simulated. ``python book/make_pbmc.py`` makes them from the
    published matrices, and says where these are.

    Examples
    --------
    >>> import rpumap
    >>> reference = rpumap.datasets.pbmc("facs")  # doctest: +SKIP
    >>> list(reference.obs["label"].cat.categories)  # doctest: +SKIP
    ['CD34+', 'B', 'T', 'NK', 'monocyte']
    >>> query = rpumap.datasets.pbmc("pbmc3k")  # doctest: +SKIP
    >>> query.n_obs, int(query.obs["label"].isna().sum())  # doctest: +SKIP
    (2700, 108)
    """
    return load_study("pbmc", study)


def _load(
    name: str, source: Source, cache_dir: str | Path | None, simulate: Callable[[], AnnData]
) -> AnnData:
    """Take the first of folder, earlier download, download (if allowed) and stand-in."""
    if source not in ("auto", "real", "simulated"):
        raise ValueError(f"source must be 'auto', 'real' or 'simulated', not {source!r}")
    if source == "simulated":
        return simulate()
    adata = from_folder(name)
    if adata is None:
        folder = cache_folder(cache_dir)
        adata = from_cache(name, folder)
        if adata is None and source == "real":
            adata = download(name, folder)
    if adata is not None:
        return adata
    adata = simulate()
    print(
        f"No real {name.replace('_', ' ')} cells were found: these {adata.n_obs:,} are SIMULATED. "
        "source='real' downloads the published ones."
    )
    return adata


def _simulated_pancreas(random_state: int) -> AnnData:
    clusters, genes = _table("pancreas_clusters.csv"), _table("pancreas_genes.csv")
    adata = simulate_lineage(clusters, genes, random_state=random_state)
    adata.uns["source"] = (
        "simulated: stand-in for the mouse pancreas at E15.5, drawn from summary numbers of the "
        "real cells; no cell in it was measured"
    )
    return adata


def _simulated_dentate_gyrus(random_state: int) -> AnnData:
    clusters = _table("dentate_gyrus_clusters.csv")
    markers = _table("dentate_gyrus_markers.csv").reset_index()
    rates = markers.pivot(index="gene", columns="cluster", values="rate").fillna(0.05)
    adata = simulate_lineage(clusters, rates, n_genes=500, random_state=random_state)
    adata.uns["source"] = (
        "simulated: stand-in for the mouse dentate gyrus, made by hand from its known lineage and "
        "markers; no cell in it was measured, and the cluster sizes are illustrative"
    )
    return adata


def _table(filename: str) -> pd.DataFrame:
    with resources.files("rpumap.datasets").joinpath("tables", filename).open() as file:
        return pd.read_csv(file, index_col=0, comment="#")
