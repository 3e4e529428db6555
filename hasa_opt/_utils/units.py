"""Whole units: how many of them a width keeps, and which widths are whole units.

A network has whole units, so a subnet of width ``r`` keeps ``floor(r * K)`` of the ``K`` units of a
group, and at least one.
"""

from __future__ import annotations

import math

import numpy as np

from hasa_opt._utils.checks import FloatArray

__all__ = ["ROUNDING", "count_units", "count_whole", "whole_widths"]

ROUNDING = 1e-6
"""A product that lies this close below a whole number counts as that number.

In floating point ``0.29 * 100`` is below 29, by 4e-15; a width of 0.29 keeps 29 units of 100 all
the same. The error of such a product stays below 1e-6 for groups of up to a billion units.
"""


def count_whole(units: float) -> int:
    """Round a number of units down to a whole one, but for what floating point took from it.

    >>> count_whole(0.29 * 100)
    29
    """
    return math.floor(units + ROUNDING)


def count_units(width: float, size: int) -> int:
    """Units that a subnet keeps of a group: floor(width * size), at least one.

    Parameters
    ----------
    width : float
        Share of the units, above 0.
    size : int
        Units of the whole group.
    """
    return max(1, count_whole(width * size))


def whole_widths(low: float, high: float, size: int, most: int) -> FloatArray:
    """Widths of whole units of a group, evenly spread from ``low`` to ``high``.

    Parameters
    ----------
    low, high : float
        The ends, which are rounded down to whole units too.
    size : int
        Units of the whole group.
    most : int
        The largest number of widths.

    Returns
    -------
    (n_widths,) floats
        Increasing; fewer than ``most`` where several would be the same units.
    """
    wanted = np.linspace(low, high, most)
    whole = np.unique(np.maximum(1, np.floor(wanted * size + ROUNDING)))
    return whole / size
