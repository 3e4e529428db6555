"""HiGHS through highspy, by arrays."""

from __future__ import annotations

from typing import Any

import highspy
import numpy as np

from hasa_opt._utils.checks import IntArray
from hasa_opt._utils.deadline import Background, Deadline
from hasa_opt._utils.registry import Registry
from hasa_opt.problem.linear import LinearModel
from hasa_opt.problem.problem import AllocationProblem
from hasa_opt.problem.result import Termination
from hasa_opt.solvers.base import Answer, Request, check_threads
from hasa_opt.solvers.bounds.programs import own_threads, pass_model, set_options, silent_highs

__all__ = ["TERMINATIONS", "HighsBackend"]

_LAST_WORD_S = 1.0
"""Seconds in which HiGHS may hand over its incumbent where it was stopped."""

TERMINATIONS = Registry(
    "statuses.highs",
    {
        "kOptimal": Termination.OPTIMAL,
        "kInfeasible": Termination.INFEASIBLE,
        "kTimeLimit": Termination.TIME_LIMIT,
        "kInterrupt": Termination.INTERRUPTED,
        "kSolutionLimit": Termination.INTERRUPTED,
    },
)
"""Native status to termination; every other status is FAILED.

A limit of nodes or of solutions, which only an option of the caller's sets, interrupts the search.
"""


class HighsBackend:
    """Branch and cut of HiGHS.

    HiGHS stops at a relative gap of 1e-4 by default and calls that optimal; here both of its
    gaps are what the caller asks for, 0 by default. Keyword options of :func:`hasa_opt.solve`
    go to HiGHS by their own names, for example ``threads=1``.

    HiGHS looks at the clock between its steps alone; probing in presolve may take minutes beyond
    20,000 columns. It therefore runs in a thread, which is left behind at the time limit: it goes
    on until HiGHS notices, or the interpreter ends.
    """

    def solve(self, problem: AllocationProblem, request: Request) -> Answer:
        """Solve by branch and cut; whoever stops it has the incumbent."""
        check_threads(request.options)
        model = request.linear_model()
        solver = silent_highs()
        _set_options(solver, request, model)
        pass_model(
            solver, model.objective, model.matrix, model.lower, model.upper, model.column_upper,
            model.integral,
        )  # fmt: skip
        _start(solver, model, request.start)
        _tell(solver, model, request)
        stopped = _run(solver, request.deadline)
        return _answer(solver, model) if stopped is None else stopped


def _start(solver: highspy.Highs, model: LinearModel, start: IntArray | None) -> None:
    """Give HiGHS an allocation to start from, as soon as it asks for one.

    Given beforehand, HiGHS 1.16.0 counts it at a false value in the presolved program.
    """
    if start is None:
        return
    columns = np.arange(model.client.size, dtype=np.int32)
    given = False

    def asked(event: Any) -> None:
        nonlocal given
        if not given:
            event.data_in.setSolution(columns, model.columns(start))
            if columns.size < model.objective.size:
                event.data_in.repairSolution()  # finds the values of the other columns
            given = True

    solver.cbMipUserSolution += asked


def _tell(solver: highspy.Highs, model: LinearModel, request: Request) -> None:
    """Have HiGHS hand over what it finds on its way."""

    def improved(event: Any) -> None:
        request.offer(model.choice(np.array(event.data_out.mip_solution)))

    def bounded(event: Any) -> None:
        bound = event.data_out.mip_dual_bound
        if np.isfinite(bound):
            request.lower(model.utility(bound))

    solver.cbMipImprovingSolution += improved
    if request.best.watched:
        solver.cbMipInterrupt += bounded


def _run(solver: highspy.Highs, deadline: Deadline) -> Answer | None:
    """Run HiGHS to its end; an answer instead if it had to be left behind."""

    def run() -> None:
        with own_threads():
            solver.run()

    solver.HandleUserInterrupt = True
    task = Background(run)
    try:
        done = task.ended_by(deadline)
        ended = Termination.OPTIMAL if done else Termination.at(deadline)
    except KeyboardInterrupt:
        done, ended = False, Termination.INTERRUPTED
    if not done:
        solver.cancelSolve()
    if ended is Termination.INTERRUPTED:
        done = task.ended_by(Deadline.after(_LAST_WORD_S))
    if done:
        task.result()
        return None
    return Answer(ended, native="HiGHS: in presolve, which does not look at the clock; left behind")


def _set_options(solver: highspy.Highs, request: Request, model: LinearModel) -> None:
    options: dict[str, object] = {
        "output_flag": False,
        "mip_rel_gap": 0.0,
        "mip_abs_gap": request.absolute_gap / model.scale,
        **request.options,
    }
    if request.deadline.limited:
        options["time_limit"] = request.deadline.remaining_s
    set_options(solver, options)


def _answer(solver: highspy.Highs, model: LinearModel) -> Answer:
    status = solver.getModelStatus()
    info = solver.getInfo()
    native = f"HiGHS: {solver.modelStatusToString(status)}"
    termination = TERMINATIONS.get(status.name, Termination.FAILED)
    if info.primal_solution_status != highspy.SolutionStatus.kSolutionStatusFeasible:
        return Answer(termination, native=native)
    bound = info.mip_dual_bound
    return Answer(
        termination,
        model.choice(np.array(solver.getSolution().col_value)),
        model.utility(info.objective_function_value),
        model.utility(bound) if np.isfinite(bound) else float("inf"),
        native,
    )
