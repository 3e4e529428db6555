"""Exact arithmetic for shares, widths and limits: what a user writes as 0.35 is 7/20."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from itertools import pairwise
from math import ceil, floor, lcm

import numpy as np
import numpy.typing as npt

from hasa_opt._utils.checks import FloatArray, IntArray, array, outer
from hasa_opt.errors import InputError

__all__ = [
    "INT64_ROOM",
    "SAME_WIDTH",
    "common_units",
    "decimal_above",
    "decimal_below",
    "least_share",
    "menu_units",
    "outer_product",
    "rational",
    "refuse_overflow",
    "told_from",
    "widest_within",
    "written",
]

INT64_ROOM = 2**62
"""Largest integer total that the library works with (half of the int64 range)."""

SAME_WIDTH = 1e-9
"""Rounding of widths in floating point: far above its errors, far below any step of a menu."""

_LARGEST_COMMON = 10**9  # with totals of samples up to 10**9 times as much, costs fit 64 bits
_LARGEST_DENOMINATOR = 10**6  # fractions with smaller ones are what people write: 1/3, 0.35
_ROUNDING = Fraction(1, 10**12)  # far above the error of a few operations on widths


def rational(value: float | Fraction, what: str, *, snap: bool = False) -> Fraction:
    """Return the rational number that a float was written as.

    ``0.35`` gives 7/20 and ``1 / 3`` gives 1/3: the fraction with a denominator up to 10**6 that
    is the same float, else the decimal that Python prints. With ``snap``, a fraction within 1e-12
    of a decimal of more than nine places serves as well: ``0.1 + 0.2`` gives 3/10.

    Raises
    ------
    InputError
        If the value is not a finite number.
    """
    if isinstance(value, Fraction):
        return value
    try:
        array(value, what)
        narrow = isinstance(value, np.floating)
        written = Fraction(repr(float(str(value) if narrow else value)))
    except (TypeError, ValueError, ArithmeticError) as error:
        raise InputError(f"{what} {value!r} must be a finite number") from error
    simple = written.limit_denominator(_LARGEST_DENOMINATOR)
    noisy = snap and written.denominator > _LARGEST_COMMON
    same = float(simple) == float(written) or (noisy and abs(simple - written) <= _ROUNDING)
    return simple if same else written


def least_share(value: float, what: str = "share") -> str:
    """What a share that counts as 0, or is below it, must be above, in words."""
    return f"{float(_ROUNDING):g}" if 0 < rational(value, what) <= _ROUNDING else "0"


def written(value: float) -> str:
    """A number in six digits if these say all of it, else as Python prints it.

    Examples
    --------
    >>> written(1.0), written(0.35), written(0.29999999)
    ('1', '0.35', '0.29999999')
    """
    short = f"{value:g}"
    return short if float(short) == value else repr(float(value))


def told_from(value: float, given: float) -> str:
    """A number in four digits, or in as many as show on which side of another one it lies.

    The other one stands beside it, as :func:`written` has it.

    Examples
    --------
    >>> told_from(1 / 3, 0.3), told_from(0.3, 0.3 - 1e-7), told_from(0.30000001234, 0.3)
    ('0.3333', '0.3', '0.30000001')
    """
    side = value < given, value > given
    shown = (f"{value:.{digits}g}" for digits in range(4, 18))
    return next(
        (text for text in shown if (float(text) < given, float(text) > given) == side),
        repr(float(value)),
    )


def decimal_above(share: Fraction) -> str:
    """Shortest decimal of at least four digits that is not below the share, nor far above.

    Parameters
    ----------
    share : Fraction
        Above 0.

    Returns
    -------
    str

    Examples
    --------
    >>> decimal_above(Fraction(1, 3)), decimal_above(Fraction(1))
    ('0.3334', '1')
    """
    return _decimal(share, ceil)


def decimal_below(share: Fraction) -> str:
    """Shortest decimal of at least four digits that is not above the share, nor far below.

    Parameters
    ----------
    share : Fraction
        At least 0.

    Returns
    -------
    str

    Examples
    --------
    >>> decimal_below(Fraction(2, 3)), decimal_below(Fraction(0))
    ('0.6666', '0')
    """
    return _decimal(share, floor)


def _decimal(share: Fraction, whole: Callable[[Fraction], int]) -> str:
    digits = 4
    while abs((scaled := Fraction(whole(share * 10**digits), 10**digits)) - share) > share / 1000:
        digits += 1
    return f"{float(scaled):.{digits}f}".rstrip("0").rstrip(".")


def menu_units(widths: Sequence[float] | npt.NDArray[np.float64]) -> tuple[IntArray, int]:
    """Integer units of a menu of widths and their common denominator.

    Returns
    -------
    units : (n_widths,) int64
        ``widths * denominator``, exactly.
    denominator : int

    Raises
    ------
    InputError
        If the menu is empty, not strictly increasing, outside (0, 1], or has no common
        denominator up to 10**9.

    Examples
    --------
    >>> units, denominator = menu_units([0.2, 0.35, 0.5])
    >>> units.tolist(), denominator
    ([4, 7, 10], 20)
    """
    given = np.atleast_1d(array(widths, "widths"))
    menu = [rational(width, "width", snap=True) for width in given]
    if not menu:
        raise InputError("the menu of widths is empty: give at least one width")
    for value, width in zip(given.tolist(), menu, strict=True):
        if not 0 < width <= 1:
            raise InputError(f"width {value} must lie in ({least_share(value)}, 1]")
    for narrow, wide in pairwise(menu):
        if narrow >= wide:
            raise InputError(
                f"widths must increase strictly: {float(narrow)} stands before {float(wide)}"
            )
    return common_units(menu)


def common_units(widths: Sequence[Fraction]) -> tuple[IntArray, int]:
    """Widths as multiples of one over their common denominator, and the denominator.

    Raises
    ------
    InputError
        If there is none up to 10**9.
    """
    denominator = lcm(*(width.denominator for width in widths))
    if denominator > _LARGEST_COMMON:
        raise InputError(
            "the widths have no common denominator up to 10**9: round them to 6 decimals"
        )
    return np.array([int(width * denominator) for width in widths], dtype=np.int64), denominator


def widest_within(menu: FloatArray, limits: FloatArray) -> IntArray:
    """Place of the widest width of an increasing menu within each limit; -1 where none is."""
    return np.searchsorted(menu, limits + SAME_WIDTH, side="right") - 1


def outer_product(samples: IntArray, units: IntArray, what: str) -> IntArray:
    """``samples x units``, read-only int64 ``(n_clients, n_units)``, no total beyond 2**62."""
    total, largest = int(samples.sum()), int(units.max())
    if total * largest > INT64_ROOM:
        raise InputError(
            f"{what}: the total {total} x {largest} exceeds 2**62 and would overflow: "
            "count samples or costs in larger units"
        )
    return outer(samples, units)


def refuse_overflow(
    table: IntArray | npt.NDArray[np.float64], what: str, highest: int | None = None
) -> None:
    """Refuse a table ``(n_clients, n_widths)`` of which an allocation could exceed 2**62.

    Its highest entry is found unless it is given.

    Raises
    ------
    InputError
        Naming the largest total.
    """
    if int(table.max() if highest is None else highest) * table.shape[0] <= INT64_ROOM:
        return
    largest = float(table.max(axis=1).sum(dtype=np.float64))
    if largest > INT64_ROOM:
        raise InputError(
            f"{what}: the largest total {largest:.3g} exceeds 2**62 and would overflow: "
            "count samples or costs in larger units"
        )
