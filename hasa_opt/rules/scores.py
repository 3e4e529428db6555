"""Scores of data heterogeneity: training counts in, one number per client out.

Every score compares the smoothed label distribution of a client,
``p_i = (c_i + alpha) / (sum c_i + alpha V)``, with that of all clients together, ``p_g``, smoothed
the same way (arXiv:2606.07621, section 3: Jensen-Shannon with ``alpha = 1``). Sparse counts are
worked through in blocks of rows; no dense copy of the matrix is made.

A plain score depends on the size of a client's sample even where clients do not differ at all.
:func:`debiased` takes the score's expectation at that size away, :func:`excess` also divides by its
spread, and :func:`explained_by_size` says how much of a ranking is sample size.

Where there are numbers and no labels to count, :func:`~hasa_opt.rules.numeric.frechet` compares
means and variances.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import inf
from typing import Any

import numpy as np
import numpy.typing as npt

from hasa_opt._utils.checks import FloatArray, float_array, number
from hasa_opt._utils.registry import Registry
from hasa_opt.clients.counts import Counts, dense, validate_counts
from hasa_opt.errors import InputError
from hasa_opt.rules.chance import Method, moments
from hasa_opt.rules.numeric import frechet
from hasa_opt.rules.private import Unit, noisy_histograms

__all__ = [
    "SCORES",
    "debiased",
    "excess",
    "explained_by_size",
    "frechet",
    "hellinger",
    "jensen_shannon",
    "kl_divergence",
    "label_entropy",
    "private",
    "rank_normalize",
    "total_variation",
]

_BLOCK_CELLS = 1 << 18  # of counts at a time: 2 MB, which a processor's cache holds
_LARGEST_ALPHA = 1e100  # its product with any number of labels is finite
_LEAST_SPREAD = 1e-15  # what floating point can tell in a divergence


def jensen_shannon(counts: npt.ArrayLike | Any, *, alpha: float = 1.0) -> FloatArray:
    """Jensen-Shannon divergence of each client from the pooled distribution.

    Parameters
    ----------
    counts : (n_clients, n_labels) array or scipy sparse matrix
        Training tokens or labels counted per client; whole numbers of at least 0.
    alpha : float
        Additive smoothing, greater than 0.

    Returns
    -------
    (n_clients,) floats
        In nats, between 0 and log 2.

    Raises
    ------
    InputError
        For counts or a smoothing that break these rules.

    Examples
    --------
    >>> jensen_shannon([[10, 0], [0, 10]]).round(4).tolist()
    [0.1136, 0.1136]
    """
    return _per_client(counts, alpha, _jensen_shannon)


def excess(
    counts: npt.ArrayLike | Any,
    *,
    alpha: float = 1.0,
    seed: int = 0,
    method: Method = "analytic",
    draws: int = 500,
) -> FloatArray:
    """How surely a client differs from the pool: :func:`jensen_shannon`, standardised.

    The score minus its expectation, in units of its spread, when the client's sample is drawn from
    the pooled counts at its own size, without replacement: as if all tokens had been shuffled
    between the clients (:mod:`hasa_opt.rules.chance`). On such clients it has mean 0 and standard
    deviation 1, whatever their size. It takes tokens to be drawn independently.

    It is evidence, not effect: where clients do differ, the same difference is surer in a larger
    sample, and scores higher. :func:`debiased` measures the difference itself.

    Parameters
    ----------
    counts : (n_clients, n_labels) array or scipy sparse matrix
        Training tokens or labels counted per client; whole numbers of at least 0.
    alpha : float
        Additive smoothing of the score, greater than 0.
    seed : int
        Of the draws of ``"monte_carlo"``.
    method : "analytic" or "monte_carlo"
        Expectation and spread without draws, or from ``draws`` of each different sample size.
    draws : int
        At least 2.

    Returns
    -------
    (n_clients,) floats
        In units of the spread; 0 for a client whose score cannot vary (it holds the whole pool).

    Raises
    ------
    InputError
        For counts (a client must have counted something), a smoothing or an option that break
        these rules.

    Examples
    --------
    >>> counts = [[520, 480], [13, 7], [5080, 4920]]  # drawn alike
    >>> jensen_shannon(counts).round(5).tolist()
    [6e-05, 0.00827, 0.0]
    >>> excess(counts).round(1).tolist()
    [-0.4, 0.4, -0.2]
    """
    beyond = jensen_shannon(counts, alpha=alpha)
    mean, spread = moments(
        _jensen_shannon_terms, counts, alpha, method=method, draws=draws, seed=seed
    )
    beyond -= mean
    return np.where(spread > 0, beyond / np.maximum(spread, _LEAST_SPREAD), 0.0)


def debiased(counts: npt.ArrayLike | Any, *, alpha: float = 1.0) -> FloatArray:
    """How much a client differs from the pool: :func:`jensen_shannon` minus its expectation.

    The expectation is that of :func:`excess`. About 0 for a client that does not differ, whatever
    its size.

    Returns
    -------
    (n_clients,) floats
        In nats; negative where a client is closer to the pool than chance would have it.
        Parameters and errors as for :func:`jensen_shannon`.
    """
    score = jensen_shannon(counts, alpha=alpha)
    return score - moments(_jensen_shannon_terms, counts, alpha)[0]


def kl_divergence(counts: npt.ArrayLike | Any, *, alpha: float = 1.0) -> FloatArray:
    """Kullback-Leibler divergence ``KL(p_i || p_g)`` in nats, ``(n_clients,)``.

    Parameters and errors as for :func:`jensen_shannon`.
    """
    from scipy.special import rel_entr

    return _per_client(counts, alpha, lambda p, pooled: rel_entr(p, pooled).sum(axis=1))


def hellinger(counts: npt.ArrayLike | Any, *, alpha: float = 1.0) -> FloatArray:
    """Hellinger distance from the pooled distribution, between 0 and 1, ``(n_clients,)``.

    Parameters and errors as for :func:`jensen_shannon`.
    """

    def distance(p: FloatArray, pooled: FloatArray) -> FloatArray:
        return np.asarray(np.sqrt(((np.sqrt(p) - np.sqrt(pooled)) ** 2).sum(axis=1) / 2))

    return _per_client(counts, alpha, distance)


def total_variation(counts: npt.ArrayLike | Any, *, alpha: float = 1.0) -> FloatArray:
    """Total variation distance from the pooled distribution, between 0 and 1, ``(n_clients,)``.

    Parameters and errors as for :func:`jensen_shannon`.
    """
    return _per_client(counts, alpha, lambda p, pooled: np.abs(p - pooled).sum(axis=1) / 2)


def label_entropy(counts: npt.ArrayLike | Any, *, alpha: float = 1.0) -> FloatArray:
    """Shannon entropy of each client's own distribution in nats, ``(n_clients,)``.

    It does not look at the other clients. Parameters and errors as for :func:`jensen_shannon`.
    """
    from scipy.special import xlogy

    return _per_client(counts, alpha, lambda p, pooled: -xlogy(p, p).sum(axis=1))


def rank_normalize(scores: npt.ArrayLike) -> FloatArray:
    """Ranks of the scores, scaled to [0, 1]; tied clients share the average rank.

    ``s_i = (rank_i - 1) / (N - 1)`` (arXiv:2606.07621, section 3); a single client gets 0.

    Parameters
    ----------
    scores : (n_clients,) finite floats

    Examples
    --------
    >>> rank_normalize([0.3, 0.1, 0.3, 0.9]).tolist()
    [0.5, 0.0, 0.5, 1.0]
    """
    values = float_array(scores, "scores")
    if values.ndim != 1 or values.size == 0:
        raise InputError(f"scores have shape {values.shape}: give one number per client")
    if values.size == 1:
        return np.zeros(1)
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    below = np.cumsum(count) - (count + 1) / 2
    return np.asarray(below[place] / (values.size - 1))


def private(
    counts: npt.ArrayLike | Any,
    epsilon: float,
    delta: float,
    *,
    alpha: float = 1.0,
    unit: Unit = "sample",
    sample_norm: float = 1.0,
    clip: float = inf,
    seed: int = 0,
) -> FloatArray:
    """Jensen-Shannon scores of histograms that were made private before they left the clients.

    Each client scales its histogram down to the norm ``clip`` and adds Gaussian noise, as much as
    one ``(epsilon, delta)``-private release of it needs; :mod:`~hasa_opt.rules.private` says what
    that protects, from whom, and where the noise comes from. The server removes negative counts and
    scores what it has, which costs no further privacy. With ``epsilon`` infinite and no clip this
    is :func:`jensen_shannon`.

    Parameters
    ----------
    counts : (n_clients, n_labels) array or scipy sparse matrix
        Training tokens or labels counted per client; whole numbers of at least 0.
    epsilon : float
        Above 0, or infinity.
    delta : float
        Between 0 and 1.
    alpha : float
        Additive smoothing of the score, greater than 0.
    unit : "sample" or "client"
        What one replacement of may not show: a training sample, or all data of a client.
    sample_norm : float
        Largest Euclidean norm of what one sample adds to a histogram: 1 for one label, up to the
        number of its tokens for a text.
    clip : float
        Largest Euclidean norm of a client's histogram, in tokens. ``"client"`` needs one.
    seed : int
        Of the noise.

    Returns
    -------
    (n_clients,) floats
        In nats.

    Raises
    ------
    InputError
        For a value that breaks these rules.

    Examples
    --------
    >>> counts = [[900, 100, 0], [300, 300, 300], [5, 5, 90]]
    >>> jensen_shannon(counts).round(2).tolist()
    [0.09, 0.04, 0.27]
    >>> private(counts, 1.0, 1e-5).round(2).tolist()
    [0.08, 0.04, 0.19]
    """
    smoothing = _smoothing(alpha)
    seen = noisy_histograms(
        counts, epsilon, delta, unit=unit, sample_norm=sample_norm, clip=clip, seed=seed
    )
    return _scored(seen, smoothing, _jensen_shannon)


def explained_by_size(scores: npt.ArrayLike, sizes: npt.ArrayLike) -> float:
    """Share of a ranking that sample size explains: squared rank correlation, in [0, 1].

    Spearman's, with average ranks; 0 where all scores or all sizes are equal.

    Parameters
    ----------
    scores, sizes : (n_clients,) finite numbers

    Examples
    --------
    >>> explained_by_size([0.3, 0.2, 0.1], [10, 200, 3000])
    1.0
    """
    ranks = rank_normalize(scores), rank_normalize(sizes)
    if ranks[0].size != ranks[1].size:
        raise InputError(f"{ranks[0].size} scores for {ranks[1].size} sizes: give one per client")
    if any(np.ptp(ranked) == 0 for ranked in ranks):
        return 0.0
    return float(min(np.corrcoef(*ranks)[0, 1] ** 2, 1.0))


SCORES: Registry[Callable[..., FloatArray]] = Registry(
    "scores",
    {
        "jensen_shannon": jensen_shannon,
        "hellinger": hellinger,
        "total_variation": total_variation,
        "kl_divergence": kl_divergence,
        "label_entropy": label_entropy,
        "excess": excess,
        "debiased": debiased,
    },
)
"""The scores by name, as the command line offers them."""


def _per_client(
    counts: npt.ArrayLike | Any,
    alpha: float,
    score: Callable[[FloatArray, FloatArray], FloatArray],
) -> FloatArray:
    """Apply ``score(p, p_g)`` to the smoothed distributions of checked counts."""
    smoothing = _smoothing(alpha)
    return _scored(validate_counts(counts), smoothing, score)


def _scored(
    table: Counts | FloatArray,
    smoothing: float,
    score: Callable[[FloatArray, FloatArray], FloatArray],
) -> FloatArray:
    """Apply ``score(p, p_g)`` to blocks of smoothed client distributions."""
    pooled = _smoothed(np.asarray(table.sum(axis=0), dtype=np.float64).reshape(1, -1), smoothing)
    blocks = [score(_smoothed(block, smoothing), pooled) for block in _blocks(table)]
    return np.concatenate(blocks)


def _jensen_shannon(p: FloatArray, pooled: FloatArray) -> FloatArray:
    return np.asarray(np.maximum(_jensen_shannon_terms(p, pooled).sum(axis=1), 0.0))


def _jensen_shannon_terms(p: FloatArray, pooled: FloatArray) -> FloatArray:
    """Each label's part of the Jensen-Shannon divergence; of the shape of ``p``."""
    from scipy.special import rel_entr

    middle = (p + pooled) / 2
    return np.asarray((rel_entr(p, middle) + rel_entr(pooled, middle)) / 2)


def _smoothing(alpha: float) -> float:
    smoothing = number(alpha, "alpha")
    if not 0 < smoothing <= _LARGEST_ALPHA:
        raise InputError(
            f"alpha {alpha} must be a finite number greater than 0, at most {_LARGEST_ALPHA:g} "
            "(the paper uses 1)"
        )
    return smoothing


def _blocks(table: Counts | FloatArray) -> Iterator[FloatArray]:
    rows = max(1, _BLOCK_CELLS // table.shape[1])
    for start in range(0, table.shape[0], rows):
        yield dense(table[start : start + rows]).astype(np.float64)


def _smoothed(counts: FloatArray, alpha: float) -> FloatArray:
    shifted = counts + alpha
    return np.asarray(shifted / shifted.sum(axis=1, keepdims=True))
