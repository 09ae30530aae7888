"""From counts to the numbers that the network sees, the same way for every data set."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse import issparse
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

if TYPE_CHECKING:
    from anndata import AnnData

LIBRARY_SIZE = "library_size"
MOST_MISSING = 0.5


class Preprocessor(BaseEstimator):
    """Choose genes, normalise library sizes and compute z-scores; then do the same to new cells.

    Parameters
    ----------
    n_top_genes : int, default 300
        Number of highly variable genes to keep.
    target_sum : float, default 1e4
        Library size to which every cell is scaled, in counts.
    log1p : bool, default False
        Take ``log(1 + x)`` after scaling. The paper does not; most analyses today do.

    Attributes
    ----------
    genes_ : ndarray of str, shape (n_top_genes,)
        Names of the chosen genes, in the order of the training data.
    mean_, std_ : ndarray of shape (n_top_genes,), float64
        Of each gene over the training cells after scaling (and log1p). ``std_`` is 1 for a gene
        that never varies.

    Notes
    -----
    Section 2.3 of the paper: 300 genes by scanpy's ``highly_variable_genes`` with the flavour
    ``seurat_v3``, on counts; library size 10,000; z-scores with the standard deviation of
    ``scanpy.pp.scale`` (n - 1 in the denominator).

    The library size of a cell is ``obs["library_size"]`` where the data have it (a file that holds
    a part of the genes needs it), else the sum of the counts of all its genes.

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
        self, n_top_genes: int = 300, target_sum: float = 1e4, log1p: bool = False
    ) -> None:
        self.n_top_genes = n_top_genes
        self.target_sum = target_sum
        self.log1p = log1p

    def fit(self, adata: AnnData) -> Preprocessor:
        """Choose the genes, and learn their means and standard deviations.

        Parameters
        ----------
        adata : AnnData of shape (n_cells, n_genes)
            Raw counts in ``X``, dense or sparse. It is not changed.

        Returns
        -------
        Preprocessor
            Itself.

        Raises
        ------
        TypeError
            If `adata` is not an AnnData.
        ValueError
            If there are fewer than two cells or fewer genes than wanted, names repeat, or counts
            are negative, not finite or all zero.

        Warns
        -----
        UserWarning
            If the counts are not whole numbers, or a cell has none.
        """
        _check_counts(adata)
        if adata.n_obs < 2:
            raise ValueError(f"at least two cells are needed, got {adata.n_obs}")
        if not 1 <= self.n_top_genes <= adata.n_vars:
            raise ValueError(
                f"n_top_genes={self.n_top_genes} must lie between 1 and the number of genes in the "
                f"data, {adata.n_vars}"
            )
        self.genes_ = np.asarray(adata.var_names[self._variable_genes(adata)], dtype=str)
        values = self._logged(self._scaled(adata, self.genes_))
        self.mean_ = values.mean(axis=0)
        std = values.std(axis=0, ddof=1)
        self.std_ = np.where(std > 0, std, 1.0)
        return self

    def transform(self, adata: AnnData) -> np.ndarray:
        """Prepare cells with the genes, means and standard deviations learnt in `fit`.

        Parameters
        ----------
        adata : AnnData of shape (n_cells, any number of genes)
            Raw counts in ``X``; genes are found by name, in any order.

        Returns
        -------
        ndarray of shape (n_cells, n_top_genes), float32
            Z-scores. A gene that the data lack stands at its training mean, 0.

        Raises
        ------
        ValueError
            If more than half of the genes are missing, or the counts are bad as in `fit`.

        Warns
        -----
        UserWarning
            If some genes are missing.
        """
        check_is_fitted(self)
        _check_counts(adata)
        present = np.isin(self.genes_, adata.var_names)
        self._report_missing(self.genes_[~present])
        values = np.zeros((adata.n_obs, len(self.genes_)))
        values[:, present] = self._scaled(adata, self.genes_[present])
        z = self.standardize(values)
        z[:, ~present] = 0
        return z

    def standardize(self, values: np.ndarray) -> np.ndarray:
        """Turn counts, scaled to the target sum, into z-scores (through log1p where that is set).

        Parameters
        ----------
        values : ndarray of shape (n_cells, n_top_genes)
            One column for each of ``genes_``.

        Returns
        -------
        ndarray of shape (n_cells, n_top_genes), float32
        """
        check_is_fitted(self)
        return ((self._logged(values) - self.mean_) / self.std_).astype(np.float32)

    def fit_transform(self, adata: AnnData) -> np.ndarray:
        """Fit to the cells, and prepare them.

        Returns
        -------
        ndarray of shape (n_cells, n_top_genes), float32
        """
        return self.fit(adata).transform(adata)

    def _variable_genes(self, adata: AnnData) -> np.ndarray:
        import scanpy

        with warnings.catch_warnings():
            # whole numbers have been checked, with a message of our own
            warnings.filterwarnings("ignore", message=".*expects raw count data.*")
            table = scanpy.pp.highly_variable_genes(
                adata, flavor="seurat_v3", n_top_genes=self.n_top_genes, inplace=False
            )
        return table["highly_variable"].to_numpy()

    def _logged(self, values: np.ndarray) -> np.ndarray:
        return np.log1p(values) if self.log1p else values

    def _scaled(self, adata: AnnData, genes: np.ndarray) -> np.ndarray:
        size = library_size(adata)
        counts = adata[:, genes].X
        counts = counts.toarray() if issparse(counts) else np.asarray(counts)
        # a cell without counts stays at zero
        scale = np.divide(self.target_sum, size, out=np.zeros_like(size), where=size > 0)
        return counts * scale[:, None]

    def _report_missing(self, missing: np.ndarray) -> None:
        if not len(missing):
            return
        found = f"{len(missing)} of {len(self.genes_)} genes are not in the data"
        named = ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else "")
        if len(missing) > MOST_MISSING * len(self.genes_):
            raise ValueError(
                f"{found} ({named}): check that gene names are of the same species and kind as "
                f"those of the training data ({', '.join(self.genes_[:3])}, ...)"
            )
        warnings.warn(f"{found} ({named}): they are held at their training mean", stacklevel=3)


def library_size(adata: AnnData) -> np.ndarray:
    """Total counts of each cell.

    Parameters
    ----------
    adata : AnnData of shape (n_cells, n_genes)
        Raw counts in ``X``.

    Returns
    -------
    ndarray of shape (n_cells,), float64
        ``obs["library_size"]`` where it is there, else the row sums of ``X``.

    Raises
    ------
    ValueError
        If a library size is negative or not finite.

    Examples
    --------
    >>> import numpy as np
    >>> from anndata import AnnData
    >>> from rpumap.preprocessing import library_size
    >>> library_size(AnnData(np.array([[1.0, 2.0], [0.0, 5.0]], dtype="float32"))).tolist()
    [3.0, 5.0]
    """
    if LIBRARY_SIZE in adata.obs:
        size = adata.obs[LIBRARY_SIZE].to_numpy(dtype=np.float64)
        if not np.isfinite(size).all() or (size < 0).any():
            raise ValueError(f"obs['{LIBRARY_SIZE}'] must hold finite numbers of at least 0")
        return size
    return np.asarray(adata.X.sum(axis=1), dtype=np.float64).ravel()


def panel_counts(prep: Preprocessor, adata: AnnData) -> np.ndarray:
    """Return the counts of a preprocessor's genes, (n_cells, n_top_genes); 0 for those missing."""
    present = np.isin(prep.genes_, adata.var_names)
    counts = np.zeros((adata.n_obs, len(present)))
    found = adata[:, prep.genes_[present]].X
    counts[:, present] = found.toarray() if issparse(found) else found
    return counts


def uncounted(adata: AnnData, counts: np.ndarray) -> np.ndarray:
    """Return what a cell's library holds besides some of its counts; ValueError if less than 0."""
    rest = library_size(adata) - counts.sum(axis=1)
    if (rest < 0).any():
        cell = int(np.flatnonzero(rest < 0)[0])
        raise ValueError(f"cell {cell} has a library size below the sum of its counts")
    return rest


def _check_counts(adata: AnnData) -> None:
    from anndata import AnnData as Table

    if not isinstance(adata, Table):
        raise TypeError(
            f"an AnnData with raw counts in X is needed, not {type(adata).__name__}: "
            "wrap an array as anndata.AnnData(counts), with gene names in var_names"
        )
    if adata.X is None or 0 in adata.shape:
        raise ValueError(f"the data hold no counts: shape {adata.shape}")
    if not adata.var_names.is_unique:
        raise ValueError("gene names repeat: call adata.var_names_make_unique() first")
    counts = adata.X.data if issparse(adata.X) else np.asarray(adata.X)
    if not np.isfinite(counts).all() or (counts < 0).any():
        raise ValueError("counts must be finite and not negative: pass raw counts, not z-scores")
    if not counts.any():
        raise ValueError("all counts are zero")
    if not np.array_equal(counts, np.floor(counts)):
        warnings.warn(
            "counts are not whole numbers: raw counts are expected, not normalised ones",
            stacklevel=3,
        )
    n_empty = int((library_size(adata) == 0).sum())
    if n_empty:
        warnings.warn(f"{n_empty} cells have no counts at all", stacklevel=3)
