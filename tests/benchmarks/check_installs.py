"""Install what Binder and Colab install, in fresh environments, and run chapters there.

``python tests/benchmarks/check_installs.py [binder] [colab]``. It needs a package index, some
gigabytes of disk and, on two cores, some minutes.

- Binder: the packages of environment.yml that pip installs, then postBuild, then some chapters; the
  one on CROWN must find auto_LiRPA.
- Colab: numpy and torch, as Colab has them before; then what the first cell of the notebooks for
  Colab runs, from this folder in place of the repository, which must leave both as they are; then
  some chapters as they are for Colab.

Each chapter is a copy outside the checkout, so that it finds the installed package, and its cells
are simulated. Printed are seconds, and the peak memory of the largest process. It exits with 1 if
something is not as it should be.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
# the last one reads published results, which the package has to bring, and needs dask
BINDER = ("00_quickstart", "07_crown_derivation", "10_reference_mapping")
COLAB = ("00_quickstart", "10_reference_mapping")
ADDRESS = "https://example.org/someone/rpumap"  # only to be replaced by the checkout
# what Colab brings; in these, numpy and torch must not change
BEFORE = ("numpy", "torch", "ipykernel", "nbclient")
KEPT = ("numpy", "torch")

# Runs in the environment that is checked.
RUN = """
import json, resource, sys, time
import nbformat
from nbclient import NotebookClient

notebook = nbformat.read(sys.argv[1], as_version=4)
start = time.perf_counter()
NotebookClient(notebook, timeout=900, kernel_name="python3").execute()
seconds = time.perf_counter() - start
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
text = "".join(output.get("text", "") for output in outputs)
unit = 2**20 if sys.platform == "darwin" else 2**10
print(json.dumps({"seconds": seconds, "peak_mb": peak / unit, "text": text}))
"""
VERSIONS = """
import importlib.metadata, json, sys
print(json.dumps({name: importlib.metadata.version(name) for name in sys.argv[1:]}))
"""


class Environment:
    """A fresh virtual environment, and what its programs see of the machine.

    Parameters
    ----------
    folder : Path
        Where to make it.
    """

    def __init__(self, folder: Path) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        self.folder = folder
        self.bin = folder / "venv" / ("Scripts" if sys.platform == "win32" else "bin")
        subprocess.run([sys.executable, "-m", "venv", str(folder / "venv")], check=True)
        (folder / "run").mkdir()
        hidden = ("PYTHONPATH", "PYTHONHOME", "RPUMAP_DATA_DIR", "JUPYTER_PATH")
        self.variables = {key: value for key, value in os.environ.items() if key not in hidden}
        self.variables |= {
            "PATH": f"{self.bin}{os.pathsep}{os.environ['PATH']}",
            "VIRTUAL_ENV": str(folder / "venv"),
            "IPYTHONDIR": str(folder / "ipython"),
            "JUPYTER_PREFER_ENV_PATH": "1",
        }

    def call(self, what: str, command: Sequence[str], cwd: Path | None = None, **more: str) -> str:
        """Run a command, say how long it took, and return what it printed."""
        start = time.perf_counter()
        cwd, variables = cwd or self.folder / "run", self.variables | more
        done = subprocess.run(command, cwd=cwd, env=variables, stdout=subprocess.PIPE, text=True)
        if done.returncode:
            sys.exit(f"{done.stdout[-3000:]}\nFailed: {what}")
        print(f"  {what}: {time.perf_counter() - start:.0f} s", flush=True)
        return done.stdout

    def python(self, what: str, *arguments: str, cwd: Path | None = None, **more: str) -> str:
        """Run its Python."""
        return self.call(what, [str(self.bin / "python"), *arguments], cwd, **more)

    def pip(self, *packages: str) -> None:
        """Install packages, from the root of the project."""
        command = ("-m", "pip", "install", "--quiet", *packages)
        self.python(f"pip install {' '.join(packages)}", *command, cwd=ROOT)

    def versions(self, names: Sequence[str]) -> dict[str, str]:
        """Return the versions of packages in it."""
        return json.loads(self.python("versions", "-c", VERSIONS, *names))

    def execute(self, notebook: Path) -> dict:
        """Run a copy of a notebook; return seconds, peak memory and what it printed."""
        copy = shutil.copy(notebook, self.folder / "run")
        # of earlier downloads of cells it must not know either
        cache = str(self.folder / "cache")
        printed = self.python(notebook.stem, "-c", RUN, str(copy), XDG_CACHE_HOME=cache)
        result = json.loads(printed.splitlines()[-1])
        print(f"  {result['seconds']:.0f} s, {result['peak_mb']:,.0f} MB at the peak", flush=True)
        return result

    def size(self) -> float:
        """Return its size on disk in gigabytes."""
        files = (path for path in (self.folder / "venv").rglob("*") if path.is_file())
        return sum(path.stat().st_size for path in files) / 1e9


def pip_packages(text: str) -> list[str]:
    """List the arguments of pip in environment.yml, but for the choice of an index.

    Parameters
    ----------
    text : str
        The file.

    Returns
    -------
    list of str
        What `pip install` is called with.
    """
    parts = yaml.safe_load(text)["dependencies"]
    (lines,) = (part["pip"] for part in parts if isinstance(part, dict))
    return [word for line in lines if not line.startswith("--") for word in shlex.split(line)]


def check_binder(folder: Path) -> list[str]:
    """Install as Binder does and run chapters; return what is wrong."""
    environment = Environment(folder)
    listed = pip_packages((ROOT / "environment.yml").read_text(encoding="utf-8"))
    environment.pip(*listed)
    environment.call("postBuild", ["bash", "postBuild"], ROOT)
    names = ("rpumap", "torch", "numpy", "auto_LiRPA", "jupyterlab", "jupyterlab-myst")
    print(f"  {environment.versions(names)}, {environment.size():.1f} GB")
    problems = []
    shown = environment.call("extensions", ["bash", "-c", "jupyter labextension list 2>&1"])
    if not re.search("jupyterlab-myst .*enabled.*OK", shown):
        problems.append(f"Binder: JupyterLab does not show MyST\n{shown}")
    for name in BINDER:
        text = environment.execute(ROOT / "notebooks" / f"{name}.ipynb")["text"]
        if name == "07_crown_derivation":
            found = re.findall(r".*largest difference \S+", text)
            print(f"  auto_LiRPA: {', '.join(' '.join(line.split()) for line in found)}")
            if len(found) != 3:
                problems.append("Binder: the chapter on CROWN does not compare with auto_LiRPA")
    return problems


def convert(folder: Path) -> None:
    """Write the chapters for Colab."""
    command = [sys.executable, str(ROOT / "book" / "convert_notebooks.py"), "colab", str(folder)]
    subprocess.run(command, check=True, env=os.environ | {"RPUMAP_REPOSITORY": ADDRESS})


def check_colab(folder: Path, before: Sequence[str]) -> list[str]:
    """Install as Colab does and run chapters; return what is wrong."""
    environment = Environment(folder)
    environment.pip(*before)
    had = environment.versions(KEPT)
    convert(folder / "converted")
    notebooks = [folder / "converted" / f"{name}.ipynb" for name in COLAB]
    cells = json.loads(notebooks[0].read_text(encoding="utf-8"))["cells"]
    first = next("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    assert f"git+{ADDRESS}" in first, "the first cell does not install the package"
    environment.python("the first cell", "-c", first.replace(f"git+{ADDRESS}", ROOT.as_uri()))
    has = environment.versions(KEPT)
    print(f"  before {had}, after {has}, {environment.size():.1f} GB")
    for notebook in notebooks:
        environment.execute(notebook)
    return [] if had == has else ["Colab: numpy or torch did not stay as they were"]


def main() -> None:
    """Read the command line, check, and exit with 1 if something is wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    kinds = ("binder", "colab")
    parser.add_argument("kinds", nargs="*", metavar="KIND", help="binder, colab; default: both")
    parser.add_argument("--folder", type=Path, help="keep the environments there")
    parser.add_argument(
        "--before",
        nargs="+",
        default=BEFORE,
        metavar="PACKAGE",
        help=f"what Colab has before; default: {' '.join(BEFORE)}",
    )
    arguments = parser.parse_args()
    chosen = arguments.kinds or kinds
    if set(chosen) - set(kinds):
        parser.error(f"KIND is binder or colab, not {' or '.join(set(chosen) - set(kinds))}")
    with tempfile.TemporaryDirectory() as temporary:
        folder = (arguments.folder or Path(temporary)).resolve()
        problems = []
        for kind in chosen:
            print(kind)
            if kind == "binder":
                problems += check_binder(folder / kind)
            else:
                problems += check_colab(folder / kind, arguments.before)
    if problems:
        sys.exit("\n".join(problems))
    print("all as it should be")


if __name__ == "__main__":
    main()
