"""Linear and small integer programs by HiGHS, for bounds, repairs and explanations.

The solver backends have no part in it, but that of HiGHS hands its model over the same way.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from math import inf
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from hasa_opt._utils.checks import FloatArray
from hasa_opt._utils.deadline import Deadline
from hasa_opt._utils.native import stdout_lost
from hasa_opt._utils.sparse import scipy_sparse as sp
from hasa_opt.errors import InputError
from hasa_opt.problem.linear import LinearModel

if TYPE_CHECKING:
    import highspy

__all__ = [
    "Point",
    "Unsolved",
    "Vertex",
    "integer_program",
    "least_excess",
    "linear_program",
    "maximise",
    "own_threads",
    "pass_model",
    "set_options",
    "silent_highs",
]

_BITS = 20
"""Rows of more than twice as many bits are scaled down to so many."""

_SMALL_BOX = 2_000
"""Columns up to which presolve of a program with a box costs more than it saves."""

_EXCESS_GAP = 1e-4
"""Share of a limit within which its excess is the least: remedies are shown in four digits."""


class Unsolved(Exception):
    """Neither an answer nor a proof that there is none was found."""


@dataclass(frozen=True, eq=False)
class Point:
    """What HiGHS found.

    Attributes
    ----------
    x : (n_columns,) float64 or None
    duals : (n_rows,) float64
        Of a linear program.
    optimal, infeasible : bool
        Proven.
    status : str
    """

    x: FloatArray | None
    duals: FloatArray
    optimal: bool
    infeasible: bool
    status: str


@dataclass(frozen=True, eq=False)
class Vertex:
    """Optimum of the linear relaxation of a model.

    Attributes
    ----------
    x : (n_columns,) float64
        Without the columns of a box.
    value : float
        In the problem's unit.
    prices : (n_limits,) float64
        Utility per unit of each limit: at least 0 for an upper, at most 0 for a lower limit.
    links : (n_links,) float64
        The same for the rows that define the columns of Robust.
    """

    x: FloatArray
    value: float
    prices: FloatArray
    links: FloatArray


def silent_highs() -> highspy.Highs:
    """Make a HiGHS that does not greet."""
    import highspy

    _greeted()
    return highspy.Highs()


@cache
def _greeted() -> None:
    """Let the first HiGHS of the process greet where nobody reads it.

    From release 1.16 on it does so while it is made, before it can be told to be silent.
    """
    import highspy

    with stdout_lost():
        highspy.Highs()


def set_options(solver: highspy.Highs, options: Mapping[str, object]) -> None:
    """Set options of HiGHS by their names.

    Raises
    ------
    InputError
        Naming one that HiGHS does not know, or whose value it does not take.
    """
    import highspy

    for name, value in options.items():
        if solver.setOptionValue(name, value) != highspy.HighsStatus.kOk:
            raise InputError(f"HiGHS has no option {name!r} that takes {value!r}")


@contextmanager
def own_threads() -> Iterator[None]:
    """Let HiGHS start as many threads as it is told to.

    Its first run in a thread of ours starts them, and every later one there that asks for
    another number fails until they are given back.
    """
    import highspy

    _greeted()
    highspy.Highs.resetGlobalScheduler(False)
    try:
        yield
    finally:
        highspy.Highs.resetGlobalScheduler(False)


def maximise(
    objective: FloatArray,
    matrix: sp.csr_array,
    lower: FloatArray,
    upper: FloatArray,
    column_upper: FloatArray,
    integral: npt.NDArray[np.bool_] | None = None,
    deadline: Deadline | None = None,
    **options: Any,
) -> Point:
    """Maximise ``objective @ x`` with ``lower <= matrix @ x <= upper``, ``0 <= x``; silently.

    With a deadline it can be stopped, by that and by Ctrl-C.

    Raises
    ------
    OutOfTime
        If HiGHS does not look at the deadline, as in presolve.
    """
    import highspy

    unit = _units(matrix)
    if (unit > 1).any():
        matrix = sp.csr_array(sp.diags_array(1 / unit) @ matrix)
    solver = silent_highs()
    set_options(solver, {"output_flag": False, "threads": 1, **options})
    pass_model(solver, objective, matrix, lower / unit, upper / unit, column_upper, integral)

    def run() -> None:
        with own_threads():
            solver.run()

    if deadline is None:
        run()
    else:
        solver.HandleUserInterrupt = True
        deadline.heed(run, solver.cancelSolve)
    status = solver.getModelStatus()
    found = solver.getSolution()
    feasible = highspy.SolutionStatus.kSolutionStatusFeasible
    held = solver.getInfo().primal_solution_status == feasible
    return Point(
        np.array(found.col_value) if held else None,
        np.array(found.row_dual) / unit if found.row_dual else np.empty(0),
        status == highspy.HighsModelStatus.kOptimal,
        status == highspy.HighsModelStatus.kInfeasible,
        solver.modelStatusToString(status),
    )


def pass_model(
    solver: highspy.Highs,
    objective: FloatArray,
    matrix: sp.csr_array,
    lower: FloatArray,
    upper: FloatArray,
    column_upper: FloatArray,
    integral: npt.NDArray[np.bool_] | None,
) -> None:
    """Hand a program to HiGHS; the arrays are those of :func:`maximise`."""
    import highspy

    n_rows, n_columns = matrix.shape
    kind = np.zeros(n_columns) if integral is None else integral
    solver.passModel(
        n_columns,
        n_rows,
        matrix.nnz,
        int(highspy.MatrixFormat.kRowwise),
        int(highspy.ObjSense.kMaximize),
        0.0,
        objective,
        np.zeros(n_columns),
        column_upper,
        lower,
        upper,
        matrix.indptr.astype(np.int32),
        matrix.indices.astype(np.int32),
        matrix.data.astype(np.float64),
        kind.astype(np.int32),
    )


def _units(matrix: sp.csr_array) -> FloatArray:
    """Powers of two to divide rows by: HiGHS refuses what is larger than 1e15."""
    rows = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    largest = np.zeros(matrix.shape[0])
    np.maximum.at(largest, rows, np.abs(matrix.data))
    exponent = np.frexp(largest)[1] - _BITS
    return np.exp2(np.where(exponent > _BITS, exponent, 0))


def integer_program(
    model: LinearModel,
    *,
    time_limit_s: float = inf,
    gap: float = 0.0,
    absolute_gap: float = 0.0,
    node_limit: int | None = None,
    deadline: Deadline | None = None,
) -> Point:
    """Solve a model by branch and bound; the gaps are those of the scaled objective.

    Raises
    ------
    OutOfTime
        If HiGHS does not look at the deadline, as in presolve.
    """
    if deadline is not None:
        time_limit_s = min(time_limit_s, deadline.remaining_s)
    options: dict[str, Any] = {
        "mip_rel_gap": gap, "mip_abs_gap": absolute_gap, "time_limit": time_limit_s,
    }  # fmt: skip
    if node_limit is not None:
        options["mip_max_nodes"] = node_limit
    return maximise(
        model.objective, model.matrix, model.lower, model.upper, model.column_upper,
        model.integral, deadline, **options,
    )  # fmt: skip


def linear_program(
    model: LinearModel,
    box: tuple[FloatArray, FloatArray] | None = None,
    *,
    time_limit_s: float = inf,
) -> Vertex | None:
    """Solve a model made by :meth:`LinearModel.relaxation`; None if it is infeasible.

    With a box ``(lowest, highest)`` of prices, ``(n_limits,)`` each, a limit may be broken at its
    highest price and what is left of it is sold at the lowest (Marsten, Hogan and Blankenship,
    The Boxstep Method, 1975).

    Raises
    ------
    Unsolved
        If time runs out.
    """
    n_columns = model.objective.size
    objective, matrix, column_upper = model.objective, model.matrix, model.column_upper
    options: dict[str, Any] = {}
    if box is not None:
        trade = sp.csr_array(
            (np.ones(model.divisors.size), (np.arange(model.n_open, model.limits.stop),
             np.arange(model.divisors.size))), shape=(matrix.shape[0], model.divisors.size),
        )  # fmt: skip
        matrix = sp.csr_array(sp.hstack([matrix, trade, -trade]))
        unit = model.divisors / model.scale
        objective = np.concatenate([objective, box[0] * unit, -box[1] * unit])
        column_upper = np.concatenate([column_upper, np.full(2 * unit.size, inf)])
        options = {"presolve": "off"} if n_columns <= _SMALL_BOX else {}
    found = maximise(
        objective, matrix, model.lower, model.upper, column_upper,
        time_limit=time_limit_s, **options,
    )  # fmt: skip
    if found.infeasible:
        return None
    if not found.optimal or found.x is None:
        raise Unsolved(found.status)
    duals = found.duals * model.scale
    return Vertex(
        found.x[:n_columns],
        model.utility(float(objective @ found.x)),
        duals[model.limits] / model.divisors,
        duals[model.limits.stop :],
    )


def least_excess(
    model: LinearModel,
    hard: Sequence[int],
    soft: Sequence[int],
    *,
    time_limit_s: float = inf,
) -> Point:
    """Point within the hard limits of least total excess over the soft ones.

    Limits that are neither are left out. Each excess counts relative to its limit.
    """
    rows = np.flatnonzero(np.isin(model.owner, [-1, *hard, *soft]))
    lower, upper = model.lower[rows], model.upper[rows]
    eased = np.flatnonzero(np.isin(model.owner[rows], soft) & ~model.carries[rows])
    n_columns, n_eased = model.objective.size, eased.size
    below = np.isfinite(lower[eased])
    relief = sp.csr_array(
        (np.where(below, 1.0, -1.0), (eased, np.arange(n_eased))), shape=(rows.size, n_eased)
    )
    bound = np.where(below, lower[eased], upper[eased])
    weights = 1.0 / np.maximum(1.0, np.abs(bound))
    unit = weights.max(initial=1e-300)
    return maximise(
        np.concatenate([np.zeros(n_columns), -weights / unit]),
        sp.csr_array(sp.hstack([model.matrix[rows], relief])),
        lower,
        upper,
        np.concatenate([model.column_upper, np.full(n_eased, inf)]),
        np.concatenate([model.integral, np.zeros(n_eased, dtype=bool)]),
        mip_rel_gap=0.0,
        mip_abs_gap=_EXCESS_GAP / unit,
        time_limit=time_limit_s,
    )
