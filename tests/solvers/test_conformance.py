"""Every backend against known answers and brute force."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from support import many, problems
from support.random_problems import random_problem

import hasa_opt as hasa
from hasa_opt import Termination, solve
from hasa_opt.errors import InfeasibleError, UnsupportedConstraintError
from hasa_opt.solvers import registry
from hasa_opt.solvers.registry import Capability

BACKENDS = tuple(line.name for line in registry.solvers())
EACH = [
    pytest.param(
        line.name,
        marks=pytest.mark.skipif(not line.available, reason=f"not installed: {line.install}"),
    )
    for line in registry.solvers()
]
BUDGET_ONLY = [line.name for line in registry.solvers() if line.stance(hasa.Coverage) == "no"]
EXACT = [
    line.name
    for line in registry.solvers()
    if Capability.EXACT in line.capabilities and line.name not in BUDGET_ONLY
]
SEEDS = dict.fromkeys(("cpsat", "scip", "cvxpy"), many(60)) | {"pulp": many(100)}


@pytest.fixture(autouse=True)
def _installed(request):
    """Skip, with the command that installs it, what an optional solver is missing."""
    name = getattr(request.node, "callspec", None) and request.node.callspec.params.get("solver")
    if name and not registry.find_solver(name).available:
        pytest.skip(registry.find_solver(name).install)


def refuses(solver: str, problem: hasa.AllocationProblem) -> bool:
    """Whether a solver must refuse a problem: a constraint, or for a flow the budget."""
    record = registry.find_solver(solver)
    most = np.where(problem.admissible, problem.costs, 0).max(axis=1).sum()
    binds = most > problem.limit and solver == "flow"
    return binds or any(record.stance(item) != "yes" for item in problem.constraints)


def named(known: problems.Known) -> str:
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


def test_the_registry_holds_the_documented_backends():
    assert set(BACKENDS) >= {"greedy", *EXACT}
    assert len(problems.CATALOGUE) >= 32
    assert len({known.name for known in problems.CATALOGUE}) == len(problems.CATALOGUE)


@pytest.mark.parametrize("known", problems.SOLVABLE, ids=named)
def test_the_catalogue_agrees_with_brute_force(known, brute):
    assert brute(known.build()) == pytest.approx(known.objective, abs=1e-12)


@pytest.mark.parametrize("known", problems.INFEASIBLE, ids=named)
def test_the_catalogue_of_conflicts_agrees_with_brute_force(known, brute):
    assert brute(known.build()) is None


@pytest.mark.parametrize("known", problems.SOLVABLE, ids=named)
@pytest.mark.parametrize("solver", EACH)
def test_known_optimum(known, solver):
    problem = known.build()
    if refuses(solver, problem):
        with pytest.raises(UnsupportedConstraintError, match=r"use .*highs"):
            solve(problem, solver)
        return
    result = solve(problem, solver)
    assert_sound(problem, result, known.objective)
    if solver != "greedy":
        assert result.termination is Termination.OPTIMAL
        assert result.gap == pytest.approx(0, abs=1e-9)
        if known.choice is not None:
            assert result.choice.tolist() == list(known.choice)


@pytest.mark.parametrize("known", problems.INFEASIBLE, ids=named)
@pytest.mark.parametrize("solver", EACH)
def test_known_conflict(known, solver):
    problem = known.build()
    refused = refuses(solver, problem)
    with pytest.raises(UnsupportedConstraintError if refused else InfeasibleError) as caught:
        solve(problem, solver)
    if refused:
        return
    assert set(caught.value.limits) == set(known.conflict)


@pytest.mark.fuzz
@pytest.mark.parametrize("solver", EACH)
def test_agrees_with_brute_force_on_random_instances(solver, brute):
    seen = Counter()
    seeds = SEEDS.get(solver, many(300))
    for seed in seeds:
        problem = random_problem(seed)
        if refuses(solver, problem):
            with pytest.raises(UnsupportedConstraintError):
                solve(problem, solver)
            seen["unsupported"] += 1
            continue
        best = brute(problem)
        if best is None:
            with pytest.raises(InfeasibleError):
                solve(problem, solver)
            seen["infeasible"] += 1
            continue
        result = solve(problem, solver)
        assert_sound(problem, result, best)
        if solver != "greedy":
            assert result.termination is Termination.OPTIMAL, (seed, result.message)
        seen[str(result.termination)] += 1
    assert seen["infeasible"] >= (1 if solver == "flow" else len(seeds) / 20)
    assert seen["optimal"] >= len(seeds) / 6
    if solver == "greedy":
        assert seen["gap reached"] >= 10  # else it was never put to the test


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
    problem = problems.knapsack([(10, 30), (10, 20), (10, 10)], 15)
    for solver in BACKENDS:
        if registry.find_solver(solver).available and not refuses(solver, problem):
            assert solve(problem, solver).price == pytest.approx(2.0)
    assert solve(problems.knapsack([(10, 30)], 10), "highs").price == 0.0
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
