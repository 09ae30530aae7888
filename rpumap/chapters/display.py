"""How a chapter shows numbers, rules and verdicts: alike in the book, JupyterLab and Colab.

A sentence with numbers is printed by the cell that knows them, so that no number is typed, and no
syntax of the book is needed to read it.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

from rpumap.chapters.scorecard import Rule, load_results, load_rules, number, verdict_of_parts

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = {"paper": "paper's settings", "default": "our defaults"}
MOST_PARTS = 6  # of a claim that are told one by one
MARKS = {"holds": "●", "does not hold": "○", "undecided": "?", "holds in part": "◐"}


def say(text: str) -> None:
    """Show a text, written in Markdown, below a cell.

    Parameters
    ----------
    text : str
        Lines may be indented alike.

    Examples
    --------
    >>> from rpumap.chapters.display import say
    >>> say(f"The correlation is {0.9371:.3f}.")  # doctest: +SKIP
    """
    from inspect import cleandoc

    from IPython.display import Markdown, display

    display(Markdown(cleandoc(text)))


def show_rules(chapter: str) -> None:
    """Show the rules for the claims of a chapter, one line for each part of a claim.

    Parameters
    ----------
    chapter : str
        Such as ``"06_dropout"``.
    """
    chosen = [rule for rule in load_rules() if rule.chapter == chapter]
    lines = []
    for (baseline, condition, why), alike in groupby(chosen, _condition):
        by_measure: dict[str, list[str]] = {}
        for rule in alike:
            by_measure.setdefault(rule.measure, []).append(f"`{rule.id}`")
        what = [f"{', '.join(ids)}: {measure}" for measure, ids in by_measure.items()]
        if len(what) > MOST_PARTS:
            what = [*what[:2], f"and {len(what) - 2} more like these"]
        lines.append(f"- {'; '.join(what)}. Beside it: {baseline}. Holds if {condition}: {why}.")
    say("\n".join(lines))


def _condition(rule: Rule) -> tuple[str, str, str]:
    """Collect what parts of a claim may share, so that it is said once."""
    return rule.baseline, f"{rule.effect} > {rule.threshold:g}", rule.why


def show_verdicts(chapter: str, results: dict[str, Any] | None = None) -> None:
    """Show what the published run found for the claims of a chapter, in both settings.

    Parameters
    ----------
    chapter : str
        Such as ``"06_dropout"``.
    results : dict, optional
        As :func:`rpumap.chapters.scorecard.load_results` returns them, which is the default.
    """
    results = load_results() if results is None else results
    rows = [row for row in results["rows"] if row["chapter"].endswith(chapter)]
    units = dict.fromkeys(f"{row['n']} {row['unit']}s" for row in rows)
    say(
        f"Verdict and mean effect, in brackets its 95 % interval over {' or '.join(units)} that "
        "were not looked at while the rules were written:"
    )
    say(markdown_table(["claim, cells", *COLUMNS.values()], side_by_side(rows)))


def markdown_table(heads: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    r"""Write a table in Markdown.

    Examples
    --------
    >>> from rpumap.chapters.display import markdown_table
    >>> print(markdown_table(["a"], [["1 | 2"]]))
    | a |
    | --- |
    | 1 \| 2 |
    """
    escaped = [[text.replace("|", "\\|").replace("<", "&lt;") for text in line] for line in lines]
    rows = [heads, ["---"] * len(heads), *escaped]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def side_by_side(rows: Sequence[dict[str, Any]]) -> list[list[str]]:
    """Put the two settings beside each other.

    Parameters
    ----------
    rows : sequence of dict
        As in ``rows`` of the results.

    Returns
    -------
    list of list of str
        For each claim and data set: id and cells, and the finding in each of the settings.

    Examples
    --------
    >>> from rpumap.chapters.display import side_by_side
    >>> row = {"id": "works", "cells": "pancreas", "settings": "paper", "verdict": "holds",
    ...        "effect_value": 0.1, "low": 0.05, "high": 0.15}
    >>> side_by_side([row])
    [['works, pancreas', '● holds: 0.1 (0.05 to 0.15)', '–']]
    """
    shown: dict[tuple[str, str], dict[str, str]] = {}
    for row in rows:
        ends = f"{number(row['low'])} to {number(row['high'])}"
        text = f"{MARKS[row['verdict']]} {row['verdict']}: {number(row['effect_value'])} ({ends})"
        shown.setdefault((row["id"], row["cells"]), {})[row["settings"]] = text
    return [[", ".join(key), *(of.get(name, "–") for name in COLUMNS)] for key, of in shown.items()]


def summary(rows: Sequence[dict[str, Any]]) -> dict[str, dict[tuple[str, str], str]]:
    """Sum up the verdicts on each claim.

    Parameters
    ----------
    rows : sequence of dict
        As in ``rows`` of the results.

    Returns
    -------
    dict
        For each id of a claim, the verdict by cells and settings, parts taken together.

    Examples
    --------
    >>> from rpumap.chapters.display import summary
    >>> shared = {"cells": "pancreas", "settings": "paper"}
    >>> summary([{"id": "a/1", "verdict": "holds", **shared},
    ...          {"id": "a/2", "verdict": "undecided", **shared}])
    {'a': {('pancreas', 'paper'): 'holds in part'}}
    """
    parts: dict[str, dict[tuple[str, str], list[str]]] = {}
    for row in rows:
        by_cells = parts.setdefault(row["id"].split("/")[0], {})
        by_cells.setdefault((row["cells"], row["settings"]), []).append(row["verdict"])
    return {
        claim: {key: verdict_of_parts(found) for key, found in by_cells.items()}
        for claim, by_cells in parts.items()
    }


def curve(
    name: str, cells: str, settings: str, results: dict[str, Any] | None = None
) -> pd.DataFrame:
    """Collect a curve of the published run, with its 95 % intervals over the units of repeat.

    Parameters
    ----------
    name : str
        Such as ``"dropout"``.
    cells, settings : str
        Such as ``"pancreas"``; ``"paper"`` or ``"default"``.
    results : dict, optional
        As :func:`rpumap.chapters.scorecard.load_results` returns them, which is the default.

    Returns
    -------
    pandas.DataFrame
        Columns ``network``, ``at``, ``mean``, ``low``, ``high``.
    """
    import pandas as pd

    results = load_results() if results is None else results
    wanted = {"curve": name, "cells": cells, "settings": settings}
    rows = [row for row in results["curves"] if all(row[k] == v for k, v in wanted.items())]
    return pd.DataFrame(rows).drop(columns=list(wanted)).sort_values("at")
