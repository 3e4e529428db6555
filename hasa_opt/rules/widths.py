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

from collections.abc import Sequence
from numbers import Integral
from typing import Literal

import numpy as np
import numpy.typing as npt

from hasa_opt._utils.checks import FloatArray, array, float_array, number, whole
from hasa_opt._utils.rational import SAME_WIDTH, written
from hasa_opt._utils.streams import Purpose, client_numbers, priorities
from hasa_opt.clients.clients import Clients
from hasa_opt.errors import InfeasibleError, InputError
from hasa_opt.rules.scores import rank_normalize

__all__ = [
    "budget_miss",
    "capacity",
    "exclude",
    "hasa",
    "preliminary_widths",
    "random",
    "reverse",
    "scaled_to_budget",
    "smallest",
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


def smallest(
    samples: npt.ArrayLike,
    *,
    caps: npt.ArrayLike,
    budget: float = 0.5,
    widths: tuple[float, float] = (0.2, 0.8),
) -> FloatArray:
    """Everybody at what the weakest device can train, or at the budget where that is less.

    It spends less than the budget where the weakest device is below it. Parameters, result and
    errors as for :func:`hasa`.
    """
    checked = _caps(caps, array(samples, "samples").shape, widths)
    level = min(float(checked.min()), float(_checked_budget(budget)))
    return np.full(checked.shape, max(level, widths[0]))


def exclude(
    samples: npt.ArrayLike,
    *,
    caps: npt.ArrayLike,
    budget: float = 0.5,
    widths: tuple[float, float] = (0.2, 0.8),
    level: float | None = None,
) -> FloatArray:
    """The devices that cannot train the equal width are left out; the others spend the budget.

    They get width 0. The others share the same budget as under :func:`uniform`: equally, and what
    capped clients leave over goes to the rest. This is what practitioners do first. Errors and
    other parameters as for :func:`hasa`.

    Parameters
    ----------
    level : float, optional
        Width that a device must be able to train. Default: the budget, which is what everybody
        would train.

    Returns
    -------
    (n_clients,) floats
        0 for the clients that are left out. Where the others cannot spend the budget, they train
        at their caps; where all caps are below the level, the widest are kept.
    """
    weights, share = Clients(samples).weights, _checked_budget(budget)
    checked = _caps(caps, weights.shape, widths)
    least = share if level is None else number(level, "level")
    kept = checked >= min(least - SAME_WIDTH, checked.max())
    rest, own = share / float(weights[kept].sum()), array(samples, "samples")[kept]
    found = np.zeros(weights.shape)
    found[kept] = uniform(own, budget=rest, widths=widths, caps=checked[kept])
    return found


def random(
    samples: npt.ArrayLike,
    *,
    seed: int,
    budget: float = 0.5,
    widths: tuple[float, float] = (0.2, 0.8),
    caps: npt.ArrayLike | None = None,
    names: Sequence[str | int] | None = None,
) -> FloatArray:
    """Preliminary widths drawn uniformly from the range, scaled to the budget.

    Result, errors and other parameters as for :func:`hasa`.

    Parameters
    ----------
    seed : int
    names : n_clients distinct strings or whole numbers, optional
        On which the preliminary widths hang, whoever else is there and in whatever order. Default:
        "client-0" and so on, as in :class:`hasa_opt.Clients`.
    """
    numbers = client_numbers(Clients(samples, names=names).all_names)
    shares = np.ldexp(priorities(Purpose.POLICY, (whole(seed, "seed"),), numbers), -64)
    drawn = between(shares, widths)
    return scaled_to_budget(drawn, samples, budget=budget, widths=widths, caps=caps)


def preliminary_widths(
    scores: npt.ArrayLike, *, widths: tuple[float, float] = (0.2, 0.8)
) -> FloatArray:
    """``q_i = r_min + (r_max - r_min) s_i`` with the ranks ``s_i`` of the scores.

    Parameters
    ----------
    scores : (n_clients,) finite floats
    widths : (r_min, r_max)

    Returns
    -------
    (n_clients,) floats
    """
    return between(rank_normalize(scores), widths)


def between(ranks: FloatArray, widths: tuple[float, float]) -> FloatArray:
    """Widths of shares of the range, such as normalised ranks: ``r_min`` at 0, ``r_max`` at 1."""
    low, high = _range(widths)
    return low + (high - low) * ranks


def budget_miss(widths: npt.ArrayLike, samples: npt.ArrayLike, *, budget: float) -> float:
    """Relative error of the realised budget: ``sum_i w_i r_i / B - 1``.

    Two passes of the paper's rule may miss it, all the more with few clients or uneven caps; this
    says by how much.

    Parameters
    ----------
    widths : (n_clients,) floats
    samples : (n_clients,) integers
    budget : float

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
            f"budget {budget} is below the narrowest possible allocation ({written(low)}): "
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
