"""What a problem is built from, checked: every error names the value, the rule and the remedy."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from fractions import Fraction
from numbers import Integral

import numpy as np
import numpy.typing as npt

from hasa_opt._utils.checks import (
    BoolArray,
    FloatArray,
    IntArray,
    array,
    expect,
    extremes,
    real_array,
)
from hasa_opt._utils.rational import SAME_WIDTH, decimal_above, told_from, written
from hasa_opt.clients.clients import Clients
from hasa_opt.errors import InfeasibleError, InputError
from hasa_opt.problem.budgets import Budget
from hasa_opt.problem.cost import Cost
from hasa_opt.problem.groups import SameOption
from hasa_opt.problem.limits import (
    Constraint,
    MaskConstraint,
    Preference,
    Row,
    RowConstraint,
    Terms,
)
from hasa_opt.problem.menu import WIDTH, Menu
from hasa_opt.problem.pricing import owned
from hasa_opt.problem.utility import Utility

__all__ = [
    "BoolArray",
    "checked_choice",
    "known_constraints",
    "masked",
    "not_allowed",
    "one_menu",
    "over_budget",
    "stated_rows",
    "utility_table",
    "within_caps",
]


_LARGEST_SUM = float(np.finfo(np.float64).max)


def one_menu(
    widths: Sequence[float] | FloatArray | None,
    menu: Menu | None,
    cost: Cost | None,
    budget: object,
) -> Menu:
    """The menu, or the one that widths stand for.

    Raises
    ------
    InputError
        If both or neither are given, or widths come without a budget.
    """
    if menu is None:
        if widths is None:
            raise InputError("give widths=, or menu= with the options that clients choose from")
        if budget is None:
            raise InputError(
                "budget is missing: give the share of the full width's cost that may be spent"
            )
        return Menu.of_widths(widths, cost=cost)
    expect(menu, Menu, "menu")
    if widths is not None or cost is not None:
        raise InputError(
            "menu= already says widths and costs: leave widths= and cost= out, or leave menu= out"
        )
    return menu


def known_constraints(constraints: Sequence[Constraint]) -> tuple[Constraint, ...]:
    """The constraints as a tuple, each of a known kind, at most one preference and SameOption.

    Budgets of one name are numbered in the order in which they are given.
    """
    try:
        kept = tuple(constraints)
    except TypeError as error:
        raise InputError(f"constraints {constraints!r}: give a sequence of constraints") from error
    for item in kept:
        if isinstance(item, type) or not _states_something(item):
            raise InputError(
                f"{item!r} is not a constraint: give, for example, Coverage({{0.8: 0.1}})"
            )
    preferences = [item for item in kept if isinstance(item, Preference)]
    if len(preferences) > 1:
        given = ", ".join(map(str, preferences))
        raise InputError(f"{given}: a problem takes at most one preference, leave one out")
    same = sum(isinstance(item, SameOption) for item in kept)
    if same > 1:
        raise InputError(
            f"{same} SameOption given: a problem takes at most one, give it the groups of all"
        )
    return _numbered(kept)


def _numbered(constraints: tuple[Constraint, ...]) -> tuple[Constraint, ...]:
    names = Counter(item.name for item in constraints if isinstance(item, Budget))
    seen, numbered = Counter[str](), list(constraints)
    for at, item in enumerate(constraints):
        if isinstance(item, Budget) and names[item.name] > 1:
            seen[item.name] += 1
            numbered[at] = replace(item, name=f"{item.name} {seen[item.name]}")
    return tuple(numbered)


def _states_something(item: object) -> bool:
    stated = (getattr(item, name, None) for name in ("rows", "mask"))
    return any(map(callable, stated)) or isinstance(getattr(item, "feature", None), str)


def within_caps(clients: Clients, menu: Menu) -> BoolArray:
    """Options that each client has and its device can train, ``(n_clients, m)``.

    Raises
    ------
    InputError
        If a client has none, or caps on the width meet options without widths.
    """
    admissible = np.ones((len(clients), len(menu)), dtype=bool)
    if menu.allowed is not None:
        admissible &= menu.allowed
        stuck = np.flatnonzero(~admissible.any(axis=1))
        if stuck.size:
            row = int(stuck[0])
            raise InputError(
                f"row {row} ({clients.name(row)!r}) has no option: allow it one, or leave the "
                f"client out ({stuck.size} such row(s))"
            )
    if clients.max_width is None:
        return admissible
    admissible &= menu.widths[None, :] <= clients.max_width[:, None] + SAME_WIDTH
    stuck = np.flatnonzero(~admissible.any(axis=1))
    if stuck.size:
        row = int(stuck[0])
        narrowest = menu.widths[
            menu.allowed[row] if menu.allowed is not None else slice(None)
        ].min()
        raise InputError(
            f"row {row} ({clients.name(row)!r}), column 'max_width': "
            f"{written(clients.max_width[row])} is below the narrowest width {written(narrowest)}: "
            f"add a narrower width or leave the client out ({stuck.size} such row(s))"
        )
    return admissible


def stated_rows(constraints: Iterable[Constraint], terms: Terms) -> list[Row]:
    """The rows of the constraints that have any, which may be of a class of the caller's own.

    Raises
    ------
    InputError
        If what a class gives is no row, naming the class.
    """
    found: list[Row] = []
    for item in constraints:
        if not isinstance(item, RowConstraint):
            continue
        rows, kind = item.rows(terms), type(item).__name__
        if isinstance(rows, Row) or not isinstance(rows, Iterable):
            raise InputError(f"{kind}.rows() gives a {type(rows).__name__}: give a list of Row")
        found += [_whole_row(row, kind, terms) for row in rows]
    return found


def _whole_row(row: object, kind: str, terms: Terms) -> Row:
    """A row with coefficients in int64, whichever whole numbers or bools they were given as."""
    if not isinstance(row, Row):
        raise InputError(f"{kind}.rows() gives a {type(row).__name__} for a row: give a Row")
    given = np.asarray(row.coefficients)
    n_members = terms.shape[0] if row.members is None else len(row.members)
    if given.dtype.kind not in "iubO" or given.shape != (n_members, terms.shape[1]):
        raise InputError(
            f"{kind}.rows() gives row {row.label!r} coefficients of {given.dtype}{given.shape}: "
            f"int64{(n_members, terms.shape[1])} wanted"
        )
    bounds = [bound for bound in (row.lower, row.upper) if bound is not None]
    if not bounds or not all(isinstance(bound, Integral) for bound in bounds):
        raise InputError(
            f"{kind}.rows() gives row {row.label!r}, which needs a lower or an upper limit, whole "
            "numbers (int)"
        )
    narrow = given.dtype.kind in "iub" and given.dtype != np.int64
    return replace(row, coefficients=given.astype(np.int64)) if narrow else row


def masked(constraints: Sequence[Constraint], terms: Terms) -> BoolArray:
    """What is admissible under the masks among the constraints too; some width must be left."""
    admissible = terms.admissible
    for item in constraints:
        if not isinstance(item, MaskConstraint):
            continue
        mask, kind = np.asarray(item.mask(terms)), type(item).__name__
        if mask.dtype != np.bool_ or mask.shape != terms.shape:
            raise InputError(
                f"{kind}.mask() gives {mask.dtype}{mask.shape}: bool{terms.shape} wanted"
            )
        narrowed = admissible & mask
        stuck = np.flatnonzero(~narrowed.any(axis=1))
        if stuck.size:
            name = terms.clients.name(int(stuck[0]))
            raise InfeasibleError(
                f"{kind} leaves {name!r} (row {stuck[0]}) no {terms.menu.noun} "
                f"({stuck.size} such client(s)): relax {kind} or the limits before it",
                limits=(kind,),
            )
        admissible = narrowed
    return admissible


def not_allowed(banned: IntArray, choice: IntArray, clients: Clients, menu: Menu) -> str:
    """What is wrong with clients at options that they cannot take, in words."""
    row = int(banned[0])
    return (
        f"{clients.name(row)} cannot train {menu.label(int(choice[row]))} "
        f"({banned.size} client(s) at an inadmissible {menu.noun})"
    )


def over_budget(
    least: int, limit: int, resource: str, budget: float | None, full_cost: int | None, menu: Menu
) -> InfeasibleError:
    """The error for a budget that even the cheapest allocation exceeds, as it was given."""
    if budget is None or full_cost is None:
        return InfeasibleError(
            f"{limit} {resource} are below the cheapest possible allocation ({least}), short by "
            f"{least - limit}: raise the limit to at least {least} or add a cheaper option",
            limits=("budget",),
        )
    share = Fraction(least, full_cost)
    needed = told_from(float(share), budget)
    kinds = ("cheapest", "cheaper option")
    if menu.only_widths:
        kinds = ("narrowest", "narrower width")
    return InfeasibleError(
        f"budget {written(budget)} is below the {kinds[0]} possible allocation ({needed}), short "
        f"by {least - limit} of {full_cost} cost units: raise the budget to at least "
        f"{decimal_above(share)} or add a {kinds[1]}",
        limits=("budget",),
    )


def utility_table(
    utility: Utility, clients: Clients, menu: Menu, admissible: BoolArray
) -> FloatArray:
    """Utilities as float64, finite where they are admissible, with a finite sum."""
    if not callable(utility):
        raise InputError(
            f"utility is a {type(utility).__name__}: give a utility such as utility.hasa(scores) "
            "or wrap a table in utility.measured(table)"
        )
    try:
        given = array(utility(clients, _levels(menu)), "utility table")
    except InputError:
        raise
    except (TypeError, ValueError, ArithmeticError) as error:
        raise InputError(
            f"utility does not give a table of floats ({error}): call a family, such as "
            "utility.alpha_fair(), or give a function of the clients and the menu"
        ) from error
    as_floats = given if given.dtype == np.float64 else real_array(given, "utility table")
    table = owned(as_floats)
    if table.shape != admissible.shape:
        raise InputError(f"utility table of shape {table.shape}: {admissible.shape} expected")
    least, largest = extremes(table)
    if max(largest, -least) < _LARGEST_SUM / len(clients):
        return table
    bad = ~np.isfinite(table) & admissible
    if bad.any():
        row, column = (int(axis[0]) for axis in np.nonzero(bad))
        raise InputError(
            f"utility of {clients.name(row)!r} (row {row}) at {menu.label(column)} is "
            f"{table[row, column]}: utilities must be finite; {_finite(menu, column)}"
        )
    largest = np.abs(table, where=admissible, out=np.zeros_like(table)).max()
    if not largest < _LARGEST_SUM / len(clients):
        raise InputError("the sum of the utilities overflows: give them in a larger unit")
    return table


def _levels(menu: Menu) -> FloatArray:
    """What a utility is a function of: the widths; NaN where the options have none."""
    return menu.widths if WIDTH in menu.attributes else np.full(len(menu), np.nan)


def _finite(menu: Menu, column: int) -> str:
    if WIDTH in menu.attributes and menu.widths[column] == 0:
        return (
            "a family that takes a logarithm has none at width 0: give the utility of "
            f"{menu.names[column]!r} in a table, utility.measured(table)"
        )
    return "cap the client's max_width to rule a width out"


def checked_choice(choice: npt.ArrayLike, n_clients: int, n_options: int) -> IntArray:
    """Indices into the menu as int64, one per client.

    Raises
    ------
    InputError
        If the shape is wrong or an index is not a whole number within the menu.
    """
    given = array(choice, "choice")
    if given.shape != (n_clients,):
        raise InputError(f"choice of shape {given.shape}: {n_clients} clients expected")
    if given.dtype.kind not in "iu":
        raise InputError(f"choice of {given.dtype}: give integer indices into the menu")
    if given.min() < 0 or given.max() >= n_options:
        bad = np.flatnonzero((given < 0) | (given >= n_options))
        raise InputError(
            f"choice {given[bad[0]]} of row {bad[0]} is outside the menu (0 to {n_options - 1})"
        )
    return given.astype(np.int64, copy=False)
