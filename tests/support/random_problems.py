"""Small random problems of any shape, reproducible by their seed."""

from __future__ import annotations

import numpy as np

from hasa_opt import AllocationProblem, Clients, Coverage, Quota, cost, utility
from support.problems import share

__all__ = ["random_problem"]


def random_problem(seed: int) -> AllocationProblem | None:
    """Up to 7 clients x 5 widths, of any shape of utility, cost, caps and budget."""
    rng = np.random.default_rng(seed)
    n_clients, n_widths = int(rng.integers(1, 8)), int(rng.integers(1, 6))
    menu = np.sort(rng.choice(np.arange(1, 21), n_widths, replace=False)) / 20
    shape = (n_clients, n_widths)
    table = {
        0: lambda: rng.integers(0, 4, shape).astype(float),  # many ties
        1: lambda: np.cumsum(np.sort(rng.random(shape))[:, ::-1], axis=1),  # concave
        2: lambda: rng.normal(size=shape) * 10.0 ** int(rng.integers(-6, 7)),  # any sign and unit
        3: lambda: np.cumsum(rng.random(shape) ** 4, axis=1),  # increasing, not concave
        4: lambda: -rng.random(shape),
    }[int(rng.integers(5))]()
    caps = None
    if rng.random() < 0.5:
        caps = np.maximum(menu[0], rng.choice(menu, n_clients))
    samples = rng.integers(1, int(rng.choice([5, 1000])), n_clients)
    family = cost.width()
    if rng.random() < 0.4:
        prices = rng.integers(0, 40, shape)
        family = cost.table(prices, full=int(max(1, prices.max(axis=1).sum())))
    constraints = []
    if rng.random() < 0.3:
        constraints.append(Quota({float(menu[-1]): int(rng.integers(0, n_clients + 1))}))
    if rng.random() < 0.3:
        constraints.append(Coverage({float(rng.choice(menu)): float(rng.integers(0, 9)) / 10}))

    def build(budget: object) -> AllocationProblem:
        return AllocationProblem.build(
            Clients(samples, max_width=caps),
            widths=menu,
            budget=budget,
            utility=utility.measured(table),
            cost=family,
            constraints=constraints,
        )

    loose = build(10)
    least = int(loose.cheapest.sum())
    most = int(np.where(loose.admissible, loose.costs, 0).max(axis=1).sum())
    limit = {
        0: least,
        1: most,
        2: max(1, least - 1),
        3: int(rng.integers(least, most + 1)),
        4: int(rng.integers(least, most + 1)),
        5: int(rng.integers(least, most + 1)),
    }[int(rng.integers(6))]
    return build(share(max(1, limit), loose.full_cost))
