"""Closed-form policies: continuous widths from scores, sizes and a budget.

Each rule forms a preliminary width ``q_i`` and scales it to the budget,
``sum_i w_i r_i = B`` with ``w_i = n_i / sum n`` (arXiv:2606.07621, section 3). ``passes=2`` is
the paper: twice, scale by ``B / sum_i w_i r_i`` and clip to ``[r_min, cap_i]``.
``passes="exact"`` finds the one scale ``s`` with ``sum_i w_i clip(s q_i, r_min, cap_i) = B``,
a root of a monotone piecewise-linear function. The result is also the maximiser of
``sum_i w_i q_i log r_i`` under the budget (its KKT conditions), see
:func:`hasa_opt.solve_continuous`.
"""

from __future__ import annotations

from numbers import Integral
from typing import Literal

import numpy as np
import numpy.typing as npt

from hasa_opt._utils.checks import FloatArray, array, float_array, number, whole
from hasa_opt.clients.clients import Clients
from hasa_opt.errors import InfeasibleError, InputError
from hasa_opt.rules.scores import rank_normalize

__all__ = [
    "budget_miss",
    "by_difficulty",
    "capacity",
    "easy_clients",
    "falls_in_two",
    "hasa",
    "preliminary_widths",
    "random",
    "reverse",
    "scaled_to_budget",
    "uniform",
]


Passes = int | Literal["exact"]


def hasa(
    scores: npt.ArrayLike,
    samples: npt.ArrayLike,
    *,
    budget: float = 0.5,
    widths: tuple[float, float] = (0.2, 0.8),
    caps: npt.ArrayLike | None = None,
    passes: Passes = "exact",
) -> FloatArray:
    """Widths of the HASA rule: the more heterogeneous a client, the wider its subnet.

    Parameters
    ----------
    scores : (n_clients,) floats
        Heterogeneity, for example :func:`~hasa_opt.rules.scores.jensen_shannon`.
    samples : (n_clients,) integers
        Training samples of each client.
    budget : float
        Sample-weighted mean width ``B``.
    widths : (r_min, r_max)
        Narrowest and widest preliminary width.
    caps : (n_clients,) floats, optional
        Widest subnet of each device. Default: ``r_max`` for all.
    passes : int or "exact"
        Number of scale-and-clip passes (the paper: 2), or the exact scale.

    Returns
    -------
    (n_clients,) floats
        With ``"exact"`` their weighted mean is the budget to 1e-12, or all are at their caps if
        the budget is larger than that costs.

    Raises
    ------
    InfeasibleError
        If the budget is below the narrowest possible allocation.
    InputError
        For any other value that breaks a rule.
    """
    low, high = _range(widths)
    shapes = array(scores, "scores").shape, array(samples, "samples").shape
    if shapes[0] != shapes[1]:
        raise InputError(f"{shapes[0]} scores for {shapes[1]} samples: give one per client")
    return scaled_to_budget(
        preliminary_widths(scores, widths=(low, high)),
        samples,
        budget=budget,
        widths=(low, high),
        caps=caps,
        passes=passes,
    )


def reverse(
    scores: npt.ArrayLike,
    samples: npt.ArrayLike,
    *,
    budget: float = 0.5,
    widths: tuple[float, float] = (0.2, 0.8),
    caps: npt.ArrayLike | None = None,
    passes: Passes = "exact",
) -> FloatArray:
    """Widths of the reversed rule: the more heterogeneous a client, the narrower its subnet.

    Parameters, result and errors as for :func:`hasa`.
    """
    negated = -float_array(scores, "scores")
    return hasa(negated, samples, budget=budget, widths=widths, caps=caps, passes=passes)


def uniform(
    samples: npt.ArrayLike,
    *,
    budget: float = 0.5,
    widths: tuple[float, float] = (0.2, 0.8),
    caps: npt.ArrayLike | None = None,
) -> FloatArray:
    """One width for all; what capped clients leave over goes to the others.

    Parameters, result and errors as for :func:`hasa`.
    """
    ones = np.ones(array(samples, "samples").shape)
    return scaled_to_budget(ones, samples, budget=budget, widths=widths, caps=caps)


def capacity(
    samples: npt.ArrayLike,
    *,
    caps: npt.ArrayLike,
    budget: float = 0.5,
    widths: tuple[float, float] = (0.2, 0.8),
) -> FloatArray:
    """Each client its cap, scaled down to the budget.

    Parameters, result and errors as for :func:`hasa`.
    """
    checked = _caps(caps, array(samples, "samples").shape, widths)
    return scaled_to_budget(checked, samples, budget=budget, widths=widths, caps=checked)


def random(
    samples: npt.ArrayLike,
    *,
    seed: int,
    budget: float = 0.5,
    widths: tuple[float, float] = (0.2, 0.8),
    caps: npt.ArrayLike | None = None,
) -> FloatArray:
    """Preliminary widths drawn uniformly from the range, scaled to the budget.

    Parameters, result and errors as for :func:`hasa`.
    """
    drawn = np.random.default_rng(whole(seed, "seed")).uniform(
        *_range(widths), size=array(samples, "samples").shape
    )
    return scaled_to_budget(drawn, samples, budget=budget, widths=widths, caps=caps)


def preliminary_widths(
    scores: npt.ArrayLike, *, widths: tuple[float, float] = (0.2, 0.8)
) -> FloatArray:
    """``q_i = r_min + (r_max - r_min) s_i`` with the ranks ``s_i``, ``(n_clients,)``."""
    return between(rank_normalize(scores), widths)


def between(ranks: FloatArray, widths: tuple[float, float]) -> FloatArray:
    """Widths of normalised ranks: ``r_min`` at 0, ``r_max`` at 1."""
    low, high = _range(widths)
    return low + (high - low) * ranks


def budget_miss(widths: npt.ArrayLike, samples: npt.ArrayLike, *, budget: float) -> float:
    """Relative error of the realised budget: ``sum_i w_i r_i / B - 1``.

    Two passes of the paper's rule may miss it, all the more with few clients or uneven caps; this
    says by how much.

    Examples
    --------
    >>> round(budget_miss([0.2, 0.8], [3, 1], budget=0.5), 3)
    -0.3
    """
    clients = Clients(samples)
    used = float_array(widths, "widths", (len(clients),))
    return clients.mean(used) / _checked_budget(budget) - 1


def scaled_to_budget(
    preliminary: npt.ArrayLike,
    samples: npt.ArrayLike,
    *,
    budget: float,
    widths: tuple[float, float] = (0.2, 0.8),
    caps: npt.ArrayLike | None = None,
    passes: Passes = "exact",
) -> FloatArray:
    """Scale positive preliminary widths to the budget, within ``[r_min, cap_i]``.

    Parameters, result and errors as for :func:`hasa`, with ``preliminary`` ``(n_clients,)`` in
    place of the scores.
    """
    low, _ = _range(widths)
    weights = Clients(samples).weights
    wanted = float_array(preliminary, "preliminary widths", weights.shape)
    if not (wanted > 0).all():
        raise InputError(f"preliminary width {wanted.min()} must be greater than 0")
    upper = _caps(caps, weights.shape, widths)
    budget = _checked_budget(budget)
    if budget < low * (1 - 1e-12):
        raise InfeasibleError(
            f"budget {budget} is below the narrowest possible allocation ({low:.2f}): "
            "raise the budget or lower the narrowest width",
            limits=("budget",),
        )
    if isinstance(passes, str) and passes == "exact":
        return _exact_scale(wanted, weights, budget, low, upper)
    if not isinstance(passes, Integral) or isinstance(passes, bool) or passes < 1:
        raise InputError(f"passes {passes!r} must be a whole number of at least 1, or 'exact'")
    for _ in range(passes):
        before = wanted
        wanted = np.clip(wanted * (budget / float(weights @ wanted)), low, upper)
        if np.array_equal(wanted, before):
            break  # a fixed point: further passes change nothing
    return wanted


def _exact_scale(
    wanted: FloatArray, weights: FloatArray, budget: float, low: float, upper: FloatArray
) -> FloatArray:
    """Root of ``f(s) = sum_i w_i clip(s q_i, low, upper_i) - budget`` in one sort.

    Below ``low / q_i`` a client stands at ``low``, above ``upper_i / q_i`` at its cap; between
    two neighbouring breakpoints ``f`` is linear.
    """
    if weights @ upper <= budget:
        return upper.copy()
    starts, ends = low / wanted, upper / wanted
    breakpoints = np.concatenate([starts, ends])
    order = np.argsort(breakpoints, kind="stable")
    slopes = np.cumsum(np.concatenate([weights * wanted, -weights * wanted])[order])
    points = breakpoints[order]
    values = low + np.concatenate([[0.0], np.cumsum(slopes[:-1] * np.diff(points))])
    segment = int(np.searchsorted(values, budget, side="right")) - 1
    middle = (points[segment] + points[min(segment + 1, points.size - 1)]) / 2
    free = (starts <= middle) & (middle <= ends)
    at_cap = ends < middle
    rest = budget - weights[at_cap] @ upper[at_cap] - low * weights[starts > middle].sum()
    moving = weights[free] @ wanted[free]
    scale = rest / moving if moving > 0 else points[segment]
    return np.asarray(np.clip(scale * wanted, low, upper))


def _checked_budget(budget: float) -> float:
    share = number(budget, "budget")
    if share <= 0:
        raise InputError(f"budget {budget} must be a finite share of the full width above 0")
    return share


def _range(widths: tuple[float, float]) -> tuple[float, float]:
    try:
        low, high = widths
    except (TypeError, ValueError) as error:
        raise InputError(f"widths {widths!r} must be a pair (r_min, r_max)") from error
    low, high = number(low, "r_min"), number(high, "r_max")
    if not 0 < low <= high <= 1:
        raise InputError(f"widths ({low}, {high}) must satisfy 0 < r_min <= r_max <= 1")
    return low, high


def _caps(
    caps: npt.ArrayLike | None, shape: tuple[int, ...], widths: tuple[float, float]
) -> FloatArray:
    low, high = _range(widths)
    if caps is None:
        return np.full(shape, high)
    upper = float_array(caps, "caps", shape)
    bad = np.flatnonzero(~((upper >= low) & (upper <= 1)))
    if bad.size:
        raise InputError(
            f"cap {upper[bad[0]]} of row {bad[0]} must lie between the narrowest width {low} "
            "and 1: lower the narrowest width or leave the client out"
        )
    return upper


_EXPLAINED = 0.9
_SHARE = 0.1
_FAINT = 1e-6


def easy_clients(loss: npt.ArrayLike) -> npt.NDArray[np.bool_]:
    """Clients below the one cut that explains most of the variance of the losses.

    This is 2-means in one dimension, solved by trying every cut. Of equally good cuts the lowest
    counts.

    Parameters
    ----------
    loss : (n_clients,) floats
        Held-back loss; at least two clients.

    Returns
    -------
    (n_clients,) booleans
        At least one is True and one is False.

    Raises
    ------
    InputError
        If there are fewer than two clients.

    Examples
    --------
    >>> easy_clients([0.1, 1.9, 0.2, 1.7]).tolist()
    [True, False, True, False]
    """
    values = float_array(loss, "loss")
    if values.size < 2:
        raise InputError(f"{values.size} client(s) cannot be easy and hard: give at least two")
    order = np.argsort(values, kind="stable")
    inside = [_within(values[order], cut) for cut in range(1, values.size)]
    easy = np.zeros(values.size, dtype=bool)
    easy[order[: 1 + int(np.argmin(inside))]] = True
    return easy


def falls_in_two(loss: npt.ArrayLike, samples: npt.ArrayLike) -> bool:
    """Whether clients fall into an easy and a hard group.

    They do if the cut of :func:`easy_clients` explains nine tenths of the variance of the losses
    (of losses that are spread evenly it explains three quarters, of normal ones two thirds), and
    if each group is more than one client and holds a tenth of the samples.

    Parameters
    ----------
    loss : (n_clients,) floats
    samples : (n_clients,) integers
        Training samples.
    """
    values = float_array(loss, "loss")
    weights = Clients(samples).weights
    if values.size < 4:
        return False
    easy = easy_clients(values)
    groups = (easy, ~easy)
    if min(own.sum() for own in groups) < 2 or min(weights[own].sum() for own in groups) < _SHARE:
        return False
    inside = sum(((values[own] - values[own].mean()) ** 2).sum() for own in groups)
    return bool(inside < (1 - _EXPLAINED) * ((values - values.mean()) ** 2).sum())


def by_difficulty(
    loss: npt.ArrayLike,
    samples: npt.ArrayLike,
    *,
    budget: float = 0.5,
    widths: tuple[float, float] = (0.2, 0.8),
    caps: npt.ArrayLike | None = None,
) -> FloatArray:
    """The narrowest width for easy clients, one common width for the hard ones.

    The outer units then serve hard clients alone. What is left over once these are at their caps
    goes to the easy ones.

    Parameters
    ----------
    loss : (n_clients,) floats
        Held-back loss of each client, such as ``probe.loss.mean(axis=1)``.
    samples, budget, widths, caps
        As for :func:`hasa_opt.rules.hasa`.

    Returns
    -------
    (n_clients,) floats

    Raises
    ------
    InputError, InfeasibleError
        As for :func:`hasa_opt.rules.hasa`.

    Examples
    --------
    >>> by_difficulty([0.1, 1.9, 0.2, 1.7], [100, 100, 100, 100], budget=0.4).round(2).tolist()
    [0.2, 0.6, 0.2, 0.6]
    """
    preliminary = np.where(easy_clients(loss), _FAINT, 1.0)
    return scaled_to_budget(preliminary, samples, budget=budget, widths=widths, caps=caps)


def _within(ordered: FloatArray, cut: int) -> float:
    """Sum of squares within the values before and after a cut."""
    return float(sum(((own - own.mean()) ** 2).sum() for own in (ordered[:cut], ordered[cut:])))
