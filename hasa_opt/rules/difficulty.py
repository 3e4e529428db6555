"""Widths by difficulty: clients with little held-back loss need less of the supernet."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from hasa_opt._utils.checks import BoolArray, FloatArray, float_array
from hasa_opt.clients.clients import Clients
from hasa_opt.errors import InputError
from hasa_opt.rules.widths import scaled_to_budget

__all__ = ["by_difficulty", "easy_clients", "falls_in_two"]

_EXPLAINED = 0.9  # of the variance; evenly spread losses reach 0.75, normal ones 0.64
_SHARE = 0.1  # of the samples that each of two groups holds at least
_FAINT = 1e-6  # a preliminary width so small that the narrowest one takes its place


def easy_clients(loss: npt.ArrayLike) -> BoolArray:
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
    if any(group.sum() < 2 or weights[group].sum() < _SHARE for group in groups):
        return False
    inside = sum(((values[group] - values[group].mean()) ** 2).sum() for group in groups)
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
    samples : (n_clients,) integers
    budget : float
    widths : (r_min, r_max)
    caps : (n_clients,) floats, optional
        These as for :func:`hasa_opt.rules.hasa`.

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
    parts = ordered[:cut], ordered[cut:]
    return float(sum(((part - part.mean()) ** 2).sum() for part in parts))
