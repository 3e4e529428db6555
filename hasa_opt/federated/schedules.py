"""Schedules: what the learning rate of a round is multiplied by."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from numbers import Real

from hasa_opt._utils.checks import sequence, whole
from hasa_opt.errors import InputError

__all__ = ["CosineDecay", "Schedule", "StepDecay"]

Schedule = Callable[[int], float]
"""From the number of a round, from 0, to the factor: finite, and at least 0."""


@dataclass(frozen=True, kw_only=True)
class CosineDecay:
    """Half a cosine from 1 down to ``least``, after a linear warm-up.

    In round t of the warm-up the factor is (t + 1) / warm_up (arXiv:1706.02677, section 2.2), and
    then that of a cosine without restarts (SGDR, arXiv:1608.03983, eq. 5).

    Attributes
    ----------
    rounds : int
        Round from which on the factor is ``least``.
    warm_up : int
        Rounds of the warm-up, fewer than ``rounds``.
    least : float
        From 0 to 1.

    Raises
    ------
    InputError
        If a number is outside of its range.
    """

    rounds: int
    warm_up: int = 0
    least: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= whole(self.warm_up, "warm_up") < whole(self.rounds, "rounds"):
            raise InputError(
                f"warm_up = {self.warm_up} must be from 0 to less than rounds = {self.rounds}"
            )
        if not (isinstance(self.least, Real) and 0 <= self.least <= 1):
            raise InputError(f"least = {self.least} must be a share, from 0 to 1")

    def __call__(self, number: int) -> float:
        """The factor of a round."""
        if number < self.warm_up:
            return (number + 1) / self.warm_up
        passed = min(1.0, (number - self.warm_up) / (self.rounds - self.warm_up))
        return self.least + (1 - self.least) * (1 + math.cos(math.pi * passed)) / 2


@dataclass(frozen=True, kw_only=True)
class StepDecay:
    """Multiply by a factor once more from each of some rounds on.

    Attributes
    ----------
    at : sequence of int
        The rounds.
    factor : float
        Finite, at least 0.

    Raises
    ------
    InputError
        If a round is not a whole number of at least 0, or the factor is outside of its range.
    """

    at: Sequence[int]
    factor: float = 0.1

    def __post_init__(self) -> None:
        object.__setattr__(self, "at", tuple(whole(r, "at") for r in sequence(self.at, "at")))
        if not (isinstance(self.factor, Real) and math.isfinite(self.factor) and self.factor >= 0):
            raise InputError(f"factor = {self.factor} must be finite and at least 0")

    def __call__(self, number: int) -> float:
        """The factor of a round."""
        return self.factor ** sum(begin <= number for begin in self.at)
