"""Intervals of a mean by Student's t."""

from __future__ import annotations

import math

__all__ = ["t_reach"]


def t_reach(error: float, degrees: float, level: float) -> float:
    """Half the width of the two-sided interval of a mean.

    Parameters
    ----------
    error : float
        Standard error of the mean.
    degrees : float
        Degrees of freedom of the error, at least 1; infinite: the error is known.
    level : float in (0, 1)
        Coverage of the interval.

    Returns
    -------
    float
        In the unit of the error.

    Examples
    --------
    >>> round(t_reach(1.0, 9, 0.95), 3), round(t_reach(1.0, math.inf, 0.95), 3)
    (2.262, 1.96)
    """
    from scipy.special import ndtri, stdtrit

    tail = (1 - level) / 2
    quantile = ndtri(tail) if math.isinf(degrees) else stdtrit(max(degrees, 1.0), tail)
    return -float(quantile) * error
