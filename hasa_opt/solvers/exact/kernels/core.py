"""The core: what is left to decide once every width of too much regret is fixed.

A width's regret is what it loses against its client's base choice at the multiplier. The gap of
any allocation is the sum of its regrets plus multiplier times slack, all of them non-negative: a
width whose regret reaches the gap of an allocation in hand is in no better one (Pisinger, 1995;
Kellerer, Pferschy and Pisinger, Knapsack Problems, 2004, chapter 11). Clients that are left with
the same moves form one class.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from hasa_opt._utils.checks import FloatArray, IntArray
from hasa_opt.solvers.exact.kernels import helper, kernel
from hasa_opt.solvers.exact.kernels.multiplier import Base, Table

__all__ = ["Core", "collect", "moved"]

_ROUNDING = 2.0**-50
"""Relative difference of utilities that may be rounding: four times that of a float."""


class Core(NamedTuple):
    """Classes of clients with the same moves away from their base choice, lowest rate first.

    Attributes
    ----------
    first : (n_classes + 1,) int64
        Moves of class ``c`` are ``first[c]`` to ``first[c + 1]``.
    width : (n_moves,) int64
        Where a move leads; classes are of one menu, so it holds for all members.
    cost : (n_moves,) int64
        Additional cost of a move; negative for a narrower width, never 0.
    regret : (n_moves,) float64
        At least 0.
    up, down : (n_classes + 1,) float64
        Least regret per unit of cost of a wider (narrower) move in this or a later class;
        infinity if there is none.
    start : (n_classes + 1,) int64
        Members of class ``c`` are ``member[start[c]]`` to ``member[start[c + 1]]``.
    member : (n_members,) int64
        Clients.
    """

    first: IntArray
    width: IntArray
    cost: IntArray
    regret: FloatArray
    up: FloatArray
    down: FloatArray
    start: IntArray
    member: IntArray

    @property
    def divisor(self) -> int:
        """Greatest common divisor of the costs of all moves; 0 without moves."""
        return int(np.gcd.reduce(self.cost))


def collect(
    table: Table, base: Base, rows: IntArray, gap: float, charges: IntArray | None = None
) -> tuple[Core, float]:
    """Core of some clients: the moves whose regret is below the gap.

    Parameters
    ----------
    table : Table
    base : Base
    rows : (n_rows,) int64
        The clients.
    gap : float
    charges : (n_widths,) int64, optional
        What each width costs beside the budget, added to the costs of the moves.

    Returns
    -------
    core : Core
    excess : float
        By how much the best net utilities exceed those of the base choice, summed, if by more
        than rounding: the base is not optimal at the price, and the bound must allow for it.
    """
    capacity = min(rows.size * table.costs.shape[1], 1 << 18)
    added = np.zeros(table.costs.shape[1], dtype=np.int64) if charges is None else charges
    while True:
        client, stop, width, cost, regret, key, needed, excess = _moves(
            *table, base.choice, rows, base.price, gap, added, capacity
        )
        if needed <= capacity:
            break
        capacity = needed
    label, model = _classes(stop, width, cost, regret, key)
    rate = _rates(model, stop, cost, regret)
    # Among equal rates a random order: narrowing and widening moves alternate.
    mixed = _shuffled(rate.size)
    order = mixed[np.argsort(rate[mixed], kind="stable")]
    return Core(*_arrange(order, model, label, client, stop, width, cost, regret)), excess


def moved(choice: IntArray, core: Core, moves: list[int]) -> IntArray:
    """Allocation after some moves of a core; each takes another member of its class."""
    moved = choice.copy()
    used: dict[int, int] = {}
    for move in moves:
        label = int(np.searchsorted(core.first, move, side="right")) - 1
        used[label] = used.get(label, 0) + 1
        moved[core.member[core.start[label + 1] - used[label]]] = core.width[move]
    return moved


@kernel
def _moves(costs, utilities, admissible, choice, rows, price, gap, charges, capacity):
    """Moves of regret below the gap, client after client, with a hash of each client's moves."""
    client, stop = np.empty(capacity, np.int64), np.empty(capacity, np.int64)
    width, key = np.empty(capacity, np.int64), np.empty(capacity, np.uint64)
    cost, regret = np.empty(capacity, np.int64), np.empty(capacity, np.float64)
    bits = regret.view(np.uint64)
    n_widths = costs.shape[1]
    n_core, count = 0, 0
    excess = 0.0
    for i in rows:
        kept = choice[i]
        worth, spent = utilities[i, kept], costs[i, kept]
        before, least = count, 0.0
        code = np.uint64(14695981039346656037)
        for k in range(n_widths):
            if admissible[i, k]:
                extra = costs[i, k] - spent
                gain = utilities[i, k] - worth
                loss = price * np.float64(extra) - gain
                if loss < gap and k != kept:
                    if loss < -_ROUNDING * abs(gain):
                        least = min(least, loss)
                    charge = charges[k] - charges[kept]
                    extra += charge
                    if extra != 0 and (gain > 0.0 or extra < 0 or charge != 0):
                        if count < capacity:
                            width[count], cost[count] = k, extra
                            regret[count] = max(loss, 0.0)
                            code = _mixed(code, np.uint64(k))
                            code = _mixed(code, np.uint64(extra))
                            code = _mixed(code, bits[count])
                        count += 1
        excess -= least
        if count > before:
            if count <= capacity:
                client[n_core], stop[n_core], key[n_core] = i, count, code
            n_core += 1
    n_core = min(n_core, capacity)
    n = min(count, capacity)
    return (
        client[:n_core], stop[:n_core], width[:n], cost[:n], regret[:n], key[:n_core],
        count, excess,
    )  # fmt: skip


@helper
def _mixed(code, value):
    """One round of a 64-bit hash (multiply and shift)."""
    code = (code ^ value) * np.uint64(11400714819323198485)
    return code ^ (code >> np.uint64(29))


@kernel
def _classes(stop, width, cost, regret, key):
    """Class of each client, and the first client of each class, by open addressing."""
    n = stop.size
    size = 64
    while size < 2 * n:
        size *= 2
    slot = np.full(size, -1, np.int64)
    label, model = np.empty(n, np.int64), np.empty(n, np.int64)
    count = 0
    for i in range(n):
        at = np.int64(key[i] & np.uint64(size - 1))
        while slot[at] >= 0 and not _same(i, model[slot[at]], stop, width, cost, regret):
            at = (at + 1) & (size - 1)
        if slot[at] < 0:
            slot[at] = count
            model[count] = i
            count += 1
        label[i] = slot[at]
    return label, model[:count]


@helper
def _same(i, j, stop, width, cost, regret):
    """True if two clients have the same moves."""
    a = stop[i - 1] if i > 0 else 0
    b = stop[j - 1] if j > 0 else 0
    if stop[i] - a != stop[j] - b:
        return False
    for t in range(stop[i] - a):
        if width[a + t] != width[b + t] or cost[a + t] != cost[b + t]:
            return False
        if regret[a + t] != regret[b + t]:
            return False
    return True


@kernel
def _rates(model, stop, cost, regret):
    """Least regret per unit of cost of each class."""
    rate = np.empty(model.size, np.float64)
    for c in range(model.size):
        i = model[c]
        rate[c] = np.inf
        for t in range(stop[i - 1] if i > 0 else 0, stop[i]):
            rate[c] = min(rate[c], regret[t] / abs(np.float64(cost[t])))
    return rate


@kernel
def _shuffled(size):
    """Fixed permutation that looks random (Fisher and Yates' shuffle, xorshift numbers)."""
    order = np.arange(size)
    state = np.uint64(88172645463325252)
    for i in range(size - 1, 0, -1):
        state ^= state << np.uint64(13)
        state ^= state >> np.uint64(7)
        state ^= state << np.uint64(17)
        j = np.int64((state >> np.uint64(1)) % np.uint64(i + 1))
        order[i], order[j] = order[j], order[i]
    return order


@kernel
def _arrange(order, model, label, client, stop, width, cost, regret):
    """Arrays of the core in the given order of its classes."""
    n = order.size
    first, start = np.zeros(n + 1, np.int64), np.zeros(n + 1, np.int64)
    up, down = np.full(n + 1, np.inf), np.full(n + 1, np.inf)
    rank = np.empty(n, np.int64)
    for c in range(n):
        i = model[order[c]]
        rank[order[c]] = c
        first[c + 1] = first[c] + stop[i] - (stop[i - 1] if i > 0 else 0)
    new_width, new_cost = np.empty(first[n], np.int64), np.empty(first[n], np.int64)
    new_regret = np.empty(first[n], np.float64)
    for c in range(n - 1, -1, -1):
        origin = stop[model[order[c]]] - first[c + 1]
        up[c], down[c] = up[c + 1], down[c + 1]
        for t in range(first[c], first[c + 1]):
            new_width[t], new_cost[t] = width[origin + t], cost[origin + t]
            new_regret[t] = regret[origin + t]
            rate = new_regret[t] / abs(np.float64(new_cost[t]))
            if new_cost[t] > 0:
                up[c] = min(up[c], rate)
            else:
                down[c] = min(down[c], rate)
    for i in range(label.size):
        start[rank[label[i]] + 1] += 1
    for c in range(n):
        start[c + 1] += start[c]
    filled = start[:-1].copy()
    member = np.empty(label.size, np.int64)
    for i in range(label.size):
        c = rank[label[i]]
        member[filled[c]] = client[i]
        filled[c] += 1
    return first, new_width, new_cost, new_regret, up, down, start, member
