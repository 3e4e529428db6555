"""From the prices of all limits to a good allocation within them.

The gap of an allocation to the bound of its prices is the sum of its regrets and of price times
slack over the limits. Single changes and pairs of changes of small regret are tried in turn, the
best of all pairs each time; what breaks a limit is charged a penalty that grows until none is
broken (pairwise exchange; Kellerer, Pferschy and Pisinger, Knapsack Problems, 2004, section 11.4).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hasa_opt._utils.checks import BoolArray, FloatArray, IntArray
from hasa_opt._utils.deadline import UNLIMITED, Deadline
from hasa_opt.problem.limits import Row
from hasa_opt.problem.linear import LinearModel
from hasa_opt.problem.problem import AllocationProblem
from hasa_opt.problem.result import Termination
from hasa_opt.solvers.bounds.dual import Dual, nearest
from hasa_opt.solvers.bounds.feasibility import impossible
from hasa_opt.solvers.bounds.programs import integer_program

__all__ = ["repaired", "searched"]


_CLIENTS = 1_000
"""Clients that may move: those that lose least by it."""
_MOVES = (200, 400)
"""Moves that are paired with each other, first few and then more: pairs grow with the square."""
_CELLS = 4_000_000
"""Pairs of moves times limits that are looked at in one step: 32 MB."""
_PENALTIES = (3.0, 30.0, 3000.0)
"""What a broken limit is charged, in units of its price: in turn, until none is broken."""
_EXCHANGES = 200
"""Steps for each number of moves; most end after far fewer, where no pair is better."""
_SEARCH_COLUMNS, _SEARCH_GAP = 20_000, 1e-3
"""Widths and gap at which branch and bound ends within seconds where exchange found nothing."""
_ROUNDING = 2.0**-40
"""Relative gain below which an exchange is taken for a rounding error of the sums."""


def repaired(
    problem: AllocationProblem, dual: Dual, deadline: Deadline = UNLIMITED
) -> IntArray | None:
    """Allocation within the limits near the linear relaxation's; None if none is found.

    Parameters
    ----------
    problem : AllocationProblem
    dual : Dual
        Its ``start`` may break limits.
    deadline : Deadline
        When to stop looking.

    Returns
    -------
    (n_clients,) int64 or None
    """
    near = _Near.of(problem, dual)
    choice = dual.start[near.clients]
    whole = dual.start.copy()
    for penalty in _PENALTIES:
        for moves in _MOVES:
            choice = near.exchanged(choice, moves, penalty, deadline)
        whole[near.clients] = choice
        if problem.evaluate(whole).feasible:
            return whole
    return None


def searched(
    problem: AllocationProblem, dual: Dual, deadline: Deadline = UNLIMITED
) -> tuple[IntArray | None, Termination]:
    """Any good allocation within the limits, by branch and bound over the widths that lose least.

    Returns
    -------
    choice : (n_clients,) int64 or None
    ended : Termination
        Why there is none: INFEASIBLE, TIME_LIMIT, INTERRUPTED or FAILED; GAP_REACHED if there
        is one.
    """
    if deadline.passed:
        return None, Termination.at(deadline)
    kept = problem.admissible
    partial = np.count_nonzero(kept) > _SEARCH_COLUMNS
    if partial:
        if impossible(problem, deadline):
            return None, Termination.INFEASIBLE
        kept = nearest(dual.regret, _SEARCH_COLUMNS)
        kept[np.arange(len(problem)), dual.start] = True
    model = LinearModel.of(problem, kept)
    found = integer_program(model, time_limit_s=deadline.remaining_s, gap=_SEARCH_GAP)
    choice = None if found.x is None else model.choice(found.x)
    if choice is not None and problem.evaluate(choice).feasible:
        return choice, Termination.GAP_REACHED
    if found.infeasible and not partial:
        return None, Termination.INFEASIBLE
    late = deadline.remaining_s == 0 or deadline.called_off
    return None, Termination.at(deadline) if late else Termination.FAILED


@dataclass(frozen=True, eq=False)
class _Near:
    """The clients whose second-best width loses least, and what limits leave to them.

    Attributes
    ----------
    clients : (n_near,) int64
    regret : (n_near, n_widths) float64
    table : (n_limits, n_near, n_widths) int64
        Coefficients.
    lower, upper : (n_limits,) of int or None
        Limits less what the other clients take.
    price, unit : (n_limits,) float64
        Absolute prices; utility per unit that a broken limit is charged at least.
    """

    clients: IntArray
    regret: FloatArray
    table: IntArray
    lower: list[int | None]
    upper: list[int | None]
    price: FloatArray
    unit: FloatArray

    @classmethod
    def of(cls, problem: AllocationProblem, dual: Dual) -> _Near:
        second = dual.regret.copy()
        second[np.arange(len(problem)), dual.start] = np.inf
        loss = second.min(axis=1)
        size = min(_CLIENTS, len(problem))
        clients = np.sort(np.argpartition(loss, size - 1)[:size])
        at = np.arange(size), dual.start[clients]
        table = np.zeros((len(problem.limits), size, problem.costs.shape[1]), dtype=np.int64)
        place = np.full(len(problem), -1)
        place[clients] = np.arange(size)
        spreads = [_write(*pair, place) / size for pair in zip(problem.limits, table, strict=True)]
        others = [
            row.total(dual.start) - int(own[at].sum())
            for row, own in zip(problem.limits, table, strict=True)
        ]
        limits = list(zip(problem.limits, others, strict=True))
        price = np.abs(dual.prices.limits)
        return cls(
            clients,
            dual.regret[clients],
            table,
            [None if row.lower is None else row.lower - rest for row, rest in limits],
            [None if row.upper is None else row.upper - rest for row, rest in limits],
            price,
            np.maximum(price, _per_unit(loss[clients], spreads)),
        )

    def exchanged(
        self, choice: IntArray, n_moves: int, penalty: float, deadline: Deadline
    ) -> IntArray:
        """Choice of the near clients after the best pairs of moves, until none is better."""
        choice = choice.copy()
        n_moves = min(n_moves, int((_CELLS / self.price.size) ** 0.5))
        for _ in range(_EXCHANGES):
            if deadline.passed:
                break
            pair = self._best_pair(choice, n_moves, self.unit * penalty)
            if not pair:
                break
            for client, width in pair:
                choice[client] = width
        return choice

    def _best_pair(
        self, choice: IntArray, n_moves: int, penalty: FloatArray
    ) -> list[tuple[int, int]]:
        """One or two moves that together lower the loss most, or none."""
        rows = np.arange(choice.size)
        own = self.regret - self.regret[rows, choice][:, None]
        own[rows, choice] = np.inf
        size = min(n_moves, own.size - 1)
        client, width = np.divmod(np.argpartition(own, size, axis=None)[:size], own.shape[1])
        finite = np.isfinite(own[client, width])
        client, width = client[finite], width[finite]
        # The last move is none at all, so that pairs include single moves.
        regret = np.append(own[client, width], 0.0)
        step = self.table[:, client, width] - self.table[:, client, choice[client]]
        step = np.pad(step, ((0, 0), (0, 1)))
        total = self.table[:, rows, choice].sum(axis=1)
        loss = regret[:, None] + regret
        for limit in np.flatnonzero(self._matters(total, step)):
            after = total[limit] + step[limit][:, None] + step[limit]
            loss += self._charge(int(limit), after, penalty)
        now = loss[-1, -1]
        clash = client[:, None] == client
        loss[:-1, :-1][clash] = np.inf
        first, second = np.unravel_index(int(loss.argmin()), loss.shape)
        if not loss[first, second] < now - _ROUNDING * abs(now):
            return []
        moves = [int(at) for at in (first, second) if at < client.size]
        return [(int(client[at]), int(width[at])) for at in moves]

    def _matters(self, total: IntArray, step: IntArray) -> BoolArray:
        """Whether pairs differ in what each limit, ``(n_limits,)``, charges for them."""
        least, most = total + 2 * step.min(axis=1), total + 2 * step.max(axis=1)
        broken = [
            (lower is not None and low < lower) or (upper is not None and high > upper)
            for lower, upper, low, high in zip(self.lower, self.upper, least, most, strict=True)
        ]
        return np.asarray((np.array(broken) | (self.price > 0)) & step.any(axis=1))

    def _charge(self, limit: int, total: IntArray, penalty: FloatArray) -> FloatArray:
        """Price of what a limit leaves, penalty on what breaks it; compared in integers."""
        lower, upper = self.lower[limit], self.upper[limit]
        if upper is None:
            over = 0 * total if lower is None else lower - total
        else:
            over = total - upper if lower is None else np.maximum(total - upper, lower - total)
        return np.asarray(np.where(over > 0, penalty[limit], -self.price[limit]) * over)


def _write(row: Row, table: IntArray, place: IntArray) -> float:
    """Write the coefficients of those clients that have a place, -1 for none, in the table.

    Returns by how much these vary, summed over the clients.
    """
    at = place[row.at]
    inside = np.flatnonzero(at >= 0)
    own = row.coefficients[inside]
    table[at[inside]] = own
    return float(np.ptp(own, axis=1).sum())


def _per_unit(loss: FloatArray, spreads: list[float]) -> FloatArray:
    """Typical loss of a move per unit of each limit, ``(n_limits,)``."""
    moves = loss[np.isfinite(loss) & (loss > 0)]
    typical = float(np.median(moves)) if moves.size else 1.0
    return typical / np.array([spread or 1.0 for spread in spreads])
