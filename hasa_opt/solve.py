"""Solve an allocation problem with any backend, and trust none of them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from math import inf
from typing import Any

import numpy as np
import numpy.typing as npt

from hasa_opt import backend as registry
from hasa_opt.backend import Answer, Capability, Request
from hasa_opt.checks import number
from hasa_opt.clients import Clients, FloatArray, IntArray
from hasa_opt.errors import (
    HasaError,
    InfeasibleError,
    InputError,
    PrecisionError,
    SolverNotInstalledError,
)
from hasa_opt.problem import AllocationProblem
from hasa_opt.result import Allocation, Termination
from hasa_opt.rules import hasa as hasa_rule
from hasa_opt.rules import preliminary_widths
from hasa_opt.verify import verify

__all__ = ["choose_solver", "solve", "solve_continuous"]

_MILP_COLUMNS = 20_000


def solve(
    problem: AllocationProblem,
    solver: str = "auto",
    *,
    time_limit_s: float | None = None,
    gap: float = 0.0,
    fallback: str | Sequence[str] | None = None,
    warm_start: Allocation | npt.ArrayLike | None = None,
    **options: Any,
) -> Allocation:
    """Find the best allocation, and verify it.

    Objective and limits are recomputed in exact integers from the backend's choice, whatever the
    backend says about it; see :class:`hasa_opt.Allocation` for what is reported.

    Parameters
    ----------
    problem : AllocationProblem
    solver : str
        A name from :func:`hasa_opt.solvers`, or ``"auto"``.
    time_limit_s : float, optional
        Seconds that the backend may take; at least 0.
    gap : float
        Relative gap at which the backend may stop; 0 asks for the proven optimum.
    fallback : str or sequence of str, optional
        Solvers to try in turn where the first is not installed or holds no allocation. Which
        ones failed is recorded in ``Allocation.fallback_from``.
    warm_start : Allocation or (n_clients,) integers, optional
        An allocation to start from; a hint that some backends use.
    **options
        For the backend (not for a fallback), for example ``pulp_solver="HiGHS"``.

    Returns
    -------
    Allocation

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
    _check_limits(time_limit_s, gap)
    names = [solver, *([fallback] if isinstance(fallback, str) else fallback or ())]
    names = [own for name in names for own in (_auto(problem) if name == "auto" else [name])]
    for name in names:
        registry.check_constraints(problem, name)
    if not problem.rows:
        problem.check_budget()
    start = _start(problem, warm_start)
    tried: list[str] = []
    for at, name in enumerate(names):
        last = at == len(names) - 1
        own_options = options if at == 0 else {}
        audited = registry.record(name).audited
        request = Request(problem, time_limit_s, gap, start, own_options, audited)
        try:
            result = _solve_once(problem, name, request, tuple(tried))
        except (SolverNotInstalledError, PrecisionError) as error:
            if last:
                raise
            tried.append(f"{name}: {error}")
            continue
        if result.has_solution or last:
            return result
        tried.append(f"{name}: {result.termination}: {result.message}")
    raise AssertionError("unreachable: the last solver returns or raises")


def _auto(problem: AllocationProblem) -> list[str]:
    """What ``"auto"`` stands for, and what it falls back on where that cannot be loaded."""
    chosen = choose_solver(problem)
    return [chosen, "greedy"] if chosen == "exact" else [chosen]


def choose_solver(problem: AllocationProblem) -> str:
    """Name of the solver that ``"auto"`` stands for.

    The exact solver where the budget is the only limit; else HiGHS. Where the exact solver is not
    installed: HiGHS if the problem is small enough for it to end within seconds, else greedy.
    """
    if not problem.rows and registry.record("exact").available:
        return "exact"
    small = int(np.count_nonzero(problem.admissible)) <= _MILP_COLUMNS
    return "highs" if problem.rows or small else "greedy"


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

    Parameters, result and errors as for :func:`hasa_opt.rules.hasa`.

    Raises
    ------
    SolverNotInstalledError
        If CVXPY is absent.
    """
    low, high = widths
    hasa_rule(scores, samples, budget=budget, widths=widths, caps=caps)
    registry.load("cvxpy")
    from hasa_opt.solvers.cvxpy import proportional_fair

    weights = Clients(samples).weights
    wanted = preliminary_widths(scores, widths=widths)
    upper = np.full(wanted.shape, high) if caps is None else np.asarray(caps, dtype=np.float64)
    return proportional_fair(weights * wanted, weights, budget, low, upper)


def _solve_once(
    problem: AllocationProblem, name: str, request: Request, tried: tuple[str, ...]
) -> Allocation:
    engine = registry.load(name)
    started = time.perf_counter()
    try:
        answer = engine.solve(problem, request)
    except KeyboardInterrupt:
        if Capability.INTERRUPT not in registry.record(name).capabilities:
            raise
        answer = Answer(Termination.INTERRUPTED, native="interrupted before an answer")
    except (HasaError, MemoryError):
        raise
    except Exception as error:  # whatever a solver raises, the caller's fallback still runs
        answer = Answer(Termination.FAILED, native=f"{type(error).__name__}: {error}")
    if not isinstance(answer, Answer):
        answer = Answer(Termination.FAILED, native=f"gave a {type(answer).__name__}, no Answer")
    if answer.termination is Termination.INFEASIBLE and answer.choice is None:
        answer = _explained(request, name, answer)
    verdict = verify(problem, answer, request)
    return Allocation(
        problem=problem,
        solver=name,
        termination=verdict.termination,
        bound=verdict.bound,
        price=verdict.price,
        seconds=time.perf_counter() - started,
        claim_held=verdict.claim_held,
        message=verdict.message,
        fallback_from=tried,
        held=verdict.choice,
        evaluation=verdict.found,
    )


def _explained(request: Request, name: str, answer: Answer) -> Answer:
    """Raise if the problem is infeasible; else turn the false claim into what it was.

    CBC calls a model infeasible where its time was up before it found a solution.
    """
    from hasa_opt.diagnose import explain_infeasible

    conflict = explain_infeasible(request.problem)
    if conflict is not None:
        raise InfeasibleError(conflict.message, limits=conflict.limits)
    native = f"{answer.native}; {name} claims infeasible, but a feasible allocation exists"
    limited = request.time_limit_s is not None
    return Answer(Termination.TIME_LIMIT if limited else Termination.OPTIMAL, native=native)


def _check_limits(time_limit_s: float | None, gap: float) -> None:
    limited = time_limit_s is not None and time_limit_s != inf
    if limited and number(time_limit_s, "time_limit_s") < 0:
        raise InputError(f"time_limit_s {time_limit_s} must be at least 0 seconds, or None")
    if not 0 <= number(gap, "gap") < 1:
        raise InputError(f"gap {gap} must lie in [0, 1): 0 asks for the proven optimum")


def _start(
    problem: AllocationProblem, warm_start: Allocation | npt.ArrayLike | None
) -> IntArray | None:
    if warm_start is None:
        return None
    start = warm_start.choice if isinstance(warm_start, Allocation) else np.asarray(warm_start)
    return problem.checked(start)
