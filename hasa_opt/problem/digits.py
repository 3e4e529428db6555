"""Rows of large whole numbers as rows of small ones, which floating-point solvers tell apart.

``sum a x <= b`` with coefficients of up to 62 bits is written in digits of a base ``B``, as sums
are on paper: with ``a = sum_k a_k B^k`` the lowest digits add up to ``sum a_0 x <= b_0 + B z_1``,
where the carry ``z_1`` is a whole number of at least 0, those of the next place to
``sum a_1 x + z_1 <= b_1 + B z_2``, and so on. Whole numbers ``x`` satisfy the row if and only if
carries exist that satisfy all of these; its linear relaxation is the same, too.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from hasa_opt._utils.checks import IntArray

__all__ = ["Place", "in_digits"]

_BITS = 20
"""Of a digit: times the tolerance of solvers, 1e-6, a carry is off by about one unit."""


@dataclass(frozen=True, eq=False)
class Place:
    """One place of a row in digits: ``sum values x + carried - base * next carry``, limited.

    Attributes
    ----------
    values : (n_values,) int64
    lower, upper : int or None
    base : int
        What the next carry counts here; 0 at the highest place, which has none.
    """

    values: IntArray
    lower: int | None
    upper: int | None
    base: int


def in_digits(values: IntArray, lower: int | None, upper: int | None) -> Iterator[list[Place]]:
    """Places of each side of a row, the lowest first.

    Parameters
    ----------
    values : (n_values,) int64
        At least 0.
    lower, upper : int or None
        Of a row with both, each gets places and carries of its own.

    Yields
    ------
    list of Place
        Every place but the lowest takes the carry of the one before it.
    """
    bits = max(1, int(values.max(initial=0)).bit_length())
    n_places = -(-bits // _BITS)
    shift = -(-bits // n_places)
    shifts = range(0, n_places * shift, shift)
    base = 1 << shift
    digits = [(values >> at) & (base - 1) for at in shifts]
    bases = [base] * (n_places - 1) + [0]
    if upper is not None:
        limits = _split(upper, shifts, base)
        yield [
            Place(own, None, limit, carry)
            for own, limit, carry in zip(digits, limits, bases, strict=True)
        ]
    if lower is not None:
        # What is missing may be borrowed, a carry of -1: here carries count from there.
        limits = _split(lower, shifts, base)
        borrowed = [(at > 0) - carry for at, carry in zip(shifts, bases, strict=True)]
        yield [
            Place(own, limit + more, None, carry)
            for own, limit, more, carry in zip(digits, limits, borrowed, bases, strict=True)
        ]


def _split(limit: int, shifts: range, base: int) -> list[int]:
    """Digits of a limit, all but the highest at least 0."""
    digits = [(limit >> at) & (base - 1) for at in shifts[:-1]]
    return [*digits, limit >> shifts[-1]]
