"""A problem with one number changed: a limit, or the scale of a client's utilities."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import ceil
from numbers import Integral

import numpy as np

from hasa_opt._utils.checks import listed, number
from hasa_opt._utils.rational import rational
from hasa_opt.errors import InputError
from hasa_opt.problem.groups import SameRow
from hasa_opt.problem.limits import RobustRow, Row, Share, Terms, under_budget, whole
from hasa_opt.problem.problem import AllocationProblem

__all__ = ["client_row", "limit_at", "with_bound", "with_limit", "with_scale"]


def client_row(problem: AllocationProblem, client: object, what: str) -> int:
    """Row of a client, by name or number, as constraints find it.

    Raises
    ------
    InputError
        If no client is meant, or it is not clear which.
    """
    if not isinstance(client, str | Integral):
        raise InputError(f"client {client!r}: give a name, or a row")
    terms = Terms(
        problem.clients, problem.menu, problem.resources, problem.costs, problem.limit,
        problem.admissible,
    )  # fmt: skip
    row, _ = next(terms.by_client({client: None}, what, "nothing"))
    return row


def limit_at(problem: AllocationProblem, name: str) -> int:
    """Place of a limit among ``problem.limits``.

    Parameters
    ----------
    problem : AllocationProblem
    name : str
        Its label, the beginning of its label, or the resource that it limits; "budget" is the
        first.

    Raises
    ------
    InputError
        If there is none, more than one, or one that is no number.
    """
    limits = problem.limits
    if not isinstance(name, str) or not name:
        raise InputError(f"limit {name!r}: give its label, one of {_labels(limits)}")
    meant: tuple[Callable[[Row], bool], ...] = (
        lambda row: row.label == name,
        lambda row: row.resource == name or (row is limits[0] and problem.resource == name),
        lambda row: row.label.startswith(name),
    )
    for fits in meant:
        found = [at for at, row in enumerate(limits) if fits(row)]
        if len(found) > 1:
            named = listed([limits[at].label for at in found], repr)
            raise InputError(f"limit {name!r} may be {named}: give more of its label")
        if found and isinstance(limits[found[0]], RobustRow | SameRow):
            raise InputError(
                f"({limits[found[0]].label}) has no number of its own that could be changed: "
                "change the budget, or build the problem anew"
            )
        if found:
            return found[0]
    raise InputError(f"there is no limit {name!r}: the limits are {_labels(limits)}")


def _labels(limits: tuple[Row, ...]) -> str:
    return listed([row.label for row in limits], repr)


def with_bound(problem: AllocationProblem, at: int, bound: int) -> AllocationProblem:
    """The problem under another limit; with the budget, the robust limits on it change too.

    Parameters
    ----------
    problem : AllocationProblem
    at : int
        Place among ``problem.limits``.
    bound : int
        Whole units.
    """
    if at == 0:
        rows = under_budget(problem.rows, bound)
        return replace(problem, limit=bound, budget=None, rows=rows)
    return _with_row(problem, at, _bounded(problem.limits[at], bound))


def with_limit(at: int, problem: AllocationProblem, value: float) -> AllocationProblem:
    """The problem under another limit, given as that was: a share of a total, or whole units.

    Parameters
    ----------
    at : int
        Place among ``problem.limits``.
    problem : AllocationProblem
    value : float

    Raises
    ------
    InputError
        For a value that is no such number.
    """
    row = problem.limits[at]
    if at == 0:
        if problem.budget is not None:
            return problem.with_budget(value)
        return with_bound(problem, 0, whole(value, f"budget {value!r} in units"))
    if row.share is None:
        bound, share = whole(value, f"({row.label}) {value!r}"), None
    else:
        share = Share(rational(value, f"({row.label})", snap=True), row.share.of)
        if share.value < 0 or (row.upper is None and share.value > 1):
            raise InputError(f"({row.label}) {value!r} must be a share of at least 0, and no more "
                             "than 1 where it is the least")  # fmt: skip
        bound = ceil(share.value * share.of) if row.upper is None else share.most
    label = f"{row.label}, changed to {value:g}"
    return _with_row(problem, at, replace(_bounded(row, bound), share=share, label=label))


def with_scale(row: int, problem: AllocationProblem, factor: float) -> AllocationProblem:
    """The problem with all utilities of a client multiplied by a number above 0.

    Parameters
    ----------
    row : int
        Of the client.
    problem : AllocationProblem
    factor : float

    Raises
    ------
    InputError
        For another factor, or one that no utility can be multiplied by.
    """
    name = problem.clients.name(row)
    if not number(factor, f"scale of {name}") > 0:
        raise InputError(f"scale of {name} {factor!r} must be above 0")
    utilities = problem.utilities.copy()
    with np.errstate(over="ignore"):
        utilities[row] *= factor
    if not np.isfinite(utilities[row, problem.admissible[row]]).all():
        raise InputError(f"scale of {name} {factor!r} is too large: its utilities overflow")
    return replace(problem, utilities=utilities)


def _bounded(row: Row, bound: int) -> Row:
    return replace(row, lower=bound) if row.upper is None else replace(row, upper=bound)


def _with_row(problem: AllocationProblem, at: int, row: Row) -> AllocationProblem:
    rows = (*problem.rows[: at - 1], row, *problem.rows[at:])
    return replace(problem, rows=rows)
