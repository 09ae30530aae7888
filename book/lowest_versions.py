"""Print the lowest versions that pyproject.toml allows, as constraints for pip.

``make lowest`` installs them. A requirement without a lower bound is left to pip.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1] / "pyproject.toml"


def lowest(requirements: list[str]) -> list[str]:
    """Turn ``name>=1.2`` into ``name==1.2``, and leave out what has no such bound."""
    found = (re.match(r"([\w.-]+)\s*(?:>=|==)\s*([\w.]+)", text) for text in requirements)
    return [f"{match[1]}=={match[2]}" for match in found if match]


def main() -> None:
    """Print the dependencies, and those of the tests."""
    project = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]
    print("\n".join(lowest([*project["dependencies"], *project["optional-dependencies"]["test"]])))


if __name__ == "__main__":
    main()
