"""What every check of a backend does: hold its claims against the truth, and complain."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Generic, NoReturn, TypeVar

from hasa_opt._utils.native import stdout_watched
from hasa_opt.errors import CheckError, InputError
from hasa_opt.problem.problem import AllocationProblem
from hasa_opt.problem.result import Termination, relative_gap
from hasa_opt.problem.totals import Totals
from hasa_opt.solvers.base import Answer, Request
from hasa_opt.solvers.record import Capability, SolverRecord
from hasa_opt.solvers.registry import SOLVERS, ask, register
from hasa_opt.solving.grouping.problem import PartitionProblem

__all__ = ["GAP", "Case", "Examiner", "ended", "registered"]

GAP = 0.05
"""Asked for to see whether it is kept; coarse enough for solvers to stop early."""
_ROUNDING = 1e-9
"""Relative; sums of floats, scaled for a solver and back, agree at least to this."""
_LIMITS_S = (0.0, 0.3)
"""No time at all, and less than the long problem takes."""
_GRACE_S = 0.4
"""Seconds beyond a time limit on an idle machine: the last step, and the verification."""
_ATTEMPTS = 4
"""Other processes take time that is not the solver's: the best of so many attempts counts."""

Problem = TypeVar("Problem", AllocationProblem, PartitionProblem)


@contextmanager
def registered(record: SolverRecord) -> Iterator[None]:
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


def ended(answer: Answer) -> str:
    """How an answer ended, and the solver's own words."""
    return f"{answer.termination} ({answer.native})"


@dataclass(frozen=True, eq=False)
class Case(Generic[Problem]):
    """A problem and what its optimum is worth; None if there is none, or it is not known."""

    name: str
    problem: Problem
    best: float | None

    @cached_property
    def room(self) -> float:
        """Differences of the objective that rounding explains."""
        return _ROUNDING * max(1e-12, self.problem.magnitude)


class Examiner(Generic[Problem]):
    """Asks one backend, and complains in a sentence.

    Attributes
    ----------
    sought : str
        What the backend looks for, with its article.
    """

    sought: str

    def __init__(self, record: SolverRecord) -> None:
        self.record = record

    def totals(self, case: Case[Problem], answer: Answer) -> Totals:
        """What the choice of an answer is worth.

        Raises
        ------
        InputError
            If it is no choice at all.
        """
        raise NotImplementedError

    def has(self, capability: Capability) -> bool:
        """Whether the record states a capability."""
        return capability in self.record.capabilities

    def asked(self, name: str, request: Request) -> Answer:
        """Ask the backend, which must not write to standard output."""
        with stdout_watched() as watch:
            answer = ask(self.record.name, request)
        if watch.text:
            self.complain(name, f"writes to standard output: {watch.text.strip()[:80]!r}")
        return answer

    def check_claims(self, case: Case[Problem], answer: Answer) -> None:
        """Compare each claim of an answer with the truth, whatever it ended with."""
        if answer.termination is Termination.FAILED:
            self.complain(case.name, f"fails: {answer.native}")
        if answer.termination is Termination.INFEASIBLE and case.best is not None:
            self.complain(
                case.name,
                f"claims that there is no {self._noun}, but one is worth {case.best:.9g}",
            )
        if answer.choice is None:
            if answer.termination in (Termination.OPTIMAL, Termination.GAP_REACHED):
                self.complain(case.name, f"claims {answer.termination} but gives no {self._noun}")
        else:
            self._check_choice(case, answer)
        if case.best is not None and not answer.bound >= case.best - case.room:
            self.complain(
                case.name,
                f"claims that nothing is worth more than {answer.bound:.9g}, but {self.sought} is "
                f"worth {case.best:.9g}",
            )

    def check_proof(self, case: Case[Problem], answer: Answer) -> None:
        """An exact backend ends with a proof."""
        if self.has(Capability.EXACT) and answer.termination is not Termination.OPTIMAL:
            self.complain(
                case.name,
                f"is said to prove optima, but ends {ended(answer)} without a proof of "
                f"{case.best:.9g}",
            )

    def check_gap(self, case: Case[Problem], answer: Answer) -> None:
        """A solver that was asked for a gap is within it of the optimum."""
        self.check_claims(case, answer)
        kept = answer.termination in (Termination.OPTIMAL, Termination.GAP_REACHED)
        if not kept or answer.choice is None or case.best is None:
            self.complain(case.name, f"ends {ended(answer)} where a gap of {GAP} was asked for")
        found = self.totals(case, answer).objective
        apart = relative_gap(case.problem, found, case.best)
        if apart > GAP * (1 + _ROUNDING):
            self.complain(case.name, f"is {apart:.2%} from the optimum, asked for {GAP:.0%}")

    def check_time_limits(self, case: Case[Problem], ask_within: Callable[[float], Answer]) -> None:
        """A time limit holds on a problem that takes long, and no claim is false at its end."""
        for limit_s in _LIMITS_S:
            taken = []
            for _ in range(_ATTEMPTS):
                started = time.perf_counter()
                answer = ask_within(limit_s)
                taken.append(time.perf_counter() - started)
                self.check_claims(case, answer)
                if taken[-1] <= 1.1 * limit_s + _GRACE_S * _crowding():
                    break
            else:
                self.complain(
                    case.name, f"takes {min(taken):.2f} s where the time limit is {limit_s:g} s"
                )

    def complain(self, name: str, words: str) -> NoReturn:
        """Raise the sentence."""
        raise CheckError(f"solver {self.record.name!r}, {name!r}: {words}")

    @property
    def _noun(self) -> str:
        return self.sought.partition(" ")[2]

    def _check_choice(self, case: Case[Problem], answer: Answer) -> None:
        """Check a choice against the limits, its claimed worth and the optimum."""
        try:
            totals = self.totals(case, answer)
        except InputError as error:
            self.complain(case.name, f"gives something that is not {self.sought}: {error}")
        if not totals.feasible:
            self.complain(
                case.name, f"gives {self.sought} that breaks a limit: {totals.violations[0]}"
            )
        claimed = totals.objective if answer.objective is None else answer.objective
        if not abs(claimed - totals.objective) <= case.room:
            self.complain(
                case.name,
                f"claims an objective of {claimed:.9g}, but its {self._noun} is worth "
                f"{totals.objective:.9g}",
            )
        short = case.best is not None and totals.objective < case.best - case.room
        if short and answer.termination is Termination.OPTIMAL:
            self.complain(
                case.name,
                f"claims the optimum {totals.objective:.9g}, but {self.sought} is worth "
                f"{case.best:.9g}",
            )


def _crowding() -> float:
    """How many processes wait for each core, at least 1."""
    waiting = os.getloadavg()[0] if hasattr(os, "getloadavg") else 1.0
    return max(1.0, waiting / (os.cpu_count() or 1))
