"""Checks of what a caller passes in, each written once: numbers, choices, tables and labels.

Every check names the argument, says what was found, and says what is needed.
"""

from __future__ import annotations

import numbers
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy.sparse import issparse
from sklearn import config_context
from sklearn.utils import check_random_state
from sklearn.utils.validation import validate_data

if TYPE_CHECKING:
    from numpy.typing import ArrayLike
    from sklearn.base import BaseEstimator


def check_number(
    name: str, value: Any, least: float = 0.0, most: float = np.inf, *, above: bool = False
) -> float:
    """Return a finite number from `least` to `most`; raise ValueError if it is anything else.

    Parameters
    ----------
    name : str
        Name of the argument, for the message.
    value : object
        What was given. Booleans and text are no numbers.
    least, most : float
        Smallest and largest value allowed.
    above : bool
        Whether `least` itself is not allowed.

    Examples
    --------
    >>> from rpumap._validation import check_number
    >>> check_number("eps", 0.2)
    0.2
    """
    number = np.nan
    if isinstance(value, numbers.Real) and not isinstance(value, bool | np.bool_):
        try:
            number = float(value)
        except OverflowError:  # a whole number that no float can hold
            number = np.inf
    in_range = least <= number <= most and np.isfinite(number)
    if not in_range:
        limits = (
            f"a finite number of at least {least:g}"
            if most == np.inf
            else (f"a number from {least:g} to {most:g}")
        )
        raise ValueError(f"{name} must be {limits}, got {value!r}")
    if above and number == least:
        raise ValueError(f"{name} must be above {least:g}, got {value!r}")
    return number


def check_integer(name: str, value: Any, least: int, most: int | None = None) -> int:
    """Return a whole number from `least` to `most`; raise ValueError if it is anything else.

    Examples
    --------
    >>> from rpumap._validation import check_integer
    >>> check_integer("k", 15, least=1)
    15
    """
    is_integer = isinstance(value, numbers.Integral) and not isinstance(value, bool | np.bool_)
    if not is_integer or value < least or (most is not None and value > most):
        limits = f"of at least {least}" if most is None else f"from {least} to {most}"
        raise ValueError(f"{name} must be an integer {limits}, got {value!r}")
    return int(value)


def check_seed(random_state: Any) -> np.random.RandomState:
    """Return a source of randomness from an integer, a RandomState or None; else ValueError.

    Examples
    --------
    >>> from rpumap._validation import check_seed
    >>> int(check_seed(0).randint(100))
    44
    """
    try:
        return check_random_state(random_state)
    except ValueError:
        raise ValueError(
            "random_state must be a seed (an integer from 0 to 2**32 - 1), None or a "
            f"numpy.random.RandomState, got {random_state!r}"
        ) from None


def check_choice(name: str, value: Any, known: Collection[str]) -> str:
    """Return one of the known names; raise ValueError if it is anything else.

    Examples
    --------
    >>> from rpumap._validation import check_choice
    >>> check_choice("norm", "l2", ("linf", "l2", "l1"))
    'l2'
    """
    if not isinstance(value, str) or value not in known:
        raise ValueError(f"{name} must be one of {', '.join(known)}, got {value!r}")
    return value


def check_flag(name: str, value: Any) -> bool:
    """Return True or False; raise ValueError if it is anything else.

    Examples
    --------
    >>> from rpumap._validation import check_flag
    >>> check_flag("log1p", True)
    True
    """
    if not isinstance(value, bool | np.bool_):
        raise ValueError(f"{name} must be True or False, got {value!r}")
    return bool(value)


def check_labels(labels: ArrayLike, n_cells: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the names of the labels, sorted, and the number of each cell's label among them.

    Parameters
    ----------
    labels : array-like of shape (n_cells,)
        One label a cell; text, numbers or a categorical.
    n_cells : int
        Number of cells.

    Returns
    -------
    names : ndarray of shape (n_labels,)
    codes : ndarray of shape (n_cells,), int64

    Raises
    ------
    ValueError
        If there is not one label a cell, or labels are missing (NaN, None or NA).

    Examples
    --------
    >>> from rpumap._validation import check_labels
    >>> names, codes = check_labels(["b", "a", "b"], 3)
    >>> names.tolist(), codes.tolist()
    (['a', 'b'], [1, 0, 1])
    """
    import pandas as pd

    if isinstance(labels, str) or np.ndim(labels) != 1:
        raise ValueError(
            f"labels must hold one label for each of {n_cells} cells, got "
            f"{labels if isinstance(labels, str) else np.shape(labels)!r}: "
            "pass the column itself, such as adata.obs['clusters']"
        )
    column = pd.Series(labels)
    if len(column) != n_cells:
        raise ValueError(f"{len(column)} labels for {n_cells} cells")
    n_missing = int(column.isna().sum())
    if n_missing:
        raise ValueError(
            f"labels: {n_missing} of {n_cells} are missing (NaN, None or NA). "
            "Leave those cells out, or give them a label of their own, such as 'unknown'"
        )
    values = column.to_numpy()
    if values.dtype == object and len({type(value) for value in values}) > 1:
        values = values.astype(str)  # text and numbers side by side cannot be sorted
    names, codes = np.unique(values, return_inverse=True)
    return names, codes


def is_annotated(X: Any) -> bool:
    """Tell whether something is an AnnData, or one of its parts with names of cells and genes."""
    return hasattr(X, "var_names") and hasattr(type(X), "X")  # reading X may open a file


def check_coordinates(name: str, Z: Any, n_columns: int | None = None) -> np.ndarray:
    """Return coordinates, or z-scores, that a caller passes in as an array, checked.

    Parameters
    ----------
    name : str
        Name of the argument, for the message.
    Z : array-like, tensor or sparse matrix of shape (n_cells, n_columns)
        Any number of cells, none included.
    n_columns : int, optional
        How many columns there must be; by default any number.

    Returns
    -------
    ndarray of shape (n_cells, n_columns)
        Of the numeric type of `Z`.

    Raises
    ------
    TypeError
        If `Z` is an AnnData, or holds no real numbers.
    ValueError
        If the shape is another one, or a value is missing or infinite.

    Examples
    --------
    >>> from rpumap._validation import check_coordinates
    >>> check_coordinates("Z", [[0.0, 1.0]], n_columns=2)
    array([[0., 1.]])
    """
    if is_annotated(Z):
        raise TypeError(
            f"{name} must be an array, not {type(Z).__name__}: pass what a model returned, or an "
            "entry of adata.obsm, such as adata.obsm['X_umap']"
        )
    if hasattr(Z, "detach"):
        Z = Z.detach().cpu()
    array = Z.toarray() if issparse(Z) else np.asarray(Z)
    if array.dtype.kind not in "biuf":
        raise TypeError(f"{name} must hold real numbers, got {type(Z).__name__} of {array.dtype}")
    if array.ndim != 2 or n_columns not in (None, array.shape[1]):
        wanted = "" if n_columns is None else f" with {n_columns} columns"
        raise ValueError(f"{name} must be a table{wanted}, got the shape {array.shape}")
    if np.ma.is_masked(Z) or not np.isfinite(array).all():
        raise ValueError(f"{name} holds values that are missing or infinite")
    return array


def check_cells(model: BaseEstimator, X: Any, *, reset: bool = False, least: int = 1) -> np.ndarray:
    """Return the z-scores that a caller gives to a model as an array, checked once.

    Parameters
    ----------
    model : BaseEstimator
        Knows the number and, from a DataFrame, the names of its genes.
    X : array-like, tensor or sparse matrix of shape (n_cells, n_genes)
        Z-scores.
    reset : bool
        Whether `model` is to learn number and names of genes from `X`, as in ``fit``.
    least : int
        Smallest number of cells allowed.

    Returns
    -------
    ndarray of shape (n_cells, n_genes), float32
        Contiguous and writeable.

    Raises
    ------
    TypeError
        If `X` is an AnnData, or a tensor that cannot be read as an array.
    ValueError
        If the genes are not those of the model, a value is not finite or masked, or there are too
        few cells.
    """
    if is_annotated(X):
        raise TypeError(
            f"an array of z-scores is needed, not {type(X).__name__}: pass an AnnData to "
            "Preprocessor.fit_transform (or .transform) first, or pass adata.obsm['X_pca']"
        )
    if isinstance(X, torch.Tensor):
        X = _from_tensor(X)
    if np.ma.is_masked(X):
        raise ValueError(f"X holds {np.ma.count_masked(X)} missing (masked) values")
    with config_context(assume_finite=False):  # NaN would be blamed on the training, or unseen
        X = validate_data(
            model,
            X,
            dtype=np.float32,
            accept_sparse="csr",
            reset=reset,
            ensure_min_samples=least,
        )
    return dense(X)


def _from_tensor(X: torch.Tensor) -> Any:
    if X.requires_grad:
        raise TypeError("X is a tensor that requires gradients: pass X.detach()")
    X = X.cpu()
    if X.layout != torch.strided:
        X = X.to_dense()
    return (X.float() if X.dtype == torch.bfloat16 else X).numpy()


def dense(X: Any) -> np.ndarray:
    """Return an array or sparse matrix as an array in row order that can be written to.

    PyTorch shares memory with NumPy, so that a read-only array (a memory map, say) is copied.

    Examples
    --------
    >>> from scipy.sparse import eye
    >>> from rpumap._validation import dense
    >>> dense(eye(2)).tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """
    return np.require(X.toarray() if issparse(X) else X, requirements=["C", "W"])


def choose_device(device: str | torch.device) -> torch.device:
    """Return the device of that name, or of ``"auto"``; ValueError if it cannot be used here.

    Examples
    --------
    >>> from rpumap._validation import choose_device
    >>> choose_device("cpu")
    device(type='cpu')
    """
    if isinstance(device, str) and device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError, TypeError) as error:
        raise ValueError(f"device={device!r} cannot be used here: {error}") from None
    return chosen
