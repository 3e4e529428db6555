"""Small problems: made by hand, drawn at random, and solved by looking at every allocation."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any, cast

import networkx as nx
import numpy as np
import numpy.typing as npt

from hasa_opt._utils.checks import FloatArray, IntArray
from hasa_opt.clients.clients import Clients
from hasa_opt.problem import cost, utility
from hasa_opt.problem.budgets import SiteBudgets
from hasa_opt.problem.choices import Coverage, Quota
from hasa_opt.problem.groups import CapacityRow, GroupRow, SameRow
from hasa_opt.problem.limits import Constraint, RobustRow
from hasa_opt.problem.problem import AllocationProblem

__all__ = [
    "best_objective",
    "fairest",
    "feasible_choices",
    "knapsack",
    "measured",
    "planted",
    "random_problem",
    "share",
    "sited",
    "tree",
]


def share(numerator: int, denominator: int) -> float:
    """An exact budget: the integer limit is the numerator where all costs are the denominator."""
    return cast("float", Fraction(numerator, denominator))


def knapsack(items: Sequence[tuple[int, float]], room: int, **more: Any) -> AllocationProblem:
    """Client i trains at width 0.5 for nothing, or at width 1 for a cost and a value.

    Parameters
    ----------
    items : sequence of (cost, value)
    room : int
        The budget in the unit of the costs.
    **more : Any
        For :meth:`hasa_opt.AllocationProblem.build`, such as ``constraints``.
    """
    costs = np.array([[0, price] for price, _ in items])
    values = np.array([[0.0, value] for _, value in items])
    return AllocationProblem.build(
        Clients([1] * len(items)),
        widths=(0.5, 1.0),
        budget=share(room, int(costs[:, 1].sum())),
        cost=cost.table(costs),
        utility=utility.measured(values),
        **more,
    )


def measured(
    samples: Sequence[int],
    widths: Sequence[float],
    budget: float,
    table: npt.ArrayLike,
    *,
    max_width: Sequence[float] | None = None,
    constraints: Sequence[Constraint] = (),
) -> AllocationProblem:
    """Cost of the width, utilities ``(n_clients, n_widths)`` from a table."""
    return AllocationProblem.build(
        Clients(samples, max_width=max_width),
        widths=widths,
        budget=budget,
        utility=utility.measured(table),
        constraints=constraints,
    )


def tree() -> nx.DiGraph:
    """A root and two sites."""
    return nx.DiGraph([("world", "north"), ("world", "south")])


def sited(items: Sequence[tuple[int, float]], limits: Mapping[str | int, int]) -> AllocationProblem:
    """A knapsack with room for all; the first half of the clients is in the north."""
    half = len(items) // 2
    plain = knapsack(items, sum(price for price, _ in items))
    return AllocationProblem.build(
        Clients([1] * len(items), site=["north"] * half + ["south"] * half),
        widths=plain.widths,
        budget=1,
        cost=cost.table(plain.costs),
        utility=utility.measured(plain.utilities),
        constraints=[SiteBudgets(tree(), limits)],
    )


def planted(
    n_clients: int, n_widths: int, seed: int, *, quota: bool = False, coverage: bool = False
) -> tuple[AllocationProblem, IntArray]:
    """A problem of any size whose optimum is known, and an allocation that is worth it.

    Utilities are costs, so that no allocation is worth more than the budget; the budget is what a
    random allocation costs. Further limits are met exactly by that allocation.

    Parameters
    ----------
    n_clients, n_widths : int
    seed : int
    quota, coverage : bool
        Whether to limit the clients at the widest width, and the samples at half of it or more.

    Returns
    -------
    problem : AllocationProblem
    choice : (n_clients,) int64
    """
    rng = np.random.default_rng(seed)
    costs = np.cumsum(rng.integers(1, 10**5, (n_clients, n_widths)), axis=1)
    choice = rng.integers(0, n_widths, n_clients)
    spent = int(costs[np.arange(n_clients), choice].sum())
    menu = np.arange(1, n_widths + 1) / n_widths
    constraints: list[Constraint] = []
    if quota:
        constraints.append(Quota({1.0: int((choice == n_widths - 1).sum())}))
    if coverage:
        middle = n_widths // 2
        wide = share(int((choice >= middle).sum()), n_clients)
        constraints.append(Coverage({float(menu[middle]): wide}))
    problem = AllocationProblem.build(
        Clients(np.ones(n_clients, dtype=np.int64)),
        widths=menu,
        budget=share(spent, int(costs[:, -1].sum())),
        cost=cost.table(costs),
        utility=utility.measured(costs.astype(np.float64)),
        constraints=constraints,
    )
    return problem, choice


def random_problem(seed: int) -> AllocationProblem:
    """Up to 7 clients and 5 widths, of any shape of utility, cost, caps and budget.

    Three in ten have a :class:`~hasa_opt.Quota`, three in ten a :class:`~hasa_opt.Coverage`; some
    have no allocation at all.
    """
    rng = np.random.default_rng(seed)
    n_clients, n_widths = int(rng.integers(1, 8)), int(rng.integers(1, 6))
    menu = np.sort(rng.choice(np.arange(1, 21), n_widths, replace=False)) / 20
    shape = (n_clients, n_widths)
    table = _utilities(rng, shape)
    caps = None
    if rng.random() < 0.5:
        caps = np.maximum(menu[0], rng.choice(menu, n_clients))
    samples = rng.integers(1, int(rng.choice([5, 1000])), n_clients)
    family = cost.width()
    if rng.random() < 0.4:
        prices = rng.integers(0, 40, shape)
        family = cost.table(prices, full=int(max(1, prices.max(axis=1).sum())))
    constraints: list[Constraint] = []
    if rng.random() < 0.3:
        constraints.append(Quota({float(menu[-1]): int(rng.integers(0, n_clients + 1))}))
    if rng.random() < 0.3:
        constraints.append(Coverage({float(rng.choice(menu)): float(rng.integers(0, 9)) / 10}))

    loose = AllocationProblem.build(
        Clients(samples, max_width=caps),
        widths=menu,
        budget=10,
        utility=utility.measured(table),
        cost=family,
        constraints=constraints,
    )
    return loose.with_budget(_budget(rng, loose))


def _utilities(rng: np.random.Generator, shape: tuple[int, int]) -> FloatArray:
    kinds = (
        lambda: rng.integers(0, 4, shape).astype(np.float64),  # many ties
        lambda: np.cumsum(np.sort(rng.random(shape))[:, ::-1], axis=1),  # concave
        lambda: rng.normal(size=shape) * 10.0 ** int(rng.integers(-6, 7)),  # any sign and unit
        lambda: np.cumsum(rng.random(shape) ** 4, axis=1),  # increasing, not concave
        lambda: -rng.random(shape),
    )
    return np.asarray(kinds[int(rng.integers(5))]())


def _budget(rng: np.random.Generator, loose: AllocationProblem) -> float:
    """What the cheapest or the dearest allocation costs, one unit less, or something between."""
    least, most = int(loose.cheapest.sum()), loose.dearest
    between = [int(rng.integers(least, most + 1)) for _ in range(3)]
    limits = (least, most, least - 1, *between)
    assert loose.full_cost is not None
    return share(max(1, limits[int(rng.integers(6))]), loose.full_cost)


def feasible_choices(problem: AllocationProblem) -> IntArray:
    """Every allocation within all limits, ``(n_found, n_clients)``, found by trying them all.

    Limits are added up here by themselves: nothing but the problem's tables is used.
    """
    options = [np.flatnonzero(row).tolist() for row in problem.admissible]
    choices = np.array(list(itertools.product(*options)), dtype=np.int64)
    clients = np.arange(choices.shape[1])
    keep = problem.costs[clients, choices].sum(axis=1) <= problem.limit
    for row in problem.rows:
        members = clients if row.members is None else row.members
        own = choices[:, members]
        total = row.coefficients[np.arange(members.size), own].sum(axis=1)
        if isinstance(row, RobustRow):
            worst = np.sort(row.deviation[np.arange(members.size), own], axis=1)
            total = total + worst[:, members.size - row.gamma :].sum(axis=1)
        if isinstance(row, GroupRow):
            total = np.array([_of_groups(row, choice.tolist()) for choice in choices])
        if row.upper is not None:
            keep &= total <= row.upper
        if row.lower is not None:
            keep &= total >= row.lower
    return np.asarray(choices[keep])


def _of_groups(row: GroupRow, choice: list[int]) -> int:
    """What an allocation takes of a limit on groups, client by client."""
    groups: dict[int, list[int]] = {}
    for client, group in enumerate(row.groups.of.tolist()):
        groups.setdefault(group, []).append(client)
    if isinstance(row, CapacityRow):
        return sum(max(int(row.units[choice[at]]) for at in own) for own in groups.values())
    assert isinstance(row, SameRow)
    return sum(
        min(sum(row.follow[at, option] != choice[at] for at in own)
            for option in range(row.follow.shape[1]))
        for own in groups.values()
    )  # fmt: skip


def best_objective(problem: AllocationProblem) -> float | None:
    """Largest sum of utilities among all allocations within the limits; None if there is none."""
    choices = feasible_choices(problem)
    if not choices.size:
        return None
    return float(problem.utilities[np.arange(len(problem)), choices].sum(axis=1).max())


def fairest(problem: AllocationProblem, mode: str) -> FloatArray | None:
    """Utilities of the clients, sorted, under ``Fairness(mode)``; None if there is no allocation.

    For "maxmin" the first of them and their sum are what :class:`hasa_opt.Fairness` fixes.
    """
    choices = feasible_choices(problem)
    if not choices.size:
        return None
    worth = np.sort(problem.utilities[np.arange(len(problem)), choices], axis=1)
    if mode == "maxmin":
        richest = worth[worth[:, 0] == worth[:, 0].max()]
        return np.asarray(richest[richest.sum(axis=1).argmax()])
    return np.asarray(max(worth.tolist()))
