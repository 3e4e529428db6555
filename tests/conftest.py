"""Helpers of the tests of the allocation side."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator

import pytest

from hasa_opt import AllocationProblem, Coverage, Quota
from hasa_opt.solvers import registry
from hasa_opt.solvers.base import Answer, Request
from hasa_opt.solvers.registry import Capability, SolverRecord
from hasa_opt.testing import best_objective

# Tests run side by side, one to a core: a second thread of torch would only be in the way.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# The background jobs of a shell ignore Ctrl-C, which some tests send to themselves.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Random problems pass the same lines again and again: counting them takes half as long again.

    The other tests alone are what ``fail_under`` counts.
    """
    for item in items:
        if item.get_closest_marker("fuzz"):
            item.add_marker("no_cover")


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
    return best_objective
