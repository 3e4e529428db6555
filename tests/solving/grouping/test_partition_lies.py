"""Backends that lie about partitions, that stop, and that are stopped."""

from __future__ import annotations

import _thread
import threading
import time
from collections.abc import Callable, Iterator
from math import inf
from typing import Any

import numpy as np
import pytest

import hasa_opt as hasa
from hasa_opt import Termination
from hasa_opt.solvers import registry
from hasa_opt.solvers.base import Answer
from hasa_opt.solvers.registry import Capability, SolverRecord

SIMILARITY = np.array([[0, 3, -1, -2], [3, 0, -1, -1], [-1, -1, 0, 2], [-2, -1, 2, 0]], dtype=float)
"""Best: the first two and the last two, worth 5."""
BEST = np.array([1, 0, 0, 0, 0, 1])  # of the pairs 01 02 03 12 13 23
ALONE = np.zeros(6, dtype=np.int64)

Script = Callable[[Any], Answer]


def random_similarity(n_clients: int) -> Any:
    """Hard: there are no groups to be found."""
    upper = np.triu(np.random.default_rng(0).normal(size=(n_clients, n_clients)), 1)
    return upper + upper.T


class Scripted:
    script: Script

    def solve(self, problem: Any, request: Any) -> Answer:
        return type(self).script(request)


@pytest.fixture
def says() -> Iterator[Callable[..., hasa.Partition]]:
    """Partition by a backend that says what the test tells it to."""

    def partitioned(script: Script, similarity: Any = SIMILARITY, **given: Any) -> hasa.Partition:
        Scripted.script = staticmethod(script)
        record = SolverRecord("liar", Scripted, "for the tests", capabilities=Capability.PARTITION)
        registry.register(record)
        return hasa.partition(similarity, "liar", **given)

    yield partitioned
    registry.unregister("liar")


def claim(choice: Any, objective: float | None, bound: float, ended: str = "optimal") -> Script:
    return lambda _: Answer(Termination(ended), choice, objective, bound, "liar: done")


def test_the_truth_is_believed(says: Callable[..., hasa.Partition]) -> None:
    found = says(claim(BEST, 5.0, 5.0))
    assert found.claim_held
    assert found.termination is Termination.OPTIMAL
    assert (found.objective, found.bound, found.solver) == (5.0, 5.0, "liar")


@pytest.mark.parametrize(
    ("script", "message"),
    [
        (claim(ALONE, 0.0, 0.0), "claims bound 0, a partition worth 5 is known"),
        (claim(BEST, 6.0, 6.0), "claims objective 6, the partition has 5"),
        (claim(BEST, 5.0, 4.0), "claims bound 4, a partition worth 5 is known"),
        (claim(BEST, 5.0, np.nan), "claims bound nan, a partition worth 5 is known"),
        (claim(None, None, 5.0), "claims optimal but gives no partition"),
        (claim(None, None, inf, "infeasible"), "claims infeasible, but a partition"),
        (claim(BEST[:5], 5.0, 5.0), "answer refused: not 0 or 1 for each of 6 pairs"),
        (claim(BEST * 2, 5.0, 5.0), "answer refused: not 0 or 1 for each of 6 pairs"),
    ],
)
def test_lies_are_told_and_overruled(
    says: Callable[..., hasa.Partition], script: Script, message: str
) -> None:
    found = says(script)
    assert not found.claim_held
    assert message in found.message
    # Our own bound proves what the heuristic found, whoever lies.
    assert (found.objective, found.bound) == (5.0, 5.0)


def test_a_lie_where_our_own_bound_is_open_is_a_failure(
    says: Callable[..., hasa.Partition], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hasa_opt.solving.grouping.solver.packed_bound", lambda *_: inf)
    monkeypatch.setattr("hasa_opt.solving.grouping.relaxation.Relaxation.run", lambda *_: None)
    similarity = np.array([[0, 2, 2], [2, 0, -3], [2, -3, 0]], dtype=float)
    found = says(claim(np.array([0, 0, 0]), 0.0, 0.0), similarity)
    assert found.termination is Termination.FAILED
    assert (found.objective, found.bound, found.incumbent_from) == (2.0, 4.0, "greedy")
    found = says(claim(np.array([1, 0, 0]), 2.0, 2.5), similarity)
    assert found.termination is Termination.GAP_REACHED
    assert (found.bound, found.gap) == (2.5, 0.25)
    assert says(claim(np.array([1, 0, 0]), 2.0, 2.0), similarity).gap == 0


def test_limits_that_an_answer_breaks_are_told(
    says: Callable[..., hasa.Partition], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hasa_opt.solving.grouping.relaxation.Relaxation.run", lambda *_: None)
    found = says(claim(BEST, 5.0, 5.0), max_size=1)
    assert "a group of 2, at most 1 are allowed" in found.message
    assert found.sizes.tolist() == [1] * 4
    found = says(claim(BEST, 5.0, 5.0), max_groups=1)
    assert "2 groups, at most 1 are allowed" in found.message
    assert (found.n_groups, found.objective) == (1, 0.0)


def test_a_backend_is_asked_again_with_the_triangles_that_it_breaks(
    says: Callable[..., hasa.Partition], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hasa_opt.solving.grouping.relaxation.Relaxation.run", lambda *_: None)
    sizes = []
    broken = np.array([1, 1, 0, 0, 0, 1])

    def script(request: Any) -> Answer:
        sizes.append(request.linear_model().matrix.shape[0])
        return claim(BEST if len(sizes) > 1 else broken, 5.0 if len(sizes) > 1 else 4.0, 5.0)(0)

    assert says(script).termination is Termination.OPTIMAL
    assert sizes[0] == 0
    assert sizes[1] > 0
    found = says(claim(broken, 4.0, 5.0))
    assert not found.claim_held
    assert "rows of its program" in found.message


def test_a_backend_that_fails_leaves_what_is_known(says: Callable[..., hasa.Partition]) -> None:
    def fails(_: Any) -> Answer:
        raise ZeroDivisionError("by zero")

    found = says(fails)
    assert found.objective == 5.0
    assert "ZeroDivisionError: by zero" in found.message


def interrupted(*_: Any) -> Any:
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    "step",
    [
        "local_search.LocalSearch.run",
        "solver.packed_bound",
        "relaxation.Relaxation.run",
    ],
)
def test_ctrl_c_at_any_step_hands_over_the_best_known(
    monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    monkeypatch.setattr(f"hasa_opt.solving.grouping.{step}", interrupted)
    found = hasa.partition(random_similarity(12), "highs")
    assert found.termination is Termination.INTERRUPTED
    assert found.bound >= found.objective >= 0
    assert found.gap > 0


def test_ctrl_c_in_a_backend_hands_over_the_best_known(says: Callable[..., hasa.Partition]) -> None:
    found = says(interrupted, np.array([[0, 2, 2], [2, 0, -3], [2, -3, 0]]))
    assert found.objective == 2
    assert "interrupted before an answer" in found.message


def test_ctrl_c_from_the_keyboard_reaches_a_long_call() -> None:
    timer = threading.Timer(0.5, _thread.interrupt_main)
    similarity = random_similarity(100)
    timer.start()
    found = hasa.partition(similarity, "highs")
    timer.join()
    assert found.termination is Termination.INTERRUPTED
    assert found.bound > found.objective > 0


@pytest.mark.parametrize("limit_s", [0.0, 0.5])
def test_the_time_limit_holds(limit_s: float) -> None:
    similarity = random_similarity(70)
    hasa.partition(SIMILARITY, "highs")
    started = time.perf_counter()
    found = hasa.partition(similarity, time_limit_s=limit_s)
    assert time.perf_counter() - started < limit_s + 5.0  # Other work may run beside it.
    assert found.solver == "highs"
    assert found.termination is Termination.TIME_LIMIT
    assert found.bound >= found.objective
