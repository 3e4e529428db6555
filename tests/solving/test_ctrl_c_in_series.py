"""A series of solves ends at Ctrl-C, although each solve takes it as a wish for its best answer."""

from __future__ import annotations

import signal

import numpy as np
import pytest

import hasa_opt as hasa
from hasa_opt.problem.result import Termination
from hasa_opt.solving import frontiers, parameters

BUDGETS = [0.3, 0.5, 0.7]


@pytest.fixture
def problem() -> hasa.AllocationProblem:
    return hasa.AllocationProblem.build(
        hasa.Clients([10, 20, 30]), widths=(0.25, 0.5, 1.0), budget=0.5,
        utility=hasa.utility.hasa(np.array([0.1, 0.5, 0.9])),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("module", "call"),
    [
        (frontiers, lambda problem: hasa.frontier(problem, BUDGETS, "exact")),
        (frontiers, lambda problem: hasa.frontier(problem, 3, "exact")),
        (parameters, lambda problem: hasa.sweep(problem, limits={"budget": BUDGETS})),
    ],
)
def test_the_solve_of_ctrl_c_is_the_last(monkeypatch, problem, module, call) -> None:
    solves, usual = [], hasa.solve

    def pressed_meanwhile(*arguments, **options) -> hasa.Allocation:
        found = usual(*arguments, **options)
        solves.append(found)
        with pytest.raises(KeyboardInterrupt):  # as a backend that hands over its best
            signal.raise_signal(signal.SIGINT)
        return found

    monkeypatch.setattr(module, "solve", pressed_meanwhile)
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        call(problem)
    assert len(solves) == 1
    assert solves[0].termination is Termination.OPTIMAL
    assert signal.getsignal(signal.SIGINT) is before
