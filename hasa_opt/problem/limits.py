"""What a constraint states: linear limits in integers, a mask, or a preference."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from math import floor
from numbers import Integral
from typing import Any, NamedTuple, Protocol, TypeAlias, runtime_checkable

import numpy as np

from hasa_opt._utils.checks import BoolArray, IntArray, listed
from hasa_opt._utils.names import tidy
from hasa_opt._utils.rational import INT64_ROOM, decimal_above, decimal_below, rational, written
from hasa_opt.clients.clients import Clients
from hasa_opt.errors import InputError
from hasa_opt.problem.menu import Menu

__all__ = [
    "BoolArray",
    "Constraint",
    "Fairness",
    "MaskConstraint",
    "Preference",
    "RobustRow",
    "Row",
    "RowConstraint",
    "Share",
    "Terms",
    "constraint_name",
    "is_a",
    "items",
    "told_apart",
    "under_budget",
    "whole",
]


@dataclass(frozen=True, eq=False)
class Terms:
    """The problem as constraints see it while it is built: clients, menu, costs and budget.

    Attributes
    ----------
    clients : Clients
    menu : Menu
    resources : dict of str to (n_clients, m) int64
        Costs of every resource of the menu.
    costs : (n_clients, m) int64
        Of the resource that the budget is spent on.
    limit : int
        The budget in the unit of the costs.
    admissible : (n_clients, m) bool
        What clients may take by their caps and the menu; for rows also by all masks.
    """

    clients: Clients
    menu: Menu
    resources: Mapping[str, IntArray]
    costs: IntArray
    limit: int
    admissible: BoolArray

    @property
    def shape(self) -> tuple[int, int]:
        """Clients and options."""
        return len(self.clients), len(self.menu)

    def costs_of(self, resource: str, what: str) -> IntArray:
        """Costs of a resource of the menu, ``(n_clients, m)``.

        Raises
        ------
        InputError
            If the menu has no such resource.
        """
        resource = tidy(resource)
        if resource not in self.resources:
            raise InputError(
                f"{what} names resource {resource!r}, which is not in the menu "
                f"({listed(self.resources)})"
            )
        return self.resources[resource]

    def by_client(self, given: Any, what: str, value: str) -> Iterator[tuple[int, Any]]:
        """Rows of the clients that a mapping names, each with its value.

        Parameters
        ----------
        given : mapping of client name or row to a value
        what, value : str
            The constraint and what it maps to, for messages.

        Raises
        ------
        InputError
            For a key that names no client, a key that may name two, or two keys of one client.
        """
        keys: dict[int, Any] = {}
        for key, its_value in items(given, what, value):
            row = self._client_row(key, what)
            if row in keys:
                raise InputError(
                    f"{what} names client {self.clients.name(row)!r} twice, by {keys[row]!r} and "
                    f"{key!r}: leave one out"
                )
            keys[row] = key
            yield row, its_value

    def by_option(self, given: Any, what: str, value: str) -> Iterator[tuple[BoolArray, Any, Any]]:
        """Options that a mapping names, ``(m,)`` bools, each with its key and its value.

        Parameters
        ----------
        given : mapping of option name, or of width, to a value
        what, value : str
            The constraint and what it maps to, for messages.

        Raises
        ------
        InputError
            For a key that is not in the menu, or for two keys of one option.
        """
        keys: dict[bytes, Any] = {}
        for key, its_value in items(given, what, value):
            chosen = self.menu.select(key, what)
            first = keys.setdefault(chosen.tobytes(), key)
            if first is not key:
                raise InputError(
                    f"{what} names {self.menu.label(int(chosen.argmax()))} twice, by {first!r} "
                    f"and {key!r}: leave one out"
                )
            yield chosen, key, its_value

    def _client_row(self, client: Any, what: str) -> int:
        """Row of a client, by name or number; a number that is another client's name is refused."""
        if isinstance(client, str) and tidy(client) in self._rows:
            return self._rows[tidy(client)]
        if isinstance(client, Integral) and not isinstance(client, bool):
            row, named = int(client), self._rows.get(str(int(client)))
            if 0 <= row < len(self.clients) and named in (None, row):
                return row
            if named is not None:
                raise InputError(
                    f"{what} names client {client!r}, a row, but the client of that name is in "
                    f"row {named}: write {str(client)!r} for the name, or the row {named}"
                )
        raise InputError(
            f"{what} names client {client!r}: give a name, or a row from 0 to "
            f"{len(self.clients) - 1}"
        )

    @cached_property
    def _rows(self) -> dict[str, int]:
        """Row of each client by its name."""
        return {name: row for row, name in enumerate(self.clients.all_names)}


class Share(NamedTuple):
    """A share, and the total that it is a share of."""

    value: Fraction
    of: int

    @property
    def most(self) -> int:
        """Whole units that the share allows, at most 2**62."""
        return min(floor(self.value * self.of), INT64_ROOM)


@dataclass(frozen=True, eq=False)
class Row:
    """One linear limit: ``lower <= sum_i coefficients[i, choice_i] <= upper``.

    Attributes
    ----------
    label : str
        The limit in words, for messages.
    coefficients : (n_members, n_widths) int64
    lower, upper : int or None
        None leaves that side open.
    members : (n_members,) int64 or None
        Increasing rows of the clients that count; None for all.
    share : Share or None
        The limit as it was given, if that was a share.
    resource : str
        The resource of the menu whose sum over all clients is limited; empty: none.
    link : bool
        Part of how another limit is stated, which nobody can ease.
    """

    label: str
    coefficients: IntArray
    lower: int | None = None
    upper: int | None = None
    members: IntArray | None = None
    share: Share | None = None
    resource: str = ""
    link: bool = False

    @property
    def at(self) -> slice | IntArray:
        """Index of the clients that count, in tables of all clients."""
        return slice(None) if self.members is None else self.members

    def places(self, n_clients: int) -> IntArray:
        """Row of each client in the coefficients, ``(n_clients,)``; -1 if it does not count."""
        if self.members is None:
            return np.arange(n_clients)
        place = np.full(n_clients, -1)
        place[self.members] = np.arange(self.members.size)
        return place

    @property
    def bound(self) -> int:
        """The upper limit, or else the lower."""
        bound = self.lower if self.upper is None else self.upper
        assert bound is not None
        return bound

    def least(self, admissible: BoolArray) -> IntArray:
        """Smallest coefficient of each member, ``(n_members,)``, among the widths admissible."""
        highest = np.iinfo(np.int64).max
        least: IntArray = self.coefficients.min(axis=1, where=admissible[self.at], initial=highest)
        return least

    def total(self, choice: IntArray) -> int:
        """Left-hand side for one allocation."""
        chosen = choice[self.at]
        return int(self.coefficients[np.arange(chosen.size), chosen].sum())

    def excess(self, choice: IntArray) -> int:
        """By how much an allocation breaks the limit; 0 if it holds."""
        total = self.total(choice)
        over = 0 if self.upper is None else total - self.upper
        under = 0 if self.lower is None else self.lower - total
        return max(over, under, 0)

    def remedy(self, excess: int) -> str:
        """The change of the limit that makes up for an excess, in words, as the limit was given."""
        if self.upper is None:
            verb, eased, decimal = "lower", self.bound - excess, decimal_below
        else:
            verb, eased, decimal = "raise", self.bound + excess, decimal_above
        if self.share is None:
            return f"{verb} the limit of ({self.label}) from {self.bound} to {eased}"
        given, needed = float(self.share.value), decimal(Fraction(eased, self.share.of))
        return f"{verb} the share of ({self.label}) from {written(given)} to {needed}"


def told_apart(rows: Sequence[Row]) -> tuple[Row, ...]:
    """Rows with different labels: those that would share one are numbered."""
    times, seen = Counter(row.label for row in rows), Counter[str]()
    labelled = []
    for row in rows:
        seen[row.label] += 1
        number = f"{row.label} ({seen[row.label]})"
        labelled.append(replace(row, label=number) if times[row.label] > 1 else row)
    return tuple(labelled)


@dataclass(frozen=True, eq=False, kw_only=True)
class RobustRow(Row):
    """A limit that holds although some clients take more than their coefficient.

    Attributes
    ----------
    gamma : int
        How many clients may do so at once.
    deviation : (n_members, n_widths) int64
        By how much, at least 0.
    """

    gamma: int
    deviation: IntArray

    def total(self, choice: IntArray) -> int:
        """Left-hand side in the worst case for one allocation."""
        chosen = choice[self.at]
        worst = np.sort(self.deviation[np.arange(chosen.size), chosen])[::-1]
        return super().total(choice) + int(worst[: self.gamma].sum())


def under_budget(rows: Sequence[Row], bound: int) -> tuple[Row, ...]:
    """Rows under another budget, which robust limits are limits on as well."""
    return tuple(replace(row, upper=bound) if isinstance(row, RobustRow) else row for row in rows)


@runtime_checkable
class RowConstraint(Protocol):
    """A constraint that adds linear limits."""

    def rows(self, terms: Terms) -> tuple[Row, ...]:
        """Integer rows."""
        ...


@runtime_checkable
class MaskConstraint(Protocol):
    """A constraint that makes widths inadmissible."""

    def mask(self, terms: Terms) -> BoolArray:
        """Admissible widths, ``(n_clients, n_widths)``."""
        ...


@runtime_checkable
class Preference(Protocol):
    """Which of the allocations within all limits is the best; at most one per problem."""

    @property
    def feature(self) -> str:
        """Its name in tables and messages."""
        ...


Constraint: TypeAlias = RowConstraint | MaskConstraint | Preference


def constraint_name(constraint: object) -> str:
    """What a constraint, or a class of constraints, is called in tables and messages."""
    if isinstance(constraint, type):
        return constraint.__name__
    stored = getattr(constraint, "stored_kind", "")
    return stored or str(getattr(constraint, "feature", type(constraint).__name__))


def is_a(constraint: object, kind: type) -> bool:
    """Whether a constraint is of a class, or was before its problem was saved."""
    stored = getattr(constraint, "stored_kind", None)
    return isinstance(constraint, kind) or stored == kind.__name__


def items(given: Any, what: str, value: str) -> list[tuple[Any, Any]]:
    """Entries of a mapping, or an error that says what it should map to."""
    if not isinstance(given, Mapping):
        raise InputError(f"{what} takes a mapping to {value}, not {given!r}")
    return list(given.items())


def whole(value: Any, what: str) -> int:
    """A whole number of at least 0, or an error; 2**62 for more, which no total exceeds."""
    broken = InputError(f"{what} must be a whole number of at least 0")
    try:
        number = Fraction(int(value)) if isinstance(value, Integral) else rational(value, what)
    except InputError as error:
        raise broken from error
    if isinstance(value, bool) or number.denominator != 1 or number < 0:
        raise broken
    return min(int(number), INT64_ROOM)


_MODES = ("maxmin", "leximin")


@dataclass(frozen=True)
class Fairness:
    """Raise the poorest client first; a preference among allocations, no limit.

    The poorest client is the one of the smallest utility ``u_i(width)``. Utilities are compared
    as they are: two clients are equally poor if their utilities are the same number.

    - ``maxmin``: among the allocations within all limits with the largest smallest utility, the
      one with the largest sum of utilities (max-min fairness, for example Kleinberg, Rabani and
      Tardos, Fairness in routing and load balancing, 2001).
    - ``leximin``: the sorted vector of utilities is lexicographically largest: the poorest first,
      then the second poorest, and so on (Ogryczak, Luss, Pioro, Nace and Tomaszewski, Fair
      optimization and networks: a survey, 2014). It determines the sum of the utilities.

    The objective that is reported is the sum of the utilities as always, and the bound is on the
    sums of allocations that are as fair. At most one per problem.

    Parameters
    ----------
    mode : {"maxmin", "leximin"}

    Examples
    --------
    >>> Fairness("maxmin").feature
    'Fairness(maxmin)'
    """

    mode: str

    def __post_init__(self) -> None:
        if not isinstance(self.mode, str) or self.mode not in _MODES:
            raise InputError(
                f"Fairness mode {self.mode!r} is not known: choose one of {', '.join(_MODES)}"
            )

    @property
    def feature(self) -> str:
        """Its name in tables and messages."""
        return f"Fairness({self.mode})"
