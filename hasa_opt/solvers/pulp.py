"""Any solver that PuLP knows, by its PuLP name."""

from __future__ import annotations

import inspect
import os
from contextlib import nullcontext
from typing import Any, TextIO

import numpy as np
import pulp

from hasa_opt._utils.deadline import Deadline
from hasa_opt._utils.registry import Registry
from hasa_opt.errors import InputError, SolverNotInstalledError
from hasa_opt.problem.linear import LinearModel
from hasa_opt.problem.problem import AllocationProblem
from hasa_opt.problem.result import Termination
from hasa_opt.solvers.base import Answer, Request, check_threads
from hasa_opt.solvers.bounds.programs import own_threads, set_options, silent_highs
from hasa_opt.solvers.pulp_process import Programs

__all__ = ["TERMINATIONS", "PulpBackend", "termination"]

TERMINATIONS = Registry(
    "statuses.pulp",
    {
        "Optimal, Optimal Solution Found": Termination.OPTIMAL,
        "Optimal": Termination.OPTIMAL,
        "TimeLimit": Termination.TIME_LIMIT,
        "GapLimit": Termination.GAP_REACHED,
        "NodeLimit": Termination.INTERRUPTED,
        "SolutionLimit": Termination.INTERRUPTED,
        "Interrupted": Termination.INTERRUPTED,
    },
)
"""Status in words, of PuLP 3.3 two, to termination; :func:`termination` judges all others."""

_BLOCK = 1000
"""Columns between two looks at the clock: making so many takes a few milliseconds."""
_BUNDLED = "PULP_CBC_CMD"
"""PuLP 3.3's name for the CBC that it ships; it deprecates the class, not the program."""
_BUNDLED_PATH = pulp.PULP_CBC_CMD.pulp_cbc_path if hasattr(pulp, _BUNDLED) else ""
_SAFE = "preprocess off"
"""The CBC that PuLP 3.3 ships, 2.10.3, loses the optimum of one in 1,700 small problems in it.

Without it that CBC dies of a few that are infeasible; those are tried once more.
"""
_LARGE = 1e8
"""From coefficients of this size on that CBC errs without it as well, and more often."""
_DEFAULTS = (_BUNDLED, "COIN_CMD", "HiGHS")
"""Tried in this order: another solver than the backend ``highs`` first, which is always there."""

_linear = getattr(pulp.LpAffineExpression, "from_list", pulp.LpAffineExpression)
"""Makes an expression of pairs; PuLP 3.3 knows no ``from_list``."""


class PulpBackend:
    """Branch and cut of CBC where there is one, else of HiGHS, or what ``pulp_solver=`` names.

    PuLP 3.3 ships CBC; PuLP 4 takes that of the package ``cbcbox`` or the one on the path. With
    ``msg=True`` the solver's log goes to standard error.

    PuLP 3.3 calls an incumbent that a time limit cut off ``Optimal``; only its ``sol_status`` tells
    the two apart, so that is what is read. PuLP hands on no bound that is sure to the last digit: a
    proven optimum is its own bound, anything else has none.

    PuLP runs in a thread, which is left behind where the time is up or the caller stops: nothing
    stops it while it writes the file for CBC. CBC itself is ended then.

    CBC starts from the best allocation that is known, but on Windows, where PuLP cannot tell it,
    and where the model has columns beside the choices.
    """

    def solve(self, problem: AllocationProblem, request: Request) -> Answer:
        """Solve; further options go to the PuLP solver's constructor, for example threads=1."""
        check_threads(request.options)
        model = request.linear_model()
        gap = request.absolute_gap / model.scale
        stops = {"timeLimit": request.time_limit_s, "gapRel": 0.0, "gapAbs": gap}
        options = dict(request.options)
        solver = _solver(options.pop("pulp_solver", None), stops, options)
        if getattr(solver, "path", None) == _BUNDLED_PATH and model.largest < _LARGE:
            solver.options = [_SAFE, *solver.options]
        programs, start = Programs(), _start(solver, model, request)

        def run() -> tuple[str, bool, list[float | None]]:
            program, columns = _program(model, request.deadline)
            for column, value in zip(columns, start, strict=False):
                column.setInitialValue(value)
            request.deadline.check()
            if solver.timeLimit is not None and "timeLimit" not in options:
                solver.timeLimit = request.deadline.remaining_s
            try:
                words, held = _solved(program, solver, programs)
            except pulp.PulpSolverError:
                if _SAFE not in solver.options:
                    raise
                solver.options.remove(_SAFE)
                words, held = _solved(program, solver, programs)
            return words, held, [column.varValue for column in columns]

        try:
            words, held, values = request.deadline.wait_for(run)
        except pulp.PulpSolverError as error:
            return Answer(Termination.FAILED, native=f"PuLP: {error}")
        finally:
            programs.end()
        ended = termination(words, request)
        native = f"PuLP {solver.name}: {words}"
        x = np.array(values, dtype=np.float64)
        if not held or not model.holds_choice(x):
            return Answer(ended, native=native)
        value = float(model.objective @ x)
        proven = ended is Termination.OPTIMAL
        bound = value + gap if proven else float("inf")
        return Answer(ended, model.choice(x), model.utility(value), model.utility(bound), native)


def _start(solver: pulp.LpSolver, model: LinearModel, request: Request) -> list[float]:
    """Values of the columns that CBC starts from; none for other solvers."""
    complete = model.objective.size == model.client.size
    if solver.name != "COIN_CMD" or os.name == "nt" or not complete or request.start is None:
        return []
    solver.optionsDict["warmStart"] = True
    values: list[float] = model.columns(request.start).tolist()
    return values


def _solved(program: pulp.LpProblem, solver: pulp.LpSolver, programs: Programs) -> tuple[str, bool]:
    """Status in words, and whether the values of the columns may be an allocation."""
    try:
        with own_threads(), programs.of(solver):
            solved = program.solve(solver)
    except KeyError as status:  # PuLP 3.3 has read the values, but knows no limit of HiGHS' nodes
        return f"Stopped, {status}", True
    if hasattr(solved, "has_solution"):  # PuLP 4
        words = solved.status.name
        if words == "GapLimit" and solver.name == "COIN_CMD":
            words = "Optimal"  # within the gap that was asked for, which is none by default
        return words, solved.has_solution
    found = (pulp.LpSolutionOptimal, pulp.LpSolutionIntegerFeasible)
    words = f"{pulp.LpStatus[program.status]}, {pulp.LpSolution[program.sol_status]}"
    return words, program.sol_status in found


def termination(words: str, request: Request) -> Termination:
    """Map PuLP's status; it does not always say what stopped a solver without a proof."""
    stated = TERMINATIONS.get(words)
    if stated is not None:
        return stated
    if "Infeasible" in words or "No Solution Exists" in words:
        return Termination.INFEASIBLE
    stopped = words.startswith(("Optimal", "Not Solved", "Stopped"))
    return request.stop_reason if stopped else Termination.FAILED


def _solver(name: Any, stops: dict[str, Any], options: dict[str, Any]) -> pulp.LpSolver:
    """Instance of a PuLP solver, with those stopping rules that its constructor knows."""
    known = pulp.listSolvers()
    if name is None:
        name = next(name for name in _DEFAULTS if name in known and _made(name, {}).available())
    if name not in known:
        raise InputError(f"PuLP knows no solver {name!r}: choose one of {', '.join(known)}")
    try:
        understood = inspect.signature(type(_made(name, {}))).parameters
        if name == "HiGHS":  # PuLP hands on any name, and HiGHS takes an unknown one in silence
            further = {key: value for key, value in options.items() if key not in understood}
            set_options(silent_highs(), {"output_flag": False, **further})
        kept = {key: value for key, value in stops.items() if key in understood}
        solver = _made(name, kept | options)
    except TypeError as error:
        raise InputError(f"PuLP's {name} refuses an option: {error}") from error
    if not solver.available():
        usable = ", ".join(pulp.listSolvers(onlyAvailable=True))
        raise SolverNotInstalledError(
            f"PuLP's solver {name!r} is not installed here: choose one of {usable}"
        )
    return solver


def _made(name: str, options: dict[str, Any]) -> pulp.LpSolver:
    """Instance of a PuLP solver that keeps its log, if it writes one, from standard output."""
    if name == _BUNDLED:
        name, options = "COIN_CMD", {"path": _BUNDLED_PATH, **options}
    solver = pulp.getSolver(name, **{"msg": False} | options)
    if solver.msg:
        solver.get_pipe = _standard_error  # of a program of its own
    solver.capture_log = nullcontext  # PuLP 4 would print the log at the end
    return solver


def _standard_error() -> TextIO:
    return os.fdopen(os.dup(2), "w")


def _program(
    model: LinearModel, deadline: Deadline
) -> tuple[pulp.LpProblem, list[pulp.LpVariable]]:
    program = pulp.LpProblem("allocation", pulp.LpMinimize)  # CBC misjudges a start in a maximum
    columns = []
    for column, kind in enumerate(model.kinds("Binary", "Integer", "Continuous")):
        if column % _BLOCK == 0:
            deadline.check()
        columns.append(program.add_variable(f"x{column}", cat=kind, lowBound=0))
    program.setObjective(_sum(columns, np.arange(len(columns)), -model.objective))
    matrix = model.matrix
    for row, (lower, upper) in enumerate(zip(model.lower, model.upper, strict=True)):
        part = slice(matrix.indptr[row], matrix.indptr[row + 1])
        total = _sum(columns, matrix.indices[part], matrix.data[part])
        if lower == upper:
            program.addConstraint(total == upper)
            continue
        if np.isfinite(upper):
            program.addConstraint(total <= upper)
        if np.isfinite(lower):
            program.addConstraint(total >= lower)
    return program, columns


def _sum(columns: list[pulp.LpVariable], at: Any, values: Any) -> pulp.LpAffineExpression:
    pairs = zip(at.tolist(), values.tolist(), strict=True)
    return _linear([(columns[index], value) for index, value in pairs])
