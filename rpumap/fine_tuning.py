r"""Train a fitted model further, with a term of its own and one that keeps the map in place.

The second is the reconstruction loss, eq. 7 of the paper, as an average over cells:

.. math:: \mathcal{L}_\text{reconstruction} = \mu \, \frac1n \sum_i
          \frac{\lVert z_i - \hat z_i \rVert^2}{s^2},

with :math:`z_i` the place of cell :math:`i` under the model that was given, :math:`\hat z_i` that
under the network in training, and :math:`s^2` the total variance of the former.
"""

from __future__ import annotations

import copy
import numbers
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.utils import check_random_state
from sklearn.utils.validation import validate_data
from torch import Tensor, nn

from rpumap.certificates import check_model
from rpumap.estimator import ParametricUMAP, choose_device, dense, loss_options
from rpumap.training import train

# (step, encoder, cells, their places before) -> one term of the loss
Term = Callable[[int, nn.Sequential, Tensor, Tensor], Tensor]


def fine_tune(
    model: ParametricUMAP,
    X: ArrayLike,
    name: str,
    term: Term,
    *,
    reconstruction: float,
    n_steps: int,
    learning_rate: float,
    generator: torch.Generator,
) -> ParametricUMAP:
    """Return a new model, trained further with the UMAP loss, a term, and the reconstruction loss.

    Parameters
    ----------
    model : ParametricUMAP
        A fitted model. It is not touched.
    X : array-like or sparse matrix of shape (n_cells, n_genes)
        The cells it was fitted on.
    name : str
        What the term is called in ``history_``.
    term : callable
        ``term(step, encoder, x, places)`` with the network in training, all cells as a tensor and
        their places under `model`; returns a scalar.
    reconstruction : float
        Weight of the reconstruction loss.
    n_steps, learning_rate
        Of the further training.
    generator : torch.Generator
        Source of randomness on the device of `model`.

    Returns
    -------
    ParametricUMAP
        Fitted, with the parameters and the graph of `model`.

    Raises
    ------
    TypeError
        If `model` is not a ParametricUMAP.
    sklearn.exceptions.NotFittedError
        If it is not fitted.
    ValueError
        If `X` are not the cells it was fitted on, or a number is out of range.
    """
    check_model(model)
    check_numbers(reconstruction=reconstruction)
    check_numbers(above_zero=True, learning_rate=learning_rate)
    if not isinstance(n_steps, numbers.Integral) or n_steps < 1:
        raise ValueError(f"n_steps must be an integer of at least 1, got {n_steps!r}")
    X = _check_cells(model, X)
    device = choose_device(model.device)
    x, places = torch.as_tensor(X, device=device), torch.as_tensor(model.embedding_, device=device)
    encoder, variance = copy.deepcopy(model.encoder_).to(device), places.var(dim=0).sum()

    def penalty(step: int, z: Tensor, rows: Tensor | None) -> dict[str, Tensor]:
        moved = z - (places if rows is None else places[rows])
        return {
            name: term(step, encoder, x, places),
            "reconstruction": reconstruction * moved.square().sum(dim=1).mean() / variance,
        }

    tuned = copy.copy(model)
    tuned.history_ = train(
        encoder,
        x,
        model.graph_,
        **loss_options(model),
        n_steps=n_steps,
        learning_rate=learning_rate,
        generator=generator,
        penalty=penalty,
    )
    tuned.encoder_ = encoder.cpu()
    tuned.embedding_ = tuned.transform(X)
    return tuned


def generator_for(
    model: ParametricUMAP, random_state: int | np.random.RandomState | None
) -> torch.Generator:
    """Return a seeded source of randomness on the device of a model; its own seed by default."""
    check_model(model)
    seed = check_random_state(model.random_state if random_state is None else random_state)
    return torch.Generator(choose_device(model.device)).manual_seed(int(seed.randint(2**31 - 1)))


def check_numbers(above_zero: bool = False, **given: float) -> None:
    """Raise ValueError unless the numbers are finite and at least (or above) 0."""
    for name, value in given.items():
        if not isinstance(value, numbers.Real) or not 0 <= value < np.inf:
            raise ValueError(f"{name} must be a finite number of at least 0, got {value!r}")
        if above_zero and value == 0:
            raise ValueError(f"{name} must be above 0")


def _check_cells(model: ParametricUMAP, X: ArrayLike) -> np.ndarray:
    """Return the cells as a dense array, if the model was fitted on them."""
    X = validate_data(model, X, dtype=np.float32, accept_sparse="csr", reset=False)
    X = dense(X)
    if len(X) != len(model.embedding_) or not np.array_equal(model.transform(X), model.embedding_):
        raise ValueError("X must be the cells that the model was fitted on, in the same order")
    return X
