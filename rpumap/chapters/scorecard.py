"""The rules by which claims of the paper are judged, and the verdicts.

The rules stand in ``book/claims.toml``; ``book/measure_claims.py`` measures the claims and keeps
the verdicts in ``book/scorecard.json``; chapters and a page of the book show them.

One rule fits all: over the units of repeat (networks, splits or refits, never draws of noise), the
95 % interval of Student's t for the mean effect lies above the threshold (*holds*), below it (*does
not hold*) or across it (*undecided*).
"""

from __future__ import annotations

import json
import math
import sysconfig
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

CONFIDENCE = 0.95
VERDICTS = ("holds", "does not hold", "undecided")
IN_PART = "holds in part"
EFFECTS: dict[str, Callable[[float, float], float]] = {
    "value": lambda value, baseline: value,
    "-value": lambda value, baseline: -value,
    "value - baseline": lambda value, baseline: value - baseline,
    "value - baseline / 2": lambda value, baseline: value - baseline / 2,
    "baseline - value": lambda value, baseline: baseline - value,
    "-|value - baseline|": lambda value, baseline: -abs(value - baseline),
    "baseline / value": lambda value, baseline: baseline / value,
    "value / baseline": lambda value, baseline: value / baseline,
}
UNITS = ("network", "split", "refit")
SOURCES = ("paper", "ours")
# Rules and results lie in the folder `book` of a clone, and where an installation puts its data.
CLONE = Path(__file__).resolve().parents[2] / "book"
BOOK = CLONE if CLONE.is_dir() else Path(sysconfig.get_path("data")) / "share" / "rpumap"


@dataclass(frozen=True)
class Rule:
    """How one claim, or one part of a claim, is judged.

    Parameters
    ----------
    id : str
        ``"claim"``, or ``"claim/part"``. It does not change once results are published.
    claim : str
        The claim, in a sentence.
    source : {"paper", "ours"}
        Who makes it.
    chapter : str
        Where it is explained, such as ``"04_generalization"``.
    figure : str
        Figure or section of the paper.
    experiment : str
        What measures it; see ``book/measure_claims.py``.
    data : sequence of str
        On which cells.
    unit : {"network", "split", "refit"}
        What is repeated.
    measure, baseline : str
        What is measured, and what it is compared with.
    effect : str
        How the effect of a unit is computed of its value and its baseline: a key of ``EFFECTS``.
        A claim holds if the effect is large.
    threshold : float
        What the effect must exceed.
    why : str
        Why this threshold.

    Raises
    ------
    ValueError
        If a text is empty, or a word is none of those listed.

    Examples
    --------
    >>> from rpumap.chapters.scorecard import Rule
    >>> Rule("flat", "The Earth is flat", "ours", "00_quickstart", "1", "walk", ["globe"],
    ...      "network", "curvature", "a plane", "baseline - value", -1e-9, "rounding").threshold
    -1e-09
    """

    id: str
    claim: str
    source: str
    chapter: str
    figure: str
    experiment: str
    data: Sequence[str]
    unit: str
    measure: str
    baseline: str
    effect: str
    threshold: float
    why: str

    def __post_init__(self) -> None:  # noqa: D105 - the class says what is checked
        for name in (field.name for field in fields(self)):
            value = getattr(self, name)
            if name != "threshold" and not value:
                raise ValueError(f"the rule {self.id!r} must have a {name}")
        for name, known in (("unit", UNITS), ("source", SOURCES), ("effect", tuple(EFFECTS))):
            if getattr(self, name) not in known:
                raise ValueError(
                    f"{name} of the rule {self.id!r} must be one of {', '.join(known)}, "
                    f"got {getattr(self, name)!r}"
                )
        if not math.isfinite(self.threshold):
            raise ValueError(f"threshold of the rule {self.id!r} must be a finite number")

    @property
    def claim_id(self) -> str:
        """Id of the claim that this is a part of."""
        return self.id.split("/")[0]

    @property
    def text(self) -> str:
        """The rule in words."""
        return f"{self.effect} above {self.threshold:g}, 95 % interval over every {self.unit}"


def load_rules(path: Path = BOOK / "claims.toml") -> list[Rule]:
    """Read the rules of all claims.

    Parameters
    ----------
    path : Path
        A file as ``book/claims.toml``: a table ``claim`` with what its parts share, and in it a
        table ``part`` for each. What a part names itself goes before what the claim says.

    Returns
    -------
    list of Rule
        One for each part.

    Raises
    ------
    ValueError
        If a key is unknown or lacking, a part is bad, or an id stands twice.

    Examples
    --------
    >>> from rpumap.chapters.scorecard import load_rules
    >>> len({rule.id for rule in load_rules()}) > 20  # doctest: +SKIP
    True
    """
    known = {field.name for field in fields(Rule)}
    rules = []
    for shared in tomllib.loads(path.read_text(encoding="utf-8"))["claim"]:
        for part in shared["part"]:
            entries = {**shared, **part}
            del entries["part"]
            name = entries.pop("name", "")
            entries["id"] = f"{shared['id']}/{name}" if name else shared["id"]
            if set(entries) != known:
                wrong = ", ".join(sorted(set(entries) ^ known))
                raise ValueError(f"the rule {entries['id']!r} has, or lacks: {wrong}")
            rules.append(Rule(**entries))
    ids = [rule.id for rule in rules]
    twice = {name for name in ids if ids.count(name) > 1}
    if twice:
        raise ValueError(f"there are two rules of the id {', '.join(sorted(twice))}")
    return rules


def interval(effects: Sequence[float]) -> tuple[float, float]:
    """Compute the 95 % interval of Student's t for a mean.

    Parameters
    ----------
    effects : sequence of float
        At least two.

    Returns
    -------
    low, high : float

    Raises
    ------
    ValueError
        If there are fewer, or one is not finite.

    Examples
    --------
    >>> from rpumap.chapters.scorecard import interval
    >>> [round(end, 2) for end in interval([1.0, 2.0, 3.0])]
    [-0.48, 4.48]
    """
    import numpy as np
    from scipy.stats import t

    x = np.asarray(effects, dtype=float)
    if len(x) < 2 or not np.isfinite(x).all():
        raise ValueError(f"an interval needs two finite numbers or more, got {x.tolist()}")
    half = float(t.ppf((1 + CONFIDENCE) / 2, len(x) - 1) * x.std(ddof=1) / len(x) ** 0.5)
    return float(x.mean()) - half, float(x.mean()) + half


def verdict(low: float, high: float, threshold: float) -> str:
    """Say where an interval lies with respect to a threshold.

    Returns
    -------
    {"holds", "does not hold", "undecided"}

    Examples
    --------
    >>> from rpumap.chapters.scorecard import verdict
    >>> verdict(0.1, 0.3, 0), verdict(-0.2, -0.1, 0), verdict(-0.1, 0.2, 0)
    ('holds', 'does not hold', 'undecided')
    """
    return VERDICTS[0] if low > threshold else VERDICTS[1] if high < threshold else VERDICTS[2]


def verdict_of_parts(verdicts: Sequence[str]) -> str:
    """Sum up the verdicts on the parts of a claim.

    Returns
    -------
    {"holds", "holds in part", "does not hold", "undecided"}
        What all parts say; in part if some hold and some do not; else undecided.

    Examples
    --------
    >>> from rpumap.chapters.scorecard import verdict_of_parts
    >>> verdict_of_parts(["holds", "does not hold"]), verdict_of_parts(["holds", "undecided"])
    ('holds in part', 'holds in part')
    >>> verdict_of_parts(["undecided", "does not hold"])
    'undecided'
    """
    if not verdicts:
        raise ValueError("a claim has a part at least")
    if len(set(verdicts)) == 1:
        return verdicts[0]
    return IN_PART if VERDICTS[0] in verdicts else VERDICTS[2]


def judge(rule: Rule, measured: Sequence[tuple[float, float]]) -> dict[str, Any]:
    """Hold what was measured against a rule.

    Parameters
    ----------
    rule : Rule
    measured : sequence of tuple of two float
        Value and baseline of each unit of repeat.

    Returns
    -------
    dict
        ``value`` and ``baseline_value``, means over the units; ``spread``, the standard deviation
        of the value; ``n``; ``effect_value``, the mean effect, and its interval ``low`` to
        ``high``; ``verdict``.

    Examples
    --------
    >>> from rpumap.chapters.scorecard import Rule, judge
    >>> rule = Rule("new", "New cells are placed well", "ours", "04_generalization", "2", "split",
    ...             ["pancreas"], "split", "accuracy", "genes", "value - baseline", -0.05, "few")
    >>> judge(rule, [(0.84, 0.85), (0.83, 0.85), (0.85, 0.85)])["verdict"]
    'holds'
    """
    import numpy as np

    values, baselines = np.asarray(measured, dtype=float).T
    effects = [EFFECTS[rule.effect](*pair) for pair in zip(values, baselines, strict=True)]
    low, high = interval(effects)
    return {
        "value": float(values.mean()),
        "spread": float(values.std(ddof=1)),
        "baseline_value": float(baselines.mean()),
        "n": len(values),
        "effect_value": float(np.mean(effects)),
        "low": low,
        "high": high,
        "verdict": verdict(low, high, rule.threshold),
    }


def load_results(path: Path = BOOK / "scorecard.json") -> dict[str, Any]:
    """Read the published results: see ``book/scorecard.md`` for what they hold.

    Raises
    ------
    FileNotFoundError
        If they are not there.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} is not there. The published results come with a clone of the project and "
            "with its installation by pip"
        )
    return json.loads(path.read_text(encoding="utf-8"))


def number(value: float) -> str:
    """Write a number as tables show it, with three digits.

    Examples
    --------
    >>> from rpumap.chapters.scorecard import number
    >>> number(0.93712), number(-1234.5), number(0.0004)
    ('0.937', '-1234', '0.0004')
    """
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
