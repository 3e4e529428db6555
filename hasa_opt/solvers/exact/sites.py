"""Nested site budgets: one exact run for each site whose budget binds, the inmost first.

The prices of the linear relaxation tell which sites are full. The clients below a full site, but
not below a full site within it, compete for what its budget leaves to them; what they spend is
charged the price of the sites above. For the inmost full sites the runs also tighten the bound.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from hasa_opt.backend import Answer, Request
from hasa_opt.basics.deadline import OutOfTime
from hasa_opt.bounds.dual import dual
from hasa_opt.bounds.site_tree import SiteTree
from hasa_opt.clients import IntArray
from hasa_opt.problem import AllocationProblem
from hasa_opt.result import Termination, relative_gap
from hasa_opt.solvers.exact.rows import finished
from hasa_opt.solvers.exact.run import Part, run_for

__all__ = ["solve_sites"]

_ROUNDS = 5
_FEW, _SMALL_GAP = 20, 1e-8


def solve_sites(tree: SiteTree, request: Request) -> Answer:
    """Solve a problem whose further limits are one tree of site budgets."""
    problem = request.problem
    at_prices = dual(problem, tree, request.deadline)
    if at_prices is None:
        return Answer(Termination.INFEASIBLE, native="exact: a site cannot afford its clients")
    least = at_prices.bound
    best = _better(problem, (-np.inf, tree.start), tree.start)
    best = _better(problem, best, request.warm_start)
    binding = tree.prices > 0
    for _ in range(_ROUNDS):
        try:
            choice, gain = _solved(tree, binding, request)
        except OutOfTime:
            break
        best = _better(problem, best, choice)
        least = min(least, at_prices.bound - gain)
        broken = np.array([row.excess(choice) > 0 for row in problem.limits])
        if not (broken & ~binding).any() or request.deadline.passed:
            break
        binding |= broken
    if relative_gap(problem, best[0], least) > max(request.gap, _SMALL_GAP):
        best = _better(problem, best, tree.incumbent)
    return finished(request, at_prices, best[1], least)


def _better(
    problem: AllocationProblem, best: tuple[float, IntArray], other: IntArray | None
) -> tuple[float, IntArray]:
    """The better of an allocation and another one, if that is within the limits."""
    if other is None:
        return best
    found = problem.evaluate(other)
    return (found.objective, other) if found.feasible and found.objective > best[0] else best


def _solved(
    tree: SiteTree, binding: npt.NDArray[np.bool_], request: Request
) -> tuple[IntArray, float]:
    """Allocation by one run for each binding limit, and by how much these lower the bound."""
    problem, above = request.problem, tree.total - tree.prices
    group = _groups(tree, binding)
    of_client = group[tree.deepest]
    order = np.argsort(of_client, kind="stable")
    ends = np.cumsum(np.bincount(of_client, minlength=group.size))
    choice = tree.start
    spent = np.zeros(group.size, dtype=np.int64)
    inmost = np.ones(group.size, dtype=bool)
    gain = 0.0
    own = tree.order[group[tree.order] == tree.order]
    # Many small gaps add up to a small one, in a fraction of the time.
    gap = request.gap if own.size <= _FEW else max(request.gap, _SMALL_GAP)
    request = replace(request, gap=gap, warm_start=None)
    for limit in own:
        members = order[ends[limit - 1] if limit else 0 : ends[limit]]
        if members.size:
            part = _part(tree, members, int(limit), int(spent[limit]), above[limit], request)
            if part.choice is not None:
                choice[members] = part.choice
            if inmost[limit]:
                gain += max(part.top - part.bound, 0.0)
        if limit:
            outer = group[tree.parent[limit]]
            inmost[outer] = False
            spent[outer] += spent[limit] + problem.costs[members, choice[members]].sum()
    return choice, gain


def _groups(tree: SiteTree, binding: npt.NDArray[np.bool_]) -> IntArray:
    """Nearest binding limit around each limit, itself included; the budget if there is none."""
    group = np.arange(binding.size)
    for limit in tree.order[::-1][1:]:
        if not binding[limit]:
            group[limit] = group[tree.parent[limit]]
    return group


def _part(
    tree: SiteTree, members: IntArray, limit: int, spent: int, price: float, request: Request
) -> Part:
    """One exact run over the clients that share a binding limit."""
    problem = request.problem
    costs = problem.costs[members]
    net = problem.utilities[members]
    if price > 0:
        net = net - price * (costs - problem.cheapest[members, None])
    upper = problem.limits[limit].upper
    assert upper is not None
    run = run_for(costs, net, problem.admissible[members], upper - spent, request)
    run.relax()
    run.search()
    return run.part()
