"""Budgets nested on a tree of sites."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from hasa_opt.basics.listing import listed
from hasa_opt.clients import Clients, IntArray
from hasa_opt.constraints.limit import Row, items, whole
from hasa_opt.constraints.terms import Terms
from hasa_opt.errors import InputError

if TYPE_CHECKING:
    import networkx as nx

__all__ = ["SiteBudgets"]


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
        for site, limit in items(self.limits, "SiteBudgets", "a limit"):
            most = whole(limit, f"SiteBudgets limit {limit!r} of site {site!r}")
            if site not in below:
                known = listed(sorted(map(str, below)))
                raise InputError(f"SiteBudgets limits site {site!r}, not in the tree ({known})")
            members = below[site]
            rows.append(
                Row(f"SiteBudgets: {site}", terms.costs[members], upper=most, members=members)
            )
        return tuple(rows)


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
