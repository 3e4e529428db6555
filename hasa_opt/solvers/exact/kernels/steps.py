"""The steps of a client's upper concave hull within an interval of multipliers."""

from __future__ import annotations

import numpy as np

from hasa_opt.basics.compiled import helper, kernel

__all__ = ["hull", "steps", "steps_within"]


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
def steps(costs, i, low, high, top, vertex, steep, slope, cost, client, width, count):
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
        first, count = steps(
            costs, i, low, high, top, vertex, steep, slope, cost, client, width, count
        )
        choice[i] = vertex[first]
        spent += costs[i, choice[i]]
    return slope[:count], cost[:count], client[:count], width[:count], spent
