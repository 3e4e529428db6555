"""What is asked of a backend, and what it answers."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from hasa_opt._utils.checks import FloatArray, IntArray, whole
from hasa_opt._utils.deadline import UNLIMITED, Deadline, OutOfTime
from hasa_opt.problem.linear import LinearModel
from hasa_opt.problem.problem import AllocationProblem
from hasa_opt.problem.result import Termination, absolute_gap
from hasa_opt.solvers.bounds.dual import Dual, best_prices, promising
from hasa_opt.solvers.bounds.relaxation import Relaxation, relax
from hasa_opt.solvers.bounds.repair import repaired
from hasa_opt.solvers.bounds.site_tree import SiteTree
from hasa_opt.solvers.incumbent import Incumbent

__all__ = ["Answer", "Request", "check_threads"]

_VERIFICATION_S = 5e-8
"""Seconds per width of a client: a tenth of a second for 200,000 clients of ten widths."""
_EARLY_SHARE = 0.1
"""Share of a time limit before its end at which a stop may still be due to it: CBC stops early."""
_DUAL_SHARE = 0.5
"""Share of the time for the best prices; the rest is for an allocation."""


@dataclass(frozen=True)
class Request:
    """What the caller of :func:`hasa_opt.solve` asked for.

    Attributes
    ----------
    problem : AllocationProblem
    time_limit_s : float or None
    gap : float
        Relative gap at which the solver may stop; 0 asks for the optimum.
    warm_start : (n_clients,) int64 or None
        An allocation to start from.
    options : mapping
        Further keyword arguments, for this backend only.
    audited : bool
        Whether a proof of optimality gets a second opinion, see
        :mod:`~hasa_opt.solvers.bounds.audit`.
    deadline : Deadline
        Counted from the making of the request, less what verification will take; what is done
        for the request asks between its steps.
    best : Incumbent
        What is known so far, to this request and to others of the same call.
    """

    problem: AllocationProblem
    time_limit_s: float | None = None
    gap: float = 0.0
    warm_start: IntArray | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    audited: bool = True
    deadline: Deadline = UNLIMITED
    best: Incumbent = field(default_factory=Incumbent)

    def __post_init__(self) -> None:
        if self.deadline == UNLIMITED:
            limit = self.time_limit_s
            if limit is not None:
                limit = max(0.0, limit - _VERIFICATION_S * self.problem.costs.size)
            object.__setattr__(self, "deadline", Deadline.after(limit, self.best.stopped))

    @cached_property
    def tree(self) -> SiteTree | None:
        """The limits as a tree, if they are nested site budgets alone."""
        return SiteTree.of(self.problem, self.deadline)

    @cached_property
    def dual(self) -> Dual | None:
        """Prices of all limits and the bound that they prove; None if the limits conflict."""
        deadline = self.deadline.part(_DUAL_SHARE)
        return best_prices(self.problem, self.tree, deadline, lambda: self.relaxation)

    @cached_property
    def relaxation(self) -> Relaxation:
        """Linear relaxation without the further constraints; computed where it is asked for.

        Raises
        ------
        OutOfTime
            If the deadline passes before it is there.
        """
        return relax(self.problem, self.deadline)

    @cached_property
    def known(self) -> IntArray | None:
        """Best allocation known to the call: at least the warm start or a repaired one; or None."""
        self.offer(self.warm_start, "warm start")
        with suppress(OutOfTime):
            if self.tree is not None and self.tree.feasible:
                self.offer(self.tree.incumbent, "greedy")
            else:
                self.offer(self.relaxation.incumbent, "greedy")
                self.lower(self.relaxation.bound)
            if self.problem.rows and self.tree is None and self.dual is not None:
                self.lower(self.dual.bound)
                self.offer(repaired(self.problem, self.dual, self.deadline), "repair")
        return self.best.choice

    @cached_property
    def start(self) -> IntArray | None:
        """What a backend that takes a start is given; see :attr:`known`."""
        return self.known

    def offer(self, choice: IntArray | None, source: str = "") -> None:
        """Hand over an allocation that was found on the way; by default the backend found it."""
        if choice is not None:
            totals = self.problem.evaluate(choice)
            self.best.take(choice, totals, source or self.best.solver)

    def lower(self, bound: float) -> None:
        """Hand over an upper bound that was proven on the way."""
        self.best.lower(bound)

    def linear_model(self, **more: float) -> LinearModel:
        """Translate the problem, without columns that no optimum needs.

        So a prohibitive utility, too, does not set the scale of the model.

        Parameters
        ----------
        **more : float
            ``largest`` and ``largest_robust`` of :meth:`LinearModel.of`, if the solver tells
            whole numbers apart up to other coefficients.

        Raises
        ------
        OutOfTime
            If the deadline passes before the model is there.
        """
        kept = None
        if self.dual is not None and self.known is not None:
            kept = promising(self.problem, self.dual, self.known)
        return LinearModel.of(self.problem, kept, **more)

    @property
    def stop_reason(self) -> Termination:
        """Why a solver ended that says no more than that it stopped without a proof.

        By the caller, by the time limit, or by another one, of nodes for example, which only an
        option of its own can have set; without any it failed.
        """
        if self.deadline.called_off:
            return Termination.INTERRUPTED
        early = _EARLY_SHARE * (self.time_limit_s or 0.0)
        if self.options and self.deadline.remaining_s > early:
            return Termination.INTERRUPTED
        return Termination.TIME_LIMIT if self.deadline.limited else Termination.FAILED

    @cached_property
    def absolute_gap(self) -> float:
        """A difference in utility that is within the relative gap of any better allocation.

        0 where no feasible allocation is known beforehand or the sign of the optimum is open.
        """
        if self.gap == 0 or self.known is None:
            return 0.0
        bound = self.relaxation.bound if self.dual is None else self.dual.bound
        return absolute_gap(self.gap, self.problem.evaluate(self.known).objective, bound)


def check_threads(options: Mapping[str, Any], name: str = "threads") -> None:
    """Refuse a number of threads that is none; solvers differ in what they make of it.

    Raises
    ------
    InputError
        If it is not a whole number of at least 0.
    """
    if name in options:
        whole(options[name], name)


@dataclass(frozen=True, eq=False)
class Answer:
    """What a backend claims; nothing in it is trusted.

    Attributes
    ----------
    termination : Termination
    choice : (n_clients,) integers or None
    objective : float or None
        The solver's own value of the allocation, in the problem's unit.
    bound : float
        The solver's upper bound; infinity if it has none.
    native : str
        The solver's own status.
    prices : (n_limits,) float64 or None
        Shadow prices behind the bound, in the order of ``problem.limits``; None if the solver
        gives none.
    """

    termination: Termination
    choice: IntArray | None = None
    objective: float | None = None
    bound: float = float("inf")
    native: str = ""
    prices: FloatArray | None = None
