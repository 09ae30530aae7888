"""The workflows: that what they call exists, and that they may do no more than they need."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import nbformat
import pytest
import yaml
from nbformat.v4 import new_notebook

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted((ROOT / ".github" / "workflows").glob("*.y*ml"))
WORKFLOWS = [pytest.param(path, id=path.stem) for path in FILES]
# what needs a permission that reading does not give
WRITES = {
    "gh release (create|upload|edit|delete)": {"contents": "write"},
    "pypa/gh-action-pypi-publish": {"id-token": "write"},
    "actions/deploy-pages": {"pages": "write", "id-token": "write"},
    "git push": {"contents": "write"},
}
needs_make = pytest.mark.skipif(shutil.which("make") is None, reason="make is not here")
needs_bash = pytest.mark.skipif(sys.platform == "win32", reason="the script is for Linux")


def load(path: Path) -> dict:
    """Read a workflow."""
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def jobs(path: Path) -> dict[str, dict]:
    """Read the jobs of a workflow."""
    return load(path)["jobs"]


def commands(path: Path) -> list[str]:
    """List what the steps of a workflow run."""
    steps = [step for job in jobs(path).values() for step in job["steps"]]
    return [step["run"].replace("\\\n", " ") for step in steps if "run" in step]


def made(path: Path) -> set[str]:
    """List the targets that a workflow makes."""
    calls = re.findall(r"(?<![\w/.-])make ([^\n;&|]+)", "\n".join(commands(path)))
    return {word for call in calls for word in call.split() if "=" not in word}


def test_workflows_are_found():
    assert {path.stem for path in FILES} >= {"book", "release", "tests", "weekly"}
    assert {"environment", "test", "book"} <= made(ROOT / ".github/workflows/release.yml")


@needs_make
@pytest.mark.parametrize("path", WORKFLOWS)
def test_every_target_of_make_exists(path):
    for target in made(path):
        call = ["make", "--dry-run", target, "NEWEST_PYTHON=true", "LOWEST_PYTHON=true"]
        result = subprocess.run(call, cwd=ROOT, capture_output=True, text=True)
        assert "No rule to make target" not in result.stderr, target
        # a folder of that name is no target
        assert "Nothing to be done" not in result.stdout or target.startswith("."), target


@pytest.mark.parametrize("path", WORKFLOWS)
def test_every_file_that_is_named_exists(path):
    text = "\n".join(commands(path))
    names = re.findall(r"[\w.-]+(?:/[\w.-]+)*\.(?:py|sh|lock|yml)\b|\bpostBuild\b", text)
    names += [
        step["with"][key]
        for job in jobs(path).values()
        for step in job["steps"]
        for key in ("cache-dependency-path", "environment-file")
        if key in step.get("with", {})
    ]
    for name in names:
        assert (ROOT / name).is_file(), name
        if name.endswith(".sh"):
            assert os.access(ROOT / name, os.X_OK), f"{name} cannot be run"


def test_files_that_are_named_are_seen():
    # so that the test above does not pass because it finds nothing
    text = "\n".join(commands(ROOT / ".github/workflows/weekly.yml"))
    for name in (".github/drift.sh", "book/executed.py", "environment.yml", "check_installs.py"):
        assert name in text


@pytest.mark.parametrize("path", WORKFLOWS)
def test_every_job_has_an_end(path):
    for name, job in jobs(path).items():
        assert 0 < job["timeout-minutes"] <= 180, name


@pytest.mark.parametrize("path", WORKFLOWS)
def test_jobs_may_read_and_write_only_what_they_must(path):
    assert load(path)["permissions"] == {"contents": "read"}
    for name, job in jobs(path).items():
        text = yaml.safe_dump(job["steps"])
        needed = {}
        for action, permissions in WRITES.items():
            if re.search(action, text):
                needed |= permissions
        given = job.get("permissions", {})
        writing = {scope: value for scope, value in given.items() if value == "write"}
        assert writing == needed, name


@pytest.mark.parametrize("path", WORKFLOWS)
def test_nothing_from_outside_runs_with_rights(path):
    text = path.read_text(encoding="utf-8")
    assert "pull_request_target" not in text
    assert "workflow_run" not in text
    # a name that someone else chose must not become a part of a command: it goes through env
    for command in commands(path):
        for expression in re.findall(r"\$\{\{(.*?)\}\}", command):
            assert expression.strip().startswith(("matrix.", "steps.")), command


@pytest.mark.parametrize("path", WORKFLOWS)
def test_actions_are_pinned_and_the_address_is_not_written_down(path):
    for job in jobs(path).values():
        for step in job["steps"]:
            if "uses" in step:
                assert re.fullmatch(r"[\w-]+/[\w-]+@(v\d+|release/v\d+)", step["uses"])
    assert not re.search(r"github\.com/", path.read_text(encoding="utf-8"))


def test_only_a_tag_publishes():
    release = load(ROOT / ".github/workflows/release.yml")
    assert release[True] == {"push": {"tags": ["v*"]}}  # YAML reads "on" as true
    publish = release["jobs"]["publish"]
    assert publish["environment"] == "pypi"
    assert "PUBLISH_TO_PYPI" in publish["if"]
    assert publish["needs"] == "release"
    assert release["jobs"]["release"]["needs"] == ["book", "packages"]


# --- the script that looks for the last release --------------------------------------------------

GH = """#!/bin/sh
# stands for gh: releases and their archives lie in a folder
case "$1 $2" in
    "release list") cat "$RELEASES/list" ;;
    "release download") cp "$RELEASES/$3.tar.gz" "$9" ;;
    *) exit 3 ;;
esac
"""


@pytest.fixture
def drift(tmp_path):
    """Return a function that runs the script with given releases, and reads the report."""
    folders = [tmp_path / name for name in ("bin", "releases", "now", "checkout/book")]
    for folder in folders:
        folder.mkdir(parents=True)
    binaries, releases, now, book = folders
    (binaries / "gh").write_text(GH)
    (binaries / "gh").chmod(0o755)
    shutil.copy(ROOT / "book" / "drift.py", book)
    nbformat.write(new_notebook(), now / "00_first.ipynb")
    with tarfile.open(releases / "v0.1.0.tar.gz", "w:gz") as archive:
        archive.add(now, ".")

    def run(listed: list[str], *tag: str) -> str:
        (releases / "list").write_text("".join(f"{name}\n" for name in listed))
        environment = dict(os.environ, RELEASES=str(releases), GITHUB_REPOSITORY="a/b")
        environment |= {"PATH": f"{binaries}{os.pathsep}{os.environ['PATH']}"}
        environment |= {"PYTHON": sys.executable}
        call = [str(ROOT / ".github" / "drift.sh"), str(now), str(tmp_path / "report.md"), *tag]
        done = subprocess.run(
            call, cwd=book.parent, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return (tmp_path / "report.md").read_text(encoding="utf-8")

    return run


@needs_bash
def test_the_last_release_is_compared(drift):
    for arguments in ((["v0.1.0"],), (["v0.1.0"], "v0.2.0"), (["v0.2.0", "v0.1.0"], "v0.2.0")):
        assert "| 00_first | 0 | 0 | 0 | 0 | 0 |" in drift(*arguments)


@needs_bash
def test_where_there_is_no_release_the_report_says_so(drift):
    for arguments in (([],), ([], "v0.1.0"), (["v0.1.0"], "v0.1.0")):
        assert drift(*arguments).startswith("There is no earlier release")
    assert drift(["v0.0.1"]).startswith("No executed notebooks of the release v0.0.1")
