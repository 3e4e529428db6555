"""The shortest round: what a clock leaves to be gained by another allocation of the same budget."""

from __future__ import annotations

import numpy as np

from hasa_opt._utils.checks import FloatArray, IntArray
from hasa_opt.federated import round_menu
from hasa_opt.problem.clock import MILLISECONDS
from hasa_opt.study.results import Results
from hasa_opt.study.settings import SetUp
from hasa_opt.study.tables import scaled

__all__ = ["least_makespan", "shortest_round"]

_ROUNDING = 1e-9


def least_makespan(seconds: FloatArray, costs: IntArray, needed: int) -> float:
    """Least deadline that lets all clients take part and together spend so much.

    It is exact: by a deadline each client does best to take the costliest option that keeps it.

    Parameters
    ----------
    seconds : (n_clients, m) floats
    costs : (n_clients, m) ints
    needed : int
        Total cost.

    Returns
    -------
    float
        Infinity if even the costliest options do not spend so much.
    """
    deadlines = np.unique(seconds)
    low, high = 0, len(deadlines)
    while low < high:
        middle = (low + high) // 2
        spent = np.where(seconds <= deadlines[middle], costs, -1).max(axis=1)
        if (spent >= 0).all() and spent.sum() >= needed:
            high = middle
        else:
            low = middle + 1
    return float(deadlines[low]) if low < len(deadlines) else np.inf


def shortest_round(setup: SetUp, results: Results) -> str:
    """How long a round lasts at least in which all spend what the policies have spent, in words.

    A proven bound over all allocations of whole units within the caps, at the cost of the policy
    that spent least, so that it holds for each; beside the shortest rounds that were seen.

    Parameters
    ----------
    setup : SetUp
    results : Results

    Returns
    -------
    str
        Empty without a clock, and where some policy leaves clients out.
    """
    clock = setup.participation.clock
    if clock is None or results.excluded.any():
        return ""
    meter = setup.meter
    widths = meter.grid(1 / meter.largest, 1.0)
    charges = np.array([meter.cost(width) for width in widths.tolist()], dtype=np.int64)
    samples = setup.clients.samples
    needed = int(results.realised.min() * (1 - _ROUNDING) * samples.sum() * charges[-1])
    costs = samples[:, None] * charges
    if setup.clients.max_width is not None:
        fits = widths <= setup.clients.max_width[:, None] + _ROUNDING
        costs = np.where(fits, costs, -1)
    menu = round_menu(
        setup.model, setup.task, widths.tolist(), clock=clock, training=setup.training
    )
    least = least_makespan(menu.costs[MILLISECONDS] / 1000, costs, needed)
    lasted = results.seconds.mean(axis=1) / setup.rounds
    return (
        f"A round in which all clients spend this budget lasts at least {scaled(least, 's')}, "
        f"whatever the allocation (proven); those of {results.policies[int(lasted.argmin())]}, the "
        f"shortest here, lasted {scaled(float(lasted.min()), 's')}."
    )
