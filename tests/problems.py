"""Known-answer problems, small enough to check by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from math import log

import numpy as np

from hasa_opt import AllocationProblem, Clients, Coverage, Quota, cost, utility


@dataclass(frozen=True)
class Known:
    """A problem with its optimum, or with the labels of the limits that conflict."""

    name: str
    build: Callable[[], AllocationProblem]
    objective: float | None = None
    choice: tuple[int, ...] | None = None
    conflict: tuple[str, ...] = ()


def knapsack(items: list[tuple[int, float]], room: int, **more: object) -> AllocationProblem:
    """Client i trains at width 0.5 for nothing, or at width 1 for a cost and a value."""
    costs = np.array([[0, price] for price, _ in items])
    values = np.array([[0.0, value] for _, value in items])
    full = int(costs[:, 1].sum())
    return AllocationProblem.build(
        Clients([1] * len(items)),
        widths=(0.5, 1.0),
        budget=share(room, full),
        cost=cost.table(costs),
        utility=utility.measured(values),
        **more,
    )


def share(numerator: int, denominator: int) -> Fraction:
    """An exact budget, so that the integer limit is the numerator."""
    return Fraction(numerator, denominator)


def measured(
    samples: list[int], widths: tuple[float, ...], budget: float, table: list[list[float]], **more
) -> AllocationProblem:
    """Width cost, utilities from a table."""
    max_width = more.pop("max_width", None)
    return AllocationProblem.build(
        Clients(samples, max_width=max_width),
        widths=widths,
        budget=budget,
        utility=utility.measured(table),
        **more,
    )


CATALOGUE = (
    Known("one client, one width", lambda: measured([3], (1.0,), 1, [[7.0]]), 7.0, (0,)),
    Known(
        "everything fits",
        lambda: measured([1, 2], (0.5, 1.0), 1, [[1, 2], [3, 5]]),
        7.0,
        (1, 1),
    ),
    Known(
        "only the narrowest fits",
        lambda: measured([1, 2], (0.5, 1.0), 0.5, [[1, 2], [3, 5]]),
        4.0,
        (0, 0),
    ),
    # By value per cost, (6, 7) comes first and leaves room 4 for nothing: 7 instead of 10.
    Known(
        "greedy trap",
        lambda: knapsack([(6, 7), (5, 5), (5, 5)], 10),
        10.0,
        (0, 1, 1),
    ),
    # The budget pays for one wide client; the one that gains more may not.
    Known(
        "a device cap binds",
        lambda: measured([1, 1], (0.5, 1.0), 0.75, [[0, 9], [0, 1]], max_width=[0.7, 1.0]),
        1.0,
        (0, 1),
    ),
    # The middle width lies under the hull. Limit 4 of 6: (3, 1) is worth 10, (2, 2) only 2.
    Known(
        "not concave",
        lambda: AllocationProblem.build(
            Clients([1, 1]),
            widths=(0.2, 0.5, 1.0),
            budget=share(4, 6),
            cost=cost.table([1, 2, 3]),
            utility=utility.measured([[0, 1, 10], [0, 1, 10]]),
        ),
        10.0,
    ),
    Known(
        "all alike",
        lambda: measured([3, 4, 5], (0.25, 0.5, 1.0), 0.6, [[0.0] * 3] * 3),
        0.0,
    ),
    Known(
        "wider is worse",
        lambda: measured([1, 1], (0.25, 0.5, 1.0), 1, [[-1, -2, -3], [5, 3, 1]]),
        4.0,
        (0, 0),
    ),
    # (0.5, 0.5, 0.5) has product 1/8, every other triple of mean 0.5 has less (3/32).
    Known(
        "equal clients share equally",
        lambda: AllocationProblem.build(
            Clients([7, 7, 7]),
            widths=(0.25, 0.5, 0.75),
            budget=0.5,
            utility=utility.alpha_fair(),
        ),
        log(0.5),
        (1, 1, 1),
    ),
    # In floating point 0.1 + 0.2 > 0.3, and the client would be left at 0.1.
    Known(
        "float noise in the menu",
        lambda: measured([10], (0.1, 0.1 + 0.2), 0.3, [[0, 1]]),
        1.0,
        (1,),
    ),
    # Quadratic costs 1 and 4 of 8; floor(0.625 x 8) = 5 pays for one wide client.
    Known(
        "quadratic cost",
        lambda: AllocationProblem.build(
            Clients([1, 1]),
            widths=(0.5, 1.0),
            budget=0.625,
            cost=cost.quadratic(),
            utility=utility.measured([[0, 1], [0, 2]]),
        ),
        2.0,
        (0, 1),
    ),
    # The second item is worth more and costs one unit too much.
    Known(
        "one unit decides",
        lambda: knapsack([(10**8, 1), (10**8 + 1, 2)], 10**8),
        1.0,
        (1, 0),
    ),
    # Left alone, (0.5, 1) is worth 6. Coverage makes the first client wide.
    Known(
        "coverage",
        lambda: measured(
            [3, 1], (0.5, 1.0), 1, [[5, 0], [0, 1]], constraints=[Coverage({1.0: 0.75})]
        ),
        1.0,
        (1, 1),
    ),
    Known(
        "quota",
        lambda: measured(
            [1, 1, 1], (0.5, 1.0), 1, [[0, 3], [0, 2], [0, 1]], constraints=[Quota({1.0: 2})]
        ),
        5.0,
        (1, 1, 0),
    ),
    Known(
        "quota of zero",
        lambda: measured([1, 1], (0.5, 1.0), 1, [[0, 3], [0, 2]], constraints=[Quota({0.5: 0})]),
        5.0,
        (1, 1),
    ),
    Known(
        "budget below the narrowest",
        lambda: measured([1, 1], (0.5, 1.0), 0.4, [[0, 1], [0, 1]]),
        conflict=("budget",),
    ),
    # Coverage needs 9 of 10 samples wide: costs at least 9 + 0.5, more than 8.
    Known(
        "budget against coverage",
        lambda: measured(
            [9, 1], (0.5, 1.0), 0.8, [[0, 1], [0, 1]], constraints=[Coverage({1.0: 0.9})]
        ),
        conflict=("budget", "Coverage: 0.9 of the samples at width 1.0 or wider"),
    ),
    # One wide client covers at most 1/2 of the samples; the quota at 0.25 has no part in it.
    Known(
        "coverage against quota",
        lambda: measured(
            [10, 20, 30],
            (0.25, 0.5, 1.0),
            1,
            [[0, 1, 2]] * 3,
            constraints=[Coverage({1.0: 0.6}), Quota({1.0: 1, 0.25: 2})],
        ),
        conflict=(
            "Coverage: 0.6 of the samples at width 1.0 or wider",
            "Quota: at most 1 clients at width 1.0",
        ),
    ),
    # Three quotas of one for four clients at three widths; none of them can be spared.
    Known(
        "three quotas for four clients",
        lambda: measured(
            [1] * 4,
            (0.25, 0.5, 1.0),
            1,
            [[0, 1, 2]] * 4,
            constraints=[Quota({0.25: 1, 0.5: 1, 1.0: 1})],
        ),
        conflict=tuple(f"Quota: at most 1 clients at width {width}" for width in (0.25, 0.5, 1.0)),
    ),
)
SOLVABLE = tuple(known for known in CATALOGUE if not known.conflict)
INFEASIBLE = tuple(known for known in CATALOGUE if known.conflict)


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
