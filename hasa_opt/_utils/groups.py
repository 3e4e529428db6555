"""What all that forms groups shares: matrices of similarities, and how groups are numbered."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from hasa_opt._utils.checks import FloatArray, IntArray
from hasa_opt.errors import InputError

__all__ = ["expect_square", "expect_symmetric", "numbered", "refuse_pair", "sizes_in_words"]


def numbered(groups: npt.ArrayLike) -> IntArray:
    """Groups numbered from 0 in the order in which they appear.

    >>> numbered([7, 3, 7, 5]).tolist()
    [0, 1, 0, 2]
    """
    _, first, inverse = np.unique(groups, return_index=True, return_inverse=True)
    rank = np.empty(first.size, dtype=np.int64)
    rank[np.argsort(first)] = np.arange(first.size)
    return rank[inverse]


def expect_square(shape: tuple[int, ...]) -> None:
    """Refuse what is no square matrix.

    Raises
    ------
    InputError
        With the shape.
    """
    if len(shape) != 2 or shape[0] != shape[1]:
        raise InputError(
            f"similarities have shape {shape}: give a square matrix, a row and a column per client"
        )


def expect_symmetric(table: FloatArray, rounding: float) -> None:
    """Refuse a matrix whose halves differ by more than a share of its largest entry.

    Raises
    ------
    InputError
        Naming the first pair.
    """
    wrong = np.abs(table - table.T) > rounding * np.abs(table).max(initial=0.0)
    if wrong.any():
        refuse_pair(table, *np.argwhere(wrong)[0].tolist())


def refuse_pair(table: Any, row: int, column: int) -> None:
    """Refuse a matrix for the two entries of one pair, which differ.

    Raises
    ------
    InputError
        Always.
    """
    raise InputError(
        f"similarity of {row} and {column} is {table[row, column]:g}, of {column} and {row} "
        f"{table[column, row]:g}: give a symmetric matrix, (a + a.T) / 2 for example"
    )


def sizes_in_words(sizes: IntArray) -> str:
    """Sizes of two groups or more, the largest first.

    >>> sizes_in_words(np.array([2, 4, 3]))
    '4, 3 and 2'
    """
    *most, last = map(str, sorted(sizes.tolist(), reverse=True))
    return f"{', '.join(most)} and {last}"
