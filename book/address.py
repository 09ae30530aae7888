"""Where the project is published: the one setting is the environment variable RPUMAP_REPOSITORY.

It holds the address of the repository, such as ``https://github.com/name/rpumap``; the workflow
that publishes the pages sets it to the repository it runs in. Where it is not set, nothing leads
there: no buttons, no cell that installs from it, no links.
"""

from __future__ import annotations

import os
import re
from typing import Any

BRANCH = "main"
CONVERTED = "colab"  # the branch that the notebooks for Colab are published on


def repository() -> str:
    """Return the address of the repository, or nothing.

    Raises
    ------
    ValueError
        If it is not the address of a repository on the web.
    """
    address = os.environ.get("RPUMAP_REPOSITORY", "").strip().rstrip("/")
    if address and not re.fullmatch(r"https://[\w.-]+/[\w.-]+/[\w.-]+", address):
        raise ValueError(
            f"RPUMAP_REPOSITORY is {address!r}: give an address like https://github.com/name/rpumap"
        )
    return address


def web_page(document: str) -> str:
    """Return the address of a page of the published book, or nothing where there is none."""
    found = re.fullmatch(r"https://github\.com/([\w.-]+)/([\w.-]+)", repository())
    return f"https://{found[1]}.github.io/{found[2]}/{document}.html" if found else ""


def book_config() -> dict[str, Any]:
    """Return the settings of jupyter-book that lead to the repository."""
    if not repository():
        return {}
    return {
        "repository": {"url": repository(), "path_to_book": "", "branch": BRANCH},
        "launch_buttons": {
            "notebook_interface": "jupyterlab",
            "binderhub_url": "https://mybinder.org",
            "colab_url": "https://colab.research.google.com",
        },
        "html": {"use_repository_button": True, "use_issues_button": True},
    }
