"""Run notebooks from a clean kernel and store what they print, without times.

``python examples/store_outputs.py [NOTEBOOK ...]``; default: all of this folder.
"""

from __future__ import annotations

import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient


def main() -> None:
    """Run and overwrite each notebook."""
    here = Path(__file__).parent
    for path in map(Path, sys.argv[1:]) if sys.argv[1:] else sorted(here.glob("*.ipynb")):
        notebook = nbformat.read(path, as_version=4)
        NotebookClient(notebook, timeout=600, kernel_name="python3", record_timing=False).execute()
        nbformat.write(notebook, path)
        print(path)


if __name__ == "__main__":
    main()
