"""Raise the poorest client first: the stages that :class:`hasa_opt.Fairness` stands for.

``maxmin`` is a threshold: the largest level such that the widths worth at least as much admit an
allocation within all limits, found by bisection over the utilities; then the problem without the
preference, under that mask. Under the budget alone a level is decided by the cheapest widths in
exact integers. With further rows the backend decides it: a feasible answer is evaluated, and a
claim that there is none must hold for a search of our own. A stage that ends without a proof leaves
the whole result without one.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from math import inf
from typing import Any

import numpy as np

from hasa_opt._utils.checks import IntArray
from hasa_opt._utils.deadline import Deadline, OutOfTime
from hasa_opt.errors import InputError, UnsupportedConstraintError
from hasa_opt.problem.limits import Fairness
from hasa_opt.problem.problem import AllocationProblem
from hasa_opt.problem.result import Allocation, Termination
from hasa_opt.solvers.base import Request
from hasa_opt.solvers.bounds.programs import Unsolved
from hasa_opt.solvers.bounds.relaxation import relax
from hasa_opt.solvers.incumbent import Incumbent
from hasa_opt.solvers.registry import ask, find_solver
from hasa_opt.solving.leximin import Leximin
from hasa_opt.solving.verdict import verify

__all__ = ["SolveOnce", "fairness_of", "solve_fairly"]

SolveOnce = Callable[[str, Request, tuple[str, ...]], Allocation]


def fairness_of(problem: AllocationProblem) -> Fairness | None:
    """Return the fairness preference of a problem, if it has one."""
    found = [item for item in problem.constraints if isinstance(item, Fairness)]
    return found[0] if found else None


def solve_fairly(
    solve_once: SolveOnce, name: str, request: Request, tried: tuple[str, ...]
) -> Allocation:
    """Solve a problem with a fairness preference in stages.

    Parameters
    ----------
    solve_once : callable
        Solves and verifies a problem without the preference.
    name : str
        The solver.
    request : Request
        Its time limit holds for all stages together.
    tried : tuple of str
        Solvers that were tried before.

    Returns
    -------
    Allocation
        Of the problem as it was given; optimal only if every stage was proven.
    """
    find_solver(name).load()
    problem = request.problem
    wanted = fairness_of(problem)
    leximin = wanted is not None and wanted.mode == "leximin"
    if leximin and problem.rows:
        raise UnsupportedConstraintError(
            f"solver {name!r} takes Fairness('leximin') under the budget and masks alone: leave "
            "the other limits out, or use Fairness('maxmin')"
        )
    if leximin and request.options:
        raise InputError(
            f"{name} takes no options with Fairness('leximin'), {', '.join(request.options)} given"
        )
    started = time.perf_counter()
    stages = _Stages(name, request)
    stages.find_level()
    result = stages.leximin(tried) if leximin else stages.largest_sum(solve_once, tried)
    return replace(result, problem=problem, seconds=time.perf_counter() - started)


class _Stages:
    """The search for the level of the poorest client, and what follows it.

    Attributes
    ----------
    plain : AllocationProblem
        The problem without the preference.
    levels : (n_levels,) float64
        Utilities that the poorest client can have, increasing.
    low : int
        Highest level known to be within the limits; if none is known, the lowest level.
    found : (n_clients,) int64 or None
        A feasible allocation at this level.
    ended : Termination or None
        Why the search for the level ended without a proof; None if it is proven.
    """

    def __init__(self, name: str, request: Request) -> None:
        problem = request.problem
        others = [item for item in problem.constraints if not isinstance(item, Fairness)]
        self.plain = replace(problem, constraints=tuple(others))
        self.low = 0
        self.found: IntArray | None = None
        self._source = ""
        self.ended: Termination | None = None
        self._name = name
        self._request = request
        self._notes: list[str] = []
        self._honest = True
        self._deadline = request.deadline
        worth = np.where(problem.admissible, problem.poorest, -inf)
        # No allocation raises the poorest above the least of the clients' best utilities.
        counts = problem.admissible & (worth <= worth.max(axis=1).min())
        self.levels = np.unique(worth[counts])

    def find_level(self) -> None:
        """Find the highest level of the poorest client within all limits.

        Raises
        ------
        InfeasibleError
            If there is no allocation at all.
        """
        try:
            top = self._affordable()
            if not self.plain.rows:
                self.low = top
            elif self.ended is None:
                self._search_rows(top)
        except OutOfTime:
            self.ended = self._late
        except KeyboardInterrupt:
            self.ended = Termination.INTERRUPTED
        proof = "proven" if self.ended is None else "not proven to be the highest"
        self._notes.append(f"level of the poorest client {self.levels[self.low]:.9g}, {proof}")

    def largest_sum(self, solve_once: SolveOnce, tried: tuple[str, ...]) -> Allocation:
        """Largest sum of utilities at the level that was found, by the backend."""
        best = self._request.best
        problem = self._at_level(self.low)
        best.forget_outside(problem)
        start, source = self._start(problem)
        request = self._stage(problem, warm_start=start, best=best)
        request.offer(start, source)
        result = solve_once(self._name, request, tried)
        return replace(
            result,
            termination=self.ended or result.termination,
            claim_held=result.claim_held and self._honest,
            message="; ".join([result.message, *self._notes]),
        )

    def leximin(self, tried: tuple[str, ...]) -> Allocation:
        """Raise one level after the other, by the sweep of :mod:`hasa_opt.solving.leximin`."""
        problem = self._at_level(self.low)
        choice, bound, price, sweep = _cheapest(problem), problem.ceiling, 0.0, None
        try:
            relaxation = relax(problem, self._deadline)
            choice, bound, price = relaxation.choice, relaxation.bound, relaxation.price
            sweep = self._deadline.wait_for(lambda: Leximin(problem))
            if not sweep.run(self._deadline):
                self.ended = self.ended or self._late
        except OutOfTime:
            self.ended = self.ended or self._late
        except KeyboardInterrupt:
            self.ended = Termination.INTERRUPTED
        # A sweep that was interrupted in the middle of a move may be beyond the budget.
        if sweep is not None and self.plain.evaluate(sweep.choice).feasible:
            choice = sweep.choice
        totals, best = self.plain.evaluate(choice), self._request.best
        objective = totals.objective
        bound = max(objective, bound) if self.ended else objective
        best.take(choice, totals, self._name)
        best.lower(bound)
        best.stopped()
        return Allocation(
            problem=self.plain,
            solver=self._name,
            termination=self.ended or Termination.OPTIMAL,
            bound=bound,
            prices=np.array([price]),
            seconds=0.0,
            message="; ".join(["leximin", *self._notes]),
            fallback_from=tried,
            held=_read_only(choice),
            incumbent_from=self._name,
            own_objective=objective,
        )

    def _affordable(self) -> int:
        """Highest level within the budget, by the cheapest widths; rows are left out."""
        low, high = 0, self.levels.size
        while low + 1 < high:
            if self._deadline.passed:
                self.ended = self._late
                break
            middle = (low + high) // 2
            if int(self._at_level(middle).cheapest.sum()) <= self.plain.limit:
                low = middle
            else:
                high = middle
        return low

    def _search_rows(self, top: int) -> None:
        """Bisection with the backend: first the ends, which often are the answer."""
        before, stage = self._request.best, self._stage(self.plain)
        self._take(before.choice, before.source)
        self._take(stage.known, stage.best.source)
        high = top + 1
        while self.ended is None and (self.found is None or self.low + 1 < high):
            probe = 0 if self.found is None else (top if high > top else (self.low + high) // 2)
            if self._decide(self._at_level(probe)):
                continue
            if self.found is None and self.ended is None:
                self._refuse()
            else:
                high = probe

    def _decide(self, problem: AllocationProblem) -> bool:
        """Whether an allocation within the limits is found, and kept; sets ``ended`` if open."""
        if self._deadline.passed:
            self.ended = self._late
            return False
        worthless = replace(problem, utilities=np.zeros_like(problem.utilities))
        request = self._stage(worthless, gap=0.0, warm_start=None, audited=False)
        if request.known is not None:
            return self._take(request.known, request.best.source)
        answer = ask(self._name, request)
        verdict = verify(worthless, answer, request)
        self._honest &= verdict.claim_held
        if verdict.choice is not None:
            return self._take(verdict.choice, self._name)
        if answer.termination is not Termination.INFEASIBLE:
            self.ended = verdict.termination
            self._notes.append(f"open level: {verdict.message}")
            return False
        return self._take(self._counterexample(worthless), "search")

    def _counterexample(self, problem: AllocationProblem) -> IntArray | None:
        """Allocation in spite of a claim that there is none; None if the claim holds."""
        from hasa_opt.solving.infeasible import within_all

        try:
            found = within_all(problem, self._deadline)
        except Unsolved as error:
            self.ended = self._late if self._deadline.passed else Termination.FAILED
            self._notes.append(f"open level: {error}")
            return None
        if found is not None:
            self._notes.append(f"{self._name} claims infeasible, but an allocation exists")
            self._honest &= self._deadline.limited  # CBC says so where its time is up
        return found

    def _refuse(self) -> None:
        """Raise, since not even the lowest level is within the limits."""
        from hasa_opt.solving.infeasible import counterexample

        with suppress(Unsolved):
            self._take(counterexample(self.plain), "search")
        self.ended = Termination.FAILED

    def _take(self, choice: IntArray | None, source: str) -> bool:
        """Keep a feasible allocation if its poorest client is better off; whether there is one."""
        if choice is None:
            return False
        poorest = self.plain.poorest[np.arange(len(self.plain)), choice].min()
        level = int(np.searchsorted(self.levels, poorest, side="right")) - 1
        if self.found is None or level > self.low:
            self.low, self.found, self._source = level, choice, source
        return True

    def _start(self, stage: AllocationProblem) -> tuple[IntArray | None, str]:
        """Allocation that the last stage may start from, and who found it."""
        given = self._request.warm_start
        usable = given is not None and stage.evaluate(given).feasible
        return (given, "warm start") if usable else (self.found, self._source)

    def _at_level(self, level: int) -> AllocationProblem:
        """The plain problem with the widths worth at least a level."""
        rich = self.plain.poorest >= self.levels[level]
        return replace(self.plain, admissible=self.plain.admissible & rich)

    @property
    def _late(self) -> Termination:
        """Why the deadline has passed: the time is up, or somebody has asked to stop."""
        return Termination.at(self._deadline)

    def _stage(self, problem: AllocationProblem, **changes: Any) -> Request:
        stopped = self.ended is Termination.INTERRUPTED
        deadline = Deadline.after(0.0) if stopped else self._deadline
        left = deadline.remaining_s if deadline.limited else None
        stage: dict[str, Any] = {"problem": problem, "best": Incumbent(), "time_limit_s": left}
        return replace(self._request, **stage | changes, deadline=deadline)


def _cheapest(problem: AllocationProblem) -> IntArray:
    """Cheapest admissible width of each client, ``(n_clients,)``."""
    costs = np.where(problem.admissible, problem.costs, np.iinfo(np.int64).max)
    return np.asarray(costs.argmin(axis=1))


def _read_only(choice: IntArray) -> IntArray:
    kept = np.array(choice, dtype=np.int64)
    kept.flags.writeable = False
    return kept
