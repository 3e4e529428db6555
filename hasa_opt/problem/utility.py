"""Utility families: what an allocation is worth, as a table of clients by widths.

A utility is called with the clients and the menu and returns a float table
``(n_clients, n_widths)``. A function of your own with that signature serves as well. The problem
keeps a copy of the table, unless the table is read-only and owns its memory.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from hasa_opt._utils.checks import FloatArray, float_array, number, outer, real_array
from hasa_opt._utils.frames import by_name
from hasa_opt.clients.clients import Clients
from hasa_opt.errors import InputError
from hasa_opt.rules.scores import rank_normalize
from hasa_opt.rules.widths import between

__all__ = ["Utility", "alpha_fair", "hasa", "measured", "ranked", "saturating"]

Utility = Callable[[Clients, FloatArray], FloatArray]


def hasa(scores: npt.ArrayLike, *, widths: tuple[float, float] | None = None) -> Utility:
    """Utility whose optimum is the HASA rule on a discrete menu: ``w_i q_i log r_k``.

    Weighted proportional fairness: ``w_i`` is the client's share of the samples and ``q_i`` its
    preliminary width (arXiv:2606.07621, section 3).

    Parameters
    ----------
    scores : (n_clients,) floats
        Heterogeneity of each client. They are checked and ranked at once, for all the problems
        that this utility serves.
    widths : (r_min, r_max), optional
        Range of the preliminary widths. Default: the ends of the menu.

    Raises
    ------
    InputError
        For scores that are not one finite number per client.
    """
    return ranked(rank_normalize(scores), widths=widths)


def ranked(ranks: FloatArray, *, widths: tuple[float, float] | None = None) -> Utility:
    """The utility :func:`hasa` of scores whose ranks in [0, 1] are known, ``(n_clients,)``."""

    def build(clients: Clients, menu: FloatArray) -> FloatArray:
        if ranks.size != len(clients):
            raise InputError(f"scores have shape {ranks.shape}: {(len(clients),)} expected")
        trained = _widths(menu)[menu > 0]
        ends = (float(trained.min()), float(trained.max())) if widths is None else widths
        with np.errstate(divide="ignore"):  # a width of 0 is refused as not finite
            return outer(clients.weights * between(ranks, ends), np.log(menu))

    return build


def alpha_fair(weights: npt.ArrayLike | None = None, *, alpha: float = 1.0) -> Utility:
    """Weighted alpha-fair utility: ``weight_i r^(1 - alpha) / (1 - alpha)``, log for alpha = 1.

    ``alpha = 0`` is utilitarian, 1 is proportional fairness (HASA with weights ``w_i q_i``); the
    larger alpha, the nearer to max-min fairness (Mo and Walrand, 2000).

    Parameters
    ----------
    weights : (n_clients,) floats of at least 0, optional
        Default: each client's share of the samples.
    alpha : float
        Finite, at least 0.
    """
    power = number(alpha, "alpha", infinite=True)
    if power == np.inf or power < 0:
        raise InputError(
            f"alpha {alpha} must be finite and at least 0: a sum has no max-min limit, "
            "a large alpha comes near it"
        )

    def build(clients: Clients, menu: FloatArray) -> FloatArray:
        given = clients.weights if weights is None else _heights(weights, clients, "weights")
        _widths(menu)
        with np.errstate(over="ignore", divide="ignore"):  # refused as not finite
            curve = np.log(menu) if power == 1 else menu ** (1 - power) / (1 - power)
            return outer(given, curve)

    return build


def saturating(scores: npt.ArrayLike, *, tau: float = 0.3) -> Utility:
    """Diminishing returns: ``h_i (1 - exp(-r / tau))`` with the scores ``h_i`` of at least 0.

    Parameters
    ----------
    scores : (n_clients,) floats of at least 0
    tau : float
        Width at which 63 % of the value is reached; greater than 0.
    """
    scale = number(tau, "tau")
    if not scale > 0:
        raise InputError(f"tau {tau} must be a width greater than 0")

    def build(clients: Clients, menu: FloatArray) -> FloatArray:
        heights = _heights(scores, clients, "scores")
        with np.errstate(over="ignore"):  # to the limit: 1
            return outer(heights, -np.expm1(-_widths(menu) / scale))

    return build


def measured(values: npt.ArrayLike | Utility) -> Utility:
    """Utility from a table or a function of your own, of any shape, concave or not.

    Parameters
    ----------
    values : (n_clients, n_widths) floats, or a function of the clients and the menu
        A data frame with a column "name" or "client" is matched by it; its other columns are the
        options, in the order of the menu.
    """
    if callable(values):
        return values

    def build(clients: Clients, menu: FloatArray) -> FloatArray:
        own = by_name(values, clients.all_names, "utility table")
        table = real_array(own, "utility table").copy()
        table.flags.writeable = False
        return table

    return build


def _widths(menu: FloatArray) -> FloatArray:
    """The widths, which a menu of other options does not have."""
    if np.isnan(menu).any():
        raise InputError(
            "the options have no widths, which this utility is a function of: give "
            'Menu(attributes={"width": ...}), or a table, utility.measured(table)'
        )
    return menu


def _heights(values: npt.ArrayLike, clients: Clients, what: str) -> FloatArray:
    heights = float_array(values, what, (len(clients),))
    negative = np.flatnonzero(heights < 0)
    if negative.size:
        row = int(negative[0])
        raise InputError(f"{what} of row {row} is {heights[row]}: it must be at least 0")
    return heights
