"""What tests in a browser share: the built pages, the four looks, and what must not happen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
HTML = ROOT / "_build" / "html"
WIDTHS = {"desk": 1280, "phone": 390}
THEMES = ("light", "dark")
SERIOUS = ("serious", "critical")
OWN = ("file:", "data:", "blob:")  # what a page holds itself


def loud(message: Any) -> bool:
    return message.type in ("error", "warning")


def watch(page: Any) -> tuple[list[str], list[str]]:
    """Collect what a page says on the console, and what it asks for."""
    said: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: said.append(message.text) if loud(message) else None)
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda sent: asked.append(sent.url))
    return said, asked


def outside(asked: list[str]) -> list[str]:
    """Return what was asked for from elsewhere."""
    return [url for url in asked if not url.startswith(OWN)]


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


def barriers(page: Any) -> list[str]:
    """Return what axe-core finds to be serious, for users of a keyboard or a screen reader."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    rules = {"label-content-name-mismatch": {"enabled": True}}  # off by default, as experimental
    options = {"rules": rules, "resultTypes": ["violations"]}
    found = axe.Axe().run(page, options=options).response["violations"]
    return [
        f"{violation['id']}: {node['html'][:120]}"
        for violation in found
        if violation["impact"] in SERIOUS
        for node in violation["nodes"]
    ]
