"""The tables of book/scorecard.md, made from book/claims.toml and book/scorecard.json."""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import groupby
from math import floor, log10
from pathlib import Path
from typing import Any

from rpumap.chapters.display import COLUMNS, MARKS, markdown_table, summary
from rpumap.chapters.scorecard import load_results

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "book" / "scorecard.md"
PUBLISHED = ROOT / "book" / "scorecard.json"
# What the page includes.
SENTENCE = ROOT / "_build" / "scorecard_sentence.md"
SIMULATED = ROOT / "_build" / "scorecard_simulated.md"
SUMMARY = ROOT / "_build" / "scorecard_summary.md"
DETAILS = ROOT / "_build" / "scorecard_details.md"
RUN = ROOT / "_build" / "scorecard_run.md"
SETTINGS = ("paper", "default")
CELLS = {
    "pancreas": "pancreas",
    "malaria": "malaria",
    "blood": "blood",
    "dentate_gyrus": "gyrus (simulated)",
}
NOTHING = "No run has been published with the project yet.\n"

Rows = Sequence[dict[str, Any]]


def badge(verdict: str, text: str) -> str:
    """Write a verdict in its colour; its mark says the same without colour.

    Examples
    --------
    >>> badge("holds", "pancreas")
    '[● pancreas]{.verdict .holds}'
    """
    text = f"{MARKS[verdict]} {text}".replace(" ", "\u00a0")
    return f"[{text}]{{.verdict .{verdict.replace(' ', '-')}}}"


def sentence(rows: Rows) -> str:
    """Count the verdicts on the paper's claims, in its own settings, on real cells."""
    found = summary([row for row in rows if row["source"] == "paper" and row["real"]])
    texts = []
    for cells in ("pancreas", "malaria"):
        verdicts = [by[cells, "paper"] for by in found.values() if (cells, "paper") in by]
        counts = [
            f"{verdicts.count(verdict)} {words}"
            for verdict, words in (
                ("holds", "hold"),
                ("holds in part", "hold in part"),
                ("undecided", "are undecided"),
                ("does not hold", "do not hold"),
            )
        ]
        texts.append(
            f"of {len(verdicts)} claims of the paper that were tested on {CELLS[cells]} cells, "
            f"{', '.join(counts[:-1])} and {counts[-1]}"
        )
    return f"In the paper's own settings, {'; '.join(texts)}.\n"


def summary_table(rows: Rows) -> str:
    """One line a claim: verdicts in both settings, by cells, what failed, and two links."""
    found = summary(rows)
    lines = []
    for claim, of_claim in groupby(rows, lambda row: row["id"].split("/")[0]):
        parts = list(of_claim)
        first = parts[0]
        texts = []
        for settings in SETTINGS:
            by_cells = [
                badge(verdict, CELLS[cells].split(" (")[0]) + failed(parts, cells, settings)
                for (cells, which), verdict in found[claim].items()
                if which == settings
            ]
            texts.append("<br>".join(by_cells) or "–")
        whose = "" if first["source"] == "paper" else " *(ours)*"
        chapter = Path(first["chapter"]).stem
        link = f"[chapter {int(chapter[:2])}](../notebooks/{chapter})"
        lines.append([f"[{first['claim']}](#claim-{claim}){whose}, {link}", *texts])
    table = markdown_table(["claim", *COLUMNS.values()], lines)
    return table.replace("&lt;br>", "<br>")


def failed(parts: Rows, cells: str, settings: str) -> str:
    """Name the parts of a claim that do not hold, and those that are undecided."""
    found = []
    for verdict, words in (("does not hold", "not"), ("undecided", "undecided")):
        names = [
            part["id"].split("/")[1]
            for part in parts
            if (part["cells"], part["settings"], part["verdict"]) == (cells, settings, verdict)
            and "/" in part["id"]
        ]
        if names:
            found.append(f"{words}: {', '.join(names)}")
    return f" ({'; '.join(found)})" if found else ""


def details(rows: Rows) -> str:
    """Write for each claim its rules and what was measured."""
    return "\n".join(
        claim_section(claim, list(of_claim))
        for claim, of_claim in groupby(rows, lambda row: row["id"].split("/")[0])
    )


def claim_section(claim: str, rows: Rows) -> str:
    """Write one claim: its parts, the rule of each, and the verdicts in both settings."""
    first = rows[0]
    chapter = first["chapter"]
    figure = f"figure {first['figure']} of the paper · " if first["source"] == "paper" else ""
    text = (
        f"(claim-{claim})=\n### {first['claim']}\n\n{figure}"
        f"[chapter {int(Path(chapter).stem[:2])}](../{chapter}) · `{claim}`\n\n"
    )
    for name, of_part in groupby(rows, lambda row: row["id"]):
        part = list(of_part)
        title = f"**{name.split('/')[1]}.** " if "/" in name else ""
        condition = part[0]["rule"].split(", 95 %")[0]
        text += (
            f"{title}*Value:* {part[0]['measure']}. *Baseline:* {part[0]['baseline']}. "
            f"*Holds if* {condition}: {part[0]['why']}.\n\n"
        )
        text += "\n".join(part_lines(part)) + "\n\n"
    return text


def part_lines(rows: Rows) -> list[str]:
    """List what was found on each data set, the settings beneath each other."""
    lines = []
    for cells, of_cells in groupby(rows, lambda row: row["cells"]):
        of_cells = list(of_cells)
        units = f"{of_cells[0]['n']} {of_cells[0]['unit']}s"
        lines.append(f"- {CELLS[cells].capitalize()}, {units}")
        lines += [f"  - {COLUMNS[row['settings']]}: {finding(row)}" for row in of_cells]
    return lines


def finding(row: dict[str, Any]) -> str:
    """Write a verdict with its numbers."""
    effect, low, high = rounded(row["effect_value"], row["low"], row["high"])
    value, baseline = (f"{row[key]:.3g}" for key in ("value", "baseline_value"))
    return (
        f"{badge(row['verdict'], row['verdict'])} effect {effect} ({low} to {high}); "
        f"value {value}, baseline {baseline}"
    )


def rounded(*values: float) -> list[str]:
    """Write numbers with as many decimals as give two digits of the range that they span.

    Examples
    --------
    >>> rounded(0.00593, 0.00465, 0.0072)
    ['0.0059', '0.0046', '0.0072']
    >>> rounded(153.2, 101.0, 205.4)
    ['153', '101', '205']
    """
    width = max(values) - min(values)
    decimals = max(0, 1 - floor(log10(width))) if width > 0 else 3
    return [f"{value:.{decimals}f}" for value in values]


def about_run(run: dict[str, Any]) -> str:
    """Say by what the results came about."""
    versions = ", ".join(f"{name} {text}" for name, text in run["versions"].items())
    seeds = ", ".join(f"{name} {s[0]} to {s[-1]}" for name, s in run["seeds"].items())
    files = "\n".join(f"- `{name}`: `{digest}`" for name, digest in run["data_sha256"].items())
    rules_date = run["rules_date"][:16].replace("T", " ")
    return (
        f"Run on {run['date']} at commit `{run['commit'][:12]}`. The rules were last changed by "
        f"commit `{run['rules_commit'][:12]}` of {rules_date}, before any network of the run was "
        f"trained. Seeds: {seeds}; none of them was looked at while the rules were written. The "
        f"units took {run['run_seconds'] / 3600:.1f} hours together, each on one core of "
        f"{run['machine']}. {versions}.\n\nSHA-256 of the files of cells:\n\n{files}\n"
    )


def interim(run: dict[str, Any]) -> str:
    """Say if a run is not complete."""
    if run["units_measured"] == run["units_planned"]:
        return ""
    measured, planned = run["units_measured"], run["units_planned"]
    return (
        f"**An interim state: {measured} of {planned} units are measured.** Their number was fixed "
        "before the run, and the rest is added without any change of the rules.\n\n"
    )


def write() -> None:
    """Write what book/scorecard.md includes, and have that page read again."""
    texts = dict.fromkeys((SENTENCE, SUMMARY, SIMULATED, DETAILS, RUN), NOTHING)
    if PUBLISHED.exists():
        run = load_results(PUBLISHED)
        texts = {
            SENTENCE: interim(run) + sentence(run["rows"]),
            SUMMARY: summary_table([row for row in run["rows"] if row["real"]]),
            SIMULATED: summary_table([row for row in run["rows"] if not row["real"]]),
            DETAILS: details(run["rows"]),
            RUN: about_run(run),
        }
    SUMMARY.parent.mkdir(exist_ok=True)
    for path, text in texts.items():
        path.write_text(text, encoding="utf-8")
    os.utime(PAGE)
