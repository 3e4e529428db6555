"""Names in a message: the first ones, and how many more there are."""

from __future__ import annotations

from collections.abc import Callable, Collection
from itertools import islice
from typing import Any

__all__ = ["listed"]

_MOST = 10


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
