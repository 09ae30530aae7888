"""What the book promises without being built: pages, links, citations, versions."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from pydoc import locate

import pytest
import yaml

import rpumap
import rpumap.verification

ROOT = Path(__file__).resolve().parents[1]
CONFIG = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
TOC = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
sys.path.insert(0, str(ROOT / "book"))
import scorecard_page  # noqa: E402

DOCUMENTS = [TOC["root"], *(c["file"] for part in TOC["parts"] for c in part["chapters"])]


def source(document: str) -> Path:
    """Find the file that a document of the table of contents is made from."""
    page = ROOT / f"{document}.md"
    return page if page.exists() else ROOT / f"{document}.py"


def text(path: Path) -> str:
    """Read a file of the project."""
    return path.read_text(encoding="utf-8")


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_page_exists(document):
    assert source(document).exists()
    if document.startswith("notebooks/"):
        # what the Binder and Colab buttons open
        assert (ROOT / f"{document}.ipynb").exists()


def test_no_page_is_left_out():
    pages = [p.relative_to(ROOT).with_suffix("").as_posix() for p in (ROOT / "book").glob("*.md")]
    chapters = [f"notebooks/{path.stem}" for path in (ROOT / "notebooks").glob("*.py")]
    assert sorted(pages + chapters) == sorted(DOCUMENTS)


def test_launch_buttons_point_to_the_root():
    # the paths in the links are those of the repository only if this is empty
    assert CONFIG["repository"]["path_to_book"] == ""
    assert CONFIG["repository"]["url"].startswith("https://")


def test_citations_are_in_the_bibliography():
    keys = set(re.findall(r"^@\w+\{([\w-]+),", text(ROOT / "book/references.bib"), re.MULTILINE))
    cited = set()
    for document in DOCUMENTS:
        for group in re.findall(r"\{cite:\w+\}`([^`]+)`", text(source(document))):
            cited |= {key.strip() for key in group.split(",")}
    assert cited, "nothing is cited"
    assert cited <= keys


def test_bibliography_has_an_address_for_every_entry():
    for entry in re.split(r"^@", text(ROOT / "book/references.bib"), flags=re.MULTILINE)[1:]:
        assert re.search(r"^\s*(doi|url)\s*=", entry, re.MULTILINE), entry.splitlines()[0]


def test_one_version():
    citation = yaml.safe_load(text(ROOT / "CITATION.cff"))
    assert citation["version"] == rpumap.__version__
    released = re.findall(r"^## (\d+\.\d+\.\d+)", text(ROOT / "CHANGELOG.md"), re.MULTILINE)
    assert released[0] == rpumap.__version__
    assert citation["preferred-citation"]["doi"] == "10.1101/2023.11.14.567092"
    assert 'version = { attr = "rpumap.__version__" }' in text(ROOT / "pyproject.toml")


def test_auto_lirpa_is_pinned_once():
    found = {
        version
        for name in ("Makefile", "postBuild", "pyproject.toml", "CONTRIBUTING.md")
        for version in re.findall(r"auto_LiRPA==([\d.]+)", text(ROOT / name))
    }
    assert len(found) == 1


def test_api_page_names_everything_public():
    page = text(ROOT / "book/api.md")
    for package in (rpumap, rpumap.verification):
        for name in package.__all__:
            assert re.search(rf":: {package.__name__}\.{name}$", page, re.MULTILINE), name
    for listed in re.findall(r":: (rpumap[\w.]+)$", page, re.MULTILINE):
        assert locate(listed) is not None, f"{listed} is gone"


def test_references_into_the_package_lead_somewhere():
    assert locate("rpumap.ParametricUMAP.fit") and not locate("rpumap.verification.nothing")
    pages = [source(document) for document in DOCUMENTS]
    role = r"[{:](?:func|class|mod|meth|attr|data)[}:]`~?(rpumap[\w.]*)`"
    for path in [*pages, *(ROOT / "rpumap").rglob("*.py")]:
        for reference in re.findall(role, text(path)):
            assert locate(reference) is not None, f"{path.name}: {reference}"


def test_address_is_the_same_everywhere():
    # CONTRIBUTING.md says where the address stands; none of the copies may be forgotten
    address = CONFIG["repository"]["url"]
    for path in [
        *(ROOT / "notebooks").glob("*"),
        *(ROOT / "book").glob("*.md"),
        ROOT / "README.md",
    ]:
        if path.suffix in {".py", ".ipynb", ".md"}:
            for found in re.findall(r"https://github\.com/[\w-]+/rpumap\b", text(path)):
                assert found == address, path.name


@pytest.mark.parametrize("document", DOCUMENTS)
def test_pages_stand_alone(document):
    # nobody else has the folders of the machine that a page was written on
    assert not re.search(r"/(home|root|work|tmp|Users)/\w", text(source(document)))


def links(path: Path) -> list[str]:
    """List the relative links of a page; what stands in code is not one."""
    prose = re.sub(r"`[^`\n]+`", "", text(path))
    return re.findall(r"\]\((?!https?:|#|mailto:)([^)#\s]+)", prose)


def test_relative_links_lead_somewhere():
    for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md"):
        for target in links(ROOT / name):
            assert (ROOT / target).exists(), f"{name}: {target}"
    for document in DOCUMENTS:
        path = source(document)
        for target in links(path):
            stem = (path.parent / target).resolve()
            exists = stem.exists() or any(
                stem.with_suffix(suffix).exists() for suffix in (".md", ".py", ".ipynb")
            )
            assert exists, f"{path.name}: {target}"


CLAIM = {
    "chapter": "notebooks/04_generalization",
    "claim": "One | two <b>",
    "figure": "2",
    "measure": "accuracy",
    "value": 0.8,
    "data": "pancreas",
    "real": True,
    "verdict": "holds",
    "spread": 0.02,
    "repeats": 5,
    "baseline": "umap-learn",
    "baseline_value": 0.7,
}


def test_scorecard_table():
    lines = scorecard_page.as_markdown([CLAIM, CLAIM]).splitlines()
    assert len(lines) == 4
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in lines}) == 1
    assert r"One \| two &lt;b>" in lines[2]
    assert "0.8 ± 0.02 (5)" in lines[2]
    assert "[04](../notebooks/04_generalization)" in lines[2]
    assert "No chapter" in scorecard_page.as_markdown([])


def test_only_real_pancreas_cells_are_published(tmp_path, monkeypatch):
    for name in ("PUBLISHED", "PUBLISHED_TABLE", "THIS_BUILD", "PAGE"):
        monkeypatch.setattr(scorecard_page, name, tmp_path / name)
    (tmp_path / "PAGE").touch()
    monkeypatch.delenv("RPUMAP_FULL", raising=False)
    for rows in ([], [CLAIM | {"real": False}]):
        assert scorecard_page.publish(rows)
        assert not (tmp_path / "PUBLISHED").exists()
    gyrus = CLAIM | {"real": False, "data": "dentate gyrus, simulated"}
    assert scorecard_page.publish([CLAIM, gyrus]) == []
    scorecard_page.write([])
    assert "No chapter" in text(tmp_path / "THIS_BUILD")
    published = text(tmp_path / "PUBLISHED_TABLE")
    assert "with the short settings" in published
    assert f"rpumap {rpumap.__version__}" in published
    assert published.count("umap-learn: 0.7") == 2
