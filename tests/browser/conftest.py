"""Chromium for all tests in a browser."""

from __future__ import annotations

import shutil

import pytest
from browsing import HTML

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "google-chrome", "chrome"))), None)


@pytest.fixture(scope="session")
def chromium():
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    if CHROMIUM is None:
        pytest.skip("needs Chromium, such as Debian's package of that name")
    if not (HTML / "index.html").exists():
        pytest.skip("needs the pages: make book")
    with sync_api.sync_playwright() as playwright:
        options = ["--no-sandbox", "--disable-gpu"]
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=options)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def context(chromium):
    context = chromium.new_context(reduced_motion="reduce")
    yield context
    context.close()
