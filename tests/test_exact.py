"""The exact solver against an independent integer dynamic program, and at its edges."""

import numpy as np
import pytest

import hasa_opt as hasa
from hasa_opt.backend import Request
from hasa_opt.problem import AllocationProblem
from hasa_opt.result import Termination

pytest.importorskip("numba")

from hasa_opt.solvers.exact import ExactBackend

KINDS = ("log", "saturating", "measured", "negative", "ties", "correlated")


def problem_of(costs, utilities, limit, admissible=None):
    """A problem from bare arrays, without the checks of ``build``."""
    costs = np.asarray(costs, dtype=np.int64)
    utilities = np.asarray(utilities, dtype=np.float64)
    n_clients, n_widths = costs.shape
    if admissible is None:
        admissible = np.ones(costs.shape, dtype=bool)
    full = max(1, int(costs.max(axis=1).sum()))
    return AllocationProblem(
        hasa.Clients(np.ones(n_clients, dtype=np.int64)),
        np.arange(1, n_widths + 1) / n_widths,
        costs,
        utilities,
        admissible,
        budget=limit / full,
        limit=int(limit),
        full_cost=full,
    )


def best_by_budget(problem):
    """Optimum by the textbook recursion over every integer budget (float64 additions only)."""
    best = np.zeros(problem.limit + 1)
    for row in range(len(problem)):
        nxt = np.full(problem.limit + 1, -np.inf)
        for k in np.flatnonzero(problem.admissible[row]):
            cost = int(problem.costs[row, k])
            if cost <= problem.limit:
                shifted = best[: problem.limit + 1 - cost] + problem.utilities[row, k]
                nxt[cost:] = np.maximum(nxt[cost:], shifted)
        best = nxt
    return float(best[-1])


def random_problem(rng, kind):
    n, m = int(rng.integers(1, 41)), int(rng.integers(1, 17))
    menu = np.sort(rng.choice(np.arange(1, 30), m, replace=False))
    size = rng.integers(1, 9, n)
    costs = size[:, None] * menu[None, :]
    weight = rng.random(n)[:, None]
    if kind == "log":
        utilities = weight * np.log(menu / 30)
    elif kind == "saturating":
        utilities = weight * -np.expm1(-menu / rng.uniform(2, 20))
    elif kind == "measured":
        utilities = rng.random((n, m))
        costs = rng.integers(0, 60, (n, m))
    elif kind == "negative":
        utilities = -rng.random((n, m)) * rng.choice([1, 100], (n, 1))
    elif kind == "ties":
        utilities = rng.integers(-3, 4, (n, m)).astype(float)
        costs = rng.integers(0, 12, (n, m)) * rng.choice([1, 4])
    else:
        utilities = costs + rng.choice([0, 5, 10]) * np.ones((n, m))
        if rng.random() < 0.5:
            costs[:, 0] = 0
            utilities[:, 0] = 0
    if rng.random() < 0.3:
        copies = rng.integers(0, max(1, n // 4), n)
        costs, utilities = costs[copies], utilities[copies]
    admissible = rng.random((n, m)) < rng.choice([0.4, 0.8, 1.0])
    admissible[np.arange(n), rng.integers(0, m, n)] = True
    least = int(np.where(admissible, costs, 1 << 40).min(axis=1).sum())
    most = int(np.where(admissible, costs, 0).max(axis=1).sum())
    share = rng.choice([0, rng.random() ** 3, rng.random(), 1, 1.2])
    utilities = utilities * 10.0 ** float(rng.choice([-12, -6, 0, 0, 0, 6, 12]))
    return problem_of(costs, utilities, least + int(share * (most - least)), admissible)


def solved(problem, **limits):
    return ExactBackend().solve(problem, Request(problem, **limits))


def check(problem, answer, optimum):
    found = problem.evaluate(answer.choice)
    assert found.feasible, found.violations
    room = 1e-12 * problem.magnitude
    assert answer.termination is Termination.OPTIMAL
    assert abs(found.objective - optimum) <= room
    assert abs(answer.objective - found.objective) <= room
    assert answer.bound >= optimum - room
    assert answer.bound <= optimum + room


@pytest.mark.parametrize("kind", KINDS)
def test_random_instances_against_the_integer_recursion(kind):
    rng = np.random.default_rng(KINDS.index(kind))
    for _ in range(170):
        problem = random_problem(rng, kind)
        check(problem, solved(problem), best_by_budget(problem))
