"""Why no allocation satisfies the limits, and the cheapest change that makes one do."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, inf

import numpy as np
import scipy.sparse as sp
from scipy.optimize import Bounds, LinearConstraint, milp

from hasa_opt.clients import IntArray
from hasa_opt.constraints import Row
from hasa_opt.errors import HasaError
from hasa_opt.linear import LinearModel
from hasa_opt.problem import AllocationProblem

__all__ = ["Conflict", "explain_infeasible"]


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
    """Return a minimal conflict among the limits, or None if an allocation satisfies them all."""
    limits = list(problem.limits)
    if _least_excess(problem, limits, None) is not None:
        return None
    for limit in list(limits):
        rest = [other for other in limits if other is not limit]
        if _least_excess(problem, rest, None) is None:
            limits = rest
    remedies = []
    for limit in limits:
        others = [other for other in problem.limits if other is not limit]
        excess = _least_excess(problem, others, limit)
        if excess is not None:
            remedies.append((excess / max(1, abs(_bound(limit))), _remedy(problem, limit, excess)))
    labels = tuple(limit.label for limit in limits)
    named = "; ".join(f"({label})" for label in labels)
    cheapest = min(remedies)[1] if remedies else "relax several of the limits at once"
    return Conflict(labels, f"these limits cannot hold together: {named}. Remedy: {cheapest}")


def _least_excess(problem: AllocationProblem, hard: list[Row], soft: Row | None) -> int | None:
    """Least excess over the soft limit while the hard ones hold; None if they cannot hold."""
    model = LinearModel.of(problem)
    n_columns = model.client.size
    zero = sp.csr_array((model.shape[0], 1))
    parts = [LinearConstraint(sp.hstack([model.one_each, zero]), 1, 1)]
    for row in hard if soft is None else [*hard, soft]:
        values = row.coefficients[model.client, model.width].astype(np.float64)
        slack = 0.0 if row is not soft else (1.0 if row.upper is None else -1.0)
        lower = -inf if row.lower is None else row.lower
        upper = inf if row.upper is None else row.upper
        parts.append(LinearConstraint(sp.csr_array([[*values, slack]]), lower, upper))
    objective = np.zeros(n_columns + 1)
    objective[-1] = 1.0
    top = np.ones(n_columns + 1)
    top[-1] = inf
    found = milp(
        objective, constraints=parts, bounds=Bounds(0, top), integrality=np.ones(n_columns + 1)
    )
    if found.status == 2:
        return None
    if found.x is None:
        raise HasaError(f"the infeasibility could not be explained: {found.message}")
    choice = model.choice(found.x[:-1])
    return _exact_excess(choice, hard, soft)


def _exact_excess(choice: IntArray, hard: list[Row], soft: Row | None) -> int:
    if any(row.excess(choice) for row in hard):
        raise HasaError("the infeasibility could not be explained within rounding")
    return 0 if soft is None else soft.excess(choice)


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
