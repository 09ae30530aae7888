"""From counts to the numbers that the network sees, the same way for every data set."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from rpumap._counts import (
    LARGEST_VALUE,
    LEAST_CELLS,
    LIBRARY_SIZE,
    SMALLEST_VALUE,
    Counts,
    check_quality,
    listen,
    read_counts,
    some,
    warn,
)
from rpumap._validation import check_flag, check_integer, check_number, dense

if TYPE_CHECKING:
    from anndata import AnnData

MOST_MISSING = 0.5
# A parabola has 3 coefficients; the LOESS of seurat_v3 gives each of them the nearest 0.3 n genes,
# the furthest of these with weight 0. Of fewer genes it runs through every point, or crashes.
LEAST_VARYING = 17
# By what factor the share of the library in the chosen genes may differ from that in the training
# cells; and where row sums of fewer genes than on the other side explain the difference.
USUAL_FACTOR, CUT_FACTOR = 2.0, 1.25
# Spread of a constant, relative to it, that rounding may leave (in single precision).
ROUNDING = 1e-6


class _Transformer(TransformerMixin, BaseEstimator):
    """What scikit-learn wraps, so that z-scores come in the container that set_output names."""

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Return the names of the chosen genes, ``genes_``.

        Parameters
        ----------
        input_features : None
            Ignored; scikit-learn passes it.

        Returns
        -------
        ndarray of object, shape (n_top_genes,)
        """
        check_is_fitted(self)
        return self.genes_.astype(object)

    def transform(self, adata: AnnData) -> np.ndarray:
        return self.standardize(self.scale(adata))


class Preprocessor(_Transformer):
    """Choose genes, normalise library sizes and compute z-scores; then do the same to new cells.

    A transformer of scikit-learn, except that it takes an AnnData: it can be cloned, be a step of a
    ``Pipeline``, and return data frames (``set_output(transform="pandas")``).

    Parameters
    ----------
    n_top_genes : int, default 300
        Number of highly variable genes to keep. The number of genes in the data keeps them all.
    target_sum : float, default 1e4
        Library size to which every cell is scaled, in counts.
    log1p : bool, default False
        Take ``log(1 + x)`` after scaling. The paper does not; most analyses today do.
    layer : str, optional
        Name of the layer that holds the raw counts. By default they are in ``X``.

    Attributes
    ----------
    genes_ : ndarray of str, shape (n_top_genes,)
        Names of the chosen genes, in the order of the training data.
    mean_, std_ : ndarray of shape (n_top_genes,), float64
        Of each gene over the training cells after scaling (and log1p). ``std_`` is 1 for a gene
        that never varies.
    panel_share_ : float
        Share of a cell's library that lies in the chosen genes, median of the training cells.
    library_size_stored_ : bool
        Whether the training data had ``obs["library_size"]``.
    n_features_in_ : int
        Number of genes of the training data.

    Notes
    -----
    Section 2.3 of the paper: 300 genes by scanpy's ``highly_variable_genes`` with the flavour
    ``seurat_v3``, on counts; library size 10,000; z-scores with the standard deviation of
    ``scanpy.pp.scale`` (n - 1 in the denominator).

    The library size of a cell is ``obs["library_size"]`` where the data have it (a file that holds
    a part of the genes needs it), else the sum of the counts of all its genes. A stored one below
    the counts of its cell is an error. Whether row sums are library sizes cannot be seen from one
    table; so `transform` compares the share of the library in the chosen genes with
    ``panel_share_``, and warns if they differ by a factor of 2, or by 1.25 where one of the two
    tables has row sums of fewer genes than the other.

    Examples
    --------
    >>> import rpumap
    >>> adata = rpumap.datasets.pancreas(source="simulated")  # doctest: +ELLIPSIS
    >>> prep = rpumap.Preprocessor(n_top_genes=100)
    >>> X = prep.fit_transform(adata)
    >>> X.shape, str(X.dtype)
    ((3696, 100), 'float32')
    """

    def __init__(
        self,
        n_top_genes: int = 300,
        target_sum: float = 1e4,
        log1p: bool = False,
        layer: str | None = None,
    ) -> None:
        self.n_top_genes = n_top_genes
        self.target_sum = target_sum
        self.log1p = log1p
        self.layer = layer

    def fit(self, adata: AnnData, y: None = None) -> Preprocessor:
        """Choose the genes, and learn their means and standard deviations.

        Parameters
        ----------
        adata : AnnData of shape (n_cells, n_genes)
            Raw counts in ``X`` or the layer, dense or sparse, of any numeric type. It is not
            changed.
        y : None
            Ignored; scikit-learn passes it.

        Returns
        -------
        Preprocessor
            Itself.

        Raises
        ------
        TypeError
            If `adata` is not an AnnData.
        ValueError
            If a parameter is out of range; there are fewer than two cells; too few genes vary to
            choose from; names repeat; counts are negative, missing or all zero; or a stored library
            size is below the counts of its cell.

        Warns
        -----
        UserWarning
            If the counts or stored library sizes do not look like counts of molecules: fractions,
            0 and 1 only, nearly the same total in all cells; or if a cell has no counts.
        """
        self._check_parameters()
        counts = read_counts(adata, self.layer)
        check_quality(adata, counts)
        n_cells, n_genes = counts.values.shape
        if n_cells < 2:
            raise ValueError(f"at least two cells are needed, got {n_cells}")
        if self.n_top_genes > n_genes:
            raise ValueError(
                f"n_top_genes={self.n_top_genes} is more than the {n_genes} genes in the data: "
                f"n_top_genes={n_genes} keeps them all"
            )
        chosen = _variable_genes(counts.values, int(self.n_top_genes))
        self.genes_ = np.asarray(counts.genes[chosen], dtype=str)
        panel, _ = counts.of(self.genes_)
        self.mean_, self.std_ = moments(self._logged(self._scaled(panel, counts.library_size)))
        self.panel_share_ = _median_share(panel, counts.library_size)
        self.library_size_stored_ = counts.stored
        self.n_features_in_ = n_genes
        self._fitted_with = self._scaling()
        return self

    def transform(self, adata: AnnData) -> np.ndarray:
        """Prepare cells with the genes, means and standard deviations learnt in `fit`.

        Parameters
        ----------
        adata : AnnData of shape (n_cells, any number of genes)
            Raw counts in ``X`` or the layer; genes are found by name, in any order.

        Returns
        -------
        ndarray of shape (n_cells, n_top_genes), float32
            Z-scores. A gene that the data lack stands at its training mean, 0. After
            ``set_output`` a data frame, with the names of cells and genes.

        Raises
        ------
        ValueError
            If more than half of the genes are missing, the counts are bad as in `fit`, or
            ``target_sum`` or ``log1p`` changed since.

        Warns
        -----
        UserWarning
            If some genes are missing, or the share of the library in the chosen genes is far from
            ``panel_share_``, which tells of library sizes that are not those of all genes; and as
            `fit`.
        """
        z = super().transform(adata)
        if isinstance(z, pd.DataFrame):
            z.index = adata.obs_names
        return z

    def fit_transform(self, adata: AnnData, y: None = None) -> np.ndarray:
        """Fit to the cells, and prepare them.

        Parameters
        ----------
        adata : AnnData of shape (n_cells, n_genes)
            As in `fit`.
        y : None
            Ignored; scikit-learn passes it.

        Returns
        -------
        ndarray of shape (n_cells, n_top_genes), float32
            As `transform` returns them.
        """
        self.fit(adata)
        with listen():  # fit has said it of the same cells
            return self.transform(adata)

    def scale(self, adata: AnnData) -> np.ndarray:
        """Return the counts of the chosen genes, scaled to the target sum.

        Parameters
        ----------
        adata : AnnData of shape (n_cells, any number of genes)
            As `transform` takes it.

        Returns
        -------
        ndarray of shape (n_cells, n_top_genes), float64
            NaN for a gene that the data lack. No logarithms, whatever ``log1p`` is.

        Raises
        ------
        ValueError
            As `transform`.

        Warns
        -----
        UserWarning
            As `transform`.
        """
        check_preprocessor(self)
        counts = read_counts(adata, self.layer)
        check_quality(adata, counts)
        panel, present = counts.of(self.genes_)
        self._report_missing(adata, present)
        self._compare_shares(counts, panel, present)
        values = self._scaled(panel, counts.library_size)
        values[:, ~present] = np.nan
        return values

    def standardize(self, values: np.ndarray) -> np.ndarray:
        """Turn counts, scaled to the target sum, into z-scores (through log1p where that is set).

        Parameters
        ----------
        values : ndarray of shape (n_cells, n_top_genes)
            One column for each of ``genes_``; NaN for what was not measured.

        Returns
        -------
        ndarray of shape (n_cells, n_top_genes), float32
            A value that is NaN stands at the training mean, 0.

        Raises
        ------
        ValueError
            If the number of columns is another one, or ``target_sum`` or ``log1p`` changed since
            `fit`.
        """
        check_preprocessor(self)
        values = dense(values)
        if values.ndim != 2 or values.shape[1] != len(self.genes_):
            raise ValueError(
                f"values must have a column for each of {len(self.genes_)} genes, got the shape "
                f"{values.shape}"
            )
        z = (self._logged(values) - self.mean_) / self.std_
        return np.where(np.isnan(z), 0, z).astype(np.float32)

    def restore(self, **learnt: Any) -> Preprocessor:
        """Set what `fit` would have learnt, as kept in a file.

        Parameters
        ----------
        **learnt
            All attributes above, without the underscore at the end of their names.

        Returns
        -------
        Preprocessor
            Itself.
        """
        self._check_parameters()
        for name, value in learnt.items():
            setattr(self, f"{name}_", value)
        self._fitted_with = self._scaling()
        return self

    def _scaling(self) -> dict[str, Any]:
        return {"target_sum": self.target_sum, "log1p": self.log1p}

    def _check_parameters(self) -> None:
        check_integer("n_top_genes", self.n_top_genes, least=1)
        check_number("target_sum", self.target_sum, SMALLEST_VALUE, LARGEST_VALUE)
        check_flag("log1p", self.log1p)

    def _logged(self, values: np.ndarray) -> np.ndarray:
        return np.log1p(values) if self.log1p else values

    def _scaled(self, panel: np.ndarray, size: np.ndarray) -> np.ndarray:
        # a cell without counts stays at zero
        scale = np.divide(self.target_sum, size, out=np.zeros_like(size), where=size > 0)
        return panel * scale[:, None]

    def _report_missing(self, adata: AnnData, present: np.ndarray) -> None:
        missing = self.genes_[~present]
        if not len(missing):
            return
        found = f"{len(missing)} of {len(self.genes_)} genes are not in the data ({some(missing)})"
        cause = _name_mismatch(missing, adata)
        too_many = len(missing) > MOST_MISSING * len(self.genes_)
        if cause or too_many:
            found += f", which name their genes {some(adata.var_names)}"
        if too_many:
            raise ValueError(
                f"{found}: gene names must be of the same species and kind as those of the "
                f"training data{cause}"
            )
        warn(f"{found}: they are held at their training mean{cause}")

    def _compare_shares(self, counts: Counts, panel: np.ndarray, present: np.ndarray) -> None:
        """Warn where the chosen genes hold another share of the library than in training."""
        share = _median_share(panel, counts.library_size)
        typical = np.expm1(self.mean_) if self.log1p else self.mean_
        expected = self.panel_share_ * typical[present].sum() / typical.sum()
        if not expected > 0:
            return
        ratio = share / expected
        n_genes = len(counts.genes)
        # row sums are smaller than library sizes if genes were left out, here or in training
        cut_here = not counts.stored and (
            n_genes < self.n_features_in_ or self.library_size_stored_
        )
        cut_there = not self.library_size_stored_ and (
            n_genes > self.n_features_in_ or counts.stored
        )
        cut, usual = CUT_FACTOR, USUAL_FACTOR
        if len(panel) < LEAST_CELLS:  # which may all be of a rare type
            cut, usual = USUAL_FACTOR, np.inf
        if 1 / (cut if cut_there else usual) <= ratio <= (cut if cut_here else usual):
            return
        here, there = (
            f"obs['{LIBRARY_SIZE}']" if stored else f"row sums of {n} genes"
            for stored, n in (
                (counts.stored, n_genes),
                (self.library_size_stored_, self.n_features_in_),
            )
        )
        warn(
            f"the chosen genes hold {share:.3g} of a cell's library here and {expected:.3g} in the "
            f"training data (medians), {ratio:.3g} times as much: scaled counts differ by that "
            f"factor. Library sizes are {here} here, {there} in the training data. If genes were "
            f"left out of either, store the total counts of its cells in all genes as "
            f"obs['{LIBRARY_SIZE}']. Cells of other types can differ as well"
        )


def check_preprocessor(prep: Any) -> None:
    """Raise an error if z-scores of something cannot be what it learnt in fit.

    Parameters
    ----------
    prep : object
        What was passed as a Preprocessor.

    Raises
    ------
    TypeError
        If it is no Preprocessor.
    sklearn.exceptions.NotFittedError
        If it is not fitted.
    ValueError
        If ``target_sum`` or ``log1p`` changed since, for which ``mean_`` and ``std_`` do not hold.
    """
    if not isinstance(prep, Preprocessor):
        raise TypeError(f"prep must be a fitted Preprocessor, got {type(prep).__name__}")
    check_is_fitted(prep)
    if prep._scaling() != prep._fitted_with:
        raise ValueError(
            f"the Preprocessor was fitted with {prep._fitted_with}, but now has "
            f"{prep._scaling()}: call fit again, since means and spreads depend on these"
        )


def moments(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean and the standard deviation (n - 1) of each column, 1 for a constant.

    Examples
    --------
    >>> import numpy as np
    >>> from rpumap.preprocessing import moments
    >>> mean, std = moments(np.array([[1.0, 0.1], [3.0, 0.1]]))
    >>> mean.tolist(), std.round(3).tolist()
    ([2.0, 0.1], [1.414, 1.0])
    """
    mean, std = values.mean(axis=0), values.std(axis=0, ddof=1)
    return mean, np.where(std > ROUNDING * np.abs(mean), std, 1.0)


def library_size(adata: AnnData, layer: str | None = None) -> np.ndarray:
    """Total counts of each cell.

    Parameters
    ----------
    adata : AnnData of shape (n_cells, n_genes)
        Raw counts in ``X`` or the layer.
    layer : str, optional
        Name of the layer that holds the counts; by default ``X``.

    Returns
    -------
    ndarray of shape (n_cells,), float64
        ``obs["library_size"]`` where it is there, else the row sums of the counts.

    Raises
    ------
    TypeError
        If `adata` is not an AnnData.
    ValueError
        If a stored library size is not a finite number or is below the counts of its cell, beyond
        rounding; or counts are negative or missing.

    Examples
    --------
    >>> import numpy as np
    >>> from anndata import AnnData
    >>> from rpumap.preprocessing import library_size
    >>> library_size(AnnData(np.array([[1.0, 2.0], [0.0, 5.0]], dtype="float32"))).tolist()
    [3.0, 5.0]
    """
    return read_counts(adata, layer).library_size


# --- names of genes -----------------------------------------------------------------------------

SPELLINGS: dict[str, Callable[[str], str]] = {
    "upper and lower case": str.casefold,
    "white space or quotes as a prefix or suffix": lambda name: name.strip(" \t\r\n\xa0\ufeff'\""),
    "a version suffix such as '.7'": lambda name: re.sub(r"\.\d+$", "", name),
    "a prefix such as 'GRCh38_'": lambda name: re.sub(r"(?i)^(grc[hm]|hg|mm)\d+[_-]+", "", name),
    "dashes and underscores": lambda name: name.replace("_", "-"),
}


def _name_mismatch(missing: np.ndarray, adata: AnnData) -> str:
    """Say what would make most missing genes match names of the data; they are never matched so."""
    texts = adata.var.select_dtypes(exclude=["number", "bool"])
    columns = {f"adata.var[{key!r}]": texts[key].astype(str) for key in texts}
    others = {
        place: (names, f"assign {place} to adata.var_names") for place, names in columns.items()
    }
    others["adata.obs_names"] = (adata.obs_names, "cells and genes are exchanged: pass adata.T")
    if adata.raw is not None:
        others["adata.raw"] = (adata.raw.var_names, "pass adata.raw.to_adata()")
    spellings = {spelling: [spell] for spelling, spell in SPELLINGS.items()}
    spellings["several of these: " + ", ".join(SPELLINGS)] = list(SPELLINGS.values())

    def by_spelling(names: Iterable, place: str = "") -> list[tuple[int, str]]:
        found = []
        for spelling, steps in spellings.items():
            n_same = len(_spelled(missing, steps) & _spelled(names, steps))
            found.append((n_same, f"{n_same} would match{place} but for {spelling}: rename them"))
        return found

    elsewhere = []
    for place, (names, to_do) in others.items():
        n_same = len(_spelled(missing) & _spelled(names))
        elsewhere.append((n_same, f"{place} holds {n_same} of them: {to_do}"))
    for place, names in columns.items():
        elsewhere += by_spelling(names, f" {place}")
    # max takes the first of equal ones
    best = [max(ways, key=lambda way: way[0]) for ways in (by_spelling(adata.var_names), elsewhere)]
    most = max(n_same for n_same, _ in best)
    return ". " + "; ".join(advice for n_same, advice in best if n_same == most) if most else ""


def _spelled(names: Iterable, steps: Sequence[Callable[[str], str]] = ()) -> set[str]:
    spelled = {str(name) for name in names}
    for step in steps:
        spelled = {step(name) for name in spelled}
    return spelled


# --- choice of genes ----------------------------------------------------------------------------


def _median_share(panel: np.ndarray, size: np.ndarray) -> float:
    filled = size > 0
    return float(np.median(panel[filled].sum(axis=1) / size[filled])) if filled.any() else 0.0


def _variable_genes(values: csr_matrix, n_top_genes: int) -> np.ndarray:
    """Return which genes are highly variable (scanpy's seurat_v3), as a mask."""
    n_genes = values.shape[1]
    if n_top_genes == n_genes:
        return np.ones(n_genes, dtype=bool)
    varies, values = _varying(values)
    n_varying = int(varies.sum())
    if n_top_genes > n_varying:
        raise ValueError(
            f"n_top_genes={n_top_genes}, but only {n_varying} of {n_genes} genes vary between "
            f"cells: lower n_top_genes, or keep all genes with n_top_genes={n_genes}"
        )
    if n_top_genes == n_varying:
        return varies
    advice = (
        f"Keep all genes with n_top_genes={n_genes}, or choose them yourself: store the total "
        f"counts of cells in obs['{LIBRARY_SIZE}'], pass adata[:, genes], and set n_top_genes to "
        "their number"
    )
    if n_varying < LEAST_VARYING:
        raise ValueError(
            f"only {n_varying} of {n_genes} genes vary between cells; at least {LEAST_VARYING} are "
            f"needed to tell which of them vary more than their mean explains. {advice}"
        )
    table = _seurat_v3(values, n_top_genes)
    if table is None:
        n_means = len(np.unique(np.ravel(values.sum(axis=0))[varies]))
        raise ValueError(
            f"highly variable genes cannot be told: the {n_varying} genes that vary have too "
            f"similar means ({n_means} different ones) to fit a trend of variance against mean. "
            f"{advice}"
        )
    return table["highly_variable"].to_numpy()


def _varying(values: csr_matrix) -> tuple[np.ndarray, csr_matrix]:
    """Return which genes vary, and the counts with those of constant genes set to 0.

    Rounding makes the variance of a constant fraction differ from 0, and its logarithm an outlier.
    """
    n_cells, n_genes = values.shape
    n_found = np.bincount(values.indices, minlength=n_genes)
    everywhere = np.flatnonzero(n_found == n_cells)
    found = values[:, everywhere].toarray()
    low, high = found.min(axis=0, initial=np.inf), found.max(axis=0, initial=0)
    constant = np.zeros(n_genes, dtype=bool)
    constant[everywhere] = high - low <= ROUNDING * high
    if constant.any():
        values = values.copy()
        values.data[constant[values.indices]] = 0
    return ~constant & (n_found > 0), values


def _seurat_v3(values: csr_matrix, n_top_genes: int) -> pd.DataFrame | None:
    """Return scanpy's table of highly variable genes; None if its local regression fails."""
    import scanpy
    from anndata import AnnData as Table

    names = pd.DataFrame(index=pd.RangeIndex(values.shape[1]).astype(str))
    with warnings.catch_warnings():
        # whole numbers have been checked, with a message of our own
        warnings.filterwarnings("ignore", message=".*expects raw count data.*")
        try:
            table = scanpy.pp.highly_variable_genes(
                Table(values, var=names),
                flavor="seurat_v3",
                n_top_genes=n_top_genes,
                inplace=False,
            )
        except ValueError:  # "svddc failed in l2fit" and other words of the Fortran code
            return None
    return table if np.isfinite(table["variances_norm"]).all() else None
