"""Linear and small integer programs by HiGHS, as it comes with scipy.

What bounds, repairs and explanations are computed with; the solver backends have no part in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

import numpy as np
import scipy.sparse as sp
from scipy.optimize import Bounds, LinearConstraint, linprog, milp

from hasa_opt.clients import FloatArray
from hasa_opt.errors import HasaError
from hasa_opt.linear import LinearModel

__all__ = ["Point", "Vertex", "integer_program", "least_excess", "linear_program"]

_OPTIMAL, _INFEASIBLE = 0, 2


@dataclass(frozen=True, eq=False)
class Point:
    """What branch and bound found.

    Attributes
    ----------
    x : (n_columns,) float64 or None
    optimal, infeasible : bool
        Proven.
    """

    x: FloatArray | None
    optimal: bool
    infeasible: bool


@dataclass(frozen=True, eq=False)
class Vertex:
    """Optimum of the linear relaxation of a model.

    Attributes
    ----------
    x : (n_columns,) float64
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


def integer_program(
    model: LinearModel,
    *,
    time_limit_s: float | None = None,
    gap: float = 0.0,
    node_limit: int | None = None,
) -> Point:
    """Solve a model by branch and bound; ``gap`` is relative to the scaled objective."""
    options: dict[str, object] = {"mip_rel_gap": gap}
    if time_limit_s is not None:
        options["time_limit"] = max(time_limit_s, 0.0)
    if node_limit is not None:
        options["node_limit"] = node_limit
    found = milp(
        -model.objective,
        constraints=LinearConstraint(model.matrix, model.lower, model.upper),
        bounds=Bounds(0, model.column_upper),
        integrality=model.integral,
        options=options,
    )
    return Point(found.x, found.status == _OPTIMAL, found.status == _INFEASIBLE)


def linear_program(model: LinearModel, *, time_limit_s: float | None = None) -> Vertex | None:
    """Solve the linear relaxation of a model; None if it is infeasible or time runs out."""
    equal = slice(0, model.n_open)
    rest = slice(model.n_open, None)
    lower, upper = model.lower[rest], model.upper[rest]
    above, below = np.flatnonzero(np.isfinite(lower)), np.flatnonzero(np.isfinite(upper))
    matrix = model.matrix[rest]
    options = {} if time_limit_s is None else {"time_limit": max(time_limit_s, 0.0)}
    found = linprog(
        -model.objective,
        A_ub=sp.vstack([matrix[below], -matrix[above]]),
        b_ub=np.concatenate([upper[below], -lower[above]]),
        A_eq=model.matrix[equal],
        b_eq=np.ones(model.n_open),
        method="highs",
        options=options,
    )
    if found.status != _OPTIMAL:
        return None
    marginal = np.zeros(lower.size)
    np.add.at(marginal, below, -found.ineqlin.marginals[: below.size])
    np.add.at(marginal, above, found.ineqlin.marginals[below.size :])
    n_limits = model.divisors.size
    prices = model.scale * marginal[:n_limits] / model.divisors
    value = model.utility(-found.fun)
    return Vertex(found.x, value, prices, model.scale * marginal[n_limits:])


def least_excess(
    model: LinearModel, hard: Sequence[int], soft: Sequence[int], *, integral: bool = True
) -> FloatArray | None:
    """Point within the hard limits of least total excess over the soft ones; else None.

    Limits that are neither are left out. Each excess counts relative to its limit.

    Returns
    -------
    (n_columns,) float64 or None

    Raises
    ------
    HasaError
        If HiGHS gives up.
    """
    n_columns, n_soft = model.objective.size, len(soft)
    first = model.limits.start
    limits = np.array([*hard, *soft], dtype=np.int64) + first
    rows = np.concatenate(
        [np.arange(first), limits, np.arange(model.limits.stop, model.lower.size)]
    )
    eased = np.arange(n_soft) + first + len(hard)
    lower, upper = model.lower[rows], model.upper[rows]
    below = np.isfinite(lower[eased])
    relief = sp.csr_array(
        (np.where(below, 1.0, -1.0), (eased, np.arange(n_soft))), shape=(rows.size, n_soft)
    )
    bound = np.where(below, lower[eased], upper[eased])
    weights = np.concatenate([np.zeros(n_columns), 1.0 / np.maximum(1.0, np.abs(bound))])
    found = milp(
        weights / max(weights.max(), 1e-300),
        constraints=LinearConstraint(sp.hstack([model.matrix[rows], relief]), lower, upper),
        bounds=Bounds(0, np.concatenate([model.column_upper, np.full(n_soft, inf)])),
        integrality=np.concatenate([model.integral, np.ones(n_soft, dtype=bool)]) & integral,
        options={"mip_rel_gap": 0.0},
    )
    if found.status == _INFEASIBLE:
        return None
    if found.x is None:
        raise HasaError(f"the infeasibility could not be explained: {found.message}")
    return np.asarray(found.x[:n_columns])
