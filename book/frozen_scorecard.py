"""Compare the scorecard of the last build with the rows that were stored before a rearrangement.

``python book/frozen_scorecard.py`` after ``make book`` with the real pancreas cells prints the rows
whose numbers or verdicts differ from ``tests/data/frozen_scorecard.json``, and fails if there are
any. Rows are told apart by chapter and order, since their wording may change. ``--write`` stores
the rows of the last build: do so when a result changes for a reason.
"""

from __future__ import annotations

import json
import sys

import build
import scorecard_page

STORED = build.ROOT / "tests" / "data" / "frozen_scorecard.json"
NUMBERS = ("value", "spread", "baseline_value")
KEPT = ("chapter", "figure", *NUMBERS, "repeats", "verdict", "real")
TOLERANCE = 1e-6  # relative; the last bits depend on the processor


def last_rows() -> list[dict]:
    """List what the chapters of the last build reported, without the wording."""
    runs = build.executed(build.table_of_contents())
    rows = scorecard_page.results({document: notebook for document, _, notebook in runs})
    return [{name: row[name] for name in KEPT} for row in rows]


def differs(row: dict, stored: dict) -> bool:
    """Tell whether two rows have other numbers or another verdict."""
    if any(row[name] != stored[name] for name in set(KEPT) - set(NUMBERS)):
        return True
    pairs = [(row[name], stored[name]) for name in NUMBERS]
    return any(
        (a is None) != (b is None) or (a is not None and abs(a - b) > TOLERANCE * max(1.0, abs(b)))
        for a, b in pairs
    )


def main() -> None:
    """Compare, or store with ``--write``."""
    rows = last_rows()
    if "--write" in sys.argv[1:]:
        lines = ",\n ".join(json.dumps(row) for row in rows)
        STORED.write_text(f"[{lines}]\n", encoding="utf-8")
        return
    stored = json.loads(STORED.read_text(encoding="utf-8"))
    wrong = [pair for pair in zip(rows, stored, strict=True) if differs(*pair)]
    for row, before in wrong:
        print(f"now    {row}\nbefore {before}\n")
    print(f"{len(rows)} rows, {len(wrong)} differ from those in {STORED.relative_to(build.ROOT)}")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
