"""Every page of the built book in a browser: ``make browser``, after ``make book``.

At the widths of a desk and of a phone, light and dark: no error, nothing from outside, nothing cut
or covered, nothing that keyboard or screen reader cannot use.
"""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

import pytest
import yaml
from browsing import HTML, ROOT, THEMES, WIDTHS, barriers, look, outside, watch

TOC = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))

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


# each page is opened once, by one of the workers
GROUPED = [pytest.param(name, marks=pytest.mark.xdist_group(name), id=name) for name in PAGES]


@pytest.fixture(scope="module", params=GROUPED)
def opened(request, context):
    """Open a page, and tell what it says and asks for from then on."""
    page = context.new_page()
    said, asked = watch(page)
    page.goto((HTML / f"{request.param}.html").as_uri())
    page.wait_for_selector("html[data-accessible]", state="attached")  # accessible.js is done
    yield page, said, asked
    page.close()


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


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("width", WIDTHS.values(), ids=list(WIDTHS))
def test_a_page_is_whole(opened, width, theme):
    page, said, asked = opened
    look(page, width, theme)
    assert said == []
    assert outside(asked) == []
    assert page.evaluate(MISSING_IMAGES) == []
    assert page.evaluate(TOO_WIDE) == 0
    assert page.evaluate(BAD_FORMULAS) == []


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("width", WIDTHS.values(), ids=list(WIDTHS))
def test_a_page_can_be_used_by_all(opened, width, theme):
    page, _, _ = opened
    look(page, width, theme)
    assert barriers(page) == []


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
    page = context.new_page()
    said, asked = watch(page)
    page.goto((HTML / "slides/index.html").as_uri())
    page.wait_for_selector("mjx-container", state="attached")  # formulas are drawn
    page.keyboard.press("ArrowRight")
    page.wait_for_function("location.hash != ''")
    assert said == []
    assert outside(asked) == []
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
    "certificate explorer": "book/certificate_explorer",
    "map cells in the browser": "book/map_your_cells",
}


@pytest.mark.parametrize("words", SEARCHES)
def test_a_search_finds_the_right_page_first(chromium, words):
    page = chromium.new_page()
    page.goto(f"{(HTML / 'search.html').as_uri()}?{urlencode({'q': words})}")
    page.wait_for_selector("#search-results ul.search li a", timeout=20_000)
    first = page.locator("#search-results ul.search li a").first.get_attribute("href")
    page.close()
    assert first.split("#")[0].split("?")[0] == f"{SEARCHES[words]}.html"


@pytest.mark.parametrize("name", ["certificate_explorer", "map_your_cells"])
def test_a_page_that_computes_loads_little(chromium, name):
    text = (HTML / "book" / f"{name}.html").read_text(encoding="utf-8")
    loaded = re.findall(r'(?:src|href)="\.\./(_static/explorer/[^"?]+)', text)
    assert len(loaded) >= 3
    compressed = [len(gzip.compress((HTML / file).read_bytes())) for file in loaded]
    assert sum(compressed) < 3e6
