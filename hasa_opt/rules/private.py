"""The Gaussian mechanism: histograms that may leave a client.

**What is protected.** Each client adds its noise itself, before anything leaves it, and publishes
once. ``(epsilon, delta)``-differential privacy then holds against the server and all others, for
one *unit* that is replaced by another of its kind:

- ``"sample"``: one training sample of one client. It adds at most ``sample_norm`` to the
  histogram, in Euclidean norm: 1 if a sample carries one label, 12 if it is a text of up to 12
  tokens (one word twelve times), ``sqrt(12)`` if each text counts a word once.
- ``"client"``: all data of one client, whose histogram is scaled down to the norm ``clip``.

Replaced, not removed: how many samples a client has is taken as public, since the budget and the
average of models need it. Counts are not negative, so two units of norm at most ``c`` differ by at
most ``sqrt(2) c``; that is the sensitivity. Scaling down to a norm is a projection onto a ball and
never increases it.

The noise's standard deviation is the smallest that keeps the promise, from the exact condition of
Balle and Wang, Improving the Gaussian Mechanism for Differential Privacy (ICML 2018,
arXiv:1805.06530), theorem 8.

The generator is seeded and works in floating point: that is right for a study of what privacy
costs. A device that means it draws from a secure source (Mironov, CCS 2012, shows what
floating point can leak).
"""

from __future__ import annotations

from math import exp, expm1, inf, isinf, log, sqrt
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from hasa_opt._utils.checks import FloatArray, number, whole
from hasa_opt.clients.counts import dense, validate_counts
from hasa_opt.errors import InputError

__all__ = ["Unit", "delta_spent", "noisy_histograms", "sensitivity", "sigma"]

Unit: TypeAlias = Literal["sample", "client"]


def sigma(epsilon: float, delta: float, sensitivity: float) -> float:
    """Smallest standard deviation of the noise that is ``(epsilon, delta)``-private.

    Parameters
    ----------
    epsilon : float
        Above 0; infinity asks for no noise.
    delta : float
        Between 0 and 1, both excluded.
    sensitivity : float
        Largest Euclidean distance between the histograms of neighbouring data; above 0.

    Raises
    ------
    InputError
        For a value outside its range.

    Examples
    --------
    >>> round(sigma(1.0, 1e-5, 1.0), 4)
    3.7306
    """
    private, slack = _promise(epsilon, delta)
    scale = _above_zero(sensitivity, "sensitivity")
    if isinf(private):
        return 0.0
    from scipy.optimize import brentq

    # Above: what concentrated privacy asks (Bun and Steinke, arXiv:1605.02065), and epsilon = 0.
    above = min((sqrt(log(1 / slack) + private) + sqrt(log(1 / slack))) / private, 1 / slack)
    below = 1e-3 / (1 + sqrt(private))
    root = brentq(
        lambda size: _log_delta(private, exp(size)) - log(slack), log(below), log(above), xtol=1e-13
    )
    return scale * exp(root) * (1 + 1e-12)


def delta_spent(epsilon: float, sigma: float, sensitivity: float) -> float:
    """Smallest ``delta`` that noise of standard deviation ``sigma`` keeps at ``epsilon``.

    ``Phi(D / 2s - e s / D) - exp(e) Phi(-D / 2s - e s / D)`` (arXiv:1805.06530, theorem 8).

    Parameters
    ----------
    epsilon, sigma, sensitivity : float
        Above 0.
    """
    relative = _above_zero(sigma, "sigma") / _above_zero(sensitivity, "sensitivity")
    return exp(_log_delta(_above_zero(epsilon, "epsilon"), relative))


def sensitivity(unit: Unit = "sample", *, sample_norm: float = 1.0, clip: float = inf) -> float:
    """Largest Euclidean change of a client's histogram when one unit is replaced.

    Parameters
    ----------
    unit : "sample" or "client"
    sample_norm : float
        Largest norm of what one sample adds.
    clip : float
        Largest norm of a client's histogram; without it a whole client cannot be protected.

    Raises
    ------
    InputError
        For an unknown unit, a norm that is not above 0, or a client without a clip.
    """
    if unit not in ("sample", "client"):
        raise InputError(f"unit {unit!r} is not known: choose 'sample' or 'client'")
    of_sample, of_client = _above_zero(sample_norm, "sample_norm"), _above_zero(clip, "clip")
    norm = of_client if unit == "client" else min(of_sample, of_client)
    if isinf(norm):
        raise InputError(f"unit {unit!r} has no largest norm: give a finite clip, in tokens")
    return sqrt(2) * norm


def noisy_histograms(
    counts: npt.ArrayLike | Any,
    epsilon: float,
    delta: float,
    *,
    unit: Unit = "sample",
    sample_norm: float = 1.0,
    clip: float = inf,
    seed: int = 0,
) -> FloatArray:
    """Histograms with noise, as the server may see them.

    Noise makes counts negative. Each histogram is therefore replaced by the nearest one (in
    Euclidean norm) without negative entries and with the same sum, at least 0. That needs no data
    and costs no privacy.

    Parameters
    ----------
    counts : (n_clients, n_labels) array or scipy sparse matrix
        Whole numbers of at least 0.
    epsilon, delta : float
        As for :func:`sigma`.
    unit : "sample" or "client"
        As for :func:`sensitivity`.
    sample_norm, clip : float
        As for :func:`sensitivity`.
    seed : int
        Of the noise.

    Returns
    -------
    (n_clients, n_labels) floats
        Dense, as noise is.

    Raises
    ------
    InputError
        For a value that breaks these rules.
    """
    reach = sensitivity(unit, sample_norm=sample_norm, clip=clip)
    scale = sigma(epsilon, delta, reach)
    rng = np.random.default_rng(whole(seed, "seed"))
    table = dense(validate_counts(counts)).astype(np.float64)
    norms = np.linalg.norm(table, axis=1, keepdims=True)
    table *= np.minimum(1.0, clip / norms)
    if scale == 0:
        return table
    table += rng.normal(0.0, scale, table.shape)
    return _without_negatives(table)


def _without_negatives(table: FloatArray) -> FloatArray:
    """Nearest rows without negative entries and of the same sums: one shift each, cut at 0.

    Duchi and others, Efficient Projections onto the l1-Ball (ICML 2008), figure 1.
    """
    sums = np.maximum(table.sum(axis=1), 0.0)
    ordered = -np.sort(-table, axis=1)
    shifts = (np.cumsum(ordered, axis=1) - sums[:, None]) / np.arange(1, table.shape[1] + 1)
    kept = (ordered > shifts).sum(axis=1)
    shift = shifts[np.arange(len(table)), np.maximum(kept, 1) - 1]
    return np.where(sums[:, None] > 0, np.maximum(table - shift[:, None], 0.0), 0.0)


def _log_delta(epsilon: float, relative: float) -> float:
    """Logarithm of the delta that noise of ``relative`` sensitivities spends at ``epsilon``."""
    from scipy.special import log_ndtr

    middle, tilt = 1 / (2 * relative), epsilon * relative
    likely, unlikely = log_ndtr(middle - tilt), epsilon + log_ndtr(-middle - tilt)
    return float(likely + log(-expm1(unlikely - likely)))


def _promise(epsilon: float, delta: float) -> tuple[float, float]:
    private = _above_zero(epsilon, "epsilon")
    slack = number(delta, "delta")
    if not 0 < slack < 1:
        raise InputError(f"delta {delta} must lie between 0 and 1; below 1 / samples is usual")
    return private, slack


def _above_zero(value: float, what: str) -> float:
    if not (given := number(value, what, infinite=True)) > 0:
        raise InputError(f"{what} {value} must be greater than 0")
    return given
