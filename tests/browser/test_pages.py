"""Every page of the built book in a browser: ``make browser``, after ``make book``.

At the widths of a desk and of a phone, light and dark: no error, nothing from outside, nothing cut
or covered, nothing that keyboard or screen reader cannot use.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
HTML = ROOT / "_build" / "html"
TOC = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
WIDTHS = {"desk": 1280, "phone": 390}
THEMES = ("light", "dark")
SERIOUS = ("serious", "critical")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "google-chrome", "chrome"))), None)

pytestmark = pytest.mark.browser


def documents(node: Any) -> Iterator[str]:
    """Find the files that a table of contents names."""
    if isinstance(node, dict):
        if "file" in node:
            yield node["file"]
        for inner in node.values():
            yield from documents(inner)
    elif isinstance(node, list):
        for inner in node:
            yield from documents(inner)


PAGES = [TOC["root"], *documents(TOC), "search", "genindex"]


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


# each page is opened once, by one of the workers
GROUPED = [pytest.param(name, marks=pytest.mark.xdist_group(name), id=name) for name in PAGES]


@pytest.fixture(scope="module", params=GROUPED)
def opened(request, context):
    """Open a page, and tell what it says and asks for from then on."""
    page, said, asked = context.new_page(), [], []
    page.on("console", lambda message: said.append(message.text) if loud(message) else None)
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda sent: asked.append(sent.url))
    page.goto((HTML / f"{request.param}.html").as_uri())
    page.wait_for_selector("html[data-accessible]", state="attached")  # accessible.js is done
    yield page, said, asked
    page.close()


def loud(message: Any) -> bool:
    return message.type in ("error", "warning")


MISSING_IMAGES = """() => [...document.images]
    .filter((image) => image.getAttribute("src") && image.complete && !image.naturalWidth)
    .map((image) => image.src)"""
TOO_WIDE = """() => {
    const root = document.documentElement;
    return root.scrollWidth - root.clientWidth;
}"""
# A formula must not be cut, to the right or below, nor may its number lie on it.
BAD_FORMULAS = """() => [...document.querySelectorAll("div.math")].filter((block) => {
    const formula = block.querySelector("mjx-container");
    const number = block.querySelector(".eqno");
    if (!formula) return true;
    const [a, box] = [formula.firstElementChild, formula].map((e) => e.getBoundingClientRect());
    const b = number?.getBoundingClientRect();
    const covered = b && b.left < Math.min(a.right, box.right) - 1 && b.right > a.left + 1
        && b.top < a.bottom - 1 && b.bottom > a.top + 1;
    return covered || a.right > box.right + 1
        || formula.scrollHeight > formula.clientHeight + 1;
}).map((block) => block.id || block.textContent.slice(0, 60))"""


# Sidebars move when the width changes, and what scrolls is marked after that.
SETTLED = """async () => {
    const frame = () => new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
    await frame();
    const moving = document.getAnimations().map((animation) => animation.finished);
    const latest = new Promise((done) => setTimeout(done, 400));  // some animations never end
    await Promise.race([Promise.allSettled(moving), latest]);
    await frame();
    await frame();
}"""


def look(page: Any, width: int, theme: str) -> None:
    """Give the page a width and a theme, and let it settle."""
    page.set_viewport_size({"width": width, "height": 844})
    page.emulate_media(color_scheme=theme)
    page.wait_for_selector(f"html[data-theme={theme}]", state="attached")
    page.evaluate(SETTLED)


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("width", WIDTHS.values(), ids=list(WIDTHS))
def test_a_page_is_whole(opened, width, theme):
    page, said, asked = opened
    look(page, width, theme)
    assert said == []
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
    assert page.evaluate(MISSING_IMAGES) == []
    assert page.evaluate(TOO_WIDE) == 0
    assert page.evaluate(BAD_FORMULAS) == []


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("width", WIDTHS.values(), ids=list(WIDTHS))
def test_a_page_can_be_used_by_all(opened, width, theme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    page, _, _ = opened
    look(page, width, theme)
    rules = {"label-content-name-mismatch": {"enabled": True}}  # off by default, as experimental
    options = {"rules": rules, "resultTypes": ["violations"]}
    found = axe.Axe().run(page, options=options).response["violations"]
    assert [
        f"{violation['id']}: {node['html'][:120]}"
        for violation in found
        if violation["impact"] in SERIOUS
        for node in violation["nodes"]
    ] == []


def test_answers_open_by_keyboard(context):
    page = context.new_page()
    page.goto((HTML / "notebooks/00_quickstart.html").as_uri())
    answers = page.locator("#self-check details")
    assert answers.count() >= 9
    first = answers.first
    assert not first.evaluate("(details) => details.open")
    first.locator("summary").focus()
    page.keyboard.press("Enter")
    assert first.evaluate("(details) => details.open")
    assert first.inner_text().strip()
    page.close()


def test_slides_need_nothing_but_the_book(context):
    if not (HTML / "slides" / "index.html").exists():
        pytest.skip("needs the slides: make teaching")
    page, said, asked = context.new_page(), [], []
    page.on("console", lambda message: said.append(message.text) if loud(message) else None)
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda sent: asked.append(sent.url))
    page.goto((HTML / "slides/index.html").as_uri())
    page.wait_for_selector("mjx-container", state="attached")  # formulas are drawn
    page.keyboard.press("ArrowRight")
    page.wait_for_function("location.hash != ''")
    assert said == []
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
    assert page.evaluate(MISSING_IMAGES) == []
    page.close()


SEARCHES = {
    "install": "book/own_data",
    "save a model": "book/own_data",
    "batch effect": "book/own_data",
    "out of distribution": "book/own_data",
    "how many cells do I need": "book/own_data",
    "pickle": "book/own_data",
    "hyperparameters": "book/own_data",
    "dual norm": "notebooks/07_crown_derivation",
    "doublet": "notebooks/05_gap_filling",
}


@pytest.mark.parametrize("words", SEARCHES)
def test_a_search_finds_the_right_page_first(chromium, words):
    page = chromium.new_page()
    page.goto(f"{(HTML / 'search.html').as_uri()}?{urlencode({'q': words})}")
    page.wait_for_selector("#search-results ul.search li a", timeout=20_000)
    first = page.locator("#search-results ul.search li a").first.get_attribute("href")
    page.close()
    assert first.split("#")[0].split("?")[0] == f"{SEARCHES[words]}.html"
