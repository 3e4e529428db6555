"""Conversions of a caller's values that name what is wrong with them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from hasa_opt.errors import InputError

__all__ = ["float_array", "number", "outer", "widened"]

_BLOCK = 1 << 13


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
    try:
        given = np.asarray(values)
        floats = widened(given)
    except (TypeError, ValueError) as error:
        raise InputError(f"{what} are not numbers: {error}") from error
    if given.dtype.kind not in "iufbO":
        raise InputError(f"{what} are of type {given.dtype}: give numbers")
    if shape is not None and floats.shape != shape:
        raise InputError(f"{what} have shape {floats.shape}: {shape} expected")
    bad = ~np.isfinite(floats)
    if bad.any():
        at = tuple(int(axis[0]) for axis in np.nonzero(bad))
        row = at[0] if len(at) == 1 else at
        raise InputError(f"{what} of row {row} is {floats[at]}: it must be finite")
    return floats


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


def number(value: object, what: str) -> float:
    """Return one finite float.

    Raises
    ------
    InputError
        For anything else.
    """
    if isinstance(value, str) or np.ndim(value) != 0:  # type: ignore[arg-type]
        raise InputError(f"{what} {value!r} must be a finite number")
    try:
        result = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError) as error:
        raise InputError(f"{what} {value!r} must be a finite number") from error
    if not np.isfinite(result):
        raise InputError(f"{what} {value!r} must be a finite number")
    return result
