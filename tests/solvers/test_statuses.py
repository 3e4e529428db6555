"""Every native status of every solver is mapped, and none of them passes for a proof by mistake."""

from __future__ import annotations

import itertools
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import cvxpy
import highspy
import numpy as np
import pulp
import pytest
from support.hard_problems import hard, large, stubborn, trap

import hasa_opt as hasa
from hasa_opt import Termination, solve
from hasa_opt.problem.linear import LinearModel
from hasa_opt.solvers import cvxpy as cvxpy_backend
from hasa_opt.solvers import highs as highs_backend
from hasa_opt.solvers import pulp as pulp_backend
from hasa_opt.solvers.base import Request

HIGHS = {
    "kNotset": Termination.FAILED,
    "kLoadError": Termination.FAILED,
    "kModelError": Termination.FAILED,
    "kPresolveError": Termination.FAILED,
    "kSolveError": Termination.FAILED,
    "kPostsolveError": Termination.FAILED,
    "kModelEmpty": Termination.FAILED,
    "kOptimal": Termination.OPTIMAL,
    "kInfeasible": Termination.INFEASIBLE,
    "kUnboundedOrInfeasible": Termination.FAILED,
    "kUnbounded": Termination.FAILED,
    "kObjectiveBound": Termination.FAILED,
    "kObjectiveTarget": Termination.FAILED,
    "kTimeLimit": Termination.TIME_LIMIT,
    "kIterationLimit": Termination.FAILED,
    "kUnknown": Termination.FAILED,
    "kSolutionLimit": Termination.FAILED,
    "kInterrupt": Termination.INTERRUPTED,
    "kMemoryLimit": Termination.FAILED,
    "kHighsInterrupt": Termination.FAILED,
}
CVXPY = {
    "optimal": Termination.OPTIMAL,
    "optimal_inaccurate": Termination.FAILED,
    "infeasible": Termination.INFEASIBLE,
    "infeasible_inaccurate": Termination.FAILED,
    "unbounded": Termination.FAILED,
    "unbounded_inaccurate": Termination.FAILED,
    "infeasible_or_unbounded": Termination.FAILED,
    "user_limit": Termination.TIME_LIMIT,
    "solver_error": Termination.FAILED,
    "UNKNOWN": Termination.FAILED,
}


def test_every_status_of_highs_is_listed_and_mapped():
    found = dict(highspy.HighsModelStatus.__members__)
    assert set(found) <= set(HIGHS), "a status that this table does not know"
    for name, status in found.items():
        mapped = highs_backend.TERMINATIONS.get(status.name, Termination.FAILED)
        assert mapped is HIGHS[name], name


def test_every_status_of_cvxpy_is_listed_and_mapped():
    settings = cvxpy.settings
    groups = (settings.SOLUTION_PRESENT, settings.INF_OR_UNB, settings.ERROR, settings.INACCURATE)
    found = {status for group in groups for status in group} | {settings.UNKNOWN}
    assert found <= set(CVXPY), "a status that this table does not know"
    for status in found:
        assert cvxpy_backend.termination(status, limited=True) is CVXPY[status], status
        unlimited = cvxpy_backend.termination(status, limited=False)
        limit = status == "user_limit"
        assert unlimited is (Termination.FAILED if limit else CVXPY[status])


def test_every_pair_of_pulps_statuses_is_mapped():
    assert set(pulp.LpStatus) == {-3, -2, -1, 0, 1}
    assert set(pulp.LpSolution) == {-2, -1, 0, 1, 2}
    for limit in (None, 1.0):
        request = Request(trap(), time_limit_s=limit)
        for status, solution in itertools.product(pulp.LpStatus, pulp.LpSolution):
            if (status, solution) == (1, 1):
                wanted = Termination.OPTIMAL
            elif -1 in (status, solution):
                wanted = Termination.INFEASIBLE
            elif status in (0, 1) and limit is not None:
                wanted = Termination.TIME_LIMIT
            else:
                wanted = Termination.FAILED
            assert pulp_backend.termination(status, solution, request) is wanted


# -------------------------------------------------------------------- the published false answers


def test_pulps_optimal_that_is_a_time_limit_is_not_believed(monkeypatch):
    """PuLP sets the status Optimal where CBC was stopped on time with an incumbent."""

    def cut_off(program, solver):
        program.status, program.sol_status = (
            pulp.LpStatusOptimal,
            pulp.LpSolutionIntegerFeasible,
        )
        for column, value in zip(program.variables(), [0, 1, 1, 0, 1, 0], strict=True):
            column.varValue = value

    monkeypatch.setattr(pulp.LpProblem, "solve", cut_off)
    monkeypatch.setattr(
        LinearModel, "of", classmethod(lambda cls, problem, kept=None: _whole(problem))
    )
    result = solve(trap(), "pulp", time_limit_s=5)
    assert "Optimal" in result.message
    assert result.termination is Termination.TIME_LIMIT
    assert result.objective == 7
    assert result.bound == pytest.approx(11)


_original = LinearModel.of


def _whole(problem):
    """The model with every column, so that the test knows what each stands for."""
    return _original(problem)


def test_cvxpys_all_zero_vector_is_no_allocation(monkeypatch):
    """At a limit without an incumbent CVXPY hands back x = 0, status user_limit."""

    def cut_off(program, *solved):
        program._status = cvxpy.USER_LIMIT
        for variable in program.variables():
            variable.value = np.zeros(variable.shape)

    monkeypatch.setattr(cvxpy.Problem, "unpack_results", cut_off)
    result = solve(trap(), "cvxpy", time_limit_s=5)
    assert result.own_objective is None
    assert result.termination is Termination.TIME_LIMIT


@pytest.mark.slow
def test_highs_default_gap_is_asked_to_be_zero():
    problem = hard()
    default = highspy.Highs().getOptionValue("mip_rel_gap")[1]
    assert default == 1e-4
    solver = highspy.Highs()
    highs_backend._set_options(solver, Request(problem), LinearModel.of(problem))
    assert solver.getOptionValue("mip_rel_gap")[1] == 0
    assert solver.getOptionValue("mip_abs_gap")[1] == 0
    for seed in range(6):
        loose = solve(hard(seed=seed), "highs", mip_rel_gap=default)
        assert "HiGHS: Optimal" in loose.message
        if loose.gap > 0:
            break
    assert loose.gap > 0
    assert loose.termination is Termination.GAP_REACHED


# ------------------------------------------------------------------------------------- real runs


@pytest.mark.parametrize("solver", ["highs", "pulp", "cvxpy"])
def test_a_limit_cuts_off_with_an_incumbent(solver):
    problem = large(2000)
    solve(problem, solver, time_limit_s=0.01)  # warm
    for limit in (0.03, 0.06, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5):
        result = solve(problem, solver, time_limit_s=limit)
        if result.has_solution and result.termination is Termination.TIME_LIMIT:
            break
    else:
        pytest.skip("this machine is too fast or too slow for all of these limits")
    assert result.claim_held
    assert problem.evaluate(result.choice).feasible
    assert result.objective < result.bound < np.inf


@contextmanager
def ctrl_c_after(seconds: float) -> Iterator[None]:
    timer = threading.Timer(seconds, signal.raise_signal, [signal.SIGINT])
    timer.start()
    try:
        yield
    finally:
        timer.cancel()  # where the solver was done before: the test fails, the test run goes on


def test_ctrl_c_ends_highs_with_what_it_has():
    started = time.perf_counter()
    with ctrl_c_after(1.5):
        result = solve(stubborn(), "highs", time_limit_s=60)
    assert time.perf_counter() - started < 10
    assert result.termination is Termination.INTERRUPTED, result.message


@pytest.mark.parametrize("solver", ["pulp", "cvxpy"])
def test_ctrl_c_ends_the_others_with_what_is_known(solver):
    with ctrl_c_after(0.5):
        result = solve(stubborn(), solver, time_limit_s=2)
    assert result.termination is Termination.INTERRUPTED
    assert result.incumbent_from != solver


def test_a_failing_solver_gives_no_answer_under_a_limit(monkeypatch):
    def broken(program, solver):
        raise pulp.PulpSolverError("no licence")

    monkeypatch.setattr(pulp.LpProblem, "solve", broken)
    result = solve(trap(), "pulp", time_limit_s=5)
    assert result.termination is Termination.FAILED
    assert "no licence" in result.message
    assert isinstance(result, hasa.Allocation)
