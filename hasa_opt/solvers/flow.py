"""Quotas alone: a transportation problem from clients to widths, as a min-cost flow."""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from math import inf

import numpy as np

from hasa_opt._utils.checks import BoolArray, FloatArray, IntArray
from hasa_opt._utils.deadline import Deadline
from hasa_opt.errors import InputError
from hasa_opt.problem.problem import AllocationProblem
from hasa_opt.problem.result import Termination
from hasa_opt.solvers.base import Answer, Request

__all__ = ["FlowBackend"]

_LARGEST_COST = 2.0**60
"""Largest sum of whole costs along a path: half of the int64 range, less one bit."""
_CYCLES = 1_000
"""Moves after which mending stops; a proof needs none where the costs tell utilities apart."""
_ROUNDING = 2.0**-50
"""Relative gain below which a cycle is taken for a rounding error: four times that of a float."""
_PROOF = 1e-12
"""Relative gap that counts as none: the rounding of sums over up to a million clients."""


class FlowBackend:
    """Min-cost flow from clients through widths, each with its quota for a capacity.

    networkx wants whole costs: utilities lost against each client's best width are scaled and
    rounded, which for many clients is coarse. What rounding spoiled is mended afterwards in floats:
    as long as moving one client each along a cycle of widths gains, they move. Prices of the quotas
    come from the same graph of few widths and give the bound, so the proof is as good as floats
    whatever the scale was. Ten thousand clients take some ten seconds, HiGHS less than one.
    """

    def solve(self, problem: AllocationProblem, request: Request) -> Answer:
        """Solve; there are no options, and a gap has no effect."""
        if request.options:
            raise InputError(f"flow takes no options, {', '.join(request.options)} given")
        quotas = _quotas(problem)
        choice = _flow(_whole_costs(problem), problem.admissible, quotas, request.deadline)
        if choice is None:
            return Answer(Termination.INFEASIBLE, native="networkx: infeasible")
        choice, prices, cycles = _mended(problem, choice, quotas, request.deadline)
        chosen = problem.utilities[np.arange(len(problem)), choice]
        objective = float(chosen.sum())
        bound = max(objective, _bound(problem, prices, quotas))
        proven = bound - objective <= _PROOF * float(np.abs(chosen).sum() + prices @ quotas)
        ended = Termination.TIME_LIMIT if request.deadline.passed else Termination.GAP_REACHED
        ended = Termination.OPTIMAL if proven else ended
        native = f"networkx: optimal, then {cycles} cycles mended in floats"
        return Answer(ended, choice, objective, bound, native)


def _quotas(problem: AllocationProblem) -> IntArray:
    """Most clients at each width, ``(n_widths,)``: the smallest of several quotas counts."""
    quotas = np.full(problem.costs.shape[1], len(problem))
    for row in problem.rows:
        width = int(row.coefficients[0].argmax())
        quotas[width] = min(quotas[width], row.upper or 0)
    return quotas


def _whole_costs(problem: AllocationProblem) -> IntArray:
    """Utility lost against each client's best width, scaled to whole numbers and rounded.

    The network simplex multiplies costs by the number of nodes and adds them up along paths, which
    visit each width once.
    """
    known = np.where(problem.admissible, problem.utilities, -inf)
    loss = np.where(problem.admissible, known.max(axis=1, keepdims=True) - known, 0.0)
    n_clients, n_widths = loss.shape
    largest = _LARGEST_COST / ((n_clients + n_widths + 2) * (2 * n_widths + 3))
    scaled: IntArray = np.rint(loss * (largest / (loss.max() or 1.0))).astype(np.int64)
    return scaled


def _flow(
    costs: IntArray, admissible: BoolArray, quotas: IntArray, deadline: Deadline
) -> IntArray | None:
    """Width of each client in a flow of least cost, or None if there is no flow."""
    import networkx as nx

    n_clients = costs.shape[0]
    graph = nx.DiGraph()
    graph.add_nodes_from(range(n_clients), demand=-1)
    graph.add_node("sink", demand=n_clients)
    for width, quota in enumerate(quotas.tolist()):
        graph.add_edge(n_clients + width, "sink", capacity=quota, weight=0)
    pairs = np.nonzero(admissible)
    for row, width, cost in zip(*(part.tolist() for part in (*pairs, costs[pairs])), strict=True):
        graph.add_edge(row, n_clients + width, capacity=1, weight=cost)
    try:
        flows = deadline.wait_for(partial(nx.network_simplex, graph))[1]
    except nx.NetworkXUnfeasible:
        return None
    used = [max(flows[row], key=flows[row].__getitem__) for row in range(n_clients)]
    chosen: IntArray = np.array(used, dtype=np.int64) - n_clients
    return chosen


def _mended(
    problem: AllocationProblem, choice: IntArray, quotas: IntArray, deadline: Deadline
) -> tuple[IntArray, FloatArray, int]:
    """Move clients along cycles until none gains or time is up; with the prices of the quotas."""
    choice = choice.copy()
    for cycles in range(_CYCLES + 1):
        loss, mover = _moves(problem, choice, quotas)
        prices, cycle = _prices(loss)
        change = np.array([loss[move] for move in cycle])
        gains = change.sum() < -_ROUNDING * np.abs(change).sum()
        if not gains or cycles == _CYCLES or deadline.passed:
            break
        for start, end in cycle:
            if mover[start, end] >= 0:
                choice[mover[start, end]] = end
    return choice, np.maximum(prices[:-1], 0.0), cycles


def _moves(
    problem: AllocationProblem, choice: IntArray, quotas: IntArray
) -> tuple[FloatArray, IntArray]:
    """Least utility lost by a move from one width to another, and the client that moves.

    The last node is the outside: a width with room may end a chain of moves, any may begin one.
    """
    outside = quotas.size
    loss = np.full((outside + 1, outside + 1), inf)
    mover = np.full((outside + 1, outside + 1), -1)
    for width in range(outside):
        members = np.flatnonzero(choice == width)
        if members.size:
            table = problem.utilities[members, width, None] - problem.utilities[members]
            table[~problem.admissible[members]] = inf
            first = table.argmin(axis=0)
            loss[width, :outside] = table[first, np.arange(outside)]
            mover[width, :outside] = members[first]
        if members.size < quotas[width]:
            loss[width, outside] = 0.0
    loss[outside] = 0.0
    np.fill_diagonal(loss, inf)
    return loss, mover


def _prices(loss: FloatArray) -> tuple[FloatArray, list[tuple[int, int]]]:
    """Shortest distance of each node to the outside by Bellman and Ford; a cycle that gains.

    At these prices no client prefers another width than its own. Where the outside cannot be
    reached, the quotas are all used up and their common level is arbitrary.
    """
    n_nodes = loss.shape[0]
    finite = loss[np.isfinite(loss)]
    prices = np.full(n_nodes, n_nodes * float(np.abs(finite).max(initial=0.0)))
    prices[-1] = 0.0
    following = np.full(n_nodes, -1)
    for _ in range(n_nodes):
        through = loss + prices
        nearest = through.argmin(axis=1)
        shorter = through[np.arange(n_nodes), nearest] < prices
        if not shorter.any():
            return prices, []
        following[shorter] = nearest[shorter]
        prices = np.minimum(prices, through.min(axis=1))
    return prices, _cycle(following, int(np.flatnonzero(shorter)[0]))


def _cycle(following: IntArray, node: int) -> list[tuple[int, int]]:
    """Moves of the cycle that a walk from a node ends in; none if it ends elsewhere."""
    walk = [node]
    while (node := int(following[node])) >= 0 and node not in walk:
        walk.append(node)
    if node < 0:
        return []
    around = [*walk[walk.index(node) :], node]
    return list(pairwise(around))


def _bound(problem: AllocationProblem, prices: FloatArray, quotas: IntArray) -> float:
    """Most that any allocation within the quotas is worth, whatever the prices are."""
    net = np.where(problem.admissible, problem.utilities - prices, -inf)
    return float(net.max(axis=1).sum() + prices @ quotas)
