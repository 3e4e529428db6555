"""Widths that single clients must or must not have: every solver understands these."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hasa_opt.basics.checks import float_array
from hasa_opt.constraints.limit import BoolArray, items
from hasa_opt.constraints.terms import Terms
from hasa_opt.errors import InputError

__all__ = ["Fixed", "Forbidden", "MinWidth"]


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
        for client, width in items(self.widths, "Fixed", "a width"):
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
        for client, widths in items(self.widths, "Forbidden", "widths"):
            row = terms.client_row(client, "Forbidden")
            for width in np.atleast_1d(np.asarray(widths, dtype=object)):
                allowed[row, terms.menu_index(width, "Forbidden")] = False
        return allowed
