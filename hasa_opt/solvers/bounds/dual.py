"""Prices of all limits together, and the bound that they prove.

Each limit gets a price per unit; every client then has a best width of its own, whatever the
others do. What these widths are worth, with the prices paid, is an upper bound on every
allocation within the limits (Lagrangian relaxation; Fisher, The Lagrangian Relaxation Method,
Management Science 27, 1981): true for any prices, best for those of the linear relaxation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import inf

import numpy as np
import numpy.typing as npt

from hasa_opt._utils.checks import FloatArray, IntArray
from hasa_opt._utils.deadline import UNLIMITED, Deadline
from hasa_opt.clients.clients import Clients
from hasa_opt.problem.limits import RobustRow, Row
from hasa_opt.problem.linear import LinearModel
from hasa_opt.problem.problem import AllocationProblem
from hasa_opt.solvers.bounds.feasibility import impossible
from hasa_opt.solvers.bounds.programs import Unsolved, Vertex, linear_program
from hasa_opt.solvers.bounds.relaxation import Relaxation, relax
from hasa_opt.solvers.bounds.site_tree import SiteTree

__all__ = ["Dual", "Prices", "best_prices", "nearest", "priced", "promising"]

_DIRECT, _DIRECT_MANY, _MANY_LIMITS = 300, 3_000, 100
"""Clients up to which HiGHS is given the whole relaxation, and those where limits are so many or
one is robust; beyond, the boxstep method is faster."""
_SAMPLE, _LEAST_SAMPLE, _SAMPLED = 2_000, 100, 10
"""Clients from which the first prices are estimated, at most and at least, and of how many one."""
_CORE, _PER_CORE = 10_000, 5
"""Widths beside each client's best that one round of the boxstep method may choose from, at most,
and for how many clients there is one."""
_BOX, _FAR = 0.02, 1e4
"""Reach of a box relative to its prices: near those of a sample, and so far that it never binds."""
_ROUNDS = 20
"""Rounds of the boxstep method; the bound of every round holds, so that it may stop at any."""
_EDGE = 1e-6
"""Share of a box at its ends that counts as the end: what HiGHS rounds by default is 1e-7."""


@dataclass(frozen=True, eq=False)
class Prices:
    """What one unit of each limit is worth.

    Attributes
    ----------
    limits : (n_limits,) float64
        In the order of ``problem.limits``; at least 0 for an upper limit, at most 0 for a lower.
    exposure : (n_clients,) float64 or None
        Share of its deviation that each client is charged for, within [0, 1] and in sum at most
        ``gamma``; None without a robust limit.
    """

    limits: FloatArray
    exposure: FloatArray | None = None


@dataclass(frozen=True, eq=False)
class Dual:
    """Every client's best width at some prices.

    Attributes
    ----------
    prices : Prices
    bound : float
        No allocation within the limits is worth more.
    regret : (n_clients, n_widths) float64
        What each width loses against the client's best, all prices paid; infinite where
        inadmissible.
    start : (n_clients,) int64
        The linear relaxation's widths, rounded: near the limits, and perhaps beyond some.
    """

    prices: Prices
    bound: float
    regret: FloatArray
    start: IntArray


def best_prices(
    problem: AllocationProblem,
    tree: SiteTree | None = None,
    deadline: Deadline = UNLIMITED,
    relaxation: Callable[[], Relaxation] | None = None,
) -> Dual | None:
    """Optimal prices of the linear relaxation; None if it is infeasible.

    The budget alone and nested site budgets alone: by the order of slopes. Up to some hundred
    clients, or thousand under many limits: by HiGHS. Beyond: by HiGHS on a sample, then on those
    clients whose width is open near the prices found, until these prove the bound (the boxstep
    method). With a robust limit and as many clients, or where HiGHS is out of time: the price of
    the budget alone.

    Parameters
    ----------
    problem : AllocationProblem
    tree : SiteTree, optional
        Its limits, if they are nested site budgets alone.
    deadline : Deadline
        When to stop with the best bound in hand.
    relaxation : callable, optional
        What gives that of the budget alone, if it is asked for elsewhere too.

    Raises
    ------
    OutOfTime
        If there is none in hand by then.
    """
    deadline.check()
    robust = any(isinstance(row, RobustRow) for row in problem.rows)
    if tree is not None:
        return priced(problem, Prices(tree.prices), tree.start) if tree.feasible else None
    many = robust or len(problem.limits) > _MANY_LIMITS
    whole = len(problem) <= (_DIRECT_MANY if many else _DIRECT)
    if problem.rows and (whole or not robust):
        try:
            return (_direct if whole else _boxstep)(problem, deadline)
        except Unsolved:
            pass
    found = relax(problem, deadline) if relaxation is None else relaxation()
    prices = np.zeros(len(problem.limits))
    prices[0] = found.price
    return priced(problem, Prices(prices), found.choice)


def _direct(problem: AllocationProblem, deadline: Deadline) -> Dual | None:
    model = LinearModel.relaxation(problem)
    vertex = linear_program(model, time_limit_s=deadline.remaining_s)
    return None if vertex is None else _of_vertex(problem, model, vertex)


def priced(problem: AllocationProblem, prices: Prices, start: IntArray | None = None) -> Dual:
    """Bound and regrets at given prices; any prices of the right sign give a bound."""
    net = np.where(problem.admissible, problem.utilities, -inf)
    constant = 0.0
    for row, price in zip(problem.limits, prices.limits, strict=True):
        limit = row.upper if price > 0 else row.lower
        if price == 0 or limit is None:
            continue
        allowed, least = problem.admissible[row.at], row.least(problem.admissible)
        net[row.at] -= price * np.where(allowed, _charged(row, prices) - least[:, None], 0)
        constant += price * (limit - int(least.sum()))
    best = net.max(axis=1)
    start = net.argmax(axis=1) if start is None else start
    return Dual(prices, float(best.sum()) + constant, best[:, None] - net, start)


def _charged(row: Row, prices: Prices) -> IntArray | FloatArray:
    """Coefficients of a row, with the charged share of the deviations."""
    if not isinstance(row, RobustRow) or prices.exposure is None:
        return row.coefficients
    return row.coefficients + prices.exposure[:, None] * row.deviation


def _of_vertex(problem: AllocationProblem, model: LinearModel, vertex: Vertex) -> Dual:
    limits = np.array(
        [
            min(price, 0.0) if row.upper is None else max(price, 0.0)
            for row, price in zip(problem.limits, vertex.prices, strict=True)
        ]
    )
    prices = Prices(limits, _exposure(problem, limits, vertex.links))
    return priced(problem, prices, model.choice(vertex.x))


def _exposure(
    problem: AllocationProblem, prices: FloatArray, links: FloatArray
) -> FloatArray | None:
    """Charged shares of the first robust limit, from the prices of the rows of its columns."""
    for row, price in zip(problem.limits, prices, strict=True):
        if isinstance(row, RobustRow) and price > 0:
            shares = np.clip(links[: len(problem)] / price, 0.0, 1.0)
            return np.asarray(shares * min(1.0, row.gamma / max(float(shares.sum()), 1e-300)))
    return None


def _boxstep(problem: AllocationProblem, deadline: Deadline) -> Dual | None:
    """Prices of many clients: a sample's first, then moved within boxes until they are best."""
    sample = _sample(problem)
    model = LinearModel.relaxation(sample)
    wide = _box(sample, np.zeros(len(sample.limits)), _FAR)
    vertex = linear_program(model, wide, time_limit_s=deadline.remaining_s)
    if vertex is None:
        return None
    best = priced(problem, _of_vertex(sample, model, vertex).prices)
    likely = _inside(best, wide)
    if not likely and impossible(problem, deadline):
        return None
    reach = _BOX if likely else 1.0
    size = len(problem) + min(_CORE, len(problem) // _PER_CORE)
    kept = nearest(best.regret, size)
    for _ in range(_ROUNDS):
        if deadline.remaining_s == 0:
            break
        box = _box(problem, best.prices.limits, reach)
        model = LinearModel.relaxation(problem, kept)
        try:
            vertex = linear_program(model, box, time_limit_s=deadline.remaining_s)
        except Unsolved:
            break
        if vertex is None:
            break
        found = _of_vertex(problem, model, vertex)
        closed = not ((found.regret == 0) & ~kept).any()
        better = found.bound < best.bound
        best = found if better else replace(best, start=found.start)
        if closed and _inside(found, box):
            break
        reach *= 4 if closed else 1
        kept |= nearest(found.regret, size)
    return best


def _inside(found: Dual, box: tuple[FloatArray, FloatArray]) -> bool:
    """Whether no price is at an end of its box, other than 0."""
    low, high = box
    at, edge = found.prices.limits, _EDGE * (high - low)
    return bool((((at > low + edge) | (low == 0)) & ((at < high - edge) | (high == 0))).all())


def _box(
    problem: AllocationProblem, centre: FloatArray, reach: float
) -> tuple[FloatArray, FloatArray]:
    """Lowest and highest prices around a centre, ``(n_limits,)`` each."""
    unit = np.array([_typical(problem, row) for row in problem.limits])
    far = reach * np.maximum(np.abs(centre), unit)
    upper = np.array([row.upper is not None for row in problem.limits])
    low, high = centre - far, centre + far
    return np.where(upper, np.maximum(low, 0), low), np.where(upper, high, np.minimum(high, 0))


def _typical(problem: AllocationProblem, row: Row) -> float:
    """Utility per unit of a limit, if all of its range bought all of the utility's."""
    spread = float((row.coefficients.max(axis=1) - row.coefficients.min(axis=1)).sum())
    return problem.span / max(spread, 1.0)


def promising(problem: AllocationProblem, dual: Dual, choice: IntArray) -> npt.NDArray[np.bool_]:
    """Mark the columns whose regret is within the gap of a feasible allocation.

    An allocation with any other column is worth less than this one (Kellerer, Pferschy and
    Pisinger, Knapsack Problems, 2004, section 11.2).
    """
    gap = dual.bound - problem.evaluate(choice).objective
    rounding = 1e-9 * abs(dual.bound) + 1e-12 * problem.magnitude
    kept = dual.regret <= max(gap, 0.0) + rounding
    kept[np.arange(len(problem)), choice] = True
    return np.asarray(kept)


def nearest(regret: FloatArray, n_columns: int) -> npt.NDArray[np.bool_]:
    """Mark every client's best width and so many that lose least, ``(n_clients, n_widths)``."""
    size = min(n_columns, regret.size - 1)
    least = np.argpartition(regret, size, axis=None)[:size]
    kept = np.zeros(regret.shape, dtype=bool)
    kept.reshape(-1)[least] = True
    kept[np.arange(regret.shape[0]), regret.argmin(axis=1)] = True
    return kept & np.isfinite(regret)


def _sample(problem: AllocationProblem) -> AllocationProblem:
    """Some clients of a problem, with their share of each limit."""
    size = min(_SAMPLE, max(_LEAST_SAMPLE, len(problem) // _SAMPLED))
    chosen = np.random.default_rng(len(problem)).choice(len(problem), size, replace=False)
    chosen.sort()
    place = np.full(len(problem), -1)
    place[chosen] = np.arange(chosen.size)
    budget, *rows = (_shared(row, place) for row in problem.limits)
    assert budget.upper is not None
    return replace(
        problem,
        clients=Clients(problem.clients.samples[chosen]),
        costs=problem.costs[chosen],
        utilities=problem.utilities[chosen],
        admissible=problem.admissible[chosen],
        limit=budget.upper,
        rows=tuple(rows),
        constraints=(),
    )


def _shared(row: Row, place: IntArray) -> Row:
    """A row of some clients, its limits in proportion to what these can vary.

    ``place`` is where each client is among those; -1 for the others.
    """
    members = place[row.at]
    chosen = np.flatnonzero(members >= 0)
    least, most = row.coefficients.min(axis=1), row.coefficients.max(axis=1)
    total, own = int(least.sum()), int(least[chosen].sum())
    ratio = float((most[chosen] - least[chosen]).sum()) / max(float((most - least).sum()), 1.0)
    lower, upper = (
        None if bound is None else own + int((bound - total) * ratio)
        for bound in (row.lower, row.upper)
    )
    inside = None if row.members is None else members[chosen]
    return replace(
        row, coefficients=row.coefficients[chosen], members=inside, lower=lower, upper=upper
    )
