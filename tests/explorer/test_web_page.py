"""A page of a reference map is whole, holds the reference, and overwrites nothing of others."""

from __future__ import annotations

import base64
import hashlib
import json
import re

import pytest
from sklearn.exceptions import NotFittedError

import rpumap
from rpumap import plotting
from rpumap.explorer import export
from rpumap.explorer.web_page import FILES, POLICY, STATIC, reference_script

SOURCE = STATIC.parent


@pytest.fixture(scope="module")
def ref():
    adata = rpumap.datasets.pancreas(source="simulated")[::9]
    return rpumap.ReferenceMap(n_top_genes=30, robust=False).fit(adata, labels="clusters")


def test_scripts_were_built_from_these_sources():
    sources = [*(SOURCE / "src").rglob("*.js"), *(SOURCE / "src").rglob("*.css")]
    sources += [SOURCE / "build.js", SOURCE / "package-lock.json"]
    digest = hashlib.sha256()
    for name, path in sorted((path.relative_to(SOURCE).as_posix(), path) for path in sources):
        digest.update(f"{name}\n".encode())
        digest.update(path.read_bytes())
    for name in ("certificate.js", "map_cells.js", "explorer.css"):
        with (STATIC / name).open(encoding="utf-8") as file:
            assert digest.hexdigest() in file.readline(), "run: make javascript"


def test_colours_are_those_of_the_figures():
    text = (SOURCE / "src" / "ui" / "colors.js").read_text(encoding="utf-8")
    listed = re.search(r"COLORS = \[(.*?)\]", text, re.DOTALL)[1]
    assert tuple(re.findall(r'"(#\w+)"', listed)) == plotting.COLORS
    assert re.search(r'INK = "(#\w+)"', text)[1] == plotting.INK


def test_a_page_holds_the_reference(ref, tmp_path):
    page = export(ref, tmp_path / "new" / "page", title="Pancreas <E15> & more")
    assert page == tmp_path / "new" / "page" / "index.html"
    assert {path.name for path in page.parent.iterdir()} == {"index.html", "reference.js", *FILES}
    text = page.read_text(encoding="utf-8")
    assert text.count("Pancreas &lt;E15&gt; &amp; more") == 2
    assert f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">' in text
    for name in re.findall(r'(?:src|href)="([^"]+)"', text):
        assert (page.parent / name).is_file()
    script = (page.parent / "reference.js").read_text(encoding="utf-8")
    held = json.loads(re.fullmatch(r"globalThis\.rpumapReference = (.*);\n", script)[1])
    assert held["name"] == "Pancreas <E15> & more"
    ref.save(tmp_path / "saved.rpumap")
    assert base64.b64decode(held["base64"]) == (tmp_path / "saved.rpumap").read_bytes()


def test_nothing_may_be_sent():
    rules = dict(rule.split(" ", 1) for rule in POLICY.split("; "))
    assert rules["default-src"] == rules["connect-src"] == rules["form-action"] == "'none'"
    assert not re.search(r"https?:|\*", POLICY)


def test_a_page_can_be_exported_again(ref, tmp_path):
    export(ref, tmp_path)
    (tmp_path / "explorer.css").write_text("cut short")
    page = export(ref, tmp_path, title="Second")
    assert "Second" in page.read_text(encoding="utf-8")
    assert (tmp_path / "explorer.css").read_bytes() == (STATIC / "explorer.css").read_bytes()


def test_another_page_is_left_as_it_is(ref, tmp_path):
    (tmp_path / "index.html").write_text("mine")
    with pytest.raises(FileExistsError, match=r"index\.html.*choose another folder"):
        export(ref, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["index.html"]
    assert (tmp_path / "index.html").read_text() == "mine"


def test_a_file_in_place_of_the_folder_is_left(ref, tmp_path):
    (tmp_path / "page").write_text("mine")
    with pytest.raises(OSError, match="page"):
        export(ref, tmp_path / "page")
    assert (tmp_path / "page").read_text() == "mine"


def test_bad_arguments_are_named(ref, tmp_path):
    with pytest.raises(TypeError, match="ref must be a ReferenceMap, got str"):
        export("atlas.rpumap", tmp_path)
    with pytest.raises(TypeError, match="title must be a text, got NoneType"):
        export(ref, tmp_path, title=None)
    with pytest.raises(NotFittedError, match="call fit"):
        export(rpumap.ReferenceMap(), tmp_path)
    assert not list(tmp_path.iterdir())


def test_names_cannot_end_the_script(ref):
    assert "\n" not in reference_script(ref, 'a";\nalert(1)//\u2028').removesuffix("\n")
