"""A robust budget solved exactly: best first over its thresholds, each an ordinary budget.

Every threshold holds a bound from the start. The one of the largest bound is taken next: first its
linear relaxation replaces the bound (and, at the price found there, tightens those of all others),
and if it is still the largest, the plain problem at this threshold is solved, above what is in
hand. So only thresholds are solved that could be the best (cf. Büsing, Gersing and Koster, A branch
and bound algorithm for robust binary optimization with budget uncertainty, Mathematical
Programming Computation 15, 2023).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from hasa_opt._utils.checks import IntArray
from hasa_opt._utils.deadline import OutOfTime
from hasa_opt.problem.limits import RobustRow
from hasa_opt.problem.problem import AllocationProblem
from hasa_opt.problem.result import Termination, relative_gap
from hasa_opt.solvers.base import Answer, Request
from hasa_opt.solvers.bounds.audit import Thresholds
from hasa_opt.solvers.bounds.dual import best_prices
from hasa_opt.solvers.bounds.repair import searched
from hasa_opt.solvers.bounds.site_tree import SiteTree
from hasa_opt.solvers.exact.closing import finished
from hasa_opt.solvers.exact.kernels.multiplier import worth
from hasa_opt.solvers.exact.run import Part, run_for

__all__ = ["solve_robust", "solve_rows", "solve_sites"]


def solve_rows(request: Request, *, compiled: bool = True) -> Answer:
    """Solve a problem with linear limits beyond the budget; slowly where nothing is compiled."""
    dual = request.dual
    if dual is None:
        return Answer(Termination.INFEASIBLE, native="exact: infeasible relaxation")
    choice = request.known
    if choice is None:
        choice, ended = searched(request.problem, dual, request.deadline)
        if choice is None:
            native = "exact: found no allocation within the limits"
            return Answer(ended, bound=dual.bound, native=native)
    return finished(request, dual, choice, dual.bound, compiled=compiled)


def solve_robust(problem: AllocationProblem, request: Request) -> Answer:
    """Solve a problem of which the only row beside the budget is a robust one."""
    (row,) = problem.rows
    assert isinstance(row, RobustRow)
    run = _RobustRun(problem, Thresholds.of(problem, row), request)
    try:
        run.search()
    except KeyboardInterrupt:
        run.ended = Termination.INTERRUPTED
    return run.answer()


class _RobustRun:
    """One run: the incumbent, the bounds of the open thresholds, and the most a closed one left."""

    def __init__(
        self, problem: AllocationProblem, thresholds: Thresholds, request: Request
    ) -> None:
        self.ended = Termination.GAP_REACHED
        self._problem = problem
        self._thresholds = thresholds
        self._request = request
        highest = np.where(problem.admissible, problem.utilities, -np.inf).max(axis=1).sum()
        least = thresholds.least()
        self._first = int(least.argmin())
        self._open = np.where(least <= thresholds.budget, highest, -np.inf)
        self._left = self._objective = -np.inf
        self._choice: IntArray | None = None
        self._rounding = 0.0
        start = request.warm_start
        if start is not None and problem.evaluate(start).feasible:
            self._take(start)

    def search(self) -> None:
        """Close thresholds until none could be better, or the time is up."""
        try:
            if self._open.max() > self._enough:
                self._step(self._first)
            while self._open.max() > self._enough:
                self._request.deadline.check()
                self._step(int(self._open.argmax()))
        except OutOfTime:
            self.ended = Termination.at(self._request.deadline)

    def answer(self) -> Answer:
        """What was found, and what is proven about it."""
        bound = max(self._left, float(self._open.max()))
        if self._choice is None:
            ended = Termination.INFEASIBLE if bound == -np.inf else self.ended
            return Answer(ended, native=f"exact: {ended}")
        gap = max(bound - self._objective, 0.0)
        if gap <= self._rounding:
            gap, self.ended = 0.0, Termination.OPTIMAL
        elif gap <= self._request.gap * abs(self._objective):
            self.ended = Termination.GAP_REACHED
        native = f"exact: {self.ended}, gap {gap:.3g}, {self._open.size} thresholds"
        return Answer(self.ended, self._choice, self._objective, self._objective + gap, native)

    @property
    def _enough(self) -> float:
        """What no better allocation is looked for beyond."""
        if self._choice is None:
            return -np.inf
        return self._objective + max(self._rounding, self._request.gap * abs(self._objective))

    def _step(self, at: int) -> None:
        """Make the bound of a threshold that of its relaxation; if it is, solve and close it."""
        request = replace(self._request, warm_start=None)
        thresholds = self._thresholds
        run = run_for(
            thresholds.costs(at), self._problem.utilities, self._problem.admissible,
            thresholds.limit(at), request,
        )  # fmt: skip
        run.relax(self._objective)
        part = run.part()
        self._rounding = max(self._rounding, part.rounding)
        self._take(part.choice)
        if part.top < self._open[at]:
            loose = part.top - self._objective < (self._open[at] - self._objective) / 2
            self._open[at] = part.top
            if loose and part.price > 0:
                self._open = np.minimum(self._open, thresholds.bounds(part.price))
            return
        try:
            run.search()
        finally:
            part = run.part()
            self._take(part.choice)
            self._left = max(self._left, part.bound)
            self._open[at] = -np.inf
            if run.ended in (Termination.TIME_LIMIT, Termination.INTERRUPTED):
                self.ended = run.ended

    def _take(self, choice: IntArray | None) -> None:
        """Make an allocation the incumbent if it is better."""
        if choice is None:
            return
        objective, _ = worth(self._problem.utilities, choice)
        if objective > self._objective:
            self._choice, self._objective = choice, objective


_ROUNDS = 5
"""Times that site budgets which turn out to be broken join those that are priced."""
_FEW, _SMALL_GAP = 20, 1e-8
"""Sites up to which each is solved to the gap asked for; of more, this gap is enough."""


def solve_sites(tree: SiteTree, request: Request) -> Answer:
    """Solve a problem whose further limits are one tree of site budgets."""
    problem = request.problem
    at_prices = best_prices(problem, tree, request.deadline)
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
