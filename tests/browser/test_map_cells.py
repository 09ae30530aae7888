"""The page that maps cells: of each kind of file it says what Python says, and it sends nothing."""

from __future__ import annotations

import base64
import copy
import csv
import gzip
import json
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
import torch
from browsing import HTML, THEMES, WIDTHS, barriers, look, outside, watch
from scipy.io import mmwrite

import rpumap
from rpumap.verification import Ball, crown, crown_ibp

PAGE = HTML / "book" / "map_your_cells.html"
MOUNT = ".rpumap-explorer[data-app=map-cells]"
KNOWN = f"document.querySelector('{MOUNT}').rpumap"

pytestmark = [
    pytest.mark.browser,
    pytest.mark.xdist_group("map_cells"),
    # tables without library sizes, of part of the genes
    pytest.mark.filterwarnings("ignore:the chosen genes hold"),
]


@pytest.fixture(scope="module")
def ref(chromium, tmp_path_factory):
    """Load the reference that the page ships."""
    script = (HTML / "_static" / "explorer" / "reference.js").read_text(encoding="utf-8")
    held = json.loads(script.split(" = ", 1)[1].rstrip(";\n"))
    path = tmp_path_factory.mktemp("reference") / "shipped.rpumap"
    path.write_bytes(base64.b64decode(held["base64"]))
    return rpumap.ReferenceMap.load(path)


@pytest.fixture(scope="module")
def cells(ref):
    return rpumap.datasets.pancreas()[5::15].copy()


def plain(cells):
    """Leave counts and names alone, as most files have them."""
    table = anndata.AnnData(cells.X.copy())
    table.obs_names, table.var_names = cells.obs_names, cells.var_names
    return table


def write_h5ad(cells, folder):
    cells.write_h5ad(folder / "cells.h5ad", compression="gzip")
    return [folder / "cells.h5ad"], cells.copy()


def write_layer(cells, folder):
    table = plain(cells)
    table.layers["counts"] = table.X.tocsc()
    table.X = np.log1p(table.X.toarray())
    table.write_h5ad(folder / "normalised.h5ad")
    return [folder / "normalised.h5ad"], plain(cells)


def write_mtx(cells, folder):
    mmwrite(folder / "matrix.mtx", cells.X.T.astype(int))
    plain_text = (folder / "matrix.mtx").read_bytes()
    (folder / "matrix.mtx.gz").write_bytes(gzip.compress(plain_text))
    lines = [f"ENSG{i:05}\t{gene}\tGene Expression\n" for i, gene in enumerate(cells.var_names)]
    (folder / "features.tsv.gz").write_bytes(gzip.compress("".join(lines).encode()))
    names = "".join(f"{name}\n" for name in cells.obs_names)
    (folder / "barcodes.tsv").write_text(names)
    files = ("barcodes.tsv", "features.tsv.gz", "matrix.mtx.gz")
    return [folder / name for name in files], plain(cells)


def write_csv(cells, folder):
    counts = cells.X.toarray().astype(int)
    frame = pd.DataFrame(counts, index=cells.obs_names, columns=cells.var_names)
    frame.to_csv(folder / "cells.csv")
    return [folder / "cells.csv"], plain(cells)


KINDS = {"h5ad": write_h5ad, "layer": write_layer, "mtx": write_mtx, "csv": write_csv}


@pytest.fixture(scope="module")
def page(context):
    page = context.new_page()
    page.said, page.asked = watch(page)
    page.goto(PAGE.as_uri())
    page.wait_for_function(f"() => {KNOWN}?.reference")
    yield page
    page.close()


def drop(page, files):
    """Drop files on the page, as a hand would."""
    given = [(path.name, base64.b64encode(path.read_bytes()).decode()) for path in map(Path, files)]
    page.evaluate(
        """([mount, given]) => {
            const dataTransfer = new DataTransfer();
            for (const [name, content] of given) {
                const bytes = Uint8Array.from(atob(content), (c) => c.charCodeAt(0));
                dataTransfer.items.add(new File([bytes], name));
            }
            const drop = new DragEvent("drop", { dataTransfer, bubbles: true, cancelable: true });
            document.querySelector(mount).rpumap.state = "dropped";  // what it was before is past
            document.querySelector(mount).dispatchEvent(drop);
        }""",
        [MOUNT, given],
    )


def wait(page, *states):
    """Wait until the page is in one of some states and has nothing more to do."""
    page.wait_for_function(f"() => {list(states)}.includes({KNOWN}.state)", timeout=60_000)


def mapped(page):
    """Return what the page says of all cells."""
    return page.evaluate(
        f"""() => {{
            const found = {KNOWN}.result;
            const plain = (value) => ArrayBuffer.isView(value) ? Array.from(value) : value;
            return Object.fromEntries(Object.entries(found).map(([k, v]) => [k, plain(v)]));
        }}"""
    )


def check(found, ref, cells):
    """Compare with Python, which may call a cell that is at the edge otherwise."""
    cells = ref.map(cells, method="crown_ibp")
    obs, names = cells.obs, np.array(found["labels"])
    n = cells.n_obs
    assert found["cellNames"] == list(cells.obs_names)
    coordinates = np.reshape(found["coordinates"], (n, 2))
    span = np.ptp(cells.obsm["X_umap"])
    np.testing.assert_allclose(coordinates, cells.obsm["X_umap"], rtol=1e-4, atol=1e-5 * span)
    np.testing.assert_allclose(found["novelty"], obs["rpumap_novelty"], rtol=1e-4)
    np.testing.assert_allclose(found["confidence"], obs["rpumap_confidence"], atol=1e-6)
    assert (names[found["label"]] == obs["rpumap_label"]).all()
    assert (names[found["mapLabel"]] == obs["rpumap_map_label"]).mean() > 0.99
    lower, upper = bounds(ref, cells, crown_ibp)
    np.testing.assert_allclose(np.reshape(found["lower"], (n, 2)), lower, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(np.reshape(found["upper"], (n, 2)), upper, rtol=1e-4, atol=1e-5)
    radius = np.linalg.norm(upper - lower, axis=1) / 2
    np.testing.assert_allclose(found["radius"], radius, rtol=1e-4)
    assert (obs["rpumap_radius"] >= radius).all()  # Python's allows for rounding in float32


def bounds(ref, cells, method, eps=0.05):
    """Bound coordinates as the page does: in double precision, without rounding."""
    x = torch.as_tensor(ref.preprocessor_.transform(cells)).double()
    encoder = copy.deepcopy(ref.model_.encoder_).double().requires_grad_(False)
    return [ends.numpy() for ends in method(encoder, Ball(x, eps))]


@pytest.mark.parametrize("kind", KINDS)
def test_cells_are_mapped_as_python_maps_them(page, ref, cells, tmp_path, kind):
    files, same = KINDS[kind](cells, tmp_path)
    drop(page, files)
    wait(page, "done", "choosing")
    if kind == "layer":
        page.locator(f"{MOUNT} select[name=part]").select_option("layers/counts")
    if page.evaluate(f"() => {KNOWN}.state") == "choosing":
        page.locator(f"{MOUNT} button[type=submit]").click()
        wait(page, "done")
    check(mapped(page), ref, same)
    assert page.evaluate(f"() => {KNOWN}.seconds.computing") > 0
    held = page.evaluate(f"() => {KNOWN}.bytes")
    assert held["counts"] >= 4 * cells.n_obs * 300
    assert page.said == [] and outside(page.asked) == []


def alert(page, files):
    drop(page, files)
    page.wait_for_selector(f"{MOUNT} [role=alert]:not([hidden])")
    return page.locator(f"{MOUNT} [role=alert]:visible").inner_text()


def test_bad_files_are_named_and_the_next_one_works(page, ref, cells, tmp_path):
    (tmp_path / "empty.h5ad").write_bytes(b"")
    assert "empty" in alert(page, [tmp_path / "empty.h5ad"])

    (tmp_path / "text.h5ad").write_text("no HDF5 at all, but some text")
    assert "text.h5ad" in alert(page, [tmp_path / "text.h5ad"])

    table = plain(cells)
    counts = table.X.toarray()
    table.X = np.log1p(1e4 * counts / counts.sum(axis=1, keepdims=True))
    table.write_h5ad(tmp_path / "logs.h5ad")
    assert "log" in alert(page, [tmp_path / "logs.h5ad"])

    table = plain(cells)
    table.var_names = [f"ENSG{i:08}" for i in range(table.n_vars)]
    table.write_h5ad(tmp_path / "ids.h5ad")
    assert "ENSG00000000" in alert(page, [tmp_path / "ids.h5ad"])

    files, _ = write_mtx(cells, tmp_path)
    assert "barcodes" in alert(page, files[1:])

    files, same = write_h5ad(cells, tmp_path)
    drop(page, files)
    wait(page, "done", "choosing")
    if page.evaluate(f"() => {KNOWN}.state") == "choosing":
        page.locator(f"{MOUNT} button[type=submit]").click()
        wait(page, "done")
    check(mapped(page), ref, same)
    assert not page.locator(f"{MOUNT} [role=alert]:visible").count()


def test_nothing_can_be_sent(context, cells, tmp_path):
    page = context.new_page()
    page.goto(PAGE.as_uri())
    page.wait_for_function(f"() => {KNOWN}?.reference")
    violated = page.evaluate(
        """async () => {
            const violated = [];
            addEventListener("securitypolicyviolation",
                (event) => violated.push(event.effectiveDirective));
            await fetch("https://example.org").catch(() => {});
            try { new WebSocket("wss://example.org"); } catch {}
            navigator.sendBeacon("https://example.org", "cells");
            new Image().src = "https://example.org/?cells";
            await new Promise((done) => setTimeout(done, 300));
            return violated;
        }"""
    )
    assert violated.count("connect-src") >= 3 and "img-src" in violated
    page.close()


def test_a_reference_of_ones_own(page, cells, tmp_path):
    own = rpumap.ReferenceMap(n_top_genes=60, robust=False).fit(cells, labels="clusters")
    own.save(tmp_path / "own.rpumap")
    files, same = write_csv(cells[::3].copy(), tmp_path)
    drop(page, [tmp_path / "own.rpumap", *files])
    wait(page, "done")
    assert page.evaluate(f"() => {KNOWN}.reference.nGenes") == 60
    check(mapped(page), own, same)

    damaged = bytearray((tmp_path / "own.rpumap").read_bytes())
    damaged[-5] ^= 1
    (tmp_path / "damaged.rpumap").write_bytes(damaged)
    assert "damaged" in alert(page, [tmp_path / "damaged.rpumap"])
    assert page.evaluate(f"() => {KNOWN}.reference.nGenes") == 60  # that before stays


def test_an_exported_page_works_from_a_disk(context, cells, tmp_path):
    own = rpumap.ReferenceMap(n_top_genes=60, robust=False).fit(cells, labels="clusters")
    file = rpumap.explorer.export(own, tmp_path / "page", title="Own cells")
    page = context.new_page()
    said, asked = watch(page)
    page.goto(file.as_uri())
    page.wait_for_function(f"() => {KNOWN}?.reference")
    assert page.evaluate(f"() => {KNOWN}.reference.name") == "Own cells"
    files, same = write_mtx(cells, tmp_path)
    page.locator(f"{MOUNT} .rpumap-cells input[type=file]").set_input_files(files)
    wait(page, "done", "choosing")
    page.locator(f"{MOUNT} button[type=submit]").click()
    wait(page, "done")
    check(mapped(page), own, same)
    with page.expect_download() as download:
        page.get_by_role("button", name="Download CSV").click()
    with open(download.value.path(), encoding="utf-8", newline="") as written:
        rows = list(csv.DictReader(written))
    assert [row["cell"] for row in rows] == list(same.obs_names)
    found = np.reshape(mapped(page)["coordinates"], (len(rows), 2))
    np.testing.assert_allclose([float(row["umap_1"]) for row in rows], found[:, 0], rtol=1e-6)
    for theme in THEMES:
        for width in WIDTHS.values():
            look(page, width, theme)
            assert said == [] and outside(asked) == []
    assert barriers(page) == []
    page.close()


@pytest.fixture
def few(page, ref, cells, tmp_path):
    """Map few cells on the reference that the page ships."""
    files, same = write_csv(cells[:40].copy(), tmp_path)
    ref.save(tmp_path / "shipped.rpumap")
    drop(page, [tmp_path / "shipped.rpumap", *files])
    wait(page, "done")
    return same


def test_a_cell_is_told_of_when_one_points_at_it(page, ref, few):
    canvas = page.locator(f"{MOUNT} .rpumap-map canvas[tabindex]")
    canvas.focus()
    page.keyboard.press("End")
    page.wait_for_function(f"() => {KNOWN}.box")
    assert page.evaluate(f"() => {KNOWN}.cell") == 39
    box = page.evaluate(f"() => [...{KNOWN}.box.lower, ...{KNOWN}.box.upper]")
    lower, upper = bounds(ref, few, crown)
    np.testing.assert_allclose(box, [*lower[-1], *upper[-1]], rtol=1e-4, atol=1e-5)
    text = page.locator(f"{MOUNT} .rpumap-cell").inner_text()
    assert str(few.obs_names[-1]) in text


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("width", WIDTHS.values(), ids=list(WIDTHS))
def test_results_can_be_used_by_all(page, few, width, theme):
    look(page, width, theme)
    assert barriers(page) == []
