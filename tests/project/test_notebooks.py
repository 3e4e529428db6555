"""Every notebook is committed with its outputs, and a clean kernel prints the same again.

The tag ``varies`` is for clock times alone: such cells are run and not compared. Numbers that
another processor rounds to others are compared within a tolerance, by the tag of their cell in
:data:`TOLERANCES`. All else is compared character by character.
"""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from support.marks import some_nightly

EXAMPLES = Path(__file__).parents[2] / "examples"
NOTEBOOKS = sorted(EXAMPLES.glob("*.ipynb"))
DAILY = [
    EXAMPLES / f"{name}.ipynb"
    for name in ("01_allocate", "03_constraints", "09_what_a_width_costs")
]
NUMBER = re.compile(r"[-+]?\d+(?:\.\d*)?(?:e[-+]?\d+)?")
TOLERANCES = {
    "trained": {"abs": 3.0, "rel": 0.1},
    "memory": {"rel": 0.25},
}
"""By how much numbers may differ, by the tag of a cell; its words and their order may not.

``trained``: what follows from training, in points of accuracy. With PyTorch's plain kernels
(``ATEN_CPU_CAPABILITY=default``) in place of the processor's own, none of these numbers moved by
more than 1.8. ``memory``: bytes at a peak, of which libraries set aside other amounts for other
processors; the tolerance is a choice."""


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


def assert_near(lines: list[str], before: list[str], tolerance: dict[str, float]) -> None:
    """Words are the same, however wide the columns are, and numbers are within the tolerance."""
    now, then = "\n".join(lines), "\n".join(before)
    assert NUMBER.sub("#", now).split() == NUMBER.sub("#", then).split()
    numbers = [[float(text) for text in NUMBER.findall(part)] for part in (now, then)]
    assert numbers[0] == pytest.approx(numbers[1], **tolerance)


def test_numbers_are_compared_within_their_tolerance_and_words_as_they_are() -> None:
    stored = ["hasa   14.34 ± 0.10  -0.17 [-0.67, +0.33]"]
    assert_near(["hasa  14.4 ± 0.1 -0.2 [-0.7, +0.3]"], stored, {"abs": 0.1})
    for other in (stored[0].replace("+0.33", "+0.53"), stored[0].replace("hasa", "fjord")):
        with pytest.raises(AssertionError):
            assert_near([other], stored, {"abs": 0.1})


def test_what_is_not_compared_shows_clock_times() -> None:
    for path in NOTEBOOKS:
        for cell in code_cells(nbformat.read(path, as_version=4)):
            tags = set(cell.metadata.get("tags", ()))
            assert tags <= {"varies", *TOLERANCES}
            assert len(tags) < 2
            assert "varies" not in tags or "seconds" in cell.source, cell.source


def test_there_are_notebooks() -> None:
    assert len(NOTEBOOKS) >= 4
    assert set(DAILY) < set(NOTEBOOKS)


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
@pytest.mark.parametrize("path", some_nightly(NOTEBOOKS, DAILY), ids=lambda path: path.stem)
def test_notebook_prints_what_is_committed(path: Path, tmp_path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    committed = [shown(cell) for cell in code_cells(notebook)]
    resources = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(notebook, timeout=300, kernel_name="python3", resources=resources).execute()
    for cell, before in zip(code_cells(notebook), committed, strict=True):
        (tag,) = cell.metadata.get("tags") or (None,)
        if tag in TOLERANCES:
            assert_near(shown(cell), before, TOLERANCES[tag])
        elif tag != "varies":
            assert shown(cell) == before, cell.source
