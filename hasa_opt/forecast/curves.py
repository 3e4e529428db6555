"""Width curves: what clients reach at each width of a menu, freed of noise.

A curve is one row of a table ``(n_clients, n_widths)``. Its noise is a covariance over the widths:
all widths are judged on the same targets, so that differences between widths are known far better
than the values themselves.
"""

from __future__ import annotations

import numpy as np

from hasa_opt._utils.checks import FloatArray, float_array
from hasa_opt._utils.rational import written
from hasa_opt.errors import InputError

__all__ = ["hat_weights", "pooled_covariance", "shrunk", "smoothed"]

_GRID = 60
"""Values of the spread between clients over which a posterior is summed."""

_PRIOR_DRAWS = 2
"""Observations per width for which the pooled variance counts."""

_ROUNDING = 1e-9
"""Widths, and shares of a spread, that differ by less are equal."""


def smoothed(widths: FloatArray, table: FloatArray, covariance: FloatArray) -> FloatArray:
    """Shrink curves towards what clients have in common, and make them concave and increasing.

    Parameters
    ----------
    widths : (n_widths,) increasing floats
    table : (n_clients, n_widths) floats
    covariance : (n_clients, n_widths, n_widths) floats
        Noise of each row.

    Returns
    -------
    (n_clients, n_widths) floats
        A table without noise as it is.
    """
    if widths.size == 1 or not covariance.any():
        return table
    return _concave(widths, shrunk(widths, table, covariance))


def shrunk(widths: FloatArray, table: FloatArray, covariance: FloatArray) -> FloatArray:
    """Shrink the shapes of curves towards the pooled shape, each in proportion to its noise.

    A row is its level, which stays, and its slope, bend, ... in orthogonal polynomials of the
    width. Each of these is drawn from a normal distribution over clients whose mean and spread are
    unknown, and is replaced by its posterior mean under flat priors (Gelman et al., Bayesian Data
    Analysis, 3rd ed., section 5.4): unlike an estimate of the spread, which is often zero where
    clients are few, the posterior never declares all clients equal.

    Parameters and result as for :func:`smoothed`.
    """
    shapes = _contrasts(widths)
    found = table @ shapes
    noise = np.einsum("kj,ikl,lj->ij", shapes, covariance, shapes)
    for column in range(shapes.shape[1]):
        found[:, column] = _posterior_mean(found[:, column], noise[:, column])
    level = table.mean(axis=1, keepdims=True)
    return np.asarray(level + found @ shapes.T)


def pooled_covariance(scatter: FloatArray, degrees: FloatArray, scale: FloatArray) -> FloatArray:
    """Estimate each client's noise, of few observations mostly from what is pooled.

    Parameters
    ----------
    scatter : (n_clients, n_widths, n_widths) floats
        Sum of the outer products of a client's residuals, in a unit in which clients compare.
    degrees : (n_clients,) floats
        Degrees of freedom in each sum.
    scale : (n_clients,) floats
        From the variance of one observation to that of the client's row.

    Returns
    -------
    (n_clients, n_widths, n_widths) floats
        The pooled variance counts as much as two observations per width.
    """
    pooled = scatter.sum(axis=0) / max(degrees.sum(), 1.0)
    prior = _PRIOR_DRAWS * scatter.shape[1]
    estimate = (prior * pooled + scatter) / (prior + degrees)[:, None, None]
    return np.asarray(estimate * scale[:, None, None])


def hat_weights(menu: FloatArray, widths: FloatArray) -> FloatArray:
    """Weights by which a curve on a menu is read at other widths, linear between neighbours.

    The line between two neighbours is also what the best mixture of them reaches; the concave curve
    itself lies above it.

    Parameters
    ----------
    menu : (n_widths,) increasing floats
    widths : (n,) floats
        Within the menu's ends.

    Returns
    -------
    (n, n_widths) floats
        Rows that sum to 1.

    Raises
    ------
    InputError
        For a width outside the menu.
    """
    wanted = float_array(widths, "widths")
    outside = (wanted < menu[0] - _ROUNDING) | (wanted > menu[-1] + _ROUNDING)
    if outside.any():
        row = int(np.flatnonzero(outside)[0])
        raise InputError(
            f"width {written(wanted[row])} of row {row} is outside the menu, {written(menu[0])} to "
            f"{written(menu[-1])}: its value is not known there, add wider or narrower widths to "
            "the menu"
        )
    columns = [np.interp(wanted, menu, unit) for unit in np.eye(menu.size)]
    return np.stack(columns, axis=1)


def _contrasts(widths: FloatArray) -> FloatArray:
    """Orthonormal polynomials of the width without the constant, ``(n_widths, n_widths - 1)``."""
    centred = (widths - widths.mean()) / max(np.ptp(widths), _ROUNDING)
    basis, _ = np.linalg.qr(np.vander(centred, increasing=True))
    return np.asarray(basis[:, 1:])


def _posterior_mean(found: FloatArray, noise: FloatArray) -> FloatArray:
    """Posterior means of normal effects, integrated over their common mean and spread."""
    spread = float(found.std())
    if noise.max() <= (_ROUNDING * spread) ** 2:
        return found
    variances = np.maximum(noise, _ROUNDING * noise.max())
    between = np.linspace(0.0, 3.0 * spread, _GRID)[:, None] ** 2
    precision = 1.0 / (between + variances)
    total = precision.sum(axis=1, keepdims=True)
    mean = (precision @ found)[:, None] / total
    misfit = (precision * (found - mean) ** 2).sum(axis=1)
    log_weight = (np.log(precision).sum(axis=1) - np.log(total[:, 0]) - misfit) / 2
    weight = np.exp(log_weight - log_weight.max())
    kept = between * precision
    means = mean + kept * (found - mean)
    return np.asarray(weight @ means / weight.sum())


def _concave(widths: FloatArray, table: FloatArray) -> FloatArray:
    """Nearest concave, non-decreasing rows: non-negative sums of hinges, by least squares."""
    from scipy.optimize import nnls

    hinges = np.minimum(widths[:, None], widths[None, 1:]) - widths[0]
    centred = hinges - hinges.mean(axis=0)
    level = table.mean(axis=1, keepdims=True)
    weights = np.stack([nnls(centred, row)[0] for row in table - level])
    return np.asarray(level + weights @ centred.T)
