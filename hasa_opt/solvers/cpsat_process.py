"""What runs inside the process of CP-SAT, see :mod:`hasa_opt._utils.isolated`: arrays in and out.

Whole numbers only; this module imports neither the problem nor another solver.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from hasa_opt._utils.checks import IntArray
from hasa_opt.errors import InputError

__all__ = ["Program", "maximum"]


@dataclass(frozen=True, eq=False)
class Program:
    """Maximise ``objective @ x``, ``lower <= rows @ x <= upper``, ``0 <= x <= column_upper``.

    Attributes
    ----------
    objective, column_upper : (n_columns,) int64
    starts, columns, values : int64
        The rows in compressed form.
    lower, upper : (n_rows,) int64
    n_choices : int
        How many rows, the first ones, ask for exactly one of their columns.
    hint : (n_hinted,) int64
        Values of the first columns to start from; may be empty.
    """

    objective: IntArray
    column_upper: IntArray
    starts: IntArray
    columns: IntArray
    values: IntArray
    lower: IntArray
    upper: IntArray
    n_choices: int
    hint: IntArray


def maximum(
    program: Program,
    options: Mapping[str, Any],
    deadline: float | None,
    news: Callable[[IntArray | float], None],
) -> tuple[str, IntArray | None, float]:
    """Solve by CP-SAT; the deadline is in seconds of :func:`time.time`.

    Each better ``x`` and each lower bound goes to ``news`` on the way.

    Returns
    -------
    status : str
    x : (n_columns,) int64 or None
    bound : float
    """
    from ortools.sat.python import cp_model

    solver = cp_model.CpSolver()
    for name, value in options.items():
        try:
            setattr(solver.parameters, name, value)
        except (AttributeError, TypeError, ValueError) as error:
            raise InputError(f"CP-SAT has no option {name!r} that takes {value!r}") from error
    model, columns = _cp_model(program)
    if deadline is not None:
        solver.parameters.max_time_in_seconds = max(deadline - time.time(), 0.0)

    class Improved(cp_model.CpSolverSolutionCallback):  # type: ignore[misc]
        def on_solution_callback(self) -> None:
            news(_values(self, columns))

    solver.best_bound_callback = news
    status = solver.solve(model, Improved())
    found = status in (cp_model.OPTIMAL, cp_model.FEASIBLE)
    x = _values(solver, columns) if found else None
    return solver.status_name(status), x, solver.best_objective_bound


def _values(solver: Any, columns: list[Any]) -> IntArray:
    return np.array([solver.value(column) for column in columns], dtype=np.int64)


def _cp_model(program: Program) -> tuple[Any, list[Any]]:
    from ortools.sat.python import cp_model

    model = cp_model.CpModel()
    columns = [model.new_int_var(0, most, "") for most in program.column_upper.tolist()]
    for row, (lower, upper) in enumerate(
        zip(program.lower.tolist(), program.upper.tolist(), strict=True)
    ):
        part = slice(program.starts[row], program.starts[row + 1])
        own = [columns[at] for at in program.columns[part]]
        if row < program.n_choices:
            model.add_exactly_one(own)
        else:
            total = cp_model.LinearExpr.weighted_sum(own, program.values[part].tolist())
            model.add_linear_constraint(total, lower, upper)
    for column, value in zip(columns, program.hint.tolist(), strict=False):
        model.add_hint(column, value)
    model.maximize(cp_model.LinearExpr.weighted_sum(columns, program.objective.tolist()))
    return model, columns
