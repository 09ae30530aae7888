"""Real cells of two tissues, each measured in two studies, and names of their types in common.

Their files are read from the folder ``RPUMAP_DATA_DIR`` alone: they are neither downloaded nor
simulated. Scripts in ``book/`` make them from the published tables.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd

from rpumap.datasets._published import DATA_DIR_VARIABLE, find, read_found

if TYPE_CHECKING:
    from anndata import AnnData


@dataclass(frozen=True)
class Study:
    """A file of cells, and what its labels are called in both studies of a tissue.

    Its labels stand in `column` of ``obs``. The keys of `names` are these labels in the order of
    ``obs["clusters"]``, and the values what both studies call them; other labels have no such name.
    """

    filename: str
    column: str
    names: Mapping[str, str]
    recipe: str


STUDIES: Mapping[str, Mapping[str, Study]] = {
    "malaria": {
        "10x": Study(
            "malaria_pberghei_10x.h5ad",
            "stage",
            {
                "IDC1_ring/merozoite(cl6)": "ring",
                "IDC2_ring(cl2)": "ring",
                "IDC3_late_ring(cl0)": "ring",
                "IDC4_early_troph(cl1)": "trophozoite",
                "IDC5_late_troph(cl3)": "trophozoite",
                "IDC6_schizont(cl4)": "schizont",
                "IDC7_schizont(cl7)": "schizont",
                "IDC8_late_schizont(cl5)": "schizont",
                "gametocyte_male": "male",
                "gametocyte_female": "female",
            },
            "book/make_malaria.py",
        ),
        "smartseq2": Study(
            "malaria_reid_PbM.h5ad",
            "consensus",
            {name: name for name in ("trophozoite", "schizont", "male", "female")},
            "book/make_malaria.py",
        ),
    },
    "pbmc": {
        "facs": Study(
            "pbmc_facs_zheng2017.h5ad",
            "subpop",
            {
                "CD34+": "CD34+",
                "B cell": "B",
                "T cell": "T",
                "NK cell": "NK",
                "CD14+": "monocyte",
            },
            "book/make_pbmc.py",
        ),
        "pbmc3k": Study(
            "pbmc3k_10x_raw.h5ad",
            "cell_type",
            {
                # as Seurat's tutorial names the clusters
                "B": "B",
                "Naive CD4 T": "T",
                "Memory CD4 T": "T",
                "CD8 T": "T",
                "NK": "NK",
                "CD14+ Mono": "monocyte",
                "FCGR3A+ Mono": "monocyte",
                # and as scanpy's does
                "B cells": "B",
                "CD4 T cells": "T",
                "CD8 T cells": "T",
                "NK cells": "NK",
                "CD14+ Monocytes": "monocyte",
                "FCGR3A+ Monocytes": "monocyte",
            },
            "book/make_pbmc.py",
        ),
    },
}


def load_study(tissue: str, study: str) -> AnnData:
    """Read the cells of a study, and name their types as both studies of the tissue do.

    Parameters
    ----------
    tissue : {"malaria", "pbmc"}
        A key of `STUDIES`.
    study : str
        A key of ``STUDIES[tissue]``.

    Returns
    -------
    AnnData
        As :func:`rpumap.datasets.malaria` and :func:`rpumap.datasets.pbmc` describe it.

    Raises
    ------
    ValueError
        If `study` is unknown, or the file is broken, lacks labels or holds no raw counts.
    RuntimeError
        If the file is not in the folder that ``RPUMAP_DATA_DIR`` names.
    """
    studies = STUDIES[tissue]
    if study not in studies:
        raise ValueError(f"study must be {' or '.join(map(repr, studies))}, not {study!r}")
    chosen = studies[study]
    path, lacking = find([chosen.filename])
    if path is None:
        folder = os.environ.get(DATA_DIR_VARIABLE, "").strip()
        found = f"the folder that it names {lacking} ({folder})" if lacking else "it is not set"
        raise RuntimeError(
            f"These cells are read from {chosen.filename} in the folder that the environment "
            f"variable {DATA_DIR_VARIABLE} names, but {found}. The file is not downloaded, and "
            "there is no simulated stand-in. Make it from the published tables by "
            f"{chosen.recipe} of the rpumap repository, which says where they are, and set "
            f"{DATA_DIR_VARIABLE} to its folder."
        )
    adata = read_found(path, chosen.names, [chosen.column])
    common = [name for other in studies.values() for name in other.names.values()]
    labels = adata.obs["clusters"].astype(object).map(chosen.names)
    adata.obs["label"] = pd.Categorical(labels, list(dict.fromkeys(common)))
    return adata
