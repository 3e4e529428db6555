"""What an allocation takes of each limit, and whether the limit binds."""

from __future__ import annotations

from dataclasses import dataclass

from hasa_opt._utils.checks import FloatArray, IntArray
from hasa_opt.problem.limits import Row

__all__ = ["Standing", "standings"]


@dataclass(frozen=True)
class Standing:
    """One limit beside what an allocation takes of it.

    Attributes
    ----------
    label : str
        The limit in words.
    value : int
        What the allocation takes, in the unit of the limit.
    lower, upper : int or None
        None leaves that side open.
    price : float
        Shadow price in the linear relaxation.
    """

    label: str
    value: int
    lower: int | None
    upper: int | None
    price: float

    @property
    def binds(self) -> bool:
        """Whether easing the limit would be worth something, by the linear relaxation."""
        return self.price != 0

    def __str__(self) -> str:
        most = "" if self.upper is None else f" of at most {self.upper:,}"
        least = "" if self.lower is None else f", at least {self.lower:,} wanted"
        return f"{self.label}: {self.value:,}{most}{least}; {self._verdict}"

    @property
    def _verdict(self) -> str:
        if self.binds:
            change = "one unit more" if self.price > 0 else "one unit less"
            return f"binds, {change} is worth {abs(self.price):.4g}"
        if self.value in (self.lower, self.upper):
            return "met exactly, without a price"
        return "does not bind"


def standings(limits: tuple[Row, ...], choice: IntArray, prices: FloatArray) -> list[Standing]:
    """Each limit that somebody has stated.

    Parameters
    ----------
    limits : tuple of Row
        The budget first.
    choice : (n_clients,) int64
    prices : (n_limits,) float64
    """
    return [
        Standing(row.label, row.total(choice), row.lower, row.upper, price)
        for row, price in zip(limits, prices.tolist(), strict=True)
        if not row.link
    ]
