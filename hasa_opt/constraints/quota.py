"""At most so many clients train at a width."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from hasa_opt.constraints.limit import Row, items, whole
from hasa_opt.constraints.terms import Terms

__all__ = ["Quota"]


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
        for width, limit in items(self.clients_at, "Quota", "a number of clients"):
            most = whole(limit, f"Quota {limit!r} of width {width}")
            column = np.zeros(terms.shape, dtype=np.int64)
            column[:, terms.menu_index(width, "Quota")] = 1
            label = f"Quota: at most {most} clients at width {width}"
            rows.append(Row(label, column, upper=most))
        return tuple(rows)
