"""Meet in the middle: two lists of combinations, and the best pair of them within all limits.

Each list holds the combinations of one half of the clients that lose least; a pair of one entry
each is a whole allocation. One list is sorted into a k-d tree, so that whole branches of it are
left out for an entry of the other one: what they take breaks a limit, or leaves so much of one
that the pair loses too much (Horowitz and Sahni, Computing partitions with applications to the
knapsack problem, Journal of the ACM 21, 1974; Bentley, Multidimensional binary search trees used
for associative searching, Communications of the ACM 18, 1975).
"""

from __future__ import annotations

import heapq
from typing import NamedTuple

import numpy as np

from hasa_opt._utils.checks import BoolArray, FloatArray, IntArray
from hasa_opt.solvers.exact.kernels import helper, kernel

__all__ = ["Listed", "Moves", "least_lossy", "met"]

_LEAF = 8
"""Entries from which on a branch of the tree is not divided any more."""
_DEEPEST = 64
"""More than the branches that can wait at once: one for each level of the tree."""


class Moves(NamedTuple):
    """Options of some clients, relative to the best one of each.

    Attributes
    ----------
    first : (n_clients + 1,) int64
        Where each client's options begin; clients of a good second option come first.
    regret : (n_options,) float64
        Increasing within each client; the first is 0.
    table : (n_options, n_limits) int64
        What each takes of every limit beyond the client's first.
    """

    first: IntArray
    regret: FloatArray
    table: IntArray


class Listed(NamedTuple):
    """Combinations of the options of some clients, the least lossy first.

    Attributes
    ----------
    before : (n_listed,) int32
        Combination that each differs from by one option; -1 for the first, all clients' best.
    option : (n_listed,) int32
        That option.
    loss : (n_listed,) float64
        Sum of regrets.
    taken : (n_listed, n_limits) int64
        What each takes of every limit.
    rest : float
        What is not listed loses no less; infinity if all is listed below the ceiling.
    """

    before: IntArray
    option: IntArray
    loss: FloatArray
    taken: IntArray
    rest: float


@kernel
def _list(first, regret, table, size, ceiling, halt):
    """Smallest sums of one option each: every combination has one predecessor that loses less.

    The successors of a combination whose last client takes option j: j + 1 there; option 1 of the
    next client as well; and, if j is 1, that in its place.
    """
    n_clients, n_limits = first.size - 1, table.shape[1]
    before = np.full(size, -1, dtype=np.int32)
    option = np.full(size, -1, dtype=np.int32)
    loss = np.zeros(size)
    taken = np.zeros((size, n_limits), dtype=np.int64)
    heap = [(0.0, 0, 0, 0)]
    heap.pop()
    if n_clients > 0:
        heap.append((regret[first[0] + 1], 0, 0, first[0] + 1))
    count, rest = 1, np.inf
    while len(heap) > 0:
        if count == size or halt[0]:
            rest = heap[0][0]
            break
        key, base, client, at = heapq.heappop(heap)
        if key >= ceiling:
            break
        before[count], option[count], loss[count] = base, at, key
        for limit in range(n_limits):
            taken[count, limit] = taken[base, limit] + table[at, limit]
        if at + 1 < first[client + 1]:
            heapq.heappush(heap, (key + regret[at + 1] - regret[at], base, client, at + 1))
        if client + 1 < n_clients:
            following = first[client + 1] + 1
            heapq.heappush(heap, (key + regret[following], count, client + 1, following))
            if at == first[client] + 1:
                swapped = key - regret[at] + regret[following]
                heapq.heappush(heap, (swapped, base, client + 1, following))
        count += 1
    return before[:count], option[:count], loss[:count], taken[:count], rest


@helper
def _halve(own, keys, middle):
    """Move the entries of smaller keys to the front of the middle (Hoare's selection)."""
    low, high = 0, own.size - 1
    while low < high:
        pivot = keys[own[(low + high) // 2]]
        left, right = low, high
        while left <= right:
            while keys[own[left]] < pivot:
                left += 1
            while keys[own[right]] > pivot:
                right -= 1
            if left <= right:
                own[left], own[right] = own[right], own[left]
                left += 1
                right -= 1
        if right < middle < left:
            break
        if middle <= right:
            high = right
        else:
            low = left


@kernel
def _divide(loss, taken, price, halt):
    """Order of a list as a k-d tree, and of each branch its range, box and least loss."""
    size, n_limits = taken.shape
    order = np.arange(size)
    n_branches = 1
    while size > _LEAF * (n_branches + 1) // 2:
        n_branches = 2 * n_branches + 1
    start = np.zeros(n_branches + 1, dtype=np.int64)
    stop = np.full(n_branches + 1, size)
    low = np.zeros((n_branches, n_limits), dtype=np.int64)
    high = np.zeros((n_branches, n_limits), dtype=np.int64)
    least = np.full(n_branches, np.inf)
    for branch in range(n_branches):
        if halt[0]:
            break
        own = order[start[branch] : stop[branch]]
        widest, spread = 0, -1.0
        for limit in range(n_limits):
            low[branch, limit] = high[branch, limit] = taken[own[0], limit]
            for at in own:
                low[branch, limit] = min(low[branch, limit], taken[at, limit])
                high[branch, limit] = max(high[branch, limit], taken[at, limit])
            cost = price[limit] * (high[branch, limit] - low[branch, limit])
            if cost > spread:
                widest, spread = limit, cost
        for at in own:
            least[branch] = min(least[branch], loss[at])
        child = 2 * branch + 1
        if child < n_branches:
            middle = (start[branch] + stop[branch]) // 2
            _halve(own, taken[:, widest], middle - start[branch])
            start[child], stop[child] = start[branch], middle
            start[child + 1], stop[child + 1] = middle, stop[branch]
    return order, start, stop, low, high, least


@kernel
def _match(loss, taken, others, others_taken, tree, room, price, ceiling, halt):
    """The pair within the room that loses least below the ceiling: its entries, or -1."""
    start, stop, low, high, least = tree
    best, first, second = ceiling, -1, -1
    waiting = np.empty(_DEEPEST, dtype=np.int64)
    left = np.empty_like(room)
    for entry in range(loss.size):
        if loss[entry] + least[0] >= best or halt[0]:
            break
        for limit in range(room.size):
            left[limit] = room[limit] - taken[entry, limit]
        waiting[0], n_waiting = 0, 1
        while n_waiting > 0:
            n_waiting -= 1
            branch = waiting[n_waiting]
            total = loss[entry] + least[branch]
            for limit in range(room.size):
                if left[limit] < low[branch, limit]:
                    total = np.inf
                else:
                    total += price[limit] * max(left[limit] - high[branch, limit], 0)
                if total >= best:
                    break
            if total >= best:
                continue
            child = 2 * branch + 1
            if child < least.size:
                waiting[n_waiting], waiting[n_waiting + 1] = child, child + 1
                n_waiting += 2
                continue
            for at in range(start[branch], stop[branch]):
                total = loss[entry] + others[at]
                for limit in range(room.size):
                    unused = left[limit] - others_taken[at, limit]
                    total = total + price[limit] * unused if unused >= 0 else np.inf
                    if total >= best:
                        break
                if total < best:
                    best, first, second = total, entry, at
    return first, second


def least_lossy(moves: Moves, size: int, ceiling: float, halt: BoolArray) -> Listed:
    """List so many combinations that lose least, each less than the ceiling."""
    return Listed(*_list(*moves, size, ceiling, halt))


def met(
    one: Listed, two: Listed, room: IntArray, price: FloatArray, ceiling: float, halt: BoolArray
) -> tuple[int, int]:
    """Pair of two lists that loses least, the price of what it leaves included: its entries.

    Parameters
    ----------
    one, two : Listed
    room : (n_limits,) int64
        What the pair may take.
    price : (n_limits,) float64
        Loss per unit that is left.
    ceiling : float
        Only pairs that lose less are looked for.
    halt : (1,) bool
        Set by another thread to end with what is found.

    Returns
    -------
    one, two : int
        -1 if there is none.
    """
    order, *tree = _divide(two.loss, two.taken, price, halt)
    others = two.loss[order], two.taken[order]
    first, second = _match(one.loss, one.taken, *others, tuple(tree), room, price, ceiling, halt)
    return first, int(order[second]) if second >= 0 else -1
