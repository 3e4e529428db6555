"""The linear relaxation in linear time: the multiplier of the budget and a base allocation.

The steps of all upper concave hulls, taken best slope first, fill the budget; the slope at which
they do so is the multiplier. It is found by partitioning, not by sorting (Dyer, 1984, and Zemel,
1984, for the multiple-choice knapsack). Of many clients only those are looked at whose choice
changes within an interval of multipliers that a sample has given (after Floyd and Rivest's
selection, 1975): two multiplications per width for all the others.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from hasa_opt.basics.compiled import helper, kernel
from hasa_opt.basics.deadline import UNLIMITED, Deadline
from hasa_opt.clients import FloatArray, IntArray

__all__ = ["Base", "Start", "Table", "cost_of", "relax", "steps_within", "worth"]

_SAMPLE_FROM = 20_000
_SAMPLE, _SAMPLE_WITH_START = 4.0, 1.0
_DEVIATIONS = 4.0
_MARGIN = 1e-9
_NEAREST = 400
_BLOCK = 1 << 17


class Table(NamedTuple):
    """Arrays of the problem, C-contiguous and read-only (numba compiles for these once).

    Attributes
    ----------
    costs : (n_clients, n_widths) int64
    utilities : (n_clients, n_widths) float64
    admissible : (n_clients, n_widths) bool
    """

    costs: IntArray
    utilities: FloatArray
    admissible: npt.NDArray[np.bool_]


class Start(NamedTuple):
    """An allocation to start from; it need not be within the budget.

    Attributes
    ----------
    choice : (n_clients,) int64
    spent : int
        What it costs.
    """

    choice: IntArray
    spent: int


class Base(NamedTuple):
    """Optimum of the linear relaxation, its fractional step left out.

    Attributes
    ----------
    price : float
        Multiplier of the budget, utility per unit of cost; 0 if the budget does not bind.
    choice : (n_clients,) int64
        Best width of each client at this price, within the budget.
    slack : int
        Budget that the choice leaves; negative if no allocation fits.
    near : (n_near,) int64
        Clients with the steps nearest to the multiplier: a few hundred.
    margin : (n_clients,) float64
        No other width of a client has a smaller regret at this price.
    """

    price: float
    choice: IntArray
    slack: int
    near: IntArray
    margin: FloatArray


class _Steps(NamedTuple):
    """Hull steps within an interval of multipliers, each client's in order."""

    slope: FloatArray
    cost: IntArray
    client: IntArray
    width: IntArray
    spent: int


def relax(
    table: Table, limit: int, start: Start | None = None, deadline: Deadline = UNLIMITED
) -> Base:
    """Solve the linear relaxation.

    Parameters
    ----------
    table : Table
    limit : int
        The budget; at most 2**62.
    start : Start, optional
        An allocation that is similar, most likely, for example that of a similar budget: it
        saves time, whatever the budget was.
    deadline : Deadline, optional

    Raises
    ------
    OutOfTime
        If the deadline passes first.
    """
    n_clients = table.costs.shape[0]
    choice = np.full(n_clients, -1) if start is None else start.choice.copy()
    if n_clients >= _SAMPLE_FROM:
        margin = np.empty(n_clients, dtype=np.float64)
        for widening in (1.0, 8.0):
            low, high = _interval(table, limit, widening, start)
            near, spent, least, most = _scanned(table, low, high, choice, margin, deadline)
            if least <= limit < most:
                base = _fill(table, limit - spent, near, low, high, choice, deadline)
                return base._replace(margin=margin)
    everyone = np.arange(n_clients)
    return _fill(table, limit, everyone, 0.0, np.inf, choice, deadline)


def _interval(
    table: Table, limit: int, widening: float, start: Start | None
) -> tuple[float, float]:
    """Interval that holds the multiplier, most likely, from a sample of the clients.

    With a start only the difference to it is estimated from the sample, which varies less.
    """
    n_clients = table.costs.shape[0]
    size = int((_SAMPLE if start is None else _SAMPLE_WITH_START) * n_clients ** (2 / 3))
    rows = np.random.default_rng(n_clients).integers(0, n_clients, size)
    part = Table(*(_frozen(column[rows]) for column in table))
    choice = np.empty(size, dtype=np.int64)
    steps = _Steps(*steps_within(*part, np.arange(size), 0.0, np.inf, choice))
    known = 0 if start is None else table.costs[rows, start.choice[rows]]
    target = (limit - (0 if start is None else start.spent)) / n_clients * size + np.sum(known)
    price = _critical(steps.slope.copy(), steps.cost.copy(), int(target) - steps.spent)
    _take(*steps[:4], price, int(target) - steps.spent, choice)
    spread = float((part.costs[np.arange(size), choice] - known).std()) * size**0.5
    reach = max(_DEVIATIONS * widening * spread, 1.0)
    low = _critical(steps.slope.copy(), steps.cost.copy(), int(target + reach) - steps.spent)
    high = _critical(steps.slope.copy(), steps.cost.copy(), int(target - reach) - steps.spent)
    return low * (1 - _MARGIN), high * (1 + _MARGIN)


def _scanned(
    table: Table,
    low: float,
    high: float,
    choice: IntArray,
    margin: FloatArray,
    deadline: Deadline,
) -> tuple[IntArray, int, int, int]:
    """Results of ``_scan``, by blocks of clients."""
    near, sums = [], np.zeros(3, dtype=np.int64)
    for start in range(0, choice.size, _BLOCK):
        deadline.check()
        block = slice(start, start + _BLOCK)
        part = Table(table.costs[block], table.utilities[block], table.admissible[block])
        differ, *own = _scan(*part, low, high, choice[block], margin[block])
        near.append(differ + start)
        sums += own
    spent, least, most = sums.tolist()
    return np.concatenate(near), spent, least, most


def _fill(
    table: Table,
    room: int,
    near: IntArray,
    low: float,
    high: float,
    choice: IntArray,
    deadline: Deadline,
) -> Base:
    """Fill the room with the steps of the near clients; the others have their choice."""
    parts = []
    for start in range(0, max(near.size, 1), _BLOCK):
        deadline.check()
        parts.append(steps_within(*table, near[start : start + _BLOCK], low, high, choice))
    *columns, spent = zip(*parts, strict=True)
    slope, cost, client, width = map(np.concatenate, columns)
    steps = _Steps(slope, cost, client, width, sum(spent))
    deadline.check()
    room -= steps.spent
    price = max(_critical(steps.slope.copy(), steps.cost.copy(), room), low)
    slack = int(_take(*steps[:4], price, room, choice))
    client = steps.client
    if client.size > _NEAREST:
        client = client[np.argpartition(np.abs(steps.slope - price), _NEAREST)[:_NEAREST]]
    client = np.sort(client)
    near = client[np.diff(client, prepend=-1) > 0]
    return Base(price, choice, slack, near, np.zeros(choice.size))


def _frozen(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    array.flags.writeable = False
    return array


@helper
def _hull(costs, utilities, admissible, order, vertex, slope):
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
        top = _hull(costs[i], utilities[i], admissible[i], order, vertex, steep)
        at = 1
        while at < top and steep[at] >= high:
            at += 1
        choice[i] = vertex[at - 1]
        spent += costs[i, choice[i]]
        while at < top and steep[at] >= low:
            slope[count] = steep[at]
            cost[count] = costs[i, vertex[at]] - costs[i, vertex[at - 1]]
            client[count], width[count] = i, vertex[at]
            count += 1
            at += 1
    return slope[:count], cost[:count], client[:count], width[:count], spent


@helper
def _best(costs, utilities, admissible, i, price, dearest):
    """Best width of a client at a price; among equal ones the dearest or the cheapest."""
    best, spent, at = -np.inf, 0, -1
    for k in range(costs.shape[1]):
        if admissible[i, k]:
            net = utilities[i, k] - price * np.float64(costs[i, k] - costs[i, 0])
            if net > best or (net == best and (costs[i, k] > spent) == dearest):
                best, spent, at = net, costs[i, k], k
    return at


@helper
def _margin(costs, utilities, admissible, i, at, low, high):
    """Smallest regret of a client's other widths between two prices.

    A regret is linear in the price, so it is least at one end: that of a cheaper width at the high
    price, that of a dearer one at the low. Not above 0 if another width is as good there.
    """
    if not admissible[i, at]:
        return -np.inf
    margin = np.inf
    worth, spent = utilities[i, at], costs[i, at]
    for k in range(costs.shape[1]):
        if admissible[i, k] and k != at:
            extra = np.float64(spent - costs[i, k])
            price = low if extra < 0 else high
            margin = min(margin, worth - utilities[i, k] - price * extra)
    return margin


@kernel
def _scan(costs, utilities, admissible, low, high, choice, margin):
    """Best widths at two multipliers: clients where they differ, the others' ``choice``.

    ``choice`` holds guesses, or -1; a right one is confirmed in half the time. Returns these
    clients, what the others spend, and what all spend at either multiplier.
    """
    near = np.empty(costs.shape[0], np.int64)
    count, spent, least, most = 0, 0, 0, 0
    for i in range(costs.shape[0]):
        at, apart = choice[i], -np.inf
        if at >= 0:
            apart = _margin(costs, utilities, admissible, i, at, low, high)
        if apart <= 0.0:
            at = _best(costs, utilities, admissible, i, low, True)
            apart = _margin(costs, utilities, admissible, i, at, low, high)
        choice[i], margin[i] = at, max(apart, 0.0)
        if apart > 0.0:
            spent += costs[i, at]
        else:
            near[count] = i
            count += 1
            most += costs[i, at]
            least += costs[i, _best(costs, utilities, admissible, i, high, False)]
    return near[:count].copy(), spent, least + spent, most + spent


@kernel
def _critical(slope, cost, room):
    """Largest slope at which the steps of at least that slope exceed the room; 0 if none does.

    Weighted selection by three-way partitioning; reorders its arrays.
    """
    first, last = 0, slope.size
    while first < last:
        a, b, c = slope[first], slope[(first + last) // 2], slope[last - 1]
        pivot = max(min(a, b), min(max(a, b), c))
        above, at, below = first, first, last
        steeper, equal = 0, 0
        while at < below:
            value = slope[at]
            if value > pivot:
                steeper += cost[at]
                slope[at], slope[above] = slope[above], value
                cost[at], cost[above] = cost[above], cost[at]
                above += 1
                at += 1
            elif value < pivot:
                below -= 1
                slope[at], slope[below] = slope[below], value
                cost[at], cost[below] = cost[below], cost[at]
            else:
                equal += cost[at]
                at += 1
        if steeper > room:
            last = above
        elif steeper + equal > room:
            return pivot
        else:
            room -= steeper + equal
            first = below
    return 0.0


@kernel
def _take(slope, cost, client, width, price, room, choice):
    """Take the steps above the price, then those at it that fit; returns the room left."""
    for j in range(slope.size):
        if slope[j] > price:
            choice[client[j]] = width[j]
            room -= cost[j]
    stuck = -1
    for j in range(slope.size):
        if slope[j] == price and client[j] != stuck:
            if cost[j] <= room:
                choice[client[j]] = width[j]
                room -= cost[j]
            else:
                stuck = client[j]
    return room


@kernel
def cost_of(costs, choice):
    """Sum of the chosen costs."""
    total = 0
    for i in range(choice.size):
        total += costs[i, choice[i]]
    return total


@kernel
def worth(utilities, choice):
    """Sum of the chosen utilities, compensated (Neumaier, 1974), and of their absolute values."""
    total, lost, size = 0.0, 0.0, 0.0
    for i in range(choice.size):
        value = utilities[i, choice[i]]
        size += abs(value)
        larger = total + value
        if abs(total) >= abs(value):
            lost += (total - larger) + value
        else:
            lost += (value - larger) + total
        total = larger
    return total + lost, size
