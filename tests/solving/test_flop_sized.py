"""FLOPs of many clients beside further limits: all backends prove, all conflicts are told."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from support import TIMES, many

import hasa_opt as hasa
from hasa_opt import AllocationProblem, Budget, Clients, Coverage, Menu, Quota
from hasa_opt.problem.limits import Row
from hasa_opt.solvers import registry

pytestmark = pytest.mark.slow

FLOPS = np.array([21_000_003, 64_000_007, 120_000_011, 212_000_027, 337_000_033])


def fleet(rng: np.random.Generator, n_clients: int, budget: float, *limits) -> AllocationProblem:
    """Clients of 500 to 6,000 samples; a step of width costs some ten million FLOPs per sample."""
    clients = Clients(rng.integers(500, 6001, n_clients))
    menu = Menu(
        ["xs", "s", "m", "l", "xl"],
        costs={"flops": FLOPS},
        per="sample",
        attributes={"width": [0.2, 0.4, 0.6, 0.8, 1.0]},
        full="xl",
    )
    worth = hasa.utility.hasa(rng.random(n_clients))
    return AllocationProblem.build(
        clients, menu=menu, budget=budget, utility=worth, constraints=limits
    )


PROVING = ["auto", "exact", "highs", "cpsat", "scip", "cvxpy", "pulp"]


@pytest.mark.parametrize("solver", PROVING)
def test_every_backend_proves_the_optimum(solver: str) -> None:
    if solver != "auto" and not registry.find_solver(solver).available:
        pytest.skip(registry.find_solver(solver).install)
    problem = fleet(np.random.default_rng(3), 100, 0.4, Coverage({0.8: 0.3}))
    result = hasa.solve(problem, solver)
    assert result.termination is hasa.Termination.OPTIMAL
    assert result.objective == pytest.approx(-0.2538158693255751, abs=1e-12)


def crowded(seed: int) -> AllocationProblem:
    """Up to four limits, of which mostly some conflict."""
    rng = np.random.default_rng(seed)
    n_clients = int(rng.integers(3, 20))
    joules = rng.integers(10**9, 10**12, (n_clients, FLOPS.size))
    least, most = int(joules.min(axis=1).sum()), int(joules.max(axis=1).sum())
    limits = [
        Coverage({1.0: round(float(rng.uniform(0.2, 1)), 2)}),
        Coverage({0.4: round(float(rng.uniform(0.4, 1)), 2)}),
        Quota({0.2: int(rng.integers(0, n_clients // 2 + 1))}),
        Budget(joules, least + int(rng.uniform(0, 0.4) * (most - least)), "joules"),
    ]
    some = rng.permutation(4)[: int(rng.integers(1, 4))]
    budget = round(float(rng.uniform(0.07, 0.5)), 3)
    return fleet(rng, n_clients, budget, *(limits[at] for at in some))


def easier(problem: AllocationProblem, message: str) -> AllocationProblem:
    """The problem after the remedy of a message; other limits than these may be named as well."""
    changed = {
        label: float(to)
        for label, to in re.findall(r"\((Coverage[^)]*)\) from \S+ to ([\d.]*\d)", message)
    }
    numbers = {
        label: int(to)
        for label, to in re.findall(r"limit of \(([^)]*)\) from \d+ to (\d+)", message)
    }
    budget = re.search(r"the budget from \S+ to ([\d.]*\d)", message)
    rows = [_changed(row, changed, numbers) for row in problem.rows]
    eased = replace(problem, rows=tuple(rows), constraints=())
    return eased.with_budget(float(budget[1])) if budget else eased


def _changed(row: Row, shares: dict[str, float], numbers: dict[str, int]) -> Row:
    if row.label in shares:
        assert row.share is not None
        return replace(row, lower=int(np.ceil(shares[row.label] * row.share.of - 1e-6)))
    if row.label in numbers:
        return replace(row, upper=numbers[row.label])
    return row


@pytest.mark.fuzz
@pytest.mark.parametrize("solver", ["auto", "exact"])
def test_every_conflict_is_explained_and_its_remedy_suffices(solver: str) -> None:
    infeasible = 0
    for seed in many(4):
        problem = crowded(1 + seed)
        message = ""
        try:
            result = hasa.solve(problem, solver, gap=1e-3)
        except hasa.InfeasibleError as error:
            message, named = str(error), set(error.limits)
        if not message:
            assert result.has_solution, (seed, result.message)
            assert result.claim_held
            continue
        infeasible += 1
        assert named <= {row.label for row in problem.limits}
        assert hasa.solve(easier(problem, message), "highs", gap=0.5).has_solution
    assert infeasible >= TIMES
