"""A further resource with a limit of its own."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hasa_opt.basics.rational import refuse_overflow
from hasa_opt.constraints.limit import Row, whole
from hasa_opt.constraints.terms import Terms
from hasa_opt.cost import Cost, evaluated, whole_costs
from hasa_opt.errors import InputError

__all__ = ["Budget"]


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
