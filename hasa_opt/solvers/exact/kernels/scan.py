"""Between which prices a width is the best one of its client.

Where another one is dearer the price must be above the slope between the two, and below it where
it is cheaper. The tables alone say so, so that it holds under any budget.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from hasa_opt.basics.compiled import helper, kernel
from hasa_opt.clients import FloatArray
from hasa_opt.solvers.exact.kernels.steps import hull, steps

__all__ = ["Known", "nothing", "scan", "within"]


class Known(NamedTuple):
    """What is known of a choice, whatever the budget.

    Attributes
    ----------
    lowest, highest : (n_clients,) float64
        Prices between which the choice is best; ``lowest > highest`` where that is not known.
    step : (n_clients,) float64
        Least difference in cost of another width.
    """

    lowest: FloatArray
    highest: FloatArray
    step: FloatArray


def nothing(n_clients: int) -> Known:
    """What is known of any choice."""
    unknown = np.full(n_clients, np.inf)
    return Known(unknown, -unknown, np.zeros(n_clients))


@kernel
def scan(costs, utilities, admissible, choice, lowest, highest, step, low, high):
    """Best widths at two prices, and the steps of the hulls between them.

    ``choice`` holds guesses, or -1, and becomes the best widths at the high price. What is known of
    a guess is believed; without it, a right one is confirmed in half the time. Writes what is known
    after all these steps. Returns them, and by how much more than the guesses all spend at either
    price, the high one first.
    """
    n_widths = costs.shape[1]
    order, vertex = np.empty(n_widths, np.int64), np.empty(n_widths, np.int64)
    steep = np.empty(n_widths, np.float64)
    room = costs.shape[0] * (n_widths - 1)
    slope, cost = np.empty(room, np.float64), np.empty(room, np.int64)
    client, width = np.empty(room, np.int64), np.empty(room, np.int64)
    count, spent, most = 0, 0, 0
    for i in range(costs.shape[0]):
        if _best_at(lowest, highest, i, low, high):
            continue
        at = choice[i]
        if at >= 0:
            spent -= costs[i, at]
            if lowest[i] > highest[i]:
                lowest[i], highest[i], step[i] = _prices(costs, utilities, admissible, i, at)
        if high < np.inf and not _best_at(lowest, highest, i, low, high):
            at = _best(costs, utilities, admissible, i, low)
            lowest[i], highest[i], step[i] = _prices(costs, utilities, admissible, i, at)
        if not _best_at(lowest, highest, i, low, high):
            top = hull(costs[i], utilities[i], admissible[i], order, vertex, steep)
            first, end = steps(
                costs, i, low, high, top, vertex, steep, slope, cost, client, width, count
            )
            at = vertex[first]
            last = first + end - count
            lowest[i] = steep[last + 1] if last + 1 < top else -np.inf
            highest[i], step[i] = steep[first], _spacing(costs, admissible, i, order)
            most += costs[i, vertex[last]] - costs[i, at]
            count = end
        choice[i] = at
        spent += costs[i, at]
    return slope[:count], cost[:count], client[:count], width[:count], spent, spent + most


@kernel
def within(lowest, highest, step, price, loss):
    """Clients of which another width may have a regret of at most ``loss``."""
    rows = np.empty(step.size, np.int64)
    count = 0
    for i in range(step.size):
        rows[count] = i
        count += not step[i] * min(price - lowest[i], highest[i] - price) > loss
    return rows[:count].copy()


@helper
def _best_at(lowest, highest, i, low, high):
    """True if a client's choice is known to be the only best one at two prices."""
    return lowest[i] < low and high < highest[i]


@helper
def _best(costs, utilities, admissible, i, price):
    """Best width of a client at a price.

    Selections instead of branches, which would be mispredicted; so in the next function.
    """
    best, at = -np.inf, -1
    for k in range(costs.shape[1]):
        if admissible[i, k]:
            net = utilities[i, k] - price * np.float64(costs[i, k] - costs[i, 0])
            at = k if net > best else at
            best = net if net > best else best
    return at


@helper
def _prices(costs, utilities, admissible, i, at):
    """Prices between which a width is best, and the least difference in cost of another one.

    What is not a number compares false.
    """
    lowest, highest, step = -np.inf, np.inf, np.inf
    worth, spent = utilities[i, at], costs[i, at]
    for k in range(costs.shape[1]):
        if admissible[i, k]:
            extra = np.float64(costs[i, k] - spent)
            slope = (utilities[i, k] - worth) / extra
            lowest = slope if extra >= 0.0 and slope > lowest else lowest
            highest = slope if extra < 0.0 and slope < highest else highest
            step = abs(extra) if 0.0 < abs(extra) < step else step
    if not admissible[i, at]:
        lowest = np.inf
    return lowest, highest, step


@helper
def _spacing(costs, admissible, i, order):
    """Least difference in cost of two admissible widths; ``order`` lists these by cost."""
    n_admissible, least = 0, np.inf
    for k in range(costs.shape[1]):
        n_admissible += admissible[i, k]
    for j in range(1, n_admissible):
        difference = np.float64(costs[i, order[j]] - costs[i, order[j - 1]])
        least = difference if 0.0 < difference < least else least
    return least
