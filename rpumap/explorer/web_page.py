"""The page of a reference map: a folder that a browser opens, from a disk as well."""

from __future__ import annotations

import base64
import json
import os
import tempfile
from html import escape
from pathlib import Path

from rpumap.reference.file import replace_file
from rpumap.reference.reference_map import ReferenceMap

STATIC = Path(__file__).parent / "static"
FILES = ("h5wasm.js", "map_cells.js", "explorer.css", "licenses.txt")
# Nothing may be loaded from elsewhere, and nothing may be sent. HDF5 files are read by WebAssembly
# in a worker, both of which the script holds.
POLICY = (
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval' blob:; worker-src blob:; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; "
    "connect-src 'none'; form-action 'none'; base-uri 'none'"
)
MARK = '<meta name="generator" content="rpumap.explorer">'
PAGE = """\
<!doctype html>
<html lang="en" data-theme="light">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{policy}">
{mark}
<title>{title}</title>
<link rel="stylesheet" href="explorer.css">
</head>
<body class="rpumap-page">
<main>
<h1>{title}</h1>
<p>Drop a file with the counts of your cells: they are placed on this reference map, labelled, and
checked for cells that do not belong there. All of it happens in this page. It may not connect to
anything, so no cell leaves your machine.</p>
<div class="rpumap-explorer" data-app="map-cells">
<noscript>This page computes in the browser and needs JavaScript.</noscript>
</div>
</main>
<script src="reference.js"></script>
<script src="h5wasm.js"></script>
<script src="map_cells.js"></script>
</body>
</html>
"""


def export(ref: ReferenceMap, folder: str | os.PathLike, *, title: str = "Map your cells") -> Path:
    """Write a web page that maps cells on a reference, offline.

    Parameters
    ----------
    ref : ReferenceMap
        A fitted one.
    folder : path-like
        Where; it is made if it is not there. It can be opened from a disk, sent as an archive, or
        put on any web server. A page that was exported there before is replaced.
    title : str, default "Map your cells"
        Heading of the page, and what it calls the reference.

    Returns
    -------
    Path
        The file ``index.html`` in the folder, to be opened in a browser.

    Raises
    ------
    TypeError
        If `ref` is no ReferenceMap, or `title` no text.
    sklearn.exceptions.NotFittedError
        If it is not fitted.
    FileExistsError
        If the folder has another page ``index.html``, which is left as it is.
    OSError
        If it cannot be written.

    Notes
    -----
    The page holds what ``ref.save`` writes: the network, names of genes and labels, and a few
    components of each stored cell, but no counts. It reads AnnData's ``.h5ad``, files of 10x
    Genomics, and tables as text. It says of cells what ``ref.map(query, method="crown_ibp")``
    says, but for two things: bounds are certified against rounding in Python only, and boxes are
    cut finer when labels are certified, so that some more cells are certain. The content security
    policy of the page forbids all connections.

    Examples
    --------
    >>> import tempfile, rpumap
    >>> adata = rpumap.datasets.pancreas(source="simulated")
    >>> ref = rpumap.ReferenceMap(n_top_genes=50, robust=False).fit(adata[::9], labels="clusters")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     page = rpumap.explorer.export(ref, folder, title="Pancreas")
    ...     len(list(page.parent.iterdir()))
    6
    """
    if not isinstance(ref, ReferenceMap):
        raise TypeError(f"ref must be a ReferenceMap, got {type(ref).__name__}")
    if not isinstance(title, str):
        raise TypeError(f"title must be a text, got {type(title).__name__}")
    script = reference_script(ref, title)
    folder = Path(folder)
    page = folder / "index.html"
    if page.exists() and MARK not in page.read_text(encoding="utf-8", errors="replace"):
        raise FileExistsError(
            f"{page} is there and was not written by rpumap.explorer.export: choose another folder"
        )
    folder.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        replace_file(folder / name, (STATIC / name).read_bytes())
    replace_file(folder / "reference.js", script.encode())
    text = PAGE.format(title=escape(title), policy=POLICY, mark=MARK)
    replace_file(page, text.encode())  # last: a page that is there is whole
    return page


def reference_script(ref: ReferenceMap, name: str) -> str:
    """Write a reference map as a script, since a page on a disk may not read other files.

    Parameters
    ----------
    ref : ReferenceMap
        A fitted one.
    name : str
        What the page calls it.

    Returns
    -------
    str
        A script that sets ``rpumapReference``.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "reference.rpumap"
        ref.save(path)
        content = base64.b64encode(path.read_bytes()).decode()
    return f"globalThis.rpumapReference = {json.dumps({'name': name, 'base64': content})};\n"
