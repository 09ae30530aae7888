"""The certificate explorer: its numbers are Python's, and it follows mouse, touch and keyboard."""

from __future__ import annotations

import base64
import json
import statistics

import numpy as np
import pytest
import torch
from browsing import HTML, THEMES, WIDTHS, barriers, look, outside, watch
from safetensors.numpy import load

from rpumap.networks import mlp
from rpumap.verification import Ball, crown, crown_ibp, ibp, labels_are_certain

PAGE = HTML / "book" / "certificate_explorer.html"
CHAPTER = HTML / "notebooks" / "07_crown_derivation.html"
MOUNT = ".rpumap-explorer[data-app=certificate]"
SETTLED = f"() => document.querySelector('{MOUNT}').rpumap?.settled"
BOUNDS = {"ibp": ibp, "crown_ibp": crown_ibp, "crown": crown}

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("certificate")]


@pytest.fixture(scope="module")
def shipped(chromium):
    """Read what the page computes with."""
    script = (HTML / "_static" / "explorer" / "certificate_data.js").read_text(encoding="utf-8")
    data = base64.b64decode(script.split('"')[1])
    size = int.from_bytes(data[:8], "little")
    about = json.loads(json.loads(data[8 : 8 + size])["__metadata__"]["rpumap"])
    return about, load(data)


def network(arrays, number):
    """Rebuild a network of the page, in double precision."""
    prefix = f"model.{number}."
    state = {
        name.removeprefix(prefix): torch.as_tensor(array).double()
        for name, array in sorted(arrays.items())
        if name.startswith(prefix) and not name.endswith("map")
    }
    sizes = [len(bias) for name, bias in state.items() if name.endswith("bias")]
    encoder = mlp(arrays["cells.z"].shape[1], sizes[:-1], 2).double()
    encoder.load_state_dict(state)
    return encoder.requires_grad_(False)


def shows(context, file):
    page = context.new_page()
    page.set_viewport_size({"width": WIDTHS["desk"], "height": 844})
    page.goto(file.as_uri())
    page.wait_for_function(SETTLED)
    return page


@pytest.fixture(scope="module")
def page(context):
    page = shows(context, PAGE)
    yield page
    page.close()


def ask(page, what):
    return page.evaluate(f"() => document.querySelector('{MOUNT}').rpumap.{what}")


def show(page, **state):
    page.evaluate(f"(state) => document.querySelector('{MOUNT}').rpumap.show(state)", state)
    page.wait_for_function(SETTLED)


STATES = [
    {"cell": 0, "eps": 0.02, "norm": "linf", "model": 0},
    {"cell": 17, "eps": 0.2, "norm": "linf", "model": 0},
    {"cell": 17, "eps": 0.2, "norm": "linf", "model": 3},
    {"cell": 400, "eps": 2.0, "norm": "l2", "model": 1},
    {"cell": 799, "eps": 15.0, "norm": "l1", "model": 4},
    {"cell": 5, "eps": 0.0, "norm": "linf", "model": 2},
]


@pytest.mark.parametrize("state", STATES, ids=lambda state: "-".join(map(str, state.values())))
def test_boxes_are_those_of_python(page, shipped, state):
    _, arrays = shipped
    show(page, **state)
    boxes, points = ask(page, "boxes"), ask(page, "points")
    encoder = network(arrays, state["model"])
    x = torch.as_tensor(arrays["cells.z"][[state["cell"]]]).double()
    np.testing.assert_allclose(points["place"], encoder(x), rtol=1e-6)
    for name, bounds in BOUNDS.items():
        lower, upper = bounds(encoder, Ball(x, state["eps"], state["norm"]))
        np.testing.assert_allclose(boxes[name]["lower"], lower[0], rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(boxes[name]["upper"], upper[0], rtol=1e-4, atol=1e-6)
    assert len(points["copies"]) == 200
    for cloud in (points["copies"], points["attacks"], points["polygon"]):
        assert (np.array(cloud) >= np.array(boxes["crown"]["lower"]) - 1e-6).all()
        assert (np.array(cloud) <= np.array(boxes["crown"]["upper"]) + 1e-6).all()


def test_attacks_reach_further_than_random_noise(page):
    show(page, cell=17, eps=0.1, norm="linf", model=0)
    points = ask(page, "points")
    copies, attacks = np.ptp(points["copies"], axis=0), np.ptp(points["attacks"], axis=0)
    assert (attacks > 1.5 * copies).all()


@pytest.mark.parametrize("eps", [0.01, 0.05, 0.2])
def test_labels_are_certain_where_python_says_so(page, shipped, eps):
    about, arrays = shipped
    for cell in (3, 111, 222, 333):
        show(page, cell=cell, eps=eps, norm="linf", model=3)
        found = ask(page, "labels")["boxes"]
        for name, box in ask(page, "boxes").items():
            ends = [box["lower"]], [box["upper"]]
            others = np.arange(len(arrays["cells.labels"])) != cell  # it is no neighbour of itself
            labelled = arrays["model.3.map"][others], arrays["cells.labels"][others]
            # the page cuts boxes finer than Python does by default
            coarse = labels_are_certain(*ends, *labelled)[0]
            fine = labels_are_certain(*ends, *labelled, max_splits=20)[0]
            certain = found[name]["certain"]
            assert coarse <= certain <= fine
            assert (len(found[name]["reached"]) > 1) <= (not certain)
            assert set(found[name]["reached"]) <= set(about["labels"])


def test_the_slider_moves_the_boxes(page):
    show(page, cell=17, eps=0.1, norm="linf", model=0)
    slider = page.locator(f"{MOUNT} input[name=eps]")
    slider.scroll_into_view_if_needed()
    box = slider.bounding_box()
    middle = box["y"] + box["height"] / 2
    widths = []
    page.mouse.move(box["x"] + box["width"] * 0.25, middle)
    page.mouse.down()
    for share in (0.3, 0.5, 0.7):
        page.mouse.move(box["x"] + box["width"] * share, middle, steps=5)
        page.wait_for_function(SETTLED)
        widths.append([np.subtract(b["upper"], b["lower"]) for b in ask(page, "boxes").values()])
    page.mouse.up()
    assert ask(page, "state.eps") == pytest.approx(0.28, abs=0.02)
    assert (np.diff(widths, axis=0) > 0).all()


def test_all_can_be_done_by_keyboard(page):
    show(page, cell=17, eps=0.1, norm="linf", model=0)
    page.locator(f"{MOUNT} input[name=eps]").focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_function(SETTLED)
    assert ask(page, "state.eps") > 0.1
    page.locator(f"{MOUNT} input[name=model]").focus()
    page.keyboard.press("End")
    page.wait_for_function(SETTLED)
    assert ask(page, "state.model") == 4
    page.locator(f"{MOUNT} select[name=norm]").focus()
    page.keyboard.press("ArrowDown")
    page.wait_for_function(SETTLED)
    assert ask(page, "state.norm") == "l2"
    page.locator(f"{MOUNT} .rpumap-map canvas[tabindex]").focus()
    before = ask(page, "points.place")
    page.keyboard.press("ArrowRight")
    page.wait_for_function(SETTLED)
    assert ask(page, "points.place")[0][0] != before[0][0]
    assert ask(page, "state.cell") != 17
    page.locator(f"{MOUNT} button").first.focus()
    page.keyboard.press("Enter")
    page.wait_for_function(SETTLED)
    assert ask(page, "state.eps") == 0.02 and ask(page, "state.norm") == "linf"


def test_three_steps_tell_the_story(page):
    show(page, cell=ask(page, "state.cell"))
    shares, texts = [], []
    for number in range(3):
        page.locator(f"{MOUNT} button").nth(number).click()
        page.wait_for_function(SETTLED)
        box = ask(page, "boxes.crown")
        shares.append(np.subtract(box["upper"], box["lower"]).max())
        texts.append(page.locator(f"{MOUNT} .rpumap-certificate-explanation").inner_text())
    assert shares[0] < shares[2] < shares[1] / 2
    assert len(set(texts)) == 3 and all("%" in text for text in texts)


def test_what_is_seen_is_said(page):
    show(page, cell=17, eps=0.2, norm="linf", model=0)
    sentence = page.locator(f"{MOUNT} .rpumap-certificate-sentence")
    page.wait_for_function(
        f"() => document.querySelector('{MOUNT} .rpumap-certificate-sentence').innerText"
        ".includes('0.2')"
    )
    assert sentence.get_attribute("aria-live") == "polite"
    rows = page.locator(f"{MOUNT} table tbody tr")
    assert rows.count() == 5
    assert "…" not in page.locator(f"{MOUNT} table").inner_text()


def test_a_frame_is_drawn_in_time(page):
    show(page, cell=17, eps=0.1, norm="linf", model=0)
    times = page.evaluate(
        """async (mount) => {
            const { rpumap } = document.querySelector(mount);
            const times = [];
            for (let i = 0; i < 100; i++) {
                rpumap.show({ eps: 0.05 + 0.002 * i });
                await new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
                times.push(rpumap.lastFrame);
            }
            return times;
        }""",
        MOUNT,
    )
    print(f"frames: median {statistics.median(times):.1f} ms, longest {max(times):.1f} ms")
    assert statistics.median(times) < 16


def test_a_finger_chooses_a_cell(chromium):
    context = chromium.new_context(
        has_touch=True, viewport={"width": WIDTHS["phone"], "height": 844}, reduced_motion="reduce"
    )
    page = context.new_page()
    page.goto(PAGE.as_uri())
    page.wait_for_function(SETTLED)
    canvas = page.locator(f"{MOUNT} .rpumap-map canvas[tabindex]")
    canvas.scroll_into_view_if_needed()
    x, y = ask(page, "pixels(40)")
    box = canvas.bounding_box()
    page.touchscreen.tap(box["x"] + x, box["y"] + y)
    page.wait_for_function(SETTLED)
    place = np.array(ask(page, "points.place")[0])
    assert ask(page, "state.cell") == 40 or np.allclose(ask(page, "pixels(40)"), [x, y])
    assert np.isfinite(place).all()
    map_box, slider = canvas.bounding_box(), page.locator(f"{MOUNT} input[name=eps]").bounding_box()
    assert slider["y"] + slider["height"] - map_box["y"] < 844  # seen together
    context.close()


def test_the_chapter_has_a_smaller_one(context, shipped):
    page = shows(context, CHAPTER)
    assert page.locator(f"{MOUNT}[data-inset]").count() == 1
    assert page.locator(f"{MOUNT} table").count() == 0
    show(page, cell=0, eps=0.1, model=0)
    x = torch.as_tensor(shipped[1]["cells.z"][[0]]).double()
    lower, _ = crown(network(shipped[1], 0), Ball(x, 0.1))
    np.testing.assert_allclose(ask(page, "boxes.crown.lower"), lower[0], rtol=1e-4)
    page.close()


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("width", WIDTHS.values(), ids=list(WIDTHS))
def test_a_used_page_can_be_used_by_all(context, width, theme):
    page = context.new_page()
    said, asked = watch(page)
    page.goto(PAGE.as_uri())
    page.wait_for_function(SETTLED)
    look(page, width, theme)
    page.locator(f"{MOUNT} button").nth(1).click()
    page.wait_for_function(SETTLED)
    assert said == [] and outside(asked) == []
    assert barriers(page) == []
    page.close()
