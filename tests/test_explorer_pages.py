"""Apps stand where the book names them, with their scripts, and nothing may be sent from there."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "book"))
import explorer_data  # noqa: E402
import explorer_pages  # noqa: E402


class App(SimpleNamespace):
    """What the extension uses of Sphinx."""

    def add_css_file(self, name):
        self.files.append(name)

    def add_js_file(self, name, loading_method):
        self.files.append(name)


def page_of(*apps):
    app = App(files=[], env=SimpleNamespace(metadata={"page": {"explorer": list(apps)}}))
    context = {"metatags": "<meta name=other>"}
    explorer_pages.add_scripts(app, "page", "page.html", context, None)
    return app.files, context["metatags"]


def test_a_page_loads_what_its_apps_need_once():
    files, tags = page_of("certificate", "certificate")
    assert files == [
        "explorer/explorer.css",
        "explorer/certificate_data.js",
        "explorer/certificate.js",
    ]
    assert tags == "<meta name=other>"
    assert page_of()[0] == []


def test_a_page_on_which_cells_are_dropped_sends_nothing():
    _, tags = page_of("map-cells")
    assert tags.startswith('<meta http-equiv="Content-Security-Policy" content="default-src')
    assert "connect-src 'none'" in tags and tags.endswith("<meta name=other>")
    assert "http:" not in tags and "https:" not in tags


@pytest.fixture
def trained(monkeypatch, tmp_path):
    """Count how often networks are trained, without training any."""
    import rpumap
    from rpumap.explorer import web_page

    calls = []

    class Reference:
        def fit(self, adata, labels):
            calls.append(labels)
            return self

    monkeypatch.setenv("RPUMAP_DATA_DIR", "")
    monkeypatch.setattr(explorer_data, "FOLDER", tmp_path)
    monkeypatch.setattr(explorer_data, "KEY", tmp_path / "key")
    monkeypatch.setattr(explorer_data, "certificate_data", lambda adata: b"networks")
    monkeypatch.setattr(rpumap, "ReferenceMap", Reference)
    monkeypatch.setattr(web_page, "reference_script", lambda ref, name: f"of {name}")
    return calls


def test_networks_are_trained_once(trained, tmp_path):
    explorer_data.write()
    assert explorer_data.write() == tmp_path
    assert trained == ["clusters"]
    script = (tmp_path / "certificate_data.js").read_text()
    assert script == 'globalThis.rpumapCertificate = "bmV0d29ya3M=";\n'
    assert (tmp_path / "reference.js").read_text() == "of The developing mouse pancreas"


def test_networks_are_trained_anew_after_an_interruption(trained, tmp_path, monkeypatch):
    explorer_data.write()
    (tmp_path / "key").write_text("of other cells")

    def stop(adata):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(explorer_data, "certificate_data", stop)
        explorer_data.write()
    explorer_data.write()
    assert trained == ["clusters"] * 2
