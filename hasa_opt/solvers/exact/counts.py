"""Strongly correlated utilities: relaxations in which a count is fixed.

Where utility is cost plus a constant of the width, an optimum is about how many constants are
collected, and the linear relaxation is weak because it splits one of them. For a fixed number it is
tight: a second multiplier rewards every unit of the count (Martello and Toth, Upper bounds and
algorithms for hard 0-1 knapsack problems, Operations Research 45, 1997; Pisinger, Where are the
hard knapsack problems?, Computers and Operations Research 32, 2005).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hasa_opt._utils.checks import FloatArray, IntArray
from hasa_opt._utils.deadline import Deadline
from hasa_opt._utils.rational import INT64_ROOM
from hasa_opt.solvers.exact.kernels.core import Core, collect
from hasa_opt.solvers.exact.kernels.multiplier import Base, Table, relax, worth
from hasa_opt.solvers.exact.kernels.steps import nothing

__all__ = ["Counted", "Counter", "constants", "fill", "toll"]


_SAMPLE = 1000
"""Clients from which it is told whether utility is about cost plus a constant."""
_STEPS, _GROWTH, _LARGE = 60, 4.0, 7.0
"""Most cutting planes; growth of the reward until it is bracketed; and the largest reward, relative
to the utilities: a larger one costs more digits than a proof can spare."""
_FINEST, _NOISE = 0.02, 0.1
"""Smallest difference of constants relative to the largest; and how far utilities may be off."""


@dataclass(frozen=True, eq=False)
class Counted:
    """Relaxation of the allocations of one count.

    Attributes
    ----------
    count : int
    weights : (n_widths,) int64
        What each width adds to the count.
    top : float
        None of them is worth more.
    table : Table
        With the reward of the count in the utilities.
    base : Base
        Best at both prices, about; may exceed the budget.
    missing : int
        Units that the base's own count falls short by; 0 wherever that can be had.
    """

    count: int
    weights: IntArray
    top: float
    table: Table
    base: Base
    missing: int


@dataclass(frozen=True, eq=False)
class _Point:
    """Optimum of the relaxation at a reward; its count is a fraction."""

    reward: float
    value: float
    count: float
    base: Base

    def bound(self, count: int) -> float:
        """No allocation of some count is worth more."""
        return self.value - self.reward * count


def constants(table: Table) -> IntArray | None:
    """Weight of each width if utility is about cost times a factor plus weight times a unit.

    The factor is found by regression within the widths; None if what it leaves varies.
    """
    sample = slice(None, None, 1 + table.costs.shape[0] // _SAMPLE)
    table = Table(table.costs[sample], table.utilities[sample], table.admissible[sample])
    n = np.maximum(table.admissible.sum(axis=0), 1)
    cost = np.where(table.admissible, table.costs, 0.0)
    utility = np.where(table.admissible, table.utilities, 0.0)
    spread = np.where(table.admissible, cost - cost.sum(axis=0) / n, 0.0)
    factor = (spread * utility).sum() / max((spread * spread).sum(), 1e-300)
    rest = utility - factor * cost
    level = rest.sum(axis=0) / n
    level -= level.min()
    between = np.diff(np.sort(level))
    unit = between[between > _FINEST * level.max()].min(initial=np.inf)
    weights = np.rint(level / unit)
    off = np.where(table.admissible, rest - rest.sum(axis=0) / n, 0.0)
    if unit == np.inf or max(np.abs(off).mean(), np.abs(level - unit * weights).max()) > (
        _NOISE * unit
    ):
        return None
    return np.asarray(weights, dtype=np.int64)


def toll(table: Table, weights: IntArray) -> int:
    """Cost that, put on a unit of the count, no other widths can pay; 0 if that overflows.

    A multiple of what divides all costs, so that the budget that none can spend is still known.
    """
    least = np.where(table.admissible, table.costs, INT64_ROOM).min(axis=1, keepdims=True)
    extra = np.where(table.admissible, table.costs - least, 0)
    divisor = max(1, int(np.gcd.reduce(extra, axis=None)))
    unit = divisor * (2 * int(extra.max(axis=1).sum()) // divisor + 1)
    return unit if unit * (len(extra) + 1) * (int(weights.max()) + 1) < INT64_ROOM else 0


class Counter:
    """A count of the allocations of a problem, ``sum of weights[choice]``."""

    def __init__(self, table: Table, limit: int, weights: IntArray, deadline: Deadline) -> None:
        self.weights = weights
        self._table = table
        self._limit = limit
        self._deadline = deadline
        self._free = self._point(0.0)
        self._highest = int(weights.max()) * table.costs.shape[0]
        if 2 * self._free.count > self._highest:
            self.weights = weights.max() - weights
            self._free = self._point(0.0)
        # Beyond this a reward costs more digits than a proof can spare.
        self._most = _LARGE * worth(table.utilities, self._free.base.choice)[1]
        self._first = float(np.ptp(table.utilities)) / _GROWTH

    @property
    def middle(self) -> float:
        """Count of the linear relaxation."""
        return self._free.count

    def fixed(self, count: int, floor: float) -> Counted | None:
        """Relaxation of one count; None if none of its allocations is worth more than the floor.

        By cutting planes: the bound is convex and piecewise linear in the reward, each value
        comes with a tangent, and the next reward is where the innermost two meet (Kelley, The
        cutting-plane method for solving convex programs, 1960).
        """
        if not 0 <= count <= self._highest:
            return None
        side = 1.0 if count > self._free.count else -1.0
        most = self._most / max(count, 1)
        near, far = self._free, None
        best, reward = near, side * min(self._first, most)
        for _ in range(_STEPS):
            if near.count == count or not 0 < abs(reward) <= most:
                break
            point = self._point(reward)
            best = min(best, point, key=lambda at: at.bound(count))
            if best.bound(count) <= floor:
                return None
            if (point.count - count) * side < 0:
                near = point
            else:
                far = point
            reward = _GROWTH * reward if far is None else _meeting(near, far)
            if far is not None and not near.reward * side < reward * side < far.reward * side:
                break
        return self._counted(count, best, [best, near, near if far is None else far])

    def _counted(self, count: int, best: _Point, points: list[_Point]) -> Counted:
        """Of optima that tie at the best reward the one of the nearest count becomes the base."""
        table = self._rewarded(best.reward)
        choices = [point.base.choice for point in points]
        missing = [count - int(self.weights[choice].sum()) for choice in choices]
        at = int(np.argmin(np.abs(missing)))
        choice = _changed(table, best.base.price, choices[at], self.weights, missing[at])
        spent = int(np.take_along_axis(table.costs, choice[:, None], axis=1).sum())
        near, known = self._free.base.near, nothing(choice.size)
        base = Base(best.base.price, choice, self._limit - spent, near, known)
        missing_now = count - int(self.weights[choice].sum())
        return Counted(count, self.weights, best.bound(count), table, base, missing_now)

    def _rewarded(self, reward: float) -> Table:
        utilities = self._table.utilities + reward * self.weights
        utilities.flags.writeable = False
        return self._table._replace(utilities=utilities)

    def _point(self, reward: float) -> _Point:
        table = self._rewarded(reward)
        base = relax(table, self._limit, deadline=self._deadline)
        everyone = np.arange(base.choice.size)
        _, excess = collect(table, base, everyone, 0.0)
        value = worth(table.utilities, base.choice)[0] + base.price * base.slack + excess
        count = float(self.weights[base.choice].sum()) + self._split(table, base)
        return _Point(reward, value, count, base)

    def _split(self, table: Table, base: Base) -> float:
        """What the step that the linear relaxation splits adds to the count."""
        if base.price == 0 or base.slack == 0:
            return 0.0
        core, _ = collect(table, base, base.near, np.inf)
        wide = np.flatnonzero(core.cost > base.slack)
        if wide.size == 0:
            return 0.0
        move = wide[np.argmin(core.regret[wide] / core.cost[wide])]
        own = int(np.searchsorted(core.first, move, side="right")) - 1
        left = base.choice[core.member[core.start[own]]]
        added = self.weights[core.width[move]] - self.weights[left]
        return float(added) * base.slack / float(core.cost[move])


def _changed(
    table: Table, price: float, choice: IntArray, weights: IntArray, missing: int
) -> IntArray:
    """Choice after as many single units of a count as are missing, those of least regret."""
    added = weights - weights[choice][:, None]
    net = table.utilities - price * (table.costs - table.costs.min(axis=1, keepdims=True))
    allowed = table.admissible & (added == np.sign(missing))
    gain = np.where(allowed, net, -np.inf)
    width = gain.argmax(axis=1)
    rows = np.arange(choice.size)
    regret = net[rows, choice] - gain[rows, width]
    first = np.argsort(regret, kind="stable")[: abs(missing)]
    first = first[np.isfinite(regret[first])]
    changed = choice.copy()
    changed[first] = width[first]
    return changed


def _meeting(near: _Point, far: _Point) -> float:
    """Reward at which two tangents meet."""
    rise = (far.value - far.reward * far.count) - (near.value - near.reward * near.count)
    return rise / (near.count - far.count)


def fill(core: Core, price: float, slack: int, n_sums: int) -> tuple[float, list[int]]:
    """Least loss found and its moves, at most one of each of a dozen classes; infinity for none.

    Half of these classes can narrow, the others widen.

    Parameters
    ----------
    core : Core
    price : float
        Multiplier of the budget.
    slack : int
        Budget that the base allocation leaves; negative if it lacks some.
    n_sums : int
        Most sums of either half.
    """
    label = np.arange(core.first.size - 1)
    narrower = np.minimum.reduceat(core.cost, core.first[:-1]) < 0
    cost, regret, moves = _sums(core, label[narrower], n_sums)
    wider = np.maximum.reduceat(core.cost, core.first[:-1]) > 0
    wider[label[narrower][: moves.shape[1]]] = False
    other, other_regret, other_moves = _sums(core, label[wider], n_sums)
    order = np.argsort(other, kind="stable")
    at = np.searchsorted(other[order], slack - cost, side="right") - 1
    fits = np.flatnonzero(at >= 0)
    if fits.size == 0:
        return np.inf, []
    pair = order[at[fits]]
    left = slack - cost[fits] - other[pair]
    loss = regret[fits] + other_regret[pair] + price * left.astype(np.float64)
    best = int(loss.argmin())
    taken = np.concatenate([moves[fits[best]], other_moves[pair[best]]])
    return float(loss[best]), taken[taken >= 0].tolist()


def _sums(core: Core, labels: IntArray, most: int) -> tuple[IntArray, FloatArray, IntArray]:
    """Costs, regrets and moves, -1 for none, of all choices in the first of some classes."""
    cost, regret = np.zeros(1, dtype=np.int64), np.zeros(1)
    moves = np.empty((1, 0), dtype=np.int64)
    for label in labels:
        own = np.arange(core.first[label], core.first[label + 1])
        if cost.size * (own.size + 1) > most:
            break
        cost = np.add.outer(np.append(core.cost[own], 0), cost).ravel()
        regret = np.add.outer(np.append(core.regret[own], 0.0), regret).ravel()
        chosen = np.repeat(np.append(own, -1), moves.shape[0])
        moves = np.column_stack([np.tile(moves, (own.size + 1, 1)), chosen])
    return cost, regret, moves
