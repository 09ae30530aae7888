"""The JavaScript computes what Python computes: node's own tests, on what Python has computed."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
EXPLORER = HERE.parents[1] / "rpumap" / "explorer"
LEAST_NODE = 20
# golden_*.py in the same folder write what further tests read
WRITERS = sorted(HERE.glob("golden*.py"))


def reason_to_skip() -> str:
    """Say what is missing, "" if nothing is."""
    node = shutil.which("node")
    if node is None:
        return f"needs node {LEAST_NODE} or newer"
    version = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout
    found = re.match(r"v(\d+)", version)
    if not found or int(found[1]) < LEAST_NODE:
        return f"needs node {LEAST_NODE} or newer, found {version.strip()}"
    if not (EXPLORER / "node_modules").is_dir():
        return "needs the JavaScript packages: npm ci in rpumap/explorer"
    return ""


def write_golden(folder: Path) -> None:
    """Let all writers of this folder write what Python computes."""
    for path in WRITERS:
        spec = importlib.util.spec_from_file_location(path.stem, path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        module.write_golden(folder)


def test_javascript_computes_what_python_computes(tmp_path_factory):
    reason = reason_to_skip()
    if reason:
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("golden")
    write_golden(folder)
    files = sorted(str(path) for path in HERE.glob("*.test.js"))
    run = subprocess.run(
        ["node", "--test", *files],
        env=os.environ | {"GOLDEN": str(folder)},
        capture_output=True,
        text=True,
        encoding="utf-8",
    )
    passed = re.search(r"^(?:#|ℹ) pass (\d+)$", run.stdout, re.MULTILINE)
    assert run.returncode == 0, run.stdout + run.stderr
    assert passed and int(passed[1]) > len(files), run.stdout
