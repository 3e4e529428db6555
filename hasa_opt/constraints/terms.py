"""What a constraint may refer to."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from hasa_opt.basics.listing import listed
from hasa_opt.basics.rational import rational
from hasa_opt.clients import Clients, IntArray
from hasa_opt.errors import InputError

__all__ = ["Terms"]


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
    limit : int
        The budget in the unit of the costs.
    """

    clients: Clients
    units: IntArray
    denominator: int
    costs: IntArray
    limit: int

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
        menu = listed(self.units, lambda unit: f"{unit / self.denominator:g}")
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
