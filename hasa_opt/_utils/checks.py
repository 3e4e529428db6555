"""Conversions of a caller's values that name what is wrong with them."""

from __future__ import annotations

from collections.abc import Callable, Collection
from decimal import Decimal
from itertools import islice
from numbers import Integral, Rational
from typing import Any

import numpy as np
import numpy.typing as npt

from hasa_opt.errors import InputError

__all__ = [
    "BoolArray",
    "FloatArray",
    "IntArray",
    "array",
    "confidence_level",
    "expect",
    "extremes",
    "float_array",
    "listed",
    "number",
    "outer",
    "real_array",
    "sequence",
    "several",
    "whole",
    "whole_numbers",
    "widened",
]


FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

_BLOCK = 1 << 13  # rows of a table that a processor's cache holds
_EXACT_FLOAT = 2**53  # from here on float64 skips whole numbers
_LARGEST = int(np.iinfo(np.int64).max)
_CONVERSION = (TypeError, ValueError, OverflowError, ArithmeticError)


def expect(value: object, kind: type, what: str, *, package: str = "hasa_opt") -> None:
    """Refuse a value of another class than the one that is asked for.

    Raises
    ------
    InputError
        Naming both.
    """
    if not isinstance(value, kind):
        raise InputError(f"{what} is a {type(value).__name__}: give a {package}.{kind.__name__}")


def sequence(values: Any, what: str) -> tuple[Any, ...]:
    """Return the members of a sequence.

    Raises
    ------
    InputError
        For what is none.
    """
    try:
        return tuple(values)
    except TypeError as error:
        raise InputError(f"{what} {values!r} is not a sequence: give a list or a tuple") from error


def several(values: Any, what: str) -> tuple[Any, ...]:
    """Return names, of which a single one may be given without a sequence.

    Raises
    ------
    InputError
        For what is neither a name nor a sequence.
    """
    return (values,) if isinstance(values, str) else sequence(values, what)


def array(values: npt.ArrayLike, what: str) -> npt.NDArray[Any]:
    """Return an array of any dtype but complex numbers.

    Raises
    ------
    InputError
        For what is ragged, complex, or in part masked.
    """
    if np.ma.is_masked(values):
        raise InputError(f"{what}: some entries are masked: fill them in or leave them out")
    try:
        given = np.asarray(values)
    except _CONVERSION as error:
        raise InputError(f"{what}: no array, ragged? ({error}): give rows of one length") from error
    if given.dtype.kind == "c":
        raise InputError(f"{what}: complex numbers ({given.dtype}): give real ones")
    return given


def float_array(
    values: npt.ArrayLike, what: str, shape: tuple[int, ...] | None = None
) -> npt.NDArray[np.float64]:
    """Return finite float64 values; single precision is read as the decimal that it prints.

    Parameters
    ----------
    values : array-like
    what : str
        The values in words, for messages.
    shape : tuple of int, optional
        The shape that is needed.

    Raises
    ------
    InputError
        For what is not numeric, of another shape, or not finite; the message names the place.
    """
    floats = real_array(values, what)
    if shape is not None and floats.shape != shape:
        raise InputError(f"{what} have shape {floats.shape}: {shape} expected")
    bad = ~np.isfinite(floats)
    if bad.any():
        at = tuple(np.argwhere(bad)[0].tolist())
        place = f" of row {at[0] if len(at) == 1 else at}" if at else ""
        raise InputError(f"{what}{place} is {floats[at]}: it must be finite")
    return floats


def real_array(values: npt.ArrayLike, what: str) -> npt.NDArray[np.float64]:
    """Return float64 values, finite or not; see :func:`float_array`.

    Raises
    ------
    InputError
        For what is not numeric.
    """
    given = array(values, what)
    if given.dtype.kind not in "iufbO":
        raise InputError(f"{what} are of type {given.dtype}: give numbers")
    try:
        return widened(given)
    except _CONVERSION as error:
        raise InputError(f"{what} are not numbers: {error}") from error


def whole_numbers(
    values: npt.NDArray[Any],
    place: Callable[[tuple[int, ...], Any], str],
    *,
    negative: str = "is negative",
    remedy: str = "",
) -> IntArray:
    """Return numbers as int64, if each is known to be a whole number from 0.

    A float is known to be one only below the power of two from which its type skips whole numbers:
    2**53 for float64, 2**24 for float32, 2**11 for float16.

    Parameters
    ----------
    values : array of numbers or objects
    place : callable
        From the position of an entry and the entry to the beginning of a message about it.
    negative : str
        What to say of an entry below 0.
    remedy : str
        What ends each message.

    Returns
    -------
    int64 array of the same shape

    Raises
    ------
    InputError
        About the first entry that is none.
    """
    if values.dtype.kind == "O":
        values = _unboxed(values, place, remedy)
    if values.dtype.kind == "f":
        exact = np.finfo(values.dtype).nmant + 1
        with np.errstate(invalid="ignore"):
            bad = ~np.isfinite(values) | (values != np.floor(values)) | (abs(values) >= 2.0**exact)
        rule = (
            f"must be a finite whole number ({values.dtype} is exact below 2**{exact} only: give "
            "int64 for more)"
        )
    else:
        bad, rule = values > _LARGEST, "exceeds the largest 64-bit integer"
    if not bad.any():
        bad, rule = values < 0, negative
    if bad.any():
        at = tuple(np.argwhere(bad)[0].tolist())
        raise InputError(f"{place(at, values[at])} {rule}{remedy}")
    return values.astype(np.int64)


def _unboxed(
    values: npt.NDArray[Any], place: Callable[[tuple[int, ...], Any], str], remedy: str
) -> IntArray:
    """Whole numbers among objects, such as those of nullable columns and big integers."""
    numbers = np.zeros(values.shape, dtype=np.int64)
    for at, value in np.ndenumerate(values):
        number = _as_whole(value)
        if number is None:
            raise InputError(f"{place(at, value)} is not a known whole number{remedy}")
        if abs(number) > _LARGEST:
            raise InputError(f"{place(at, value)} exceeds the largest 64-bit integer{remedy}")
        numbers[at] = number
    return numbers


def _as_whole(value: Any) -> int | None:
    """The whole number that an object is known to be, or None."""
    if not isinstance(value, Rational | Decimal | float | np.floating):
        return None
    is_float = isinstance(value, float | np.floating)
    given: Any = value
    try:
        number = int(given)
        same = bool(number == given)
    except _CONVERSION:  # NaN, infinity
        return None
    return number if same and not (is_float and abs(number) >= _EXACT_FLOAT) else None


def widened(values: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Return float64; single precision as the decimal that it prints: 0.35, not 0.34999999."""
    narrow = values.dtype in (np.float32, np.float16)
    return (values.astype(str) if narrow else values).astype(np.float64)


def outer(column: npt.NDArray[Any], row: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Outer product as a read-only table; numpy's own is slow where rows are short."""
    table = np.empty((column.size, row.size), dtype=np.result_type(column, row))
    rows = np.tile(row, _BLOCK)
    for start in range(0, column.size, _BLOCK):
        repeated = np.repeat(column[start : start + _BLOCK], row.size)
        cells = table[start : start + _BLOCK].reshape(-1)
        np.multiply(repeated, rows[: repeated.size], out=cells)
    table.flags.writeable = False
    return table


def extremes(table: npt.NDArray[Any]) -> tuple[Any, Any]:
    """Smallest and largest entry of a table, NaN if there is one, in one pass over memory."""
    parts = range(0, len(table), _BLOCK)
    ends = [(part.min(), part.max()) for part in (table[at : at + _BLOCK] for at in parts)]
    lowest, highest = np.array(ends).T
    return lowest.min(), highest.max()


def number(value: object, what: str, *, infinite: bool = False) -> float:
    """Return one finite float, or also infinity.

    Raises
    ------
    InputError
        For anything else.
    """
    given = array(value, what)  # type: ignore[arg-type]
    if given.dtype.kind not in "iufbO" or given.ndim != 0:
        raise InputError(f"{what} {value!r} must be a finite number")
    try:
        result = float(value)  # type: ignore[arg-type]
    except _CONVERSION as error:
        raise InputError(f"{what} {value!r} must be a finite number") from error
    if not np.isfinite(result) and not (infinite and result > 0):
        raise InputError(f"{what} {value!r} must be a finite number")
    return result


def confidence_level(value: object, what: str = "confidence") -> float:
    """Return the coverage of an interval, between 0 and 1.

    Raises
    ------
    InputError
        For anything else.
    """
    level = number(value, what)
    if not 0 < level < 1:
        raise InputError(f"{what} {value!r} must lie in (0, 1), for example 0.95")
    return level


def whole(value: object, what: str, *, least: int = 0) -> int:
    """Return one whole number of at least ``least``.

    Raises
    ------
    InputError
        For anything else.
    """
    if not isinstance(value, Integral) or isinstance(value, bool) or value < least:
        raise InputError(f"{what} {value!r} must be a whole number of at least {least}")
    return int(value)


_MOST = 10  # members that a message names: about two lines


def listed(
    members: Collection[Any],
    word: Callable[[Any], str] = str,
    *,
    separator: str = ", ",
    most: int = _MOST,
) -> str:
    """Put the words for some members in a row; of many the first ten, and how many more there are.

    >>> listed(range(12))
    '0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 2 more'
    """
    shown = separator.join(map(word, islice(members, most)))
    return f"{shown} and {len(members) - most} more" if len(members) > most else shown
