"""How long a browser takes to map cells, and to draw a frame of the certificate explorer.

``python tests/benchmarks/bench_explorer.py`` needs Chromium, and for frames the built book. It
writes a table of 10,000 cells and 20,000 genes, with some 2,000 entries a cell, drops it on an
exported page, and prints seconds, megabytes, and the size of what each page loads.
"""

from __future__ import annotations

import gzip
import shutil
import statistics
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from anndata import AnnData
from playwright.sync_api import sync_playwright
from scipy import sparse

import rpumap

HTML = Path(__file__).resolve().parents[2] / "_build" / "html"
N_CELLS, N_GENES, SHARE = 10_000, 20_000, 0.1
MOUNT = "document.querySelector('.rpumap-explorer').rpumap"
FRAMES = """async () => {
    const { rpumap } = document.querySelector(".rpumap-explorer");
    const times = [];
    for (let i = 0; i < 300; i++) {
        rpumap.show({ eps: 0.05 + 0.001 * i });
        await new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
        times.push(rpumap.lastFrame);
    }
    return times;
}"""


def write_table(ref: rpumap.ReferenceMap, path: Path) -> None:
    """Write counts, of which the reference's genes are some."""
    draw = np.random.default_rng(0)
    X = sparse.random(N_CELLS, N_GENES, SHARE, "csr", dtype=np.float32, random_state=draw)
    X.data = draw.geometric(0.4, len(X.data)).astype(np.float32)
    table = AnnData(X)
    known = ref.preprocessor_.genes_
    table.var_names = [*known, *(f"gene {i}" for i in range(N_GENES - len(known)))]
    table.write_h5ad(path)
    print(f"table: {X.nnz / N_CELLS:.0f} entries a cell, {path.stat().st_size / 1e6:.0f} MB")


def map_cells(browser: Any, folder: Path) -> None:
    """Drop the table on a page, and print what that took."""
    ref = rpumap.ReferenceMap(robust=False)
    ref.fit(rpumap.datasets.pancreas(source="simulated"), labels="clusters")
    write_table(ref, folder / "table.h5ad")
    page = browser.new_page()
    page.goto(rpumap.explorer.export(ref, folder / "page").as_uri())
    page.wait_for_function(f"() => {MOUNT}?.reference")
    for _ in range(3):
        page.locator(".rpumap-cells input[type=file]").set_input_files(folder / "table.h5ad")
        page.wait_for_function(f"() => {MOUNT}.state !== 'done'")
        page.wait_for_function(f"() => {MOUNT}.state === 'done'", timeout=300_000)
        seconds, held = page.evaluate(f"() => [{MOUNT}.seconds, {MOUNT}.bytes]")
        parts = ", ".join(f"{name} {value / 1e6:.1f}" for name, value in held.items())
        print(
            f"mapped: {seconds['reading']:.2f} s to read, {seconds['computing']:.2f} s to compute, "
            f"{sum(held.values()) / 1e6:.0f} MB held ({parts})"
        )
    page.close()


def draw_frames(browser: Any) -> None:
    """Move the noise, and print how long frames take."""
    page = browser.new_page(viewport={"width": 1280, "height": 1000})
    page.goto((HTML / "book" / "certificate_explorer.html").as_uri())
    page.wait_for_function(f"() => {MOUNT}?.settled")
    times = sorted(page.evaluate(FRAMES))
    print(
        f"frames: median {statistics.median(times):.1f} ms, 95 % within "
        f"{times[int(0.95 * len(times))]:.1f}, longest {times[-1]:.1f}"
    )


def sizes() -> None:
    """Print what the scripts of each page weigh when they are compressed for transfer."""
    scripts = {
        "certificate": ("certificate.js", "certificate_data.js", "explorer.css"),
        "map cells": ("map_cells.js", "h5wasm.js", "reference.js", "explorer.css"),
    }
    for page, names in scripts.items():
        files = [HTML / "_static" / "explorer" / name for name in names]
        weights = [len(gzip.compress(file.read_bytes(), 9)) / 1e6 for file in files]
        listed = ", ".join(f"{n} {w:.2f}" for n, w in zip(names, weights, strict=True))
        print(f"{page}: {sum(weights):.2f} MB compressed ({listed})")


def main() -> None:
    """Measure."""
    path = next(filter(None, map(shutil.which, ("chromium", "google-chrome", "chrome"))))
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as folder:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        map_cells(browser, Path(folder))
        draw_frames(browser)
        sizes()


if __name__ == "__main__":
    main()
