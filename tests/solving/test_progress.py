"""What is known while a solve goes on, and what is handed over whatever stops it."""

from __future__ import annotations

import time
from itertools import count

import numpy as np
import pytest
from support.hard_problems import stubborn, trap

import hasa_opt as hasa
from hasa_opt import Termination, solve
from hasa_opt._utils.deadline import Deadline
from hasa_opt.solvers import registry
from hasa_opt.solvers.base import Answer, Request
from hasa_opt.solvers.incumbent import Progress
from hasa_opt.solving.solver import choose_solver

MIPS = ["highs", "scip", "cpsat", "pulp", "cvxpy"]


def several_budgets(
    seed: int, n_clients: int = 60, n_options: int = 6, n_resources: int = 5
) -> hasa.AllocationProblem:
    """Correlated utilities, every budget halfway between the least and the most."""
    rng = np.random.default_rng(seed)
    costs = {f"r{at}": rng.integers(1, 100, (n_clients, n_options)) for at in range(n_resources)}
    utilities = sum(costs.values()) / n_resources + rng.uniform(0, 20, (n_clients, n_options))
    budgets = [
        hasa.Budget(name, int(table.min(axis=1).sum() + table.max(axis=1).sum()) // 2)
        for name, table in costs.items()
    ]
    return hasa.AllocationProblem.build(
        hasa.Clients(np.ones(n_clients, dtype=int)),
        menu=hasa.Menu([f"option {at}" for at in range(n_options)], costs=costs),
        utility=hasa.utility.measured(utilities),
        constraints=budgets,
    )


@pytest.mark.slow
@pytest.mark.parametrize("solver", ["exact", "greedy", *MIPS])
def test_incumbents_never_fall_and_bounds_never_rise(solver):
    seen: list[Progress] = []
    result = solve(several_budgets(1), solver, time_limit_s=1, on_progress=seen.append)
    assert seen
    assert {news.solver for news in seen} == {solver}
    held = [news.incumbent for news in seen if news.incumbent is not None]
    assert held == sorted(held)
    bounds = [news.bound for news in seen]
    assert bounds == sorted(bounds, reverse=True)
    assert [news.seconds for news in seen] == sorted(news.seconds for news in seen)
    assert seen[-1].incumbent == result.objective
    assert seen[-1].gap <= result.gap + 1e-12


@pytest.mark.slow
@pytest.mark.parametrize("solver", ["exact", "highs", "scip", "cpsat"])
def test_those_that_can_tell_do_so_on_the_way(solver):
    seen: list[Progress] = []
    result = solve(stubborn(), solver, time_limit_s=2, on_progress=seen.append)
    assert len(seen) > 1
    assert seen[0].seconds < result.seconds / 2


@pytest.mark.slow
@pytest.mark.parametrize("solver", MIPS)
def test_true_stops_with_the_best_known(solver):
    started = time.perf_counter()
    result = solve(
        stubborn(), solver, time_limit_s=30, on_progress=lambda news: news.incumbent is not None
    )
    assert time.perf_counter() - started < 15
    assert result.termination is Termination.INTERRUPTED
    assert result.has_solution


def test_what_is_true_and_not_true_itself_does_not_stop():
    result = solve(trap(), "highs", on_progress=lambda news: "go on")
    assert result.termination is Termination.OPTIMAL


@pytest.mark.slow
@pytest.mark.parametrize("solver", ["exact", "greedy", *MIPS])
def test_an_error_of_the_callers_function_is_raised(solver):
    calls = []

    def broken(news: Progress) -> None:
        calls.append(news)
        raise RuntimeError("no room on the screen")

    with pytest.raises(RuntimeError, match="no room on the screen"):
        solve(several_budgets(2), solver, time_limit_s=5, on_progress=broken)
    assert len(calls) == 1
    assert solve(trap(), solver if solver != "greedy" else "exact").objective == 10


def _at_once(news: Progress) -> bool:
    """Stop as soon as an allocation is known."""
    return news.incumbent is not None


@pytest.mark.parametrize("solver", ["highs", "pulp"])
def test_who_is_stopped_is_not_said_to_be_out_of_time(solver):
    result = solve(several_budgets(3), solver, on_progress=lambda news: True)
    assert result.termination is Termination.INTERRUPTED
    assert "out of time" not in result.message


def _of_one_kind(kind: str) -> hasa.AllocationProblem:
    """A problem that the exact solver meets by a method of its own, for long enough."""
    if kind == "several":
        return several_budgets(3)
    rng = np.random.default_rng(0)
    costs = np.sort(rng.integers(10**8, 10**9, (60, 4)), axis=1)
    robust = hasa.Robust(gamma=5, deviation=0.2)
    return hasa.AllocationProblem.build(
        hasa.Clients([1] * 60),
        menu=hasa.Menu(["a", "b", "c", "d"], costs={"bytes": costs}, full="d"),
        budget=0.7,
        utility=hasa.utility.measured(costs + rng.integers(0, 1000, costs.shape)),
        constraints=[robust] * (kind == "robust"),
    )


@pytest.mark.parametrize("kind", ["one budget", "several"])
def test_the_exact_solver_says_that_it_was_stopped(kind):
    result = solve(_of_one_kind(kind), "exact", on_progress=_at_once, time_limit_s=60)
    assert result.termination is Termination.INTERRUPTED
    assert result.message.startswith("exact: interrupted")


def _stopped_after(looks: int, problem: hasa.AllocationProblem) -> Request:
    """A request whose caller asks to stop after so many looks at the clock."""
    seen = count()
    return Request(problem, deadline=Deadline(stopped=lambda: next(seen) >= looks))


def test_whenever_a_robust_search_is_stopped_it_says_so():
    problem = _of_one_kind("robust")
    assert solve(problem, "exact").termination is Termination.OPTIMAL
    answers = [registry.ask("exact", _stopped_after(looks, problem)) for looks in range(0, 60, 10)]
    assert {answer.termination for answer in answers} == {Termination.INTERRUPTED}
    assert answers[-1].native.startswith("exact: interrupted")


def test_flow_says_that_it_was_stopped():
    problem = trap(constraints=[hasa.Quota({1.0: 1})]).with_budget(1.0)
    assert registry.ask("flow", _stopped_after(0, problem)).termination is Termination.INTERRUPTED


def test_what_cannot_be_called_is_refused():
    with pytest.raises(hasa.errors.InputError, match="on_progress 3 cannot be called"):
        solve(trap(), "highs", on_progress=3)


def test_a_start_that_is_not_beaten_keeps_its_author(liar):
    name = liar(lambda problem, request: Answer(Termination.TIME_LIMIT, request.start))
    result = solve(trap(), name)
    assert (result.objective, result.incumbent_from, result.own_objective) == (7, "greedy", None)
    result = solve(trap(), name, warm_start=[0, 1, 1])
    assert (result.objective, result.incumbent_from) == (10, "warm start")
    start = solve(several_budgets(3), "greedy")
    for solver in ("exact", "greedy"):
        result = solve(several_budgets(3), solver, warm_start=start, on_progress=_at_once)
        assert (result.incumbent_from, result.own_objective) == ("warm start", None)


def test_what_a_solver_offered_survives_its_failure(liar):
    def script(problem, request):
        request.offer(np.array([0, 1, 1]))
        request.offer(np.array([1, 1, 1]))  # beyond the budget
        raise RuntimeError("boom")

    result = solve(trap(), name := liar(script))
    assert (result.objective, result.incumbent_from) == (10, name)
    assert result.termination is Termination.FAILED
    assert "boom" in result.message


def test_auto_keeps_one_limit_for_the_whole_call(liar, monkeypatch):
    def idle(problem, request):
        time.sleep(0.3)
        return Answer(Termination.TIME_LIMIT)

    left = []

    def second(problem, request):
        left.append(request.time_limit_s)
        return Answer(Termination.TIME_LIMIT)

    first, last = liar(idle), "last"
    registry.register(registry.SolverRecord(last, lambda: _Scripted(second), ""))
    try:
        monkeypatch.setattr("hasa_opt.solving.solver._auto", lambda *_: [first, last])
        solve(trap(), "auto", time_limit_s=1.0)
        solve(trap(), first, fallback=last, time_limit_s=1.0)
    finally:
        registry.unregister(last)
    assert left[0] <= 0.7
    assert left[1] > 0.9  # a fallback that the caller names has a limit of its own


def test_auto_asks_the_exact_solver_for_several_budgets_in_a_limited_time():
    problem = several_budgets(1)
    assert choose_solver(problem, limited=True) == "exact"
    assert choose_solver(problem) == "highs"
    assert choose_solver(trap(constraints=[hasa.Quota({1.0: 2})]), limited=True) == "highs"
    assert solve(problem, time_limit_s=60, gap=0.01).solver == "exact"


@pytest.mark.nightly
@pytest.mark.parametrize("limit_s", [0.5, 2, 10])
@pytest.mark.parametrize("seed", range(3))
def test_no_solver_ends_below_greedy(seed, limit_s):
    problem = several_budgets(seed, n_clients=400, n_options=10, n_resources=10)
    least = solve(problem, "greedy", time_limit_s=limit_s)
    for solver in ("auto", "highs", "scip", "cpsat", "pulp"):
        result = solve(problem, solver, time_limit_s=limit_s)
        assert result.has_solution
        assert result.objective >= least.objective
        assert result.seconds < limit_s + 1


class _Scripted:
    def __init__(self, script):
        self.solve = script
