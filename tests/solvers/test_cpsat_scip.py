"""CP-SAT and SCIP: what each does in its own way, and the process that OR-tools runs in."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from support import environment
from support.hard_problems import hard, stubborn, trap

import hasa_opt as hasa
from hasa_opt import AllocationProblem, Clients, Coverage, Termination, solve
from hasa_opt._utils import isolated
from hasa_opt.errors import InputError
from hasa_opt.solvers import registry
from hasa_opt.solvers.base import Request
from hasa_opt.testing import problems

pytestmark = pytest.mark.slow

SOLVERS = ["cpsat", "scip"]
BEST = 1408.610467713543  # of hard(), by HiGHS and CBC at zero gap


@pytest.fixture(autouse=True)
def _installed(request):
    params = request.node.callspec.params if hasattr(request.node, "callspec") else {}
    name = params.get("solver") or ("scip" if "scip" in request.node.name else "cpsat")
    if not registry.find_solver(name).available:
        pytest.skip(registry.find_solver(name).install)


# ----------------------------------------------------------------------------------- statuses


def test_every_status_of_cpsat_is_mapped():
    from hasa_opt.solvers.cpsat import TERMINATIONS

    code = (
        "from ortools.sat.python import cp_model\n"
        "print(*[key for key in vars(type(cp_model.OPTIMAL)) if key.isupper()])"
    )
    named = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(TERMINATIONS) == set(named.stdout.split())
    proofs = {key for key, value in TERMINATIONS.items() if value is Termination.OPTIMAL}
    assert proofs == {"OPTIMAL"}


def test_every_status_of_scip_is_mapped_or_a_failure(monkeypatch):
    import pyscipopt

    from hasa_opt.solvers import scip

    members = [name for name in dir(pyscipopt.SCIP_STATUS) if name.isupper()]
    assert len(members) >= 15
    assert set(scip.TERMINATIONS) <= {name.lower() for name in members}
    proofs = {key for key, value in scip.TERMINATIONS.items() if value is Termination.OPTIMAL}
    assert proofs == {"optimal"}
    for name in {name.lower() for name in members} - proofs:

        class Ended(pyscipopt.Model):
            status = name

            def getStatus(self):
                return self.status

        monkeypatch.setattr(scip.pyscipopt, "Model", Ended)
        claim = scip.ScipBackend().solve(trap(), Request(trap()))
        assert claim.termination is scip.TERMINATIONS.get(name, Termination.FAILED)
        assert name in claim.native


@pytest.mark.parametrize("status", ["MODEL_INVALID", "what comes later"])
def test_a_status_without_a_solution_is_a_failure_cpsat(monkeypatch, status):
    monkeypatch.setattr(isolated, "call", lambda *given, **limits: ((status, None, 0.0), False))
    result = solve(trap(), "cpsat")
    assert result.termination is Termination.FAILED
    assert result.own_objective is None
    assert status in result.message


@pytest.mark.parametrize("solver", SOLVERS)
def test_no_time_at_all(solver):
    result = solve(hard(), solver, time_limit_s=0)
    assert result.termination is Termination.TIME_LIMIT
    assert not result.has_solution


@pytest.mark.parametrize("solver", SOLVERS)
def test_cut_off_with_an_incumbent(solver):
    solve(trap(), solver)  # the process of OR-tools is there
    problem = stubborn()
    result = solve(problem, solver, time_limit_s=2)
    assert result.termination is Termination.TIME_LIMIT
    assert result.claim_held, result.message
    assert result.has_solution
    assert problem.evaluate(result.choice).feasible
    assert 0 < result.gap < 1


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_gap_is_told_from_a_proof(solver):
    result = solve(hard(), solver, gap=0.02)
    assert result.claim_held, result.message
    assert result.bound >= BEST - 1e-6
    assert result.objective >= BEST * 0.98
    assert result.gap <= 0.02
    proven = result.objective == pytest.approx(BEST, rel=1e-9)
    assert proven or result.termination is Termination.GAP_REACHED


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("start", [[1, 1, 1], [0, 0, 0], [0, 1, 1]])
def test_a_warm_start_is_only_a_hint(solver, start):
    assert solve(trap(), solver, warm_start=start).objective == 10


def test_a_warm_start_is_an_incumbent_of_scip():
    start = solve(hard(), "highs", gap=0.01)
    warm = solve(hard(), "scip", warm_start=start, **{"limits/nodes": 1, "limits/time": 0.2})
    assert warm.objective >= start.objective - 1e-9


@pytest.mark.parametrize("solver", SOLVERS)
def test_an_unlimited_time_limit(solver):
    assert solve(trap(), solver, time_limit_s=float("inf")).objective == 10


@pytest.mark.parametrize(
    ("solver", "option"),
    [
        ("cpsat", {"nonsense": 3}),
        ("cpsat", {"num_workers": "many"}),
        ("scip", {"nonsense": 3}),
        ("scip", {"limits/nodes": "many"}),
        ("scip", {"limits/nodes": -7}),
    ],
)
def test_wrong_options(solver, option):
    with pytest.raises(InputError, match=f"{next(iter(option))}.*{next(iter(option.values()))}"):
        solve(trap(), solver, **option)
    assert solve(trap(), solver).objective == 10


def test_known_options_reach_cpsat():
    assert solve(trap(), "cpsat", num_workers=2, random_seed=5).objective == 10
    cut = solve(hard(), "cpsat", stop_after_first_solution=True)
    assert cut.termination is not Termination.OPTIMAL
    assert cut.gap > 0


def test_known_options_reach_scip():
    cut = solve(hard(), "scip", **{"limits/solutions": 1})
    assert cut.has_solution
    assert cut.termination is Termination.INTERRUPTED


# ---------------------------------------------------------------------------------- precision


@pytest.mark.parametrize("large", [10**8, 10**11, 10**14, 10**18])
@pytest.mark.parametrize("solver", SOLVERS)
def test_one_unit_decides(solver, large):
    for room, best in ((large - 1, 1.0), (large, 2.0)):
        result = solve(problems.knapsack([(large - 1, 1), (large, 2)], room), solver)
        assert result.objective == best
        assert result.termination is Termination.OPTIMAL


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("scale", [1e-12, 1e12])
def test_any_unit_of_utility(solver, scale, brute):
    for seed in range(8):
        rng = np.random.default_rng(seed)
        problem = AllocationProblem.build(
            Clients(rng.integers(1, 99, 6)),
            widths=(0.2, 0.5, 0.8),
            budget=0.55,
            utility=hasa.utility.measured(rng.normal(size=(6, 3)) * scale),
            constraints=[Coverage({0.5: 0.3}), hasa.Robust(gamma=2, deviation=0.2)],
        )
        best = brute(problem)
        result = solve(problem, solver)
        assert result.termination is Termination.OPTIMAL
        assert result.objective == pytest.approx(best, abs=1e-9 * problem.span)


def test_the_bound_of_cpsat_covers_its_rounding(monkeypatch):
    from hasa_opt.solvers import cpsat as ortools

    monkeypatch.setattr(ortools, "_LARGEST_OBJECTIVE", 2.0**8)
    apart = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        table = np.cumsum(rng.random((12, 5)), axis=1)
        problem = AllocationProblem.build(
            Clients(rng.integers(1, 99, 12)),
            widths=(0.2, 0.4, 0.6, 0.8, 1.0),
            budget=0.55,
            utility=hasa.utility.measured(table),
        )
        best = solve(problem, "highs").objective
        claim = ortools.CpSatBackend().solve(problem, Request(problem))
        assert claim.objective <= best + 1e-9
        assert claim.bound >= best - 1e-9
        apart += claim.bound - claim.objective > 1e-9
        assert solve(problem, "cpsat").claim_held
    assert apart >= 10  # else there was nothing to cover


# ------------------------------------------------------------------------------- Ctrl-C


def test_ctrl_c_ends_cpsat_and_leaves_pythons_handler_in_place():
    solver = "cpsat"
    code = (
        "import os, signal, threading\n"
        "from support.hard_problems import stubborn, trap\n"
        "from hasa_opt import solve\n"
        f"solve(trap(), {solver!r})\n"
        "problem = stubborn()\n"
        "threading.Timer(1, os.kill, (os.getpid(), signal.SIGINT)).start()\n"
        f"result = solve(problem, {solver!r}, time_limit_s=30)\n"
        "print(result.termination, result.has_solution, result.claim_held)\n"
        f"print(solve(trap(), {solver!r}).objective)\n"
        "print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment()
    )
    assert done.stdout.splitlines() in (
        ["interrupted True True", "10.0", "True"],
        ["interrupted False True", "10.0", "True"],  # before the first incumbent
    )


# ------------------------------------------------------------------- the process of OR-tools


def test_ortools_never_enters_the_process_that_asks():
    # In a process of its own: PuLP 4 imports OR-tools where it is installed.
    # CVXPY looks whether the package ``ortools`` is there; its parts are what loads libraries.
    code = (
        "import sys\n"
        "from hasa_opt import solve\n"
        "from support.hard_problems import trap\n"
        "print(*(solve(trap(), name).objective for name in ('cvxpy', 'cpsat', 'highs')))\n"
        "print(*(name for name in sys.modules if name.startswith('ortools.')))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment()
    )
    assert done.stdout == "10.0 10.0 10.0\n\n"


def test_the_process_is_kept():
    solve(trap(), "cpsat")
    process = isolated._workers[0].process.pid
    solve(trap(), "cpsat")
    assert isolated._workers[0].process.pid == process


def test_a_dead_process_is_a_failure_and_the_next_call_starts_another():
    with pytest.raises(ChildProcessError, match="ended with 7"):
        isolated.call("os:_exit", 7)
    solve(trap(), "cpsat")
    isolated._workers[0].process.kill()
    isolated._workers[0].process.wait()
    assert solve(trap(), "cpsat").objective == 10


def test_what_it_prints_is_no_answer():
    assert isolated.call("builtins:print", "words") == (None, False)
    assert isolated.call("math:sqrt", 9.0) == (3.0, False)
    with pytest.raises(ValueError, match="domain"):
        isolated.call("math:sqrt", -9.0)


def test_its_cpu_seconds_count():
    comparison = hasa.compare(hard(40), ["cpsat"], time_limit_s=3)
    assert comparison.rows[0].cpu_seconds >= 0.03
