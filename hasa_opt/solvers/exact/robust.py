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

from hasa_opt.backend import Answer, Request
from hasa_opt.bounds.thresholds import Thresholds
from hasa_opt.clients import IntArray
from hasa_opt.constraints import RobustRow
from hasa_opt.problem import AllocationProblem
from hasa_opt.result import Termination
from hasa_opt.solvers.exact.kernels.multiplier import worth
from hasa_opt.solvers.exact.run import run_for

__all__ = ["solve_robust"]


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
        if self._open.max() > self._enough:
            self._step(self._first)
        while self._open.max() > self._enough:
            if self._request.deadline.passed:
                self.ended = Termination.TIME_LIMIT
                return
            self._step(int(self._open.argmax()))

    def answer(self) -> Answer:
        """What was found, and what is proven about it."""
        bound = max(self._left, float(self._open.max()))
        if self._choice is None:
            ended = Termination.INFEASIBLE if bound == -np.inf else self.ended
            return Answer(ended, native=f"exact: {ended}")
        gap = max(bound - self._objective, 0.0)
        if gap <= self._rounding:
            gap, self.ended = 0.0, Termination.OPTIMAL
        elif gap <= self._request.gap * abs(bound):
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
            if run.ended is Termination.TIME_LIMIT:
                self.ended = Termination.TIME_LIMIT

    def _take(self, choice: IntArray | None) -> None:
        """Make an allocation the incumbent if it is better."""
        if choice is None:
            return
        objective, _ = worth(self._problem.utilities, choice)
        if objective > self._objective:
            self._choice, self._objective = choice, objective
