"""Solve an allocation problem with any backend, and trust none of them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from math import inf
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from hasa_opt._utils.checks import FloatArray, IntArray, array, expect, number, several
from hasa_opt._utils.deadline import UNLIMITED, Deadline, OutOfTime
from hasa_opt._utils.rational import widest_within
from hasa_opt.clients.clients import Clients
from hasa_opt.errors import InfeasibleError, InputError, PrecisionError, SolverNotInstalledError
from hasa_opt.problem.budgets import Budget
from hasa_opt.problem.condensed import Condensed
from hasa_opt.problem.limits import RobustRow, RowConstraint, is_a
from hasa_opt.problem.matching import by_name, client_options, client_widths
from hasa_opt.problem.problem import AllocationProblem
from hasa_opt.problem.result import Allocation, Termination
from hasa_opt.rules.widths import hasa as hasa_rule
from hasa_opt.rules.widths import preliminary_widths
from hasa_opt.solvers import registry
from hasa_opt.solvers.base import Answer, Request
from hasa_opt.solvers.bounds.programs import Unsolved
from hasa_opt.solvers.incumbent import Incumbent, OnProgress
from hasa_opt.solving.even import even_shares
from hasa_opt.solving.fairness import fairness_of, solve_fairly
from hasa_opt.solving.verdict import Verdict, verify

__all__ = ["checked_limits", "choose_solver", "solve", "solve_continuous", "starting_choice"]


def starting_choice(problem: AllocationProblem, given: Any) -> IntArray:
    """Choice of each client, ``(n_clients,)``, from an allocation or from indices into the menu.

    An allocation is matched by the names of the clients and by its widths: a client starts at the
    width of before or, where the menu has no such width, at the next narrower one. Newcomers, and
    clients for whom no width is that narrow, start at their cheapest width.

    Raises
    ------
    InputError
        If the allocation is for other clients, or if an index breaks a rule.
    """
    if not isinstance(given, Allocation):
        return problem.checked(array(given, "choice"))
    choice = _choice_of_before(problem, given)
    unknown = np.flatnonzero(choice < 0)
    cheapest = problem.costs[unknown] == problem.cheapest[unknown, None]
    choice[unknown] = (cheapest & problem.admissible[unknown]).argmax(axis=1)
    return problem.checked(choice)


def _choice_of_before(problem: AllocationProblem, given: Allocation) -> IntArray:
    """Option of before, or the next narrower width, by client; -1 where there is neither."""
    if by_name(given, problem.menu):
        at = {name: index for index, name in enumerate(problem.menu.names)}
        before = client_options(given, problem.clients, "warm_start")
        return np.array([at.get(name, -1) for name in before], dtype=np.int64)
    widths = client_widths(given, problem.clients, "warm_start", newcomers=True)
    order = np.argsort(problem.widths, kind="stable")
    place = widest_within(problem.widths[order], widths)
    found: IntArray = np.where(np.isnan(widths) | (place < 0), -1, order[place])
    return found


_MILP_COLUMNS = 20_000
"""Admissible widths up to which HiGHS mostly ends within seconds under further limits."""
_PATIENCE_S = 2.0
"""In which it is found out whether groups are in the way."""


def solve(
    problem: AllocationProblem,
    solver: str = "auto",
    *,
    time_limit_s: float | None = None,
    gap: float = 0.0,
    fallback: str | Sequence[str] | None = None,
    warm_start: Allocation | npt.ArrayLike | None = None,
    on_progress: OnProgress | None = None,
    **options: Any,
) -> Allocation:
    """Find the best allocation, and verify it.

    Objective and limits are recomputed in exact integers from the backend's choice, whatever the
    backend says about it; see :class:`hasa_opt.Allocation` for what is reported. Whatever stops a
    backend (time, Ctrl-C, a failure), the best allocation that is known is handed over with a
    bound that holds; ``Allocation.incumbent_from`` says who found it.

    Parameters
    ----------
    problem : AllocationProblem
    solver : str
        A name from :func:`hasa_opt.solvers`, or ``"auto"``.
    time_limit_s : float, optional
        Seconds for each solver that is named, verification included, its import not; at least 0.
        ``"exact"`` keeps it while it is compiled, some fifteen seconds from the first call on.
    gap : float
        Relative gap at which the backend may stop; 0 asks for the proven optimum.
    fallback : str or sequence of str, optional
        Solvers to try in turn where the first is not installed or finds no allocation itself.
        Which ones failed is recorded in ``Allocation.fallback_from``.
    warm_start : Allocation or (n_clients,) integers, optional
        A hint that some backends use. An allocation is matched by the names of clients, widths and
        options. Integers are indices into the menu, by row.
    on_progress : callable, optional
        Called with a :class:`hasa_opt.Progress` whenever a better allocation or bound is known: by
        most backends on the way, by all at their end. True stops; what it raises is raised.
    **options : Any
        For the backend (not for a fallback), for example ``pulp_solver="HiGHS"``.

    Raises
    ------
    InfeasibleError
        If no allocation satisfies the limits, with the cheapest change that would do.
    UnknownSolverError, SolverNotInstalledError, UnsupportedConstraintError
        About the choice of the solver.
    InputError
        For a time limit, a gap, an option or a warm start that breaks a rule.

    Examples
    --------
    >>> import hasa_opt as hasa
    >>> clients = hasa.Clients([100, 100, 200])
    >>> problem = hasa.AllocationProblem.build(
    ...     clients, widths=[0.25, 0.5, 1.0], budget=0.5, utility=hasa.utility.alpha_fair()
    ... )
    >>> result = hasa.solve(problem, "highs")
    >>> result.widths.tolist(), str(result.termination)
    ([0.5, 0.5, 0.5], 'optimal')
    """
    expect(problem, AllocationProblem, "problem")
    limit_s, gap = checked_limits(time_limit_s, gap)
    small = Condensed.of(problem)
    turns = _turns(small.problem, solver, fallback, limited=limit_s is not None)
    for turn in turns:
        registry.check_constraints(problem, turn.name)
    start = None if warm_start is None else starting_choice(problem, warm_start)
    if on_progress is not None and not callable(on_progress):
        raise InputError(f"on_progress {on_progress!r} cannot be called: give a function")
    asked = Request(
        small.problem,
        limit_s,
        gap,
        None if start is None else small.condensed(start),
        options,
        best=Incumbent(on_progress),
    )
    if start is None and small.shares_room:
        asked.offer(even_shares(small, asked.deadline), "even shares")
    return _for_everybody(problem, small, turns, asked)


def _for_everybody(
    problem: AllocationProblem, small: Condensed, turns: Sequence[_Turn], asked: Request
) -> Allocation:
    """Solve for groups that move together, and say what that means for each client."""
    try:
        return small.allocation(_begun(turns, asked))
    except InfeasibleError as error:
        if small.problem is problem:
            raise
        raise _in_groups(problem, error) from None


def _begun(turns: Sequence[_Turn], asked: Request) -> Allocation:
    if not asked.problem.rows:
        asked.problem.check_budget()
    if asked.best.watched:
        asked.best.lower(asked.problem.ceiling)
    return _first_found(turns, asked)


class _Turn(NamedTuple):
    """A solver to try, and whether only in what the one before left of the time."""

    name: str
    shares: bool = False


def _turns(
    problem: AllocationProblem,
    solver: str,
    fallback: str | Sequence[str] | None,
    limited: bool,
) -> list[_Turn]:
    """Solvers to try in turn."""
    turns = []
    for name in (solver, *several(() if fallback is None else fallback, "fallback")):
        meant = _auto(problem, limited) if isinstance(name, str) and name == "auto" else [name]
        turns += [_Turn(own, at > 0) for at, own in enumerate(meant)]
    return turns


def _first_found(turns: Sequence[_Turn], asked: Request) -> Allocation:
    """Result of the first solver that finds an allocation; else the last one that there is."""
    best, tried = asked.best, dict[str, str]()
    until, result, failure = UNLIMITED, None, None
    for turn in turns:
        best.solver = turn.name
        try:
            registry.load(turn.name)
            if not turn.shares:
                until = Deadline.after(asked.time_limit_s)
            request = replace(
                asked,
                time_limit_s=until.remaining_s if until.limited else None,
                options={} if tried else asked.options,
                audited=registry.find_solver(turn.name).audited or bool(asked.problem.rows),
                deadline=UNLIMITED,
            )
            result = _solve_fairly_or_not(turn.name, request, _lines(tried))
        except (SolverNotInstalledError, PrecisionError) as error:
            failure, tried[turn.name] = error, str(error)
            continue
        if best.error is not None:
            raise best.error
        if result.own_objective is not None or result.termination is Termination.INTERRUPTED:
            return result
        tried[turn.name] = f"{result.termination}: {result.message}"
    if failure is not None and (result is None or not result.has_solution):
        raise failure
    assert result is not None, "a turn ends with a result or a failure"
    tried.pop(result.solver, None)
    return replace(result, fallback_from=_lines(tried))


def _lines(tried: dict[str, str]) -> tuple[str, ...]:
    return tuple(f"{name}: {why}" for name, why in tried.items())


def _solve_fairly_or_not(name: str, request: Request, tried: tuple[str, ...]) -> Allocation:
    """Solve once, or stage by stage where the poorest client comes first."""
    if fairness_of(request.problem) is None:
        return _solve_once(name, request, tried)
    return solve_fairly(_solve_once, name, request, tried)


def _auto(problem: AllocationProblem, limited: bool) -> list[str]:
    """What ``"auto"`` stands for, and what it falls back on where that cannot be loaded."""
    chosen = choose_solver(problem, limited)
    spares = ("greedy", "highs") if chosen == "exact" else ()
    return [chosen, *(name for name in spares if registry.supports(problem, name))][:2]


def choose_solver(problem: AllocationProblem, limited: bool = False) -> str:
    """Name of the solver that ``"auto"`` stands for.

    The exact solver where the budget is the only limit, robust or not, where HiGHS would not end
    within seconds, and, if the time is limited, under several budgets, where it comes nearer to
    the optimum; else HiGHS, which goes on to the proof under further limits. Where neither is
    installed or able: greedy.
    """
    able = [
        name
        for name in ("exact", "highs")
        if registry.find_solver(name).available and registry.supports(problem, name)
    ]
    small = int(np.count_nonzero(problem.admissible)) <= _MILP_COLUMNS
    plain = all(isinstance(row, RobustRow) for row in problem.rows)
    stating = [item for item in problem.constraints if isinstance(item, RowConstraint)]
    several = limited and all(is_a(item, Budget) for item in stating)
    if "exact" in able and (plain or several or not small or "highs" not in able):
        return "exact"
    return "highs" if "highs" in able and (problem.rows or small) else "greedy"


def solve_continuous(
    scores: npt.ArrayLike,
    samples: npt.ArrayLike,
    *,
    budget: float = 0.5,
    widths: tuple[float, float] = (0.2, 0.8),
    caps: npt.ArrayLike | None = None,
) -> FloatArray:
    """HASA's widths as the optimum of a concave program, solved by CVXPY and Clarabel.

    Maximise ``sum_i w_i q_i log r_i`` with ``sum_i w_i r_i <= B`` and ``r_min <= r_i <= cap_i``.
    Its optimum is :func:`hasa_opt.rules.hasa` with ``passes="exact"``, which is faster and more
    precise; this is the independent check, and the place to start for a program of your own.

    Parameters
    ----------
    scores : (n_clients,) floats
    samples : (n_clients,) integers
    budget : float
    widths : (r_min, r_max)
    caps : (n_clients,) floats, optional
        All as for :func:`hasa_opt.rules.hasa`.

    Returns
    -------
    (n_clients,) float64

    Raises
    ------
    SolverNotInstalledError
        If CVXPY is absent.
    InputError, InfeasibleError
        As for :func:`hasa_opt.rules.hasa`.
    """
    low, high = widths
    hasa_rule(scores, samples, budget=budget, widths=widths, caps=caps)
    registry.load("cvxpy")
    from hasa_opt.solvers.cvxpy import proportional_fair

    weights = Clients(samples).weights
    wanted = preliminary_widths(scores, widths=widths)
    upper = np.full(wanted.shape, high) if caps is None else np.asarray(caps, dtype=np.float64)
    return proportional_fair(weights * wanted, weights, budget, low, upper)


def _solve_once(name: str, request: Request, tried: tuple[str, ...]) -> Allocation:
    started = time.perf_counter()
    verdict = _judged(name, request)
    own, best, only_given = verdict.found, request.best, False
    if own is not None and verdict.choice is not None:
        given = request.start if "start" in vars(request) else request.warm_start
        only_given = given is not None and np.array_equal(verdict.choice, given)
        best.take(verdict.choice, own, name)
    best.lower(verdict.bound)
    best.stopped()
    verdict = verdict.with_incumbent(request.problem, best)
    if verdict.termination is Termination.TIME_LIMIT and best.interrupted:
        verdict = replace(verdict, termination=Termination.INTERRUPTED)
    proven = verdict.termination is Termination.OPTIMAL
    return Allocation(
        problem=request.problem,
        solver=name,
        termination=verdict.termination,
        bound=verdict.bound,
        prices=verdict.prices,
        seconds=time.perf_counter() - started,
        claim_held=verdict.claim_held,
        message=verdict.message,
        fallback_from=tried,
        held=verdict.choice,
        totals=verdict.found,
        incumbent_from=verdict.source or name,
        own_objective=own.objective if own is not None and (proven or not only_given) else None,
    )


def _judged(name: str, request: Request) -> Verdict:
    """What is left of a backend's answer; of none where it failed or was stopped."""
    best = request.best
    try:
        answer = registry.ask(name, request)
        if answer.termination is Termination.INFEASIBLE and answer.choice is None:
            answer = _explained(request, name, answer)
        return verify(request.problem, answer, request)
    except PrecisionError as error:
        if request.known is None:
            raise
        answer = Answer(Termination.FAILED, native=str(error))
    except KeyboardInterrupt:
        if best.choice is None:
            raise
        best.interrupted = True
        answer = Answer(Termination.INTERRUPTED, native=f"{name}: interrupted")
    return verify(request.problem, answer, request)


def _explained(request: Request, name: str, answer: Answer) -> Answer:
    """Raise if the problem is infeasible; else turn the false claim into what it was.

    CBC calls a model infeasible where its time was up before it found a solution.
    """
    from hasa_opt.solving.infeasible import counterexample

    deadline = request.deadline
    if request.best.choice is None:
        try:
            found = deadline.wait_for(lambda: counterexample(request.problem, deadline))
        except OutOfTime:
            ended = Termination.at(deadline)
            native = f"{answer.native}; stopped ({ended}) before it was confirmed to be infeasible"
            return Answer(ended, native=native)
        except Unsolved as error:
            return Answer(Termination.FAILED, native=f"{answer.native}; not confirmed: {error}")
        request.offer(found, "search")
    native = f"{answer.native}; {name} claims infeasible, but a feasible allocation exists"
    limited = request.time_limit_s is not None
    return Answer(Termination.TIME_LIMIT if limited else Termination.OPTIMAL, native=native)


def _in_groups(problem: AllocationProblem, error: InfeasibleError) -> InfeasibleError:
    """What is known of the problem of groups, in words about the problem as it was given."""
    from hasa_opt.solving.infeasible import Conflict, in_groups

    known = Conflict(error.limits, str(error))
    conflict = in_groups(problem, known, Deadline.after(_PATIENCE_S))
    return InfeasibleError(conflict.message, limits=conflict.limits)


def checked_limits(time_limit_s: float | None, gap: float) -> tuple[float | None, float]:
    """Time limit and gap of a call; no limit where it is infinite.

    Raises
    ------
    InputError
        For one that breaks a rule.
    """
    limit_s = None if time_limit_s is None else number(time_limit_s, "time_limit_s", infinite=True)
    if limit_s is not None and limit_s < 0:
        raise InputError(f"time_limit_s {time_limit_s} must be at least 0 seconds, or None")
    relative = number(gap, "gap")
    if not 0 <= relative < 1:
        raise InputError(f"gap {gap} must lie in [0, 1): 0 asks for the proven optimum")
    return None if limit_s == inf else limit_s, relative
