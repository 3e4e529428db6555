"""Widths that single clients must or must not have: every solver understands these."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import ceil

import numpy as np
import numpy.typing as npt

from hasa_opt._utils.checks import BoolArray, float_array
from hasa_opt._utils.rational import rational
from hasa_opt.errors import InputError
from hasa_opt.problem.limits import Row, Terms, whole
from hasa_opt.problem.matching import client_widths
from hasa_opt.problem.result import Allocation

__all__ = ["Coverage", "Fixed", "Forbidden", "MinWidth", "Quota", "Switches"]


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
        for least, width, share in terms.by_width(self.shares, "Coverage", "a share"):
            wanted = rational(share, "share")
            if not 0 <= wanted <= 1:
                raise InputError(f"Coverage share {share} of width {width} must lie in [0, 1]")
            label = f"Coverage: {float(wanted):.4g} of the samples at width {width} or wider"
            holds = np.arange(terms.units.size) >= least
            lower = ceil(wanted * int(samples.sum()))
            rows.append(Row(label, samples[:, None] * holds, lower=lower))
        return tuple(rows)


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
        for row, width in terms.by_client(self.widths, "Fixed", "a width"):
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
        for row, widths in terms.by_client(self.widths, "Forbidden", "widths"):
            for width in np.atleast_1d(np.asarray(widths, dtype=object)):
                allowed[row, terms.menu_index(width, "Forbidden")] = False
        return allowed


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
        for index, width, limit in terms.by_width(self.clients_at, "Quota", "a number of clients"):
            most = whole(limit, f"Quota {limit!r} of width {width}")
            column = np.zeros(terms.shape, dtype=np.int64)
            column[:, index] = 1
            label = f"Quota: at most {most} clients at width {width}"
            rows.append(Row(label, column, upper=most))
        return tuple(rows)


@dataclass(frozen=True, eq=False)
class Switches:
    """Re-allocation with a cap on the number of clients whose width changes.

    Parameters
    ----------
    previous : Allocation, mapping of client name to width, or (n_clients,) widths
        The widths of before. The first two are matched by name: whoever joined since is no
        change, and whoever left does not count. Bare widths are in the order of the clients.
    at_most : int

    Raises
    ------
    InputError
        When the problem is built, for widths of other clients or a number below 0.
    """

    previous: Allocation | Mapping[str, float] | npt.ArrayLike
    at_most: int

    def rows(self, terms: Terms) -> tuple[Row, ...]:
        """One row that counts the changes; a previous width outside the menu is a change."""
        most = whole(self.at_most, f"Switches at_most {self.at_most!r}")
        before = client_widths(
            self.previous, terms.clients, "Switches: previous widths", newcomers=True
        )
        changed = np.abs(before[:, None] - terms.units / terms.denominator) > 1e-9
        label = f"Switches: at most {most} clients change width"
        return (Row(label, changed.astype(np.int64), upper=most),)
