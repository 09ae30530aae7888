"""What pyproject.toml asks for and brings: imports, requirements.lock, published results."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "book"))
import lowest_versions  # noqa: E402

SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT = SETTINGS["project"]
NEEDED = [Requirement(text) for text in PROJECT["dependencies"]]
EXTRAS = {
    name: [Requirement(text) for text in texts]
    for name, texts in PROJECT["optional-dependencies"].items()
}
# where a module has another name than the package that brings it
PACKAGE_OF = {"sklearn": "scikit-learn", "umap": "umap-learn", "auto_LiRPA": "auto_LiRPA"}
# needed without being imported here: scanpy ranks genes with it
UNSEEN = {"scikit-misc"}


def imported() -> dict[str, set[str]]:
    """Map each package that a module of rpumap imports to the names of those modules."""
    found: dict[str, set[str]] = {}
    for path in (ROOT / "rpumap").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module]
            for name in names:
                top = name.split(".")[0]
                if top not in sys.stdlib_module_names and top != "rpumap":
                    package = canonicalize_name(PACKAGE_OF.get(top, top))
                    found.setdefault(package, set()).add(path.relative_to(ROOT).as_posix())
    return found


def test_everything_imported_is_declared_and_nothing_else():
    if not (ROOT / "rpumap").is_dir():
        pytest.skip("the package is not beside its tests")
    found = imported()
    declared = {canonicalize_name(requirement.name) for requirement in NEEDED}
    # chapters may use what the book installs; auto_LiRPA declares what it cannot run on
    book = {canonicalize_name(requirement.name) for requirement in EXTRAS["book"]}
    # tests/test_package.py sees to it that one file alone loads what an extra brings
    extra = {canonicalize_name(pin.name) for name in ("lazy", "onnx") for pin in EXTRAS[name]}
    for package in set(found) - declared - extra - {"auto-lirpa"}:
        assert package in book, package
        assert all(path.startswith("rpumap/chapters/") for path in found[package]), package
    assert declared - set(found) == UNSEEN


def test_every_range_has_a_lower_end():
    for requirement in [*NEEDED, *EXTRAS["test"], *EXTRAS["book"]]:
        ends = {clause.operator for clause in requirement.specifier}
        assert ends & {">=", "=="}, requirement.name


def test_the_locked_versions_lie_in_the_ranges():
    lines = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    locked = [Requirement(line) for line in lines if line and not line.startswith("#")]
    version = {canonicalize_name(pin.name): str(pin.specifier).removeprefix("==") for pin in locked}
    for requirement in [*NEEDED, *(pin for extra in EXTRAS.values() for pin in extra)]:
        assert version[canonicalize_name(requirement.name)] in requirement.specifier


def test_the_published_results_that_are_read_are_installed():
    # without a clone, as on Binder and Colab, they lie where an installation puts its data
    files = [*(ROOT / "notebooks").glob("*.py"), *(ROOT / "rpumap").rglob("*.py")]
    text = "".join(path.read_text(encoding="utf-8") for path in files)
    read = set(re.findall(r'BOOK / "([^"]+)"', text))
    assert {"claims.toml", "lazy.json"} <= read
    installed = SETTINGS["tool"]["setuptools"]["data-files"]["share/rpumap"]
    assert {f"book/{name}" for name in read} <= set(installed)
    assert all((ROOT / name).is_file() for name in installed)


def test_lowest_versions():
    given = ["numpy>=1.26", "jupyter-book==1.0.4.post1", "scipy>=1.11,<2", "tqdm"]
    assert lowest_versions.lowest(given) == [
        *("numpy==1.26", "jupyter-book==1.0.4.post1", "scipy==1.11")
    ]


def test_lowest_versions_are_printed_for_pip(capsys):
    lowest_versions.main()
    printed = {Requirement(line).name for line in capsys.readouterr().out.splitlines()}
    assert printed == {requirement.name for requirement in [*NEEDED, *EXTRAS["test"]]}
