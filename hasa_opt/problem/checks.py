"""What a problem is built from, checked: every error names the value, the rule and the remedy."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from numbers import Integral
from typing import Any

import numpy as np
import numpy.typing as npt

from hasa_opt._utils.checks import BoolArray, FloatArray, IntArray, array, extremes
from hasa_opt._utils.rational import INT64_ROOM, rational, refuse_overflow
from hasa_opt.clients.clients import Clients
from hasa_opt.errors import InfeasibleError, InputError
from hasa_opt.problem.cost import Cost, CostTable, evaluated
from hasa_opt.problem.limits import Constraint, MaskConstraint, Preference, Terms
from hasa_opt.problem.utility import Utility

__all__ = [
    "BoolArray",
    "budget_share",
    "cost_table",
    "known_constraints",
    "masked",
    "utility_table",
    "within_caps",
]


_LARGEST_SUM = float(np.finfo(np.float64).max)


def budget_share(budget: float) -> Fraction:
    """The share as it was written, above 0."""
    share = rational(budget, "budget")
    if share <= 0:
        raise InputError(
            f"budget {budget} must be above 0: it is the share of the full width's cost "
            "that all clients together may spend"
        )
    return share


def known_constraints(constraints: Sequence[Constraint]) -> tuple[Constraint, ...]:
    """The constraints as a tuple, each of a known kind, with at most one preference."""
    try:
        kept = tuple(constraints)
    except TypeError as error:
        raise InputError(f"constraints {constraints!r}: give a sequence of constraints") from error
    for item in kept:
        if isinstance(item, type) or not _states_something(item):
            raise InputError(
                f"{item!r} is no constraint: give, for example, Coverage({{0.8: 0.1}})"
            )
    preferences = [item for item in kept if isinstance(item, Preference)]
    if len(preferences) > 1:
        given = ", ".join(map(str, preferences))
        raise InputError(f"{given}: a problem takes at most one preference, leave one out")
    return kept


def _states_something(item: object) -> bool:
    stated = (getattr(item, name, None) for name in ("rows", "mask"))
    return any(map(callable, stated)) or isinstance(getattr(item, "feature", None), str)


def within_caps(clients: Clients, menu: FloatArray) -> BoolArray:
    """Widths that each device can train, ``(n_clients, n_widths)``."""
    if clients.max_width is None:
        return np.ones((len(clients), menu.size), dtype=bool)
    admissible = menu[None, :] <= clients.caps(menu[-1])[:, None] + 1e-9
    stuck = np.flatnonzero(~admissible[:, 0])
    if stuck.size:
        row = int(stuck[0])
        raise InputError(
            f"row {row} ({clients.name(row)!r}), column 'max_width': "
            f"{clients.max_width[row]:g} is below the narrowest width {menu[0]:g}: add a narrower "
            f"width or leave the client out ({stuck.size} such row(s))"
        )
    return admissible


def masked(admissible: BoolArray, constraints: Sequence[Constraint], terms: Terms) -> BoolArray:
    """Narrow what is admissible by the masks among the constraints; some width must be left."""
    for item in constraints:
        if not isinstance(item, MaskConstraint):
            continue
        narrowed = admissible & item.mask(terms)
        stuck = np.flatnonzero(~narrowed.any(axis=1))
        if stuck.size:
            kind = type(item).__name__
            raise InfeasibleError(
                f"{kind} leaves {terms.clients.name(int(stuck[0]))!r} (row {stuck[0]}) no width "
                f"({stuck.size} such client(s)): relax {kind} or the limits before it",
                limits=(kind,),
            )
        admissible = narrowed
    return admissible


def cost_table(cost: Cost, clients: Clients, units: IntArray, denominator: int) -> CostTable:
    """Costs as int64 from 0, with no total beyond 2**62."""
    priced = evaluated(cost, clients, units, denominator)
    costs = _owned(array(priced.costs, "cost table"))
    shape = (len(clients), units.size)
    if costs.shape != shape or costs.dtype != np.int64:
        raise InputError(f"cost gives {costs.dtype}{costs.shape}: int64{shape} expected")
    least, largest = extremes(costs)
    if least < 0:
        raise InputError(f"cost {least} is negative: costs start at 0")
    refuse_overflow(costs, "the cost table", int(largest))
    if not (isinstance(priced.full, Integral) and 0 < priced.full <= INT64_ROOM):
        raise InputError(f"full cost {priced.full} must lie between 1 and 2**62")
    return CostTable(costs, priced.full)


def utility_table(
    utility: Utility, clients: Clients, menu: FloatArray, admissible: BoolArray
) -> FloatArray:
    """Utilities as float64, finite where they are admissible, with a finite sum."""
    if not callable(utility):
        raise InputError(
            f"utility is a {type(utility).__name__}: give a utility such as utility.hasa(scores) "
            "or wrap a table in utility.measured(table)"
        )
    try:
        table = _owned(np.asarray(utility(clients, menu), dtype=np.float64))
    except InputError:
        raise
    except (TypeError, ValueError, ArithmeticError) as error:
        raise InputError(
            f"utility does not give a table of floats ({error}): call a family, such as "
            "utility.alpha_fair(), or give a function of the clients and the menu"
        ) from error
    if table.shape != admissible.shape:
        raise InputError(f"utility table of shape {table.shape}: {admissible.shape} expected")
    least, largest = extremes(table)
    if max(largest, -least) < _LARGEST_SUM / len(clients):
        return table
    bad = ~np.isfinite(table) & admissible
    if bad.any():
        row, column = (int(axis[0]) for axis in np.nonzero(bad))
        raise InputError(
            f"utility of {clients.name(row)!r} (row {row}) at width {menu[column]:g} is "
            f"{table[row, column]}: utilities must be finite; cap the client's max_width to "
            "rule a width out"
        )
    largest = np.abs(table, where=admissible, out=np.zeros_like(table)).max()
    if not largest < _LARGEST_SUM / len(clients):
        raise InputError("the sum of the utilities overflows: give them in a larger unit")
    return table


def _owned(table: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The table itself if it is read-only and owns its memory, else a copy."""
    return np.array(table) if table.flags.writeable or table.base is not None else table
