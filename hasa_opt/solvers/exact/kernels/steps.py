"""The steps of a client's upper concave hull within an interval of multipliers."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from hasa_opt._utils.checks import FloatArray
from hasa_opt.solvers.exact.kernels import helper, kernel

__all__ = ["Known", "hull", "nothing", "scan", "steps_between", "steps_within", "within"]


@helper
def hull(costs, utilities, admissible, order, vertex, slope):
    """Upper concave hull of one client by a monotone chain; collinear points stay.

    Writes the widths of the vertices to ``vertex``, costs increasing, and the slope that leads
    to each to ``slope``, non-increasing (infinity for the first). Returns their number.
    """
    count = 0
    for k in range(costs.size):
        if admissible[k]:
            at = count
            while at > 0 and costs[order[at - 1]] > costs[k]:
                order[at] = order[at - 1]
                at -= 1
            order[at] = k
            count += 1
    top = 0
    for j in range(count):
        k = order[j]
        steep = np.inf
        if top > 0:
            if utilities[k] <= utilities[vertex[top - 1]]:
                continue
            if costs[k] == costs[vertex[top - 1]]:
                top -= 1
        while top > 0:
            last = vertex[top - 1]
            steep = (utilities[k] - utilities[last]) / np.float64(costs[k] - costs[last])
            if top == 1 or steep <= slope[top - 1]:
                break
            top -= 1
        vertex[top] = k
        slope[top] = steep if top > 0 else np.inf
        top += 1
    return top


@helper
def steps_between(costs, i, low, high, top, vertex, steep, slope, cost, client, width, count):
    """Append a client's steps of slope in [low, high); the first vertex, and the new count."""
    at = 1
    while at < top and steep[at] >= high:
        at += 1
    first = at - 1
    while at < top and steep[at] >= low:
        slope[count] = steep[at]
        cost[count] = costs[i, vertex[at]] - costs[i, vertex[at - 1]]
        client[count], width[count] = i, vertex[at]
        count += 1
        at += 1
    return first, count


@kernel
def steps_within(costs, utilities, admissible, rows, low, high, choice):
    """Steps of slope in [low, high); steeper ones are taken: writes ``choice`` of the rows."""
    n_widths = costs.shape[1]
    order = np.empty(n_widths, np.int64)
    vertex = np.empty(n_widths, np.int64)
    steep = np.empty(n_widths, np.float64)
    room = rows.size * (n_widths - 1)
    slope, cost = np.empty(room, np.float64), np.empty(room, np.int64)
    client, width = np.empty(room, np.int64), np.empty(room, np.int64)
    count, spent = 0, 0
    for i in rows:
        top = hull(costs[i], utilities[i], admissible[i], order, vertex, steep)
        first, count = steps_between(
            costs, i, low, high, top, vertex, steep, slope, cost, client, width, count
        )
        choice[i] = vertex[first]
        spent += costs[i, choice[i]]
    return slope[:count], cost[:count], client[:count], width[:count], spent


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
            first, end = steps_between(
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
