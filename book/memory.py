"""How much memory each chapter takes at most: kernels note it when they end, and pages show it."""

from __future__ import annotations

import json
from pathlib import Path

import jupytext

ROOT = Path(__file__).resolve().parents[1]
NOTES = ROOT / "_build" / "memory"
MOST = 1500  # MB

# Run by each kernel of the build when it starts. It does not know its notebook, but what it ran.
STARTUP = """\
import atexit

def note(ran, folder={folder!r}):
    import json, os, resource, sys
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # in kB, on macOS in bytes
    peak /= 1e6 if sys.platform == "darwin" else 1e3
    with open(os.path.join(folder, f"{{os.getpid()}}.json"), "w") as file:
        json.dump({{"ran": ran, "peak": peak}}, file)

def listen(shell, ran):
    shell.events.register("post_run_cell", lambda result: ran.append(result.info.raw_cell))
    atexit.register(note, ran)

listen(get_ipython(), [])
del atexit, note, listen
"""


def prepare(startup: Path) -> None:
    """Have kernels note their peak memory: write a script that each runs when it starts.

    Parameters
    ----------
    startup : Path
        The folder of scripts of an IPython profile.
    """
    NOTES.mkdir(parents=True, exist_ok=True)
    startup.mkdir(parents=True, exist_ok=True)
    (startup / "00_memory.py").write_text(STARTUP.format(folder=str(NOTES)), encoding="utf-8")


def peaks(notes: Path = NOTES, chapters: Path = ROOT / "notebooks") -> dict[str, float]:
    """Find the peak memory of chapters, in MB, from the last run of the code that they have now.

    Parameters
    ----------
    notes, chapters : Path
        What kernels have written, and the scripts of the chapters.

    Returns
    -------
    dict
        By the name of the chapter; those that have not run as they are now are missing.
    """
    runs = {}
    for file in sorted(notes.glob("*.json"), key=lambda file: file.stat().st_mtime):
        note = json.loads(file.read_text(encoding="utf-8"))
        runs["\n".join(cell.strip() for cell in note["ran"])] = note["peak"]
    found = {}
    for path in sorted(chapters.glob("[0-9]*.py")):
        code = [c.source.strip() for c in jupytext.read(path).cells if c.cell_type == "code"]
        peak = runs.get("\n".join(code))
        if peak is not None:
            found[path.stem] = peak
    return found
