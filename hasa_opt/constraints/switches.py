"""A cap on how many clients change their width."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from hasa_opt.basics.checks import float_array
from hasa_opt.constraints.limit import Row, whole
from hasa_opt.constraints.terms import Terms

__all__ = ["Switches"]


@dataclass(frozen=True, eq=False)
class Switches:
    """Re-allocation with a cap on the number of clients whose width changes.

    Parameters
    ----------
    previous : Allocation or (n_clients,) widths
    at_most : int
    """

    previous: Any
    at_most: int

    def rows(self, terms: Terms) -> tuple[Row, ...]:
        """One row that counts the changes; a previous width outside the menu is a change."""
        most = whole(self.at_most, f"Switches at_most {self.at_most!r}")
        widths = getattr(self.previous, "widths", self.previous)
        before = float_array(widths, "previous widths", terms.shape[:1])
        same = np.abs(before[:, None] - terms.units / terms.denominator) <= 1e-9
        label = f"Switches: at most {most} clients change width"
        return (Row(label, (~same).astype(np.int64), upper=most),)
