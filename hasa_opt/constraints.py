"""Constraints beyond the budget: each a small class that states its rows of integers.

A solver that lists a class among its supported constraints translates the rows; every other
solver refuses it by name before any work.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from math import ceil
from typing import Protocol

import numpy as np

from hasa_opt.clients import Clients, IntArray
from hasa_opt.errors import InputError
from hasa_opt.rational import rational

__all__ = ["Constraint", "Coverage", "Quota", "Row"]


@dataclass(frozen=True, eq=False)
class Row:
    """One linear limit: ``lower <= sum_i coefficients[i, choice_i] <= upper``.

    Attributes
    ----------
    label : str
        The limit in words, for messages.
    coefficients : (n_clients, n_widths) int64
    lower, upper : int or None
        None leaves that side open.
    """

    label: str
    coefficients: IntArray
    lower: int | None = None
    upper: int | None = None

    def total(self, choice: IntArray) -> int:
        """Left-hand side for one allocation."""
        return int(self.coefficients[np.arange(choice.size), choice].sum())

    def excess(self, choice: IntArray) -> int:
        """By how much an allocation breaks the limit; 0 if it holds."""
        total = self.total(choice)
        over = 0 if self.upper is None else total - self.upper
        under = 0 if self.lower is None else self.lower - total
        return max(over, under, 0)


class Constraint(Protocol):
    """What a constraint class offers: its rows for given clients and menu."""

    def rows(self, clients: Clients, units: IntArray, denominator: int) -> tuple[Row, ...]:
        """Integer rows of the constraint; ``units / denominator`` is the menu."""
        ...


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

    def rows(self, clients: Clients, units: IntArray, denominator: int) -> tuple[Row, ...]:
        """One row per width of the mapping."""
        total = int(clients.samples.sum())
        rows = []
        for width, share in _pairs(self.shares, "Coverage", "share"):
            least = _menu_index(width, units, denominator, "Coverage")
            wanted = rational(share, "share")
            if not 0 <= wanted <= 1:
                raise InputError(f"Coverage share {share} of width {width} must lie in [0, 1]")
            holds = np.arange(units.size) >= least
            rows.append(
                Row(
                    f"Coverage: {float(wanted):.4g} of the samples at width {width} or wider",
                    clients.samples[:, None] * holds,
                    lower=ceil(wanted * total),
                )
            )
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

    def rows(self, clients: Clients, units: IntArray, denominator: int) -> tuple[Row, ...]:
        """One row per width of the mapping."""
        rows = []
        for width, limit in _pairs(self.clients_at, "Quota", "number of clients"):
            most = rational(limit, f"Quota of width {width}")
            if isinstance(limit, bool) or most.denominator != 1 or most < 0:
                raise InputError(f"Quota {limit!r} of width {width} must be a whole number >= 0")
            at = _menu_index(width, units, denominator, "Quota")
            column = np.zeros((len(clients), units.size), dtype=np.int64)
            column[:, at] = 1
            rows.append(
                Row(f"Quota: at most {most} clients at width {width}", column, None, int(most))
            )
        return tuple(rows)


def _pairs(given: Mapping[float, float], what: str, value: str) -> list[tuple[float, float]]:
    if not isinstance(given, Mapping):
        raise InputError(f"{what} takes a mapping of width to {value}, not {given!r}")
    return list(given.items())


def _menu_index(width: float, units: IntArray, denominator: int, what: str) -> int:
    wanted = rational(width, "width")
    for index, unit in enumerate(units):
        if Fraction(int(unit), denominator) == wanted:
            return index
    menu = ", ".join(f"{unit / denominator:g}" for unit in units)
    raise InputError(f"{what} names width {width}, which is not in the menu ({menu})")
