"""How much the choices matter that the paper leaves to its reader.

Each is changed by itself in the settings of the paper, and a plain and a regularised network are
trained anew on the same split. Another seed changes the outcomes too: the change by a choice is
held against that.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from rpumap.chapters.generalization import SPLIT_SEED, Measured
from rpumap.chapters.robustness import HIGH, Pair
from rpumap.fine_tuning import STRENGTH

if TYPE_CHECKING:
    from anndata import AnnData

    from rpumap.chapters.settings import Settings

FACTOR = 4.0  # by which lambda, batch size and so on are changed


def variants(settings: Settings) -> dict[str, Settings]:
    """Change one choice at a time.

    Parameters
    ----------
    settings : Settings
        Those that the variants differ from.

    Returns
    -------
    dict of str to Settings
        Under the names of ``book/claims.toml``.

    Examples
    --------
    >>> from rpumap.chapters.choices import variants
    >>> from rpumap.chapters.settings import PAPER
    >>> variants(PAPER)["deep"].model["hidden_sizes"]
    (128, 128, 128)
    """
    strength = STRENGTH[settings.robust["penalty"]]

    def model(**changes: object) -> Settings:
        return replace(settings, model={**settings.model, **changes})

    def robust(**changes: object) -> Settings:
        return replace(settings, robust={**settings.robust, **changes})

    return {
        "lambda-small": robust(strength=strength / FACTOR),
        "lambda-large": robust(strength=strength * FACTOR),
        "narrow": model(hidden_sizes=(64, 64)),
        "wide": model(hidden_sizes=(256, 256)),
        "deep": model(hidden_sizes=(128, 128, 128)),
        "small-batch": model(batch_size=512),
        "large-batch": model(batch_size=8192),
        "short": model(n_steps=500),
        "long": model(n_steps=5000),
        "panel-library": replace(settings, panel_library=True),
    }


def measure_choices(adata: AnnData, settings: Settings, seed: int) -> Measured:
    """Measure a pair of networks for each variant, beside the pair without a change.

    Parameters
    ----------
    adata : AnnData
        Counts, and types in ``obs["clusters"]``.
    settings : Settings
        Those of the paper.
    seed : int
        Of the split and the networks.

    Returns
    -------
    dict of str to tuple of two float
        Under the id of a claim, the size of the change by the choice, and by another seed.
    """
    ours = _outcomes(Pair(adata, settings, seed))
    by_seed = _outcomes(Pair(adata, settings, seed, network_seed=seed + SPLIT_SEED))
    found: Measured = {}
    for name, changed in variants(settings).items():
        for outcome, value in _outcomes(Pair(adata, changed, seed)).items():
            if outcome == "regularised" or not name.startswith("lambda"):  # lambda comes later
                changes = abs(value - ours[outcome]), abs(by_seed[outcome] - ours[outcome])
                found[f"choices/{name}-{outcome}"] = changes
    return found


def _outcomes(pair: Pair) -> dict[str, float]:
    return {
        "plain": pair.accuracy(pair.models["base"], pair.X_held),
        "regularised": pair.correlation(pair.models["robust"], HIGH),
    }
