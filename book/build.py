"""Build the book and check what was built; ``make book`` calls this.

Three traps shape it. The cache of executed notebooks does not know that the package changed, so it
is dropped when the package, the data or the environment do. A build over old doctrees forgives what
the first build complained of, so these go first. And a build can end well without its pages, so
each is looked at.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import yaml

import address
import convert_notebooks
import lessons
import memory
import performance_page
import scorecard_page

ROOT = Path(__file__).resolve().parents[1]
BUILD = ROOT / "_build"
HTML = BUILD / "html"
CACHE = BUILD / ".jupyter_cache"
CONFIG = BUILD / "_config.yml"
KEY = BUILD / "execution.key"

# What a page loads while it is read. Links that a reader may follow are no matter.
LOADED = re.compile(
    r"""<(?:script|img|iframe|source)\b[^>]*?\ssrc=["'](?:https?:)?//[^"']+"""
    r"""|<link\b(?=[^>]*\srel=["'](?:stylesheet|preload|icon))[^>]*?\shref=["'](?:https?:)?//[^"']+"""
)

# Of MathJax: formulas in TeX, drawn with its own fonts, its menu, and speech in English.
MATHJAX = ("tex-chtml.js", "output/chtml", "input/tex", "ui", "a11y")
MATHJAX += ("sre/mathmaps/base.json", "sre/mathmaps/en.json")


def table_of_contents() -> list[str]:
    """List the documents that _toc.yml names, in order, as paths without suffix."""
    from sphinx_external_toc.parsing import parse_toc_yaml

    site = parse_toc_yaml(ROOT / "_toc.yml")
    return [site.root.docname, *(name for name in site if name != site.root.docname)]


def execution_key() -> str:
    """Summarise everything outside a notebook that its outputs depend on."""
    import pooch

    digest = hashlib.sha256(sys.version.encode())
    sources = [
        *(ROOT / name for name in ("requirements.lock", "book/claims.toml")),
        *sorted((ROOT / "book").glob("*.json")),  # published results
        *sorted((ROOT / "rpumap").rglob("*.py")),
        *sorted((ROOT / "rpumap").rglob("*.csv")),
    ]
    for path in sources:
        if "node_modules" not in path.parts:
            digest.update(str(path.relative_to(ROOT)).encode())
            digest.update(path.read_bytes())
    # which data there are decides between real and simulated cells
    for folder in (os.environ.get("RPUMAP_DATA_DIR"), pooch.os_cache("rpumap")):
        digest.update(str(folder).encode())
        for path in sorted(Path(folder).rglob("*")) if folder else ():
            if path.is_file():
                digest.update(f"{path} {path.stat().st_size} {path.stat().st_mtime_ns}".encode())
    return digest.hexdigest()


def prepare(force: bool) -> None:
    """Remove old pages and doctrees, and the cache where its outputs may be stale."""
    key = execution_key()
    if force or not KEY.exists() or KEY.read_text() != key:
        shutil.rmtree(CACHE, ignore_errors=True)
    for folder in (HTML, BUILD / ".doctrees"):
        shutil.rmtree(folder, ignore_errors=True)
    BUILD.mkdir(exist_ok=True)
    KEY.write_text(key)
    write_config()
    performance_page.write()
    scorecard_page.write()
    lessons.write_data_files()


def write_config() -> None:
    """Write the settings of jupyter-book, with what leads to the repository, if it is known."""
    config = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
    for name, value in address.book_config().items():
        config[name] = {**config.get(name, {}), **value} if isinstance(value, dict) else value
    extensions = config["sphinx"]["local_extensions"]  # their folders are relative to this file
    config["sphinx"]["local_extensions"] = {n: str(ROOT / f) for n, f in extensions.items()}
    CONFIG.write_text(yaml.safe_dump(config, sort_keys=False, allow_unicode=True), "utf-8")


def settle_kernels() -> None:
    """Make notebooks run alike for everyone, without the user's own IPython settings."""
    profile = BUILD / "ipython" / "profile_default"
    profile.mkdir(parents=True, exist_ok=True)
    # that connections within one machine are not encrypted is known
    (profile / "ipython_kernel_config.py").write_text("get_config().IPKernelApp.log_level = 40\n")
    memory.prepare(profile / "startup")
    os.environ["IPYTHONDIR"] = str(BUILD / "ipython")
    os.environ["JUPYTER_PREFER_ENV_PATH"] = "1"
    # tqdm would like ipywidgets, which pages cannot show
    os.environ["PYTHONWARNINGS"] = "ignore:IProgress not found"


def run_jupyter_book(builder: str) -> int:
    """Run jupyter-book so that any warning fails, and return its exit status."""
    program = "from jupyter_book.cli.main import main; main()"
    command = [sys.executable, "-c", program, "build", str(ROOT), "--config", str(CONFIG)]
    command += ["--builder", builder, "-n", "-W", "--keep-going"]
    return subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL).returncode


def keep_of_mathjax() -> None:
    """Remove the parts of MathJax that no page loads: twenty of its 24 megabytes."""
    folder = HTML / "_static" / "mathjax"
    kept = [folder / name for name in MATHJAX]
    for file in [path for path in folder.rglob("*") if path.is_file()]:
        if not any(file == part or part in file.parents for part in kept):
            file.unlink()


def problems_of_page(page: Path) -> list[str]:
    """Say what is wrong with one built page."""
    name = page.relative_to(HTML)
    if not page.exists():
        return [f"{name} was not built"]
    text = page.read_text(encoding="utf-8")
    problems = []
    if "Traceback (most recent call last)" in re.sub(r"<[^>]+>", "", text):
        problems.append(f"{name} shows a traceback")
    problems += [f"{name} loads from outside: {match}" for match in LOADED.findall(text)]
    if "MathJax" in text and not (HTML / "_static" / "mathjax" / "tex-chtml.js").exists():
        problems.append(f"{name} has formulas, and MathJax is not beside it")
    return problems


def executed(documents: list[str]) -> list[tuple[str, float]]:
    """Read from the cache how long each chapter ran: its name and the seconds."""
    from jupyter_cache import get_cache

    cache = get_cache(CACHE)
    runs = []
    for document in documents:
        notebook = ROOT / f"{document}.ipynb"
        if notebook.exists():
            record = cache.match_cache_file(notebook)
            seconds = float(record.data["execution_seconds"])
            runs.append((document, seconds))
    return runs


def build_html(force: bool) -> list[str]:
    """Build the pages, check them, print the timings; return what went wrong."""
    prepare(force)
    documents = table_of_contents()
    status = run_jupyter_book("html")
    keep_of_mathjax()
    # what the download buttons give
    convert_notebooks.write("colab", HTML / "_sources" / "notebooks")
    pages = [HTML / "index.html", *(HTML / f"{document}.html" for document in documents)]
    problems = [problem for page in pages for problem in problems_of_page(page)]
    problems += [
        f"{name} takes {peak:.0f} MB, of {memory.MOST}"
        for name, peak in memory.peaks().items()
        if peak > memory.MOST
    ]
    if status:
        problems.append(f"jupyter-book ended with status {status}: see the warnings above")
    if not problems:
        rows = [(Path(document).stem, seconds) for document, seconds in executed(documents)]
        width = max([len("chapter"), *(len(name) for name, _ in rows)])
        peaks = memory.peaks()
        print(f"\n{'chapter':<{width}}  seconds  peak MB")
        for name, seconds in rows:
            print(f"{name:<{width}}  {seconds:7.1f}  {peaks.get(name, 0):7.0f}")
        print(f"{'all':<{width}}  {sum(seconds for _, seconds in rows):7.1f}")
        print(f"\nThe book is in {HTML / 'index.html'}")
    return problems


def main() -> None:
    """Read the command line, build, and exit with 1 if anything is wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("builder", choices=["html", "linkcheck"])
    parser.add_argument("--force", action="store_true", help="run every notebook anew")
    arguments = parser.parse_args()
    if not os.environ.get("RPUMAP_DATA_DIR", "").strip():
        os.environ.pop("RPUMAP_DATA_DIR", None)  # empty counts as unset
    else:
        os.environ["RPUMAP_DATA_DIR"] = str(Path(os.environ["RPUMAP_DATA_DIR"]).resolve())
    settle_kernels()
    if arguments.builder == "html":
        problems = build_html(arguments.force)
    else:
        prepare(arguments.force)
        problems = ["some links are broken"] if run_jupyter_book("linkcheck") else []
    if problems:
        sys.exit("\n".join(["", "The book is not in order:", *problems]))


if __name__ == "__main__":
    main()
