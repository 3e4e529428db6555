"""Scale: what models are judged by, and how its values and differences are shown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from hasa_opt._utils.checks import FloatArray
from hasa_opt.errors import InputError

__all__ = ["ACCURACY", "Scale", "as_accuracy"]


@dataclass(frozen=True)
class Scale:
    """The metric that models are judged by, and which end of it is better.

    Differences follow one rule, in statistics, tables, figures and forecasts: they are *gains*,
    above zero where what is compared is better than its reference. Where lower is better a gain is
    therefore the reference minus the value. Values themselves are shown as they are.

    Parameters
    ----------
    name : str
        Of the metric. "accuracy" is a share, shown in percent, and its gains are points.
    higher_is_better : bool
    """

    name: str = "accuracy"
    higher_is_better: bool = True

    @property
    def is_share(self) -> bool:
        """Whether it is the accuracy, which is shown in percent."""
        return self.name == "accuracy" and self.higher_is_better

    @property
    def factor(self) -> float:
        """From a value to what is shown."""
        return 100.0 if self.is_share else 1.0

    @property
    def sign(self) -> int:
        """1 where higher is better, -1 where lower is."""
        return 1 if self.higher_is_better else -1

    def shown(self, values: FloatArray) -> FloatArray:
        """Values as they are shown: of the accuracy, percent."""
        return np.asarray(self.factor * values)

    def worth(self, values: FloatArray) -> FloatArray:
        """Values as they are shown, turned so that more is better."""
        return np.asarray(self.sign * self.shown(values))

    def gain(self, values: FloatArray, reference: FloatArray) -> FloatArray:
        """Difference of values to their reference, above zero where they are better."""
        return np.asarray(self.sign * (values - reference))

    def worst_first(self, values: FloatArray) -> FloatArray:
        """Values sorted along the last axis, the worst first."""
        ordered = np.sort(values, axis=-1)
        return ordered if self.higher_is_better else ordered[..., ::-1]

    @property
    def best(self) -> str:
        """The better end in a word."""
        return "highest" if self.higher_is_better else "lowest"

    @property
    def worst(self) -> str:
        """The worse end in a word."""
        return "lowest" if self.higher_is_better else "highest"

    @property
    def title(self) -> str:
        """The metric at the beginning of a heading."""
        return "Accuracy" if self.is_share else self.name

    @property
    def percent(self) -> str:
        """What stands behind a heading of values."""
        return " (%)" if self.is_share else ""

    @property
    def points(self) -> str:
        """What stands behind gains in a sentence."""
        return " points" if self.is_share else ""

    @property
    def direction(self) -> str:
        """Which end is better, in words."""
        return f"{'higher' if self.higher_is_better else 'lower'} is better"

    def label(self, what: str) -> str:
        """Words for an axis of values, such as "Test accuracy (%)"."""
        return f"{what} {self.name}" + (self.percent or f" ({self.direction})")

    @property
    def minus(self) -> str:
        """What stands between a policy and its reference where gains are shown."""
        return "minus" if self.higher_is_better else "below"

    def number(self, value: float) -> str:
        """A shown value in digits: two decimals of percent, four digits of another metric."""
        return self._digits(value, 4)

    def told(self, value: float) -> str:
        """A shown value in a sentence."""
        return f"{self.number(value)} %" if self.is_share else self.number(value)

    def amount(self, value: float) -> str:
        """A gain or a spread in digits."""
        return self._digits(value, 3)

    def signed(self, value: float) -> str:
        """A gain in digits with its sign."""
        return self._digits(value, 3, "+")

    def _digits(self, value: float, digits: int, sign: str = "") -> str:
        if self.is_share:
            return format(value, f"{sign}.2f")
        return format(value, f"{sign}#.{digits}g").rstrip(".")


ACCURACY = Scale()
"""The share of targets that is predicted."""


def as_accuracy(value: Any, metric: str) -> Any:
    """What was measured, if it is the accuracy.

    Raises
    ------
    InputError
        If the metric is another.
    """
    if metric != ACCURACY.name:
        raise InputError(f"the metric is {metric}, no accuracy: read the field that ends in metric")
    return value
