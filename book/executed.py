"""Write the executed chapters into a folder, under their own names.

``python book/executed.py FOLDER``, after ``make book``, which keeps them in its cache under names
that mean nothing.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import nbformat
from jupyter_cache import get_cache

from build import CACHE, ROOT, table_of_contents


def write(notebooks: list[Path], cache_folder: Path, folder: Path) -> list[str]:
    """Write notebooks with the outputs that a cache holds.

    Parameters
    ----------
    notebooks : list of Path
        Notebooks without outputs.
    cache_folder : Path
        The cache of jupyter-cache. It is not changed.
    folder : Path
        Where to write. It is made where it is missing; notebooks in it are replaced.

    Returns
    -------
    list of str
        Names of those that the cache lacks as they are now.
    """
    cache = get_cache(cache_folder)
    folder.mkdir(parents=True, exist_ok=True)
    missing = []
    for path in notebooks:
        try:
            _, executed = cache.merge_match_into_file(str(path))
        except KeyError:
            missing.append(path.name)
        else:
            nbformat.write(executed, folder / path.name)
    return missing


def main() -> None:
    """Read the command line, write, and exit with 1 if a chapter was not executed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    paths = [ROOT / f"{document}.ipynb" for document in table_of_contents()]
    missing = write([path for path in paths if path.exists()], CACHE, folder)
    if missing:
        sys.exit(f"Not executed: {', '.join(missing)}. Run `make book` first.")


if __name__ == "__main__":
    main()
