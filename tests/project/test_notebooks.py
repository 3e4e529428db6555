"""Every notebook is committed with its outputs, and a clean kernel prints the same again.

Cells tagged ``varies`` are run but not compared: seconds, accuracies, what is installed here.
Training is run in a short form, which changes nothing of what is compared.
"""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

EXAMPLES = Path(__file__).parents[2] / "examples"
NOTEBOOKS = sorted(EXAMPLES.glob("*.ipynb"))
SHORTER = {
    "00_quickstart": {
        "rounds=2": "rounds=1",
        '"uniform", "hasa", "reverse", "optimal"': '"uniform", "optimal"',
        ").run()": ").run(compare_solvers=False)",
    },
    "04_your_own_model": {"rounds=10": "rounds=2", "range(1, 11)": "range(1, 3)"},
    "06_is_allocation_worth_it": {"rounds=20": "rounds=6", "range(5)": "range(2)"},
    "07_the_paper": {"rounds=2": "rounds=1"},
}
"""Words of the notebooks that train, and what the test runs in their place."""


def code_cells(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def shown(cell: nbformat.NotebookNode) -> list[str]:
    """What a cell prints and returns, as text; of a figure, that there is a picture.

    A kernel sends printed text in pieces that depend on its timing: they are joined first.
    """
    streams = {"stdout": "", "stderr": ""}
    values = []
    for output in cell.outputs:
        if output.output_type == "stream":
            streams[output.name] += output.text
        elif "image/png" in output.get("data", {}):
            values.append("picture")
        else:
            values += output.data["text/plain"].splitlines()
    return [line for text in streams.values() for line in text.splitlines()] + values


def test_pieces_in_which_text_arrives_do_not_matter() -> None:
    pieces = [
        nbformat.v4.new_output("stream", name="stdout", text=text) for text in ("a", "b\n", "c")
    ]
    whole = [nbformat.v4.new_output("stream", name="stdout", text="ab\nc")]
    shown_as = [shown(nbformat.v4.new_code_cell(outputs=outputs)) for outputs in (pieces, whole)]
    assert shown_as == [["ab", "c"], ["ab", "c"]]


def shorten(notebook: nbformat.NotebookNode, words: dict[str, str]) -> None:
    """Put other words in the place of some, each of which some cell must hold."""
    for long, short in words.items():
        holders = [cell for cell in code_cells(notebook) if long in cell.source]
        assert holders, long
        for cell in holders:
            cell.source = cell.source.replace(long, short)


def test_there_are_notebooks() -> None:
    assert len(NOTEBOOKS) >= 4


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_is_committed_as_it_ran_from_a_clean_kernel(path: Path) -> None:
    code = code_cells(nbformat.read(path, as_version=4))
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert any(shown(cell) for cell in code)
    for cell in code:
        assert "error" not in [output.output_type for output in cell.outputs]
        last = cell.source.splitlines()[-1]
        assert last != "figure" or shown(cell) == ["picture"]


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_prints_what_is_committed(path: Path, tmp_path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    committed = [shown(cell) for cell in code_cells(notebook)]
    shorten(notebook, SHORTER.get(path.stem, {}))
    resources = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(notebook, timeout=300, kernel_name="python3", resources=resources).execute()
    for cell, before in zip(code_cells(notebook), committed, strict=True):
        if "varies" not in cell.metadata.get("tags", []):
            assert shown(cell) == before, cell.source
