"""The check of solvers finds each kind of lie, and says in a sentence what was wrong."""

from __future__ import annotations

import os
import time
from dataclasses import replace

import numpy as np
import pytest

from hasa_opt import AllocationProblem, Coverage, Quota, Termination
from hasa_opt.errors import CheckError, SolverNotInstalledError, UnknownSolverError
from hasa_opt.problem.limits import RowConstraint
from hasa_opt.solvers import registry
from hasa_opt.solvers.base import Answer, Request
from hasa_opt.solvers.registry import Capability, SolverRecord
from hasa_opt.testing import check_solver
from hasa_opt.testing import examiner as checks
from hasa_opt.testing.problems import feasible_choices

CLAIMS = Capability.EXACT | Capability.TIME_LIMIT | Capability.GAP | Capability.WARM_START


class Honest:
    """Tries every allocation; of a large problem it knows none, and says that its time is up."""

    def solve(self, problem: AllocationProblem, request: Request) -> Answer:
        for option in request.options:
            raise registry.InputError(f"there is no option {option!r}")
        if len(problem) > 10:
            return Answer(Termination.TIME_LIMIT, native="large")
        choices = feasible_choices(problem)
        if not choices.size:
            return Answer(Termination.INFEASIBLE, native="tried all")
        worth = problem.utilities[np.arange(len(problem)), choices].sum(axis=1)
        best = float(worth.max())
        return Answer(Termination.OPTIMAL, choices[worth.argmax()], best, best, native="tried all")


class Lying(Honest):
    """Honest, but for what a test makes of its answers."""

    def solve(self, problem: AllocationProblem, request: Request) -> Answer:
        return self.lie(problem, request, super().solve(problem, request))

    def lie(self, problem: AllocationProblem, request: Request, answer: Answer) -> Answer:
        raise NotImplementedError


class OverTheBudget(Lying):
    """One client has its best width, whatever it costs."""

    def lie(self, problem, request, answer):
        if answer.choice is None:
            return answer
        choice = answer.choice.copy()
        choice[0] = np.where(problem.admissible[0], problem.utilities[0], -np.inf).argmax()
        worth = problem.evaluate(choice).objective
        return replace(answer, choice=choice, objective=worth, bound=worth)


class FalseOptimum(Lying):
    """The worst allocation is called the best."""

    def lie(self, problem, request, answer):
        choices = feasible_choices(problem) if len(problem) <= 10 else np.empty(0)
        if not choices.size:
            return answer
        worth = problem.utilities[np.arange(len(problem)), choices].sum(axis=1)
        least = float(worth.min())
        return Answer(Termination.OPTIMAL, choices[worth.argmin()], least, answer.bound)


class FalseBound(Lying):
    """The bound is half of what is possible; no optimum is claimed."""

    def lie(self, problem, request, answer):
        if answer.choice is None:
            return answer
        bound = answer.bound - 0.5 * abs(answer.bound)
        return replace(answer, termination=Termination.GAP_REACHED, bound=bound)


class LosesTheTimeLimit(Lying):
    """Takes most of a second for a large problem, whatever it is given."""

    def lie(self, problem, request, answer):
        if len(problem) > 10:
            time.sleep(0.8)
        return answer


class FalseObjective(Lying):
    def lie(self, problem, request, answer):
        return replace(answer, objective=None if answer.objective is None else answer.bound + 1)


class CallsAllInfeasible(Lying):
    def lie(self, problem, request, answer):
        return Answer(Termination.INFEASIBLE, native="no")


class FindsWhatIsNotThere(Lying):
    def lie(self, problem, request, answer):
        if answer.termination is not Termination.INFEASIBLE:
            return answer
        return Answer(Termination.GAP_REACHED, native="somewhere")


class GivesNothing(Lying):
    def lie(self, problem, request, answer):
        return Answer(Termination.OPTIMAL)


class GivesFloats(Lying):
    def lie(self, problem, request, answer):
        return replace(answer, choice=np.full(len(problem), 0.5))


class GivesUp(Lying):
    def lie(self, problem, request, answer):
        raise RuntimeError("no licence")


class StopsShort(Lying):
    """Is said to prove optima, and claims a gap only."""

    def lie(self, problem, request, answer):
        if answer.choice is None:
            return answer
        return replace(answer, termination=Termination.GAP_REACHED, bound=np.inf)


class Prints(Lying):
    def lie(self, problem, request, answer):
        os.write(1, b"Welcome to the solver\n")
        return answer


class IgnoresOptions(Lying):
    def solve(self, problem, request):
        return super().solve(problem, replace(request, options={}))

    def lie(self, problem, request, answer):
        return answer


class IgnoresTheGap(Lying):
    """Stops far from what a gap of 5 % allows."""

    def lie(self, problem, request, answer):
        if request.gap == 0 or answer.choice is None:
            return answer
        choices = feasible_choices(problem)
        worth = problem.utilities[np.arange(len(problem)), choices].sum(axis=1)
        return Answer(Termination.GAP_REACHED, choices[worth.argmin()], float(worth.min()))


LIES = {
    OverTheBudget: r"gives an allocation that breaks a limit: budget is broken by \d+",
    FalseOptimum: r"claims the optimum \S+, but an allocation is worth \S+",
    FalseBound: r"claims that nothing is worth more than \S+, but an allocation is worth \S+",
    LosesTheTimeLimit: r"takes \d\.\d\d s where the time limit is 0 s",
    FalseObjective: r"claims an objective of \S+, but its allocation is worth \S+",
    CallsAllInfeasible: r"claims that there is no allocation, but one is worth \S+",
    FindsWhatIsNotThere: r"claims gap reached but gives no allocation",
    GivesNothing: r"claims optimal but gives no allocation",
    GivesFloats: r"gives something that is not an allocation: choice of float64",
    GivesUp: r"fails: RuntimeError: no licence",
    StopsShort: r"is said to prove optima, but ends gap reached \(tried all\) without a proof",
    Prints: r"writes to standard output: 'Welcome to the solver'",
    IgnoresOptions: r"takes the option 'no_such_option', which it cannot know, in silence",
    IgnoresTheGap: r"is \S+% from the optimum, asked for 5%",
}


def line(kind: type[Honest], **more) -> SolverRecord:
    given = {"capabilities": CLAIMS, "constraints": (RowConstraint,)} | more
    return SolverRecord("tested", kind, "for the tests", **given)


def test_an_honest_backend_passes() -> None:
    check_solver(line(Honest), n_problems=30)
    assert "tested" not in [record.name for record in registry.solvers()]


@pytest.mark.parametrize("kind", LIES, ids=lambda kind: kind.__name__)
def test_a_lie_is_told(kind: type[Lying], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "_crowding", lambda: 1.0)
    with pytest.raises(CheckError, match=rf"^solver 'tested', '[^']+': {LIES[kind]}"):
        check_solver(line(kind), n_problems=30)
    assert "tested" not in [record.name for record in registry.solvers()]


def test_it_is_not_a_heuristics_duty_to_prove() -> None:
    check_solver(line(StopsShort, capabilities=Capability.TIME_LIMIT), n_problems=30)


def test_a_record_of_before_is_left_as_it_was() -> None:
    before = registry.find_solver("highs")
    with pytest.raises(CheckError):
        check_solver(replace(line(GivesUp), name="highs"))
    assert registry.find_solver("highs") is before


def test_only_what_a_backend_takes_is_asked() -> None:
    asked = set()

    class Watching(Honest):
        def solve(self, problem: AllocationProblem, request: Request) -> Answer:
            asked.update(type(item) for item in problem.constraints)
            return super().solve(problem, request)

    check_solver(line(Watching, constraints=(Quota,)), n_problems=30)
    assert Quota in asked
    assert Coverage not in asked


def test_a_solver_that_is_absent_or_unknown() -> None:
    with pytest.raises(UnknownSolverError):
        check_solver("nobody")
    with pytest.raises(SolverNotInstalledError, match="no_such_module"):
        check_solver(replace(line(Honest), requires=("no_such_module",)))
