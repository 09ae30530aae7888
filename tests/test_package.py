"""The package as a whole: what importing it costs, and the rules of its layout."""

from __future__ import annotations

import ast
import io
import re
import subprocess
import sys
import tokenize
from pathlib import Path

import pytest

import rpumap

PACKAGE = Path(rpumap.__file__).parent
ROOT = PACKAGE.parent
MODULES = sorted(p for p in PACKAGE.rglob("*.py") if "node_modules" not in p.parts)
HEAVY = ("torch", "sklearn", "scanpy", "umap", "pynndescent", "matplotlib", "anndata", "scipy")
# Each module may import those that stand before it. The API page lists them in this order.
ORDER = (
    "_threads",
    "_validation",
    "_counts",
    "preprocessing",
    "graph",
    "losses",
    "networks",
    "training",
    "estimator",
    "verification.regions",
    "verification.bounds",
    "verification.auto_lirpa",
    "verification.attacks",
    "verification.labels",
    "verification",
    "verification.certify",
    "dropout",
    "fine_tuning",
    "sensitivity",
    "metrics",
    "reference.file",
    "reference.genes",
    "reference.label_index",
    "reference.schema",
    "reference.cell_mapper",
    "reference.tables",
    "reference.reference_map",
    "reference.onnx_export",
    "reference",
    "explorer.web_page",
    "explorer",
    "plotting",
    "datasets._simulate",
    "datasets._published",
    "datasets._studies",
    "datasets.tables",
    "datasets",
    "chapters",
    "chapters.style",
    "chapters.comparison",
    "chapters.gap_scores",
    "chapters.scorecard",
    "chapters.settings",
    "chapters.generalization",
    "chapters.gaps",
    "chapters.robustness",
    "chapters.choices",
    "chapters.rivals",
    "chapters.costs",
    "chapters.mapping",
    "chapters.display",
)
# What tensors and networks need: the rest of `verification` knows nothing else of the package.
VERIFICATION_KNOWS = {"_validation", "networks"}
OPTIONAL = {
    "auto_LiRPA": "verification.auto_lirpa",
    "dask": "reference.tables",
    "onnx": "reference.onnx_export",
    "umap": "chapters.comparison",
}
MOST_LINES = 3350  # of the method itself
MOST_LINES_OF_A_REFERENCE = 1200  # of what shares a model and maps cells with it


def name_of(path: Path) -> str:
    """Turn the path of a module into its name below ``rpumap``; the package itself is empty."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def imported(path: Path) -> list[tuple[str, str]]:
    """List what a module imports of the package: pairs of a module and a name in it, or ''.

    Imports for the type checker alone count as well: they point the same way.
    """
    found = []
    known = {name_of(module) for module in MODULES}
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "rpumap":
            module = node.module.removeprefix("rpumap").removeprefix(".")
            for alias in node.names:
                inner = f"{module}.{alias.name}".strip(".")
                found.append((inner, "") if inner in known else (module, alias.name))
        elif isinstance(node, ast.Import):
            found += [
                (alias.name.removeprefix("rpumap").removeprefix("."), "")
                for alias in node.names
                if alias.name.split(".")[0] == "rpumap"
            ]
    return found


def code_lines(path: Path) -> int:
    """Count the lines of a module that hold code: no blank lines, comments and docstrings."""
    source = path.read_text(encoding="utf-8")
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    prose = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, documented) and ast.get_docstring(node, clean=False) is not None:
            first = node.body[0]
            prose |= set(range(first.lineno, first.end_lineno + 1))
    quiet = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT}
    lines = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in quiet | {tokenize.ENDMARKER}:
            lines |= set(range(token.start[0], token.end[0] + 1))
    return len(lines - prose)


def test_import_is_light():
    code = f"import rpumap, sys; print([m for m in {HEAVY!r} if m in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_every_public_name_is_an_object_and_can_be_reached():
    for name in rpumap.__all__:
        assert callable(getattr(rpumap, name))
        assert name in dir(rpumap)
    with pytest.raises(AttributeError, match="no attribute 'TSNE'"):
        rpumap.TSNE  # noqa: B018


@pytest.mark.parametrize("name", ["datasets", "verification", "metrics", "estimator"])
def test_submodules_are_found_when_they_are_used(name):
    code = f"import rpumap, sys; rpumap.{name}; assert 'rpumap.{name}' in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert name not in rpumap.__all__
    assert name in dir(rpumap)


def test_every_module_has_its_place_in_the_order():
    assert sorted(ORDER) == sorted(name for path in MODULES if (name := name_of(path)))


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_point_one_way(path):
    own = name_of(path)
    if not own:  # the package loads lazily what it names
        return
    for module, _ in imported(path):
        if not module and own.startswith("chapters."):
            continue  # chapters may use the package as its users do
        assert ORDER.index(module) < ORDER.index(own), f"{own} imports {module}"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_no_private_name_of_another_module_is_used(path):
    for module, name in imported(path):
        assert not name.startswith("_"), f"{name_of(path)} imports {name} of {module}"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_verification_knows_tensors_and_networks_only(path):
    own = name_of(path)
    if not own.startswith("verification") or own == "verification.certify":
        return
    for module, _ in imported(path):
        assert module.startswith("verification") or module in VERIFICATION_KNOWS, module
        assert module != "verification.certify"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_the_package_does_not_need_the_chapters(path):
    if not name_of(path).startswith("chapters"):
        assert not any(module.startswith("chapters") for module, _ in imported(path))


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_optional_packages_are_loaded_in_one_file(path):
    source = path.read_text(encoding="utf-8")
    for package, home in OPTIONAL.items():
        loads = rf"^\s*(import|from) {package}\b|import_module\(\"{package}"
        if re.search(loads, source, re.MULTILINE):
            assert name_of(path) == home, f"{name_of(path)} loads {package}"


def test_the_package_stays_thin():
    counted = {
        name_of(path): code_lines(path)
        for path in MODULES
        if not name_of(path).startswith(("chapters", "datasets"))
    }
    shared = ("reference", "explorer")
    reference = {name: counted.pop(name) for name in list(counted) if name.startswith(shared)}
    assert sum(counted.values()) < MOST_LINES, counted
    assert sum(reference.values()) < MOST_LINES_OF_A_REFERENCE, reference


def test_lines_are_counted_without_prose(tmp_path):
    path = tmp_path / "module.py"
    path.write_text(
        '"""One.\n\nTwo."""\n\n# three\nx = """four\nfive"""\n\n\ndef f():\n    "six"\n'
    )
    assert code_lines(path) == 3


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_each_module_has_its_tests_at_the_mirrored_path(path):
    own = path.relative_to(PACKAGE)
    if own.name == "__init__.py":
        if not path.read_text(encoding="utf-8").count("def "):
            return  # nothing to test: it says what is in the folder
        mirrored = own.parent / f"test_{own.parent.name or 'package'}.py"
    else:
        mirrored = own.with_name(f"test_{own.stem.lstrip('_')}.py")
    assert (ROOT / "tests" / mirrored).is_file(), mirrored


def test_the_api_page_lists_modules_in_the_order_of_their_dependence():
    page = (ROOT / "book" / "api.md").read_text(encoding="utf-8")
    listed = re.findall(r"(?:automodule|currentmodule|module):: rpumap\.([\w.]+)", page)
    # a package says on the page, before its modules, what they have in common
    packages = {name for name in ORDER if any(other.startswith(f"{name}.") for other in ORDER)}
    listed = [name for name in dict.fromkeys(listed) if name not in packages]
    public = [name for name in ORDER if not re.search(r"(^|\.)_", name)]
    assert listed == [name for name in public if name not in packages | {"datasets.tables"}]
