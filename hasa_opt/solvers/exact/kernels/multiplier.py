"""The linear relaxation in linear time: the multiplier of the budget and a base allocation.

The steps of all upper concave hulls, taken best slope first, fill the budget; the slope at which
they do so is the multiplier. It is found by partitioning, not by sorting (Dyer, 1984, and Zemel,
1984, for the multiple-choice knapsack). Of many clients only those are looked at whose choice
changes within an interval of multipliers that a sample has given (after Floyd and Rivest's
selection, 1975): a few operations per width for all the others, and two comparisons where an
earlier relaxation of the same tables has found out between which multipliers a choice is best.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from hasa_opt._utils.checks import FloatArray, IntArray
from hasa_opt._utils.deadline import UNLIMITED, Deadline
from hasa_opt.solvers.exact.kernels import in_threads, kernel
from hasa_opt.solvers.exact.kernels.steps import Known, nothing, scan, steps_within

__all__ = ["Base", "Start", "Table", "bracket", "cost_of", "lattice", "relax", "worth"]

_SAMPLE_FROM = 5_000
"""Clients from which on the multiplier is first bracketed by a sample: below, a scan is as fast."""
_SAMPLE, _SAMPLE_WITH_START = 4.0, 1.0
"""Size of the sample, in units of n^(2/3): that balances the sample and what it leaves open."""
_DEVIATIONS = 4.0
"""Standard deviations on either side of the estimate: one interval in 16,000 misses."""
_MARGIN = 1e-9
"""Relative widening of the interval, for the rounding of its ends."""
_NEAREST = 400
"""Steps nearest to the price that what is left is spent on."""
_BLOCK = 1 << 17
"""Clients between two looks at the clock: some milliseconds of compiled code."""


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
    known : Known, optional
        Of the choice and the same tables; will be brought up to date in place.
    """

    choice: IntArray
    spent: int
    known: Known | None = None


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
    known : Known
        Of the choice.
    """

    price: float
    choice: IntArray
    slack: int
    near: IntArray
    known: Known


class _Steps(NamedTuple):
    """Hull steps within an interval of multipliers, each client's in order."""

    slope: FloatArray
    cost: IntArray
    client: IntArray
    width: IntArray
    spent: int


class _Scan(NamedTuple):
    """All clients at the high end of an interval of multipliers.

    Attributes
    ----------
    choice : (n_clients,) int64
    known : Known
        As of :class:`Base`.
    steps : _Steps
        Within the interval; not taken.
    most : int
        What all spend at the low end.
    """

    choice: IntArray
    known: Known
    steps: _Steps
    most: int


def relax(
    table: Table,
    limit: int,
    start: Start | None = None,
    deadline: Deadline = UNLIMITED,
    threads: int = 1,
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
    threads : int
        In how many the clients are looked through, which changes nothing in what is found.

    Raises
    ------
    OutOfTime
        If the deadline passes first.
    """
    if table.costs.shape[0] >= _SAMPLE_FROM:
        for widening in (1.0, 8.0):
            ends = _interval(table, limit, widening, start)
            seen = _scanned(table, *ends, start, deadline, threads)
            if seen.steps.spent <= limit < seen.most:
                return _filled(seen, limit)
            # None of these steps is taken: the price must be above them for the choice to be best.
            np.maximum.at(seen.known.lowest, seen.steps.client, seen.steps.slope)
            start = Start(seen.choice, seen.steps.spent, seen.known)
    return _filled(_scanned(table, 0.0, np.inf, None, deadline, threads), limit)


def _interval(
    table: Table, limit: int, widening: float, start: Start | None
) -> tuple[float, float]:
    """Interval that holds the multiplier, most likely, from a sample of the clients.

    With a start only the difference to it is estimated from the sample, which varies less.
    """
    n_clients = table.costs.shape[0]
    size = int((_SAMPLE if start is None else _SAMPLE_WITH_START) * n_clients ** (2 / 3))
    rows = np.sort(np.random.default_rng(n_clients).integers(0, n_clients, size))
    part = Table(*(_frozen(column.take(rows, axis=0)) for column in table))
    known = 0 if start is None else table.costs[rows, start.choice[rows]]
    target = (limit - (0 if start is None else start.spent)) / n_clients * size + np.sum(known)
    return bracket(part, target, widening, known)


def bracket(
    part: Table, target: float, widening: float, known: IntArray | int = 0
) -> tuple[float, float]:
    """Interval of multipliers that holds that of all clients, most likely, from a sample of them.

    Parameters
    ----------
    part : Table
        The sample.
    target : float
        What it may spend: its share of the budget.
    widening : float
        How many times as wide the interval is as the sample asks for.
    known : (n_sample,) int64 or 0
        A cost of each client that is subtracted, to lower the variance.
    """
    size = part.costs.shape[0]
    choice = np.empty(size, dtype=np.int64)
    steps = _Steps(*steps_within(*part, np.arange(size), 0.0, np.inf, choice))
    parted = steps.slope.copy(), steps.cost.copy()
    price = _critical(*parted, int(target) - steps.spent)
    _take(*steps[:4], price, int(target) - steps.spent, choice, np.zeros(size), np.zeros(size))
    spread = float((part.costs[np.arange(size), choice] - known).std()) * size**0.5
    # A start that is best leaves no spread: one step on either side.
    reach = widening * max(_DEVIATIONS * spread, float(steps.cost.max(initial=1)))
    low = _critical(*parted, int(target + reach) - steps.spent)
    least = int(target - reach) - steps.spent
    high = _critical(*parted, least) if least >= 0 else np.inf
    return low * (1 - _MARGIN), high * (1 + _MARGIN)


def _scanned(
    table: Table, low: float, high: float, start: Start | None, deadline: Deadline, threads: int
) -> _Scan:
    """Scan all clients, by blocks."""
    n_clients = table.costs.shape[0]
    choice = np.full(n_clients, -1) if start is None else start.choice.copy()
    known = nothing(n_clients) if start is None or start.known is None else start.known

    def block(first: int) -> tuple[Any, ...]:
        deadline.check()
        own = slice(first, first + _BLOCK)
        columns = (column[own] for column in (*table, choice, *known))
        slope, cost, client, width, *spent = scan(*columns, low, high)
        return slope, cost, client + first, width, *spent

    found = in_threads(block, range(0, n_clients, _BLOCK), threads)
    *columns, spent, most = zip(*found, strict=True)
    before = 0 if start is None else start.spent
    slope, cost, client, width = map(np.concatenate, columns)
    steps = _Steps(slope, cost, client, width, before + sum(spent))
    return _Scan(choice, known, steps, before + sum(most))


def _filled(seen: _Scan, limit: int) -> Base:
    """Take the steps that fit."""
    slope, cost, client, width, spent = seen.steps
    room = limit - spent
    price = _critical(slope.copy(), cost.copy(), room)
    lowest, highest, _ = seen.known
    slack = int(_take(slope, cost, client, width, price, room, seen.choice, lowest, highest))
    if client.size > _NEAREST:
        client = client[np.argpartition(np.abs(slope - price), _NEAREST)[:_NEAREST]]
    client = np.sort(client)
    near = client[np.diff(client, prepend=-1) > 0]
    return Base(price, seen.choice, slack, near, seen.known)


def _frozen(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    array.flags.writeable = False
    return array


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
def _take(slope, cost, client, width, price, room, choice, lowest, highest):
    """Take the steps above the price, then those at it that fit; returns the room left.

    Writes between which prices the choice is best.
    """
    for j in range(slope.size):
        i = client[j]
        if slope[j] > price:
            choice[i], highest[i] = width[j], slope[j]
            room -= cost[j]
        else:
            lowest[i] = max(lowest[i], slope[j])
    stuck = -1
    for j in range(slope.size):
        i = client[j]
        if slope[j] == price and i != stuck:
            if cost[j] <= room:
                choice[i], highest[i] = width[j], price
                room -= cost[j]
            else:
                stuck = i
    return room


@kernel
def cost_of(costs, choice):
    """Sum of the chosen costs."""
    total = 0
    for i in range(choice.size):
        total += costs[i, choice[i]]
    return total


def worth(utilities: FloatArray, choice: IntArray) -> tuple[float, float]:
    """Sum of the chosen utilities, compensated (Neumaier, 1974), and of their absolute values."""
    total, size = _worth(utilities, _frozen(choice.view()))
    return float(total), float(size)


@kernel
def _worth(utilities, choice):
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


@kernel
def lattice(utilities, admissible, least):
    """Greatest number that divides all utilities, such as 1 for integers; 0 if below ``least``.

    By Euclid's algorithm, which is exact in floating point; so 0 comes early where there is none.
    """
    unit = 0.0
    for i in range(utilities.shape[0]):
        for k in range(utilities.shape[1]):
            value = abs(utilities[i, k])
            if admissible[i, k] and value > 0.0 and value != np.rint(value / unit) * unit:
                unit, rest = value, unit
                while rest > 0.0:
                    unit, rest = rest, unit % rest
                if unit < least:
                    return 0.0
    return unit
