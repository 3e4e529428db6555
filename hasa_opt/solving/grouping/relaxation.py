"""The linear relaxation, with inequalities added as its optimum breaks them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from hasa_opt._utils.checks import FloatArray, IntArray
from hasa_opt._utils.deadline import Deadline, OutOfTime
from hasa_opt.solvers.bounds.programs import own_threads, pass_model, set_options, silent_highs
from hasa_opt.solving.grouping.cuts import broken
from hasa_opt.solving.grouping.problem import PartitionProblem
from hasa_opt.solving.grouping.rows import Rows

if TYPE_CHECKING:
    import highspy

__all__ = ["Relaxation"]

_PURGED = 5
"""Rounds after which rows that are not tight are forgotten."""
_SLACK = 1e-6
_PATIENCE = 12
"""Rounds in which the bound must come nearer, by a hundredth of what is left, or it ends."""
_PROGRESS = 0.01
_ROUNDING = 1e-12
"""Share of the sum of all similarities within which the bound meets an objective."""


class Relaxation:
    """A cutting-plane run of HiGHS' simplex method, which goes on from its last basis.

    Parameters
    ----------
    problem : PartitionProblem

    Attributes
    ----------
    rows : Rows
        Those that were tight in the end: what a search can start from.
    bound : float
        Proven by multipliers, see :meth:`Rows.bound`; HiGHS only suggests them.
    x : (n_columns,) float64 or None
        The last optimum; whole numbers, and no row broken, where it is a best partition.
    """

    def __init__(self, problem: PartitionProblem) -> None:
        self.rows = Rows(problem)
        self.bound = problem.ceiling
        self.x: FloatArray | None = None
        self._problem = problem

    def run(self, known: float, deadline: Deadline, gap: float = 0.0) -> None:
        """Lower the bound until nothing is broken, it stalls, or it is near a known objective."""
        enough = known + max(_ROUNDING * self._problem.magnitude, gap * abs(known))
        try:
            deadline.check()
            self._cut(known, enough, deadline)
        except OutOfTime:
            return

    def _cut(self, known: float, enough: float, deadline: Deadline) -> None:
        rows, history = self.rows, [self.bound]
        solver = self._solver()
        while True:
            duals, activity = self._optimum(solver, deadline)
            self.bound = min(self.bound, rows.bound(duals))
            history.append(self.bound)
            if self.bound <= enough:
                break
            if len(history) > _PATIENCE:
                gained = history[-1 - _PATIENCE] - self.bound
                if gained < _PROGRESS * (self.bound - known):
                    break
            assert self.x is not None
            more = broken(self._problem, rows.pairs, self.x, deadline)
            if not more:
                break
            if len(history) % _PURGED == 0:
                self._purge(solver, activity)
            rows.add(more)
            for row in more:
                where, values = row.columns.astype(np.int32), row.values.astype(np.float64)
                solver.addRow(row.lower, row.upper, where.size, where, values)
        self._purge(solver, activity)

    def _solver(self) -> highspy.Highs:
        rows, solver = self.rows, silent_highs()
        set_options(solver, {"output_flag": False, "threads": 1})
        ones = np.ones(rows.n_columns)
        pass_model(solver, rows.objective, rows.matrix, rows.lower, rows.upper, ones, None)
        return solver

    def _optimum(self, solver: highspy.Highs, deadline: Deadline) -> tuple[FloatArray, FloatArray]:
        """Multipliers and totals of the rows."""

        def run() -> Any:
            with own_threads():
                solver.run()

        solver.HandleUserInterrupt = True
        _, whole = deadline.heed(run, solver.cancelSolve)
        found = solver.getSolution()
        if not whole or not found.dual_valid:
            raise OutOfTime
        self.x = np.array(found.col_value)
        return np.array(found.row_dual), np.array(found.row_value)

    def _purge(self, solver: highspy.Highs, activity: FloatArray) -> None:
        """Forget the rows that are not tight; new ones, without an activity, stay."""
        known = slice(activity.size)
        slack = np.minimum(self.rows.upper[known] - activity, activity - self.rows.lower[known])
        loose: IntArray = np.flatnonzero(slack > _SLACK)
        loose = loose[loose >= self.rows.n_fixed]
        self.rows.forget(loose)
        solver.deleteRows(loose.size, loose.astype(np.int32))
