"""Why no allocation satisfies the limits, and the cheapest change that makes one do."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, inf

import numpy as np
import scipy.sparse as sp
from scipy.optimize import Bounds, LinearConstraint, milp

from hasa_opt.constraints import Row
from hasa_opt.errors import HasaError
from hasa_opt.linear import LinearModel
from hasa_opt.problem import AllocationProblem
from hasa_opt.relaxation import relax

__all__ = ["Conflict", "explain_infeasible"]

_INFEASIBLE = 2


@dataclass(frozen=True)
class Conflict:
    """Limits that cannot hold together.

    Attributes
    ----------
    limits : tuple of str
        Labels of a minimal set: without any one of them the rest can hold.
    message : str
        The set in words, with the cheapest change of one limit.
    """

    limits: tuple[str, ...]
    message: str


def explain_infeasible(problem: AllocationProblem) -> Conflict | None:
    """Return a minimal conflict among the limits, or None if an allocation satisfies them all.

    A deletion filter: a limit whose removal leaves the rest infeasible is no part of the conflict.
    """
    if problem.evaluate(relax(problem).incumbent).feasible:
        return None
    model = LinearModel.of(problem)
    everything = list(range(len(problem.limits)))
    if _least_excess(problem, model, everything, None) is not None:
        return None
    conflict = everything
    for limit in everything:
        rest = [other for other in conflict if other != limit]
        if _least_excess(problem, model, rest, None) is None:
            conflict = rest
    remedies = []
    for limit in conflict:
        others = [other for other in everything if other != limit]
        excess = _least_excess(problem, model, others, limit)
        if excess is not None:
            row = problem.limits[limit]
            remedies.append((excess / max(1, abs(_bound(row))), _remedy(problem, row, excess)))
    labels = tuple(problem.limits[limit].label for limit in conflict)
    named = "; ".join(f"({label})" for label in labels)
    cheapest = min(remedies)[1] if remedies else "relax several of the limits at once"
    return Conflict(labels, f"these limits cannot hold together: {named}. Remedy: {cheapest}")


def _least_excess(
    problem: AllocationProblem, model: LinearModel, hard: list[int], soft: int | None
) -> int | None:
    """Least excess over the soft limit while the hard ones hold; None if they cannot hold."""
    n_columns = model.client.size
    zero = sp.csr_array((model.shape[0], 1))
    parts = [LinearConstraint(sp.hstack([model.one_each, zero]), 1, 1)]
    for limit in hard if soft is None else [*hard, soft]:
        relief = 0.0 if limit != soft else (1.0 if np.isfinite(model.lower[limit]) else -1.0)
        row = sp.hstack([model.limits[[limit]], sp.csr_array([[relief]])])
        parts.append(LinearConstraint(row, model.lower[limit], model.upper[limit]))
    objective = np.zeros(n_columns + 1)
    objective[-1] = 1.0
    top = np.ones(n_columns + 1)
    top[-1] = inf
    found = milp(
        objective, constraints=parts, bounds=Bounds(0, top), integrality=np.ones(n_columns + 1)
    )
    if found.status == _INFEASIBLE:
        return None
    if found.x is None:
        raise HasaError(f"the infeasibility could not be explained: {found.message}")
    choice = model.choice(found.x[:-1])
    if any(problem.limits[limit].excess(choice) for limit in hard):
        raise HasaError("the infeasibility could not be explained within rounding")
    return 0 if soft is None else problem.limits[soft].excess(choice)


def _bound(limit: Row) -> int:
    bound = limit.lower if limit.upper is None else limit.upper
    assert bound is not None
    return bound


def _remedy(problem: AllocationProblem, limit: Row, excess: int) -> str:
    bound = _bound(limit)
    if limit.label == "budget":
        share = ceil((bound + excess) / problem.full_cost * 1e6) / 1e6
        return f"raise the budget from {problem.budget:g} to {share:g}"
    if limit.upper is None:
        return f"lower the limit of ({limit.label}) from {bound} to {bound - excess}"
    return f"raise the limit of ({limit.label}) from {bound} to {bound + excess}"
