"""Settings that every test shares."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

# Empty counts as unset; and notebooks run in their own folder, so the path must not be relative.
if os.environ.get("RPUMAP_DATA_DIR", "").strip():
    os.environ["RPUMAP_DATA_DIR"] = str(Path(os.environ["RPUMAP_DATA_DIR"]).resolve())
else:
    os.environ.pop("RPUMAP_DATA_DIR", None)

# Figures are drawn in memory, on machines with and without a screen.
os.environ.setdefault("MPLBACKEND", "agg")


@pytest.fixture(scope="session")
def root() -> Path:
    """Give the folder of the project."""
    return Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def cells() -> SimpleNamespace:
    """Prepare the book's pancreas cells: the real ones where they are there, else simulated."""
    import rpumap

    adata = rpumap.datasets.pancreas()
    X = rpumap.Preprocessor(n_top_genes=300).fit_transform(adata)
    return SimpleNamespace(adata=adata, X=X, labels=adata.obs["clusters"])


@pytest.fixture(scope="session")
def chromium(root):
    """Start Chromium for the tests of the built pages."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    names = ("chromium", "google-chrome", "chrome")
    path = next(filter(None, map(shutil.which, names)), None)
    if path is None:
        pytest.skip("needs Chromium, such as Debian's package of that name")
    if not (root / "_build" / "html" / "index.html").exists():
        pytest.skip("needs the pages: make book")
    with sync_api.sync_playwright() as playwright:
        options = ["--no-sandbox", "--disable-gpu"]
        browser = playwright.chromium.launch(executable_path=path, args=options)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def context(chromium):
    """Give a window in which nothing moves by itself."""
    context = chromium.new_context(reduced_motion="reduce")
    yield context
    context.close()
