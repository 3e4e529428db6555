"""Nouns show themselves: a line for ``repr``, a table for ``print`` and in a notebook."""

from __future__ import annotations

import io
import re
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

import hasa_opt as hasa
from hasa_opt import Quota, Termination
from hasa_opt.problem.result import COLUMNS
from hasa_opt.testing import problems


def trap(**more) -> hasa.AllocationProblem:
    return problems.knapsack([(6, 7), (5, 5), (5, 5)], 10, **more)


def many(n_clients: int) -> hasa.Clients:
    return hasa.Clients(np.arange(1, n_clients + 1), max_width=np.full(n_clients, 0.5))


NOUNS = {
    "Allocation": (
        lambda: hasa.solve(trap(), "highs"),
        ["client", "samples", "width", "client-2", "highs: optimal, objective 10, gap 0"],
    ),
    "Allocation without a solution": (
        lambda: replace(
            hasa.solve(trap(), "highs"), termination=Termination.TIME_LIMIT, held=None, totals=None
        ),
        ["highs: time limit, no solution"],
    ),
    "AllocationProblem": (
        lambda: trap(constraints=[Quota({1.0: 2}), hasa.Fairness("maxmin")]),
        ["3, with 3 samples", "0.5, 1", "6 of 6", "10 of 16 cost units", "Quota, Fairness(maxmin)"],
    ),
    "Clients": (
        lambda: hasa.Clients([4, 5], names=["a", "[b]"], site=["x", "y"], counts=[[1, 1], [2, 3]]),
        ["[b]", "site", "y", "counted", "5"],
    ),
    "Comparison": (
        lambda: hasa.compare(trap(), ["highs", "greedy", "flow"]),
        ["objective", "gap reached", "held", "highs proves the optimum 10", "flow: solver 'flow'"],
    ),
    "Frontier": (
        lambda: hasa.frontier(trap(), [0.5, 1.0]),
        ["budget", "utility", "0.5", "17", "optimal"],
    ),
    "Partition": (
        lambda: hasa.partition([[0, 1, -1], [1, 0, -1], [-1, -1, 0]], "greedy", names=list("abc")),
        ["group", "members", "a, b", "2 groups, objective 1"],
    ),
    "PartitionProblem": (
        lambda: hasa.PartitionProblem.of([[0, 1, 0], [1, 0, -1], [0, -1, 0]], max_size=2),
        ["clients", "2 of 3 pairs are not 0", "groups any", "group size at most 2"],
    ),
    "Sensitivity": (
        lambda: hasa.sensitivity(hasa.solve(trap(), "highs")),
        ["price of the budget", "more budget first widens: client-0"],
    ),
    "solvers": (hasa.solvers, ["installed", "exact", "alone: Robust, Fairness(leximin)"]),
}


@pytest.mark.parametrize("noun", NOUNS)
def test_text_page_and_console_show_the_same(noun: str) -> None:
    make, words = NOUNS[noun]
    shown = make()
    plain = " ".join(str(shown).split())
    for word in words:
        assert word in plain or noun == "solvers"
    page = shown._repr_html_()
    assert page.startswith("<pre")
    unmarked = re.sub(r"<[^>]+>", "", page).replace("&#x27;", "'")
    assert " ".join(unmarked.split()) == plain
    console = Console(file=io.StringIO(), width=100)
    console.print(shown, highlight=False)
    assert " ".join(console.file.getvalue().split()) == plain


@pytest.mark.parametrize("noun", [noun for noun in NOUNS if noun != "solvers"])
def test_the_short_form_is_one_line(noun: str) -> None:
    line = repr(NOUNS[noun][0]())
    assert "\n" not in line
    assert len(line) < 120


def test_every_solver_stands_with_each_of_its_constraints_once() -> None:
    console = Console(file=io.StringIO(), width=400)
    console.print(hasa.solvers())
    for record in hasa.solvers():
        line = next(
            line for line in console.file.getvalue().splitlines() if f" {record.name} " in line
        )
        words = re.split(r"[\s,;]+", line)
        for constraint in (*record.taken(), *record.taken("alone")):
            assert words.count(constraint) == 1, (record.name, constraint)


def test_of_many_clients_the_first_twenty_are_shown() -> None:
    shown = str(many(21))
    assert "client-19" in shown
    assert "client-20" not in shown
    assert "the first 20 of 21 clients" in shown
    assert "of 20 clients" not in str(many(20))


@pytest.mark.parametrize(("n_budgets", "rows"), [(20, 20), (21, 20), (300, 20)])
def test_of_many_budgets_twenty_are_shown_from_end_to_end(n_budgets: int, rows: int) -> None:
    budgets = np.linspace(0.5, 1.0, n_budgets)
    lines = str(hasa.frontier(trap(), budgets, "greedy")).splitlines()
    shown = [line.split()[0] for line in lines if line.split()[-1:] in (["optimal"], ["reached"])]
    assert len(shown) == rows
    assert (shown[0], shown[-1]) == ("0.5", "1")
    assert (f"20 of {n_budgets} budgets" in lines[-1]) == (n_budgets > 20)


def test_names_are_no_markup() -> None:
    assert "[bold]" in str(hasa.Clients([1], names=["[bold]"]))


def test_a_column_of_ones_own_joins_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(COLUMNS, "twice", lambda result, row: f"{2 * result.widths[row]:g}")
    result = hasa.solve(trap(), "highs")
    lines = [line.split() for line in str(result).splitlines()]
    assert lines[0][-1] == "twice"
    assert [line[-1] for line in lines[2:5]] == ["1", "2", "2"]


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "utf-8"])
def test_lines_are_drawn_with_what_the_output_can_encode(encoding: str) -> None:
    code = "import hasa_opt as hasa; print(hasa.Clients([3, 4], names=['a', 'b']))"
    shown = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=True,
        env={"PYTHONIOENCODING": encoding, "PYTHONPATH": ":".join(sys.path)},
    )  # fmt: skip
    assert "samples" in shown.stdout.decode(encoding)


def test_options_are_shown_by_name_and_by_width_where_they_have_one() -> None:
    worth = hasa.utility.measured([[0, 1, 2], [0, 3, 9]])
    for attributes, headings in (
        ({}, ["client", "samples", "option"]),
        ({"width": [0, 0.5, 1]}, ["client", "samples", "option", "width"]),
    ):
        menu = hasa.Menu(
            ["skip", "light", "full"], costs={"joules": [0, 3, 7]}, per="client",
            full="full", attributes=attributes,
        )  # fmt: skip
        problem = hasa.AllocationProblem.build(
            hasa.Clients([5, 6], names=["x", "y"]), menu=menu, budget=0.75, utility=worth
        )
        lines = [line.split() for line in str(hasa.solve(problem, "highs")).splitlines()]
        assert lines[0] == headings
        assert lines[2][:3] == ["x", "5", "light"]
        assert lines[3][:3] == ["y", "6", "full"]
        assert "options" in str(problem)
