"""Gains over uniform, with their intervals."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

from hasa_opt._utils.intervals import t_reach
from hasa_opt._utils.scale import ACCURACY, Scale

__all__ = ["Gain"]

_COARSE = 0.2
"""Width of an interval in points from which a second decimal says nothing."""


@dataclass(frozen=True)
class Gain:
    """A gain over uniform with its interval; above zero is better.

    Attributes
    ----------
    value, low, high : float
        In points of the accuracy, or in the unit of another metric.
    scale : Scale
        The metric. Default: the accuracy.
    """

    value: float
    low: float
    high: float
    scale: Scale = ACCURACY

    @classmethod
    def measured(
        cls,
        value: float,
        variance: float,
        degrees: float,
        confidence: float,
        scale: Scale = ACCURACY,
    ) -> Self:
        """A mean gain with its two-sided interval by Student's t.

        Parameters
        ----------
        value, variance : float
            The mean, and the square of its standard error.
        degrees : float
            Degrees of freedom of the variance; may be infinite.
        confidence : float in (0, 1)
        scale : Scale
        """
        reach = t_reach(max(variance, 0.0) ** 0.5, degrees, confidence)
        return cls(value, value - reach, value + reach, scale)

    @property
    def told(self) -> str:
        """The gain in a sentence, with its unit."""
        return f"{self} points" if self.scale.is_share else f"{self} in {self.scale.name}"

    def __str__(self) -> str:
        digits = self._digits
        value, low, high = (
            round(number, digits) + 0.0 for number in (self.value, self.low, self.high)
        )
        shown = max(digits, 0)
        return f"{value:+.{shown}f} [{low:.{shown}f}, {high:.{shown}f}]"

    @property
    def _digits(self) -> int:
        """Decimals that say something: of another metric, two digits of the interval's width."""
        width = self.high - self.low
        if self.scale.is_share:
            return 1 if width >= _COARSE else 2
        size = width if 0 < width < math.inf else abs(self.value)
        return 1 - math.floor(math.log10(size)) if size else 0
