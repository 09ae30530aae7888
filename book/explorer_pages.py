"""Sphinx extension: pages that compute in the browser.

``explorer`` with the argument ``certificate`` or ``map-cells`` puts an app of
:mod:`rpumap.explorer` here. Its lines are what is seen where no script runs. With the option
``inset`` the app is the smaller one of a chapter.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.util.docutils import SphinxDirective

import explorer_data
from rpumap.explorer.web_page import POLICY, STATIC

if TYPE_CHECKING:
    from sphinx.application import Sphinx

SCRIPTS = {
    "certificate": ("certificate_data.js", "certificate.js"),
    "map-cells": ("reference.js", "h5wasm.js", "map_cells.js"),
}
# The theme has scripts of its own in each page, and a form that leads to the search page.
BOOK_POLICY = POLICY.replace("script-src 'self'", "script-src 'self' 'unsafe-inline'")
BOOK_POLICY = BOOK_POLICY.replace("form-action 'none'", "form-action 'self'")


class Explorer(SphinxDirective):
    """Put an app here."""

    required_arguments = 1
    has_content = True
    option_spec = {"inset": directives.flag}

    def run(self) -> list[nodes.Node]:
        """Open the place of the app, with the text that it replaces."""
        (app,) = self.arguments
        if app not in SCRIPTS:
            raise self.error(f"explorer must be one of {', '.join(SCRIPTS)}, got {app!r}")
        inset = " data-inset" if "inset" in self.options else ""
        opening = f'<div class="rpumap-explorer" data-app="{app}"{inset}>'
        text = nodes.container()
        self.state.nested_parse(self.content, self.content_offset, text)
        apps = self.env.metadata[self.env.docname].setdefault("explorer", [])
        apps.append(app)
        return [nodes.raw("", opening, format="html"), text, nodes.raw("", "</div>", format="html")]


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the extension."""
    app.add_directive("explorer", Explorer)
    app.connect("html-page-context", add_scripts)
    app.connect("build-finished", copy)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def add_scripts(app: Sphinx, page: str, template: str, context: dict, doctree: Any) -> None:
    """Load the scripts of the apps of a page, and forbid connections where cells are dropped."""
    apps = app.env.metadata.get(page, {}).get("explorer", [])
    if apps:
        app.add_css_file("explorer/explorer.css")
    for script in [script for name in dict.fromkeys(apps) for script in SCRIPTS[name]]:
        app.add_js_file(f"explorer/{script}", loading_method="defer")
    if "map-cells" in apps:
        policy = f'<meta http-equiv="Content-Security-Policy" content="{BOOK_POLICY}">\n'
        context["metatags"] = policy + context.get("metatags", "")


def copy(app: Sphinx, error: Exception | None) -> None:
    """Copy scripts, style sheet, networks and cells into the book."""
    if error is None and app.builder.format == "html":
        folder = Path(app.outdir) / "_static" / "explorer"
        for source in (STATIC, explorer_data.write()):
            shutil.copytree(
                source, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("key")
            )
