"""What a score would be if clients did not differ: all counts shuffled between them.

Pour the training tokens of all clients together and deal them out again at random, ``n_i`` to
client i. The counts of a client are then multivariate hypergeometric: a sample of the pooled
distribution without replacement, so that the client's own counts are part of the pool, as they are
in the score; for a client that is small beside the pool this is a multinomial sample. The pool
itself, and with it the smoothed ``p_g`` that clients are compared with, does not change.

A score that is a sum over labels, ``sum_v f(c_iv)``, then has a mean and a variance that need no
draws. On one label ``c`` is hypergeometric; its orthogonal polynomials ``P_k`` are Hahn's, whose
Jacobi matrix ``J`` is known in closed form (Koekoek, Lesky and Swarttouw, Hypergeometric Orthogonal
Polynomials, 2010, section 9.5), and ``a_k = E[f P_k] = f(J)_{k0}`` (Golub and Welsch, 1969). So
``E f = a_0`` and ``Var f = sum_{k>0} a_k^2``. Given ``c_u``, the counts of another label are
hypergeometric too, with factorial moments that are polynomials of the same degree in ``c_u``. Hence
``P_k`` of one label correlates with ``P_k`` of the other alone, by
``(-1)^k sqrt((K_u)_k / (N - K_u)_k (K_v)_k / (N - K_v)_k)``, where ``K`` are the pooled counts,
``N`` their sum and ``(x)_k`` is the falling factorial; the sum over all pairs factorises.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from hasa_opt._utils.checks import FloatArray, IntArray, whole
from hasa_opt.clients.counts import validate_counts
from hasa_opt.errors import InputError

__all__ = ["Method", "Terms", "moments"]

Method: TypeAlias = Literal["analytic", "monte_carlo"]

Terms: TypeAlias = Callable[[FloatArray, FloatArray], FloatArray]
"""Each label's part of a score, from the client's and the pooled shares of the labels."""

_DEGREES = 16  # exact up to 15 draws of a label; beyond, the error is below 1e-6 of the spread
_NODES = 64  # sample sizes between which a spline goes
_BLOCK_CELLS = 1 << 20  # of drawn counts at a time: 8 MB
_LARGEST_POOL = 10**9  # the limit of numpy's multivariate_hypergeometric


def moments(
    terms: Terms,
    counts: npt.ArrayLike | Any,
    alpha: float,
    *,
    method: Method = "analytic",
    draws: int = 500,
    seed: int = 0,
) -> tuple[FloatArray, FloatArray]:
    """Mean and standard deviation of each client's score under shuffling.

    Parameters
    ----------
    terms : callable
        Summed over labels it gives the score; smooth for ``"analytic"``.
    counts : (n_clients, n_labels) array or scipy sparse matrix
        Whole numbers of at least 0.
    alpha : float
        Additive smoothing of the shares of the client and of the pool, above 0.
    method : "analytic" or "monte_carlo"
        Without draws, at 64 sample sizes and interpolated between them if there are more; or
        from random draws.
    draws : int
        For each different sample size, at least 2.
    seed : int
        Of the draws, which for one size depend on the seed and that size alone.

    Returns
    -------
    mean, spread : (n_clients,) floats each
        The spread of a client that holds the whole pool is 0.

    Raises
    ------
    InputError
        For values that break these rules, or a pool of more than 1e9 tokens to draw from.
    """
    number_of_draws, first = whole(draws, "draws", least=2), whole(seed, "seed")
    if method not in ("analytic", "monte_carlo"):
        raise InputError(f"method {method!r} is not known: choose 'analytic' or 'monte_carlo'")
    table = validate_counts(counts)
    pooled, sizes = (np.asarray(table.sum(axis=axis)).ravel() for axis in (0, 1))
    distinct, at = np.unique(sizes, return_inverse=True)
    if method == "analytic":
        pair = _analytic(_LabelGroups(pooled, alpha), terms, distinct)
    else:
        pair = _sampled(terms, pooled, distinct, alpha, number_of_draws, first)
    return pair[0, at], pair[1, at]


def _analytic(groups: _LabelGroups, terms: Terms, sizes: IntArray) -> FloatArray:
    """Mean and spread at increasing sizes, ``(2, n_sizes)``."""
    if sizes.size <= _NODES:
        return np.array([groups.moments(terms, int(size)) for size in sizes]).T
    from scipy.interpolate import CubicSpline

    grid = np.geomspace(sizes[0], sizes[-1], _NODES).round().astype(np.int64)
    nodes = np.unique(grid)
    spline = CubicSpline(np.log(nodes), _analytic(groups, terms, nodes), axis=1)
    return np.asarray(spline(np.log(sizes)))


def _sampled(
    terms: Terms, pooled: IntArray, sizes: IntArray, alpha: float, draws: int, seed: int
) -> FloatArray:
    """Mean and spread at each size from draws, ``(2, n_sizes)``."""
    if pooled.sum() >= _LARGEST_POOL:
        raise InputError(
            f"{pooled.sum()} tokens are too many to draw from (the limit is {_LARGEST_POOL}): "
            "use method='analytic'"
        )
    pairs = []
    for size in sizes.tolist():
        scores = _draws(terms, pooled, size, alpha, draws, np.random.default_rng([seed, size]))
        pairs.append((scores.mean(), scores.std(ddof=1)))
    return np.array(pairs).T


class _LabelGroups:
    """Labels with equal pooled counts, which share their distribution; the largest by itself.

    More than half of the pool may lie on one label; products of its correlations with those of
    other labels are then taken one by one, as squares of its own would overflow the others.
    """

    def __init__(self, pooled: IntArray, alpha: float) -> None:
        ordered = np.sort(pooled)
        totals, repeats = np.unique(ordered[:-1], return_counts=True)
        self.totals = np.append(totals, ordered[-1]).astype(np.float64)[:, None]
        self.repeats = np.append(repeats, 1).astype(np.float64)
        self.pool = float(pooled.sum())
        self.alpha = alpha
        self.added = alpha * pooled.size
        self.shares = (self.totals + alpha) / (self.pool + self.added)

    def moments(self, terms: Terms, size: int) -> tuple[float, float]:
        """Mean and standard deviation of the sum over all labels."""
        parts = self.coefficients(terms, size)
        variance = self.repeats @ (parts[:, 1:] ** 2).sum(axis=1) + self.covariances(parts[:, 1:])
        return float(self.repeats @ parts[:, 0]), float(np.sqrt(max(variance, 0.0)))

    def coefficients(self, terms: Terms, size: int) -> FloatArray:
        """Expansion of each group's term in orthonormal polynomials, ``(n_groups, degrees)``."""
        diagonal, beside = _jacobi(self.totals, self.pool, size)
        degree = np.arange(_DEGREES)
        matrices = np.zeros((len(self.totals), _DEGREES, _DEGREES))
        matrices[:, degree, degree] = diagonal
        matrices[:, degree[1:], degree[:-1]] = beside  # the lower triangle is what eigh reads
        counts, vectors = np.linalg.eigh(matrices)
        least = np.maximum(0, size - (self.pool - self.totals))
        counts = np.clip(counts, least, np.minimum(self.totals, size))
        values = terms((counts + self.alpha) / (size + self.added), self.shares)
        weighted = vectors[:, 0, :] * values
        return np.asarray((vectors @ weighted[:, :, None])[:, :, 0])

    def covariances(self, parts: FloatArray) -> float:
        """Sum over all ordered pairs of different labels, from coefficients of degree 1 and up."""
        degree = np.arange(parts.shape[1])
        inside = np.maximum(self.totals - degree, 0)
        outside = np.maximum(self.pool - self.totals - degree, 1)
        scaled = parts * np.sqrt(np.cumprod(inside / outside, axis=1))
        others = self.repeats[:-1] @ scaled[:-1]
        pairs = 2 * scaled[-1] * others + others**2 - self.repeats[:-1] @ scaled[:-1] ** 2
        return float(((-1.0) ** (degree + 1)) @ pairs)


def _jacobi(totals: FloatArray, pool: float, size: int) -> tuple[FloatArray, FloatArray]:
    """Diagonal and side diagonal of the Hahn polynomials' Jacobi matrix, one row per group.

    Degrees beyond the support are cut off from the rest.
    """
    k = np.arange(_DEGREES, dtype=np.float64)
    highest = np.minimum(min(size, pool - size), np.minimum(totals, pool - totals))
    up = (pool + 1 - k) * (totals - k) * (size - k)
    up /= np.maximum((pool + 1 - 2 * k) * (pool - 2 * k), 1)
    down = k * (pool + 1 - size - k) * (pool + 1 - totals - k)
    down /= np.maximum((pool + 2 - 2 * k) * (pool + 1 - 2 * k), 1)
    held = k <= highest
    diagonal = np.where(held, up + down, up[:, :1])
    return diagonal, np.sqrt(np.where(held[:, 1:], up[:, :-1] * down[:, 1:], 0.0))


def _draws(
    terms: Terms,
    pooled: IntArray,
    size: int,
    alpha: float,
    draws: int,
    rng: np.random.Generator,
) -> FloatArray:
    """Scores of drawn clients of one size, ``(draws,)``."""
    added = alpha * pooled.size
    shares = (pooled + alpha) / (pooled.sum() + added)
    scores = np.empty(draws)
    rows = max(1, _BLOCK_CELLS // pooled.size)
    for start in range(0, draws, rows):
        block = scores[start : start + rows]
        counts = rng.multivariate_hypergeometric(pooled, size, block.size, method="marginals")
        drawn = np.asarray((counts + alpha) / (size + added), dtype=np.float64)
        block[:] = terms(drawn, shares).sum(axis=1)
    return scores
