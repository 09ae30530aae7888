"""Claims of the paper and what a chapter measured, in a form that the book collects.

A chapter ends with :func:`report`. It shows the rows as a table and stores them in the metadata of
the cell's output, from which :func:`collect` reads them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData
    from numpy.typing import ArrayLike

KEY = "rpumap_claims"  # in the metadata of the output
VERDICTS = ("holds", "holds in part", "does not hold")


@dataclass(frozen=True)
class Claim:
    """A claim of the paper, and a measurement that bears on it.

    Parameters
    ----------
    claim : str
        The claim, in a sentence.
    figure : str
        Figure or section of the paper: ``"3C"``, ``"sec. 2.4"``.
    measure : str
        What was measured.
    value : float
        What came out.
    data : str
        Which cells.
    real : bool
        Whether these cells were measured, not simulated.
    verdict : {"holds", "holds in part", "does not hold"}
        What follows, by a rule that the chapter states.
    spread : float, optional
        Standard deviation of `value` over repeats.
    repeats : int
        Number of repeats.
    baseline : str, optional
        What it is compared with.
    baseline_value : float, optional
        The same measure there.

    Raises
    ------
    ValueError
        If a number is not finite, a text is empty, or the verdict is none of the three.

    Examples
    --------
    >>> from rpumap.chapters.scorecard import Claim
    >>> Claim("The Earth is flat", "1", "curvature, 1/km", 1.57e-4, "globe", True, "does not hold")
    ... # doctest: +ELLIPSIS
    Claim(claim='The Earth is flat', ...)
    """

    claim: str
    figure: str
    measure: str
    value: float
    data: str
    real: bool
    verdict: str
    spread: float | None = None
    repeats: int = 1
    baseline: str | None = None
    baseline_value: float | None = None

    def __post_init__(self) -> None:  # noqa: D105 - the class says what is checked
        if self.verdict not in VERDICTS:
            raise ValueError(f"verdict must be one of {', '.join(VERDICTS)}, got {self.verdict!r}")
        for name in ("claim", "figure", "measure", "data"):
            if not getattr(self, name):
                raise ValueError(f"{name} must not be empty")
        for name in ("value", "spread", "baseline_value"):
            number = getattr(self, name)
            if number is None and name != "value":
                continue
            if not math.isfinite(number):
                raise ValueError(f"{name} must be a finite number, got {number!r}")
            # numpy's numbers cannot be written as JSON
            object.__setattr__(self, name, float(number))
        object.__setattr__(self, "real", bool(self.real))
        object.__setattr__(self, "repeats", int(self.repeats))


def verdict(*conditions: bool) -> str:
    """Return ``"holds"`` if all conditions do, ``"does not hold"`` if none does.

    Parameters
    ----------
    *conditions : bool
        At least one.

    Returns
    -------
    {"holds", "holds in part", "does not hold"}

    Raises
    ------
    ValueError
        If there are none.

    Examples
    --------
    >>> from rpumap.chapters.scorecard import verdict
    >>> verdict(True, True), verdict(True, False), verdict(False)
    ('holds', 'holds in part', 'does not hold')
    """
    if not conditions:
        raise ValueError("a verdict needs a condition")
    return VERDICTS[0] if all(conditions) else VERDICTS[1] if any(conditions) else VERDICTS[2]


def judge(
    adata: AnnData,
    claim: str,
    figure: str,
    measure: str,
    values: ArrayLike,
    baseline: str,
    baseline_value: float,
    *conditions: bool,
) -> Claim:
    """Hold a claim against what was measured, once or in repeats.

    Parameters
    ----------
    adata : AnnData
        The cells, as :mod:`rpumap.datasets` gives them; ``uns`` says which, and whether simulated.
    claim, figure, measure : str
        As in :class:`Claim`.
    values : array-like
        What was measured, one number a repeat: the claim gets their mean, and with more than one
        their standard deviation.
    baseline, baseline_value
        As in :class:`Claim`.
    *conditions : bool
        What the verdict depends on; see :func:`verdict`.

    Returns
    -------
    Claim

    Examples
    --------
    >>> import rpumap
    >>> from rpumap.chapters.scorecard import judge
    >>> adata = rpumap.datasets.pancreas(source="simulated")
    >>> found = judge(adata, "It works", "2", "accuracy", [0.8, 0.9], "chance", 0.2, True, False)
    >>> round(found.value, 2), round(found.spread, 3), found.repeats, found.verdict
    (0.85, 0.071, 2, 'holds in part')
    """
    import numpy as np

    values = np.atleast_1d(np.asarray(values, dtype=float))
    return Claim(
        claim,
        figure,
        measure,
        value=values.mean(),
        data=adata.uns["source"],
        real=not adata.uns.get("simulated"),
        verdict=verdict(*conditions),
        spread=values.std(ddof=1) if values.size > 1 else None,
        repeats=values.size,
        baseline=baseline,
        baseline_value=baseline_value,
    )


def table(claims: Iterable[Claim]) -> pd.DataFrame:
    """Lay claims out as the book shows them.

    Parameters
    ----------
    claims : iterable of Claim

    Returns
    -------
    pandas.DataFrame
        One row a claim, numbers rounded to three digits.

    Examples
    --------
    >>> from rpumap.chapters.scorecard import Claim, table
    >>> claim = Claim("It works", "2", "accuracy", 0.84, "simulated", False, "holds", 0.01, 5)
    >>> table([claim]).loc[0, "value"]
    '0.84 ± 0.01 (5)'
    """
    import pandas as pd

    rows = []
    for claim in claims:
        value = f"{claim.value:.3g}"
        if claim.spread is not None:
            value += f" ± {claim.spread:.1g} ({claim.repeats})"
        baseline = claim.baseline or ""
        if claim.baseline_value is not None:
            baseline += f": {claim.baseline_value:.3g}"
        rows.append(
            {
                "claim": claim.claim,
                "figure": claim.figure,
                "verdict": claim.verdict,
                "measure": claim.measure,
                "value": value,
                "baseline": baseline,
                "cells": "real" if claim.real else "simulated",
            }
        )
    return pd.DataFrame(rows)


def report(claims: Iterable[Claim]) -> None:
    """Show claims as a table in a notebook, and keep them in the cell's output.

    Parameters
    ----------
    claims : iterable of Claim

    Raises
    ------
    ValueError
        If there are none.
    """
    from IPython.display import display

    claims = list(claims)
    if not claims:
        raise ValueError("there are no claims to report")
    shown = table(claims)
    html = shown.to_html(index=False, border=0)
    bundle = {"text/html": html, "text/plain": shown.to_string(index=False)}
    display(bundle, metadata={KEY: [asdict(claim) for claim in claims]}, raw=True)


def collect(notebook: Mapping[str, Any]) -> list[Claim]:
    """Return the claims in the outputs of an executed notebook.

    Parameters
    ----------
    notebook : mapping
        A notebook as nbformat reads it.

    Returns
    -------
    list of Claim
        In the order of the notebook; empty if it reports none.

    Raises
    ------
    ValueError
        If a row is not what `report` writes.
    """
    known = {field.name for field in fields(Claim)}
    claims = []
    for cell in notebook["cells"]:
        for output in cell.get("outputs", ()):
            for row in output.get("metadata", {}).get(KEY, ()):
                if set(row) != known:
                    raise ValueError(f"a claim has the fields {', '.join(sorted(row))}")
                claims.append(Claim(**row))
    return claims
