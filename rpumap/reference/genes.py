"""Gene names of a query as the reference has them: never guessed, only as told."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from rpumap._counts import some
from rpumap._validation import check_choice

if TYPE_CHECKING:
    from anndata import AnnData

Match = Literal["exact", "version", "case"]
SPELL: Mapping[str, Callable[[Any], str]] = {
    "exact": str,
    "version": lambda name: re.sub(r"\.\d+$", "", str(name)),
    "case": lambda name: str(name).casefold(),
}


def rename_genes(
    query: AnnData,
    genes: Sequence[str] | np.ndarray,
    gene_names: Sequence[str] | Mapping[str, str] | str | None = None,
    match: Match = "exact",
) -> np.ndarray:
    """Return names of the query's genes, those of the reference where they are the same gene.

    Parameters
    ----------
    query : AnnData
        Its ``var_names`` and ``var`` are read.
    genes : sequence of str
        Genes of the reference.
    gene_names : sequence of str, mapping, or str, optional
        One name for each gene of the query, a table from its names to others (genes that it lacks
        keep theirs), or a column of ``query.var``. By default ``query.var_names``.
    match : {"exact", "version", "case"}
        What may differ: nothing, the version of an Ensembl id, or upper and lower case.

    Returns
    -------
    ndarray of str, shape (n_genes,)

    Raises
    ------
    KeyError
        If there is no such column.
    ValueError
        If the number of names is another one, `match` is unknown, or two genes of the query, or of
        the reference, would become the same one.

    Examples
    --------
    >>> import numpy as np
    >>> from anndata import AnnData
    >>> from rpumap.reference.genes import rename_genes
    >>> query = AnnData(np.zeros((1, 2)))
    >>> query.var_names = ["ENSG1.2", "ENSG7.1"]
    >>> rename_genes(query, ["ENSG1", "ENSG3"], match="version").tolist()
    ['ENSG1', 'ENSG7.1']
    """
    check_choice("match", match, SPELL)
    names = _names(query, gene_names)
    spell = SPELL[match]
    of_reference: dict[str, str] = {}
    for gene in map(str, genes):
        if spell(gene) in of_reference:
            raise ValueError(
                f"match={match!r} cannot tell {of_reference[spell(gene)]!r} and {gene!r} of the "
                "reference apart"
            )
        of_reference[spell(gene)] = gene
    renamed = np.array([of_reference.get(spell(name), name) for name in names], dtype=object)
    found = renamed[np.isin(renamed, list(of_reference.values()))]
    values, counts = np.unique(found.astype(str), return_counts=True)
    if (counts > 1).any():
        raise ValueError(
            f"several genes of the query become the same gene of the reference "
            f"({some(values[counts > 1])}): add up their counts first, or keep one of them"
        )
    return _unique(renamed)


def _names(query: AnnData, gene_names: Sequence[str] | Mapping[str, str] | str | None) -> list[str]:
    if gene_names is None:
        return list(map(str, query.var_names))
    if isinstance(gene_names, Mapping):
        return [str(gene_names.get(name, name)) for name in map(str, query.var_names)]
    if isinstance(gene_names, str):
        if gene_names not in query.var:
            raise KeyError(
                f"there is no column {gene_names!r} in query.var, which has "
                f"{some(list(query.var.columns)) or 'none'}"
            )
        gene_names = list(map(str, np.asarray(query.var[gene_names])))
    if len(gene_names) != query.n_vars:
        raise ValueError(
            f"gene_names must have a name for each of {query.n_vars} genes, got {len(gene_names)}"
        )
    return list(map(str, gene_names))


def _unique(names: np.ndarray) -> np.ndarray:
    """Tell repeated names apart that are none of the reference: they count for library sizes."""
    seen: dict[str, int] = {}
    unique = []
    for name in names:
        seen[name] = seen.get(name, -1) + 1
        unique.append(f"{name} ({seen[name]})" if seen[name] else name)
    return np.array(unique, dtype=object)
