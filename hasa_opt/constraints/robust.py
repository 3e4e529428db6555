"""A budget that holds although some clients cost more than planned."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hasa_opt.basics.rational import rational, refuse_overflow
from hasa_opt.clients import IntArray
from hasa_opt.constraints.limit import RobustRow, whole
from hasa_opt.constraints.terms import Terms
from hasa_opt.cost import whole_costs
from hasa_opt.errors import InputError

__all__ = ["Robust"]


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
