"""Every backend goes through the check that is offered to those of other packages."""

from __future__ import annotations

import numpy as np
import pytest
from support import many

import hasa_opt as hasa
from hasa_opt import Termination, solve
from hasa_opt.errors import InfeasibleError, UnsupportedConstraintError
from hasa_opt.solvers import registry
from hasa_opt.testing import CATALOGUE, Known, check_solver, random_problem
from hasa_opt.testing.catalogue import INFEASIBLE, SOLVABLE
from hasa_opt.testing.problems import knapsack

BACKENDS = tuple(record.name for record in registry.solvers())
EACH = [
    pytest.param(
        record.name,
        marks=pytest.mark.skipif(not record.available, reason=f"not installed: {record.install}"),
    )
    for record in registry.solvers()
]
PROBLEMS = {"cpsat": 25, "scip": 25, "cvxpy": 25, "pulp": 40}
"""Random problems for those that take long to start; 120 for the others."""


@pytest.fixture(autouse=True)
def _installed(request):
    """Skip, with the command that installs it, what an optional solver is missing."""
    name = getattr(request.node, "callspec", None) and request.node.callspec.params.get("solver")
    if name and not registry.find_solver(name).available:
        pytest.skip(registry.find_solver(name).install)


def named(known: Known) -> str:
    return known.name


def assert_sound(problem: hasa.AllocationProblem, result: hasa.Allocation, best: float) -> None:
    """What holds for every answer, exact or not."""
    room = 1e-9 * max(1e-12, problem.magnitude)
    found = problem.evaluate(result.choice)
    assert found.feasible, found.violations
    assert found.objective == result.objective <= best + room
    assert result.bound >= best - room
    assert result.spent <= problem.limit
    assert result.claim_held, result.message
    if result.termination is Termination.OPTIMAL:
        assert result.objective == pytest.approx(best, abs=room)


@pytest.mark.fuzz
@pytest.mark.parametrize("solver", EACH)
def test_it_keeps_its_contract(solver):
    check_solver(solver, n_problems=len(many(PROBLEMS.get(solver, 120))))


def test_the_registry_holds_the_documented_backends():
    documented = {"exact", "greedy", "highs", "pulp", "cvxpy", "cpsat", "scip", "flow"}
    assert documented <= set(BACKENDS)
    assert len(CATALOGUE) >= 40
    assert len({known.name for known in CATALOGUE}) == len(CATALOGUE)


@pytest.mark.parametrize("known", SOLVABLE, ids=named)
def test_the_catalogue_agrees_with_brute_force(known, brute):
    assert brute(known.build()) == pytest.approx(known.objective, abs=1e-12)


@pytest.mark.parametrize("known", INFEASIBLE, ids=named)
def test_the_catalogue_of_conflicts_agrees_with_brute_force(known, brute):
    assert brute(known.build()) is None


@pytest.mark.parametrize("known", [known for known in SOLVABLE if known.choice], ids=named)
def test_the_one_best_allocation_is_found(known):
    assert solve(known.build()).choice.tolist() == list(known.choice)


def test_random_problems_are_of_every_kind(brute):
    seeds = range(100)
    problems = [random_problem(seed) for seed in seeds]
    assert sum(brute(problem) is None for problem in problems) >= 5
    assert sum(not problem.admissible.all() for problem in problems) >= 20
    assert sum(bool(problem.rows) for problem in problems) >= 30
    assert sum(solve(own, "greedy").gap > 0 for own in problems if not own.rows and brute(own)) >= 5
    again = random_problem(7)
    assert again.limit == problems[7].limit
    np.testing.assert_array_equal(again.utilities, problems[7].utilities)


@pytest.mark.parametrize("solver", ["greedy", "flow"])
def test_what_a_backend_does_not_take_is_refused_before_any_work(solver, monkeypatch):
    monkeypatch.setattr(registry, "load", lambda name: pytest.fail("work before the refusal"))
    refused = 0
    for known in CATALOGUE:
        problem = known.build()
        stances = [registry.find_solver(solver).stance(item) for item in problem.constraints]
        if "no" in stances:
            with pytest.raises(UnsupportedConstraintError, match=r"use .*highs"):
                solve(problem, solver)
            refused += 1
    assert refused >= 10


@pytest.mark.parametrize("seed", [1505, 2077, 3107])
def test_no_optimum_is_lost_in_the_preprocessing_of_cbc(seed, brute):
    problem = random_problem(seed)
    result = solve(problem, "pulp")
    assert result.termination is Termination.OPTIMAL, result.message
    assert result.objective == pytest.approx(brute(problem))


@pytest.mark.fuzz
def test_pulp_with_highs_agrees_with_brute_force(brute):
    solved = 0
    for seed in many(60):
        problem = random_problem(seed)
        best = brute(problem)
        if best is None:
            continue
        result = solve(problem, "pulp", pulp_solver="HiGHS")
        assert_sound(problem, result, best)
        assert result.termination is Termination.OPTIMAL
        assert "HiGHS" in result.message
        solved += 1
    assert solved >= 30


@pytest.mark.parametrize("seed", range(12))
def test_auto_agrees_with_brute_force(seed, brute):
    problem = random_problem(seed)
    best = brute(problem)
    if best is None:
        with pytest.raises(InfeasibleError):
            solve(problem)
    else:
        result = solve(problem)
        assert result.solver == ("highs" if problem.constraints else "exact")
        assert_sound(problem, result, best)


@pytest.mark.parametrize("n_clients", [300, 2000])
def test_greedy_gap_shrinks_with_the_number_of_clients(n_clients):
    rng = np.random.default_rng(n_clients)
    clients = hasa.Clients(rng.integers(10, 1000, n_clients))
    problem = hasa.AllocationProblem.build(
        clients,
        widths=(0.2, 0.35, 0.5, 0.65, 0.8),
        budget=0.5,
        utility=hasa.utility.hasa(rng.random(n_clients)),
    )
    greedy, highs = solve(problem, "greedy"), solve(problem, "highs", gap=1e-7, time_limit_s=5)
    assert 0 <= greedy.gap < 2 / n_clients
    assert greedy.objective <= highs.bound + 1e-12
    assert highs.objective <= greedy.bound + 1e-12


def test_the_shadow_price_is_the_marginal_gain_at_the_budget():
    # Gains per unit of cost: 3, 2, 1. Room for one and a half items: the second is marginal.
    problem = knapsack([(10, 30), (10, 20), (10, 10)], 15)
    for solver in BACKENDS:
        if registry.find_solver(solver).available and solver != "flow":  # its budget cannot bind
            assert solve(problem, solver).price == pytest.approx(2.0)
    assert solve(knapsack([(10, 30)], 10), "highs").price == 0.0
    assert solve(problem, "greedy").bound == pytest.approx(40.0)


@pytest.mark.parametrize(
    ("solver", "seed"),
    [("highs", 56), ("highs", 189), ("pulp", 5), ("cvxpy", 5), ("cpsat", 5), ("scip", 5)],
)
def test_a_soft_ban_does_not_hide_the_other_differences(solver, seed, brute):
    rng = np.random.default_rng(seed)
    samples = rng.integers(5, 60, 5)
    table = rng.uniform(0, 1, (5, 5))
    table[0, 0] = -1e9
    problem = hasa.AllocationProblem.build(
        hasa.Clients(samples),
        widths=(0.05, 0.1, 0.2, 0.5, 1.0),
        budget=0.35,
        utility=hasa.utility.measured(table),
    )
    best = brute(problem)
    result = solve(problem, solver)
    assert result.bound >= best - 1e-9
    if result.termination is Termination.OPTIMAL:
        assert result.objective == pytest.approx(best, abs=1e-9)
