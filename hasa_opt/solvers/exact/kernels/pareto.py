"""Dynamic programming over Pareto lists of (slack, regret) states, class after class.

A state is dominated by one of at least its slack and at most its loss (regret plus price times
slack). It is dropped if even the best rates of the classes to come leave it no better than the
incumbent. Where a list exceeds its cap the least promising states are dropped, and the least loss
that they could have led to is kept: the result is a bound all the same (after Pisinger, 1995, and
Kellerer, Pferschy and Pisinger, 2004, chapter 11).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from hasa_opt._utils.checks import FloatArray, IntArray
from hasa_opt.solvers.exact.kernels import helper, interpreting, kernel
from hasa_opt.solvers.exact.kernels.core import Core

__all__ = ["Search"]

_CHUNK, _SHORT_CHUNK = 2_000_000, 10_000
"""States between two looks at the clock: some milliseconds of compiled, or interpreted, code."""
_NONE = -1
"""No node."""
_FREE = 1e-9
"""Moves that lose less than this, in units of the price, are taken to be free."""
# Entries of Search._whole: next class, its copies done, row and length of the list, nodes used,
# node of the incumbent, lowest and highest slack at the entry of the class.
_CLASS, _COPY, _ROW, _LENGTH, _USED, _BEST, _LOWEST, _HIGHEST = range(8)
# Entries of Search._real: loss of the incumbent, least loss that was dropped.
_LOSS, _DROPPED = range(2)


class _Lists(NamedTuple):
    """Three lists of states by decreasing slack, ``(3, size)``: current, next, spare."""

    slack: IntArray
    regret: FloatArray
    node: IntArray


class Search:
    """One run over the classes of a core, advanced in chunks so that it can be stopped.

    Parameters
    ----------
    core : Core
    price : float
        Multiplier of the budget.
    slack : int
        Budget that the base allocation leaves.
    loss : float
        Loss of the incumbent; only better allocations are looked for.
    precision : float
        Improvements of less are not looked for.
    rounding : float
        Two losses that differ by less are equal when states are compared.
    cap : int
        Longest list of states.
    n_classes : int
        Classes to look at; the rest enters by its rates.
    toll : int
        Part of the costs that stands for a second limit, larger than all others together; 0 if
        there is none. Where states are dropped those within one toll are kept.
    """

    def __init__(
        self,
        core: Core,
        price: float,
        slack: int,
        loss: float,
        *,
        precision: float,
        rounding: float,
        cap: int,
        n_classes: int,
        toll: int = 0,
    ) -> None:
        self._core = core
        self._price = price
        self._copies = _copies(core.first, core.start, core.cost, core.regret, price, slack, loss)
        self._limits = np.array([precision, rounding])
        self._cap = cap
        self._toll = toll
        self._n_classes = min(n_classes, core.first.size - 1)
        size = 2 * cap + 2
        self._lists = _Lists(
            np.empty((3, size), np.int64), np.empty((3, size)), np.empty((3, size), np.int32)
        )
        self._nodes = np.empty((1 << 12, 2), np.int32)
        self._whole = np.array([0, 0, 0, 1, 0, _NONE, 0, 0])
        self._real = np.array([loss, np.inf])
        for column, value in zip(self._lists, (slack, 0.0, _NONE), strict=True):
            column[0, 0] = value

    @property
    def loss(self) -> float:
        """Loss of the incumbent."""
        return float(self._real[_LOSS])

    @property
    def improved(self) -> bool:
        """True if a better allocation than the first incumbent was found."""
        return bool(self._whole[_BEST] != _NONE)

    @property
    def bound(self) -> float:
        """No allocation has a smaller loss."""
        core, at = self._core, self._whole[_CLASS]
        row, length = self._whole[_ROW], self._whole[_LENGTH]
        slack, regret = self._lists.slack[row, :length], self._lists.regret[row, :length]
        short = slack < 0
        narrowed = regret[short] - slack[short] * core.down[at]
        filled = regret[~short] + slack[~short] * min(self._price, core.up[at])
        open_states = np.concatenate([narrowed, filled]).min(initial=np.inf)
        pruned = self._real[_LOSS] - self._limits[0]
        return float(min(pruned, self._real[_DROPPED], open_states))

    def advance(self) -> bool:
        """Work through some more classes; True while there are any."""
        core, chunk = self._core, _SHORT_CHUNK if interpreting() else _CHUNK
        needed = _advance(
            core.first, core.cost, core.regret, core.up, core.down, self._copies,
            self._price, self._limits, self._cap, self._toll, self._n_classes,
            *self._lists, self._nodes, self._whole, self._real, chunk,
        )  # fmt: skip
        if needed:
            self.make_room(needed)
        return bool(self._whole[_CLASS] < self._n_classes)

    def moves(self) -> list[int]:
        """Moves that lead from the base allocation to the incumbent."""
        found = []
        node = int(self._whole[_BEST])
        while node != _NONE:
            found.append(int(self._nodes[node, 1]))
            node = int(self._nodes[node, 0])
        return found

    def make_room(self, needed: int) -> None:
        """Forget the nodes that lead to no state; enlarge the table if that is not enough."""
        _forget(self._nodes, self._lists.node, self._whole)
        size = self._nodes.shape[0]
        while size < 2 * (self._whole[_USED] + needed):
            size *= 2
        if size > self._nodes.shape[0]:
            larger = np.empty((size, 2), np.int32)
            larger[: self._whole[_USED]] = self._nodes[: self._whole[_USED]]
            self._nodes = larger


@kernel
def _advance(
    first, cost, regret, up, down, copies, price, limits, cap, toll, n_classes,
    slacks, regrets, links, nodes, whole, real, chunk,
):  # fmt: skip
    """Merge class after class into the list; returns the nodes needed if the table is full."""
    work = 0
    reach = np.int64(0)
    for value in cost:
        reach = max(reach, _distance(value, toll))
    while whole[_CLASS] < n_classes and work < chunk:
        c = whole[_CLASS]
        row, length = whole[_ROW], whole[_LENGTH]
        if length == 0:
            whole[_CLASS] = n_classes
            break
        needed = length * (first[c + 1] - first[c])
        if whole[_USED] + needed > nodes.shape[0]:
            return needed
        if whole[_COPY] == 0:
            whole[_HIGHEST], whole[_LOWEST] = slacks[row, 0], slacks[row, length - 1]
        last = whole[_COPY] == copies[c] - 1
        after = c + 1 if last else c
        low, high = -np.inf, np.inf
        if not last:
            low, high = _window(c, first, cost, up, down, price, whole, real[_LOSS])
        other, spare = (row + 1) % 3, (row + 2) % 3
        before = whole[_USED]
        out, size = row, length
        for move in range(first[c], first[c + 1]):
            if regret[move] >= real[_LOSS] - limits[0]:
                continue
            size = _merge(
                slacks[out], regrets[out], links[out], size,
                slacks[row], regrets[row], links[row], length,
                cost[move], regret[move], move,
                slacks[other], regrets[other], links[other],
                price, up[after], down[after], low, high, limits, nodes, whole, real,
            )  # fmt: skip
            work += size + length
            out = other
            other, spare = spare, other
            if size > cap:
                size = _cut(
                    slacks[out], regrets[out], links[out], size, cap, reach, toll,
                    price, up[after], down[after], real,
                )  # fmt: skip
        whole[_ROW], whole[_LENGTH] = out, size
        work += 10
        if last or whole[_USED] == before:
            whole[_CLASS] += 1
            whole[_COPY] = 0
        else:
            whole[_COPY] += 1
    return 0


@kernel
def _copies(first, start, cost, regret, price, slack, loss):
    """Members of each class that some best allocation can do with.

    A move of positive regret is made ``loss / regret`` times at most. Free moves (of hardly any
    regret) are many where clients are identical. They need no subset that sums to zero: ordered
    so that their sums run between 0 and their total, overshooting by one move at most, they
    repeat none of these sums (Steinitz, 1913), which bounds their number. Their total is bounded
    since the other moves and the final slack are.
    """
    divisor, widest, least = np.int64(0), np.int64(0), np.inf
    free = _FREE * price
    for move in range(cost.size):
        size = abs(cost[move])
        rate = regret[move] / np.float64(size)
        if rate <= free:
            divisor, widest = np.gcd(divisor, size), max(widest, size)
        else:
            least = min(least, rate)
    reach = abs(np.float64(slack)) + loss / least + loss / price + 2.0 * np.float64(widest)
    copies = np.empty(first.size - 1, np.int64)
    for c in range(copies.size):
        needed = 0.0
        for move in range(first[c], first[c + 1]):
            if regret[move] <= free * abs(np.float64(cost[move])):
                needed += reach / np.float64(divisor) + 2.0
            else:
                needed += loss / regret[move] + 1.0
        members = start[c + 1] - start[c]
        copies[c] = members if needed >= members else np.int64(needed)
    return copies


@helper
def _window(c, first, cost, up, down, price, whole, loss):
    """Range of slack that the copies of one class need on the way.

    Copies are interchangeable: their moves can be taken in an order that narrows while there is
    slack and widens while there is none, for as long as both kinds are left. So no state on the
    way lies outside the slack at entry, the slack that can be mended after the class, and zero,
    by more than one move.
    """
    widest, narrowest = np.int64(0), np.int64(0)
    for move in range(first[c], first[c + 1]):
        widest, narrowest = max(widest, cost[move]), min(narrowest, cost[move])
    low = -max(np.float64(widest), loss / down[c + 1])
    high = max(np.float64(-narrowest), loss / min(price, up[c + 1]))
    return min(np.float64(whole[_LOWEST]), low), max(np.float64(whole[_HIGHEST]), high)


@helper
def _least_loss(slack, regret, price, up, down):
    """Least loss that a state can lead to, by the best rates of the classes to come."""
    if slack >= 0:
        return regret + np.float64(slack) * min(price, up)
    return regret - np.float64(slack) * down


@helper
def _merge(
    a_slack, a_regret, a_link, a_size, b_slack, b_regret, b_link, b_size,
    cost, regret, move, slacks, regrets, links,
    price, up, down, low, high, limits, nodes, whole, real,
):  # fmt: skip
    """Merge list a with list b after a move into a third list, without dominated states."""
    i, j, count = 0, 0, 0
    used = whole[_USED]
    least = np.inf
    limit = real[_LOSS] - limits[0]
    while i < a_size or j < b_size:
        moved = i == a_size
        if i < a_size and j < b_size:
            shifted = b_slack[j] - cost
            moved = shifted > a_slack[i] or (
                shifted == a_slack[i] and b_regret[j] + regret < a_regret[i]
            )
        if moved:
            slack, total, link = b_slack[j] - cost, b_regret[j] + regret, b_link[j]
            j += 1
        else:
            slack, total, link = a_slack[i], a_regret[i], a_link[i]
            i += 1
        loss = total + price * np.float64(slack)
        if loss >= least - limits[1] or slack < low or slack > high:
            continue
        least = loss
        if _least_loss(slack, total, price, up, down) >= limit:
            continue
        if moved:
            nodes[used, 0], nodes[used, 1] = link, move
            link = used
            used += 1
        slacks[count], regrets[count], links[count] = slack, total, link
        count += 1
        if slack >= 0 and loss < real[_LOSS]:
            real[_LOSS], whole[_BEST] = loss, link
            limit = loss - limits[0]
    whole[_USED] = used
    return count


@helper
def _smallest(values, rank):
    """Value of a rank, from 0, by quickselect; reorders the values."""
    first, last = 0, values.size - 1
    while first < last:
        a, b, c = values[first], values[(first + last) // 2], values[last]
        pivot = max(min(a, b), min(max(a, b), c))
        low, high = first, last
        while low <= high:
            while values[low] < pivot:
                low += 1
            while values[high] > pivot:
                high -= 1
            if low <= high:
                values[low], values[high] = values[high], values[low]
                low += 1
                high -= 1
        if rank <= high:
            last = high
        elif rank >= low:
            first = low
        else:
            break
    return values[rank]


@helper
def _distance(slack, toll):
    """Distance from zero, or from one toll to either side, whatever is nearest."""
    size = abs(slack)
    return min(size, abs(size - toll))


@helper
def _cut(slacks, regrets, links, size, cap, reach, toll, price, up, down, real):
    """Cut a list to its cap; note the least loss that the dropped states could have led to.

    Up to half of the places go to the most promising states, the others to a sample of the rest
    that is even along the list: where many states promise the same, variety of slack counts.
    """
    losses = np.empty(size)
    for i in range(size):
        losses[i] = _least_loss(slacks[i], regrets[i], price, up, down)
    level = _smallest(losses.copy(), cap // 2)
    better, others = np.int64(0), np.int64(0)
    for i in range(size):
        if losses[i] < level:
            better += 1
        elif _distance(slacks[i], toll) <= reach:
            others += 1
    places = min(cap - better, others)
    count, seen = 0, 0
    for i in range(size):
        if losses[i] >= level:
            near = _distance(slacks[i], toll) <= reach
            seen += near
            if not near or seen * places // others == (seen - 1) * places // others:
                real[_DROPPED] = min(real[_DROPPED], losses[i])
                continue
        slacks[count], regrets[count], links[count] = slacks[i], regrets[i], links[i]
        count += 1
    return count


@kernel
def _forget(nodes, links, whole):
    """Compact the nodes that lead to a state of the list or to the incumbent."""
    row, length, used = whole[_ROW], whole[_LENGTH], whole[_USED]
    place = np.full(used + 1, _NONE, np.int32)
    for i in range(length):
        place[links[row, i]] = 0
    place[whole[_BEST]] = 0
    for node in range(used - 1, -1, -1):
        if place[node] == 0:
            place[nodes[node, 0]] = 0
    place[used] = _NONE
    count = 0
    for node in range(used):
        if place[node] == 0:
            parent = nodes[node, 0]
            nodes[count, 0] = place[parent]
            nodes[count, 1] = nodes[node, 1]
            place[node] = count
            count += 1
    for i in range(length):
        links[row, i] = place[links[row, i]]
    whole[_BEST] = place[whole[_BEST]]
    whole[_USED] = count
