"""Helpers of the tests of the allocation side."""

from __future__ import annotations

import itertools
import os
import signal
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from hasa_opt import AllocationProblem, Coverage, Quota
from hasa_opt.problem.limits import RobustRow
from hasa_opt.solvers import registry
from hasa_opt.solvers.base import Answer, Request
from hasa_opt.solvers.registry import Capability, SolverRecord

# Tests run side by side, one to a core: a second thread of torch would only be in the way.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# The background jobs of a shell ignore Ctrl-C, which some tests send to themselves.
signal.signal(signal.SIGINT, signal.default_int_handler)


def brute_force(problem: AllocationProblem) -> float | None:
    """Best objective over all allocations, written without the library; None if infeasible."""
    options = [np.flatnonzero(row).tolist() for row in problem.admissible]
    choices = np.array(list(itertools.product(*options)))
    clients = np.arange(choices.shape[1])
    keep = problem.costs[clients, choices].sum(axis=1) <= problem.limit
    for row in problem.rows:
        members = clients if row.members is None else row.members
        total = row.coefficients[np.arange(members.size), choices[:, members]].sum(axis=1)
        if isinstance(row, RobustRow):
            worst = np.sort(row.deviation[np.arange(members.size), choices[:, members]], axis=1)
            total = total + worst[:, members.size - row.gamma :].sum(axis=1)
        if row.upper is not None:
            keep &= total <= row.upper
        if row.lower is not None:
            keep &= total >= row.lower
    if not keep.any():
        return None
    return float(problem.utilities[clients, choices[keep]].sum(axis=1).max())


class Scripted:
    """A backend that says what the test tells it to."""

    script: Callable[[AllocationProblem, Request], Answer]

    def solve(self, problem: AllocationProblem, request: Request) -> Answer:
        return type(self).script(problem, request)


@pytest.fixture
def liar() -> Iterator[Callable[[Callable[[AllocationProblem, Request], Answer]], str]]:
    """Register a scripted backend; call the fixture with its script to get its name."""
    name = "liar"

    def install(script: Callable[[AllocationProblem, Request], Answer]) -> str:
        Scripted.script = staticmethod(script)
        registry.register(
            SolverRecord(
                name,
                Scripted,
                "for the tests",
                capabilities=Capability.EXACT,
                constraints=(Coverage, Quota),
            )
        )
        return name

    yield install
    if name in {line.name for line in registry.solvers()}:
        registry.unregister(name)


@pytest.fixture
def brute() -> Callable[[AllocationProblem], float | None]:
    return brute_force
