"""The tables and figures of book/performance.md, made from what ``make bench`` measured.

``python book/performance_page.py`` prints the targets and ratios of the last run of ``make bench``;
with ``--publish`` it also keeps that run with the project, as book/performance.json.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from rpumap.plotting import COLORS, INK

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "book" / "performance.md"
PUBLISHED = ROOT / "book" / "performance.json"
MEASURED = ROOT / "_build" / "bench" / "performance.json"
# What the page includes.
PARTS = ROOT / "_build" / "performance"
EMPTY: dict[str, Any] = {"machine": {}, "runs": {}, "fits": [], "single": []}
MISSING = "not measured"
FIXED = "\N{NO-BREAK SPACE}"

SETS = {
    "pancreas": "pancreas cells",
    "malaria": "malaria parasites",
    "simulated_1k": "1,000 simulated cells",
    "simulated_4k": "3,696 simulated cells",
    "simulated_18k": "18,213 simulated cells",
    "simulated_100k": "100,000 simulated cells",
    "simulated_1m": "1,000,000 simulated cells",
}
OWN = "rpumap"
# colour and marker of each method; the labels are names of packages or of their classes
LOOKS = {
    OWN: (COLORS[5], "o"),
    "UMAP": (COLORS[0], "s"),
    "ParametricUMAP": (COLORS[1], "^"),
    "parametric-umap": (COLORS[3], "v"),
    "openTSNE": (COLORS[2], "D"),
    "TorchDR": (COLORS[4], "P"),
}
Results = dict[str, Any]
Row = dict[str, Any]


def number(value: float) -> str:
    """Write a number with three digits, or as many as it has before the point.

    Examples
    --------
    >>> number(0.12345), number(1234.5)
    ('0.123', '1,234')
    """
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def score(value: float) -> str:
    """Write a score with three decimals."""
    return f"{value:.3f}"


@dataclass(frozen=True)
class Found:
    """What repeats found of one number."""

    values: tuple[float, ...]
    extrapolated: bool = False
    where: str = ""

    @property
    def median(self) -> float:
        """The number that is reported."""
        return median(self.values)

    def text(self, form: Callable[[float], str] = number) -> str:
        """Write the median with the lowest and the highest value, or say that it is no measurement.

        Lines are not broken within brackets.

        Examples
        --------
        >>> Found((2.0, 1.0, 4.0)).text() == "2 (1\N{NO-BREAK SPACE}to\N{NO-BREAK SPACE}4)"
        True
        >>> Found((2.0,), extrapolated=True).text()
        '2, extrapolated'
        """
        middle, low, high = map(form, (self.median, *self.ends))
        if self.extrapolated:
            return f"{middle}, extrapolated"
        return middle if low == high else f"{middle} ({low}{FIXED}to{FIXED}{high})"

    @property
    def ends(self) -> tuple[float, float]:
        """The lowest and the highest value."""
        return min(self.values), max(self.values)


def rows_of(results: Results, data: str, method: str, field: str) -> list[Row]:
    """List the fits of a method to a data set for which a number is known, by repeat."""
    rows = [
        row
        for row in results["fits"]
        if row["data"] == data and row["method"] == method and row.get(field) is not None
    ]
    return sorted(rows, key=lambda row: row["repeat"])


def found(results: Results, data: str, method: str, field: str) -> Found | None:
    """Collect one number over the repeats."""
    rows = rows_of(results, data, method, field)
    if not rows:
        return None
    extrapolated = any(row.get("extrapolated", False) for row in rows)
    return Found(tuple(row[field] for row in rows), extrapolated)


def compare(
    results: Results,
    data: str,
    method: str,
    field: str,
    how: Callable[[float, float], float] = lambda theirs, own: theirs / own,
) -> Found | None:
    """Compare a number of another method with rpumap's: by default, theirs over ours.

    Methods take turns within a repeat, so each repeat gives one comparison. A prediction is
    compared with the median of rpumap's repeats.
    """
    theirs, own = (rows_of(results, data, name, field) for name in (method, OWN))
    if not theirs or not own:
        return None
    middle = median(row[field] for row in own)
    by_repeat = {row["repeat"]: row[field] for row in own}
    extrapolated = any(row.get("extrapolated", False) for row in theirs)
    values = (
        how(row[field], middle if extrapolated else by_repeat.get(row["repeat"], middle))
        for row in theirs
    )
    return Found(tuple(values), extrapolated)


def single(results: Results, name: str) -> Found | None:
    """Return how many times as long the baseline takes, or the seconds where there is none."""
    for row in results["single"]:
        if row["name"] == name:
            if "baseline_s" not in row:
                return Found(tuple(row["seconds"]), where=row["setting"])
            pairs = zip(row["baseline_s"], row["seconds"], strict=True)
            return Found(tuple(theirs / own for theirs, own in pairs))
    return None


def inverse(ratio: Found | None) -> Found | None:
    """Turn a ratio around."""
    return ratio and Found(tuple(1 / value for value in ratio.values), ratio.extrapolated)


@dataclass(frozen=True)
class Target:
    """A number that is aimed at, and how it is computed from the results."""

    what: str
    where: str
    bound: float
    measure: Callable[[Results], Found | None]
    at_most: bool = False

    def row(self, results: Results) -> tuple[str, str, str, str]:
        """Say in words what is aimed at, whether it holds, what was measured, and the aim."""
        value = self.measure(results)
        aim = f"{'≤' if self.at_most else '≥'}{FIXED}{self.bound:g}"
        if value is None:
            return f"{self.what}: {self.where}", MISSING, MISSING, aim
        holds = value.median <= self.bound if self.at_most else value.median >= self.bound
        verdict = "held" if holds else "**missed**"
        return f"{self.what}: {value.where or self.where}", verdict, value.text(), aim


def lowest(field: str, method: str, **how: Any) -> Callable[[Results], Found | None]:
    """Return a measure: the comparison on the data set where it is least good."""

    def measure(results: Results) -> Found | None:
        every = {data: compare(results, data, method, field, **how) for data in SETS}
        known = {data: value for data, value in every.items() if value}
        if not known:
            return None
        data, least = min(known.items(), key=lambda item: item[1].median)
        return replace(least, where=f"{SETS[data]}, the least of {len(known)} sets")

    return measure


def gain(theirs: float, own: float) -> float:
    """By how much a score is above another method's."""
    return own - theirs


def times_as_fast(method: str, bounds: dict[str, float]) -> list[Target]:
    """List the targets of cold fits beside one method, for some data sets."""
    return [
        Target(
            f"cold fit, {method} over rpumap",
            SETS[data],
            bound,
            lambda results, data=data: compare(results, data, method, "cold_s"),
        )
        for data, bound in bounds.items()
    ]


def of_single(name: str, what: str, where: str, bound: float) -> Target:
    """Return the target of a comparison within one process."""
    return Target(what, where, bound, lambda results: single(results, name))


TARGETS = [
    *times_as_fast(
        "UMAP",
        {
            "pancreas": 6,
            "simulated_4k": 6,
            "simulated_18k": 8,
            "simulated_100k": 4,
            "simulated_1m": 20,
        },
    ),
    *times_as_fast("ParametricUMAP", {"pancreas": 20, "simulated_4k": 20}),
    Target("peak memory, UMAP over rpumap", "every set", 1, lowest("peak_mb", "UMAP")),
    Target(
        "trustworthiness, rpumap less UMAP",
        "every set",
        -0.01,
        lowest("trustworthiness", "UMAP", how=gain),
    ),
    Target(
        "accuracy of new cells, rpumap less ParametricUMAP",
        "every set",
        0,
        lowest("new_accuracy", "ParametricUMAP", how=gain),
    ),
    *(
        of_single(f"{method} {layers}", f"`{method}`, auto_LiRPA over rpumap", layers, bound)
        for method, bound in (("crown", 4), ("crown_ibp", 2))
        for layers in ("300-128-128-2", "300-256-256-2")
    ),
    Target(
        "`certified_label_fraction`, seconds",
        SETS["pancreas"],
        8,
        lambda results: single(results, "certified_label_fraction"),
        at_most=True,
    ),
    of_single("transform", "`transform`, bare matrix products over rpumap", "100,000 cells", 0.6),
    Target(
        "imports of a first fit over `import torch`",
        "fresh processes",
        2.2,
        lambda results: inverse(single(results, "imports of a first fit")),
        at_most=True,
    ),
]


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Write a table in Markdown.

    Examples
    --------
    >>> print(table(["a", "b"], [["1", "2"]]))
    | a | b |
    | --- | --- |
    | 1 | 2 |
    """
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def targets(results: Results) -> str:
    """Write the table of what is aimed at, and whether it holds."""
    rows = [target.row(results) for target in TARGETS]
    return table(["target", "verdict", "measured", "aim"], rows)


def ratios(results: Results, field: str = "cold_s") -> str:
    """Write how many times as much as rpumap every other method takes on every data set."""

    def cell(data: str, method: str) -> str:
        value = compare(results, data, method, field)
        return value.text() if value else over_limit(results, data, method) or MISSING

    others = [name for name in LOOKS if name != OWN]
    rows = [[SETS[data], *(cell(data, name) for name in others)] for data in SETS]
    return table(["cells", *others], rows)


def over_limit(results: Results, data: str, method: str) -> str:
    """Say why a fit has no numbers: it failed, or would have taken too long. Empty if neither."""
    for row in results["fits"]:
        if row["data"] == data and row["method"] == method and "cold_s" not in row:
            return "failed" if "error" in row else f"over {row['limit_s']:,.0f} s"
    return ""


TIMES = {
    "cold, s": ("cold_s", number),
    "warm, s": ("warm_s", number),
    "processor, s": ("processor_s", number),
    "peak memory, MB": ("peak_mb", number),
}
SCORES = {
    "trustworthiness": ("trustworthiness", score),
    "accuracy": ("accuracy", score),
    "trustworthiness, new cells": ("new_trustworthiness", score),
    "accuracy, new cells": ("new_accuracy", score),
}


def everything(results: Results) -> str:
    """Write tables for each data set with all that was measured."""
    parts = []
    for data, name in SETS.items():
        cells = max((row["cells"] for row in results["fits"] if row["data"] == data), default=0)
        if cells and not data.startswith("simulated"):
            name = f"{name[0].upper()}{name[1:]}, real, of which {cells:,} train"
        parts.append(f"**{name}**")
        for columns in (TIMES, SCORES):
            rows = [row for method in LOOKS if (row := measured(results, data, method, columns))]
            if rows:
                parts.append(table(["method", "fits", *columns], rows))
        if not cells:
            parts.append(f"{MISSING.capitalize()}.")
    return "\n\n".join(parts)


def measured(results: Results, data: str, method: str, columns: dict) -> list[str]:
    """Write the row of a method in a table of a data set; empty where there is nothing."""
    every = [found(results, data, method, field) for field, _ in columns.values()]
    if first := next((value for value in every if value), None):
        texts = [
            value.text(form).replace(" ", FIXED) if value else ""
            for value, (_, form) in zip(every, columns.values(), strict=True)
        ]
        return [method, "0" if first.extrapolated else str(len(first.values)), *texts]
    why = over_limit(results, data, method)
    return [method, "0", why, *[""] * (len(columns) - 1)] if why and columns is TIMES else []


def singles(results: Results) -> str:
    """Write the table of what was measured within one process."""
    rows = []
    for row in results["single"]:
        own = Found(tuple(row["seconds"]))
        theirs = Found(tuple(row["baseline_s"])) if "baseline_s" in row else None
        rows.append(
            [
                row["name"],
                row["setting"],
                own.text(),
                row.get("baseline", ""),
                theirs.text() if theirs else "",
                single(results, row["name"]).text() if theirs else "",
            ]
        )
    head = ["what", "of what", "rpumap, s", "baseline", "baseline, s", "baseline over rpumap"]
    return table(head, rows) if rows else f"{MISSING.capitalize()}."


def machine(results: Results) -> str:
    """Say on what machine, when and with which versions the rows were measured."""
    if not results["machine"]:
        return f"{MISSING.capitalize()}."
    here = results["machine"]
    memory = f", {here['memory_gb']} GB of memory" if "memory_gb" in here else ""
    lines = [f"{here['processor']}, {here['cores']} cores{memory}, {here['system']}."]
    devices = {row["device"] for row in results["fits"] if "device" in row}
    if devices <= {"cpu"}:
        lines.append("**No GPU was measured**: every number of this page is that of processors.")
    else:
        lines.append(f"Devices: {', '.join(sorted(devices))}.")
    if others := [row["others"] for row in results["fits"] if "others" in row]:
        share = f"{100 * median(others):.0f} % of the machine's processor time in the median fit"
        lines.append(f"Other programs took {share}, and {100 * max(others):.0f} % at most.")
    runs = [
        [
            run["date"],
            run["commit"],
            f"`{run['command']}`",
            ", ".join(f"{name} {number}" for name, number in run["versions"].items()),
        ]
        for run in results["runs"].values()
    ]
    return "\n\n".join([*lines, table(["date", "commit", "command", "versions"], runs)])


def draw_sizes(results: Results, field: str, label: str, path: Path, scale: float = 1) -> str:
    """Draw a number against the cells, a line a method; return the text for who cannot see it."""
    figure, ax = new_figure((4.7, 4.3))
    ends, words = {}, []
    for method, (color, marker) in LOOKS.items():
        points = {
            data: (rows_of(results, data, method, field)[0]["cells"], value)
            for data in SETS
            if (value := found(results, data, method, field))
        }
        if not points:
            continue
        looks = {"color": color, "marker": marker, "markersize": 5}
        draw_line(ax, points, looks, scale, 2.6 if method == OWN else 1.3)
        n, value = max(points.values(), key=lambda point: point[0])
        ends[method] = (n, value.median * scale)
        said = f"{method} {number(value.median * scale)} for {n:,} cells"
        words.append(said + ", extrapolated" * value.extrapolated)
    ax.set(xscale="log", yscale="log", xlabel="training cells", ylabel=label)
    set_ticks(ax.xaxis, [1])
    set_ticks(ax.yaxis, [1, 3])
    name_lines(ax, ends)
    save(figure, path)
    start = label[0].upper() + label[1:]
    return f"{start}, against the number of training cells, both axes logarithmic. " + (
        f"The largest size of each method: {'; '.join(words)}." if words else "Not measured."
    )


def set_ticks(axis: Axis, steps: Sequence[float]) -> None:
    """Label a logarithmic axis with plain numbers, at these multiples of powers of ten."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axis.set_major_locator(LogLocator(subs=steps))
    axis.set_major_formatter(FuncFormatter(lambda v, _: "1 million" if v == 1e6 else f"{v:,.10g}"))
    axis.set_minor_formatter(NullFormatter())


def draw_line(ax: Axes, points: dict, looks: dict, scale: float, width: float) -> None:
    """Draw one method with its spread: a line for simulated cells, open markers for real ones.

    The line is dashed to where it is extrapolated.
    """
    line = [point for data, point in points.items() if data.startswith("simulated")]
    for (n1, v1), (n2, v2) in zip(line, line[1:], strict=False):
        style = "--" if v2.extrapolated else "-"
        heights = [v1.median * scale, v2.median * scale]
        ax.plot([n1, n2], heights, style, color=looks["color"], linewidth=width)
    for data, (n, value) in points.items():
        fill = looks["color"] if data.startswith("simulated") else "none"
        if not value.extrapolated:
            ax.plot(n, value.median * scale, linestyle="none", markerfacecolor=fill, **looks)
        low, high = value.ends
        ax.plot([n, n], [low * scale, high * scale], color=looks["color"], linewidth=1)


def name_lines(ax: Axes, ends: dict[str, tuple[float, float]]) -> None:
    """Write the name of each line at the right edge, far enough apart to be read."""
    import numpy as np

    low, high = np.log10(ax.get_ylim())
    names = sorted(ends, key=lambda name: ends[name][1])
    heights = apart([(np.log10(ends[name][1]) - low) / (high - low) for name in names], 0.065)
    for name, height in zip(names, heights, strict=True):
        ax.annotate(
            name,
            xy=ends[name],
            xytext=(1.03, height),
            textcoords="axes fraction",
            va="center",
            weight="bold" if name == OWN else "normal",
            annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": LOOKS[name][0], "linewidth": 0.7},
        )


def apart(positions: Sequence[float], least: float, top: float = 1.0) -> list[float]:
    """Move ascending positions so that neighbours are at least so far apart, and none above a top.

    Examples
    --------
    >>> apart([0.0, 0.5, 0.75], 0.25)
    [0.0, 0.5, 0.75]
    >>> apart([0.0, 0.75, 1.0, 1.0], 0.25)
    [0.0, 0.5, 0.75, 1.0]
    """
    moved: list[float] = []
    for position in positions:
        moved.append(max(position, moved[-1] + least) if moved else position)
    for i in reversed(range(len(moved))):
        moved[i] = min(moved[i], top)
        top = moved[i] - least
    return moved


def draw_quality(results: Results, path: Path) -> str:
    """Draw two scores of each method on three data sets; return the text of the figure."""
    shown = {"pancreas": "o", "malaria": "^", "simulated_18k": "s"}
    panels = {"trustworthiness": "trustworthiness", "new_accuracy": "label accuracy of new cells"}
    figure, axes = new_figure((4.7, 5.6), len(panels))
    sentences = []
    for ax, (field, label) in zip(axes, panels.items(), strict=True):
        for shift, (data, marker) in zip((-0.2, 0, 0.2), shown.items(), strict=True):
            words = []
            for row, (method, (color, _)) in enumerate(LOOKS.items()):
                if value := found(results, data, method, field):
                    ax.plot(value.ends, [row + shift] * 2, color=color, linewidth=1)
                    ax.plot(value.median, row + shift, marker, color=color, markersize=6)
                    words.append(f"{method} {score(value.median)}")
            if words:
                sentences.append(f"{label.capitalize()}, {SETS[data]}: {', '.join(words)}.")
        ax.set_yticks(range(len(LOOKS)), LOOKS)
        ax.invert_yaxis()
        ax.set_xlabel(label)
        ax.grid(axis="x", color=INK, alpha=0.25)
    for data, marker in shown.items():
        axes[0].plot([], [], marker, color=INK, label=SETS[data])
    figure.legend(loc="outside upper center", fontsize=10)
    save(figure, path)
    return " ".join(sentences) or f"{MISSING.capitalize()}."


def new_figure(size: tuple[float, float], n_panels: int = 1) -> tuple[Any, Any]:
    """Open a figure in the style of the book."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    from rpumap.chapters.style import use_style

    use_style()
    return plt.subplots(n_panels, figsize=size)


def save(figure: Any, path: Path) -> None:
    """Write a figure as SVG, the same bytes for the same figure, and close it."""
    import matplotlib
    import matplotlib.pyplot as plt

    with matplotlib.rc_context({"svg.hashsalt": path.stem}):
        figure.savefig(path, bbox_inches="tight", metadata={"Date": None})
    plt.close(figure)


def figure_text(name: str, caption: str, alt: str) -> str:
    """Write the directive that shows a figure on the page."""
    return (
        f"```{{figure}} ../_build/performance/{name}.svg\n"
        f":name: fig-performance-{name}\n:alt: {alt}\n\n{caption}\n```\n"
    )


def read(path: Path) -> Results:
    """Read results; none where there is no file."""
    return EMPTY | (json.loads(path.read_text(encoding="utf-8")) if path.exists() else {})


def write() -> None:
    """Write what book/performance.md includes, and have that page read again."""
    results = read(PUBLISHED)
    PARTS.mkdir(parents=True, exist_ok=True)
    spread = "Bars reach from the fastest to the slowest repeat, dashed lines are extrapolated."
    parts = {
        "targets": targets(results),
        "ratios": ratios(results),
        "single": singles(results),
        "machine": machine(results),
        "everything": everything(results),
        "time": figure_text(
            "time",
            "Seconds of a cold fit: a fresh process from its start to its end. Lines are simulated "
            f"cells; open markers are real ones, the pancreas and malaria sets. {spread}",
            draw_sizes(results, "cold_s", "cold fit, s", PARTS / "time.svg"),
        ),
        "memory": figure_text(
            "memory",
            "The most memory that a process held until its fit was done, the cells included. "
            "Lines and markers as above.",
            draw_sizes(results, "peak_mb", "peak memory, GB", PARTS / "memory.svg", 1 / 1024),
        ),
        "quality": figure_text(
            "quality",
            "Higher is better. Trustworthiness of the training cells, and the share of held-out "
            "cells whose type is that of most of their 15 nearest training cells on the map. "
            "Bars reach from the lowest to the highest repeat.",
            draw_quality(results, PARTS / "quality.svg"),
        ),
    }
    for name, text in parts.items():
        (PARTS / f"{name}.md").write_text(text + "\n", encoding="utf-8")
    os.utime(PAGE)


def main() -> None:
    """Print the results of the last run, and keep them if that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--publish", action="store_true", help="keep them as book/performance.json")
    parser.add_argument("file", nargs="?", type=Path, default=MEASURED)
    given = parser.parse_args()
    if not given.file.exists():
        parser.error(f"{given.file.name} is not there; `make bench` measures it")
    results = read(given.file)
    for part in (targets, ratios, singles):
        print(f"\n{part(results)}")
    if given.publish:
        shutil.copyfile(given.file, PUBLISHED)
        print(f"\nkept as {PUBLISHED.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
