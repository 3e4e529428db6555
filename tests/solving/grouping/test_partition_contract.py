"""The check of backends on partitions: ours pass, and each kind of lie is told."""

from __future__ import annotations

import time
from dataclasses import replace
from math import inf
from typing import Any

import pytest

from hasa_opt.errors import CheckError, InputError, SolverNotInstalledError
from hasa_opt.problem.result import Termination
from hasa_opt.solvers import registry
from hasa_opt.solvers.base import Answer
from hasa_opt.solvers.registry import Capability, SolverRecord
from hasa_opt.testing import check_partition, examiner
from hasa_opt.testing.partition import KNOWN_PARTITIONS, best_partition, set_partitions

CLAIMS = Capability.EXACT | Capability.TIME_LIMIT | Capability.GAP | Capability.PARTITION
ABLE = [line.name for line in registry.solvers() if Capability.PARTITION in line.capabilities]


class Honest:
    """Tries every partition; of a large problem it knows none, and says that its time is up."""

    def solve(self, problem: Any, request: Any) -> Answer:
        if len(problem) > 8:
            return Answer(Termination.TIME_LIMIT, native="large")
        ranked = self.ranked(problem, request)
        best = problem.evaluate(ranked[-1]).objective
        return Answer(Termination.OPTIMAL, self.pairs(request, ranked[-1]), best, best, "tried all")

    def ranked(self, problem: Any, request: Any) -> list[Any]:
        """Partitions within the limits, the worst first."""
        every = list(set_partitions(len(problem)))
        fits = [groups for groups in every if problem.evaluate(groups).feasible]
        return sorted(fits, key=lambda groups: problem.evaluate(groups).objective)

    def pairs(self, request: Any, groups: Any) -> Any:
        return request.rows.pairs.values(groups)


class Lying(Honest):
    """Honest, but for what a test makes of its answers on small problems."""

    def solve(self, problem: Any, request: Any) -> Answer:
        answer = super().solve(problem, request)
        return answer if answer.choice is None else self.lie(problem, request, answer)

    def lie(self, problem: Any, request: Any, answer: Answer) -> Answer:
        raise NotImplementedError


class FalseOptimum(Lying):
    def lie(self, problem, request, answer):
        groups = self.ranked(problem, request)[0]
        worth = problem.evaluate(groups).objective
        return replace(answer, choice=self.pairs(request, groups), objective=worth)


class OverTheLimits(Lying):
    """The best partition whatever the limits."""

    def lie(self, problem, request, answer):
        every = [*set_partitions(len(problem))]
        best = max(every, key=lambda groups: problem.evaluate(groups).objective)
        worth = problem.evaluate(best).objective
        return replace(answer, choice=self.pairs(request, best), objective=worth, bound=worth)


class NoPartition(Lying):
    """Every similar pair is together, whoever else is."""

    def lie(self, problem, request, answer):
        return replace(
            answer, choice=(request.rows.objective > 0).astype(int)[: len(answer.choice)]
        )


class Groups(Lying):
    """Groups of the clients in the place of pairs."""

    def lie(self, problem, request, answer):
        return replace(answer, choice=request.rows.pairs.groups(answer.choice) + 2)


class FalseBound(Lying):
    def lie(self, problem, request, answer):
        bound = answer.bound - 0.5 * abs(answer.bound)
        return replace(answer, termination=Termination.GAP_REACHED, bound=bound)


class NoBound(Lying):
    def lie(self, problem, request, answer):
        return replace(answer, bound=float("nan"))


class FalseObjective(Lying):
    def lie(self, problem, request, answer):
        return replace(answer, objective=answer.objective + 1)


class CallsAllInfeasible(Lying):
    def lie(self, problem, request, answer):
        return Answer(Termination.INFEASIBLE, native="none")


class GivesNothing(Lying):
    def lie(self, problem, request, answer):
        return replace(answer, choice=None)


class GivesUp(Lying):
    def lie(self, problem, request, answer):
        raise RuntimeError("no licence")


class StopsShort(Lying):
    def lie(self, problem, request, answer):
        return replace(answer, termination=Termination.GAP_REACHED, bound=inf)


class Prints(Lying):
    def lie(self, problem, request, answer):
        print("Welcome to the solver")
        return answer


class IgnoresTheGap(Lying):
    def lie(self, problem, request, answer):
        if request.gap == 0:
            return answer
        groups = self.ranked(problem, request)[0]
        worth = problem.evaluate(groups).objective
        return Answer(Termination.GAP_REACHED, self.pairs(request, groups), worth, answer.bound)


class LosesTheTimeLimit(Honest):
    def solve(self, problem, request):
        if len(problem) > 8:
            time.sleep(0.8)
        return super().solve(problem, request)


LIES = {
    FalseOptimum: r"claims the optimum \S+, but a partition is worth \S+",
    OverTheLimits: r"gives a partition that breaks a limit: a group of \d, at most \d are allowed",
    NoPartition: r"gives something that is not a partition: breaks \d+ rows of its program",
    Groups: r"gives something that is not a partition: not 0 or 1 for each of \d+ pairs",
    FalseBound: r"claims that nothing is worth more than \S+, but a partition is worth \S+",
    NoBound: r"claims that nothing is worth more than nan, but a partition is worth \S+",
    FalseObjective: r"claims an objective of \S+, but its partition is worth \S+",
    CallsAllInfeasible: r"claims that there is no partition, but one is worth \S+",
    GivesNothing: r"claims optimal but gives no partition",
    GivesUp: r"fails: RuntimeError: no licence",
    StopsShort: r"is said to prove optima, but ends gap reached \(tried all\) without a proof",
    Prints: r"writes to standard output: 'Welcome to the solver'",
    IgnoresTheGap: r"is \S+% from the optimum, asked for 5%",
    LosesTheTimeLimit: r"takes \d\.\d\d s where the time limit is 0 s",
}


def line(kind: type[Honest], **more: Any) -> SolverRecord:
    return SolverRecord("tested", kind, "for the tests", **{"capabilities": CLAIMS} | more)


@pytest.mark.parametrize("case", KNOWN_PARTITIONS, ids=lambda case: case.name)
def test_what_is_known_by_hand_agrees_with_every_partition(case: Any) -> None:
    assert best_partition(case.problem) == pytest.approx(case.best, rel=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("solver", ABLE)
def test_backends_keep_their_contract(solver: str) -> None:
    if not registry.find_solver(solver).available:
        pytest.skip(registry.find_solver(solver).install)
    check_partition(solver)


def test_an_honest_backend_passes() -> None:
    check_partition(line(Honest), n_problems=12)
    assert "tested" not in [record.name for record in registry.solvers()]


def unhurried(kind: type[Honest]) -> Any:
    marks = [pytest.mark.slow] if kind is LosesTheTimeLimit else []
    return pytest.param(kind, marks=marks, id=kind.__name__)


@pytest.mark.parametrize("kind", [unhurried(kind) for kind in LIES])
def test_a_lie_is_told(kind: type[Honest], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(examiner, "_crowding", lambda: 1.0)
    with pytest.raises(CheckError, match=rf"^solver 'tested', '[^']+': {LIES[kind]}"):
        check_partition(line(kind), n_problems=12)
    assert "tested" not in [record.name for record in registry.solvers()]


def test_only_what_a_record_states_is_asked() -> None:
    plain = Capability.PARTITION
    check_partition(line(StopsShort, capabilities=plain), n_problems=5)
    check_partition(line(LosesTheTimeLimit, capabilities=plain), n_problems=5)
    check_partition(line(IgnoresTheGap, capabilities=plain), n_problems=5)


def test_a_backend_without_the_capability_and_one_that_is_absent() -> None:
    with pytest.raises(InputError, match=r"'flow' does not state .* add Capability\.PARTITION"):
        check_partition("flow")
    with pytest.raises(SolverNotInstalledError, match="no_such_module"):
        check_partition(line(Honest, requires=("no_such_module",)))
