"""Sphinx extension: mend what the theme and its extensions leave in each page.

Scripts that stand in a page twice fail in the second place, and those of Thebe serve nothing here.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from address import BRANCH, CONVERTED

if TYPE_CHECKING:
    from sphinx.application import Sphinx


# A signature of several lines comes as a list of definitions that defines nothing.
PARAMETERS = re.compile(r'<dl>\s*((?:<dd><em class="sig-param">.*?</dd>\s*)+)</dl>', re.DOTALL)


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the extension."""
    # after all extensions have added theirs
    app.connect("html-page-context", clean_files, priority=900)
    app.connect("html-page-context", clean_buttons, priority=900)
    app.connect("html-page-context", clean_body, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def clean_files(app: Sphinx, page: str, template: str, context: dict, doctree: Any) -> None:
    """Drop scripts and style sheets of Thebe, and what is there a second time."""
    for kind in ("script_files", "css_files"):
        kept = {}
        for file in context.get(kind, ()):
            body = getattr(file, "attributes", {}).get("body", "")
            if "thebe" not in f"{getattr(file, 'filename', file)}{body}".lower():
                kept.setdefault((str(getattr(file, "filename", file)), str(body)), file)
        if kind in context:
            context[kind] = list(kept.values())


def clean_buttons(app: Sphinx, page: str, template: str, context: dict, doctree: Any) -> None:
    """Offer to run notebooks only, and on Colab those that were converted for it."""
    if doctree is None:
        return
    launch = [b for b in context.get("header_buttons", []) if b.get("label") == "launch-buttons"]
    if not app.env.doc2path(page).endswith(".ipynb"):
        for button in launch:
            context["header_buttons"].remove(button)
    for button in [button for group in launch for button in group.get("buttons", [])]:
        url = button.get("url", "")
        if "colab.research.google.com" in url:
            button["url"] = url.replace(f"/blob/{BRANCH}/notebooks/", f"/blob/{CONVERTED}/")


def clean_body(app: Sphinx, page: str, template: str, context: dict, doctree: Any) -> None:
    """Mend what misleads a screen reader: roles and lists whose parts are not there."""
    body = context.get("body")
    if body:
        body = body.replace('<div role="list" class="citation-list">', "<div>")
        body = body.replace('<summary aria-label="Toggle hidden content">', "<summary>")
        context["body"] = PARAMETERS.sub(_lines, body)


def _lines(found: re.Match) -> str:
    lines = found[1].replace("<dd>", '<span class="sig-line">').replace("</dd>", "</span>")
    return f'<span class="sig-lines">{lines}</span>'
