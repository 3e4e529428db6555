"""Constraints beyond the budget: each a small class that states integer rows or a mask.

A solver that lists a class among its supported constraints translates its rows; every other
solver refuses it by name before any work. Masks (:class:`MinWidth`, :class:`Fixed`,
:class:`Forbidden`) only make widths inadmissible, so every solver understands them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from math import ceil
from numbers import Integral
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
import numpy.typing as npt

from hasa_opt.checks import float_array
from hasa_opt.clients import Clients, IntArray
from hasa_opt.cost import Cost, evaluated, whole_costs
from hasa_opt.errors import InputError
from hasa_opt.rational import rational, refuse_overflow

if TYPE_CHECKING:
    import networkx as nx

__all__ = [
    "Budget",
    "Constraint",
    "Coverage",
    "Fixed",
    "Forbidden",
    "MaskConstraint",
    "MinWidth",
    "Quota",
    "Row",
    "RowConstraint",
    "SiteBudgets",
    "Switches",
    "Terms",
]

BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Terms:
    """What a constraint may refer to.

    Attributes
    ----------
    clients : Clients
    units : (n_widths,) int64
    denominator : int
        ``units / denominator`` is the menu.
    costs : (n_clients, n_widths) int64
    """

    clients: Clients
    units: IntArray
    denominator: int
    costs: IntArray

    @property
    def shape(self) -> tuple[int, int]:
        """Clients and widths."""
        return len(self.clients), self.units.size

    def menu_index(self, width: float, what: str) -> int:
        """Index of a width, or an error that lists the menu."""
        wanted = rational(width, f"{what} width", snap=True)
        for index, unit in enumerate(self.units):
            if Fraction(int(unit), self.denominator) == wanted:
                return index
        menu = ", ".join(f"{unit / self.denominator:g}" for unit in self.units)
        raise InputError(f"{what} names width {width}, which is not in the menu ({menu})")

    def client_row(self, client: str | int, what: str) -> int:
        """Row of a client, by name or number."""
        if isinstance(client, int | np.integer) and 0 <= client < len(self.clients):
            return int(client)
        if isinstance(client, str):
            names = self.clients.names or tuple(map(self.clients.name, range(len(self.clients))))
            if client in names:
                return names.index(client)
        raise InputError(
            f"{what} names client {client!r}: give a name, or a row from 0 to "
            f"{len(self.clients) - 1}"
        )


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
    """

    label: str
    coefficients: IntArray
    lower: int | None = None
    upper: int | None = None
    members: IntArray | None = None

    def total(self, choice: IntArray) -> int:
        """Left-hand side for one allocation."""
        own = choice if self.members is None else choice[self.members]
        return int(self.coefficients[np.arange(own.size), own].sum())

    def excess(self, choice: IntArray) -> int:
        """By how much an allocation breaks the limit; 0 if it holds."""
        total = self.total(choice)
        over = 0 if self.upper is None else total - self.upper
        under = 0 if self.lower is None else self.lower - total
        return max(over, under, 0)


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


Constraint: TypeAlias = RowConstraint | MaskConstraint


@dataclass(frozen=True)
class Coverage:
    """At least a share of the training samples sits on clients at or above a width.

    Keeps the outermost units of the supernet trained.

    Parameters
    ----------
    shares : mapping of width to share in [0, 1]
        Each width must stand in the menu.

    Examples
    --------
    >>> Coverage({0.8: 0.1})
    Coverage(shares={0.8: 0.1})
    """

    shares: Mapping[float, float]

    def rows(self, terms: Terms) -> tuple[Row, ...]:
        """One row per width of the mapping."""
        samples = terms.clients.samples
        rows = []
        for width, share in _items(self.shares, "Coverage", "a share"):
            least = terms.menu_index(width, "Coverage")
            wanted = rational(share, "share")
            if not 0 <= wanted <= 1:
                raise InputError(f"Coverage share {share} of width {width} must lie in [0, 1]")
            label = f"Coverage: {float(wanted):.4g} of the samples at width {width} or wider"
            holds = np.arange(terms.units.size) >= least
            lower = ceil(wanted * int(samples.sum()))
            rows.append(Row(label, samples[:, None] * holds, lower=lower))
        return tuple(rows)


@dataclass(frozen=True)
class Quota:
    """At most so many clients train at a width.

    Parameters
    ----------
    clients_at : mapping of width to the largest number of clients
        Each width must stand in the menu.

    Examples
    --------
    >>> Quota({0.8: 2})
    Quota(clients_at={0.8: 2})
    """

    clients_at: Mapping[float, int]

    def rows(self, terms: Terms) -> tuple[Row, ...]:
        """One row per width of the mapping."""
        rows = []
        for width, limit in _items(self.clients_at, "Quota", "a number of clients"):
            most = _whole(limit, f"Quota {limit!r} of width {width}")
            column = np.zeros(terms.shape, dtype=np.int64)
            column[:, terms.menu_index(width, "Quota")] = 1
            label = f"Quota: at most {most} clients at width {width}"
            rows.append(Row(label, column, upper=most))
        return tuple(rows)


@dataclass(frozen=True, eq=False)
class Budget:
    """A further resource with a limit of its own: uplink bytes, energy, memory.

    Parameters
    ----------
    resource : (n_widths,) or (n_clients, n_widths) whole numbers, or a cost
        What each client takes at each width (one row serves all clients), or a cost family such
        as :func:`hasa_opt.cost.quadratic`.
    limit : int
        In the unit of the resource, over all clients.
    name : str
        For messages.
    """

    resource: npt.ArrayLike | Cost
    limit: int
    name: str = "resource"

    def rows(self, terms: Terms) -> tuple[Row, ...]:
        """One row."""
        most = _whole(self.limit, f"Budget limit {self.limit!r} of {self.name}")
        if callable(self.resource):
            table = evaluated(self.resource, terms.clients, terms.units, terms.denominator).costs
        else:
            table = whole_costs(self.resource)
        if table.shape not in (terms.shape, terms.shape[1:]):
            raise InputError(
                f"Budget of {self.name} has shape {table.shape}: give {terms.shape[1:]} values "
                f"for all clients alike, or {terms.shape}"
            )
        spread = np.broadcast_to(table, terms.shape)
        refuse_overflow(spread, f"Budget of {self.name}")
        return (Row(f"Budget: {self.name} at most {most}", spread, upper=most),)


@dataclass(frozen=True, eq=False)
class SiteBudgets:
    """Budgets nested on a tree of sites: what clients below a site cost together is limited.

    Parameters
    ----------
    tree : networkx.DiGraph
        An arborescence, edges from a site to its parts; clients name their site.
    limits : mapping of site to int
        In the unit of the problem's costs. Sites that are left out have no limit of their own.
    """

    tree: nx.DiGraph
    limits: Mapping[str, int]

    def rows(self, terms: Terms) -> tuple[Row, ...]:
        """One row per limited site, over the clients below it."""
        below = _clients_below(self.tree, terms.clients)
        rows = []
        for site, limit in _items(self.limits, "SiteBudgets", "a limit"):
            most = _whole(limit, f"SiteBudgets limit {limit!r} of site {site!r}")
            if site not in below:
                known = ", ".join(sorted(map(str, below))[:10])
                raise InputError(
                    f"SiteBudgets limits site {site!r}, not in the tree ({known}, ...)"
                )
            members = below[site]
            rows.append(
                Row(f"SiteBudgets: {site}", terms.costs[members], upper=most, members=members)
            )
        return tuple(rows)


@dataclass(frozen=True, eq=False)
class Switches:
    """Re-allocation with a cap on the number of clients whose width changes.

    Parameters
    ----------
    previous : Allocation or (n_clients,) widths
    at_most : int
    """

    previous: Any
    at_most: int

    def rows(self, terms: Terms) -> tuple[Row, ...]:
        """One row that counts the changes; a previous width outside the menu is a change."""
        most = _whole(self.at_most, f"Switches at_most {self.at_most!r}")
        widths = getattr(self.previous, "widths", self.previous)
        before = float_array(widths, "previous widths", terms.shape[:1])
        same = np.abs(before[:, None] - terms.units / terms.denominator) <= 1e-9
        label = f"Switches: at most {most} clients change width"
        return (Row(label, (~same).astype(np.int64), upper=most),)


@dataclass(frozen=True, eq=False)
class MinWidth:
    """No subnet narrower than this.

    Parameters
    ----------
    widths : float or (n_clients,) floats
    """

    widths: npt.ArrayLike

    def mask(self, terms: Terms) -> BoolArray:
        """Widths at or above the least one."""
        given = float_array(self.widths, "MinWidth")
        if given.shape not in ((), terms.shape[:1]):
            raise InputError(f"MinWidth has shape {given.shape}: give one width, or one per client")
        least = np.broadcast_to(given, terms.shape[:1])
        menu: BoolArray = terms.units / terms.denominator >= least[:, None] - 1e-9
        return menu


@dataclass(frozen=True)
class Fixed:
    """Clients whose width is given.

    Parameters
    ----------
    widths : mapping of client name or row to width
    """

    widths: Mapping[str | int, float]

    def mask(self, terms: Terms) -> BoolArray:
        """All widths for the others, one for these."""
        allowed = np.ones(terms.shape, dtype=bool)
        for client, width in _items(self.widths, "Fixed", "a width"):
            row = terms.client_row(client, "Fixed")
            allowed[row] = False
            allowed[row, terms.menu_index(width, "Fixed")] = True
        return allowed


@dataclass(frozen=True)
class Forbidden:
    """Widths that single clients must not have.

    Parameters
    ----------
    widths : mapping of client name or row to widths
    """

    widths: Mapping[str | int, Iterable[float]]

    def mask(self, terms: Terms) -> BoolArray:
        """All widths but these."""
        allowed = np.ones(terms.shape, dtype=bool)
        for client, widths in _items(self.widths, "Forbidden", "widths"):
            row = terms.client_row(client, "Forbidden")
            for width in np.atleast_1d(np.asarray(widths, dtype=object)):
                allowed[row, terms.menu_index(width, "Forbidden")] = False
        return allowed


def _clients_below(tree: Any, clients: Clients) -> dict[Any, IntArray]:
    """Rows of the clients at or below each site of an arborescence, increasing."""
    import networkx as nx

    if not isinstance(tree, nx.DiGraph) or len(tree) == 0 or not nx.is_arborescence(tree):
        raise InputError(
            "SiteBudgets needs an arborescence: a networkx.DiGraph with one root and one edge "
            "into every other site"
        )
    if clients.site is None:
        raise InputError("SiteBudgets needs to know each client's site: give Clients(site=...)")
    own: dict[Any, list[int]] = {site: [] for site in tree}
    for row, site in enumerate(clients.site):
        if site not in own:
            raise InputError(f"{clients.name(row)!r} names site {site!r}, which is not in the tree")
        own[site].append(row)
    below: dict[Any, IntArray] = {}
    for site in nx.dfs_postorder_nodes(tree):
        parts = [np.array(own[site], dtype=np.int64), *(below[part] for part in tree[site])]
        below[site] = np.sort(np.concatenate(parts))
    return below


def _items(given: Any, what: str, value: str) -> list[tuple[Any, Any]]:
    if not isinstance(given, Mapping):
        raise InputError(f"{what} takes a mapping to {value}, not {given!r}")
    return list(given.items())


def _whole(value: Any, what: str) -> int:
    number = Fraction(int(value)) if isinstance(value, Integral) else rational(value, what)
    if isinstance(value, bool) or number.denominator != 1 or number < 0:
        raise InputError(f"{what} must be a whole number of at least 0")
    return int(number)
