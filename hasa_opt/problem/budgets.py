"""Limits on what clients cost together: further resources, deviations from plan, nested sites."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from hasa_opt._utils.checks import IntArray, listed
from hasa_opt._utils.names import distinct
from hasa_opt._utils.rational import rational, refuse_overflow
from hasa_opt.clients.clients import Clients
from hasa_opt.errors import InputError
from hasa_opt.problem.cost import Cost, evaluated, whole_costs
from hasa_opt.problem.limits import RobustRow, Row, Terms, items, whole

if TYPE_CHECKING:
    import networkx as nx

__all__ = ["Budget", "Robust", "SiteBudgets"]


@dataclass(frozen=True, eq=False)
class Budget:
    """A further resource with a limit of its own: uplink bytes, energy, memory.

    Parameters
    ----------
    resource : (n_widths,) or (n_clients, n_widths) whole numbers, or a cost
        What each client takes at each width (one row serves all clients), or a cost family such
        as :func:`~hasa_opt.problem.cost.quadratic`.
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
        most = whole(self.limit, f"Budget limit {self.limit!r} of {self.name}")
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
        When the problem is built, for a tree that is no arborescence, a site that is not in it,
        or a limit that is no whole number.
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
