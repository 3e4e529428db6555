"""CVXPY: the integer program through HiGHS, the continuous one through Clarabel."""

from __future__ import annotations

import warnings
from functools import partial
from typing import Any

import cvxpy as cp
import numpy as np

from hasa_opt._utils.checks import FloatArray
from hasa_opt._utils.registry import Registry
from hasa_opt.errors import HasaError, InputError
from hasa_opt.problem.linear import LinearModel
from hasa_opt.problem.problem import AllocationProblem
from hasa_opt.problem.result import Termination
from hasa_opt.solvers.base import Answer, Request, check_threads
from hasa_opt.solvers.bounds.programs import own_threads

__all__ = ["TERMINATIONS", "CvxpyBackend", "proportional_fair"]

TERMINATIONS = Registry(
    "statuses.cvxpy",
    {
        cp.OPTIMAL: Termination.OPTIMAL,
        cp.OPTIMAL_INACCURATE: Termination.FAILED,
        cp.INFEASIBLE: Termination.INFEASIBLE,
        cp.INFEASIBLE_INACCURATE: Termination.FAILED,
        cp.USER_LIMIT: Termination.TIME_LIMIT,
    },
)
"""Native status to termination; every other status is FAILED."""


class CvxpyBackend:
    """CVXPY's modelling layer with HiGHS as its solver.

    Canonicalisation dominates: seconds and more than a gigabyte at 100,000 clients. At a user
    limit CVXPY may hand back an all-zero ``x``, which stands for no solution and is dropped.

    Under a time limit CVXPY runs in a thread, which is left behind at the limit: nothing stops
    its canonicalisation, nor HiGHS' presolve. It goes on in the background until it ends.
    """

    def solve(self, problem: AllocationProblem, request: Request) -> Answer:
        """Solve; further options go to HiGHS by their own names."""
        check_threads(request.options)
        model = request.linear_model()
        n_choices = model.client.size
        chosen = cp.Variable(n_choices, boolean=True)
        x = _columns(model, chosen)
        program = cp.Problem(cp.Maximize(model.objective[:n_choices] @ chosen), _rows(model, x))
        gap = request.absolute_gap / model.scale
        options = {"mip_rel_gap": 0.0, "mip_abs_gap": gap, **request.options}
        if request.time_limit_s is not None:
            options["time_limit"] = request.deadline.remaining_s
        try:
            solved = request.deadline.wait_for(partial(_solved, program, options))
            with warnings.catch_warnings():
                # At a limit CVXPY warns; the status says the same and the answer is verified.
                warnings.simplefilter("ignore", UserWarning)
                program.unpack_results(*solved)
        except cp.error.SolverError as error:
            return Answer(Termination.FAILED, native=f"CVXPY: {error}")
        except ValueError as error:
            raise InputError(f"CVXPY's HiGHS refuses an option: {error}") from error
        return _answer(program, x, model, gap, request)


def _columns(model: LinearModel, chosen: cp.Variable) -> cp.Expression:
    """The choices, what belongs to robust limits, and carries; the latter are whole numbers."""
    further = model.integral[model.client.size :]
    parts = [chosen]
    if not further.all():
        parts.append(cp.Variable(np.count_nonzero(~further), nonneg=True))
    if further.any():
        parts.append(cp.Variable(np.count_nonzero(further), integer=True, nonneg=True))
    return cp.hstack(parts) if len(parts) > 1 else chosen


def _solved(program: cp.Problem, options: dict[str, Any]) -> tuple[Any, ...]:
    """The part of ``program.solve`` that takes time and warns of nothing, wherever it runs."""
    data, chain, inverse = program.get_problem_data(cp.HIGHS)
    with own_threads():
        return chain.solve_via_data(program, data, solver_opts=options), chain, inverse


def _rows(model: LinearModel, x: cp.Expression) -> list[cp.Constraint]:
    equal = np.flatnonzero(model.lower == model.upper)
    rows = [model.matrix[equal] @ x == model.upper[equal]]
    below = np.flatnonzero(np.isfinite(model.upper) & (model.lower != model.upper))
    above = np.flatnonzero(np.isfinite(model.lower) & (model.lower != model.upper))
    if below.size:
        rows.append(model.matrix[below] @ x <= model.upper[below])
    if above.size:
        rows.append(model.matrix[above] @ x >= model.lower[above])
    return rows


def termination(status: str, request: Request) -> Termination:
    """Map CVXPY's status, which does not tell a limit of time from one of nodes."""
    ended = TERMINATIONS.get(status, Termination.FAILED)
    return request.stop_reason if ended is Termination.TIME_LIMIT else ended


def _answer(
    program: cp.Problem, x: cp.Expression, model: LinearModel, gap: float, request: Request
) -> Answer:
    ended = termination(program.status, request)
    native = f"CVXPY HIGHS: {program.status}"
    if x.value is None or not model.holds_choice(x.value):
        return Answer(ended, native=native)
    value = float(model.objective @ x.value)
    proven = ended is Termination.OPTIMAL
    bound = value + gap if proven else float("inf")
    return Answer(ended, model.choice(x.value), model.utility(value), model.utility(bound), native)


def proportional_fair(
    weights: FloatArray, costs: FloatArray, budget: float, low: float, upper: FloatArray
) -> FloatArray:
    """Maximise ``sum_i weights_i log r_i`` with ``costs @ r <= budget``, ``low <= r <= upper``.

    A concave program over the exponential cone, solved by Clarabel.

    Parameters
    ----------
    weights, costs, upper : (n_clients,) float64
        Weights and costs greater than 0.

    Returns
    -------
    (n_clients,) float64
    """
    r = cp.Variable(weights.size)
    scaled = weights / weights.sum()
    program = cp.Problem(
        cp.Maximize(scaled @ cp.log(r)), [costs @ r <= budget, r >= low, r <= upper]
    )
    tolerances = dict.fromkeys(("tol_gap_abs", "tol_gap_rel", "tol_feas"), 1e-11)
    try:
        with warnings.catch_warnings():
            # Where rounding stops it short of these tolerances, Clarabel's result is good to 1e-8.
            warnings.simplefilter("ignore", UserWarning)
            program.solve(solver=cp.CLARABEL, **tolerances)
    except cp.error.SolverError as error:
        raise HasaError(f"Clarabel failed on the continuous program: {error}") from error
    if program.status not in (cp.OPTIMAL, cp.OPTIMAL_INACCURATE):
        raise InputError(f"the continuous program is {program.status}")
    return np.asarray(np.clip(r.value, low, upper))
