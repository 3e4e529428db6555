"""Does a backend keep its contract? Known answers, brute force, limits of time, and lies."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cache

import numpy as np

from hasa_opt.errors import InfeasibleError, InputError, UnsupportedConstraintError
from hasa_opt.problem.choices import Coverage, Quota
from hasa_opt.problem.condensed import Condensed
from hasa_opt.problem.limits import Fairness
from hasa_opt.problem.problem import AllocationProblem
from hasa_opt.problem.result import Termination
from hasa_opt.problem.totals import Totals
from hasa_opt.solvers.base import Answer, Request
from hasa_opt.solvers.record import Capability, SolverRecord
from hasa_opt.solvers.registry import ask, check_constraints, find_solver
from hasa_opt.solving.solver import solve
from hasa_opt.solving.verdict import verify
from hasa_opt.testing.catalogue import CATALOGUE
from hasa_opt.testing.examiner import GAP, Case, Examiner, ended, registered
from hasa_opt.testing.problems import best_objective, fairest, planted, random_problem

__all__ = ["SolverExaminer", "check_solver"]


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
    with registered(record):
        record.load()
        examiner = SolverExaminer(record)
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


@cache
def _random_case(seed: int) -> Case[AllocationProblem]:
    problem = random_problem(seed)
    return Case(f"random problem {seed}", problem, best_objective(problem))


def _random_cases(count: int) -> Iterator[Case[AllocationProblem]]:
    return map(_random_case, range(count))


class SolverExaminer(Examiner[AllocationProblem]):
    """Asks a backend for allocations."""

    sought = "an allocation"

    def totals(self, case: Case[AllocationProblem], answer: Answer) -> Totals:
        """What an allocation costs and is worth."""
        return case.problem.evaluate(answer.choice)  # type: ignore[arg-type]

    def takes(self, problem: AllocationProblem) -> bool:
        """Whether a problem is one for this backend."""
        try:
            check_constraints(problem, self.record.name)
        except UnsupportedConstraintError:
            return False
        return True

    def answer(self, case: Case[AllocationProblem]) -> None:
        """Ask for the optimum, and compare every claim with the truth."""
        case = replace(case, problem=Condensed.of(case.problem).problem)
        problem = case.problem
        asked = bool(problem.rows) or int(problem.cheapest.sum()) <= problem.limit
        if not asked or not self.takes(problem):
            return
        request = Request(problem)
        answer = self.asked(case.name, request)
        self.check_claims(case, answer)
        if case.best is None:
            if self.has(Capability.EXACT) and answer.termination is not Termination.INFEASIBLE:
                self.complain(case.name, f"ends {ended(answer)}, but there is no allocation")
            return
        verdict = verify(problem, answer, request)
        if not verdict.claim_held:
            self.complain(case.name, f"claims what verification disproves: {verdict.message}")
        self.check_proof(case, replace(answer, termination=verdict.termination))

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

    def gap(self, case: Case[AllocationProblem]) -> None:
        """A solver that stops at a gap is within it of the optimum."""
        if not self.has(Capability.GAP) or case.best is None or not self.takes(case.problem):
            return
        self.check_gap(case, ask(self.record.name, Request(case.problem, gap=GAP)))

    def fairness(self, case: Case[AllocationProblem]) -> None:
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
        problem = (case := self.long_case()).problem
        self.check_time_limits(
            case, lambda limit_s: ask(self.record.name, Request(problem, time_limit_s=limit_s))
        )

    def long_case(self) -> Case[AllocationProblem]:
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
