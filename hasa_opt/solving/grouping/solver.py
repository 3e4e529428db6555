"""Solve a partition by any backend, and trust none of them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from math import inf
from typing import Any

import numpy as np

from hasa_opt._utils.checks import IntArray, whole
from hasa_opt._utils.deadline import Deadline, OutOfTime
from hasa_opt._utils.groups import numbered
from hasa_opt.errors import UnsupportedConstraintError
from hasa_opt.problem.result import Termination, relative_gap
from hasa_opt.solvers import registry
from hasa_opt.solvers.base import Answer
from hasa_opt.solvers.incumbent import Incumbent
from hasa_opt.solvers.record import Capability
from hasa_opt.solving.grouping.cuts import broken
from hasa_opt.solving.grouping.local_search import LocalSearch
from hasa_opt.solving.grouping.packing import packed_bound
from hasa_opt.solving.grouping.problem import PartitionProblem
from hasa_opt.solving.grouping.program import PairRequest
from hasa_opt.solving.grouping.relaxation import Relaxation
from hasa_opt.solving.grouping.result import Partition
from hasa_opt.solving.grouping.verdict import verify
from hasa_opt.solving.solver import checked_limits

__all__ = ["partition", "partition_solvers", "solve_partition"]

_GREEDY = "greedy"
_EXACT_CLIENTS = 50
"""Up to so many ``auto`` asks for a proof."""
_RELAXED_CLIENTS = 30
"""Up to so many the heuristic has its bound from the linear relaxation, in a second or two."""
_LIMITED_CLIENTS = 150
"""Up to so many ``auto`` tries for one where the time is limited."""
_MOST_CLIENTS = 1000
"""For backends: a column per pair, half a million."""
_OPTIONS: dict[str, dict[str, Any]] = {"cpsat": {"linearization_level": 2}}
"""CP-SAT makes a clause of a triangle, and then leaves it out of its linear relaxation."""
_HEURISTIC_SHARE = 0.3
"""Of the time limit; the rest is for the bound and the backend."""
_RELAXATION_SHARE = 0.6
"""Of the time that is then left, where a backend is asked after it."""


def partition(
    similarity: Any,
    solver: str = "auto",
    *,
    names: Sequence[str | int] | None = None,
    max_groups: int | None = None,
    max_size: int | None = None,
    time_limit_s: float | None = None,
    gap: float = 0.0,
    seed: int = 0,
) -> Partition:
    """Put clients into groups so that the similarities within groups add up to the most.

    The sum is over the pairs of each group, each counted once; pairs of different groups count 0.
    Clients whose similarity is negative are better apart (correlation clustering, clique
    partitioning; Grötschel and Wakabayashi, A cutting plane algorithm for a clustering problem,
    Mathematical Programming 45, 1989). Whatever stops a call, it ends with a bound that holds.

    Parameters
    ----------
    similarity : (n_clients, n_clients) floats, dense or a scipy sparse matrix
        Symmetric; signed; what is absent in a sparse matrix is 0. The diagonal is ignored.
    solver : str
        ``"greedy"``, the heuristic alone, for tens of thousands of clients; ``"highs"``,
        ``"cpsat"``, ``"scip"``, ``"pulp"`` or ``"cvxpy"``, for a proof; ``"auto"``: HiGHS up to 50
        clients, up to 150 where the time is limited, else the heuristic.
    names : sequence of str or int, optional
        Of the clients. Default: their rows.
    max_groups, max_size : int, optional
        Most groups, and most clients in one. Default: no limit.
    time_limit_s : float, optional
        Seconds of the call, at least 0.
    gap : float
        Relative gap at which a backend may stop; 0 asks for the proven optimum.
    seed : int
        Of the heuristic's restarts.

    Returns
    -------
    Partition

    Raises
    ------
    InputError
        For a value that breaks a rule.
    InfeasibleError
        If ``max_groups`` groups of ``max_size`` do not hold all clients.
    UnknownSolverError, SolverNotInstalledError, UnsupportedConstraintError
        About the choice of the solver.

    Examples
    --------
    >>> import hasa_opt as hasa
    >>> similarity = [[0, 2, -1, -1], [2, 0, -1, -1], [-1, -1, 0, 3], [-1, -1, 3, 0]]
    >>> found = hasa.partition(similarity)
    >>> found.groups.tolist(), found.objective, str(found.termination)
    ([0, 0, 1, 1], 5.0, 'optimal')
    """
    problem = PartitionProblem.of(similarity, names=names, max_groups=max_groups, max_size=max_size)
    return solve_partition(problem, solver, time_limit_s=time_limit_s, gap=gap, seed=seed)


def solve_partition(
    problem: PartitionProblem,
    solver: str = "auto",
    *,
    time_limit_s: float | None = None,
    gap: float = 0.0,
    seed: int = 0,
) -> Partition:
    """:func:`partition` of a problem that is there."""
    started = time.perf_counter()
    limit_s, gap = checked_limits(time_limit_s, gap)
    search = _Search(problem, Deadline.after(limit_s), limit_s, gap, whole(seed, "seed"))
    name = _chosen(problem, solver, limited=limit_s is not None)
    answer, why = search.answered(name)
    best = search.best
    best.solver = name
    verdict = verify(problem, answer, why, search.bound, best)
    return Partition(
        problem=problem,
        groups=_frozen(best),
        objective=best.objective,
        solver=name,
        termination=verdict.termination,
        bound=verdict.bound,
        seconds=time.perf_counter() - started,
        claim_held=verdict.claim_held,
        message=verdict.message,
        incumbent_from=best.source,
        own_objective=verdict.own_objective,
    )


def _frozen(best: Incumbent) -> IntArray:
    """Groups of the best partition, numbered by first appearance."""
    assert best.choice is not None, "the heuristic begins with a partition"
    groups = numbered(best.choice)
    groups.flags.writeable = False
    return groups


def partition_solvers() -> list[str]:
    """Names that :func:`hasa_opt.partition` takes beside ``auto``, installed or not."""
    able = [line.name for line in registry.solvers() if Capability.PARTITION in line.capabilities]
    return [_GREEDY, *able]


def _chosen(problem: PartitionProblem, solver: str, *, limited: bool) -> str:
    """The solver to ask, once it is known that it can be asked.

    Raises
    ------
    SolverError
    """
    if solver == "auto":
        small = len(problem) <= (_LIMITED_CLIENTS if limited else _EXACT_CLIENTS)
        return "highs" if small and registry.find_solver("highs").available else _GREEDY
    record = registry.find_solver(solver)
    if solver not in partition_solvers():
        raise UnsupportedConstraintError(
            f"solver {solver!r} does not solve partitions: choose one of "
            f"{', '.join(partition_solvers())}, or auto"
        )
    if solver != _GREEDY and len(problem) > _MOST_CLIENTS:
        raise UnsupportedConstraintError(
            f"solver {solver!r} has a column for each pair of clients and takes {_MOST_CLIENTS:,} "
            f"clients at most, not {len(problem):,}: choose greedy, or auto"
        )
    record.load()
    return solver


class _Search:
    """One call: what is known so far, and the steps that improve it.

    Attributes
    ----------
    best : Incumbent
    bound : float
        Proven here.
    """

    def __init__(
        self,
        problem: PartitionProblem,
        deadline: Deadline,
        time_limit_s: float | None,
        gap: float,
        seed: int,
    ) -> None:
        self.best = Incumbent()
        self.bound = problem.ceiling
        self._problem = problem
        self._deadline = deadline
        self._limit_s = time_limit_s
        self._gap = gap
        self._heuristic = LocalSearch(problem, self._take, seed, deadline.part(_HEURISTIC_SHARE))

    def answered(self, name: str) -> tuple[Answer, str]:
        """Answer of a solver, and the rule that it breaks; an interruption ends with what is known.

        The choice of the answer are groups.
        """
        self._take(self._heuristic.start())
        try:
            self._heuristic.run()
            self._bounded()
            exact = name != _GREEDY and len(self._problem) > 1
            if not exact and len(self._problem) > _RELAXED_CLIENTS:
                return self._own_answer(), ""
            relaxation = self._relaxed(_RELAXATION_SHARE if exact else 1.0)
            return self._asked(name, relaxation) if exact else (self._own_answer(), "")
        except KeyboardInterrupt:
            return Answer(Termination.INTERRUPTED, native=f"{name}: interrupted"), ""

    def _take(self, groups: IntArray) -> float:
        totals = self._problem.evaluate(groups)
        self.best.take(groups, totals, _GREEDY)
        return totals.objective

    def _bounded(self) -> None:
        assert self.best.choice is not None
        packed = packed_bound(self._problem, self.best.choice, self._deadline)
        self.bound = min(self.bound, packed)

    def _relaxed(self, share: float) -> Relaxation:
        """The linear relaxation, whose optimum is also a start for the heuristic."""
        relaxation = Relaxation(self._problem)
        try:
            relaxation.run(self.best.objective, self._deadline.part(share), self._gap)
        finally:
            self.bound = min(self.bound, relaxation.bound)
        if relaxation.x is not None:
            self._improve(relaxation.rows.pairs.groups(relaxation.x))
        return relaxation

    def _improve(self, groups: IntArray) -> None:
        """Descend from groups that may break limits."""
        with suppress(OutOfTime):
            self._take(self._heuristic.descend(self._heuristic.fitted(groups)))

    def _own_answer(self) -> Answer:
        """What the heuristic and our own bound amount to."""
        gap = relative_gap(self._problem, self.best.objective, self.bound)
        ended = Termination.TIME_LIMIT if self._deadline.passed else Termination.GAP_REACHED
        return Answer(
            Termination.OPTIMAL if gap == 0 else ended,
            self.best.choice,
            self.best.objective,
            self.bound,
            f"relative gap {gap:.2g} to the bound",
        )

    def _asked(self, name: str, relaxation: Relaxation) -> tuple[Answer, str]:
        """A backend's answer to the program, with rows added until its answer is a partition."""
        rows, bound = relaxation.rows, inf
        self.best.solver = name
        while True:
            request = PairRequest(
                self._problem,
                time_limit_s=None if self._limit_s is None else self._deadline.remaining_s,
                gap=self._gap,
                options=_OPTIONS.get(name, {}),
                deadline=self._deadline,
                best=self.best,
                rows=rows,
            )
            answer = registry.ask(name, request)
            bound = min(answer.bound, bound)
            answer = replace(answer, bound=bound)
            if answer.choice is None:
                return answer, ""
            x = np.asarray(answer.choice)
            why = rows.refusal(x)
            if why:
                return answer, why
            groups = rows.pairs.groups(x)
            if np.array_equal(rows.pairs.values(groups), x):
                return replace(answer, choice=groups), ""
            self._improve(groups)
            open_end = replace(answer, choice=None, objective=None)
            if answer.termination not in (Termination.OPTIMAL, Termination.GAP_REACHED):
                return open_end, ""
            try:
                rows.add(broken(self._problem, rows.pairs, x.astype(np.float64), self._deadline))
            except OutOfTime:
                return replace(open_end, termination=Termination.TIME_LIMIT), ""
