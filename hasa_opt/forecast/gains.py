"""Gains over uniform, with their intervals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from hasa_opt._utils.intervals import t_reach

__all__ = ["Gain"]

_COARSE = 0.2
"""Width of an interval in points from which a second decimal says nothing."""


@dataclass(frozen=True)
class Gain:
    """A gain over uniform in points, with its interval.

    Attributes
    ----------
    value, low, high : float
    """

    value: float
    low: float
    high: float

    @classmethod
    def measured(cls, value: float, variance: float, degrees: float, confidence: float) -> Self:
        """A mean gain with its two-sided interval by Student's t.

        Parameters
        ----------
        value, variance : float
            The mean, and the square of its standard error.
        degrees : float
            Degrees of freedom of the variance; may be infinite.
        confidence : float in (0, 1)
        """
        reach = t_reach(max(variance, 0.0) ** 0.5, degrees, confidence)
        return cls(value, value - reach, value + reach)

    def __str__(self) -> str:
        digits = 1 if self.high - self.low >= _COARSE else 2
        value, low, high = (
            round(number, digits) + 0.0 for number in (self.value, self.low, self.high)
        )
        return f"{value:+.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"
