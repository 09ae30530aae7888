"""The tables of book/scorecard.md, made from book/claims.toml and book/scorecard.json."""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from rpumap.chapters.display import COLUMNS, MARKS, markdown_table, summary
from rpumap.chapters.scorecard import load_results, number

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "book" / "scorecard.md"
PUBLISHED = ROOT / "book" / "scorecard.json"
# What the page includes.
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


def summary_table(rows: Rows) -> str:
    """One line a claim: verdicts in both settings, by cells; a link to the details."""
    found = summary(rows)
    lines = []
    for claim, of_claim in groupby(rows, lambda row: row["id"].split("/")[0]):
        first = next(of_claim)
        texts = []
        for settings in SETTINGS:
            by_cells = [
                f"{MARKS[verdict]}\u00a0{CELLS[cells]}"
                for (cells, which), verdict in found[claim].items()
                if which == settings
            ]
            texts.append(", ".join(by_cells) or "–")
        whose = "" if first["source"] == "paper" else " *(ours)*"
        lines.append([f"[{first['claim']}](#claim-{claim}){whose}", first["figure"], *texts])
    return markdown_table(["claim", "figure", *COLUMNS.values()], lines)


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
    text = (
        f"(claim-{claim})=\n### {first['claim']}\n\n`{claim}` · figure {first['figure']} · "
        f"[chapter {Path(chapter).stem[:2]}](../{chapter}) · one unit is a {first['unit']}\n\n"
    )
    for name, of_part in groupby(rows, lambda row: row["id"]):
        part = list(of_part)
        title = f"**{name.split('/')[1]}.** " if "/" in name else ""
        text += (
            f"{title}{part[0]['measure'].capitalize()}; beside it: {part[0]['baseline']}. Holds if "
            f"{part[0]['rule']}: {part[0]['why']}.\n\n"
        )
        text += markdown_table(["cells", "n", *COLUMNS.values()], part_lines(part)) + "\n\n"
    return text


def part_lines(rows: Rows) -> list[list[str]]:
    """List the cells of one part, the settings side by side."""
    lines: dict[str, dict[str, dict[str, Any]]] = {}
    for row in rows:
        lines.setdefault(row["cells"], {})[row["settings"]] = row
    return [
        [
            CELLS[cells],
            str(next(iter(by_settings.values()))["n"]),
            *(finding(by_settings.get(settings)) for settings in SETTINGS),
        ]
        for cells, by_settings in lines.items()
    ]


def finding(row: dict[str, Any] | None) -> str:
    """Write a verdict with its numbers."""
    if row is None:
        return "–"
    value, baseline, effect, low, high = (
        number(row[key]) for key in ("value", "baseline_value", "effect_value", "low", "high")
    )
    return (
        f"{MARKS[row['verdict']]} **{row['verdict']}**: effect {effect} ({low} to {high}); "
        f"{value} ± {row['spread']:.1g}, beside it {baseline}"
    )


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
    texts = dict.fromkeys((SUMMARY, DETAILS, RUN), NOTHING)
    if PUBLISHED.exists():
        run = load_results(PUBLISHED)
        texts = {
            SUMMARY: interim(run) + summary_table(run["rows"]),
            DETAILS: details(run["rows"]),
            RUN: about_run(run),
        }
    SUMMARY.parent.mkdir(exist_ok=True)
    for path, text in texts.items():
        path.write_text(text, encoding="utf-8")
    os.utime(PAGE)
