"""Quotas alone: a transportation problem from clients to widths, as a min-cost flow."""

from __future__ import annotations

from heapq import heappop, heappush
from itertools import pairwise
from math import inf

import numpy as np

from hasa_opt._utils.checks import FloatArray, IntArray
from hasa_opt.errors import InputError
from hasa_opt.problem.problem import AllocationProblem
from hasa_opt.problem.result import Termination
from hasa_opt.solvers.base import Answer, Request

__all__ = ["FlowBackend"]

_PROOF = 1e-12
"""Relative gap that counts as none: the rounding of sums over up to a million clients."""


class FlowBackend:
    """Min-cost flow from clients through widths, each with its quota for a capacity.

    Everybody starts at the width of highest utility. Then, one client at a time, somebody leaves an
    overfull width along the chain of moves that costs least (successive shortest paths [1]_, on the
    graph of the widths alone). The distances are prices of the quotas, which give a bound at any
    moment.

    References
    ----------
    .. [1] R. K. Ahuja, T. L. Magnanti and J. B. Orlin, "Network Flows", 1993, section 9.7.
    """

    def solve(self, problem: AllocationProblem, request: Request) -> Answer:
        """Solve; there are no options, and a gap has no effect."""
        if request.options:
            raise InputError(f"flow takes no options, {', '.join(request.options)} given")
        flow = _Flow(problem)
        moves = 0
        while (width := flow.overfull) is not None and not request.deadline.passed:
            chain = _Distances(flow.loss).chain(width)
            if chain is None:
                return Answer(Termination.INFEASIBLE, native="no chain of moves to a free place")
            flow.move(chain)
            moves += 1
        return _answer(request, flow, f"{moves} chains of moves")


def _answer(request: Request, flow: _Flow, native: str) -> Answer:
    """What was found, at the bound that the prices prove."""
    problem = request.problem
    prices = _Distances(flow.loss).prices()
    bound = _bound(problem, prices, flow.quotas)
    if flow.overfull is not None:
        return Answer(Termination.at(request.deadline), bound=bound, native=native)
    choice = np.array(flow.choice)
    chosen = problem.utilities[np.arange(len(problem)), choice]
    objective = float(chosen.sum())
    bound = max(objective, bound)
    proven = bound - objective <= _PROOF * float(np.abs(chosen).sum() + prices @ flow.quotas)
    return Answer(
        Termination.OPTIMAL if proven else Termination.GAP_REACHED, choice, objective, bound, native
    )


def _quotas(problem: AllocationProblem) -> IntArray:
    """Most clients at each width, ``(n_widths,)``: the smallest of several quotas counts."""
    quotas = np.full(problem.costs.shape[1], len(problem))
    for row in problem.rows:
        width = int(row.coefficients[0].argmax())
        quotas[width] = min(quotas[width], row.upper or 0)
    return quotas


class _Flow:
    """Where each client stands, and the cheapest move from each width to each other.

    Node ``n_widths`` is the outside: a width with room may end a chain of moves.

    Attributes
    ----------
    choice : list of int
    quotas : (n_widths,) int64
    loss : (n_widths + 1, n_widths + 1) float64
        Least utility lost by one client's move; infinity where nobody can move.
    """

    def __init__(self, problem: AllocationProblem) -> None:
        known = np.where(problem.admissible, problem.utilities, -inf)
        best = known.argmax(axis=1)
        self.quotas = _quotas(problem)
        self.choice: list[int] = best.tolist()
        self._outside = self.quotas.size
        self._counts = np.bincount(best, minlength=self._outside)
        self._utilities = known
        self.loss = np.full((self._outside + 1, self._outside + 1), inf)
        self._waiting = [self._sorted(width, best) for width in range(self._outside)]
        for width in range(self._outside):
            self._look(width)

    @property
    def overfull(self) -> int | None:
        """The first width that more clients have than its quota allows; None if there is none."""
        over = np.flatnonzero(self._counts > self.quotas)
        return int(over[0]) if over.size else None

    def _sorted(self, width: int, best: IntArray) -> list[list[tuple[float, int]]]:
        """Heap for each other width of those who may go there, by what they lose."""
        members = np.flatnonzero(best == width)
        heaps = []
        for loss in (self._utilities[members, width, None] - self._utilities[members]).T:
            order = np.argsort(loss, kind="stable")[: np.isfinite(loss).sum()]
            heaps.append(list(zip(loss[order].tolist(), members[order].tolist(), strict=True)))
        heaps[width] = []
        return heaps

    def _look(self, width: int) -> None:
        """Renew the moves from a width."""
        for target, heap in enumerate(self._waiting[width]):
            while heap and self.choice[heap[0][1]] != width:
                heappop(heap)
            self.loss[width, target] = heap[0][0] if heap else inf
        self.loss[width, self._outside] = inf
        if self._counts[width] < self.quotas[width]:
            self.loss[width, self._outside] = 0.0

    def move(self, path: list[tuple[int, int]]) -> None:
        """Move the client who loses least along each edge between widths; all different."""
        movers = [
            (self._waiting[start][end][0][1], start, end)
            for start, end in path
            if self._outside not in (start, end)
        ]
        for client, start, end in movers:
            self.choice[client] = end
            self._counts[start] -= 1
            self._counts[end] += 1
            row = self._utilities[client]
            for target, loss in enumerate((row[end] - row).tolist()):
                if target != end and loss < inf:
                    heappush(self._waiting[end][target], (loss, client))
        for width in {width for _, *both in movers for width in both}:
            self._look(width)


class _Distances:
    """Utility lost on the cheapest chain from each node to the outside, by Bellman and Ford.

    What a node is next to is kept per round, and a chain walks back through the rounds, so that no
    rounding error can send it in a circle.
    """

    def __init__(self, loss: FloatArray) -> None:
        self._loss = loss
        self._lengths = np.full(loss.shape[0], inf)
        self._lengths[-1] = 0.0
        self._rounds = _relaxed(loss, self._lengths)

    def chain(self, node: int) -> list[tuple[int, int]] | None:
        """Moves from a node to the outside; None if the outside cannot be reached."""
        if np.isinf(self._lengths[node]):
            return None
        walk = [node]
        for following in reversed(self._rounds):
            if following[walk[-1]] >= 0:
                walk.append(int(following[walk[-1]]))
                del walk[walk.index(walk[-1]) + 1 :]
        return list(pairwise(walk))

    def prices(self) -> FloatArray:
        """Prices of the quotas at which no client prefers another width, ``(n_widths,)``.

        Where the outside cannot be reached, the quotas are all used up and their common level is
        arbitrary, as long as nobody from elsewhere prefers them.
        """
        prices = self._lengths.copy()
        apart = np.isinf(prices)
        if apart.any():
            own = np.zeros(int(apart.sum()))
            _relaxed(self._loss[apart][:, apart], own)
            wanted = prices[~apart, None] - self._loss[~apart][:, apart] - own
            prices[apart] = own + max(0.0, -own.min(), wanted.max(initial=0.0))
        least: FloatArray = np.maximum(prices[:-1], 0.0)
        return least


def _relaxed(loss: FloatArray, lengths: FloatArray) -> list[IntArray]:
    """Shorten lengths in place while that is possible; per round the next node, or -1."""
    rounds = []
    for _ in range(lengths.size):
        through = loss + lengths
        following = through.argmin(axis=1)
        found = through.min(axis=1)
        shorter = found < lengths
        if not shorter.any():
            break
        rounds.append(np.where(shorter, following, -1))
        np.minimum(lengths, found, out=lengths)
    return rounds


def _bound(problem: AllocationProblem, prices: FloatArray, quotas: IntArray) -> float:
    """Most that any allocation within the quotas is worth, whatever the prices are."""
    net = np.where(problem.admissible, problem.utilities - prices, -inf)
    return float(net.max(axis=1).sum() + prices @ quotas)
