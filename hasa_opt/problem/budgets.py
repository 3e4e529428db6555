"""Limits on what clients cost together: further resources, deviations from plan, nested sites."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from hasa_opt._utils.checks import IntArray, listed
from hasa_opt._utils.names import distinct, keyed, tidy
from hasa_opt._utils.rational import least_share, rational, refuse_overflow
from hasa_opt.clients.clients import Clients
from hasa_opt.errors import InputError
from hasa_opt.problem.cost import Cost, evaluated, whole_costs
from hasa_opt.problem.limits import Constraint, RobustRow, Row, Share, Terms, items, whole
from hasa_opt.problem.menu import COST, Menu
from hasa_opt.problem.pricing import Priced

if TYPE_CHECKING:
    import networkx as nx

__all__ = [
    "Budget",
    "Budgets",
    "Robust",
    "SiteBudgets",
    "budget_share",
    "in_units",
    "no_full",
    "share_of_full",
]

_MOST_SHARE = 1000
"""A share above it is taken for units: it could bind nothing, and nobody would notice."""


@dataclass(frozen=True, eq=False)
class Budget:
    """A resource with an absolute limit: uplink bytes, energy, memory.

    Parameters
    ----------
    resource : str, whole numbers or a cost
        Name of a resource of the menu; or what each client takes of each option, ``(m,)`` for all
        alike or ``(n_clients, m)``; or a cost family such as
        :func:`~hasa_opt.problem.cost.quadratic`.
    limit : int
        In the unit of the resource, over all clients.
    name : str, optional
        For messages. Default: that of the resource, or "resource".
    rounds : int
        Rounds in which the limit is spent: each round may take ``limit // rounds``.

    Examples
    --------
    >>> Budget("joules", 5_000).name
    'joules'
    """

    resource: str | npt.ArrayLike | Cost
    limit: int
    name: str = ""
    rounds: int = 1

    def __post_init__(self) -> None:
        known = "resource"
        if isinstance(self.resource, str):
            known = tidy(self.resource)
            object.__setattr__(self, "resource", known)
        object.__setattr__(self, "name", tidy(self.name) or known)

    @property
    def per_round(self) -> int:
        """What one round may take.

        Raises
        ------
        InputError
            If the limit is not a whole number, or the rounds are below 1.
        """
        most = whole(self.limit, f"Budget limit {self.limit!r} of {self.name}")
        rounds = whole(self.rounds, f"Budget rounds {self.rounds!r} of {self.name}")
        if rounds < 1:
            raise InputError(f"Budget rounds {self.rounds} of {self.name} must be at least 1")
        return most // rounds

    def rows(self, terms: Terms) -> tuple[Row, ...]:
        """One row."""
        most = self.per_round
        own = self.resource if isinstance(self.resource, str) else ""
        if own:
            table = terms.costs_of(own, "Budget")
        elif callable(self.resource):
            table = _of_family(self.resource, terms, self.name)
        else:
            table = whole_costs(self.resource)
        if table.shape not in (terms.shape, terms.shape[1:]):
            raise InputError(
                f"Budget of {self.name} has shape {table.shape}: give {terms.shape[1:]} values "
                f"for all clients alike, or {terms.shape}"
            )
        spread = np.broadcast_to(table, terms.shape)
        refuse_overflow(spread, f"Budget of {self.name}")
        return (Row(f"Budget: {self.name} at most {most}", spread, upper=most, resource=own),)


def _of_family(cost: Cost, terms: Terms, name: str) -> IntArray:
    if terms.menu.units is None:
        raise InputError(
            f"Budget of {name} is a cost family, which asks the width of each option, but the "
            "menu has no widths: give whole numbers"
        )
    return evaluated(cost, terms.clients, *terms.menu.units).costs


@dataclass(frozen=True, eq=False)
class Budgets:
    """The budgets of a menu's resources: shares as they were given, limits in whole units.

    Attributes
    ----------
    first : str
        The resource that solvers treat as the budget: the first one that is limited, or else the
        first of the menu.
    share : float or None
        Its share, if it was given as one.
    limits : dict of str to int
        Limit of each limited resource, in its unit.
    others : tuple of Constraint
        The constraints, without an absolute budget of the first resource.
    shares : dict of str to Share
        The limits that were given as shares.
    """

    first: str
    share: float | None
    limits: Mapping[str, int]
    others: tuple[Constraint, ...]
    shares: Mapping[str, Share]

    @classmethod
    def read(
        cls,
        budget: float | Mapping[str, float] | None,
        menu: Menu,
        priced: Mapping[str, Priced],
        constraints: tuple[Constraint, ...],
    ) -> Budgets:
        """Read the shares; a resource may have an absolute budget instead.

        Raises
        ------
        InputError
            For a share of a resource that has no full cost, one float for several resources, or
            two limits of one resource.
        """
        shares = _shares(budget, menu.resources)
        limits, given = {}, {}
        for resource, share in shares.items():
            given[resource] = share_of_full(share, priced[resource].full, resource)
            limits[resource] = given[resource].most
        absolute = {
            item.resource: item
            for item in constraints
            if isinstance(item, Budget) and isinstance(item.resource, str)
        }
        for resource in absolute.keys() & limits.keys():
            raise InputError(
                f"{resource!r} has a share in budget= and an absolute Budget: leave one out"
            )
        limited = [name for name in menu.resources if name in limits or name in absolute]
        first = limited[0] if limited else menu.resources[0]
        others = constraints
        if first in absolute:
            limits[first] = absolute[first].per_round
            others = tuple(item for item in constraints if item is not absolute[first])
        share_of_first = float(shares[first]) if first in shares else None
        return cls(first, share_of_first, limits, others, given)

    def rows(self, priced: Mapping[str, Priced]) -> list[Row]:
        """Rows of the limited resources but the first."""
        return [
            Row(
                f"Budget: {name} at most {limit}",
                priced[name].costs,
                upper=limit,
                share=self.shares[name],
                resource=name,
            )
            for name, limit in self.limits.items()
            if name != self.first
        ]


def _shares(
    budget: float | Mapping[str, float] | None, resources: tuple[str, ...]
) -> dict[str, Fraction]:
    if budget is None:
        return {}
    if not isinstance(budget, Mapping):
        if len(resources) > 1:
            raise InputError(
                f"budget {budget} is one number, but the menu has the resources "
                f"{listed(resources)}: give a mapping such as {{{resources[0]!r}: {budget}}}"
            )
        return {resources[0]: budget_share(budget)}
    given = keyed(budget, "budget")
    for name in given:
        if name not in resources:
            raise InputError(
                f"budget names resource {name!r}, which is not in the menu ({listed(resources)})"
            )
    return {name: budget_share(given[name]) for name in resources if name in given}


def budget_share(budget: float) -> Fraction:
    """The share as it was written, above 0; rounding in floating point is mended.

    Raises
    ------
    InputError
        If it is not a number above 0, or so large that units are meant.
    """
    share = rational(budget, "budget", snap=True)
    if share <= 0:
        raise InputError(
            f"budget {budget} must be above {least_share(budget)}: it is the share of the full "
            "width's cost that all clients together may spend, such as 0.5"
        )
    if share > _MOST_SHARE:
        raise InputError(
            f"budget {budget} is a share, {budget} times what everybody costs at full: for so many "
            f'units of a menu give the constraint Budget("resource", {budget}), or --limit'
        )
    return share


def share_of_full(share: Fraction, full: int | None, resource: str) -> Share:
    """A share of what everybody costs at the option ``full``.

    Raises
    ------
    InputError
        If the resource has no full cost.
    """
    if full is None:
        raise no_full(resource)
    return Share(share, full)


def in_units(limit: int, full: int, resource: str) -> str:
    """A share of what everybody costs, in the unit of the costs."""
    return f"{limit:,} of {full:,} {f'{COST} units' if resource == COST else resource}"


def no_full(resource: str) -> InputError:
    """The error for a share of a resource that has no full cost."""
    return InputError(
        f"a share of {resource!r} has no reference: name the option that everybody would take at "
        f"full cost, Menu(full=...), which must cost something, or give an absolute limit, "
        f'Budget("{resource}", ...)'
    )


@dataclass(frozen=True, eq=False)
class Robust:
    """The budget holds although any ``gamma`` clients cost up to their deviation more.

    Protects against stragglers and mis-measured devices at once without planning for the worst of
    all of them (Bertsimas and Sim, The Price of Robustness, Operations Research 52, 2004).

    Parameters
    ----------
    gamma : int
        How many clients may deviate at once; 0 is the budget as it is, ``n_clients`` the worst
        case.
    deviation : float, or whole numbers
        A float is a share of the client's own cost at its width (0.2: up to a fifth more, rounded
        up to whole units). Integers ``(n_clients,)`` or ``(n_clients, n_widths)`` are in the unit
        of the problem's costs.

    Examples
    --------
    >>> Robust(gamma=2, deviation=0.2)
    Robust(gamma=2, deviation=0.2)
    """

    gamma: int
    deviation: npt.ArrayLike

    def rows(self, terms: Terms) -> tuple[RobustRow, ...]:
        """One row: the budget in the worst case."""
        given = whole(self.gamma, f"Robust gamma {self.gamma!r} (how many clients may deviate)")
        most = min(given, terms.shape[0])
        worst = self._worst(terms)
        total = terms.costs.astype(np.float64) + worst
        refuse_overflow(total, "the cost table with the deviations of Robust")
        label = f"Robust: the budget, whichever {most} clients deviate"
        return (RobustRow(label, terms.costs, upper=terms.limit, gamma=most, deviation=worst),)

    def _worst(self, terms: Terms) -> IntArray:
        """Deviation of each client at each width, ``(n_clients, n_widths)``."""
        if isinstance(self.deviation, float | np.floating | str):
            return _share(self.deviation, terms.costs)
        table = whole_costs(self.deviation, "Robust deviation")
        if table.shape == terms.shape[:1]:
            table = table[:, None]
        elif table.shape != terms.shape:
            raise InputError(
                f"Robust deviation has shape {table.shape}: give a share such as 0.2, "
                f"{terms.shape[:1]} or {terms.shape} whole numbers"
            )
        return np.broadcast_to(table, terms.shape)


def _share(deviation: Any, costs: IntArray) -> IntArray:
    """A share of the costs, rounded up."""
    share = rational(deviation, "Robust deviation")
    if not 0 <= share <= 1:
        raise InputError(
            f"Robust deviation {deviation} must lie in [0, 1], a share of the cost: "
            "give integers for more"
        )
    share = share.limit_denominator(10**6)
    whole_parts, rest = np.divmod(costs, share.denominator)
    rounded: IntArray = -(-rest * share.numerator // share.denominator)
    return whole_parts * share.numerator + rounded


@dataclass(frozen=True, eq=False)
class SiteBudgets:
    """Budgets nested on a tree of sites: what clients below a site cost together is limited.

    Parameters
    ----------
    tree : networkx.DiGraph
        An arborescence, edges from a site to its parts; clients name their site. Sites that are
        whole numbers are named by their digits.
    limits : mapping of site to int
        In the unit of the problem's costs. Sites that are left out have no limit of their own.

    Raises
    ------
    InputError
        When the problem is built, for a tree that is not an arborescence, a site outside the
        tree, or a limit that is not a whole number.
    """

    tree: nx.DiGraph
    limits: Mapping[str | int, int]

    def rows(self, terms: Terms) -> tuple[Row, ...]:
        """One row per limited site, over the clients below it."""
        below = _clients_below(self.tree, terms.clients)
        given = items(self.limits, "SiteBudgets", "a limit")
        sites = distinct([site for site, _ in given], "SiteBudgets limits")
        rows = []
        for site, (_, limit) in zip(sites, given, strict=True):
            most = whole(limit, f"SiteBudgets limit {limit!r} of site {site!r}")
            if site not in below:
                known = listed(sorted(below))
                raise InputError(f"SiteBudgets limits site {site!r}, not in the tree ({known})")
            members = below[site]
            rows.append(
                Row(f"SiteBudgets: {site}", terms.costs[members], upper=most, members=members)
            )
        return tuple(rows)


def _clients_below(tree: Any, clients: Clients) -> dict[str, IntArray]:
    """Rows of the clients at or below each site of an arborescence, increasing."""
    import networkx as nx

    if not isinstance(tree, nx.DiGraph) or len(tree) == 0 or not nx.is_arborescence(tree):
        raise InputError(
            "SiteBudgets needs an arborescence: a networkx.DiGraph with one root and one edge "
            "into every other site"
        )
    if clients.site is None:
        raise InputError("SiteBudgets needs to know each client's site: give Clients(site=...)")
    names = dict(zip(tree, distinct(tree, "SiteBudgets tree"), strict=True))
    here: dict[str, list[int]] = {name: [] for name in names.values()}
    for row, site in enumerate(clients.site):
        if site not in here:
            raise InputError(f"{clients.name(row)!r} names site {site!r}, which is not in the tree")
        here[site].append(row)
    below: dict[str, IntArray] = {}
    for site in nx.dfs_postorder_nodes(tree):
        parts = [below[names[part]] for part in tree[site]]
        rows_here = np.array(here[names[site]], dtype=np.int64)
        below[names[site]] = np.sort(np.concatenate([rows_here, *parts]))
    return below
