"""Random problems under further limits, and their optima by means of our own."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Any
from zlib import crc32

import networkx as nx
import numpy as np
from scipy.optimize import Bounds, LinearConstraint, OptimizeResult, milp

from hasa_opt import AllocationProblem, Clients, cost, utility
from hasa_opt.problem.budgets import Budget, SiteBudgets
from hasa_opt.problem.choices import Coverage, Fixed, Forbidden, MinWidth, Quota, Switches
from hasa_opt.problem.limits import RobustRow, Row

__all__ = [
    "KINDS",
    "exact_limits",
    "limited_problem",
    "optimum",
    "relaxed",
    "site_tree",
    "tolerance",
]

_COMBINATIONS = 150_000
_ANY = 2**62
_MIX = ("budget", "sites", "coverage", "quota", "switches")
KINDS = ("budget", "budgets", "sites", "coverage", "coverages", "quota", "switches",
         "budgets and sites", "mix")  # fmt: skip


class Draft:
    """A problem in the making, with an allocation that most of its limits admit."""

    def __init__(self, rng: np.random.Generator, n_clients: int, n_widths: int) -> None:
        self.rng, self.shape = rng, (n_clients, n_widths)
        self.menu = np.sort(rng.choice(np.arange(1, 21), n_widths, replace=False)) / 20
        self.samples = rng.integers(1, int(rng.choice([2, 30, 1000])), n_clients)
        self.caps = None
        if rng.random() < 0.3:
            self.caps = np.maximum(self.menu[0], rng.choice(self.menu, n_clients))
        self.masks = [*self._masks()] if rng.random() < 0.3 else []
        self.parents = site_tree(rng, int(rng.integers(1, 9)))
        self.sites = [f"s{site}" for site in rng.integers(0, len(self.parents), n_clients)]
        self.table = _utilities(rng, self.shape, self.menu)
        self.costs = self._costs()
        self.allowed = self._built([], 1000).admissible
        self.witness = np.where(self.allowed, rng.random(self.shape), -1).argmax(axis=1)
        self.rows = np.arange(n_clients)

    def _masks(self) -> list[Any]:
        """Masks that leave every client its narrowest width."""
        rng, (n_clients, n_widths) = self.rng, self.shape
        client = int(rng.integers(n_clients))
        yield Fixed({client: float(self.menu[0])})
        if n_widths > 1 and n_clients > 1:
            other = (client + 1) % n_clients
            yield Forbidden({other: [float(self.menu[-1])]})
            if self.caps is None and n_clients > 2:
                least = np.full(n_clients, self.menu[0])
                least[(client + 2) % n_clients] = self.menu[1]
                yield MinWidth(least)

    def _costs(self) -> np.ndarray | None:
        """None for the width cost, else a table: with zeros, not monotone, or alike."""
        rng = self.rng
        kind = int(rng.integers(4))
        if kind == 0:
            return None
        if kind == 1:
            return rng.integers(0, 40, self.shape)
        if kind == 2:
            return np.sort(rng.integers(0, 1000, self.shape), axis=1)
        return np.broadcast_to(np.sort(rng.integers(0, 5, self.shape[1])), self.shape).copy()

    def _built(self, constraints: list[Any], budget: Any) -> AllocationProblem:
        full = None if self.costs is None else max(1, int(self.costs.max(axis=1).sum()))
        return AllocationProblem.build(
            Clients(self.samples, max_width=self.caps, site=self.sites),
            widths=self.menu,
            budget=budget,
            utility=utility.measured(self.table),
            cost=cost.width() if self.costs is None else cost.table(self.costs, full=full),
            constraints=[*self.masks, *constraints],
        )

    def limit(self, table: np.ndarray, members: np.ndarray | None = None) -> int:
        """A limit that is met exactly, loose, close, 0 or anything."""
        rng = self.rng
        own = self.rows if members is None else members
        most = int(table[own].max(axis=1, initial=0).sum())
        met = int(table[own, self.witness[own]].sum())
        kind = rng.random()
        if kind < 0.3:
            return met
        if kind < 0.75:
            return met + int(rng.integers(0, max(2, (most - met) // 3 + 1)))
        if kind < 0.85:
            return most + 1
        return 0 if kind < 0.87 else int(rng.integers(0, most + 1))

    def finished(self, kind: str) -> AllocationProblem:
        """The problem, under constraints of a kind."""
        rng = self.rng
        kinds = {"budgets and sites": ("budgets", "sites")}.get(kind, (kind,))
        if kind == "mix":
            kinds = tuple(rng.choice(_MIX, int(rng.integers(2, 6)), replace=False))
        constraints = [item for own in kinds for item in getattr(self, f"_{own}")()]
        loose = self._built([], 1000)
        limit = max(1, self.limit(loose.costs))
        return self._built(constraints, Fraction(limit, loose.full_cost))

    def _budget(self) -> list[Any]:
        rng = self.rng
        largest = int(rng.choice([3, 50, 10**6]))
        table = rng.integers(0, largest, self.shape if rng.random() < 0.7 else self.shape[1:])
        return [Budget(table, self.limit(np.broadcast_to(table, self.shape)))]

    def _budgets(self) -> list[Any]:
        return [item for _ in range(int(self.rng.integers(2, 5))) for item in self._budget()]

    def _sites(self) -> list[Any]:
        tree = nx.DiGraph()
        tree.add_node("s0")
        tree.add_edges_from((f"s{up}", f"s{at}") for at, up in enumerate(self.parents) if at)
        costs = self._built([], 1000).costs
        limits = {}
        for site in range(len(self.parents)):
            if self.rng.random() < 0.75:
                below = _below(self.parents, site)
                members = np.flatnonzero([int(own[1:]) in below for own in self.sites])
                limits[f"s{site}"] = self.limit(costs, members)
        return [SiteBudgets(tree, limits)]

    def _coverage(self) -> list[Any]:
        rng = self.rng
        at = int(rng.integers(self.shape[1]))
        met = int(self.samples[self.witness >= at].sum())
        wanted = met if rng.random() < 0.6 else int(rng.integers(0, met + 1))
        if rng.random() < 0.05:
            wanted = int(self.samples.sum())
        return [Coverage({float(self.menu[at]): Fraction(wanted, int(self.samples.sum()))})]

    def _coverages(self) -> list[Any]:
        return [item for _ in range(int(self.rng.integers(2, 4))) for item in self._coverage()]

    def _quota(self) -> list[Any]:
        at = self.rng.choice(self.shape[1], int(self.rng.integers(1, self.shape[1] + 1)), False)
        counts = {}
        for width in at:
            met = int((self.witness == width).sum())
            counts[float(self.menu[width])] = met + int(self.rng.integers(-1, 3) > 1)
        return [Quota(counts)]

    def _switches(self) -> list[Any]:
        rng = self.rng
        before = self.menu[np.where(rng.random(self.shape[0]) < 0.6, self.witness,
                                    rng.integers(0, self.shape[1], self.shape[0]))]  # fmt: skip
        if rng.random() < 0.2:
            before[int(rng.integers(before.size))] = 0.001
        changes = int((np.abs(before - self.menu[self.witness]) > 1e-9).sum())
        return [Switches(before, max(0, changes + int(rng.integers(-1, 3))))]


def site_tree(rng: np.random.Generator, n_sites: int) -> list[int]:
    """Parent of each site; chains and stars among them. The root is its own."""
    deep = rng.random() < 0.4
    return [
        max(0, site - 1) if deep else int(rng.integers(max(1, site))) for site in range(n_sites)
    ]


def _below(parents: list[int], site: int) -> set[int]:
    inside = {site}
    for at, up in enumerate(parents):
        if up in inside:
            inside.add(at)
    return inside


def _utilities(rng: np.random.Generator, shape: tuple[int, int], menu: np.ndarray) -> np.ndarray:
    kinds = {
        0: lambda: rng.random((shape[0], 1)) * np.log(menu),
        1: lambda: np.cumsum(
            np.sort(rng.random(shape))[:, ::-1] + rng.normal(0, 0.05, shape), axis=1
        ),
        2: lambda: rng.normal(size=shape),
        3: lambda: rng.integers(0, 3, shape).astype(float),
        4: lambda: -rng.random(shape) * rng.choice([1, 50], (shape[0], 1)),
        5: lambda: rng.random(shape) * 10.0 ** rng.uniform(-9, 9),
    }
    return kinds[int(rng.integers(6))]()


def limited_problem(
    kind: str, seed: int, n_clients: tuple[int, int] = (1, 12), n_widths: tuple[int, int] = (1, 5)
) -> AllocationProblem:
    """A random problem under constraints of a kind, reproducible by its seed."""
    rng = np.random.default_rng([crc32(kind.encode()), seed])
    low, high = n_clients
    clients = low + int((high - low + 1) * rng.random() ** 1.5)
    widths = int(rng.integers(n_widths[0], n_widths[1] + 1))
    return Draft(rng, clients, widths).finished(kind)


def exact_limits(seed: int, bits: int, robust: bool = False) -> AllocationProblem:
    """A few clients under rows of either side or both, met exactly by some allocation."""
    rng = np.random.default_rng([seed, bits])
    n_clients, n_widths = int(rng.integers(2, 7)), int(rng.integers(2, 5))
    shape, at = (n_clients, n_widths), np.arange(n_clients)
    costs, more, third = rng.integers(0, 2**bits // n_clients, (3, *shape))
    met = rng.integers(0, n_widths, n_clients)
    totals = [int(table[at, met].sum()) for table in (costs, more, third)]
    rows: list[Row] = [
        Row("both", more, lower=totals[1] - int(rng.integers(0, 2**bits)), upper=totals[1]),
        Row("lower", third, lower=totals[2]),
    ]
    if robust:
        worst = rng.integers(0, 2**bits // n_clients, shape)
        gamma = int(rng.integers(0, n_clients))
        row = RobustRow("robust", costs, gamma=gamma, deviation=worst)
        rows = [replace(row, upper=row.total(met) + int(rng.integers(1, 2**bits)))]
        totals[0] = rows[0].upper
    plain = AllocationProblem.build(
        Clients(np.ones(n_clients, dtype=int)),
        widths=np.arange(1, n_widths + 1) / n_widths,
        utility=utility.measured(rng.random(shape)),
        cost=cost.table(costs, full=max(1, int(costs.max(axis=1).sum()))),
        budget=1,
    )
    return replace(plain, limit=totals[0], rows=tuple(rows))


def tolerance(problem: AllocationProblem) -> float:
    """Differences in utility that rounding explains."""
    return 2e-9 * problem.span + 1e-12 * problem.magnitude


def optimum(problem: AllocationProblem) -> float | None:
    """Best objective, without the library's models; None if infeasible."""
    sizes = problem.admissible.sum(axis=1).astype(float)
    return _enumerated(problem) if sizes.prod() <= _COMBINATIONS else _by_milp(problem)


def _limits(problem: AllocationProblem) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Every limit as ``lower <= sum of entries <= upper`` over full tables."""
    tables, lower, upper = [problem.costs], [-_ANY], [problem.limit]
    for row in problem.rows:
        table = np.zeros(problem.costs.shape, dtype=np.int64)
        table[slice(None) if row.members is None else row.members] = row.coefficients
        tables.append(table)
        lower.append(-_ANY if row.lower is None else row.lower)
        upper.append(_ANY if row.upper is None else row.upper)
    return np.stack(tables), np.array(lower), np.array(upper)


def _enumerated(problem: AllocationProblem) -> float | None:
    """Sums of all allocations, client by client."""
    tables, lower, upper = _limits(problem)
    total, worth = np.zeros((len(tables), 1), dtype=np.int64), np.zeros(1)
    for client, allowed in enumerate(problem.admissible):
        own = tables[:, client, allowed]
        total = (total[:, :, None] + own[:, None, :]).reshape(len(tables), -1)
        worth = (worth[:, None] + problem.utilities[client, allowed]).ravel()
    within = ((total >= lower[:, None]) & (total <= upper[:, None])).all(axis=0)
    return float(worth[within].max()) if within.any() else None


def relaxed(problem: AllocationProblem) -> float | None:
    """Optimum of the linear relaxation, by scipy; None if infeasible."""
    found = _scipy(problem, integral=False)
    if found.status == 2:
        return None
    assert found.status == 0, found.message
    return float(problem.ceiling - _unit(problem) * found.fun)


def _by_milp(problem: AllocationProblem) -> float | None:
    """Branch and bound of scipy over one column per admissible pair."""
    found = _scipy(problem, integral=True)
    if found.status == 2:
        return None
    assert found.status == 0, found.message
    return float(problem.utilities[problem.admissible][found.x > 0.5].sum())


def _unit(problem: AllocationProblem) -> float:
    return float(np.ptp(problem.utilities[problem.admissible])) or 1.0


def _scipy(problem: AllocationProblem, integral: bool) -> OptimizeResult:
    """Least loss against the best widths, in units of the utilities' range."""
    tables, lower, upper = _limits(problem)
    client, width = np.nonzero(problem.admissible)
    best = np.where(problem.admissible, problem.utilities, -np.inf).max(axis=1)
    loss = (best[client] - problem.utilities[client, width]) / _unit(problem)
    one_each = (client == np.arange(len(problem))[:, None]).astype(float)
    rows = np.vstack([one_each, tables[:, client, width].astype(float)])
    ones = np.ones(len(problem))
    low = np.where(lower == -_ANY, -np.inf, lower)
    high = np.where(upper == _ANY, np.inf, upper)
    return milp(
        loss,
        integrality=np.full(client.size, int(integral)),
        bounds=Bounds(0, 1),
        constraints=LinearConstraint(rows, np.append(ones, low), np.append(ones, high)),
        options={"mip_rel_gap": 0},
    )
