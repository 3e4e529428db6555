"""Problems that are hard for general solvers, misleading for greedy ones, or large."""

from __future__ import annotations

import numpy as np

import hasa_opt as hasa
from hasa_opt import AllocationProblem, Clients, Coverage, Quota, utility
from hasa_opt.testing import problems


def trap(**more) -> AllocationProblem:
    """Optimum 10 at (0, 1, 1); greedy finds 7 at (1, 0, 0); bound of the relaxation 11."""
    return problems.knapsack([(6, 7), (5, 5), (5, 5)], 10, **more)


def hard(n_clients: int = 150, seed: int = 0) -> AllocationProblem:
    """Takes HiGHS about a second, so that a short limit cuts it off."""
    rng = np.random.default_rng(seed)
    samples = rng.integers(1000, 100_000, n_clients)
    menu = np.arange(1, 13) / 12
    table = np.cumsum(rng.random((n_clients, 12)) ** 3, axis=1) * samples[:, None] / 1e4
    return AllocationProblem.build(
        Clients(samples),
        widths=menu,
        budget=0.413,
        utility=hasa.utility.measured(table),
        constraints=[
            Coverage({1.0: 0.2}),
            Quota({menu[5]: n_clients // 10, menu[0]: n_clients // 7, 1.0: n_clients // 4}),
        ],
    )


def stubborn(n_clients: int = 60) -> AllocationProblem:
    """Utility as the sum of three resources: no solver is done with it within minutes."""
    rng = np.random.default_rng(1)
    costs = np.sort(rng.integers(1, 10**5, (n_clients, 4)), axis=1)
    further = [rng.integers(1, 10**5, (n_clients, 4)) for _ in range(2)]
    limit = int(costs.mean() * n_clients)
    return AllocationProblem.build(
        hasa.Clients([1] * n_clients),
        widths=(0.25, 0.5, 0.75, 1.0),
        budget=0.5,
        cost=hasa.cost.table(costs, full=2 * limit),
        utility=hasa.utility.measured((costs + sum(further)).astype(float)),
        constraints=[
            hasa.Budget(table, int(0.9 * table.mean() * n_clients), name=f"resource {at}")
            for at, table in enumerate(further)
        ],
    )


def large(n_clients: int, alike: bool = False, **more) -> AllocationProblem:
    rng = np.random.default_rng(0)
    samples = np.full(n_clients, 100) if alike else rng.integers(10, 1000, n_clients)
    worth = utility.alpha_fair() if alike else utility.hasa(rng.random(n_clients))
    given = {"widths": (0.2, 0.35, 0.5, 0.65, 0.8), "budget": 0.6, "utility": worth} | more
    return AllocationProblem.build(Clients(samples), **given)
