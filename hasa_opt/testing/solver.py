"""Does a backend keep its contract? Known answers, brute force, limits of time, and lies."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache, cached_property
from typing import NoReturn

import numpy as np

from hasa_opt._utils.native import stdout_watched
from hasa_opt.errors import (
    CheckError,
    InfeasibleError,
    InputError,
    UnsupportedConstraintError,
)
from hasa_opt.problem.choices import Coverage, Quota
from hasa_opt.problem.condensed import Condensed
from hasa_opt.problem.limits import Fairness
from hasa_opt.problem.problem import AllocationProblem
from hasa_opt.problem.result import Termination, relative_gap
from hasa_opt.solvers.base import Answer, Request
from hasa_opt.solvers.record import Capability, SolverRecord
from hasa_opt.solvers.registry import SOLVERS, ask, check_constraints, find_solver, register
from hasa_opt.solving.solver import solve
from hasa_opt.solving.verdict import verify
from hasa_opt.testing.catalogue import CATALOGUE
from hasa_opt.testing.problems import best_objective, fairest, planted, random_problem

__all__ = ["Case", "Examiner", "check_solver"]

_ROUNDING = 1e-9
"""Relative; sums of float utilities, scaled for a solver and back, agree at least to this."""
_GAP = 0.05
"""Asked for to see whether it is kept; coarse enough for solvers to stop early."""
_LIMITS_S = (0.0, 0.3)
"""No time at all, and less than the long problem takes."""
_GRACE_S = 0.4
"""Seconds beyond a time limit on an idle machine: the last step, and the verification."""
_ATTEMPTS = 4
"""Other processes take time that is not the solver's: the best of so many attempts counts."""


def check_solver(solver: str | SolverRecord, *, n_problems: int = 100) -> None:
    """Check that a backend keeps its contract; made for those that other packages add.

    It is asked for the optimum of problems whose answers are known and of random ones, which are
    solved by brute force; each claim in its answer is compared with the truth. What its record
    says decides what else is asked: time limits and gaps, warm starts, fair allocations, the
    refusal of constraints. Constraints and problems that it refuses are left out.

    Parameters
    ----------
    solver : str or SolverRecord
        A name that :func:`hasa_opt.solvers` lists, or the record of a backend that is registered
        nowhere.
    n_problems : int
        How many random problems it is given.

    Raises
    ------
    CheckError
        Naming the problem, and what is wrong with the answer.
    SolverNotInstalledError
        Giving the command that installs what is missing.

    Examples
    --------
    >>> check_solver("greedy", n_problems=5)
    """
    record = find_solver(solver) if isinstance(solver, str) else solver
    with _registered(record):
        record.load()
        examiner = Examiner(record)
        for known in CATALOGUE:
            examiner.answer(Case(known.name, known.build(), known.objective))
        for case in _random_cases(n_problems):
            examiner.answer(case)
        for known in CATALOGUE:
            if known.conflict:
                examiner.conflict(known.name, known.build(), known.conflict)
        for case in _random_cases(min(n_problems, 20)):
            examiner.gap(case)
            examiner.fairness(case)
        examiner.options()
        examiner.time_limits()
        examiner.warm_start()


@dataclass(frozen=True, eq=False)
class Case:
    """A problem and its optimum; None if it has no allocation."""

    name: str
    problem: AllocationProblem
    best: float | None

    @cached_property
    def room(self) -> float:
        """Differences of the objective that rounding explains."""
        return _ROUNDING * max(1e-12, self.problem.magnitude)


@cache
def _random_case(seed: int) -> Case:
    problem = random_problem(seed)
    return Case(f"random problem {seed}", problem, best_objective(problem))


def _random_cases(count: int) -> Iterator[Case]:
    return map(_random_case, range(count))


@contextmanager
def _registered(record: SolverRecord) -> Iterator[None]:
    """Make a record known for as long as it is checked."""
    before = SOLVERS.ours.get(record.name)
    register(record)
    try:
        yield
    finally:
        if before is None:
            del SOLVERS[record.name]
        else:
            register(before)


class Examiner:
    """Asks one backend, and complains in a sentence."""

    def __init__(self, record: SolverRecord) -> None:
        self.record = record

    def has(self, capability: Capability) -> bool:
        """Whether the record states a capability."""
        return capability in self.record.capabilities

    def takes(self, problem: AllocationProblem) -> bool:
        """Whether a problem is one for this backend."""
        try:
            check_constraints(problem, self.record.name)
        except UnsupportedConstraintError:
            return False
        return True

    def answer(self, case: Case) -> None:
        """Ask for the optimum, and compare every claim with the truth."""
        case = replace(case, problem=Condensed.of(case.problem).problem)
        problem = case.problem
        asked = bool(problem.rows) or int(problem.cheapest.sum()) <= problem.limit
        if not asked or not self.takes(problem):
            return
        request = Request(problem)
        with stdout_watched() as watch:
            answer = ask(self.record.name, request)
        if watch.text:
            self.complain(case.name, f"writes to standard output: {watch.text.strip()[:80]!r}")
        self.check_claims(case, answer)
        if case.best is None:
            if self.has(Capability.EXACT) and answer.termination is not Termination.INFEASIBLE:
                self.complain(case.name, f"ends {_ended(answer)}, but there is no allocation")
            return
        verdict = verify(problem, answer, request)
        if not verdict.claim_held:
            self.complain(case.name, f"claims what verification disproves: {verdict.message}")
        if self.has(Capability.EXACT) and verdict.termination is not Termination.OPTIMAL:
            self.complain(
                case.name,
                f"is said to prove optima, but ends {_ended(answer)} without a proof of "
                f"{case.best:.9g}",
            )

    def check_claims(self, case: Case, answer: Answer) -> None:
        """Compare each claim of an answer with the truth, whatever it ended with."""
        if answer.termination is Termination.FAILED:
            self.complain(case.name, f"fails: {answer.native}")
        if answer.termination is Termination.INFEASIBLE and case.best is not None:
            self.complain(
                case.name,
                f"claims that there is no allocation, but one is worth {case.best:.9g}",
            )
        if answer.choice is None:
            if answer.termination in (Termination.OPTIMAL, Termination.GAP_REACHED):
                self.complain(case.name, f"claims {answer.termination} but gives no allocation")
        else:
            self.check_allocation(case, answer)
        if case.best is not None and not answer.bound >= case.best - case.room:
            self.complain(
                case.name,
                f"claims that nothing is worth more than {answer.bound:.9g}, but an allocation is "
                f"worth {case.best:.9g}",
            )

    def check_allocation(self, case: Case, answer: Answer) -> None:
        """Check an allocation against the limits, its claimed worth and the optimum."""
        try:
            totals = case.problem.evaluate(answer.choice)  # type: ignore[arg-type]
        except InputError as error:
            self.complain(case.name, f"gives something that is not an allocation: {error}")
        if not totals.feasible:
            self.complain(
                case.name, f"gives an allocation that breaks a limit: {totals.violations[0]}"
            )
        claimed = totals.objective if answer.objective is None else answer.objective
        if not abs(claimed - totals.objective) <= case.room:
            self.complain(
                case.name,
                f"claims an objective of {claimed:.9g}, but its allocation is worth "
                f"{totals.objective:.9g}",
            )
        short = case.best is not None and totals.objective < case.best - case.room
        if short and answer.termination is Termination.OPTIMAL:
            self.complain(
                case.name,
                f"claims the optimum {totals.objective:.9g}, but an allocation is worth "
                f"{case.best:.9g}",
            )

    def conflict(self, name: str, problem: AllocationProblem, limits: tuple[str, ...]) -> None:
        """An infeasible problem must be explained by the limits that conflict."""
        if not self.takes(problem):
            return
        try:
            result = solve(problem, self.record.name)
        except InfeasibleError as error:
            if set(error.limits) != set(limits):
                self.complain(name, f"is explained by {error.limits}, the conflict is {limits}")
        else:
            self.complain(
                name, f"ends {result.termination} ({result.message}), but there is no allocation"
            )

    def gap(self, case: Case) -> None:
        """A solver that stops at a gap is within it of the optimum."""
        if not self.has(Capability.GAP) or case.best is None or not self.takes(case.problem):
            return
        answer = ask(self.record.name, Request(case.problem, gap=_GAP))
        self.check_claims(case, answer)
        ended = answer.termination in (Termination.OPTIMAL, Termination.GAP_REACHED)
        if not ended or answer.choice is None:
            self.complain(case.name, f"ends {_ended(answer)} where a gap of {_GAP} was asked for")
        found = case.problem.evaluate(answer.choice).objective
        apart = relative_gap(case.problem, found, case.best)
        if apart > _GAP * (1 + _ROUNDING):
            self.complain(case.name, f"is {apart:.2%} from the optimum, asked for {_GAP:.0%}")

    def fairness(self, case: Case) -> None:
        """The poorest client first, where the record says so, against brute force."""
        for mode in ("maxmin", "leximin"):
            preference = Fairness(mode)
            problem = replace(case.problem, constraints=(*case.problem.constraints, preference))
            stated = self.record.stance(preference) != "no" and self.has(Capability.EXACT)
            if case.best is None or not stated or not self.takes(problem):
                continue
            wanted = fairest(case.problem, mode)
            result = solve(problem, self.record.name)
            if wanted is None or result.termination is not Termination.OPTIMAL:
                self.complain(case.name, f"{preference.feature} ends {result.message}")
            rows = np.arange(len(problem))
            found = np.sort(problem.utilities[rows, result.choice])
            same = found[0] == wanted[0] and abs(found.sum() - wanted.sum()) <= case.room
            if not same or (mode == "leximin" and (found != wanted).any()):
                self.complain(
                    case.name,
                    f"{preference.feature} gives the clients {found.tolist()}, the fairest "
                    f"allocation {wanted.tolist()}",
                )

    def options(self) -> None:
        """An option that a backend does not have is refused by its name."""
        known = CATALOGUE[1]
        option = "no_such_option"
        try:
            ask(self.record.name, Request(known.build(), options={option: 1}))
        except InputError as error:
            if option in str(error):
                return
        self.complain(known.name, f"takes the option {option!r}, which it cannot know, in silence")

    def time_limits(self) -> None:
        """A time limit holds on a problem that takes long, and no claim is false at its end."""
        if not self.has(Capability.TIME_LIMIT):
            return
        case = self.long_case()
        for limit_s in _LIMITS_S:
            taken = []
            for _ in range(_ATTEMPTS):
                started = time.perf_counter()
                answer = ask(self.record.name, Request(case.problem, time_limit_s=limit_s))
                taken.append(time.perf_counter() - started)
                self.check_claims(case, answer)
                if taken[-1] <= 1.1 * limit_s + _GRACE_S * _crowding():
                    break
            else:
                self.complain(
                    case.name, f"takes {min(taken):.2f} s where the time limit is {limit_s:g} s"
                )

    def long_case(self) -> Case:
        """Planted problem with the limits that the backend takes."""
        quota, coverage = (self.record.stance(kind) == "yes" for kind in (Quota, Coverage))
        problem, choice = planted(3000, 10, 0, quota=quota, coverage=coverage)
        if self.has(Capability.SLACK_BUDGET):
            return Case("long problem", problem.with_budget(1), None)
        return Case("long problem", problem, problem.evaluate(choice).objective)

    def warm_start(self) -> None:
        """Without any time, an allocation to start from is what is left."""
        problem, choice = planted(200, 5, 0)
        if not self.has(Capability.WARM_START) or not self.takes(problem):
            return
        result = solve(problem, self.record.name, time_limit_s=0, warm_start=choice)
        if not result.has_solution or result.objective < problem.evaluate(choice).objective:
            self.complain("warm start", "loses the allocation that it was given to start from")

    def complain(self, name: str, words: str) -> NoReturn:
        """Raise the sentence."""
        raise CheckError(f"solver {self.record.name!r}, {name!r}: {words}")


def _ended(answer: Answer) -> str:
    return f"{answer.termination} ({answer.native})"


def _crowding() -> float:
    """How many processes wait for each core, at least 1."""
    waiting = os.getloadavg()[0] if hasattr(os, "getloadavg") else 1.0
    return max(1.0, waiting / (os.cpu_count() or 1))
