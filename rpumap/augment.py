r"""Training against dropout: show the network cells whose counts were lost, and where they belong.

To the UMAP loss come two terms, averages over cells in units of the variance :math:`s^2` of the
map that was given,

.. math:: \mathcal{L} = \mathcal{L}_\text{UMAP}
          + \kappa \, \mathbb{E} \frac{\lVert f(\tilde x_i) - z_i \rVert^2}{s^2}
          + \mu \, \frac1n \sum_i \frac{\lVert f(x_i) - z_i \rVert^2}{s^2},

with :math:`\tilde x_i` a copy of cell :math:`i` some of whose counts were dropped, drawn anew in
each step, and :math:`z_i` the place of the intact cell under the model that was given.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from rpumap.estimator import ParametricUMAP
from rpumap.fine_tuning import check_numbers, fine_tune, generator_for
from rpumap.preprocessing import Preprocessor, panel_counts, uncounted

if TYPE_CHECKING:
    from anndata import AnnData

DROPPED_CELLS = 512  # copies in a step


class CountDropper:
    """Drop counts of cells and prepare what is left, all on tensors.

    Parameters
    ----------
    prep : Preprocessor
        Fitted.
    adata : AnnData of shape (n_cells, any number of genes)
        Raw counts in ``X``, as ``prep.transform`` takes them.
    device : torch.device
        Where the counts are kept.

    Raises
    ------
    ValueError
        If a library size is smaller than the counts of the chosen genes.

    Notes
    -----
    Of the genes in ``prep.genes_`` each entry is kept or lost, and the library size falls by what
    was lost. All other molecules of a cell are one number here, their sum: of ratio r they lose the
    share r that can be expected, without noise. A gene that the data lack stays at 0, its mean.

    Examples
    --------
    >>> import rpumap, torch
    >>> from rpumap.augment import CountDropper
    >>> adata = rpumap.datasets.pancreas(source="simulated")[:200]
    >>> prep = rpumap.Preprocessor(n_top_genes=50).fit(adata)
    >>> dropper = CountDropper(prep, adata, torch.device("cpu"))
    >>> everything = torch.ones(200, 50, dtype=torch.bool)
    >>> z = dropper(torch.arange(200), everything, torch.zeros(200, 1))
    >>> bool((z - torch.as_tensor(prep.transform(adata))).abs().max() < 1e-4)
    True
    """

    def __init__(self, prep: Preprocessor, adata: AnnData, device: torch.device) -> None:
        present = np.isin(prep.genes_, adata.var_names)
        counts = panel_counts(prep, adata)
        rest = uncounted(adata, counts)
        self.log1p, self.target_sum = prep.log1p, prep.target_sum
        self.counts, self.rest, self.mean, self.std, self.present = (
            torch.as_tensor(array, device=device).float()
            for array in (counts, rest[:, None], prep.mean_, prep.std_, present)
        )

    def __call__(self, cells: Tensor, kept: Tensor, ratio: Tensor) -> Tensor:
        """Return the z-scores of cells of which some counts are lost.

        Parameters
        ----------
        cells : torch.Tensor of shape (n,), int64
            Which cells; they may repeat.
        kept : torch.Tensor of shape (n, n_genes), bool
            Which of their entries are left.
        ratio : torch.Tensor of shape (n, 1)
            Share of the other molecules that is lost.

        Returns
        -------
        torch.Tensor of shape (n, n_genes), float32
        """
        left = self.counts[cells] * kept
        size = left.sum(dim=1, keepdim=True) + (1 - ratio) * self.rest[cells]
        scaled = self.target_sum * left / size.clamp(min=1e-12)  # a cell without counts stays at 0
        values = torch.log1p(scaled) if self.log1p else scaled
        return (values - self.mean) / self.std * self.present


def resist_dropout(
    model: ParametricUMAP,
    prep: Preprocessor,
    adata: AnnData,
    max_ratio: float = 0.9,
    *,
    strength: float = 10.0,
    reconstruction: float = 10.0,
    n_steps: int = 500,
    learning_rate: float = 3e-3,
    random_state: int | np.random.RandomState | None = None,
) -> ParametricUMAP:
    r"""Train a fitted model further, so that lost counts move its cells less.

    In each step some cells lose counts, each at a ratio drawn between 0 and `max_ratio`. They are
    prepared as new cells would be, and pulled to where the model had placed them intact.

    Parameters
    ----------
    model : ParametricUMAP
        A fitted model, for example one from :func:`rpumap.robustify`. It is not touched.
    prep : Preprocessor
        That which prepared its cells.
    adata : AnnData of shape (n_cells, any number of genes)
        The cells that the model was fitted on: raw counts in ``X``.
    max_ratio : float, default 0.9
        Largest share of the entries that are not zero to be lost, above 0 and below 1.
    strength : float, default 10.0
        :math:`\kappa`, the weight of the dropped copies, relative to the variance of the map. A
        larger weight resists more and costs some trustworthiness.
    reconstruction : float, default 10.0
        :math:`\mu`, the weight of intact cells staying in place (eq. 7), relative to the same.
    n_steps : int, default 500
        Gradient steps.
    learning_rate : float, default 3e-3
        Peak learning rate of Adam.
    random_state : int, RandomState or None
        By default that of `model`.

    Returns
    -------
    ParametricUMAP
        A new fitted model, with the parameters and the graph of `model`. Its ``history_`` has two
        further terms, ``"dropout"`` and ``"reconstruction"``.

    Raises
    ------
    TypeError
        If `model` is not a ParametricUMAP, or `prep` not a Preprocessor.
    sklearn.exceptions.NotFittedError
        If one of them is not fitted.
    ValueError
        If these are not the cells that the model was fitted on, or an option is out of range.

    Notes
    -----
    Dropout is that of figure 4 of the paper: whole entries are lost, each with the same chance,
    and the library size falls with them; see :class:`CountDropper`. Training on noisy copies is
    not in the paper. Its best answer for a dropped cell is the mean place of all cells that could
    have looked so; where little is left to go by, that is close to the middle of the map.

    Examples
    --------
    >>> import rpumap
    >>> adata = rpumap.datasets.pancreas(source="simulated")[::10]
    >>> prep = rpumap.Preprocessor(n_top_genes=50)
    >>> model = rpumap.ParametricUMAP(n_steps=50, random_state=0).fit(prep.fit_transform(adata))
    >>> steady = rpumap.resist_dropout(model, prep, adata, n_steps=50)
    >>> bool(steady.history_["dropout"][-1] < steady.history_["dropout"][0])
    True
    """
    if not isinstance(prep, Preprocessor):
        raise TypeError(f"prep must be a fitted Preprocessor, got {type(prep).__name__}")
    check_is_fitted(prep)
    check_numbers(strength=strength)
    check_numbers(above_zero=True, max_ratio=max_ratio)
    if max_ratio >= 1:
        raise ValueError(f"max_ratio must be below 1, got {max_ratio!r}: something must be left")
    draw = generator_for(model, random_state)
    drop = CountDropper(prep, adata, draw.device)
    variance = torch.as_tensor(model.embedding_, device=draw.device).var(dim=0).sum()

    def price(step: int, encoder: nn.Sequential, x: Tensor, places: Tensor) -> Tensor:
        cells = torch.randint(len(x), (DROPPED_CELLS,), generator=draw, device=x.device)
        ratio = max_ratio * torch.rand(DROPPED_CELLS, 1, generator=draw, device=x.device)
        chance = torch.rand(DROPPED_CELLS, x.shape[1], generator=draw, device=x.device)
        strayed = encoder(drop(cells, chance >= ratio, ratio)) - places[cells]
        return strength * strayed.square().sum(dim=1).mean() / variance

    return fine_tune(
        model,
        prep.transform(adata),
        "dropout",
        price,
        reconstruction=reconstruction,
        n_steps=n_steps,
        learning_rate=learning_rate,
        generator=draw,
    )
