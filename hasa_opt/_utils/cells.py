"""Cells of a table as numbers: what is wrong is named by its line and column."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from decimal import Decimal, InvalidOperation
from math import isfinite
from typing import Any

from hasa_opt._utils.names import distinct, spelled
from hasa_opt._utils.rational import INT64_ROOM
from hasa_opt._utils.tables import Table
from hasa_opt.errors import InputError

__all__ = ["distinct_names", "numbers", "refuse_repeats", "whole_numbers"]

_DIGITS = 19  # of 2**62: a number of fewer digits is below it
_THOUSANDS = re.compile(r"\d{1,3}(\.\d{3})+")  # 1.000, where a comma may be the decimal sign


def whole_numbers(table: Table, column: str) -> list[int]:
    """Whole numbers from 0 of a column; 120.0 is one.

    Raises
    ------
    InputError
        Naming line and column.
    """
    texts = table.column(column)
    if _is_digits("".join(texts)) and all(texts) and max(map(len, texts)) < _DIGITS:
        return list(map(int, texts))
    return [_whole_number(table, row, column, text.strip()) for row, text in enumerate(texts)]


def numbers(table: Table, column: str, *, blank: float | None = None) -> list[float]:
    """Finite numbers of a column; beside another delimiter, a decimal comma will do.

    Parameters
    ----------
    table : Table
    column : str
    blank : float, optional
        What an empty cell stands for. Default: it is refused.

    Raises
    ------
    InputError
        Naming line and column.
    """
    texts = table.column(column)
    if _is_digits("".join(texts).replace(".", "")):
        with suppress(ValueError):
            found = list(map(float, texts))
            if isfinite(max(found)):
                return found
    found = []
    for row, text in enumerate(texts):
        if blank is not None and not text.strip():
            found.append(blank)
            continue
        point = text if table.delimiter == "," else text.replace(",", ".")
        try:
            value = float("" if "_" in text else point)
        except ValueError:
            raise table.fail(row, column, f"{text!r} is not a number") from None
        if not isfinite(value):
            raise table.fail(row, column, f"{text!r} is not a finite number")
        found.append(value)
    return found


def distinct_names(table: Table, column: str) -> tuple[str, ...]:
    """Names of a column, of which no two may be the same.

    Raises
    ------
    InputError
        Naming the line, or both lines.
    """
    names = table.names(column)
    try:
        return distinct(names, column)
    except InputError:
        refuse_repeats(table, column, names)
        raise


def refuse_repeats(table: Table, column: str, keys: Sequence[Any]) -> None:
    """Refuse two rows of one key, with the lines and the spellings of both.

    Parameters
    ----------
    table : Table
    column : str
        The column that is blamed.
    keys : sequence of str, or of (owner, str)

    Raises
    ------
    InputError
        Naming both lines.
    """
    first: dict[Any, int] = {}
    for row, key in enumerate(keys):
        before = first.setdefault(key, row)
        if before != row:
            texts = table.column(column)
            owner = "" if isinstance(key, str) else f" of {key[0]!r}"
            raise table.fail(
                row,
                column,
                f"{texts[row]!r}{owner} already stands on line {table.lines[before]}"
                f"{spelled(texts[before], texts[row])}",
            )


def _is_digits(text: str) -> bool:
    return text.isascii() and text.isdecimal()


def _whole_number(table: Table, row: int, column: str, text: str) -> int:
    if text.isdecimal() and len(text) < _DIGITS:
        return int(text)
    try:
        value = Decimal("nan" if "_" in text else text)
    except InvalidOperation:
        value = Decimal("nan")
    if not value.is_finite():
        raise table.fail(row, column, f"{text!r} is not a whole number")
    if value < 0:
        raise table.fail(row, column, f"{text} is negative: it must be at least 0")
    if value >= INT64_ROOM:
        raise table.fail(row, column, f"{text} exceeds 2**62: count in larger units")
    if value != value.to_integral_value():
        raise table.fail(row, column, f"{text!r} is not a whole number")
    if table.delimiter != "," and _THOUSANDS.fullmatch(text):
        short = text.split(".")[0]
        raise table.fail(row, column, f"{text!r} may be thousands: write {short}000 or {short}")
    return int(value)
