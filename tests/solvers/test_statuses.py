"""Every native status of every solver is mapped, and none of them passes for a proof by mistake."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import cvxpy
import highspy
import numpy as np
import pulp
import pytest
from support.hard_problems import hard, large, stubborn, trap

import hasa_opt as hasa
from hasa_opt import Termination, solve
from hasa_opt.errors import InputError
from hasa_opt.problem.linear import LinearModel
from hasa_opt.solvers import cvxpy as cvxpy_backend
from hasa_opt.solvers import highs as highs_backend
from hasa_opt.solvers import pulp as pulp_backend
from hasa_opt.solvers import registry
from hasa_opt.solvers.base import Request
from hasa_opt.solvers.bounds.programs import silent_highs

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
    "kSolutionLimit": Termination.INTERRUPTED,
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
        for request, wanted in STOPPED:
            limit = status == "user_limit"
            mapped = cvxpy_backend.termination(status, request)
            assert mapped is (wanted if limit else CVXPY[status])


STOPPED = (
    (Request(trap()), Termination.FAILED),
    (Request(trap(), time_limit_s=60), Termination.TIME_LIMIT),
    (Request(trap(), options={"nodes": 1}), Termination.INTERRUPTED),
    (Request(trap(), time_limit_s=0, options={"nodes": 1}), Termination.TIME_LIMIT),
    (Request(trap(), time_limit_s=1e6, options={"nodes": 1}), Termination.INTERRUPTED),
)
"""What a stop without a proof is put down to."""


def test_a_stop_without_a_proof_is_put_down_to_the_limit_that_can_have_caused_it():
    for request, wanted in STOPPED:
        assert request.stop_reason is wanted


PULP_3 = {
    *itertools.product(
        ("Optimal", "Not Solved", "Infeasible", "Unbounded", "Undefined"),
        (
            "Optimal Solution Found",
            "Solution Found",
            "No Solution Found",
            "No Solution Exists",
            "Solution is Unbounded",
        ),
    )
}
PULP_4 = {
    "NotSolved": Termination.FAILED,
    "Optimal": Termination.OPTIMAL,
    "Infeasible": Termination.INFEASIBLE,
    "Unbounded": Termination.FAILED,
    "Undefined": Termination.FAILED,
    "TimeLimit": Termination.TIME_LIMIT,
    "MemoryLimit": Termination.FAILED,
    "NodeLimit": Termination.INTERRUPTED,
    "GapLimit": Termination.GAP_REACHED,
    "IterationLimit": Termination.FAILED,
    "SolutionLimit": Termination.INTERRUPTED,
    "Interrupted": Termination.INTERRUPTED,
    "Stopped": None,
    "NumericalError": Termination.FAILED,
}


def test_every_pair_of_the_statuses_of_pulp_3_is_mapped():
    for request, stopped in STOPPED:
        for status, solution in PULP_3:
            if (status, solution) == ("Optimal", "Optimal Solution Found"):
                wanted = Termination.OPTIMAL
            elif status == "Infeasible" or solution == "No Solution Exists":
                wanted = Termination.INFEASIBLE
            else:
                wanted = stopped if status in ("Optimal", "Not Solved") else Termination.FAILED
            assert pulp_backend.termination(f"{status}, {solution}", request) is wanted


def test_every_status_of_pulp_4_is_mapped():
    for request, stopped in STOPPED:
        for status, wanted in PULP_4.items():
            mapped = pulp_backend.termination(status, request)
            assert mapped is (stopped if wanted is None else wanted), status


def test_these_are_the_statuses_of_the_pulp_that_is_installed():
    if hasattr(pulp, "LpSolveStatus"):
        assert {status.name for status in pulp.LpSolveStatus} == set(PULP_4)
    else:
        pairs = itertools.product(pulp.LpStatus.values(), pulp.LpSolution.values())
        assert set(pairs) == PULP_3


# ------------------------------------------------------------------------- limits but that of time

LIMITED = {
    "highs": {"mip_max_nodes": 0},
    "scip": {"limits/nodes": 1},
    "cpsat": {"max_number_of_conflicts": 1},
    "cvxpy": {"mip_max_nodes": 0},
    "pulp": {"maxNodes": 1, "pulp_solver": "SCIP_PY"},
    "pulp CBC": {"maxNodes": 1},
    "pulp HiGHS": {"mip_max_nodes": 0, "pulp_solver": "HiGHS"},
}


@pytest.mark.slow
@pytest.mark.parametrize("limit", [None, 60])
@pytest.mark.parametrize("case", LIMITED)
def test_a_limit_among_the_options_interrupts_with_the_incumbent(case, limit):
    solver, _, program = case.partition(" ")
    if not registry.find_solver(solver).available:
        pytest.skip("not installed")
    if program == "CBC" and "COIN_CMD" not in solve(trap(), "pulp").message:
        pytest.skip("PuLP has no CBC here")
    problem = stubborn()
    result = solve(problem, solver, time_limit_s=limit, **LIMITED[case])
    assert result.termination is Termination.INTERRUPTED, result.message
    assert problem.evaluate(result.choice).feasible
    assert 0 < result.gap < np.inf


def test_highs_counts_an_allocation_to_start_from_at_its_value():
    caps = (0.8, 0.26621703, 0.73980005, 0.33362902, 0.8, 0.7862166)
    scores = (0.280749, 0.90075293, 0.98711952, 0.22341228, 0.18435849, 0.90878744)
    problem = hasa.AllocationProblem.build(
        hasa.Clients([1510, 110, 2611, 2759, 1765, 2194], max_width=caps),
        widths=np.arange(20, 81) / 100,
        budget=0.6553482059844411,
        utility=hasa.utility.hasa(scores, widths=(0.2, 0.8)),
    )
    result = solve(problem, "highs")
    assert result.termination is Termination.OPTIMAL, result.message
    assert result.claim_held


@pytest.mark.parametrize(
    ("solver", "options"), [("highs", {}), ("cvxpy", {}), ("pulp", {"pulp_solver": "HiGHS"})]
)
def test_any_number_of_threads_after_any_other_run_of_highs(solver, options):
    for threads in (2, 1, 2):
        theirs = silent_highs()  # a caller's own, in the thread that all of this runs in
        theirs.setOptionValue("output_flag", False)
        theirs.setOptionValue("threads", 3 - threads)
        theirs.addVar(0, 1)
        theirs.changeColIntegrality(0, highspy.HighsVarType.kInteger)
        theirs.run()
        result = solve(trap(), solver, threads=threads, **options)
        assert result.termination is Termination.OPTIMAL, result.message
        highspy.Highs.resetGlobalScheduler(True)


# -------------------------------------------------------------------- the published false answers


@pytest.mark.skipif(hasattr(pulp, "LpSolveStatus"), reason="PuLP 4 says what it means")
def test_pulps_optimal_that_is_a_time_limit_is_not_believed(monkeypatch):
    """PuLP 3.3 sets the status Optimal where CBC was stopped on time with an incumbent."""

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


@pytest.mark.parametrize("threads", ["two", -1, True, 2.5, None])
@pytest.mark.parametrize(
    ("solver", "name", "options"),
    [
        ("highs", "threads", {}),
        ("pulp", "threads", {}),
        ("pulp", "threads", {"pulp_solver": "HiGHS"}),
        ("cvxpy", "threads", {}),
        ("cpsat", "num_workers", {}),
    ],
)
def test_threads_are_a_whole_number(solver, name, options, threads):
    with pytest.raises(InputError, match=f"{name} {threads!r} must be a whole number of at least"):
        solve(trap(), solver, **options, **{name: threads})


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


INTERRUPTED_SOLVE = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.path.insert(0, {tests!r})
from support.hard_problems import stubborn
import hasa_opt as hasa
print("ready", flush=True)
result = hasa.solve(stubborn(), "pulp", time_limit_s={limit})
print(result.termination, flush=True)
sys.stdin.read()
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="children are listed on Linux")
@pytest.mark.parametrize("limit", [None, 60])
def test_cbc_does_not_outlive_the_call_that_is_interrupted(limit, tmp_path):
    code = INTERRUPTED_SOLVE.format(tests=str(Path(__file__).parents[1]), limit=limit)
    with subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"TMPDIR": str(tmp_path)},
    ) as python:
        try:
            assert python.stdout.readline() == "ready\n"
            assert _until(lambda: "cbc" in "".join(_children(python.pid).values()), 30)
            os.kill(python.pid, signal.SIGINT)  # to Python alone, as a scheduler does
            assert python.stdout.readline() == "interrupted\n"
            assert _until(lambda: not _children(python.pid), 5)
            assert _until(lambda: not list(tmp_path.iterdir()), 5)
        finally:
            for child in _children(python.pid):
                os.kill(child, signal.SIGKILL)
            python.kill()


def test_cbc_ends_where_the_caller_stops_the_solve():
    seen = []

    def stop(news) -> bool:
        seen.append(news)
        return news.incumbent is not None

    threads = threading.active_count()
    result = solve(stubborn(), "pulp", on_progress=stop)
    assert result.termination is Termination.INTERRUPTED
    assert seen
    assert _until(lambda: threading.active_count() == threads, 5)


def _until(holds: Callable[[], bool], seconds: float) -> bool:
    """Whether something holds within so many seconds."""
    ends = time.monotonic() + seconds
    while not holds() and time.monotonic() < ends:
        time.sleep(0.02)
    return holds()


def _children(pid: int) -> dict[int, str]:
    """Command line of each of the processes that a process has started, by any of its threads."""
    found = {}
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            for child in children.read_text().split():
                found[int(child)] = Path(f"/proc/{child}/cmdline").read_text()
    return found


def test_cbc_starts_from_what_is_known(tmp_path):
    problem, log = stubborn(), tmp_path / "cbc.log"
    known = solve(problem, "greedy")
    result = solve(problem, "pulp", logPath=str(log), maxNodes=1)
    assert "MIPStart provided solution with cost" in log.read_text()
    assert result.objective >= known.objective
    assert result.termination is Termination.INTERRUPTED


def test_cbc_proves_nothing_by_its_start():
    """In a maximum it counts the start with the wrong sign, and calls it optimal at once."""
    problem = hard(40)
    start = solve(problem, "highs", gap=0.05)
    assert solve(problem, "pulp", warm_start=start).objective == pytest.approx(
        solve(problem, "highs").objective, abs=1e-9
    )


def test_a_failing_solver_gives_no_answer_under_a_limit(monkeypatch):
    def broken(program, solver):
        raise pulp.PulpSolverError("no licence")

    monkeypatch.setattr(pulp.LpProblem, "solve", broken)
    result = solve(trap(), "pulp", time_limit_s=5)
    assert result.termination is Termination.FAILED
    assert "no licence" in result.message
    assert isinstance(result, hasa.Allocation)
