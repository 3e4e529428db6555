"""Scores of numbers: each client's means and variances in, one distance per client out.

For what has no labels to count, such as the targets of a regression, or images.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from hasa_opt._utils.checks import FloatArray, float_array
from hasa_opt.errors import InputError

__all__ = ["frechet"]


def frechet(mean: npt.ArrayLike, variance: npt.ArrayLike, samples: npt.ArrayLike) -> FloatArray:
    """Fréchet distance of each client's numbers from those of all clients together.

    The distance of two normal distributions with these moments, features taken to be independent:
    the square is the sum over features of the squared difference of means and of standard
    deviations (Dowson and Landau, 1982; also the 2-Wasserstein distance). Each feature is measured
    in its pooled standard deviation, and the mean over features is taken, so that neither units nor
    the number of features matter. Like all plain scores it grows where samples are few.

    Parameters
    ----------
    mean, variance : (n_clients, n_features) floats
        Of each client's training data, the variance with the divisor n. ``Task.moments`` gives
        them.
    samples : (n_clients,) numbers above 0
        How many of them there are.

    Returns
    -------
    (n_clients,) floats
        In pooled standard deviations; at least 0. A feature that is the same everywhere counts
        nothing.

    Raises
    ------
    InputError
        For shapes that do not fit, variances below 0 or samples that are not above it.

    Examples
    --------
    >>> frechet([[0.0], [4.0]], [[1.0], [1.0]], [50, 50]).round(3).tolist()
    [1.051, 1.051]
    """
    means, variances = float_array(mean, "mean"), float_array(variance, "variance")
    sizes = float_array(samples, "samples")
    if means.ndim != 2 or variances.shape != means.shape or sizes.shape != means.shape[:1]:
        raise InputError(
            f"mean, variance and samples have shapes {means.shape}, {variances.shape} and "
            f"{sizes.shape}: give two tables (n_clients, n_features) and one number per client"
        )
    for what, values, lowest in (("variance", variances, 0.0), ("samples", sizes, 1.0)):
        if values.size and values.min() < lowest:
            raise InputError(f"{what} {values.min():g} is below {lowest:g}: correct it")
    weights = (sizes / sizes.sum())[:, None]
    centre = (weights * means).sum(axis=0)
    pooled = (weights * (variances + (means - centre) ** 2)).sum(axis=0)
    apart = (means - centre) ** 2 + (np.sqrt(variances) - np.sqrt(pooled)) ** 2
    shares = np.divide(apart, pooled, out=np.zeros_like(apart), where=pooled > 0)
    return np.asarray(np.sqrt(shares.mean(axis=1)))
