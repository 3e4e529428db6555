"""What one allocation costs and is worth."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Totals"]


@dataclass(frozen=True)
class Totals:
    """What one allocation costs and is worth, recomputed from the problem's own arrays.

    Attributes
    ----------
    objective : float
        Sum of the utilities.
    spent : int
        Sum of the costs, exact.
    limit : int
        The budget in the same unit.
    violations : tuple of str
        Every limit that the allocation breaks, in words; empty if it is feasible.
    """

    objective: float
    spent: int
    limit: int
    violations: tuple[str, ...]

    @property
    def feasible(self) -> bool:
        """True if no limit is broken."""
        return not self.violations
