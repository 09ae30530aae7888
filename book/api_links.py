"""Sphinx extension: functions of the API link to their chapter, and chapters to their functions."""

from __future__ import annotations

from pydoc import locate
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from docutils import nodes
    from sphinx.application import Sphinx

# By the module that defines a name, or by the name itself, which goes before.
CHAPTERS = {
    "rpumap.preprocessing": "00_quickstart",
    "rpumap.metrics": "00_quickstart",
    "rpumap.plotting.embedding": "00_quickstart",
    "rpumap.plotting.boxes": "07_crown_derivation",
    "rpumap.plotting.loss_curve": "03_training",
    "rpumap.datasets": "00_quickstart",
    "rpumap.datasets.dentate_gyrus": "05_gap_filling",
    "rpumap.datasets.malaria": "10_reference_mapping",
    "rpumap.datasets.pbmc": "10_reference_mapping",
    "rpumap.graph": "01_fuzzy_graph",
    "rpumap.losses": "02_loss_derivation",
    "rpumap.losses.bound_loss": "08_robust_training",
    "rpumap.losses.reconstruction_loss": "08_robust_training",
    "rpumap.networks": "03_training",
    "rpumap.training": "03_training",
    "rpumap.estimator": "03_training",
    "rpumap.verification": "07_crown_derivation",
    "rpumap.verification.labels": "08_robust_training",
    "rpumap.verification.certify.certified_label_fraction": "08_robust_training",
    "rpumap.dropout": "06_dropout",
    "rpumap.dropout.dropout_box": "09_gene_impact",
    "rpumap.fine_tuning": "08_robust_training",
    "rpumap.fine_tuning.resist_dropout": "06_dropout",
    "rpumap.fine_tuning.extend": "10_reference_mapping",
    "rpumap.sensitivity": "09_gene_impact",
    "rpumap.reference": "10_reference_mapping",
    "rpumap.explorer": "10_reference_mapping",
}


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the extension."""
    # after numpydoc has made its sections
    app.connect("autodoc-process-docstring", add_link, priority=900)
    app.connect("doctree-resolved", list_functions)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def chapter_of(obj: Any) -> str | None:
    """Find the chapter of a function or class, by the longest entry that its name begins with."""
    name = f"{obj.__module__}.{obj.__qualname__}."
    entries = [entry for entry in CHAPTERS if name.startswith(f"{entry}.")]
    return CHAPTERS[max(entries, key=len)] if entries else None


def add_link(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """End the documentation of functions and classes with a link to their chapter."""
    chapter = chapter_of(obj) if what in ("function", "class") else None
    if chapter:
        lines += ["", f"Chapter: :doc:`/notebooks/{chapter}`", ""]


def list_functions(app: Sphinx, doctree: nodes.document, page: str) -> None:
    """End a chapter with links to the documentation of its functions and classes."""
    from docutils import nodes

    objects = app.env.domaindata["py"]["objects"]
    links: list[nodes.Node] = []
    for name, entry in objects.items():
        if entry.objtype not in ("function", "class") or entry.aliased:
            continue
        chapter = chapter_of(locate(name))
        if chapter and page == f"notebooks/{chapter}":
            target = f"{app.builder.get_relative_uri(page, entry.docname)}#{entry.node_id}"
            link = nodes.reference("", "", internal=True, refuri=target)
            link += nodes.literal(text=name.removeprefix("rpumap."))
            links += [nodes.Text(", ") if links else nodes.Text("In the API: "), link]
    if links:
        title = next(
            node for node in doctree.findall(nodes.title) if node.astext() == "In practice"
        )
        title.parent += nodes.paragraph("", "", *links)
