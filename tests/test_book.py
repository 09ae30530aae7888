"""What the book promises without being built: pages, links, citations, versions."""

from __future__ import annotations

import hashlib
import re
import sys
from pathlib import Path
from pydoc import locate
from types import SimpleNamespace

import matplotlib.pyplot
import pytest
import yaml

import rpumap
import rpumap.verification
from rpumap.chapters.display import summary
from rpumap.chapters.scorecard import judge, load_results, load_rules

ROOT = Path(__file__).resolve().parents[1]
CONFIG = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
TOC = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
sys.path.insert(0, str(ROOT / "book"))
import api_links  # noqa: E402
import page_scripts  # noqa: E402
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


def documented() -> list:
    """List the functions and classes of the API page, those of chapters left out."""
    page, found = text(ROOT / "book/api.md"), []
    for kind, name, options in re.findall(r"auto(\w+):: (rpumap\S*)\n((?: +:.*\n)*)", page):
        if name.startswith("rpumap.chapters"):
            continue
        if kind in ("function", "class"):
            found.append(locate(name))
        elif ":members:" in options:
            members = vars(locate(name)).values()
            found += [m for m in members if getattr(m, "__module__", "") == name]
    return [obj for obj in found if not obj.__name__.startswith("_")]


def test_each_function_of_the_api_belongs_to_a_chapter():
    assert len(documented()) > 60
    chapters = {path.stem for path in (ROOT / "notebooks").glob("*.py")}
    for obj in documented():
        assert api_links.chapter_of(obj) in chapters, obj
    assert set(api_links.CHAPTERS.values()) == chapters - {"04_generalization"}
    for entry in api_links.CHAPTERS:
        assert locate(entry) is not None, f"{entry} is gone"


def test_no_address_of_the_project_is_written_down():
    # where it is published only RPUMAP_REPOSITORY knows, so that a fork leads to the fork
    assert "repository" not in CONFIG and "launch_buttons" not in CONFIG
    for path in [*(source(document) for document in DOCUMENTS), ROOT / "README.md"]:
        assert not re.search(r"github\.(?:com|io)/[\w-]+/rpumap\b|[\w-]+\.github\.io", text(path))


@pytest.mark.parametrize("document", DOCUMENTS)
def test_pages_stand_alone(document):
    # nobody else has the folders of the machine that a page was written on
    assert not re.search(r"/(home|root|work|tmp|Users)/\w", text(source(document)))


def links(path: Path) -> list[str]:
    """List the relative links of a page; what stands in code is not one."""
    lines = text(path).splitlines()
    if path.suffix == ".py":
        lines = [line for line in lines if line.startswith("#")]
    prose = re.sub(r"`[^`\n]+`", "", "\n".join(lines))
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


ROW = {
    "id": "works/well",
    "chapter": "notebooks/04_generalization",
    "claim": "One | two <b>",
    "source": "paper",
    "figure": "2",
    "measure": "accuracy",
    "baseline": "umap-learn",
    "unit": "split",
    "rule": "value - baseline above 0",
    "why": "any gain",
    "cells": "pancreas",
    "settings": "paper",
    "value": 0.8,
    "spread": 0.02,
    "baseline_value": 0.7,
    "effect_value": 0.1,
    "low": 0.05,
    "high": 0.15,
    "n": 10,
    "verdict": "holds",
}


def test_scorecard_tells_what_was_found_in_both_settings():
    rows = [ROW, ROW | {"settings": "default", "verdict": "undecided"}]
    lines = scorecard_page.details(rows).splitlines()
    assert "(claim-works)=" in lines
    assert "### One | two <b>" in lines
    first = lines.index("- Pancreas, 10 splits")
    assert lines[first + 1 : first + 3] == [
        "  - paper's settings: [●\u00a0holds]{.verdict .holds} effect 0.10 (0.05 to 0.15); "
        "value 0.8, baseline 0.7",
        "  - our defaults: [?\u00a0undecided]{.verdict .undecided} effect 0.10 (0.05 to 0.15); "
        "value 0.8, baseline 0.7",
    ]
    (rule,) = (line for line in lines if line.startswith("**well.**"))
    assert "*Holds if* value - baseline above 0: any gain." in rule


def test_scorecard_sums_parts_up_and_names_those_that_fail():
    rows = [ROW, ROW | {"id": "works/badly", "verdict": "does not hold"}]
    rows += [ROW | {"id": "works/perhaps", "verdict": "undecided"}]
    (line,) = scorecard_page.summary_table(rows).splitlines()[2:]
    assert r"[One \| two &lt;b>](#claim-works), [chapter 4](../notebooks/04_generalization)" in line
    assert "[◐\u00a0pancreas]{.verdict .holds-in-part} (not: badly; undecided: perhaps)" in line
    assert line.endswith("| – |")  # nothing with our defaults


def test_scorecard_sums_up_real_cells_in_a_sentence():
    rows = [
        {**ROW, "real": True},
        {**ROW, "id": "fails", "verdict": "does not hold", "real": True},
        {**ROW, "id": "simulated", "real": False},
        {**ROW, "id": "own", "source": "ours", "real": True},
    ]
    said = scorecard_page.sentence(rows)
    assert "of 2 claims of the paper that were tested on pancreas cells, 1 hold, 0 hold" in said
    assert "and 1 do not hold" in said


def test_scorecard_without_results_says_so(tmp_path, monkeypatch):
    for name in ("PUBLISHED", "SENTENCE", "SUMMARY", "SIMULATED", "DETAILS", "RUN", "PAGE"):
        monkeypatch.setattr(scorecard_page, name, tmp_path / name)
    (tmp_path / "PAGE").touch()
    scorecard_page.write()
    assert "No run" in text(tmp_path / "SUMMARY")


def test_published_results_belong_to_the_rules():
    results, rules = load_results(), {rule.id: rule for rule in load_rules()}
    complete = results["units_measured"] == results["units_planned"]
    judged = {row["id"] for row in results["rows"]}
    assert judged == set(rules) if complete else judged <= set(rules)
    for row in results["rows"]:
        rule = rules[row["id"]]
        assert (row["rule"], row["threshold"], row["unit"]) == (
            rule.text,
            rule.threshold,
            rule.unit,
        )
        # the published units give the published verdict
        again = judge(rule, row["units"])
        assert again["verdict"] == row["verdict"], row["id"]
        assert again["low"] == pytest.approx(row["low"])
        assert row["n"] >= (5 if complete else 2)
        assert row["real"] == (row["cells"] != "dentate_gyrus")
    assert (
        results["rules_sha256"]
        == hashlib.sha256((ROOT / "book/claims.toml").read_bytes()).hexdigest()
    )
    assert re.fullmatch("[0-9a-f]{40}", results["commit"])


def test_readme_states_what_was_measured():
    results = load_results()
    readme = text(ROOT / "README.md")
    rows = {(row["id"], row["cells"], row["settings"]): row for row in results["rows"]}
    values = [
        f"{rows[name, 'pancreas', 'default']['value']:.3f}"
        for name in ("dropout", "robust-dropout/80", "losses")
    ]
    lost = re.search(r"### Lost counts\n(.*?)\n###", readme, re.DOTALL)[1]
    assert re.findall(r"\d\.\d{3}", lost) == values
    found = summary([row for row in results["rows"] if row["source"] == "paper"])
    for cells, title in (("pancreas", "pancreas"), ("malaria", "malaria parasites")):
        verdicts = [by[cells, "paper"] for by in found.values() if (cells, "paper") in by]
        kinds = ("holds", "holds in part", "undecided", "does not hold")
        counts = [len(verdicts), *(verdicts.count(kind) for kind in kinds)]
        assert f"| {title} | {' | '.join(map(str, counts))} |" in readme


# --- what is mended in each page ----------------------------------------------------------------


def script(filename, body=""):
    return SimpleNamespace(filename=filename, attributes={"body": body} if body else {})


def test_scripts_stand_in_a_page_once_and_those_of_thebe_not_at_all():
    files = [
        script("a.js"),
        script(None, "var x = 1"),
        script(None, 'const THEBE_JS_URL = "https://"'),
        script("sphinx-thebe.js"),
        script("a.js"),
        script(None, "var x = 1"),
        script(None, "var x = 2"),
    ]
    context = {"script_files": files, "css_files": ["_static/sphinx-thebe.css", "_static/b.css"]}
    page_scripts.clean_files(None, "page", "page.html", context, None)
    assert context["script_files"] == [files[0], files[1], files[6]]
    assert context["css_files"] == ["_static/b.css"]


def test_a_long_signature_is_no_list_of_definitions():
    line = '<dd><em class="sig-param">{}</em>,</dd>\n'
    other = "<dl>\n<dt>term</dt>\n<dd><p>text</p></dd>\n</dl>"
    body = f"<dl>\n{line.format('X')}{line.format('eps')}</dl>\n{other}"
    context = {"body": body + '<div role="list" class="citation-list">'}
    page_scripts.clean_body(None, "page", "page.html", context, None)
    assert context["body"].count('<span class="sig-line"><em class="sig-param">') == 2
    assert other in context["body"] and context["body"].count("<dd>") == 1
    assert context["body"].endswith("<div>")


@pytest.mark.parametrize(("suffix", "n_buttons"), [(".md", 1), (".ipynb", 2)])
def test_only_notebooks_can_be_launched(suffix, n_buttons):
    app = SimpleNamespace(env=SimpleNamespace(doc2path=lambda page: page + suffix))
    context = {"header_buttons": [{"label": "launch-buttons"}, {"label": "download-buttons"}]}
    page_scripts.clean_buttons(app, "page", "page.html", context, object())
    assert len(context["header_buttons"]) == n_buttons


def test_the_page_on_own_data_runs(tmp_path, monkeypatch, capsys):
    atlas = rpumap.datasets.pancreas(source="simulated")[::8].copy()
    atlas.obs["cell_type"] = atlas.obs["clusters"]
    atlas.layers["counts"] = atlas.X.copy()
    atlas.X = atlas.X.log1p()
    atlas[::2].write_h5ad(tmp_path / "atlas.h5ad")
    atlas[1::2].write_h5ad(tmp_path / "query.h5ad")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(matplotlib.pyplot, "show", lambda: None)
    blocks = re.findall(r"```python\n(.*?)```", text(ROOT / "book/own_data.md"), re.DOTALL)
    assert len(blocks) == 4
    names = {}
    for block in blocks:
        exec(block, names)
    assert (tmp_path / "atlas_page" / "index.html").exists()
    assert "# Reference map" in capsys.readouterr().out
    assert names["query"].obsm["X_umap"].shape == (231, 2)
    matplotlib.pyplot.close("all")


def test_the_code_of_the_readme_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(matplotlib.pyplot, "show", lambda: None)
    monkeypatch.setenv("RPUMAP_DATA_DIR", "")
    blocks = re.findall(r"```python\n(.*?)```", text(ROOT / "README.md"), re.DOTALL)
    assert len(blocks) == 2
    names = {}
    for block in blocks:
        exec(block, names)
    captured = capsys.readouterr()
    assert "training" in captured.err  # the progress
    assert "certain" in captured.out
    assert (tmp_path / "pancreas.rpumap").stat().st_size < 1e6
    assert len(matplotlib.pyplot.gcf().axes[0].collections) > 1
    matplotlib.pyplot.close("all")


# --- words ---------------------------------------------------------------------------------------

# Words of the third column that have other meanings, too.
AMBIGUOUS = {"place", "price", "cost", "unit", "lines", "rectangle"}


def avoided() -> list[str]:
    """List what the table of words in CONTRIBUTING.md says not to use."""
    table = text(ROOT / "CONTRIBUTING.md").split("| use | for | not |")[1].split("\n\n")[0]
    columns = [line.split("|")[3] for line in table.splitlines() if line.count("|") == 4]
    words = {word.strip() for column in columns for word in re.split("[,;]", column)}
    return sorted(words - AMBIGUOUS - {"", "---"})


def test_standard_words_are_used():
    assert {"stranger", "ruler", "trained cells", "exam"} <= set(avoided())
    pages = [*(source(document) for document in DOCUMENTS), ROOT / "README.md"]
    found = re.compile(rf"\b({'|'.join(map(re.escape, avoided()))})s?\b", re.IGNORECASE)
    for path in [*pages, *(ROOT / "rpumap").rglob("*.py")]:
        assert not found.findall(text(path)), path.name
